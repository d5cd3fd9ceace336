/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trip of a request and its reply between two libdvk processes.
 *
 *   message RUNS DC CLIENT_SOCKET SERVER_SOCKET [BYTES [CPU_CLIENT CPU_SERVER]]
 *
 * The sockets are those of the dvkds of the two ends' nodes (the same one: a local message). BYTES of data go with the
 * request. CPUs: where each end is pinned (default 0 and 0). Prints one line per run: nanoseconds per round trip.
 */
#include <dvk/dvk.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERVICE_CLIENT = 200, SERVICE_SERVER = 201, COUNT = 3000 };

static int fail(const char *what, int error) {
    fprintf(stderr, "message: %s: %s\n", what, dvk_strerror(error));
    return 1;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        perror("message: sched_setaffinity");
}

static int serve(const char *socket, uint32_t dc, int ready) {
    struct dvk *dvk;
    dvk_endpoint self;
    int r = dvk_open(socket, &dvk);
    if (r < 0)
        return fail(socket, r);
    r = dvk_bind(dvk, dc, dvk_system_slot(dvk_node(dvk), SERVICE_SERVER), &self);
    if (r < 0)
        return fail("bind the server", r);
    if (write(ready, &self, sizeof self) != sizeof self)
        return 1;
    for (;;) {
        struct dvk_request *req;
        r = dvk_receive(dvk, &req, -1);
        if (r < 0)
            return fail("receive", r);
        if (req->wants_reply)
            dvk_reply_status(dvk, req, 0);
        else
            dvk_release(dvk, req);
    }
}

static int measure(const char *socket, uint32_t dc, dvk_endpoint server, int runs, size_t bytes) {
    static char data[DVK_DATA_MAX];
    struct dvk *dvk;
    dvk_endpoint self;
    int r = dvk_open(socket, &dvk);
    if (r < 0)
        return fail(socket, r);
    r = dvk_bind(dvk, dc, dvk_system_slot(dvk_node(dvk), SERVICE_CLIENT), &self);
    if (r < 0)
        return fail("bind the client", r);
    for (int run = -1; run < runs; run++) { /* run -1 warms up */
        double start = now_ns();
        for (int i = 0; i < COUNT; i++) {
            struct dvk_message m = {.destination = server, .type = 1};
            r = dvk_sendrec(dvk, self, &m, bytes ? data : NULL, bytes, NULL, 0, NULL, 10000);
            if (r < 0 || m.status != 0)
                return fail("sendrec", r < 0 ? r : m.status);
        }
        if (run >= 0)
            printf("%.1f\n", (now_ns() - start) / COUNT);
    }
    dvk_close(dvk);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: message RUNS DC CLIENT_SOCKET SERVER_SOCKET [BYTES [CPU_CLIENT CPU_SERVER]]\n");
        return 2;
    }
    int runs = atoi(argv[1]);
    uint32_t dc = (uint32_t)strtoul(argv[2], NULL, 10);
    size_t bytes = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
    if (runs < 1 || bytes > DVK_DATA_MAX) {
        fprintf(stderr, "message: RUNS is at least 1, BYTES at most %u\n", DVK_DATA_MAX);
        return 2;
    }
    int ready[2];
    if (pipe(ready) < 0) {
        perror("message: pipe");
        return 1;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("message: fork");
        return 1;
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        pin(argc > 7 ? atoi(argv[7]) : 0);
        _exit(serve(argv[4], dc, ready[1]));
    }
    close(ready[1]);
    pin(argc > 6 ? atoi(argv[6]) : 0);
    dvk_endpoint server;
    int result = 1;
    if (read(ready[0], &server, sizeof server) == sizeof server)
        result = measure(argv[3], dc, server, runs, bytes);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return result;
}
