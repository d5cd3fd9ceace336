/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat truncate ftruncate
 * setxattr getxattr listxattr removexattr and their l and f forms
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

static unsigned place_flags(uint32_t at_flags) {
    return (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : PLACE_FOLLOW) | (at_flags & AT_EMPTY_PATH ? PLACE_EMPTY : 0);
}

/*
 * Ask for a change of attributes; the AT_* flags go to word at_word. by_fd: dirfd is the object. After a change the
 * stat kept from a granted open is not used for what changed (see stat.c), so there is nothing to forget.
 */
static long attribute_call(struct task *task, struct rpc *rpc, bool by_fd, int dirfd, uint64_t path, uint32_t at_flags,
                           int at_word) {
    struct place place;
    long result = by_fd ? place_of_fd(task, &place, dirfd, false)
                        : place_resolve(task, &place, dirfd, path, place_flags(at_flags));
    if (result < 0)
        return result;
    rpc->message.payload.words[at_word] = at_flags & AT_SYMLINK_NOFOLLOW;
    result = place_request(task, &place, rpc, at_word);
    place_end(task, &place);
    return result < 0 ? result : 0;
}

/* ---- mode ---- */

static long change_mode(struct task *task, bool by_fd, int dirfd, uint64_t path, uint64_t mode, uint32_t at_flags) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_CHMOD);
    rpc.message.payload.words[1] = mode & 07777;
    return attribute_call(task, &rpc, by_fd, dirfd, path, at_flags, 2);
}

long sys_chmod(struct task *task, const uint64_t args[6]) {
    return change_mode(task, false, AT_FDCWD, args[0], args[1], 0);
}

long sys_fchmod(struct task *task, const uint64_t args[6]) {
    return change_mode(task, true, (int)args[0], 0, args[1], 0);
}

long sys_fchmodat(struct task *task, const uint64_t args[6]) {
    return change_mode(task, false, (int)args[0], args[1], args[2], 0);
}

long sys_fchmodat2(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[3] & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return change_mode(task, false, (int)args[0], args[1], args[2], (uint32_t)args[3]);
}

/* ---- owner ---- */

static long change_owner(struct task *task, bool by_fd, int dirfd, uint64_t path, uint64_t user, uint64_t group,
                         uint32_t at_flags) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_CHOWN);
    rpc.message.payload.ints[1] = (int32_t)user; /* -1: unchanged */
    rpc.message.payload.ints[2] = (int32_t)group;
    return attribute_call(task, &rpc, by_fd, dirfd, path, at_flags, 3);
}

long sys_chown(struct task *task, const uint64_t args[6]) {
    return change_owner(task, false, AT_FDCWD, args[0], args[1], args[2], 0);
}

long sys_lchown(struct task *task, const uint64_t args[6]) {
    return change_owner(task, false, AT_FDCWD, args[0], args[1], args[2], AT_SYMLINK_NOFOLLOW);
}

long sys_fchown(struct task *task, const uint64_t args[6]) {
    return change_owner(task, true, (int)args[0], 0, args[1], args[2], 0);
}

long sys_fchownat(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[4] & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return change_owner(task, false, (int)args[0], args[1], args[2], args[3], (uint32_t)args[4]);
}

/* ---- times ---- */

struct two_times {
    int64_t access_s, access_ns, modify_s, modify_ns;
};

static const struct two_times times_now = {0, ABI_UTIME_NOW, 0, ABI_UTIME_NOW};

static long change_times(struct task *task, bool by_fd, int dirfd, uint64_t path, const struct two_times *times,
                         uint32_t at_flags) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_UTIMENS);
    rpc.message.payload.ints[1] = times->access_s;
    rpc.message.payload.ints[2] = times->access_ns;
    rpc.message.payload.ints[3] = times->modify_s;
    rpc.message.payload.ints[4] = times->modify_ns;
    return attribute_call(task, &rpc, by_fd, dirfd, path, at_flags, 5);
}

static bool nanoseconds_good(int64_t ns) {
    return (ns >= 0 && ns < 1000000000) || ns == ABI_UTIME_NOW || ns == ABI_UTIME_OMIT;
}

