/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Posts: one-way messages whose sender goes on.
 *
 * A *quick* post (no data, to a process of this node) is a slot of kind DVK_SLOT_POST and nothing else: no struct call, no
 * answer. The receiver copies it out when it takes it from the ring, and the ring's tail tells that; so slots come back
 * in the order in which they went. One that the receiver refuses has its slot answered first. All others are calls that
 * nobody waits for.
 */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/loan.h>
#include <dvk/post.h>
#include <stdlib.h>

#define POSTED_BYTES_MAX (256u << 10) /* of a channel: more would only drive each other out of the cache */
#define POSTED_BYTES_AWAY (1u << 20)  /* of one to other nodes, or two messages: two proxies and a network work on them at once */
#define RECLAIM_EVERY 16u /* posts: the tail is the other CPU's, and reading it is dear */

static void post_count_failure(struct dvk_stats *stats, int status) {
    stats->posts_failed++;
    stats_error(stats, status);
}

void post_failed(struct dvk *dvk, dvk_endpoint from, int status) {
    struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return;
    post_count_failure(own->stats, status);
    if (own->post_error == 0)
        own->post_error = status;
}

/* The receiver took it. Did it refuse it? */
static int post_outcome(const struct channel *channel, const struct posted *posted) {
    const struct dvk_slot *slot = &channel->view.slot[channel->side][posted->slot];
    if (dvk_slot_look(slot, posted->sequence) != DVK_LOOK_DONE)
        return 0;
    int status = __atomic_load_n(&slot->reply.status, __ATOMIC_RELAXED);
    return status < 0 ? status : -DVK_EBADPEER;
}

static uint32_t post_revision(const struct channel *channel, const struct posted *posted) {
    const struct dvk_slot *slot = &channel->view.slot[channel->side][posted->slot];
    return (uint32_t)__atomic_load_n(&slot->reply.payload.words[DVK_MOVED_REVISION], __ATOMIC_RELAXED);
}

void posts_recover(struct dvk *dvk, struct channel *channel) {
    if (!channel->post_count)
        return;
    posts_reclaim(dvk, channel);
    for (; channel->post_count; channel->post_count--) {
        const struct posted *posted = &channel->posts[channel->post_first];
        const struct moved *moved = moved_find(dvk, channel->dc, posted->to);
        if (moved)
            (void)post_moved(dvk, channel, posted, moved->revision);
        channel->post_first = (channel->post_first + 1) % channel->view.slots[channel->side];
    }
}

/* Get back the slots of quick posts that the peer has taken. */
void posts_reclaim(struct dvk *dvk, struct channel *channel) {
    struct dvk_ring *ring = &channel->view.header->ring[channel->side];
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), slots = channel->view.slots[channel->side];
    while (channel->post_count) {
        const struct posted *posted = &channel->posts[channel->post_first];
        if ((int32_t)(tail - posted->position) < 0)
            return;
        int status = post_outcome(channel, posted);
        if (status == -DVK_ERELAYED && post_moved(dvk, channel, posted, post_revision(channel, posted)))
            status = 0;
        struct dvk_slot *slot = &channel->view.slot[channel->side][posted->slot];
        dvk_slot_free(slot);
        __builtin_prefetch(&slot->request, 1); /* back from the receiver's cache, for the next one */
        __builtin_prefetch((uint8_t *)&slot->request + DVK_LINE, 1);
        channel_slot_give(channel, posted->slot);
        channel->post_first = (channel->post_first + 1) & (slots - 1);
        channel->post_count--;
        if (status == 0)
            continue;
        post_failed(dvk, posted->from, status);
        struct route *route = route_find(dvk, channel->dc, posted->from, posted->to);
        if (status == -DVK_ENOTBOUND && route && route->channel == channel)
            route_drop(dvk, route, status); /* the next call finds the destination's next incarnation */
    }
}

void posts_make_room(struct dvk *dvk, struct channel *channel) {
    __atomic_store_n(&channel->view.header->wants_room[channel->side], 1u, __ATOMIC_SEQ_CST); /* P6 */
    posts_reclaim(dvk, channel);
    call_send_queued(dvk, channel);
}

