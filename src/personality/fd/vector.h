/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's iovec arrays: copied once, checked, then walked. */
#ifndef FD_VECTOR_H
#define FD_VECTOR_H

#include "personality/personality.h"

#define VECTOR_MAX 1024u /* IOV_MAX */
#define VECTOR_INLINE 16u
#define IO_MAX 0x7ffff000ull /* most that one call moves, as in Linux */

struct vector_part {
    uint64_t base; /* guest address */
    uint64_t len;
};
_Static_assert(sizeof(struct vector_part) == 16, "struct iovec");

struct vector {
    struct vector_part *part; /* `local`, or pages of its own */
    uint32_t count;
    uint32_t index;  /* of the part that comes next */
    uint64_t offset; /* in it */
    uint64_t total;  /* bytes in all, at most IO_MAX */
    struct vector_part local[VECTOR_INLINE];
};

/* Copy the array of `count` parts at `address`. -EINVAL as readv(2), -EFAULT, -ENOMEM. vector_end frees it. */
long vector_copy(struct vector *vector, uint64_t address, uint64_t count);
void vector_end(struct vector *vector);
/* The next piece of memory, of at most max bytes; its length, 0 at the end. */
size_t vector_next(struct vector *vector, uint64_t *address, size_t max);
/* Copy bytes between a buffer and the next len bytes of the guest's memory. Count (short at the end), -EFAULT if none.
 */
long vector_put(struct vector *vector, const void *from, size_t len);
long vector_get(struct vector *vector, void *to, size_t len);

#endif
