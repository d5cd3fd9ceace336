/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DC's directory on this node: STATE/dc/ID with "upper" (the writable layer, on the primary) and "log".
 * Removing a big tree takes long, so it is renamed to STATE/trash and removed by a child process. Names inside come
 * from guests: nothing here follows a symbolic link.
 */
#include "dvkd/dvkd.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int make_directory(const char *path, mode_t mode) { return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0; }

/* Out of the way: STATE/trash/ID-TIME, or STATE/dc/ID.orphan-TIME for what is not known to be rubbish. */
static int move_away(struct dvkd *dvkd, uint32_t dc, bool trash) {
    char from[600], to[640];
    struct timespec now;
    cells_path(&dvkd->options, dc, NULL, from, sizeof from);
    clock_gettime(CLOCK_REALTIME, &now);
    if (trash)
        snprintf(to, sizeof to, "%s/trash/%u-%lld.%09ld", dvkd->options.state, dc, (long long)now.tv_sec, now.tv_nsec);
    else
        snprintf(to, sizeof to, "%s.orphan-%lld", from, (long long)now.tv_sec);
    if (rename(from, to) == 0 && !trash)
        log_warning("%s belonged to no container that is known; it is now %s", from, to);
    else if (errno != ENOENT)
        return access(from, F_OK) == 0 ? -errno : 0;
    return 0;
}

int files_make(struct dvkd *dvkd, const struct config_dc *dc, struct failure *failure) {
    char path[600];
    cells_path(&dvkd->options, dc->id, NULL, path, sizeof path);
    int result = 0;
    if (access(path, F_OK) == 0)
        result = move_away(dvkd, dc->id, dvkd->remove_files[dc->id]);
    dvkd->remove_files[dc->id] = false;
    if (result == 0)
        result = make_directory(path, 0711); /* the cell's servers pass through it as the DC's root */
    cells_path(&dvkd->options, dc->id, "upper", path, sizeof path);
    if (result == 0)
        result = make_directory(path, 0755);
    if (result == 0 && (chown(path, dc_uid_base(dc->id), dc_uid_base(dc->id)) < 0 || chmod(path, 0755) < 0))
        result = -errno;
    if (result < 0)
        return failure_set(failure, result, "internal", "is the disk full?", "cannot make %s: %s", path,
                           strerror(-result));
    return 0;
}

/* Depth first, by descriptors. Stays on one file system. */
static void remove_tree(int parent, const char *name, dev_t device, unsigned depth) {
    if (unlinkat(parent, name, 0) == 0 || depth > 4000)
        return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (fd < 0)
        return;
    if (fstat(fd, &status) < 0 || (device && status.st_dev != device)) {
        close(fd);
        return;
    }
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_tree(fd, entry->d_name, status.st_dev, depth + 1);
    closedir(directory);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void on_trash_end(void *context, pid_t pid, int status) {}

static void empty_trash(struct dvkd *dvkd) {
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        log_warning("cannot remove old files now: %m");
        return;
    }
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(1);
        setpriority(PRIO_PROCESS, 0, 10);
        int state = open(dvkd->options.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int trash = state < 0 ? -1 : openat(state, "trash", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *directory = trash < 0 ? NULL : fdopendir(trash);
        const struct dirent *entry;
        while (directory && (entry = readdir(directory)))
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                remove_tree(trash, entry->d_name, 0, 0);
        _exit(0);
    }
    loop_child_add(dvkd->loop, pid, on_trash_end, NULL, NULL);
}

void files_remove(struct dvkd *dvkd, uint32_t dc) {
    char path[600];
    cells_path(&dvkd->options, dc, NULL, path, sizeof path);
    if (access(path, F_OK) < 0)
        return;
    int result = move_away(dvkd, dc, true);
    if (result < 0)
        log_error("cannot remove %s: %s", path, strerror(-result));
    else
        empty_trash(dvkd);
}

/* ---- cgroups that a killed cell left ---- */

#define CGROUPS "/sys/fs/cgroup"

static void end_cgroup(int parent, const char *name, unsigned depth) {
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    int list = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *file = list < 0 ? NULL : fdopen(list, "r");
    char line[32];
    while (file && fgets(line, sizeof line, file)) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1 && pid != getpid())
            kill((pid_t)pid, SIGKILL);
    }
    if (file)
        fclose(file);
    int copy = depth < 8 ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    cleanup_dir DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            end_cgroup(fd, entry->d_name, depth + 1);
    for (int tries = 0; unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno == EBUSY && tries < 20; tries++)
        usleep(1000); /* the killed leave in their own time */
}

/* Is it `prefix` and a DC's id? */
static bool is_cell_of(const char *name, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(name, prefix, len) == 0 && name[len] && strspn(name + len, "0123456789") == strlen(name + len);
}

/* The groups of cells under "dvs" in one hierarchy (v1: one a controller; v2: the root itself). */
static void end_cgroups_in(int hierarchy, const char *prefix, bool exact) {
    int fd = openat(hierarchy, "dvs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    cleanup_dir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if (exact ? strcmp(entry->d_name, prefix) == 0 : is_cell_of(entry->d_name, prefix))
            end_cgroup(fd, entry->d_name, 0);
}

static void end_cgroups(const char *prefix, bool exact) {
    cleanup_dir DIR *root = opendir(CGROUPS);
    const struct dirent *entry;
    if (!root)
        return;
    end_cgroups_in(dirfd(root), prefix, exact);
    while ((entry = readdir(root))) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "dvs") == 0)
            continue;
        cleanup_close int hierarchy = openat(dirfd(root), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (hierarchy >= 0)
            end_cgroups_in(hierarchy, prefix, exact);
    }
}

void files_remove_cgroup(struct dvkd *dvkd, uint32_t dc) {
    char name[160];
    cells_cgroup_name(&dvkd->options, dc, name, sizeof name);
    end_cgroups(name, true);
}

void files_clean(struct dvkd *dvkd) {
    char prefix[160];
    cells_cgroup_name(&dvkd->options, 0, prefix, sizeof prefix);
    prefix[strlen(prefix) - 1] = 0; /* up to and with the last "-" */
    end_cgroups(prefix, false);
    empty_trash(dvkd);
}
