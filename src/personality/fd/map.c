/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files for the loader, and mappings of files: mmap(2) of a descriptor.
 *
 * A granted file is mapped by the host. Of a handle, a private mapping is a copy of its contents at that time (zeroes
 * behind its end, where Linux would raise SIGBUS); a shared one is not possible (-ENODEV, as of a file system without
 * mmap).
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"

#define PAGE_SIZE 4096ull

/* ---- for the loader ---- */

/*
 * Permission to run it, as execve(2) checks it. The host kernel cannot do so for us: nothing is executed from its point
 * of view. Where every one may run it, the mode says all; else fs knows who asks (place NULL: a descriptor, nobody is
 * asked).
 */
static long exec_check(struct task *task, struct place *place, const struct vos_stat *stat) {
    if ((stat->st_mode & S_IFMT) != S_IFREG || !(stat->st_mode & 0111))
        return -EACCES;
    if ((stat->st_mode & 0111) == 0111 || !place || place->kind != PLACE_PATH)
        return 0;
    struct rpc rpc;
    fs_prepare(&rpc, FS_ACCESS);
    rpc.message.payload.words[1] = ABI_X_OK;
    rpc.message.payload.words[2] = AT_EACCESS;
    long result = place_request(task, place, &rpc, -1);
    return result < 0 ? result : 0;
}

static long file_give(struct task *task, struct place *place, struct file *file, bool exec, struct file_ref **out,
                      struct vos_stat *stat) {
    long result = file_stat(task, file, stat);
    if (result >= 0 && exec)
        result = exec_check(task, place, stat);
    if (result < 0) {
        file_release(task, file);
        return result;
    }
    *out = (struct file_ref *)file;
    return 0;
}

long file_open_exec(struct task *task, const char *path, bool exec, struct file_ref **out, struct opened_info *info) {
    struct place place;
    struct file *file;
    info->path[0] = 0;
    long result = place_resolve_text(task, &place, path, PLACE_FOLLOW);
    if (result < 0)
        return result;
    result = file_open(task, &place, O_RDONLY | O_NONBLOCK, 0, exec ? info : NULL, &file);
    if (result >= 0)
        result = file_give(task, &place, file, exec, out, &info->stat);
    place_end(task, &place);
    return result;
}

static bool closes_on_exec(struct task *task, int vfd) {
    struct fd_table *table = task_fds(task);
    fd_lock(table);
    bool closes = (uint32_t)vfd < table->size && table->entry[vfd].close_on_exec;
    fd_unlock(table);
    return closes;
}

/* "/dev/fd/N", as Linux calls such a program, too; if it has to, its own name. */
static long program_path(struct task *task, struct file *file, int vfd, char *path, size_t cap, bool *stay) {
    bool closes = closes_on_exec(task, vfd);
    if (file->kind == FS_KIND_PATH || closes) {
        long length = file_link_text(task, file, path, cap - 1);
        if (length > 0 && path[0] == '/' && file->kind != FILE_MEMFD) {
            path[length] = 0;
            return 0;
        }
        if (file->kind == FS_KIND_PATH)
            return length < 0 ? length : -EACCES;
    }
    if (file->kind != FS_KIND_FILE && file->kind != FILE_MEMFD)
        return -EACCES;
    __builtin_memcpy(path, "/dev/fd/", 8);
    path[8 + decimal_put(path + 8, (uint64_t)vfd)] = 0;
    *stay = closes;
    return 0;
}

static long program_path_below(struct task *task, struct file *file, const char *name, char *path, size_t cap) {
    if (file->kind != FS_KIND_DIR && file->kind != FS_KIND_PATH)
        return -ENOTDIR;
    long length = file_link_text(task, file, path, cap);
    size_t name_length = text_length(name);
    if (length < 0)
        return length;
    if ((size_t)length + 1 + name_length >= cap)
        return -ENAMETOOLONG;
    path[length] = '/';
    __builtin_memcpy(path + length + 1, name, name_length + 1);
    return 0;
}

long fd_program_path(struct task *task, int vfd, const char *name, char *path, size_t cap, bool *stay) {
    if (vfd == AT_FDCWD)
        return -EACCES; /* the working directory is no program */
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -EBADF;
    *stay = false;
    long result = *name ? program_path_below(task, file, name, path, cap) : program_path(task, file, vfd, path, cap, stay);
    fd_done(task, file);
    return result;
}

long file_pread(struct task *task, struct file_ref *ref, void *to, size_t len, uint64_t offset) {
    if (offset > INT64_MAX)
        return -EINVAL;
    return file_read(task, (struct file *)ref, to, len, (int64_t)offset);
}

