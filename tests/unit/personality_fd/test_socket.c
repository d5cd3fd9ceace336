/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of sockets, each test with both ends here and with one or both as handles. */
#include "fake_host.h"
#include "personality/fd/calls.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* As after a move to another node. */
static void make_handle(struct task *task, int vfd) {
    struct file *file = task_fds(task)->entry[vfd].file;
    struct rpc rpc;
    fs_prepare(&rpc, FS_EXPORT);
    rpc.send_fds = &file->host_fd;
    rpc.send_fd_count = 1;
    assert_int_equal(fs_call(task, &rpc), 0);
    close(file->host_fd);
    file->host_fd = -1;
    file->handle = rpc.message.payload.ints[0];
}

/* handles: bit 0 the first, bit 1 the second end. */
static void pair(struct task *task, int type, unsigned handles, int ends[2]) {
    assert_int_equal(GUEST(sys_socketpair, AF_UNIX, (uint64_t)type, 0, ADDRESS(ends)), 0);
    for (int i = 0; i < 2; i++)
        if (handles >> i & 1)
            make_handle(task, ends[i]);
}

static long send_text(struct task *task, int end, const char *text, unsigned flags) {
    return GUEST(sys_sendto, (uint64_t)end, ADDRESS(text), strlen(text), flags, 0, 0);
}

static long receive(struct task *task, int end, void *to, size_t len, unsigned flags) {
    return GUEST(sys_recvfrom, (uint64_t)end, ADDRESS(to), len, flags, 0, 0);
}

static void stream(unsigned handles) {
    unsigned before = fake_host_fds();
    struct task *task = fake_start();
    int ends[2], value;
    char text[64], *large = malloc(300000);
    pair(task, SOCK_STREAM, handles, ends);
    assert_int_equal(send_text(task, ends[0], "one", 0), 3);
    assert_int_equal(GUEST(sys_write, (uint64_t)ends[0], ADDRESS("two"), 3), 3);
    assert_int_equal(GUEST(sys_ioctl, (uint64_t)ends[1], FIONREAD, ADDRESS(&value)), handles & 2 ? -EOPNOTSUPP : 0);
    assert_int_equal(receive(task, ends[1], text, 2, MSG_PEEK), 2);
    assert_int_equal(receive(task, ends[1], text, 4, MSG_WAITALL), 4);
    assert_memory_equal(text, "onet", 4);
    assert_int_equal(GUEST(sys_read, (uint64_t)ends[1], ADDRESS(text), 64), 2);
    assert_int_equal(receive(task, ends[1], text, 1, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)ends[1], F_SETFL, O_NONBLOCK), 0);
    assert_true(GUEST(sys_fcntl, (uint64_t)ends[1], F_GETFL) & O_NONBLOCK);
    assert_int_equal(GUEST(sys_read, (uint64_t)ends[1], ADDRESS(text), 64), -EAGAIN);
    /* More than fits, without waiting. */
    long put = GUEST(sys_sendto, (uint64_t)ends[0], ADDRESS(large), 300000, MSG_DONTWAIT, 0, 0);
    assert_true(put > 0 && put < 300000);
    for (long got = 0; got < put;) {
        long n = GUEST(sys_read, (uint64_t)ends[1], ADDRESS(large), 300000);
        assert_true(n > 0);
        got += n;
    }
    /* One direction ends, then the other. */
    assert_int_equal(GUEST(sys_shutdown, (uint64_t)ends[0], SHUT_WR), 0);
    assert_int_equal(receive(task, ends[1], text, 1, 0), 0);
    assert_int_equal(send_text(task, ends[1], "back", 0), 4);
    assert_int_equal(receive(task, ends[0], text, 64, 0), 4);
    GUEST(sys_close, (uint64_t)ends[0]);
    fake.raised = 0;
    assert_int_equal(send_text(task, ends[1], "x", MSG_NOSIGNAL), -EPIPE);
    assert_int_equal(fake.raised, 0);
    if (handles & 2) { /* else the host raises it */
        assert_int_equal(send_text(task, ends[1], "x", 0), -EPIPE);
        assert_int_equal(fake.raised, SIGPIPE);
    }
    free(large);
    fake_stop(task);
    assert_int_equal(fake_host_fds(), before);
}

