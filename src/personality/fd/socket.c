/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socketpair sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockopt setsockopt getsockname getpeername
 *
 * A pair of connected sockets is the host's own, made by the personality itself as pipes are, and like a pipe's an end becomes a
 * handle when its process runs on another node. There are no sockets with names.
 */
#include "personality/fd/socket.h"

#include "personality/fd/abi.h"
#include "personality/fd/calls.h"
#include "personality/fd/vector.h"

#define HANDLE_FLAGS                                                                                                   \
    (ABI_MSG_PEEK | ABI_MSG_TRUNC | ABI_MSG_DONTWAIT | ABI_MSG_WAITALL | ABI_MSG_NOSIGNAL | ABI_MSG_CMSG_CLOEXEC)

/* The socket of a descriptor for one call; or NULL and *error. */
static struct file *socket_use(struct task *task, int vfd, long *error) {
    struct file *file = fd_use(task, vfd);
    if (file && file->kind == FS_KIND_SOCKET)
        return file;
    *error = file && file->kind != FS_KIND_PATH ? -ENOTSOCK : -EBADF;
    fd_done(task, file);
    return NULL;
}

static uint32_t socket_type(const struct file *file) {
    return file->open_flags & FS_O_DGRAM       ? ABI_SOCK_DGRAM
           : file->open_flags & FS_O_SEQPACKET ? ABI_SOCK_SEQPACKET
                                               : ABI_SOCK_STREAM;
}

/* ---- making ---- */

long sys_socketpair(struct task *task, const uint64_t args[6]) {
    struct fd_table *table = task_fds(task);
    uint32_t type = (uint32_t)args[1] & ABI_SOCK_TYPE_MASK, flags = (uint32_t)args[1] & ~ABI_SOCK_TYPE_MASK;
    int host[2];
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    if ((int)args[0] != ABI_AF_UNIX)
        return -EAFNOSUPPORT;
    if (type == ABI_SOCK_RAW) /* as unix(7) has it */
        type = ABI_SOCK_DGRAM;
    if (type != ABI_SOCK_STREAM && type != ABI_SOCK_DGRAM && type != ABI_SOCK_SEQPACKET)
        return -ESOCKTNOSUPPORT;
    if ((int)args[2] != 0 && (int)args[2] != ABI_AF_UNIX)
        return -EPROTONOSUPPORT;
    file_opening_begin(table);
    long result = host_call(__NR_socketpair, ABI_AF_UNIX, type | (flags & O_NONBLOCK), 0, (uint64_t)host, 0, 0);
    if (result < 0) {
        file_opening_end(table);
        return result;
    }
    struct file *first = file_new(table, FS_KIND_SOCKET, host[0], -1, O_RDWR | (flags & O_NONBLOCK));
    struct file *second = file_new_opened(table, FS_KIND_SOCKET, host[1], -1, O_RDWR | (flags & O_NONBLOCK));
    uint32_t open_flags = type == ABI_SOCK_DGRAM ? FS_O_DGRAM : type == ABI_SOCK_SEQPACKET ? FS_O_SEQPACKET : 0;
    if (first)
        first->open_flags = open_flags;
    if (second)
        second->open_flags = open_flags;
    return fd_give_pair(task, first, second, flags & O_CLOEXEC, args[3]);
}

/* ---- by message ---- */

long socket_send_handle(struct task *task, struct file *file, const void *from, size_t len, uint32_t flags) {
    bool messages = socket_has_messages(file);
    size_t done = 0;
    if (flags & ~(uint32_t)(ABI_MSG_DONTWAIT | ABI_MSG_NOSIGNAL))
        return -EOPNOTSUPP;
    if (messages && len > DVK_DATA_MAX)
        return -EMSGSIZE;
    while (done < len || (messages && len == 0)) {
        size_t chunk = len - done < DVK_DATA_MAX ? len - done : DVK_DATA_MAX;
        struct rpc rpc;
        fs_prepare(&rpc, FS_WRITE);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.ints[1] = -1;
        rpc.message.payload.words[2] = (flags & ABI_MSG_DONTWAIT) != 0;
        rpc.data = (const char *)from + done;
        rpc.data_len = chunk;
        long put = fs_call_blocking(task, &rpc);
        if (put > (long)chunk)
            put = -EIO;
        if (put == -EPIPE && !messages && !(flags & ABI_MSG_NOSIGNAL))
            task_raise(task, ABI_SIGPIPE);
        if (put < 0)
            return done ? (long)done : put;
        done += (size_t)put;
        if (messages || ((size_t)put < chunk && flags & ABI_MSG_DONTWAIT))
            break;
    }
    return (long)done;
}

