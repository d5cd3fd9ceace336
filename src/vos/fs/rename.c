/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FS_RENAME: rename(2), renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE.
 * Directories that show something of the image are not renamed: EXDEV, and mv(1) copies them.
 */
#include "vos/fs/fs.h"

#include <stdio.h>
#include <string.h>

static bool same_layer(const struct place *a, const struct place *b) {
    return a->layer == b->layer && (a->layer != LAYER_VOLUME || a->key == b->key);
}

static int sticky_check(struct op *op, struct place *dir, struct place *object) {
    struct vos_stat d, o;
    int error = place_check(op, dir, W_OK | X_OK);
    if (error < 0 || op->creds->uid == 0 || !object->mode)
        return error;
    error = place_stat(op, dir, &d);
    if (error < 0 || !(d.st_mode & S_ISVTX))
        return error;
    error = place_stat(op, object, &o);
    return error < 0 ? error : op->creds->uid == o.st_uid || op->creds->uid == d.st_uid ? 0 : -EPERM;
}

static int check_names(struct op *op, struct walk *old, struct walk *new, unsigned flags) {
    if (old->last != LAST_NAME)
        return -EBUSY;
    if (new->last != LAST_NAME)
        return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    if (!old->found.mode)
        return -ENOENT;
    if (union_reserved(new->name))
        return -EINVAL;
    if (!same_layer(&old->parent, &new->parent))
        return -EXDEV;
    if (old->parent.layer != LAYER_TREE && old->parent.layer != LAYER_VOLUME && old->parent.layer != LAYER_SHM)
        return old->parent.layer == LAYER_TOOLS ? -EROFS : -EPERM;
    if (!same_layer(&old->found, &old->parent) || (new->found.mode && !same_layer(&new->found, &new->parent)))
        return -EBUSY;
    if (new->found.mode && flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (!new->found.mode && flags & RENAME_EXCHANGE)
        return -ENOENT;
    if (!S_ISDIR(old->found.mode) && (old->slash || (new->slash && !(flags & RENAME_EXCHANGE))))
        return -ENOTDIR;
    if (flags & RENAME_EXCHANGE && !S_ISDIR(new->found.mode) && new->slash)
        return -ENOTDIR;
    return 0;
}

static int check_tree(struct op *op, struct walk *old, struct walk *new, bool exchange) {
    bool old_dir = S_ISDIR(old->found.mode), new_dir = S_ISDIR(new->found.mode);
    struct tree_dir *from = old->parent.dir, *to = new->parent.dir;
    if (old_dir && tree_is_below(to, old->found.dir))
        return -EINVAL;
    if (new_dir && tree_is_below(from, new->found.dir))
        return exchange ? -EINVAL : -ENOTEMPTY;
    int error = sticky_check(op, &old->parent, &old->found);
    if (error == 0)
        error = sticky_check(op, &new->parent, &new->found);
    if (error < 0)
        return error;
    if (!exchange && new->found.mode && old_dir != new_dir)
        return old_dir ? -ENOTDIR : -EISDIR;
    if (old_dir && from != to) /* its ".." changes */
        error = place_check(op, &old->found, W_OK);
    if (error == 0 && exchange && new_dir && from != to)
        error = place_check(op, &new->found, W_OK);
    if (error < 0)
        return error;
    if (old_dir && old->found.dir->image != IMAGE_ABSENT)
        return -EXDEV;
    if (exchange)
        return new_dir && new->found.dir->image != IMAGE_ABSENT ? -EXDEV : 0;
    if (new_dir) {
        int empty = union_is_empty(op, new->found.dir);
        return empty < 0 ? empty : empty ? 0 : -ENOTEMPTY;
    }
    return 0;
}

static int rename_host(struct op *op, int from, const char *old, int to, const char *new, unsigned flags) {
    int error = op_as_caller(op);
    if (error < 0)
        return error;
    if (renameat2(from, old, to, new, flags) < 0)
        error = -errno;
    op_as_root(op);
    return error;
}

/* Replace an upper directory that is empty but for markers. */
static int replace_dir(struct op *op, int from, const char *old, int to, const char *new) {
    int error = rename_host(op, from, old, to, new, 0);
    if (error != -ENOTEMPTY && error != -EEXIST)
        return error;
    error = rename_host(op, from, old, to, new, RENAME_EXCHANGE);
    return error < 0 ? error : union_discard_dir(op->fs, from, old);
}

static bool same_inode(int a, const char *a_name, int b, const char *b_name) {
    struct stat x, y;
    return fstatat(a, a_name, &x, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(b, b_name, &y, AT_SYMLINK_NOFOLLOW) == 0 &&
           x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static int rename_tree(struct op *op, struct walk *old, struct walk *new, unsigned flags) {
    struct fs *fs = op->fs;
    struct tree_dir *from = old->parent.dir, *to = new->parent.dir;
    struct tree_dir *old_dir = S_ISDIR(old->found.mode) ? old->found.dir : NULL;
    struct tree_dir *new_dir = S_ISDIR(new->found.mode) ? new->found.dir : NULL;
    bool exchange = flags & RENAME_EXCHANGE;
    if (from == to && strcmp(old->name, new->name) == 0)
        return 0;
    int error = check_tree(op, old, new, exchange);
    if (error == 0)
        error = union_copy_up_dir(op, to);
    if (error == 0)
        error = union_prepare(op, to, new->name);
    if (error == 0 && new_dir)
        error = lease_revoke_below(op, new_dir);
    if (error == 0)
        error = union_copy_up(op, &old->found, false);
    if (error == 0 && exchange)
        error = union_copy_up(op, &new->found, false);
    if (error != 0)
        return error;
    int from_fd = tree_upper_fd(fs, from), to_fd = tree_upper_fd(fs, to);
    if (from_fd < 0 || to_fd < 0)
        return from_fd < 0 ? from_fd : to_fd;
    if (!new_dir && new->found.where == WHERE_UPPER && new->found.mode && same_inode(from_fd, old->name, to_fd, new->name))
        return 0; /* two links of one file: rename(2) does nothing */
    if (exchange)
        error = rename_host(op, from_fd, old->name, to_fd, new->name, RENAME_EXCHANGE);
    else {
        /* The marker first: until the rename, the upper name still shows. */
        error = union_whiteout(op, from, old->name);
        if (error == 0 && old_dir && new_dir && new_dir->image == IMAGE_PRESENT)
            error = union_opaque(op, old_dir); /* it must not merge with the image's of its new name */
        if (error == 0)
            error = old_dir && new_dir && new_dir->upper
                        ? replace_dir(op, from_fd, old->name, to_fd, new->name)
                        : rename_host(op, from_fd, old->name, to_fd, new->name, 0);
    }
    if (error < 0)
        return error;
    if (exchange) {
        union_created(op, from, old->name, new->found.mode & S_IFMT);
        if (old_dir)
            tree_move(fs, old_dir, fs->root, ".dvs.tmp"); /* out of the way */
        if (new_dir)
            tree_move(fs, new_dir, from, old->name);
    } else {
        if (new_dir)
            tree_forget(fs, new_dir);
        union_removed(op, from, old->name);
    }
    union_created(op, to, new->name, old->found.mode & S_IFMT);
    if (old_dir)
        tree_move(fs, old_dir, to, new->name);
    return 0;
}

int do_rename(struct op *op) {
    struct walk old, new;
    struct host_at from, to;
    unsigned flags = (unsigned)op->words[2];
    if (op->words[2] & ~(uint64_t)(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    int error = walk_both(op, WALK_PARENT, &old, WALK_PARENT, &new);
    if (error == 0)
        error = check_names(op, &old, &new, flags);
    if (error != 0)
        return error;
    if (old.parent.layer == LAYER_TREE)
        return rename_tree(op, &old, &new, flags);
    if (old.parent.layer == LAYER_SHM)
        return shm_rename(op, old.name, new.name, flags);
    error = place_host(op, &old.parent, true, false, &from);
    if (error == 0)
        error = place_host(op, &new.parent, true, false, &to);
    return error < 0 ? error : rename_host(op, from.dir_fd, old.name, to.dir_fd, new.name, flags);
}
