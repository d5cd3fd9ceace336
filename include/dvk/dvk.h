/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk: location-transparent messages between the processes of a distributed container.
 *
 * A process opens one context (struct dvk), binds one or more endpoints in it, and then sends to and
 * receives from endpoints of its DC, wherever they run. All calls return 0 or a negative error
 * (dvk/error.h); all waits take a timeout in milliseconds (0: do not wait, -1: for ever) and end with
 * a named error when the peer dies, its node leaves or the context is closed.
 *
 * Threads: a context is used by one thread at a time. Several contexts may be used at once.
 */
#ifndef DVK_DVK_H
#define DVK_DVK_H

#include <dvk/endpoint.h>
#include <dvk/error.h>
#include <dvk/message.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dvk;         /* a process's connection to the DVK */
struct dvk_request; /* a message that was received and wants an answer */

/* ---- context ---- */

/*
 * dvk_open: connect to the node's dvkd.
 * socket_path: dvkd's socket; NULL: $DVS_SOCKET, else /run/dvs/dvkd.sock.
 * Errors: -DVK_ENODAEMON, -DVK_EVERSION, -ENOMEM. Blocks at most 5 s.
 */
int dvk_open(const char *socket_path, struct dvk **out);
/* The same over a connected SOCK_SEQPACKET socket that dvkd handed out. Takes over fd. */
int dvk_open_fd(int fd, struct dvk **out);
/* Unbinds everything, ends pending calls with -DVK_EINTERRUPTED, frees (requests not yet answered too). NULL is allowed. */
void dvk_close(struct dvk *dvk);

/* This node's id (1..DVK_MAX_NODE). */
uint32_t dvk_node(const struct dvk *dvk);

/* ---- distributed containers ---- */

/*
 * dvk_find_dc: the id of a DC by its name, or by its id in decimal digits. name: 1..63 bytes. *dc is set on success.
 * Errors: -DVK_ENODC (there is none of that name, or nothing may run in it), -DVK_ENOTALLOWED (a cell's own servers know
 * their DC), -DVK_ENODAEMON, -EINVAL, -ENOMEM. Blocks at most 5 s.
 */
int dvk_find_dc(struct dvk *dvk, const char *name, uint32_t *dc);

/*
 * dvk_dc_nodes: the ids of the nodes that a DC spans, ascending, whether they are up or not (see DVK_EVENT_NODE_UP).
 * nodes: gets the first cap of them; may be NULL if cap is 0. Returns how many there are in all.
 * Errors: -DVK_ENODC, -DVK_ENOQUORUM, -DVK_ENODAEMON, -ENOMEM. Blocks at most 5 s.
 */
int dvk_dc_nodes(struct dvk *dvk, uint32_t dc, uint32_t *nodes, size_t cap);

/* ---- binding ---- */

/*
 * dvk_bind: take a slot in a DC. slot: a slot number or DVK_SLOT_ANY. *out gets the endpoint.
 * Errors: -DVK_ENODC, -DVK_ESLOTBUSY, -DVK_ENOSLOT, -DVK_ENOTALLOWED, -DVK_ENODAEMON.
 */
int dvk_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, dvk_endpoint *out);
int dvk_unbind(struct dvk *dvk, dvk_endpoint endpoint);

/* ---- messages ---- */

/*
 * dvk_sendrec: send a request and wait for its reply.
 * from: one of our endpoints. message: the request (destination, type, payload set by the caller); it
 * is overwritten by the reply. data/data_len: out-of-line data of the request (copied; may be NULL, 0).
 * reply_data/reply_cap: where the reply's out-of-line data goes; *reply_len gets its length (may be
 * NULL, 0, NULL). timeout_ms as above; on timeout or interruption the request is cancelled and a
 * reply that comes late is dropped.
 * Returns 0 when a reply came (look at message->status), else a negative error.
 */
int dvk_sendrec(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data,
                size_t data_len, void *reply_data, size_t reply_cap, size_t *reply_len, int timeout_ms);

/* dvk_send: rendezvous send; returns when the receiver has taken the message. Arguments as dvk_sendrec. */
int dvk_send(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data,
             size_t data_len, int timeout_ms);

/*
 * dvk_notify: set bits at the destination; never blocks. Bits from one source coalesce until the
 * destination receives them as one message (type 0, notify != 0).
 */
int dvk_notify(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, uint64_t bits);

/*
 * dvk_call: send a request and have `done` called with its reply from within dvk_receive.
 * done(context, status, reply, data, data_len): status is 0 when a reply came, else the negative
 * error; reply is never NULL (zeroed on error); data points to the reply's out-of-line data and is valid
 * only during the call; fds came with the reply: the callee owns them. Does not block. fds: taken over, sent along (local destinations only).
 * *call (may be NULL) gets a number for dvk_cancel.
 */
typedef void dvk_done(void *context, int status, const struct dvk_message *reply, const void *data,
                      size_t data_len, const int *fds, unsigned fd_count);
int dvk_call(struct dvk *dvk, dvk_endpoint from, const struct dvk_message *message, const void *data,
             size_t data_len, const int *fds, unsigned fd_count, dvk_done *done, void *context,
             uint64_t *call);
/* Ask the destination to end a pending call early; `done` is still called, once, with what comes. */
int dvk_cancel(struct dvk *dvk, uint64_t call);