long socket_receive_handle(struct task *task, struct file *file, void *to, size_t len, uint32_t flags, size_t *whole) {
    size_t done = 0;
    if (flags & ~HANDLE_FLAGS)
        return -EOPNOTSUPP;
    bool all = flags & ABI_MSG_WAITALL && !(flags & ABI_MSG_PEEK) && !socket_has_messages(file);
    do {
        size_t chunk = len - done < DVK_DATA_MAX ? len - done : DVK_DATA_MAX;
        struct rpc rpc;
        fs_prepare(&rpc, FS_READ);
        rpc.message.payload.ints[0] = file->handle;
        rpc.message.payload.words[1] = chunk;
        rpc.message.payload.ints[2] = -1;
        rpc.message.payload.words[3] =
            (flags & ABI_MSG_DONTWAIT ? FS_READ_NO_WAIT : 0) | (flags & ABI_MSG_PEEK ? FS_READ_PEEK : 0);
        rpc.reply = (char *)to + done;
        rpc.reply_cap = chunk;
        long got = fs_call_blocking(task, &rpc);
        if (got >= 0 && ((size_t)got > chunk || rpc.reply_len < (size_t)got))
            got = -EIO;
        if (got < 0)
            return done ? (long)done : got;
        done += (size_t)got;
        if (whole)
            *whole = rpc.message.payload.words[0] > done ? rpc.message.payload.words[0] : done;
        if (got == 0)
            break;
    } while (all && done < len);
    return (long)done;
}

/* A message whose parts are in guest memory, through a buffer. */
static long handle_send(struct task *task, struct file *file, struct vector *vector, uint32_t flags) {
    if (socket_has_messages(file) && vector->total > DVK_DATA_MAX)
        return -EMSGSIZE;
    size_t size = vector->total < DVK_DATA_MAX ? vector->total : DVK_DATA_MAX;
    char *buffer = area_alloc(size ? size : 1);
    if (!buffer)
        return -ENOMEM;
    uint64_t done = 0;
    long result;
    do {
        size_t chunk = vector->total - done < size ? vector->total - done : size;
        result = vector_get(vector, buffer, chunk);
        if (result >= 0)
            result = socket_send_handle(task, file, buffer, (size_t)result, flags);
        if (result < 0)
            break;
        done += (uint64_t)result;
        if ((size_t)result < chunk)
            break;
    } while (done < vector->total);
    area_free(buffer, size ? size : 1);
    return done ? (long)done : result;
}

static long handle_receive(struct task *task, struct file *file, struct vector *vector, uint32_t flags, size_t *whole) {
    size_t size = vector->total < DVK_DATA_MAX ? vector->total : DVK_DATA_MAX;
    char *buffer = area_alloc(size ? size : 1);
    if (!buffer)
        return -ENOMEM;
    bool all = flags & ABI_MSG_WAITALL && !(flags & ABI_MSG_PEEK) && !socket_has_messages(file);
    uint64_t done = 0;
    long result;
    do {
        size_t chunk = vector->total - done < size ? vector->total - done : size, length = 0;
        result = socket_receive_handle(task, file, buffer, chunk, flags, &length);
        if (result > 0)
            result = vector_put(vector, buffer, (size_t)result);
        if (result < 0)
            break;
        *whole = length;
        done += (uint64_t)result;
    } while (all && result > 0 && done < vector->total);
    area_free(buffer, size ? size : 1);
    return done ? (long)done : result;
}

/* ---- sending ---- */

/* There is nobody whom an address could name. */
static long address_check(const struct file *file, bool given) {
    uint32_t type = socket_type(file);
    return !given || type == ABI_SOCK_SEQPACKET ? 0 : type == ABI_SOCK_STREAM ? -EISCONN : -ECONNREFUSED;
}

