/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the next program runs.
 *
 *   local      where it is
 *   node=NAME  there
 *   spread     the DC's live nodes in turn, beginning after the own; each pm counts for itself, and all counts together are even
 *   balance    the least loaded. Loads come with every message between pms; what was placed since counts in
 *
 * PM_NODES   reply: w0 this node's id; data: names of the live nodes, sorted by id
 */
#include "vos/pm/host.h"
#include "vos/pm/pm.h"
#include <string.h>

#define LOAD_SAMPLE_MS 200
#define LOAD_SAMPLE_MOST 256u

bool place_parse(const struct vos *vos, const char *text, struct place_policy *out) {
    if (strcmp(text, "local") == 0) {
        *out = (struct place_policy){PLACE_LOCAL, 0};
        return true;
    }
    if (strcmp(text, "spread") == 0) {
        *out = (struct place_policy){PLACE_SPREAD, 0};
        return true;
    }
    if (strcmp(text, "balance") == 0) {
        *out = (struct place_policy){PLACE_BALANCE, 0};
        return true;
    }
    if (strncmp(text, "node=", 5) != 0)
        return false;
    for (uint32_t i = 0; i < vos->node_count; i++) {
        if (strcmp(vos->nodes[i].name, text + 5) == 0) {
            *out = (struct place_policy){PLACE_NODE, vos->nodes[i].id};
            return true;
        }
    }
    return false;
}

uint32_t place_load(struct pm *pm) {
    int64_t now = host_time_ms();
    if (pm->load_sampled_ms && now - pm->load_sampled_ms < LOAD_SAMPLE_MS)
        return pm->own_load;
    pm->load_sampled_ms = now;
    uint32_t runnable = 0, looked = 0;
    if (strcmp(pm->vos->place, "balance") != 0) /* nobody asks: save the reading */
        return pm->own_load = pm->process_count * 1000 / (pm->vos->cpu_count ? pm->vos->cpu_count : 1);
    struct process *process;
    list_for_each(process, &pm->processes, link) {
        struct host_process host;
        if (process->state == PROCESS_ZOMBIE || looked++ >= LOAD_SAMPLE_MOST)
            continue;
        if (host_read(pm->vos, process->pid, &host) == 0 && (host.state == 'R' || host.state == 'D'))
            runnable++;
    }
    return pm->own_load = runnable * 1000 / (pm->vos->cpu_count ? pm->vos->cpu_count : 1);
}

static uint32_t choose_spread(struct pm *pm) {
    do
        pm->spread_next = (pm->spread_next + 1) % pm->vos->node_count;
    while (pm->spread_next != pm->index && !pm->vos->nodes[pm->spread_next].up);
    return pm->vos->nodes[pm->spread_next].id;
}

static uint32_t choose_balance(struct pm *pm) {
    pm->peers[pm->index].load = place_load(pm);
    uint32_t best = pm->index;
    for (uint32_t i = 0; i < pm->vos->node_count; i++)
        if (pm->vos->nodes[i].up && pm->peers[i].load < pm->peers[best].load)
            best = i;
    pm->peers[best].load += 1000 / (pm->vos->cpu_count ? pm->vos->cpu_count : 1);
    if (best == pm->index) {
        pm->own_load = pm->peers[best].load; /* until the next sample */
    }
    return pm->vos->nodes[best].id;
}

uint32_t place_choose(struct pm *pm, const struct place_policy *policy) {
    switch (policy->kind) {
    case PLACE_SPREAD:
        return choose_spread(pm);
    case PLACE_BALANCE:
        return choose_balance(pm);
    case PLACE_NODE:
        if (peer_is_up(pm, policy->node))
            return policy->node;
        break;
    case PLACE_LOCAL:
        break;
    }
    return pm->vos->node;
}

void place_handle_nodes(struct pm *pm, struct process *process, struct dvk_request *req) {
    struct dvk_message reply = {0};
    reply.payload.words[0] = pm->vos->node;
    char *to = req->reply_data;
    for (uint32_t i = 0; i < pm->vos->node_count; i++) {
        const struct vos_node *node = &pm->vos->nodes[i];
        size_t len = strnlen(node->name, sizeof(node->name) - 1);
        if ((!node->up && i != pm->index) || reply.data_len + len + 1 > req->reply_cap)
            continue;
        memcpy(to + reply.data_len, node->name, len);
        to[reply.data_len + len] = 0;
        reply.data_len += (uint32_t)len + 1;
    }
    pm_answer_message(pm, req, &reply, NULL, 0);
}
