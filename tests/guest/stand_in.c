/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for a cell: runs one program and its descendants under dvs-personality, in a pid namespace of their own, with a
 * pm and an fs that do the least that programs need, on the host's files. For testing the personality by itself.
 *
 *   stand_in [--strict] [--trace] [--fresh] PERSONALITY PROGRAM [ARGUMENT...]      exit code: the program's
 * --fresh: every exec goes to a new host process. Needs root.
 */
#include "cell/zygote.h"
#include "dvk/channel_create.h"
#include "dvk/futex.h"
#include "dvk/ring.h"
#include "vos/image.h"
#include "vos/protocol.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum state { FREE, ALIVE, STOPPED, ZOMBIE };

struct guest {
    enum state state;
    int pid, ppid, pgid, sid, status;
    bool told_stop, told_continue, moving;
    char cwd[4096];
    struct dvk_channel_view view;
    uint32_t taken;
    int socket, memfd;
    uint8_t *image;
    size_t image_len, image_have;
    int fds[VOS_IMAGE_FDS];
    unsigned fd_count, fds_given;
    struct rusage rusage;
    struct wait { /* a PM_WAIT that has not been answered */
        bool pending;
        uint32_t slot, sequence;
        struct dvk_message message;
    } waits[16];
    int exit_status; /* of PM_EXIT; -1: none */
};

#define GUESTS 4096
static struct guest *guests[GUESTS];
static struct dvk_doorbell *bell;
static struct guest *zygote, *first;
static struct { int pid; struct guest *guest; } spawn_queue[64];
static unsigned spawn_count;
static bool zygote_waits, option_trace, option_fresh;
static uint32_t zygote_slot, zygote_sequence;
static int next_pid = 100;
static int handles[1024];

static void die(const char *what) {
    perror(what);
    exit(99);
}

static int pid_new(void) {
    if (next_pid >= 30000)
        next_pid = 100;
    return next_pid++;
}

static struct guest *guest_find(int pid) {
    for (int i = 0; i < GUESTS; i++)
        if (guests[i] && guests[i]->pid == pid)
            return guests[i];
    return NULL;
}

/* A new channel; the guest's ends are returned. */
static void guest_channel(struct guest *guest, int out[2]) {
    const uint32_t slots[2] = {DVK_GUEST_SLOTS, DVK_GUEST_BACK_SLOTS};
    int sockets[2];
    if (dvk_channel_create(slots, DVK_DATA_MAX, &out[0]) < 0 || dvk_channel_sockets(sockets) < 0)
        die("channel");
    uint64_t size = dvk_channel_size(slots, DVK_DATA_MAX);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, out[0], 0);
    if (base == MAP_FAILED || dvk_channel_view_init(&guest->view, base, size) != 0)
        die("map channel");
    guest->taken = 0;
    guest->socket = sockets[1];
    out[1] = sockets[0];
}

static struct guest *guest_new(int pid, const struct guest *parent, int out[2]) {
    struct guest *guest = calloc(1, sizeof *guest);
    guest->state = ALIVE;
    guest->pid = pid;
    guest->exit_status = -1;
    guest->ppid = parent ? parent->pid : 1;
    guest->pgid = parent ? parent->pgid : pid;
    guest->sid = parent ? parent->sid : pid;
    if (parent)
        strcpy(guest->cwd, parent->cwd);
    else if (!getcwd(guest->cwd, sizeof guest->cwd))
        die("getcwd");
    guest_channel(guest, out);
    for (int i = 0; i < GUESTS; i++)
        if (!guests[i]) {
            guests[i] = guest;
            return guest;
        }
    die("too many guests");
    return NULL;
}

static void guest_unmap(struct guest *guest) {
    if (guest->view.base)
        munmap(guest->view.base, guest->view.size);
    guest->view.base = NULL;
    if (guest->socket > 0)
        close(guest->socket);
    guest->socket = -1;
}

static void guest_free(struct guest *guest) {
    for (int i = 0; i < GUESTS; i++)
        if (guests[i] == guest)
            guests[i] = NULL;
    guest_unmap(guest);
    free(guest->image);
    free(guest);
}

/* ---- messages ---- */

struct request {
    struct guest *guest;
    uint32_t slot, sequence;
    struct dvk_message message;
    uint8_t data[DVK_DATA_MAX + 1];
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count;
};

