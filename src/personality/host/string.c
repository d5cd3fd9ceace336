/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and blocks of memory. The four mem* functions are what the compiler expects of a freestanding program. */
#include "personality/host/host.h"

#ifndef PERSONALITY_HOSTED
void *memcpy(void *to, const void *from, size_t len) {
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len)::"memory");
    return to;
}

void *memmove(void *to, const void *from, size_t len) {
    if ((uintptr_t)to - (uintptr_t)from >= len)
        return memcpy(to, from, len);
    uint8_t *at = (uint8_t *)to + len - 1;
    const uint8_t *source = (const uint8_t *)from + len - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(at), "+S"(source), "+c"(len)::"memory");
    return to;
}

void *memset(void *to, int byte, size_t len) {
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t len) {
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < len; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}
#endif

size_t string_length(const char *s) {
    size_t n = 0;
    while (s[n] != '\0')
        n++;
    return n;
}

bool string_equal(const char *a, const char *b) {
    while (*a != '\0' && *a == *b)
        a++, b++;
    return *a == *b;
}

bool string_starts(const char *s, const char *prefix) {
    while (*prefix != '\0')
        if (*s++ != *prefix++)
            return false;
    return true;
}

size_t string_copy(char *to, const char *from, size_t cap) {
    size_t n = 0;
    while (n + 1 < cap && from[n] != '\0') {
        to[n] = from[n];
        n++;
    }
    if (cap > 0)
        to[n] = '\0';
    return n;
}

const char *string_basename(const char *path) {
    const char *base = path;
    for (const char *p = path; *p != '\0'; p++)
        if (*p == '/')
            base = p + 1;
    return base;
}
