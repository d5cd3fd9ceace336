/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor table: which number names which file, lowest free number first. */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"

void fd_lock(struct fd_table *table) {
    if (table->threaded)
        lock_acquire(&table->lock);
}

void fd_unlock(struct fd_table *table) {
    if (table->threaded)
        lock_release(&table->lock);
}

struct file *fd_use(struct task *task, int vfd) {
    struct fd_table *table = task_fds(task);
    if (!table->threaded)
        return (uint32_t)vfd < table->size ? table->entry[vfd].file : NULL;
    lock_acquire(&table->lock);
    struct file *file = (uint32_t)vfd < table->size ? table->entry[vfd].file : NULL;
    if (file)
        file_retain(file);
    lock_release(&table->lock);
    return file;
}

void fd_done(struct task *task, struct file *file) {
    if (file && task_fds(task)->threaded)
        file_release(task, file);
}

static bool bit_get(const struct fd_table *table, uint32_t vfd) {
    return table->used[vfd / 64] >> (vfd % 64) & 1;
}

static void bit_set(struct fd_table *table, uint32_t vfd) {
    table->used[vfd / 64] |= 1ull << (vfd % 64);
}

static void bit_clear(struct fd_table *table, uint32_t vfd) {
    table->used[vfd / 64] &= ~(1ull << (vfd % 64));
    if (vfd / 64 < table->hint)
        table->hint = vfd / 64;
}

