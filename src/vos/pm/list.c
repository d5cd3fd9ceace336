/* SPDX-License-Identifier: Apache-2.0 */
/* The process table as ps, /proc and other pms see it: PM_S_INFO and PM_S_LIST (info.h; between pms remote.h). */
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int64_t ticks(int64_t seconds, int64_t microseconds) { return seconds * 100 + microseconds / 10000; }

static void info_fill(struct pm *pm, const struct process *process, struct pm_process_info *info) {
    const struct creds *creds = &process->creds;
    *info = (struct pm_process_info){
        .pid = process->pid, .ppid = process->ppid, .pgid = process->pgid, .sid = process->sid, .uid = creds->uid, .euid = creds->euid,
        .suid = creds->suid, .fsuid = creds->fsuid, .gid = creds->gid, .egid = creds->egid, .sgid = creds->sgid,
        .fsgid = creds->fsgid, .node = pm->vos->node, .threads = 1, .state = 'S', .nice = process->nice,
        .utime = ticks(process->usage.utime_s, process->usage.utime_us), .stime = ticks(process->usage.stime_s, process->usage.stime_us),
        .cutime = ticks(process->children_usage.utime_s, process->children_usage.utime_us),
        .cstime = ticks(process->children_usage.stime_s, process->children_usage.stime_us), .start_ms = process->start_ms,
        .umask = process->umask, .group_count = creds->group_count < 16 ? creds->group_count : 16, .cmdline_len = process->cmdline_len};
    if (info->group_count)
        memcpy(info->groups, creds->groups, info->group_count * sizeof(uint32_t));
    memcpy(info->comm, process->comm, sizeof(info->comm));
    struct host_process host;
    if (process->state == PROCESS_ZOMBIE) {
        info->state = 'Z';
        info->cmdline_len = 0;
    } else if (host_read(pm->vos, process->pid, &host) == 0) {
        info->state = host.state == 'Z' || host.state == 'X' ? 'R' : host.state; /* not reaped yet */
        info->threads = host.threads;
        info->utime += host.utime;
        info->stime += host.stime;
        info->vsize = host.vsize;
        info->rss = host.rss;
    }
}

/* pid 1 is a name; it is shown by the primary's pm. */
static void info_fill_init(struct pm *pm, struct pm_process_info *info) {
    info_fill(pm, pm->init, info);
    info->state = 'S';
    info->ppid = 0;
    memcpy(info->comm, "init", 5);
}

static void info_answer(struct pm *pm, struct dvk_request *req, const struct pm_process_info *info, const char *cmdline) {
    struct dvk_message reply = {0};
    struct pm_process_info copy = *info;
    if (req->reply_cap < sizeof(copy)) {
        pm_answer(pm, req, -EMSGSIZE, 0, 0, 0);
        return;
    }
    size_t room = req->reply_cap - sizeof(copy);
    if (copy.cmdline_len > room)
        copy.cmdline_len = (uint32_t)room;
    memcpy(req->reply_data, &copy, sizeof(copy));
    if (copy.cmdline_len)
        memcpy((char *)req->reply_data + sizeof(copy), cmdline, copy.cmdline_len);
    reply.data_len = (uint32_t)(sizeof(copy) + copy.cmdline_len);
    reply.payload.words[PM_REPLY_LOAD_WORD] = place_load(pm);
    pm_answer_message(pm, req, &reply, NULL, 0);
}

static bool is_from_pm(const struct pm *pm, const struct dvk_request *req) {
    return dvk_system_slot_service(dvk_endpoint_slot(req->msg.source)) == DVK_SERVICE_PM && req->source_node != pm->vos->node;
}

void list_handle_info(struct pm *pm, struct dvk_request *req) {
    struct pm_process_info info;
    struct pm_s_list ask = {0};
    bool from_pm = is_from_pm(pm, req);
    if (from_pm)
        memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
    else
        ask.pid = req->msg.payload.words[0] <= INT32_MAX ? (uint32_t)req->msg.payload.words[0] : 0;
    if (ask.pid == PM_INIT_PID) {
        info_fill_init(pm, &info);
        info_answer(pm, req, &info, NULL);
        return;
    }
    struct process *process = process_here(pm, ask.pid);
    if (process) {
        info_fill(pm, process, &info);
        info_answer(pm, req, &info, process->cmdline);
    } else if (from_pm) {
        peer_forward(pm, ask.pid, req);
    } else {
        peer_relay(pm, ask.pid, req, PM_S_INFO, &ask, sizeof(ask));
    }
}

struct listed {
    uint32_t pid, node;            /* node: of one that runs elsewhere */
    const struct process *process; /* or NULL */
};

