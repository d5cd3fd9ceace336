/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker, the cells and the replica ask of each other. */
#include "dvkd/dvkd.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"
#include "dvkd/cluster.h"
#include "dvkd/corosync.h"
#include "dvkd/places.h"
#include "dvkd/run.h"
#include "dvkd/services.h"
#include "dvkd/slots.h"

#include <dvk/error.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *dvkd_node_name(struct dvkd *dvkd, uint32_t node) {
    static char text[24];
    if (node <= DVK_MAX_NODE && dvkd_config(dvkd)->nodes[node])
        return dvkd_config(dvkd)->nodes[node]->name;
    snprintf(text, sizeof text, "node %u", node);
    return text;
}

/* ---- broker ---- */

static int broker_nodes_of(void *context, uint32_t id, const uint32_t **nodes, uint32_t *count) {
    const struct config_dc *dc = id <= DVK_MAX_DC ? dvkd_config(context)->dcs[id] : NULL;
    if (!dc || !config_dc_is_live(dc))
        return -DVK_ENODC;
    /* programs of a node that is cut off are dead to the others; cells are ended, these are refused */
    if (config_dc_is_bare(dc) && dc->node_count > 1 && !replica_is_quorate(((struct dvkd *)context)->replica))
        return -DVK_ENOQUORUM;
    *nodes = dc->nodes;
    *count = dc->node_count;
    return 0;
}

static int broker_find_dc(void *context, const char *name, uint32_t *id) {
    const struct config *config = dvkd_config(context);
    const struct config_dc *dc = config_dc_by_name(config, name);
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    if (!dc && name[0] >= '1' && name[0] <= '9' && *end == 0 && number <= DVK_MAX_DC)
        dc = config->dcs[number];
    if (!dc || !config_dc_is_live(dc))
        return -DVK_ENODC;
    *id = dc->id;
    return 0;
}

static bool broker_node_is_up(void *context, uint32_t node) {
    return replica_node_is_up(((struct dvkd *)context)->replica, node);
}

static int broker_cell_start(void *context, uint32_t id) {
    struct dvkd *dvkd = context;
    const struct config_dc *dc = dvkd_config(dvkd)->dcs[id];
    struct cell *cell;
    struct failure failure;
    if (!dc)
        return -DVK_ENODC;
    if (config_dc_is_bare(dc))
        return -DVK_ENOTBOUND; /* it has no VOS */
    int result = dvkd_cell_get(dvkd, dc, &cell, &failure);
    if (result == 0 && cell->state == CELL_READY)
        return -DVK_ENOTBOUND; /* it is there and does not offer that service */
    if (result < 0)
        log_debug("no cell for %s: %s", dc->name, failure.message);
    return result;
}

static void broker_cell_event(void *context, uint32_t dc, const json_t *event) {
    cells_on_event(&((struct dvkd *)context)->cells, dc, event);
}

static void broker_proxy_event(void *context, const json_t *event) {
    cluster_proxy_event(((struct dvkd *)context)->members, event);
}

static int broker_copier_start(void *context) {
    return copier_start(&((struct dvkd *)context)->copier);
}

static void broker_client_gone(void *context, struct client *client) {
    struct dvkd *dvkd = context;
    dvkd_client_service_gone(client);
    places_client_gone(dvkd->places, client);
    const struct context *gone = client_context(client);
    const struct cell *cell = gone->role == CONTEXT_CELL ? cells_find(&dvkd->cells, gone->dc) : NULL;
    records_client_gone(&dvkd->records, client, !dvkd->stopping && !(cell && cell->asked));
    cells_on_client_gone(&dvkd->cells, client);
    proxy_on_client_gone(&dvkd->proxy, client);
    copier_on_client_gone(&dvkd->copier, client);
}

static void broker_client_record(void *context, struct client *client, int fd) {
    struct dvkd *dvkd = context;
    const struct context *giver = client_context(client);
    char name[24] = "proxy";
    if (giver->role == CONTEXT_CELL)
        snprintf(name, sizeof name, "vos-%u", giver->dc);
    records_take(&dvkd->records, client, name, fd);
}

