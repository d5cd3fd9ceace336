/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on open objects: FS_READ, FS_WRITE, FS_LSEEK, FS_FTRUNCATE, FS_FSYNC, FS_FALLOCATE, FS_IOCTL, FS_POLL, FS_SETFL.
 *
 * Pipes have an open file description of our own with O_NONBLOCK, and sockets are used with MSG_DONTWAIT (socket.c), so that
 * nothing here blocks; who has to wait is in object->waiters, in order of arrival, and the fd is watched for what the first ones wait for.
 */
#include "vos/fs/fs.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

/* ---- waiting ---- */

static uint32_t events_of(const struct op *op) {
    if (op->type == FS_READ)
        return EPOLLIN;
    if (op->type == FS_WRITE)
        return EPOLLOUT;
    return (uint32_t)op->words[1] & (POLLIN | POLLPRI | POLLOUT | POLLRDHUP);
}

static void on_events(void *context, int fd, uint32_t events);

static void watch(struct fs *fs, struct object *object) {
    uint32_t events = 0;
    for (const struct op *op = object->waiters; op; op = op->wait_next)
        events |= events_of(op) | EPOLLERR; /* something, so that a poll for errors alone is watched too */
    if (events == object->watched)
        return;
    int error = dvk_watch_fd(fs->vos->dvk, object->fd, events, on_events, object);
    if (error < 0)
        log_error("fs: cannot watch a descriptor: %d", error);
    else
        object->watched = events;
}

static void waiter_unlink(struct op *op) {
    struct object *object = op->object;
    for (struct op **p = &object->waiters; *p; p = &(*p)->wait_next)
        if (*p == op) {
            *p = op->wait_next;
            break;
        }
    op->cancel = NULL;
}

static void io_cancel(struct op *op) {
    struct fs *fs = op->fs;
    struct object *object = op->object;
    waiter_unlink(op);
    watch(fs, object);
    op_finish(op, -EINTR);
}

void io_wait(struct op *op, struct object *object) {
    struct op **p = &object->waiters;
    while (*p)
        p = &(*p)->wait_next;
    *p = op;
    op->wait_next = NULL;
    op->cancel = io_cancel;
    watch(op->fs, object);
}

/* Each one that waited tries again; those that must wait on queue up as before. */
static void on_events(void *context, int fd, uint32_t events) {
    struct object *object = context;
    struct op *list = object->waiters;
    if (!list)
        return;
    struct fs *fs = list->fs;
    object_hold(object);
    object->waiters = NULL;
    while (list) {
        struct op *op = list;
        list = op->wait_next;
        op->cancel = NULL;
        op_run(op); /* if it has to wait again it appends itself */
    }
    watch(fs, object);
    object_drop(fs, object);
}

void io_close(struct fs *fs, struct object *object) {
    if (object->watched)
        dvk_watch_fd(fs->vos->dvk, object->fd, 0, NULL, NULL);
    object->watched = 0;
    if (object->fd >= 0)
        close(object->fd);
    object->fd = -1;
}

/* ---- read and write ---- */

static bool is_stream(const struct object *object) {
    return object->kind == FS_KIND_PIPE || object->kind == FS_KIND_SOCKET;
}

/* Checks that hold for all operations on data. */
static int data_object(struct object *object, int mode) {
    switch (object->kind) {
    case FS_KIND_DIR: return mode == O_RDONLY ? -EISDIR : -EBADF;
    case FS_KIND_PATH: return -EBADF;
    default: break;
    }
    int access_mode = (int)(object->status_flags & O_ACCMODE);
    return access_mode == mode || access_mode == O_RDWR ? 0 : -EBADF;
}

/* An operation of a stream would block: wait, or say so. */
static int would_block(struct op *op, bool do_not_block) {
    if (op->object->kind == FS_KIND_SOCKET)
        do_not_block = do_not_block || socket_never_blocks(op->object);
    else
        do_not_block = do_not_block || op->object->status_flags & O_NONBLOCK;
    if (do_not_block)
        return -EAGAIN;
    if (op->cancelled)
        return -EINTR;
    io_wait(op, op->object);
    return FS_PENDING;
}

int do_read(struct op *op) {
    struct object *object = op->object;
    if (object->kind == FS_KIND_TTY)
        return tty_forward(op);
    int error = data_object(object, O_RDONLY);
    if (error < 0)
        return error;
    int64_t offset = (int64_t)op->words[2];
    size_t length = op->words[1] < op->out_cap ? (size_t)op->words[1] : op->out_cap;
    if (is_stream(object) && offset >= 0)
        return -ESPIPE;
    ssize_t n = object->kind == FS_KIND_SOCKET ? socket_read(op, length)
                : offset < 0                   ? read(object->fd, op->out_data, length)
                                               : pread(object->fd, op->out_data, length, offset);
    if (n < 0 && errno == EAGAIN)
        return would_block(op, op->words[3] & FS_READ_NO_WAIT);
    if (n < 0)
        return -errno;
    op->out_len = (uint32_t)n;
    return (int)n;
}