/* The channel is full: wait until something may have become free. 0: look again. */
static int room_wait(struct dvk *dvk, struct channel *channel, dvk_endpoint from, int64_t deadline) {
    if (channel_peer_waits_for_us(channel))
        return -DVK_EDEADLOCK;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    if (is_past(deadline))
        return -DVK_ETIMEDOUT;
    if (channel->peer_bell)
        dvk->last_cpu = __atomic_load_n(&channel->peer_bell->cpu, __ATOMIC_RELAXED);
    receive_sleep(dvk, deadline);
    poller_glance(dvk);
    (void)receive_scan(dvk);
    call_completed_unslot(dvk, channel);
    return channel->closed ? channel->gone_status : own_find(dvk, from) ? 0 : -DVK_ENOTBOUND;
}

/* The same, for a destination that is moving from a place that is no more. */
static int news_wait(struct dvk *dvk, int64_t deadline) {
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    if (is_past(deadline))
        return -DVK_ETIMEDOUT;
    receive_sleep(dvk, deadline);
    poller_glance(dvk);
    (void)receive_scan(dvk);
    return 0;
}

/* A slot for a quick post; waits for one. */
static int quick_slot(struct dvk *dvk, struct channel *channel, dvk_endpoint from, int timeout_ms) {
    int64_t deadline = -1;
    uint32_t *wants = &channel->view.header->wants_room[channel->side];
    if (++channel->post_work % RECLAIM_EVERY == 0)
        posts_reclaim(dvk, channel);
    for (bool told = false;;) {
        int slot = channel_slot_take(channel);
        if (slot >= 0)
            return slot;
        if (!told)
            __atomic_store_n(wants, 1u, __ATOMIC_SEQ_CST); /* P6 */
        posts_reclaim(dvk, channel);
        slot = channel_slot_take(channel);
        if (slot >= 0)
            return slot;
        if (deadline < 0)
            deadline = deadline_of(timeout_ms);
        int error = room_wait(dvk, channel, from, deadline);
        if (error < 0)
            return error;
        told = __atomic_load_n(wants, __ATOMIC_RELAXED) != 0;
    }
}

enum { POST_ASTRAY = 1 }; /* the destination has moved while we waited: it goes another way */

static int post_quick(struct dvk *dvk, dvk_endpoint from, struct route *route, const struct dvk_message *message,
                      int timeout_ms) {
    struct channel *channel = route->channel;
    const struct dvk_channel_view *view = &channel->view;
    int side = channel->side;
    if (!channel->posts) {
        channel->posts = calloc(view->slots[side], sizeof *channel->posts);
        if (!channel->posts)
            return -ENOMEM;
    }
    dvk_endpoint to = route->to;
    uint32_t revision = route->revision;
    unsigned moves = dvk->moves;
    channel_hold(channel);
    int slot = quick_slot(dvk, channel, from, timeout_ms);
    if (slot >= 0 && moves != dvk->moves) {
        channel_slot_free(dvk, channel, (uint32_t)slot);
        channel_release(channel);
        return POST_ASTRAY;
    }
    if (slot >= 0) {
        uint32_t sequence = ++channel->next_sequence & DVK_SEQUENCE_MASK, at = (uint32_t)slot;
        struct dvk_message *request = &view->slot[side][at].request;
        uint32_t lines = dvk_message_lines(message);
        dvk_message_write(request, message, lines);
        request->source = from;
        request->data_len = 0;
        request->flags = request->fds = 0;
        request->notify = 0;
        request->reserved = (uint64_t)revision << 32;
        dvk_slot_publish(view, side, at, DVK_SLOT_POST | dvk_lines_flags(lines), sequence);
        struct posted *posted = &channel->posts[(channel->post_first + channel->post_count++) & (view->slots[side] - 1)];
        posted->slot = at;
        posted->sequence = sequence;
        posted->position = __atomic_load_n(&view->header->ring[side].head, __ATOMIC_RELAXED);
        posted->from = from;
        posted->to = to;
        channel_ring(dvk, channel);
        if (dvk_channel_is_dead(view))
            receive_mark_more(dvk, channel);
    }
    channel_release(channel);
    return slot < 0 ? slot : 0;
}

