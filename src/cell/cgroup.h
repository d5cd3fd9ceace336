/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cell's cgroup: dvs/NAME below the root of every hierarchy that has a controller we use. Version 2 is used where
 * it has the memory, cpu and pids controllers, else version 1's hierarchies.
 *
 * By plain files and not libcgroup: it is a dozen writes, and libcgroup has neither cgroup.kill, nor delegation of
 * version 2's controllers down a path, nor removal of a group that is still emptying.
 */
#ifndef CELL_CGROUP_H
#define CELL_CGROUP_H

#include "common/failure.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define CGROUP_PERIOD_US 100000u

/* Tasks of the cell itself (init, dvs-vos and its threads, the zygote), which a limit of the DC's tasks does not count.
 */
#define CGROUP_OWN_TASKS 16u

enum cgroup_controller { CGROUP_MEMORY, CGROUP_CPU, CGROUP_PIDS, CGROUP_CPUACCT, CGROUP_CONTROLLERS };

/* Where the hierarchies are mounted; "": there is none. With version 2 all are the same path (cpuacct: ""). */
struct cgroup_layout {
    bool version2;
    char mount[CGROUP_CONTROLLERS][256];
};

struct cgroup_limits {
    uint64_t memory_bytes; /* 0: none */
    uint32_t cpu_milli;    /* thousandths of a CPU; 0: none */
    uint32_t pids;         /* of the DC's own tasks; 0: none */
};

struct cgroup {
    struct cgroup_layout layout;
    char name[NAME_MAX + 1];
};

/* Parts of [A-Za-z0-9_.-] that do not begin with a dot, separated by single slashes; shorter than NAME_MAX. */
bool cgroup_name_valid(const char *name);

/* Read the layout from a mount table (/proc/self/mounts) and, for version 2, from its cgroup.controllers. Never fails:
 * what is not there stays "". */
void cgroup_layout_read(FILE *mounts, struct cgroup_layout *layout);

/* The directory of a controller's part of the group, in out; false if there is no such hierarchy. */
bool cgroup_path(const struct cgroup *group, enum cgroup_controller controller, char out[PATH_MAX]);

/*
 * Make the group and set its limits. A group of that name that a killed dvs-cell left behind is emptied and used.
 * Fails (with *failure set) when a limit is asked for and the controller is not there; without limits it succeeds even
 * where no cgroup can be made. On failure nothing is left behind.
 */
int cgroup_create(struct cgroup *group, const char *name, const struct cgroup_limits *limits, struct failure *failure);

/* Move a process (and so its later children) into the group. 0 or negative errno. */
int cgroup_add(const struct cgroup *group, pid_t pid);

/* Kill what is in the group, wait until it is empty (at most timeout_ms), remove it. 0, or -EBUSY: it is left behind.
 */
int cgroup_remove(const struct cgroup *group, unsigned timeout_ms);

#endif
