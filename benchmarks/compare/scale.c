/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What grows with the number of others. One JSON object a line:
 *   pairs      {"scale", "transport", "count", "per_second"}: round trips of 64 bytes of all pairs together
 *   clients    a server with that many contexts that have spoken to it: {"scale", "count", "open_us" (open, bind, first
 *              message; each), "one_ns" (round trip of one while the others are idle), "each_ns" (of all in turn),
 *              "server_kib" (resident memory of the server)}
 *   endpoints  one context that has bound so many, each of which has spoken to the server: {"scale", "count",
 *              "bind_us", "first_us" (its first message), "unbind_us" (medians of the first tenth of them),
 *              "bind_last_us", "first_last_us", "unbind_last_us" (of the last), "one_ns", "last_ns" (round trip from the
 *              first and the last of them)}
 */
#include "compare.h"

#include <dvk/dvk.h>
#include <errno.h>
#include <fcntl.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAIR_BYTES 64
#define SERVICE_SCALE 99u
#define TIMEOUT_MS 30000

/* ---- pairs ---- */

struct together {
    uint32_t ready, go, stop;
    struct {
        uint64_t count;
        uint64_t pad[7];
    } pair[];
};

_Noreturn static void pair_server(const struct transport *transport, struct line *line, int out) {
    struct contact contact = {0};
    uint8_t data[PAIR_BYTES];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    transport->serve(line, &contact);
    if (write(out, &contact, sizeof contact) != sizeof contact)
        die_errno("write");
    for (;;) {
        transport->receive(line, data);
        transport->reply(line, data);
    }
}

_Noreturn static void pair_client(const struct transport *transport, struct line *line, int in, struct together *together) {
    struct contact contact;
    uint8_t data[PAIR_BYTES] = {FLAG_REPLY}, reply[PAIR_BYTES];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(in, &contact, sizeof contact) != sizeof contact)
        die(transport->name, "its server did not start");
    transport->connect(line, &contact);
    transport->call(line, data, reply);
    __atomic_fetch_add(&together->ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&together->go, __ATOMIC_SEQ_CST))
        usleep(1000);
    while (!__atomic_load_n(&together->stop, __ATOMIC_RELAXED)) {
        transport->call(line, data, reply);
        together->pair[line->index].count++;
    }
    _exit(0);
}

