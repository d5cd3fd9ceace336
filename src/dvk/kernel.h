/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a node's service KERNEL: what processes of other nodes ask of its dvkd. They travel like any message; the
 * proxy of that node puts them to its dvkd and answers. Sends are refused with -DVK_ENOTBOUND, other types with -ENOSYS.
 */
#ifndef DVK_KERNEL_H
#define DVK_KERNEL_H

enum dvk_kernel_type {
    /* words[0] = endpoint, words[1] = flags of DVK_BROKER_WATCH. Answered when DVK_BROKER_WATCH is: status; words[0] =
     * the endpoint in full. A cancellation takes it back. */
    DVK_KERNEL_WATCH = 1,
    /* words[0] = endpoint, words[1] = enum dvk_stats_question (stats_page.h). Answered at once: status; the data is the
     * structure that the question names. */
    DVK_KERNEL_STATS = 130,
    /* words[0] = endpoint; SET: data: struct dvk_privileges, in order (privilege_set.h). Answered with status, and if that is 0
     * with the endpoint's privileges as data. Whether its source may do that, its own node says. */
    DVK_KERNEL_GET_PRIVILEGES = 120,
    DVK_KERNEL_SET_PRIVILEGES = 121,
};

#endif
