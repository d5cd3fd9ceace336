/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump. Each direction is a buffer between a source and a sink. We never block on our own standard output or error:
 * their modes are shared with other programs and left alone, so we write only after poll(2) said so and at most
 * PIPE_BUF bytes, which a pipe then takes at once (pipe(7)).
 */
#include "dvs/attach.h"

#include "common/cleanup.h"
#include "common/loop.h"
#include "dvs/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BUFFER_SIZE 65536u
#define END_OF_TRANSMISSION 4 /* ^D: what a terminal's user ends input with */
/* After the program's end its output is in the socket already; a descendant that lives on may keep the stream open. */
#define LINGER_MS 1000
#define SIGNALS_TO_GIVE_UP 3

struct pump {
    int source, sink; /* -1: that side is finished */
    bool source_socket, sink_socket;
    size_t start, end;
    uint8_t *buffer;
};

struct session {
    struct command *command;
    struct attach *attach;
    struct client *client;
    const char *dc;
    long long pid;
    struct pump input, output, error;
    int signals; /* signalfd */
    int forwarded;
    bool ended; /* the daemon told how it ended, or went away */
    int exit_code;
    uint64_t linger_until; /* after `ended` */
};

/* ---- sockets ---- */

void attach_close(struct attach *attach) {
    for (int i = 0; i < 3; i++) {
        if (attach->ours[i] >= 0)
            close(attach->ours[i]);
        if (attach->theirs[i] >= 0)
            close(attach->theirs[i]);
        attach->ours[i] = attach->theirs[i] = -1;
    }
}

int attach_create(struct attach *attach, bool tty, bool interactive, struct failure *failure) {
    *attach = (struct attach){.tty = tty, .interactive = interactive, .ours = {-1, -1, -1}, .theirs = {-1, -1, -1}};
    for (unsigned i = 0; i < attach_fd_count(attach); i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
            int error = -errno;
            attach_close(attach);
            return failure_set(failure, error, "internal", NULL, "cannot make a socket: %s", strerror(-error));
        }
        attach->ours[i] = pair[0];
        attach->theirs[i] = pair[1];
        fcntl(pair[0], F_SETFL, O_NONBLOCK); /* our end only; each end has its own status flags */
    }
    return 0;
}

/* ---- one direction ---- */

static void sink_finish(struct pump *pump) {
    if (pump->sink >= 0 && pump->sink_socket)
        shutdown(pump->sink, SHUT_WR);
    pump->sink = -1;
    pump->start = pump->end = 0;
}

/* Nobody takes what comes: tell the source's writer, so that it gets EPIPE as it would from a pipe. */
static void source_refuse(struct pump *pump) {
    if (pump->source >= 0 && pump->source_socket)
        shutdown(pump->source, SHUT_RD);
    pump->source = -1;
}

static void pump_read(struct session *session, struct pump *pump) {
    ssize_t n = read(pump->source, pump->buffer + pump->end, BUFFER_SIZE - pump->end);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        pump->end += (size_t)n;
        return;
    }
    pump->source = -1; /* end of file; a terminal that went away or a broken connection gives an error */
    if (pump == &session->input && session->attach->tty && pump->end < BUFFER_SIZE)
        pump->buffer[pump->end++] = END_OF_TRANSMISSION; /* the stream itself stays open for output */
}

static void pump_write(struct pump *pump) {
    size_t len = pump->end - pump->start;
    ssize_t n;
    if (pump->sink_socket)
        n = send(pump->sink, pump->buffer + pump->start, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    else
        n = write(pump->sink, pump->buffer + pump->start, len < PIPE_BUF ? len : PIPE_BUF);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0) {
        sink_finish(pump);
        source_refuse(pump);
        return;
    }
    pump->start += (size_t)n;
    if (pump->start == pump->end)
        pump->start = pump->end = 0;
}

/* Add to the poll set what the pump waits for; where it stands there, or -1. */
static void pump_poll(const struct pump *pump, struct pollfd *fds, nfds_t *count, int at[2]) {
    at[0] = at[1] = -1;
    if (pump->source >= 0 && pump->end < BUFFER_SIZE) {
        at[0] = (int)*count;
        fds[(*count)++] = (struct pollfd){.fd = pump->source, .events = POLLIN};
    }
    if (pump->sink >= 0 && pump->end > pump->start) {
        at[1] = (int)*count;
        fds[(*count)++] = (struct pollfd){.fd = pump->sink, .events = POLLOUT};
    }
}

static void pump_step(struct session *session, struct pump *pump, const struct pollfd *fds, const int at[2]) {
    if (at[1] >= 0 && fds[at[1]].revents)
        pump_write(pump);
    if (at[0] >= 0 && fds[at[0]].revents)
        pump_read(session, pump);
    bool tty_input = pump == &session->input && session->attach->tty; /* shares its socket with output */
    if (pump->source < 0 && pump->start == pump->end && pump->sink >= 0 && !tty_input)
        sink_finish(pump);
}

static bool pump_done(const struct pump *pump) {
    return pump->sink < 0 || (pump->source < 0 && pump->start == pump->end);
}

/* ---- the program's end ---- */

static void session_end(struct session *session, int exit_code) {
    session->ended = true;
    session->exit_code = exit_code;
    session->linger_until = loop_now_ms() + LINGER_MS;
    session->input.source = -1;
}

static void session_lost(struct session *session, const char *why) {
    failure_set(&session->command->failure, 0, "lost", NULL, "%s", why);
    session_end(session, EXIT_DVS_TROUBLE);
}

