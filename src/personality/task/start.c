/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything begins: the zygote (cell/zygote.h). It installs the filters, opens its channel, and then does one thing for
 * ever: wait for a pid from pm, and clone a child with it. The child has a copy of our memory and no program yet: it asks
 * pm who it is and what to run, and becomes that.
 *
 * The zygote survives whatever goes wrong with a child, and ends only when its server is gone.
 */
#include "cell/zygote.h"
#include "personality/entry/signal.h"
#include "personality/fd/names.h"
#include "personality/task/exec.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/auxvec.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#define HWCAP2_FSGSBASE 2u
#define FRAME_SMALLEST 2048u

extern const char personality_text_start[], personality_text_end[];
_Noreturn void personality_main(uint64_t *stack);
void thread_start(struct thread *thread);

struct space space = {.message_fd = -1};

static _Noreturn void give_up(int status) {
    for (;;)
        CALL1(__NR_exit_group, status);
}

/* ---- filters ---- */

static bool filter_install(const struct sock_filter *filter, size_t count) {
    struct sock_fprog program = {.len = (unsigned short)count, .filter = (struct sock_filter *)filter};
    return CALL3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

/* Strict: the host kills for any system call whose instruction lies outside our text. Proves that interception is complete. */
static bool strict_install(void) {
    uint64_t low = (uint64_t)personality_text_start, high = (uint64_t)personality_text_end;
    const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(low >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)low, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)high, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    return filter_install(filter, sizeof filter / sizeof *filter);
}

static bool cell_filter_install(void) {
    long size = CALL3(__NR_lseek, ZYGOTE_FD_SECCOMP, 0, 2);
    if (size <= 0 || size % (long)sizeof(struct sock_filter) != 0 || size / (long)sizeof(struct sock_filter) > BPF_MAXINSNS)
        return false;
    long at = CALL6(__NR_mmap, 0, size, PROT_READ, MAP_PRIVATE, ZYGOTE_FD_SECCOMP, 0);
    if (at < 0)
        return false;
    bool installed = filter_install((const struct sock_filter *)at, (size_t)size / sizeof(struct sock_filter));
    CALL2(__NR_munmap, at, size);
    CALL1(__NR_close, ZYGOTE_FD_SECCOMP);
    return installed;
}

/* ---- a new process ---- */

static long hello(struct task *task, uint64_t *image_len) {
    struct process *process = task->process;
    struct rpc rpc = {.reply = process->groups, .reply_cap = sizeof process->groups, .flags = RPC_UNINTERRUPTIBLE};
    const uint64_t *words = rpc.message.payload.words;
    rpc.message.type = PM_HELLO;
    long result = rpc_call(task, &rpc);
    if (result < 0)
        return result;
    process->uid = process->fsuid = (uint32_t)words[4];
    process->euid = process->fsuid = (uint32_t)(words[4] >> 32);
    process->suid = (uint32_t)words[5];
    process->gid = (uint32_t)(words[5] >> 32);
    process->egid = process->fsgid = (uint32_t)words[6];
    process->sgid = (uint32_t)(words[6] >> 32);
    process->group_count = (uint32_t)((rpc.reply_len < sizeof process->groups ? rpc.reply_len : sizeof process->groups) / 4);
    space.trace = (words[7] & PM_F_TRACE) != 0;
    *image_len = words[9];
    if (words[10] != 0)
        process->channel.node = (uint32_t)words[10];
    return 0;
}

/* Fetch the image into the plan, and its host descriptors. */
static long image_fetch(struct task *task, struct exec_plan *plan, size_t len, int *fds, size_t *fd_count) {
    size_t offset = 0, wanted = 0;
    *fd_count = 0;
    if (len < sizeof(struct vos_image_header) || len > VOS_IMAGE_MAX)
        return -EINVAL;
    do {
        struct rpc rpc = {.reply = plan->image + offset,
                          .reply_cap = len - offset,
                          .fds = fds + *fd_count,
                          .fd_cap = (unsigned)(VOS_IMAGE_FDS - *fd_count),
                          .flags = RPC_UNINTERRUPTIBLE};
        rpc.message.type = PM_IMAGE;
        rpc.message.payload.words[0] = offset;
        long result = rpc_call(task, &rpc);
        if (result < 0)
            return result;
        if ((rpc.reply_len == 0 && rpc.fd_count == 0) || rpc.reply_len > len - offset)
            return -EINVAL;
        offset += rpc.reply_len;
        *fd_count += rpc.fd_count;
        if (offset >= sizeof(struct vos_image_header))
            wanted = ((const struct vos_image_header *)(const void *)plan->image)->host_fds;
    } while (offset < len || *fd_count < (wanted < VOS_IMAGE_FDS ? wanted : VOS_IMAGE_FDS));
    plan->image_len = len;
    return image_parse(plan->image, len, &plan->view);
}

