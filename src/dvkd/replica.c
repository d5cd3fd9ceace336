/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/replica.h"

#include "common/cleanup.h"
#include "common/list.h"
#include "common/log.h"
#include "common/record.h"
#include "dvkd/config_places.h"
#include "dvkd/config_slots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL_VERSION 1
#define SNAPSHOT_PART_BYTES (256u << 10)
#define COUNT_MAX (1ll << 62) /* views and epochs that others tell: what is above was never counted */

struct member {
    struct replica_member id;
    bool greeted;  /* its hello of this view came */
    bool excluded; /* it was put out for being silent */
    uint64_t view, epoch, digest;
    int64_t incarnation;
    uint64_t applied; /* epoch up to which it has told that it applied (and wrote) */
    json_t *node; /* how it announces itself */
};

struct proposal {
    struct list link;
    uint64_t sequence;
    json_t *change;
    bool is_cast;
    uint64_t sent; /* the view in which it was sent last; 0: never */
    replica_done *done;
    void *context;
    uint64_t epoch; /* in which it was applied; 0: not yet */
    struct config_effect effect;
};

struct replica {
    struct loop *loop;
    struct store *store;
    struct config *config;
    struct config_node self;
    struct replica_port port;
    enum replica_state state;
    bool quorate;      /* the view's members are a quorum */
    bool told_quorum;  /* what port.quorum said last */
    struct member *members;
    size_t member_count;
    struct replica_member us;   /* ourselves among the members */
    char round[64];             /* the start that was delivered in this view; empty: none yet */
    uint64_t round_view;        /* number of the view that it is to make */
    uint64_t last_round;        /* starts that we sent */
    unsigned silences;          /* times that hello_timer found someone silent in this view */
    uint32_t snapshot_from;     /* node whose snapshot is awaited; 0: none */
    json_t *snapshot;           /* what came of it so far */
    struct loop_timer *hello_timer;
    uint32_t up[DVK_MAX_NODE + 1]; /* pid of its dvkd while up, else 0 */
    struct replica_status status[DVK_MAX_NODE + 1];
    uint64_t last_sequence;
    struct list proposals;
    struct loop_timer *fail_timer; /* proposals that cannot be sent are answered from the loop */
    int64_t incarnation;
    struct loop_timer *confirm_timer; /* runs while one of ours is applied here and not known to be everywhere */
};

int replica_create(struct loop *loop, struct store *store, struct config *config, const struct config_node *self,
                   const struct replica_port *port, struct replica **out) {
    struct replica *replica = calloc(1, sizeof *replica);
    if (!replica)
        return -ENOMEM;
    *replica = (struct replica){.loop = loop, .store = store, .config = config, .self = *self, .port = *port};
    list_init(&replica->proposals);
    *out = replica;
    return 0;
}

static void members_clear(struct replica *replica) {
    for (size_t i = 0; i < replica->member_count; i++)
        json_decref(replica->members[i].node);
    free(replica->members);
    replica->members = NULL;
    replica->member_count = 0;
}

static void proposal_free(struct proposal *proposal) {
    list_remove(&proposal->link);
    json_decref(proposal->change);
    free(proposal);
}

void replica_destroy(struct replica *replica) {
    if (!replica)
        return;
    struct proposal *proposal;
    list_for_each(proposal, &replica->proposals, link) proposal_free(proposal);
    loop_timer_cancel(replica->hello_timer);
    loop_timer_cancel(replica->fail_timer);
    loop_timer_cancel(replica->confirm_timer);
    members_clear(replica);
    json_decref(replica->snapshot);
    config_free(replica->config);
    free(replica);
}

struct config *replica_config(struct replica *replica) { return replica->config; }
enum replica_state replica_state(const struct replica *replica) { return replica->state; }
bool replica_is_quorate(const struct replica *replica) { return replica->told_quorum; }

bool replica_node_is_up(const struct replica *replica, uint32_t node) {
    return node == replica->self.id || (node <= DVK_MAX_NODE && replica->up[node]);
}

uint32_t replica_lowest_up(const struct replica *replica) {
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++)
        if (replica_node_is_up(replica, node))
            return node;
    return 0;
}

struct replica_status replica_node_status(const struct replica *replica, uint32_t node) {
    return node <= DVK_MAX_NODE ? replica->status[node] : (struct replica_status){0};
}

