/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod mknodat readlink
 * readlinkat chdir fchdir getcwd umask
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

/* One path and two words; names of /proc/self/fd cannot be changed. */
static long name_call(struct task *task, uint32_t type, int dirfd, uint64_t path, uint64_t word1, uint64_t word2) {
    struct place place;
    long result = place_resolve(task, &place, dirfd, path, PLACE_DIRECT);
    if (result < 0)
        return result;
    struct rpc rpc;
    fs_prepare(&rpc, type);
    rpc.message.payload.words[1] = word1;
    rpc.message.payload.words[2] = word2;
    result = place.kind == PLACE_PATH ? place_request(task, &place, &rpc, -1) : -EPERM;
    place_end(task, &place);
    return result < 0 ? result : 0;
}

static long make_directory(struct task *task, int dirfd, uint64_t path, uint64_t mode) {
    return name_call(task, FS_MKDIR, dirfd, path, mode & 01777 & ~(uint64_t)task_fds(task)->umask, 0);
}

long sys_mkdir(struct task *task, const uint64_t args[6]) {
    return make_directory(task, AT_FDCWD, args[0], args[1]);
}

long sys_mkdirat(struct task *task, const uint64_t args[6]) {
    return make_directory(task, (int)args[0], args[1], args[2]);
}

long sys_rmdir(struct task *task, const uint64_t args[6]) {
    return name_call(task, FS_UNLINK, AT_FDCWD, args[0], AT_REMOVEDIR, 0);
}

long sys_unlink(struct task *task, const uint64_t args[6]) {
    return name_call(task, FS_UNLINK, AT_FDCWD, args[0], 0, 0);
}

long sys_unlinkat(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[2] & ~(uint32_t)AT_REMOVEDIR)
        return -EINVAL;
    return name_call(task, FS_UNLINK, (int)args[0], args[1], args[2] & AT_REMOVEDIR, 0);
}

static long make_node(struct task *task, int dirfd, uint64_t path, uint32_t mode, uint64_t device) {
    uint32_t type = mode & S_IFMT;
    if (type == S_IFDIR)
        return -EPERM;
    if (type != 0 && type != S_IFREG && type != S_IFIFO && type != S_IFCHR && type != S_IFBLK && type != S_IFSOCK)
        return -EINVAL;
    mode = type | (mode & 07777 & ~task_fds(task)->umask);
    return name_call(task, FS_MKNOD, dirfd, path, mode, device);
}

long sys_mknod(struct task *task, const uint64_t args[6]) {
    return make_node(task, AT_FDCWD, args[0], (uint32_t)args[1], args[2]);
}

long sys_mknodat(struct task *task, const uint64_t args[6]) {
    return make_node(task, (int)args[0], args[1], (uint32_t)args[2], args[3]);
}

/* ---- two paths ---- */

/* Data "old\0new\0" of at most two full paths. */
struct name_pair {
    size_t length;
    char text[2 * VOS_PATH_MAX];
};

static void pair_add(struct name_pair *pair, const char *text, size_t length) {
    __builtin_memcpy(pair->text + pair->length, text, length);
    pair->length += length;
    pair->text[pair->length++] = 0;
}

/*
 * Both paths are asked for one after the other through one struct place, to save stack. The use of the first one's
 * directory ends before the request is sent: should another thread close it meanwhile, fs finds no such handle.
 */
static long pair_path(struct task *task, struct name_pair *pair, int dirfd, uint64_t path, unsigned flags, int64_t *dir,
                      uint64_t *at_flags) {
    struct place place;
    long result = place_resolve(task, &place, dirfd, path, flags);
    if (result < 0)
        return result;
    if (place.kind == PLACE_PATH) {
        result = place_dir(task, &place, dir);
        pair_add(pair, place.text, place.length);
    } else if (place.kind == PLACE_FILE && place.file->handle >= 0 && at_flags) {
        *dir = place.file->handle;
        *at_flags |= AT_EMPTY_PATH;
        pair_add(pair, "", 0);
    } else {
        result = -EXDEV; /* an object of /proc or without a name: no other file system can link to it */
    }
    place_end(task, &place);
    return result;
}

