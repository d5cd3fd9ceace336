/* SPDX-License-Identifier: Apache-2.0 */
/* Advisory locks: fcntl's and flock. fs keeps them; a granted file is named by its host fd. */
#include "personality/fd/lock.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

enum lock_operation { LOCK_GET = 0, LOCK_SET = 1, LOCK_SET_WAIT = 2, LOCK_FLOCK = 3 };

static void lock_prepare(struct rpc *rpc, const struct file *file, enum lock_operation operation) {
    fs_prepare(rpc, FS_LOCK);
    rpc->message.payload.ints[0] = file->handle;
    rpc->message.payload.words[1] = operation;
    if (file->host_fd >= 0) {
        rpc->message.payload.ints[0] = -1;
        rpc->send_fds = &file->host_fd;
        rpc->send_fd_count = 1;
    }
}

static long file_offset(struct task *task, struct file *file, int whence, int64_t *offset) {
    *offset = 0;
    if (whence == SEEK_SET)
        return 0;
    if (whence == SEEK_END) {
        struct vos_stat stat;
        long result = file_stat(task, file, &stat);
        *offset = stat.st_size;
        return result;
    }
    if (whence != SEEK_CUR)
        return -EINVAL;
    if (file->host_fd >= 0) {
        *offset = host_call(__NR_lseek, (uint64_t)file->host_fd, 0, SEEK_CUR, 0, 0, 0);
        return *offset < 0 ? (long)*offset : 0;
    }
    struct rpc rpc;
    fs_prepare(&rpc, FS_LSEEK);
    rpc.message.payload.ints[0] = file->handle;
    rpc.message.payload.words[2] = SEEK_CUR;
    long result = fs_call(task, &rpc);
    *offset = rpc.message.payload.ints[0];
    return result;
}

/* The range as an absolute start and a length (0: to the end); start_of: offset that l_start counts from. */
static long lock_range(const struct flock *lock, int64_t start_of, int64_t *start, int64_t *length) {
    if (__builtin_add_overflow(start_of, (int64_t)lock->l_start, start))
        return -EOVERFLOW;
    *length = lock->l_len;
    if (*length < 0) { /* the bytes before l_start */
        *start += *length;
        *length = -*length;
    }
    if (*start < 0)
        return -EINVAL;
    int64_t end;
    return *length && __builtin_add_overflow(*start, *length - 1, &end) ? -EOVERFLOW : 0;
}

static long lock_check(const struct file *file, const struct flock *lock, int command) {
    bool own_description = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    bool get = command == F_GETLK || command == F_OFD_GETLK;
    if (file->kind != FS_KIND_FILE)
        return file->kind == FS_KIND_PATH ? -EBADF : -EINVAL;
    if (own_description && lock->l_pid)
        return -EINVAL;
    if (lock->l_type != F_RDLCK && lock->l_type != F_WRLCK && (lock->l_type != F_UNLCK || get))
        return -EINVAL;
    if (!get &&
        ((lock->l_type == F_RDLCK && !file_readable(file)) || (lock->l_type == F_WRLCK && !file_writable(file))))
        return -EBADF;
    return 0;
}

static void lock_from_reply(struct flock *lock, const struct rpc *rpc, bool own_description) {
    const int64_t *value = rpc->message.payload.ints;
    lock->l_type = (short)value[0];
    if (lock->l_type == F_UNLCK)
        return; /* nothing in the way: all else stays (fcntl(2)) */
    lock->l_whence = SEEK_SET;
    lock->l_start = value[1];
    lock->l_len = value[2];
    lock->l_pid = own_description && value[3] == 0 ? -1 : (int)value[3];
}

long file_lock(struct task *task, struct file *file, int command, uint64_t argument) {
    bool own_description = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    bool get = command == F_GETLK || command == F_OFD_GETLK;
    bool wait = command == F_SETLKW || command == F_OFD_SETLKW;
    struct flock lock;
    int64_t start_of, start, length;
    long result = guest_read(&lock, argument, sizeof(lock));
    if (result < 0 || (result = lock_check(file, &lock, command)) < 0 ||
        (result = file_offset(task, file, lock.l_whence, &start_of)) < 0 ||
        (result = lock_range(&lock, start_of, &start, &length)) < 0)
        return result;
    struct rpc rpc;
    lock_prepare(&rpc, file, get ? LOCK_GET : wait ? LOCK_SET_WAIT : LOCK_SET);
    rpc.message.payload.words[2] = (uint64_t)lock.l_type;
    rpc.message.payload.ints[3] = start;
    rpc.message.payload.ints[4] = length;
    rpc.message.payload.words[5] = own_description;
    result = wait ? fs_call_blocking(task, &rpc) : fs_call(task, &rpc);
    if (result < 0)
        return result;
    if (get) {
        lock_from_reply(&lock, &rpc, own_description);
        result = guest_write(argument, &lock, sizeof(lock));
        return result < 0 ? result : 0;
    }
    if (!own_description && lock.l_type != F_UNLCK && file->host_fd >= 0)
        task_fds(task)->posix_locked = true;
    return 0;
}

long sys_flock(struct task *task, const uint64_t args[6]) {
    int operation = (int)args[1];
    int kind = operation & ~ABI_LOCK_NB;
    if (kind != ABI_LOCK_SH && kind != ABI_LOCK_EX && kind != ABI_LOCK_UN)
        return -EINVAL;
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->kind == FS_KIND_PATH) {
        result = -EBADF;
    } else if (file->kind != FS_KIND_FILE && file->kind != FS_KIND_DIR) {
        result = -EINVAL;
    } else {
        struct rpc rpc;
        long handle = file->kind == FS_KIND_DIR ? directory_handle(task, file) : 0;
        if (handle < 0) {
            fd_done(task, file);
            return handle;
        }
        lock_prepare(&rpc, file, LOCK_FLOCK);
        rpc.message.payload.words[2] = (uint64_t)operation;
        result = operation & ABI_LOCK_NB || kind == ABI_LOCK_UN ? fs_call(task, &rpc) : fs_call_blocking(task, &rpc);
    }
    fd_done(task, file);
    return result < 0 ? result : 0;
}
