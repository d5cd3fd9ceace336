/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process comes from another node (PM_S_SPAWN). Its parts are collected; the record is made (ARRIVING); if an old host process of the
 * same pid is still ending here, that is waited for; fs takes the files over and the endpoint is bound; then the home and the
 * parent's pm, unless they are where it comes from, are told. When they have answered it is accepted, and the zygote clones it.
 * From then on it lives here whatever becomes of the node that it left.
 */
#include "common/log.h"
#include "common/record.h"
#include "vos/pm/record.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRANSFERS_MAX 1024u

struct transfer {
    struct list link;
    uint32_t node, id, pid;
    uint8_t *bytes;
    size_t len, total;
};

struct arrival {
    struct list link; /* struct pm.arrival_waits */
    struct pm *pm;
    uint32_t pid;
    uint64_t serial;
    uint32_t source;
    struct dvk_request *req;
    uint8_t *bytes;
    size_t len;
    struct record_parts parts; /* point into bytes */
    unsigned pending;
    int result; /* first error of what is pending */
    bool orphan;
    bool untold;      /* its parent: on the node that it left, or not found */
    bool source_lost; /* it may be back since */
};

static void arrival_free(struct arrival *arrival) {
    list_remove(&arrival->link);
    free(arrival->bytes);
    free(arrival);
}

static struct process *arriving(struct arrival *arrival) {
    return process_by_serial(arrival->pm, arrival->pid, arrival->serial);
}

static void arrive_refuse(struct arrival *arrival, int result) {
    struct pm *pm = arrival->pm;
    struct process *process = arriving(arrival);
    log_debug("process %u from node %u refused: error %d", arrival->pid, arrival->source, -result);
    if (process) {
        struct dvk_message message = {.type = FS_S_EXIT};
        message.payload.words[0] = process->pid;
            pm_call_local(pm, DVK_SERVICE_FS, &message, NULL, 0, NULL, 0, pm_ignore_done, NULL);
        struct list parked;
        list_init(&parked);
        pm_parked_take(pm, process, &parked);
        process_unbind(pm, process, true);
        process_free(pm, process);
        if (!arrival->source_lost)
            peer_note_away(pm, arrival->pid, arrival->source, arrival->parts.header.moves - 1);
        pm_request_again(pm, &parked);
    }
    peer_answer(pm, arrival->req, result, 0, 0);
    arrival_free(arrival);
    move_go_on(pm);
}

static void tell_children(struct pm *pm, struct process *process, uint32_t source) {
    struct child *child;
    list_for_each(child, &process->children, link) {
        struct process *here = process_here(pm, child->pid);
        if (here && here->ppid == process->pid)
            move_note_parent(here, pm->vos->node, process->moves);
        if (here || child->node == source || !peer_is_active(pm, child->node))
            continue; /* the node that it left tells its own */
        struct pm_s_moved moved = {.kind = PM_MOVED_CHILD, .pid = child->pid, .ppid = process->pid, .node = pm->vos->node,
                                   .moves = process->moves};
        peer_call(pm, child->node, PM_S_MOVED, &moved, sizeof(moved), NULL, 0, NULL, NULL);
    }
}

static void arrive_accept(struct arrival *arrival) {
    struct pm *pm = arrival->pm;
    struct process *process = arriving(arrival);
    uint32_t pid = arrival->pid, source = arrival->source;
    uint64_t serial = arrival->serial;
    record(RECORD_MOVE_ARRIVE, pm->vos->dc, pid, source);
    process->arrival = NULL;
    if (arrival->orphan) {
        process->ppid = PM_INIT_PID;
        process->parent_birth = DVK_NONE;
        process->parent_node = 0;
    }
    peer_answer(pm, arrival->req, 0, 0, 0);
    arrival_free(arrival);
    tell_children(pm, process, source);
    struct list parked;
    list_init(&parked);
    pm_parked_take(pm, process, &parked);
    spawn_queue(pm, process);
    pm_request_again(pm, &parked);
    move_go_on(pm);
    process = process_by_serial(pm, pid, serial);
    if (!process)
        return;
    exit_reports_go_on(pm, pid);
    exit_check_children(pm, process);
    exit_check_parent(pm, process);
}

