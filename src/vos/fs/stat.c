/* SPDX-License-Identifier: Apache-2.0 */
/* FS_STAT, FS_FSTAT, FS_ACCESS, FS_READLINK, FS_STATFS: what something is. */
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

void stat_from_host(struct vos_stat *out, const struct statx *in) {
    *out = (struct vos_stat){
        .st_dev = makedev(in->stx_dev_major, in->stx_dev_minor),
        .st_ino = in->stx_ino,
        .st_nlink = in->stx_nlink,
        .st_mode = in->stx_mode,
        .st_uid = in->stx_uid,
        .st_gid = in->stx_gid,
        .st_rdev = makedev(in->stx_rdev_major, in->stx_rdev_minor),
        .st_size = (int64_t)in->stx_size,
        .st_blksize = in->stx_blksize,
        .st_blocks = (int64_t)in->stx_blocks,
        .st_atime_s = in->stx_atime.tv_sec,
        .st_atime_ns = in->stx_atime.tv_nsec,
        .st_mtime_s = in->stx_mtime.tv_sec,
        .st_mtime_ns = in->stx_mtime.tv_nsec,
        .st_ctime_s = in->stx_ctime.tv_sec,
        .st_ctime_ns = in->stx_ctime.tv_nsec,
    };
    if (in->stx_mask & STATX_BTIME) {
        out->btime_s = in->stx_btime.tv_sec;
        out->btime_ns = in->stx_btime.tv_nsec;
    }
}

int stat_host_at(int dir_fd, const char *name, int flags, struct vos_stat *out) {
    struct statx host;
    if (statx(dir_fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, &host) < 0)
        return -errno;
    stat_from_host(out, &host);
    return 0;
}

void stat_image(struct vos_stat *st) {
    st->st_dev = FS_DEV_TREE;
    if (st->st_uid == FS_OVERFLOW_ID)
        st->st_uid = 0;
    if (st->st_gid == FS_OVERFLOW_ID)
        st->st_gid = 0;
}

void stat_upper(struct fs *fs, struct vos_stat *st) {
    st->st_dev = FS_DEV_TREE;
    st->st_ino = origin_ino(fs, st);
}

