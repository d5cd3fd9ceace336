/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker asks of the configuration for statistics. */
#include "dvkd/dvkd.h"

#include <dvk/error.h>
#include <dvk/stats.h>
#include <stdio.h>

int dvkd_dc_info(void *context, uint32_t id, struct dvk_dc_info *info, struct dvk_dc_node *nodes) {
    struct dvkd *dvkd = context;
    const struct config_dc *dc = id <= DVK_MAX_DC ? dvkd_config(dvkd)->dcs[id] : NULL;
    if (!dc || !config_dc_is_live(dc))
        return -DVK_ENODC;
    info->kind = config_dc_is_bare(dc) ? DVK_DC_BARE : DVK_DC_VOS;
    info->node_count = dc->node_count;
    info->sets = dc->slots.sets ? dc->slots.sets - 1 : 0; /* set 0 is nobody's ever */
    snprintf(info->name, sizeof info->name, "%s", dc->name);
    info->sets_free = slot_table_count(&dc->slots, 0, dc->slots.sets);
    for (uint32_t i = 0; i < dc->node_count; i++)
        nodes[i] = (struct dvk_dc_node){.node = dc->nodes[i],
                                        .up = replica_node_is_up(dvkd->replica, dc->nodes[i]),
                                        .sets = slot_table_count(&dc->slots, dc->nodes[i], dc->slots.sets)};
    return 0;
}

uint64_t dvkd_changes(void *context) { return dvkd_config(context)->epoch; }
