/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path resolution, as path_resolution(7) says: component by component through the layers and mount points, as far as this
 * node may answer; from there the op goes on where the directory is.
 */
#include "vos/fs/fs.h"

#include <stdio.h>
#include <string.h>

void place_tree_dir(struct place *out, struct tree_dir *dir) {
    out->layer = LAYER_TREE;
    out->where = dir->upper ? WHERE_UPPER : WHERE_IMAGE;
    out->mode = S_IFDIR;
    out->dir = dir;
    out->have_stat = false;
    out->fd = -1;
    out->path = NULL;
    out->name[0] = '\0';
}

void place_root(struct fs *fs, struct place *out) { place_tree_dir(out, fs->root); }

bool place_is_dir(const struct place *place) { return S_ISDIR(place->mode); }

/* ---- mount points ---- */

bool walk_mount_at(struct fs *fs, const struct tree_dir *dir, const char *name, struct place *out) {
    out->fd = -1;
    out->path = NULL;
    out->have_stat = false;
    out->mode = S_IFDIR;
    out->key = out->arg = 0;
    out->name[0] = '\0';
    if (dir == fs->root) {
        out->layer = strcmp(name, "proc") == 0  ? LAYER_PROC
                     : strcmp(name, "dev") == 0 ? LAYER_DEV
                     : strcmp(name, ".dvs") == 0 ? LAYER_TOOLS
                                                 : LAYER_TREE;
        if (out->layer != LAYER_TREE)
            return true;
    }
    if (!fs->vos->mount_count)
        return false;
    char path[VOS_PATH_MAX + FS_NAME_MAX + 2];
    int length = tree_path(dir, path);
    if (length < 0)
        return false;
    snprintf(path + length, sizeof(path) - (size_t)length, "%s%s", length > 1 ? "/" : "", name);
    for (unsigned i = 0; i < fs->vos->mount_count; i++)
        if (strcmp(path, fs->vos->mounts[i].path) == 0) {
            out->layer = LAYER_VOLUME;
            out->key = i;
            return true;
        }
    return false;
}

/* ---- one step ---- */

static bool is_pure(struct op *op, const struct place *place) {
    return place->layer != LAYER_TREE || op->fs->primary || lease_covers(op->fs, place->dir, NULL);
}

/*
 * Look `name` up in `cur`. last: it is the last component: then a tree that this node may not answer for gives
 * FS_FORWARD; an inner component may also be a directory that is only known to be one, by a lease below it.
 */
static int step(struct op *op, struct place *cur, const char *name, bool last, struct place *out) {
    struct fs *fs = op->fs;
    switch (cur->layer) {
    case LAYER_PROC: return proc_lookup(op, cur, name, out);
    case LAYER_DEV: return dev_lookup(op, cur, name, out);
    case LAYER_TOOLS: return tools_lookup(op, cur, name, out);
    case LAYER_SHM: return shm_lookup(op, cur, name, out);
    case LAYER_VOLUME: return volume_lookup(op, cur, name, out);
    default: break;
    }
    if (cur->dir->mounts && walk_mount_at(fs, cur->dir, name, out))
        return 0;
    if (!fs->primary && !lease_covers(fs, cur->dir, name)) {
        if (last || !lease_below(fs, cur->dir, name))
            return FS_FORWARD;
        struct tree_dir *child = tree_add(fs, cur->dir, name);
        if (!child)
            return -ENOMEM;
        place_tree_dir(out, child);
        (void)names_number(fs, cur->dir);
        names_found(fs, cur->dir, name, out);
        return 0;
    }
    out->fd = -1;
    out->path = NULL;
    out->name[0] = '\0';
    if (!op->remote)
        (void)names_number(fs, cur->dir); /* watched before it is looked at */
    int error = union_lookup(op, cur->dir, name, out);
    if (!op->remote && (error == 0 || error == -ENOENT) && !cur->dir->removed && !union_reserved(name))
        names_found(fs, cur->dir, name, error == 0 ? out : NULL);
    return error;
}

