/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, foreground groups and the questions to pm that go with them. After tty_jobctrl.c of the Linux kernel. */
#include "common/cleanup.h"
#include "common/log.h"
#include "vos/pm/info.h"
#include "vos/tty/server.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

/* A call of pm on behalf of an op. If it cannot be made, `done` is called at once with the error. */
static void pm_call(struct tty_server *server, uint32_t type, uint64_t w0, uint64_t w1, uint64_t w2, dvk_done *done,
                    void *context) {
    struct dvk_message message = {.destination = server->pm, .type = type, .payload.words = {w0, w1, w2}};
    int error = dvk_call(server->vos->dvk, server->self, &message, NULL, 0, NULL, 0, done, context, NULL);
    if (error) {
        struct dvk_message none = {0};
        done(context, error, &none, NULL, 0, NULL, 0);
    }
}

static void fds_close(const int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

/* The op waited for pm and may have been cancelled, or its tty have gone, meanwhile: then it is answered here. */
static struct tty *asked_tty(struct op *op) {
    struct tty *tty = tty_find(op->server, op->number);
    op->asking = false;
    if (op->cancelled)
        op_status(op, -EINTR);
    else if (!tty)
        op_status(op, -EIO);
    else
        return tty;
    return NULL;
}

/* ---- who is the caller? ---- */

static void asked_info(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    struct op *op = context;
    struct pm_process_info info;
    fds_close(fds, fd_count);
    struct tty *tty = asked_tty(op);
    if (!tty)
        return;
    if (status || reply->status < 0 || data_len < sizeof info) {
        op_status(op, status || reply->status != -ESRCH ? -EIO : -ESRCH);
        return;
    }
    memcpy(&info, data, sizeof info);
    op->pgid = info.pgid;
    op->sid = info.sid;
    op->then(op, tty);
}

void job_ask(struct op *op, void (*then)(struct op *op, struct tty *tty)) {
    op->then = then;
    op->asking = true;
    pm_call(op->server, PM_S_INFO, op->pid, 0, 0, asked_info, op);
}

/* ---- signals to groups ---- */

static void raised(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                   const int *fds, unsigned fd_count) {
    fds_close(fds, fd_count);
    if (status)
        log_warning("tty: pm did not take a signal: %s", dvk_strerror(status));
}

void job_raise(struct tty_server *server, uint32_t pgid, int signal) {
    if (pgid)
        pm_call(server, PM_S_RAISE, 1, pgid, (uint64_t)signal, raised, NULL);
}

static void job_raise_process(struct tty_server *server, uint32_t pid, int signal) {
    pm_call(server, PM_S_RAISE, 0, pid, (uint64_t)signal, raised, NULL);
}

void job_session_drop(struct tty *tty, bool leader_too) {
    uint32_t session = tty->session, foreground = tty->foreground;
    tty->session = tty->foreground = 0;
    if (session && leader_too) {
        job_raise_process(tty->server, session, SIGHUP);
        job_raise_process(tty->server, session, SIGCONT);
    }
    job_raise(tty->server, foreground, SIGHUP);
    job_raise(tty->server, foreground, SIGCONT);
}

/* ---- background groups ---- */

/* Does the process ignore or block the signal? From what the personality told, else from /proc, where its host process
 * mirrors mask and dispositions. */
static bool signal_off(const struct op *op, int signal) {
    if (op->flags & VOS_TTY_KNOWN)
        return op->flags & (signal == SIGTTIN ? VOS_TTY_TTIN_OFF : VOS_TTY_TTOU_OFF);
    char path[32], line[256];
    snprintf(path, sizeof path, "%u/status", op->pid);
    int fd = openat(op->server->vos->proc_fd, path, O_RDONLY | O_CLOEXEC);
    cleanup_file FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    unsigned long long mask = 0, set;
    if (!file) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "SigBlk: %llx", &set) == 1 || sscanf(line, "SigIgn: %llx", &set) == 1)
            mask |= set;
    return mask >> (signal - 1) & 1;
}

