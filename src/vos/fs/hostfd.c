/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which file of the DC is behind a granted host fd: FS_HOSTFD_INFO, FS_HOSTFD_OP. The fd comes from the guest, but only
 * grants can be sent: whatever it is, it is something the guest has. Its layer is told by the host mount that it was
 * opened through; where the layers share a mount (a cell without mounts of its own), by its path below their roots.
 */
#include "vos/fs/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000u
#endif

static int fd_path(struct fs *fs, int fd, char out[VOS_PATH_MAX]) {
    char name[32];
    snprintf(name, sizeof(name), "self/fd/%d", fd);
    ssize_t length = readlinkat(fs->vos->proc_fd, name, out, VOS_PATH_MAX - 1);
    if (length < 0)
        return -errno;
    out[length] = '\0';
    return 0;
}

static int mount_id(int fd, struct statx *st) {
    return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, st) < 0 ? -errno : 0;
}

int hostfd_start(struct fs *fs) {
    struct statx st;
    int error = mount_id(fs->vos->image_fd, &st);
    if (error < 0)
        return error;
    fs->image_mount = st.stx_mnt_id;
    error = fd_path(fs, fs->vos->image_fd, fs->image_path);
    if (error < 0 || !fs->primary)
        return error;
    error = mount_id(fs->vos->upper_fd, &st);
    if (error < 0)
        return error;
    fs->upper_mount = st.stx_mnt_id;
    return fd_path(fs, fs->vos->upper_fd, fs->upper_path);
}

/* The part of `path` below `root`, or NULL. */
static const char *below(const char *root, const char *path) {
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length]))
        return NULL;
    return path[length] ? path + length : "/";
}

static const char *identify_volume(struct fs *fs, uint64_t mount, const char *path, struct host_identity *out) {
    for (unsigned i = 0; i < fs->vos->mount_count; i++) {
        const struct vos_mount *volume = &fs->vos->mounts[i];
        struct statx st;
        char root[VOS_PATH_MAX];
        if (volume->dir_fd < 0 || mount_id(volume->dir_fd, &st) < 0 || st.stx_mnt_id != mount ||
            fd_path(fs, volume->dir_fd, root) < 0)
            continue;
        const char *rest = below(root, path);
        if (!rest)
            continue;
        out->layer = LAYER_VOLUME;
        out->stat.st_dev = FS_DEV_VOLUME + i;
        if (out->stat.st_uid == FS_OVERFLOW_ID)
            out->stat.st_uid = 0;
        if (out->stat.st_gid == FS_OVERFLOW_ID)
            out->stat.st_gid = 0;
        snprintf(out->path, sizeof(out->path), "%s%s", volume->path, rest[1] ? rest : "");
        return rest;
    }
    return NULL;
}

int hostfd_identify(struct fs *fs, int fd, struct host_identity *out) {
    struct statx st;
    char path[VOS_PATH_MAX];
    int error = mount_id(fd, &st);
    if (error == 0)
        error = fd_path(fs, fd, path);
    if (error < 0)
        return error;
    stat_from_host(&out->stat, &st);
    out->layer = LAYER_DEV;
    out->where = WHERE_NONE;
    out->path[0] = '\0';
    if (path[0] != '/') /* pipe:[1], /memfd: and the like */
        return 0;
    if (strncmp(path, "/memfd:dvs-shm:", 15) == 0) {
        out->layer = LAYER_SHM;
        out->stat.st_dev = FS_DEV_SHM;
        out->stat.st_ino = strtoull(path + 15, NULL, 16);
        out->stat.st_nlink = 1;
        return 0;
    }
    const char *rest = NULL;
    if (fs->primary && st.stx_mnt_id == fs->upper_mount && (rest = below(fs->upper_path, path))) {
        out->layer = LAYER_TREE;
        out->where = WHERE_UPPER;
        stat_upper(fs, &out->stat);
    } else if (identify_volume(fs, st.stx_mnt_id, path, out)) {
        return 0;
    } else if (st.stx_mnt_id == fs->image_mount && (rest = below(fs->image_path, path))) {
        out->layer = LAYER_TREE;
        out->where = WHERE_IMAGE;
        stat_image(&out->stat);
        struct vos_stat attributes;
        if (rest[1] && stat_host_at(fs->vos->attr_fd, rest + 1, AT_SYMLINK_NOFOLLOW, &attributes) == 0 &&
            attributes.st_ino == out->stat.st_ino) {
            stat_image(&attributes);
            out->stat = attributes;
        }
    }
    if (rest)
        snprintf(out->path, sizeof(out->path), "%s", rest);
    if (S_ISCHR(out->stat.st_mode)) {
        out->stat.st_dev = FS_DEV_DEV;
        out->stat.st_uid = out->stat.st_gid = 0;
        snprintf(out->path, sizeof(out->path), "/dev%s", strrchr(path, '/'));
    }
    return 0;
}

int hostfd_reopen(struct fs *fs, int fd, int flags) {
    char name[32];
    snprintf(name, sizeof(name), "self/fd/%d", fd);
    int opened = openat(fs->vos->proc_fd, name, flags | O_CLOEXEC | O_NOCTTY);
    return opened < 0 ? -errno : opened;
}