static void messages(int type, unsigned handles) {
    struct task *task = fake_start();
    int ends[2], value, length = sizeof(value);
    char text[64], more[64], *large = calloc(1, DVK_DATA_MAX + 1);
    pair(task, type, handles, ends);
    struct iovec parts[] = {{"par", 3}, {"ts", 2}}, room[] = {{text, 1}, {more, 3}};
    struct msghdr out = {.msg_iov = parts, .msg_iovlen = 2}, in = {.msg_iov = room, .msg_iovlen = 2, .msg_flags = 99};
    assert_int_equal(GUEST(sys_sendmsg, (uint64_t)ends[0], ADDRESS(&out), 0), 5);
    assert_int_equal(GUEST(sys_writev, (uint64_t)ends[0], ADDRESS(parts), 2), 5);
    assert_int_equal(send_text(task, ends[0], "", 0), 0);
    assert_int_equal(send_text(task, ends[0], "last", 0), 4);
    assert_int_equal(GUEST(sys_recvmsg, (uint64_t)ends[1], ADDRESS(&in), MSG_PEEK), 4);
    assert_int_equal(in.msg_flags & MSG_TRUNC, MSG_TRUNC);
    assert_int_equal(GUEST(sys_recvmsg, (uint64_t)ends[1], ADDRESS(&in), MSG_TRUNC), 5);
    assert_memory_equal(more, "art", 3);
    assert_int_equal(receive(task, ends[1], text, 2, MSG_TRUNC), 5);
    assert_int_equal(receive(task, ends[1], text, 64, 0), 0);
    assert_int_equal(receive(task, ends[1], text, 64, 0), 4);
    if (handles & 1)
        assert_int_equal(GUEST(sys_write, (uint64_t)ends[0], ADDRESS(large), DVK_DATA_MAX + 1), -EMSGSIZE);
    assert_int_equal(GUEST(sys_getsockopt, (uint64_t)ends[0], SOL_SOCKET, SO_TYPE, ADDRESS(&value), ADDRESS(&length)), 0);
    assert_int_equal(value, type);

    /* Several at once. */
    struct mmsghdr many[3] = {{.msg_hdr = out}, {.msg_hdr = out}, {.msg_hdr = out}};
    assert_int_equal(GUEST(sys_sendmmsg, (uint64_t)ends[0], ADDRESS(many), 3, 0), 3);
    assert_int_equal(many[2].msg_len, 5);
    for (int i = 0; i < 3; i++)
        many[i].msg_hdr = (struct msghdr){.msg_iov = room, .msg_iovlen = 2};
    assert_int_equal(GUEST(sys_recvmmsg, (uint64_t)ends[1], ADDRESS(many), 2, 0, 0), 2);
    assert_int_equal(GUEST(sys_recvmmsg, (uint64_t)ends[1], ADDRESS(many), 3, MSG_WAITFORONE, 0), 1);
    assert_int_equal(many[0].msg_len, 4);
    free(large);
    fake_stop(task);
}

static void test_stream(void **state) {
    for (unsigned handles = 0; handles < 4; handles++)
        stream(handles);
}
static void test_messages(void **state) {
    for (unsigned handles = 0; handles < 4; handles++) {
        messages(SOCK_SEQPACKET, handles);
        messages(SOCK_DGRAM, handles);
    }
}

