/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/places.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"
#include "dvkd/broker_private.h"
#include "dvkd/config_places.h"
#include "dvkd/dvkd.h"

#include <dvk/error.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 10000u
#define SPARES_OF_CLIENT_MAX 4096u

enum role {
    ASKED,     /* to be a spare: not in the table yet */
    SPARE,
    PROMOTING, /* primary in the table: bound once that is confirmed */
    PRIMARY,
};

/* An instance of this node that has to do with an endpoint. */
struct local {
    struct list link;
    struct client *client;
    uint64_t context;
    uint32_t dc;
    uint64_t serial;
    dvk_endpoint endpoint;
    enum role role;
    bool frozen;       /* PRIMARY: the client was told so */
    bool ending;       /* a proposal that it is no more is under way */
    uint64_t revision; /* PROMOTING: of that change */
    /* ASKED, and then until it is confirmed: */
    bool waits;
    uint64_t epoch; /* in which it was seen in the table; 0: not yet */
    enum place_kind kind;
    struct dvk_broker_packet question;
    struct loop_timer *timer;
};

struct places {
    struct dvkd *dvkd;
    struct list locals;
};

static const struct config_dc *dc_of(const struct places *places, uint32_t id) {
    const struct config_dc *dc = id >= 1 && id <= DVK_MAX_DC ? dvkd_config(places->dvkd)->dcs[id] : NULL;
    return dc && config_dc_is_live(dc) ? dc : NULL;
}

static struct place_instance instance_of(const struct places *places, uint64_t context) {
    return (struct place_instance){.node = places->dvkd->options.id,
                                   .incarnation = replica_incarnation(places->dvkd->replica),
                                   .context = context};
}

static bool is_here(const struct places *places, const struct place_instance *who) {
    return who->node == places->dvkd->options.id && who->incarnation == replica_incarnation(places->dvkd->replica);
}

static struct local *local_find(const struct places *places, uint64_t context, uint32_t dc, dvk_endpoint endpoint) {
    for (struct list *at = places->locals.next; at != &places->locals; at = at->next) {
        struct local *local = list_entry(at, struct local, link);
        if (local->context == context && local->dc == dc && local->endpoint == endpoint)
            return local;
    }
    return NULL;
}

static struct local *local_add(struct places *places, struct client *client, const struct config_dc *dc, dvk_endpoint endpoint,
                               enum role role) {
    struct local *local = calloc(1, sizeof *local);
    if (!local)
        return NULL;
    *local = (struct local){.client = client,
                            .context = client_context(client)->id,
                            .dc = dc->id,
                            .serial = dc->serial,
                            .endpoint = endpoint,
                            .role = role};
    list_append(&places->locals, &local->link);
    return local;
}

static void local_free(struct local *local) {
    loop_timer_cancel(local->timer);
    list_remove(&local->link);
    free(local);
}

static void tell(const struct local *local, uint32_t type, uint32_t flags, uint64_t revision) {
    struct dvk_broker_packet packet = {
        .type = type, .dc = local->dc, .endpoint = local->endpoint, .flags = flags, .id = revision};
    client_send(local->client, &packet, NULL, NULL, 0);
}

static void answer_question(struct local *local, int status) {
    struct dvk_broker_packet answer = client_answer(&local->question, status);
    answer.endpoint = local->endpoint;
    loop_timer_cancel(local->timer);
    local->timer = NULL;
    local->waits = false;
    client_send(local->client, &answer, NULL, NULL, 0);
}

/* ---- changes ---- */

static json_t *change_of(const struct places *places, const struct config_dc *dc, dvk_endpoint endpoint, const char *what,
                         const struct place_instance *primary, const struct place_instance *spare) {
    json_t *change = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "op", "place", "do", what, "dc", (json_int_t)dc->id, "serial",
                               (json_int_t)dc->serial, "endpoint", (json_int_t)endpoint, "view",
                               (json_int_t)dvkd_config(places->dvkd)->view);
    if (primary)
        json_object_set_new(change, "primary", place_instance_to_json(primary));
    if (spare)
        json_object_set_new(change, "spare", place_instance_to_json(spare));
    return change;
}

