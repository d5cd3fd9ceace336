/* SPDX-License-Identifier: Apache-2.0 */
/* Files: their making and end, and what becomes of them at fork. */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"

static void file_link(struct fd_table *table, struct file *file) {
    file->next = table->files;
    file->link = &table->files;
    if (file->next)
        file->next->link = &file->next;
    table->files = file;
}

static void file_unlink(struct file *file) {
    *file->link = file->next;
    if (file->next)
        file->next->link = file->link;
}

static struct file *file_make(struct fd_table *table, uint32_t kind, int host_fd, int64_t handle, uint32_t status_flags,
                              uint32_t opened) {
    struct file *file = heap_alloc(table->process, sizeof(*file));
    fd_lock(table);
    if (file) {
        file->refs = 1;
        file->kind = kind;
        file->host_fd = host_fd;
        file->handle = handle;
        file->exported = -1;
        file->status_flags = status_flags;
        file_link(table, file);
    } else if (host_fd >= 0) {
        (void)host_call(__NR_close, (uint64_t)host_fd, 0, 0, 0, 0, 0);
    }
    table->opening -= opened;
    fd_unlock(table);
    return file;
}

struct file *file_new(struct fd_table *table, uint32_t kind, int host_fd, int64_t handle, uint32_t status_flags) {
    return file_make(table, kind, host_fd, handle, status_flags, 0);
}

struct file *file_new_opened(struct fd_table *table, uint32_t kind, int host_fd, int64_t handle,
                             uint32_t status_flags) {
    return file_make(table, kind, host_fd, handle, status_flags, 1);
}

void file_opening_begin(struct fd_table *table) {
    fd_lock(table);
    table->opening++;
    fd_unlock(table);
}

void file_opening_end(struct fd_table *table) {
    fd_lock(table);
    table->opening--;
    fd_unlock(table);
}

/* Relaxed: who adds a reference has one, or holds the lock under which the last could be dropped. */
void file_retain(struct file *file) {
    __atomic_fetch_add(&file->refs, 1, __ATOMIC_RELAXED);
}

void handle_close(struct task *task, int64_t handle) {
    struct rpc rpc;
    fs_prepare(&rpc, FS_CLOSE);
    rpc.message.payload.ints[0] = handle;
    (void)fs_call(task, &rpc); /* close reports nothing: a lost server's handles are gone with it */
}

static void interests_free(struct fd_table *table, struct file *file) {
    while (file->interests) {
        struct interest *interest = file->interests;
        file->interests = interest->next;
        heap_free(table->process, interest);
        table->interest_count--;
    }
}

