/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dc.ps: the processes of one DC, or of all that have a cell here. A running DC without a cell on this node is listed
 * in "elsewhere" ([{dc, node, run}]): the command asks there.
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/api.h"

#include <stdlib.h>
#include <string.h>

#define PS_MS 10000u

struct ps {
    struct connection *connection; /* NULL: gone */
    struct dvkd *dvkd;
    json_t *processes, *elsewhere;
    unsigned waiting;
    struct failure failure; /* of a DC that did not answer */
    bool single;
};
struct ps_item {
    struct ps *ps;
    uint32_t dc;
    char name[CONFIG_NAME_MAX + 1];
};

static void ps_gone(void *context) { ((struct ps *)context)->connection = NULL; }

static void ps_check(struct ps *ps) {
    if (ps->waiting)
        return;
    if (ps->connection && ps->single && ps->failure.code[0])
        connection_fail(ps->connection, &ps->failure);
    else if (ps->connection)
        connection_succeed(ps->connection,
                           json_pack("{s:O, s:O}", "processes", ps->processes, "elsewhere", ps->elsewhere));
    json_decref(ps->processes);
    json_decref(ps->elsewhere);
    free(ps);
}

static void ps_answered(void *context, int status, const json_t *answer) {
    struct ps_item *item = context;
    struct ps *ps = item->ps;
    const json_t *list = json_object_get(answer, "processes");
    json_t *process;
    json_int_t error = 0;
    size_t i;
    if (status == 0 && field_integer(answer, "errno", &error))
        status = (int)error;
    if (status)
        api_control_failure(status, &ps->failure);
    json_array_foreach(list, i, process) {
        if (!json_is_object(process))
            continue;
        json_object_set_new(process, "dc", json_string(item->name));
        json_int_t node;
        if (field_integer(process, "node", &node) && node > 0)
            json_object_set_new(process, "node", json_string(dvkd_node_name(ps->dvkd, (uint32_t)node)));
        json_array_append(ps->processes, process);
    }
    ps->waiting--;
    ps_check(ps);
    free(item);
}

static void ps_ask(struct ps *ps, const struct config_dc *dc) {
    struct cell *cell = cells_find(&ps->dvkd->cells, dc->id);
    if (!cell || cell->state != CELL_READY || !cell->client) {
        const struct config_node *node = ps->dvkd->options.id == dc->primary
                                             ? NULL
                                             : dvkd_config(ps->dvkd)->nodes[dc->primary];
        if (node && replica_node_is_up(ps->dvkd->replica, node->id))
            json_array_append_new(ps->elsewhere,
                                  json_pack("{s:s, s:s, s:s}", "dc", dc->name, "node", node->name, "run", node->run));
        return;
    }
    struct ps_item *item = calloc(1, sizeof *item);
    cleanup_json json_t *control = json_pack("{s:s, s:b}", "op", "ps", "all", 1);
    if (!item)
        return;
    item->ps = ps;
    item->dc = dc->id;
    strcpy(item->name, dc->name);
    ps->waiting++;
    broker_control(cell->client, control, NULL, 0, PS_MS, ps_answered, item, NULL);
}

void api_dc_ps(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const json_t *name = json_object_get(request, "dc");
    const struct config_dc *only = NULL;
    if (name && !json_is_null(name)) {
        only = api_find_vos(connection, request);
        if (!only)
            return;
        struct cell *cell = cells_find(&dvkd->cells, only->id);
        if (only->state == DC_RUNNING && !(cell && cell->state == CELL_READY) && only->primary != dvkd->options.id) {
            connection_redirect(connection, only->primary);
            return;
        }
    }
    struct ps *ps = calloc(1, sizeof *ps);
    if (!ps) {
        log_error("out of memory");
        abort();
    }
    *ps = (struct ps){.connection = connection,
                      .dvkd = dvkd,
                      .processes = json_array(),
                      .elsewhere = json_array(),
                      .waiting = 1,
                      .single = only != NULL};
    connection_on_gone(connection, ps_gone, ps);
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++) {
        const struct config_dc *dc = dvkd_config(dvkd)->dcs[id];
        if (dc && dc->state == DC_RUNNING && !config_dc_is_bare(dc) && (!only || dc == only))
            ps_ask(ps, dc);
    }
    ps->waiting--;
    ps_check(ps);
}
