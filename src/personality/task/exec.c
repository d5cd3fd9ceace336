/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execve execveat
 *
 * Everything that can fail is done first: strings copied, program, interpreter and scripts opened and checked. Then pm says
 * where the new program is to run:
 *   in place   the other threads are stopped, the old program is unmapped, the new one mapped
 *   elsewhere  (a new host process here, or on another node): the image goes to pm, and this process ends without a word
 * Before the point of no return every error comes back to the caller; after it the process ends as by SIGKILL.
 */
#include "personality/task/exec.h"
#include "personality/entry/patch.h"
#include "personality/entry/signal.h"
#include "personality/task/calls.h"
#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

#define DESCRIBE_MAX 4096

struct exec_plan *plan_create(void) { return area_alloc(sizeof(struct exec_plan)); }

void plan_destroy(struct task *task, struct exec_plan *plan) {
    loader_close(task, plan);
    area_free(plan, sizeof *plan);
}

/* ---- the image of a call ---- */

/* Append one string of the guest; returns its length with NUL or negative errno. */
static long string_add(struct exec_plan *plan, size_t *at, uint64_t address) {
    size_t room = sizeof(struct vos_image_header) + STRINGS_MAX - *at, cap = room < STRING_MAX ? room : STRING_MAX;
    long len = guest_string((char *)plan->image + *at, address, cap);
    if (len < 0)
        return len == -ENAMETOOLONG ? -E2BIG : len;
    *at += (size_t)len + 1;
    return len + 1;
}

/* The strings of a NULL-terminated vector in guest memory; their count or negative errno. */
static long vector_add(struct exec_plan *plan, size_t *at, uint64_t vector) {
    long count = 0;
    if (vector == 0)
        return 0; /* as Linux: NULL is an empty vector */
    for (;;) {
        uint64_t address;
        if (guest_read(&address, vector + 8 * (uint64_t)count, sizeof address) != 0)
            return -EFAULT;
        if (address == 0)
            return count;
        long result = string_add(plan, at, address);
        if (result < 0)
            return result;
        if (++count > (long)(STRINGS_MAX / 8))
            return -E2BIG;
    }
}

static long strings_copy(struct exec_plan *plan, const char *path, uint64_t argv, uint64_t envp) {
    struct vos_image_header *header = (struct vos_image_header *)(void *)plan->image;
    size_t start = sizeof *header, at = start;
    at += string_copy((char *)plan->image + at, path, VOS_PATH_MAX) + 1;
    long argc = vector_add(plan, &at, argv);
    if (argc < 0)
        return argc;
    if (argc == 0) { /* Linux gives such a program one empty argument */
        plan->image[at++] = '\0';
        argc = 1;
    }
    long envc = vector_add(plan, &at, envp);
    if (envc < 0)
        return envc;
    *header = (struct vos_image_header){.magic = VOS_IMAGE_MAGIC,
                                        .version = 1,
                                        .argc = (uint32_t)argc,
                                        .envc = (uint32_t)envc,
                                        .string_bytes = (uint32_t)(at - start)};
    plan->image_len = image_fds_offset(header->string_bytes);
    return image_parse(plan->image, plan->image_len, &plan->view);
}

/* ---- elsewhere ---- */

static long image_send(struct task *task, struct exec_plan *plan, const int *fds, size_t fd_count) {
    size_t offset = 0;
    do {
        size_t part = plan->image_len - offset < DVK_DATA_MAX ? plan->image_len - offset : DVK_DATA_MAX;
        struct rpc rpc = {.data = plan->image + offset, .data_len = part, .flags = RPC_UNINTERRUPTIBLE};
        if (offset == 0) {
            rpc.send_fds = fds;
            rpc.send_fd_count = (unsigned)fd_count;
        }
        rpc.message.type = PM_EXEC;
        rpc.message.payload.words[0] = offset;
        rpc.message.payload.words[1] = plan->image_len;
        long result = rpc_call(task, &rpc);
        if (result < 0)
            return result;
        offset += part;
    } while (offset < plan->image_len);
    return 0;
}

/* Returns only on failure, and then the process goes on. */
static long exec_elsewhere(struct task *task, struct exec_plan *plan, bool remote) {
    struct process *process = task->process;
    struct vos_image_header *header = (struct vos_image_header *)(void *)plan->image;
    struct vos_image_fd *fds = (struct vos_image_fd *)(void *)(plan->image + plan->image_len);
    int host_fds[DVK_MESSAGE_FDS];
    size_t host_fd_count = 0;
    long count = fd_describe(task, fds, VOS_IMAGE_FDS, host_fds, &host_fd_count, remote);
    if (count < 0)
        return count;
    header->fd_count = (uint32_t)count;
    header->host_fds = (uint32_t)host_fd_count;
    header->blocked = task->blocked;
    header->ignored = signals_ignored(process);
    header->umask = fd_umask(process);
    plan->image_len += (size_t)count * sizeof *fds;
    long result = image_send(task, plan, host_fds, host_fd_count);
    if (result < 0) {
        plan->image_len -= (size_t)count * sizeof *fds;
        fd_describe_undo(task);
        return result;
    }
    for (;;)
        CALL1(__NR_exit_group, 0);
}

/* ---- in place ---- */

static void timers_delete(struct process *process) {
    for (int i = 0; i < 64 && process->timers != 0; i++)
        if (process->timers & (1ull << i)) {
            CALL1(__NR_timer_delete, i);
            process->timers &= ~(1ull << i);
        }
}

