/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of socket pairs: what socket.c, control.c (ancillary data) and read_write.c share. */
#ifndef FD_SOCKET_H
#define FD_SOCKET_H

#include "personality/fd/fd.h"

/* The kernel's ABI, whose headers clash with abi.h's. */
#define ABI_AF_UNIX 1
#define ABI_SOCK_STREAM 1u
#define ABI_SOCK_DGRAM 2u
#define ABI_SOCK_RAW 3u
#define ABI_SOCK_SEQPACKET 5u
#define ABI_SOCK_TYPE_MASK 0xfu
#define ABI_SOL_SOCKET 1
#define ABI_SO_TYPE 3
#define ABI_SO_ERROR 4
#define ABI_SO_SNDBUF 7
#define ABI_SO_RCVBUF 8
#define ABI_SO_PASSCRED 16
#define ABI_SO_PEERCRED 17
#define ABI_SO_RCVTIMEO 20
#define ABI_SO_SNDTIMEO 21
#define ABI_SO_ACCEPTCONN 30
#define ABI_SO_PROTOCOL 38
#define ABI_SO_DOMAIN 39
#define ABI_SCM_RIGHTS 1
#define ABI_SCM_CREDENTIALS 2
#define ABI_MSG_PEEK 0x2u
#define ABI_MSG_CTRUNC 0x8u
#define ABI_MSG_TRUNC 0x20u
#define ABI_MSG_DONTWAIT 0x40u
#define ABI_MSG_WAITALL 0x100u
#define ABI_MSG_NOSIGNAL 0x4000u
#define ABI_MSG_WAITFORONE 0x10000u
#define ABI_MSG_CMSG_CLOEXEC 0x40000000u

struct abi_msghdr {
    uint64_t name;
    int32_t name_len;
    uint32_t pad0;
    uint64_t iov, iov_count;
    uint64_t control, control_len;
    uint32_t flags;
    uint32_t pad1;
};
_Static_assert(sizeof(struct abi_msghdr) == 56, "struct msghdr");

struct abi_cmsghdr {
    uint64_t len; /* with this header */
    int32_t level, type;
};

struct abi_ucred {
    int32_t pid;
    uint32_t uid, gid;
};

/* Boundaries between messages are kept. */
static inline bool socket_has_messages(const struct file *file) {
    return file->open_flags & (FS_O_DGRAM | FS_O_SEQPACKET);
}

/*
 * By message, on a handle. A send is one message where boundaries are kept (-EMSGSIZE above DVK_DATA_MAX). whole: length of the message
 * that was received, of which `len` bytes at most were given; may be NULL. flags: MSG_*.
 */
long socket_send_handle(struct task *task, struct file *file, const void *from, size_t len, uint32_t flags);
long socket_receive_handle(struct task *task, struct file *file, void *to, size_t len, uint32_t flags, size_t *whole);

/* Credentials as the host knows them become the container's: of the process with that pid, now; nobody's when it is gone. */
void socket_credentials(struct task *task, struct abi_ucred *credentials);

/* ---- control.c: ancillary data ---- */

#define CONTROL_MAX 2048u /* all that a socket here can be given with one message is less */
#define CONTROL_FILES 253u /* SCM_MAX_FD */

/* Ancillary data on its way to the host, and the files that it names. */
struct control {
    struct file *files[CONTROL_FILES];
    unsigned file_count;
    size_t len;
    _Alignas(8) char bytes[CONTROL_MAX];
};
/* Copy a guest's and put host fds in the place of descriptors. control_end in any case. */
long control_copy(struct task *task, struct control *control, uint64_t address, uint64_t len);
void control_end(struct task *task, struct control *control);
/* What the host gave: its fds become the guest's descriptors, in place. flags: those of the message, which may change. */
void control_receive(struct task *task, struct control *control, bool close_on_exec, uint32_t *flags);

#endif