/* The first program of a DC may be named without a slash: look along the environment's PATH, as a shell would. */
static long program_search(struct task *task, struct exec_plan *plan) {
    const char *name = plan->view.path, *paths = image_environment(&plan->view, "PATH=");
    bool slash = false, denied = false;
    for (const char *p = name; *p != '\0'; p++)
        slash |= *p == '/';
    if (*name == '\0')
        return -ENOENT;
    if (slash || !(plan->view.header.flags & VOS_IMAGE_SEARCH))
        return loader_open(task, plan, name);
    if (paths == NULL)
        paths = "/usr/local/bin:/usr/bin:/bin";
    for (;;) {
        char path[VOS_PATH_MAX];
        struct text text = {path, 0, sizeof path - 1};
        while (*paths != '\0' && *paths != ':' && text.len < text.cap)
            path[text.len++] = *paths++;
        text_string(&text, text.len == 0 ? "./" : "/");
        text_string(&text, name);
        path[text.len] = '\0';
        long result = loader_open(task, plan, path);
        if (result != -ENOENT && result != -ENOTDIR && result != -EACCES)
            return result;
        denied |= result == -EACCES;
        while (*paths != '\0' && *paths != ':')
            paths++;
        if (*paths++ == '\0')
            return denied ? -EACCES : -ENOENT;
    }
}

/* Trace lines go where the program's errors go, if that is a host descriptor. */
static void message_fd_find(const struct image_view *view, const int *fds, size_t fd_count) {
    for (uint32_t i = 0; i < view->header.fd_count; i++) {
        const struct vos_image_fd *fd = &view->fds[i];
        if (fd->vfd == 2 && fd->kind == VOS_IMAGE_FD_HOST && fd->source < fd_count)
            space.message_fd = (int)CALL3(__NR_fcntl, fds[fd->source], 1030 /* F_DUPFD_CLOEXEC */, 0);
    }
}

static _Noreturn void process_begin(struct thread *thread) {
    struct task *task = &thread->task;
    struct process *process = task->process;
    uint64_t image_len = 0;
    size_t fd_count = 0;
    struct exec_plan *plan = plan_create();
    int *fds = heap_alloc(process, VOS_IMAGE_FDS * sizeof *fds);
    long result = plan == NULL || fds == NULL ? -ENOMEM : hello(task, &image_len);
    if (result == 0)
        result = image_fetch(task, plan, image_len, fds, &fd_count);
    if (result == 0)
        result = fd_table_create(process);
    if (result < 0)
        process_exit(127); /* pm sees it end before PM_STARTED */
    const struct vos_image_header *header = &plan->view.header;
    plan->fresh = true;
    if (space.trace)
        message_fd_find(&plan->view, fds, fd_count);
    fd_table_set_threaded(process, false);
    fd_umask_set(process, header->umask);
    result = fd_restore(task, plan->view.fds, header->fd_count, fds, fd_count);
    heap_free(process, fds);
    signals_reset(process, header->ignored);
    signal_mask_set(thread, header->blocked);
    if (result >= 0)
        result = program_search(task, plan);
    if (result < 0) {
        (void)plan_announce(task, plan, PM_STARTED, -result);
        process_exit(127);
    }
    exec_commit(task, plan);
}

/* ---- the zygote ---- */

static _Noreturn void child_begin(struct thread *thread, int32_t pid, const int fds[2]) {
    struct process *zygote = thread->task.process;
    struct process *process = area_alloc(sizeof *process);
    if (process == NULL)
        give_up(127);
    process->pid = pid;
    process->channel.node = zygote->channel.node;
    area_unreserve(zygote->channel.mapped, zygote->channel.mapped_len);
    CALL1(__NR_close, zygote->channel.socket);
    if (channel_open(&process->channel, fds[0], fds[1]) != 0)
        give_up(127);
    area_free(zygote, sizeof *zygote);
    thread->task.process = process;
    thread->task.tid = pid;
    thread->task.slot_hint = 0;
    thread->task.blocked = ~SIGNALS_UNBLOCKABLE; /* until it has its own mask */
    process->leader = thread;
    thread_link(thread);
    thread_adopt(thread);
    process_begin(thread);
}

