/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of libdvk share. Nothing outside this folder includes it.
 *
 *   context.c    open, close, binding              call.c      requests that we make, completions
 *   broker.c     packets to and from dvkd          sync.c      sendrec and send: calls that are waited for
 *   route.c      (DC, from, to) -> channel         receive.c   the wait, the scan, what is handed out
 *   channel.c    attach, slots, close              reply.c     requests that we got: answer, cancel, drop
 *   fdpass.c     descriptors beside messages       loopback.c  messages within the process
 *   poller.c     fds and the thread that polls     timer.c     timers
 *   guest.c      guests' channels                  error.c     texts
 *   filter.c     receiving from one source         watch.c     endpoints that come and go
 *   follow.c     requests that are handed on       waits.c     who waits for whom: circles
 *   loan.c       runs of slots for long messages, loans
 *   peers.c      who is at a channel's other end
 *   post.c       one-way messages                  spin.c      waiting for, and writing to, another CPU
 *   quick.c      sendrec answered at once
 *   vcopy.c      grants, arenas, copies              stats.c     what endpoints count
 *   migrate.c    endpoints of ours that move         settle.c    destinations that move
 *   privilege.c  what peers may do
 *
 * One thread uses a context, but for dvk_wake and the poller thread, which touch only `wake`, `fds_ready` and the
 * doorbell. Ownership: the context owns channels, routes, calls and requests. A channel stays mapped while a request
 * taken from it is unanswered or a completion's data lies in it (channel.references).
 */
#ifndef DVK_INTERNAL_H
#define DVK_INTERNAL_H

#include "dvk/broker.h"
#include "dvk/copier.h"
#include "dvk/futex.h"
#include "dvk/list.h"
#include "dvk/ring.h"

#include <dvk/dvk.h>
#include <dvk/privilege.h>
#include <dvk/stats.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#define BUCKETS 1024u
#define MAPPED_BUCKETS 64u
#define SLOT_WORDS (DVK_CHANNEL_MAX_SLOTS / 64)
#define NS_PER_MS 1000000ll
#define NOTES_MAX 8u

struct call;
struct request;

enum fds_ready { FDS_NEWS = 1, FDS_GLANCED = 2 };

/* How often one way of waiting awake is tried: see spin.c. */
struct effort {
    unsigned skip; /* waits left before it is tried again */
    unsigned rest; /* so many are left after the next failure, half of it */
    unsigned successes, slow;
    int64_t pause_ns, paused_until; /* when the CPU is wanted by others; 0: it is not */
};
/* Of one waiter: for a peer on another CPU, on the same one. */
struct spin {
    struct effort poll, yield;
};

/* Descriptors of a message whose turn has not come yet. */
struct aside {
    struct link link;
    struct dvk_fd_packet packet;
    unsigned count;
    int fds[DVK_MESSAGE_FDS];
};

/* A quick post that the peer has not taken: see post.c. */
struct posted {
    uint32_t slot, sequence;
    uint32_t position; /* of ring.tail, once it is taken */
    dvk_endpoint from, to;
};

/* Privileges that dvkd told of, in order: see privilege.c. */
struct known_privileges {
    struct dvk_privileges what;
    uint64_t refused, tell_at; /* messages; dvkd is told at the latter */
};

struct channel {
    struct link link;        /* dvk.channels */
    struct link number_link; /* dvk.numbers */
    struct link bit_link;    /* dvk.by_bit[bit] */
    struct link more;        /* dvk.more: its ring may have entries though its bit is not set */
    struct link routes;      /* struct route.of_channel */
    struct link queue;       /* calls that wait for a slot, in order */
    struct link asides;
    unsigned aside_fds; /* descriptors in them */
    uint64_t number;    /* dvkd's */
    uint32_t dc;
    int side;
    bool proxy; /* the peer is a proxy: it vouches for sources */
    bool judged; /* there are privileges that its messages may not accord with */
    uint32_t place; /* the peer's, in the DC's table of waits; 0: none */
    bool guest;
    bool ended;      /* dvkd said so */
    bool closed;     /* no longer used; lives on for its references */
    int gone_status; /* what calls on it end with when the peer is gone */
    unsigned references;
    struct dvk_channel_view view;
    int socket;
    struct dvk_doorbell *peer_bell; /* NULL: a guest, which has none */
    uint32_t bit;                   /* in our doorbell */
    uint32_t taken;                 /* of the peer's ring */
    uint32_t next_sequence;         /* of our requests */
    unsigned sync_requests;         /* its unanswered requests whose sender blocks until the answer */
    uint32_t cpu_told;              /* what header.cpu says of us */
    int64_t stalled_until;          /* not 0: head of its ring has an unknown source; ns */
    struct spin spin;
    dvk_endpoint *peers; /* who is at the other end: see peers.c */
    uint32_t peer_count, peer_cap, peer_places;
    struct known_privileges **peer_privileges; /* by index in peers; NULL: all have all */
    uint32_t *peer_table; /* by hash: index in peers + 1; NULL: there are few */
    struct link left;     /* struct left_peer: who was there, and moved away */
    uint64_t free_map[SLOT_WORDS];   /* own slots not in use */
    uint32_t free_from;              /* no word of it before this one has any */
    uint64_t back_map[SLOT_WORDS];   /* own slots whose completion the scan looks for */
    uint64_t cancel_map[SLOT_WORDS]; /* own slots with a cancellation that the peer had not taken */
    uint32_t *cancel_at;             /* its position, by own slot; NULL until there is one */
    uint32_t last_own, last_peer;    /* slots of the last request that we made, that we took */
    struct {
        dvk_endpoint source, destination, full;
        struct dvk_stats *stats; /* its destination's */
        uint32_t revision;    /* of the destination */
        uint32_t own_changes; /* it holds while dvk.own_changes is this */
    } last_pair; /* of the last message that was taken: its source is known, its destination ours. source DVK_NONE: none */
    struct call **calls;             /* by own slot */
    struct request **requests;       /* by the peer's slot: taken, unanswered */
    struct posted *posts;            /* our quick posts, a ring of as many as own slots; NULL: there was none */
    uint32_t post_first, post_count, post_work;
    size_t posted_bytes; /* data of other posts that are under way */
    uint32_t posts_ready; /* of the peer's quick posts, those that wait to be handed out */
    uint32_t posts_untold; /* taken since their sender was last told that there is room */
    bool posts_stopped;   /* so many that the scan stopped before the next */
    bool ring_emptied;    /* the last scan has taken all that was in its ring */
};

