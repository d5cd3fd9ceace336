/* SPDX-License-Identifier: Apache-2.0 */
/* How dvs-vos enters its cell for good. */
#ifndef VOS_HOST_CONFINE_H
#define VOS_HOST_CONFINE_H

#include "common/failure.h"
#include "vos/host/module.h"

/*
 * Become the cell's root with the few capabilities that the servers need, with an empty root; fill in vos->proc_fd,
 * pts_fd, slot_limit and cpu_count. Called once, before any thread is made, in the mount namespace that dvs-cell made
 * for us; after it no path of the host exists. 0, or a negative errno with *failure set.
 */
int confine_enter(struct vos *vos, struct failure *failure);

#endif
