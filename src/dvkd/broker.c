/* SPDX-License-Identifier: Apache-2.0 */
/* What a client's packets mean: greeting, binding, and the events that go out to everyone. */
#include "common/log.h"
#include "dvk/channel.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void registry_changed(void *context, const struct endpoint *endpoint, bool bound) {
    broker_watch_changed(context, endpoint, bound);
    broker_stats_changed(context, endpoint, bound);
}

void broker_init(struct broker *broker, struct loop *loop, uint32_t node, uint32_t first_generation,
                 const struct broker_host *host) {
    *broker = (struct broker){.loop = loop, .node = node, .host = *host, .listen_fd = -1};
    registry_init(&broker->registry, first_generation);
    broker->since_ms = broker_clock_ms();
    broker->registry.changed = registry_changed;
    broker->registry.changed_context = broker;
    grants_init(broker, first_generation);
    privileges_init(broker);
    list_init(&broker->clients);
    list_init(&broker->waiting);
    list_init(&broker->bind_waits);
    list_init(&broker->up_nodes);
}

void broker_destroy(struct broker *broker) {
    loop_watch_remove(broker->listen_watch);
    if (broker->listen_fd >= 0)
        close(broker->listen_fd);
    struct client *client;
    while ((client = list_first(&broker->clients, struct client, link)))
        client_close(client);
    struct up_node *node;
    list_for_each(node, &broker->up_nodes, link) {
        list_remove(&node->link);
        free(node);
    }
    grants_destroy(broker);
    privileges_destroy(broker);
    registry_destroy(&broker->registry);
    table_free(&broker->watched);
    broker_waits_free(broker);
    broker_stats_free(broker);
}

/* ---- nodes ---- */

static void tell_node(struct client *client, uint32_t node, bool up, const char *address) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_NODE, .node = node, .flags = up ? DVK_BROKER_F_UP : 0};
    const char *text = NULL;
    if (up && client->context->role == CONTEXT_PROXY) {
        text = address;
        packet.text_len = (uint32_t)strlen(address);
    }
    client_send(client, &packet, text, NULL, 0);
}

void broker_node_change(struct broker *broker, uint32_t node, bool up, const char *address) {
    struct up_node *known, *found = NULL;
    list_for_each(known, &broker->up_nodes, link) if (known->node == node) found = known;
    if (found) {
        list_remove(&found->link);
        free(found);
    }
    if (up) {
        found = calloc(1, sizeof *found);
        if (!found) {
            log_error("no memory to remember node %u", node);
            return;
        }
        found->node = node;
        found->since_ms = broker_clock_ms();
        snprintf(found->address, sizeof found->address, "%s", address ? address : "");
        list_append(&broker->up_nodes, &found->link);
    }
    struct client *client;
    list_for_each(client, &broker->clients, link) if (client->greeted)
        tell_node(client, node, up, up ? found->address : "");
}

/* ---- requests ---- */

/* A doorbell page that cannot shrink under those who map it. */
static int check_doorbell(int fd) {
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &status) < 0)
        return -EINVAL;
    return (seals & F_SEAL_SHRINK) && status.st_size >= (off_t)DVK_DOORBELL_SIZE ? 0 : -EINVAL;
}

static void handle_hello(struct client *client, const struct dvk_broker_packet *packet, int *fds, unsigned fd_count) {
    struct broker *broker = client->broker;
    struct dvk_broker_packet answer = client_answer(packet, 0);
    answer.node = broker->node;
    if (packet->version != DVK_BROKER_VERSION)
        answer.status = -DVK_EVERSION;
    else if (client->greeted || fd_count != 1 || check_doorbell(fds[0]) < 0)
        answer.status = -EINVAL;
    const int *epoch = &broker->privileges.epoch_fd;
    client_send(client, &answer, NULL, epoch, answer.status == 0 && *epoch >= 0);
    if (answer.status)
        return;
    client->greeted = true;
    client->context->doorbell_fd = fds[0];
    fds[0] = -1;
    struct up_node *node;
    list_for_each(node, &broker->up_nodes, link) tell_node(client, node->node, true, node->address);
    if (client->context->role == CONTEXT_PROXY) {
        broker->proxy = client;
        broker_retry(broker, 0, 0);
    }
    if (client->context->role == CONTEXT_COPIER) {
        broker->copier = client;
        grants_copier_ready(broker);
        broker_copier_change(broker, 0);
    }
}

