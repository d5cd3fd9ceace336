/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone clone3 fork vfork unshare
 *
 * Host children are all init's (CLONE_PARENT), with the pid or thread id that pm chose (set_tid). Three kinds:
 *   thread            a block of its own, the same process
 *   fork              a copy of our memory: the child goes on in the copy of this very call, and makes the copy of our struct
 *                     process its own
 *   vfork and alike   (CLONE_VM without CLONE_THREAD): a block and a struct process of its own in our memory; the
 *                     parent takes both back when it goes on (CLONE_VFORK), else they are never freed
 *
 * Signals are blocked at the host from before the host's clone until the child is ready to be interrupted.
 */
#include "personality/entry/patch.h"
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/sched.h>

#define NAMESPACE_FLAGS                                                                                                \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME)
#define HOST_PROCESS_FLAGS                                                                                             \
    (CLONE_VM | CLONE_VFORK | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)
#define HOST_THREAD_FLAGS                                                                                              \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |  \
     CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_IO)
#define TIDS_AT_ONCE 8

void thread_start(struct thread *thread);

struct clone_request {
    uint64_t flags, stack /* top; 0: the parent's */, tls, parent_tid, child_tid;
    int exit_signal;
};

/* ---- threads ---- */

/* A thread id that no thread has; negative errno. */
static long tid_take(struct task *task) {
    struct process *process = task->process;
    threads_reap(task);
    for (;;) {
        lock_acquire(&process->thread_lock);
        int32_t tid = 0;
        if (process->tid_count > 0) {
            tid = process->tids[0];
            process->tid_count--;
            for (uint32_t i = 0; i < process->tid_count; i++)
                process->tids[i] = process->tids[i + 1];
        }
        lock_release(&process->thread_lock);
        if (tid != 0)
            return tid;
        struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
        rpc.message.type = PM_TIDS;
        rpc.message.payload.words[0] = TIDS_AT_ONCE;
        long result = rpc_call(task, &rpc);
        uint64_t count = rpc.message.payload.words[0];
        if (result < 0 || count == 0 || count > TIDS_AT_ONCE)
            return -EAGAIN;
        lock_acquire(&process->thread_lock);
        for (uint64_t i = 0; i < count && process->tid_count < TID_CACHE; i++)
            process->tids[process->tid_count++] = (int32_t)rpc.message.payload.words[1 + i];
        lock_release(&process->thread_lock);
    }
}

static void tid_give(struct process *process, int32_t tid) {
    lock_acquire(&process->thread_lock);
    if (process->tid_count < TID_CACHE)
        process->tids[process->tid_count++] = tid;
    lock_release(&process->thread_lock);
}

/* A child's registers: its parent's, but for the result and the stack. */
static void child_regs(struct thread *child, const struct task *task, const struct clone_request *request) {
    struct regs *regs = thread_regs(child);
    *regs = *task->regs;
    regs->rax = 0;
    if (request->stack != 0)
        regs->rsp = request->stack;
}

static void child_signals(struct thread *child, const struct task *task, const struct clone_request *request) {
    child->task.blocked = thread_of((struct task *)task)->mask_saved ? thread_of((struct task *)task)->saved_blocked : task->blocked;
    if ((request->flags & CLONE_VM) && !(request->flags & CLONE_VFORK))
        child->stack = (struct guest_stack){.flags = STACK_DISABLE};
    else
        child->stack = thread_of((struct task *)task)->stack;
}

static void host_arguments(struct clone_args *args, const struct clone_request *request, uint64_t flags, struct thread *child,
                           const int32_t *tid) {
    memset(args, 0, sizeof *args);
    args->flags = flags;
    args->child_tid = request->child_tid;
    args->parent_tid = request->parent_tid;
    args->tls = request->tls;
    args->set_tid = (uint64_t)tid;
    args->set_tid_size = 1;
    if (child != NULL) {
        args->stack = child->block;
        args->stack_size = child->task.stack_top - sizeof(struct regs) - 64 - child->block;
    }
}