static void packet_send(struct guest *guest, uint32_t slot, uint32_t sequence, const int *fds, unsigned count) {
    struct dvk_fd_packet packet = {DVK_FD_MAGIC, (uint16_t)slot, 0, 1, sequence, count};
    char control[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    struct iovec part = {&packet, sizeof packet};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * count);
    if (sendmsg(guest->socket, &header, MSG_NOSIGNAL) < 0)
        perror("send fds");
}

static void packet_receive(struct request *request) {
    struct dvk_fd_packet packet;
    char control[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    struct iovec part = {&packet, sizeof packet};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(request->guest->socket, &header, MSG_CMSG_CLOEXEC) < 0)
        return;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
        request->fd_count = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(request->fds, CMSG_DATA(cmsg), request->fd_count * sizeof(int));
    }
}

static void answer(struct guest *guest, uint32_t slot_index, uint32_t sequence, struct dvk_message *reply, const void *data,
                   size_t len, const int *fds, unsigned fd_count) {
    if (!guest->view.base)
        return;
    struct dvk_slot *slot = &guest->view.slot[0][slot_index];
    reply->data_len = (uint32_t)len;
    if (len)
        memcpy(dvk_channel_buffer(&guest->view, 0, 1, slot_index), data, len);
    if (fd_count) {
        packet_send(guest, slot_index, sequence, fds, fd_count);
        reply->flags |= DVK_MSG_FDS;
        reply->fds = (uint16_t)fd_count;
    }
    slot->reply = *reply;
    if (dvk_slot_finish(slot, sequence) & DVK_FINISH_WAKE)
        dvk_futex_wake(&slot->state, 1);
}

static void status_answer(struct request *request, long status) {
    struct dvk_message reply = {.status = (int32_t)status};
    answer(request->guest, request->slot, request->sequence, &reply, NULL, 0, NULL, 0);
}

static void word_answer(struct request *request, int64_t word) {
    struct dvk_message reply = {0};
    reply.payload.ints[0] = word;
    answer(request->guest, request->slot, request->sequence, &reply, NULL, 0, NULL, 0);
}

/* ---- processes ---- */

static void zygote_feed(void) {
    if (!zygote_waits || spawn_count == 0)
        return;
    struct guest *guest = spawn_queue[0].guest;
    spawn_count--;
    memmove(spawn_queue, spawn_queue + 1, spawn_count * sizeof *spawn_queue);
    int ends[2];
    guest_unmap(guest);
    guest_channel(guest, ends);
    struct dvk_message reply = {0};
    reply.payload.words[0] = (uint64_t)guest->pid;
    zygote_waits = false;
    answer(zygote, zygote_slot, zygote_sequence, &reply, NULL, 0, ends, 2);
    close(ends[0]);
    close(ends[1]);
}

static void spawn(struct guest *guest) {
    spawn_queue[spawn_count].pid = guest->pid;
    spawn_queue[spawn_count++].guest = guest;
    zygote_feed();
}

static void host_signal(int pid, int tid, int signal_number, const struct vos_siginfo_fields *fields) {
    union {
        siginfo_t info;
        struct { int32_t signo, error, code, pad; struct vos_siginfo_fields fields; } raw;
    } queued;
    memset(&queued, 0, sizeof queued);
    queued.raw.signo = signal_number;
    queued.raw.code = VOS_SI_CODE;
    queued.raw.fields = *fields;
    if (tid)
        (void)syscall(SYS_rt_tgsigqueueinfo, pid, tid, signal_number, &queued.info);
    else
        (void)syscall(SYS_rt_sigqueueinfo, pid, signal_number, &queued.info);
}

static bool wait_matches(const struct guest *parent, const struct guest *child, int64_t pid) {
    return child->ppid == parent->pid && (pid == -1 || pid == child->pid || (pid == 0 && child->pgid == parent->pgid) ||
                                          (pid < -1 && child->pgid == -pid));
}

