/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc of the DC: the tree of its names. What the files say is made in proc_text.c when they are opened.
 *
 * What pm knows of a process can be told on any node; the rest (its memory map, its working directory) only on the node
 * where it runs: the walk goes on there.
 */
#include "vos/fs/proc.h"
#include "vos/fs/fs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* key: index into files, files of processes have the pid in arg's low half and the thread in its high half. */
enum { ROOT = 0 };

#define DIR_ANY (S_IFDIR | 0555)
#define FILE_ANY (S_IFREG | 0444)
#define LINK_ANY (S_IFLNK | 0777)

static const struct proc_file files[] = {
    [PROC_ROOT] = {"", 0, DIR_ANY, NULL, NULL, false},
    [PROC_SELF] = {"self", PROC_ROOT, LINK_ANY, NULL, NULL, false},
    [PROC_THREAD_SELF] = {"thread-self", PROC_ROOT, LINK_ANY, NULL, NULL, false},
    [PROC_MOUNTS_LINK] = {"mounts", PROC_ROOT, LINK_ANY, NULL, NULL, false},
    [PROC_STAT] = {"stat", PROC_ROOT, FILE_ANY, NULL, "stat", false},
    [PROC_UPTIME] = {"uptime", PROC_ROOT, FILE_ANY, NULL, "uptime", false},
    [PROC_MEMINFO] = {"meminfo", PROC_ROOT, FILE_ANY, NULL, "meminfo", false},
    [PROC_LOADAVG] = {"loadavg", PROC_ROOT, FILE_ANY, NULL, "loadavg", false},
    [PROC_CPUINFO] = {"cpuinfo", PROC_ROOT, FILE_ANY, NULL, "cpuinfo", false},
    [PROC_VERSION] = {"version", PROC_ROOT, FILE_ANY, NULL, "version", false},
    [PROC_VMSTAT] = {"vmstat", PROC_ROOT, FILE_ANY, NULL, "vmstat", false},
    [PROC_CMDLINE] = {"cmdline", PROC_ROOT, FILE_ANY, proc_text_empty, NULL, false},
    [PROC_DEVICES] = {"devices", PROC_ROOT, FILE_ANY, NULL, "devices", false},
    [PROC_FILESYSTEMS] = {"filesystems", PROC_ROOT, FILE_ANY, proc_text_filesystems, NULL, false},
    [PROC_SWAPS] = {"swaps", PROC_ROOT, FILE_ANY, NULL, "swaps", false},
    [PROC_SYS] = {"sys", PROC_ROOT, DIR_ANY, NULL, NULL, false},
    [PROC_SYS_KERNEL] = {"kernel", PROC_SYS, DIR_ANY, NULL, NULL, false},
    [PROC_SYS_VM] = {"vm", PROC_SYS, DIR_ANY, NULL, NULL, false},
    [PROC_SYS_FS] = {"fs", PROC_SYS, DIR_ANY, NULL, NULL, false},
    [PROC_SYS_RANDOM] = {"random", PROC_SYS_KERNEL, DIR_ANY, NULL, NULL, false},
    [PROC_PID_MAX] = {"pid_max", PROC_SYS_KERNEL, FILE_ANY, proc_text_pid_max, NULL, false},
    [PROC_OSRELEASE] = {"osrelease", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/osrelease", false},
    [PROC_OSTYPE] = {"ostype", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/ostype", false},
    [PROC_KVERSION] = {"version", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/version", false},
    [PROC_HOSTNAME] = {"hostname", PROC_SYS_KERNEL, FILE_ANY, proc_text_hostname, NULL, false},
    [PROC_NGROUPS] = {"ngroups_max", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/ngroups_max", false},
    [PROC_LAST_CAP] = {"cap_last_cap", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/cap_last_cap", false},
    [PROC_THREADS_MAX] = {"threads-max", PROC_SYS_KERNEL, FILE_ANY, NULL, "sys/kernel/threads-max", false},
    [PROC_BOOT_ID] = {"boot_id", PROC_SYS_RANDOM, FILE_ANY, NULL, "sys/kernel/random/boot_id", false},
    [PROC_UUID] = {"uuid", PROC_SYS_RANDOM, FILE_ANY, NULL, "sys/kernel/random/uuid", false},
    [PROC_ENTROPY] = {"entropy_avail", PROC_SYS_RANDOM, FILE_ANY, NULL, "sys/kernel/random/entropy_avail", false},
    [PROC_OVERCOMMIT] = {"overcommit_memory", PROC_SYS_VM, FILE_ANY, NULL, "sys/vm/overcommit_memory", false},
    [PROC_MAX_MAP] = {"max_map_count", PROC_SYS_VM, FILE_ANY, NULL, "sys/vm/max_map_count", false},
    [PROC_FILE_MAX] = {"file-max", PROC_SYS_FS, FILE_ANY, NULL, "sys/fs/file-max", false},
    [PROC_NR_OPEN] = {"nr_open", PROC_SYS_FS, FILE_ANY, NULL, "sys/fs/nr_open", false},
    [PROC_PIPE_MAX] = {"pipe-max-size", PROC_SYS_FS, FILE_ANY, NULL, "sys/fs/pipe-max-size", false},
    /* of a process */
    [PROC_PID] = {"", PROC_ROOT, DIR_ANY, NULL, NULL, false},
    [PROC_PID_STAT] = {"stat", PROC_PID, FILE_ANY, proc_text_stat, NULL, false},
    [PROC_PID_STATM] = {"statm", PROC_PID, FILE_ANY, proc_text_statm, NULL, false},
    [PROC_PID_STATUS] = {"status", PROC_PID, FILE_ANY, proc_text_status, NULL, false},
    [PROC_PID_CMDLINE] = {"cmdline", PROC_PID, FILE_ANY, proc_text_cmdline, NULL, false},
    [PROC_PID_COMM] = {"comm", PROC_PID, FILE_ANY, proc_text_comm, NULL, false},
    [PROC_PID_MOUNTS] = {"mounts", PROC_PID, FILE_ANY, proc_text_mounts, NULL, false},
    [PROC_PID_MOUNTINFO] = {"mountinfo", PROC_PID, FILE_ANY, proc_text_mountinfo, NULL, false},
    [PROC_PID_OOM_ADJ] = {"oom_score_adj", PROC_PID, FILE_ANY, proc_text_zero, NULL, false},
    [PROC_PID_OOM] = {"oom_score", PROC_PID, FILE_ANY, proc_text_zero, NULL, false},
    [PROC_PID_WCHAN] = {"wchan", PROC_PID, FILE_ANY, proc_text_zero, NULL, false},
    [PROC_PID_CGROUP] = {"cgroup", PROC_PID, FILE_ANY, proc_text_cgroup, NULL, false},
    [PROC_PID_MAPS] = {"maps", PROC_PID, FILE_ANY, proc_text_maps, NULL, true},
    [PROC_PID_LIMITS] = {"limits", PROC_PID, FILE_ANY, proc_text_limits, NULL, true},
    [PROC_PID_IO] = {"io", PROC_PID, S_IFREG | 0400, proc_text_io, NULL, true},
    [PROC_PID_CWD] = {"cwd", PROC_PID, LINK_ANY, NULL, NULL, true},
    [PROC_PID_ROOT] = {"root", PROC_PID, LINK_ANY, NULL, NULL, false},
    [PROC_PID_EXE] = {"exe", PROC_PID, LINK_ANY, NULL, NULL, true},
    [PROC_PID_FD] = {"fd", PROC_PID, S_IFDIR | 0500, NULL, NULL, true},
    [PROC_PID_TASK] = {"task", PROC_PID, DIR_ANY, NULL, NULL, true},
    [PROC_TASK] = {"", PROC_PID_TASK, DIR_ANY, NULL, NULL, true},
    [PROC_TASK_STAT] = {"stat", PROC_TASK, FILE_ANY, proc_text_stat, NULL, true},
    [PROC_TASK_STATUS] = {"status", PROC_TASK, FILE_ANY, proc_text_status, NULL, true},
    [PROC_TASK_COMM] = {"comm", PROC_TASK, FILE_ANY, proc_text_comm, NULL, true},
    [PROC_TASK_MAPS] = {"maps", PROC_TASK, FILE_ANY, proc_text_maps, NULL, true},
};

static uint32_t pid_of(const struct place *place) { return (uint32_t)place->arg; }
static bool of_process(uint64_t key) { return key >= PROC_PID; }

static void proc_place(struct place *out, uint64_t key, uint64_t arg) {
    out->layer = LAYER_PROC;
    out->where = WHERE_NONE;
    out->mode = files[key].mode & S_IFMT;
    out->key = key;
    out->arg = arg;
    out->fd = -1;
    out->path = NULL;
    out->have_stat = false;
    out->name[0] = '\0';
}

static bool parse_number(const char *name, uint32_t *out) {
    uint64_t value = 0;
    if (!*name || (name[0] == '0' && name[1]))
        return false;
    for (; *name; name++) {
        if (*name < '0' || *name > '9')
            return false;
        value = value * 10 + (uint64_t)(*name - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)value;
    return true;
}

static int lookup_pid(struct op *op, uint32_t pid, struct place *out) {
    const struct pm_process_info *info;
    if (!process_find(op->fs, pid)) {
        int error = proc_need(op, pid, &info);
        if (error != 0)
            return error == -ESRCH ? -ENOENT : error;
    }
    proc_place(out, PROC_PID, pid);
    return 0;
}

static bool has_thread(struct op *op, uint32_t pid, uint32_t tid) {
    char path[64];
    snprintf(path, sizeof(path), "%u/task/%u", pid, tid);
    return faccessat(op->fs->vos->proc_fd, path, F_OK, 0) == 0;
}

int proc_lookup(struct op *op, const struct place *dir, const char *name, struct place *out) {
    uint32_t number;
    if (dir->key == PROC_ROOT && parse_number(name, &number))
        return lookup_pid(op, number, out);
    if (dir->key == PROC_PID_TASK) {
        if (!parse_number(name, &number) || !has_thread(op, pid_of(dir), number))
            return -ENOENT;
        proc_place(out, PROC_TASK, dir->arg | (uint64_t)number << 32);
        return 0;
    }
    for (unsigned i = 1; i < ARRAY_LENGTH(files); i++)
        if (files[i].parent == dir->key && i != PROC_PID && i != PROC_TASK && strcmp(files[i].name, name) == 0) {
            proc_place(out, i, dir->arg);
            if (!files[i].local || process_find(op->fs, pid_of(dir)))
                return 0;
            /* Where it runs: `enter` sends the walk there. */
            const struct pm_process_info *info;
            int error = proc_need(op, pid_of(dir), &info);
            if (error != 0)
                return error == -ESRCH ? -ENOENT : error;
            if (info->node == op->fs->vos->node)
                return 0; /* a zombie: nothing of it is left to see */
            op->proc_node = info->node;
            return FS_ELSEWHERE;
        }
    return -ENOENT;
}

int proc_stat(struct op *op, struct place *place, struct vos_stat *out) {
    uint32_t uid = 0, gid = 0;
    const struct proc_file *file = &files[place->key];
    if (of_process(place->key)) {
        const struct process *process = process_find(op->fs, pid_of(place));
        const struct pm_process_info *info;
        int error = process ? 0 : proc_need(op, pid_of(place), &info);
        if (error != 0)
            return error == -ESRCH ? -ENOENT : error;
        uid = process ? process->creds->uid : info->euid;
        gid = process ? process->creds->gid : info->egid;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct vos_stat){.st_dev = FS_DEV_PROC, .st_ino = place->key + 1 + (place->arg << 8),
                             .st_nlink = S_ISDIR(file->mode) ? 2 : 1, .st_mode = file->mode, .st_uid = uid, .st_gid = gid,
                             .st_blksize = 1024, .st_atime_s = now.tv_sec, .st_mtime_s = now.tv_sec, .st_ctime_s = now.tv_sec};
    return 0;
}

int proc_readlink(struct op *op, struct place *place, char *out, size_t cap) {
    char text[VOS_PATH_MAX];
    int length;
    struct process *process = process_find(op->fs, pid_of(place));
    switch (place->key) {
    case PROC_SELF: length = snprintf(text, sizeof(text), "%u", op->pid); break;
    case PROC_THREAD_SELF: length = snprintf(text, sizeof(text), "%u/task/%u", op->pid, op->pid); break;
    case PROC_MOUNTS_LINK: length = snprintf(text, sizeof(text), "self/mounts"); break;
    case PROC_PID_ROOT: length = snprintf(text, sizeof(text), "/"); break;
    case PROC_PID_CWD:
        if (!process)
            return -ENOENT;
        if (op->creds->uid != 0 && op->creds->uid != process->creds->uid)
            return -EACCES;
        if (process->cwd->node != op->fs->vos->node)
            length = process->cwd->path ? (int)strlen(strcpy(text, process->cwd->path)) : -ENOENT;
        else
            length = place_path(op, &process->cwd->place, text);
        break;
    /* Only the personality of the process knows its program. */
    case PROC_PID_EXE: return -ENOENT;
    default: return -EINVAL;
    }
    if (length < 0)
        return length;
    if ((size_t)length > cap)
        length = (int)cap;
    memcpy(out, text, (size_t)length);
    return length;
}

int proc_open(struct op *op, struct place *place, uint32_t flags) {
    const struct proc_file *file = &files[place->key];
    struct vos_stat st;
    if ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC)
        return -EACCES;
    int error = proc_stat(op, place, &st);
    if (error != 0)
        return error;
    error = creds_check(op->creds, st.st_mode, st.st_uid, st.st_gid, R_OK);
    if (error < 0)
        return error;
    struct proc_text text = {0};
    error = file->make ? file->make(op, pid_of(place), (uint32_t)(place->arg >> 32), &text) : proc_text_host(op, file->host, &text);
    if (error != 0) {
        free(text.data);
        return error;
    }
    int fd = memory_file(file->name, text.data, text.len);
    free(text.data);
    return fd < 0 ? fd : open_grant_fd(op, fd, FS_KIND_FILE, FS_O_IMMUTABLE, O_RDONLY, &st);
}

static int list_numbers(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    char name[24];
    const uint32_t *pids;
    uint32_t count;
    int error = proc_need_pids(op, &pids, &count);
    for (uint32_t i = 0; error == 0 && i < count; i++) {
        snprintf(name, sizeof(name), "%u", pids[i]);
        error = emit(context, name, PROC_PID + 1 + ((uint64_t)pids[i] << 8), DT_DIR);
    }
    return error;
}

static int list_threads(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    char path[64];
    snprintf(path, sizeof(path), "%u/task", pid_of(dir));
    cleanup_close int fd = openat(op->fs->vos->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_dir DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    fd = -1;
    struct dirent *found;
    int error = 0;
    while (error == 0 && (found = readdir(stream)))
        if (found->d_name[0] != '.')
            error = emit(context, found->d_name, PROC_TASK + 1 + (strtoull(found->d_name, NULL, 10) << 40), DT_DIR);
    return error;
}

int proc_list(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    int error = 0;
    if (dir->key == PROC_PID_TASK)
        return list_threads(op, dir, emit, context);
    if (dir->key == PROC_ROOT)
        error = list_numbers(op, dir, emit, context);
    for (unsigned i = 1; error == 0 && i < ARRAY_LENGTH(files); i++)
        if (files[i].parent == dir->key && i != PROC_PID && i != PROC_TASK)
            error = emit(context, files[i].name, i + 1 + (dir->arg << 8), (uint8_t)IFTODT(files[i].mode));
    return error;
}

void proc_parent(const struct place *dir, struct place *out) {
    uint64_t parent = files[dir->key].parent;
    uint64_t arg = parent == PROC_TASK ? dir->arg : of_process(parent) ? (uint32_t)dir->arg : 0;
    bool root = dir->key == PROC_ROOT;
    proc_place(out, parent, arg);
    if (root)
        out->layer = LAYER_TREE;
}

int proc_path(const struct place *place, char *out) {
    char pid[32] = "", tid[32] = "";
    uint64_t key = place->key;
    if (!of_process(key)) {
        const char *names[4] = {"", "", "", ""};
        unsigned depth = 0;
        for (uint64_t k = key; k != PROC_ROOT && depth < 4; k = files[k].parent)
            names[depth++] = files[k].name;
        int length = snprintf(out, VOS_PATH_MAX, "/proc");
        while (depth)
            length += snprintf(out + length, VOS_PATH_MAX - (size_t)length, "/%s", names[--depth]);
        return length;
    }
    snprintf(pid, sizeof(pid), "/%u", (uint32_t)place->arg);
    if (key >= PROC_TASK)
        snprintf(tid, sizeof(tid), "/task/%u", (uint32_t)(place->arg >> 32));
    const char *name = files[key].name;
    return snprintf(out, VOS_PATH_MAX, "/proc%s%s%s%s", pid, tid, *name ? "/" : "", name);
}
