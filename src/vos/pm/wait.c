/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PM_WAIT         w0 pid as in wait4(2) w1 options. reply: w0 pid w1 status w2 uid; data: struct rusage. Pending until there is an answer
 * PM_CHLD_IGNORE  w0 enum pm_chld_flags
 *
 * All that wait needs is in the parent's list of children (struct child), wherever they run.
 */
#include "vos/pm/pm.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

void wait_handle_ignore(struct pm *pm, struct process *process, struct dvk_request *req) {
    process->chld_flags = req->msg.payload.words[0] & (PM_CHLD_IGN | PM_CHLD_NOWAIT | PM_CHLD_NOSTOP);
    pm_answer(pm, req, 0, 0, 0, 0);
}

static bool child_matches(const struct child *child, const struct wait_call *wait) {
    if (!(wait->options & __WALL) && (child->exit_signal != SIGCHLD) != !!(wait->options & __WCLONE))
        return false;
    if (wait->pid > 0)
        return child->pid == (uint32_t)wait->pid;
    if (wait->pid == -1)
        return true;
    return child->pgid == wait->group;
}

/* Something that this wait asks for; its status as wait4(2) shows it. */
static bool child_has_news(const struct child *child, uint32_t options, int *status) {
    if (child->zombie && options & WEXITED)
        *status = child->status;
    else if (child->stopped && options & WSTOPPED)
        *status = child->stop_status;
    else if (child->continued && options & WCONTINUED)
        *status = 0xffff;
    else
        return false;
    return true;
}

static void wait_answer(struct pm *pm, struct dvk_request *req, const struct child *child, int status) {
    struct dvk_message reply = {0};
    reply.payload.words[0] = child->pid;
    reply.payload.words[1] = (uint32_t)status;
    reply.payload.words[2] = child->uid;
    struct init_rusage usage = {0};
    if (child->zombie)
        usage = child->usage;
    if (req->reply_cap >= sizeof(usage)) {
        memcpy(req->reply_data, &usage, sizeof(usage));
        reply.data_len = sizeof(usage);
    }
    pm_answer_message(pm, req, &reply, NULL, 0);
}

/* The news are taken (unless only looked at). True: the child is gone from the list, and its zombie is to be reaped. */
static bool child_consume(struct pm *pm, struct process *parent, struct child *child, uint32_t options) {
    if (options & WNOWAIT)
        return false;
    if (child->zombie) {
        usage_add(&parent->children_usage, &child->usage);
        child_remove(pm, child);
        return true;
    }
    if (child->stopped)
        child->stopped = false;
    else
        child->continued = false;
    return false;
}

static void wait_end(struct wait_call *wait) {
    list_remove(&wait->link);
    free(wait);
}

/* Give a child's news to those who wait. True: it was reaped. */
static bool wait_serve(struct pm *pm, struct process *parent, struct child *child) {
    struct wait_call *wait;
    list_for_each(wait, &parent->waits, link) {
        int status;
        if (!child_matches(child, wait) || !child_has_news(child, wait->options, &status))
            continue;
        uint32_t options = wait->options;
        wait_answer(pm, wait->req, child, status);
        wait_end(wait);
        if (child_consume(pm, parent, child, options))
            return true;
    }
    return false;
}

static void reap_elsewhere(struct pm *pm, uint32_t pid, uint32_t node, uint32_t ppid) {
    struct process *here = process_here(pm, pid);
    if (here) {
        if (here->state == PROCESS_ZOMBIE)
            exit_reap(pm, here);
        return;
    }
    if (node == pm->vos->node || !peer_is_active(pm, node))
        return;
    struct pm_s_child_state reaped = {.kind = PM_CHILD_REAPED, .pid = pid, .ppid = ppid};
    peer_call(pm, node, PM_S_CHILD_STATE, &reaped, sizeof(reaped), NULL, 0, NULL, NULL);
}

void wait_check(struct pm *pm, struct process *parent) {
    struct wait_call *wait;
    list_for_each(wait, &parent->waits, link) {
        bool any = false;
        struct child *child;
        list_for_each(child, &parent->children, link)
            any = any || child_matches(child, wait);
        if (any)
            continue;
        pm_answer(pm, wait->req, -ECHILD, 0, 0, 0);
        wait_end(wait);
    }
}

void wait_handle(struct pm *pm, struct process *process, struct dvk_request *req) {
    int64_t pid = req->msg.payload.ints[0];
    struct wait_call wait = {.req = req, .process = process, .pid = (int32_t)pid, .options = (uint32_t)req->msg.payload.words[1]};
    if (!req->wants_reply || pid != (int32_t)pid || pid == INT32_MIN) {
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
        return;
    }
    if (!(wait.options & (WEXITED | WSTOPPED | WCONTINUED)))
        wait.options |= WEXITED;
    wait.group = wait.pid == 0 ? process->pgid : (uint32_t)-wait.pid;

    bool any = false;
    struct child *child;
    list_for_each(child, &process->children, link) {
        int status;
        if (!child_matches(child, &wait))
            continue;
        any = true;
        if (!child_has_news(child, wait.options, &status))
            continue;
        wait_answer(pm, req, child, status);
        uint32_t child_pid = child->pid, node = child->node;
        if (child_consume(pm, process, child, wait.options))
            reap_elsewhere(pm, child_pid, node, process->pid);
        return;
    }
    if (!any || wait.options & WNOHANG) {
        pm_answer(pm, req, any ? 0 : -ECHILD, 0, 0, 0);
        return;
    }
    struct wait_call *pending = malloc(sizeof(*pending));
    if (!pending) {
        pm_answer(pm, req, -ENOMEM, 0, 0, 0);
        return;
    }
    *pending = wait;
    list_init(&pending->link);
    list_append(&process->waits, &pending->link);
    req->user = pending;
    if (req->cancelled)
        wait_cancel(pm, req);
}

