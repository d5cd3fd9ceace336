/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/services_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void no_memory(void) {
    log_error("out of memory");
    abort();
}

/* ---- requests ---- */

void request_hold(struct request *request) { request->references++; }

void request_drop(struct request *request) {
    if (--request->references)
        return;
    json_decref(request->message);
    free(request->name);
    free(request->value);
    free(request);
}

void request_end(struct request *request) {
    struct service_client *client = request->client;
    if (!client)
        return;
    struct services *services = request->services;
    struct group *group = request->group;
    request->client = NULL;
    client->request_count--;
    services->counts.waits -= request->kind == REQUEST_LOCK || request->kind == REQUEST_BARRIER;
    services->counts.memberships -= request->kind == REQUEST_MEMBERSHIP;
    services->counts.watches -= request->kind == REQUEST_WATCH;
    list_remove(&request->link);
    list_remove(&request->place);
    request->group = NULL;
    if (group) {
        if (request->kind == REQUEST_MEMBERSHIP && client->full)
            group->full--;
        group_check(services, group);
    }
    request_drop(request);
}

void request_answer(struct request *request, int status, const struct dvk_service_head *head, const char *value) {
    if (request->answered || !request->client)
        return;
    request->answered = true;
    struct dvk_service_head out = head ? *head : (struct dvk_service_head){0};
    out.op = request->head.op;
    out.name_len = 0;
    cleanup_free char *text = malloc(sizeof out + out.value_len);
    if (!text)
        no_memory();
    memcpy(text, &out, sizeof out);
    if (out.value_len)
        memcpy(text + sizeof out, value, out.value_len);
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE | DVK_BROKER_ANSWER,
                                       .id = request->packet.id,
                                       .dc = request->packet.dc,
                                       .endpoint = request->packet.endpoint,
                                       .status = status,
                                       .text_len = (uint32_t)(sizeof out + out.value_len)};
    request->services->port.send(request->services->port.context, request->client->user, &packet, text);
}

/* An event for the client of a request. */
static void event_send(const struct request *request, struct dvk_service_head head, const char *name,
                       const char *value) {
    if (!request->client)
        return;
    head.name_len = name ? (uint32_t)strlen(name) : 0;
    if (!value)
        head.value_len = 0;
    head.number = (uint64_t)request->number;
    size_t len = sizeof head + head.name_len + head.value_len;
    cleanup_free char *text = malloc(len);
    if (!text)
        no_memory();
    memcpy(text, &head, sizeof head);
    if (head.name_len)
        memcpy(text + sizeof head, name, head.name_len);
    if (value)
        memcpy(text + sizeof head + head.name_len, value, head.value_len);
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE_EVENT,
                                       .dc = request->packet.dc,
                                       .endpoint = request->packet.endpoint,
                                       .text_len = (uint32_t)len};
    request->services->counts.events++;
    request->services->port.send(request->services->port.context, request->client->user, &packet, text);
}

/* ---- groups ---- */

static struct list *group_bucket(struct services *services, uint32_t dc, const char *name) {
    uint64_t hash = 0xcbf29ce484222325ull ^ dc;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3ull;
    return &services->groups[(hash >> 32) % GROUP_BUCKETS];
}

struct group *group_find(struct services *services, uint32_t dc, const char *name) {
    struct group *group;
    list_for_each(group, group_bucket(services, dc, name), link) if (group->dc == dc && strcmp(group->name, name) == 0)
        return group;
    return NULL;
}

struct group *group_get(struct services *services, uint32_t dc, const char *name) {
    struct group *group = group_find(services, dc, name);
    if (group)
        return group;
    group = calloc(1, sizeof *group);
    if (!group || !(group->name = strdup(name))) {
        free(group);
        return NULL;
    }
    group->dc = dc;
    list_init(&group->members);
    list_init(&group->held);
    list_append(group_bucket(services, dc, name), &group->link);
    return group;
}