/* An instance of this node is in the table and is no more: have it taken out. The same change twice does no harm; it is proposed
 * again when anything has changed and it is still there. */
static void propose_end(struct places *places, const struct config_dc *dc, const struct place *place,
                        const struct place_instance *who, bool primary) {
    cleanup_json json_t *change =
        change_of(places, dc, place->endpoint, primary ? "gone" : "drop", primary ? who : NULL, primary ? NULL : who);
    record(RECORD_PLACE_END, dc->id, place->endpoint, who->context, primary);
    replica_propose(places->dvkd->replica, change, NULL, NULL);
}

static void propose_add(struct places *places, const struct config_dc *dc, const struct endpoint *endpoint,
                        const struct place_instance *spare, enum place_kind kind, replica_done *done, void *context) {
    const struct place_instance primary = instance_of(places, endpoint->context->id);
    cleanup_json json_t *change = change_of(places, dc, endpoint_address(endpoint), "add", &primary, spare);
    json_object_set_new(change, "kind", json_integer(kind));
    json_object_set_new(change, "moved", json_integer(endpoint->revision));
    replica_propose(places->dvkd->replica, change, done, context);
}

/* ---- asking for a spare ---- */

/* May that endpoint, which is here, have spares? 0 with *out, or a negative error. */
static int find_primary(const struct places *places, uint32_t dc, dvk_endpoint address, const struct endpoint **out) {
    *out = registry_find_endpoint(&places->dvkd->broker.registry, dc, address);
    if (!*out)
        return -DVK_ENOTBOUND;
    return (*out)->guest || (*out)->context->role != CONTEXT_PROGRAM ? -DVK_ENOTALLOWED : 0;
}

static void ask(struct places *places, struct local *local) {
    struct dvkd *dvkd = places->dvkd;
    const struct config_dc *dc = dc_of(places, local->dc);
    const struct endpoint *primary;
    uint32_t home;
    int result = dc ? broker_home(&dvkd->broker, local->dc, local->endpoint, &home) : -DVK_ENODC;
    const struct place_instance spare = instance_of(places, local->context);
    if (result == 0 && home != dvkd->options.id) {
        if (!replica_node_is_up(dvkd->replica, home))
            result = -DVK_ENODEUNREACH;
        else {
            cleanup_json json_t *payload =
                json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:I}", "places", "ask", "to", (json_int_t)home, "dc",
                          (json_int_t)dc->id, "serial", (json_int_t)dc->serial, "endpoint", (json_int_t)local->endpoint, "spare",
                          place_instance_to_json(&spare), "kind", (json_int_t)local->kind);
            replica_cast(dvkd->replica, payload, NULL, NULL);
            return;
        }
    }
    if (result == 0)
        result = find_primary(places, local->dc, local->endpoint, &primary);
    if (result == 0 && primary->context->id == local->context)
        result = -EINVAL;
    if (result == 0) {
        propose_add(places, dc, primary, &spare, local->kind, NULL, NULL);
        return;
    }
    answer_question(local, result);
    local_free(local);
}

/* Somebody else's question, of which we know best. */
static void asked(struct places *places, const json_t *payload) {
    json_int_t endpoint = 0, serial = -1;
    const struct config_dc *dc = dc_of(places, (uint32_t)field_integer_or(payload, "dc", 1, DVK_MAX_DC, 0));
    const struct endpoint *primary = NULL;
    struct place_instance spare;
    if (!field_integer(payload, "endpoint", &endpoint) || !field_integer(payload, "serial", &serial) ||
        !place_instance_read(json_object_get(payload, "spare"), &spare))
        return;
    int result = dc && dc->serial == (uint64_t)serial ? find_primary(places, dc->id, (dvk_endpoint)endpoint, &primary) : -DVK_ENODC;
    if (result == 0) {
        propose_add(places, dc, primary, &spare,
                    field_integer_or(payload, "kind", PLACE_BACKUP, PLACE_REPLICA, PLACE_BACKUP), NULL, NULL);
        return;
    }
    cleanup_json json_t *no =
        json_pack("{s:s, s:I, s:I, s:O, s:i}", "places", "no", "dc", dc ? (json_int_t)dc->id : 0, "endpoint", endpoint, "spare",
                  json_object_get(payload, "spare"), "status", result);
    replica_cast(places->dvkd->replica, no, NULL, NULL);
}

