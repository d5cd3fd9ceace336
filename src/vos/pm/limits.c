/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PM_RLIMIT    w0 pid w1 resource w2 set? w3 soft w4 hard. reply: w0 soft w1 hard (the old)
 * PM_PRIORITY  w0 0 get / 1 set w1 which w2 who w3 value. reply: w0 20 - nice (get)
 * PM_SCHED     w0 pid · PM_RUSAGE w0 RUSAGE_CHILDREN · PM_UMASK w0 mask
 *
 * Limits are kept, inherited and shown here; those that have an effect (files, stack) are applied by the personality. PRIO_PGRP and PRIO_USER
 * see the processes of this node only.
 */
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

void limits_default(struct process *process) {
    for (unsigned i = 0; i < PM_LIMITS; i++)
        process->limits[i][0] = process->limits[i][1] = RLIM_INFINITY;
    process->limits[RLIMIT_NOFILE][0] = 1024;
    process->limits[RLIMIT_NOFILE][1] = 14336; /* FD_LIMIT_MAX of the personality */
    process->limits[RLIMIT_STACK][0] = 8u << 20;
    process->limits[RLIMIT_CORE][0] = 0;
    process->limits[RLIMIT_MEMLOCK][0] = process->limits[RLIMIT_MEMLOCK][1] = 8u << 20;
    process->limits[RLIMIT_SIGPENDING][0] = process->limits[RLIMIT_SIGPENDING][1] = 4096;
    process->limits[RLIMIT_MSGQUEUE][0] = process->limits[RLIMIT_MSGQUEUE][1] = 819200;
    process->limits[RLIMIT_NICE][0] = process->limits[RLIMIT_NICE][1] = 0;
    process->limits[RLIMIT_RTPRIO][0] = process->limits[RLIMIT_RTPRIO][1] = 0;
}

/* prlimit(2): the caller's ids must be all of the target's, or it is root. */
static bool may_look(const struct pm_s_locate *ask, const struct process *target) {
    const struct creds *creds = &target->creds;
    return ask->euid == 0 || (ask->uid == creds->uid && ask->uid == creds->euid && ask->uid == creds->suid);
}

static int limit_answer(struct process *process, const struct pm_s_locate *ask, uint64_t *w0, uint64_t *w1) {
    if (ask->a >= PM_LIMITS)
        return -EINVAL;
    if (!may_look(ask, process))
        return -EPERM;
    uint64_t *limit = process->limits[ask->a];
    *w0 = limit[0];
    *w1 = limit[1];
    if (!ask->b)
        return 0;
    if (ask->c > ask->d)
        return -EINVAL;
    if (ask->d > limit[1] && ask->euid != 0)
        return -EPERM;
    limit[0] = ask->c;
    limit[1] = ask->d;
    return 0;
}

/* setpriority(2). */
static int priority_set(struct pm *pm, struct process *process, const struct pm_s_locate *ask) {
    int64_t nice = (int64_t)ask->b;
    nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    if (ask->euid != 0 && ask->euid != process->creds.uid && ask->euid != process->creds.euid)
        return -EPERM;
    if (nice < process->nice && ask->euid != 0 && (uint64_t)(20 - nice) > process->limits[RLIMIT_NICE][0])
        return -EACCES;
    process->nice = (int32_t)nice;
    host_nice(pm->vos, process->pid, (int)nice);
    return 0;
}

int limits_answer(struct pm *pm, struct process *process, const struct pm_s_locate *ask, uint64_t *w0, uint64_t *w1) {
    if (ask->op == PM_LOCATE_RLIMIT)
        return limit_answer(process, ask, w0, w1);
    if (ask->op == PM_LOCATE_PRIORITY) {
        *w0 = (uint64_t)(20 - process->nice);
        return ask->a ? priority_set(pm, process, ask) : 0;
    }
    return 0; /* PM_LOCATE_SEES: it is there */
}

static void limits_ask(struct pm *pm, struct process *process, struct dvk_request *req, struct pm_s_locate *ask) {
    uint64_t w0 = 0, w1 = 0;
    if (!ask->pid)
        ask->pid = process->pid;
    ask->uid = process->creds.uid;
    ask->euid = process->creds.euid;
    struct process *target = ask->pid == PM_INIT_PID ? pm->init : process_here(pm, ask->pid);
    if (target) {
        int result = limits_answer(pm, target, ask, &w0, &w1);
        pm_answer(pm, req, result, w0, w1, 0);
    } else {
        peer_relay(pm, ask->pid, req, PM_S_LOCATE, ask, sizeof(*ask));
    }
}

static bool pid_word(uint64_t word, uint32_t *pid) {
    *pid = (uint32_t)word;
    return word <= INT32_MAX;
}

void limits_handle_rlimit(struct pm *pm, struct process *process, struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    struct pm_s_locate ask = {.op = PM_LOCATE_RLIMIT, .a = words[1], .b = words[2], .c = words[3], .d = words[4]};
    if (pid_word(words[0], &ask.pid))
        limits_ask(pm, process, req, &ask);
    else
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
}

void limits_handle_sched(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct pm_s_locate ask = {.op = PM_LOCATE_SEES};
    if (pid_word(req->msg.payload.words[0], &ask.pid))
        limits_ask(pm, process, req, &ask);
    else
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
}

static void priority_many(struct pm *pm, struct process *caller, struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    bool group = words[1] == PRIO_PGRP;
    uint32_t who = words[2] ? (uint32_t)words[2] : group ? caller->pgid : caller->creds.uid;
    struct pm_s_locate ask = {.op = PM_LOCATE_PRIORITY, .uid = caller->creds.uid, .euid = caller->creds.euid, .a = words[0], .b = words[3]};
    int result = -ESRCH;
    uint64_t best = 0;
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        if ((group ? process->pgid : process->creds.uid) != who)
            continue;
        uint64_t w0, w1;
        int one = limits_answer(pm, process, &ask, &w0, &w1);
        if (one < 0)
            result = one;
        else if (result == -ESRCH)
            result = 0;
        if (w0 > best)
            best = w0;
    }
    pm_answer(pm, req, result, best, 0, 0);
}

void limits_handle_priority(struct pm *pm, struct process *process, struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    struct pm_s_locate ask = {.op = PM_LOCATE_PRIORITY, .a = words[0], .b = words[3]};
    if (words[0] > 1 || words[1] > PRIO_USER)
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
    else if (words[1] != PRIO_PROCESS)
        priority_many(pm, process, req);
    else if (pid_word(words[2], &ask.pid))
        limits_ask(pm, process, req, &ask);
    else
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
}

void limits_handle_rusage(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct dvk_message reply = {0};
    if (req->msg.payload.ints[0] != RUSAGE_CHILDREN || req->reply_cap < sizeof(process->children_usage)) {
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
        return;
    }
    memcpy(req->reply_data, &process->children_usage, sizeof(process->children_usage));
    reply.data_len = sizeof(process->children_usage);
    pm_answer_message(pm, req, &reply, NULL, 0);
}

void limits_handle_umask(struct pm *pm, struct process *process, struct dvk_request *req) {
    process->umask = req->msg.payload.words[0] & 0777;
    pm_answer(pm, req, 0, 0, 0, 0);
}
