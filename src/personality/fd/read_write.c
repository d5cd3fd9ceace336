/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
 *
 * On a granted file the host kernel moves the data straight from and to the guest's memory. On a handle it goes by
 * messages of up to DVK_DATA_MAX bytes; a call of more is several messages, and ends short where Linux's could.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/socket.h"
#include "personality/fd/vector.h"

/* Message calls of regular files and devices are never interrupted, as in Linux; those of streams are. */
static long transfer_call(struct task *task, const struct file *file, struct rpc *rpc) {
    return file_is_stream(file) ? fs_call_blocking(task, rpc) : fs_call(task, rpc);
}

long handle_read(struct task *task, struct file *file, void *to, size_t len, int64_t offset, bool no_wait) {
    if (file->kind == FS_KIND_DIR || file->kind == FILE_FD_DIRECTORY)
        return -EISDIR;
    if (file->kind == FS_KIND_PATH || !file_readable(file))
        return -EBADF;
    if (offset != -1 && file_is_stream(file))
        return -ESPIPE;
    if (file->kind == FS_KIND_SOCKET)
        return len ? socket_receive_handle(task, file, to, len, no_wait ? ABI_MSG_DONTWAIT : 0, NULL) : 0;
    size_t done = 0;
    while (done < len) {
        size_t chunk = len - done < DVK_DATA_MAX ? len - done : DVK_DATA_MAX;
        struct rpc rpc;
        fs_prepare(&rpc, FS_READ);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = chunk;
        rpc.message.payload.ints[2] = offset == -1 ? -1 : offset + (int64_t)done;
        rpc.message.payload.words[3] = no_wait || file->status_flags & O_NONBLOCK ? FS_READ_NO_WAIT : 0;
        fs_tell_caller(task, file, &rpc);
        rpc.reply = (char *)to + done;
        rpc.reply_cap = chunk;
        long got = transfer_call(task, file, &rpc);
        if (got >= 0 && ((size_t)got > chunk || rpc.reply_len < (size_t)got))
            got = -EIO;
        if (got < 0)
            return done ? (long)done : got;
        done += (size_t)got;
        if ((size_t)got < chunk || file_is_stream(file))
            break;
    }
    return (long)done;
}

long handle_write(struct task *task, struct file *file, const void *from, size_t len, int64_t offset, bool no_wait,
                  bool append) {
    if (file->kind == FS_KIND_PATH || !file_writable(file))
        return -EBADF;
    if (offset != -1 && file_is_stream(file))
        return -ESPIPE;
    if (file->kind == FS_KIND_SOCKET)
        return socket_send_handle(task, file, from, len, no_wait ? ABI_MSG_DONTWAIT : 0);
    no_wait = no_wait || file->status_flags & O_NONBLOCK;
    append = append || file->status_flags & O_APPEND;
    size_t done = 0;
    while (done < len) {
        size_t chunk = len - done < DVK_DATA_MAX ? len - done : DVK_DATA_MAX;
        struct rpc rpc;
        fs_prepare(&rpc, FS_WRITE);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.ints[1] = offset == -1 ? -1 : offset + (int64_t)done;
        rpc.message.payload.words[2] = no_wait;
        rpc.message.payload.words[3] = append;
        fs_tell_caller(task, file, &rpc);
        rpc.data = (const char *)from + done;
        rpc.data_len = chunk;
        long put = transfer_call(task, file, &rpc);
        if (put > (long)chunk)
            put = -EIO;
        if (put == -EPIPE)
            task_raise(task, ABI_SIGPIPE);
        if (put <= 0)
            return done || put == 0 ? (long)done : put;
        done += (size_t)put;
        if ((size_t)put < chunk && (no_wait || !file_is_stream(file)))
            break;
    }
    return (long)done;
}

long file_read(struct task *task, struct file *file, void *to, size_t len, int64_t offset) {
    if (file->host_fd < 0)
        return handle_read(task, file, to, len, offset, false);
    if (offset == -1)
        return file_host_call(task, file, __NR_read, (uint64_t)to, len, 0, 0, 0);
    return file_host_call(task, file, __NR_pread64, (uint64_t)to, len, (uint64_t)offset, 0, 0);
}

