/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev: the harmless devices, which are granted as host fds; the terminals; links to a process's own descriptors; and
 * /dev/shm (shm.c).
 */
#include "vos/fs/fs.h"
#include "vos/pm/info.h"
#include "vos/tty/tty.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

enum dev { DEV_ROOT, DEV_NULL, DEV_ZERO, DEV_FULL, DEV_RANDOM, DEV_URANDOM, DEV_TTY, DEV_CONSOLE, DEV_PTS_DIR, DEV_FD, DEV_STDIN,
           DEV_STDOUT, DEV_STDERR, DEV_PTS /* arg: tty number */, DEV_COUNT };

static const struct {
    const char *name;
    uint32_t mode;
    unsigned major, minor;
    const char *target;
} devices[DEV_COUNT] = {
    [DEV_ROOT] = {"", S_IFDIR | 0755, 0, 0, NULL},
    [DEV_NULL] = {"null", S_IFCHR | 0666, 1, 3, NULL},
    [DEV_ZERO] = {"zero", S_IFCHR | 0666, 1, 5, NULL},
    [DEV_FULL] = {"full", S_IFCHR | 0666, 1, 7, NULL},
    [DEV_RANDOM] = {"random", S_IFCHR | 0666, 1, 8, NULL},
    [DEV_URANDOM] = {"urandom", S_IFCHR | 0666, 1, 9, NULL},
    [DEV_TTY] = {"tty", S_IFCHR | 0666, 5, 0, NULL},
    [DEV_CONSOLE] = {"console", S_IFCHR | 0620, 5, 1, NULL},
    [DEV_PTS_DIR] = {"pts", S_IFDIR | 0755, 0, 0, NULL},
    [DEV_FD] = {"fd", S_IFLNK | 0777, 0, 0, "/proc/self/fd"},
    [DEV_STDIN] = {"stdin", S_IFLNK | 0777, 0, 0, "/proc/self/fd/0"},
    [DEV_STDOUT] = {"stdout", S_IFLNK | 0777, 0, 0, "/proc/self/fd/1"},
    [DEV_STDERR] = {"stderr", S_IFLNK | 0777, 0, 0, "/proc/self/fd/2"},
    [DEV_PTS] = {"", S_IFCHR | 0620, 136, 0, NULL},
};

static void dev_place(struct place *out, enum dev dev, uint64_t arg) {
    out->layer = LAYER_DEV;
    out->where = WHERE_NONE;
    out->mode = devices[dev].mode & S_IFMT;
    out->key = dev;
    out->arg = arg;
    out->fd = -1;
    out->path = NULL;
    out->have_stat = false;
    out->name[0] = '\0';
}

static int lookup_tty(struct op *op, const char *name, struct place *out) {
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    if (!*name || *end || name[0] < '0' || name[0] > '9' || number > UINT32_MAX)
        return -ENOENT;
    for (uint32_t i = 0; i < op->fs->vos->node_count; i++)
        if (op->fs->vos->nodes[i].id == tty_number_node((uint32_t)number)) {
            dev_place(out, DEV_PTS, number);
            return 0;
        }
    return -ENOENT;
}

int dev_lookup(struct op *op, const struct place *dir, const char *name, struct place *out) {
    if (dir->key == DEV_PTS_DIR)
        return lookup_tty(op, name, out);
    if (strcmp(name, "shm") == 0) {
        shm_place(out);
        return 0;
    }
    for (unsigned i = 1; i < DEV_PTS; i++)
        if (strcmp(devices[i].name, name) == 0) {
            dev_place(out, (enum dev)i, 0);
            return 0;
        }
    return -ENOENT;
}

int dev_stat(struct op *op, struct place *place, struct vos_stat *out) {
    unsigned minor = place->key == DEV_PTS ? tty_number_index((uint32_t)place->arg) : devices[place->key].minor;
    *out = (struct vos_stat){.st_dev = FS_DEV_DEV, .st_ino = place->key == DEV_PTS ? 0x10000u + place->arg : place->key + 1,
                             .st_nlink = S_ISDIR(place->mode) ? 2 : 1, .st_mode = devices[place->key].mode,
                             .st_rdev = makedev(devices[place->key].major, minor), .st_blksize = 4096};
    if (devices[place->key].target)
        out->st_size = (int64_t)strlen(devices[place->key].target);
    return 0;
}

