/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads' blocks. Layout, from low to high, after an unmapped page: private stack, struct thread, extended state, host
 * alternate stack. Blocks of ended threads are kept for the next ones.
 *
 * A thread that ends cannot free what it stands on: it goes to process->dead, and others free it when the host says that its
 * id is gone. Only then may pm hear of it, or the id be used again.
 */
#include "personality/entry/signal.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/prctl.h>

#define PRIVATE_STACK (96u << 10)
#define ALTERNATE_EXTRA (16u << 10)
#define BLOCK_CACHE 8u

_Static_assert(PRIVATE_STACK >= FD_STACK_NEED + (48u << 10), "room for fd/ and for ourselves");

extern const char personality_text_start[], personality_text_end[];
void thread_start(struct thread *thread);

static struct lock cache_lock;
static uint64_t cache[BLOCK_CACHE];
static uint32_t cache_count;

void thread_cache_fork_begin(void) { lock_acquire(&cache_lock); }
void thread_cache_fork_end(void) { lock_release(&cache_lock); }

static uint64_t alternate_size(void) { return page_up(space.extended_size + ALTERNATE_EXTRA); }
static uint64_t record_size(void) { return page_up(sizeof(struct thread) + 64 + space.extended_size); }
static uint64_t block_size(void) { return PRIVATE_STACK + record_size() + alternate_size(); }

struct thread *thread_create(struct process *process, int32_t tid) {
    uint64_t block = 0;
    lock_acquire(&cache_lock);
    if (cache_count > 0)
        block = cache[--cache_count];
    lock_release(&cache_lock);
    if (block == 0)
        block = (uint64_t)area_alloc(block_size());
    if (block == 0)
        return NULL;
    struct thread *thread = (struct thread *)(block + PRIVATE_STACK);
    memset(thread, 0, sizeof *thread);
    thread->task.self = &thread->task;
    thread->task.process = process;
    thread->task.tid = tid;
    /* 8 mod 16: entry.S pushes 17 words and calls */
    thread->task.stack_top = block + PRIVATE_STACK - 8;
    thread->task.regs = thread_regs(thread);
    thread->block = block;
    thread->block_len = block_size();
    thread->extended = (uint8_t *)(((uint64_t)(thread + 1) + 63) & ~63ull);
    thread->alternate = block + PRIVATE_STACK + record_size();
    thread->alternate_len = alternate_size();
    thread->stack.flags = STACK_DISABLE;
    return thread;
}

void thread_destroy(struct thread *thread) {
    uint64_t block = thread->block;
    lock_acquire(&cache_lock);
    if (cache_count < BLOCK_CACHE) {
        cache[cache_count++] = block;
        block = 0;
    }
    lock_release(&cache_lock);
    if (block != 0)
        area_free((void *)block, block_size());
}

struct regs *thread_regs(struct thread *thread) { return (struct regs *)(thread->task.stack_top - sizeof(struct regs)); }

void thread_link(struct thread *thread) {
    struct process *process = thread->task.process;
    thread->previous = NULL;
    thread->next = process->threads;
    if (thread->next != NULL)
        thread->next->previous = thread;
    process->threads = thread;
    process->thread_count++;
}

void thread_unlink(struct thread *thread) {
    struct process *process = thread->task.process;
    if (thread->previous != NULL)
        thread->previous->next = thread->next;
    else
        process->threads = thread->next;
    if (thread->next != NULL)
        thread->next->previous = thread->previous;
    __atomic_fetch_sub(&process->thread_count, 1u, __ATOMIC_SEQ_CST);
}

void thread_adopt(struct thread *thread) {
    if (space.fsgsbase)
        __asm__ volatile("wrgsbase %0" ::"r"(thread) : "memory");
    else
        CALL2(__NR_arch_prctl, ARCH_SET_GS, thread);
    struct guest_stack stack = {.base = thread->alternate, .size = thread->alternate_len};
    CALL2(__NR_sigaltstack, &stack, 0);
    long result = CALL5(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, personality_text_start,
                        personality_text_end - personality_text_start, 0);
    if (result != 0)
        personality_panic("cannot arm Syscall User Dispatch", (uint64_t)-result, 0);
    thread->task.pending = 0;
    signal_pending_update(thread);
    uint64_t mask = signal_host_mask(thread->task.blocked);
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
}

static void enter_on_stack(void *argument) {
    (void)argument;
    guest_enter();
}

_Noreturn void thread_enter(struct thread *thread) {
    stack_switch(thread->task.stack_top - sizeof(struct regs) - 64, enter_on_stack, thread);
}

/* ---- ended threads ---- */

static bool host_thread_exists(int32_t tid) { return CALL1(__NR_sched_getscheduler, tid) != -ESRCH; }

static void tid_free(struct task *task, int32_t tid) {
    struct process *process = task->process;
    lock_acquire(&process->thread_lock);
    bool kept = process->tid_count < TID_CACHE;
    if (kept)
        process->tids[process->tid_count++] = tid;
    lock_release(&process->thread_lock);
    if (kept)
        return;
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_TID_FREE;
    rpc.message.payload.ints[0] = tid;
    (void)rpc_call(task, &rpc);
}

void threads_reap(struct task *task) {
    struct process *process = task->process;
    for (;;) {
        struct thread *found = NULL;
        lock_acquire(&process->thread_lock);
        for (struct thread **link = &process->dead; *link != NULL; link = &(*link)->next)
            if (!host_thread_exists((*link)->task.tid)) {
                found = *link;
                *link = found->next;
                break;
            }
        lock_release(&process->thread_lock);
        if (found == NULL)
            return;
        int32_t tid = found->task.tid;
        thread_destroy(found);
        if (tid != process->pid)
            tid_free(task, tid);
    }
}
