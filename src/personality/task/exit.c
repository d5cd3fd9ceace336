/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit exit_group set_tid_address set_robust_list; and how threads are stopped for exec.
 *
 * The leader's host thread must outlive the others, since exec needs the thread whose id is the pid: a leader that calls
 * exit(2) parks until it is the last.
 */
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/futex.h>

#define ROBUST_HEAD_SIZE 24

extern void host_restorer(void);

_Noreturn void process_exit(int code) {
    /* init reaps us and tells pm: no message is needed */
    for (;;)
        CALL1(__NR_exit_group, code & 0xff);
}

_Noreturn void process_die(struct task *task, int number) {
    /* the host's default action, so that init sees the right status: pm sends the signal, since we may not */
    struct signal_action action = {.flags = ACTION_RESTORER, .restorer = (uint64_t)host_restorer};
    uint64_t mask = ~SIGNAL_BIT(number);
    signal_block_all();
    CALL4(__NR_rt_sigaction, number, &action, 0, 8);
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_TGKILL;
    rpc.message.payload.ints[0] = task->process->pid;
    rpc.message.payload.ints[1] = task->tid;
    rpc.message.payload.ints[2] = number;
    (void)rpc_call(task, &rpc);
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    process_exit(128 + number); /* pm is gone, or would not */
}

static void count_changed(struct process *process) { CALL3(__NR_futex, &process->thread_count, FUTEX_WAKE_PRIVATE, 64); }

/* Wait until the process has at most `count` threads in its list. */
static void count_wait(struct process *process, uint32_t count) {
    for (;;) {
        uint32_t now = __atomic_load_n(&process->thread_count, __ATOMIC_SEQ_CST);
        if (now <= count)
            return;
        CALL4(__NR_futex, &process->thread_count, FUTEX_WAIT_PRIVATE, now, 0);
    }
}

/* The host must not touch guest memory when this thread ends: what lies there then may be another program's. */
static void host_forget(struct thread *thread) {
    CALL1(__NR_set_tid_address, 0);
    CALL2(__NR_set_robust_list, 0, ROBUST_HEAD_SIZE);
    thread->clear_tid = 0;
    thread->robust_head = 0;
}

/* Off the list and the host. Signals are blocked. */
static _Noreturn void thread_vanish(struct thread *thread, int status) {
    struct process *process = thread->task.process;
    lock_acquire(&process->thread_lock);
    thread_unlink(thread);
    thread->next = process->dead;
    process->dead = thread;
    lock_release(&process->thread_lock);
    count_changed(process);
    for (;;)
        CALL1(__NR_exit, status);
}

_Noreturn void thread_stop(struct thread *thread) {
    signal_block_all();
    host_forget(thread);
    thread_vanish(thread, 0);
}

/* The leader has ended, but others live: wait for them, or for an exec that needs us. */
static _Noreturn void leader_park(struct thread *thread, int status) {
    struct process *process = thread->task.process;
    uint64_t address = thread->clear_tid;
    uint32_t zero = 0;
    signal_block_all();
    host_forget(thread);
    lock_acquire(&process->thread_lock);
    thread_unlink(thread);
    process->leader_parked = true;
    lock_release(&process->thread_lock);
    count_changed(process);
    if (address != 0) { /* joiners wait for this */
        uint64_t mask = ~SIGNALS_OURS;
        CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
        if (guest_write(address, &zero, sizeof zero) == 0)
            CALL3(__NR_futex, address, FUTEX_WAKE, 1);
        signal_block_all();
    }
    for (;;) {
        uint32_t now = __atomic_load_n(&process->thread_count, __ATOMIC_SEQ_CST);
        if (now == 0 && __atomic_load_n(&process->stopping, __ATOMIC_SEQ_CST) != 0 && process->survivor == thread) {
            lock_acquire(&process->thread_lock);
            process->leader_parked = false;
            thread_link(thread);
            lock_release(&process->thread_lock);
            uint64_t mask = ~SIGNALS_OURS;
            CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
            thread_stop_check(thread);
        }
        if (now == 0)
            process_exit(status);
        CALL4(__NR_futex, &process->thread_count, FUTEX_WAIT_PRIVATE, now, 0);
    }
}