static void refused(struct places *places, const json_t *payload) {
    json_int_t endpoint = 0;
    struct place_instance spare;
    if (!field_integer(payload, "endpoint", &endpoint) || !place_instance_read(json_object_get(payload, "spare"), &spare) ||
        !is_here(places, &spare))
        return;
    struct local *local =
        local_find(places, spare.context, (uint32_t)field_integer_or(payload, "dc", 0, DVK_MAX_DC, 0), (dvk_endpoint)endpoint);
    if (!local || local->role != ASKED)
        return;
    answer_question(local, (int)field_integer_or(payload, "status", -4095, -1, -DVK_ENOTBOUND));
    local_free(local);
}

bool places_cast(struct places *places, uint32_t from, const json_t *payload) {
    const char *what = field_string(payload, "places");
    (void)from;
    if (!what)
        return false;
    if (strcmp(what, "ask") == 0 && field_integer_or(payload, "to", 1, DVK_MAX_NODE, 0) == (json_int_t)places->dvkd->options.id)
        asked(places, payload);
    else if (strcmp(what, "no") == 0)
        refused(places, payload);
    return true;
}

static void ask_late(void *context) {
    struct local *local = context;
    local->timer = NULL;
    answer_question(local, -DVK_ETIMEDOUT);
    if (local->role == ASKED)
        local_free(local); /* should it appear in the table after all, it is taken out */
}

static bool slot_may_move(uint32_t slot) {
    if (dvk_slot_is_user(slot))
        return true;
    uint32_t service = dvk_slot_is_system(slot) ? dvk_system_slot_service(slot) : 0;
    return service > DVK_SERVICE_BLK && service != DVK_SERVICE_COPY;
}

static int spare_check(struct places *places, struct client *client, const struct dvk_broker_packet *packet) {
    struct dvkd *dvkd = places->dvkd;
    const uint32_t *nodes;
    uint32_t count;
    if (client_context(client)->role != CONTEXT_PROGRAM)
        return -DVK_ENOTALLOWED;
    if (dvk_endpoint_generation(packet->endpoint) == 0 || (packet->side != PLACE_BACKUP && packet->side != PLACE_REPLICA))
        return -EINVAL;
    int result = packet->dc >= 1 && packet->dc <= DVK_MAX_DC
                     ? dvkd->broker.host.dc_nodes(dvkd->broker.host.context, packet->dc, &nodes, &count)
                     : -DVK_ENODC;
    if (result < 0)
        return result;
    const struct config_dc *dc = dc_of(places, packet->dc);
    if (!dc || !config_dc_is_bare(dc) || !config_dc_has_node(dc, dvkd->options.id) ||
        !slot_may_move(dvk_endpoint_slot(packet->endpoint)))
        return -DVK_ENOTALLOWED;
    if (!replica_is_quorate(dvkd->replica))
        return -DVK_ENOQUORUM;
    struct local *local;
    unsigned have = 0;
    list_for_each(local, &places->locals, link) have += local->client == client;
    if (have >= SPARES_OF_CLIENT_MAX)
        return -EAGAIN;
    return 0;
}

