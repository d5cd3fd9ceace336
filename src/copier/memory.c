/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All goes through pread and pwrite, on processes' memories and arenas alike; memory that cannot be reached is an error
 * of theirs and no signal here. With an arena on one side the kernel copies straight between it and the other.
 */
#include "copier/memory.h"

#include <dvk/error.h>
#include <errno.h>
#include <unistd.h>

#define BOUNCE_BYTES (256u << 10) /* fits in a second-level cache */

int memory_read(const struct grant *from, uint64_t offset, void *to, size_t length, size_t *done) {
    uint64_t at = from->what.address + offset;
    for (*done = 0; *done < length;) {
        ssize_t n = pread(from->memory->fd, (uint8_t *)to + *done, length - *done, (off_t)(at + *done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -EFAULT;
        if (n == 0) /* the process has no memory any more; an arena has no end before the grant's */
            return from->memory->is_arena ? -EFAULT : -DVK_EDEADSRC;
        *done += (size_t)n;
    }
    return 0;
}

int memory_write(const struct grant *to, uint64_t offset, const void *from, size_t length, size_t *done) {
    uint64_t at = to->what.address + offset;
    for (*done = 0; *done < length;) {
        ssize_t n = pwrite(to->memory->fd, (const uint8_t *)from + *done, length - *done, (off_t)(at + *done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -EFAULT;
        if (n == 0)
            return to->memory->is_arena ? -EFAULT : -DVK_EDEADDST;
        *done += (size_t)n;
    }
    return 0;
}

int memory_copy(const struct grant *from, uint64_t from_offset, const struct grant *to, uint64_t to_offset,
                size_t length, size_t *done) {
    static uint8_t bounce[BOUNCE_BYTES];
    if (to->memory->base)
        return memory_read(from, from_offset, to->memory->base + to->what.address + to_offset, length, done);
    if (from->memory->base)
        return memory_write(to, to_offset, from->memory->base + from->what.address + from_offset, length, done);
    for (*done = 0; *done < length;) {
        size_t piece = length - *done < sizeof bounce ? length - *done : sizeof bounce, got, put;
        int error = memory_read(from, from_offset + *done, bounce, piece, &got);
        int second = memory_write(to, to_offset + *done, bounce, got, &put);
        *done += put;
        if (second < 0 || error < 0)
            return second < 0 ? second : error;
    }
    return 0;
}
