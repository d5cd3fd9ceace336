/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/shm: one flat directory for the DC. The primary keeps the names; a file's data is a memfd at the node of its
 * creator, where it can be mapped shared. A file has an id: node << 40 | number.
 *
 * An op on the file itself goes from the primary to its node under the name .dvs.id.ID, which only means something when
 * a server has sent the op on (START_PATH /dev/shm): guests' own names of that form do not exist.
 */
#include "vos/fs/fs.h"
#include "vos/fs/remote.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ID_PREFIX ".dvs.id."
#define SHM_PATH "/dev/shm"

struct shm_name { /* primary */
    struct hash_link link;
    uint64_t id;
    uint32_t uid; /* of its creator, for the sticky directory */
    char name[];
};

struct shm_file { /* at its node */
    struct hash_link link; /* key: mixed id */
    uint64_t id;
    int fd;
};

struct shm {
    struct hash names, files;
    uint64_t count;
};

static uint32_t id_node(uint64_t id) { return (uint32_t)(id >> 40); }

static struct shm *state(struct fs *fs) {
    if (!fs->shm)
        fs->shm = calloc(1, sizeof(*fs->shm));
    return fs->shm;
}

static struct shm_name *name_find(struct fs *fs, const char *name) {
    for (struct hash_link *l = fs->shm ? hash_first(&fs->shm->names, hash_name(0, name)) : NULL; l; l = hash_next(l)) {
        struct shm_name *found = hash_entry(l, struct shm_name, link);
        if (strcmp(found->name, name) == 0)
            return found;
    }
    return NULL;
}

static int name_add(struct fs *fs, const char *name, uint64_t id, uint32_t uid) {
    struct shm *shm = state(fs);
    size_t size = strlen(name) + 1;
    struct shm_name *added = shm ? malloc(sizeof(*added) + size) : NULL;
    if (!added)
        return -ENOMEM;
    added->id = id;
    added->uid = uid;
    memcpy(added->name, name, size);
    if (hash_insert(&shm->names, &added->link, hash_name(0, name)) < 0) {
        free(added);
        return -ENOMEM;
    }
    return 0;
}

static struct shm_file *file_find(struct fs *fs, uint64_t id) {
    for (struct hash_link *l = fs->shm ? hash_first(&fs->shm->files, hash_mix(id)) : NULL; l; l = hash_next(l)) {
        struct shm_file *found = hash_entry(l, struct shm_file, link);
        if (found->id == id)
            return found;
    }
    return NULL;
}

int shm_drop(struct fs *fs, uint64_t id) {
    struct shm_file *file = file_find(fs, id);
    if (!file)
        return -ENOENT;
    hash_remove(&fs->shm->files, &file->link);
    close(file->fd);
    free(file);
    return 0;
}

static void ignore_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                        const int *fds, unsigned fd_count) {}

static void name_remove(struct fs *fs, struct shm_name *name) {
    uint64_t id = name->id;
    hash_remove(&fs->shm->names, &name->link);
    free(name);
    for (size_t i = 0; i < fs->shm->names.size; i++)
        for (struct hash_link *l = fs->shm->names.buckets[i]; l; l = l->next)
            if (hash_entry(l, struct shm_name, link)->id == id)
                return; /* it has another name */
    if (id_node(id) == fs->vos->node) {
        shm_drop(fs, id);
        return;
    }
    struct dvk_message message = {.destination = vos_service(id_node(id), DVK_SERVICE_FS), .type = FS_S_SHM_DROP};
    message.payload.words[0] = id;
    (void)dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, ignore_done, NULL, NULL);
}

void shm_node_lost(struct fs *fs, uint32_t node) {
    for (size_t i = 0; fs->shm && i < fs->shm->names.size; i++)
        for (struct hash_link *l = fs->shm->names.buckets[i], *next; l; l = next) {
            struct shm_name *name = hash_entry(l, struct shm_name, link);
            next = l->next;
            if (id_node(name->id) == node) {
                hash_remove(&fs->shm->names, &name->link);
                free(name);
            }
        }
}

