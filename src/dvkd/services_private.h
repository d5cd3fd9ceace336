/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by services.c (sessions, the queue, what is told) and services_request.c (what clients ask). */
#ifndef DVKD_SERVICES_PRIVATE_H
#define DVKD_SERVICES_PRIVATE_H

#include "common/list.h"
#include "common/table.h"
#include "dvk/service_protocol.h"
#include "dvkd/services.h"

#define GROUP_BUCKETS 256u

/* What a client has asked and not been told yet, or has entered. */
enum request_kind {
    REQUEST_ONCE,       /* ends with its answer */
    REQUEST_LOCK,       /* lock or office: lives until it is left or lost */
    REQUEST_BARRIER,    /* ends with its answer */
    REQUEST_MEMBERSHIP, /* of a group: until it is left or lost */
    REQUEST_WATCH,
};
struct request {
    struct list link;       /* client->requests */
    struct list pending;    /* services->pending, while the replica has it */
    struct objects_who who; /* as it was entered */
    struct list place;      /* group->members, group->held or services->watches */
    struct services *services;
    struct service_client *client; /* NULL: gone, or given up */
    unsigned references;    /* the client's, the replica's and the queue's */
    enum request_kind kind;
    bool answered;
    struct dvk_broker_packet packet; /* what was asked: id, dc, endpoint */
    struct dvk_service_head head;
    char *name;
    char *value;            /* LOCK: text; GROUP_CAST: the message */
    int64_t number;         /* unique on this node: the `request` of who */
    const char *object;     /* kind of the object: "lock", ... */
    struct group *group;    /* MEMBERSHIP */
    json_t *message;        /* GROUP_CAST: the cast that is held up */
    bool told;              /* MEMBERSHIP: a view was told that it is in */
};

/* A group with members on this node. */
struct group {
    struct list link; /* services->groups[bucket] */
    uint32_t dc;
    char *name;
    struct list members; /* struct request.place */
    struct list held;    /* struct request.place: GROUP_CASTs that wait */
    bool we_hold;        /* we asked the senders to wait */
    unsigned full;       /* members with too many untaken messages */
    uint32_t hold_count;
    uint8_t holds[(DVK_MAX_NODE + 8) / 8]; /* nodes that ask for it */
};

struct service_client {
    struct list link; /* services->clients */
    struct services *services;
    void *user;
    int64_t session;    /* 0: none */
    struct list requests;
    unsigned request_count;
    uint64_t untaken;   /* messages sent and not taken */
    bool full;
};

enum item_kind { ITEM_EVENT, ITEM_CAST, ITEM_ANSWER };
struct item {
    struct list link;
    enum item_kind kind;
    uint64_t epoch; /* it waits for */
    json_t *json;
    uint32_t node;
    struct request *request; /* ITEM_ANSWER */
    struct dvk_service_head head;
    char *value;
};

struct services {
    struct loop *loop;
    uint32_t node;
    struct services_port port;
    struct replica *replica;
    int64_t incarnation, last_number;
    bool quorate;
    uint64_t confirmed;
    struct list clients;
    struct table sessions; /* session -> struct service_client */
    struct list watches;
    struct list groups[GROUP_BUCKETS];
    struct list queue; /* struct item */
    struct list pending; /* struct request.pending */
    struct list snapshots;
    struct services_counts counts;
};

/* services.c */
void request_hold(struct request *request);
void request_drop(struct request *request);
/* It is over for the client. The replica or the queue may still have it. */
void request_end(struct request *request);
/* Answer once. head and value may be NULL. */
void request_answer(struct request *request, int status, const struct dvk_service_head *head, const char *value);
/* The same, through the queue. value: taken over. */
void request_answer_in_order(struct request *request, const struct dvk_service_head *head, char *value);
struct group *group_find(struct services *services, uint32_t dc, const char *name);
struct group *group_get(struct services *services, uint32_t dc, const char *name); /* NULL: no memory */
void group_check(struct services *services, struct group *group); /* hold up or let go; free it if it is empty */
void services_propose(struct request *request, json_t *change, replica_done *done);
/* The client has taken messages. */
void client_taken(struct service_client *client, uint64_t count);
void services_leave(struct services *services, const struct request *request);

/* services_request.c */
void held_send(struct request *request);

/* services_snapshot.c */
void snapshot_cast(struct services *services, uint32_t node, const json_t *payload);
void snapshot_view(struct services *services);
void snapshots_end(struct services *services);

#endif
