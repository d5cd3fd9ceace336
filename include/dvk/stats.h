/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics: what endpoints have done and what they have to do, and the sums of that over a DC or a node; and what there
 * is to know of a DC. `dvs debug stats` and `dvs metrics` show the same.
 *
 * A process counts what its own endpoints do in memory that dvkd can read: counting costs an addition each. An endpoint's
 * numbers begin with its binding. When it goes, dvkd adds them to what its DC and its node have done, so that sums do not
 * fall while their nodes are up. They say what processes say of themselves: one that lies falsifies its own DC's sums.
 *
 * Messages of libdvk itself (waits for endpoints, copies), those within the DVK and those of guests (processes of a VOS, at
 * whose servers they are counted) are not counted.
 *
 * Each structure begins with its size, so that it can grow: the caller sets it to what it was compiled with (sizeof). The
 * call fills in what both know and sets it to the number of bytes that it has filled in; what is above is zeroed.
 */
#ifndef DVK_STATS_H
#define DVK_STATS_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a request, a send or a post failed. */
enum dvk_stats_error {
    DVK_STATS_TIMED_OUT,   /* -DVK_ETIMEDOUT */
    DVK_STATS_DEAD,        /* -DVK_EDEADDST, -DVK_EDEADSRC */
    DVK_STATS_UNREACHABLE, /* -DVK_ENODEUNREACH */
    DVK_STATS_NOT_BOUND,   /* -DVK_ENOTBOUND */
    DVK_STATS_REFUSED,     /* -DVK_ENOTALLOWED, -DVK_EDEADLOCK, -EMSGSIZE, -EINVAL */
    DVK_STATS_INTERRUPTED, /* -DVK_EINTERRUPTED: cancelled, or the context was closed */
    DVK_STATS_BROKEN,      /* -DVK_EBADPEER, -DVK_ENODAEMON, -DVK_EVERSION */
    DVK_STATS_OTHER,       /* any other, e.g. -DVK_ENODC, -EAGAIN, -ENOMEM */
};

/* What only grows. Messages by the call that made them; bytes are those of data beside messages. */
struct dvk_stats {
    uint64_t sendrecs, calls, sends, posts, notifies;
    uint64_t completed; /* of sendrecs, calls and sends: those that ended well */
    uint64_t bytes_out; /* in messages made and replies given */
    uint64_t bytes_in;  /* in messages and replies received */
    uint64_t arrived;   /* messages that its process has found in its channels */
    uint64_t requests_in, sends_in, notifies_in, casts_in; /* received: requests want a reply; posts are sends here */
    uint64_t replies;   /* given to requests */
    uint64_t relayed;   /* requests handed on (dvk_relay) */
    uint64_t withdrawn; /* arrived but never received: taken back, or their sender is gone */
    uint64_t casts;     /* messages to groups */
    uint64_t loans;     /* dvk_loan_get */
    uint64_t posts_failed;
    uint64_t errors[8]; /* by enum dvk_stats_error: sendrecs, calls, sends and posts that failed */
    uint64_t reserved[5];
};

/* What is under way now. */
struct dvk_stats_now {
    uint64_t pending;    /* sendrecs, calls and sends that have not ended */
    uint64_t unanswered; /* requests received and not answered or handed on */
    uint64_t queued;     /* messages that arrived and were not received yet */
    uint64_t untaken;    /* messages in its process's channels of this DC that the process has not looked at */
};

enum dvk_stats_flags {
    DVK_STATS_COUNTED = 1, /* its process counts; else `total` is all 0 */
    DVK_STATS_GUEST = 2,   /* a guest of a cell's servers: these count its messages */
};

struct dvk_endpoint_stats {
    uint32_t size; /* set by the caller */
    uint32_t dc;
    dvk_endpoint endpoint; /* with its generation */
    uint32_t node;         /* where it is bound */
    uint32_t flags;        /* enum dvk_stats_flags */
    int64_t since_ms;      /* bound since: milliseconds since 1970, by its node's clock */
    int32_t pid;           /* of its process, as its node's dvkd sees it; 0: it does not */
    uint32_t reserved;
    struct dvk_stats_now now;
    struct dvk_stats total;
};