int do_write(struct op *op) {
    struct object *object = op->object;
    if (object->kind == FS_KIND_TTY)
        return tty_forward(op);
    int error = data_object(object, O_WRONLY);
    if (error < 0)
        return error;
    int64_t offset = (int64_t)op->words[1];
    if (is_stream(object) && offset >= 0)
        return -ESPIPE;
    struct iovec part = {.iov_base = (void *)(uintptr_t)op->data, .iov_len = op->data_len};
    bool append = op->words[3] & 1 && object->kind == FS_KIND_FILE;
    ssize_t n = object->kind == FS_KIND_SOCKET
                    ? socket_write(op)
                    : pwritev2(object->fd, &part, 1, offset < 0 ? -1 : offset, append ? RWF_APPEND : 0);
    if (n < 0 && errno == EAGAIN)
        return would_block(op, op->words[2] & 1);
    return n < 0 ? -errno : (int)n;
}

int do_lseek(struct op *op) {
    struct object *object = op->object;
    if (object->kind == FS_KIND_DIR)
        return dir_seek(op, object, (int64_t)op->words[1], (int)op->words[2]);
    if (object->kind == FS_KIND_PATH)
        return -EBADF;
    if (object->kind == FS_KIND_TTY)
        return -ESPIPE;
    off_t at = lseek(object->fd, (off_t)op->words[1], (int)op->words[2]);
    if (at < 0)
        return -errno;
    op->out[0] = (uint64_t)at;
    return 0;
}

static int on_file(struct op *op, int (*call)(struct op *op, int fd)) {
    if (op->object->kind == FS_KIND_DIR || op->object->kind == FS_KIND_PATH || op->object->kind == FS_KIND_TTY)
        return -EINVAL;
    return call(op, op->object->fd) < 0 ? -errno : 0;
}

static int call_ftruncate(struct op *op, int fd) { return ftruncate(fd, (off_t)op->words[1]); }
static int call_fsync(struct op *op, int fd) { return op->words[1] ? fdatasync(fd) : fsync(fd); }
static int call_fallocate(struct op *op, int fd) {
    return fallocate(fd, (int)op->words[1], (off_t)op->words[2], (off_t)op->words[3]);
}

int do_ftruncate(struct op *op) { return on_file(op, call_ftruncate); }
int do_fallocate(struct op *op) { return on_file(op, call_fallocate); }

int do_fsync(struct op *op) {
    struct object *object = op->object;
    if (object->kind != FS_KIND_DIR || object->place.layer != LAYER_TREE)
        return on_file(op, call_fsync);
    /* A directory: its names in the writable layer. */
    int fd = object->place.dir->upper ? tree_upper_fd(op->fs, object->place.dir) : -1;
    if (fd < 0)
        return 0;
    cleanup_close int opened = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return opened < 0 || fsync(opened) < 0 ? -errno : 0;
}

int do_ioctl(struct op *op) {
    struct object *object = op->object;
    int value = 0;
    if (object->kind == FS_KIND_TTY && op->words[1] != FIONBIO)
        return tty_forward(op);
    switch (op->words[1]) {
    case FIONREAD:
        if (object->fd < 0)
            return -ENOTTY;
        if (ioctl(object->fd, FIONREAD, &value) < 0)
            return -errno;
        return op_put(op, &value, sizeof(value));
    case FIONBIO:
        if (op->data_len >= sizeof(value))
            memcpy(&value, op->data, sizeof(value));
        else
            value = (int)op->words[2];
        object->status_flags = (object->status_flags & ~(uint32_t)O_NONBLOCK) | (value ? O_NONBLOCK : 0);
        return 0;
    default: return -ENOTTY;
    }
}

int do_setfl(struct op *op) {
    struct object *object = op->object;
    uint32_t may = O_NONBLOCK | O_APPEND, flags = (uint32_t)op->words[1] & may;
    if (object->kind == FS_KIND_SOCKET)
        return socket_set_flags(object, flags);
    object->status_flags = (object->status_flags & ~may) | flags;
    if (object->kind == FS_KIND_FILE && object->fd >= 0) {
        int old = fcntl(object->fd, F_GETFL);
        if (old < 0 || fcntl(object->fd, F_SETFL, (old & ~O_APPEND) | (int)(flags & O_APPEND)) < 0)
            return -errno;
    }
    return 0;
}

int do_poll(struct op *op) {
    struct object *object = op->object;
    if (object->kind == FS_KIND_TTY)
        return tty_forward(op);
    short wanted = (short)(op->words[1] & (POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM));
    struct pollfd state = {.fd = object->fd, .events = wanted};
    if (object->fd < 0) /* directories: always ready */
        state.revents = wanted & (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
    else if (poll(&state, 1, 0) < 0)
        return -errno;
    if (!state.revents && op->words[2] && !is_stream(object) && object->kind != FS_KIND_CHAR)
        state.revents = wanted & (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM); /* files are always ready, and cannot be watched */
    op->out[0] = (uint16_t)state.revents;
    if (state.revents || !op->words[2])
        return 0;
    if (op->cancelled)
        return -EINTR;
    io_wait(op, object);
    return FS_PENDING;
}