static int compare_pids(const void *a, const void *b) {
    const struct listed *x = a, *y = b;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/* Append one entry; false when it does not fit. */
static bool entry_append(struct pm *pm, const struct listed *listed, uint8_t *to, size_t cap, size_t *used) {
    const struct process *process = listed->process;
    struct pm_process_info info;
    if (!process)
        info = (struct pm_process_info){.pid = listed->pid, .node = listed->node, .state = PM_STATE_ELSEWHERE};
    else if (process == pm->init)
        info_fill_init(pm, &info);
    else
        info_fill(pm, process, &info);
    if (info.cmdline_len > PM_LIST_CMDLINE)
        info.cmdline_len = PM_LIST_CMDLINE;
    size_t len = (sizeof(info) + info.cmdline_len + 7) & ~(size_t)7;
    if (len > cap - *used)
        return false;
    memset(to + *used, 0, len);
    memcpy(to + *used, &info, sizeof(info));
    if (info.cmdline_len)
        memcpy(to + *used + sizeof(info), process->cmdline, info.cmdline_len);
    *used += len;
    return true;
}

size_t list_fill(struct pm *pm, uint32_t after, void *to, size_t cap, uint32_t *count, bool *more) {
    size_t used = 0, found = 0;
    *count = 0;
    *more = false;
    struct listed *sorted = malloc((pm->entries.count + pm->process_count + 1) * sizeof(*sorted));
    if (!sorted)
        return 0;
    struct process *process;
    if (after < PM_INIT_PID && pm->vos->node == pm->vos->primary)
        sorted[found++] = (struct listed){PM_INIT_PID, 0, pm->init};
    list_for_each(process, &pm->processes, link)
        if (process->pid > after) {
            bool arriving = process->state == PROCESS_ARRIVING; /* its old place still answers for it */
            sorted[found++] = (struct listed){process->pid, pm->vos->node, arriving ? NULL : process};
        }
    for (size_t i = 0; i < pm->entries.capacity; i++) {
        const struct table_entry *slot = &pm->entries.entries[i];
        const struct slot_entry *entry = slot->value;
        if (entry && entry->away_node && !entry->process && slot->key > after && slots_is_own(&pm->slots, (uint32_t)slot->key))
            sorted[found++] = (struct listed){(uint32_t)slot->key, entry->away_node, NULL};
    }
    qsort(sorted, found, sizeof(*sorted), compare_pids);
    for (size_t i = 0; i < found && !*more; i++) {
        if (entry_append(pm, &sorted[i], to, cap, &used))
            (*count)++;
        else
            *more = true;
    }
    free(sorted);
    return used;
}

/* ---- PM_S_LIST ---- */

#define CURSOR(node, pid) ((uint64_t)(node) << 32 | (pid))

/* Cursor of the next active node after this one in the list, 0: none. */
static uint64_t next_node(const struct pm *pm, uint32_t node) {
    for (uint32_t i = 0; i < pm->vos->node_count; i++)
        if (pm->vos->nodes[i].id > node && peer_is_active(pm, pm->vos->nodes[i].id))
            return CURSOR(pm->vos->nodes[i].id, 0);
    return 0;
}

static uint32_t last_pid(const void *data, size_t len) {
    uint32_t pid = 0;
    struct pm_process_info info;
    for (size_t at = 0; at + sizeof(info) <= len;) {
        memcpy(&info, (const uint8_t *)data + at, sizeof(info));
        pid = info.pid;
        at += (sizeof(info) + (size_t)info.cmdline_len + 7) & ~(size_t)7;
    }
    return pid;
}

/* The part of another node. */
static void list_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct dvk_request *req = pending->req;
    pm_close_fds(fds, fd_count);
    struct dvk_message answer = {0};
    bool whole = status == 0 && reply->status >= 0 && len <= req->reply_cap;
    if (whole && len)
        memcpy(req->reply_data, data, len);
    answer.data_len = whole ? (uint32_t)len : 0;
    answer.payload.words[0] = whole ? reply->payload.words[0] : 0;
    uint32_t last = whole ? last_pid(req->reply_data, len) : 0;
    bool more = whole && reply->payload.words[1] && last;
    answer.payload.words[1] = more ? CURSOR(pending->a, last) : next_node(pm, pending->a);
    pm_answer_message(pm, req, &answer, NULL, 0);
    free(pending);
}

static void list_answer(struct pm *pm, struct dvk_request *req, uint32_t after, bool whole_dc) {
    struct dvk_message reply = {0};
    uint32_t count;
    bool more;
    reply.data_len = (uint32_t)list_fill(pm, after, req->reply_data, req->reply_cap, &count, &more);
    reply.payload.words[0] = count;
    if (more && count)
        reply.payload.words[1] = CURSOR(pm->vos->node, last_pid(req->reply_data, reply.data_len));
    else if (whole_dc)
        reply.payload.words[1] = next_node(pm, pm->vos->node);
    reply.payload.words[PM_REPLY_LOAD_WORD] = place_load(pm);
    pm_answer_message(pm, req, &reply, NULL, 0);
}

void list_handle_list(struct pm *pm, struct dvk_request *req) {
    if (is_from_pm(pm, req)) {
        struct pm_s_list ask;
        memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
        list_answer(pm, req, ask.pid, false);
        return;
    }
    bool whole_dc = req->msg.payload.words[0] == 1;
    uint64_t cursor = req->msg.payload.words[1];
    if (!cursor)
        cursor = whole_dc ? next_node(pm, 0) : CURSOR(pm->vos->node, 0);
    uint32_t node = (uint32_t)(cursor >> 32), after = (uint32_t)cursor;
    if (node == pm->vos->node || !whole_dc) {
        list_answer(pm, req, after, whole_dc);
        return;
    }
    struct pm_s_list ask = {.pid = after};
    struct pending *pending = pending_new(pm, req, NULL);
    if (pending)
        pending->a = node;
    if (!pending || peer_call(pm, node, PM_S_LIST, &ask, sizeof(ask), NULL, 0, list_done, pending) < 0) {
        free(pending);
        pm_answer(pm, req, 0, 0, next_node(pm, node), 0);
    }
}
