/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between dvkd (the broker) and the processes of its node that use libdvk, the proxy
 * included: packets on a SOCK_SEQPACKET unix socket, file descriptors by SCM_RIGHTS. dvkd is on no
 * message's path: it binds slots, makes channels and tells of life and death.
 *
 * Each packet is one struct dvk_broker_packet, followed by text_len bytes of text. Requests carry an id that
 * the answer (same type, DVK_BROKER_ANSWER set) repeats. dvkd checks every field and never blocks on a client.
 *
 * Identity: a client is a *context*. Who it may be is decided when it connects: a context that dvkd itself
 * started gets an inherited socket with its role and DC fixed; one that connects to the socket by path
 * has the role PROGRAM and dvkd decides by SO_PEERCRED (root only, for now).
 *
 * Channels: one for each pair of contexts and DC. The receiver of messages trusts msg.source only if it is
 * in the list of the peer's endpoints, as told by dvkd in CONNECT answers and CHANNEL events; the exception is
 * a channel whose peer is the proxy (flag PROXY), where the sending proxy vouches for the source.
 */
#ifndef DVK_BROKER_H
#define DVK_BROKER_H

#include <dvk/endpoint.h>
#include <stdint.h>

#define DVK_BROKER_MAGIC 0x42564b44u
#define DVK_BROKER_VERSION 1u
#define DVK_BROKER_TEXT_MAX 131072u
#define DVK_BROKER_ANSWER 0x80000000u

