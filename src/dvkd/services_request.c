/* SPDX-License-Identifier: Apache-2.0 */
/* What clients ask for: one function an operation of dvk/service_protocol.h. */
#include "common/base64.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/services_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what becomes of a change ---- */

/* 0: go on. Else the request is over: it was answered, or nobody waits for it. */
static int settle(struct request *request, int status, int unknown) {
    list_remove(&request->pending);
    if (status == -EAGAIN)
        status = -DVK_ENOQUORUM;
    if (status == -EINPROGRESS)
        status = unknown;
    if (status == -DVK_ECONFLICT)
        request->services->counts.conflicts++;
    if (status == 0 && request->client)
        return 0;
    if (status == 0 && request->object) /* given up on the way: what it entered must go */
        services_leave(request->services, request);
    request_answer(request, status, NULL, NULL);
    request_end(request);
    return -1;
}

static void written(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct request *request = context;
    if (settle(request, status, -DVK_EUNKNOWN) == 0) {
        struct dvk_service_head head = {.revision = effect->epoch};
        request_answer(request, 0, &head, NULL);
        request_end(request);
    }
    request_drop(request);
}

/* The answer comes with an event. */
static void entered(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct request *request = context;
    settle(request, status, -DVK_ENOQUORUM);
    request_drop(request);
}

static void left(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct request *request = context;
    if (settle(request, status, -DVK_ELOST) == 0) {
        request_answer(request, 0, NULL, NULL);
        request_end(request);
    }
    request_drop(request);
}

static void message_ordered(void *context, int status, const struct config_effect *effect,
                            const struct failure *failure) {
    struct request *request = context;
    if (settle(request, status, -DVK_EUNKNOWN) == 0) {
        request_answer(request, 0, NULL, NULL);
        request_end(request);
    }
    request_drop(request);
}

/* ---- keys and values ---- */

static json_t *change_of(const struct request *request, const char *what) {
    json_t *change = json_pack("{s:s, s:s, s:I, s:s}", "op", "object", "do", what, "dc", (json_int_t)request->packet.dc,
                               "name", request->name);
    if (request->head.flags & DVK_SERVICE_F_EXPECT)
        json_object_set_new(change, "expect", json_integer((json_int_t)request->head.revision));
    return change;
}

static int op_put(struct request *request) {
    if (request->head.value_len > OBJECTS_VALUE_MAX)
        return -EMSGSIZE;
    cleanup_free char *value = base64_text(request->value, request->head.value_len);
    if (!value)
        return -ENOMEM;
    json_t *change = change_of(request, "put");
    json_object_set_new(change, "value", json_string(value));
    request->services->counts.puts++;
    services_propose(request, change, written);
    return 0;
}

static int op_delete(struct request *request) {
    request->services->counts.deletes++;
    services_propose(request, change_of(request, "delete"), written);
    return 0;
}

static const struct objects *objects_of(const struct request *request) {
    return &replica_config(request->services->replica)->objects;
}

static void head_from_row(struct dvk_service_head *head, const json_t *row) {
    json_int_t n = 0;
    field_integer(row, "m", &n);
    head->revision = (uint64_t)n;
    field_integer(row, "c", &n);
    head->created = (uint64_t)n;
    field_integer(row, "n", &n);
    head->count = (uint32_t)n;
}

/* These read the state as it is now. *value: new. A negative error is the answer's status. */
static int read_key(const struct request *request, struct dvk_service_head *head, char **value) {
    const json_t *row = objects_find(objects_of(request), request->packet.dc, "kv", request->name);
    size_t len;
    if (!row)
        return -DVK_ENOKEY;
    head_from_row(head, row);
    *value = base64_decode(field_string(row, "v"), &len);
    head->value_len = (uint32_t)len;
    return *value ? 0 : -ENOMEM;
}

static int read_leader(const struct request *request, struct dvk_service_head *head, char **value) {
    const json_t *row = objects_find(objects_of(request), request->packet.dc, "leader", request->name);
    const json_t *first = json_array_get(json_object_get(row, "q"), 0);
    struct objects_who who;
    json_int_t token = 0;
    if (!first || !objects_who_read(json_object_get(first, "who"), &who))
        return -DVK_ENOKEY;
    field_integer(first, "token", &token);
    head->source = who.endpoint;
    head->node = who.node;
    head->revision = (uint64_t)token;
    *value = strdup(field_string(first, "text"));
    head->value_len = *value ? (uint32_t)strlen(*value) : 0;
    return *value ? 0 : -ENOMEM;
}

