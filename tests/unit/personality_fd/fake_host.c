/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_host.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct fake_server fake;
int fake_own_fd = INT32_MAX;
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- host ---- */

long host_call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}

long host_blocking(struct task *task, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f) {
    return host_call(number, a, b, c, d, e, f);
}

int host_fd_own(const struct process *process, int low) {
    (void)process;
    return low <= fake_own_fd ? fake_own_fd : INT32_MAX;
}

static long memory_copy(void *local, uint64_t guest, size_t len, bool write) {
    struct iovec here = {local, len}, there = {(void *)guest, len};
    if (len == 0)
        return 0;
    ssize_t n = write ? process_vm_writev(getpid(), &here, 1, &there, 1, 0)
                      : process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    return n == (ssize_t)len ? 0 : -EFAULT;
}

long guest_read(void *to, uint64_t from, size_t len) {
    return memory_copy(to, from, len, false);
}
long guest_write(uint64_t to, const void *from, size_t len) {
    return memory_copy((void *)(uintptr_t)from, to, len, true);
}

long guest_string(char *to, uint64_t from, size_t cap) {
    for (size_t i = 0; i < cap; i++) {
        if (guest_read(to + i, from + i, 1) < 0)
            return -EFAULT;
        if (!to[i])
            return (long)i;
    }
    return -ENAMETOOLONG;
}

void *area_alloc(size_t len) {
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    __atomic_fetch_add(&fake.areas, 1, __ATOMIC_RELAXED);
    return p;
}

void area_free(void *p, size_t len) {
    assert_int_equal(munmap(p, len), 0);
    __atomic_fetch_sub(&fake.areas, 1, __ATOMIC_RELAXED);
}

void *heap_alloc(struct process *process, size_t len) {
    __atomic_fetch_add(&fake.heap, 1, __ATOMIC_RELAXED);
    return calloc(1, len);
}

void heap_free(struct process *process, void *p) {
    __atomic_fetch_sub(&fake.heap, 1, __ATOMIC_RELAXED);
    free(p);
}

void lock_acquire(struct lock *lock) {
    while (__atomic_exchange_n(&lock->word, 1, __ATOMIC_ACQUIRE))
        sched_yield();
}

void lock_release(struct lock *lock) {
    assert_int_equal(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE), 1);
}

void task_raise(struct task *task, int signal) {
    fake.raised = signal;
}

void task_mask_swap(struct task *task, uint64_t mask) {
    assert_false(fake.mask_swapped);
    fake.mask = mask;
    fake.mask_swapped = true;
}

void task_mask_restore(struct task *task, bool interrupted) {
    assert_true(fake.mask_swapped);
    fake.mask_swapped = false;
}

uint64_t signals_ignored(struct process *process) {
    return 0;
}

const char *process_exe(const struct process *process) {
    return "/bin/true";
}

/* ---- fs ---- */

static long handle_new(int fd) {
    for (int i = 1; i < FAKE_HANDLES; i++)
        if (!fake.handle[i]) {
            fake.handle[i] = fd + 1;
            return i;
        }
    close(fd);
    return -ENFILE;
}

static int handle_fd(int64_t handle) {
    return handle > 0 && handle < FAKE_HANDLES && fake.handle[handle] ? fake.handle[handle] - 1 : -1;
}

static uint32_t kind_of(int fd) {
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return 0;
    if (S_ISDIR(stat.st_mode))
        return FS_KIND_DIR;
    if (S_ISFIFO(stat.st_mode))
        return FS_KIND_PIPE;
    if (S_ISSOCK(stat.st_mode))
        return FS_KIND_SOCKET;
    return S_ISCHR(stat.st_mode) ? FS_KIND_CHAR : FS_KIND_FILE;
}

static void reply_bytes(struct rpc *rpc, const void *from, size_t len) {
    rpc->reply_len = len;
    if (rpc->reply && len)
        assert_int_equal(guest_write(ADDRESS(rpc->reply), from, len < rpc->reply_cap ? len : rpc->reply_cap), 0);
}

static void reply_stat(struct rpc *rpc, int fd) {
    struct vos_stat stat = {0};
    fstat(fd, (struct stat *)&stat);
    reply_bytes(rpc, &stat, sizeof(stat));
}

static uint32_t socket_flags(int fd) {
    int type = 0;
    socklen_t length = sizeof(type);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
    return type == SOCK_DGRAM ? FS_O_DGRAM : type == SOCK_SEQPACKET ? FS_O_SEQPACKET : 0;
}

