/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's signal frame on x86-64, field for field. Freestanding, pure. */
#ifndef PERSONALITY_ENTRY_FRAME_H
#define PERSONALITY_ENTRY_FRAME_H

#include <stddef.h>
#include <stdint.h>

struct signal_info { /* siginfo_t */
    int32_t signal, error, code, pad;
    union {
        struct { int32_t pid; uint32_t uid; uint64_t value; } queue; /* SI_USER, SI_TKILL, SI_QUEUE */
        struct { int32_t pid; uint32_t uid; int32_t status, pad; int64_t utime, stime; } child;
        struct { int32_t id, overrun; uint64_t value; } timer;
        struct { uint64_t address; } fault;
        struct { uint64_t address; int32_t number; uint32_t arch; } call; /* SIGSYS */
        uint8_t bytes[112];
    } u;
};
_Static_assert(sizeof(struct signal_info) == 128, "siginfo_t");

struct signal_context { /* ucontext_t as the kernel writes it */
    uint64_t flags, link;
    uint64_t stack_base;
    uint32_t stack_flags, pad;
    uint64_t stack_size;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
    uint64_t rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error, trap, old_mask, cr2;
    uint64_t extended; /* address of the FP state; 0: none, which restores the initial state */
    uint64_t reserved[8];
    uint64_t mask;
};
_Static_assert(sizeof(struct signal_context) == 304, "ucontext");

struct signal_frame { /* struct rt_sigframe: what a handler's return address lies in */
    uint64_t restorer;
    struct signal_context context;
    struct signal_info info;
};
_Static_assert(sizeof(struct signal_frame) == 440, "rt_sigframe");

/* Software bytes of an FXSAVE area, which tell of the XSAVE image behind it. */
#define EXTENDED_SOFTWARE 464u
#define EXTENDED_MAGIC 0x46505853u
#define EXTENDED_LEGACY 512u

#endif
