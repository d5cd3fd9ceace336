/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/console.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PUMP_BYTES 65536u
/* A client that is killed and one that closes its standard output look the same at first. */
#define GONE_GRACE_MS 100u
/* How long the last output of a terminal may take to come through its line discipline after the process's end. */
#define TTY_LAST_MS 200u
#define DRAIN_ROUNDS 4096u /* of reads after a process's end: more than any pipe holds */

/*
 * One direction. Reads while the buffer is empty, writes while it is not: the source is only ever read when all that
 * came before has been taken. Watches exist only while they are wanted, since epoll reports hang-ups unasked.
 */
struct pump {
    struct console *console;
    int source, sink; /* ours; -1: closed (sink -1 from the start: log only) */
    bool source_end;  /* nothing more will be read */
    bool drain;       /* stop reading when the source is empty */
    bool logged;      /* what is read goes to the log */
    bool sink_needed; /* no sink any more: stop reading (else: read on for the log) */
    struct loop_watch *source_watch, *sink_watch;
    struct loop_timer *grace;
    size_t start, len;
    char buffer[PUMP_BYTES];
};

struct console {
    struct loop *loop;
    struct dclog *log;
    bool tty, detached;
    struct pump *pumps[3]; /* input, output, error (tty: none) */
    void (*done)(void *context);
    void *done_context;
    struct loop_timer *done_timer, *last_timer;
};

static void pump_work(struct pump *pump);

static void close_source(struct pump *pump) {
    loop_watch_remove(pump->source_watch);
    pump->source_watch = NULL;
    pump->source_end = true;
    if (pump->source >= 0)
        close(steal_fd(&pump->source));
}

static void close_sink(struct pump *pump) {
    loop_watch_remove(pump->sink_watch);
    pump->sink_watch = NULL;
    pump->len = 0;
    if (pump->sink < 0)
        return;
    shutdown(pump->sink, SHUT_WR); /* the other direction may have a copy of the socket; no socket: no matter */
    close(steal_fd(&pump->sink));
}

static bool pump_is_done(const struct pump *pump) { return !pump || (pump->source_end && pump->len == 0); }

static void done_timer_fn(void *context) {
    struct console *console = context;
    console->done_timer = NULL;
    void (*done)(void *) = console->done;
    console->done = NULL;
    if (done)
        done(console->done_context);
}

static void check_done(struct console *console) {
    if (console->done && !console->done_timer && pump_is_done(console->pumps[1]) && pump_is_done(console->pumps[2]))
        loop_timer_add(console->loop, 0, done_timer_fn, console, &console->done_timer);
}

static void on_pump(void *context, int fd, uint32_t events) { pump_work(context); }

static void grace_fn(void *context) {
    struct pump *pump = context;
    pump->grace = NULL;
    if (!pump->console->detached)
        close_source(pump); /* as a pipe would: who writes on gets EPIPE */
    pump_work(pump);
}

/* The sink takes no more. */
static void sink_lost(struct pump *pump) {
    close_sink(pump);
    if (pump->sink_needed)
        close_source(pump);
    else if (!pump->console->detached && !pump->grace)
        loop_timer_add(pump->console->loop, GONE_GRACE_MS, grace_fn, pump, &pump->grace);
}

/* False when there is nothing to read now, or ever. */
static bool pump_read(struct pump *pump) {
    ssize_t n = read(pump->source, pump->buffer, sizeof pump->buffer);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (pump->drain)
            close_source(pump);
        return false;
    }
    if (n <= 0) {
        close_source(pump);
        return false;
    }
    if (pump->logged && pump->console->log)
        dclog_append(pump->console->log, pump->buffer, (size_t)n);
    pump->start = 0;
    pump->len = pump->sink >= 0 ? (size_t)n : 0;
    return true;
}

/* False when the sink takes nothing now. */
static bool pump_write(struct pump *pump) {
    ssize_t n = write(pump->sink, pump->buffer + pump->start, pump->len);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n < 0) {
        sink_lost(pump);
        return true;
    }
    pump->start += (size_t)n;
    pump->len -= (size_t)n;
    return true;
}

static void want(struct pump *pump, struct loop_watch **watch, int fd, uint32_t events, bool wanted) {
    if (wanted == (*watch != NULL))
        return;
    if (!wanted) {
        loop_watch_remove(*watch);
        *watch = NULL;
    } else if (loop_fd_add(pump->console->loop, fd, events, on_pump, pump, watch) < 0) {
        log_error("cannot watch a console's descriptor: %m");
        *watch = NULL;
    }
}

static void pump_work(struct pump *pump) {
    /* a bounded number of rounds: others want to be served as well */
    for (unsigned round = 0; round < (pump->drain ? DRAIN_ROUNDS : 16); round++) {
        if (pump->len > 0 ? !pump_write(pump) : pump->source_end || pump->grace || !pump_read(pump))
            break;
    }
    if (pump->drain && pump->len == 0)
        close_source(pump);
    if (pump->source_end && pump->len == 0)
        close_sink(pump);
    want(pump, &pump->sink_watch, pump->sink, EPOLLOUT, pump->len > 0);
    want(pump, &pump->source_watch, pump->source, EPOLLIN, pump->len == 0 && !pump->source_end && !pump->grace);
    check_done(pump->console);
}