_Noreturn void thread_exit(struct task *task, int status) {
    struct thread *thread = thread_of(task);
    struct process *process = task->process;
    lock_acquire(&process->thread_lock);
    bool last = process->thread_count == 1 && !process->leader_parked;
    lock_release(&process->thread_lock);
    if (last)
        process_exit(status);
    if (process->leader == thread)
        leader_park(thread, status);
    signal_block_all();
    thread_vanish(thread, status);
}

long sys_exit(struct task *task, const uint64_t args[6]) { thread_exit(task, (int)args[0]); }

long sys_exit_group(struct task *task, const uint64_t args[6]) {
    (void)task;
    process_exit((int)args[0]);
}

long sys_set_tid_address(struct task *task, const uint64_t args[6]) {
    thread_of(task)->clear_tid = args[0];
    CALL1(__NR_set_tid_address, args[0]);
    return task->tid;
}

long sys_set_robust_list(struct task *task, const uint64_t args[6]) {
    long result = CALL2(__NR_set_robust_list, args[0], args[1]);
    if (result == 0)
        thread_of(task)->robust_head = args[0];
    return result;
}

/* ---- stopping the other threads ---- */

void thread_stop_check(struct thread *thread) {
    struct process *process = thread->task.process;
    if (__atomic_load_n(&process->stopping, __ATOMIC_SEQ_CST) == 0)
        return;
    if (process->survivor != thread)
        thread_stop(thread);
    if (process->plan == NULL)
        return; /* the leader that called exec itself */
    count_wait(process, 1);
    struct exec_plan *plan = process->plan;
    lock_acquire(&process->thread_lock);
    process->stopping = 0;
    process->plan = NULL;
    lock_release(&process->thread_lock);
    exec_commit(&thread->task, plan);
}

static void stop_send(struct task *task, int32_t tid) {
    struct signal_info info = {.signal = SIG_STKFLT, .code = CODE_QUEUE};
    info.u.queue.pid = task->process->pid;
    info.u.queue.value = STOP_VALUE;
    struct rpc rpc = {.data = &info, .data_len = sizeof info, .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_SIGQUEUE;
    rpc.message.payload.ints[0] = task->process->pid;
    rpc.message.payload.ints[1] = tid;
    rpc.message.payload.ints[2] = SIG_STKFLT;
    (void)rpc_call(task, &rpc); /* one that is just ending is no error */
}

long threads_stop(struct task *task, struct exec_plan *plan) {
    struct process *process = task->process;
    struct thread *self = thread_of(task);
    lock_acquire(&process->thread_lock);
    if (process->stopping != 0) {
        lock_release(&process->thread_lock);
        return SYS_RESTART_ALWAYS;
    }
    process->survivor = process->leader;
    process->plan = process->leader == self ? NULL : plan;
    __atomic_store_n(&process->stopping, 1u, __ATOMIC_SEQ_CST);
    uint32_t count = process->thread_count;
    int32_t *tids = count > 1 ? heap_alloc(process, count * sizeof *tids) : NULL;
    uint32_t n = 0;
    for (struct thread *thread = process->threads; thread != NULL && tids != NULL; thread = thread->next)
        if (thread != self)
            tids[n++] = thread->task.tid;
    lock_release(&process->thread_lock);
    for (uint32_t i = 0; i < n; i++)
        stop_send(task, tids[i]);
    heap_free(process, tids);
    if (process->leader != self)
        thread_stop(self); /* a parked leader wakes as the count changes */
    count_wait(process, 1);
    lock_acquire(&process->thread_lock);
    process->stopping = 0;
    lock_release(&process->thread_lock);
    return 0;
}
