/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: mapping, slots, end. */
#include "common/cleanup.h"
#include "dvk/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct channel *channel_find(struct dvk *dvk, uint64_t number) {
    list_each(channel, &dvk->numbers[bucket_of(number, 0)], struct channel, number_link) {
        if (channel->number == number)
            return channel;
    }
    return NULL;
}

/* Bit 0 is what a peer reads before we have set ours: never given out. Bits are shared when they run out. */
static uint32_t bit_take(struct dvk *dvk) {
    for (unsigned tries = 0; tries < DVK_DOORBELL_BITS; tries++) {
        uint32_t bit = dvk->next_bit;
        dvk->next_bit = bit + 1 == DVK_DOORBELL_BITS ? 1 : bit + 1;
        if (list_is_empty(&dvk->by_bit[bit]))
            return bit;
    }
    return dvk->next_bit;
}

int channel_attach(struct dvk *dvk, uint64_t number, uint32_t dc, int side, bool proxy, bool guest,
                   struct channel_fds *fds, struct channel **out) {
    cleanup_close int memfd = fds->memfd, socket = fds->socket, bell = fds->bell;
    struct channel *channel = calloc(1, sizeof *channel);
    struct stat st;
    if (!channel)
        return -ENOMEM;
    if (side < 0 || side > 1 || fstat(memfd, &st) < 0 || st.st_size <= 0) {
        free(channel);
        return -EINVAL;
    }
    size_t size = (size_t)st.st_size;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (base == MAP_FAILED) {
        free(channel);
        return -ENOMEM;
    }
    channel->references = 1;
    channel->socket = -1;
    list_init(&channel->bit_link);
    list_init(&channel->more);
    list_init(&channel->routes);
    list_init(&channel->queue);
    list_init(&channel->asides);
    list_init(&channel->left);
    channel->view.base = base;
    channel->view.size = size;
    if (dvk_channel_view_init(&channel->view, base, size) < 0) {
        channel_free(channel);
        return -EPROTO;
    }
    if (bell >= 0) {
        if (fstat(bell, &st) < 0 || st.st_size < DVK_DOORBELL_SIZE) {
            channel_free(channel);
            return -EPROTO;
        }
        void *page = mmap(NULL, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, bell, 0);
        if (page == MAP_FAILED) {
            channel_free(channel);
            return -ENOMEM;
        }
        channel->peer_bell = page;
    }
    channel->calls = calloc(channel->view.slots[side], sizeof *channel->calls);
    channel->requests = calloc(channel->view.slots[1 - side], sizeof *channel->requests);
    if (!channel->calls || !channel->requests) {
        channel_free(channel);
        return -ENOMEM;
    }
    channel->number = number;
    channel->dc = dc;
    channel->side = side;
    channel->proxy = proxy;
    channel->guest = guest;
    channel->judged = dvk->own_judged && !guest;
    channel->gone_status = proxy ? -DVK_ENODEUNREACH : -DVK_EDEADDST;
    channel->socket = steal_fd(&socket);
    for (uint32_t i = 0; i < channel->view.slots[side]; i++)
        channel_slot_give(channel, i);
    channel->bit = bit_take(dvk);
    list_append(&dvk->by_bit[channel->bit], &channel->bit_link);
    list_append(&dvk->channels, &channel->link);
    list_append(&dvk->numbers[bucket_of(number, 0)], &channel->number_link);
    /* The peer may have sent before this; either it sees the bit or our scan, below, sees what it sent. */
    __atomic_store_n(&channel->view.header->doorbell_bit[side], channel->bit, __ATOMIC_SEQ_CST);
    receive_mark_more(dvk, channel);
    *out = channel;
    return 0;
}

void channel_free(struct channel *channel) {
    munmap(channel->view.base, channel->view.size);
    if (channel->peer_bell)
        munmap(channel->peer_bell, DVK_DOORBELL_SIZE);
    if (channel->socket >= 0)
        close(channel->socket);
    channel_left_free(channel);
    for (uint32_t i = 0; channel->peer_privileges && i < channel->peer_count; i++)
        free(channel->peer_privileges[i]);
    free(channel->peer_privileges);
    free(channel->peers);
    free(channel->peer_table);
    free(channel->cancel_at);
    free(channel->calls);
    free(channel->requests);
    free(channel->posts);
    free(channel);
}

void channel_release(struct channel *channel) {
    if (--channel->references == 0)
        channel_free(channel);
}

int channel_slot_take(struct channel *channel) {
    uint32_t words = (channel->view.slots[channel->side] + 63) / 64;
    while (channel->free_from < words - 1 && channel->free_map[channel->free_from] == 0)
        channel->free_from++;
    for (uint32_t w = channel->free_from; w < words; w++) {
        uint64_t free_bits = channel->free_map[w] & ~channel->cancel_map[w];
        if (!free_bits)
            continue;
        channel->free_map[w] &= ~(free_bits & -free_bits);
        return (int)(w * 64 + (uint32_t)__builtin_ctzll(free_bits));
    }
    for (uint32_t w = 0; w < words; w++) /* all that are free have a cancellation, which the peer may have taken meanwhile */
        for (uint64_t free_bits = channel->free_map[w]; free_bits; free_bits &= free_bits - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(free_bits);
            if (!dvk_ring_has_passed(&channel->view.header->ring[channel->side], channel->cancel_at[i]))
                continue; /* a third entry in the ring would be one too many */
            map_clear(channel->cancel_map, i);
            map_clear(channel->free_map, i);
            return (int)i;
        }
    return -1;
}

