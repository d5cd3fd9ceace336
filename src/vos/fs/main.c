/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fs module: takes requests in, makes ops of them, runs and answers them.
 */
#include "vos/fs/fs.h"

#include <signal.h>
#include <string.h>

struct fs *fs_of(struct vos *vos) { return vos->state[DVK_SERVICE_FS]; }

/* ---- ops ---- */

struct op_block {
    struct op_block *next;
    _Alignas(16) char bytes[];
};

struct op *op_new(struct fs *fs, struct dvk_request *req) {
    struct op *op = fs->free_ops;
    if (op) {
        fs->free_ops = op->next;
        fs->free_count--;
    } else {
        op = malloc(sizeof(*op));
        if (!op)
            return NULL;
    }
    /* The big buffers at the end need no clearing. */
    memset(op, 0, offsetof(struct op, local_reply));
    op->path[0][0] = op->path[1][0] = '\0';
    op->fs = fs;
    op->req = req;
    op->out_fd = op->wait_fd = -1;
    op->node = fs->vos->node;
    op->next = fs->ops;
    op->prev = &fs->ops;
    if (op->next)
        op->next->prev = &op->next;
    fs->ops = op;
    if (req) {
        req->user = op;
        op->type = req->msg.type;
        memcpy(op->words, req->msg.payload.words, sizeof(op->words));
        op->out_data = req->reply_data;
        op->out_cap = req->reply_cap;
    } else {
        op->creds = creds_new(0, 0, NULL, 0);
        op->out_data = op->local_reply;
        op->out_cap = sizeof(op->local_reply);
    }
    return op;
}

void *op_alloc(struct op *op, size_t len) {
    struct op_block *block = malloc(sizeof(*block) + len);
    if (!block)
        return NULL;
    block->next = op->keep_memory;
    op->keep_memory = block;
    return block->bytes;
}

int op_keep_fd(struct op *op, int fd) {
    if (fd < 0)
        return fd;
    if (op->keep_count < ARRAY_LENGTH(op->keep_fds))
        return op->keep_fds[op->keep_count++] = fd;
    /* Long paths in a volume. None is closed early: of two paths the first one's directory is still needed. */
    unsigned more = op->keep_count - ARRAY_LENGTH(op->keep_fds);
    int *grown = more % 64 ? op->keep_more : realloc(op->keep_more, (more + 64) * sizeof(*grown));
    if (!grown) {
        close(fd);
        return -EMFILE;
    }
    op->keep_more = grown;
    op->keep_count++;
    return op->keep_more[more] = fd;
}

void op_reset(struct op *op) {
    for (unsigned i = 0; i < op->keep_count; i++)
        close(i < ARRAY_LENGTH(op->keep_fds) ? op->keep_fds[i] : op->keep_more[i - ARRAY_LENGTH(op->keep_fds)]);
    op->keep_count = 0;
    free(op->keep_more);
    op->keep_more = NULL;
    op->lease_count = 0;
    op->lease_bad = false;
    op->out_len = 0;
    memset(op->out, 0, sizeof(op->out));
    if (op->out_fd >= 0)
        close(op->out_fd);
    op->out_fd = -1;
    if (op->out_object)
        object_drop(op->fs, op->out_object);
    op->out_object = NULL;
}

