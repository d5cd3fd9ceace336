/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From message type to handler. Who may ask what is decided here: guests by their endpoint's slot (their pid), the zygote by its
 * slot, other pms and other servers of the DC by theirs.
 */
#include "vos/pm/pm.h"
#include <errno.h>

static guest_handler *const guest_table[] = {
    [PM_HELLO & 0xff] = exec_handle_hello,
    [PM_IMAGE & 0xff] = exec_handle_image,
    [PM_STARTED & 0xff] = exec_handle_started,
    [PM_FORK & 0xff] = fork_handle,
    [PM_FORK_DONE & 0xff] = fork_handle_done,
    [PM_TIDS & 0xff] = tids_handle,
    [PM_TID_FREE & 0xff] = tid_handle_free,
    [PM_PLACE & 0xff] = exec_handle_place,
    [PM_EXEC & 0xff] = exec_handle_exec,
    [PM_EXECED & 0xff] = exec_handle_execed,
    [PM_EXIT & 0xff] = exit_handle,
    [PM_WAIT & 0xff] = wait_handle,
    [PM_KILL & 0xff] = signal_handle_kill,
    [PM_TGKILL & 0xff] = signal_handle_tgkill,
    [PM_SIGQUEUE & 0xff] = signal_handle_queue,
    [PM_GETPPID & 0xff] = group_handle_getppid,
    [PM_SETPGID & 0xff] = group_handle_setpgid,
    [PM_GETPGID & 0xff] = group_handle_getpgid,
    [PM_SETSID & 0xff] = group_handle_setsid,
    [PM_GETSID & 0xff] = group_handle_getsid,
    [PM_SETIDS & 0xff] = ids_handle_set,
    [PM_SETGROUPS & 0xff] = ids_handle_groups,
    [PM_RUSAGE & 0xff] = limits_handle_rusage,
    [PM_PRIORITY & 0xff] = limits_handle_priority,
    [PM_SCHED & 0xff] = limits_handle_sched,
    [PM_NODES & 0xff] = place_handle_nodes,
    [PM_RLIMIT & 0xff] = limits_handle_rlimit,
    [PM_UMASK & 0xff] = limits_handle_umask,
    [PM_CHLD_IGNORE & 0xff] = wait_handle_ignore,
};

typedef void server_handler(struct pm *pm, struct dvk_request *req);

/* From other pms. */
static server_handler *const peer_table[] = {
    [PM_S_SPAWN & 0xff] = arrive_handle_spawn,
    [PM_S_LOCATE & 0xff] = group_handle_locate,
    [PM_S_MOVED & 0xff] = peer_handle_moved,
    [PM_S_CHILD_STATE & 0xff] = exit_handle_child_state,
    [PM_S_SIGNAL & 0xff] = signal_handle_remote,
    [PM_S_RELATE & 0xff] = peer_handle_relate,
    [PM_S_LIST & 0xff] = list_handle_list,
    [PM_S_JOIN & 0xff] = peer_handle_join,
    [PM_S_INFO & 0xff] = list_handle_info,
};

/* From the DC's other servers (info.h). */
static server_handler *const server_table[] = {
    [PM_S_LIST & 0xff] = list_handle_list,
    [PM_S_INFO & 0xff] = list_handle_info,
    [PM_S_RAISE & 0xff] = signal_handle_raise,
    [PM_S_GROUP & 0xff] = group_handle_group,
};

#define TABLE_GET(table, op) ((op) < sizeof(table) / sizeof((table)[0]) ? (table)[op] : NULL)

static void request_of_guest(struct pm *pm, struct dvk_request *req, uint32_t op) {
    struct process *process = process_here(pm, dvk_endpoint_slot(req->msg.source));
    guest_handler *handler = TABLE_GET(guest_table, op);
    if (!process || process->endpoint != req->msg.source) {
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
        return;
    }
    switch (process->state) {
    case PROCESS_FORKING: /* it speaks: so it was cloned */
        process->state = PROCESS_RUNNING;
        signal_flush(pm, process);
        break;
    case PROCESS_CLONING:
        process->state = PROCESS_LOADING;
        break;
    case PROCESS_LOADING:
    case PROCESS_RUNNING:
        break;
    default: /* it has handed itself over, or has ended */
        pm_answer(pm, req, op == (PM_EXIT & 0xff) ? 0 : -ESRCH, 0, 0, 0);
        return;
    }
    if (handler)
        handler(pm, process, req);
    else
        pm_answer(pm, req, -ENOSYS, 0, 0, 0);
}

static void request_of_peer(struct pm *pm, struct dvk_request *req, uint32_t op) {
    server_handler *handler = TABLE_GET(peer_table, op);
    const struct pm_head *head = (const struct pm_head *)req->msg.payload.bytes;
    if (!handler || !req->wants_reply || peer_index(pm, req->source_node) < 0 || head->version != PM_REMOTE_VERSION) {
        pm_answer(pm, req, handler ? -EPROTO : -ENOSYS, 0, 0, 0);
        return;
    }
    peer_note_load(pm, req->source_node, head->load);
    handler(pm, req);
}

/* Descriptors that a handler did not take (set to -1) are closed with the answer, by pm_answer_message. */
void pm_request(struct pm *pm, struct dvk_request *req) {
    uint32_t slot = dvk_endpoint_slot(req->msg.source), op = req->msg.type & 0xff;
    if (req->msg.notify || VOS_SERVICE(req->msg.type) != DVK_SERVICE_PM) {
        pm_answer(pm, req, -ENOSYS, 0, 0, 0);
        return;
    }
    if (slot == INIT_ZYGOTE_PID) {
        if (req->msg.type == PM_ZYGOTE_WAIT && req->wants_reply && req->local)
            spawn_handle_zygote(pm, req);
        else if (req->msg.type == PM_HELLO)
            pm_answer(pm, req, 0, 0, 0, 0);
        else
            pm_answer(pm, req, -EPERM, 0, 0, 0);
        return;
    }
    if (!pm->ready && req->msg.type != PM_S_JOIN) {
        pm_park(pm, &pm->early, req);
        return;
    }
    if (!dvk_slot_is_system(slot)) {
        request_of_guest(pm, req, op);
    } else if (dvk_system_slot_service(slot) == DVK_SERVICE_PM && req->source_node != pm->vos->node) {
        request_of_peer(pm, req, op);
    } else {
        server_handler *handler = TABLE_GET(server_table, op);
        if (handler)
            handler(pm, req);
        else
            pm_answer(pm, req, -EPERM, 0, 0, 0);
    }
}

void pm_cancelled(struct pm *pm, struct dvk_request *req) {
    if (req->msg.type == PM_WAIT)
        wait_cancel(pm, req);
    /* All else is answered soon anyway. */
}

void pm_parked_take(struct pm *pm, struct process *process, struct list *to) {
    struct parked *parked;
    list_for_each(parked, &process->parked, link) {
        list_remove(&parked->link);
        list_append(to, &parked->link);
    }
}

void pm_request_again(struct pm *pm, struct list *parked) {
    struct dvk_request *req;
    while ((req = pm_unpark(parked)))
        pm_request(pm, req);
}
