/* SPDX-License-Identifier: Apache-2.0 */
#include "dc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

static struct answer answer;

static int call(struct guest *g, uint32_t type, const uint64_t words[8], const void *data, size_t len) {
    return fake_call(g->vos, g->pid, type, words, data, len, -1, &answer);
}

int dc_openat(struct guest *g, int64_t dir, const char *path, int flags, int mode, struct dc_file *out) {
    uint64_t words[8] = {(uint64_t)dir, (uint32_t)flags, (uint32_t)mode};
    int status = call(g, FS_OPEN, words, path, strlen(path) + 1);
    if (status < 0)
        return status;
    *out = (struct dc_file){.fd = answer.fd, .handle = status == FS_GRANT_FD ? -1 : (int64_t)answer.words[0],
                            .kind = (uint32_t)answer.words[1], .flags = (uint32_t)answer.words[2]};
    if (answer.len >= sizeof(out->stat))
        memcpy(&out->stat, answer.data, sizeof(out->stat));
    return 0;
}

int dc_open(struct guest *g, const char *path, int flags, int mode, struct dc_file *out) {
    return dc_openat(g, VOS_CWD, path, flags, mode, out);
}

int dc_close(struct guest *g, struct dc_file *file) {
    uint64_t words[8] = {(uint64_t)file->handle};
    if (file->fd >= 0)
        return close(file->fd);
    return call(g, FS_CLOSE, words, NULL, 0);
}

int dc_read(struct guest *g, struct dc_file *file, void *out, size_t len) {
    if (file->fd >= 0) {
        ssize_t n = read(file->fd, out, len);
        return n < 0 ? -errno : (int)n;
    }
    uint64_t words[8] = {(uint64_t)file->handle, len, (uint64_t)-1};
    int status = call(g, FS_READ, words, NULL, 0);
    if (status > 0)
        memcpy(out, answer.data, (size_t)status);
    return status;
}

int dc_write(struct guest *g, struct dc_file *file, const void *data, size_t len) {
    if (file->fd >= 0) {
        ssize_t n = write(file->fd, data, len);
        return n < 0 ? -errno : (int)n;
    }
    uint64_t words[8] = {(uint64_t)file->handle, (uint64_t)-1};
    return call(g, FS_WRITE, words, data, len);
}

int dc_stat(struct guest *g, const char *path, bool follow, struct vos_stat *out) {
    uint64_t words[8] = {(uint64_t)VOS_CWD, follow ? 0 : AT_SYMLINK_NOFOLLOW};
    int status = call(g, FS_STAT, words, path, strlen(path) + 1);
    if (status >= 0)
        memcpy(out, answer.data, sizeof(*out));
    return status;
}

int dc_fstat(struct guest *g, struct dc_file *file, struct vos_stat *out) {
    uint64_t words[8] = {(uint64_t)file->handle};
    int status = file->fd >= 0 ? fake_call(g->vos, g->pid, FS_HOSTFD_INFO, words, NULL, 0, file->fd, &answer)
                               : call(g, FS_FSTAT, words, NULL, 0);
    if (status >= 0)
        memcpy(out, answer.data, sizeof(*out));
    return status;
}

int dc_path(struct guest *g, uint32_t type, const char *path, uint64_t w1, uint64_t w2, uint64_t w3) {
    uint64_t words[8] = {(uint64_t)VOS_CWD, w1, w2, w3};
    return call(g, type, words, path, strlen(path) + 1);
}

int dc_path2(struct guest *g, uint32_t type, const char *first, const char *second, uint64_t w2) {
    char data[2 * VOS_PATH_MAX];
    size_t a = strlen(first) + 1, b = strlen(second) + 1;
    uint64_t words[8] = {(uint64_t)VOS_CWD, (uint64_t)VOS_CWD, w2};
    memcpy(data, first, a);
    memcpy(data + a, second, b);
    return call(g, type, words, data, a + b);
}

int dc_symlink(struct guest *g, const char *target, const char *path) { return dc_path2(g, FS_SYMLINK, target, path, 0); }

int dc_readlink(struct guest *g, const char *path, char *out, size_t cap) {
    uint64_t words[8] = {(uint64_t)VOS_CWD, cap};
    int status = call(g, FS_READLINK, words, path, strlen(path) + 1);
    if (status >= 0)
        memcpy(out, answer.data, (size_t)status);
    return status;
}

int dc_chdir(struct guest *g, const char *path) { return dc_path(g, FS_CHDIR, path, 0, 0, 0); }

int dc_getcwd(struct guest *g, char *out) {
    uint64_t words[8] = {0};
    int status = call(g, FS_GETCWD, words, NULL, 0);
    if (status >= 0)
        memcpy(out, answer.data, (size_t)status);
    return status;
}

struct entry64 {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

int dc_list(struct guest *g, struct dc_file *dir, void (*each)(void *context, const char *name, uint64_t ino, uint8_t type), void *context) {
    int count = 0;
    for (;;) {
        uint64_t words[8] = {(uint64_t)dir->handle, 32768};
        int status = call(g, FS_GETDENTS, words, NULL, 0);
        if (status <= 0)
            return status < 0 ? status : count;
        uint8_t *data = malloc((size_t)status);
        memcpy(data, answer.data, (size_t)status);
        for (int at = 0; at < status;) {
            const struct entry64 *entry = (const struct entry64 *)(data + at);
            at += entry->d_reclen;
            count++;
            if (each)
                each(context, entry->d_name, entry->d_ino, entry->d_type);
        }
        free(data);
    }
}

int dc_contents(struct guest *g, const char *path, char *out, size_t cap) {
    struct dc_file file;
    int status = dc_open(g, path, O_RDONLY, 0, &file);
    if (status < 0)
        return status;
    status = dc_read(g, &file, out, cap - 1);
    if (status >= 0)
        out[status] = '\0';
    dc_close(g, &file);
    return status;
}
