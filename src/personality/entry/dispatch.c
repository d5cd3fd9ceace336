/* SPDX-License-Identifier: Apache-2.0 */
/* From entry.S: one system call of the guest. */
#include "personality/entry/patch.h"
#include "personality/sys/sys.h"
#include "personality/task/task.h"
#include <asm/errno.h>

/* entry.S knows these. */
_Static_assert(offsetof(struct task, regs) == 8, "TASK_REGS");
_Static_assert(offsetof(struct task, stack_top) == 16, "TASK_STACK");
_Static_assert(offsetof(struct task, scratch) == 24, "TASK_SCRATCH");
_Static_assert(offsetof(struct task, pending) == 56, "TASK_PENDING");
_Static_assert(sizeof(struct regs) == 17 * 8 && offsetof(struct regs, rip) == 14 * 8, "order of the pushes");

extern long guest_copy(void *to, const void *from, size_t len);

long guest_read(void *to, uint64_t from, size_t len) { return guest_copy(to, (const void *)from, len); }
long guest_write(uint64_t to, const void *from, size_t len) { return guest_copy((void *)to, from, len); }

void dispatch(struct task *task, struct regs *regs) {
    struct thread *thread = thread_of(task);
    if (__builtin_expect(thread->trap_site != 0, 0)) {
        thread->trap_site = 0;
        patch_trapped(thread, regs);
    }
    uint64_t number = regs->rax;
    const uint64_t args[6] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
    long result = -ENOSYS;
    thread->number = number;
    if (number < SYS_COUNT && sys_table[number].function != NULL)
        result = sys_table[number].function(task, args);
    if (__builtin_expect(space.trace, 0))
        trace_call(task, number, args, result);
    if (__builtin_expect(result <= SYS_INTERRUPTED && result >= SYS_INTERRUPTED_NOHAND, 0)) {
        /* whether it is made again is decided where signals are delivered */
        thread->restart = result;
        thread->restart_number = number;
        __atomic_store_n(&task->pending, 1u, __ATOMIC_RELAXED);
        result = -EINTR;
    } else {
        thread->restart_always = false;
    }
    regs->rax = (uint64_t)result;
}