/* An endpoint that was at the other end: what it had sent by then still counts. */
struct left_peer {
    struct link link; /* channel.left */
    dvk_endpoint peer;
    uint32_t until; /* position in its ring */
    struct known_privileges *privileges; /* NULL: all */
};

/* An endpoint that has moved elsewhere, as dvkd told. */
struct moved {
    struct link link; /* dvk.moved */
    uint32_t dc, revision;
    dvk_endpoint endpoint;
};

/* The way to a destination: made on first use by CONNECT, forgotten when its channel closes. */
struct route {
    struct link bucket;
    struct link of_channel;
    struct link of_own; /* own_endpoint.routes */
    struct link queue; /* calls that wait for the answer to CONNECT */
    uint32_t dc;
    dvk_endpoint from; /* DVK_NONE: on behalf of others (proxy) */
    dvk_endpoint to;
    dvk_endpoint full;       /* to, with its generation if dvkd knows it */
    struct channel *channel; /* NULL: connecting */
    struct call *notify;     /* the last notification under way, or NULL */
    uint64_t notify_bits;    /* not sent yet */
    uint64_t notes[NOTES_MAX]; /* ids of earlier ones that the peer has taken, perhaps not answered; 0: none */
    uint32_t revision;         /* of the destination, as of its channel */
    uint32_t wanted, asked;    /* the least revision that will do; what dvkd was asked for */
    struct link of_moving;     /* dvk.moving, while it moves: see settle.c */
    struct channel *old;       /* then: where it went before; held */
    struct channel *next;      /* then: where it will go, once dvkd has told; of_channel is that one's */
};

/* The way that the last message of dvk_post or dvk_sendrec took, found again without a search. Forgotten when its route ends,
 * and when an endpoint of ours is bound, to which its destination might lead from then on. */
struct way {
    dvk_endpoint from, to;
    struct own_endpoint *own;
    struct route *route; /* NULL: none */
};

enum call_state {
    CALL_NEW,
    CALL_QUEUED,    /* in a route's or channel's queue */
    CALL_SENT,      /* has a slot */
    CALL_LOOPED,    /* a request within the process */
    CALL_COMPLETED, /* in dvk.completed, or for its waiter */
};

struct call {
    struct link link; /* route.queue, channel.queue or dvk.completed */
    uint64_t id;
    enum call_state state;
    uint32_t kind;  /* DVK_SLOT_SENDREC or DVK_SLOT_SEND */
    bool waited;    /* by sync.c: not run from the completion list */
    bool abandoned; /* nobody wants the result */
    bool cancelled;
    bool posted; /* counted in channel.posted_bytes */
    bool note;   /* a notification */
    bool lent; /* its data is a loan: it has its channel and slots from the start, and nothing is copied */
    uint32_t dc;
    dvk_endpoint from;
    dvk_endpoint full;          /* the destination as it is known */
    struct dvk_message message; /* request; then reply */
    void *data;                 /* request's, while it is queued; loopback: reply's when completed */
    size_t data_len;
    int fds[DVK_MESSAGE_FDS]; /* the request's until sent, then the reply's */
    unsigned fd_count;
    dvk_done *done;
    void *context;
    int status;
    const void *reply_data;
    size_t reply_len;
    struct channel *channel; /* SENT, and COMPLETED while it holds slots and reference */
    struct route *route;     /* notifications only */
    struct request *looped;
    uint32_t slot, sequence;
    uint32_t position; /* in the ring of our side: passed once the peer has taken it in */
    uint32_t revision; /* of the destination, as it was sent; a relay's: as its source knows it */
    bool again;        /* it came back; sequence is that of then */
    bool resumed;      /* an earlier place of the destination had received it, and named it by `key` */
    uint64_t key;
    unsigned hops; /* how often it was handed on */
    uint32_t span;       /* slots in its run */
    uint32_t reply_room; /* bytes that its reply may have, if more than its data */
    struct dvk_stats *stats; /* where its end is counted; NULL: nowhere, or by who waits for it */
    struct call *next_free;
    bool spun; /* it has been waited for awake */
};