void channel_slot_free(struct dvk *dvk, struct channel *channel, uint32_t slot) {
    channel->calls[slot] = NULL;
    map_clear(channel->back_map, slot);
    dvk_slot_free(&channel->view.slot[channel->side][slot]);
    channel_slot_give(channel, slot);
    if (!channel->closed && !list_is_empty(&channel->queue))
        call_send_queued(dvk, channel);
}

void channel_ring(struct dvk *dvk, struct channel *channel) {
    if (channel->cpu_told != dvk->cpu) {
        channel->cpu_told = dvk->cpu;
        __atomic_store_n(&channel->view.header->cpu[channel->side], dvk->cpu, __ATOMIC_RELAXED);
    }
    if (!channel->peer_bell)
        return;
    uint32_t bit = __atomic_load_n(&channel->view.header->doorbell_bit[1 - channel->side], __ATOMIC_SEQ_CST);
    if (dvk_doorbell_post(channel->peer_bell, bit))
        dvk_futex_wake(&channel->peer_bell->word, 1);
}

static void wake_all(void *context, uint32_t *word) {
    (void)context;
    dvk_futex_wake(word, INT_MAX);
}

/*
 * dvk_channel_kill, but only of slots that may be waited on: our own that are in use, the peer's that we took and have not
 * answered, and those that its ring has for us. The others' pages stay untouched, and mostly do not exist. The peer appends to its
 * ring before it looks at `dead` (P5).
 */
void channel_kill(struct channel *channel) {
    const struct dvk_channel_view *view = &channel->view;
    int own = channel->side, peer = 1 - own;
    __atomic_store_n(&view->header->dead, 1u, __ATOMIC_SEQ_CST); /* P5 */
    for (uint32_t i = 0; i < view->slots[own]; i++)
        if (!map_has(channel->free_map, i))
            dvk_slot_kill(&view->slot[own][i], wake_all, NULL);
    for (uint32_t i = 0; i < view->slots[peer]; i++)
        if (channel->requests[i])
            dvk_slot_kill(&view->slot[peer][i], wake_all, NULL);
    uint16_t entry;
    for (uint32_t n = 0; n < 2 * view->slots[peer]; n++) {
        if (dvk_ring_peek(&view->header->ring[peer], view->slots[peer], channel->taken + n, &entry) <= 0)
            break;
        dvk_slot_kill(&view->slot[peer][entry & ~DVK_RING_CANCEL], wake_all, NULL);
    }
    channel_ring_plain(channel);
}

void channel_ring_plain(struct channel *channel) {
    if (!channel->peer_bell)
        return;
    uint32_t bit = __atomic_load_n(&channel->view.header->doorbell_bit[1 - channel->side], __ATOMIC_SEQ_CST);
    if (dvk_doorbell_post(channel->peer_bell, bit))
        dvk_futex_wake(&channel->peer_bell->word, 1);
}

/* The peer has gone: an answer that it gave before counts. Not if it broke the protocol, or it is we who go. */
static void call_end(struct dvk *dvk, struct call *call, int status) {
    const struct channel *channel = call->channel;
    const struct dvk_slot *slot = &channel->view.slot[channel->side][call->slot];
    bool trusted = status != -DVK_EBADPEER && status != -DVK_EINTERRUPTED;
    if (trusted && dvk_slot_look(slot, call->sequence) == DVK_LOOK_DONE)
        call_take_reply(dvk, call);
    else if (!trusted || !call_lost(dvk, call))
        call_complete(dvk, call, status);
}

void channel_is_gone(struct dvk *dvk, struct channel *channel) {
    broker_drain(dvk); /* dvkd told why before it marked it */
    int status = channel->proxy && dvk->broker_gone ? -DVK_ENODAEMON : channel->gone_status; /* a proxy ends with its dvkd */
    channel_close(dvk, channel, status, true, true);
}

void channel_close(struct dvk *dvk, struct channel *channel, int status, bool tell, bool event) {
    if (channel->closed)
        return;
    channel->closed = true;
    if (dvk->last_channel == channel)
        dvk->last_channel = NULL;
    list_remove(&channel->link);
    list_remove(&channel->number_link);
    list_remove(&channel->bit_link);
    list_remove(&channel->more);
    warm_forget(dvk, channel);
    if (!channel->ended) /* else dvkd marks it when it has told the other side why, too */
        channel_kill(channel);
    if (tell) {
        struct dvk_broker_packet closed = {.type = DVK_BROKER_CHANNEL_CLOSED, .channel = channel->number};
        (void)broker_send(dvk, &closed, NULL, NULL, 0);
    }
    if (event)
        for (size_t i = 0; i < channel->peer_count; i++) {
            struct dvk_broker_packet gone = {
                .type = DVK_BROKER_CHANNEL_GONE, .dc = channel->dc, .peer = channel->peers[i], .node = dvk->node};
            broker_event(dvk, &gone);
        }
    if (status != -DVK_EBADPEER && status != -DVK_EINTERRUPTED)
        posts_recover(dvk, channel);
    struct route *route;
    while ((route = list_first(&channel->routes, struct route, of_channel)))
        route_drop(dvk, route, status);
    struct call *call;
    while ((call = list_first(&channel->queue, struct call, link))) {
        list_remove(&call->link);
        call_complete(dvk, call, status);
    }
    for (uint32_t i = 0; i < channel->view.slots[channel->side]; i++)
        if (channel->calls[i] && channel->calls[i]->state == CALL_SENT)
            call_end(dvk, channel->calls[i], status);
    for (uint32_t i = 0; i < channel->view.slots[1 - channel->side]; i++)
        if (channel->requests[i])
            request_detach(dvk, channel->requests[i]);
    fdpass_drop(channel);
    close(channel->socket);
    channel->socket = -1;
    settle_run(dvk);
    channel_release(channel);
}
