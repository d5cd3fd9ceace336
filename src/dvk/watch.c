/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints that come and go. dvkd of the endpoint's node keeps the question until it can be answered: ours is asked
 * by DVK_BROKER_WATCH, another node's by a request to its KERNEL service (kernel.h), which ends like every request when
 * that node goes.
 *
 * A filtered receive asks, before it sleeps, to be told when its source goes. That question outlives the call, so that
 * the next one costs nothing; it ends with the source or with our endpoint.
 */
#include "dvk/internal.h"
#include "dvk/kernel.h"
#include "dvk/relay.h"

#include <dvk/primitives.h>
#include <stdlib.h>

#define ANSWER_TIMEOUT_MS 30000 /* of a question that is answered at once */

static struct dvk_broker_packet question(uint32_t dc, dvk_endpoint endpoint, uint32_t flags) {
    return (struct dvk_broker_packet){.type = DVK_BROKER_WATCH, .dc = dc, .peer = endpoint, .flags = flags};
}

static struct dvk_message kernel_question(uint32_t node, dvk_endpoint endpoint, uint32_t flags) {
    struct dvk_message message = {.destination = dvk_service_endpoint(node, DVK_SERVICE_KERNEL),
                                  .type = DVK_KERNEL_WATCH};
    message.payload.words[0] = endpoint;
    message.payload.words[1] = flags;
    return message;
}

static void unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint64_t id) {
    struct dvk_broker_packet stop = {.type = DVK_BROKER_UNWATCH, .dc = dc, .peer = endpoint, .channel = id};
    (void)broker_send(dvk, &stop, NULL, NULL, 0);
}

/* ---- calls that wait ---- */

static int wait_elsewhere(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, uint32_t node, uint32_t flags,
                          dvk_endpoint *full, int64_t deadline) {
    struct dvk_message message = kernel_question(node, endpoint, flags);
    int timeout_ms = -1;
    if (deadline != INT64_MAX) {
        int64_t left = (deadline - now_ns() + NS_PER_MS - 1) / NS_PER_MS;
        timeout_ms = left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
    }
    size_t got;
    int error = sendrec_own(dvk, from, &message, NULL, 0, &got, timeout_ms);
    if (error == 0)
        error = message.status;
    if (error == 0)
        *full = message.payload.words[0];
    return error;
}

/* What dvk_info_endpoint tells beside the address. */
struct whereabouts {
    uint32_t node, backups;
};

static int wait_once(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, uint32_t flags, dvk_endpoint *full,
                     struct whereabouts *where, int64_t deadline) {
    struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (endpoint == DVK_NONE || endpoint == DVK_ANY)
        return -EINVAL;
    uint32_t dc = own->dc;
    struct dvk_broker_packet ask = question(dc, endpoint, flags);
    struct packet answer;
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline);
    uint32_t node = answer.head.flags & DVK_BROKER_F_ELSEWHERE ? answer.head.node : 0;
    *full = answer.head.endpoint;
    *where = (struct whereabouts){.node = node ? node : dvk->node, .backups = answer.head.place};
    packet_clear(&answer);
    if (error == -DVK_ENODAEMON && !dvk->broker_gone) {
        unwatch(dvk, dc, endpoint, ask.id);
        return -DVK_ETIMEDOUT;
    }
    return error == 0 && node ? wait_elsewhere(dvk, from, endpoint, node, flags, full, deadline) : error;
}

/* *full gets the endpoint with its generation; *where (may be NULL) its node. One that moves is looked for again. */
static int wait_change(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, uint32_t flags, dvk_endpoint *full,
                       struct whereabouts *where, int timeout_ms) {
    int64_t deadline = deadline_of(timeout_ms ? timeout_ms : ANSWER_TIMEOUT_MS);
    struct whereabouts unused;
    int error;
    if (timeout_ms == 0)
        flags |= DVK_BROKER_F_NOWAIT;
    do
        error = wait_once(dvk, from, endpoint, flags, full, where ? where : &unused, deadline);
    while (error == -DVK_EMIGRATING && !is_past(deadline));
    return error == -DVK_EMIGRATING ? -DVK_ETIMEDOUT : error;
}

int dvk_wait_bind(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, dvk_endpoint *out, int timeout_ms) {
    dvk_endpoint full = DVK_NONE;
    int error = wait_change(dvk, from, endpoint, DVK_BROKER_F_BOUND, &full, NULL, timeout_ms);
    if (error == 0 && out)
        *out = full;
    return error == -EINPROGRESS ? -DVK_ETIMEDOUT : error;
}

