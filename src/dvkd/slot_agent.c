/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/slot_agent.h"

#include "common/cleanup.h"
#include "common/list.h"
#include "common/log.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum wanting { IDLE, TAKING, ASKING };
enum giving { NONE, CHOOSING, GIVING };

/* One DC. Freed when it is gone and nothing of it is under way. */
struct deal {
    struct list link;
    struct slot_agent *agent;
    uint32_t dc;
    uint64_t serial;
    unsigned proposals; /* of ours under way */
    /* what we want */
    enum wanting wanting;
    uint32_t want, below;
    uint32_t donor;    /* ASKING: who was asked last */
    json_int_t number; /* of that question */
    bool asked[DVK_MAX_NODE + 1];
    /* what we give */
    enum giving giving;
    uint32_t receiver;
    json_int_t receiver_number;
    uint64_t view; /* in which it asked */
    uint16_t *sets; /* GIVING */
    uint32_t count;
};

struct slot_agent {
    struct replica *replica;
    uint32_t node;
    struct slot_agent_port port;
    struct list deals;
    json_int_t last_number;
};

int slot_agent_create(struct replica *replica, uint32_t node, const struct slot_agent_port *port, struct slot_agent **out) {
    struct slot_agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return -ENOMEM;
    *agent = (struct slot_agent){.replica = replica, .node = node, .port = *port};
    list_init(&agent->deals);
    *out = agent;
    return 0;
}

static void deal_free(struct deal *deal) {
    list_remove(&deal->link);
    free(deal->sets);
    free(deal);
}

void slot_agent_destroy(struct slot_agent *agent) {
    if (!agent)
        return;
    struct deal *deal;
    list_for_each(deal, &agent->deals, link) deal_free(deal);
    free(agent);
}

static const struct config_dc *live_dc(const struct slot_agent *agent, uint32_t dc, uint64_t serial) {
    const struct config_dc *found = dc <= DVK_MAX_DC ? replica_config(agent->replica)->dcs[dc] : NULL;
    return found && config_dc_is_live(found) && (!serial || found->serial == serial) ? found : NULL;
}

static struct deal *deal_find(const struct slot_agent *agent, uint32_t dc, uint64_t serial) {
    struct deal *deal;
    list_for_each(deal, &agent->deals, link) if (deal->dc == dc && deal->serial == serial) return deal;
    return NULL;
}

static struct deal *deal_make(struct slot_agent *agent, const struct config_dc *dc) {
    struct deal *deal = deal_find(agent, dc->id, dc->serial);
    if (deal)
        return deal;
    deal = calloc(1, sizeof *deal);
    if (!deal)
        return NULL;
    *deal = (struct deal){.agent = agent, .dc = dc->id, .serial = dc->serial};
    list_append(&agent->deals, &deal->link);
    return deal;
}

static uint64_t view_now(const struct slot_agent *agent) { return replica_config(agent->replica)->view; }

static void cast(struct slot_agent *agent, json_t *payload) {
    cleanup_json json_t *owned = payload;
    replica_cast(agent->replica, owned, NULL, NULL);
}

/* ---- wanting ---- */

static void want_end(struct deal *deal, int status) {
    deal->wanting = IDLE;
    deal->agent->port.ended(deal->agent->port.context, deal->dc, status);
}

/* Who has most of what we could use, and was not asked yet; 0: nobody. */
static uint32_t next_donor(const struct deal *deal, const struct config_dc *dc) {
    uint32_t best = 0, most = 0;
    for (uint32_t i = 0; i < dc->node_count; i++) {
        uint32_t node = dc->nodes[i];
        if (node == deal->agent->node || deal->asked[node] || !replica_node_is_up(deal->agent->replica, node))
            continue;
        uint32_t count = slot_table_count(&dc->slots, node, deal->below);
        if (count > most) {
            most = count;
            best = node;
        }
    }
    return best;
}

