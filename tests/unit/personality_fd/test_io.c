/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, writes and positions, on granted files and on handles, against the same calls made natively on another file.
 */
#include "fake_host.h"
#include "personality/fd/calls.h"
#include "personality/fd/vector.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_BYTES 300000
#define BUFFER_BYTES 200000

static char ours_path[SCRATCH_PATH_MAX], native_path[SCRATCH_PATH_MAX];

static int setup(void **state) {
    scratch_file(ours_path);
    scratch_file(native_path);
    return 0;
}

static int teardown(void **state) {
    unlink(ours_path);
    unlink(native_path);
    return 0;
}

static uint32_t random_next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static long as_errno(long result) {
    return result < 0 ? -errno : result;
}

struct io_test {
    struct task *task;
    uint64_t vfd;
    int fd;
    char *ours, *native;
    struct iovec ours_parts[40], native_parts[40];
    int part_count;
};

static void parts_make(struct io_test *t, uint32_t *seed) {
    size_t at = 0;
    t->part_count = (int)(random_next(seed) % 40);
    for (int i = 0; i < t->part_count; i++) {
        size_t len = random_next(seed) % 8 ? random_next(seed) % 300 : random_next(seed) % 9000;
        t->ours_parts[i] = (struct iovec){t->ours + at, len};
        t->native_parts[i] = (struct iovec){t->native + at, len};
        at += len;
    }
}

static void io_step(struct io_test *t, uint32_t *seed) {
    struct task *task = t->task;
    size_t len = random_next(seed) % 4 ? random_next(seed) % 5000 : random_next(seed) % BUFFER_BYTES;
    off_t offset = (off_t)(random_next(seed) % FILE_BYTES) - 10;
    uint64_t ours = ADDRESS(t->ours), parts = ADDRESS(t->ours_parts), count;
    long got, expected;
    unsigned kind = random_next(seed) % 10;
    parts_make(t, seed);
    count = (uint64_t)t->part_count;
    switch (kind) {
    case 0:
        got = GUEST(sys_read, t->vfd, ours, len);
        expected = as_errno(read(t->fd, t->native, len));
        break;
    case 1:
        got = GUEST(sys_pread64, t->vfd, ours, len, (uint64_t)offset);
        expected = as_errno(pread(t->fd, t->native, len, offset));
        break;
    case 2:
        got = GUEST(sys_readv, t->vfd, parts, count);
        expected = as_errno(readv(t->fd, t->native_parts, t->part_count));
        break;
    case 3:
        got = GUEST(sys_preadv, t->vfd, parts, count, (uint64_t)offset);
        expected = as_errno(preadv(t->fd, t->native_parts, t->part_count, offset));
        break;
    case 4: {
        int whence = (int)(random_next(seed) % 4);
        off_t by = whence == SEEK_SET ? offset : offset / 16 - FILE_BYTES / 64;
        got = GUEST(sys_lseek, t->vfd, (uint64_t)by, (uint64_t)(whence == 3 ? 77 : whence));
        expected = as_errno(lseek(t->fd, by, whence == 3 ? 77 : whence));
        break;
    }
    case 5:
        len %= FILE_BYTES;
        got = GUEST(sys_ftruncate, t->vfd, len);
        expected = as_errno(ftruncate(t->fd, (off_t)len));
        break;
    default:
        for (size_t i = 0; i < BUFFER_BYTES; i++)
            t->ours[i] = t->native[i] = (char)random_next(seed);
        if (kind == 6) {
            got = GUEST(sys_write, t->vfd, ours, len);
            expected = as_errno(write(t->fd, t->native, len));
        } else if (kind == 7) {
            got = GUEST(sys_pwrite64, t->vfd, ours, len, (uint64_t)offset);
            expected = as_errno(pwrite(t->fd, t->native, len, offset));
        } else if (kind == 8) {
            got = GUEST(sys_writev, t->vfd, parts, count);
            expected = as_errno(writev(t->fd, t->native_parts, t->part_count));
        } else {
            got = GUEST(sys_pwritev, t->vfd, parts, count, (uint64_t)offset);
            expected = as_errno(pwritev(t->fd, t->native_parts, t->part_count, offset));
        }
    }
    if (got != expected)
        fail_msg("call %u gave %ld, natively %ld", kind, got, expected);
    assert_memory_equal(t->ours, t->native, BUFFER_BYTES);
}

