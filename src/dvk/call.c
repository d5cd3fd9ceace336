/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that we make: NEW -> QUEUED (route or channel) -> SENT (in a slot) -> COMPLETED, or NEW -> LOOPED ->
 * COMPLETED. */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/loan.h>
#include <stdlib.h>

#define CALL_INDEX_BITS 24
#define FREE_CALLS_MAX 64u

/* All zero but its message and its descriptors. */
static struct call *call_alloc(struct dvk *dvk) {
    struct call *call = dvk->free_calls;
    if (call) {
        dvk->free_calls = call->next_free;
        dvk->free_call_count--;
    } else
        call = malloc(sizeof *call);
    if (!call)
        return NULL;
    uint8_t *bytes = (uint8_t *)call;
    memset(bytes, 0, offsetof(struct call, message));
    memset(bytes + offsetof(struct call, data), 0, offsetof(struct call, fds) - offsetof(struct call, data));
    memset(bytes + offsetof(struct call, fd_count), 0, sizeof *call - offsetof(struct call, fd_count));
    return call;
}

static void call_release(struct dvk *dvk, struct call *call) {
    if (dvk->free_call_count >= FREE_CALLS_MAX) {
        free(call);
        return;
    }
    dvk->free_call_count++;
    call->next_free = dvk->free_calls;
    dvk->free_calls = call;
}

void calls_free(struct dvk *dvk) {
    struct call *call;
    while ((call = dvk->free_calls)) {
        dvk->free_calls = call->next_free;
        free(call);
    }
}

/* What a relay says of a call beside its message: see relay.h. */
static void call_relayed(struct call *call, const struct dvk_message *message) {
    call->reply_room = (uint32_t)(message->reserved >> 32);
    call->revision = (uint32_t)message->status;
    call->message.status = 0;
    if (call->kind == DVK_SLOT_SENDREC && message->flags & DVK_MSG_RESUMED) {
        call->resumed = true;
        call->key = message->notify;
        call->message.notify = 0;
    }
}

int call_create(struct dvk *dvk, uint32_t dc, dvk_endpoint from, const struct dvk_message *message, uint32_t kind,
                struct call **out) {
    if (dvk->call_free_count == 0) {
        uint32_t cap = dvk->call_cap ? dvk->call_cap * 2 : 64;
        if (cap >= 1u << CALL_INDEX_BITS)
            return -ENOMEM;
        struct call **calls = realloc(dvk->calls, cap * sizeof *calls);
        if (!calls)
            return -ENOMEM;
        dvk->calls = calls;
        uint32_t *generations = realloc(dvk->call_generation, cap * sizeof *generations);
        if (!generations)
            return -ENOMEM;
        dvk->call_generation = generations;
        uint32_t *free_list = realloc(dvk->call_free, cap * sizeof *free_list);
        if (!free_list)
            return -ENOMEM;
        dvk->call_free = free_list;
        for (uint32_t i = cap; i > dvk->call_cap; i--) {
            dvk->calls[i - 1] = NULL;
            dvk->call_generation[i - 1] = 0;
            dvk->call_free[dvk->call_free_count++] = i - 1;
        }
        dvk->call_cap = cap;
    }
    struct call *call = call_alloc(dvk);
    if (!call)
        return -ENOMEM;
    uint32_t index = dvk->call_free[--dvk->call_free_count];
    dvk->calls[index] = call;
    call->id = ((uint64_t)++dvk->call_generation[index] << CALL_INDEX_BITS) | index;
    list_init(&call->link);
    call->kind = kind;
    call->dc = dc;
    call->from = from;
    call->span = 1;
    call->message = *message;
    call->message.reserved &= UINT32_MAX;
    if (from != DVK_NONE) {
        call->message.source = from;
        call->message.reserved = 0;
    } else
        call_relayed(call, message);
    *out = call;
    return 0;
}

struct call *call_by_id(struct dvk *dvk, uint64_t id) {
    uint64_t index = id & ((1u << CALL_INDEX_BITS) - 1);
    return index < dvk->call_cap && dvk->calls[index] && dvk->calls[index]->id == id ? dvk->calls[index] : NULL;
}

