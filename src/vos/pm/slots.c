/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/slots.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WANT_LEAST 16u
#define WANT_MOST 256u

/* Slots of the set that lie below the limit. */
static uint64_t set_mask(const struct slots *slots, uint32_t set) {
    uint32_t first = set * DVK_SLOT_SET;
    if (first + DVK_SLOT_SET <= slots->limit)
        return ~(uint64_t)0;
    return first >= slots->limit ? 0 : ((uint64_t)1 << (slots->limit - first)) - 1;
}

/* Set 0 holds the slots of the cells themselves: nobody owns it. */
static bool set_is_own(const struct slots *slots, uint32_t set) {
    return set < slots->set_count && slots->owner[set] == slots->node && !slots->given[set];
}

static bool set_is_idle(const struct slots *slots, uint32_t set) {
    return set != slots->current && set_is_own(slots, set) && !slots->used[set];
}

/* The own set after `set` in the circle; there is one. */
static uint32_t set_after(const struct slots *slots, uint32_t set) {
    do
        set = set + 1 < slots->set_count ? set + 1 : 1;
    while (!set_is_own(slots, set));
    return set;
}

static bool has_idle(const struct slots *slots) {
    for (uint32_t set = 1; set < slots->set_count; set++)
        if (set_is_idle(slots, set))
            return true;
    return false;
}

int slots_init(struct slots *slots, uint32_t node, uint32_t node_count, uint32_t limit) {
    *slots = (struct slots){.node = node, .node_count = node_count, .limit = limit};
    if (!node_count || limit > DVK_USER_SLOTS)
        return -EINVAL;
    slots->set_count = (limit + DVK_SLOT_SET - 1) / DVK_SLOT_SET;
    if (slots->set_count < 2)
        return -EINVAL;
    slots->owner = calloc(slots->set_count, sizeof(*slots->owner));
    slots->used = calloc(slots->set_count, sizeof(*slots->used));
    slots->given = calloc(slots->set_count, sizeof(*slots->given));
    if (!slots->owner || !slots->used || !slots->given) {
        slots_destroy(slots);
        return -ENOMEM;
    }
    return 0;
}

void slots_destroy(struct slots *slots) {
    free(slots->owner);
    free(slots->used);
    free(slots->given);
    slots->owner = NULL;
    slots->used = NULL;
    slots->given = NULL;
}

/* ---- ownership ---- */

/* Which sets are ours has changed. */
static void recount(struct slots *slots) {
    slots->own_count = 0;
    for (uint32_t set = 1; set < slots->set_count; set++)
        slots->own_count += set_is_own(slots, set);
    if (!set_is_own(slots, slots->current))
        slots->free = 0;
    if (slots->next_state != SLOTS_NEXT_NONE && !set_is_own(slots, slots->next))
        slots->next_state = SLOTS_NEXT_NONE;
    slots->tried = 0;
    slots->low = !has_idle(slots);
}

static void set_owner(struct slots *slots, uint32_t set, uint16_t owner) {
    if (owner == slots->node && slots->owner[set] != owner)
        slots->used[set] = 0;
    slots->owner[set] = owner;
}

void slots_table(struct slots *slots, uint64_t version, uint32_t sets, const struct dvk_slots_run *runs, uint32_t run_count) {
    uint32_t set = 1, there = sets < slots->set_count ? sets : slots->set_count;
    for (uint32_t i = 0; i < run_count; i++) {
        uint32_t end = (uint32_t)runs[i].first + runs[i].count;
        for (; set < runs[i].first && set < slots->set_count; set++)
            set_owner(slots, set, 0);
        for (; set < end && set < slots->set_count; set++)
            set_owner(slots, set, runs[i].owner);
    }
    for (; set < slots->set_count; set++)
        set_owner(slots, set, 0);
    slots->version = version;
    slots->fair = there ? (there - 1) / slots->node_count : 0;
    recount(slots);
}

uint32_t slots_owner(const struct slots *slots, uint32_t slot) {
    uint32_t set = slot / DVK_SLOT_SET;
    return set < slots->set_count ? slots->owner[set] : 0;
}

bool slots_is_own(const struct slots *slots, uint32_t slot) {
    return slot < slots->limit && set_is_own(slots, slot / DVK_SLOT_SET);
}

uint32_t slots_wanted(const struct slots *slots) {
    if (!slots->low)
        return 0;
    uint32_t want = slots->own_count / 2;
    return want < WANT_LEAST ? WANT_LEAST : want < WANT_MOST ? want : WANT_MOST;
}

