/* SPDX-License-Identifier: Apache-2.0 */
/* getdents getdents64 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

/* struct linux_dirent64 and the older struct linux_dirent: the same length for the same name. */
struct entry64 {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};
#define ENTRY_NAME_OFFSET 19u
#define OLD_NAME_OFFSET 18u
#define ENTRY_TYPE_DIR 4
#define ENTRY_TYPE_LINK 10

/* ---- directories without a handle: their listing is in the table of names ---- */

/* The offset of the first entry at or behind `offset`. */
static size_t entry_boundary(const char *list, size_t length, uint64_t offset) {
    size_t at = 0;
    while (at < length && at < offset) {
        struct entry64 entry;
        __builtin_memcpy(&entry, list + at, ENTRY_NAME_OFFSET);
        if (entry.reclen < ENTRY_NAME_OFFSET)
            return length;
        at += entry.reclen;
    }
    return at < length ? at : length;
}

static long list_copy(uint64_t to, const void *from, size_t len) {
    __builtin_memcpy((void *)to, from, len);
    return 0;
}

/* Keep a copy of the whole listing, so that it stays as it was at the first read. */
static bool list_load(struct file *file) {
    uint32_t length = 0;
    if (file->list)
        return true;
    if (names_list(names_table, file->number, NULL, 0, &length, list_copy) != 0 || !length)
        return false;
    char *list = area_alloc(length);
    uint32_t again = 0;
    if (!list)
        return false;
    if (names_list(names_table, file->number, list, length, &again, list_copy) != 0 || again != length) {
        area_free(list, length);
        return false;
    }
    file->list = list;
    file->list_length = length;
    return true;
}

static void list_forget(struct file *file) {
    if (file->list)
        area_free(file->list, file->list_length);
    file->list = NULL;
}

bool directory_publish(struct task *task, struct file *file) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_LISTDIR);
    rpc.message.payload.words[0] = file->number;
    return fs_call(task, &rpc) == 0;
}

/* Entries that are at the file's position, or NAMES_ASK. With several threads there is no copy: two could be at it. */
static long list_read(struct task *task, struct file *file, void *to, size_t len) {
    uint32_t length = 0;
    if (!file->list && file->position == 0) {
        long result = names_list(names_table, file->number, to, len, &length, guest_write);
        if (result == NAMES_ASK && directory_publish(task, file))
            result = names_list(names_table, file->number, to, len, &length, guest_write);
        if (result < 0)
            return result;
        if (length <= len) {
            file->position = length;
            file->directory_end = true;
            return length;
        }
    }
    if (task_fds(task)->threaded || !list_load(file))
        return NAMES_ASK;
    size_t from = entry_boundary(file->list, file->list_length, file->position), end = from;
    while (end < file->list_length) {
        struct entry64 entry;
        __builtin_memcpy(&entry, file->list + end, ENTRY_NAME_OFFSET);
        if (entry.reclen < ENTRY_NAME_OFFSET || end - from + entry.reclen > len)
            break;
        end += entry.reclen;
    }
    if (end == from && end < file->list_length)
        return -EINVAL;
    long result = guest_write((uint64_t)to, file->list + from, end - from);
    if (result < 0)
        return result;
    file->position = end;
    file->directory_end = end == file->list_length;
    return (long)(end - from);
}

long directory_seek(struct task *task, struct file *file, int64_t offset, int whence) {
    if (whence == SEEK_CUR)
        offset += (int64_t)file->position;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (offset < 0)
        return -EINVAL;
    if (offset == 0)
        list_forget(file); /* rewinddir: what is there now */
    file->directory_end = false;
    file->position = (uint64_t)offset;
    return (long)offset;
}

static long directory_read(struct task *task, struct file *file, void *to, size_t len) {
    if (file->directory_end)
        return 0;
    if (file->handle < 0) {
        long result = list_read(task, file, to, len);
        if (result == NAMES_ASK)
            result = directory_handle(task, file);
        else
            return result;
        if (result < 0)
            return result;
    }
    size_t size = len < DVK_DATA_MAX ? len : DVK_DATA_MAX;
    struct rpc rpc;
    fs_prepare(&rpc, FS_GETDENTS);
    rpc.message.payload.ints[0] = file->handle;
    rpc.message.payload.words[1] = size;
    rpc.reply = to;
    rpc.reply_cap = size;
    long result = fs_call(task, &rpc);
    if (result < 0)
        return result;
    if ((size_t)result > size || rpc.reply_len < (size_t)result)
        return -EIO;
    file->directory_end = rpc.message.payload.words[0] == 1;
    return result;
}

/* ---- /proc/self/fd ---- */

