/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PACK_MISSES_MAX 8u
#define GATHER_BYTES (64u << 10) /* at once; or one frame */

void link_init(struct frame_link *link, uint64_t session, void *context, void (*kept)(void *, uint64_t),
               void (*reset)(void *)) {
    *link =
        (struct frame_link){.session = session, .next_sequence = 1, .context = context, .kept = kept, .reset = reset};
    list_init(&link->frames);
    link->at = &link->frames;
}

static void frame_drop(struct frame_link *link, struct out_frame *frame) {
    if (link->at == &frame->link) {
        link->at = frame->link.next;
        link->at_offset = 0;
    }
    link->queued_bytes -= sizeof *frame + frame->body_len;
    list_remove(&frame->link);
    free(frame);
}

void link_clear(struct frame_link *link) {
    struct out_frame *frame;
    while ((frame = list_first(&link->frames, struct out_frame, link)))
        frame_drop(link, frame);
}

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The frame with its body compressed, in place of it; or as it is. */
static struct out_frame *frame_pack(struct frame_link *link, struct out_frame *frame) {
    struct link_packing *packing = &link->packing;
    if (packing->byte_ns == 0 || frame->body_len < LINK_PACK_MIN)
        return frame;
    if (packing->skip) {
        packing->skip--;
        return frame;
    }
    size_t cap = frame->body_len - frame->body_len / 8, len = 0;
    struct out_frame *packed = malloc(sizeof *packed + cap);
    uint64_t begin = now_ns();
    if (packed)
        len = wire_pack(frame->body, frame->body_len, packed->body, cap);
    bool pays = len && (double)(frame->body_len - len) * packing->byte_ns > (double)(now_ns() - begin);
    packing->misses = pays ? 0 : packing->misses < PACK_MISSES_MAX ? packing->misses + 1 : PACK_MISSES_MAX;
    packing->skip = pays ? 0 : 1u << packing->misses;
    if (len == 0) {
        free(packed);
        return frame;
    }
    packed->header = frame->header;
    packed->header.flags |= WIRE_F_LZ4;
    packed->sent = packed->written = false;
    packed->body_len = len;
    link->counts.packed++;
    link->counts.packed_from += frame->body_len;
    link->counts.packed_to += len;
    free(frame);
    struct out_frame *shrunk = realloc(packed, sizeof *packed + len);
    return shrunk ? shrunk : packed;
}

int link_queue(struct frame_link *link, uint16_t command, uint64_t tag, uint32_t dc, int32_t status, const void *body,
               size_t body_len, const void *more, size_t more_len) {
    struct out_frame *frame = malloc(sizeof *frame + body_len + more_len);
    if (!frame)
        return -ENOMEM;
    memset(frame, 0, sizeof *frame);
    frame->header.command = command;
    frame->header.tag = tag;
    frame->header.dc = dc;
    frame->header.status = status;
    frame->header.sequence = link->next_sequence++;
    frame->body_len = body_len + more_len;
    if (body_len)
        memcpy(frame->body, body, body_len);
    if (more_len)
        memcpy(frame->body + body_len, more, more_len);
    frame = frame_pack(link, frame);
    list_append(&link->frames, &frame->link);
    link->queued_bytes += sizeof *frame + frame->body_len;
    if (link->at == &link->frames) {
        link->at = &frame->link;
        link->at_offset = 0;
    }
    return 0;
}

static bool is_request(const struct out_frame *frame) {
    return frame->header.command == WIRE_REQUEST || frame->header.command == WIRE_SEND;
}

bool link_withdraw(struct frame_link *link, uint64_t tag) {
    list_each(frame, &link->frames, struct out_frame, link) {
        if (frame->header.tag != tag || !is_request(frame) || frame->written)
            continue;
        /* those behind it have not been written either: close the gap */
        uint64_t sequence = frame->header.sequence;
        for (struct link *l = frame->link.next; l != &link->frames; l = l->next)
            list_element(l, struct out_frame, link)->header.sequence = sequence++;
        link->next_sequence = sequence;
        frame_drop(link, frame);
        return true;
    }
    return false;
}

void link_hello(const struct frame_link *link, struct wire_hello *hello) {
    hello->session = link->session;
    hello->peer_session = link->peer_session;
    hello->received = link->received;
}

static void acknowledge(struct frame_link *link, uint64_t sequence) {
    link->acknowledged = sequence;
    struct out_frame *frame;
    while ((frame = list_first(&link->frames, struct out_frame, link)) && frame->header.sequence <= sequence)
        frame_drop(link, frame);
}