/* Waiting messages to one of our endpoints from one source (DVK_ANY: from all): see filter.c. */
struct inbox {
    struct link bucket;
    dvk_endpoint to, from;
    struct link notes, messages; /* struct request.filed[].line, in order of arrival */
    struct link requests;        /* struct request.filed[].request_line: those that want a reply */
    unsigned waiting;            /* filtered receives that wait at it */
    bool watched;                /* dvkd has been asked to tell when `from` goes: see watch.c */
    bool watch_stops;            /* that is no longer wanted */
    uint64_t watch_id, watch_call; /* of that question: at dvkd, or at the other node's */
    int gone;                    /* why waiting for it is in vain, once that is told; 0: it is not */
};

/* Where a waiting message stands in an inbox; inbox NULL: nowhere. */
struct filing {
    struct inbox *inbox;
    struct link line, request_line;
};

/* What a receive lets through. */
struct filter {
    struct inbox *inbox;
    bool requests; /* only those that want a reply */
};
/* Buffers of a run that was freed and that still use memory. */
struct warm {
    struct channel *channel;
    uint32_t slot, span;
    size_t bytes;
};
#define WARM_REGIONS 16u

enum request_state {
    REQUEST_READY, /* in dvk.ready, dvk.ready_notes, dvk.filed or dvk.filed_notes */
    REQUEST_TAKEN, /* handed out by dvk_receive */
};

struct request {
    struct dvk_request public; /* first */
    struct link link;          /* ready or filed list; dvk.notices while a cancellation is to be told */
    struct link all;           /* dvk.requests */
    bool fds_used;             /* public.fds may hold something else than -1 */
    enum request_state state;  /* request_new clears from here to `filed` */
    uint32_t kind;
    struct channel *channel; /* NULL: loopback; holds a reference */
    bool detached;           /* the requester is gone: an answer goes nowhere */
    bool sync;               /* counted in channel.sync_requests */
    bool in_header;          /* a notification from header.notify: it has no slot */
    uint32_t slot, sequence;
    struct call *looped; /* loopback: the call it came from, NULL when that was given up */
    bool is_loopback;
    bool finished;     /* a send that was answered when it was taken */
    bool resumed;      /* handed on by an earlier place of its destination, under `key` */
    uint64_t key;      /* that, or what it is to be handed on under */
    uint32_t revision; /* of its destination, as its source knows it */
    void *data_buffer; /* loopback */
    void *reply_buffer;
    struct dvk_stats *stats; /* of its destination; never NULL */
    struct filing filed[2]; /* by destination; by destination and source. Both or none: filed[0].inbox */
};

struct own_endpoint {
    struct link bucket;
    uint32_t dc;
    dvk_endpoint endpoint;
    struct link routes; /* struct route.of_own: from it */
    struct known_privileges *privileges; /* NULL: all */
    int post_error; /* of an earlier post, to be told */
    uint32_t revision; /* of its last move to us; 0: it never moved */
    bool frozen;       /* about to move: what is for it waits in dvk.parked */
    uint64_t own_grant; /* of all our memory to itself, by process own_grant_pid; 0: none yet */
    int own_grant_pid;
    struct dvk_stats *stats; /* never NULL */
    uint32_t stats_place;    /* in the page; 0: none */
};

struct guest {
    struct link bucket;
    uint32_t dc;
    dvk_endpoint endpoint;
    struct channel *channel;
};

struct dvk_slots_event;

/* A packet to or from dvkd that waits. */
struct packet {
    struct link link;
    struct dvk_broker_packet head;
    char *text; /* NUL-terminated, or NULL */
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count;
    void *fn, *context; /* an answer that is told from dvk_receive: the user's function */
};

/* slots.c: an event of slots, from broker_run_events. */
void slots_event(struct dvk *dvk, const struct packet *packet);

/* An answer that is awaited. answered(): takes packet->fds over; the packet is its caller's. */
struct awaited {
    struct link link;
    uint64_t id;
    void (*answered)(struct dvk *dvk, struct awaited *awaited, struct packet *packet);
    void *a, *b; /* the handler's */
};

struct watch {
    void (*fn)(void *context, int fd, uint32_t events);
    void *context;
    uint32_t events; /* 0: none */
    uint32_t generation;
};

struct timer {
    int64_t at_ns;
    uint64_t id;
    void (*fn)(void *context);
    void *context;
};

struct dvk {
    /* dvkd */
    int broker_fd;
    bool broker_gone;
    int broker_error; /* why, if it was not just its end */
    uint32_t node;
    uint64_t next_id;
    struct link awaited;
    struct link outgoing; /* packets the socket had no room for */
    struct link events;   /* packets to be told of from dvk_receive */
    char *packet_buffer;

    /* what we are */
    bool relay;           /* a proxy: see relay.h */
    pthread_mutex_t turn; /* relay: held by the thread that uses the context; the other one sleeps or waits for it */
    struct link own[BUCKETS];
    unsigned own_count;
    bool own_judged;       /* of some the privileges are, or were, not all */
    const uint32_t *epoch; /* counts changes of privileges: see privilege.c */
    uint32_t epoch_seen;
    uint32_t own_changes; /* how often one was bound or unbound, came, went or was frozen, here or at a peer */
    struct link guests[BUCKETS];
    unsigned guest_count;

