/* SPDX-License-Identifier: Apache-2.0 */
/* What every example begins with: open a context, find the container, bind. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <dvk/dvk.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Services 1..6 are the VOS's own; a program takes numbers from 32 on, and says so in its documentation. */
enum example_service { SERVICE_GREET = 32, SERVICE_FILES, SERVICE_KV, SERVICE_WORK };

static inline void die(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, dvk_strerror(error));
    exit(1);
}

/* Errors that say "nobody there (any more)": another place may do, or the same one later. */
static inline int is_gone(int error) {
    return error == -DVK_ENOTBOUND || error == -DVK_EDEADDST || error == -DVK_ENODEUNREACH;
}

/* Removed, or this node has lost quorum: the others take us for dead, so what we say does not count any more. */
static inline void end_with_dc(void *context, const struct dvk_event *event) {
    const uint32_t *dc = (const uint32_t *)context;
    if (event->type == DVK_EVENT_DC_GONE && event->dc == *dc)
        die("the container is gone from this node", -DVK_ENODC);
}

/* Connect to this node's dvkd ($DVS_SOCKET, else /run/dvs/dvkd.sock) and find the container. *dc must stay. */
static inline struct dvk *open_dc(const char *name, uint32_t *dc) {
    struct dvk *dvk;
    int error = dvk_open(NULL, &dvk);
    if (error < 0)
        die("dvkd", error);
    error = dvk_find_dc(dvk, name, dc);
    if (error < 0)
        die(name, error);
    dvk_on_event(dvk, end_with_dc, dc);
    return dvk;
}

/* A server is known by its node and service number; a client takes any free slot: service 0. */
static inline dvk_endpoint bind_service(struct dvk *dvk, uint32_t dc, uint32_t service) {
    dvk_endpoint self;
    uint32_t slot = service ? dvk_system_slot(dvk_node(dvk), service) : DVK_SLOT_ANY;
    int error = dvk_bind(dvk, dc, slot, &self);
    if (error < 0)
        die("bind", error);
    return self;
}

/* What a server prints once it can be found, for those who wait for it. */
static inline void say_ready(struct dvk *dvk) {
    printf("ready on node %u\n", dvk_node(dvk));
    fflush(stdout);
}

#endif
