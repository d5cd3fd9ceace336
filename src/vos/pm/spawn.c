/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New host processes: first programs, and programs that exec elsewhere or afresh. The zygote clones them.
 *
 * PM_ZYGOTE_WAIT  by the zygote: w0 result of the last spawn (pid or -errno). reply: w0 pid; fds: channel, socket
 */
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define CLONE_TRIES 50u
#define CLONE_RETRY_MS 10u

static void spawn_next(struct pm *pm) {
    struct process *process = list_first(&pm->spawn_queue, struct process, spawn_link);
    if (!pm->zygote || pm->cloning_pid || !process)
        return;
    list_remove(&process->spawn_link);
    process->state = PROCESS_CLONING;
    pm->cloning_pid = process->pid;
    pm->cloning_serial = process->serial;
    struct dvk_request *req = pm->zygote;
    pm->zygote = NULL;
    struct dvk_message reply = {0};
    reply.payload.words[0] = process->pid;
    const int fds[2] = {process->channel_fd, process->socket_fd};
    pm_answer_message(pm, req, &reply, fds, 2);
    /* The descriptors are kept until the clone has succeeded, for another try. */
}

static void try_again(void *context) {
    struct pending *pending = context;
    struct process *process = process_by_serial(pending->pm, pending->pid, pending->serial);
    if (process && process->state == PROCESS_CLONING)
        spawn_queue(pending->pm, process);
    free(pending);
}

/* The old host process may be in its last moments still, or the cell at its limit of processes. */
static bool retry_later(struct pm *pm, struct process *process) {
    uint64_t id;
    if (process->zygote_tries++ >= CLONE_TRIES)
        return false;
    struct pending *pending = pending_new(pm, NULL, process);
    if (!pending || dvk_timer(pm->vos->dvk, CLONE_RETRY_MS, try_again, pending, &id) < 0) {
        free(pending);
        return false;
    }
    return true;
}

static void spawn_result(struct pm *pm, int64_t result) {
    struct process *process = process_by_serial(pm, pm->cloning_pid, pm->cloning_serial);
    uint32_t pid = pm->cloning_pid;
    pm->cloning_pid = 0;
    if (!process || (process->state != PROCESS_CLONING && process->state != PROCESS_LOADING && process->state != PROCESS_RUNNING)) {
        if (result > 0 && !process) { /* ended before it was cloned: the clone has nobody to serve it */
            struct vos_siginfo_fields none = {0};
            host_signal(pm->vos, pid, 0, SIGKILL, &none);
        }
        return;
    }
    if (result >= 0) {
        fd_close(&process->channel_fd);
        fd_close(&process->socket_fd);
        if (process->state == PROCESS_CLONING)
            process->state = PROCESS_LOADING;
        if (signal_kill_kept(process)) {
            struct vos_siginfo_fields none = {0};
            host_signal(pm->vos, process->pid, 0, SIGKILL, &none);
        }
        return;
    }
    if (process->state != PROCESS_CLONING || retry_later(pm, process))
        return;
    log_warning("process %u could not be made: the zygote got error %d", process->pid, (int)-result);
    exit_process(pm, process, SIGKILL, NULL);
}

void spawn_handle_zygote(struct pm *pm, struct dvk_request *req) {
    if (pm->cloning_pid)
        spawn_result(pm, req->msg.payload.ints[0]);
    if (pm->zygote)
        pm_answer(pm, pm->zygote, -EINTR, 0, 0, 0);
    pm->zygote = req;
    spawn_next(pm);
}

void spawn_queue(struct pm *pm, struct process *process) {
    if (signal_kill_kept(process)) {
        exit_process(pm, process, SIGKILL, NULL);
        return;
    }
    process->state = PROCESS_QUEUED;
    list_append(&pm->spawn_queue, &process->spawn_link);
    spawn_next(pm);
}

static void bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    struct pending *pending = context;
    struct pm *pm = pending->pm;
    struct process *process = process_by_serial(pm, pending->pid, pending->serial);
    free(pending);
    if (!process || process->state != PROCESS_BINDING) {
        if (status == 0) {
            dvk_guest_unbind(pm->vos->dvk, endpoint, false);
            fd_close(&channel_fd);
            fd_close(&socket_fd);
        }
        return;
    }
    if (status < 0) {
        log_warning("process %u could not be bound: %s", process->pid, dvk_strerror(status));
        exit_process(pm, process, SIGKILL, NULL);
        return;
    }
    process->endpoint = endpoint;
    process->channel_fd = channel_fd;
    process->socket_fd = socket_fd;
    spawn_queue(pm, process);
}

void spawn_bind(struct pm *pm, struct process *process) {
    process->state = PROCESS_BINDING;
    struct pending *pending = pending_new(pm, NULL, process);
    bool adopted = !slots_is_own(&pm->slots, process->pid);
    if (!pending || dvk_guest_bind(pm->vos->dvk, pm->vos->dc, process->pid, adopted, bound, pending) < 0) {
        free(pending);
        exit_process(pm, process, SIGKILL, NULL);
    }
}
