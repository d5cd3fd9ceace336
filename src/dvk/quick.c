/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sendrec or send whose way is known and whose peer answers while we wait awake: most of those between two processes
 * that both run. It is a slot, and nothing else. Only when it comes to sleep, or to anything but a plain answer, a call is made of it,
 * which can be cancelled, handed on and told of its channel's end. Nothing else of the context runs before that.
 */
#include "dvk/internal.h"

/* A call can be had without fail. */
static bool call_is_spare(const struct dvk *dvk) {
    return dvk->free_calls && dvk->call_free_count;
}

static bool is_quick(const struct dvk *dvk, const struct channel *channel, size_t data_len) {
    return !channel->closed && !channel->proxy && !channel->guest && list_is_empty(&channel->queue) &&
           list_is_empty(&dvk->loans) && data_len <= channel->view.data_bytes && call_is_spare(dvk);
}

/* Put it into its slot. Returns its sequence. */
static uint32_t quick_send(struct dvk *dvk, const struct way *way, uint32_t slot, const struct dvk_message *message,
                           uint32_t kind, const void *data, size_t data_len) {
    struct channel *channel = way->route->channel;
    const struct dvk_channel_view *view = &channel->view;
    int side = channel->side;
    uint32_t sequence = ++channel->next_sequence & DVK_SEQUENCE_MASK, lines = dvk_message_lines(message);
    struct dvk_message *request = &view->slot[side][slot].request;
    dvk_message_write(request, message, lines);
    request->source = way->from;
    request->data_len = (uint32_t)data_len;
    request->flags = request->fds = 0;
    request->notify = 0;
    request->reserved = (uint64_t)way->route->revision << 32;
    if (data_len)
        memcpy(dvk_channel_buffer(view, side, 0, slot), data, data_len);
    channel->last_own = slot;
    dvk_slot_publish(view, side, slot, kind | DVK_SLOT_BRIEF | dvk_lines_flags(lines), sequence);
    channel_ring(dvk, channel);
    return sequence;
}

/* Its plain answer: no descriptors, no error, nothing that cannot be. false: it is another one. */
static bool quick_take(struct dvk *dvk, const struct way *way, uint32_t slot, struct sync *sync) {
    struct channel *channel = way->route->channel;
    const struct dvk_channel_view *view = &channel->view;
    const struct dvk_slot *shared = &view->slot[channel->side][slot];
    struct dvk_message reply; /* the one copy */
    dvk_message_read(&reply, &shared->reply, __atomic_load_n(&shared->reply_lines, __ATOMIC_RELAXED));
    if (reply.flags & (DVK_MSG_FDS | DVK_MSG_ERROR) || reply.data_len > view->data_bytes)
        return false;
    reply.source = way->route->full;
    reply.destination = way->from;
    reply.flags = reply.fds = 0;
    reply.reserved = 0;
    *sync->message = reply;
    size_t len = reply.data_len < sync->reply_cap ? reply.data_len : sync->reply_cap;
    if (len && sync->reply_data)
        memcpy(sync->reply_data, dvk_channel_buffer(view, channel->side, 1, slot), len);
    sync->got = reply.data_len;
    channel_slot_free(dvk, channel, slot);
    return true;
}

/* As call_send would have left it. */
static struct call *quick_to_call(struct dvk *dvk, const struct way *way, uint32_t slot, uint32_t sequence, const struct sync *sync) {
    struct channel *channel = way->route->channel;
    struct call *call = NULL;
    (void)call_create(dvk, way->own->dc, way->from, sync->message, sync->kind, &call); /* cannot fail: call_is_spare */
    call->waited = true;
    call->message.notify = 0;
    call->message.data_len = (uint32_t)sync->data_len;
    call->message.flags = call->message.fds = 0;
    call->data_len = sync->data_len;
    call->full = way->route->full;
    call->channel = channel;
    call->slot = slot;
    call->sequence = sequence;
    call->position = __atomic_load_n(&channel->view.header->ring[channel->side].head, __ATOMIC_RELAXED); /* the last that we sent */
    call->revision = way->route->revision;
    call->state = CALL_SENT;
    channel->calls[slot] = call;
    channel_hold(channel);
    if (dvk_channel_is_dead(&channel->view)) /* P5: as in call_send */
        receive_mark_more(dvk, channel);
    return call;
}

bool sync_quick(struct dvk *dvk, const struct way *way, struct sync *sync, struct call **call) {
    struct channel *channel = way->route->channel;
    *call = NULL;
    if (!is_quick(dvk, channel, sync->data_len))
        return false;
    channel_prefetch_own(channel);
    int slot = channel_slot_take(channel);
    if (slot < 0)
        return false;
    cpu_update(dvk);
    uint32_t sequence =
        quick_send(dvk, way, (uint32_t)slot, sync->message, sync->kind, sync->data, sync->data_len);
    bool awake = !channel_peer_waits_for_us(channel); /* else it may have to be refused */
    if (awake && sync_spin(dvk, channel, (uint32_t)slot, sequence) == DVK_LOOK_DONE &&
        quick_take(dvk, way, (uint32_t)slot, sync))
        return true;
    *call = quick_to_call(dvk, way, (uint32_t)slot, sequence, sync);
    (*call)->spun = awake;
    return false;
}
