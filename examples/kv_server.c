/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_server DC: a key-value server with a hot backup. The first that is started is the primary; one that is started on
 * another node while there is a primary becomes its backup: it gets all pairs, and then each change before the client is
 * answered. When the primary or its node is lost, the backup goes on as the primary; nothing that was acknowledged is lost.
 *
 *   start --no primary found--> PRIMARY <--its watch on the primary ended, and we have quorum-- BACKUP
 *      \______________________________________primary found: JOIN, WATCH________________________/
 *
 * Two things of the DVK make it short:
 * - A call that is never answered is a failure detector: it ends with an error when the other process or its node goes.
 * - A node without quorum may not go on: the others have declared it dead. dvkd refuses it then (-DVK_ENOQUORUM) and
 *   sends DVK_EVENT_DC_GONE (example.h); the server ends, and is started again when there is quorum.
 */
#include "example.h"
#include "kv.h"

#include <stdbool.h>

struct server {
    struct dvk *dvk;
    uint32_t dc;
    dvk_endpoint self;
    bool primary;
    dvk_endpoint backup; /* DVK_NONE: none */
    unsigned count;
    struct kv_pair pairs[KV_PAIRS_MAX];
};

/* ---- the table ---- */

static struct kv_pair *pair_find(struct server *server, const char *key) {
    for (unsigned i = 0; i < server->count; i++)
        if (strcmp(server->pairs[i].key, key) == 0)
            return &server->pairs[i];
    return NULL;
}

static int pair_put(struct server *server, const struct kv_pair *pair) {
    struct kv_pair *known = pair_find(server, pair->key);
    if (!known && server->count == KV_PAIRS_MAX)
        return -ENOSPC;
    if (!known)
        known = &server->pairs[server->count++];
    *known = *pair;
    return 0;
}

/* What a peer sent is a string only once we have ended it. */
static struct kv_pair pair_of(const struct dvk_message *message) {
    struct kv_pair pair;
    memcpy(&pair, message->payload.bytes, sizeof pair);
    pair.key[KV_KEY_MAX] = pair.value[KV_VALUE_MAX] = 0;
    return pair;
}

/* ---- roles ---- */

/* Do the others still take us for alive? If not, nothing that we say counts. */
static void need_quorum(struct server *server) {
    int nodes = dvk_dc_nodes(server->dvk, server->dc, NULL, 0);
    if (nodes < 0)
        die("this server ends", nodes);
}

static void watch_ended(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                        const int *fds, unsigned fd_count) {
    (void)data, (void)data_len, (void)fds, (void)fd_count;
    struct server *server = context;
    if (!is_gone(status))
        die("watch", status < 0 ? status : reply->status);
    need_quorum(server);
    server->primary = true;
    printf("primary: the one before ended: %s\n", dvk_strerror(status));
    fflush(stdout);
}

/* Become the backup of the server on that node. 0, or why not. */
static int join(struct server *server, uint32_t node) {
    size_t length = 0;
    struct dvk_message message = {.destination = dvk_service_endpoint(node, SERVICE_KV), .type = KV_JOIN};
    int error = dvk_sendrec(server->dvk, server->self, &message, NULL, 0, server->pairs, sizeof server->pairs, &length, 5000);
    if (error == 0)
        error = message.status;
    if (error < 0)
        return error;
    server->count = (unsigned)(length / sizeof *server->pairs);
    /* the very process that gave us the pairs, not one that took its place since */
    struct dvk_message watch = {.destination = message.source, .type = KV_WATCH};
    return dvk_call(server->dvk, server->self, &watch, NULL, 0, NULL, 0, watch_ended, server, NULL);
}

static void choose_role(struct server *server) {
    uint32_t nodes[DVK_MAX_NODE];
    int count = dvk_dc_nodes(server->dvk, server->dc, nodes, DVK_MAX_NODE);
    if (count < 0)
        die("nodes", count);
    for (int i = 0; i < count; i++) {
        int error = nodes[i] == dvk_node(server->dvk) ? -DVK_ENOTBOUND : join(server, nodes[i]);
        if (error == 0) {
            printf("backup of node %u\n", nodes[i]);
            return;
        }
        if (!is_gone(error) && error != KV_NOT_PRIMARY)
            die("join", error);
    }
    server->primary = true;
    printf("primary\n");
}

