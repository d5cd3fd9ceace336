/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo
 * sigaltstack pause kill tkill tgkill; and masks for the duration of one call.
 */
#include "personality/entry/patch.h"
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <asm/unistd.h>

#define SET_SIZE 8
#define HOW_BLOCK 0
#define HOW_UNBLOCK 1
#define HOW_SET 2
#define ACTION_NOCLDSTOP 1u

static long chld_tell(struct task *task, const struct signal_action *action) {
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_CHLD_IGNORE;
    rpc.message.payload.words[0] = (action->handler == HANDLER_IGNORE ? PM_CHLD_IGN : 0) |
                                   (action->flags & ACTION_NOCLDWAIT ? PM_CHLD_NOWAIT : 0) |
                                   (action->flags & ACTION_NOCLDSTOP ? PM_CHLD_NOSTOP : 0);
    return rpc_call(task, &rpc);
}

static uint64_t chld_bits(const struct signal_action *action) {
    return (action->handler == HANDLER_IGNORE ? 4u : 0) | (action->flags & (ACTION_NOCLDWAIT | ACTION_NOCLDSTOP));
}

long sys_rt_sigaction(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    uint64_t number = args[0];
    struct signal_action action, old;
    if (args[3] != SET_SIZE || number < 1 || number > SIGNAL_COUNT)
        return -EINVAL;
    if (args[1] != 0 && (SIGNALS_UNBLOCKABLE & SIGNAL_BIT(number)))
        return -EINVAL;
    if (args[1] != 0 && guest_read(&action, args[1], sizeof action) != 0)
        return -EFAULT;
    lock_acquire(&process->signal_lock);
    old = process->actions[number];
    if (args[1] != 0) {
        action.mask &= ~SIGNALS_UNBLOCKABLE;
        process->actions[number] = action;
        bool caught = action.handler > HANDLER_IGNORE, was_caught = old.handler > HANDLER_IGNORE;
        if ((caught != was_caught || (!caught && action.handler != old.handler)) && !(SIGNALS_OURS & SIGNAL_BIT(number)))
            signal_host_disposition((int)number, action.handler);
    }
    lock_release(&process->signal_lock);
    if (args[1] != 0 && number == SIG_CHLD && chld_bits(&action) != chld_bits(&old))
        (void)chld_tell(task, &action); /* a server that is gone will be noticed soon enough */
    if (args[1] != 0 && (action.handler == HANDLER_IGNORE ||
                         (action.handler == HANDLER_DEFAULT && signal_default_of((int)number) == DEFAULT_IGNORE))) {
        struct signal_info dropped; /* what is pending of an ignored signal is discarded */
        while (signal_held_take(thread_of(task), SIGNAL_BIT(number), &dropped))
            ;
    }
    if (args[2] != 0 && guest_write(args[2], &old, sizeof old) != 0)
        return -EFAULT;
    return 0;
}

long sys_rt_sigprocmask(struct task *task, const uint64_t args[6]) {
    uint64_t set, old = task->blocked;
    if (args[3] != SET_SIZE)
        return -EINVAL;
    if (args[1] != 0) {
        if (guest_read(&set, args[1], sizeof set) != 0)
            return -EFAULT;
        switch ((int)args[0]) {
        case HOW_BLOCK:
            set |= old;
            break;
        case HOW_UNBLOCK:
            set = old & ~set;
            break;
        case HOW_SET:
            break;
        default:
            return -EINVAL;
        }
        signal_mask_set(thread_of(task), set);
    }
    if (args[2] != 0 && guest_write(args[2], &old, sizeof old) != 0)
        return -EFAULT;
    return 0;
}

static bool stack_on(const struct thread *thread) { return stack_contains(&thread->stack, thread->task.regs->rsp); }

long sys_sigaltstack(struct task *task, const uint64_t args[6]) {
    struct thread *thread = thread_of(task);
    struct guest_stack new, old = thread->stack;
    if (args[0] != 0) {
        if (guest_read(&new, args[0], sizeof new) != 0)
            return -EFAULT;
        if (stack_on(thread))
            return -EPERM;
        uint32_t mode = new.flags & ~STACK_AUTODISARM;
        if (mode != 0 && mode != STACK_ONSTACK && mode != STACK_DISABLE)
            return -EINVAL;
        if (mode == STACK_DISABLE)
            new.base = new.size = 0;
        else if (new.size < 2048)
            return -ENOMEM;
        new.pad = 0;
        thread->stack = new;
    }
    if (args[1] != 0) {
        if (old.size == 0)
            old.flags = STACK_DISABLE | (old.flags & STACK_AUTODISARM);
        else
            old.flags = (stack_contains(&old, task->regs->rsp) ? STACK_ONSTACK : 0) | (old.flags & STACK_AUTODISARM);
        if (guest_write(args[1], &old, sizeof old) != 0)
            return -EFAULT;
    }
    return 0;
}

long sys_rt_sigreturn(struct task *task, const uint64_t args[6]) {
    (void)args;
    struct thread *thread = thread_of(task);
    struct signal_context state;
    if (guest_read(&state, task->regs->rsp, sizeof state) != 0)
        process_die(task, SIG_SEGV);
    uint32_t mode = state.stack_flags & ~STACK_AUTODISARM & ~STACK_ONSTACK;
    if (mode == 0 && state.stack_size >= 2048)
        thread->stack = (struct guest_stack){
            .base = state.stack_base, .flags = state.stack_flags & STACK_AUTODISARM, .size = state.stack_size};
    else if (mode == STACK_DISABLE || state.stack_size == 0)
        thread->stack = (struct guest_stack){.flags = STACK_DISABLE};
    task->blocked = state.mask & ~SIGNALS_UNBLOCKABLE;
    signal_resume(thread, &state);
}

