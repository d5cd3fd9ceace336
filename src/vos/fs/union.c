/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The union of image and upper layer.
 *
 * The upper layer is a host directory that mirrors the tree's paths. In it
 *   .dvs.wh.NAME  an empty file: the image's NAME is hidden. It may stand beside an upper NAME, which then shows alone;
 *   .dvs.opq      in a directory: the image's directory of the same path is hidden altogether;
 *   .dvs.tmp      in the root: work in progress, emptied at start.
 * An upper NAME always wins over the image's; directories of both layers merge unless hidden. Everything is made in .dvs.tmp and
 * renamed into place, and a marker is written before what it hides can show: so a crash leaves no half-made thing.
 * Directories that show something of the image are never renamed (EXDEV): so their paths are the same in both layers for ever.
 */
#include "vos/fs/fs.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define WORK_DIR ".dvs.tmp"
#define OPAQUE_NAME ".dvs.opq"
#define WHITEOUT_PREFIX ".dvs.wh."

bool union_reserved(const char *name) { return strncmp(name, ".dvs.", 5) == 0; }

static int whiteout_name(const char *name, char out[FS_NAME_MAX + 1]) {
    int length = snprintf(out, FS_NAME_MAX + 1, WHITEOUT_PREFIX "%s", name);
    return length > FS_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* ---- lookup ---- */

static int image_stat(struct fs *fs, struct tree_dir *dir, const char *name, struct vos_stat *st) {
    if (!dir->searchable)
        return -EACCES;
    int fd = tree_attr_fd(fs, dir);
    if (fd < 0)
        return fd;
    int error = stat_host_at(fd, name, AT_SYMLINK_NOFOLLOW, st);
    if (error == 0)
        stat_image(st);
    return error;
}

/* Fill in the image part of a directory. */
static void set_image(struct fs *fs, struct tree_dir *dir, const struct vos_stat *st) {
    dir->image = IMAGE_PRESENT;
    dir->image_ino = st->st_ino;
    dir->image_mode = st->st_mode;
    dir->image_uid = st->st_uid;
    dir->image_gid = st->st_gid;
    if (!dir->upper) {
        dir->mode = st->st_mode;
        dir->uid = st->st_uid;
        dir->gid = st->st_gid;
    }
    dir->searchable = (st->st_mode & 0111) == 0111;
    if (!dir->searchable) {
        int fd = tree_image_fd(fs, dir);
        dir->searchable = fd >= 0 && faccessat(fd, ".", X_OK, AT_EACCESS) == 0;
    }
}

/* Learn whether a directory known by its path only has an image part. */
static int probe_image(struct fs *fs, struct tree_dir *dir) {
    if (dir->image != IMAGE_UNKNOWN)
        return 0;
    int error = probe_image(fs, dir->parent);
    if (error < 0)
        return error;
    if (dir->parent->image != IMAGE_PRESENT) {
        dir->image = IMAGE_ABSENT;
        return 0;
    }
    struct vos_stat st;
    error = image_stat(fs, dir->parent, dir->name, &st);
    if (error == 0 && S_ISDIR(st.st_mode))
        set_image(fs, dir, &st);
    else if (error == 0 || error == -ENOENT || error == -ENOTDIR)
        dir->image = IMAGE_ABSENT;
    else
        return error;
    return 0;
}

static int upper_child(struct fs *fs, struct tree_dir *dir, struct entry *entry, struct tree_dir **out) {
    struct tree_dir *child = tree_add(fs, dir, entry->name);
    if (!child)
        return -ENOMEM;
    *out = child;
    if (child->upper)
        return 0;
    struct vos_stat st;
    int fd = tree_upper_fd(fs, dir);
    int error = fd < 0 ? fd : stat_host_at(fd, entry->name, AT_SYMLINK_NOFOLLOW, &st);
    if (error < 0)
        return error;
    child->upper = true;
    child->mode = st.st_mode;
    child->uid = st.st_uid;
    child->gid = st.st_gid;
    if (dir->image != IMAGE_PRESENT || entry->whiteout) {
        child->image = IMAGE_ABSENT;
        return 0;
    }
    child->image = IMAGE_UNKNOWN;
    error = probe_image(fs, child);
    if (error == 0 && child->image == IMAGE_PRESENT)
        error = tree_load(fs, child);
    if (error < 0) {
        child->upper = false;
        child->image = IMAGE_UNKNOWN;
        return error;
    }
    if (child->opaque)
        child->image = IMAGE_ABSENT;
    return 0;
}

int union_lookup(struct op *op, struct tree_dir *dir, const char *name, struct place *out) {
    struct fs *fs = op->fs;
    out->layer = LAYER_TREE;
    out->where = WHERE_NONE;
    out->mode = 0;
    out->have_stat = false;
    out->dir = dir;
    if (dir->removed || union_reserved(name))
        return -ENOENT;
    if (dir->upper) {
        int error = tree_load(fs, dir);
        if (error < 0)
            return error;
        struct entry *entry = entry_find(fs, dir, name);
        if (entry && entry->type) {
            out->where = WHERE_UPPER;
            out->mode = entry->type;
            if (S_ISDIR(entry->type))
                return upper_child(fs, dir, entry, &out->dir);
            strcpy(out->name, name);
            return 0;
        }
        if (entry && entry->whiteout)
            return -ENOENT;
    }
    int error = probe_image(fs, dir);
    if (error < 0)
        return error;
    if (dir->image != IMAGE_PRESENT)
        return -ENOENT;
    if (op->remote && dir->upper)
        lease_note(op, dir, name);
    struct tree_dir *child = tree_cached(fs, dir, name);
    if (!child || child->image != IMAGE_PRESENT) {
        error = image_stat(fs, dir, name, &out->stat);
        if (error < 0)
            return error;
        out->where = WHERE_IMAGE;
        out->mode = out->stat.st_mode & S_IFMT;
        if (!S_ISDIR(out->mode)) {
            out->have_stat = true;
            strcpy(out->name, name);
            return 0;
        }
        child = tree_add(fs, dir, name);
        if (!child)
            return -ENOMEM;
        set_image(fs, child, &out->stat);
    }
    out->where = WHERE_IMAGE;
    out->mode = S_IFDIR;
    out->dir = child;
    return 0;
}

int union_image_has(struct op *op, struct tree_dir *dir, const char *name) {
    int error = probe_image(op->fs, dir);
    if (error < 0)
        return error;
    if (dir->image != IMAGE_PRESENT)
        return 0;
    struct entry *entry = entry_find(op->fs, dir, name);
    if (entry && entry->whiteout)
        return 0;
    struct vos_stat st;
    error = image_stat(op->fs, dir, name, &st);
    if (error == -ENOENT)
        return 0;
    return error < 0 ? error : (int)(st.st_mode & S_IFMT);
}

/* ---- changes ---- */

int union_prepare(struct op *op, struct tree_dir *dir, const char *name) {
    if (dir->removed)
        return -ENOENT;
    int error = tree_load(op->fs, dir);
    if (error < 0)
        return error;
    if (entry_find(op->fs, dir, name))
        return 0;
    return lease_revoke(op, dir, name);
}

/* The index could not follow what the host did: read it again when it is next needed. */
static void index_lost(struct fs *fs, struct tree_dir *dir) {
    while (dir->entries)
        entry_free(fs, dir->entries);
    dir->loaded = false;
}

int union_created(struct op *op, struct tree_dir *dir, const char *name, uint32_t type) {
    names_changed(op->fs, dir, name);
    struct entry *entry = entry_add(op->fs, dir, name);
    if (!entry) {
        index_lost(op->fs, dir);
        return 0;
    }
    entry->type = type;
    entry->ino = 0;
    return 0;
}

void union_removed(struct op *op, struct tree_dir *dir, const char *name) {
    names_changed(op->fs, dir, name);
    struct entry *entry = entry_find(op->fs, dir, name);
    if (!entry)
        return;
    entry->type = 0;
    entry->ino = 0;
    if (!entry->whiteout)
        entry_free(op->fs, entry);
}

int union_whiteout(struct op *op, struct tree_dir *dir, const char *name) {
    int has = union_image_has(op, dir, name);
    if (has <= 0)
        return has;
    char marker[FS_NAME_MAX + 1];
    int error = whiteout_name(name, marker);
    int fd = error < 0 ? error : tree_upper_fd(op->fs, dir);
    if (fd >= 0)
        error = creds_apply(NULL);
    if (fd < 0 || error < 0)
        return fd < 0 ? fd : error;
    struct entry *entry = entry_add(op->fs, dir, name);
    if (!entry)
        return -ENOMEM;
    cleanup_close int made = openat(fd, marker, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made < 0) {
        error = -errno;
        if (!entry->type)
            entry_free(op->fs, entry);
        return error;
    }
    entry->whiteout = true;
    names_changed(op->fs, dir, name);
    return 0;
}

int union_opaque(struct op *op, struct tree_dir *dir) {
    int fd = tree_upper_fd(op->fs, dir);
    if (fd < 0)
        return fd;
    cleanup_close int marker = openat(fd, OPAQUE_NAME, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (marker < 0)
        return -errno;
    dir->opaque = true;
    return 0;
}

int union_work_name(struct fs *fs, char *out, size_t cap) {
    return snprintf(out, cap, "%llu", (unsigned long long)++fs->work_count) < (int)cap ? 0 : -ENAMETOOLONG;
}

static void copy_xattrs(int from, int to) {
    char names[4096], value[4096];
    ssize_t length = flistxattr(from, names, sizeof(names));
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
        if (strncmp(names + at, "user.", 5) != 0)
            continue;
        ssize_t size = fgetxattr(from, names + at, value, sizeof(value));
        if (size >= 0 && fsetxattr(to, names + at, value, (size_t)size, 0) < 0 && errno == ENOTSUP)
            return;
    }
}

static int copy_contents(int from, int to, uint64_t size) {
    uint64_t done = 0;
    enum { BY_RANGE, BY_SENDFILE, BY_READ } way = BY_RANGE;
    char buffer[65536];
    while (done < size) {
        size_t want = size - done > (64u << 20) ? 64u << 20 : (size_t)(size - done);
        ssize_t n;
        if (way == BY_RANGE)
            n = copy_file_range(from, NULL, to, NULL, want, 0);
        else if (way == BY_SENDFILE)
            n = sendfile(to, from, NULL, want);
        else {
            n = read(from, buffer, want < sizeof(buffer) ? want : sizeof(buffer));
            for (ssize_t written = 0; written < n;) {
                ssize_t w = write(to, buffer + written, (size_t)(n - written));
                if (w < 0)
                    return -errno;
                written += w;
            }
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && way != BY_READ && errno != ENOSPC && errno != EIO && errno != EDQUOT) {
            way = way == BY_RANGE ? BY_SENDFILE : BY_READ;
            continue;
        }
        if (n < 0)
            return -errno;
        if (n == 0) /* copy_file_range gives 0 on some file systems that do not support it */
            switch (way) {
            case BY_RANGE: way = BY_SENDFILE; continue;
            case BY_SENDFILE: way = BY_READ; continue;
            case BY_READ: return 0; /* the file has become shorter */
            }
        done += (uint64_t)n;
    }
    return 0;
}

/* Give something in the work directory the attributes of the image's. fd: -1 for what cannot be opened. */
static int copy_attributes(int work, const char *name, const struct vos_stat *st) {
    if (fchownat(work, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
        fchownat(work, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISLNK(st->st_mode) && fchmodat(work, name, st->st_mode & 07777, 0) < 0)
        return -errno;
    struct timespec times[2] = {{st->st_atime_s, st->st_atime_ns}, {st->st_mtime_s, st->st_mtime_ns}};
    if (utimensat(work, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

/* Copying something up is no change of the directory that it is in. */
static void restore_times(int dir_fd, const struct vos_stat *before) {
    struct timespec times[2] = {{before->st_atime_s, before->st_atime_ns}, {before->st_mtime_s, before->st_mtime_ns}};
    (void)utimensat(dir_fd, ".", times, 0);
}

static int rename_into_place(struct fs *fs, const char *work_name, int to_fd, const char *name) {
    struct vos_stat before;
    int error = stat_host_at(to_fd, "", AT_EMPTY_PATH, &before);
    if (error == 0 && renameat(fs->work_fd, work_name, to_fd, name) < 0)
        error = -errno;
    if (error == 0)
        restore_times(to_fd, &before);
    return error;
}

int union_copy_up_dir(struct op *op, struct tree_dir *dir) {
    struct fs *fs = op->fs;
    if (dir->upper)
        return tree_load(fs, dir);
    if (!dir->parent || !fs->primary)
        return dir->removed ? -ENOENT : -EROFS;
    int error = union_copy_up_dir(op, dir->parent);
    if (error == 0)
        error = union_prepare(op, dir->parent, dir->name);
    struct vos_stat st;
    if (error == 0)
        error = image_stat(fs, dir->parent, dir->name, &st);
    if (error == 0)
        error = creds_apply(NULL);
    if (error != 0)
        return error;
    int to = tree_upper_fd(fs, dir->parent), from = tree_image_fd(fs, dir);
    if (to < 0 || from < 0)
        return to < 0 ? to : from;
    char work[32];
    error = union_work_name(fs, work, sizeof(work));
    if (error < 0)
        return error;
    if (mkdirat(fs->work_fd, work, 0700) < 0)
        return -errno;
    {
        cleanup_close int source = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_close int target = openat(fs->work_fd, work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (source >= 0 && target >= 0)
            copy_xattrs(source, target);
    }
    error = copy_attributes(fs->work_fd, work, &st);
    if (error == 0)
        error = rename_into_place(fs, work, to, dir->name);
    if (error < 0) {
        unlinkat(fs->work_fd, work, AT_REMOVEDIR);
        return error;
    }
    union_created(op, dir->parent, dir->name, S_IFDIR);
    dir->upper = dir->loaded = true;
    dir->mode = st.st_mode;
    dir->uid = st.st_uid;
    dir->gid = st.st_gid;
    names_dir_changed(fs, dir);
    return 0;
}

static int copy_up_file(struct fs *fs, struct tree_dir *dir, const char *name, const char *work, const struct vos_stat *st,
                        bool no_data) {
    int image = tree_image_fd(fs, dir);
    if (image < 0)
        return image;
    cleanup_close int from = openat(image, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0)
        return -errno;
    cleanup_close int to = openat(fs->work_fd, work, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    copy_xattrs(from, to);
    return no_data ? 0 : copy_contents(from, to, (uint64_t)st->st_size);
}

static int copy_up_link(struct fs *fs, struct tree_dir *dir, const char *name, const char *work) {
    char target[VOS_PATH_MAX];
    int image = tree_image_fd(fs, dir);
    if (image < 0)
        return image;
    ssize_t length = readlinkat(image, name, target, sizeof(target) - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    return symlinkat(target, fs->work_fd, work) < 0 ? -errno : 0;
}

int union_copy_up(struct op *op, struct place *place, bool no_data) {
    struct fs *fs = op->fs;
    if (S_ISDIR(place->mode))
        return union_copy_up_dir(op, place->dir);
    if (place->where == WHERE_UPPER)
        return 0;
    int error = union_copy_up_dir(op, place->dir);
    if (error == 0)
        error = union_prepare(op, place->dir, place->name);
    struct vos_stat st;
    if (error == 0)
        error = image_stat(fs, place->dir, place->name, &st);
    int to = error == 0 ? tree_upper_fd(fs, place->dir) : -1;
    if (error == 0 && to < 0)
        error = to;
    if (error == 0)
        error = creds_apply(NULL);
    char work[32];
    if (error == 0)
        error = union_work_name(fs, work, sizeof(work));
    if (error != 0)
        return error;
    switch (st.st_mode & S_IFMT) {
    case S_IFREG: error = copy_up_file(fs, place->dir, place->name, work, &st, no_data); break;
    case S_IFLNK: error = copy_up_link(fs, place->dir, place->name, work); break;
    case S_IFIFO:
    case S_IFSOCK: error = mknodat(fs->work_fd, work, st.st_mode, 0) < 0 ? -errno : 0; break;
    default: return -EPERM;
    }
    if (error == 0)
        error = copy_attributes(fs->work_fd, work, &st);
    if (error == 0)
        origin_note(fs, work, &st);
    if (error == 0)
        error = rename_into_place(fs, work, to, place->name);
    if (error < 0) {
        unlinkat(fs->work_fd, work, 0);
        return error;
    }
    place->where = WHERE_UPPER;
    place->have_stat = false;
    return union_created(op, place->dir, place->name, st.st_mode & S_IFMT);
}

/* ---- listing ---- */

struct host_dirent {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

static int list_image(struct op *op, struct tree_dir *dir, union_emit *emit, void *context) {
    struct fs *fs = op->fs;
    int fd = tree_image_fd(fs, dir);
    if (fd < 0)
        return fd;
    cleanup_close int listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -errno;
    _Alignas(8) char buffer[32768];
    for (;;) {
        long length = syscall(SYS_getdents64, listing, buffer, sizeof(buffer));
        if (length <= 0)
            return length < 0 ? -errno : 0;
        for (long at = 0; at < length;) {
            const struct host_dirent *found = (const struct host_dirent *)(buffer + at);
            at += found->d_reclen;
            if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0 || union_reserved(found->d_name))
                continue;
            if (dir->upper && entry_find(fs, dir, found->d_name))
                continue; /* shown already, or hidden */
            int error = emit(context, found->d_name, found->d_ino, found->d_type);
            if (error < 0)
                return error;
        }
    }
}

static int entry_ino(struct op *op, struct tree_dir *dir, struct entry *entry, uint64_t *ino) {
    if (!entry->ino) {
        struct vos_stat st;
        int fd = tree_upper_fd(op->fs, dir);
        if (fd < 0)
            return fd;
        int error = stat_host_at(fd, entry->name, AT_SYMLINK_NOFOLLOW, &st);
        if (error < 0)
            return error;
        stat_upper(op->fs, &st);
        entry->ino = st.st_ino;
    }
    *ino = entry->ino;
    if (S_ISDIR(entry->type) && dir->image == IMAGE_PRESENT && !entry->whiteout) {
        struct tree_dir *child;
        int error = upper_child(op->fs, dir, entry, &child);
        if (error < 0)
            return error;
        if (child->image == IMAGE_PRESENT)
            *ino = child->image_ino;
    }
    return 0;
}

int union_list(struct op *op, struct tree_dir *dir, union_emit *emit, void *context) {
    if (dir->removed)
        return 0;
    int error = dir->upper ? tree_load(op->fs, dir) : 0;
    if (error == 0)
        error = probe_image(op->fs, dir);
    if (error < 0)
        return error;
    for (struct entry *entry = dir->entries; entry; entry = entry->next) {
        uint64_t ino = 0;
        if (!entry->type)
            continue;
        error = entry_ino(op, dir, entry, &ino);
        if (error == 0)
            error = emit(context, entry->name, ino, (uint8_t)IFTODT(entry->type));
        if (error < 0)
            return error;
    }
    return dir->image == IMAGE_PRESENT ? list_image(op, dir, emit, context) : 0;
}

static int emit_stop(void *context, const char *name, uint64_t ino, uint8_t type) { return -EEXIST; }

int union_is_empty(struct op *op, struct tree_dir *dir) {
    int error = union_list(op, dir, emit_stop, NULL);
    return error == -EEXIST ? 0 : error < 0 ? error : 1;
}

/* ---- ends of directories, and the start ---- */

/* Remove a directory of the work directory that has markers, and perhaps directories of markers, in it. */
static int discard(int dir_fd, const char *name, unsigned depth) {
    if (unlinkat(dir_fd, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    cleanup_dir DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream || depth > 64)
        return depth > 64 ? -ELOOP : -errno;
    struct dirent *found;
    while ((found = readdir(stream)))
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            int error = discard(fd, found->d_name, depth + 1);
            if (error < 0)
                return error;
        }
    return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int union_discard_dir(struct fs *fs, int dir_fd, const char *name) {
    int error = creds_apply(NULL);
    if (error < 0)
        return error;
    /* Most have no markers. */
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -errno;
    char work[32];
    error = union_work_name(fs, work, sizeof(work));
    if (error < 0)
        return error;
    if (renameat(dir_fd, name, fs->work_fd, work) < 0)
        return -errno;
    error = discard(fs->work_fd, work, 0);
    if (error < 0)
        log_warning("fs: cannot remove %s/%s: %s", WORK_DIR, work, strerror(-error));
    return 0;
}

/* The directory that something is mounted on is there, in every node's view. */
static int make_mount_point(struct op *op, const char *path) {
    struct fs *fs = op->fs;
    struct tree_dir *dir = fs->root;
    char copy[VOS_PATH_MAX], *rest = copy, *name;
    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return -ENAMETOOLONG;
    while ((name = strsep(&rest, "/"))) {
        if (!*name)
            continue;
        struct place found;
        int error = union_lookup(op, dir, name, &found);
        if (error == 0 && !S_ISDIR(found.mode))
            return -ENOTDIR;
        if (error == -ENOENT) {
            error = union_copy_up_dir(op, dir);
            int fd = error < 0 ? error : tree_upper_fd(fs, dir);
            if (fd < 0)
                return fd;
            if (mkdirat(fd, name, 0755) < 0)
                return -errno;
            union_created(op, dir, name, S_IFDIR);
            error = union_lookup(op, dir, name, &found);
        }
        if (error < 0)
            return error;
        dir = found.dir;
    }
    return 0;
}

/*
 * The home of the DC's root. One that the image keeps from us (the host's own: its root is not ours) becomes an empty one
 * in the upper layer, so that programs find a home that they may read and write.
 */
static int make_home(struct op *op) {
    struct fs *fs = op->fs;
    struct place home;
    int error = union_lookup(op, fs->root, "root", &home);
    if (error == -ENOENT)
        return 0;
    if (error < 0 || !S_ISDIR(home.mode) || home.dir->image != IMAGE_PRESENT || home.dir->searchable)
        return error;
    error = union_copy_up_dir(op, home.dir);
    int fd = error < 0 ? error : tree_upper_fd(fs, home.dir);
    if (fd < 0)
        return fd;
    if (fchownat(fd, "", 0, 0, AT_EMPTY_PATH) < 0 || fchmodat(fd, ".", 0700, 0) < 0)
        return -errno;
    home.dir->mode = S_IFDIR | 0700;
    home.dir->uid = home.dir->gid = 0;
    error = union_opaque(op, home.dir);
    if (error == 0)
        home.dir->image = IMAGE_ABSENT;
    return error;
}

int union_start(struct fs *fs) {
    fs->work_fd = -1;
    if (!fs->primary)
        return 0;
    int upper = fs->vos->upper_fd;
    int error = discard(upper, WORK_DIR, 0);
    if (error < 0 && error != -ENOENT)
        return error;
    if (mkdirat(upper, WORK_DIR, 0700) < 0)
        return -errno;
    fs->work_fd = openat(upper, WORK_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fs->work_fd < 0)
        return -errno;
    struct op *op = op_new(fs, NULL);
    if (!op)
        return -ENOMEM;
    error = make_home(op);
    if (error == 0)
        error = make_mount_point(op, "/proc");
    if (error == 0)
        error = make_mount_point(op, "/dev");
    for (unsigned i = 0; error == 0 && i < fs->vos->mount_count; i++)
        error = make_mount_point(op, fs->vos->mounts[i].path);
    op_finish(op, error);
    return error;
}
