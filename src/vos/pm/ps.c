/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ps for dvkd: the processes of this node or of all, each pid once.
 *
 * The nodes are asked one after another, and processes move meanwhile. What is told of a pid later replaces what was told before. A
 * process that left a node before that was asked for one that had been asked already is in no node's answer; but its home
 * names it as running elsewhere, and in the end each one that was only named so is asked for by itself.
 */
#include "common/json.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ps {
    struct pm *pm;
    uint64_t id;
    json_t *processes;
    struct table places; /* pid -> index in processes, + 1 */
    uint32_t nodes[VOS_MAX_NODES];
    unsigned count, at;
    uint32_t *elsewhere; /* named by their homes */
    size_t elsewhere_count, elsewhere_at;
};

static void ps_next(struct ps *ps, uint32_t after);

static json_t *command_text(const char *cmdline, size_t len, const char *comm) {
    char text[PM_LIST_CMDLINE + 1];
    size_t used = 0;
    for (size_t i = 0; i < len && used < PM_LIST_CMDLINE; i++)
        text[used++] = cmdline[i] ? cmdline[i] : ' ';
    while (used && text[used - 1] == ' ')
        used--;
    text[used] = 0;
    json_t *json = used ? json_string(text) : NULL; /* NULL also when it is not UTF-8 */
    for (size_t i = 0; !json && i < used; i++)
        if ((unsigned char)text[i] >= 0x80 || (unsigned char)text[i] < 0x20)
            text[i] = '?';
    if (!json && used)
        json = json_string(text);
    return json ? json : json_string(comm);
}

static json_t *comm_text(const char *comm) {
    char text[16];
    snprintf(text, sizeof(text), "%.15s", comm);
    for (size_t i = 0; text[i]; i++)
        if ((unsigned char)text[i] >= 0x80 || (unsigned char)text[i] < 0x20)
            text[i] = '?';
    return json_string(text);
}

/* A process that somebody's answer describes. */
static void ps_put(struct ps *ps, const struct pm_process_info *info, const char *cmdline) {
    const struct vos_node *node = NULL;
    int index = peer_index(ps->pm, info->node);
    if (index >= 0)
        node = &ps->pm->vos->nodes[index];
    json_t *command = command_text(cmdline, info->cmdline_len, info->comm);
    json_t *process =
        json_pack("{s:i,s:i,s:i,s:i,s:i,s:s,s:s#,s:I,s:o,s:o,s:i}", "pid", (int)info->pid, "ppid", (int)info->ppid, "pgid",
                  (int)info->pgid, "sid", (int)info->sid, "uid", (int)info->euid, "node", node ? node->name : "?", "state",
                  &info->state, 1, "time_ms", (json_int_t)(info->utime + info->stime) * 10, "comm", comm_text(info->comm),
                  "command", command ? command : json_string("?"), "threads", (int)info->threads);
    size_t place = (size_t)(uintptr_t)table_get(&ps->places, info->pid);
    if (place)
        json_array_set_new(ps->processes, place - 1, process);
    else if (json_array_append_new(ps->processes, process) == 0)
        table_set(&ps->places, info->pid, (void *)(uintptr_t)json_array_size(ps->processes));
}

static void ps_put_name(struct ps *ps, uint32_t pid) {
    size_t n = ps->elsewhere_count;
    uint32_t *grown = n % 256 ? ps->elsewhere : realloc(ps->elsewhere, (n + 256) * sizeof(*grown));
    if (!grown)
        return;
    ps->elsewhere = grown;
    ps->elsewhere[ps->elsewhere_count++] = pid;
}

