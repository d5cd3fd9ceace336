/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that we got: their answer, cancellation, and the end of their requester. */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <limits.h>
#include <stdlib.h>

#define FREE_REQUESTS_MAX 256u

struct request *request_new(struct dvk *dvk) {
    struct request *request = list_first(&dvk->free_requests, struct request, link);
    if (request) {
        list_remove(&request->link);
        dvk->free_request_count--;
    } else if ((request = malloc(sizeof *request)))
        request->fds_used = true;
    if (!request)
        return NULL;
    /* all but the message, which every caller writes as a whole, and what is not valid yet */
    uint8_t *bytes = (uint8_t *)request;
    memset(bytes + sizeof request->public.msg, 0, offsetof(struct request, public.fds) - sizeof request->public.msg);
    memset(bytes + offsetof(struct request, public.fd_count), 0,
           sizeof request->public - offsetof(struct request, public.fd_count));
    memset(bytes + offsetof(struct request, state), 0, offsetof(struct request, filed) - offsetof(struct request, state));
    request->filed[0].inbox = request->filed[1].inbox = NULL;
    if (request->fds_used)
        memset(request->public.fds, 0xff, sizeof request->public.fds); /* -1 */
    request->fds_used = false;
    list_init(&request->link);
    list_append(&dvk->requests, &request->all);
    request->stats = &dvk->uncounted;
    return request;
}

/* Let go of the slot without an answer (it was given, or goes nowhere). */
static void request_unslot(struct request *request) {
    struct channel *channel = request->channel;
    if (!channel || request->finished)
        return;
    request->finished = true;
    if (channel->requests[request->slot] == request)
        channel->requests[request->slot] = NULL;
    if (request->sync)
        channel->sync_requests--;
}

void request_free(struct dvk *dvk, struct request *request) {
    list_remove(&request->link);
    if (request->filed[0].inbox)
        request_unfile(request);
    if (request->kind == DVK_SLOT_POST && request->state == REQUEST_READY && request->channel)
        receive_post_done(dvk, request->channel);
    list_remove(&request->all);
    request_unslot(request);
    if (request->channel)
        channel_release(request->channel);
    if (request->looped)
        request->looped->looped = NULL;
    if (request->state == REQUEST_READY) { /* nobody got it */
        close_fds(request->public.fds, request->public.fd_count);
        request->stats->withdrawn++;
    }
    if (request->data_buffer || request->reply_buffer) {
        free(request->data_buffer);
        free(request->reply_buffer);
    }
    if (dvk->free_request_count >= FREE_REQUESTS_MAX) {
        free(request);
        return;
    }
    dvk->free_request_count++;
    list_prepend(&dvk->free_requests, &request->link);
}

void slot_answer(struct dvk *dvk, struct channel *channel, uint32_t i, uint32_t sequence,
                        const struct dvk_message *reply) {
    struct dvk_slot *slot = &channel->view.slot[1 - channel->side][i];
    /* `lines` before the state: the requester reads both after that (P2) */
    uint32_t brief = __atomic_load_n(&slot->flags, __ATOMIC_RELAXED) & DVK_SLOT_BRIEF;
    uint32_t lines = brief ? dvk_message_lines(reply) : DVK_MESSAGE_LINES;
    dvk_message_write(&slot->reply, reply, lines);
    __atomic_store_n(&slot->reply_lines, lines, __ATOMIC_RELAXED);
    unsigned todo = dvk_slot_finish(slot, sequence);
    if (todo & DVK_FINISH_WAKE && channel->place)
        waits_answered(dvk, channel, __atomic_load_n(&slot->waiters, __ATOMIC_SEQ_CST));
    if (todo & DVK_FINISH_WAKE)
        dvk_futex_wake(&slot->state, INT_MAX);
    if (todo & DVK_FINISH_RING)
        channel_ring(dvk, channel);
}

void request_error(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence, int status) {
    struct dvk_message reply = {.status = status, .flags = DVK_MSG_ERROR};
    slot_answer(dvk, channel, slot, sequence, &reply);
}

void request_taken(struct dvk *dvk, struct request *request) {
    if (request->finished)
        return;
    if (request->is_loopback) {
        struct dvk_message reply = {0};
        request->finished = true;
        loopback_finish(dvk, request, &reply, NULL, 0);
        return;
    }
    if (!request->channel)
        return;
    struct channel *channel = request->channel;
    request_unslot(request);
    if (!request->detached) {
        struct dvk_message reply = {.source = request->public.msg.destination,
                                    .destination = request->public.msg.source};
        slot_answer(dvk, channel, request->slot, request->sequence, &reply);
    }
}

/* The user should end it: tell from dvk_receive. */
static void request_notice(struct dvk *dvk, struct request *request) {
    request->public.cancelled = true;
    if (request->state == REQUEST_TAKEN && request->public.wants_reply && !list_has(&request->link))
        list_append(&dvk->notices, &request->link);
}