static void hold_announce(struct services *services, const struct group *group) {
    cleanup_json json_t *cast = json_pack("{s:s, s:I, s:s, s:b}", "do", "hold", "dc", (json_int_t)group->dc, "name",
                                          group->name, "on", group->we_hold);
    replica_cast(services->replica, cast, NULL, NULL);
}

void group_check(struct services *services, struct group *group) {
    bool hold = group->full > 0;
    if (hold != group->we_hold) {
        group->we_hold = hold;
        hold_announce(services, group);
    }
    struct request *request;
    while (!group->hold_count && (request = list_first(&group->held, struct request, place))) {
        list_remove(&request->place);
        request->group = NULL;
        held_send(request);
    }
    if (!list_empty(&group->members) || !list_empty(&group->held))
        return;
    services->counts.holds -= group->hold_count;
    list_remove(&group->link);
    free(group->name);
    free(group);
}

static void hold_set(struct services *services, struct group *group, uint32_t node, bool on) {
    uint8_t *byte = &group->holds[node / 8], bit = (uint8_t)(1u << node % 8);
    if (!(*byte & bit) == !on)
        return;
    *byte ^= bit;
    group->hold_count += on ? 1 : -1u;
    services->counts.holds += on ? 1 : -1u;
}

static void client_set_full(struct service_client *client, bool full) {
    if (client->full == full)
        return;
    client->full = full;
    struct request *request;
    list_for_each(request, &client->requests, link) if (request->kind == REQUEST_MEMBERSHIP && request->group) {
        request->group->full += full ? 1 : -1u;
        group_check(client->services, request->group);
    }
}

void client_taken(struct service_client *client, uint64_t count) {
    client->untaken -= count < client->untaken ? count : client->untaken;
    if (client->untaken <= SERVICES_UNTAKEN_LOW)
        client_set_full(client, false);
}

/* ---- telling ---- */

static bool is_ours(const struct services *services, const json_t *json, struct objects_who *who) {
    return objects_who_read(json, who) && who->node == services->node && who->incarnation == services->incarnation;
}

/* The request that entered an entry; NULL: not here, or given up. */
static struct request *entry_request(struct services *services, const json_t *entry) {
    struct objects_who who;
    if (!is_ours(services, json_object_get(entry, "who"), &who))
        return NULL;
    struct service_client *client = table_get(&services->sessions, (uint64_t)who.session);
    struct request *request;
    if (client)
        list_for_each(request, &client->requests, link) if (request->number == who.request) return request;
    return NULL;
}

static uint64_t row_number(const json_t *row, const char *key) {
    json_int_t n = 0;
    field_integer(row, key, &n);
    return (uint64_t)n;
}

static void tell_key(struct services *services, const json_t *event) {
    const char *name = field_string(event, "name");
    const json_t *row = json_object_get(event, "row");
    uint32_t dc = (uint32_t)row_number(event, "dc");
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_KV,
                                    .revision = row_number(event, "rev"),
                                    .created = row_number(row, "c"),
                                    .count = (uint32_t)row_number(row, "n"),
                                    .flags = json_is_object(row) ? 0 : DVK_SERVICE_F_DELETED};
    cleanup_free char *value = NULL;
    struct request *watch;
    list_for_each(watch, &services->watches, place) {
        if (watch->packet.dc != dc || strncmp(name, watch->name, strlen(watch->name)) != 0)
            continue;
        size_t len = 0;
        if (!value && json_is_object(row) && !(value = base64_decode(field_string(row, "v"), &len)))
            no_memory();
        if (len)
            head.value_len = (uint32_t)len;
        event_send(watch, head, name, value);
    }
}

static void tell_head(struct services *services, const json_t *event) {
    struct request *request = entry_request(services, json_object_get(event, "head"));
    if (!request || request->kind != REQUEST_LOCK)
        return;
    services->counts.grants++;
    struct dvk_service_head head = {.number = (uint64_t)request->number, .revision = row_number(event, "rev")};
    request_answer(request, 0, &head, NULL);
}

