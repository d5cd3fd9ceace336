/* SPDX-License-Identifier: Apache-2.0 */
/* What programs learn of DCs: finding them by name, their nodes, and that one is over. */
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <string.h>

static struct channel *channel_of_dc(const struct context *context, uint32_t dc) {
    struct channel_end *end;
    list_for_each(end, &context->channels, link) if (end->channel->dc == dc) return end->channel;
    return NULL;
}

static struct endpoint *endpoint_of_dc(const struct context *context, uint32_t dc) {
    struct endpoint *endpoint;
    list_for_each(endpoint, &context->endpoints, context_link) if (endpoint->dc == dc) return endpoint;
    return NULL;
}

/* Unbind all that a program has in the DC; its channels end first, so that whoever waits on one is told why. */
static void program_leave_dc(struct client *client, uint32_t dc) {
    struct broker *broker = client->broker;
    struct channel *channel;
    struct endpoint *endpoint;
    while ((channel = channel_of_dc(client->context, dc)))
        broker_channel_kill(broker, channel, NULL, -DVK_ENODC);
    while ((endpoint = endpoint_of_dc(client->context, dc))) {
        if (broker->host.endpoint_gone)
            broker->host.endpoint_gone(broker->host.context, client, dc, endpoint_address(endpoint));
        registry_unbind(&broker->registry, endpoint);
    }
    struct dvk_broker_packet packet = {.type = DVK_BROKER_DC_GONE, .dc = dc};
    client_send(client, &packet, NULL, NULL, 0);
}

void broker_dc_cut(struct broker *broker, uint32_t dc) {
    broker_retry(broker, dc, -DVK_ENODC);
    broker_watches_end(broker, dc, -DVK_ENODC);
    struct client *client;
    list_for_each(client, &broker->clients, link) {
        const struct context *context = client->context;
        if (client->greeted && context->role == CONTEXT_PROGRAM && endpoint_of_dc(context, dc))
            program_leave_dc(client, dc);
    }
}

void broker_dc_gone(struct broker *broker, uint32_t dc) {
    broker_dc_cut(broker, dc);
    broker_waits_drop(broker, dc);
    broker_stats_dc_gone(broker, dc);
    registry_forget_dc(&broker->registry, dc);
}

void broker_dc_find(struct client *client, const struct dvk_broker_packet *packet, const char *text) {
    const struct broker_host *host = &client->broker->host;
    uint32_t dc = 0;
    int result = -DVK_ENOTALLOWED;
    if (client->context->role == CONTEXT_PROGRAM)
        result = strlen(text) == packet->text_len ? host->dc_find(host->context, text, &dc) : -EINVAL;
    struct dvk_broker_packet answer = client_answer(packet, result);
    answer.dc = dc;
    client_send(client, &answer, NULL, NULL, 0);
}

void broker_dc_nodes(struct client *client, const struct dvk_broker_packet *packet) {
    const struct broker_host *host = &client->broker->host;
    const uint32_t *nodes = NULL;
    uint32_t count = 0;
    int result = packet->dc >= 1 && packet->dc <= DVK_MAX_DC ? host->dc_nodes(host->context, packet->dc, &nodes, &count)
                                                              : -DVK_ENODC;
    struct dvk_broker_packet answer = client_answer(packet, result);
    if (result == 0)
        answer.text_len = (uint32_t)(count * sizeof *nodes);
    client_send(client, &answer, (const char *)nodes, NULL, 0);
}