    /* channels */
    struct link channels;
    struct link numbers[BUCKETS];
    struct link wait_tables; /* struct waits: see waits.c */
    struct link *by_bit; /* DVK_DOORBELL_BITS lists */
    unsigned next_bit;
    struct link more;
    struct link routes[BUCKETS];
    struct way way;
    struct link moving; /* struct route.of_moving */
    struct link moved;  /* struct moved */
    struct link parked; /* requests for frozen endpoints of ours, in order */
    struct link spares; /* struct spare: see migrate.c */
    unsigned frozen_count;
    unsigned moves; /* times that a route has begun to move */
    int route_error; /* why the last one could not be made */
    int doorbell_fd;
    struct dvk_doorbell *doorbell;
    uint32_t seen; /* doorbell word before the last scan */
    uint32_t cpu;
    unsigned cpu_count;
    int64_t next_scan; /* of all channels */
    bool active;       /* something came since then */
    unsigned work;     /* calls of dvk_receive since the clock was read */
    struct spin spin;
    uint32_t last_cpu; /* CPU + 1 of the last request's sender */
    struct channel *last_channel; /* of the last message */
    bool awake;     /* the last wait ended without sleep */
    bool bits_left; /* the doorbell's bits of last_channel may be set, though nothing is to be done: see bell_may_stay */

    /* calls and requests */
    struct call **calls; /* by index: low 24 bits of the id - 1 */
    uint32_t *call_generation;
    uint32_t call_cap, call_free_count;
    uint32_t *call_free;
    struct link completed;
    struct link ready_notes, ready; /* requests to hand out */
    struct link filed_notes, filed; /* the older of them, once there was a filter: see filter.c */
    struct link *inboxes;           /* BUCKETS lists; NULL until there was a filter */
    struct link notices;            /* requests whose cancellation is to be told */
    struct link requests;           /* all that are not free */
    struct link free_requests;
    unsigned free_request_count;
    struct call *free_calls; /* by call.next_free */
    unsigned free_call_count;

    /* long messages */
    struct link loans;
    uint32_t accepts;               /* bytes of the longest message that is handed out */
    struct warm warm[WARM_REGIONS]; /* oldest first */
    unsigned warm_count;
    size_t warm_bytes;

    /* grants: see vcopy.c */
    struct link arenas;
    struct link mapped[MAPPED_BUCKETS];
    bool mapped_gone; /* grants of some have ended */
    dvk_copier_told *on_grant; /* the copier's */
    void *on_grant_context;

    /* what endpoints count: see stats.c */
    struct dvk_stats *stats_page; /* NULL: there is none */
    uint32_t *stats_free;         /* places that are free below stats_used */
    uint32_t stats_free_count, stats_free_cap, stats_used;
    struct dvk_stats uncounted; /* where those count who have no place */

    struct link endpoint_watches; /* detector.c */
    /* groups and services: see service_internal.h */
    struct link service_things;
    uint32_t service_untaken; /* messages of groups in the ready lists */
    uint32_t service_taken;   /* handed out, and dvkd was not told yet */

    /* callbacks */
    void (*on_cancel)(void *context, struct dvk_request *req);
    void *on_cancel_context;
    void (*on_event)(void *context, const struct dvk_event *event);
    void *on_event_context;
    void (*slots_fn)(void *context, const struct dvk_slots_event *event);
    void *slots_context;

    /* fds, timers, wake */
    int epoll_fd, stop_fd;
    pthread_t poller;
    /* Ticks: see wait_word in poller.c. Both threads use these, atomically. */
    bool ticking;
    int64_t tick_ns;      /* time of the last tick */
    int64_t alarm_ns;     /* when the main thread, in an untimed wait, wants to be woken; INT64_MAX: it is not in one */
    uint32_t *wait_word;  /* what it waits on, if that is not the doorbell */
    uint32_t waits;       /* untimed waits so far */
    unsigned timed_waits; /* since the last idle scan */
    bool poller_runs;
    uint32_t fds_ready; /* futex; not 0: the poller has seen something and waits until it is 0 */
    uint32_t wake;
    bool stopping;
    struct watch *watches;
    size_t watch_cap;
    unsigned watch_count;
    struct timer *timers; /* binary heap by time */
    size_t timer_count, timer_cap;
    int64_t sleeping_until; /* the main thread's next timer or deadline as it fell asleep */
    uint64_t next_timer;
};

static inline int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}
/* End of a wait: ns of the monotonic clock; INT64_MAX: never. */
static inline int64_t deadline_of(int timeout_ms) {
    return timeout_ms < 0 ? INT64_MAX : now_ns() + timeout_ms * NS_PER_MS;
}
static inline uint32_t bucket_of(uint64_t a, uint64_t b) {
    uint64_t h = (a ^ (b << 29) ^ (b >> 35)) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 40) % BUCKETS;
}
static inline void map_set(uint64_t *map, uint32_t i) {
    map[i / 64] |= 1ull << (i % 64);
}
static inline void map_clear(uint64_t *map, uint32_t i) {
    map[i / 64] &= ~(1ull << (i % 64));
}
static inline bool map_has(const uint64_t *map, uint32_t i) {
    return map[i / 64] >> (i % 64) & 1;
}

void close_fds(int *fds, unsigned count); /* closes and sets to -1 */

/* stats.c */
/* An endpoint is about to be bound: its place is added to the question. Bound: its page may be in the answer. */
void stats_bind(struct dvk *dvk, struct own_endpoint *own, struct dvk_broker_packet *ask);
void stats_bound(struct dvk *dvk, struct own_endpoint *own, const struct packet *answer);
/* It has moved here. */
void stats_arrived(struct dvk *dvk, struct own_endpoint *own);
/* It goes, or was not bound after all; what is under way for it is counted no more. */
void stats_unbind(struct dvk *dvk, const struct own_endpoint *own);
void stats_close(struct dvk *dvk);
void stats_error(struct dvk_stats *stats, int error);
/* A sendrec, call or send has ended. */
static inline void stats_end(struct dvk_stats *stats, int error) {
    if (error == 0)
        stats->completed++;
    else
        stats_error(stats, error);
}

