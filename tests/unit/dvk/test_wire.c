/* SPDX-License-Identifier: Apache-2.0 */
/* The frames' parser on garbage, and the link's sessions against a model: two links over a connection that breaks at
 * any byte, with sides that forget everything now and then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/link.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *frame_make(struct wire_header *header, const void *body, size_t body_len, size_t *len) {
    *len = sizeof *header + body_len;
    uint8_t *bytes = malloc(*len); /* exactly, so that a read beyond it is found by the sanitizer */
    wire_seal(header, body, body_len);
    memcpy(bytes, header, sizeof *header);
    if (body_len)
        memcpy(bytes + sizeof *header, body, body_len);
    return bytes;
}

/* Bit by bit. */
static uint32_t crc_plain(const uint8_t *bytes, size_t len) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

/* Of all lengths and alignments, in one piece and in two. */
static void test_crc_lengths(void **state) {
    static uint8_t bytes[16384];
    unsigned seed = 3;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rand_r(&seed);
    for (int i = 0; i < 500; i++) {
        size_t at = (size_t)rand_r(&seed) % 64, len = (size_t)rand_r(&seed) % (sizeof bytes - 64);
        size_t first = len ? (size_t)rand_r(&seed) % len : 0;
        uint32_t crc = crc_plain(bytes + at, len);
        assert_int_equal(wire_crc32c(0, bytes + at, len), crc);
        assert_int_equal(wire_crc32c(wire_crc32c(0, bytes + at, first), bytes + at + first, len - first), crc);
    }
}

static void test_crc(void **state) {
    (void)state;
    assert_int_equal(wire_crc32c(0, "123456789", 9), 0xe3069283u);
    uint32_t crc = wire_crc32c(0, "12345", 5);
    assert_int_equal(wire_crc32c(crc, "6789", 4), 0xe3069283u);
}

static void test_parse(void **state) {
    (void)state;
    uint8_t body[DVK_MESSAGE_SIZE + 100] = {0};
    struct dvk_message *message = (struct dvk_message *)body;
    message->source = 5;
    message->destination = 6;
    message->data_len = 100;
    memset(body + DVK_MESSAGE_SIZE, 7, 100);
    struct wire_header header = {.command = WIRE_REQUEST, .sequence = 1, .tag = 9, .dc = 3};
    size_t len;
    uint8_t *bytes = frame_make(&header, body, sizeof body, &len);
    struct wire_frame frame;
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    struct dvk_message got;
    const uint8_t *data;
    wire_message(&frame, &got, &data);
    assert_int_equal(got.data_len, 100);
    assert_int_equal(data[99], 7);
    /* a part of it: more is wanted */
    for (size_t n = 0; n < len; n++)
        assert_int_equal(wire_parse(bytes, n, &frame), 0);
    /* any bit wrong: refused, or (in the length) more is wanted */
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        long result = wire_parse(bytes, len, &frame);
        assert_true(result == -EPROTO || result == -DVK_EVERSION || (result == 0 && bit / 8 >= 12 && bit / 8 < 16));
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    free(bytes);
    /* sealed, but wrong */
    for (int i = 0; i < 9; i++) {
        struct wire_header h = header;
        struct dvk_message m = *message;
        switch (i) {
        case 0:
            m.data_len = 101;
            break;
        case 1:
            m.fds = 1;
            break;
        case 2:
            m.source = DVK_NONE;
            break;
        case 3:
            m.notify = 1;
            break;
        case 4:
            h.dc = DVK_MAX_DC + 1;
            break;
        case 5:
            h.status = 1;
            break;
        case 6:
            h.sequence = 0;
            break;
        case 7:
            h.flags = 1u << 9;
            break;
        case 8:
            h.command = WIRE_COMMAND_END;
            break;
        }
        memcpy(body, &m, sizeof m);
        bytes = frame_make(&h, body, sizeof body, &len);
        assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
        free(bytes);
    }
}

