/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving for another node: the record is frozen (LEAVING), fs describes the files, everything is sent to the other pm in parts,
 * and its answer decides. Accepted: a trace and the husk stay here. Refused, or the other node is lost: the program starts here
 * after all, so that exec does not fail for a node's sake. The exception: when everything was sent and no answer came, the program
 * may have run there already; it counts as killed with that node, since nothing may run twice.
 *
 * While the record is frozen, signals are kept, and other pms' requests and children's reports are parked; afterwards they are
 * handed on or carried out.
 *
 * A parent and its child on the same node are never in transit at the same time, so that the parent's entry for the child and the child's
 * knowledge of its parent are right in what is sent, whatever node is lost then. One that must wait is LEAVING, but not
 * in_transit. No circle: a child waits for its parent, a parent only for children that are in transit already.
 */
#include "common/log.h"
#include "common/record.h"
#include "vos/pm/host.h"
#include "vos/pm/record.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct move {
    struct pm *pm;
    uint32_t pid;
    uint64_t serial;
    uint32_t node;
    uint32_t transfer;
    uint32_t ppid, parent_node; /* as they were sent */
    uint8_t *bytes;
    size_t len, sent;
};

static void move_free(struct move *move) {
    free(move->bytes);
    free(move);
}

void move_note_child(struct child *child, uint32_t node, uint32_t moves) {
    if (moves < child->moves)
        return;
    child->node = node;
    child->moves = moves;
    child->lost = false;
}

void move_note_parent(struct process *process, uint32_t node, uint32_t moves) {
    if (moves < process->parent_moves)
        return;
    process->parent_node = node;
    process->parent_moves = moves;
    process->parent_lost = false;
}

/* The entry at its parent, if that is here; and what happened to the relation while it was frozen. */
static void settle_parent(struct pm *pm, struct process *process, const struct move *move) {
    if (process->ppid != move->ppid) {
        struct pm_s_child_state orphaned = {.kind = PM_CHILD_ORPHANED, .pid = process->pid, .ppid = move->ppid};
        peer_call(pm, move->node, PM_S_CHILD_STATE, &orphaned, sizeof(orphaned), NULL, 0, NULL, NULL);
        return;
    }
    struct process *parent = process->ppid == PM_INIT_PID ? pm->init : process_parent(pm, process);
    struct child *child = parent ? child_find(pm, parent, process->pid) : NULL;
    if (child) {
        move_note_child(child, move->node, process->moves + 1);
    } else if (parent && parent != pm->init) { /* it ended there and was waited for here before the answer came */
        struct pm_s_child_state reaped = {.kind = PM_CHILD_REAPED, .pid = process->pid, .ppid = move->ppid};
        peer_call(pm, move->node, PM_S_CHILD_STATE, &reaped, sizeof(reaped), NULL, 0, NULL, NULL);
    }
}

static void settle_children(struct pm *pm, struct process *process, const struct move *move) {
    struct child *child;
    list_for_each(child, &process->children, link) {
        struct process *here = process_here(pm, child->pid);
        if (here && here->ppid == process->pid)
            move_note_parent(here, move->node, process->moves + 1);
        if (!here && peer_is_active(pm, child->node)) { /* the new place tells, too, but may be lost at once */
            struct pm_s_moved moved = {.kind = PM_MOVED_CHILD, .pid = child->pid, .ppid = process->pid, .node = move->node,
                                       .moves = process->moves + 1};
            peer_call(pm, child->node, PM_S_MOVED, &moved, sizeof(moved), NULL, 0, NULL, NULL);
        }
        if (child->lost) { /* it was not yet when the record was sent */
            struct pm_s_child_state killed;
            exit_fill_killed(child, &killed);
            peer_call(pm, move->node, PM_S_CHILD_STATE, &killed, sizeof(killed), NULL, 0, NULL, NULL);
        }
    }
}

static void forward_kept(struct pm *pm, struct process *process, uint32_t node) {
    for (uint32_t i = 0; i < process->kept_count; i++) {
        struct pm_s_signal signal = {.kind = PM_SIGNAL_DELIVER, .target = process->pid, .tid = process->kept[i].tid,
                                     .signal = process->kept[i].signal, .fields = process->kept[i].fields};
        peer_call(pm, node, PM_S_SIGNAL, &signal, sizeof(signal), NULL, 0, NULL, NULL);
    }
}