/* The DC's nodes; for the DVK's own DC 0 this node alone is known, which is all that a binding needs. */
static int dc_nodes(struct broker *broker, uint32_t dc, const uint32_t **nodes, uint32_t *count) {
    if (dc == 0) {
        *nodes = &broker->node;
        *count = 1;
        return 0;
    }
    if (dc > DVK_MAX_DC)
        return -DVK_ENODC;
    return broker->host.dc_nodes(broker->host.context, dc, nodes, count);
}

static int check_slot(struct broker *broker, const struct context *context, uint32_t slot) {
    if (dvk_slot_is_user(slot))
        return 0;
    if (!dvk_slot_is_system(slot) || dvk_system_slot_node(slot) != broker->node)
        return -DVK_ENOTALLOWED;
    uint32_t service = dvk_system_slot_service(slot);
    /* the VOS's services belong to the cell's servers, the others to whoever comes */
    bool vos = service >= DVK_SERVICE_PM && service <= DVK_SERVICE_BLK;
    return service != DVK_SERVICE_KERNEL && service != DVK_SERVICE_COPY && vos == (context->role == CONTEXT_CELL) ? 0 : -DVK_ENOTALLOWED;
}

bool broker_set_is_ours(const struct broker *broker, uint32_t dc, uint32_t set) {
    return dc == 0 || broker->host.slots_is_ours(broker->host.context, dc, set);
}

struct own_sets {
    const struct broker *broker;
    uint32_t dc;
};

static bool own_set(const void *context, uint32_t set) {
    const struct own_sets *own = context;
    return broker_set_is_ours(own->broker, own->dc, set);
}

uint32_t broker_free_slot(struct broker *broker, uint32_t dc) {
    const struct own_sets own = {broker, dc};
    uint32_t slot = registry_free_slot(&broker->registry, dc, own_set, &own), first = slot;
    while (slot && broker_slot_is_taken(broker, dc, slot)) {
        slot = registry_free_slot(&broker->registry, dc, own_set, &own);
        if (slot == first)
            return 0;
    }
    return slot;
}

static int bind_slot(struct client *client, uint32_t dc, uint32_t slot, struct endpoint **out) {
    struct broker *broker = client->broker;
    struct context *context = client->context;
    if (context->role == CONTEXT_PROXY || context->role == CONTEXT_COPIER || (context->role == CONTEXT_CELL && dc != context->dc))
        return -DVK_ENOTALLOWED;
    if (!privileges_may_bind(context))
        return -DVK_ENOTALLOWED;
    const uint32_t *nodes;
    uint32_t count, index = 0;
    int result = dc_nodes(broker, dc, &nodes, &count);
    if (result < 0)
        return result;
    while (index < count && nodes[index] != broker->node)
        index++;
    if (index == count)
        return -DVK_ENOTALLOWED;
    if (slot == DVK_SLOT_ANY) {
        slot = broker_free_slot(broker, dc);
        if (!slot)
            return -DVK_ENOSLOT;
    }
    result = check_slot(broker, context, slot);
    if (result < 0)
        return result;
    if (dvk_slot_is_user(slot) && !broker_set_is_ours(broker, dc, slot / DVK_SLOT_SET))
        return -DVK_ENOTALLOWED;
    if (broker_slot_is_taken(broker, dc, slot))
        return -DVK_ESLOTBUSY;
    registry_note_time(&broker->registry, (uint64_t)time(NULL));
    return registry_bind(&broker->registry, context, dc, slot, false, out);
}

