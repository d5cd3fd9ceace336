/* SPDX-License-Identifier: Apache-2.0 */
/* FS_OPEN: open(2). What lies on this node is granted as a host fd to a caller of this node; else there is an object. */
#include "vos/fs/fs.h"

#include <string.h>

/* Flags that go to the host with an open as they are. */
#define HOST_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_LARGEFILE)

int open_grant_object(struct op *op, struct object *object, const struct vos_stat *st) {
    if (!object)
        return -ENOMEM;
    op->out[0] = object->id;
    op->out[1] = object->kind;
    op->out[2] = object->open_flags;
    op->out[3] = object->status_flags;
    op->out_object = object;
    int error = op_put(op, st, sizeof(*st));
    return error < 0 ? error : FS_GRANT_HANDLE;
}

int open_grant_fd(struct op *op, int fd, uint8_t kind, uint32_t open_flags, uint32_t status_flags, const struct vos_stat *st) {
    if (op->remote) {
        struct object *object = object_host(op->fs, kind, fd, status_flags);
        if (object) {
            object->open_flags |= open_flags;
            object->stat = *st;
        }
        return open_grant_object(op, object, st);
    }
    op->out_fd = fd;
    op->out[0] = (uint64_t)-1;
    op->out[1] = kind;
    op->out[2] = open_flags | FS_O_LOCAL;
    op->out[3] = status_flags;
    int error = op_put(op, st, sizeof(*st));
    return error < 0 ? error : FS_GRANT_FD;
}

static int open_place_object(struct op *op, struct place *place, uint8_t kind, uint32_t flags) {
    struct vos_stat st;
    int error = place_stat(op, place, &st);
    if (error < 0)
        return error;
    return open_grant_object(op, object_place(op->fs, kind, place, flags), &st);
}

static int access_wanted(uint32_t flags) {
    int want = (flags & O_ACCMODE) == O_RDONLY ? R_OK : (flags & O_ACCMODE) == O_WRONLY ? W_OK : R_OK | W_OK;
    return flags & O_TRUNC ? want | W_OK : want;
}

static void stat_opened(struct op *op, const struct place *place, struct vos_stat *st) {
    if (place->layer == LAYER_VOLUME)
        st->st_dev = FS_DEV_VOLUME + place->key;
    else if (place->where == WHERE_IMAGE)
        stat_image(st);
    else
        stat_upper(op->fs, st);
}

static int grant_file(struct op *op, struct place *place, int fd, uint32_t flags) {
    struct vos_stat st;
    if (fd < 0)
        return fd;
    int error = stat_host_at(fd, "", AT_EMPTY_PATH, &st);
    if (error < 0) {
        close(fd);
        return error;
    }
    stat_opened(op, place, &st);
    return open_grant_fd(op, fd, FS_KIND_FILE, 0, flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), &st);
}

static int open_image_file(struct op *op, struct place *place, uint32_t flags) {
    struct vos_stat st;
    int error = place_stat(op, place, &st); /* as the DC sees its ids */
    int dir = error < 0 ? error : tree_image_fd(op->fs, place->dir);
    if (dir < 0)
        return dir;
    /* O_NOATIME is refused to a stranger, and the image is read-only anyway. */
    int fd = openat(dir, place->name, (int)(flags & HOST_FLAGS & ~(uint32_t)O_NOATIME) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    return open_grant_fd(op, fd, FS_KIND_FILE, FS_O_IMMUTABLE, flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), &st);
}

/* Whoever is going to run the file wants to know its path. What does not fit is left out. */
static void put_path(struct op *op, const struct place *place) {
    char path[VOS_PATH_MAX];
    if (op->type != FS_OPEN || !op->words[3] || op->remote || place->layer != LAYER_TREE)
        return;
    int len = tree_path(place->dir, path);
    if (len < 0)
        return;
    if (len > 1)
        path[len++] = '/';
    size_t name_len = strlen(place->name);
    if ((size_t)len + name_len >= sizeof(path))
        return;
    memcpy(path + len, place->name, name_len);
    (void)op_put(op, path, (size_t)len + name_len);
}

