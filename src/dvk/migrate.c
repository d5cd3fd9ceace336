/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints of ours that move, and those that we stand by for. What dvkd tells decides (DVK_BROKER_FROZEN, MOVED, PROMOTED): the
 * calls ask for it and wait for the answer, which comes behind it.
 *
 *     ours --FROZEN--> ours, frozen: what comes for it is parked --MOVED--> not ours: all of it is sent back
 *       ^ \-----------------------------/ FROZEN no more: it is handed out
 *       '--PROMOTED-- a spare
 */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/loan.h>
#include <dvk/migrate.h>
#include <stdlib.h>

enum kind { BACKUP = 1, REPLICA = 2 };

struct spare {
    struct link link; /* dvk.spares */
    uint32_t dc;
    dvk_endpoint endpoint;
};

static struct spare *spare_of(const struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint) {
    for (const struct link *at = dvk->spares.next; at != &dvk->spares; at = at->next) {
        struct spare *spare = list_element(at, struct spare, link);
        if (spare->endpoint == endpoint && (dc == 0 || spare->dc == dc))
            return spare;
    }
    return NULL;
}

bool spare_find(const struct dvk *dvk, dvk_endpoint endpoint) {
    return spare_of(dvk, 0, endpoint);
}

static void spare_remove(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint) {
    struct spare *spare = spare_of(dvk, dc, endpoint);
    if (!spare)
        return;
    list_remove(&spare->link);
    free(spare);
}

void migrate_close(struct dvk *dvk) {
    struct spare *spare;
    while ((spare = list_first(&dvk->spares, struct spare, link))) {
        list_remove(&spare->link);
        free(spare);
    }
    struct moved *moved;
    while ((moved = list_first(&dvk->moved, struct moved, link))) {
        list_remove(&moved->link);
        free(moved);
    }
}

/* ---- waiting ---- */

void request_ready(struct dvk *dvk, struct request *request) {
    const struct own_endpoint *own = dvk->frozen_count ? own_find(dvk, request->public.msg.destination) : NULL;
    struct link *list = request->public.msg.notify ? &dvk->ready_notes : &dvk->ready;
    list_append(own && own->frozen ? &dvk->parked : list, &request->link);
}

static void mark_all(struct dvk *dvk) {
    list_each(channel, &dvk->channels, struct channel, link) {
        receive_mark_more(dvk, channel);
    }
}

static bool is_post(const struct request *request) {
    return request->kind == DVK_SLOT_POST && request->channel;
}

/* How many posts for it wait in the lists: they hold no slot, so that they can only be received here. */
static unsigned posts_for(struct dvk *dvk, dvk_endpoint endpoint) {
    struct link *lists[] = {&dvk->filed, &dvk->ready};
    unsigned count = 0;
    for (int i = 0; i < 2; i++)
        list_each(request, lists[i], struct request, link) {
            count += request->public.msg.destination == endpoint && is_post(request);
        }
    return count;
}

static void park(struct dvk *dvk, struct request *request) {
    if (request->public.fd_count && !request->is_loopback) {
        dvk_reply_error(dvk, &request->public, -DVK_EMIGRATING);
        return;
    }
    request_unfile(request);
    list_remove(&request->link);
    list_append(&dvk->parked, &request->link);
}

/* What waits for it is parked, but for posts and what came before the last of them. */
static void freeze(struct dvk *dvk, struct own_endpoint *own) {
    struct link *lists[] = {&dvk->filed_notes, &dvk->ready_notes, &dvk->filed, &dvk->ready};
    unsigned posts = posts_for(dvk, own->endpoint);
    own->frozen = true;
    dvk->frozen_count++;
    dvk->own_changes++;
    for (int i = 0; i < 4; i++)
        list_each(request, lists[i], struct request, link) {
            if (request->public.msg.destination != own->endpoint || request->public.group)
                continue;
            if (i >= 2 && posts)
                posts -= is_post(request);
            else
                park(dvk, request);
        }
}

