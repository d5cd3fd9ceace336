/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moving parts of a channel (channel.h), as inline functions without a library below them: used by libdvk, by
 * dvkd and, freestanding, by the personality. Nothing here makes a system call; a function that says so leaves the
 * futex wake or wait to its caller.
 *
 * Memory order, each pair once:
 *   P1  dvk_ring_append stores head (release)      -> dvk_ring_peek loads head (acquire): entry[] and the slot
 *   P2  dvk_slot_finish swaps state (seq_cst)      -> dvk_slot_look loads state (acquire): reply, reply buffer
 *   P3  dvk_doorbell_post: pending, summary, word (seq_cst), then loads sleeping
 *       against the receiver: stores sleeping (seq_cst), then loads word and summary.
 *       One of the two sees the other, so no wake is lost.
 *       A poster that finds its bits set and `sleeping` 0 does nothing more: the receiver has yet to clear them, before it
 *       looks at the rings for the last time and sleeps. It may leave the bits of a channel set while it watches that
 *       channel's ring instead.
 *   P4  requester: stores waiters or RING_BACK (seq_cst), then loads state
 *       against dvk_slot_finish: swaps state, then loads waiters and flags. The same argument.
 *   P5  requester: stores state WAITING, fence (dvk_doorbell_post has one; a requester that rings no doorbell makes its own),
 *       then loads header.dead; against dvk_channel_kill: stores dead, then swaps the WAITING states to DEAD. The same argument.
 *   P6  poster: stores header.wants_room (seq_cst), then loads ring.tail; against the receiver: stores ring.tail, fence,
 *       then loads wants_room. The same argument.
 */
#ifndef DVK_RING_H
#define DVK_RING_H

#include "dvk/channel.h"
#include <stdbool.h>
#include <stddef.h>

#define DVK_SEQUENCE_MASK 0x3fffffffu
#define DVK_STATE(kind, sequence) ((uint32_t)(kind) | (((sequence)&DVK_SEQUENCE_MASK) << 2))
#define DVK_STATE_KIND(state) ((state)&3u)
#define DVK_STATE_SEQUENCE(state) ((state) >> 2)

/* A mapped channel. The geometry is a private copy, read once and checked: the shared one is never used again. */
struct dvk_channel_view {
    struct dvk_channel_header *header;
    uint8_t *base;
    uint64_t size;
    uint32_t slots[2];
    uint32_t data_bytes;
    struct dvk_slot *slot[2];
    uint8_t *data[2][2]; /* first buffer by side, and whether it is the reply's */
};

/*
 * dvk_channel_view_init: check the header at base and fill in *view.
 * base, size: the mapping, in bytes. Returns 0, or -1 when the bytes are no channel of this version that fits in size.
 */
static inline int dvk_channel_view_init(struct dvk_channel_view *view, void *base, uint64_t size) {
    struct dvk_channel_header *header = (struct dvk_channel_header *)base;
    if (size < sizeof *header)
        return -1;
    uint64_t magic = __atomic_load_n(&header->magic, __ATOMIC_RELAXED);
    uint32_t version = __atomic_load_n(&header->version, __ATOMIC_RELAXED);
    view->header = header;
    view->base = (uint8_t *)base;
    view->size = size;
    view->data_bytes = __atomic_load_n(&header->data_bytes, __ATOMIC_RELAXED);
    for (int side = 0; side < 2; side++) {
        uint32_t slots = __atomic_load_n(&header->slots[side], __ATOMIC_RELAXED);
        if (slots == 0 || slots > DVK_CHANNEL_MAX_SLOTS || (slots & (slots - 1)) != 0)
            return -1;
        view->slots[side] = slots;
    }
    if (magic != DVK_CHANNEL_MAGIC || version != DVK_CHANNEL_VERSION)
        return -1;
    if (view->data_bytes == 0 || view->data_bytes % DVK_PAGE != 0 || view->data_bytes > (1u << 26) ||
        dvk_channel_size(view->slots, view->data_bytes) > size)
        return -1;
    for (int side = 0; side < 2; side++)
        view->slot[side] = (struct dvk_slot *)(view->base + dvk_channel_slots_offset(view->slots, side));
    for (int i = 0; i < 4; i++)
        view->data[i / 2][i % 2] = view->base + dvk_channel_data_offset(view->slots, view->data_bytes, i / 2, i % 2, 0);
    return 0;
}

/* Request (reply 0) or reply (1) buffer of slot i of a side; view->data_bytes bytes. i < view->slots[side]. */
static inline void *dvk_channel_buffer(const struct dvk_channel_view *view, int side, int reply, uint32_t i) {
    return view->data[side][reply] + (uint64_t)i * view->data_bytes;
}

