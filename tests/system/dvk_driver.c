/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvk_driver SOCKET DC: a process of libdvk that does what it is told, for tests of the primitives. One command a line
 * on standard input: a name and numbers (0x... or decimal); one line of numbers comes back, the first of which is the
 * call's result. Received requests are called by handles, the lowest that is free.
 */
#include <dvk/group.h>
#include <dvk/post.h>
#include <dvk/primitives.h>
#include <dvk/privilege.h>
#include <dvk/service.h>
#include <dvk/stats.h>
#include <dvk/vcopy.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES 1024
#define DATA_MAX DVK_DATA_MAX

static struct dvk *dvk;
static uint32_t dc;
static struct dvk_request *held[HANDLES];
static unsigned held_count;
static bool cancelled[HANDLES];
static uint8_t data[DATA_MAX], reply_data[DATA_MAX];

struct completion {
    uint64_t asked; /* the call's word */
    int status, reply_status;
    uint64_t word, source, sum;
};
static struct completion completions[HANDLES];
static unsigned completed, told;

static uint64_t sum(const void *bytes, size_t len) {
    uint64_t total = len;
    for (size_t i = 0; i < len; i++)
        total = total * 31 + ((const uint8_t *)bytes)[i];
    return total;
}

static const void *pattern(uint64_t seed, uint64_t len) {
    for (uint64_t i = 0; i < len; i++)
        data[i] = (uint8_t)(seed + i * 7);
    return data;
}

static void done(void *context, int status, const struct dvk_message *reply, const void *bytes, size_t len,
                 const int *fds, unsigned fd_count) {
    (void)fds, (void)fd_count;
    if (completed < HANDLES)
        completions[completed++] = (struct completion){(uintptr_t)context, status, reply->status, reply->payload.words[0], reply->source,
                                                       sum(bytes, len)};
    dvk_wake(dvk); /* do_done waits for it */
}

static void on_cancel(void *context, struct dvk_request *req) {
    (void)context;
    if (req->user_key < HANDLES)
        cancelled[req->user_key] = true;
}

static void show_received(int error, struct dvk_request *req) {
    unsigned handle = 0;
    while (handle < held_count && held[handle])
        handle++;
    if (error < 0 || handle == HANDLES) {
        printf("%d\n", error < 0 ? error : -1);
        return;
    }
    if (handle == held_count)
        held_count++;
    req->user_key = handle;
    held[handle] = req;
    cancelled[handle] = false;
    printf("0 %u %" PRIu64 " %u %" PRIu64 " %" PRIu64 " %d %" PRIu64 " %u\n", handle, req->msg.source,
           req->msg.type, req->msg.notify, req->msg.payload.words[0], req->wants_reply,
           sum(req->data, req->msg.data_len), req->source_node);
}

static struct dvk_request *take(uint64_t handle) {
    if (handle >= held_count || !held[handle]) {
        printf("-1\n");
        return NULL;
    }
    struct dvk_request *req = held[handle];
    held[handle] = NULL;
    return req;
}

/* ---- commands: a[] are their arguments ---- */

static void do_bind(const uint64_t *a) {
    dvk_endpoint endpoint = DVK_NONE;
    int error = dvk_bind(dvk, dc, (uint32_t)a[0], &endpoint);
    printf("%d %" PRIu64 "\n", error, endpoint);
}
static void do_unbind(const uint64_t *a) {
    printf("%d\n", dvk_unbind(dvk, a[0]));
}
/* Repeated where only a completion (done) has ended it. */
#define UNINTERRUPTED(call)                                                                                            \
    int error;                                                                                                         \
    do                                                                                                                 \
        error = call;                                                                                                  \
    while (error == -DVK_EINTERRUPTED)

#define UNINTERRUPTED_RECEIVE(req, error)                                                                              \
    do                                                                                                                 \
        error = dvk_receive(dvk, &(req), -1);                                                                          \
    while (error == -DVK_EINTERRUPTED)

