/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec: what a new program's process asks (PM_HELLO, PM_IMAGE, PM_STARTED), and how an old one hands over (PM_PLACE, PM_EXEC,
 * PM_EXECED). See vos/protocol.h for their words.
 *
 * A process keeps its pid. The image of a program that starts in a new host process here waits until cell init has reported
 * the end of the old one, since both have the same host pid.
 */
#include "vos/pm/host.h"
#include "vos/pm/image.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_TEXT_MAX 128u
#define SIGNAL_BIT(sig) (1ull << ((sig)-1))

void exec_handle_hello(struct pm *pm, struct process *process, struct dvk_request *req) {
    const struct creds *creds = &process->creds;
    struct dvk_message reply = {0};
    uint64_t *words = reply.payload.words;
    words[0] = process->pid;
    words[1] = process->ppid;
    words[2] = process->pgid;
    words[3] = process->sid;
    words[4] = creds->uid | (uint64_t)creds->euid << 32;
    words[5] = creds->suid | (uint64_t)creds->gid << 32;
    words[6] = creds->egid | (uint64_t)creds->sgid << 32;
    words[7] = (pm->vos->strict ? PM_F_STRICT : 0) | (pm->vos->trace ? PM_F_TRACE : 0);
    words[8] = process->umask;
    words[9] = process->state == PROCESS_LOADING ? process->image.len : 0;
    size_t bytes = creds->group_count * sizeof(uint32_t);
    if (bytes && bytes <= req->reply_cap) {
        memcpy(req->reply_data, creds->groups, bytes);
        reply.data_len = (uint32_t)bytes;
    }
    pm_answer_message(pm, req, &reply, NULL, 0);
}

void exec_handle_image(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct image *image = &process->image;
    uint64_t offset = req->msg.payload.words[0];
    if (process->state != PROCESS_LOADING || offset > image->len || !req->wants_reply) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    size_t rest = image->len - offset, len = rest < req->reply_cap ? rest : req->reply_cap;
    unsigned count = image->fd_count - image->fds_given;
    if (count > DVK_MESSAGE_FDS)
        count = DVK_MESSAGE_FDS;
    struct dvk_message reply = {.data_len = (uint32_t)len};
    if (len)
        memcpy(req->reply_data, image->bytes + offset, len);
    const int *fds = count ? image->fds + image->fds_given : NULL;
    pm_answer_message(pm, req, &reply, fds, count);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    image->fds_given += count;
}

/* Whoever started this first program wants to know. */
static void announce_start(struct pm *pm, struct process *process, int error) {
    if (!process->announce_start)
        return;
    process->announce_start = false;
    if (process->parent_node == pm->vos->node) {
        struct child *child = child_find(pm, pm->init, process->pid);
        if (child)
            control_started(pm, child, error);
    } else {
        exit_report(pm, process, PM_CHILD_STARTED, error);
    }
}

void exec_handle_started(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t error = req->msg.payload.ints[0];
    if (process->state != PROCESS_LOADING) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    if (error) {
        announce_start(pm, process, error < 0 && error > -4096 ? (int)-error : error > 0 && error < 4096 ? (int)error : EIO);
        pm_answer(pm, req, 0, 0, 0, 0);
        return;
    }
    image_drop(&process->image);
    fd_close(&process->channel_fd); /* it has them; the zygote's word may come when it is leaving already */
    fd_close(&process->socket_fd);
    process->state = PROCESS_RUNNING;
    int result = process_set_command(process, req->data, req->msg.data_len);
    announce_start(pm, process, 0);
    pm_answer(pm, req, result, 0, 0, 0);
    if (process->nice)
        host_nice(pm->vos, process->pid, process->nice);
    signal_flush(pm, process);
}

/* ---- the old program ---- */

void exec_handle_place(struct pm *pm, struct process *process, struct dvk_request *req) {
    uint64_t flags = req->msg.payload.words[0];
    char text[PLACE_TEXT_MAX] = "";
    if (req->msg.data_len && req->msg.data_len < sizeof(text))
        memcpy(text, req->data, req->msg.data_len);
    struct place_policy policy = {PLACE_LOCAL, 0};
    bool explicit = text[0] && place_parse(pm->vos, text, &policy);
    if (!explicit)
        place_parse(pm->vos, pm->vos->place, &policy);

    uint32_t node = pm->vos->node;
    if (!(flags & PM_PLACE_LOCAL)) {
        bool rotating = policy.kind == PLACE_SPREAD || policy.kind == PLACE_BALANCE;
        if (explicit && policy.kind == PLACE_NODE && !peer_is_up(pm, policy.node)) {
            pm_answer(pm, req, -EHOSTDOWN, 0, 0, 0);
            return;
        }
        /* `sh -c 'exec env program'` is placed once: moving at each exec of a chain would gain nothing. */
        if (!rotating || !process->placed)
            node = place_choose(pm, &policy);
    }
    process->place_node = node;
    uint64_t result = PM_REMOTE;
    if (node == pm->vos->node)
        result = flags & PM_PLACE_FRESH ? PM_FRESH_HERE : PM_IN_PLACE;
    process->placed = true;
    image_drop(&process->image); /* of an earlier attempt */
    pm_answer(pm, req, 0, result, 0, 0);
}

