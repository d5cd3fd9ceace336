/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicated configuration and the view of the cluster, over an ordered multicast with membership. Pure of I/O
 * but for the store: a port carries messages out, and the owner carries them in, so that tests can play the network.
 *
 * What the network must give (CPG's extended virtual synchrony): all members of a view get the same messages and
 * view changes in the same order; a sender gets its own; messages of one sender keep their order.
 *
 *   ALONE      not in a group with quorum: the configuration can be read, not changed. `up` is this node only
 *   SYNCING    the view changed: the lowest member opens a round ("start"), which each answers by a hello with its
 *              (view, epoch, digest). When the hello of each is there, all know who has the newest state; if any
 *              differs, that one sends a snapshot
 *   SYNCED     all members have the same state; changes are applied as they come
 *
 * replica_view -> SYNCING (or ALONE, when its members are no quorum) -> SYNCED.
 *
 * A change carries the view in which it was sent and is void in any other: what was under way when the view changed
 * is dropped by all alike, and sent anew by the one that proposed it. So a joiner misses nothing, nothing is applied
 * twice, and a message that lingers in a node that was cut off has no effect.
 *
 * The start names the number of the view to be. A member that has promised a higher one refuses; the round is void for
 * all and the next start names a number above. By its hello a member promises to take part in no view with a lower
 * number, and writes that down first: so a state that a member alone carried into a view, before it crashed or was cut
 * off, never wins over what others have agreed on without it.
 *
 * Why a round: views may repeat the same members, and a hello that was sent in an earlier one may be ordered in this.
 * A hello that answers a start delivered in this view cannot be older than the view.
 *
 * A proposal is acknowledged when every member of the view has told that it has written the change. The view is a
 * quorum, so every later quorate view has a member with it, and nothing acknowledged is lost. A member that does not
 * tell makes the one who waits ask for a new round ("resync").
 *
 * A node that finds in a round that others have made a view without it acts as if it had lost its quorum (port.quorum)
 * before it joins: they have taken for lost what ran there.
 *
 * A member that does not say hello within REPLICA_HELLO_MS (its dvkd hangs) is put out of the view by an ordered
 * message of the lowest of the others, and has to join again.
 */
#ifndef DVKD_REPLICA_H
#define DVKD_REPLICA_H

#include "common/loop.h"
#include "dvkd/config.h"
#include "dvkd/store.h"

#define REPLICA_HELLO_MS 5000u

struct replica_member {
    uint32_t node;
    uint32_t pid;
};

struct replica_port {
    void *context;
    /* Multicast to all members, this one included. Keeps no reference to text. */
    void (*send)(void *context, const char *text, size_t len);
    /* The configuration changed; effect NULL: all of it may have. */
    void (*changed)(void *context, const struct config_effect *effect);
    /* A node has joined (after the states agree) or left the quorate view. Never this node. */
    void (*node)(void *context, uint32_t node, bool up);
    void (*quorum)(void *context, bool quorate);
    /* Others have put us out of the view: leave the group and join again. */
    void (*excluded)(void *context);
    /* The configuration could not be written: dvkd cannot go on. */
    void (*broken)(void *context);
    /* The following may be NULL. A cast of a member, at its place in the order of changes. */
    void (*cast)(void *context, uint32_t node, const json_t *payload);
    /* Every member has written what was applied up to this epoch. */
    void (*confirmed)(void *context, uint64_t epoch);
    /* A quorate view is agreed on; `changed` follows. replaced: our state was not that of the others. */
    void (*installed)(void *context, bool replaced);
};

/* status 0: applied everywhere; later changes may have been applied as well. Negative: refused; -EAGAIN: not even tried,
 * there is no quorum; -EINPROGRESS: not known, quorum was lost or the view changed on the way. *failure says which. */
typedef void replica_done(void *context, int status, const struct config_effect *effect, const struct failure *failure);

enum replica_state { REPLICA_ALONE, REPLICA_SYNCING, REPLICA_SYNCED };

/* What a node tells of itself now and then. */
struct replica_status {
    uint32_t cells;
    double load;
};

struct replica;

/* store and config: borrowed store; config is taken over (it may be replaced: use replica_config each time).
 * store NULL: nothing is written (tests). self: what this node announces. 0 or -ENOMEM. */
int replica_create(struct loop *loop, struct store *store, struct config *config, const struct config_node *self,
                   const struct replica_port *port, struct replica **out);
void replica_destroy(struct replica *replica); /* pending proposals are dropped without a call */

struct config *replica_config(struct replica *replica);
enum replica_state replica_state(const struct replica *replica);
/* Is this node in a quorate part of the cluster? Stays true while its members agree on a new view (changes wait then),
 * and becomes true when they first have. */
bool replica_is_quorate(const struct replica *replica);
bool replica_node_is_up(const struct replica *replica, uint32_t node);
uint32_t replica_lowest_up(const struct replica *replica);
/* What a node last told; zeroes when nothing. */
struct replica_status replica_node_status(const struct replica *replica, uint32_t node);
void replica_set_status(struct replica *replica, const struct replica_status *status);

/*
 * Propose a change (a new reference is not taken over: it is copied). done is called exactly once, later, never
 * from within this call; NULL allowed.
 */
void replica_propose(struct replica *replica, const json_t *change, replica_done *done, void *context);

/*
 * Multicast something that changes no state, in the same order as the changes for all members of the view (a cast).
 * done is called when it was delivered here, after port.cast, or with the error, as for a change; NULL allowed.
 */
void replica_cast(struct replica *replica, const json_t *payload, replica_done *done, void *context);

/* Which of this node's lives it is (see objects.h): told to the others when the next view is made. */
void replica_set_incarnation(struct replica *replica, int64_t incarnation);
int64_t replica_incarnation(const struct replica *replica);
/* The nodes of the view that all have agreed on last, in order of their ids. Returns how many; 0: not SYNCED. */
size_t replica_view_nodes(const struct replica *replica, uint32_t *nodes, size_t room);

/* The group's members changed. quorate: they and the nodes around them are a quorum. */
void replica_view(struct replica *replica, const struct replica_member *members, size_t count, bool quorate);
/* Quorum alone changed, without the members; the same on all of them at the same place in the order. */
void replica_quorum(struct replica *replica, bool quorate);
/* The group is out of reach. */
void replica_disconnected(struct replica *replica);
/* A message of a member. Anything else than what replicas send is dropped with a warning. */
void replica_deliver(struct replica *replica, const struct replica_member *from, const char *text, size_t len);

#endif
