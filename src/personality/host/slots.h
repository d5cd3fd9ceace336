/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of our channel slots are in use: one bit each, taken by compare-and-swap, shared by the threads of a process.
 * A slot whose request was cancelled may still have its cancellation in the ring; it is free again only when the peer has
 * taken that (`limbo`, until ring position `position[i]`). Pure data: compiled into the unit tests as it is.
 */
#ifndef PERSONALITY_HOST_SLOTS_H
#define PERSONALITY_HOST_SLOTS_H

#include "dvk/ring.h"

#define SLOT_WORDS (DVK_GUEST_SLOTS / 64)

struct slot_set {
    uint64_t used[SLOT_WORDS];
    uint64_t limbo[SLOT_WORDS]; /* subset of used */
    uint32_t position[DVK_GUEST_SLOTS];
    uint32_t count; /* slots in the channel, <= DVK_GUEST_SLOTS */
    uint32_t freed; /* futex word: counts slots given back */
};

/* Slots in limbo whose cancellation the peer has taken become free. */
static inline void slot_set_settle(struct slot_set *set, const struct dvk_ring *ring) {
    for (unsigned w = 0; w < SLOT_WORDS; w++) {
        uint64_t limbo = __atomic_load_n(&set->limbo[w], __ATOMIC_ACQUIRE);
        while (limbo) {
            unsigned bit = (unsigned)__builtin_ctzll(limbo);
            limbo &= limbo - 1;
            if (!dvk_ring_has_passed(ring, set->position[w * 64 + bit]))
                continue;
            uint64_t mask = 1ull << bit;
            /* whoever clears the limbo bit gives the slot back, once */
            if (__atomic_fetch_and(&set->limbo[w], ~mask, __ATOMIC_ACQ_REL) & mask)
                __atomic_fetch_and(&set->used[w], ~mask, __ATOMIC_RELEASE);
        }
    }
}

/* Take a free slot, `hint` if that is free; -1 when all are in use. */
static inline int slot_set_take(struct slot_set *set, const struct dvk_ring *ring, uint32_t hint) {
    for (int round = 0; round < 2; round++) {
        for (unsigned k = 0; k < SLOT_WORDS; k++) {
            unsigned w = (hint / 64 + k) % SLOT_WORDS;
            uint64_t valid = set->count >= (w + 1) * 64 ? ~0ull
                             : set->count <= w * 64     ? 0
                                                        : (1ull << (set->count - w * 64)) - 1;
            uint64_t used = __atomic_load_n(&set->used[w], __ATOMIC_RELAXED);
            while (~used & valid) {
                uint64_t mask = 1ull << (hint % 64);
                if (k != 0 || !(mask & valid) || (used & mask))
                    mask = 1ull << __builtin_ctzll(~used & valid);
                /* acquire: pairs with the release of who used the slot before */
                if (__atomic_compare_exchange_n(&set->used[w], &used, used | mask, false, __ATOMIC_ACQUIRE,
                                                __ATOMIC_RELAXED))
                    return (int)(w * 64 + (unsigned)__builtin_ctzll(mask));
            }
        }
        slot_set_settle(set, ring);
    }
    return -1;
}

/* Give a slot back. */
static inline void slot_set_give(struct slot_set *set, unsigned i) {
    __atomic_fetch_and(&set->used[i / 64], ~(1ull << (i % 64)), __ATOMIC_RELEASE);
    __atomic_fetch_add(&set->freed, 1u, __ATOMIC_SEQ_CST);
}

/* Give back a slot whose request was cancelled: usable once the peer's tail has passed `position`. */
static inline void slot_set_give_later(struct slot_set *set, unsigned i, uint32_t position) {
    set->position[i] = position;
    __atomic_fetch_or(&set->limbo[i / 64], 1ull << (i % 64), __ATOMIC_RELEASE);
    __atomic_fetch_add(&set->freed, 1u, __ATOMIC_SEQ_CST);
}

#endif
