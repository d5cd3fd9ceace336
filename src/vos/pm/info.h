/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the other servers of a DC (fs, tty; system slots of the same DC, on any node) may ask pm. Sent to the own cell's pm,
 * which asks others where it must. Guests that send these get -EPERM.
 *
 *   PM_S_INFO   w0 pid. One process, wherever it runs (zombies too). reply data: struct pm_process_info, followed by its
 *               command line (cmdline_len bytes, NUL-separated). -ESRCH: no such process
 *   PM_S_LIST   w0 0: the processes of this node, 1: of the whole DC; w1 cursor (0: from the start). reply: w0 entries, w1 next
 *               cursor (0: that was all); data: entries, each a struct pm_process_info followed by cmdline_len bytes of command
 *               line (cut to PM_LIST_CMDLINE) and padded with zeroes to a multiple of 8. An answer may hold no entry
 *               and still have a next cursor. Sorted by pid within a node only. A process that moves meanwhile may come twice, and one
               that is in no node's part has at least an entry with PM_STATE_ELSEWHERE.
 *   PM_S_RAISE  a signal from the system (si_code SI_KERNEL, no permission asked): w0 0: to process w1, 1: to process group w1,
 *               wherever its members run; w2 signal. reply: status how many got it, or -ESRCH
 *   PM_S_GROUP  w0 pgid w1 sid: is there a process group pgid in session sid? status: enum pm_group_state bits, or
 *               -ESRCH: no such group, -EPERM: it is in another session
 * Between pms the same types are used with the words of pm/remote.h.
 */
#ifndef VOS_PM_INFO_H
#define VOS_PM_INFO_H

#include <stdint.h>

#define PM_LIST_CMDLINE 512u
#define PM_STATE_ELSEWHERE '-' /* PM_S_LIST: no more than a name: a process whose home this is runs on `node`, as far as is known */

enum pm_group_state {
    PM_GROUP_EXISTS = 1u,
    PM_GROUP_ORPHANED = 2u, /* no member has a parent in another group of the session, as far as can be known */
};

struct pm_process_info {
    uint32_t pid, ppid, pgid, sid;
    uint32_t uid, euid, suid, fsuid;
    uint32_t gid, egid, sgid, fsgid;
    uint32_t node;    /* where it runs */
    uint32_t threads;
    char state;       /* R S D T Z, as /proc/PID/stat shows it; PM_STATE_ELSEWHERE */
    char pad[3];
    int32_t nice;
    int64_t utime, stime;   /* own CPU time in clock ticks (100 a second) */
    int64_t cutime, cstime; /* of children waited for */
    int64_t start_ms;       /* CLOCK_BOOTTIME of its node when it began, in ms */
    uint64_t vsize;         /* bytes */
    uint64_t rss;           /* pages */
    uint32_t umask;
    uint32_t group_count;   /* supplementary groups in groups[]; more are not shown */
    uint32_t groups[16];
    char comm[16];          /* NUL-terminated */
    uint32_t cmdline_len;   /* bytes that follow */
    uint32_t pad2;
};
_Static_assert(sizeof(struct pm_process_info) % 8 == 0, "entries stay aligned");

#endif
