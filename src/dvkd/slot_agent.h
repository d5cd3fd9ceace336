/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a node comes by more user slots of a DC, and how it gives some away. Over the replica's ordered messages; no I/O of
 * its own and no clock, so that tests can play the cluster (tests/unit/dvkd/test_slots.c).
 *
 *   wanting   IDLE --want--> TAKING --no set is left that nobody owns--> ASKING --none--> ASKING the next --none left--> IDLE
 *                              \--taken--> IDLE                             \--given--> IDLE
 *   giving    NONE --asked--> CHOOSING --offer--> GIVING --the give is applied, or void--> NONE
 *                                  \--nothing to offer: "none"--> NONE
 *
 * TAKING proposes "slots-take" (config_slots.h). ASKING casts {"slots": "ask"} to one node after the other, the one with most
 * sets first; it answers by the change "slots-give", or casts {"slots": "none"}. All of it belongs to one view: when the
 * view changes, what was wanted ends with -EAGAIN (the one who wants asks again), and a give that was not applied is void:
 * the donor keeps its sets, whether it was donor or receiver that went. While GIVING the sets are nobody's to bind in.
 *
 * Every want ends: by an ordered answer of the one asked, or by the next view, in which a node that does not answer is
 * not (replica.h); the donor's user has a time limit (slots.c).
 */
#ifndef DVKD_SLOT_AGENT_H
#define DVKD_SLOT_AGENT_H

#include "dvkd/replica.h"

struct slot_agent_port {
    void *context;
    /* Somebody wants up to `want` sets below `below`: choose some of ours that nobody uses. To be answered by one call of
     * slot_agent_offer, from within or later. */
    void (*choose)(void *context, uint32_t dc, uint32_t want, uint32_t below);
    /* What was offered last is given, or ours again: the configuration says which. */
    void (*settled)(void *context, uint32_t dc);
    /* A want has ended. status: 0: there are new sets; -DVK_ENOSLOT: nobody has any to spare; -DVK_ENODC; -EAGAIN: no quorum, or
     * the view has changed. */
    void (*ended)(void *context, uint32_t dc, int status);
    /* The greatest generation that this node has given to a slot of the DC. */
    uint32_t (*generation)(void *context, uint32_t dc);
};

struct slot_agent;

/* replica: borrowed; to be destroyed before the agent. 0 or -ENOMEM. */
int slot_agent_create(struct replica *replica, uint32_t node, const struct slot_agent_port *port, struct slot_agent **out);
void slot_agent_destroy(struct slot_agent *agent);

/* This node wants up to `want` sets below `below`. While an earlier want of the DC is under way nothing more is done. port.ended
 * follows for either, not from within. False when there is no memory: it does not follow. */
bool slot_agent_want(struct slot_agent *agent, uint32_t dc, uint32_t want, uint32_t below);
/* The answer to port.choose: sets, sorted, which from now on nobody here uses until port.settled. */
void slot_agent_offer(struct slot_agent *agent, uint32_t dc, const uint16_t *sets, uint32_t count);
/* May this node bind in the set: is it ours, and not on its way to another? */
bool slot_agent_is_ours(const struct slot_agent *agent, uint32_t dc, uint32_t set);

/* From the replica's port: `cast` with {"slots": ...}; `changed`; `quorum`. */
void slot_agent_cast(struct slot_agent *agent, uint32_t from, const json_t *payload);
void slot_agent_changed(struct slot_agent *agent, const struct config_effect *effect);
void slot_agent_quorum(struct slot_agent *agent, bool quorate);

#endif