long sys_rt_sigpending(struct task *task, const uint64_t args[6]) {
    struct thread *thread = thread_of(task);
    uint64_t pending = 0;
    if (args[1] > SET_SIZE)
        return -EINVAL;
    CALL2(__NR_rt_sigpending, &pending, SET_SIZE);
    for (uint32_t i = 0; i < thread->held_count; i++)
        pending |= SIGNAL_BIT(thread->held[i].signal);
    pending &= task->blocked;
    return guest_write(args[0], &pending, args[1]);
}

/* ---- waiting for signals ---- */

void task_mask_swap(struct task *task, uint64_t mask) {
    struct thread *thread = thread_of(task);
    if (task->pending != 0) {
        /* a signal came before the call began: its handler runs under the old mask, then the call is made again */
        thread->restart_always = true;
        return;
    }
    thread->saved_blocked = task->blocked;
    thread->mask_saved = true;
    signal_mask_set(thread, mask);
}

void task_mask_restore(struct task *task, bool interrupted) {
    struct thread *thread = thread_of(task);
    if (!thread->mask_saved || (interrupted && task->pending != 0))
        return; /* the delivery puts the old mask into the handler's frame, or task_exit_work restores it */
    thread->mask_saved = false;
    signal_mask_set(thread, thread->saved_blocked);
}

static long signal_sleep(struct task *task) { return host_blocking(task, __NR_ppoll, 0, 0, 0, 0, 0, 0); }

long sys_pause(struct task *task, const uint64_t args[6]) {
    (void)args;
    while (signal_sleep(task) != -EINTR)
        ;
    return SYS_INTERRUPTED_NOHAND;
}

long sys_rt_sigsuspend(struct task *task, const uint64_t args[6]) {
    uint64_t mask;
    if (args[1] != SET_SIZE)
        return -EINVAL;
    if (guest_read(&mask, args[0], sizeof mask) != 0)
        return -EFAULT;
    task_mask_swap(task, mask);
    while (signal_sleep(task) != -EINTR)
        ;
    task_mask_restore(task, true);
    return SYS_INTERRUPTED_NOHAND;
}

long sys_rt_sigtimedwait(struct task *task, const uint64_t args[6]) {
    struct thread *thread = thread_of(task);
    uint64_t set;
    struct signal_info info, host_info;
    if (args[3] != SET_SIZE)
        return -EINVAL;
    if (guest_read(&set, args[0], sizeof set) != 0)
        return -EFAULT;
    set &= ~SIGNALS_UNBLOCKABLE;
    if (!signal_held_take(thread, set, &info)) {
        set &= ~SIGNALS_OURS;
        long result = host_blocking(task, __NR_rt_sigtimedwait, (uint64_t)&set, (uint64_t)&host_info, args[2], SET_SIZE, 0, 0);
        if (result < 0)
            return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
        signal_info_rebuild(&info, &host_info);
    }
    if (args[1] != 0 && guest_write(args[1], &info, sizeof info) != 0)
        return -EFAULT;
    return info.signal;
}

/* ---- sending: pm decides ---- */

static long pm_signal(struct task *task, uint32_t type, int64_t a, int64_t b, int64_t c, const void *data, size_t len) {
    struct rpc rpc = {.data = data, .data_len = len, .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = type;
    rpc.message.payload.ints[0] = a;
    rpc.message.payload.ints[1] = b;
    rpc.message.payload.ints[2] = c;
    long result = rpc_call(task, &rpc);
    /* a signal to ourselves is pending at the host by now: any system call makes the kernel look, so that it is delivered
     * before this one returns, as kill(2) promises */
    CALL0(__NR_getpid);
    return result;
}

long sys_kill(struct task *task, const uint64_t args[6]) {
    return pm_signal(task, PM_KILL, (int32_t)args[0], (int32_t)args[1], 0, NULL, 0);
}

long sys_tkill(struct task *task, const uint64_t args[6]) {
    if ((int32_t)args[0] <= 0)
        return -EINVAL;
    return pm_signal(task, PM_TGKILL, -1, (int32_t)args[0], (int32_t)args[1], NULL, 0);
}

long sys_tgkill(struct task *task, const uint64_t args[6]) {
    if ((int32_t)args[0] <= 0 || (int32_t)args[1] <= 0)
        return -EINVAL;
    return pm_signal(task, PM_TGKILL, (int32_t)args[0], (int32_t)args[1], (int32_t)args[2], NULL, 0);
}

static long queue_info(struct task *task, int32_t pid, int32_t tid, int32_t number, uint64_t address) {
    struct signal_info info;
    if (guest_read(&info, address, sizeof info) != 0)
        return -EFAULT;
    info.signal = number;
    if (info.code >= 0 || info.code == CODE_TKILL) { /* only the kernel may say so, but for oneself */
        if (pid != task->process->pid)
            return -EPERM;
    }
    return pm_signal(task, PM_SIGQUEUE, pid, tid, number, &info, sizeof info);
}

long sys_rt_sigqueueinfo(struct task *task, const uint64_t args[6]) {
    return queue_info(task, (int32_t)args[0], 0, (int32_t)args[1], args[2]);
}

long sys_rt_tgsigqueueinfo(struct task *task, const uint64_t args[6]) {
    if ((int32_t)args[0] <= 0 || (int32_t)args[1] <= 0)
        return -EINVAL;
    return queue_info(task, (int32_t)args[0], (int32_t)args[1], (int32_t)args[2], args[3]);
}
