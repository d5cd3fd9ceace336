/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process on the wire: its record, what fs says of its files, and its exec image, in one block of bytes that PM_S_SPAWN carries.
 *
 *   struct record_header
 *   struct record_child[child_count]   children, with the states that nobody waited for yet
 *   uint32_t groups[group_count]
 *   cmdline[cmdline_len]
 *   fs[fs_len]                         opaque: FS_S_EXPORTS to FS_S_IMPORTS
 *   image[image_len]                   vos/image.h
 * Each part is padded with zeroes to a multiple of 8. Signals that were kept follow as messages of their own.
 */
#ifndef PM_RECORD_H
#define PM_RECORD_H

#include "vos/pm/pm.h"

#define RECORD_MAGIC 0x314345524d505644ull /* "DVPMREC1" */
#define RECORD_VERSION 1u
#define RECORD_MAX (16u << 20)

struct record_header {
    uint64_t magic;
    uint32_t version;
    uint32_t child_count, group_count, cmdline_len, fs_len, image_len;
    uint32_t pid, ppid, parent_node, pgid, sid;
    uint32_t uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
    uint32_t umask;
    int32_t nice;
    uint32_t chld_flags;
    uint32_t moves; /* counted up for this move already */
    uint32_t sequence;
    uint32_t announce_start;
    uint32_t parent_moves;
    uint64_t birth, parent_birth;
    int64_t start_ms;
    char comm[16];
    uint64_t limits[PM_LIMITS][2];
    struct init_rusage usage, children_usage;
};
_Static_assert(sizeof(struct record_header) % 8 == 0, "parts are aligned");

struct record_child {
    uint32_t pid, node, moves, sequence, pgid, sid, uid, exit_signal;
    uint32_t flags; /* enum record_child_flags */
    int32_t status, stop_status;
    uint32_t pad;
    struct init_rusage usage;
};
enum record_child_flags { RECORD_CHILD_ZOMBIE = 1, RECORD_CHILD_STOPPED = 2, RECORD_CHILD_CONTINUED = 4 };
_Static_assert(sizeof(struct record_child) % 8 == 0, "parts are aligned");

/* *out (to be freed) gets *out_len bytes. 0, -E2BIG or -ENOMEM. */
int record_pack(const struct process *process, const void *fs, size_t fs_len, void **out, size_t *out_len);

struct record_parts {
    struct record_header header;
    const uint8_t *children, *groups, *cmdline, *fs, *image; /* point into the bytes; not aligned for access by type */
};
/* Check the frame. 0 or -EPROTO. */
int record_parse(const void *bytes, size_t len, struct record_parts *out);
/* Fill a new record (state, endpoint and parent's side are the caller's). children: entries become this process's. 0 or -ENOMEM. */
int record_unpack(struct pm *pm, const struct record_parts *parts, struct process *process);

#endif