enum dvk_broker_type {
    /* client -> dvkd, answered */
    DVK_BROKER_HELLO = 1,     /* fds: [own doorbell memfd]. answer: node; fds: [page whose first word counts changes of
                                 privileges, not to be written; or none] */
    DVK_BROKER_BIND = 2,      /* dc, slot (in `endpoint`'s slot part), place = its place in the page of statistics, 0: none
                                 (stats_page.h). answer: endpoint; with flags STATS: fds: [that page], if there is one */
    DVK_BROKER_UNBIND = 3,    /* dc, endpoint */
    DVK_BROKER_CONNECT = 4,   /* dc, endpoint = from (DVK_NONE for the proxy), peer = to. dvkd may start a cell
                                 before it answers. answer: channel, side, peer = the full endpoint (generation
                                 filled in), flags PROXY when the peer is the proxy; fds: [memfd, socket, peer's
                                 doorbell], or none when the two contexts already share that channel. Asks by place =
                                 the least revision that will do, and node of the answer = that of `peer`
                                 (dvk/migrate.h); to a proxy: -DVK_ERELAYED: it is on another node since that revision.
                                 text: the peer's struct dvk_privileges, none: it has all */
    DVK_BROKER_GUEST_BIND = 5, /* dc, endpoint = slot, flags ADOPTED. answer: endpoint, channel;
                                 fds: [memfd, our socket, guest's socket]; our side is 1, the guest's 0 */
    DVK_BROKER_GUEST_UNBIND = 6, /* dc, endpoint, flags MOVED */
    DVK_BROKER_DC_FIND = 96,  /* text: a DC's name, or its id in digits. answer: dc */
    DVK_BROKER_DC_NODES = 97, /* dc. answer: text: the ids of its nodes, uint32_t each, ascending */
    DVK_BROKER_NODES = 73,       /* answer: text: struct dvk_node_state (dvk/detector.h) of each node that is up */
    DVK_BROKER_SERVICE = 70,     /* groups and services: see service_protocol.h */
    DVK_BROKER_WATCH = 7,     /* dc, peer = an endpoint; generation 0: whoever has its slot. Answered when it goes, or with
                                 flags BOUND when it is bound (endpoint: in full). status -DVK_ENOTBOUND: nothing is
                                 bound there, or (BOUND) that address is no more; -EINPROGRESS: NOWAIT was asked for and it
                                 would have to wait; flags ELSEWHERE: at once: ask dvkd of `node` */
    DVK_BROKER_UNWATCH = 8,   /* dc, peer = a WATCH's, channel = its id: it is answered with -DVK_EINTERRUPTED if it still
                                 waits. Has no answer of its own */
    DVK_BROKER_GRANT = 10, /* dc, endpoint = the owner, ours; peer = the grantee; text: struct dvk_broker_grant; fds: [pidfd
                              of the sending process], or none when it is memory of an arena. answer: channel = the grant */
    DVK_BROKER_REVOKE = 11, /* channel = a grant or an arena of ours: with an arena go its grants. Answered when
                               nothing uses it any more */
    DVK_BROKER_ARENA = 12, /* fds: [memfd, sealed against shrinking and growing]: a new arena. answer: channel = its number.
                              No fds: dc, endpoint = the grantee, ours; channel = a shared grant. answer: text: struct
                              dvk_broker_grant, peer = the owner, fds: [memfd]; GRANT_GONE follows when it ends */
    DVK_BROKER_SPARE = 100,     /* dc, endpoint (whole), side = 1: be its backup, 2: its replica. Answered when all nodes know */
    DVK_BROKER_SPARE_END = 101, /* dc, endpoint: not any more */
    DVK_BROKER_MIGRATE = 102,   /* dc, endpoint = ours, side = enum dvk_broker_migrate, node = to which backup, 0: the oldest.
                                   Answered when all nodes know; FROZEN or MOVED comes before */
    DVK_BROKER_GET_PRIVILEGES = 120, /* dc, endpoint = ours (DVK_NONE for the proxy), peer = whose. answer: endpoint = in full, text:
                                        struct dvk_privileges, in order; or flags ELSEWHERE: ask dvkd of `node` */
    DVK_BROKER_SET_PRIVILEGES = 121, /* the same with text: struct dvk_privileges. Answered when it holds */
    DVK_BROKER_WAITS = 9,     /* dc, in which the client is bound. answer: place; fds: [table of waits, see waits.h] */
    DVK_BROKER_STATS = 130, /* dc, side = enum dvk_stats_question (stats_page.h), endpoint = ours in that DC (of the proxy,
                               and for INFO: none), peer = whose. answer: text: what the question names; or flags
                               ELSEWHERE: ask dvkd of `node` */
    DVK_BROKER_STATS_PLACE = 131, /* dc, endpoint = ours, which has moved here; place, flags STATS: as of BIND. answer: endpoint;
                                     fds as of BIND */
    /* client -> dvkd, not answered */
    DVK_BROKER_SLOTS = 13,         /* a cell's: dc, side = enum dvk_broker_slots (dvk/slots.h) */
    DVK_BROKER_SERVICE_CANCEL = 71,
    DVK_BROKER_SERVICE_TAKEN = 72,
    DVK_BROKER_GRANT_DONE = 50, /* the copier: id of a GRANT_GONE that it will obey */
    DVK_BROKER_CONTROL_REPLY = 16, /* id of the CONTROL, text */
    DVK_BROKER_CONTROL_SEND = 17,  /* text */
    DVK_BROKER_RECORD = 90,        /* of a cell or the proxy, may come before HELLO; fds: [memfd of its flight recorder] */
    DVK_BROKER_REFUSED = 123,      /* dc, channel, endpoint = whose privileges did not allow a message to or from peer; id = how
                                      many so far */
    DVK_BROKER_CHANNEL_CLOSED = 18, /* channel: the peer broke the protocol or we are done with it */
    /* dvkd -> client */
    DVK_BROKER_SLOTS_TABLE = 60,   /* dc, id = version, node = sets, text = struct dvk_slots_run[] */
    DVK_BROKER_SLOTS_WANTED = 61,  /* dc, node = want, flags = below */
    DVK_BROKER_SLOTS_SETTLED = 62, /* dc */
    DVK_BROKER_SLOTS_ENDED = 63,   /* dc, status */
    DVK_BROKER_SERVICE_EVENT = 80,
    DVK_BROKER_CHANNEL = 32,  /* somebody connected to us: dc, endpoint = ours, peer = theirs, channel, side,
                                 flags PROXY; fds [memfd, socket, peer's doorbell], or none when the channel
                                 is known and only `peer` is new. Sent before the connecting side's answer.
                                 To the proxy: node = where `endpoint` lives, 0: as its system slot says; id = its revision.
                                 text: as in the answer to CONNECT */
    DVK_BROKER_CHANNEL_GONE = 33, /* channel, dc, peer: the other context died; the channel was marked dead.
                                     status: 0 or the error with which calls that wait on it end */
    DVK_BROKER_FROZEN = 110,     /* dc, endpoint = ours, flags UP: it is about to move; not UP: it is not any more */
    DVK_BROKER_MOVED = 111,      /* dc, endpoint, id = revision: it is elsewhere now. channel 0: it was ours; else it was at the
                                    other end of that channel */
    DVK_BROKER_PROMOTED = 112,   /* dc, endpoint, id = revision: it is ours now */
    DVK_BROKER_SPARE_GONE = 113, /* dc, endpoint: it is no more, or we are no spare of it any more */
    DVK_BROKER_PRIVILEGES = 122, /* dc, endpoint = whose have changed: the peer's on `channel`, or if that is 0 our own; text: struct
                                    dvk_privileges, none: it has all */
    DVK_BROKER_NODE = 34,     /* node, flags UP or not; to the proxy also text = "address:port" */
    DVK_BROKER_DC_GONE = 35,  /* dc */
    DVK_BROKER_CONTROL = 36,  /* id, text, fds: see dvk_control_reply */
    DVK_BROKER_GRANT_MADE = 51, /* to the copier: dc, endpoint = the owner, peer = the grantee, channel = the grant, id = the
                                   memory that it is in; text: struct dvk_broker_grant; fds: [how to reach that memory: an
                                   arena's memfd or /proc/PID/mem] if it is new to the copier */
    DVK_BROKER_GRANT_GONE = 52, /* to the copier, and to who has mapped its arena: channel = the grant, status = why;
                                   id: not 0: the copier says GRANT_DONE. channel may never have been told of */
};

