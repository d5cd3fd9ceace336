/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk for a proxy: a context that carries messages for endpoints that are not its own. Exported for dvs-proxy only.
 *
 * dvk_receive then returns requests for any destination (msg.source is checked, dc is set). All of them, sends and
 * notifications included, are unanswered until dvk_reply: a send's sender waits until the far side has taken it.
 * Threads: callbacks of dvk_watch_fd are called in the poller's thread while the main thread sleeps in dvk_receive;
 * never both at once, so callbacks and main thread need no locks between them, but nothing of one thread (credentials,
 * thread-local variables) may be relied upon. Otherwise as dvk.h.
 */
#ifndef DVK_RELAY_H
#define DVK_RELAY_H

#include <dvk/dvk.h>

/* Make the context a relay; right after dvk_open, before anything else. The calling thread is the main thread. */
void dvk_relay_enable(struct dvk *dvk);

/* Was it made by send or notify (its answer is a status only)? */
bool dvk_relay_is_send(const struct dvk_request *req);

/*
 * dvk_call_as, dvk_send_as: dvk_call on behalf of a remote source; send: done is called when the destination has taken
 * it. message: source and destination set by the caller, who vouches for the source, reserved = the source's node
 * | bytes that the reply may have, if more than the data, << 32; status = the revision of its destination that its source
 * knows; notify is kept for sends, and with DVK_MSG_RESUMED. Errors as dvk_call.
 */
int dvk_call_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call);
int dvk_send_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call);

/*
 * The status of a DVK_MSG_ERROR reply with which a request is handed on: words[0] of the payload is the endpoint that is
 * to answer it. Only a relay sees it, and passes it on with the payload; see follow.c.
 */
#define DVK_ERELAYED 2017
/*
 * The same where the destination has moved: words of the payload. MARK is 1 then. The source makes the message again at
 * the same endpoint (TO), once its dvkd knows that revision.
 */
enum {
    DVK_MOVED_TO = 0,
    DVK_MOVED_REVISION = 1,
    DVK_MOVED_RESUMED = 2, /* not 0: the old place has received it, and named it by KEY */
    DVK_MOVED_KEY = 3,     /* a notification's: its bits, from a proxy */
    DVK_MOVED_MARK = 4,
};
/* Flag of a request: RESUMED, `notify` is the key. */
#define DVK_MSG_RESUMED (1u << 2)

/* The revision of its destination that a request's source knows. */
uint32_t dvk_relay_revision(const struct dvk_request *req);
/* Send it back: its source is to ask dvkd again, for at least that revision. Frees req. */
void dvk_relay_moved(struct dvk *dvk, struct dvk_request *req, uint32_t revision);

/* Handle now what dvkd has sent so far, events included. From the main thread, between dvk_receives. */
void dvk_relay_catch_up(struct dvk *dvk);

/* Answer without a reply of the destination: its requester's call ends with `error` (negative). Frees req. */
void dvk_reply_error(struct dvk *dvk, struct dvk_request *req, int error);

/*
 * dvk_relay_watch: ask dvkd to tell when an endpoint of this node goes, or with flag DVK_BROKER_F_BOUND when it is bound
 * (DVK_BROKER_WATCH). fn is called once with the answer's status and the endpoint in full, in whichever thread reads
 * dvkd's packets, perhaps before this returns; also when dvkd goes. *id names it for dvk_relay_unwatch. 0 or a negative
 * error, and then fn is not called.
 */
typedef void dvk_relay_told(void *context, int status, dvk_endpoint endpoint);
int dvk_relay_watch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t flags, dvk_relay_told *fn,
                    void *context, uint64_t *id);
/* Take it back: fn is still called, once. Arguments as they were. */
void dvk_relay_unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint64_t id);

/*
 * dvk_relay_stats: ask dvkd for statistics of this node (DVK_BROKER_STATS). fn is called once with the answer's status and
 * text, which is valid during the call, as of dvk_relay_watch. 0 or a negative error, and then fn is not called.
 */
typedef void dvk_relay_counted(void *context, int status, const void *text, size_t len);
int dvk_relay_stats(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t question, dvk_relay_counted *fn,
                    void *context);

/*
 * dvk_relay_privileges: ask dvkd for the privileges of an endpoint of this node, or with `new` (a struct dvk_privileges) to set
 * them on behalf of a remote endpoint that may. fn is called once with the answer's status and, if that is 0, the
 * privileges (borrowed), as of dvk_relay_watch. 0 or a negative error, and then fn is not called.
 */
typedef void dvk_relay_privileges_told(void *context, int status, const void *privileges);
int dvk_relay_privileges(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, const void *new,
                         dvk_relay_privileges_told *fn, void *context);

/* Event of a relay only: somebody here wants to reach event.endpoint of event.dc, which lives on event.node (0: where
 * its system slot says). DVK_EVENT_NODE_UP's text is the node's "address:port". */
#define DVK_EVENT_ROUTE ((enum dvk_event_type)100)

#endif
