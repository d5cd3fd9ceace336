/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups, replicas and moves of endpoints on this node: between its clients (dvk/broker.h), the configuration (place_table.h) and
 * the registry.
 *
 * What is done here follows from the table as it stands after each change: an endpoint of ours is frozen while its entry is
 * moving, and unbound when its entry names another primary; a spare of ours that the entry names as primary is bound, and told so,
 * once every member of the view has written that (so that nothing undoes it); an instance of ours that is no more is taken out
 * by an ordered change.
 *
 * Asking for a spare: the dvkd of the endpoint's node proposes the entry, as it alone knows who has it bound; others ask it by a
 * cast {"places": "ask"}, and are told {"places": "no"} or see the entry. A question is asked anew in each view until its time is
 * over.
 */
#ifndef DVKD_PLACES_H
#define DVKD_PLACES_H

#include "dvkd/broker.h"
#include "dvkd/config.h"

struct dvkd;
struct places;

/* Once there is a replica. 0 or -ENOMEM. */
int places_start(struct dvkd *dvkd);

/* For the broker's host; context is the dvkd. */
bool places_find(void *context, uint32_t dc, dvk_endpoint endpoint, struct broker_place *out);
bool places_reached(void *context, uint32_t revision);
void places_packet(void *context, struct client *client, const struct dvk_broker_packet *packet);
void places_unbound(void *context, uint32_t dc, dvk_endpoint endpoint);
void places_client_gone(struct places *places, struct client *client);

/* For the replica's port. places_cast: true if it was about places. */
bool places_cast(struct places *places, uint32_t from, const json_t *payload);
void places_changed(struct places *places, const struct config_effect *effect);
void places_quorum(struct places *places, bool quorate);
void places_confirmed(struct places *places, uint64_t epoch);

#endif
