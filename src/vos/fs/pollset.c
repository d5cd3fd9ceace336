/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FS_POLL_SET: wait for the first of many objects. Each object gets an op of its own (FS_POLL), wherever it lives; when one is
 * true, the time is over or the caller gives up, the others are cancelled, and with the last of them the answer goes out.
 */
#include "vos/fs/fs.h"

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#define POLL_SET_MAX 4096u

struct poll_set {
    struct op *op;
    struct op **polls;  /* under way; NULL: finished */
    uint32_t *revents;
    uint32_t count, pending, ready;
    int fd;             /* host fd among them, or -1 */
    int status;         /* 0, or why it ends early */
    unsigned busy;
    bool fd_ready, ending, watched;
    bool immediate;     /* timeout 0: all are asked, none waits */
};

static void set_finish(struct poll_set *set) {
    struct op *op = set->op;
    struct dvk *dvk = op->fs->vos->dvk;
    if (set->watched)
        dvk_watch_fd(dvk, set->fd, 0, NULL, NULL);
    if (op->timer)
        dvk_timer_cancel(dvk, op->timer);
    op->timer = 0;
    op->cancel = NULL;
    int status = set->status < 0 && !set->ready && !set->fd_ready ? set->status : (int)set->ready;
    op->out[0] = set->fd_ready;
    if (status >= 0 && op_put(op, set->revents, set->count * sizeof(uint32_t)) < 0)
        status = -EINVAL;
    free(set->polls);
    free(set->revents);
    free(set);
    op_finish(op, status);
}

/* The set ends with the last poll that is under way. `busy` keeps it while someone works on it. */
static void set_check(struct poll_set *set) {
    if (set->ending && !set->pending && !set->busy)
        set_finish(set);
}

static void set_end(struct poll_set *set, int status) {
    if (set->ending)
        return;
    set->ending = true;
    set->status = status;
    set->busy++;
    for (uint32_t i = 0; i < set->count; i++) {
        struct op *poll = set->polls[i];
        if (!poll)
            continue;
        poll->cancelled = true;
        if (poll->call)
            (void)dvk_cancel(poll->fs->vos->dvk, poll->call);
        else if (poll->cancel)
            poll->cancel(poll);
    }
    set->busy--;
    set_check(set);
}

static void poll_done(struct op *poll, int status) {
    struct poll_set *set = poll->context;
    uint32_t i = (uint32_t)poll->words[7];
    set->polls[i] = NULL;
    set->pending--;
    if (status < 0 && status != -EINTR)
        set->revents[i] = POLLNVAL;
    else if (status >= 0)
        set->revents[i] = (uint32_t)poll->out[0];
    if (set->revents[i])
        set->ready++;
    if (set->busy)
        return;
    if (set->immediate ? !set->pending : set->ready != 0)
        set_end(set, 0); /* may end the set */
    else
        set_check(set);
}

static void set_timeout(void *context) {
    struct poll_set *set = context;
    set->op->timer = 0;
    set_end(set, 0);
}

static void set_fd_ready(void *context, int fd, uint32_t events) {
    struct poll_set *set = context;
    set->fd_ready = true;
    set_end(set, 0);
}

static void set_cancel(struct op *op) { set_end(op->context, -EINTR); }

static struct op *start_poll(struct poll_set *set, uint32_t i, struct object *object, uint32_t events, bool wait) {
    struct op *op = set->op, *poll = op_new(op->fs, NULL);
    if (!poll)
        return NULL;
    poll->type = FS_POLL;
    poll->pid = op->pid;
    poll->words[1] = events;
    poll->words[2] = wait;
    poll->words[7] = i;
    poll->object = object_hold(object);
    poll->done = poll_done;
    poll->context = set;
    set->polls[i] = poll;
    set->pending++;
    if (object->node != op->fs->vos->node)
        remote_forward_object(poll, object);
    else
        op_run(poll);
    return poll;
}

int do_poll_set(struct op *op) {
    uint64_t count = op->words[0];
    int64_t timeout = (int64_t)op->words[1];
    struct process *process = op_process(op);
    if (!process || count > POLL_SET_MAX || op->data_len < count * sizeof(struct vos_poll))
        return -EINVAL;
    struct poll_set *set = calloc(1, sizeof(*set));
    struct vos_poll *wanted = op_alloc(op, count * sizeof(*wanted) + 1);
    if (!set || !wanted)
        goto no_memory;
    set->polls = calloc(count + 1, sizeof(*set->polls));
    set->revents = calloc(count + 1, sizeof(*set->revents));
    if (!set->polls || !set->revents)
        goto no_memory;
    memcpy(wanted, op->data, count * sizeof(*wanted));
    set->op = op;
    set->count = (uint32_t)count;
    set->fd = op->req && op->req->fd_count ? op_keep_fd(op, steal_fd(&op->req->fds[0])) : -1;
    op->context = set;
    op->cancel = set_cancel;
    set->immediate = timeout == 0;
    set->busy++;
    for (uint32_t i = 0; i < set->count; i++) {
        struct object *object = handle_get(process, (uint64_t)wanted[i].handle);
        if (!object || !start_poll(set, i, object, wanted[i].events, timeout != 0)) {
            set->revents[i] = POLLNVAL;
            set->ready++;
        }
    }
    if (set->fd >= 0) {
        struct pollfd state = {.fd = set->fd, .events = POLLIN};
        set->fd_ready = poll(&state, 1, 0) > 0;
    }
    bool now = set->immediate ? !set->pending : set->ready || set->fd_ready;
    struct dvk *dvk = op->fs->vos->dvk;
    set->busy--;
    if (set->fd >= 0 && !now && !set->immediate) {
        if (dvk_watch_fd(dvk, set->fd, EPOLLIN, set_fd_ready, set) < 0)
            now = true;
        else
            set->watched = true;
    }
    if (now)
        set_end(set, 0);
    else if (timeout > 0 && dvk_timer(dvk, (uint64_t)timeout, set_timeout, set, &op->timer) < 0)
        set_end(set, -ENOMEM);
    return FS_PENDING;
no_memory:
    if (set) {
        free(set->polls);
        free(set->revents);
        free(set);
    }
    return -ENOMEM;
}
