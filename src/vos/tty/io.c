/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/tty/server.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static void wait_add(struct tty *tty, struct op *op) {
    struct op **end = &tty->waits;
    while (*end)
        end = &(*end)->next;
    op->next = NULL;
    *end = op;
    tty_watch(tty);
}

void io_wait_remove(struct tty *tty, struct op *op) {
    for (struct op **at = &tty->waits; *at; at = &(*at)->next)
        if (*at == op) {
            *at = op->next;
            return;
        }
}

static bool waiting_before(const struct tty *tty, enum op_kind kind) {
    for (const struct op *op = tty->waits; op; op = op->next)
        if (op->kind == kind)
            return true;
    return false;
}

static uint32_t poll_events(const struct op *op) {
    return (uint32_t)op->req->msg.payload.words[1] &
           (POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND);
}

uint32_t io_wanted(const struct tty *tty) {
    uint32_t events = 0;
    for (const struct op *op = tty->waits; op; op = op->next) {
        if (op->kind == OP_READ || (op->kind == OP_POLL && (poll_events(op) & (POLLIN | POLLRDNORM))))
            events |= EPOLLIN;
        if (op->kind == OP_WRITE || (op->kind == OP_POLL && (poll_events(op) & (POLLOUT | POLLWRNORM))))
            events |= EPOLLOUT;
    }
    return events;
}

/* ---- read ---- */

static void read_expired(void *context) {
    struct op *op = context;
    op->timer_set = false;
    op->expired = true;
    struct tty *tty = tty_find(op->server, op->number);
    if (tty) {
        io_retry(tty);
        if (!tty->hung)
            tty_watch(tty);
    }
}

static void timer_stop(struct op *op) {
    if (op->timer_set)
        dvk_timer_cancel(op->server->vos->dvk, op->timer);
    op->timer_set = false;
}

static void timer_start(struct op *op, unsigned wait_ms) {
    timer_stop(op);
    op->timer_set = !dvk_timer(op->server->vos->dvk, wait_ms, read_expired, op, &op->timer);
}

static size_t read_wanted(const struct op *op) {
    uint64_t wanted = op->req->msg.payload.words[1];
    return wanted < op->req->reply_cap ? (size_t)wanted : op->req->reply_cap;
}

/* Collect input; true when the op is to be answered with *status. */
static bool read_try(struct op *op, struct tty *tty, int *status) {
    struct termios settings;
    size_t wanted = read_wanted(op), before = op->done;
    bool zero = false;
    unsigned wait_ms;
    *status = (int)op->done;
    if (tty->hung || !wanted)
        return true;
    if (tty_settings(tty, &settings)) {
        *status = op->done ? (int)op->done : -EIO;
        return true;
    }
    do { /* canonical: one line a read; else as long as something is there */
        ssize_t count = read(tty->slave, (uint8_t *)op->req->reply_data + op->done, wanted - op->done);
        if (count < 0 && errno != EAGAIN && errno != EINTR) {
            *status = op->done ? (int)op->done : -errno;
            return true;
        }
        zero = count == 0;
        if (count <= 0)
            break;
        op->done += (size_t)count;
    } while (op->done < wanted && !(settings.c_lflag & ICANON));
    *status = (int)op->done;
    if (op->done > before)
        tty->used_s = time(NULL);
    if (op->req->msg.payload.words[3] & 1) {
        if (!op->done && !zero)
            *status = -EAGAIN;
        return true;
    }
    switch (tty_read_decide(&settings, op->done, wanted, zero, op->expired, &wait_ms)) {
    case TTY_READ_WAIT_TIMED:
        if (!op->timer_set || op->done > before)
            timer_start(op, wait_ms);
        return false;
    case TTY_READ_WAIT:
        return false;
    default:
        return true;
    }
}

static void read_answer(struct op *op, int status) {
    op_answer(op, status, 0, status > 0 ? (uint32_t)status : 0);
}

static void read_go(struct op *op, struct tty *tty) {
    int status;
    if (!job_check(op, tty, SIGTTIN))
        return;
    if (!waiting_before(tty, OP_READ) && read_try(op, tty, &status))
        read_answer(op, status);
    else if (op->req->msg.payload.words[3] & 1)
        read_answer(op, -EAGAIN);
    else
        wait_add(tty, op);
}