/* context.c */
struct own_endpoint *own_find(struct dvk *dvk, dvk_endpoint endpoint);
/* Is `to` (generation 0: any) one of ours in that DC? *full gets it whole. */
bool own_resolve(struct dvk *dvk, uint32_t dc, dvk_endpoint to, dvk_endpoint *full);
/* The same: the endpoint, or NULL. */
struct own_endpoint *own_at(struct dvk *dvk, uint32_t dc, dvk_endpoint to);

/* May we send as it? 0 or the error. *own may be NULL then. */
int own_sender(struct dvk *dvk, dvk_endpoint from, struct own_endpoint **own);

/* directory.c: the DC is gone from this node: our endpoints in it are unbound. */
void own_forget_dc(struct dvk *dvk, uint32_t dc);

/* broker.c */
int broker_send(struct dvk *dvk, struct dvk_broker_packet *packet, const char *text, const int *fds, unsigned fd_count);
int broker_send_bytes(struct dvk *dvk, struct dvk_broker_packet *packet, const void *bytes, size_t len, const int *fds,
                      unsigned fd_count);
/* Send a request; answered() is called when its answer comes, or with status -DVK_ENODAEMON. */
int broker_ask(struct dvk *dvk, struct dvk_broker_packet *packet,
               void (*answered)(struct dvk *, struct awaited *, struct packet *), void *a, void *b);
/* The same with text. */
int broker_ask_with(struct dvk *dvk, struct dvk_broker_packet *packet, const void *bytes, size_t len,
                    void (*answered)(struct dvk *, struct awaited *, struct packet *), void *a, void *b);
/* The same as broker_ask, waiting for it. The answer's fds and text are the caller's (packet_clear). */
int broker_ask_wait(struct dvk *dvk, struct dvk_broker_packet *packet, const int *fds, unsigned fd_count,
                    struct packet *answer, int64_t deadline);
/* The same with text. */
int broker_ask_text(struct dvk *dvk, struct dvk_broker_packet *packet, const char *text, const int *fds,
                    unsigned fd_count, struct packet *answer, int64_t deadline);
int broker_ask_bytes(struct dvk *dvk, struct dvk_broker_packet *packet, const void *bytes, size_t len, const int *fds,
                     unsigned fd_count, struct packet *answer, int64_t deadline);
/* Read and handle all packets that are there; events are queued. Never blocks. */
void broker_drain(struct dvk *dvk);
void broker_wait(struct dvk *dvk, int64_t deadline); /* until something can be read or written */
bool broker_run_events(struct dvk *dvk);             /* true if there were any */
void broker_flush(struct dvk *dvk);
void broker_fail(struct dvk *dvk);
/* Queue an event of our own making. */
void broker_event(struct dvk *dvk, const struct dvk_broker_packet *head);
void packet_clear(struct packet *packet);

/* route.c */
/* revision: the least that will do. */
int route_get(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint32_t revision, struct route **out);
struct route *route_new(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to); /* NULL: no memory */
void route_connect(struct dvk *dvk, struct route *route); /* ask for the way to revision route.asked; may drop the route */
struct route *route_find(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to);
void route_drop(struct dvk *dvk, struct route *route, int status); /* ends its queued calls */
/* dvk.way, if it leads there and has a channel; else NULL. */
static inline const struct way *way_find(const struct dvk *dvk, dvk_endpoint from, dvk_endpoint to) {
    const struct way *way = &dvk->way;
    return way->route && way->from == from && way->to == to && way->route->channel ? way : NULL;
}
void way_set(struct dvk *dvk, struct own_endpoint *own, struct route *route);
void own_routes_drop(struct dvk *dvk, struct own_endpoint *own, int status);

/* channel.c */
struct channel_fds {
    int memfd, socket, bell; /* -1: none */
};
/* Takes over the fds in *fds (closes memfd and bell once mapped). */
int channel_attach(struct dvk *dvk, uint64_t number, uint32_t dc, int side, bool proxy, bool guest,
                   struct channel_fds *fds, struct channel **out);
struct channel *channel_find(struct dvk *dvk, uint64_t number);
int channel_slot_take(struct channel *channel); /* own slot, or -1 */
void channel_slot_free(struct dvk *dvk, struct channel *channel, uint32_t slot);
void channel_ring(struct dvk *dvk, struct channel *channel);
void channel_ring_plain(struct channel *channel); /* without telling our CPU */
/* Stop using it: calls end with status, requests are detached, routes dropped; tell: tell dvkd; event: tell the user.
 */
void channel_close(struct dvk *dvk, struct channel *channel, int status, bool tell, bool event);
/* It was found to be marked dead: close it with what dvkd says of that, else with gone_status. */
void channel_is_gone(struct dvk *dvk, struct channel *channel);
static inline void channel_hold(struct channel *channel) {
    channel->references++;
}
void channel_release(struct channel *channel);
void channel_free(struct channel *channel);
void channel_kill(struct channel *channel); /* mark dead, wake waiters */

