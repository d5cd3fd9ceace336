/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pm tells fs about processes, for /proc. An op that needs it waits for the answer and is run again; the answers
 * stay with the op.
 */
#include "vos/fs/fs.h"

#include <stdlib.h>
#include <string.h>

static struct proc_info *info_add(struct op *op, uint32_t pid) {
    struct proc_info *info = calloc(1, sizeof(*info));
    if (info) {
        info->pid = pid;
        info->next = op->info;
        op->info = info;
    }
    return info;
}

void proc_info_free(struct proc_info *info) {
    while (info) {
        struct proc_info *next = info->next;
        free(info->cmdline);
        free(info->pids);
        free(info);
        info = next;
    }
}

static void info_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct op *op = context;
    struct proc_info *info = op->info; /* the newest is the one that was asked for */
    op->call = 0;
    info->status = status < 0 ? remote_errno(status) : reply->status < 0 ? reply->status : 0;
    if (info->status == 0 && len >= sizeof(info->process)) {
        memcpy(&info->process, data, sizeof(info->process));
        info->process.comm[sizeof(info->process.comm) - 1] = '\0';
        size_t rest = len - sizeof(info->process);
        info->cmdline_len = info->process.cmdline_len < rest ? info->process.cmdline_len : (uint32_t)rest;
        info->cmdline = malloc(info->cmdline_len + 1u);
        if (info->cmdline)
            memcpy(info->cmdline, (const char *)data + sizeof(info->process), info->cmdline_len);
        else
            info->status = -ENOMEM;
    } else if (info->status == 0)
        info->status = -EPROTO;
    op_run(op);
}

static int ask(struct op *op, uint32_t type, uint64_t w0, uint64_t w1, dvk_done *done) {
    struct dvk_message message = {.destination = vos_service(op->fs->vos->node, DVK_SERVICE_PM), .type = type};
    message.payload.words[0] = w0;
    message.payload.words[1] = w1;
    /* pm may be in this process and answer before dvk_call returns: then the op is another by now. */
    op->call = 0;
    int error = dvk_call(op->fs->vos->dvk, op->fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, done, op, &op->call);
    return error < 0 ? remote_errno(error) : FS_PENDING;
}

static struct proc_info *info_find(struct op *op, uint32_t pid) {
    struct proc_info *info = op->info;
    while (info && info->pid != pid)
        info = info->next;
    return info;
}

int proc_need_full(struct op *op, uint32_t pid, struct proc_info **out) {
    struct proc_info *info = info_find(op, pid);
    if (info) {
        *out = info;
        return info->status;
    }
    if (!info_add(op, pid))
        return -ENOMEM;
    return ask(op, PM_S_INFO, pid, 0, info_done);
}

int proc_need(struct op *op, uint32_t pid, const struct pm_process_info **out) {
    struct proc_info *info;
    int error = proc_need_full(op, pid, &info);
    if (error == 0)
        *out = &info->process;
    return error;
}

/* ---- all pids ---- */

static void list_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct op *op = context;
    struct proc_info *info = info_find(op, 0);
    op->call = 0;
    info->status = status < 0 ? remote_errno(status) : reply->status < 0 ? reply->status : 0;
    uint64_t count = info->status == 0 ? reply->payload.words[0] : 0;
    size_t at = 0;
    for (uint64_t i = 0; i < count && len - at >= sizeof(struct pm_process_info); i++) {
        struct pm_process_info process;
        memcpy(&process, (const char *)data + at, sizeof(process));
        size_t size = sizeof(process) + ((process.cmdline_len + 7u) & ~(size_t)7);
        at = len - at < size ? len : at + size;
        uint32_t *grown = info->pid_count % 256 ? info->pids : realloc(info->pids, (info->pid_count + 256) * sizeof(*grown));
        if (!grown) {
            info->status = -ENOMEM;
            break;
        }
        info->pids = grown;
        info->pids[info->pid_count++] = process.pid;
    }
    info->cursor = info->status == 0 ? reply->payload.words[1] : 0;
    op_run(op);
}

static int compare_pids(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Each once; how many that are. */
static uint32_t sort_once(uint32_t *pids, uint32_t count) {
    uint32_t kept = 0;
    if (count)
        qsort(pids, count, sizeof(*pids), compare_pids);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || pids[i] != pids[kept - 1])
            pids[kept++] = pids[i];
    return kept;
}

int proc_need_pids(struct op *op, const uint32_t **pids, uint32_t *count) {
    struct proc_info *info = info_find(op, 0);
    if (!info) {
        info = info_add(op, 0);
        return info ? ask(op, PM_S_LIST, 1, 0, list_done) : -ENOMEM;
    }
    if (info->status < 0)
        return info->status;
    if (info->cursor)
        return ask(op, PM_S_LIST, 1, info->cursor, list_done);
    info->pid_count = sort_once(info->pids, info->pid_count);
    *pids = info->pids;
    *count = info->pid_count;
    return 0;
}
