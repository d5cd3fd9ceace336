/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker: dvkd's end of the protocol in dvk/broker.h. It binds slots, makes channels, tells of life and death,
 * and carries control requests to cells. It knows nothing of the cluster or of cells beyond what its host tells it.
 *
 * Clients never make it wait: packets that a client does not take are queued, and a client that lets more than
 * CLIENT_QUEUE_MAX of them pile up is dropped.
 */
#ifndef DVKD_BROKER_H
#define DVKD_BROKER_H

#include "common/json.h"
#include "common/loop.h"
#include "dvk/broker.h"
#include "dvkd/grants.h"
#include "dvkd/privilege.h"
#include "dvkd/registry.h"
#include "dvkd/slot_table.h"
#include "dvkd/stats.h"

#include <sys/types.h>

struct client;

/* Where an endpoint is that has backups or has moved: see place_table.h. */
struct broker_place {
    uint32_t node;     /* of its primary */
    uint64_t context;  /* its context there */
    uint32_t revision; /* of its last move, low 32 bits; 0: it never moved */
    uint32_t spares;
    bool replaceable; /* a replica of it is on a node that is up */
};

#define CLIENT_QUEUE_MAX 8192u
#define CLIENT_QUEUE_BYTES_MAX (16u << 20)
#define CLIENT_PENDING_CONNECTS_MAX 4096u

/* What the broker asks of the rest of dvkd. */
struct broker_host {
    void *context;
    /* The DC's nodes, sorted by id; valid until the next change. 0, -DVK_ENODC when nothing may run in it, or
     * -DVK_ENOQUORUM when nothing may run in it here now. DC 0 is never asked for. */
    int (*dc_nodes)(void *context, uint32_t dc, const uint32_t **nodes, uint32_t *count);
    bool (*node_is_up)(void *context, uint32_t node);
    /* Something addresses a VOS service of this node that is not bound. 0: a cell is being started (or is starting);
     * broker_retry(dc) follows, later. Else a negative error. */
    int (*cell_start)(void *context, uint32_t dc);
    /* User slots (slots.h): which node owns a slot, 0: none; is a set ours to bind in; ask for more (false: there is no use in that);
     * what a cell can spare; a cell wants to be told. Never asked for DC 0. */
    uint32_t (*slot_owner)(void *context, uint32_t dc, uint32_t slot);
    bool (*slots_is_ours)(void *context, uint32_t dc, uint32_t set);
    bool (*slots_take)(void *context, uint32_t dc, uint32_t want, uint32_t below);
    void (*slots_offered)(void *context, uint32_t dc, const uint16_t *sets, uint32_t count);
    void (*slots_watched)(void *context, uint32_t dc);
    /* Places (places.h), all of which may be NULL: the entry of an endpoint (generation 0: of who has its slot); is what we know as
     * new as that revision; a client's request; an endpoint was unbound. */
    bool (*place_find)(void *context, uint32_t dc, dvk_endpoint endpoint, struct broker_place *out);
    bool (*place_reached)(void *context, uint32_t revision);
    void (*place_packet)(void *context, struct client *client, const struct dvk_broker_packet *packet);
    void (*place_unbound)(void *context, uint32_t dc, dvk_endpoint endpoint);
    /* An unasked JSON text of a cell's servers. */
    void (*cell_event)(void *context, uint32_t dc, const json_t *event);
    /* Something for groups and services (dvk/service_protocol.h). NULL: there are none. */
    void (*service)(void *context, struct client *client, const struct dvk_broker_packet *packet, const char *text);
    /* A client has unbound an endpoint itself, or lost it with its DC. May be NULL. */
    void (*endpoint_gone)(void *context, struct client *client, uint32_t dc, dvk_endpoint endpoint);
    /* Somebody wants something copied and there is no copier. 0: it is being started; broker_copier_change follows, later.
     * Else a negative error. NULL: there never is one. */
    int (*copier_start)(void *context);
    /* A client has gone (its endpoints are unbound already). */
    void (*client_gone)(void *context, struct client *client);
    /* A cell's servers or the proxy gave the memfd of its flight recorder (taken over). NULL: it is not kept. */
    void (*client_record)(void *context, struct client *client, int fd);
    /* The DC with that name or id. 0 or -DVK_ENODC. */
    int (*dc_find)(void *context, const char *name, uint32_t *dc);
    /* What a live DC is, but for its endpoints; nodes has room for DVK_MAX_NODE. 0 or -DVK_ENODC. NULL: there are none. */
    int (*dc_info)(void *context, uint32_t dc, struct dvk_dc_info *info, struct dvk_dc_node *nodes);
    /* Revision of the configuration. May be NULL. */
    uint64_t (*changes)(void *context);
    /* The proxy says something unasked. May be NULL. */
    void (*proxy_event)(void *context, const json_t *event);
};

