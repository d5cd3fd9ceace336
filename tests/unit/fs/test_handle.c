/* SPDX-License-Identifier: Apache-2.0 */
/* Handles, objects and their references; pipes; polls; hand-over of a process; locks; /dev/shm. */
#include "setup.h"
#include "vos/fs/fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

static struct answer answer, other;

static int call(struct guest *g, uint32_t type, uint64_t w0, uint64_t w1, uint64_t w2, uint64_t w3) {
    uint64_t words[8] = {w0, w1, w2, w3};
    return fake_call(g->vos, g->pid, type, words, NULL, 0, -1, &answer);
}

static int64_t export(struct guest *g, int fd, uint32_t flags) {
    uint64_t words[8] = {FS_KIND_PIPE, flags};
    int status = fake_call(g->vos, g->pid, FS_EXPORT, words, NULL, 0, fd, &answer);
    return status < 0 ? status : (int64_t)answer.words[0];
}

/* As pm does at an exec elsewhere. */
static void move(struct guest *g, unsigned node) {
    uint64_t words[4] = {g->pid};
    static struct answer blob;
    assert_int_equal(fake_pm_call(g->vos, FS_S_EXPORTS, words, NULL, 0, &blob), 0);
    assert_int_equal(fake_pm_call(&vos[node - 1], FS_S_IMPORTS, words, blob.data, blob.len, &answer), 0);
    uint64_t creds[4] = {g->pid, 0, 0, 022};
    assert_int_equal(fake_pm_call(&vos[node - 1], FS_S_CREDS, creds, NULL, 0, &answer), 0);
    assert_int_equal(fake_pm_call(g->vos, FS_S_EXIT, words, NULL, 0, &answer), 0);
    g->vos = &vos[node - 1];
    fake_run(0);
}

static void end(struct guest *g) {
    uint64_t words[4] = {g->pid};
    assert_int_equal(fake_pm_call(g->vos, FS_S_EXIT, words, NULL, 0, &answer), 0);
    fake_run(0);
}

static int read_pipe(struct guest *g, int64_t handle, char *out, size_t len, bool now) {
    int status = call(g, FS_READ, (uint64_t)handle, len, (uint64_t)-1, now);
    if (status > 0)
        memcpy(out, answer.data, (size_t)status);
    return status;
}

static int write_pipe(struct guest *g, int64_t handle, const char *text) {
    uint64_t words[8] = {(uint64_t)handle, (uint64_t)-1};
    return fake_call(g->vos, g->pid, FS_WRITE, words, text, strlen(text), -1, &answer);
}

/* ---- pipes ---- */

static void test_pipe_between_nodes(void **state) {
    setup(3);
    struct guest reader = guest_on(1, 100), writer = guest_on(1, 101);
    int ends[2];
    char text[64];
    assert_int_equal(pipe(ends), 0);
    int64_t in = export(&reader, ends[0], 0), out = export(&writer, ends[1], 0);
    assert_true(in >= 0 && out >= 0);
    close(ends[0]);
    close(ends[1]);
    move(&reader, 2);
    move(&writer, 3);
    assert_int_equal(write_pipe(&writer, out, "hello"), 5);
    assert_int_equal(read_pipe(&reader, in, text, sizeof(text), false), 5);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(read_pipe(&reader, in, text, sizeof(text), true), -EAGAIN);
    /* Programs are told to use large buffers. */
    struct vos_stat st;
    assert_int_equal(call(&reader, FS_FSTAT, (uint64_t)in, 0, 0, 0), 0);
    memcpy(&st, answer.data, sizeof(st));
    assert_int_equal(st.st_blksize, DVK_DATA_MAX);
    /* A read waits for the writer. */
    uint64_t words[8] = {(uint64_t)in, 64, (uint64_t)-1};
    fake_request(reader.vos, reader.pid, FS_READ, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_false(other.done);
    assert_int_equal(write_pipe(&writer, out, "late"), 4);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, 4);
    /* The writer ends: end of file. */
    end(&writer);
    assert_int_equal(read_pipe(&reader, in, text, sizeof(text), false), 0);
    teardown();
}

