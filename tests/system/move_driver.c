/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move_driver: a server that counts, and moves from process to process, and the clients that check it.
 *
 *   move_driver SOCKET DC server            obeys lines on standard input (below), answers each by one, serves meanwhile
 *   move_driver SOCKET DC client ENDPOINT ID SEED MILLISECONDS KINDS
 *       sends numbered messages of random kinds (letters of KINDS: r sendrec, c call, h call that the server answers late, s send,
 *       p post, d post with data, l loan, n notify), then prints: sent received violations errors first-error
 *
 * Every numbered message of a client must arrive once and in order, wherever the server is: it counts what does not.
 */
#include <dvk/loan.h>
#include <dvk/migrate.h>
#include <dvk/post.h>
#include <dvk/primitives.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 16
#define HELD 64

enum { NUMBERED = 1, QUERY = 2, LATE = 3 };

static struct dvk *dvk;
static uint32_t dc;

/* ---- server ---- */

/* What moves. */
static struct state {
    uint64_t total, violations, last[CLIENTS], bits[CLIENTS];
    uint64_t held[HELD]; /* keys of requests that are to be answered late: client << 32 | number; 0: none */
} state;

static struct dvk_request *held[HELD];
static dvk_endpoint served;
static bool has_line, serving_late, frozen, gone;
static uint64_t promoted, ended;

static bool data_is_right(const struct dvk_request *req, uint64_t number) {
    const uint8_t *bytes = req->data;
    for (uint32_t i = 0; i < req->msg.data_len; i += 997)
        if (bytes[i] != (uint8_t)(number + i))
            return false;
    return req->msg.data_len == req->msg.payload.words[2];
}

static void answer(struct dvk_request *req, uint64_t value) {
    struct dvk_message reply = {.status = 0};
    reply.payload.words[0] = value;
    dvk_reply(dvk, req, &reply, NULL, 0);
}

static void answer_late(void *context) {
    (void)context;
    serving_late = false;
    if (frozen) /* the state is on its way */
        return;
    for (int i = 0; i < HELD; i++)
        if (held[i]) {
            struct dvk_request *req = held[i];
            held[i] = NULL;
            answer(req, state.held[i] & UINT32_MAX);
            state.held[i] = 0;
        }
}

static void go_on(void) {
    frozen = false;
    if (!serving_late)
        serving_late = dvk_timer(dvk, 15, answer_late, NULL, NULL) == 0;
}

static void hold(struct dvk_request *req, uint64_t key, bool resumed) {
    for (int i = 0; i < HELD; i++)
        if (resumed ? state.held[i] == key : state.held[i] == 0) {
            state.held[i] = key;
            held[i] = req;
            if (!serving_late)
                serving_late = dvk_timer(dvk, 15, answer_late, NULL, NULL) == 0;
            return;
        }
    state.violations++;
    answer(req, 0);
}

static void query(struct dvk_request *req, uint64_t client) {
    struct dvk_message reply = {.status = 0};
    reply.payload.words[0] = state.last[client];
    reply.payload.words[1] = state.violations;
    reply.payload.words[2] = state.bits[client];
    reply.payload.words[3] = state.total;
    if (req->msg.payload.words[1])
        state.bits[client] = 0;
    dvk_reply(dvk, req, &reply, NULL, 0);
}

static void serve(struct dvk_request *req) {
    uint64_t client = req->msg.payload.words[0] % CLIENTS, number = req->msg.payload.words[1], key;
    if (req->msg.notify) {
        for (uint64_t i = 0; i < CLIENTS; i++) /* a client's notifications hold its id in the lowest bits */
            if ((req->msg.notify & (CLIENTS - 1)) == i)
                state.bits[i] |= req->msg.notify & ~(uint64_t)(CLIENTS - 1);
        dvk_release(dvk, req);
        return;
    }
    if (req->msg.type == QUERY) {
        query(req, client);
        return;
    }
    if (dvk_migrate_resumed(req, &key)) { /* it was counted where it was received */
        hold(req, key, true);
        return;
    }
    state.total++;
    if (number != state.last[client] + 1 || !data_is_right(req, number))
        state.violations++;
    state.last[client] = number;
    if (req->msg.type == LATE)
        hold(req, client << 32 | number, false);
    else if (req->wants_reply)
        answer(req, state.total);
    else
        dvk_release(dvk, req);
}

static void on_event(void *context, const struct dvk_event *event) {
    (void)context;
    if (event->type == DVK_EVENT_PROMOTED) {
        served = event->endpoint;
        promoted++;
    } else if (event->type == DVK_EVENT_BACKUP_GONE || event->type == DVK_EVENT_DC_GONE)
        gone = true;
    else if (event->type == DVK_EVENT_MIGRATE_ENDED) {
        ended++;
        go_on();
    }
}

