/* SPDX-License-Identifier: Apache-2.0 */
/* The table: what is known of each pid, and the records of the processes that run here. */
#include "common/cleanup.h"
#include "common/record.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <string.h>

struct slot_entry *pm_entry(struct pm *pm, uint32_t pid) { return table_get(&pm->entries, pid); }

struct slot_entry *pm_entry_make(struct pm *pm, uint32_t pid) {
    if (!dvk_slot_is_user(pid) || pid >= pm->vos->slot_limit)
        return NULL;
    struct slot_entry *entry = pm_entry(pm, pid);
    if (entry)
        return entry;
    entry = calloc(1, sizeof(*entry));
    if (entry && table_set(&pm->entries, pid, entry) < 0) {
        free(entry);
        return NULL;
    }
    return entry;
}

void pm_entry_trim(struct pm *pm, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    if (!entry || entry->process || entry->child || entry->husk || entry->thread_of || entry->away_node || entry->reserved)
        return;
    table_remove(&pm->entries, pid);
    free(entry);
}

struct process *process_here(struct pm *pm, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    return entry ? entry->process : NULL;
}

bool process_is(const struct process *process, dvk_endpoint birth) { return birth == DVK_NONE || process->birth == birth; }

struct process *process_parent(struct pm *pm, const struct process *process) {
    struct process *parent = process_here(pm, process->ppid);
    return parent && process_is(parent, process->parent_birth) ? parent : NULL;
}

struct process *process_by_serial(struct pm *pm, uint32_t pid, uint64_t serial) {
    struct process *process = process_here(pm, pid);
    return process && process->serial == serial ? process : NULL;
}

struct process *process_create(struct pm *pm, uint32_t pid) {
    struct process *process = calloc(1, sizeof(*process));
    if (!process)
        return NULL;
    if (pid != PM_INIT_PID) {
        struct slot_entry *entry = pm_entry_make(pm, pid);
        if (!entry || entry->process) {
            free(process);
            return NULL;
        }
        entry->process = process;
        entry->reserved = false;
        entry->away_node = 0;
    }
    record(RECORD_PROCESS_START, pm->vos->dc, pid);
    process->pid = pid;
    process->serial = ++pm->next_serial;
    process->channel_fd = process->socket_fd = -1;
    process->exit_signal = 17; /* SIGCHLD */
    process->umask = 022;
    process->start_ms = host_time_ms();
    limits_default(process);
    list_init(&process->link);
    list_init(&process->children);
    list_init(&process->waits);
    list_init(&process->parked);
    list_init(&process->spawn_link);
    list_init(&process->report_link);
    if (pid != PM_INIT_PID) {
        list_append(&pm->processes, &process->link);
        pm->process_count++;
    }
    return process;
}

void fd_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void image_drop(struct image *image) {
    for (unsigned i = image->fds_given; i < image->fd_count; i++)
        close(image->fds[i]);
    free(image->fds);
    free(image->bytes);
    *image = (struct image){0};
}

void process_free(struct pm *pm, struct process *process) {
    struct child *child;
    list_for_each(child, &process->children, link)
        child_remove(pm, child);
    wait_drop_all(pm, process);
    struct dvk_request *req;
    while ((req = pm_unpark(&process->parked)))
        peer_answer(pm, req, -ESRCH, 0, 0);
    tid_list_release(pm, &process->tids);
    image_drop(&process->image);
    fd_close(&process->channel_fd);
    fd_close(&process->socket_fd);
    creds_destroy(&process->creds);
    free(process->cmdline);
    list_remove(&process->spawn_link);
    list_remove(&process->report_link);
    if (process->pid != PM_INIT_PID) {
        list_remove(&process->link);
        pm->process_count--;
        struct slot_entry *entry = pm_entry(pm, process->pid);
        if (entry && entry->process == process)
            entry->process = NULL;
        pm_entry_trim(pm, process->pid);
    }
    free(process);
}

void process_unbind(struct pm *pm, struct process *process, bool moved) {
    if (process->endpoint != DVK_NONE)
        dvk_guest_unbind(pm->vos->dvk, process->endpoint, moved);
    process->endpoint = DVK_NONE;
    fd_close(&process->channel_fd);
    fd_close(&process->socket_fd);
}

struct child *child_find(struct pm *pm, struct process *parent, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    return entry && entry->child && entry->child->parent == parent ? entry->child : NULL;
}

struct child *child_add(struct pm *pm, struct process *parent, uint32_t pid) {
    struct slot_entry *entry = pm_entry_make(pm, pid);
    struct child *child = entry ? calloc(1, sizeof(*child)) : NULL;
    if (!child) {
        pm_entry_trim(pm, pid);
        return NULL;
    }
    child->parent = parent;
    child->pid = pid;
    child->node = pm->vos->node;
    list_append(&parent->children, &child->link);
    entry->child = child;
    return child;
}

void child_remove(struct pm *pm, struct child *child) {
    uint32_t pid = child->pid;
    struct slot_entry *entry = pm_entry(pm, pid);
    if (entry && entry->child == child)
        entry->child = NULL;
    list_remove(&child->link);
    free(child);
    pm_entry_trim(pm, pid);
}

int tid_list_add(struct tid_list *list, uint32_t tid) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? list->capacity * 2 : 16;
        uint32_t *tids = realloc(list->tids, capacity * sizeof(*tids));
        if (!tids)
            return -ENOMEM;
        list->tids = tids;
        list->capacity = capacity;
    }
    list->tids[list->count++] = tid;
    return 0;
}

void tid_list_release(struct pm *pm, struct tid_list *list) {
    for (uint32_t i = 0; i < list->count; i++) {
        struct slot_entry *entry = pm_entry(pm, list->tids[i]);
        if (entry)
            entry->thread_of = 0;
        slots_give(&pm->slots, list->tids[i]);
        pm_entry_trim(pm, list->tids[i]);
    }
    free(list->tids);
    *list = (struct tid_list){0};
}

void usage_add(struct init_rusage *to, const struct init_rusage *from) {
    to->utime_s += from->utime_s;
    to->utime_us += from->utime_us;
    to->stime_s += from->stime_s;
    to->stime_us += from->stime_us;
    to->utime_s += to->utime_us / 1000000;
    to->utime_us %= 1000000;
    to->stime_s += to->stime_us / 1000000;
    to->stime_us %= 1000000;
    if (from->maxrss > to->maxrss)
        to->maxrss = from->maxrss;
    to->minflt += from->minflt;
    to->majflt += from->majflt;
    to->inblock += from->inblock;
    to->oublock += from->oublock;
    to->nvcsw += from->nvcsw;
    to->nivcsw += from->nivcsw;
}

/* data: "comm\0cmdline", as PM_STARTED and PM_EXECED bring it; bytes of a guest. */
int process_set_command(struct process *process, const void *data, size_t len) {
    if (!len)
        return 0;
    cleanup_free char *copy = malloc(len);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, data, len);
    size_t comm = strnlen(copy, len);
    size_t shown = comm < sizeof(process->comm) ? comm : sizeof(process->comm) - 1;
    memset(process->comm, 0, sizeof(process->comm));
    memcpy(process->comm, copy, shown);
    free(process->cmdline);
    process->cmdline = NULL;
    process->cmdline_len = 0;
    if (comm + 1 >= len)
        return 0;
    size_t rest = len - comm - 1;
    process->cmdline = malloc(rest);
    if (!process->cmdline)
        return -ENOMEM;
    memcpy(process->cmdline, copy + comm + 1, rest);
    process->cmdline_len = (uint32_t)rest;
    return 0;
}
