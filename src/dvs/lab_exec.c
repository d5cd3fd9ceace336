/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs lab exec: run a program of this machine on a lab's node: in its network and pid namespaces, so that it goes with the
 * node, and with DVS_SOCKET set to the node's dvkd, for programs that use libdvk. Its exit code is ours.
 */
#include "common/cleanup.h"
#include "dvs/lab_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODE_NAMESPACES (CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)

static volatile pid_t child;

static void forward(int signal_number) {
    if (child > 0)
        kill(child, signal_number);
}

/* Our children will be in the node's namespaces; we ourselves too, but for the pid namespace. */
static int node_join(struct command *command, const struct lab *lab, const struct lab_node *node) {
    pid_t init = lab_node_find(lab->name, node->name);
    cleanup_close int fd = init ? pidfd_open(init, 0) : -1, root = -1;
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/root", (int)init);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || lab_node_find(lab->name, node->name) != init)
        return failure_set(&command->failure, -ESRCH, "node-down", "dvs lab start starts it", "node %s is down",
                           node->name);
    cleanup_free char *directory = getcwd(NULL, 0);
    /* in a chroot the node's root is not its mount namespace's, which setns takes us to */
    if (root < 0 || setns(fd, NODE_NAMESPACES) < 0 || fchdir(root) < 0 || chroot(".") < 0)
        return failure_set(&command->failure, -errno, "internal", NULL, "cannot enter node %s: %s", node->name,
                           strerror(errno));
    if (!directory || chdir(directory) < 0)
        return failure_set(&command->failure, -errno, "bad-directory", "change to another", "node %s has not our directory",
                           node->name);
    return 0;
}

/* `alive` reads end of file once dvs has gone. Does not return. */
static void program_exec(char **argv, int alive) {
    struct pollfd gone = {.fd = alive, .events = POLLIN};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (poll(&gone, 1, 0) != 0)
        _exit(EXIT_DVS_TROUBLE);
    execvp(argv[0], argv);
    fprintf(stderr, "dvs: lab exec: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? EXIT_NO_COMMAND : EXIT_NOT_EXECUTABLE);
}

static int program_run(struct command *command, char **argv) {
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        failure_set(&command->failure, -errno, "internal", NULL, "no pipe: %s", strerror(errno));
        return failure_report(command);
    }
    sigset_t forwarded, before;
    sigemptyset(&forwarded);
    sigaddset(&forwarded, SIGTERM);
    sigaddset(&forwarded, SIGHUP);
    sigprocmask(SIG_BLOCK, &forwarded, &before);
    child = fork();
    if (child == 0) {
        close(ends[1]);
        sigprocmask(SIG_SETMASK, &before, NULL);
        program_exec(argv, ends[0]);
    }
    if (child < 0) {
        failure_set(&command->failure, -errno, "internal", NULL, "cannot start %s: %s", argv[0], strerror(errno));
        return failure_report(command);
    }
    signal(SIGTERM, forward);
    signal(SIGHUP, forward);
    signal(SIGINT, SIG_IGN); /* the terminal sends these to the program as well */
    signal(SIGQUIT, SIG_IGN);
    sigprocmask(SIG_SETMASK, &before, NULL);
    pid_t waited;
    do
        waited = waitpid(child, &status, 0);
    while (waited < 0 && errno == EINTR);
    close(ends[0]);
    close(ends[1]);
    if (waited < 0)
        return EXIT_DVS_TROUBLE;
    return WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}

int verb_lab_exec(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    char name[LAB_NAME_MAX + 1], run[PATH_MAX], path[PATH_MAX + 32];
    struct failure *failure = &command->failure;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind < 2)
        return usage_error(command, "name a node and a program");
    cleanup_lab struct lab *lab = NULL;
    if (lab_need_root(failure) < 0 || lab_choose(command->target.lab, name, failure) < 0 ||
        lab_load(name, &lab, failure) < 0)
        return failure_report(command);
    const struct lab_node *node = lab_node_by_name(lab, argv[optind]);
    if (!node) {
        failure_set(failure, 0, "no-such-node", "dvs lab status lists them", "no node named %s in lab %s", argv[optind],
                    name);
        return failure_report(command);
    }
    lab_node_run_path(lab, node, run);
    snprintf(path, sizeof path, "%s/dvkd.sock", run);
    if (setenv("DVS_SOCKET", path, 1) < 0 || setenv("DVS_LAB", name, 1) < 0)
        return EXIT_FAILED;
    exit_code = node_join(command, lab, node) < 0 ? failure_report(command) : program_run(command, argv + optind + 1);
    /* without exit's handlers: what they start would be in the node's pid namespace (a leak checker waits for it for ever) */
    fflush(NULL);
    _exit(exit_code);
}
