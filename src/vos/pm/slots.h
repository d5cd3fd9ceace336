/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which slots (pids and thread ids) this node may give out next. Slots are owned by nodes in sets of 64; a node takes them
 * from its own sets only, set after set in a circle, so that a number comes back as late as possible.
 *
 * No number is given out that is still in use anywhere: as pid, thread id, process group, session or zombie. Nothing is
 * counted for that while processes live; instead a set that was used before is *swept* when the circle comes to it again:
 * the owner asks every node of the DC once which of the 64 numbers it still knows, and skips those. A set that was
 * never used needs no sweep. The next set is made ready while the current one is being used up.
 *
 * Pure: no I/O. The caller carries out the sweep that slots_sweep_wanted asks for.
 */
#ifndef PM_SLOTS_H
#define PM_SLOTS_H

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

enum slots_next { SLOTS_NEXT_NONE, SLOTS_NEXT_WANTED, SLOTS_NEXT_ASKED, SLOTS_NEXT_READY };

struct slots {
    uint32_t node_count, index; /* our index in the DC's node list */
    uint32_t set_count;         /* sets below the limit, of all nodes */
    uint32_t limit;
    uint64_t *used;   /* one word a set: given out by us and not given back */
    uint8_t *touched; /* one byte a set: some slot of it was in use at some time */
    uint32_t current; /* set that is being used up, 0: none yet */
    uint64_t free;    /* its slots that may still be given out */
    enum slots_next next_state;
    uint32_t next;
    uint64_t next_free;
    uint32_t tried; /* sets found full in a row */
};

/* index: of this node among node_count; limit: slots are below it. 0, -EINVAL (no set would be ours) or -ENOMEM. */
int slots_init(struct slots *slots, uint32_t node_count, uint32_t index, uint32_t limit);
void slots_destroy(struct slots *slots);
/* A slot nobody uses; 0 when there is none now: look at slots_sweep_wanted and slots_exhausted. */
uint32_t slots_take(struct slots *slots);
/* Give a slot back. Slots of other nodes are ignored. */
void slots_give(struct slots *slots, uint32_t slot);
/* A slot of ours turns out to be in use elsewhere. */
void slots_mark(struct slots *slots, uint32_t slot);
bool slots_is_own(const struct slots *slots, uint32_t slot);
/* True once for each sweep that is needed: *set is the set. Answer it with slots_swept. */
bool slots_sweep_wanted(struct slots *slots, uint32_t *set);
/* busy: bit i: slot set * 64 + i is still known somewhere. */
void slots_swept(struct slots *slots, uint32_t set, uint64_t busy);
/* Every own set was found full in a row: the node is out of slots for now. Asking again starts a new round. */
bool slots_exhausted(const struct slots *slots);

#endif
