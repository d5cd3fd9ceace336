/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendfile splice tee vmsplice copy_file_range fsync fdatasync sync syncfs sync_file_range fallocate fadvise64
 * readahead
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/vector.h"

/* ---- sendfile ---- */

/*
 * Through a buffer, for handles. What was read but could not be written is read again by the next call: of a file that
 * is possible, and sendfile(2) reads from files only.
 */
static long send_by_copy(struct task *task, struct file *out, struct file *in, int64_t offset, size_t len, char *buffer,
                         size_t size) {
    size_t done = 0;
    while (done < len) {
        size_t chunk = len - done < size ? len - done : size;
        long got = file_read(task, in, buffer, chunk, offset + (int64_t)done);
        if (got <= 0)
            return done ? (long)done : got;
        long put = file_write(task, out, buffer, (size_t)got, -1);
        if (put < 0)
            return done ? (long)done : put;
        done += (size_t)put;
        if (put < got || (size_t)got < chunk)
            break;
    }
    return (long)done;
}

static long position_get(struct task *task, struct file *file, int64_t offset, uint64_t whence) {
    if (file->host_fd >= 0)
        return host_call(__NR_lseek, (uint64_t)file->host_fd, (uint64_t)offset, whence, 0, 0, 0);
    struct rpc rpc;
    fs_prepare(&rpc, FS_LSEEK);
    rpc.message.payload.ints[0] = file->handle;
    rpc.message.payload.ints[1] = offset;
    rpc.message.payload.words[2] = whence;
    long result = fs_call(task, &rpc);
    return result < 0 ? result : (long)rpc.message.payload.ints[0];
}

static long send_file(struct task *task, struct file *out, struct file *in, uint64_t offset_address, uint64_t len) {
    if (in->host_fd >= 0 && out->host_fd >= 0)
        return fs_interrupted(host_blocking(task, __NR_sendfile, (uint64_t)out->host_fd, (uint64_t)in->host_fd,
                                            offset_address, len, 0, 0));
    if (in->kind != FS_KIND_FILE && in->kind != FILE_MEMFD)
        return -EINVAL;
    if (!file_readable(in) || !file_writable(out) || out->kind == FS_KIND_PATH)
        return -EBADF;
    if (out->status_flags & O_APPEND && out->kind == FS_KIND_FILE)
        return -EINVAL;
    int64_t offset;
    long result = 0;
    if (offset_address)
        result = guest_read(&offset, offset_address, sizeof(offset));
    else
        result = (long)(offset = position_get(task, in, 0, SEEK_CUR));
    if (result < 0 || offset < 0)
        return result < 0 ? result : -EINVAL;
    if (len > IO_MAX)
        len = IO_MAX;
    if (len == 0)
        return 0;
    size_t size = len < DVK_DATA_MAX ? len : DVK_DATA_MAX;
    char *buffer = area_alloc(size);
    if (!buffer)
        return -ENOMEM;
    result = send_by_copy(task, out, in, offset, len, buffer, size);
    area_free(buffer, size);
    if (result <= 0)
        return result;
    offset += result;
    long told = offset_address ? guest_write(offset_address, &offset, sizeof(offset))
                               : position_get(task, in, offset, SEEK_SET);
    return told < 0 ? told : result;
}

long sys_sendfile(struct task *task, const uint64_t args[6]) {
    struct file *out = fd_use(task, (int)args[0]);
    struct file *in = fd_use(task, (int)args[1]);
    long result = out && in ? send_file(task, out, in, args[2], args[3]) : -EBADF;
    fd_done(task, in);
    fd_done(task, out);
    return result;
}

/* ---- between host fds only; the errors make programs read and write instead ---- */

static long between_host_fds(struct task *task, const uint64_t args[6], long number, int second, long otherwise) {
    struct file *in = fd_use(task, (int)args[0]);
    struct file *out = fd_use(task, (int)args[second]);
    long result = otherwise;
    if (!in || !out) {
        result = -EBADF;
    } else if (in->host_fd >= 0 && out->host_fd >= 0) {
        uint64_t host[6];
        for (int i = 0; i < 6; i++)
            host[i] = args[i];
        host[0] = (uint64_t)in->host_fd;
        host[second] = (uint64_t)out->host_fd;
        result = fs_interrupted(host_blocking(task, number, host[0], host[1], host[2], host[3], host[4], host[5]));
    }
    fd_done(task, out);
    fd_done(task, in);
    return result;
}

