/* SPDX-License-Identifier: Apache-2.0 */
/* open openat openat2 creat close close_range pipe pipe2 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

/* What F_GETFL shows later; creation flags are not kept. */
#define OPEN_KEPT (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_PATH | O_DSYNC | O_SYNC)

/* Take what an opening reply gave. */
static struct file *file_from_reply(struct fd_table *table, const struct rpc *rpc, long grant, int host_fd,
                                    const struct vos_stat *stat, uint32_t flags) {
    const uint64_t *word = rpc->message.payload.words;
    int64_t handle = grant == FS_GRANT_FD ? -1 : (int64_t)word[0];
    struct file *file = file_new_opened(table, (uint32_t)word[1], host_fd, handle, flags & OPEN_KEPT);
    if (!file)
        return NULL;
    file->open_flags = (uint32_t)word[2];
    if (rpc->reply_len >= sizeof(*stat)) {
        file->stat = *stat;
        file->stat_known = true;
    }
    return file;
}

/* The reply of FS_OPEN and its like is as the protocol says. */
static bool open_reply_good(const struct rpc *rpc, long grant, int host_fd) {
    uint64_t kind = rpc->message.payload.words[1];
    if (kind < FS_KIND_FILE || kind > FS_KIND_PATH)
        return false;
    return grant == FS_GRANT_FD ? host_fd >= 0 : grant == FS_GRANT_HANDLE && rpc->message.payload.ints[0] >= 0;
}

static long open_at_fs(struct task *task, struct rpc *rpc, uint32_t flags, struct opened_info *info, struct file **out) {
    struct fd_table *table = task_fds(task);
    struct vos_stat stat;
    int host_fd = -1;
    rpc->reply = info ? (void *)info : &stat;
    rpc->reply_cap = info ? sizeof(*info) - 1 : sizeof(stat);
    rpc->fds = &host_fd;
    rpc->fd_cap = 1;
    file_opening_begin(table);
    long grant = fs_call_blocking(task, rpc);
    if (grant < 0 || !open_reply_good(rpc, grant, host_fd)) {
        if (host_fd >= 0)
            (void)host_call(__NR_close, (uint64_t)host_fd, 0, 0, 0, 0, 0);
        file_opening_end(table);
        return grant < 0 ? grant : -EIO;
    }
    if (info) {
        size_t length = rpc->reply_len > sizeof(stat) ? rpc->reply_len - sizeof(stat) : 0;
        info->path[length < sizeof(info->path) ? length : 0] = 0;
    }
    struct file *file = file_from_reply(table, rpc, grant, host_fd, info ? &info->stat : &stat, flags);
    if (!file) {
        if (grant == FS_GRANT_HANDLE) {
            int64_t handle = rpc->message.payload.ints[0];
            fs_prepare(rpc, FS_CLOSE);
            rpc->message.payload.ints[0] = handle;
            (void)fs_call(task, rpc);
        }
        return -ENOMEM;
    }
    *out = file;
    return 0;
}

static void open_prepare(struct rpc *rpc, const char *text, size_t length, uint32_t flags, uint32_t mode,
                         const struct opened_info *for_exec) {
    fs_prepare(rpc, FS_OPEN);
    rpc->message.payload.words[1] = flags & ~(uint32_t)O_CLOEXEC;
    rpc->message.payload.words[2] = mode;
    rpc->message.payload.words[3] = for_exec != NULL;
    rpc->data = text;
    rpc->data_len = length + 1;
}

static long open_path(struct task *task, int64_t dir, const char *text, size_t length, uint32_t flags, uint32_t mode,
                      struct opened_info *for_exec, struct file **out) {
    struct rpc rpc;
    open_prepare(&rpc, text, length, flags, mode, for_exec);
    rpc.message.payload.ints[0] = dir;
    return open_at_fs(task, &rpc, flags, for_exec, out);
}

/*
 * By the table of names: what is not there, and directories, which get a handle when they need one. NAMES_ASK: fs must open it.
 */
static long open_look(struct task *task, struct place *place, uint32_t flags, bool for_exec, struct file **out) {
    const uint32_t plain = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | 0100000 /* O_LARGEFILE */;
    struct names_found found = {0};
    if (flags & O_CREAT)
        return NAMES_ASK;
    long known = place_look(task, place, !(flags & O_NOFOLLOW), &found);
    if (known != 0 || found.kind != NAMES_DIR || flags & ~plain || for_exec)
        return known != 0 ? known : NAMES_ASK;
    struct file *file = file_new(task_fds(task), FS_KIND_DIR, -1, -1, flags & OPEN_KEPT);
    if (!file)
        return -ENOMEM;
    file->number = found.number;
    file->open_flags = FS_O_LOCAL;
    *out = file;
    return 0;
}