/* ---- sending ---- */

static void send_json(struct replica *replica, json_t *message) {
    json_object_set_new(message, "version", json_integer(PROTOCOL_VERSION));
    cleanup_free char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    if (text)
        replica->port.send(replica->port.context, text, strlen(text));
    else
        log_error("out of memory: a message to the cluster is lost");
}

void replica_set_status(struct replica *replica, const struct replica_status *status) {
    replica->status[replica->self.id] = *status;
    if (replica->state == REPLICA_SYNCED && replica->member_count > 1)
        send_json(replica, json_pack("{s:s, s:I, s:f}", "type", "status", "cells", (json_int_t)status->cells, "load",
                                     status->load));
}

static void send_proposal(struct replica *replica, struct proposal *proposal) {
    const char *type = proposal->is_cast ? "cast" : "change";
    proposal->sent = replica->config->view;
    send_json(replica, json_pack("{s:s, s:I, s:I, s:O}", "type", type, "view", (json_int_t)replica->config->view,
                                 "sequence", (json_int_t)proposal->sequence, type, proposal->change));
}

static void proposal_end(struct proposal *proposal, int status, const struct failure *failure) {
    replica_done *done = proposal->done;
    void *context = proposal->context;
    struct config_effect effect = proposal->effect;
    record(RECORD_CONFIRM, 0, proposal->sequence, proposal->epoch, (uint64_t)status);
    proposal_free(proposal);
    if (done)
        done(context, status, &effect, failure);
}

static void fail_timer_fn(void *context) {
    struct replica *replica = context;
    replica->fail_timer = NULL;
    if (replica->state != REPLICA_ALONE)
        return;
    struct failure failure;
    failure_set(&failure, 0, "no-quorum", "dvs node ls shows which nodes are missing",
                "this node is not in a quorate partition of the cluster");
    struct list failed; /* moved out, as `done` may propose again */
    list_init(&failed);
    struct proposal *proposal;
    list_for_each(proposal, &replica->proposals, link) {
        list_remove(&proposal->link);
        list_append(&failed, &proposal->link);
    }
    while ((proposal = list_first(&failed, struct proposal, link)))
        proposal_end(proposal, proposal->sent ? -EINPROGRESS : -EAGAIN, &failure);
}

static void fail_proposals_soon(struct replica *replica) {
    if (!replica->fail_timer && loop_timer_add(replica->loop, 0, fail_timer_fn, replica, &replica->fail_timer) < 0)
        log_error("out of memory");
}

static void propose(struct replica *replica, const json_t *change, bool is_cast, replica_done *done, void *context) {
    struct proposal *proposal = calloc(1, sizeof *proposal);
    json_t *copy = json_deep_copy(change);
    if (!proposal || !copy) {
        log_error("out of memory");
        abort();
    }
    *proposal = (struct proposal){
        .sequence = ++replica->last_sequence, .change = copy, .is_cast = is_cast, .done = done, .context = context};
    list_append(&replica->proposals, &proposal->link);
    record(RECORD_PROPOSE, 0, proposal->sequence, replica->config->view);
    if (replica->state == REPLICA_SYNCED)
        send_proposal(replica, proposal);
    else if (replica->state == REPLICA_ALONE)
        fail_proposals_soon(replica);
    /* SYNCING: sent when that is done */
}

void replica_propose(struct replica *replica, const json_t *change, replica_done *done, void *context) {
    propose(replica, change, false, done, context);
}

void replica_cast(struct replica *replica, const json_t *payload, replica_done *done, void *context) {
    propose(replica, payload, true, done, context);
}

void replica_set_incarnation(struct replica *replica, int64_t incarnation) { replica->incarnation = incarnation; }
int64_t replica_incarnation(const struct replica *replica) { return replica->incarnation; }

size_t replica_view_nodes(const struct replica *replica, uint32_t *nodes, size_t room) {
    size_t count = 0;
    for (size_t i = 0; replica->state == REPLICA_SYNCED && i < replica->member_count && count < room; i++)
        if (!replica->members[i].excluded)
            nodes[count++] = replica->members[i].id.node;
    return count;
}

/* ---- views ---- */

