/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes' handle tables, and objects: what is open here, and proxies for what is open elsewhere.
 *
 * References: each handle, each working directory and each op at work on an object counts in object->refs. Holders on other nodes count
 * in object->shares, by node, so that a lost node's go with it. A proxy stands for one reference at its owner.
 */
#include "vos/fs/fs.h"

#include <string.h>

#define HANDLES_MAX 65536u

/* ---- processes ---- */

struct process *process_find(struct fs *fs, uint32_t pid) {
    struct hash_link *l = hash_first(&fs->processes, hash_mix(pid));
    return l ? hash_entry(l, struct process, link) : NULL;
}

struct process *process_get(struct fs *fs, uint32_t pid) {
    struct process *process = process_find(fs, pid);
    if (process)
        return process;
    process = calloc(1, sizeof(*process));
    if (!process)
        return NULL;
    process->pid = pid;
    process->creds = creds_new(0, 0, NULL, 0);
    struct place root;
    place_root(fs, &root);
    process->cwd = object_place(fs, FS_KIND_DIR, &root, O_RDONLY);
    if (!process->creds || !process->cwd || hash_insert(&fs->processes, &process->link, hash_mix(pid)) < 0) {
        creds_drop(process->creds);
        if (process->cwd)
            object_drop(fs, process->cwd);
        free(process);
        return NULL;
    }
    return process;
}

void process_end(struct fs *fs, struct process *process) {
    hash_remove(&fs->processes, &process->link);
    for (uint32_t i = 0; i < process->handle_cap; i++)
        if (process->handles[i])
            object_drop(fs, process->handles[i]);
    object_drop(fs, process->cwd);
    creds_drop(process->creds);
    free(process->handles);
    free(process);
}

int process_fork(struct fs *fs, uint32_t parent_pid, uint32_t child_pid) {
    struct process *parent = process_find(fs, parent_pid);
    if (!parent || process_find(fs, child_pid))
        return parent ? -EEXIST : -ESRCH;
    struct process *child = process_get(fs, child_pid);
    struct object **handles = calloc(parent->handle_cap ? parent->handle_cap : 1, sizeof(*handles));
    if (!child || !handles) {
        if (child)
            process_end(fs, child);
        free(handles);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < parent->handle_cap; i++)
        if (parent->handles[i])
            handles[i] = object_hold(parent->handles[i]);
    child->handles = handles;
    child->handle_cap = parent->handle_cap;
    child->free_hint = parent->free_hint;
    creds_drop(child->creds);
    child->creds = creds_hold(parent->creds);
    child->umask = parent->umask;
    object_drop(fs, child->cwd);
    child->cwd = object_hold(parent->cwd);
    return 0;
}

int handle_add(struct fs *fs, struct process *process, struct object *object) {
    uint32_t i = process->free_hint;
    while (i < process->handle_cap && process->handles[i])
        i++;
    if (i == process->handle_cap) {
        uint32_t cap = process->handle_cap ? process->handle_cap * 2 : 8;
        struct object **grown = cap > HANDLES_MAX ? NULL : realloc(process->handles, cap * sizeof(*grown));
        if (!grown) {
            object_drop(fs, object);
            return cap > HANDLES_MAX ? -EMFILE : -ENOMEM;
        }
        memset(grown + process->handle_cap, 0, (cap - process->handle_cap) * sizeof(*grown));
        process->handles = grown;
        process->handle_cap = cap;
    }
    process->handles[i] = object;
    process->free_hint = i + 1;
    return (int)i;
}

struct object *handle_get(struct process *process, uint64_t number) {
    return number < process->handle_cap ? process->handles[number] : NULL;
}

int handle_close(struct fs *fs, struct process *process, uint64_t number) {
    struct object *object = handle_get(process, number);
    if (!object)
        return -EBADF;
    process->handles[number] = NULL;
    if (number < process->free_hint)
        process->free_hint = (uint32_t)number;
    object_drop(fs, object);
    return 0;
}

int do_close(struct op *op) {
    struct process *process = op_process(op);
    return process ? handle_close(op->fs, process, op->words[0]) : -ESRCH;
}

/* ---- objects ---- */

static uint64_t object_key(uint32_t node, uint64_t id) { return hash_mix(id << 10 ^ node); }

struct object *object_find(struct fs *fs, uint32_t node, uint64_t id) {
    for (struct hash_link *l = hash_first(&fs->objects, object_key(node, id)); l; l = hash_next(l)) {
        struct object *object = hash_entry(l, struct object, link);
        if (object->node == node && object->id == id)
            return object;
    }
    return NULL;
}