static void be_spare(struct places *places, struct client *client, const struct dvk_broker_packet *packet) {
    int result = spare_check(places, client, packet);
    struct local *local = result == 0 ? local_find(places, client_context(client)->id, packet->dc, packet->endpoint) : NULL;
    if (local)
        result = local->role == SPARE && !local->waits ? 0 : -EINVAL;
    if (result < 0) {
        struct dvk_broker_packet answer = client_answer(packet, result);
        client_send(client, &answer, NULL, NULL, 0);
        return;
    }
    if (!local)
        local = local_add(places, client, dc_of(places, packet->dc), packet->endpoint, ASKED);
    if (!local || loop_timer_add(places->dvkd->loop, ASK_MS, ask_late, local, &local->timer) < 0) {
        struct dvk_broker_packet answer = client_answer(packet, -ENOMEM);
        client_send(client, &answer, NULL, NULL, 0);
        if (local && local->role == ASKED)
            local_free(local);
        return;
    }
    local->waits = true;
    local->epoch = 0;
    local->role = ASKED;
    local->kind = packet->side;
    local->question = *packet;
    ask(places, local);
}

/* A client's request whose change is under way. */
struct step {
    struct places *places;
    uint64_t context; /* the client's: it may be gone */
    struct dvk_broker_packet packet;
};

static struct step *step_new(struct places *places, const struct client *client, const struct dvk_broker_packet *packet) {
    struct step *step = calloc(1, sizeof *step);
    if (step)
        *step = (struct step){.places = places, .context = client_context(client)->id, .packet = *packet};
    return step;
}

static void step_answer(struct step *step, int status) {
    struct context *who = registry_context_find(&step->places->dvkd->broker.registry, step->context);
    record(RECORD_PLACE_STEP, step->packet.dc, step->packet.endpoint, step->packet.side, (uint64_t)status);
    if (who) {
        struct dvk_broker_packet answer = client_answer(&step->packet, status);
        answer.endpoint = step->packet.endpoint;
        client_send(who->user, &answer, NULL, NULL, 0);
    }
    free(step);
}

/* Whatever became of the change: it is none, and if its entry is still there it is taken out when anything changes. */
static void end_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    (void)status, (void)effect, (void)failure;
    step_answer(context, 0);
}

static void spare_end(struct places *places, struct client *client, const struct dvk_broker_packet *packet) {
    struct local *local = local_find(places, client_context(client)->id, packet->dc, packet->endpoint);
    const struct config_dc *dc = dc_of(places, packet->dc);
    int result = local && (local->role == ASKED || local->role == SPARE) ? 0 : -DVK_ENOTBOUND;
    struct step *step = NULL;
    if (result == 0) {
        const struct place *place = dc ? place_table_find(&dc->places, packet->endpoint) : NULL;
        const struct place_instance who = instance_of(places, local->context);
        if (local->waits)
            answer_question(local, -DVK_EINTERRUPTED);
        local_free(local);
        if (place && place_spare_find(place, &who) && (step = step_new(places, client, packet))) {
            cleanup_json json_t *change = change_of(places, dc, packet->endpoint, "drop", NULL, &who);
            replica_propose(places->dvkd->replica, change, end_done, step);
            return;
        }
    }
    struct dvk_broker_packet answer = client_answer(packet, result);
    client_send(client, &answer, NULL, NULL, 0);
}

/* ---- moving ---- */

static int step_error(int status) {
    switch (status) {
    case -EAGAIN:
        return -DVK_ENOQUORUM;
    case -EINPROGRESS:
        return -DVK_EUNKNOWN;
    case -EBUSY:
    case -ESTALE:
    case -EINVAL:
    case -ENOENT:
        return -DVK_ENOTMIGRATING;
    default:
        return status;
    }
}

static void step_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    (void)effect, (void)failure;
    step_answer(context, status < 0 ? step_error(status) : 0);
}

static const struct place_spare *spare_on(const struct place *place, uint32_t node) {
    for (uint32_t i = 0; i < place->spare_count; i++)
        if (node == 0 || place->spares[i].who.node == node)
            return &place->spares[i];
    return NULL;
}