/* One entry at `to`; its length, or 0 if there is no room for it. */
static size_t entry_put(char *to, size_t room, uint64_t ino, uint64_t next, uint8_t type, const char *name,
                        size_t name_len) {
    size_t length = (ENTRY_NAME_OFFSET + name_len + 1 + 7) & ~(size_t)7;
    if (length > room)
        return 0;
    struct entry64 entry = {.ino = ino, .off = (int64_t)next, .reclen = (uint16_t)length, .type = type};
    __builtin_memset(to, 0, length);
    __builtin_memcpy(to, &entry, ENTRY_NAME_OFFSET);
    __builtin_memcpy(to + ENTRY_NAME_OFFSET, name, name_len);
    return length;
}

/* position 0 is ".", 1 is "..", 2 + N is descriptor N. Returns the length put. */
static size_t descriptors_list(struct fd_table *table, struct file *file, char *to, size_t size) {
    size_t done = 0, length;
    while (file->position < 2) {
        size_t name_len = file->position + 1;
        length =
            entry_put(to + done, size - done, 2 + file->position, file->position + 1, ENTRY_TYPE_DIR, "..", name_len);
        if (!length)
            return done;
        done += length;
        file->position++;
    }
    for (;;) {
        uint64_t least = file->position - 2;
        fd_lock(table);
        int vfd = least < table->size ? fd_next_used(table, (uint32_t)least) : -1;
        fd_unlock(table);
        if (vfd < 0)
            return done;
        char name[20];
        size_t name_len = decimal_put(name, (uint64_t)vfd);
        length =
            entry_put(to + done, size - done, 16 + (uint64_t)vfd, (uint64_t)vfd + 3, ENTRY_TYPE_LINK, name, name_len);
        if (!length)
            return done;
        done += length;
        file->position = (uint64_t)vfd + 3;
    }
}

long fd_directory_read(struct task *task, struct file *file, uint64_t to, size_t len) {
    char buffer[2048];
    uint64_t before = file->position;
    size_t done = descriptors_list(task_fds(task), file, buffer, len < sizeof(buffer) ? len : sizeof(buffer));
    if (done == 0) {
        struct fd_table *table = task_fds(task);
        fd_lock(table);
        bool more = before < 2 || (before - 2 < table->size && fd_next_used(table, (uint32_t)before - 2) >= 0);
        fd_unlock(table);
        return more ? -EINVAL : 0;
    }
    long result = guest_write(to, buffer, done);
    if (result < 0) {
        file->position = before;
        return result;
    }
    return (long)done;
}

/* ---- the calls ---- */

static long directory_check(const struct file *file) {
    if (!file)
        return -EBADF;
    if (file->kind == FS_KIND_PATH)
        return -EBADF;
    if (file->kind == FILE_FD_DIRECTORY)
        return 0;
    return file->kind == FS_KIND_DIR ? 0 : -ENOTDIR;
}

long sys_getdents64(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    long result = directory_check(file);
    if (result == 0)
        result = file->kind == FILE_FD_DIRECTORY ? fd_directory_read(task, file, args[1], (uint32_t)args[2])
                                                 : directory_read(task, file, (void *)args[1], (uint32_t)args[2]);
    fd_done(task, file);
    return result;
}

/* Turn entries of the new form into the old one, in place. Returns false if they are not well formed. */
static bool entries_to_old(char *buffer, size_t length) {
    for (size_t at = 0; at < length;) {
        struct entry64 entry;
        if (length - at < ENTRY_NAME_OFFSET + 1)
            return false;
        __builtin_memcpy(&entry, buffer + at, ENTRY_NAME_OFFSET);
        if (entry.reclen < ENTRY_NAME_OFFSET + 1 || entry.reclen > length - at)
            return false;
        size_t name_room = entry.reclen - ENTRY_NAME_OFFSET;
        __builtin_memmove(buffer + at + OLD_NAME_OFFSET, buffer + at + ENTRY_NAME_OFFSET, name_room);
        buffer[at + entry.reclen - 1] = (char)entry.type;
        at += entry.reclen;
    }
    return true;
}

long sys_getdents(struct task *task, const uint64_t args[6]) {
    struct file *file = fd_use(task, (int)args[0]);
    long result = directory_check(file);
    if (result == 0 && file->kind == FILE_FD_DIRECTORY)
        result = -EINVAL; /* only programs older than /proc/self/fd itself would ask so */
    size_t size = (uint32_t)args[2] < DVK_DATA_MAX ? (uint32_t)args[2] : DVK_DATA_MAX;
    char *buffer = result == 0 && size ? area_alloc(size) : NULL;
    if (result == 0) {
        result = buffer ? directory_read(task, file, buffer, size) : size ? -ENOMEM : -EINVAL;
        if (result > 0 && !entries_to_old(buffer, (size_t)result))
            result = -EIO;
        if (result > 0) {
            long copied = guest_write(args[1], buffer, (size_t)result);
            result = copied < 0 ? copied : result;
        }
    }
    if (buffer)
        area_free(buffer, size);
    fd_done(task, file);
    return result;
}
