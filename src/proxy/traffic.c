/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: from libdvk to frames and back. */
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"
#include "proxy/proxy.h"

#include <dvk/migrate.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_BITS 24

/* A reply or a request that cannot be kept for want of memory would leave somebody waiting for ever. dvkd starts us
 * again, and all that was under way ends with -DVK_ENODEUNREACH. */
static void no_memory(void) {
    log_error("out of memory");
    _exit(1);
}

void traffic_init(struct peer *peer) {
    list_init(&peer->pendings);
    list_init(&peer->parked);
    list_init(&peer->waiting);
    list_init(&peer->incomings);
    for (size_t i = 0; i < LANE_BUCKETS; i++)
        list_init(&peer->lanes[i]);
    for (size_t i = 0; i < ARRAY_LENGTH(peer->by_tag); i++)
        list_init(&peer->by_tag[i]);
}

/* ---- credit ---- */

static struct link *lane_bucket(struct peer *peer, uint32_t dc, dvk_endpoint destination) {
    uint64_t h = (destination ^ (uint64_t)dc << 40) * 0x9e3779b97f4a7c15ull;
    return &peer->lanes[(h >> 40) % LANE_BUCKETS];
}

/* The lane of that destination, made if need be; NULL without memory. */
static struct lane *lane_get(struct peer *peer, uint32_t dc, dvk_endpoint destination) {
    struct link *bucket = lane_bucket(peer, dc, destination);
    list_each(lane, bucket, struct lane, bucket) {
        if (lane->dc == dc && lane->destination == destination)
            return lane;
    }
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->dc = dc;
    lane->destination = destination;
    list_init(&lane->waiting);
    list_init(&lane->parked);
    list_append(bucket, &lane->bucket);
    return lane;
}

static void lane_release(struct lane *lane) {
    if (--lane->count)
        return;
    list_remove(&lane->bucket);
    list_remove(&lane->waiting);
    free(lane);
}

static bool lane_has_credit(struct peer *peer, const struct lane *lane) {
    if (lane->flight_bytes == 0)
        return true;
    if (lane->flight_bytes >= LANE_BYTES_MAX)
        return false;
    if (peer->flight_bytes < FLIGHT_BYTES_MAX)
        return true;
    peer->crowded = true;
    return false;
}

/* ---- requests of this node ---- */

static struct pending *pending_new(struct proxy *proxy, struct peer *peer, struct dvk_request *req) {
    if (fault_at(FAULT_PROXY_REQUEST) & FAULT_FAIL)
        return NULL;
    if (proxy->free_count == 0) {
        uint32_t cap = proxy->pending_cap ? proxy->pending_cap * 2 : 256;
        if (cap > 1u << INDEX_BITS)
            return NULL;
        struct pending **pendings = realloc(proxy->pendings, cap * sizeof *pendings);
        if (!pendings)
            return NULL;
        proxy->pendings = pendings;
        uint32_t *generations = realloc(proxy->generations, cap * sizeof *generations);
        if (!generations)
            return NULL;
        proxy->generations = generations;
        uint32_t *free_list = realloc(proxy->free_list, cap * sizeof *free_list);
        if (!free_list)
            return NULL;
        proxy->free_list = free_list;
        for (uint32_t i = cap; i > proxy->pending_cap; i--) {
            proxy->pendings[i - 1] = NULL;
            proxy->generations[i - 1] = 0;
            proxy->free_list[proxy->free_count++] = i - 1;
        }
        proxy->pending_cap = cap;
    }
    struct pending *pending = calloc(1, sizeof *pending);
    struct lane *lane = pending ? lane_get(peer, req->dc, req->msg.destination) : NULL;
    if (!lane) {
        free(pending);
        return NULL;
    }
    uint32_t index = proxy->free_list[--proxy->free_count];
    proxy->pendings[index] = pending;
    pending->tag = (uint64_t)++proxy->generations[index] << INDEX_BITS | index;
    pending->peer = peer;
    pending->req = req;
    pending->bytes = REQUEST_OVERHEAD + req->msg.data_len;
    list_init(&pending->link);
    list_init(&pending->in_lane);
    pending->lane = lane;
    lane->count++;
    req->user = pending;
    return pending;
}

