/* SPDX-License-Identifier: Apache-2.0 */
/* debug.slots: which node owns which user slots of a DC, as this node knows it. */
#include "common/cleanup.h"
#include "dvkd/api.h"

#include <errno.h>

/* What `node` owns; 0: what nobody owns. */
static json_t *share_json(struct dvkd *dvkd, const struct config_dc *dc, uint32_t node) {
    static uint16_t sets[SLOT_SETS_MAX];
    uint32_t count = 0;
    for (uint32_t set = 1; set < dc->slots.sets; set++)
        if (slot_table_owner(&dc->slots, set) == node)
            sets[count++] = (uint16_t)set;
    cleanup_free char *which = slot_runs_write(sets, count);
    json_t *item = json_pack("{s:s, s:I, s:s}", "name", node ? dvkd_node_name(dvkd, node) : "(nobody)", "sets",
                             (json_int_t)count, "which", which ? which : "");
    if (!node)
        return item;
    json_object_set_new(item, "id", json_integer(node));
    json_object_set_new(item, "state", json_string(replica_node_is_up(dvkd->replica, node) ? "up" : "down"));
    return item;
}

void api_debug_slots(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config_dc *dc = api_find_dc(connection, request);
    if (!dc)
        return;
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < dc->node_count; i++)
        json_array_append_new(nodes, share_json(dvkd, dc, dc->nodes[i]));
    json_array_append_new(nodes, share_json(dvkd, dc, 0));
    connection_succeed(connection, json_pack("{s:I, s:I, s:b, s:o}", "sets", (json_int_t)dc->slots.sets, "version",
                                             (json_int_t)dc->slots_version, "quorate", replica_is_quorate(dvkd->replica),
                                             "nodes", nodes));
}