void call_free(struct dvk *dvk, struct call *call) {
    uint32_t index = (uint32_t)(call->id & ((1u << CALL_INDEX_BITS) - 1));
    dvk->calls[index] = NULL;
    dvk->call_free[dvk->call_free_count++] = index;
    list_remove(&call->link);
    close_fds(call->fds, call->fd_count);
    free(call->data);
    if (call->looped)
        call->looped->looped = NULL;
    if (call->route && call->route->notify == call)
        call->route->notify = NULL;
    if (call->posted)
        call->channel->posted_bytes -= call->data_len;
    struct channel *channel = call->channel;
    uint32_t slot = call->slot, span = call->span;
    call_release(dvk, call);
    if (channel) {
        channel_run_free(dvk, channel, slot, span);
        channel_release(channel);
    }
}

void call_unslot(struct dvk *dvk, struct call *call) {
    struct channel *channel = call->channel;
    if (!channel)
        return;
    call->channel = NULL;
    call->lent = false;
    channel_run_free(dvk, channel, call->slot, call->span);
    channel_release(channel);
}

/* Slots of its channel for a call; -1: there are none now; -EMSGSIZE: there never will be. A loan has brought its own. */
static int call_slots_take(struct dvk *dvk, struct channel *channel, struct call *call) {
    if (call->lent)
        return (int)call->slot;
    uint64_t bytes = call->data_len > call->reply_room ? call->data_len : call->reply_room;
    call->span = span_of(bytes, channel->view.data_bytes);
    return call->span > channel_span_max(channel) ? -EMSGSIZE : channel_run_take(dvk, channel, call->span);
}

/* Put it into its slots. data is copied there; a loan's is there already. */
static int call_send(struct dvk *dvk, struct channel *channel, struct call *call, uint32_t slot, const void *data) {
    const struct dvk_channel_view *view = &channel->view;
    int side = channel->side;
    int error = 0;
    uint32_t sequence = ++channel->next_sequence & DVK_SEQUENCE_MASK;
    if (call->data_len > (uint64_t)call->span * view->data_bytes)
        error = -EMSGSIZE;
    else if (call->fd_count && channel->proxy)
        error = -DVK_ENOTALLOWED; /* descriptors do not leave the node */
    else if (channel->judged && dvk->relay && !privilege_relayed_allowed(dvk, channel, call->message.source, call->full))
        error = -DVK_ENOTALLOWED;
    if (error == 0 && call->fd_count) {
        error = fdpass_send(channel, slot, side, false, sequence, call->fds, call->fd_count);
        close_fds(call->fds, call->fd_count);
    }
    if (error < 0) {
        if (!call->lent)
            channel_run_free(dvk, channel, slot, call->span);
        return error;
    }
    call->message.data_len = (uint32_t)call->data_len;
    call->message.fds = (uint16_t)call->fd_count;
    call->message.flags = (call->fd_count ? DVK_MSG_FDS : 0) | (call->resumed ? DVK_MSG_RESUMED : 0);
    call->message.reserved = (call->message.reserved & UINT32_MAX) | (uint64_t)call->revision << 32;
    call->fd_count = 0;
    if (call->data_len && !call->lent)
        memcpy(dvk_channel_buffer(view, side, 0, slot), data, call->data_len);
    if (call->resumed)
        call->message.notify = call->key;
    uint32_t lines = dvk_message_lines(&call->message);
    dvk_message_write(&view->slot[side][slot].request, &call->message, lines);
    if (call->resumed)
        call->message.notify = 0;
    channel->calls[slot] = call;
    channel->last_own = slot;
    if (!call->lent)
        channel_hold(channel);
    call->channel = channel;
    call->slot = slot;
    call->sequence = sequence;
    call->state = CALL_SENT;
    if (!call->waited)
        map_set(channel->back_map, slot);
    uint32_t flags = call->kind | (call->waited ? 0 : DVK_SLOT_RING_BACK) | (call->span - 1) * DVK_SLOT_SPAN_UNIT |
                     DVK_SLOT_BRIEF | dvk_lines_flags(lines);
    dvk_slot_publish(view, side, slot, flags, sequence);
    call->position = __atomic_load_n(&view->header->ring[side].head, __ATOMIC_RELAXED);
    channel_ring(dvk, channel);
    if (dvk_channel_is_dead(view)) /* P5: nobody may turn our slot to DEAD any more; the scan closes the channel */
        receive_mark_more(dvk, channel);
    return 0;
}