void shm_stop(struct fs *fs) {
    struct shm *shm = fs->shm;
    if (!shm)
        return;
    for (size_t i = 0; i < shm->names.size; i++)
        while (shm->names.buckets[i]) {
            struct shm_name *name = hash_entry(shm->names.buckets[i], struct shm_name, link);
            hash_remove(&shm->names, &name->link);
            free(name);
        }
    for (size_t i = 0; i < shm->files.size; i++)
        while (shm->files.buckets[i])
            shm_drop(fs, hash_entry(shm->files.buckets[i], struct shm_file, link)->id);
    free(shm->names.buckets);
    free(shm->files.buckets);
    free(shm);
    fs->shm = NULL;
}

/* ---- places: key 0 is the directory, else a file's id ---- */

void shm_place(struct place *out) {
    out->layer = LAYER_SHM;
    out->where = WHERE_NONE;
    out->mode = S_IFDIR;
    out->key = out->arg = 0;
    out->fd = -1;
    out->path = NULL;
    out->have_stat = false;
    out->name[0] = '\0';
}

static void file_place(struct place *out, uint64_t id, const char *name) {
    shm_place(out);
    out->mode = S_IFREG;
    out->key = id;
    snprintf(out->name, sizeof(out->name), "%s", name);
}

static bool sent_on(const struct op *op) {
    return op->start[0].kind == START_PATH && op->start[0].path && strcmp(op->start[0].path, SHM_PATH) == 0;
}

static bool parse_id(const char *name, uint64_t *id) {
    return strncmp(name, ID_PREFIX, strlen(ID_PREFIX)) == 0 && sscanf(name + strlen(ID_PREFIX), "%lx", id) == 1;
}

int shm_lookup(struct op *op, const struct place *dir, const char *name, struct place *out) {
    struct fs *fs = op->fs;
    uint64_t id;
    if (union_reserved(name)) {
        if (!sent_on(op) || !parse_id(name, &id) || id_node(id) != fs->vos->node || !file_find(fs, id))
            return -ENOENT;
        file_place(out, id, name);
        return 0;
    }
    if (!fs->primary)
        return FS_FORWARD;
    struct shm_name *found = name_find(fs, name);
    if (!found)
        return -ENOENT;
    file_place(out, found->id, name);
    return 0;
}

/* The file's memfd (borrowed), or FS_FORWARD to its node. */
int shm_fd(struct op *op, const struct place *place) {
    if (id_node(place->key) == op->fs->vos->node) {
        struct shm_file *file = file_find(op->fs, place->key);
        return file ? file->fd : -ENOENT;
    }
    char rest[64];
    snprintf(rest, sizeof(rest), ID_PREFIX "%lx", place->key);
    return walk_forward(op, 0, id_node(place->key), SHM_PATH, rest);
}

int shm_stat(struct op *op, struct place *place, struct vos_stat *out) {
    if (!place->key) {
        *out = (struct vos_stat){.st_dev = FS_DEV_SHM, .st_ino = 1, .st_nlink = 2, .st_mode = S_IFDIR | 01777, .st_blksize = 4096};
        return 0;
    }
    int fd = shm_fd(op, place);
    if (fd < 0)
        return fd;
    int error = stat_host_at(fd, "", AT_EMPTY_PATH, out);
    out->st_dev = FS_DEV_SHM;
    out->st_ino = place->key;
    out->st_nlink = 1;
    return error;
}

static int grant(struct op *op, struct place *place, uint32_t flags) {
    struct vos_stat st;
    int fd = shm_fd(op, place);
    if (fd < 0)
        return fd;
    int opened = hostfd_reopen(op->fs, fd, (int)(flags & (O_ACCMODE | O_APPEND | O_TRUNC)));
    if (opened < 0)
        return opened;
    int error = shm_stat(op, place, &st);
    if (error < 0) {
        close(opened);
        return error;
    }
    return open_grant_fd(op, opened, FS_KIND_FILE, 0, flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), &st);
}