uint32_t slots_spare(struct slots *slots, uint32_t want, uint32_t below, uint16_t *sets) {
    uint32_t idle = 0, count = 0;
    for (uint32_t set = 1; set < slots->set_count; set++)
        idle += set_is_idle(slots, set);
    uint32_t most = idle > SLOTS_HIGH ? idle - SLOTS_HIGH : idle ? 1 : 0;
    if (idle == 1 && (uint32_t)__builtin_popcountll(slots->free) < SLOTS_LOW)
        most = 0;
    want = want < most ? want : most;
    want = want < SLOTS_GIVE_MAX ? want : SLOTS_GIVE_MAX;
    if (below > slots->set_count)
        below = slots->set_count;
    for (uint32_t set = below; set > 1 && count < want;) /* from above: low numbers are the nicer ones to keep */
        if (set_is_idle(slots, --set)) {
            slots->given[set] = true;
            sets[count++] = (uint16_t)set;
        }
    for (uint32_t i = 0; i < count / 2; i++) {
        uint16_t swap = sets[i];
        sets[i] = sets[count - 1 - i];
        sets[count - 1 - i] = swap;
    }
    if (count)
        recount(slots);
    return count;
}

void slots_settled(struct slots *slots) {
    memset(slots->given, 0, slots->set_count * sizeof(*slots->given));
    recount(slots);
}

/* ---- giving out ---- */

static void prepare_next(struct slots *slots) {
    if (slots->own_count == 0)
        return;
    slots->next = set_after(slots, slots->next ? slots->next : slots->set_count - 1);
    slots->next_state = SLOTS_NEXT_WANTED;
}

static void use_next(struct slots *slots) {
    bool round = slots->next <= slots->current;
    slots->current = slots->next;
    /* Slots of the set may have been taken since it was swept, when it is our only one. */
    slots->free = slots->next_free & ~slots->used[slots->current];
    slots->next_state = SLOTS_NEXT_NONE;
    slots->low = !has_idle(slots) || (round && slots->own_count < slots->fair);
}

void slots_look_again(struct slots *slots) {
    if (slots_exhausted(slots))
        slots->tried = 0;
}

uint32_t slots_take(struct slots *slots) {
    if (slots_exhausted(slots))
        return 0;
    if (slots->next_state == SLOTS_NEXT_NONE)
        prepare_next(slots);
    if (!slots->free && slots->next_state == SLOTS_NEXT_READY) {
        use_next(slots);
        prepare_next(slots);
    }
    if (!slots->free)
        return 0;
    uint32_t bit = (uint32_t)__builtin_ctzll(slots->free);
    slots->free &= slots->free - 1;
    slots->used[slots->current] |= (uint64_t)1 << bit;
    return slots->current * DVK_SLOT_SET + bit;
}

void slots_give(struct slots *slots, uint32_t slot) {
    if (slots_is_own(slots, slot))
        slots->used[slot / DVK_SLOT_SET] &= ~((uint64_t)1 << slot % DVK_SLOT_SET);
}

void slots_mark(struct slots *slots, uint32_t slot) {
    if (!slots_is_own(slots, slot))
        return;
    uint32_t set = slot / DVK_SLOT_SET;
    uint64_t bit = (uint64_t)1 << slot % DVK_SLOT_SET;
    slots->used[set] |= bit;
    if (set == slots->current)
        slots->free &= ~bit;
    if (set == slots->next)
        slots->next_free &= ~bit;
}

bool slots_sweep_wanted(struct slots *slots, uint32_t *set) {
    if (slots->next_state != SLOTS_NEXT_WANTED)
        return false;
    slots->next_state = SLOTS_NEXT_ASKED;
    *set = slots->next;
    return true;
}

void slots_swept(struct slots *slots, uint32_t set, uint64_t busy) {
    if (slots->next_state != SLOTS_NEXT_ASKED || set != slots->next)
        return;
    slots->next_free = set_mask(slots, set) & ~busy & ~slots->used[set];
    if (slots->next_free) {
        slots->tried = 0;
        slots->next_state = SLOTS_NEXT_READY;
        return;
    }
    slots->next_state = SLOTS_NEXT_NONE;
    if (++slots->tried < slots->own_count)
        prepare_next(slots);
}

bool slots_exhausted(const struct slots *slots) {
    return !slots->free && slots->next_state == SLOTS_NEXT_NONE && slots->tried >= slots->own_count;
}
