/* SPDX-License-Identifier: Apache-2.0 */
/* poll, select and epoll over host fds, handles, and both. */
#include "fake_host.h"
#include "personality/fd/calls.h"
#include "personality/fd/poll_convert.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

struct pipe_ends {
    uint64_t vfd[2];
    int host[2];
};

/* A pipe whose ends are both on the host or both handles. */
static struct pipe_ends pipe_make(struct task *task, bool remote) {
    struct pipe_ends p;
    if (!remote) {
        int fd[2];
        assert_int_equal(GUEST(sys_pipe, ADDRESS(fd)), 0);
        for (int i = 0; i < 2; i++) {
            p.vfd[i] = (uint64_t)fd[i];
            p.host[i] = task_fds(task)->entry[fd[i]].file->host_fd;
        }
        return p;
    }
    assert_int_equal(pipe(p.host), 0);
    for (int i = 0; i < 2; i++) {
        int64_t handle = 1;
        while (fake.handle[handle])
            handle++;
        fake.handle[handle] = p.host[i] + 1;
        struct file *file = file_new(task_fds(task), FS_KIND_PIPE, -1, handle, i ? O_WRONLY : O_RDONLY);
        p.vfd[i] = (uint64_t)fd_add(task, file, false);
    }
    return p;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct late_write {
    pthread_t thread;
    int fd;
};

static void *late_write_run(void *argument) {
    usleep(30000);
    if (write(((struct late_write *)argument)->fd, "x", 1) != 1)
        abort();
    return NULL;
}

static void late_write_start(struct late_write *late, int fd) {
    late->fd = fd;
    pthread_create(&late->thread, NULL, late_write_run, late);
}

/* ---- every mixture of two pipes, with and without FS_POLL_SET ---- */

static void check_mixture(bool first_remote, bool second_remote, bool no_poll_set) {
    struct task *task = fake_start();
    fake.no_poll_set = no_poll_set;
    struct pipe_ends a = pipe_make(task, first_remote), b = pipe_make(task, second_remote);
    struct pollfd fds[4] = {
        {(int)a.vfd[0], POLLIN, 0}, {-1, POLLIN, 77}, {(int)b.vfd[0], POLLIN, 0}, {(int)b.vfd[1], 0, 0}};
    double start = now();
    assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 4, 40), 0);
    assert_true(now() - start > 0.035);
    assert_int_equal(fds[0].revents | fds[1].revents | fds[2].revents, 0);
    for (int which = 0; which < 2; which++) { /* either one wakes the wait */
        struct late_write late;
        late_write_start(&late, which ? b.host[1] : a.host[1]);
        start = now();
        assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 4, (uint64_t)-1), 1);
        assert_true(now() - start > 0.02 && now() - start < 5);
        pthread_join(late.thread, NULL);
        assert_int_equal(fds[0].revents, which ? 0 : POLLIN);
        assert_int_equal(fds[2].revents, which ? POLLIN : 0);
        char byte;
        assert_int_equal(GUEST(sys_read, which ? b.vfd[0] : a.vfd[0], ADDRESS(&byte), 1), 1);
    }
    GUEST(sys_close, a.vfd[1]);
    fds[3] = (struct pollfd){1234, POLLIN, 0};
    assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 4, (uint64_t)-1), 2);
    assert_int_equal(fds[0].revents, POLLHUP);
    assert_int_equal(fds[3].revents, POLLNVAL);
    assert_int_equal(task_fds(task)->poll_set_missing, no_poll_set && (first_remote || second_remote));
    fake_stop(task);
}

static void test_mixtures(void **state) {
    for (int i = 0; i < 8; i++)
        check_mixture(i & 1, i & 2, i & 4);
}

/* A wait is interrupted by a signal. */
static void test_interrupted(void **state) {
    struct task *task = fake_start();
    struct pipe_ends p = pipe_make(task, true);
    struct pollfd fds = {(int)p.vfd[0], POLLIN, 0};
    uint64_t mask = 0x1234;
    struct timespec time = {5, 0};
    fake.interrupt_next = 1;
    assert_int_equal(GUEST(sys_poll, ADDRESS(&fds), 1, (uint64_t)-1), SYS_INTERRUPTED_NOHAND);
    fake.interrupt_next = 1;
    assert_int_equal(GUEST(sys_ppoll, ADDRESS(&fds), 1, ADDRESS(&time), ADDRESS(&mask), 8), SYS_INTERRUPTED_NOHAND);
    assert_int_equal(fake.mask, 0x1234);
    assert_false(fake.mask_swapped);
    assert_true(time.tv_sec == 4);
    assert_int_equal(GUEST(sys_ppoll, ADDRESS(&fds), 1, 0, ADDRESS(&mask), 4), -EINVAL);
    fake_stop(task);
}

