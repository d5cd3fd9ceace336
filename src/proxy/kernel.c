/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's requests to this node's service KERNEL (dvk/kernel.h), put to dvkd. */
#include "dvk/kernel.h"
#include "proxy/proxy.h"

#include <dvk/error.h>
#include <dvk/privilege.h>
#include <errno.h>
#include <string.h>

static void answer(struct incoming *incoming, int status, dvk_endpoint endpoint) {
    struct dvk_message reply = {.status = status_elsewhere(status)};
    reply.payload.words[0] = endpoint;
    if (incoming->peer)
        reply_queue(incoming->peer, incoming->tag, 0, &reply, NULL, 0);
    incoming_free(incoming);
}

static void told(void *context, int status, dvk_endpoint endpoint) {
    answer(context, status, endpoint);
}

/* The statistics' structure, or why there is none. */
static void counted(void *context, int status, const void *text, size_t len) {
    struct incoming *incoming = context;
    struct dvk_message reply = {.status = status};
    if (incoming->peer)
        reply_queue(incoming->peer, incoming->tag, 0, &reply, text, status == 0 ? len : 0);
    incoming_free(incoming);
}

static void stats_request(struct incoming *incoming, uint32_t dc, const struct dvk_message *message) {
    int error = dvk_relay_stats(incoming->proxy->dvk, dc, message->payload.words[0], (uint32_t)message->payload.words[1],
                                counted, incoming);
    if (error < 0)
        answer(incoming, error, DVK_NONE);
}

/* A cancellation has nothing to take back: dvkd answers at once. */
static void told_privileges(void *context, int status, const void *privileges) {
    struct incoming *incoming = context;
    struct dvk_message reply = {.status = status};
    if (incoming->peer)
        reply_queue(incoming->peer, incoming->tag, 0, &reply, privileges, status == 0 ? sizeof(struct dvk_privileges) : 0);
    incoming_free(incoming);
}

static void privileges_request(struct incoming *incoming, uint32_t dc, const struct dvk_message *message, const void *data) {
    struct dvk_privileges new;
    bool set = message->type == DVK_KERNEL_SET_PRIVILEGES;
    int error = set && message->data_len != sizeof new ? -EINVAL : 0;
    if (set && error == 0)
        memcpy(&new, data, sizeof new);
    if (error == 0)
        error = dvk_relay_privileges(incoming->proxy->dvk, dc, message->payload.words[0], set ? &new : NULL, told_privileges,
                                     incoming);
    if (error < 0)
        answer(incoming, error, DVK_NONE);
}

void kernel_request(struct incoming *incoming, uint32_t dc, bool send, const struct dvk_message *message, const void *data) {
    if (send) {
        reply_queue(incoming->peer, incoming->tag, -DVK_ENOTBOUND, NULL, NULL, 0);
        incoming_free(incoming);
        return;
    }
    if (message->type == DVK_KERNEL_STATS) {
        stats_request(incoming, dc, message);
        return;
    }
    if (message->type == DVK_KERNEL_GET_PRIVILEGES || message->type == DVK_KERNEL_SET_PRIVILEGES) {
        privileges_request(incoming, dc, message, data);
        return;
    }
    if (message->type != DVK_KERNEL_WATCH) {
        answer(incoming, -ENOSYS, DVK_NONE);
        return;
    }
    incoming->dc = dc;
    incoming->watched = message->payload.words[0];
    int error = dvk_relay_watch(incoming->proxy->dvk, dc, incoming->watched, (uint32_t)message->payload.words[1], told,
                                incoming, &incoming->watch);
    if (error < 0)
        answer(incoming, error, DVK_NONE);
}

void kernel_cancel(struct incoming *incoming) {
    dvk_relay_unwatch(incoming->proxy->dvk, incoming->dc, incoming->watched, incoming->watch);
}
