/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
 *
 * Host fds are in an epoll set of the host: the guest's data goes through it untouched. Handles cannot be there: they
 * are kept in a list beside it, and waiting for a set that has any is a poll of them and of the host's epoll fd. They
 * are level-triggered, also with EPOLLET (programs that read until EAGAIN do not see a difference, but for wake-ups in
 * vain). The list is this process's own: a child's changes to an epoll set that it inherited concern host fds only.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/poll_convert.h"

#define EVENTS_MAX (INT32_MAX / (int)sizeof(struct epoll_event))
#define REMOTE_INLINE 16u

static long epoll_make(struct task *task, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    file_opening_begin(table);
    long host_fd = host_call(__NR_epoll_create1, 0, 0, 0, 0, 0, 0);
    if (host_fd < 0) {
        file_opening_end(table);
        return host_fd;
    }
    struct file *file = file_new_opened(table, FILE_EPOLL, (int)host_fd, -1, O_RDWR);
    return file ? fd_add(task, file, close_on_exec) : -ENOMEM;
}

long sys_epoll_create(struct task *task, const uint64_t args[6]) {
    return (int)args[0] <= 0 ? -EINVAL : epoll_make(task, false);
}

long sys_epoll_create1(struct task *task, const uint64_t args[6]) {
    if ((uint32_t)args[0] & ~(uint32_t)O_CLOEXEC)
        return -EINVAL;
    return epoll_make(task, args[0] & O_CLOEXEC);
}

/* ---- interests in handles; the caller holds the lock ---- */

static struct interest **interest_find(struct file *set, const struct file *file, int vfd) {
    for (struct interest **at = &set->interests; *at; at = &(*at)->next)
        if ((*at)->file == file && (*at)->vfd == vfd)
            return at;
    return NULL;
}

static void interest_remove(struct fd_table *table, struct interest **at) {
    struct interest *interest = *at;
    *at = interest->next;
    table->interest_count--;
    heap_free(table->process, interest);
}

void epoll_forget(struct fd_table *table, struct file *file) {
    for (struct file *set = table->files; set; set = set->next)
        for (struct interest **at = &set->interests; *at;) {
            if ((*at)->file == file)
                interest_remove(table, at);
            else
                at = &(*at)->next;
        }
}

static long interest_change(struct fd_table *table, struct file *set, struct file *file, int vfd, int operation,
                            const struct epoll_event *event) {
    struct interest **at = interest_find(set, file, vfd);
    if (operation == EPOLL_CTL_ADD ? at != NULL : at == NULL)
        return at ? -EEXIST : -ENOENT;
    if (operation == EPOLL_CTL_DEL) {
        interest_remove(table, at);
        return 0;
    }
    struct interest *interest = at ? *at : heap_alloc(table->process, sizeof(*interest));
    if (!interest)
        return -ENOMEM;
    if (!at) {
        interest->next = set->interests;
        set->interests = interest;
        interest->file = file;
        interest->vfd = vfd;
        table->interest_count++;
    }
    interest->events = event->events;
    interest->data = event->data;
    interest->disabled = false;
    return 0;
}

static long control(struct task *task, struct file *set, struct file *file, int vfd, int operation, uint64_t address) {
    struct fd_table *table = task_fds(task);
    struct epoll_event event = {0};
    if (set->kind != FILE_EPOLL || set == file)
        return -EINVAL;
    if (file->host_fd >= 0)
        return host_call(__NR_epoll_ctl, (uint64_t)set->host_fd, (uint64_t)operation, (uint64_t)file->host_fd, address,
                         0, 0);
    if (!file_is_stream(file))
        return file->kind == FS_KIND_PATH ? -EBADF : -EPERM;
    if (operation != EPOLL_CTL_ADD && operation != EPOLL_CTL_MOD && operation != EPOLL_CTL_DEL)
        return -EINVAL;
    long result = operation == EPOLL_CTL_DEL ? 0 : guest_read(&event, address, sizeof(event));
    if (result < 0)
        return result;
    fd_lock(table);
    result = interest_change(table, set, file, vfd, operation, &event);
    fd_unlock(table);
    return result;
}

long sys_epoll_ctl(struct task *task, const uint64_t args[6]) {
    struct file *set = fd_use(task, (int)args[0]);
    struct file *file = fd_use(task, (int)args[2]);
    long result = set && file ? control(task, set, file, (int)args[2], (int)args[1], args[3]) : -EBADF;
    fd_done(task, file);
    fd_done(task, set);
    return result;
}

/* ---- waiting with handles ---- */

/* Items for the handles of a set, which are retained, and the set itself as item 0; how many. */
static unsigned interests_collect(struct fd_table *table, struct file *set, struct poll_item *items,
                                  struct interest *copies, unsigned cap) {
    unsigned n = 0;
    fd_lock(table);
    for (struct interest *interest = set->interests; interest && n < cap; interest = interest->next) {
        if (interest->disabled)
            continue;
        file_retain(interest->file);
        copies[n] = *interest;
        items[++n] = (struct poll_item){interest->file, interest->events & 0xffff, 0};
    }
    fd_unlock(table);
    items[0] = (struct poll_item){set, POLLIN, 0};
    return n + 1;
}

