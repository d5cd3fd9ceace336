/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image as the host changes it. An image is not to be changed while a container runs on it, but the host's own root
 * (--image host) is: so each of its directories that stands in the table of names is watched with inotify(7), and what is reported
 * is taken out. That is a moment late, other than changes made in the container; and a directory that changes all the time
 * is left out of the table for a while.
 *
 * The host has so many watches for all that root runs: a cell takes a part of them. When these are used up, all is taken out of
 * the table, and what is in use then comes back.
 */
#include "vos/fs/fs.h"

#include <dvk/dvk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <time.h>

#define WATCHED                                                                                                                     \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define BUSY_EVENTS 128u
#define BUSY_SECONDS 10
#define SHARE 8 /* of the host's watches for one cell: 1 in so many */

struct watches {
    int fd;
    struct tree_dir **dir; /* by watch descriptor */
    size_t size;
    unsigned count;
    int64_t emptied; /* when they were used up last */
};

static int64_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

static int remember(struct watches *watches, int wd, struct tree_dir *dir) {
    if ((size_t)wd >= watches->size) {
        size_t size = watches->size ? watches->size * 2 : 1024;
        while (size <= (size_t)wd)
            size *= 2;
        struct tree_dir **grown = realloc(watches->dir, size * sizeof(struct tree_dir *));
        if (!grown)
            return -ENOMEM;
        memset(grown + watches->size, 0, (size - watches->size) * sizeof(struct tree_dir *));
        watches->dir = grown;
        watches->size = size;
    }
    if (watches->dir[wd] && watches->dir[wd] != dir)
        return -EBUSY; /* the host has renamed it: we know it by its old name */
    watches->dir[wd] = dir;
    return 0;
}

/* inotify takes paths only: by way of the working directory, which is left as it was. */
static int add_watch(struct watches *watches, int dir_fd) {
    cleanup_close int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (before < 0 || fchdir(dir_fd) < 0)
        return -errno;
    int wd = inotify_add_watch(watches->fd, ".", WATCHED);
    int error = wd < 0 ? -errno : wd;
    if (fchdir(before) < 0)
        log_error("fs: cannot go back to the working directory: %s", strerror(errno));
    return error;
}

/* Make room when all are used, but not all the time: more may be in use than there is room for. */
static bool have_room(struct fs *fs) {
    struct watches *watches = fs->watches;
    if (watches->count < fs->watch_max)
        return true;
    if (watches->emptied && seconds() - watches->emptied < BUSY_SECONDS)
        return false;
    watches->emptied = seconds();
    names_forget_all(fs);
    for (size_t i = 0; i < watches->size; i++)
        if (watches->dir[i])
            watch_end(fs, watches->dir[i]);
    return watches->count < fs->watch_max;
}

bool watch_dir(struct fs *fs, struct tree_dir *dir) {
    struct watches *watches = fs->watches;
    if (dir->wd)
        return true;
    if (!watches || (dir->busy_until && seconds() < dir->busy_until) || !have_room(fs))
        return false;
    int fd = creds_apply(NULL) < 0 ? -EPERM : tree_image_fd(fs, dir);
    int wd = fd < 0 ? fd : add_watch(watches, fd);
    if (wd < 0 || remember(watches, wd, dir) < 0)
        return false; /* out of watches (fs.inotify.max_user_watches), perhaps */
    dir->wd = wd;
    dir->events = 0;
    watches->count++;
    return true;
}

void watch_end(struct fs *fs, struct tree_dir *dir) {
    if (!dir->wd)
        return;
    (void)inotify_rm_watch(fs->watches->fd, dir->wd);
    fs->watches->dir[dir->wd] = NULL;
    fs->watches->count--;
    dir->wd = 0;
}

static void take_event(struct fs *fs, const struct inotify_event *event) {
    if (event->mask & IN_Q_OVERFLOW) {
        names_forget_all(fs);
        return;
    }
    struct tree_dir *dir = (size_t)event->wd < fs->watches->size ? fs->watches->dir[event->wd] : NULL;
    if (!dir)
        return;
    if (event->mask & IN_IGNORED) {
        fs->watches->dir[event->wd] = NULL;
        fs->watches->count--;
        dir->wd = 0;
    }
    if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
        names_below_gone(fs, dir);
    if (!event->len) {
        names_dir_changed(fs, dir);
        return;
    }
    names_changed(fs, dir, event->name);
    struct tree_dir *child = event->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) ? tree_cached(fs, dir, event->name) : NULL;
    if (child)
        names_below_gone(fs, child);
    if (dir->parent && ++dir->events >= BUSY_EVENTS) {
        names_below_gone(fs, dir);
        watch_end(fs, dir);
        dir->busy_until = seconds() + BUSY_SECONDS;
    }
}

static void on_events(void *context, int fd, uint32_t events) {
    struct fs *fs = context;
    _Alignas(struct inotify_event) char buffer[16384];
    ssize_t length;
    while ((length = read(fd, buffer, sizeof(buffer))) > 0)
        for (ssize_t at = 0; at < length;) {
            const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
            at += (ssize_t)(sizeof(*event) + event->len);
            take_event(fs, event);
        }
}

static unsigned watches_of_host(struct fs *fs) {
    char text[32] = "";
    cleanup_close int fd = openat(fs->vos->proc_fd, "sys/fs/inotify/max_user_watches", O_RDONLY | O_CLOEXEC);
    unsigned long most = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtoul(text, NULL, 10) : 0;
    return most ? (unsigned)(most > UINT32_MAX ? UINT32_MAX : most) : 8192; /* Linux's least */
}

int watch_start(struct fs *fs) {
    struct watches *watches = calloc(1, sizeof(*watches));
    if (!watches)
        return -ENOMEM;
    watches->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int error = watches->fd < 0 ? -errno : dvk_watch_fd(fs->vos->dvk, watches->fd, EPOLLIN, on_events, fs);
    if (error < 0) {
        /* Then nothing of the image is published, and guests ask. */
        log_warning("fs: no inotify: %s", strerror(-error));
        if (watches->fd >= 0)
            close(watches->fd);
        free(watches);
        return 0;
    }
    fs->watches = watches;
    fs->watch_max = watches_of_host(fs) / SHARE;
    return 0;
}

void watch_stop(struct fs *fs) {
    if (!fs->watches)
        return;
    dvk_watch_fd(fs->vos->dvk, fs->watches->fd, 0, NULL, NULL);
    close(fs->watches->fd);
    free(fs->watches->dir);
    free(fs->watches);
    fs->watches = NULL;
}
