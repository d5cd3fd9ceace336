/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: handlers, masks, restarts, faults, alternate stacks, queues, and a storm while calls are under way. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count, last_value, last_code, nested, depth, on_alternate;
static char *alternate;
#define ALTERNATE_SIZE (256 * 1024)

static void handler_count(int number) {
    (void)number;
    count++;
    getppid();
}

static void handler_info(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    char here;
    count++;
    last_value = info->si_value.sival_int;
    last_code = info->si_code;
    on_alternate = &here >= alternate && &here < alternate + ALTERNATE_SIZE;
}

static void handler_nested(int number) {
    depth++;
    if (depth > nested)
        nested = depth;
    if (++count < 5)
        raise(number);
    depth--;
}

static void install(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void test_raise(void) {
    install(SIGUSR1, handler_count, 0);
    count = 0;
    for (int i = 0; i < 2000; i++) {
        raise(SIGUSR1);
        CHECK(count == i + 1);
    }
    install(SIGUSR1, handler_nested, SA_NODEFER);
    count = 0;
    raise(SIGUSR1);
    CHECK(nested == 5);
    nested = depth = count = 0;
    install(SIGUSR1, handler_nested, 0);
    raise(SIGUSR1); /* the nested one waits for the return: one level */
    CHECK(nested == 1 && count == 5);
    install(SIGUSR2, handler_count, SA_RESETHAND);
    raise(SIGUSR2);
    struct sigaction now;
    CHECK(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
}

static void test_mask(void) {
    sigset_t set, old, pending;
    install(SIGUSR1, handler_count, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    count = 0;
    raise(SIGUSR1);
    raise(SIGUSR1);
    getpid();
    CHECK(count == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    sigset_t open = old;
    sigdelset(&open, SIGUSR1);
    CHECK(sigsuspend(&open) == -1 && errno == EINTR && count == 1);
    sigprocmask(SIG_SETMASK, NULL, &set);
    CHECK(sigismember(&set, SIGUSR1));
    raise(SIGUSR1);
    struct timespec no_wait = {0, 0}, soon = {0, 10000000};
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigtimedwait(&set, &info, &no_wait) == SIGUSR1 && info.si_code == SI_USER && info.si_pid == getpid());
    CHECK(sigtimedwait(&set, &info, &soon) == -1 && errno == EAGAIN);
    raise(SIGUSR1);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK(count == 2);
    /* everything blocked: a bad pointer is still an error, not a death */
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    CHECK(syscall(SYS_write, 1, (void *)8, 1) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_uname, (void *)8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_openat, AT_FDCWD, (void *)8, 0) == -1 && errno == EFAULT);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_queue(void) {
    struct sigaction action = {.sa_sigaction = handler_info, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, &old);
    count = 0;
    for (int i = 0; i < 20; i++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}) == 0);
    CHECK(count == 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(count == 20);
    CHECK(last_code == SI_QUEUE);
}

static sigjmp_buf jump;
static volatile sig_atomic_t fault_code;
static void *volatile fault_address;

static void handler_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    char here;
    fault_code = info->si_code;
    fault_address = info->si_addr;
    on_alternate = &here >= alternate && &here < alternate + ALTERNATE_SIZE;
    siglongjmp(jump, 1);
}

static int overflow(int n) {
    volatile char page[4096];
    page[0] = (char)n;
    return n == -1 ? 0 : overflow(n + 1) + page[0];
}

static void test_faults(void) {
    struct sigaction action = {.sa_sigaction = handler_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    alternate = malloc(ALTERNATE_SIZE);
    stack_t stack = {.ss_sp = alternate, .ss_size = ALTERNATE_SIZE}, have;
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaltstack(NULL, &have) == 0 && have.ss_sp == alternate && have.ss_flags == 0);
    for (int number = 1; number < 32; number++)
        if (number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP)
            CHECK(sigaction(number, &action, NULL) == 0);
    for (int i = 0; i < 50; i++) {
        if (sigsetjmp(jump, 1) == 0)
            *(volatile int *)24 = 1;
        CHECK(fault_code == SEGV_MAPERR && fault_address == (void *)24 && on_alternate);
    }
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("xorl %%ecx, %%ecx; movl $1, %%eax; cltd; idivl %%ecx" ::: "eax", "ecx", "edx");
    CHECK(fault_code == FPE_INTDIV);
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("ud2");
    CHECK(fault_code == ILL_ILLOPN);
    fault_code = 0;
    if (sigsetjmp(jump, 1) == 0)
        __asm__ volatile("int3");
    CHECK(fault_code == SI_KERNEL);
    if (sigsetjmp(jump, 1) == 0)
        overflow(0);
    CHECK(on_alternate);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sigsetjmp(jump, 1) == 0)
        *(volatile char *)page = 1;
    CHECK(fault_code == SEGV_ACCERR && fault_address == page);
    /* a handler that mends and goes on, with all registers kept */
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
}