static struct member *find_member(struct replica *replica, const struct replica_member *id) {
    for (size_t i = 0; i < replica->member_count; i++)
        if (replica->members[i].id.node == id->node && replica->members[i].id.pid == id->pid)
            return &replica->members[i];
    return NULL;
}

static void tell_quorum(struct replica *replica, bool quorate) {
    if (replica->told_quorum == quorate)
        return;
    replica->told_quorum = quorate;
    replica->port.quorum(replica->port.context, quorate);
}

/* Nodes whose dvkd is no (included) member any more are down at once. */
static void drop_lost_nodes(struct replica *replica, bool all) {
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++) {
        if (!replica->up[node])
            continue;
        const struct member *member = find_member(replica, &(struct replica_member){node, replica->up[node]});
        if (!all && member && !member->excluded)
            continue;
        replica->up[node] = 0;
        replica->status[node] = (struct replica_status){0};
        replica->port.node(replica->port.context, node, false);
    }
}

static void stop_confirming(struct replica *replica);

static void go_alone(struct replica *replica) {
    record(RECORD_VIEW_ALONE, 0, 0);
    stop_confirming(replica);
    loop_timer_cancel(replica->hello_timer);
    replica->hello_timer = NULL;
    replica->state = REPLICA_ALONE;
    replica->snapshot_from = 0;
    drop_lost_nodes(replica, true);
    tell_quorum(replica, false);
    fail_proposals_soon(replica);
}

static json_t *member_list(const struct replica *replica) {
    json_t *list = json_array();
    for (size_t i = 0; i < replica->member_count; i++) {
        json_array_append_new(list, json_integer(replica->members[i].id.node));
        json_array_append_new(list, json_integer(replica->members[i].id.pid));
    }
    return list;
}

/* The lowest of the members: it opens the rounds of hellos. NULL: all are excluded. */
static const struct member *coordinator(const struct replica *replica) {
    for (size_t i = 0; i < replica->member_count; i++)
        if (!replica->members[i].excluded)
            return &replica->members[i];
    return NULL;
}

static bool is_silent(const struct replica *replica, const struct member *member) {
    return !member->excluded && (replica->round[0] ? !member->greeted : member == coordinator(replica));
}

/*
 * Someone keeps the others waiting: put it out. The first of those who are not silent says so; if that one hangs as
 * well, the second, and so on.
 */
static void hello_timer_fn(void *context) {
    struct replica *replica = context;
    replica->hello_timer = NULL;
    cleanup_json json_t *silent = json_array();
    unsigned others = 0;
    bool our_turn = false;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        if (is_silent(replica, member))
            json_array_append_new(silent, json_integer(member->id.node));
        else if (!member->excluded && others++ == replica->silences)
            our_turn = member->id.node == replica->us.node;
    }
    replica->silences++;
    if (json_array_size(silent) && our_turn)
        send_json(replica, json_pack("{s:s, s:o, s:O}", "type", "exclude", "members", member_list(replica), "nodes",
                                     silent));
    loop_timer_add(replica->loop, REPLICA_HELLO_MS, hello_timer_fn, replica, &replica->hello_timer);
}

static void send_start(struct replica *replica) {
    const struct member *first = coordinator(replica);
    if (!first || first->id.node != replica->us.node)
        return;
    uint64_t view = replica->config->promised > replica->config->view ? replica->config->promised : replica->config->view;
    char round[64];
    snprintf(round, sizeof round, "%u.%u.%" PRIu64 ".%" PRIu64, replica->us.node, replica->us.pid,
             ++replica->last_round, loop_now_ms());
    send_json(replica, json_pack("{s:s, s:o, s:s, s:I}", "type", "start", "members", member_list(replica), "round", round,
                                 "view", (json_int_t)view + 1));
}

static void stop_confirming(struct replica *replica) {
    loop_timer_cancel(replica->confirm_timer);
    replica->confirm_timer = NULL;
}

static void start_sync(struct replica *replica) {
    stop_confirming(replica);
    replica->state = REPLICA_SYNCING;
    replica->snapshot_from = 0;
    json_decref(replica->snapshot);
    replica->snapshot = NULL;
    replica->round[0] = 0;
    replica->silences = 0;
    for (size_t i = 0; i < replica->member_count; i++) {
        replica->members[i].greeted = false;
        replica->members[i].applied = 0;
    }
    send_start(replica);
    loop_timer_cancel(replica->hello_timer);
    replica->hello_timer = NULL;
    loop_timer_add(replica->loop, REPLICA_HELLO_MS, hello_timer_fn, replica, &replica->hello_timer);
}

