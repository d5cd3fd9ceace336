/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/config_slots.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>

static int find(const struct config *config, const json_t *change, struct config_dc **out, struct failure *failure) {
    uint32_t id = (uint32_t)field_integer_or(change, "dc", 1, DVK_MAX_DC, 0);
    json_int_t serial = -1, view = -1;
    field_integer(change, "serial", &serial);
    field_integer(change, "view", &view);
    struct config_dc *dc = config->dcs[id];
    if (!dc || dc->serial != (uint64_t)serial)
        return failure_set(failure, -ENOENT, "no-such-dc", "dvs ls lists them", "there is no container %u any more", id);
    if ((uint64_t)view != config->view)
        return failure_set(failure, -ESTALE, "unavailable", NULL, "the cluster's membership has changed meanwhile");
    *out = dc;
    return 0;
}

static int refuse(struct failure *failure, int result, const struct config_dc *dc) {
    if (result == -ENOMEM) { /* the other nodes do it: to go on without would be another state than theirs */
        log_error("out of memory");
        abort();
    }
    if (result == -ENOSPC)
        return failure_set(failure, result, "unavailable", NULL, "every slot of container %s is owned", dc->name);
    return failure_set(failure, result, "bad-request", NULL, "that is no valid change of the slots of %s", dc->name);
}

static void changed(struct config *config, struct config_dc *dc, struct config_effect *effect) {
    dc->slots_version = config_slots_version(config->view, config->epoch + 1);
    effect->dc = dc->id;
}

int config_slots_take(struct config *config, const json_t *change, struct config_effect *effect,
                      struct failure *failure) {
    struct config_dc *dc;
    int result = find(config, change, &dc, failure);
    if (result < 0)
        return result;
    uint32_t node = (uint32_t)field_integer_or(change, "node", 1, DVK_MAX_NODE, 0);
    uint32_t want = (uint32_t)field_integer_or(change, "want", 1, SLOT_SETS_MAX, 0);
    uint32_t below = (uint32_t)field_integer_or(change, "below", 1, SLOT_SETS_MAX, 0);
    result = config_dc_has_node(dc, node) ? slot_table_take(&dc->slots, node, dc->node_count, want, below) : -EINVAL;
    if (result < 0)
        return refuse(failure, result, dc);
    changed(config, dc, effect);
    effect->slots_to = node;
    return 0;
}

int config_slots_give(struct config *config, const json_t *change, struct config_effect *effect,
                      struct failure *failure) {
    struct config_dc *dc;
    int result = find(config, change, &dc, failure);
    if (result < 0)
        return result;
    uint32_t from = (uint32_t)field_integer_or(change, "node", 1, DVK_MAX_NODE, 0);
    uint32_t to = (uint32_t)field_integer_or(change, "to", 1, DVK_MAX_NODE, 0);
    result = config_dc_has_node(dc, to) ? slot_table_give(&dc->slots, from, to, field_string(change, "sets")) : -EINVAL;
    if (result < 0)
        return refuse(failure, result, dc);
    changed(config, dc, effect);
    effect->slots_from = from;
    effect->slots_to = to;
    effect->generation = (uint32_t)field_integer_or(change, "generation", 0, UINT32_MAX, 0);
    return 0;
}

void config_slots_survive(struct config *config, bool (*is_up)(const void *context, uint32_t node), const void *context) {
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++) {
        struct config_dc *dc = config->dcs[id];
        if (!dc)
            continue;
        slot_table_survive(&dc->slots, dc->nodes, dc->node_count, is_up, context);
        dc->slots_version = config_slots_version(config->view, config->epoch);
    }
}
