/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system calls guests have. Default: ENOSYS, so that a personality that is newer than the list degrades. A call
 * of another architecture (int 0x80, x32) kills.
 *
 * Why what is here is safe: everything acts on the caller's own memory, threads, timers and on file descriptors that it
 * holds, and it holds only those that a server granted (never a directory) or that it made itself: pipes and pairs of
 * Unix sockets, which lead to guests of its cell only. Plain numbers are preferred: the kernel caches those. Checked by
 * argument is what could reach beyond:
 *   fcntl      F_SETOWN, F_SETSIG, F_SETLEASE, F_NOTIFY and O_ASYNC send signals to other processes; locks and seals
 *              go by fs
 *   ioctl      only FIONREAD and FIONBIO: most others act on what the file is, not on the descriptor
 *   prctl      a few options; the rest set capabilities, other processes' memory maps or seccomp itself
 *   clone      no new namespaces. clone3 passes its flags in memory, where a filter cannot look: there, the user
 *              namespace limits that init sets to 0 refuse a new user namespace, and all others need CAP_SYS_ADMIN,
 *              which guests lack
 *   prlimit64, sched_set*   the caller itself only (pid 0): guests of one DC share a host uid
 *   socketpair, getsockopt, setsockopt   Unix sockets, and options without power over others
 * Syscall User Dispatch (prctl 59) stays allowed: each new thread and process must arm it, and switching it off gains
 * nothing, since interception is no wall.
 *
 * Absent on purpose: all that takes a path or a directory; all other sockets; exec (the filter comes after the
 * zygote's); kill, tgkill, tkill, rt_sigqueueinfo, pidfd_send_signal (signals go by pm, which checks credentials);
 * ptrace, process_vm_*, kcmp; wait4 and waitid (a guest has no host children of its own); fork and vfork (children must
 * be init's: clone3 with CLONE_PARENT); seccomp; userfaultfd, io_uring, bpf, perf, keyctl; set_mempolicy and the like;
 * set*id.
 */
#include "cell/filter.h"
#include "common/cleanup.h"
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#ifndef ARCH_GET_XCOMP_SUPP
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* Not known to every libseccomp; x86-64 numbers. */
enum { NR_futex_wake = 454, NR_futex_wait = 455, NR_futex_requeue = 456 };

/* By number alone, whatever the arguments. */
static const int allowed[] = {
    /* memory */
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(msync),
    SCMP_SYS(mincore),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(mlockall),
    SCMP_SYS(munlockall),
    SCMP_SYS(memfd_create),
    SCMP_SYS(membarrier),
    /* threads, processes */
    SCMP_SYS(clone3),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(futex_waitv),
    NR_futex_wake,
    NR_futex_wait,
    NR_futex_requeue,
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_rr_get_interval),
    SCMP_SYS(getcpu),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getrandom),
    SCMP_SYS(restart_syscall),
    /* signals of the caller's own, and waiting for them */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(pause),
    SCMP_SYS(signalfd4),
    /* time. timer_create's SIGEV_THREAD_ID reaches only threads of the caller's own thread group: the kernel checks */
    SCMP_SYS(time),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(alarm),
    SCMP_SYS(getitimer),
    SCMP_SYS(setitimer),
    SCMP_SYS(timer_create),
    SCMP_SYS(timer_settime),
    SCMP_SYS(timer_gettime),
    SCMP_SYS(timer_getoverrun),
    SCMP_SYS(timer_delete),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    /* descriptors that are held */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(readahead),
    SCMP_SYS(copy_file_range),
    SCMP_SYS(splice),
    SCMP_SYS(tee),
    SCMP_SYS(sendfile),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fstat),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    /* waiting on descriptors */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    /* the channel's socket, and pairs of sockets. An address in sendmsg finds nothing: the network namespace is the cell's own,
       and nobody in it can bind */
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(shutdown),
};

