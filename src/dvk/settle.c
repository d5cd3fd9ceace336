/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destinations that move: the part of those who talk to them.
 *
 * A message carries the revision of its destination that its source knows (the high half of `reserved`; 0: it never moved). Who
 * gets one with another revision than its own, or for an endpoint that has moved away, sends it back: -DVK_ERELAYED with the
 * endpoint and the new revision (relay.h). The source asks dvkd for the way to what has that revision, and makes it again there.
 *
 * Order: a route that moves keeps its calls until all that went the old way have been answered or sent back, and then sends them,
 * first those that were sent back, in the order in which they went the first time:
 *
 *     settled --a call is sent back, or dvkd says so--> moving: old = where it went, CONNECT asked --answered, and nothing from
 *     it is under way at `old`--> settled
 *
 * A relay keeps no such order, and sends nothing again: it hands the answer on to the source, and forgets the way.
 */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <stdlib.h>

#define AGAIN_MAX 16u /* times that a call comes back without news of its destination */

static bool same_slot(dvk_endpoint a, dvk_endpoint b) {
    return dvk_endpoint_slot(a) == dvk_endpoint_slot(b) &&
           (dvk_endpoint_generation(a) == 0 || dvk_endpoint_generation(b) == 0 || a == b);
}

static bool is_newer(uint32_t revision, uint32_t than) {
    return (int32_t)(revision - than) > 0;
}

/* ---- what dvkd has told ---- */

struct moved *moved_find(const struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint) {
    for (const struct link *at = dvk->moved.next; at != &dvk->moved; at = at->next) {
        struct moved *moved = list_element(at, struct moved, link);
        if (moved->dc == dc && same_slot(moved->endpoint, endpoint))
            return moved;
    }
    return NULL;
}

int moved_note(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision) {
    struct moved *moved = moved_find(dvk, dc, endpoint);
    if (!moved) {
        moved = calloc(1, sizeof *moved);
        if (!moved)
            return -ENOMEM;
        list_append(&dvk->moved, &moved->link);
    }
    moved->dc = dc;
    moved->endpoint = endpoint;
    moved->revision = revision;
    return 0;
}

void moved_forget(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint) {
    list_each(moved, &dvk->moved, struct moved, link) {
        if (moved->dc != dc || (endpoint != DVK_ANY && !same_slot(moved->endpoint, endpoint)))
            continue;
        list_remove(&moved->link);
        free(moved);
    }
}

/* ---- routes ---- */

/* Ordinary calls only: notifications are made anew without regard to order. */
static bool call_is_of(const struct call *call, const struct route *route) {
    return call->dc == route->dc && call->from == route->from && call->message.destination == route->to &&
           !call->message.notify;
}

/* Is anything of the route under way at its old place? */
static bool is_settling(const struct route *route) {
    const struct channel *old = route->old;
    uint32_t slots = old->view.slots[old->side];
    for (uint32_t i = 0; i < slots; i++)
        if (old->calls[i] && old->calls[i]->state == CALL_SENT && call_is_of(old->calls[i], route))
            return true;
    for (uint32_t i = 0; i < old->post_count && !old->closed; i++) {
        const struct posted *posted = &old->posts[(old->post_first + i) & (slots - 1)];
        if (posted->from == route->from && posted->to == route->to)
            return true;
    }
    return false;
}

static bool is_ours(struct dvk *dvk, const struct route *route) {
    dvk_endpoint full;
    return own_resolve(dvk, route->dc, route->to, &full);
}

void route_settled(struct dvk *dvk, struct route *route) {
    (void)dvk;
    list_remove(&route->of_moving);
    if (route->old)
        channel_release(route->old);
    route->old = NULL;
}

/* It has moved to this very context. */
static void route_loop(struct dvk *dvk, struct route *route) {
    struct link calls;
    struct call *call;
    list_init(&calls);
    list_splice(&calls, &route->queue);
    route_drop(dvk, route, -DVK_EINTERRUPTED);
    while ((call = list_first(&calls, struct call, link))) {
        list_remove(&call->link);
        call->state = CALL_NEW;
        int error = -DVK_EDEADLOCK;
        if (!call->waited && own_resolve(dvk, call->dc, call->message.destination, &call->full))
            error = loopback_submit(dvk, call, call->data, call->data_len);
        if (error < 0)
            call_complete(dvk, call, error);
    }
}

/* Posts that nobody has looked at: they are made again. One by one, from the oldest. */
static void posts_settle(struct dvk *dvk, struct channel *channel) {
    if (!channel->post_count)
        return;
    if (channel->closed)
        posts_recover(dvk, channel);
    else
        posts_make_room(dvk, channel);
}

