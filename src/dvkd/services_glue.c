/* SPDX-License-Identifier: Apache-2.0 */
/* How the broker, the replica and the services come together: who may ask for what, and who is told. */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvk/service_protocol.h"
#include "dvkd/broker_private.h"
#include "dvkd/dvkd.h"
#include "dvkd/places.h"
#include "dvkd/services.h"

#include <dvk/error.h>
#include <dvk/message.h>
#include <string.h>

/* An endpoint of one's own, in its own DC, or none of its groups and keys: so they are as apart as messages are. */
static bool is_own(struct client *client, const struct dvk_broker_packet *packet) {
    const struct endpoint *endpoint =
        registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
    return endpoint && endpoint->context == client->context && !endpoint->guest;
}

/* What an operation needs; 0: what gives something up is always allowed. */
static uint32_t right_of(const struct dvk_broker_packet *packet, const char *text) {
    struct dvk_service_head head;
    if (packet->text_len < sizeof head)
        return 0; /* it is refused for that */
    memcpy(&head, text, sizeof head);
    switch (head.op) {
    case DVK_SERVICE_OP_GROUP_LEAVE:
    case DVK_SERVICE_OP_KV_UNWATCH:
    case DVK_SERVICE_OP_UNLOCK:
        return 0;
    case DVK_SERVICE_OP_GROUP_JOIN:
    case DVK_SERVICE_OP_GROUP_CAST:
        return DVK_MAY_GROUP;
    default:
        return DVK_MAY_SERVICE;
    }
}

static bool may_ask(struct client *client, const struct dvk_broker_packet *packet, const char *text) {
    uint32_t right = right_of(packet, text);
    return is_own(client, packet) && (!right || privileges_may(client, packet->dc, packet->endpoint, right));
}

static void refuse(struct client *client, const struct dvk_broker_packet *packet, int status) {
    struct dvk_broker_packet answer = client_answer(packet, status);
    answer.endpoint = packet->endpoint;
    client_send(client, &answer, NULL, NULL, 0);
}

void dvkd_client_service(void *context, struct client *client, const struct dvk_broker_packet *packet,
                         const char *text) {
    struct dvkd *dvkd = context;
    if (packet->type == DVK_BROKER_SERVICE && !may_ask(client, packet, text)) {
        refuse(client, packet, -DVK_ENOTALLOWED);
        return;
    }
    if (!client->service && !(client->service = services_client_add(dvkd->services, client))) {
        client_violation(client, "there is no memory for it");
        return;
    }
    const char *wrong = services_packet(client->service, packet, text);
    if (wrong)
        client_violation(client, wrong);
}

void dvkd_client_service_gone(struct client *client) {
    if (client->service)
        services_client_gone(client->service);
    client->service = NULL;
}

void dvkd_endpoint_gone(void *context, struct client *client, uint32_t dc, dvk_endpoint endpoint) {
    if (client->service)
        services_endpoint_gone(client->service, dc, endpoint);
}

static void port_send(void *context, void *user, const struct dvk_broker_packet *packet, const char *text) {
    client_send(user, packet, text, NULL, 0);
}

static json_t *port_endpoints(void *context, uint32_t dc) {
    json_t *list = broker_stats_endpoints(&((struct dvkd *)context)->broker, dc), *item;
    size_t i;
    json_array_foreach(list, i, item) json_object_del(item, "dc");
    return list;
}

static json_t *port_sum(void *context, uint32_t dc) {
    struct stats_sum sum = broker_stats_sum(&((struct dvkd *)context)->broker, dc);
    return stats_sum_json(&sum);
}

int dvkd_services_start(struct dvkd *dvkd) {
    const struct services_port port = {.context = dvkd, .send = port_send, .endpoints = port_endpoints, .sum = port_sum};
    int result = services_create(dvkd->loop, dvkd->options.id, &port, &dvkd->services);
    if (result == 0)
        services_set_replica(dvkd->services, dvkd->replica);
    return result;
}

void dvkd_cast(void *context, uint32_t node, const json_t *payload) {
    services_cast(((struct dvkd *)context)->services, node, payload);
}
void dvkd_confirmed(void *context, uint64_t epoch) {
    struct dvkd *dvkd = context;
    services_confirmed(dvkd->services, epoch);
    places_confirmed(dvkd->places, epoch);
}
void dvkd_installed(void *context, bool replaced) { services_installed(((struct dvkd *)context)->services, replaced); }