long file_write(struct task *task, struct file *file, const void *from, size_t len, int64_t offset) {
    if (file->host_fd < 0)
        return handle_write(task, file, from, len, offset, false, false);
    if (offset == -1)
        return file_host_call(task, file, __NR_write, (uint64_t)from, len, 0, 0, 0);
    return file_host_call(task, file, __NR_pwrite64, (uint64_t)from, len, (uint64_t)offset, 0, 0);
}

/* ---- one buffer ---- */

long sys_read(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->kind == FILE_SIGNAL)
        result = signal_file_read(task, file, args[1], args[2]);
    else if (file->host_fd >= 0)
        result = file_host_call(task, file, __NR_read, args[1], args[2], 0, 0, 0);
    else
        result = handle_read(task, file, (void *)args[1], args[2] < IO_MAX ? args[2] : IO_MAX, -1, false);
    fd_done(task, file);
    return result;
}

long sys_write(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0)
        result = file_host_call(task, file, __NR_write, args[1], args[2], 0, 0, 0);
    else
        result = handle_write(task, file, (const void *)args[1], args[2] < IO_MAX ? args[2] : IO_MAX, -1, false, false);
    fd_done(task, file);
    return result;
}

long sys_pread64(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0)
        result = file_host_call(task, file, __NR_pread64, args[1], args[2], args[3], 0, 0);
    else if ((int64_t)args[3] < 0)
        result = -EINVAL;
    else
        result = handle_read(task, file, (void *)args[1], args[2] < IO_MAX ? args[2] : IO_MAX, (int64_t)args[3], false);
    fd_done(task, file);
    return result;
}

long sys_pwrite64(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0)
        result = file_host_call(task, file, __NR_pwrite64, args[1], args[2], args[3], 0, 0);
    else if ((int64_t)args[3] < 0)
        result = -EINVAL;
    else
        result = handle_write(task, file, (const void *)args[1], args[2] < IO_MAX ? args[2] : IO_MAX, (int64_t)args[3],
                              false, false);
    fd_done(task, file);
    return result;
}

/* ---- several buffers ---- */

/*
 * Between a handle and a vector through a buffer, so that each message is as large as can be and writes of up to
 * DVK_DATA_MAX stay in one piece.
 */
static long vector_read(struct task *task, struct file *file, struct vector *vector, char *buffer, size_t size,
                        int64_t offset, bool no_wait) {
    uint64_t done = 0;
    do { /* also for nothing: the checks are made */
        size_t chunk = vector->total - done < size ? vector->total - done : size;
        long got = handle_read(task, file, buffer, chunk, offset == -1 ? -1 : offset + (int64_t)done, no_wait);
        if (got > 0)
            got = vector_put(vector, buffer, (size_t)got);
        if (got < 0)
            return done ? (long)done : got;
        done += (uint64_t)got;
        if ((size_t)got < chunk || file_is_stream(file))
            break;
    } while (done < vector->total);
    return (long)done;
}

static long vector_write(struct task *task, struct file *file, struct vector *vector, char *buffer, size_t size,
                         int64_t offset, bool no_wait, bool append) {
    uint64_t done = 0;
    do {
        size_t chunk = vector->total - done < size ? vector->total - done : size;
        long have = vector_get(vector, buffer, chunk);
        long put = have < 0 ? have
                            : handle_write(task, file, buffer, (size_t)have, offset == -1 ? -1 : offset + (int64_t)done,
                                           no_wait, append);
        if (put < 0)
            return done ? (long)done : put;
        done += (uint64_t)put;
        if ((size_t)put < chunk)
            break;
    } while (done < vector->total);
    return (long)done;
}

