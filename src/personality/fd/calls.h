/* SPDX-License-Identifier: Apache-2.0 */
/* Prototypes of the system calls of this folder, made from their table. */
#ifndef FD_CALLS_H
#define FD_CALLS_H

#include "personality/personality.h"

#define SYSCALL(number, function, name, argument_count) sys_function function;
#include "personality/sys/table_fd.h"
#undef SYSCALL

#endif