/* Try to answer a wait; false: nothing yet. */
static bool wait_try(struct guest *parent, struct wait *wait) {
    struct dvk_message *message = &wait->message;
    int64_t pid = message->payload.ints[0];
    uint64_t options = message->payload.words[1];
    bool any = false;
    for (int i = 0; i < GUESTS; i++) {
        struct guest *child = guests[i];
        if (!child || !wait_matches(parent, child, pid))
            continue;
        any = true;
        bool ready = (child->state == ZOMBIE && (options & WEXITED)) ||
                     (child->state == STOPPED && !child->told_stop && (options & WUNTRACED)) ||
                     (child->state == ALIVE && child->told_continue && (options & WCONTINUED));
        if (!ready)
            continue;
        struct dvk_message reply = {0};
        reply.payload.ints[0] = child->pid;
        reply.payload.ints[1] = child->state == ALIVE ? 0xffff : child->status;
        answer(parent, wait->slot, wait->sequence, &reply, &child->rusage, sizeof child->rusage, NULL, 0);
        child->told_stop = true;
        child->told_continue = false;
        if (child->state == ZOMBIE && !(options & WNOWAIT))
            guest_free(child);
        wait->pending = false;
        return true;
    }
    if (!any || (options & WNOHANG)) {
        struct dvk_message reply = {.status = any ? 0 : -ECHILD};
        answer(parent, wait->slot, wait->sequence, &reply, NULL, 0, NULL, 0);
        wait->pending = false;
        return true;
    }
    return false;
}

static void waits_try(struct guest *parent) {
    for (unsigned i = 0; i < sizeof parent->waits / sizeof *parent->waits; i++)
        if (parent->waits[i].pending)
            wait_try(parent, &parent->waits[i]);
}

static void parent_tell(struct guest *child, int code, int status) {
    struct guest *parent = guest_find(child->ppid);
    if (!parent || parent->state == ZOMBIE || parent == zygote) {
        if (child->state == ZOMBIE && child != first)
            guest_free(child);
        return;
    }
    struct vos_siginfo_fields fields = {.code = code, .pid = child->pid, .status = status};
    host_signal(parent->pid, 0, SIGCHLD, &fields);
    waits_try(parent);
}

static int exit_code = -1;

static void reap(void) {
    int status;
    struct rusage rusage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | WUNTRACED | WCONTINUED | __WALL, &rusage)) > 0) {
        if (zygote && pid == zygote->pid) {
            fprintf(stderr, "stand_in: the zygote ended with status %x\n", status);
            exit(98);
        }
        struct guest *guest = guest_find(pid);
        if (!guest)
            continue;
        guest->status = status;
        if (WIFSTOPPED(status)) {
            guest->state = STOPPED;
            guest->told_stop = false;
            parent_tell(guest, CLD_STOPPED, WSTOPSIG(status));
            continue;
        }
        if (WIFCONTINUED(status)) {
            guest->state = ALIVE;
            guest->told_continue = true;
            parent_tell(guest, CLD_CONTINUED, SIGCONT);
            continue;
        }
        if (guest->moving) { /* a fresh exec: the next one has the same pid */
            guest->moving = false;
            spawn(guest);
            continue;
        }
        guest->state = ZOMBIE;
        guest->rusage = rusage;
        if (guest->exit_status >= 0)
            guest->status = guest->exit_status;
        guest_unmap(guest);
        for (int i = 0; i < GUESTS; i++)
            if (guests[i] && guests[i]->ppid == pid) {
                guests[i]->ppid = 1;
                if (guests[i]->state == ZOMBIE)
                    guest_free(guests[i]);
            }
        if (guest == first)
            exit_code = WIFEXITED(guest->status) ? WEXITSTATUS(guest->status) : 128 + WTERMSIG(guest->status);
        else
            parent_tell(guest, WIFEXITED(guest->status) ? CLD_EXITED : CLD_KILLED,
                        WIFEXITED(guest->status) ? WEXITSTATUS(guest->status) : WTERMSIG(guest->status));
    }
}

static void pm_kill(struct request *request) {
    int64_t pid = request->message.payload.ints[0];
    int number = (int)request->message.payload.ints[1], sent = 0;
    for (int i = 0; i < GUESTS; i++) {
        struct guest *guest = guests[i];
        if (!guest || guest == zygote)
            continue;
        int64_t group = pid == 0 ? request->guest->pgid : -pid;
        if (pid > 0 ? guest->pid == pid : pid == -1 ? guest != request->guest : guest->pgid == group) {
            struct vos_siginfo_fields fields = {.code = SI_USER, .pid = request->guest->pid};
            sent++;
            if (number && guest->state != ZOMBIE)
                host_signal(guest->pid, 0, number, &fields);
        }
    }
    status_answer(request, sent ? 0 : -ESRCH);
}