static int call_queue(struct call *call, struct link *queue, const void *data) {
    if (call->data_len && !call->data && !call->lent) {
        call->data = malloc(call->data_len);
        if (!call->data)
            return -ENOMEM;
        memcpy(call->data, data, call->data_len);
    }
    call->state = CALL_QUEUED;
    list_append(queue, &call->link);
    return 0;
}

/* A relay's source knows another revision than the route has: 0: it is told; 1: the route is behind and was dropped. */
static int relay_check(struct dvk *dvk, struct call *call, struct route *route) {
    if ((int32_t)(call->revision - route->revision) > 0) {
        route_drop(dvk, route, -DVK_ERELAYED);
        return 1;
    }
    call_relay_moved(dvk, call, route->revision);
    return 0;
}

/* The way to its destination. 0 with *route NULL: it is completed already. */
static int call_route_find(struct dvk *dvk, struct call *call, struct route **route) {
    uint32_t revision = dvk->relay ? call->revision : 0;
    int error = route_get(dvk, call->dc, call->from, call->message.destination, revision, route);
    if (error < 0 || !(*route)->channel)
        return error;
    if (!dvk->relay || (*route)->revision == call->revision) {
        call->revision = (*route)->revision;
        return 0;
    }
    if (relay_check(dvk, call, *route) > 0)
        return route_get(dvk, call->dc, call->from, call->message.destination, revision, route);
    *route = NULL;
    return 0;
}

static int call_route(struct dvk *dvk, struct call *call, const void *data, size_t data_len) {
    call->data_len = data_len;
    const struct way *way = way_find(dvk, call->from, call->message.destination);
    struct route *route = way ? way->route : NULL;
    int error = 0;
    bool settles = !way && !list_is_empty(&dvk->moving) && settle_before(dvk, call->dc, call->from, call->message.destination);
    if (!way && !dvk->relay && !settles && own_resolve(dvk, call->dc, call->message.destination, &call->full))
        return loopback_submit(dvk, call, data, data_len);
    if (way)
        call->revision = route->revision;
    else
        error = call_route_find(dvk, call, &route);
    if (error < 0 || !route)
        return error;
    call->full = route->full;
    struct channel *channel = route->channel;
    if (!channel)
        return call_queue(call, &route->queue, data);
    (void)loan_take(dvk, call, channel, data);
    int slot = list_is_empty(&channel->queue) ? call_slots_take(dvk, channel, call) : -1;
    if (slot == -EMSGSIZE)
        return slot;
    if (slot < 0) {
        error = call_queue(call, &channel->queue, data);
        if (error == 0 && channel->post_count)
            posts_make_room(dvk, channel);
        return error;
    }
    return call_send(dvk, channel, call, (uint32_t)slot, data);
}

int call_submit(struct dvk *dvk, struct call *call, const void *data, size_t data_len) {
    int error = call_route(dvk, call, data, data_len);
    loan_drop(dvk, data); /* one that the call did not take over, since it goes elsewhere: it was copied */
    return error;
}

int call_data_keep(const struct call *call, const void *data, void **copy) {
    *copy = NULL;
    if (!call->data_len)
        return 0;
    *copy = malloc(call->data_len);
    if (!*copy)
        return -ENOMEM;
    memcpy(*copy, data, call->data_len);
    return 0;
}

void call_submit_again(struct dvk *dvk, struct call *call, void *data) {
    free(call->data);
    call->data = NULL;
    call->state = CALL_NEW;
    int error = call_submit(dvk, call, data, call->data_len);
    free(data);
    if (error < 0)
        call_complete(dvk, call, error);
}

