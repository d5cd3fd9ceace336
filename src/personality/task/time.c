/* SPDX-License-Identifier: Apache-2.0 */
/* clock_gettime gettimeofday time nanosleep clock_nanosleep timer_create timer_delete: clocks without a system call where possible. */
#include "personality/task/calls.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/time.h>

long sys_clock_gettime(struct task *task, const uint64_t args[6]) {
    (void)task;
    int64_t now[2];
    if (vdso_clock_gettime((uint32_t)args[0], now) != 0)
        return CALL2(__NR_clock_gettime, (int32_t)args[0], args[1]);
    return guest_write(args[1], now, sizeof now);
}

long sys_gettimeofday(struct task *task, const uint64_t args[6]) {
    (void)task;
    int64_t now[2];
    uint64_t zone = 0;
    if (vdso_clock_gettime(CLOCK_REALTIME, now) != 0)
        return CALL2(__NR_gettimeofday, args[0], args[1]);
    now[1] /= 1000;
    if (args[0] != 0 && guest_write(args[0], now, sizeof now) != 0)
        return -EFAULT;
    return args[1] != 0 ? guest_write(args[1], &zone, sizeof zone) : 0;
}

long sys_time(struct task *task, const uint64_t args[6]) {
    (void)task;
    int64_t now[2];
    if (vdso_clock_gettime(CLOCK_REALTIME_COARSE, now) != 0)
        return CALL1(__NR_time, args[0]);
    if (args[0] != 0 && guest_write(args[0], &now[0], sizeof now[0]) != 0)
        return -EFAULT;
    return now[0];
}

long sys_nanosleep(struct task *task, const uint64_t args[6]) {
    long result = host_blocking(task, __NR_nanosleep, args[0], args[1], 0, 0, 0, 0);
    return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
}

long sys_clock_nanosleep(struct task *task, const uint64_t args[6]) {
    long result = host_blocking(task, __NR_clock_nanosleep, (uint64_t)(int32_t)args[0], args[1], args[2], args[3], 0, 0);
    return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
}

/* exec ends these timers, so their ids are kept. A thread to be signalled is one of ours: thread ids are the host's. */
long sys_timer_create(struct task *task, const uint64_t args[6]) {
    int32_t id;
    struct process *process = task->process;
    long result = CALL3(__NR_timer_create, (int32_t)args[0], args[1], &id);
    if (result < 0)
        return result;
    if (id < 0 || id >= 64 || guest_write(args[2], &id, sizeof id) != 0) {
        CALL1(__NR_timer_delete, id);
        return id < 0 || id >= 64 ? -EAGAIN : -EFAULT;
    }
    __atomic_fetch_or(&process->timers, 1ull << id, __ATOMIC_RELAXED);
    return 0;
}

long sys_timer_delete(struct task *task, const uint64_t args[6]) {
    long result = CALL1(__NR_timer_delete, (int32_t)args[0]);
    if (result == 0 && args[0] < 64)
        __atomic_fetch_and(&task->process->timers, ~(1ull << args[0]), __ATOMIC_RELAXED);
    return result;
}
