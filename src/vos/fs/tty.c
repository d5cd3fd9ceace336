/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ttys: fs only hands on. Each node's fs has its own object (and reference at the tty server) for a tty that its processes have
 * open, so a message goes straight to the tty's node.
 */
#include "vos/tty/tty.h"
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/sysmacros.h>

static void forwarded(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct op *op = context;
    op->call = 0;
    if (status < 0) {
        op_finish(op, remote_errno(status));
        return;
    }
    memcpy(op->out, reply->payload.words, sizeof(op->out));
    op->out_len = 0;
    status = reply->status;
    if (status >= 0 && len && op_put(op, data, len) < 0)
        status = -EOVERFLOW;
    if (status >= 0 && op->type == FS_FSTAT && op->out_len == sizeof(struct vos_stat)) {
        struct vos_stat st;
        memcpy(&st, op->out_data, sizeof(st));
        st.st_dev = FS_DEV_DEV;
        st.st_ino = 0x10000u + op->object->tty;
        memcpy(op->out_data, &st, sizeof(st));
    }
    op_finish(op, status);
}

static int call(struct op *op, uint32_t number, uint32_t type, const uint64_t words[4], const void *data, uint32_t len,
                dvk_done *done) {
    struct dvk_message message = {.destination = tty_server_endpoint(number), .type = type, .data_len = len};
    message.payload.words[0] = number;
    memcpy(message.payload.words + 1, words + 1, 3 * sizeof(uint64_t));
    message.payload.words[TTY_WORD_PID] = op->pid;
    uint64_t told = op->req ? op->req->msg.payload.words[TTY_WORD_FLAGS] : 0;
    told &= VOS_TTY_KNOWN | VOS_TTY_TTIN_OFF | VOS_TTY_TTOU_OFF;
    message.payload.words[TTY_WORD_FLAGS] = told | (op->creds && op->creds->uid == 0 ? TTY_CALLER_ROOT : 0);
    int error = dvk_call(op->fs->vos->dvk, op->fs->vos->self[DVK_SERVICE_FS], &message, data, len, NULL, 0, done, op, &op->call);
    return error < 0 ? remote_errno(error) : FS_PENDING;
}

int tty_forward(struct op *op) {
    struct object *object = op->object;
    uint64_t words[4] = {0, op->words[1], op->words[2], op->words[3]};
    uint64_t do_not_block = object->status_flags & O_NONBLOCK ? 1 : 0;
    uint32_t mode = object->status_flags & O_ACCMODE;
    switch (op->type) {
    case FS_READ:
        if (mode == O_WRONLY)
            return -EBADF;
        words[3] |= do_not_block;
        return call(op, object->tty, TTY_READ, words, NULL, 0, forwarded);
    case FS_WRITE:
        if (mode == O_RDONLY)
            return -EBADF;
        words[2] |= do_not_block;
        return call(op, object->tty, TTY_WRITE, words, op->data, op->data_len, forwarded);
    case FS_IOCTL: return call(op, object->tty, TTY_IOCTL, words, op->data, op->data_len, forwarded);
    case FS_POLL: return call(op, object->tty, TTY_POLL, words, NULL, 0, forwarded);
    case FS_FSTAT: return call(op, object->tty, TTY_STAT, words, NULL, 0, forwarded);
    default: return -EINVAL;
    }
}

/* ---- opening ---- */

static void opened(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                   unsigned fd_count) {
    struct op *op = context;
    struct fs *fs = op->fs;
    uint32_t number = (uint32_t)op->wait_key;
    op->call = 0;
    if (status < 0 || reply->status < 0) {
        op_finish(op, status < 0 ? remote_errno(status) : reply->status);
        return;
    }
    struct object *object = object_new(fs, FS_KIND_TTY);
    if (!object) {
        tty_close(fs, number);
        op_finish(op, -ENOMEM);
        return;
    }
    object->tty = number;
    object->status_flags = (uint32_t)op->words[1] & (O_ACCMODE | O_NONBLOCK | O_APPEND);
    object->stat = (struct vos_stat){.st_mode = S_IFCHR | 0620, .st_nlink = 1};
    if (len == sizeof(object->stat))
        memcpy(&object->stat, data, len);
    object->stat.st_dev = FS_DEV_DEV;
    object->stat.st_ino = 0x10000u + number;
    op_finish(op, open_grant_object(op, object, &object->stat));
}