int dvk_wait_unbind(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, int timeout_ms) {
    dvk_endpoint full;
    if (!own_find(dvk, from))
        return -DVK_ENOTBOUND;
    int error = wait_change(dvk, from, endpoint, 0, &full, NULL, timeout_ms);
    return error == -DVK_ENOTBOUND ? 0 : error == -EINPROGRESS ? -DVK_ETIMEDOUT : error;
}

int dvk_info_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_endpoint_info *out) {
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    struct dvk_endpoint_info info = {.dc = own->dc};
    struct whereabouts where = {.node = 0};
    int error = wait_change(dvk, from, endpoint, DVK_BROKER_F_BOUND, &info.endpoint, &where, 0);
    info.node = where.node;
    info.backups = where.backups;
    if (error == 0)
        *out = info;
    return error == -EINPROGRESS ? -DVK_ENOTBOUND : error;
}

/* ---- sources of filtered receives ---- */

static void source_gone(struct inbox *inbox, int status) {
    inbox->watched = inbox->watch_stops = false;
    inbox->watch_id = inbox->watch_call = 0;
    if (inbox->waiting && status != -DVK_EMIGRATING) /* else it has moved: it is asked for again before the next sleep */
        inbox->gone = status == 0 ? -DVK_EDEADSRC : status;
    inbox_put(inbox);
}

static void told_elsewhere(void *context, int status, const struct dvk_message *reply, const void *data,
                           size_t data_len, const int *fds, unsigned fd_count) {
    (void)data, (void)data_len;
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    source_gone(context, status < 0 ? status : reply->status);
}

static void told(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct inbox *inbox = awaited->a;
    const struct own_endpoint *own = own_find(dvk, inbox->to);
    int status = packet->head.status;
    if (status == 0 && packet->head.flags & DVK_BROKER_F_ELSEWHERE && (!own || inbox->watch_stops))
        status = -DVK_EINTERRUPTED;
    if (status != 0 || !(packet->head.flags & DVK_BROKER_F_ELSEWHERE)) {
        source_gone(inbox, status);
        return;
    }
    struct dvk_message message = kernel_question(packet->head.node, inbox->from, 0);
    status = call_start(dvk, own->dc, inbox->to, &message, DVK_SLOT_SENDREC, NULL, 0, NULL, 0, told_elsewhere, inbox,
                        &inbox->watch_call);
    if (status < 0)
        source_gone(inbox, status);
}

int inbox_watch(struct dvk *dvk, struct inbox *inbox) {
    const struct own_endpoint *own = own_find(dvk, inbox->to);
    if (!own)
        return -DVK_ENOTBOUND; /* a callback has unbound it, or its DC is gone */
    if (inbox->from == DVK_ANY || inbox->watched)
        return 0;
    struct dvk_broker_packet ask = question(own->dc, inbox->from, 0);
    inbox->watched = true;
    int error = broker_ask(dvk, &ask, told, inbox, NULL);
    if (error < 0)
        inbox->watched = false;
    else
        inbox->watch_id = ask.id;
    return error;
}

void inboxes_unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint to) {
    for (unsigned i = 0; dvk->inboxes && i < BUCKETS; i++)
        list_each(inbox, &dvk->inboxes[i], struct inbox, bucket) {
            if (inbox->to != to || !inbox->watched || inbox->watch_stops)
                continue;
            inbox->watch_stops = true;
            if (inbox->watch_call)
                (void)dvk_cancel(dvk, inbox->watch_call);
            else
                unwatch(dvk, dc, inbox->from, inbox->watch_id);
        }
}

/* ---- for the proxy: see relay.h ---- */

void dvk_relay_catch_up(struct dvk *dvk) {
    broker_drain(dvk);
    (void)broker_run_events(dvk);
}

struct relay_watch {
    dvk_relay_told *told;
    void *context;
};

static void relay_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct relay_watch *watch = awaited->a;
    (void)dvk;
    watch->told(watch->context, packet->head.status, packet->head.endpoint);
    free(watch);
}

int dvk_relay_watch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t flags, dvk_relay_told *fn,
                    void *context, uint64_t *id) {
    struct relay_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct relay_watch){fn, context};
    struct dvk_broker_packet ask = question(dc, endpoint, flags);
    *id = dvk->next_id + 1; /* what broker_ask gives it: when that returns, *id may be gone with its owner */
    int error = broker_ask(dvk, &ask, relay_answered, watch, NULL);
    if (error < 0)
        free(watch);
    return error;
}

void dvk_relay_unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint64_t id) {
    unwatch(dvk, dc, endpoint, id);
}
