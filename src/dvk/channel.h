/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of a channel and of a doorbell page: what two parties share. Freestanding: used by libdvk, by
 * dvkd (which creates channels and marks them dead) and by the personality.
 *
 * A channel is a memfd, sealed against shrinking and growing, mapped by exactly two parties, 0 and 1,
 * plus a SOCK_SEQPACKET socket pair that carries file descriptors and tells of the peer's end. dvkd
 * creates it; the sender's identity is the channel.
 *
 *   page 0            struct dvk_channel_header
 *   slot arrays       side 0's slots, then side 1's: struct dvk_slot[slots]
 *   data              side 0's request buffers, side 0's reply buffers, the same of side 1;
 *                     data_bytes each. "Side s's" means: of requests that party s makes.
 *
 * A request by party s: s takes a free slot i of its side (a private bitmap), writes slot[i].request and
 * the request buffer i, sets slot[i].state = WAITING|sequence, appends i to ring[s], rings the peer's
 * doorbell and waits for slot[i].state to become DONE|sequence. The peer pops i, copies the request out
 * once, checks it, and later writes slot[i].reply, reply buffer i and the state. A slot is in the ring at
 * most twice (request, cancellation), so a ring of 2 * slots entries never overflows.
 *
 * A long message takes a run of `span` adjacent slots, whose buffers are adjacent: it lies in the first, i, which alone
 * enters the ring; its data and its reply's may fill the buffers of all. Not on a guest's channel.
 *
 * Who writes what:  header: dvkd before anyone maps it; `dead` by dvkd or either party.
 *   ring[s].head, ring[s].entry[]  party s      (release; pairs with the peer's acquire of head)
 *   ring[s].tail                   the peer     (count of what it took)
 *   slot.request, .sequence, .flags, .cancel, request buffer   the slot's own side
 *   slot.reply, .reply_lines, reply buffer   the peer
 *   slot.state  own side: WAITING|seq, FREE;  peer: DONE|seq (release; pairs with the waiter's acquire);
 *               dvkd: DEAD.
 * A party must survive any bytes here: indexes are masked or checked, messages are copied out once and
 * then checked, data is opaque or copied out, sequence numbers decide what is answered.
 */
#ifndef DVK_CHANNEL_H
#define DVK_CHANNEL_H

#include <dvk/message.h>
#include <stdint.h>

#define DVK_CHANNEL_MAGIC 0x314e484353564444ull /* "DDVSCHN1" */
#define DVK_CHANNEL_VERSION 2u
#define DVK_CHANNEL_MAX_SLOTS 1024u
#define DVK_PAGE 4096u

/* Sizes of the channels that dvkd makes. */
#define DVK_GUEST_SLOTS 128u   /* a guest's own side: requests its threads have under way */
#define DVK_GUEST_BACK_SLOTS 4u /* the servers' side towards a guest */
#define DVK_PEER_SLOTS 256u    /* between two hosted processes, each side */

struct dvk_ring {
    uint32_t head; /* count of entries appended, mod 2^32 */
    uint32_t pad0[15];
    uint32_t tail; /* count of entries taken */
    uint32_t pad1[15];
    uint16_t entry[2 * DVK_CHANNEL_MAX_SLOTS]; /* index: count % (2 * slots); DVK_RING_CANCEL marks a cancellation */
};
#define DVK_RING_CANCEL 0x8000u

struct dvk_channel_header {
    uint64_t magic;
    uint32_t version;
    uint32_t slots[2];    /* slots of each side; a power of two, <= DVK_CHANNEL_MAX_SLOTS */
    uint32_t data_bytes;  /* of each buffer, a multiple of DVK_PAGE */
    uint32_t dead;        /* not 0: the other party is gone */
    uint32_t doorbell_bit[2]; /* which bit of its doorbell page party s has this channel at; set once by
                                 party s before the channel is given away */
    uint32_t pad[7];
    uint64_t notify[2];   /* pending notification bits made by party s (atomic or / exchange) */
    uint32_t cpu[2];      /* CPU that party s last ran on + 1, 0: unknown (a hint) */
    uint32_t wants_room[2]; /* not 0: party s waits for the peer to take its posts; the peer clears it and rings */
    uint32_t pad2[8];
    struct dvk_ring ring[2];
};

enum dvk_slot_state {
    DVK_SLOT_FREE = 0u,
    DVK_SLOT_WAITING = 1u, /* | sequence << 2 */
    DVK_SLOT_DONE = 2u,    /* | sequence << 2 */
    DVK_SLOT_DEAD = 3u,    /* the peer is gone; no reply will come */
};

enum dvk_slot_flags {
    DVK_SLOT_KIND_MASK = 3u,
    DVK_SLOT_SENDREC = 0u,  /* wants a reply */
    DVK_SLOT_SEND = 1u,     /* DONE when taken */
    DVK_SLOT_POST = 2u,     /* a send without data, between hosted processes, that is not answered: its slot is free again
                               when ring.tail has passed it. DONE, with an error as the reply, before that: refused */
    DVK_SLOT_RING_BACK = 4u, /* requester waits on its doorbell, not on slot.state: ring it */
    DVK_SLOT_BRIEF = 8u,     /* requester reads no more of the reply than slot.reply_lines says */
    DVK_SLOT_LINES_UNIT = 16u, /* times the request's lines, 1..3: only these were written, the rest of it is zeros; 0: all */
    DVK_SLOT_LINES_MASK = 3u * DVK_SLOT_LINES_UNIT,
    DVK_SLOT_SPAN_UNIT = 256u, /* times (span - 1), below DVK_CHANNEL_MAX_SLOTS: length of the run */
};

struct dvk_slot {
    uint32_t state; /* futex word */
    uint32_t waiters; /* requester: not 0 before it sleeps on state: wake needed; 1 or a ticket, see waits.h */
    uint32_t sequence;
    uint32_t flags;
    uint32_t cancel; /* not 0: the requester wants it to end */
    uint32_t reply_lines; /* as the request's lines, of the reply; only if the request was BRIEF */
    uint32_t pad[10];
    struct dvk_message request;
    struct dvk_message reply;
};
_Static_assert(sizeof(struct dvk_slot) == 576, "layout");

static inline uint64_t dvk_align_page(uint64_t n) { return (n + DVK_PAGE - 1) & ~(uint64_t)(DVK_PAGE - 1); }

static inline uint64_t dvk_channel_slots_offset(const uint32_t slots[2], int side) {
    return dvk_align_page(sizeof(struct dvk_channel_header)) +
           (side ? dvk_align_page((uint64_t)slots[0] * sizeof(struct dvk_slot)) : 0);
}
/* Buffer of slot i of a side; reply: 0 the request's, 1 the reply's. */
static inline uint64_t dvk_channel_data_offset(const uint32_t slots[2], uint32_t data_bytes, int side, int reply,
                                               uint32_t i) {
    uint64_t base = dvk_channel_slots_offset(slots, 1) + dvk_align_page((uint64_t)slots[1] * sizeof(struct dvk_slot));
    uint64_t index = (side ? 2ull * slots[0] : 0) + (reply ? slots[side] : 0) + i;
    return base + index * data_bytes;
}
static inline uint64_t dvk_channel_size(const uint32_t slots[2], uint32_t data_bytes) {
    return dvk_channel_data_offset(slots, data_bytes, 1, 1, slots[1] - 1) + data_bytes;
}

/*
 * Doorbell page: one a receiving process, mapped by all its peers. word is the futex; a peer sets its
 * channel's bit (DVK_DOORBELL_BITS, hashed by index mod), then adds 1 to word and wakes if `sleeping`.
 * Everything here is a hint: a peer may clear or set anything; the receiver re-scans its private list of
 * channels from time to time.
 */
#define DVK_DOORBELL_BITS 8192u
struct dvk_doorbell {
    uint32_t word;
    uint32_t sleeping;
    uint32_t cpu; /* CPU the receiver last ran on + 1 */
    uint32_t pad;
    /* the first bits lie in the same cache line as word: a process with few channels needs no other */
    uint64_t summary[2];                      /* bit k: pending[k] may be non-zero */
    uint64_t pending[DVK_DOORBELL_BITS / 64];
};
#define DVK_DOORBELL_SIZE DVK_PAGE

/*
 * File descriptors travel over the channel's socket in a packet of this header plus SCM_RIGHTS. The
 * sender sends the packet before it publishes the message (flag DVK_MSG_FDS), so that the receiver finds
 * it waiting; packets for other slots met on the way are set aside by (slot, sequence, reply).
 */
struct dvk_fd_packet {
    uint32_t magic; /* DVK_FD_MAGIC */
    uint16_t slot;
    uint8_t side;  /* whose slot */
    uint8_t reply; /* 1: belongs to the reply */
    uint32_t sequence;
    uint32_t count;
};
#define DVK_FD_MAGIC 0x53464456u

#endif