/* 0 with *change, or a negative error. */
static int step_change(struct places *places, struct client *client, const struct dvk_broker_packet *packet, json_t **change) {
    static const char *const names[] = {
        [DVK_BROKER_MIGRATE_START] = "start", [DVK_BROKER_MIGRATE_COMMIT] = "commit", [DVK_BROKER_MIGRATE_ROLLBACK] = "rollback"};
    const struct config_dc *dc = dc_of(places, packet->dc);
    const struct endpoint *endpoint = registry_find_endpoint(&places->dvkd->broker.registry, packet->dc, packet->endpoint);
    if (!dc || !endpoint || endpoint->context != client_context(client) || endpoint->guest)
        return -DVK_ENOTBOUND;
    if (packet->side < DVK_BROKER_MIGRATE_START || packet->side > DVK_BROKER_MIGRATE_ROLLBACK)
        return -EINVAL;
    const struct place *place = place_table_find(&dc->places, packet->endpoint);
    const struct place_instance us = instance_of(places, endpoint->context->id);
    const struct place_spare *to = place ? spare_on(place, packet->node) : NULL;
    if (packet->side == DVK_BROKER_MIGRATE_START) {
        if (!to)
            return -DVK_ENOBACKUP;
        if (place->moving)
            return -DVK_EMIGRATING;
    } else if (!place || !place->moving)
        return -DVK_ENOTMIGRATING;
    *change = change_of(places, dc, place->endpoint, names[packet->side], &us,
                        packet->side == DVK_BROKER_MIGRATE_START ? &to->who : NULL);
    return 0;
}

static void migrate(struct places *places, struct client *client, const struct dvk_broker_packet *packet) {
    cleanup_json json_t *change = NULL;
    struct step *step = step_new(places, client, packet);
    int result = step ? step_change(places, client, packet, &change) : -ENOMEM;
    if (result < 0) {
        struct dvk_broker_packet answer = client_answer(packet, result);
        client_send(client, &answer, NULL, NULL, 0);
        free(step);
        return;
    }
    replica_propose(places->dvkd->replica, change, step_done, step);
}

void places_packet(void *context, struct client *client, const struct dvk_broker_packet *packet) {
    struct places *places = ((struct dvkd *)context)->places;
    if (packet->type == DVK_BROKER_SPARE)
        be_spare(places, client, packet);
    else if (packet->type == DVK_BROKER_SPARE_END)
        spare_end(places, client, packet);
    else
        migrate(places, client, packet);
}

/* ---- what the table says ---- */

static void freeze(struct local *local, bool frozen) {
    if (local->role != PRIMARY || local->frozen == frozen)
        return;
    local->frozen = frozen;
    record(RECORD_PLACE_FROZEN, local->dc, local->endpoint, local->context, frozen);
    tell(local, DVK_BROKER_FROZEN, frozen ? DVK_BROKER_F_UP : 0, 0);
}

/* Another is the endpoint now: it is unbound here, and who talks to it here is told. */
static void move_away(struct places *places, struct local *local, const struct place *place) {
    struct broker *broker = &places->dvkd->broker;
    struct client *client = local->client;
    record(RECORD_PLACE_LEFT, local->dc, local->endpoint, local->context, place->moved);
    tell(local, DVK_BROKER_MOVED, 0, place->moved);
    uint32_t dc = local->dc;
    dvk_endpoint address = local->endpoint;
    local_free(local);
    broker_place_left(broker, client, dc, address, place->moved);
}

/* Ours as it stands in the table (as: PRIMARY or SPARE). */
static void see_local(struct places *places, struct local *local, const struct place *place, enum role as) {
    if (as == SPARE) {
        if (local->role == ASKED || local->role == PROMOTING)
            local->role = SPARE;
        const struct place_instance us = instance_of(places, local->context);
        if (local->waits && !local->epoch && place_spare_find(place, &us)->kind == (uint64_t)local->kind)
            local->epoch = dvkd_config(places->dvkd)->epoch;
        return;
    }
    if (local->role == ASKED || local->role == SPARE) {
        local->role = PROMOTING;
        local->revision = place->moved;
        if (local->waits && !local->epoch)
            local->epoch = place->moved;
        record(RECORD_PLACE_PROMOTE, local->dc, local->endpoint, local->context, place->moved);
    }
    freeze(local, place->moving);
}

