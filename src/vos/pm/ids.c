/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PM_SETIDS     w0 enum pm_ids w1 w2 w3 ids. reply: words as PM_HELLO's w4..w6 in w0..w2; w3 the previous id of PM_IDS_SETFSUID, _SETFSGID
 * PM_SETGROUPS  data: u32[]
 *
 * fs knows the new credentials before the caller is answered, so that its next call is made with them.
 */
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void ids_fill(const struct process *process, struct dvk_message *reply) {
    const struct creds *creds = &process->creds;
    reply->payload.words[0] = creds->uid | (uint64_t)creds->euid << 32;
    reply->payload.words[1] = creds->suid | (uint64_t)creds->gid << 32;
    reply->payload.words[2] = creds->egid | (uint64_t)creds->sgid << 32;
}

static void ids_told(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                     unsigned fd_count) {
    struct pending *pending = context;
    struct process *process = process_by_serial(pending->pm, pending->pid, pending->serial);
    pm_close_fds(fds, fd_count);
    struct dvk_message answer = {.status = status < 0 ? -EIO : reply->status < 0 ? reply->status : 0};
    if (process)
        ids_fill(process, &answer);
    answer.payload.words[3] = pending->a;
    pm_answer_message(pending->pm, pending->req, &answer, NULL, 0);
    free(pending);
}

static void ids_tell(struct pm *pm, struct process *process, struct dvk_request *req, uint32_t previous) {
    struct pending *pending = pending_new(pm, req, process);
    if (pending)
        pending->a = previous;
    if (!pending || exec_tell_fs(pm, process, ids_told, pending) < 0) {
        free(pending);
        pm_answer(pm, req, -ENOMEM, 0, 0, 0);
    }
}

void ids_handle_set(struct pm *pm, struct process *process, struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    uint32_t previous, uid = process->creds.uid;
    int result = words[0] > PM_IDS_GET ? -EINVAL
                                       : creds_change(&process->creds, (enum pm_ids)words[0], (uint32_t)words[1], (uint32_t)words[2],
                                                      (uint32_t)words[3], &previous);
    if (result < 0) {
        pm_answer(pm, req, result, 0, 0, 0);
        return;
    }
    if (words[0] == PM_IDS_GET) {
        struct dvk_message reply = {0};
        ids_fill(process, &reply);
        pm_answer_message(pm, req, &reply, NULL, 0);
        return;
    }
    if (process->creds.uid != uid)
        exit_report(pm, process, PM_CHILD_RELATION, 0);
    ids_tell(pm, process, req, previous);
}

void ids_handle_groups(struct pm *pm, struct process *process, struct dvk_request *req) {
    uint32_t groups[PM_GROUPS_MAX];
    uint32_t count = req->msg.data_len / sizeof(uint32_t);
    int result = count > PM_GROUPS_MAX ? -EINVAL : 0;
    if (result == 0) {
        if (count)
            memcpy(groups, req->data, count * sizeof(*groups));
        result = creds_set_groups(&process->creds, groups, count);
    }
    if (result < 0)
        pm_answer(pm, req, result, 0, 0, 0);
    else
        ids_tell(pm, process, req, 0);
}
