/* SPDX-License-Identifier: Apache-2.0 */
/* FS_MKDIR, FS_UNLINK, FS_RENAME, FS_LINK, FS_SYMLINK, FS_MKNOD: changes of directories. */
#include "vos/fs/fs.h"

#include <stdio.h>
#include <string.h>

static int layer_writable(const struct place *dir) {
    if (dir->layer == LAYER_TREE || dir->layer == LAYER_VOLUME)
        return 0; /* shm: only regular files, see open.c */
    return dir->layer == LAYER_TOOLS ? -EROFS : -EPERM;
}

/* All checks for a new name, and its host address. 0, or what ends the handler. */
static int create_prepare(struct op *op, struct walk *found, struct host_at *at) {
    if (found->last != LAST_NAME || found->found.mode)
        return -EEXIST;
    if (union_reserved(found->name))
        return -EINVAL;
    int error = layer_writable(&found->parent);
    if (error == 0)
        error = place_check(op, &found->parent, W_OK | X_OK);
    if (error == 0)
        error = place_host(op, &found->parent, true, false, at);
    if (error == 0 && found->parent.layer == LAYER_TREE)
        error = union_prepare(op, found->parent.dir, found->name);
    if (error == 0)
        error = op_as_caller(op);
    at->name = found->name;
    return error;
}

static int create_done(struct op *op, struct walk *found, int result, uint32_t type) {
    int error = result < 0 ? -errno : 0;
    op_as_root(op);
    if (error == 0 && found->parent.layer == LAYER_TREE)
        union_created(op, found->parent.dir, found->name, type);
    return error;
}

int do_mkdir(struct op *op) {
    struct walk found;
    struct host_at at;
    int error = walk(op, 0, WALK_PARENT, &found);
    if (error == 0)
        error = create_prepare(op, &found, &at);
    if (error != 0)
        return error;
    return create_done(op, &found, mkdirat(at.dir_fd, at.name, (mode_t)op->words[1] & 01777), S_IFDIR);
}

int do_symlink(struct op *op) {
    struct walk found;
    struct host_at at;
    const char *target = op->path[1];
    if (!*target)
        return -ENOENT;
    int error = walk(op, 0, WALK_PARENT, &found);
    if (error == 0 && found.slash && !found.found.mode)
        return -ENOENT;
    if (error == 0)
        error = create_prepare(op, &found, &at);
    if (error != 0)
        return error;
    return create_done(op, &found, symlinkat(target, at.dir_fd, at.name), S_IFLNK);
}

int do_mknod(struct op *op) {
    struct walk found;
    struct host_at at;
    mode_t mode = (mode_t)op->words[1], type = mode & S_IFMT ? mode & S_IFMT : S_IFREG;
    if (type == S_IFCHR || type == S_IFBLK || type == S_IFDIR)
        return -EPERM;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
        return -EINVAL;
    int error = walk(op, 0, WALK_PARENT, &found);
    if (error == 0 && found.slash && !found.found.mode)
        return -ENOENT;
    if (error == 0)
        error = create_prepare(op, &found, &at);
    if (error != 0)
        return error;
    return create_done(op, &found, mknodat(at.dir_fd, at.name, type | (mode & 07777), 0), type);
}

/* May the caller take this name out of its directory? (Sticky directories: path_resolution(7), unlink(2).) */
static int remove_check(struct op *op, struct walk *found) {
    int error = layer_writable(&found->parent);
    if (error == 0)
        error = place_check(op, &found->parent, W_OK | X_OK);
    if (error < 0 || op->creds->uid == 0)
        return error;
    struct vos_stat dir, object;
    error = place_stat(op, &found->parent, &dir);
    if (error < 0 || !(dir.st_mode & S_ISVTX))
        return error;
    error = place_stat(op, &found->found, &object);
    return error < 0 ? error : op->creds->uid == object.st_uid || op->creds->uid == dir.st_uid ? 0 : -EPERM;
}

static bool is_mount(const struct walk *found) {
    return found->found.mode && (found->found.layer != found->parent.layer ||
                                 (found->found.layer == LAYER_VOLUME && found->found.key != found->parent.key));
}

static int volume_unlink(struct op *op, struct walk *found, int flags) {
    struct host_at at;
    int error = place_host(op, &found->parent, true, false, &at);
    if (error == 0)
        error = op_as_caller(op);
    if (error < 0)
        return error;
    if (unlinkat(at.dir_fd, found->name, flags) < 0)
        error = -errno;
    op_as_root(op);
    return error;
}

