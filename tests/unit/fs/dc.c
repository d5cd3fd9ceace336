/* SPDX-License-Identifier: Apache-2.0 */
#include "dc.h"

#include "personality/fd/names.h"
#include "vos/fs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct answer answer;

/* ---- the table of names, as a guest sees it ---- */

unsigned dc_names_answers;
static uint32_t cwd_numbers[4096];

void dc_start(void) { memset(cwd_numbers, 0, sizeof(cwd_numbers)); }

static const struct names_header *table_map(struct guest *g) {
    int fd = names_fd(fs_of(g->vos));
    if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
        abort(); /* guests must not be able to write it */
    const struct names_header *table = mmap(NULL, (size_t)lseek(fd, 0, SEEK_END), PROT_READ, MAP_SHARED, fd, 0);
    if (table == MAP_FAILED || table->magic != NAMES_MAGIC)
        abort();
    close(fd);
    return table;
}

static void table_unmap(const struct names_header *table) { munmap((void *)(uintptr_t)table, table->size); }

long dc_names(struct guest *g, const char *path, bool follow, struct names_found *found) {
    const struct names_header *table = table_map(g);
    char copy[VOS_PATH_MAX + 8];
    snprintf(copy, sizeof(copy), "%s", path);
    found->number = 0;
    long result = *path ? names_walk(table, cwd_numbers[g->pid % 4096], copy, follow, found) : NAMES_ASK;
    table_unmap(table);
    return result;
}

static void differs(struct guest *g, const char *what, const char *path, long ours, long theirs) {
    fprintf(stderr, "node %u: %s %s: the table of names says %ld, fs %ld\n", g->vos->node, what, path, ours, theirs);
    abort();
}

static void compare_stat(struct guest *g, const char *path, const struct names_found *found, const struct vos_stat *st) {
    struct vos_stat ours = *found->stat, theirs = *st;
    ours.st_atime_s = theirs.st_atime_s; /* the host's, who moves it */
    ours.st_atime_ns = theirs.st_atime_ns;
    if (found->mode && memcmp(&ours, &theirs, sizeof(ours)) != 0)
        differs(g, "attributes of", path, ours.st_mtime_s, theirs.st_mtime_s);
}

static int call(struct guest *g, uint32_t type, const uint64_t words[8], const void *data, size_t len) {
    int status = fake_call(g->vos, g->pid, type, words, data, len, -1, &answer);
    if (type == FS_CHDIR)
        cwd_numbers[g->pid % 4096] = 0;
    else if (len && (int64_t)words[0] == VOS_CWD && *(const char *)data != '/')
        cwd_numbers[g->pid % 4096] = (uint32_t)answer.words[FS_W_NUMBER];
    return status;
}

int dc_openat(struct guest *g, int64_t dir, const char *path, int flags, int mode, struct dc_file *out) {
    uint64_t words[8] = {(uint64_t)dir, (uint32_t)flags, (uint32_t)mode};
    struct names_found found = {0};
    long known = dir != VOS_CWD || flags & ~(O_DIRECTORY | O_NOFOLLOW) ? NAMES_ASK : dc_names(g, path, !(flags & O_NOFOLLOW), &found);
    int status = call(g, FS_OPEN, words, path, strlen(path) + 1);
    if (known < 0 && known != NAMES_ASK && known != status)
        differs(g, "open", path, known, status);
    if (known == 0 && found.kind == NAMES_DIR && status != FS_GRANT_HANDLE)
        differs(g, "open", path, 0, status);
    dc_names_answers += known != NAMES_ASK;
    if (status < 0)
        return status;
    *out = (struct dc_file){.fd = answer.fd, .handle = status == FS_GRANT_FD ? -1 : (int64_t)answer.words[0],
                            .kind = (uint32_t)answer.words[1], .flags = (uint32_t)answer.words[2]};
    out->number = known == 0 && found.kind == NAMES_DIR ? found.number : 0;
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
    struct vos_stat known_stat, again_stat;
    struct names_found found = {.stat = &known_stat}, again = {.stat = &again_stat};
    long known = dc_names(g, path, follow, &found);
    int status = call(g, FS_STAT, words, path, strlen(path) + 1);
    if (status >= 0)
        memcpy(out, answer.data, sizeof(*out));
    if (known != NAMES_ASK && known != status)
        differs(g, "stat", path, known, status);
    if (known == 0)
        compare_stat(g, path, &found, out);
    long now = dc_names(g, path, follow, &again);
    if (now != NAMES_ASK && now != status)
        differs(g, "stat again", path, now, status);
    if (now == 0)
        compare_stat(g, path, &again, out);
    dc_names_answers += known != NAMES_ASK;
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
    struct names_found found = {0};
    long known = type == FS_ACCESS ? dc_names(g, path, !(w2 & AT_SYMLINK_NOFOLLOW), &found) : NAMES_ASK;
    int status = call(g, type, words, path, strlen(path) + 1);
    uint32_t wanted = (uint32_t)w1 * 0111 | (w1 & (R_OK | W_OK) ? 0444 : 0);
    bool granted = known == 0 && (!w1 || (found.kind == NAMES_DIR ? !(w1 & W_OK) : (found.mode & wanted) == wanted));
    if (w1 <= 7 && ((known < 0 && known != NAMES_ASK) || granted) && known != status)
        differs(g, "access", path, known, status);
    return status;
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
    char target[VOS_PATH_MAX];
    struct names_found found = {.target = target};
    long known = dc_names(g, path, false, &found);
    int status = call(g, FS_READLINK, words, path, strlen(path) + 1);
    if (known == 0)
        known = found.kind == NAMES_LINK ? (long)found.target_length : -EINVAL;
    if (status >= 0)
        memcpy(out, answer.data, (size_t)status);
    if (known != NAMES_ASK && (known != status || (known > 0 && memcmp(target, out, (size_t)known) != 0)))
        differs(g, "readlink", path, known, status);
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

static long copy_out(uint64_t to, const void *from, size_t len) {
    memcpy((void *)(uintptr_t)to, from, len);
    return 0;
}

int dc_list(struct guest *g, struct dc_file *dir, void (*each)(void *context, const char *name, uint64_t ino, uint8_t type), void *context) {
    int count = 0;
    static char known[32768];
    uint32_t length = 0;
    const struct names_header *table = table_map(g);
    bool is_known = names_list(table, dir->number, known, sizeof(known), &length, copy_out) == 0 && length <= sizeof(known);
    table_unmap(table);
    for (;;) {
        uint64_t words[8] = {(uint64_t)dir->handle, 32768};
        int status = call(g, FS_GETDENTS, words, NULL, 0);
        if (is_known && count == 0 && (status != (int)length || memcmp(known, answer.data, length) != 0))
            differs(g, "listing", "", length, status);
        dc_names_answers += is_known && count == 0;
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