/* An instance of this node in the table that we do not know: it is new, as the primary of a new entry, or no more. */
static void see_unknown(struct places *places, const struct config_dc *dc, const struct place *place,
                        const struct place_instance *who, bool primary) {
    const struct endpoint *endpoint = registry_find_endpoint(&places->dvkd->broker.registry, dc->id, place->endpoint);
    if (!primary || !endpoint || endpoint->context->id != who->context) {
        propose_end(places, dc, place, who, primary);
        return;
    }
    struct local *local = local_add(places, endpoint->context->user, dc, place->endpoint, PRIMARY);
    if (local)
        freeze(local, place->moving);
    else
        log_error("out of memory: endpoint %" PRIu64 " cannot move", place->endpoint);
}

static void see_instance(struct places *places, const struct config_dc *dc, const struct place *place,
                         const struct place_instance *who, bool primary) {
    if (!is_here(places, who))
        return;
    struct local *local = local_find(places, who->context, dc->id, place->endpoint);
    if (local)
        see_local(places, local, place, primary ? PRIMARY : SPARE);
    else
        see_unknown(places, dc, place, who, primary);
}

/* What we know of and the table does not say. False: it is gone. */
static void see_missing(struct places *places, struct local *local, const struct config_dc *dc) {
    const struct place *place = dc && dc->serial == local->serial ? place_table_find(&dc->places, local->endpoint) : NULL;
    const struct place_instance us = instance_of(places, local->context);
    bool is_primary = place && place_is(&place->primary, &us);
    bool is_spare = place && place_spare_find(place, &us);
    if (is_primary || is_spare || local->role == ASKED)
        return;
    if (local->role == PRIMARY && place) {
        move_away(places, local, place);
        return;
    }
    if (local->role == PRIMARY)
        freeze(local, false); /* it goes on without spares */
    else
        tell(local, DVK_BROKER_SPARE_GONE, 0, 0);
    if (local->waits)
        answer_question(local, -DVK_ENOTBOUND);
    local_free(local);
}

static void see_dc(struct places *places, const struct config_dc *dc) {
    for (uint32_t i = 0; i < dc->places.count; i++) {
        const struct place *place = &dc->places.places[i];
        see_instance(places, dc, place, &place->primary, true);
        for (uint32_t k = 0; k < place->spare_count; k++)
            see_instance(places, dc, place, &place->spares[k].who, false);
    }
}

void places_changed(struct places *places, const struct config_effect *effect) {
    struct dvkd *dvkd = places->dvkd;
    if (replica_is_quorate(dvkd->replica) && (!effect || effect->places || effect->removed)) {
        struct local *local;
        for (uint32_t id = 1; id <= DVK_MAX_DC; id++)
            if (dc_of(places, id) && (!effect || effect->dc == id))
                see_dc(places, dc_of(places, id));
        list_for_each(local, &places->locals, link) if (!effect || effect->dc == local->dc)
            see_missing(places, local, dc_of(places, local->dc));
        if (!effect)
            list_for_each(local, &places->locals, link) if (local->role == ASKED && local->waits)
                ask(places, local);
    }
    broker_place_changed(&dvkd->broker);
}

/* ---- the rest of dvkd ---- */