static int compare_members(const void *a, const void *b) {
    const struct replica_member *x = &((const struct member *)a)->id, *y = &((const struct member *)b)->id;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

void replica_view(struct replica *replica, const struct replica_member *members, size_t count, bool quorate) {
    members_clear(replica);
    replica->members = calloc(count ? count : 1, sizeof *replica->members);
    if (!replica->members) {
        log_error("out of memory");
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        if (members[i].node == 0 || members[i].node > DVK_MAX_NODE) {
            log_warning("node %u is ignored: ids are 1 to %u", members[i].node, DVK_MAX_NODE);
            continue;
        }
        replica->members[replica->member_count++].id = members[i];
        if (members[i].node == replica->self.id)
            replica->us = members[i];
    }
    /* the list is compared between nodes as it stands */
    qsort(replica->members, replica->member_count, sizeof *replica->members, compare_members);
    record(RECORD_VIEW_CHANGE, 0, replica->member_count, quorate);
    replica->quorate = quorate;
    drop_lost_nodes(replica, false);
    if (quorate)
        start_sync(replica);
    else
        go_alone(replica);
}

void replica_quorum(struct replica *replica, bool quorate) {
    if (replica->quorate == quorate)
        return;
    replica->quorate = quorate;
    if (!quorate)
        go_alone(replica);
    else if (replica->member_count)
        start_sync(replica);
}

void replica_disconnected(struct replica *replica) {
    members_clear(replica);
    replica->quorate = false;
    go_alone(replica);
}

/* ---- agreeing ---- */

static int compare_states(const struct member *a, const struct member *b) {
    if (a->view != b->view)
        return a->view > b->view ? 1 : -1;
    if (a->epoch != b->epoch)
        return a->epoch > b->epoch ? 1 : -1;
    if (a->digest != b->digest)
        return a->id.node < b->id.node ? 1 : -1; /* cannot be told apart: any rule that all share will do */
    return 0;
}

static void save_all(struct replica *replica) {
    if (replica->store && store_write_all(replica->store, replica->config) < 0)
        replica->port.broken(replica->port.context);
}

/* End those of our proposals that every member has applied. */
static void check_confirmed(struct replica *replica) {
    uint64_t everywhere = replica->config->epoch;
    for (size_t i = 0; replica->member_count > 1 && i < replica->member_count; i++)
        if (!replica->members[i].excluded && replica->members[i].applied < everywhere)
            everywhere = replica->members[i].applied;
    struct proposal *proposal;
    bool waiting = false;
    struct list confirmed;
    list_init(&confirmed);
    list_for_each(proposal, &replica->proposals, link) {
        if (!proposal->epoch || proposal->epoch > everywhere) {
            waiting |= proposal->epoch != 0;
            continue;
        }
        list_remove(&proposal->link);
        list_append(&confirmed, &proposal->link);
    }
    if (!waiting)
        stop_confirming(replica);
    if (replica->port.confirmed)
        replica->port.confirmed(replica->port.context, everywhere);
    while ((proposal = list_first(&confirmed, struct proposal, link)))
        proposal_end(proposal, 0, NULL);
}

static void confirm_timer_fn(void *context) {
    struct replica *replica = context;
    replica->confirm_timer = NULL;
    if (replica->state == REPLICA_SYNCED)
        send_json(replica, json_pack("{s:s, s:I}", "type", "resync", "view", (json_int_t)replica->config->view));
}

/* Tell the others how far we are, and wait for them if something of ours depends on it. */
static void tell_applied(struct replica *replica) {
    if (replica->member_count <= 1) {
        check_confirmed(replica);
        return;
    }
    send_json(replica, json_pack("{s:s, s:I, s:I}", "type", "applied", "view", (json_int_t)replica->config->view, "epoch",
                                 (json_int_t)replica->config->epoch));
    struct proposal *proposal;
    bool waiting = false;
    list_for_each(proposal, &replica->proposals, link) waiting |= proposal->epoch != 0;
    if (waiting && !replica->confirm_timer)
        loop_timer_add(replica->loop, REPLICA_HELLO_MS, confirm_timer_fn, replica, &replica->confirm_timer);
}

static bool incarnation_is_member(void *context, uint32_t node, int64_t incarnation) {
    const struct replica *replica = context;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        if (!member->excluded && member->id.node == node && member->incarnation == incarnation)
            return true;
    }
    return false;
}