/* flags: RWF_* */
static long handle_vector(struct task *task, struct file *file, const uint64_t args[6], int64_t offset, int flags,
                          bool write) {
    struct vector vector;
    if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND) || (flags & RWF_NOWAIT && write))
        return -EOPNOTSUPP;
    long result = vector_copy(&vector, args[1], args[2]);
    if (result < 0)
        return result;
    if (write && file->kind == FS_KIND_SOCKET && socket_has_messages(file) && vector.total > DVK_DATA_MAX) {
        vector_end(&vector);
        return -EMSGSIZE;
    }
    size_t size = vector.total < DVK_DATA_MAX ? vector.total : DVK_DATA_MAX;
    char *buffer = size ? area_alloc(size) : NULL;
    bool no_wait = flags & RWF_NOWAIT;
    if (size && !buffer)
        result = -ENOMEM;
    else if (write)
        result = vector_write(task, file, &vector, buffer, size, offset, no_wait, flags & RWF_APPEND);
    else
        result = vector_read(task, file, &vector, buffer, size, offset, no_wait);
    if (buffer)
        area_free(buffer, size);
    vector_end(&vector);
    return result;
}

/* number: the host's call of the same arguments. offset: for handles, -1 for none. */
static long vector_call(struct task *task, const uint64_t args[6], long number, int64_t offset, int flags, bool write) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->kind == FILE_SIGNAL) {
        struct vector_part part;
        result = args[2] == 0 ? 0 : guest_read(&part, args[1], sizeof(part));
        if (result >= 0 && args[2])
            result = signal_file_read(task, file, part.base, part.len);
    } else if (file->host_fd >= 0) {
        result = file_host_call(task, file, number, args[1], args[2], args[3], args[4], args[5]);
    } else if (offset < -1) {
        result = -EINVAL;
    } else {
        result = handle_vector(task, file, args, offset, flags, write);
    }
    fd_done(task, file);
    return result;
}

/* An offset that is given is not the -1 that stands for the file's position. */
static int64_t given_offset(uint64_t offset) {
    return (int64_t)offset < 0 ? -2 : (int64_t)offset;
}

long sys_readv(struct task *task, const uint64_t args[6]) {
    return vector_call(task, args, __NR_readv, -1, 0, false);
}
long sys_writev(struct task *task, const uint64_t args[6]) {
    return vector_call(task, args, __NR_writev, -1, 0, true);
}

long sys_preadv(struct task *task, const uint64_t args[6]) {
    return vector_call(task, args, __NR_preadv, given_offset(args[3]), 0, false);
}

long sys_pwritev(struct task *task, const uint64_t args[6]) {
    return vector_call(task, args, __NR_pwritev, given_offset(args[3]), 0, true);
}

long sys_preadv2(struct task *task, const uint64_t args[6]) {
    int64_t offset = args[3] == ~0ull ? -1 : given_offset(args[3]);
    return vector_call(task, args, __NR_preadv2, offset, (int)args[5], false);
}

long sys_pwritev2(struct task *task, const uint64_t args[6]) {
    int64_t offset = args[3] == ~0ull ? -1 : given_offset(args[3]);
    return vector_call(task, args, __NR_pwritev2, offset, (int)args[5], true);
}

/* ---- position ---- */

long sys_lseek(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0) {
        result = host_call(__NR_lseek, (uint64_t)file->host_fd, args[1], args[2], 0, 0, 0);
    } else if (file->kind == FS_KIND_PATH) {
        result = -EBADF;
    } else if (file_is_stream(file)) {
        result = -ESPIPE;
    } else if (file->kind == FILE_FD_DIRECTORY) {
        result = args[2] == SEEK_SET && (int64_t)args[1] >= 0 ? (long)(file->position = args[1]) : -EINVAL;
    } else if (file->kind == FS_KIND_DIR && file->handle < 0) {
        result = directory_seek(task, file, (int64_t)args[1], (int)args[2]);
    } else {
        struct rpc rpc;
        fs_prepare(&rpc, FS_LSEEK);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = args[1];
        rpc.message.payload.words[2] = args[2];
        result = fs_call(task, &rpc);
        file->directory_end = false;
        if (result >= 0)
            result = (long)rpc.message.payload.ints[0];
    }
    fd_done(task, file);
    return result;
}