static inline void channel_slot_give(struct channel *channel, uint32_t slot) { /* it may be taken again */
    map_set(channel->free_map, slot);
    if (slot / 64 < channel->free_from)
        channel->free_from = slot / 64;
}

/* Is there a call whose end the scan looks for? */
static inline bool channel_awaits_answers(const struct channel *channel) {
    uint64_t calls = 0;
    for (uint32_t w = 0; w < (channel->view.slots[channel->side] + 63) / 64; w++)
        calls |= channel->back_map[w];
    return calls != 0;
}

/* loan.c */
uint32_t span_of(uint64_t bytes, uint32_t data_bytes);
/* The first slot of `span` own slots, or -1. */
int channel_run_take(struct dvk *dvk, struct channel *channel, uint32_t span);
void channel_run_free(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t span);
uint32_t channel_span_max(const struct channel *channel);
/* If data is a loan of that channel the call takes it over: slots and reference. */
bool loan_take(struct dvk *dvk, struct call *call, struct channel *channel, const void *data);
void loan_drop(struct dvk *dvk, const void *data); /* if it is one */
void loans_end(struct dvk *dvk);
void warm_forget(struct dvk *dvk, const struct channel *channel);

/* vcopy.c */
void vcopy_grant_gone(struct dvk *dvk, const struct dvk_broker_packet *head);
void vcopy_end(struct dvk *dvk); /* unmap everything */

/* peers.c */
int channel_peer_add(struct channel *channel, dvk_endpoint peer); /* 0 too if it is known; or -ENOMEM */
bool channel_peer_known(const struct channel *channel, dvk_endpoint peer);
/* Where a peer's privileges are kept; NULL: it is not known, or nothing is kept, or (make) there is no memory to do so. */
struct known_privileges **channel_peer_privileges(struct channel *channel, dvk_endpoint peer, bool make);

/* privilege.c */
void privilege_open(struct dvk *dvk, int fd); /* the page with the count of changes; -1: there is none */
void privilege_close(struct dvk *dvk);
/* What a CHANNEL, CONNECT's answer or PRIVILEGES tells of a peer. 0 or a negative error: the channel must not be used. */
int privilege_peer_told(struct channel *channel, dvk_endpoint peer, const struct packet *packet);
void privilege_told(struct dvk *dvk, const struct packet *packet);
/* Read what dvkd has told, if privileges have changed. May close channels. */
void privilege_catch_up(struct dvk *dvk);
/* Have they changed since? */
static inline bool privileges_are_old(const struct dvk *dvk) {
    return __builtin_expect(__atomic_load_n(dvk->epoch, __ATOMIC_ACQUIRE) != dvk->epoch_seen, 0);
}
static inline bool privileges_matter(const struct dvk *dvk, const struct channel *channel) {
    return channel->judged || privileges_are_old(dvk);
}
/* The peer sent us `message` of that kind; to: its destination in full. */
bool privilege_message_allowed(struct dvk *dvk, const struct channel *channel, uint32_t kind,
                               const struct dvk_message *message, dvk_endpoint to);
/* A relay is about to hand a message of source to the peer. */
bool privilege_relayed_allowed(struct dvk *dvk, const struct channel *channel, dvk_endpoint source, dvk_endpoint to);
/* The peer has handed on a request of source. */
bool privilege_follow_allowed(struct dvk *dvk, const struct channel *channel, dvk_endpoint peer, dvk_endpoint source);
/* Within our process: for the same answer as elsewhere. */
bool privilege_own_allowed(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, uint32_t kind,
                           const struct dvk_message *message);

/* Who was there has moved away. And: is a message of it, at the position where we are in the ring, from before that? */
void channel_peer_leave(struct channel *channel, dvk_endpoint peer);
bool channel_peer_was(struct channel *channel, dvk_endpoint peer);
void channel_left_free(struct channel *channel);

/* settle.c */
struct moved *moved_find(const struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint);
int moved_note(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision);
void moved_forget(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint); /* DVK_ANY: all of the DC */
void settle_run(struct dvk *dvk); /* routes whose old place has let go of everything go on */
void route_settled(struct dvk *dvk, struct route *route);
/* Does a route there wait to settle, so that even what is ours now has to wait behind it? */
bool settle_before(const struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to);
void settle_here(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t revision);
void channel_moved(struct dvk *dvk, struct channel *channel, dvk_endpoint endpoint, uint32_t revision);
/* It was sent back: make it again. where: the answer. data: the request's. */
void call_moved(struct dvk *dvk, struct call *call, const struct dvk_message *where, const void *data);
void call_relay_moved(struct dvk *dvk, struct call *call, uint32_t revision); /* a relay's, not sent: tell its source */
/* Its destination's old place is gone without having taken it in: make it again. False: that is not so. */
bool call_lost(struct dvk *dvk, struct call *call);
bool post_moved(struct dvk *dvk, struct channel *channel, const struct posted *posted, uint32_t revision);

/* migrate.c */
void request_ready(struct dvk *dvk, struct request *request); /* to the list where it waits */
bool migrate_packet(struct dvk *dvk, struct packet *packet);  /* true: it was kept, as an event */
void migrate_unfreeze(struct dvk *dvk, struct own_endpoint *own);
bool spare_find(const struct dvk *dvk, dvk_endpoint endpoint);
void migrate_close(struct dvk *dvk);
/* Send a message back to its source, for a destination that has that revision. */
void slot_moved(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence, dvk_endpoint to, uint32_t revision);

