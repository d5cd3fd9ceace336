/* SPDX-License-Identifier: Apache-2.0 */
/* Groups and services: the packets to dvkd and what comes of them (service_protocol.h). */
#include "dvk/service_internal.h"
#include "dvk/internal.h"

#include <dvk/group.h>
#include <dvk/service.h>
#include <stdlib.h>

#define GRACE_MS 2000 /* for dvkd's word on what became of a request that was given up */

/* ---- asking ---- */

struct waiting {
    bool done;
    struct packet answer;
};

static void service_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    (void)dvk;
    struct waiting *waiting = awaited->a;
    if (!waiting)
        return; /* nobody waits any more */
    waiting->done = true;
    waiting->answer.head = packet->head;
    waiting->answer.text = packet->text;
    packet->text = NULL;
}

static void service_cancel(struct dvk *dvk, uint64_t id) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE_CANCEL, .id = id};
    (void)broker_send(dvk, &packet, NULL, NULL, 0);
}

/* Wait for the answer. full: give up when too much waits for us ourselves. */
static int service_wait(struct dvk *dvk, struct waiting *waiting, uint64_t id, int64_t deadline, bool full) {
    int given_up = 0;
    for (;;) {
        broker_drain(dvk);
        if (waiting->done)
            break;
        if (dvk->broker_gone)
            return -DVK_ENODAEMON;
        bool is_full = full && dvk->service_untaken >= SERVICE_UNTAKEN_FULL;
        if (!given_up && (now_ns() >= deadline || is_full)) {
            given_up = is_full ? -EAGAIN : -DVK_ETIMEDOUT;
            service_cancel(dvk, id);
            deadline = deadline_of(GRACE_MS);
        }
        if (given_up && now_ns() >= deadline)
            return -DVK_ETIMEDOUT;
        broker_wait(dvk, deadline);
    }
    int status = waiting->answer.head.status < 0 ? waiting->answer.head.status : 0;
    return given_up && status == -DVK_EINTERRUPTED ? given_up : status;
}

static char *service_text(const struct dvk_service_head *head, const char *name, const void *value) {
    char *text = malloc(sizeof *head + head->name_len + head->value_len);
    if (!text)
        return NULL;
    memcpy(text, head, sizeof *head);
    if (head->name_len)
        memcpy(text + sizeof *head, name, head->name_len);
    if (head->value_len)
        memcpy(text + sizeof *head + head->name_len, value, head->value_len);
    return text;
}

int service_ask(struct dvk *dvk, dvk_endpoint from, struct dvk_service_head *head, const char *name, const void *value,
                char **out, int timeout_ms) {
    struct own_endpoint *own = own_find(dvk, from);
    *out = NULL;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    if (!own)
        return -DVK_ENOTALLOWED;
    size_t name_len = name ? strlen(name) : 0;
    if (name_len > DVK_SERVICE_NAME_MAX)
        return -EINVAL;
    head->name_len = (uint32_t)name_len;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE,
                                       .dc = own->dc,
                                       .endpoint = from,
                                       .text_len = (uint32_t)(sizeof *head + head->name_len + head->value_len)};
    struct waiting waiting = {0};
    struct awaited *awaited = calloc(1, sizeof *awaited);
    char *text = service_text(head, name, value);
    if (!awaited || !text) {
        free(awaited);
        free(text);
        return -ENOMEM;
    }
    uint64_t id = packet.id = awaited->id = ++dvk->next_id;
    awaited->answered = service_answered;
    awaited->a = &waiting;
    list_append(&dvk->awaited, &awaited->link);
    (void)broker_send_bytes(dvk, &packet, text, packet.text_len, NULL, 0); /* a failure shows as broker_gone, or as a timeout */
    free(text);
    int error = service_wait(dvk, &waiting, id, deadline_of(timeout_ms), head->op == DVK_SERVICE_OP_GROUP_CAST);
    list_each(late, &dvk->awaited, struct awaited, link) {
        if (late->id == id)
            late->a = NULL;
    }
    const struct packet *answer = &waiting.answer;
    if (error == 0) {
        if (!answer->text || answer->head.text_len < sizeof *head)
            error = -DVK_EVERSION;
        else
            memcpy(head, answer->text, sizeof *head);
        if (error == 0 && sizeof *head + head->name_len + head->value_len != answer->head.text_len)
            error = -DVK_EVERSION;
    }
    if (error == 0)
        *out = waiting.answer.text;
    else
        packet_clear(&waiting.answer);
    return error;
}

/* The same when only the head of the answer is wanted. */
int service_do(struct dvk *dvk, dvk_endpoint from, struct dvk_service_head *head, const char *name, const void *value,
               int timeout_ms) {
    char *text;
    int error = service_ask(dvk, from, head, name, value, &text, timeout_ms);
    free(text);
    return error;
}

/* ---- what belongs to a context: memberships, locks, watches ---- */

struct service_thing *service_thing_find(struct dvk *dvk, uint64_t number) {
    list_each(thing, &dvk->service_things, struct service_thing, link) {
        if (thing->number == number)
            return thing;
    }
    return NULL;
}

struct service_thing *service_thing_new(struct dvk *dvk, dvk_endpoint from, const char *name) {
    struct service_thing *thing = calloc(1, sizeof *thing);
    size_t len = name ? strlen(name) : 0;
    if (!thing || len > DVK_SERVICE_NAME_MAX) {
        free(thing);
        return NULL;
    }
    thing->from = from;
    list_append(&dvk->service_things, &thing->link);
    return thing;
}

void service_thing_free(struct service_thing *thing) {
    if (!thing)
        return;
    list_remove(&thing->link);
    free(thing);
}

