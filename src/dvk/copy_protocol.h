/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libdvk asks of copiers, and copiers of each other: messages to service DVK_SERVICE_COPY of a node, in the DC
 * that the memory is granted in.
 *
 *   DVK_COPY        requester -> the destination's copier. Payload: struct dvk_copy_ask. Reply: status 0 or the error;
 *                   payload.words[0]: bytes that were copied.
 *   DVK_COPY_READ   a copier -> the source's copier: struct dvk_copy_read. Reply: the bytes as data, or an error in
 * status. Only copiers may ask this: they have checked who the requester is, each that of its own channel.
 */
#ifndef DVK_COPY_PROTOCOL_H
#define DVK_COPY_PROTOCOL_H

#include <dvk/message.h>

enum dvk_copy_type { DVK_COPY = 1, DVK_COPY_READ = 2 };

struct dvk_copy_ask {
    dvk_endpoint source_owner;
    uint64_t source_grant, source_offset;
    dvk_endpoint destination_owner;
    uint64_t destination_grant, destination_offset;
    uint64_t length;    /* not 0 */
    int32_t timeout_ms; /* -1: none */
    uint32_t pad;
};
_Static_assert(sizeof(struct dvk_copy_ask) == 64 && sizeof(struct dvk_copy_ask) <= DVK_PAYLOAD_SIZE, "layout");

struct dvk_copy_read {
    dvk_endpoint requester;
    dvk_endpoint owner;
    uint64_t grant, offset;
    uint64_t length; /* 1..DVK_DATA_MAX */
    uint64_t rest;   /* bytes from offset that will be asked for, these included: refused at once if not granted */
};
_Static_assert(sizeof(struct dvk_copy_read) == 48, "layout");

#endif
