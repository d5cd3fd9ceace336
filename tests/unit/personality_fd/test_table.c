/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor table against the host kernel's: the same random calls are made by a child process natively and here
 * through the personality, and every result must be the same.
 */
#include "fake_host.h"
#include "personality/fd/calls.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT 200
#define STEPS 6000

enum step_kind { OPEN, OPEN_CLOEXEC, CLOSE, DUP, DUP2, DUP3, DUPFD, GETFD, SETFD, PIPE, CLOSE_RANGE, EXEC, STEP_KINDS };

struct step {
    enum step_kind kind;
    int a, b, c;
};

static uint32_t random_next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static struct step step_make(uint32_t *state) {
    struct step step = {(enum step_kind)(random_next(state) % STEP_KINDS), 0, 0, 0};
    int range = random_next(state) % 4 ? 24 : LIMIT + 10;
    step.a = (int)(random_next(state) % (unsigned)range) - 1;
    step.b = (int)(random_next(state) % (unsigned)range) - 1;
    step.c = (int)(random_next(state) % 3);
    if (step.kind == EXEC && random_next(state) % 8)
        step.kind = OPEN;
    if (step.kind == CLOSE_RANGE && random_next(state) % 8)
        step.kind = DUPFD;
    return step;
}

static long native(long number, long a, long b, long c, long d) {
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
}

static long step_native(struct step s) {
    int pipe[2] = {-1, -1};
    switch (s.kind) {
    case OPEN:
        return native(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0);
    case OPEN_CLOEXEC:
        return native(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR | O_CLOEXEC, 0);
    case CLOSE:
        return native(SYS_close, s.a, 0, 0, 0);
    case DUP:
        return native(SYS_dup, s.a, 0, 0, 0);
    case DUP2:
        return native(SYS_dup2, s.a, s.b, 0, 0);
    case DUP3:
        return native(SYS_dup3, s.a, s.b, s.c ? O_CLOEXEC : 0, 0);
    case DUPFD:
        return native(SYS_fcntl, s.a, s.c ? F_DUPFD : F_DUPFD_CLOEXEC, s.b, 0);
    case GETFD:
        return native(SYS_fcntl, s.a, F_GETFD, 0, 0);
    case SETFD:
        return native(SYS_fcntl, s.a, F_SETFD, s.c, 0);
    case PIPE: {
        long result = native(SYS_pipe2, (long)pipe, s.c ? O_CLOEXEC : 0, 0, 0);
        return result < 0 ? result : pipe[0] * 1000 + pipe[1];
    }
    case CLOSE_RANGE:
        if (s.a < 0 || s.b < 0)
            return 0;
        return native(SYS_close_range, s.a, s.b < LIMIT ? s.b : LIMIT, s.c ? 4 : 0, 0);
    case EXEC:
        for (int fd = 0; fd < LIMIT; fd++)
            if (native(SYS_fcntl, fd, F_GETFD, 0, 0) == FD_CLOEXEC)
                close(fd);
        return 0;
    default:
        abort();
    }
}

static long step_guest(struct task *task, struct step s) {
    int pipe[2] = {-1, -1};
    switch (s.kind) {
    case OPEN:
        return GUEST(sys_openat, (uint64_t)AT_FDCWD, ADDRESS("/dev/null"), O_RDWR);
    case OPEN_CLOEXEC:
        return GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR | O_CLOEXEC);
    case CLOSE:
        return GUEST(sys_close, (uint64_t)s.a);
    case DUP:
        return GUEST(sys_dup, (uint64_t)s.a);
    case DUP2:
        return GUEST(sys_dup2, (uint64_t)s.a, (uint64_t)s.b);
    case DUP3:
        return GUEST(sys_dup3, (uint64_t)s.a, (uint64_t)s.b, s.c ? O_CLOEXEC : 0);
    case DUPFD:
        return GUEST(sys_fcntl, (uint64_t)s.a, s.c ? F_DUPFD : F_DUPFD_CLOEXEC, (uint64_t)s.b);
    case GETFD:
        return GUEST(sys_fcntl, (uint64_t)s.a, F_GETFD);
    case SETFD:
        return GUEST(sys_fcntl, (uint64_t)s.a, F_SETFD, (uint64_t)s.c);
    case PIPE: {
        long result = GUEST(sys_pipe2, ADDRESS(pipe), s.c ? O_CLOEXEC : 0);
        return result < 0 ? result : pipe[0] * 1000 + pipe[1];
    }
    case CLOSE_RANGE:
        if (s.a < 0 || s.b < 0)
            return 0;
        return GUEST(sys_close_range, (uint64_t)s.a, (uint64_t)(s.b < LIMIT ? s.b : LIMIT), s.c ? 4 : 0);
    case EXEC:
        fd_close_on_exec(task);
        return 0;
    default:
        abort();
    }
}

