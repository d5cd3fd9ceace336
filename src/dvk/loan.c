/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long messages: runs of adjacent slots, whose buffers are adjacent too. The message lies in the first slot of the run;
 * the others only lend their buffers and never enter the ring. A run is taken for a loan, or for one call with more
 * data than one buffer holds.
 *
 * Runs come from the upper end of a side's slots and single slots from the lower, and runs are aligned to their size,
 * rounded up to a power of two: so they find room again after any use.
 *
 * What runs have used stays in memory: the runs freed last, up to WARM_BYTES of a context, since the next loan will be
 * one of them. The rest is given back to the system.
 */
#include "dvk/internal.h"
#include <dvk/loan.h>

#include <stdlib.h>
#include <sys/mman.h>

#define WARM_BYTES DVK_LOAN_MAX

/* A run that was lent and not sent. */
struct loan {
    struct link link;        /* dvk.loans */
    struct channel *channel; /* holds a reference */
    void *data;
    uint32_t slot, span;
};

uint32_t span_of(uint64_t bytes, uint32_t data_bytes) {
    uint64_t span = (bytes + data_bytes - 1) / data_bytes;
    return span == 0 ? 1 : span > UINT32_MAX ? UINT32_MAX : (uint32_t)span;
}

/* Forget that a region is warm. */
static void warm_remove(struct dvk *dvk, const struct channel *channel, uint32_t slot) {
    for (unsigned i = 0; i < dvk->warm_count; i++)
        if (dvk->warm[i].channel == channel && dvk->warm[i].slot == slot) {
            dvk->warm_bytes -= dvk->warm[i].bytes;
            dvk->warm_count--;
            memmove(&dvk->warm[i], &dvk->warm[i + 1], (dvk->warm_count - i) * sizeof *dvk->warm);
            return;
        }
}

void warm_forget(struct dvk *dvk, const struct channel *channel) {
    for (unsigned i = dvk->warm_count; i-- > 0;)
        if (dvk->warm[i].channel == channel)
            warm_remove(dvk, channel, dvk->warm[i].slot);
}

/* Give back what the slots' buffers use, but of those that are in use again. Contents of free slots mean nothing. */
static void region_chill(const struct warm *warm) {
    const struct dvk_channel_view *view = &warm->channel->view;
    for (uint32_t i = warm->slot; i < warm->slot + warm->span; i++)
        for (int reply = 0; reply < 2; reply++)
            if (map_has(warm->channel->free_map, i)) /* a refusal only costs memory */
                (void)madvise(dvk_channel_buffer(view, warm->channel->side, reply, i), view->data_bytes, MADV_REMOVE);
}

static void warm_drop_oldest(struct dvk *dvk) {
    struct warm oldest = dvk->warm[0];
    warm_remove(dvk, oldest.channel, oldest.slot);
    region_chill(&oldest);
}

static void warm_add(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t span) {
    warm_remove(dvk, channel, slot);
    while (dvk->warm_count == WARM_REGIONS)
        warm_drop_oldest(dvk);
    struct warm warm = {channel, slot, span, (size_t)span * channel->view.data_bytes};
    dvk->warm[dvk->warm_count++] = warm;
    dvk->warm_bytes += warm.bytes;
    while (dvk->warm_bytes > WARM_BYTES)
        warm_drop_oldest(dvk);
}

static bool run_is_free(const struct channel *channel, uint32_t slot, uint32_t span) {
    for (uint32_t i = slot; i < slot + span; i++)
        if (!map_has(channel->free_map, i))
            return false;
    /* a cancellation that the peer has not taken: see dvk_ring_has_passed */
    return !map_has(channel->cancel_map, slot) ||
           dvk_ring_has_passed(&channel->view.header->ring[channel->side], channel->cancel_at[slot]);
}

int channel_run_take(struct dvk *dvk, struct channel *channel, uint32_t span) {
    if (span == 1)
        return channel_slot_take(channel);
    uint32_t step = 1, slots = channel->view.slots[channel->side];
    while (step < span)
        step *= 2;
    for (uint32_t at = slots - slots % step; at >= step; at -= step) {
        uint32_t slot = at - step;
        if (!run_is_free(channel, slot, span))
            continue;
        for (uint32_t i = slot; i < slot + span; i++)
            map_clear(channel->free_map, i);
        map_clear(channel->cancel_map, slot);
        warm_remove(dvk, channel, slot);
        return (int)slot;
    }
    return -1;
}

uint32_t channel_span_max(const struct channel *channel) {
    uint32_t slots = channel->view.slots[channel->side];
    uint32_t most = DVK_LOAN_MAX / channel->view.data_bytes;
    return most == 0 ? 1 : most < slots ? most : slots;
}

