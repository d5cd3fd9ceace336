/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs-proxy: carries messages between this node and its peers.
 *
 *   main.c     options, loop                    peer.c     connections: connect, hello, read, write
 *   accept.c   connections that others make     tls.c      streams, encrypted or clear
 *   traffic.c  messages: libdvk <-> frames      link.c     sessions, sequence numbers, resend (pure)
 *   control.c  what dvkd asks                   wire.c     the frames' parser (pure)
 *   kernel.c   peers' questions to this node's dvkd
 *
 * A *pending* is a request of this node that waits for its reply from a peer. An *incoming* is a peer's request that a
 * process of this node works on.
 */
#ifndef PROXY_H
#define PROXY_H

#include "dvk/list.h"
#include "dvk/relay.h"
#include "proxy/link.h"
#include "proxy/tls.h"

#include <dvk/error.h>
#include <netinet/in.h>

#define BUCKETS 1024u
/*
 * Credit: how many bytes of requests may be under way to one destination, and to all of a peer; the rest waits in its
 * channels' slots. A destination that has nothing under way may always get one request: one that is slow or stopped takes
 * nothing from the others.
 */
#define LANE_BYTES_MAX (4u << 20)
#define FLIGHT_BYTES_MAX (64u << 20)
#define LANE_BUCKETS 64u
#define REQUEST_OVERHEAD 512u
#define READ_BUFFER (256u << 10) /* at least a frame's header */

enum peer_state {
    PEER_APART,      /* no connection; the connector has a timer to try again */
    PEER_CONNECTING, /* TCP is being connected */
    PEER_SECURING,   /* TLS shakes hands */
    PEER_GREETING,   /* connector: waits for the answer to its hello */
    PEER_JOINED,
};

struct peer {
    struct link link;  /* proxy.peers */
    struct link dirty; /* proxy.dirty: has something to write */
    struct link unread; /* proxy.unread: its stream has read ahead, and had no turn for that yet */
    struct proxy *proxy;
    uint32_t node;
    struct sockaddr_in address;
    enum peer_state state;
    struct stream stream;
    bool wants_out;
    char refusal[STREAM_WHY + 32]; /* what was last said about not being connected: it is said once */
    uint8_t *buffer; /* what was read and is not yet a whole frame */
    size_t buffer_len, buffer_cap; /* READ_BUFFER, or more while longer frames come */
    bool long_frames;              /* in this second */
    struct wire_header control; /* a hello or ack that is being written, ahead of the queue */
    struct wire_hello hello;
    size_t control_len, control_at;
    struct frame_link frames;
    uint64_t epoch; /* counts resets: a pending of an older one is lost */
    unsigned backoff_ms;
    uint64_t retry_timer;
    int64_t heard_ms, said_ms, since_ms;
    uint64_t progress;    /* frames that had come through, to us or to them, when it was joined last */
    int64_t closed_ms;    /* none of its connections is taken before; it broke the rules of the last */
    size_t written;       /* bytes since the pace was measured */
    unsigned connections; /* that were made with it */
    struct link pendings, parked;
    size_t flight_bytes;
    uint64_t stalls; /* requests that had to wait for credit */
    struct link lanes[LANE_BUCKETS];
    struct link waiting; /* lanes with parked requests */
    bool crowded;        /* a lane waits for credit of the peer, not its own */
    struct link incomings;
    struct link by_tag[64]; /* incomings */
};

enum stranger_state {
    STRANGER_SILENT,   /* not a byte yet */
    STRANGER_SECURING, /* TLS shakes hands */
    STRANGER_GREETING, /* its hello is awaited */
    STRANGER_ASKING,   /* it wants to join the cluster: its request is awaited, then dvkd's answer */
    STRANGER_LEAVING,  /* it was refused, or has its answer: until it has read that and ends */
};

/* A connection that was accepted and has not said who it is. */
struct stranger {
    struct link link;
    struct proxy *proxy;
    struct stream stream;
    enum stranger_state state;
    struct in_addr from;
    int64_t until_ms; /* it is given up then */
    uint64_t id;      /* of a request to join that dvkd has */
    char *text;       /* a request to join, or its answer */
    size_t text_len, text_at;
    size_t len;
    uint8_t buffer[sizeof(struct wire_header) + WIRE_REFUSE_MAX];
};

/* The refusals told last: one that tries again and again is told of once a minute. */
struct refusal {
    struct in_addr from;
    int64_t at_ms;
    char why[STREAM_WHY];
};

/* The requests to one destination; gone when there are none. */
struct lane {
    struct link bucket;
    struct link waiting; /* peer.waiting */
    struct link parked;  /* struct pending.in_lane, in order */
    uint32_t dc;
    dvk_endpoint destination;
    size_t flight_bytes;
    unsigned count; /* of its pendings */
};

