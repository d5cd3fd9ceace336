/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failure detector: be told when an endpoint is gone, wherever it runs, and which nodes are up since when. Whether a
 * node is up is what the quorate view says; DVK_EVENT_NODE_UP and DVK_EVENT_NODE_DOWN (dvk.h) tell of changes.
 */
#ifndef DVK_DETECTOR_H
#define DVK_DETECTOR_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* status: -DVK_EDEADDST: it is gone (its process ended or unbound it); -DVK_ENODEUNREACH: its node left; or another error
 * that ends the watch (-DVK_ENODC, -DVK_ENODAEMON). */
typedef void dvk_endpoint_gone_fn(void *context, dvk_endpoint endpoint, int status);

/*
 * dvk_watch_endpoint: have fn called once, from within dvk_receive, when an endpoint of the DC of `from` (ours) is gone. One
 * that is not there is told of at once, also from within dvk_receive. With generation 0 it is who is bound there now.
 * *watch names it for dvk_unwatch_endpoint. Never blocks. Errors: -DVK_ENOTBOUND (from is not ours), -EINVAL, -ENOMEM,
 * -DVK_ENODAEMON.
 */
int dvk_watch_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, dvk_endpoint_gone_fn *fn, void *context,
                       uint64_t *watch);
/* dvk_unwatch_endpoint: fn will not be called any more. Never blocks. Errors: -ENOENT: it was called, or no such watch. */
int dvk_unwatch_endpoint(struct dvk *dvk, uint64_t watch);

struct dvk_node_state {
    uint32_t node;
    uint32_t reserved;
    int64_t since_ms; /* since when this node knows it as up: milliseconds since 1970, by this node's clock */
};
/*
 * dvk_nodes: the nodes that are up as this node sees them, itself included, by their ids: up to cap of them. Returns how
 * many there are. A node without quorum sees itself alone. Blocks at most 5 s. Errors: -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_nodes(struct dvk *dvk, struct dvk_node_state *nodes, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
