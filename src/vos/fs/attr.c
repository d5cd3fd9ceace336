/* SPDX-License-Identifier: Apache-2.0 */
/* FS_CHMOD, FS_CHOWN, FS_UTIMENS, FS_TRUNCATE, FS_XATTR: changes of attributes, by path or on a granted host fd. */
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/xattr.h>

static unsigned follow(uint64_t at_flags) {
    return (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (at_flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
}

/* The index keeps directories' attributes. */
static int refresh_dir(struct op *op, struct place *place) {
    struct vos_stat st;
    if (place->layer != LAYER_TREE || !S_ISDIR(place->mode))
        return 0;
    int error = place_stat(op, place, &st);
    if (error < 0)
        return error;
    place->dir->mode = st.st_mode;
    place->dir->uid = st.st_uid;
    place->dir->gid = st.st_gid;
    names_dir_changed(op->fs, place->dir);
    return 0;
}

/* A descriptor that names a link means the link, also where the primary looks it up by its name. */
static bool names_link(const struct op *op) {
    const struct object *object = op->start[0].kind == START_OBJECT && !op->path[0][0] ? op->start[0].object : NULL;
    return object && object->node == op->fs->vos->node && object->kind == FS_KIND_PATH && S_ISLNK(object->place.mode);
}

/* Find what is to be changed, with its attributes as they are. at_flags: op's word with the AT_* flags. */
static int find(struct op *op, uint64_t *at_flags, struct walk *found, struct vos_stat *st) {
    if (*at_flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (names_link(op))
        *at_flags |= AT_SYMLINK_NOFOLLOW;
    int error = walk(op, 0, follow(*at_flags), found);
    return error == 0 ? place_stat(op, &found->found, st) : error;
}

/* A file of /dev/shm has no name that the host knows: by its descriptor. */
static int shm_attr(struct op *op, struct place *place, uint32_t type) {
    if (!place->key)
        return -EPERM;
    int fd = shm_fd(op, place);
    return fd < 0 ? fd : attr_host_op(op, fd, type);
}

static int writable_at(struct op *op, struct place *place, struct host_at *at) {
    int error = place_host(op, place, true, false, at);
    if (error == 0 && place->layer == LAYER_TREE && S_ISDIR(place->mode) && place->dir->parent) {
        /* By its name: "." would ask for the right to search it. */
        at->dir_fd = tree_upper_fd(op->fs, place->dir->parent);
        at->name = place->dir->name;
        error = at->dir_fd < 0 ? at->dir_fd : 0;
    }
    return error == 0 ? op_as_caller(op) : error;
}

int do_chmod(struct op *op) {
    struct walk found;
    struct vos_stat st;
    struct host_at at;
    mode_t mode = (mode_t)op->words[1] & 07777;
    struct object *object = empty_path_object(op, op->words[2]);
    if (object)
        return hostfd_change(op, object->fd, FS_CHMOD);
    int error = find(op, &op->words[2], &found, &st);
    if (error != 0)
        return error;
    struct place *place = &found.found;
    if (place->layer == LAYER_SHM)
        return shm_attr(op, place, FS_CHMOD);
    if (S_ISLNK(place->mode))
        return -EOPNOTSUPP;
    if (op->creds->uid != 0 && op->creds->uid != st.st_uid)
        return -EPERM;
    /* A directory that not all may search and list any more: other nodes must ask again. */
    if (place->layer == LAYER_TREE && S_ISDIR(place->mode) && (mode & 0555) != 0555)
        error = lease_revoke_below(op, place->dir);
    if (error == 0)
        error = writable_at(op, place, &at);
    if (error != 0)
        return error;
    if (fchmodat(at.dir_fd, at.name, mode, 0) < 0)
        error = -errno;
    op_as_root(op);
    return error < 0 ? error : refresh_dir(op, place);
}

static int chown_check(const struct creds *creds, const struct vos_stat *st, uint32_t uid, uint32_t gid) {
    if (creds->uid == 0)
        return 0;
    if (creds->uid != st->st_uid || (uid != UINT32_MAX && uid != st->st_uid))
        return -EPERM;
    return gid == UINT32_MAX || gid == st->st_gid || creds_in_group(creds, gid) ? 0 : -EPERM;
}

int do_chown(struct op *op) {
    struct walk found;
    struct vos_stat st;
    struct host_at at;
    uint32_t uid = (uint32_t)op->words[1], gid = (uint32_t)op->words[2];
    struct object *object = empty_path_object(op, op->words[3]);
    if (object)
        return hostfd_change(op, object->fd, FS_CHOWN);
    int error = find(op, &op->words[3], &found, &st);
    if (error == 0 && uid == UINT32_MAX && gid == UINT32_MAX)
        return 0;
    if (error == 0)
        error = chown_check(op->creds, &st, uid, gid);
    if (error == 0 && found.found.layer == LAYER_SHM)
        return shm_attr(op, &found.found, FS_CHOWN);
    if (error == 0)
        error = writable_at(op, &found.found, &at);
    if (error != 0)
        return error;
    if (fchownat(at.dir_fd, at.name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        error = -errno;
    op_as_root(op);
    return error < 0 ? error : refresh_dir(op, &found.found);
}

static void take_times(const uint64_t *words, struct timespec times[2]) {
    times[0] = (struct timespec){(time_t)words[1], (long)words[2]};
    times[1] = (struct timespec){(time_t)words[3], (long)words[4]};
}

int do_utimens(struct op *op) {
    struct walk found;
    struct vos_stat st;
    struct host_at at;
    struct timespec times[2];
    take_times(op->words, times);
    if (times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT)
        return 0;
    struct object *object = empty_path_object(op, op->words[5]);
    if (object)
        return hostfd_change(op, object->fd, FS_UTIMENS);
    int error = find(op, &op->words[5], &found, &st);
    if (error != 0)
        return error;
    if (found.found.layer == LAYER_SHM)
        return shm_attr(op, &found.found, FS_UTIMENS);
    bool now = times[0].tv_nsec == UTIME_NOW && times[1].tv_nsec == UTIME_NOW;
    if (op->creds->uid != 0 && op->creds->uid != st.st_uid) {
        if (!now)
            return -EPERM;
        error = place_check(op, &found.found, W_OK);
    }
    if (error == 0)
        error = writable_at(op, &found.found, &at);
    if (error != 0)
        return error;
    if (utimensat(at.dir_fd, at.name, times, AT_SYMLINK_NOFOLLOW) < 0)
        error = -errno;
    op_as_root(op);
    return error;
}

int do_truncate(struct op *op) {
    struct walk found;
    struct host_at at;
    int64_t length = (int64_t)op->words[1];
    if (length < 0)
        return -EINVAL;
    int error = walk(op, 0, WALK_FOLLOW, &found);
    if (error < 0)
        return error;
    if (S_ISDIR(found.found.mode))
        return -EISDIR;
    if (!S_ISREG(found.found.mode))
        return -EINVAL;
    error = place_check(op, &found.found, W_OK);
    if (error == 0 && found.found.layer == LAYER_SHM)
        return shm_attr(op, &found.found, FS_FTRUNCATE);
    if (error == 0)
        error = place_host(op, &found.found, true, length == 0, &at);
    if (error == 0)
        error = op_as_caller(op);
    if (error != 0)
        return error;
    int fd = openat(at.dir_fd, at.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, length) < 0)
        error = -errno;
    if (fd >= 0)
        close(fd);
    op_as_root(op);
    return error;
}

/* ---- extended attributes: those of "user." on files and directories ---- */

enum xattr_op { XATTR_GET, XATTR_SET, XATTR_LIST, XATTR_REMOVE };

static int xattr_list(struct op *op, int fd, uint64_t size) {
    char *names = op_alloc(op, 65536);
    if (!names)
        return -ENOMEM;
    ssize_t length = flistxattr(fd, names, 65536), kept = 0;
    if (length < 0)
        return errno == ENOTSUP ? 0 : -errno;
    for (ssize_t at = 0; at < length;) {
        size_t one = strlen(names + at) + 1;
        if (strncmp(names + at, "user.", 5) == 0) {
            memmove(names + kept, names + at, one);
            kept += (ssize_t)one;
        }
        at += (ssize_t)one;
    }
    if (!size)
        return (int)kept;
    if ((uint64_t)kept > size)
        return -ERANGE;
    int error = op_put(op, names, (size_t)kept);
    return error < 0 ? error : (int)kept;
}

static int xattr_get(struct op *op, int fd, const char *name, uint64_t size) {
    if (!size) {
        ssize_t length = fgetxattr(fd, name, NULL, 0);
        return length < 0 ? -errno : (int)length;
    }
    ssize_t length = fgetxattr(fd, name, op->out_data, size < op->out_cap ? size : op->out_cap);
    if (length < 0)
        return -errno;
    op->out_len = (uint32_t)length;
    return (int)length;
}

static int xattr_apply(struct op *op, int fd, enum xattr_op what, const char *name) {
    uint64_t size = op->words[3];
    switch (what) {
    case XATTR_GET: return xattr_get(op, fd, name, size);
    case XATTR_LIST: return xattr_list(op, fd, size);
    case XATTR_REMOVE: return fremovexattr(fd, name) < 0 ? -errno : 0;
    case XATTR_SET: break;
    }
    if (size > op->data_len)
        return -EINVAL;
    return fsetxattr(fd, name, op->data, size, (int)op->words[4]) < 0 ? -errno : 0;
}

static int xattr_name_check(enum xattr_op what, const char *name) {
    if (what == XATTR_LIST || strncmp(name, "user.", 5) == 0)
        return what == XATTR_LIST || name[5] ? 0 : -EINVAL;
    if (strncmp(name, "system.", 7) == 0)
        return -EOPNOTSUPP;
    if (strncmp(name, "security.", 9) != 0 && strncmp(name, "trusted.", 8) != 0)
        return -EOPNOTSUPP;
    return what == XATTR_GET ? -ENODATA : -EPERM;
}

int do_xattr(struct op *op) {
    struct walk found;
    struct host_at at;
    const char *name = op->path[1];
    if (op->words[1] > XATTR_REMOVE)
        return -EINVAL;
    enum xattr_op what = (enum xattr_op)op->words[1];
    bool change = what == XATTR_SET || what == XATTR_REMOVE;
    op->read_only = !change;
    struct object *object = empty_path_object(op, op->words[2]);
    if (object)
        return hostfd_change(op, object->fd, FS_XATTR);
    int error = walk(op, 0, follow(op->words[2]), &found);
    if (error == 0)
        error = xattr_name_check(what, name);
    if (error != 0)
        return error;
    struct place *place = &found.found;
    if (place->layer != LAYER_TREE && place->layer != LAYER_VOLUME)
        return what == XATTR_LIST ? 0 : -EOPNOTSUPP;
    if (!S_ISREG(place->mode) && !S_ISDIR(place->mode))
        return what == XATTR_LIST ? 0 : change ? -EPERM : -ENODATA;
    if (what != XATTR_LIST)
        error = place_check(op, place, change ? W_OK : R_OK);
    if (error == 0)
        error = place_host(op, place, change, false, &at);
    if (error != 0)
        return error;
    cleanup_close int fd = openat(at.dir_fd, at.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    error = op_as_caller(op);
    if (error == 0)
        error = xattr_apply(op, fd, what, name);
    op_as_root(op);
    return error;
}

/* ---- the same on a host fd of the writable layer or a volume ---- */

int attr_host_op(struct op *op, int fd, uint32_t type) {
    struct timespec times[2];
    int error = op_as_caller(op);
    if (error < 0)
        return error;
    switch (type) {
    case FS_CHMOD: error = fchmod(fd, (mode_t)op->words[1] & 07777) < 0 ? -errno : 0; break;
    case FS_CHOWN: error = fchown(fd, (uid_t)op->words[1], (gid_t)op->words[2]) < 0 ? -errno : 0; break;
    case FS_UTIMENS:
        take_times(op->words, times);
        error = futimens(fd, times) < 0 ? -errno : 0;
        break;
    case FS_XATTR:
        if (op->words[1] > XATTR_REMOVE)
            error = -EINVAL;
        else
            error = xattr_name_check((enum xattr_op)op->words[1], op->path[1]);
        if (error == 0)
            error = xattr_apply(op, fd, (enum xattr_op)op->words[1], op->path[1]);
        break;
    case FS_FSYNC: error = (op->words[1] ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0; break;
    case FS_FTRUNCATE: error = ftruncate(fd, (off_t)op->words[1]) < 0 ? -errno : 0; break;
    case FS_FALLOCATE: error = fallocate(fd, (int)op->words[1], (off_t)op->words[2], (off_t)op->words[3]) < 0 ? -errno : 0; break;
    default: error = -EINVAL; break;
    }
    op_as_root(op);
    return error;
}
