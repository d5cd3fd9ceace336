/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting programs in DCs: dc.run and dc.exec.
 *
 * A session is one started program with its console and, unless detached, the connection that waits for its end.
 * A run is a DC that was run on this node (its primary): its first session, and its log.
 *
 *   dc.run:  check -> dc-create is ordered -> files -> cell -> start -> dc-state running is ordered -> answer
 *            ... the program ends -> dc-state exited -> every cell stops -> output drained -> (--rm: removed) -> exited
 *   What cannot be started is removed again as if it had never been.
 *   A change is confirmed, by the slowest node, long after it took effect here: the program may end and its DC be
 *   removed before "running" is confirmed. Then the removal answers: first that it ran, then its exit status.
 */
#ifndef DVKD_RUN_H
#define DVKD_RUN_H

#include "dvkd/api.h"
#include "dvkd/console.h"

struct session {
    struct list link; /* in dvkd.sessions */
    struct dvkd *dvkd;
    uint32_t dc;
    uint64_t serial;
    json_t *start; /* the start request */
    bool tty, detached;
    int pid; /* 0: not started yet */
    struct console *console;
    int guest_fds[3];
    struct connection *connection; /* NULL: detached, or the client is gone */
    struct run *run;               /* whose first program this is; NULL: an exec */
    bool ended;                    /* the program has ended (or will never start) */
    bool drained;                  /* ... and its output was passed on */
    int status;                    /* wait status */
};

struct run {
    struct dvkd *dvkd;
    uint32_t dc;
    uint64_t serial;
    char name[CONFIG_NAME_MAX + 1];
    struct dclog log;
    struct session *session; /* NULL once it is over */
    bool rm;
    bool answered;  /* dc.run was answered ok */
    bool telling_exit; /* dc-state exited is under way */
    bool aborted;   /* it could not be started: it is removed */
    bool removing;  /* dc-remove was proposed */
    struct failure failure; /* why it was aborted */
    char lost[256];         /* why the DC failed; empty: it did not */
};

/* An event {"event": "exited"} of a cell. */
void session_exited(struct dvkd *dvkd, uint32_t dc, int pid, int status);
/* The DC's cell here is gone, or its DC is over: sessions in it end. reason: one line. */
void sessions_lost(struct dvkd *dvkd, uint32_t dc, const char *reason);
/* The DC of a run is over (dc NULL: removed) or its cell has gone: take the next step. Called by reconcile. */
void run_check(struct run *run, const struct config_dc *dc);
void run_free(struct run *run);
/* Its cell was stopped and nothing can be said of the DC now (no quorum): whoever waits is told and let go. */
void run_let_go(struct run *run, const char *reason);
/* For dc.run and dc.create: the request's name, if it has one, is valid and free, and dvkd is not ending. 0 or negative. */
int run_check_name(struct dvkd *dvkd, const json_t *request, struct failure *failure);
/* Names of nodes to a sorted list of ids; none: all that are up. *here: this one is among them. NULL with *failure when
 * one does not exist or is down. */
json_t *run_resolve_nodes(struct dvkd *dvkd, const json_t *names, bool *here, struct failure *failure);
/* Close all, for dvkd's end. */
void sessions_destroy(struct dvkd *dvkd);

#endif
