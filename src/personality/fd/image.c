/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors over exec into a new process (vos/image.h), on this node or another: host fds travel along or, where they
 * cannot, are handed to fs for a handle (FS_EXPORT); the new process asks for host fds in place of its handles where it
 * may (FS_REGRANT).
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "vos/image.h"

/* What FS_EXPORT can take over; 0: nothing. */
static uint32_t export_kind(const struct file *file) {
    switch (file->kind) {
    case FS_KIND_FILE:
    case FS_KIND_PIPE:
    case FS_KIND_CHAR:
    case FS_KIND_SOCKET:
        return file->kind;
    case FILE_MEMFD:
        return FS_KIND_FILE;
    default:
        return 0;
    }
}

bool fd_pinned(struct process *process) {
    struct fd_table *table = process_fds(process);
    bool pinned = false;
    fd_lock(table);
    for (int vfd = fd_next_used(table, 0); vfd >= 0 && !pinned; vfd = fd_next_used(table, (uint32_t)vfd + 1)) {
        const struct fd_entry *entry = &table->entry[vfd];
        pinned = !entry->close_on_exec && entry->file->host_fd >= 0 && !export_kind(entry->file);
    }
    fd_unlock(table);
    return pinned;
}

static uint32_t status_flags_now(const struct file *file) {
    long flags = file->host_fd >= 0 ? host_call(__NR_fcntl, (uint64_t)file->host_fd, F_GETFL, 0, 0, 0, 0) : -1;
    return flags < 0 ? file->status_flags : (uint32_t)flags & (O_ACCMODE | O_APPEND | O_NONBLOCK);
}

static long file_export(struct task *task, struct file *file, uint32_t status_flags) {
    struct rpc rpc;
    if (file->exported >= 0)
        return 0;
    fs_prepare(&rpc, FS_EXPORT);
    rpc.message.payload.words[0] = export_kind(file);
    rpc.message.payload.words[1] = status_flags;
    rpc.send_fds = &file->host_fd;
    rpc.send_fd_count = 1;
    long result = fs_call(task, &rpc);
    if (result < 0)
        return result;
    if (rpc.message.payload.ints[0] < 0)
        return -EIO;
    file->exported = rpc.message.payload.ints[0];
    return 0;
}

/* Where the files described so far are in the image, for descriptors of the same file. */
struct description {
    struct vos_image_fd *out;
    size_t count, cap;
    int *host_fds;
    size_t host_count;
    bool remote;
};

static const struct vos_image_fd *described(const struct description *description, struct file *const *files,
                                            const struct file *file) {
    for (size_t i = 0; i < description->count; i++)
        if (files[i] == file)
            return &description->out[i];
    return NULL;
}

/* One descriptor. 1: described, 0: left out, or negative errno. */
static long describe(struct task *task, struct description *description, struct file **files, int vfd,
                     struct file *file) {
    const struct vos_image_fd *same = described(description, files, file);
    struct vos_image_fd *to = &description->out[description->count];
    *to = (struct vos_image_fd){.vfd = vfd, .handle = -1};
    if (same) {
        to->kind = VOS_IMAGE_FD_DUP;
        to->source = (uint32_t)same->vfd;
        to->object = same->object;
        to->status_flags = same->status_flags;
        return 1;
    }
    to->object = file->kind;
    to->status_flags = status_flags_now(file);
    to->open_flags = file->open_flags;
    if (file->kind == FILE_FD_DIRECTORY)
        return 0; /* lists the old program's descriptors */
    if (file->host_fd < 0) {
        to->kind = VOS_IMAGE_FD_HANDLE;
        to->handle = file->kind == FS_KIND_DIR ? directory_handle(task, file) : file->handle;
        return to->handle >= 0; /* a directory that was removed before anybody asked for a handle is not to be had */
    }
    if (!description->remote && description->host_count < DVK_MESSAGE_FDS) {
        to->kind = VOS_IMAGE_FD_HOST;
        to->source = (uint32_t)description->host_count;
        description->host_fds[description->host_count++] = file->host_fd;
        return 1;
    }
    to->object = export_kind(file);
    if (!to->object)
        return 0; /* cannot leave the node: see fd_pinned */
    long result = file_export(task, file, to->status_flags);
    if (result < 0)
        return result;
    to->kind = VOS_IMAGE_FD_HANDLE;
    to->handle = file->exported;
    return 1;
}

/* pm keeps the umask for what it starts on its own account; it is told when it matters, here. */
static void tell_umask(struct task *task) {
    struct fd_table *table = task_fds(task);
    if (table->umask_told)
        return;
    struct rpc rpc;
    fs_prepare(&rpc, PM_UMASK);
    rpc.message.payload.words[0] = table->umask;
    table->umask_told = fs_call(task, &rpc) >= 0;
}

long fd_describe(struct task *task, struct vos_image_fd *out, size_t cap, int *host_fds, size_t *host_fd_count,
                 bool remote) {
    struct fd_table *table = task_fds(task);
    struct description description = {.out = out, .cap = cap, .host_fds = host_fds, .remote = remote};
    size_t files_size = (cap ? cap : 1) * sizeof(struct file *);
    struct file **files = area_alloc(files_size);
    long result = files ? 0 : -ENOMEM;
    tell_umask(task);
    for (int vfd = 0; result >= 0; vfd++) {
        fd_lock(table);
        vfd = fd_next_used(table, (uint32_t)vfd);
        struct file *file = vfd >= 0 && !table->entry[vfd].close_on_exec ? table->entry[vfd].file : NULL;
        if (file)
            file_retain(file);
        fd_unlock(table);
        if (vfd < 0)
            break;
        if (!file)
            continue;
        result = description.count == cap ? -EMFILE : describe(task, &description, files, vfd, file);
        if (result == 1)
            files[description.count++] = file;
        file_release(task, file);
    }
    if (files)
        area_free(files, files_size);
    *host_fd_count = description.host_count;
    if (result < 0)
        fd_describe_undo(task);
    return result < 0 ? result : (long)description.count;
}