long sys_utimensat(struct task *task, const uint64_t args[6]) {
    struct two_times times = times_now;
    if (args[2]) {
        long result = guest_read(&times, args[2], sizeof(times));
        if (result < 0)
            return result;
    }
    if (!nanoseconds_good(times.access_ns) || !nanoseconds_good(times.modify_ns) ||
        (uint32_t)args[3] & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (times.access_ns == ABI_UTIME_OMIT && times.modify_ns == ABI_UTIME_OMIT)
        return 0;
    if (args[1] == 0 && (int)args[0] == AT_FDCWD)
        return -EFAULT;
    return change_times(task, args[1] == 0, (int)args[0], args[1], &times, (uint32_t)args[3]);
}

/* Times in microseconds, as struct timeval[2]. */
static long change_times_us(struct task *task, bool by_fd, int dirfd, uint64_t path, uint64_t address) {
    struct two_times times = times_now;
    if (address) {
        long result = guest_read(&times, address, sizeof(times));
        if (result < 0)
            return result;
        if (times.access_ns < 0 || times.access_ns >= 1000000 || times.modify_ns < 0 || times.modify_ns >= 1000000)
            return -EINVAL;
        times.access_ns *= 1000;
        times.modify_ns *= 1000;
    }
    return change_times(task, by_fd, dirfd, path, &times, 0);
}

long sys_utimes(struct task *task, const uint64_t args[6]) {
    return change_times_us(task, false, AT_FDCWD, args[0], args[1]);
}

long sys_futimesat(struct task *task, const uint64_t args[6]) {
    return change_times_us(task, args[1] == 0, (int)args[0], args[1], args[2]);
}

long sys_utime(struct task *task, const uint64_t args[6]) {
    struct two_times times = times_now;
    if (args[1]) {
        int64_t seconds[2];
        long result = guest_read(seconds, args[1], sizeof(seconds));
        if (result < 0)
            return result;
        times = (struct two_times){seconds[0], 0, seconds[1], 0};
    }
    return change_times(task, false, AT_FDCWD, args[0], &times, 0);
}

/* ---- length ---- */

long sys_truncate(struct task *task, const uint64_t args[6]) {
    struct place place;
    if ((int64_t)args[1] < 0)
        return -EINVAL;
    long result = place_resolve(task, &place, AT_FDCWD, args[0], PLACE_FOLLOW);
    if (result < 0)
        return result;
    struct rpc rpc;
    fs_prepare(&rpc, FS_TRUNCATE);
    rpc.message.payload.words[1] = args[1];
    result = place.kind == PLACE_PATH ? place_request(task, &place, &rpc, -1) : -EINVAL;
    place_end(task, &place);
    return result < 0 ? result : 0;
}

long sys_ftruncate(struct task *task, const uint64_t args[6]) {
    if ((int64_t)args[1] < 0)
        return -EINVAL;
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result;
    if (file->host_fd >= 0) {
        result = host_call(__NR_ftruncate, (uint64_t)file->host_fd, args[1], 0, 0, 0, 0);
    } else if (file->kind != FS_KIND_FILE || !file_writable(file)) {
        result = file->kind == FS_KIND_PATH ? -EBADF : -EINVAL;
    } else {
        struct rpc rpc;
        fs_prepare(&rpc, FS_FTRUNCATE);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = args[1];
        result = fs_call(task, &rpc);
    }
    fd_done(task, file);
    return result < 0 ? result : 0;
}

/* ---- extended attributes ---- */

enum xattr_operation { XATTR_GET = 0, XATTR_SET = 1, XATTR_LIST = 2, XATTR_REMOVE = 3 };

struct xattr_request {
    enum xattr_operation operation;
    bool by_fd;
    bool no_follow;
    int fd;
    uint64_t path;
    uint64_t name;  /* guest address, or 0 (list) */
    uint64_t value; /* guest address */
    uint64_t size;
    uint64_t flags;
};

#define XATTR_NAME_MAX_BYTES 256u

/* Data "path\0name\0value" is put together in `buffer` of DVK_DATA_MAX bytes; without the path for a granted file. */
static long xattr_data(struct rpc *rpc, const struct place *place, const struct xattr_request *request, char *buffer) {
    size_t length = 0;
    if (place->kind == PLACE_PATH) {
        __builtin_memcpy(buffer, place->text, place->length);
        length = place->length;
    }
    if (place->kind == PLACE_PATH || place->file->host_fd < 0)
        buffer[length++] = 0;
    if (request->name) {
        long name = guest_string(buffer + length, request->name, XATTR_NAME_MAX_BYTES);
        if (name <= 0)
            return name == 0 || name == -ENAMETOOLONG ? -ERANGE : name;
        length += (size_t)name;
    }
    buffer[length++] = 0;
    if (request->operation == XATTR_SET) {
        if (request->size > DVK_DATA_MAX - length)
            return -E2BIG;
        long result = request->size ? guest_read(buffer + length, request->value, request->size) : 0;
        if (result < 0)
            return result;
        length += request->size;
    }
    rpc->data = buffer;
    rpc->data_len = length;
    return 0;
}

static long xattr_send(struct task *task, struct place *place, const struct xattr_request *request, char *buffer) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_XATTR);
    long result = xattr_data(&rpc, place, request, buffer);
    if (result < 0)
        return result;
    rpc.message.payload.words[1] = request->operation;
    rpc.message.payload.words[2] = request->no_follow ? AT_SYMLINK_NOFOLLOW : 0;
    rpc.message.payload.words[3] = request->size;
    rpc.message.payload.words[4] = request->flags;
    bool reads = request->operation == XATTR_GET || request->operation == XATTR_LIST;
    if (reads && request->size) {
        rpc.reply = (void *)request->value;
        rpc.reply_cap = request->size < DVK_DATA_MAX ? request->size : DVK_DATA_MAX;
    }
    result = place_request(task, place, &rpc, 2);
    return result < 0 || reads ? result : 0;
}

