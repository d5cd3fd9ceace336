/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the endpoints of a DC are that have backups, or that have moved: all others are where their slot says. Part of the
 * replicated configuration: it changes by its changes and views only, the same on every node. Pure; not thread safe.
 *
 * An *instance* is a process's context: its node, that node's incarnation (objects.h) and dvkd's number of it; unique for ever.
 * One of them, the *primary*, is the endpoint. *Spares* may become it: a backup by a commit, a replica also when the primary is
 * lost.
 *
 *                    add, drop of another                     add, drop of another
 *                       __                                       __
 *        (none) --add--> SETTLED ------------start-------------> MOVING to a spare
 *          ^               ^ ^ \                                  |  |   |
 *          |               |  \ \--commit: -ESTALE                |  |   |
 *          |               |   \------commit: the spare is primary-'  |   |
 *          |               |\----------rollback, or the spare is lost-'   |
 *          |               |                                              |
 *          |  the primary is lost: its oldest replica is primary <--------+
 *          '--the primary is lost, and there is no replica (the endpoint is dead) <--'
 *
 * "Lost" is a `gone` of its own node, or a view without that incarnation of its node. An entry without spares goes as well if its
 * endpoint has never moved: it is where its slot says.
 *
 * `moved` is the revision of the last change of its primary, 0 if there was none: messages carry it (low 32 bits), and who gets
 * one with another revision than its own sends it back (dvk/migrate.h).
 */
#ifndef DVKD_PLACE_TABLE_H
#define DVKD_PLACE_TABLE_H

#include "common/json.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

#define PLACE_SPARES_MAX 8u
#define PLACES_MAX 4096u /* entries of a DC */

struct place_instance {
    uint64_t context;
    int64_t incarnation;
    uint64_t node;
};

enum place_kind { PLACE_BACKUP = 1, PLACE_REPLICA = 2 };

struct place_spare {
    struct place_instance who;
    uint64_t kind; /* enum place_kind */
};

struct place {
    dvk_endpoint endpoint;
    struct place_instance primary;
    uint64_t moved;
    bool moving;           /* to spare `to` */
    struct place_instance to;
    uint32_t spare_count;
    struct place_spare spares[PLACE_SPARES_MAX]; /* the oldest first; zero beyond the count */
};

struct place_table {
    uint32_t count, cap;
    struct place *places; /* sorted by slot: at most one of a slot */
};

void place_table_free(struct place_table *table);

static inline bool place_is(const struct place_instance *a, const struct place_instance *b) {
    return a->node == b->node && a->incarnation == b->incarnation && a->context == b->context;
}
/* The entry of an endpoint (generation 0: of whoever has its slot), or NULL. */
const struct place *place_table_find(const struct place_table *table, dvk_endpoint endpoint);
/* That instance among its spares, or NULL. */
const struct place_spare *place_spare_find(const struct place *place, const struct place_instance *who);
bool place_has_replica(const struct place *place);

/*
 * The changes. 0, or a negative error and nothing is changed: -ENOENT: no such entry; -ESTALE: `primary` is not its primary;
 * -EEXIST: the slot's entry is of another endpoint; -EBUSY: it is moving, or (commit, rollback) it is not; -EINVAL: that is no
 * spare, or the primary; -ENOSPC; -ENOMEM.
 */
/* moved: the revision that the endpoint has at its primary, for an entry that is made. A spare that is there gets the kind. */
int place_table_add(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t moved,
                    const struct place_instance *spare, enum place_kind kind);
int place_table_drop(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *spare);
int place_table_start(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary,
                      const struct place_instance *to);
int place_table_commit(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t revision);
int place_table_rollback(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary);
int place_table_gone(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t revision);
/* A view was made: instances of which is_member is false are lost. True when something changed. */
bool place_table_survive(struct place_table *table, uint64_t revision,
                         bool (*is_member)(void *context, uint32_t node, int64_t incarnation), void *context);

/* As JSON and back, with all checks. NULL: no memory; -EINVAL: it is no such thing; -ENOMEM. */
json_t *place_table_to_json(const struct place_table *table);
int place_table_from_json(struct place_table *table, const json_t *json);
/* [node, incarnation, context] */
json_t *place_instance_to_json(const struct place_instance *who);
bool place_instance_read(const json_t *json, struct place_instance *who);

#endif