static void tell_release(struct services *services, const json_t *event) {
    json_t *entry;
    size_t i;
    services->counts.releases++;
    json_array_foreach(json_object_get(event, "q"), i, entry) {
        struct request *request = entry_request(services, entry);
        if (!request || request->kind != REQUEST_BARRIER)
            continue;
        struct dvk_service_head head = {.revision = row_number(event, "rev")};
        request_answer(request, 0, &head, NULL);
        request_end(request);
    }
}

/* The members in a row as an array; *len bytes. */
static char *members_of(const json_t *row, size_t *len) {
    const json_t *queue = json_object_get(row, "q");
    struct dvk_service_member *members = calloc(json_array_size(queue) + 1, sizeof *members);
    struct objects_who who;
    json_t *entry;
    size_t i, count = 0;
    if (!members)
        no_memory();
    json_array_foreach(queue, i, entry) if (objects_who_read(json_object_get(entry, "who"), &who)) members[count++] =
        (struct dvk_service_member){.endpoint = who.endpoint, .node = who.node};
    *len = count * sizeof *members;
    return (char *)members;
}

static bool row_has(const json_t *row, const struct objects_who *wanted) {
    struct objects_who who;
    json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(row, "q"), i, entry) if (
        objects_who_read(json_object_get(entry, "who"), &who) && who.node == wanted->node &&
        who.incarnation == wanted->incarnation && who.session == wanted->session &&
        who.endpoint == wanted->endpoint && (!wanted->request || who.request == wanted->request)) return true;
    return false;
}

static void view_send(struct request *member, uint64_t revision, uint32_t flags, const char *members, size_t len) {
    struct dvk_service_head head = {
        .op = DVK_SERVICE_OP_VIEW, .revision = revision, .flags = flags, .value_len = (uint32_t)len};
    member->services->counts.views++;
    event_send(member, head, member->name, members);
}

static void tell_view(struct services *services, const json_t *event) {
    struct group *group = group_find(services, (uint32_t)row_number(event, "dc"), field_string(event, "name"));
    const json_t *row = json_object_get(event, "row");
    if (!group)
        return;
    size_t len;
    cleanup_free char *members = members_of(row, &len);
    uint64_t revision = row_number(event, "rev");
    bool here[DVK_MAX_NODE + 1] = {false};
    for (size_t i = 0; i < len / sizeof(struct dvk_service_member); i++)
        here[((const struct dvk_service_member *)members)[i].node] = true;
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++)
        if (!here[node])
            hold_set(services, group, node, false);
    struct list leaving;
    list_init(&leaving);
    struct request *member;
    list_for_each(member, &group->members, place) {
        if (row_has(row, &member->who)) {
            if (!member->told) {
                struct dvk_service_head head = {.number = (uint64_t)member->number};
                member->told = true;
                request_answer(member, 0, &head, NULL);
            }
            view_send(member, revision, DVK_SERVICE_F_QUORATE, members, len);
        } else if (member->told) {
            view_send(member, revision, DVK_SERVICE_F_QUORATE | DVK_SERVICE_F_OUT, members, len);
            list_remove(&member->place);
            list_append(&leaving, &member->place);
            group->full -= member->client->full;
            member->group = NULL;
        }
    }
    if (group->we_hold)
        hold_announce(services, group); /* who is new has not heard of it */
    while ((member = list_first(&leaving, struct request, place)))
        request_end(member);
    group_check(services, group);
}

static void tell_event(struct services *services, const json_t *event) {
    static const struct {
        const char *name;
        void (*tell)(struct services *, const json_t *);
    } table[] = {{"kv", tell_key}, {"head", tell_head}, {"release", tell_release}, {"view", tell_view}};
    const char *name = field_string(event, "e");
    for (unsigned i = 0; i < ARRAY_LENGTH(table); i++)
        if (strcmp(name, table[i].name) == 0)
            table[i].tell(services, event);
}