static struct pending *pending_find(struct proxy *proxy, uint64_t tag) {
    uint64_t index = tag & ((1u << INDEX_BITS) - 1);
    return index < proxy->pending_cap && proxy->pendings[index] && proxy->pendings[index]->tag == tag
               ? proxy->pendings[index]
               : NULL;
}

static void pending_send(struct pending *pending) {
    struct peer *peer = pending->peer;
    const struct dvk_request *req = pending->req;
    pending->parked = false;
    pending->epoch = peer->epoch;
    peer->flight_bytes += pending->bytes;
    pending->lane->flight_bytes += pending->bytes;
    list_append(&peer->pendings, &pending->link);
    struct dvk_message message = req->msg;
    uint64_t key;
    message.flags = message.fds = 0;
    if (dvk_migrate_resumed(req, &key)) {
        message.flags = DVK_MSG_RESUMED;
        message.notify = key;
    }
    /* a reply that is longer than the request finds no room there unless it is made */
    message.reserved = (req->reply_cap > DVK_DATA_MAX ? (uint64_t)req->reply_cap << 32 : 0) | dvk_relay_revision(req);
    if (link_queue(&peer->frames, dvk_relay_is_send(req) ? WIRE_SEND : WIRE_REQUEST, pending->tag, req->dc, 0, &message,
                   sizeof message, req->data, req->msg.data_len) < 0)
        no_memory();
    peer_mark_dirty(peer);
}

/* It stays in its channel's slot, which bounds its sender. */
static void pending_park(struct pending *pending) {
    struct peer *peer = pending->peer;
    pending->parked = true;
    pending->peer->stalls++;
    list_append(&peer->parked, &pending->link);
    list_append(&pending->lane->parked, &pending->in_lane);
    if (!list_has(&pending->lane->waiting))
        list_append(&peer->waiting, &pending->lane->waiting);
}

static void lane_unpark(struct peer *peer, struct lane *lane) {
    struct pending *pending;
    while ((pending = list_first(&lane->parked, struct pending, in_lane)) && lane_has_credit(peer, lane)) {
        list_remove(&pending->link);
        list_remove(&pending->in_lane);
        pending_send(pending);
    }
    if (list_is_empty(&lane->parked))
        list_remove(&lane->waiting);
}

/* There is credit of the peer again: all lanes that wait get of it, the one that had none longest first. */
static void unpark(struct peer *peer) {
    peer->crowded = false;
    struct link lanes;
    list_init(&lanes);
    list_splice(&lanes, &peer->waiting);
    struct lane *lane;
    while ((lane = list_first(&lanes, struct lane, waiting))) {
        list_remove(&lane->waiting);
        list_append(&peer->waiting, &lane->waiting);
        lane_unpark(peer, lane);
    }
}

/* Its request has been answered. */
static void pending_free(struct proxy *proxy, struct pending *pending) {
    uint32_t index = (uint32_t)(pending->tag & ((1u << INDEX_BITS) - 1));
    struct peer *peer = pending->peer;
    struct lane *lane = pending->lane;
    proxy->pendings[index] = NULL;
    proxy->free_list[proxy->free_count++] = index;
    list_remove(&pending->link);
    list_remove(&pending->in_lane);
    if (!pending->parked) {
        peer->flight_bytes -= pending->bytes;
        lane->flight_bytes -= pending->bytes;
    }
    free(pending);
    if (!list_is_empty(&lane->parked))
        lane_unpark(peer, lane);
    else
        list_remove(&lane->waiting);
    lane_release(lane);
    if (peer->crowded && peer->flight_bytes < FLIGHT_BYTES_MAX)
        unpark(peer);
}

static void pending_fail(struct proxy *proxy, struct pending *pending, int error) {
    struct dvk_request *req = pending->req;
    pending_free(proxy, pending);
    dvk_reply_error(proxy->dvk, req, error);
}

static struct link *hint_bucket(struct proxy *proxy, uint32_t dc, dvk_endpoint endpoint) {
    uint64_t h = (endpoint ^ (uint64_t)dc << 40) * 0x9e3779b97f4a7c15ull;
    return &proxy->hints[(h >> 40) % BUCKETS];
}