/* ---- sockets ---- */

static int socket_call(struct guest *g, int64_t handle, uint64_t what, uint64_t option, const void *value, size_t len) {
    uint64_t words[8] = {(uint64_t)handle, what, option};
    return fake_call(g->vos, g->pid, FS_SOCKET, words, value, len, -1, &answer);
}

static void test_socket_between_nodes(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(1, 101);
    int ends[2], size = 0;
    char text[64];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    int64_t a = export(&one, ends[0], 0), b = export(&two, ends[1], 0);
    assert_true(a >= 0 && b >= 0);
    close(ends[0]);
    close(ends[1]);
    move(&one, 2);
    move(&two, 3);
    /* Messages keep their boundaries, also empty and cut ones. */
    assert_int_equal(write_pipe(&one, a, "first"), 5);
    assert_int_equal(write_pipe(&one, a, "second"), 6);
    assert_int_equal(call(&two, FS_READ, (uint64_t)b, 3, (uint64_t)-1, FS_READ_PEEK), 3);
    assert_int_equal(call(&two, FS_READ, (uint64_t)b, 3, (uint64_t)-1, 0), 3);
    assert_int_equal(answer.words[0], 5);
    assert_int_equal(read_pipe(&two, b, text, sizeof(text), false), 6);
    assert_memory_equal(text, "second", 6);
    assert_int_equal(read_pipe(&two, b, text, sizeof(text), true), -EAGAIN);
    /* A read waits; O_NONBLOCK is the socket's. */
    uint64_t words[8] = {(uint64_t)b, 64, (uint64_t)-1};
    fake_request(two.vos, two.pid, FS_READ, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_false(other.done);
    assert_int_equal(write_pipe(&one, a, "late"), 4);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, 4);
    assert_int_equal(call(&two, FS_SETFL, (uint64_t)b, O_NONBLOCK, 0, 0), 0);
    assert_int_equal(read_pipe(&two, b, text, sizeof(text), false), -EAGAIN);
    /* Options: only those that a guest has. */
    assert_int_equal(socket_call(&one, a, FS_SOCKET_GET, SO_SNDBUF, NULL, 0), 0);
    memcpy(&size, answer.data, sizeof(size));
    assert_true(size > 1000);
    assert_int_equal(socket_call(&one, a, FS_SOCKET_SET, SO_SNDBUFFORCE, &size, sizeof(size)), -ENOPROTOOPT);
    assert_int_equal(socket_call(&one, a, FS_SOCKET_SET, SO_SNDBUF, &size, sizeof(size)), 0);
    /* One direction ends, then the other. */
    assert_int_equal(socket_call(&one, a, FS_SOCKET_SHUTDOWN, SHUT_WR, NULL, 0), 0);
    assert_int_equal(read_pipe(&two, b, text, sizeof(text), false), 0);
    end(&two);
    assert_int_equal(write_pipe(&one, a, "x"), -EPIPE);
    teardown();
}

