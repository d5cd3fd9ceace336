/* SPDX-License-Identifier: Apache-2.0 */
/* Locks: word 0 free, 1 held, 2 held and somebody sleeps. Signals are deferred inside the personality, so a holder is never
 * interrupted by a guest handler that wants the same lock. */
#include "personality/host/host.h"
#include <asm/unistd.h>
#include <linux/futex.h>

void lock_acquire(struct lock *lock) {
    uint32_t free = 0;
    /* acquire: pairs with the release in lock_release */
    if (__atomic_compare_exchange_n(&lock->word, &free, 1u, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&lock->word, 2u, __ATOMIC_ACQUIRE) != 0)
        CALL4(__NR_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, 0);
}

void lock_release(struct lock *lock) {
    if (__atomic_exchange_n(&lock->word, 0u, __ATOMIC_RELEASE) == 2)
        CALL3(__NR_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1);
}
