/* SPDX-License-Identifier: Apache-2.0 */
/* dup dup2 dup3 fcntl */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/lock.h"

/* Newer than the kernel headers of the oldest supported system. */
#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY (F_LINUX_SPECIFIC_BASE + 3)
#endif
#define PIPE_SIZE 65536u

static long duplicate(struct task *task, int vfd, uint32_t least, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -EBADF;
    long copy = fd_reserve(table, least);
    if (copy >= 0) {
        file_retain(file);
        fd_install(table, (int)copy, file, close_on_exec);
    }
    fd_done(task, file);
    return copy;
}

long sys_dup(struct task *task, const uint64_t args[6]) {
    return duplicate(task, (int)args[0], 0, false);
}

static long duplicate_to(struct task *task, int from, int to, bool close_on_exec) {
    struct file *file = fd_use(task, from);
    if (!file)
        return -EBADF;
    file_retain(file);
    long result = fd_put_at(task, to, file, close_on_exec);
    fd_done(task, file);
    return result;
}

long sys_dup2(struct task *task, const uint64_t args[6]) {
    int from = (int)args[0], to = (int)args[1];
    if (from != to)
        return duplicate_to(task, from, to, false);
    struct file *file = fd_use(task, from);
    fd_done(task, file);
    return file ? to : -EBADF;
}

long sys_dup3(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[2] & ~(uint32_t)O_CLOEXEC || (int)args[0] == (int)args[1])
        return -EINVAL;
    return duplicate_to(task, (int)args[0], (int)args[1], args[2] & O_CLOEXEC);
}

/* ---- fcntl ---- */

static long get_fd_flags(struct task *task, int vfd) {
    struct fd_table *table = task_fds(task);
    long result = -EBADF;
    fd_lock(table);
    if ((uint32_t)vfd < table->size && table->entry[vfd].file)
        result = table->entry[vfd].close_on_exec ? FD_CLOEXEC : 0;
    fd_unlock(table);
    return result;
}

static long set_fd_flags(struct task *task, int vfd, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    long result = -EBADF;
    fd_lock(table);
    if ((uint32_t)vfd < table->size && table->entry[vfd].file) {
        table->entry[vfd].close_on_exec = close_on_exec;
        result = 0;
    }
    fd_unlock(table);
    return result;
}

static long get_status_flags(const struct file *file) {
    if (file->host_fd >= 0) {
        long host = host_call(__NR_fcntl, (uint64_t)file->host_fd, F_GETFL, 0, 0, 0, 0);
        return host < 0 ? host : host & ~(long)O_NOFOLLOW; /* how fs opens, not how the guest did */
    }
    uint32_t flags = file->status_flags;
    if (file->kind != FS_KIND_PIPE && file->kind != FS_KIND_SOCKET && !(flags & O_PATH))
        flags |= 0100000; /* O_LARGEFILE, which open(2) sets by itself */
    return (long)flags;
}

long file_set_status_flags(struct task *task, struct file *file, uint32_t flags) {
    const uint32_t settable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
    flags &= settable;
    if (file->host_fd >= 0) {
        long result = host_call(__NR_fcntl, (uint64_t)file->host_fd, F_SETFL, flags, 0, 0, 0);
        if (result < 0)
            return result;
    } else if (file->kind == FS_KIND_PATH) {
        return -EBADF;
    } else if (file->handle >= 0) {
        struct rpc rpc;
        fs_prepare(&rpc, FS_SETFL);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = flags & (O_APPEND | O_NONBLOCK);
        long result = fs_call(task, &rpc);
        if (result < 0)
            return result;
    }
    file->status_flags = (file->status_flags & ~settable) | flags;
    return 0;
}

/* The host does not let guests ask about or change a pipe's size: it has Linux's default. */
static long pipe_size(const struct file *file, uint64_t wanted, bool set) {
    if (file->kind != FS_KIND_PIPE)
        return -EBADF;
    if (set && (int)wanted < 0)
        return -EINVAL;
    return set && wanted > PIPE_SIZE ? -EPERM : (long)PIPE_SIZE;
}

static long seals(const struct file *file, int command, uint64_t argument) {
    if (file->kind != FILE_MEMFD)
        return -EINVAL;
    long result = host_call(__NR_fcntl, (uint64_t)file->host_fd, (uint64_t)command, argument, 0, 0, 0);
    return result == -ENOSYS ? -EINVAL : result;
}

static long file_control(struct task *task, struct file *file, int command, uint64_t argument) {
    switch (command) {
    case F_GETFL:
        return get_status_flags(file);
    case F_SETFL:
        return file_set_status_flags(task, file, (uint32_t)argument);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return file_lock(task, file, command, argument);
    case F_GETPIPE_SZ:
        return pipe_size(file, 0, false);
    case F_SETPIPE_SZ:
        return pipe_size(file, argument, true);
    case F_ADD_SEALS:
    case F_GET_SEALS:
        return seals(file, command, argument);
    case F_GETOWN:
    case F_GETSIG:
        return 0; /* signals on readiness (O_ASYNC) cannot be asked for, so nobody owns it */
    case F_DUPFD_QUERY: {
        struct file *other = fd_use(task, (int)argument);
        fd_done(task, other);
        return other ? other == file : -EBADF;
    }
    case F_GETLEASE:
        return F_UNLCK;
    default:
        return -EINVAL;
    }
}

long sys_fcntl(struct task *task, const uint64_t args[6]) {
    int vfd = (int)args[0], command = (int)args[1];
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if (args[2] >= task_fds(task)->limit) {
            struct file *file = fd_use(task, vfd);
            fd_done(task, file);
            return file ? -EINVAL : -EBADF;
        }
        return duplicate(task, vfd, (uint32_t)args[2], command == F_DUPFD_CLOEXEC);
    case F_GETFD:
        return get_fd_flags(task, vfd);
    case F_SETFD:
        return set_fd_flags(task, vfd, args[2] & FD_CLOEXEC);
    }
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -EBADF;
    long result =
        file->kind == FS_KIND_PATH && command != F_GETFL ? -EBADF : file_control(task, file, command, args[2]);
    fd_done(task, file);
    return result;
}
