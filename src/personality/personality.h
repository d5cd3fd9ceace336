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
 * or personality memory (a bad guest pointer gives -EFAULT). reply: where reply data is copied (may be NULL), guest or
 * personality memory likewise (a bad guest pointer gives -EFAULT);
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

/*
 * The lowest host fd at or above `low` that is the personality's own (the channel's and the like), INT32_MAX: none. All host fds
 * are kept low: fork copies the host's table up to the highest.
 */
int host_fd_own(const struct process *process, int low);

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
#define SYS_RESTART_ALWAYS (-513L)     /* restart in any case (ERESTARTNOINTR) */
#define SYS_INTERRUPTED_NOHAND (-514L) /* restart only if no handler runs, else -EINTR (ERESTARTNOHAND) */

/* ---- task/, entry/: used by fd/ ---- */
/* struct process begins with this: fd/ keeps its descriptor table there. */
struct process_head {
    struct fd_table *fd_table;
};
/* Make `signal` pending for this thread, as the kernel does for SIGPIPE (si_code SI_USER, own pid). Does not block. */
void task_raise(struct task *task, int signal);
/*
 * The guest's signal mask for the duration of one blocking call (ppoll, pselect6, epoll_pwait). swap: `mask` in place of the
 * guest's mask, so that the host_blocking or rpc_call that follows ends with -EINTR when a signal that it lets through comes.
 * restore: interrupted = the call ended that way: the handler then still runs under the temporary mask's rules and the old mask
 * comes back when it returns (as in ppoll(2)); otherwise the old mask is back at once.
 */
void task_mask_swap(struct task *task, uint64_t mask);
void task_mask_restore(struct task *task, bool interrupted);
/* Signals that the guest ignores (bit signal - 1). */
uint64_t signals_ignored(struct process *process);
/* Path of the program that this process runs, as opened by exec (absolute); never NULL. */
const char *process_exe(const struct process *process);

/* ---- fd/: used by others ---- */
/* Largest RLIMIT_NOFILE (soft or hard) that a guest may have: below the host's. */
#define FD_LIMIT_MAX 14336u
/* Path calls keep up to two paths on the private stack of the task: fd/ needs up to this many bytes of it. */
#define FD_STACK_NEED (24u << 10)

/* Descriptor table of a new process image: empty, umask 022, limit 1024. 0 or -ENOMEM. */
int fd_table_create(struct process *process);
/*
 * fork and vfork: nothing changes in the parent's table between begin and end. Order:
 *   parent: fd_fork_begin(parent); PM_FORK; clone
 *   child:  fd_table_fork(child, parent), before it uses any descriptor. With memory of its own (fork) `child` may be `parent`
 *           (also a new struct process that was given the parent's fd_table): the copy is put in order in place. A vfork child gets a table of its own; it then calls fd_fork_end(parent) itself
 *           if the parent cannot run before it (CLONE_VFORK).
 *   parent: fd_fork_end(parent) (once: not if the vfork child did), also when clone failed.
 * fd_table_fork: 0 or -ENOMEM; it also closes host fds that the child has inherited in the middle of another thread's open.
 */
void fd_fork_begin(struct process *parent);
void fd_fork_end(struct process *parent);
int fd_table_fork(struct process *child, struct process *parent);
/* Called with true before the second thread of a process starts (the default is true, which is always right); false while it
 * has a single thread saves the locks and counts on every call. */
void fd_table_set_threaded(struct process *process, bool threaded);
/* RLIMIT_NOFILE's soft value: descriptors are below it. set: -EPERM above FD_LIMIT_MAX. */
uint32_t fd_limit(const struct process *process);
int fd_limit_set(struct process *process, uint64_t limit);
/* The umask lives here (sys_umask too); core sets it from PM_HELLO or the exec image, and puts it in images. */
uint32_t fd_umask(const struct process *process);
void fd_umask_set(struct process *process, uint32_t mask);
/* True when a descriptor that survives exec cannot go to another node (epoll, timerfd, eventfd, signalfd): ask for no remote
 * place then (PM_PLACE_LOCAL). */
bool fd_pinned(struct process *process);
void fd_table_drop(struct process *process); /* process is gone (vfork child): memory only, host fds are its own */
/* exec: close what is close-on-exec. */
void fd_close_on_exec(struct task *task);
/* exec elsewhere: fill image descriptors; host_fds (room for DVK_MESSAGE_FDS) gets host fds to send. remote: export all host
 * fds first. Close-on-exec descriptors are left out. Returns count or negative errno. If the exec then fails, fd_describe_undo
 * gives the exported handles back. */
struct vos_image_fd;
long fd_describe(struct task *task, struct vos_image_fd *out, size_t cap, int *host_fds, size_t *host_fd_count, bool remote);
void fd_describe_undo(struct task *task);
/* New process: take the image's descriptors over (host_fds become the table's, also on failure). */
long fd_restore(struct task *task, const struct vos_image_fd *fds, size_t count, const int *host_fds, size_t host_fd_count);
/* Open a path for the loader: for execute permission when `exec`. Gives a *file* to read or map from. */
struct file_ref;
struct opened_info {
    struct vos_stat stat;
    char path[VOS_PATH_MAX]; /* where it lies, links followed; empty: fs did not say */
};
long file_open_exec(struct task *task, const char *path, bool exec, struct file_ref **out, struct opened_info *info);
/*
 * A path by which exec finds what execveat(2) names: `name` in the directory vfd, or if that is empty vfd itself. stay: the descriptor
 * is closed by exec and has no name, so only this process can use the path. 0 or negative errno.
 */
long fd_program_path(struct task *task, int vfd, const char *name, char *path, size_t cap, bool *stay);
long file_pread(struct task *task, struct file_ref *file, void *to, size_t len, uint64_t offset);
/* Map part of it (private): at `address` (MAP_FIXED when fixed). Local files are mapped from the host fd, remote ones copied in. */
long file_map(struct task *task, struct file_ref *file, uint64_t address, size_t len, int prot, bool fixed, uint64_t offset);
void file_close(struct task *task, struct file_ref *file);
/* Canonical path of an open file in the DC, with its NUL; length without NUL or negative errno. One message. */
long file_path(struct task *task, struct file_ref *file, char *path, size_t cap);
/* The same for mmap(2) of a guest's descriptor. */
long fd_mmap(struct task *task, uint64_t address, size_t len, int prot, int flags, int fd, uint64_t offset);

#endif