static long thread_clone(struct task *task, const struct clone_request *request) {
    struct process *process = task->process;
    if (!(request->flags & CLONE_SIGHAND) || !(request->flags & CLONE_VM))
        return -EINVAL;
    long tid = tid_take(task);
    if (tid < 0)
        return tid;
    struct thread *child = thread_create(process, (int32_t)tid);
    if (child == NULL) {
        tid_give(process, (int32_t)tid);
        return -ENOMEM;
    }
    child_regs(child, task, request);
    child_signals(child, task, request);
    if (request->flags & CLONE_CHILD_CLEARTID)
        child->clear_tid = request->child_tid;
    lock_acquire(&process->thread_lock);
    bool stopping = process->stopping != 0; /* exec counts the threads under this lock */
    if (!stopping) {
        if (process->thread_count <= 1)
            fd_table_set_threaded(process, true);
        thread_link(child);
    }
    lock_release(&process->thread_lock);
    if (stopping) {
        thread_destroy(child);
        tid_give(process, (int32_t)tid);
        return SYS_RESTART_ALWAYS; /* this thread ends at its exit to the guest */
    }
    struct clone_args args;
    int32_t wanted = (int32_t)tid;
    host_arguments(&args, request, request->flags & HOST_THREAD_FLAGS, child, &wanted);
    signal_block_all();
    long result = host_clone(&args, sizeof args, child);
    uint64_t mask = signal_host_mask(task->blocked);
    if (task->pending != 0)
        mask = ~SIGNALS_OURS;
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    if (result < 0) {
        lock_acquire(&process->thread_lock);
        thread_unlink(child);
        lock_release(&process->thread_lock);
        thread_destroy(child);
        tid_give(process, (int32_t)tid);
    }
    return result;
}

/* ---- processes ---- */

/* A vfork child's struct process, made by the parent. Its channel is opened by the child. */
static struct process *child_process(struct task *task, int32_t pid) {
    struct process *parent = task->process;
    struct process *child = area_alloc(sizeof *child);
    if (child == NULL)
        return NULL;
    child->pid = pid;
    child->channel.node = parent->channel.node;
    child->fresh_required = true;
    child->vfork_parent = parent;
    lock_acquire(&parent->signal_lock);
    memcpy(child->actions, parent->actions, sizeof child->actions);
    lock_release(&parent->signal_lock);
    child->uid = parent->uid;
    child->euid = parent->euid;
    child->suid = parent->suid;
    child->gid = parent->gid;
    child->egid = parent->egid;
    child->sgid = parent->sgid;
    child->fsuid = parent->fsuid;
    child->fsgid = parent->fsgid;
    child->group_count = parent->group_count;
    memcpy(child->groups, parent->groups, sizeof child->groups);
    child->persona = parent->persona;
    child->dumpable = parent->dumpable;
    memcpy(child->exe, parent->exe, sizeof child->exe);
    memcpy(child->comm, parent->comm, sizeof child->comm);
    return child;
}

/* What the child does first, on its channel's descriptors. It cannot go on without a channel. */
static void child_channel(struct process *child, const int fds[2]) {
    if (channel_open(&child->channel, fds[0], fds[1]) != 0)
        for (;;)
            CALL1(__NR_exit_group, 255);
}

/* Locks of the address space, held over a fork so that the copy is consistent. */
static void space_fork_begin(void) {
    lock_acquire(&space.memory_lock);
    patch_fork_begin();
    thread_cache_fork_begin();
    area_fork_begin();
}

static void space_fork_end(void) {
    area_fork_end();
    thread_cache_fork_end();
    patch_fork_end();
    lock_release(&space.memory_lock);
}

static void fork_done(struct task *task, int32_t pid, long error) {
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_FORK_DONE;
    rpc.message.payload.ints[0] = pid;
    rpc.message.payload.ints[1] = error;
    (void)rpc_call(task, &rpc);
}

/* In a fork's child, on the copy of the parent's stack: its struct process, which nobody else has, becomes ours. What stays as it
 * was is not written: each page that is costs a copy. */