/* ---- second: those who keep track of it ---- */

static void arrive_told(struct arrival *arrival) {
    if (--arrival->pending)
        return;
    struct process *process = arriving(arrival);
    /* It was lost with the node that it left: its parent was there, too, or has been told so, perhaps before it ended. */
    if ((arrival->orphan || arrival->untold) && arrival->source_lost && !arrival->result)
        arrival->result = -ECHILD;
    if (!process)
        arrival_free(arrival);
    else if (arrival->result < 0)
        arrive_refuse(arrival, arrival->result);
    else
        arrive_accept(arrival);
}

static void home_told(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    pm_close_fds(fds, fd_count);
    arrive_told(context); /* a home that is lost has a successor, which is told when that happens */
}

static void parent_told(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct arrival *arrival = context;
    pm_close_fds(fds, fd_count);
    if (status < 0)
        arrival->untold = true;
    else if (reply->status == -ESRCH)
        arrival->orphan = true;
    else if (reply->status < 0)
        arrival->result = reply->status;
    arrive_told(arrival);
}

/* The parent's entry is here or must be told. */
static void tell_parent(struct arrival *arrival, struct process *process) {
    struct pm *pm = arrival->pm;
    uint32_t moves = arrival->parts.header.moves;
    arrival->untold = process->parent_node == arrival->source;
    if (!process->parent_node || arrival->untold)
        return;
    struct process *parent = process->ppid == PM_INIT_PID ? (process->parent_node == pm->vos->node ? pm->init : NULL)
                                                          : process_parent(pm, process);
    if (parent) {
        struct child *child = child_find(pm, parent, process->pid);
        if (parent->state == PROCESS_ZOMBIE)
            arrival->orphan = true;
        else if (!child || child->zombie)
            arrival->result = -ECHILD;
        else
            move_note_child(child, pm->vos->node, moves);
        return;
    }
    uint32_t node = process->parent_node;
    if (!peer_is_active(pm, node) || node == pm->vos->node)
        node = process->ppid == PM_INIT_PID ? 0 : peer_route(pm, process->ppid);
    struct pm_s_moved moved = {.kind = PM_MOVED_PARENT, .pid = process->pid, .ppid = process->ppid, .node = pm->vos->node, .moves = moves,
                               .birth = process->parent_birth};
    arrival->pending++;
    if (!node || peer_call(pm, node, PM_S_MOVED, &moved, sizeof(moved), NULL, 0, parent_told, arrival) < 0) {
        arrival->pending--;
        arrival->untold = true;
    }
}

/* Its parent is here, but on its way elsewhere or here: what is said to it now might be lost. */
static bool parent_is_moving(struct pm *pm, const struct process *process) {
    struct process *parent = process->ppid == PM_INIT_PID ? NULL : process_parent(pm, process);
    return parent && process_frozen(parent);
}

static void arrive_tell(struct arrival *arrival) {
    struct pm *pm = arrival->pm;
    struct process *process = arriving(arrival);
    if (parent_is_moving(pm, process)) {
        list_append(&pm->arrival_waits, &arrival->link);
        return;
    }
    arrival->pending = 1;
    uint32_t home = peer_home(pm, process->pid);
    if (home != pm->vos->node && home != arrival->source) {
        struct pm_moved_entry entry = {process->pid, process->moves};
        struct pm_s_moved moved = {.kind = PM_MOVED_HOME, .node = pm->vos->node, .count = 1};
        arrival->pending++;
        if (peer_call(pm, home, PM_S_MOVED, &moved, sizeof(moved), &entry, sizeof(entry), home_told, arrival) < 0)
            arrival->pending--;
    }
    tell_parent(arrival, process);
    arrive_told(arrival);
}

