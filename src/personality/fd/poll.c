/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll ppoll select pselect6, and the wait beneath them and epoll.
 *
 * Host fds alone are one ppoll of the host. As soon as there is a handle, fs does the waiting, for all at once
 * (FS_POLL_SET): the host fds go along as one epoll fd that holds them all.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/poll_convert.h"

#define ALWAYS_READY (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)
#define ITEMS_INLINE 24u
#define REPOLL_MIN_MS 1
#define REPOLL_MAX_MS 10

/* A handle whose server must be asked. */
static bool item_is_remote(const struct poll_item *item) {
    return item->file && item->file->host_fd < 0 && item->file->handle >= 0 && item->file->kind != FS_KIND_FILE &&
           item->file->kind != FS_KIND_DIR && item->file->kind != FS_KIND_PATH;
}

static bool item_is_host(const struct poll_item *item) {
    return item->file && item->file->host_fd >= 0;
}

/* Items that need nobody's answer. Returns how many of all items are ready so. */
static unsigned items_settle(struct poll_item *items, unsigned count) {
    unsigned ready = 0;
    for (unsigned i = 0; i < count; i++) {
        if (items[i].file) {
            items[i].revents = 0;
            if (items[i].file->kind == FS_KIND_PATH)
                items[i].revents = POLLNVAL;
            else if (!item_is_host(&items[i]) && !item_is_remote(&items[i]))
                items[i].revents = items[i].events & ALWAYS_READY;
        }
        ready += items[i].revents != 0;
    }
    return ready;
}

/* ---- the wait ---- */

struct wait {
    struct task *task;
    struct poll_item *items;
    unsigned count;
    unsigned hosts, remotes;
    struct pollfd *host;     /* room for count */
    struct vos_poll *remote; /* room for count */
    uint32_t *revents;       /* room for count: FS_POLL_SET's answer */
    int epoll_fd;            /* the hosts together, or -1 */
};

static long timespec_left(struct __kernel_timespec *spec, int64_t ns) {
    if (ns < 0)
        return 0;
    spec->tv_sec = ns / 1000000000;
    spec->tv_nsec = ns % 1000000000;
    return (long)(uintptr_t)spec;
}

/* One ppoll of the host fds; revents go to the items. Number ready. */
static long hosts_poll(struct wait *wait, int64_t timeout_ns) {
    struct __kernel_timespec spec;
    uint64_t time = (uint64_t)timespec_left(&spec, timeout_ns);
    unsigned n = 0;
    for (unsigned i = 0; i < wait->count; i++)
        if (item_is_host(&wait->items[i]))
            wait->host[n++] = (struct pollfd){wait->items[i].file->host_fd, (short)wait->items[i].events, 0};
    long result = timeout_ns == 0
                      ? host_call(__NR_ppoll, (uint64_t)wait->host, n, time, 0, ABI_SIGSET_SIZE, 0)
                      : host_blocking(wait->task, __NR_ppoll, (uint64_t)wait->host, n, time, 0, ABI_SIGSET_SIZE, 0);
    if (result < 0)
        return result;
    n = 0;
    for (unsigned i = 0; i < wait->count; i++)
        if (item_is_host(&wait->items[i]))
            wait->items[i].revents = (uint16_t)wait->host[n++].revents;
    return result;
}

