/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The personality: the library OS inside each guest process. Freestanding C (no libc, general registers
 * only), linked at PERSONALITY_BASE and mapped before the program. It is never trusted by anyone outside the
 * process (see docs/ARCHITECTURE.md): it is a convenience of the guest, not a guard of the host.
 *
 * Rooms in this folder:
 *   entry/    how control gets in and out: SIGSYS, rewritten call sites, per-thread stacks, signal frames
 *   task/     threads, fork, vfork, exec, loader, ids, waits: what asks pm
 *   fd/       the descriptor table and every file call: what asks fs
 *   memory/   mmap, brk, file mappings
 *   host/     the only place that makes host system calls, and the channel to the servers
 *   sys/      the table of system calls
 * The same sources (but for entry/) compile as a hosted library against a fake host (host/fake.c) for unit tests.
 *
 * State: nothing per process is global, since a vfork child shares our memory with its parent. Everything hangs
 * from struct task (found through GS) and its struct process.
 *
 * Signals: while a task is inside the personality every guest signal is deferred (entry/signal.c), so code here is
 * never re-entered by the guest's handlers. Locks are therefore plain; each names what it guards.
 */
#ifndef PERSONALITY_H
#define PERSONALITY_H

#include "dvk/channel.h"
#include "vos/protocol.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERSONALITY_BASE 0x6f0000000000ull
#define PERSONALITY_AREA 0x6f1000000000ull /* tasks, channels, tables: mapped from here up */
#define PERSONALITY_END 0x6f8000000000ull  /* guests may not map in BASE..END: mmap there gives ENOMEM, munmap EINVAL */

struct process;
struct fd_table;

/* Guest registers at the call; what entry saves. Offsets are known to entry/entry.S. */
struct regs {
    uint64_t rax, rdx, rsi, rdi, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15;
    uint64_t rip; /* where the guest goes on (RCX at entry) */
    uint64_t rsp;
    uint64_t rflags;
};

/* One a thread. At GS:0. task/ and entry/ own the fields; others read `process`, `tid`, `pending`. */
struct task {
    struct task *self;       /* 0 */
    struct regs *regs;       /* 8: of the call under way */
    uint64_t stack_top;      /* 16: private stack that entry switches to */
    uint64_t scratch[4];     /* 24: for entry.S */
    uint32_t pending;        /* 56: not 0: a deferred signal waits to be delivered */
    uint32_t in_exit;        /* 60 */
    struct process *process; /* 64 */
    int32_t tid;             /* 72 */
    uint32_t slot_hint;      /* 76: channel slot last used */
    uint64_t blocked;        /* guest's signal mask as the guest sees it */
    /* further fields: see task/task.h */
};

/* ---- host/: system calls and servers ---- */

/* One host system call; result as the kernel gives it (negative errno). Never blocks for long: for calls that may
 * block use host_blocking. */
long host_call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

/* A host call that may block. Ends with -EINTR when a guest signal is to be delivered, also if that came just
 * before the call was made. */
long host_blocking(struct task *task, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

/*
 * rpc: a request to a server of our cell and its reply.
 * message: destination is filled in from the type; overwritten by the reply. data: request's out-of-line data in guest
 * or personality memory (a bad guest pointer gives -EFAULT). reply: where reply data is copied (may be NULL);
 * fds: host fds that came with the reply (may be NULL: then they are closed).
 * Returns message->status (>= 0), or a negative Linux errno. A deferred guest signal cancels the request and gives -EINTR if the
 * server had not done it; with RPC_UNINTERRUPTIBLE it waits on. A dead server gives -EIO.
 */
enum rpc_flags { RPC_UNINTERRUPTIBLE = 1u };
struct rpc {
    struct dvk_message message;
    const void *data;
    size_t data_len;
    const int *send_fds; /* host fds to send along (not closed) */
    unsigned send_fd_count;
    void *reply;
    size_t reply_cap;
    size_t reply_len; /* out: bytes that came (may exceed reply_cap: rest was dropped) */
    int *fds;
    unsigned fd_cap;
    unsigned fd_count; /* out */
    unsigned flags;
};
long rpc_call(struct task *task, struct rpc *rpc);

/* ---- guest memory: a bad pointer gives -EFAULT instead of a crash ---- */
long guest_read(void *to, uint64_t from, size_t len);
long guest_write(uint64_t to, const void *from, size_t len);
/* Copies a NUL-terminated string; length without NUL, -EFAULT, or -ENAMETOOLONG when cap is too small. */
long guest_string(char *to, uint64_t from, size_t cap);

/* ---- personality memory (never visible to the guest's mmap space) ---- */
void *area_alloc(size_t len); /* pages; NULL when none; zeroed */
void area_free(void *p, size_t len);
void *heap_alloc(struct process *process, size_t len); /* small objects of a process; zeroed; NULL when none */
void heap_free(struct process *process, void *p);

/* ---- locks (futex; private to the process's address space) ---- */
struct lock { uint32_t word; };
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);

/* ---- system calls ---- */

/* Every system call is one row in sys/table.c and one function of this shape. args: the six arguments.
 * Returns the result for the guest (negative errno), or SYS_RESTART_*: */
typedef long sys_function(struct task *task, const uint64_t args[6]);
#define SYS_INTERRUPTED (-512L)        /* interrupted: restart if the handler has SA_RESTART, else -EINTR (ERESTARTSYS) */
#define SYS_INTERRUPTED_NOHAND (-514L) /* restart only if no handler runs, else -EINTR (ERESTARTNOHAND) */

/* ---- fd/: used by others ---- */
/* Descriptor table of a new process image. */
int fd_table_create(struct process *process);
/* After fork in the child / for a vfork child: its own copy. */
int fd_table_fork(struct process *child, struct process *parent);
void fd_table_drop(struct process *process); /* process is gone (vfork child): memory only, host fds are its own */
/* exec: close what is close-on-exec. */
void fd_close_on_exec(struct task *task);
/* exec elsewhere: fill image descriptors; host_fds gets host fds to send. remote: export all host fds first.
 * Returns count or negative errno. */
struct vos_image_fd;
long fd_describe(struct task *task, struct vos_image_fd *out, size_t cap, int *host_fds, size_t *host_fd_count, bool remote);
/* New process: take the image's descriptors over. */
long fd_restore(struct task *task, const struct vos_image_fd *fds, size_t count, const int *host_fds, size_t host_fd_count);
/* Open a path for the loader: for execute permission when `exec`. Gives a *file* to read or map from. */
struct file_ref;
long file_open_exec(struct task *task, const char *path, bool exec, struct file_ref **out, struct vos_stat *stat);
long file_pread(struct task *task, struct file_ref *file, void *to, size_t len, uint64_t offset);
/* Map part of it (private): at `address` (MAP_FIXED when fixed). Local files are mapped from the host fd, remote ones copied in. */
long file_map(struct task *task, struct file_ref *file, uint64_t address, size_t len, int prot, bool fixed, uint64_t offset);
void file_close(struct task *task, struct file_ref *file);
/* The same for mmap(2) of a guest's descriptor. */
long fd_mmap(struct task *task, uint64_t address, size_t len, int prot, int flags, int fd, uint64_t offset);

#endif
