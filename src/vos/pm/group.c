/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process groups and sessions: attributes of each record.
 *
 * PM_GETPPID · PM_SETPGID w0 pid w1 pgid · PM_GETPGID w0 pid · PM_SETSID · PM_GETSID w0 pid
 *
 * A child that runs on another node has run exec, so setpgid never changes a record elsewhere. Whether a group exists
 * in the session is first looked up here and among the caller's children (a shell's jobs), then asked of all nodes.
 */
#include "vos/pm/pm.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void group_handle_getppid(struct pm *pm, struct process *process, struct dvk_request *req) {
    pm_answer(pm, req, 0, process->ppid, 0, 0);
}

unsigned group_look_here(struct pm *pm, uint32_t pgid, uint32_t sid) {
    struct process *process;
    list_for_each(process, &pm->processes, link)
        if (process->pgid == pgid)
            return process->sid == sid ? 1 : 2;
    return 0;
}

/* ---- is there such a group: asked of all ---- */

struct group_ask {
    struct pm *pm;
    struct dvk_request *req;
    unsigned pending;
    unsigned found; /* as group_look_here */
    uint32_t caller, target;
    uint64_t target_serial;
    uint32_t pgid;
    void (*done)(struct group_ask *ask);
};

static void group_ask_end(struct group_ask *ask) {
    if (--ask->pending)
        return;
    ask->done(ask);
    free(ask);
}

static void group_asked(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct group_ask *ask = context;
    pm_close_fds(fds, fd_count);
    if (status == 0 && reply->status == 0 && reply->payload.words[0] && ask->found != 1)
        ask->found = (unsigned)reply->payload.words[0];
    group_ask_end(ask);
}

static void group_ask_all(struct pm *pm, const struct group_ask *how, uint32_t sid) {
    struct group_ask *ask = malloc(sizeof(*ask));
    if (!ask) {
        pm_answer(pm, how->req, -ENOMEM, 0, 0, 0);
        return;
    }
    *ask = *how;
    ask->pm = pm;
    ask->pending = 1;
    ask->found = group_look_here(pm, ask->pgid, sid);
    struct pm_s_relate question = {.op = PM_RELATE_GROUP, .pgid = ask->pgid, .sid = sid};
    uint32_t nodes[VOS_MAX_NODES];
    unsigned count = ask->found ? 0 : peers_active(pm, nodes);
    for (unsigned i = 0; i < count; i++) {
        ask->pending++;
        if (peer_call(pm, nodes[i], PM_S_RELATE, &question, sizeof(question), NULL, 0, group_asked, ask) < 0)
            ask->pending--;
    }
    group_ask_end(ask);
}

/* ---- setpgid ---- */

static void group_set(struct pm *pm, struct process *target, uint32_t pgid) {
    if (target->pgid == pgid)
        return;
    target->pgid = pgid;
    exit_report(pm, target, PM_CHILD_RELATION, 0);
}

static bool may_change(const struct process *caller, const struct process *target, int *error) {
    if (target != caller && target->sid != caller->sid)
        *error = -EPERM;
    else if (target != caller && target->execed)
        *error = -EACCES;
    else if (target->sid == target->pid)
        *error = -EPERM; /* a session leader */
    else
        return true;
    return false;
}

static void setpgid_found(struct group_ask *ask) {
    struct pm *pm = ask->pm;
    struct process *caller = process_here(pm, ask->caller);
    struct process *target = process_by_serial(pm, ask->target, ask->target_serial);
    int error = 0;
    if (!caller || caller->endpoint != ask->req->msg.source || !target)
        error = -ESRCH;
    else if (ask->found != 1)
        error = -EPERM;
    else if (may_change(caller, target, &error))
        group_set(pm, target, ask->pgid);
    pm_answer(pm, ask->req, error, 0, 0, 0);
}

static bool known_to_parent(const struct process *parent, uint32_t pgid) {
    const struct child *child;
    for (const struct list *at = parent->children.next; at != &parent->children; at = at->next) {
        child = list_entry(at, struct child, link);
        if (child->pgid == pgid && child->sid == parent->sid)
            return true;
    }
    return false;
}

void group_handle_setpgid(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t pid = req->msg.payload.ints[0], pgid = req->msg.payload.ints[1];
    struct process *target = process;
    int error = 0;
    if (pgid < 0 || pgid != (int32_t)pgid || pid < 0 || pid != (int32_t)pid) {
        pm_answer(pm, req, pgid < 0 || pgid != (int32_t)pgid ? -EINVAL : -ESRCH, 0, 0, 0);
        return;
    }
    if (pid && (uint32_t)pid != process->pid) {
        struct child *child = child_find(pm, process, (uint32_t)pid);
        target = process_here(pm, (uint32_t)pid);
        if (!child || !target) {
            pm_answer(pm, req, !child ? -ESRCH : child->sid != process->sid ? -EPERM : -EACCES, 0, 0, 0);
            return;
        }
    }
    uint32_t wanted = pgid ? (uint32_t)pgid : target->pid;
    if (!may_change(process, target, &error)) {
        pm_answer(pm, req, error, 0, 0, 0);
        return;
    }
    if (wanted == target->pid || wanted == target->pgid || known_to_parent(process, wanted)) {
        group_set(pm, target, wanted);
        pm_answer(pm, req, 0, 0, 0, 0);
        return;
    }
    const struct group_ask ask = {.req = req, .caller = process->pid, .target = target->pid, .target_serial = target->serial,
                                  .pgid = wanted, .done = setpgid_found};
    group_ask_all(pm, &ask, process->sid);
}

