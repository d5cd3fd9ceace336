/* SPDX-License-Identifier: Apache-2.0 */
/* What the attacks share. Freestanding. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "dvk/ring.h"
#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

/* Outcome of an attack, and exit status of the process that tries it. */
enum outcome {
    REFUSED = 0,   /* as it must be */
    SUCCEEDED = 1, /* confinement is broken */
    UNTRIED = 2,   /* could not be tried */
};

/* A system call as any guest makes it: the personality catches it. */
long guest_call(long number, long a, long b, long c, long d, long e, long f);
/* The same past the personality: by a jump to a system call instruction in its text. */
long bypass_call(long number, long a, long b, long c, long d, long e, long f);
#define GUEST(...) CALL_PADDED(guest_call, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define HOST(...) CALL_PADDED(bypass_call, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_PADDED(fn, n, a, b, c, d, e, f, ...)                                                                      \
    fn((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* End without the personality's help, in whatever state it is. */
_Noreturn void finish(enum outcome outcome);

void sleep_ms(long ms);

/* Read 8 bytes where there may be nothing, by way of a pipe. 1: done. */
int peek(const int pipe[2], uint64_t address, uint64_t *out);

/* Find our own channel's mapping; 0, or -1. */
int channel_find(struct dvk_channel_view *view);

/* One attack. argument: number given on the command line, or 0. */
typedef enum outcome attack_function(long argument);
attack_function attack_open, attack_socket, attack_ptrace, attack_mount, attack_kill, attack_kill_host, attack_memory,
    attack_memory_host, attack_exec, attack_namespace, attack_signal_by_fd, attack_timer, attack_undispatch, attack_x32,
    attack_int80, attack_privilege;
attack_function attack_forge, attack_forge_server, attack_garbage, attack_bad_slot, attack_dead_flag, attack_unmap,
    attack_doorbell, attack_stray;

#endif
