/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/cell.h"
#include "cell/image.h"
#include "cell/mount_api.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static bool same_directory(int a, int b) {
    struct statx x, y;
    return !statx(a, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &x) &&
           !statx(b, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &y) && x.stx_ino == y.stx_ino &&
           x.stx_mnt_id == y.stx_mnt_id;
}

/*
 * Make our root the root of our mount namespace, if we are in a chroot. setns to one's own namespace leads to its true
 * root; on top of that the chroot's tree is then mounted, so that paths stay what they were. Any failure leaves errno.
 */
static int chroot_leave(void) {
    cleanup_close int ours = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (ours < 0 || self < 0 || setns(self, CLONE_NEWNS))
        return -1;
    cleanup_close int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return -1;
    if (same_directory(ours, top))
        return 0;
    cleanup_close int tree =
        mount_open_tree(ours, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) || fchdir(tree) || chroot("."))
        return -1;
    return 0;
}

int namespaces_prepare(struct failure *failure) {
    if (unshare(CLONE_NEWNS) || chroot_leave() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        int error = -errno;
        return failure_set(failure, error, "unavailable", "dvs-cell must be root of the host, with /proc mounted",
                           "cannot make a mount namespace: %s", strerror(-error));
    }
    return 0;
}

int namespaces_clone(struct cell *cell, struct failure *failure) {
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) {
        int error = -errno;
        return failure_set(failure, error, "unavailable",
                           error == -ENOSPC ? "see /proc/sys/user/max_user_namespaces"
                                            : "dvs-cell must be root of the host",
                           "cannot make the namespaces: %s", strerror(-error));
    }
    if (!pid)
        init_run(cell);
    cell->init = (pid_t)pid;
    cell->init_pidfd = pidfd;
    return 0;
}

static int map_write(pid_t pid, const char *which, uint32_t base) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, which);
    int len = snprintf(text, sizeof text, "0 %u %u", base, CELL_IDS);
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)len) != len)
        return -errno;
    return 0;
}

int namespaces_map(struct cell *cell, struct failure *failure) {
    char path[64];
    uint32_t base = cell->options.uid_base;
    int error = map_write(cell->init, "uid_map", base);
    if (!error)
        error = map_write(cell->init, "gid_map", base);
    snprintf(path, sizeof path, "/proc/%d/ns/user", cell->init);
    cleanup_close int space = open(path, O_RDONLY | O_CLOEXEC);
    if (!error && space < 0)
        error = -errno;
    if (error)
        return failure_set(failure, error, "unavailable", NULL, "cannot map the ids %u to %u: %s", base,
                           base + CELL_IDS - 1, strerror(-error));
    /* Where the file system cannot be id-mapped, files appear to belong to nobody; the servers know of that. */
    (void)tree_id_map(cell->attr_fd, space);
    for (unsigned i = 0; i < cell->options.mount_count; i++)
        if (cell->mount_fds[i] >= 0)
            (void)tree_id_map(cell->mount_fds[i], space);
    return 0;
}