/* It has not been handed out, and never will be. */
static void request_refuse(struct dvk *dvk, struct request *request, int status) {
    if (request->is_loopback) {
        struct dvk_message reply = {.status = status, .flags = DVK_MSG_ERROR};
        loopback_finish(dvk, request, &reply, NULL, 0);
    } else if (!request->finished && request->channel) {
        struct channel *channel = request->channel;
        request_unslot(request);
        request_error(dvk, channel, request->slot, request->sequence, status);
    }
    request_free(dvk, request);
}

void request_cancel(struct dvk *dvk, struct request *request) {
    if (request->finished || request->public.cancelled)
        return;
    if (request->state == REQUEST_TAKEN || dvk->relay) {
        request_notice(dvk, request);
        return;
    }
    request_refuse(dvk, request, -DVK_EINTERRUPTED);
}

void requests_refuse_to(struct dvk *dvk, dvk_endpoint endpoint, int status) {
    struct link *lists[] = {&dvk->filed_notes, &dvk->ready_notes, &dvk->filed, &dvk->ready, &dvk->parked};
    for (int i = 0; i < 5; i++)
        list_each(request, lists[i], struct request, link) {
            if (request->public.msg.destination == endpoint)
                request_refuse(dvk, request, status);
        }
}

void request_detach(struct dvk *dvk, struct request *request) {
    request_unslot(request);
    request->detached = true;
    if (request->state == REQUEST_READY)
        request_free(dvk, request);
    else
        request_notice(dvk, request);
}

void request_answer(struct dvk *dvk, struct request *request, const struct dvk_message *reply, const int *fds,
                    unsigned fd_count, bool error) {
    if (request->is_loopback) {
        struct dvk_message looped = *reply;
        looped.flags = error ? DVK_MSG_ERROR : 0;
        if (!request->finished)
            loopback_finish(dvk, request, &looped, fds, fd_count);
        request_free(dvk, request);
        return;
    }
    if (request->finished || request->detached || !request->channel) {
        request_free(dvk, request);
        return;
    }
    struct channel *channel = request->channel;
    struct dvk_message out = *reply;
    if (!dvk->relay)
        out.source = request->public.msg.destination;
    out.destination = request->public.msg.source;
    out.flags = error ? DVK_MSG_ERROR : 0;
    out.fds = 0;
    out.notify = 0;
    out.reserved = 0;
    if (out.data_len > request->public.reply_cap)
        out.data_len = 0;
    if (fd_count && !error) {
        int sent = channel->proxy || fd_count > DVK_MESSAGE_FDS
                       ? -DVK_ENOTALLOWED
                       : fdpass_send(channel, request->slot, 1 - channel->side, true, request->sequence, fds, fd_count);
        if (sent == 0) {
            out.flags = DVK_MSG_FDS;
            out.fds = (uint16_t)fd_count;
        } else { /* an answer that lacks its descriptors is none */
            memset(&out.payload, 0, sizeof out.payload);
            out.status = sent;
            out.data_len = 0;
            out.flags = DVK_MSG_ERROR;
        }
    }
    uint32_t slot = request->slot, sequence = request->sequence;
    request_unslot(request);
    slot_answer(dvk, channel, slot, sequence, &out);
    request_free(dvk, request);
}

static void reply_count(const struct dvk_request *req, uint32_t data_len) {
    struct dvk_stats *stats = ((const struct request *)req)->stats;
    stats->replies++;
    if (data_len && data_len <= req->reply_cap)
        stats->bytes_out += data_len;
}

void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *fds,
               unsigned fd_count) {
    reply_count(req, reply->data_len);
    request_answer(dvk, (struct request *)req, reply, fds, fd_count, dvk->relay && reply->flags & DVK_MSG_ERROR);
}

void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status) {
    struct dvk_message reply = {.status = status, .source = req->msg.destination};
    reply_count(req, 0);
    request_answer(dvk, (struct request *)req, &reply, NULL, 0, false);
}

void dvk_reply_error(struct dvk *dvk, struct dvk_request *req, int error) {
    struct dvk_message reply = {.status = error, .source = req->msg.destination};
    reply_count(req, 0);
    request_answer(dvk, (struct request *)req, &reply, NULL, 0, true);
}

bool dvk_relay_is_send(const struct dvk_request *req) {
    return ((const struct request *)req)->kind == DVK_SLOT_SEND;
}

void dvk_release(struct dvk *dvk, struct dvk_request *req) {
    struct request *request = (struct request *)req;
    if (request->public.wants_reply) { /* a caller's mistake that must not leave the requester waiting */
        dvk_reply_error(dvk, req, -DVK_EINTERRUPTED);
        return;
    }
    request_taken(dvk, request);
    request_free(dvk, request);
}
