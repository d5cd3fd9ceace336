/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A counter and its clients, to see whether calls are done once each while things fail around them.
 *
 *   dvs-counter server LOG NUMBER DC                             serve until killed
 *   dvs-counter client LOG NUMBER DC NODE INDEX DEPTH PAUSE_US   call the server on node NODE until killed; NODE 0xENDPOINT: that one
 *   dvs-counter first LOG NUMBER DC                              serve at any user slot, move when told to (below); until killed
 *   dvs-counter backup|replica LOG NUMBER DC 0xENDPOINT STATE    stand by for it; serve once promoted, with what STATE holds, if there
 *                                                                is such a file; then as first
 *
 * "NODE STATE" on the standard input of the last two: write what is counted into STATE, move to the backup on that node, and end.
 *
 * The node is that of $DVS_SOCKET. A server counts each call once and writes it down before it answers. A client numbers
 * its calls, never makes one twice, and writes down how each ended. DEPTH 0: dvk_sendrec; else so many dvk_calls
 * at once. Both bind again when dvkd went away. Exit code 1: something that should not be, told on standard error.
 */
#include "counter.h"

#include <dvk/dvk.h>
#include <dvk/migrate.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 32u
#define RETRY_MS 50
#define WAIT_MS 30000 /* no wait may be so long, whatever fails */
#define MOVE_MS 20000 /* for each step of a move */

struct counter {
    struct dvk *dvk;
    dvk_endpoint self;
    int log;
    uint64_t number;
    uint32_t dc, slot_service;
    bool cut; /* our node has lost its quorum, and we our endpoint */
    const char *state; /* of a backup: where it finds what was counted */
    uint32_t move_to;  /* not 0: the node to move to */
    char move_state[256];
};

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static _Noreturn void fail(const char *what, int error) {
    fprintf(stderr, "dvs-counter: %s: %s\n", what, dvk_strerror(error));
    exit(1);
}

static void line_write(const struct counter *counter, const struct counter_line *line) {
    if (write(counter->log, line, sizeof *line) != (ssize_t)sizeof *line)
        fail("cannot write the log", -errno);
}

static void wrong(const struct counter *counter, int what, const struct counter_call *call) {
    struct counter_line line = {.kind = COUNTER_WRONG, .status = what, .client = call->client,
                                .sequence = call->sequence, .server = call->server, .value = call->value,
                                .start_ns = now_ns(), .end_ns = now_ns()};
    line_write(counter, &line);
}

static void promoted(struct counter *counter, dvk_endpoint endpoint);

static void on_event(void *context, const struct dvk_event *event) {
    struct counter *counter = context;
    /* an int, since not all are of every caller's */
    switch ((int)event->type) {
    case DVK_EVENT_DC_GONE:
        counter->cut = true;
        dvk_wake(counter->dvk); /* so that dvk_receive returns */
        break;
    case DVK_EVENT_PROMOTED:
        promoted(counter, event->endpoint);
        break;
    case DVK_EVENT_BACKUP_GONE:
        fail("what it stood by for", -DVK_EDEADDST);
    default:
        break;
    }
}

static void bound(const struct counter *counter, int status) {
    struct counter_line line = {.kind = COUNTER_BOUND, .status = status, .client = counter->number, .server = counter->self,
                                .start_ns = now_ns(), .end_ns = now_ns()};
    line_write(counter, &line);
}

/* Bind, as often as it takes: dvkd may be gone, the container not known yet. */
static void bind_again(struct counter *counter) {
    struct timespec pause = {.tv_nsec = RETRY_MS * 1000000l};
    dvk_close(counter->dvk);
    counter->dvk = NULL;
    for (;;) {
        int error = dvk_open(NULL, &counter->dvk);
        counter->cut = false;
        if (error == 0)
            dvk_on_event(counter->dvk, on_event, counter);
        if (error == 0)
            error = dvk_bind(counter->dvk, counter->dc, dvk_system_slot(dvk_node(counter->dvk), counter->slot_service),
                             &counter->self);
        if (error == 0)
            break;
        dvk_close(counter->dvk);
        counter->dvk = NULL;
        if (error == -EINVAL || error == -DVK_EVERSION || error == -DVK_ENOTALLOWED)
            fail("cannot bind", error);
        nanosleep(&pause, NULL);
    }
    bound(counter, 0);
}