static void do_receive(const uint64_t *a) {
    struct dvk_request *req;
    UNINTERRUPTED(dvk_receive(dvk, &req, (int)a[0]));
    show_received(error, req);
}
static void do_receive_from(const uint64_t *a) {
    struct dvk_request *req;
    UNINTERRUPTED(dvk_receive_from(dvk, a[0], a[1], &req, (int)a[2]));
    show_received(error, req);
}
static void do_receive_request(const uint64_t *a) {
    struct dvk_request *req;
    UNINTERRUPTED(dvk_receive_request(dvk, a[0], a[1], &req, (int)a[2]));
    show_received(error, req);
}
/* handle, status, word, data length */
static void do_reply(const uint64_t *a) {
    struct dvk_request *req = take(a[0]);
    if (!req)
        return;
    struct dvk_message reply = {.status = (int32_t)a[1], .data_len = (uint32_t)a[3]};
    reply.payload.words[0] = a[2];
    if (a[3])
        memcpy(req->reply_data, pattern(a[2], a[3]), a[3]);
    dvk_reply(dvk, req, &reply, NULL, 0);
    printf("0\n");
}
static void do_relay(const uint64_t *a) {
    struct dvk_request *req = a[0] < held_count ? held[a[0]] : NULL;
    int error = req ? dvk_relay(dvk, req, a[1]) : -1;
    if (error == 0)
        held[a[0]] = NULL;
    printf("%d\n", error);
}
static void do_release(const uint64_t *a) {
    struct dvk_request *req = take(a[0]);
    if (!req)
        return;
    dvk_release(dvk, req);
    printf("0\n");
}
static void do_cancelled(const uint64_t *a) {
    printf("0 %d\n", a[0] < HANDLES && cancelled[a[0]]);
}
static struct dvk_message message_of(const uint64_t *a) {
    struct dvk_message message = {.destination = a[1], .type = (uint32_t)a[2]};
    message.payload.words[0] = a[3];
    return message;
}
/* from, to, type, word, data length, timeout */
static void do_sendrec(const uint64_t *a) {
    struct dvk_message message = message_of(a);
    size_t len = 0;
    int error = dvk_sendrec(dvk, a[0], &message, pattern(a[3], a[4]), a[4], reply_data, sizeof reply_data, &len,
                            (int)a[5]);
    printf("%d %d %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", error, message.status, message.payload.words[0],
           message.source, error ? 0 : sum(reply_data, len));
}
static void do_send(const uint64_t *a) {
    struct dvk_message message = message_of(a);
    printf("%d\n", dvk_send(dvk, a[0], &message, pattern(a[3], a[4]), a[4], (int)a[5]));
}
static void do_notify(const uint64_t *a) {
    printf("%d\n", dvk_notify(dvk, a[0], a[1], a[2]));
}
/* from, to, type, word, data length */
static void do_call(const uint64_t *a) {
    struct dvk_message message = message_of(a);
    uint64_t id = 0;
    int error = dvk_call(dvk, a[0], &message, pattern(a[3], a[4]), a[4], NULL, 0, done, (void *)(uintptr_t)a[3], &id);
    printf("%d %" PRIu64 "\n", error, id);
}
static void do_cancel(const uint64_t *a) {
    printf("%d\n", dvk_cancel(dvk, a[0]));
}
/* The next completion of a call; waits for it. */
static void do_done(const uint64_t *a) {
    struct dvk_request *req;
    (void)a;
    while (told == completed) {
        int error = dvk_receive(dvk, &req, -1);
        if (error != -DVK_EINTERRUPTED) { /* nobody said that a message may come meanwhile */
            printf("%d\n", error < 0 ? error : -1);
            return;
        }
    }
    const struct completion *c = &completions[told++];
    printf("%d %d %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c->status, c->reply_status, c->word, c->source, c->sum);
}
/* Those that there were since the last time: how many, and of each the call's word, status, reply's status, word, source. */
static void do_completions(const uint64_t *a) {
    (void)a;
    printf("0 %u", completed - told);
    for (; told < completed; told++) {
        const struct completion *c = &completions[told];
        printf(" %" PRIu64 " %d %d %" PRIu64 " %" PRIu64, c->asked, c->status, c->reply_status, c->word, c->source);
    }
    completed = told = 0;
    printf("\n");
}
/* from, endpoint, timeout */
static void do_wait_bind(const uint64_t *a) {
    dvk_endpoint endpoint = DVK_NONE;
    int error = dvk_wait_bind(dvk, a[0], a[1], &endpoint, (int)a[2]);
    printf("%d %" PRIu64 "\n", error, endpoint);
}
static void do_wait_unbind(const uint64_t *a) {
    printf("%d\n", dvk_wait_unbind(dvk, a[0], a[1], (int)a[2]));
}
static void do_info(const uint64_t *a) {
    struct dvk_endpoint_info info = {0};
    int error = dvk_info_endpoint(dvk, a[0], a[1], &info);
    printf("%d %" PRIu64 " %u %u\n", error, info.endpoint, info.dc, info.node);
}
static void do_sum(const uint64_t *a) {
    printf("0 %" PRIu64 "\n", sum(pattern(a[0], a[1]), a[1]));
}
/* from, to, type, word, data length, timeout */
static void do_post(const uint64_t *a) {
    struct dvk_message message = message_of(a);
    printf("%d\n", dvk_post(dvk, a[0], &message, pattern(a[3], a[4]), a[4], (int)a[5]));
}
/* What is under way, then what was counted, in the order of dvk/stats.h. */
static void show_stats(const struct dvk_stats_now *now, const struct dvk_stats *total) {
    const uint64_t *const parts[] = {(const uint64_t *)now, (const uint64_t *)total};
    const size_t words[] = {sizeof *now / sizeof(uint64_t), sizeof *total / sizeof(uint64_t)};
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; i < words[part]; i++)
            printf(" %" PRIu64, parts[part][i]);
    printf("\n");
}
/* from, endpoint */
static void do_stats(const uint64_t *a) {
    struct dvk_endpoint_stats stats = {.size = sizeof stats};
    int error = dvk_stats_endpoint(dvk, a[0], a[1], &stats);
    printf("%d %u %u %" PRIu64 " %d", error, stats.node, stats.flags, stats.endpoint, stats.pid);
    show_stats(&stats.now, &stats.total);
}
/* from, node */
static void do_stats_dc(const uint64_t *a) {
    struct dvk_dc_stats stats = {.size = sizeof stats};
    int error = dvk_stats_dc(dvk, a[0], (uint32_t)a[1], &stats);
    printf("%d %u %u %" PRIu64 " %" PRIu64, error, stats.nodes, stats.missing, stats.endpoints, stats.binds);
    show_stats(&stats.now, &stats.total);
}
static void do_stats_node(const uint64_t *a) {
    struct dvk_node_stats stats = {.size = sizeof stats};
    int error = dvk_stats_node(dvk, a[0], (uint32_t)a[1], &stats);
    printf("%d %u %" PRIu64 " %" PRIu64 " %" PRIu64, error, stats.node, stats.endpoints, stats.binds, stats.packets_in);
    show_stats(&stats.now, &stats.total);
}
/* DC: kind, sets, how many of them are free, endpoints here, and of each node: id, is it up, sets. */
static void do_info_dc(const uint64_t *a) {
    struct dvk_dc_info info = {.size = sizeof info};
    struct dvk_dc_node nodes[8];
    int count = dvk_info_dc(dvk, (uint32_t)a[0], &info, nodes, 8);
    printf("%d %u %u %u %" PRIu64, count, info.kind, info.sets, info.sets_free, info.endpoints);
    for (int i = 0; i < count && i < 8; i++)
        printf(" %u %u %u", nodes[i].node, nodes[i].up, nodes[i].sets);
    printf("\n");
}

