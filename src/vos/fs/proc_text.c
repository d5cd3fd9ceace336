/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of /proc say; formats: proc(5). */
#include "vos/fs/fs.h"
#include "vos/fs/proc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The personality's own part of a guest's address space (personality/personality.h) is not the guest's to see. */
#define HIDDEN_START 0x6f0000000000ull
#define HIDDEN_END 0x6f8000000000ull

static int append_bytes(struct proc_text *text, const char *data, size_t len) {
    if (text->len + len > text->cap) {
        size_t cap = text->cap ? text->cap * 2 : 4096;
        while (cap < text->len + len)
            cap *= 2;
        char *grown = realloc(text->data, cap);
        if (!grown)
            return -ENOMEM;
        text->data = grown;
        text->cap = cap;
    }
    memcpy(text->data + text->len, data, len);
    text->len += len;
    return 0;
}

__attribute__((format(printf, 2, 3))) static int append(struct proc_text *text, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    return append_bytes(text, line, (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1);
}

int proc_text_host(struct op *op, const char *path, struct proc_text *text) {
    cleanup_close int fd = openat(op->fs->vos->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char buffer[16384];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n <= 0)
            return n < 0 ? -errno : 0;
        int error = append_bytes(text, buffer, (size_t)n);
        if (error < 0)
            return error;
    }
}

int proc_text_empty(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return append(text, "\n"); }
int proc_text_zero(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return append(text, "0\n"); }
int proc_text_cgroup(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return append(text, "0::/\n"); }

int proc_text_filesystems(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    return append(text, "nodev\tproc\nnodev\ttmpfs\n\tdvs\n");
}

int proc_text_pid_max(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    return append(text, "%u\n", op->fs->vos->slot_limit);
}

int proc_text_hostname(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    return append(text, "%s\n", op->fs->vos->dc_name);
}

/* ---- of a process ---- */

int proc_text_stat(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    const struct pm_process_info *p;
    int error = proc_need(op, pid, &p);
    if (error != 0)
        return error;
    /* Fields 1 to 52 of proc(5); what is not known is 0. */
    return append(text,
                  "%u (%s) %c %u %u %u 0 -1 4194304 0 0 0 0 %lld %lld %lld %lld %d %d %u 0 %lld %llu %llu "
                  "18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                  tid ? tid : pid, p->comm, p->state, p->ppid, p->pgid, p->sid, (long long)p->utime, (long long)p->stime,
                  (long long)p->cutime, (long long)p->cstime, 20 + p->nice, p->nice, p->threads, (long long)(p->start_ms / 10),
                  (unsigned long long)p->vsize, (unsigned long long)p->rss);
}

int proc_text_statm(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    const struct pm_process_info *p;
    int error = proc_need(op, pid, &p);
    if (error != 0)
        return error;
    return append(text, "%llu %llu 0 0 0 %llu 0\n", (unsigned long long)(p->vsize / 4096), (unsigned long long)p->rss,
                  (unsigned long long)p->rss);
}

static const char *state_name(char state) {
    switch (state) {
    case 'R': return "R (running)";
    case 'D': return "D (disk sleep)";
    case 'T': return "T (stopped)";
    case 'Z': return "Z (zombie)";
    default: return "S (sleeping)";
    }
}

int proc_text_status(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    const struct pm_process_info *p;
    int error = proc_need(op, pid, &p);
    if (error != 0)
        return error;
    error = append(text,
                   "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%u\nNgid:\t0\nPid:\t%u\nPPid:\t%u\nTracerPid:\t0\n"
                   "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t64\nGroups:\t",
                   p->comm, p->umask, state_name(p->state), pid, tid ? tid : pid, p->ppid, p->uid, p->euid, p->suid, p->fsuid,
                   p->gid, p->egid, p->sgid, p->fsgid);
    for (uint32_t i = 0; error == 0 && i < p->group_count && i < ARRAY_LENGTH(p->groups); i++)
        error = append(text, "%u ", p->groups[i]);
    if (error == 0)
        error = append(text,
                       "\nNStgid:\t%u\nNSpid:\t%u\nNSpgid:\t%u\nNSsid:\t%u\nVmPeak:\t%8llu kB\nVmSize:\t%8llu kB\nVmRSS:\t%8llu kB\n"
                       "Threads:\t%u\nNoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed_list:\t0-%u\nDvsNode:\t%u\n",
                       pid, tid ? tid : pid, p->pgid, p->sid, (unsigned long long)(p->vsize / 1024),
                       (unsigned long long)(p->vsize / 1024), (unsigned long long)(p->rss * 4), p->threads,
                       op->fs->vos->cpu_count ? op->fs->vos->cpu_count - 1 : 0, p->node);
    return error;
}