int broker_bind_now(struct client *client, const struct dvk_broker_packet *packet, struct dvk_broker_packet *answer) {
    struct endpoint *endpoint = NULL;
    int result = bind_slot(client, packet->dc, dvk_endpoint_slot(packet->endpoint), &endpoint);
    *answer = client_answer(packet, result);
    if (endpoint) {
        answer->endpoint = endpoint_address(endpoint);
        endpoint->stats_place = packet->place;
    }
    return result;
}

void broker_bind_tell(struct client *client, const struct dvk_broker_packet *packet, const struct dvk_broker_packet *answer) {
    int page = answer->status == 0 ? broker_stats_page(client, packet) : -1;
    client_send(client, answer, NULL, &page, page >= 0 ? 1 : 0);
    privileges_bound(client, answer->dc, answer->endpoint);
}

static void handle_bind(struct client *client, const struct dvk_broker_packet *packet) {
    struct dvk_broker_packet answer;
    if (broker_bind_now(client, packet, &answer) == -DVK_ENOSLOT && packet->dc != 0 && broker_bind_wait(client, packet))
        return;
    broker_bind_tell(client, packet, &answer);
}

static void handle_unbind(struct client *client, const struct dvk_broker_packet *packet) {
    struct registry *registry = &client->broker->registry;
    struct endpoint *endpoint = registry_find_endpoint(registry, packet->dc, packet->endpoint);
    int result = !endpoint || endpoint->context != client->context || endpoint->guest ? -DVK_ENOTBOUND : 0;
    if (result == 0) {
        if (client->broker->host.endpoint_gone)
            client->broker->host.endpoint_gone(client->broker->host.context, client, packet->dc,
                                               endpoint_address(endpoint));
        grants_endpoint_gone(client, packet->dc, endpoint_address(endpoint));
        registry_unbind(registry, endpoint);
    }
    struct dvk_broker_packet answer = client_answer(packet, result);
    client_send(client, &answer, NULL, NULL, 0);
}

static void handle_channel_closed(struct client *client, const struct dvk_broker_packet *packet) {
    struct channel *channel = registry_channel_find(&client->broker->registry, packet->channel);
    if (channel && (channel->party[0] == client->context || channel->party[1] == client->context))
        broker_channel_kill(client->broker, channel, client->context, -DVK_EBADPEER);
}

static void handle_record(struct client *client, int *fds, unsigned fd_count) {
    const struct broker_host *host = &client->broker->host;
    if (client->context->role == CONTEXT_PROGRAM || fd_count != 1) {
        client_violation(client, "it may not have a record");
        return;
    }
    if (host->client_record) {
        host->client_record(host->context, client, fds[0]);
        fds[0] = -1;
    }
}