long sys_splice(struct task *task, const uint64_t args[6]) {
    return between_host_fds(task, args, __NR_splice, 2, -EINVAL);
}

long sys_tee(struct task *task, const uint64_t args[6]) {
    return between_host_fds(task, args, __NR_tee, 1, -EINVAL);
}

long sys_copy_file_range(struct task *task, const uint64_t args[6]) {
    return between_host_fds(task, args, __NR_copy_file_range, 2, -EXDEV);
}

/* Gifts of pages are a matter of speed only: the bytes are written or read. */
long sys_vmsplice(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    bool pipe = file && file->kind == FS_KIND_PIPE, write = pipe && file_writable(file);
    fd_done(task, file);
    if (!pipe)
        return -EBADF;
    return write ? sys_writev(task, args) : sys_readv(task, args);
}

/* ---- to the disk ---- */

static long file_sync(struct task *task, int vfd, long number) {
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -EBADF;
    long result;
    if (file->kind == FS_KIND_PATH) {
        result = -EBADF;
    } else if (file->host_fd >= 0) {
        result = host_call(number, (uint64_t)file->host_fd, 0, 0, 0, 0, 0);
    } else if ((file->handle < 0 && file->kind != FS_KIND_DIR) || file_is_stream(file)) {
        result = -EINVAL;
    } else if ((result = file->kind == FS_KIND_DIR ? directory_handle(task, file) : (long)file->handle) >= 0) {
        struct rpc rpc;
        fs_prepare(&rpc, FS_FSYNC);
        rpc.message.payload.ints[0] = result;
        rpc.message.payload.words[1] = number == __NR_fdatasync;
        result = fs_call(task, &rpc);
    }
    fd_done(task, file);
    return result < 0 ? result : 0;
}

long sys_fsync(struct task *task, const uint64_t args[6]) {
    return file_sync(task, (int)args[0], __NR_fsync);
}
long sys_fdatasync(struct task *task, const uint64_t args[6]) {
    return file_sync(task, (int)args[0], __NR_fdatasync);
}
/* Stronger than asked for (the whole file), which is allowed. */
long sys_sync_file_range(struct task *task, const uint64_t args[6]) {
    return file_sync(task, (int)args[0], __NR_fdatasync);
}

/* A guest cannot make the host write back all that others wrote: what has to be on the disk is synced by descriptor. */
long sys_sync(struct task *task, const uint64_t args[6]) {
    return 0;
}

long sys_syncfs(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    bool open = file && file->kind != FS_KIND_PATH;
    fd_done(task, file);
    return open ? 0 : -EBADF;
}

/* ---- space and advice ---- */

long sys_fallocate(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0) {
        result = host_call(__NR_fallocate, (uint64_t)file->host_fd, args[1], args[2], args[3], 0, 0);
    } else if (file->kind != FS_KIND_FILE) {
        result = file->kind == FS_KIND_PATH ? -EBADF : file_is_stream(file) ? -ESPIPE : -ENODEV;
    } else if ((int64_t)args[2] < 0 || (int64_t)args[3] <= 0) {
        result = -EINVAL;
    } else {
        struct rpc rpc;
        fs_prepare(&rpc, FS_FALLOCATE);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = args[1];
        rpc.message.payload.words[2] = args[2];
        rpc.message.payload.words[3] = args[3];
        result = fs_call(task, &rpc);
    }
    fd_done(task, file);
    return result < 0 ? result : 0;
}

/* Advice may be ignored, but not for what has no position. */
static long advise(struct task *task, int vfd, long stream_error, bool wants_read) {
    struct file *file = fd_use(task, vfd);
    long result = 0;
    if (!file || file->kind == FS_KIND_PATH || (wants_read && !file_readable(file)))
        result = -EBADF;
    else if (file_is_stream(file))
        result = stream_error;
    fd_done(task, file);
    return result;
}

long sys_fadvise64(struct task *task, const uint64_t args[6]) {
    long result = advise(task, (int)args[0], -ESPIPE, false);
    return result == 0 && (args[3] > 5 || (int64_t)args[2] < 0) ? -EINVAL : result;
}

long sys_readahead(struct task *task, const uint64_t args[6]) {
    return advise(task, (int)args[0], -EINVAL, true);
}
