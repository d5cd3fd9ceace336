/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of socket pairs, for processes on other nodes: FS_SOCKET, and the socket's side of FS_READ, FS_WRITE, FS_SETFL.
 *
 * A socket has no second open file description as a pipe has: ours is the guests' own, so O_NONBLOCK is theirs, and we ask
 * for each call not to block. File descriptors that come with data are not taken: the host closes them.
 */
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/socket.h>

static int option_int(int fd, int option) {
    int value = 0;
    socklen_t length = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -errno : value;
}

int socket_identify(int fd, uint32_t *open_flags) {
    int domain = option_int(fd, SO_DOMAIN), type = option_int(fd, SO_TYPE);
    if (domain != AF_UNIX || option_int(fd, SO_ACCEPTCONN) != 0)
        return -EOPNOTSUPP;
    *open_flags = type == SOCK_DGRAM ? FS_O_DGRAM : type == SOCK_SEQPACKET ? FS_O_SEQPACKET : 0;
    return 0;
}

ssize_t socket_read(struct op *op, size_t length) {
    const struct object *object = op->object;
    bool messages = object->open_flags & (FS_O_DGRAM | FS_O_SEQPACKET);
    int flags = MSG_DONTWAIT | (messages ? MSG_TRUNC : 0) | (op->words[3] & FS_READ_PEEK ? MSG_PEEK : 0);
    ssize_t whole = recv(object->fd, op->out_data, length, flags);
    if (whole < 0)
        return whole;
    op->out[0] = (uint64_t)whole;
    return (size_t)whole < length ? whole : (ssize_t)length;
}

ssize_t socket_write(struct op *op) {
    return send(op->object->fd, op->data, op->data_len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool socket_never_blocks(const struct object *object) {
    int flags = fcntl(object->fd, F_GETFL);
    return flags < 0 || flags & O_NONBLOCK;
}

int socket_set_flags(struct object *object, uint32_t flags) {
    int old = fcntl(object->fd, F_GETFL);
    if (old < 0 || fcntl(object->fd, F_SETFL, (old & ~O_NONBLOCK) | (int)(flags & O_NONBLOCK)) < 0)
        return -errno;
    object->status_flags = (object->status_flags & ~(uint32_t)O_NONBLOCK) | (flags & O_NONBLOCK);
    return 0;
}

/* The options that guests have of their own sockets, too (cell/filter.c). */
static bool option_allowed(uint64_t option, bool set) {
    switch (option) {
    case SO_SNDBUF:
    case SO_RCVBUF:
    case SO_PASSCRED:
    case SO_RCVTIMEO:
    case SO_SNDTIMEO: return true;
    case SO_ERROR:
    case SO_PEERCRED: return !set;
    default: return false;
    }
}

int do_socket(struct op *op) {
    struct object *object = op->object;
    char value[64];
    socklen_t length = sizeof(value);
    if (object->kind != FS_KIND_SOCKET)
        return -ENOTSOCK;
    switch (op->words[1]) {
    case FS_SOCKET_SHUTDOWN: return shutdown(object->fd, (int)op->words[2]) < 0 ? -errno : 0;
    case FS_SOCKET_GET:
        if (!option_allowed(op->words[2], false))
            return -ENOPROTOOPT;
        if (getsockopt(object->fd, SOL_SOCKET, (int)op->words[2], value, &length) < 0)
            return -errno;
        return op_put(op, value, length);
    case FS_SOCKET_SET:
        if (!option_allowed(op->words[2], true))
            return -ENOPROTOOPT;
        if (op->data_len > sizeof(value))
            return -EINVAL;
        memcpy(value, op->data, op->data_len);
        return setsockopt(object->fd, SOL_SOCKET, (int)op->words[2], value, op->data_len) < 0 ? -errno : 0;
    default: return -EINVAL;
    }
}