static void test_socket_of_other_kinds(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), internet = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr abstract = {.sa_family = AF_UNIX};
    if (internet >= 0)
        assert_int_equal(export(&g, internet, 0), -EOPNOTSUPP);
    assert_int_equal(bind(listening, &abstract, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(export(&g, listening, 0), -EOPNOTSUPP);
    close(listening);
    if (internet >= 0)
        close(internet);
    teardown();
}

static void test_pipe_without_reader(void **state) {
    setup(2);
    struct guest reader = guest_on(1, 100), writer = guest_on(1, 101);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int64_t out = export(&writer, ends[1], 0);
    export(&reader, ends[0], 0);
    close(ends[0]);
    close(ends[1]);
    move(&writer, 2);
    assert_int_equal(write_pipe(&writer, out, "x"), 1);
    end(&reader);
    assert_int_equal(write_pipe(&writer, out, "x"), -EPIPE);
    teardown();
}

static void test_pipe_exported_after_reader_left(void **state) {
    setup(2);
    struct guest writer = guest_on(1, 101);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    int64_t out = export(&writer, ends[1], 0);
    assert_true(out >= 0);
    close(ends[1]);
    assert_int_equal(write_pipe(&writer, out, "x"), -EPIPE);
    teardown();
}

static void test_writer_waits_for_room(void **state) {
    setup(2);
    struct guest writer = guest_on(1, 100);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int64_t out = export(&writer, ends[1], 0);
    close(ends[1]);
    move(&writer, 2);
    static char big[65536];
    uint64_t words[8] = {(uint64_t)out, (uint64_t)-1};
    for (int i = 0; i < 2; i++) {
        fake_request(writer.vos, writer.pid, FS_WRITE, words, big, sizeof(big), -1, &other);
        fake_run(0);
        if (!other.done)
            break;
        assert_true(other.status > 0);
    }
    assert_false(other.done); /* it is full */
    static char sink[200000];
    assert_true(read(ends[0], sink, 8192) == 8192);
    fake_run(0);
    assert_true(other.done);
    assert_true(other.status > 0);
    close(ends[0]);
    teardown();
}

static void test_cancelled_read(void **state) {
    setup(2);
    struct guest reader = guest_on(1, 100);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int64_t in = export(&reader, ends[0], 0);
    close(ends[0]);
    move(&reader, 2);
    uint64_t words[8] = {(uint64_t)in, 64, (uint64_t)-1};
    struct dvk_request *req = fake_request(reader.vos, reader.pid, FS_READ, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_false(other.done);
    fake_cancel(reader.vos, req);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, -EINTR);
    /* Nothing was taken. */
    assert_int_equal(write(ends[1], "abc", 3), 3);
    char text[8];
    assert_int_equal(read_pipe(&reader, in, text, 8, false), 3);
    close(ends[1]);
    teardown();
}

static void test_lost_node_drops_references(void **state) {
    setup(3);
    struct guest reader = guest_on(1, 100), writer = guest_on(1, 101);
    int ends[2];
    char text[8];
    assert_int_equal(pipe(ends), 0);
    int64_t in = export(&reader, ends[0], 0);
    export(&writer, ends[1], 0);
    close(ends[0]);
    close(ends[1]);
    move(&writer, 3);
    assert_int_equal(read_pipe(&reader, in, text, 8, true), -EAGAIN);
    fake_node_down(vos, 3, 3);
    fake_run(0);
    assert_int_equal(read_pipe(&reader, in, text, 8, true), 0);
    teardown();
}

/*
 * Objects that go with a node take with them those of the primary that list for them, which may be their neighbours in the table:
 * some are after it has grown, other ones in each round.
 */
static void test_lost_node_drops_directories(void **state) {
    static struct dc_file dirs[260];
    for (unsigned round = 0; round < 30; round++) {
        setup(3);
        struct guest reader = guest_on(2, 100);
        for (unsigned i = 0; i < round; i++) {
            assert_int_equal(dc_open(&reader, "/dev/shm", O_RDONLY | O_DIRECTORY, 0, &dirs[0]), 0);
            assert_int_equal(dc_close(&reader, &dirs[0]), 0);
        }
        for (unsigned i = 0; i < ARRAY_LENGTH(dirs); i++) {
            assert_int_equal(dc_open(&reader, "/dev/shm", O_RDONLY | O_DIRECTORY, 0, &dirs[i]), 0);
            assert_true(dc_list(&reader, &dirs[i], NULL, NULL) >= 0);
        }
        move(&reader, 3);
        fake_node_down(vos, 3, 3);
        fake_run(0);
        teardown();
    }
}

static void test_lost_owner(void **state) {
    setup(3);
    struct guest reader = guest_on(2, 100);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int64_t in = export(&reader, ends[0], 0);
    close(ends[0]);
    move(&reader, 3);
    uint64_t words[8] = {(uint64_t)in, 64, (uint64_t)-1};
    fake_request(reader.vos, reader.pid, FS_READ, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_false(other.done);
    fake_node_down(vos, 3, 2);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, -EIO);
    assert_int_equal(call(&reader, FS_READ, (uint64_t)in, 8, (uint64_t)-1, 0), -EIO);
    close(ends[1]);
    teardown();
}

static void test_regrant(void **state) {
    setup(2);
    struct guest g = guest_on(1, 100);
    int ends[2];
    char text[8];
    assert_int_equal(pipe(ends), 0);
    int64_t in = export(&g, ends[0], 0);
    move(&g, 2);
    uint64_t words[8] = {(uint64_t)in};
    assert_int_equal(fake_call(g.vos, g.pid, FS_REGRANT, words, NULL, 0, -1, &answer), -EAGAIN);
    move(&g, 1);
    assert_int_equal(fake_call(g.vos, g.pid, FS_REGRANT, words, NULL, 0, -1, &answer), FS_GRANT_FD);
    assert_true(answer.fd >= 0);
    assert_int_equal(fcntl(answer.fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(write(ends[1], "hi", 2), 2);
    assert_int_equal(read(answer.fd, text, 8), 2);
    close(answer.fd);
    assert_int_equal(call(&g, FS_CLOSE, (uint64_t)in, 0, 0, 0), -EBADF); /* the fd stands for it */
    close(ends[0]);
    close(ends[1]);
    teardown();
}

static void test_null_is_opened_anew(void **state) {
    setup(2);
    struct guest g = guest_on(1, 100);
    struct dc_file file;
    assert_int_equal(dc_open(&g, "/dev/null", O_RDWR, 0, &file), 0);
    assert_int_equal(file.kind, FS_KIND_CHAR);
    assert_int_equal(file.stat.st_rdev, makedev(1, 3));
    int64_t handle = export(&g, file.fd, O_RDWR);
    close(file.fd);
    move(&g, 2);
    uint64_t words[8] = {(uint64_t)handle};
    assert_int_equal(fake_call(g.vos, g.pid, FS_REGRANT, words, NULL, 0, -1, &answer), FS_GRANT_FD);
    close(answer.fd);
    teardown();
}

/* ---- handles ---- */

static void test_fork_shares(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    struct dc_file dir;
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    uint64_t words[4] = {200, 201};
    assert_int_equal(fake_pm_call(g.vos, FS_S_FORK, words, NULL, 0, &answer), 0);
    assert_int_equal(fake_pm_call(g.vos, FS_S_FORK, words, NULL, 0, &answer), -EEXIST);
    struct guest child = {g.vos, 201};
    assert_true(dc_list(&child, &dir, NULL, NULL) > 2);
    assert_int_equal(dc_list(&g, &dir, NULL, NULL), 0); /* one position for both */
    assert_int_equal(dc_close(&child, &dir), 0);
    assert_int_equal(dc_close(&child, &dir), -EBADF);
    assert_int_equal(call(&g, FS_LSEEK, (uint64_t)dir.handle, 0, SEEK_SET, 0), 0);
    assert_true(dc_list(&g, &dir, NULL, NULL) > 2);
    end(&child);
    assert_int_equal(dc_close(&g, &dir), 0);
    teardown();
}

static void test_bad_handles(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    static const uint64_t bad[] = {0, 1, 7, 65536, UINT32_MAX, UINT64_MAX, INT64_MAX, 1ull << 63};
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(call(&g, FS_READ, bad[i], 10, (uint64_t)-1, 0), -EBADF);
        assert_int_equal(call(&g, FS_CLOSE, bad[i], 0, 0, 0), -EBADF);
        assert_int_equal(call(&g, FS_GETDENTS, bad[i], 4096, 0, 0), -EBADF);
        uint64_t words[8] = {bad[i]};
        if ((int32_t)bad[i] != VOS_CWD)
            assert_int_equal(fake_call(g.vos, g.pid, FS_STAT, words, "f", 2, -1, &answer), -EBADF);
    }
    uint64_t words[8] = {(uint64_t)VOS_CWD};
    static char unended[5000];
    memset(unended, 'a', sizeof(unended));
    assert_int_equal(fake_call(g.vos, g.pid, FS_STAT, words, unended, 100, -1, &answer), -EINVAL);
    assert_int_equal(fake_call(g.vos, g.pid, FS_STAT, words, unended, 5000, -1, &answer), -ENAMETOOLONG);
    assert_int_equal(fake_call(g.vos, g.pid, FS_RENAME, words, "/a", 3, -1, &answer), -EINVAL);
    assert_int_equal(fake_call(g.vos, 999, FS_STAT, words, "/a", 3, -1, &answer), -ESRCH);
    assert_int_equal(fake_call(g.vos, g.pid, FS_S_FORK, words, NULL, 0, -1, &answer), -ENOSYS); /* pm's only */
    teardown();
}

static void test_remote_file(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file file, again;
    struct vos_stat st;
    char text[64];
    assert_int_equal(dc_open(&two, "/c/new", O_RDWR | O_CREAT, 0644, &file), 0);
    assert_true(file.handle >= 0);
    assert_int_equal(dc_write(&two, &file, "remote", 6), 6);
    assert_int_equal(dc_contents(&one, "/c/new", text, sizeof(text)), 6);
    assert_int_equal(dc_fstat(&two, &file, &st), 0);
    assert_int_equal(st.st_size, 6);
    struct vos_stat by_path;
    assert_int_equal(dc_stat(&one, "/c/new", true, &by_path), 0);
    assert_int_equal(st.st_ino, by_path.st_ino);
    assert_int_equal(st.st_dev, by_path.st_dev);
    assert_int_equal(call(&two, FS_LSEEK, (uint64_t)file.handle, 2, SEEK_SET, 0), 0);
    assert_int_equal(dc_read(&two, &file, text, 64), 4);
    assert_int_equal(call(&two, FS_FTRUNCATE, (uint64_t)file.handle, 3, 0, 0), 0);
    /* The host fd on the primary shows the same file. */
    assert_int_equal(dc_open(&one, "/c/new", O_RDONLY, 0, &again), 0);
    assert_true(again.fd >= 0);
    assert_int_equal(dc_fstat(&one, &again, &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_ino, by_path.st_ino);
    dc_close(&one, &again);
    dc_close(&two, &file);
    teardown();
}

/* ---- polls ---- */

static void test_poll_set(void **state) {
    setup(3);
    struct guest g = guest_on(1, 100);
    int a[2], b[2];
    assert_int_equal(pipe(a), 0);
    assert_int_equal(pipe(b), 0);
    int64_t first = export(&g, a[0], 0);
    move(&g, 2);
    int64_t second = export(&g, b[0], 0); /* one here, one at node 1 */
    struct vos_poll set[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
    uint64_t words[8] = {2, 0};
    uint32_t revents[2];
    assert_int_equal(fake_call(g.vos, g.pid, FS_POLL_SET, words, set, sizeof(set), -1, &answer), 0);
    words[1] = (uint64_t)-1;
    fake_request(g.vos, g.pid, FS_POLL_SET, words, set, sizeof(set), -1, &other);
    fake_run(0);
    assert_false(other.done);
    assert_int_equal(write(a[1], "x", 1), 1);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, 1);
    memcpy(revents, other.data, sizeof(revents));
    assert_int_equal(revents[0], POLLIN);
    assert_int_equal(revents[1], 0);
    /* a timeout */
    char text[8];
    assert_int_equal(read_pipe(&g, first, text, 8, false), 1);
    words[1] = 100;
    fake_request(g.vos, g.pid, FS_POLL_SET, words, set, sizeof(set), -1, &other);
    fake_run(1);
    assert_true(other.done);
    assert_int_equal(other.status, 0);
    /* a host fd beside them, and a cancellation */
    words[1] = (uint64_t)-1;
    struct dvk_request *req = fake_request(g.vos, g.pid, FS_POLL_SET, words, set, sizeof(set), -1, &other);
    fake_run(0);
    fake_cancel(g.vos, req);
    fake_run(0);
    assert_int_equal(other.status, -EINTR);
    int c[2];
    assert_int_equal(pipe(c), 0);
    fake_request(g.vos, g.pid, FS_POLL_SET, words, set, sizeof(set), c[0], &other);
    fake_run(0);
    assert_false(other.done);
    close(c[1]);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.words[0], 1);
    close(c[0]);
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
    teardown();
}

/* ---- locks ---- */

static int lock(struct guest *g, int fd, int64_t handle, uint64_t command, uint64_t type, uint64_t start, uint64_t len,
                struct answer *out) {
    uint64_t words[8] = {(uint64_t)handle, command, type, start, len};
    return fake_call(g->vos, g->pid, FS_LOCK, words, NULL, 0, fd, out);
}

static void test_record_locks(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200), three = guest_on(3, 300);
    struct dc_file a, b, c;
    assert_int_equal(dc_open(&one, "/c/f", O_RDWR, 0, &a), 0);
    assert_int_equal(dc_open(&two, "/c/f", O_RDWR, 0, &b), 0);
    assert_int_equal(dc_open(&three, "/c/f", O_RDWR, 0, &c), 0);
    assert_true(a.fd >= 0 && b.fd < 0 && c.fd < 0);
    assert_int_equal(lock(&one, a.fd, -1, 1, F_WRLCK, 10, 10, &answer), 0);
    assert_int_equal(lock(&two, -1, b.handle, 1, F_RDLCK, 15, 1, &answer), -EAGAIN);
    assert_int_equal(lock(&two, -1, b.handle, 1, F_RDLCK, 20, 5, &answer), 0);
    assert_int_equal(lock(&three, -1, c.handle, 0, F_WRLCK, 0, 0, &answer), 0);
    assert_true(answer.words[0] != F_UNLCK);
    assert_true(answer.words[3] == 100 || answer.words[3] == 200);
    /* split in the middle */
    assert_int_equal(lock(&one, a.fd, -1, 1, F_UNLCK, 12, 2, &answer), 0);
    assert_int_equal(lock(&two, -1, b.handle, 1, F_WRLCK, 12, 2, &answer), 0);
    assert_int_equal(lock(&two, -1, b.handle, 1, F_WRLCK, 12, 3, &answer), -EAGAIN);
    /* waiting, and a deadlock */
    uint64_t words[8] = {(uint64_t)b.handle, 2, F_WRLCK, 10, 1};
    fake_request(two.vos, two.pid, FS_LOCK, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_false(other.done);
    assert_int_equal(lock(&one, a.fd, -1, 2, F_WRLCK, 12, 1, &answer), -EDEADLK);
    /* the end of a process frees its locks */
    end(&one);
    fake_run(0);
    assert_true(other.done);
    assert_int_equal(other.status, 0);
    assert_int_equal(lock(&three, -1, c.handle, 1, F_WRLCK, 10, 1, &answer), -EAGAIN);
    end(&two);
    assert_int_equal(lock(&three, -1, c.handle, 1, F_WRLCK, 0, 0, &answer), 0);
    fake_node_down(vos, 3, 3);
    struct guest four = guest_on(1, 101);
    assert_int_equal(lock(&four, a.fd, -1, 1, F_WRLCK, 0, 0, &answer), 0);
    close(a.fd);
    teardown();
}

/* Two read a directory that the primary must list from now on, at the same time: one listing is made for both, and none stays. */
static void test_two_readers_of_a_directory(void **state) {
    setup(2);
    struct guest writer = guest_on(1, 100), reader = guest_on(2, 200);
    struct fs *primary = vos[0].state[DVK_SERVICE_FS];
    struct dc_file dir, file;
    struct vos_stat st;
    assert_int_equal(dc_stat(&reader, "/a/f", true, &st), 0);
    size_t before = primary->objects.count;
    assert_int_equal(dc_open(&reader, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    assert_int_equal(primary->objects.count, before);
    assert_int_equal(dc_open(&writer, "/a/new", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&writer, &file);
    uint64_t words[8] = {(uint64_t)dir.handle, 4096};
    fake_request(reader.vos, reader.pid, FS_GETDENTS, words, NULL, 0, -1, &answer);
    fake_request(reader.vos, reader.pid, FS_GETDENTS, words, NULL, 0, -1, &other);
    fake_run(0);
    assert_true(answer.done && other.done);
    assert_true(answer.status >= 0 && other.status >= 0);
    assert_true(answer.len + other.len > 0);
    assert_true(!answer.len || !other.len);
    dc_close(&reader, &dir);
    fake_run(0);
    assert_int_equal(primary->objects.count, before);
    teardown();
}

static void test_locks_survive_a_move(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file a, b;
    assert_int_equal(dc_open(&one, "/c/f", O_RDWR, 0, &a), 0);
    assert_int_equal(dc_open(&two, "/c/f", O_RDWR, 0, &b), 0);
    assert_int_equal(lock(&two, -1, b.handle, 1, F_WRLCK, 0, 0, &answer), 0);
    move(&two, 3);
    assert_int_equal(lock(&one, a.fd, -1, 1, F_WRLCK, 0, 0, &answer), -EAGAIN);
    end(&two);
    assert_int_equal(lock(&one, a.fd, -1, 1, F_WRLCK, 0, 0, &answer), 0);
    close(a.fd);
    teardown();
}

static void test_image_locks_meet(void **state) {
    setup(3);
    struct guest two = guest_on(2, 200), three = guest_on(3, 300);
    struct dc_file a, b;
    assert_int_equal(dc_open(&two, "/a/f", O_RDONLY, 0, &a), 0);
    assert_int_equal(dc_open(&three, "/a/f", O_RDONLY, 0, &b), 0);
    assert_int_equal(lock(&two, a.fd, -1, 1, F_WRLCK, 0, 0, &answer), 0);
    assert_int_equal(lock(&three, b.fd, -1, 1, F_RDLCK, 0, 0, &answer), -EAGAIN);
    end(&two);
    assert_int_equal(lock(&three, b.fd, -1, 1, F_RDLCK, 0, 0, &answer), 0);
    close(a.fd);
    close(b.fd);
    teardown();
}

static void test_flock(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file a, b, dir, same;
    assert_int_equal(dc_open(&one, "/c/f", O_RDWR, 0, &a), 0);
    assert_int_equal(dc_open(&two, "/c/f", O_RDWR, 0, &b), 0);
    assert_int_equal(lock(&one, a.fd, -1, 3, LOCK_EX, 0, 0, &answer), 0);
    assert_int_equal(lock(&two, -1, b.handle, 3, LOCK_EX | LOCK_NB, 0, 0, &answer), -EAGAIN);
    uint64_t words[8] = {(uint64_t)b.handle, 3, LOCK_EX};
    fake_request(two.vos, two.pid, FS_LOCK, words, NULL, 0, -1, &other);
    fake_run(3);
    assert_false(other.done);
    close(a.fd); /* the host's own description ends, and its lock with it */
    fake_run(3);
    assert_true(other.done);
    assert_int_equal(other.status, 0);
    /* a directory */
    assert_int_equal(dc_open(&one, "/c", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    assert_int_equal(dc_open(&one, "/c", O_RDONLY | O_DIRECTORY, 0, &same), 0);
    assert_int_equal(lock(&one, -1, dir.handle, 3, LOCK_EX, 0, 0, &answer), 0);
    assert_int_equal(lock(&one, -1, same.handle, 3, LOCK_SH | LOCK_NB, 0, 0, &answer), -EAGAIN);
    assert_int_equal(dc_close(&one, &dir), 0);
    assert_int_equal(lock(&one, -1, same.handle, 3, LOCK_SH | LOCK_NB, 0, 0, &answer), 0);
    teardown();
}

/* ---- /dev/shm ---- */

static void test_shm(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200), three = guest_on(3, 300);
    struct dc_file made, there, far;
    struct vos_stat st;
    assert_int_equal(dc_open(&two, "/dev/shm/sem.tmp", O_RDWR | O_CREAT | O_EXCL, 0600, &made), 0);
    assert_true(made.fd >= 0); /* the data is where it was made: it can be mapped shared there */
    assert_int_equal(ftruncate(made.fd, 4096), 0);
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    strcpy(memory, "shared");
    assert_int_equal(dc_path2(&two, FS_LINK, "/dev/shm/sem.tmp", "/dev/shm/sem.x", 0), 0);
    assert_int_equal(dc_path(&two, FS_UNLINK, "/dev/shm/sem.tmp", 0, 0, 0), 0);
    assert_int_equal(dc_open(&two, "/dev/shm/sem.x", O_RDWR, 0, &there), 0);
    assert_true(there.fd >= 0);
    dc_close(&two, &there);
    char text[16];
    assert_int_equal(dc_open(&three, "/dev/shm/sem.x", O_RDONLY, 0, &far), 0);
    assert_int_equal(dc_read(&three, &far, text, 6), 6);
    assert_memory_equal(text, "shared", 6);
    dc_close(&three, &far);
    assert_int_equal(dc_stat(&one, "/dev/shm/sem.x", true, &st), 0);
    assert_int_equal(st.st_size, 4096);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(dc_open(&three, "/dev/shm/.dvs.id.20000000001", O_RDONLY, 0, &far), -ENOENT);
    assert_int_equal(dc_open(&three, "/dev/shm", O_RDONLY | O_DIRECTORY, 0, &far), 0);
    assert_int_equal(dc_list(&three, &far, NULL, NULL), 3);
    assert_int_equal(dc_path(&one, FS_UNLINK, "/dev/shm/sem.x", 0, 0, 0), 0);
    fake_run(0);
    assert_int_equal(dc_stat(&two, "/dev/shm/sem.x", true, &st), -ENOENT);
    munmap(memory, 4096);
    dc_close(&two, &made);
    struct statfs room; /* who asks whether it has room is not told that it has none */
    assert_int_equal(fake_call(two.vos, two.pid, FS_STATFS, (const uint64_t[8]){(uint64_t)VOS_CWD}, "/dev/shm", 9, -1, &answer), 0);
    memcpy(&room, answer.data, sizeof(room));
    assert_true(room.f_bavail > 0 && room.f_bavail <= room.f_blocks && room.f_type == 0x01021994);
    teardown();
}

int main(void) {
    if (geteuid() != 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipe_between_nodes),
        cmocka_unit_test(test_pipe_without_reader), cmocka_unit_test(test_socket_between_nodes),
        cmocka_unit_test(test_socket_of_other_kinds),
        cmocka_unit_test(test_pipe_exported_after_reader_left),
        cmocka_unit_test(test_writer_waits_for_room),
        cmocka_unit_test(test_cancelled_read),
        cmocka_unit_test(test_lost_node_drops_references),
        cmocka_unit_test(test_lost_node_drops_directories),
        cmocka_unit_test(test_lost_owner),
        cmocka_unit_test(test_regrant),
        cmocka_unit_test(test_null_is_opened_anew),
        cmocka_unit_test(test_fork_shares),
        cmocka_unit_test(test_bad_handles),
        cmocka_unit_test(test_remote_file),
        cmocka_unit_test(test_poll_set),
        cmocka_unit_test(test_record_locks),
        cmocka_unit_test(test_locks_survive_a_move),
        cmocka_unit_test(test_image_locks_meet),
        cmocka_unit_test(test_flock),
        cmocka_unit_test(test_two_readers_of_a_directory),
        cmocka_unit_test(test_shm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
