/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PM_KILL      w0 pid as in kill(2) w1 signal
 * PM_TGKILL    w0 tgid (-1: tkill) w1 tid w2 signal
 * PM_SIGQUEUE  w0 pid w1 tid or 0 w2 signal; data: siginfo_t with si_code < 0
 *
 * The pm of the target checks permission and queues a host signal. A process that has no program to take it (between two
 * nodes, or loading) gets it when it runs. Groups and "all" are asked of every active node, and the results added up.
 */
#include "common/record.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define SIGNAL_MAX 64

static bool is_stop(int sig) { return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU; }

bool signal_kill_kept(const struct process *process) {
    for (uint32_t i = 0; i < process->kept_count; i++)
        if (process->kept[i].signal == SIGKILL)
            return true;
    return false;
}

static int keep(struct process *process, uint32_t tid, int sig, const struct vos_siginfo_fields *fields) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < process->kept_count; i++) {
        const struct kept_signal *old = &process->kept[i];
        if ((sig == SIGCONT && is_stop(old->signal)) || (is_stop(sig) && old->signal == SIGCONT))
            continue; /* they cancel each other */
        if (sig < SIGRTMIN && old->signal == sig && old->tid == tid)
            return 0; /* pending already */
        process->kept[kept++] = *old;
    }
    process->kept_count = kept;
    if (kept == PM_KEPT_SIGNALS) {
        if (sig != SIGKILL)
            return -EAGAIN;
        process->kept_count--;
    }
    process->kept[process->kept_count++] = (struct kept_signal){sig, tid, *fields};
    return 0;
}

int signal_send(struct pm *pm, struct process *process, uint32_t tid, int sig, const struct vos_siginfo_fields *fields) {
    if (sig == 0 || process->state == PROCESS_ZOMBIE)
        return 0;
    record(RECORD_PROCESS_SIGNAL, pm->vos->dc, process->pid, (uint64_t)sig, process->state);
    int result;
    switch (process->state) {
    case PROCESS_RUNNING:
        result = host_signal(pm->vos, process->pid, tid, sig, fields);
        return result == -ESRCH && !tid ? 0 : result; /* it has just ended: a zombie */
    case PROCESS_FORKING:
        result = host_signal(pm->vos, process->pid, tid, sig, fields);
        return result == -ESRCH ? keep(process, tid, sig, fields) : result;
    case PROCESS_LOADING:
        if (sig == SIGKILL)
            return host_signal(pm->vos, process->pid, 0, sig, fields) == -EPERM ? -EPERM : 0;
        return keep(process, tid, sig, fields);
    case PROCESS_BINDING:
    case PROCESS_QUEUED:
        if (sig == SIGKILL) {
            exit_process(pm, process, SIGKILL, NULL);
            return 0;
        }
        return keep(process, tid, sig, fields);
    case PROCESS_ARRIVING:
    case PROCESS_REPLACED:
    case PROCESS_CLONING:
    case PROCESS_LEAVING:
    case PROCESS_ZOMBIE:
        break;
    }
    return keep(process, tid, sig, fields);
}

void signal_flush(struct pm *pm, struct process *process) {
    uint32_t count = process->kept_count;
    process->kept_count = 0;
    for (uint32_t i = 0; i < count; i++)
        host_signal(pm->vos, process->pid, process->kept[i].tid, process->kept[i].signal, &process->kept[i].fields);
}

/* ---- what one node does for a request ---- */

static bool permitted(const struct pm_s_signal *ask, const struct process *target) {
    return ask->system || creds_may_signal(ask->uid, ask->euid, &target->creds, ask->signal, ask->sid == target->sid);
}

static int signal_one(struct pm *pm, struct process *process, const struct pm_s_signal *ask) {
    if (ask->kind != PM_SIGNAL_DELIVER && !permitted(ask, process))
        return -EPERM;
    return signal_send(pm, process, ask->tid, ask->signal, &ask->fields);
}

void signal_group_here(struct pm *pm, const struct pm_s_signal *ask, uint32_t *matched, uint32_t *allowed) {
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        if (ask->kind == PM_SIGNAL_GROUP ? process->pgid != ask->target : process->pid == ask->sender)
            continue;
        (*matched)++;
        if (signal_one(pm, process, ask) == 0)
            (*allowed)++;
    }
}

/* The process that pid names here: a process, or the one with a thread of that number. */
static struct process *target_find(struct pm *pm, uint32_t pid) {
    struct slot_entry *entry = pm_entry(pm, pid);
    if (!entry)
        return NULL;
    return entry->process ? entry->process : entry->thread_of ? process_here(pm, entry->thread_of) : NULL;
}