/* One entry of a listing, if there is room for it. */
static bool entry_put(char *to, uint32_t *len, const char *name, const json_t *row, bool with_value) {
    size_t value_len = 0;
    cleanup_free char *value = with_value ? base64_decode(field_string(row, "v"), &value_len) : NULL;
    struct dvk_service_head head = {
        .op = DVK_SERVICE_OP_KV_LIST, .name_len = (uint32_t)strlen(name), .value_len = (uint32_t)value_len};
    if (*len + sizeof head + head.name_len + value_len > DVK_SERVICE_ENTRIES_MAX)
        return false;
    head_from_row(&head, row);
    memcpy(to + *len, &head, sizeof head);
    memcpy(to + *len + sizeof head, name, head.name_len);
    if (value_len)
        memcpy(to + *len + sizeof head + head.name_len, value, value_len);
    *len += (uint32_t)(sizeof head + head.name_len + value_len);
    return true;
}

static int read_list(const struct request *request, struct dvk_service_head *head, char **value) {
    cleanup_json json_t *list = objects_list(objects_of(request), request->packet.dc, "kv", request->name);
    cleanup_free char *entries = malloc(DVK_SERVICE_ENTRIES_MAX);
    json_t *item;
    size_t i;
    if (!entries)
        return -ENOMEM;
    json_array_foreach(list, i, item) {
        const char *name = field_string(item, "name");
        if (request->value && strcmp(name, request->value) <= 0)
            continue; /* told before */
        if (!entry_put(entries, &head->value_len, name, json_object_get(item, "row"),
                       request->head.flags & DVK_SERVICE_F_VALUES)) {
            head->flags |= DVK_SERVICE_F_MORE;
            break;
        }
    }
    head->revision = replica_config(request->services->replica)->epoch;
    *value = steal_ptr(&entries);
    return 0;
}

typedef int read_fn(const struct request *request, struct dvk_service_head *head, char **value);

static read_fn *reader_of(const struct request *request) {
    return request->head.op == DVK_SERVICE_OP_KV_GET    ? read_key
           : request->head.op == DVK_SERVICE_OP_KV_LIST ? read_list
                                                        : read_leader;
}

/* The fence is in the order: what is read here is at least as new as when it was asked for. */
static void fence_passed(void *context, int status, const struct config_effect *effect,
                         const struct failure *failure) {
    struct request *request = context;
    if (settle(request, status, -DVK_ENOQUORUM) == 0) {
        struct dvk_service_head head = {0};
        char *value = NULL;
        status = reader_of(request)(request, &head, &value);
        if (status == 0) {
            request_answer_in_order(request, &head, value);
        } else {
            request_answer(request, status, NULL, NULL);
            request_end(request);
        }
    }
    request_drop(request);
}

static int op_read(struct request *request) {
    struct services *services = request->services;
    services->counts.gets++;
    if (!(request->head.flags & DVK_SERVICE_F_STALE)) {
        cleanup_json json_t *fence = json_pack("{s:s}", "do", "fence");
        request_hold(request);
        list_append(&services->pending, &request->pending);
        replica_cast(services->replica, fence, fence_passed, request);
        return 0;
    }
    struct dvk_service_head head = {0};
    cleanup_free char *value = NULL;
    int status = reader_of(request)(request, &head, &value);
    if (status < 0)
        return status;
    request_answer(request, 0, &head, value);
    request_end(request);
    return 0;
}

static int op_watch(struct request *request) {
    struct services *services = request->services;
    struct dvk_service_head head = {.number = (uint64_t)request->number, .revision = services->confirmed};
    request->kind = REQUEST_WATCH;
    services->counts.watches++;
    list_append(&services->watches, &request->place);
    request_answer(request, 0, &head, NULL);
    return 0;
}

/* The request of this client with that number, of that kind and of the same endpoint. */
static struct request *named(const struct request *request, enum request_kind kind) {
    struct request *other;
    list_for_each(other, &request->client->requests, link) if (
        other->kind == kind && (uint64_t)other->number == request->head.number &&
        other->packet.endpoint == request->packet.endpoint && other->packet.dc == request->packet.dc) return other;
    return NULL;
}

static int op_unwatch(struct request *request) {
    struct request *watch = named(request, REQUEST_WATCH);
    if (!watch)
        return -DVK_ENOTMEMBER;
    request_end(watch);
    request_answer(request, 0, NULL, NULL);
    request_end(request);
    return 0;
}

/* ---- what belongs to a session ---- */