/* An epoll fd that is readable when one of the host fds is ready. */
static long hosts_gather(struct wait *wait) {
    if (!wait->hosts || wait->epoll_fd >= 0)
        return 0;
    file_opening_begin(task_fds(wait->task));
    long epoll_fd = host_call(__NR_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
    if (epoll_fd < 0)
        return epoll_fd;
    wait->epoll_fd = (int)epoll_fd;
    for (unsigned i = 0; i < wait->count; i++) {
        const struct poll_item *item = &wait->items[i];
        if (!item_is_host(item))
            continue;
        struct epoll_event event = {.events = item->events};
        for (unsigned k = 0; k < i; k++) /* a host fd that occurs twice */
            if (item_is_host(&wait->items[k]) && wait->items[k].file == item->file)
                event.events |= wait->items[k].events;
        uint64_t fd = (uint64_t)item->file->host_fd;
        long result = host_call(__NR_epoll_ctl, (uint64_t)epoll_fd, EPOLL_CTL_ADD, fd, (uint64_t)&event, 0, 0);
        if (result == -EEXIST)
            result = host_call(__NR_epoll_ctl, (uint64_t)epoll_fd, EPOLL_CTL_MOD, fd, (uint64_t)&event, 0, 0);
        if (result < 0 && result != -EPERM) /* regular files: always ready, found by ppoll already if asked for */
            return result;
    }
    return 0;
}

static void wait_end(struct wait *wait) {
    if (wait->epoll_fd < 0)
        return;
    (void)host_call(__NR_close, (uint64_t)wait->epoll_fd, 0, 0, 0, 0, 0);
    file_opening_end(task_fds(wait->task));
    wait->epoll_fd = -1;
}

static uint32_t revents_of(const struct poll_item *item, uint64_t revents) {
    return (uint32_t)revents & (item->events | POLLERR | POLLHUP | POLLNVAL);
}

/* Ask fs about each handle by itself, without waiting. */
static long remotes_ask_each(struct wait *wait) {
    long ready = 0;
    for (unsigned i = 0; i < wait->count; i++) {
        struct poll_item *item = &wait->items[i];
        if (!item_is_remote(item))
            continue;
        struct rpc rpc;
        fs_prepare(&rpc, FS_POLL);
        rpc.message.payload.ints[0] = item->file->handle;
        rpc.message.payload.words[1] = item->events;
        long result = fs_call(wait->task, &rpc);
        item->revents = result < 0 ? POLLERR : revents_of(item, rpc.message.payload.words[0]);
        ready += item->revents != 0;
    }
    return ready;
}

/* One FS_POLL_SET. Number of handles ready, or -EINTR, -ENOSYS. */
static long remotes_ask(struct wait *wait, int64_t timeout_ns) {
    struct rpc rpc;
    unsigned n = 0;
    for (unsigned i = 0; i < wait->count; i++)
        if (item_is_remote(&wait->items[i]))
            wait->remote[n++] = (struct vos_poll){wait->items[i].file->handle, wait->items[i].events, 0};
    fs_prepare(&rpc, FS_POLL_SET);
    rpc.message.payload.words[0] = n;
    rpc.message.payload.ints[1] = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    rpc.data = wait->remote;
    rpc.data_len = n * sizeof(*wait->remote);
    if (wait->epoll_fd >= 0 && timeout_ns != 0) {
        rpc.send_fds = &wait->epoll_fd;
        rpc.send_fd_count = 1;
    }
    rpc.reply = wait->revents;
    rpc.reply_cap = n * sizeof(*wait->revents);
    long result = timeout_ns == 0 ? fs_call(wait->task, &rpc) : rpc_call(wait->task, &rpc);
    if (result < 0)
        return result;
    if (rpc.reply_len < n * sizeof(*wait->revents))
        return -EIO;
    n = 0;
    result = 0;
    for (unsigned i = 0; i < wait->count; i++)
        if (item_is_remote(&wait->items[i])) {
            wait->items[i].revents = revents_of(&wait->items[i], wait->revents[n++]);
            result += wait->items[i].revents != 0;
        }
    return result;
}

static int64_t time_left(int64_t timeout_ns, int64_t deadline) {
    if (timeout_ns < 0)
        return -1;
    int64_t left = deadline - clock_now();
    return left > 0 ? left : 0;
}

/* For a server that does not know FS_POLL_SET: ask again and again, ever more slowly. */
static long wait_by_asking(struct wait *wait, int64_t timeout_ns, int64_t deadline) {
    int64_t pause = REPOLL_MIN_MS;
    for (;;) {
        long ready = remotes_ask_each(wait);
        int64_t left = time_left(timeout_ns, deadline);
        int64_t sleep = ready ? 0 : pause * 1000000;
        if (left >= 0 && left < sleep)
            sleep = left;
        long hosts = hosts_poll(wait, sleep);
        if (hosts < 0)
            return hosts;
        if (ready + hosts || left == 0)
            return ready + hosts;
        if (pause < REPOLL_MAX_MS)
            pause++;
    }
}

static long wait_mixed(struct wait *wait, int64_t timeout_ns) {
    struct fd_table *table = task_fds(wait->task);
    int64_t deadline = timeout_ns > 0 ? clock_now() + timeout_ns : 0;
    bool fits = wait->remotes * sizeof(struct vos_poll) <= DVK_DATA_MAX; /* in one message */
    while (fits && !table->poll_set_missing) {
        int64_t left = time_left(timeout_ns, deadline);
        if (wait->hosts) { /* what is ready now needs no wait */
            long hosts = hosts_poll(wait, 0);
            if (hosts < 0)
                return hosts;
            if (hosts)
                left = 0;
            long result = left ? hosts_gather(wait) : 0;
            if (result < 0)
                return result;
        }
        long remotes = remotes_ask(wait, left);
        if (remotes == -ENOSYS || remotes == -EOPNOTSUPP) {
            table->poll_set_missing = true;
            break;
        }
        if (remotes < 0)
            return remotes;
        long hosts = wait->hosts ? hosts_poll(wait, 0) : 0;
        if (hosts < 0)
            return hosts;
        if (remotes + hosts || left == 0)
            return remotes + hosts;
    }
    return wait_by_asking(wait, timeout_ns, deadline);
}

static long wait_run(struct task *task, struct poll_item *items, unsigned count, struct pollfd *host,
                     struct vos_poll *remote, uint32_t *revents, int64_t timeout_ns) {
    struct wait wait = {task, items, count, 0, 0, host, remote, revents, -1};
    unsigned settled = items_settle(items, count);
    for (unsigned i = 0; i < count; i++) {
        wait.hosts += item_is_host(&items[i]);
        wait.remotes += item_is_remote(&items[i]);
    }
    if (settled)
        timeout_ns = 0;
    long ready = wait.remotes ? wait_mixed(&wait, timeout_ns) : hosts_poll(&wait, timeout_ns);
    wait_end(&wait);
    return ready < 0 ? ready : ready + (long)settled;
}

long poll_items(struct task *task, struct poll_item *items, unsigned count, int64_t timeout_ns) {
    if (count <= ITEMS_INLINE) {
        struct pollfd host[ITEMS_INLINE];
        struct vos_poll remote[ITEMS_INLINE];
        uint32_t revents[ITEMS_INLINE];
        return wait_run(task, items, count, host, remote, revents, timeout_ns);
    }
    size_t each = sizeof(struct vos_poll) + sizeof(struct pollfd) + sizeof(uint32_t);
    struct vos_poll *remote = area_alloc(count * each);
    if (!remote)
        return -ENOMEM;
    struct pollfd *host = (struct pollfd *)(remote + count);
    long result = wait_run(task, items, count, host, remote, (uint32_t *)(host + count), timeout_ns);
    area_free(remote, count * each);
    return result;
}

/* ---- poll ---- */

struct poll_memory {
    struct poll_item *items;
    struct pollfd *guest;
    size_t size; /* of pages of its own, 0: none */
    struct poll_item item_space[ITEMS_INLINE];
    struct pollfd guest_space[ITEMS_INLINE];
};

static long poll_memory_get(struct poll_memory *memory, unsigned count) {
    memory->size = 0;
    memory->items = memory->item_space;
    memory->guest = memory->guest_space;
    if (count <= ITEMS_INLINE)
        return 0;
    memory->size = count * (sizeof(*memory->items) + sizeof(*memory->guest));
    memory->items = area_alloc(memory->size);
    if (!memory->items)
        return -ENOMEM;
    memory->guest = (struct pollfd *)(memory->items + count);
    return 0;
}

static void poll_memory_free(struct poll_memory *memory) {
    if (memory->size)
        area_free(memory->items, memory->size);
}

static long poll_guest(struct task *task, uint64_t address, uint32_t count, int64_t timeout_ns) {
    struct poll_memory memory;
    if (count > task_fds(task)->limit)
        return -EINVAL;
    long result = poll_memory_get(&memory, count);
    if (result < 0)
        return result;
    result = count ? guest_read(memory.guest, address, count * sizeof(*memory.guest)) : 0;
    if (result >= 0) {
        for (uint32_t i = 0; i < count; i++) {
            struct poll_item *item = &memory.items[i];
            item->file = memory.guest[i].fd < 0 ? NULL : fd_use(task, memory.guest[i].fd);
            item->events = (uint16_t)memory.guest[i].events;
            item->revents = !item->file && memory.guest[i].fd >= 0 ? POLLNVAL : 0;
        }
        result = poll_items(task, memory.items, count, timeout_ns);
        for (uint32_t i = 0; i < count; i++) {
            memory.guest[i].revents = (short)memory.items[i].revents;
            fd_done(task, memory.items[i].file);
        }
    }
    if (result >= 0 && count) {
        long copied = guest_write(address, memory.guest, count * sizeof(*memory.guest));
        result = copied < 0 ? copied : result;
    }
    poll_memory_free(&memory);
    return result;
}

long sys_poll(struct task *task, const uint64_t args[6]) {
    int timeout = (int)args[2];
    long result = poll_guest(task, args[0], (uint32_t)args[1], timeout < 0 ? -1 : timeout * 1000000ll);
    return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
}

/* ---- timeouts and masks that ppoll and pselect6 share ---- */

struct timed_wait {
    struct task *task;
    int64_t timeout_ns; /* -1: for ever */
    int64_t deadline;
    bool masked;
};

/* unit: nanoseconds in the second word of the time (1: timespec, 1000: timeval). */
static long time_read(uint64_t address, int64_t unit, int64_t *timeout_ns) {
    int64_t time[2];
    *timeout_ns = -1;
    if (!address)
        return 0;
    long result = guest_read(time, address, sizeof(time));
    if (result < 0)
        return result;
    if (unit == 1000 && time[1] >= 1000000 && time[0] >= 0) { /* select(2) takes any number of microseconds */
        time[0] += time[1] / 1000000;
        time[1] %= 1000000;
    }
    return time_to_ns(time[0], time[1], unit, timeout_ns);
}

static long timed_begin(struct timed_wait *timed, struct task *task, uint64_t mask_address, uint64_t mask_size) {
    timed->task = task;
    timed->masked = false;
    timed->deadline = timed->timeout_ns > 0 ? clock_now() + timed->timeout_ns : 0;
    if (!mask_address)
        return 0;
    uint64_t mask;
    if (mask_size != ABI_SIGSET_SIZE)
        return -EINVAL;
    long result = guest_read(&mask, mask_address, sizeof(mask));
    if (result < 0)
        return result;
    task_mask_swap(task, mask);
    timed->masked = true;
    return 0;
}

/* Give the mask back and the time that is left; the wait's result passes through. */
static long timed_end(struct timed_wait *timed, long result, uint64_t time_address, int64_t unit) {
    if (timed->masked)
        task_mask_restore(timed->task, result == -EINTR);
    if (time_address && timed->timeout_ns >= 0) {
        int64_t left = time_left(timed->timeout_ns, timed->deadline);
        int64_t time[2] = {left / 1000000000, left % 1000000000 / unit};
        (void)guest_write(time_address, time, sizeof(time)); /* as Linux: a constant there is no error */
    }
    return result == -EINTR ? SYS_INTERRUPTED_NOHAND : result;
}

long sys_ppoll(struct task *task, const uint64_t args[6]) {
    struct timed_wait timed;
    long result = time_read(args[2], 1, &timed.timeout_ns);
    if (result < 0 || (result = timed_begin(&timed, task, args[3], args[4])) < 0)
        return result;
    result = poll_guest(task, args[0], (uint32_t)args[1], timed.timeout_ns);
    return timed_end(&timed, result, args[2], 1);
}

/* ---- select ---- */

struct select_sets {
    uint64_t word[3][FD_WORDS]; /* in, out, exceptional */
};

static long select_wait(struct task *task, unsigned count, struct select_sets *sets, struct poll_memory *memory,
                        int64_t timeout_ns) {
    unsigned n = 0;
    long result = 0;
    for (unsigned vfd = 0; vfd < count; vfd++) {
        uint32_t events = select_events(sets->word, vfd);
        if (!events)
            continue;
        struct file *file = fd_use(task, (int)vfd);
        if (!file) {
            result = -EBADF;
            break;
        }
        memory->guest[n].fd = (int)vfd;
        memory->items[n++] = (struct poll_item){file, events, 0};
    }
    if (result == 0)
        result = poll_items(task, memory->items, n, timeout_ns);
    if (result >= 0)
        __builtin_memset(sets, 0, sizeof(*sets));
    long bits = 0;
    for (unsigned i = 0; i < n; i++) {
        if (result >= 0)
            bits += select_mark(sets->word, (unsigned)memory->guest[i].fd, memory->items[i].events,
                                memory->items[i].revents);
        fd_done(task, memory->items[i].file);
    }
    return result < 0 ? result : bits;
}

static long select_guest(struct task *task, int wanted, const uint64_t address[3], int64_t timeout_ns) {
    struct fd_table *table = task_fds(task);
    struct select_sets sets;
    struct poll_memory memory;
    if (wanted < 0)
        return -EINVAL;
    fd_lock(table);
    unsigned count = (unsigned)wanted < table->size ? (unsigned)wanted : table->size;
    fd_unlock(table);
    if (count > FD_LIMIT_MAX)
        count = FD_LIMIT_MAX;
    size_t bytes = (count + 63) / 64 * 8;
    __builtin_memset(&sets, 0, sizeof(sets));
    for (int i = 0; i < 3; i++) {
        long result = address[i] && bytes ? guest_read(sets.word[i], address[i], bytes) : 0;
        if (result < 0)
            return result;
    }
    unsigned items = 0;
    for (unsigned vfd = 0; vfd < count; vfd++)
        items += select_events(sets.word, vfd) != 0;
    long result = poll_memory_get(&memory, items);
    if (result < 0)
        return result;
    result = select_wait(task, count, &sets, &memory, timeout_ns);
    poll_memory_free(&memory);
    for (int i = 0; result >= 0 && i < 3; i++) {
        long copied = address[i] && bytes ? guest_write(address[i], sets.word[i], bytes) : 0;
        result = copied < 0 ? copied : result;
    }
    return result;
}

long sys_select(struct task *task, const uint64_t args[6]) {
    struct timed_wait timed;
    const uint64_t address[3] = {args[1], args[2], args[3]};
    long result = time_read(args[4], 1000, &timed.timeout_ns);
    if (result < 0 || (result = timed_begin(&timed, task, 0, 0)) < 0)
        return result;
    result = select_guest(task, (int)args[0], address, timed.timeout_ns);
    return timed_end(&timed, result, args[4], 1000);
}

long sys_pselect6(struct task *task, const uint64_t args[6]) {
    struct timed_wait timed;
    const uint64_t address[3] = {args[1], args[2], args[3]};
    uint64_t mask[2] = {0, 0}; /* address and size */
    long result = args[5] ? guest_read(mask, args[5], sizeof(mask)) : 0;
    if (result < 0 || (result = time_read(args[4], 1, &timed.timeout_ns)) < 0 ||
        (result = timed_begin(&timed, task, mask[0], mask[1])) < 0)
        return result;
    result = select_guest(task, (int)args[0], address, timed.timeout_ns);
    return timed_end(&timed, result, args[4], 1);
}
