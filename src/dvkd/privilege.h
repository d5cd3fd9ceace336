/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Privileges of the endpoints of this node (dvk/privilege.h): what each has, who may change it, what dvkd itself refuses,
 * and telling those who judge messages (src/dvk/privilege.c). Single threaded; never blocks.
 *
 * What a process has in a DC does not grow when it binds or unbinds: see privileges_bind.
 */
#ifndef DVKD_PRIVILEGE_H
#define DVKD_PRIVILEGE_H

#include "common/json.h"
#include "common/list.h"
#include "common/loop.h"
#include "dvk/broker.h"

#include <dvk/privilege.h>

struct broker;
struct client;
struct context;
struct endpoint;

/* Of the broker. */
struct privileges {
    uint32_t *epoch; /* in a page of its own: counts changes; clients can read it. NULL: there is no page */
    int epoch_fd;    /* for clients, or -1 */
    struct list waits; /* struct privilege_wait: changes that are not answered yet */
};

void privileges_init(struct broker *broker);
void privileges_destroy(struct broker *broker);

/* ---- for the registry ---- */

/* An endpoint of a context is being bound, or has moved to it; it is in no list yet. Gives it its privileges. 0 or -ENOMEM. */
int privileges_bind(const struct context *context, struct endpoint *endpoint);
/* May it bind another endpoint, or be a spare of one? */
bool privileges_may_bind(const struct context *context);
/* It is unbound and in no list any more. */
void privileges_unbind(struct context *context, struct endpoint *endpoint);
void privileges_context_gone(struct context *context);

/* ---- for the broker ---- */

/* What to tell of an endpoint (NULL: none) with a packet: sets its text_len, returns its text. */
const char *privileges_tell(const struct endpoint *endpoint, struct dvk_broker_packet *packet);
/* A client was answered that it has bound an endpoint: tell it what that may do. */
void privileges_bound(struct client *client, uint32_t dc, dvk_endpoint endpoint);
/* May one of the client's endpoints (NULL: a proxy's, for another node) have a channel to `to`? The first before it is known where
 * that is; the second once it is an endpoint of this node. 0 or -DVK_ENOTALLOWED, which is counted. */
int privileges_connect(struct endpoint *from, dvk_endpoint to);
int privileges_connected(const struct endpoint *from, struct endpoint *to);
/* May the endpoint, which is the client's, do what dvkd serves? Any of enum dvk_may in `calls`. Else it is counted. */
bool privileges_may(struct client *client, uint32_t dc, dvk_endpoint endpoint, uint32_t calls);

void broker_get_privileges(struct client *client, const struct dvk_broker_packet *packet);
void broker_set_privileges(struct client *client, const struct dvk_broker_packet *packet, const char *text);
void broker_refused(struct client *client, const struct dvk_broker_packet *packet);

/* All that was queued for a client is in its socket now. */
void privileges_flushed(struct client *client);
void privileges_client_gone(struct client *client);

/* Put "privileges" (text), unless it has all, and "refused" (messages and calls, at least), unless that is 0, into what is listed of an
 * endpoint. */
void privileges_list(const struct endpoint *endpoint, json_t *item);

#endif
