/* SPDX-License-Identifier: Apache-2.0 */
/* ioctl on a tty. What touches the line discipline is the kernel's, on our slave; sessions are ours. See ioctl_tty(2).
 */
#include "common/cleanup.h"
#include "vos/tty/server.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#define KERNEL_TERMIO 18u /* sizeof(struct termio) */

enum ioctl_flags {
    IOCTL_CHANGES = 1u, /* SIGTTOU for a background group */
    IOCTL_SCALAR = 2u,  /* the argument is a number */
    IOCTL_DISCARDS = 4u /* drops input that is not yet read */
};

typedef void ioctl_function(struct op *op, struct tty *tty);

static ioctl_function window_set, foreground_get, foreground_set, session_get, terminal_take, terminal_drop, device_get;

/* One row a command: bytes in and out, and how. Without a function the kernel does it. */
static const struct ioctl_row {
    uint32_t command;
    uint16_t in, out;
    uint16_t flags;
    ioctl_function *function;
    bool ask; /* needs the caller's group and session */
} rows[] = {
    {TCGETS, 0, sizeof(struct termios), 0, NULL, false},
    {TCSETS, sizeof(struct termios), 0, IOCTL_CHANGES, NULL, true},
    {TCSETSW, sizeof(struct termios), 0, IOCTL_CHANGES, NULL, true},
    {TCSETSF, sizeof(struct termios), 0, IOCTL_CHANGES | IOCTL_DISCARDS, NULL, true},
    {TCGETS2, 0, sizeof(struct termios2), 0, NULL, false},
    {TCSETS2, sizeof(struct termios2), 0, IOCTL_CHANGES, NULL, true},
    {TCSETSW2, sizeof(struct termios2), 0, IOCTL_CHANGES, NULL, true},
    {TCSETSF2, sizeof(struct termios2), 0, IOCTL_CHANGES | IOCTL_DISCARDS, NULL, true},
    {TCGETA, 0, KERNEL_TERMIO, 0, NULL, false},
    {TCSETA, KERNEL_TERMIO, 0, IOCTL_CHANGES, NULL, true},
    {TCSETAW, KERNEL_TERMIO, 0, IOCTL_CHANGES, NULL, true},
    {TCSETAF, KERNEL_TERMIO, 0, IOCTL_CHANGES | IOCTL_DISCARDS, NULL, true},
    {TCSBRK, 0, 0, IOCTL_CHANGES | IOCTL_SCALAR, NULL, true},
    {TCSBRKP, 0, 0, IOCTL_CHANGES | IOCTL_SCALAR, NULL, true},
    {TCXONC, 0, 0, IOCTL_CHANGES | IOCTL_SCALAR, NULL, true},
    {TCFLSH, 0, 0, IOCTL_CHANGES | IOCTL_SCALAR | IOCTL_DISCARDS, NULL, true},
    {TIOCGWINSZ, 0, sizeof(struct winsize), 0, NULL, false},
    {TIOCSWINSZ, sizeof(struct winsize), 0, 0, window_set, false},
    {FIONREAD, 0, sizeof(int), 0, NULL, false}, /* = TIOCINQ */
    {TIOCOUTQ, 0, sizeof(int), 0, NULL, false},
    {TIOCGETD, 0, sizeof(int), 0, NULL, false},
    {TIOCGSOFTCAR, 0, sizeof(int), 0, NULL, false},
    {TIOCGPGRP, 0, sizeof(int), 0, foreground_get, true},
    {TIOCSPGRP, sizeof(int), 0, IOCTL_CHANGES, foreground_set, true},
    {TIOCGSID, 0, sizeof(int), 0, session_get, true},
    {TIOCSCTTY, 0, 0, IOCTL_SCALAR, terminal_take, true},
    {TIOCNOTTY, 0, 0, 0, terminal_drop, true},
    {TIOCGDEV, 0, sizeof(unsigned), 0, device_get, false},
};

static const struct ioctl_row *row_find(uint32_t command) {
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (rows[i].command == command)
            return &rows[i];
    return NULL;
}

static void answer_number(struct op *op, uint32_t number) {
    memcpy(op->req->reply_data, &number, sizeof number);
    op_answer(op, 0, 0, sizeof number);
}

static int argument_number(const struct op *op) {
    int number;
    memcpy(&number, op->req->data, sizeof number); /* its length was checked */
    return number;
}