static void op_free(struct op *op) {
    struct fs *fs = op->fs;
    op_reset(op);
    for (struct op_block *block = op->keep_memory, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    lease_forget_op(op);
    if (op->info)
        proc_info_free(op->info);
    if (op->object)
        object_drop(fs, op->object);
    for (unsigned i = 0; i < 2; i++)
        if (op->start[i].object)
            object_drop(fs, op->start[i].object);
    creds_drop(op->creds);
    if (op->wait_fd >= 0)
        close(op->wait_fd);
    if (op->timer)
        dvk_timer_cancel(fs->vos->dvk, op->timer);
    *op->prev = op->next;
    if (op->next)
        op->next->prev = op->prev;
    if (fs->free_count >= 64) {
        free(op);
        return;
    }
    op->next = fs->free_ops;
    fs->free_ops = op;
    fs->free_count++;
}

struct process *op_process(struct op *op) { return op->remote ? NULL : process_find(op->fs, op->pid); }

int op_as_caller(struct op *op) {
    int error = creds_apply(op->creds);
    if (error < 0)
        creds_apply(NULL);
    return error;
}

/* Failure shows when the next op takes rights on; ours can always be had back. */
void op_as_root(struct op *op) { (void)creds_apply(NULL); }

int op_put(struct op *op, const void *data, size_t len) {
    if (len > op->out_cap - op->out_len)
        return -EOVERFLOW;
    memcpy(op->out_data + op->out_len, data, len);
    op->out_len += (uint32_t)len;
    return 0;
}

/* A new handle or working directory for what a local op opened. */
static int install_object(struct op *op, int status) {
    struct process *process = op_process(op);
    if (!process)
        return -ESRCH;
    struct object *object = op->out_object;
    op->out_object = NULL;
    if (op->type == FS_CHDIR) {
        object_drop(op->fs, process->cwd);
        process->cwd = object;
        return 0;
    }
    int number = handle_add(op->fs, process, object);
    if (number < 0)
        return number;
    op->out[0] = (uint64_t)number;
    return status;
}

/* What the table of names calls the directory that a path began in. */
static uint32_t start_number(const struct op *op) {
    const struct object *object = op->start[0].kind == START_OBJECT ? op->start[0].object : NULL;
    bool dir = object && object->node == op->fs->vos->node && object->kind == FS_KIND_DIR && object->place.layer == LAYER_TREE;
    return dir ? names_number(op->fs, object->place.dir) : 0;
}

void op_finish(struct op *op, int status) {
    struct fs *fs = op->fs;
    if (op->remote) {
        remote_reply(op, status);
        op_free(op);
        return;
    }
    if (status >= 0 && op->out_object && op->req)
        status = install_object(op, status);
    if (op->req) {
        struct dvk_message reply = {.status = status};
        if (status >= 0) {
            memcpy(reply.payload.words, op->out, sizeof(op->out));
            reply.data_len = op->out_len;
        }
        reply.payload.words[FS_W_NUMBER] = start_number(op);
        dvk_reply(fs->vos->dvk, op->req, &reply, &op->out_fd, status >= 0 && op->out_fd >= 0);
    } else if (op->done)
        op->done(op, status);
    op_free(op);
}

void op_run(struct op *op) {
    struct fs *fs = op->fs;
    const struct op_row *row = table_find(op->type);
    for (;;) {
        op_reset(op);
        op->cancel = NULL;
        op->call = 0;
        int status = creds_apply(NULL);
        if (status == 0)
            status = row ? row->handler(op) : -ENOSYS;
        switch (status) {
        case FS_PENDING: return;
        case FS_LOCALLY: remote_reply(op, FS_LOCALLY); op_free(op); return;
        case FS_FORWARD:
            if (++op->hops > FS_MAX_LINKS) {
                op_finish(op, -ELOOP);
                return;
            }
            if (op->remote) {
                remote_reply(op, FS_FORWARD);
                op_free(op);
                return;
            }
            if (op->target == fs->vos->node)
                continue;
            remote_forward_path(op, op->target);
            return;
        default: op_finish(op, status); return;
        }
    }
}

/* ---- requests of guests ---- */

static int take_start(struct op *op, struct process *process, unsigned index, uint64_t number) {
    struct start *start = &op->start[index];
    if (op->path[index][0] == '/')
        return 0;
    struct object *object = (int32_t)number == VOS_CWD ? process->cwd : handle_get(process, number);
    if (!object)
        return -EBADF;
    *start = (struct start){.kind = START_OBJECT, .object = object_hold(object)};
    return 0;
}

/* One NUL-terminated string from data that its writer may still change. */
static int take_string(const struct dvk_request *req, uint32_t *at, char *out) {
    const char *data = req->data;
    for (uint32_t i = 0; *at < req->msg.data_len; i++) {
        if (i == VOS_PATH_MAX)
            return -ENAMETOOLONG;
        char c = ((const volatile char *)data)[(*at)++];
        out[i] = c;
        if (!c)
            return 0;
    }
    return -EINVAL;
}

static int take_paths(struct op *op, struct process *process, uint32_t flags) {
    uint32_t at = 0;
    int error = take_string(op->req, &at, op->path[op->type == FS_SYMLINK]);
    if (error == 0 && (flags & (OP_PATH2 | OP_NAME2)))
        error = take_string(op->req, &at, op->path[op->type != FS_SYMLINK]);
    if (error < 0)
        return error;
    op->path_count = flags & OP_PATH2 ? 2 : 1;
    op->data = (const char *)op->req->data + at;
    op->data_len = op->req->msg.data_len - at;
    error = take_start(op, process, 0, op->words[0]);
    if (error == 0 && (flags & OP_PATH2))
        error = take_start(op, process, 1, op->words[1]);
    return error;
}

static void guest_request(struct fs *fs, struct dvk_request *req, struct process *process) {
    const struct op_row *row = table_find(req->msg.type);
    struct op *op = row ? op_new(fs, req) : NULL;
    if (!op) {
        dvk_reply_status(fs->vos->dvk, req, row ? -ENOMEM : -ENOSYS);
        return;
    }
    op->pid = process->pid;
    op->creds = creds_hold(process->creds);
    op->read_only = row->flags & OP_READ;
    if (row->flags & OP_PATH) {
        int error = take_paths(op, process, row->flags);
        if (error < 0)
            op_finish(op, error);
        else
            op_run(op);
        return;
    }
    op->data = req->data;
    op->data_len = req->msg.data_len;
    if (row->flags & OP_HANDLE && !(op->type == FS_LOCK && (int64_t)op->words[0] == -1)) {
        struct object *object = handle_get(process, op->words[0]);
        if (!object) {
            op_finish(op, -EBADF);
            return;
        }
        op->object = object_hold(object);
        if (object->node != fs->vos->node && op->type != FS_CLOSE && op->type != FS_REGRANT) {
            remote_forward_object(op, object);
            return;
        }
    }
    op_run(op);
}

/* ---- requests of the cell's pm ---- */

static void end_ops_of(struct fs *fs, uint32_t pid);

static int set_creds(struct fs *fs, const struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    uint32_t count = req->msg.data_len / sizeof(uint32_t);
    struct process *process = process_get(fs, (uint32_t)words[0]);
    struct creds *creds = process ? creds_new((uint32_t)words[1], (uint32_t)words[2], req->data, count) : NULL;
    if (!creds)
        return -ENOMEM;
    creds_drop(process->creds);
    process->creds = creds;
    process->umask = (uint32_t)words[3] & 0777;
    return 0;
}

/* A first process: its working directory is entered by itself, with root's rights; pm is answered as chdir(2) would be. */
static void start_process(struct fs *fs, struct dvk_request *req) {
    struct process *process = process_get(fs, (uint32_t)req->msg.payload.words[0]);
    struct op *op = process ? op_new(fs, req) : NULL;
    if (!op) {
        dvk_reply_status(fs->vos->dvk, req, -ENOMEM);
        return;
    }
    uint32_t at = 0;
    op->type = FS_CHDIR;
    op->read_only = true;
    op->pid = process->pid;
    op->creds = creds_hold(process->creds);
    op->path_count = 1;
    int error = take_string(req, &at, op->path[0]);
    if (error == 0 && op->path[0][0] != '/')
        error = -EINVAL;
    if (error < 0)
        op_finish(op, error);
    else
        op_run(op);
}

static void pm_request(struct fs *fs, struct dvk_request *req) {
    const uint64_t *words = req->msg.payload.words;
    int status = 0;
    struct process *process;
    switch (req->msg.type) {
    case FS_S_FORK: status = process_fork(fs, (uint32_t)words[0], (uint32_t)words[1]); break;
    case FS_S_EXIT:
        end_ops_of(fs, (uint32_t)words[0]);
        process = process_find(fs, (uint32_t)words[0]);
        if (process) {
            if (!process->moving) {
                remote_locks(fs, process, false);
                lock_process_gone(fs, process->pid);
            }
            process_end(fs, process);
        }
        break;
    case FS_S_CREDS: status = set_creds(fs, req); break;
    case FS_S_EXPORTS: transfer_exports(fs, req, (uint32_t)words[0]); return;
    case FS_S_IMPORTS: transfer_imports(fs, req, (uint32_t)words[0]); return;
    case FS_S_TTY: tty_adopt(fs, req); return;
    case FS_S_ADOPT: transfer_adopt(fs, req); return;
    case FS_S_START: start_process(fs, req); return;
    default: status = -ENOSYS; break;
    }
    if (req->wants_reply)
        dvk_reply_status(fs->vos->dvk, req, status);
    else
        dvk_release(fs->vos->dvk, req);
}

static void fs_request(struct vos *vos, struct dvk_request *req) {
    struct fs *fs = fs_of(vos);
    uint32_t slot = dvk_endpoint_slot(req->msg.source);
    if (dvk_slot_is_system(slot)) {
        uint32_t node = dvk_system_slot_node(slot), service = dvk_system_slot_service(slot);
        if (service == DVK_SERVICE_PM && node == vos->node)
            pm_request(fs, req);
        else if (service == DVK_SERVICE_FS && node != vos->node && req->wants_reply)
            remote_request(fs, req, node);
        else if (req->wants_reply)
            dvk_reply_status(vos->dvk, req, -EPERM);
        else
            dvk_release(vos->dvk, req);
    } else if (!req->wants_reply) {
        dvk_release(vos->dvk, req);
    } else if (req->msg.type == FS_NAMES) {
        int fd = names_fd(fs);
        struct dvk_message reply = {.status = fd < 0 ? fd : 0};
        dvk_reply(vos->dvk, req, &reply, &fd, fd >= 0);
    } else {
        struct process *process = process_find(fs, slot);
        if (process) {
            process->moving = false;
            guest_request(fs, req, process);
        } else
            dvk_reply_status(vos->dvk, req, -ESRCH);
    }
    tree_trim(fs);
}

/* ---- cancellation and loss ---- */

static void op_cancel(struct op *op) {
    op->cancelled = true;
    if (op->call)
        (void)dvk_cancel(op->fs->vos->dvk, op->call);
    else if (op->cancel)
        op->cancel(op);
}

static void fs_cancelled(struct vos *vos, struct dvk_request *req) {
    struct fs *fs = fs_of(vos);
    for (struct op *op = fs->ops; op; op = op->next)
        if (op->req == req) {
            op_cancel(op);
            return;
        }
}

static void end_ops_of(struct fs *fs, uint32_t pid) {
    for (struct op *op = fs->ops, *next; op; op = next) {
        next = op->next;
        if (!op->remote && op->pid == pid && !op->cancelled) {
            op_cancel(op);
            next = fs->ops; /* the list has changed */
        }
    }
}

static void node_lost(struct fs *fs, uint32_t node) {
    object_node_lost(fs, node);
    lease_node_lost(fs, node);
    lock_node_lost(fs, node);
    shm_node_lost(fs, node);
}

static void fs_node_change(struct vos *vos, uint32_t node, bool up) {
    if (!up)
        node_lost(fs_of(vos), node);
}

static void fs_endpoint_gone(struct vos *vos, dvk_endpoint endpoint) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    if (dvk_slot_is_system(slot) && dvk_system_slot_service(slot) == DVK_SERVICE_FS &&
        dvk_system_slot_node(slot) != vos->node)
        node_lost(fs_of(vos), dvk_system_slot_node(slot));
}