/* fdpass.c */
int fdpass_send(struct channel *channel, uint32_t slot, int side, bool reply, uint32_t sequence, const int *fds,
                unsigned count);
/* Descriptors of a message; returns count, or -1: none there (the peer lied) or it broke the protocol. */
int fdpass_receive(struct channel *channel, uint32_t slot, int side, bool reply, uint32_t sequence, unsigned count,
                   int *fds);
void fdpass_drop(struct channel *channel);

/* call.c */
int call_create(struct dvk *dvk, uint32_t dc, dvk_endpoint from, const struct dvk_message *message, uint32_t kind,
                struct call **out);
void call_free(struct dvk *dvk, struct call *call);
void calls_free(struct dvk *dvk); /* the memory of those that are free */
/* Start it on its way. data is copied. Errors leave the call to its caller (fds included). */
int call_submit(struct dvk *dvk, struct call *call, const void *data, size_t data_len);
/* A call that came back: a private copy of its data (NULL if it has none), before its slot is given back. 0 or -ENOMEM. */
int call_data_keep(const struct call *call, const void *data, void **copy);
/* The same call once more, with data that it takes over; it has no slot. Completes it if that fails. */
void call_submit_again(struct dvk *dvk, struct call *call, void *data);
/* A reply is there (status 0: taken from its slot) or none will come. The channel's slot is held until call_free. */
void call_complete(struct dvk *dvk, struct call *call, int status);
void call_take_reply(struct dvk *dvk, struct call *call);
void call_unslot(struct dvk *dvk, struct call *call); /* give back its slots, if it has any */
void call_on_route(struct dvk *dvk, struct route *route);        /* route is ready: move its queue on */
void call_send_queued(struct dvk *dvk, struct channel *channel); /* slots may be free */
void call_request_cancel(struct dvk *dvk, struct call *call);
bool call_run_completed(struct dvk *dvk);
/* Free the slots of completions that wait for dvk_receive: a call that is waited for needs one now. */
void call_completed_unslot(struct dvk *dvk, struct channel *channel);
void call_scan(struct dvk *dvk, struct channel *channel); /* look for completions */
struct call *call_by_id(struct dvk *dvk, uint64_t id);
int call_start(struct dvk *dvk, uint32_t dc, dvk_endpoint from, const struct dvk_message *message, uint32_t kind,
               const void *data, size_t data_len, const int *fds, unsigned fd_count, dvk_done *done, void *context,
               uint64_t *id);

/* receive.c */
void receive_scan_channel(struct dvk *dvk, struct channel *channel);
bool receive_scan(struct dvk *dvk); /* what the doorbell says; true if it said anything */
void receive_mark_more(struct dvk *dvk, struct channel *channel);
void receive_arrived(struct dvk *dvk, struct request *request); /* it waits to be handed out from now on */
void receive_post_done(struct dvk *dvk, struct channel *channel); /* one of its waiting quick posts is none any more */
void receive_sleep(struct dvk *dvk, int64_t deadline);            /* until the doorbell rings; or earlier */
/* dvk_receive with a filter (NULL: none). */
int receive_next(struct dvk *dvk, const struct filter *filter, struct dvk_request **out, int timeout_ms);

/* filter.c */
struct inbox *inbox_find(struct dvk *dvk, dvk_endpoint to, dvk_endpoint from);
void inbox_put(struct inbox *inbox); /* free it if it is of no use any more */
void inboxes_free(struct dvk *dvk);
/* The message that the filter lets through, or NULL; it stays where it is. 0 or -ENOMEM. */
int filter_next(struct dvk *dvk, const struct filter *filter, struct request **out);
/* It leaves the ready and filed lists. */
void request_unfile(struct request *request);

/* watch.c: have inbox->gone set when its source goes; 0 or a negative error. */
int inbox_watch(struct dvk *dvk, struct inbox *inbox);
/* Our endpoint goes: its inboxes' sources need not be watched. */
void inboxes_unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint to);

int note_send(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint64_t bits); /* dvk_notify; call.c */
void posts_recover(struct dvk *dvk, struct channel *channel); /* a closed channel's, that have moved; post.c */

/* reply.c */
void slot_answer(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence, const struct dvk_message *reply);
struct request *request_new(struct dvk *dvk);
void request_free(struct dvk *dvk, struct request *request);
void request_detach(struct dvk *dvk, struct request *request); /* its requester is gone */
void request_cancel(struct dvk *dvk, struct request *request);
/* Those to our endpoint that were not handed out yet end with status. */
void requests_refuse_to(struct dvk *dvk, dvk_endpoint endpoint, int status);
void request_error(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence, int status);
/* A send was taken: tell its sender. */
void request_taken(struct dvk *dvk, struct request *request);

/* spin.c */
/* News: one of two words (they may be the same) that somebody else is about to change, and the cache lines that he writes before. */
struct news {
    const uint32_t *word[2];
    uint32_t value[2]; /* as they are without news */
    const void *line[4];
};
/* Wait awake until there is news, if that is worth it; true if there is. peer_cpu: CPU + 1 of who makes it; 0: unknown. Takes
 * at most some 50 us, or what the scheduler gives to others. */
bool spin_until(struct dvk *dvk, struct spin *spin, const struct news *news, uint32_t peer_cpu);
/* Ask for the cache lines that a request in our next slot will be written to. */
void channel_prefetch_own(const struct channel *channel);
/* Those that the peer's next request will lie in, if it uses the slot of its last. */
void channel_lines(const struct channel *channel, const void *line[4]);

