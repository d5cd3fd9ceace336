/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are waited for: sendrec and send. */
#include "dvk/internal.h"

#include <dvk/loan.h>
#include <sched.h>

#define SYNC_SCAN_EVERY 16u

void cpu_update(struct dvk *dvk) {
    int cpu = sched_getcpu();
    dvk->cpu = cpu < 0 ? 0 : (uint32_t)cpu + 1;
    if (__atomic_load_n(&dvk->doorbell->cpu, __ATOMIC_RELAXED) != dvk->cpu)
        __atomic_store_n(&dvk->doorbell->cpu, dvk->cpu, __ATOMIC_RELAXED);
}

/* Does the peer sleep until we answer what is in that slot of its? One that has given up looks for its end by the doorbell. */
static bool slot_is_waited_for(const struct dvk_slot *slot, uint32_t flags) {
    return DVK_STATE_KIND(__atomic_load_n(&slot->state, __ATOMIC_SEQ_CST)) == DVK_SLOT_WAITING && !(flags & DVK_SLOT_RING_BACK);
}

bool channel_peer_waits_for_us(const struct channel *channel) {
    if (channel->guest || channel->proxy)
        return false;
    int peer = 1 - channel->side;
    for (uint32_t i = 0, left = channel->sync_requests; left && i < channel->view.slots[peer]; i++) {
        const struct dvk_slot *slot = &channel->view.slot[peer][i];
        if (!channel->requests[i] || !channel->requests[i]->sync)
            continue;
        if (slot_is_waited_for(slot, __atomic_load_n(&slot->flags, __ATOMIC_SEQ_CST)))
            return true;
        left--;
    }
    uint32_t slots = channel->view.slots[peer];
    uint16_t entry;
    for (uint32_t at = channel->taken; dvk_ring_peek(&channel->view.header->ring[peer], slots, at, &entry) == 1; at++) {
        if (entry & DVK_RING_CANCEL || at - channel->taken > 2 * slots)
            continue;
        const struct dvk_slot *slot = &channel->view.slot[peer][entry];
        uint32_t flags = __atomic_load_n(&slot->flags, __ATOMIC_SEQ_CST);
        if (slot_is_waited_for(slot, flags) && (flags & DVK_SLOT_KIND_MASK) != DVK_SLOT_POST)
            return true;
    }
    return false;
}

/* Nobody waits for it any more: its slot is freed when the reply comes, which the scan then looks for. */
static void call_abandon(struct dvk *dvk, struct call *call) {
    call_request_cancel(dvk, call);
    if (call->state != CALL_SENT) {
        call_free(dvk, call);
        return;
    }
    struct channel *channel = call->channel;
    struct dvk_slot *slot = &channel->view.slot[channel->side][call->slot];
    call->abandoned = true;
    call->waited = false;
    map_set(channel->back_map, call->slot);
    __atomic_fetch_or(&slot->flags, DVK_SLOT_RING_BACK, __ATOMIC_SEQ_CST); /* P4 */
    receive_mark_more(dvk, channel);                                       /* it may have come just now */
}

enum dvk_slot_look sync_spin(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence) {
    const struct dvk_slot *shared = &channel->view.slot[channel->side][slot];
    uint32_t waiting = DVK_STATE(DVK_SLOT_WAITING, sequence);
    const uint8_t *reply = (const uint8_t *)&shared->reply;
    const struct news answer = {
        {&shared->state, &shared->state}, {waiting, waiting}, {reply, reply, reply + DVK_LINE, reply + DVK_LINE}};
    uint32_t peer_cpu = channel->peer_bell ? __atomic_load_n(&channel->peer_bell->cpu, __ATOMIC_RELAXED) : 0;
    (void)spin_until(dvk, &channel->spin, &answer, peer_cpu);
    return dvk_slot_look(shared, sequence);
}

/* The call has a slot: wait on its state. Returns when the call is COMPLETED or handed on, or with the error that ends the
 * wait. *begun: the wait stands in the table of waits. */
