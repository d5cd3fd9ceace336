/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk: location-transparent messages between the processes of a distributed container.
 *
 * A process opens one context (struct dvk), binds one or more endpoints in it, and then sends to and
 * receives from endpoints of its DC, wherever they run. All calls return 0 or a negative error
 * (dvk/error.h); all waits take a timeout in milliseconds (0: do not wait, -1: for ever) and end with
 * a named error when the peer dies, its node leaves or the context is closed. docs/DVK.md is the guide.
 *
 * What holds for all calls, and is not said again:
 * - Threads: a context is used by one thread at a time; several contexts may be used at once, by as many threads. The
 *   exceptions are dvk_wake, which any thread and any signal handler may call, and dvk_strerror.
 * - Callbacks (dvk_done, dvk_on_event, dvk_on_cancel, dvk_watch_fd, dvk_timer) run in the thread that is in dvk_receive,
 *   or dvk_close, never from within another call. They may call all that never blocks, and dvk_bind, dvk_unbind,
 *   dvk_find_dc and dvk_dc_nodes.
 * - fork: a child may not use its parent's contexts; it opens its own. They are closed by exec.
 * - Signals do not end waits; dvk_wake from the handler does. libdvk uses no signal itself.
 * - Pointers may not be NULL unless it is said. Arguments are not kept after the call unless it is said.
 * - A context whose dvkd has gone (-DVK_ENODAEMON) is of no more use but for dvk_close: close it and open another. So it is
 *   with one that has no memory for what dvkd says.
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
 * socket_path: dvkd's socket; NULL: $DVS_SOCKET, else /run/dvs/dvkd.sock. On success *out is a context for dvk_close.
 * It holds some descriptors and a thread of its own, which does nothing but wait for descriptors and timers.
 * Errors: -DVK_ENODAEMON (it does not run, does not answer, or refuses us: only root may connect), -DVK_EVERSION, -ENOMEM,
 * another errno of the host (-EMFILE). Blocks at most 5 s.
 */
int dvk_open(const char *socket_path, struct dvk **out);
/* dvk_open_fd: the same over a connected SOCK_SEQPACKET socket that dvkd handed out. Takes over fd, also on error. Errors: those
 * of dvk_open. */
int dvk_open_fd(int fd, struct dvk **out);
/*
 * dvk_close: unbind everything, end pending calls with -DVK_EINTERRUPTED (their `done` is called from here), and free the
 * context with all its requests, answered or not: who waits for one of these gets -DVK_EDEADDST. NULL is allowed. Does
 * not block.
 */
void dvk_close(struct dvk *dvk);

/* dvk_node: this node's id (1..DVK_MAX_NODE). */
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
 * dvk_bind: take a slot in a DC. A context may bind many, in several DCs.
 * dc: its id (dvk_find_dc). slot: DVK_SLOT_ANY: a free user slot of this node; or a user slot that this node owns; or
 * dvk_system_slot(this node, service), service 7..255 (1..6 are the VOS's own): an address that clients know beforehand.
 * *out gets the endpoint, with a generation that this slot never had before.
 * Errors: -DVK_ENODC (no such DC, or it is over), -DVK_ESLOTBUSY, -DVK_ENOSLOT (no user slot is free), -DVK_ENOTALLOWED
 * (the DC is not on this node, or the slot is not ours to take), -DVK_ENOQUORUM (see DVK_EVENT_DC_GONE), -DVK_ENODAEMON,
 * -ENOMEM. Blocks until dvkd answers, at most 30 s.
 */
int dvk_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, dvk_endpoint *out);
/*
 * dvk_unbind: give a slot back. Calls from it that are not sent yet end with -DVK_EINTERRUPTED; what others have sent to it
 * and was not received, and what they send from now on, ends with -DVK_ENOTBOUND. Requests already received can still be
 * answered.
 * Errors: -DVK_ENOTBOUND (not, or not any more, ours), -DVK_ENODAEMON. Blocks as long as dvk_bind.
 */
int dvk_unbind(struct dvk *dvk, dvk_endpoint endpoint);

/* ---- messages ---- */

