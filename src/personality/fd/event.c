/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4 memfd_create
 *
 * All are the host's own. A signalfd reads what is pending in the host, where pm's signals carry their meaning in
 * another layout (VOS_SI_CODE): what it reads is put right here.
 */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"

#include <linux/signalfd.h>

/* Give a host fd that was just made (or an error) a descriptor. Ends the opening. */
static long event_add(struct task *task, long host_fd, uint32_t kind, uint32_t status_flags, bool close_on_exec) {
    struct fd_table *table = task_fds(task);
    if (host_fd < 0) {
        file_opening_end(table);
        return host_fd;
    }
    struct file *file = file_new_opened(table, kind, (int)host_fd, -1, status_flags);
    return file ? fd_add(task, file, close_on_exec) : -ENOMEM;
}

/* ---- eventfd ---- */

#define EVENT_SEMAPHORE 1u

static long event_make(struct task *task, uint64_t count, uint32_t flags) {
    if (flags & ~(uint32_t)(EVENT_SEMAPHORE | O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    file_opening_begin(task_fds(task));
    long host_fd = host_call(__NR_eventfd2, (uint32_t)count, flags & ~(uint32_t)O_CLOEXEC, 0, 0, 0, 0);
    return event_add(task, host_fd, FILE_EVENT, O_RDWR | (flags & O_NONBLOCK), flags & O_CLOEXEC);
}

long sys_eventfd(struct task *task, const uint64_t args[6]) {
    return event_make(task, args[0], 0);
}
long sys_eventfd2(struct task *task, const uint64_t args[6]) {
    return event_make(task, args[0], (uint32_t)args[1]);
}

/* ---- timerfd ---- */

long sys_timerfd_create(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[1];
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    file_opening_begin(task_fds(task));
    long host_fd = host_call(__NR_timerfd_create, args[0], flags & O_NONBLOCK, 0, 0, 0, 0);
    return event_add(task, host_fd, FILE_TIMER, O_RDWR | (flags & O_NONBLOCK), flags & O_CLOEXEC);
}

static long timer_call(struct task *task, const uint64_t args[6], long number) {
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result = file->kind == FILE_TIMER ? host_call(number, (uint64_t)file->host_fd, args[1], args[2], args[3], 0, 0)
                                           : -EINVAL;
    fd_done(task, file);
    return result;
}

long sys_timerfd_settime(struct task *task, const uint64_t args[6]) {
    return timer_call(task, args, __NR_timerfd_settime);
}

long sys_timerfd_gettime(struct task *task, const uint64_t args[6]) {
    return timer_call(task, args, __NR_timerfd_gettime);
}

/* ---- signalfd ---- */

/* SIGSYS is how the personality is entered; it must never be waited for by others. */
static uint64_t signal_mask_allowed(uint64_t mask) {
    return mask & ~(1ull << (ABI_SIGSYS - 1));
}

static long signal_change(struct task *task, int vfd, uint64_t mask) {
    struct file *file = fd_use(task, vfd);
    if (!file)
        return -EBADF;
    long result = -EINVAL;
    if (file->kind == FILE_SIGNAL)
        result = host_call(__NR_signalfd4, (uint64_t)file->host_fd, (uint64_t)&mask, ABI_SIGSET_SIZE, 0, 0, 0);
    fd_done(task, file);
    return result < 0 ? result : vfd;
}

static long signal_make(struct task *task, int vfd, uint64_t mask_address, uint64_t size, uint32_t flags) {
    uint64_t mask;
    if (size != ABI_SIGSET_SIZE || flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    long result = guest_read(&mask, mask_address, sizeof(mask));
    if (result < 0)
        return result;
    mask = signal_mask_allowed(mask);
    if (vfd != -1)
        return signal_change(task, vfd, mask);
    file_opening_begin(task_fds(task));
    long host_fd = host_call(__NR_signalfd4, (uint64_t)-1, (uint64_t)&mask, ABI_SIGSET_SIZE, flags & O_NONBLOCK, 0, 0);
    return event_add(task, host_fd, FILE_SIGNAL, O_RDWR | (flags & O_NONBLOCK), flags & O_CLOEXEC);
}

long sys_signalfd(struct task *task, const uint64_t args[6]) {
    return signal_make(task, (int)args[0], args[1], args[2], 0);
}

long sys_signalfd4(struct task *task, const uint64_t args[6]) {
    return signal_make(task, (int)args[0], args[1], args[2], (uint32_t)args[3]);
}

/*
 * The host shows a siginfo of negative si_code as { pid, uid, value }, which lie where struct vos_siginfo_fields has
 * { code, pid, uid and status }. What lies behind these (value, times) does not come through.
 */
static void signal_info_rebuild(struct signalfd_siginfo *info) {
    if (info->ssi_code != VOS_SI_CODE)
        return;
    int32_t code = (int32_t)info->ssi_pid;
    uint32_t pid = info->ssi_uid, user = (uint32_t)info->ssi_ptr;
    int32_t status = (int32_t)(info->ssi_ptr >> 32);
    info->ssi_code = code;
    info->ssi_pid = pid;
    info->ssi_uid = user;
    info->ssi_status = status;
    info->ssi_ptr = 0;
    info->ssi_int = 0;
}

long signal_file_read(struct task *task, struct file *file, uint64_t to, size_t len) {
    struct signalfd_siginfo info[8];
    size_t count = len / sizeof(info[0]);
    if (count == 0)
        return -EINVAL;
    if (count > sizeof(info) / sizeof(info[0]))
        count = sizeof(info) / sizeof(info[0]);
    long result = file_host_call(task, file, __NR_read, (uint64_t)info, count * sizeof(info[0]), 0, 0, 0);
    if (result <= 0)
        return result;
    for (size_t i = 0; i < (size_t)result / sizeof(info[0]); i++)
        signal_info_rebuild(&info[i]);
    long copied = guest_write(to, info, (size_t)result);
    return copied < 0 ? copied : result;
}

/* ---- memfd ---- */

long sys_memfd_create(struct task *task, const uint64_t args[6]) {
    uint32_t flags = (uint32_t)args[1];
    file_opening_begin(task_fds(task));
    long host_fd = host_call(__NR_memfd_create, args[0], flags, 0, 0, 0, 0);
    return event_add(task, host_fd, FILE_MEMFD, O_RDWR, flags & MFD_CLOEXEC);
}
