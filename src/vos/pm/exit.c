/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of processes, and what parents learn of their children.
 *
 * Cell init reports that a host process has ended, stopped or continued. At its end the files are dropped first (FS_S_EXIT), then
 * the parent is told, as on Linux. The record stays as a zombie where the process ran until the parent's pm says that it was waited for.
 * pid 1 is a name: for a program that dvkd started the parent's side is pm->init on the node where it was started; orphans
 * have no parent's side, and their zombies go at once.
 *
 * PM_EXIT is accepted for the sake of the protocol and changes nothing: the status is the host's.
 */
#include "common/record.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include "vos/tty/tty.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define PARENT_TRIES 3u
#define PARENT_RETRY_MS 400u

void exit_handle(struct pm *pm, struct process *process, struct dvk_request *req) { pm_answer(pm, req, 0, 0, 0, 0); }

/* ---- reports to the parent ---- */

static void report_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count);

static void report_again(void *context) {
    struct pending *pending = context;
    struct process *process = process_by_serial(pending->pm, pending->pid, pending->serial);
    if (process && process->state == PROCESS_ZOMBIE)
        exit_report(pending->pm, process, PM_CHILD_EXITED, process->status);
    free(pending);
}

/* Nobody there knows the parent. It may be on its way, or its home just lost: ask again before taking it for dead. */
static void report_unheard(struct pm *pm, struct process *process) {
    uint64_t id;
    struct pending *pending = NULL;
    if (process->ppid != PM_INIT_PID && process->parent_tries++ < PARENT_TRIES)
        pending = pending_new(pm, NULL, process);
    if (!pending || dvk_timer(pm->vos->dvk, PARENT_RETRY_MS, report_again, pending, &id) < 0) {
        free(pending);
        exit_make_orphan(pm, process);
    }
}

static void report_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct process *process = process_by_serial(pm, pending->pid, pending->serial);
    pm_close_fds(fds, fd_count);
    if (status == 0)
        peer_seen(pm, reply);
    if (process && process->state == PROCESS_ZOMBIE && pending->a == PM_CHILD_EXITED) {
        if (status < 0 || reply->status == -ESRCH)
            report_unheard(pm, process);
        else if (reply->status != 0) /* reaped, or no child of that process */
            exit_reap(pm, process);
    }
    free(pending);
}

static void report_fill(const struct pm *pm, const struct process *process, uint32_t kind, int status, struct pm_s_child_state *state) {
    *state = (struct pm_s_child_state){.kind = (uint16_t)kind, .node = (uint16_t)pm->vos->node, .pid = process->pid,
                                       .ppid = process->ppid, .moves = process->moves, .sequence = process->sequence, .status = status, .pgid = process->pgid,
                                       .sid = process->sid, .uid = process->creds.uid, .exit_signal = process->exit_signal,
                                       .birth = process->parent_birth, .usage = process->usage};
    usage_add(&state->usage, &process->children_usage);
}

static void report_here(struct pm *pm, struct process *process, struct process *parent, const struct pm_s_child_state *state) {
    if (state->kind == PM_CHILD_STARTED)
        return;
    if (wait_child_state(pm, parent, state) != 0 && state->kind == PM_CHILD_EXITED)
        exit_reap(pm, process);
}

void exit_report(struct pm *pm, struct process *process, uint32_t kind, int status) {
    struct pm_s_child_state state;
    if (!process->parent_node && process->ppid == PM_INIT_PID) {
        if (kind == PM_CHILD_EXITED)
            exit_reap(pm, process);
        return;
    }
    process->sequence++;
    report_fill(pm, process, kind, status, &state);
    struct process *parent = NULL;
    if (process->ppid != PM_INIT_PID)
        parent = process_parent(pm, process);
    else if (process->parent_node == pm->vos->node)
        parent = pm->init;
    if (parent && process_frozen(parent)) {
        list_remove(&process->report_link);
        list_append(&pm->parked_reports, &process->report_link);
        return;
    }
    if (parent && parent->state != PROCESS_ZOMBIE) {
        report_here(pm, process, parent, &state);
        return;
    }
    uint32_t node = process->parent_node;
    if (!peer_is_active(pm, node) || node == pm->vos->node)
        node = process->ppid == PM_INIT_PID ? 0 : peer_route(pm, process->ppid);
    struct pending *pending = pending_new(pm, NULL, process);
    if (pending)
        pending->a = kind;
    if (parent || !node || !pending ||
        peer_call(pm, node, PM_S_CHILD_STATE, &state, sizeof(state), NULL, 0, report_done, pending) < 0) {
        free(pending);
        if (kind == PM_CHILD_EXITED)
            report_unheard(pm, process);
    }
}

