/* SPDX-License-Identifier: Apache-2.0 */
/* FS_GETDENTS, FS_CHDIR, FS_GETCWD: directories. A listing is made whole at its first read and served from memory. */
#include "vos/fs/fs.h"

#include <dirent.h>
#include <string.h>

struct list_entry { /* struct linux_dirent64 */
    uint64_t d_ino;
    int64_t d_off; /* where the next one begins in the list */
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};
#define LIST_NAME_OFFSET offsetof(struct list_entry, d_name)

static int emit_entry(void *context, const char *name, uint64_t ino, uint8_t type) {
    struct object *object = context;
    size_t length = strlen(name), size = (LIST_NAME_OFFSET + length + 1 + 7) & ~(size_t)7;
    if (object->list_len + size > object->list_cap) {
        size_t cap = object->list_cap ? object->list_cap * 2 : 4096;
        char *grown = realloc(object->list, cap);
        if (!grown)
            return -ENOMEM;
        object->list = grown;
        object->list_cap = cap;
    }
    struct list_entry *entry = (struct list_entry *)(object->list + object->list_len);
    memset(entry, 0, size);
    object->list_len += size;
    *entry = (struct list_entry){.d_ino = ino, .d_off = (int64_t)object->list_len, .d_reclen = (uint16_t)size, .d_type = type};
    memcpy(entry->d_name, name, length + 1);
    return 0;
}

static int list_place(struct op *op, const struct place *place, union_emit *emit, void *context) {
    switch (place->layer) {
    case LAYER_PROC: return proc_list(op, place, emit, context);
    case LAYER_DEV: return dev_list(op, place, emit, context);
    case LAYER_SHM: return shm_list(op, place, emit, context);
    case LAYER_TOOLS: return tools_list(op, place, emit, context);
    case LAYER_VOLUME: return volume_list(op, place, emit, context);
    default: return union_list(op, place->dir, emit, context);
    }
}

static void list_forget(struct object *object) {
    free(object->list);
    object->list = NULL;
    object->list_len = object->list_cap = object->position = 0;
}

static uint64_t parent_ino(struct op *op, struct place *place, uint64_t own) {
    struct place parent;
    struct vos_stat st;
    if (place->layer != LAYER_TREE || !place->dir->parent)
        return own;
    place_tree_dir(&parent, place->dir->parent);
    return place_stat(op, &parent, &st) == 0 ? st.st_ino : own;
}

static int list_make(struct op *op, struct object *object) {
    struct vos_stat st;
    if (object->place.layer == LAYER_TREE && object->place.dir->removed)
        return emit_entry(object, ".", 1, DT_DIR) < 0 ? -ENOMEM : -ENOENT;
    int error = place_stat(op, &object->place, &st);
    if (error == 0)
        error = emit_entry(object, ".", st.st_ino, DT_DIR);
    if (error == 0)
        error = emit_entry(object, "..", parent_ino(op, &object->place, st.st_ino), DT_DIR);
    if (error == 0)
        error = list_place(op, &object->place, emit_entry, object);
    if (error != 0)
        list_forget(object);
    else if (object->place.layer == LAYER_TREE)
        names_listing(op->fs, object->place.dir, object->list, object->list_len);
    return error;
}

/* ---- a listing that is the primary's to make ---- */

static void delegated(struct op *inner, int status) {
    struct op *op = inner->context;
    if (status >= 0 && inner->out_object) {
        if (!op->object->delegate) { /* another reader of the same directory may have been faster */
            op->object->delegate = inner->out_object;
            inner->out_object = NULL;
        }
        op_run(op);
    } else
        op_finish(op, status < 0 ? status : -EIO);
}

static int delegate(struct op *op, struct object *object) {
    struct op *inner = op_new(op->fs, NULL);
    char path[VOS_PATH_MAX];
    int length = inner ? place_path(op, &object->place, path) : -ENOMEM;
    char *copy = length < 0 ? NULL : op_alloc(inner, (size_t)length + 1);
    if (!copy) {
        if (inner)
            op_finish(inner, 0);
        return length < 0 ? length : -ENOMEM;
    }
    memcpy(copy, path, (size_t)length + 1);
    inner->type = FS_OPEN;
    inner->pid = op->pid;
    inner->target = op->fs->vos->primary;
    inner->start[0] = (struct start){.kind = START_PATH, .path = copy};
    strcpy(inner->path[0], ".");
    inner->path_count = 1;
    inner->words[1] = O_RDONLY | O_DIRECTORY;
    inner->done = delegated;
    inner->context = op;
    inner->no_lease = true;
    remote_forward_path(inner, op->fs->vos->primary);
    return FS_PENDING;
}