void arrive_go_on(struct pm *pm) {
    for (;;) {
        struct arrival *arrival, *next = NULL;
        list_for_each(arrival, &pm->arrival_waits, link)
            if (!next && !parent_is_moving(pm, arriving(arrival)))
                next = arrival;
        if (!next)
            return;
        list_remove(&next->link);
        arrive_tell(next);
    }
}

/* ---- first: files and endpoint ---- */

static void arrive_prepared(struct arrival *arrival, int result) {
    if (result < 0 && !arrival->result)
        arrival->result = result;
    if (--arrival->pending)
        return;
    if (!arriving(arrival))
        arrival_free(arrival);
    else if (arrival->result < 0)
        arrive_refuse(arrival, arrival->result);
    else
        arrive_tell(arrival);
}

static void credentials_told(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                             const int *fds, unsigned fd_count) {
    pm_close_fds(fds, fd_count);
    arrive_prepared(context, status < 0 ? -EIO : reply->status);
}

static void files_imported(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                           unsigned fd_count) {
    struct arrival *arrival = context;
    pm_close_fds(fds, fd_count);
    int result = status < 0 ? -EIO : reply->status;
    struct process *process = arriving(arrival);
    if (result >= 0 && process)
        result = exec_tell_fs(arrival->pm, process, credentials_told, arrival);
    if (result < 0 || !process)
        arrive_prepared(arrival, result);
}

static void endpoint_bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    struct arrival *arrival = context;
    struct process *process = arriving(arrival);
    if (status == 0 && process) {
        process->endpoint = endpoint;
        process->channel_fd = channel_fd;
        process->socket_fd = socket_fd;
    } else if (status == 0) {
        dvk_guest_unbind(arrival->pm->vos->dvk, endpoint, true);
        fd_close(&channel_fd);
        fd_close(&socket_fd);
    }
    arrive_prepared(arrival, status < 0 ? -EBUSY : 0);
}

static void arrive_prepare(struct arrival *arrival) {
    struct pm *pm = arrival->pm;
    struct dvk_message message = {.type = FS_S_IMPORTS};
    message.payload.words[0] = arrival->pid;
    arrival->pending = 3;
    int result = pm_call_local(pm, DVK_SERVICE_FS, &message, arrival->parts.fs, arrival->parts.header.fs_len, NULL, 0, files_imported,
                               arrival);
    if (result < 0) {
        arrival->result = -EAGAIN;
        arrival->pending--;
    }
    result = dvk_guest_bind(pm->vos->dvk, pm->vos->dc, arrival->pid, !slots_is_own(&pm->slots, arrival->pid), endpoint_bound, arrival);
    if (result < 0) {
        arrival->result = -EAGAIN;
        arrival->pending--;
    }
    arrive_prepared(arrival, 0);
}

void arrive_husk_gone(struct pm *pm, struct process *process) {
    if (process->arrival && !process->arrival->pending)
        arrive_prepare(process->arrival);
}

static void arrive_begin(struct pm *pm, struct transfer *transfer, struct dvk_request *req) {
    struct arrival *arrival = calloc(1, sizeof(*arrival));
    if (!arrival) {
        peer_answer(pm, req, -ENOMEM, 0, 0);
        return;
    }
    *arrival = (struct arrival){.pm = pm, .pid = transfer->pid, .source = transfer->node, .req = req, .bytes = transfer->bytes,
                                .len = transfer->len};
    list_init(&arrival->link);
    transfer->bytes = NULL;
    int result = record_parse(arrival->bytes, arrival->len, &arrival->parts);
    const struct record_header *header = &arrival->parts.header;
    if (result == 0 && (header->pid != arrival->pid || header->fs_len > DVK_DATA_MAX))
        result = -EPROTO;
    if (result == 0 && process_here(pm, arrival->pid))
        result = -EEXIST;
    struct slot_entry *entry = result == 0 ? pm_entry(pm, arrival->pid) : NULL;
    if (entry && entry->reserved)
        spare_discard(pm, arrival->pid);
    struct process *process = result == 0 ? process_create(pm, arrival->pid) : NULL;
    if (process) {
        process->state = PROCESS_ARRIVING;
        process->arrival = arrival;
        arrival->serial = process->serial;
        slots_mark(&pm->slots, process->pid);
        result = record_unpack(pm, &arrival->parts, process);
    } else if (result == 0) {
        result = -ENOMEM;
    }
    if (result < 0) {
        arrive_refuse(arrival, result);
        return;
    }
    entry = pm_entry(pm, arrival->pid);
    if (!entry->husk)
        arrive_prepare(arrival);
}