long directory_handle(struct task *task, struct file *file) {
    int64_t handle = __atomic_load_n(&file->handle, __ATOMIC_ACQUIRE);
    if (handle >= 0 || file->kind != FS_KIND_DIR)
        return handle >= 0 ? (long)handle : -EPERM;
    struct rpc rpc;
    fs_prepare(&rpc, FS_OPENDIR);
    rpc.message.payload.words[0] = file->number;
    rpc.message.payload.words[1] = file->status_flags & O_NONBLOCK;
    long result = fs_call(task, &rpc);
    if (result != FS_GRANT_HANDLE || rpc.message.payload.words[1] != FS_KIND_DIR)
        return result < 0 ? result : -EIO;
    int64_t made = rpc.message.payload.ints[0];
    if (file->position > 0) { /* go on where we are */
        fs_prepare(&rpc, FS_LSEEK);
        rpc.message.payload.ints[0] = made;
        rpc.message.payload.words[1] = file->position;
        rpc.message.payload.words[2] = SEEK_SET;
        (void)fs_call(task, &rpc);
    }
    int64_t none = -1;
    /* Another thread may have been faster. Release: its position has been set. */
    if (__atomic_compare_exchange_n(&file->handle, &none, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return (long)made;
    handle_close(task, made);
    return (long)none;
}

/*
 * Opening /dev/fd/N: regular files and directories are opened anew, as Linux does. Of all else, and of deleted files,
 * the descriptor is duplicated: the position and flags are then shared with N.
 */
static long reopen(struct task *task, struct place *place, uint32_t flags, struct opened_info *for_exec, struct file **out) {
    struct file *file = place->file;
    if (flags & O_CREAT && flags & O_EXCL)
        return -EEXIST;
    if (file->kind == FS_KIND_DIR) {
        long handle = directory_handle(task, file);
        return handle < 0 ? handle : open_path(task, handle, ".", 1, flags, 0, for_exec, out);
    }
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    if (file->kind == FS_KIND_FILE || file->kind == FS_KIND_CHAR) {
        char text[VOS_PATH_MAX];
        long length = file_link_text(task, file, text, sizeof(text) - 1);
        if (length > 0 && text[0] == '/') {
            text[length] = 0;
            long result = open_path(task, VOS_CWD, text, (size_t)length, flags & ~(uint32_t)O_CREAT, 0, for_exec, out);
            if (result != -ENOENT)
                return result;
        }
    }
    if (!(flags & O_PATH) && ((!file_readable(file) && (flags & O_ACCMODE) != O_WRONLY) ||
                              (!file_writable(file) && (flags & O_ACCMODE) != O_RDONLY)))
        return -EACCES;
    file_retain(file);
    *out = file;
    return 0;
}

static long open_fd_directory(struct task *task, uint32_t flags, struct file **out) {
    if ((flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT)
        return -EISDIR;
    *out = file_new(task_fds(task), FILE_FD_DIRECTORY, -1, -1, flags & OPEN_KEPT);
    return *out ? 0 : -ENOMEM;
}

long file_open(struct task *task, struct place *place, uint32_t flags, uint32_t mode, struct opened_info *for_exec,
               struct file **out) {
    switch (place->kind) {
    case PLACE_FILE:
        return reopen(task, place, flags, for_exec, out);
    case PLACE_FD_DIRECTORY:
        return open_fd_directory(task, flags, out);
    case PLACE_FD_LINK:
    case PLACE_EXE_LINK:
        return -ELOOP;
    case PLACE_PATH:
        break;
    }
    long result = open_look(task, place, flags, for_exec != NULL, out);
    if (result != NAMES_ASK)
        return result;
    struct rpc rpc;
    uint32_t changes = __atomic_load_n(&task_fds(task)->cwd_changes, __ATOMIC_RELAXED);
    open_prepare(&rpc, place->text, place->length, flags, mode, for_exec);
    result = place_dir(task, place, &rpc.message.payload.ints[0]);
    if (result < 0)
        return result;
    result = open_at_fs(task, &rpc, flags, for_exec, out);
    place_learn(task, place, &rpc, changes);
    return result;
}

static long open_common(struct task *task, int dirfd, uint64_t path, uint32_t flags, uint32_t mode) {
    struct fd_table *table = task_fds(task);
    struct place place;
    if (!(flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))))
        mode = 0;
    if (flags & O_PATH)
        flags &= O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW;
    unsigned follow = flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL) ? 0 : PLACE_FOLLOW;
    long result = place_resolve(task, &place, dirfd, path, follow);
    if (result < 0)
        return result;
    long vfd = fd_reserve(table, 0);
    if (vfd < 0) {
        place_end(task, &place);
        return vfd;
    }
    struct file *file;
    result = file_open(task, &place, flags, mode & 07777 & ~table->umask, NULL, &file);
    place_end(task, &place);
    if (result < 0) {
        fd_unreserve(table, (int)vfd);
        return result;
    }
    fd_install(table, (int)vfd, file, flags & O_CLOEXEC);
    return vfd;
}

