/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spare endpoints: pids that are bound in the DVK before anybody needs them, since binding takes a round trip to dvkd. Also thread
 * ids, which need no endpoint.
 */
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <errno.h>
#include <stdlib.h>

#define MOST_PENDING 64u
#define RETRY_MS 100u
#define IDLE_RETRY_MS 2000u

struct spare_wait {
    struct list link;
    spare_done *done;
    void *context;
    int64_t since_ms;
};

struct spare_bind {
    struct pm *pm;
    uint32_t slot;
};

static void release_slot(struct pm *pm, uint32_t slot) {
    struct slot_entry *entry = pm_entry(pm, slot);
    if (entry)
        entry->reserved = false;
    pm_entry_trim(pm, slot);
    slots_give(&pm->slots, slot);
}

static void spare_drop(struct pm *pm, struct spare *spare) {
    dvk_guest_unbind(pm->vos->dvk, spare->endpoint, false);
    fd_close(&spare->channel_fd);
    fd_close(&spare->socket_fd);
}

void spare_return(struct pm *pm, struct spare *spare) {
    struct spare_wait *wait = list_first(&pm->spare_waits, struct spare_wait, link);
    if (!wait && pm->spare_count == PM_SPARES) {
        release_slot(pm, dvk_endpoint_slot(spare->endpoint));
        spare_drop(pm, spare);
        return;
    }
    if (!wait) {
        pm->spares[pm->spare_count++] = *spare;
        return;
    }
    list_remove(&wait->link);
    wait->done(pm, wait->context, 0, spare);
    free(wait);
}

/* Those that began to wait before that time; they are in order. */
static void fail_waits(struct pm *pm, int status, int64_t before_ms) {
    struct spare_wait *wait;
    while ((wait = list_first(&pm->spare_waits, struct spare_wait, link)) && wait->since_ms < before_ms) {
        list_remove(&wait->link);
        wait->done(pm, wait->context, status, NULL);
        free(wait);
    }
}

static void fill_again(void *context) {
    struct pm *pm = context;
    pm->spare_timer = 0;
    slots_look_again(&pm->slots);
    spare_fill(pm);
    tids_serve(pm);
}

/* Look again for slots: soon if somebody waits for one, else now and then. */
static void again_soon(struct pm *pm) {
    bool urgent = share_somebody_waits(pm);
    if (pm->spare_timer && urgent && !pm->spare_timer_urgent) {
        dvk_timer_cancel(pm->vos->dvk, pm->spare_timer);
        pm->spare_timer = 0;
    }
    if (pm->spare_timer)
        return;
    pm->spare_timer_urgent = urgent;
    dvk_timer(pm->vos->dvk, urgent ? RETRY_MS : IDLE_RETRY_MS, fill_again, pm, &pm->spare_timer);
}

static void spare_bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    struct spare_bind *bind = context;
    struct pm *pm = bind->pm;
    uint32_t slot = bind->slot;
    free(bind);
    pm->spare_pending--;
    struct slot_entry *entry = pm_entry(pm, slot);
    if (status == -DVK_ESLOTBUSY || (status == 0 && (!entry || !entry->reserved))) {
        /* Somebody else has it: leave it marked as used; a later sweep finds out. */
        if (status == 0) {
            dvk_guest_unbind(pm->vos->dvk, endpoint, false);
            fd_close(&channel_fd);
            fd_close(&socket_fd);
        }
        if (entry)
            entry->reserved = false;
        pm_entry_trim(pm, slot);
    } else if (status < 0) {
        log_warning("cannot bind slot %u: %s", slot, dvk_strerror(status));
        release_slot(pm, slot);
        again_soon(pm);
        return;
    } else {
        struct spare spare = {endpoint, channel_fd, socket_fd};
        spare_return(pm, &spare);
    }
    spare_fill(pm);
}

static unsigned waits_count(const struct pm *pm) {
    unsigned count = 0;
    for (const struct list *at = pm->spare_waits.next; at != &pm->spare_waits && count < MOST_PENDING; at = at->next)
        count++;
    return count;
}

/* Start one bind; false when there is no slot or no memory for it now. */
static bool bind_one(struct pm *pm) {
    uint32_t slot = slots_take(&pm->slots);
    if (!slot)
        return false;
    struct slot_entry *entry = pm_entry_make(pm, slot);
    struct spare_bind *bind = entry ? malloc(sizeof(*bind)) : NULL;
    if (!bind) {
        release_slot(pm, slot);
        return false;
    }
    if (entry->process || entry->husk || entry->thread_of || entry->child) { /* known after all: never give it out */
        free(bind);
        return true;
    }
    entry->reserved = true;
    entry->away_node = 0;
    *bind = (struct spare_bind){pm, slot};
    pm->spare_pending++;
    int result = dvk_guest_bind(pm->vos->dvk, pm->vos->dc, slot, false, spare_bound, bind);
    if (result < 0) {
        pm->spare_pending--;
        free(bind);
        release_slot(pm, slot);
        return false;
    }
    return true;
}

/* Who has waited since before then need not hope any more. A DC of one node owns all its slots: there is nothing to wait for. */
static int64_t wait_limit(const struct pm *pm) {
    return pm->vos->node_count == 1 ? INT64_MAX : host_time_ms() - PM_SLOT_WAIT_MS;
}