void group_handle_setsid(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct process *other;
    bool leads = process->pgid == process->pid;
    list_for_each(other, &pm->processes, link)
        leads = leads || other->pgid == process->pid;
    if (leads) {
        pm_answer(pm, req, -EPERM, 0, 0, 0);
        return;
    }
    process->sid = process->pgid = process->pid;
    exit_report(pm, process, PM_CHILD_RELATION, 0);
    pm_answer(pm, req, 0, process->sid, 0, 0);
}

/* ---- getpgid, getsid ---- */

static void get_ids(struct pm *pm, uint64_t pid, uint32_t own, bool session, struct dvk_request *req) {
    uint32_t wanted = pid ? (uint32_t)pid : own;
    if (pid > INT32_MAX) {
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
        return;
    }
    struct process *target = wanted == PM_INIT_PID ? pm->init : process_here(pm, wanted);
    if (target)
        pm_answer(pm, req, 0, session ? target->sid : target->pgid, 0, 0);
    else {
        struct pm_s_locate ask = {.op = PM_LOCATE_IDS, .pid = wanted, .a = session};
        peer_relay(pm, wanted, req, PM_S_LOCATE, &ask, sizeof(ask));
    }
}

void group_handle_getpgid(struct pm *pm, struct process *process, struct dvk_request *req) {
    get_ids(pm, req->msg.payload.words[0], process->pid, false, req);
}

void group_handle_getsid(struct pm *pm, struct process *process, struct dvk_request *req) {
    get_ids(pm, req->msg.payload.words[0], process->pid, true, req);
}

/* ---- PM_S_LOCATE: questions of other pms about one process ---- */

void group_handle_locate(struct pm *pm, struct dvk_request *req) {
    struct pm_s_locate ask;
    memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
    struct process *process = process_here(pm, ask.pid);
    if (!process) {
        peer_forward(pm, ask.pid, req);
        return;
    }
    uint64_t w0 = 0, w1 = 0;
    int result = 0;
    switch (ask.op) {
    case PM_LOCATE_IDS: /* the one that is asked for first */
        w0 = ask.a ? process->sid : process->pgid;
        w1 = ask.a ? process->pgid : process->sid;
        break;
    case PM_LOCATE_CHILD:
        w0 = pm->vos->node;
        if (process->state == PROCESS_ZOMBIE || !process_is(process, ask.b))
            result = -ESRCH;
        else if (!child_find(pm, process, (uint32_t)ask.a))
            result = -ECHILD;
        break;
    case PM_LOCATE_RLIMIT:
    case PM_LOCATE_PRIORITY:
    case PM_LOCATE_SEES:
        result = limits_answer(pm, process, &ask, &w0, &w1);
        break;
    default:
        result = -EPROTO;
    }
    peer_answer(pm, req, result, w0, w1);
}

/* ---- orphaned groups ---- */

/* Has a live member whose parent is in another group of the same session? With peers active it cannot be known: yes. */
static bool group_is_tied(struct pm *pm, uint32_t pgid, const struct process *without) {
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        if (process->pgid != pgid || process == without || process->state == PROCESS_ZOMBIE)
            continue;
        struct process *parent = process_parent(pm, process);
        if (process->ppid != PM_INIT_PID && !parent)
            return true; /* on another node: unknown */
        if (parent && parent != without && parent->pgid != pgid && parent->sid == process->sid)
            return true;
    }
    return false;
}

static void orphan_group(struct pm *pm, uint32_t pgid, const struct process *without) {
    bool stopped = false;
    struct process *process;
    list_for_each(process, &pm->processes, link)
        stopped = stopped || (process->pgid == pgid && process != without && process->stopped);
    if (!stopped || group_is_tied(pm, pgid, without))
        return;
    const struct vos_siginfo_fields fields = {.code = SI_KERNEL};
    list_for_each(process, &pm->processes, link) {
        if (process->pgid != pgid || process == without)
            continue;
        signal_send(pm, process, 0, SIGHUP, &fields);
        signal_send(pm, process, 0, SIGCONT, &fields);
    }
}

/*
 * Only what can be known on this node: with other nodes active, members and parents there might still tie the group to
 * the session, so nothing is done.
 */
void group_check_orphans(struct pm *pm, struct process *ending) {
    if (peers_active(pm, NULL))
        return;
    struct process *parent = process_here(pm, ending->ppid);
    if (parent && parent->pgid != ending->pgid && parent->sid == ending->sid)
        orphan_group(pm, ending->pgid, ending);
    struct child *child;
    list_for_each(child, &ending->children, link)
        if (!child->zombie && child->pgid != ending->pgid && child->sid == ending->sid)
            orphan_group(pm, child->pgid, ending);
}

/* ---- PM_S_GROUP: for the tty server ---- */

static void group_answer(struct group_ask *ask) {
    struct pm *pm = ask->pm;
    int status = ask->found == 1 ? (int)PM_GROUP_EXISTS : ask->found ? -EPERM : -ESRCH;
    if (status > 0 && !peers_active(pm, NULL) && !group_is_tied(pm, ask->pgid, NULL))
        status |= PM_GROUP_ORPHANED;
    pm_answer(pm, ask->req, status, 0, 0, 0);
}

void group_handle_group(struct pm *pm, struct dvk_request *req) {
    const struct group_ask ask = {.req = req, .pgid = (uint32_t)req->msg.payload.words[0], .done = group_answer};
    group_ask_all(pm, &ask, (uint32_t)req->msg.payload.words[1]);
}
