/* SPDX-License-Identifier: Apache-2.0 */
/* dc.ls, dc.inspect, dc.resize, dc.kill, dc.rm: what concerns a DC as a whole. */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/api.h"

#include <dvk/error.h>
#include <dvk/dvk.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_MS 10000u
#define REMOVAL_MS 15000u

const struct config_dc *api_find_dc(struct connection *connection, const json_t *request) {
    const struct config *config = dvkd_config(connection_dvkd(connection));
    const char *name = field_string(request, "dc");
    const struct config_dc *dc = NULL;
    json_int_t id;
    char number[24] = "";
    struct failure failure;
    if (name) {
        dc = config_dc_by_name(config, name);
    } else if (field_integer(request, "dc", &id)) {
        snprintf(number, sizeof number, "%lld", (long long)id);
        name = number;
        dc = id >= 1 && id <= DVK_MAX_DC ? config->dcs[id] : NULL;
    }
    if (dc)
        return dc;
    if (name)
        failure_set(&failure, 0, "no-such-dc", "dvs ls lists them", "there is no container named %s", name);
    else
        failure_set(&failure, 0, "bad-request", NULL, "no container was named");
    connection_fail(connection, &failure);
    return NULL;
}

const struct config_dc *api_find_vos(struct connection *connection, const json_t *request) {
    const struct config_dc *dc = api_find_dc(connection, request);
    struct failure failure;
    if (!dc || !config_dc_is_bare(dc))
        return dc;
    failure_set(&failure, 0, "dc-not-running", "dvs run starts containers that run programs",
                "container %s has no VOS: it is for programs that use libdvk", dc->name);
    connection_fail(connection, &failure);
    return NULL;
}

uint32_t api_other_node(struct dvkd *dvkd, const struct config_dc *dc) {
    if (dc->primary != dvkd->options.id && replica_node_is_up(dvkd->replica, dc->primary))
        return dc->primary;
    for (uint32_t i = 0; i < dc->node_count; i++)
        if (dc->nodes[i] != dvkd->options.id && replica_node_is_up(dvkd->replica, dc->nodes[i]))
            return dc->nodes[i];
    return dc->primary; /* down: the redirect says so */
}

void api_control_failure(int status, struct failure *failure) {
    if (status == ESRCH)
        failure_set(failure, 0, "no-such-process", "dvs ps lists them", "there is no such process in the container");
    else if (status == EPERM)
        failure_set(failure, 0, "unavailable", NULL, "the container's servers do not allow that");
    else if (status > 0)
        failure_set(failure, 0, status == EINVAL ? "bad-request" : "internal", NULL, "the container's servers say: %s",
                    strerror(status));
    else
        failure_set(failure, 0, "unavailable", NULL, "the container's servers did not answer: %s",
                    dvk_strerror(status));
}

/* ---- looking ---- */

static json_t *node_names(struct dvkd *dvkd, const struct config_dc *dc) {
    json_t *names = json_array();
    for (uint32_t i = 0; i < dc->node_count; i++)
        json_array_append_new(names, json_string(dvkd_node_name(dvkd, dc->nodes[i])));
    return names;
}

static json_t *dc_json(struct dvkd *dvkd, const struct config_dc *dc) {
    /* a node without quorum cannot know what became of it */
    bool known = !config_dc_is_live(dc) || dc->node_count == 1 || replica_is_quorate(dvkd->replica);
    json_t *json = json_pack("{s:I, s:s, s:s?, s:s, s:o, s:s, s:I, s:n, s:n, s:b}", "id", (json_int_t)dc->id, "name",
                             dc->name, "image", field_string(dc->spec, "image"), "state", known ? dc_state_name(dc->state) : "unknown",
                             "nodes", node_names(dvkd, dc), "primary", dvkd_node_name(dvkd, dc->primary), "created",
                             (json_int_t)dc->created, "exit_status", "processes", "bare", config_dc_is_bare(dc));
    if (dc->state == DC_EXITED)
        json_object_set_new(json, "exit_status", json_integer(dc->exit_status));
    if (!config_dc_is_live(dc))
        json_object_set_new(json, "processes", json_integer(0));
    if (dc->reason[0])
        json_object_set_new(json, "reason", json_string(dc->reason));
    return json;
}

/* dc.ls asks the cells that are here how many processes their DCs have; of others the number is null. */
struct listing {
    struct connection *connection; /* NULL: gone */
    json_t *containers;
    unsigned waiting;
};
struct listing_item {
    struct listing *listing;
    json_t *container; /* borrowed from listing->containers */
};

static void listing_check(struct listing *listing) {
    if (listing->waiting)
        return;
    if (listing->connection)
        connection_succeed(listing->connection, json_pack("{s:O}", "containers", listing->containers));
    json_decref(listing->containers);
    free(listing);
}

