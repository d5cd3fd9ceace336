/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for an endpoint of this node to be bound or to go (DVK_BROKER_WATCH). The registry tells of each change; a
 * question that is not answered at once lies under its slot until then, or until its client, its DC or the client's
 * wish for it (DVK_BROKER_UNWATCH) goes.
 *
 * An endpoint of another node is watched by that node's dvkd: the client is told which node that is, and asks there
 * by a message (dvk/kernel.h), which its proxy puts to its dvkd.
 */
#include "common/log.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>

/* Questions of one client; a proxy's stand for those of a whole node. */
#define CLIENT_WATCHES_MAX 4096u
#define PROXY_WATCHES_MAX 262144u

struct watch {
    struct list of_slot, of_client;
    struct watched_slot *slot;
    struct client *client;
    struct dvk_broker_packet packet;
};

struct watched_slot {
    uint64_t key;
    struct list watches;
};

static uint64_t key_of(uint32_t dc, uint32_t slot) {
    return (uint64_t)(dc + 1) << 32 | slot;
}

static void watch_free(struct broker *broker, struct watch *watch) {
    list_remove(&watch->of_slot);
    list_remove(&watch->of_client);
    watch->client->watch_count--;
    if (list_empty(&watch->slot->watches)) {
        table_remove(&broker->watched, watch->slot->key);
        free(watch->slot);
    }
    free(watch);
}

static void answer(struct client *client, const struct dvk_broker_packet *question, int status, dvk_endpoint endpoint) {
    struct dvk_broker_packet packet = client_answer(question, status);
    struct broker_place place;
    packet.endpoint = endpoint;
    if (broker_place(client->broker, question->dc, question->peer, &place))
        packet.place = place.spares;
    client_send(client, &packet, NULL, NULL, 0);
}

static int watch_add(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    unsigned most = client->context->role == CONTEXT_PROXY ? PROXY_WATCHES_MAX : CLIENT_WATCHES_MAX;
    if (client->watch_count >= most)
        return -EAGAIN;
    uint64_t key = key_of(packet->dc, dvk_endpoint_slot(packet->peer));
    struct watched_slot *slot = table_get(&broker->watched, key);
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    if (!slot) {
        slot = calloc(1, sizeof *slot);
        if (!slot || table_set(&broker->watched, key, slot) < 0) {
            free(slot);
            free(watch);
            return -ENOMEM;
        }
        slot->key = key;
        list_init(&slot->watches);
    }
    *watch = (struct watch){.slot = slot, .client = client, .packet = *packet};
    list_append(&slot->watches, &watch->of_slot);
    list_append(&client->watches, &watch->of_client);
    client->watch_count++;
    return 0;
}

/* What can be answered at once: 0 or negative, with *found; 1: it has to wait. */
static int look(struct broker *broker, const struct dvk_broker_packet *packet, dvk_endpoint *found) {
    const struct endpoint *endpoint = registry_find_endpoint(&broker->registry, packet->dc, packet->peer);
    bool bound = packet->flags & DVK_BROKER_F_BOUND;
    *found = endpoint ? endpoint_address(endpoint) : DVK_NONE;
    if (bound) /* an address is never given out again */
        return endpoint ? 0 : dvk_endpoint_generation(packet->peer) ? -DVK_ENOTBOUND : 1;
    return endpoint ? 1 : -DVK_ENOTBOUND;
}