/* ---- requests ---- */

/* A PUT that waits for the backup. */
struct put {
    struct server *server;
    struct dvk_request *request;
};

static void put_answer(struct server *server, struct dvk_request *request, int status) {
    dvk_reply_status(server->dvk, request, status);
}

static void update_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                        const int *fds, unsigned fd_count) {
    (void)data, (void)data_len, (void)fds, (void)fd_count;
    struct put *put = context;
    if (status < 0) {
        need_quorum(put->server); /* is it the backup that was lost, or are we? */
        put->server->backup = DVK_NONE;
    }
    put_answer(put->server, put->request, status < 0 ? 0 : reply->status);
    free(put);
}

static void handle_put(struct server *server, struct dvk_request *request) {
    struct kv_pair pair = pair_of(&request->msg);
    int error = pair_put(server, &pair);
    struct put *put = error == 0 && server->backup != DVK_NONE ? malloc(sizeof *put) : NULL;
    if (!put) {
        put_answer(server, request, error);
        return;
    }
    *put = (struct put){server, request};
    struct dvk_message update = {.destination = server->backup, .type = KV_UPDATE};
    memcpy(update.payload.bytes, &pair, sizeof pair);
    error = dvk_call(server->dvk, server->self, &update, NULL, 0, NULL, 0, update_done, put, NULL);
    if (error < 0)
        update_done(put, error, NULL, NULL, 0, NULL, 0);
}

static void handle_get(struct server *server, struct dvk_request *request) {
    struct dvk_message reply = {.status = -ENOENT};
    struct kv_pair wanted = pair_of(&request->msg);
    const struct kv_pair *pair = pair_find(server, wanted.key);
    if (pair) {
        reply.status = 0;
        memcpy(reply.payload.bytes, pair, sizeof *pair);
    }
    dvk_reply(server->dvk, request, &reply, NULL, 0);
}

static void handle_join(struct server *server, struct dvk_request *request) {
    struct dvk_message reply = {.data_len = (uint32_t)(server->count * sizeof *server->pairs)};
    if (reply.data_len > request->reply_cap) {
        dvk_reply_status(server->dvk, request, -EMSGSIZE);
        return;
    }
    memcpy(request->reply_data, server->pairs, reply.data_len);
    server->backup = request->msg.source; /* set by the DVK: nobody can claim to be another */
    dvk_reply(server->dvk, request, &reply, NULL, 0);
}

static void handle_update(struct server *server, struct dvk_request *request) {
    struct kv_pair pair = pair_of(&request->msg);
    dvk_reply_status(server->dvk, request, pair_put(server, &pair));
}

static void handle(struct server *server, struct dvk_request *request) {
    uint32_t type = request->msg.type;
    if (!request->wants_reply)
        dvk_release(server->dvk, request);
    else if (type == KV_UPDATE && !server->primary)
        handle_update(server, request);
    else if (!server->primary)
        dvk_reply_status(server->dvk, request, KV_NOT_PRIMARY);
    else if (type == KV_PUT)
        handle_put(server, request);
    else if (type == KV_GET)
        handle_get(server, request);
    else if (type == KV_JOIN)
        handle_join(server, request);
    else if (type != KV_WATCH) /* a watch stays unanswered; libdvk frees it when its sender goes */
        dvk_reply_status(server->dvk, request, -ENOSYS);
}

static void on_cancel(void *context, struct dvk_request *request) {
    struct server *server = context;
    if (request->msg.type == KV_WATCH) /* the backup has gone */
        dvk_reply_status(server->dvk, request, -DVK_EINTERRUPTED);
}

int main(int argc, char **argv) {
    static struct server server;
    if (argc != 2) {
        fprintf(stderr, "usage: kv_server DC\n");
        return 2;
    }
    server.dvk = open_dc(argv[1], &server.dc);
    dvk_on_cancel(server.dvk, on_cancel, &server);
    server.self = bind_service(server.dvk, server.dc, SERVICE_KV);
    choose_role(&server);
    say_ready(server.dvk);
    for (;;) {
        struct dvk_request *request;
        int error = dvk_receive(server.dvk, &request, -1);
        if (error < 0)
            die("receive", error);
        handle(&server, request);
    }
}
