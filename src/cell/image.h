/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory trees that a cell's servers hold: detached clones of mounts (open_tree(2)), so that they have flags of
 * their own and nothing else of the host can be reached from them, whatever a server does with the descriptor.
 */
#ifndef CELL_IMAGE_H
#define CELL_IMAGE_H

#include "common/failure.h"
#include <stdbool.h>

/*
 * A detached clone of the mount at path, from there down, without the mounts below it; nosuid, nodev. *out is an
 * O_PATH descriptor that the caller owns. Needs CAP_SYS_ADMIN. what: for the error text ("image").
 * Errors: -ENOENT, -ENOTDIR, -EACCES, ... with *failure set (code "no-such-image").
 */
int tree_open(const char *path, bool read_only, const char *what, int *out, struct failure *failure);

/*
 * Show the tree's files to the processes of a user namespace as its own: id n on disk appears as id n there, by an
 * id-mapped mount. Must be the first use of the tree. -EINVAL or -EPERM: the file system cannot do that; the tree is
 * unchanged.
 */
int tree_id_map(int tree, int user_namespace);

/* A detached tmpfs with null, zero, full, random and urandom (0666, owned by owner), read-only, O_PATH. */
int devices_create(unsigned owner, int *out, struct failure *failure);

/* A sealed memfd with the contents of a file, executable. */
int memfd_copy(const char *path, const char *name, int *out, struct failure *failure);

#endif