int scale_pairs(const struct settings *settings, const struct transport *transport, unsigned pairs, int milliseconds) {
    struct together *together = mmap(NULL, sizeof *together + pairs * sizeof together->pair[0], PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct line *lines = calloc(pairs, sizeof *lines);
    pid_t(*pids)[2] = calloc(pairs, sizeof *pids);
    if (together == MAP_FAILED || !lines || !pids)
        die_errno("pairs");
    for (unsigned i = 0; i < pairs; i++) {
        struct line *line = &lines[i];
        *line = (struct line){.settings = settings, .index = i, .bytes = PAIR_BYTES};
        int ready[2];
        if (pipe2(ready, O_CLOEXEC) < 0)
            die_errno("pipe");
        if (transport->prepare)
            transport->prepare(line);
        if ((pids[i][0] = fork()) == 0)
            pair_server(transport, line, ready[1]);
        if ((pids[i][1] = fork()) == 0)
            pair_client(transport, line, ready[0], together);
        if (pids[i][0] < 0 || pids[i][1] < 0)
            die_errno("fork");
        close(ready[0]);
        close(ready[1]);
    }
    int64_t give_up = now_ns() + TIMEOUT_MS * 1000000ll;
    while (__atomic_load_n(&together->ready, __ATOMIC_SEQ_CST) < pairs) {
        if (waitpid(-1, NULL, WNOHANG) > 0 || now_ns() > give_up)
            die(transport->name, "not all pairs have started");
        usleep(1000);
    }
    int64_t start = now_ns();
    __atomic_store_n(&together->go, 1, __ATOMIC_SEQ_CST);
    usleep((useconds_t)milliseconds * 1000);
    __atomic_store_n(&together->stop, 1, __ATOMIC_SEQ_CST);
    uint64_t total = 0;
    for (unsigned i = 0; i < pairs; i++)
        total += __atomic_load_n(&together->pair[i].count, __ATOMIC_RELAXED);
    double seconds = (double)(now_ns() - start) / 1e9;
    for (unsigned i = 0; i < pairs; i++) {
        waitpid(pids[i][1], NULL, 0);
        kill(pids[i][0], SIGKILL);
        waitpid(pids[i][0], NULL, 0);
        if (transport->finish)
            transport->finish(&lines[i]);
    }
    printf("{\"scale\": \"pairs\", \"transport\": \"%s\", \"count\": %u, \"per_second\": %.0f}\n", transport->name, pairs,
           (double)total / seconds);
    fflush(stdout);
    free(lines);
    free(pids);
    return 0;
}

/* ---- one server ---- */

static void check(const char *what, int result) {
    if (result < 0)
        die(what, dvk_strerror(result));
}

/* Contexts and channels need descriptors: as many as the host allows. */
static void raise_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

static pid_t server_start(const struct settings *settings, dvk_endpoint *server) {
    int ready[2], fd = dvk_end(settings, 1);
    if (pipe2(ready, O_CLOEXEC) < 0)
        die_errno("pipe");
    raise_limit();
    pid_t pid = fork();
    if (pid < 0)
        die_errno("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct dvk *dvk = dvk_end_open(settings, 1, fd);
        struct dvk_request *req;
        dvk_endpoint self;
        check("bind", dvk_bind(dvk, settings->dc, dvk_system_slot(dvk_node(dvk), SERVICE_SCALE), &self));
        if (write(ready[1], &self, sizeof self) != sizeof self)
            die_errno("write");
        for (;;) {
            check("receive", dvk_receive(dvk, &req, -1));
            dvk_reply_status(dvk, req, 0);
        }
    }
    if (fd >= 0)
        close(fd);
    close(ready[1]);
    if (read(ready[0], server, sizeof *server) != sizeof *server)
        die("server", "it did not start");
    close(ready[0]);
    return pid;
}

static void server_end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static long resident_kib(pid_t pid) {
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        die_errno(path);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void exchange(struct dvk *dvk, dvk_endpoint self, dvk_endpoint server) {
    struct dvk_message message = {.destination = server, .type = 1};
    check("sendrec", dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, TIMEOUT_MS));
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median over batches of the time of one round trip. */
static double one_ns(struct dvk *dvk, dvk_endpoint self, dvk_endpoint server, int milliseconds) {
    double ns[1000];
    unsigned n = 0;
    int64_t end = now_ns() + milliseconds * 1000000ll;
    while (n < sizeof ns / sizeof *ns && (n < 3 || now_ns() < end)) {
        int64_t start = now_ns();
        for (int i = 0; i < 100; i++)
            exchange(dvk, self, server);
        ns[n++] = (double)(now_ns() - start) / 100;
    }
    qsort(ns, n, sizeof *ns, compare);
    return ns[n / 2];
}

struct client {
    struct dvk *dvk;
    dvk_endpoint self;
};

int scale_clients(const struct settings *settings, unsigned clients, int milliseconds) {
    dvk_endpoint server;
    pid_t pid = server_start(settings, &server);
    struct client *list = calloc(clients, sizeof *list);
    if (!list)
        die_errno("clients");
    int64_t start = now_ns();
    for (unsigned i = 0; i < clients; i++) {
        list[i].dvk = dvk_end_open(settings, 0, dvk_end(settings, 0));
        check("bind", dvk_bind(list[i].dvk, settings->dc, DVK_SLOT_ANY, &list[i].self));
        exchange(list[i].dvk, list[i].self, server);
    }
    double open_us = (double)(now_ns() - start) / clients / 1000;
    for (unsigned i = 0; i < clients; i++)
        exchange(list[i].dvk, list[i].self, server);
    start = now_ns();
    unsigned turns = 20000 / clients + 1;
    for (unsigned t = 0; t < turns; t++)
        for (unsigned i = 0; i < clients; i++)
            exchange(list[i].dvk, list[i].self, server);
    double each = (double)(now_ns() - start) / turns / clients;
    double one = one_ns(list[0].dvk, list[0].self, server, milliseconds);
    printf("{\"scale\": \"clients\", \"count\": %u, \"open_us\": %.1f, \"one_ns\": %.0f, \"each_ns\": %.0f, \"server_kib\": %ld}\n",
           clients, open_us, one, each, resident_kib(pid));
    for (unsigned i = 0; i < clients; i++)
        dvk_close(list[i].dvk);
    free(list);
    server_end(pid);
    return 0;
}

/* Times of the same operation on each of the endpoints. */
struct times {
    double *ns;
    unsigned count;
};

/* Median of the first (part 0) or the last (part 1) tenth, in us: single ones, so that another's turn on the CPU does
 * not count. Sorts that part. */
static double part_us(struct times *times, int part) {
    unsigned tenth = times->count / 10 ? times->count / 10 : 1;
    double *from = times->ns + (part ? times->count - tenth : 0);
    qsort(from, tenth, sizeof *from, compare);
    return from[tenth / 2] / 1000;
}

int scale_endpoints(const struct settings *settings, unsigned endpoints, int milliseconds) {
    dvk_endpoint server, *self = calloc(endpoints, sizeof *self);
    pid_t pid = server_start(settings, &server);
    struct times bind = {calloc(endpoints, sizeof(double)), endpoints}, first = {calloc(endpoints, sizeof(double)), endpoints},
                 unbind = {calloc(endpoints, sizeof(double)), endpoints};
    if (!self || !bind.ns || !first.ns || !unbind.ns)
        die_errno("endpoints");
    struct dvk *dvk = dvk_end_open(settings, 0, dvk_end(settings, 0));
    for (unsigned i = 0; i < endpoints; i++) {
        int64_t start = now_ns();
        check("bind", dvk_bind(dvk, settings->dc, DVK_SLOT_ANY, &self[i]));
        bind.ns[i] = (double)(now_ns() - start);
    }
    for (unsigned i = 0; i < endpoints; i++) {
        int64_t start = now_ns();
        exchange(dvk, self[i], server);
        first.ns[i] = (double)(now_ns() - start);
    }
    double one = one_ns(dvk, self[0], server, milliseconds), last = one_ns(dvk, self[endpoints - 1], server, milliseconds);
    for (unsigned i = 0; i < endpoints; i++) {
        int64_t start = now_ns();
        check("unbind", dvk_unbind(dvk, self[i]));
        unbind.ns[i] = (double)(now_ns() - start);
    }
    printf("{\"scale\": \"endpoints\", \"count\": %u, \"bind_us\": %.1f, \"bind_last_us\": %.1f, \"first_us\": %.1f, "
           "\"first_last_us\": %.1f, \"one_ns\": %.0f, \"last_ns\": %.0f, \"unbind_us\": %.1f, \"unbind_last_us\": %.1f}\n",
           endpoints, part_us(&bind, 0), part_us(&bind, 1), part_us(&first, 0), part_us(&first, 1), one, last,
           part_us(&unbind, 0), part_us(&unbind, 1));
    dvk_close(dvk);
    free(self);
    free(bind.ns);
    free(first.ns);
    free(unbind.ns);
    server_end(pid);
    return 0;
}
