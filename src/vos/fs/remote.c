/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the fs servers of a DC; remote.h says what they are. */
#include "vos/fs/remote.h"
#include "vos/fs/fs.h"

#include <dvk/error.h>
#include <string.h>

int remote_errno(int dvk_status) {
    if (dvk_status == -DVK_EINTERRUPTED)
        return -EINTR;
    return dvk_status <= -DVK_ERROR_BASE || dvk_status >= 0 ? -EIO : dvk_status;
}

/* ---- bytes to and from a message ---- */

struct packer {
    uint8_t *at, *end;
    bool full;
};

static void pack(struct packer *packer, const void *data, size_t len) {
    if ((size_t)(packer->end - packer->at) < len) {
        packer->full = true;
        return;
    }
    if (len)
        memcpy(packer->at, data, len);
    packer->at += len;
}
static void pack_string(struct packer *packer, const char *text) { pack(packer, text, strlen(text) + 1); }

struct unpacker {
    const uint8_t *at, *end;
};

static int unpack(struct unpacker *unpacker, void *out, size_t len) {
    if ((size_t)(unpacker->end - unpacker->at) < len)
        return -EPROTO;
    memcpy(out, unpacker->at, len);
    unpacker->at += len;
    return 0;
}

/* A string that stays in the message's bytes; these are a private copy or come from a trusted server. */
static const char *unpack_string(struct unpacker *unpacker) {
    const uint8_t *end = memchr(unpacker->at, 0, (size_t)(unpacker->end - unpacker->at));
    const char *text = (const char *)unpacker->at;
    if (!end || end - unpacker->at >= VOS_PATH_MAX)
        return NULL;
    unpacker->at = end + 1;
    return text;
}

/* ---- asking ---- */

static bool is_member(struct fs *fs, uint64_t node) {
    for (uint32_t i = 0; i < fs->vos->node_count; i++)
        if (fs->vos->nodes[i].id == node)
            return true;
    return false;
}

static void set_start(struct op *op, unsigned index, enum fs_remote_start kind, const char *path) {
    struct start *start = &op->start[index];
    if (start->object)
        object_drop(op->fs, start->object);
    *start = (struct start){.kind = kind == FS_REMOTE_PATH ? START_PATH : START_ROOT};
    if (path) {
        start->path = op_alloc(op, strlen(path) + 1);
        if (start->path)
            strcpy(start->path, path);
    }
}

/* The other server sends us on. */
static int take_forward(struct op *op, const struct dvk_message *reply, const void *data, size_t len) {
    struct unpacker unpacker = {data, (const uint8_t *)data + len};
    uint64_t index = reply->payload.words[0], node = reply->payload.words[1];
    const char *base = unpack_string(&unpacker), *rest = base ? unpack_string(&unpacker) : NULL;
    if (index > 1 || !rest || base[0] != '/' || !is_member(op->fs, node))
        return -EPROTO;
    set_start(op, (unsigned)index, FS_REMOTE_PATH, base);
    if (!op->start[index].path)
        return -ENOMEM;
    strcpy(op->path[index], rest);
    op->links = (uint32_t)reply->payload.words[2];
    op->focus = reply->payload.words[3] & 1;
    op->swaps = (uint32_t)reply->payload.words[4] & 0xff;
    op->target = (uint32_t)node;
    return ++op->hops > FS_MAX_LINKS ? -ELOOP : 0;
}

static void take_leases(struct op *op, const struct dvk_message *reply, const void *data, size_t len) {
    struct unpacker unpacker = {data, (const uint8_t *)data + len};
    for (uint64_t i = 0; i < reply->payload.words[20]; i++) {
        const char *path = unpack_string(&unpacker);
        if (!path || lease_install(op->fs, path, reply->payload.words[21] + i) < 0)
            break;
    }
    if (++op->hops > 2)
        op->no_lease = true;
}

