/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FS_LOCK: advisory locks. POSIX record locks are of a process, OFD locks of an open object; both are kept here, at the node
 * that owns the file, by the file's identity. flock(2) locks of files are the host kernel's, on the open file description
 * itself, so that they end with it wherever that is held; those of directories are kept here.
 *
 * F_SETLKW that would close a circle of waiting processes gets EDEADLK.
 */
#include "vos/fs/fs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

enum lock_command { LOCK_GET, LOCK_SET, LOCK_SET_WAIT, LOCK_FLOCK };

/* Whose a lock is: a pid, or an object. */
struct lock_owner {
    uint32_t pid; /* 0: of an object */
    uint64_t object;
    uint32_t node; /* where the process runs */
};

struct lock_range {
    struct lock_range *next;
    struct lock_owner owner;
    int64_t start, end; /* inclusive */
    uint32_t pid;       /* shown by F_GETLK */
    bool write;
};

struct lock_file {
    struct hash_link link;
    struct lock_range *ranges;
    struct op *waiters;
};

/* What a waiting op wants; in words: w2 type w3 start w4 len. */
struct lock_want {
    struct lock_owner owner;
    int64_t start, end;
    uint32_t type; /* F_RDLCK F_WRLCK F_UNLCK */
};

static struct lock_file *file_find(struct fs *fs, uint64_t key) {
    struct hash_link *l = hash_first(&fs->locks, key);
    return l ? hash_entry(l, struct lock_file, link) : NULL;
}

static struct lock_file *file_get(struct fs *fs, uint64_t key) {
    struct lock_file *file = file_find(fs, key);
    if (file)
        return file;
    file = calloc(1, sizeof(*file));
    if (file && hash_insert(&fs->locks, &file->link, key) < 0) {
        free(file);
        file = NULL;
    }
    return file;
}

static void file_check(struct fs *fs, struct lock_file *file) {
    if (file->ranges || file->waiters)
        return;
    hash_remove(&fs->locks, &file->link);
    free(file);
}

static bool same_owner(const struct lock_owner *a, const struct lock_owner *b) {
    return a->pid == b->pid && (a->pid || a->object == b->object);
}

static struct lock_range *conflict(struct lock_file *file, const struct lock_want *want) {
    for (struct lock_range *r = file->ranges; r; r = r->next)
        if (r->start <= want->end && want->start <= r->end && !same_owner(&r->owner, &want->owner) &&
            (r->write || want->type == F_WRLCK))
            return r;
    return NULL;
}

/* Give the owner's part of [start, end] up, or change it to the wanted type. */
static int apply(struct lock_file *file, const struct lock_want *want, uint32_t pid) {
    /* Both allocated before anything changes: a range in the middle of another splits it. */
    struct lock_range *fresh = calloc(1, sizeof(*fresh)), *split = calloc(1, sizeof(*split));
    if (!fresh || !split) {
        free(fresh);
        free(split);
        return -ENOMEM;
    }
    for (struct lock_range **p = &file->ranges, *r; (r = *p);) {
        if (!same_owner(&r->owner, &want->owner) || r->start > want->end || r->end < want->start) {
            p = &r->next;
        } else if (r->start < want->start && r->end > want->end) {
            *split = *r;
            split->start = want->end + 1;
            r->end = want->start - 1;
            r->next = split;
            split = NULL;
            break; /* an owner's ranges do not overlap */
        } else if (r->start < want->start) {
            r->end = want->start - 1;
            p = &r->next;
        } else if (r->end > want->end) {
            r->start = want->end + 1;
            p = &r->next;
        } else {
            *p = r->next;
            free(r);
        }
    }
    free(split);
    if (want->type == F_UNLCK) {
        free(fresh);
        return 0;
    }
    *fresh = (struct lock_range){.next = file->ranges, .owner = want->owner, .start = want->start, .end = want->end, .pid = pid,
                                 .write = want->type == F_WRLCK};
    file->ranges = fresh;
    return 0;
}