struct broker {
    struct loop *loop;
    struct registry registry;
    uint32_t node;
    int64_t since_ms; /* that we run */
    struct broker_host host;
    struct list clients;   /* struct client.link */
    struct client *proxy;  /* the proxy that has said HELLO; NULL: none */
    struct client *copier; /* the same of the copier */
    struct grants grants;
    struct privileges privileges;
    bool expects_proxy;    /* one is being started: who needs it waits */
    struct list waiting;   /* struct connect: CONNECTs that wait for a cell or the proxy */
    struct list bind_waits; /* struct bind_wait: BINDs that wait for a slot */
    unsigned bind_wait_count;
    uint64_t last_control;
    int listen_fd;
    struct loop_watch *listen_watch;
    struct list up_nodes;  /* struct up_node: what a new client is told */
    struct table watched;  /* struct watched_slot: see watch.c */
    struct table wait_tables; /* dc + 1 -> struct wait_table: see waits.c */
    struct broker_stats stats;
};

/* first_generation: see registry.h. */
void broker_init(struct broker *broker, struct loop *loop, uint32_t node, uint32_t first_generation,
                 const struct broker_host *host);
void broker_destroy(struct broker *broker);

/* Accept clients at a socket path (mode 0600; what lies there is replaced). 0 or a negative errno. */
int broker_listen(struct broker *broker, const char *path);
/* Serve a connected SOCK_SEQPACKET socket. Takes over fd, also on error. 0 or -errno. */
int broker_adopt(struct broker *broker, int fd, enum context_role role, uint32_t dc, struct client **out);
/* End a client as if it had died. NULL is allowed. */
void client_close(struct client *client);

/* A node joined or left the view: clients are told. address: "address:port" of its proxy, may be NULL when down. */
void broker_node_change(struct broker *broker, uint32_t node, bool up, const char *address);
/* Nothing may run in that DC here now: programs' endpoints in it are unbound, they are told, pending connects end. */
void broker_dc_cut(struct broker *broker, uint32_t dc);
/* The same for good. */
void broker_dc_gone(struct broker *broker, uint32_t dc);
/* broker_slots.c: to the cell of a DC, if it watches (slots.h of dvk says what they mean). */
bool broker_slots_watched(const struct broker *broker, uint32_t dc);
void broker_slots_table(struct broker *broker, uint32_t dc, const struct slot_table *table, uint64_t version);
bool broker_slots_wanted(struct broker *broker, uint32_t dc, uint32_t want, uint32_t below);
void broker_slots_settled(struct broker *broker, uint32_t dc);
/* slots_take has ended; BINDs that wait are answered, too. */
void broker_slots_ended(struct broker *broker, uint32_t dc, int status);
/* Try again the CONNECTs that wait for a DC's cell (dc 0: for the proxy). status: not 0: they fail with it instead.
 * Not to be called from within a function of the host. */
void broker_retry(struct broker *broker, uint32_t dc, int status);

/* The same for those that wait for an endpoint to move; after any change of the configuration. */
void broker_place_changed(struct broker *broker);
/* broker_places.c: an endpoint has moved away from a client, or to one (-DVK_ESLOTBUSY, -ENOMEM). */
void broker_place_left(struct broker *broker, struct client *client, uint32_t dc, dvk_endpoint endpoint, uint64_t revision);
int broker_place_taken(struct broker *broker, struct client *client, uint32_t dc, dvk_endpoint endpoint, uint64_t revision);

/* The same for those that wait for the copier. */
void broker_copier_change(struct broker *broker, int status);

/*
 * Send a control request (JSON object; the "op" is in it). fds: taken over. done is called exactly once, later:
 * with the answer (borrowed), or with NULL and a negative error (-DVK_EDEADDST: the client went, -DVK_ETIMEDOUT,
 * -E2BIG: the text is too long for a packet, -DVK_EBADPEER: the answer was no JSON object).
 * timeout_ms 0: none. *id (may be NULL) names it for broker_control_forget.
 */
typedef void control_done(void *context, int status, const json_t *answer);
void broker_control(struct client *client, const json_t *request, const int *fds, unsigned fd_count,
                    uint64_t timeout_ms, control_done *done, void *context, uint64_t *id);
/* `done` of that request is not to be called any more. */
void broker_control_forget(struct client *client, uint64_t id);

/* broker_nodes.c: since when a node is up, in ms since 1970; 0: it is not. And the time now. */
int64_t broker_node_since(const struct broker *broker, uint32_t node);
int64_t broker_clock_ms(void);

struct context *client_context(const struct client *client);
pid_t client_pid(const struct client *client);
/* Has it said HELLO? */
bool client_ready(const struct client *client);

/* For debug.endpoints and debug.channels: new references. */
json_t *broker_list_endpoints(const struct broker *broker);
json_t *broker_list_channels(const struct broker *broker);

#endif
