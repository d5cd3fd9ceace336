/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host port, as the personality's other rooms see it beyond personality.h: strings, text for people, memory of our
 * own, the vDSO, and the channel. Nothing outside host/ and entry/entry.S makes a host system call.
 */
#ifndef PERSONALITY_HOST_H
#define PERSONALITY_HOST_H

#include "personality/personality.h"

/* ---- strings (host/string.c); memcpy, memmove, memset and memcmp too, since the compiler calls them ---- */
void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t string_length(const char *s);
bool string_equal(const char *a, const char *b);
bool string_starts(const char *s, const char *prefix);
/* Copies at most cap - 1 bytes and a NUL; returns the length copied. */
size_t string_copy(char *to, const char *from, size_t cap);
/* Part after the last slash. */
const char *string_basename(const char *path);

/* ---- text for people (host/print.c) ---- */
struct text {
    char *at;
    size_t len, cap;
};
void text_string(struct text *text, const char *s);
void text_number(struct text *text, int64_t value);
void text_hex(struct text *text, uint64_t value);
/* One line to the host's file descriptor for messages (the guest's standard error where that is a host fd). */
void print_line(const char *line, size_t len);
/* The personality itself is broken: one line with the place, then the process ends as if killed by SIGKILL. */
_Noreturn void personality_panic(const char *what, uint64_t a, uint64_t b);

/* ---- memory of our own (host/area.c) ---- */
/* Address range only (nothing mapped, a free page before and after); 0 when none. */
uint64_t area_reserve(size_t len);
void area_unreserve(uint64_t address, size_t len);
/* Held across a fork with memory of its own, so that the child finds both consistent. */
void area_fork_begin(void);
void area_fork_end(void);

/* ---- the vDSO (host/vdso.c) ---- */
/* Move the kernel's vDSO into our own area, where no guest sees it. auxv value of AT_SYSINFO_EHDR or 0. */
void vdso_adopt(uint64_t address);
/* Is this instruction address in it? */
bool vdso_contains(uint64_t address);
/* clock_gettime(2) without a system call: 0, or -ENOSYS when this clock needs one. time: {seconds, nanoseconds}. */
long vdso_clock_gettime(uint64_t clock, int64_t time[2]);

/* ---- asm stubs (entry/entry.S) ---- */
/* Switch to `stack` and call function(argument), which does not return. */
_Noreturn void stack_switch(uint64_t stack, void (*function)(void *), void *argument);

/* CPU this thread runs on (a hint: it may have moved since). */
static inline uint32_t cpu_current(void) {
#ifdef PERSONALITY_HOSTED
    return 0;
#else
    uint32_t value; /* segment limit that the kernel keeps for this: cpu in the low 12 bits */
    __asm__ volatile("lsl %1, %0" : "=r"(value) : "r"(0x7bu) : "cc");
    return value & 0xfff;
#endif
}

static inline void cpu_pause(void) { __asm__ volatile("pause" ::: "memory"); }

#define CALL0(n) host_call(n, 0, 0, 0, 0, 0, 0)
#define CALL1(n, a) host_call(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define CALL2(n, a, b) host_call(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define CALL3(n, a, b, c) host_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define CALL4(n, a, b, c, d) host_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)
#define CALL5(n, a, b, c, d, e)                                                                                        \
    host_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), 0)
#define CALL6(n, a, b, c, d, e, f)                                                                                     \
    host_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), (uint64_t)(f))

#define PAGE 4096ull
static inline uint64_t page_up(uint64_t n) { return (n + PAGE - 1) & ~(PAGE - 1); }
static inline uint64_t page_down(uint64_t n) { return n & ~(PAGE - 1); }

#endif