static int put_info(struct op *op, const struct vos_stat *st, const char *path) {
    size_t length = strlen(path);
    int error = op_put(op, st, sizeof(*st));
    if (error == 0 && length)
        error = op_put(op, path, length + 1);
    op->out[0] = length;
    return error;
}

/* By handle: its stat, and its path where that is known here. */
static int object_info(struct op *op, struct object *object) {
    char path[VOS_PATH_MAX] = "";
    struct vos_stat st;
    struct host_identity *identity;
    if (!op->object)
        op->object = object_hold(object);
    if (object->node != op->fs->vos->node) {
        remote_forward_object(op, object);
        return FS_PENDING;
    }
    switch (object->kind) {
    case FS_KIND_DIR:
    case FS_KIND_PATH: {
        int error = place_stat(op, &object->place, &st);
        if (error == 0 && place_path(op, &object->place, path) < 0)
            path[0] = '\0';
        return error < 0 ? error : put_info(op, &st, path);
    }
    case FS_KIND_TTY:
        snprintf(path, sizeof(path), "/dev/pts/%u", object->tty);
        return put_info(op, &object->stat, path);
    default:
        identity = op_alloc(op, sizeof(*identity));
        if (!identity)
            return -ENOMEM;
        int error = hostfd_identify(op->fs, object->fd, identity);
        if (error == 0 && object->open_flags & FS_O_IMMUTABLE)
            identity->stat = object->stat;
        return error < 0 ? error : put_info(op, &identity->stat, identity->path);
    }
}

int do_hostfd_info(struct op *op) {
    if (!op->req || op->req->fd_count == 0) {
        struct process *process = op_process(op);
        struct object *object = op->object ? op->object : process ? handle_get(process, op->words[0]) : NULL;
        return object ? object_info(op, object) : -EBADF;
    }
    int fd = op_keep_fd(op, steal_fd(&op->req->fds[0]));
    struct host_identity *identity = op_alloc(op, sizeof(*identity));
    if (fd < 0 || !identity)
        return -ENOMEM;
    int error = hostfd_identify(op->fs, fd, identity);
    return error < 0 ? error : put_info(op, &identity->stat, identity->path);
}

static int take_name(struct op *op) {
    const char *data = op->data;
    for (uint32_t i = 0; i < op->data_len && i < 256; i++) {
        op->path[1][i] = ((const volatile char *)data)[i];
        if (!op->path[1][i]) {
            op->data = data + i + 1;
            op->data_len -= i + 1;
            return 0;
        }
    }
    return -EINVAL;
}

/* identity: of fd. op->words as of the operation by path. */
static int change(struct op *op, int fd, uint32_t type, const struct host_identity *identity) {
    bool path_op = type == FS_CHMOD || type == FS_CHOWN || type == FS_UTIMENS || type == FS_XATTR;
    if (identity->layer == LAYER_TREE && identity->where == WHERE_IMAGE && path_op) {
        /* The change goes to the copy in the writable layer. */
        static const uint8_t flags_word[] = {[FS_CHMOD & 31] = 2, [FS_CHOWN & 31] = 3, [FS_UTIMENS & 31] = 5, [FS_XATTR & 31] = 2};
        op->type = type;
        op->words[flags_word[type & 31]] = 0;
        op->path_count = 1;
        strcpy(op->path[0], identity->path);
        const struct op_row *row = table_find(type);
        return row->handler(op);
    }
    if (identity->layer == LAYER_DEV && path_op)
        return -EPERM;
    return attr_host_op(op, fd, type);
}

int hostfd_change(struct op *op, int fd, uint32_t type) {
    struct host_identity *identity = op_alloc(op, sizeof(*identity));
    if (fd < 0 || !identity)
        return fd < 0 ? -EPERM : -ENOMEM;
    int error = hostfd_identify(op->fs, fd, identity);
    return error < 0 ? error : change(op, fd, type, identity);
}

/* w0 operation, w1.. its words; FS_XATTR: data "name\0value". */
int do_hostfd_op(struct op *op) {
    if (!op->req || op->req->fd_count == 0)
        return -EBADF;
    uint32_t type = (uint32_t)op->words[0];
    int fd = op_keep_fd(op, steal_fd(&op->req->fds[0]));
    struct host_identity *identity = op_alloc(op, sizeof(*identity));
    if (fd < 0 || !identity)
        return -ENOMEM;
    int error = hostfd_identify(op->fs, fd, identity);
    if (error < 0)
        return error;
    if (type == FS_STATFS) {
        struct statfs st;
        if (fstatfs(op->fs->primary && identity->layer == LAYER_TREE ? op->fs->vos->upper_fd : fd, &st) < 0)
            return -errno;
        memset(&st.f_fsid, 0, sizeof(st.f_fsid));
        return op_put(op, &st, sizeof(st));
    }
    if (type == FS_XATTR) {
        error = take_name(op);
        if (error < 0)
            return error;
    }
    return change(op, fd, type, identity);
}