/* All steps of a seed, natively, in a child whose descriptors start from none. */
static void run_native(uint32_t seed, long *results) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {LIMIT, LIMIT};
        close_range(0, ~0u, 0);
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int i = 0; i < STEPS; i++)
            results[i] = step_native(step_make(&seed));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void check_seed(uint32_t seed, bool threaded, bool remote) {
    long *expected = mmap(NULL, STEPS * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    run_native(seed, expected);
    unsigned host_before = fake_host_fds();
    struct task *task = fake_start();
    fake.remote = remote;
    fd_table_set_threaded(task->process, threaded);
    assert_int_equal(fd_limit_set(task->process, LIMIT), 0);
    uint32_t state = seed;
    for (int i = 0; i < STEPS; i++) {
        struct step step = step_make(&state);
        long got = step_guest(task, step);
        if (got != expected[i])
            fail_msg("seed %u step %d kind %d (%d %d %d): %ld, natively %ld", seed, i, step.kind, step.a, step.b,
                     step.c, got, expected[i]);
    }
    fake_stop(task);
    assert_int_equal(fake_host_fds(), host_before);
    munmap(expected, STEPS * sizeof(long));
}

static void test_model(void **state) {
    for (uint32_t seed = 1; seed <= 12; seed++)
        check_seed(seed, seed & 1, seed & 2);
}

static void test_growth(void **state) {
    struct task *task = fake_start();
    assert_int_equal(fd_limit_set(task->process, FD_LIMIT_MAX), 0);
    assert_int_equal(fd_limit_set(task->process, FD_LIMIT_MAX + 1), -EPERM);
    long fd = GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    assert_int_equal(fd, 0);
    for (int i = 1; i < 1000; i++)
        assert_int_equal(GUEST(sys_dup, 0), i);
    assert_int_equal(GUEST(sys_dup2, 0, FD_LIMIT_MAX - 1), FD_LIMIT_MAX - 1);
    assert_int_equal(GUEST(sys_dup2, 0, FD_LIMIT_MAX), -EBADF);
    assert_int_equal(GUEST(sys_fcntl, 0, F_DUPFD, FD_LIMIT_MAX - 1), -EMFILE);
    assert_int_equal(GUEST(sys_dup, 0), 1000);
    assert_int_equal(GUEST(sys_close_range, 3, ~0u, 0), 0);
    assert_int_equal(GUEST(sys_dup, 0), 3);
    fake_stop(task);
}

/* A table copied for a vfork child is its own: closing there changes nothing here. */
static void test_vfork_copy(void **state) {
    struct task *task = fake_start();
    long a = GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    long b = GUEST(sys_dup, (uint64_t)a);
    GUEST(sys_fcntl, (uint64_t)b, F_SETFD, FD_CLOEXEC);
    fd_reserve(task_fds(task), 0); /* an open of another thread is under way */
    fd_umask_set(task->process, 077);

    struct process *child = fake_process();
    fd_fork_begin(task->process);
    assert_int_equal(fd_table_fork(child, task->process), 0);
    fd_fork_end(task->process);
    struct fd_table *copy = process_fds(child);
    assert_ptr_not_equal(copy->entry[a].file, task_fds(task)->entry[a].file);
    assert_ptr_equal(copy->entry[a].file, copy->entry[b].file);
    assert_int_equal(copy->entry[a].file->refs, 2);
    assert_true(copy->entry[b].close_on_exec);
    assert_int_equal(fd_umask(child), 077);
    struct task other = {.process = child};
    assert_int_equal(fd_reserve(copy, 0), 2); /* the other thread's reservation is not ours */
    fd_unreserve(copy, 2);
    struct task *saved = task;
    task = &other;
    assert_int_equal(GUEST(sys_close, (uint64_t)b), 0); /* host fd stays: a is left */
    assert_int_equal(GUEST(sys_write, (uint64_t)a, ADDRESS("x"), 1), 1);
    task = saved;
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)b, F_GETFD), FD_CLOEXEC);
    fd_table_drop(child);
    free(child);
    fd_unreserve(task_fds(task), 2);
    fake_stop(task);
}