static void ask_next(struct deal *deal) {
    struct slot_agent *agent = deal->agent;
    const struct config_dc *dc = live_dc(agent, deal->dc, deal->serial);
    uint32_t donor = dc ? next_donor(deal, dc) : 0;
    if (!donor) {
        want_end(deal, dc ? -DVK_ENOSLOT : -DVK_ENODC);
        return;
    }
    /* who has its fair share gets one set at a time */
    uint32_t below = deal->below < dc->slots.sets ? deal->below : dc->slots.sets;
    bool rich = slot_table_count(&dc->slots, agent->node, below) >= (below - 1) / dc->node_count;
    deal->wanting = ASKING;
    deal->donor = donor;
    deal->asked[donor] = true;
    deal->number = ++agent->last_number;
    cast(agent, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "slots", "ask", "view",
                          (json_int_t)view_now(agent), "dc", (json_int_t)deal->dc, "serial", (json_int_t)deal->serial,
                          "to", (json_int_t)donor, "want", (json_int_t)(rich ? 1 : deal->want), "below",
                          (json_int_t)deal->below, "number", deal->number));
}

static void take_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct deal *deal = context;
    (void)effect, (void)failure;
    deal->proposals--;
    if (deal->wanting != TAKING)
        return;
    if (status == -ENOSPC)
        ask_next(deal);
    else
        want_end(deal, status == -ENOENT ? -DVK_ENODC : status < 0 ? -EAGAIN : 0);
}

bool slot_agent_want(struct slot_agent *agent, uint32_t id, uint32_t want, uint32_t below) {
    const struct config_dc *dc = live_dc(agent, id, 0);
    struct deal *deal = dc ? deal_make(agent, dc) : NULL;
    if (!deal)
        return false;
    if (deal->wanting != IDLE)
        return true;
    deal->want = want < 1 ? 1 : want < SLOT_SETS_MAX ? want : SLOT_SETS_MAX;
    deal->below = below < 1 ? 1 : below < SLOT_SETS_MAX ? below : SLOT_SETS_MAX;
    memset(deal->asked, 0, sizeof deal->asked);
    deal->wanting = TAKING;
    deal->proposals++;
    cleanup_json json_t *change =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "op", "slots-take", "dc", (json_int_t)id, "serial",
                  (json_int_t)dc->serial, "view", (json_int_t)view_now(agent), "node", (json_int_t)agent->node, "want",
                  (json_int_t)deal->want, "below", (json_int_t)deal->below);
    replica_propose(agent->replica, change, take_done, deal);
    return true;
}

/* ---- giving ---- */

static void answer_none(struct slot_agent *agent, uint32_t dc, uint64_t serial, uint32_t to, json_int_t number) {
    cast(agent, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "slots", "none", "view", (json_int_t)view_now(agent), "dc",
                          (json_int_t)dc, "serial", (json_int_t)serial, "to", (json_int_t)to, "number", number));
}

static void give_none(struct deal *deal) {
    deal->giving = NONE;
    if (deal->view == view_now(deal->agent))
        answer_none(deal->agent, deal->dc, deal->serial, deal->receiver, deal->receiver_number);
}

static void give_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct deal *deal = context;
    (void)effect, (void)failure;
    deal->proposals--;
    free(deal->sets);
    deal->sets = NULL;
    deal->count = 0;
    if (status < 0)
        give_none(deal);
    deal->giving = NONE;
    deal->agent->port.settled(deal->agent->port.context, deal->dc);
}

static int give_propose(struct deal *deal, const uint16_t *sets, uint32_t count) {
    struct slot_agent *agent = deal->agent;
    cleanup_free char *text = slot_runs_write(sets, count);
    deal->sets = malloc(count * sizeof *sets);
    if (!text || !deal->sets)
        return -ENOMEM;
    memcpy(deal->sets, sets, count * sizeof *sets);
    deal->count = count;
    deal->giving = GIVING;
    deal->proposals++;
    cleanup_json json_t *change =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:I}", "op", "slots-give", "dc", (json_int_t)deal->dc, "serial",
                  (json_int_t)deal->serial, "view", (json_int_t)deal->view, "node", (json_int_t)agent->node, "to",
                  (json_int_t)deal->receiver, "sets", text, "generation",
                  (json_int_t)agent->port.generation(agent->port.context, deal->dc));
    replica_propose(agent->replica, change, give_done, deal);
    return 0;
}

