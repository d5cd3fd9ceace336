/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tty server's private parts.
 *
 *   main.c    the module: table of message types, requests in and out
 *   device.c  ttys: pty pair, the stream to the person, hang-up, end
 *   io.c      read, write, poll
 *   job.c     sessions and job control: asks pm about callers, signals groups
 *   ioctl.c   ioctl
 *   line.c    pure logic of the line discipline
 *
 * One thread, the event loop's. An op is a request under way; it is in its tty's list of waits, or it waits for pm's
 * answer and then holds no pointer to the tty, only its number, since the tty may go meanwhile.
 */
#ifndef TTY_SERVER_H
#define TTY_SERVER_H

#include "vos/host/module.h"
#include "vos/tty/line.h"
#include "vos/tty/tty.h"
#include <stdbool.h>
#include <stdint.h>

#define TTY_MAX 256u
#define TTY_INPUT 4096u   /* typed, not yet taken by the kernel */
#define TTY_OUTPUT 16384u /* to be shown, not yet taken by the stream */

struct tty_server;
struct op;

struct tty {
    struct tty_server *server;
    uint32_t number;
    int master, slave, stream; /* -1 once gone */
    unsigned references;
    bool hung;                    /* the stream is gone: reads give end of file, everything else EIO */
    bool closing;                 /* the last reference is gone: what was written is still being shown */
    uint32_t session, foreground; /* 0: none */
    struct tty_line line;
    struct op *waits;                                    /* oldest first */
    uint32_t master_events, slave_events, stream_events; /* watched now */
    uint8_t input[TTY_INPUT];
    size_t input_at, input_len;
    uint8_t output[TTY_OUTPUT];
    size_t output_at, output_len;
    int64_t created_s, used_s;
};

struct tty_server {
    struct vos *vos;
    dvk_endpoint self, pm;
    struct tty *ttys[TTY_MAX];
};

enum op_kind { OP_READ, OP_WRITE, OP_POLL, OP_OTHER };

struct op {
    struct op *next;
    struct tty_server *server;
    struct dvk_request *req;
    enum op_kind kind;
    uint32_t number; /* of the tty */
    bool asking;     /* waits for pm; not in the tty's list */
    bool cancelled;
    size_t done; /* bytes read or written */
    bool timer_set, expired;
    uint64_t timer;
    uint32_t pid, flags;                          /* the caller */
    uint32_t pgid, sid;                           /* once job_ask has answered */
    void (*then)(struct op *op, struct tty *tty); /* goes on after pm's answer */
    int outcome;                                  /* status to answer with after a signal was sent */
};

/* ---- main.c ---- */
/* End an op: answer and free. data_len bytes must be in req->reply_data. words: w0 of the reply. */
void op_answer(struct op *op, int status, uint64_t word, uint32_t data_len);
static inline void op_status(struct op *op, int status) {
    op_answer(op, status, 0, 0);
}

/* ---- device.c ---- */
struct tty *tty_find(struct tty_server *server, uint32_t number); /* NULL: none, or closing */
/* Takes over stream. 0 with *out, or a negative errno. */
int tty_create(struct tty_server *server, int stream, uint16_t rows, uint16_t columns, struct tty **out);
void tty_reference_drop(struct tty *tty, unsigned count);
/* Close at once, without showing what is left; ends all its ops with -EIO. Frees. */
void tty_destroy(struct tty *tty);
/* Watch just what is being waited for. Call after any change of waits, buffers or descriptors. */
void tty_watch(struct tty *tty);
int tty_settings(const struct tty *tty, struct termios *settings); /* 0 or negative errno */
/* Set the window's size; SIGWINCH to the foreground group if it changes. */
int tty_resize(struct tty *tty, uint16_t rows, uint16_t columns);
void tty_input_discard(struct tty *tty);

/* ---- io.c ---- */
void io_read(struct op *op, struct tty *tty);
void io_write(struct op *op, struct tty *tty);
void io_poll(struct op *op, struct tty *tty);
/* Let waiting ops go on. Frees those that are answered; the tty stays. */
void io_retry(struct tty *tty);
/* Which epoll events of the slave the waiting ops need. */
uint32_t io_wanted(const struct tty *tty);
void io_wait_remove(struct tty *tty, struct op *op);
void io_cancel(struct op *op, struct tty *tty);

/* ---- job.c ---- */
/* Have op->pgid and sid filled in, then call op->then; a failure answers the op. */
void job_ask(struct op *op, void (*then)(struct op *op, struct tty *tty));
/* May the caller (pgid, sid known) do what a background group may not? true: go on. false: SIGTTIN or SIGTTOU was sent
 * or is being sent and op is answered, or will be. */
bool job_check(struct op *op, struct tty *tty, int signal);
/* Signal a process group (0: nobody). Nobody waits for the outcome. */
void job_raise(struct tty_server *server, uint32_t pgid, int signal);
/* The session loses its terminal: SIGHUP and SIGCONT to the foreground group, and to the leader too if asked. */
void job_session_drop(struct tty *tty, bool leader_too);
struct tty *job_session_find(struct tty_server *server, uint32_t sid);
void job_set_foreground(struct op *op, struct tty *tty, uint32_t pgid);
void job_find(struct op *op);

/* ---- ioctl.c ---- */
void ioctl_start(struct op *op, struct tty *tty);

#endif