static void listing_counted(void *context, int status, const json_t *answer) {
    struct listing_item *item = context;
    const json_t *processes = json_object_get(answer, "processes");
    if (status == 0 && json_is_array(processes))
        json_object_set_new(item->container, "processes", json_integer((json_int_t)json_array_size(processes)));
    item->listing->waiting--;
    listing_check(item->listing);
    free(item);
}

static void listing_gone(void *context) { ((struct listing *)context)->connection = NULL; }

void api_dc_ls(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config *config = dvkd_config(dvkd);
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        log_error("out of memory");
        abort();
    }
    *listing = (struct listing){.connection = connection, .containers = json_array(), .waiting = 1};
    connection_on_gone(connection, listing_gone, listing);
    cleanup_json json_t *ps = json_pack("{s:s, s:b}", "op", "ps", "all", 1);
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++) {
        const struct config_dc *dc = config->dcs[id];
        if (!dc)
            continue;
        json_t *container = dc_json(dvkd, dc);
        json_array_append_new(listing->containers, container);
        struct cell *cell = cells_find(&dvkd->cells, id);
        struct listing_item *item =
            cell && cell->state == CELL_READY && cell->client ? malloc(sizeof *item) : NULL;
        if (!item)
            continue;
        *item = (struct listing_item){listing, container};
        listing->waiting++;
        broker_control(cell->client, ps, NULL, 0, 2000, listing_counted, item, NULL);
    }
    listing->waiting--;
    listing_check(listing);
}

void api_dc_inspect(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config_dc *dc = api_find_dc(connection, request);
    if (!dc)
        return;
    json_t *json = dc_json(dvkd, dc);
    json_object_update_missing(json, dc->spec);
    json_object_set_new(json, "serial", json_integer((json_int_t)dc->serial));
    if (!config_dc_is_bare(dc))
        json_object_set_new(json, "uid_base", json_integer(dc_uid_base(dc->id)));
    if (dc->primary == dvkd->options.id && !config_dc_is_bare(dc)) {
        char path[600];
        cells_path(&dvkd->options, dc->id, "upper", path, sizeof path);
        json_object_set_new(json, "upper", json_string(path));
        cells_path(&dvkd->options, dc->id, "log", path, sizeof path);
        json_object_set_new(json, "log", json_string(path));
    }
    connection_succeed(connection, json_pack("{s:o}", "container", json));
}

/* ---- control requests with a plain answer ---- */

struct relay {
    struct connection *connection; /* NULL: gone */
};

static void relay_gone(void *context) { ((struct relay *)context)->connection = NULL; }

static void relay_done(void *context, int status, const json_t *answer) {
    struct relay *relay = context;
    struct failure failure;
    json_int_t error = 0;
    if (status == 0 && field_integer(answer, "errno", &error) && error != 0)
        status = (int)error;
    if (relay->connection && status == 0) {
        connection_succeed(relay->connection, NULL);
    } else if (relay->connection) {
        api_control_failure(status, &failure);
        connection_fail(relay->connection, &failure);
    }
    free(relay);
}

/* The cell of a running DC on this node, ready. NULL: the connection was answered. */
static struct cell *ready_cell(struct connection *connection, const struct config_dc *dc) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    struct cell *cell = cells_find(&dvkd->cells, dc->id);
    if (dc->state != DC_RUNNING)
        failure_set(&failure, 0, "dc-not-running", NULL, "container %s is not running", dc->name);
    else if (cell && cell->state == CELL_READY && cell->client)
        return cell;
    else if (!cell && dc->primary != dvkd->options.id) {
        connection_redirect(connection, dc->primary);
        return NULL;
    } else
        failure_set(&failure, 0, "unavailable", "try again", "the cell of %s is not ready", dc->name);
    connection_fail(connection, &failure);
    return NULL;
}

static void relay_request(struct connection *connection, struct cell *cell, const json_t *control) {
    struct relay *relay = malloc(sizeof *relay);
    if (!relay) {
        log_error("out of memory");
        abort();
    }
    relay->connection = connection;
    connection_on_gone(connection, relay_gone, relay);
    broker_control(cell->client, control, NULL, 0, CONTROL_MS, relay_done, relay, NULL);
}

void api_dc_resize(struct connection *connection, const json_t *request) {
    struct failure failure;
    const struct config_dc *dc = api_find_vos(connection, request);
    struct cell *cell = dc ? ready_cell(connection, dc) : NULL;
    if (!cell)
        return;
    json_int_t pid = field_integer_or(request, "pid", 1, DVK_USER_SLOTS, 0);
    json_int_t rows = field_integer_or(request, "rows", 0, 65535, -1);
    json_int_t cols = field_integer_or(request, "cols", 0, 65535, -1);
    if (pid == 0 || rows < 0 || cols < 0) {
        failure_set(&failure, 0, "bad-request", NULL, "pid, rows and cols are needed");
        connection_fail(connection, &failure);
        return;
    }
    cleanup_json json_t *control =
        json_pack("{s:s, s:I, s:I, s:I}", "op", "resize", "pid", pid, "rows", rows, "cols", cols);
    relay_request(connection, cell, control);
}

