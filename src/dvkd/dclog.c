/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/dclog.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void open_file(struct dclog *log) {
    struct stat status;
    log->fd = open(log->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    log->size = log->fd >= 0 && fstat(log->fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    if (log->fd < 0 && !log->failed) {
        log_error("cannot write %s: %m", log->path);
        log->failed = true;
    }
}

void dclog_open(struct dclog *log, const char *path) {
    *log = (struct dclog){.fd = -1};
    snprintf(log->path, sizeof log->path, "%s", path);
    list_init(&log->followers);
    open_file(log);
}

static void tell_followers(struct dclog *log) {
    struct dclog_follower *follower;
    list_for_each(follower, &log->followers, link) follower->fn(follower->context);
}

void dclog_close(struct dclog *log) {
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
    struct dclog_follower *follower;
    list_for_each(follower, &log->followers, link) {
        list_remove(&follower->link);
        follower->fn(follower->context);
    }
}

void dclog_append(struct dclog *log, const void *data, size_t len) {
    if (log->fd < 0 || len == 0)
        return;
    if (log->size + len > DCLOG_MAX && log->size > 0) {
        char old[604];
        snprintf(old, sizeof old, "%s.1", log->path);
        if (rename(log->path, old) < 0)
            log_warning("cannot rename %s: %m", log->path);
        close(log->fd);
        open_file(log);
        log->turns++;
        if (log->fd < 0)
            return;
    }
    ssize_t n = write(log->fd, data, len);
    if (n > 0)
        log->size += (uint64_t)n;
    if (n != (ssize_t)len && !log->failed) {
        log_error("cannot write all of %s: %s", log->path, n < 0 ? strerror(errno) : "no space is left");
        log->failed = true;
    }
    tell_followers(log);
}