static bool node_is_member(const void *context, uint32_t node) {
    const struct replica *replica = context;
    for (size_t i = 0; i < replica->member_count; i++)
        if (replica->members[i].id.node == node)
            return !replica->members[i].excluded;
    return false;
}

/* All have the same state: install the view in it. replaced: ours was another before. */
static void finish_sync(struct replica *replica, bool replaced) {
    loop_timer_cancel(replica->hello_timer);
    replica->hello_timer = NULL;
    replica->snapshot_from = 0;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        if (!member->excluded && config_add_node_json(replica->config, member->node) < 0)
            log_error("node %u describes itself wrongly", member->id.node);
    }
    replica->config->view = replica->round_view;
    replica->config->epoch++;
    config_slots_survive(replica->config, node_is_member, replica);
    config_places_survive(replica->config, incarnation_is_member, replica);
    objects_prune(&replica->config->objects, replica->config->epoch, incarnation_is_member, replica);
    record(RECORD_VIEW_INSTALL, 0, replica->config->view, replica->config->epoch, replica->member_count);
    save_all(replica);
    replica->state = REPLICA_SYNCED;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct replica_member *id = &replica->members[i].id;
        if (id->node == replica->self.id || replica->members[i].excluded || replica->up[id->node])
            continue;
        replica->up[id->node] = id->pid;
        replica->port.node(replica->port.context, id->node, true);
    }
    log_info("view %" PRIu64 " with %zu of the nodes", replica->config->view, replica->member_count);
    if (replica->port.installed)
        replica->port.installed(replica->port.context, replaced);
    tell_quorum(replica, true);
    replica->port.changed(replica->port.context, NULL);
    /* What we had applied is in the state that all agreed on, if that is ours: it waits until all have told that they
     * wrote it. If not, nobody can say: a node that was cut off may have seen other changes of the same view than we
     * did, and won by their number. */
    struct failure unknown;
    failure_set(&unknown, 0, "unavailable", "look whether it took effect",
                "the cluster's membership changed while the change was under way");
    struct list doubtful;
    list_init(&doubtful);
    struct proposal *proposal;
    list_for_each(proposal, &replica->proposals, link) {
        if (!proposal->epoch) {
            if (proposal->sent != replica->config->view) /* else it was proposed just now, by what the port was told */
                send_proposal(replica, proposal);
        } else if (!replaced) {
            proposal->epoch = replica->config->epoch;
        } else {
            list_remove(&proposal->link);
            list_append(&doubtful, &proposal->link);
        }
    }
    tell_applied(replica);
    while ((proposal = list_first(&doubtful, struct proposal, link)))
        proposal_end(proposal, -EINPROGRESS, &unknown);
}

static void send_snapshot_objects(struct replica *replica, json_t *head, json_t *rows) {
    json_t *row, *part = json_object();
    const char *key;
    size_t bytes = 0;
    json_object_foreach(rows, key, row) {
        json_object_set(part, key, row);
        bytes += strlen(key) + json_dumpb(row, NULL, 0, JSON_COMPACT);
        if (bytes < SNAPSHOT_PART_BYTES)
            continue;
        json_object_set_new(head, "objects", part);
        send_json(replica, json_incref(head));
        part = json_object();
        bytes = 0;
    }
    json_object_set_new(head, "objects", part);
    json_object_set_new(head, "last", json_true());
    send_json(replica, json_incref(head));
}

