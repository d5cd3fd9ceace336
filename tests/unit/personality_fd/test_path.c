/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that only the personality can resolve, and what stat and readlink say of descriptors. */
#include "fake_host.h"
#include "personality/fd/calls.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct place place;

static void check_kind(struct task *task, const char *path, unsigned flags, long result, enum place_kind kind) {
    long got = place_resolve_text(task, &place, path, flags);
    if (got != result || (got == 0 && place.kind != kind))
        fail_msg("%s: %ld, kind %d", path, got, place.kind);
    if (got == 0)
        place_end(task, &place);
}

static void test_recognised(void **state) {
    struct task *task = fake_start();
    char own[64], long_path[VOS_PATH_MAX + 10];
    GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    GUEST(sys_open, ADDRESS("/"), O_RDONLY);
    snprintf(own, sizeof(own), "/proc/%d/fd/0", getpid());
    check_kind(task, "/dev/fd/0", PLACE_FOLLOW, 0, PLACE_FILE);
    check_kind(task, "/dev/stdin", PLACE_FOLLOW, 0, PLACE_FILE);
    check_kind(task, "/proc/self/fd/0", 0, 0, PLACE_FD_LINK);
    check_kind(task, "/proc/thread-self/fd/0", PLACE_FOLLOW, 0, PLACE_FILE);
    check_kind(task, own, PLACE_FOLLOW, 0, PLACE_FILE);
    check_kind(task, "/proc/1/fd/0", PLACE_FOLLOW, 0, getpid() == 1 ? PLACE_FILE : PLACE_PATH);
    check_kind(task, "/proc/self/fd", PLACE_FOLLOW, 0, PLACE_FD_DIRECTORY);
    check_kind(task, "/proc/self/fd/", PLACE_FOLLOW, 0, PLACE_FD_DIRECTORY);
    check_kind(task, "/dev/fd", PLACE_FOLLOW, 0, PLACE_FD_DIRECTORY);
    check_kind(task, "/dev/fd", 0, 0, PLACE_PATH);
    check_kind(task, "/dev/fd/7", PLACE_FOLLOW, -ENOENT, 0);
    check_kind(task, "/dev/fd/00", PLACE_FOLLOW, 0, PLACE_PATH);
    check_kind(task, "/dev/fdx", PLACE_FOLLOW, 0, PLACE_PATH);
    check_kind(task, "/dev/fd/0x", PLACE_FOLLOW, 0, PLACE_PATH);
    check_kind(task, "/dev/fd/99999999999999999999", PLACE_FOLLOW, 0, PLACE_PATH);
    check_kind(task, "/dev/fd/0/x", PLACE_FOLLOW, -ENOTDIR, 0);
    check_kind(task, "/proc/self/exe", 0, 0, PLACE_EXE_LINK);
    check_kind(task, "/dev/fd/0", PLACE_DIRECT, 0, PLACE_PATH);
    check_kind(task, "", PLACE_FOLLOW, -ENOENT, 0);
    memset(long_path, 'x', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = 0;
    check_kind(task, long_path, PLACE_FOLLOW, -ENAMETOOLONG, 0);

    assert_int_equal(place_resolve_text(task, &place, "/proc/self/fd/1/tmp//x", PLACE_FOLLOW), 0);
    assert_int_equal(place.kind, PLACE_PATH);
    assert_string_equal(place.text, "tmp//x");
    assert_int_equal(place.length, 6);
    assert_int_equal(place.dir, place.file->handle);
    place_end(task, &place);
    assert_int_equal(place_resolve_text(task, &place, "/proc/self/exe", PLACE_FOLLOW), 0);
    assert_string_equal(place.text, "/bin/true");
    assert_int_equal(place.length, 9);
    fake_stop(task);
}

/* Process substitution: a pipe opened by the name of its descriptor. */
static void test_open_descriptor(void **state) {
    struct task *task = fake_start();
    int pipe[2];
    char byte;
    char path[SCRATCH_PATH_MAX];
    scratch_file(path);
    GUEST(sys_pipe, ADDRESS(pipe));
    GUEST(sys_dup2, (uint64_t)pipe[0], 63);
    long fd = GUEST(sys_open, ADDRESS("/dev/fd/63"), O_RDONLY);
    assert_int_equal(fd, 2);
    GUEST(sys_write, (uint64_t)pipe[1], ADDRESS("x"), 1);
    assert_int_equal(GUEST(sys_read, (uint64_t)fd, ADDRESS(&byte), 1), 1);
    assert_int_equal(GUEST(sys_open, ADDRESS("/dev/fd/63"), O_WRONLY), -EACCES);
    assert_int_equal(GUEST(sys_open, ADDRESS("/dev/fd/77"), O_RDONLY), -ENOENT);

    /* a regular file gets a position of its own */
    uint64_t file = (uint64_t)GUEST(sys_open, ADDRESS(path), O_RDWR);
    GUEST(sys_write, file, ADDRESS("hello"), 5);
    char name[40];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", (int)file);
    uint64_t again = (uint64_t)GUEST(sys_open, ADDRESS(name), O_RDONLY);
    assert_int_equal(GUEST(sys_read, again, ADDRESS(&byte), 1), 1);
    assert_int_equal(byte, 'h');
    unlink(path); /* the deleted file can still be opened by descriptor */
    assert_true(GUEST(sys_open, ADDRESS(name), O_RDONLY) > 0);
    fake_stop(task);
}

static void test_links(void **state) {
    struct task *task = fake_start();
    char text[200] = {0};
    char path[SCRATCH_PATH_MAX];
    int pipe[2];
    struct stat stat;
    scratch_file(path);
    for (int remote = 0; remote < 2; remote++) {
        fake.remote = remote;
        GUEST(sys_close, 0);
        assert_int_equal(GUEST(sys_open, ADDRESS(path), O_RDONLY), 0);
        long n = GUEST(sys_readlink, ADDRESS("/proc/self/fd/0"), ADDRESS(text), 199);
        assert_int_equal(n, strlen(path));
        assert_memory_equal(text, path, (size_t)n);
        assert_int_equal(GUEST(sys_readlink, ADDRESS("/proc/self/fd/0"), ADDRESS(text), 4), 4);
    }
    GUEST(sys_pipe, ADDRESS(pipe));
    memset(text, 0, sizeof(text));
    assert_true(GUEST(sys_readlinkat, (uint64_t)AT_FDCWD, ADDRESS("/dev/fd/1"), ADDRESS(text), 199) > 0);
    assert_int_equal(GUEST(sys_fstat, 1, ADDRESS(&stat)), 0);
    char expected[60];
    snprintf(expected, sizeof(expected), "pipe:[%lu]", stat.st_ino);
    assert_string_equal(text, expected);
    assert_int_equal(GUEST(sys_lstat, ADDRESS("/dev/fd/1"), ADDRESS(&stat)), 0);
    assert_int_equal(stat.st_mode, S_IFLNK | 0500);
    assert_int_equal(GUEST(sys_stat, ADDRESS("/dev/fd/1"), ADDRESS(&stat)), 0);
    assert_true(S_ISFIFO(stat.st_mode));
    assert_int_equal(GUEST(sys_access, ADDRESS("/dev/fd/1"), F_OK), 0);
    assert_int_equal(GUEST(sys_access, ADDRESS("/dev/fd/9"), F_OK), -ENOENT);
    assert_int_equal(GUEST(sys_unlink, ADDRESS("")), -ENOENT);
    assert_int_equal(GUEST(sys_readlink, ADDRESS(""), ADDRESS(text), 10), -ENOENT);
    assert_int_equal(GUEST(sys_readlink, ADDRESS("/proc/self/exe"), ADDRESS(text), 199), 9);
    assert_int_equal(GUEST(sys_chmod, ADDRESS("/dev/fd/0"), 0641), 0);
    assert_int_equal(GUEST(sys_stat, ADDRESS(path), ADDRESS(&stat)), 0);
    assert_int_equal(stat.st_mode & 07777, 0641);
    assert_int_equal(GUEST(sys_fchmod, 0, 0600), 0);
    assert_int_equal(GUEST(sys_fchmod, 55, 0600), -EBADF);
    unlink(path);
    fake_stop(task);
}

/* Names listed by getdents64 of an open directory, sorted into a string. */
static void list(struct task *task, uint64_t fd, size_t size, char *to) {
    char buffer[4096];
    long n;
    to[0] = 0;
    while ((n = GUEST(sys_getdents64, fd, ADDRESS(buffer), size)) > 0)
        for (long at = 0; at < n;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            assert_true(entry->d_reclen >= 24 && entry->d_reclen % 8 == 0);
            strcat(to, entry->d_name);
            strcat(to, " ");
            at += entry->d_reclen;
        }
    assert_int_equal(n, 0);
}

static void test_fd_directory(void **state) {
    struct task *task = fake_start();
    char names[2000];
    GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    GUEST(sys_dup2, 0, 70);
    uint64_t fd = (uint64_t)GUEST(sys_open, ADDRESS("/proc/self/fd"), O_RDONLY | O_DIRECTORY);
    list(task, fd, 4096, names);
    assert_string_equal(names, ". .. 0 1 70 ");
    GUEST(sys_lseek, fd, 0, SEEK_SET);
    list(task, fd, 24, names);
    assert_string_equal(names, ". .. 0 1 70 ");
    GUEST(sys_lseek, fd, 0, SEEK_SET);
    assert_int_equal(GUEST(sys_getdents64, fd, ADDRESS(names), 20), -EINVAL);
    struct stat stat;
    assert_int_equal(GUEST(sys_fstat, fd, ADDRESS(&stat)), 0);
    assert_true(S_ISDIR(stat.st_mode));
    long again = GUEST(sys_openat, fd, ADDRESS("70"), O_RDWR);
    assert_int_equal(again, 2);
    assert_int_equal(GUEST(sys_openat, fd, ADDRESS("71"), O_RDWR), -ENOENT);
    assert_int_equal(GUEST(sys_read, fd, ADDRESS(names), 10), -EISDIR);
    fake_stop(task);
}

static void test_directories(void **state) {
    struct task *task = fake_start();
    char path[SCRATCH_PATH_MAX], names[2000];
    scratch_directory(path);
    uint64_t dir = (uint64_t)GUEST(sys_open, ADDRESS(path), O_RDONLY | O_DIRECTORY);
    GUEST(sys_umask, 027);
    assert_int_equal(GUEST(sys_mkdirat, dir, ADDRESS("sub"), 0777), 0);
    assert_int_equal(fake.last.payload.words[1], 0750);
    uint64_t file = (uint64_t)GUEST(sys_openat, dir, ADDRESS("file"), O_CREAT | O_RDWR, 0666);
    assert_int_equal(fake.last.payload.words[2], 0640);
    assert_int_equal(GUEST(sys_symlinkat, ADDRESS("file"), dir, ADDRESS("link")), 0);
    assert_int_equal(GUEST(sys_renameat, dir, ADDRESS("file"), dir, ADDRESS("file2")), 0);
    assert_int_equal(GUEST(sys_unlinkat, dir, ADDRESS("link"), 0x1000), -EINVAL);
    assert_int_equal(GUEST(sys_openat, file, ADDRESS("x"), O_RDONLY), -ENOTDIR);
    assert_int_equal(GUEST(sys_openat, 99, ADDRESS("x"), O_RDONLY), -EBADF);
    list(task, dir, 4096, names);
    assert_non_null(strstr(names, "sub "));
    assert_non_null(strstr(names, "file2 "));
    assert_int_equal(GUEST(sys_getdents64, file, ADDRESS(names), 100), -ENOTDIR);
    assert_int_equal(GUEST(sys_lseek, dir, 0, SEEK_SET), 0);
    long n = GUEST(sys_getdents, dir, ADDRESS(names), 2000); /* the old form: type in the last byte, name at 18 */
    assert_true(n > 0);
    for (long at = 0; at < n;) {
        uint16_t length;
        memcpy(&length, names + at + 16, 2);
        if (!strcmp(names + at + 18, "sub"))
            assert_int_equal(names[at + length - 1], DT_DIR);
        if (!strcmp(names + at + 18, "link"))
            assert_int_equal(names[at + length - 1], DT_LNK);
        at += length;
    }
    assert_int_equal(GUEST(sys_unlinkat, dir, ADDRESS("link"), 0), 0);
    assert_int_equal(GUEST(sys_unlinkat, dir, ADDRESS("file2"), 0), 0);
    assert_int_equal(GUEST(sys_unlinkat, dir, ADDRESS("sub"), AT_REMOVEDIR), 0);
    assert_int_equal(GUEST(sys_getcwd, ADDRESS(names), 1), -ERANGE);
    assert_true(GUEST(sys_getcwd, ADDRESS(names), 2000) > 1);
    fake_stop(task);
    rmdir(path);
}

static void test_stat(void **state) {
    struct task *task = fake_start();
    struct stat stat, native;
    struct statx answer;
    lstat("/bin/sh", &native);
    assert_int_equal(GUEST(sys_lstat, ADDRESS("/bin/sh"), ADDRESS(&stat)), 0);
    assert_true(stat.st_ino == native.st_ino && stat.st_mode == native.st_mode && stat.st_size == native.st_size);
    uint64_t fd = (uint64_t)GUEST(sys_open, ADDRESS("/bin/sh"), O_RDONLY);
    fstatat(AT_FDCWD, "/bin/sh", &native, 0);
    unsigned requests = fake.requests;
    assert_int_equal(GUEST(sys_newfstatat, fd, ADDRESS(""), ADDRESS(&stat), AT_EMPTY_PATH), 0);
    assert_int_equal(fake.requests, requests); /* no message: the file is on this node */
    assert_true(stat.st_ino == native.st_ino && stat.st_size == native.st_size);
    assert_int_equal(GUEST(sys_newfstatat, fd, ADDRESS(""), ADDRESS(&stat), 0), -ENOENT);
    assert_int_equal(GUEST(sys_statx, fd, ADDRESS(""), AT_EMPTY_PATH, STATX_ALL, ADDRESS(&answer)), 0);
    assert_true(answer.stx_ino == native.st_ino && answer.stx_mode == native.st_mode &&
                answer.stx_mtime.tv_sec == native.st_mtim.tv_sec && answer.stx_mtime.tv_nsec == native.st_mtim.tv_nsec);
    assert_int_equal(GUEST(sys_statx, fd, ADDRESS(""), 0x80000, 0, ADDRESS(&answer)), -EINVAL);
    assert_int_equal(GUEST(sys_stat, 8, ADDRESS(&stat)), -EFAULT);
    assert_int_equal(GUEST(sys_stat, ADDRESS("/"), 8), -EFAULT);
    fake_stop(task);
}

static void test_loader(void **state) {
    struct task *task = fake_start();
    struct file_ref *file;
    struct opened_info info;
    char path[200], magic[4];
    assert_int_equal(file_open_exec(task, "/etc/passwd", true, &file, &info), -EACCES);
    assert_int_equal(file_open_exec(task, "/nowhere", true, &file, &info), -ENOENT);
    assert_int_equal(file_open_exec(task, "/tmp", true, &file, &info), -EACCES);
    assert_int_equal(file_open_exec(task, "/bin/true", true, &file, &info), 0);
    assert_int_equal(fake.requests > 0, 1);
    assert_int_equal(info.path[0], 0); /* this fs does not say it */
    assert_int_equal(file_pread(task, file, magic, 4, 0), 4);
    assert_memory_equal(magic, "\177ELF", 4);
    assert_true(file_path(task, file, path, sizeof(path)) > 4);
    assert_int_equal(path[0], '/');
    file_close(task, file);
    fake_stop(task);
}

static void test_program_of_descriptor(void **state) {
    struct task *task = fake_start();
    char path[200];
    bool stay = true;
    int fd = (int)GUEST(sys_open, ADDRESS("/etc/passwd"), O_PATH);
    assert_int_equal(fd_program_path(task, fd, "", path, sizeof(path), &stay), 0);
    assert_string_equal(path, "/etc/passwd");
    assert_false(stay);
    fd = (int)GUEST(sys_open, ADDRESS("/etc/passwd"), O_RDONLY);
    assert_int_equal(fd_program_path(task, fd, "", path, sizeof(path), &stay), 0);
    assert_string_equal(path, "/dev/fd/1");
    fd = (int)GUEST(sys_open, ADDRESS("/etc/passwd"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_program_path(task, fd, "", path, sizeof(path), &stay), 0);
    assert_string_equal(path, "/etc/passwd");
    assert_int_equal(fd_program_path(task, fd, "x", path, sizeof(path), &stay), -ENOTDIR);
    fd = (int)GUEST(sys_memfd_create, ADDRESS("program"), 1 /* MFD_CLOEXEC */);
    assert_int_equal(fd_program_path(task, fd, "", path, sizeof(path), &stay), 0);
    assert_string_equal(path, "/dev/fd/3");
    assert_true(stay);
    fd = (int)GUEST(sys_open, ADDRESS("/etc"), O_RDONLY | O_DIRECTORY);
    assert_int_equal(fd_program_path(task, fd, "", path, sizeof(path), &stay), -EACCES);
    assert_int_equal(fd_program_path(task, fd, "passwd", path, sizeof(path), &stay), 0);
    assert_string_equal(path, "/etc/passwd");
    assert_int_equal(fd_program_path(task, fd, "passwd", path, 8, &stay), -ENAMETOOLONG);
    assert_int_equal(fd_program_path(task, 77, "", path, sizeof(path), &stay), -EBADF);
    fake_stop(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recognised),   cmocka_unit_test(test_open_descriptor), cmocka_unit_test(test_links),
        cmocka_unit_test(test_fd_directory), cmocka_unit_test(test_directories),     cmocka_unit_test(test_stat),
        cmocka_unit_test(test_loader),       cmocka_unit_test(test_program_of_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