static long pair_call(struct task *task, uint32_t type, int old_dirfd, uint64_t old_path, unsigned old_flags,
                      int new_dirfd, uint64_t new_path, uint64_t word2) {
    struct name_pair pair;
    pair.length = 0;
    struct rpc rpc;
    fs_prepare(&rpc, type);
    int64_t *word = rpc.message.payload.ints;
    rpc.message.payload.words[2] = word2;
    bool may_be_empty = type == FS_LINK;
    long result = pair_path(task, &pair, old_dirfd, old_path, old_flags, &word[0],
                            may_be_empty ? &rpc.message.payload.words[2] : NULL);
    if (result >= 0)
        result = pair_path(task, &pair, new_dirfd, new_path, PLACE_DIRECT, &word[1], NULL);
    if (result < 0)
        return result;
    rpc.data = pair.text;
    rpc.data_len = pair.length;
    result = fs_call(task, &rpc);
    return result < 0 ? result : 0;
}

long sys_rename(struct task *task, const uint64_t args[6]) {
    return pair_call(task, FS_RENAME, AT_FDCWD, args[0], PLACE_DIRECT, AT_FDCWD, args[1], 0);
}

long sys_renameat(struct task *task, const uint64_t args[6]) {
    return pair_call(task, FS_RENAME, (int)args[0], args[1], PLACE_DIRECT, (int)args[2], args[3], 0);
}