/* More descriptors than the calls keep on the stack. */
static void test_many(void **state) {
    struct task *task = fake_start();
    struct pollfd fds[120];
    struct pipe_ends p[120];
    for (int i = 0; i < 120; i++) {
        p[i] = pipe_make(task, i % 3 == 0);
        fds[i] = (struct pollfd){(int)p[i].vfd[i % 2], i % 2 ? POLLOUT : POLLIN, 0};
        if (i % 4 == 0)
            assert_int_equal(write(p[i].host[1], "x", 1), 1);
    }
    assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 120, (uint64_t)-1), 90);
    for (int i = 0; i < 120; i++)
        assert_int_equal(fds[i].revents, i % 2 ? POLLOUT : i % 4 == 0 ? POLLIN : 0);
    assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 1025, 0), -EINVAL);
    assert_int_equal(GUEST(sys_poll, 8, 1, 0), -EFAULT);
    for (int i = 0; i < 120; i++) {
        GUEST(sys_close, p[i].vfd[0]);
        GUEST(sys_close, p[i].vfd[1]);
    }
    fake_stop(task);
}

static void test_select(void **state) {
    for (int remote = 0; remote < 2; remote++) {
        struct task *task = fake_start();
        struct pipe_ends a = pipe_make(task, remote), b = pipe_make(task, false);
        fd_set in, out, except;
        struct timeval time = {10, 0};
        FD_ZERO(&in);
        FD_ZERO(&out);
        FD_ZERO(&except);
        FD_SET(a.vfd[0], &in);
        FD_SET(b.vfd[0], &in);
        FD_SET(a.vfd[1], &out);
        FD_SET(a.vfd[0], &except);
        assert_int_equal(write(b.host[1], "x", 1), 1);
        assert_int_equal(GUEST(sys_select, 4, ADDRESS(&in), ADDRESS(&out), ADDRESS(&except), ADDRESS(&time)), 2);
        assert_false(FD_ISSET(a.vfd[0], &in) || FD_ISSET(a.vfd[0], &except));
        assert_true(FD_ISSET(b.vfd[0], &in) && FD_ISSET(a.vfd[1], &out));
        assert_true(time.tv_sec == 9);
        FD_ZERO(&in);
        FD_SET(a.vfd[0], &in);
        time = (struct timeval){0, 2000};
        assert_int_equal(GUEST(sys_select, 4, ADDRESS(&in), 0, 0, ADDRESS(&time)), 0);
        assert_false(FD_ISSET(a.vfd[0], &in));
        FD_SET(100, &in);
        assert_int_equal(GUEST(sys_select, 101, ADDRESS(&in), 0, 0, ADDRESS(&time)), -EBADF);
        assert_int_equal(GUEST(sys_select, (uint64_t)-1, 0, 0, 0, 0), -EINVAL);
        time.tv_sec = -1;
        assert_int_equal(GUEST(sys_select, 0, 0, 0, 0, ADDRESS(&time)), -EINVAL);
        fake_stop(task);
    }
}

static void test_convert(void **state) {
    static uint64_t sets[3][FD_WORDS], out[3][FD_WORDS];
    int64_t ns;
    sets[0][1] = 1ull << 5;
    sets[2][1] = 1ull << 5;
    assert_int_equal(select_events(sets, 69), POLLIN | POLLPRI);
    assert_int_equal(select_events(sets, 68), 0);
    assert_int_equal(select_mark(out, 69, POLLIN | POLLPRI, POLLHUP), 1);
    assert_int_equal(select_mark(out, 3, POLLOUT, POLLHUP), 0);
    assert_int_equal(select_mark(out, 3, POLLOUT, POLLERR), 1);
    assert_true(out[0][1] == 1ull << 5 && out[1][0] == 8 && out[2][1] == 0);
    assert_int_equal(time_to_ns(1, 5, 1000, &ns), 0);
    assert_true(ns == 1000005000);
    assert_int_equal(time_to_ns(INT64_MAX, 0, 1, &ns), 0);
    assert_true(ns > 0);
    assert_int_equal(time_to_ns(0, 1000000, 1000, &ns), -EINVAL);
    assert_int_equal(time_to_ns(0, -1, 1, &ns), -EINVAL);
}