/* ---- data: what a call carries is made from its number, so that both sides can tell damage ---- */

static uint32_t mix(uint64_t x) {
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    return (uint32_t)(x * 0xbf58476d1ce4e5b9ull >> 32);
}

static size_t data_fill(uint8_t *data, uint64_t client, uint64_t sequence, uint64_t *sum) {
    uint32_t r = mix(client << 32 ^ sequence);
    size_t len = r % 4 ? 0 : r % 64 == 0 ? DVK_DATA_MAX - r % 7 : (r >> 8) % 5000;
    *sum = 0;
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)(r + i * 7 + (i >> 8));
        *sum = *sum * 31 + data[i];
    }
    return len;
}

static uint64_t data_sum(const uint8_t *data, size_t len) {
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + data[i];
    return sum;
}

/* ---- server ---- */

struct served {
    uint64_t client, last;
};

/* What moves with the endpoint. */
static struct counted {
    uint64_t value;
    size_t count;
    struct served served[COUNTER_CLIENTS_MAX * 64];
} counted;

static struct served *served_find(uint64_t client) {
    for (size_t i = 0; i < counted.count; i++)
        if (counted.served[i].client == client)
            return &counted.served[i];
    if (counted.count == sizeof counted.served / sizeof *counted.served)
        fail("more clients than there can be", -ENOMEM);
    counted.served[counted.count] = (struct served){.client = client};
    return &counted.served[counted.count++];
}

static void serve(struct counter *counter, struct dvk_request *req) {
    static uint8_t copy[DVK_DATA_MAX];
    struct counter_call call;
    memcpy(&call, &req->msg.payload, sizeof call);
    if (req->msg.type != COUNTER_TYPE || !req->wants_reply) {
        wrong(counter, COUNTER_UNKNOWN, &call);
        if (req->wants_reply)
            dvk_reply_status(counter->dvk, req, -EINVAL);
        else
            dvk_release(counter->dvk, req);
        return;
    }
    memcpy(copy, req->data, req->msg.data_len);
    if (data_sum(copy, req->msg.data_len) != call.sum)
        wrong(counter, COUNTER_DAMAGED, &call);
    if (req->source_node != call.client >> 32)
        wrong(counter, COUNTER_NODE, &call);
    struct served *served = served_find(call.client);
    if (call.sequence <= served->last)
        wrong(counter, COUNTER_REPEATED, &call);
    served->last = call.sequence;
    call.server = counter->number;
    call.value = ++counted.value;
    struct counter_line line = {.kind = COUNTER_DONE, .client = call.client, .sequence = call.sequence,
                                .server = call.server, .value = call.value, .start_ns = now_ns(), .end_ns = now_ns()};
    line_write(counter, &line);
    struct dvk_message reply = {.data_len = req->msg.data_len};
    memcpy(&reply.payload, &call, sizeof call);
    memcpy(req->reply_data, copy, req->msg.data_len);
    dvk_reply(counter->dvk, req, &reply, NULL, 0);
}

/* ---- a server that moves ---- */

static void counted_write(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, &counted, sizeof counted) != (ssize_t)sizeof counted || close(fd) < 0)
        fail(path, -errno);
}

/* Before anything that is for the endpoint is handed out. */
static void promoted(struct counter *counter, dvk_endpoint endpoint) {
    int fd = open(counter->state, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, &counted, sizeof counted) != (ssize_t)sizeof counted)
        fail(counter->state, -EIO);
    if (fd >= 0)
        close(fd);
    counter->self = endpoint;
    bound(counter, 0);
}

/* All that came before it is served: each request is answered at once, so none has to go along. */
static _Noreturn void move(struct counter *counter) {
    struct dvk_request *req;
    int error = dvk_migrate_start(counter->dvk, counter->self, counter->move_to, MOVE_MS);
    if (error < 0)
        fail("dvk_migrate_start", error);
    do {
        while ((error = dvk_receive(counter->dvk, &req, 0)) == 0)
            serve(counter, req);
        counted_write(counter->move_state);
        error = dvk_migrate_commit(counter->dvk, counter->self, MOVE_MS);
    } while (error == -DVK_ENOTCARRIED);
    if (error < 0)
        fail("dvk_migrate_commit", error);
    dvk_close(counter->dvk);
    exit(0);
}