static const struct route_hint *hint_find(struct proxy *proxy, uint32_t dc, dvk_endpoint to) {
    list_each(hint, hint_bucket(proxy, dc, to), struct route_hint, bucket) {
        if (hint->dc == dc && hint->endpoint == to)
            return hint;
    }
    return NULL;
}

/* *revision: in which the destination is there. */
static uint32_t node_of(struct proxy *proxy, uint32_t dc, dvk_endpoint to, uint32_t *revision) {
    const struct route_hint *hint = hint_find(proxy, dc, to);
    *revision = hint ? hint->revision : 0;
    if (hint)
        return hint->node;
    uint32_t slot = dvk_endpoint_slot(to);
    return dvk_slot_is_system(slot) ? dvk_system_slot_node(slot) : 0;
}

void traffic_request(struct proxy *proxy, struct dvk_request *req) {
    uint32_t revision, known = dvk_relay_revision(req);
    uint32_t node = node_of(proxy, req->dc, req->msg.destination, &revision);
    struct peer *peer = node ? peer_find(proxy, node) : NULL;
    if (!peer || revision != known) { /* dvkd tells where it is before the message can be sent, but we may not have read that */
        dvk_relay_catch_up(proxy->dvk);
        node = node_of(proxy, req->dc, req->msg.destination, &revision);
        peer = node ? peer_find(proxy, node) : NULL;
    }
    if (revision != known || (!peer && known)) { /* it has moved since its source asked, or its node was lost: it is to ask anew */
        dvk_relay_moved(proxy->dvk, req, (int32_t)(revision - known) > 0 ? revision : known);
        return;
    }
    if (!peer) {
        dvk_reply_error(proxy->dvk, req, node ? -DVK_ENODEUNREACH : -DVK_ENOTBOUND);
        return;
    }
    struct pending *pending = pending_new(proxy, peer, req);
    if (!pending) {
        dvk_reply_error(proxy->dvk, req, -ENOMEM);
        return;
    }
    if (list_is_empty(&pending->lane->parked) && lane_has_credit(peer, pending->lane))
        pending_send(pending);
    else
        pending_park(pending);
}

void traffic_cancelled(void *context, struct dvk_request *req) {
    struct proxy *proxy = context;
    struct pending *pending = req->user;
    if (!pending)
        return;
    struct peer *peer = pending->peer;
    if (pending->parked || link_withdraw(&peer->frames, pending->tag)) {
        pending_fail(proxy, pending, -DVK_EINTERRUPTED); /* it was never sent */
        return;
    }
    if (link_queue(&peer->frames, WIRE_CANCEL, pending->tag, req->dc, 0, NULL, 0, NULL, 0) < 0)
        no_memory();
    peer_mark_dirty(peer);
}

/* ---- requests of a peer ---- */

static struct link *tag_bucket(struct peer *peer, uint64_t tag) {
    return &peer->by_tag[tag % (sizeof peer->by_tag / sizeof peer->by_tag[0])];
}

static struct incoming *incoming_find(struct peer *peer, uint64_t tag) {
    list_each(incoming, tag_bucket(peer, tag), struct incoming, bucket) {
        if (incoming->tag == tag)
            return incoming;
    }
    return NULL;
}

void incoming_free(struct incoming *incoming) {
    list_remove(&incoming->link);
    list_remove(&incoming->bucket);
    free(incoming);
}

void reply_queue(struct peer *peer, uint64_t tag, int status, const struct dvk_message *reply, const void *data,
                 size_t data_len) {
    struct dvk_message message = {0};
    status = status_elsewhere(status);
    if (reply)
        message = *reply;
    message.flags = message.fds = 0;
    message.notify = message.reserved = 0;
    message.data_len = (uint32_t)data_len;
    if (link_queue(&peer->frames, WIRE_REPLY, tag, 0, status, &message, sizeof message, data, data_len) < 0)
        no_memory();
    peer_mark_dirty(peer);
}

static void incoming_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                          const int *fds, unsigned fd_count) {
    struct incoming *incoming = context;
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]); /* they cannot leave the node */
    if (fd_count && status == 0)
        status = -DVK_ENOTALLOWED;
    if (incoming->peer)
        reply_queue(incoming->peer, incoming->tag, status, status && status != -DVK_ERELAYED ? NULL : reply,
                    status ? NULL : data, status ? 0 : data_len);
    incoming_free(incoming);
}

