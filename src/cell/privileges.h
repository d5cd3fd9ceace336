/* SPDX-License-Identifier: Apache-2.0 */
/* Ids and capabilities of the cell's processes, in the cell's user namespace. Also used by dvs-vos. */
#ifndef CELL_PRIVILEGES_H
#define CELL_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/types.h>

/* Make all permitted capabilities ambient, so that an exec as a user that is not root keeps them. 0 or negative errno.
 */
int privileges_keep_over_exec(void);

/* Become this uid and gid (real, effective, saved) of the user namespace, without groups, and keep the permitted
 * capabilities. 0 or negative errno. */
int privileges_become(uid_t uid, gid_t gid);

/* Keep just these capabilities: permitted and effective, and ambient too if asked for; everything else leaves every
 * set, the bounding set included. Needs CAP_SETPCAP. 0 or negative errno. */
int privileges_limit(const cap_value_t *keep, size_t count, bool ambient);

#endif