static void fork_child(struct thread *thread, int32_t pid, const int fds[2], uint64_t flags) {
    struct process *process = thread->task.process;
    struct thread *others = process->threads, *dead = process->dead;
    area_unreserve(process->channel.mapped, process->channel.mapped_len); /* the parent's mapping did not come along */
    CALL1(__NR_close, process->channel.socket);
    process->pid = pid;
    process->vfork_parent = NULL;
    process->thread_lock = process->signal_lock = (struct lock){0};
    process->threads = process->dead = NULL;
    process->thread_count = process->tid_count = 0;
    process->leader_parked = false;
    process->stopping = 0;
    process->survivor = NULL;
    process->plan = NULL;
    process->timers = 0;
    process->death_signal = 0;
    thread->task.tid = pid;
    thread->is_leader = true;
    thread->vfork_child = false;
    thread->held_count = 0; /* pending signals are not inherited */
    thread->mask_saved = false;
    thread->robust_head = 0;
    thread->clear_tid = 0;
    thread->task.slot_hint = 0;
    child_channel(process, fds);
    if (fd_table_fork(process, process) != 0)
        personality_panic("no memory for descriptors", 0, 0);
    /* the other threads did not come along: their blocks are ours to free */
    while (others != NULL) {
        struct thread *next = others->next;
        if (others != thread)
            thread_destroy(others);
        others = next;
    }
    while (dead != NULL) {
        struct thread *next = dead->next;
        thread_destroy(dead);
        dead = next;
    }
    process->leader = thread;
    thread_link(thread);
    fd_table_set_threaded(process, false);
    if (flags & CLONE_CLEAR_SIGHAND)
        signals_reset(process, 0);
    thread_adopt(thread);
}

static long fork_clone(struct task *task, const struct clone_request *request, int32_t pid, const int fds[2]) {
    struct thread *thread = thread_of(task);
    struct process *parent = task->process;
    struct clone_args args;
    host_arguments(&args, request, (request->flags & HOST_PROCESS_FLAGS) | CLONE_PARENT, NULL, &pid);
    signal_block_all();
    lock_acquire(&parent->thread_lock);
    fd_fork_begin(parent);
    lock_acquire(&parent->signal_lock);
    space_fork_begin();
    long result = host_clone(&args, sizeof args, NULL);
    space_fork_end();
    lock_release(&parent->signal_lock);
    if (result == 0) {
        if (request->stack != 0)
            task->regs->rsp = request->stack;
        fork_child(thread, pid, fds, request->flags);
        return 0;
    }
    fd_fork_end(parent);
    lock_release(&parent->thread_lock);
    uint64_t mask = task->pending != 0 ? ~SIGNALS_OURS : signal_host_mask(task->blocked);
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    return result;
}

/* The first of a vfork child, on its own stack in its parent's memory. */
static void vfork_child_start(struct thread *thread) {
    struct process *child = thread->task.process, *parent = child->vfork_parent;
    child_channel(child, thread->vfork_fds);
    CALL1(__NR_close, parent->channel.socket); /* our copy of the number; the parent has its own table of host fds */
    int result = fd_table_fork(child, parent);
    if (thread->vfork_flags & CLONE_VFORK)
        fd_fork_end(parent);
    if (result != 0)
        for (;;)
            CALL1(__NR_exit_group, 255);
    if (thread->vfork_flags & CLONE_CLEAR_SIGHAND)
        signals_reset(child, 0);
}

void thread_start(struct thread *thread) {
    if (thread->vfork_child)
        vfork_child_start(thread);
    thread_adopt(thread);
    guest_enter();
}

/* The vfork child has gone, by exit or into a new host process: what it had in our memory is ours again. */
static void vfork_reclaim(struct process *child) {
    fd_table_drop(child);
    channel_close(&child->channel, false);
    struct thread *thread = child->threads;
    while (thread != NULL) {
        struct thread *next = thread->next;
        thread_destroy(thread);
        thread = next;
    }
    for (thread = child->dead; thread != NULL;) {
        struct thread *next = thread->next;
        thread_destroy(thread);
        thread = next;
    }
    area_free(child, sizeof *child);
}

static long vfork_clone(struct task *task, const struct clone_request *request, struct process *child, const int fds[2]) {
    struct process *parent = task->process;
    struct thread *thread = thread_create(child, child->pid);
    if (thread == NULL)
        return -ENOMEM;
    thread->is_leader = true;
    thread->vfork_child = true;
    thread->vfork_flags = request->flags;
    memcpy(thread->vfork_fds, fds, sizeof thread->vfork_fds);
    child_regs(thread, task, request);
    child_signals(thread, task, request);
    child->leader = thread;
    thread_link(thread);
    struct clone_args args;
    int32_t pid = child->pid;
    host_arguments(&args, request, (request->flags & HOST_PROCESS_FLAGS) | CLONE_PARENT, thread, &pid);
    signal_block_all();
    fd_fork_begin(parent);
    long result = host_clone(&args, sizeof args, thread);
    if (result < 0 || !(request->flags & CLONE_VFORK))
        fd_fork_end(parent);
    uint64_t mask = task->pending != 0 ? ~SIGNALS_OURS : signal_host_mask(task->blocked);
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    if (result < 0) {
        thread_destroy(thread);
        return result;
    }
    if (request->flags & CLONE_VFORK)
        vfork_reclaim(child);
    return result;
}

