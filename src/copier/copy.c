/* SPDX-License-Identifier: Apache-2.0 */
#include "copier/copy.h"
#include "copier/memory.h"
#include "dvk/copy_protocol.h"

#include <dvk/vcopy.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLICE_BYTES (1u << 20) /* of a local copy, before others have their turn */
#define PIECE_BYTES DVK_DATA_MAX
#define WINDOW 32u /* pieces of one copy under way: 2 MiB */

struct copy {
    struct link link; /* copier.work */
    struct copier *copier;
    struct dvk_request *req; /* NULL: answered */
    struct claim source, destination;
    uint64_t length, done;
    int64_t deadline_ms; /* INT64_MAX: none */
    /* remote */
    uint64_t timer;
    bool has_timer;
    uint64_t next;    /* first byte that was not asked for */
    uint64_t arrived; /* bit i: piece number (done / PIECE_BYTES + i) has been written */
    unsigned flying;
};

struct piece {
    struct copy *copy;
    uint64_t offset, length;
};

static int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void copy_free(struct copy *copy) {
    list_remove(&copy->link);
    free(copy);
}

static void copy_answer(struct copy *copy, int status) {
    struct dvk_request *req = copy->req;
    struct dvk_message reply = {.source = req->msg.destination, .status = status};
    reply.payload.words[0] = copy->done;
    if (copy->has_timer)
        dvk_timer_cancel(copy->copier->dvk, copy->timer);
    copy->has_timer = false;
    copy->req = NULL;
    list_remove(&copy->link);
    dvk_reply(copy->copier->dvk, req, &reply, NULL, 0);
    if (copy->flying == 0)
        copy_free(copy);
}

/* A part of what a side of the copy was granted. Callers have just called dvk_copier_drain: what dvkd told anybody of
 * before a message came here, it has told us before. */
static int claim_check(const struct copier *copier, const struct claim *whole, uint64_t at, uint64_t length,
                       const struct grant **out) {
    struct claim part = *whole;
    if (__builtin_add_overflow(part.offset, at, &part.offset))
        return -DVK_EOUTOFGRANT;
    part.length = length;
    int error = grants_check(&copier->grants, &part, out);
    return error == -DVK_EDEADDST && whole->access == DVK_GRANT_READ ? -DVK_EDEADSRC : error;
}

/* ---- both ends here ---- */

void copy_turn(struct copier *copier) {
    struct copy *copy = list_first(&copier->work, struct copy, link);
    const struct grant *from, *to;
    uint64_t left = copy->length - copy->done;
    size_t slice = left < SLICE_BYTES ? (size_t)left : SLICE_BYTES, done = 0;
    list_remove(&copy->link);
    dvk_copier_drain(copier->dvk);
    int error = claim_check(copier, &copy->source, copy->done, slice, &from);
    if (error == 0)
        error = claim_check(copier, &copy->destination, copy->done, slice, &to);
    if (error == 0)
        error = memory_copy(from, copy->source.offset + copy->done, to, copy->destination.offset + copy->done, slice,
                            &done);
    copy->done += done;
    if (error < 0 || copy->done == copy->length)
        copy_answer(copy, error);
    else if (now_ms() >= copy->deadline_ms)
        copy_answer(copy, -DVK_ETIMEDOUT);
    else
        list_append(&copier->work, &copy->link);
}

/* ---- the source is elsewhere ---- */

static void copy_ask_more(struct copy *copy);

/* Pieces come in any order; `done` is what is there without a gap. */
static void piece_arrived(struct copy *copy, uint64_t offset) {
    copy->arrived |= 1ull << ((offset - copy->done) / PIECE_BYTES);
    while (copy->arrived & 1) {
        copy->arrived >>= 1;
        uint64_t left = copy->length - copy->done;
        copy->done += left < PIECE_BYTES ? left : PIECE_BYTES;
    }
}