/* After fork the child closes what another thread of its parent was just closing or opening. */
static void test_fork_leftovers(void **state) {
    struct task *task = fake_start();
    int pipe[2];
    assert_int_equal(GUEST(sys_pipe, ADDRESS(pipe)), 0);
    struct file *writer = fd_use(task, pipe[1]);              /* a write by another thread */
    assert_int_equal(GUEST(sys_close, (uint64_t)pipe[1]), 0); /* and the descriptor is gone meanwhile */
    file_opening_begin(task_fds(task));
    int came = open("/dev/null", O_RDONLY); /* a host fd that no file owns yet */
    int end[2];
    assert_int_equal(syscall(SYS_pipe2, end, 0), 0);
    fflush(NULL);
    fd_fork_begin(task->process);
    pid_t pid = fork();
    if (pid == 0) {
        int keep = fake_own_fd = end[1]; /* as the personality's own are */
        int host_reader = task_fds(task)->entry[pipe[0]].file->host_fd, host_writer = writer->host_fd;
        struct process *child = fake_process(); /* takes the table over, as fork does */
        child->head.fd_table = task_fds(task);
        task->process = child;
        bool good = fd_table_fork(child, child) == 0 && task_fds(task)->process == child;
        good = good && fcntl(host_writer, F_GETFD) < 0 && fcntl(came, F_GETFD) < 0 && fcntl(host_reader, F_GETFD) >= 0;
        good = good && task_fds(task)->entry[pipe[0]].file->refs == 1;
        if (write(keep, good ? "y" : "n", 1) != 1)
            _exit(1);
        _exit(0);
    }
    fd_fork_end(task->process);
    char answer = 0;
    assert_int_equal(read(end[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    waitpid(pid, NULL, 0);
    close(came);
    close(end[0]);
    close(end[1]);
    file_opening_end(task_fds(task));
    fd_done(task, writer);
    fake_stop(task);
}

struct worker {
    pthread_t thread;
    struct task task;
    uint32_t seed;
};

static void *worker_run(void *argument) {
    struct worker *worker = argument;
    struct task *task = &worker->task;
    char byte = 0;
    for (int i = 0; i < 4000; i++) {
        uint64_t vfd = random_next(&worker->seed) % 12, other = random_next(&worker->seed) % 12;
        switch (random_next(&worker->seed) % 8) {
        case 0:
            GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
            break;
        case 1:
            GUEST(sys_dup2, vfd, other);
            break;
        case 2:
            GUEST(sys_close, vfd);
            break;
        case 3:
            GUEST(sys_fcntl, vfd, F_SETFD, other & 1);
            break;
        case 4: {
            int pipe[2];
            GUEST(sys_pipe, ADDRESS(pipe));
            break;
        }
        case 5:
            GUEST(sys_close_range, 11, 200, 0);
            break;
        case 6: {
            struct pollfd poll_of = {(int)vfd, POLLOUT, 0};
            GUEST(sys_poll, ADDRESS(&poll_of), 1, 0);
            break;
        }
        default:
            GUEST(sys_pwrite64, vfd, ADDRESS(&byte), 0, 0); /* of nothing: never blocks */
        }
    }
    return NULL;
}

/* Threads that do anything with the same few descriptors: nothing is lost, closed twice or used after its end. */
static void test_threads(void **state) {
    unsigned before = fake_host_fds();
    struct task *task = fake_start();
    struct worker workers[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.seed = (uint32_t)i + 1};
        workers[i].task.process = task->process;
        pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
    fake_stop(task);
    assert_int_equal(fake_host_fds(), before);
}

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 20000 ? limit.rlim_max : 20000;
    setrlimit(RLIMIT_NOFILE, &limit);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),          cmocka_unit_test(test_growth),  cmocka_unit_test(test_vfork_copy),
        cmocka_unit_test(test_fork_leftovers), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