void settle_run(struct dvk *dvk) {
    for (bool again = true; again;) {
        again = false;
        list_each(route, &dvk->moving, struct route, of_moving) {
            posts_settle(dvk, route->old);
            bool ours = is_ours(dvk, route);
            if ((!route->next && !ours) || is_settling(route))
                continue;
            if (ours) {
                route_settled(dvk, route);
                route_loop(dvk, route);
            } else {
                route_settled(dvk, route);
                route->channel = route->next;
                route->next = NULL;
                call_on_route(dvk, route);
            }
            again = true; /* the list may be another now */
            break;
        }
    }
}

static void route_reconnect(struct dvk *dvk, struct route *route) {
    if (is_ours(dvk, route) || route->asked == route->wanted)
        return;
    route->asked = route->wanted;
    route_connect(dvk, route);
}

/* Calls of the route that wait for a slot at its old place. */
static void queue_take(struct route *route, struct channel *old) {
    list_each(call, &old->queue, struct call, link) {
        if (!call_is_of(call, route))
            continue;
        list_remove(&call->link);
        list_append(&route->queue, &call->link);
    }
}

/* The route leads to `revision` from now on; NULL: there is no memory, or no dvkd. */
static struct route *route_move(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint32_t revision,
                                struct channel *old) {
    struct route *route = route_find(dvk, dc, from, to);
    if (dvk->broker_gone)
        return NULL;
    if (!route && !(route = route_new(dvk, dc, from, to)))
        return NULL;
    dvk->moves++;
    receive_mark_more(dvk, old); /* more may have come back */
    if (!route->old) {
        channel_hold(old);
        route->old = old;
        route->wanted = revision;
        route->asked = ~revision;
        list_append(&dvk->moving, &route->of_moving);
        list_remove(&route->of_channel);
        route->channel = NULL;
        if (!old->closed)
            queue_take(route, old);
    } else if (is_newer(revision, route->wanted)) {
        route->wanted = revision;
        list_remove(&route->of_channel);
        route->next = NULL;
    }
    route_reconnect(dvk, route);
    return route_find(dvk, dc, from, to); /* the failure to ask may have dropped it */
}

/* Put a call that was sent back where it stood: before what was sent after it, and what was never sent. */
static void queue_insert(struct route *route, struct call *call) {
    struct link *before = &route->queue;
    list_each(other, &route->queue, struct call, link) {
        bool later = !other->again || (int32_t)((other->sequence - call->sequence) << 2) > 0;
        if (later && before == &route->queue)
            before = &other->link;
    }
    list_append(before, &call->link);
    call->state = CALL_QUEUED;
}

/* ---- calls that come back ---- */

static int check(struct dvk *dvk, const struct call *call, dvk_endpoint to, uint32_t revision) {
    dvk_endpoint full;
    if (!same_slot(to, call->message.destination))
        return -DVK_EBADPEER;
    if (call->cancelled || call->abandoned)
        return -DVK_EINTERRUPTED;
    if (!is_newer(revision, call->revision) && call->hops >= AGAIN_MAX)
        return -ELOOP;
    return call->waited && own_resolve(dvk, call->dc, call->message.destination, &full) ? -DVK_EDEADLOCK : 0;
}

/* Its bits, those that were added meanwhile included, go out anew. */
static void note_again(struct dvk *dvk, struct call *call, struct channel *old, const struct dvk_message *where) {
    uint32_t dc = call->dc, revision = (uint32_t)where->payload.words[DVK_MOVED_REVISION];
    dvk_endpoint from = call->from, to = call->message.destination;
    uint64_t bits = __atomic_exchange_n(&old->view.slot[old->side][call->slot].request.notify, 0, __ATOMIC_ACQ_REL);
    if (old->proxy)
        bits |= where->payload.words[DVK_MOVED_KEY];
    bool again = is_newer(revision, call->revision) || call->hops < AGAIN_MAX;
    struct route *route = route_find(dvk, dc, from, to);
    if (route && route->channel == old && is_newer(revision, route->revision))
        (void)route_move(dvk, dc, from, to, revision, old);
    call_free(dvk, call);
    route = route_find(dvk, dc, from, to);
    if (again && (bits || (route && !route->notify && route->notify_bits)))
        (void)note_send(dvk, dc, from, to, bits);
}

void call_moved(struct dvk *dvk, struct call *call, const struct dvk_message *where, const void *data) {
    uint32_t revision = (uint32_t)where->payload.words[DVK_MOVED_REVISION];
    struct channel *old = call->channel;
    if (old && call->message.notify) {
        note_again(dvk, call, old, where);
        return;
    }
    void *copy = NULL;
    int error = check(dvk, call, where->payload.words[DVK_MOVED_TO], revision);
    if (error == 0)
        error = call_data_keep(call, data, &copy);
    if (error < 0) {
        call_complete(dvk, call, error);
        return;
    }
    if (where->payload.words[DVK_MOVED_RESUMED]) {
        call->resumed = true;
        call->key = where->payload.words[DVK_MOVED_KEY];
    }
    call->hops = is_newer(revision, call->revision) ? 0 : call->hops + 1;
    if (!old) { /* it came from this process: what is before and after it is in the same order here */
        call_submit_again(dvk, call, copy);
        return;
    }
    call->state = CALL_NEW;
    channel_hold(old);
    if (call->posted)
        old->posted_bytes -= call->data_len;
    call->posted = false;
    call_unslot(dvk, call);
    free(call->data);
    call->data = copy;
    call->again = true;
    struct route *route = route_move(dvk, call->dc, call->from, call->message.destination, revision, old);
    if (route)
        queue_insert(route, call);
    else
        call_complete(dvk, call, dvk->broker_gone ? -DVK_ENODAEMON : -ENOMEM);
    channel_release(old);
}

