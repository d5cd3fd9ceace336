/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of the image keeps its number (st_ino) when it is copied up: programs compare numbers to see that a name still means
 * the file that they have open. Kept by the number of the copy, on the primary; the time of birth tells whether that number
 * has come to another file since. Not for hard links of the image, whose copies part (as in overlayfs without an index), and not
 * where the writable layer's file system knows no time of birth.
 */
#include "vos/fs/fs.h"

#include <stdlib.h>

struct origin {
    uint64_t ino;
    int64_t btime_s, btime_ns;
};

void origin_note(struct fs *fs, const char *work, const struct vos_stat *image) {
    struct vos_stat copy;
    if (image->st_nlink != 1 || stat_host_at(fs->work_fd, work, AT_SYMLINK_NOFOLLOW, &copy) < 0 || !copy.btime_s)
        return;
    struct origin *origin = malloc(sizeof(*origin));
    if (!origin)
        return; /* the number changes: no reason to fail */
    *origin = (struct origin){image->st_ino, copy.btime_s, copy.btime_ns};
    free(table_remove(&fs->origins, copy.st_ino));
    if (table_set(&fs->origins, copy.st_ino, origin) < 0)
        free(origin);
}

uint64_t origin_ino(struct fs *fs, const struct vos_stat *upper) {
    const struct origin *origin = table_get(&fs->origins, upper->st_ino);
    if (!origin)
        return upper->st_ino | FS_INO_UPPER;
    if (origin->btime_s == upper->btime_s && origin->btime_ns == upper->btime_ns)
        return origin->ino;
    free(table_remove(&fs->origins, upper->st_ino));
    return upper->st_ino | FS_INO_UPPER;
}

void origins_drop(struct fs *fs) {
    size_t cursor = 0;
    void *origin;
    while ((origin = table_next(&fs->origins, &cursor)))
        free(origin);
    table_free(&fs->origins);
}