void call_send_queued(struct dvk *dvk, struct channel *channel) {
    while (!channel->closed && !list_is_empty(&channel->queue)) {
        struct call *call = list_first(&channel->queue, struct call, link);
        int slot = call_slots_take(dvk, channel, call);
        if (slot == -1)
            return;
        list_remove(&call->link);
        int error = slot < 0 ? slot : call_send(dvk, channel, call, (uint32_t)slot, call->data);
        if (error < 0)
            call_complete(dvk, call, error);
    }
}

void call_on_route(struct dvk *dvk, struct route *route) {
    list_each(call, &route->queue, struct call, link) {
        call->full = route->full;
        if (dvk->relay && call->revision != route->revision) { /* dvkd knows at least what its source does */
            list_remove(&call->link);
            call_relay_moved(dvk, call, route->revision);
        }
        call->revision = route->revision;
        call->again = false; /* from here on it is one that was never sent */
    }
    struct channel *channel = route->channel;
    list_splice(&channel->queue, &route->queue);
    call_send_queued(dvk, channel);
}

/* ---- completion ---- */

static int notify_send(struct dvk *dvk, struct route *route) {
    struct dvk_message message = {.destination = route->to, .notify = route->notify_bits};
    struct call *call;
    int error = call_create(dvk, route->dc, route->from, &message, DVK_SLOT_SEND, &call);
    if (error < 0)
        return error;
    route->notify_bits = 0;
    route->notify = call;
    call->route = route;
    call->note = true;
    error = call_submit(dvk, call, NULL, 0);
    if (error < 0)
        call_free(dvk, call);
    return error;
}

void call_complete(struct dvk *dvk, struct call *call, int status) {
    call->state = CALL_COMPLETED;
    call->status = status;
    if (status < 0) {
        if (status != -DVK_ERELAYED) /* a relay passes that on */
            memset(&call->message, 0, sizeof call->message);
        call->reply_len = 0;
        if (call->channel)
            map_clear(call->channel->back_map, call->slot);
    }
    struct route *route = call->route;
    if (call->waited && !call->abandoned)
        return;
    if (call->abandoned || !call->done) {
        if (status < 0 && !call->abandoned && !call->note) /* a post: nobody else learns of it */
            post_failed(dvk, call->from, status);
        call_free(dvk, call);
        if (route && route->notify_bits)
            (void)notify_send(dvk, route);
        return;
    }
    list_append(&dvk->completed, &call->link);
}

/* The way leads there no more; bits that a notification got meanwhile go back with it. */
static void relay_moved_away(struct dvk *dvk, const struct call *call, struct dvk_message *reply) {
    const struct channel *channel = call->channel;
    struct route *route = route_find(dvk, call->dc, call->from, call->message.destination);
    if (route && route->channel == channel)
        route_drop(dvk, route, -DVK_ERELAYED);
    if (call->message.notify)
        reply->payload.words[DVK_MOVED_KEY] =
            __atomic_exchange_n(&channel->view.slot[channel->side][call->slot].request.notify, 0, __ATOMIC_ACQ_REL);
}

/* The peer says that it hands our request on. False: the call has ended meanwhile. */
static bool follow_judge(struct dvk *dvk, const struct call *call, dvk_endpoint source, int *status) {
    struct channel *channel = call->channel;
    uint64_t id = call->id;
    channel_hold(channel);
    privilege_catch_up(dvk);
    bool lives = call_by_id(dvk, id) == call && call->state == CALL_SENT;
    if (lives && !privilege_follow_allowed(dvk, channel, call->full, source))
        *status = -DVK_ENOTALLOWED;
    channel_release(channel);
    return lives;
}