void broker_watch(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    const struct context *context = client->context;
    uint32_t home = 0;
    dvk_endpoint found = DVK_NONE;
    int result = context->role == CONTEXT_CELL && context->dc != packet->dc ? -DVK_ENOTALLOWED
                                                                            : broker_home(broker, packet->dc, packet->peer, &home);
    struct broker_place place = {.spares = 0};
    bool placed = result == 0 && broker_place(broker, packet->dc, packet->peer, &place);
    if (result == 0 && home != broker->node) {
        if (context->role == CONTEXT_PROXY) /* it came from another node and does not belong here, or not any more */
            result = placed ? -DVK_EMIGRATING : -DVK_ENOTBOUND;
        else if (!broker->host.node_is_up(broker->host.context, home))
            result = -DVK_ENODEUNREACH;
        struct dvk_broker_packet elsewhere = client_answer(packet, result);
        elsewhere.flags = result == 0 ? DVK_BROKER_F_ELSEWHERE : 0;
        elsewhere.node = home;
        elsewhere.place = place.spares;
        client_send(client, &elsewhere, NULL, NULL, 0);
        return;
    }
    if (result == 0)
        result = look(broker, packet, &found);
    if (result != 0 && placed && found == DVK_NONE)
        result = -DVK_EMIGRATING; /* it is about to be bound here, or its end is under way */
    if (result > 0 && packet->flags & DVK_BROKER_F_NOWAIT)
        result = -EINPROGRESS;
    if (result > 0) {
        struct dvk_broker_packet question = *packet;
        if (found != DVK_NONE)
            question.peer = found; /* it is this incarnation that is waited for */
        result = watch_add(client, &question);
        if (result == 0)
            return;
    }
    answer(client, packet, result, found);
}

void broker_unwatch(struct client *client, const struct dvk_broker_packet *packet) {
    struct watched_slot *slot =
        table_get(&client->broker->watched, key_of(packet->dc, dvk_endpoint_slot(packet->peer)));
    struct watch *watch;
    if (!slot)
        return;
    list_for_each(watch, &slot->watches, of_slot) {
        if (watch->client != client || watch->packet.id != packet->channel)
            continue;
        answer(client, &watch->packet, -DVK_EINTERRUPTED, DVK_NONE);
        watch_free(client->broker, watch);
        return;
    }
}

void broker_watch_changed(void *context, const struct endpoint *endpoint, bool bound) {
    struct broker *broker = context;
    struct watched_slot *slot = table_get(&broker->watched, key_of(endpoint->dc, endpoint->slot));
    dvk_endpoint address = endpoint_address(endpoint);
    int status = !bound && broker_place_lives_on(broker, endpoint) ? -DVK_EMIGRATING : 0; /* who waits is to ask anew */
    bool last = false;
    for (struct list *at = slot ? slot->watches.next : NULL; slot && !last && at != &slot->watches;) {
        struct watch *watch = list_entry(at, struct watch, of_slot);
        at = at->next;
        last = at == &slot->watches; /* the slot may go with its last watch */
        bool wants_bound = watch->packet.flags & DVK_BROKER_F_BOUND;
        if (wants_bound != bound || (!bound && watch->packet.peer != address))
            continue;
        answer(watch->client, &watch->packet, status, address);
        watch_free(broker, watch);
    }
    if (!bound && broker->host.place_unbound)
        broker->host.place_unbound(broker->host.context, endpoint->dc, address);
}

unsigned broker_watch_count(const struct broker *broker, const struct endpoint *endpoint) {
    struct watched_slot *slot = table_get(&broker->watched, key_of(endpoint->dc, endpoint->slot));
    struct watch *watch;
    unsigned count = 0;
    if (slot)
        list_for_each(watch, &slot->watches, of_slot) count += !(watch->packet.flags & DVK_BROKER_F_BOUND);
    return count;
}

void broker_watches_drop(struct client *client) {
    struct watch *watch;
    while ((watch = list_first(&client->watches, struct watch, of_client)))
        watch_free(client->broker, watch);
}

void broker_watches_end(struct broker *broker, uint32_t dc, int status) {
    struct client *client;
    list_for_each(client, &broker->clients, link) {
        struct watch *watch;
        list_for_each(watch, &client->watches, of_client) if (watch->packet.dc == dc) {
            answer(client, &watch->packet, status, DVK_NONE);
            watch_free(broker, watch);
        }
    }
}
