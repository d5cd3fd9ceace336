/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels: who may have one with whom, and making it.
 *
 * A CONNECT is resolved to the context at its other end: the one that has bound the destination on this node, or the
 * proxy when the destination lives on another. It waits when that is a VOS service whose cell has to be started
 * first, or a proxy that is on its way; everything else is answered at once.
 */
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"
#include "dvk/channel_create.h"
#include "dvk/relay.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROXY_WAIT_MS 5000u
#define CELL_WAIT_MS 60000u
#define ZYGOTE_SLOT 63u

/* What resolve() found. */
struct route {
    struct context *peer;
    struct endpoint *endpoint; /* NULL: behind the proxy */
    uint32_t node;             /* where a destination behind the proxy lives */
    uint32_t revision;         /* of the destination: see place_table.h */
};
enum { WAIT_FOR_CELL = 1, WAIT_FOR_PROXY = 2, WAIT_FOR_COPIER = 3, WAIT_FOR_PLACE = 4 }; /* resolve()'s positive results */

void connect_drop(struct connect *connect) {
    loop_timer_cancel(connect->timer);
    connect->client->waiting_connects--;
    list_remove(&connect->link);
    free(connect);
}

static int resolve_remote(struct broker *broker, const struct client *client, uint32_t node, struct route *route) {
    if (client->context->role == CONTEXT_PROXY)
        return -DVK_ENOTBOUND; /* it came from another node and does not belong here */
    if (!broker->host.node_is_up(broker->host.context, node))
        return -DVK_ENODEUNREACH;
    if (!broker->proxy)
        return broker->expects_proxy ? WAIT_FOR_PROXY : -DVK_ENODEUNREACH;
    *route = (struct route){.peer = broker->proxy->context, .node = node};
    return 0;
}

/* The copier's endpoint in a DC: it gets one when it is first addressed there, or first addresses somebody. */
static int copier_endpoint(struct broker *broker, uint32_t dc, struct endpoint **out) {
    if (!broker->copier) {
        int result = broker->host.copier_start ? broker->host.copier_start(broker->host.context) : -DVK_ENOTBOUND;
        return result < 0 ? result : WAIT_FOR_COPIER;
    }
    uint32_t slot = dvk_system_slot(broker->node, DVK_SERVICE_COPY);
    *out = registry_find(&broker->registry, dc, slot);
    return *out ? 0 : registry_bind(&broker->registry, broker->copier->context, dc, slot, false, out);
}