static void on_line(void *context, int fd, uint32_t events) {
    (void)context, (void)fd, (void)events;
    has_line = true;
    dvk_wake(dvk);
}

/* Begin, receive what is still to be received here, name what is held. */
static void do_freeze(uint64_t node) {
    int error = dvk_migrate_start(dvk, served, (uint32_t)node, 10000);
    frozen = error == 0;
    struct dvk_request *req;
    while (error == 0 && dvk_receive(dvk, &req, 0) == 0)
        serve(req);
    for (int i = 0; i < HELD; i++)
        if (held[i] && dvk_migrate_carry(dvk, held[i], state.held[i]) < 0)
            error = -1;
    printf("%d ", error);
    for (size_t i = 0; i < sizeof state; i++)
        printf("%02x", ((const uint8_t *)&state)[i]);
    printf("\n");
}

static void do_rollback(void) {
    int error = dvk_migrate_rollback(dvk, served, 10000);
    if (error == 0)
        go_on();
    printf("%d\n", error);
}

static void do_take(const char *text) {
    for (size_t i = 0; i < sizeof state && text[0] && text[1]; i++, text += 2) {
        unsigned byte = 0;
        sscanf(text, "%2x", &byte);
        ((uint8_t *)&state)[i] = (uint8_t)byte;
    }
    memset(held, 0, sizeof held);
    printf("0\n");
}

static void do_commit(void) {
    int error = dvk_migrate_commit(dvk, served, 10000);
    if (error == 0) {
        memset(held, 0, sizeof held); /* they are not ours any more */
        frozen = false;
    }
    printf("%d\n", error);
}

static void obey(char *line) {
    char *next, *name = strtok_r(line, " \n", &next), *word = strtok_r(NULL, " \n", &next);
    uint64_t number = word ? strtoull(word, NULL, 0) : 0;
    if (strcmp(name, "bind") == 0) {
        int error = dvk_bind(dvk, dc, (uint32_t)number, &served);
        printf("%d %" PRIu64 "\n", error, served);
    } else if (strcmp(name, "backup") == 0)
        printf("%d\n", dvk_bind_backup(dvk, dc, number, 10000));
    else if (strcmp(name, "replica") == 0)
        printf("%d\n", dvk_bind_replica(dvk, dc, number, 10000));
    else if (strcmp(name, "unbackup") == 0)
        printf("%d\n", dvk_unbind_backup(dvk, dc, number));
    else if (strcmp(name, "unbind") == 0)
        printf("%d\n", dvk_unbind(dvk, number));
    else if (strcmp(name, "freeze") == 0)
        do_freeze(number);
    else if (strcmp(name, "take") == 0)
        do_take(word);
    else if (strcmp(name, "commit") == 0)
        do_commit();
    else if (strcmp(name, "rollback") == 0)
        do_rollback();
    else if (strcmp(name, "state") == 0)
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %d %" PRIu64 "\n", state.total, state.violations, promoted, gone, ended);
    else
        printf("-1 what is %s\n", name);
}

static int server(void) {
    static char line[8192];
    dvk_on_event(dvk, on_event, NULL);
    dvk_accept(dvk, DVK_LOAN_MAX);
    if (dvk_watch_fd(dvk, 0, EPOLLIN, on_line, NULL) < 0)
        return 1;
    for (;;) {
        struct dvk_request *req;
        int error = dvk_receive(dvk, &req, -1);
        if (error == 0)
            serve(req);
        else if (error != -DVK_EINTERRUPTED) { /* its dvkd is gone: what do the calls say? */
            while (fgets(line, sizeof line, stdin))
                obey(line);
            return 1;
        }
        if (!has_line)
            continue;
        has_line = false;
        if (!fgets(line, sizeof line, stdin))
            return 0;
        obey(line);
    }
}

/* ---- client ---- */

static uint64_t sent, wrong, errors;
static int first_error;
static unsigned under_way;

static void failed(int error) {
    errors++;
    if (first_error == 0)
        first_error = error;
}

static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                 unsigned fd_count) {
    (void)data, (void)len, (void)fds, (void)fd_count;
    under_way--;
    if (status < 0)
        failed(status);
    else if (context && reply->payload.words[0] != (uintptr_t)context)
        wrong++;
    dvk_wake(dvk);
}

static void drain(unsigned most) {
    struct dvk_request *req;
    while (under_way > most) {
        int error = dvk_receive(dvk, &req, 6000);
        if (error != -DVK_EINTERRUPTED) {
            failed(error);
            return;
        }
    }
}

