/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of sockets: over fork and exec, with signals, from threads, descriptors passed through them. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self;
static volatile sig_atomic_t caught;

static void on_signal(int signal) {
    caught = signal;
}

static void catch_signal(int signal, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static int wait_for(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void test_broken_pipe(void) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    close(ends[0]);
    catch_signal(SIGPIPE, 0);
    caught = 0;
    CHECK(send(ends[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE && !caught);
    CHECK(send(ends[1], "x", 1, 0) == -1 && errno == EPIPE && caught == SIGPIPE);
    caught = 0;
    CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE && caught == SIGPIPE);
    close(ends[1]);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    close(ends[0]);
    caught = 0;
    CHECK(send(ends[1], "x", 1, 0) == -1 && errno == EPIPE && !caught); /* of streams alone */
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        close(ends[0]);
        _exit(write(ends[1], "x", 1) < 0 ? 1 : 0);
    }
    int status = wait_for(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

static void test_interrupted(void) {
    int ends[2];
    char byte;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    catch_signal(SIGALRM, 0);
    caught = 0;
    ualarm(20000, 0);
    CHECK(recv(ends[0], &byte, 1, 0) == -1 && errno == EINTR && caught == SIGALRM);
    catch_signal(SIGALRM, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        usleep(100000);
        _exit(write(ends[1], "r", 1) == 1 ? 0 : 1);
    }
    caught = 0;
    ualarm(20000, 0);
    CHECK(recv(ends[0], &byte, 1, 0) == 1 && caught == SIGALRM);
    CHECK(wait_for(pid) == 0);
    struct timeval time = {0, 30000};
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(recv(ends[0], &byte, 1, 0) == -1 && errno == EAGAIN);
    close(ends[0]);
    close(ends[1]);
}

static void test_exec(void) {
    int ends[2], count;
    char text[32], number[16];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    CHECK(fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    for (int fork_first = 0; fork_first < 2; fork_first++) {
        snprintf(number, sizeof number, "%d", ends[1]);
        char *argv[] = {(char *)self, (char *)"--echo", number, NULL};
        pid_t pid = fork_first ? fork() : vfork();
        if (pid == 0) {
            execv(self, argv);
            _exit(9);
        }
        CHECK(send(ends[0], "hello", 5, 0) == 5);
        CHECK(wait_for(pid) == 0);
        CHECK(ioctl(ends[0], FIONREAD, &count) == 0 && count == 5);
        CHECK(recv(ends[0], text, sizeof text, 0) == 5 && memcmp(text, "hello", 5) == 0);
        CHECK(recv(ends[0], text, sizeof text, 0) == -1 && errno == EAGAIN);
    }
    close(ends[0]);
    close(ends[1]);
}

static int echo(int end) {
    char text[32];
    struct pollfd ready = {end, POLLIN, 0};
    if (poll(&ready, 1, 10000) != 1)
        return 2;
    ssize_t n = recv(end, text, sizeof text, 0);
    return n > 0 && send(end, text, (size_t)n, 0) == n && fcntl(end, F_GETFL) & O_NONBLOCK ? 0 : 3;
}

static void *echo_all(void *context) {
    int end = *(int *)context;
    char buffer[4096];
    ssize_t n;
    while ((n = recv(end, buffer, sizeof buffer, 0)) > 0)
        CHECK(send(end, buffer, (size_t)n, 0) == n);
    CHECK(n == 0 && shutdown(end, SHUT_WR) == 0);
    return NULL;
}

static void *fill(void *context) {
    int end = *(int *)context;
    char buffer[7000];
    memset(buffer, 'f', sizeof buffer);
    for (int i = 0; i < 200; i++) {
        struct iovec parts[] = {{buffer, 1000}, {buffer, 6000}};
        CHECK(writev(end, parts, 2) == 7000);
    }
    CHECK(shutdown(end, SHUT_WR) == 0);
    return NULL;
}

static void test_threads(void) {
    int ends[2];
    pthread_t threads[2];
    char buffer[3000];
    size_t got = 0;
    ssize_t n;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(pthread_create(&threads[0], NULL, echo_all, &ends[0]) == 0);
    CHECK(pthread_create(&threads[1], NULL, fill, &ends[1]) == 0);
    while ((n = read(ends[1], buffer, sizeof buffer)) > 0)
        got += (size_t)n;
    CHECK(n == 0 && got == 200 * 7000);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    close(ends[0]);
    close(ends[1]);
}

/* A child makes a pipe and passes its reading end; the descriptors that come are new ones, also while threads fork. */
static void test_rights(void) {
    for (int round = 0; round < 20; round++) {
        int ends[2], got;
        union {
            struct cmsghdr header;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control = {0};
        char byte = 'r', text[16];
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            int pipe_ends[2];
            CHECK(pipe(pipe_ends) == 0 && write(pipe_ends[1], "passed", 6) == 6);
            control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
            memcpy(CMSG_DATA(&control.header), &pipe_ends[0], sizeof(int));
            CHECK(sendmsg(ends[1], &message, 0) == 1);
            _exit(0);
        }
        CHECK(recvmsg(ends[0], &message, 0) == 1 && control.header.cmsg_len == CMSG_LEN(sizeof(int)));
        memcpy(&got, CMSG_DATA(&control.header), sizeof got);
        CHECK(got > ends[1]);
        CHECK(read(got, text, sizeof text) == 6 && memcmp(text, "passed", 6) == 0);
        CHECK(wait_for(pid) == 0);
        CHECK(read(got, text, sizeof text) == 0);
        CHECK(close(got) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--echo") == 0)
        return echo(atoi(argv[2]));
    self = argv[0];
    test_broken_pipe();
    test_interrupted();
    test_exec();
    test_threads();
    test_rights();
    puts("sockets: all well");
    return 0;
}