/* With data, or to another node: a call that nobody waits for; but if there is no room for it now, we do. */
static int post_call(struct dvk *dvk, dvk_endpoint from, struct channel *channel, const struct dvk_message *message,
                     const void *data, size_t data_len, int timeout_ms) {
    uint64_t id = 0;
    int64_t deadline = -1;
    int error = 0;
    size_t most = !channel->proxy ? POSTED_BYTES_MAX : data_len > POSTED_BYTES_AWAY / 2 ? 2 * data_len : POSTED_BYTES_AWAY;
    channel_hold(channel);
    while (error == 0 && channel->posted_bytes && channel->posted_bytes + data_len > most) {
        if (deadline < 0)
            deadline = deadline_of(timeout_ms);
        error = room_wait(dvk, channel, from, deadline);
    }
    if (error < 0) {
        channel_release(channel);
        loan_drop(dvk, data);
        return error;
    }
    error = call_start(dvk, channel->dc, from, message, DVK_SLOT_SEND, data, data_len, NULL, 0, NULL, NULL, &id);
    while (error == 0) {
        struct call *call = call_by_id(dvk, id);
        if (!call || call->state != CALL_QUEUED)
            break;
        if (deadline < 0)
            deadline = deadline_of(timeout_ms);
        error = channel->closed ? news_wait(dvk, deadline) : room_wait(dvk, channel, from, deadline);
    }
    struct call *call = error < 0 && id ? call_by_id(dvk, id) : NULL;
    if (call && call->state == CALL_QUEUED)
        call_free(dvk, call);
    else if (call)
        error = 0; /* it went in just now */
    call = error == 0 ? call_by_id(dvk, id) : NULL;
    if (call && call->channel == channel) {
        call->posted = true;
        channel->posted_bytes += call->data_len;
    }
    channel_release(channel);
    return error;
}

static int post_out(struct dvk *dvk, struct own_endpoint *own, const struct way *way, struct dvk_message *message,
                    const void *data, size_t data_len, int timeout_ms) {
    dvk_endpoint full, from = own->endpoint;
    if (!way && own_resolve(dvk, own->dc, message->destination, &full))
        return call_start(dvk, own->dc, from, message, DVK_SLOT_SEND, data, data_len, NULL, 0, NULL, NULL, NULL);
    struct route *route = way ? way->route : route_find(dvk, own->dc, from, message->destination);
    if (!way && route)
        way_set(dvk, own, route);
    if (!route || !route->channel || !list_is_empty(&route->channel->queue))
        return send_uncounted(dvk, own, way, message, data, data_len, timeout_ms); /* finds the way, or keeps the order */
    if (data_len || route->channel->proxy)
        return post_call(dvk, from, route->channel, message, data, data_len, timeout_ms);
    int posted = post_quick(dvk, from, route, message, timeout_ms);
    own = posted == POST_ASTRAY ? own_find(dvk, from) : NULL;
    return posted != POST_ASTRAY ? posted : own ? send_uncounted(dvk, own, NULL, message, NULL, 0, timeout_ms) : -DVK_ENOTBOUND;
}

int dvk_post(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data, size_t data_len,
             int timeout_ms) {
    poller_glance(dvk);
    const struct way *way = way_find(dvk, from, message->destination);
    struct own_endpoint *own = way ? way->own : own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (own->frozen)
        return -DVK_EMIGRATING;
    if (message->destination == DVK_NONE || (data_len && !data))
        return -EINVAL;
    if (own->post_error) {
        int error = own->post_error;
        own->post_error = 0;
        loan_drop(dvk, data);
        return error;
    }
    struct dvk_stats *stats = own->stats; /* outlives the endpoint */
    stats->posts++;
    if (data_len)
        stats->bytes_out += data_len;
    int error = post_out(dvk, own, way, message, data, data_len, timeout_ms);
    if (error < 0)
        post_count_failure(stats, error);
    return error;
}
