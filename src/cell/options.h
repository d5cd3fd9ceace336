/* SPDX-License-Identifier: Apache-2.0 */
/* dvs-cell's command line (README.md), checked. Touches no file and no process. */
#ifndef CELL_OPTIONS_H
#define CELL_OPTIONS_H

#include "common/failure.h"
#include <stdbool.h>
#include <stdint.h>

#define CELL_MOUNTS 32u
#define CELL_MEMORY_MIN (16ull << 20)

struct cell_mount {
    uint32_t node;
    bool read_only;
    char *source; /* directory on that node; owned */
    char *path;   /* absolute, in the DC; owned */
};

/* Strings point into argv unless said otherwise. */
struct cell_options {
    uint32_t dc;
    const char *name;
    uint32_t node;
    const char *nodes; /* "1=a,2=b", checked */
    uint32_t primary;
    const char *image; /* "host" or an absolute path */
    const char *upper; /* NULL: none */
    uint32_t uid_base;
    struct cell_mount mounts[CELL_MOUNTS];
    unsigned mount_count;
    uint64_t memory_bytes; /* 0: no limit */
    uint32_t cpu_milli;    /* thousandths of a CPU; 0: no limit */
    uint32_t pids;         /* 0: no limit */
    const char *place;
    const char *cgroup; /* relative name, checked: see cgroup_name_valid */
    bool strict, trace;
    const char *libexec;
};

/*
 * Parse and check argv. 0, or -EINVAL with *failure set (code "bad-request" or "limit-out-of-range"). On success the
 * caller ends with options_free; on failure there is nothing to free.
 */
int options_parse(int argc, char **argv, struct cell_options *options, struct failure *failure);
void options_free(struct cell_options *options);

/* Check "ID=NAME,ID=NAME...": ids 1..DVK_MAX_NODE, rising; names of 1..63 of [a-zA-Z0-9_.-]. Tells whether `want`
 * is among the ids. Returns how many there are, or -EINVAL. */
int options_nodes_check(const char *text, uint32_t want, bool *found);

#endif