static unsigned follow(uint64_t at_flags) {
    return (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (at_flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
}

struct object *empty_path_object(struct op *op, uint64_t at_flags) {
    struct object *object = op->start[0].kind == START_OBJECT ? op->start[0].object : NULL;
    if (!(at_flags & AT_EMPTY_PATH) || op->path[0][0] || !object || object->node != op->fs->vos->node)
        return NULL;
    return object->kind == FS_KIND_DIR || object->kind == FS_KIND_PATH ? NULL : object;
}

static int object_stat(struct op *op, struct object *object, struct vos_stat *out) {
    if (object->open_flags & FS_O_IMMUTABLE) {
        *out = object->stat;
        return 0;
    }
    struct host_identity *identity = op_alloc(op, sizeof(*identity));
    if (!identity)
        return -ENOMEM;
    int error = hostfd_identify(op->fs, object->fd, identity);
    if (error < 0)
        return error;
    *out = identity->stat;
    return 0;
}

int do_stat(struct op *op) {
    struct walk found;
    struct vos_stat st;
    struct object *object = empty_path_object(op, op->words[1]);
    if (object && object->kind == FS_KIND_TTY) {
        op->object = object_hold(object);
        op->type = FS_FSTAT;
        return tty_forward(op);
    }
    int error = object ? object_stat(op, object, &st) : walk(op, 0, follow(op->words[1]), &found);
    if (error == 0 && !object)
        error = place_stat(op, &found.found, &st);
    /* Of directories alone: somebody walks the tree, and may not care for what else is in them. */
    if (error == 0 && !object && found.last == LAST_NAME && found.parent.layer == LAYER_TREE && !S_ISDIR(found.found.mode))
        names_fill(op, found.parent.dir);
    return error < 0 ? error : op_put(op, &st, sizeof(st));
}

int do_fstat(struct op *op) {
    struct object *object = op->object;
    if (object->kind == FS_KIND_TTY)
        return tty_forward(op);
    if (object->kind == FS_KIND_DIR || object->kind == FS_KIND_PATH) {
        /* The primary may have to answer: go the way of a path. */
        if (!op->start[0].object)
            op->start[0] = (struct start){.kind = START_OBJECT, .object = object_hold(object)};
        op->type = FS_STAT;
        op->words[1] = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;
        op->path[0][0] = '\0';
        op->path_count = 1;
        return do_stat(op);
    }
    struct vos_stat st;
    int error = object_stat(op, object, &st);
    if (error == 0 && op->remote && (object->kind == FS_KIND_FILE || object->kind == FS_KIND_PIPE))
        st.st_blksize = DVK_DATA_MAX; /* each transfer is a message: let programs make few */
    return error < 0 ? error : op_put(op, &st, sizeof(st));
}

int do_access(struct op *op) {
    struct walk found;
    if (op->words[1] & ~(uint64_t)(R_OK | W_OK | X_OK))
        return -EINVAL;
    struct object *object = empty_path_object(op, op->words[2]);
    if (object && object->fd >= 0) {
        struct vos_stat st;
        int error = object_stat(op, object, &st);
        return error < 0 ? error : creds_check(op->creds, st.st_mode, st.st_uid, st.st_gid, (int)op->words[1]);
    }
    int error = walk(op, 0, follow(op->words[2]), &found);
    return error < 0 || !op->words[1] ? error : place_check(op, &found.found, (int)op->words[1]);
}

int do_readlink(struct op *op) {
    struct walk found;
    char target[VOS_PATH_MAX];
    if ((int64_t)op->words[1] <= 0)
        return -EINVAL;
    int error = walk(op, 0, WALK_EMPTY, &found);
    if (error < 0)
        return error;
    if (!S_ISLNK(found.found.mode))
        return op->path[0][0] ? -EINVAL : -ENOENT;
    int length = place_readlink(op, &found.found, target, sizeof(target));
    if (length < 0)
        return length;
    if ((uint64_t)length > op->words[1])
        length = (int)op->words[1];
    error = op_put(op, target, (size_t)length);
    return error < 0 ? error : length;
}

static int put_statfs(struct op *op, int fd, uint8_t layer) {
    struct statfs st = {.f_bsize = 4096, .f_namelen = FS_NAME_MAX, .f_frsize = 4096};
    static const long types[] = {[LAYER_PROC] = 0x9fa0, [LAYER_DEV] = 0x01021994, [LAYER_TOOLS] = 0x01021994, [LAYER_SHM] = 0x01021994};
    if (fd >= 0) {
        if (fstatfs(fd, &st) < 0)
            return -errno;
        memset(&st.f_fsid, 0, sizeof(st.f_fsid));
    } else
        st.f_type = types[layer];
    struct sysinfo memory;
    if (layer == LAYER_SHM && sysinfo(&memory) == 0) /* as a tmpfs of the usual size: programs look whether there is room */
        st.f_blocks = st.f_bfree = st.f_bavail = st.f_files = st.f_ffree = (fsblkcnt_t)memory.totalram * memory.mem_unit / 4096 / 2;
    return op_put(op, &st, sizeof(st));
}

int do_statfs(struct op *op) {
    struct walk found;
    struct object *object = empty_path_object(op, AT_EMPTY_PATH);
    if (object)
        return put_statfs(op, object->fd, LAYER_DEV);
    /* The tree's room is the writable layer's: the primary's to tell. */
    op->read_only = false;
    int error = walk(op, 0, WALK_FOLLOW | WALK_EMPTY, &found);
    if (error < 0)
        return error;
    int fd = found.found.layer == LAYER_TREE ? op->fs->vos->upper_fd : found.found.layer == LAYER_VOLUME ? found.found.fd : -1;
    return put_statfs(op, fd, found.found.layer);
}