static void report_parked(struct pm *pm, struct process *process) {
    if (process->state == PROCESS_ZOMBIE)
        exit_report(pm, process, PM_CHILD_EXITED, process->status);
    else if (process->stopped)
        exit_report(pm, process, PM_CHILD_STOPPED, process->status);
    else
        exit_report(pm, process, PM_CHILD_RELATION, 0);
}

void exit_reports_go_on(struct pm *pm, uint32_t ppid) {
    struct list due;
    struct process *process;
    list_init(&due);
    list_for_each(process, &pm->parked_reports, report_link) {
        if (process->ppid != ppid)
            continue;
        list_remove(&process->report_link);
        list_append(&due, &process->report_link);
    }
    while ((process = list_first(&due, struct process, report_link))) {
        list_remove(&process->report_link);
        report_parked(pm, process);
    }
}

void exit_reap(struct pm *pm, struct process *process) {
    peer_release_pid(pm, process);
    process_free(pm, process);
    spare_fill(pm);
}

void exit_make_orphan(struct pm *pm, struct process *process) {
    process->ppid = PM_INIT_PID;
    process->parent_birth = DVK_NONE;
    process->parent_node = 0;
    process->parent_lost = false;
    list_remove(&process->report_link);
    if (process->state == PROCESS_ARRIVING)
        arrive_orphaned(process);
    move_go_on_soon(pm);
    if (process->state == PROCESS_ZOMBIE)
        exit_reap(pm, process);
}

/* ---- the end ---- */

static void leave_children(struct pm *pm, struct process *process) {
    struct child *child;
    while ((child = list_first(&process->children, struct child, link))) {
        uint32_t pid = child->pid, node = child->node;
        bool zombie = child->zombie;
        child_remove(pm, child);
        struct process *here = process_here(pm, pid);
        if (here && here->ppid == process->pid) {
            if (here->state == PROCESS_FORKING && !host_exists(pm->vos, pid))
                fork_abandon(pm, here);
            else
                exit_make_orphan(pm, here);
        } else if (!here && peer_is_active(pm, node)) {
            struct pm_s_child_state told = {.kind = zombie ? PM_CHILD_REAPED : PM_CHILD_ORPHANED, .pid = pid, .ppid = process->pid};
            if (node == pm->vos->node)
                node = peer_route(pm, pid);
            if (node)
                peer_call(pm, node, PM_S_CHILD_STATE, &told, sizeof(told), NULL, 0, NULL, NULL);
        }
    }
}

static void end_session(struct pm *pm, uint32_t sid) {
    struct dvk_message message = {.type = TTY_S_SESSION_END};
    message.payload.words[0] = sid;
    pm_call_local(pm, DVK_SERVICE_TTY, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
    uint32_t nodes[VOS_MAX_NODES];
    unsigned count = peers_active(pm, nodes);
    for (unsigned i = 0; i < count; i++) {
        message.destination = vos_service(nodes[i], DVK_SERVICE_TTY);
        dvk_call(pm->vos->dvk, pm->vos->self[DVK_SERVICE_PM], &message, NULL, 0, NULL, 0, pm_ignore_done, NULL, NULL);
    }
}

static void files_dropped(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                          unsigned fd_count) {
    struct pending *pending = context;
    struct process *process = process_by_serial(pending->pm, pending->pid, pending->serial);
    pm_close_fds(fds, fd_count);
    if (process)
        exit_report(pending->pm, process, PM_CHILD_EXITED, process->status);
    free(pending);
}

void exit_process(struct pm *pm, struct process *process, int status, const struct init_rusage *usage) {
    record(RECORD_PROCESS_EXIT, pm->vos->dc, process->pid, (uint64_t)status);
    process->state = PROCESS_ZOMBIE;
    process->status = status;
    process->stopped = false;
    list_remove(&process->report_link); /* what was to be told is old: the end will be, once */
    process->kept_count = 0;
    list_remove(&process->spawn_link);
    if (usage)
        usage_add(&process->usage, usage);
    process_unbind(pm, process, false);
    tid_list_release(pm, &process->tids);
    image_drop(&process->image);
    wait_drop_all(pm, process);
    group_check_orphans(pm, process);
    leave_children(pm, process);
    if (process->sid == process->pid)
        end_session(pm, process->sid);
    move_go_on_soon(pm);

    struct dvk_message message = {.type = FS_S_EXIT};
    message.payload.words[0] = process->pid;
    struct pending *pending = pending_new(pm, NULL, process);
    if (!pending || pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, files_dropped, pending) < 0) {
        free(pending);
        exit_report(pm, process, PM_CHILD_EXITED, status);
    }
}

