/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getpid gettid getppid getpgrp getpgid setpgid getsid setsid
 * getuid geteuid getgid getegid getresuid getresgid getgroups
 * setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups, capget capset
 *
 * What does not change behind our back is kept here; pm decides about every change, and its reply says what is true.
 */
#include "personality/task/calls.h"
#include "personality/task/task.h"
#include <asm/errno.h>

long sys_getpid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->process->pid;
}

long sys_gettid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->tid;
}

/* A request to pm with up to three words. Its status, or -errno; *word0 (may be NULL) the reply's first word. */
static long pm_ask(struct task *task, uint32_t type, int64_t a, int64_t b, int64_t c, uint64_t *word0) {
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = type;
    rpc.message.payload.ints[0] = a;
    rpc.message.payload.ints[1] = b;
    rpc.message.payload.ints[2] = c;
    long result = rpc_call(task, &rpc);
    if (word0 != NULL)
        *word0 = rpc.message.payload.words[0];
    return result;
}

static long pm_ask_word(struct task *task, uint32_t type, int64_t a) {
    uint64_t word;
    long result = pm_ask(task, type, a, 0, 0, &word);
    return result < 0 ? result : (long)word;
}

long sys_getppid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return pm_ask_word(task, PM_GETPPID, 0);
}

long sys_getpgrp(struct task *task, const uint64_t args[6]) {
    (void)args;
    return pm_ask_word(task, PM_GETPGID, 0);
}

long sys_getpgid(struct task *task, const uint64_t args[6]) { return pm_ask_word(task, PM_GETPGID, (int32_t)args[0]); }

long sys_setpgid(struct task *task, const uint64_t args[6]) {
    return pm_ask(task, PM_SETPGID, (int32_t)args[0], (int32_t)args[1], 0, NULL);
}

long sys_getsid(struct task *task, const uint64_t args[6]) { return pm_ask_word(task, PM_GETSID, (int32_t)args[0]); }

long sys_setsid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return pm_ask_word(task, PM_SETSID, 0);
}

/* ---- users and groups ---- */

long sys_getuid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->process->uid;
}

long sys_geteuid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->process->euid;
}

long sys_getgid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->process->gid;
}

long sys_getegid(struct task *task, const uint64_t args[6]) {
    (void)args;
    return task->process->egid;
}

static long three_write(const uint64_t args[6], uint32_t a, uint32_t b, uint32_t c) {
    return guest_write(args[0], &a, 4) != 0 || guest_write(args[1], &b, 4) != 0 || guest_write(args[2], &c, 4) != 0 ? -EFAULT
                                                                                                                    : 0;
}

long sys_getresuid(struct task *task, const uint64_t args[6]) {
    const struct process *process = task->process;
    return three_write(args, process->uid, process->euid, process->suid);
}

long sys_getresgid(struct task *task, const uint64_t args[6]) {
    const struct process *process = task->process;
    return three_write(args, process->gid, process->egid, process->sgid);
}

long sys_getgroups(struct task *task, const uint64_t args[6]) {
    const struct process *process = task->process;
    int size = (int)args[0];
    if (size < 0)
        return -EINVAL;
    if (size == 0)
        return process->group_count;
    if ((uint32_t)size < process->group_count)
        return -EINVAL;
    if (guest_write(args[1], process->groups, 4ull * process->group_count) != 0)
        return -EFAULT;
    return process->group_count;
}

