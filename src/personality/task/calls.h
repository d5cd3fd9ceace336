/* SPDX-License-Identifier: Apache-2.0 */
/* Prototypes of the system calls of task/, entry/ and memory/, made from their tables. */
#ifndef PERSONALITY_TASK_CALLS_H
#define PERSONALITY_TASK_CALLS_H

#include "personality/sys/sys.h"

#define SYSCALL(number, function, name, argument_count) sys_function function;
#include "personality/sys/table_memory.h"
#include "personality/sys/table_signal.h"
#include "personality/sys/table_task.h"
#undef SYSCALL

#endif