static int remove_dir(struct op *op, struct walk *found) {
    struct tree_dir *parent = found->parent.dir, *dir = found->found.dir;
    int empty = union_is_empty(op, dir);
    if (empty <= 0)
        return empty < 0 ? empty : -ENOTEMPTY;
    int error = union_copy_up_dir(op, parent);
    if (error == 0)
        error = union_prepare(op, parent, found->name);
    if (error == 0)
        error = lease_revoke_below(op, dir);
    if (error == 0)
        error = union_whiteout(op, parent, found->name);
    int fd = error == 0 ? tree_upper_fd(op->fs, parent) : -1;
    if (error != 0 || fd < 0)
        return error != 0 ? error : fd;
    if (dir->upper)
        error = union_discard_dir(op->fs, fd, found->name);
    if (error < 0)
        return error;
    tree_forget(op->fs, dir);
    union_removed(op, parent, found->name);
    return 0;
}

static int remove_file(struct op *op, struct walk *found) {
    struct tree_dir *parent = found->parent.dir;
    int error = union_copy_up_dir(op, parent);
    if (error == 0)
        error = union_prepare(op, parent, found->name);
    /* The marker first: until the upper file goes, it still shows. */
    if (error == 0)
        error = union_whiteout(op, parent, found->name);
    if (error != 0 || found->found.where != WHERE_UPPER)
        return error;
    int fd = tree_upper_fd(op->fs, parent);
    if (fd < 0)
        return fd;
    error = op_as_caller(op);
    if (error < 0)
        return error;
    if (unlinkat(fd, found->name, 0) < 0)
        error = -errno;
    op_as_root(op);
    if (error == 0)
        union_removed(op, parent, found->name);
    return error;
}

int do_unlink(struct op *op) {
    struct walk found;
    bool dir = op->words[1] & AT_REMOVEDIR;
    if (op->words[1] & ~(uint64_t)AT_REMOVEDIR)
        return -EINVAL;
    int error = walk(op, 0, WALK_PARENT, &found);
    if (error < 0)
        return error;
    if (found.last != LAST_NAME) {
        if (!dir)
            return -EISDIR;
        return found.last == LAST_DOT ? -EINVAL : found.last == LAST_DOTDOT ? -ENOTEMPTY : -EBUSY;
    }
    if (!found.found.mode)
        return -ENOENT;
    if (!dir && found.slash)
        return S_ISDIR(found.found.mode) ? -EISDIR : -ENOTDIR;
    error = found.parent.layer == LAYER_SHM ? 0 : remove_check(op, &found);
    if (error < 0)
        return error;
    if (dir != (bool)S_ISDIR(found.found.mode))
        return dir ? -ENOTDIR : -EISDIR;
    if (is_mount(&found))
        return -EBUSY;
    if (found.parent.layer == LAYER_SHM)
        return shm_remove(op, found.name);
    if (found.parent.layer == LAYER_VOLUME)
        return volume_unlink(op, &found, dir ? AT_REMOVEDIR : 0);
    return dir ? remove_dir(op, &found) : remove_file(op, &found);
}

/* What sysctl fs.protected_hardlinks (proc(5)), which distributions set, asks of the owner of a new link. */
static int link_check(struct op *op, struct place *old) {
    struct vos_stat st;
    int error = op->creds->uid ? place_stat(op, old, &st) : 0;
    if (error < 0 || op->creds->uid == 0 || st.st_uid == op->creds->uid)
        return error;
    bool plain = S_ISREG(st.st_mode) && !(st.st_mode & S_ISUID) && (st.st_mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP);
    return plain && place_check(op, old, R_OK | W_OK) == 0 ? 0 : -EPERM;
}

int do_link(struct op *op) {
    struct walk old, new;
    struct host_at at, from;
    if (op->words[2] & ~(uint64_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    int error = walk_both(op, op->words[2] & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0, &old, WALK_PARENT, &new);
    if (error != 0)
        return error;
    if (new.found.mode || new.last != LAST_NAME)
        return -EEXIST;
    if (new.slash)
        return -ENOENT;
    if (old.found.layer != new.parent.layer || (old.found.layer == LAYER_VOLUME && old.found.key != new.parent.key))
        return -EXDEV;
    if (old.found.layer == LAYER_SHM)
        return S_ISDIR(old.found.mode) ? -EPERM : shm_add_name(op, old.name, new.name);
    /* All that can wait comes before the first change. */
    error = layer_writable(&new.parent);
    if (error == 0)
        error = link_check(op, &old.found);
    if (error == 0)
        error = place_check(op, &new.parent, W_OK | X_OK);
    if (error == 0 && S_ISDIR(old.found.mode))
        error = -EPERM;
    if (error == 0)
        error = place_host(op, &old.found, true, false, &from);
    if (error == 0)
        error = create_prepare(op, &new, &at);
    if (error != 0)
        return error;
    return create_done(op, &new, linkat(from.dir_fd, from.name, at.dir_fd, at.name, 0), old.found.mode);
}