int dev_readlink(struct op *op, struct place *place, char *out, size_t cap) {
    const char *target = devices[place->key].target;
    if (!target)
        return -EINVAL;
    size_t length = strlen(target) < cap ? strlen(target) : cap;
    memcpy(out, target, length);
    return (int)length;
}

static void tty_found(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                      unsigned fd_count) {
    struct op *op = context;
    op->call = 0;
    op->have_reply = true;
    op->reply_status = status < 0 ? remote_errno(status) : reply->status;
    op->reply_words[0] = reply->payload.words[0];
    op_run(op);
}

/* The terminal that controls the caller's session: its sid from pm, then the tty from the tty server. */
static int open_controlling(struct op *op, uint32_t flags) {
    if (op->have_reply) {
        op->have_reply = false;
        return op->reply_status < 0 ? -ENXIO : tty_open(op, (uint32_t)op->reply_words[0], flags | O_NOCTTY);
    }
    const struct pm_process_info *info;
    int error = proc_need(op, op->pid, &info);
    if (error != 0)
        return error;
    struct dvk_message message = {.destination = vos_service(op->fs->vos->node, DVK_SERVICE_TTY), .type = TTY_S_FIND};
    message.payload.words[0] = info->sid;
    error = dvk_call(op->fs->vos->dvk, op->fs->vos->self[DVK_SERVICE_FS], &message, NULL, 0, NULL, 0, tty_found, op, &op->call);
    return error < 0 ? remote_errno(error) : FS_PENDING;
}

int dev_open(struct op *op, struct place *place, uint32_t flags) {
    struct vos_stat st;
    switch (place->key) {
    case DEV_TTY:
    case DEV_CONSOLE: return open_controlling(op, flags);
    case DEV_PTS: return tty_open(op, (uint32_t)place->arg, flags);
    default: break;
    }
    dev_stat(op, place, &st);
    int fd = openat(op->fs->vos->dev_fd, devices[place->key].name,
                    (int)(flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    return open_grant_fd(op, fd, FS_KIND_CHAR, FS_O_IMMUTABLE, flags & (O_ACCMODE | O_NONBLOCK | O_APPEND), &st);
}

int dev_reopen(struct fs *fs, uint64_t rdev, int flags) {
    for (unsigned i = DEV_NULL; i <= DEV_URANDOM; i++)
        if (rdev == makedev(devices[i].major, devices[i].minor)) {
            int fd = openat(fs->vos->dev_fd, devices[i].name, flags | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
            return fd < 0 ? -errno : fd;
        }
    return -ENXIO;
}

int dev_list(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    if (dir->key == DEV_PTS_DIR)
        return 0; /* terminals are found by name: asking every node's server for a listing is not worth it */
    int error = emit(context, "shm", 1000, DT_DIR);
    for (unsigned i = 1; error == 0 && i < DEV_PTS; i++)
        error = emit(context, devices[i].name, i + 1, (uint8_t)IFTODT(devices[i].mode));
    return error;
}

void dev_root(struct place *out) { dev_place(out, DEV_ROOT, 0); }

void dev_parent(const struct place *dir, struct place *out) {
    dev_place(out, DEV_ROOT, 0);
    if (dir->key == DEV_ROOT)
        out->layer = LAYER_TREE;
}

int dev_path(const struct place *place, char *out) {
    switch (place->key) {
    case DEV_ROOT: return snprintf(out, VOS_PATH_MAX, "/dev");
    case DEV_PTS: return snprintf(out, VOS_PATH_MAX, "/dev/pts/%u", (unsigned)place->arg);
    default: return snprintf(out, VOS_PATH_MAX, "/dev/%s", devices[place->key].name);
    }
}
