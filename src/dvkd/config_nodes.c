/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/config_nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int config_node_add(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure) {
    uint32_t id = (uint32_t)field_integer_or(change, "id", 1, DVK_MAX_NODE, 0);
    const char *name = field_string(change, "name"), *address = field_string(change, "address");
    for (uint32_t i = 1; name && address && i <= DVK_MAX_NODE; i++) {
        const struct config_node *node = config->nodes[i];
        if (node && (i == id || strcmp(node->name, name) == 0 || strcmp(node->address, address) == 0))
            return failure_set(failure, -EEXIST, "name-taken", "dvs cluster leave takes one out that is gone for good",
                               "there is a node %s (id %u, %s) already", node->name, i, node->address);
    }
    int result = id && address && *address ? config_add_node_json(config, change) : -EINVAL;
    if (result < 0)
        return failure_set(failure, result, "bad-request", NULL, "that is no valid description of a node");
    effect->node = id;
    return 0;
}

int config_node_remove(struct config *config, const json_t *change, struct config_effect *effect,
                       struct failure *failure) {
    uint32_t id = (uint32_t)field_integer_or(change, "node", 1, DVK_MAX_NODE, 0);
    struct config_node *node = config->nodes[id];
    if (!node)
        return failure_set(failure, -ENOENT, "no-such-node", "dvs node ls lists them", "there is no node %u", id);
    for (uint32_t i = 1; i <= DVK_MAX_DC; i++)
        if (config->dcs[i] && config_dc_has_node(config->dcs[i], id))
            return failure_set(failure, -EBUSY, "dc-running", "dvs rm removes it", "container %s has a part on node %s",
                               config->dcs[i]->name, node->name);
    free(node);
    config->nodes[id] = NULL;
    effect->node = id;
    return 0;
}
