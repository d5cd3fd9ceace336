/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which slots (pids and thread ids) this node may give out next. Slots are owned by nodes in sets of 64 (dvk/slots.h); a node
 * takes them from its own sets only, set after set in a circle, so that a number comes back as late as possible.
 *
 * No number is given out that is still in use anywhere: as pid, thread id, process group, session or zombie. Nothing is
 * counted for that while processes live; instead a set is *swept* when the circle comes to it: the owner asks every node of
 * the DC once which of the 64 numbers it still knows, and skips those. It does not matter who owned the set before. The next
 * set is made ready while the current one is being used up.
 *
 * Water marks: with no idle set (owned, with no slot given out) beside the current one a node is low, and asks for more; so it does when the
 * circle has come round and it has less than its fair share, so that numbers come back later still. Of its idle sets it gives
 * those above SLOTS_HIGH to a node that is short, or one, if that is all it has and there is something left of the current.
 *
 * Pure: no I/O. The caller carries out the sweep that slots_sweep_wanted asks for.
 */
#ifndef PM_SLOTS_H
#define PM_SLOTS_H

#include <dvk/slots.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOTS_HIGH 4u      /* idle sets that a node need not give */
#define SLOTS_LOW 16u      /* slots of the current set that must be left for the last idle set to be given */
#define SLOTS_GIVE_MAX 64u /* sets that are given at a time */

enum slots_next { SLOTS_NEXT_NONE, SLOTS_NEXT_WANTED, SLOTS_NEXT_ASKED, SLOTS_NEXT_READY };

struct slots {
    uint32_t node;      /* our id */
    uint32_t node_count;
    uint32_t set_count; /* sets below the limit, of all nodes */
    uint32_t limit;
    uint32_t fair;      /* sets that each node would have if all had the same */
    uint64_t version;   /* of the table; 0: none came yet */
    uint16_t *owner;    /* a word a set: node id, 0: nobody */
    uint64_t *used;     /* a word a set of ours: given out and not given back */
    bool *given;        /* a set: offered to another node, not settled */
    uint32_t own_count; /* sets of ours that are not given */
    bool low;           /* see above; looked at when the current set or the table changes */
    uint32_t current;   /* set that is being used up, 0: none yet */
    uint64_t free;      /* its slots that may still be given out */
    enum slots_next next_state;
    uint32_t next;
    uint64_t next_free;
    uint32_t tried; /* sets found full in a row */
};

/* node: ours, of node_count; limit: slots are below it. Nothing is ours until slots_table. 0, -EINVAL or -ENOMEM. */
int slots_init(struct slots *slots, uint32_t node, uint32_t node_count, uint32_t limit);
void slots_destroy(struct slots *slots);

/* Who owns what, from now on. sets: of the DC. */
void slots_table(struct slots *slots, uint64_t version, uint32_t sets, const struct dvk_slots_run *runs, uint32_t run_count);
/* The node that owns a slot, 0: none. */
uint32_t slots_owner(const struct slots *slots, uint32_t slot);
/* Is it ours to give out? */
bool slots_is_own(const struct slots *slots, uint32_t slot);

/* A slot nobody uses; 0 when there is none now: look at slots_sweep_wanted and slots_exhausted. Once they are exhausted, sets are looked
 * at again only after slots_look_again, or when there are others. */
uint32_t slots_take(struct slots *slots);
void slots_look_again(struct slots *slots);
/* Give a slot back. Slots of other nodes are ignored. */
void slots_give(struct slots *slots, uint32_t slot);
/* A slot of ours turns out to be in use elsewhere. */
void slots_mark(struct slots *slots, uint32_t slot);
/* True once for each sweep that is needed: *set is the set. Answer it with slots_swept. */
bool slots_sweep_wanted(struct slots *slots, uint32_t *set);
/* busy: bit i: slot set * 64 + i is still known somewhere. */
void slots_swept(struct slots *slots, uint32_t set, uint64_t busy);
/* Every own set was found full in a row: the node is out of slots for now. */
bool slots_exhausted(const struct slots *slots);

/* How many more sets to ask for; 0: there are enough. */
uint32_t slots_wanted(const struct slots *slots);
/* Choose sets below `below` that can be spared, up to `want`; they are not ours until slots_settled. sets: room for SLOTS_GIVE_MAX;
 * ascending. Returns their number. */
uint32_t slots_spare(struct slots *slots, uint32_t want, uint32_t below, uint16_t *sets);
/* What slots_spare gave is the other node's by now (slots_table has said so), or ours again. */
void slots_settled(struct slots *slots);

#endif