/*
 * dvk_stats_endpoint: the numbers of an endpoint of our DC, on whatever node.
 * from: one of our endpoints. endpoint: of the same DC; with generation 0: whoever is bound there now. out->size is set by
 * the caller; *out is written on 0.
 * Errors: -DVK_ENOTBOUND: `from` is not ours, or nobody is bound there; -DVK_ENODEUNREACH: its node is no member of the
 * cluster, or left while we waited; -DVK_ENODC; -EINVAL: no endpoint, or a size that cannot be; -ENOSYS: its node runs an
 * older version; -DVK_ENODAEMON; -ENOMEM. Blocks until dvkd of the endpoint's node answers, at
 * most 30 s (-DVK_ETIMEDOUT); no callback is run.
 */
int dvk_stats_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_endpoint_stats *out);

struct dvk_dc_stats {
    uint32_t size; /* set by the caller */
    uint32_t dc;
    uint32_t nodes;   /* whose numbers these are the sums of */
    uint32_t missing; /* nodes of the DC that are not among them: they are down, or did not answer */
    uint64_t endpoints; /* bound now, guests included */
    uint64_t channels;  /* now */
    uint64_t channel_bytes; /* memory that these use */
    uint64_t binds, connects; /* endpoints and channels that were made so far */
    struct dvk_stats_now now;
    struct dvk_stats total; /* endpoints that are gone included */
};

/*
 * dvk_stats_dc: the sums over the endpoints of our DC.
 * from: one of our endpoints; its DC. node: of that node only; 0: of all its nodes (in DC 0: of this node). Those of a node that is not up are left
 * out (out->missing); sums over all nodes fall when one is lost. out->size is set by the caller; *out is written on 0.
 * Errors: as of dvk_stats_endpoint; -DVK_ENOTBOUND: `from` is not ours, or the DC does not have that node. Blocks at most
 * 30 s in all.
 */
int dvk_stats_dc(struct dvk *dvk, dvk_endpoint from, uint32_t node, struct dvk_dc_stats *out);

struct dvk_node_stats {
    uint32_t size; /* set by the caller */
    uint32_t node;
    int64_t since_ms; /* its dvkd runs since: milliseconds since 1970, by its clock */
    uint64_t endpoints, channels, channel_bytes, binds, connects; /* as of a DC, of all of them */
    uint64_t processes;  /* that are connected to its dvkd: programs, cells' servers, proxy, copier */
    uint64_t packets_in; /* from these to dvkd, so far */
    uint64_t packets_out;
    uint64_t changes;    /* revision of the cluster's configuration, as this node knows it: the number of ordered changes */
    struct dvk_stats_now now;
    struct dvk_stats total; /* of all its DCs, those that are gone included */
};

/*
 * dvk_stats_node: the sums over all DCs of a node, and what its dvkd has counted.
 * from: one of our endpoints in DC 0: in it are programs of the machines only, no container's. node: an id; 0: this node.
 * out->size is set by the caller; *out is written on 0. Errors: as of dvk_stats_endpoint; -DVK_ENOTALLOWED: `from` is of
 * another DC. Blocks as dvk_stats_endpoint.
 */
int dvk_stats_node(struct dvk *dvk, dvk_endpoint from, uint32_t node, struct dvk_node_stats *out);

enum dvk_dc_kind {
    DVK_DC_BARE = 1, /* for programs that use libdvk: dvs dc create */
    DVK_DC_VOS,      /* a container with a VOS: dvs run */
};
struct dvk_dc_info {
    uint32_t size; /* set by the caller */
    uint32_t dc;
    uint32_t kind;       /* enum dvk_dc_kind */
    uint32_t node_count; /* nodes that it spans */
    uint32_t sets;       /* of user slots that it has (dvk/slots.h) */
    uint32_t sets_free;  /* that no node owns */
    uint64_t endpoints;  /* bound on this node now */
    char name[64];
};
struct dvk_dc_node {
    uint32_t node;
    uint32_t up;   /* 1: a member of the cluster as this node sees it; 0: not */
    uint32_t sets; /* of user slots that it owns */
    uint32_t reserved;
};

/*
 * dvk_info_dc: what a DC is, which nodes it spans, and which share of its user slots each owns.
 * dc: its id. out->size is set by the caller; *out is written on success. nodes: gets the first cap of its nodes, ascending
 * by id; may be NULL if cap is 0. Returns how many there are in all.
 * Errors: -DVK_ENODC, -DVK_ENOTALLOWED (a cell's own servers may ask for their DC only), -EINVAL (size), -DVK_ENODAEMON,
 * -ENOMEM. Blocks at most 5 s.
 */
int dvk_info_dc(struct dvk *dvk, uint32_t dc, struct dvk_dc_info *out, struct dvk_dc_node *nodes, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