long sys_setgroups(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    uint32_t groups[GROUPS_MAX];
    if (args[0] > GROUPS_MAX)
        return -EINVAL;
    if (guest_read(groups, args[1], 4 * args[0]) != 0)
        return -EFAULT;
    struct rpc rpc = {.data = groups, .data_len = 4 * args[0], .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = PM_SETGROUPS;
    long result = rpc_call(task, &rpc);
    if (result < 0)
        return result;
    memcpy(process->groups, groups, sizeof groups);
    process->group_count = (uint32_t)args[0];
    return 0;
}

static long ids_change(struct task *task, enum pm_ids which, uint64_t a, uint64_t b, uint64_t c) {
    struct process *process = task->process;
    struct rpc rpc = {.flags = RPC_UNINTERRUPTIBLE};
    const uint64_t *words = rpc.message.payload.words;
    rpc.message.type = PM_SETIDS;
    rpc.message.payload.ints[0] = which;
    rpc.message.payload.ints[1] = (int32_t)a;
    rpc.message.payload.ints[2] = (int32_t)b;
    rpc.message.payload.ints[3] = (int32_t)c;
    long result = rpc_call(task, &rpc);
    if (result < 0)
        return result;
    uint32_t old_uid = process->uid, old_euid = process->euid;
    process->uid = (uint32_t)words[4];
    process->euid = (uint32_t)(words[4] >> 32);
    process->suid = (uint32_t)words[5];
    process->gid = (uint32_t)(words[5] >> 32);
    process->egid = (uint32_t)words[6];
    process->sgid = (uint32_t)(words[6] >> 32);
    /* who started us could have kept our channel: a new program with other rights gets another one */
    if (old_uid != process->uid || old_euid != process->euid)
        process->fresh_required = true;
    return result;
}

long sys_setuid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETUID, args[0], (uint64_t)-1, (uint64_t)-1);
}
long sys_setgid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETGID, args[0], (uint64_t)-1, (uint64_t)-1);
}
long sys_setreuid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETREUID, args[0], args[1], (uint64_t)-1);
}
long sys_setregid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETREGID, args[0], args[1], (uint64_t)-1);
}
long sys_setresuid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETRESUID, args[0], args[1], args[2]);
}
long sys_setresgid(struct task *task, const uint64_t args[6]) {
    return ids_change(task, PM_IDS_SETRESGID, args[0], args[1], args[2]);
}

/* These two return the old id and never fail. */
long sys_setfsuid(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    uint32_t old = process->fsuid;
    if (ids_change(task, PM_IDS_SETFSUID, args[0], (uint64_t)-1, (uint64_t)-1) >= 0 && (uint32_t)args[0] != ~0u)
        process->fsuid = (uint32_t)args[0];
    return old;
}

long sys_setfsgid(struct task *task, const uint64_t args[6]) {
    struct process *process = task->process;
    uint32_t old = process->fsgid;
    if (ids_change(task, PM_IDS_SETFSGID, args[0], (uint64_t)-1, (uint64_t)-1) >= 0 && (uint32_t)args[0] != ~0u)
        process->fsgid = (uint32_t)args[0];
    return old;
}

/* ---- capabilities: the DC's root has what acts on the DC itself ---- */

struct capability_header { uint32_t version; int32_t pid; };
struct capability_data { uint32_t effective, permitted, inheritable; };
#define CAPABILITY_VERSION_1 0x19980330u
#define CAPABILITY_VERSION_2 0x20071026u
#define CAPABILITY_VERSION_3 0x20080522u
/* CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP */
#define CAPABILITIES_ROOT 0x00000000a80425ffu

static long capability_words(uint64_t address, struct capability_header *header) {
    if (guest_read(header, address, sizeof *header) != 0)
        return -EFAULT;
    switch (header->version) {
    case CAPABILITY_VERSION_1:
        return 1;
    case CAPABILITY_VERSION_2:
    case CAPABILITY_VERSION_3:
        return 2;
    default:
        header->version = CAPABILITY_VERSION_3;
        return guest_write(address, header, sizeof *header) != 0 ? -EFAULT : -EINVAL;
    }
}

long sys_capget(struct task *task, const uint64_t args[6]) {
    struct capability_header header;
    long words = capability_words(args[0], &header);
    if (words < 0)
        return words == -EINVAL && args[1] == 0 ? 0 : words;
    if (args[1] == 0)
        return 0;
    uint32_t has = task->process->euid == 0 ? CAPABILITIES_ROOT : 0;
    struct capability_data data[2] = {{has, has, 0}, {0, 0, 0}};
    return guest_write(args[1], data, sizeof *data * (size_t)words);
}

long sys_capset(struct task *task, const uint64_t args[6]) {
    struct capability_header header;
    struct capability_data data[2] = {{0}};
    long words = capability_words(args[0], &header);
    if (words < 0)
        return words;
    if (guest_read(data, args[1], sizeof *data * (size_t)words) != 0)
        return -EFAULT;
    /* dropping is accepted without effect, since rights follow from ids; gaining is refused */
    uint32_t may = task->process->euid == 0 ? CAPABILITIES_ROOT : 0;
    return (data[0].permitted & ~may) != 0 || data[1].permitted != 0 ? -EPERM : 0;
}
