/* SPDX-License-Identifier: Apache-2.0 */
/* /proc: between proc.c (names), proc_text.c (contents) and proc_info.c (what pm tells). Private to these. */
#ifndef FS_PROC_H
#define FS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct op;

struct proc_text {
    char *data;
    size_t len, cap;
};

/* What a file says. Result as of a handler: 0, -errno, FS_PENDING. */
typedef int proc_make(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text);

struct proc_file {
    const char *name;
    uint16_t parent;  /* enum proc_key */
    uint32_t mode;
    proc_make *make;  /* or: */
    const char *host; /* the host's file of that name */
    bool local;       /* known on the process's node only */
};

enum proc_key {
    PROC_ROOT, PROC_SELF, PROC_THREAD_SELF, PROC_MOUNTS_LINK, PROC_STAT, PROC_UPTIME, PROC_MEMINFO, PROC_LOADAVG, PROC_CPUINFO,
    PROC_VERSION, PROC_VMSTAT, PROC_CMDLINE, PROC_DEVICES, PROC_FILESYSTEMS, PROC_SWAPS, PROC_SYS, PROC_SYS_KERNEL, PROC_SYS_VM,
    PROC_SYS_FS, PROC_SYS_RANDOM, PROC_PID_MAX, PROC_OSRELEASE, PROC_OSTYPE, PROC_KVERSION, PROC_HOSTNAME, PROC_NGROUPS,
    PROC_LAST_CAP, PROC_THREADS_MAX, PROC_BOOT_ID, PROC_UUID, PROC_ENTROPY, PROC_OVERCOMMIT, PROC_MAX_MAP, PROC_FILE_MAX,
    PROC_NR_OPEN, PROC_PIPE_MAX,
    PROC_PID, /* from here on of a process */
    PROC_PID_STAT, PROC_PID_STATM, PROC_PID_STATUS, PROC_PID_CMDLINE, PROC_PID_COMM, PROC_PID_MOUNTS, PROC_PID_MOUNTINFO,
    PROC_PID_OOM_ADJ, PROC_PID_OOM, PROC_PID_WCHAN, PROC_PID_CGROUP, PROC_PID_MAPS, PROC_PID_LIMITS, PROC_PID_IO, PROC_PID_CWD,
    PROC_PID_ROOT, PROC_PID_EXE, PROC_PID_FD, PROC_PID_TASK,
    PROC_TASK, /* from here on of a thread */
    PROC_TASK_STAT, PROC_TASK_STATUS, PROC_TASK_COMM, PROC_TASK_MAPS,
};

proc_make proc_text_empty, proc_text_zero, proc_text_filesystems, proc_text_pid_max, proc_text_hostname, proc_text_stat,
    proc_text_statm, proc_text_status, proc_text_cmdline, proc_text_comm, proc_text_mounts, proc_text_mountinfo, proc_text_cgroup,
    proc_text_maps, proc_text_limits, proc_text_io;
/* The contents of a file of the host's /proc. */
int proc_text_host(struct op *op, const char *path, struct proc_text *text);

#endif