void broker_packet(struct client *client, const struct dvk_broker_packet *packet, const char *text, int *fds,
                   unsigned fd_count) {
    client->broker->stats.packets_in++;
    if (packet->type == DVK_BROKER_HELLO) {
        handle_hello(client, packet, fds, fd_count);
        return;
    }
    if (packet->type == DVK_BROKER_RECORD && packet->version == DVK_BROKER_VERSION) {
        handle_record(client, fds, fd_count);
        return;
    }
    if (!client->greeted || packet->version != DVK_BROKER_VERSION) {
        client_violation(client, "no valid greeting");
        return;
    }
    switch (packet->type) {
    case DVK_BROKER_BIND:
        handle_bind(client, packet);
        break;
    case DVK_BROKER_UNBIND:
        handle_unbind(client, packet);
        break;
    case DVK_BROKER_CONNECT:
        broker_connect(client, packet);
        break;
    case DVK_BROKER_SLOTS:
        broker_slots_packet(client, packet, text);
        break;
    case DVK_BROKER_GRANT:
        broker_grant(client, packet, text, fds, fd_count);
        break;
    case DVK_BROKER_REVOKE:
        broker_revoke(client, packet);
        break;
    case DVK_BROKER_ARENA:
        broker_arena(client, packet, fds, fd_count);
        break;
    case DVK_BROKER_GRANT_DONE:
        broker_grant_done(client, packet);
        break;
    case DVK_BROKER_GUEST_BIND:
        broker_guest_bind(client, packet);
        break;
    case DVK_BROKER_GUEST_UNBIND:
        broker_guest_unbind(client, packet);
        break;
    case DVK_BROKER_SPARE:
    case DVK_BROKER_SPARE_END:
    case DVK_BROKER_MIGRATE:
        broker_place_packet(client, packet);
        break;
    case DVK_BROKER_GET_PRIVILEGES:
        broker_get_privileges(client, packet);
        break;
    case DVK_BROKER_SET_PRIVILEGES:
        broker_set_privileges(client, packet, text);
        break;
    case DVK_BROKER_REFUSED:
        broker_refused(client, packet);
        break;
    case DVK_BROKER_WAITS:
        broker_waits(client, packet);
        break;
    case DVK_BROKER_WATCH:
        broker_watch(client, packet);
        break;
    case DVK_BROKER_UNWATCH:
        broker_unwatch(client, packet);
        break;
    case DVK_BROKER_CONTROL_REPLY:
        broker_control_reply(client, packet, text);
        break;
    case DVK_BROKER_CONTROL_SEND:
        broker_control_event(client, text, packet->text_len);
        break;
    case DVK_BROKER_CHANNEL_CLOSED:
        handle_channel_closed(client, packet);
        break;
    case DVK_BROKER_DC_FIND:
        broker_dc_find(client, packet, text);
        break;
    case DVK_BROKER_DC_NODES:
        broker_dc_nodes(client, packet);
        break;
    case DVK_BROKER_STATS_PLACE:
        broker_stats_place(client, packet);
        break;
    case DVK_BROKER_STATS:
        broker_stats(client, packet);
        break;
    case DVK_BROKER_NODES:
        broker_nodes(client, packet);
        break;
    case DVK_BROKER_SERVICE:
    case DVK_BROKER_SERVICE_CANCEL:
    case DVK_BROKER_SERVICE_TAKEN:
        if (client->broker->host.service)
            client->broker->host.service(client->broker->host.context, client, packet, text);
        else
            client_violation(client, "there are no services");
        break;
    default:
        client_violation(client, "unknown packet type");
    }
}

/* ---- for people who debug ---- */

static const char *role_name(const struct context *context) {
    static const char *const names[] = {"program", "cell", "proxy", "copier"};
    return names[context->role];
}

json_t *broker_endpoint_json(const struct broker *broker, const struct client *client, const struct endpoint *endpoint) {
    json_t *item = json_pack("{s:I, s:I, s:I, s:s, s:I, s:b, s:i, s:I}", "dc", (json_int_t)endpoint->dc, "slot",
                             (json_int_t)endpoint->slot, "generation", (json_int_t)endpoint->generation, "role",
                             role_name(client->context), "context", (json_int_t)client->context->id, "guest", endpoint->guest,
                             "pid", (int)client->pid, "watched", (json_int_t)broker_watch_count(broker, endpoint));
    privileges_list(endpoint, item);
    return item;
}

json_t *broker_list_endpoints(const struct broker *broker) {
    json_t *list = json_array();
    struct client *client;
    list_for_each(client, &broker->clients, link) {
        struct endpoint *endpoint;
        list_for_each(endpoint, &client->context->endpoints, context_link)
            json_array_append_new(list, broker_endpoint_json(broker, client, endpoint));
    }
    return list;
}

json_t *broker_list_channels(const struct broker *broker) {
    json_t *list = json_array();
    size_t cursor = 0;
    const struct channel *channel;
    while ((channel = table_next(&broker->registry.channels, &cursor))) {
        json_t *item = json_pack("{s:I, s:I, s:I, s:I, s:I}", "id", (json_int_t)channel->id, "dc",
                                 (json_int_t)channel->dc, "from",
                                 (json_int_t)(channel->party[0] ? channel->party[0]->id : 0), "to",
                                 (json_int_t)channel->party[1]->id, "guest",
                                 (json_int_t)(channel->guest ? channel->guest->slot : 0));
        json_array_append_new(list, item);
    }
    return list;
}