/* The object that the answer opened; its stable path, if any, follows the data. */
static int take_object(struct op *op, uint32_t node, const struct dvk_message *reply, const void *data, size_t len) {
    const uint64_t *words = reply->payload.words;
    const char *path = words[23] && words[22] < len ? (const char *)data + words[22] : NULL;
    if (path && (path[0] != '/' || !memchr(path, 0, len - words[22])))
        return -EPROTO;
    if (op->type == FS_CHDIR && path) {
        struct op *inner = op_new(op->fs, NULL);
        if (!inner)
            return -ENOMEM;
        struct walk found;
        set_start(inner, 0, FS_REMOTE_PATH, path);
        /* No more than a name for a directory that the primary has checked. */
        int error = inner->start[0].path ? walk_canonical(inner, path, &found.found) : -ENOMEM;
        if (error == 0) {
            op->out_object = object_place(op->fs, FS_KIND_DIR, &found.found, O_RDONLY);
            if (!op->out_object)
                error = -ENOMEM;
        }
        op_finish(inner, 0);
        return error;
    }
    op->out_object = object_proxy(op->fs, node, words[0], (uint8_t)words[1], (uint32_t)words[2], (uint32_t)words[3]);
    if (!op->out_object)
        return -ENOMEM;
    if (path && !op->out_object->path)
        op->out_object->path = strdup(path);
    op->out[2] = op->out_object->open_flags;
    return 0;
}

static void note_lock(struct op *op, uint32_t node);

static void path_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                      const int *fds, unsigned fd_count) {
    struct op *op = context;
    uint32_t node = op->target;
    op->call = 0;
    if (status < 0) {
        op_finish(op, remote_errno(status));
        return;
    }
    if (reply->status == FS_FORWARD) {
        status = take_forward(op, reply, data, len);
        if (status < 0)
            op_finish(op, status);
        else if (op->target == op->fs->vos->node)
            op_run(op);
        else
            remote_forward_path(op, op->target);
        return;
    }
    if (reply->status == FS_LOCALLY) {
        take_leases(op, reply, data, len);
        op_run(op);
        return;
    }
    uint64_t own = reply->payload.words[22];
    status = reply->status;
    memcpy(op->out, reply->payload.words, sizeof(op->out));
    op->out_len = 0;
    if (status >= 0 && own <= len)
        status = op_put(op, data, own) < 0 ? -EOVERFLOW : status;
    if (status >= 0 && (op->type == FS_OPEN || op->type == FS_CHDIR)) {
        int error = take_object(op, node, reply, data, len);
        if (error < 0)
            status = error;
    }
    op_finish(op, status);
}

static _Thread_local uint8_t wire[DVK_DATA_MAX];

