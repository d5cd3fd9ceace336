/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The group behind a replica: closed process groups (cpg_overview(3)) and votequorum of the local corosync.
 *
 * Whether a view is a quorum is decided by the number of nodes in the totem membership, which CPG delivers in order
 * with messages and view changes, against votequorum's threshold; votequorum's own notification comes by another way
 * and so at another time on each node. Each node has one vote. Two-node mode (quorum of 1) makes both halves quorate.
 */
#ifndef DVKD_COROSYNC_H
#define DVKD_COROSYNC_H

#include "common/loop.h"
#include "dvkd/replica.h"

#include <stddef.h>

struct corosync;

struct corosync_counts {
    unsigned expected, quorum, members; /* votes expected, needed; nodes in the membership */
};

/* Connect, and again whenever the connection is lost. replica: who gets views and messages. node: our id, which must be
 * corosync's. 0 or -ENOMEM. */
int corosync_create(struct loop *loop, struct replica *replica, uint32_t node, struct corosync **out);
void corosync_destroy(struct corosync *corosync);
/* Multicast. Never blocks: what corosync does not take now is queued; lost when the connection is. */
void corosync_send(struct corosync *corosync, const char *text, size_t len);
/* Leave the group and join again, soon. */
void corosync_rejoin(struct corosync *corosync);
struct corosync_counts corosync_counts(const struct corosync *corosync);

#endif