static int open_regular(struct op *op, struct place *place, uint32_t flags) {
    int want = access_wanted(flags);
    int error = place_check(op, place, want);
    if (error < 0)
        return error;
    if (!(want & W_OK) && place->layer == LAYER_TREE && place->where == WHERE_IMAGE)
        return open_image_file(op, place, flags);
    struct host_at at;
    error = place_host(op, place, want & W_OK, flags & O_TRUNC, &at);
    if (error != 0)
        return error;
    error = op_as_caller(op);
    if (error < 0)
        return error;
    int fd = openat(at.dir_fd, at.name, (int)(flags & (HOST_FLAGS | O_TRUNC)) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        fd = -errno;
    op_as_root(op);
    return grant_file(op, place, fd, flags);
}

static int open_fifo(struct op *op, struct place *place, uint32_t flags) {
    struct vos_stat st;
    struct host_at at;
    if (place->layer == LAYER_TREE && !op->fs->primary) {
        struct walk again;
        op->read_only = false;
        op->no_lease = true;
        return walk(op, 0, flags & O_NOFOLLOW ? 0 : WALK_FOLLOW, &again);
    }
    int error = place_check(op, place, access_wanted(flags & ~(uint32_t)O_TRUNC));
    /* Processes meet at the FIFO's inode: there has to be one that all share. */
    if (error == 0)
        error = place_host(op, place, true, false, &at);
    if (error == 0)
        error = place_stat(op, place, &st);
    return error != 0 ? error : fifo_open(op, &at, flags, &st);
}

static int open_found(struct op *op, struct place *place, uint32_t flags) {
    int error;
    if ((flags & O_DIRECTORY) && !S_ISDIR(place->mode))
        return -ENOTDIR;
    if (flags & O_PATH)
        return open_place_object(op, place, FS_KIND_PATH, O_PATH);
    if (S_ISLNK(place->mode))
        return -ELOOP;
    if (S_ISDIR(place->mode)) {
        if (access_wanted(flags) & W_OK || flags & O_CREAT)
            return -EISDIR;
        error = place_check(op, place, R_OK);
        return error < 0 ? error : open_place_object(op, place, FS_KIND_DIR, flags & O_NONBLOCK);
    }
    switch (place->layer) {
    case LAYER_PROC: return proc_open(op, place, flags);
    case LAYER_DEV: return dev_open(op, place, flags);
    case LAYER_TOOLS: return tools_open(op, place, flags);
    case LAYER_SHM: return shm_open_file(op, place, flags);
    default: break;
    }
    switch (place->mode & S_IFMT) {
    case S_IFREG:
        error = open_regular(op, place, flags);
        if (error >= 0)
            put_path(op, place);
        return error;
    case S_IFIFO: return open_fifo(op, place, flags);
    case S_IFSOCK: return -ENXIO;
    default: return -EACCES; /* device nodes: as on a file system mounted nodev */
    }
}

static int open_create(struct op *op, struct walk *found, uint32_t flags, uint32_t mode) {
    struct place *parent = &found->parent;
    struct host_at at;
    if (parent->layer == LAYER_SHM)
        return shm_create(op, found->name, flags, mode);
    if (union_reserved(found->name))
        return -EINVAL;
    if (parent->layer != LAYER_TREE && parent->layer != LAYER_VOLUME)
        return parent->layer == LAYER_PROC ? -ENOENT : parent->layer == LAYER_TOOLS ? -EROFS : -EACCES;
    int error = place_check(op, parent, W_OK | X_OK);
    if (error == 0)
        error = place_host(op, parent, true, false, &at);
    if (error == 0 && parent->layer == LAYER_TREE)
        error = union_prepare(op, parent->dir, found->name);
    if (error == 0)
        error = op_as_caller(op);
    if (error != 0)
        return error;
    int fd = openat(at.dir_fd, found->name, (int)(flags & HOST_FLAGS) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
    if (fd < 0)
        fd = -errno;
    op_as_root(op);
    if (fd < 0)
        return fd;
    if (parent->layer == LAYER_TREE)
        union_created(op, parent->dir, found->name, S_IFREG);
    struct place made = {.layer = parent->layer, .where = WHERE_UPPER, .key = parent->key};
    return grant_file(op, &made, fd, flags);
}

/* O_TMPFILE: an unnamed file in that directory. It cannot be given a name later (linkat of a handle is refused). */
static int open_unnamed(struct op *op, struct place *dir, uint32_t flags, uint32_t mode) {
    struct host_at at;
    if (!S_ISDIR(dir->mode))
        return -ENOTDIR;
    if ((flags & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    int error = place_check(op, dir, W_OK | X_OK);
    if (error == 0)
        error = place_host(op, dir, true, false, &at);
    if (error == 0)
        error = op_as_caller(op);
    if (error != 0)
        return error;
    int fd = openat(at.dir_fd, ".", (int)(flags & (HOST_FLAGS | O_EXCL)) | O_TMPFILE | O_CLOEXEC, mode);
    if (fd < 0)
        fd = -errno;
    op_as_root(op);
    struct place made = {.layer = dir->layer, .where = WHERE_UPPER, .key = dir->key};
    return grant_file(op, &made, fd, flags);
}

int do_open(struct op *op) {
    uint32_t flags = (uint32_t)op->words[1], mode = (uint32_t)op->words[2] & 07777;
    struct walk found;
    if (flags & O_PATH)
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if ((flags & O_ACCMODE) == O_ACCMODE)
        flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
    bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    if ((flags & O_CREAT) && (flags & O_DIRECTORY) && !unnamed)
        return -EINVAL;
    op->read_only = !(flags & (O_CREAT | O_TRUNC)) && (flags & O_ACCMODE) == O_RDONLY && !unnamed;
    unsigned how = flags & O_NOFOLLOW || ((flags & O_CREAT) && (flags & O_EXCL)) ? 0 : WALK_FOLLOW;
    int error = walk(op, 0, how | (flags & O_CREAT && !unnamed ? WALK_PARENT | WALK_CREATE : 0), &found);
    if (error < 0)
        return error;
    if (unnamed)
        return open_unnamed(op, &found.found, flags, mode);
    if (!found.found.mode)
        return open_create(op, &found, flags, mode);
    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    return open_found(op, &found.found, flags);
}

/* A directory that the caller opened by what the table of names says, without asking; now it needs a handle. */
int do_opendir(struct op *op) {
    struct tree_dir *dir = names_dir(op->fs, op->words[0]);
    char path[VOS_PATH_MAX];
    int length = dir ? tree_path(dir, path) : -ENOENT;
    char *copy = length < 0 ? NULL : op_alloc(op, (size_t)length + 1);
    if (!copy)
        return length < 0 ? length : -ENOMEM;
    memcpy(copy, path, (size_t)length + 1);
    op->start[0] = (struct start){.kind = START_PATH, .path = copy};
    strcpy(op->path[0], ".");
    op->path_count = 1;
    op->type = FS_OPEN;
    op->words[0] = 0;
    op->words[1] = (op->words[1] & O_NONBLOCK) | O_RDONLY | O_DIRECTORY;
    return do_open(op);
}