void remote_forward_path(struct op *op, uint32_t node) {
    struct packer packer = {wire, wire + sizeof(wire), false};
    struct fs_remote_path head = {.version = FS_REMOTE_VERSION, .type = op->type, .uid = op->creds->uid, .gid = op->creds->gid,
                                  .group_count = op->creds->group_count, .pid = op->pid, .links = op->links,
                                  .flags = (op->no_lease ? FS_REMOTE_NO_LEASE : 0u) | (op->focus ? FS_REMOTE_FOCUS : 0u) |
                                           op->swaps << FS_REMOTE_SWAPS_SHIFT,
                                  .paths = op->path_count, .hops = op->hops};
    const struct op_row *row = table_find(op->type);
    if (row && row->flags & OP_NAME2)
        head.paths = 2;
    for (unsigned i = 0; i < 2; i++) {
        const struct start *start = &op->start[i];
        bool local_object = start->kind == START_OBJECT && start->object->node == op->fs->vos->node;
        head.start_kind[i] = start->kind == START_PATH || local_object ? FS_REMOTE_PATH
                             : start->kind == START_OBJECT            ? FS_REMOTE_OBJECT
                                                                      : FS_REMOTE_ROOT;
        if (head.start_kind[i] == FS_REMOTE_OBJECT) {
            if (start->object->node != node && start->object->path)
                head.start_kind[i] = FS_REMOTE_PATH;
            else if (start->object->node != node) {
                op_finish(op, -EXDEV); /* two directories of two nodes, one of them without a lasting name */
                return;
            }
            head.start_object[i] = start->object->id;
        }
    }
    memcpy(head.words, op->words, sizeof(head.words));
    pack(&packer, &head, sizeof(head));
    pack(&packer, op->creds->groups, op->creds->group_count * sizeof(uint32_t));
    for (unsigned i = 0; i < 2; i++)
        if (head.start_kind[i] == FS_REMOTE_PATH) {
            const struct start *start = &op->start[i];
            char path[VOS_PATH_MAX];
            int length = 0;
            if (start->kind == START_OBJECT && start->object->node == op->fs->vos->node) {
                length = start->object->kind == FS_KIND_DIR || S_ISDIR(start->object->place.mode)
                             ? place_path(op, &start->object->place, path) : -ENOTDIR;
                if (length < 0) {
                    op_finish(op, length);
                    return;
                }
            }
            pack_string(&packer, length ? path : start->kind == START_PATH ? start->path : start->object->path);
        }
    for (unsigned i = 0; i < head.paths; i++)
        pack_string(&packer, op->path[i]);
    pack(&packer, op->data, op->data_len);
    struct dvk_message message = {.destination = vos_service(node, DVK_SERVICE_FS), .type = FS_S_PATH};
    message.data_len = (uint32_t)(packer.at - wire);
    op->target = node;
    note_lock(op, node);
    int error = packer.full || head.group_count > FS_REMOTE_GROUPS
                    ? -E2BIG
                    : dvk_call(op->fs->vos->dvk, op->fs->vos->self[DVK_SERVICE_FS], &message, wire, message.data_len, NULL, 0,
                               path_done, op, &op->call);
    if (error < 0)
        op_finish(op, remote_errno(error));
}

static void object_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                        const int *fds, unsigned fd_count) {
    struct op *op = context;
    op->call = 0;
    if (status >= 0 && reply->status == FS_FORWARD && op->type == FS_FSTAT) {
        /* A directory, opened at a node that could answer for it then, but cannot now: by its path. */
        status = take_forward(op, reply, data, len);
        op->type = FS_STAT;
        op->words[1] = AT_SYMLINK_NOFOLLOW;
        op->path_count = 1;
        op->read_only = true;
        if (status < 0)
            op_finish(op, status);
        else if (op->target == op->fs->vos->node)
            op_run(op);
        else
            remote_forward_path(op, op->target);
        return;
    }
    if (status < 0)
        status = remote_errno(status);
    else {
        status = reply->status;
        memcpy(op->out, reply->payload.words, sizeof(op->out));
        op->out_len = 0;
        if (status >= 0 && op_put(op, data, len) < 0)
            status = -EOVERFLOW;
    }
    op_finish(op, status);
}

void remote_forward_object(struct op *op, struct object *object) {
    if (op->object != object) {
        object_hold(object);
        if (op->object)
            object_drop(op->fs, op->object);
        op->object = object;
    }
    if (object->dead) {
        op_finish(op, -EIO);
        return;
    }
    struct dvk_message message = {.destination = vos_service(object->node, DVK_SERVICE_FS), .type = FS_S_OBJECT,
                                  .data_len = op->data_len};
    memcpy(message.payload.words, op->words, sizeof(op->words));
    message.payload.words[20] = op->type;
    message.payload.words[21] = object->id;
    message.payload.words[22] = op->pid;
    note_lock(op, object->node);
    if (op->type == FS_SETFL) /* what fork copies stays right */
        object->status_flags = (object->status_flags & O_ACCMODE) | (uint32_t)op->words[1];
    int error = dvk_call(op->fs->vos->dvk, op->fs->vos->self[DVK_SERVICE_FS], &message, op->data, op->data_len, NULL, 0,
                         object_done, op, &op->call);
    if (error < 0)
        op_finish(op, remote_errno(error));
}