static long process_clone(struct task *task, const struct clone_request *request) {
    int fds[2];
    struct rpc rpc = {.fds = fds, .fd_cap = 2, .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_FORK;
    rpc.message.payload.words[0] = (request->flags & ~0xffull) | (uint64_t)request->exit_signal;
    long result = rpc_call(task, &rpc);
    if (result < 0)
        return result == -ENOSPC ? -EAGAIN : result;
    if (rpc.fd_count != 2) {
        for (unsigned i = 0; i < rpc.fd_count; i++)
            CALL1(__NR_close, fds[i]);
        return -EAGAIN;
    }
    int32_t pid = (int32_t)rpc.message.payload.words[0];
    bool shared = (request->flags & CLONE_VM) != 0, suspended = shared && (request->flags & CLONE_VFORK);
    struct process *child = shared ? child_process(task, pid) : NULL;
    result = !shared ? fork_clone(task, request, pid, fds) : child == NULL ? -ENOMEM : vfork_clone(task, request, child, fds);
    if (result == 0 && task->tid == pid)
        return 0; /* the child of a fork */
    CALL1(__NR_close, fds[0]);
    CALL1(__NR_close, fds[1]);
    if (child != NULL && result < 0)
        area_free(child, sizeof *child);
    if (result < 0 || !suspended)
        fork_done(task, pid, result < 0 ? -result : 0);
    return result;
}

static long task_clone(struct task *task, const struct clone_request *request) {
    uint64_t flags = request->flags;
    if ((flags & NAMESPACE_FLAGS) != 0)
        return -EPERM;
    if ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM))
        return -EINVAL;
    if ((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND))
        return -EINVAL;
    if (flags & (CLONE_PIDFD | CLONE_PTRACE | CLONE_INTO_CGROUP))
        return -EINVAL; /* no pidfds: they would name host processes */
    if (request->exit_signal < 0 || request->exit_signal > SIGNAL_COUNT)
        return -EINVAL;
    if (flags & CLONE_THREAD)
        return thread_clone(task, request);
    if (flags & (CLONE_FILES | CLONE_SIGHAND))
        return -EINVAL; /* processes have tables of their own here */
    return process_clone(task, request);
}

/* ---- calls ---- */

long sys_clone(struct task *task, const uint64_t args[6]) {
    struct clone_request request = {.flags = args[0] & 0xffffff00ull & ~(uint64_t)CLONE_DETACHED,
                                    .stack = args[1],
                                    .parent_tid = args[2],
                                    .child_tid = args[3],
                                    .tls = args[4],
                                    .exit_signal = (int)(args[0] & 0xff)};
    return task_clone(task, &request);
}

long sys_clone3(struct task *task, const uint64_t args[6]) {
    struct clone_args given;
    memset(&given, 0, sizeof given);
    if (args[1] < 64)
        return -EINVAL;
    if (args[1] > sizeof given)
        return -E2BIG;
    if (guest_read(&given, args[0], args[1]) != 0)
        return -EFAULT;
    if (given.set_tid != 0 || given.set_tid_size != 0)
        return -EPERM;
    if ((given.stack == 0) != (given.stack_size == 0) || given.exit_signal > SIGNAL_COUNT || (given.flags & 0xff) != 0)
        return -EINVAL;
    struct clone_request request = {.flags = given.flags,
                                    .stack = given.stack + given.stack_size,
                                    .tls = given.tls,
                                    .parent_tid = given.parent_tid,
                                    .child_tid = given.child_tid,
                                    .exit_signal = (int)given.exit_signal};
    return task_clone(task, &request);
}

#define SIGNAL_CHILD 17

long sys_fork(struct task *task, const uint64_t args[6]) {
    (void)args;
    struct clone_request request = {.exit_signal = SIGNAL_CHILD};
    return task_clone(task, &request);
}

long sys_vfork(struct task *task, const uint64_t args[6]) {
    (void)args;
    struct clone_request request = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGNAL_CHILD};
    return task_clone(task, &request);
}

long sys_unshare(struct task *task, const uint64_t args[6]) {
    (void)task;
    if (args[0] & NAMESPACE_FLAGS)
        return -EPERM;
    return args[0] & ~(uint64_t)(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM) ? -EINVAL : 0;
}