/* It should end early. */
static void incoming_cancel(struct incoming *incoming) {
    if (incoming->watch)
        kernel_cancel(incoming);
    else
        (void)dvk_cancel(incoming->proxy->dvk, incoming->call);
}

/* May a process of that node have this address? Where those live that can move is not known here: the peer vouches for them. */
static bool source_is_possible(const struct peer *peer, dvk_endpoint source) {
    uint32_t slot = dvk_endpoint_slot(source);
    if (dvk_slot_is_user(slot))
        return true;
    if (!dvk_slot_is_system(slot))
        return false;
    uint32_t service = dvk_system_slot_service(slot);
    bool moves = service > DVK_SERVICE_BLK && service != DVK_SERVICE_COPY; /* dvk/migrate.h */
    return moves || dvk_system_slot_node(slot) == peer->node;
}

static bool request_arrived(struct peer *peer, const struct wire_frame *frame) {
    struct proxy *proxy = peer->proxy;
    const struct wire_header *header = &frame->header;
    struct dvk_message message;
    const uint8_t *data;
    wire_message(frame, &message, &data);
    if (incoming_find(peer, header->tag) || !source_is_possible(peer, message.source))
        return false;
    struct incoming *incoming = calloc(1, sizeof *incoming);
    if (!incoming)
        no_memory();
    incoming->peer = peer;
    incoming->proxy = proxy;
    incoming->tag = header->tag;
    list_append(&peer->incomings, &incoming->link);
    list_append(tag_bucket(peer, header->tag), &incoming->bucket);
    uint64_t reply_room = message.reserved >> 32 <= DVK_LOAN_MAX ? message.reserved >> 32 : 0;
    message.status = (int32_t)(uint32_t)message.reserved; /* the revision: see relay.h */
    message.reserved = reply_room << 32 | peer->node;
    if (dvk_endpoint_slot(message.destination) == dvk_system_slot(proxy->node, DVK_SERVICE_KERNEL)) {
        kernel_request(incoming, header->dc, header->command == WIRE_SEND, &message, data);
        return true;
    }
    int error = header->command == WIRE_SEND ? dvk_send_as(proxy->dvk, header->dc, &message, data, message.data_len,
                                                           incoming_done, incoming, &incoming->call)
                                             : dvk_call_as(proxy->dvk, header->dc, &message, data, message.data_len,
                                                           incoming_done, incoming, &incoming->call);
    if (error < 0) {
        reply_queue(peer, header->tag, error, NULL, NULL, 0);
        incoming_free(incoming);
    }
    return true;
}

static bool reply_arrived(struct peer *peer, const struct wire_frame *frame) {
    struct proxy *proxy = peer->proxy;
    struct pending *pending = pending_find(proxy, frame->header.tag);
    struct dvk_message message;
    const uint8_t *data;
    wire_message(frame, &message, &data);
    if (!pending || pending->peer != peer || pending->parked)
        return false;
    struct dvk_request *req = pending->req;
    if (frame->header.status == -DVK_ERELAYED) { /* the requester's DVK makes it again where the payload says */
        struct dvk_message where = {
            .status = -DVK_ERELAYED, .flags = DVK_MSG_ERROR, .payload = message.payload, .source = message.source};
        pending_free(proxy, pending);
        dvk_reply(proxy->dvk, req, &where, NULL, 0);
    } else if (frame->header.status < 0) {
        pending_fail(proxy, pending, frame->header.status);
    } else if (message.data_len > req->reply_cap) {
        pending_fail(proxy, pending, -EMSGSIZE);
    } else {
        pending_free(proxy, pending);
        if (message.data_len)
            memcpy(req->reply_data, data, message.data_len);
        dvk_reply(proxy->dvk, req, &message, NULL, 0);
    }
    return true;
}