/* ---- collecting the parts ---- */

static void transfer_free(struct transfer *transfer) {
    list_remove(&transfer->link);
    free(transfer->bytes);
    free(transfer);
}

static struct transfer *transfer_find(struct pm *pm, uint32_t node, uint32_t id) {
    struct transfer *transfer;
    list_for_each(transfer, &pm->transfers, link)
        if (transfer->node == node && transfer->id == id)
            return transfer;
    return NULL;
}

static struct transfer *transfer_new(struct pm *pm, uint32_t node, const struct pm_s_spawn *part) {
    unsigned count = 0;
    struct transfer *transfer;
    list_for_each(transfer, &pm->transfers, link)
        count++;
    if (count >= TRANSFERS_MAX)
        return NULL;
    transfer = calloc(1, sizeof(*transfer));
    if (!transfer)
        return NULL;
    *transfer = (struct transfer){.node = node, .id = part->transfer, .pid = part->pid, .total = part->total};
    list_init(&transfer->link);
    transfer->bytes = malloc(part->total);
    if (!transfer->bytes) {
        free(transfer);
        return NULL;
    }
    list_append(&pm->transfers, &transfer->link);
    return transfer;
}

void arrive_handle_spawn(struct pm *pm, struct dvk_request *req) {
    struct pm_s_spawn part;
    memcpy(&part, req->msg.payload.bytes, sizeof(part));
    struct transfer *transfer = transfer_find(pm, req->source_node, part.transfer);
    if (!peer_is_up(pm, req->source_node)) { /* late: its numbers may be another node's by now */
        peer_answer(pm, req, -EAGAIN, 0, 0);
        return;
    }
    if (part.offset == 0 && transfer) {
        transfer_free(transfer);
        transfer = NULL;
    }
    if (part.total == 0 || part.total > RECORD_MAX || (part.offset && !transfer)) {
        peer_answer(pm, req, -EPROTO, 0, 0);
        return;
    }
    if (!transfer)
        transfer = transfer_new(pm, req->source_node, &part);
    if (!transfer) {
        peer_answer(pm, req, -ENOMEM, 0, 0);
        return;
    }
    if (part.total != transfer->total || part.offset != transfer->len || part.pid != transfer->pid ||
        req->msg.data_len > transfer->total - transfer->len) {
        transfer_free(transfer);
        peer_answer(pm, req, -EPROTO, 0, 0);
        return;
    }
    memcpy(transfer->bytes + transfer->len, req->data, req->msg.data_len);
    transfer->len += req->msg.data_len;
    if (transfer->len < transfer->total) {
        peer_answer(pm, req, 0, 0, 0);
        return;
    }
    arrive_begin(pm, transfer, req);
    transfer_free(transfer);
}

void arrive_node_lost(struct pm *pm, uint32_t node) {
    struct process *process;
    list_for_each(process, &pm->processes, link)
        if (process->arrival && process->arrival->source == node)
            process->arrival->source_lost = true;
    struct transfer *transfer;
    list_for_each(transfer, &pm->transfers, link)
        if (transfer->node == node)
            transfer_free(transfer);
}

void arrive_orphaned(struct process *process) {
    if (process->arrival)
        process->arrival->orphan = true;
}
