/* SPDX-License-Identifier: Apache-2.0 */
/* The pm module: its life, and how it answers. */
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int pm_create(struct vos *vos, struct pm **out) {
    struct pm *pm = calloc(1, sizeof(*pm));
    if (!pm)
        return -ENOMEM;
    pm->vos = vos;
    list_init(&pm->processes);
    list_init(&pm->early);
    list_init(&pm->spare_waits);
    list_init(&pm->tid_waits);
    list_init(&pm->spawn_queue);
    list_init(&pm->transfers);
    list_init(&pm->move_waits);
    list_init(&pm->arrival_waits);
    list_init(&pm->parked_reports);
    int index = peer_index(pm, vos->node);
    int result = index < 0 ? -EINVAL : slots_init(&pm->slots, vos->node, vos->node_count, vos->slot_limit);
    if (result == 0) {
        pm->index = (uint32_t)index;
        pm->spread_next = pm->index;
        pm->peers[index].active = true;
        pm->init = process_create(pm, PM_INIT_PID);
        if (!pm->init)
            result = -ENOMEM;
    }
    if (result < 0) {
        pm_destroy(pm);
        return result;
    }
    pm->init->state = PROCESS_RUNNING;
    pm->init->pgid = pm->init->sid = PM_INIT_PID;
    *out = pm;
    return 0;
}

int pm_start(struct pm *pm) { return dvk_slots_watch(pm->vos->dvk, pm->vos->dc, share_event, pm); }

void pm_destroy(struct pm *pm) {
    if (!pm)
        return;
    struct dvk_request *req;
    while ((req = pm_unpark(&pm->early)) || (req = pm_unpark(&pm->tid_waits)))
        pm_answer(pm, req, -ESRCH, 0, 0, 0);
    spare_stop(pm);
    struct process *process;
    while ((process = list_first(&pm->processes, struct process, link))) {
        process_unbind(pm, process, false);
        process_free(pm, process);
    }
    if (pm->init)
        process_free(pm, pm->init);
    for (uint32_t i = 0; i < pm->vos->node_count; i++)
        arrive_node_lost(pm, pm->vos->nodes[i].id);
    if (pm->zygote)
        pm_answer(pm, pm->zygote, -ESRCH, 0, 0, 0);
    slots_destroy(&pm->slots);
    size_t cursor = 0;
    struct slot_entry *entry;
    while ((entry = table_next(&pm->entries, &cursor))) {
        if (entry->husk)
            free(entry->husk->tids.tids);
        free(entry->husk);
        free(entry);
    }
    table_free(&pm->entries);
    free(pm);
}

/* ---- answers ---- */

void pm_answer_message(struct pm *pm, struct dvk_request *req, const struct dvk_message *reply, const int *fds, unsigned fd_count) {
    for (unsigned i = 0; i < req->fd_count; i++)
        fd_close(&req->fds[i]);
    if (req->wants_reply)
        dvk_reply(pm->vos->dvk, req, reply, fds, fd_count);
    else
        dvk_release(pm->vos->dvk, req);
}

void pm_answer(struct pm *pm, struct dvk_request *req, int status, uint64_t w0, uint64_t w1, uint64_t w2) {
    struct dvk_message reply = {.status = status};
    reply.payload.words[0] = w0;
    reply.payload.words[1] = w1;
    reply.payload.words[2] = w2;
    pm_answer_message(pm, req, &reply, NULL, 0);
}

bool pm_park(struct pm *pm, struct list *list, struct dvk_request *req) {
    struct parked *parked = malloc(sizeof(*parked));
    if (!parked) {
        pm_answer(pm, req, -ENOMEM, 0, 0, 0);
        return false;
    }
    parked->req = req;
    parked->since_ms = host_time_ms();
    list_init(&parked->link);
    list_append(list, &parked->link);
    return true;
}

struct dvk_request *pm_unpark(struct list *list) {
    struct parked *parked = list_first(list, struct parked, link);
    if (!parked)
        return NULL;
    struct dvk_request *req = parked->req;
    list_remove(&parked->link);
    free(parked);
    return req;
}

int pm_call_local(struct pm *pm, uint32_t service, struct dvk_message *message, const void *data, size_t len, const int *fds,
                  unsigned fd_count, dvk_done *done, void *context) {
    message->destination = vos_service(pm->vos->node, service);
    message->data_len = (uint32_t)len;
    return dvk_call(pm->vos->dvk, pm->vos->self[DVK_SERVICE_PM], message, data, len, fds, fd_count, done, context, NULL);
}

void pm_close_fds(const int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

void pm_ignore_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {
    pm_close_fds(fds, fd_count);
}

struct pending *pending_new(struct pm *pm, struct dvk_request *req, const struct process *process) {
    struct pending *pending = calloc(1, sizeof(*pending));
    if (pending)
        *pending = (struct pending){pm, req, process ? process->pid : 0, process ? process->serial : 0, 0, 0};
    return pending;
}

/* ---- the module ---- */

static struct pm *the_pm; /* dvs-vos hosts one cell */

static void host_state(void *context, uint32_t pid, int wait_status, const struct init_rusage *usage) {
    exit_host_state(context, pid, wait_status, usage);
}

static int module_start(struct vos *vos) {
    struct pm *pm;
    int result = pm_create(vos, &pm);
    if (result < 0)
        return result;
    result = host_watch_init(vos, host_state, pm);
    if (result < 0) {
        pm_destroy(pm);
        return result;
    }
    the_pm = pm;
    return pm_start(pm);
}

static void module_request(struct vos *vos, struct dvk_request *req) { pm_request(the_pm, req); }
static void module_cancelled(struct vos *vos, struct dvk_request *req) { pm_cancelled(the_pm, req); }

static void module_endpoint_gone(struct vos *vos, dvk_endpoint endpoint) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    if (dvk_slot_is_system(slot) && dvk_system_slot_service(slot) == DVK_SERVICE_PM)
        peers_node_change(the_pm, dvk_system_slot_node(slot), false); /* that cell is gone, its node may live on */
}

static void module_node_change(struct vos *vos, uint32_t node, bool up) { peers_node_change(the_pm, node, up); }

static bool module_control(struct vos *vos, const char *op, const struct dvk_event *event) {
    return control_handle(the_pm, op, event);
}

static void module_stop(struct vos *vos) {
    /* The process ends now. Calls under way still refer to our state, so it is not freed. */
    spare_stop(the_pm);
}

const struct vos_module pm_module = {
    .name = "pm",
    .service = DVK_SERVICE_PM,
    .start = module_start,
    .request = module_request,
    .cancelled = module_cancelled,
    .endpoint_gone = module_endpoint_gone,
    .node_change = module_node_change,
    .control = module_control,
    .stop = module_stop,
};