static int wait_state(struct dvk *dvk, struct call *call, int64_t deadline, bool *begun) {
    struct channel *channel = call->channel;
    uint32_t ticket = 0; /* of this wait, once it sleeps */
    struct dvk_slot *slot = &channel->view.slot[channel->side][call->slot];
    uint32_t waiting = DVK_STATE(DVK_SLOT_WAITING, call->sequence);
    /* Before any wait: of two that wait for each other it is the later that is refused. A peer that has answered first, and then
     * waits for us, is none of them. */
    if (channel_peer_waits_for_us(channel) && dvk_slot_look(slot, call->sequence) == DVK_LOOK_WAITING)
        return -DVK_EDEADLOCK;
    if (!call->spun)
        (void)sync_spin(dvk, channel, call->slot, call->sequence);
    call->spun = false; /* it may be handed on */
    for (;;) {
        switch (dvk_slot_look(slot, call->sequence)) {
        case DVK_LOOK_DONE:
            call_take_reply(dvk, call);
            return 0;
        case DVK_LOOK_DEAD:
            channel_is_gone(dvk, channel);
            return 0;
        case DVK_LOOK_BROKEN:
            channel_close(dvk, channel, -DVK_EBADPEER, true, true);
            return 0;
        case DVK_LOOK_WAITING:
            break;
        }
        if (dvk_channel_is_dead(&channel->view)) {
            channel_is_gone(dvk, channel);
            return 0;
        }
        if (is_past(deadline))
            return -DVK_ETIMEDOUT;
        if (!ticket)
            ticket = waits_ticket(dvk, channel);
        dvk_slot_prepare_sleep_as(slot, ticket);
        if (!*begun && dvk_slot_look(slot, call->sequence) == DVK_LOOK_WAITING) {
            *begun = true;
            if (waits_begin(dvk, channel, ticket) && dvk_slot_look(slot, call->sequence) == DVK_LOOK_WAITING)
                return -DVK_EDEADLOCK;
        }
        /* in slices: if dvkd itself is gone nobody will tell of the peer's death */
        wait_word(dvk, &slot->state, waiting, deadline, about_now(dvk) + 500 * NS_PER_MS);
        poller_glance(dvk);
        if (call->state != CALL_SENT || call->channel != channel) /* completed, or to be made again elsewhere */
            return 0;
        if (dvk->broker_gone && dvk_slot_look(slot, call->sequence) == DVK_LOOK_WAITING)
            return -DVK_ENODAEMON;
    }
}

static int wait_slot(struct dvk *dvk, struct call *call, int64_t deadline) {
    struct channel *channel = call->channel;
    bool begun = false;
    channel_hold(channel);
    int error = wait_state(dvk, call, deadline, &begun);
    if (begun)
        waits_end(dvk, channel);
    channel_release(channel);
    return error;
}

static int wait_call(struct dvk *dvk, struct call *call, int64_t deadline) {
    for (;;) {
        if (call->state == CALL_COMPLETED)
            return 0;
        if (call->state == CALL_SENT) {
            int error = wait_slot(dvk, call, deadline);
            if (error < 0)
                return error;
            continue; /* completed, or handed on */
        }
        if (dvk->broker_gone)
            return -DVK_ENODAEMON;
        int64_t now = now_ns();
        if (now >= deadline)
            return -DVK_ETIMEDOUT;
        /* no route yet: dvkd will tell; no slot: look again soon, since that is told by the doorbell */
        struct route *route = route_find(dvk, call->dc, call->from, call->message.destination);
        bool looks = route && (route->channel || route->old);
        int64_t until = looks && deadline > now + NS_PER_MS ? now + NS_PER_MS : deadline;
        broker_wait(dvk, until);
        broker_drain(dvk);
        route = route_find(dvk, call->dc, call->from, call->message.destination);
        if (!list_is_empty(&dvk->more) && !list_is_empty(&dvk->moving))
            (void)receive_scan(dvk);
        route = route_find(dvk, call->dc, call->from, call->message.destination);
        if (call->state == CALL_QUEUED && route && (route->channel || route->old)) {
            struct channel *channel = route->channel ? route->channel : route->old;
            channel_hold(channel);
            (void)receive_scan(dvk);
            call_completed_unslot(dvk, channel);
            channel_release(channel);
        }
    }
}

/* A struct call of it, on its way. */
static int sync_submit(struct dvk *dvk, const struct own_endpoint *own, const struct sync *sync, struct call **out) {
    struct call *call;
    cpu_update(dvk);
    int error = call_create(dvk, own->dc, own->endpoint, sync->message, sync->kind, &call);
    if (error < 0)
        return error;
    call->waited = true;
    call->message.notify = 0;
    error = call_submit(dvk, call, sync->data, sync->data_len);
    if (error < 0)
        call_free(dvk, call);
    else
        *out = call;
    return error;
}

