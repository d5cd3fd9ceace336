/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cleanup.h"
#include "vos/tty/server.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static struct tty_server *server_of(struct vos *vos) {
    return vos->state[DVK_SERVICE_TTY];
}

void op_answer(struct op *op, int status, uint64_t word, uint32_t data_len) {
    struct dvk_message reply = {.status = status, .data_len = data_len, .payload.words = {word}};
    struct dvk *dvk = op->server->vos->dvk;
    if (op->timer_set)
        dvk_timer_cancel(dvk, op->timer);
    for (unsigned i = 0; i < op->req->fd_count; i++)
        if (op->req->fds[i] >= 0)
            close(op->req->fds[i]);
    if (op->req->wants_reply)
        dvk_reply(dvk, op->req, &reply, NULL, 0);
    else
        dvk_release(dvk, op->req);
    free(op);
}

static uint64_t word(const struct op *op, unsigned index) {
    return op->req->msg.payload.words[index];
}

/* ---- from pm ---- */

static void create(struct op *op) {
    struct stat stat;
    struct tty *tty;
    if (op->req->fd_count != 1 || fstat(op->req->fds[0], &stat) || !S_ISSOCK(stat.st_mode) || word(op, 2) > INT32_MAX ||
        word(op, 3) > INT32_MAX) {
        op_status(op, -EINVAL);
        return;
    }
    int stream = op->req->fds[0];
    op->req->fds[0] = -1;
    int error = tty_create(op->server, stream, (uint16_t)word(op, 0), (uint16_t)word(op, 1), &tty);
    if (error) {
        op_status(op, error);
        return;
    }
    tty->session = (uint32_t)word(op, 2);
    tty->foreground = (uint32_t)word(op, 3);
    op_answer(op, 0, tty->number, 0);
}

static void drop(struct op *op, struct tty *tty) {
    if (!tty->references)
        tty_destroy(tty);
    op_status(op, 0);
}

static void session_end(struct op *op) {
    struct tty *tty = job_session_find(op->server, (uint32_t)word(op, 0));
    if (tty)
        job_session_drop(tty, false);
    op_status(op, 0);
}

static void resize(struct op *op, struct tty *tty) {
    op_status(op, tty_resize(tty, (uint16_t)word(op, 1), (uint16_t)word(op, 2)));
}

/* ---- from fs ---- */

/* struct vos_stat of a terminal, into the reply. 0 bytes if there is no room. */
static uint32_t stat_fill(const struct op *op, const struct tty *tty) {
    uint32_t index = tty_number_index(tty->number);
    struct vos_stat stat = {
        .st_nlink = 1,
        .st_mode = S_IFCHR | 0620,
        .st_gid = 5,
        .st_rdev = makedev(136, index),
        .st_blksize = 1024,
        .st_atime_s = tty->used_s,
        .st_mtime_s = tty->used_s,
        .st_ctime_s = tty->created_s,
    };
    if (op->req->reply_cap < sizeof stat)
        return 0;
    memcpy(op->req->reply_data, &stat, sizeof stat);
    return sizeof stat;
}

static void open_finish(struct op *op, struct tty *tty) {
    tty->references++;
    op_answer(op, 0, tty->number, stat_fill(op, tty));
}

static void open_take_terminal(struct op *op, struct tty *tty) {
    if (op->pid == op->sid && !tty->session && !job_session_find(op->server, op->sid)) {
        tty->session = op->sid;
        tty->foreground = op->pgid;
    }
    open_finish(op, tty);
}

static void open_tty(struct op *op, struct tty *tty) {
    if (tty->hung)
        op_status(op, -EIO);
    else if ((word(op, 1) & O_NOCTTY) || tty->session)
        open_finish(op, tty);
    else
        job_ask(op, open_take_terminal);
}

static void close_tty(struct op *op, struct tty *tty) {
    uint64_t count = word(op, 1);
    tty_reference_drop(tty, count > 0 && count < UINT32_MAX ? (unsigned)count : 1);
    op_status(op, 0);
}

