/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/records.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/record_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

struct record_of {
    struct list link;
    const struct client *client;
    char name[32];
    int fd;
};

void records_start(struct records *records, const char *run, uint32_t node) {
    char path[600];
    list_init(&records->list);
    snprintf(records->directory, sizeof records->directory, "%s/record", run);
    snprintf(path, sizeof path, "%s/dvkd", records->directory);
    int result = mkdir(records->directory, 0700) < 0 && errno != EEXIST ? -errno : record_open(path, "dvkd", node);
    if (result < 0)
        log_warning("no events are recorded in %s: %s", path, strerror(-result));
    record_crashes();
}

static void record_of_free(struct record_of *record) {
    list_remove(&record->link);
    close(record->fd);
    free(record);
}

void records_stop(struct records *records) {
    struct record_of *record;
    list_for_each(record, &records->list, link) record_of_free(record);
}

void records_take(struct records *records, struct client *client, const char *name, int fd) {
    cleanup_close int owned = fd;
    struct stat status;
    /* sealed, so that its size stays what we have seen */
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) || fstat(fd, &status) < 0 ||
        status.st_size != (off_t)RECORDER_SIZE) {
        log_warning("the record of %s is not one: it is not kept", name);
        return;
    }
    struct record_of *record;
    list_for_each(record, &records->list, link) if (record->client == client) return; /* one is enough */
    record = calloc(1, sizeof *record);
    if (!record)
        return;
    *record = (struct record_of){.client = client, .fd = steal_fd(&owned)};
    snprintf(record->name, sizeof record->name, "%s", name);
    list_append(&records->list, &record->link);
}

/* A copy under its name, whole or not at all. */
static int copy_keep(const struct records *records, const struct record_of *record) {
    char path[600], part[610];
    snprintf(path, sizeof path, "%s/%s", records->directory, record->name);
    snprintf(part, sizeof part, "%s.part", path);
    cleanup_close int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return -errno;
    off_t at = 0;
    while (at < (off_t)RECORDER_SIZE) {
        ssize_t n = sendfile(to, record->fd, &at, RECORDER_SIZE - (size_t)at);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
    }
    return rename(part, path) < 0 ? -errno : 0;
}

void records_client_gone(struct records *records, const struct client *client, bool keep) {
    struct record_of *record;
    list_for_each(record, &records->list, link) {
        if (record->client != client)
            continue;
        int result = keep ? copy_keep(records, record) : 0;
        if (result < 0)
            log_warning("the record of %s is lost: %s", record->name, strerror(-result));
        record_of_free(record);
    }
}

void records_forget_dc(struct records *records, uint32_t dc) {
    char path[600];
    snprintf(path, sizeof path, "%s/vos-%u", records->directory, dc);
    unlink(path);
}

json_t *records_read(const struct records *records, const char *name, bool ended, size_t last, struct failure *failure) {
    char path[600];
    bool own = strcmp(name, "dvkd") == 0;
    snprintf(path, sizeof path, "%s/%s%s", records->directory, name, own && ended ? ".old" : "");
    struct record_of *record;
    if (!ended && !own) {
        list_for_each(record, &records->list, link) if (strcmp(record->name, name) == 0)
            return record_read(record->fd, last, failure);
        failure_set(failure, 0, "unavailable", "--ended shows the last one's, if it failed", "no %s runs on this node", name);
        return NULL;
    }
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        failure_set(failure, 0, "unavailable", NULL, errno == ENOENT ? "there is no record of a %s that has ended" :
                    "the record of %s cannot be read", name);
        return NULL;
    }
    return record_read(fd, last, failure);
}