/* ---- waiting ---- */

static void waiter_unlink(struct op *op) {
    struct lock_file *file = file_find(op->fs, op->wait_key);
    if (!file)
        return;
    for (struct op **p = &file->waiters; *p; p = &(*p)->wait_next)
        if (*p == op) {
            *p = op->wait_next;
            break;
        }
    file_check(op->fs, file);
}

static void lock_cancel(struct op *op) {
    waiter_unlink(op);
    op_finish(op, -EINTR);
}

static void wake(struct fs *fs, uint64_t key) {
    struct lock_file *file = file_find(fs, key);
    if (!file)
        return;
    struct op *list = file->waiters;
    file->waiters = NULL;
    file_check(fs, file);
    while (list) {
        struct op *op = list;
        list = op->wait_next;
        op->cancel = NULL;
        op_run(op);
    }
}

static struct lock_owner owner_of(const struct op *op) {
    if (op->words[1] == LOCK_FLOCK || op->words[5] & 1)
        return (struct lock_owner){.object = op->object ? op->object->id : 0, .node = op->node};
    return (struct lock_owner){.pid = op->pid, .node = op->node};
}

/* flock(2) is a lock on the whole, of the object. */
static int take_flock(const struct op *op, struct lock_want *want) {
    int operation = (int)op->words[2] & ~LOCK_NB;
    if (operation != LOCK_SH && operation != LOCK_EX && operation != LOCK_UN)
        return -EINVAL;
    want->type = operation == LOCK_SH ? F_RDLCK : operation == LOCK_EX ? F_WRLCK : F_UNLCK;
    want->start = 0;
    want->end = INT64_MAX;
    return 0;
}

static int take_want(const struct op *op, struct lock_want *want) {
    int64_t start = (int64_t)op->words[3], len = (int64_t)op->words[4];
    want->owner = owner_of(op);
    if (op->words[1] == LOCK_FLOCK)
        return take_flock(op, want);
    want->type = (uint32_t)op->words[2];
    if (want->type != F_RDLCK && want->type != F_WRLCK && want->type != F_UNLCK)
        return -EINVAL;
    if (start < 0 || (len > 0 && start > INT64_MAX - len + 1))
        return start < 0 ? -EINVAL : -EOVERFLOW;
    if (len < 0) {
        if (start + len < 0)
            return -EINVAL;
        want->start = start + len;
        want->end = start - 1;
    } else {
        want->start = start;
        want->end = len ? start + len - 1 : INT64_MAX;
    }
    return 0;
}

static bool may_wait(const struct op *op) {
    return op->words[1] == LOCK_FLOCK ? !(op->words[2] & LOCK_NB) : op->words[1] == LOCK_SET_WAIT;
}

/* Would `pid` wait for itself, over the processes that wait in turn? */
static bool deadlock(struct fs *fs, uint32_t pid, const struct lock_owner *holder, unsigned depth) {
    if (!holder->pid)
        return false;
    if (holder->pid == pid)
        return true;
    if (depth > 32)
        return false;
    for (size_t i = 0; i < fs->locks.size; i++)
        for (struct hash_link *l = fs->locks.buckets[i]; l; l = l->next) {
            struct lock_file *file = hash_entry(l, struct lock_file, link);
            for (struct op *op = file->waiters; op; op = op->wait_next) {
                struct lock_want want;
                if (op->pid != holder->pid || take_want(op, &want) < 0)
                    continue;
                const struct lock_range *r = conflict(file, &want);
                if (r && deadlock(fs, pid, &r->owner, depth + 1))
                    return true;
            }
        }
    return false;
}

