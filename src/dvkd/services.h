/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and services on this node: what clients ask for (dvk/service_protocol.h) becomes changes and casts of the replica,
 * and what those do to the objects (objects.h) is told to the clients that wait for it. Pure of I/O: ports carry packets
 * and changes, so that tests play network and clients.
 *
 * Order: every answer, event and message that depends on the state passes one queue, in the order of the group. It leaves
 * it when every member of the view has written the change before it (replica.h), so that nothing is told that a later
 * view could undo. So a client sees revisions grow, and all members of a group see its views and messages in one order.
 *
 * Sessions: a client has one from its first request that enters something (a lock, a barrier, a group) on. It ends with
 * the client, and with all others of this node when this node loses quorum: then what they have entered is told as lost
 * at once, and the node takes another incarnation, so that the others drop the old one's entries in their next view.
 * Watches go on; they are told of a gap when quorum is back.
 */
#ifndef DVKD_SERVICES_H
#define DVKD_SERVICES_H

#include "dvk/broker.h"
#include "dvkd/replica.h"

#define SERVICES_UNTAKEN_HIGH 512u /* messages that a member has not taken, at which the group's senders are held up */
#define SERVICES_UNTAKEN_LOW 128u  /* ... and let go on */
#define SERVICES_CLIENT_MAX 65536u /* requests, watches and memberships of one client */

struct services;
struct service_client;

struct services_port {
    void *context;
    /* Send a packet to a client; text_len is in the packet. Never blocks. */
    void (*send)(void *context, void *user, const struct dvk_broker_packet *packet, const char *text);
    /* For snapshots: the endpoints that are bound on this node in a DC, a new array. */
    json_t *(*endpoints)(void *context, uint32_t dc);
    /* And the sums of what they have counted there, a new object. NULL: they are not known. */
    json_t *(*sum)(void *context, uint32_t dc);
};

struct services_counts {
    uint64_t gets, puts, deletes, conflicts, casts, messages, views, grants, releases, events, gaps, lost;
    uint32_t clients, watches, memberships, waits, queued, holds;
};

int services_create(struct loop *loop, uint32_t node, const struct services_port *port, struct services **out);
void services_destroy(struct services *services);
/* Before anything else is called; also takes the first incarnation. */
void services_set_replica(struct services *services, struct replica *replica);

/* A client; NULL when there is no memory. user: for port.send. */
struct service_client *services_client_add(struct services *services, void *user);
void services_client_gone(struct service_client *client);
/* An endpoint of it is unbound. */
void services_endpoint_gone(struct service_client *client, uint32_t dc, dvk_endpoint endpoint);

/*
 * A SERVICE, SERVICE_CANCEL or SERVICE_TAKEN of a client; that packet->endpoint is one of its own in packet->dc has been
 * checked. text: packet->text_len bytes. NULL, or what rule of the protocol was broken.
 */
const char *services_packet(struct service_client *client, const struct dvk_broker_packet *packet, const char *text);

/* What the replica's port is told. */
void services_changed(struct services *services, const struct config_effect *effect);
void services_cast(struct services *services, uint32_t node, const json_t *payload);
void services_confirmed(struct services *services, uint64_t epoch);
void services_installed(struct services *services, bool replaced);
void services_quorum(struct services *services, bool quorate);

/* The endpoints of a DC on all nodes of the view, as they were at one place in the order: done gets the parts, each
 * {"node", "revision", "endpoints", "sum"}, or NULL with *failure. Called exactly once, at once if there is no quorum. */
typedef void services_snapshot_done(void *context, const json_t *parts, const struct failure *failure);
void services_snapshot(struct services *services, uint32_t dc, services_snapshot_done *done, void *context);

struct services_counts services_counts(const struct services *services);

#endif
