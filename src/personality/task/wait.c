/* SPDX-License-Identifier: Apache-2.0 */
/* wait4 waitid: pm knows the children, wherever they run. */
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <linux/wait.h>

#define RUSAGE_SIZE 144

struct waited {
    int64_t pid;
    int status;
    uint32_t uid;
    uint8_t rusage[RUSAGE_SIZE];
};

static long children_wait(struct task *task, int64_t pid, uint64_t options, struct waited *out) {
    struct rpc rpc = {.reply = out->rusage, .reply_cap = sizeof out->rusage};
    rpc.message.type = PM_WAIT;
    rpc.message.payload.ints[0] = pid;
    rpc.message.payload.words[1] = options;
    memset(out, 0, sizeof *out);
    long result = rpc_call(task, &rpc);
    if (result < 0)
        return result == -EINTR ? SYS_INTERRUPTED : result;
    out->pid = rpc.message.payload.ints[0];
    out->status = (int)rpc.message.payload.ints[1];
    out->uid = (uint32_t)rpc.message.payload.words[2];
    return 0;
}

long sys_wait4(struct task *task, const uint64_t args[6]) {
    struct waited waited;
    if (args[2] & ~(uint64_t)(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
        return -EINVAL;
    if ((int32_t)args[0] == (int32_t)0x80000000)
        return -ESRCH;
    long result = children_wait(task, (int32_t)args[0], (args[2] & (WNOHANG | WUNTRACED | WCONTINUED)) | WEXITED, &waited);
    if (result < 0 || waited.pid == 0)
        return result;
    if (args[1] != 0 && guest_write(args[1], &waited.status, sizeof waited.status) != 0)
        return -EFAULT;
    if (args[3] != 0 && guest_write(args[3], waited.rusage, RUSAGE_SIZE) != 0)
        return -EFAULT;
    return waited.pid;
}

enum { CLD_CODE_EXITED = 1, CLD_CODE_KILLED = 2, CLD_CODE_DUMPED = 3, CLD_CODE_STOPPED = 5, CLD_CODE_CONTINUED = 6 };

static void info_of_status(struct signal_info *info, int status) {
    if (status == 0xffff) {
        info->code = CLD_CODE_CONTINUED;
        info->u.child.status = SIG_CONT;
    } else if ((status & 0xff) == 0x7f) {
        info->code = CLD_CODE_STOPPED;
        info->u.child.status = (status >> 8) & 0xff;
    } else if (status & 0x7f) {
        info->code = status & 0x80 ? CLD_CODE_DUMPED : CLD_CODE_KILLED;
        info->u.child.status = status & 0x7f;
    } else {
        info->code = CLD_CODE_EXITED;
        info->u.child.status = (status >> 8) & 0xff;
    }
}

long sys_waitid(struct task *task, const uint64_t args[6]) {
    struct waited waited;
    int64_t pid;
    if ((args[3] & ~(uint64_t)(WNOHANG | WSTOPPED | WEXITED | WCONTINUED | WNOWAIT | __WNOTHREAD | __WCLONE | __WALL)) ||
        !(args[3] & (WSTOPPED | WEXITED | WCONTINUED)))
        return -EINVAL;
    switch ((int)args[0]) {
    case P_ALL:
        pid = -1;
        break;
    case P_PID:
        pid = (int32_t)args[1];
        if (pid <= 0)
            return -EINVAL;
        break;
    case P_PGID:
        if ((int32_t)args[1] < 0)
            return -EINVAL;
        pid = -(int64_t)(int32_t)args[1]; /* 0: our own group */
        break;
    default:
        return -EINVAL;
    }
    long result = children_wait(task, pid, args[3], &waited);
    if (result < 0)
        return result;
    struct signal_info info = {0};
    if (waited.pid != 0) {
        info.signal = SIG_CHLD;
        info.u.child.pid = (int32_t)waited.pid;
        info.u.child.uid = waited.uid;
        info_of_status(&info, waited.status);
    }
    if (args[2] != 0 && guest_write(args[2], &info, sizeof info) != 0)
        return -EFAULT;
    if (args[4] != 0 && waited.pid != 0 && guest_write(args[4], waited.rusage, RUSAGE_SIZE) != 0)
        return -EFAULT;
    return 0;
}
