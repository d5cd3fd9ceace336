/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and services between libdvk and dvkd: what the packets DVK_BROKER_SERVICE, _SERVICE_CANCEL, _SERVICE_TAKEN and
 * _SERVICE_EVENT (broker.h) carry. The text of a SERVICE, of its answer and of an EVENT is one struct dvk_service_head,
 * name_len bytes of name and value_len bytes of value; nothing else. Little-endian, no pointers.
 *
 *   SERVICE   packet: dc, endpoint = ours in that DC, id. head: op and what the table says. The answer's status is 0 or
 *             the negative error; its head is there with status 0.
 *   CANCEL    packet: id of a SERVICE that is not waited for any more. If it is unanswered it is answered with
 *             -DVK_EINTERRUPTED; a lock that it was given meanwhile is released.
 *   TAKEN     packet: channel = how many MESSAGE events the program has taken since it said so last. dvkd holds up the
 *             senders of a group while a member has too many untaken.
 *
 *   op            request                                      answer
 *   GROUP_JOIN    name                                         number: of the membership. A VIEW follows
 *   GROUP_LEAVE   number
 *   GROUP_CAST    number; value: struct dvk_service_message,   revision: -
 *                 then data. Answered when it has its place in the order
 *   KV_GET        name; flags STALE                            revision, created, count = changes; value
 *   KV_PUT        name, value; flags EXPECT: revision          revision
 *   KV_DELETE     name; flags EXPECT: revision                 revision
 *   KV_LIST       name = prefix, value = the last name that    value: entries, each a head with its name (and value);
 *                 was seen, flags STALE, VALUES                flags MORE when there are others behind
 *   KV_WATCH      name = prefix                                number; revision: all changes above it are told
 *   KV_UNWATCH    number
 *   LOCK          name; flags TRY, LEADER; value = text        number; revision = token, when it is ours
 *   UNLOCK        number
 *   LEADER_GET    name; flags STALE                            source, node, revision = token, value = text
 *   BARRIER       name, count                                  when count are there; revision
 *
 *   event         packet: dc, endpoint = ours
 *   VIEW          name, number: membership; revision: number of the view; flags QUORATE, OUT (we are no member any
 *                 more); value: struct dvk_service_member each
 *   MESSAGE       number: membership; source, node; value: struct dvk_service_message, then data
 *   KV            number: watch; name; revision, created, count; value; flags DELETED
 *   GAP           number: watch: revisions were missed
 *   LOST          number: of a lock or office that is not ours any more
 */
#ifndef DVK_SERVICE_PROTOCOL_H
#define DVK_SERVICE_PROTOCOL_H

#include <dvk/message.h>

enum dvk_service_op {
    DVK_SERVICE_OP_GROUP_JOIN = 1,
    DVK_SERVICE_OP_GROUP_LEAVE,
    DVK_SERVICE_OP_GROUP_CAST,
    DVK_SERVICE_OP_KV_GET,
    DVK_SERVICE_OP_KV_PUT,
    DVK_SERVICE_OP_KV_DELETE,
    DVK_SERVICE_OP_KV_LIST,
    DVK_SERVICE_OP_KV_WATCH,
    DVK_SERVICE_OP_KV_UNWATCH,
    DVK_SERVICE_OP_LOCK,
    DVK_SERVICE_OP_UNLOCK,
    DVK_SERVICE_OP_LEADER_GET,
    DVK_SERVICE_OP_BARRIER,
    DVK_SERVICE_OP_END, /* one more than the last */
    /* events */
    DVK_SERVICE_OP_VIEW = 64,
    DVK_SERVICE_OP_MESSAGE,
    DVK_SERVICE_OP_KV,
    DVK_SERVICE_OP_GAP,
    DVK_SERVICE_OP_LOST,
};

enum dvk_service_flags {
    DVK_SERVICE_F_STALE = 1u << 0,
    DVK_SERVICE_F_EXPECT = 1u << 1,
    DVK_SERVICE_F_MORE = 1u << 2,
    DVK_SERVICE_F_TRY = 1u << 3,
    DVK_SERVICE_F_LEADER = 1u << 4,
    DVK_SERVICE_F_QUORATE = 1u << 5,
    DVK_SERVICE_F_OUT = 1u << 6,
    DVK_SERVICE_F_DELETED = 1u << 7,
    DVK_SERVICE_F_VALUES = 1u << 8,
};

struct dvk_service_head {
    uint32_t op; /* enum dvk_service_op */
    uint32_t flags;
    uint64_t number;
    uint64_t revision;
    uint64_t created;
    uint64_t source;
    uint32_t node;
    uint32_t count;
    uint32_t name_len;
    uint32_t value_len;
};
_Static_assert(sizeof(struct dvk_service_head) == 56, "layout");

struct dvk_service_member {
    uint64_t endpoint;
    uint32_t node;
    uint32_t pad;
};

/* The part of a message that its sender chose. */
struct dvk_service_message {
    uint32_t type;
    uint32_t pad;
    uint8_t payload[DVK_PAYLOAD_SIZE];
};

#define DVK_SERVICE_NAME_MAX 255u
#define DVK_SERVICE_VALUE_MAX 32768u
#define DVK_SERVICE_DATA_MAX 8192u     /* of a group's message */
#define DVK_SERVICE_ENTRIES_MAX 65536u /* bytes of the entries in an answer to KV_LIST */

#endif
