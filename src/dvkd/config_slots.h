/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of who owns which of a DC's user slots (slot_table.h), as config_apply makes them:
 *   {"op": "slots-take", "dc", "serial", "view", "node": who gets, "want": sets, "below": a set}
 *   {"op": "slots-give", "dc", "serial", "view", "node": from, "to": node, "sets": "FIRST+COUNT ...", "generation"}
 * Each holds in the view in which it was proposed only (-ESTALE): a donation under way when the view changes is void, so
 * that the donor keeps what it was about to give, and nothing is given to a node that has gone.
 */
#ifndef DVKD_CONFIG_SLOTS_H
#define DVKD_CONFIG_SLOTS_H

#include "dvkd/config.h"

/* -ESTALE: another view; -ENOSPC: no set is left that nobody owns; else as config_apply. */
int config_slots_take(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure);
int config_slots_give(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure);
/* A view was made: what nodes own that are not in it goes to those that are. */
void config_slots_survive(struct config *config, bool (*is_up)(const void *context, uint32_t node), const void *context);

/* A number that grows with each change of a table, the same on every node. */
static inline uint64_t config_slots_version(uint64_t view, uint64_t epoch) { return view << 32 | (uint32_t)epoch; }

#endif
