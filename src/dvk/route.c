/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: which channel leads to a destination. */
#include "dvk/internal.h"

#include <stdlib.h>

struct route *route_find(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to) {
    list_each(route, &dvk->routes[bucket_of(to ^ from * 31, dc)], struct route, bucket) {
        if (route->to == to && route->from == from && route->dc == dc)
            return route;
    }
    return NULL;
}

void way_set(struct dvk *dvk, struct own_endpoint *own, struct route *route) {
    dvk->way = (struct way){.from = own->endpoint, .to = route->to, .own = own, .route = route};
}

void route_drop(struct dvk *dvk, struct route *route, int status) {
    if (dvk->way.route == route)
        dvk->way.route = NULL;
    list_remove(&route->bucket);
    list_remove(&route->of_channel);
    list_remove(&route->of_own);
    if (!route->channel)
        list_each(awaited, &dvk->awaited, struct awaited, link) {
            if (awaited->a == route)
                awaited->a = NULL; /* its answer finds nobody */
        }
    if (route->old)
        route_settled(dvk, route);
    if (route->notify)
        route->notify->route = NULL;
    struct call *call;
    while ((call = list_first(&route->queue, struct call, link))) {
        list_remove(&call->link);
        /* one that was received at the old place has been acted on, perhaps */
        call_complete(dvk, call, call->resumed && status == -DVK_ENOTBOUND ? -DVK_EDEADDST : status);
    }
    free(route);
}

void own_routes_drop(struct dvk *dvk, struct own_endpoint *own, int status) {
    struct route *route;
    while ((route = list_first(&own->routes, struct route, of_own)))
        route_drop(dvk, route, status);
}

/* Marks a question, so that the answer to an earlier one is known as such. */
static void *asked_for(const struct route *route) {
    return (void *)((uintptr_t)route->asked + 1);
}

/* dvkd has told a relay that what it looks for is on another node: tell those who asked. */
static void relay_elsewhere(struct dvk *dvk, struct route *route, uint32_t revision) {
    struct link calls;
    struct call *call;
    list_init(&calls);
    list_splice(&calls, &route->queue);
    route_drop(dvk, route, -DVK_ERELAYED);
    while ((call = list_first(&calls, struct call, link))) {
        list_remove(&call->link);
        call_relay_moved(dvk, call, revision);
    }
}

static void connect_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct route *route = awaited->a;
    struct dvk_broker_packet *head = &packet->head;
    if (route && route->old && awaited->b != asked_for(route))
        route = NULL; /* it was asked again since */
    struct channel *channel = NULL;
    int error = head->status < 0 ? head->status : 0;
    if (error == 0)
        channel = channel_find(dvk, head->channel);
    if (error == 0 && !channel) {
        if (packet->fd_count == 3) {
            struct channel_fds fds = {packet->fds[0], packet->fds[1], packet->fds[2]};
            packet->fd_count = 0;
            error = channel_attach(dvk, head->channel, head->dc, (int)head->side, head->flags & DVK_BROKER_F_PROXY,
                                   false, &fds, &channel);
            if (error < 0) {
                struct dvk_broker_packet closed = {.type = DVK_BROKER_CHANNEL_CLOSED, .channel = head->channel};
                (void)broker_send(dvk, &closed, NULL, NULL, 0);
            }
        } else
            error = -DVK_EDEADDST; /* a channel that we have closed meanwhile */
    }
    if (error == 0)
        channel->place = head->place;
    if (error == 0 && head->peer != DVK_NONE && !channel->proxy)
        error = channel_peer_add(channel, head->peer);
    if (error == 0 && head->peer != DVK_NONE && !channel->proxy) {
        error = privilege_peer_told(channel, head->peer, packet);
        if (error < 0)
            channel_close(dvk, channel, error, true, true);
    }
    if (!route)
        return;
    if (error == -DVK_ERELAYED && dvk->relay) {
        relay_elsewhere(dvk, route, head->node);
        return;
    }
    dvk_endpoint full;
    if (error < 0 && route->old && own_resolve(dvk, route->dc, route->to, &full)) {
        settle_run(dvk); /* it has moved to us meanwhile */
        return;
    }
    if (error < 0) {
        dvk->route_error = error;
        route_drop(dvk, route, error);
        return;
    }
    route->full = head->peer != DVK_NONE ? head->peer : route->to;
    route->revision = head->node;
    list_append(&channel->routes, &route->of_channel);
    if (route->old) {
        route->next = channel;
        settle_run(dvk);
        return;
    }
    route->channel = channel;
    call_on_route(dvk, route);
}

struct route *route_new(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to) {
    struct route *route = calloc(1, sizeof *route);
    if (!route)
        return NULL;
    route->dc = dc;
    route->from = from;
    route->to = route->full = to;
    struct own_endpoint *own = own_find(dvk, from); /* NULL: on behalf of others */
    list_init(&route->of_channel);
    list_init(&route->of_own);
    if (own)
        list_append(&own->routes, &route->of_own);
    list_init(&route->queue);
    list_init(&route->of_moving);
    list_append(&dvk->routes[bucket_of(to ^ from * 31, dc)], &route->bucket);
    return route;
}

void route_connect(struct dvk *dvk, struct route *route) {
    struct dvk_broker_packet ask = {
        .type = DVK_BROKER_CONNECT, .dc = route->dc, .endpoint = route->from, .peer = route->to, .place = route->asked};
    int error = broker_ask(dvk, &ask, connect_answered, route, asked_for(route));
    if (error < 0 && !dvk->broker_gone) /* else the failure has dropped the route */
        route_drop(dvk, route, error);
}

int route_get(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint32_t revision, struct route **out) {
    *out = route_find(dvk, dc, from, to);
    if (*out)
        return 0;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    struct route *route = route_new(dvk, dc, from, to);
    if (!route)
        return -ENOMEM;
    route->asked = route->wanted = revision;
    route_connect(dvk, route);
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    *out = route_find(dvk, dc, from, to);
    return *out ? 0 : -ENOMEM;
}
