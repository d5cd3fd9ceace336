/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User slots, as clients see it: a cell's servers are told who owns which and ask for more (include/dvk/slots.h); a program
 * that asks for any slot of a DC where this node has no free one waits until there is one, or it is clear that there will be none.
 */
#include "common/log.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <dvk/slots.h>
#include <errno.h>
#include <stdlib.h>

#define BIND_WAIT_MS 2000u
#define BIND_WAITS_MAX 4096u
#define OFFER_MAX 256u

/* A BIND of any slot that waits. */
struct bind_wait {
    struct list link; /* in broker.bind_waits */
    struct client *client;
    struct dvk_broker_packet packet;
    struct loop_timer *timer;
};

static void wait_free(struct bind_wait *wait) {
    loop_timer_cancel(wait->timer);
    list_remove(&wait->link);
    wait->client->broker->bind_wait_count--;
    free(wait);
}

static void wait_over(void *context) {
    struct bind_wait *wait = context;
    wait->timer = NULL;
    struct dvk_broker_packet answer = client_answer(&wait->packet, -DVK_ENOSLOT);
    client_send(wait->client, &answer, NULL, NULL, 0);
    wait_free(wait);
}

bool broker_bind_wait(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    /* each time an eighth of what is in use: the cluster has to agree every time, and who binds many would wait for it with every set */
    uint32_t want = registry_bound(&broker->registry, packet->dc) / DVK_SLOT_SET / 8 + 1;
    if (broker->bind_wait_count >= BIND_WAITS_MAX || !broker->host.slots_take ||
        !broker->host.slots_take(broker->host.context, packet->dc, want, DVK_USER_SLOTS / DVK_SLOT_SET))
        return false;
    struct bind_wait *wait = calloc(1, sizeof *wait);
    if (!wait)
        return false;
    *wait = (struct bind_wait){.client = client, .packet = *packet};
    if (loop_timer_add(broker->loop, BIND_WAIT_MS, wait_over, wait, &wait->timer) < 0) {
        free(wait);
        return false;
    }
    list_append(&broker->bind_waits, &wait->link);
    broker->bind_wait_count++;
    return true;
}

static void bind_waits_serve(struct broker *broker, uint32_t dc, int status) {
    struct bind_wait *wait;
    list_for_each(wait, &broker->bind_waits, link) {
        if (wait->packet.dc != dc)
            continue;
        struct dvk_broker_packet answer;
        int result = broker_bind_now(wait->client, &wait->packet, &answer);
        if (result == -DVK_ENOSLOT && status == -EAGAIN && /* the view changed: ask again, until its time is over */
            broker->host.slots_take(broker->host.context, dc, 1, DVK_USER_SLOTS / DVK_SLOT_SET))
            continue;
        broker_bind_tell(wait->client, &wait->packet, &answer);
        wait_free(wait);
    }
}

void broker_slots_client_gone(struct client *client) {
    struct bind_wait *wait;
    list_for_each(wait, &client->broker->bind_waits, link) if (wait->client == client) wait_free(wait);
}

/* ---- what cells' servers say ---- */

struct offer {
    uint16_t sets[OFFER_MAX];
    uint32_t count;
    bool wrong; /* not in order, or too many */
};

static void offer_run(void *context, uint32_t first, uint32_t count) {
    struct offer *offer = context;
    for (uint32_t set = first; set < first + count && !offer->wrong; set++) {
        if (offer->count == OFFER_MAX || (offer->count && offer->sets[offer->count - 1] >= set))
            offer->wrong = true;
        else
            offer->sets[offer->count++] = (uint16_t)set;
    }
}

void broker_slots_packet(struct client *client, const struct dvk_broker_packet *packet, const char *text) {
    struct broker *broker = client->broker;
    const struct broker_host *host = &broker->host;
    struct offer offer = {.count = 0};
    if (client->context->role != CONTEXT_CELL || packet->dc != client->context->dc || !host->slots_take) {
        client_violation(client, "slots of a DC that is not its own");
        return;
    }
    switch (packet->side) {
    case DVK_BROKER_SLOTS_WATCH:
        client->watches_slots = true;
        client->slots_told = 0;
        host->slots_watched(host->context, packet->dc);
        break;
    case DVK_BROKER_SLOTS_TAKE:
        if (!host->slots_take(host->context, packet->dc, packet->node, packet->flags))
            broker_slots_ended(broker, packet->dc, -EAGAIN);
        break;
    case DVK_BROKER_SLOTS_GIVE:
        if (slot_runs_read(packet->text_len ? text : "", offer_run, &offer) < 0 || offer.wrong)
            client_violation(client, "an offer of slots that cannot be");
        else
            host->slots_offered(host->context, packet->dc, offer.sets, offer.count);
        break;
    default:
        client_violation(client, "unknown operation on slots");
    }
}

/* ---- what they are told ---- */

static struct client *watcher(const struct broker *broker, uint32_t dc) {
    struct client *client;
    for (const struct list *at = broker->clients.next; at != &broker->clients; at = at->next) {
        client = list_entry(at, struct client, link);
        if (client->watches_slots && !client->closing && client->context->dc == dc)
            return client;
    }
    return NULL;
}

bool broker_slots_watched(const struct broker *broker, uint32_t dc) { return watcher(broker, dc); }

void broker_slots_table(struct broker *broker, uint32_t dc, const struct slot_table *table, uint64_t version) {
    struct client *client = watcher(broker, dc);
    if (!client || client->slots_told == version + 1)
        return;
    struct dvk_slots_run *runs = calloc(table->run_count ? table->run_count : 1, sizeof *runs);
    if (!runs) {
        log_error("out of memory: a cell is not told who owns its slots");
        return;
    }
    for (uint32_t i = 0; i < table->run_count; i++)
        runs[i] = (struct dvk_slots_run){table->runs[i].first, table->runs[i].count, table->runs[i].owner, 0};
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SLOTS_TABLE, .dc = dc, .id = version, .node = table->sets,
                                       .text_len = (uint32_t)(table->run_count * sizeof *runs)};
    client_send(client, &packet, (const char *)runs, NULL, 0);
    client->slots_told = version + 1;
    free(runs);
}

static bool tell(struct broker *broker, struct dvk_broker_packet *packet) {
    struct client *client = watcher(broker, packet->dc);
    if (client)
        client_send(client, packet, NULL, NULL, 0);
    return client;
}

bool broker_slots_wanted(struct broker *broker, uint32_t dc, uint32_t want, uint32_t below) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SLOTS_WANTED, .dc = dc, .node = want, .flags = below};
    return tell(broker, &packet);
}

void broker_slots_settled(struct broker *broker, uint32_t dc) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SLOTS_SETTLED, .dc = dc};
    tell(broker, &packet);
}

void broker_slots_ended(struct broker *broker, uint32_t dc, int status) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SLOTS_ENDED, .dc = dc, .status = status};
    tell(broker, &packet);
    bind_waits_serve(broker, dc, status);
}
