/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the fs servers of a DC: messages, version 1. The source must be the fs of a node of the same DC; it is trusted:
 * it vouches for the caller's credentials.
 */
#ifndef FS_REMOTE_H
#define FS_REMOTE_H

#include "vos/protocol.h"

#define FS_REMOTE_VERSION 1u
#define FS_REMOTE_GROUPS 1024u

enum fs_remote_type {
    FS_S_PATH = FS_S_REMOTE + 0,   /* a path operation, whole. data: struct fs_remote_path ...; replies below */
    FS_S_OBJECT = FS_S_REMOTE + 1, /* an operation on an object of the receiver. words 0..7: the operation's; w20 its type, w21 object,
                                      w22 pid; data: the operation's. reply: the operation's own */
    FS_S_DROP = FS_S_REMOTE + 2,   /* w0 object w1 count: the sender's node has so many references less */
    FS_S_ADDREF = FS_S_REMOTE + 3, /* w0 object: one more, for a process that moved to the sender's node. -EBADF: no such object */
    FS_S_REVOKE = FS_S_REMOTE + 4, /* from the primary. w0 sequence; data: path: the lease on it ends before the answer */
    FS_S_SHM_DROP = FS_S_REMOTE + 5, /* from the primary. w0 id: that file of /dev/shm has no name any more */
    FS_S_LOCKS = FS_S_REMOTE + 6,  /* w0 pid w1 0: the process is gone, its locks here with it; 1: it runs on the sender's node now */
};

/* How a directory that a relative path begins at is told. */
enum fs_remote_start {
    FS_REMOTE_ROOT = 0,
    FS_REMOTE_PATH = 1,   /* canonical path of an existing directory: in the strings */
    FS_REMOTE_OBJECT = 2, /* object of the receiver */
};

enum fs_remote_flags {
    FS_REMOTE_NO_LEASE = 1u,    /* leases did not help: answer it */
    FS_REMOTE_FOCUS = 2u,       /* resolve the second path first */
    FS_REMOTE_SWAPS_SHIFT = 8u, /* from this bit on: how often that changed (0..255) */
};

/*
 * Head of FS_S_PATH's data. It is followed by uint32_t groups[group_count]; then strings with their NUL: for each of
 * the two starts its path if its kind is FS_REMOTE_PATH, then `paths` paths (or path and name); then the operation's further data.
 *
 * Reply, by status:
 *   >= 0, -errno    the operation's: words 0..19, data (w22 bytes); FS_OPEN: w0 is an object of the replier, of which the
 *                   receiver has one reference, w3 status flags. FS_OPEN and FS_CHDIR of a directory: w23 is not 0: its path, which
 *                   never changes, follows the data; FS_CHDIR then made no object
 *   FS_FORWARD      w0 which path (0, 1), w1 node, w2 links followed, w3 focus, w4 swaps (see enum fs_remote_flags); data: base\0rest\0: go on there, at canonical directory base
 *   FS_LOCALLY      w20 leases, w21 sequence; data: their paths, each with its NUL: the receiver holds them now and can answer itself
 */
struct fs_remote_path {
    uint32_t version;
    uint32_t type; /* FS_OPEN ... FS_XATTR, FS_LOCK */
    uint32_t uid, gid, group_count;
    uint32_t pid;
    uint32_t links; /* symbolic links followed so far */
    uint32_t flags; /* enum fs_remote_flags */
    uint32_t paths; /* 1 or 2 */
    uint32_t start_kind[2];
    uint32_t hops;
    uint64_t start_object[2];
    uint64_t words[8];
};
_Static_assert(sizeof(struct fs_remote_path) == 128, "wire layout");

/*
 * What FS_S_EXPORTS gives and FS_S_IMPORTS takes: struct fs_export_head, then `count` times struct fs_export followed by
 * path_len bytes of path, padded to 8. The first one is the working directory (handle -1).
 */
#define FS_EXPORT_MAGIC 0x31505845u /* "EXP1" */
struct fs_export_head {
    uint32_t magic;
    uint32_t count;
    uint64_t lock_nodes[7]; /* bitmap of the nodes where the process may hold locks */
};
struct fs_export {
    int64_t handle;
    uint64_t object; /* at its owner */
    uint64_t rdev;   /* FS_KIND_CHAR: opened anew where the process arrives */
    uint32_t node;   /* owner */
    uint32_t kind;   /* enum fs_kind */
    uint32_t open_flags, status_flags;
    uint32_t tty;    /* FS_KIND_TTY */
    uint32_t path_len; /* directories whose path never changes: the path, no NUL */
};
_Static_assert(sizeof(struct fs_export) == 48, "wire layout");

#endif
