/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Node init: the first process of a node's pid namespace. It makes the node's own /proc and /dev/shm, starts corosync
 * and dvkd, reaps, and ends when dvkd does: a node without its dvkd is down. It restarts nothing. SIGTERM is an orderly
 * stop; SIGKILL is a loss of power: the kernel ends all of the namespace with us (pid_namespaces(7)).
 *
 * corosync wants a /run of its own (its pid file and lock) and gets a tmpfs there in a mount namespace of its own; its
 * sockets are abstract, hence the node's own by the network namespace; libqb's shared memory lies in the node's
 * /dev/shm.
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/loop.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DVKD_STOP_MS 8000
#define COROSYNC_STOP_MS 3000

struct node_init {
    const struct lab *lab;
    const struct lab_node *node;
    char state[PATH_MAX]; /* of the lab */
    int signals;
    pid_t dvkd, corosync; /* 0: not running */
    bool stopping;
};

/* ---- mounts ---- */

/* Nothing we mount may reach the host. A root that is no mount point (a plain chroot) cannot be told so as a whole. */
static int mounts_make_private(void) {
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
    cleanup_file FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        return -errno;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, mounts) > 0) {
        char point[PATH_MAX];
        if (sscanf(line, "%*d %*d %*s %*s %4095s", point) == 1)
            mount(NULL, point, NULL, MS_PRIVATE, NULL); /* escaped names fail and stay as they are */
    }
    free(line);
    return 0;
}

static int mounts_make(void) {
    int result = mounts_make_private();
    if (result < 0)
        return result;
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -errno;
    if (mkdir("/dev/shm", 01777) < 0 && errno != EEXIST)
        return -errno;
    if (mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
        return -errno;
    return 0;
}

/* ---- children ---- */

static int log_open(const struct node_init *init, const char *name) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s/%s.log", init->state, init->node->name, name);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Start a program with its output in a log of that name. Its pid or negative errno. */
static pid_t program_start(const struct node_init *init, const char *name, const char *path, const char *const *args,
                           bool own_run) {
    cleanup_close int log = log_open(init, name);
    if (log < 0)
        return -errno;
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (own_run && (unshare(CLONE_NEWNS) < 0 || mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0 ||
                    mkdir("/run/lock", 01777) < 0))
        log_error("cannot give %s a /run of its own: %s", name, strerror(errno));
    else if (setsid() >= 0 && dup2(log, 1) >= 0 && dup2(log, 2) >= 0) {
        execvp(path, (char *const *)args);
        log_error("cannot start %s: %s", path, strerror(errno));
    }
    _exit(127);
}

static int corosync_start(struct node_init *init) {
    char conf[PATH_MAX + 64];
    snprintf(conf, sizeof conf, "%s/%s/corosync.conf", init->state, init->node->name);
    const char *const args[] = {"corosync", "-f", "-c", conf, NULL};
    pid_t pid = program_start(init, "corosync.out", "corosync", args, true);
    init->corosync = pid > 0 ? pid : 0;
    return pid < 0 ? (int)pid : 0;
}

static int dvkd_start(struct node_init *init) {
    char run[PATH_MAX], state[PATH_MAX + 32], libexec[PATH_MAX + 32], path[PATH_MAX + 64], id[16], listen[64],
        address[32];
    lab_node_run_path(init->lab, init->node, run);
    snprintf(state, sizeof state, "%s/%s", init->state, init->node->name);
    snprintf(libexec, sizeof libexec, "%s/libexec", init->state);
    snprintf(path, sizeof path, "%s/dvkd", libexec);
    snprintf(id, sizeof id, "%u", init->node->id);
    lab_node_address(init->lab, init->node, address);
    snprintf(listen, sizeof listen, "%s:%d", address, LAB_PORT);
    const char *args[24] = {"dvkd",    "--node", init->node->name, "--id",  id,         "--run", run,
                            "--state", state,    "--libexec",      libexec, "--listen", listen};
    int count = 13;
    if (init->lab->node_count > 1)
        args[count++] = "--cluster";
    if (init->lab->clear)
        args[count++] = "--clear";
    if (init->lab->slots[0]) {
        args[count++] = "--slots";
        args[count++] = init->lab->slots;
    }
    pid_t pid = program_start(init, "dvkd", path, args, false);
    init->dvkd = pid > 0 ? pid : 0;
    return pid < 0 ? (int)pid : 0;
}

/* ---- life ---- */

static void children_reap(struct node_init *init) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        const char *name = pid == init->dvkd ? "dvkd" : pid == init->corosync ? "corosync" : NULL;
        if (pid == init->dvkd)
            init->dvkd = 0;
        if (pid == init->corosync)
            init->corosync = 0;
        if (!name) /* an orphan of the node */
            continue;
        if (WIFSIGNALED(status))
            log_warning("%s was ended by signal %d (%s)", name, WTERMSIG(status), strsignal(WTERMSIG(status)));
        else if (!init->stopping || WEXITSTATUS(status) != 0)
            log_warning("%s ended with exit code %d", name, WEXITSTATUS(status));
    }
}

