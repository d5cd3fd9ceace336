/* SPDX-License-Identifier: Apache-2.0 */
/* dvs lock, dvs leader, dvs barrier. */
#include "common/cleanup.h"
#include "dvs/output.h"
#include "dvs/service.h"

#include <dvk/error.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define END_MS 5000 /* for the program to end when the lock is lost */
#define LOOK_MS 15000

enum { OPTION_TRY = OPTION_SERVICE_OWN, OPTION_TEXT, OPTION_STALE };

/* ---- a program that runs while we hold something ---- */

struct guard {
    struct service *service;
    const struct dvk_lock *lock;
    pid_t pid;
    bool ended, lost;
    int status;
};

static void on_end(void *context, int fd, uint32_t events) {
    struct guard *guard = context;
    if (waitpid(guard->pid, &guard->status, WNOHANG) == guard->pid) {
        guard->ended = true;
        dvk_watch_fd(guard->service->dvk, fd, 0, NULL, NULL);
        dvk_wake(guard->service->dvk);
    }
}

static void on_signal(void *context, int fd, uint32_t events) {
    const struct guard *guard = context;
    struct signalfd_siginfo info;
    /* the terminal sends its own signals to the program as well */
    if (read(fd, &info, sizeof info) == sizeof info && info.ssi_code <= 0)
        kill(guard->pid, (int)info.ssi_signo);
}

static void kill_late(void *context) {
    const struct guard *guard = context;
    if (!guard->ended)
        kill(guard->pid, SIGKILL);
}

static void lose(struct guard *guard) {
    if (guard->lost || guard->ended)
        return;
    guard->lost = true;
    kill(guard->pid, SIGTERM);
    if (dvk_timer(guard->service->dvk, END_MS, kill_late, guard, NULL) < 0)
        kill(guard->pid, SIGKILL);
}

static void on_event(void *context, const struct dvk_event *event) {
    struct guard *guard = context;
    if ((event->type == DVK_EVENT_LOST && event->id == guard->lock->handle) || event->type == DVK_EVENT_DC_GONE)
        lose(guard);
    for (unsigned i = 0; i < event->fd_count; i++)
        close(event->fds[i]);
}

static void child_run(char **argv, const sigset_t *signals, pid_t parent, uint64_t token) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, token);
    /* it must not go on when we, and so the lock, are gone */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || setenv("DVS_TOKEN", text, 1) < 0 ||
        sigprocmask(SIG_SETMASK, signals, NULL) < 0)
        _exit(EXIT_DVS_TROUBLE);
    execvp(argv[0], argv);
    int error = errno;
    fprintf(stderr, "dvs: cannot run %s: %s\n", argv[0], strerror(error));
    _exit(error == ENOENT ? EXIT_NO_COMMAND : EXIT_NOT_EXECUTABLE);
}

static void guard_wait(struct guard *guard, int pid_fd, int signal_fd) {
    struct dvk *dvk = guard->service->dvk;
    struct dvk_request *request;
    int error = dvk_watch_fd(dvk, pid_fd, EPOLLIN, on_end, guard);
    if (error == 0)
        error = dvk_watch_fd(dvk, signal_fd, EPOLLIN, on_signal, guard);
    dvk_on_event(dvk, on_event, guard);
    while (error == 0 && !guard->ended) {
        error = dvk_receive(dvk, &request, -1);
        if (error == 0)
            dvk_release(dvk, request);
        else if (error == -DVK_EINTERRUPTED)
            error = 0;
    }
    if (!guard->ended) { /* dvkd is gone, and the lock with it */
        guard->lost = true;
        kill(guard->pid, SIGTERM);
        struct pollfd end = {.fd = pid_fd, .events = POLLIN};
        (void)poll(&end, 1, END_MS);
        guard->ended = waitpid(guard->pid, &guard->status, WNOHANG) == guard->pid;
        if (!guard->ended) {
            kill(guard->pid, SIGKILL);
            guard->ended = waitpid(guard->pid, &guard->status, 0) == guard->pid;
        }
    }
}

int service_guard(struct command *command, struct service *service, const struct dvk_lock *lock, char **argv) {
    struct guard guard = {.service = service, .lock = lock};
    sigset_t ours, before;
    sigemptyset(&ours);
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++)
        sigaddset(&ours, numbers[i]);
    sigprocmask(SIG_BLOCK, &ours, &before);
    cleanup_close int signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t parent = getpid();
    fflush(NULL);
    guard.pid = signal_fd < 0 ? -1 : fork();
    if (guard.pid == 0)
        child_run(argv, &before, parent, lock->token);
    cleanup_close int pid_fd = guard.pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, guard.pid, 0);
    if (pid_fd < 0) {
        failure_set(&command->failure, -errno, "internal", NULL, "cannot start %s: %s", argv[0], strerror(errno));
        if (guard.pid > 0) {
            kill(guard.pid, SIGKILL);
            waitpid(guard.pid, &guard.status, 0);
        }
        return failure_report(command);
    }
    guard_wait(&guard, pid_fd, signal_fd);
    dvk_on_event(service->dvk, NULL, NULL);
    dvk_watch_fd(service->dvk, signal_fd, 0, NULL, NULL);
    if (guard.lost) {
        failure_set(&command->failure, -DVK_ELOST, "lost", "this node lost quorum or its dvkd, or the container is gone",
                    "it was lost while %s ran, which was ended", argv[0]);
        return failure_report(command);
    }
    return WIFSIGNALED(guard.status) ? EXIT_SIGNAL_BASE + WTERMSIG(guard.status) : WEXITSTATUS(guard.status);
}