/* Where the caller may hold locks from now on. */
static void note_lock(struct op *op, uint32_t node) {
    struct process *process = op_process(op);
    if (process && op->type == FS_LOCK)
        process->lock_nodes[node / 64] |= 1ull << node % 64;
}

/* Nothing waits for it. */
static void ignore_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                        const int *fds, unsigned fd_count) {}

void remote_drop(struct fs *fs, uint32_t node, uint64_t id, uint32_t count) {
    struct dvk_message message = {.destination = vos_service(node, DVK_SERVICE_FS), .type = FS_S_DROP};
    message.payload.words[0] = id;
    message.payload.words[1] = count;
    /* A node that cannot be reached is gone or will see our loss: its references go either way. */
    (void)dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, ignore_done, NULL, NULL);
}

void remote_locks(struct fs *fs, struct process *process, bool here) {
    for (uint32_t node = 1; node <= VOS_MAX_NODES; node++) {
        if (!(process->lock_nodes[node / 64] & 1ull << node % 64))
            continue;
        if (node == fs->vos->node) {
            if (here)
                lock_moved(fs, process->pid, node);
            else
                lock_process_gone(fs, process->pid);
            continue;
        }
        struct dvk_message message = {.destination = vos_service(node, DVK_SERVICE_FS), .type = FS_S_LOCKS};
        message.payload.words[0] = process->pid;
        message.payload.words[1] = here;
        (void)dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, ignore_done, NULL, NULL);
    }
}

struct addref {
    struct fs *fs;
    struct object *proxy;
    void (*done)(void *context, int status);
    void *context;
};

static void addref_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                        const int *fds, unsigned fd_count) {
    struct addref *addref = context;
    if (status < 0 || reply->status < 0)
        addref->proxy->dead = true; /* no reference there: nothing to drop, and nothing to use */
    addref->proxy->importing = false;
    addref->done(addref->context, status < 0 ? remote_errno(status) : reply->status);
    object_drop(addref->fs, addref->proxy);
    free(addref);
}

void remote_addref(struct fs *fs, struct object *proxy, void (*done)(void *context, int status), void *context) {
    struct addref *addref = malloc(sizeof(*addref));
    struct dvk_message message = {.destination = vos_service(proxy->node, DVK_SERVICE_FS), .type = FS_S_ADDREF};
    message.payload.words[0] = proxy->id;
    int error = -ENOMEM;
    if (addref) {
        *addref = (struct addref){fs, object_hold(proxy), done, context};
        error = dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, addref_done, addref, NULL);
    }
    if (error < 0) {
        proxy->dead = true;
        proxy->importing = false;
        if (addref)
            object_drop(fs, proxy);
        free(addref);
        done(context, remote_errno(error));
    }
}

/* ---- answering ---- */