static void compare_files(void) {
    static char a[4 * FILE_BYTES], b[4 * FILE_BYTES];
    int one = open(ours_path, O_RDONLY), two = open(native_path, O_RDONLY);
    ssize_t n = read(one, a, sizeof(a));
    assert_int_equal(n, read(two, b, sizeof(b)));
    assert_memory_equal(a, b, (size_t)n);
    close(one);
    close(two);
}

static void random_io(bool remote, uint32_t seed, int flags) {
    struct io_test t = {.task = fake_start(), .ours = calloc(1, BUFFER_BYTES), .native = calloc(1, BUFFER_BYTES)};
    struct task *task = t.task;
    fake.remote = remote;
    assert_int_equal(truncate(ours_path, 0), 0);
    assert_int_equal(truncate(native_path, 0), 0);
    long vfd = GUEST(sys_open, ADDRESS(ours_path), (uint64_t)flags);
    assert_true(vfd >= 0);
    t.vfd = (uint64_t)vfd;
    assert_int_equal(fake_handles_open(), remote);
    t.fd = open(native_path, flags);
    for (int i = 0; i < 400; i++)
        io_step(&t, &seed);
    compare_files();
    close(t.fd);
    fake_stop(task);
    free(t.ours);
    free(t.native);
}

static void test_granted(void **state) {
    random_io(false, 1, O_RDWR);
}
static void test_handle(void **state) {
    for (uint32_t seed = 2; seed < 5; seed++)
        random_io(true, seed, O_RDWR);
}
static void test_handle_read_only(void **state) {
    random_io(true, 9, O_RDONLY);
}
static void test_handle_write_only(void **state) {
    random_io(true, 10, O_WRONLY);
}

static void test_append(void **state) {
    for (int remote = 0; remote < 2; remote++) {
        struct task *task = fake_start();
        fake.remote = remote;
        truncate(ours_path, 5);
        uint64_t fd = (uint64_t)GUEST(sys_open, ADDRESS(ours_path), O_RDWR | O_APPEND);
        assert_int_equal(GUEST(sys_write, fd, ADDRESS("abc"), 3), 3);
        assert_int_equal(GUEST(sys_fcntl, fd, F_GETFL) & (O_APPEND | O_ACCMODE), O_APPEND | O_RDWR);
        assert_int_equal(GUEST(sys_fcntl, fd, F_SETFL, 0), 0);
        assert_int_equal(GUEST(sys_fcntl, fd, F_GETFL) & O_APPEND, 0);
        GUEST(sys_lseek, fd, 0, SEEK_SET);
        assert_int_equal(GUEST(sys_write, fd, ADDRESS("z"), 1), 1);
        struct stat stat;
        assert_int_equal(GUEST(sys_fstat, fd, ADDRESS(&stat)), 0);
        assert_int_equal(stat.st_size, 8);
        fake_stop(task);
    }
}

/* ---- vectors ---- */

static void test_vector_limits(void **state) {
    struct task *task = fake_start();
    fake.remote = true;
    struct iovec *parts = calloc(1100, sizeof(*parts));
    uint64_t fd = (uint64_t)GUEST(sys_open, ADDRESS(ours_path), O_RDWR);
    assert_int_equal(GUEST(sys_readv, fd, ADDRESS(parts), 1025), -EINVAL);
    assert_int_equal(GUEST(sys_readv, fd, ADDRESS(parts), 1024), 0);
    assert_int_equal(GUEST(sys_readv, fd, 8, 1), -EFAULT);
    parts[1].iov_len = (size_t)-1;
    assert_int_equal(GUEST(sys_writev, fd, ADDRESS(parts), 2), -EINVAL);
    assert_int_equal(GUEST(sys_preadv2, fd, ADDRESS(parts), 1, 0, 0, 0x4000), -EOPNOTSUPP);
    parts[0] = (struct iovec){NULL, 10};
    parts[1] = (struct iovec){NULL, 0};
    assert_int_equal(GUEST(sys_writev, fd, ADDRESS(parts), 2), -EFAULT);
    free(parts);
    fake_stop(task);
}