void spare_fill(struct pm *pm) {
    if (!pm->ready || pm->filling)
        return;
    pm->filling = true;
    do {
        unsigned wanted = PM_SPARES + waits_count(pm);
        while (pm->spare_count + pm->spare_pending < wanted && bind_one(pm))
            ;
    } while (peers_sweep(pm) && !slots_exhausted(&pm->slots));
    pm->filling = false;
    share_want(pm);
    if (pm->spare_count + pm->spare_pending < PM_SPARES && slots_exhausted(&pm->slots))
        again_soon(pm);
    if (pm->spare_count || pm->spare_pending || list_empty(&pm->spare_waits))
        return;
    if (slots_exhausted(&pm->slots))
        fail_waits(pm, -EAGAIN, wait_limit(pm));
    if (!list_empty(&pm->spare_waits))
        again_soon(pm);
}

void spare_take(struct pm *pm, spare_done *done, void *context) {
    if (pm->spare_count && list_empty(&pm->spare_waits)) {
        struct spare spare = pm->spares[0];
        pm->spare_count--;
        for (unsigned i = 0; i < pm->spare_count; i++) /* in order of pids */
            pm->spares[i] = pm->spares[i + 1];
        done(pm, context, 0, &spare);
    } else {
        struct spare_wait *wait = malloc(sizeof(*wait));
        if (!wait) {
            done(pm, context, -ENOMEM, NULL);
            return;
        }
        wait->done = done;
        wait->context = context;
        wait->since_ms = host_time_ms();
        list_init(&wait->link);
        list_append(&pm->spare_waits, &wait->link);
    }
    spare_fill(pm);
}

void spare_discard(struct pm *pm, uint32_t slot) {
    struct slot_entry *entry = pm_entry(pm, slot);
    if (!entry || !entry->reserved)
        return;
    entry->reserved = false; /* one that is still being bound is dropped by spare_bound */
    for (unsigned i = 0; i < pm->spare_count; i++) {
        if (dvk_endpoint_slot(pm->spares[i].endpoint) != slot)
            continue;
        spare_drop(pm, &pm->spares[i]);
        pm->spare_count--;
        for (unsigned k = i; k < pm->spare_count; k++)
            pm->spares[k] = pm->spares[k + 1];
        break;
    }
}

void spare_stop(struct pm *pm) {
    fail_waits(pm, -EAGAIN, INT64_MAX);
    while (pm->spare_count) {
        struct spare *spare = &pm->spares[--pm->spare_count];
        release_slot(pm, dvk_endpoint_slot(spare->endpoint));
        spare_drop(pm, spare);
    }
    if (pm->spare_timer)
        dvk_timer_cancel(pm->vos->dvk, pm->spare_timer);
    pm->spare_timer = 0;
}

/* ---- thread ids ---- */

#define TIDS_MOST 16u

/* True when the request, which has waited since then, was answered. */
static bool tids_give(struct pm *pm, struct process *process, struct dvk_request *req, int64_t since_ms) {
    struct dvk_message reply = {0};
    uint64_t wanted = req->msg.payload.words[0];
    uint32_t count = 0;
    while (count < (wanted < TIDS_MOST ? wanted : TIDS_MOST)) {
        uint32_t tid = slots_take(&pm->slots);
        if (!tid && !count && peers_sweep(pm) && !slots_exhausted(&pm->slots))
            continue;
        if (!tid)
            break;
        struct slot_entry *entry = pm_entry_make(pm, tid);
        if (!entry || tid_list_add(&process->tids, tid) < 0) {
            pm_entry_trim(pm, tid);
            slots_give(&pm->slots, tid);
            break;
        }
        entry->thread_of = process->pid;
        reply.payload.words[++count] = tid;
    }
    peers_sweep(pm);
    share_want(pm);
    if (!count && !(slots_exhausted(&pm->slots) && since_ms < wait_limit(pm))) {
        again_soon(pm);
        return false;
    }
    reply.payload.words[0] = count;
    reply.status = count ? 0 : -EAGAIN;
    pm_answer_message(pm, req, &reply, NULL, 0);
    return true;
}

void tids_handle(struct pm *pm, struct process *process, struct dvk_request *req) {
    if (req->msg.payload.words[0] == 0)
        pm_answer(pm, req, -EINVAL, 0, 0, 0);
    else if (!tids_give(pm, process, req, host_time_ms()) && pm_park(pm, &pm->tid_waits, req))
        again_soon(pm);
}

void tids_serve(struct pm *pm) {
    if (pm->serving)
        return;
    pm->serving = true;
    for (;;) {
        struct parked *first = list_first(&pm->tid_waits, struct parked, link);
        if (!first)
            break;
        struct process *process = process_here(pm, dvk_endpoint_slot(first->req->msg.source));
        struct dvk_request *req = first->req;
        if (!process || process->endpoint != req->msg.source)
            pm_answer(pm, req, -ESRCH, 0, 0, 0);
        else if (!tids_give(pm, process, req, first->since_ms))
            break;
        list_remove(&first->link);
        free(first);
    }
    pm->serving = false;
}

void tid_handle_free(struct pm *pm, struct process *process, struct dvk_request *req) {
    uint64_t tid = req->msg.payload.words[0];
    for (uint32_t i = 0; i < process->tids.count; i++) {
        if (process->tids.tids[i] != tid)
            continue;
        process->tids.tids[i] = process->tids.tids[--process->tids.count];
        struct slot_entry *entry = pm_entry(pm, (uint32_t)tid);
        if (entry)
            entry->thread_of = 0;
        pm_entry_trim(pm, (uint32_t)tid);
        slots_give(&pm->slots, (uint32_t)tid);
        break;
    }
    pm_answer(pm, req, 0, 0, 0, 0);
}