static int take_path_request(struct op *op, struct fs *fs) {
    const struct dvk_request *req = op->req;
    struct unpacker unpacker = {req->data, (const uint8_t *)req->data + req->msg.data_len};
    struct fs_remote_path head;
    uint32_t groups[FS_REMOTE_GROUPS];
    int error = unpack(&unpacker, &head, sizeof(head));
    if (error == 0 && (head.version != FS_REMOTE_VERSION || head.group_count > FS_REMOTE_GROUPS || head.paths > 2 || !head.paths))
        error = -EPROTO;
    if (error == 0)
        error = unpack(&unpacker, groups, head.group_count * sizeof(uint32_t));
    const struct op_row *row = error == 0 ? table_find(head.type) : NULL;
    if (error < 0 || !row || !(row->flags & OP_PATH || head.type == FS_LOCK))
        return error < 0 ? error : -ENOSYS;
    op->type = head.type;
    op->pid = head.pid;
    op->links = head.links;
    op->hops = head.hops;
    op->no_lease = head.flags & FS_REMOTE_NO_LEASE;
    op->focus = head.flags & FS_REMOTE_FOCUS ? 1 : 0;
    op->swaps = head.flags >> FS_REMOTE_SWAPS_SHIFT & 0xff;
    op->read_only = row->flags & OP_READ;
    op->path_count = row->flags & OP_NAME2 ? 1 : head.paths;
    memcpy(op->words, head.words, sizeof(op->words));
    creds_drop(op->creds);
    op->creds = creds_new(head.uid, head.gid, groups, head.group_count);
    if (!op->creds)
        return -ENOMEM;
    for (unsigned i = 0; i < 2; i++) {
        if (head.start_kind[i] == FS_REMOTE_PATH) {
            const char *path = unpack_string(&unpacker);
            if (!path || path[0] != '/')
                return -EPROTO;
            set_start(op, i, FS_REMOTE_PATH, path);
            if (!op->start[i].path)
                return -ENOMEM;
        } else if (head.start_kind[i] == FS_REMOTE_OBJECT) {
            struct object *object = object_find(fs, fs->vos->node, head.start_object[i]);
            if (!object)
                return -EBADF;
            op->start[i] = (struct start){.kind = START_OBJECT, .object = object_hold(object)};
        }
    }
    for (unsigned i = 0; i < head.paths; i++) {
        const char *path = unpack_string(&unpacker);
        if (!path)
            return -EPROTO;
        strcpy(op->path[i], path);
    }
    op->data = unpacker.at;
    op->data_len = (uint32_t)(unpacker.end - unpacker.at);
    return 0;
}

static void object_request(struct fs *fs, struct op *op) {
    const uint64_t *words = op->req->msg.payload.words;
    struct object *object = object_find(fs, fs->vos->node, words[21]);
    const struct op_row *row = table_find((uint32_t)words[20]);
    op->creds = creds_new(0, 0, NULL, 0);
    if (!object || !row || !op->creds || !(row->flags & OP_HANDLE || row->type == FS_GETCWD || row->type == FS_HOSTFD_INFO)) {
        op_finish(op, !object ? -EBADF : !op->creds ? -ENOMEM : -ENOSYS);
        return;
    }
    op->type = row->type;
    op->read_only = row->flags & OP_READ;
    op->no_lease = true; /* it is ours to answer: the asker has no path to look up */
    op->pid = (uint32_t)words[22];
    op->object = object_hold(object);
    op->data = op->req->data;
    op->data_len = op->req->msg.data_len;
    op_run(op);
}

static int reference_request(struct fs *fs, struct dvk_request *req, uint32_t node) {
    const uint64_t *words = req->msg.payload.words;
    struct object *object = object_find(fs, fs->vos->node, words[0]);
    if (!object)
        return -EBADF;
    if (req->msg.type == FS_S_ADDREF)
        return object_share_add(fs, object, node);
    object_share_drop(fs, object, node, (uint32_t)words[1]);
    return 0;
}

static int revoke_request(struct fs *fs, struct dvk_request *req, uint32_t node) {
    struct unpacker unpacker = {req->data, (const uint8_t *)req->data + req->msg.data_len};
    const char *path = unpack_string(&unpacker);
    if (node != fs->vos->primary || !path)
        return -EPROTO;
    lease_revoked(fs, path, req->msg.payload.words[0]);
    return 0;
}

