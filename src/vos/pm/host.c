/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/host.h"
#include "common/cleanup.h"
#include "common/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The kernel's siginfo_t, as vos/protocol.h lays out what is queued. */
struct queued_info {
    int32_t signo, error, code, pad;
    struct vos_siginfo_fields fields;
    uint8_t rest[128 - 16 - sizeof(struct vos_siginfo_fields)];
};
_Static_assert(sizeof(struct queued_info) == 128, "size of siginfo_t");

static int signal_plain(uint32_t pid, uint32_t tid, int sig) {
    long result = tid ? syscall(SYS_tgkill, pid, tid, sig) : kill((pid_t)pid, sig);
    return result < 0 ? -errno : 0;
}

int host_signal(struct vos *vos, uint32_t pid, uint32_t tid, int sig, const struct vos_siginfo_fields *fields) {
    if (sig == SIGKILL || sig == SIGSTOP || sig == 0)
        return signal_plain(pid, tid, sig);
    struct queued_info info = {.signo = sig, .code = VOS_SI_CODE, .fields = *fields};
    long result = tid ? syscall(SYS_rt_tgsigqueueinfo, pid, tid, sig, &info) : syscall(SYS_rt_sigqueueinfo, pid, sig, &info);
    if (result == 0)
        return 0;
    /* A full queue stops sigqueue(3), but not kill(2). */
    if (errno == EAGAIN && fields->code >= 0)
        return signal_plain(pid, tid, sig);
    return -errno;
}

bool host_exists(struct vos *vos, uint32_t pid) { return kill((pid_t)pid, 0) == 0 || errno == EPERM; }

int host_read(struct vos *vos, uint32_t pid, struct host_process *out) {
    char path[32], text[1024];
    snprintf(path, sizeof(path), "%u/stat", pid);
    cleanup_close int fd = openat(vos->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -ESRCH;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    if (len <= 0)
        return -ESRCH;
    text[len] = 0;
    const char *after = strrchr(text, ')'); /* comm may hold anything */
    unsigned long utime, stime, vsize;
    long rss, threads;
    if (!after || sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %*u %lu %ld",
                         &out->state, &utime, &stime, &threads, &vsize, &rss) != 6)
        return -ESRCH;
    out->utime = (int64_t)utime;
    out->stime = (int64_t)stime;
    out->threads = (uint32_t)threads;
    out->vsize = vsize;
    out->rss = (uint64_t)rss;
    return 0;
}

void host_nice(struct vos *vos, uint32_t pid, int nice) {
    char path[32];
    snprintf(path, sizeof(path), "%u/task", pid);
    int fd = openat(vos->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        int tid = atoi(entry->d_name);
        if (tid > 0)
            setpriority(PRIO_PROCESS, (id_t)tid, nice); /* best effort */
    }
}

int64_t host_time_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- cell init ---- */

static struct init_watch {
    struct vos *vos;
    host_state_fn *fn;
    void *context;
} init_watch; /* one cell a process */

static void init_readable(void *context, int fd, uint32_t events) {
    struct init_watch *watch = context;
    for (int i = 0; i < 64; i++) { /* others want their turn too */
        struct init_packet packet;
        ssize_t len = recv(fd, &packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            log_error("cell init is gone");
            dvk_watch_fd(watch->vos->dvk, fd, 0, NULL, NULL);
            return;
        }
        if (len != sizeof(packet) || packet.magic != INIT_PROTOCOL_MAGIC || packet.type != INIT_STATE || packet.pid <= 0)
            continue;
        watch->fn(watch->context, (uint32_t)packet.pid, init_wait_status(packet.code, packet.status), &packet.rusage);
    }
}

int host_watch_init(struct vos *vos, host_state_fn *fn, void *context) {
    init_watch = (struct init_watch){vos, fn, context};
    return dvk_watch_fd(vos->dvk, vos->init_fd, EPOLLIN, init_readable, &init_watch);
}
