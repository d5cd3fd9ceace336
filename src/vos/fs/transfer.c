/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hand-over: host fds that become objects when their process moves (FS_EXPORT, FS_S_ADOPT) and host fds again where it
 * comes to the object's node (FS_REGRANT); and all handles of a process from one fs to another (FS_S_EXPORTS, FS_S_IMPORTS).
 *
 * The old fs keeps its references until the process's end there, which comes after the new fs has answered, and so has its own.
 */
#include "vos/fs/fs.h"
#include "vos/fs/remote.h"

#include <string.h>

/* Takes over fd. NULL and *error: it cannot leave the process. */
static struct object *export_fd(struct fs *fs, int fd, uint32_t status_flags, int *error) {
    cleanup_close int own = fd;
    struct stat st;
    *error = 0;
    int host_flags = fcntl(own, F_GETFL);
    if (host_flags < 0 || fstat(own, &st) < 0) {
        *error = -errno;
        return NULL;
    }
    uint32_t flags = (uint32_t)(host_flags & O_ACCMODE) | (status_flags & (O_APPEND | O_NONBLOCK));
    uint8_t kind = S_ISFIFO(st.st_mode)   ? FS_KIND_PIPE
                   : S_ISCHR(st.st_mode)  ? FS_KIND_CHAR
                   : S_ISSOCK(st.st_mode) ? FS_KIND_SOCKET
                                          : FS_KIND_FILE;
    uint32_t open_flags = 0;
    if (host_flags & O_PATH || (kind == FS_KIND_FILE && !S_ISREG(st.st_mode)) ||
        (kind == FS_KIND_SOCKET && socket_identify(own, &open_flags) < 0)) {
        *error = -EOPNOTSUPP; /* eventfd, epoll and the like live in their process */
        return NULL;
    }
    if (kind == FS_KIND_PIPE) {
        /* Our own description: its O_NONBLOCK must not show in the guests that share the other one. */
        int reopened = hostfd_reopen(fs, own, (host_flags & O_ACCMODE) | O_NONBLOCK);
        /* ENXIO: a writing end without readers. It stays so, and writing to it gives EPIPE without blocking. */
        if (reopened < 0 && reopened != -ENXIO) {
            *error = reopened;
            return NULL;
        }
        if (reopened >= 0) {
            close(own);
            own = reopened;
        }
    }
    struct object *object = object_host(fs, kind, steal_fd(&own), flags);
    if (!object) {
        *error = -ENOMEM;
        return NULL;
    }
    object->open_flags |= open_flags;
    struct host_identity identity;
    if (kind == FS_KIND_FILE && hostfd_identify(fs, object->fd, &identity) == 0 && identity.layer == LAYER_TREE &&
        identity.where == WHERE_IMAGE) {
        object->open_flags |= FS_O_IMMUTABLE;
        object->stat = identity.stat;
    }
    return object;
}

int do_export(struct op *op) {
    int error;
    struct process *process = op_process(op);
    if (!process || !op->req || op->req->fd_count == 0)
        return -EBADF;
    struct object *object = export_fd(op->fs, steal_fd(&op->req->fds[0]), (uint32_t)op->words[1], &error);
    if (!object)
        return error;
    int number = handle_add(op->fs, process, object);
    if (number < 0)
        return number;
    op->out[0] = (uint64_t)number;
    return 0;
}

void transfer_adopt(struct fs *fs, struct dvk_request *req) {
    struct dvk_message reply = {0};
    const uint64_t *words = req->msg.payload.words;
    struct process *process = process_get(fs, (uint32_t)words[0]);
    int error = process ? -EBADF : -ENOMEM;
    struct object *object = process && req->fd_count ? export_fd(fs, steal_fd(&req->fds[0]), (uint32_t)words[2], &error) : NULL;
    int number = object ? handle_add(fs, process, object) : error;
    reply.status = number < 0 ? number : 0;
    reply.payload.words[0] = (uint64_t)number;
    dvk_reply(fs->vos->dvk, req, &reply, NULL, 0);
}

