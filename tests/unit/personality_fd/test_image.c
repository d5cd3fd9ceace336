/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over exec into a new process, here and elsewhere. */
#include "fake_host.h"
#include "personality/fd/calls.h"
#include "vos/image.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CAP 64

struct hand_over {
    struct vos_image_fd fds[CAP];
    int host[DVK_MESSAGE_FDS];
    size_t host_count;
    long count;
};

static void describe(struct task *task, struct hand_over *over, bool remote) {
    over->count = fd_describe(task, over->fds, CAP, over->host, &over->host_count, remote);
    assert_true(over->count >= 0);
    for (size_t i = 0; i < over->host_count; i++)
        over->host[i] = dup(over->host[i]); /* as sending them does */
}

/* The old process ends: its host fds close, its handles stay with fs for the new one. */
static struct task *replace(struct task *old, struct hand_over *over) {
    struct fd_table *table = task_fds(old);
    for (struct file *file = table->files; file; file = file->next)
        if (file->host_fd >= 0)
            close(file->host_fd);
    fd_table_drop(old->process);
    free(old->process);
    struct task *task = old;
    task->process = fake_process();
    assert_int_equal(fd_table_create(task->process), 0);
    assert_int_equal(fd_restore(task, over->fds, (size_t)over->count, over->host, over->host_count), 0);
    return task;
}