/* ---- life ---- */

int fs_create(struct vos *vos, struct fs **out) {
    struct fs *fs = calloc(1, sizeof(*fs));
    if (!fs)
        return -ENOMEM;
    fs->vos = vos;
    fs->work_fd = -1;
    fs->primary = vos->node == vos->primary;
    vos->state[DVK_SERVICE_FS] = fs;
    /* Modes of what is created are exactly as asked for: guests apply their masks. */
    umask(0);
    /* Writes to pipes without readers, and past a file size limit, tell by their result. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int error = creds_apply(NULL);
    if (error == 0)
        error = tree_start(fs);
    if (error == 0)
        error = names_start(fs);
    if (error == 0)
        error = watch_start(fs);
    if (error == 0)
        error = hostfd_start(fs);
    if (error == 0)
        error = union_start(fs);
    if (error < 0) {
        fs_destroy(fs);
        return error;
    }
    *out = fs;
    return 0;
}

void fs_destroy(struct fs *fs) {
    while (fs->ops) {
        struct op *op = fs->ops;
        if (op->cancel)
            op->cancel(op);
        else
            op_finish(op, -EIO);
    }
    for (size_t i = 0; i < fs->processes.size; i++)
        while (fs->processes.buckets[i])
            process_end(fs, hash_entry(fs->processes.buckets[i], struct process, link));
    for (size_t i = 0; i < fs->objects.size; i++)
        while (fs->objects.buckets[i]) {
            struct object *object = hash_entry(fs->objects.buckets[i], struct object, link);
            object->refs = 1;
            object->dead = true;
            while (object->shares)
                object_share_drop(fs, object, object->shares->node, object->shares->count);
            object_drop(fs, object);
        }
    lock_stop(fs);
    shm_stop(fs);
    lease_drop_all(fs);
    tree_stop(fs);
    origins_drop(fs);
    watch_stop(fs);
    names_stop(fs);
    while (fs->free_ops) {
        struct op *op = fs->free_ops;
        fs->free_ops = op->next;
        free(op);
    }
    free(fs->processes.buckets);
    free(fs->objects.buckets);
    free(fs->leases.buckets);
    free(fs->locks.buckets);
    if (fs->work_fd >= 0)
        close(fs->work_fd);
    fs->vos->state[DVK_SERVICE_FS] = NULL;
    free(fs);
}

static int fs_start(struct vos *vos) {
    struct fs *fs;
    int error = fs_create(vos, &fs);
    if (error < 0)
        log_error("fs: cannot start: %s", strerror(-error));
    return error;
}

static void fs_stop(struct vos *vos) {
    struct fs *fs = fs_of(vos);
    if (fs)
        fs_destroy(fs);
}

const struct vos_module fs_module = {
    .name = "fs",
    .service = DVK_SERVICE_FS,
    .start = fs_start,
    .request = fs_request,
    .cancelled = fs_cancelled,
    .endpoint_gone = fs_endpoint_gone,
    .node_change = fs_node_change,
    .stop = fs_stop,
};
