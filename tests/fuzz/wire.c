/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's frames and sessions: any bytes as a frame, with and without a right checksum, and any order of events. */
#include "input.h"
#include "proxy/link.h"

#define SELF 0x5e1full
#define PEER 0x9ee4ull

static void kept(void *context, uint64_t tag) {}
static void reset(void *context) {}

static uint64_t session_of(struct input *in) {
    static const uint64_t known[] = {0, SELF, PEER, 77};
    return known[input_byte(in) % 4];
}

static void parse(const uint8_t *bytes, size_t len) {
    uint8_t *copy = input_heap(bytes, len);
    struct wire_frame frame;
    long total = wire_parse(copy, len, &frame);
    MUST(total <= (long)len);
    if (total > 0 && frame.header.command == WIRE_HELLO) {
        struct wire_hello hello;
        wire_hello(&frame, &hello);
        MUST(memchr(hello.cluster, 0, sizeof hello.cluster));
    } else if (total > 0 && frame.header.command == WIRE_REFUSE) {
        char text[WIRE_REFUSE_MAX + 1];
        wire_refusal(&frame, text);
        MUST(strlen(text) == frame.header.body_len);
    } else if (total > 0 && frame.header.flags & WIRE_F_LZ4) {
        uint8_t *room = malloc(WIRE_BODY_MAX);
        if (wire_expand(&frame, room) == 0) {
            struct dvk_message message;
            const uint8_t *data;
            wire_message(&frame, &message, &data);
            MUST(data + message.data_len == room + frame.header.body_len && frame.header.body_len <= WIRE_BODY_MAX);
        }
        free(room);
    } else if (total > 0 && frame.header.body_len) {
        struct dvk_message message;
        const uint8_t *data;
        wire_message(&frame, &message, &data);
        MUST(data + message.data_len == copy + total);
    }
    free(copy);
}

static void parse_sealed(struct input *in) {
    uint8_t bytes[4096];
    struct wire_header header = {.command = input_byte(in) % 32};
    header.flags = input_byte(in);
    header.sequence = input_byte(in);
    header.acknowledged = input_byte(in);
    header.status = (int32_t)input_u32(in);
    header.dc = input_u16(in);
    size_t want = input_byte(in) & 1 ? sizeof(struct wire_hello) : DVK_MESSAGE_SIZE + input_byte(in), len;
    if (header.flags & WIRE_F_LZ4)
        want = 3000;
    const uint8_t *body = input_bytes(in, want, &len);
    wire_seal(&header, body, len);
    memcpy(bytes, &header, sizeof header);
    if (len)
        memcpy(bytes + sizeof header, body, len);
    parse(bytes, sizeof header + len);
}

static void write_some(struct frame_link *link, size_t bytes) {
    struct iovec parts[8];
    int count = link_gather(link, parts, 8);
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    if (count > 0)
        link_written(link, bytes < total ? bytes : total);
}

static void drive(struct input *in) {
    struct frame_link link;
    link_init(&link, SELF, NULL, kept, reset);
    while (in->left) {
        struct wire_hello hello = {0};
        struct wire_header header = {0};
        uint8_t op = input_byte(in), value = input_byte(in);
        switch (op % 6) {
        case 0:
            MUST(link_queue(&link, (uint16_t)(WIRE_REQUEST + value % 4), value, 1, 0, in->at, in->left < 9 ? in->left : 9, NULL, 0) == 0);
            break;
        case 1:
            write_some(&link, input_u16(in));
            break;
        case 2:
            hello.node = 1;
            hello.session = session_of(in);
            hello.peer_session = session_of(in);
            hello.received = value & 0x80 ? input_u64(in) : value & 0x1f;
            link_meet(&link, &hello, value & 0x20, value & 0x40, session_of(in) | 1);
            break;
        case 3:
            header.command = (uint16_t)(WIRE_REQUEST + value % 5);
            header.sequence = value & 0x40 ? input_u64(in) : link.received + 1;
            header.acknowledged = value & 0x80 ? input_u64(in) : input_byte(in);
            MUST(link_take(&link, &header) <= 1);
            break;
        case 4:
            link_withdraw(&link, value);
            break;
        case 5:
            link_hello(&link, &hello);
            break;
        }
    }
    link_clear(&link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    switch (input_byte(&in) % 3) {
    case 0:
        parse(in.at, in.left);
        break;
    case 1:
        parse_sealed(&in);
        break;
    case 2:
        drive(&in);
        break;
    }
    return 0;
}
