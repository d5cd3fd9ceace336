/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals: the host's handler, deferral, and delivery.
 *
 * Dispositions and masks are mirrored to the host, so default actions, ignoring and pending are the host kernel's. Where the
 * guest has a handler, the host calls signal_host_handler, on the thread's own alternate stack with everything blocked:
 *   RIP in the guest        the frame is moved to the guest's stack and its handler runs when ours returns
 *   RIP in the personality  the signal is held; all further ones stay blocked at the host (but SIGNALS_OURS), so what comes
 *                           later waits there in order; delivery is at the exit to the guest (task_exit_work)
 * task->pending is 1 whenever something held could be delivered, or the thread must stop; it may also be 1 in vain.
 * Invariant: outside signal handlers the host's mask is signal_host_mask(blocked), or, while something is held, wider.
 */
#include "personality/entry/signal.h"
#include "personality/entry/patch.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/audit.h>

#define SYS_USER_DISPATCH 2
#define SUPPLY_FLAGS 7u /* UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
#define USER_CS 0x33
#define USER_SS 0x2b
#define RFLAGS_INITIAL 0x202u
#define RFLAGS_HANDLER_CLEAR 0x10500u /* DF, TF, RF */

extern const char personality_text_start[], personality_text_end[];
extern const char entry[], entry_stop[], exit_check[], exit_end[], blocking_check[], blocking_done[], blocking_abort[];
extern const char guest_copy_begin[], guest_copy_end[], guest_string_begin[], guest_string_end[], guest_swap_begin[],
    guest_swap_end[], guest_fault[], extended_capture_at[];
extern void extended_capture(void);
extern void host_restorer(void);
void signal_host_handler(int number, const struct signal_info *info, struct signal_context *context);
void task_exit_work(struct task *task);
void task_leave_guest(struct task *task);

static bool address_between(uint64_t address, const char *start, const char *end) {
    return address >= (uint64_t)start && address < (uint64_t)end;
}

static bool address_is_ours(uint64_t address) {
    return address_between(address, personality_text_start, personality_text_end) || vdso_contains(address);
}

/* ---- dispositions and masks at the host ---- */

uint64_t signal_host_mask(uint64_t blocked) { return blocked & ~(SIGNALS_OURS | SIGNALS_UNBLOCKABLE); }

static void host_mask(uint64_t mask) { CALL4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &mask, 0, 8); }

void signal_block_all(void) { host_mask(~0ull); }

void signal_host_disposition(int number, uint64_t handler) {
    struct signal_action action = {.handler = handler, .flags = ACTION_RESTORER, .restorer = (uint64_t)host_restorer};
    if (handler > HANDLER_IGNORE || (SIGNALS_OURS & SIGNAL_BIT(number))) {
        action.handler = (uint64_t)signal_host_handler;
        /* SA_RESTART: plain host calls are never seen to fail by EINTR; host_blocking is ended by its window instead */
        action.flags |= ACTION_SIGINFO | ACTION_ONSTACK | ACTION_RESTART;
        action.mask = ~0ull;
    }
    CALL4(__NR_rt_sigaction, number, &action, 0, 8);
}

void signals_init(void) {
    for (int number = 1; number <= SIGNAL_COUNT; number++)
        if (SIGNALS_OURS & SIGNAL_BIT(number))
            signal_host_disposition(number, 0);
}

void signals_reset(struct process *process, uint64_t ignored) {
    for (int number = 1; number <= SIGNAL_COUNT; number++) {
        struct signal_action *action = &process->actions[number];
        bool ignore = action->handler == HANDLER_IGNORE || (ignored & SIGNAL_BIT(number));
        uint64_t handler = ignore ? HANDLER_IGNORE : HANDLER_DEFAULT;
        if (action->handler != handler)
            signal_host_disposition(number, handler);
        *action = (struct signal_action){.handler = handler};
    }
}

uint64_t signals_ignored(struct process *process) {
    uint64_t ignored = 0;
    for (int number = 1; number <= SIGNAL_COUNT; number++)
        if (process->actions[number].handler == HANDLER_IGNORE)
            ignored |= SIGNAL_BIT(number);
    return ignored;
}

void signal_mask_set(struct thread *thread, uint64_t blocked) {
    blocked &= ~SIGNALS_UNBLOCKABLE;
    uint64_t old = thread->task.blocked;
    thread->task.blocked = blocked;
    /* while something is held the host's mask stays wide; the exit to the guest sets it */
    if (thread->task.pending == 0 && signal_host_mask(old) != signal_host_mask(blocked))
        host_mask(signal_host_mask(blocked));
    signal_pending_update(thread);
}