static void kernel_do(struct op *op, struct tty *tty, const struct ioctl_row *row) {
    uint8_t block[64] = {0};
    unsigned long argument = (unsigned long)(uintptr_t)block;
    if (row->flags & IOCTL_SCALAR)
        argument = (uint32_t)op->req->msg.payload.words[2];
    else
        memcpy(block, op->req->data, row->in);
    if (ioctl(tty->slave, row->command, argument)) {
        op_status(op, -errno);
        return;
    }
    if ((row->flags & IOCTL_DISCARDS) && (row->command != TCFLSH || argument != TCOFLUSH)) {
        tty_input_discard(tty);
        tty_watch(tty);
    }
    memcpy(op->req->reply_data, block, row->out);
    op_answer(op, 0, 0, row->out);
}

static void window_set(struct op *op, struct tty *tty) {
    struct winsize old, size;
    memcpy(&size, op->req->data, sizeof size);
    if (ioctl(tty->slave, TIOCGWINSZ, &old) || ioctl(tty->slave, TIOCSWINSZ, &size)) {
        op_status(op, -errno);
        return;
    }
    if (memcmp(&old, &size, sizeof size) != 0)
        job_raise(tty->server, tty->foreground, SIGWINCH);
    op_status(op, 0);
}

static void foreground_get(struct op *op, struct tty *tty) {
    if (op->sid != tty->session)
        op_status(op, -ENOTTY);
    else
        answer_number(op, tty->foreground);
}

static void foreground_set(struct op *op, struct tty *tty) {
    int pgid = argument_number(op);
    if (!tty->session || op->sid != tty->session)
        op_status(op, -ENOTTY);
    else if (pgid <= 0)
        op_status(op, -EINVAL);
    else
        job_set_foreground(op, tty, (uint32_t)pgid);
}

static void session_get(struct op *op, struct tty *tty) {
    if (!tty->session || op->sid != tty->session)
        op_status(op, -ENOTTY);
    else
        answer_number(op, tty->session);
}

/* TIOCSCTTY. That a session has no terminal on another node is not asked: such a one would keep both. */
static void terminal_take(struct op *op, struct tty *tty) {
    bool steal = op->req->msg.payload.words[2] == 1 && (op->flags & TTY_CALLER_ROOT);
    bool leader = op->pid == op->sid;
    if (leader && tty->session == op->sid) {
        op_status(op, 0);
        return;
    }
    if (!leader || job_session_find(tty->server, op->sid) || (tty->session && !steal)) {
        op_status(op, -EPERM);
        return;
    }
    tty->session = op->sid;
    tty->foreground = op->pgid;
    op_status(op, 0);
}

/* TIOCNOTTY. The terminal is the session's here, so only its leader can give it up; another process gets EPERM. */
static void terminal_drop(struct op *op, struct tty *tty) {
    if (!tty->session || op->sid != tty->session) {
        op_status(op, -ENOTTY);
        return;
    }
    if (op->pid != op->sid) {
        op_status(op, -EPERM);
        return;
    }
    job_session_drop(tty, false);
    op_status(op, 0);
}

static void device_get(struct op *op, struct tty *tty) {
    answer_number(op, (uint32_t)makedev(136, tty_number_index(tty->number)));
}

static void ioctl_go(struct op *op, struct tty *tty) {
    const struct ioctl_row *row = row_find((uint32_t)op->req->msg.payload.words[1]);
    if (tty->hung) {
        op_status(op, -EIO);
        return;
    }
    if ((row->flags & IOCTL_CHANGES) && !job_check(op, tty, SIGTTOU))
        return;
    if (row->function)
        row->function(op, tty);
    else
        kernel_do(op, tty, row);
}

void ioctl_start(struct op *op, struct tty *tty) {
    const struct ioctl_row *row = row_find((uint32_t)op->req->msg.payload.words[1]);
    op->kind = OP_OTHER;
    if (tty->hung)
        op_status(op, -EIO);
    else if (!row)
        op_status(op, -ENOTTY);
    else if (op->req->msg.data_len < row->in || op->req->reply_cap < row->out)
        op_status(op, -EINVAL);
    else if (row->ask && tty->session)
        job_ask(op, ioctl_go);
    else if (row->ask && row->function) /* the row needs a caller even without a session */
        job_ask(op, ioctl_go);
    else
        ioctl_go(op, tty);
}
