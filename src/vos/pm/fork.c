/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PM_FORK       w0 clone flags (clone(2); the low byte is the exit signal). reply: w0 pid; fds: channel, socket
 * PM_FORK_DONE  w0 child's pid, w1 0 or the errno of the failed clone
 *
 * The child's record exists and fs has copied its references before the parent is answered.
 */
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* What a child has of its parent. 0 or -ENOMEM. */
static int inherit(struct process *child, const struct process *parent) {
    int result = creds_copy(&child->creds, &parent->creds);
    if (result < 0)
        return result;
    if (parent->cmdline_len) {
        child->cmdline = malloc(parent->cmdline_len);
        if (!child->cmdline)
            return -ENOMEM;
        memcpy(child->cmdline, parent->cmdline, parent->cmdline_len);
        child->cmdline_len = parent->cmdline_len;
    }
    memcpy(child->comm, parent->comm, sizeof(child->comm));
    memcpy(child->limits, parent->limits, sizeof(child->limits));
    child->pgid = parent->pgid;
    child->sid = parent->sid;
    child->umask = parent->umask;
    child->nice = parent->nice;
    child->chld_flags = parent->chld_flags;
    return 0;
}

static void drop_child(struct pm *pm, struct process *child) {
    struct slot_entry *entry = pm_entry(pm, child->pid);
    struct process *parent = NULL;
    if (entry && entry->child) {
        parent = entry->child->parent;
        child_remove(pm, entry->child);
    }
    process_unbind(pm, child, false);
    peer_release_pid(pm, child);
    process_free(pm, child);
    if (parent)
        wait_check(pm, parent);
}

void fork_abandon(struct pm *pm, struct process *child) {
    struct dvk_message message = {.type = FS_S_EXIT};
    message.payload.words[0] = child->pid;
    pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
    drop_child(pm, child);
}

static bool caller_lives(struct pm *pm, const struct dvk_request *req) {
    struct process *caller = process_here(pm, dvk_endpoint_slot(req->msg.source));
    return caller && caller->endpoint == req->msg.source && caller->state == PROCESS_RUNNING;
}

/* fs has copied the references: tell the parent. */
static void fork_shared(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct process *child = process_by_serial(pm, pending->pid, pending->serial);
    int result = status < 0 ? -EIO : reply->status;
    if (!child) {
        pm_answer(pm, pending->req, -ESRCH, 0, 0, 0);
    } else if (result < 0) {
        drop_child(pm, child);
        pm_answer(pm, pending->req, result, 0, 0, 0);
    } else if (!caller_lives(pm, pending->req)) {
        fork_abandon(pm, child); /* nobody is left to clone it */
        pm_answer(pm, pending->req, -ESRCH, 0, 0, 0);
    } else {
        struct dvk_message answer = {0};
        answer.payload.words[0] = child->pid;
        const int sent[2] = {child->channel_fd, child->socket_fd};
        pm_answer_message(pm, pending->req, &answer, sent, 2);
        fd_close(&child->channel_fd);
        fd_close(&child->socket_fd);
    }
    free(pending);
}

static int child_create(struct pm *pm, struct process *parent, struct process *owner, uint64_t flags, struct spare *spare,
                        struct process **out) {
    struct process *child = process_create(pm, dvk_endpoint_slot(spare->endpoint));
    if (!child) {
        spare_return(pm, spare);
        return -ENOMEM;
    }
    child->endpoint = child->birth = spare->endpoint;
    child->channel_fd = spare->channel_fd;
    child->socket_fd = spare->socket_fd;
    child->state = PROCESS_FORKING;
    child->exit_signal = (flags & 0xff) <= 64 ? flags & 0xff : SIGCHLD;
    child->ppid = owner->pid;
    child->parent_birth = owner->birth;
    child->parent_node = pm->vos->node;
    struct child *entry = child_add(pm, owner, child->pid);
    if (!entry || inherit(child, parent) < 0) {
        drop_child(pm, child);
        return -ENOMEM;
    }
    entry->pgid = child->pgid;
    entry->sid = child->sid;
    entry->uid = child->creds.uid;
    entry->exit_signal = child->exit_signal;
    *out = child;
    return 0;
}

static void fork_have_spare(struct pm *pm, void *context, int status, struct spare *spare) {
    struct pending *pending = context;
    struct process *parent = process_by_serial(pm, pending->pid, pending->serial);
    struct process *owner = parent, *child = NULL;
    uint64_t flags = pending->req->msg.payload.words[0];
    if (parent && flags & CLONE_PARENT)
        owner = parent->parent_node == pm->vos->node ? process_parent(pm, parent) : NULL;
    if (status == 0 && (!parent || parent->state != PROCESS_RUNNING))
        status = -ESRCH;
    else if (status == 0 && (!owner || owner->state == PROCESS_LEAVING))
        status = -EINVAL; /* CLONE_PARENT, and the parent is on another node */
    if (status == 0)
        status = child_create(pm, parent, owner, flags, spare, &child);
    else if (spare)
        spare_return(pm, spare);
    if (status < 0) {
        pm_answer(pm, pending->req, status, 0, 0, 0);
        free(pending);
        return;
    }
    struct dvk_message message = {.type = FS_S_FORK};
    message.payload.words[0] = parent->pid;
    message.payload.words[1] = child->pid;
    pending->pid = child->pid;
    pending->serial = child->serial;
    if (pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, fork_shared, pending) < 0) {
        drop_child(pm, child);
        pm_answer(pm, pending->req, -EAGAIN, 0, 0, 0);
        free(pending);
    }
}

void fork_handle(struct pm *pm, struct process *process, struct dvk_request *req) {
    if (!req->wants_reply || process->state != PROCESS_RUNNING) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    struct pending *pending = pending_new(pm, req, process);
    if (!pending)
        pm_answer(pm, req, -ENOMEM, 0, 0, 0);
    else
        spare_take(pm, fork_have_spare, pending);
}

void fork_handle_done(struct pm *pm, struct process *process, struct dvk_request *req) {
    uint64_t pid = req->msg.payload.words[0];
    struct process *child = pid < DVK_USER_SLOTS ? process_here(pm, (uint32_t)pid) : NULL;
    if (child && child->state == PROCESS_FORKING && child->ppid == process->pid) {
        if (req->msg.payload.words[1] == 0) {
            child->state = PROCESS_RUNNING;
            signal_flush(pm, child);
        } else if (!host_exists(pm->vos, child->pid)) {
            fork_abandon(pm, child);
        }
    }
    pm_answer(pm, req, 0, 0, 0, 0);
}
