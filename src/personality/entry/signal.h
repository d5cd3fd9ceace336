/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: numbers, and what signal.c and sigcalls.c share. */
#ifndef PERSONALITY_ENTRY_SIGNAL_H
#define PERSONALITY_ENTRY_SIGNAL_H

#include "personality/task/task.h"

enum signal_number {
    SIG_HUP = 1, SIG_INT = 2, SIG_QUIT = 3, SIG_ILL = 4, SIG_TRAP = 5, SIG_ABRT = 6, SIG_BUS = 7, SIG_FPE = 8,
    SIG_KILL = 9, SIG_SEGV = 11, SIG_PIPE = 13, SIG_STKFLT = 16, SIG_CHLD = 17, SIG_CONT = 18, SIG_STOP = 19,
    SIG_TSTP = 20, SIG_TTIN = 21, SIG_TTOU = 22, SIG_URG = 23, SIG_XCPU = 24, SIG_XFSZ = 25, SIG_WINCH = 28,
    SIG_SYS = 31, SIG_RT_MIN = 32,
};

#define HANDLER_DEFAULT 0u
#define HANDLER_IGNORE 1u

#define ACTION_NOCLDWAIT 0x2u
#define ACTION_SIGINFO 0x4u
#define ACTION_RESTORER 0x04000000u
#define ACTION_ONSTACK 0x08000000u
#define ACTION_RESTART 0x10000000u
#define ACTION_NODEFER 0x40000000u
#define ACTION_RESETHAND 0x80000000u

#define STACK_ONSTACK 1u
#define STACK_DISABLE 2u
#define STACK_AUTODISARM 0x80000000u

#define CODE_USER 0
#define CODE_KERNEL 0x80
#define CODE_QUEUE (-1)
#define CODE_TKILL (-6)

/* Always caught by us and never blocked at the host: faults of our own copies from guest memory, Syscall User Dispatch,
 * rewritten sites, and the request to stop. What a guest says about them is kept in its tables only. */
#define SIGNALS_OURS                                                                                                   \
    (SIGNAL_BIT(SIG_SEGV) | SIGNAL_BIT(SIG_BUS) | SIGNAL_BIT(SIG_ILL) | SIGNAL_BIT(SIG_SYS) | SIGNAL_BIT(SIG_STKFLT))
#define SIGNALS_UNBLOCKABLE (SIGNAL_BIT(SIG_KILL) | SIGNAL_BIT(SIG_STOP))

/* si_value of the SIGSTKFLT that one thread sends to the others of its process to stop them. */
#define STOP_VALUE 0x44565354504f5453ull

/* What a signal with default action does. */
enum signal_default { DEFAULT_TERMINATE, DEFAULT_CORE, DEFAULT_IGNORE, DEFAULT_STOP };
enum signal_default signal_default_of(int signal);

/* A host siginfo as the guest is to see it: those queued by pm are rebuilt, others are copied. Pure. */
void signal_info_rebuild(struct signal_info *out, const struct signal_info *in);

/* Lowest unused address of a frame for a handler: where the extended state and the frame go. Pure. */
struct frame_place {
    uint64_t extended, frame; /* extended: 0 when there is none */
};
struct frame_place frame_place(uint64_t stack_pointer, const struct guest_stack *stack, uint64_t action_flags,
                               uint32_t extended_len);
/* Is this stack pointer on the guest's alternate stack? */
bool stack_contains(const struct guest_stack *stack, uint64_t stack_pointer);

/* Set the host's disposition: the guest's default or ignore, else our handler. */
void signal_host_disposition(int number, uint64_t handler);
/* Take the first held signal of a set. */
bool signal_held_take(struct thread *thread, uint64_t wanted, struct signal_info *out);
void signal_hold(struct thread *thread, const struct signal_info *info);
/* Deliver what can be delivered, on top of the guest state in *state. Returns false when nothing was; else it does not return. */
bool signal_deliver(struct thread *thread, struct signal_context *state, bool from_call);
/* Enter the guest with this state; task->blocked is its mask. */
_Noreturn void signal_resume(struct thread *thread, struct signal_context *state);

#endif