void channel_run_free(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t span) {
    for (uint32_t i = slot + 1; i < slot + span; i++)
        channel_slot_give(channel, i);
    if (span > 1 && !channel->closed)
        warm_add(dvk, channel, slot, span);
    channel_slot_free(dvk, channel, slot);
}

static struct loan *loan_find(struct dvk *dvk, const void *data) {
    list_each(loan, &dvk->loans, struct loan, link) {
        if (loan->data == data)
            return loan;
    }
    return NULL;
}

/* The loan's run and reference are the caller's now. */
static void loan_forget(struct loan *loan) {
    list_remove(&loan->link);
    free(loan);
}

bool loan_take(struct dvk *dvk, struct call *call, struct channel *channel, const void *data) {
    struct loan *loan = list_is_empty(&dvk->loans) || !data ? NULL : loan_find(dvk, data);
    if (!loan || loan->channel != channel || channel->closed)
        return false;
    call->channel = loan->channel;
    call->slot = loan->slot;
    call->span = loan->span;
    call->lent = true;
    loan_forget(loan);
    return true;
}

static void loan_end(struct dvk *dvk, struct loan *loan) {
    struct channel *channel = loan->channel;
    uint32_t slot = loan->slot, span = loan->span;
    loan_forget(loan);
    channel_run_free(dvk, channel, slot, span);
    channel_release(channel);
}

void loans_end(struct dvk *dvk) {
    struct loan *loan;
    while ((loan = list_first(&dvk->loans, struct loan, link)))
        loan_end(dvk, loan);
}

void loan_drop(struct dvk *dvk, const void *data) {
    struct loan *loan = list_is_empty(&dvk->loans) || !data ? NULL : loan_find(dvk, data);
    if (loan)
        loan_end(dvk, loan);
}

void dvk_loan_drop(struct dvk *dvk, void *data) {
    loan_drop(dvk, data);
}

/* The channel to a destination; waits for dvkd the first time. */
static int channel_to(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, int timeout_ms,
                      struct channel **out) {
    struct route *route;
    int64_t deadline = deadline_of(timeout_ms);
    dvk->route_error = 0;
    int error = route_get(dvk, dc, from, to, 0, &route);
    if (error < 0)
        return error;
    while (!route->channel) {
        if (dvk->broker_gone)
            return -DVK_ENODAEMON;
        if (is_past(deadline))
            return -DVK_ETIMEDOUT;
        int64_t soon = now_ns() + NS_PER_MS;
        broker_wait(dvk, route->old && soon < deadline ? soon : deadline);
        broker_drain(dvk);
        route = route_find(dvk, dc, from, to);
        if (route && route->old) /* it settles when the scan finds what comes back */
            (void)receive_scan(dvk);
        route = route_find(dvk, dc, from, to);
        if (!route)
            return dvk->route_error < 0 ? dvk->route_error : -DVK_EDEADDST;
    }
    *out = route->channel;
    return 0;
}

int dvk_loan_get(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, size_t length, int timeout_ms, void **data) {
    poller_glance(dvk); /* which may take the endpoint away */
    struct own_endpoint *own = own_find(dvk, from);
    dvk_endpoint full;
    *data = NULL;
    if (!own)
        return -DVK_ENOTBOUND;
    if (length == 0 || to == DVK_NONE || own_resolve(dvk, own->dc, to, &full))
        return -EINVAL;
    if (length > DVK_LOAN_MAX)
        return -EMSGSIZE;
    struct dvk_stats *stats = own->stats; /* outlives the endpoint */
    struct channel *channel;
    int error = channel_to(dvk, own->dc, from, to, timeout_ms, &channel);
    if (error < 0)
        return error;
    uint32_t span = span_of(length, channel->view.data_bytes);
    if (span > channel_span_max(channel))
        return -EMSGSIZE;
    struct loan *loan = calloc(1, sizeof *loan);
    if (!loan)
        return -ENOMEM;
    int slot = channel_run_take(dvk, channel, span);
    if (slot < 0) {
        free(loan);
        return -EAGAIN;
    }
    channel_hold(channel);
    loan->channel = channel;
    loan->slot = (uint32_t)slot;
    loan->span = span;
    loan->data = dvk_channel_buffer(&channel->view, channel->side, 0, loan->slot);
    list_prepend(&dvk->loans, &loan->link);
    stats->loans++;
    *data = loan->data;
    return 0;
}

int dvk_accept(struct dvk *dvk, size_t bytes) {
    if (bytes > DVK_LOAN_MAX)
        return -EINVAL;
    dvk->accepts = (uint32_t)bytes;
    return 0;
}