static inline bool dvk_channel_is_dead(const struct dvk_channel_view *view) {
    return __atomic_load_n(&view->header->dead, __ATOMIC_SEQ_CST) != 0;
}

/* A WAITING slot becomes DEAD, and who sleeps on it is woken. Bounded: an owner that keeps changing the word harms only itself. */
static inline void dvk_slot_kill(struct dvk_slot *slot, void (*wake)(void *context, uint32_t *word), void *context) {
    uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST);
    for (int tries = 0; tries < 64 && DVK_STATE_KIND(state) == DVK_SLOT_WAITING; tries++)
        if (__atomic_compare_exchange_n(&slot->state, &state, DVK_SLOT_DEAD, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            wake(context, &slot->state);
            break;
        }
}

/*
 * dvk_channel_kill: set dead and turn every WAITING slot to DEAD, of both sides. wake(context, word) is called for each
 * futex word on which somebody may sleep; it makes the futex wake (all, shared).
 */
static inline void dvk_channel_kill(const struct dvk_channel_view *view, void (*wake)(void *context, uint32_t *word),
                                    void *context) {
    __atomic_store_n(&view->header->dead, 1u, __ATOMIC_SEQ_CST); /* P5 */
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < view->slots[side]; i++)
            dvk_slot_kill(&view->slot[side][i], wake, context);
}

/* ---- rings ---- */

/* Append an entry to our own ring. slots: of our side. The caller keeps a slot in the ring at most twice. */
static inline void dvk_ring_append(struct dvk_ring *ring, uint32_t slots, uint16_t entry) {
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
    __atomic_store_n(&ring->entry[head & (2 * slots - 1)], entry, __ATOMIC_RELAXED);
    __atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE); /* P1 */
}

/*
 * dvk_ring_peek_to: the next entry of the peer's ring, of which head (read with acquire, P1) were appended. taken: our private count
 * of entries taken. slots: of the peer's side. Returns 1 and *entry (its index part is below slots), 0 when there is none, -1 when
 * the peer broke the protocol.
 */
static inline int dvk_ring_peek_to(const struct dvk_ring *ring, uint32_t slots, uint32_t head, uint32_t taken, uint16_t *entry) {
    if (head == taken)
        return 0;
    if (head - taken > 2 * slots)
        return -1;
    uint16_t value = __atomic_load_n(&ring->entry[taken & (2 * slots - 1)], __ATOMIC_RELAXED);
    if ((value & ~DVK_RING_CANCEL) >= slots)
        return -1;
    *entry = value;
    return 1;
}

/* The same with head as it is now. */
static inline int dvk_ring_peek(const struct dvk_ring *ring, uint32_t slots, uint32_t taken, uint16_t *entry) {
    return dvk_ring_peek_to(ring, slots, __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE), taken, entry); /* P1 */
}

/* Tell the peer how many entries are taken. */
static inline void dvk_ring_tell(struct dvk_ring *ring, uint32_t taken) {
    __atomic_store_n(&ring->tail, taken, __ATOMIC_RELEASE);
}

/* The entry that dvk_ring_peek showed is taken. */
static inline void dvk_ring_advance(struct dvk_ring *ring, uint32_t *taken) {
    *taken += 1;
    dvk_ring_tell(ring, *taken);
}

static inline bool dvk_ring_is_empty(const struct dvk_ring *ring, uint32_t taken) {
    return __atomic_load_n(&ring->head, __ATOMIC_SEQ_CST) == taken;
}

/*
 * A cancellation that is still in the ring when its slot's reply comes would be the slot's third entry if the slot
 * were used again at once. So: remember `head` after appending a cancellation, and use the slot again only when this
 * says that the peer has taken it.
 */
static inline bool dvk_ring_has_passed(const struct dvk_ring *ring, uint32_t position) {
    return (int32_t)(__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) - position) >= 0;
}

/* Length of the run that a slot's flags speak of. */
#define DVK_SLOT_SPAN(flags) (((flags) / DVK_SLOT_SPAN_UNIT) % DVK_CHANNEL_MAX_SLOTS + 1)

/* ---- slots, requester ---- */

/* All of our slot but its state. */
static inline void dvk_slot_fill(const struct dvk_channel_view *view, int side, uint32_t i, uint32_t flags, uint32_t sequence) {
    struct dvk_slot *slot = &view->slot[side][i];
    __atomic_store_n(&slot->sequence, sequence & DVK_SEQUENCE_MASK, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->flags, flags, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->cancel, 0u, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->waiters, 0u, __ATOMIC_RELAXED);
}