static int lock_at(struct op *op, uint64_t key) {
    struct lock_want want;
    int error = take_want(op, &want);
    if (error < 0)
        return error;
    struct lock_file *file = file_get(op->fs, key);
    if (!file)
        return -ENOMEM;
    struct lock_range *r = want.type == F_UNLCK ? NULL : conflict(file, &want);
    if (op->words[1] == LOCK_GET) {
        op->out[0] = r ? (r->write ? F_WRLCK : F_RDLCK) : F_UNLCK;
        op->out[1] = r ? (uint64_t)r->start : op->words[3];
        op->out[2] = r ? (r->end == INT64_MAX ? 0 : (uint64_t)(r->end - r->start + 1)) : op->words[4];
        op->out[3] = r ? (r->owner.pid ? r->pid : UINT64_MAX) : 0;
        file_check(op->fs, file);
        return 0;
    }
    if (!r) {
        error = apply(file, &want, op->pid);
        file_check(op->fs, file);
        if (error == 0)
            wake(op->fs, key); /* some of it may be free now */
        return error;
    }
    if (!may_wait(op))
        return -EAGAIN;
    if (op->cancelled)
        return -EINTR;
    if (want.owner.pid && deadlock(op->fs, want.owner.pid, &r->owner, 0))
        return -EDEADLK;
    op->wait_key = key;
    op->cancel = lock_cancel;
    op->wait_next = NULL;
    struct op **p = &file->waiters;
    while (*p)
        p = &(*p)->wait_next;
    *p = op;
    return FS_PENDING;
}

/* ---- flock of files: the host's ---- */

static void flock_retry(void *context) {
    struct op *op = context;
    op->timer = 0;
    op->cancel = NULL;
    op_run(op);
}

static void flock_cancel(struct op *op) { op_finish(op, -EINTR); }