static int set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* source and sink are taken over, also on error. */
static int pump_create(struct console *console, int index, int source, int sink) {
    cleanup_close int from = source;
    cleanup_close int to = sink;
    struct pump *pump = calloc(1, sizeof *pump);
    if (!pump)
        return -ENOMEM;
    int result = from >= 0 ? set_nonblocking(from) : 0;
    if (result == 0 && to >= 0)
        result = set_nonblocking(to);
    if (result < 0) {
        free(pump);
        return result;
    }
    pump->console = console;
    pump->source = steal_fd(&from);
    pump->sink = steal_fd(&to);
    pump->source_end = pump->source < 0;
    pump->logged = index > 0;
    pump->sink_needed = index == 0;
    console->pumps[index] = pump;
    return 0;
}

static int duplicate(int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3); }

static int create_tty(struct console *console, int client_fd, int guest_fds[3]) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    cleanup_close int client = client_fd;
    guest_fds[0] = sockets[1];
    /* each direction has descriptors of its own */
    int result = client >= 0 ? pump_create(console, 0, duplicate(client), duplicate(sockets[0])) : 0;
    int result_out = pump_create(console, 1, sockets[0], steal_fd(&client));
    return result < 0 ? result : result_out;
}

static int create_pipe(struct console *console, int index, int client_fd, uint32_t owner, int guest_fds[3]) {
    cleanup_close int client = client_fd;
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -errno;
    cleanup_close int ours = pipes[index == 0 ? 1 : 0];
    guest_fds[index] = pipes[index == 0 ? 0 : 1];
    /* a guest may open it again through /proc: it must be its own */
    if (fchown(guest_fds[index], owner, owner) < 0)
        return -errno;
    return index == 0 ? pump_create(console, 0, steal_fd(&client), steal_fd(&ours))
                      : pump_create(console, index, steal_fd(&ours), steal_fd(&client));
}

int console_create(struct loop *loop, bool tty, const int client_fds[3], struct dclog *log, uint32_t owner,
                   struct console **out, int guest_fds[3]) {
    struct console *console = calloc(1, sizeof *console);
    int result = console ? 0 : -ENOMEM;
    guest_fds[0] = guest_fds[1] = guest_fds[2] = -1;
    if (console) {
        *console = (struct console){.loop = loop, .log = log, .tty = tty, .detached = client_fds[0] < 0};
        if (tty)
            result = create_tty(console, client_fds[0], guest_fds);
    }
    for (int i = 0; i < 3; i++) {
        if (tty ? i > 0 || !console : result < 0) {
            if (client_fds[i] >= 0)
                close(client_fds[i]);
        } else if (!tty) {
            result = create_pipe(console, i, client_fds[i], owner, guest_fds);
        }
    }
    if (result < 0) {
        console_destroy(console);
        for (int i = 0; i < 3; i++)
            if (guest_fds[i] >= 0)
                close(steal_fd(&guest_fds[i]));
        return result;
    }
    for (int i = 0; i < 3; i++)
        if (console->pumps[i])
            pump_work(console->pumps[i]);
    *out = console;
    return 0;
}

void console_destroy(struct console *console) {
    if (!console)
        return;
    for (int i = 0; i < 3; i++) {
        struct pump *pump = console->pumps[i];
        if (!pump)
            continue;
        loop_timer_cancel(pump->grace);
        close_source(pump);
        close_sink(pump);
        free(pump);
    }
    loop_timer_cancel(console->done_timer);
    loop_timer_cancel(console->last_timer);
    free(console);
}

void console_detach(struct console *console) {
    console->detached = true;
    struct pump *input = console->pumps[0];
    if (input) {
        close_source(input);
        close_sink(input);
    }
    for (int i = 1; i < 3; i++) {
        struct pump *pump = console->pumps[i];
        if (!pump)
            continue;
        loop_timer_cancel(pump->grace);
        pump->grace = NULL;
        close_sink(pump);
        if (console->tty)
            close_source(pump); /* the terminal hangs up */
        pump_work(pump);
    }
}

static void drain(void *context) {
    struct console *console = context;
    console->last_timer = NULL;
    for (int i = 1; i < 3; i++)
        if (console->pumps[i]) {
            console->pumps[i]->drain = true;
            pump_work(console->pumps[i]);
        }
    check_done(console);
}

void console_finish(struct console *console, void (*done)(void *context), void *context) {
    console->done = done;
    console->done_context = context;
    if (console->pumps[0]) {
        close_source(console->pumps[0]);
        if (!console->tty) /* a terminal would hang up, and with that drop its last output */
            close_sink(console->pumps[0]);
    }
    if (!console->tty || pump_is_done(console->pumps[1]))
        drain(console);
    else if (!console->last_timer)
        loop_timer_add(console->loop, TTY_LAST_MS, drain, console, &console->last_timer);
}
