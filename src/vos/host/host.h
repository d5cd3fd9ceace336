/* SPDX-License-Identifier: Apache-2.0 */
/* The host: hands messages, events and control requests to the modules of a cell. */
#ifndef VOS_HOST_HOST_H
#define VOS_HOST_HOST_H

#include "common/failure.h"
#include "vos/host/module.h"

/*
 * Run the modules until the cell is told to stop. vos: filled in, with vos->dvk open. modules: NULL-terminated, in
 * order of start. Returns only on failure (a negative error, *failure set), since an orderly stop ends in cell init
 * killing us.
 */
int host_run(struct vos *vos, const struct vos_module *const *modules, struct failure *failure);

/* Send a packet (cell/init_protocol.h) to cell init. fds: sent along, not closed. 0 or negative errno. */
struct init_packet;
int host_init_send(const struct vos *vos, const struct init_packet *packet, const int *fds, unsigned fd_count);

#endif
