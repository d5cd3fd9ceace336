/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry: which contexts (processes that use libdvk) exist on this node, which endpoints they have bound, and
 * which channels join them. Pure bookkeeping: no socket, no event loop; it owns the channel and doorbell descriptors
 * it is given. Single threaded, nothing blocks.
 *
 * Generations: a slot's generation grows by one with each binding. The first one is not below the time (seconds) of the slot's
 * first binding by this dvkd, so that an address from before a restart never reaches a new process; a slot that was another
 * node's before, also if it was ours before that, goes on above all that this one gave out: as it said (registry_raise), or,
 * if it was lost, as it can have done: nobody's generations run ahead of time + STEP * (number of the view), but for one
 * that each hand-over may add, and there are fewer than STEP of these, seconds that pass not counted, in a view. So each view
 * begins STEP further on (registry_new_view).
 */
#ifndef DVKD_REGISTRY_H
#define DVKD_REGISTRY_H

#include "common/list.h"
#include "common/table.h"
#include "dvk/waits.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

enum context_role {
    CONTEXT_PROGRAM, /* came by the socket's path */
    CONTEXT_CELL,    /* a cell's servers (dvs-vos) */
    CONTEXT_PROXY,
    CONTEXT_COPIER, /* dvs-copier: its endpoints are bound when somebody first addresses them */
};

struct context {
    struct list link; /* in registry.contexts */
    uint64_t id;
    enum context_role role;
    uint32_t dc;       /* CONTEXT_CELL: its DC; else 0 */
    int doorbell_fd;   /* -1 until HELLO; owned */
    void *user;        /* the broker's client */
    struct list kept;  /* privileges that it had: see privilege.h */
    uint32_t place;    /* in the tables of waits (dvk/waits.h), its own while it lives; 0: there was none */
    struct list endpoints; /* struct endpoint.context_link; guests that it serves included */
    struct list channels;  /* struct channel_end: channels with other contexts, not with guests */
};

struct endpoint {
    struct list context_link;
    struct context *context; /* a guest's: the cell's context that serves it */
    uint32_t dc, slot, generation;
    uint32_t revision; /* of its last move, low 32 bits; 0: it never moved (place_table.h) */
    bool guest;
    uint32_t stats_place; /* in its client's page of statistics; 0: none */
    int64_t since_ms;     /* bound since, in ms since 1970 */
    struct dvk_privileges *privileges; /* owned; NULL: all. See privilege.h */
    uint64_t refused;                  /* what they did not allow, at least */
    struct channel *channel; /* a guest's channel to `context`; else NULL */
};

struct channel_end {
    struct list link;
    struct channel *channel;
};
struct channel {
    uint64_t id;
    uint32_t dc;
    int memfd;                 /* owned */
    struct context *party[2];  /* a guest's channel: [0] NULL, [1] its server */
    struct endpoint *guest;    /* whose channel it is; NULL between contexts */
    struct channel_end end[2];
};

struct dc_slots; /* slots of one DC on this node */

struct registry {
    struct list contexts;
    struct table channels; /* id -> struct channel */
    struct table dcs;      /* dc + 1 -> struct dc_slots */
    uint64_t last_context, last_channel;
    uint32_t last_place;
    uint64_t places[DVK_WAITS_PLACES / 64]; /* bit: given out */
    uint32_t first_generation;
    uint32_t floor; /* all generations from now on are above */
    /* An endpoint was bound, or is being unbound. May be NULL. It must not change the registry. */
    void (*changed)(void *context, const struct endpoint *endpoint, bool bound);
    void *changed_context;
};

/* first_generation: of slots that were never bound; not 0. */
void registry_init(struct registry *registry, uint32_t first_generation);
void registry_destroy(struct registry *registry);

/* NULL when there is no memory. */
struct context *registry_context_add(struct registry *registry, enum context_role role, uint32_t dc, void *user);
/* The context with that id, or NULL. */
struct context *registry_context_find(struct registry *registry, uint64_t id);
/* Unbinds its endpoints, drops what channels are left, closes its doorbell and frees it. */
void registry_context_remove(struct registry *registry, struct context *context);

/* Bind a slot. 0, -DVK_ESLOTBUSY or -ENOMEM. What slots a context may have is the caller's matter. */
int registry_bind(struct registry *registry, struct context *context, uint32_t dc, uint32_t slot, bool guest,
                  struct endpoint **out);
/* Bind an endpoint that was bound in another context before. As registry_bind. */
int registry_adopt(struct registry *registry, struct context *context, uint32_t dc, dvk_endpoint address, uint32_t revision);
/* Unbind, drop its channel if it is a guest's, free. */
void registry_unbind(struct registry *registry, struct endpoint *endpoint);
/* How many endpoints of a DC are bound here. */
uint32_t registry_bound(const struct registry *registry, uint32_t dc);
/* Who is bound to a slot now; NULL: nobody. */
struct endpoint *registry_find(const struct registry *registry, uint32_t dc, uint32_t slot);
/* The same for a full address; generation 0 fits any. */
struct endpoint *registry_find_endpoint(const struct registry *registry, uint32_t dc, dvk_endpoint endpoint);
/* A free user slot of the sets that are ours, from the highest down and round again; 0 when there is none. (A DC's pm
 * chooses its pids from below.) */
uint32_t registry_free_slot(struct registry *registry, uint32_t dc, bool (*is_ours)(const void *context, uint32_t set),
                            const void *context);
/* Is any slot of the set bound here? */
bool registry_set_is_bound(const struct registry *registry, uint32_t dc, uint32_t set);
/* The greatest generation that was given out in the DC, here or, of slots that came from elsewhere, there; 0: none. */
uint32_t registry_newest(const struct registry *registry, uint32_t dc);
/* Slots that come from another node had generations up to this one there: give out greater ones in the DC. */
void registry_raise(struct registry *registry, uint32_t dc, uint32_t generation);
/* It is so late (unix time): slots bound for the first time from now on get no lower generation. */
void registry_note_time(struct registry *registry, uint64_t seconds);
/* At this time (unix time) a view with this number begins. Nodes may have been lost in it, and their slots be ours from now on: what
 * they gave out is not given out again. */
void registry_new_view(struct registry *registry, uint64_t seconds, uint64_t view);
#define REGISTRY_VIEW_STEP 64u
/* The DC is no more: forget its slots' generations (those still bound stay). */
void registry_forget_dc(struct registry *registry, uint32_t dc);

static inline dvk_endpoint endpoint_address(const struct endpoint *endpoint) {
    return dvk_endpoint_make(endpoint->generation, endpoint->slot);
}

/* Add a channel between two contexts, or with guest (party 0; `a` is NULL then). Takes over memfd, also on error.
 * NULL when there is no memory. */
struct channel *registry_channel_add(struct registry *registry, uint32_t dc, struct context *a, struct context *b,
                                     struct endpoint *guest, int memfd);
/* The channel between two contexts in a DC, or NULL. *side gets a's side. */
struct channel *registry_channel_between(const struct context *a, const struct context *b, uint32_t dc, uint32_t *side);
struct channel *registry_channel_find(const struct registry *registry, uint64_t id);
/* Takes it out, closes memfd, frees. Does not mark it dead. */
void registry_channel_remove(struct registry *registry, struct channel *channel);

#endif