#define NAMESPACE_FLAGS                                                                                                \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* By number and one argument: (call, argument's index, comparison). A value compares in all 64 bits. */
static const struct {
    int call;
    struct scmp_arg_cmp compare;
} allowed_by_argument[] = {
    {SCMP_SYS(clone), {0, SCMP_CMP_MASKED_EQ, NAMESPACE_FLAGS, 0}},
    {SCMP_SYS(socketpair), {0, SCMP_CMP_EQ, AF_UNIX, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_DUPFD, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETFD, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_SETFD, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETFL, 0}},
    {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETPIPE_SZ, 0}},
    {SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, FIONREAD, 0}},
    {SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, FIONBIO, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_GET_NAME, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_SYSCALL_USER_DISPATCH, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_TIMERSLACK, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_GET_TIMERSLACK, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_THP_DISABLE, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_GET_THP_DISABLE, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_VMA, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_SET_FS, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_GET_FS, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_SET_GS, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_GET_GS, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_SET_CPUID, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_GET_CPUID, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_GET_XCOMP_SUPP, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_GET_XCOMP_PERM, 0}},
    {SCMP_SYS(arch_prctl), {0, SCMP_CMP_EQ, ARCH_REQ_XCOMP_PERM, 0}},
    {SCMP_SYS(prlimit64), {0, SCMP_CMP_EQ, 0, 0}},
    {SCMP_SYS(sched_setaffinity), {0, SCMP_CMP_EQ, 0, 0}},
    {SCMP_SYS(sched_setparam), {0, SCMP_CMP_EQ, 0, 0}},
    {SCMP_SYS(sched_setscheduler), {0, SCMP_CMP_EQ, 0, 0}},
    {SCMP_SYS(sched_setattr), {0, SCMP_CMP_EQ, 0, 0}},
};

/* Options of SOL_SOCKET: nothing that runs a program of the guest's, forces a size or looks at another process. */
static const int options_read[] = {SO_TYPE,     SO_ERROR,    SO_SNDBUF,   SO_RCVBUF, SO_PASSCRED,
                                   SO_PEERCRED, SO_RCVTIMEO, SO_SNDTIMEO, SO_DOMAIN};
static const int options_set[] = {SO_SNDBUF, SO_RCVBUF, SO_PASSCRED, SO_RCVTIMEO, SO_SNDTIMEO};

static void filter_release(scmp_filter_ctx *filter) {
    if (*filter)
        seccomp_release(*filter);
}

static int option_rules_add(scmp_filter_ctx filter, int call, const int *options, size_t count) {
    int error = 0;
    for (size_t i = 0; !error && i < count; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 2, SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET),
                                 SCMP_A2(SCMP_CMP_EQ, (scmp_datum_t)options[i]));
    return error;
}

static int rules_add(scmp_filter_ctx filter) {
    int error = 0;
    for (size_t i = 0; !error && i < ARRAY_LENGTH(allowed); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; !error && i < ARRAY_LENGTH(allowed_by_argument); i++)
        error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed_by_argument[i].call, 1,
                                       &allowed_by_argument[i].compare);
    if (!error) /* F_SETFL without O_ASYNC */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 2, SCMP_A1(SCMP_CMP_EQ, F_SETFL),
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, O_ASYNC, 0));
    if (!error)
        error = option_rules_add(filter, SCMP_SYS(getsockopt), options_read, ARRAY_LENGTH(options_read));
    if (!error)
        error = option_rules_add(filter, SCMP_SYS(setsockopt), options_set, ARRAY_LENGTH(options_set));
    return error;
}

int filter_create(int *out, struct failure *failure) {
    __attribute__((cleanup(filter_release))) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return failure_set(failure, -ENOMEM, "internal", NULL, "cannot make a seccomp filter");
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: the list is long */
    if (!error)
        error = rules_add(filter);
    cleanup_close int fd = memfd_create("dvs-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (!error && fd < 0)
        error = -errno;
    if (!error)
        error = seccomp_export_bpf(filter, fd);
    if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
        error = -errno;
    if (error)
        return failure_set(failure, error, "internal", NULL, "cannot compile the seccomp filter: %s", strerror(-error));
    *out = steal_fd(&fd);
    return 0;
}