void migrate_unfreeze(struct dvk *dvk, struct own_endpoint *own) {
    if (!own->frozen)
        return;
    own->frozen = false;
    dvk->frozen_count--;
    dvk->own_changes++;
    struct link parked;
    list_init(&parked);
    list_splice(&parked, &dvk->parked);
    struct request *request;
    while ((request = list_first(&parked, struct request, link))) {
        list_remove(&request->link);
        request_ready(dvk, request); /* others' are parked again */
    }
    mark_all(dvk);
}

/* ---- leaving ---- */

static struct dvk_message where_of(dvk_endpoint to, uint32_t revision) {
    struct dvk_message where = {.status = -DVK_ERELAYED, .flags = DVK_MSG_ERROR, .source = to};
    where.payload.words[DVK_MOVED_TO] = to;
    where.payload.words[DVK_MOVED_REVISION] = revision;
    where.payload.words[DVK_MOVED_MARK] = 1;
    return where;
}

void slot_moved(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence, dvk_endpoint to, uint32_t revision) {
    const struct dvk_message where = where_of(to, revision);
    slot_answer(dvk, channel, slot, sequence, &where);
}

static void send_back(struct dvk *dvk, struct request *request, uint32_t revision) {
    struct dvk_message where = where_of(request->public.msg.destination, revision);
    if (request->state == REQUEST_TAKEN || request->resumed) {
        where.payload.words[DVK_MOVED_RESUMED] = 1;
        where.payload.words[DVK_MOVED_KEY] = request->key;
    }
    if (request->is_loopback && request->public.msg.notify)
        (void)note_send(dvk, request->public.dc, request->public.msg.source, request->public.msg.destination,
                        request->public.msg.notify);
    request_answer(dvk, request, &where, NULL, 0, true);
}

/* Received and not answered, or waiting: does it go to the new place? */
static bool is_carried(const struct request *request, dvk_endpoint endpoint) {
    if (request->public.msg.destination != endpoint || request->public.group || request->detached)
        return false;
    return request->state == REQUEST_READY ? !is_post(request) : request->public.wants_reply && !request->finished;
}

static void send_all_back(struct dvk *dvk, dvk_endpoint endpoint, uint32_t revision) {
    struct request *found;
    do { /* an answer may have others end */
        found = NULL;
        list_each(request, &dvk->requests, struct request, all) {
            if (!found && is_carried(request, endpoint))
                found = request;
        }
        if (found)
            send_back(dvk, found, revision);
    } while (found);
}

/* Calls from it that have no slot yet: commit saw none, but one may have come back since. */
static void unsent_end(struct dvk *dvk, dvk_endpoint from) {
    list_each(channel, &dvk->channels, struct channel, link) {
        list_each(call, &channel->queue, struct call, link) {
            if (call->from != from)
                continue;
            list_remove(&call->link);
            call_complete(dvk, call, -DVK_EMIGRATING);
        }
    }
}

static void leave(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision) {
    struct own_endpoint *own = own_find(dvk, endpoint);
    if (!own || own->dc != dc || moved_note(dvk, dc, endpoint, revision) < 0)
        return;
    inboxes_unwatch(dvk, dc, endpoint);
    if (own->frozen)
        dvk->frozen_count--;
    list_remove(&own->bucket);
    dvk->own_count--;
    dvk->own_changes++;
    unsent_end(dvk, endpoint);
    own_routes_drop(dvk, own, -DVK_EMIGRATING);
    stats_unbind(dvk, own);
    free(own->privileges);
    free(own);
    send_all_back(dvk, endpoint, revision);
    mark_all(dvk);
}

/* ---- arriving ---- */

static void arrive(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision) {
    struct own_endpoint *own = own_find(dvk, endpoint) ? NULL : calloc(1, sizeof *own);
    spare_remove(dvk, dc, endpoint);
    if (!own) { /* no memory: what is sent to it here is refused, and dvkd told that it is gone */
        struct dvk_broker_packet unbind = {.type = DVK_BROKER_UNBIND, .dc = dc, .endpoint = endpoint};
        (void)broker_send(dvk, &unbind, NULL, NULL, 0);
        return;
    }
    own->dc = dc;
    own->endpoint = endpoint;
    own->revision = revision;
    list_init(&own->routes);
    list_append(&dvk->own[bucket_of(dvk_endpoint_slot(endpoint), 0)], &own->bucket);
    stats_arrived(dvk, own);
    dvk->own_count++;
    dvk->own_changes++;
    dvk->way.route = NULL;
    moved_forget(dvk, dc, endpoint);
    settle_here(dvk, dc, endpoint, revision);
}