static long host_send(struct task *task, struct file *file, struct abi_msghdr *message, uint32_t flags) {
    struct control *control = area_alloc(sizeof(*control));
    if (!control)
        return -ENOMEM;
    long result = control_copy(task, control, message->control, message->control_len);
    message->control = control->len ? (uint64_t)control->bytes : 0;
    message->control_len = control->len;
    if (result >= 0)
        result = file_host_call(task, file, __NR_sendmsg, (uint64_t)message, flags, 0, 0, 0);
    control_end(task, control);
    area_free(control, sizeof(*control));
    return result;
}

static long message_send(struct task *task, struct file *file, struct abi_msghdr *message, uint32_t flags) {
    long result = address_check(file, message->name && message->name_len > 0);
    message->name = 0;
    message->name_len = 0;
    if (result < 0)
        return result;
    if (file->host_fd >= 0) {
        if (message->control && message->control_len)
            return host_send(task, file, message, flags);
        message->control = message->control_len = 0;
        return file_host_call(task, file, __NR_sendmsg, (uint64_t)message, flags, 0, 0, 0);
    }
    struct vector vector;
    if (message->control && message->control_len)
        return -EOPNOTSUPP;
    if (message->iov_count > VECTOR_MAX)
        return -EMSGSIZE;
    result = vector_copy(&vector, message->iov, message->iov_count);
    if (result < 0)
        return result;
    result = handle_send(task, file, &vector, flags);
    vector_end(&vector);
    return result;
}

long sys_sendto(struct task *task, const uint64_t args[6]) {
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    size_t len = args[2] < IO_MAX ? args[2] : IO_MAX;
    result = address_check(file, args[4] != 0);
    if (result >= 0 && file->host_fd >= 0) {
        struct vector_part part = {args[1], len};
        struct abi_msghdr message = {.iov = (uint64_t)&part, .iov_count = 1};
        result = file_host_call(task, file, __NR_sendmsg, (uint64_t)&message, (uint32_t)args[3], 0, 0, 0);
    } else if (result >= 0) {
        result = socket_send_handle(task, file, (const void *)args[1], len, (uint32_t)args[3]);
    }
    fd_done(task, file);
    return result;
}

long sys_sendmsg(struct task *task, const uint64_t args[6]) {
    struct abi_msghdr message;
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    result = guest_read(&message, args[1], sizeof(message));
    if (result >= 0)
        result = message_send(task, file, &message, (uint32_t)args[2]);
    fd_done(task, file);
    return result;
}

struct abi_mmsghdr {
    struct abi_msghdr message;
    uint32_t len, pad;
};
#define MESSAGES_MAX 1024u /* UIO_MAXIOV */

long sys_sendmmsg(struct task *task, const uint64_t args[6]) {
    uint32_t count = (uint32_t)args[2] < MESSAGES_MAX ? (uint32_t)args[2] : MESSAGES_MAX, done = 0;
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    result = 0;
    for (; done < count; done++) {
        uint64_t at = args[1] + done * sizeof(struct abi_mmsghdr);
        struct abi_msghdr message;
        result = guest_read(&message, at, sizeof(message));
        if (result >= 0)
            result = message_send(task, file, &message, (uint32_t)args[3]);
        uint32_t len = (uint32_t)result;
        if (result >= 0)
            result = guest_write(at + offsetof(struct abi_mmsghdr, len), &len, sizeof(len));
        if (result < 0)
            break;
    }
    fd_done(task, file);
    return done ? (long)done : result;
}

/* ---- receiving ---- */

static long host_receive(struct task *task, struct file *file, struct abi_msghdr *message, uint32_t flags,
                         uint64_t control_address) {
    struct fd_table *table = task_fds(task);
    struct control *control = area_alloc(sizeof(*control));
    if (!control)
        return -ENOMEM;
    file_opening_begin(table);
    message->control = (uint64_t)control->bytes;
    if (message->control_len > sizeof(control->bytes))
        message->control_len = sizeof(control->bytes);
    long result = file_host_call(task, file, __NR_recvmsg, (uint64_t)message, flags, 0, 0, 0);
    if (result >= 0) {
        control->len = message->control_len;
        control_receive(task, control, flags & ABI_MSG_CMSG_CLOEXEC, &message->flags);
        message->control_len = control->len;
        long copied = guest_write(control_address, control->bytes, control->len);
        result = copied < 0 ? copied : result;
    }
    file_opening_end(table);
    area_free(control, sizeof(*control));
    return result;
}

