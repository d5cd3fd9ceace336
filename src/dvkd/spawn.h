/* SPDX-License-Identifier: Apache-2.0 */
/* Starting dvkd's own programs: dvs-cell, dvs-proxy and dvs-copier. */
#ifndef DVKD_SPAWN_H
#define DVKD_SPAWN_H

#include "common/loop.h"

/* What a program says on its standard error: goes to the log line by line, and the last line is kept. */
struct spawn_log {
    struct loop_watch *watch;
    int fd;
    char name[80];      /* shown before each line */
    char last[256];     /* the last whole line; empty: none */
    char partial[256];
    size_t partial_len;
};

/*
 * Start argv[0] (an absolute path) with broker_fd as its descriptor 3, /dev/null as standard input, standard output
 * and error going to *log, and nothing else open. It is killed when dvkd ends, however that is (PR_SET_PDEATHSIG:
 * must be called from the main thread). broker_fd stays the caller's.
 * log->name is set by the caller. Returns the pid, or a negative errno; a program that cannot be run ends with 127
 * and says so in its log.
 */
pid_t spawn(struct loop *loop, char *const argv[], int broker_fd, struct spawn_log *log);

/* The program has ended: read what is left of its log, close. Harmless twice. */
void spawn_log_close(struct spawn_log *log);

#endif