static bool has_thread(struct pm *pm, const struct process *process, uint32_t tid) {
    struct slot_entry *entry = pm_entry(pm, tid);
    return !tid || tid == process->pid || (entry && entry->thread_of == process->pid);
}

static int signal_process(struct pm *pm, struct process *process, const struct pm_s_signal *ask) {
    return has_thread(pm, process, ask->tid) ? signal_one(pm, process, ask) : -ESRCH;
}

void signal_handle_remote(struct pm *pm, struct dvk_request *req) {
    struct pm_s_signal ask;
    memcpy(&ask, req->msg.payload.bytes, sizeof(ask));
    if (ask.signal < 0 || ask.signal > SIGNAL_MAX) {
        peer_answer(pm, req, -EINVAL, 0, 0);
        return;
    }
    if (ask.kind == PM_SIGNAL_GROUP || ask.kind == PM_SIGNAL_ALL) {
        uint32_t matched = 0, allowed = 0;
        signal_group_here(pm, &ask, &matched, &allowed);
        peer_answer(pm, req, 0, matched, allowed);
        return;
    }
    struct process *process = target_find(pm, ask.target);
    if (!process)
        peer_forward(pm, ask.target, req);
    else
        peer_answer(pm, req, signal_process(pm, process, &ask), 0, 0);
}

/* ---- groups and all: every active node ---- */

struct gather {
    struct pm *pm;
    struct dvk_request *req;                    /* to be answered, or: */
    void (*done)(void *context, int status);
    void *context;
    unsigned pending;
    uint32_t matched, allowed;
    bool all, count; /* count: answer with how many */
};

static void gather_end(struct gather *gather) {
    if (--gather->pending)
        return;
    int status = gather->allowed || (gather->all && gather->matched) ? 0 : gather->matched ? -EPERM : -ESRCH;
    if (status == 0 && gather->count)
        status = (int)gather->allowed;
    if (gather->req)
        pm_answer(gather->pm, gather->req, status, 0, 0, 0);
    else
        gather->done(gather->context, status);
    free(gather);
}

static void gather_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct gather *gather = context;
    pm_close_fds(fds, fd_count);
    if (status == 0 && reply->status == 0) {
        gather->matched += (uint32_t)reply->payload.words[0];
        gather->allowed += (uint32_t)reply->payload.words[1];
    }
    gather_end(gather);
}

static void gather_start(struct pm *pm, struct pm_s_signal *ask, const struct gather *how) {
    struct gather *gather = malloc(sizeof(*gather));
    if (!gather) {
        if (how->req)
            pm_answer(pm, how->req, -ENOMEM, 0, 0, 0);
        else
            how->done(how->context, -ENOMEM);
        return;
    }
    *gather = *how;
    gather->pm = pm;
    gather->all = ask->kind == PM_SIGNAL_ALL;
    /* One more than asked for each node, so that it cannot end while this goes on. */
    gather->pending = 1;
    uint32_t nodes[VOS_MAX_NODES];
    unsigned count = peers_active(pm, nodes);
    for (unsigned i = 0; i < count; i++) {
        gather->pending++;
        if (peer_call(pm, nodes[i], PM_S_SIGNAL, ask, sizeof(*ask), NULL, 0, gather_done, gather) < 0)
            gather->pending--;
    }
    signal_group_here(pm, ask, &gather->matched, &gather->allowed);
    gather_end(gather);
}

/* ---- guests ---- */

static struct pm_s_signal ask_of(const struct process *sender, int sig, int code) {
    return (struct pm_s_signal){.kind = PM_SIGNAL_PROCESS, .signal = sig, .sender = sender->pid, .uid = sender->creds.uid,
                                .euid = sender->creds.euid, .sid = sender->sid,
                                .fields = {.code = code, .pid = (int32_t)sender->pid, .uid = sender->creds.uid}};
}

static void signal_pid(struct pm *pm, struct pm_s_signal *ask, struct dvk_request *req) {
    if (ask->target == PM_INIT_PID) { /* init takes no signals */
        pm_answer(pm, req, ask->euid == 0 || ask->system ? 0 : -EPERM, 0, 0, 0);
        return;
    }
    struct process *process = target_find(pm, ask->target);
    if (process)
        pm_answer(pm, req, signal_process(pm, process, ask), 0, 0, 0);
    else
        peer_relay(pm, ask->target, req, PM_S_SIGNAL, ask, sizeof(*ask));
}

