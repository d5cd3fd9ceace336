/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DC of simulated nodes for tests of pm: several pms in one process, over a fake libdvk whose messages lie in queues, a
 * fake host with processes, a fake fs and fake zygotes. Queues are first in, first out each, and a seeded random scheduler chooses which
 * one goes on next, so that everything that may overtake something else does so in some run. Time is simulated.
 */
#ifndef WORLD_H
#define WORLD_H

#include "vos/pm/pm.h"

#define WORLD_NODES 3

struct world_hooks {
    /* A guest's request was answered. data is valid during the call. */
    void (*answered)(dvk_endpoint endpoint, int node, const struct dvk_message *reply, const void *data);
    /* The zygote of a node has cloned pid: a new host process of that guest exists. */
    void (*cloned)(uint32_t pid, int node, dvk_endpoint endpoint);
    /* A host process has got a signal (not 0). */
    void (*signalled)(uint32_t pid, int node, int sig);
    /* Text that pm sent to dvkd. */
    void (*told)(int node, const char *text);
};

void world_start(uint32_t seed, uint32_t slot_limit, const char *place, const struct world_hooks *hooks);
/* Frees all; fails the test when something of the processes is left over anywhere. */
void world_stop(void);
/* Frees all, whatever is left over. What belongs to requests that wait in pm's own structures may stay behind. */
void world_drop(void);
uint32_t world_random(uint32_t below);
struct pm *world_pm(int node);
bool world_alive(int node);
uint32_t world_node_id(int node);

/* Run one queued event; false when there is none (timers are then run ahead). */
bool world_step(void);
/* Until nothing happens any more; fails after `most` steps. */
void world_settle(unsigned most);

/* A guest's request to its pm, or one of another pm or server (a system slot). Kept until answered. */
void world_request(int node, dvk_endpoint endpoint, uint32_t type, const uint64_t *words, unsigned word_count, const void *data, size_t len);
/* Cancel the guest's pending request, if it still is. */
void world_cancel(int node, dvk_endpoint endpoint);
/* A host process of the guest: made by fork's clone. */
void world_host_add(int node, uint32_t pid);
/* It ends (init will report) or stops or continues. */
void world_host_state(int node, uint32_t pid, int wait_status);
bool world_host_exists(int node, uint32_t pid);
/* The endpoint that is bound for pid on a node, DVK_NONE: none. */
dvk_endpoint world_bound(int node, uint32_t pid);
/* A control request of dvkd. */
void world_control(int node, uint64_t id, const char *text, unsigned fd_count);
/* Last answer to a control request. */
const char *world_control_answer(void);

/* The node loses power; the others learn of it in their own time. */
void world_kill_node(int node);
/* It comes back, with a fresh pm. Only after all have learned of its loss. */
void world_revive_node(int node);

/* How often one node has given slots to another since world_start. */
unsigned world_donations(void);

#endif