/* Make entry[] hold vfd, which is below FD_LIMIT_MAX. */
static long table_grow(struct fd_table *table, uint32_t vfd) {
    if (vfd < table->size)
        return 0;
    uint32_t size = table->size;
    while (size <= vfd)
        size *= 2;
    struct fd_entry *entry = area_alloc(size * sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    __builtin_memcpy(entry, table->entry, table->size * sizeof(*entry));
    if (table->entry != table->first)
        area_free(table->entry, table->size * sizeof(*entry));
    table->entry = entry;
    table->size = size;
    return 0;
}

/* Lowest clear bit >= least and below the limit, or -1. */
static int64_t find_free(struct fd_table *table, uint32_t least) {
    uint32_t word = least / 64;
    uint64_t below = (1ull << (least % 64)) - 1; /* descriptors of the first word that do not count */
    bool whole = word <= table->hint;            /* every word below `word` is known to be full */
    if (word < table->hint) {
        word = table->hint;
        below = 0;
    }
    for (; word < FD_WORDS && word * 64 < table->limit; word++, below = 0) {
        uint64_t busy = table->used[word] | below;
        if (busy == ~0ull) {
            if (whole && table->used[word] == ~0ull)
                table->hint = word + 1;
            else
                whole = false;
            continue;
        }
        uint32_t vfd = word * 64 + (uint32_t)__builtin_ctzll(~busy);
        return vfd < table->limit ? (int64_t)vfd : -1;
    }
    return -1;
}

static long reserve_locked(struct fd_table *table, uint32_t least) {
    int64_t vfd = find_free(table, least);
    if (vfd < 0)
        return -EMFILE;
    long result = table_grow(table, (uint32_t)vfd);
    if (result < 0)
        return result;
    bit_set(table, (uint32_t)vfd);
    table->entry[vfd] = (struct fd_entry){0};
    return (long)vfd;
}

long fd_reserve(struct fd_table *table, uint32_t least) {
    fd_lock(table);
    long vfd = reserve_locked(table, least);
    fd_unlock(table);
    return vfd;
}

void fd_unreserve(struct fd_table *table, int vfd) {
    fd_lock(table);
    bit_clear(table, (uint32_t)vfd);
    fd_unlock(table);
}

void fd_install(struct fd_table *table, int vfd, struct file *file, bool close_on_exec) {
    fd_lock(table);
    table->entry[vfd] = (struct fd_entry){file, close_on_exec};
    fd_unlock(table);
}

long fd_add(struct task *task, struct file *file, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    long vfd = fd_reserve(table, 0);
    if (vfd < 0)
        file_release(task, file);
    else
        fd_install(table, (int)vfd, file, close_on_exec);
    return vfd;
}

long fd_give_pair(struct task *task, struct file *first, struct file *second, bool close_on_exec, uint64_t to) {
    if (!first || !second) {
        if (first)
            file_release(task, first);
        if (second)
            file_release(task, second);
        return -ENOMEM;
    }
    long first_fd = fd_add(task, first, close_on_exec);
    if (first_fd < 0) {
        file_release(task, second);
        return first_fd;
    }
    long second_fd = fd_add(task, second, close_on_exec);
    if (second_fd < 0) {
        (void)fd_close(task, (int)first_fd);
        return second_fd;
    }
    int fds[2] = {(int)first_fd, (int)second_fd};
    long result = guest_write(to, fds, sizeof(fds));
    if (result < 0) {
        (void)fd_close(task, fds[0]);
        (void)fd_close(task, fds[1]);
    }
    return result < 0 ? result : 0;
}

/*
 * Closing any descriptor of a file drops the process's POSIX locks on it (fcntl(2)). fs sees the close of its handles,
 * but not that of a granted fd: there it is told.
 */
static void drop_posix_locks(struct task *task, struct file *file) {
    if (!task_fds(task)->posix_locked || file->kind != FS_KIND_FILE || file->host_fd < 0)
        return;
    struct rpc rpc;
    fs_prepare(&rpc, FS_LOCK);
    rpc.message.payload.ints[0] = -1;
    rpc.message.payload.words[1] = 1;
    rpc.message.payload.words[2] = F_UNLCK;
    rpc.send_fds = &file->host_fd;
    rpc.send_fd_count = 1;
    (void)fs_call(task, &rpc); /* a lock that cannot be dropped belongs to a server that is gone */
}

static void entry_close(struct task *task, struct file *file) {
    drop_posix_locks(task, file);
    file_release(task, file);
}

long fd_put_at(struct task *task, int vfd, struct file *file, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    struct file *old = NULL;
    long result = -EBADF;
    fd_lock(table);
    if ((uint32_t)vfd < table->limit && (result = table_grow(table, (uint32_t)vfd)) == 0) {
        old = table->entry[vfd].file;
        if (!old && bit_get(table, (uint32_t)vfd)) {
            result = -EBUSY; /* another thread's open is about to fill it */
        } else {
            bit_set(table, (uint32_t)vfd);
            table->entry[vfd] = (struct fd_entry){file, close_on_exec};
        }
    }
    fd_unlock(table);
    if (result < 0) {
        file_release(task, file);
        return result;
    }
    if (old)
        entry_close(task, old);
    return vfd;
}

long fd_close(struct task *task, int vfd) {
    struct fd_table *table = task_fds(task);
    struct file *file = NULL;
    fd_lock(table);
    if ((uint32_t)vfd < table->size && (file = table->entry[vfd].file)) {
        table->entry[vfd] = (struct fd_entry){0};
        bit_clear(table, (uint32_t)vfd);
    }
    fd_unlock(table);
    if (!file)
        return -EBADF;
    entry_close(task, file);
    return 0;
}

int fd_next_used(const struct fd_table *table, uint32_t least) {
    for (uint32_t vfd = least; vfd < table->size && vfd < FD_LIMIT_MAX;) {
        uint64_t word = table->used[vfd / 64] >> (vfd % 64);
        if (!word) {
            vfd = (vfd / 64 + 1) * 64;
            continue;
        }
        vfd += (uint32_t)__builtin_ctzll(word);
        if (table->entry[vfd].file)
            return (int)vfd;
        vfd++;
    }
    return -1;
}

/* ---- life of a table ---- */

int fd_table_create(struct process *process) {
    struct fd_table *table = area_alloc(sizeof(*table));
    if (!table)
        return -ENOMEM;
    table->process = process;
    table->threaded = true;
    table->umask = 022;
    table->limit = 1024;
    table->size = FD_INLINE;
    table->entry = table->first;
    ((struct process_head *)process)->fd_table = table;
    return 0;
}

void fd_table_drop(struct process *process) {
    struct fd_table *table = process_fds(process);
    if (!table)
        return;
    while (table->files)
        file_forget(table, table->files);
    if (table->entry != table->first)
        area_free(table->entry, table->size * sizeof(*table->entry));
    area_free(table, sizeof(*table));
    ((struct process_head *)process)->fd_table = NULL;
}

void fd_table_set_threaded(struct process *process, bool threaded) {
    process_fds(process)->threaded = threaded;
}

uint32_t fd_limit(const struct process *process) {
    return process_fds(process)->limit;
}

int fd_limit_set(struct process *process, uint64_t limit) {
    if (limit > FD_LIMIT_MAX)
        return -EPERM;
    process_fds(process)->limit = (uint32_t)limit;
    return 0;
}

uint32_t fd_umask(const struct process *process) {
    return process_fds(process)->umask;
}

void fd_umask_set(struct process *process, uint32_t mask) {
    process_fds(process)->umask = mask & 0777;
}

/* ---- exec ---- */

void fd_close_on_exec(struct task *task) {
    struct fd_table *table = task_fds(task);
    for (int vfd = 0;; vfd++) {
        fd_lock(table);
        vfd = fd_next_used(table, (uint32_t)vfd);
        bool close = vfd >= 0 && table->entry[vfd].close_on_exec;
        fd_unlock(table);
        if (vfd < 0)
            return;
        if (close)
            (void)fd_close(task, vfd);
    }
}