/* Tell a relay's caller. */
static void relay_moved(struct dvk *dvk, struct call *call, uint32_t revision, uint64_t bits) {
    memset(&call->message.payload, 0, sizeof call->message.payload);
    call->message.payload.words[DVK_MOVED_TO] = call->message.destination;
    call->message.payload.words[DVK_MOVED_REVISION] = revision;
    call->message.payload.words[DVK_MOVED_RESUMED] = call->resumed;
    call->message.payload.words[DVK_MOVED_KEY] = call->message.notify ? bits : call->key;
    call->message.payload.words[DVK_MOVED_MARK] = 1;
    call_complete(dvk, call, -DVK_ERELAYED);
}

void call_relay_moved(struct dvk *dvk, struct call *call, uint32_t revision) {
    relay_moved(dvk, call, revision, call->message.notify);
}

bool call_lost(struct dvk *dvk, struct call *call) {
    struct channel *channel = call->channel;
    const struct moved *moved = moved_find(dvk, call->dc, call->message.destination);
    if (!moved || !is_newer(moved->revision, call->revision) ||
        dvk_ring_has_passed(&channel->view.header->ring[channel->side], call->position))
        return false;
    if (dvk->relay) {
        relay_moved(dvk, call, moved->revision,
                    __atomic_load_n(&channel->view.slot[channel->side][call->slot].request.notify, __ATOMIC_RELAXED));
        return true;
    }
    struct dvk_message where = {.status = -DVK_ERELAYED};
    where.payload.words[DVK_MOVED_TO] = moved->endpoint;
    where.payload.words[DVK_MOVED_REVISION] = moved->revision;
    call_moved(dvk, call, &where, dvk_channel_buffer(&channel->view, channel->side, 0, call->slot));
    return true;
}

bool post_moved(struct dvk *dvk, struct channel *channel, const struct posted *posted, uint32_t revision) {
    struct dvk_message message; /* what we wrote there */
    struct call *call;
    dvk_message_read(&message, &channel->view.slot[channel->side][posted->slot].request,
                     dvk_flags_lines(__atomic_load_n(&channel->view.slot[channel->side][posted->slot].flags, __ATOMIC_RELAXED)));
    message.destination = posted->to;
    message.notify = 0;
    message.data_len = 0;
    if (call_create(dvk, channel->dc, posted->from, &message, DVK_SLOT_SEND, &call) < 0)
        return false;
    call->sequence = posted->sequence;
    call->again = true;
    struct route *route = route_move(dvk, channel->dc, posted->from, posted->to, revision, channel);
    if (!route) {
        call_free(dvk, call);
        return false;
    }
    queue_insert(route, call);
    return true;
}

/* dvkd: an endpoint is not at the other end of a channel any more. */
void channel_moved(struct dvk *dvk, struct channel *channel, dvk_endpoint endpoint, uint32_t revision) {
    if (moved_note(dvk, channel->dc, endpoint, revision) < 0)
        return; /* calls there are sent back, or end with its context */
    channel_peer_leave(channel, endpoint);
    dvk->own_changes++;
    list_each(route, &channel->routes, struct route, of_channel) {
        if (!same_slot(route->to, endpoint) || !is_newer(revision, route->revision) || route->channel != channel)
            continue;
        if (dvk->relay)
            route_drop(dvk, route, -DVK_ERELAYED);
        else
            (void)route_move(dvk, route->dc, route->from, route->to, revision, channel);
    }
    settle_run(dvk);
}

/* An endpoint is ours now: what we have sent to it elsewhere comes back, and goes before what we send from now on. */
void settle_here(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision) {
    for (unsigned i = 0; i < BUCKETS; i++)
        list_each(route, &dvk->routes[i], struct route, bucket) {
            if (route->dc == dc && same_slot(route->to, endpoint) && route->channel)
                (void)route_move(dvk, dc, route->from, route->to, revision, route->channel);
        }
    settle_run(dvk);
}

bool settle_before(const struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to) {
    for (const struct link *at = dvk->moving.next; at != &dvk->moving; at = at->next) {
        const struct route *route = list_element(at, struct route, of_moving);
        if (route->dc == dc && route->from == from && route->to == to)
            return true;
    }
    return false;
}
