/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree's directories as this server knows them, and the index of the upper layer's names. Owns tree_dirs, entries
 * and the fds of both; nothing here decides what a name means (union.c does).
 *
 * A directory with an upper part is kept while it exists; one without is a cache entry and goes when nobody holds it and
 * the cache is full. A cached child holds its parent (`children`).
 */
#include "vos/fs/fs.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>

#define CACHED_DIRS_MAX 32768u

static uint64_t dir_key(const struct tree_dir *parent, const char *name) {
    return hash_name((uint64_t)(uintptr_t)parent, name);
}

static void lru_unlink(struct tree_dir *dir) {
    if (!dir->lru_next)
        return;
    dir->lru_next->lru_prev = dir->lru_prev;
    dir->lru_prev->lru_next = dir->lru_next;
    dir->lru_next = dir->lru_prev = NULL;
}

static void lru_touch(struct fs *fs, struct tree_dir *dir) {
    if (fs->lru.lru_next == dir)
        return;
    lru_unlink(dir);
    dir->lru_next = fs->lru.lru_next;
    dir->lru_prev = &fs->lru;
    fs->lru.lru_next->lru_prev = dir;
    fs->lru.lru_next = dir;
}

static void close_fd(struct fs *fs, int *fd) {
    if (*fd >= 0) {
        close(*fd);
        fs->open_dirs--;
    }
    *fd = -1;
}

static void dir_close(struct fs *fs, struct tree_dir *dir) {
    if (dir->attr_fd == dir->image_fd)
        dir->attr_fd = -1;
    close_fd(fs, &dir->attr_fd);
    close_fd(fs, &dir->image_fd);
    close_fd(fs, &dir->upper_fd);
}

struct tree_dir *tree_hold(struct tree_dir *dir) {
    dir->refs++;
    return dir;
}

static void dir_free(struct fs *fs, struct tree_dir *dir) {
    names_dir_gone(fs, dir);
    if (!dir->removed && dir->parent) {
        hash_remove(&fs->dirs, &dir->link);
        dir->parent->children--;
        fs->cached_dirs--;
    }
    while (dir->entries)
        entry_free(fs, dir->entries);
    lru_unlink(dir);
    dir_close(fs, dir);
    free(dir->name);
    free(dir);
}

void tree_drop(struct fs *fs, struct tree_dir *dir) {
    if (dir && --dir->refs == 0 && dir->removed && !dir->children)
        dir_free(fs, dir);
}

struct tree_dir *tree_cached(struct fs *fs, const struct tree_dir *dir, const char *name) {
    for (struct hash_link *l = hash_first(&fs->dirs, dir_key(dir, name)); l; l = hash_next(l)) {
        struct tree_dir *found = hash_entry(l, struct tree_dir, link);
        if (found->parent == dir && strcmp(found->name, name) == 0) {
            lru_touch(fs, found);
            return found;
        }
    }
    return NULL;
}

static bool dir_has_mounts(struct fs *fs, const struct tree_dir *dir) {
    char path[VOS_PATH_MAX];
    int length = tree_path(dir, path);
    if (length < 0)
        return false;
    if (length == 1)
        return true; /* /proc /dev /.dvs */
    for (unsigned i = 0; i < fs->vos->mount_count; i++) {
        const char *mount = fs->vos->mounts[i].path, *slash = strrchr(mount, '/');
        if (slash && (size_t)(slash - mount) == (size_t)length && memcmp(mount, path, (size_t)length) == 0)
            return true;
    }
    return false;
}

struct tree_dir *tree_add(struct fs *fs, struct tree_dir *parent, const char *name) {
    struct tree_dir *dir = tree_cached(fs, parent, name);
    if (dir)
        return dir;
    dir = calloc(1, sizeof(*dir));
    if (!dir)
        return NULL;
    dir->image_fd = dir->attr_fd = dir->upper_fd = -1;
    dir->name = strdup(name);
    dir->parent = parent;
    if (!dir->name || hash_insert(&fs->dirs, &dir->link, dir_key(parent, name)) < 0) {
        free(dir->name);
        free(dir);
        return NULL;
    }
    parent->children++;
    fs->cached_dirs++;
    dir->mounts = dir_has_mounts(fs, dir);
    lru_touch(fs, dir);
    return dir;
}

void tree_forget(struct fs *fs, struct tree_dir *dir) {
    hash_remove(&fs->dirs, &dir->link);
    dir->parent->children--;
    fs->cached_dirs--;
    dir->parent = NULL;
    dir->removed = true;
    names_dir_gone(fs, dir);
    while (dir->entries)
        entry_free(fs, dir->entries);
    if (dir->refs == 0 && dir->children == 0)
        dir_free(fs, dir);
}

