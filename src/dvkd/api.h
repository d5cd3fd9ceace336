/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's socket, dvs.sock: connections that carry one request each (README.md). A connection belongs to the
 * operation that handles it until that calls connection_finish or connection_fail, or is told that it is gone.
 */
#ifndef DVKD_API_H
#define DVKD_API_H

#include "common/failure.h"
#include "common/json.h"
#include "dvkd/dvkd.h"

#define API_REQUEST_MAX (256u << 10)
#define API_OUTPUT_MAX (64u << 20)
#define API_CONNECTIONS_MAX 1024u

struct api;
struct connection;

/* Listen at RUN/dvs.sock (mode 0600; root only). 0 or a negative errno. */
int api_start(struct dvkd *dvkd, struct api **out);
void api_stop(struct api *api);

struct dvkd *connection_dvkd(struct connection *connection);
/* Send one JSON object as a line; takes over the reference. */
void connection_send(struct connection *connection, json_t *json);
/* Send raw bytes. */
void connection_write(struct connection *connection, const void *data, size_t len);
/* Bytes not taken by the client yet. */
size_t connection_pending(const struct connection *connection);
/* Close it once all is sent. It must not be used any more. */
void connection_finish(struct connection *connection);
/* Send the error and finish. */
void connection_fail(struct connection *connection, const struct failure *failure);
/* Send {"ok": true} with the members of `more` (taken over; may be NULL), and finish. */
void connection_succeed(struct connection *connection, json_t *more);
/* Send where to ask instead, and finish. */
void connection_redirect(struct connection *connection, uint32_t node);
/* fn is called when the client hangs up: the connection is gone when it returns. */
void connection_on_gone(struct connection *connection, void (*fn)(void *context), void *context);
/* fn is called each time when everything was sent. NULL: not any more. */
void connection_on_drained(struct connection *connection, void (*fn)(void *context), void *context);
/* The descriptors that came with the request, made the caller's; -1 in unused places. Returns how many. */
unsigned connection_take_fds(struct connection *connection, int fds[3]);

/* One request: `request` is an object, borrowed for the call. */
typedef void api_operation(struct connection *connection, const json_t *request);
api_operation api_node_links, api_cluster_token, api_cluster_ls, api_cluster_leave; /* api_links.c, cluster.c */
api_operation api_version, api_node_ls, api_dc_ls, api_dc_inspect, api_dc_create, api_dc_run, api_dc_exec, api_dc_resize, api_dc_ps,
    api_dc_kill, api_dc_rm, api_dc_logs, api_debug_channels, api_debug_endpoints, api_debug_memory, api_debug_record, api_metrics,
    api_debug_snapshot;
api_operation api_debug_slots; /* api_slots.c */
api_operation api_debug_places; /* api_places.c */

/* The operation of that name; NULL: none. */
api_operation *api_find(const char *name);

/* api_dc.c: the DC that request's "dc" names (by name, or id as a number). NULL: the connection was answered. */
const struct config_dc *api_find_dc(struct connection *connection, const json_t *request);
/* The same for what needs its VOS: one without is refused. */
const struct config_dc *api_find_vos(struct connection *connection, const json_t *request);
/* Where to send what concerns a DC that has no part here: its primary, or another node that is up; 0: nowhere. */
uint32_t api_other_node(struct dvkd *dvkd, const struct config_dc *dc);
/* Translate an errno-like status of a control request into *failure. */
void api_control_failure(int status, struct failure *failure);

#endif