bool migrate_packet(struct dvk *dvk, struct packet *packet) {
    const struct dvk_broker_packet *head = &packet->head;
    struct own_endpoint *own = own_find(dvk, head->endpoint);
    struct channel *channel = head->channel ? channel_find(dvk, head->channel) : NULL;
    bool tell = false;
    switch (head->type) {
    case DVK_BROKER_FROZEN:
        tell = own && own->frozen && !(head->flags & DVK_BROKER_F_UP);
        if (tell)
            migrate_unfreeze(dvk, own);
        else if (own && !own->frozen && head->flags & DVK_BROKER_F_UP)
            freeze(dvk, own);
        break;
    case DVK_BROKER_MOVED:
        if (channel)
            channel_moved(dvk, channel, head->endpoint, (uint32_t)head->id);
        else if (!head->channel)
            leave(dvk, head->dc, head->endpoint, (uint32_t)head->id);
        break;
    case DVK_BROKER_PROMOTED:
        arrive(dvk, head->dc, head->endpoint, (uint32_t)head->id);
        tell = own_find(dvk, head->endpoint);
        break;
    default:
        spare_remove(dvk, head->dc, head->endpoint);
        tell = true;
    }
    if (tell)
        list_append(&dvk->events, &packet->link);
    return tell;
}

/* ---- for the proxy: see relay.h ---- */

uint32_t dvk_relay_revision(const struct dvk_request *req) {
    return ((const struct request *)req)->revision;
}

void dvk_relay_moved(struct dvk *dvk, struct dvk_request *req, uint32_t revision) {
    struct request *request = (struct request *)req;
    struct dvk_message where = where_of(req->msg.destination, revision);
    where.payload.words[DVK_MOVED_RESUMED] = request->resumed;
    where.payload.words[DVK_MOVED_KEY] = req->msg.notify ? req->msg.notify : request->key;
    request_answer(dvk, request, &where, NULL, 0, true);
}

/* ---- public ---- */

/* Ask dvkd and wait; what comes after the time is over is told by events. */
static int ask(struct dvk *dvk, struct dvk_broker_packet *packet, int timeout_ms) {
    struct packet answer;
    if (timeout_ms == 0)
        return -EINVAL;
    int error = broker_ask_wait(dvk, packet, NULL, 0, &answer, deadline_of(timeout_ms));
    packet_clear(&answer);
    return error == -DVK_ENODAEMON && !dvk->broker_gone ? -DVK_ETIMEDOUT : error;
}

static int bind_spare(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, enum kind kind, int timeout_ms) {
    if (dvk_endpoint_generation(endpoint) == 0 || endpoint == DVK_ANY)
        return -EINVAL;
    const struct own_endpoint *own = own_find(dvk, endpoint);
    if (own)
        return own->dc == dc ? -EINVAL : -DVK_ENOTALLOWED; /* calls name their source by its endpoint alone */
    if (spare_find(dvk, endpoint))
        return spare_of(dvk, dc, endpoint) ? -EINVAL : -DVK_ENOTALLOWED;
    struct spare *spare = calloc(1, sizeof *spare);
    if (!spare)
        return -ENOMEM;
    *spare = (struct spare){.dc = dc, .endpoint = endpoint};
    list_append(&dvk->spares, &spare->link); /* it may be promoted before we read the answer */
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SPARE, .dc = dc, .endpoint = endpoint, .side = kind};
    int error = ask(dvk, &packet, timeout_ms);
    if (error < 0)
        spare_remove(dvk, dc, endpoint);
    if (error == -DVK_ETIMEDOUT) { /* and not later */
        struct dvk_broker_packet end = {.type = DVK_BROKER_SPARE_END, .dc = dc, .endpoint = endpoint, .id = ++dvk->next_id};
        (void)broker_send(dvk, &end, NULL, NULL, 0);
    }
    return error;
}

