/* SPDX-License-Identifier: Apache-2.0 */
/* version, node.ls, debug.*: what this node knows of itself and of the others. */
#include "dvkd/api.h"
#include "dvkd/corosync.h"

#include <malloc.h>
#include <string.h>

void api_version(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    connection_succeed(connection, json_pack("{s:s, s:s, s:I}", "version", DVS_VERSION, "node", dvkd->options.node,
                                             "id", (json_int_t)dvkd->options.id));
}

static json_t *node_json(struct dvkd *dvkd, const struct config_node *node) {
    bool up = replica_node_is_up(dvkd->replica, node->id), this_one = node->id == dvkd->options.id;
    struct replica_status status = replica_node_status(dvkd->replica, node->id);
    if (this_one)
        status.cells = dvkd->cells.count;
    /* whoever is in our view shares its quorum; of the others nothing is known */
    bool quorate = up && replica_is_quorate(dvkd->replica);
    /* the proxy makes no link of another kind than it was told to */
    const char *link = !up || this_one ? "" : dvkd->options.clear ? "clear" : "tls";
    json_int_t since = up ? (json_int_t)broker_node_since(&dvkd->broker, node->id) : 0; /* ms since 1970 */
    return json_pack("{s:I, s:s, s:s, s:b, s:s, s:s, s:s, s:I, s:I, s:f, s:b, s:s, s:I}", "id", (json_int_t)node->id, "name",
                     node->name, "state", up ? "up" : "down", "quorate", quorate, "address", node->address, "version",
                     node->version, "run", node->run, "cells", (json_int_t)status.cells, "cpus",
                     (json_int_t)node->cpus, "load", status.load, "this", this_one, "link", link, "since", since);
}

void api_node_ls(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config *config = dvkd_config(dvkd);
    json_t *nodes = json_array();
    unsigned known = 0;
    for (uint32_t id = 1; id <= DVK_MAX_NODE; id++)
        if (config->nodes[id]) {
            json_array_append_new(nodes, node_json(dvkd, config->nodes[id]));
            known++;
        }
    struct corosync_counts counts = {.expected = 1, .quorum = 1, .members = 1};
    if (dvkd->options.cluster)
        counts = dvkd->corosync ? corosync_counts(dvkd->corosync) : (struct corosync_counts){.expected = known};
    connection_succeed(connection,
                       json_pack("{s:o, s:b, s:I, s:I, s:I, s:I, s:I}", "nodes", nodes, "quorate",
                                 replica_is_quorate(dvkd->replica), "expected", (json_int_t)counts.expected, "quorum",
                                 (json_int_t)counts.quorum, "members", (json_int_t)counts.members, "view",
                                 (json_int_t)config->view, "epoch", (json_int_t)config->epoch));
}

void api_debug_channels(struct connection *connection, const json_t *request) {
    connection_succeed(connection,
                       json_pack("{s:o}", "channels", broker_list_channels(&connection_dvkd(connection)->broker)));
}

void api_debug_endpoints(struct connection *connection, const json_t *request) {
    connection_succeed(connection,
                       json_pack("{s:o}", "endpoints", broker_list_endpoints(&connection_dvkd(connection)->broker)));
}

void api_debug_memory(struct connection *connection, const json_t *request) {
    struct mallinfo2 info = mallinfo2();
    connection_succeed(connection, json_pack("{s:I}", "used", (json_int_t)(info.uordblks + info.hblkhd)));
}