static long message_receive_handle(struct task *task, struct file *file, struct abi_msghdr *message, uint32_t flags) {
    struct vector vector;
    size_t whole = 0;
    if (message->iov_count > VECTOR_MAX)
        return -EMSGSIZE;
    long result = vector_copy(&vector, message->iov, message->iov_count);
    if (result < 0)
        return result;
    result = handle_receive(task, file, &vector, flags, &whole);
    vector_end(&vector);
    message->control_len = 0;
    message->flags = 0;
    if (result < 0 || !socket_has_messages(file) || whole <= (size_t)result)
        return result;
    message->flags = ABI_MSG_TRUNC;
    return flags & ABI_MSG_TRUNC ? (long)whole : result;
}

/* at: the guest's struct msghdr. */
static long message_receive(struct task *task, struct file *file, uint64_t at, uint32_t flags) {
    struct abi_msghdr message;
    long result = guest_read(&message, at, sizeof(message));
    if (result < 0)
        return result;
    uint64_t name = message.name, control = message.control;
    message.name = 0; /* nobody has one */
    message.control = 0;
    if (name && message.name_len < 0)
        return -EINVAL;
    message.name_len = 0;
    if (file->host_fd < 0) {
        result = message_receive_handle(task, file, &message, flags);
    } else if (control && message.control_len) {
        result = host_receive(task, file, &message, flags, control);
    } else {
        message.control_len = 0;
        result = file_host_call(task, file, __NR_recvmsg, (uint64_t)&message, flags, 0, 0, 0);
    }
    if (result < 0)
        return result;
    uint32_t zero = 0;
    long copied = name ? guest_write(at + offsetof(struct abi_msghdr, name_len), &zero, sizeof(zero)) : 0;
    if (copied >= 0)
        copied = guest_write(at + offsetof(struct abi_msghdr, control_len), &message.control_len, sizeof(uint64_t));
    if (copied >= 0)
        copied = guest_write(at + offsetof(struct abi_msghdr, flags), &message.flags, sizeof(message.flags));
    return copied < 0 ? copied : result;
}

long sys_recvfrom(struct task *task, const uint64_t args[6]) {
    long result;
    uint32_t flags = (uint32_t)args[3], zero = 0;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    size_t len = args[2] < IO_MAX ? args[2] : IO_MAX, whole = 0;
    if (file->host_fd >= 0) {
        struct vector_part part = {args[1], len};
        struct abi_msghdr message = {.iov = (uint64_t)&part, .iov_count = 1};
        result = file_host_call(task, file, __NR_recvmsg, (uint64_t)&message, flags, 0, 0, 0);
    } else {
        result = socket_receive_handle(task, file, (void *)args[1], len, flags, &whole);
        if (result >= 0 && flags & ABI_MSG_TRUNC && socket_has_messages(file))
            result = (long)whole;
    }
    if (result >= 0 && args[4]) {
        long copied = guest_write(args[5], &zero, sizeof(zero));
        result = copied < 0 ? copied : result;
    }
    fd_done(task, file);
    return result;
}

long sys_recvmsg(struct task *task, const uint64_t args[6]) {
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    result = message_receive(task, file, args[1], (uint32_t)args[2]);
    fd_done(task, file);
    return result;
}