/* Acquire and release: whoever drops the last reference sees all that others did with the file. */
void file_release(struct task *task, struct file *file) {
    if (__atomic_sub_fetch(&file->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    struct fd_table *table = task_fds(task);
    if (file->exported >= 0)
        handle_close(task, file->exported);
    if (file->handle >= 0)
        handle_close(task, file->handle);
    if (file->list)
        area_free(file->list, file->list_length);
    fd_lock(table);
    if (table->interest_count) {
        epoll_forget(table, file);
        interests_free(table, file);
    }
    if (file->host_fd >= 0)
        (void)host_call(__NR_close, (uint64_t)file->host_fd, 0, 0, 0, 0, 0);
    file_unlink(file);
    fd_unlock(table);
    heap_free(table->process, file);
}

void file_forget(struct fd_table *table, struct file *file) {
    interests_free(table, file);
    file_unlink(file);
    heap_free(table->process, file);
}

/* ---- fork ---- */

void fd_fork_begin(struct process *parent) {
    struct fd_table *table = process_fds(parent);
    if (table->threaded)
        lock_acquire(&table->lock);
}

void fd_fork_end(struct process *parent) {
    struct fd_table *table = process_fds(parent);
    if (table->threaded)
        lock_release(&table->lock);
}

/* Close host fds that no file of the table owns: they came with another thread's open in the parent. */
static void close_unowned(struct fd_table *table) {
    for (int low = 0, next;; low = next + 1) { /* everything below low is settled */
        next = host_fd_own(table->process, low);
        for (struct file *file = table->files; file; file = file->next)
            if (file->host_fd >= low && file->host_fd < next)
                next = file->host_fd;
        if (next > low)
            (void)host_call(__NR_close_range, (uint64_t)low, (uint64_t)next - 1, 0, 0, 0, 0);
        if (next == INT32_MAX)
            return;
    }
}

/* The copy that fork made of all memory: references are those of the entries alone, for only one thread is left. */
static void table_settle(struct fd_table *table) {
    for (struct file *file = table->files; file; file = file->next)
        file->refs = 0;
    for (int vfd = fd_next_used(table, 0); vfd >= 0; vfd = fd_next_used(table, (uint32_t)vfd + 1))
        table->entry[vfd].file->refs++;
    for (uint32_t word = 0; word < FD_WORDS && word * 64 < table->size; word++)
        for (uint64_t bits = table->used[word]; bits; bits &= bits - 1) {
            uint32_t vfd = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (!table->entry[vfd].file) { /* reserved by a thread that does not exist here */
                table->used[word] &= ~(1ull << (vfd % 64));
                if (word < table->hint)
                    table->hint = word;
            }
        }
    struct file *next;
    for (struct file *file = table->files; file; file = next) {
        next = file->next;
        file->exported = -1; /* the parent's affair */
        if (file->refs)
            continue;
        if (table->interest_count)
            epoll_forget(table, file);
        if (file->host_fd >= 0)
            (void)host_call(__NR_close, (uint64_t)file->host_fd, 0, 0, 0, 0, 0);
        file_forget(table, file);
    }
    if (table->opening)
        close_unowned(table);
    table->opening = 0;
}

static long interests_copy(struct fd_table *to, struct file *file, const struct file *from) {
    for (const struct interest *old = from->interests; old; old = old->next) {
        struct interest *interest = heap_alloc(to->process, sizeof(*interest));
        if (!interest)
            return -ENOMEM;
        *interest = *old;
        interest->file = old->file->copy;
        interest->next = file->interests;
        file->interests = interest;
        to->interest_count++;
    }
    return 0;
}

static long files_copy(struct fd_table *to, const struct fd_table *from) {
    for (struct file *old = from->files; old; old = old->next) {
        struct file *file = heap_alloc(to->process, sizeof(*file));
        if (!file)
            return -ENOMEM;
        *file = *old;
        file->interests = NULL;
        file->list = NULL; /* the parent's, whose memory this may be */
        file_link(to, file);
        old->copy = file;
    }
    for (struct file *old = from->files; old; old = old->next) {
        long result = interests_copy(to, old->copy, old);
        if (result < 0)
            return result;
    }
    return 0;
}

int fd_table_fork(struct process *child, struct process *parent) {
    struct fd_table *from = process_fds(parent);
    if (child == parent) {
        from->lock = (struct lock){0};
        from->process = child;      /* perhaps a new one that took the table over */
        from->posix_locked = false; /* POSIX locks are not inherited */
        if (from->threaded) /* another thread may have been changing it */
            from->cwd_number = 0;
        table_settle(from);
        return 0;
    }
    int result = fd_table_create(child);
    if (result < 0)
        return result;
    struct fd_table *to = process_fds(child);
    if (from->size > FD_INLINE) {
        to->entry = area_alloc(from->size * sizeof(*to->entry));
        if (!to->entry) {
            to->entry = to->first;
            fd_table_drop(child);
            return -ENOMEM;
        }
    }
    to->size = from->size;
    to->threaded = from->threaded;
    to->poll_set_missing = from->poll_set_missing;
    to->umask_told = from->umask_told;
    to->cwd_number = from->threaded ? 0 : from->cwd_number;
    to->opening = from->opening;
    to->umask = from->umask;
    to->limit = from->limit;
    to->hint = from->hint;
    if (files_copy(to, from) < 0) {
        fd_table_drop(child);
        return -ENOMEM;
    }
    __builtin_memcpy(to->used, from->used, sizeof(to->used));
    for (int vfd = fd_next_used(from, 0); vfd >= 0; vfd = fd_next_used(from, (uint32_t)vfd + 1))
        to->entry[vfd] = (struct fd_entry){from->entry[vfd].file->copy, from->entry[vfd].close_on_exec};
    table_settle(to);
    return 0;
}
