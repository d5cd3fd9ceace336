/* SPDX-License-Identifier: Apache-2.0 */
#include "personality/fd/vector.h"

#include "personality/fd/abi.h"

long vector_copy(struct vector *vector, uint64_t address, uint64_t count) {
    vector->part = vector->local;
    vector->count = (uint32_t)count;
    vector->index = 0;
    vector->offset = 0;
    vector->total = 0;
    if (count > VECTOR_MAX)
        return -EINVAL;
    if (count > VECTOR_INLINE && !(vector->part = area_alloc(count * sizeof(*vector->part))))
        return -ENOMEM;
    long result = count ? guest_read(vector->part, address, count * sizeof(*vector->part)) : 0;
    for (uint64_t i = 0; result >= 0 && i < count; i++) {
        struct vector_part *part = &vector->part[i];
        if (part->len > INT64_MAX)
            result = -EINVAL;
        else if (part->len > IO_MAX - vector->total)
            part->len = IO_MAX - vector->total;
        vector->total += part->len;
    }
    if (result < 0)
        vector_end(vector);
    return result < 0 ? result : 0;
}

void vector_end(struct vector *vector) {
    if (vector->part != vector->local)
        area_free(vector->part, vector->count * sizeof(*vector->part));
    vector->part = vector->local;
    vector->count = 0;
}

size_t vector_next(struct vector *vector, uint64_t *address, size_t max) {
    while (vector->index < vector->count && vector->offset == vector->part[vector->index].len) {
        vector->index++;
        vector->offset = 0;
    }
    if (vector->index == vector->count)
        return 0;
    const struct vector_part *part = &vector->part[vector->index];
    uint64_t len = part->len - vector->offset;
    if (len > max)
        len = max;
    *address = part->base + vector->offset;
    vector->offset += len;
    return len;
}

static long vector_move(struct vector *vector, char *own, size_t len, bool put) {
    size_t done = 0;
    while (done < len) {
        uint64_t address;
        size_t piece = vector_next(vector, &address, len - done);
        if (piece == 0)
            break;
        long result = put ? guest_write(address, own + done, piece) : guest_read(own + done, address, piece);
        if (result < 0)
            return done ? (long)done : result;
        done += piece;
    }
    return (long)done;
}

long vector_put(struct vector *vector, const void *from, size_t len) {
    return vector_move(vector, (char *)(uintptr_t)from, len, true);
}

long vector_get(struct vector *vector, void *to, size_t len) {
    return vector_move(vector, to, len, false);
}