static bool contains(const uint32_t *nodes, uint32_t count, uint32_t node) {
    for (uint32_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

int broker_home(struct broker *broker, uint32_t dc, dvk_endpoint endpoint, uint32_t *node) {
    uint32_t slot = dvk_endpoint_slot(endpoint), node_count = 0;
    const uint32_t *nodes = NULL;
    *node = broker->node;
    if (dc > DVK_MAX_DC)
        return -DVK_ENODC;
    if (dc != 0) {
        int result = broker->host.dc_nodes(broker->host.context, dc, &nodes, &node_count);
        if (result < 0)
            return result;
    }
    if (registry_find_endpoint(&broker->registry, dc, endpoint))
        return 0;
    struct broker_place place;
    if (broker_place(broker, dc, endpoint, &place)) {
        *node = place.node;
    } else if (dvk_slot_is_system(slot)) {
        uint32_t home = dvk_system_slot_node(slot);
        if (home == 0 || home > DVK_MAX_NODE || (dc != 0 && !contains(nodes, node_count, home)))
            return -DVK_ENOTBOUND;
        *node = home;
    } else if (dvk_slot_is_user(slot) && dc != 0) {
        *node = broker->host.slot_owner(broker->host.context, dc, slot);
        if (!*node)
            return -DVK_ENOTBOUND;
    }
    return 0;
}

/* One that has backups or has moved, and is not bound here. asked: the revision that the client knows. */
static int resolve_place(struct client *client, const struct broker_place *place, uint32_t asked, struct route *route) {
    struct broker *broker = client->broker;
    if (place->node == broker->node)
        return WAIT_FOR_PLACE; /* it is about to be, or its end is under way */
    if (client->context->role == CONTEXT_PROXY) { /* the source is to look for it anew, unless it should know better */
        route->revision = place->revision;
        return (int32_t)(place->revision - asked) > 0 ? -DVK_ERELAYED : -DVK_ENOTBOUND;
    }
    if (place->replaceable && !broker->host.node_is_up(broker->host.context, place->node))
        return WAIT_FOR_PLACE;
    int result = resolve_remote(broker, client, place->node, route);
    route->revision = place->revision;
    return result;
}

/* 0: *route is filled in. WAIT_FOR_*: not yet. Negative: never. asked: the least revision that will do. */
static int resolve(struct client *client, uint32_t dc, dvk_endpoint to, uint32_t asked, struct route *route) {
    struct broker *broker = client->broker;
    uint32_t slot = dvk_endpoint_slot(to), home;
    int result = broker_home(broker, dc, to, &home);
    if (result < 0)
        return result;
    if (!broker_place_reached(broker, asked))
        return WAIT_FOR_PLACE;
    struct broker_place place;
    struct endpoint *endpoint = registry_find_endpoint(&broker->registry, dc, to);
    if (endpoint) {
        /* a guest has one channel, with its cell's servers; nobody else speaks to it */
        if (endpoint->guest || endpoint->context == client->context)
            return -DVK_ENOTALLOWED;
        *route = (struct route){.peer = endpoint->context, .endpoint = endpoint, .node = broker->node, .revision = endpoint->revision};
        return 0;
    }
    if (broker_place(broker, dc, to, &place))
        return resolve_place(client, &place, asked, route);
    if (home != broker->node)
        return resolve_remote(broker, client, home, route);

    uint32_t service = dvk_slot_is_system(slot) ? dvk_system_slot_service(slot) : 0;
    if (service == DVK_SERVICE_COPY && dvk_endpoint_generation(to) == 0) {
        result = copier_endpoint(broker, dc, &endpoint);
        if (result == 0)
            *route = (struct route){.peer = endpoint->context, .endpoint = endpoint, .node = broker->node};
        return result;
    }
    if (dc == 0 || service < DVK_SERVICE_PM || service > DVK_SERVICE_TTY ||
        registry_find(&broker->registry, dc, slot)) /* bound, but that incarnation is gone */
        return -DVK_ENOTBOUND;
    result = broker->host.cell_start(broker->host.context, dc);
    return result < 0 ? result : WAIT_FOR_CELL;
}

static int channel_make(struct broker *broker, uint32_t dc, struct context *a, struct context *b,
                        struct endpoint *guest, struct channel **out, int sockets[2]) {
    const uint32_t guest_slots[2] = {DVK_GUEST_SLOTS, DVK_GUEST_BACK_SLOTS};
    const uint32_t peer_slots[2] = {DVK_PEER_SLOTS, DVK_PEER_SLOTS};
    if (fault_at(FAULT_BROKER_CHANNEL) & FAULT_FAIL)
        return -ENOMEM;
    int memfd;
    int result = dvk_channel_create(guest ? guest_slots : peer_slots, DVK_DATA_MAX, &memfd);
    if (result < 0)
        return result;
    result = dvk_channel_sockets(sockets);
    if (result < 0) {
        close(memfd);
        return result;
    }
    *out = registry_channel_add(&broker->registry, dc, a, b, guest, memfd);
    if (*out) {
        broker_stats_connect(broker, dc);
        return 0;
    }
    close(sockets[0]);
    close(sockets[1]);
    return -ENOMEM;
}

/* Whose privileges a CONNECT is judged by; NULL: its source is another node's, or the copier. */
static struct endpoint *source_of(const struct client *client, const struct dvk_broker_packet *packet) {
    enum context_role role = client->context->role;
    return role == CONTEXT_PROXY || role == CONTEXT_COPIER
               ? NULL
               : registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
}

/* Tell both ends of a channel. sockets: NULL when they have it already. The peer is told first, so that it knows the
 * source before a message of it can come. */
static void tell_ends(struct client *client, const struct dvk_broker_packet *packet, const struct route *route,
                      const struct channel *channel, uint32_t side, const int *sockets) {
    struct client *peer = route->peer->user;
    struct dvk_broker_packet event = {.type = DVK_BROKER_CHANNEL,
                                      .dc = packet->dc,
                                      .channel = channel->id,
                                      .side = 1 - side,
                                      .peer = packet->endpoint,
                                      .endpoint = route->endpoint ? endpoint_address(route->endpoint) : packet->peer,
                                      .node = route->endpoint ? 0 : route->node,
                                      .id = route->revision,
                                      .place = client->context->role == CONTEXT_PROXY ? 0 : client->context->place,
                                      .flags = client->context->role == CONTEXT_PROXY ? DVK_BROKER_F_PROXY : 0};
    record(RECORD_CONNECT, packet->dc, packet->endpoint, event.endpoint, channel->id, route->node);
    struct dvk_broker_packet answer = client_answer(packet, 0);
    answer.channel = channel->id;
    answer.side = side;
    answer.node = route->revision;
    answer.endpoint = packet->endpoint;
    answer.peer = event.endpoint;
    answer.flags = route->peer->role == CONTEXT_PROXY ? DVK_BROKER_F_PROXY : 0;
    answer.place = route->peer->role == CONTEXT_PROXY ? 0 : route->peer->place;
    const char *of_source = privileges_tell(source_of(client, packet), &event);
    const char *of_peer = privileges_tell(route->endpoint, &answer);
    if (!sockets) {
        client_send(peer, &event, of_source, NULL, 0);
        client_send(client, &answer, of_peer, NULL, 0);
        return;
    }
    const int peer_fds[3] = {channel->memfd, sockets[1 - side], client->context->doorbell_fd};
    const int client_fds[3] = {channel->memfd, sockets[side], route->peer->doorbell_fd};
    client_send(peer, &event, of_source, peer_fds, 3);
    client_send(client, &answer, of_peer, client_fds, 3);
}

/* Answer a CONNECT, or find that it has to wait (a positive result). */
static int try_connect(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    struct route route = {.revision = 0};
    int result = resolve(client, packet->dc, packet->peer, packet->place, &route);
    if (result == 0 && route.endpoint)
        result = privileges_connected(source_of(client, packet), route.endpoint);
    if (result == -DVK_ERELAYED) { /* the proxy's */
        struct dvk_broker_packet answer = client_answer(packet, result);
        answer.node = route.revision;
        client_send(client, &answer, NULL, NULL, 0);
        return 0;
    }
    if (result != 0)
        return result;
    uint32_t side = 0;
    struct channel *channel = registry_channel_between(client->context, route.peer, packet->dc, &side);
    if (channel) {
        tell_ends(client, packet, &route, channel, side, NULL);
        return 0;
    }
    int sockets[2];
    result = channel_make(broker, packet->dc, client->context, route.peer, NULL, &channel, sockets);
    if (result < 0)
        return result;
    tell_ends(client, packet, &route, channel, 0, sockets);
    close(sockets[0]);
    close(sockets[1]);
    return 0;
}

static void answer_failure(struct client *client, const struct dvk_broker_packet *packet, int result) {
    record(RECORD_CONNECT_FAIL, packet->dc, packet->endpoint, packet->peer, (uint64_t)result);
    struct dvk_broker_packet answer = client_answer(packet, result);
    answer.endpoint = packet->endpoint;
    answer.peer = packet->peer;
    client_send(client, &answer, NULL, NULL, 0);
}

static void connect_timer_fn(void *context) {
    struct connect *connect = context;
    connect->timer = NULL;
    answer_failure(connect->client, &connect->packet, connect->for_proxy   ? -DVK_ENODEUNREACH
                                                         : connect->for_place ? -DVK_EMIGRATING
                                                                              : -DVK_ETIMEDOUT);
    connect_drop(connect);
}

static int connect_wait(struct client *client, const struct dvk_broker_packet *packet, int what) {
    if (client->waiting_connects >= CLIENT_PENDING_CONNECTS_MAX)
        return -EAGAIN;
    struct connect *connect = calloc(1, sizeof *connect);
    if (!connect)
        return -ENOMEM;
    *connect = (struct connect){.client = client,
                                .packet = *packet,
                                .for_proxy = what == WAIT_FOR_PROXY,
                                .for_place = what == WAIT_FOR_PLACE,
                                .for_copier = what == WAIT_FOR_COPIER};
    if (loop_timer_add(client->broker->loop, what == WAIT_FOR_CELL ? CELL_WAIT_MS : PROXY_WAIT_MS, connect_timer_fn,
                       connect, &connect->timer) < 0) {
        free(connect);
        return -ENOMEM;
    }
    client->waiting_connects++;
    list_append(&client->broker->waiting, &connect->link);
    return 0;
}

void broker_connect(struct client *client, const struct dvk_broker_packet *packet) {
    struct context *context = client->context;
    struct dvk_broker_packet own;
    int result = 0;
    if (context->role == CONTEXT_PROXY || context->role == CONTEXT_COPIER) {
        if (packet->endpoint != DVK_NONE)
            result = -DVK_ENOTALLOWED;
    }
    if (result == 0 && context->role == CONTEXT_COPIER) { /* it speaks for itself, wherever it is not bound yet */
        struct endpoint *self;
        own = *packet;
        result = packet->dc > DVK_MAX_DC ? -DVK_ENODC : copier_endpoint(client->broker, packet->dc, &self);
        if (result == 0)
            own.endpoint = endpoint_address(self);
        packet = &own;
    } else if (context->role != CONTEXT_PROXY) {
        struct endpoint *from = registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
        if (!from || from->context != context || from->guest)
            result = -DVK_ENOTALLOWED;
    }
    if (result == 0)
        result = privileges_connect(source_of(client, packet), packet->peer);
    if (result == 0)
        result = try_connect(client, packet);
    if (result > 0)
        result = connect_wait(client, packet, result);
    if (result < 0)
        answer_failure(client, packet, result);
}

static void connect_retry(struct connect *connect, int status) {
    int result = status ? status : try_connect(connect->client, &connect->packet);
    if (result > 0)
        return; /* still not there; its timer goes on */
    if (result < 0)
        answer_failure(connect->client, &connect->packet, result);
    connect_drop(connect);
}

void broker_retry(struct broker *broker, uint32_t dc, int status) {
    struct connect *connect;
    list_for_each(connect, &broker->waiting, link) {
        /* what does not wait for the DC's cell here is concerned by the DC's end alone */
        bool for_cell = !connect->for_proxy && !connect->for_copier && !connect->for_place;
        bool meant = dc == 0 ? connect->for_proxy : connect->packet.dc == dc && (for_cell || status == -DVK_ENODC);
        if (meant)
            connect_retry(connect, status);
    }
}

void broker_place_changed(struct broker *broker) {
    struct connect *connect;
    list_for_each(connect, &broker->waiting, link) {
        if (connect->for_place)
            connect_retry(connect, 0);
    }
}

void broker_copier_change(struct broker *broker, int status) {
    struct connect *connect;
    list_for_each(connect, &broker->waiting, link) {
        if (connect->for_copier)
            connect_retry(connect, status);
    }
}

/* ---- guests ---- */

static int guest_bind(struct client *client, const struct dvk_broker_packet *packet, struct channel **channel,
                      int sockets[2]) {
    struct broker *broker = client->broker;
    struct context *context = client->context;
    uint32_t slot = dvk_endpoint_slot(packet->endpoint), count, index = 0;
    const uint32_t *nodes;
    if (context->role != CONTEXT_CELL || packet->dc != context->dc)
        return -DVK_ENOTALLOWED;
    int result = broker->host.dc_nodes(broker->host.context, packet->dc, &nodes, &count);
    if (result < 0)
        return result;
    while (index < count && nodes[index] != broker->node)
        index++;
    if (slot == DVK_SLOT_ANY)
        slot = broker_free_slot(broker, packet->dc);
    if (slot != ZYGOTE_SLOT) {
        if (!dvk_slot_is_user(slot))
            return -DVK_ENOTALLOWED;
        if (!(packet->flags & DVK_BROKER_F_ADOPTED) && !broker_set_is_ours(broker, packet->dc, slot / DVK_SLOT_SET))
            return -DVK_ENOTALLOWED;
    }
    registry_note_time(&broker->registry, (uint64_t)time(NULL));
    struct endpoint *endpoint;
    result = registry_bind(&broker->registry, context, packet->dc, slot, true, &endpoint);
    if (result < 0)
        return result;
    result = channel_make(broker, packet->dc, NULL, context, endpoint, channel, sockets);
    if (result < 0)
        registry_unbind(&broker->registry, endpoint);
    return result;
}

void broker_guest_bind(struct client *client, const struct dvk_broker_packet *packet) {
    struct channel *channel = NULL;
    int sockets[2];
    struct dvk_broker_packet answer = client_answer(packet, guest_bind(client, packet, &channel, sockets));
    if (answer.status < 0) {
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    answer.endpoint = endpoint_address(channel->guest);
    answer.channel = channel->id;
    answer.side = 1;
    const int fds[3] = {channel->memfd, sockets[1], sockets[0]};
    client_send(client, &answer, NULL, fds, 3);
    close(sockets[0]);
    close(sockets[1]);
}

void broker_guest_unbind(struct client *client, const struct dvk_broker_packet *packet) {
    struct registry *registry = &client->broker->registry;
    struct endpoint *endpoint = registry_find_endpoint(registry, packet->dc, packet->endpoint);
    int result = !endpoint || !endpoint->guest || endpoint->context != client->context ? -DVK_ENOTBOUND : 0;
    if (result == 0) {
        if (endpoint->channel)
            broker_channel_kill(client->broker, endpoint->channel, client->context, 0);
        registry_unbind(registry, endpoint);
    }
    struct dvk_broker_packet answer = client_answer(packet, result);
    client_send(client, &answer, NULL, NULL, 0);
}

void broker_channel_kill(struct broker *broker, struct channel *channel, const struct context *except, int status) {
    record(RECORD_CHANNEL_DEAD, channel->dc, channel->id, (uint64_t)status);
    for (int side = 0; side < 2; side++) {
        struct context *context = channel->party[side];
        if (!context || context == except)
            continue;
        /* of the other side's endpoints one will do: the channel's number is what counts */
        const struct context *other = channel->party[1 - side];
        const struct endpoint *peer =
            other ? list_first(&other->endpoints, struct endpoint, context_link) : channel->guest;
        struct dvk_broker_packet packet = {.type = DVK_BROKER_CHANNEL_GONE,
                                           .channel = channel->id,
                                           .dc = channel->dc,
                                           .peer = peer ? endpoint_address(peer) : DVK_NONE,
                                           .status = status};
        client_send(context->user, &packet, NULL, NULL, 0);
    }
    dvk_channel_mark_dead(channel->memfd); /* behind the word why: who sees the mark looks for that */
    registry_channel_remove(&broker->registry, channel);
}