struct pending {
    struct link link;    /* peer.pendings or peer.parked */
    struct link in_lane; /* parked */
    struct lane *lane;
    struct peer *peer;
    struct dvk_request *req;
    uint64_t tag, epoch;
    size_t bytes;
    bool parked;
};

struct incoming {
    struct link link, bucket;
    struct peer *peer; /* NULL: an orphan, whose answer nobody wants */
    struct proxy *proxy;
    uint64_t tag, call;
    uint64_t watch; /* not 0: a question to dvkd in place of a call; see kernel.c */
    uint32_t dc;
    dvk_endpoint watched;
};

struct route_hint {
    struct link bucket;
    uint32_t dc, node;
    uint32_t revision; /* of the endpoint: see dvk/relay.h */
    dvk_endpoint endpoint;
};

struct proxy {
    struct dvk *dvk;
    uint32_t node;
    char cluster[64];
    struct tls *tls; /* NULL: no certificate; links are clear then, and nobody can join */
    bool clear;      /* links are not encrypted */
    struct sockaddr_in listen_address;
    int listen_fd;
    struct link peers, strangers, dirty, unread;
    struct refusal refusals[8];
    uint64_t last_join;
    bool blocking; /* in a dvk_receive that may sleep */
    struct link hints[BUCKETS];
    /* pendings by tag: low 24 bits an index, above them a generation */
    struct pending **pendings;
    uint32_t *generations, *free_list;
    uint32_t pending_cap, free_count;
};

int64_t clock_ms(void);

/* peer.c */
int peers_listen(struct proxy *proxy);
struct peer *peer_find(struct proxy *proxy, uint32_t node);
void peer_up(struct proxy *proxy, uint32_t node, const char *address);
void peer_down(struct proxy *proxy, uint32_t node);
void peer_disconnect(struct peer *peer, const char *why);
void peer_mark_dirty(struct peer *peer);
void peers_flush(struct proxy *proxy);
/* Read what streams have read ahead. */
void peers_read(struct proxy *proxy);
void peers_tick(void *context); /* each second */
void peers_close(struct proxy *proxy);
/* A stream of a peer that has said hello. Takes over the stream. */
void peer_accepted(struct peer *peer, struct stream *stream, const struct wire_hello *hello);
/* Say once, and not again while it stays so, why there is no connection. */
void peer_refused(struct peer *peer, const char *who, const char *why);
uint64_t session_new(void);
void socket_prepare(int fd);

/* accept.c */
void on_listen(void *context, int fd, uint32_t events);
void strangers_tick(struct proxy *proxy, int64_t now_ms);
void strangers_close(struct proxy *proxy);
/* dvkd's answer (one line) to a request to join. Harmless if who asked has gone. */
void stranger_answer(struct proxy *proxy, uint64_t id, const char *text);
/* Make a refusal in bytes (with room for WIRE_REFUSE_MAX); its length. */
size_t refusal_make(uint8_t *bytes, bool encrypted, const char *why);

/* control.c */
void control_request(struct proxy *proxy, const struct dvk_event *event);
/* Hand a request to join (text of a JSON object) to dvkd. false: it is no such thing. */
bool control_join(struct proxy *proxy, uint64_t id, struct in_addr from, const char *text, size_t len);

/* "address:port", IPv4. */
int address_parse(const char *text, struct sockaddr_in *out);

/* traffic.c */
void traffic_init(struct peer *peer);
void traffic_request(struct proxy *proxy, struct dvk_request *req);
void traffic_cancelled(void *context, struct dvk_request *req);
void traffic_event(void *context, const struct dvk_event *event);
/* A frame from a peer, already known to be new. false: the peer broke the protocol. */
bool traffic_frame(struct peer *peer, const struct wire_frame *frame);
void traffic_kept(void *context, uint64_t tag); /* context: struct peer */
void traffic_reset(void *context);
/* The peer's node has left: everything that waits for it ends. */
void traffic_lost(struct peer *peer);
/* What an error of ours is to a requester on another node: that our dvkd is gone says nothing of theirs. */
static inline int status_elsewhere(int status) {
    return status == -DVK_ENODAEMON ? -DVK_ENODEUNREACH : status;
}
/* Answer a peer's request: status not 0: in the destination's place. */
void reply_queue(struct peer *peer, uint64_t tag, int status, const struct dvk_message *reply, const void *data,
                 size_t data_len);
void incoming_free(struct incoming *incoming);

/* kernel.c: a request to this node's service KERNEL; answers and frees it. */
void kernel_request(struct incoming *incoming, uint32_t dc, bool send, const struct dvk_message *message, const void *data);
void kernel_cancel(struct incoming *incoming);

#endif
