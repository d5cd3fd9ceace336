/* SPDX-License-Identifier: Apache-2.0 */
/* dc.create: a DC without a VOS, for programs that use libdvk. */
#include "dvkd/run.h"

#include "common/cleanup.h"
#include "dvkd/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void connection_gone(void *context) { *(struct connection **)context = NULL; }

static void create_done(void *context, int status, const struct config_effect *effect, const struct failure *refusal) {
    struct connection **connection = context;
    if (*connection && status < 0)
        connection_fail(*connection, refusal);
    else if (*connection) {
        const struct config_dc *dc = dvkd_config(connection_dvkd(*connection))->dcs[effect->dc];
        connection_succeed(*connection, json_pack("{s:I, s:s}", "id", (json_int_t)effect->dc, "name", dc ? dc->name : ""));
    }
    free(connection);
}

void api_dc_create(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    bool here;
    cleanup_json json_t *nodes = NULL;
    if (run_check_name(dvkd, request, &failure) < 0 ||
        !(nodes = run_resolve_nodes(dvkd, json_object_get(request, "nodes"), &here, &failure))) {
        connection_fail(connection, &failure);
        return;
    }
    struct connection **waiting = malloc(sizeof(struct connection *));
    if (!waiting) {
        failure_set(&failure, -ENOMEM, "internal", NULL, "out of memory");
        connection_fail(connection, &failure);
        return;
    }
    *waiting = connection;
    connection_on_gone(connection, connection_gone, waiting);
    const char *name = field_string(request, "name");
    cleanup_json json_t *change =
        json_pack("{s:s, s:s, s:O, s:O, s:I, s:{s:b}}", "op", "dc-create", "name", name ? name : "", "nodes", nodes,
                  "primary", json_array_get(nodes, 0), "created", (json_int_t)time(NULL), "spec", "bare", 1);
    slots_describe(dvkd, change);
    replica_propose(dvkd->replica, change, create_done, waiting);
}