static struct dvk_message numbered(dvk_endpoint to, uint64_t id, uint32_t type, uint64_t len) {
    struct dvk_message message = {.destination = to, .type = type};
    message.payload.words[0] = id;
    message.payload.words[1] = ++sent;
    message.payload.words[2] = len;
    return message;
}

static uint8_t bytes[1 << 20];

static void fill(uint8_t *to, uint64_t len) {
    for (uint64_t i = 0; i < len; i++)
        to[i] = (uint8_t)(sent + i);
}

static void query_of(dvk_endpoint from, dvk_endpoint to, uint64_t id, bool clear, struct dvk_message *reply) {
    *reply = (struct dvk_message){.destination = to, .type = QUERY};
    reply->payload.words[0] = id;
    reply->payload.words[1] = clear;
    int error = dvk_sendrec(dvk, from, reply, NULL, 0, NULL, 0, NULL, 6000);
    if (error < 0) {
        failed(error);
        memset(reply, 0, sizeof *reply);
    }
}

/* A bit that the server does not have from us; it must get it. */
static void notify_one(dvk_endpoint from, dvk_endpoint to, uint64_t id, unsigned *bit) {
    struct dvk_message reply;
    uint64_t bits = 1ull << (8 + (*bit)++ % 56);
    int error = dvk_notify(dvk, from, to, bits | id);
    if (error < 0)
        failed(error);
    if (*bit % 56)
        return;
    uint64_t want = ~0ull << 8;
    for (int tries = 0; tries < 1000; tries++) { /* one that is made anew may come after the question */
        query_of(from, to, id, false, &reply);
        if (errors || (reply.payload.words[2] & want) == want)
            break;
    }
    if (!errors && (reply.payload.words[2] & want) != want)
        wrong++;
    query_of(from, to, id, true, &reply);
}

static void one(dvk_endpoint from, dvk_endpoint to, uint64_t id, char kind, unsigned *bit) {
    struct dvk_message message;
    uint64_t len = kind == 'd' ? (uint64_t)random() % 60000 : kind == 'l' ? 70000 + (uint64_t)random() % 900000 : 0;
    void *loan;
    int error = 0;
    if (kind == 'n') {
        notify_one(from, to, id, bit);
        return;
    }
    if (kind == 'c' || kind == 'h')
        drain(20);
    message = numbered(to, id, kind == 'h' ? LATE : NUMBERED, len);
    switch (kind) {
    case 'r':
        error = dvk_sendrec(dvk, from, &message, NULL, 0, NULL, 0, NULL, 6000);
        break;
    case 'c':
    case 'h':
        under_way++;
        error = dvk_call(dvk, from, &message, NULL, 0, NULL, 0, done, kind == 'h' ? (void *)(uintptr_t)sent : NULL, NULL);
        under_way -= error < 0;
        break;
    case 's':
        error = dvk_send(dvk, from, &message, NULL, 0, 6000);
        break;
    case 'p':
        error = dvk_post(dvk, from, &message, NULL, 0, 6000);
        break;
    case 'd':
        fill(bytes, len);
        error = dvk_post(dvk, from, &message, bytes, len, 6000);
        break;
    default:
        if (dvk_loan_get(dvk, from, to, len, 20000, &loan) < 0)
            loan = bytes; /* no run is free: it is copied */
        fill(loan, len);
        error = dvk_send(dvk, from, &message, loan, len, 6000);
    }
    if (error < 0)
        failed(error);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int client(char **argv) {
    dvk_endpoint from, to = strtoull(argv[0], NULL, 0);
    uint64_t id = strtoull(argv[1], NULL, 0);
    const char *kinds = argv[4];
    unsigned bit = 0;
    struct dvk_message reply;
    srandom((unsigned)strtoul(argv[2], NULL, 0));
    if (dvk_bind(dvk, dc, DVK_SLOT_ANY, &from) < 0)
        return 1;
    for (int64_t end = now_ms() + strtol(argv[3], NULL, 0); now_ms() < end && !errors;)
        one(from, to, id, kinds[(size_t)random() % strlen(kinds)], &bit);
    drain(0);
    query_of(from, to, id, false, &reply);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", sent, reply.payload.words[0], reply.payload.words[1] + wrong,
           errors, first_error);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: move_driver SOCKET DC server | client ENDPOINT ID SEED MILLISECONDS KINDS\n");
        return 2;
    }
    dc = (uint32_t)strtoul(argv[2], NULL, 10);
    int error = dvk_open(argv[1], &dvk);
    if (error < 0) {
        fprintf(stderr, "move_driver: %s: %s\n", argv[1], dvk_strerror(error));
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int code = strcmp(argv[3], "server") == 0 ? server() : argc == 9 ? client(argv + 4) : 2;
    dvk_close(dvk);
    return code;
}