/* The old host process, if it has not ended yet, remains as a husk. */
static void leave_husk(struct pm *pm, struct process *process) {
    bool no_program = process->channel_fd >= 0; /* a first program that never ran here */
    struct slot_entry *entry = pm_entry(pm, process->pid);
    struct husk *husk = NULL;
    if (!process->host_gone && !no_program && process->endpoint != DVK_NONE)
        husk = calloc(1, sizeof(*husk));
    if (husk) {
        *husk = (struct husk){process->endpoint, process->tids};
        process->tids = (struct tid_list){0};
        entry->husk = husk;
        process->endpoint = DVK_NONE;
        return;
    }
    process_unbind(pm, process, true);
    struct dvk_message message = {.type = FS_S_EXIT};
    message.payload.words[0] = process->pid;
    pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
}

static void move_accepted(struct pm *pm, struct process *process, const struct move *move) {
    uint32_t pid = process->pid, moves = process->moves + 1;
    record(RECORD_MOVE_DONE, pm->vos->dc, pid, move->node);
    struct dvk_request *req = process->exec_req;
    process->exec_req = NULL;
    settle_parent(pm, process, move);
    settle_children(pm, process, move);
    forward_kept(pm, process, move->node);
    pm_note_recent(pm, process);
    leave_husk(pm, process);

    /* Children's ends that were parked are reported to the new place, others' requests handed on there. */
    struct list parked;
    list_init(&parked);
    pm_parked_take(pm, process, &parked);
    process_free(pm, process);
    peer_note_away(pm, pid, move->node, moves);
    pm_request_again(pm, &parked);
    exit_reports_go_on(pm, pid);
    if (req)
        pm_answer(pm, req, 0, 0, 0, 0);
    move_go_on(pm);
}

static void move_refused(struct pm *pm, struct process *process, const struct move *move, bool maybe_there) {
    record(RECORD_MOVE_REFUSED, pm->vos->dc, process->pid, move->node);
    log_debug("process %u stays: node %u did not take it", process->pid, move->node);
    process->in_transit = false;
    process->moves += 2; /* our news of its place outrank those that the other may have spread */
    uint32_t home = peer_home(pm, process->pid);
    if (home != pm->vos->node) {
        struct pm_moved_entry entry = {process->pid, process->moves};
        struct pm_s_moved moved = {.kind = PM_MOVED_HOME, .node = pm->vos->node, .count = 1};
        peer_call(pm, home, PM_S_MOVED, &moved, sizeof(moved), &entry, sizeof(entry), NULL, NULL);
    }
    if (maybe_there && process->kept_count < PM_KEPT_SIGNALS)
        process->kept[process->kept_count++] = (struct kept_signal){.signal = SIGKILL};

    uint32_t pid = process->pid;
    uint64_t serial = process->serial;
    struct list parked;
    list_init(&parked);
    pm_parked_take(pm, process, &parked);
    if (process->channel_fd >= 0)
        spawn_queue(pm, process);
    else
        exec_replace(pm, process);
    pm_request_again(pm, &parked);
    move_go_on(pm);
    process = process_by_serial(pm, pid, serial);
    if (!process)
        return;
    exit_reports_go_on(pm, pid);
    exit_check_children(pm, process);
    exit_check_parent(pm, process);
}

static void move_send(struct move *move);

static void move_sent(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct move *move = context;
    struct pm *pm = move->pm;
    struct process *process = process_by_serial(pm, move->pid, move->serial);
    if (status == 0)
        peer_seen(pm, reply);
    int result = status < 0 ? status : reply->status;
    if (!process || process->state != PROCESS_LEAVING) {
        move_free(move);
    } else if (result < 0) {
        bool maybe_there = status < 0 && move->sent == move->len;
        move_refused(pm, process, move, maybe_there || (status == 0 && result == -ECHILD));
        move_free(move);
    } else if (move->sent < move->len) {
        move_send(move);
    } else {
        move_accepted(pm, process, move);
        move_free(move);
    }
}

