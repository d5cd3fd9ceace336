/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who owns a DC's user slots, for the servers of a cell (a VOS), which give them to processes themselves. Programs need
 * none of this: dvk_bind of DVK_SLOT_ANY does it for them.
 *
 * Slots are owned in sets of DVK_SLOT_SET: set s has the slots s * DVK_SLOT_SET .. s * DVK_SLOT_SET + 63. A node binds in sets
 * of its own only. Who owns what changes in an order that is the same on all nodes, and only where there is quorum: see
 * docs/ARCHITECTURE.md. None of the calls blocks.
 */
#ifndef DVK_SLOTS_H
#define DVK_SLOTS_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `count` sets from `first` on, all of one node. */
struct dvk_slots_run {
    uint16_t first, count;
    uint16_t owner; /* node id */
    uint16_t pad;
};

enum dvk_slots_event_type {
    DVK_SLOTS_TABLE = 1, /* who owns what now: sets, version, runs (sorted; sets in none of them have no owner) */
    DVK_SLOTS_WANTED,    /* another node is short of slots: answer by dvk_slots_give, soon: up to `want` sets below `below` */
    DVK_SLOTS_SETTLED,   /* what dvk_slots_give offered is the other's (a TABLE that says so came before), or ours again */
    DVK_SLOTS_ENDED,     /* dvk_slots_take has ended: status 0 (the TABLE came before), -DVK_ENOSLOT: nobody has any to
                            spare, -DVK_ENODC, or -EAGAIN: the cluster's membership has changed: ask again */
};
struct dvk_slots_event {
    enum dvk_slots_event_type type;
    uint32_t dc;
    uint32_t sets;    /* TABLE: the DC has the sets 1..sets-1 */
    uint64_t version; /* TABLE: grows; the same version is the same table on all nodes */
    const struct dvk_slots_run *runs; /* TABLE: valid during the call */
    uint32_t run_count;
    uint32_t want, below; /* WANTED: sets */
    int status;           /* ENDED */
};
typedef void dvk_slots_fn(void *context, const struct dvk_slots_event *event);

/*
 * dvk_slots_watch: have fn called from within dvk_receive with events of the slots of dc, our cell's DC; the first is a
 * TABLE. One fn a context. Errors: -DVK_ENODAEMON, -ENOMEM; dvkd ends the context when the DC is not its own.
 */
int dvk_slots_watch(struct dvk *dvk, uint32_t dc, dvk_slots_fn *fn, void *context);
/*
 * dvk_slots_take: this node wants up to `want` (1..) more sets below `below` (a set): such as have no owner, else such
 * as other nodes do not need. A DVK_SLOTS_ENDED follows. While an earlier take is under way it answers both. Errors: -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_slots_take(struct dvk *dvk, uint32_t dc, uint32_t want, uint32_t below);
/*
 * dvk_slots_give: the answer to DVK_SLOTS_WANTED: up to 256 sets, in ascending order, none of whose slots anyone here uses, or
 * count 0. They must not be used until DVK_SLOTS_SETTLED. Errors: -EINVAL, -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_slots_give(struct dvk *dvk, uint32_t dc, const uint16_t *sets, uint32_t count);

#ifdef __cplusplus
}
#endif
#endif
