/* SPDX-License-Identifier: Apache-2.0 */
/* What dvs-cell prepares and cell init, its first child, uses. Private to this folder. */
#ifndef CELL_CELL_H
#define CELL_CELL_H

#include "cell/cgroup.h"
#include "cell/options.h"
#include "common/failure.h"
#include <stdbool.h>
#include <stdnoreturn.h>
#include <sys/types.h>

#define CELL_IDS 65536u
#define CELL_BROKER_FD 3 /* inherited by dvs-cell */

/* All descriptors are close-on-exec and -1 when absent. */
struct cell {
    struct cell_options options;
    struct cgroup cgroup;
    int broker_fd;
    int image_fd;
    int attr_fd; /* may be the same number as image_fd */
    int upper_fd;
    int dev_fd;
    int mount_fds[CELL_MOUNTS]; /* of this node's volumes */
    int vos_fd;                 /* the dvs-vos program */
    int personality_fd;         /* sealed copy of the personality */
    int seccomp_fd;             /* the guests' filter */
    int go[2]; /* socket pair: dvs-cell's end, init's end. One byte tells init that ids and cgroup are set */
    pid_t init;
    int init_pidfd;
};

/* --- namespaces.c, in dvs-cell --- */

/*
 * A mount namespace of our own, private. If our root is not the namespace's root (a chroot), it is made so, since the
 * kernel refuses user namespaces to those in a chroot.
 */
int namespaces_prepare(struct failure *failure);
/* clone3 cell init into new user, pid, mount, network, ipc and uts namespaces; it runs init_run. Fills in init,
 * init_pidfd. */
int namespaces_clone(struct cell *cell, struct failure *failure);
/* Map the ids of init's user namespace, and the trees that are to show them. */
int namespaces_map(struct cell *cell, struct failure *failure);

/* --- init.c --- */
noreturn void init_run(struct cell *cell);

/* --- spawn.c, in init. Both return the new process's pid in the cell or a negative errno --- */
/* dvs-vos, in its own mount namespace; init_socket: its end, inherited. */
pid_t spawn_vos(const struct cell *cell, int init_socket);
/* The zygote (zygote.h). fds: channel, socket, doorbell. proc: /proc of the cell. */
pid_t spawn_zygote(const struct cell *cell, const int fds[3], int proc);

#endif
