/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node's share of the DC's slots: dvkd tells who owns which, asks what we can spare for a node that is short, and gets us
 * more. Who needs a slot meanwhile waits, at most PM_SLOT_WAIT_MS.
 */
#include "common/log.h"
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <stdlib.h>
#include <string.h>

#define MOVED_BATCH 4096u
#define AGAIN_MS 200       /* between two asks in vain, while somebody waits */
#define IDLE_AGAIN_MS 2000 /* while nobody does */

bool share_somebody_waits(const struct pm *pm) {
    return pm->spare_waits.next != &pm->spare_waits || pm->tid_waits.next != &pm->tid_waits;
}

void share_want(struct pm *pm) {
    uint32_t want = slots_wanted(&pm->slots);
    int64_t pause_ms = share_somebody_waits(pm) ? AGAIN_MS : IDLE_AGAIN_MS;
    if (!want || pm->taking || pm->vos->node_count == 1 || !pm->ready ||
        (pm->take_failed_ms && host_time_ms() < pm->take_failed_ms + pause_ms))
        return;
    pm->taking = dvk_slots_take(pm->vos->dvk, pm->vos->dc, want, pm->slots.set_count) == 0;
}

/* Processes here whose home is `node` by now and was another: it is told. before: who owned each set until now. */
static void tell_home(struct pm *pm, uint32_t node, const uint16_t *before, struct pm_moved_entry *list) {
    struct pm_s_moved moved = {.kind = PM_MOVED_HOME, .node = pm->vos->node};
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        if (before[process->pid / DVK_SLOT_SET] == slots_owner(&pm->slots, process->pid) || peer_home(pm, process->pid) != node)
            continue;
        list[moved.count++] = (struct pm_moved_entry){process->pid, process->moves};
        if (moved.count < MOVED_BATCH)
            continue;
        peer_call(pm, node, PM_S_MOVED, &moved, sizeof(moved), list, moved.count * sizeof(*list), NULL, NULL);
        moved.count = 0;
    }
    if (moved.count)
        peer_call(pm, node, PM_S_MOVED, &moved, sizeof(moved), list, moved.count * sizeof(*list), NULL, NULL);
}

static void tell_homes(struct pm *pm, const uint16_t *before) {
    struct pm_moved_entry *list = malloc(MOVED_BATCH * sizeof(*list));
    if (!list) {
        log_error("out of memory; processes whose numbers have another owner now cannot be found from other nodes");
        return;
    }
    for (uint32_t i = 0; i < pm->vos->node_count; i++)
        if (i != pm->index && peer_is_active(pm, pm->vos->nodes[i].id))
            tell_home(pm, pm->vos->nodes[i].id, before, list);
    free(list);
}

/* Numbers of sets that came to us may be in use here already: such a set is not idle. */
static void mark_used(struct pm *pm) {
    for (size_t i = 0; i < pm->entries.capacity; i++) {
        const struct slot_entry *entry = pm->entries.entries[i].value;
        if (entry && (entry->process || entry->child || entry->husk || entry->thread_of || entry->reserved))
            slots_mark(&pm->slots, (uint32_t)pm->entries.entries[i].key);
    }
}

static void table_came(struct pm *pm, const struct dvk_slots_event *event) {
    bool first = pm->slots.version == 0;
    size_t size = pm->slots.set_count * sizeof(*pm->slots.owner);
    uint16_t *before = malloc(size);
    if (before)
        memcpy(before, pm->slots.owner, size);
    slots_table(&pm->slots, event->version ? event->version : 1, event->sets, event->runs, event->run_count);
    mark_used(pm);
    if (first)
        peers_start(pm);
    else if (before)
        tell_homes(pm, before);
    else
        log_error("out of memory; processes whose numbers have another owner now cannot be found from other nodes");
    free(before);
}

static void wanted(struct pm *pm, const struct dvk_slots_event *event) {
    uint16_t sets[SLOTS_GIVE_MAX] = {0};
    uint32_t count = share_somebody_waits(pm) ? 0 : slots_spare(&pm->slots, event->want, event->below, sets);
    if (dvk_slots_give(pm->vos->dvk, pm->vos->dc, sets, count) < 0 && count)
        slots_settled(&pm->slots);
}

void share_event(void *context, const struct dvk_slots_event *event) {
    struct pm *pm = context;
    switch (event->type) {
    case DVK_SLOTS_TABLE:
        table_came(pm, event);
        break;
    case DVK_SLOTS_WANTED:
        wanted(pm, event);
        return;
    case DVK_SLOTS_SETTLED:
        slots_settled(&pm->slots);
        mark_used(pm);
        break;
    case DVK_SLOTS_ENDED:
        pm->taking = false;
        pm->take_failed_ms = event->status < 0 ? host_time_ms() : 0;
        break;
    }
    spare_fill(pm);
    tids_serve(pm);
}