int proc_text_cmdline(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    struct proc_info *info;
    int error = proc_need_full(op, pid, &info);
    return error != 0 ? error : append_bytes(text, info->cmdline, info->process.state == 'Z' ? 0 : info->cmdline_len);
}

int proc_text_comm(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    const struct pm_process_info *p;
    int error = proc_need(op, pid, &p);
    return error != 0 ? error : append(text, "%s\n", p->comm);
}

/* ---- of a process of this node, from the host's /proc ---- */

static int own_only(struct op *op, uint32_t pid) {
    const struct process *process = process_find(op->fs, pid);
    if (!process)
        return -ESRCH;
    return op->creds->uid == 0 || op->creds->uid == process->creds->uid ? 0 : -EACCES;
}

int proc_text_maps(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    char path[64];
    struct proc_text host = {0};
    int error = own_only(op, pid);
    if (error < 0)
        return error;
    snprintf(path, sizeof(path), "%u/maps", pid);
    error = proc_text_host(op, path, &host);
    for (size_t at = 0; error == 0 && at < host.len;) {
        const char *line = host.data + at, *end = memchr(line, '\n', host.len - at);
        size_t length = end ? (size_t)(end - line) + 1 : host.len - at;
        unsigned long long from = strtoull(line, NULL, 16);
        if (from < HIDDEN_START || from >= HIDDEN_END)
            error = append_bytes(text, line, length);
        at += length;
    }
    free(host.data);
    return error;
}

static int host_of(struct op *op, uint32_t pid, const char *name, struct proc_text *text) {
    char path[64];
    int error = own_only(op, pid);
    if (error < 0)
        return error;
    snprintf(path, sizeof(path), "%u/%s", pid, name);
    return proc_text_host(op, path, text);
}

int proc_text_limits(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return host_of(op, pid, "limits", text); }
int proc_text_io(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return host_of(op, pid, "io", text); }

/* ---- mounts ---- */

struct mount_line {
    const char *source, *path, *type, *options;
};

static int each_mount(struct op *op, int (*line)(struct proc_text *text, unsigned number, const struct mount_line *mount),
                      struct proc_text *text) {
    static const struct mount_line fixed[] = {
        {"dvs", "/", "dvs", "rw,relatime"},
        {"proc", "/proc", "proc", "rw,nosuid,nodev,noexec,relatime"},
        {"dev", "/dev", "tmpfs", "rw,nosuid,noexec"},
        {"shm", "/dev/shm", "tmpfs", "rw,nosuid,nodev"},
        {"dvs-tools", "/.dvs", "tmpfs", "ro,nosuid,nodev"},
    };
    int error = 0;
    unsigned number = 0;
    for (; error == 0 && number < ARRAY_LENGTH(fixed); number++)
        error = line(text, number, &fixed[number]);
    for (unsigned i = 0; error == 0 && i < op->fs->vos->mount_count; i++) {
        const struct vos_mount *volume = &op->fs->vos->mounts[i];
        struct mount_line mount = {"volume", volume->path, "dvs", volume->read_only ? "ro,relatime" : "rw,relatime"};
        error = line(text, number++, &mount);
    }
    return error;
}

static int mounts_line(struct proc_text *text, unsigned number, const struct mount_line *mount) {
    return append(text, "%s %s %s %s 0 0\n", mount->source, mount->path, mount->type, mount->options);
}

static int mountinfo_line(struct proc_text *text, unsigned number, const struct mount_line *mount) {
    static const unsigned minors[] = {FS_DEV_TREE, FS_DEV_PROC, FS_DEV_DEV, FS_DEV_SHM, FS_DEV_TOOLS};
    unsigned minor = number < ARRAY_LENGTH(minors) ? minors[number] : (unsigned)FS_DEV_VOLUME + number - (unsigned)ARRAY_LENGTH(minors);
    unsigned parent = number == 0 ? 1 : number == 3 ? 22 : 20;
    return append(text, "%u %u 0:%u / %s %s - %s %s %s\n", 20 + number, parent, minor, mount->path, mount->options, mount->type,
                  mount->source, strncmp(mount->options, "ro", 2) == 0 ? "ro" : "rw");
}

int proc_text_mounts(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) { return each_mount(op, mounts_line, text); }
int proc_text_mountinfo(struct op *op, uint32_t pid, uint32_t tid, struct proc_text *text) {
    return each_mount(op, mountinfo_line, text);
}