/*
 * dvk_slot_publish: make the request in slot i of side `side` (ours) known to the peer. slot->request and the request
 * buffer are written already. flags: enum dvk_slot_flags. sequence: another one than the slot's last; the requester
 * keeps it privately (a counter for the whole channel will do). The caller then posts the doorbell, and must look at
 * dvk_channel_is_dead after that, before it sleeps (P5).
 */
static inline void dvk_slot_publish(const struct dvk_channel_view *view, int side, uint32_t i, uint32_t flags,
                                    uint32_t sequence) {
    dvk_slot_fill(view, side, i, flags, sequence);
    __atomic_store_n(&view->slot[side][i].state, DVK_STATE(DVK_SLOT_WAITING, sequence), __ATOMIC_RELAXED); /* P1, P5 */
    dvk_ring_append(&view->header->ring[side], view->slots[side], (uint16_t)i);
}

/* Ask the peer to end the request in our slot i; the caller then posts the doorbell. Returns the ring position for
 * dvk_ring_has_passed. At most once a request. */
static inline uint32_t dvk_slot_cancel(const struct dvk_channel_view *view, int side, uint32_t i) {
    __atomic_store_n(&view->slot[side][i].cancel, 1u, __ATOMIC_RELAXED); /* ordered by P1 */
    dvk_ring_append(&view->header->ring[side], view->slots[side], (uint16_t)(i | DVK_RING_CANCEL));
    return __atomic_load_n(&view->header->ring[side].head, __ATOMIC_RELAXED);
}

enum dvk_slot_look { DVK_LOOK_WAITING, DVK_LOOK_DONE, DVK_LOOK_DEAD, DVK_LOOK_BROKEN };

/* How our request with that sequence stands. DONE: reply and reply buffer may be read. BROKEN: the peer wrote
 * something else there. */
static inline enum dvk_slot_look dvk_slot_look(const struct dvk_slot *slot, uint32_t sequence) {
    uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST); /* P2, P4 */
    if (state == DVK_STATE(DVK_SLOT_WAITING, sequence))
        return DVK_LOOK_WAITING;
    if (state == DVK_STATE(DVK_SLOT_DONE, sequence))
        return DVK_LOOK_DONE;
    return DVK_STATE_KIND(state) == DVK_SLOT_DEAD ? DVK_LOOK_DEAD : DVK_LOOK_BROKEN;
}

/* Before sleeping on slot->state: say so; then look again (P4). ticket: not 0; see waits.h. The futex value to wait for is
 * DVK_STATE(DVK_SLOT_WAITING, sequence); the futex is shared, not private. */
static inline void dvk_slot_prepare_sleep_as(struct dvk_slot *slot, uint32_t ticket) {
    __atomic_store_n(&slot->waiters, ticket, __ATOMIC_SEQ_CST);
}
static inline void dvk_slot_prepare_sleep(struct dvk_slot *slot) {
    dvk_slot_prepare_sleep_as(slot, 1u);
}

static inline void dvk_slot_free(struct dvk_slot *slot) {
    __atomic_store_n(&slot->state, DVK_SLOT_FREE, __ATOMIC_RELEASE);
}

/* ---- slots, replier ---- */

/* What dvk_slot_finish leaves to its caller. */
enum dvk_finish {
    DVK_FINISH_WAKE = 1 /* futex wake slot->state, shared, all */,
    DVK_FINISH_RING = 2 /* post doorbell */
};

/*
 * dvk_slot_finish: publish the reply (slot->reply and the reply buffer are written already) to the request that had
 * `sequence`. Returns enum dvk_finish bits; 0 also when the requester's word is not what it must be (it is dead or has
 * scribbled: nobody waits).
 */
