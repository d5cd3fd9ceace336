/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which node owns which of a DC's user slots. Slots are owned in sets of DVK_SLOT_SET; set 0 belongs to the cells
 * themselves and to no node. Part of the replicated configuration: it changes by its changes and views only, the same
 * on every node, and so at any place in the order each set has one owner or none. Pure; not thread safe.
 *
 *   at first   the first sets are split equally between the DC's nodes, the rest has no owner
 *   take       a node gets sets that have no owner
 *   give       a node gives sets of its own to another
 *   survive    in a new view: what nodes own that are not in it goes to the DC's nodes that are, in equal parts
 *
 * A DC of one node owns all its sets for ever.
 */
#ifndef DVKD_SLOT_TABLE_H
#define DVKD_SLOT_TABLE_H

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOT_SETS_MAX (DVK_USER_SLOTS / DVK_SLOT_SET) /* sets are 0..SLOT_SETS_MAX-1 */
#define SLOT_SETS_FIRST 256u  /* split between the nodes when a DC is created */

struct slot_run {
    uint16_t first, count;
    uint16_t owner; /* node id */
};

struct slot_table {
    uint32_t sets; /* the DC has sets 1..sets-1 */
    uint32_t run_count;
    struct slot_run *runs; /* of sets that have an owner: sorted, apart, not empty */
};

/*
 * A new DC's table. nodes: sorted ids. sets: 2..SLOT_SETS_MAX, 0: as many as there are. share: sets that each node gets,
 * 0: SLOT_SETS_FIRST split equally; less when there are not enough. 0, -EINVAL or -ENOMEM.
 */
int slot_table_init(struct slot_table *table, const uint32_t *nodes, uint32_t node_count, uint32_t sets, uint32_t share);
void slot_table_free(struct slot_table *table);

/* The node that owns a set, 0: none. */
uint32_t slot_table_owner(const struct slot_table *table, uint32_t set);
/* How many sets below `below` a node owns; node 0: how many nobody owns. */
uint32_t slot_table_count(const struct slot_table *table, uint32_t node, uint32_t below);

/*
 * Give `node` up to `want` sets that have no owner, the lowest below `below` first. What would take it above its fair
 * share (an equal part for each of node_count nodes) is at most half of what is left, rounded up, so that the others
 * find something too. The number, or -ENOSPC (none is left), -EINVAL or -ENOMEM.
 */
int slot_table_take(struct slot_table *table, uint32_t node, uint32_t node_count, uint32_t want, uint32_t below);
/* Give sets (in `what`, a text of runs "FIRST+COUNT ...") of `from` to `to`. 0; -EPERM: not all are from's (nothing is
 * done); -EINVAL; -ENOMEM. */
int slot_table_give(struct slot_table *table, uint32_t from, uint32_t to, const char *what);
/* Split what lost nodes own between the live ones. True when something changed. */
bool slot_table_survive(struct slot_table *table, const uint32_t *nodes, uint32_t node_count,
                        bool (*is_up)(const void *context, uint32_t node), const void *context);

/* As text, "SETS FIRST+COUNT=NODE ...", and back, with all checks. The text is the caller's to free; NULL: no memory. */
char *slot_table_to_text(const struct slot_table *table);
int slot_table_from_text(struct slot_table *table, const char *text);

/* Call fn for each run of a text "FIRST+COUNT ...". 0, or -EINVAL when it is no such text of sets 1..SLOT_SETS_MAX-1. */
int slot_runs_read(const char *text, void (*fn)(void *context, uint32_t first, uint32_t count), void *context);
/* Such a text of the given sets (sorted); the caller's to free; NULL: no memory. */
char *slot_runs_write(const uint16_t *sets, uint32_t count);

#endif