static void reset(struct frame_link *link) {
    link->received = link->told = link->acknowledged = link->written = 0;
    link->next_sequence = 1;
    list_each(frame, &link->frames, struct out_frame, link) {
        if (frame->written || !is_request(frame)) {
            frame_drop(link, frame);
        } else {
            frame->header.sequence = link->next_sequence++;
            link->kept(link->context, frame->header.tag);
        }
    }
    link->at = link->frames.next;
    link->at_offset = 0;
    link->reset(link->context);
}

bool link_meet(struct frame_link *link, const struct wire_hello *hello, bool accepting, bool resume_flag,
               uint64_t fresh) {
    bool known = link->peer_session != 0 && hello->session == link->peer_session &&
                 hello->peer_session == link->session && hello->received >= link->acknowledged &&
                 hello->received <= link->written;
    if (known && (accepting || resume_flag)) {
        acknowledge(link, hello->received);
        link->at = link->frames.next;
        link->at_offset = 0;
        link->told = 0; /* say it again */
        return true;
    }
    if (accepting)
        link->session = fresh;
    link->peer_session = hello->session;
    reset(link);
    return false;
}

/* The last numbered frame that was written to this connection, or acknowledged before. */
static uint64_t last_sent(const struct frame_link *link) {
    return (link->at == &link->frames ? link->next_sequence
                                      : list_element(link->at, struct out_frame, link)->header.sequence) -
           1;
}

void link_ack(struct frame_link *link, struct wire_header *header) {
    *header = (struct wire_header){.command = WIRE_ACK,
                                   .acknowledged = link->received,
                                   .tag = last_sent(link),
                                   .flags = link->encrypted ? WIRE_F_TLS : 0};
    wire_seal(header, NULL, 0);
    link->told = link->received;
}

static int gap(struct frame_link *link) {
    link->counts.gaps++;
    return -EILSEQ;
}

int link_take(struct frame_link *link, const struct wire_header *header) {
    bool numbered = header->sequence != 0;
    if (numbered && header->sequence <= link->received) { /* what it acknowledges is old news too */
        link->counts.duplicates++;
        return 0;
    }
    if (header->acknowledged < link->acknowledged || header->acknowledged > link->written)
        return -EPROTO;
    if (header->acknowledged > link->acknowledged)
        acknowledge(link, header->acknowledged);
    link->counts.frames_in++;
    link->counts.bytes_in += sizeof *header + header->body_len;
    if (!numbered)
        return header->command == WIRE_ACK && header->tag > link->received ? gap(link) : 0;
    if (header->sequence != link->received + 1)
        return gap(link);
    link->received++;
    return 1;
}

int link_gather(struct frame_link *link, struct iovec *parts, int max) {
    int count = 0;
    size_t skip = link->at_offset, bytes = 0;
    for (struct link *l = link->at; l != &link->frames && count + 2 <= max && bytes < GATHER_BYTES; l = l->next) {
        struct out_frame *frame = list_element(l, struct out_frame, link);
        if (skip == 0) {
            frame->header.acknowledged = link->received;
            link->told = link->received;
            frame->header.flags = (frame->header.flags & ~(uint32_t)WIRE_F_TLS) | (link->encrypted ? WIRE_F_TLS : 0);
            wire_seal(&frame->header, frame->body, frame->body_len);
        }
        frame->written = true;
        if (frame->header.sequence > link->written)
            link->written = frame->header.sequence;
        if (skip < sizeof frame->header)
            parts[count++] = (struct iovec){(uint8_t *)&frame->header + skip, sizeof frame->header - skip};
        size_t body_skip = skip > sizeof frame->header ? skip - sizeof frame->header : 0;
        if (frame->body_len > body_skip)
            parts[count++] = (struct iovec){frame->body + body_skip, frame->body_len - body_skip};
        bytes += sizeof frame->header + frame->body_len - skip;
        skip = 0;
    }
    return count;
}

void link_written(struct frame_link *link, size_t bytes) {
    link->counts.bytes_out += bytes;
    while (bytes && link->at != &link->frames) {
        struct out_frame *frame = list_element(link->at, struct out_frame, link);
        size_t left = sizeof frame->header + frame->body_len - link->at_offset;
        if (bytes < left) {
            link->at_offset += bytes;
            return;
        }
        bytes -= left;
        link->counts.frames_out++;
        link->counts.resent += frame->sent;
        frame->sent = true;
        link->at = link->at->next;
        link->at_offset = 0;
    }
}