void signal_handle_kill(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t pid = req->msg.payload.ints[0], sig = req->msg.payload.ints[1];
    if (sig < 0 || sig > SIGNAL_MAX) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    if (pid != (int32_t)pid || pid == INT32_MIN) {
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
        return;
    }
    struct pm_s_signal ask = ask_of(process, (int)sig, SI_USER);
    if (pid > 0) {
        ask.target = (uint32_t)pid;
        signal_pid(pm, &ask, req);
        return;
    }
    ask.kind = pid == -1 ? PM_SIGNAL_ALL : PM_SIGNAL_GROUP;
    ask.target = pid == 0 ? process->pgid : (uint32_t)-pid;
    gather_start(pm, &ask, &(struct gather){.req = req});
}

void signal_handle_tgkill(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t tgid = req->msg.payload.ints[0], tid = req->msg.payload.ints[1], sig = req->msg.payload.ints[2];
    if (sig < 0 || sig > SIGNAL_MAX || tid <= 0 || tid > INT32_MAX || (tgid <= 0 && tgid != -1) || tgid > INT32_MAX) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    struct pm_s_signal ask = ask_of(process, (int)sig, SI_TKILL);
    ask.target = (uint32_t)(tgid == -1 ? tid : tgid);
    ask.tid = (uint32_t)tid;
    signal_pid(pm, &ask, req);
}

/* siginfo_t of x86-64: si_code at 8, si_pid 16, si_uid 20, si_value 24. */
void signal_handle_queue(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t pid = req->msg.payload.ints[0], tid = req->msg.payload.ints[1], sig = req->msg.payload.ints[2];
    uint8_t info[32];
    if (sig < 0 || sig > SIGNAL_MAX || pid <= 0 || pid > INT32_MAX || tid < 0 || tid > INT32_MAX ||
        req->msg.data_len < sizeof(info)) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    memcpy(info, req->data, sizeof(info));
    struct pm_s_signal ask = ask_of(process, (int)sig, SI_QUEUE);
    memcpy(&ask.fields.code, info + 8, 4);
    memcpy(&ask.fields.pid, info + 16, 4);
    memcpy(&ask.fields.uid, info + 20, 4);
    memcpy(&ask.fields.value, info + 24, 8);
    if ((ask.fields.code >= 0 || ask.fields.code == SI_TKILL) && (uint32_t)pid != process->pid) {
        pm_answer(pm, req, -EPERM, 0, 0, 0);
        return;
    }
    ask.target = (uint32_t)pid;
    ask.tid = (uint32_t)tid;
    signal_pid(pm, &ask, req);
}

/* ---- the system itself ---- */

static struct pm_s_signal ask_of_system(uint32_t target, int sig) {
    return (struct pm_s_signal){.kind = PM_SIGNAL_PROCESS, .target = target, .signal = sig, .system = 1, .fields = {.code = SI_KERNEL}};
}

void signal_handle_raise(struct pm *pm, struct dvk_request *req) {
    uint64_t kind = req->msg.payload.words[0], id = req->msg.payload.words[1], sig = req->msg.payload.words[2];
    if (kind > 1 || id == 0 || id > INT32_MAX || sig > SIGNAL_MAX) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    struct pm_s_signal ask = ask_of_system((uint32_t)id, (int)sig);
    if (kind == 0) {
        struct process *process = target_find(pm, ask.target);
        if (process)
            pm_answer(pm, req, signal_process(pm, process, &ask) < 0 ? -ESRCH : 1, 0, 0, 0);
        else
            peer_relay(pm, ask.target, req, PM_S_SIGNAL, &ask, sizeof(ask));
        return;
    }
    ask.kind = PM_SIGNAL_GROUP;
    gather_start(pm, &ask, &(struct gather){.req = req, .count = true});
}

struct system_call {
    void (*done)(void *context, int status);
    void *context;
};

static void system_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                        unsigned fd_count) {
    struct system_call *call = context;
    pm_close_fds(fds, fd_count);
    call->done(call->context, status < 0 ? -ESRCH : reply->status);
    free(call);
}

void signal_system(struct pm *pm, uint32_t pid, uint32_t pgid, int sig, void (*done)(void *context, int status), void *context) {
    struct pm_s_signal ask = ask_of_system(pid, sig);
    if (pid == 0) {
        ask.kind = pgid ? PM_SIGNAL_GROUP : PM_SIGNAL_ALL;
        ask.target = pgid;
        gather_start(pm, &ask, &(struct gather){.done = done, .context = context});
        return;
    }
    struct process *process = target_find(pm, pid);
    uint32_t node = process ? 0 : peer_route(pm, pid);
    if (process || !node) {
        done(context, process ? signal_process(pm, process, &ask) : -ESRCH);
        return;
    }
    struct system_call *call = malloc(sizeof(*call));
    if (call)
        *call = (struct system_call){done, context};
    if (!call || peer_call(pm, node, PM_S_SIGNAL, &ask, sizeof(ask), NULL, 0, system_done, call) < 0) {
        free(call);
        done(context, -ESRCH);
    }
}