int dvk_bind_backup(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, int timeout_ms) {
    return bind_spare(dvk, dc, endpoint, BACKUP, timeout_ms);
}

int dvk_bind_replica(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, int timeout_ms) {
    return bind_spare(dvk, dc, endpoint, REPLICA, timeout_ms);
}

#define UNBIND_TIMEOUT_MS 30000

int dvk_unbind_backup(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SPARE_END, .dc = dc, .endpoint = endpoint};
    if (!spare_of(dvk, dc, endpoint))
        return -DVK_ENOTBOUND;
    int error = ask(dvk, &packet, UNBIND_TIMEOUT_MS);
    if (error == 0)
        spare_remove(dvk, dc, endpoint);
    return error;
}

static int step(struct dvk *dvk, dvk_endpoint endpoint, enum dvk_broker_migrate what, uint32_t node, int timeout_ms) {
    const struct own_endpoint *own = own_find(dvk, endpoint);
    if (!own)
        return -DVK_ENOTBOUND;
    struct dvk_broker_packet packet = {
        .type = DVK_BROKER_MIGRATE, .dc = own->dc, .endpoint = endpoint, .side = what, .node = node};
    return ask(dvk, &packet, timeout_ms);
}

int dvk_migrate_start(struct dvk *dvk, dvk_endpoint endpoint, uint32_t node, int timeout_ms) {
    (void)receive_scan(dvk); /* what has come is before the start */
    return step(dvk, endpoint, DVK_BROKER_MIGRATE_START, node, timeout_ms);
}

int dvk_migrate_rollback(struct dvk *dvk, dvk_endpoint endpoint, int timeout_ms) {
    return step(dvk, endpoint, DVK_BROKER_MIGRATE_ROLLBACK, 0, timeout_ms);
}

int dvk_migrate_carry(struct dvk *dvk, struct dvk_request *req, uint64_t key) {
    struct request *request = (struct request *)req;
    (void)dvk;
    if (!req->wants_reply)
        return -EINVAL;
    if (req->fd_count || req->group || (request->channel && request->channel->guest))
        return -DVK_ENOTCARRIED;
    request->key = key;
    return 0;
}

bool dvk_migrate_resumed(const struct dvk_request *req, uint64_t *key) {
    const struct request *request = (const struct request *)req;
    *key = request->key;
    return request->resumed;
}

static bool has_unsent(struct dvk *dvk, const struct own_endpoint *own) {
    for (const struct link *at = own->routes.next; at != &own->routes; at = at->next) {
        const struct route *route = list_element(at, struct route, of_own);
        if (route->notify_bits || !list_is_empty(&route->queue))
            return true;
    }
    list_each(channel, &dvk->channels, struct channel, link) {
        list_each(call, &channel->queue, struct call, link) {
            if (call->from == own->endpoint)
                return true;
        }
    }
    return false;
}

/* Everything that we have of it can be handed on. */
static bool can_leave(struct dvk *dvk, const struct own_endpoint *own) {
    if (has_unsent(dvk, own) || posts_for(dvk, own->endpoint))
        return false;
    list_each(request, &dvk->requests, struct request, all) {
        if (request->public.msg.destination != own->endpoint || request->state != REQUEST_TAKEN || request->detached ||
            request->public.group)
            continue;
        bool guest = request->channel && request->channel->guest;
        bool data = !request->public.wants_reply && !request->finished && request->public.msg.data_len;
        if (data || (request->public.wants_reply && (request->public.fd_count || guest)))
            return false;
    }
    return true;
}

int dvk_migrate_commit(struct dvk *dvk, dvk_endpoint endpoint, int timeout_ms) {
    broker_drain(dvk);
    (void)receive_scan(dvk);
    struct own_endpoint *own = own_find(dvk, endpoint);
    if (!own)
        return -DVK_ENOTBOUND;
    if (!own->frozen)
        return -DVK_ENOTMIGRATING;
    if (!can_leave(dvk, own))
        return -DVK_ENOTCARRIED;
    int error = step(dvk, endpoint, DVK_BROKER_MIGRATE_COMMIT, 0, timeout_ms);
    (void)receive_scan(dvk); /* what lies in the channels goes back */
    return error;
}