/* A child dies by what it does; returns its wait status. */
static int child_status(void (*act)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int number = 1; number < 32; number++)
            signal(number, SIG_DFL);
        act();
        _exit(77);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void act_segv(void) { *(volatile int *)8 = 1; }
static void act_segv_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    *(volatile int *)8 = 1;
}
static void act_segv_blocked(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    *(volatile int *)8 = 1;
}
static void act_abort(void) { abort(); }
static void act_kill_segv(void) { kill(getpid(), SIGSEGV); }
static void act_kill_term(void) { kill(getpid(), SIGTERM); }
static void act_kill_kill(void) { kill(getpid(), SIGKILL); }
static void act_pipe(void) {
    int fds[2];
    if (pipe(fds) == 0 && close(fds[0]) == 0)
        (void)!write(fds[1], "x", 1);
}
static void act_stkflt(void) { raise(SIGSTKFLT); }
static void act_sys(void) { raise(SIGSYS); }

static void test_deaths(void) {
    CHECK(WTERMSIG(child_status(act_segv)) == SIGSEGV);
    CHECK(WTERMSIG(child_status(act_segv_ignored)) == SIGSEGV);
    CHECK(WTERMSIG(child_status(act_segv_blocked)) == SIGSEGV);
    CHECK(WTERMSIG(child_status(act_abort)) == SIGABRT);
    CHECK(WTERMSIG(child_status(act_kill_segv)) == SIGSEGV);
    CHECK(WTERMSIG(child_status(act_kill_term)) == SIGTERM);
    CHECK(WTERMSIG(child_status(act_kill_kill)) == SIGKILL);
    CHECK(WTERMSIG(child_status(act_pipe)) == SIGPIPE);
    CHECK(WTERMSIG(child_status(act_stkflt)) == SIGSTKFLT);
    CHECK(WTERMSIG(child_status(act_sys)) == SIGSYS);
}

static void test_own_kinds(void) { /* signals that the personality itself uses */
    const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGSYS, SIGSTKFLT};
    sigset_t set, pending;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        install(numbers[i], handler_count, 0);
        count = 0;
        raise(numbers[i]);
        CHECK(count == 1);
        sigemptyset(&set);
        sigaddset(&set, numbers[i]);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(numbers[i]);
        CHECK(count == 1);
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, numbers[i]));
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        CHECK(count == 2);
        signal(numbers[i], SIG_IGN);
        raise(numbers[i]);
        signal(numbers[i], SIG_DFL);
    }
}

static void *later_signal(void *argument) {
    pthread_t target = *(pthread_t *)argument;
    usleep(30000);
    pthread_kill(target, SIGUSR1);
    usleep(30000);
    return NULL;
}

