/* SPDX-License-Identifier: Apache-2.0 */
/* See cgroup.h; the files' meaning: the kernel's admin-guide/cgroup-v1 and cgroup-v2. */
#include "cell/cgroup.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char *const controller_names[CGROUP_CONTROLLERS] = {"memory", "cpu", "pids", "cpuacct"};
#define CGROUP_PARENT "dvs"

bool cgroup_name_valid(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t total = strlen(name);
    if (!total || total > NAME_MAX - sizeof CGROUP_PARENT)
        return false;
    for (const char *part = name;; part++) {
        size_t len = strspn(part, allowed);
        if (!len || *part == '.')
            return false;
        part += len;
        if (!*part)
            return true;
        if (*part != '/')
            return false;
    }
}

static int file_write(const char *dir, const char *file, const char *text) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool word_in(const char *text, const char *word) {
    size_t len = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += len)
        if ((at == text || at[-1] == ' ') && strchr(" \n", at[len]))
            return true;
    return false;
}

static bool version2_usable(const char *mount) {
    char path[512], text[1024];
    snprintf(path, sizeof path, "%s/cgroup.controllers", mount);
    cleanup_file FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, file);
    text[len] = 0;
    return word_in(text, "memory") && word_in(text, "cpu") && word_in(text, "pids");
}

void cgroup_layout_read(FILE *mounts, struct cgroup_layout *layout) {
    struct mntent entry;
    char buffer[8192];
    *layout = (struct cgroup_layout){0};
    while (getmntent_r(mounts, &entry, buffer, sizeof buffer)) {
        if (strlen(entry.mnt_dir) >= sizeof layout->mount[0])
            continue;
        if (!strcmp(entry.mnt_type, "cgroup2") && version2_usable(entry.mnt_dir)) {
            *layout = (struct cgroup_layout){.version2 = true};
            for (int i = CGROUP_MEMORY; i <= CGROUP_PIDS; i++)
                strcpy(layout->mount[i], entry.mnt_dir);
            return;
        }
        if (strcmp(entry.mnt_type, "cgroup") != 0)
            continue;
        for (int i = 0; i < CGROUP_CONTROLLERS; i++)
            if (!layout->mount[i][0] && hasmntopt(&entry, controller_names[i]))
                strcpy(layout->mount[i], entry.mnt_dir);
    }
}

bool cgroup_path(const struct cgroup *group, enum cgroup_controller controller, char out[PATH_MAX]) {
    const char *mount = group->layout.mount[controller];
    if (!*mount || !group->name[0])
        return false;
    snprintf(out, PATH_MAX, "%s/" CGROUP_PARENT "/%s", mount, group->name);
    return true;
}

/* Is this controller's hierarchy the same mount as an earlier one's? */
static bool hierarchy_seen(const struct cgroup *group, int controller) {
    for (int i = 0; i < controller; i++)
        if (!strcmp(group->layout.mount[i], group->layout.mount[controller]))
            return true;
    return false;
}

/* Each directory of the group, once. */
#define for_each_directory(group, path)                                                                                \
    for (int each_ = 0; each_ < CGROUP_CONTROLLERS; each_++)                                                           \
        if (!hierarchy_seen(group, each_) && cgroup_path(group, (enum cgroup_controller)each_, path))

/* Make mount/dvs/a/b, delegating version 2's controllers on the way. Another cell may be removing an empty parent
 * meanwhile: then the path is begun again. */
static int directory_make(const struct cgroup *group, const char *mount, const char *path) {
    char part[PATH_MAX];
    for (int attempt = 0; attempt < 16; attempt++) {
        int error = 0;
        for (const char *end = path + strlen(mount); !error && *end; end = end + strcspn(end, "/")) {
            snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
            if (group->layout.version2) /* fails where it is not needed or not allowed; the limits' writes tell */
                (void)file_write(part, "cgroup.subtree_control", "+memory +cpu +pids");
            end++;
            snprintf(part, sizeof part, "%.*s", (int)(end + strcspn(end, "/") - path), path);
            if (mkdir(part, 0755) && errno != EEXIST)
                error = -errno;
        }
        if (error != -ENOENT)
            return error;
    }
    return -ENOENT;
}

static int limit_write(const struct cgroup *group, enum cgroup_controller controller, const char *file,
                       const char *value, struct failure *failure) {
    char path[PATH_MAX];
    if (!cgroup_path(group, controller, path))
        return failure_set(failure, -ENOSYS, "unavailable", "mount the cgroup controllers, or run without that limit",
                           "this machine has no %s cgroup controller for the limit asked for",
                           controller_names[controller]);
    int error = file_write(path, file, value);
    if (error)
        return failure_set(failure, error, "unavailable", NULL, "cannot write %s to %s/%s: %s", value, path, file,
                           strerror(-error));
    return 0;
}