/* ---- the verbs ---- */

struct lock_options {
    struct service service;
    unsigned options;
    const char *text;
};

static int parse(struct command *command, int argc, char **argv, struct lock_options *out) {
    static const struct option options[] = {SERVICE_OPTIONS,
                                            {"try", no_argument, NULL, OPTION_TRY},
                                            {"text", required_argument, NULL, OPTION_TEXT},
                                            {"stale", no_argument, NULL, OPTION_STALE},
                                            {0}};
    int exit_code = EXIT_OK, option;
    *out = (struct lock_options){.service = {.timeout_ms = -1}};
    while ((option = option_next(command, argc, argv, "+:h", options, &exit_code)) >= 0) {
        if (option == OPTION_TRY)
            out->options |= DVK_TRY;
        else if (option == OPTION_STALE)
            out->options |= DVK_STALE;
        else if (option == OPTION_TEXT)
            out->text = optarg;
        else if ((exit_code = service_option(command, &out->service, option)) != EXIT_OK)
            return exit_code;
    }
    return option == OPTIONS_STOP ? (exit_code == EXIT_OK ? -1 : exit_code) : 0;
}

/* Hold it, run the program, let go. */
static int run_holding(struct command *command, struct lock_options *options, const char *name, char **argv,
                       bool leader) {
    struct service *service = &options->service;
    struct dvk_lock lock;
    char what[300];
    snprintf(what, sizeof what, "%s %s", leader ? "office" : "lock", name);
    if (service_open(command, service) < 0)
        return failure_report(command);
    int error = leader ? dvk_leader_campaign(service->dvk, service->from, name, options->text, options->options, &lock,
                                             service->timeout_ms)
                       : dvk_lock(service->dvk, service->from, name, options->options, &lock, service->timeout_ms);
    int exit_code = error < 0 ? service_report(command, error, what) : service_guard(command, service, &lock, argv);
    if (error == 0)
        (void)dvk_unlock(service->dvk, &lock, LOOK_MS); /* else it goes with our end */
    service_close(service);
    return exit_code;
}

int verb_lock(struct command *command, int argc, char **argv) {
    struct lock_options options;
    int result = parse(command, argc, argv, &options);
    if (result != 0)
        return result < 0 ? EXIT_OK : result;
    if (options.options & DVK_STALE || options.text)
        return usage_error(command, "--stale and --text are for dvs leader");
    if (argc - optind < 2)
        return usage_error(command, "give a name and a command to run");
    return run_holding(command, &options, argv[optind], argv + optind + 1, false);
}

static int leader_print(struct command *command, struct lock_options *options, const char *name) {
    struct service *service = &options->service;
    struct dvk_leader leader;
    char what[300];
    snprintf(what, sizeof what, "office %s", name);
    if (service_open(command, service) < 0)
        return failure_report(command);
    int error = dvk_leader_get(service->dvk, service->from, name, &leader, options->options & DVK_STALE,
                               service->timeout_ms < 0 ? LOOK_MS : service->timeout_ms);
    service_close(service);
    if (error == -DVK_ENOKEY) {
        failure_set(&command->failure, error, "no-such-key", "dvs leader NAME COMMAND stands for it", "%s: nobody leads",
                    what);
        return failure_report(command);
    }
    if (error < 0)
        return service_report(command, error, what);
    if (command->json) {
        cleanup_json json_t *json =
            json_pack("{s:s, s:I, s:I, s:I, s:s}", "name", name, "node", (json_int_t)leader.node, "endpoint",
                      (json_int_t)leader.endpoint, "token", (json_int_t)leader.token, "text", leader.text);
        return json_print(json) < 0;
    }
    static const char *const titles[] = {"NAME", ">NODE", ">TOKEN", "TEXT", NULL};
    struct table *table = table_create(titles);
    table_cell(table, "%s", name);
    table_cell(table, "%u", leader.node);
    table_cell(table, "%" PRIu64, leader.token);
    table_cell(table, "%s", *leader.text ? leader.text : "-");
    return table_print(table) < 0;
}

int verb_leader(struct command *command, int argc, char **argv) {
    struct lock_options options;
    int result = parse(command, argc, argv, &options);
    if (result != 0)
        return result < 0 ? EXIT_OK : result;
    if (argc == optind)
        return usage_error(command, "give the name of an office");
    if (argc - optind == 1)
        return leader_print(command, &options, argv[optind]);
    return run_holding(command, &options, argv[optind], argv + optind + 1, true);
}

int verb_barrier(struct command *command, int argc, char **argv) {
    struct lock_options options;
    struct service *service = &options.service;
    long long count;
    char what[300];
    int result = parse(command, argc, argv, &options);
    if (result != 0)
        return result < 0 ? EXIT_OK : result;
    if (argc - optind != 2)
        return usage_error(command, "give a name and how many are to come");
    if (!parse_number(argv[optind + 1], 1, 1024, &count))
        return usage_error(command, "%s: give a number, 1 to 1024", argv[optind + 1]);
    if (service_open(command, service) < 0)
        return failure_report(command);
    snprintf(what, sizeof what, "barrier %s", argv[optind]);
    int error = dvk_barrier(service->dvk, service->from, argv[optind], (unsigned)count, service->timeout_ms);
    service_close(service);
    return error < 0 ? service_report(command, error, what) : EXIT_OK;
}