static int enter(struct request *request, json_t *change) {
    struct services *services = request->services;
    struct service_client *client = request->client;
    if (!client->session) {
        int64_t session = ++services->last_number;
        if (table_set(&services->sessions, (uint64_t)session, client) < 0) {
            json_decref(change);
            return -ENOMEM;
        }
        client->session = session;
    }
    request->who = (struct objects_who){.node = services->node,
                                        .incarnation = services->incarnation,
                                        .session = client->session,
                                        .endpoint = request->packet.endpoint,
                                        .request = request->number};
    json_object_set_new(change, "who", objects_who_json(&request->who));
    services_propose(request, change, entered);
    return 0;
}

static int op_lock(struct request *request) {
    bool leader = request->head.flags & DVK_SERVICE_F_LEADER;
    json_t *change = change_of(request, "enter");
    json_t *text = json_stringn(request->value ? request->value : "", request->head.value_len);
    if (!text || request->head.value_len > OBJECTS_TEXT_MAX || memchr(request->value, 0, request->head.value_len)) {
        json_decref(change);
        json_decref(text);
        return -EINVAL;
    }
    request->kind = REQUEST_LOCK;
    request->object = leader ? "leader" : "lock";
    request->services->counts.waits++;
    json_object_set_new(change, "text", text);
    json_object_set_new(change, "kind", json_string(request->object));
    json_object_set_new(change, "try", json_boolean(request->head.flags & DVK_SERVICE_F_TRY));
    return enter(request, change);
}

/* Leave what another request has entered; that one is over, this one gets the answer. */
static void leave(struct request *request, struct request *other, bool end) {
    json_t *change = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "op", "object", "do", "leave", "kind", other->object,
                               "dc", (json_int_t)other->packet.dc, "name", other->name, "who",
                               objects_who_json(&other->who));
    services_propose(request, change, left);
    if (end)
        request_end(other);
}

static int op_unlock(struct request *request) {
    struct request *lock = named(request, REQUEST_LOCK);
    if (!lock)
        return -DVK_ELOST;
    leave(request, lock, true);
    return 0;
}

static int op_barrier(struct request *request) {
    json_t *change = change_of(request, "wait");
    request->kind = REQUEST_BARRIER;
    request->object = "barrier";
    request->services->counts.waits++;
    json_object_set_new(change, "count", json_integer(request->head.count));
    return enter(request, change);
}

static int op_join(struct request *request) {
    struct service_client *client = request->client;
    struct group *group = group_get(request->services, request->packet.dc, request->name);
    if (!group)
        return -ENOMEM;
    request->kind = REQUEST_MEMBERSHIP;
    request->object = "group";
    request->group = group;
    request->services->counts.memberships++;
    group->full += client->full;
    list_append(&group->members, &request->place);
    return enter(request, change_of(request, "join"));
}

static int op_leave(struct request *request) {
    struct request *member = named(request, REQUEST_MEMBERSHIP);
    if (!member || !member->told)
        return -DVK_ENOTMEMBER;
    leave(request, member, false); /* the last view tells it */
    return 0;
}

void held_send(struct request *request) {
    cleanup_json json_t *message = request->message;
    request->message = NULL;
    request_hold(request);
    list_append(&request->services->pending, &request->pending);
    replica_cast(request->services->replica, message, message_ordered, request);
}

static int op_cast(struct request *request) {
    struct request *member = named(request, REQUEST_MEMBERSHIP);
    size_t len = request->head.value_len;
    if (!member || !member->told)
        return -DVK_ENOTMEMBER;
    if (len < sizeof(struct dvk_service_message) || len > sizeof(struct dvk_service_message) + DVK_SERVICE_DATA_MAX)
        return -EMSGSIZE;
    cleanup_free char *data = base64_text(request->value, len);
    request->message = json_pack("{s:s, s:I, s:s, s:o, s:s}", "do", "message", "dc", (json_int_t)request->packet.dc,
                                 "name", member->name, "from", objects_who_json(&member->who), "data", data);
    if (!request->message)
        return -ENOMEM;
    if (!member->group->hold_count) {
        held_send(request);
        return 0;
    }
    request->group = member->group;
    list_append(&member->group->held, &request->place);
    return 0;
}

/* ---- packets ---- */