/* A volume's root needs its fd, which only its node has. */
static int enter(struct op *op, unsigned index, struct place *place, const char *rest) {
    if (place->layer != LAYER_VOLUME || place->fd >= 0 || !S_ISDIR(place->mode))
        return 0;
    const struct vos_mount *mount = &op->fs->vos->mounts[place->key];
    if (mount->node != op->fs->vos->node)
        return walk_forward(op, index, mount->node, mount->path, *rest ? rest : ".");
    return volume_root(op, index, place);
}

static int search_check(struct op *op, const struct place *dir) {
    if (dir->layer != LAYER_TREE || op->creds->uid == 0 || (!op->fs->primary && !is_pure(op, dir)))
        return 0;
    return creds_check(op->creds, dir->dir->mode | S_IFDIR, dir->dir->uid, dir->dir->gid, X_OK);
}

/* Follow a canonical path of directories, without checks of rights. */
static int resolve_canonical(struct op *op, unsigned index, const char *path, struct place *out) {
    char copy[VOS_PATH_MAX], *rest = copy, *name;
    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return -ENAMETOOLONG;
    place_root(op->fs, out);
    while ((name = strsep(&rest, "/"))) {
        struct place next = {.fd = -1};
        if (!*name)
            continue;
        if (strlen(name) > FS_NAME_MAX)
            return -ENAMETOOLONG;
        if (out->layer == LAYER_TREE && !op->fs->primary && !(out->dir->mounts && walk_mount_at(op->fs, out->dir, name, &next)) &&
            !lease_covers(op->fs, out->dir, name)) {
            struct tree_dir *child = tree_add(op->fs, out->dir, name);
            if (!child)
                return -ENOMEM;
            place_tree_dir(out, child);
            continue;
        }
        int error = step(op, out, name, false, &next);
        if (error == 0 && !S_ISDIR(next.mode))
            error = -ENOTDIR;
        if (error == 0)
            error = enter(op, index, &next, rest ? rest : "");
        if (error < 0)
            return error;
        *out = next;
    }
    return 0;
}

static int parent_of(struct op *op, unsigned index, const struct place *place, struct place *out) {
    switch (place->layer) {
    case LAYER_PROC: proc_parent(place, out); break;
    case LAYER_DEV: dev_parent(place, out); break;
    case LAYER_SHM: dev_root(out); break;
    case LAYER_TOOLS: tools_parent(place, out); break;
    case LAYER_VOLUME:
        if (*place->path)
            return volume_parent(op, place, out);
        char path[VOS_PATH_MAX];
        snprintf(path, sizeof(path), "%s", op->fs->vos->mounts[place->key].path);
        *strrchr(path, '/') = '\0';
        return resolve_canonical(op, index, path, out);
    default:
        if (place->dir->removed)
            return -ENOENT;
        place_tree_dir(out, place->dir->parent ? place->dir->parent : place->dir);
        return 0;
    }
    if (out->layer == LAYER_TREE)
        place_root(op->fs, out); /* the layers above are mounted in the root */
    return 0;
}

/* ---- the walk ---- */

