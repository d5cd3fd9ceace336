/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host as pm sees it: the only place of this module that makes system calls on processes. Unit tests replace it.
 * Host pid == pid; dvs-vos is root in the cell's user namespace and lives in its pid namespace. Nothing here blocks.
 */
#ifndef PM_HOST_H
#define PM_HOST_H

#include "cell/init_protocol.h"
#include "vos/host/module.h"
#include "vos/protocol.h"
#include <stdbool.h>

/* Queue a signal with the fields of vos/protocol.h; tid 0: to the process. SIGKILL and SIGSTOP go plainly.
 * 0, -ESRCH, -EAGAIN (rt_sigqueueinfo(2), kill(2)). */
int host_signal(struct vos *vos, uint32_t pid, uint32_t tid, int sig, const struct vos_siginfo_fields *fields);
/* Is there such a host process? */
bool host_exists(struct vos *vos, uint32_t pid);

struct host_process {
    char state;
    uint32_t threads;
    int64_t utime, stime; /* clock ticks */
    uint64_t vsize, rss;
};
/* From /proc/PID/stat (proc(5)). 0 or -ESRCH. */
int host_read(struct vos *vos, uint32_t pid, struct host_process *out);
/* Best effort: a lower value than now needs rights that no cell has. */
void host_nice(struct vos *vos, uint32_t pid, int nice);
/* Milliseconds of CLOCK_BOOTTIME. */
int64_t host_time_ms(void);

/* Have fn called for each state change that cell init reports. 0 or negative errno. */
typedef void host_state_fn(void *context, uint32_t pid, int wait_status, const struct init_rusage *usage);
int host_watch_init(struct vos *vos, host_state_fn *fn, void *context);

#endif