void call_take_reply(struct dvk *dvk, struct call *call) {
    struct channel *channel = call->channel;
    const struct dvk_channel_view *view = &channel->view;
    map_clear(channel->back_map, call->slot);
    const struct dvk_slot *shared = &view->slot[channel->side][call->slot];
    struct dvk_message reply; /* the one copy */
    dvk_message_read(&reply, &shared->reply, __atomic_load_n(&shared->reply_lines, __ATOMIC_RELAXED));
    int status = 0;
    unsigned fds = reply.flags & DVK_MSG_FDS ? reply.fds : 0;
    if (reply.data_len > (uint64_t)call->span * view->data_bytes || fds > DVK_MESSAGE_FDS || (channel->proxy && fds))
        status = -DVK_EBADPEER;
    if (status == 0 && fds) {
        int got = fdpass_receive(channel, call->slot, channel->side, true, call->sequence, fds, call->fds);
        if (got < 0)
            status = -DVK_EBADPEER;
        else
            call->fd_count = (unsigned)got;
    }
    if (status == -DVK_EBADPEER) {
        call_complete(dvk, call, status);
        channel_close(dvk, channel, status, true, true);
        return;
    }
    bool vouched = channel->proxy && dvk_endpoint_slot(reply.source) == dvk_endpoint_slot(call->full);
    if (!vouched)
        reply.source = call->full;
    reply.destination = call->from != DVK_NONE ? call->from : call->message.source;
    if (reply.flags & DVK_MSG_ERROR) {
        status = reply.status < 0 ? reply.status : -DVK_EBADPEER;
        struct route *route = route_find(dvk, call->dc, call->from, call->message.destination);
        /* forget a way that led nowhere, so that the next call finds the destination's next incarnation */
        bool nowhere = status == -DVK_ENOTBOUND || (status == -DVK_ENODEUNREACH && channel->proxy);
        if (nowhere && route && route->channel == channel && !call->route)
            route_drop(dvk, route, status);
    }
    bool moved = status == -DVK_ERELAYED && reply.payload.words[DVK_MOVED_MARK];
    if (status == -DVK_ERELAYED && !moved && privileges_matter(dvk, channel) && !follow_judge(dvk, call, reply.destination, &status))
        return;
    if (moved) {
        if (!dvk->relay) {
            call_moved(dvk, call, &reply, dvk_channel_buffer(view, channel->side, 0, call->slot));
            return;
        }
        relay_moved_away(dvk, call, &reply);
    } else if (status == -DVK_ERELAYED && !dvk->relay) {
        call_follow(dvk, call, reply.payload.words[0], dvk_channel_buffer(view, channel->side, 0, call->slot));
        return;
    }
    reply.flags &= DVK_MSG_FDS;
    reply.reserved = 0;
    call->message = reply;
    call->reply_data = dvk_channel_buffer(view, channel->side, 1, call->slot);
    call->reply_len = reply.data_len;
    call_complete(dvk, call, status);
}

void call_scan(struct dvk *dvk, struct channel *channel) {
    if (!channel_awaits_answers(channel))
        return;
    channel_hold(channel);
    uint32_t words = (channel->view.slots[channel->side] + 63) / 64;
    for (uint32_t w = 0; w < words && !channel->closed; w++)
        for (uint64_t bits = channel->back_map[w]; bits && !channel->closed; bits &= bits - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
            struct call *call = channel->calls[i];
            if (!call || call->state != CALL_SENT || !map_has(channel->back_map, i))
                continue;
            switch (dvk_slot_look(&channel->view.slot[channel->side][i], call->sequence)) {
            case DVK_LOOK_WAITING:
                break;
            case DVK_LOOK_DONE:
                call_take_reply(dvk, call);
                break;
            case DVK_LOOK_DEAD:
                channel_is_gone(dvk, channel);
                break;
            case DVK_LOOK_BROKEN:
                channel_close(dvk, channel, -DVK_EBADPEER, true, true);
                break;
            }
        }
    channel_release(channel);
}

