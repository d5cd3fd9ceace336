/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getrlimit setrlimit prlimit64 getrusage times getpriority setpriority sched_* prctl arch_prctl personality
 */
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/prctl.h>
#include <linux/resource.h>

#define LIMIT_COUNT 16u
#define RUSAGE_SIZE 144

/* ---- limits ---- */

/* RLIMIT_NOFILE is the descriptor table's; the others of this process are the host's, and pm is told, for children elsewhere. */
static long limit_exchange(struct task *task, int32_t pid, uint32_t resource, const uint64_t *new, uint64_t old[2]) {
    struct process *process = task->process;
    bool own = pid == 0 || pid == process->pid;
    if (resource >= LIMIT_COUNT)
        return -EINVAL;
    if (new != NULL && new[0] > new[1])
        return -EINVAL;
    if (own && resource == RLIMIT_NOFILE) {
        old[0] = fd_limit(process);
        old[1] = FD_LIMIT_MAX;
        if (new == NULL)
            return 0;
        if (new[1] > FD_LIMIT_MAX)
            return -EPERM;
        long result = fd_limit_set(process, new[0]);
        if (result < 0)
            return result;
    } else if (own) {
        long result = CALL4(__NR_prlimit64, 0, resource, new, old);
        if (result < 0 || new == NULL)
            return result;
    }
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_RLIMIT;
    rpc.message.payload.ints[0] = own ? process->pid : pid;
    rpc.message.payload.words[1] = resource;
    rpc.message.payload.words[2] = new != NULL;
    rpc.message.payload.words[3] = new != NULL ? new[0] : 0;
    rpc.message.payload.words[4] = new != NULL ? new[1] : 0;
    long result = rpc_call(task, &rpc);
    if (own)
        return 0;
    old[0] = rpc.message.payload.words[0];
    old[1] = rpc.message.payload.words[1];
    return result < 0 ? result : 0;
}

static long limit_call(struct task *task, int32_t pid, uint32_t resource, uint64_t new_address, uint64_t old_address) {
    uint64_t new[2], old[2] = {0, 0};
    if (new_address != 0 && guest_read(new, new_address, sizeof new) != 0)
        return -EFAULT;
    long result = limit_exchange(task, pid, resource, new_address != 0 ? new : NULL, old);
    if (result < 0)
        return result;
    return old_address != 0 ? guest_write(old_address, old, sizeof old) : 0;
}

long sys_getrlimit(struct task *task, const uint64_t args[6]) {
    return args[1] == 0 ? -EFAULT : limit_call(task, 0, (uint32_t)args[0], 0, args[1]);
}
long sys_setrlimit(struct task *task, const uint64_t args[6]) {
    return args[1] == 0 ? -EFAULT : limit_call(task, 0, (uint32_t)args[0], args[1], 0);
}
long sys_prlimit64(struct task *task, const uint64_t args[6]) {
    return limit_call(task, (int32_t)args[0], (uint32_t)args[1], args[2], args[3]);
}

/* ---- use ---- */