static int piece_write(struct copy *copy, const struct piece *piece, int status, const struct dvk_message *reply,
                       const void *data, size_t data_len) {
    const struct grant *to;
    size_t put;
    if (status == -DVK_EDEADDST || status == -DVK_ENOTBOUND || status == -DVK_EBADPEER)
        return -DVK_EINTERRUPTED; /* the other copier, not the owner of the memory */
    if (status < 0)
        return status;
    if (reply->status < 0)
        return reply->status;
    if (data_len != piece->length)
        return -DVK_EBADPEER;
    dvk_copier_drain(copy->copier->dvk);
    int error = claim_check(copy->copier, &copy->destination, piece->offset, piece->length, &to);
    /* data lies in a channel: whoever changes it now spoils what it could have sent */
    return error < 0 ? error : memory_write(to, copy->destination.offset + piece->offset, data, data_len, &put);
}

static void piece_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    struct piece piece = *(struct piece *)context;
    struct copy *copy = piece.copy;
    (void)fds, (void)fd_count; /* none come from another node */
    free(context);
    copy->flying--;
    if (!copy->req) {
        if (copy->flying == 0)
            copy_free(copy);
        return;
    }
    int error = piece_write(copy, &piece, status, reply, data, data_len);
    if (error < 0) {
        copy_answer(copy, error);
        return;
    }
    piece_arrived(copy, piece.offset);
    if (copy->done == copy->length)
        copy_answer(copy, 0);
    else
        copy_ask_more(copy);
}

static int piece_ask(struct copy *copy) {
    struct piece *piece = malloc(sizeof *piece);
    uint64_t left = copy->length - copy->next;
    if (!piece)
        return -ENOMEM;
    *piece = (struct piece){copy, copy->next, left < PIECE_BYTES ? left : PIECE_BYTES};
    const struct dvk_copy_read read = {.requester = copy->source.requester,
                                       .owner = copy->source.owner,
                                       .grant = copy->source.grant,
                                       .offset = copy->source.offset + copy->next,
                                       .length = piece->length,
                                       .rest = left};
    uint32_t node = dvk_grant_node(copy->source.grant);
    struct dvk_message message = {.destination = dvk_service_endpoint(node, DVK_SERVICE_COPY), .type = DVK_COPY_READ};
    memcpy(&message.payload, &read, sizeof read);
    int error = dvk_call_as(copy->copier->dvk, copy->source.dc, &message, NULL, 0, piece_done, piece, NULL);
    if (error < 0) {
        free(piece);
        return error;
    }
    copy->flying++;
    copy->next += piece->length;
    return 0;
}

static void copy_ask_more(struct copy *copy) {
    while (copy->next < copy->length && copy->next - copy->done < (uint64_t)WINDOW * PIECE_BYTES) {
        int error = piece_ask(copy);
        if (error < 0) {
            copy_answer(copy, error);
            return;
        }
    }
}

static void copy_time_up(void *context) {
    struct copy *copy = context;
    copy->has_timer = false;
    copy_answer(copy, -DVK_ETIMEDOUT);
}

static void copy_start_remote(struct copy *copy) {
    const struct grant *to;
    /* all of the range, so that one that does not fit is refused before anything is written */
    int error = claim_check(copy->copier, &copy->destination, 0, copy->length, &to);
    uint64_t end;
    if (error == 0 && __builtin_add_overflow(copy->source.offset, copy->length, &end))
        error = -DVK_EOUTOFGRANT;
    if (error == 0 && copy->deadline_ms != INT64_MAX) {
        int64_t left = copy->deadline_ms - now_ms();
        error = dvk_timer(copy->copier->dvk, left > 0 ? (uint64_t)left : 0, copy_time_up, copy, &copy->timer);
        copy->has_timer = error == 0;
    }
    if (error < 0)
        copy_answer(copy, error);
    else
        copy_ask_more(copy);
}

/* ---- requests ---- */

