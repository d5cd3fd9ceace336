/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for whom, of the processes of one node and DC: a table that they share, so that one that is about to wait
 * for ever in a circle is refused (-DVK_EDEADLOCK). dvkd makes it and gives each context its place (broker.h). Only one
 * that is about to sleep in dvk_send or dvk_sendrec writes its entry, and only one that wakes somebody marks his: no
 * message that is answered before its sender sleeps touches the table.
 *
 * A wait has a ticket, another one than the last. It stands in slot.waiters and in its entry while it lasts:
 *
 *   waiter:    slot.waiters = ticket; looks at slot.state; entry.waits = (place waited for, ticket); looks for a circle;
 *              sleeps; entry.waits = 0
 *   answerer:  slot.state = DONE; reads slot.waiters; entry[waiter].answered = ticket; wakes him
 *
 * An entry counts while waits is not 0 and answered is another ticket: an answerer marks the wait before it can wait
 * itself, so a circle in which every entry counts, twice in a row and unchanged, is one in which nobody runs. All these
 * accesses are seq_cst: of those that close a circle the last one sees all of it. Two that close it at the same moment
 * may both be refused.
 *
 * Entries are hints of the processes of one DC: one that lies harms only that DC's own detection.
 */
#ifndef DVK_WAITS_H
#define DVK_WAITS_H

#include <stdbool.h>
#include <stdint.h>

#define DVK_WAITS_PLACES 65536u /* 0 is nobody's */
#define DVK_WAITS_CHAIN_MAX 64u /* longer circles are not found */

struct dvk_wait {
    uint64_t waits; /* place waited for << 32 | ticket */
    uint32_t answered;
    uint32_t pad;
};
#define DVK_WAITS_SIZE (DVK_WAITS_PLACES * sizeof(struct dvk_wait))

static inline void dvk_wait_begin(struct dvk_wait *table, uint32_t place, uint32_t target, uint32_t ticket) {
    __atomic_store_n(&table[place].waits, (uint64_t)target << 32 | ticket, __ATOMIC_SEQ_CST);
}
static inline void dvk_wait_end(struct dvk_wait *table, uint32_t place) {
    __atomic_store_n(&table[place].waits, 0, __ATOMIC_SEQ_CST);
}
static inline void dvk_wait_answered(struct dvk_wait *table, uint32_t place, uint32_t ticket) {
    __atomic_store_n(&table[place].answered, ticket, __ATOMIC_SEQ_CST);
}

/* Whom the process at `place` waits for, with its ticket; 0: nobody. */
static inline uint64_t dvk_wait_look(const struct dvk_wait *table, uint32_t place) {
    uint64_t waits = __atomic_load_n(&table[place].waits, __ATOMIC_SEQ_CST);
    uint32_t answered = __atomic_load_n(&table[place].answered, __ATOMIC_SEQ_CST);
    return waits >> 32 == 0 || waits >> 32 >= DVK_WAITS_PLACES || answered == (uint32_t)waits ? 0 : waits;
}

/* Does the wait of `place`, which has begun, close a circle? */
static inline bool dvk_wait_is_circle(const struct dvk_wait *table, uint32_t place) {
    uint64_t seen[DVK_WAITS_CHAIN_MAX];
    uint32_t at = place, length = 0;
    do {
        if (length == DVK_WAITS_CHAIN_MAX || (seen[length] = dvk_wait_look(table, at)) == 0)
            return false;
        at = (uint32_t)(seen[length++] >> 32);
    } while (at != place);
    for (uint32_t i = 0; i < length; i++) {
        if (dvk_wait_look(table, at) != seen[i])
            return false;
        at = (uint32_t)(seen[i] >> 32);
    }
    return true;
}

#endif
