/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a named FIFO: both ends wait for each other (fifo(7)). The host kernel would block us, so ends are opened
 * without blocking and who has no partner waits here. All opens of a FIFO come by its owner's fs.
 */
#include "vos/fs/fs.h"

static int fifo_grant(struct op *op, int fd, uint32_t flags, const struct vos_stat *st) {
    if (!(flags & O_NONBLOCK) && !op->remote && fcntl(fd, F_SETFL, (int)(flags & O_APPEND)) < 0) {
        close(fd);
        return -errno;
    }
    return open_grant_fd(op, fd, FS_KIND_PIPE, 0, flags & (O_ACCMODE | O_NONBLOCK | O_APPEND), st);
}

static void unlink_waiter(struct op *op) {
    for (struct op **p = &op->fs->fifo_waiters; *p; p = &(*p)->wait_next)
        if (*p == op) {
            *p = op->wait_next;
            return;
        }
}

static void fifo_cancel(struct op *op) {
    unlink_waiter(op);
    op_finish(op, -EINTR);
}

/* Is there a writer? tee shows, and takes nothing: 0 for an empty FIFO without, EAGAIN with. */
static bool has_writer(int fd) {
    int scratch[2];
    if (pipe2(scratch, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    ssize_t n = tee(fd, scratch[1], 1, 2 /* SPLICE_F_NONBLOCK */);
    bool writer = n > 0 || (n < 0 && errno == EAGAIN);
    close(scratch[0]);
    close(scratch[1]);
    return writer;
}

/* Let those go on that waited for our end of this FIFO. */
static bool wake(struct fs *fs, uint64_t ino, uint32_t waiting_for) {
    bool any = false;
    for (struct op *op = fs->fifo_waiters, *next; op; op = next) {
        next = op->wait_next;
        uint32_t mode = (uint32_t)op->words[1] & O_ACCMODE;
        if (op->wait_key != ino || mode != waiting_for)
            continue;
        any = true;
        unlink_waiter(op);
        op_run(op);
        next = fs->fifo_waiters;
    }
    return any;
}

static int fifo_wait(struct op *op, uint64_t ino) {
    op->wait_key = ino;
    op->cancel = fifo_cancel;
    op->wait_next = op->fs->fifo_waiters;
    op->fs->fifo_waiters = op;
    return FS_PENDING;
}

int fifo_open(struct op *op, const struct host_at *at, uint32_t flags, const struct vos_stat *st) {
    uint32_t mode = flags & O_ACCMODE;
    bool woken = op->wait_key == st->st_ino; /* run again by the other end's open, just now */
    int error = op_as_caller(op);
    if (error < 0)
        return error;
    int fd = openat(at->dir_fd, at->name, (int)mode | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    op_as_root(op);
    if (fd == -ENXIO && mode == O_WRONLY)
        return flags & O_NONBLOCK ? -ENXIO : fifo_wait(op, st->st_ino);
    if (fd < 0)
        return fd;
    if (mode == O_WRONLY || mode == O_RDWR)
        wake(op->fs, st->st_ino, O_RDONLY);
    bool partner = woken || mode != O_RDONLY || flags & O_NONBLOCK;
    if (mode == O_RDONLY || mode == O_RDWR)
        partner |= wake(op->fs, st->st_ino, O_WRONLY);
    if (partner || has_writer(fd))
        return fifo_grant(op, fd, flags, st);
    op_keep_fd(op, fd); /* keeps a reader there for the writers to find; closed and opened again when one comes */
    return fifo_wait(op, st->st_ino);
}
