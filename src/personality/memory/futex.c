/* SPDX-License-Identifier: Apache-2.0 */
/* futex: the host's. Shared futexes work between processes of one node that share the memory. */
#include "personality/task/calls.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/futex.h>

long sys_futex(struct task *task, const uint64_t args[6]) {
    int command = (int)args[1] & FUTEX_CMD_MASK;
    switch (command) {
    case FUTEX_WAKE:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
    case FUTEX_WAKE_BITSET:
    case FUTEX_UNLOCK_PI:
    case FUTEX_TRYLOCK_PI:
    case FUTEX_CMP_REQUEUE_PI:
        return host_call(__NR_futex, args[0], args[1], args[2], args[3], args[4], args[5]);
    default:
        break;
    }
    long result = host_blocking(task, __NR_futex, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (result != -EINTR)
        return result;
    switch (command) {
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        return SYS_RESTART_ALWAYS;
    case FUTEX_WAIT: /* a relative timeout would begin anew */
        return args[3] != 0 ? SYS_INTERRUPTED_NOHAND : SYS_INTERRUPTED;
    default:
        return SYS_INTERRUPTED;
    }
}
