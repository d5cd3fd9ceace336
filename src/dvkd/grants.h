/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grants: which memory of this node's processes may be copied by whom (dvk/vcopy.h). dvkd keeps them and tells the
 * copier, which makes the copies; dvkd is on no copy's path.
 *
 * Whose memory a grant speaks of is made sure of once, when it is made: the kernel says which process sent the packet
 * (SCM_CREDENTIALS), the packet carries a pidfd of that process, and /proc/PID/mem is opened between two looks at whether the
 * pidfd still stands for that number. That descriptor stands for that process's memory for ever, whatever becomes of
 * the number; it goes to the copier, which needs no other right.
 */
#ifndef DVKD_GRANTS_H
#define DVKD_GRANTS_H

#include "common/list.h"
#include "common/table.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

struct broker;
struct client;
struct dvk_broker_packet;

#define GRANTS_MAX 65536u /* of one client */
#define ARENAS_MAX 1024u

/* In struct broker. */
struct grants {
    struct table grants;   /* number -> struct grant */
    struct table memories; /* number -> struct memory: arenas and processes */
    uint64_t last;         /* number given out, without node and mark */
    uint64_t last_told;    /* id of a GRANT_GONE */
    struct list waits;     /* struct revoke_wait: REVOKEs that the copier has not obeyed yet */
};

/* In struct client. */
struct client_grants {
    struct list memories; /* struct memory.of_client */
    unsigned grant_count, arena_count;
};

void grants_init(struct broker *broker, uint32_t first_generation);
void grants_destroy(struct broker *broker);
void grants_client_init(struct client *client);

/* One packet each, answered. text: packet->text_len bytes. */
void broker_grant(struct client *client, const struct dvk_broker_packet *packet, const char *text, int *fds,
                  unsigned fd_count);
void broker_revoke(struct client *client, const struct dvk_broker_packet *packet);
void broker_arena(struct client *client, const struct dvk_broker_packet *packet, int *fds, unsigned fd_count);
/* From the copier. */
void broker_grant_done(struct client *client, const struct dvk_broker_packet *packet);

/* A client is going: its grants go, and what it waits for. While its endpoints are still bound. */
void grants_client_gone(struct client *client);
/* An endpoint of it is being unbound. */
void grants_endpoint_gone(struct client *client, uint32_t dc, dvk_endpoint endpoint);
/* The copier has said HELLO: tell it all. */
void grants_copier_ready(struct broker *broker);
void grants_copier_gone(struct broker *broker);

#endif
