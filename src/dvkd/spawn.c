/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/spawn.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void take_line(struct spawn_log *log) {
    log->partial[log->partial_len] = 0;
    if (log->partial_len == 0)
        return;
    strcpy(log->last, log->partial);
    log->partial_len = 0;
    log_info("%s: %s", log->name, log->last);
}

/* False at end of file. */
static bool read_some(struct spawn_log *log) {
    char buffer[4096];
    ssize_t n = read(log->fd, buffer, sizeof buffer);
    if (n <= 0)
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    for (ssize_t i = 0; i < n; i++) {
        if (buffer[i] == '\n')
            take_line(log);
        else if (log->partial_len < sizeof log->partial - 1)
            log->partial[log->partial_len++] = (buffer[i] & 0x80) || buffer[i] >= ' ' ? buffer[i] : '?';
    }
    return true;
}

static void on_log(void *context, int fd, uint32_t events) {
    struct spawn_log *log = context;
    if (!read_some(log))
        spawn_log_close(log);
}

void spawn_log_close(struct spawn_log *log) {
    if (!log->watch)
        return;
    for (int rounds = 0; rounds < 64; rounds++) { /* bounded: something else may hold the other end */
        errno = 0;
        if (!read_some(log) || errno == EAGAIN)
            break;
    }
    take_line(log);
    loop_watch_remove(log->watch);
    log->watch = NULL;
    close(log->fd);
    log->fd = -1;
}

/* In the child: only calls that are safe after fork. */
static void run_child(char *const argv[], int broker_fd, int log_fd, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(127);
    setpgid(0, 0); /* a terminal's signals are for dvkd, which then ends its children in order */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* out of the way of 0..3 first */
    int broker = fcntl(broker_fd, F_DUPFD_CLOEXEC, 10), log = fcntl(log_fd, F_DUPFD_CLOEXEC, 10);
    if (null < 0 || broker < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
        dup2(broker, 3) < 0 || syscall(SYS_close_range, 4u, ~0u, 0u) < 0)
        _exit(127);
    execv(argv[0], argv);
    char text[600];
    int n = snprintf(text, sizeof text, "cannot run %s: %s\n", argv[0], strerror(errno));
    if (n > 0 && write(2, text, (size_t)n) < 0)
        _exit(126);
    _exit(127);
}

pid_t spawn(struct loop *loop, char *const argv[], int broker_fd, struct spawn_log *log) {
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -errno;
    cleanup_close int read_end = pipes[0];
    cleanup_close int write_end = pipes[1];
    if (fcntl(read_end, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        run_child(argv, broker_fd, write_end, parent);
    log->fd = read_end;
    log->last[0] = 0;
    log->partial_len = 0;
    log->watch = NULL;
    if (loop_fd_add(loop, read_end, EPOLLIN, on_log, log, &log->watch) == 0)
        steal_fd(&read_end);
    return pid;
}
