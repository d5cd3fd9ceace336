/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: a host directory of one node, mounted into the DC. Others may change it, so nothing is remembered; each step
 * is an openat without following links, by the caller's rights, and only ever downwards or from the root again.
 */
#include "vos/fs/fs.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static void volume_place(struct place *out, uint64_t index, int fd, char *path) {
    out->layer = LAYER_VOLUME;
    out->where = WHERE_UPPER;
    out->mode = S_IFDIR;
    out->key = index;
    out->fd = fd;
    out->path = path;
    out->dir = NULL;
    out->have_stat = false;
    out->name[0] = '\0';
}

int volume_root(struct op *op, unsigned index, struct place *out) {
    uint64_t mount = out->key;
    int fd = op_keep_fd(op, fcntl(op->fs->vos->mounts[mount].dir_fd, F_DUPFD_CLOEXEC, 0));
    char *path = op_alloc(op, 1);
    if (fd < 0 || !path)
        return fd < 0 ? -errno : -ENOMEM;
    *path = '\0';
    volume_place(out, mount, fd, path);
    return 0;
}

int volume_lookup(struct op *op, const struct place *dir, const char *name, struct place *out) {
    struct stat st;
    int error = op_as_caller(op);
    if (error < 0)
        return error;
    int fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error = -errno;
    op_as_root(op);
    if (error == 0 && fstat(fd, &st) < 0)
        error = -errno;
    if (error == 0 && !S_ISDIR(st.st_mode)) {
        close(fd);
        volume_place(out, dir->key, dir->fd, dir->path);
        out->mode = st.st_mode & S_IFMT;
        strcpy(out->name, name);
        return 0;
    }
    size_t size = strlen(dir->path) + strlen(name) + 2;
    char *path = error == 0 ? op_alloc(op, size) : NULL;
    if (!path) {
        if (fd >= 0)
            close(fd);
        return error < 0 ? error : -ENOMEM;
    }
    snprintf(path, size, "%s/%s", dir->path, name);
    fd = op_keep_fd(op, fd);
    if (fd < 0)
        return fd;
    volume_place(out, dir->key, fd, path);
    return 0;
}

int volume_parent(struct op *op, const struct place *dir, struct place *out) {
    char *path = op_alloc(op, strlen(dir->path) + 1);
    if (!path)
        return -ENOMEM;
    strcpy(path, dir->path);
    *strrchr(path, '/') = '\0';
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, op->fs->vos->mounts[dir->key].dir_fd, *path ? path + 1 : ".", &how, sizeof(how));
    if (fd < 0)
        return -errno;
    fd = op_keep_fd(op, fd);
    if (fd < 0)
        return fd;
    volume_place(out, dir->key, fd, path);
    return 0;
}

int volume_stat(struct op *op, struct place *place, struct vos_stat *out) {
    bool dir = S_ISDIR(place->mode);
    int error = stat_host_at(place->fd, dir ? "" : place->name, dir ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW, out);
    if (error < 0)
        return error;
    out->st_dev = FS_DEV_VOLUME + place->key;
    if (out->st_uid == FS_OVERFLOW_ID)
        out->st_uid = 0;
    if (out->st_gid == FS_OVERFLOW_ID)
        out->st_gid = 0;
    return 0;
}

int volume_list(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    int error = op_as_caller(op);
    if (error < 0)
        return error;
    cleanup_close int listing = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        error = -errno;
    op_as_root(op);
    cleanup_dir DIR *stream = listing < 0 ? NULL : fdopendir(listing);
    if (!stream)
        return error < 0 ? error : -errno;
    listing = -1;
    for (;;) {
        errno = 0;
        struct dirent *found = readdir(stream);
        if (!found)
            return -errno;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        error = emit(context, found->d_name, found->d_ino, found->d_type);
        if (error < 0)
            return error;
    }
}

int volume_path(struct op *op, const struct place *place, char *out) {
    int length = snprintf(out, VOS_PATH_MAX, "%s%s", op->fs->vos->mounts[place->key].path, place->path);
    return length >= (int)VOS_PATH_MAX ? -ENAMETOOLONG : length;
}