static void tell_message(struct services *services, const json_t *cast) {
    struct group *group =
        group_find(services, (uint32_t)row_number(cast, "dc"), field_string(cast, "name"));
    struct objects_who from;
    size_t len;
    if (!group || !objects_who_read(json_object_get(cast, "from"), &from))
        return;
    cleanup_free char *data = base64_decode(field_string(cast, "data"), &len);
    if (!data)
        return;
    struct dvk_service_head head = {
        .op = DVK_SERVICE_OP_MESSAGE, .source = from.endpoint, .node = from.node, .value_len = (uint32_t)len};
    struct request *member;
    bool full = false;
    list_for_each(member, &group->members, place) {
        if (!member->told)
            continue;
        services->counts.messages++;
        event_send(member, head, NULL, data);
        full |= ++member->client->untaken >= SERVICES_UNTAKEN_HIGH && !member->client->full;
    }
    while (full) { /* each changes the lists */
        full = false;
        list_for_each(member, &group->members, place) if (member->client->untaken >= SERVICES_UNTAKEN_HIGH &&
                                                         !member->client->full) {
            client_set_full(member->client, true);
            full = true;
            break;
        }
    }
}

/* ---- the queue ---- */

static void item_free(struct services *services, struct item *item) {
    list_remove(&item->link);
    services->counts.queued--;
    json_decref(item->json);
    free(item->value);
    if (item->request)
        request_drop(item->request);
    free(item);
}

static void flush(struct services *services) {
    struct item *item;
    while ((item = list_first(&services->queue, struct item, link)) && item->epoch <= services->confirmed) {
        if (item->kind == ITEM_EVENT)
            tell_event(services, item->json);
        else if (item->kind == ITEM_CAST)
            tell_message(services, item->json);
        else {
            request_answer(item->request, 0, &item->head, item->value);
            request_end(item->request);
        }
        item_free(services, item);
    }
}

static struct item *item_add(struct services *services, enum item_kind kind, json_t *json) {
    struct item *item = calloc(1, sizeof *item);
    if (!item)
        no_memory();
    item->kind = kind;
    item->epoch = replica_config(services->replica)->epoch;
    item->json = json_incref(json);
    list_append(&services->queue, &item->link);
    services->counts.queued++;
    return item;
}

void request_answer_in_order(struct request *request, const struct dvk_service_head *head, char *value) {
    if (!request->client) {
        free(value);
        return;
    }
    struct item *item = item_add(request->services, ITEM_ANSWER, NULL);
    item->head = *head;
    item->value = value;
    item->request = request;
    request_hold(request);
    flush(request->services);
}

/* ---- what the replica tells ---- */

void services_propose(struct request *request, json_t *change, replica_done *done) {
    cleanup_json json_t *owned = change;
    if (!change)
        no_memory();
    request_hold(request);
    list_append(&request->services->pending, &request->pending);
    replica_propose(request->services->replica, change, done, request);
}

static void take_events(struct services *services) {
    cleanup_json json_t *events = objects_take_events(&replica_config(services->replica)->objects);
    json_t *event;
    size_t i;
    json_array_foreach(events, i, event) item_add(services, ITEM_EVENT, event);
}

static void dc_gone(struct services *services, uint32_t dc) {
    struct service_client *client;
    list_for_each(client, &services->clients, link) {
        struct request *request;
        list_for_each(request, &client->requests, link) if (request->packet.dc == dc) {
            request_hold(request);
            request_answer(request, -DVK_ENODC, NULL, NULL);
            request_end(request);
            request_drop(request);
        }
    }
}

void services_changed(struct services *services, const struct config_effect *effect) {
    if (!effect || effect->objects)
        take_events(services);
    if (effect && effect->dc && effect->removed)
        dc_gone(services, effect->dc);
    flush(services);
}

void services_confirmed(struct services *services, uint64_t epoch) {
    services->confirmed = epoch;
    flush(services);
}