static bool primary_lists(struct op *op, struct object *object) {
    if (op->fs->primary || object->list)
        return false;
    return object->place.layer == LAYER_SHM ||
           (object->place.layer == LAYER_TREE && !lease_covers(op->fs, object->place.dir, NULL));
}

int do_getdents(struct op *op) {
    struct object *object = op->object;
    if (object->kind != FS_KIND_DIR)
        return object->kind == FS_KIND_PATH ? -EBADF : -ENOTDIR;
    if (!object->delegate && primary_lists(op, object))
        return delegate(op, object);
    if (object->delegate) {
        if (object->delegate->node != op->fs->vos->node) {
            remote_forward_object(op, object->delegate);
            return FS_PENDING;
        }
        object = object->delegate;
    }
    int error = object->list ? 0 : list_make(op, object);
    if (error != 0)
        return error;
    uint64_t room = op->words[1] < op->out_cap ? op->words[1] : op->out_cap;
    size_t from = object->position, to = from;
    while (to < object->list_len) {
        const struct list_entry *entry = (const struct list_entry *)(object->list + to);
        if (to - from + entry->d_reclen > room)
            break;
        to += entry->d_reclen;
    }
    if (to == from && from < object->list_len)
        return -EINVAL;
    error = op_put(op, object->list + from, to - from);
    if (error < 0)
        return error;
    object->position = to;
    op->out[0] = to >= object->list_len;
    return (int)(to - from);
}

/* For a guest that has opened the directory by its number: it needs no handle then. */
int do_listdir(struct op *op) {
    struct tree_dir *dir = names_dir(op->fs, op->words[0]);
    struct place place;
    if (!dir || dir->number != op->words[0] || !names_lists(op->fs, dir))
        return -EAGAIN;
    if (names_has_listing(op->fs, dir))
        return 0;
    place_tree_dir(&place, dir);
    struct object *object = object_place(op->fs, FS_KIND_DIR, &place, O_RDONLY);
    if (!object)
        return -ENOMEM;
    int error = list_make(op, object);
    object_drop(op->fs, object);
    return error == 0 && names_has_listing(op->fs, dir) ? 0 : -EAGAIN;
}

int dir_seek(struct op *op, struct object *object, int64_t offset, int whence) {
    if (object->delegate) {
        if (object->delegate->node != op->fs->vos->node) {
            remote_forward_object(op, object->delegate);
            return FS_PENDING;
        }
        object = object->delegate;
    }
    if (whence == SEEK_CUR)
        offset += (int64_t)object->position;
    else if (whence == SEEK_END)
        offset += (int64_t)object->list_len;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (offset < 0)
        return -EINVAL;
    if (offset == 0)
        list_forget(object); /* rewinddir: what is there now */
    size_t at = 0;
    while (at < object->list_len && at < (size_t)offset)
        at += ((const struct list_entry *)(object->list + at))->d_reclen;
    object->position = at;
    op->out[0] = at;
    return 0;
}

int do_chdir(struct op *op) {
    struct walk found;
    int error = walk(op, 0, WALK_FOLLOW | WALK_EMPTY, &found);
    if (error < 0)
        return error;
    if (!S_ISDIR(found.found.mode))
        return -ENOTDIR;
    error = place_check(op, &found.found, X_OK);
    if (error < 0)
        return error;
    struct vos_stat st = {0};
    error = open_grant_object(op, object_place(op->fs, FS_KIND_DIR, &found.found, O_RDONLY), &st);
    op->out_len = 0;
    return error < 0 ? error : 0;
}

int do_getcwd(struct op *op) {
    struct process *process = op_process(op);
    if (!op->object) {
        if (!process)
            return -ESRCH;
        op->object = object_hold(process->cwd);
    }
    char path[VOS_PATH_MAX];
    int length;
    if (op->object->node == op->fs->vos->node) {
        if (op->object->kind != FS_KIND_DIR)
            return -ENOTDIR;
        length = place_path(op, &op->object->place, path);
    } else if (op->object->path)
        length = (int)strlen(strcpy(path, op->object->path));
    else {
        remote_forward_object(op, op->object);
        return FS_PENDING;
    }
    if (length < 0)
        return length;
    int error = op_put(op, path, (size_t)length + 1);
    return error < 0 ? error : length + 1;
}
