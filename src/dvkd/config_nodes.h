/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes that come and go for good, as changes of the configuration (config.h):
 *   {"op": "node-add", "id", "name", "address", "run", "version", "cpus"}    a new one; it is down until it says hello
 *   {"op": "node-remove", "node": id}                                        one that no container names
 * Pure. Codes of refusals: bad-request, name-taken, no-such-node, dc-running.
 */
#ifndef DVKD_CONFIG_NODES_H
#define DVKD_CONFIG_NODES_H

#include "dvkd/config.h"

int config_node_add(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure);
int config_node_remove(struct config *config, const json_t *change, struct config_effect *effect,
                       struct failure *failure);

#endif