void slot_agent_offer(struct slot_agent *agent, uint32_t id, const uint16_t *sets, uint32_t count) {
    struct deal *deal;
    list_for_each(deal, &agent->deals, link) {
        if (deal->dc != id || deal->giving != CHOOSING)
            continue;
        bool possible = count && live_dc(agent, id, deal->serial) && deal->view == view_now(agent) &&
                        replica_is_quorate(agent->replica) && replica_node_is_up(agent->replica, deal->receiver);
        if (possible && give_propose(deal, sets, count) == 0)
            return;
        give_none(deal);
        break;
    }
    if (count)
        agent->port.settled(agent->port.context, id);
}

bool slot_agent_is_ours(const struct slot_agent *agent, uint32_t id, uint32_t set) {
    const struct config_dc *dc = live_dc(agent, id, 0);
    if (!dc || slot_table_owner(&dc->slots, set) != agent->node)
        return false;
    const struct deal *deal = deal_find(agent, id, dc->serial);
    for (uint32_t i = 0; deal && i < deal->count; i++)
        if (deal->sets[i] == set)
            return false;
    return true;
}

/* ---- what the others say ---- */

static void take_ask(struct slot_agent *agent, uint32_t from, const struct config_dc *dc, const json_t *payload) {
    json_int_t number = field_integer_or(payload, "number", 1, INT64_MAX, 0);
    struct deal *deal = deal_make(agent, dc);
    if (!deal || deal->giving != NONE || deal->wanting != IDLE) {
        answer_none(agent, dc->id, dc->serial, from, number);
        return;
    }
    deal->giving = CHOOSING;
    deal->receiver = from;
    deal->receiver_number = number;
    deal->view = view_now(agent);
    agent->port.choose(agent->port.context, dc->id, (uint32_t)field_integer_or(payload, "want", 1, SLOT_SETS_MAX, 1),
                       (uint32_t)field_integer_or(payload, "below", 1, SLOT_SETS_MAX, 1));
}

void slot_agent_cast(struct slot_agent *agent, uint32_t from, const json_t *payload) {
    const char *what = field_string(payload, "slots");
    json_int_t view, serial;
    uint32_t id = (uint32_t)field_integer_or(payload, "dc", 1, DVK_MAX_DC, 0);
    if (!what || !field_integer(payload, "view", &view) || (uint64_t)view != view_now(agent) ||
        !field_integer(payload, "serial", &serial) ||
        field_integer_or(payload, "to", 1, DVK_MAX_NODE, 0) != (json_int_t)agent->node)
        return;
    const struct config_dc *dc = live_dc(agent, id, (uint64_t)serial);
    struct deal *deal = deal_find(agent, id, (uint64_t)serial);
    if (strcmp(what, "ask") == 0 && dc)
        take_ask(agent, from, dc, payload);
    else if (strcmp(what, "none") == 0 && deal && deal->wanting == ASKING && deal->donor == from &&
             field_integer_or(payload, "number", 1, INT64_MAX, 0) == deal->number)
        ask_next(deal);
}

void slot_agent_changed(struct slot_agent *agent, const struct config_effect *effect) {
    struct deal *deal;
    list_for_each(deal, &agent->deals, link) {
        bool live = live_dc(agent, deal->dc, deal->serial);
        bool given = effect && effect->dc == deal->dc && effect->slots_from && effect->slots_to == agent->node;
        if (deal->wanting == ASKING && (!effect || !live || given))
            want_end(deal, !live ? -DVK_ENODC : given ? 0 : -EAGAIN);
        if (!live && !deal->proposals && deal->giving != CHOOSING)
            deal_free(deal);
    }
}

void slot_agent_quorum(struct slot_agent *agent, bool quorate) {
    struct deal *deal;
    list_for_each(deal, &agent->deals, link) if (!quorate && deal->wanting == ASKING) want_end(deal, -EAGAIN);
}