/* ---- privileges ---- */

/* from, whose */
static void do_privileges(const uint64_t *a) {
    struct dvk_privileges now = {0};
    int error = dvk_get_privileges(dvk, a[0], a[1], &now, 10000);
    printf("%d %u %u %u %u %u\n", error, now.calls, now.to.flags, now.to.count, now.from.flags, now.from.count);
}
static struct dvk_peers peers_of(const uint64_t *a) {
    return (struct dvk_peers){.flags = (uint32_t)a[0], .count = a[1] != 0, .ranges = {{a[1], a[2]}}};
}
/* from, whose, calls, flags, first and last of whom it may address, the same of its sources */
static void do_set_privileges(const uint64_t *a) {
    struct dvk_privileges wanted = {.calls = (uint32_t)a[2], .to = peers_of(a + 3), .from = peers_of(a + 6)};
    printf("%d\n", dvk_set_privileges(dvk, a[0], a[1], &wanted, 10000));
}
/* owner, grantee */
static void do_grant(const uint64_t *a) {
    uint64_t grant = 0;
    int error = dvk_grant(dvk, a[0], a[1], data, sizeof data, DVK_GRANT_READ, &grant);
    printf("%d %" PRIu64 "\n", error, grant);
}
/* requester, owner, grant */
static void do_vcopy(const uint64_t *a) {
    struct dvk_area from = {a[1], a[2], 0}, to = {a[0], DVK_GRANT_OWN, (uintptr_t)reply_data};
    printf("%d\n", dvk_vcopy(dvk, a[0], &from, &to, sizeof reply_data, 10000, NULL));
}
static void do_join(const uint64_t *a) {
    uint64_t group = 0;
    int error = dvk_group_join(dvk, a[0], "privileges", &group, 10000);
    if (error == 0)
        error = dvk_group_leave(dvk, group, 10000);
    printf("%d\n", error);
}
static void do_put(const uint64_t *a) {
    printf("%d\n", dvk_kv_put(dvk, a[0], "privileges", "x", 1, NULL, 10000));
}
/* Answer requests until one of that type comes, which is answered, too. How many came before it. */
static void do_serve(const uint64_t *a) {
    struct dvk_request *req;
    int error;
    unsigned count = 0;
    for (bool last = false; !last;) {
        UNINTERRUPTED_RECEIVE(req, error);
        if (error < 0)
            break;
        last = req->msg.type == a[0];
        count += !last;
        if (req->wants_reply)
            dvk_reply_status(dvk, req, 0);
        else
            dvk_release(dvk, req);
    }
    printf("%d %u\n", error, count);
}
/* from, to, count: sendrecs, of type 1. How many were answered, not allowed, or ended otherwise. */
static void do_storm(const uint64_t *a) {
    unsigned answered = 0, refused = 0, others = 0;
    for (uint64_t i = 0; i < a[2]; i++) {
        struct dvk_message message = {.destination = a[1], .type = 1};
        int error = dvk_sendrec(dvk, a[0], &message, NULL, 0, NULL, 0, NULL, 10000);
        answered += error == 0;
        refused += error == -DVK_ENOTALLOWED;
        others += error != 0 && error != -DVK_ENOTALLOWED;
    }
    printf("0 %u %u %u\n", answered, refused, others);
}

