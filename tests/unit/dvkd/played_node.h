/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of a broker with real clients: node 3, whose broker runs in a thread of its own, with DCs 5 and 6 on this node alone.
 * Who touches `broker` or what its host's functions use holds `lock`.
 */
#ifndef TEST_PLAYED_NODE_H
#define TEST_PLAYED_NODE_H

#include "check.h"

#include "dvkd/broker.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define NODE 3u
#define DC 5u

static struct loop *loop;
static struct broker broker;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t node_thread;
static bool node_stops;

static int host_dc_nodes(void *context, uint32_t dc, const uint32_t **list, uint32_t *count) {
    static const uint32_t nodes[] = {NODE};
    *list = nodes;
    *count = 1;
    return dc == DC || dc == DC + 1 ? 0 : -DVK_ENODC;
}
static bool host_node_is_up(void *context, uint32_t node) { return node == NODE; }
static uint32_t host_slot_owner(void *context, uint32_t dc, uint32_t slot) { return NODE; }
static bool host_slots_is_ours(void *context, uint32_t dc, uint32_t set) { return true; }
static bool host_slots_take(void *context, uint32_t dc, uint32_t want, uint32_t below) { return false; }
static int host_cell_start(void *context, uint32_t dc) { return -DVK_ENOTBOUND; }
static void host_cell_event(void *context, uint32_t dc, const json_t *event) {}

/* All of the host that broker.h asks for; a test changes what it has its own of. */
static struct broker_host node_host(void) {
    return (struct broker_host){.dc_nodes = host_dc_nodes,
                                .node_is_up = host_node_is_up,
                                .cell_start = host_cell_start,
                                .cell_event = host_cell_event,
                                .slot_owner = host_slot_owner,
                                .slots_is_ours = host_slots_is_ours,
                                .slots_take = host_slots_take};
}

static void *node_main(void *context) {
    for (;;) {
        pthread_mutex_lock(&lock);
        bool stop = node_stops;
        if (!stop)
            assert_int_equal(loop_step(loop, 0), 0);
        pthread_mutex_unlock(&lock);
        if (stop)
            return NULL;
        usleep(100); /* let others have the lock */
    }
}

/* 0, or not. */
static int node_start(const struct broker_host *host) {
    node_stops = false;
    if (loop_create(&loop) < 0)
        return -1;
    broker_init(&broker, loop, NODE, 1000, host);
    return pthread_create(&node_thread, NULL, node_main, NULL);
}

static void node_stop(void) {
    pthread_mutex_lock(&lock);
    node_stops = true;
    pthread_mutex_unlock(&lock);
    pthread_join(node_thread, NULL);
    broker_destroy(&broker);
    loop_destroy(loop);
}

/* A new client's end of its socket. dc: a cell's, else 0. out: the broker's side of it; may be NULL. */
static int client_socket(enum context_role role, uint32_t dc, struct client **out) {
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    pthread_mutex_lock(&lock);
    assert_int_equal(broker_adopt(&broker, sockets[1], role, dc, out), 0);
    pthread_mutex_unlock(&lock);
    return sockets[0];
}

#endif