/* Only what a member of the group has sent is delivered, and nothing that is too long. */
static bool message_is_valid(const struct services *services, uint32_t node, const json_t *payload) {
    const char *name = field_string(payload, "name"), *data = field_string(payload, "data");
    json_int_t dc = field_integer_or(payload, "dc", 0, DVK_MAX_DC, -1);
    struct objects_who from;
    size_t len;
    if (dc < 0 || !name || !objects_name_is_valid(name, strlen(name)) || !data || !base64_check(data, &len) ||
        len < sizeof(struct dvk_service_message) ||
        len > sizeof(struct dvk_service_message) + DVK_SERVICE_DATA_MAX ||
        !objects_who_read(json_object_get(payload, "from"), &from) || from.node != node)
        return false;
    return row_has(objects_find(&replica_config(services->replica)->objects, (uint32_t)dc, "group", name), &from);
}

static void cast_hold(struct services *services, uint32_t node, const json_t *payload) {
    const char *name = field_string(payload, "name");
    json_int_t dc = field_integer_or(payload, "dc", 0, DVK_MAX_DC, -1);
    struct group *group = name && dc >= 0 ? group_find(services, (uint32_t)dc, name) : NULL;
    if (!group || node == 0 || node > DVK_MAX_NODE)
        return;
    hold_set(services, group, node, field_true(payload, "on"));
    group_check(services, group);
}

void services_cast(struct services *services, uint32_t node, const json_t *payload) {
    const char *what = field_string(payload, "do");
    if (!what)
        return;
    if (strcmp(what, "message") == 0 && message_is_valid(services, node, payload)) {
        services->counts.casts++;
        if (group_find(services, (uint32_t)row_number(payload, "dc"), field_string(payload, "name"))) {
            item_add(services, ITEM_CAST, (json_t *)payload);
            flush(services);
        }
    } else if (strcmp(what, "hold") == 0) {
        cast_hold(services, node, payload);
    } else {
        snapshot_cast(services, node, payload);
    }
}

static int64_t new_incarnation(void) {
    int64_t number;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        no_memory();
    return number & INT64_MAX;
}

/* What was entered from here is lost, or will be. */
static void expire(struct services *services) {
    struct service_client *client;
    struct item *item;
    list_for_each(item, &services->queue, link) {
        if (item->request)
            request_answer(item->request, -DVK_ENOQUORUM, NULL, NULL);
        item_free(services, item);
    }
    list_for_each(client, &services->clients, link) {
        struct request *request;
        list_for_each(request, &client->requests, link) {
            if (request->kind == REQUEST_WATCH || (request->kind == REQUEST_ONCE && !request->message &&
                                                   !request->answered && request->references > 1))
                continue; /* the replica ends it */
            if (request->kind == REQUEST_LOCK && request->answered) {
                services->counts.lost++;
                event_send(request, (struct dvk_service_head){.op = DVK_SERVICE_OP_LOST}, request->name, NULL);
            } else if (request->kind == REQUEST_MEMBERSHIP && request->told) {
                view_send(request, 0, DVK_SERVICE_F_OUT, NULL, 0);
            } else {
                request_answer(request, -DVK_ENOQUORUM, NULL, NULL);
            }
            request_end(request);
        }
        if (client->session)
            table_remove(&services->sessions, (uint64_t)client->session);
        client->session = 0;
    }
    services->incarnation = new_incarnation();
    replica_set_incarnation(services->replica, services->incarnation);
}

static void tell_gaps(struct services *services) {
    struct request *watch;
    list_for_each(watch, &services->watches, place) {
        services->counts.gaps++;
        event_send(watch, (struct dvk_service_head){.op = DVK_SERVICE_OP_GAP}, watch->name, NULL);
    }
}

