/* SPDX-License-Identifier: Apache-2.0 */
/* Processes and threads: fork, vfork, posix_spawn, exec with threads, waits, thread ids, robust mutexes. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *self;

static int wait_for(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void test_fork(void) {
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit(getpid() == gettid() && i % 7 == 0 ? 5 : 6);
        CHECK(WEXITSTATUS(wait_for(pid)) == (i % 7 == 0 ? 5 : 6));
    }
    /* a chain of generations */
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int depth = 0; depth < 8; depth++) {
            pid_t next = fork();
            if (next > 0) {
                int status;
                waitpid(next, &status, 0);
                _exit(WEXITSTATUS(status) + 1);
            }
        }
        _exit(1);
    }
    CHECK(WEXITSTATUS(wait_for(pid)) == 9);
    CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

static void test_spawn(void) {
    char *argv[] = {(char *)"child", (char *)"--exit", (char *)"4", NULL};
    for (int i = 0; i < 101; i++) {
        pid_t pid;
        CHECK(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
        CHECK(WEXITSTATUS(wait_for(pid)) == 4);
    }
    for (int i = 0; i < 50; i++) {
        volatile int kept = 7;
        pid_t pid = vfork();
        if (pid == 0) {
            kept = 9; /* shared memory */
            execv(self, argv);
            _exit(1);
        }
        CHECK(WEXITSTATUS(wait_for(pid)) == 4 && kept == 9);
    }
    pid_t pid;
    CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, argv, environ) == ENOENT);
    pid = vfork();
    if (pid == 0)
        _exit(3);
    CHECK(WEXITSTATUS(wait_for(pid)) == 3);
    pid = fork();
    if (pid == 0) {
        char *bad[] = {(char *)"x", NULL};
        execv("/", bad);
        if (errno != EACCES)
            _exit(1);
        execv("/nonexistent", bad);
        if (errno != ENOENT)
            _exit(2);
        execv("/etc/passwd", bad);
        if (errno != EACCES)
            _exit(3);
        execv(self, argv);
    }
    CHECK(WEXITSTATUS(wait_for(pid)) == 4);
}

static atomic_long total;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long guarded;
static __thread long own;

static void *worker(void *argument) {
    own = (long)argument;
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&mutex);
        guarded++;
        pthread_mutex_unlock(&mutex);
        CHECK(syscall(SYS_gettid) == gettid());
        CHECK(own == (long)argument);
    }
    atomic_fetch_add(&total, 1);
    return argument;
}

static void test_threads(void) {
    pthread_t threads[16];
    for (int round = 0; round < 6; round++) {
        for (long i = 0; i < 16; i++)
            CHECK(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
        for (long i = 0; i < 16; i++) {
            void *result;
            CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)i);
        }
    }
    CHECK(total == 96 && guarded == 96 * 5000);
}

static void *short_life(void *argument) {
    (void)argument;
    return NULL;
}

static void test_thread_churn(void) {
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, short_life, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static void *forker(void *argument) {
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit((int)(long)argument);
        CHECK(WEXITSTATUS(wait_for(pid)) == (int)(long)argument);
    }
    return NULL;
}

static void test_fork_from_threads(void) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, forker, (void *)(i + 20)) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void *spin(void *argument) {
    for (;;)
        __asm__ volatile("" ::"r"(argument));
    return NULL;
}

static void *block(void *argument) {
    char byte;
    (void)!read(*(int *)argument, &byte, 1);
    return NULL;
}

static void *exec_it(void *argument) {
    execv(self, argument);
    return NULL;
}

