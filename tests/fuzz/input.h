/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that libFuzzer gives a target, taken from the front; zeroes once they are used up. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* What must hold. abort() is what libFuzzer counts as a crash. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct input {
    const uint8_t *at;
    size_t left;
};

static inline void input_copy(struct input *in, void *out, size_t len) {
    size_t have = len < in->left ? len : in->left;
    memset(out, 0, len);
    if (have)
        memcpy(out, in->at, have);
    in->at += have;
    in->left -= have;
}
static inline uint8_t input_byte(struct input *in) {
    uint8_t value;
    input_copy(in, &value, sizeof value);
    return value;
}
static inline uint16_t input_u16(struct input *in) {
    uint16_t value;
    input_copy(in, &value, sizeof value);
    return value;
}
static inline uint32_t input_u32(struct input *in) {
    uint32_t value;
    input_copy(in, &value, sizeof value);
    return value;
}
static inline uint64_t input_u64(struct input *in) {
    uint64_t value;
    input_copy(in, &value, sizeof value);
    return value;
}
/* At most len bytes that lie in the input; *got says how many. */
static inline const uint8_t *input_bytes(struct input *in, size_t len, size_t *got) {
    const uint8_t *at = in->at;
    *got = len < in->left ? len : in->left;
    in->at += *got;
    in->left -= *got;
    return at;
}
/* A copy on the heap of exactly that size, so that a byte read beyond it is noticed. To be freed. */
static inline void *input_heap(const uint8_t *bytes, size_t len) {
    uint8_t *copy = malloc(len ? len : 1);
    MUST(copy);
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

/* Read each byte, so that one that may not be read is noticed. */
static inline void input_touch(const void *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        (void)((const volatile uint8_t *)bytes)[i];
}

#endif
