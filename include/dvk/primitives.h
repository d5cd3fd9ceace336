/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk: receiving from one source, handing a request on, and waiting for endpoints to come and go.
 * General rules (results, timeouts, threads) as in dvk/dvk.h.
 */
#ifndef DVK_PRIMITIVES_H
#define DVK_PRIMITIVES_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- receiving with a filter ---- */

/*
 * dvk_receive_from: wait for the next message to one of our endpoints from one source, and meanwhile run completions
 * and callbacks as dvk_receive does.
 * to: one of our endpoints. from: the source, with its generation; or DVK_ANY: whoever sends to `to`.
 * *out as of dvk_receive. Pending notifications come first, then sends and requests in the order in which they
 * arrived. What the filter does not let through stays, in order, for later calls.
 * timeout_ms: as everywhere; 0: only what is here already.
 * Errors: -DVK_ETIMEDOUT; -DVK_ENOTBOUND: `to` is not ours, or nothing is bound at `from`; -DVK_EDEADSRC: `from` died
 * or was unbound while we waited (or since the last such wait for it), and nothing of it is left; -DVK_ENODEUNREACH:
 * the node of `from` is no member of the cluster, or left while we waited; -DVK_ENODC: the DC is being removed;
 * -EINVAL: `from` lacks its generation; -ENOMEM; -DVK_EINTERRUPTED (dvk_wake); -DVK_ENODAEMON, -DVK_EVERSION.
 * Cost: a lookup by source; it does not grow with what waits from others.
 */
int dvk_receive_from(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from, struct dvk_request **out, int timeout_ms);

/*
 * dvk_receive_request: the same, but only requests made with dvk_sendrec or dvk_call, which want a reply. Sends and
 * notifications stay for later calls of the others. Arguments, order and errors as of dvk_receive_from.
 */
int dvk_receive_request(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from, struct dvk_request **out,
                        int timeout_ms);

/* ---- handing a request on ---- */

/*
 * dvk_relay: hand a received request on to another endpoint of its DC, on whatever node; that one answers its source.
 * req: a request (wants_reply), not answered yet. to: who shall answer it, as of a destination.
 * The new destination receives it as it was: source, type, payload, data. We have no part in it any more: a
 * cancellation goes to the new destination, its end ends the source's wait with the error that a call of its own would
 * have had, and so does an endpoint that is not there; ours does not. The reply's source is the new destination. A
 * request that is handed on more than 16 times ends with -ELOOP.
 * On 0 req is freed; after an error it is still to be answered. Does not block. Errors: -EINVAL: not a request that wants a
 * reply, or no destination; -DVK_ENOTALLOWED: descriptors came with it, or it is from a guest of a cell.
 * The source trusts its destination to hand requests on only to where they may go: they arrive there in its name.
 */
int dvk_relay(struct dvk *dvk, struct dvk_request *req, dvk_endpoint to);

/* ---- endpoints that come and go ---- */

/*
 * dvk_wait_bind: wait until an endpoint is bound, on whatever node.
 * from: one of our endpoints; `endpoint` is of the same DC. endpoint: with generation 0 (a slot, or a service as
 * dvk_service_endpoint gives it): whoever is bound there. *out (may be NULL): the endpoint with its generation.
 * timeout_ms: as everywhere; 0: look only. Messages that come meanwhile wait; no callback is run.
 * Errors: -DVK_ETIMEDOUT; -DVK_ENOTBOUND: `from` is not ours, or `endpoint` has a generation and is gone, so that it
 * never comes again, or is of a node that the DC does not have; -DVK_ENODEUNREACH: its node is no member of the cluster,
 * or left while we waited; -DVK_ENODC; -EINVAL; -EAGAIN: 4096 waits and watches of this context; -ENOMEM; -DVK_ENODAEMON.
 */
int dvk_wait_bind(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, dvk_endpoint *out, int timeout_ms);

/*
 * dvk_wait_unbind: wait until an endpoint is gone: its process died or unbound it. 0 at once when nothing is bound
 * there. With generation 0 it is who is bound at the time of the call that is waited for. One that moves, or has a replica that
 * takes its place, is not gone. Arguments and errors as of dvk_wait_bind, but that -DVK_ENOTBOUND says only that `from` is not ours.
 */
int dvk_wait_unbind(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, int timeout_ms);

/* What dvkd knows of an endpoint. */
struct dvk_endpoint_info {
    dvk_endpoint endpoint; /* with its generation */
    uint32_t dc;
    uint32_t node;         /* where it is bound */
    uint32_t backups;      /* backups and replicas that it has (dvk/migrate.h) */
};

/*
 * dvk_info_endpoint: who is bound at an endpoint now, and where. from, endpoint: as of dvk_wait_bind. *out is written on 0.
 * Blocks until dvkd of the endpoint's node answers, at most 30 s. Errors: -DVK_ENOTBOUND: `from` is not ours, or nobody is bound
 * there; -DVK_ENODEUNREACH; -DVK_ENODC; -EINVAL; -ENOMEM; -DVK_ETIMEDOUT; -DVK_ENODAEMON.
 */
int dvk_info_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_endpoint_info *out);

#ifdef __cplusplus
}
#endif
#endif