static inline unsigned dvk_slot_finish(struct dvk_slot *slot, uint32_t sequence) {
    uint32_t expected = DVK_STATE(DVK_SLOT_WAITING, sequence);
    if (!__atomic_compare_exchange_n(&slot->state, &expected, DVK_STATE(DVK_SLOT_DONE, sequence), false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) /* P2, P4 */
        return 0;
    unsigned todo = 0;
    if (__atomic_load_n(&slot->waiters, __ATOMIC_SEQ_CST))
        todo |= DVK_FINISH_WAKE;
    if (__atomic_load_n(&slot->flags, __ATOMIC_SEQ_CST) & DVK_SLOT_RING_BACK)
        todo |= DVK_FINISH_RING;
    return todo;
}

/* ---- messages, by cache lines ---- */

/*
 * Most messages are zeros at their end. What is not written need not travel from one CPU's cache to the other's: so
 * only the lines up to the last that is not zero are copied into the channel, and their number is told.
 */
#define DVK_LINE 64u
#define DVK_MESSAGE_LINES (DVK_MESSAGE_SIZE / DVK_LINE)

/* Lines of a message, without those at the end that are zero; at least 1. */
static inline uint32_t dvk_message_lines(const struct dvk_message *message) {
    const uint64_t *words = (const uint64_t *)(const void *)message;
    uint32_t lines = DVK_MESSAGE_LINES;
    for (; lines > 1; lines--) {
        const uint64_t *line = words + (lines - 1) * (DVK_LINE / 8);
        if (line[0] | line[1] | line[2] | line[3] | line[4] | line[5] | line[6] | line[7])
            break;
    }
    return lines;
}

/* Write that many lines of a message. */
static inline void dvk_message_write(struct dvk_message *to, const struct dvk_message *from, uint32_t lines) {
    for (uint32_t i = 0; i < lines; i++)
        __builtin_memcpy((uint8_t *)to + i * DVK_LINE, (const uint8_t *)from + i * DVK_LINE, DVK_LINE);
}

/* Read a message of which `lines` were written (0 or too many: all), into private memory. */
static inline void dvk_message_read(struct dvk_message *to, const struct dvk_message *from, uint32_t lines) {
    if (lines == 0 || lines > DVK_MESSAGE_LINES)
        lines = DVK_MESSAGE_LINES;
    dvk_message_write(to, from, lines);
    if (lines < 2)
        __builtin_memset((uint8_t *)to + 1 * DVK_LINE, 0, DVK_LINE);
    if (lines < 3)
        __builtin_memset((uint8_t *)to + 2 * DVK_LINE, 0, DVK_LINE);
    if (lines < 4)
        __builtin_memset((uint8_t *)to + 3 * DVK_LINE, 0, DVK_LINE);
}
_Static_assert(DVK_MESSAGE_LINES == 4, "dvk_message_read");

/* The flags that tell the lines of a request. */
static inline uint32_t dvk_lines_flags(uint32_t lines) {
    return lines == DVK_MESSAGE_LINES ? 0 : lines * DVK_SLOT_LINES_UNIT;
}
static inline uint32_t dvk_flags_lines(uint32_t flags) {
    return (flags & DVK_SLOT_LINES_MASK) / DVK_SLOT_LINES_UNIT;
}

/* ---- doorbells ---- */

/*
 * dvk_doorbell_post: tell the owner of the page that channel bit `bit` (header.doorbell_bit of the owner's side; taken
 * modulo DVK_DOORBELL_BITS) has something. Returns true when the caller must make a shared futex wake of bell->word.
 */
static inline bool dvk_doorbell_post(struct dvk_doorbell *bell, uint32_t bit) {
    bit %= DVK_DOORBELL_BITS;
    uint32_t word = bit / 64;
    /* Set already, and not seen yet: who set it rings, and the owner clears it before it looks at what we have appended.
     * Not if it sleeps: who set it may have died before it rang. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&bell->pending[word], __ATOMIC_RELAXED) >> (bit % 64) & 1 &&
        __atomic_load_n(&bell->summary[word / 64], __ATOMIC_RELAXED) >> (word % 64) & 1 &&
        !__atomic_load_n(&bell->sleeping, __ATOMIC_RELAXED))
        return false;
    __atomic_fetch_or(&bell->pending[word], 1ull << (bit % 64), __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&bell->summary[word / 64], 1ull << (word % 64), __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&bell->word, 1u, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&bell->sleeping, __ATOMIC_SEQ_CST) && /* P3 */
           __atomic_exchange_n(&bell->sleeping, 0u, __ATOMIC_SEQ_CST);
}

/*
 * dvk_doorbell_prepare_sleep: the owner, having scanned everything since it read `seen` from bell->word, is about to
 * make a shared futex wait (bell->word, seen). Returns false when there is news: do not sleep, scan again.
 */
static inline bool dvk_doorbell_prepare_sleep(struct dvk_doorbell *bell, uint32_t seen) {
    __atomic_store_n(&bell->sleeping, 1u, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&bell->word, __ATOMIC_SEQ_CST) == seen &&
        __atomic_load_n(&bell->summary[0], __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&bell->summary[1], __ATOMIC_SEQ_CST) == 0)
        return true;
    __atomic_store_n(&bell->sleeping, 0u, __ATOMIC_RELAXED);
    return false;
}
static inline void dvk_doorbell_awake(struct dvk_doorbell *bell) {
    __atomic_store_n(&bell->sleeping, 0u, __ATOMIC_RELAXED);
}

_Static_assert(sizeof(struct dvk_doorbell) <= DVK_DOORBELL_SIZE, "a doorbell is one page");

#endif
