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
    if (route->notify)
        route->notify->route = NULL;
    struct call *call;
    while ((call = list_first(&route->queue, struct call, link))) {
        list_remove(&call->link);
        call_complete(dvk, call, status);
    }
    free(route);
}

void own_routes_drop(struct dvk *dvk, struct own_endpoint *own, int status) {
    struct route *route;
    while ((route = list_first(&own->routes, struct route, of_own)))
        route_drop(dvk, route, status);
}

static void connect_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct route *route = awaited->a;
    struct dvk_broker_packet *head = &packet->head;
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
    if (!route)
        return;
    if (error < 0) {
        dvk->route_error = error;
        route_drop(dvk, route, error);
        return;
    }
    route->channel = channel;
    route->full = head->peer != DVK_NONE ? head->peer : route->to;
    list_append(&channel->routes, &route->of_channel);
    call_on_route(dvk, route);
}

int route_get(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, struct route **out) {
    *out = route_find(dvk, dc, from, to);
    if (*out)
        return 0;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    struct route *route = calloc(1, sizeof *route);
    if (!route)
        return -ENOMEM;
    route->dc = dc;
    route->from = from;
    route->to = route->full = to;
    struct own_endpoint *own = own_find(dvk, from); /* NULL: on behalf of others */
    list_init(&route->of_channel);
    list_init(&route->of_own);
    if (own)
        list_append(&own->routes, &route->of_own);
    list_init(&route->queue);
    list_append(&dvk->routes[bucket_of(to ^ from * 31, dc)], &route->bucket);
    struct dvk_broker_packet ask = {.type = DVK_BROKER_CONNECT, .dc = dc, .endpoint = from, .peer = to};
    int error = broker_ask(dvk, &ask, connect_answered, route, NULL);
    if (dvk->broker_gone)
        return -DVK_ENODAEMON; /* the failure has dropped the route */
    if (error < 0) {
        route_drop(dvk, route, error);
        return error;
    }
    *out = route;
    return 0;
}