static long open_reply(struct rpc *rpc, int fd, bool grant) {
    uint64_t *word = rpc->message.payload.words;
    word[1] = kind_of(fd);
    word[2] = FS_O_LOCAL | (word[1] == FS_KIND_SOCKET ? socket_flags(fd) : 0);
    reply_stat(rpc, fd);
    if (grant && word[1] != FS_KIND_DIR) {
        word[0] = (uint64_t)-1;
        assert_true(rpc->fd_cap >= 1);
        rpc->fds[0] = fd;
        rpc->fd_count = 1;
        return FS_GRANT_FD;
    }
    long handle = handle_new(fd);
    word[0] = (uint64_t)handle;
    return handle < 0 ? handle : FS_GRANT_HANDLE;
}

static int place_fd(const struct rpc *rpc) {
    int64_t dir = rpc->message.payload.ints[0];
    return dir == VOS_CWD ? AT_FDCWD : handle_fd(dir);
}

static long serve_open(struct rpc *rpc) {
    const uint64_t *word = rpc->message.payload.words;
    int fd = openat(place_fd(rpc), rpc->data, (int)word[1] | O_CLOEXEC, (mode_t)word[2]);
    bool path_only = word[1] & O_PATH;
    if (fd < 0)
        return -errno;
    long result = open_reply(rpc, fd, !fake.remote && !path_only);
    if (path_only)
        rpc->message.payload.words[1] = FS_KIND_PATH;
    return result;
}

static long serve_read(struct rpc *rpc) {
    const int64_t *word = rpc->message.payload.ints;
    int fd = handle_fd(word[0]);
    char *buffer = malloc((size_t)word[1] + 1);
    struct pollfd ready = {fd, POLLIN, 0};
    long n = -EAGAIN;
    assert_true(word[1] <= DVK_DATA_MAX);
    if (kind_of(fd) == FS_KIND_SOCKET) {
        bool wait = !(word[3] & FS_READ_NO_WAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
        int flags = (socket_flags(fd) ? MSG_TRUNC : 0) | (wait ? 0 : MSG_DONTWAIT) | (word[3] & FS_READ_PEEK ? MSG_PEEK : 0);
        n = recv(fd, buffer, (size_t)word[1], flags);
        n = n < 0 ? -errno : n;
        rpc->message.payload.ints[0] = n;
        n = n > word[1] ? word[1] : n;
        if (n >= 0)
            reply_bytes(rpc, buffer, (size_t)n);
        free(buffer);
        return n;
    }
    if (!word[3] || kind_of(fd) != FS_KIND_PIPE || poll(&ready, 1, 0) > 0) {
        n = word[2] == -1 ? read(fd, buffer, (size_t)word[1]) : pread(fd, buffer, (size_t)word[1], word[2]);
        n = n < 0 ? -errno : n;
    }
    if (n >= 0)
        reply_bytes(rpc, buffer, (size_t)n);
    free(buffer);
    return n;
}

static long serve_write(struct rpc *rpc) {
    const int64_t *word = rpc->message.payload.ints;
    int fd = handle_fd(word[0]);
    assert_true(rpc->data_len <= DVK_DATA_MAX);
    if (word[3])
        lseek(fd, 0, SEEK_END);
    long n;
    if (kind_of(fd) == FS_KIND_SOCKET) {
        n = send(fd, rpc->data, rpc->data_len, MSG_NOSIGNAL | (word[2] ? MSG_DONTWAIT : 0));
        return n < 0 ? -errno : n;
    }
    if (word[2] && kind_of(fd) == FS_KIND_PIPE) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        n = write(fd, rpc->data, rpc->data_len);
        n = n < 0 ? -errno : n;
        fcntl(fd, F_SETFL, 0);
        return n;
    }
    n = word[1] == -1 ? write(fd, rpc->data, rpc->data_len) : pwrite(fd, rpc->data, rpc->data_len, word[1]);
    return n < 0 ? -errno : n;
}

