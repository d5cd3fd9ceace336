/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's descriptor-based mount calls: fsopen(2) and the like. Results as the C library's (-1 and errno). */
#ifndef CELL_MOUNT_API_H
#define CELL_MOUNT_API_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>

static inline int mount_open_tree(int dir, const char *path, unsigned flags) {
    return open_tree(dir, path, flags);
}

/* Change a mount's attributes, not those below it. */
static inline int mount_attributes(int mount, struct mount_attr *attributes) {
    return mount_setattr(mount, "", AT_EMPTY_PATH, attributes, sizeof *attributes);
}

/*
 * A new, detached mount of a file system type. options: key, value, ..., NULL; attributes: MOUNT_ATTR_*.
 * Returns an O_PATH descriptor of its root.
 */
int mount_create(const char *type, const char *const *options, unsigned attributes);

/*
 * Replace this mount namespace's tree by an empty read-only tmpfs and go there; what was the root is unmounted from
 * this namespace. Needs CAP_SYS_ADMIN in the namespace's owner and a root that is a mount.
 */
int mount_root_empty(void);

#endif