static void test_vector_split(void **state) {
    char memory[64];
    struct iovec parts[5] = {{memory, 3}, {memory + 3, 0}, {memory + 3, 10}, {memory + 13, 1}, {memory + 14, 0}};
    struct vector vector;
    struct task *task = fake_start();
    assert_int_equal(vector_copy(&vector, ADDRESS(parts), 5), 0);
    assert_int_equal(vector.total, 14);
    assert_int_equal(vector_put(&vector, "abcdefg", 7), 7);
    uint64_t at;
    assert_int_equal(vector_next(&vector, &at, 100), 6);
    assert_int_equal(at, ADDRESS(memory + 7));
    assert_int_equal(vector_put(&vector, "xyz", 3), 1);
    assert_int_equal(vector_next(&vector, &at, 100), 0);
    assert_memory_equal(memory, "abcdefg", 7);
    assert_int_equal(memory[13], 'x');
    vector_end(&vector);

    struct iovec huge[3] = {{memory, 0x7fffffff}, {memory, 0x7fffffff}, {memory, 1}};
    assert_int_equal(vector_copy(&vector, ADDRESS(huge), 3), 0);
    assert_true(vector.total == IO_MAX);
    vector_end(&vector);
    fake_stop(task);
}

/* ---- pipes ---- */

/* Both ends of a new pipe as handles, as after a move to another node. */
static void remote_pipe(struct task *task, uint64_t fd[2]) {
    int end[2];
    assert_int_equal(pipe(end), 0);
    for (int i = 0; i < 2; i++) {
        int64_t handle = 100 + i;
        fake.handle[handle] = end[i] + 1;
        struct file *file = file_new(task_fds(task), FS_KIND_PIPE, -1, handle, i ? O_WRONLY : O_RDONLY);
        fd[i] = (uint64_t)fd_add(task, file, false);
    }
}