static void test_interruption(void) {
    int fds[2];
    char byte;
    pthread_t self = pthread_self(), thread;
    CHECK(pipe(fds) == 0);
    install(SIGUSR1, handler_count, 0);
    count = 0;
    CHECK(pthread_create(&thread, NULL, later_signal, &self) == 0);
    CHECK(read(fds[0], &byte, 1) == -1 && errno == EINTR && count == 1);
    pthread_join(thread, NULL);
    /* poll is never restarted */
    install(SIGUSR1, handler_count, SA_RESTART);
    pthread_create(&thread, NULL, later_signal, &self);
    struct pollfd poll_fd = {fds[0], POLLIN, 0};
    CHECK(poll(&poll_fd, 1, 5000) == -1 && errno == EINTR && count == 2);
    pthread_join(thread, NULL);
    struct timespec wait = {5, 0}, left;
    pthread_create(&thread, NULL, later_signal, &self);
    CHECK(nanosleep(&wait, &left) == -1 && errno == EINTR && left.tv_sec == 4);
    pthread_join(thread, NULL);
    /* read is: a child writes after the signal */
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        usleep(30000);
        kill(parent, SIGUSR1);
        usleep(30000);
        _exit(write(fds[1], "y", 1) == 1 ? 0 : 1);
    }
    count = 0;
    CHECK(read(fds[0], &byte, 1) == 1 && byte == 'y' && count == 1);
    /* so is waiting for a child */
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    pid = fork();
    if (pid == 0) {
        usleep(30000);
        kill(parent, SIGUSR1);
        usleep(30000);
        _exit(3);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3 && count == 2);
    /* ppoll with a mask: the blocked signal comes through for its duration only */
    sigset_t set, open;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &open);
    raise(SIGUSR1);
    count = 0;
    CHECK(ppoll(&poll_fd, 1, NULL, &open) == -1 && errno == EINTR && count == 1);
    sigprocmask(SIG_SETMASK, NULL, &set);
    CHECK(sigismember(&set, SIGUSR1));
    sigprocmask(SIG_SETMASK, &open, NULL);
}

static void test_child_signal(void) {
    struct sigaction action = {.sa_sigaction = handler_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGCHLD, &action, NULL);
    count = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(9);
    int status;
    while (waitpid(pid, &status, 0) == -1)
        CHECK(errno == EINTR);
    for (int i = 0; i < 1000 && count == 0; i++)
        usleep(1000);
    CHECK(count == 1 && last_code == CLD_EXITED && WEXITSTATUS(status) == 9);
    signal(SIGCHLD, SIG_DFL);
}

/* A storm: another process sends queued signals while this one makes calls; none is lost, order and FP state are kept. */
static volatile long storm_next, storm_bad;

static void handler_storm(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (info->si_value.sival_int != storm_next)
        storm_bad++;
    storm_next++;
    __asm__ volatile("pxor %%xmm15, %%xmm15" ::: "xmm15");
    if (storm_next % 3 == 0)
        getppid();
}

static void test_storm(void) {
    enum { SIGNALS = 3000 };
    struct sigaction action = {.sa_sigaction = handler_storm, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 1, &action, NULL);
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        for (int i = 0; i < SIGNALS; i++) {
            while (sigqueue(parent, SIGRTMIN + 1, (union sigval){.sival_int = i}) == -1 && errno == EAGAIN)
                usleep(100);
            if (i % 16 == 0)
                usleep(100);
        }
        _exit(0);
    }
    long calls = 0;
    struct timespec now, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        double in = (double)calls + 0.25, out;
        long parent_id;
        __asm__ volatile("movsd %2, %%xmm15\n\tsyscall\n\tmovsd %%xmm15, %1"
                         : "=a"(parent_id), "=m"(out)
                         : "m"(in), "0"((long)SYS_getppid)
                         : "rcx", "r11", "memory", "xmm15");
        CHECK(out == in && parent_id > 0);
        calls++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (storm_next < SIGNALS && now.tv_sec - start.tv_sec < 30);
    CHECK(storm_next == SIGNALS && storm_bad == 0);
    int status;
    while (waitpid(pid, &status, 0) == -1)
        CHECK(errno == EINTR);
}

static void test_timer(void) {
    install(SIGALRM, handler_count, SA_RESTART);
    count = 0;
    struct itimerval every = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    while (count < 50)
        (void)getppid();
    setitimer(ITIMER_REAL, &off, NULL);
}

int main(void) {
    test_raise();
    test_mask();
    test_queue();
    test_faults();
    test_own_kinds();
    test_deaths();
    test_interruption();
    test_child_signal();
    test_storm();
    test_timer();
    puts("signals: all well");
    return 0;
}
