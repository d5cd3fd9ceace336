/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing a request on. Who hands it on answers its requester's DVK, not the requester, with -DVK_ERELAYED and the new
 * destination; that DVK makes the request again there. So the source stays what a channel vouches for, nobody is needed
 * between requester and new destination any more, and cancellation, replies and ends are those of any request.
 */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/primitives.h>
#include <stdlib.h>

#define HOPS_MAX 16u

int dvk_relay(struct dvk *dvk, struct dvk_request *req, dvk_endpoint to) {
    struct request *request = (struct request *)req;
    if (!req->wants_reply || request->kind != DVK_SLOT_SENDREC || to == DVK_NONE || to == DVK_ANY)
        return -EINVAL;
    if (req->fd_count || (request->channel && request->channel->guest))
        return -DVK_ENOTALLOWED;
    struct dvk_message where = {.status = -DVK_ERELAYED, .source = req->msg.destination};
    where.payload.words[0] = to;
    request->stats->relayed++;
    request_answer(dvk, request, &where, NULL, 0, true);
    return 0;
}

/* May it be made again? 0 or the error that ends it. */
static int check(struct dvk *dvk, const struct call *call, dvk_endpoint to) {
    dvk_endpoint full;
    if (call->cancelled || call->abandoned)
        return -DVK_EINTERRUPTED;
    if (call->kind != DVK_SLOT_SENDREC || to == DVK_NONE || to == DVK_ANY)
        return -DVK_EBADPEER;
    if (call->hops >= HOPS_MAX)
        return -ELOOP;
    return call->waited && own_resolve(dvk, call->dc, to, &full) ? -DVK_EDEADLOCK : 0;
}

void call_follow(struct dvk *dvk, struct call *call, dvk_endpoint to, const void *data) {
    void *copy = NULL;
    int error = check(dvk, call, to);
    if (error == 0)
        error = call_data_keep(call, data, &copy);
    if (error < 0) {
        call_complete(dvk, call, error);
        return;
    }
    call_unslot(dvk, call);
    call->hops++;
    call->message.destination = to;
    call_submit_again(dvk, call, copy);
}
