/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on the host's kernel: calls that the cell must refuse whoever makes them. */
#include "hostile.h"
#include <linux/sched.h>

#define NOT_THERE (-38) /* ENOSYS: what the filter answers */

struct try {
    long number, a, b, c, d, e;
};

/* All must be refused by the filter itself. */
static enum outcome tries_run(const struct try *tries, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (HOST(tries[i].number, tries[i].a, tries[i].b, tries[i].c, tries[i].d, tries[i].e) != NOT_THERE)
            return SUCCEEDED;
    return REFUSED;
}
#define TRIES(...)                                                                                                     \
    do {                                                                                                               \
        const struct try tries[] = {__VA_ARGS__};                                                                      \
        return tries_run(tries, sizeof tries / sizeof tries[0]);                                                       \
    } while (0)

enum outcome attack_open(long argument) {
    static const char path[] = "/etc/passwd";
    static const uint64_t how[3];
    TRIES({__NR_open, (long)path}, {__NR_openat, -100, (long)path},
          {__NR_openat2, -100, (long)path, (long)how, sizeof how}, {__NR_creat, (long)"/x", 0600},
          {__NR_stat, (long)path, (long)how}, {__NR_readlink, (long)path, (long)how, 8},
          {__NR_open_tree, -100, (long)path}, {__NR_chdir, (long)"/"}, {__NR_name_to_handle_at, -100, (long)path},
          {__NR_open_by_handle_at, -100, (long)how}, {__NR_getdents64, 3, (long)path, 1}, {__NR_unlink, (long)path});
}

enum outcome attack_socket(long argument) {
    int pair[2];
    TRIES({__NR_socket, 1, 1}, {__NR_socket, 2, 1}, {__NR_socket, 16, 3}, {__NR_socketpair, 2, 1, 0, (long)pair},
          {__NR_connect, 3}, {__NR_bind, 3}, {__NR_listen, 3}, {__NR_accept, 3}, {__NR_sendto, 3}, {__NR_recvfrom, 3},
          {__NR_getsockopt, 3}, {__NR_setsockopt, 3});
}

enum outcome attack_ptrace(long argument) {
    TRIES({__NR_ptrace, 0}, {__NR_ptrace, 16, 1}, {__NR_ptrace, 16, 2}, {__NR_ptrace, 0x4206, 2}, {__NR_kcmp, 1, 2},
          {__NR_pidfd_open, 2}, {__NR_pidfd_getfd, 3, 3});
}

enum outcome attack_mount(long argument) {
    static const char tmpfs[] = "tmpfs";
    TRIES({__NR_mount, (long)tmpfs, (long)"/", (long)tmpfs}, {__NR_umount2, (long)"/", 2},
          {__NR_pivot_root, (long)"/", (long)"/"}, {__NR_chroot, (long)"/"}, {__NR_fsopen, (long)tmpfs},
          {__NR_fsmount, 3}, {__NR_move_mount, 3, (long)"", -100, (long)"/"}, {__NR_mount_setattr, -100, (long)"/"},
          {__NR_swapon, (long)tmpfs}, {__NR_reboot}, {__NR_sethostname, (long)tmpfs, 5});
}

/* The cell's init and servers, and everything at once. */
enum outcome attack_kill(long argument) {
    TRIES({__NR_kill, 1, 9}, {__NR_kill, 2, 9}, {__NR_kill, 63, 9}, {__NR_kill, -1, 9}, {__NR_kill, 0, 9},
          {__NR_tgkill, 2, 2, 9}, {__NR_tkill, 2, 9}, {__NR_rt_sigqueueinfo, 2, 9}, {__NR_rt_tgsigqueueinfo, 2, 2, 9},
          {__NR_pidfd_send_signal, 3, 9});
}
enum outcome attack_kill_host(long argument) {
    TRIES({__NR_kill, argument, 9}, {__NR_tgkill, argument, argument, 9}, {__NR_tkill, argument, 9});
}

static enum outcome memory_of(long pid) {
    static char bytes[64];
    static const struct {
        void *at;
        size_t len;
    } here = {bytes, sizeof bytes}, there = {(void *)0x400000, sizeof bytes};
    TRIES({__NR_process_vm_readv, pid, (long)&here, 1, (long)&there, 1},
          {__NR_process_vm_writev, pid, (long)&here, 1, (long)&there, 1}, {__NR_process_madvise, 3},
          {__NR_ptrace, 1, pid, 0x400000}, {__NR_userfaultfd}, {__NR_shmget, 1, 4096, 0600}, {__NR_shmat, 0},
          {__NR_perf_event_open, (long)bytes, pid}, {__NR_bpf}, {__NR_io_uring_setup, 8, (long)bytes});
}
enum outcome attack_memory(long argument) {
    return memory_of(2);
}
enum outcome attack_memory_host(long argument) {
    return memory_of(argument);
}

