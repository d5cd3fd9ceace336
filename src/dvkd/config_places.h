/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of where a DC's endpoints are (place_table.h), as config_apply makes them; "dc", "serial" and "endpoint" are in all:
 *   {"op": "place", "do": "add", "primary": instance, "moved", "spare": instance, "kind", "view"}
 *   {"op": "place", "do": "start", "primary", "spare": to which, "view"}
 *   {"op": "place", "do": "commit" or "rollback", "primary", "view"}
 *   {"op": "place", "do": "drop", "spare"}
 *   {"op": "place", "do": "gone", "primary"}
 * Those with a view hold in the view in which they were proposed only (-ESTALE). The last two say what has happened, of instances
 * that never come again: they hold in any.
 */
#ifndef DVKD_CONFIG_PLACES_H
#define DVKD_CONFIG_PLACES_H

#include "dvkd/config.h"

/* Errors: those of place_table.h, -ESTALE for another view, -ENOENT for no such DC. */
int config_place(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure);
/* A view was made, in the epoch that stands in the configuration. */
void config_places_survive(struct config *config, bool (*is_member)(void *context, uint32_t node, int64_t incarnation),
                           void *context);
/* The entry that has a slot of a DC, or NULL. */
const struct place *config_place_of(const struct config *config, uint32_t dc, dvk_endpoint endpoint);

#endif
