/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/wire.h"

#include "dvk/relay.h"

#include <dvk/error.h>
#include <errno.h>
#include <lz4.h>
#include <string.h>

static uint32_t crc_table[8][256];
/*
 * The instruction takes three cycles, but one can be begun in each: so three stretches of STRETCH bytes are summed up beside each
 * other. A sum goes on over a stretch as the sum of the stretch alone, xor what zeros in its place make of the sum before it:
 * zeros_table, by bytes of that.
 */
#define STRETCH 1024u
static uint32_t zeros_table[4][256];

static uint32_t crc_software(uint32_t c, const uint8_t *p, size_t len);

__attribute__((constructor)) static void crc_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 0xff];
    static const uint8_t zeros[STRETCH];
    for (uint32_t bit = 0; bit < 32; bit++) {
        uint32_t after = crc_software(1u << bit, zeros, sizeof zeros);
        for (uint32_t i = 0; i < 256; i++)
            if (i >> (bit % 8) & 1)
                zeros_table[bit / 8][i] ^= after;
    }
}

static uint32_t after_zeros(uint32_t c) {
    return zeros_table[0][c & 0xff] ^ zeros_table[1][c >> 8 & 0xff] ^ zeros_table[2][c >> 16 & 0xff] ^ zeros_table[3][c >> 24];
}

__attribute__((target("sse4.2"))) static uint64_t crc_word(uint64_t c, const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return __builtin_ia32_crc32di(c, word);
}

__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *p, size_t len) {
    uint64_t c = crc;
    for (; len >= 3 * STRETCH; p += 3 * STRETCH, len -= 3 * STRETCH) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < STRETCH; i += 8) {
            c = crc_word(c, p + i);
            second = crc_word(second, p + STRETCH + i);
            third = crc_word(third, p + 2 * STRETCH + i);
        }
        c = after_zeros(after_zeros((uint32_t)c) ^ (uint32_t)second) ^ third;
    }
    for (; len >= 8; p += 8, len -= 8)
        c = crc_word(c, p);
    for (; len; p++, len--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    return (uint32_t)c;
}

static uint32_t crc_software(uint32_t c, const uint8_t *p, size_t len) {
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= c;
        c = 0;
        for (int i = 0; i < 8; i++)
            c ^= crc_table[7 - i][w >> (8 * i) & 0xff];
    }
    for (; len; p++, len--)
        c = c >> 8 ^ crc_table[0][(c ^ *p) & 0xff];
    return c;
}

uint32_t wire_crc32c(uint32_t crc, const void *bytes, size_t len) {
    crc = ~crc;
    crc = __builtin_cpu_supports("sse4.2") ? crc_hardware(crc, bytes, len) : crc_software(crc, bytes, len);
    return ~crc;
}

void wire_seal(struct wire_header *header, const void *body, size_t body_len) {
    header->magic = WIRE_MAGIC;
    header->version = WIRE_VERSION;
    header->body_len = (uint32_t)body_len;
    header->crc = 0;
    if (header->flags & WIRE_F_TLS)
        return;
    uint32_t crc = wire_crc32c(0, header, sizeof *header);
    header->crc = wire_crc32c(crc, body, body_len);
}

static bool lengths_are_right(const struct wire_header *header) {
    if (header->flags & WIRE_F_LZ4 && header->command != WIRE_REQUEST && header->command != WIRE_SEND &&
        header->command != WIRE_REPLY)
        return false;
    switch (header->command) {
    case WIRE_HELLO:
        return header->body_len == sizeof(struct wire_hello) && header->sequence == 0;
    case WIRE_ACK:
        return header->body_len == 0 && header->sequence == 0;
    case WIRE_REFUSE:
        return header->body_len >= 1 && header->body_len <= WIRE_REFUSE_MAX && header->sequence == 0;
    case WIRE_CANCEL:
        return header->body_len == 0 && header->sequence != 0;
    case WIRE_REQUEST:
    case WIRE_SEND:
    case WIRE_REPLY:
        if (header->flags & WIRE_F_LZ4)
            return header->body_len > sizeof(struct wire_packed) && header->body_len <= WIRE_BODY_MAX &&
                   header->sequence != 0;
        return header->body_len >= DVK_MESSAGE_SIZE && header->body_len <= WIRE_BODY_MAX && header->sequence != 0;
    default:
        return false;
    }
}