const struct broker_host dvkd_broker_host = {
    .dc_nodes = broker_nodes_of,
    .node_is_up = broker_node_is_up,
    .cell_start = broker_cell_start,
    .cell_event = broker_cell_event,
    .client_gone = broker_client_gone,
    .proxy_event = broker_proxy_event,
    .slot_owner = slots_owner,
    .slots_is_ours = slots_is_ours,
    .slots_take = slots_take,
    .slots_offered = slots_offered,
    .slots_watched = slots_watched,
    .place_find = places_find,
    .place_reached = places_reached,
    .place_packet = places_packet,
    .place_unbound = places_unbound,
    .service = dvkd_client_service,
    .endpoint_gone = dvkd_endpoint_gone,
    .copier_start = broker_copier_start,
    .dc_find = broker_find_dc,
    .client_record = broker_client_record,
    .dc_info = dvkd_dc_info,
    .changes = dvkd_changes,
};

/* ---- cells ---- */

static void cell_ready(void *context, struct cell *cell) {
    struct dvkd *dvkd = context;
    broker_retry(&dvkd->broker, cell->dc, 0);
    /* whatever still waits is for a service that this cell does not offer */
    broker_retry(&dvkd->broker, cell->dc, -DVK_ENOTBOUND);
}

static void cell_ended(void *context, struct cell *cell, bool expected, const char *reason) {
    struct dvkd *dvkd = context;
    const struct config_dc *dc = dvkd_config(dvkd)->dcs[cell->dc];
    char text[320];
    snprintf(text, sizeof text, "its cell on node %s ended: %s", dvkd->options.node, reason);
    broker_retry(&dvkd->broker, cell->dc, -DVK_EDEADDST);
    bool live = dc && dc->serial == cell->serial && config_dc_is_live(dc);
    /* we were cut off, although we may be back by now; unless it is the primary that the quorate rest has lost */
    bool stranded = live && expected && !dvkd->stopping &&
                    (!replica_is_quorate(dvkd->replica) || replica_node_is_up(dvkd->replica, dc->primary));
    if (stranded)
        snprintf(text, sizeof text, "node %s was parted from the rest of the cluster", dvkd->options.node);
    else if (expected)
        snprintf(text, sizeof text, "%s",
                 dc && dc->reason[0] ? dc->reason : dc && dc->state == DC_EXITED ? "its first program ended"
                                                                                 : "the container was removed");
    sessions_lost(dvkd, cell->dc, text);
    if (stranded && dvkd->runs[cell->dc])
        run_let_go(dvkd->runs[cell->dc], text);
    if (!expected || cell->terminated)
        files_remove_cgroup(dvkd, cell->dc);
    const struct run *run = dvkd->runs[cell->dc]; /* one that could not be started is being removed already */
    if (!expected && dc && dc->serial == cell->serial && !(run && run->aborted))
        dvkd_fail_dc(dvkd, dc, "%s", text);
    reconcile_soon(dvkd);
}

static void cell_event(void *context, struct cell *cell, const json_t *event) {
    json_int_t pid;
    if (strcmp(field_string(event, "event"), "exited") == 0 && field_integer(event, "pid", &pid))
        session_exited(context, cell->dc, (int)pid, (int)field_integer_or(event, "status", 0, 0xffff, 0));
    else
        log_debug("an event of the cell of %s is not known: %s", cell->dc_name, field_string(event, "event"));
}

const struct cells_host dvkd_cells_host = {.ready = cell_ready, .ended = cell_ended, .event = cell_event};

/* ---- proxy ---- */

/* Our messages and the answers to them may be lost: to the others we are a node that was lost, and come back as a new one. */
void dvkd_proxy_lost(void *context) {
    struct dvkd *dvkd = context;
    if (dvkd->corosync && !dvkd->stopping)
        corosync_rejoin(dvkd->corosync);
}

/* ---- replica ---- */

struct loopback {
    struct list link;
    size_t len;
    char text[];
};

static const struct replica_member *own_member(const struct dvkd *dvkd) {
    static struct replica_member us;
    us = (struct replica_member){dvkd->options.id, 1};
    return &us;
}

static void deliver_loopback(void *context) {
    struct dvkd *dvkd = context;
    struct loopback *message;
    dvkd->loopback_timer = NULL;
    while ((message = list_first(&dvkd->loopback, struct loopback, link))) {
        list_remove(&message->link);
        replica_deliver(dvkd->replica, own_member(dvkd), message->text, message->len);
        free(message);
    }
}