int do_regrant(struct op *op) {
    struct object *object = op->object;
    struct process *process = op_process(op);
    uint32_t flags = object->status_flags;
    struct vos_stat st;
    if (!process || object->node != op->fs->vos->node || object->fd < 0)
        return -EAGAIN;
    int fd;
    if (object->kind == FS_KIND_PIPE) {
        fd = hostfd_reopen(op->fs, object->fd, (int)(flags & O_ACCMODE) | O_NONBLOCK);
        if (fd >= 0 && !(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, 0) < 0) {
            close(fd);
            return -EAGAIN;
        }
    } else
        fd = fcntl(object->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -EAGAIN;
    struct host_identity identity;
    if (object->open_flags & FS_O_IMMUTABLE)
        st = object->stat;
    else if (hostfd_identify(op->fs, fd, &identity) == 0)
        st = identity.stat;
    else {
        close(fd);
        return -EAGAIN;
    }
    int status = open_grant_fd(op, fd, object->kind, object->open_flags, flags, &st);
    if (status >= 0)
        handle_close(op->fs, process, op->words[0]); /* the fd stands for it now */
    return status;
}

/* ---- all that a process has ---- */

static int put_object(struct fs *fs, struct dvk_request *req, uint32_t *at, int64_t handle, struct object *object) {
    struct fs_export entry = {.handle = handle, .object = object->id, .node = object->node, .kind = object->kind,
                              .open_flags = object->open_flags, .status_flags = object->status_flags, .tty = object->tty};
    char path[VOS_PATH_MAX] = "";
    struct stat st;
    if (object->kind == FS_KIND_CHAR && object->fd >= 0 && fstat(object->fd, &st) == 0)
        entry.rdev = st.st_rdev;
    if (object->node != fs->vos->node && object->path)
        strcpy(path, object->path);
    else if (object->node == fs->vos->node && object->kind == FS_KIND_DIR && object->place.layer != LAYER_VOLUME) {
        const struct place *place = &object->place;
        bool stable = place->layer != LAYER_TREE || (!place->dir->removed && (!fs->primary || place->dir->image == IMAGE_PRESENT));
        if (stable && place_path(NULL, place, path) < 0)
            path[0] = '\0';
    }
    entry.path_len = (uint32_t)strlen(path);
    size_t padded = (entry.path_len + 7u) & ~(size_t)7;
    if (*at + sizeof(entry) + padded > req->reply_cap)
        return -E2BIG;
    uint8_t *out = req->reply_data;
    memcpy(out + *at, &entry, sizeof(entry));
    memset(out + *at + sizeof(entry), 0, padded);
    memcpy(out + *at + sizeof(entry), path, entry.path_len);
    *at += (uint32_t)(sizeof(entry) + padded);
    return 0;
}

void transfer_exports(struct fs *fs, struct dvk_request *req, uint32_t pid) {
    struct process *process = process_find(fs, pid);
    struct fs_export_head head = {.magic = FS_EXPORT_MAGIC};
    struct dvk_message reply = {0};
    uint32_t at = sizeof(head);
    int error = process ? put_object(fs, req, &at, -1, process->cwd) : -ESRCH;
    head.count = 1;
    for (uint32_t i = 0; error == 0 && i < process->handle_cap; i++)
        if (process->handles[i]) {
            error = put_object(fs, req, &at, i, process->handles[i]);
            head.count++;
        }
    if (error == 0) {
        memcpy(head.lock_nodes, process->lock_nodes, sizeof(head.lock_nodes));
        head.lock_nodes[fs->vos->node / 64] |= fs->locks.count ? 1ull << fs->vos->node % 64 : 0;
        memcpy(req->reply_data, &head, sizeof(head));
        reply.data_len = at;
        process->moving = true;
    }
    reply.status = error;
    dvk_reply(fs->vos->dvk, req, &reply, NULL, 0);
}

/* A process's arrival: counts what is still to be answered. */
struct arrival {
    struct fs *fs;
    struct dvk_request *req;
    unsigned awaited;
};

static void arrival_step(void *context, int status) {
    struct arrival *arrival = context;
    /* What could not be had is a handle whose operations give EIO: the process comes all the same. */
    if (status < 0)
        log_warning("fs: an open file of an arriving process is lost: %d", status);
    if (--arrival->awaited)
        return;
    dvk_reply_status(arrival->fs->vos->dvk, arrival->req, 0);
    free(arrival);
}

static int put_handle(struct fs *fs, struct process *process, int64_t number, struct object *object) {
    if (number == -1) {
        object_drop(fs, process->cwd);
        process->cwd = object;
        return 0;
    }
    if (number < 0 || number >= 65536) {
        object_drop(fs, object);
        return -EPROTO;
    }
    while ((uint64_t)number >= process->handle_cap) {
        uint32_t cap = process->handle_cap ? process->handle_cap * 2 : 8;
        struct object **grown = realloc(process->handles, cap * sizeof(*grown));
        if (!grown) {
            object_drop(fs, object);
            return -ENOMEM;
        }
        memset(grown + process->handle_cap, 0, (cap - process->handle_cap) * sizeof(*grown));
        process->handles = grown;
        process->handle_cap = cap;
    }
    if (process->handles[number])
        object_drop(fs, process->handles[number]);
    process->handles[number] = object;
    return 0;
}

/* A directory by its lasting name. */
static struct object *dir_by_path(struct fs *fs, const char *path) {
    struct op *op = op_new(fs, NULL);
    struct object *object = NULL;
    struct place place;
    if (op && walk_canonical(op, path, &place) == 0)
        object = object_place(fs, FS_KIND_DIR, &place, O_RDONLY);
    if (op)
        op_finish(op, 0);
    return object;
}

static int import_one(struct arrival *arrival, struct process *process, const struct fs_export *entry, const char *path) {
    struct fs *fs = arrival->fs;
    struct object *object = NULL;
    if (entry->kind == FS_KIND_TTY) {
        arrival->awaited++;
        object = tty_object(fs, entry->tty, entry->status_flags, arrival_step, arrival);
        if (!object)
            arrival->awaited--;
    } else if (entry->kind == FS_KIND_CHAR && entry->rdev) {
        int fd = dev_reopen(fs, entry->rdev, (int)(entry->status_flags & (O_ACCMODE | O_NONBLOCK)));
        if (fd >= 0)
            object = object_host(fs, FS_KIND_CHAR, fd, entry->status_flags);
    }
    if (!object && entry->handle == -1 && *path)
        object = dir_by_path(fs, path);
    if (!object && entry->node == fs->vos->node) {
        object = object_find(fs, entry->node, entry->object);
        if (object)
            object_hold(object);
    } else if (!object) {
        bool known = object_find(fs, entry->node, entry->object) != NULL;
        object = object_proxy(fs, entry->node, entry->object, (uint8_t)entry->kind, entry->open_flags, entry->status_flags);
        if (object && !known) {
            object->importing = true;
            if (*path)
                object->path = strdup(path);
            arrival->awaited++;
            remote_addref(fs, object, arrival_step, arrival);
        }
    }
    return object ? put_handle(fs, process, entry->handle, object) : -EBADF;
}

void transfer_imports(struct fs *fs, struct dvk_request *req, uint32_t pid) {
    struct arrival *arrival = calloc(1, sizeof(*arrival));
    struct process *process = process_get(fs, pid);
    uint8_t *copy = malloc(req->msg.data_len + 1u); /* checked and used from a private copy */
    struct fs_export_head head = {0};
    int error = arrival && process && copy ? 0 : -ENOMEM;
    if (error == 0) {
        memcpy(copy, req->data, req->msg.data_len);
        if (req->msg.data_len >= sizeof(head))
            memcpy(&head, copy, sizeof(head));
        if (head.magic != FS_EXPORT_MAGIC)
            error = -EPROTO;
    }
    if (error < 0) {
        free(arrival);
        free(copy);
        dvk_reply_status(fs->vos->dvk, req, error);
        return;
    }
    *arrival = (struct arrival){.fs = fs, .req = req, .awaited = 1};
    memcpy(process->lock_nodes, head.lock_nodes, sizeof(process->lock_nodes));
    remote_locks(fs, process, true);
    uint32_t at = sizeof(head), len = req->msg.data_len;
    for (uint32_t i = 0; i < head.count; i++) {
        struct fs_export entry;
        char path[VOS_PATH_MAX];
        if (len - at < sizeof(entry))
            break;
        memcpy(&entry, copy + at, sizeof(entry));
        at += (uint32_t)sizeof(entry);
        size_t padded = ((size_t)entry.path_len + 7u) & ~(size_t)7;
        if (entry.path_len >= VOS_PATH_MAX || len - at < padded)
            break;
        memcpy(path, copy + at, entry.path_len);
        path[entry.path_len] = '\0';
        at += (uint32_t)padded;
        error = import_one(arrival, process, &entry, path);
        if (error < 0)
            log_warning("fs: process %u: handle %lld cannot be taken over: %d", pid, (long long)entry.handle, error);
    }
    free(copy);
    arrival_step(arrival, 0);
}