static void answer_take(struct session *session) {
    cleanup_json json_t *answer = NULL;
    int result = client_next(session->client, &answer, 0);
    if (result == -EAGAIN)
        return;
    if (result < 0) {
        session_lost(session, "dvkd went away while the program ran");
        return;
    }
    json_int_t status;
    const char *lost = field_string(answer, "lost");
    if (field_integer(answer, "exited", &status)) {
        int wait_status = (int)status;
        session_end(session,
                    WIFSIGNALED(wait_status) ? EXIT_SIGNAL_BASE + WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
    } else if (lost) {
        char why[300];
        snprintf(why, sizeof why, "the program is lost: %s", lost);
        session_lost(session, why);
    }
}

/* ---- signals ---- */

static void process_tell(struct session *session, json_t *request) {
    cleanup_json json_t *answer = NULL;
    struct failure ignored = {0}; /* it may have ended just now */
    client_ask_run(session->client->run, request, 2000, &answer, &ignored);
}

static void signal_take(struct session *session) {
    struct signalfd_siginfo info;
    if (read(session->signals, &info, sizeof info) != sizeof info)
        return;
    int number = (int)info.ssi_signo;
    if (number == SIGWINCH) {
        int rows, cols;
        terminal_size(&rows, &cols);
        process_tell(session, json_pack("{s:s, s:s, s:I, s:i, s:i}", "op", "dc.resize", "dc", session->dc, "pid",
                                        (json_int_t)session->pid, "rows", rows, "cols", cols));
        return;
    }
    if (number == SIGCONT) {
        if (session->attach->tty && session->attach->interactive)
            terminal_raw();
        return;
    }
    if (++session->forwarded >= SIGNALS_TO_GIVE_UP) {
        failure_set(&session->command->failure, 0, "lost", "dvs kill ends it for certain",
                    "gave up waiting; the program was told to hang up");
        session_end(session, EXIT_SIGNAL_BASE + number);
        session->linger_until = 0;
        return;
    }
    process_tell(session, json_pack("{s:s, s:s, s:I, s:i}", "op", "dc.kill", "dc", session->dc, "pid",
                                    (json_int_t)session->pid, "signal", number));
}

static int signals_open(bool tty) {
    sigset_t mask;
    sigemptyset(&mask);
    static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < ARRAY_LENGTH(forwarded); i++)
        sigaddset(&mask, forwarded[i]);
    if (tty) {
        sigaddset(&mask, SIGWINCH);
        sigaddset(&mask, SIGCONT);
    }
    if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
        return -errno;
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* ---- the loop ---- */

static bool session_done(struct session *session) {
    if (!session->ended)
        return false;
    return (pump_done(&session->output) && pump_done(&session->error)) || loop_now_ms() >= session->linger_until;
}

static void session_step(struct session *session) {
    struct pollfd fds[8];
    nfds_t count = 0;
    int input[2], output[2], error[2], control = -1;
    pump_poll(&session->input, fds, &count, input);
    pump_poll(&session->output, fds, &count, output);
    pump_poll(&session->error, fds, &count, error);
    int signals = (int)count;
    fds[count++] = (struct pollfd){.fd = session->signals, .events = POLLIN};
    if (!session->ended) {
        control = (int)count;
        fds[count++] = (struct pollfd){.fd = session->client->fd, .events = POLLIN};
    }
    bool buffered = session->client->end > session->client->start; /* read ahead with the first answer */
    int ready = poll(fds, count, !session->ended ? (buffered ? 0 : -1) : 50);
    if (ready < 0)
        return; /* EINTR */
    /* While output still flows the end is not late. */
    if (session->ended && ready > 0 && session->linger_until)
        session->linger_until = loop_now_ms() + LINGER_MS;
    pump_step(session, &session->input, fds, input);
    pump_step(session, &session->output, fds, output);
    pump_step(session, &session->error, fds, error);
    if (fds[signals].revents)
        signal_take(session);
    if (!session->ended && (buffered || fds[control].revents))
        answer_take(session);
}

int attach_run(struct command *command, struct attach *attach, struct client *client, const char *dc, long long pid) {
    struct session session = {.command = command, .attach = attach, .client = client, .dc = dc, .pid = pid};
    cleanup_free uint8_t *room = malloc(3 * BUFFER_SIZE);
    session.signals = room ? signals_open(attach->tty) : -ENOMEM;
    if (session.signals < 0) {
        failure_set(&command->failure, 0, "internal", NULL, "cannot attach: %s", strerror(-session.signals));
        failure_report(command);
        return EXIT_DVS_TROUBLE;
    }
    for (int i = 0; i < 3; i++) /* theirs are the daemon's now; a copy here would hide the end of file */
        if (attach->theirs[i] >= 0) {
            close(attach->theirs[i]);
            attach->theirs[i] = -1;
        }
    int out = attach->tty ? attach->ours[0] : attach->ours[1];
    session.input = (struct pump){.source = attach->interactive ? STDIN_FILENO : -1,
                                  .sink = attach->ours[0],
                                  .sink_socket = true,
                                  .buffer = room};
    session.output =
        (struct pump){.source = out, .sink = STDOUT_FILENO, .source_socket = true, .buffer = room + BUFFER_SIZE};
    session.error = (struct pump){.source = attach->tty ? -1 : attach->ours[2],
                                  .sink = STDERR_FILENO,
                                  .source_socket = true,
                                  .buffer = room + 2 * BUFFER_SIZE};
    if (!attach->interactive && !attach->tty)
        sink_finish(&session.input);
    if (attach->tty && attach->interactive)
        terminal_raw(); /* no terminal: as it is */

    while (!session_done(&session))
        session_step(&session);

    terminal_restore();
    close(session.signals);
    if (command->failure.code[0])
        failure_report(command);
    return session.exit_code;
}