static void on_command(void *context, int fd, uint32_t events) {
    struct counter *counter = context;
    char line[300];
    (void)events;
    ssize_t n = read(fd, line, sizeof line - 1); /* a line is written at once */
    if (n <= 0)
        exit(0);
    line[n] = 0;
    if (sscanf(line, "%u %255s", &counter->move_to, counter->move_state) != 2)
        fail("standard input makes no sense", -EINVAL);
    dvk_wake(counter->dvk);
}

static _Noreturn void mover(struct counter *counter, const char *what, const char *endpoint) {
    int error = dvk_open(NULL, &counter->dvk);
    if (error < 0)
        fail("dvk_open", error);
    dvk_on_event(counter->dvk, on_event, counter);
    if (!endpoint) {
        error = dvk_bind(counter->dvk, counter->dc, DVK_SLOT_ANY, &counter->self);
    } else {
        dvk_endpoint other = strtoull(endpoint, NULL, 16);
        error = strcmp(what, "replica") == 0 ? dvk_bind_replica(counter->dvk, counter->dc, other, MOVE_MS)
                                             : dvk_bind_backup(counter->dvk, counter->dc, other, MOVE_MS);
    }
    if (error == 0)
        error = dvk_watch_fd(counter->dvk, 0, EPOLLIN, on_command, counter);
    if (error < 0)
        fail(what, error);
    bound(counter, endpoint ? 1 : 0);
    for (;;) {
        struct dvk_request *req;
        error = dvk_receive(counter->dvk, &req, -1);
        if (error == 0)
            serve(counter, req);
        else if (error != -DVK_EINTERRUPTED)
            fail("dvk_receive", error);
        if (counter->move_to)
            move(counter);
    }
}

static _Noreturn void server(struct counter *counter) {
    counter->slot_service = COUNTER_SERVICE;
    bind_again(counter);
    for (;;) {
        struct dvk_request *req;
        int error = dvk_receive(counter->dvk, &req, -1);
        if (error == 0)
            serve(counter, req);
        else if (error == -DVK_ENODAEMON || counter->cut)
            bind_again(counter);
        else
            fail("dvk_receive", error);
    }
}

/* ---- client ---- */

struct call {
    struct client *client;
    struct counter_call sent;
    int64_t start_ns; /* 0: free */
};

struct client {
    struct counter counter;
    dvk_endpoint server;
    uint64_t last;
    unsigned depth, busy;
    struct timespec pause;
    struct call calls[DEPTH_MAX];
};

static void call_end(struct client *client, const struct counter_call *sent, int64_t start_ns, int status,
                     const struct dvk_message *reply, const void *data, size_t data_len) {
    struct counter_call got = *sent;
    if (status == 0 && reply->status < 0)
        status = reply->status;
    if (status == 0) {
        memcpy(&got, &reply->payload, sizeof got);
        if (got.client != sent->client || got.sequence != sent->sequence)
            wrong(&client->counter, COUNTER_STRANGE, &got);
        else if (data_sum(data, data_len) != sent->sum)
            wrong(&client->counter, COUNTER_DAMAGED, &got);
    }
    struct counter_line line = {.kind = COUNTER_DONE, .status = status, .client = sent->client,
                                .sequence = sent->sequence, .server = status ? 0 : got.server,
                                .value = status ? 0 : got.value, .start_ns = start_ns, .end_ns = now_ns()};
    line_write(&client->counter, &line);
}

static struct dvk_message call_make(struct client *client, struct counter_call *call, uint8_t *data, size_t *len) {
    *call = (struct counter_call){.client = client->counter.number, .sequence = ++client->last};
    *len = data_fill(data, call->client, call->sequence, &call->sum);
    struct dvk_message message = {.destination = client->server, .type = COUNTER_TYPE, .data_len = (uint32_t)*len};
    memcpy(&message.payload, call, sizeof *call);
    return message;
}

/* Events and completions are told of in dvk_receive only. */
static int turn(struct client *client, int timeout_ms) {
    struct dvk_request *req;
    int error = dvk_receive(client->counter.dvk, &req, timeout_ms);
    if (error == 0)
        fail("somebody calls a client", -DVK_ENOTALLOWED);
    return error == -DVK_ETIMEDOUT || error == -DVK_EINTERRUPTED ? 0 : error;
}

