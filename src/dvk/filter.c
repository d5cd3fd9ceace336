/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving with a filter. Messages that wait lie in dvk.ready and dvk.ready_notes, in the order of their arrival. The
 * first call with a filter files them: each goes over, once, into dvk.filed or dvk.filed_notes (still in order; older
 * than all that is not filed), and into two inboxes: that of its destination, and that of its destination and source.
 * So a program without filters pays nothing, and a filter finds its message without looking at others.
 *
 * An inbox lives while something lies in it, somebody waits at it, or dvkd watches its source for it (watch.c).
 */
#include "dvk/internal.h"

#include <dvk/primitives.h>
#include <stdlib.h>

struct inbox *inbox_find(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from) {
    if (!dvk->inboxes)
        return NULL;
    list_each(inbox, &dvk->inboxes[bucket_of(to, from)], struct inbox, bucket) {
        if (inbox->to == to && inbox->from == from)
            return inbox;
    }
    return NULL;
}

static struct inbox *inbox_get(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from) {
    if (!dvk->inboxes) {
        dvk->inboxes = malloc(BUCKETS * sizeof *dvk->inboxes);
        if (!dvk->inboxes)
            return NULL;
        for (unsigned i = 0; i < BUCKETS; i++)
            list_init(&dvk->inboxes[i]);
    }
    struct inbox *inbox = inbox_find(dvk, to, from);
    if (inbox)
        return inbox;
    inbox = calloc(1, sizeof *inbox);
    if (!inbox)
        return NULL;
    inbox->to = to;
    inbox->from = from;
    list_init(&inbox->notes);
    list_init(&inbox->messages);
    list_init(&inbox->requests);
    list_append(&dvk->inboxes[bucket_of(to, from)], &inbox->bucket);
    return inbox;
}

void inbox_put(struct inbox *inbox) {
    if (inbox->waiting || inbox->watched || !list_is_empty(&inbox->notes) || !list_is_empty(&inbox->messages))
        return;
    list_remove(&inbox->bucket);
    free(inbox);
}

void inboxes_free(struct dvk *dvk) {
    for (unsigned i = 0; dvk->inboxes && i < BUCKETS; i++) {
        struct inbox *inbox;
        while ((inbox = list_first(&dvk->inboxes[i], struct inbox, bucket))) {
            list_remove(&inbox->bucket);
            free(inbox);
        }
    }
    free(dvk->inboxes);
}

static void file_in(struct request *request, struct filing *filing, struct inbox *inbox) {
    filing->inbox = inbox;
    list_init(&filing->request_line);
    list_append(request->public.msg.notify ? &inbox->notes : &inbox->messages, &filing->line);
    if (request->kind == DVK_SLOT_SENDREC && !request->public.msg.notify)
        list_append(&inbox->requests, &filing->request_line);
}

static int request_file(struct dvk *dvk, struct request *request) {
    dvk_endpoint to = request->public.msg.destination;
    struct inbox *all = inbox_get(dvk, to, DVK_ANY);
    struct inbox *one = all ? inbox_get(dvk, to, request->public.msg.source) : NULL;
    if (!one) {
        if (all)
            inbox_put(all);
        return -ENOMEM;
    }
    file_in(request, &request->filed[0], all);
    file_in(request, &request->filed[1], one);
    list_remove(&request->link);
    list_append(request->public.msg.notify ? &dvk->filed_notes : &dvk->filed, &request->link);
    return 0;
}

void request_unfile(struct request *request) {
    if (!request->filed[0].inbox)
        return;
    for (unsigned i = 0; i < 2; i++) {
        list_remove(&request->filed[i].line);
        list_remove(&request->filed[i].request_line);
        inbox_put(request->filed[i].inbox);
        request->filed[i].inbox = NULL;
    }
}

static int file_all(struct dvk *dvk) {
    struct link *lists[] = {&dvk->ready_notes, &dvk->ready};
    for (int i = 0; i < 2; i++) {
        struct request *request;
        while ((request = list_first(lists[i], struct request, link)))
            if (request_file(dvk, request) < 0)
                return -ENOMEM;
    }
    return 0;
}

int filter_next(struct dvk *dvk, const struct filter *filter, struct request **out) {
    *out = NULL;
    int error = file_all(dvk);
    if (error < 0)
        return error;
    const struct inbox *inbox = filter->inbox;
    int which = inbox->from == DVK_ANY ? 0 : 1;
    const struct link *list = filter->requests ? &inbox->requests
                              : list_is_empty(&inbox->notes) ? &inbox->messages
                                                             : &inbox->notes;
    if (list_is_empty(list))
        return 0;
    *out = filter->requests ? list_element(list->next, struct request, filed[which].request_line)
                            : list_element(list->next, struct request, filed[which].line);
    return 0;
}

static int receive_filtered(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from, bool requests,
                            struct dvk_request **out, int timeout_ms) {
    *out = NULL;
    if (from == DVK_NONE || (from != DVK_ANY && dvk_endpoint_generation(from) == 0))
        return -EINVAL;
    if (!own_find(dvk, to))
        return -DVK_ENOTBOUND;
    struct filter filter = {.inbox = inbox_get(dvk, to, from), .requests = requests};
    if (!filter.inbox)
        return -ENOMEM;
    filter.inbox->waiting++;
    int error = receive_next(dvk, &filter, out, timeout_ms);
    if (--filter.inbox->waiting == 0)
        filter.inbox->gone = 0;
    inbox_put(filter.inbox);
    return error;
}

int dvk_receive_from(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from, struct dvk_request **out, int timeout_ms) {
    return receive_filtered(dvk, to, from, false, out, timeout_ms);
}

int dvk_receive_request(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from, struct dvk_request **out,
                        int timeout_ms) {
    return receive_filtered(dvk, to, from, true, out, timeout_ms);
}