static long serve_poll_set(struct rpc *rpc) {
    const uint64_t *word = rpc->message.payload.words;
    if (fake.no_poll_set)
        return -ENOSYS;
    const struct vos_poll *poll_of = rpc->data;
    unsigned count = (unsigned)word[0];
    assert_int_equal(rpc->data_len, count * sizeof(*poll_of));
    struct pollfd *fds = calloc(count + 1, sizeof(*fds));
    uint32_t *revents = calloc(count, sizeof(*revents));
    for (unsigned i = 0; i < count; i++)
        fds[i] = (struct pollfd){handle_fd(poll_of[i].handle), (short)poll_of[i].events, 0};
    fds[count] = (struct pollfd){rpc->send_fd_count ? rpc->send_fds[0] : -1, POLLIN, 0};
    long ready = poll(fds, count + 1, (int)rpc->message.payload.ints[1]);
    ready -= fds[count].revents != 0;
    for (unsigned i = 0; i < count; i++)
        revents[i] = (uint32_t)fds[i].revents;
    reply_bytes(rpc, revents, count * sizeof(*revents));
    free(fds);
    free(revents);
    return ready;
}

static long serve_info(struct rpc *rpc) {
    struct {
        struct vos_stat stat;
        char path[4096];
    } info = {0};
    char link[64];
    int fd = rpc->send_fd_count ? rpc->send_fds[0] : handle_fd(rpc->message.payload.ints[0]);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    fstat(fd, (struct stat *)&info.stat);
    ssize_t n = readlink(link, info.path, sizeof(info.path));
    rpc->message.payload.words[0] = n < 0 ? 0 : (uint64_t)n;
    reply_bytes(rpc, &info, sizeof(info.stat) + (n < 0 ? 0 : (size_t)n));
    return 0;
}

static long serve_getdents(struct rpc *rpc) {
    char buffer[65536];
    long n = syscall(SYS_getdents64, handle_fd(rpc->message.payload.ints[0]), buffer, rpc->message.payload.words[1]);
    if (n < 0)
        return -errno;
    reply_bytes(rpc, buffer, (size_t)n);
    rpc->message.payload.words[0] = 0;
    return n;
}

static long errno_of(long result) {
    return result < 0 ? -errno : result;
}

static long serve(struct rpc *rpc) {
    uint64_t *word = rpc->message.payload.words;
    int64_t *number = rpc->message.payload.ints;
    int fd = handle_fd(number[0]);
    switch (rpc->message.type) {
    case FS_OPEN:
        return serve_open(rpc);
    case FS_STAT: {
        struct vos_stat stat = {0};
        if (fstatat(place_fd(rpc), rpc->data, (struct stat *)&stat, (int)word[1]) < 0)
            return -errno;
        reply_bytes(rpc, &stat, sizeof(stat));
        return 0;
    }
    case FS_ACCESS:
        return errno_of(faccessat(place_fd(rpc), rpc->data, (int)word[1], (int)word[2]));
    case FS_READLINK: {
        char text[4096];
        long n = readlinkat(place_fd(rpc), rpc->data, text, sizeof(text));
        if (n < 0)
            return -errno;
        reply_bytes(rpc, text, (size_t)n);
        return n;
    }
    case FS_MKDIR:
        return errno_of(mkdirat(place_fd(rpc), rpc->data, (mode_t)word[1]));
    case FS_UNLINK:
        return errno_of(unlinkat(place_fd(rpc), rpc->data, (int)word[1]));
    case FS_RENAME: {
        const char *old = rpc->data;
        int to = number[1] == VOS_CWD ? AT_FDCWD : handle_fd(number[1]);
        return errno_of(renameat(place_fd(rpc), old, to, old + strlen(old) + 1));
    }
    case FS_SYMLINK: {
        const char *target = rpc->data;
        return errno_of(symlinkat(target, place_fd(rpc), target + strlen(target) + 1));
    }
    case FS_CHMOD:
        return errno_of(word[2] & AT_EMPTY_PATH ? fchmod(fd, (mode_t)word[1])
                                                : fchmodat(place_fd(rpc), rpc->data, (mode_t)word[1], 0));
    case FS_HOSTFD_OP:
        return word[0] == FS_CHMOD ? errno_of(fchmod(rpc->send_fds[0], (mode_t)word[1])) : -EOPNOTSUPP;
    case FS_GETCWD: {
        char path[4096];
        if (!getcwd(path, sizeof(path)))
            return -errno;
        reply_bytes(rpc, path, strlen(path) + 1);
        return (long)strlen(path) + 1;
    }
    case FS_CLOSE:
        if (fd < 0)
            return -EBADF;
        close(fd);
        fake.handle[number[0]] = 0;
        return 0;
    case FS_READ:
        return serve_read(rpc);
    case FS_WRITE:
        return serve_write(rpc);
    case FS_LSEEK:
        number[0] = lseek(fd, number[1], (int)word[2]);
        return number[0] < 0 ? -errno : 0;
    case FS_FSTAT:
        reply_stat(rpc, fd);
        return fd < 0 ? -EBADF : 0;
    case FS_GETDENTS:
        return serve_getdents(rpc);
    case FS_FTRUNCATE:
        return errno_of(ftruncate(fd, number[1]));
    case FS_SETFL:
        return errno_of(fcntl(fd, F_SETFL, (int)word[1] & (kind_of(fd) == FS_KIND_SOCKET ? O_NONBLOCK : O_APPEND)));
    case FS_LOCK:
    case PM_UMASK:
        return 0;
    case FS_POLL: {
        struct pollfd one = {fd, (short)word[1], 0};
        poll(&one, 1, word[2] ? -1 : 0);
        word[0] = (uint64_t)one.revents;
        return 0;
    }
    case FS_POLL_SET:
        return serve_poll_set(rpc);
    case FS_SOCKET: {
        char value[16];
        socklen_t length = sizeof(value);
        if (word[1] == FS_SOCKET_SHUTDOWN)
            return errno_of(shutdown(fd, (int)word[2]));
        if (word[1] == FS_SOCKET_SET)
            return errno_of(setsockopt(fd, SOL_SOCKET, (int)word[2], rpc->data, (socklen_t)rpc->data_len));
        if (getsockopt(fd, SOL_SOCKET, (int)word[2], value, &length) < 0)
            return -errno;
        reply_bytes(rpc, value, length);
        return 0;
    }
    case FS_EXPORT:
        number[0] = handle_new(dup(rpc->send_fds[0]));
        return number[0] < 0 ? (long)number[0] : 0;
    case FS_REGRANT:
        if (fake.no_regrant || fd < 0)
            return fd < 0 ? -EBADF : -EAGAIN;
        fake.handle[number[0]] = 0;
        return open_reply(rpc, fd, true);
    case FS_HOSTFD_INFO:
        return serve_info(rpc);
    default:
        return -EOPNOTSUPP;
    }
}