static int call_wait(struct client *client) {
    static uint8_t data[DVK_DATA_MAX], answer[DVK_DATA_MAX];
    struct counter_call call;
    size_t len, answer_len = 0;
    struct dvk_message message = call_make(client, &call, data, &len);
    int64_t start_ns = now_ns();
    int status = dvk_sendrec(client->counter.dvk, client->counter.self, &message, data, len, answer, sizeof answer,
                             &answer_len, WAIT_MS);
    call_end(client, &call, start_ns, status, &message, answer, answer_len);
    return status < 0 ? turn(client, 0) : 0;
}

static void call_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                      const int *fds, unsigned fd_count) {
    struct call *call = context;
    call_end(call->client, &call->sent, call->start_ns, status, reply, data, data_len);
    call->start_ns = 0;
    call->client->busy--;
}

/* Keep `depth` calls under way. */
static int calls_turn(struct client *client) {
    static uint8_t data[DVK_DATA_MAX];
    int64_t now = now_ns();
    for (unsigned i = 0; i < client->depth; i++) {
        struct call *call = &client->calls[i];
        if (call->start_ns) {
            if (now - call->start_ns < WAIT_MS * 1000000ll)
                continue;
            call_end(client, &call->sent, call->start_ns, -DVK_ETIMEDOUT, NULL, NULL, 0);
            fail("a call never ended", -DVK_ETIMEDOUT);
        }
        size_t len;
        struct dvk_message message = call_make(client, &call->sent, data, &len);
        call->client = client;
        call->start_ns = now;
        client->busy++;
        int error = dvk_call(client->counter.dvk, client->counter.self, &message, data, len, NULL, 0, call_done, call,
                             NULL);
        if (error < 0) {
            call_done(call, error, &(struct dvk_message){0}, NULL, 0, NULL, 0);
            return error;
        }
    }
    return turn(client, client->busy == client->depth ? 100 : 0);
}

static _Noreturn void client_run(struct client *client) {
    bind_again(&client->counter);
    for (;;) {
        int error = client->depth ? calls_turn(client) : call_wait(client);
        if (error == -DVK_ENODAEMON || client->counter.cut)
            bind_again(&client->counter); /* which ends what is under way */
        nanosleep(&client->pause, NULL);
    }
}

int main(int argc, char **argv) {
    static struct client client;
    bool serves = argc == 5 && strcmp(argv[1], "server") == 0, moves = argc == 5 && strcmp(argv[1], "first") == 0;
    bool stands_by = argc == 7 && (strcmp(argv[1], "backup") == 0 || strcmp(argv[1], "replica") == 0);
    if (!serves && !moves && !stands_by && !(argc == 9 && strcmp(argv[1], "client") == 0)) {
        fprintf(stderr, "usage: dvs-counter server|first LOG NUMBER DC | backup|replica LOG NUMBER DC 0xENDPOINT STATE |\n"
                        "                   client LOG NUMBER DC NODE|0xENDPOINT INDEX DEPTH PAUSE_US\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct counter *counter = &client.counter;
    counter->log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (counter->log < 0)
        fail(argv[2], -errno);
    counter->number = strtoull(argv[3], NULL, 10);
    counter->dc = (uint32_t)strtoul(argv[4], NULL, 10);
    if (serves)
        server(counter);
    counter->state = stands_by ? argv[6] : NULL;
    if (moves || stands_by)
        mover(counter, argv[1], stands_by ? argv[5] : NULL);
    uint32_t index = (uint32_t)strtoul(argv[6], NULL, 10);
    unsigned long pause_us = strtoul(argv[8], NULL, 10);
    client.depth = (unsigned)strtoul(argv[7], NULL, 10);
    if (index >= COUNTER_CLIENTS_MAX || client.depth > DEPTH_MAX)
        fail("INDEX or DEPTH is too large", -EINVAL);
    counter->slot_service = COUNTER_CLIENT + index;
    client.server = strncmp(argv[5], "0x", 2) == 0
                        ? strtoull(argv[5], NULL, 16)
                        : dvk_service_endpoint((uint32_t)strtoul(argv[5], NULL, 10), COUNTER_SERVICE);
    client.pause = (struct timespec){.tv_sec = (time_t)(pause_us / 1000000), .tv_nsec = (long)(pause_us % 1000000) * 1000};
    client_run(&client);
}
