/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by broker.c (what packets mean), client.c (how they travel), connect.c (channels) and control.c. */
#ifndef DVKD_BROKER_PRIVATE_H
#define DVKD_BROKER_PRIVATE_H

#include "dvkd/broker.h"

#include <dvk/message.h>

struct client {
    struct list link; /* in broker.clients */
    struct broker *broker;
    struct context *context;
    int fd;
    pid_t pid;
    struct loop_watch *watch;
    bool greeted;             /* HELLO came */
    bool closing;             /* client_close is under way or wanted */
    struct loop_timer *close_timer;
    struct list output;       /* struct output_packet */
    unsigned output_count;
    size_t output_bytes;
    struct list controls;     /* struct control */
    unsigned waiting_connects;
    bool watches_slots;
    uint64_t slots_told; /* version of the table that it was told, + 1 */
    struct service_client *service; /* services_glue.c's */
    struct list watches;      /* struct watch: see watch.c */
    unsigned watch_count;
    int stats_fd; /* its page of statistics; -1: it has none */
    pid_t sender; /* of the packet that is being handled, as the kernel says; 0: not known */
    struct client_grants grants;
    struct list unflushed; /* see privilege.c */
    bool privileges_queued; /* it was told of a change, and that waits in output */
};

struct up_node {
    struct list link;
    uint32_t node;
    int64_t since_ms;
    char address[64];
};

/* A CONNECT that cannot be answered yet. */
struct connect {
    struct list link; /* in broker.waiting */
    struct client *client;
    struct dvk_broker_packet packet;
    bool for_proxy;   /* waits for the proxy, not for a cell */
    bool for_copier;
    bool for_place; /* for an endpoint that moves */
    struct loop_timer *timer;
};

/* client.c: send one packet. text may be NULL (text_len is taken from the packet). fds stay the caller's.
 * Never blocks and never closes the client at once: on failure the client is closed from the loop. */
void client_send(struct client *client, const struct dvk_broker_packet *packet, const char *text, const int *fds,
                 unsigned fd_count);
/* An answer to a request: its id and type, with a status. */
struct dvk_broker_packet client_answer(const struct dvk_broker_packet *request, int status);
/* The client broke the protocol: say why in the log, close it soon. */
void client_violation(struct client *client, const char *what);

/* broker.c: one packet, checked for length, magic and version. text: text_len bytes and a NUL. fds: those it does not
 * take (by setting them to -1) are closed by the caller. */
void broker_packet(struct client *client, const struct dvk_broker_packet *packet, const char *text, int *fds,
                   unsigned fd_count);

/* broker_nodes.c */
void broker_nodes(struct client *client, const struct dvk_broker_packet *packet);

/* connect.c */
void broker_connect(struct client *client, const struct dvk_broker_packet *packet);
void broker_guest_bind(struct client *client, const struct dvk_broker_packet *packet);
void broker_guest_unbind(struct client *client, const struct dvk_broker_packet *packet);
/* Mark a channel dead, tell the parties that are left (not `except`), remove it. */
void broker_channel_kill(struct broker *broker, struct channel *channel, const struct context *except, int status);
void connect_drop(struct connect *connect);

/* broker_dc.c */
void broker_dc_find(struct client *client, const struct dvk_broker_packet *packet, const char *text);
void broker_dc_nodes(struct client *client, const struct dvk_broker_packet *packet);
/* The node where an endpoint of the DC is bound, if it is. 0, -DVK_ENODC or -DVK_ENOTBOUND. */
int broker_home(struct broker *broker, uint32_t dc, dvk_endpoint endpoint, uint32_t *node);

/* watch.c */
void broker_watch(struct client *client, const struct dvk_broker_packet *packet);
void broker_unwatch(struct client *client, const struct dvk_broker_packet *packet);
/* registry.changed; context: the broker */
void broker_watch_changed(void *context, const struct endpoint *endpoint, bool bound);
unsigned broker_watch_count(const struct broker *broker, const struct endpoint *endpoint); /* that wait for its end */
void broker_watches_drop(struct client *client);                               /* without an answer: it is gone */
void broker_watches_end(struct broker *broker, uint32_t dc, int status); /* the DC is no more */

/* broker_slots.c */
void broker_slots_packet(struct client *client, const struct dvk_broker_packet *packet, const char *text);
/* No slot is free now: have the BIND wait. False: it would be for nothing. */
bool broker_bind_wait(struct client *client, const struct dvk_broker_packet *packet);
void broker_slots_client_gone(struct client *client);
/* broker.c: may we bind in that set? A free user slot of such a set, 0: there is none. */
bool broker_set_is_ours(const struct broker *broker, uint32_t dc, uint32_t set);
uint32_t broker_free_slot(struct broker *broker, uint32_t dc);
/* broker.c: the status of a BIND tried now; *answer is filled in, for broker_bind_tell. */
int broker_bind_now(struct client *client, const struct dvk_broker_packet *packet, struct dvk_broker_packet *answer);
void broker_bind_tell(struct client *client, const struct dvk_broker_packet *packet, const struct dvk_broker_packet *answer);

/* broker_places.c */
bool broker_place(const struct broker *broker, uint32_t dc, dvk_endpoint endpoint, struct broker_place *out);
bool broker_place_reached(const struct broker *broker, uint32_t revision);
/* An endpoint that is being unbound here: is it, or will it be, bound elsewhere? */
bool broker_place_lives_on(const struct broker *broker, const struct endpoint *endpoint);
/* Does an endpoint that is not where its slot says have the slot? */
bool broker_slot_is_taken(const struct broker *broker, uint32_t dc, uint32_t slot);
void broker_place_packet(struct client *client, const struct dvk_broker_packet *packet);

/* broker.c: for people who debug */
json_t *broker_endpoint_json(const struct broker *broker, const struct client *client, const struct endpoint *endpoint);

/* waits.c */
/* The place that the context at `place` waits for in a DC; 0: for none, or it says nonsense. */
uint32_t broker_waits_of(const struct broker *broker, uint32_t dc, uint32_t place);
void broker_waits(struct client *client, const struct dvk_broker_packet *packet);
void broker_waits_drop(struct broker *broker, uint32_t dc);
void broker_waits_free(struct broker *broker);

/* control.c */
void broker_control_reply(struct client *client, const struct dvk_broker_packet *packet, const char *text);
void broker_control_event(struct client *client, const char *text, size_t len);
void broker_controls_end(struct client *client);

#endif