void tree_move(struct fs *fs, struct tree_dir *dir, struct tree_dir *parent, const char *name) {
    char *copy = strdup(name);
    if (!copy) {
        /* The host has renamed already: forget what we know; it is read again by its new name. */
        log_error("fs: no memory to follow a rename");
        abort();
    }
    hash_remove(&fs->dirs, &dir->link);
    dir->parent->children--;
    free(dir->name);
    dir->name = copy;
    dir->parent = parent;
    parent->children++;
    hash_insert(&fs->dirs, &dir->link, dir_key(parent, name));
    dir->mounts = dir_has_mounts(fs, dir);
    names_dir_changed(fs, dir);
}

bool tree_is_below(const struct tree_dir *dir, const struct tree_dir *above) {
    for (; dir; dir = dir->parent)
        if (dir == above)
            return true;
    return false;
}

int tree_path(const struct tree_dir *dir, char *out) {
    char buffer[VOS_PATH_MAX];
    size_t at = sizeof(buffer);
    buffer[--at] = '\0';
    for (; dir->parent; dir = dir->parent) {
        size_t length = strlen(dir->name);
        if (at < length + 1)
            return -ENAMETOOLONG;
        at -= length;
        memcpy(buffer + at, dir->name, length);
        buffer[--at] = '/';
    }
    if (dir->removed)
        return -ENOENT;
    if (at == sizeof(buffer) - 1)
        buffer[--at] = '/';
    memcpy(out, buffer + at, sizeof(buffer) - at);
    return (int)(sizeof(buffer) - at - 1);
}

/* ---- fds ---- */

static int open_part(struct fs *fs, int parent_fd, const char *name, int *fd) {
    if (parent_fd < 0)
        return parent_fd;
    int opened = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0)
        return -errno;
    fs->open_dirs++;
    return *fd = opened;
}

int tree_image_fd(struct fs *fs, struct tree_dir *dir) {
    if (dir->image_fd >= 0)
        return dir->image_fd;
    if (!dir->parent)
        return dir->removed ? -ENOENT : fs->vos->image_fd;
    return open_part(fs, tree_image_fd(fs, dir->parent), dir->name, &dir->image_fd);
}

int tree_attr_fd(struct fs *fs, struct tree_dir *dir) {
    if (dir->attr_fd >= 0)
        return dir->attr_fd;
    if (fs->vos->attr_fd == fs->vos->image_fd) {
        int fd = tree_image_fd(fs, dir);
        return fd < 0 ? fd : dir->parent ? (dir->attr_fd = fd) : fd;
    }
    if (!dir->parent)
        return dir->removed ? -ENOENT : fs->vos->attr_fd;
    return open_part(fs, tree_attr_fd(fs, dir->parent), dir->name, &dir->attr_fd);
}

int tree_upper_fd(struct fs *fs, struct tree_dir *dir) {
    if (dir->upper_fd >= 0)
        return dir->upper_fd;
    if (!dir->parent)
        return dir->removed ? -ENOENT : fs->vos->upper_fd;
    int error = creds_apply(NULL);
    if (error < 0)
        return error;
    return open_part(fs, tree_upper_fd(fs, dir->parent), dir->name, &dir->upper_fd);
}

/* ---- index of the upper layer ---- */

