/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's requests to this node's service KERNEL (dvk/kernel.h), put to dvkd. */
#include "dvk/kernel.h"
#include "proxy/proxy.h"

#include <dvk/error.h>
#include <errno.h>

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

void kernel_request(struct incoming *incoming, uint32_t dc, bool send, const struct dvk_message *message) {
    if (send) {
        reply_queue(incoming->peer, incoming->tag, -DVK_ENOTBOUND, NULL, NULL, 0);
        incoming_free(incoming);
        return;
    }
    if (message->type == DVK_KERNEL_STATS) {
        stats_request(incoming, dc, message);
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