/* Of a REQUEST, SEND or REPLY: what the message says of itself; all else has none. */
static bool message_is_right(const struct wire_frame *frame) {
    const struct wire_header *header = &frame->header;
    struct dvk_message message;
    if (header->command != WIRE_REQUEST && header->command != WIRE_SEND && header->command != WIRE_REPLY)
        return true;
    memcpy(&message, frame->body, sizeof message);
    if (message.data_len != header->body_len - DVK_MESSAGE_SIZE || message.fds || message.flags & DVK_MSG_FDS)
        return false;
    if (header->command != WIRE_REPLY && (message.source == DVK_NONE || message.destination == DVK_NONE))
        return false;
    bool resumed = header->command == WIRE_REQUEST && message.flags & DVK_MSG_RESUMED; /* notify is its key */
    return !message.notify || header->command == WIRE_SEND || resumed;
}

static bool checksum_is_right(const struct wire_header *header, const uint8_t *body) {
    if (header->flags & WIRE_F_TLS)
        return header->crc == 0;
    struct wire_header zeroed = *header;
    zeroed.crc = 0;
    uint32_t crc = wire_crc32c(0, &zeroed, sizeof zeroed);
    return wire_crc32c(crc, body, header->body_len) == header->crc;
}

long wire_parse(const uint8_t *bytes, size_t len, struct wire_frame *frame) {
    struct wire_header *header = &frame->header;
    if (len < sizeof *header)
        return 0;
    memcpy(header, bytes, sizeof *header);
    if (header->magic != WIRE_MAGIC)
        return -EPROTO;
    if (header->version != WIRE_VERSION)
        return -DVK_EVERSION;
    if (header->command == 0 || header->command >= WIRE_COMMAND_END || header->flags & ~WIRE_F_KNOWN ||
        header->dc > DVK_MAX_DC || header->status > 0 || !lengths_are_right(header))
        return -EPROTO;
    size_t total = sizeof *header + header->body_len;
    if (len < total)
        return 0;
    frame->body = bytes + sizeof *header;
    if (!checksum_is_right(header, frame->body))
        return -EPROTO;
    if (header->flags & WIRE_F_LZ4)
        return (long)total; /* wire_expand checks what is in it */
    return message_is_right(frame) ? (long)total : -EPROTO;
}

int wire_expand(struct wire_frame *frame, uint8_t *room) {
    struct wire_header *header = &frame->header;
    uint32_t body_len;
    if (!(header->flags & WIRE_F_LZ4))
        return 0;
    memcpy(&body_len, frame->body, sizeof body_len);
    uint32_t block_len = header->body_len - (uint32_t)sizeof(struct wire_packed);
    if (body_len < DVK_MESSAGE_SIZE || body_len > WIRE_BODY_MAX || body_len <= header->body_len)
        return -EPROTO;
    int expanded = LZ4_decompress_safe((const char *)frame->body + sizeof(struct wire_packed), (char *)room, (int)block_len,
                                       (int)body_len);
    if (expanded != (int)body_len)
        return -EPROTO;
    header->flags &= ~(uint32_t)WIRE_F_LZ4;
    header->body_len = body_len;
    frame->body = room;
    return message_is_right(frame) ? 0 : -EPROTO;
}

size_t wire_pack(const uint8_t *body, size_t body_len, uint8_t *out, size_t cap) {
    uint32_t len = (uint32_t)body_len;
    if (cap <= sizeof(struct wire_packed) || body_len > WIRE_BODY_MAX)
        return 0;
    int packed = LZ4_compress_default((const char *)body, (char *)out + sizeof(struct wire_packed), (int)body_len,
                                      (int)(cap - sizeof(struct wire_packed)));
    if (packed <= 0)
        return 0;
    memcpy(out, &len, sizeof len);
    return sizeof(struct wire_packed) + (size_t)packed;
}

void wire_message(const struct wire_frame *frame, struct dvk_message *message, const uint8_t **data) {
    memcpy(message, frame->body, sizeof *message);
    *data = frame->body + sizeof *message;
}

void wire_hello(const struct wire_frame *frame, struct wire_hello *hello) {
    memcpy(hello, frame->body, sizeof *hello);
    hello->cluster[sizeof hello->cluster - 1] = 0;
}

void wire_refusal(const struct wire_frame *frame, char text[static WIRE_REFUSE_MAX + 1]) {
    size_t len = frame->header.body_len;
    for (size_t i = 0; i < len; i++)
        text[i] = frame->body[i] >= ' ' && frame->body[i] < 0x7f ? (char)frame->body[i] : '?';
    text[len] = 0;
}