long sys_renameat2(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[4];
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
        (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
        return -EINVAL;
    return pair_call(task, FS_RENAME, (int)args[0], args[1], PLACE_DIRECT, (int)args[2], args[3], flags);
}

long sys_link(struct task *task, const uint64_t args[6]) {
    return pair_call(task, FS_LINK, AT_FDCWD, args[0], PLACE_DIRECT, AT_FDCWD, args[1], 0);
}

long sys_linkat(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[4];
    if (flags & ~(uint32_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    unsigned old =
        (flags & AT_SYMLINK_FOLLOW ? PLACE_FOLLOW : PLACE_DIRECT) | (flags & AT_EMPTY_PATH ? PLACE_EMPTY : 0);
    return pair_call(task, FS_LINK, (int)args[0], args[1], old, (int)args[2], args[3], flags & AT_SYMLINK_FOLLOW);
}

static long make_symlink(struct task *task, uint64_t target, int dirfd, uint64_t path) {
    struct name_pair pair;
    long length = guest_string(pair.text, target, VOS_PATH_MAX);
    if (length <= 0)
        return length < 0 ? length : -ENOENT;
    pair.length = (size_t)length + 1;
    struct rpc rpc;
    fs_prepare(&rpc, FS_SYMLINK);
    long result = pair_path(task, &pair, dirfd, path, PLACE_DIRECT, &rpc.message.payload.ints[0], NULL);
    if (result < 0)
        return result;
    rpc.data = pair.text;
    rpc.data_len = pair.length;
    result = fs_call(task, &rpc);
    return result < 0 ? result : 0;
}

long sys_symlink(struct task *task, const uint64_t args[6]) {
    return make_symlink(task, args[0], AT_FDCWD, args[1]);
}

long sys_symlinkat(struct task *task, const uint64_t args[6]) {
    return make_symlink(task, args[0], (int)args[1], args[2]);
}

/* ---- readlink ---- */

/* Text of the link into to; its length. */
static long link_text(struct task *task, struct place *place, char *to, size_t cap) {
    switch (place->kind) {
    case PLACE_FD_LINK:
        return file_link_text(task, place->file, to, cap);
    case PLACE_EXE_LINK: {
        const char *exe = process_exe(task->process);
        size_t length = text_length(exe) < cap ? text_length(exe) : cap;
        __builtin_memcpy(to, exe, length);
        return (long)length;
    }
    case PLACE_FD_DIRECTORY:
        return -EINVAL;
    case PLACE_FILE: /* "" with the descriptor of a link, opened with O_PATH */
        if (place->file->handle < 0)
            return -ENOENT;
        break;
    case PLACE_PATH:
        break;
    }
    struct names_found found = {.target = to};
    long known = cap == VOS_PATH_MAX ? place_look(task, place, false, &found) : NAMES_ASK;
    if (known != NAMES_ASK)
        return known < 0 ? known : found.kind == NAMES_LINK ? (long)found.target_length : -EINVAL;
    struct rpc rpc;
    fs_prepare(&rpc, FS_READLINK);
    rpc.message.payload.words[1] = cap;
    rpc.reply = to;
    rpc.reply_cap = cap;
    long result = place_request(task, place, &rpc, -1);
    return result > (long)cap || (result >= 0 && rpc.reply_len < (size_t)result) ? -EIO : result;
}

static long read_link(struct task *task, int dirfd, uint64_t path, uint64_t to, int64_t size) {
    struct place place;
    char text[VOS_PATH_MAX];
    if (size <= 0)
        return -EINVAL;
    long result = place_resolve(task, &place, dirfd, path, dirfd == AT_FDCWD ? 0 : PLACE_EMPTY);
    if (result < 0)
        return result;
    result = link_text(task, &place, text, sizeof(text));
    place_end(task, &place);
    if (result > size)
        result = (long)size;
    if (result < 0)
        return result;
    long copied = guest_write(to, text, (size_t)result);
    return copied < 0 ? copied : result;
}

long sys_readlink(struct task *task, const uint64_t args[6]) {
    return read_link(task, AT_FDCWD, args[0], args[1], (int)args[2]);
}

long sys_readlinkat(struct task *task, const uint64_t args[6]) {
    return read_link(task, (int)args[0], args[1], args[2], (int)args[3]);
}

/* ---- working directory and umask ---- */

/* FS_CHDIR's answers name directories only. */
static long change_directory(struct task *task, struct place *place) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_CHDIR);
    if (place->kind == PLACE_FD_DIRECTORY)
        return -EACCES; /* only its names are here */
    if (place->kind == PLACE_FILE && place->file->kind != FS_KIND_DIR && place->file->kind != FS_KIND_PATH)
        return -ENOTDIR;
    cwd_forget(task_fds(task));
    long result = place_request(task, place, &rpc, -1);
    cwd_forget(task_fds(task));
    return result < 0 ? result : 0;
}

long sys_chdir(struct task *task, const uint64_t args[6]) {
    struct place place;
    long result = place_resolve(task, &place, AT_FDCWD, args[0], PLACE_FOLLOW);
    if (result < 0)
        return result;
    result = change_directory(task, &place);
    place_end(task, &place);
    return result;
}

long sys_fchdir(struct task *task, const uint64_t args[6]) {
    struct place place;
    long result = place_of_fd(task, &place, (int)args[0], true);
    if (result < 0)
        return result;
    result = change_directory(task, &place);
    place_end(task, &place);
    return result;
}

long sys_getcwd(struct task *task, const uint64_t args[6]) {
    char path[VOS_PATH_MAX];
    struct rpc rpc;
    fs_prepare(&rpc, FS_GETCWD);
    rpc.reply = path;
    rpc.reply_cap = sizeof(path);
    long length = fs_call(task, &rpc);
    if (length < 0)
        return length;
    if (length == 0 || (size_t)length > rpc.reply_len || rpc.reply_len > sizeof(path))
        return -EIO;
    if ((uint64_t)length > args[1])
        return -ERANGE;
    long result = guest_write(args[0], path, (size_t)length);
    return result < 0 ? result : length;
}

long sys_umask(struct task *task, const uint64_t args[6]) {
    struct fd_table *table = task_fds(task);
    uint32_t mask = (uint32_t)args[0] & 0777;
    uint32_t old = __atomic_exchange_n(&table->umask, mask, __ATOMIC_RELAXED); /* a number by itself */
    if (old != mask)
        table->umask_told = false;
    return (long)old;
}