/* The host tells nobody when a lock becomes free: try again, ever less often. */
static int flock_wait(struct op *op, int fd) {
    int operation = (int)op->words[2];
    if (flock(fd, operation | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK || operation & LOCK_NB)
        return -errno;
    if (op->cancelled)
        return -EINTR;
    uint64_t delay_ms = op->words[7] ? op->words[7] : 1;
    op->words[7] = delay_ms * 2 > 50 ? 50 : delay_ms * 2;
    int error = dvk_timer(op->fs->vos->dvk, delay_ms, flock_retry, op, &op->timer);
    if (error < 0)
        return error;
    op->cancel = flock_cancel;
    return FS_PENDING;
}

/* ---- the handler ---- */

static uint64_t key_of(const struct vos_stat *st, bool flock_lock) {
    return hash_mix(st->st_ino ^ hash_mix(st->st_dev)) ^ (flock_lock ? 0x666c6f636bull : 0);
}

/* By path: a file of the image that another node has granted; asked of the primary. */
static int lock_by_path(struct op *op) {
    struct walk found;
    struct vos_stat st;
    op->read_only = false;
    int error = walk(op, 0, WALK_FOLLOW, &found);
    if (error == 0)
        error = place_stat(op, &found.found, &st);
    return error != 0 ? error : lock_at(op, key_of(&st, false));
}

static int lock_granted(struct op *op) {
    if (op->wait_fd < 0) { /* first run: the fd stays with the op */
        if (!op->req || op->req->fd_count == 0)
            return -EBADF;
        op->wait_fd = steal_fd(&op->req->fds[0]);
    }
    if (op->words[1] == LOCK_FLOCK)
        return flock_wait(op, op->wait_fd);
    struct host_identity identity;
    int error = hostfd_identify(op->fs, op->wait_fd, &identity);
    if (error < 0)
        return error;
    if (!op->fs->primary && identity.layer == LAYER_TREE) {
        strcpy(op->path[0], identity.path);
        op->path_count = 1;
        return lock_by_path(op);
    }
    return lock_at(op, key_of(&identity.stat, false));
}

int do_lock(struct op *op) {
    struct object *object = op->object;
    if (op->words[1] > LOCK_FLOCK)
        return -EINVAL;
    if (op->path_count)
        return lock_by_path(op);
    if (!object)
        return lock_granted(op);
    if (object->kind == FS_KIND_TTY || object->kind == FS_KIND_PATH || object->kind == FS_KIND_PIPE ||
        object->kind == FS_KIND_SOCKET)
        return object->kind == FS_KIND_PATH ? -EBADF : -EINVAL;
    struct vos_stat st;
    if (object->kind == FS_KIND_DIR) {
        int error = place_stat(op, &object->place, &st);
        if (error != 0)
            return error;
        return op->words[1] == LOCK_FLOCK ? lock_at(op, key_of(&st, true)) : -EINVAL;
    }
    if (op->words[1] == LOCK_FLOCK)
        return flock_wait(op, object->fd);
    uint32_t mode = object->status_flags & O_ACCMODE;
    if (op->words[1] != LOCK_GET && ((op->words[2] == F_RDLCK && mode == O_WRONLY) || (op->words[2] == F_WRLCK && mode == O_RDONLY)))
        return -EBADF;
    struct host_identity identity;
    int error = hostfd_identify(op->fs, object->fd, &identity);
    return error < 0 ? error : lock_at(op, key_of(&identity.stat, false));
}

/* ---- ends ---- */

typedef bool owner_match(const struct lock_owner *owner, uint64_t argument);

static bool ranges_drop(struct lock_file *file, owner_match *match, uint64_t argument) {
    bool any = false;
    for (struct lock_range **p = &file->ranges, *r; (r = *p);) {
        if (!match(&r->owner, argument)) {
            p = &r->next;
            continue;
        }
        *p = r->next;
        free(r);
        any = true;
    }
    return any;
}

/* From one file. Who waits there may change the table: the search begins anew then. */
static bool drop_somewhere(struct fs *fs, owner_match *match, uint64_t argument) {
    for (size_t i = 0; i < fs->locks.size; i++)
        for (struct hash_link *l = fs->locks.buckets[i]; l; l = l->next) {
            uint64_t key = l->key;
            if (!ranges_drop(hash_entry(l, struct lock_file, link), match, argument))
                continue;
            wake(fs, key);
            struct lock_file *file = file_find(fs, key);
            if (file)
                file_check(fs, file);
            return true;
        }
    return false;
}

static void drop_where(struct fs *fs, owner_match *match, uint64_t argument) {
    while (drop_somewhere(fs, match, argument))
        ;
}

static bool of_pid(const struct lock_owner *owner, uint64_t pid) { return owner->pid == pid && pid; }
static bool of_object(const struct lock_owner *owner, uint64_t object) { return !owner->pid && owner->object == object; }
static bool of_node(const struct lock_owner *owner, uint64_t node) { return owner->pid && owner->node == node; }

void lock_process_gone(struct fs *fs, uint32_t pid) {
    if (fs->locks.count)
        drop_where(fs, of_pid, pid);
}

void lock_object_gone(struct fs *fs, uint64_t object) {
    if (fs->locks.count)
        drop_where(fs, of_object, object);
}

void lock_moved(struct fs *fs, uint32_t pid, uint32_t node) {
    for (size_t i = 0; i < fs->locks.size; i++)
        for (struct hash_link *l = fs->locks.buckets[i]; l; l = l->next)
            for (struct lock_range *r = hash_entry(l, struct lock_file, link)->ranges; r; r = r->next)
                if (r->owner.pid == pid)
                    r->owner.node = node;
}

void lock_node_lost(struct fs *fs, uint32_t node) {
    if (fs->locks.count)
        drop_where(fs, of_node, node);
}

void lock_stop(struct fs *fs) {
    for (size_t i = 0; i < fs->locks.size; i++)
        while (fs->locks.buckets[i]) {
            struct lock_file *file = hash_entry(fs->locks.buckets[i], struct lock_file, link);
            hash_remove(&fs->locks, &file->link);
            while (file->ranges) {
                struct lock_range *r = file->ranges;
                file->ranges = r->next;
                free(r);
            }
            free(file);
        }
}