static int sync_wait(struct dvk *dvk, struct call *call, struct sync *sync, int timeout_ms) {
    int error = wait_call(dvk, call, deadline_of(timeout_ms));
    if (error < 0) {
        call_abandon(dvk, call);
        return error;
    }
    error = call->status;
    if (error == 0) {
        *sync->message = call->message;
        size_t len = call->reply_len < sync->reply_cap ? call->reply_len : sync->reply_cap;
        if (len && sync->reply_data)
            memcpy(sync->reply_data, call->reply_data, len);
        sync->got = call->reply_len;
        sync->message->flags = 0; /* descriptors of a reply can be had by dvk_call only */
        sync->message->fds = 0;
    }
    call_free(dvk, call);
    return error;
}

/* Notifications that came back from where a destination was are made again by the scan; and we may never receive. */
static void astray_scan(struct dvk *dvk) {
    if (dvk->moves && ++dvk->work % SYNC_SCAN_EVERY == 0)
        (void)receive_scan(dvk);
}

/* own, and way if it is known: found after the last look at dvkd's packets, which may take them away. */
static int sync_call(struct dvk *dvk, struct own_endpoint *own, const struct way *way, struct sync *sync, int timeout_ms) {
    dvk_endpoint full, to = sync->message->destination;
    struct call *call = NULL;
    if (!own)
        return -DVK_ENOTBOUND;
    if (own->frozen)
        return -DVK_EMIGRATING;
    if (sync->data_len > DVK_LOAN_MAX)
        return -EMSGSIZE;
    if (to == DVK_NONE || (sync->data_len && !sync->data))
        return -EINVAL;
    if (way && sync_quick(dvk, way, sync, &call)) {
        astray_scan(dvk);
        return 0;
    }
    if (!way) {
        if (own_resolve(dvk, own->dc, to, &full))
            return -DVK_EDEADLOCK;
        struct route *route = route_find(dvk, own->dc, own->endpoint, to);
        if (route)
            way_set(dvk, own, route);
    }
    int error = call ? 0 : sync_submit(dvk, own, sync, &call);
    if (error == 0)
        error = sync_wait(dvk, call, sync, timeout_ms);
    astray_scan(dvk);
    return error;
}

int sendrec_own(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, void *reply_data, size_t reply_cap,
                size_t *got, int timeout_ms) {
    poller_glance(dvk);
    struct sync sync = {.message = message, .kind = DVK_SLOT_SENDREC, .reply_data = reply_data, .reply_cap = reply_cap};
    int error = sync_call(dvk, own_find(dvk, from), NULL, &sync, timeout_ms);
    *got = sync.got;
    return error;
}

int send_uncounted(struct dvk *dvk, struct own_endpoint *own, const struct way *way, struct dvk_message *message,
                   const void *data, size_t data_len, int timeout_ms) {
    struct dvk_message copy = *message;
    struct sync sync = {.message = &copy, .kind = DVK_SLOT_SEND, .data = data, .data_len = data_len};
    int error = sync_call(dvk, own, way, &sync, timeout_ms);
    loan_drop(dvk, data); /* after an error it may still be one */
    return error;
}

int dvk_sendrec(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data, size_t data_len,
                void *reply_data, size_t reply_cap, size_t *reply_len, int timeout_ms) {
    poller_glance(dvk);
    const struct way *way = way_find(dvk, from, message->destination);
    struct own_endpoint *own = way ? way->own : own_find(dvk, from);
    struct dvk_stats *stats = own ? own->stats : &dvk->uncounted; /* outlives the endpoint */
    struct sync sync = {message, DVK_SLOT_SENDREC, data, data_len, reply_data, reply_cap, 0};
    stats->sendrecs++;
    if (data_len)
        stats->bytes_out += data_len;
    int error = sync_call(dvk, own, way, &sync, timeout_ms);
    stats_end(stats, error);
    if (sync.got)
        stats->bytes_in += sync.got;
    if (reply_len)
        *reply_len = sync.got;
    loan_drop(dvk, data); /* after an error it may still be one */
    return error;
}

int dvk_send(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data, size_t data_len,
             int timeout_ms) {
    poller_glance(dvk);
    const struct way *way = way_find(dvk, from, message->destination);
    struct own_endpoint *own = way ? way->own : own_find(dvk, from);
    struct dvk_stats *stats = own ? own->stats : &dvk->uncounted;
    stats->sends++;
    if (data_len)
        stats->bytes_out += data_len;
    int error = send_uncounted(dvk, own, way, message, data, data_len, timeout_ms);
    stats_end(stats, error);
    return error;
}
