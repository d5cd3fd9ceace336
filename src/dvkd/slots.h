/* SPDX-License-Identifier: Apache-2.0 */
/* User slots on this node: the agent (slot_agent.h) between the replica, the broker and the cells. */
#ifndef DVKD_SLOTS_H
#define DVKD_SLOTS_H

#include "dvkd/config.h"

struct dvkd;
struct slots;

/* What --slots asks for, as part of a "dc-create". */
void slots_describe(const struct dvkd *dvkd, json_t *change);
/* Once there is a replica. 0 or -ENOMEM. */
int slots_start(struct dvkd *dvkd);

/* For the broker's host; context is the dvkd. */
uint32_t slots_owner(void *context, uint32_t dc, uint32_t slot);
bool slots_is_ours(void *context, uint32_t dc, uint32_t set);
bool slots_take(void *context, uint32_t dc, uint32_t want, uint32_t below);
void slots_offered(void *context, uint32_t dc, const uint16_t *sets, uint32_t count);
void slots_watched(void *context, uint32_t dc);

/* For the replica's port. slots_cast: true if it was about slots. */
bool slots_cast(struct slots *slots, uint32_t from, const json_t *payload);
void slots_changed(struct slots *slots, const struct config_effect *effect);
void slots_quorum(struct slots *slots, bool quorate);

#endif