void io_read(struct op *op, struct tty *tty) {
    op->kind = OP_READ;
    if (tty->hung)
        op_status(op, 0);
    else
        job_ask(op, read_go);
}

/* ---- write ---- */

static bool write_try(struct op *op, struct tty *tty, int *status) {
    size_t len = op->req->msg.data_len;
    while (op->done < len) {
        ssize_t count = tty->hung ? -1 : write(tty->slave, (const uint8_t *)op->req->data + op->done, len - op->done);
        if (count > 0) {
            op->done += (size_t)count;
            continue;
        }
        bool full = !tty->hung && (count == 0 || errno == EAGAIN || errno == EINTR);
        if (full && !(op->req->msg.payload.words[2] & 1))
            return false;
        *status = op->done ? (int)op->done : full ? -EAGAIN : -EIO;
        return true;
    }
    tty->used_s = time(NULL);
    *status = (int)op->done;
    return true;
}

static void write_go(struct op *op, struct tty *tty) {
    struct termios settings;
    int status;
    if (!tty_settings(tty, &settings) && (settings.c_lflag & TOSTOP) && !job_check(op, tty, SIGTTOU))
        return;
    if (!waiting_before(tty, OP_WRITE) && write_try(op, tty, &status))
        op_status(op, status);
    else if (op->req->msg.payload.words[2] & 1)
        op_status(op, -EAGAIN);
    else
        wait_add(tty, op);
}

void io_write(struct op *op, struct tty *tty) {
    struct termios settings;
    op->kind = OP_WRITE;
    if (tty->hung)
        op_status(op, -EIO);
    else if (!tty_settings(tty, &settings) && (settings.c_lflag & TOSTOP)) /* rare: spare pm the question else */
        job_ask(op, write_go);
    else
        write_go(op, tty);
}

/* ---- poll ---- */

static bool poll_try(struct op *op, struct tty *tty, uint32_t *events) {
    struct pollfd slave = {.fd = tty->slave, .events = (short)poll_events(op)};
    if (tty->hung)
        *events = (poll_events(op) & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)) | POLLHUP | POLLERR;
    else
        *events = poll(&slave, 1, 0) > 0 ? (uint32_t)slave.revents : 0;
    return *events || !(op->req->msg.payload.words[2] & 1);
}

void io_poll(struct op *op, struct tty *tty) {
    uint32_t events;
    op->kind = OP_POLL;
    if (poll_try(op, tty, &events))
        op_answer(op, 0, events, 0);
    else
        wait_add(tty, op);
}

/* ---- waits ---- */

/* One waiting op goes on; true if it was answered. first: no older op of its kind waits. */
static bool op_retry(struct op *op, struct tty *tty, bool first) {
    int status;
    uint32_t events;
    switch (op->kind) {
    case OP_READ:
        if (!first || !read_try(op, tty, &status))
            return false;
        io_wait_remove(tty, op);
        read_answer(op, status);
        return true;
    case OP_WRITE:
        if (!first || !write_try(op, tty, &status))
            return false;
        io_wait_remove(tty, op);
        op_status(op, status);
        return true;
    default:
        if (!poll_try(op, tty, &events))
            return false;
        io_wait_remove(tty, op);
        op_answer(op, 0, events, 0);
        return true;
    }
}

void io_retry(struct tty *tty) {
    bool held[OP_OTHER + 1] = {false};
    struct op *next;
    for (struct op *op = tty->waits; op; op = next) {
        enum op_kind kind = op->kind;
        next = op->next;
        if (!op_retry(op, tty, !held[kind] || op->expired))
            held[kind] = true;
    }
}

void io_cancel(struct op *op, struct tty *tty) {
    io_wait_remove(tty, op);
    if (op->done && op->kind == OP_READ)
        read_answer(op, (int)op->done);
    else
        op_status(op, op->done ? (int)op->done : -EINTR);
    if (!tty->hung)
        tty_watch(tty);
}