/*
 * dvk_sendrec: send a request and wait for its reply.
 * from: one of our endpoints. message: the request (destination, type, payload set by the caller); it is overwritten by
 * the reply, and left alone on an error. The destination is an endpoint with its generation, or dvk_service_endpoint.
 * data/data_len: out-of-line data of the request, 0..DVK_DATA_MAX bytes (more: dvk/loan.h); copied; may be NULL, 0.
 * reply_data/reply_cap: where the reply's out-of-line data goes: at most reply_cap bytes of it; *reply_len gets its whole
 * length (may be NULL, 0, NULL).
 * timeout_ms as above; on a timeout the request is cancelled and a reply that comes late is dropped: the server may have
 * acted on it, as after every error but those marked (*).
 * Callbacks do not run meanwhile, and what others send to us waits.
 * Returns 0 when a reply came: look at message->status, which is the server's answer. Errors:
 *   -DVK_ENOTBOUND (*)     `from` is not ours, or nothing is bound at the destination (any more)
 *   -DVK_EDEADDST          the destination died, or unbound itself, before it answered
 *   -DVK_ENODEUNREACH      its node is no member of the cluster, or left while we waited
 *   -DVK_ENODC             the DC is over, or this node has lost its quorum (see DVK_EVENT_DC_GONE)
 *   -DVK_ENOTALLOWED (*)   we may not address it, e.g. it is a guest of a VOS
 *   -DVK_EMIGRATING (*)    `from` is about to move (dvk/migrate.h); or where the destination is now was not known in 5 s
 *   -DVK_EDEADLOCK (*)     it waits for us in the same way, itself or for one that does (up to 64 processes, all of this
 *                          node), or it is an endpoint of this context
 *   -DVK_ETIMEDOUT, -DVK_EBADPEER, -DVK_ENODAEMON
 *   -DVK_EMIGRATING (*)    `from` is about to move (dvk/migrate.h)
 *   -ELOOP                 it was handed on more than 16 times (dvk_relay)
 *   -EMSGSIZE (*)          data_len is more than the destination receives
 *   -EINVAL (*)            no destination, or data_len without data
 *   -EAGAIN (*), -ENOMEM (*)   too many of our calls wait for dvkd; no memory
 */
int dvk_sendrec(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data,
                size_t data_len, void *reply_data, size_t reply_cap, size_t *reply_len, int timeout_ms);

/*
 * dvk_send: rendezvous send: returns 0 when the receiver has taken the message (dvk_receive has returned it, and if it has
 * data, it was released). *message is not changed. Arguments and waiting as of dvk_sendrec, but it is never handed on.
 * Errors: -DVK_ENOTBOUND, -DVK_EDEADDST, -DVK_ENODEUNREACH, -DVK_ENODC, -DVK_ENOTALLOWED, -DVK_EDEADLOCK, -DVK_ETIMEDOUT,
 * -DVK_EBADPEER, -DVK_ENODAEMON, -DVK_EMIGRATING, -EMSGSIZE, -EINVAL, -EAGAIN, -ENOMEM, with the meaning that they have there.
 */
int dvk_send(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data,
             size_t data_len, int timeout_ms);

/*
 * dvk_notify: set bits at the destination; never blocks. Bits from one source coalesce until the
 * destination receives them as one message (type 0, notify != 0), before anything else.
 * bits: not 0. 0 does not say that they arrive: a destination that is not there, or dies before it receives, is no error.
 * Errors: -DVK_ENOTBOUND (`from` is not ours), -DVK_EMIGRATING, -EINVAL, -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_notify(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, uint64_t bits);

/*
 * dvk_call: send a request and have `done` called with its reply from within dvk_receive. Never blocks. A call whose
 * answer is never meant to come is a failure detector: it ends when the destination or its node does.
 * from, message, data, data_len as of dvk_sendrec; message and data are copied. fds: descriptors that go along, at most
 * DVK_MESSAGE_FDS, to destinations on this node only; they are taken over, also on error (NULL, 0: none).
 * done: is called exactly once if 0 was returned, and never else. context is handed to it.
 * *call (may be NULL) gets a number for dvk_cancel; it is valid until `done` is called.
 * Requests of one source to one destination arrive in the order in which they were made; replies come in any order.
 * Errors: -DVK_ENOTBOUND, -DVK_EDEADDST, -DVK_ENODEUNREACH, -DVK_ENODC, -DVK_ENOTALLOWED (also: descriptors to another
 * node), -DVK_EBADPEER, -DVK_ENODAEMON, -DVK_EMIGRATING, -EMSGSIZE, -EINVAL, -ELOOP, -EAGAIN, -ENOMEM as of a dvk_sendrec; -DVK_ETIMEDOUT (the
 * destination's VOS did not start within a minute); -DVK_EINTERRUPTED (the context was closed, `from` unbound, or the call
 * cancelled before it was received). Those that are known at once are returned, all others are given to `done`.
 *
 * done(context, status, reply, data, data_len, fds, fd_count): status is 0 when a reply came, else the negative error;
 * reply is never NULL (zeroed on error); data points to the reply's out-of-line data, in memory that the other side can
 * change: copy it out before checking it; it is valid only during the call. fds came with the reply: the callee owns them.
 */
