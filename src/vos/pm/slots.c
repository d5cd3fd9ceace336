/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/slots.h"
#include <errno.h>
#include <stdlib.h>

/* Slots of the set that lie below the limit. */
static uint64_t set_mask(const struct slots *slots, uint32_t set) {
    uint32_t first = set * DVK_SLOT_SET;
    if (first + DVK_SLOT_SET <= slots->limit)
        return ~(uint64_t)0;
    return first >= slots->limit ? 0 : ((uint64_t)1 << (slots->limit - first)) - 1;
}

static bool set_is_own(const struct slots *slots, uint32_t set) {
    return set >= 1 && set < slots->set_count && set % slots->node_count == slots->index;
}

/* The own set after `set` in the circle. Set 0 holds the slots of the cells themselves. */
static uint32_t set_after(const struct slots *slots, uint32_t set) {
    do
        set = set + 1 < slots->set_count ? set + 1 : 1;
    while (!set_is_own(slots, set));
    return set;
}

static uint32_t own_set_count(const struct slots *slots) {
    uint32_t count = slots->set_count / slots->node_count + (slots->set_count % slots->node_count > slots->index);
    return slots->index == 0 ? count - 1 : count;
}

int slots_init(struct slots *slots, uint32_t node_count, uint32_t index, uint32_t limit) {
    *slots = (struct slots){.node_count = node_count, .index = index, .limit = limit};
    if (!node_count || index >= node_count || limit > DVK_USER_SLOTS)
        return -EINVAL;
    slots->set_count = (limit + DVK_SLOT_SET - 1) / DVK_SLOT_SET;
    if (slots->set_count < 2 || own_set_count(slots) == 0)
        return -EINVAL;
    slots->used = calloc(slots->set_count, sizeof(*slots->used));
    slots->touched = calloc(slots->set_count, sizeof(*slots->touched));
    if (!slots->used || !slots->touched) {
        slots_destroy(slots);
        return -ENOMEM;
    }
    return 0;
}

void slots_destroy(struct slots *slots) {
    free(slots->used);
    free(slots->touched);
    slots->used = NULL;
    slots->touched = NULL;
}

static void prepare_next(struct slots *slots) {
    slots->next = set_after(slots, slots->next ? slots->next : slots->set_count - 1);
    if (slots->touched[slots->next]) {
        slots->next_state = SLOTS_NEXT_WANTED;
        return;
    }
    slots->next_free = set_mask(slots, slots->next);
    slots->next_state = SLOTS_NEXT_READY;
    slots->tried = 0;
}

static void use_next(struct slots *slots) {
    slots->current = slots->next;
    slots->touched[slots->current] = 1;
    /* Slots of the set may have been taken since it was swept, when it is our only one. */
    slots->free = slots->next_free & ~slots->used[slots->current];
    slots->next_state = SLOTS_NEXT_NONE;
}

uint32_t slots_take(struct slots *slots) {
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

bool slots_is_own(const struct slots *slots, uint32_t slot) { return slot < slots->limit && set_is_own(slots, slot / DVK_SLOT_SET); }

void slots_give(struct slots *slots, uint32_t slot) {
    if (slots_is_own(slots, slot))
        slots->used[slot / DVK_SLOT_SET] &= ~((uint64_t)1 << slot % DVK_SLOT_SET);
}

void slots_mark(struct slots *slots, uint32_t slot) {
    if (!slots_is_own(slots, slot))
        return;
    uint32_t set = slot / DVK_SLOT_SET;
    uint64_t bit = (uint64_t)1 << slot % DVK_SLOT_SET;
    slots->touched[set] = 1;
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
    if (++slots->tried < own_set_count(slots))
        prepare_next(slots);
}

bool slots_exhausted(const struct slots *slots) {
    return !slots->free && slots->next_state == SLOTS_NEXT_NONE && slots->tried >= own_set_count(slots);
}
