/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's nodes: those who join, by a token, and those who leave for good. Only the node with the authority's key
 * gives out tokens and answers who joins (src/cluster). Each node keeps the nodelist of its corosync.conf.
 *
 *   new node -> proxy -> here      a request with a token's secret (src/cluster/join.c)
 *   here -> all                    "node-add", an ordered change: each adds a line to its corosync.conf, then confirms it
 *   here                           corosync reads its configuration again, on all nodes (corosync-cfgtool -R)
 *   here -> proxy -> new node      certificate, corosync's key, the nodelist
 *
 * All nodes must be up: one that does not know of another could not meet it when it comes back.
 */
#ifndef DVKD_CLUSTER_H
#define DVKD_CLUSTER_H

#include "dvkd/dvkd.h"

struct cluster;

/* Read cluster.json. *out is NULL when this node is in no cluster. 0, or negative with *failure. */
int cluster_start(struct dvkd *dvkd, struct cluster **out, struct failure *failure);
void cluster_stop(struct cluster *cluster);

/* A change was applied that touches a node; effect NULL: all may have changed. cluster may be NULL. */
void cluster_changed(struct cluster *cluster, const struct config_effect *effect);
/* What the proxy says unasked (src/proxy/control.c). cluster may be NULL. */
void cluster_proxy_event(struct cluster *cluster, const json_t *event);

#endif
