/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads and processes as the personality keeps them. Used by entry/, task/, memory/ and host/; fd/ sees only personality.h.
 *
 * struct thread    one a host thread, in a block of its own with its two stacks
 * struct process   one a guest process; a vfork child has its own although it shares our memory
 * struct space     what belongs to the address space, and constants of the cell: one, global
 *
 * Locks, in the order in which they may be nested:
 *   process.thread_lock > process.signal_lock > space.memory_lock > patch lock > heap > area
 */
#ifndef PERSONALITY_TASK_H
#define PERSONALITY_TASK_H

#include "personality/entry/frame.h"
#include "personality/host/channel.h"
#include "personality/host/host.h"
#include "personality/personality.h"

#define SIGNAL_COUNT 64
#define SIGNAL_BIT(signal) (1ull << ((signal)-1))

/* rt_sigaction(2)'s structure as the kernel takes it. handler 0: default, 1: ignore. */
struct signal_action {
    uint64_t handler, flags, restorer, mask;
};

#define HELD_MAX 16

struct thread {
    struct task task; /* first: personality.h, entry.S */
    uint64_t block, block_len;   /* area block that holds the stacks and this structure */
    uint64_t alternate, alternate_len; /* host signal stack */
    struct thread *next, *previous; /* process->threads, under thread_lock */
    struct process *owner;
    bool is_leader;
    bool vfork_child;  /* runs on its parent's memory */
    int vfork_fds[2];  /* until it has started: its channel */
    uint64_t vfork_flags;

    /* the call under way */
    uint64_t number;       /* of the call */
    uint64_t trap_site;    /* address of the `syscall` that trapped; 0: came by a rewritten site */
    int64_t restart;       /* not 0: SYS_* interruption code of the call, which number is restart_number */
    uint64_t restart_number;

    /* signals; written by this thread and by its own host signal handler only */
    struct signal_info held[HELD_MAX]; /* arrived, not yet delivered; in order of arrival */
    uint32_t held_count;
    bool held_busy, held_late_valid;
    struct signal_info held_late;
    uint64_t saved_blocked; /* mask to come back after task_mask_swap; valid if mask_saved */
    bool mask_saved;
    bool restart_always; /* a signal came before the call began: restart it */
    bool extended_saved;   /* `extended` holds the guest's FP state of this stay in the personality */
    uint64_t uc_flags;     /* as the host's last frame had them */
    uint8_t *extended;     /* space.extended_size bytes */
    uint32_t extended_len;
    struct guest_stack { uint64_t base; uint32_t flags, pad; uint64_t size; } stack; /* sigaltstack(2), virtual */

    uint64_t clear_tid, robust_head; /* as the host was told: for those that must undo it */
};

#define TID_CACHE 16
#define GROUPS_MAX 64u
#define TIMERS_MAX 32

struct process {
    struct process_head head; /* first: fd/ */
    struct channel channel;
    int32_t pid;
    struct process *vfork_parent; /* its memory is used until exec or exit; NULL: own memory */
    bool fresh_required;  /* exec must start a new host process (changed ids) */

    struct lock thread_lock; /* threads, thread_count, dead, tids */
    struct thread *threads;
    uint32_t thread_count;   /* also futex word of exec, which waits for 1 */
    struct thread *dead;     /* ended; their host threads may still be on their stacks */
    int32_t tids[TID_CACHE]; /* ids that pm gave and no thread has, oldest first */
    uint32_t tid_count;

    struct thread *leader; /* the thread whose id is the pid */
    bool leader_parked;    /* it has called exit(2) and waits for the others; not in `threads` */
    uint32_t stopping;     /* not 0: all threads but `survivor` end at their next boundary. Under thread_lock */
    struct thread *survivor;
    struct exec_plan *plan; /* what the survivor is to run, when another thread called exec */

    struct lock signal_lock; /* actions, timers */
    struct signal_action actions[SIGNAL_COUNT + 1];
    uint64_t timers; /* bit i: host timer id i exists */

    uint32_t uid, euid, suid, gid, egid, sgid, fsuid, fsgid;
    uint32_t group_count, groups[GROUPS_MAX];
    uint32_t persona; /* personality(2) */
    uint32_t dumpable, death_signal;
    char exe[VOS_PATH_MAX];
    char comm[16];
};

