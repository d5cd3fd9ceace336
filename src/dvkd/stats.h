/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of a broker: what its clients' endpoints count (dvk/stats_page.h), the sums of that for each DC and for the
 * node, and what it counts itself. Numbers of endpoints that are gone stay in the sums: those of a DC until it is removed,
 * those of the node while dvkd runs. Nothing here is on a message's path: pages are read when somebody asks.
 */
#ifndef DVKD_STATS_H
#define DVKD_STATS_H

#include "common/json.h"
#include "common/table.h"

#include <dvk/stats.h>

struct broker;
struct client;
struct channel;
struct endpoint;
struct dvk_broker_packet;

struct broker_stats {
    struct table dcs; /* dc + 1 -> struct dc_past */
    uint64_t binds, connects, packets_in, packets_out;
    struct dvk_stats past; /* of endpoints that are gone */
};

#define STATS_ALL_DCS UINT32_MAX

/* Sums over the endpoints of one DC here, or STATS_ALL_DCS. */
struct stats_sum {
    uint64_t endpoints, channels, channel_bytes, binds, connects;
    struct dvk_stats_now now;
    struct dvk_stats total;
};
struct stats_sum broker_stats_sum(const struct broker *broker, uint32_t dc);
/* The same of each DC: sums[DVK_MAX_DC + 1], by id. */
void broker_stats_each(const struct broker *broker, struct stats_sum *sums);

/* What an endpoint has counted; all 0 if it does not count. */
struct dvk_stats broker_stats_endpoint(const struct endpoint *endpoint);
/* What is under way for it, of what it has counted; untaken is left 0. */
struct dvk_stats_now broker_stats_now(const struct dvk_stats *stats);
/* Messages in the channels of an endpoint's process, or a guest's own, that it has not taken. */
uint64_t broker_stats_untaken(const struct endpoint *endpoint);

/* Add the numbers as members, named as in dvk/stats.h ("errors" is an object); all: also those that are 0. */
void stats_put_json(json_t *json, const struct dvk_stats *total, const struct dvk_stats_now *now, bool all);
json_t *stats_sum_json(const struct stats_sum *sum);
/* The endpoints of a DC as broker_endpoint_json shows them, with what they have counted (but what is 0), since when they are
 * bound, and for whom their process waits. */
json_t *broker_stats_endpoints(const struct broker *broker, uint32_t dc);

/* A page for the client with its BIND, if it wants one: its descriptor (borrowed), or -1. */
int broker_stats_page(struct client *client, const struct dvk_broker_packet *bind);
/* An endpoint was bound, or is being unbound; a channel was made; a DC is removed; the broker ends. */
void broker_stats_changed(struct broker *broker, const struct endpoint *endpoint, bool bound);
void broker_stats_connect(struct broker *broker, uint32_t dc);
void broker_stats_dc_gone(struct broker *broker, uint32_t dc);
void broker_stats_free(struct broker *broker);
/* DVK_BROKER_STATS_PLACE, DVK_BROKER_STATS */
void broker_stats_place(struct client *client, const struct dvk_broker_packet *packet);
void broker_stats(struct client *client, const struct dvk_broker_packet *packet);

#endif