static void round_trip(bool remote, bool regrant) {
    char path[SCRATCH_PATH_MAX], buffer[16];
    scratch_file(path); /* takes a descriptor for good */
    unsigned before = fake_host_fds();
    struct task *task = fake_start();
    int pipe[2];
    assert_int_equal(GUEST(sys_pipe2, ADDRESS(pipe), 0), 0);
    long file = GUEST(sys_open, ADDRESS(path), O_RDWR | O_APPEND);
    long directory = GUEST(sys_open, ADDRESS("/tmp"), O_RDONLY | O_DIRECTORY);
    long hidden = GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR | O_CLOEXEC);
    GUEST(sys_dup2, (uint64_t)pipe[1], 40);
    GUEST(sys_fcntl, (uint64_t)pipe[0], F_SETFL, O_NONBLOCK);
    GUEST(sys_umask, 0123);
    fake.no_regrant = !regrant;

    struct hand_over over = {0};
    describe(task, &over, remote);
    assert_int_equal(over.count, 5);
    assert_int_equal(over.host_count, remote ? 0 : 3);
    assert_int_equal(over.fds[4].kind, VOS_IMAGE_FD_DUP);
    assert_int_equal(over.fds[4].vfd, 40);
    assert_int_equal(over.fds[4].source, pipe[1]);
    task = replace(task, &over);

    struct fd_table *table = task_fds(task);
    assert_ptr_equal(table->entry[pipe[1]].file, table->entry[40].file);
    assert_int_equal(table->entry[pipe[0]].file->host_fd >= 0, !remote || regrant);
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)hidden, F_GETFD), -EBADF);
    assert_int_equal(table->entry[directory].file->kind, FS_KIND_DIR);
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)file, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR | O_APPEND);
    assert_true(GUEST(sys_fcntl, (uint64_t)pipe[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(GUEST(sys_read, (uint64_t)pipe[0], ADDRESS(buffer), 16), -EAGAIN);
    assert_int_equal(GUEST(sys_write, 40, ADDRESS("moved"), 5), 5);
    assert_int_equal(GUEST(sys_read, (uint64_t)pipe[0], ADDRESS(buffer), 16), 5);
    GUEST(sys_close, (uint64_t)pipe[1]);
    assert_int_equal(GUEST(sys_read, (uint64_t)pipe[0], ADDRESS(buffer), 16), -EAGAIN); /* 40 still writes */
    GUEST(sys_close, 40);
    assert_int_equal(GUEST(sys_read, (uint64_t)pipe[0], ADDRESS(buffer), 16), 0);
    assert_int_equal(GUEST(sys_write, (uint64_t)file, ADDRESS("abc"), 3), 3);
    unlink(path);
    fake_stop(task);
    assert_int_equal(fake_host_fds(), before);
}

static void test_here(void **state) {
    round_trip(false, true);
}
static void test_elsewhere(void **state) {
    round_trip(true, false);
}
static void test_elsewhere_and_back(void **state) {
    round_trip(true, true);
}

/* More host fds than one message carries become handles. */
static void test_many(void **state) {
    struct task *task = fake_start();
    for (int i = 0; i < 50; i++)
        assert_int_equal(GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR), i);
    struct hand_over over = {0};
    describe(task, &over, false);
    assert_int_equal(over.count, 50);
    assert_int_equal(over.host_count, DVK_MESSAGE_FDS);
    assert_int_equal(fake_handles_open(), 50 - DVK_MESSAGE_FDS);
    task = replace(task, &over);
    for (int i = 0; i < 50; i++)
        assert_int_equal(GUEST(sys_write, (uint64_t)i, ADDRESS("x"), 1), 1);
    fake_stop(task);
}

/* An exec that fails after the description gives everything back. */
static void test_undo(void **state) {
    struct task *task = fake_start();
    int pipe[2];
    GUEST(sys_pipe, ADDRESS(pipe));
    struct hand_over over = {0};
    describe(task, &over, true);
    assert_int_equal(fake_handles_open(), 2);
    fd_describe_undo(task);
    assert_int_equal(fake_handles_open(), 0);
    assert_int_equal(GUEST(sys_write, (uint64_t)pipe[1], ADDRESS("x"), 1), 1);
    struct vos_image_fd few[1];
    assert_int_equal(fd_describe(task, few, 1, over.host, &over.host_count, true), -EMFILE);
    assert_int_equal(fake_handles_open(), 0);
    fake_stop(task);
}

static void test_pinned(void **state) {
    struct task *task = fake_start();
    GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    assert_false(fd_pinned(task->process));
    uint64_t event = (uint64_t)GUEST(sys_eventfd2, 0, O_CLOEXEC);
    assert_false(fd_pinned(task->process));
    GUEST(sys_fcntl, event, F_SETFD, 0);
    assert_true(fd_pinned(task->process));
    fake_stop(task);
}

/* What a hostile old program may have written. */
static void test_bad_images(void **state) {
    const struct vos_image_fd bad[] = {
        {.vfd = -1, .kind = VOS_IMAGE_FD_HANDLE, .object = FS_KIND_FILE, .handle = 1},
        {.vfd = FD_LIMIT_MAX, .kind = VOS_IMAGE_FD_HANDLE, .object = FS_KIND_FILE, .handle = 1},
        {.vfd = 1, .kind = VOS_IMAGE_FD_HANDLE, .object = FS_KIND_FILE, .handle = -1},
        {.vfd = 1, .kind = VOS_IMAGE_FD_HANDLE, .object = 99, .handle = 1},
        {.vfd = 1, .kind = VOS_IMAGE_FD_HOST, .object = FS_KIND_FILE, .source = 1},
        {.vfd = 1, .kind = VOS_IMAGE_FD_DUP, .object = FS_KIND_FILE, .source = 7},
        {.vfd = 1, .kind = 9, .object = FS_KIND_FILE},
    };
    unsigned before = fake_host_fds();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct task *task = fake_start();
        int host[1] = {open("/dev/null", O_RDONLY)};
        assert_int_equal(fd_restore(task, &bad[i], 1, host, 1), -EINVAL);
        fake_stop(task);
    }
    struct task *task = fake_start();
    int host[1] = {open("/dev/null", O_RDONLY)};
    const struct vos_image_fd twice[2] = {{.vfd = 1, .kind = VOS_IMAGE_FD_HOST, .object = FS_KIND_FILE},
                                          {.vfd = 2, .kind = VOS_IMAGE_FD_HOST, .object = FS_KIND_FILE}};
    assert_int_equal(fd_restore(task, twice, 2, host, 1), -EINVAL);
    fake_stop(task);
    assert_int_equal(fake_host_fds(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_here),       cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_elsewhere_and_back),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_undo),      cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_bad_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