bool traffic_frame(struct peer *peer, const struct wire_frame *frame) {
    switch (frame->header.command) {
    case WIRE_REQUEST:
    case WIRE_SEND:
        return request_arrived(peer, frame);
    case WIRE_REPLY:
        return reply_arrived(peer, frame);
    case WIRE_CANCEL: {
        struct incoming *incoming = incoming_find(peer, frame->header.tag);
        if (incoming) /* else its reply is on the way */
            incoming_cancel(incoming);
        return true;
    }
    default:
        return false;
    }
}

/* ---- sessions ---- */

static void incomings_orphan(struct peer *peer) {
    struct incoming *incoming;
    while ((incoming = list_first(&peer->incomings, struct incoming, link))) {
        list_remove(&incoming->link);
        list_remove(&incoming->bucket);
        incoming->peer = NULL;
        incoming_cancel(incoming);
    }
}

void traffic_kept(void *context, uint64_t tag) {
    struct peer *peer = context;
    struct pending *pending = pending_find(peer->proxy, tag);
    if (pending)
        pending->epoch = peer->epoch + 1; /* of the reset that is going on */
}

void traffic_reset(void *context) {
    struct peer *peer = context;
    peer->epoch++;
    unsigned lost = 0;
    list_each(pending, &peer->pendings, struct pending, link) {
        if (pending->epoch != peer->epoch) {
            record(RECORD_REQUEST_LOST, 0, peer->node, pending->tag);
            pending_fail(peer->proxy, pending, -DVK_ENODEUNREACH);
            lost++;
        }
    }
    record(RECORD_LINK_RESET, 0, peer->node, lost);
    if (lost)
        log_warning("node %u: its proxy has started anew: %u requests are lost", peer->node, lost);
    incomings_orphan(peer);
    unpark(peer);
}

void traffic_lost(struct peer *peer) {
    struct link *lists[] = {&peer->parked, &peer->pendings};
    for (int i = 0; i < 2; i++) {
        struct pending *pending;
        while ((pending = list_first(lists[i], struct pending, link)))
            pending_fail(peer->proxy, pending, -DVK_ENODEUNREACH);
    }
    incomings_orphan(peer);
}

/* ---- what dvkd tells ---- */

static void hint_set(struct proxy *proxy, uint32_t dc, dvk_endpoint endpoint, uint32_t node, uint32_t revision) {
    struct link *bucket = hint_bucket(proxy, dc, endpoint);
    list_each(hint, bucket, struct route_hint, bucket) {
        if (hint->dc == dc && hint->endpoint == endpoint) {
            hint->node = node;
            hint->revision = revision;
            return;
        }
    }
    struct route_hint *hint = calloc(1, sizeof *hint);
    if (!hint)
        return; /* requests to it fail with -DVK_ENOTBOUND */
    hint->dc = dc;
    hint->endpoint = endpoint;
    hint->node = node;
    hint->revision = revision;
    list_append(bucket, &hint->bucket);
}

/* Forget hints of a DC or of a node (0: any). */
static void hints_drop(struct proxy *proxy, uint32_t dc, uint32_t node) {
    for (unsigned i = 0; i < BUCKETS; i++)
        list_each(hint, &proxy->hints[i], struct route_hint, bucket) {
            if ((dc == 0 || hint->dc == dc) && (node == 0 || hint->node == node)) {
                list_remove(&hint->bucket);
                free(hint);
            }
        }
}

void traffic_event(void *context, const struct dvk_event *event) {
    struct proxy *proxy = context;
    /* an int, since DVK_EVENT_ROUTE is none of the public enumeration */
    switch ((int)event->type) {
    case DVK_EVENT_ROUTE:
        if (event->node)
            hint_set(proxy, event->dc, event->endpoint, event->node, (uint32_t)event->id);
        break;
    case DVK_EVENT_NODE_UP:
        record(RECORD_PEER_UP, 0, event->node);
        peer_up(proxy, event->node, event->text);
        break;
    case DVK_EVENT_NODE_DOWN:
        record(RECORD_PEER_DOWN, 0, event->node);
        peer_down(proxy, event->node);
        hints_drop(proxy, 0, event->node);
        break;
    case DVK_EVENT_DC_GONE:
        hints_drop(proxy, event->dc, 0);
        break;
    case DVK_EVENT_CONTROL:
        control_request(proxy, event);
        break;
    default:
        break;
    }
}