static long child_spawn(struct thread *thread, int32_t pid, const int fds[2]) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PARENT; /* init's child, as all are */
    args.set_tid = (uint64_t)&pid;
    args.set_tid_size = 1;
    signal_block_all();
    long result = host_clone(&args, sizeof args, NULL);
    if (result == 0)
        child_begin(thread, pid, fds);
    uint64_t mask = signal_host_mask(thread->task.blocked);
    CALL4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    return result;
}

static _Noreturn void zygote_serve(struct thread *thread) {
    long spawned = 0;
    for (;;) {
        int fds[2];
        struct rpc rpc = {.fds = fds, .fd_cap = 2, .flags = RPC_UNINTERRUPTIBLE};
        rpc.message.type = PM_ZYGOTE_WAIT;
        rpc.message.payload.ints[0] = spawned;
        long result = rpc_call(&thread->task, &rpc);
        if (result == -EIO)
            give_up(1);
        spawned = result < 0 ? 0 : -EPROTO;
        if (result >= 0 && rpc.fd_count == 2)
            spawned = child_spawn(thread, (int32_t)rpc.message.payload.words[0], fds);
        for (unsigned i = 0; i < rpc.fd_count; i++)
            CALL1(__NR_close, fds[i]);
    }
}

/* What all guests of the cell may know without asking, for reading. Without it they ask. */
static void names_map(struct task *task) {
    int fd = -1;
    struct rpc rpc = {.fds = &fd, .fd_cap = 1, .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = FS_NAMES;
    if (rpc_call(task, &rpc) < 0 || fd < 0)
        return;
    long size = CALL3(__NR_lseek, fd, 0, 2 /* SEEK_END */);
    uint64_t address = size < (long)NAMES_ARENA_AT ? 0 : area_reserve((size_t)size);
    if (address != 0 && CALL6(__NR_mmap, address, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) >= 0) {
        const struct names_header *table = (const struct names_header *)address;
        if (table->magic == NAMES_MAGIC && table->size <= (uint64_t)size)
            names_table = table;
    }
    CALL1(__NR_close, fd);
}

static void zygote_begin(void *argument) {
    struct thread *thread = argument;
    uint64_t image_len;
    thread_adopt(thread);
    signals_init();
    if (hello(&thread->task, &image_len) < 0)
        give_up(1);
    names_map(&thread->task);
    zygote_serve(thread);
}

static void auxiliary_read(const uint64_t *auxiliary) {
    uint64_t vdso = 0;
    space.extended_size = FRAME_SMALLEST;
    space.clock_tick = 100;
    for (; auxiliary[0] != AT_NULL; auxiliary += 2) {
        switch (auxiliary[0]) {
        case AT_HWCAP:
            space.hwcap = auxiliary[1];
            break;
        case AT_HWCAP2:
            space.hwcap2 = auxiliary[1];
            break;
        case AT_CLKTCK:
            space.clock_tick = auxiliary[1];
            break;
        case AT_MINSIGSTKSZ: /* of the whole frame: more than the extended state alone */
            space.minimum_stack = auxiliary[1];
            if (auxiliary[1] > FRAME_SMALLEST)
                space.extended_size = (uint32_t)page_up(auxiliary[1]);
            break;
        case AT_SYSINFO_EHDR:
            vdso = auxiliary[1];
            break;
        }
    }
    space.fsgsbase = (space.hwcap2 & HWCAP2_FSGSBASE) != 0;
    vdso_adopt(vdso);
}

_Noreturn void personality_main(uint64_t *stack) {
    uint64_t argc = stack[0];
    char **argv = (char **)(stack + 1);
    const uint64_t *after = stack + 1 + argc + 1;
    while (*after != 0)
        after++; /* the environment */
    auxiliary_read(after + 1);
    space.strict = argc > 1 && string_equal(argv[1], "strict");

    uint64_t bell = area_reserve(DVK_DOORBELL_SIZE);
    if (bell == 0 || CALL6(__NR_mmap, bell, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                           ZYGOTE_FD_DOORBELL, 0) < 0)
        give_up(2);
    CALL1(__NR_close, ZYGOTE_FD_DOORBELL);
    channel_doorbell = (struct dvk_doorbell *)bell;
    struct process *process = area_alloc(sizeof *process);
    if (process == NULL || channel_open(&process->channel, ZYGOTE_FD_CHANNEL, ZYGOTE_FD_SOCKET) != 0)
        give_up(3);
    process->pid = (int32_t)CALL0(__NR_getpid);
    struct thread *thread = thread_create(process, process->pid);
    if (thread == NULL)
        give_up(4);
    if ((space.strict && !strict_install()) || !cell_filter_install())
        give_up(5);
    stack_switch(thread->task.stack_top, zygote_begin, thread);
}
