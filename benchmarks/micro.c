/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Costs of single operations, seen from an unmodified program: the same binary runs natively and in a container.
 *
 *   micro RUNS OPERATION [PATH [PLACE]]     prints one line per run: nanoseconds per operation
 *
 * Operations: served, dispatched, clock, passed, read, stat, enoent, open, spawn, pipe, futex.
 * PATH: the file that stat and open use, the program that spawn starts; PLACE: the DVS_PLACE that it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const char *path = "/etc/hostname";

static void fail(const char *what) {
    fprintf(stderr, "micro: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void do_served(void) { syscall(SYS_getpid); }

/* A call site that no rewriting pattern matches: stays with the slow dispatch for ever. */
static void do_dispatched(void) {
    long result = SYS_getpid;
    __asm__ volatile("xchg %%rax, %%rax\n\tsyscall\n\tnop\n\tnop" : "+a"(result) : : "rcx", "r11", "memory");
}

static void do_clock(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
}

static int zero_fd = -1;
/* The least that the host can be asked to do with a descriptor. */
static void do_passed(void) {
    if (lseek(zero_fd, 0, SEEK_CUR) < 0)
        fail("lseek /dev/zero");
}

static void do_read(void) {
    char byte;
    if (read(zero_fd, &byte, 1) != 1)
        fail("read /dev/zero");
}

static void do_stat(void) {
    struct stat st;
    if (stat(path, &st) < 0)
        fail(path);
}

static void do_enoent(void) {
    struct stat st;
    if (stat("/usr/lib/no-such-file", &st) == 0 || errno != ENOENT)
        fail("stat of a missing file");
}

static void do_open(void) {
    char bytes[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, bytes, sizeof bytes) < 0)
        fail(path);
    close(fd);
}

static void do_spawn(void) {
    char *args[] = {(char *)path, NULL};
    int status;
    pid_t pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        execve(path, args, environ);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        fail(path);
}

static int to_peer[2], from_peer[2];
static void do_pipe(void) {
    char byte = 0;
    if (write(to_peer[1], &byte, 1) != 1 || read(from_peer[0], &byte, 1) != 1)
        fail("pipe");
}

static uint32_t *words; /* [0] ours to the peer, [16] the peer's to us */
static void futex_wait_change(uint32_t *word, uint32_t old) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == old)
        syscall(SYS_futex, word, FUTEX_WAIT, old, NULL, NULL, 0);
}
static void futex_publish(uint32_t *word) {
    __atomic_fetch_add(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}
static void do_futex(void) {
    uint32_t seen = __atomic_load_n(&words[16], __ATOMIC_ACQUIRE);
    futex_publish(&words[0]);
    futex_wait_change(&words[16], seen);
}

static void pin_to_one_cpu(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static pid_t start_peer(int futex) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (futex) {
        for (uint32_t seen = 0;; seen++) {
            futex_wait_change(&words[0], seen);
            futex_publish(&words[16]);
        }
    }
    char byte;
    close(to_peer[1]);
    while (read(to_peer[0], &byte, 1) == 1)
        if (write(from_peer[1], &byte, 1) != 1)
            break;
    _exit(0);
}

static const struct operation {
    const char *name;
    void (*run)(void);
    long count;
} operations[] = {
    {"served", do_served, 200000}, {"dispatched", do_dispatched, 20000}, {"clock", do_clock, 100000},
    {"passed", do_passed, 100000}, {"read", do_read, 100000},            {"stat", do_stat, 5000},
    {"enoent", do_enoent, 5000},   {"open", do_open, 3000},              {"spawn", do_spawn, 30},
    {"pipe", do_pipe, 3000},       {"futex", do_futex, 5000},
};

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: micro RUNS OPERATION [PATH [PLACE]]\n");
        return 2;
    }
    int runs = atoi(argv[1]);
    const struct operation *op = NULL;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (strcmp(operations[i].name, argv[2]) == 0)
            op = &operations[i];
    if (!op || runs < 1) {
        fprintf(stderr, "micro: no operation %s\n", argv[2]);
        return 2;
    }
    if (argc > 3)
        path = argv[3];
    if (argc > 4 && setenv("DVS_PLACE", argv[4], 1) < 0)
        fail("setenv");
    pid_t peer = 0;
    if ((op->run == do_read || op->run == do_passed) && (zero_fd = open("/dev/zero", O_RDONLY)) < 0)
        fail("/dev/zero");
    if (op->run == do_pipe) {
        if (pipe(to_peer) < 0 || pipe(from_peer) < 0)
            fail("pipe");
        pin_to_one_cpu();
        peer = start_peer(0);
    }
    if (op->run == do_futex) {
        words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (words == MAP_FAILED)
            fail("mmap");
        pin_to_one_cpu();
        peer = start_peer(1);
    }
    for (long i = 0; i < op->count / 10 + 1; i++)
        op->run();
    for (int r = 0; r < runs; r++) {
        double start = now_ns();
        for (long i = 0; i < op->count; i++)
            op->run();
        printf("%.1f\n", (now_ns() - start) / (double)op->count);
        fflush(stdout);
    }
    if (peer > 0) {
        kill(peer, SIGKILL);
        waitpid(peer, NULL, 0);
    }
    return 0;
}