static void move_send(struct move *move) {
    struct pm_s_spawn part = {.pid = move->pid, .transfer = move->transfer, .offset = (uint32_t)move->sent, .total = (uint32_t)move->len};
    size_t len = move->len - move->sent;
    if (len > DVK_DATA_MAX)
        len = DVK_DATA_MAX;
    const uint8_t *from = move->bytes + move->sent;
    move->sent += len;
    if (peer_call(move->pm, move->node, PM_S_SPAWN, &part, sizeof(part), from, len, move_sent, move) < 0) {
        struct process *process = process_by_serial(move->pm, move->pid, move->serial);
        if (process)
            move_refused(move->pm, process, move, false);
        move_free(move);
    }
}

/* fs has described the files. */
static void move_described(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                           unsigned fd_count) {
    struct move *move = context;
    struct pm *pm = move->pm;
    struct process *process = process_by_serial(pm, move->pid, move->serial);
    if (!process || process->state != PROCESS_LEAVING) {
        move_free(move);
        return;
    }
    int result = status < 0 ? -EIO : reply->status;
    if (result >= 0) {
        struct init_rusage before = process->usage;
        struct host_process host;
        if (process->exec_req && host_read(pm->vos, process->pid, &host) == 0) { /* its time so far goes along */
            const struct init_rusage now = {.utime_s = host.utime / 100, .utime_us = host.utime % 100 * 10000,
                                            .stime_s = host.stime / 100, .stime_us = host.stime % 100 * 10000};
            usage_add(&process->usage, &now);
        }
        void *bytes = NULL;
        result = record_pack(process, data, len, &bytes, &move->len);
        move->bytes = bytes;
        process->usage = before;
    }
    move->ppid = process->ppid;
    move->parent_node = process->parent_node;
    if (result < 0) {
        move_refused(pm, process, move, false);
        move_free(move);
        return;
    }
    move_send(move);
}

static void move_begin(struct pm *pm, struct process *process) {
    if (process->host_gone && process->status != 0) { /* killed meanwhile */
        process->host_gone = false;
        if (process->exec_req)
            pm_answer(pm, process->exec_req, -ESRCH, 0, 0, 0);
        process->exec_req = NULL;
        exit_process(pm, process, process->status, NULL);
        return;
    }
    process->in_transit = true;
    record(RECORD_MOVE_START, pm->vos->dc, process->pid, process->place_node);
    /* What is known of the parent's place may be old news; that it is here must be certain. */
    if (process->ppid != PM_INIT_PID && process->parent_node == pm->vos->node && !process_parent(pm, process))
        process->parent_node = peer_route(pm, process->ppid);
    struct move *move = calloc(1, sizeof(*move));
    if (move) {
        *move = (struct move){.pm = pm, .pid = process->pid, .serial = process->serial, .node = process->place_node,
                              .transfer = ++pm->next_transfer};
        struct dvk_message message = {.type = FS_S_EXPORTS};
        message.payload.words[0] = process->pid;
        if (pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, move_described, move) == 0)
            return;
    }
    const struct move nowhere = {.node = process->place_node};
    move_refused(pm, process, &nowhere, false);
    free(move);
}

static bool must_wait(struct pm *pm, const struct process *process) {
    struct process *parent = process->ppid == PM_INIT_PID ? NULL : process_parent(pm, process);
    if (parent && process_frozen(parent))
        return true;
    for (const struct list *at = process->children.next; at != &process->children; at = at->next) {
        const struct process *child = process_here(pm, list_entry(at, struct child, link)->pid);
        if (child && (child->in_transit || child->state == PROCESS_ARRIVING))
            return true;
    }
    return false;
}

void move_go_on(struct pm *pm) {
    for (;;) {
        struct process *process, *next = NULL;
        list_for_each(process, &pm->move_waits, spawn_link)
            if (!next && !must_wait(pm, process))
                next = process;
        if (!next)
            break;
        list_remove(&next->spawn_link);
        move_begin(pm, next);
    }
    arrive_go_on(pm);
}

static void go_on(void *context) {
    struct pm *pm = context;
    pm->go_on_timer = 0;
    move_go_on(pm);
}

void move_go_on_soon(struct pm *pm) {
    if (!pm->go_on_timer && (!list_empty(&pm->move_waits) || !list_empty(&pm->arrival_waits)))
        dvk_timer(pm->vos->dvk, 0, go_on, pm, &pm->go_on_timer);
}

void move_start(struct pm *pm, struct process *process) {
    process->state = PROCESS_LEAVING;
    process->in_transit = false;
    if (must_wait(pm, process))
        list_append(&pm->move_waits, &process->spawn_link);
    else
        move_begin(pm, process);
}