_Noreturn void exec_commit(struct task *task, struct exec_plan *plan) {
    struct thread *thread = thread_of(task);
    struct process *process = task->process;
    if (!plan->fresh) {
        threads_reap(task);
        fd_table_set_threaded(process, false);
        fd_close_on_exec(task);
        signals_reset(process, 0);
        timers_delete(process);
        CALL1(__NR_set_tid_address, 0);
        CALL2(__NR_set_robust_list, 0, 24);
    }
    if (thread->mask_saved) {
        task->blocked = thread->saved_blocked;
        thread->mask_saved = false;
    }
    thread->stack = (struct guest_stack){.flags = STACK_DISABLE};
    thread->clear_tid = thread->robust_head = 0;
    thread->restart = 0;
    thread->restart_always = false;
    thread->trap_site = 0;
    thread->extended_saved = false;
    CALL2(__NR_arch_prctl, ARCH_SET_FS, 0);
    memory_reset();
    patch_reset();
    long result = loader_map(task, plan);
    if (result < 0) {
        if (plan->fresh)
            (void)plan_announce(task, plan, PM_STARTED, -result);
        process_die(task, SIG_KILL);
    }
    string_copy(process->exe, plan->exe, sizeof process->exe);
    string_copy(process->comm, plan->comm, sizeof process->comm);
    CALL2(__NR_prctl, PR_SET_NAME, process->comm);
    process->dumpable = 1;
    process->death_signal = 0;
    (void)plan_announce(task, plan, plan->fresh ? PM_STARTED : PM_EXECED, 0);
    plan_destroy(task, plan);
    signal_pending_update(thread);
    thread_enter(thread);
}

size_t plan_describe(const struct exec_plan *plan, char *out, size_t cap) {
    size_t at = string_copy(out, plan->comm, cap) + 1;
    const char *argument = plan->view.arguments;
    for (unsigned i = 0; i < plan->prefix_count && at + 1 < cap; i++)
        at += string_copy(out + at, plan->prefix[i], cap - at) + 1;
    for (uint32_t i = 0; i < plan->view.header.argc && at + 1 < cap; i++, argument = image_next(argument))
        if (i > 0 || plan->prefix_count == 0)
            at += string_copy(out + at, argument, cap - at) + 1;
    return at < cap ? at : cap;
}

long plan_announce(struct task *task, const struct exec_plan *plan, uint32_t type, long error) {
    char text[DESCRIBE_MAX];
    struct rpc rpc = {.data = text, .data_len = plan_describe(plan, text, sizeof text), .flags = RPC_UNINTERRUPTIBLE};
    rpc.message.type = type;
    rpc.message.payload.ints[0] = error;
    return rpc_call(task, &rpc);
}

static long place_ask(struct task *task, struct exec_plan *plan, bool stay) {
    const char *policy = image_environment(&plan->view, "DVS_PLACE=");
    struct rpc rpc = {.data = policy, .data_len = policy != NULL ? string_length(policy) + 1 : 0, .flags = RPC_UNINTERRUPTIBLE};
    if (rpc.data_len > 256)
        return -E2BIG;
    rpc.message.type = PM_PLACE;
    rpc.message.payload.words[0] = (task->process->fresh_required ? PM_PLACE_FRESH : 0) |
                                   (stay || fd_pinned(task->process) ? PM_PLACE_LOCAL : 0);
    long result = rpc_call(task, &rpc);
    return result < 0 ? result : (long)rpc.message.payload.words[0];
}

/* stay: the path means something in this process only. */
static long exec_path(struct task *task, const char *path, uint64_t argv, uint64_t envp, bool stay) {
    struct exec_plan *plan = plan_create();
    if (plan == NULL)
        return -ENOMEM;
    long result = strings_copy(plan, path, argv, envp);
    if (result == 0)
        result = loader_open(task, plan, path);
    if (result == 0)
        result = place_ask(task, plan, stay);
    if (stay && result > 0)
        result = -ENOSYS;
    if (result == PM_FRESH_HERE || result == PM_REMOTE)
        result = exec_elsewhere(task, plan, result == PM_REMOTE);
    else if (result == PM_IN_PLACE) {
        result = task->process->fresh_required ? -EIO : threads_stop(task, plan);
        if (result == 0)
            exec_commit(task, plan);
    } else if (result > 0) {
        result = -EIO;
    }
    plan_destroy(task, plan);
    return result;
}

long sys_execve(struct task *task, const uint64_t args[6]) {
    char path[VOS_PATH_MAX];
    long len = guest_string(path, args[0], sizeof path);
    if (len < 0)
        return len;
    if (len == 0)
        return -ENOENT;
    /* the link means this process; the new place could not follow it */
    if (string_equal(path, "/proc/self/exe"))
        string_copy(path, process_exe(task->process), sizeof path);
    return exec_path(task, path, args[1], args[2], false);
}

long sys_execveat(struct task *task, const uint64_t args[6]) {
    char path[VOS_PATH_MAX];
    long len = guest_string(path, args[1], sizeof path);
    if (len < 0)
        return len;
    if (args[4] & ~(uint64_t)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        return -EINVAL;
    if (len == 0 && !(args[4] & AT_EMPTY_PATH))
        return -ENOENT;
    bool stay = false;
    if (len == 0 || (path[0] != '/' && (int)args[0] != AT_FDCWD)) {
        char name[VOS_PATH_MAX];
        string_copy(name, path, sizeof name);
        long result = fd_program_path(task, (int)args[0], name, path, sizeof path, &stay);
        if (result < 0)
            return result;
    }
    return exec_path(task, path, args[2], args[3], stay);
}

const char *process_exe(const struct process *process) { return process->exe; }
struct channel *process_channel(struct process *process) { return &process->channel; }