static void stopped(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                    const int *fds, unsigned fd_count) {
    struct op *op = context;
    fds_close(fds, fd_count);
    if (asked_tty(op))
        op_status(op, status || reply->status <= 0 ? -EIO : -TTY_RESTART);
}

static void stop_group(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    struct op *op = context;
    fds_close(fds, fd_count);
    if (!asked_tty(op))
        return;
    if (status || reply->status < 0 || (reply->status & PM_GROUP_ORPHANED)) {
        op_status(op, -EIO); /* nobody could continue it */
        return;
    }
    op->asking = true;
    pm_call(op->server, PM_S_RAISE, 1, op->pgid, (uint64_t)op->outcome, stopped, op);
}

bool job_check(struct op *op, struct tty *tty, int signal) {
    if (!tty->session || op->sid != tty->session || !tty->foreground || op->pgid == tty->foreground)
        return true;
    if (signal_off(op, signal)) {
        if (signal == SIGTTOU)
            return true;
        op_status(op, -EIO);
        return false;
    }
    op->asking = true;
    op->outcome = signal;
    pm_call(op->server, PM_S_GROUP, op->pgid, op->sid, 0, stop_group, op);
    return false;
}

/* ---- foreground ---- */

static void foreground_known(void *context, int status, const struct dvk_message *reply, const void *data,
                             size_t data_len, const int *fds, unsigned fd_count) {
    struct op *op = context;
    fds_close(fds, fd_count);
    struct tty *tty = asked_tty(op);
    if (!tty)
        return;
    if (!status && reply->status >= 0 && tty->session == op->sid)
        tty->foreground = (uint32_t)op->outcome;
    op_status(op, status ? -EIO : reply->status < 0 ? reply->status : tty->session != op->sid ? -ENOTTY : 0);
}

void job_set_foreground(struct op *op, struct tty *tty, uint32_t pgid) {
    op->asking = true;
    op->outcome = (int)pgid;
    pm_call(op->server, PM_S_GROUP, pgid, op->sid, 0, foreground_known, op);
}

/* ---- whose terminal? ---- */

struct tty *job_session_find(struct tty_server *server, uint32_t sid) {
    for (uint32_t i = 0; sid && i < TTY_MAX; i++)
        if (server->ttys[i] && server->ttys[i]->session == sid && !server->ttys[i]->closing)
            return server->ttys[i];
    return NULL;
}

static void found(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                  const int *fds, unsigned fd_count) {
    struct op *op = context; /* op->done: how many have not answered yet; op->outcome: the answer, 0: none */
    fds_close(fds, fd_count);
    if (!status && reply->status == 0 && reply->payload.words[0] <= INT32_MAX && !op->outcome)
        op->outcome = (int)reply->payload.words[0];
    if (--op->done)
        return;
    op_answer(op, op->outcome ? 0 : op->cancelled ? -EINTR : -ENXIO, (uint64_t)op->outcome, 0);
}

void job_find(struct op *op) {
    struct tty_server *server = op->server;
    uint64_t sid = op->req->msg.payload.words[0];
    struct tty *tty = sid <= UINT32_MAX ? job_session_find(server, (uint32_t)sid) : NULL;
    if (tty || op->req->msg.payload.words[1]) {
        op_answer(op, tty ? 0 : -ENXIO, tty ? tty->number : 0, 0);
        return;
    }
    op->asking = true;
    op->outcome = 0;
    op->done = 1; /* our own hold, so that no early answer ends the op */
    for (uint32_t i = 0; i < server->vos->node_count; i++) {
        const struct vos_node *node = &server->vos->nodes[i];
        if (!node->up || node->id == server->vos->node)
            continue;
        struct dvk_message message = {
            .destination = vos_service(node->id, DVK_SERVICE_TTY), .type = TTY_S_FIND, .payload.words = {sid, 1}};
        if (!dvk_call(server->vos->dvk, server->self, &message, NULL, 0, NULL, 0, found, op, NULL))
            op->done++;
    }
    struct dvk_message none = {.status = -ENXIO};
    found(op, 0, &none, NULL, 0, NULL, 0);
}
