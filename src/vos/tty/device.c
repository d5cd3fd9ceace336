/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cleanup.h"
#include "common/log.h"
#include "vos/tty/server.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

struct tty *tty_find(struct tty_server *server, uint32_t number) {
    uint32_t index = tty_number_index(number);
    if (tty_number_node(number) != server->vos->node || index >= TTY_MAX || !server->ttys[index] ||
        server->ttys[index]->closing)
        return NULL;
    return server->ttys[index];
}

int tty_settings(const struct tty *tty, struct termios *settings) {
    return tty->slave < 0 || ioctl(tty->slave, TCGETS, settings) ? -EIO : 0;
}

/* ---- watches ---- */

static void master_event(void *context, int fd, uint32_t events);
static void slave_event(void *context, int fd, uint32_t events);
static void stream_event(void *context, int fd, uint32_t events);

static void watch_set(struct tty *tty, int fd, uint32_t *now, uint32_t wanted, void (*fn)(void *, int, uint32_t)) {
    if (fd < 0 || *now == wanted)
        return;
    int error = dvk_watch_fd(tty->server->vos->dvk, fd, wanted, fn, tty);
    if (error)
        log_warning("tty %u: cannot watch: %s", tty->number, dvk_strerror(error));
    *now = wanted;
}

void tty_watch(struct tty *tty) {
    bool input_waits = tty->input_at < tty->input_len, output_waits = tty->output_at < tty->output_len;
    uint32_t master = (output_waits ? 0 : EPOLLIN) | (input_waits ? EPOLLOUT : 0);
    uint32_t stream = (input_waits || tty->closing ? 0 : EPOLLIN) | (output_waits ? EPOLLOUT : 0);
    watch_set(tty, tty->master, &tty->master_events, master, master_event);
    watch_set(tty, tty->slave, &tty->slave_events, io_wanted(tty), slave_event);
    /* A stream that is not read must still tell of its end: epoll reports EPOLLHUP with any watch. */
    watch_set(tty, tty->stream, &tty->stream_events, stream ? stream : EPOLLRDHUP, stream_event);
}

static void fd_drop(struct tty *tty, int *fd, uint32_t *events) {
    if (*fd < 0)
        return;
    if (*events)
        (void)dvk_watch_fd(tty->server->vos->dvk, *fd, 0, NULL, NULL);
    *events = 0;
    close(*fd);
    *fd = -1;
}

static void descriptors_drop(struct tty *tty) {
    fd_drop(tty, &tty->master, &tty->master_events);
    fd_drop(tty, &tty->slave, &tty->slave_events);
    fd_drop(tty, &tty->stream, &tty->stream_events);
}

/* ---- end ---- */

void tty_destroy(struct tty *tty) {
    descriptors_drop(tty);
    while (tty->waits) {
        struct op *op = tty->waits;
        io_wait_remove(tty, op);
        op_status(op, -EIO);
    }
    tty->server->ttys[tty_number_index(tty->number)] = NULL;
    free(tty);
}

/* The person is gone. */
static void hang_up(struct tty *tty) {
    if (tty->hung)
        return;
    tty->hung = true;
    descriptors_drop(tty);
    tty->input_at = tty->input_len = tty->output_at = tty->output_len = 0;
    job_session_drop(tty, true);
    io_retry(tty);
}

/* Closing, and all is shown? The slave is closed then, so the master reads what is left and then fails. */
static void closing_advance(struct tty *tty, bool master_empty) {
    if (tty->hung || (master_empty && tty->output_at == tty->output_len))
        tty_destroy(tty);
    else
        tty_watch(tty);
}

void tty_reference_drop(struct tty *tty, unsigned count) {
    tty->references -= count < tty->references ? count : tty->references;
    if (tty->references || tty->closing)
        return;
    tty->closing = true;
    tty->input_at = tty->input_len = 0;
    fd_drop(tty, &tty->slave, &tty->slave_events);
    closing_advance(tty, false);
}

/* ---- the person's side ---- */

void tty_input_discard(struct tty *tty) {
    tty->input_at = tty->input_len = 0;
}

/*
 * The kernel looks at what was typed in a thread of its own, some time after write(2). poll(2) waits for that thread if there is
 * no input to read yet (n_tty_poll). True: there is.
 */
static bool input_settle(const struct tty *tty) {
    struct pollfd slave = {.fd = tty->slave, .events = POLLIN};
    return poll(&slave, 1, 0) > 0;
}

/*
 * Before a signal is raised, the kernel must be done with its character: it echoes it and flushes the queues, and would also
 * flush what the signalled programs write meanwhile. With NOFLSH only the echo may come late.
 */
static ssize_t signal_write(const struct tty *tty, const struct termios *settings, const uint8_t *data, size_t len) {
    bool flush = !(settings->c_lflag & NOFLSH);
    if (input_settle(tty) && flush) {
        (void)ioctl(tty->slave, TCFLSH, TCIFLUSH);
        (void)input_settle(tty);
    }
    ssize_t count = write(tty->master, data, len);
    (void)input_settle(tty);
    return count;
}