static void pm_tgkill(struct request *request) {
    int64_t pid = request->message.payload.ints[0], tid = request->message.payload.ints[1];
    int number = (int)request->message.payload.ints[2];
    struct vos_siginfo_fields fields = {.code = SI_TKILL, .pid = request->guest->pid};
    if (pid == -1) {
        char path[64];
        pid = tid;
        for (int i = 0; i < GUESTS; i++) {
            if (!guests[i])
                continue;
            snprintf(path, sizeof path, "/proc/%d/task/%d", guests[i]->pid, (int)tid);
            if (access(path, F_OK) == 0)
                pid = guests[i]->pid;
        }
    }
    if (number == 0) {
        status_answer(request, syscall(SYS_tgkill, (int)pid, (int)tid, 0) < 0 ? -errno : 0);
        return;
    }
    host_signal((int)pid, (int)tid, number, &fields);
    status_answer(request, 0);
}

static void pm_sigqueue(struct request *request) {
    struct { int32_t signo, error, code, pad; int32_t pid; uint32_t uid; uint64_t value; } *info = (void *)request->data;
    struct vos_siginfo_fields fields = {.code = info->code, .pid = info->pid, .uid = info->uid, .value = info->value};
    const int64_t *ints = request->message.payload.ints;
    if (!guest_find((int)ints[0])) {
        status_answer(request, -ESRCH);
        return;
    }
    host_signal((int)ints[0], (int)ints[1], (int)ints[2], &fields);
    status_answer(request, 0);
}

static void pm_exec(struct request *request) {
    struct guest *guest = request->guest;
    uint64_t offset = request->message.payload.words[0], total = request->message.payload.words[1];
    if (offset == 0) {
        free(guest->image);
        guest->image = malloc(total);
        guest->image_len = total;
        guest->fd_count = guest->fds_given = 0;
    }
    memcpy(guest->image + offset, request->data, request->message.data_len);
    for (unsigned i = 0; i < request->fd_count; i++)
        guest->fds[guest->fd_count++] = request->fds[i];
    if (offset + request->message.data_len == total)
        guest->moving = true;
    status_answer(request, 0);
}

static void pm_image(struct request *request) {
    struct guest *guest = request->guest;
    uint64_t offset = request->message.payload.words[0];
    size_t rest = guest->image_len - offset, len = rest < DVK_DATA_MAX ? rest : DVK_DATA_MAX;
    unsigned count = guest->fd_count - guest->fds_given;
    if (count > DVK_MESSAGE_FDS)
        count = DVK_MESSAGE_FDS;
    struct dvk_message reply = {0};
    answer(guest, request->slot, request->sequence, &reply, guest->image + offset, len, guest->fds + guest->fds_given, count);
    for (unsigned i = 0; i < count; i++)
        close(guest->fds[guest->fds_given + i]);
    guest->fds_given += count;
}

static void pm_fork(struct request *request) {
    int ends[2];
    struct guest *child = guest_new(pid_new(), request->guest, ends);
    struct dvk_message reply = {0};
    reply.payload.words[0] = (uint64_t)child->pid;
    answer(request->guest, request->slot, request->sequence, &reply, NULL, 0, ends, 2);
    close(ends[0]);
    close(ends[1]);
}