typedef void dvk_done(void *context, int status, const struct dvk_message *reply, const void *data,
                      size_t data_len, const int *fds, unsigned fd_count);
int dvk_call(struct dvk *dvk, dvk_endpoint from, const struct dvk_message *message, const void *data,
             size_t data_len, const int *fds, unsigned fd_count, dvk_done *done, void *context,
             uint64_t *call);
/*
 * dvk_cancel: ask the destination to end a pending call early; `done` is still called, once, with what comes: the
 * destination's answer, or -DVK_EINTERRUPTED if it had not received the request yet. Never blocks. Errors: -ESRCH.
 */
int dvk_cancel(struct dvk *dvk, uint64_t call);

/* ---- receiving ---- */

/*
 * What was received. msg is a private copy, checked: msg.source is who sent it, whatever the sender wrote there, and
 * msg.data_len, msg.fds are in range; type, status and payload are the sender's. data lies in the channel and its writer
 * may change it at any time: copy it out before checking it. Both stay valid until the answer. A request belongs to its
 * context; it may be kept as long as one likes, and answered in any order. Write only to reply_data, user and user_key.
 */
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
    uint64_t group;        /* not 0: a group's message or view (dvk/group.h): which of our memberships */
    uint32_t group_event;  /* enum dvk_group_event */
};

/*
 * dvk_receive: wait for the next message to any of our endpoints, and meanwhile run completions of
 * dvk_call and fd watches. On 0, *out is a request to be ended by dvk_reply or dvk_release.
 * When a pending (unanswered) request is cancelled by its sender, its `cancelled` becomes true and
 * the function set by dvk_on_cancel is called. So it is when its sender dies; the answer then goes nowhere, but must still be
 * given. Notifications come first, then messages in the order in which they arrived. Any number of requests may be
 * unanswered at a time. The wait ends only by a message, an error or the timeout: a callback that wants to end it calls
 * dvk_wake.
 * Errors: -DVK_ETIMEDOUT, -DVK_ENODAEMON (dvkd went away), -DVK_EVERSION, -DVK_EINTERRUPTED (dvk_wake).
 */
int dvk_receive(struct dvk *dvk, struct dvk_request **out, int timeout_ms);

/*
 * dvk_reply: answer a request: status, payload and data_len of *reply are sent (data must already be in
 * req->reply_data, at most req->reply_cap bytes; of more, none are sent). fds are passed along (local requesters that used dvk_call
 * only; the caller keeps its copies; NULL, 0: none). Its other fields are ignored. May be called from a callback, at any
 * time, in any order of requests. Never blocks; frees req. A requester that is gone is no error.
 */
void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *fds,
               unsigned fd_count);
/* dvk_reply_status: the same with a status only. */
void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status);
/* dvk_release: end a received send or notification; its sender goes on. (A request is answered with -DVK_EINTERRUPTED.) */
void dvk_release(struct dvk *dvk, struct dvk_request *req);

/*
 * dvk_on_cancel: have fn called from within dvk_receive when a request that we received and did not answer yet is cancelled
 * by its sender, or its sender died. fn may answer it. One function a context; NULL: none. Never blocks.
 */
void dvk_on_cancel(struct dvk *dvk, void (*fn)(void *context, struct dvk_request *req), void *context);

/* ---- events ---- */

