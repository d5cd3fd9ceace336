/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large data within a node: loans and copies, in turns, the two processes on one core.
 *
 *   bulk DC RUNS     (by dvs lab exec: $DVS_SOCKET is the node's dvkd)
 *
 * Prints one JSON object a line: {"what", "ns": median of one operation, "low", "high", "runs"}.
 */
#include <dvk/loan.h>
#include <dvk/vcopy.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERVICE = 199, EMPTY = 1, GRANT_ARENA, GRANT_SHARED, GRANT_MEMORY, KINDS = 7, OPERATIONS = 10, RUNS_MAX = 1000 };
#define BYTES (1u << 20)

static struct dvk *dvk;
static dvk_endpoint self, server;
static uint8_t *memory, *shared;
static struct dvk_area areas[5]; /* by GRANT_* */

static void must(int error, const char *what) {
    if (error < 0) {
        fprintf(stderr, "bulk: %s: %s\n", what, dvk_strerror(error));
        exit(1);
    }
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void serve(const char *dc_name, int ready) {
    uint32_t dc;
    void *arena;
    uint8_t *plain = aligned_alloc(4096, BYTES);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(dvk_open(NULL, &dvk), "dvkd");
    must(dvk_find_dc(dvk, dc_name, &dc), dc_name);
    must(dvk_bind(dvk, dc, dvk_system_slot(dvk_node(dvk), SERVICE), &self), "bind");
    must(dvk_accept(dvk, DVK_LOAN_MAX), "accept");
    must(dvk_arena_create(dvk, BYTES, &arena), "arena");
    memset(plain, 1, BYTES);
    memset(arena, 1, BYTES);
    if (write(ready, &self, sizeof self) != sizeof self)
        exit(1);
    for (;;) {
        struct dvk_request *req;
        struct dvk_message reply = {.status = 0};
        must(dvk_receive(dvk, &req, -1), "receive");
        uint32_t type = req->msg.type, access = DVK_GRANT_READ | DVK_GRANT_WRITE;
        if (type == GRANT_SHARED)
            access |= DVK_GRANT_SHARE;
        if (type != EMPTY)
            reply.status = dvk_grant(dvk, self, req->msg.source, type == GRANT_MEMORY ? plain : arena, BYTES, access,
                                     &reply.payload.words[0]);
        dvk_reply(dvk, req, &reply, NULL, 0);
    }
}

static void message(uint32_t length, bool lend) {
    struct dvk_message m = {.destination = server, .type = EMPTY};
    void *data = memory;
    if (lend)
        must(dvk_loan_get(dvk, self, server, length, 1000, &data), "loan");
    must(dvk_sendrec(dvk, self, &m, data, length, NULL, 0, NULL, 1000), "sendrec");
}

static void copy(int to) {
    const struct dvk_area from = {self, DVK_GRANT_OWN, (uintptr_t)memory};
    must(dvk_vcopy(dvk, self, &from, &areas[to], BYTES, 1000, NULL), "vcopy");
}

static const char *const names[KINDS] = {
    "message of 64 B",           "message of 1 MiB, lent", "message of 1 MiB, copied", "memcpy into shared memory",
    "vcopy into a shared arena", "vcopy into an arena",    "vcopy into memory"};

static void once(int kind) {
    switch (kind) {
    case 0:
        message(64, false);
        break;
    case 1:
        message(BYTES, true);
        break;
    case 2:
        message(BYTES, false);
        break;
    case 3:
        memcpy(shared, memory, BYTES);
        __asm__ volatile("" ::: "memory");
        break;
    default:
        copy(kind == 4 ? GRANT_SHARED : kind == 5 ? GRANT_ARENA : GRANT_MEMORY);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    static double found[KINDS][RUNS_MAX];
    uint32_t dc;
    int ready[2], runs = argc == 3 ? atoi(argv[2]) : 0;
    cpu_set_t set;
    if (runs < 1 || runs > RUNS_MAX || pipe(ready) < 0) {
        fprintf(stderr, "usage: bulk DC RUNS\n");
        return 2;
    }
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        perror("bulk: sched_setaffinity");
    pid_t pid = fork();
    if (pid == 0)
        serve(argv[1], ready[1]);
    close(ready[1]);
    if (read(ready[0], &server, sizeof server) != sizeof server)
        return 1;
    must(dvk_open(NULL, &dvk), "dvkd");
    must(dvk_find_dc(dvk, argv[1], &dc), argv[1]);
    must(dvk_bind(dvk, dc, DVK_SLOT_ANY, &self), "bind");
    memory = aligned_alloc(4096, BYTES);
    shared = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(memory, 2, BYTES);
    memset(shared, 2, BYTES);
    for (int type = GRANT_ARENA; type <= GRANT_MEMORY; type++) {
        struct dvk_message m = {.destination = server, .type = (uint32_t)type};
        must(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 5000), "grant");
        must(m.status, "grant");
        areas[type] = (struct dvk_area){server, m.payload.words[0], 0};
    }
    for (int run = -1; run < runs; run++) /* the first warms up */
        for (int kind = 0; kind < KINDS; kind++) {
            double start = now_ns();
            for (int i = 0; i < OPERATIONS; i++)
                once(kind);
            if (run >= 0)
                found[kind][run] = (now_ns() - start) / OPERATIONS;
        }
    for (int kind = 0; kind < KINDS; kind++) {
        qsort(found[kind], (size_t)runs, sizeof(double), compare);
        printf("{\"what\": \"%s\", \"ns\": %.1f, \"low\": %.1f, \"high\": %.1f, \"runs\": %d}\n", names[kind],
               found[kind][runs / 2], found[kind][0], found[kind][runs - 1], runs);
    }
    dvk_close(dvk);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