/* As in Linux the time is looked at after each message only. */
long sys_recvmmsg(struct task *task, const uint64_t args[6]) {
    uint32_t count = (uint32_t)args[2] < MESSAGES_MAX ? (uint32_t)args[2] : MESSAGES_MAX, flags = (uint32_t)args[3], done = 0;
    int64_t time[2], deadline = -1;
    long result = 0;
    if (args[4]) {
        result = guest_read(time, args[4], sizeof(time));
        if (result < 0)
            return result;
        if (time[0] < 0 || time[1] < 0 || time[1] >= 1000000000)
            return -EINVAL;
        deadline = time[0] > INT64_MAX / 2000000000 ? INT64_MAX : clock_now() + time[0] * 1000000000 + time[1];
    }
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    while (done < count) {
        uint64_t at = args[1] + done * sizeof(struct abi_mmsghdr);
        result = message_receive(task, file, at, flags & ~ABI_MSG_WAITFORONE);
        uint32_t len = (uint32_t)result;
        if (result >= 0)
            result = guest_write(at + offsetof(struct abi_mmsghdr, len), &len, sizeof(len));
        if (result < 0)
            break;
        done++;
        if (flags & ABI_MSG_WAITFORONE)
            flags |= ABI_MSG_DONTWAIT;
        if (deadline >= 0 && clock_now() >= deadline)
            break;
    }
    fd_done(task, file);
    return done ? (long)done : result;
}

/* ---- the end of one direction; names ---- */

static long socket_request(struct task *task, struct file *file, uint64_t what, uint64_t number, struct rpc *rpc) {
    fs_prepare(rpc, FS_SOCKET);
    rpc->message.payload.ints[0] = file->handle;
    rpc->message.payload.words[1] = what;
    rpc->message.payload.words[2] = number;
    return 0;
}

long sys_shutdown(struct task *task, const uint64_t args[6]) {
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    if (file->host_fd >= 0) {
        result = host_call(__NR_shutdown, (uint64_t)file->host_fd, args[1], 0, 0, 0, 0);
    } else {
        struct rpc rpc;
        socket_request(task, file, FS_SOCKET_SHUTDOWN, (uint32_t)args[1], &rpc);
        result = fs_call(task, &rpc);
    }
    fd_done(task, file);
    return result < 0 ? result : 0;
}

/* Of either end: a family and no more. */
static long name_get(struct task *task, const uint64_t args[6]) {
    long result;
    uint16_t family = ABI_AF_UNIX;
    int room, len = sizeof(family);
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    fd_done(task, file);
    result = guest_read(&room, args[2], sizeof(room));
    if (result >= 0 && room < 0)
        result = -EINVAL;
    if (result >= 0)
        result = guest_write(args[1], &family, (size_t)(room < len ? room : len));
    if (result >= 0)
        result = guest_write(args[2], &len, sizeof(len));
    return result < 0 ? result : 0;
}

long sys_getsockname(struct task *task, const uint64_t args[6]) {
    return name_get(task, args);
}
long sys_getpeername(struct task *task, const uint64_t args[6]) {
    return name_get(task, args);
}

/* ---- options ---- */

#define OPTION_BYTES 16

/* The length of an option's value; 0: not one that sockets have here. */
static size_t option_size(int option, bool set) {
    switch (option) {
    case ABI_SO_SNDBUF:
    case ABI_SO_RCVBUF:
    case ABI_SO_PASSCRED:
        return sizeof(int);
    case ABI_SO_RCVTIMEO:
    case ABI_SO_SNDTIMEO:
        return 16; /* struct timeval */
    case ABI_SO_ERROR:
        return set ? 0 : sizeof(int);
    case ABI_SO_PEERCRED:
        return set ? 0 : sizeof(struct abi_ucred);
    default:
        return 0;
    }
}

static long option_read(struct task *task, struct file *file, int option, void *value, size_t size) {
    int len = (int)size;
    if (file->host_fd >= 0)
        return host_call(__NR_getsockopt, (uint64_t)file->host_fd, ABI_SOL_SOCKET, (uint64_t)option, (uint64_t)value,
                         (uint64_t)&len, 0);
    struct rpc rpc;
    socket_request(task, file, FS_SOCKET_GET, (uint64_t)option, &rpc);
    rpc.reply = value;
    rpc.reply_cap = size;
    long result = fs_call(task, &rpc);
    return result < 0 ? result : rpc.reply_len < size ? -EIO : 0;
}

