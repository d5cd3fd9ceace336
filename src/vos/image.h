/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exec image: all that a process keeps over exec, in one block of bytes that the old program's personality
 * writes and the new one's reads, perhaps on another node. pm carries it and reads only the header.
 * Written by an untrusted guest: the reader checks every length.
 *
 *   struct vos_image_header
 *   strings: path\0, then argc argument strings, then envc environment strings, each with its NUL
 *            (string_bytes in all, padded with zeroes to 8)
 *   struct vos_image_fd[fd_count]
 */
#ifndef VOS_IMAGE_H
#define VOS_IMAGE_H

#include <stdint.h>

#define VOS_IMAGE_MAGIC 0x3147494d49535644ull /* "DVSIMIG1" */
#define VOS_IMAGE_MAX (4u << 20)
#define VOS_IMAGE_FDS 1024u

enum vos_image_flags {
    VOS_IMAGE_SEARCH = 1u /* path has no slash and is looked up in the environment's PATH (first program of a DC) */
};

struct vos_image_header {
    uint64_t magic;
    uint32_t version; /* 1 */
    uint32_t flags;
    uint32_t argc, envc;
    uint32_t string_bytes;
    uint32_t fd_count;
    uint64_t blocked;  /* signal mask */
    uint64_t ignored;  /* signals set to SIG_IGN */
    uint32_t umask;
    uint32_t host_fds; /* how many of the descriptors travel as host fds */
};

enum vos_image_fd_kind {
    VOS_IMAGE_FD_HOST = 1,   /* host fd that travels along; `source` is its index there. Only when the new place is on
                                the same node: before a move the old program exports its host fds to handles */
    VOS_IMAGE_FD_HANDLE = 2, /* fs handle `handle` in the process's table */
    VOS_IMAGE_FD_DUP = 3     /* same open file description as that of vfd `source` */
};

struct vos_image_fd {
    int32_t vfd;
    uint32_t kind;       /* enum vos_image_fd_kind */
    uint32_t object;     /* enum fs_kind */
    uint32_t fd_flags;   /* FD_CLOEXEC never occurs: those were closed */
    uint32_t status_flags; /* O_ACCMODE, O_APPEND, O_NONBLOCK */
    uint32_t open_flags; /* FS_O_* */
    int64_t handle;
    uint32_t source;
    uint32_t pad;
};

#endif