static void test_arguments(void **state) {
    struct task *task = fake_start();
    int ends[2], pipe[2], value = 0, length = 100;
    struct sockaddr address = {.sa_family = AF_UNIX};
    assert_int_equal(GUEST(sys_socketpair, AF_INET, SOCK_STREAM, 0, ADDRESS(ends)), -EAFNOSUPPORT);
    assert_int_equal(GUEST(sys_socketpair, AF_UNIX, 77, 0, ADDRESS(ends)), -EINVAL);
    assert_int_equal(GUEST(sys_socketpair, AF_UNIX, SOCK_RDM, 0, ADDRESS(ends)), -ESOCKTNOSUPPORT);
    assert_int_equal(GUEST(sys_socketpair, AF_UNIX, SOCK_STREAM, 6, ADDRESS(ends)), -EPROTONOSUPPORT);
    assert_int_equal(GUEST(sys_socketpair, AF_UNIX, SOCK_STREAM, 0, 1), -EFAULT);
    pair(task, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
    assert_int_equal(ends[0], 0); /* nothing was left behind */
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)ends[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(receive(task, ends[0], &value, 1, 0), -EAGAIN);
    assert_int_equal(GUEST(sys_sendto, (uint64_t)ends[0], ADDRESS("x"), 1, 0, ADDRESS(&address), 2), -EISCONN);
    assert_int_equal(GUEST(sys_pipe, ADDRESS(pipe)), 0);
    assert_int_equal(send_text(task, pipe[1], "x", 0), -ENOTSOCK);
    assert_int_equal(send_text(task, 50, "x", 0), -EBADF);
    assert_int_equal(GUEST(sys_no_names, (uint64_t)ends[0], 1), -EOPNOTSUPP);
    assert_int_equal(GUEST(sys_no_names, (uint64_t)pipe[0], ADDRESS(&address), 2), -ENOTSOCK);
    assert_int_equal(GUEST(sys_lseek, (uint64_t)ends[0], 0, SEEK_SET), -ESPIPE);
    assert_int_equal(GUEST(sys_getpeername, (uint64_t)ends[0], ADDRESS(&address), ADDRESS(&length)), 0);
    assert_int_equal(length, 2);
    struct stat stat;
    assert_int_equal(GUEST(sys_fstat, (uint64_t)ends[0], ADDRESS(&stat)), 0);
    assert_true(S_ISSOCK(stat.st_mode));
    fake_stop(task);
}

static void options(unsigned handles) {
    struct task *task = fake_start();
    int ends[2], value, length = sizeof(value);
    struct timeval time = {0, 20000}, got = {0};
    char byte;
    pair(task, SOCK_STREAM, handles, ends);
    uint64_t end = (uint64_t)ends[0];
    static const int read_only[][2] = {{SO_TYPE, SOCK_STREAM}, {SO_DOMAIN, AF_UNIX}, {SO_PROTOCOL, 0}, {SO_ERROR, 0}, {SO_ACCEPTCONN, 0}};
    for (unsigned i = 0; i < 5; i++) {
        value = 77;
        assert_int_equal(GUEST(sys_getsockopt, end, SOL_SOCKET, (uint64_t)read_only[i][0], ADDRESS(&value), ADDRESS(&length)), 0);
        assert_int_equal(value, read_only[i][1]);
    }
    value = 10000;
    assert_int_equal(GUEST(sys_setsockopt, end, SOL_SOCKET, SO_SNDBUF, ADDRESS(&value), sizeof(value)), 0);
    assert_int_equal(GUEST(sys_getsockopt, end, SOL_SOCKET, SO_SNDBUF, ADDRESS(&value), ADDRESS(&length)), 0);
    assert_int_equal(value, 20000);
    assert_int_equal(GUEST(sys_setsockopt, end, SOL_SOCKET, SO_RCVTIMEO, ADDRESS(&time), sizeof(time)), 0);
    length = sizeof(got);
    assert_int_equal(GUEST(sys_getsockopt, end, SOL_SOCKET, SO_RCVTIMEO, ADDRESS(&got), ADDRESS(&length)), 0);
    assert_int_equal(got.tv_usec, 20000);
    if (!handles)
        assert_int_equal(receive(task, ends[0], &byte, 1, 0), -EAGAIN);
    assert_int_equal(GUEST(sys_setsockopt, end, SOL_SOCKET, SO_SNDBUFFORCE, ADDRESS(&value), 4), -ENOPROTOOPT);
    assert_int_equal(GUEST(sys_setsockopt, end, SOL_SOCKET, SO_SNDBUF, ADDRESS(&value), 2), -EINVAL);
    assert_int_equal(GUEST(sys_setsockopt, end, 6, 1, ADDRESS(&value), 4), -EOPNOTSUPP);
    struct ucred peer;
    length = sizeof(peer);
    assert_int_equal(GUEST(sys_getsockopt, end, SOL_SOCKET, SO_PEERCRED, ADDRESS(&peer), ADDRESS(&length)), 0);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    fake_stop(task);
}

static void test_options(void **state) {
    options(0);
    options(3);
}

static void readiness(unsigned handles) {
    struct task *task = fake_start();
    int ends[2];
    pair(task, SOCK_STREAM, handles, ends);
    struct pollfd fds[2] = {{ends[0], POLLIN | POLLOUT, 0}, {ends[1], POLLIN | POLLRDHUP, 0}};
    assert_int_equal(GUEST(sys_poll, ADDRESS(fds), 2, 0), 1);
    assert_int_equal(fds[0].revents, POLLOUT);
    send_text(task, ends[0], "x", 0);
    long set = GUEST(sys_epoll_create1, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 42}, got;
    assert_int_equal(GUEST(sys_epoll_ctl, (uint64_t)set, EPOLL_CTL_ADD, (uint64_t)ends[1], ADDRESS(&event)), 0);
    assert_int_equal(GUEST(sys_epoll_wait, (uint64_t)set, ADDRESS(&got), 1, (uint64_t)-1), 1);
    assert_int_equal(got.data.u64, 42);
    GUEST(sys_close, (uint64_t)ends[0]);
    assert_int_equal(GUEST(sys_poll, ADDRESS(&fds[1]), 1, 1000), 1);
    assert_int_equal(fds[1].revents, POLLIN | POLLRDHUP | POLLHUP);
    fake_stop(task);
}

static void test_readiness(void **state) {
    for (unsigned handles = 0; handles < 4; handles++)
        readiness(handles);
}

/* ---- ancillary data ---- */

union control_space {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(8 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

static long send_fds(struct task *task, int end, const int *fds, unsigned count) {
    union control_space control = {0};
    struct iovec part = {"f", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return GUEST(sys_sendmsg, (uint64_t)end, ADDRESS(&message), 0);
}

/* How many came; flags: of the message. */
static int receive_fds(struct task *task, int end, int *fds, int *flags, size_t room) {
    union control_space control = {0};
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = room};
    assert_int_equal(GUEST(sys_recvmsg, (uint64_t)end, ADDRESS(&message), MSG_CMSG_CLOEXEC), 1);
    *flags = message.msg_flags;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    size_t bytes = header->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(header), bytes);
    return (int)(bytes / sizeof(int));
}

static void test_rights(void **state) {
    unsigned before = fake_host_fds();
    struct task *task = fake_start();
    int ends[2], other[2], pipe[2], fds[8], flags;
    char text[16];
    pair(task, SOCK_STREAM, 0, ends);
    pair(task, SOCK_DGRAM, 0, other);
    assert_int_equal(GUEST(sys_pipe, ADDRESS(pipe)), 0);
    long null = GUEST(sys_open, ADDRESS("/dev/null"), O_RDWR);
    int sent[] = {pipe[1], other[0], (int)null};
    assert_int_equal(send_fds(task, ends[0], sent, 3), 1);
    GUEST(sys_close, (uint64_t)pipe[1]);
    assert_int_equal(receive_fds(task, ends[1], fds, &flags, sizeof(union control_space)), 3);
    assert_int_equal(flags & MSG_CTRUNC, 0);
    assert_int_equal(fds[0], pipe[1]); /* the lowest that is free */
    assert_int_equal(GUEST(sys_fcntl, (uint64_t)fds[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(GUEST(sys_write, (uint64_t)fds[0], ADDRESS("passed"), 6), 6);
    assert_int_equal(GUEST(sys_read, (uint64_t)pipe[0], ADDRESS(text), 16), 6);
    assert_int_equal(task_fds(task)->entry[fds[1]].file->kind, FS_KIND_SOCKET);
    assert_int_equal(task_fds(task)->entry[fds[1]].file->open_flags, FS_O_DGRAM);
    assert_int_equal(task_fds(task)->entry[fds[2]].file->kind, FS_KIND_CHAR);

    /* What no room was given for, in the message or in the table, is closed. */
    unsigned open = fake_host_fds();
    assert_int_equal(send_fds(task, ends[0], sent + 1, 2), 1);
    assert_int_equal(receive_fds(task, ends[1], fds, &flags, CMSG_LEN(sizeof(int))), 1);
    assert_true(flags & MSG_CTRUNC);
    GUEST(sys_close, (uint64_t)fds[0]);
    assert_int_equal(send_fds(task, ends[0], sent + 1, 2), 1);
    fd_limit_set(task->process, (uint64_t)fds[0] + 1);
    assert_int_equal(receive_fds(task, ends[1], fds, &flags, sizeof(union control_space)), 1);
    assert_true(flags & MSG_CTRUNC);
    GUEST(sys_close, (uint64_t)fds[0]);
    assert_int_equal(send_fds(task, ends[0], sent + 1, 2), 1);
    assert_int_equal(receive(task, ends[1], text, 1, 0), 1);
    assert_int_equal(fake_host_fds(), open);

    /* What cannot be passed. */
    long directory = GUEST(sys_open, ADDRESS("/tmp"), O_RDONLY);
    assert_int_equal(send_fds(task, ends[0], &(int){(int)directory}, 1), -EOPNOTSUPP);
    assert_int_equal(send_fds(task, ends[0], &(int){50}, 1), -EBADF);
    make_handle(task, ends[0]);
    assert_int_equal(send_fds(task, ends[0], sent, 1), -EOPNOTSUPP);
    fake_stop(task);
    assert_int_equal(fake_host_fds(), before);
}

static void test_credentials(void **state) {
    struct task *task = fake_start();
    int ends[2], on = 1;
    char byte;
    pair(task, SOCK_SEQPACKET, 0, ends);
    assert_int_equal(GUEST(sys_setsockopt, (uint64_t)ends[1], SOL_SOCKET, SO_PASSCRED, ADDRESS(&on), sizeof(on)), 0);
    send_text(task, ends[0], "x", 0);
    union control_space control;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    assert_int_equal(GUEST(sys_recvmsg, (uint64_t)ends[1], ADDRESS(&message), 0), 1);
    struct ucred sender;
    memcpy(&sender, CMSG_DATA(&control.header), sizeof(sender));
    assert_int_equal(control.header.cmsg_type, SCM_CREDENTIALS);
    assert_int_equal(sender.pid, getpid());
    assert_int_equal(sender.uid, geteuid());
    /* Nonsense in the control data is refused. */
    control.header = (struct cmsghdr){.cmsg_len = 3, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    message.msg_controllen = 64;
    assert_int_equal(GUEST(sys_sendmsg, (uint64_t)ends[0], ADDRESS(&message), 0), -EINVAL);
    control.header.cmsg_len = 1000;
    assert_int_equal(GUEST(sys_sendmsg, (uint64_t)ends[0], ADDRESS(&message), 0), -EINVAL);
    message.msg_controllen = 1 << 20;
    assert_int_equal(GUEST(sys_sendmsg, (uint64_t)ends[0], ADDRESS(&message), 0), -ENOBUFS);
    fake_stop(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),    cmocka_unit_test(test_messages), cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_options),   cmocka_unit_test(test_readiness), cmocka_unit_test(test_rights),
        cmocka_unit_test(test_credentials),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