static void pm_request(struct request *request) {
    struct guest *guest = request->guest;
    int64_t *ints = request->message.payload.ints;
    struct dvk_message reply = {0};
    switch (request->message.type) {
    case PM_HELLO:
        reply.payload.words[0] = (uint64_t)guest->pid;
        reply.payload.words[1] = (uint64_t)guest->ppid;
        reply.payload.words[7] = option_trace ? PM_F_TRACE : 0;
        reply.payload.words[8] = 022;
        reply.payload.words[9] = guest->image_len;
        reply.payload.words[10] = 1;
        answer(guest, request->slot, request->sequence, &reply, NULL, 0, NULL, 0);
        break;
    case PM_IMAGE:
        pm_image(request);
        break;
    case PM_STARTED:
        if (ints[0] && guest == first)
            fprintf(stderr, "stand_in: cannot run it: %s\n", strerror((int)ints[0]));
        status_answer(request, 0);
        break;
    case PM_ZYGOTE_WAIT:
        if (ints[0] < 0)
            fprintf(stderr, "stand_in: spawn failed: %s\n", strerror((int)-ints[0]));
        zygote_waits = true;
        zygote_slot = request->slot;
        zygote_sequence = request->sequence;
        zygote_feed();
        break;
    case PM_FORK:
        pm_fork(request);
        break;
    case PM_FORK_DONE:
        if (ints[1]) {
            fprintf(stderr, "stand_in: clone of %d failed: %s\n", (int)ints[0], strerror((int)ints[1]));
            struct guest *child = guest_find((int)ints[0]);
            if (child)
                guest_free(child);
        }
        status_answer(request, 0);
        break;
    case PM_TIDS:
        reply.payload.words[0] = (uint64_t)ints[0];
        for (int i = 0; i < ints[0]; i++)
            reply.payload.ints[1 + i] = pid_new();
        answer(guest, request->slot, request->sequence, &reply, NULL, 0, NULL, 0);
        break;
    case PM_PLACE:
        word_answer(request, option_fresh || (ints[0] & PM_PLACE_FRESH) ? PM_FRESH_HERE : PM_IN_PLACE);
        break;
    case PM_EXEC:
        pm_exec(request);
        break;
    case PM_EXIT:
        guest->exit_status = (int)ints[0];
        status_answer(request, 0);
        break;
    case PM_WAIT:
        for (unsigned i = 0; i < sizeof guest->waits / sizeof *guest->waits; i++)
            if (!guest->waits[i].pending) {
                guest->waits[i] = (struct wait){true, request->slot, request->sequence, request->message};
                wait_try(guest, &guest->waits[i]);
                return;
            }
        status_answer(request, -EAGAIN);
        break;
    case PM_KILL:
        pm_kill(request);
        break;
    case PM_TGKILL:
        pm_tgkill(request);
        break;
    case PM_SIGQUEUE:
        pm_sigqueue(request);
        break;
    case PM_GETPPID:
        word_answer(request, guest->ppid);
        break;
    case PM_SETPGID: {
        struct guest *who = ints[0] ? guest_find((int)ints[0]) : guest;
        if (who)
            who->pgid = ints[1] ? (int)ints[1] : who->pid;
        status_answer(request, who ? 0 : -ESRCH);
        break;
    }
    case PM_GETPGID: {
        struct guest *who = ints[0] ? guest_find((int)ints[0]) : guest;
        if (who)
            word_answer(request, who->pgid);
        else
            status_answer(request, -ESRCH);
        break;
    }
    case PM_SETSID:
        guest->pgid = guest->sid = guest->pid;
        word_answer(request, guest->sid);
        break;
    case PM_GETSID:
        word_answer(request, guest->sid);
        break;
    case PM_RUSAGE: {
        struct rusage zero = {0};
        answer(guest, request->slot, request->sequence, &reply, &zero, sizeof zero, NULL, 0);
        break;
    }
    case PM_PRIORITY:
        word_answer(request, 20);
        break;
    case PM_TID_FREE:
    case PM_EXECED:
    case PM_CHLD_IGNORE:
    case PM_UMASK:
    case PM_RLIMIT:
    case PM_SETIDS:
    case PM_SETGROUPS:
    case PM_SCHED:
        status_answer(request, 0);
        break;
    default:
        status_answer(request, -ENOSYS);
    }
}

/* ---- files ---- */