static bool name_begins(const char *name, const char *prefix) {
    return text_after(name, prefix) != NULL;
}

/*
 * Only those of "user." are kept. That there is none of another kind is known for whatever is there: what fs says, without asking
 * it (ls looks for two with each file).
 */
static long xattr_look(struct task *task, const struct place *place, const struct xattr_request *request) {
    char name[XATTR_NAME_MAX_BYTES];
    struct names_found found = {0};
    if (request->operation != XATTR_GET || guest_string(name, request->name, sizeof(name)) <= 0 || name_begins(name, "user."))
        return NAMES_ASK;
    long known = place_look(task, place, !request->no_follow, &found);
    if (known != 0)
        return known;
    return name_begins(name, "security.") || name_begins(name, "trusted.") ? -ENODATA : -EOPNOTSUPP;
}

static long xattr_call(struct task *task, const struct xattr_request *request) {
    struct place place;
    if (request->operation == XATTR_SET && request->size > DVK_DATA_MAX)
        return -E2BIG;
    long result = request->by_fd
                      ? place_of_fd(task, &place, request->fd, false)
                      : place_resolve(task, &place, AT_FDCWD, request->path, request->no_follow ? 0 : PLACE_FOLLOW);
    if (result < 0)
        return result;
    char *buffer = NULL;
    if ((place.kind != PLACE_PATH && place.kind != PLACE_FILE) ||
        (place.kind == PLACE_FILE && place.file->kind >= FILE_EVENT))
        result = -EOPNOTSUPP;
    else if ((result = xattr_look(task, &place, request)) != NAMES_ASK)
        ; /* no need to ask */
    else if (!(buffer = area_alloc(DVK_DATA_MAX)))
        result = -ENOMEM;
    else
        result = xattr_send(task, &place, request, buffer);
    if (buffer)
        area_free(buffer, DVK_DATA_MAX);
    place_end(task, &place);
    return result;
}

static long xattr_value(struct task *task, const uint64_t args[6], enum xattr_operation operation, bool by_fd,
                        bool no_follow) {
    struct xattr_request request = {
        .operation = operation, .by_fd = by_fd, .no_follow = no_follow, .fd = (int)args[0], .path = args[0]};
    if (operation == XATTR_LIST) {
        request.value = args[1];
        request.size = args[2];
    } else {
        request.name = args[1] ? args[1] : 1; /* address 1 faults just as NULL does */
    }
    if (operation == XATTR_GET || operation == XATTR_SET) {
        request.value = args[2];
        request.size = args[3];
    }
    if (operation == XATTR_SET)
        request.flags = args[4];
    return xattr_call(task, &request);
}

long sys_setxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_SET, false, false);
}
long sys_lsetxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_SET, false, true);
}
long sys_fsetxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_SET, true, false);
}
long sys_getxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_GET, false, false);
}
long sys_lgetxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_GET, false, true);
}
long sys_fgetxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_GET, true, false);
}
long sys_listxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_LIST, false, false);
}
long sys_llistxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_LIST, false, true);
}
long sys_flistxattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_LIST, true, false);
}
long sys_removexattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_REMOVE, false, false);
}
long sys_lremovexattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_REMOVE, false, true);
}
long sys_fremovexattr(struct task *task, const uint64_t args[6]) {
    return xattr_value(task, args, XATTR_REMOVE, true, false);
}