struct entry *entry_find(struct fs *fs, const struct tree_dir *dir, const char *name) {
    for (struct hash_link *l = hash_first(&fs->entries, dir_key(dir, name)); l; l = hash_next(l)) {
        struct entry *entry = hash_entry(l, struct entry, link);
        if (entry->dir == dir && strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

struct entry *entry_add(struct fs *fs, struct tree_dir *dir, const char *name) {
    struct entry *entry = entry_find(fs, dir, name);
    if (entry)
        return entry;
    size_t size = strlen(name) + 1;
    entry = calloc(1, sizeof(*entry) + size);
    if (!entry)
        return NULL;
    memcpy(entry->name, name, size);
    entry->dir = dir;
    if (hash_insert(&fs->entries, &entry->link, dir_key(dir, name)) < 0) {
        free(entry);
        return NULL;
    }
    entry->next = dir->entries;
    entry->prev = &dir->entries;
    if (entry->next)
        entry->next->prev = &entry->next;
    dir->entries = entry;
    return entry;
}

void entry_free(struct fs *fs, struct entry *entry) {
    hash_remove(&fs->entries, &entry->link);
    *entry->prev = entry->next;
    if (entry->next)
        entry->next->prev = entry->prev;
    free(entry);
}

static int load_name(struct fs *fs, struct tree_dir *dir, int fd, const struct dirent *found) {
    const char *name = found->d_name;
    bool whiteout = strncmp(name, ".dvs.wh.", 8) == 0;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (strcmp(name, ".dvs.opq") == 0) {
        dir->opaque = true;
        return 0;
    }
    if (strncmp(name, ".dvs.", 5) == 0 && !whiteout)
        return 0;
    struct entry *entry = entry_add(fs, dir, whiteout ? name + 8 : name);
    if (!entry)
        return -ENOMEM;
    if (whiteout) {
        entry->whiteout = true;
        return 0;
    }
    entry->type = (uint32_t)DTTOIF(found->d_type);
    entry->ino = table_get(&fs->origins, found->d_ino) ? 0 /* asked for when shown */ : found->d_ino | FS_INO_UPPER;
    if (found->d_type == DT_UNKNOWN) {
        struct stat st;
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return -errno;
        entry->type = st.st_mode & S_IFMT;
    }
    return 0;
}

int tree_load(struct fs *fs, struct tree_dir *dir) {
    if (dir->loaded || !dir->upper)
        return 0;
    int fd = tree_upper_fd(fs, dir);
    if (fd < 0)
        return fd;
    int error = creds_apply(NULL);
    if (error < 0)
        return error;
    cleanup_close int listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -errno;
    cleanup_dir DIR *stream = fdopendir(listing);
    if (!stream)
        return -errno;
    listing = -1;
    for (;;) {
        errno = 0;
        struct dirent *found = readdir(stream);
        if (!found) {
            error = -errno;
            break;
        }
        error = load_name(fs, dir, fd, found);
        if (error < 0)
            break;
    }
    if (error < 0)
        while (dir->entries)
            entry_free(fs, dir->entries);
    else
        dir->loaded = true;
    return error;
}

/* ---- life ---- */

int tree_start(struct fs *fs) {
    fs->lru.lru_next = fs->lru.lru_prev = &fs->lru;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            getrlimit(RLIMIT_NOFILE, &limit);
    }
    rlim_t third = limit.rlim_cur / 3;
    fs->open_dirs_max = third > 16384 ? 16384 : third < 64 ? 64 : (unsigned)third;
    struct tree_dir *root = calloc(1, sizeof(*root));
    if (!root)
        return -ENOMEM;
    fs->root = root;
    root->name = strdup("");
    if (!root->name)
        return -ENOMEM;
    root->refs = 1;
    root->image_fd = root->attr_fd = root->upper_fd = -1;
    root->image = IMAGE_PRESENT;
    root->searchable = true;
    root->mounts = true;
    root->upper = fs->primary;
    struct vos_stat st;
    int error = stat_host_at(fs->vos->attr_fd, "", AT_EMPTY_PATH, &st);
    if (error < 0)
        return error;
    stat_image(&st);
    root->image_ino = st.st_ino;
    root->mode = root->image_mode = st.st_mode;
    root->uid = root->image_uid = st.st_uid;
    root->gid = root->image_gid = st.st_gid;
    if (fs->primary) {
        error = stat_host_at(fs->vos->upper_fd, "", AT_EMPTY_PATH, &st);
        if (error < 0)
            return error;
        root->mode = st.st_mode;
        root->uid = st.st_uid;
        root->gid = st.st_gid;
        error = tree_load(fs, root);
    }
    return error;
}

static void free_all(struct fs *fs) {
    for (size_t i = 0; i < fs->dirs.size; i++)
        while (fs->dirs.buckets[i]) {
            struct tree_dir *dir = hash_entry(fs->dirs.buckets[i], struct tree_dir, link);
            hash_remove(&fs->dirs, &dir->link);
            dir->removed = true; /* its parent may be freed already */
            dir_free(fs, dir);
        }
}

void tree_stop(struct fs *fs) {
    if (!fs->root)
        return;
    free_all(fs);
    dir_free(fs, fs->root);
    fs->root = NULL;
    free(fs->dirs.buckets);
    free(fs->entries.buckets);
}

/* Least recently used first; a directory someone holds, or with children, only loses its fds. */
void tree_trim(struct fs *fs) {
    if (fs->open_dirs <= fs->open_dirs_max && fs->cached_dirs <= CACHED_DIRS_MAX)
        return;
    unsigned scan = 512; /* a bounded step each time */
    for (struct tree_dir *dir = fs->lru.lru_prev, *prev; dir != &fs->lru && scan; dir = prev, scan--) {
        prev = dir->lru_prev;
        dir_close(fs, dir);
        if (!dir->refs && !dir->children && !dir->upper && !dir->leases && !dir->lease_list && !dir->numbers && !dir->removed &&
            dir->parent)
            dir_free(fs, dir);
        else
            lru_touch(fs, dir);
        if (fs->open_dirs <= fs->open_dirs_max * 3 / 4 && fs->cached_dirs <= CACHED_DIRS_MAX * 3 / 4)
            break;
    }
}