void fd_describe_undo(struct task *task) {
    struct fd_table *table = task_fds(task);
    for (;;) {
        int64_t handle = -1;
        fd_lock(table);
        for (struct file *file = table->files; file && handle < 0; file = file->next) {
            handle = file->exported;
            file->exported = -1;
        }
        fd_unlock(table);
        if (handle < 0)
            return;
        struct rpc rpc;
        fs_prepare(&rpc, FS_CLOSE);
        rpc.message.payload.ints[0] = handle;
        (void)fs_call(task, &rpc);
    }
}

/* ---- the new process ---- */

/* A handle that came along; if its object is on this node, its host fd may be had. */
static struct file *file_regrant(struct task *task, const struct vos_image_fd *fd) {
    struct fd_table *table = task_fds(task);
    struct vos_stat stat;
    struct rpc rpc;
    int host_fd = -1;
    bool wanted = fd->object == FS_KIND_FILE || fd->object == FS_KIND_PIPE || fd->object == FS_KIND_CHAR ||
                  fd->object == FS_KIND_SOCKET;
    fs_prepare(&rpc, FS_REGRANT);
    rpc.message.payload.ints[0] = fd->handle;
    rpc.reply = &stat;
    rpc.reply_cap = sizeof(stat);
    rpc.fds = &host_fd;
    rpc.fd_cap = 1;
    file_opening_begin(table);
    long grant = wanted ? fs_call(task, &rpc) : -EAGAIN;
    bool granted = grant == FS_GRANT_FD && host_fd >= 0;
    if (!granted && host_fd >= 0)
        (void)host_call(__NR_close, (uint64_t)host_fd, 0, 0, 0, 0, 0);
    struct file *file =
        file_new_opened(table, fd->object, granted ? host_fd : -1, granted ? -1 : fd->handle, fd->status_flags);
    if (!file)
        return NULL;
    file->open_flags = fd->open_flags & ~(uint32_t)FS_O_LOCAL;
    if (granted) {
        file->open_flags = (uint32_t)rpc.message.payload.words[2];
        file->stat_known = rpc.reply_len >= sizeof(stat);
        if (file->stat_known)
            file->stat = stat;
    }
    return file;
}

static struct file *file_restore(struct task *task, const struct vos_image_fd *fd, const int *host_fds,
                                 size_t host_fd_count, bool *taken) {
    struct fd_table *table = task_fds(task);
    if (fd->kind == VOS_IMAGE_FD_HANDLE && fd->handle >= 0 && fd->object >= FS_KIND_FILE && fd->object <= FS_KIND_SOCKET)
        return file_regrant(task, fd);
    if (fd->kind != VOS_IMAGE_FD_HOST || fd->source >= host_fd_count || taken[fd->source] ||
        fd->object < FS_KIND_FILE || fd->object >= FILE_FD_DIRECTORY)
        return NULL;
    taken[fd->source] = true;
    struct file *file = file_new(table, fd->object, host_fds[fd->source], -1, fd->status_flags);
    if (file)
        file->open_flags = fd->open_flags & ~(uint32_t)FS_O_IMMUTABLE; /* the stat did not come along */
    return file;
}

static long fd_restore_one(struct task *task, const struct vos_image_fd *fd, const int *host_fds, size_t host_fd_count,
                           bool *taken) {
    struct file *file;
    if (fd->vfd < 0 || (uint32_t)fd->vfd >= FD_LIMIT_MAX)
        return -EINVAL;
    if (fd->kind == VOS_IMAGE_FD_DUP) {
        file = fd_use(task, (int)fd->source);
        if (!file)
            return -EINVAL;
        file_retain(file);
        fd_done(task, file);
    } else if (!(file = file_restore(task, fd, host_fds, host_fd_count, taken))) {
        return -EINVAL;
    }
    return fd_put_at(task, fd->vfd, file, false);
}

long fd_restore(struct task *task, const struct vos_image_fd *fds, size_t count, const int *host_fds,
                size_t host_fd_count) {
    struct fd_table *table = task_fds(task);
    bool taken[DVK_MESSAGE_FDS] = {false};
    uint32_t limit = table->limit;
    long result = host_fd_count > DVK_MESSAGE_FDS || count > VOS_IMAGE_FDS ? -EINVAL : 0;
    table->limit = FD_LIMIT_MAX; /* descriptors above a lowered limit stay open over exec */
    for (size_t i = 0; result >= 0 && i < count; i++)
        result = fd_restore_one(task, &fds[i], host_fds, host_fd_count, taken);
    table->limit = limit;
    for (size_t i = 0; i < host_fd_count; i++)
        if (i >= DVK_MESSAGE_FDS || !taken[i])
            (void)host_call(__NR_close, (uint64_t)host_fds[i], 0, 0, 0, 0, 0);
    return result < 0 ? result : 0;
}