static void copy_start(struct copier *copier, struct dvk_request *req) {
    struct dvk_copy_ask ask;
    memcpy(&ask, &req->msg.payload, sizeof ask);
    struct copy *copy = calloc(1, sizeof *copy);
    if (!copy) {
        dvk_reply_status(copier->dvk, req, -ENOMEM);
        return;
    }
    list_init(&copy->link);
    copy->copier = copier;
    copy->req = req;
    copy->length = ask.length;
    copy->deadline_ms = ask.timeout_ms < 0 ? INT64_MAX : now_ms() + ask.timeout_ms;
    copy->source = (struct claim){.dc = req->dc,
                                  .requester = req->msg.source,
                                  .owner = ask.source_owner,
                                  .grant = ask.source_grant,
                                  .offset = ask.source_offset,
                                  .access = DVK_GRANT_READ};
    copy->destination = (struct claim){.dc = req->dc,
                                       .requester = req->msg.source,
                                       .owner = ask.destination_owner,
                                       .grant = ask.destination_grant,
                                       .offset = ask.destination_offset,
                                       .access = DVK_GRANT_WRITE};
    req->user = copy;
    uint32_t node = dvk_grant_node(ask.source_grant), here = dvk_node(copier->dvk);
    const struct grant *grant;
    int error = dvk_grant_node(ask.destination_grant) != here || node == 0 || node > DVK_MAX_NODE ? -DVK_ENOTGRANTED
                : ask.length == 0 || ask.length > DVK_BROKER_GRANT_END                            ? -DVK_EOUTOFGRANT
                                                                                                  : 0;
    if (error == 0 && node != here) {
        copy_start_remote(copy);
        return;
    }
    if (error == 0)
        error = claim_check(copier, &copy->source, 0, copy->length, &grant);
    if (error == 0)
        error = claim_check(copier, &copy->destination, 0, copy->length, &grant);
    if (error < 0)
        copy_answer(copy, error);
    else
        list_append(&copier->work, &copy->link);
}

/* A piece of memory here, for another node's copier. */
static void read_answer(struct copier *copier, struct dvk_request *req) {
    struct dvk_copy_read ask;
    struct dvk_message reply = {.source = req->msg.destination};
    uint32_t from = dvk_endpoint_slot(req->msg.source);
    size_t got = 0;
    memcpy(&ask, &req->msg.payload, sizeof ask);
    struct claim claim = {.dc = req->dc,
                          .requester = ask.requester,
                          .owner = ask.owner,
                          .grant = ask.grant,
                          .offset = ask.offset,
                          .access = DVK_GRANT_READ};
    const struct grant *grant;
    /* copiers' addresses are bound by dvkd to copiers only; which node it is on, the proxy vouches for */
    if (req->local || !dvk_slot_is_system(from) || dvk_system_slot_service(from) != DVK_SERVICE_COPY)
        reply.status = -DVK_ENOTALLOWED;
    else if (ask.length == 0 || ask.length > ask.rest || ask.length > req->reply_cap)
        reply.status = -EINVAL;
    else
        reply.status = claim_check(copier, &claim, 0, ask.rest, &grant);
    if (reply.status == 0)
        reply.status = memory_read(grant, ask.offset, req->reply_data, ask.length, &got);
    reply.data_len = reply.status == 0 ? (uint32_t)got : 0;
    dvk_reply(copier->dvk, req, &reply, NULL, 0);
}

void copy_request(struct copier *copier, struct dvk_request *req) {
    dvk_copier_drain(copier->dvk);
    for (unsigned i = 0; i < req->fd_count; i++)
        close(req->fds[i]);
    if (dvk_relay_is_send(req) || req->cancelled)
        dvk_reply_status(copier->dvk, req, 0); /* taken, or given up */
    else if (req->msg.type == DVK_COPY)
        copy_start(copier, req);
    else if (req->msg.type == DVK_COPY_READ)
        read_answer(copier, req);
    else
        dvk_reply_status(copier->dvk, req, -ENOSYS);
}

void copy_cancelled(void *context, struct dvk_request *req) {
    (void)context;
    struct copy *copy = req->user;
    if (copy)
        copy_answer(copy, -DVK_EINTERRUPTED);
}