/* EPOLLONESHOT has fired. */
static void interest_disable(struct fd_table *table, struct file *set, const struct interest *copy) {
    fd_lock(table);
    struct interest **at = interest_find(set, copy->file, copy->vfd);
    if (at)
        (*at)->disabled = true;
    fd_unlock(table);
}

/* Hand out what is ready: handles first, then as many of the host's events as fit. */
static long events_give(struct task *task, struct file *set, const struct poll_item *items,
                        const struct interest *copies, unsigned count, uint64_t to, int max) {
    int given = 0;
    for (unsigned i = 1; i < count && given < max; i++) {
        if (!items[i].revents)
            continue;
        struct epoll_event event = {.events = items[i].revents, .data = copies[i - 1].data};
        long result = guest_write(to + (uint64_t)given * sizeof(event), &event, sizeof(event));
        if (result < 0)
            return given ? given : result;
        given++;
        if (copies[i - 1].events & EPOLLONESHOT)
            interest_disable(task_fds(task), set, &copies[i - 1]);
    }
    if (!items[0].revents || given == max)
        return given;
    long more = host_call(__NR_epoll_pwait, (uint64_t)set->host_fd, to + (uint64_t)given * sizeof(struct epoll_event),
                          (uint64_t)(max - given), 0, 0, ABI_SIGSET_SIZE);
    return more < 0 ? (given ? given : more) : given + more;
}

static long wait_with_handles(struct task *task, struct file *set, uint64_t to, int max, int64_t timeout_ns) {
    struct fd_table *table = task_fds(task);
    struct poll_item item_space[REMOTE_INLINE + 1], *items = item_space;
    struct interest copy_space[REMOTE_INLINE], *copies = copy_space;
    unsigned cap = table->interest_count;
    size_t size = 0;
    if (cap > REMOTE_INLINE) {
        size = cap * sizeof(*copies) + (cap + 1) * sizeof(*items);
        copies = area_alloc(size);
        if (!copies)
            return -ENOMEM;
        items = (struct poll_item *)(copies + cap);
    }
    unsigned count = interests_collect(table, set, items, copies, cap);
    long result = poll_items(task, items, count, timeout_ns);
    if (result > 0)
        result = events_give(task, set, items, copies, count, to, max);
    for (unsigned i = 1; i < count; i++)
        file_release(task, items[i].file);
    if (size)
        area_free(copies, size);
    return result;
}

static uint64_t whole_ms(int64_t ns) {
    return (uint64_t)(ns / 1000000 < INT32_MAX ? ns / 1000000 : INT32_MAX);
}

static long wait_for_events(struct task *task, const uint64_t args[6], int64_t timeout_ns) {
    struct file *set = fd_use(task, (int)args[0]);
    if (!set)
        return -EBADF;
    long result;
    struct __kernel_timespec spec = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int max = (int)args[2];
    if (set->kind != FILE_EPOLL || max <= 0 || max > EVENTS_MAX)
        result = -EINVAL;
    else if (set->interests)
        result = wait_with_handles(task, set, args[1], max, timeout_ns);
    else if (timeout_ns % 1000000 == 0 || timeout_ns < 0)
        result = host_blocking(task, __NR_epoll_pwait, (uint64_t)set->host_fd, args[1], args[2],
                               timeout_ns < 0 ? (uint64_t)-1 : whole_ms(timeout_ns), 0, ABI_SIGSET_SIZE);
    else
        result = host_blocking(task, __NR_epoll_pwait2, (uint64_t)set->host_fd, args[1], args[2], (uint64_t)&spec, 0,
                               ABI_SIGSET_SIZE);
    fd_done(task, set);
    return result;
}

static long wait_masked(struct task *task, const uint64_t args[6], int64_t timeout_ns) {
    if (!args[4])
        return wait_for_events(task, args, timeout_ns);
    uint64_t mask;
    if (args[5] != ABI_SIGSET_SIZE)
        return -EINVAL;
    long result = guest_read(&mask, args[4], sizeof(mask));
    if (result < 0)
        return result;
    task_mask_swap(task, mask);
    result = wait_for_events(task, args, timeout_ns);
    task_mask_restore(task, result == -EINTR);
    return result;
}

static int64_t milliseconds(uint64_t timeout) {
    return (int)timeout < 0 ? -1 : (int)timeout * 1000000ll;
}

/* epoll_wait is never restarted: -EINTR goes to the guest as it is. */
long sys_epoll_wait(struct task *task, const uint64_t args[6]) {
    return wait_for_events(task, args, milliseconds(args[3]));
}

long sys_epoll_pwait(struct task *task, const uint64_t args[6]) {
    return wait_masked(task, args, milliseconds(args[3]));
}

long sys_epoll_pwait2(struct task *task, const uint64_t args[6]) {
    int64_t timeout_ns = -1, time[2];
    if (args[3]) {
        long result = guest_read(time, args[3], sizeof(time));
        if (result < 0 || (result = time_to_ns(time[0], time[1], 1, &timeout_ns)) < 0)
            return result;
    }
    return wait_masked(task, args, timeout_ns);
}