int walk_forward(struct op *op, unsigned index, uint32_t node, const char *base, const char *rest) {
    size_t size = strlen(base) + 1, rest_size = strlen(rest) + 1;
    char *copy = op_alloc(op, size);
    if (!copy)
        return -ENOMEM;
    if (rest_size > VOS_PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(copy, base, size);
    memmove(op->path[index], rest, rest_size);
    if (op->start[index].object)
        object_drop(op->fs, op->start[index].object);
    op->start[index] = (struct start){.kind = START_PATH, .path = copy};
    op->target = node;
    op->forward_index = index;
    return FS_FORWARD;
}

int walk_canonical(struct op *op, const char *path, struct place *out) { return resolve_canonical(op, 0, path, out); }

/* The tree at `dir` is the primary's to look up. */
static int forward_from(struct op *op, unsigned index, const struct place *dir, const char *rest) {
    char base[VOS_PATH_MAX];
    int length = place_path(op, dir, base);
    if (length < 0)
        return length;
    return walk_forward(op, index, op->fs->vos->primary, base, *rest ? rest : ".");
}

static int walk_start(struct op *op, unsigned index, unsigned flags, struct place *cur) {
    struct start *start = &op->start[index];
    const char *path = op->path[index];
    if (*path == '/' && start->kind != START_PATH) {
        place_root(op->fs, cur);
        return 0;
    }
    switch (start->kind) {
    case START_ROOT: place_root(op->fs, cur); return 0;
    case START_PATH: return resolve_canonical(op, index, start->path, cur);
    default: break;
    }
    struct object *object = start->object;
    if (object->node != op->fs->vos->node) {
        if (object->dead)
            return -EIO;
        if (object->path)
            return resolve_canonical(op, index, object->path, cur);
        start->remote_object = object->id;
        op->target = object->node;
        return FS_FORWARD;
    }
    if (object->kind != FS_KIND_DIR && object->kind != FS_KIND_PATH)
        return *path ? -ENOTDIR : -EBADF;
    *cur = object->place;
    if (!S_ISDIR(cur->mode) && *path)
        return -ENOTDIR;
    /* What it is may have moved to the other layer since it was opened; and what is to be changed is the primary's. */
    if (!S_ISDIR(cur->mode) && cur->layer == LAYER_TREE && !op->fs->primary &&
        !(op->read_only && lease_covers(op->fs, cur->dir, object->place.name))) {
        struct place dir;
        place_tree_dir(&dir, object->place.dir);
        return forward_from(op, index, &dir, object->place.name);
    }
    if (!S_ISDIR(cur->mode) && cur->layer == LAYER_TREE)
        return union_lookup(op, object->place.dir, object->place.name, cur);
    return 0;
}

static int follow_link(struct op *op, struct place *cur, struct place *found, char **rest) {
    char target[VOS_PATH_MAX];
    if (++op->links > FS_MAX_LINKS)
        return -ELOOP;
    int length = place_readlink(op, found, target, sizeof(target) - 1);
    if (length < 0)
        return length;
    if (length == 0)
        return -ENOENT;
    target[length] = '\0';
    size_t rest_length = strlen(*rest);
    if ((size_t)length + 1 + rest_length + 1 > sizeof(op->rest))
        return -ENAMETOOLONG;
    memmove(op->rest + length, *rest, rest_length + 1);
    memcpy(op->rest, target, (size_t)length);
    *rest = op->rest;
    if (target[0] == '/')
        place_root(op->fs, cur);
    return 0;
}

/* Not covered by a lease, or to be changed: the primary's. */
static bool goes_on(struct op *op, const struct place *dir) {
    return !op->fs->primary && dir->layer == LAYER_TREE && !(op->read_only && is_pure(op, dir));
}

static int end_of_walk(struct op *op, unsigned index, struct walk *out, struct place *cur, const char *name, bool slash) {
    struct place *dir = out->last == LAST_NAME ? &out->parent : cur;
    /* A name that is read was looked up under a lease, or the walk had ended there. */
    if (out->last == LAST_NAME ? op->read_only || op->fs->primary || dir->layer != LAYER_TREE : !goes_on(op, dir))
        return 0;
    /* A descriptor's own object, that is no directory: walk_start has seen to it. */
    if (!S_ISDIR(dir->mode))
        return 0;
    char rest[FS_NAME_MAX + 2];
    snprintf(rest, sizeof(rest), "%s%s", out->last == LAST_NAME ? name : out->last == LAST_ROOT ? "/" : ".", slash ? "/" : "");
    return forward_from(op, index, dir, rest);
}

static int walk_path(struct op *op, unsigned index, unsigned flags, struct walk *out) {
    struct place cur;
    char *rest = op->rest;
    if (!op->path[index][0] && !(flags & WALK_EMPTY))
        return -ENOENT;
    int error = walk_start(op, index, flags, &cur);
    if (error < 0)
        return error;
    strcpy(rest, op->path[index]);
    out->last = LAST_ROOT;
    out->slash = false;
    out->name[0] = '\0';
    if (!*rest) {
        out->last = LAST_DOT;
        out->found = cur;
        return end_of_walk(op, index, out, &cur, "", false);
    }
    for (;;) {
        rest += strspn(rest, "/");
        if (!*rest)
            break;
        size_t length = strcspn(rest, "/");
        if (!S_ISDIR(cur.mode))
            return -ENOTDIR;
        error = search_check(op, &cur);
        if (error < 0)
            return error;
        if (length > FS_NAME_MAX) /* whether the caller may search what is not ours, the primary knows */
            return is_pure(op, &cur) ? -ENAMETOOLONG : forward_from(op, index, &cur, rest);
        memcpy(out->name, rest, length);
        out->name[length] = '\0';
        char *whole = rest;
        rest += length;
        size_t slashes = strspn(rest, "/");
        bool last = !rest[slashes];
        out->slash = slashes > 0;
        if (strcmp(out->name, ".") == 0) {
            out->last = LAST_DOT;
            continue;
        }
        if (strcmp(out->name, "..") == 0) {
            struct place up = {.fd = -1};
            /* May the caller search it at all? The primary knows; all may where there is a lease below. */
            if (!op->fs->primary && !is_pure(op, &cur) && !cur.dir->leases && cur.dir != op->fs->root)
                return forward_from(op, index, &cur, whole);
            error = parent_of(op, index, &cur, &up);
            if (error < 0)
                return error;
            out->last = LAST_DOTDOT;
            if (last && goes_on(op, &up))
                return forward_from(op, index, &cur, whole);
            cur = up;
            continue;
        }
        if (last && out->slash && (flags & WALK_CREATE) && is_pure(op, &cur))
            return -EISDIR;
        struct place next;
        next.fd = -1;
        out->last = LAST_NAME;
        error = step(op, &cur, out->name, last, &next);
        if (error == FS_FORWARD && (cur.layer == LAYER_TREE || cur.layer == LAYER_SHM))
            return forward_from(op, index, &cur, whole);
        if (error == FS_ELSEWHERE) {
            char base[VOS_PATH_MAX];
            error = place_path(op, &cur, base);
            return error < 0 ? error : walk_forward(op, index, op->proc_node, base, whole);
        }
        if (error == -ENOENT && last && (flags & WALK_PARENT)) {
            out->parent = cur;
            out->found.mode = 0;
            out->found.layer = cur.layer;
            return end_of_walk(op, index, out, &cur, out->name, out->slash);
        }
        /* What is to be made or removed there is a mount point: no need to go in. */
        if (error == 0 && !(last && flags & WALK_PARENT))
            error = enter(op, index, &next, rest + slashes);
        if (error < 0)
            return error;
        if (S_ISLNK(next.mode) && (!last || (flags & WALK_FOLLOW) || (out->slash && !(flags & WALK_PARENT)))) {
            error = follow_link(op, &cur, &next, &rest);
            if (error < 0)
                return error;
            out->last = LAST_ROOT;
            continue;
        }
        if (last) {
            if (out->slash && !S_ISDIR(next.mode) && !(flags & WALK_PARENT))
                return -ENOTDIR;
            out->parent = cur;
            out->found = next;
            return end_of_walk(op, index, out, &cur, out->name, out->slash);
        }
        cur = next;
    }
    if (!S_ISDIR(cur.mode))
        return -ENOTDIR;
    out->found = cur;
    return end_of_walk(op, index, out, &cur, "", false);
}

int walk(struct op *op, unsigned index, unsigned flags, struct walk *out) {
    int error = walk_path(op, index, flags, out);
    if (!op->remote || !op->read_only || op->no_lease || !op->lease_count)
        return error;
    /* The asking node can answer that itself once it has the leases. */
    bool image = error == 0 && out->found.layer == LAYER_TREE && (!out->found.mode || out->found.where == WHERE_IMAGE);
    if ((image || error == -ENOENT || error == -ENOTDIR) && lease_offer(op))
        return FS_LOCALLY;
    return error;
}

/*
 * The op goes to the node of one path, and from there perhaps to that of the other, which may find that it leads back (by a
 * link, or below a mount point). If it has gone there and back they are of two nodes.
 */
int walk_both(struct op *op, unsigned flags0, struct walk *out0, unsigned flags1, struct walk *out1) {
    struct walk *out[2] = {out0, out1};
    unsigned flags[2] = {flags0, flags1}, first = op->focus & 1, second = !first;
    int error = walk(op, first, flags[first], out[first]);
    if (error != 0)
        return error;
    error = walk(op, second, flags[second], out[second]);
    if (error != FS_FORWARD)
        return error;
    if (op->target == op->fs->vos->node)
        return error;
    if (++op->swaps > 2)
        return -EXDEV;
    op->focus = second;
    return error;
}

/* ---- what can be asked of a place ---- */

int place_path(struct op *op, const struct place *place, char *out) {
    int length;
    switch (place->layer) {
    case LAYER_PROC: return proc_path(place, out);
    case LAYER_DEV: return dev_path(place, out);
    case LAYER_SHM: return snprintf(out, VOS_PATH_MAX, "/dev/shm%s%s", place->key ? "/" : "", place->name);
    case LAYER_TOOLS: return tools_path(place, out);
    case LAYER_VOLUME: length = volume_path(op, place, out); break;
    default: length = tree_path(place->dir, out); break;
    }
    if (length < 0 || S_ISDIR(place->mode))
        return length;
    int added = snprintf(out + length, VOS_PATH_MAX - (size_t)length, "%s%s", length > 1 ? "/" : "", place->name);
    return length + added >= (int)VOS_PATH_MAX ? -ENAMETOOLONG : length + added;
}

int place_stat(struct op *op, struct place *place, struct vos_stat *out) {
    struct fs *fs = op->fs;
    switch (place->layer) {
    case LAYER_PROC: return proc_stat(op, place, out);
    case LAYER_DEV: return dev_stat(op, place, out);
    case LAYER_SHM: return shm_stat(op, place, out);
    case LAYER_TOOLS: return tools_stat(op, place, out);
    case LAYER_VOLUME: return volume_stat(op, place, out);
    default: break;
    }
    if (place->have_stat) {
        *out = place->stat;
        return 0;
    }
    bool dir = S_ISDIR(place->mode);
    int fd, error;
    /* A directory may have been copied up since the place was found. */
    if (dir ? place->dir->upper : place->where == WHERE_UPPER) {
        fd = tree_upper_fd(fs, place->dir);
        error = fd < 0 ? fd : stat_host_at(fd, dir ? "" : place->name, dir ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW, out);
        if (error < 0)
            return error;
        stat_upper(fs, out);
        if (dir && place->dir->image == IMAGE_PRESENT) {
            out->st_ino = place->dir->image_ino;
            out->st_nlink = 1; /* cannot be told without listing both layers */
        }
        return 0;
    }
    fd = tree_attr_fd(fs, place->dir);
    error = fd < 0 ? fd : stat_host_at(fd, dir ? "" : place->name, dir ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW, out);
    if (error == 0)
        stat_image(out);
    if (error == 0 && dir && !op->remote)
        names_attributes(fs, place->dir, out);
    return error;
}

/* The host, to whom we may be a stranger, must let us read what is in the image. */
static int image_readable(struct op *op, struct place *place, uint32_t mode) {
    if ((mode & 0444) == 0444)
        return 0;
    int fd = tree_image_fd(op->fs, place->dir);
    if (fd < 0)
        return fd;
    return faccessat(fd, S_ISDIR(place->mode) ? "." : place->name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int place_check(struct op *op, struct place *place, int want) {
    struct vos_stat st;
    if (place->layer == LAYER_VOLUME) {
        const struct vos_mount *mount = &op->fs->vos->mounts[place->key];
        if ((want & W_OK) && mount->read_only && (S_ISDIR(place->mode) || S_ISREG(place->mode)))
            return -EROFS;
        int error = op_as_caller(op);
        if (error == 0 && !S_ISLNK(place->mode) &&
            faccessat(place->fd, S_ISDIR(place->mode) ? "." : place->name, want, AT_EACCESS) < 0)
            error = -errno;
        op_as_root(op);
        return error;
    }
    int error = place_stat(op, place, &st);
    if (error != 0)
        return error;
    if ((want & W_OK) && (place->layer == LAYER_TOOLS || (place->layer == LAYER_PROC && S_ISDIR(place->mode))))
        return place->layer == LAYER_TOOLS ? -EROFS : -EACCES;
    error = creds_check(op->creds, st.st_mode, st.st_uid, st.st_gid, want);
    if (error == 0 && place->layer == LAYER_TREE && place->where == WHERE_IMAGE && (want & (R_OK | W_OK)) &&
        (S_ISREG(place->mode) || (S_ISDIR(place->mode) && (want & R_OK))))
        error = image_readable(op, place, st.st_mode);
    return error;
}

int place_readlink(struct op *op, struct place *place, char *out, size_t cap) {
    int fd;
    switch (place->layer) {
    case LAYER_PROC: return proc_readlink(op, place, out, cap);
    case LAYER_DEV: return dev_readlink(op, place, out, cap);
    case LAYER_SHM:
    case LAYER_TOOLS: return -EINVAL;
    case LAYER_VOLUME: fd = place->fd; break;
    default:
        fd = place->where == WHERE_UPPER ? tree_upper_fd(op->fs, place->dir) : tree_image_fd(op->fs, place->dir);
        break;
    }
    if (fd < 0)
        return fd;
    ssize_t length = readlinkat(fd, place->name, out, cap);
    return length < 0 ? -errno : (int)length;
}

int place_host(struct op *op, struct place *place, bool change, bool no_data, struct host_at *out) {
    int error = 0;
    out->name = S_ISDIR(place->mode) ? "." : place->name;
    if (place->layer == LAYER_VOLUME) {
        if (change && op->fs->vos->mounts[place->key].read_only)
            return -EROFS;
        out->dir_fd = place->fd;
        return 0;
    }
    if (place->layer == LAYER_DEV)
        return -EPERM;
    if (place->layer != LAYER_TREE)
        return place->layer == LAYER_PROC ? -EPERM : -EROFS;
    if (change)
        error = union_copy_up(op, place, no_data);
    if (error != 0)
        return error;
    out->dir_fd = S_ISDIR(place->mode) ? (place->dir->upper ? tree_upper_fd(op->fs, place->dir) : tree_image_fd(op->fs, place->dir))
                  : place->where == WHERE_UPPER ? tree_upper_fd(op->fs, place->dir)
                                                : tree_image_fd(op->fs, place->dir);
    return out->dir_fd < 0 ? out->dir_fd : 0;
}

int place_copy(struct fs *fs, struct place *to, const struct place *from) {
    *to = *from;
    if (from->layer == LAYER_TREE) {
        tree_hold(to->dir);
        return 0;
    }
    if (from->layer != LAYER_VOLUME)
        return 0;
    to->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
    to->path = strdup(from->path);
    if (to->fd >= 0 && to->path)
        return 0;
    int error = to->fd < 0 ? -errno : -ENOMEM;
    place_free(fs, to);
    return error;
}

void place_free(struct fs *fs, struct place *place) {
    if (place->layer == LAYER_TREE && place->dir)
        tree_drop(fs, place->dir);
    if (place->layer == LAYER_VOLUME) {
        if (place->fd >= 0)
            close(place->fd);
        free(place->path);
    }
    place->dir = NULL;
    place->fd = -1;
    place->path = NULL;
}