void places_confirmed(struct places *places, uint64_t epoch) {
    struct broker *broker = &places->dvkd->broker;
    struct local *local;
    bool any = false;
    list_for_each(local, &places->locals, link) {
        if (local->waits && local->epoch && local->epoch <= epoch)
            answer_question(local, 0);
        if (local->role != PROMOTING || local->revision > epoch)
            continue;
        const struct place *place = config_place_of(dvkd_config(places->dvkd), local->dc, local->endpoint);
        int result = broker_place_taken(broker, local->client, local->dc, local->endpoint, local->revision);
        record(RECORD_PLACE_TAKEN, local->dc, local->endpoint, local->context, local->revision, (uint64_t)result);
        if (result < 0) { /* no memory, or what cannot be: better dead than two of them */
            log_error("endpoint %" PRIu64 " cannot be taken over: %s", local->endpoint, strerror(-result));
            const struct config_dc *dc = dc_of(places, local->dc);
            const struct place_instance us = instance_of(places, local->context);
            tell(local, DVK_BROKER_SPARE_GONE, 0, 0);
            local_free(local);
            if (dc && place)
                propose_end(places, dc, place, &us, true);
            continue;
        }
        local->role = PRIMARY;
        tell(local, DVK_BROKER_PROMOTED, 0, local->revision);
        privileges_bound(local->client, local->dc, local->endpoint);
        freeze(local, place && place->moving);
        any = true;
    }
    if (any)
        broker_place_changed(broker);
}

/* The others take what is here for dead: programs are unbound (cut_programs), and spares are none any more. */
void places_quorum(struct places *places, bool quorate) {
    struct local *local;
    if (quorate)
        return;
    list_for_each(local, &places->locals, link) {
        freeze(local, false);
        if (local->waits)
            answer_question(local, -DVK_ENOQUORUM);
        if (local->role == SPARE || local->role == PROMOTING)
            tell(local, DVK_BROKER_SPARE_GONE, 0, 0);
        local_free(local);
    }
}

/* What is in the table and gone from here is taken out. */
static void check_dc(struct places *places, uint32_t id) {
    const struct config_dc *dc = dc_of(places, id);
    if (dc && replica_is_quorate(places->dvkd->replica) && replica_state(places->dvkd->replica) == REPLICA_SYNCED)
        see_dc(places, dc);
}

void places_unbound(void *context, uint32_t dc, dvk_endpoint endpoint) {
    struct places *places = ((struct dvkd *)context)->places;
    struct local *local;
    bool any = false;
    if (!places)
        return;
    list_for_each(local, &places->locals, link) {
        if (local->dc != dc || local->endpoint != endpoint || local->role != PRIMARY)
            continue;
        local_free(local);
        any = true;
    }
    if (any)
        check_dc(places, dc);
}

void places_client_gone(struct places *places, struct client *client) {
    struct local *local;
    uint64_t dcs[DVK_MAX_DC / 64 + 1] = {0};
    if (!places)
        return;
    list_for_each(local, &places->locals, link) {
        if (local->client != client)
            continue;
        dcs[local->dc / 64] |= 1ull << (local->dc % 64);
        local_free(local);
    }
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++)
        if (dcs[id / 64] >> (id % 64) & 1)
            check_dc(places, id);
}

bool places_find(void *context, uint32_t dc, dvk_endpoint endpoint, struct broker_place *out) {
    struct dvkd *dvkd = context;
    const struct place *place = config_place_of(dvkd_config(dvkd), dc, endpoint);
    if (!place)
        return false;
    *out = (struct broker_place){
        .node = (uint32_t)place->primary.node, .context = place->primary.context, .revision = (uint32_t)place->moved, .spares = place->spare_count};
    for (uint32_t i = 0; i < place->spare_count; i++)
        out->replaceable |= place->spares[i].kind == PLACE_REPLICA && replica_node_is_up(dvkd->replica, (uint32_t)place->spares[i].who.node);
    return true;
}

bool places_reached(void *context, uint32_t revision) {
    return (int32_t)((uint32_t)dvkd_config(context)->epoch - revision) >= 0 || revision == 0;
}

int places_start(struct dvkd *dvkd) {
    struct places *places = calloc(1, sizeof *places);
    if (!places)
        return -ENOMEM;
    *places = (struct places){.dvkd = dvkd};
    list_init(&places->locals);
    dvkd->places = places;
    return 0;
}
