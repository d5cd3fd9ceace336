/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message: one size for ever, DVK_MESSAGE_SIZE bytes, little-endian, no pointers. It may carry
 * out-of-line data (up to the channel's buffer size), which lies beside it in the channel: written in
 * place by the sender, read in place by the receiver.
 */
#ifndef DVK_MESSAGE_H
#define DVK_MESSAGE_H

#include <dvk/endpoint.h>
#include <stddef.h>
#include <stdint.h>

#define DVK_MESSAGE_SIZE 256u
#define DVK_PAYLOAD_SIZE 208u
#define DVK_DATA_MAX 65536u /* bytes of out-of-line data that anyone receives; longer messages: dvk/loan.h */

enum dvk_message_flags {
    DVK_MSG_FDS = 1u << 0, /* file descriptors travel with it (local only); count in `fds` */
    DVK_MSG_ERROR = 1u << 1, /* replies: made by the DVK in place of the destination's, which will not come; status is the
                                negative error (not bound, node unreachable, ...) */
};

struct dvk_message {
    dvk_endpoint source;      /* set by the DVK from the channel; what a sender writes here is ignored,
                                 except on a proxy's channel or among endpoints of one process */
    dvk_endpoint destination; /* generation 0 reaches a service's current incarnation */
    uint32_t type;            /* meaning belongs to the destination's protocol */
    int32_t status;           /* replies: 0 or positive result, negative errno or DVK_E* error */
    uint32_t data_len;        /* bytes of out-of-line data, 0..DVK_DATA_MAX, or up to DVK_LOAN_MAX: dvk/loan.h */
    uint16_t flags;           /* enum dvk_message_flags */
    uint16_t fds;             /* file descriptors that travel with it, 0..DVK_MESSAGE_FDS */
    uint64_t notify;          /* notifications: the bits; otherwise 0 */
    uint64_t reserved;        /* 0; requests on a proxy's channel, written by the proxy: the source's node */
    union {
        uint8_t bytes[DVK_PAYLOAD_SIZE];
        uint64_t words[DVK_PAYLOAD_SIZE / 8];
        int64_t ints[DVK_PAYLOAD_SIZE / 8];
    } payload;
};

#define DVK_MESSAGE_FDS 32u /* most file descriptors that one message carries */

#ifdef __cplusplus
static_assert(sizeof(struct dvk_message) == DVK_MESSAGE_SIZE, "a message has one size for ever");
#else
_Static_assert(sizeof(struct dvk_message) == DVK_MESSAGE_SIZE, "a message has one size for ever");
#endif

#endif