/* ---- what is held ---- */

/* Only ever raises the flag: task_exit_work alone clears it. */
void signal_pending_update(struct thread *thread) {
    bool deliverable = thread->task.process->stopping != 0;
    for (uint32_t i = 0; i < thread->held_count; i++)
        if (!(thread->task.blocked & SIGNAL_BIT(thread->held[i].signal)))
            deliverable = true;
    if (deliverable)
        __atomic_store_n(&thread->task.pending, 1u, __ATOMIC_RELAXED);
}

void signal_hold(struct thread *thread, const struct signal_info *info) {
    if (info->signal < SIG_RT_MIN)
        for (uint32_t i = 0; i < thread->held_count; i++)
            if (thread->held[i].signal == info->signal)
                return; /* standard signals do not queue */
    if (thread->held_busy) { /* we are its own host handler and interrupted a change of the list */
        thread->held_late = *info;
        thread->held_late_valid = true;
        return;
    }
    if (thread->held_count == HELD_MAX)
        return; /* cannot be: after each one that is held the host blocks the rest */
    thread->held[thread->held_count] = *info;
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* our own handler may interrupt us here */
    thread->held_count++;
}

bool signal_held_take(struct thread *thread, uint64_t wanted, struct signal_info *out) {
    thread->held_busy = true; /* our own host handler may interrupt us, and adds to the list */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bool found = false;
    for (uint32_t i = 0; i < thread->held_count && !found; i++) {
        if (!(wanted & SIGNAL_BIT(thread->held[i].signal)))
            continue;
        *out = thread->held[i];
        for (uint32_t k = i + 1; k < thread->held_count; k++)
            thread->held[k - 1] = thread->held[k];
        thread->held_count--;
        found = true;
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->held_busy = false;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (thread->held_late_valid) {
        thread->held_late_valid = false;
        signal_hold(thread, &thread->held_late);
    }
    return found;
}

void task_raise(struct task *task, int number) {
    struct thread *thread = thread_of(task);
    struct process *process = task->process;
    uint64_t handler = process->actions[number].handler;
    if (!(task->blocked & SIGNAL_BIT(number)) &&
        (handler == HANDLER_IGNORE || (handler == HANDLER_DEFAULT && signal_default_of(number) == DEFAULT_IGNORE)))
        return;
    struct signal_info info = {.signal = number, .code = CODE_USER};
    info.u.queue.pid = process->pid;
    info.u.queue.uid = process->uid;
    uint64_t old, all = ~0ull;
    CALL4(__NR_rt_sigprocmask, 2, &all, &old, 8);
    signal_hold(thread, &info);
    host_mask(old);
    signal_pending_update(thread);
}

/* ---- frames ---- */

/*
 * Write a frame for `action` onto the guest's stack and make *state the handler's entry. *state's extended state (address and
 * length; 0: none) goes into the frame. saved: the mask that comes back when the handler returns. 0 or -EFAULT.
 */
static long frame_push(struct thread *thread, struct signal_context *state, const void *extended, uint32_t extended_len,
                       const struct signal_info *info, const struct signal_action *action, uint64_t saved) {
    struct frame_place place = frame_place(state->rsp, &thread->stack, action->flags, extended_len);
    struct signal_frame frame;
    frame.restorer = action->flags & ACTION_RESTORER ? action->restorer : 0;
    frame.context = *state;
    frame.context.stack_base = thread->stack.base;
    frame.context.stack_flags = thread->stack.flags;
    frame.context.stack_size = thread->stack.size;
    frame.context.mask = saved;
    frame.context.extended = place.extended;
    frame.info = *info;
    if ((place.extended != 0 && guest_write(place.extended, extended, extended_len) != 0) ||
        guest_write(place.frame, &frame, sizeof frame) != 0)
        return -EFAULT;
    if (thread->stack.flags & STACK_AUTODISARM)
        thread->stack = (struct guest_stack){.flags = STACK_DISABLE};
    state->rip = action->handler;
    state->rsp = place.frame;
    state->rdi = (uint64_t)info->signal;
    state->rsi = place.frame + offsetof(struct signal_frame, info);
    state->rdx = place.frame + offsetof(struct signal_frame, context);
    state->rax = 0;
    state->rflags &= ~(uint64_t)RFLAGS_HANDLER_CLEAR;
    state->extended = 0; /* handlers start with the initial FP state */
    return 0;
}

/* The action for a signal about to be delivered; SA_RESETHAND takes effect. */
static struct signal_action action_take(struct process *process, int number) {
    lock_acquire(&process->signal_lock);
    struct signal_action action = process->actions[number];
    if (action.handler > HANDLER_IGNORE && (action.flags & ACTION_RESETHAND)) {
        process->actions[number].handler = HANDLER_DEFAULT;
        signal_host_disposition(number, HANDLER_DEFAULT);
    }
    lock_release(&process->signal_lock);
    return action;
}

static uint64_t handler_mask(const struct thread *thread, const struct signal_action *action, int number) {
    uint64_t mask = thread->task.blocked | action->mask;
    if (!(action->flags & ACTION_NODEFER))
        mask |= SIGNAL_BIT(number);
    return mask & ~SIGNALS_UNBLOCKABLE;
}

/* A signal with its default action that came to us all the same (it is one of ours, or we raised it). */
static void default_action(struct thread *thread, int number) {
    switch (signal_default_of(number)) {
    case DEFAULT_IGNORE:
        return;
    case DEFAULT_STOP: {
        /* the host's disposition is the default too: have it sent again, to take effect when the mask is back */
        struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
        rpc.message.type = PM_TGKILL;
        rpc.message.payload.ints[0] = thread->task.process->pid;
        rpc.message.payload.ints[1] = thread->task.tid;
        rpc.message.payload.ints[2] = number;
        (void)rpc_call(&thread->task, &rpc);
        return;
    }
    default:
        process_die(&thread->task, number);
    }
}

/* ---- the host's handler ---- */

static void extended_save(struct thread *thread, const struct signal_context *context) {
    thread->uc_flags = context->flags;
    if (thread->extended_saved)
        return; /* it does not change while we are inside */
    thread->extended_len = 0;
    if (context->extended != 0) {
        uint32_t software[2];
        memcpy(software, (const void *)(context->extended + EXTENDED_SOFTWARE), sizeof software);
        uint32_t len = software[0] == EXTENDED_MAGIC ? software[1] : EXTENDED_LEGACY;
        if (len <= space.extended_size) {
            memcpy(thread->extended, (const void *)context->extended, len);
            thread->extended_len = len;
        }
    }
    thread->extended_saved = true;
}

/* A fault at one of our own instructions. true: the instruction is one that may fault. */
static bool fault_fix(struct signal_context *context) {
    uint64_t rip = context->rip;
    if (!address_between(rip, guest_copy_begin, guest_copy_end) && !address_between(rip, guest_string_begin, guest_string_end) &&
        !address_between(rip, guest_swap_begin, guest_swap_end))
        return false;
    context->rip = (uint64_t)guest_fault;
    return true;
}

/* The system call at context->rip - 2 was caught. */
static void call_trapped(struct thread *thread, const struct signal_info *info, struct signal_context *context) {
    if (vdso_contains(context->rip)) { /* ours: the vDSO could not answer by itself */
        context->rax = (uint64_t)host_call((long)context->rax, context->rdi, context->rsi, context->rdx, context->r10,
                                           context->r8, context->r9);
        return;
    }
    if (info->u.call.arch != AUDIT_ARCH_X86_64) { /* int 0x80: as a kernel without 32-bit emulation of that call */
        context->rax = (uint64_t)-ENOSYS;
        return;
    }
    thread->trap_site = context->rip - 2;
    context->rcx = context->rip;
    context->rip = (uint64_t)entry;
}

static void direct_deliver(struct thread *thread, struct signal_context *context, const struct signal_info *info) {
    struct process *process = thread->task.process;
    /* no other thread holds signal_lock for long, and this thread does not: it is in the guest */
    struct signal_action action = action_take(process, info->signal);
    if (action.handler <= HANDLER_IGNORE) {
        if (action.handler == HANDLER_DEFAULT && signal_default_of(info->signal) != DEFAULT_IGNORE) {
            /* the host's default does it, and right: the handler was just taken away, or the signal is one of ours */
            signal_hold(thread, info);
            context->rip = (uint64_t)entry_stop;
        }
        return;
    }
    struct signal_context state = *context;
    uint32_t software[2] = {0, 0};
    uint32_t len = 0;
    if (context->extended != 0) {
        memcpy(software, (const void *)(context->extended + EXTENDED_SOFTWARE), sizeof software);
        len = software[0] == EXTENDED_MAGIC ? software[1] : EXTENDED_LEGACY;
    }
    uint64_t saved = thread->task.blocked;
    /* everything is blocked here: a stack that cannot take the frame ends the process by SIGSEGV, as natively */
    (void)frame_push(thread, &state, (const void *)context->extended, len, info, &action, saved);
    thread->task.blocked = handler_mask(thread, &action, info->signal);
    state.stack_base = context->stack_base; /* the host's own alternate stack stays */
    state.stack_flags = context->stack_flags;
    state.stack_size = context->stack_size;
    state.mask = signal_host_mask(thread->task.blocked);
    *context = state;
}

/* A fault of the guest's own code: to its handler, or its end. */
static void synchronous_deliver(struct thread *thread, struct signal_context *context, const struct signal_info *info) {
    uint64_t handler = thread->task.process->actions[info->signal].handler;
    if (handler > HANDLER_IGNORE && !(thread->task.blocked & SIGNAL_BIT(info->signal))) {
        direct_deliver(thread, context, info);
        return;
    }
    /* blocked, ignored or default: as the kernel does it, it kills. Back to the instruction, without us */
    struct signal_action action = {.flags = ACTION_RESTORER, .restorer = (uint64_t)host_restorer};
    CALL4(__NR_rt_sigaction, info->signal, &action, 0, 8);
}

static bool is_synchronous(const struct signal_info *info) {
    switch (info->signal) {
    case SIG_SEGV:
    case SIG_BUS:
    case SIG_ILL:
    case SIG_FPE:
    case SIG_TRAP:
        return info->code > 0;
    default:
        return false;
    }
}

/* The thread is inside and something is pending: leave the two windows. */
static void windows_leave(struct signal_context *context) {
    if (address_between(context->rip, blocking_check, blocking_done))
        context->rip = (uint64_t)blocking_abort;
    else if (address_between(context->rip, exit_check, exit_end))
        context->rip = (uint64_t)exit_check;
}

void signal_host_handler(int number, const struct signal_info *host_info, struct signal_context *context) {
    struct thread *thread = thread_self();
    if (number == SIG_SYS && host_info->code == SYS_USER_DISPATCH) {
        call_trapped(thread, host_info, context);
        return;
    }
    bool inside = address_is_ours(context->rip);
    if (is_synchronous(host_info)) {
        if (!inside) {
            if (number != SIG_ILL || !patch_illegal(context))
                synchronous_deliver(thread, context, host_info);
        } else if (context->rip == (uint64_t)extended_capture_at) {
            extended_save(thread, context);
            context->rip += 2;
        } else if (!fault_fix(context)) {
            personality_panic("fault at", context->rip, host_info->u.fault.address);
        }
        return;
    }
    struct signal_info info;
    signal_info_rebuild(&info, host_info);
    if (number == SIG_STKFLT && info.code == CODE_QUEUE && info.u.queue.value == STOP_VALUE) {
        if (thread->task.process->stopping == 0)
            return; /* late */
        __atomic_store_n(&thread->task.pending, 1u, __ATOMIC_RELAXED);
        if (inside)
            windows_leave(context);
        else
            context->rip = (uint64_t)entry_stop;
        context->mask = ~SIGNALS_OURS;
        return;
    }
    if (thread->task.blocked & SIGNAL_BIT(number)) { /* one of ours that the guest blocks */
        signal_hold(thread, &info);
        return;
    }
    if (!inside) {
        direct_deliver(thread, context, &info);
        return;
    }
    signal_hold(thread, &info);
    extended_save(thread, context);
    __atomic_store_n(&thread->task.pending, 1u, __ATOMIC_RELAXED);
    windows_leave(context);
    context->mask = ~SIGNALS_OURS;
}

/* ---- delivery at the exit ---- */

/* The guest's state at the end of a call. */
static void state_of_call(struct thread *thread, struct signal_context *state, const struct signal_action *action) {
    struct regs *regs = thread->task.regs;
    memset(state, 0, sizeof *state);
    state->flags = thread->extended_saved ? thread->uc_flags : SUPPLY_FLAGS;
    state->r8 = regs->r8;
    state->r9 = regs->r9;
    state->r10 = regs->r10;
    state->r11 = regs->r11;
    state->r12 = regs->r12;
    state->r13 = regs->r13;
    state->r14 = regs->r14;
    state->r15 = regs->r15;
    state->rdi = regs->rdi;
    state->rsi = regs->rsi;
    state->rbp = regs->rbp;
    state->rbx = regs->rbx;
    state->rdx = regs->rdx;
    state->rax = regs->rax;
    state->rcx = regs->rip;
    state->rsp = regs->rsp;
    state->rip = regs->rip;
    state->rflags = RFLAGS_INITIAL;
    state->cs = USER_CS;
    state->ss = USER_SS;
    bool restart = thread->restart != 0 && (thread->restart_always || thread->restart == SYS_RESTART_ALWAYS ||
                                            (thread->restart == SYS_INTERRUPTED && (action->flags & ACTION_RESTART)));
    if (restart) {
        state->rax = thread->restart_number;
        state->rip = patch_restart_address(regs->rip);
    }
    thread->restart = 0;
    thread->restart_always = false;
}

bool signal_deliver(struct thread *thread, struct signal_context *state, bool from_call) {
    struct process *process = thread->task.process;
    struct signal_info info;
    bool entered = false;
    for (;;) {
        if (!signal_held_take(thread, ~thread->task.blocked, &info)) {
            if (!entered)
                return false;
            signal_resume(thread, state);
        }
        struct signal_action action = action_take(process, info.signal);
        if (action.handler == HANDLER_IGNORE)
            continue;
        if (action.handler == HANDLER_DEFAULT) {
            default_action(thread, info.signal);
            continue;
        }
        const void *extended = NULL;
        uint32_t extended_len = 0;
        if (from_call && !entered) {
            if (!thread->extended_saved)
                extended_capture();
            state_of_call(thread, state, &action);
            extended = thread->extended;
            extended_len = thread->extended_len;
        } else if (state->extended != 0) { /* on top of an interrupted sigreturn: take its FP state along */
            uint32_t software[2];
            if (guest_read(software, state->extended + EXTENDED_SOFTWARE, sizeof software) != 0)
                process_die(&thread->task, SIG_SEGV);
            extended_len = software[0] == EXTENDED_MAGIC && software[1] <= space.extended_size ? software[1] : EXTENDED_LEGACY;
            if (guest_read(thread->extended, state->extended, extended_len) != 0)
                process_die(&thread->task, SIG_SEGV);
            extended = thread->extended;
        }
        uint64_t saved = thread->mask_saved ? thread->saved_blocked : thread->task.blocked;
        thread->mask_saved = false;
        if (frame_push(thread, state, extended, extended_len, &info, &action, saved) != 0)
            process_die(&thread->task, SIG_SEGV);
        thread->task.blocked = handler_mask(thread, &action, info.signal);
        entered = true;
    }
}

_Noreturn void signal_resume(struct thread *thread, struct signal_context *state) {
    for (;;) {
        signal_block_all();
        bool more = false;
        for (uint32_t i = 0; i < thread->held_count; i++)
            if (!(thread->task.blocked & SIGNAL_BIT(thread->held[i].signal)))
                more = true;
        if (!more && thread->task.process->stopping == 0)
            break;
        host_mask(~SIGNALS_OURS);
        thread_stop_check(thread);
        signal_deliver(thread, state, false);
    }
    thread->extended_saved = false;
    thread->trap_site = 0;
    __atomic_store_n(&thread->task.pending, 0u, __ATOMIC_RELAXED);
    state->stack_base = thread->alternate;
    state->stack_flags = 0;
    state->stack_size = thread->alternate_len;
    state->cs = USER_CS;
    state->ss = USER_SS;
    state->mask = signal_host_mask(thread->task.blocked);
    host_sigreturn(state);
}

/* From guest code, at a signal that its thread does not survive. */
void task_leave_guest(struct task *task) {
    struct thread *thread = thread_of(task);
    thread_stop_check(thread);
    struct signal_info info;
    while (signal_held_take(thread, ~0ull, &info))
        if (signal_default_of(info.signal) != DEFAULT_IGNORE)
            process_die(task, info.signal);
    process_die(task, SIG_KILL);
}

/* The exit to the guest found task->pending. Returns to look again. */
void task_exit_work(struct task *task) {
    struct thread *thread = thread_of(task);
    struct signal_context state;
    thread_stop_check(thread);
    host_mask(~SIGNALS_OURS);
    signal_deliver(thread, &state, true); /* returns only when there was nothing to deliver */
    thread->extended_saved = false;
    if (thread->mask_saved) {
        task->blocked = thread->saved_blocked;
        thread->mask_saved = false;
    }
    __atomic_store_n(&task->pending, 0u, __ATOMIC_RELAXED);
    signal_pending_update(thread); /* what the old mask lets through; the stop */
    host_mask(task->pending ? ~SIGNALS_OURS : signal_host_mask(task->blocked));
    if (thread->restart != 0) {
        thread->restart = 0;
        thread->restart_always = false;
        task->regs->rax = thread->restart_number;
        dispatch(task, task->regs);
    }
}
