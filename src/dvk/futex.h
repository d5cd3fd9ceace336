/* SPDX-License-Identifier: Apache-2.0 */
/* futex(2) on words shared between processes. Hosted; thread and signal safe. */
#ifndef DVK_FUTEX_H
#define DVK_FUTEX_H

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Wake up to count waiters on word. */
static inline void dvk_futex_wake(uint32_t *word, int count) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Sleep while *word == value. timeout_ns: relative; -1: for ever. Returns 0 or a negative errno: -EAGAIN (the value
 * differs), -ETIMEDOUT, -EINTR. The caller looks at its condition again in any case. */
static inline int dvk_futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns) {
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    return syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? NULL : &ts, NULL, 0) < 0 ? -errno : 0;
}

#endif