void services_close(struct dvk *dvk) {
    struct service_thing *thing;
    while ((thing = list_first(&dvk->service_things, struct service_thing, link)))
        service_thing_free(thing);
}

/* ---- events ---- */

/* A packet of dvkd: its head, name and value, checked. */
static bool event_read(const struct packet *packet, struct dvk_service_head *head, const char **name,
                       const char **value) {
    if (!packet->text || packet->head.text_len < sizeof *head)
        return false;
    memcpy(head, packet->text, sizeof *head);
    if (head->name_len > DVK_SERVICE_NAME_MAX || head->value_len > DVK_BROKER_TEXT_MAX ||
        sizeof *head + head->name_len + head->value_len != packet->head.text_len)
        return false;
    *name = packet->text + sizeof *head;
    *value = *name + head->name_len;
    return true;
}

/* A message of a group or a view of it: it waits with the others for dvk_receive. */
static void group_event(struct dvk *dvk, const struct packet *packet, const struct dvk_service_head *head,
                        const char *value) {
    bool is_view = head->op == DVK_SERVICE_OP_VIEW;
    size_t prefix = is_view ? 0 : sizeof(struct dvk_service_message);
    if (!is_view) {
        dvk->service_untaken++;
        if (head->value_len < prefix)
            return;
    }
    struct request *request = request_new(dvk);
    size_t len = head->value_len - prefix;
    void *data = len ? malloc(len) : NULL;
    if (!request || (len && !data)) { /* what we cannot keep would be missing from the order */
        if (request)
            request_free(dvk, request);
        free(data);
        broker_fail(dvk);
        return;
    }
    struct dvk_request *pub = &request->public;
    pub->msg = (struct dvk_message){.destination = packet->head.endpoint}; /* request_new leaves what was in it */
    if (is_view) {
        pub->msg.payload.words[0] = head->revision;
        pub->msg.payload.words[1] = (head->flags & DVK_SERVICE_F_QUORATE ? DVK_GROUP_QUORATE : 0u) |
                                    (head->flags & DVK_SERVICE_F_OUT ? DVK_GROUP_OUT : 0u);
        pub->msg.payload.words[2] = len / sizeof(struct dvk_group_member);
    } else {
        struct dvk_service_message message;
        memcpy(&message, value, sizeof message);
        pub->msg.source = head->source;
        pub->msg.type = message.type;
        memcpy(pub->msg.payload.bytes, message.payload, sizeof message.payload);
    }
    if (len)
        memcpy(data, value + prefix, len);
    pub->msg.data_len = (uint32_t)len;
    pub->data = request->data_buffer = data;
    pub->dc = packet->head.dc;
    pub->local = head->node == dvk->node;
    pub->source_node = is_view ? dvk->node : head->node;
    pub->group = head->number;
    pub->group_event = is_view ? DVK_GROUP_VIEW : DVK_GROUP_MESSAGE;
    request->is_loopback = true;
    request->finished = true; /* nobody waits for it */
    request->kind = DVK_SLOT_SEND;
    const struct own_endpoint *own = own_find(dvk, pub->msg.destination);
    if (own)
        request->stats = own->stats;
    receive_arrived(dvk, request);
}

bool service_event(struct dvk *dvk, struct packet *packet) {
    struct dvk_service_head head;
    const char *name, *value;
    if (!event_read(packet, &head, &name, &value))
        return false;
    if (head.op == DVK_SERVICE_OP_VIEW || head.op == DVK_SERVICE_OP_MESSAGE) {
        group_event(dvk, packet, &head, value);
        return false;
    }
    list_append(&dvk->events, &packet->link); /* told from dvk_receive */
    return true;
}

void service_taken(struct dvk *dvk, const struct dvk_request *request) {
    if (request->group_event == DVK_GROUP_VIEW) {
        if (request->msg.payload.words[1] & DVK_GROUP_OUT)
            service_thing_free(service_thing_find(dvk, request->group));
        return;
    }
    dvk->service_untaken--;
    dvk->service_taken++;
    if (dvk->service_untaken > 0 && dvk->service_taken < SERVICE_TAKEN_TELL)
        return;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE_TAKEN, .channel = dvk->service_taken};
    dvk->service_taken = 0;
    (void)broker_send(dvk, &packet, NULL, NULL, 0);
}

bool service_run_event(struct dvk *dvk, const struct packet *packet, struct dvk_event *event) {
    struct dvk_service_head head;
    const char *name, *value;
    if (!event_read(packet, &head, &name, &value))
        return false;
    struct service_thing *thing = service_thing_find(dvk, head.number);
    if (!thing)
        return false; /* given up meanwhile */
    if (head.op == DVK_SERVICE_OP_LOST) {
        event->type = DVK_EVENT_LOST;
        event->id = head.number;
        event->endpoint = packet->head.endpoint;
        service_thing_free(thing);
        return true;
    }
    if ((head.op != DVK_SERVICE_OP_KV && head.op != DVK_SERVICE_OP_GAP) || !thing->fn)
        return false;
    char key[DVK_SERVICE_NAME_MAX + 1];
    memcpy(key, name, head.name_len);
    key[head.op == DVK_SERVICE_OP_KV ? head.name_len : 0] = 0;
    const struct dvk_kv kv = {.key = key,
                              .value = head.flags & DVK_SERVICE_F_DELETED ? NULL : value,
                              .len = head.value_len,
                              .revision = head.revision,
                              .created = head.created,
                              .changes = head.count,
                              .deleted = head.flags & DVK_SERVICE_F_DELETED,
                              .gap = head.op == DVK_SERVICE_OP_GAP};
    thing->fn(thing->context, &kv);
    return false;
}
