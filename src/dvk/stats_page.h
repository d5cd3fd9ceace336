/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page of statistics of a context: a sealed memfd that dvkd makes with the context's first BIND and both keep.
 * DVK_STATS_PLACES structures of dvk/stats.h; an endpoint's is at the place that its BIND named. Place 0 is nobody's.
 *
 * The context alone writes, with plain additions by the one thread that uses it; on x86-64 an aligned word is read and
 * written whole. dvkd reads a place when it is asked for it and when its endpoint is unbound; what it reads is the
 * process's word: it is copied out once and each number limited to DVK_STATS_MAX. Pages that are not used do not exist.
 *
 * A context zeroes a place before the BIND that names it, and gives it to another endpoint only after dvkd has unbound the last.
 */
#ifndef DVK_STATS_PAGE_H
#define DVK_STATS_PAGE_H

#include <dvk/stats.h>

#define DVK_STATS_PLACES 65536u
#define DVK_STATS_PAGE_SIZE (DVK_STATS_PLACES * sizeof(struct dvk_stats))
#define DVK_STATS_WORDS (sizeof(struct dvk_stats) / sizeof(uint64_t))
#define DVK_STATS_MAX (1ull << 53) /* what numbers in JSON are exact up to */
#define DVK_STATS_ERRORS (sizeof(((struct dvk_stats *)0)->errors) / sizeof(uint64_t))
_Static_assert(sizeof(struct dvk_stats) == 256, "layout");

/* Questions of DVK_BROKER_STATS and DVK_KERNEL_STATS. */
enum dvk_stats_question {
    DVK_STATS_OF_ENDPOINT = 1, /* struct dvk_endpoint_stats */
    DVK_STATS_OF_DC,           /* struct dvk_dc_stats of the node that is asked */
    DVK_STATS_OF_NODE,         /* struct dvk_node_stats of the node that is asked */
    DVK_STATS_OF_INFO,         /* struct dvk_dc_info, then struct dvk_dc_node[node_count]; not from other nodes */
};

#endif