/* The state in parts of bounded size, each an ordered message. */
static void send_snapshot(struct replica *replica) {
    cleanup_json json_t *whole = config_to_json(replica->config);
    json_t *head = json_pack("{s:s, s:s, s:O, s:O, s:O}", "type", "snapshot", "round", replica->round, "view",
                             json_object_get(whole, "view"), "epoch", json_object_get(whole, "epoch"), "last_dc",
                             json_object_get(whole, "last_dc"));
    json_object_set(head, "nodes", json_object_get(whole, "nodes"));
    const json_t *dcs = json_object_get(whole, "dcs");
    size_t next = 0, total = json_array_size(dcs);
    do {
        json_t *part = json_array();
        for (size_t bytes = 0; next < total && bytes < SNAPSHOT_PART_BYTES; next++) {
            json_t *dc = json_array_get(dcs, next);
            bytes += json_dumpb(dc, NULL, 0, JSON_COMPACT);
            json_array_append(part, dc);
        }
        json_object_set_new(head, "dcs", part);
        json_object_set_new(head, "last", json_false());
        send_json(replica, json_incref(head));
        json_object_set_new(head, "nodes", json_array()); /* only in the first part */
    } while (next < total);
    json_object_set_new(head, "dcs", json_array());
    send_snapshot_objects(replica, head, json_object_get(whole, "objects"));
    json_decref(head);
}

static void check_sync(struct replica *replica) {
    if (replica->state != REPLICA_SYNCING || replica->snapshot_from)
        return;
    const struct member *best = NULL;
    bool same = true;
    for (size_t i = 0; i < replica->member_count; i++) {
        const struct member *member = &replica->members[i];
        if (member->excluded)
            continue;
        if (!member->greeted)
            return;
        if (!best || compare_states(member, best) > 0) {
            same &= !best;
            best = member;
        } else if (compare_states(member, best) != 0) {
            same = false;
        }
    }
    if (!best)
        return;
    if (same) {
        finish_sync(replica, false);
        return;
    }
    /* A view was made without us: to its members we were lost, whether we have noticed or not. */
    if (best->view > replica->config->view)
        tell_quorum(replica, false);
    log_info("node %u sends the configuration (view %" PRIu64 ", epoch %" PRIu64 ")", best->id.node, best->view,
             best->epoch);
    replica->snapshot_from = best->id.node;
    if (best->id.node == replica->us.node)
        send_snapshot(replica);
}

/* Does the message belong to the members of now? */
static bool same_members(const struct replica *replica, const json_t *message) {
    cleanup_json json_t *ours = member_list(replica);
    return json_equal(ours, json_object_get(message, "members"));
}

/* Does it belong to the round of now? */
static bool same_round(const struct replica *replica, const json_t *message) {
    const char *round = field_string(message, "round");
    return replica->state == REPLICA_SYNCING && round && replica->round[0] && strcmp(round, replica->round) == 0;
}

/* Promise to take part in no lower view. False when we did promise so already. */
static bool promise(struct replica *replica, uint64_t view) {
    struct config *config = replica->config;
    if (view <= config->promised || view <= config->view)
        return false;
    config->promised = view;
    if (replica->store && store_write_promise(replica->store, config) < 0)
        replica->port.broken(replica->port.context);
    return true;
}

/* The first start in a view opens its round: all answer with a hello, which is sent in this view for certain. */
static void deliver_start(struct replica *replica, const struct member *member, const json_t *message) {
    const char *round = field_string(message, "round");
    json_int_t view = field_integer_or(message, "view", 1, COUNT_MAX, 0);
    if (replica->state != REPLICA_SYNCING || replica->round[0] || member != coordinator(replica) || !round ||
        !*round || strlen(round) >= sizeof replica->round || view == 0 || !same_members(replica, message))
        return;
    strcpy(replica->round, round);
    replica->round_view = (uint64_t)view;
    record(RECORD_VIEW_ROUND, 0, member->id.node, (uint64_t)view, replica->config->promised);
    bool accepted = promise(replica, (uint64_t)view);
    char digest[20];
    snprintf(digest, sizeof digest, "%016" PRIx64, config_digest(replica->config));
    send_json(replica, json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:s, s:o, s:I}", "type", "hello", "round", round, "view",
                                 (json_int_t)replica->config->view, "epoch", (json_int_t)replica->config->epoch,
                                 "promised", (json_int_t)replica->config->promised, "accepted", accepted, "digest",
                                 digest, "node", config_node_to_json(&replica->self), "incarnation",
                                 (json_int_t)replica->incarnation));
}

/* A member has promised a higher view: the round is void, for all of us. */
static void deliver_refusal(struct replica *replica, const json_t *message) {
    json_int_t promised = field_integer_or(message, "promised", 1, COUNT_MAX, 1);
    replica->round[0] = 0;
    for (size_t i = 0; i < replica->member_count; i++)
        replica->members[i].greeted = false;
    promise(replica, (uint64_t)promised);
    send_start(replica);
}