static void test_garbage(void **state) {
    (void)state;
    unsigned seed = 3;
    for (int i = 0; i < 200000; i++) {
        size_t len = (size_t)rand_r(&seed) % 400;
        uint8_t *bytes = malloc(len + 1);
        for (size_t j = 0; j < len; j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        if (len >= sizeof(struct wire_header)) {
            struct wire_header h;
            memcpy(&h, bytes, sizeof h);
            h.magic = WIRE_MAGIC;
            h.version = WIRE_VERSION;
            h.command %= 8;
            h.flags &= WIRE_F_LZ4 | WIRE_F_RESUME;
            if (i % 2) {
                h.body_len = (uint32_t)(len - sizeof h);
                h.dc %= 5000;
                h.crc = 0;
                memcpy(bytes, &h, sizeof h);
                h.crc = wire_crc32c(0, bytes, len);
            }
            memcpy(bytes, &h, sizeof h);
        }
        struct wire_frame frame;
        long result = wire_parse(bytes, len, &frame);
        assert_true(result == 0 || result == -EPROTO || (result > 0 && (size_t)result <= len));
        if (result > 0) {
            uint8_t *room = malloc(WIRE_BODY_MAX);
            int expanded = wire_expand(&frame, room);
            assert_true(expanded == 0 || expanded == -EPROTO);
            free(room);
        }
        free(bytes);
    }
}

/* Encrypted frames carry no checksum, and say so; a refusal is text. */
static void test_tls_frames(void **state) {
    (void)state;
    struct wire_header header = {.command = WIRE_ACK, .flags = WIRE_F_TLS};
    struct wire_frame frame;
    size_t len;
    uint8_t *bytes = frame_make(&header, NULL, 0, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    assert_int_equal(frame.header.crc, 0);
    ((struct wire_header *)bytes)->crc = 1;
    assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
    ((struct wire_header *)bytes)->crc = 0;
    ((struct wire_header *)bytes)->flags = 0; /* without the flag the checksum is missing */
    assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
    free(bytes);
    char text[WIRE_REFUSE_MAX + 1];
    header = (struct wire_header){.command = WIRE_REFUSE};
    bytes = frame_make(&header, "no\033[2J\xff!", 8, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    wire_refusal(&frame, text);
    assert_string_equal(text, "no?[2J?!");
    free(bytes);
    static const char long_text[WIRE_REFUSE_MAX + 1] = {'x'};
    bytes = frame_make(&header, long_text, sizeof long_text, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
    free(bytes);
    bytes = frame_make(&header, NULL, 0, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
    free(bytes);
}

/* ---- compressed bodies ---- */

static uint8_t *packed_make(const uint8_t *body, size_t body_len, size_t *len) {
    static uint8_t packed[65536];
    size_t packed_len = wire_pack(body, body_len, packed, sizeof packed);
    assert_true(packed_len > 0);
    struct wire_header header = {.command = WIRE_REQUEST, .flags = WIRE_F_LZ4, .sequence = 1, .tag = 9, .dc = 3};
    return frame_make(&header, packed, packed_len, len);
}

static void test_packed(void **state) {
    (void)state;
    static uint8_t body[WIRE_BODY_MAX], room[WIRE_BODY_MAX + 1];
    struct dvk_message *message = (struct dvk_message *)body;
    message->source = 5;
    message->destination = 6;
    message->data_len = DVK_LOAN_MAX;
    memset(body + DVK_MESSAGE_SIZE, 7, DVK_LOAN_MAX);
    size_t len;
    struct wire_frame frame;
    uint8_t *bytes = packed_make(body, sizeof body, &len);
    assert_true(len < 65536);
    room[WIRE_BODY_MAX] = 0x5a;
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    assert_int_equal(wire_expand(&frame, room), 0);
    assert_int_equal(frame.header.body_len, sizeof body);
    assert_memory_equal(frame.body, body, sizeof body);
    /* it says that it is longer, or shorter, than it is */
    struct wire_packed *packed = (struct wire_packed *)(bytes + sizeof(struct wire_header));
    static const uint32_t lies[] = {0, 1, DVK_MESSAGE_SIZE, 65536, sizeof body - 1, sizeof body + 1, 1u << 31, ~0u};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        packed->body_len = lies[i];
        struct wire_header header;
        memcpy(&header, bytes, sizeof header);
        wire_seal(&header, packed, header.body_len);
        memcpy(bytes, &header, sizeof header);
        assert_int_equal(wire_parse(bytes, len, &frame), len);
        assert_int_equal(wire_expand(&frame, room), -EPROTO);
    }
    free(bytes);
    assert_int_equal(room[WIRE_BODY_MAX], 0x5a);
    /* what is in it is checked as if it had come plain */
    message->data_len = 1;
    bytes = packed_make(body, sizeof body, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    assert_int_equal(wire_expand(&frame, room), -EPROTO);
    free(bytes);
    message->data_len = DVK_LOAN_MAX;
    message->source = DVK_NONE;
    bytes = packed_make(body, sizeof body, &len);
    assert_int_equal(wire_parse(bytes, len, &frame), len);
    assert_int_equal(wire_expand(&frame, room), -EPROTO);
    free(bytes);
    /* only messages are compressed */
    struct wire_header hello = {.command = WIRE_HELLO, .flags = WIRE_F_LZ4};
    bytes = frame_make(&hello, body, sizeof(struct wire_hello), &len);
    assert_int_equal(wire_parse(bytes, len, &frame), -EPROTO);
    free(bytes);
}

/* A block that would write a thousand times what it takes to send, and one that refers before its beginning. */
static void test_bomb(void **state) {
    (void)state;
    uint8_t block[300], *room = malloc(WIRE_BODY_MAX); /* exactly, so that the sanitizer sees what is beyond */
    struct wire_frame frame;
    for (int kind = 0; kind < 2; kind++) {
        memset(block, 0xff, sizeof block);
        uint32_t says = WIRE_BODY_MAX;
        memcpy(block, &says, sizeof says);
        block[4] = 0x1f;                 /* one literal, then a match of 19 + 255 * n bytes */
        block[5] = 'x';
        block[6] = kind ? 0xff : 0x01;   /* at this distance */
        block[7] = kind ? 0xff : 0x00;
        struct wire_header header = {.command = WIRE_REQUEST, .flags = WIRE_F_LZ4, .sequence = 1};
        size_t len;
        uint8_t *bytes = frame_make(&header, block, sizeof block, &len);
        assert_int_equal(wire_parse(bytes, len, &frame), len);
        assert_int_equal(wire_expand(&frame, room), -EPROTO);
        free(bytes);
    }
    free(room);
}

static void no_kept(void *context, uint64_t tag) {
    (void)context, (void)tag;
}
static void no_reset(void *context) {
    (void)context;
}

/* Bodies are compressed only while the network is slow, and hardly tried when that is of no use. */
static void test_packing_pays(void **state) {
    (void)state;
    static uint8_t zeros[DVK_DATA_MAX], noise[DVK_DATA_MAX];
    struct frame_link link;
    struct dvk_message m = {.source = 1, .destination = 2, .data_len = DVK_DATA_MAX};
    unsigned noise_seed = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)rand_r(&noise_seed);
    link_init(&link, 5, NULL, no_kept, no_reset);
    for (int i = 0; i < 10; i++)
        assert_int_equal(link_queue(&link, WIRE_REQUEST, 1, 1, 0, &m, sizeof m, zeros, sizeof zeros), 0);
    assert_int_equal(link.counts.packed, 0); /* the network takes all that comes */
    link.packing.byte_ns = 1e6;
    for (int i = 0; i < 10; i++)
        assert_int_equal(link_queue(&link, WIRE_REQUEST, 1, 1, 0, &m, sizeof m, zeros, sizeof zeros), 0);
    assert_int_equal(link.counts.packed, 10);
    assert_true(link.counts.packed_to * 100 < link.counts.packed_from);
    for (int i = 0; i < 10; i++)
        assert_int_equal(link_queue(&link, WIRE_REQUEST, 1, 1, 0, &m, 100, NULL, 0), 0);
    assert_int_equal(link.counts.packed, 10); /* short ones stay as they are */
    unsigned tried = 0, skipped = 0;
    for (int i = 0; i < 1000; i++) {
        unsigned skip = link.packing.skip;
        assert_int_equal(link_queue(&link, WIRE_REQUEST, 1, 1, 0, &m, sizeof m, noise, sizeof noise), 0);
        tried += skip == 0;
        skipped += skip != 0;
    }
    assert_int_equal(link.counts.packed, 10);
    assert_true(tried < 15 && skipped > 900);
    /* faster than compressing is: it shrinks, but does not pay */
    link.packing = (struct link_packing){.byte_ns = 1e-9};
    for (int i = 0; i < 100; i++)
        assert_int_equal(link_queue(&link, WIRE_REQUEST, 1, 1, 0, &m, sizeof m, zeros, sizeof zeros), 0);
    assert_true(link.counts.packed < 20);
    link_clear(&link);
}

/* ---- the model ---- */

enum { SIDES = 2, TAGS = 20000 };

struct side {
    struct frame_link link;
    unsigned next_tag;
    /* of a request of ours: 0 none, 1 under way, 2 answered, 3 lost */
    uint8_t request[TAGS];
    uint8_t kept_epoch[TAGS];
    uint8_t epoch;
    /* of a request of theirs, since their last forgetting */
    uint8_t done[TAGS];
    uint64_t last_tag; /* requests arrive in order */
};
static struct side sides[SIDES];
static unsigned seed;
static uint64_t session_counter;

static void kept(void *context, uint64_t tag) {
    struct side *side = context;
    assert_int_equal(side->request[tag], 1);
    side->kept_epoch[tag] = (uint8_t)(side->epoch + 1);
}
static void was_reset(void *context) {
    struct side *side = context;
    side->epoch++;
    for (unsigned t = 0; t < side->next_tag; t++)
        if (side->request[t] == 1 && side->kept_epoch[t] != side->epoch)
            side->request[t] = 3;
    side->last_tag = 0;
}

static void side_begin(struct side *side) {
    link_clear(&side->link);
    link_init(&side->link, ++session_counter, side, kept, was_reset);
    for (unsigned t = 0; t < side->next_tag; t++)
        if (side->request[t] == 1)
            side->request[t] = 3;
    side->last_tag = 0;
}

static void side_frame(struct side *side, const struct wire_frame *frame) {
    struct side *other = side == &sides[0] ? &sides[1] : &sides[0];
    uint64_t tag = frame->header.tag;
    assert_true(tag < TAGS);
    switch (frame->header.command) {
    case WIRE_REQUEST: {
        struct dvk_message message;
        const uint8_t *data;
        wire_message(frame, &message, &data);
        assert_int_equal(side->done[tag], 0); /* never twice */
        assert_true(tag > side->last_tag || side->last_tag == 0);
        side->last_tag = tag;
        side->done[tag] = 1;
        message.status = 1;
        assert_int_equal(
            link_queue(&side->link, WIRE_REPLY, tag, 0, 0, &message, sizeof message, data, message.data_len), 0);
        break;
    }
    case WIRE_REPLY:
        assert_int_equal(side->request[tag], 1); /* neither answered twice nor after it was lost */
        assert_int_equal(other->done[tag], 1);
        side->request[tag] = 2;
        break;
    default:
        break;
    }
}

/* A connection: bytes on the way in both directions, and what is parsed. */
static struct pipe {
    uint8_t bytes[1 << 20];
    size_t len;
} wires[SIDES]; /* wires[i]: to side i */
static bool connected, unsafe; /* unsafe: single frames are lost, come twice, or after the one behind them */
static unsigned packed_seen, gaps_seen;

static void connect_sides(void) {
    wires[0].len = wires[1].len = 0;
    struct wire_hello hello = {0}, answer = {0};
    link_hello(&sides[1].link, &hello);
    /* the answer may be lost on the way */
    bool resumed = link_meet(&sides[0].link, &hello, true, false, ++session_counter);
    link_hello(&sides[0].link, &answer);
    if (rand_r(&seed) % 4 == 0)
        return;
    bool agreed = link_meet(&sides[1].link, &answer, false, resumed, 0);
    assert_true(agreed == resumed);
    connected = true;
}

static void move_bytes(int from) {
    struct side *side = &sides[from];
    struct pipe *pipe = &wires[1 - from];
    struct iovec parts[16];
    int count = link_gather(&side->link, parts, 16);
    size_t budget = (size_t)rand_r(&seed) % 3000, written = 0;
    for (int i = 0; i < count && budget; i++) {
        size_t n = parts[i].iov_len < budget ? parts[i].iov_len : budget;
        if (pipe->len + n > sizeof pipe->bytes)
            break;
        memcpy(pipe->bytes + pipe->len, parts[i].iov_base, n);
        pipe->len += n;
        budget -= n;
        written += n;
        if (n < parts[i].iov_len)
            break;
    }
    link_written(&side->link, written);
    if (side->link.at_offset == 0 && rand_r(&seed) % 8 == 0 &&
        pipe->len + sizeof(struct wire_header) <= sizeof pipe->bytes) {
        struct wire_header ack;
        link_ack(&side->link, &ack);
        memcpy(pipe->bytes + pipe->len, &ack, sizeof ack);
        pipe->len += sizeof ack;
    }
}

/* false: the connection is of no use any more. */
static bool frame_arrived(int to, struct wire_frame *frame) {
    static uint8_t room[WIRE_BODY_MAX];
    int taken = link_take(&sides[to].link, &frame->header);
    if (taken < 0) {
        assert_true(unsafe); /* -EPROTO: what was swapped acknowledges less than what came before it */
        gaps_seen += taken == -EILSEQ;
        return false;
    }
    if (frame->header.flags & WIRE_F_LZ4)
        packed_seen++;
    assert_int_equal(wire_expand(frame, room), 0);
    if (taken)
        side_frame(&sides[to], frame);
    return true;
}

static void receive_bytes(int to, bool faults, bool deaf) {
    struct pipe *pipe = &wires[to];
    size_t at = 0;
    struct wire_frame frame, next;
    long len;
    while ((len = wire_parse(pipe->bytes + at, pipe->len - at, &frame)) > 0) {
        unsigned fault = faults ? (unsigned)rand_r(&seed) % 60 : 60;
        at += (size_t)len;
        bool fine = true;
        if (fault == 0 || deaf) /* lost */
            continue;
        if (fault == 1) { /* after the one behind it */
            long next_len = wire_parse(pipe->bytes + at, pipe->len - at, &next);
            fine = next_len <= 0 || frame_arrived(to, &next);
            at += next_len > 0 ? (size_t)next_len : 0;
        }
        fine = fine && frame_arrived(to, &frame) && (fault != 2 || frame_arrived(to, &frame));
        if (!fine) {
            connected = false;
            return;
        }
    }
    assert_int_equal(len, 0);
    memmove(pipe->bytes, pipe->bytes + at, pipe->len - at);
    pipe->len -= at;
}

static void link_model(bool forgets, bool faults) {
    unsafe = faults;
    memset(sides, 0, sizeof sides);
    for (int i = 0; i < SIDES; i++) {
        sides[i].next_tag = 1;
        list_init(&sides[i].link.frames);
        sides[i].link.at = &sides[i].link.frames;
        side_begin(&sides[i]);
    }
    connected = false;
    for (int step = 0; step < 40000; step++) {
        int i = rand_r(&seed) % 2;
        struct side *side = &sides[i];
        bool drain = step > 35000; /* at the end everything must come to rest */
        if (!connected)
            connect_sides();
        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
            if (!drain && side->next_tag < TAGS) {
                uint8_t data[2000] = {0};
                uint32_t data_len = (uint32_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 200 : 2000);
                struct dvk_message m = {.source = 1, .destination = 2, .data_len = data_len};
                side->link.packing.byte_ns = rand_r(&seed) % 2 ? 1e6 : 0;
                side->link.encrypted = rand_r(&seed) % 2;
                unsigned tag = side->next_tag++;
                side->request[tag] = 1;
                assert_int_equal(link_queue(&side->link, WIRE_REQUEST, tag, 1, 0, &m, sizeof m, data, m.data_len), 0);
                if (rand_r(&seed) % 6 == 0 && link_withdraw(&side->link, tag))
                    side->request[tag] = 3;
            }
            break;
        case 2:
        case 3:
        case 4:
            if (connected)
                move_bytes(i);
            break;
        case 5:
        case 6:
            if (connected)
                receive_bytes(i, faults && !drain,
                              faults && !drain && step > 34000); /* the last are lost, and none comes behind them */
            break;
        case 7:
            if (!drain && rand_r(&seed) % 20 == 0)
                connected = false;
            else if (!drain && forgets && rand_r(&seed) % 60 == 0) {
                side_begin(side);
                connected = false;
            }
            break;
        }
    }
    unsigned answered = 0, lost = 0, resent = 0;
    for (int i = 0; i < SIDES; i++) {
        for (unsigned t = 1; t < sides[i].next_tag; t++) {
            assert_int_not_equal(sides[i].request[t], 1); /* each has ended */
            answered += sides[i].request[t] == 2;
            lost += sides[i].request[t] == 3 && sides[1 - i].done[t];
        }
        resent += sides[i].link.counts.resent;
        link_clear(&sides[i].link);
    }
    if (!forgets) /* what was on the way when a connection broke */
        assert_true(resent > 10);
    assert_true(answered > 1000 && packed_seen > 100);
    if (!forgets) /* nothing that was done is without its answer */
        assert_int_equal(lost, 0);
}

static void test_link(void **state) {
    (void)state;
    for (unsigned round = 1; round <= 10; round++) {
        seed = round;
        link_model(false, false);
        link_model(true, false);
        link_model(false, true);
        link_model(true, true);
    }
    assert_true(gaps_seen > 100);
}

/* What a peer could say to confuse us. */
static void nothing(void *context, uint64_t tag) {
    (void)context, (void)tag;
}
static void nothing_at_all(void *context) {
    (void)context;
}
static void test_bad_acks(void **state) {
    (void)state;
    struct frame_link link;
    link_init(&link, 5, NULL, nothing, nothing_at_all);
    struct wire_hello hello = {.session = 9, .peer_session = 0};
    assert_false(link_meet(&link, &hello, true, false, 6));
    assert_int_equal(link.session, 6);
    struct wire_header header = {.command = WIRE_REQUEST, .sequence = 1, .acknowledged = 1};
    assert_int_equal(link_take(&link, &header), -EPROTO); /* we have sent nothing */
    header.acknowledged = 0;
    header.sequence = 2;
    assert_int_equal(link_take(&link, &header), -EILSEQ); /* a gap */
    struct wire_header ack = {.command = WIRE_ACK, .tag = 1};
    assert_int_equal(link_take(&link, &ack), -EILSEQ); /* one is missing, and none came behind it */
    ack.tag = 0;
    assert_int_equal(link_take(&link, &ack), 0);
    assert_int_equal(link.counts.gaps, 2);
    header.sequence = 1;
    assert_int_equal(link_take(&link, &header), 1);
    assert_int_equal(link.counts.duplicates, 0);
    assert_int_equal(link_take(&link, &header), 0);
    assert_int_equal(link.counts.duplicates, 1);
    /* a hello that claims to have received more than was sent: not known */
    hello = (struct wire_hello){.session = 9, .peer_session = 6, .received = 3};
    assert_false(link_meet(&link, &hello, true, false, 7));
    assert_int_equal(link.received, 0);
    link_clear(&link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc_lengths),
        cmocka_unit_test(test_crc),  cmocka_unit_test(test_parse),    cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_link), cmocka_unit_test(test_bad_acks),
        cmocka_unit_test(test_tls_frames), cmocka_unit_test(test_packed), cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_packing_pays),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