long sys_open(struct task *task, const uint64_t args[6]) {
    return open_common(task, AT_FDCWD, args[0], (uint32_t)args[1], (uint32_t)args[2]);
}

long sys_creat(struct task *task, const uint64_t args[6]) {
    return open_common(task, AT_FDCWD, args[0], O_CREAT | O_WRONLY | O_TRUNC, (uint32_t)args[1]);
}

long sys_openat(struct task *task, const uint64_t args[6]) {
    return open_common(task, (int)args[0], args[1], (uint32_t)args[2], (uint32_t)args[3]);
}

/* Restrictions of the walk (how.resolve) are not known to fs: -ENOSYS makes programs use openat or refuse by
 * themselves. */
long sys_openat2(struct task *task, const uint64_t args[6]) {
    struct open_how how = {0};
    if (args[3] < sizeof(how))
        return -EINVAL;
    if (args[3] > sizeof(how))
        return -E2BIG;
    long result = guest_read(&how, args[2], sizeof(how));
    if (result < 0)
        return result;
    if (how.flags >> 32 || (how.mode && !(how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))) || how.mode & ~07777ull)
        return -EINVAL;
    if (how.resolve)
        return -ENOSYS;
    return open_common(task, (int)args[0], args[1], (uint32_t)how.flags, (uint32_t)how.mode);
}

long sys_close(struct task *task, const uint64_t args[6]) {
    return fd_close(task, (int)args[0]);
}

long sys_close_range(struct task *task, const uint64_t args[6]) {
    struct fd_table *table = task_fds(task);
    uint32_t first = (uint32_t)args[0], last = (uint32_t)args[1], flags = (uint32_t)args[2];
    if (flags & ~(uint32_t)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
        return -EINVAL;
    for (int64_t vfd = first; vfd <= last; vfd++) {
        fd_lock(table);
        vfd = vfd < table->size ? fd_next_used(table, (uint32_t)vfd) : -1;
        bool found = vfd >= 0 && vfd <= last;
        if (found && flags & CLOSE_RANGE_CLOEXEC)
            table->entry[vfd].close_on_exec = true;
        fd_unlock(table);
        if (!found)
            break;
        if (!(flags & CLOSE_RANGE_CLOEXEC))
            (void)fd_close(task, (int)vfd);
    }
    return 0;
}

static long pipe_make(struct task *task, uint64_t to, uint32_t flags) {
    struct fd_table *table = task_fds(task);
    int host[2];
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
        return -EINVAL;
    file_opening_begin(table);
    long result = host_call(__NR_pipe2, (uint64_t)host, flags & (O_NONBLOCK | O_DIRECT), 0, 0, 0, 0);
    if (result < 0) {
        file_opening_end(table);
        return result;
    }
    struct file *reader = file_new(table, FS_KIND_PIPE, host[0], -1, O_RDONLY | (flags & O_NONBLOCK));
    struct file *writer = file_new_opened(table, FS_KIND_PIPE, host[1], -1, O_WRONLY | (flags & O_NONBLOCK));
    return fd_give_pair(task, reader, writer, flags & O_CLOEXEC, to);
}

long sys_pipe(struct task *task, const uint64_t args[6]) {
    return pipe_make(task, args[0], 0);
}
long sys_pipe2(struct task *task, const uint64_t args[6]) {
    return pipe_make(task, args[0], (uint32_t)args[1]);
}