static long children_rusage(struct task *task, int64_t rusage[RUSAGE_SIZE / 8]) {
    struct rpc rpc = {.reply = rusage, .reply_cap = RUSAGE_SIZE, .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_RUSAGE;
    rpc.message.payload.ints[0] = RUSAGE_CHILDREN;
    memset(rusage, 0, RUSAGE_SIZE);
    return rpc_call(task, &rpc);
}

long sys_getrusage(struct task *task, const uint64_t args[6]) {
    int64_t rusage[RUSAGE_SIZE / 8];
    if ((int)args[0] != RUSAGE_CHILDREN)
        return CALL2(__NR_getrusage, (int)args[0], args[1]);
    long result = children_rusage(task, rusage);
    return result < 0 ? result : guest_write(args[1], rusage, sizeof rusage);
}

long sys_times(struct task *task, const uint64_t args[6]) {
    int64_t times[4], rusage[RUSAGE_SIZE / 8];
    long ticks = CALL1(__NR_times, times);
    if (ticks < 0 && ticks > -4096)
        return ticks;
    if (args[0] == 0)
        return ticks;
    if (children_rusage(task, rusage) >= 0) {
        int64_t rate = (int64_t)space.clock_tick;
        times[2] = rusage[0] * rate + rusage[1] * rate / 1000000;
        times[3] = rusage[2] * rate + rusage[3] * rate / 1000000;
    }
    return guest_write(args[0], times, sizeof times) != 0 ? -EFAULT : ticks;
}

/* ---- scheduling ---- */

static long priority_ask(struct task *task, int64_t set, const uint64_t args[6], int64_t value) {
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_PRIORITY;
    rpc.message.payload.ints[0] = set;
    rpc.message.payload.ints[1] = (int32_t)args[0];
    rpc.message.payload.ints[2] = (int32_t)args[1];
    rpc.message.payload.ints[3] = value;
    long result = rpc_call(task, &rpc);
    return result < 0 || set ? result : (long)rpc.message.payload.ints[0];
}

long sys_getpriority(struct task *task, const uint64_t args[6]) { return priority_ask(task, 0, args, 0); }
long sys_setpriority(struct task *task, const uint64_t args[6]) { return priority_ask(task, 1, args, (int32_t)args[2]); }

static bool is_own_thread(struct task *task, int32_t tid) {
    struct process *process = task->process;
    bool found = tid == process->pid;
    lock_acquire(&process->thread_lock);
    for (struct thread *thread = process->threads; thread != NULL && !found; thread = thread->next)
        found = thread->task.tid == tid;
    lock_release(&process->thread_lock);
    return found;
}

/* Questions about a thread: ours are the host's; of other processes pm says whether they exist, and our own figures are as
 * good as any, since all are scheduled alike. */
long sys_sched_get(struct task *task, const uint64_t args[6]) {
    int32_t tid = (int32_t)args[0];
    if (tid < 0)
        return -EINVAL;
    uint64_t who = (uint64_t)tid;
    if (tid != 0 && tid != task->tid && !is_own_thread(task, tid)) {
        struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
        rpc.message.type = PM_SCHED;
        rpc.message.payload.ints[0] = tid;
        long result = rpc_call(task, &rpc);
        if (result < 0)
            return result;
        who = 0;
    }
    return host_call((long)thread_of(task)->number, who, args[1], args[2], args[3], 0, 0);
}

/* Changes: the host lets a thread change itself only. For another thread of ours it is accepted without effect where that
 * asks for nothing but the default policy. */
long sys_sched_set(struct task *task, const uint64_t args[6]) {
    int32_t tid = (int32_t)args[0];
    if (tid < 0)
        return -EINVAL;
    if (tid == 0 || tid == task->tid)
        return host_call((long)thread_of(task)->number, 0, args[1], args[2], args[3], 0, 0);
    if (is_own_thread(task, tid))
        return thread_of(task)->number == __NR_sched_setaffinity ? 0 : -EPERM;
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_SCHED;
    rpc.message.payload.ints[0] = tid;
    long result = rpc_call(task, &rpc);
    return result < 0 ? result : -EPERM;
}

/* ---- prctl and kin ---- */

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

static long name_set(struct task *task, uint64_t address) {
    char name[16] = {0};
    long result = guest_string(name, address, sizeof name - 1);
    if (result < 0 && result != -ENAMETOOLONG)
        return result;
    name[sizeof name - 1] = '\0';
    if (task->tid == task->process->pid)
        memcpy(task->process->comm, name, sizeof name);
    return CALL2(__NR_prctl, PR_SET_NAME, name);
}

long sys_prctl(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    int zero = 0, value;
    switch ((int)args[0]) {
    case PR_SET_NAME:
        return name_set(task, args[1]);
    case PR_GET_NAME:
    case PR_SET_TIMERSLACK:
    case PR_GET_TIMERSLACK:
    case PR_SET_THP_DISABLE:
    case PR_GET_THP_DISABLE:
    case PR_SET_VMA:
        return CALL5(__NR_prctl, args[0], args[1], args[2], args[3], args[4]);
    case PR_SET_PDEATHSIG: /* remembered for those who ask; not sent */
        if (args[1] > SIGNAL_COUNT)
            return -EINVAL;
        process->death_signal = (uint32_t)args[1];
        return 0;
    case PR_GET_PDEATHSIG:
        value = (int)process->death_signal;
        return guest_write(args[1], &value, sizeof value);
    case PR_SET_DUMPABLE:
        if (args[1] > 1)
            return -EINVAL;
        process->dumpable = (uint32_t)args[1];
        return 0;
    case PR_GET_DUMPABLE:
        return process->dumpable;
    case PR_SET_NO_NEW_PRIVS:
        return args[1] == 1 && args[2] == 0 && args[3] == 0 && args[4] == 0 ? 0 : -EINVAL;
    case PR_GET_NO_NEW_PRIVS:
        return 1;
    case PR_CAPBSET_READ:
        return args[1] <= 40 ? 1 : -EINVAL;
    case PR_CAPBSET_DROP:
        return process->euid != 0 ? -EPERM : args[1] <= 40 ? 0 : -EINVAL;
    case PR_GET_KEEPCAPS:
    case PR_GET_SECUREBITS:
    case PR_GET_SECCOMP:
        return 0;
    case PR_SET_KEEPCAPS:
        return args[1] > 1 ? -EINVAL : 0;
    case PR_GET_CHILD_SUBREAPER:
        return guest_write(args[1], &zero, sizeof zero);
    case PR_SET_PTRACER:
        return 0;
    case PR_GET_TID_ADDRESS:
        return guest_write(args[1], &thread_of(task)->clear_tid, 8);
    default:
        return -EINVAL;
    }
}

long sys_arch_prctl(struct task *task, const uint64_t args[6]) {
    (void)task;
    uint64_t zero = 0;
    switch ((int)args[0]) {
    case ARCH_SET_FS:
        return args[1] >= 0x7ffffffff000ull ? -EPERM : CALL2(__NR_arch_prctl, ARCH_SET_FS, args[1]);
    case ARCH_GET_FS:
    case ARCH_GET_CPUID:
    case ARCH_SET_CPUID:
    case ARCH_GET_XCOMP_SUPP:
    case ARCH_GET_XCOMP_PERM:
    case ARCH_REQ_XCOMP_PERM:
        return CALL2(__NR_arch_prctl, args[0], args[1]);
    case ARCH_GET_GS:
        return guest_write(args[1], &zero, sizeof zero);
    case ARCH_SET_GS: /* GS is ours */
        return -EPERM;
    default:
        return -EINVAL;
    }
}

long sys_personality(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    uint32_t old = process->persona;
    if ((uint32_t)args[0] != 0xffffffffu)
        process->persona = (uint32_t)args[0];
    return old;
}