static long option_get(struct task *task, struct file *file, int option, uint64_t to, uint64_t length_address) {
    char value[OPTION_BYTES] = {0};
    size_t size = sizeof(int);
    int room, number = 0;
    long result = guest_read(&room, length_address, sizeof(room));
    if (result < 0 || room < 0)
        return result < 0 ? result : -EINVAL;
    switch (option) {
    case ABI_SO_TYPE:
        number = (int)socket_type(file);
        break;
    case ABI_SO_DOMAIN:
        number = ABI_AF_UNIX;
        break;
    case ABI_SO_PROTOCOL:
    case ABI_SO_ACCEPTCONN:
        break;
    default:
        size = option_size(option, false);
        result = size ? option_read(task, file, option, value, size) : -ENOPROTOOPT;
        if (result < 0)
            return result;
        if (option == ABI_SO_PEERCRED)
            socket_credentials(task, (struct abi_ucred *)(void *)value);
        __builtin_memcpy(&number, value, sizeof(number));
    }
    __builtin_memcpy(value, &number, sizeof(number));
    int len = room < (int)size ? room : (int)size;
    result = guest_write(to, value, (size_t)len);
    if (result >= 0)
        result = guest_write(length_address, &len, sizeof(len));
    return result < 0 ? result : 0;
}

static long option_set(struct task *task, struct file *file, int option, uint64_t from, int len) {
    char value[OPTION_BYTES];
    size_t size = option_size(option, true);
    if (!size)
        return -ENOPROTOOPT;
    if (len < (int)size)
        return -EINVAL;
    long result = guest_read(value, from, size);
    if (result < 0)
        return result;
    if (file->host_fd >= 0)
        return host_call(__NR_setsockopt, (uint64_t)file->host_fd, ABI_SOL_SOCKET, (uint64_t)option, (uint64_t)value,
                         size, 0);
    struct rpc rpc;
    socket_request(task, file, FS_SOCKET_SET, (uint64_t)option, &rpc);
    rpc.data = value;
    rpc.data_len = size;
    result = fs_call(task, &rpc);
    return result < 0 ? result : 0;
}

long sys_getsockopt(struct task *task, const uint64_t args[6]) {
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    result = (int)args[1] == ABI_SOL_SOCKET ? option_get(task, file, (int)args[2], args[3], args[4]) : -EOPNOTSUPP;
    fd_done(task, file);
    return result;
}

long sys_setsockopt(struct task *task, const uint64_t args[6]) {
    long result;
    struct file *file = socket_use(task, (int)args[0], &result);
    if (!file)
        return result;
    result = (int)args[1] == ABI_SOL_SOCKET ? option_set(task, file, (int)args[2], args[3], (int)args[4]) : -EOPNOTSUPP;
    fd_done(task, file);
    return result;
}

/* ---- credentials ---- */

#define NOBODY 65534u

/* The second number (the effective id) of the line "name:\treal\teffective...", or nobody. */
static uint32_t status_id(const char *text, const char *name) {
    for (; *text; text++) {
        const char *at = text_after(text, name);
        if (!at)
            continue;
        if (decimal_parse(&at, UINT32_MAX) < 0 || *at++ != '\t')
            break;
        int64_t id = decimal_parse(&at, UINT32_MAX);
        return id < 0 ? NOBODY : (uint32_t)id;
    }
    return NOBODY;
}

/* Host pids are the container's; host ids are the same for all guests. */
void socket_credentials(struct task *task, struct abi_ucred *credentials) {
    char path[40] = "/proc/", text[1024];
    struct place place;
    struct file *file = NULL;
    credentials->uid = credentials->gid = NOBODY;
    if (credentials->pid <= 0)
        return;
    size_t at = 6 + decimal_put(path + 6, (uint64_t)credentials->pid);
    for (const char *name = "/status"; *name; name++)
        path[at++] = *name;
    if (place_resolve_text(task, &place, path, PLACE_FOLLOW) < 0)
        return;
    long result = file_open(task, &place, O_RDONLY, 0, NULL, &file);
    place_end(task, &place);
    if (result < 0)
        return;
    result = file_read(task, file, text, sizeof(text) - 1, 0);
    file_release(task, file);
    if (result <= 0)
        return;
    text[result] = 0;
    credentials->uid = status_id(text, "\nUid:\t");
    credentials->gid = status_id(text, "\nGid:\t");
}
