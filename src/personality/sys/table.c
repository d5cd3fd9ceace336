/* SPDX-License-Identifier: Apache-2.0 */
/* The table of system calls, and the calls that need no code of their own. What has no row is -ENOSYS. */
#include "personality/sys/sys.h"
#include "personality/task/calls.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/unistd.h>

#define SYSCALL(number, function, name, argument_count) sys_function function;
#include "personality/sys/table_fd.h"
#undef SYSCALL

const struct sys_row sys_table[SYS_COUNT] = {
#define SYSCALL(number, function, name, argument_count) [number] = {function, #name, argument_count},
#include "personality/sys/table_fd.h"
#include "personality/sys/table_memory.h"
#include "personality/sys/table_signal.h"
#include "personality/sys/table_task.h"
#undef SYSCALL
};

long sys_pass(struct task *task, const uint64_t args[6]) {
    return host_call((long)thread_of(task)->number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

long sys_pass_blocking(struct task *task, const uint64_t args[6]) {
    long result = host_blocking(task, (long)thread_of(task)->number, args[0], args[1], args[2], args[3], args[4], args[5]);
    return result == -EINTR ? SYS_INTERRUPTED : result;
}

long sys_pass_once(struct task *task, const uint64_t args[6]) {
    long result = host_blocking(task, (long)thread_of(task)->number, args[0], args[1], args[2], args[3], args[4], args[5]);
    return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
}

long sys_refuse(struct task *task, const uint64_t args[6]) {
    (void)task, (void)args;
    return -EPERM;
}

long sys_zero(struct task *task, const uint64_t args[6]) {
    (void)task, (void)args;
    return 0;
}