enum dvk_broker_flags {
    DVK_BROKER_F_PROXY = 1u << 0,
    DVK_BROKER_F_ADOPTED = 1u << 1,
    DVK_BROKER_F_MOVED = 1u << 2,
    DVK_BROKER_F_UP = 1u << 3,
    DVK_BROKER_F_MORE = 1u << 4, /* CONTROL_REPLY: the text goes on in the next one with the same id */
    DVK_BROKER_F_BOUND = 1u << 8,     /* WATCH: wait until it is bound, not until it goes */
    DVK_BROKER_F_ELSEWHERE = 1u << 9, /* WATCH: its answer */
    DVK_BROKER_F_NOWAIT = 1u << 10,   /* WATCH: answer at once in any case */
    DVK_BROKER_F_STATS = 1u << 16,    /* BIND: the client has no page of statistics yet */
};

enum dvk_broker_slots {
    DVK_BROKER_SLOTS_WATCH = 1, /* SLOTS_TABLE follows */
    DVK_BROKER_SLOTS_TAKE,      /* node = want, flags = below. SLOTS_ENDED follows */
    DVK_BROKER_SLOTS_GIVE,      /* answers SLOTS_WANTED. text: "FIRST+COUNT ...". SLOTS_SETTLED follows unless it is empty */
};

enum dvk_broker_migrate { DVK_BROKER_MIGRATE_START = 1, DVK_BROKER_MIGRATE_COMMIT, DVK_BROKER_MIGRATE_ROLLBACK };

struct dvk_broker_packet {
    uint32_t magic;
    uint32_t version;
    uint32_t type; /* enum dvk_broker_type, | DVK_BROKER_ANSWER */
    int32_t status; /* answers: 0 or a negative error */
    uint64_t id;
    uint64_t endpoint;
    uint64_t peer;
    uint64_t channel; /* dvkd's number for the channel, unique on the node */
    uint32_t dc;
    uint32_t node;
    uint32_t flags;
    uint32_t side;
    uint32_t text_len;
    uint32_t place; /* CHANNEL, answer to CONNECT: the peer's in the DC's table of waits; WAITS: the client's own;
                       BIND: as said there. 0: none */
};
_Static_assert(sizeof(struct dvk_broker_packet) == 72, "layout");

/* What is granted. dvkd checks it: length not 0, no overflow, below DVK_BROKER_GRANT_END, inside its arena. */
struct dvk_broker_grant {
    uint64_t address; /* in the owner's memory, or from the arena's start */
    uint64_t length;  /* bytes */
    uint64_t arena;   /* 0: none */
    uint32_t access;  /* enum dvk_grant_access */
    uint32_t pad;
};
_Static_assert(sizeof(struct dvk_broker_grant) == 32, "layout");
#define DVK_BROKER_GRANT_END (1ull << 47) /* where a process's addresses end */

/* Numbers of grants and arenas: the node where they were made, shared or not, and a count. Unique for ever. */
#define DVK_GRANT_NODE_SHIFT 54
#define DVK_GRANT_SHARED (1ull << 53)
static inline uint32_t dvk_grant_node(uint64_t grant) { return (uint32_t)(grant >> DVK_GRANT_NODE_SHIFT); }

#endif
