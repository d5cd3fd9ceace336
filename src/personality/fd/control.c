/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ancillary data of sendmsg(2) and recvmsg(2). The host carries it between the guests of a cell; here the descriptors
 * and ids of the container and those of the host are put in each other's places. A host fd passed so is one that the
 * sender was granted. What it is, the receiver learns from the host and fs, never from the sender.
 *
 * Handles (what lies on another node, directories, terminals) are fs's, for one process, and cannot be passed.
 */
#include "personality/fd/socket.h"

#include "personality/fd/abi.h"

/* Next header in bytes[0..len), or NULL; *offset is moved behind it. body: length of what follows the header. */
static struct abi_cmsghdr *control_next(char *bytes, size_t len, size_t *offset, size_t *body) {
    struct abi_cmsghdr *header = (struct abi_cmsghdr *)(void *)(bytes + *offset);
    if (*offset + sizeof(*header) > len || header->len < sizeof(*header) || header->len > len - *offset)
        return NULL;
    *body = header->len - sizeof(*header);
    *offset += (header->len + 7) & ~7ull;
    return header;
}

/* ---- to the host ---- */

static bool file_may_be_passed(const struct file *file) {
    if (file->host_fd < 0)
        return false;
    switch (file->kind) {
    case FS_KIND_FILE:
    case FS_KIND_PIPE:
    case FS_KIND_CHAR:
    case FS_KIND_SOCKET:
    case FILE_EVENT:
    case FILE_MEMFD:
        return true;
    default:
        return false;
    }
}

static long rights_send(struct task *task, struct control *control, int32_t *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (control->file_count == CONTROL_FILES)
            return -EINVAL;
        struct file *file = fd_use(task, fds[i]);
        if (!file)
            return -EBADF;
        control->files[control->file_count++] = file;
        if (!file_may_be_passed(file))
            return -EOPNOTSUPP;
        fds[i] = file->host_fd;
    }
    return 0;
}

/* The host tells the receiver who we are whatever we say; who it takes us for must be said to it. */
static long credentials_send(struct abi_ucred *credentials) {
    credentials->uid = (uint32_t)host_call(__NR_getuid, 0, 0, 0, 0, 0, 0);
    credentials->gid = (uint32_t)host_call(__NR_getgid, 0, 0, 0, 0, 0, 0);
    return 0;
}

long control_copy(struct task *task, struct control *control, uint64_t address, uint64_t len) {
    control->file_count = 0;
    control->len = 0;
    if (!address || len == 0)
        return 0;
    if (len > sizeof(control->bytes))
        return -ENOBUFS;
    long result = guest_read(control->bytes, address, len);
    if (result < 0)
        return result;
    control->len = len;
    size_t offset = 0, body;
    for (;;) {
        struct abi_cmsghdr *header = control_next(control->bytes, len, &offset, &body);
        if (!header)
            return offset + sizeof(*header) <= len ? -EINVAL : 0;
        if (header->level != ABI_SOL_SOCKET)
            continue;
        void *data = header + 1;
        if (header->type == ABI_SCM_RIGHTS)
            result = rights_send(task, control, data, body / sizeof(int32_t));
        else if (header->type == ABI_SCM_CREDENTIALS && body == sizeof(struct abi_ucred))
            result = credentials_send(data);
        else
            result = -EINVAL;
        if (result < 0)
            return result;
    }
}

void control_end(struct task *task, struct control *control) {
    while (control->file_count)
        fd_done(task, control->files[--control->file_count]);
}

/* ---- from the host ---- */

/* Takes the host fd over. */
static struct file *file_received(struct task *task, int host_fd) {
    struct vos_stat stat = {0};
    int type = 0, type_len = sizeof(type);
    long flags = host_call(__NR_fcntl, (uint64_t)host_fd, F_GETFL, 0, 0, 0, 0);
    (void)host_call(__NR_fstat, (uint64_t)host_fd, (uint64_t)&stat, 0, 0, 0, 0);
    uint32_t kind = FILE_EVENT; /* or another of those that are not files; nothing else depends on which */
    switch (stat.st_mode & S_IFMT) {
    case S_IFREG:
        kind = FS_KIND_FILE;
        break;
    case S_IFCHR:
        kind = FS_KIND_CHAR;
        break;
    case S_IFIFO:
        kind = FS_KIND_PIPE;
        break;
    case S_IFSOCK:
        kind = FS_KIND_SOCKET;
        (void)host_call(__NR_getsockopt, (uint64_t)host_fd, ABI_SOL_SOCKET, ABI_SO_TYPE, (uint64_t)&type,
                        (uint64_t)&type_len, 0);
        break;
    }
    struct file *file = file_new(task_fds(task), kind, host_fd, -1,
                                 flags < 0 ? O_RDWR : (uint32_t)flags & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    if (file && kind == FS_KIND_SOCKET)
        file->open_flags = type == ABI_SOCK_DGRAM ? FS_O_DGRAM : type == ABI_SOCK_SEQPACKET ? FS_O_SEQPACKET : 0;
    return file;
}

/* The host fds in place become descriptors; how many did. The rest are closed. */
static size_t rights_receive(struct task *task, int32_t *fds, size_t count, bool close_on_exec) {
    size_t done = 0;
    for (; done < count; done++) {
        struct file *file = file_received(task, fds[done]);
        long vfd = file ? fd_add(task, file, close_on_exec) : -ENOMEM;
        if (vfd < 0)
            break;
        fds[done] = (int32_t)vfd;
    }
    for (size_t i = done + 1; i < count; i++)
        (void)host_call(__NR_close, (uint64_t)fds[i], 0, 0, 0, 0, 0);
    return done;
}

void control_receive(struct task *task, struct control *control, bool close_on_exec, uint32_t *flags) {
    size_t offset = 0, body;
    for (;;) {
        struct abi_cmsghdr *header = control_next(control->bytes, control->len, &offset, &body);
        if (!header)
            return;
        if (header->level != ABI_SOL_SOCKET)
            continue;
        if (header->type == ABI_SCM_CREDENTIALS && body >= sizeof(struct abi_ucred))
            socket_credentials(task, (struct abi_ucred *)(void *)(header + 1));
        if (header->type != ABI_SCM_RIGHTS)
            continue;
        size_t count = body / sizeof(int32_t);
        size_t done = rights_receive(task, (int32_t *)(void *)(header + 1), count, close_on_exec);
        if (done < count) { /* rights come last: nothing follows that would have to be moved */
            header->len = sizeof(*header) + done * sizeof(int32_t);
            control->len = (size_t)((char *)header - control->bytes) + (done ? header->len : 0);
            *flags |= ABI_MSG_CTRUNC;
            return;
        }
    }
}
