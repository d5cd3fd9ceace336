/* SPDX-License-Identifier: Apache-2.0 */
/* ioctl */
#include "personality/fd/fd.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/lock.h"

/* What a terminal's command takes and gives through its argument, in bytes; neither: the argument is a number. */
struct ioctl_shape {
    uint32_t command;
    uint16_t in, out;
};

#define TERMIOS_BYTES 36u /* the kernel's struct termios */
#define TERMIO_BYTES 18u
#define WINSIZE_BYTES 8u
#define TERMIOS2_BYTES 44u
#define IOCTL_DATA_MAX 64u

static const struct ioctl_shape terminal_shapes[] = {
    {TCGETS, 0, TERMIOS_BYTES},
    {TCSETS, TERMIOS_BYTES, 0},
    {TCSETSW, TERMIOS_BYTES, 0},
    {TCSETSF, TERMIOS_BYTES, 0},
    {TCGETA, 0, TERMIO_BYTES},
    {TCSETA, TERMIO_BYTES, 0},
    {TCSETAW, TERMIO_BYTES, 0},
    {TCSETAF, TERMIO_BYTES, 0},
    {0x802C542A, 0, TERMIOS2_BYTES} /* TCGETS2 */,
    {0x402C542B, TERMIOS2_BYTES, 0},
    {0x402C542C, TERMIOS2_BYTES, 0},
    {0x402C542D, TERMIOS2_BYTES, 0},
    {TCSBRK, 0, 0},
    {TCSBRKP, 0, 0},
    {TCXONC, 0, 0},
    {TCFLSH, 0, 0},
    {TIOCEXCL, 0, 0},
    {TIOCNXCL, 0, 0},
    {TIOCSCTTY, 0, 0},
    {TIOCNOTTY, 0, 0},
    {TIOCGPGRP, 0, 4},
    {TIOCSPGRP, 4, 0},
    {TIOCGSID, 0, 4},
    {TIOCOUTQ, 0, 4},
    {TIOCGWINSZ, 0, WINSIZE_BYTES},
    {TIOCSWINSZ, WINSIZE_BYTES, 0},
    {FIONREAD, 0, 4},
    {TIOCGETD, 0, 4},
    {TIOCGPTN, 0, 4},
    {TIOCSPTLCK, 4, 0},
};

static const struct ioctl_shape *shape_find(uint32_t command) {
    for (size_t i = 0; i < sizeof(terminal_shapes) / sizeof(terminal_shapes[0]); i++)
        if (terminal_shapes[i].command == command)
            return &terminal_shapes[i];
    return NULL;
}

/* May block: a background process is stopped when it changes its terminal. */
static long ioctl_by_message(struct task *task, struct file *file, const struct ioctl_shape *shape, uint64_t argument) {
    char in[IOCTL_DATA_MAX], out[IOCTL_DATA_MAX];
    struct rpc rpc;
    fs_prepare(&rpc, FS_IOCTL);
    rpc.message.payload.ints[0] = file->handle;
    rpc.message.payload.words[1] = shape->command;
    fs_tell_caller(task, file, &rpc);
    if (shape->in) {
        long result = guest_read(in, argument, shape->in);
        if (result < 0)
            return result;
        rpc.data = in;
        rpc.data_len = shape->in;
    } else if (!shape->out) {
        rpc.message.payload.words[2] = argument;
    }
    rpc.reply = out;
    rpc.reply_cap = shape->out;
    long result = fs_call_blocking(task, &rpc);
    if (result < 0 || !shape->out)
        return result;
    if (rpc.reply_len < shape->out)
        return -EIO;
    long copied = guest_write(argument, out, shape->out);
    return copied < 0 ? copied : result;
}

static long set_non_blocking(struct task *task, struct file *file, uint64_t argument) {
    int on;
    long result = guest_read(&on, argument, sizeof(on));
    if (result < 0)
        return result;
    uint32_t flags = file->status_flags;
    if (file->host_fd >= 0) {
        long now = host_call(__NR_fcntl, (uint64_t)file->host_fd, F_GETFL, 0, 0, 0, 0);
        if (now < 0)
            return now;
        flags = (uint32_t)now;
    }
    flags = on ? flags | O_NONBLOCK : flags & ~(uint32_t)O_NONBLOCK;
    return file_set_status_flags(task, file, flags);
}

static long set_close_on_exec(struct task *task, int vfd, bool on) {
    struct fd_table *table = task_fds(task);
    fd_lock(table);
    if ((uint32_t)vfd < table->size && table->entry[vfd].file)
        table->entry[vfd].close_on_exec = on;
    fd_unlock(table);
    return 0;
}

long sys_ioctl(struct task *task, const uint64_t args[6]) {
    uint32_t command = (uint32_t)args[1];
    struct file *file = fd_use(task, (int)args[0]);
    if (!file)
        return -EBADF;
    long result = -ENOTTY;
    const struct ioctl_shape *shape;
    if (file->kind == FS_KIND_PATH)
        result = -EBADF;
    else if (command == FIOCLEX || command == FIONCLEX)
        result = set_close_on_exec(task, (int)args[0], command == FIOCLEX);
    else if (command == FIONBIO)
        result = set_non_blocking(task, file, args[2]);
    else if (file->host_fd >= 0 && command == FIONREAD)
        result = host_call(__NR_ioctl, (uint64_t)file->host_fd, FIONREAD, args[2], 0, 0, 0);
    else if (file->handle >= 0 && (file->kind == FS_KIND_TTY || command == FIONREAD) && (shape = shape_find(command)))
        result = ioctl_by_message(task, file, shape, args[2]);
    fd_done(task, file);
    return result;
}