bool call_run_completed(struct dvk *dvk) {
    bool any = false;
    struct link batch;
    list_init(&batch);
    list_splice(&batch, &dvk->completed); /* what completes meanwhile has its turn next time */
    struct call *call;
    while ((call = list_first(&batch, struct call, link))) {
        any = true;
        list_remove(&call->link);
        unsigned fd_count = call->fd_count;
        int fds[DVK_MESSAGE_FDS];
        memcpy(fds, call->fds, sizeof fds);
        call->fd_count = 0;
        if (call->stats) {
            stats_end(call->stats, call->status);
            call->stats->bytes_in += call->reply_len;
        }
        call->done(call->context, call->status, &call->message, call->reply_len ? call->reply_data : NULL,
                   call->reply_len, fd_count ? fds : NULL, fd_count);
        call_free(dvk, call);
    }
    return any;
}

void call_completed_unslot(struct dvk *dvk, struct channel *channel) {
    list_each(call, &dvk->completed, struct call, link) {
        if (call->channel != channel)
            continue;
        free(call->data);
        call->data = NULL;
        if (call->reply_len && call->reply_data) {
            call->data = malloc(call->reply_len);
            if (!call->data)
                continue;
            memcpy(call->data, call->reply_data, call->reply_len);
        }
        call->reply_data = call->data;
        call->channel = NULL;
        channel_run_free(dvk, channel, call->slot, call->span);
        channel_release(channel);
    }
}

void call_request_cancel(struct dvk *dvk, struct call *call) {
    if (call->cancelled)
        return;
    call->cancelled = true;
    struct channel *channel = call->channel;
    switch (call->state) {
    case CALL_QUEUED:
        list_remove(&call->link);
        call_complete(dvk, call, -DVK_EINTERRUPTED);
        return;
    case CALL_LOOPED:
        if (call->looped)
            request_cancel(dvk, call->looped);
        return;
    case CALL_SENT:
        if (channel->closed)
            return;
        if (!channel->cancel_at)
            channel->cancel_at = calloc(channel->view.slots[channel->side], sizeof *channel->cancel_at);
        if (!channel->cancel_at)
            return; /* no memory: it ends when it ends */
        channel->cancel_at[call->slot] = dvk_slot_cancel(&channel->view, channel->side, call->slot);
        map_set(channel->cancel_map, call->slot);
        channel_ring(dvk, channel);
        return;
    default:
        return;
    }
}

/* ---- public ---- */

int call_start(struct dvk *dvk, uint32_t dc, dvk_endpoint from, const struct dvk_message *message, uint32_t kind,
               const void *data, size_t data_len, const int *fds, unsigned fd_count, dvk_done *done, void *context,
               uint64_t *id) {
    struct call *call = NULL;
    int error = fd_count > DVK_MESSAGE_FDS || message->destination == DVK_NONE || (data_len && !data) ? -EINVAL
                : data_len > DVK_LOAN_MAX                                                             ? -EMSGSIZE
                                                                                                      : 0;
    if (error == 0)
        error = call_create(dvk, dc, from, message, kind, &call);
    if (error == 0) {
        if (dvk->relay)
            privilege_catch_up(dvk);
        else
            call->message.notify = 0;
        call->done = done;
        call->context = context;
        call->fd_count = fd_count;
        if (fd_count)
            memcpy(call->fds, fds, fd_count * sizeof(int));
        uint64_t number = call->id;
        error = call_submit(dvk, call, data, data_len);
        if (error == 0 && id)
            *id = number;
        if (error < 0)
            call_free(dvk, call); /* with its fds */
        return error;
    }
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    loan_drop(dvk, data);
    return error;
}

int dvk_call(struct dvk *dvk, dvk_endpoint from, const struct dvk_message *message, const void *data, size_t data_len,
             const int *fds, unsigned fd_count, dvk_done *done, void *context, uint64_t *call) {
    struct own_endpoint *own;
    int refused = own_sender(dvk, from, &own);
    if (refused < 0 || !done) {
        for (unsigned i = 0; i < fd_count; i++)
            close(fds[i]);
        loan_drop(dvk, data);
        return refused < 0 ? refused : -EINVAL;
    }
    struct dvk_stats *stats = own->stats;
    uint64_t number = 0;
    int error = call_start(dvk, own->dc, from, message, DVK_SLOT_SENDREC, data, data_len, fds, fd_count, done, context,
                           &number);
    stats->calls++;
    stats->bytes_out += data_len;
    if (error < 0) {
        stats_error(stats, error);
        return error;
    }
    call_by_id(dvk, number)->stats = stats; /* it ends in dvk_receive or dvk_close, not before */
    if (call)
        *call = number;
    return 0;
}