/* ---- receiving ---- */

/* What was received. msg is a private copy, checked; data lies in the channel and its writer may
 * change it at any time: copy it out before checking it. Both stay valid until the answer. */
struct dvk_request {
    struct dvk_message msg;
    uint32_t dc;           /* DC of source and destination */
    const void *data;      /* msg.data_len bytes */
    void *reply_data;      /* room for the reply's out-of-line data, reply_cap bytes */
    uint32_t reply_cap;
    bool wants_reply;      /* made by sendrec or call: dvk_reply must be called once.
                              false: a send or notification: dvk_reply must not be called;
                              dvk_release frees it */
    bool cancelled;        /* the sender asked to end it early; answer soon */
    bool local;            /* the source is on this node (file descriptors can be passed) */
    uint32_t source_node;  /* node of the source */
    int fds[DVK_MESSAGE_FDS]; /* what came along; the receiver owns them; -1 in unused places */
    unsigned fd_count;
    void *user;            /* the receiver's own */
    uint64_t user_key;
};

/*
 * dvk_receive: wait for the next message to any of our endpoints, and meanwhile run completions of
 * dvk_call and fd watches. On 0, *out is a request to be ended by dvk_reply or dvk_release.
 * When a pending (unanswered) request is cancelled by its sender, its `cancelled` becomes true and
 * the function set by dvk_on_cancel is called.
 * Errors: -DVK_ETIMEDOUT, -DVK_ENODAEMON (dvkd went away), -DVK_EINTERRUPTED (dvk_wake).
 */
int dvk_receive(struct dvk *dvk, struct dvk_request **out, int timeout_ms);

/*
 * dvk_reply: answer a request: status, payload and data_len of *reply are sent (data must already be in
 * req->reply_data). fds are passed along (local requesters only; the caller keeps its copies).
 * Never blocks; frees req. A requester that is gone is no error.
 */
void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *fds,
               unsigned fd_count);
/* The same with a status only. */
void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status);
/* End a received send or notification. */
void dvk_release(struct dvk *dvk, struct dvk_request *req);

void dvk_on_cancel(struct dvk *dvk, void (*fn)(void *context, struct dvk_request *req), void *context);

/* ---- events ---- */

enum dvk_event_type {
    DVK_EVENT_ENDPOINT_GONE = 1, /* an endpoint that talked to us died (its channel is closed) */
    DVK_EVENT_NODE_UP,           /* node joined the quorate view */
    DVK_EVENT_NODE_DOWN,         /* node left it */
    DVK_EVENT_DC_GONE,           /* the DC is over, or this node has no quorum any more (a DC without a VOS that spans
                                    nodes): our endpoints in it are unbound, since the others take them for dead */
    DVK_EVENT_CONTROL,           /* a control request from dvkd: text (JSON), answer by dvk_control_reply */
};
struct dvk_event {
    enum dvk_event_type type;
    uint32_t dc;
    uint32_t node;
    dvk_endpoint endpoint;
    uint64_t id;      /* of a control request */
    const char *text; /* of a control request, NUL-terminated; valid during the call */
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count; /* the callee owns them */
};
void dvk_on_event(struct dvk *dvk, void (*fn)(void *context, const struct dvk_event *event), void *context);
/* Answer a DVK_EVENT_CONTROL with JSON text (may be done later). */
int dvk_control_reply(struct dvk *dvk, uint64_t id, const char *text);
/* Tell dvkd something unasked: JSON text, e.g. {"event":"exited","code":0}. */
int dvk_control_send(struct dvk *dvk, const char *text);

/* Have fn called from within dvk_receive when fd has the epoll events asked for (level-triggered).
 * events 0 removes the watch. The fd must be removed before it is closed. */
int dvk_watch_fd(struct dvk *dvk, int fd, uint32_t events,
                 void (*fn)(void *context, int fd, uint32_t events), void *context);
/* Have fn called once from within dvk_receive after delay_ms. *id names it for dvk_timer_cancel. */
int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id);
void dvk_timer_cancel(struct dvk *dvk, uint64_t id);
/* End a dvk_receive with -DVK_EINTERRUPTED; the one call that any thread or signal handler may make. */
void dvk_wake(struct dvk *dvk);

/* ---- for cells: endpoints bound on behalf of processes that use the freestanding core ---- */

/*
 * dvk_guest_bind: bind a user slot in our DC for a guest process and create its channel to us.
 * `as`: the endpoint of ours that stands at our end for event purposes. slot: the slot to bind.
 * adopted: the slot belongs to another node and its process moves here.
 * done gets the endpoint, a memfd and a socket that the guest must be given (dvk/guest.h); the
 * callee owns both fds. Does not block.
 */
typedef void dvk_guest_done(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd);
int dvk_guest_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, bool adopted, dvk_guest_done *done,
                   void *context);
/* The guest is gone: close its channel, end its requests, free the slot (moved: it lives on elsewhere). */
int dvk_guest_unbind(struct dvk *dvk, dvk_endpoint endpoint, bool moved);
/* The doorbell page's memfd, which each guest of ours maps (kept open by libdvk). */
int dvk_doorbell_fd(const struct dvk *dvk);

#ifdef __cplusplus
}
#endif
#endif