/* What execve(2) does to the process's relation to its parent. */
static void begin_program(struct pm *pm, struct process *process) {
    bool changed = process->exit_signal != SIGCHLD;
    process->execed = true;
    process->exit_signal = SIGCHLD;
    if (changed)
        exit_report(pm, process, PM_CHILD_RELATION, 0);
}

void exec_handle_execed(struct pm *pm, struct process *process, struct dvk_request *req) {
    process->chld_flags &= PM_CHLD_IGN;
    begin_program(pm, process);
    int result = process_set_command(process, req->data, req->msg.data_len);
    pm_answer(pm, req, result, 0, 0, 0);
}

/* Append a part. 0, or negative errno (the image is then dropped). */
static int image_receive(struct image *image, struct dvk_request *req) {
    uint64_t offset = req->msg.payload.words[0], total = req->msg.payload.words[1];
    if (offset == 0)
        image_drop(image);
    if (total == 0 || total > VOS_IMAGE_MAX)
        return -E2BIG;
    if (offset != image->len || (image->len && total != image->total) || req->msg.data_len > total - image->len)
        return -EINVAL;
    if (!image->bytes) {
        image->bytes = malloc(total);
        if (!image->bytes)
            return -ENOMEM;
        image->total = total;
    }
    memcpy(image->bytes + image->len, req->data, req->msg.data_len);
    image->len += req->msg.data_len;
    if (req->fd_count) {
        if (image->fd_count + req->fd_count > VOS_IMAGE_FDS)
            return -EMFILE;
        int *fds = realloc(image->fds, (image->fd_count + req->fd_count) * sizeof(*fds));
        if (!fds)
            return -ENOMEM;
        image->fds = fds;
        for (unsigned i = 0; i < req->fd_count; i++) {
            image->fds[image->fd_count++] = req->fds[i];
            req->fds[i] = -1;
        }
    }
    return 0;
}

void exec_handle_exec(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct image *image = &process->image;
    struct vos_image_header header = {0};
    int result = process->state == PROCESS_RUNNING && process->place_node && req->wants_reply ? image_receive(image, req) : -EINVAL;
    bool whole = result == 0 && image->len == image->total;
    if (whole) {
        result = image_check(image->bytes, image->len, &header);
        if (result == 0 && (header.host_fds != image->fd_count || (header.host_fds && process->place_node != pm->vos->node)))
            result = -EINVAL;
    }
    if (result < 0 || !whole) {
        if (result < 0)
            image_drop(image);
        pm_answer(pm, req, result, 0, 0, 0);
        return;
    }
    process->umask = header.umask & 0777;
    process->chld_flags = header.ignored & SIGNAL_BIT(SIGCHLD) ? PM_CHLD_IGN : 0;
    begin_program(pm, process);
    process->exec_req = req;
    process->host_gone = false;
    if (process->place_node == pm->vos->node)
        exec_replace(pm, process);
    else
        move_start(pm, process);
}

void exec_replace(struct pm *pm, struct process *process) {
    process->state = PROCESS_REPLACED;
    process->place_node = 0;
    if (process->exec_req) {
        pm_answer(pm, process->exec_req, 0, 0, 0, 0);
        process->exec_req = NULL;
    }
    if (process->host_gone)
        exec_husk_ended(pm, process, process->status, NULL);
}

void exec_husk_ended(struct pm *pm, struct process *process, int status, const struct init_rusage *usage) {
    if (usage)
        usage_add(&process->usage, usage);
    tid_list_release(pm, &process->tids);
    process->host_gone = false;
    process->stopped = false;
    if (signal_kill_kept(process))
        status = SIGKILL;
    if (status != 0) { /* it did not get as far as ending by itself: a signal was quicker */
        exit_process(pm, process, status, NULL);
        return;
    }
    process_unbind(pm, process, false);
    spawn_bind(pm, process);
}

int exec_tell_fs(struct pm *pm, const struct process *process, dvk_done *done, void *context) {
    struct dvk_message message = {.type = FS_S_CREDS};
    message.payload.words[0] = process->pid;
    message.payload.words[1] = process->creds.fsuid;
    message.payload.words[2] = process->creds.fsgid;
    message.payload.words[3] = process->umask;
    return pm_call_local(pm, DVK_SERVICE_FS, &message, process->creds.groups, process->creds.group_count * sizeof(uint32_t), NULL, 0,
                         done, context);
}
