/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cell init: pid 1 of the cell. A fork of dvs-cell that never execs; single-threaded. It sets up what needs to be done
 * from inside the namespaces, starts dvs-vos and the zygote, and then only reaps and reports. Its end is the cell's
 * end, since the kernel kills everything in a pid namespace with its first process.
 */
#include "cell/cell.h"
#include "cell/init_protocol.h"
#include "cell/mount_api.h"
#include "cell/privileges.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

struct init {
    struct cell *cell;
    int vos_socket;
    int proc;
    int signals;
    pid_t vos;
    pid_t zygote; /* 0: not yet started */
};

static noreturn __attribute__((format(printf, 2, 3))) void init_end(int code, const char *format, ...) {
    if (format) {
        char text[512];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        dprintf(STDERR_FILENO, "dvs-cell: %s\n", text);
    }
    _exit(code);
}

static void must(int error, const char *what) {
    if (error < 0)
        init_end(1, "cannot %s: %s", what, strerror(-error));
}

/* Returns when dvs-cell has mapped our ids and put us in the cgroup. */
static void go_wait(struct cell *cell) {
    char byte;
    ssize_t count;
    close(cell->go[0]);
    do
        count = read(cell->go[1], &byte, 1);
    while (count < 0 && errno == EINTR);
    if (count != 1)
        _exit(1); /* dvs-cell gave up and has said why */
}

/*
 * No process of the cell may make namespaces from here on. Seccomp cannot look into clone3's flags, and a user
 * namespace would give a guest capabilities, so the limits of our own user namespace, which bind all in it, are set to
 * none. Done when dvs-vos has confined itself (each detached mount counts as a mount namespace) and before there is any
 * guest.
 */
static void namespaces_forbid(int proc) {
    static const char *const kinds[] = {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"};
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
        char path[64];
        snprintf(path, sizeof path, "sys/user/max_%s_namespaces", kinds[i]);
        cleanup_close int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
        must(fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0, path);
    }
}

/* Pids of the cell are the DC's slots: as many as can be. Before Linux 6.14 pid_max is the host's, which is raised then
 * too (as systemd does at boot). dvs-vos reads what there is, so this comes before it starts. */
static void pid_limit_raise(void) {
    cleanup_close int fd = open("/proc/sys/kernel/pid_max", O_RDWR | O_CLOEXEC);
    char text[32];
    ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (count <= 0)
        return;
    text[count] = 0;
    if (strtoul(text, NULL, 10) < (1u << 20))
        (void)!pwrite(fd, "1048576", 7, 0);
}

static void signals_open(struct init *init) {
    sigset_t all, wanted;
    sigfillset(&all);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    must(sigprocmask(SIG_SETMASK, &all, NULL) ? -errno : 0, "block signals");
    init->signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    must(init->signals < 0 ? -errno : 0, "make a signalfd");
}

/* Die with dvs-cell. The kernel forgets the wish when the uid changes, so this comes after. */
static void lifeline_set(struct cell *cell) {
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) ? -errno : 0, "tie init to dvs-cell");
    struct pollfd gone = {.fd = cell->go[1], .events = POLLIN};
    if (poll(&gone, 1, 0) > 0 && (gone.revents & (POLLHUP | POLLERR)))
        _exit(1); /* it died before */
}

static void descriptors_drop(struct init *init) {
    struct cell *cell = init->cell;
    int unneeded[] = {cell->broker_fd, cell->image_fd, cell->upper_fd, cell->dev_fd, cell->vos_fd, cell->go[1]};
    for (size_t i = 0; i < ARRAY_LENGTH(unneeded); i++)
        if (unneeded[i] >= 0)
            close(unneeded[i]);
    if (cell->attr_fd != cell->image_fd)
        close(cell->attr_fd);
    for (unsigned i = 0; i < cell->options.mount_count; i++)
        if (cell->mount_fds[i] >= 0)
            close(cell->mount_fds[i]);
}

/* What init needs once the cell runs, and (the last) until then. */
static const cap_value_t init_capabilities[] = {
    CAP_KILL, CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_CHECKPOINT_RESTORE, CAP_SYS_RESOURCE};