static int limits_apply(const struct cgroup *group, const struct cgroup_limits *limits, struct failure *failure) {
    bool v2 = group->layout.version2;
    char value[64], path[PATH_MAX];
    int error = 0;
    if (limits->memory_bytes) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)limits->memory_bytes);
        error = limit_write(group, CGROUP_MEMORY, v2 ? "memory.max" : "memory.limit_in_bytes", value, failure);
        if (error)
            return error;
        /* No swap on top, where the kernel accounts for it. */
        (void)cgroup_path(group, CGROUP_MEMORY, path);
        (void)file_write(path, v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", v2 ? "0" : value);
    }
    if (limits->cpu_milli) {
        unsigned long long quota = (unsigned long long)limits->cpu_milli * (CGROUP_PERIOD_US / 1000);
        if (v2) {
            snprintf(value, sizeof value, "%llu %u", quota, CGROUP_PERIOD_US);
            error = limit_write(group, CGROUP_CPU, "cpu.max", value, failure);
        } else {
            snprintf(value, sizeof value, "%u", CGROUP_PERIOD_US);
            error = limit_write(group, CGROUP_CPU, "cpu.cfs_period_us", value, failure);
            snprintf(value, sizeof value, "%llu", quota);
            if (!error)
                error = limit_write(group, CGROUP_CPU, "cpu.cfs_quota_us", value, failure);
        }
        if (error)
            return error;
    }
    if (limits->pids) {
        snprintf(value, sizeof value, "%u", limits->pids + CGROUP_OWN_TASKS);
        error = limit_write(group, CGROUP_PIDS, "pids.max", value, failure);
    }
    return error;
}

int cgroup_create(struct cgroup *group, const char *name, const struct cgroup_limits *limits, struct failure *failure) {
    *group = (struct cgroup){0};
    if (!cgroup_name_valid(name))
        return failure_set(failure, -EINVAL, "bad-request", NULL, "bad cgroup name '%s'", name);
    cleanup_file FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (mounts)
        cgroup_layout_read(mounts, &group->layout);
    strcpy(group->name, name);
    char path[PATH_MAX];
    (void)cgroup_remove(group, 2000); /* of a dvs-cell that was killed */
    for_each_directory(group, path) {
        int error = directory_make(group, group->layout.mount[each_], path);
        if (error == -EROFS || error == -EACCES || error == -EPERM) {
            group->layout.mount[each_][0] = 0; /* not ours to use: as if it were not there */
            continue;
        }
        if (error) {
            (void)cgroup_remove(group, 0);
            return failure_set(failure, error, "unavailable", NULL, "cannot make the cgroup %s: %s", path,
                               strerror(-error));
        }
    }
    int error = limits_apply(group, limits, failure);
    if (error)
        (void)cgroup_remove(group, 0);
    return error;
}

int cgroup_add(const struct cgroup *group, pid_t pid) {
    char path[PATH_MAX], text[32];
    snprintf(text, sizeof text, "%d", pid);
    for_each_directory(group, path) {
        int error = file_write(path, "cgroup.procs", text);
        if (error)
            return error;
    }
    return 0;
}

/* Send SIGKILL to all in the directory's group; how many there were. */
static int directory_kill(const char *path, bool version2) {
    char file[PATH_MAX + 64];
    snprintf(file, sizeof file, "%s/cgroup.procs", path);
    cleanup_file FILE *procs = fopen(file, "re");
    if (!procs)
        return 0;
    bool killed = version2 && !file_write(path, "cgroup.kill", "1"); /* Linux 5.14 */
    int count = 0;
    for (int pid; fscanf(procs, "%d", &pid) == 1; count++)
        if (!killed && pid > 0)
            (void)kill(pid, SIGKILL);
    return count;
}

/* Remove the directory and the parents that it leaves empty, up to and with dvs. */
static int directory_remove(const char *mount, const char *path) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    if (rmdir(part) && errno != ENOENT)
        return -errno;
    for (char *slash; (slash = strrchr(part, '/')) && slash > part + strlen(mount);) {
        *slash = 0;
        if (rmdir(part))
            break;
    }
    return 0;
}

int cgroup_remove(const struct cgroup *group, unsigned timeout_ms) {
    char path[PATH_MAX];
    for (unsigned waited_ms = 0;; waited_ms += 5) {
        int left = 0;
        for_each_directory(group, path) {
            left += directory_kill(path, group->layout.version2);
            if (directory_remove(group->layout.mount[each_], path))
                left++;
        }
        if (!left)
            return 0;
        if (waited_ms >= timeout_ms)
            return -EBUSY;
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