enum dvk_event_type {
    DVK_EVENT_ENDPOINT_GONE = 1, /* an endpoint that talked to us died (its channel is closed) */
    DVK_EVENT_NODE_UP,           /* node joined the quorate view */
    DVK_EVENT_NODE_DOWN,         /* node left it */
    DVK_EVENT_DC_GONE,           /* the DC is over, or this node has no quorum any more (a DC without a VOS that spans
                                    nodes): our endpoints in it are unbound, since the others take them for dead */
    DVK_EVENT_CONTROL,           /* a control request from dvkd: text (JSON), answer by dvk_control_reply */
    DVK_EVENT_PROMOTED = 20,    /* an endpoint that we back up is ours now (dvk/migrate.h): dc, endpoint */
    DVK_EVENT_BACKUP_GONE = 21, /* an endpoint that we backed up is no more, or this node has no quorum */
    DVK_EVENT_MIGRATE_ENDED = 22, /* the move of an endpoint of ours is over, and it goes on here */
    DVK_EVENT_LOST = 16,         /* a lock or office is not ours any more (dvk/service.h): id is its handle */
};
struct dvk_event {
    enum dvk_event_type type;
    uint32_t dc;
    uint32_t node;
    dvk_endpoint endpoint;
    uint64_t id;      /* of a control request; of a lock */
    const char *text; /* of a control request, NUL-terminated; valid during the call */
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count; /* the callee owns them */
};
/*
 * dvk_on_event: have fn called from within dvk_receive for each event. Events wait until then, those that came before it was
 * set as well if dvk_receive was not called yet: the first are DVK_EVENT_NODE_UP of the other nodes that are up. The event
 * is valid during the call. One function a context; NULL: none. Never blocks.
 */
void dvk_on_event(struct dvk *dvk, void (*fn)(void *context, const struct dvk_event *event), void *context);
/* dvk_control_reply: answer a DVK_EVENT_CONTROL with JSON text (may be done later). For a cell's servers. Never blocks.
 * Errors: -EMSGSIZE (more than 128 KiB), -DVK_ENODAEMON, -ENOMEM. */
int dvk_control_reply(struct dvk *dvk, uint64_t id, const char *text);
/* dvk_control_send: tell dvkd something unasked: JSON text, e.g. {"event":"exited","code":0}. Errors: those of
 * dvk_control_reply. */
int dvk_control_send(struct dvk *dvk, const char *text);

/*
 * dvk_watch_fd: have fn called from within dvk_receive whenever fd has one of the epoll events asked for (EPOLLIN, EPOLLOUT;
 * level-triggered; EPOLLERR and EPOLLHUP always). events 0 removes the watch (fn is ignored). A second watch of an fd
 * replaces the first. The fd must be removed before it is closed. Never blocks.
 * Errors: -EINVAL, -ENOENT (nothing to remove), -ENOMEM, or of epoll_ctl(2): -EPERM for regular files, -EBADF.
 */
int dvk_watch_fd(struct dvk *dvk, int fd, uint32_t events,
                 void (*fn)(void *context, int fd, uint32_t events), void *context);
/*
 * dvk_timer: have fn called once from within dvk_receive, delay_ms from now or somewhat later (monotonic clock). *id (may be
 * NULL) names it for dvk_timer_cancel. Timers go unfired with their context. Never blocks. Errors: -EINVAL, -ENOMEM.
 */
int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id);
/* dvk_timer_cancel: fn will not be called. One that has fired or never was is ignored. Never blocks. */
void dvk_timer_cancel(struct dvk *dvk, uint64_t id);
/*
 * dvk_wake: end the dvk_receive that waits, or else the next one, with -DVK_EINTERRUPTED; several at a time count as one.
 * The one call that any thread and any signal handler may make, while no thread closes the context.
 */
void dvk_wake(struct dvk *dvk);

/* ---- for cells: endpoints bound on behalf of processes that use the freestanding core ---- */

/*
 * dvk_guest_bind: bind a user slot in our DC for a guest process and create its channel to us.
 * slot: the slot to bind.
 * adopted: the slot belongs to another node and its process moves here.
 * done gets the endpoint, a memfd and a socket that the guest must be given (dvk/guest.h); the
 * callee owns both fds; or a negative error: -DVK_ENOTALLOWED, -DVK_ENODC, ... Does not block. Errors: -EINVAL,
 * -DVK_ENODAEMON, -ENOMEM; given to done: -DVK_ESLOTBUSY.
 */
typedef void dvk_guest_done(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd);
int dvk_guest_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, bool adopted, dvk_guest_done *done,
                   void *context);
/* The guest is gone: close its channel, end its requests, free the slot (moved: it lives on elsewhere). Does not block.
 * Errors: -DVK_ENOTBOUND (no guest of ours). */
int dvk_guest_unbind(struct dvk *dvk, dvk_endpoint endpoint, bool moved);
/* The doorbell page's memfd, which each guest of ours maps (kept open by libdvk). Errors: none. */
int dvk_doorbell_fd(const struct dvk *dvk);

#ifdef __cplusplus
}
#endif
#endif
