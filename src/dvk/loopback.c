/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between endpoints of one context: no channel, but the same order of events: requests come out of
 * dvk_receive and completions are run from it, never from within dvk_call or dvk_reply. */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <stdlib.h>

int loopback_submit(struct dvk *dvk, struct call *call, const void *data, size_t data_len) {
    if (data_len > dvk->accepts)
        return -EMSGSIZE;
    if (dvk->own_judged && !privilege_own_allowed(dvk, call->from, call->full, call->kind, &call->message))
        return -DVK_ENOTALLOWED;
    struct request *request = request_new(dvk);
    if (!request)
        return -ENOMEM;
    struct dvk_request *pub = &request->public;
    request->is_loopback = true;
    request->kind = call->kind;
    request->data_buffer = data_len ? malloc(data_len) : NULL;
    request->reply_buffer = call->kind == DVK_SLOT_SENDREC ? malloc(DVK_DATA_MAX) : NULL;
    if ((data_len && !request->data_buffer) || (call->kind == DVK_SLOT_SENDREC && !request->reply_buffer)) {
        request_free(dvk, request);
        return -ENOMEM;
    }
    if (data_len)
        memcpy(request->data_buffer, data, data_len);
    pub->msg = call->message;
    pub->msg.destination = call->full;
    pub->msg.data_len = (uint32_t)data_len;
    pub->msg.flags = call->fd_count ? DVK_MSG_FDS : 0;
    pub->msg.fds = (uint16_t)call->fd_count;
    pub->msg.status = 0;
    pub->msg.notify = 0;
    pub->data = request->data_buffer;
    pub->reply_data = request->reply_buffer;
    pub->reply_cap = request->reply_buffer ? DVK_DATA_MAX : 0;
    pub->wants_reply = call->kind == DVK_SLOT_SENDREC;
    request->resumed = call->resumed;
    request->key = call->key;
    pub->local = true;
    pub->dc = call->dc;
    pub->source_node = dvk->node;
    memcpy(pub->fds, call->fds, call->fd_count * sizeof(int));
    pub->fd_count = call->fd_count;
    request->fds_used = true;
    call->fd_count = 0;
    request->looped = call;
    call->looped = request;
    call->state = CALL_LOOPED;
    const struct own_endpoint *own = own_find(dvk, call->full);
    if (own)
        request->stats = own->stats;
    receive_arrived(dvk, request);
    return 0;
}

void loopback_finish(struct dvk *dvk, struct request *request, const struct dvk_message *reply, const int *fds,
                     unsigned fd_count) {
    struct call *call = request->looped;
    request->looped = NULL;
    if (!call)
        return;
    call->looped = NULL;
    if (reply->flags & DVK_MSG_ERROR && reply->status == -DVK_ERELAYED && reply->payload.words[DVK_MOVED_MARK]) {
        call_moved(dvk, call, reply, request->data_buffer);
        return;
    }
    if (reply->flags & DVK_MSG_ERROR && reply->status == -DVK_ERELAYED) {
        call_follow(dvk, call, reply->payload.words[0], request->data_buffer);
        return;
    }
    if (reply->flags & DVK_MSG_ERROR) {
        call_complete(dvk, call, reply->status);
        return;
    }
    call->message = *reply;
    call->message.source = request->public.msg.destination;
    call->message.destination = request->public.msg.source;
    call->message.flags = 0;
    call->message.fds = 0;
    call->message.notify = 0;
    if (call->message.data_len > request->public.reply_cap)
        call->message.data_len = 0;
    for (unsigned i = 0; i < fd_count && i < DVK_MESSAGE_FDS; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            int error = -errno;
            close_fds(call->fds, call->fd_count);
            call->fd_count = 0;
            call_complete(dvk, call, error);
            return;
        }
        call->fds[call->fd_count++] = fd;
    }
    if (call->fd_count) {
        call->message.flags = DVK_MSG_FDS;
        call->message.fds = (uint16_t)call->fd_count;
    }
    /* the reply's data moves with the buffer that it was written into */
    free(call->data);
    call->data = request->reply_buffer;
    request->reply_buffer = NULL;
    request->public.reply_data = NULL;
    call->reply_data = call->data;
    call->reply_len = call->message.data_len;
    call_complete(dvk, call, 0);
}

int loopback_notify(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint64_t bits) {
    const struct dvk_message message = {.source = from, .destination = to, .notify = bits};
    if (dvk->own_judged && !privilege_own_allowed(dvk, from, to, DVK_SLOT_SEND, &message))
        return 0; /* dropped, as one to another process */
    struct inbox *inbox = inbox_find(dvk, to, from);
    if (inbox && !list_is_empty(&inbox->notes)) {
        list_element(inbox->notes.next, struct request, filed[1].line)->public.msg.notify |= bits;
        return 0;
    }
    list_each(request, &dvk->ready_notes, struct request, link) {
        if (request->is_loopback && request->public.dc == dc && request->public.msg.source == from &&
            request->public.msg.destination == to) {
            request->public.msg.notify |= bits;
            return 0;
        }
    }
    struct request *request = request_new(dvk);
    if (!request)
        return -ENOMEM;
    request->is_loopback = true;
    request->finished = true; /* nobody waits for it */
    request->kind = DVK_SLOT_SEND;
    request->public.msg = (struct dvk_message){.source = from, .destination = to, .notify = bits};
    request->public.dc = dc;
    request->public.local = true;
    request->public.source_node = dvk->node;
    const struct own_endpoint *own = own_find(dvk, to);
    if (own)
        request->stats = own->stats;
    receive_arrived(dvk, request);
    return 0;
}
