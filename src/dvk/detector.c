/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that are watched without waiting: the questions are those of watch.c, the answers come from dvk_receive. */
#include "dvk/internal.h"
#include "dvk/kernel.h"

#include <dvk/detector.h>
#include <stdlib.h>

#define NODES_TIMEOUT_MS 5000

struct endpoint_watch {
    struct link link; /* dvk.endpoint_watches */
    uint64_t id;
    uint32_t dc;
    dvk_endpoint from, endpoint;
    uint64_t asked; /* dvkd's question; 0: another node's, `call` */
    uint64_t call;
    bool stopped;
    dvk_endpoint_gone_fn *fn;
    void *context;
};

static void watch_free(struct endpoint_watch *watch) {
    list_remove(&watch->link);
    free(watch);
}

/* From within dvk_receive: it is over. */
static void watch_tell(struct endpoint_watch *watch, int status) {
    struct endpoint_watch told = *watch;
    watch_free(watch);
    if (!told.stopped)
        told.fn(told.context, told.endpoint, status == 0 || status == -DVK_ENOTBOUND ? -DVK_EDEADDST : status);
}

static void told_elsewhere(void *context, int status, const struct dvk_message *reply, const void *data,
                           size_t data_len, const int *fds, unsigned fd_count) {
    (void)data, (void)data_len;
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    watch_tell(context, status < 0 ? status : reply->status);
}

/* dvkd's answer may come within any call: what is to be told waits for dvk_receive. */
static void told(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct endpoint_watch *watch = awaited->a;
    watch->asked = 0;
    if (!dvk->broker_gone) {
        struct dvk_broker_packet event = packet->head;
        event.channel = watch->id;
        broker_event(dvk, &event);
        return;
    }
    if (watch->stopped)
        watch_free(watch); /* else dvk_receive fails, and dvk_close frees it */
}

void detector_run(struct dvk *dvk, const struct dvk_broker_packet *head) {
    list_each(watch, &dvk->endpoint_watches, struct endpoint_watch, link) {
        if (watch->id != head->channel)
            continue;
        if (head->status != 0 || !(head->flags & DVK_BROKER_F_ELSEWHERE) || watch->stopped) {
            watch_tell(watch, head->status);
            return;
        }
        struct dvk_message message = {.destination = dvk_service_endpoint(head->node, DVK_SERVICE_KERNEL),
                                      .type = DVK_KERNEL_WATCH};
        message.payload.words[0] = watch->endpoint;
        int error = call_start(dvk, watch->dc, watch->from, &message, DVK_SLOT_SENDREC, NULL, 0, NULL, 0,
                               told_elsewhere, watch, &watch->call);
        if (error < 0)
            watch_tell(watch, error);
        return;
    }
}

int dvk_watch_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, dvk_endpoint_gone_fn *fn, void *context,
                       uint64_t *watch_id) {
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (!fn || endpoint == DVK_NONE || endpoint == DVK_ANY)
        return -EINVAL;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    struct endpoint_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct endpoint_watch){
        .id = ++dvk->next_id, .dc = own->dc, .from = from, .endpoint = endpoint, .fn = fn, .context = context};
    uint64_t id = watch->id;
    list_append(&dvk->endpoint_watches, &watch->link);
    struct dvk_broker_packet ask = {.type = DVK_BROKER_WATCH, .dc = own->dc, .peer = endpoint};
    watch->asked = dvk->next_id + 1; /* what broker_ask gives it */
    int error = broker_ask(dvk, &ask, told, watch, NULL);
    if (error < 0) {
        watch_free(watch);
        return error;
    }
    *watch_id = id;
    return 0;
}

int dvk_unwatch_endpoint(struct dvk *dvk, uint64_t id) {
    list_each(watch, &dvk->endpoint_watches, struct endpoint_watch, link) {
        if (watch->id != id || watch->stopped)
            continue;
        watch->stopped = true; /* freed when its answer comes */
        if (watch->asked) {
            struct dvk_broker_packet stop = {
                .type = DVK_BROKER_UNWATCH, .dc = watch->dc, .peer = watch->endpoint, .channel = watch->asked};
            (void)broker_send(dvk, &stop, NULL, NULL, 0);
        } else if (watch->call) {
            (void)dvk_cancel(dvk, watch->call);
        }
        return 0;
    }
    return -ENOENT;
}

void detector_close(struct dvk *dvk) {
    struct endpoint_watch *watch;
    while ((watch = list_first(&dvk->endpoint_watches, struct endpoint_watch, link)))
        watch_free(watch);
}

int dvk_nodes(struct dvk *dvk, struct dvk_node_state *nodes, size_t cap) {
    struct dvk_broker_packet ask = {.type = DVK_BROKER_NODES};
    struct packet answer;
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline_of(NODES_TIMEOUT_MS));
    size_t count = error == 0 && answer.text ? answer.head.text_len / sizeof *nodes : 0;
    if (count && cap)
        memcpy(nodes, answer.text, (count < cap ? count : cap) * sizeof *nodes);
    packet_clear(&answer);
    return error < 0 ? error : (int)count;
}
