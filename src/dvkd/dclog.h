/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a DC's output: a file that is moved to NAME.1 when it reaches DCLOG_MAX bytes (one old one is kept), and
 * those who follow it. Writes go to the page cache; errors (a full disk) are told once and the output is dropped.
 */
#ifndef DVKD_DCLOG_H
#define DVKD_DCLOG_H

#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DCLOG_MAX (10u << 20)

struct dclog {
    char path[600];
    int fd; /* -1: could not be opened */
    uint64_t size;
    uint32_t turns; /* times it was moved away */
    bool failed;
    struct list followers; /* struct dclog_follower */
};
struct dclog_follower {
    struct list link;
    void (*fn)(void *context); /* there is more, or (log ended) there will not be */
    void *context;
};

/* Open for appending; created with mode 0600. Never fails as a whole: see `failed`. */
void dclog_open(struct dclog *log, const char *path);
/* Tells the followers and unlinks them from the log (their link is empty afterwards). */
void dclog_close(struct dclog *log);
void dclog_append(struct dclog *log, const void *data, size_t len);

#endif
