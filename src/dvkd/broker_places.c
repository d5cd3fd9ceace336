/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that move between contexts: who is told, and the way to one that is not where its slot says. */
#include "common/record.h"
#include "dvk/relay.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>

bool broker_place(const struct broker *broker, uint32_t dc, dvk_endpoint endpoint, struct broker_place *out) {
    return broker->host.place_find && broker->host.place_find(broker->host.context, dc, endpoint, out);
}

bool broker_place_reached(const struct broker *broker, uint32_t revision) {
    return revision == 0 || !broker->host.place_reached || broker->host.place_reached(broker->host.context, revision);
}

bool broker_place_lives_on(const struct broker *broker, const struct endpoint *endpoint) {
    struct broker_place place;
    return broker_place(broker, endpoint->dc, endpoint_address(endpoint), &place) &&
           (place.replaceable || place.node != broker->node || place.context != endpoint->context->id);
}

bool broker_slot_is_taken(const struct broker *broker, uint32_t dc, uint32_t slot) {
    struct broker_place place;
    return broker_place(broker, dc, dvk_endpoint_make(0, slot), &place);
}

void broker_place_packet(struct client *client, const struct dvk_broker_packet *packet) {
    const struct broker_host *host = &client->broker->host;
    bool allowed = packet->type == DVK_BROKER_MIGRATE ? privileges_may(client, packet->dc, packet->endpoint, DVK_MAY_MIGRATE)
                   : packet->type == DVK_BROKER_SPARE ? privileges_may_bind(client->context)
                                                      : true;
    if (allowed && host->place_packet) {
        host->place_packet(host->context, client, packet);
        return;
    }
    struct dvk_broker_packet answer = client_answer(packet, -DVK_ENOTALLOWED);
    client_send(client, &answer, NULL, NULL, 0);
}

/* Their channels live on for what else goes over them. They are told before anybody can be sent elsewhere. */
static void tell_peers(struct client *client, uint32_t dc, dvk_endpoint endpoint, uint64_t revision) {
    struct channel_end *end;
    list_for_each(end, &client->context->channels, link) {
        const struct channel *channel = end->channel;
        const struct context *peer = channel->party[channel->party[0] == client->context];
        if (channel->dc != dc || !peer)
            continue;
        struct dvk_broker_packet packet = {
            .type = DVK_BROKER_MOVED, .dc = dc, .endpoint = endpoint, .channel = channel->id, .id = revision};
        client_send(peer->user, &packet, NULL, NULL, 0);
    }
}

void broker_place_left(struct broker *broker, struct client *client, uint32_t dc, dvk_endpoint endpoint, uint64_t revision) {
    struct endpoint *bound = registry_find_endpoint(&broker->registry, dc, endpoint);
    if (!bound || bound->context != client->context)
        return;
    tell_peers(client, dc, endpoint, revision);
    if (broker->host.endpoint_gone)
        broker->host.endpoint_gone(broker->host.context, client, dc, endpoint);
    grants_endpoint_gone(client, dc, endpoint);
    registry_unbind(&broker->registry, bound);
}

int broker_place_taken(struct broker *broker, struct client *client, uint32_t dc, dvk_endpoint endpoint, uint64_t revision) {
    return registry_adopt(&broker->registry, client->context, dc, endpoint, (uint32_t)revision);
}