static int directory_of(struct request *request) {
    int64_t handle = request->message.payload.ints[0];
    if (handle >= 0 && handle < 1024)
        return dup(handles[handle]);
    return open(request->guest->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void stat_convert(struct vos_stat *out, const struct stat *in) {
    memset(out, 0, sizeof *out);
    memcpy(out, in, sizeof *in);
}

static void fs_open(struct request *request) {
    const uint64_t *words = request->message.payload.words;
    int directory = directory_of(request);
    int fd = openat(directory, (char *)request->data, (int)words[1] | O_CLOEXEC | O_NOCTTY, (mode_t)words[2]);
    int error = errno;
    close(directory);
    if (fd < 0) {
        status_answer(request, -error);
        return;
    }
    struct stat st;
    struct vos_stat shown;
    fstat(fd, &st);
    stat_convert(&shown, &st);
    struct dvk_message reply = {0};
    bool is_directory = S_ISDIR(st.st_mode);
    if (is_directory || (words[1] & O_PATH)) {
        int handle = 0;
        while (handles[handle])
            handle++;
        handles[handle] = fd;
        reply.status = FS_GRANT_HANDLE;
        reply.payload.ints[0] = handle;
        reply.payload.words[1] = words[1] & O_PATH ? FS_KIND_PATH : FS_KIND_DIR;
        reply.payload.words[2] = FS_O_LOCAL;
        answer(request->guest, request->slot, request->sequence, &reply, &shown, sizeof shown, NULL, 0);
        return;
    }
    reply.status = FS_GRANT_FD;
    reply.payload.ints[0] = -1;
    reply.payload.words[1] = S_ISCHR(st.st_mode) ? FS_KIND_CHAR : S_ISFIFO(st.st_mode) ? FS_KIND_PIPE : FS_KIND_FILE;
    reply.payload.words[2] = FS_O_LOCAL;
    answer(request->guest, request->slot, request->sequence, &reply, &shown, sizeof shown, &fd, 1);
    close(fd);
}

static void fs_stat_answer(struct request *request, int result, const struct stat *st) {
    struct vos_stat shown;
    struct dvk_message reply = {.status = result < 0 ? -errno : 0};
    stat_convert(&shown, st);
    answer(request->guest, request->slot, request->sequence, &reply, &shown, result < 0 ? 0 : sizeof shown, NULL, 0);
}

static void fd_path(int fd, char *out, size_t cap) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, out, cap - 1);
    out[len < 0 ? 0 : len] = '\0';
}

static void fs_info(struct request *request) {
    struct stat st;
    struct { struct vos_stat stat; char path[4096]; } info;
    struct dvk_message reply = {0};
    int fd = request->fd_count ? request->fds[0] : handles[request->message.payload.ints[0] & 1023];
    memset(&info, 0, sizeof info);
    fstat(fd, &st);
    stat_convert(&info.stat, &st);
    fd_path(fd, info.path, sizeof info.path);
    reply.payload.words[0] = strlen(info.path);
    answer(request->guest, request->slot, request->sequence, &reply, &info, sizeof info.stat + strlen(info.path) + 1, NULL, 0);
}

static void fs_getdents(struct request *request) {
    static char buffer[32768];
    uint64_t size = request->message.payload.words[1];
    long len = syscall(SYS_getdents64, handles[request->message.payload.ints[0] & 1023], buffer,
                       size < sizeof buffer ? size : sizeof buffer);
    struct dvk_message reply = {.status = (int32_t)(len < 0 ? -errno : len)};
    answer(request->guest, request->slot, request->sequence, &reply, buffer, len < 0 ? 0 : (size_t)len, NULL, 0);
}