/* Takes the entries of one answer; returns the last pid. */
static uint32_t ps_take(struct ps *ps, const uint8_t *data, size_t len) {
    uint32_t last = 0;
    for (size_t at = 0; at + sizeof(struct pm_process_info) <= len;) {
        struct pm_process_info info;
        memcpy(&info, data + at, sizeof(info));
        size_t entry = (sizeof(info) + (size_t)info.cmdline_len + 7) & ~(size_t)7;
        if (info.cmdline_len > PM_LIST_CMDLINE || entry > len - at)
            break;
        info.comm[sizeof(info.comm) - 1] = 0;
        last = info.pid;
        if (info.state == PM_STATE_ELSEWHERE)
            ps_put_name(ps, info.pid);
        else
            ps_put(ps, &info, (const char *)data + at + sizeof(info));
        at += entry;
    }
    return last;
}

/* All that this node knows. */
static void ps_take_own(struct ps *ps) {
    uint8_t *buffer = malloc(DVK_DATA_MAX);
    uint32_t after = PM_INIT_PID, count; /* pid 1 is no program */
    for (bool more = buffer != NULL; more;) {
        size_t len = list_fill(ps->pm, after, buffer, DVK_DATA_MAX, &count, &more);
        if (!count)
            break;
        after = ps_take(ps, buffer, len);
    }
    free(buffer);
}

/* ---- those that are only named ---- */

static void ps_find_next(struct ps *ps);

static void ps_found(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                     unsigned fd_count) {
    struct ps *ps = context;
    struct pm_process_info info;
    pm_close_fds(fds, fd_count);
    if (status == 0 && reply->status == 0 && len >= sizeof(info)) {
        memcpy(&info, data, sizeof(info));
        info.comm[sizeof(info.comm) - 1] = 0;
        if (info.cmdline_len > len - sizeof(info))
            info.cmdline_len = (uint32_t)(len - sizeof(info));
        if (info.cmdline_len > PM_LIST_CMDLINE)
            info.cmdline_len = PM_LIST_CMDLINE;
        ps_put(ps, &info, (const char *)data + sizeof(info));
    }
    ps_find_next(ps);
}

static void ps_find_next(struct ps *ps) {
    while (ps->elsewhere_at < ps->elsewhere_count) {
        struct pm_s_list ask = {.pid = ps->elsewhere[ps->elsewhere_at++]};
        uint32_t node = table_get(&ps->places, ask.pid) ? 0 : peer_route(ps->pm, ask.pid);
        if (node && peer_call(ps->pm, node, PM_S_INFO, &ask, sizeof(ask), NULL, 0, ps_found, ps) == 0)
            return;
    }
    ps_take_own(ps); /* once more: what has come here meanwhile */
    control_reply(ps->pm, ps->id, json_pack("{s:O}", "processes", ps->processes));
    json_decref(ps->processes);
    table_free(&ps->places);
    free(ps->elsewhere);
    free(ps);
}

/* ---- node after node ---- */

static void ps_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {
    struct ps *ps = context;
    pm_close_fds(fds, fd_count);
    uint32_t last = 0;
    if (status == 0 && reply->status >= 0)
        last = ps_take(ps, data, len);
    if (last && reply->payload.words[1]) {
        ps_next(ps, last);
        return;
    }
    ps->at++;
    ps_next(ps, PM_INIT_PID);
}

static void ps_next(struct ps *ps, uint32_t after) {
    for (; ps->at < ps->count; ps->at++, after = PM_INIT_PID) {
        struct pm_s_list ask = {.pid = after};
        if (peer_call(ps->pm, ps->nodes[ps->at], PM_S_LIST, &ask, sizeof(ask), NULL, 0, ps_done, ps) == 0)
            return;
    }
    if (!ps->count)
        ps->elsewhere_count = 0; /* only this node was asked for */
    ps_find_next(ps);
}

void ps_start(struct pm *pm, uint64_t id, bool all) {
    struct ps *ps = calloc(1, sizeof(*ps));
    if (!ps) {
        control_error(pm, id, ENOMEM);
        return;
    }
    *ps = (struct ps){.pm = pm, .id = id, .processes = json_array()};
    ps_take_own(ps);
    if (all)
        ps->count = peers_active(pm, ps->nodes);
    ps_next(ps, PM_INIT_PID);
}