static const struct {
    const char *name;
    int arguments;
    void (*run)(const uint64_t *arguments);
} commands[] = {
    {"bind", 1, do_bind},           {"unbind", 1, do_unbind},
    {"receive", 1, do_receive},     {"receive_from", 3, do_receive_from},
    {"receive_request", 3, do_receive_request},
    {"reply", 4, do_reply},         {"release", 1, do_release},
    {"relay", 2, do_relay},
    {"cancelled", 1, do_cancelled}, {"sendrec", 6, do_sendrec},
    {"send", 6, do_send},           {"notify", 3, do_notify},
    {"call", 5, do_call},           {"cancel", 1, do_cancel},
    {"done", 0, do_done},           {"wait_bind", 3, do_wait_bind},
    {"wait_unbind", 3, do_wait_unbind}, {"sum", 2, do_sum},
    {"info", 2, do_info},           {"post", 6, do_post},
    {"stats", 2, do_stats},         {"stats_dc", 2, do_stats_dc},
    {"stats_node", 2, do_stats_node}, {"info_dc", 1, do_info_dc},
    {"completions", 0, do_completions},
    {"privileges", 2, do_privileges}, {"set_privileges", 9, do_set_privileges},
    {"grant", 2, do_grant},
    {"vcopy", 3, do_vcopy},         {"join", 1, do_join},
    {"put", 1, do_put},             {"serve", 1, do_serve},
    {"storm", 3, do_storm},
};

static void obey(char *line) {
    char *next, *name = strtok_r(line, " \n", &next);
    uint64_t arguments[12] = {0};
    int count = 0;
    for (char *word; name && count < 12 && (word = strtok_r(NULL, " \n", &next)); count++)
        arguments[count] = word[0] == '-' ? (uint64_t)strtoll(word, NULL, 0) : strtoull(word, NULL, 0);
    for (size_t i = 0; name && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0 && commands[i].arguments == count) {
            commands[i].run(arguments);
            return;
        }
    printf("-1 what is %s with %d arguments\n", name ? name : "nothing", count);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: dvk_driver SOCKET DC\n");
        return 2;
    }
    dc = (uint32_t)strtoul(argv[2], NULL, 10);
    int error = dvk_open(argv[1], &dvk);
    if (error < 0) {
        fprintf(stderr, "dvk_driver: %s: %s\n", argv[1], dvk_strerror(error));
        return 1;
    }
    dvk_on_cancel(dvk, on_cancel, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[512];
    while (fgets(line, sizeof line, stdin))
        obey(line);
    dvk_close(dvk);
    return 0;
}