void services_installed(struct services *services, bool replaced) {
    if (replaced) {
        struct objects_who who = {.node = services->node, .incarnation = services->incarnation};
        services->confirmed = 0;
        if (services->quorate) { /* else it has been done when we were cut off */
            expire(services);
            tell_gaps(services);
            cleanup_json json_t *change =
                json_pack("{s:s, s:s, s:o}", "op", "object", "do", "end", "who", objects_who_json(&who));
            replica_propose(services->replica, change, NULL, NULL);
        }
    }
    snapshot_view(services);
}

void services_quorum(struct services *services, bool quorate) {
    if (services->quorate == quorate)
        return;
    services->quorate = quorate;
    if (quorate) {
        tell_gaps(services);
    } else {
        expire(services);
        snapshots_end(services);
    }
}

/* ---- clients ---- */

void services_leave(struct services *services, const struct request *request) {
    cleanup_json json_t *change =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "op", "object", "do", "leave", "kind", request->object, "dc",
                  (json_int_t)request->packet.dc, "name", request->name, "who", objects_who_json(&request->who));
    replica_propose(services->replica, change, NULL, NULL);
}

static void propose_end(struct services *services, int64_t session, dvk_endpoint endpoint) {
    struct objects_who who = {
        .node = services->node, .incarnation = services->incarnation, .session = session, .endpoint = endpoint};
    cleanup_json json_t *change =
        json_pack("{s:s, s:s, s:o}", "op", "object", "do", "end", "who", objects_who_json(&who));
    replica_propose(services->replica, change, NULL, NULL);
}

struct service_client *services_client_add(struct services *services, void *user) {
    struct service_client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->services = services;
    client->user = user;
    list_init(&client->requests);
    list_append(&services->clients, &client->link);
    services->counts.clients++;
    return client;
}

void services_client_gone(struct service_client *client) {
    struct services *services = client->services;
    struct request *request;
    client_set_full(client, false);
    while ((request = list_first(&client->requests, struct request, link)))
        request_end(request);
    if (client->session) {
        propose_end(services, client->session, DVK_NONE);
        table_remove(&services->sessions, (uint64_t)client->session);
    }
    list_remove(&client->link);
    services->counts.clients--;
    free(client);
}

void services_endpoint_gone(struct service_client *client, uint32_t dc, dvk_endpoint endpoint) {
    struct request *request;
    bool entered = false;
    list_for_each(request, &client->requests, link) {
        if (request->packet.dc != dc || request->packet.endpoint != endpoint)
            continue;
        entered |= request->object != NULL;
        request_hold(request);
        request_answer(request, -DVK_EINTERRUPTED, NULL, NULL);
        request_end(request);
        request_drop(request);
    }
    if (entered)
        propose_end(client->services, client->session, endpoint);
}

/* ---- as a whole ---- */

int services_create(struct loop *loop, uint32_t node, const struct services_port *port, struct services **out) {
    struct services *services = calloc(1, sizeof *services);
    if (!services)
        return -ENOMEM;
    services->loop = loop;
    services->node = node;
    services->port = *port;
    list_init(&services->clients);
    list_init(&services->watches);
    list_init(&services->queue);
    list_init(&services->pending);
    list_init(&services->snapshots);
    for (unsigned i = 0; i < GROUP_BUCKETS; i++)
        list_init(&services->groups[i]);
    *out = services;
    return 0;
}

void services_set_replica(struct services *services, struct replica *replica) {
    services->replica = replica;
    services->incarnation = new_incarnation();
    replica_set_incarnation(replica, services->incarnation);
}

void services_destroy(struct services *services) {
    if (!services)
        return;
    struct service_client *client;
    while ((client = list_first(&services->clients, struct service_client, link)))
        services_client_gone(client);
    struct item *item;
    while ((item = list_first(&services->queue, struct item, link)))
        item_free(services, item);
    struct request *request;
    while ((request = list_first(&services->pending, struct request, pending))) {
        list_remove(&request->pending);
        request_drop(request);
    }
    snapshots_end(services);
    table_free(&services->sessions);
    free(services);
}

struct services_counts services_counts(const struct services *services) { return services->counts; }
