/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/slots.h"

#include "common/list.h"
#include "common/log.h"
#include "dvkd/dvkd.h"
#include "dvkd/slot_agent.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define CHOOSE_MS 1000u /* a cell's servers that do not say what they can spare by then spare nothing */
#define OFFER_MAX 256u

/* Somebody waits for our cell's choice. */
struct choice {
    struct list link;
    struct slots *slots;
    uint32_t dc;
    struct loop_timer *timer;
};

struct slots {
    struct dvkd *dvkd;
    struct slot_agent *agent;
    struct list choices;
};

static const struct config_dc *dc_live(const struct dvkd *dvkd, uint32_t id) {
    const struct config_dc *dc = id <= DVK_MAX_DC ? replica_config(dvkd->replica)->dcs[id] : NULL;
    return dc && config_dc_is_live(dc) ? dc : NULL;
}

/* ---- choosing what to give ---- */

static void choice_free(struct choice *choice) {
    loop_timer_cancel(choice->timer);
    list_remove(&choice->link);
    free(choice);
}

static void choice_late(void *context) {
    struct choice *choice = context;
    struct slots *slots = choice->slots;
    uint32_t dc = choice->dc;
    choice->timer = NULL;
    choice_free(choice);
    slot_agent_offer(slots->agent, dc, NULL, 0);
}

/* No VOS uses the slots here: what nobody has bound can go, but for the lowest set. */
static void choose_here(struct slots *slots, const struct config_dc *dc, uint32_t want, uint32_t below) {
    uint16_t sets[OFFER_MAX], last = 0;
    uint32_t count = 0;
    if (below > dc->slots.sets)
        below = dc->slots.sets;
    for (uint32_t set = 1; set < below && count < want && count < OFFER_MAX; set++) {
        if (!slot_agent_is_ours(slots->agent, dc->id, set) || registry_set_is_bound(&slots->dvkd->broker.registry, dc->id, set))
            continue;
        if (last)
            sets[count++] = last;
        last = (uint16_t)set;
    }
    slot_agent_offer(slots->agent, dc->id, sets, count);
}

static void port_choose(void *context, uint32_t id, uint32_t want, uint32_t below) {
    struct slots *slots = context;
    const struct config_dc *dc = dc_live(slots->dvkd, id);
    if (!broker_slots_watched(&slots->dvkd->broker, id)) {
        choose_here(slots, dc, want, below);
        return;
    }
    struct choice *choice = calloc(1, sizeof *choice);
    if (choice)
        *choice = (struct choice){.slots = slots, .dc = id};
    if (!choice || loop_timer_add(slots->dvkd->loop, CHOOSE_MS, choice_late, choice, &choice->timer) < 0) {
        free(choice);
        slot_agent_offer(slots->agent, id, NULL, 0);
        return;
    }
    list_append(&slots->choices, &choice->link);
    broker_slots_wanted(&slots->dvkd->broker, id, want, below);
}

void slots_offered(void *context, uint32_t id, const uint16_t *offered, uint32_t count) {
    struct slots *slots = ((struct dvkd *)context)->slots;
    uint16_t sets[OFFER_MAX];
    uint32_t kept = 0;
    struct choice *choice, *found = NULL;
    list_for_each(choice, &slots->choices, link) if (choice->dc == id) found = choice;
    if (!found) { /* too late */
        broker_slots_settled(&slots->dvkd->broker, id);
        return;
    }
    choice_free(found);
    for (uint32_t i = 0; i < count && kept < OFFER_MAX; i++) /* programs may have bound some, and the cell may be wrong */
        if (slot_agent_is_ours(slots->agent, id, offered[i]) &&
            !registry_set_is_bound(&slots->dvkd->broker.registry, id, offered[i]))
            sets[kept++] = offered[i];
    slot_agent_offer(slots->agent, id, sets, kept);
    if (count && !kept)
        broker_slots_settled(&slots->dvkd->broker, id);
}

static void port_settled(void *context, uint32_t dc) {
    struct slots *slots = context;
    broker_slots_settled(&slots->dvkd->broker, dc);
}

static void port_ended(void *context, uint32_t dc, int status) {
    struct slots *slots = context;
    broker_slots_ended(&slots->dvkd->broker, dc, status);
}

static uint32_t port_generation(void *context, uint32_t dc) {
    struct slots *slots = context;
    return registry_newest(&slots->dvkd->broker.registry, dc);
}

void slots_describe(const struct dvkd *dvkd, json_t *change) {
    if (dvkd->options.slot_sets)
        json_object_set_new(change, "slots", json_pack("{s:I, s:I}", "sets", (json_int_t)dvkd->options.slot_sets, "share",
                                                       (json_int_t)dvkd->options.slot_share));
}

int slots_start(struct dvkd *dvkd) {
    struct slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    *slots = (struct slots){.dvkd = dvkd};
    list_init(&slots->choices);
    const struct slot_agent_port port = {slots, port_choose, port_settled, port_ended, port_generation};
    int result = slot_agent_create(dvkd->replica, dvkd->options.id, &port, &slots->agent);
    if (result < 0)
        free(slots);
    else
        dvkd->slots = slots;
    return result;
}

/* ---- the broker's host ---- */

uint32_t slots_owner(void *context, uint32_t id, uint32_t slot) {
    const struct config_dc *dc = dc_live(context, id);
    return dc ? slot_table_owner(&dc->slots, slot / DVK_SLOT_SET) : 0;
}

bool slots_is_ours(void *context, uint32_t dc, uint32_t set) {
    return slot_agent_is_ours(((struct dvkd *)context)->slots->agent, dc, set);
}

bool slots_take(void *context, uint32_t id, uint32_t want, uint32_t below) {
    const struct config_dc *dc = dc_live(context, id);
    return dc && dc->node_count > 1 && slot_agent_want(((struct dvkd *)context)->slots->agent, id, want, below);
}

void slots_watched(void *context, uint32_t id) {
    struct dvkd *dvkd = context;
    const struct config_dc *dc = dc_live(dvkd, id);
    if (dc)
        broker_slots_table(&dvkd->broker, id, &dc->slots, dc->slots_version);
}

/* ---- the replica's port ---- */

bool slots_cast(struct slots *slots, uint32_t from, const json_t *payload) {
    if (!json_object_get(payload, "slots"))
        return false;
    slot_agent_cast(slots->agent, from, payload);
    return true;
}

static void tell_table(struct slots *slots, uint32_t id) {
    const struct config_dc *dc = dc_live(slots->dvkd, id);
    if (dc)
        broker_slots_table(&slots->dvkd->broker, id, &dc->slots, dc->slots_version);
}

void slots_changed(struct slots *slots, const struct config_effect *effect) {
    struct dvkd *dvkd = slots->dvkd;
    if (effect && effect->slots_from && effect->slots_to == dvkd->options.id)
        registry_raise(&dvkd->broker.registry, effect->dc, effect->generation);
    if (!effect)
        registry_new_view(&dvkd->broker.registry, (uint64_t)time(NULL), dvkd_config(dvkd)->view);
    struct cell *cell;
    if (effect && effect->slots_to)
        tell_table(slots, effect->dc);
    else if (!effect)
        list_for_each(cell, &dvkd->cells.list, link) tell_table(slots, cell->dc);
    slot_agent_changed(slots->agent, effect);
}

void slots_quorum(struct slots *slots, bool quorate) { slot_agent_quorum(slots->agent, quorate); }