static bool may_block(const struct rpc *rpc) {
    return rpc->message.type == FS_READ || rpc->message.type == FS_WRITE || rpc->message.type == FS_POLL_SET;
}

long rpc_call(struct task *task, struct rpc *rpc) {
    pthread_mutex_lock(&fake_lock);
    fake.requests++;
    fake.last = rpc->message;
    bool interrupt = fake.interrupt_next && !(rpc->flags & RPC_UNINTERRUPTIBLE);
    fake.interrupt_next -= interrupt;
    if (may_block(rpc))
        pthread_mutex_unlock(&fake_lock);
    rpc->reply_len = 0;
    rpc->fd_count = 0;
    long result = interrupt ? -EINTR : serve(rpc);
    rpc->message.status = (int32_t)result;
    if (!may_block(rpc))
        pthread_mutex_unlock(&fake_lock);
    return result;
}

/* ---- tests' own ---- */

struct process *fake_process(void) {
    return calloc(1, sizeof(struct process));
}

struct task *fake_start(void) {
    memset(&fake, 0, sizeof(fake));
    struct task *task = calloc(1, sizeof(*task));
    task->self = task;
    task->process = fake_process();
    assert_int_equal(fd_table_create(task->process), 0);
    return task;
}

unsigned fake_handles_open(void) {
    unsigned count = 0;
    for (int i = 0; i < FAKE_HANDLES; i++)
        count += fake.handle[i] != 0;
    return count;
}

unsigned fake_host_fds(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 3;
}

void fake_stop(struct task *task) {
    struct fd_table *table = task_fds(task);
    for (int vfd = fd_next_used(table, 0); vfd >= 0; vfd = fd_next_used(table, (uint32_t)vfd + 1))
        assert_int_equal(fd_close(task, vfd), 0);
    assert_int_equal(table->opening, 0);
    assert_null(table->files);
    assert_int_equal(table->interest_count, 0);
    fd_table_drop(task->process);
    assert_int_equal(fake.areas, 0);
    assert_int_equal(fake.heap, 0);
    assert_int_equal(fake_handles_open(), 0);
    free(task->process);
    free(task);
}
