/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void names_add(struct names *names, const char *name, uint8_t type) {
    if (names->count == 256 || strcmp(name, "proc") == 0 || strcmp(name, "dev") == 0)
        return;
    snprintf(names->entry[names->count].name, sizeof(names->entry[0].name), "%s", name);
    names->entry[names->count++].type = type;
}

static int compare(const void *a, const void *b) { return strcmp(a, b); }

void names_text(struct names *names, char *out, size_t cap) {
    size_t at = 0;
    qsort(names->entry, names->count, sizeof(names->entry[0]), compare);
    out[0] = '\0';
    for (unsigned i = 0; i < names->count && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s/%u ", names->entry[i].name, names->entry[i].type);
}

static void join(char out[256], const char *root, const char *path) { snprintf(out, 256, "%s/%s", root, path); }

void make_file(const char *root, const char *path, const char *text, unsigned mode, unsigned uid) {
    char name[256];
    join(name, root, path);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchown(fd, uid, uid) < 0 || fchmod(fd, mode) < 0)
        abort();
    close(fd);
}

void make_dir(const char *root, const char *path, unsigned mode, unsigned uid) {
    char name[256];
    join(name, root, path);
    if (mkdir(name, 0700) < 0 || chown(name, uid, uid) < 0 || chmod(name, mode) < 0)
        abort();
}

void make_link(const char *root, const char *path, const char *target) {
    char name[256];
    join(name, root, path);
    if (symlink(target, name) < 0)
        abort();
}

void make_sample_tree(const char *root) {
    make_dir(root, "a", 0755, 0);
    make_dir(root, "a/b", 0755, 0);
    make_dir(root, "a/b/c", 0755, 1000);
    make_dir(root, "b", 0755, 1000);
    make_dir(root, "b/d", 0775, 1000);
    make_dir(root, "c", 0777, 0);
    make_dir(root, "c/x", 0700, 0);
    make_dir(root, "d", 0755, 0);
    make_dir(root, "tmp", 01777, 0);
    make_dir(root, "ro", 0555, 1000);
    make_file(root, "a/f", "file a/f", 0644, 0);
    make_file(root, "a/g", "file a/g", 0600, 0);
    make_file(root, "a/b/f", "file a/b/f", 0666, 0);
    make_file(root, "b/f", "file b/f", 0644, 1000);
    make_file(root, "b/d/g", "file b/d/g", 0444, 1000);
    make_file(root, "c/f", "file c/f", 0777, 0);
    make_file(root, "c/x/f", "file c/x/f", 0644, 0);
    make_file(root, "tmp/f", "file tmp/f", 0644, 0);
    make_file(root, "tmp/g", "file tmp/g", 0644, 1000);
    make_file(root, "ro/f", "file ro/f", 0644, 1000);
    make_link(root, "link", "a/b");
    make_link(root, "up", "../b/d");
    make_link(root, "a/link", "../c/f");
    make_link(root, "a/up", "..");
    make_link(root, "b/link", "nowhere");
    make_link(root, "c/link", "link");
    make_link(root, "d/link", "/a/f");
    make_link(root, "d/up", "/c");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) { return remove(path); }

void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }
