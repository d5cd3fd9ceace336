/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages by libdvk and by other means, measured in turns by one loop: see --help. Prints one JSON object a line:
 * {"transport", "shape", "place", "cpus", "bytes", "ns", "low", "high", "batches"}: ns is the median over all batches of
 * the time of one operation, low and high its quartiles.
 *
 * Round trip: the client sends, the server answers with a message of the same size. One way: the client sends a batch
 * without waiting, and then one that is answered, so that a batch ends when all of it was received.
 */
#include "compare.h"

#include <errno.h>
#include <getopt.h>
#include <fcntl.h>
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

#define BATCHES_MAX 4096

static const struct transport *const transports[] = {
    &transport_dvk,  &transport_dvk_send, &transport_dvk_loan, &transport_futex, &transport_pipe, &transport_unix,
    &transport_sysv, &transport_mq,       &transport_tcp,
#ifdef HAVE_TLS
    &transport_tls,
#endif
#ifdef HAVE_ZMQ
    &transport_zmq,
#endif
#ifdef HAVE_NNG
    &transport_nng,
#endif
};
#define TRANSPORTS (sizeof transports / sizeof *transports)

struct plan {
    struct settings settings;
    enum place place;
    enum shape shape;
    int cpu[2];
    const char *netns[2];
    const char *only; /* transports, with commas between and around; NULL: all */
    size_t bytes[32];
    bool zeros; /* what messages consist of; else data that does not shrink */
    unsigned byte_count, rounds, batches;
    int64_t batch_ns;
};

/* What the client of a turn found out; in shared memory. */
struct outcome {
    unsigned count;
    double ns[BATCHES_MAX];
};

_Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "compare: %s: %s\n", what, why);
    _exit(1);
}
_Noreturn void die_errno(const char *what) {
    die(what, strerror(errno));
}

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (cpu >= 0 && sched_setaffinity(0, sizeof set, &set) < 0)
        die_errno("sched_setaffinity");
}

/* ---- the loop ---- */

static void enter(const struct plan *plan, int side) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(plan->cpu[side]);
    if (!plan->netns[side])
        return;
    int fd = open(plan->netns[side], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        die_errno(plan->netns[side]);
    close(fd);
}

/* Its pages are there; it is of data that does not shrink, or of zeros. */
static uint8_t *buffer_new(const struct plan *plan, size_t bytes) {
    uint8_t *buffer = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!buffer)
        die_errno("buffer");
    uint64_t random = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < bytes; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        buffer[i] = plan->zeros ? 0 : (uint8_t)(random >> 32);
    }
    return buffer;
}

_Noreturn static void server_main(const struct plan *plan, const struct transport *transport, struct line *line, int out) {
    struct contact contact = {0};
    uint8_t *data = buffer_new(plan, line->bytes);
    enter(plan, 1);
    transport->serve(line, &contact);
    if (write(out, &contact, sizeof contact) != sizeof contact)
        die_errno("write");
    close(out);
    for (;;) {
        transport->receive(line, data);
        if (data[0] & FLAG_REPLY)
            transport->reply(line, data);
    }
}

/* count operations, the last of which ends with an answer */
static void batch(const struct plan *plan, const struct transport *transport, struct line *line, uint8_t *data, uint8_t *reply,
                  unsigned long count) {
    unsigned long posts = plan->shape == SHAPE_ONE_WAY ? count - 1 : 0;
    data[0] = 0;
    for (unsigned long i = 0; i < posts; i++)
        transport->post(line, data);
    data[0] = FLAG_REPLY;
    for (unsigned long i = posts; i < count; i++)
        transport->call(line, data, reply);
}

_Noreturn static void client_main(const struct plan *plan, const struct transport *transport, struct line *line, int in,
                                  int done, struct outcome *outcome) {
    struct contact contact;
    uint8_t *data = buffer_new(plan, line->bytes), *reply = buffer_new(plan, line->bytes);
    enter(plan, 0);
    if (read(in, &contact, sizeof contact) != sizeof contact)
        die(transport->name, "its server did not start");
    transport->connect(line, &contact);
    unsigned long count = 1;
    unsigned long_enough = 0; /* the first ones are slow: they connect, and touch new memory */
    for (int64_t start = now_ns(); long_enough < 3; start = now_ns()) {
        batch(plan, transport, line, data, reply, count);
        long_enough++;
        if (now_ns() - start < plan->batch_ns * (plan->shape == SHAPE_ONE_WAY ? 5 : 1)) {
            count *= 2;
            long_enough = 0;
        }
    }
    for (unsigned i = 0; i < plan->batches; i++) {
        int64_t start = now_ns();
        batch(plan, transport, line, data, reply, count);
        outcome->ns[outcome->count++ % BATCHES_MAX] = (double)(now_ns() - start) / (double)count;
    }
    if (write(done, "", 1) != 1)
        die_errno("write");
    for (;;)
        pause(); /* the server would complain of our end */
}

/* One turn of one transport: a server, a client, some batches. */
static void turn(const struct plan *plan, const struct transport *transport, size_t bytes, struct outcome *outcome) {
    struct line line = {.settings = &plan->settings, .bytes = bytes, .remote = plan->place == PLACE_REMOTE};
    int ready[2], done[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
        die_errno("pipe");
    if (transport->prepare)
        transport->prepare(&line);
    pid_t server = fork();
    if (server == 0) {
        close(done[1]);
        server_main(plan, transport, &line, ready[1]);
    }
    close(ready[1]);
    pid_t client = fork();
    if (client == 0)
        client_main(plan, transport, &line, ready[0], done[1], outcome);
    if (server < 0 || client < 0)
        die_errno("fork");
    close(ready[0]);
    close(done[1]);
    bool good = read(done[0], &byte, 1) == 1; /* else: it has ended, and said why */
    close(done[0]);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    kill(client, SIGKILL);
    waitpid(client, NULL, 0);
    if (transport->finish)
        transport->finish(&line);
    if (!good)
        die(transport->name, "the measurement failed");
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static bool chosen(const struct plan *plan, const struct transport *transport, size_t bytes) {
    char word[40];
    snprintf(word, sizeof word, ",%s,", transport->name);
    if (plan->place == PLACE_REMOTE && !plan->settings.socket[0] && strncmp(transport->name, "dvk", 3) == 0)
        return false; /* the stand-in knows one node only */
    return (!plan->only || strstr(plan->only, word)) && transport->places & plan->place &&
           transport->shapes & plan->shape && bytes <= transport->bytes_max;
}

static void report(const struct plan *plan, const struct transport *transport, size_t bytes, struct outcome *outcome) {
    unsigned n = outcome->count < BATCHES_MAX ? outcome->count : BATCHES_MAX;
    qsort(outcome->ns, n, sizeof *outcome->ns, compare);
    printf("{\"transport\": \"%s\", \"shape\": \"%s\", \"place\": \"%s\", \"cpus\": \"%d,%d\", \"bytes\": %zu, "
           "\"ns\": %.1f, \"low\": %.1f, \"high\": %.1f, \"batches\": %u}\n",
           transport->name, plan->shape == SHAPE_ONE_WAY ? "one-way" : "round-trip",
           plan->place == PLACE_REMOTE ? "remote" : "local", plan->cpu[0], plan->cpu[1], bytes, outcome->ns[n / 2],
           outcome->ns[n / 4], outcome->ns[n * 3 / 4], n);
    fflush(stdout);
}

static void measure(const struct plan *plan) {
    struct outcome *outcomes = mmap(NULL, TRANSPORTS * sizeof *outcomes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcomes == MAP_FAILED)
        die_errno("mmap");
    for (unsigned b = 0; b < plan->byte_count; b++) {
        for (unsigned i = 0; i < TRANSPORTS; i++)
            outcomes[i].count = 0;
        for (unsigned round = 0; round < plan->rounds; round++) /* in turns: all see the same noise */
            for (unsigned i = 0; i < TRANSPORTS; i++)
                if (chosen(plan, transports[i], plan->bytes[b]))
                    turn(plan, transports[i], plan->bytes[b], &outcomes[i]);
        for (unsigned i = 0; i < TRANSPORTS; i++)
            if (outcomes[i].count)
                report(plan, transports[i], plan->bytes[b], &outcomes[i]);
    }
}

/* ---- options ---- */

static int usage(FILE *to) {
    fprintf(to, "usage: compare [OPTION...] [pairs N | clients N | endpoints N]\n"
                "  --shape round-trip|one-way   default round-trip\n"
                "  --bytes N,N,...              sizes of messages, default 64; at most %u\n"
                "  --cpus A,B                   where client and server are pinned, default the scheduler's choice\n"
                "  --transports NAME,...        default all\n"
                "  --rounds N  --batches N  --batch-us N   turns of each transport, batches in each, least length of one\n                               (one way: five times that, since its last message waits)\n"
                "  --remote ADDRESS  --netns CLIENT,SERVER  the server listens at ADDRESS; files of network namespaces\n"
                "  --dvkd SOCKET[,SOCKET]  --dc N   dvkds of the two nodes; without them a stand-in\n"
                "  --zeros                      messages of zeros, which links compress; default data that does not shrink\n"
                "  --quick                      short: to see that it works\n"
                "  pairs N, clients N, endpoints N   --ms N for each: how libdvk (pairs: each transport) scales\n"
                "transports:",
            BYTES_MAX);
    for (unsigned i = 0; i < TRANSPORTS; i++)
        fprintf(to, "\n  %-10s %s", transports[i]->name, transports[i]->says);
    fprintf(to, "\n");
    return to == stdout ? 0 : 2;
}

/* "A,B" or "A" for both. */
static void two(char *text, const char *out[2]) {
    char *comma = strchr(text, ',');
    if (comma)
        *comma++ = 0;
    out[0] = text;
    out[1] = comma ? comma : text;
}

static unsigned long number(const char *text, unsigned long low, unsigned long high) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end || n < low || n > high)
        die(text, "no number in the range");
    return n;
}

static bool bytes_parse(struct plan *plan, char *text) {
    plan->byte_count = 0;
    for (char *save, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (plan->byte_count == sizeof plan->bytes / sizeof *plan->bytes)
            return false;
        plan->bytes[plan->byte_count++] = number(word, 1, BYTES_MAX);
    }
    return plan->byte_count > 0;
}

static int scale(const struct plan *plan, const char *what, const char *count, int milliseconds) {
    const struct settings *settings = &plan->settings;
    if (strcmp(what, "clients") == 0)
        return scale_clients(settings, (unsigned)number(count, 1, 10000), milliseconds);
    if (strcmp(what, "endpoints") == 0)
        return scale_endpoints(settings, (unsigned)number(count, 1, 100000), milliseconds);
    if (strcmp(what, "pairs") != 0)
        return usage(stderr);
    unsigned pairs = (unsigned)number(count, 1, 128);
    for (unsigned i = 0; i < TRANSPORTS; i++)
        if (chosen(plan, transports[i], 64) && scale_pairs(settings, transports[i], pairs, milliseconds))
            return 1;
    return 0;
}

int main(int argc, char **argv) {
    enum { SHAPE = 1, BYTES, CPUS, ONLY, ROUNDS, BATCHES, BATCH_US, REMOTE, NETNS, DVKD, DC, QUICK, MS, ZEROS, HELP };
    static const struct option options[] = {
        {"shape", 1, NULL, SHAPE},       {"bytes", 1, NULL, BYTES},     {"cpus", 1, NULL, CPUS},         {"transports", 1, NULL, ONLY},
        {"rounds", 1, NULL, ROUNDS},     {"batches", 1, NULL, BATCHES}, {"batch-us", 1, NULL, BATCH_US}, {"remote", 1, NULL, REMOTE},
        {"netns", 1, NULL, NETNS},       {"dvkd", 1, NULL, DVKD},       {"dc", 1, NULL, DC},             {"quick", 0, NULL, QUICK},
        {"ms", 1, NULL, MS},             {"zeros", 0, NULL, ZEROS},     {"help", 0, NULL, HELP},         {NULL, 0, NULL, 0},
    };
    static struct plan plan = {.settings = {.dc = 1}, .place = PLACE_LOCAL, .shape = SHAPE_ROUND_TRIP, .cpu = {-1, -1},
                               .bytes = {64}, .byte_count = 1, .rounds = 5, .batches = 40, .batch_ns = 200000};
    static char only[256];
    int milliseconds = 500;
    const char *pair[2];
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case SHAPE:
            if (strcmp(optarg, "one-way") != 0 && strcmp(optarg, "round-trip") != 0)
                return usage(stderr);
            plan.shape = optarg[0] == 'o' ? SHAPE_ONE_WAY : SHAPE_ROUND_TRIP;
            break;
        case BYTES:
            if (!bytes_parse(&plan, optarg))
                return usage(stderr);
            break;
        case CPUS:
            two(optarg, pair);
            for (int i = 0; i < 2; i++)
                plan.cpu[i] = (int)number(pair[i], 0, CPU_SETSIZE - 1);
            break;
        case ONLY:
            snprintf(only, sizeof only, ",%s,", optarg);
            plan.only = only;
            break;
        case ROUNDS:
            plan.rounds = (unsigned)number(optarg, 1, 1000);
            break;
        case BATCHES:
            plan.batches = (unsigned)number(optarg, 1, BATCHES_MAX);
            break;
        case BATCH_US:
            plan.batch_ns = 1000 * (int64_t)number(optarg, 1, 10000000);
            break;
        case REMOTE:
            plan.place = PLACE_REMOTE;
            plan.settings.address = optarg;
            break;
        case NETNS:
            two(optarg, plan.netns);
            break;
        case DVKD:
            two(optarg, plan.settings.socket);
            break;
        case DC:
            plan.settings.dc = (uint32_t)number(optarg, 0, UINT32_MAX);
            break;
        case QUICK:
            plan.rounds = 1;
            plan.batches = 3;
            plan.batch_ns = 50000;
            milliseconds = 20;
            break;
        case MS:
            milliseconds = (int)number(optarg, 1, 60000);
            break;
        case ZEROS:
            plan.zeros = true;
            break;
        case HELP:
            return usage(stdout);
        default:
            return usage(stderr);
        }
    }
    if (optind + 2 == argc)
        return scale(&plan, argv[optind], argv[optind + 1], milliseconds);
    if (optind != argc)
        return usage(stderr);
    measure(&plan);
    return 0;
}
