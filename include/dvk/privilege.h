/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk: privileges of endpoints: which calls one may make, whom it may address, and from whom it takes messages.
 * General rules (results, timeouts, threads) as in dvk/dvk.h.
 *
 * An endpoint that is bound may do everything, unless its process has others in that DC, or had: then it gets what the
 * oldest of these has, or the last one had. So nobody gets more by binding anew. The guests of a container have fixed
 * privileges: requests and notifications to the servers of their cell.
 *
 * Privileges are kept by dvkd of the endpoint's node, and enforced there by others than the endpoint's process: by dvkd,
 * which makes no channel and serves no call that they do not allow, and by whoever receives its messages (for another
 * node: the proxy). What is not allowed ends with -DVK_ENOTALLOWED, a notification is dropped, a dvk_post is dropped and
 * told by a later one. Answering (dvk_reply) is always allowed, and so is asking the DVK about endpoints (dvk_wait_bind,
 * dvk_info_endpoint, dvk_get_privileges) and giving up (dvk_revoke, dvk_unlock, dvk_group_leave).
 * An endpoint that moves to another process (its backup) may do there what that process's others may: privileges are not
 * moved along. A process that can connect to dvkd anew (today: one that is root) can bind endpoints that know nothing of these.
 */
#ifndef DVK_PRIVILEGE_H
#define DVK_PRIVILEGE_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls. */
enum dvk_may {
    DVK_MAY_SEND = 1u << 0,      /* dvk_send, dvk_post: messages without an answer */
    DVK_MAY_SENDREC = 1u << 1,   /* dvk_sendrec, dvk_call */
    DVK_MAY_NOTIFY = 1u << 2,    /* dvk_notify */
    DVK_MAY_RELAY = 1u << 3,     /* dvk_relay; whom a request is handed on to is its source's matter, as if it had sent it there */
    DVK_MAY_GRANT = 1u << 4,     /* dvk_grant to others */
    DVK_MAY_COPY = 1u << 5,      /* dvk_vcopy */
    DVK_MAY_GROUP = 1u << 6,     /* dvk_group_join, dvk_group_mcast */
    DVK_MAY_SERVICE = 1u << 7,   /* keys, locks, offices, barriers: dvk/service.h */
    DVK_MAY_MIGRATE = 1u << 8,   /* moving endpoints to other nodes */
    DVK_MAY_BIND = 1u << 9,      /* dvk_bind, being a backup: a process one of whose endpoints lacks it binds no more, in no DC */
    DVK_MAY_PRIVILEGE = 1u << 10, /* dvk_set_privileges of others */
    DVK_MAY_ALL = (1u << 11) - 1,
};

/* Sets of endpoints: the union of what the flags and the ranges say. */
enum dvk_peers_flags {
    DVK_PEERS_ALL = 1u << 0,
    DVK_PEERS_SERVERS = 1u << 1, /* all system slots, of all nodes */
};
#define DVK_PEERS_RANGES 16u

/* Slots first..last, both with generation 0; or, where first == last with its generation, just that endpoint, which must
 * then be addressed by it. */
struct dvk_peers_range {
    dvk_endpoint first, last;
};

struct dvk_peers {
    uint32_t flags; /* enum dvk_peers_flags */
    uint32_t count; /* of ranges, 0..DVK_PEERS_RANGES */
    struct dvk_peers_range ranges[DVK_PEERS_RANGES];
};

struct dvk_privileges {
    uint32_t calls;    /* enum dvk_may, or'ed */
    uint32_t reserved; /* 0 */
    struct dvk_peers to;   /* whom it may address */
    struct dvk_peers from; /* from whom it takes messages */
};

/* Everything, as an initializer. */
#define DVK_PRIVILEGES_ALL                                                                                             \
    { DVK_MAY_ALL, 0, {DVK_PEERS_ALL, 0, {{0, 0}}}, {DVK_PEERS_ALL, 0, {{0, 0}}} }

/*
 * dvk_get_privileges: what an endpoint may do.
 * from: one of our endpoints. endpoint: of the same DC, ours or another's, on whatever node; generation 0: whoever is
 * bound there. *out is written on 0: its sets in order, and in as few ranges as they need.
 * timeout_ms: as everywhere, and at most 30 s; 0 is taken as that. Messages that come meanwhile wait; no callback is run.
 * Errors: -DVK_ENOTBOUND: `from` is not ours, or nobody is bound at `endpoint`; -DVK_ETIMEDOUT; -DVK_ENODEUNREACH;
 * -DVK_ENODC; -EINVAL: no endpoint; -ENOMEM; -DVK_ENODAEMON.
 */
int dvk_get_privileges(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_privileges *out,
                       int timeout_ms);

/*
 * dvk_set_privileges: say what an endpoint may do from now on.
 * Of the endpoints of one's own process one may only take away. For those of others, on whatever node, `from` needs
 * DVK_MAY_PRIVILEGE; it may give what it has not itself.
 * On 0 it holds for every message that is sent after this returned, on whatever node; of those under way, sent and not yet
 * received, it may hold or not (and of bits of dvk_notify that join one of these). What was received or entered before stays: requests to be answered, grants, mappings of
 * arenas, locks, memberships.
 * Arguments and waiting as of dvk_get_privileges. Errors: those of dvk_get_privileges, and -DVK_ENOTALLOWED: it would give an endpoint of our
 * own process more than it has, or `from` may not, or `endpoint` belongs to a container's cell or to the DVK; -EINVAL also:
 * unknown bits, or ranges that are none. -DVK_ETIMEDOUT: it is not known whether it was done; or it was, and a peer of
 * `endpoint` does not read what its dvkd tells it: it holds for that one once it does.
 */
int dvk_set_privileges(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint,
                       const struct dvk_privileges *privileges, int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