static struct object *object_make(struct fs *fs, uint32_t node, uint64_t id, uint8_t kind) {
    struct object *object = calloc(1, sizeof(*object));
    if (!object)
        return NULL;
    object->id = id;
    object->node = node;
    object->kind = kind;
    object->refs = 1;
    object->fd = -1;
    object->place.fd = -1;
    if (hash_insert(&fs->objects, &object->link, object_key(node, id)) < 0) {
        free(object);
        return NULL;
    }
    return object;
}

struct object *object_new(struct fs *fs, uint8_t kind) { return object_make(fs, fs->vos->node, ++fs->next_object, kind); }

struct object *object_host(struct fs *fs, uint8_t kind, int fd, uint32_t status_flags) {
    struct object *object = object_new(fs, kind);
    if (!object) {
        close(fd);
        return NULL;
    }
    object->fd = fd;
    object->status_flags = status_flags;
    object->open_flags = FS_O_LOCAL;
    return object;
}

struct object *object_place(struct fs *fs, uint8_t kind, const struct place *place, uint32_t status_flags) {
    struct object *object = object_new(fs, kind);
    if (!object)
        return NULL;
    object->status_flags = status_flags;
    object->open_flags = FS_O_LOCAL;
    if (place_copy(fs, &object->place, place) < 0) {
        object->place = (struct place){.layer = LAYER_PROC, .fd = -1};
        object_drop(fs, object);
        return NULL;
    }
    return object;
}

struct object *object_proxy(struct fs *fs, uint32_t node, uint64_t id, uint8_t kind, uint32_t open_flags,
                            uint32_t status_flags) {
    struct object *object = object_find(fs, node, id);
    if (object)
        return object_hold(object);
    object = object_make(fs, node, id, kind);
    if (object) {
        object->open_flags = open_flags & ~(uint32_t)FS_O_LOCAL;
        object->status_flags = status_flags;
    }
    return object;
}

struct object *object_hold(struct object *object) {
    object->refs++;
    return object;
}

static void object_free(struct fs *fs, struct object *object) {
    hash_remove(&fs->objects, &object->link);
    if (object->kind == FS_KIND_DIR || object->kind == FS_KIND_FILE)
        lock_object_gone(fs, object->id);
    if (object->node != fs->vos->node) {
        if (!object->dead)
            remote_drop(fs, object->node, object->id, 1);
    } else {
        io_close(fs, object);
        if (object->kind == FS_KIND_TTY && !object->dead)
            tty_close(fs, object->tty);
    }
    if (object->kind == FS_KIND_DIR || object->kind == FS_KIND_PATH)
        if (object->node == fs->vos->node)
            place_free(fs, &object->place);
    if (object->delegate)
        object_drop(fs, object->delegate);
    free(object->path);
    free(object->list);
    free(object);
}

static void object_check(struct fs *fs, struct object *object) {
    if (!object->refs && !object->shares)
        object_free(fs, object);
}

void object_drop(struct fs *fs, struct object *object) {
    object->refs--;
    object_check(fs, object);
}

int object_share_add(struct fs *fs, struct object *object, uint32_t node) {
    struct object_share *share = object->shares;
    while (share && share->node != node)
        share = share->next;
    if (!share) {
        share = calloc(1, sizeof(*share));
        if (!share)
            return -ENOMEM;
        share->node = node;
        share->next = object->shares;
        object->shares = share;
    }
    share->count++;
    return 0;
}

void object_share_drop(struct fs *fs, struct object *object, uint32_t node, uint32_t count) {
    for (struct object_share **p = &object->shares, *share; (share = *p); p = &share->next)
        if (share->node == node) {
            share->count -= count < share->count ? count : share->count;
            if (!share->count) {
                *p = share->next;
                free(share);
            }
            break;
        }
    object_check(fs, object);
}

static struct object *hold_linked(struct hash_link *link) {
    return link ? object_hold(hash_entry(link, struct object, link)) : NULL;
}

/* An object that is freed takes its `delegate` with it, which may be the next of the bucket: that one is held meanwhile. */
void object_node_lost(struct fs *fs, uint32_t node) {
    for (size_t i = 0; i < fs->objects.size; i++)
        for (struct object *object = hold_linked(fs->objects.buckets[i]), *next; object; object = next) {
            if (object->node == node)
                object->dead = true;
            else if (object->node == fs->vos->node && object->shares)
                object_share_drop(fs, object, node, UINT32_MAX);
            next = hold_linked(object->link.next);
            object_drop(fs, object);
        }
}