struct space {
    int message_fd;  /* host fd for trace and panics, -1: none */
    bool trace, strict, fsgsbase, no_patch;
    uint32_t extended_size; /* most bytes that an XSAVE image takes in a signal frame */
    uint64_t hwcap, hwcap2, minimum_stack, clock_tick;
    struct lock memory_lock; /* guards brk_* */
    uint64_t brk_start, brk_now, brk_mapped;
};
extern struct space space;

static inline struct thread *thread_of(struct task *task) { return (struct thread *)task; }

/* This thread's structure, from GS. */
static inline struct thread *thread_self(void) {
    struct thread *thread;
    __asm__("movq %%gs:0, %0" : "=r"(thread));
    return thread;
}

/* ---- task/thread.c ---- */
/* A block with stacks for a new thread of a process, not in its list yet; NULL: no memory. */
struct thread *thread_create(struct process *process, int32_t tid);
void thread_destroy(struct thread *thread); /* not in a list; nobody may be on its stacks */
void thread_link(struct thread *thread);    /* under thread_lock */
void thread_unlink(struct thread *thread);  /* under thread_lock */
/* Make the calling host thread this one: GS, host alternate stack, Syscall User Dispatch, mask. Signals are blocked before. */
void thread_adopt(struct thread *thread);
/* Frees ended threads whose host threads are gone, and gives their ids back. May be called by any thread of the process. */
void threads_reap(struct task *task);
/* regs block at the top of a thread's private stack. */
struct regs *thread_regs(struct thread *thread);
/* Become this thread for good: enter the guest with its regs. Switches to its stack. */
_Noreturn void thread_enter(struct thread *thread);
void thread_cache_fork_begin(void);
void thread_cache_fork_end(void);
/* Host mask of a thread that runs the guest. */
uint64_t signal_host_mask(uint64_t blocked);

/* ---- entry/signal.c ---- */
/* A new program: handlers go back to the default, ignored ones stay; host dispositions follow. ignored: extra ones. */
void signals_reset(struct process *process, uint64_t ignored);
/* Install host handlers for the signals that are always ours. Once a process image (they are inherited). */
void signals_init(void);
/* Set task->blocked and the host's mask. */
void signal_mask_set(struct thread *thread, uint64_t blocked);
/* Block every host signal, of ours too: no fault may happen until the mask is set again. */
void signal_block_all(void);
uint64_t signals_ignored(struct process *process);
/* Recompute task->pending from what is held. */
void signal_pending_update(struct thread *thread);
/* Register the frame checks of entry/entry.S; ends the calling thread or runs exec, when told to stop. */
void thread_stop_check(struct thread *thread);

/* ---- task/exit.c ---- */
/* The process ends; its parent sees this exit code. */
_Noreturn void process_exit(int code);
/* The process ends as if killed by a signal with its default action. */
_Noreturn void process_die(struct task *task, int signal);
/* This thread ends, after the guest's own exit(2) (guest_exit) or because exec or exit stops it. */
_Noreturn void thread_exit(struct task *task, int status);
_Noreturn void thread_stop(struct thread *thread);

/* ---- task/exec.c, task/loader.c ---- */
/* Stop all other threads. 0: the caller is the leader and alone now. Else another thread is already about it, and the caller ends at
 * its exit to the guest. If the caller is not the leader it ends here, and the leader runs the plan. */
long threads_stop(struct task *task, struct exec_plan *plan);
/* Run a plan whose checks are done, as the only thread of the process; does not return. */
_Noreturn void exec_commit(struct task *task, struct exec_plan *plan);

/* ---- memory/ ---- */
/* Unmap all of the guest: everything outside BASE..END. */
void memory_reset(void);
void brk_set(uint64_t start);
long memory_brk(uint64_t wanted);

/* ---- entry/dispatch.c ---- */
void dispatch(struct task *task, struct regs *regs);

/* ---- entry/entry.S ---- */
long host_clone(void *args, uint64_t size, struct thread *child); /* as clone3(2); the child goes to thread_start(child) */
_Noreturn void host_sigreturn(void *ucontext);
_Noreturn void guest_enter(void); /* to the guest with the regs of %gs:8 */

#endif