/* exec with other threads about: in guest code, in a blocked read, and called by a thread that is not the first. */
static void test_exec_threads(void) {
    for (int from_thread = 0; from_thread < 2; from_thread++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            static int fds[2];
            char number[32];
            pthread_t thread;
            CHECK(pipe(fds) == 0);
            for (int i = 0; i < 3; i++)
                CHECK(pthread_create(&thread, NULL, i == 0 ? spin : block, &fds[0]) == 0);
            snprintf(number, sizeof number, "%d", getpid());
            char *argv[] = {(char *)"child", (char *)"--same-pid", number, NULL};
            if (from_thread) {
                pthread_create(&thread, NULL, exec_it, argv);
                for (;;)
                    pause();
            }
            execv(self, argv);
            _exit(1);
        }
        CHECK(WEXITSTATUS(wait_for(pid)) == 42);
    }
    /* and when the first thread has ended before */
    pid_t pid = fork();
    if (pid == 0) {
        static char number[32];
        static char *argv[] = {(char *)"child", (char *)"--same-pid", number, NULL};
        pthread_t thread;
        snprintf(number, sizeof number, "%d", getpid());
        pthread_create(&thread, NULL, exec_it, argv);
        pthread_exit(NULL);
    }
    CHECK(WEXITSTATUS(wait_for(pid)) == 42);
}

static void *exit_late(void *argument) {
    (void)argument;
    usleep(20000);
    _exit(11);
}

static void test_thread_exits(void) {
    pthread_t thread;
    pid_t pid = fork();
    if (pid == 0) {
        pthread_create(&thread, NULL, exit_late, NULL);
        pthread_exit(NULL);
    }
    CHECK(WEXITSTATUS(wait_for(pid)) == 11);
    pid = fork();
    if (pid == 0) {
        pthread_create(&thread, NULL, short_life, NULL);
        pthread_exit(NULL); /* the last thread to go ends the process with 0 */
    }
    CHECK(wait_for(pid) == 0);
}

static void *lock_and_die(void *argument) {
    pthread_mutex_lock(argument);
    return NULL;
}

static void test_robust(void) {
    pthread_mutexattr_t attributes;
    pthread_mutex_t robust;
    pthread_t thread;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_create(&thread, NULL, lock_and_die, &robust);
    pthread_join(thread, NULL);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
}

static void test_stop(void) {
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    int status;
    CHECK(kill(pid, SIGSTOP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    siginfo_t info = {0};
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == pid && info.si_code == CLD_KILLED &&
          info.si_status == SIGTERM);
    CHECK(WTERMSIG(wait_for(pid)) == SIGTERM);
    CHECK(kill(pid, 0) == -1 && errno == ESRCH);
}

static void test_memory(void) {
    char *start = sbrk(0);
    CHECK(sbrk(1 << 20) == start);
    memset(start, 1, 1 << 20);
    CHECK(sbrk(-(1 << 20)) != (void *)-1 && sbrk(0) == start);
    /* where the personality lives nothing may be mapped, unmapped or protected */
    char *ours = (char *)0x6f0000000000ul;
    CHECK(mmap(ours, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED || getenv("NATIVE"));
    CHECK(munmap(ours, 4096) == -1 || getenv("NATIVE"));
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        *shared = 77;
        _exit(0);
    }
    wait_for(pid);
    CHECK(*shared == 77);
    void *grown = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(grown, 4096, 1 << 20, MREMAP_MAYMOVE) != MAP_FAILED);
}

static void test_ids(void) {
    char name[16];
    CHECK(prctl(PR_SET_NAME, "torture") == 0 && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "torture") == 0);
    CHECK(getpgrp() == getpgid(0) && getsid(0) > 0 && getppid() > 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(setsid() == getpid() && getpgrp() == getpid() && getsid(0) == getpid() ? 0 : 1);
    CHECK(wait_for(pid) == 0);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 256);
    cpu_set_t cpus;
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) >= 1);
    CHECK(syscall(9999) == -1 && errno == ENOSYS);
    CHECK(syscall(0x40000000 | SYS_getpid) == -1 && errno == ENOSYS);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--exit") == 0)
        return atoi(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--same-pid") == 0)
        return atoi(argv[2]) == getpid() && gettid() == getpid() ? 42 : 43;
    self = argv[0];
    test_fork();
    test_spawn();
    test_threads();
    test_thread_churn();
    test_fork_from_threads();
    test_exec_threads();
    test_thread_exits();
    test_robust();
    test_stop();
    test_memory();
    test_ids();
    puts("processes: all well");
    return 0;
}
