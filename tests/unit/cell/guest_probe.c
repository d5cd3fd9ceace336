/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the personality for the test of dvs-cell: a zygote that checks what cell/zygote.h promises, installs the
 * filter, and makes pid 64, which tries what guests must not do and exits with 42 or the number of the check that
 * failed (100 + for refusals that were none), and pid 70, which sleeps. Freestanding.
 */
#include "cell/zygote.h"
#include "dvk/channel.h"
#include <asm/unistd.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

static long host(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static void finish(long code) {
    for (;;)
        host(__NR_exit_group, code, 0, 0, 0, 0);
}

static long make_process(uint64_t flags, int pid) {
    struct clone_args args;
    int tid = pid;
    unsigned char *bytes = (unsigned char *)&args;
    for (size_t i = 0; i < sizeof args; i++)
        bytes[i] = 0;
    args.flags = flags;
    if (pid) {
        args.set_tid = (uint64_t)(uintptr_t)&tid;
        args.set_tid_size = 1;
    }
    return host(__NR_clone3, (long)&args, sizeof args, 0, 0, 0);
}

static void check(int number, int good) {
    if (!good)
        finish(number);
}

static void check_start(long argc, char **argv, char **environment) {
    check(1, argc == 2 && argv[1][0] == 's'); /* the test runs strict */
    check(2, !environment[0]);
    for (int fd = 0; fd < 16; fd++) {
        long flags = host(__NR_fcntl, fd, 1 /* F_GETFD */, 0, 0, 0);
        check(3, fd >= 3 && fd <= 6 ? flags == 0 : flags == -9);
    }
    check(4, host(__NR_getpid, 0, 0, 0, 0, 0) == 63 && host(__NR_getppid, 0, 0, 0, 0, 0) == 1);
    check(5, host(__NR_getuid, 0, 0, 0, 0, 0) == ZYGOTE_UID && host(__NR_getegid, 0, 0, 0, 0, 0) == ZYGOTE_UID);
    check(6, host(__NR_getpgrp, 0, 0, 0, 0, 0) == 63);
    check(7, host(__NR_prctl, 39 /* PR_GET_NO_NEW_PRIVS */, 0, 0, 0, 0) == 1);
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t sets[6];
    check(8, host(__NR_capget, (long)&header, (long)sets, 0, 0, 0) == 0);
    check(9, !sets[0] && !sets[1] && !sets[2] && sets[3] == 1u << 8 && sets[4] == 1u << 8 && sets[5] == 1u << 8);
    long files[2];
    check(10, !host(__NR_prlimit64, 0, 7, 0, (long)files, 0) && files[0] == files[1] && files[0] <= ZYGOTE_NOFILE);
    char name[16];
    check(11, host(__NR_open, (long)"/", 0x10000 /* O_DIRECTORY */, 0, 0, 0) >= 0); /* the empty root ... */
    check(12, host(__NR_getdents64, 0, (long)name, 1, 0, 0) == -22); /* (it is there, with room for nothing) */
    check(13, host(__NR_mkdir, (long)"/x", 0700, 0, 0, 0) == -30);   /* ... is read-only */
    check(14, host(__NR_open, (long)"/etc", 0, 0, 0, 0) == -2);
    check(15, host(__NR_open, (long)"/proc", 0, 0, 0, 0) == -2);
    host(__NR_close, 0, 0, 0, 0, 0);
}

static void filter_install(void) {
    long words[18]; /* struct stat */
    check(20, host(__NR_fstat, ZYGOTE_FD_SECCOMP, (long)words, 0, 0, 0) == 0);
    long size = words[6];
    static struct sock_filter code[4096];
    check(21, size > 0 && size % 8 == 0 && size <= (long)sizeof code);
    check(22, host(__NR_pread64, ZYGOTE_FD_SECCOMP, (long)code, size, 0, 0) == size);
    struct sock_fprog program = {(unsigned short)(size / 8), code};
    check(23, host(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0, 0) == 0);
}

static void check_refusals(void) {
    static const char path[] = "/dev/null";
    const long p = (long)path;
    const long calls[][6] = {
        {__NR_open, p, 0},
        {__NR_openat, -100, p, 0},
        {__NR_socket, 1, 1, 0},
        {__NR_ptrace, 16, 1, 0},
        {__NR_mount, p, p, p},
        {__NR_kill, 1, 9},
        {__NR_process_vm_readv, 1, p, 1, p, 1},
        {__NR_execve, p, 0, 0},
        {__NR_unshare, 0x10000000},
        {__NR_seccomp, 0, 0, 0},
        {__NR_capset, p, p},
        {__NR_setuid, 0},
        {__NR_fork},
        {__NR_wait4, -1, 0, 1, 0},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++)
        check((int)(100 + i),
              host(calls[i][0], calls[i][1], calls[i][2], calls[i][3], calls[i][4], calls[i][5]) == -38);
    static const uint64_t spaces[] = {CLONE_NEWUSER,   CLONE_NEWNS,   CLONE_NEWPID,
                                      CLONE_NEWNET,    CLONE_NEWIPC,  CLONE_NEWUTS,
                                      CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWUSER | CLONE_NEWNS};
    for (unsigned i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        long pid = make_process(spaces[i], 0);
        check((int)(120 + i), pid < 0);
    }
    check(130, make_process(CLONE_PARENT, 63) == -17); /* EEXIST: a pid in use */
    check(131, host(__NR_getppid, 0, 0, 0, 0, 0) == 1 && host(__NR_getpid, 0, 0, 0, 0, 0) == 64);
}

static void check_channel(void) {
    long at = host(__NR_mmap, 0, 4096, 3, 1, ZYGOTE_FD_CHANNEL); /* offset: r9 is 0 */
    check(30, at > 0 && ((struct dvk_channel_header *)at)->magic == DVK_CHANNEL_MAGIC);
}

__attribute__((used)) static void probe(long *stack) {
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    check_start(argc, argv, argv + argc + 1);
    filter_install();
    check_channel();
    long pid = make_process(CLONE_PARENT, 64);
    check(31, pid >= 0);
    if (!pid) {
        check_refusals();
        finish(42);
    }
    pid = make_process(CLONE_PARENT, 70);
    check(32, pid >= 0);
    for (;;)
        host(__NR_pause, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call probe\n hlt\n");
