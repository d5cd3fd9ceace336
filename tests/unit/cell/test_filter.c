/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' seccomp filter, installed in children that then try calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cell/filter.h"
#include "common/cleanup.h"
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static void filter_install(void) {
    struct failure failure = {0};
    int fd;
    struct stat stat;
    if (filter_create(&fd, &failure) || fstat(fd, &stat) || stat.st_size % 8)
        _exit(100);
    struct sock_filter *code = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    struct sock_fprog program = {(unsigned short)(stat.st_size / 8), code};
    if (code == MAP_FAILED || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        _exit(101);
}

/* Run fn in a child under the filter; its wait status. */
static int confined(void (*fn)(void *), void *context) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        filter_install();
        fn(context);
        syscall(SYS_exit_group, 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

struct try {
    const char *name;
    long number;
    long a[6];
};

static void expect_enosys(void *context) {
    const struct try *t = context;
    long result = syscall(t->number, t->a[0], t->a[1], t->a[2], t->a[3], t->a[4], t->a[5]);
    syscall(SYS_exit_group, result == -1 && errno == ENOSYS ? 0 : 1);
}
static void expect_allowed(void *context) {
    const struct try *t = context;
    long result = syscall(t->number, t->a[0], t->a[1], t->a[2], t->a[3], t->a[4], t->a[5]);
    syscall(SYS_exit_group, result == -1 && errno == ENOSYS ? 1 : 0);
}

static void test_refused(void **state) {
    static const char path[] = "/dev/null";
    long p = (long)path;
    const struct try tries[] = {
        {"open", SYS_open, {p, O_RDONLY}},
        {"openat", SYS_openat, {AT_FDCWD, p, O_RDONLY}},
        {"openat2", SYS_openat2, {AT_FDCWD, p, 0, 24}},
        {"creat", SYS_creat, {p, 0600}},
        {"open_by_handle_at", SYS_open_by_handle_at, {AT_FDCWD, p, 0}},
        {"name_to_handle_at", SYS_name_to_handle_at, {AT_FDCWD, p, p, p, 0}},
        {"stat", SYS_stat, {p, p}},
        {"newfstatat", SYS_newfstatat, {0, p, p, 0}},
        {"statx", SYS_statx, {0, p, 0, 0, p}},
        {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
        {"socketpair of the Internet", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, p}},
        {"socketpair of netlink", SYS_socketpair, {AF_NETLINK, SOCK_RAW, 0, p}},
        {"bind", SYS_bind, {0, p, 2}},
        {"listen", SYS_listen, {0, 1}},
        {"accept4", SYS_accept4, {0, 0, 0, 0}},
        {"sendto", SYS_sendto, {0, p, 1, 0, p, 2}},
        {"setsockopt SO_ATTACH_FILTER", SYS_setsockopt, {0, SOL_SOCKET, SO_ATTACH_FILTER, p, 16}},
        {"setsockopt SO_SNDBUFFORCE", SYS_setsockopt, {0, SOL_SOCKET, SO_SNDBUFFORCE, p, 4}},
        {"setsockopt SO_BINDTODEVICE", SYS_setsockopt, {0, SOL_SOCKET, SO_BINDTODEVICE, p, 4}},
        {"setsockopt of IP", SYS_setsockopt, {0, 0, SO_SNDBUF, p, 4}},
        {"getsockopt SO_PEERPIDFD", SYS_getsockopt, {0, SOL_SOCKET, 77, p, p}},
        {"connect", SYS_connect, {0, p, 2}},
        {"ptrace", SYS_ptrace, {0, 0, 0, 0}},
        {"mount", SYS_mount, {p, p, p, 0, 0}},
        {"open_tree", SYS_open_tree, {AT_FDCWD, p, 0}},
        {"chroot", SYS_chroot, {p}},
        {"kill", SYS_kill, {1, 0}},
        {"tgkill", SYS_tgkill, {1, 1, 0}},
        {"tkill", SYS_tkill, {1, 0}},
        {"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {1, 0, p}},
        {"pidfd_open", SYS_pidfd_open, {1, 0}},
        {"pidfd_getfd", SYS_pidfd_getfd, {0, 0, 0}},
        {"pidfd_send_signal", SYS_pidfd_send_signal, {0, 0, 0, 0}},
        {"process_vm_readv", SYS_process_vm_readv, {1, p, 1, p, 1, 0}},
        {"process_vm_writev", SYS_process_vm_writev, {1, p, 1, p, 1, 0}},
        {"process_madvise", SYS_process_madvise, {0, p, 1, 0, 0}},
        {"execve", SYS_execve, {p, 0, 0}},
        {"execveat", SYS_execveat, {0, p, 0, 0, AT_EMPTY_PATH}},
        {"fork", SYS_fork, {0}},
        {"vfork", SYS_vfork, {0}},
        {"clone newuser", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
        {"clone newns", SYS_clone, {CLONE_NEWNS | SIGCHLD}},
        {"clone newpid", SYS_clone, {CLONE_NEWPID | SIGCHLD}},
        {"clone newcgroup", SYS_clone, {CLONE_NEWCGROUP | SIGCHLD}},
        {"unshare", SYS_unshare, {CLONE_NEWUSER}},
        {"setns", SYS_setns, {0, 0}},
        {"seccomp", SYS_seccomp, {0, 0, 0}},
        {"bpf", SYS_bpf, {0, 0, 0}},
        {"userfaultfd", SYS_userfaultfd, {0}},
        {"io_uring_setup", SYS_io_uring_setup, {1, p}},
        {"perf_event_open", SYS_perf_event_open, {p, 0, 0, 0, 0}},
        {"keyctl", SYS_keyctl, {0}},
        {"setuid", SYS_setuid, {0}},
        {"capset", SYS_capset, {p, p}},
        {"wait4", SYS_wait4, {-1, 0, 1, 0}},
        {"fchdir", SYS_fchdir, {0}},
        {"fchmod", SYS_fchmod, {0, 0}},
        {"flock", SYS_flock, {0, 0}},
        {"vmsplice", SYS_vmsplice, {1, p, 0, 0}},
        {"fcntl F_SETOWN", SYS_fcntl, {0, F_SETOWN, 1}},
        {"fcntl F_SETSIG", SYS_fcntl, {0, F_SETSIG, 9}},
        {"fcntl F_SETLEASE", SYS_fcntl, {0, F_SETLEASE, 0}},
        {"fcntl F_NOTIFY", SYS_fcntl, {0, F_NOTIFY, 1}},
        {"fcntl F_SETLK", SYS_fcntl, {0, F_SETLK, p}},
        {"fcntl F_SETPIPE_SZ", SYS_fcntl, {0, F_SETPIPE_SZ, 1 << 20}},
        {"fcntl F_SETFL O_ASYNC", SYS_fcntl, {0, F_SETFL, O_ASYNC}},
        {"fcntl F_SETFL O_ASYNC|O_NONBLOCK", SYS_fcntl, {0, F_SETFL, O_ASYNC | O_NONBLOCK}},
        {"ioctl TIOCSTI", SYS_ioctl, {0, TIOCSTI, p}},
        {"ioctl FIOASYNC", SYS_ioctl, {0, FIOASYNC, p}},
        {"ioctl FIOSETOWN", SYS_ioctl, {0, FIOSETOWN, p}},
        {"prctl PR_SET_DUMPABLE", SYS_prctl, {PR_SET_DUMPABLE, 1}},
        {"prctl PR_SET_PDEATHSIG", SYS_prctl, {PR_SET_PDEATHSIG, 9}},
        {"prctl PR_SET_MM", SYS_prctl, {PR_SET_MM, 1, 0, 0, 0}},
        {"prctl PR_SET_SECCOMP", SYS_prctl, {PR_SET_SECCOMP, 1}},
        {"prctl PR_CAP_AMBIENT", SYS_prctl, {PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0}},
        {"prlimit64 of another", SYS_prlimit64, {1, 7, 0, 0}},
        {"sched_setaffinity of another", SYS_sched_setaffinity, {1, 8, p}},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(tries); i++) {
        int status = confined(expect_enosys, (void *)&tries[i]);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail_msg("%s: not refused (wait status %x)", tries[i].name, status);
    }
}

static void test_allowed(void **state) {
    static uint8_t buffer[256];
    long b = (long)buffer;
    const struct try tries[] = {
        {"mmap", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
        {"futex", SYS_futex, {b, 1, 1}},
        {"read", SYS_read, {-1, b, 1}},
        {"fstat", SYS_fstat, {0, b}},
        {"fcntl F_GETFL", SYS_fcntl, {1, F_GETFL}},
        {"fcntl F_SETFL O_NONBLOCK", SYS_fcntl, {-1, F_SETFL, O_NONBLOCK}},
        {"fcntl F_DUPFD_CLOEXEC", SYS_fcntl, {1, F_DUPFD_CLOEXEC, 100}},
        {"ioctl FIONREAD", SYS_ioctl, {-1, FIONREAD, b}},
        {"prctl 59", SYS_prctl, {PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0}},
        {"prctl PR_SET_NAME", SYS_prctl, {PR_SET_NAME, (long)"x"}},
        {"arch_prctl GET_GS", SYS_arch_prctl, {ARCH_GET_GS, b}},
        {"arch_prctl SET_GS", SYS_arch_prctl, {ARCH_SET_GS, 0}},
        {"memfd_create", SYS_memfd_create, {(long)"x", 0}},
        {"eventfd2", SYS_eventfd2, {0, 0}},
        {"epoll_create1", SYS_epoll_create1, {0}},
        {"timerfd_create", SYS_timerfd_create, {CLOCK_MONOTONIC, 0}},
        {"pipe2", SYS_pipe2, {b, 0}},
        {"close_range", SYS_close_range, {200, 300, 0}},
        {"prlimit64 self", SYS_prlimit64, {0, 7, 0, b}},
        {"getrandom", SYS_getrandom, {b, 8, 0}},
        {"membarrier", SYS_membarrier, {0, 0, 0}},
        {"recvmsg", SYS_recvmsg, {-1, b, 0}},
        {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET, 0, b}},
        {"shutdown", SYS_shutdown, {-1, SHUT_RD}},
        {"getsockopt SO_PEERCRED", SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERCRED, b, b + 64}},
        {"setsockopt SO_RCVBUF", SYS_setsockopt, {-1, SOL_SOCKET, SO_RCVBUF, b, 4}},
        {"rt_sigtimedwait", SYS_rt_sigtimedwait, {b, 0, b + 64, 8}},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(tries); i++) {
        int status = confined(expect_allowed, (void *)&tries[i]);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail_msg("%s: refused (wait status %x)", tries[i].name, status);
    }
}

static void call_x32(void *context) {
    syscall(0x40000000 | SYS_getpid);
}
static void call_i386(void *context) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
}

static void test_foreign_architectures_kill(void **state) {
    int status = confined(call_x32, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    status = confined(call_i386, NULL);
    /* A kernel without 32-bit support refuses int 0x80 itself, by SIGSEGV. */
    assert_true(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV));
}

/* clone3 makes plain processes and threads. */
static void call_clone3(void *context) {
    struct clone_args args = {.exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    syscall(SYS_exit_group, pid >= 0 ? 0 : 1);
}
static void test_clone3(void **state) {
    assert_int_equal(confined(call_clone3, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused), cmocka_unit_test(test_allowed),
                                       cmocka_unit_test(test_foreign_architectures_kill),
                                       cmocka_unit_test(test_clone3)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
