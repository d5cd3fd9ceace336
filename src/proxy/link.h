/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reliable stream of frames to one peer, independent of any one connection. Pure of I/O: peer.c moves the bytes,
 * tests drive it directly.
 *
 * Sessions: each side has one, a random number; it stands for what that side remembers (its sequence numbers, requests
 * under way). Two sides that know each other's session go on after a broken connection. Otherwise both start anew:
 *
 *        connector                                acceptor
 *        HELLO {mine, yours as known} ----------> both as it knows them?
 *                                                   yes: resume
 *                                                   no:  reset, with a new session of its own
 *        known and RESUME?  <-------------------- HELLO {mine, yours, RESUME or not}
 *          yes: resume
 *          no:  reset
 *
 * Reset: what had been sent may or may not have been done and can no longer be learnt. Requests that never were written
 * stay in the queue, are numbered anew, and `kept` is called for each; all others are lost. Replies and cancellations
 * belong to requests that the other side has forgotten, and go. Then `reset` is called: the owner ends its requests
 * that were not kept, and the other side's requests that it works on are orphans.
 */
#ifndef PROXY_LINK_H
#define PROXY_LINK_H

#include "dvk/list.h"
#include "proxy/wire.h"

#include <sys/uio.h>

struct out_frame {
    struct link link;
    struct wire_header header;
    bool sent;    /* all of it was written, to this connection or one before */
    bool written; /* bytes of it may have reached the other side */
    size_t body_len;
    uint8_t body[];
};

/* Since the link was made. Bytes are those of frames, before encryption. */
struct link_counts {
    uint64_t frames_out, bytes_out, frames_in, bytes_in;
    uint64_t resent;     /* frames that were written again to another connection */
    uint64_t duplicates; /* frames that came again and were dropped */
    uint64_t gaps;       /* how often frames were found missing */
    uint64_t packed, packed_from, packed_to; /* bodies that were compressed; their bytes before and after */
};

/* Bodies are compressed while that pays: while the network takes longer for the bytes that are saved than saving them takes.
 * Each body for which it did not pay doubles the number of those that are not tried next. */
struct link_packing {
    double byte_ns; /* how long the network takes for a byte now; 0: as fast as we write: nothing is compressed */
    unsigned misses, skip;
};
#define LINK_PACK_MIN 1024u /* shorter bodies are left as they are */

struct frame_link {
    uint64_t session;       /* ours; not 0 */
    uint64_t peer_session;  /* theirs; 0: not known */
    uint64_t next_sequence; /* of the next frame that is queued */
    uint64_t received;      /* highest of theirs */
    uint64_t told;          /* what we have last acknowledged */
    uint64_t acknowledged;  /* highest of ours that they have received */
    uint64_t written;       /* highest of ours of which they may have received something */
    struct link frames;     /* not acknowledged, in order */
    struct link *at;        /* first that is not completely written to this connection; &frames: none */
    size_t at_offset;       /* bytes of it that are written */
    size_t queued_bytes;
    bool encrypted; /* of the connection: frames say so, and carry no checksum */
    struct link_packing packing;
    struct link_counts counts;
    void *context;
    void (*kept)(void *context, uint64_t tag);
    void (*reset)(void *context);
};

void link_init(struct frame_link *link, uint64_t session, void *context, void (*kept)(void *, uint64_t),
               void (*reset)(void *));
/* Forget all frames without a word (the node left). */
void link_clear(struct frame_link *link);

/* Queue a frame; body parts are copied. 0 or -ENOMEM. */
int link_queue(struct frame_link *link, uint16_t command, uint64_t tag, uint32_t dc, int32_t status, const void *body,
               size_t body_len, const void *more, size_t more_len);
/* Take a request that was never written out of the queue again; false: too late. */
bool link_withdraw(struct frame_link *link, uint64_t tag);

/* Fill in our hello. */
void link_hello(const struct frame_link *link, struct wire_hello *hello);
/* Their hello came. accepting: we are the acceptor; fresh: a session to take if a reset is needed. Returns true when
 * the sessions go on. Positions the queue for the new connection; a hello that makes no sense counts as not known. */
bool link_meet(struct frame_link *link, const struct wire_hello *hello, bool accepting, bool resume_flag,
               uint64_t fresh);

/* A frame came: 1: handle it; 0: nothing to handle, or seen before; -EILSEQ: frames before it are missing; -EPROTO.
 * After an error the connection is of no use; a new one brings what is missing. Handles its acknowledgement too. */
int link_take(struct frame_link *link, const struct wire_header *header);
/* Make an ACK, to be written before what link_gather gives next; no frame may be written in part. */
void link_ack(struct frame_link *link, struct wire_header *header);

/* Bytes to write next: up to max parts; returns how many. acknowledgements are put into frames not begun yet. */
int link_gather(struct frame_link *link, struct iovec *parts, int max);
/* So many of them were written. */
void link_written(struct frame_link *link, size_t bytes);
/* Something was received that no frame has acknowledged. */
static inline bool link_owes_ack(const struct frame_link *link) {
    return link->told != link->received;
}

#endif
