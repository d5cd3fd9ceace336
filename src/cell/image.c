/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/image.h"
#include "cell/mount_api.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

int tree_open(const char *path, bool read_only, const char *what, int *out, struct failure *failure) {
    struct stat stat;
    cleanup_close int tree = mount_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    int error = tree < 0 ? -errno : 0;
    if (!error && (fstat(tree, &stat) || !S_ISDIR(stat.st_mode)))
        error = -ENOTDIR;
    if (error)
        return failure_set(failure, error, "no-such-image", NULL, "cannot open the %s %s: %s", what, path,
                           strerror(-error));
    struct mount_attr attributes = {.attr_set =
                                        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0)};
    if (mount_attributes(tree, &attributes)) {
        error = -errno;
        return failure_set(failure, error, "internal", NULL, "cannot restrict the %s %s: %s", what, path,
                           strerror(-error));
    }
    *out = steal_fd(&tree);
    return 0;
}

int tree_id_map(int tree, int user_namespace) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_namespace};
    return mount_attributes(tree, &attributes) ? -errno : 0;
}

static const struct {
    const char *name;
    unsigned minor;
} devices[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};

/* Any failure leaves errno. */
static int devices_fill(int dir, unsigned owner) {
    for (size_t i = 0; i < ARRAY_LENGTH(devices); i++)
        if (mknodat(dir, devices[i].name, S_IFCHR | 0666, makedev(1, devices[i].minor)) ||
            fchmodat(dir, devices[i].name, 0666, 0) ||
            fchownat(dir, devices[i].name, owner, owner, AT_SYMLINK_NOFOLLOW))
            return -1;
    return fchownat(dir, "", owner, owner, AT_EMPTY_PATH);
}

int devices_create(unsigned owner, int *out, struct failure *failure) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    cleanup_close int dir = mount_create("tmpfs", (const char *const[]){"size", "64k", "mode", "0755", NULL},
                                         MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    if (dir < 0 || devices_fill(dir, owner) || mount_attributes(dir, &attributes)) {
        int error = -errno;
        return failure_set(failure, error, "unavailable", "dvs-cell must be root of the host",
                           "cannot make the devices: %s", strerror(-error));
    }
    *out = steal_fd(&dir);
    return 0;
}

/* Any failure leaves errno. */
static int contents_copy(int from, int to) {
    for (;;) {
        ssize_t count = sendfile(to, from, NULL, 1 << 20);
        if (count <= 0)
            return (int)count;
    }
}

int memfd_copy(const char *path, const char *name, int *out, struct failure *failure) {
    cleanup_close int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return failure_set(failure, -errno, "internal", "is DVS installed completely?", "cannot open %s: %s", path,
                           strerror(errno));
    cleanup_close int to = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (to < 0 && errno == EINVAL)
        to = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0 || contents_copy(from, to) ||
        fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) {
        int error = -errno;
        return failure_set(failure, error, "internal", NULL, "cannot copy %s to memory: %s", path, strerror(-error));
    }
    *out = steal_fd(&to);
    return 0;
}