enum outcome attack_exec(long argument) {
    static const char path[] = "/bin/sh";
    static const long none[1];
    TRIES({__NR_execve, (long)path, (long)none, (long)none},
          {__NR_execveat, 3, (long)"", (long)none, (long)none, 0x1000},
          {__NR_execveat, -100, (long)path, (long)none, (long)none}, {__NR_init_module}, {__NR_finit_module},
          {__NR_kexec_load});
}

enum outcome attack_privilege(long argument) {
    static const uint32_t header[2] = {0x20080522}, all[6] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    TRIES({__NR_setuid, 0}, {__NR_setgid, 0}, {__NR_setresuid, 0, 0, 0}, {__NR_setgroups, 0}, {__NR_setfsuid, 0},
          {__NR_capset, (long)header, (long)all}, {__NR_prctl, 47, 2}, {__NR_prctl, 8, 1}, {__NR_prctl, 22, 0},
          {__NR_seccomp}, {__NR_keyctl}, {__NR_prlimit64, 1, 7}, {__NR_setrlimit, 7, (long)all},
          {__NR_sched_setaffinity, 2, 8, (long)all}, {__NR_setpriority, 0, 2}, {__NR_iopl, 3}, {__NR_clock_settime});
}

/* clone3's flags lie in memory: the filter does not see them. */
enum outcome attack_namespace(long argument) {
    static const uint64_t kinds[] = {CLONE_NEWUSER,
                                     CLONE_NEWUSER | CLONE_NEWNS,
                                     CLONE_NEWUSER | CLONE_NEWPID,
                                     CLONE_NEWNS,
                                     CLONE_NEWPID,
                                     CLONE_NEWNET,
                                     CLONE_NEWIPC,
                                     CLONE_NEWUTS,
                                     CLONE_NEWCGROUP,
                                     CLONE_NEWTIME};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct clone_args args;
        for (size_t k = 0; k < sizeof args; k++)
            ((volatile char *)&args)[k] = 0;
        args.flags = kinds[i];
        long pid = HOST(__NR_clone3, &args, sizeof args);
        if (!pid)
            finish(SUCCEEDED);
        if (pid > 0 || HOST(__NR_clone, kinds[i] & ~0xffull) == 0)
            return SUCCEEDED;
    }
    TRIES({__NR_unshare, CLONE_NEWUSER}, {__NR_setns, 3}, {__NR_clone, CLONE_NEWUSER | 17}, {__NR_fork}, {__NR_vfork});
}

/* Have the kernel signal somebody else on our behalf. */
enum outcome attack_signal_by_fd(long argument) {
    int pipe[2];
    if (HOST(__NR_pipe2, pipe, 0))
        return UNTRIED;
    TRIES({__NR_fcntl, pipe[0], 8 /* F_SETOWN */, 2}, {__NR_fcntl, pipe[0], 10 /* F_SETSIG */, 9},
          {__NR_fcntl, pipe[0], 15 /* F_SETOWN_EX */}, {__NR_fcntl, pipe[0], 4 /* F_SETFL */, 020000 /* O_ASYNC */},
          {__NR_ioctl, pipe[0], 0x5452 /* FIOASYNC */, (long)pipe},
          {__NR_ioctl, pipe[0], 0x8901 /* FIOSETOWN */, (long)pipe}, {__NR_fcntl, pipe[0], 1024 /* F_SETLEASE */},
          {__NR_fcntl, pipe[0], 1026 /* F_NOTIFY */});
}

/* timer_create is allowed, but must reach only threads of the caller. */
enum outcome attack_timer(long argument) {
    struct {
        uint64_t value;
        int signal, notify, tid, pad[11];
    } event = {.signal = 9, .notify = 4 /* SIGEV_THREAD_ID */, .tid = 2};
    int timer;
    for (int tid = 1; tid < 100; tid++) {
        event.tid = tid;
        if (tid != HOST(__NR_gettid) && HOST(__NR_timer_create, 1, &event, &timer) == 0)
            return SUCCEEDED;
    }
    return REFUSED;
}

/* Switch interception off and call directly: in strict mode that kills, else the filter still holds. */
enum outcome attack_undispatch(long argument) {
    if (HOST(__NR_prctl, 59, 0))
        return UNTRIED;
    long result = guest_call(__NR_open, (long)"/etc/passwd", 0, 0, 0, 0, 0);
    if (result != NOT_THERE)
        finish(SUCCEEDED);
    result = guest_call(__NR_kill, -1, 9, 0, 0, 0, 0);
    finish(result == NOT_THERE ? REFUSED : SUCCEEDED);
}

/* Both are to kill. */
enum outcome attack_x32(long argument) {
    HOST(0x40000000 | __NR_getpid);
    return SUCCEEDED;
}
enum outcome attack_int80(long argument) {
    long result = 20; /* getpid there */
    HOST(__NR_prctl, 59, 0);
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return SUCCEEDED;
}