static const struct {
    int (*fn)(struct request *request);
    bool named; /* wants a name */
} operations[DVK_SERVICE_OP_END] = {
    [DVK_SERVICE_OP_GROUP_JOIN] = {op_join, true}, [DVK_SERVICE_OP_GROUP_LEAVE] = {op_leave, false},
    [DVK_SERVICE_OP_GROUP_CAST] = {op_cast, false}, [DVK_SERVICE_OP_KV_GET] = {op_read, true},
    [DVK_SERVICE_OP_KV_PUT] = {op_put, true},       [DVK_SERVICE_OP_KV_DELETE] = {op_delete, true},
    [DVK_SERVICE_OP_KV_LIST] = {op_read, false},    [DVK_SERVICE_OP_KV_WATCH] = {op_watch, false},
    [DVK_SERVICE_OP_KV_UNWATCH] = {op_unwatch, false}, [DVK_SERVICE_OP_LOCK] = {op_lock, true},
    [DVK_SERVICE_OP_UNLOCK] = {op_unlock, false},   [DVK_SERVICE_OP_LEADER_GET] = {op_read, true},
    [DVK_SERVICE_OP_BARRIER] = {op_barrier, true},
};

static struct request *request_new(struct service_client *client, const struct dvk_broker_packet *packet,
                                   const struct dvk_service_head *head, const char *text) {
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    *request = (struct request){.services = client->services, .client = client, .references = 1, .packet = *packet,
                                .head = *head, .number = ++client->services->last_number};
    list_init(&request->link);
    list_init(&request->place);
    list_init(&request->pending);
    request->name = strndup(text, head->name_len);
    request->value = calloc(1, head->value_len + 1u);
    if (!request->name || !request->value) {
        request_drop(request);
        return NULL;
    }
    memcpy(request->value, text + head->name_len, head->value_len);
    list_append(&client->requests, &request->link);
    client->request_count++;
    return request;
}

static void answer_failure(struct service_client *client, const struct dvk_broker_packet *packet, int status) {
    struct dvk_service_head head = {0};
    struct dvk_broker_packet answer = {.type = DVK_BROKER_SERVICE | DVK_BROKER_ANSWER,
                                       .id = packet->id,
                                       .dc = packet->dc,
                                       .endpoint = packet->endpoint,
                                       .status = status,
                                       .text_len = sizeof head};
    client->services->port.send(client->services->port.context, client->user, &answer, (const char *)&head);
}

static const char *request_take(struct service_client *client, const struct dvk_broker_packet *packet,
                                const char *text) {
    struct dvk_service_head head;
    if (packet->text_len < sizeof head)
        return "a request of a service is too short";
    memcpy(&head, text, sizeof head);
    text += sizeof head;
    if (head.name_len > DVK_SERVICE_NAME_MAX || head.value_len > DVK_BROKER_TEXT_MAX ||
        sizeof head + head.name_len + head.value_len != packet->text_len)
        return "the lengths in a request of a service do not fit";
    if (head.op == 0 || head.op >= DVK_SERVICE_OP_END || !operations[head.op].fn)
        return "there is no such service";
    bool name_is_valid = head.name_len == 0 ? !operations[head.op].named : objects_name_is_valid(text, head.name_len);
    if (!name_is_valid || client->request_count >= SERVICES_CLIENT_MAX) {
        answer_failure(client, packet, name_is_valid ? -EAGAIN : -EINVAL);
        return NULL;
    }
    struct request *request = request_new(client, packet, &head, text);
    if (!request) {
        answer_failure(client, packet, -ENOMEM);
        return NULL;
    }
    request_hold(request);
    int status = operations[head.op].fn(request);
    if (status < 0) {
        request_answer(request, status, NULL, NULL);
        request_end(request);
    }
    request_drop(request);
    return NULL;
}

static void request_cancel(struct service_client *client, uint64_t id) {
    struct request *request;
    list_for_each(request, &client->requests, link) {
        if (request->packet.id != id || request->kind == REQUEST_WATCH ||
            (request->kind == REQUEST_MEMBERSHIP && request->told))
            continue;
        if (request->head.op == DVK_SERVICE_OP_GROUP_CAST && !request->message)
            return; /* on its way: its answer comes by itself */
        if (request->object)
            services_leave(client->services, request); /* comes behind what it has proposed */
        request_answer(request, -DVK_EINTERRUPTED, NULL, NULL);
        request_end(request);
        return;
    }
}

const char *services_packet(struct service_client *client, const struct dvk_broker_packet *packet, const char *text) {
    switch (packet->type) {
    case DVK_BROKER_SERVICE:
        return request_take(client, packet, text);
    case DVK_BROKER_SERVICE_CANCEL:
        request_cancel(client, packet->id);
        return NULL;
    case DVK_BROKER_SERVICE_TAKEN:
        client_taken(client, packet->channel);
        return NULL;
    default:
        return "unknown packet type";
    }
}