int tty_open(struct op *op, uint32_t number, uint32_t flags) {
    uint64_t words[4] = {0, flags};
    op->wait_key = number;
    return call(op, number, TTY_OPEN, words, NULL, 0, opened);
}

static void nothing(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {}

void tty_close(struct fs *fs, uint32_t number) {
    struct dvk_message message = {.destination = tty_server_endpoint(number), .type = TTY_CLOSE};
    message.payload.words[0] = number;
    message.payload.words[1] = 1;
    (void)dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, nothing, NULL, NULL);
}

/* ---- a tty that comes with a process ---- */

struct tty_import {
    struct fs *fs;
    struct object *object;
    void (*done)(void *context, int status);
    void *context;
};

static void imported(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                     unsigned fd_count) {
    struct tty_import *import = context;
    if (status < 0 || reply->status < 0)
        import->object->dead = true; /* no reference there; operations give what the server says of an unknown tty */
    else if (len == sizeof(import->object->stat))
        memcpy(&import->object->stat, data, len);
    import->done(import->context, status < 0 ? remote_errno(status) : reply->status);
    object_drop(import->fs, import->object);
    free(import);
}

struct object *tty_object(struct fs *fs, uint32_t number, uint32_t status_flags, void (*done)(void *context, int status),
                          void *context) {
    struct tty_import *import = malloc(sizeof(*import));
    struct object *object = import ? object_new(fs, FS_KIND_TTY) : NULL;
    if (!object) {
        free(import);
        return NULL;
    }
    object->tty = number;
    object->status_flags = status_flags & (O_ACCMODE | O_NONBLOCK | O_APPEND);
    object->stat = (struct vos_stat){.st_mode = S_IFCHR | 0620, .st_nlink = 1, .st_dev = FS_DEV_DEV, .st_ino = 0x10000u + number};
    *import = (struct tty_import){fs, object_hold(object), done, context};
    struct dvk_message message = {.destination = tty_server_endpoint(number), .type = TTY_OPEN};
    message.payload.words[0] = number;
    message.payload.words[1] = O_RDWR | O_NOCTTY;
    message.payload.words[TTY_WORD_FLAGS] = TTY_CALLER_ROOT;
    int error = dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, imported, import, NULL);
    if (error < 0) {
        object->dead = true;
        object_drop(fs, object);
        object_drop(fs, object);
        free(import);
        return NULL;
    }
    return object;
}

struct tty_adoption {
    struct fs *fs;
    struct dvk_request *req;
    int number;
};

static void adopted(void *context, int status) {
    struct tty_adoption *adoption = context;
    struct dvk_message reply = {.status = status < 0 ? status : 0};
    reply.payload.words[0] = (uint64_t)adoption->number;
    dvk_reply(adoption->fs->vos->dvk, adoption->req, &reply, NULL, 0);
    free(adoption);
}

/* FS_S_TTY: w0 pid w1 tty. */
void tty_adopt(struct fs *fs, struct dvk_request *req) {
    struct process *process = process_get(fs, (uint32_t)req->msg.payload.words[0]);
    struct tty_adoption *adoption = process ? malloc(sizeof(*adoption)) : NULL;
    if (!adoption) {
        dvk_reply_status(fs->vos->dvk, req, -ENOMEM);
        return;
    }
    *adoption = (struct tty_adoption){fs, req, -1};
    struct object *object = tty_object(fs, (uint32_t)req->msg.payload.words[1], O_RDWR, adopted, adoption);
    if (!object) {
        free(adoption);
        dvk_reply_status(fs->vos->dvk, req, -EIO);
        return;
    }
    /* A reply cannot come before we return to the event loop, unless the server is in this process. */
    adoption->number = handle_add(fs, process, object);
}