static void deliver_hello(struct replica *replica, struct member *member, const json_t *message) {
    json_int_t view = field_integer_or(message, "view", 0, COUNT_MAX, -1);
    json_int_t epoch = field_integer_or(message, "epoch", 0, COUNT_MAX, -1);
    const char *digest = field_string(message, "digest");
    json_t *node = json_object_get(message, "node");
    if (!same_round(replica, message))
        return;
    if (view < 0 || epoch < 0 || !digest ||
        field_integer_or(node, "id", 1, DVK_MAX_NODE, 0) != member->id.node) {
        log_warning("node %u sent a wrong greeting", member->id.node);
        return;
    }
    record(RECORD_VIEW_HELLO, 0, member->id.node, (uint64_t)view, (uint64_t)epoch);
    if (!field_true(message, "accepted")) {
        deliver_refusal(replica, message);
        return;
    }
    member->view = (uint64_t)view;
    member->epoch = (uint64_t)epoch;
    member->digest = strtoull(digest, NULL, 16);
    member->greeted = true;
    json_int_t incarnation = 0;
    field_integer(message, "incarnation", &incarnation);
    member->incarnation = incarnation;
    json_decref(member->node);
    member->node = json_incref(node);
    check_sync(replica);
}

static void deliver_snapshot(struct replica *replica, struct member *member, const json_t *message) {
    if (!same_round(replica, message) || member->id.node != replica->snapshot_from)
        return;
    if (!replica->snapshot) {
        replica->snapshot = json_deep_copy(message);
    } else {
        json_array_extend(json_object_get(replica->snapshot, "dcs"), json_object_get(message, "dcs"));
        json_t *objects = json_object_get(replica->snapshot, "objects"), *more = json_object_get(message, "objects");
        if (objects && more)
            json_object_update(objects, more);
        else if (more)
            json_object_set(replica->snapshot, "objects", more);
    }
    if (!field_true(message, "last"))
        return;
    struct config *config = NULL;
    /* the sender takes its own, too: then all have the same by construction */
    int result = config_from_json(replica->snapshot, &config);
    json_decref(replica->snapshot);
    replica->snapshot = NULL;
    if (result == 0 && (config->view > COUNT_MAX || config->epoch > COUNT_MAX)) {
        config_free(config);
        result = -EINVAL;
    }
    if (result < 0) {
        log_error("the configuration that node %u sent is not valid", member->id.node);
        replica->port.broken(replica->port.context);
        return;
    }
    bool replaced = config_digest(config) != config_digest(replica->config);
    config->promised = replica->config->promised;
    config_free(replica->config);
    replica->config = config;
    finish_sync(replica, replaced);
}

static void deliver_exclude(struct replica *replica, const json_t *message) {
    if (replica->state != REPLICA_SYNCING || replica->snapshot_from || !same_members(replica, message))
        return;
    size_t i;
    const json_t *node;
    bool us = false;
    json_array_foreach(json_object_get(message, "nodes"), i, node) {
        for (size_t k = 0; k < replica->member_count; k++)
            if (replica->members[k].id.node == (uint32_t)json_integer_value(node) &&
                is_silent(replica, &replica->members[k])) {
                log_warning("node %u does not answer; the view goes on without it", replica->members[k].id.node);
                record(RECORD_NODE_EXCLUDED, 0, replica->members[k].id.node);
                replica->members[k].excluded = true;
                us |= replica->members[k].id.node == replica->us.node;
            }
    }
    drop_lost_nodes(replica, false);
    if (us) {
        go_alone(replica);
        replica->port.excluded(replica->port.context);
    } else if (!replica->round[0]) {
        send_start(replica); /* if that is up to us now */
    } else {
        check_sync(replica);
    }
}

static struct proposal *find_proposal(struct replica *replica, const struct member *from, json_int_t sequence) {
    struct proposal *proposal;
    list_for_each(proposal, &replica->proposals, link) if (from->id.node == replica->us.node &&
                                                           proposal->sequence == (uint64_t)sequence) return proposal;
    return NULL;
}

