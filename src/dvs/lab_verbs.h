/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of `dvs lab`, one a file, and what they share. */
#ifndef DVS_LAB_VERBS_H
#define DVS_LAB_VERBS_H

#include "dvs/dvs.h"
#include "dvs/lab.h"

#include <signal.h>

verb_function verb_lab_add, verb_lab_exec, verb_lab_up, verb_lab_down, verb_lab_status;

/* What a node's daemon says of the cluster. */
struct lab_view {
    bool reachable; /* its daemon answers */
    bool quorate;
    unsigned up; /* how many nodes it sees, itself included */
    char version[32];
};
/* Ask a node's daemon; at most timeout_ms. */
void lab_view_ask(const struct lab *lab, const struct lab_node *node, int timeout_ms, struct lab_view *view);

/*
 * Wait until each of the nodes in `who` (NULL: all) answers and, if want_up > 0, is quorate and sees at least want_up
 * nodes. *stop (may be NULL) becoming true ends the wait: -EINTR. Errors: -ETIMEDOUT, -ESRCH (a node ended), with a
 * message that names the node and the last line of its log.
 */
int lab_wait_ready(const struct lab *lab, const struct lab_node *who, unsigned want_up, int timeout_ms,
                   const volatile sig_atomic_t *stop, struct failure *failure);

/* Are we root? If not, says so in *failure: -EPERM. */
int lab_need_root(struct failure *failure);

#endif