/* Handle signals for at most timeout_ms (-1: for ever); returns earlier when *until is 0 or we are told to stop. */
static void signals_handle(struct node_init *init, const pid_t *until, int timeout_ms) {
    uint64_t deadline = loop_now_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    bool was_stopping = init->stopping;
    while (*until != 0 && init->stopping == was_stopping) {
        uint64_t now = loop_now_ms();
        struct pollfd poll_fd = {.fd = init->signals, .events = POLLIN};
        int wait = timeout_ms < 0 ? -1 : now < deadline ? (int)(deadline - now) : 0;
        if (poll(&poll_fd, 1, wait) <= 0) {
            if (wait == 0)
                return;
            continue;
        }
        struct signalfd_siginfo info;
        if (read(init->signals, &info, sizeof info) != sizeof info)
            continue;
        if (info.ssi_signo == SIGCHLD)
            children_reap(init);
        else
            init->stopping = true;
    }
}

static void program_stop(struct node_init *init, pid_t *pid, const char *name, int timeout_ms) {
    init->stopping = true;
    if (*pid == 0)
        return;
    kill(*pid, SIGTERM);
    signals_handle(init, pid, timeout_ms);
    if (*pid != 0)
        log_warning("%s does not stop within %d s: killed", name, timeout_ms / 1000);
}

static int node_run(struct node_init *init) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    /* A blocked signal is queued even for the first process of a namespace, which else ignores what it has no handler
     * for. */
    sigprocmask(SIG_BLOCK, &mask, NULL);
    init->signals = signalfd(-1, &mask, SFD_CLOEXEC);
    int result = init->signals < 0 ? -errno : mounts_make();
    if (result < 0) {
        log_error("cannot set the node up: %s", strerror(-result));
        return 1;
    }
    if (sethostname(init->node->name, strlen(init->node->name)) < 0)
        log_warning("cannot set the host name: %s", strerror(errno));
    if (init->lab->node_count > 1)
        result = corosync_start(init);
    if (result == 0)
        result = dvkd_start(init);
    if (result < 0)
        log_error("cannot start the node's programs: %s", strerror(-result));
    else
        signals_handle(init, &init->dvkd, -1);
    int exit_code = init->stopping ? 0 : 1;
    program_stop(init, &init->dvkd, "dvkd", DVKD_STOP_MS);
    program_stop(init, &init->corosync, "corosync", COROSYNC_STOP_MS);
    log_info("the node ends");
    return exit_code; /* the kernel kills whatever is left in the namespace */
}

int lab_node_main(int argc, char **argv) {
    if (argc != 5 || strcmp(argv[1], "--lab") != 0 || strcmp(argv[3], "--node") != 0 || !lab_name_valid(argv[2]) ||
        getpid() != 1) {
        fprintf(stderr, "dvs: lab-node: this is for dvs lab up only\n");
        return 2;
    }
    static char name[64];
    snprintf(name, sizeof name, "node[%s]", argv[4]);
    log_init(name);
    prctl(PR_SET_NAME, "dvs-node"); /* we were started by descriptor, which leaves no name */
    cleanup_lab struct lab *lab = NULL;
    struct failure failure = {0};
    if (lab_load(argv[2], &lab, &failure) < 0) {
        log_error("%s", failure.message);
        return 1;
    }
    struct node_init init = {.lab = lab, .node = lab_node_by_name(lab, argv[4])};
    if (!init.node) {
        log_error("lab %s has no node %s", lab->name, argv[4]);
        return 1;
    }
    lab_state_path(lab->name, init.state);
    return node_run(&init);
}