int shm_open_file(struct op *op, struct place *place, uint32_t flags) {
    struct vos_stat st;
    int want = (flags & O_ACCMODE) == O_RDONLY ? R_OK : (flags & O_ACCMODE) == O_WRONLY ? W_OK : R_OK | W_OK;
    int error = shm_stat(op, place, &st);
    if (error == 0)
        error = creds_check(op->creds, st.st_mode, st.st_uid, st.st_gid, flags & O_TRUNC ? want | W_OK : want);
    return error != 0 ? error : grant(op, place, flags);
}

static int make_file(struct op *op, uint64_t id, uint32_t flags, uint32_t mode) {
    struct shm *shm = state(op->fs);
    struct shm_file *file = shm ? malloc(sizeof(*file)) : NULL;
    char name[48];
    if (!file)
        return -ENOMEM;
    snprintf(name, sizeof(name), "dvs-shm:%lx", id);
    *file = (struct shm_file){.id = id, .fd = memfd_create(name, MFD_CLOEXEC)};
    if (file->fd < 0 || fchown(file->fd, op->creds->uid, op->creds->gid) < 0 || fchmod(file->fd, mode & 0777) < 0 ||
        hash_insert(&shm->files, &file->link, hash_mix(id)) < 0) {
        int error = errno ? -errno : -ENOMEM;
        if (file->fd >= 0)
            close(file->fd);
        free(file);
        return error;
    }
    struct place place;
    file_place(&place, id, "");
    return grant(op, &place, flags & ~(uint32_t)O_TRUNC);
}

/* Absent, and O_CREAT. First at the primary, which gives the name, then at the caller's node, where the data is. */
int shm_create(struct op *op, const char *name, uint32_t flags, uint32_t mode) {
    struct fs *fs = op->fs;
    uint64_t id;
    if (union_reserved(name)) {
        if (!sent_on(op) || !parse_id(name, &id) || id_node(id) != fs->vos->node)
            return -EINVAL;
        return make_file(op, id, flags, mode);
    }
    struct shm *shm = state(fs);
    if (!shm)
        return -ENOMEM;
    id = (uint64_t)op->node << 40 | ++shm->count;
    int error = name_add(fs, name, id, op->creds->uid);
    if (error < 0)
        return error;
    if (op->node != fs->vos->node) {
        struct place place;
        file_place(&place, id, name);
        return shm_fd(op, &place);
    }
    int status = make_file(op, id, flags, mode);
    if (status < 0)
        name_remove(fs, name_find(fs, name));
    return status;
}

static int may_remove(struct op *op, const struct shm_name *name) {
    return op->creds->uid == 0 || op->creds->uid == name->uid ? 0 : -EPERM;
}

int shm_remove(struct op *op, const char *name) {
    struct shm_name *found = name_find(op->fs, name);
    if (!found)
        return -ENOENT;
    int error = may_remove(op, found);
    if (error == 0)
        name_remove(op->fs, found);
    return error;
}

int shm_add_name(struct op *op, const char *old, const char *new) {
    struct shm_name *found = name_find(op->fs, old);
    if (!found || name_find(op->fs, new) || union_reserved(new))
        return !found ? -ENOENT : union_reserved(new) ? -EINVAL : -EEXIST;
    return name_add(op->fs, new, found->id, found->uid);
}

int shm_rename(struct op *op, const char *old, const char *new, unsigned flags) {
    struct shm_name *from = name_find(op->fs, old), *to = name_find(op->fs, new);
    if (!from || flags & RENAME_EXCHANGE || union_reserved(new))
        return !from ? -ENOENT : -EINVAL;
    int error = may_remove(op, from);
    if (error == 0 && to)
        error = may_remove(op, to);
    if (error < 0 || from == to || (to && to->id == from->id))
        return error;
    if (to)
        name_remove(op->fs, to);
    error = name_add(op->fs, new, from->id, from->uid);
    if (error == 0)
        name_remove(op->fs, name_find(op->fs, old));
    return error;
}

int shm_list(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    int error = 0;
    struct shm *shm = op->fs->shm;
    for (size_t i = 0; error == 0 && shm && i < shm->names.size; i++)
        for (struct hash_link *l = shm->names.buckets[i]; error == 0 && l; l = l->next) {
            const struct shm_name *name = hash_entry(l, struct shm_name, link);
            error = emit(context, name->name, name->id, DT_REG);
        }
    return error;
}