static void test_pipe_handles(void **state) {
    struct task *task = fake_start();
    uint64_t fd[2];
    char buffer[100];
    remote_pipe(task, fd);
    assert_int_equal(GUEST(sys_write, fd[1], ADDRESS("hello"), 5), 5);
    assert_int_equal(GUEST(sys_read, fd[0], ADDRESS(buffer), 100), 5);
    assert_int_equal(GUEST(sys_read, fd[1], ADDRESS(buffer), 100), -EBADF);
    assert_int_equal(GUEST(sys_write, fd[0], ADDRESS(buffer), 1), -EBADF);
    assert_int_equal(GUEST(sys_lseek, fd[0], 0, SEEK_SET), -ESPIPE);
    assert_int_equal(GUEST(sys_pread64, fd[0], ADDRESS(buffer), 1, 0), -ESPIPE);
    assert_int_equal(GUEST(sys_fcntl, fd[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fake.last.type, FS_SETFL);
    assert_int_equal(GUEST(sys_read, fd[0], ADDRESS(buffer), 100), -EAGAIN);
    GUEST(sys_fcntl, fd[0], F_SETFL, 0);
    fake.interrupt_next = 1;
    assert_int_equal(GUEST(sys_read, fd[0], ADDRESS(buffer), 100), SYS_INTERRUPTED);
    GUEST(sys_close, fd[1]);
    assert_int_equal(GUEST(sys_read, fd[0], ADDRESS(buffer), 100), 0);
    fake_stop(task);
}

static void test_broken_pipe(void **state) {
    struct task *task = fake_start();
    uint64_t fd[2];
    remote_pipe(task, fd);
    GUEST(sys_close, fd[0]);
    assert_int_equal(GUEST(sys_write, fd[1], ADDRESS("x"), 1), -EPIPE);
    assert_int_equal(fake.raised, 13);
    fake_stop(task);
}

static void *slow_reader(void *argument) {
    static char buffer[1 << 20];
    size_t total = 0;
    ssize_t n;
    while ((n = read(*(int *)argument, buffer, 30000)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != (char)((total + (size_t)i) * 7))
                return (void *)1;
        total += (size_t)n;
    }
    return total == 1000000 ? NULL : (void *)2;
}

/* A blocking write of more than the pipe and a message hold writes all of it. */
static void test_large_write(void **state) {
    struct task *task = fake_start();
    uint64_t fd[2];
    char *data = malloc(1000000);
    for (size_t i = 0; i < 1000000; i++)
        data[i] = (char)(i * 7);
    remote_pipe(task, fd);
    int reader = fake.handle[100] - 1;
    pthread_t thread;
    pthread_create(&thread, NULL, slow_reader, &reader);
    struct iovec parts[2] = {{data, 123456}, {data + 123456, 1000000 - 123456}};
    assert_int_equal(GUEST(sys_writev, fd[1], ADDRESS(parts), 2), 1000000);
    GUEST(sys_close, fd[1]);
    void *bad;
    pthread_join(thread, &bad);
    assert_null(bad);
    fake_stop(task);
    free(data);
}

/* What cannot be written to a non-blocking pipe is reported, not lost. */
static void test_short_write(void **state) {
    struct task *task = fake_start();
    uint64_t fd[2];
    char *data = calloc(1, 200000);
    remote_pipe(task, fd);
    GUEST(sys_fcntl, fd[1], F_SETFL, O_NONBLOCK);
    long n = GUEST(sys_write, fd[1], ADDRESS(data), 200000);
    assert_int_equal(n, 65536);
    assert_int_equal(GUEST(sys_write, fd[1], ADDRESS(data), 200000), -EAGAIN);
    fake_stop(task);
    free(data);
}

/* ---- others ---- */

static void test_sendfile(void **state) {
    struct task *task = fake_start();
    char *data = malloc(150000), *back = malloc(150000);
    for (int i = 0; i < 150000; i++)
        data[i] = (char)(i * 13);
    int fd = open(ours_path, O_RDWR | O_TRUNC);
    assert_int_equal(write(fd, data, 150000), 150000);
    close(fd);
    fake.remote = true;
    uint64_t in = (uint64_t)GUEST(sys_open, ADDRESS(ours_path), O_RDONLY);
    uint64_t out = (uint64_t)GUEST(sys_open, ADDRESS(native_path), O_RDWR | O_TRUNC);
    int64_t offset = 100;
    assert_int_equal(GUEST(sys_sendfile, out, in, ADDRESS(&offset), 1000), 1000);
    assert_int_equal(offset, 1100);
    assert_int_equal(GUEST(sys_sendfile, out, in, 0, 1000000), 150000);
    assert_int_equal(GUEST(sys_lseek, in, 0, SEEK_CUR), 150000);
    assert_int_equal(GUEST(sys_sendfile, out, in, 0, 10), 0);
    assert_int_equal(GUEST(sys_pread64, out, ADDRESS(back), 150000, 1000), 150000);
    assert_memory_equal(back, data, 150000);
    assert_int_equal(GUEST(sys_pread64, out, ADDRESS(back), 1000, 0), 1000);
    assert_memory_equal(back, data + 100, 1000);
    assert_int_equal(GUEST(sys_copy_file_range, in, 0, out, 0, 10, 0), -EXDEV);
    assert_int_equal(GUEST(sys_splice, in, 0, out, 0, 10, 0), -EINVAL);
    fake_stop(task);
    free(data);
    free(back);
}

/* A private mapping of a file that is elsewhere: a copy, with zeroes behind the end. */
static void test_map_handle(void **state) {
    struct task *task = fake_start();
    int fd = open(ours_path, O_RDWR | O_TRUNC);
    for (int i = 0; i < 9000; i++)
        assert_int_equal(write(fd, i % 2 ? "b" : "a", 1), 1);
    close(fd);
    fake.remote = true;
    int vfd = (int)GUEST(sys_open, ADDRESS(ours_path), O_RDONLY);
    long at = fd_mmap(task, 0, 9000, PROT_READ, MAP_PRIVATE, vfd, 4096);
    assert_true(at > 0);
    const char *map = (const char *)at;
    assert_int_equal(map[0], 'a');
    assert_int_equal(map[9000 - 4096 - 1], 'b');
    assert_int_equal(map[9000 - 4096], 0);
    assert_int_equal(map[8999], 0);
    long fixed = fd_mmap(task, (uint64_t)at + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, vfd, 0);
    assert_int_equal(fixed, at + 4096);
    assert_int_equal(map[4096], 'a');
    assert_int_equal(map[0], 'a');
    assert_int_equal(fd_mmap(task, (uint64_t)at, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, vfd, 0), -EEXIST);
    assert_int_equal(fd_mmap(task, 0, 4096, PROT_READ, MAP_SHARED, vfd, 0), -ENODEV);
    assert_int_equal(fd_mmap(task, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vfd, 0), -EACCES);
    assert_int_equal(fd_mmap(task, 0, 4096, PROT_READ, MAP_PRIVATE, vfd, 100), -EINVAL);
    assert_int_equal(fd_mmap(task, 0, 0, PROT_READ, MAP_PRIVATE, vfd, 0), -EINVAL);
    assert_int_equal(fd_mmap(task, 0, 4096, PROT_READ, MAP_PRIVATE, 99, 0), -EBADF);
    munmap((void *)at, 3 * 4096);
    fake_stop(task);
}

static void test_lock_words(void **state) {
    struct task *task = fake_start();
    truncate(ours_path, 1000);
    fake.remote = true;
    uint64_t fd = (uint64_t)GUEST(sys_open, ADDRESS(ours_path), O_RDWR);
    GUEST(sys_lseek, fd, 100, SEEK_SET);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 10, .l_len = -20};
    assert_int_equal(GUEST(sys_fcntl, fd, F_SETLK, ADDRESS(&lock)), 0);
    assert_int_equal(fake.last.type, FS_LOCK);
    assert_int_equal(fake.last.payload.words[1], 1);
    assert_int_equal(fake.last.payload.words[2], F_WRLCK);
    assert_int_equal(fake.last.payload.words[3], 90);
    assert_int_equal(fake.last.payload.words[4], 20);
    lock = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = -1000, .l_len = 0};
    assert_int_equal(GUEST(sys_fcntl, fd, F_OFD_SETLKW, ADDRESS(&lock)), 0);
    assert_int_equal(fake.last.payload.words[1], 2);
    assert_int_equal(fake.last.payload.words[3], 0);
    assert_int_equal(fake.last.payload.words[5], 1);
    lock.l_start = -1001;
    assert_int_equal(GUEST(sys_fcntl, fd, F_SETLK, ADDRESS(&lock)), -EINVAL);
    lock = (struct flock){.l_type = 7};
    assert_int_equal(GUEST(sys_fcntl, fd, F_SETLK, ADDRESS(&lock)), -EINVAL);
    assert_int_equal(GUEST(sys_fcntl, fd, F_SETLK, 8), -EFAULT);
    GUEST(sys_fcntl, fd, F_DUPFD, 50);
    assert_int_equal(GUEST(sys_flock, fd, 2), 0);
    assert_int_equal(fake.last.payload.words[1], 3);
    assert_int_equal(GUEST(sys_flock, fd, 99), -EINVAL);

    /* a granted file: any close tells fs that the process's locks are gone */
    fake.remote = false;
    uint64_t granted = (uint64_t)GUEST(sys_open, ADDRESS(ours_path), O_RDWR);
    lock = (struct flock){.l_type = F_WRLCK};
    assert_int_equal(GUEST(sys_fcntl, granted, F_SETLK, ADDRESS(&lock)), 0);
    assert_int_equal(fake.last.payload.ints[0], -1);
    GUEST(sys_close, granted);
    assert_int_equal(fake.last.type, FS_LOCK);
    assert_int_equal(fake.last.payload.words[2], F_UNLCK);
    fake_stop(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_granted),          cmocka_unit_test(test_handle),
        cmocka_unit_test(test_handle_read_only), cmocka_unit_test(test_handle_write_only),
        cmocka_unit_test(test_append),           cmocka_unit_test(test_vector_limits),
        cmocka_unit_test(test_vector_split),     cmocka_unit_test(test_pipe_handles),
        cmocka_unit_test(test_broken_pipe),      cmocka_unit_test(test_large_write),
        cmocka_unit_test(test_short_write),      cmocka_unit_test(test_sendfile),
        cmocka_unit_test(test_map_handle),       cmocka_unit_test(test_lock_words),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, setup, teardown);
}