void api_dc_kill(struct connection *connection, const json_t *request) {
    struct failure failure;
    const struct config_dc *dc = api_find_vos(connection, request);
    struct cell *cell = dc ? ready_cell(connection, dc) : NULL;
    if (!cell)
        return;
    const json_t *pid = json_object_get(request, "pid");
    json_int_t number = field_integer_or(request, "pid", 1, DVK_USER_SLOTS, 0);
    json_int_t signal_number = field_integer_or(request, "signal", 0, 64, -1);
    if (signal_number < 0 || (pid && !json_is_null(pid) && number == 0 && json_integer_value(pid) != 0)) {
        failure_set(&failure, 0, "bad-request", "signals are 0 to 64", "that is no valid process or signal");
        connection_fail(connection, &failure);
        return;
    }
    cleanup_json json_t *control =
        json_pack("{s:s, s:I, s:I}", "op", "kill", "pid", number, "signal", signal_number);
    relay_request(connection, cell, control);
}

/* ---- dc.rm ---- */

/* A dc.rm whose change was applied and that waits for what is on this node to go. */
struct removal_wait {
    struct list link; /* in dvkd.removal_waits */
    struct dvkd *dvkd;
    uint32_t dc;
    struct connection *connection;
    struct loop_timer *timer;
    bool ordered;
};

void api_removal_check(struct dvkd *dvkd, uint32_t dc);

static void removal_end(struct removal_wait *wait) {
    loop_timer_cancel(wait->timer);
    list_remove(&wait->link);
    free(wait);
}

static void removal_gone(void *context) { ((struct removal_wait *)context)->connection = NULL; }

static void removal_timeout(void *context) {
    struct removal_wait *wait = context;
    struct failure failure;
    wait->timer = NULL;
    failure_set(&failure, 0, "unavailable", "dvkd goes on trying", "the container's cell does not end");
    if (wait->connection)
        connection_fail(wait->connection, &failure);
    removal_end(wait);
}

static void removal_ordered(void *context, int status, const struct config_effect *effect,
                            const struct failure *failure) {
    struct removal_wait *wait = context;
    if (status < 0) {
        if (wait->connection)
            connection_fail(wait->connection, failure);
        removal_end(wait);
        return;
    }
    wait->ordered = true;
    loop_timer_add(wait->dvkd->loop, REMOVAL_MS, removal_timeout, wait, &wait->timer);
    reconcile_soon(wait->dvkd);
}

/* Called by reconcile: answer those whose DC is gone from this node. */
void api_removal_check(struct dvkd *dvkd, uint32_t dc) {
    struct removal_wait *wait;
    list_for_each(wait, &dvkd->removal_waits, link) {
        if (wait->dc != dc || !wait->ordered || dvkd->remove_files[dc] || cells_find(&dvkd->cells, dc))
            continue;
        if (wait->connection)
            connection_succeed(wait->connection, NULL);
        removal_end(wait);
    }
}

void api_dc_rm(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    const struct config_dc *dc = api_find_dc(connection, request);
    if (!dc)
        return;
    bool force = field_true(request, "force");
    if (!force && config_dc_is_live(dc)) {
        failure_set(&failure, 0, "dc-running",
                    config_dc_is_bare(dc) ? "dvs rm --force ends it" : "dvs kill ends it; dvs rm --force does both",
                    "container %s is running", dc->name);
        connection_fail(connection, &failure);
        return;
    }
    if (!force && !replica_node_is_up(dvkd->replica, dc->primary)) {
        failure_set(&failure, 0, "node-down", "wait until it is back, or leave them there with dvs rm --force",
                    "node %s, which holds the files of %s, is down", dvkd_node_name(dvkd, dc->primary), dc->name);
        connection_fail(connection, &failure);
        return;
    }
    struct removal_wait *wait = calloc(1, sizeof *wait);
    if (!wait) {
        log_error("out of memory");
        abort();
    }
    *wait = (struct removal_wait){.dvkd = dvkd, .dc = dc->id, .connection = connection};
    list_append(&dvkd->removal_waits, &wait->link);
    connection_on_gone(connection, removal_gone, wait);
    cleanup_json json_t *change = json_pack("{s:s, s:I, s:I, s:b}", "op", "dc-remove", "dc", (json_int_t)dc->id,
                                            "serial", (json_int_t)dc->serial, "force", force);
    replica_propose(dvkd->replica, change, removal_ordered, wait);
}