/* ---- what cell init reports ---- */

static void husk_ended(struct pm *pm, uint32_t pid, struct slot_entry *entry) {
    struct husk *husk = entry->husk;
    entry->husk = NULL;
    dvk_guest_unbind(pm->vos->dvk, husk->endpoint, true);
    tid_list_release(pm, &husk->tids);
    free(husk);
    struct dvk_message message = {.type = FS_S_EXIT};
    message.payload.words[0] = pid;
    pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
    if (entry->process) {
        arrive_husk_gone(pm, entry->process);
        return;
    }
    if (!entry->away_node)
        slots_give(&pm->slots, pid);
    pm_entry_trim(pm, pid);
    spare_fill(pm);
}

void exit_host_state(struct pm *pm, uint32_t pid, int wait_status, const struct init_rusage *usage) {
    struct slot_entry *entry = pm_entry(pm, pid);
    bool ended = WIFEXITED(wait_status) || WIFSIGNALED(wait_status);
    if (!entry)
        return;
    if (entry->husk) {
        if (ended)
            husk_ended(pm, pid, entry);
        return;
    }
    struct process *process = entry->process;
    if (!process || process->endpoint == DVK_NONE)
        return;
    switch (process->state) {
    case PROCESS_LEAVING:
        if (ended) {
            process->host_gone = true;
            process->status = wait_status;
            usage_add(&process->usage, usage);
        }
        break;
    case PROCESS_REPLACED:
        if (ended)
            exec_husk_ended(pm, process, wait_status, usage);
        break;
    case PROCESS_FORKING:
    case PROCESS_CLONING:
    case PROCESS_LOADING:
    case PROCESS_RUNNING:
        if (ended) {
            exit_process(pm, process, wait_status, usage);
        } else {
            process->stopped = WIFSTOPPED(wait_status);
            process->status = wait_status;
            exit_report(pm, process, process->stopped ? PM_CHILD_STOPPED : PM_CHILD_CONTINUED, wait_status);
        }
        break;
    case PROCESS_ARRIVING:
    case PROCESS_BINDING:
    case PROCESS_QUEUED:
    case PROCESS_ZOMBIE: /* no host process of ours */
        break;
    }
}

/* ---- from other pms ---- */

static void told_by_child(struct pm *pm, struct dvk_request *req, const struct pm_s_child_state *state) {
    struct process *parent = state->ppid == PM_INIT_PID ? pm->init : process_here(pm, state->ppid);
    if (!parent) {
        peer_forward(pm, state->ppid, req);
        return;
    }
    if (process_frozen(parent)) {
        pm_park(pm, &parent->parked, req);
        return;
    }
    int result = -ESRCH;
    if (state->kind == PM_CHILD_STARTED) {
        struct child *child = child_find(pm, parent, state->pid);
        if (child && parent == pm->init)
            control_started(pm, child, state->status);
        result = 0;
    } else if (parent->state != PROCESS_ZOMBIE && process_is(parent, state->birth)) {
        result = wait_child_state(pm, parent, state);
    }
    peer_answer(pm, req, result, 0, 0);
}

static void told_by_parent(struct pm *pm, struct dvk_request *req, const struct pm_s_child_state *state) {
    struct process *process = process_here(pm, state->pid);
    if (!process) {
        peer_forward(pm, state->pid, req);
        return;
    }
    if (process_frozen(process)) {
        pm_park(pm, &process->parked, req);
        return;
    }
    if (process->ppid == state->ppid) {
        if (state->kind == PM_CHILD_ORPHANED)
            exit_make_orphan(pm, process);
        else if (process->state == PROCESS_ZOMBIE)
            exit_reap(pm, process);
    }
    peer_answer(pm, req, 0, 0, 0);
}

void exit_handle_child_state(struct pm *pm, struct dvk_request *req) {
    struct pm_s_child_state state;
    memcpy(&state, req->msg.payload.bytes, sizeof(state));
    if (state.kind >= PM_CHILD_EXITED && state.kind <= PM_CHILD_STARTED)
        told_by_child(pm, req, &state);
    else if (state.kind == PM_CHILD_REAPED || state.kind == PM_CHILD_ORPHANED)
        told_by_parent(pm, req, &state);
    else
        peer_answer(pm, req, -EPROTO, 0, 0);
}