int dvk_cancel(struct dvk *dvk, uint64_t id) {
    struct call *call = call_by_id(dvk, id);
    if (!call)
        return -ESRCH;
    call_request_cancel(dvk, call);
    return 0;
}

/* Add bits to a notification that the destination has not received yet. */
static bool note_merge(struct call *note, uint64_t bits) {
    if (note->state == CALL_QUEUED) {
        note->message.notify |= bits;
        return true;
    }
    if (note->state != CALL_SENT)
        return false;
    struct channel *channel = note->channel;
    uint64_t *word = &channel->view.slot[channel->side][note->slot].request.notify;
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (old) /* 0: its receiver has taken them, see note_take */
        if (__atomic_compare_exchange_n(word, &old, old | bits, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return true;
    return false;
}

/* The destination has received the route's notification: another one may follow although its end has not been seen,
 * for a process that only notifies looks for none. */
static void note_retire(struct dvk *dvk, struct route *route) {
    uint64_t *free_place = NULL;
    for (unsigned i = 0; i < NOTES_MAX; i++) {
        struct call *note = route->notes[i] ? call_by_id(dvk, route->notes[i]) : NULL;
        if (note && note->state == CALL_SENT) {
            struct channel *channel = note->channel;
            const struct dvk_slot *slot = &channel->view.slot[channel->side][note->slot];
            if (dvk_slot_look(slot, note->sequence) != DVK_LOOK_DONE ||
                __atomic_load_n(&slot->reply.status, __ATOMIC_RELAXED) == -DVK_ERELAYED) /* it came back: the scan sees to it */
                continue;
            call_free(dvk, note);
            note = NULL;
        }
        if (!note)
            free_place = &route->notes[i];
    }
    if (!free_place || route->notify->state != CALL_SENT)
        return; /* the bits wait for its end */
    *free_place = route->notify->id;
    route->notify->route = NULL;
    route->notify = NULL;
}

static int notify(struct dvk *dvk, uint32_t dc, dvk_endpoint from, const struct dvk_message *message) {
    struct route *route;
    int error = route_get(dvk, dc, from, message->destination, 0, &route);
    if (error < 0)
        return error;
    if (route->notify && (note_merge(route->notify, message->notify)))
        return 0;
    if (route->notify)
        note_retire(dvk, route);
    route->notify_bits |= message->notify;
    return route->notify ? 0 : notify_send(dvk, route);
}

int note_send(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint64_t bits) {
    struct dvk_message message = {.source = from, .destination = to, .notify = bits};
    dvk_endpoint full;
    if (own_resolve(dvk, dc, to, &full))
        return loopback_notify(dvk, dc, from, full, bits);
    return notify(dvk, dc, from, &message);
}

int dvk_notify(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, uint64_t bits) {
    struct own_endpoint *own;
    int error = own_sender(dvk, from, &own);
    if (error < 0)
        return error;
    if (bits == 0 || to == DVK_NONE)
        return -EINVAL;
    struct dvk_stats *stats = own->stats;
    error = note_send(dvk, own->dc, from, to, bits);
    if (error == 0)
        stats->notifies++;
    return error;
}

/* ---- on behalf of a remote source: see relay.h ---- */

int dvk_call_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call) {
    return call_start(dvk, dc, DVK_NONE, message, DVK_SLOT_SENDREC, data, data_len, NULL, 0, done, context, call);
}

int dvk_send_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call) {
    uint64_t id = 0;
    int error = call_start(dvk, dc, DVK_NONE, message, DVK_SLOT_SEND, data, data_len, NULL, 0, done, context, &id);
    if (error == 0 && call)
        *call = id;
    return error;
}