void remote_request(struct fs *fs, struct dvk_request *req, uint32_t node) {
    int status;
    struct op *op;
    if (!is_member(fs, node)) {
        dvk_reply_status(fs->vos->dvk, req, -EPERM);
        return;
    }
    switch (req->msg.type) {
    case FS_S_PATH:
    case FS_S_OBJECT:
        op = op_new(fs, req);
        if (!op) {
            status = -ENOMEM;
            break;
        }
        op->remote = true;
        op->node = node;
        if (req->msg.type == FS_S_OBJECT) {
            object_request(fs, op);
            return;
        }
        status = take_path_request(op, fs);
        if (status < 0)
            op_finish(op, status);
        else
            op_run(op);
        return;
    case FS_S_ADDREF:
    case FS_S_DROP: status = reference_request(fs, req, node); break;
    case FS_S_REVOKE: status = revoke_request(fs, req, node); break;
    case FS_S_LOCKS:
        if (req->msg.payload.words[1])
            lock_moved(fs, (uint32_t)req->msg.payload.words[0], node);
        else
            lock_process_gone(fs, (uint32_t)req->msg.payload.words[0]);
        status = 0;
        break;
    case FS_S_SHM_DROP: status = node == fs->vos->primary ? shm_drop(fs, req->msg.payload.words[0]) : -EPERM; break;
    default: status = -ENOSYS; break;
    }
    dvk_reply_status(fs->vos->dvk, req, status);
}

static void put_leases(struct op *op, struct dvk_message *reply) {
    char path[VOS_PATH_MAX + FS_NAME_MAX + 2];
    uint64_t count = 0;
    op->out_len = 0;
    reply->payload.words[21] = op->fs->lease_sequence + 1;
    for (unsigned i = 0; i < op->lease_count; i++) {
        int length = tree_path(op->lease[i].dir, path);
        if (length < 0)
            continue;
        if (length == 1)
            length = 0;
        path[length] = '/';
        strcpy(path + length + 1, op->lease[i].name);
        if (strlen(path) >= VOS_PATH_MAX || lease_grant(op, op->lease[i].dir, op->lease[i].name) < 0 ||
            op_put(op, path, strlen(path) + 1) < 0)
            break;
        count++;
    }
    reply->payload.words[20] = count;
}

static int put_forward(struct op *op, struct dvk_message *reply) {
    unsigned index = op->forward_index;
    const struct start *start = &op->start[index];
    if (start->kind != START_PATH)
        return -EXDEV;
    op->out_len = 0;
    reply->payload.words[0] = index;
    reply->payload.words[1] = op->target;
    reply->payload.words[2] = op->links;
    reply->payload.words[3] = op->focus;
    reply->payload.words[4] = op->swaps;
    int error = op_put(op, start->path, strlen(start->path) + 1);
    return error == 0 ? op_put(op, op->path[index], strlen(op->path[index]) + 1) : error;
}

/* Directories whose path never changes: those of the image. */
static bool stable_path(struct op *op, struct object *object, char *path) {
    return object->kind == FS_KIND_DIR && object->place.layer == LAYER_TREE && !object->place.dir->removed &&
           object->place.dir->image == IMAGE_PRESENT && place_path(op, &object->place, path) > 0;
}

void remote_reply(struct op *op, int status) {
    struct fs *fs = op->fs;
    struct dvk_message reply = {.status = status};
    char path[VOS_PATH_MAX];
    if (status == FS_LOCALLY)
        put_leases(op, &reply);
    else if (status == FS_FORWARD) {
        int error = put_forward(op, &reply);
        if (error < 0)
            reply.status = error;
    } else if (status >= 0) {
        memcpy(reply.payload.words, op->out, sizeof(op->out));
        reply.payload.words[22] = op->out_len;
        if (op->out_object) {
            if (stable_path(op, op->out_object, path) && op_put(op, path, strlen(path) + 1) == 0)
                reply.payload.words[23] = 1;
            if (op->type != FS_CHDIR || !reply.payload.words[23]) {
                int error = object_share_add(fs, op->out_object, op->node);
                if (error < 0)
                    reply.status = error;
            }
        }
    }
    reply.data_len = reply.status >= 0 || reply.status == FS_LOCALLY || reply.status == FS_FORWARD ? op->out_len : 0;
    dvk_reply(fs->vos->dvk, op->req, &reply, NULL, 0);
}