static void fs_request(struct request *request) {
    const uint64_t *words = request->message.payload.words;
    char *path = (char *)request->data;
    char text[4096];
    struct stat st;
    int directory = -1, result;
    struct dvk_message reply = {0};
    switch (request->message.type) {
    case FS_OPEN:
        fs_open(request);
        break;
    case FS_STAT:
        directory = directory_of(request);
        result = fstatat(directory, path, &st, (int)words[1] & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
        fs_stat_answer(request, result, &st);
        break;
    case FS_ACCESS:
        directory = directory_of(request);
        status_answer(request, faccessat(directory, path, (int)words[1], 0) < 0 ? -errno : 0);
        break;
    case FS_READLINK: {
        directory = directory_of(request);
        ssize_t len = readlinkat(directory, path, text, sizeof text);
        reply.status = (int32_t)(len < 0 ? -errno : len);
        answer(request->guest, request->slot, request->sequence, &reply, text, len < 0 ? 0 : (size_t)len, NULL, 0);
        break;
    }
    case FS_CHDIR: {
        directory = directory_of(request);
        int fd = *path ? openat(directory, path, O_PATH | O_DIRECTORY | O_CLOEXEC) : dup(directory);
        int error = errno;
        if (fd >= 0)
            fd_path(fd, request->guest->cwd, sizeof request->guest->cwd);
        status_answer(request, fd < 0 ? -error : 0);
        if (fd >= 0)
            close(fd);
        break;
    }
    case FS_GETCWD:
        reply.status = (int32_t)strlen(request->guest->cwd) + 1;
        answer(request->guest, request->slot, request->sequence, &reply, request->guest->cwd, (size_t)reply.status, NULL, 0);
        break;
    case FS_UNLINK:
        directory = directory_of(request);
        status_answer(request, unlinkat(directory, path, (int)words[1]) < 0 ? -errno : 0);
        break;
    case FS_MKDIR:
        directory = directory_of(request);
        status_answer(request, mkdirat(directory, path, (mode_t)words[1]) < 0 ? -errno : 0);
        break;
    case FS_RENAME:
        status_answer(request, rename(path, path + strlen(path) + 1) < 0 ? -errno : 0);
        break;
    case FS_CLOSE:
        if (handles[words[0] & 1023] > 0)
            close(handles[words[0] & 1023]);
        handles[words[0] & 1023] = 0;
        status_answer(request, 0);
        break;
    case FS_FSTAT:
        result = fstat(handles[words[0] & 1023], &st);
        fs_stat_answer(request, result, &st);
        break;
    case FS_GETDENTS:
        fs_getdents(request);
        break;
    case FS_LSEEK: {
        off_t at = lseek(handles[words[0] & 1023], (off_t)words[1], (int)words[2]);
        if (at < 0)
            status_answer(request, -errno);
        else
            word_answer(request, at);
        break;
    }
    case FS_HOSTFD_INFO:
        fs_info(request);
        break;
    default:
        status_answer(request, -ENOSYS);
    }
    if (directory >= 0)
        close(directory);
}

/* ---- the loop ---- */

static void ring_serve(struct guest *guest) {
    static struct request request;
    uint16_t entry;
    while (guest->view.base && dvk_ring_peek(&guest->view.header->ring[0], guest->view.slots[0], guest->taken, &entry) == 1) {
        dvk_ring_advance(&guest->view.header->ring[0], &guest->taken);
        uint32_t i = entry & (uint32_t)~DVK_RING_CANCEL;
        struct dvk_slot *slot = &guest->view.slot[0][i];
        uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
        if (DVK_STATE_KIND(state) != DVK_SLOT_WAITING)
            continue;
        if (entry & DVK_RING_CANCEL) {
            for (unsigned k = 0; k < sizeof guest->waits / sizeof *guest->waits; k++) {
                struct wait *wait = &guest->waits[k];
                if (!wait->pending || wait->slot != i || wait->sequence != DVK_STATE_SEQUENCE(state))
                    continue;
                struct dvk_message reply = {.status = -EINTR};
                wait->pending = false;
                answer(guest, i, wait->sequence, &reply, NULL, 0, NULL, 0);
            }
            continue;
        }
        request.guest = guest;
        request.slot = i;
        request.sequence = DVK_STATE_SEQUENCE(state);
        request.message = slot->request;
        request.fd_count = 0;
        memcpy(request.data, dvk_channel_buffer(&guest->view, 0, 0, i), request.message.data_len);
        request.data[request.message.data_len] = 0;
        if (request.message.flags & DVK_MSG_FDS)
            packet_receive(&request);
        bool keep = request.message.type == PM_EXEC;
        if (VOS_SERVICE(request.message.type) == DVK_SERVICE_PM)
            pm_request(&request);
        else
            fs_request(&request);
        for (unsigned k = 0; k < request.fd_count && !keep; k++)
            close(request.fds[k]);
    }
}

static void child_note(int number) {
    (void)number;
    __atomic_fetch_add(&bell->word, 1u, __ATOMIC_SEQ_CST);
}

static int serve(void) {
    while (exit_code < 0) {
        uint32_t seen = __atomic_load_n(&bell->word, __ATOMIC_SEQ_CST);
        __atomic_store_n(&bell->cpu, (uint32_t)sched_getcpu() + 1, __ATOMIC_RELAXED);
        __atomic_store_n(&bell->summary[0], 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&bell->summary[1], 0, __ATOMIC_SEQ_CST);
        for (int i = 0; i < GUESTS; i++)
            if (guests[i] && guests[i]->view.base)
                ring_serve(guests[i]);
        reap();
        if (dvk_doorbell_prepare_sleep(bell, seen)) {
            dvk_futex_wait(&bell->word, seen, 50000000);
            dvk_doorbell_awake(bell);
        }
    }
    return exit_code;
}

static void zygote_start(const char *personality, const int ends[2], int doorbell, bool strict) {
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, 0x7fff0000u)};
    int filter = memfd_create("filter", 0), program = open(personality, O_RDONLY | O_CLOEXEC);
    if (program < 0 || write(filter, allow, sizeof allow) != sizeof allow)
        die(personality);
    int pid = 63;
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child < 0)
        die("clone3");
    if (child > 0)
        return;
    int fds[4] = {ends[0], ends[1], doorbell, filter};
    for (int i = 0; i < 4; i++)
        fds[i] = fcntl(fds[i], F_DUPFD, 100);
    for (int i = 0; i < 4; i++)
        dup2(fds[i], 3 + i);
    close(0);
    close(1);
    close(2);
    closefrom(7);
    struct rlimit limit = {ZYGOTE_NOFILE, ZYGOTE_NOFILE};
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setpgid(0, 0);
    char *argv[] = {"dvs-personality", strict ? "strict" : NULL, NULL};
    char *envp[] = {NULL};
    execve(personality, argv, envp);
    _exit(127);
}