/* Everything up to the loop; any failure ends the cell. */
static void init_setup(struct init *init) {
    struct cell *cell = init->cell;
    int pair[2];
    signals_open(init);
    must(setsid() < 0 ? -errno : 0, "make a session");
    must(unshare(CLONE_NEWCGROUP) && errno != EINVAL ? -errno : 0, "make a cgroup namespace");
    must(unshare(CLONE_NEWTIME) && errno != EINVAL ? -errno : 0, "make a time namespace"); /* for our children */
    must(sethostname(cell->options.name, strlen(cell->options.name)) ? -errno : 0, "set the host name");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? -errno : 0, "make a socket pair");
    pid_limit_raise();
    init->vos_socket = pair[0];
    init->vos = spawn_vos(cell, pair[1]);
    must(init->vos, "start dvs-vos");
    close(pair[1]);
    must(privileges_become(0, 0), "become the cell's root");
    lifeline_set(cell);
    init->proc =
        mount_create("proc", (const char *const[]){NULL}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    must(init->proc < 0 ? -errno : 0, "mount /proc of the cell");
    must(mount_root_empty() ? -errno : 0, "make the empty root");
    descriptors_drop(init);
    must(privileges_limit(init_capabilities, ARRAY_LENGTH(init_capabilities), false), "drop capabilities");
}

/* ---- loop ---- */

static noreturn void child_fatal(const char *who, int status) {
    if (WIFSIGNALED(status))
        init_end(1, "%s was ended by signal %d (%s)", who, WTERMSIG(status), strsignal(WTERMSIG(status)));
    init_end(1, "%s ended with status %d", who, WEXITSTATUS(status));
}

static void state_report(struct init *init, const siginfo_t *info, const struct init_rusage *rusage) {
    struct init_packet packet = {.magic = INIT_PROTOCOL_MAGIC,
                                 .type = INIT_STATE,
                                 .pid = info->si_pid,
                                 .code = info->si_code,
                                 .status = info->si_status,
                                 .rusage = *rusage};
    /* Blocks while dvs-vos is behind: states must not be lost. If it is gone, its own end is reaped next. */
    while (send(init->vos_socket, &packet, sizeof packet, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void children_reap(struct init *init) {
    for (;;) {
        siginfo_t info = {0};
        struct init_rusage rusage = {0};
        /* glibc's waitid has no rusage. */
        if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | __WALL, &rusage) ||
            !info.si_pid)
            return;
        bool ended = info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
        int status = init_wait_status(info.si_code, info.si_status);
        if (info.si_pid == init->vos || info.si_pid == init->zygote) {
            if (ended)
                child_fatal(info.si_pid == init->vos ? "dvs-vos" : "the zygote", status);
            continue;
        }
        state_report(init, &info, &rusage);
    }
}

static void signals_take(struct init *init) {
    struct signalfd_siginfo info;
    while (read(init->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM)
            init_end(0, NULL);
    children_reap(init);
}

static void zygote_start(struct init *init, const int *fds, unsigned fd_count) {
    if (init->zygote || fd_count != 3)
        return;
    namespaces_forbid(init->proc);
    must(privileges_limit(init_capabilities, ARRAY_LENGTH(init_capabilities) - 1, false), "drop capabilities");
    pid_t pid = spawn_zygote(init->cell, fds, init->proc);
    must(pid, "start the zygote");
    init->zygote = pid;
    close(init->cell->personality_fd);
    close(init->cell->seccomp_fd);
}

/* A request of dvs-vos. */
static void request_take(struct init *init) {
    struct init_packet packet;
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
        struct cmsghdr align;
    } control;
    struct iovec part = {&packet, sizeof packet};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(init->vos_socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0) { /* it closed its end, or is ending: then it is reaped next; nothing more to hear from it */
        init->vos_socket = -init->vos_socket - 1;
        return;
    }
    int fds[8];
    unsigned fd_count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            fd_count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(header), fd_count * sizeof(int));
        }
    if (count == (ssize_t)sizeof packet && packet.magic == INIT_PROTOCOL_MAGIC) {
        if (packet.type == INIT_STOP)
            init_end(packet.status & 0xff, NULL);
        if (packet.type == INIT_START_ZYGOTE)
            zygote_start(init, fds, fd_count);
    }
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
}

noreturn void init_run(struct cell *cell) {
    struct init init = {.cell = cell, .vos_socket = -1, .proc = -1, .signals = -1};
    go_wait(cell);
    init_setup(&init);
    for (;;) {
        struct pollfd waits[2] = {{.fd = init.signals, .events = POLLIN}, {.fd = init.vos_socket, .events = POLLIN}};
        if (poll(waits, 2, -1) < 0 && errno != EINTR)
            init_end(1, "poll: %s", strerror(errno));
        if (waits[1].revents)
            request_take(&init);
        if (waits[0].revents)
            signals_take(&init);
    }
}