/* Give what was typed to the line discipline, as far as it takes it, and raise the signals that are in it. */
static void input_feed(struct tty *tty) {
    while (tty->input_at < tty->input_len) {
        struct termios settings;
        int signal;
        if (tty_settings(tty, &settings))
            return;
        struct tty_line line = tty->line;
        const uint8_t *data = tty->input + tty->input_at;
        size_t len = tty_line_scan(&line, &settings, data, tty->input_len - tty->input_at, &signal);
        if (signal && len > 1) { /* what comes before the character goes first */
            line = tty->line;
            len = tty_line_scan(&line, &settings, data, len - 1, &signal);
        }
        ssize_t count = signal ? signal_write(tty, &settings, data, len) : write(tty->master, data, len);
        if (count <= 0)
            return;
        if ((size_t)count < len) /* the rest, and with it the signal, later: go over what was taken only */
            (void)tty_line_scan(&tty->line, &settings, data, (size_t)count, &signal);
        else
            tty->line = line;
        tty->input_at += (size_t)count;
        tty->used_s = time(NULL);
        if ((size_t)count == len && signal)
            job_raise(tty->server, tty->foreground, signal);
    }
    tty->input_at = tty->input_len = 0;
}

static void output_flush(struct tty *tty) {
    while (tty->output_at < tty->output_len) {
        ssize_t count = send(tty->stream, tty->output + tty->output_at, tty->output_len - tty->output_at,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0)
            return; /* an end shows as an event */
        tty->output_at += (size_t)count;
    }
    tty->output_at = tty->output_len = 0;
}

static void stream_event(void *context, int fd, uint32_t events) {
    struct tty *tty = context;
    if (events & EPOLLOUT)
        output_flush(tty);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) && tty->input_at == tty->input_len) {
        ssize_t count = recv(fd, tty->input, sizeof tty->input, MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
            hang_up(tty);
        } else if (count > 0 && !tty->closing) {
            tty->input_len = (size_t)count;
            input_feed(tty);
        }
    } else if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) { /* with typed input that nobody took: it is lost */
        hang_up(tty);
    }
    if (tty->closing)
        closing_advance(tty, false);
    else if (!tty->hung)
        tty_watch(tty);
}

static void master_event(void *context, int fd, uint32_t events) {
    struct tty *tty = context;
    bool empty = false;
    if (events & EPOLLOUT)
        input_feed(tty);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && tty->output_at == tty->output_len) {
        ssize_t count = read(fd, tty->output, sizeof tty->output);
        if (count > 0) {
            tty->output_at = 0;
            tty->output_len = (size_t)count;
            output_flush(tty);
        } else {
            empty = count == 0 || errno != EAGAIN; /* EIO: the slave is closed and all was read */
        }
    }
    if (tty->closing)
        closing_advance(tty, empty);
    else
        tty_watch(tty);
}

static void slave_event(void *context, int fd, uint32_t events) {
    struct tty *tty = context;
    io_retry(tty);
    if (!tty->hung)
        tty_watch(tty);
}

/* ---- begin ---- */

/* Any failure leaves errno. */
static int pty_open(struct tty *tty, uint16_t rows, uint16_t columns) {
    const int flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    struct termios settings;
    int unlocked = 0;
    tty->master = openat(tty->server->vos->pts_fd, "ptmx", flags);
    if (tty->master < 0 || ioctl(tty->master, TIOCSPTLCK, &unlocked))
        return -1;
    tty->slave = ioctl(tty->master, TIOCGPTPEER, flags);
    if (tty->slave < 0 || ioctl(tty->slave, TIOCSWINSZ, &size) || ioctl(tty->slave, TCGETS, &settings))
        return -1;
    settings.c_iflag |= IUTF8;
    return ioctl(tty->slave, TCSETS, &settings);
}

int tty_create(struct tty_server *server, int stream, uint16_t rows, uint16_t columns, struct tty **out) {
    uint32_t index = 1; /* so that no number is 0 whatever the node */
    while (index < TTY_MAX && server->ttys[index])
        index++;
    cleanup_free struct tty *tty = index < TTY_MAX ? calloc(1, sizeof *tty) : NULL;
    if (!tty) {
        close(stream);
        return index < TTY_MAX ? -ENOMEM : -ENOSPC;
    }
    tty->server = server;
    tty->number = tty_number(server->vos->node, index);
    tty->master = tty->slave = -1;
    tty->stream = stream;
    tty->created_s = tty->used_s = time(NULL);
    if (pty_open(tty, rows, columns)) {
        int error = -errno;
        descriptors_drop(tty);
        return error;
    }
    server->ttys[index] = tty;
    tty_watch(tty);
    *out = steal_ptr(&tty);
    return 0;
}

int tty_resize(struct tty *tty, uint16_t rows, uint16_t columns) {
    struct winsize size;
    if (tty->slave < 0 || ioctl(tty->slave, TIOCGWINSZ, &size))
        return -EIO;
    if (size.ws_row == rows && size.ws_col == columns)
        return 0;
    size.ws_row = rows;
    size.ws_col = columns;
    size.ws_xpixel = size.ws_ypixel = 0;
    if (ioctl(tty->slave, TIOCSWINSZ, &size))
        return -errno;
    job_raise(tty->server, tty->foreground, SIGWINCH);
    return 0;
}