/* ---- lost nodes ---- */

static void parent_found(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                         unsigned fd_count);

static void find_parent_later(void *context) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct process *process = process_by_serial(pm, pending->pid, pending->serial);
    if (!process || !process->parent_lost || process_frozen(process)) {
        free(pending); /* if it stays here after all, exit_check_parent begins anew */
        return;
    }
    if (process_parent(pm, process)) {
        process->parent_node = pm->vos->node;
        process->parent_lost = false;
        free(pending);
        return;
    }
    struct pm_s_locate ask = {.op = PM_LOCATE_CHILD, .pid = process->ppid, .a = process->pid, .b = process->parent_birth};
    uint32_t node = peer_route(pm, process->ppid);
    if (!node || peer_call(pm, node, PM_S_LOCATE, &ask, sizeof(ask), NULL, 0, parent_found, pending) < 0) {
        free(pending);
        exit_find_parent(pm, process);
    }
}

static void parent_found(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                         unsigned fd_count) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct process *process = process_by_serial(pm, pending->pid, pending->serial);
    pm_close_fds(fds, fd_count);
    free(pending);
    if (!process || !process->parent_lost)
        return;
    if (status == 0 && reply->status == 0) {
        process->parent_node = (uint32_t)reply->payload.words[0];
        process->parent_lost = false;
        process->parent_tries = 0;
    } else if (status == 0 && reply->status == -ECHILD) { /* it has been reported as killed */
        const struct vos_siginfo_fields fields = {.code = SI_KERNEL};
        process->parent_lost = false;
        process->ppid = PM_INIT_PID;
        process->parent_birth = DVK_NONE;
        process->parent_node = 0;
        if (process->state == PROCESS_ZOMBIE)
            exit_reap(pm, process);
        else
            signal_send(pm, process, 0, SIGKILL, &fields);
    } else {
        exit_find_parent(pm, process);
    }
}

void exit_find_parent(struct pm *pm, struct process *process) {
    uint64_t id;
    process->parent_lost = true;
    struct pending *pending = process->parent_tries++ < PARENT_TRIES ? pending_new(pm, NULL, process) : NULL;
    if (!pending || dvk_timer(pm->vos->dvk, PARENT_RETRY_MS, find_parent_later, pending, &id) < 0) {
        free(pending);
        exit_make_orphan(pm, process);
    }
}

void exit_fill_killed(const struct child *child, struct pm_s_child_state *state) {
    *state = (struct pm_s_child_state){.kind = PM_CHILD_EXITED, .pid = child->pid, .ppid = child->parent->pid, .moves = child->moves,
                                       .sequence = child->sequence + 1, .status = SIGKILL, .pgid = child->pgid, .sid = child->sid,
                                       .uid = child->uid, .exit_signal = child->exit_signal};
}

void exit_check_children(struct pm *pm, struct process *process) {
    if (process_frozen(process))
        return;
    struct child *child;
    list_for_each(child, &process->children, link) {
        if (child->zombie || (!child->lost && peer_is_active(pm, child->node)))
            continue;
        struct pm_s_child_state killed;
        exit_fill_killed(child, &killed);
        uint32_t pid = child->pid;
        wait_child_state(pm, process, &killed);
        if (peer_home(pm, pid) == pm->vos->node)
            peer_note_gone(pm, pid);
    }
}

void exit_check_parent(struct pm *pm, struct process *process) {
    if (process_frozen(process) || !process->parent_node)
        return;
    if (process->parent_node == pm->vos->node || (!process->parent_lost && peer_is_active(pm, process->parent_node))) {
        process->parent_lost = false;
        return;
    }
    if (process->ppid == PM_INIT_PID) {
        exit_make_orphan(pm, process); /* dvkd there is gone: nobody to tell */
    } else {
        process->parent_tries = 0;
        exit_find_parent(pm, process);
    }
}

static void mark_lost(struct process *process, uint32_t node) {
    struct child *child;
    list_for_each(child, &process->children, link)
        if (child->node == node && !child->zombie)
            child->lost = true;
    if (process->parent_node == node)
        process->parent_lost = true;
}

void exit_node_lost(struct pm *pm, uint32_t node) {
    struct process *process;
    mark_lost(pm->init, node);
    exit_check_children(pm, pm->init);
    list_for_each(process, &pm->processes, link) {
        mark_lost(process, node);
        exit_check_children(pm, process);
    }
    list_for_each(process, &pm->processes, link)
        if (process->parent_node == node)
            exit_check_parent(pm, process);
}
