/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels between two proxies: frames over one TCP connection per pair of nodes. All fields little-endian.
 *
 *   struct wire_header, then body_len bytes of body:
 *     HELLO                   struct wire_hello
 *     REQUEST, SEND, REPLY    struct dvk_message, then its data_len bytes
 *     CANCEL, ACK             nothing
 *                             (tag of an ACK: the last sequence number that its sender has sent; 0: it does not say)
 *     REFUSE                  text: why the sender will not talk to the receiver, instead of a HELLO's answer
 *
 * The node with the higher id connects. It sends HELLO first; the other checks it and answers with its own. Then frames
 * with sequence numbers flow both ways (REQUEST, SEND, REPLY, CANCEL: 1, 2, 3 ... within a session); each frame of any
 * kind carries the highest sequence number that its sender has received, and what is acknowledged is forgotten. After a
 * broken connection the same sessions go on: each HELLO says what was received, the rest is sent again, and
 * a sequence number that has been seen already is dropped: nothing is lost, nothing is done twice. Who finds a number
 * missing ends the connection, and so has it sent again. A session that the other side does not know any more (its
 * proxy restarted, or one of the nodes left the view) ends everything that was under way in it; see link.h.
 *
 * Everything that comes from the wire is checked by wire_parse before use; see wire.c.
 */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

#include <dvk/loan.h>
#include <dvk/message.h>

#define WIRE_MAGIC 0x50535644u /* "DVSP" */
#define WIRE_VERSION 1u
#define WIRE_BODY_MAX (DVK_MESSAGE_SIZE + DVK_LOAN_MAX)

enum wire_command {
    WIRE_HELLO = 1,
    WIRE_REQUEST = 2, /* wants a REPLY with its tag */
    WIRE_SEND = 3,    /* the same; REPLY when it was taken (status only). Notifications too (message.notify) */
    WIRE_REPLY = 4,
    WIRE_CANCEL = 5,  /* tag: end that request early; its REPLY still comes */
    WIRE_ACK = 6,     /* acknowledges, keeps alive, tells how far the sender is; no sequence number */
    WIRE_REFUSE = 24, /* before the end of a connection that is not taken; no sequence number */
    WIRE_COMMAND_END
};

enum wire_flags {
    WIRE_F_TLS = 1u << 0,    /* the connection is encrypted, crc is 0: on all of its frames, or on none */
    WIRE_F_LZ4 = 1u << 1,    /* REQUEST, SEND, REPLY: the body is struct wire_packed; wire_expand */
    WIRE_F_RESUME = 1u << 2, /* HELLO answer: the sessions of both sides go on */
};
#define WIRE_F_KNOWN (WIRE_F_TLS | WIRE_F_LZ4 | WIRE_F_RESUME)
#define WIRE_REFUSE_MAX 200u /* bytes of a refusal's text */

struct wire_header {
    uint32_t magic;
    uint16_t version;
    uint16_t command;
    uint32_t flags;
    uint32_t body_len;
    uint64_t sequence;     /* 0: HELLO, ACK */
    uint64_t acknowledged; /* highest sequence number received */
    uint64_t tag;          /* the origin's number of the request */
    uint32_t dc;
    int32_t status; /* REPLY: 0, or the negative error with which the DVK answers in the destination's place */
    uint32_t crc;   /* CRC-32C of header (with crc 0) and body; 0 with TLS */
    uint32_t pad;
};
_Static_assert(sizeof(struct wire_header) == 56, "layout");

struct wire_hello {
    uint32_t node;
    uint32_t pad;
    uint64_t session;      /* the sender's, not 0, random */
    uint64_t peer_session; /* the receiver's, as the sender knows it; 0: none */
    uint64_t received;     /* highest sequence number received in peer_session */
    char cluster[64];      /* NUL-padded */
};
_Static_assert(sizeof(struct wire_hello) == 96, "layout");

/* A body that is compressed: an LZ4 block (no frame), to which body_len bytes expand: exactly, and more than it takes here. */
struct wire_packed {
    uint32_t body_len;
    uint8_t block[];
};

/* A frame that was parsed; points into the buffer it was parsed from. */
struct wire_frame {
    struct wire_header header;
    const uint8_t *body;
};

/*
 * wire_parse: look for a frame at the start of bytes.
 * Returns its total length (header and body) with *frame filled in and checked: magic, version, command, lengths,
 * sequence rules, checksum, and for messages that data_len matches the body (compressed ones: wire_expand does); 0 when more bytes are needed; -EPROTO for
 * anything else, -DVK_EVERSION for another version. No side effects; any bytes are survived.
 */
long wire_parse(const uint8_t *bytes, size_t len, struct wire_frame *frame);

/*
 * wire_expand: after wire_parse, before the body is used: expand a compressed one into room (WIRE_BODY_MAX bytes), to which
 * frame->body then points, and check the message. 0, or -EPROTO. Any bytes are survived; nothing beyond room is written.
 */
int wire_expand(struct wire_frame *frame, uint8_t *room);
/*
 * wire_pack: compress a body into out, which has room for cap bytes. The length there, or 0: it does not fit.
 */
size_t wire_pack(const uint8_t *body, size_t body_len, uint8_t *out, size_t cap);

/* The message of a REQUEST, SEND or REPLY frame, copied out; data follows it in body. */
void wire_message(const struct wire_frame *frame, struct dvk_message *message, const uint8_t **data);
/* The text of a REFUSE frame, NUL-terminated, what cannot be printed replaced. */
void wire_refusal(const struct wire_frame *frame, char text[static WIRE_REFUSE_MAX + 1]);
/* The hello of a HELLO frame; cluster is NUL-terminated in the copy. */
void wire_hello(const struct wire_frame *frame, struct wire_hello *hello);

/* Write magic, version, body_len and crc (0 where flags say TLS) into header, for a frame of header and body. */
void wire_seal(struct wire_header *header, const void *body, size_t body_len);

/* CRC-32C (Castagnoli); crc: of what came before, 0 at the start. */
uint32_t wire_crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