void file_close(struct task *task, struct file_ref *ref) {
    file_release(task, (struct file *)ref);
}

/* ---- mappings ---- */

static long map_host(const struct file *file, uint64_t address, size_t len, int prot, int flags, uint64_t offset) {
    return host_call(__NR_mmap, address, len, (uint64_t)prot, (uint64_t)flags, (uint64_t)file->host_fd, offset);
}

/* Read the part of the file that exists; the rest of the memory is zero already. */
static long map_fill(struct task *task, struct file *file, uint64_t address, size_t len, uint64_t offset) {
    size_t done = 0;
    while (done < len) {
        long got = file_read(task, file, (char *)address + done, len - done, (int64_t)(offset + done));
        if (got <= 0)
            return got;
        done += (size_t)got;
    }
    return 0;
}

/*
 * The copy is made aside and moved into place when it is complete: a fixed mapping replaces what was there in one step,
 * and not at all when reading fails.
 */
static long map_copy(struct task *task, struct file *file, uint64_t address, size_t len, int prot, int flags,
                     uint64_t offset) {
    const int kept = MAP_32BIT | MAP_NORESERVE | MAP_LOCKED;
    bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    uint64_t room = (len + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    if (flags & MAP_FIXED_NOREPLACE) { /* reserve, so that the move below replaces only that */
        long there = host_call(__NR_mmap, address, room, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, (uint64_t)-1, 0);
        if (there < 0)
            return there;
    }
    long made = host_call(__NR_mmap, fixed ? 0 : address, room, PROT_READ | PROT_WRITE,
                          (uint64_t)(MAP_PRIVATE | MAP_ANONYMOUS | (flags & kept)), (uint64_t)-1, 0);
    long result = made < 0 ? made : map_fill(task, file, (uint64_t)made, len, offset);
    if (result >= 0 && prot != (PROT_READ | PROT_WRITE))
        result = host_call(__NR_mprotect, (uint64_t)made, room, (uint64_t)prot, 0, 0, 0);
    if (result >= 0 && fixed)
        result = host_call(__NR_mremap, (uint64_t)made, room, room, MREMAP_MAYMOVE | MREMAP_FIXED, address, 0);
    if (result < 0) {
        if (made >= 0)
            (void)host_call(__NR_munmap, (uint64_t)made, room, 0, 0, 0, 0);
        if (flags & MAP_FIXED_NOREPLACE)
            (void)host_call(__NR_munmap, address, room, 0, 0, 0, 0);
        return result;
    }
    return fixed ? (long)address : made;
}

static long map_handle(struct task *task, struct file *file, uint64_t address, size_t len, int prot, int flags,
                       uint64_t offset) {
    int type = flags & MAP_TYPE;
    if (len == 0 || len > INT64_MAX - PAGE_SIZE || offset % PAGE_SIZE || offset > INT64_MAX - len)
        return len > INT64_MAX - PAGE_SIZE ? -ENOMEM : -EINVAL;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) && address % PAGE_SIZE)
        return -EINVAL;
    if (file->kind == FS_KIND_PATH)
        return -EBADF;
    if (!file_readable(file))
        return -EACCES;
    if (file->kind != FS_KIND_FILE)
        return -ENODEV;
    if (type == MAP_SHARED || type == MAP_SHARED_VALIDATE)
        return prot & PROT_WRITE && !file_writable(file) ? -EACCES : -ENODEV;
    if (type != MAP_PRIVATE)
        return -EINVAL;
    return map_copy(task, file, address, len, prot, flags, offset);
}

static long map_file(struct task *task, struct file *file, uint64_t address, size_t len, int prot, int flags,
                     uint64_t offset) {
    if (file->host_fd >= 0)
        return map_host(file, address, len, prot, flags, offset);
    return map_handle(task, file, address, len, prot, flags, offset);
}

long file_map(struct task *task, struct file_ref *ref, uint64_t address, size_t len, int prot, bool fixed,
              uint64_t offset) {
    return map_file(task, (struct file *)ref, address, len, prot, MAP_PRIVATE | (fixed ? MAP_FIXED : 0), offset);
}

long fd_mmap(struct task *task, uint64_t address, size_t len, int prot, int flags, int fd, uint64_t offset) {
    struct file *file = fd_use(task, fd);
    if (!file)
        return -EBADF;
    long result = map_file(task, file, address, len, prot, flags, offset);
    fd_done(task, file);
    return result;
}
