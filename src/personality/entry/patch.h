/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewriting of hot system call sites to jumps. Only code in known text is rewritten: private file mappings that are readable and
 * executable but not writable, so that the protection to restore is known and code that a program generates is left alone.
 * All state belongs to the address space.
 */
#ifndef PERSONALITY_ENTRY_PATCH_H
#define PERSONALITY_ENTRY_PATCH_H

#include "personality/task/task.h"

/* A call trapped at regs->rip - 2: count it, rewrite it when it is hot. May move regs->rip to where the guest goes on. */
void patch_trapped(struct thread *thread, struct regs *regs);
/* SIGILL in the guest: true when it came of a jump to the compare of a rewritten site; then *context is set right. */
bool patch_illegal(struct signal_context *context);
/* Where to go so that the call which returns to `rip` is made again. */
uint64_t patch_restart_address(uint64_t rip);

/* Text is mapped. */
void patch_text_add(uint64_t start, uint64_t len);
/* It is about to be unmapped or replaced: what was rewritten there is gone with it. */
void patch_text_remove(uint64_t start, uint64_t len);
/* It is about to get another protection: nothing more is rewritten there; what was stays. */
void patch_text_forget(uint64_t start, uint64_t len);
/* Everything outside ourselves is gone. */
void patch_reset(void);
/* Held across a fork with memory of its own. */
void patch_fork_begin(void);
void patch_fork_end(void);

#endif
