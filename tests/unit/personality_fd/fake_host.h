/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fd/ calls, played by this process: host calls are real ones, guest memory is our memory (bad addresses give
 * -EFAULT), and fs is a small server over the host's own files in which handles are host fds. Its state is open to
 * tests.
 */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include "personality/fd/fd.h"

struct process {
    struct process_head head;
};

#define FAKE_HANDLES 4096

struct fake_server {
    bool remote;              /* opens give handles, not fds */
    bool no_poll_set;         /* FS_POLL_SET is unknown */
    bool no_regrant;          /* FS_REGRANT answers -EAGAIN */
    int handle[FAKE_HANDLES]; /* host fd + 1, 0: free */
    unsigned requests;        /* how many came */
    struct dvk_message last;  /* the last request as it came */
    int raised;               /* signal of task_raise, 0: none */
    int interrupt_next;       /* this many requests that may be interrupted are */
    uint64_t mask;
    bool mask_swapped;
    unsigned areas; /* area_alloc'd and not freed */
    unsigned heap;  /* heap_alloc'd and not freed */
};
extern struct fake_server fake;
extern int fake_own_fd; /* a host fd that is "the personality's own" */

/* A fresh process with an empty table and one task; the server is emptied. */
struct task *fake_start(void);
/* Ends it: closes all descriptors. Fails the test if memory or handles are left over. */
void fake_stop(struct task *task);
/* Another process for fork tests. */
struct process *fake_process(void);
unsigned fake_handles_open(void);
/* Host fds that this process has open. */
unsigned fake_host_fds(void);

/* A system call of the guest. */
#define GUEST(function, ...) function(task, (const uint64_t[6]){__VA_ARGS__})
#define ADDRESS(p) ((uint64_t)(uintptr_t)(p))

#endif
