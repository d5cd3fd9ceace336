/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups: messages to all members of a named group of a DC, in one order for all of them.
 *
 * All members see the same messages and views in the same order (extended virtual synchrony): a view names the members, and
 * all who go on from one view to the next have got the same messages in the first. A member that dies, or whose node is
 * lost, leaves the group within that order. Messages are delivered only where there is quorum.
 *
 * Messages and views are received by dvk_receive, as requests whose `group` is not 0 and that want no reply: end them by
 * dvk_release. They are taken in memory while they wait; when a member has several hundred that it has not taken, those who
 * send to the group wait. Nothing is dropped.
 *
 * Names are of the DC of the endpoint that joins: the same name in another DC is another group. A name has 1 to 255 bytes of
 * UTF-8 without control characters.
 *
 * A node that loses quorum is out of all groups at once: its members get a last view with DVK_GROUP_OUT and without
 * DVK_GROUP_QUORATE, and may join again once there is quorum. A membership does not move with its endpoint to another node.
 *
 * Threads: as for all calls, one thread at a time uses a context. timeout_ms: 0: do not wait, -1: for ever. What is
 * under way when the DC ends gets -DVK_ENODC; -DVK_ENOQUORUM: there is no quorum, nothing was changed. Common errors:
 * -DVK_ETIMEDOUT, -DVK_ENOTALLOWED (the endpoint is not ours, or not any more), -DVK_ENODAEMON, -ENOMEM.
 */
#ifndef DVK_GROUP_H
#define DVK_GROUP_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DVK_GROUP_DATA_MAX 8192u     /* bytes of data beside a message: what is larger goes by other ways, to each */
#define DVK_GROUP_MEMBERS_MAX 1024u

enum dvk_group_event { /* in dvk_request.group_event */
    DVK_GROUP_MESSAGE = 1, /* msg.type and payload, and data, are the sender's; msg.source, source_node: who it is */
    DVK_GROUP_VIEW = 2,    /* see dvk_group_view_of */
};

enum dvk_group_flags {
    DVK_GROUP_QUORATE = 1u << 0, /* told by a quorum; not: we were cut off */
    DVK_GROUP_OUT = 1u << 1,     /* we are no member any more; `group` is not valid after this */
};

struct dvk_group_member {
    dvk_endpoint endpoint;
    uint32_t node;
    uint32_t reserved;
};

struct dvk_group_view {
    uint64_t number; /* of the view; grows */
    uint32_t flags;  /* enum dvk_group_flags */
    uint32_t count;
    const struct dvk_group_member *members; /* oldest first; valid until dvk_release */
};

/*
 * dvk_group_join: make an endpoint of ours a member. *group names the membership. The first view that it is in follows by
 * dvk_receive, then the messages from there on. Blocks until it is a member.
 * Errors: the common ones, -DVK_ENOQUORUM, -DVK_ENOTALLOWED, -EINVAL, -EALREADY (it is one), -ENOSPC (the group, or the DC's number of groups, is full).
 */
int dvk_group_join(struct dvk *dvk, dvk_endpoint from, const char *name, uint64_t *group, int timeout_ms);
/* Leave. Messages that are before it in the order still come, then a last view with DVK_GROUP_OUT. Errors: the common ones,
 * -DVK_ENOTMEMBER. */
int dvk_group_leave(struct dvk *dvk, uint64_t group, int timeout_ms);
/*
 * dvk_group_mcast: send to all members, ourselves included: type and payload of *message, and data (up to
 * DVK_GROUP_DATA_MAX bytes, copied). Returns when the message has its place in the order: what is sent after that by
 * anyone who knows of it comes later for all.
 * Errors: the common ones, -DVK_ENOQUORUM, -EINVAL, -DVK_ENOTMEMBER, -EMSGSIZE, -EAGAIN (too many messages wait for us ourselves: receive some first; nothing was
 * sent), -DVK_EUNKNOWN and -DVK_ETIMEDOUT (it may still be delivered, to all or to nobody).
 */
int dvk_group_mcast(struct dvk *dvk, uint64_t group, const struct dvk_message *message, const void *data, size_t len,
                    int timeout_ms);
/* Read a request with group_event DVK_GROUP_VIEW. Errors: -EINVAL (it is none). */
int dvk_group_view_of(const struct dvk_request *request, struct dvk_group_view *view);

#ifdef __cplusplus
}
#endif
#endif