/* The image of the first program. */
static void first_image(struct guest *guest, int argc, char **argv) {
    uint8_t *image = calloc(1, VOS_IMAGE_MAX);
    struct vos_image_header *header = (void *)image;
    size_t at = sizeof *header;
    *header = (struct vos_image_header){.magic = VOS_IMAGE_MAGIC, .version = 1, .flags = VOS_IMAGE_SEARCH, .umask = 022, .fd_count = 3, .host_fds = 3};
    at += (size_t)sprintf((char *)image + at, "%s", argv[0]) + 1;
    for (int i = 0; i < argc; i++, header->argc++)
        at += (size_t)sprintf((char *)image + at, "%s", argv[i]) + 1;
    for (char **e = environ; *e; e++, header->envc++)
        at += (size_t)sprintf((char *)image + at, "%s", *e) + 1;
    header->string_bytes = (uint32_t)(at - sizeof *header);
    at = (at + 7) & ~(size_t)7;
    struct vos_image_fd *fds = (void *)(image + at);
    for (int i = 0; i < 3; i++) {
        struct stat st;
        fstat(i, &st);
        fds[i] = (struct vos_image_fd){.vfd = i, .kind = VOS_IMAGE_FD_HOST, .source = (uint32_t)i,
                                       .object = S_ISFIFO(st.st_mode) ? FS_KIND_PIPE : S_ISCHR(st.st_mode) ? FS_KIND_CHAR : FS_KIND_FILE,
                                       .status_flags = (uint32_t)fcntl(i, F_GETFL), .handle = -1};
        guest->fds[guest->fd_count++] = fcntl(i, F_DUPFD_CLOEXEC, 10);
    }
    guest->image = image;
    guest->image_len = at + 3 * sizeof *fds;
}

int main(int argc, char **argv) {
    bool strict = false;
    for (; argc > 1 && strncmp(argv[1], "--", 2) == 0; argc--, argv++) {
        strict |= strcmp(argv[1], "--strict") == 0;
        option_trace |= strcmp(argv[1], "--trace") == 0;
        option_fresh |= strcmp(argv[1], "--fresh") == 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: stand_in [--strict] [--trace] [--fresh] PERSONALITY PROGRAM [ARGUMENT...]\n");
        return 99;
    }
    if (geteuid() != 0) {
        fprintf(stderr, "stand_in: needs root\n");
        return 77; /* meson: skipped */
    }
    if (unshare(CLONE_NEWPID) < 0)
        die("unshare");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0) {
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
        die("/proc");
    int doorbell, ends[2];
    if (dvk_doorbell_create(&doorbell) < 0)
        die("doorbell");
    bell = mmap(NULL, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, doorbell, 0);
    handles[0] = -1;
    struct sigaction action = {.sa_handler = child_note};
    sigaction(SIGCHLD, &action, NULL);
    zygote = guest_new(63, NULL, ends);
    zygote_start(argv[1], ends, doorbell, strict);
    close(ends[0]);
    close(ends[1]);
    first = guest_new(pid_new(), NULL, ends);
    close(ends[0]);
    close(ends[1]);
    first_image(first, argc - 2, argv + 2);
    spawn(first);
    return serve();
}
