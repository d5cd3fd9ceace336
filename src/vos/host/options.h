/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs-vos's command line, written by dvs-cell (cell/spawn.c):
 *
 *   dvs-vos --dc ID --name NAME --node N --nodes 1=a,2=b --primary N --place POLICY [--strict] [--trace]
 *           --broker-fd F --init-fd F --image-fd F --attr-fd F [--upper-fd F] --dev-fd F [--mount
 * node=N,fd=F,dst=PATH[,ro]]...
 *
 * Standard error takes log lines. proc_fd, pts_fd and slot_limit come later, from confine_enter.
 */
#ifndef VOS_HOST_OPTIONS_H
#define VOS_HOST_OPTIONS_H

#include "common/failure.h"
#include "vos/host/module.h"

/* Fill in *vos (zeroed by the caller) and *broker_fd. 0, or -EINVAL with *failure set. */
int host_options_parse(int argc, char **argv, struct vos *vos, int *broker_fd, struct failure *failure);

#endif