void wait_cancel(struct pm *pm, struct dvk_request *req) {
    struct wait_call *wait = req->user;
    if (!wait || wait->req != req)
        return;
    pm_answer(pm, req, -EINTR, 0, 0, 0);
    wait_end(wait);
}

void wait_drop_all(struct pm *pm, struct process *process) {
    struct wait_call *wait;
    while ((wait = list_first(&process->waits, struct wait_call, link))) {
        pm_answer(pm, wait->req, -ESRCH, 0, 0, 0);
        wait_end(wait);
    }
}

/* ---- reports about children ---- */

static void tell_parent(struct pm *pm, struct process *parent, int sig, const struct pm_s_child_state *state, int code, int status) {
    if (parent == pm->init || sig == 0)
        return;
    struct vos_siginfo_fields fields = {.code = code, .pid = (int32_t)state->pid, .uid = state->uid, .status = status,
                                        .utime = (uint32_t)(state->usage.utime_s * 100 + state->usage.utime_us / 10000),
                                        .stime = (uint32_t)(state->usage.stime_s * 100 + state->usage.stime_us / 10000)};
    signal_send(pm, parent, 0, sig, &fields);
}

static void tell_parent_exit(struct pm *pm, struct process *parent, int sig, const struct pm_s_child_state *state) {
    int status = state->status;
    if (WIFEXITED(status))
        tell_parent(pm, parent, sig, state, CLD_EXITED, WEXITSTATUS(status));
    else
        tell_parent(pm, parent, sig, state, WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED, WTERMSIG(status));
}

/* The signal goes before the answer to a wait, as Linux has it: when the wait returns it is pending, and no later call is disturbed. */
static int child_exited(struct pm *pm, struct process *parent, struct child *child, const struct pm_s_child_state *state) {
    int sig = (int)child->exit_signal;
    child->zombie = true;
    child->stopped = child->continued = false;
    child->status = state->status;
    child->usage = state->usage;
    if (parent == pm->init) {
        control_exited(pm, child, state->status);
        child_remove(pm, child);
        return 1;
    }
    bool unwaited = sig == SIGCHLD && parent->chld_flags & (PM_CHLD_IGN | PM_CHLD_NOWAIT);
    tell_parent_exit(pm, parent, unwaited && parent->chld_flags & PM_CHLD_IGN ? 0 : sig, state);
    if (unwaited)
        child_remove(pm, child);
    bool reaped = unwaited || wait_serve(pm, parent, child);
    if (reaped)
        wait_check(pm, parent);
    return reaped;
}

static void child_stopped(struct pm *pm, struct process *parent, struct child *child, const struct pm_s_child_state *state) {
    bool stopped = state->kind == PM_CHILD_STOPPED;
    child->stopped = stopped;
    child->continued = !stopped;
    child->stop_status = state->status;
    if (!(parent->chld_flags & (PM_CHLD_IGN | PM_CHLD_NOSTOP)))
        tell_parent(pm, parent, SIGCHLD, state, stopped ? CLD_STOPPED : CLD_CONTINUED, stopped ? WSTOPSIG(state->status) : SIGCONT);
    wait_serve(pm, parent, child);
}

int wait_child_state(struct pm *pm, struct process *parent, const struct pm_s_child_state *state) {
    struct child *child = child_find(pm, parent, state->pid);
    if (!child)
        return -ECHILD;
    if (child->zombie) /* taken for killed with a node before it was heard of again: the parent has its status already */
        return -ECHILD;
    if (state->moves < child->moves) /* somebody took it for lost at a place that it had left */
        return 0;
    bool late = state->sequence <= child->sequence, regrouped = !late && child->pgid != state->pgid;
    int result = 0;
    if (!late) {
        child->sequence = state->sequence;
        child->pgid = state->pgid;
        child->sid = state->sid;
        child->uid = state->uid;
        child->exit_signal = state->exit_signal;
    }
    switch (state->kind) {
    case PM_CHILD_EXITED:
        result = child_exited(pm, parent, child, state);
        if (result == 0 && regrouped) /* who waits for its old group may have nobody left there */
            wait_check(pm, parent);
        return result;
    case PM_CHILD_STOPPED:
    case PM_CHILD_CONTINUED:
        if (!late)
            child_stopped(pm, parent, child, state);
        return 0;
    case PM_CHILD_RELATION:
        if (!late)
            wait_check(pm, parent);
        return 0;
    default:
        return 0;
    }
}