static void deliver_change(struct replica *replica, const struct member *member, const json_t *message) {
    json_int_t view, sequence;
    const json_t *change = json_object_get(message, "change");
    if (!field_integer(message, "view", &view) || !field_integer(message, "sequence", &sequence) || !change)
        return;
    if (replica->state != REPLICA_SYNCED || (uint64_t)view != replica->config->view)
        return; /* void: see the head of replica.h */
    struct config_effect effect;
    struct failure failure = {0};
    int result = config_apply(replica->config, change, &effect, &failure);
    record(RECORD_APPLY, 0, member->id.node, (uint64_t)sequence, replica->config->epoch, (uint64_t)result);
    if (result == 0 && replica->store && store_write_effect(replica->store, replica->config, &effect) < 0) {
        replica->port.broken(replica->port.context);
        return;
    }
    if (result == 0)
        replica->port.changed(replica->port.context, &effect);
    struct proposal *found = find_proposal(replica, member, sequence);
    if (result < 0) {
        if (found)
            proposal_end(found, result, &failure);
        return;
    }
    if (found) {
        found->epoch = replica->config->epoch;
        found->effect = effect;
    }
    tell_applied(replica);
}

static void deliver_cast(struct replica *replica, const struct member *member, const json_t *message) {
    json_int_t view, sequence;
    const json_t *payload = json_object_get(message, "cast");
    if (!field_integer(message, "view", &view) || !field_integer(message, "sequence", &sequence) || !payload ||
        replica->state != REPLICA_SYNCED || (uint64_t)view != replica->config->view)
        return;
    struct proposal *proposal = find_proposal(replica, member, sequence);
    if (replica->port.cast)
        replica->port.cast(replica->port.context, member->id.node, payload);
    if (proposal)
        proposal_end(proposal, 0, NULL);
}

static void deliver_applied(struct replica *replica, struct member *member, const json_t *message) {
    json_int_t view, epoch;
    if (replica->state != REPLICA_SYNCED || !field_integer(message, "view", &view) ||
        !field_integer(message, "epoch", &epoch) || (uint64_t)view != replica->config->view)
        return;
    if ((uint64_t)epoch > member->applied)
        member->applied = (uint64_t)epoch;
    check_confirmed(replica);
}

/* A member does not confirm: all greet each other anew, and who does not is put out. */
static void deliver_resync(struct replica *replica, const json_t *message) {
    json_int_t view;
    if (replica->state == REPLICA_SYNCED && field_integer(message, "view", &view) &&
        (uint64_t)view == replica->config->view)
        start_sync(replica);
}

static void deliver_status(struct replica *replica, const struct member *member, const json_t *message) {
    if (member->id.node == replica->self.id)
        return;
    replica->status[member->id.node] =
        (struct replica_status){.cells = (uint32_t)field_integer_or(message, "cells", 0, DVK_MAX_DC, 0),
                                .load = json_number_value(json_object_get(message, "load"))};
}

void replica_deliver(struct replica *replica, const struct replica_member *from, const char *text, size_t len) {
    struct member *member = find_member(replica, from);
    if (!member || member->excluded)
        return;
    json_error_t error;
    cleanup_json json_t *message = json_loadb(text, len, 0, &error);
    const char *type = field_string(message, "type");
    if (!type || field_integer_or(message, "version", 1, 1 << 20, 0) != PROTOCOL_VERSION) {
        log_warning("node %u sent a message that is not understood (another version of dvkd?)", from->node);
        return;
    }
    if (strcmp(type, "change") == 0)
        deliver_change(replica, member, message);
    else if (strcmp(type, "cast") == 0)
        deliver_cast(replica, member, message);
    else if (strcmp(type, "status") == 0)
        deliver_status(replica, member, message);
    else if (strcmp(type, "applied") == 0)
        deliver_applied(replica, member, message);
    else if (strcmp(type, "resync") == 0)
        deliver_resync(replica, message);
    else if (strcmp(type, "start") == 0)
        deliver_start(replica, member, message);
    else if (strcmp(type, "hello") == 0)
        deliver_hello(replica, member, message);
    else if (strcmp(type, "snapshot") == 0)
        deliver_snapshot(replica, member, message);
    else if (strcmp(type, "exclude") == 0)
        deliver_exclude(replica, message);
}