static void replica_send(void *context, const char *text, size_t len) {
    struct dvkd *dvkd = context;
    if (dvkd->options.cluster) {
        if (dvkd->corosync)
            corosync_send(dvkd->corosync, text, len);
        return;
    }
    struct loopback *message = malloc(sizeof *message + len);
    if (!message || (!dvkd->loopback_timer &&
                     loop_timer_add(dvkd->loop, 0, deliver_loopback, dvkd, &dvkd->loopback_timer) < 0)) {
        log_error("out of memory");
        abort();
    }
    message->len = len;
    memcpy(message->text, text, len);
    list_append(&dvkd->loopback, &message->link);
}

void dvkd_start_alone(struct dvkd *dvkd) {
    replica_view(dvkd->replica, own_member(dvkd), 1, true);
    deliver_loopback(dvkd); /* agreed with ourselves before anyone can ask */
}

static void replica_changed(void *context, const struct config_effect *effect) {
    struct dvkd *dvkd = context;
    cluster_changed(dvkd->members, effect);
    if (effect && effect->dc && effect->removed)
        dvkd->remove_files[effect->dc] = true;
    slots_changed(dvkd->slots, effect);
    places_changed(dvkd->places, effect);
    services_changed(dvkd->services, effect);
    if (effect && !effect->dc && !effect->node)
        return; /* objects alone: nothing to start or end */
    reconcile_soon(dvkd);
}

static void replica_node(void *context, uint32_t node, bool up) {
    struct dvkd *dvkd = context;
    const struct config_node *known = dvkd_config(dvkd)->nodes[node];
    record(up ? RECORD_NODE_UP : RECORD_NODE_DOWN, 0, node);
    log_info("node %s is %s", dvkd_node_name(dvkd, node), up ? "up" : "down");
    broker_node_change(&dvkd->broker, node, up, known ? known->address : "");
    reconcile_soon(dvkd);
}

/* Not left to reconcile: we may be back in the cluster before it runs. */
static void cut_cells(struct dvkd *dvkd) {
    struct cell *cell;
    list_for_each(cell, &dvkd->cells.list, link) {
        const struct config_dc *dc = dvkd_config(dvkd)->dcs[cell->dc];
        if (!dc || dc->node_count > 1)
            cell_cut(cell);
    }
}

/* The same for the programs of DCs without cells. */
static void cut_programs(struct dvkd *dvkd) {
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++) {
        const struct config_dc *dc = dvkd_config(dvkd)->dcs[id];
        if (dc && config_dc_is_bare(dc) && config_dc_is_live(dc) && dc->node_count > 1)
            broker_dc_cut(&dvkd->broker, id);
    }
}

static void replica_quorum_changed(void *context, bool quorate) {
    struct dvkd *dvkd = context;
    dvkd->quorate = quorate;
    record(RECORD_QUORUM, 0, quorate);
    log_info(quorate ? "this node has quorum" : "this node has no quorum");
    slots_quorum(dvkd->slots, quorate);
    places_quorum(dvkd->places, quorate);
    services_quorum(dvkd->services, quorate);
    if (!quorate) {
        cut_cells(dvkd);
        cut_programs(dvkd);
    }
    reconcile_soon(dvkd);
}

static void replica_excluded(void *context) {
    struct dvkd *dvkd = context;
    log_warning("the other nodes have put this one out, as it did not answer: joining anew");
    if (dvkd->corosync)
        corosync_rejoin(dvkd->corosync);
}

static void replica_broken(void *context) {
    struct dvkd *dvkd = context;
    log_error("the configuration cannot be written to %s/config.db: dvkd ends", dvkd->options.state);
    loop_quit(dvkd->loop, 1);
}

static void replica_cast_came(void *context, uint32_t node, const json_t *payload) {
    struct dvkd *dvkd = context;
    if (!slots_cast(dvkd->slots, node, payload) && !places_cast(dvkd->places, node, payload))
        dvkd_cast(context, node, payload);
}

const struct replica_port dvkd_replica_port = {
    .send = replica_send,
    .changed = replica_changed,
    .node = replica_node,
    .quorum = replica_quorum_changed,
    .excluded = replica_excluded,
    .broken = replica_broken,
    .cast = replica_cast_came,
    .confirmed = dvkd_confirmed,
    .installed = dvkd_installed,
};