/* ---- epoll ---- */

static void epoll_add(struct task *task, uint64_t set, uint64_t vfd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = vfd | 0xabcd00000000ull};
    assert_int_equal(GUEST(sys_epoll_ctl, set, EPOLL_CTL_ADD, vfd, ADDRESS(&event)), 0);
}

static void test_epoll(void **state) {
    for (int remote = 0; remote < 2; remote++) {
        struct task *task = fake_start();
        struct pipe_ends a = pipe_make(task, remote), b = pipe_make(task, false);
        struct epoll_event events[8] = {{.events = EPOLLIN}};
        uint64_t set = (uint64_t)GUEST(sys_epoll_create1, O_CLOEXEC);
        epoll_add(task, set, a.vfd[0], EPOLLIN);
        epoll_add(task, set, b.vfd[0], EPOLLIN);
        assert_int_equal(GUEST(sys_epoll_ctl, set, EPOLL_CTL_ADD, a.vfd[0], ADDRESS(events)), -EEXIST);
        assert_int_equal(GUEST(sys_epoll_ctl, set, EPOLL_CTL_MOD, a.vfd[1], ADDRESS(events)), -ENOENT);
        assert_int_equal(GUEST(sys_epoll_ctl, a.vfd[0], EPOLL_CTL_ADD, b.vfd[0], ADDRESS(events)), -EINVAL);
        assert_int_equal(GUEST(sys_epoll_wait, set, ADDRESS(events), 8, 10), 0);
        struct late_write late;
        late_write_start(&late, a.host[1]);
        assert_int_equal(GUEST(sys_epoll_wait, set, ADDRESS(events), 8, (uint64_t)-1), 1);
        pthread_join(late.thread, NULL);
        assert_true(events[0].events == EPOLLIN && events[0].data.u64 == (a.vfd[0] | 0xabcd00000000ull));
        assert_int_equal(write(b.host[1], "x", 1), 1);
        assert_int_equal(GUEST(sys_epoll_wait, set, ADDRESS(events), 8, (uint64_t)-1), 2);
        assert_int_equal(GUEST(sys_epoll_wait, set, ADDRESS(events), 1, (uint64_t)-1), 1);
        assert_int_equal(GUEST(sys_epoll_wait, set, ADDRESS(events), 0, 0), -EINVAL);
        struct epoll_event once = {.events = EPOLLIN | EPOLLONESHOT};
        assert_int_equal(GUEST(sys_epoll_ctl, set, EPOLL_CTL_MOD, a.vfd[0], ADDRESS(&once)), 0);
        assert_int_equal(GUEST(sys_epoll_ctl, set, EPOLL_CTL_DEL, b.vfd[0], 0), 0);
        assert_int_equal(GUEST(sys_epoll_pwait, set, ADDRESS(events), 8, 0, 0, 8), 1);
        assert_int_equal(GUEST(sys_epoll_pwait, set, ADDRESS(events), 8, 0, 0, 8), 0);
        assert_int_equal(task_fds(task)->interest_count, remote);
        GUEST(sys_close, a.vfd[0]); /* closing takes it out of the set */
        assert_int_equal(task_fds(task)->interest_count, 0);
        fake_stop(task);
    }
}

/* The set's interests go to a vfork child's copy and point to its files. */
static void test_epoll_copy(void **state) {
    struct task *task = fake_start();
    struct pipe_ends a = pipe_make(task, true);
    uint64_t set = (uint64_t)GUEST(sys_epoll_create, 1);
    epoll_add(task, set, a.vfd[0], EPOLLIN);
    struct process *child = fake_process();
    fd_fork_begin(task->process);
    assert_int_equal(fd_table_fork(child, task->process), 0);
    fd_fork_end(task->process);
    struct fd_table *copy = process_fds(child);
    assert_ptr_equal(copy->entry[set].file->interests->file, copy->entry[a.vfd[0]].file);
    assert_int_equal(copy->interest_count, 1);
    fd_table_drop(child);
    free(child);
    fake_stop(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixtures),   cmocka_unit_test(test_interrupted), cmocka_unit_test(test_many),
        cmocka_unit_test(test_select),     cmocka_unit_test(test_convert),     cmocka_unit_test(test_epoll),
        cmocka_unit_test(test_epoll_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