static void stat_tty(struct op *op, struct tty *tty) {
    op_answer(op, 0, 0, stat_fill(op, tty));
}

static void list(struct op *op) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < TTY_MAX; i++) {
        struct tty *tty = op->server->ttys[i];
        if (!tty || tty->closing || (count + 1) * sizeof tty->number > op->req->reply_cap)
            continue;
        memcpy((uint8_t *)op->req->reply_data + count * sizeof tty->number, &tty->number, sizeof tty->number);
        count++;
    }
    op_answer(op, (int)count, 0, count * (uint32_t)sizeof(uint32_t));
}

/* ---- dispatch ---- */

static const struct row {
    uint32_t type;
    void (*general)(struct op *op);
    void (*of_tty)(struct op *op, struct tty *tty); /* w0 is a tty's number */
} table[] = {
    {TTY_S_CREATE, create, NULL},   {TTY_S_DROP, NULL, drop},     {TTY_S_SESSION_END, session_end, NULL},
    {TTY_S_RESIZE, NULL, resize},   {TTY_S_FIND, job_find, NULL}, {TTY_OPEN, NULL, open_tty},
    {TTY_CLOSE, NULL, close_tty},   {TTY_READ, NULL, io_read},    {TTY_WRITE, NULL, io_write},
    {TTY_IOCTL, NULL, ioctl_start}, {TTY_POLL, NULL, io_poll},    {TTY_STAT, NULL, stat_tty},
    {TTY_LIST, list, NULL},
};

static void op_run(struct op *op) {
    const struct dvk_message *message = &op->req->msg;
    if (!dvk_slot_is_system(dvk_endpoint_slot(message->source))) {
        op_status(op, -EPERM);
        return;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
        if (table[i].type != message->type)
            continue;
        if (table[i].general) {
            table[i].general(op);
            return;
        }
        struct tty *tty = word(op, 0) <= UINT32_MAX ? tty_find(op->server, (uint32_t)word(op, 0)) : NULL;
        if (!tty) {
            op_status(op, -ENXIO);
            return;
        }
        op->number = tty->number;
        table[i].of_tty(op, tty);
        return;
    }
    op_status(op, -ENOSYS);
}

static void tty_request(struct vos *vos, struct dvk_request *req) {
    struct op *op = calloc(1, sizeof *op);
    if (!op) {
        for (unsigned i = 0; i < req->fd_count; i++)
            close(req->fds[i]);
        if (req->wants_reply)
            dvk_reply_status(vos->dvk, req, -ENOMEM);
        else
            dvk_release(vos->dvk, req);
        return;
    }
    op->server = server_of(vos);
    op->req = req;
    op->kind = OP_OTHER;
    op->pid = (uint32_t)req->msg.payload.words[TTY_WORD_PID];
    op->flags = (uint32_t)req->msg.payload.words[TTY_WORD_FLAGS];
    req->user = op;
    op_run(op);
}

static void tty_cancelled(struct vos *vos, struct dvk_request *req) {
    struct op *op = req->user;
    if (!op)
        return;
    op->cancelled = true; /* if it waits for pm, that answer ends it */
    struct tty *tty = op->asking ? NULL : tty_find(op->server, op->number);
    if (tty)
        io_cancel(op, tty);
}

/* ---- module ---- */

static int tty_start(struct vos *vos) {
    struct tty_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->vos = vos;
    server->self = vos->self[DVK_SERVICE_TTY];
    server->pm = vos_service(vos->node, DVK_SERVICE_PM);
    vos->state[DVK_SERVICE_TTY] = server;
    return 0;
}

const struct vos_module tty_module = {
    .name = "tty",
    .service = DVK_SERVICE_TTY,
    .start = tty_start,
    .request = tty_request,
    .cancelled = tty_cancelled,
};
