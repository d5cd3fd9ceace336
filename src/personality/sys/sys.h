/* SPDX-License-Identifier: Apache-2.0 */
/* The table of system calls. One row: SYSCALL(number, function, name, argument count) in the table_*.h of its family. */
#ifndef PERSONALITY_SYS_H
#define PERSONALITY_SYS_H

#include "personality/personality.h"

#define SYS_COUNT 512

struct sys_row {
    sys_function *function; /* NULL: no such call, -ENOSYS */
    const char *name;
    uint8_t arguments;
};
extern const struct sys_row sys_table[SYS_COUNT];

/* Calls that the host answers as they are. */
sys_function sys_pass;         /* does not block */
sys_function sys_pass_blocking; /* may block: restarted by SA_RESTART */
sys_function sys_pass_once;    /* may block: -EINTR after a handler, whatever its flags */
sys_function sys_refuse;       /* -EPERM */
sys_function sys_zero;         /* accepted, without effect */

/* One line of the trace of a call that has ended. */
void trace_call(struct task *task, uint64_t number, const uint64_t args[6], long result);

#endif