/* post.c */
void post_failed(struct dvk *dvk, dvk_endpoint from, int status);
void posts_reclaim(struct dvk *dvk, struct channel *channel); /* slots of quick posts that the peer has taken */
/* Calls wait for slots that quick posts have: send what can be sent now, and have the peer ring when it takes more. */
void posts_make_room(struct dvk *dvk, struct channel *channel);

/* Answer and free it; error: in the destination's place. */
void request_answer(struct dvk *dvk, struct request *request, const struct dvk_message *reply, const int *fds,
                    unsigned fd_count, bool error);

/*
 * waits.c. A wait: take a ticket, announce it in the slot and look whether it is answered, begin (true: it closes a
 * circle), sleep, end. waits_answered: somebody with that ticket is about to be woken.
 */
void waits_open(struct dvk *dvk, uint32_t dc); /* we are bound there */
void waits_forget(struct dvk *dvk, uint32_t dc);
void waits_close(struct dvk *dvk);
uint32_t waits_ticket(struct dvk *dvk, const struct channel *channel);
bool waits_begin(struct dvk *dvk, const struct channel *channel, uint32_t ticket);
void waits_end(struct dvk *dvk, const struct channel *channel);
void waits_answered(struct dvk *dvk, const struct channel *channel, uint32_t ticket);

/* follow.c: a call was handed on: make it again there, or complete it with an error. data: its request's. */
void call_follow(struct dvk *dvk, struct call *call, dvk_endpoint to, const void *data);

/* A sendrec or send, as its caller wants it. */
struct sync {
    struct dvk_message *message; /* request; then reply */
    uint32_t kind;
    const void *data;
    size_t data_len;
    void *reply_data;
    size_t reply_cap, got; /* got: length of the reply's data */
};

/* quick.c: true: it is done. false: *call was made of it and is to be waited for, or NULL: nothing was done. */
bool sync_quick(struct dvk *dvk, const struct way *way, struct sync *sync, struct call **call);

/* sync.c */
/* Wait awake for the answer in our slot, if that is worth it; how it stands then. */
enum dvk_slot_look sync_spin(struct dvk *dvk, struct channel *channel, uint32_t slot, uint32_t sequence);
/* dvk_sendrec and dvk_send for libdvk's own purposes, or counted by the caller. got: the length of the reply's data. */
int sendrec_own(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, void *reply_data, size_t reply_cap,
                size_t *got, int timeout_ms);
int send_uncounted(struct dvk *dvk, struct own_endpoint *own, const struct way *way, struct dvk_message *message,
                   const void *data, size_t data_len, int timeout_ms);
/* Is the peer, a single thread, itself waiting for us? Then to wait for it would be for ever. */
bool channel_peer_waits_for_us(const struct channel *channel);
void cpu_update(struct dvk *dvk);

/* loopback.c */
int loopback_submit(struct dvk *dvk, struct call *call, const void *data, size_t data_len);
int loopback_notify(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint to, uint64_t bits);
void loopback_finish(struct dvk *dvk, struct request *request, const struct dvk_message *reply, const int *fds,
                     unsigned fd_count);

/* poller.c */
int poller_start(struct dvk *dvk);
void poller_stop(struct dvk *dvk);
void poller_relay(struct dvk *dvk); /* before dvk.relay is set: the thread handles fds itself from then on */
void poller_run(struct dvk *dvk); /* handle what is ready, if anything */
/* Handle dvkd's packets only, once for each news: for calls that may not run callbacks. */
void poller_glance(struct dvk *dvk);
int poller_watch_broker(struct dvk *dvk, bool output);
void poller_bell(struct dvk *dvk); /* wake the thread in dvk_receive */
/*
 * wait_word: sleep while *word == value, at the longest until `exact`, or, give or take a tick, until `about` (ns;
 * INT64_MAX: never). word: the doorbell's or a slot's. May return early. Returns true when time has passed rather than
 * something happened.
 */
bool wait_word(struct dvk *dvk, uint32_t *word, uint32_t value, int64_t exact, int64_t about);
/* The time, as old as a tick. */
static inline int64_t about_now(const struct dvk *dvk) {
    return __atomic_load_n(&dvk->ticking, __ATOMIC_RELAXED) ? __atomic_load_n(&dvk->tick_ns, __ATOMIC_RELAXED)
                                                            : now_ns();
}

/* Is the time up? */
static inline bool is_past(int64_t deadline) {
    return deadline != INT64_MAX && now_ns() >= deadline;
}

/* detector.c */
void detector_run(struct dvk *dvk, const struct dvk_broker_packet *head); /* an answer, told from dvk_receive */
void detector_close(struct dvk *dvk);

/* service.c */
bool service_event(struct dvk *dvk, struct packet *packet); /* true: the packet was kept, as an event */
/* Fill in the user's event, or tell a watch: then false. */
bool service_run_event(struct dvk *dvk, const struct packet *packet, struct dvk_event *event);
void service_taken(struct dvk *dvk, const struct dvk_request *request); /* a group's, handed out */
void services_close(struct dvk *dvk);

/* timer.c */
bool timer_run(struct dvk *dvk, int64_t now);
static inline int64_t timer_next(const struct dvk *dvk) {
    return dvk->timer_count ? dvk->timers[0].at_ns : INT64_MAX;
}

#endif
