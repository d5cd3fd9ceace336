/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as path_resolution(7) and open(2) say, mount points, listings, what users may do, /proc, /dev and the tools. */
#include "setup.h"
#include "vos/fs/fs.h"
#include "vos/pm/info.h"
#include "vos/tty/tty.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static struct answer answer;

/* ---- the walk ---- */

static void test_walk_table(void **state) {
    static const struct {
        const char *path;
        int status; /* of stat */
        bool dir;
    } table[] = {
        {"/", 0, true}, {"//", 0, true}, {"/.", 0, true}, {"/..", 0, true}, {"/../../a", 0, true}, {"/a", 0, true}, {"/a/", 0, true},
        {"//a//b///f", 0, false}, {"/a/f/", -ENOTDIR, false}, {"/a/f/.", -ENOTDIR, false}, {"/a/f/..", -ENOTDIR, false},
        {"/a/f/x", -ENOTDIR, false}, {"/nothing", -ENOENT, false}, {"/nothing/x", -ENOENT, false}, {"/nothing/..", -ENOENT, false},
        {"", -ENOENT, false}, {"/link", 0, true}, {"/link/", 0, true}, {"/link/f", 0, false}, {"/link/../f", 0, false}, {"/up", 0, true},
        {"/a/up/a/f", 0, false}, {"/c/link", -ELOOP, false}, {"/c/link/", -ELOOP, false}, {"/b/link", -ENOENT, false}, {"/d/up/f", 0, false},
        {"/d/link", 0, false}, {"/d/link/", -ENOTDIR, false}, {"/.dvs.wh.a", -ENOENT, false}, {"/.dvs.tmp", -ENOENT, false},
        {"/proc", 0, true}, {"/proc/", 0, true}, {"/proc/..", 0, true}, {"/proc/../a/f", 0, false}, {"/proc/nothing", -ENOENT, false},
        {"/proc/sys/kernel/../../uptime", 0, false}, {"/dev", 0, true}, {"/dev/null", 0, false}, {"/dev/null/", -ENOTDIR, false}, {"/dev/sda", -ENOENT, false},
        {"/dev/shm", 0, true}, {"/dev/shm/..", 0, true}, {"/dev/shm/../null", 0, false}, {"/dev/pts", 0, true}, {"/dev/pts/x", -ENOENT, false},
        {"/.dvs/bin/onnode", 0, false}, {"/.dvs/bin/../nodes", 0, false}, {"/.dvs/..", 0, true}, {"/vol", 0, true}, {"/vol/..", 0, true},
        {"/vol/file", 0, false}, {"/vol/dir/../file", 0, false}, {"/vol/dir/../../a/f", 0, false}, {"/vol/escape", -ENOENT, false},
        {"/vol/inside", 0, false}, {"/a/b/vol/file", 0, false}, {"/vol/nothing", -ENOENT, false},
    };
    char volume[SCRATCH_PATH_MAX];
    scratch_directory(volume);
    chmod(volume, 0755);
    make_file(volume, "file", "in the volume", 0644, 0);
    make_dir(volume, "dir", 0755, 0);
    make_link(volume, "escape", "../../../../../../etc/hostname");
    make_link(volume, "inside", "/a/f");
    setup_volumes = true;
    setup_volume_path = volume;
    setup(3);
    struct guest g[3] = {guest_on(1, 100), guest_on(2, 200), guest_on(3, 300)};
    for (unsigned i = 0; i < ARRAY_LENGTH(table); i++)
        for (unsigned n = 0; n < 3; n++)
            for (unsigned again = 0; again < 2; again++) { /* the second time by leases */
                struct vos_stat st;
                int status = dc_stat(&g[n], table[i].path, true, &st);
                if (status != table[i].status || (status == 0 && S_ISDIR(st.st_mode) != table[i].dir))
                    fail_msg("node %u: %s gives %d (mode %o)", n + 1, table[i].path, status, st.st_mode);
            }
    struct dc_file file;
    char text[64];
    for (unsigned n = 0; n < 3; n++) {
        assert_int_equal(dc_contents(&g[n], "/vol/file", text, sizeof(text)), 13);
        char name[32];
        snprintf(name, sizeof(name), "/vol/made%u", n);
        assert_int_equal(dc_open(&g[n], name, O_WRONLY | O_CREAT | O_EXCL, 0640, &file), 0);
        assert_int_equal(file.fd >= 0, n == 1); /* node 2 has the directory */
        dc_close(&g[n], &file);
        assert_int_equal(dc_path2(&g[n], FS_RENAME, name, "/c/x/elsewhere", 0), -EXDEV);
        assert_int_equal(dc_path2(&g[n], FS_RENAME, name, "/vol/dir/moved", 0), 0);
        assert_int_equal(dc_path(&g[n], FS_UNLINK, "/vol/dir/moved", 0, 0, 0), 0);
        /* Two long paths in one operation. */
        char deep[2][200] = {"/vol", "/vol"}, from[220], to[220];
        for (unsigned depth = 0; depth < 30; depth++)
            for (unsigned i = 0; i < 2; i++) {
                snprintf(deep[i] + strlen(deep[i]), 8, "/%c%02u", i ? 'y' : 'x', depth);
                assert_int_equal(dc_path(&g[n], FS_MKDIR, deep[i], 0755, 0, 0), 0);
            }
        snprintf(from, sizeof(from), "%s/f", deep[0]);
        snprintf(to, sizeof(to), "%s/g", deep[1]);
        assert_int_equal(dc_open(&g[n], from, O_WRONLY | O_CREAT | O_EXCL, 0640, &file), 0);
        dc_close(&g[n], &file);
        assert_int_equal(dc_path2(&g[n], FS_LINK, from, to, 0), 0);
        assert_int_equal(dc_path2(&g[n], FS_RENAME, from, to, 0), 0); /* of the same file: nothing happens */
        assert_int_equal(dc_path(&g[n], FS_UNLINK, to, 0, 0, 0), 0);
        assert_int_equal(dc_path2(&g[n], FS_RENAME, from, to, 0), 0);
        assert_int_equal(dc_path(&g[n], FS_UNLINK, to, 0, 0, 0), 0);
        for (unsigned i = 0; i < 2; i++)
            for (; strlen(deep[i]) > 4; *strrchr(deep[i], '/') = '\0')
                assert_int_equal(dc_path(&g[n], FS_UNLINK, deep[i], AT_REMOVEDIR, 0, 0), 0);
        assert_int_equal(dc_path(&g[n], FS_UNLINK, "/vol", AT_REMOVEDIR, 0, 0), -EBUSY);
        assert_int_equal(dc_open(&g[n], "/a/b/vol/x", O_WRONLY | O_CREAT, 0640, &file), -EROFS);
        assert_int_equal(dc_chdir(&g[n], "/vol/dir"), 0);
        assert_true(dc_getcwd(&g[n], text) > 0);
        assert_string_equal(text, "/vol/dir");
        assert_int_equal(dc_contents(&g[n], "../file", text, sizeof(text)), 13);
        assert_int_equal(dc_contents(&g[n], "../../a/f", text, sizeof(text)), 8);
    }
    teardown();
    setup_volumes = false;
    remove_tree(volume);
}

/* Who opens a file to run it learns where it lies, links followed. */
static void test_open_to_run(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct answer out;
    uint64_t words[8] = {0, O_RDONLY, 0, 1};
    assert_int_equal(fake_call(g.vos, g.pid, FS_OPEN, words, "/link/f", 8, -1, &out), FS_GRANT_FD);
    close(out.fd);
    assert_int_equal(out.len, sizeof(struct vos_stat) + 6);
    assert_memory_equal(out.data + sizeof(struct vos_stat), "/a/b/f", 6);
    words[3] = 0;
    assert_int_equal(fake_call(g.vos, g.pid, FS_OPEN, words, "/link/f", 8, -1, &out), FS_GRANT_FD);
    close(out.fd);
    assert_int_equal(out.len, sizeof(struct vos_stat));
    teardown();
}

static void test_open_flags(void **state) {
    setup(2);
    static const struct {
        const char *path;
        int flags, status;
    } table[] = {
        {"/a", O_RDONLY, 0}, {"/a", O_WRONLY, -EISDIR}, {"/a", O_RDWR, -EISDIR}, {"/a", O_RDONLY | O_CREAT, -EISDIR},
        {"/a/f", O_RDONLY | O_DIRECTORY, -ENOTDIR}, {"/link", O_RDONLY | O_NOFOLLOW, -ELOOP}, {"/link", O_PATH | O_NOFOLLOW, 0},
        {"/link", O_PATH | O_NOFOLLOW | O_DIRECTORY, -ENOTDIR}, {"/a/f", O_PATH, 0}, {"/a/f", O_WRONLY | O_CREAT | O_EXCL, -EEXIST},
        {"/b/link", O_WRONLY | O_CREAT | O_EXCL, -EEXIST}, {"/b/link", O_WRONLY | O_CREAT, 0}, {"/b/nowhere", O_RDONLY, 0},
        {"/a/new/", O_WRONLY | O_CREAT, -EISDIR}, {"/nothing/new", O_WRONLY | O_CREAT, -ENOENT}, {"/a/f/new", O_WRONLY | O_CREAT, -ENOTDIR},
        {"/c", O_RDWR | O_TMPFILE, 0}, {"/c", O_RDONLY | O_TMPFILE, -EINVAL}, {"/c/f", O_RDWR | O_TMPFILE, -ENOTDIR},
        {"/dev/null", O_RDWR | O_CREAT | O_TRUNC, 0}, {"/dev/new", O_WRONLY | O_CREAT, -EACCES}, {"/proc/new", O_WRONLY | O_CREAT, -ENOENT},
        {"/.dvs/new", O_WRONLY | O_CREAT, -EROFS}, {"/proc/uptime", O_WRONLY, -EACCES}, {"/a/.dvs.wh.f", O_WRONLY | O_CREAT, -EINVAL},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(table); i++)
        for (unsigned n = 1; n <= 2; n++) {
            struct guest g = guest_on(n, 100 + n);
            struct dc_file file;
            int status = dc_open(&g, table[i].path, table[i].flags, 0644, &file);
            if (status != table[i].status)
                fail_msg("node %u: %s with %o gives %d", n, table[i].path, (unsigned)table[i].flags, status);
            if (status == 0)
                dc_close(&g, &file);
        }
    teardown();
}

/* ---- listings ---- */

struct seen {
    uint8_t bits[2048];
    unsigned count, doubles;
};

static void see(void *context, const char *name, uint64_t ino, uint8_t type) {
    struct seen *seen = context;
    unsigned number;
    if (sscanf(name, "file%u", &number) != 1 || number >= 16384)
        return;
    seen->count++;
    if (seen->bits[number / 8] & 1u << number % 8)
        seen->doubles++;
    seen->bits[number / 8] |= (uint8_t)(1u << number % 8);
}

/* A descriptor that only names a file or link, on any node and whether that node may answer for it or not. */
static void test_open_for_path_only(void **state) {
    static const char *const paths[] = {"/a/f", "/link", "/a/b/f", "/a/g"};
    for (unsigned changed = 0; changed < 2; changed++) {
        setup(3);
        struct guest user = guest_on(1, 100), *g = &user;
        uint64_t words[4] = {100, 1000, 1000, 022};
        assert_int_equal(fake_pm_call(&vos[0], FS_S_CREDS, words, NULL, 0, &answer), 0);
        struct guest nodes[] = {guest_on(1, 101), guest_on(2, 200), guest_on(3, 300)};
        struct dc_file file;
        struct vos_stat named, held;
        char name[600];
        for (unsigned i = 0; i < ARRAY_LENGTH(paths) * 3; i++) {
            struct guest *at = &nodes[2 - i % 3];
            const char *path = paths[i / 3];
            assert_int_equal(dc_open(at, path, O_PATH | O_NOFOLLOW, 0, &file), 0);
            assert_int_equal(file.kind, FS_KIND_PATH);
            if (changed && i / 3 == 0) /* it comes to lie in the writable layer while the descriptor is held */
                assert_int_equal(dc_path(&nodes[0], FS_CHMOD, path, 0640 + i % 3, 0, 0), 0);
            assert_int_equal(dc_fstat(at, &file, &held), 0);
            assert_int_equal(dc_stat(at, path, false, &named), 0);
            assert_int_equal(held.st_mode, named.st_mode);
            assert_int_equal(held.st_ino, named.st_ino);
            if (S_ISREG(held.st_mode)) {
                uint64_t times[8] = {(uint64_t)file.handle, 5, 0, 6, 0, AT_EMPTY_PATH};
                assert_int_equal(fake_call(at->vos, at->pid, FS_UTIMENS, times, "", 1, -1, &answer), 0);
                assert_int_equal(dc_fstat(at, &file, &held), 0);
                assert_int_equal(held.st_mtime_s, 6);
            }
            if (S_ISLNK(held.st_mode)) {
                uint64_t owner[8] = {(uint64_t)file.handle, 0, 1000 + i, AT_EMPTY_PATH};
                assert_int_equal(fake_call(at->vos, at->pid, FS_CHOWN, owner, "", 1, -1, &answer), 0);
                assert_int_equal(dc_stat(at, path, false, &named), 0);
                assert_int_equal(named.st_gid, 1000 + i);
                assert_int_equal(dc_stat(at, path, true, &named), 0);
                assert_int_equal(named.st_gid, 0);
            }
            dc_close(at, &file);
        }
        /* What follows a file, or lies where the caller may not search, is not looked at. */
        snprintf(name, sizeof(name), "/a/f/%0300d", 0);
        for (unsigned n = 0; n < 3; n++)
            assert_int_equal(dc_stat(&nodes[n], name, true, &named), -ENOTDIR);
        snprintf(name, sizeof(name), "/c/x/%0300d", 0);
        assert_int_equal(dc_stat(g, name, true, &named), -EACCES);
        teardown();
    }
}

/* The way up, from a directory that was closed to the caller after it was opened. */
static void test_up_from_closed_directory(void **state) {
    setup(3);
    for (unsigned n = 1; n <= 3; n++) {
        struct guest root = guest_on(1, 110), g = guest_on(n, n * 100);
        uint64_t creds[4] = {n * 100, 1000, 1000, 022};
        struct dc_file dir;
        struct vos_stat st;
        assert_int_equal(dc_path(&root, FS_CHMOD, "/a/b", 0755, 0, 0), 0);
        assert_int_equal(fake_pm_call(&vos[n - 1], FS_S_CREDS, creds, NULL, 0, &answer), 0);
        assert_int_equal(dc_open(&g, "/a/b", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
        uint64_t words[8] = {(uint64_t)dir.handle};
        assert_true(dir.handle >= 0);
        assert_int_equal(fake_call(g.vos, g.pid, FS_STAT, words, "../f", 5, -1, &answer), 0);
        assert_int_equal(dc_path(&root, FS_CHMOD, "/a/b", 0700, 0, 0), 0);
        assert_int_equal(dc_stat(&g, "/a/f", true, &st), 0);
        assert_int_equal(fake_call(g.vos, g.pid, FS_STAT, words, "../f", 5, -1, &answer), -EACCES);
        dc_close(&g, &dir);
    }
    teardown();
}

static void test_big_directory(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    char name[64];
    for (unsigned i = 0; i < 5000; i++) { /* half in the image, half made */
        snprintf(name, sizeof(name), "c/file%u", i);
        make_file(image_path, name, "", 0644, 0);
        snprintf(name, sizeof(name), "/c/file%u", 5000 + i);
        assert_int_equal(dc_path(&one, FS_MKNOD, name, S_IFREG | 0644, 0, 0), 0);
    }
    for (unsigned n = 0; n < 2; n++) {
        struct guest *g = n ? &two : &one;
        struct seen seen = {0};
        struct dc_file dir;
        assert_int_equal(dc_open(g, "/c", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
        dc_list(g, &dir, see, &seen);
        assert_int_equal(seen.count, 10000);
        assert_int_equal(seen.doubles, 0);
        dc_close(g, &dir);
    }
    /* removed while it is read, as rm -r does */
    struct dc_file dir;
    assert_int_equal(dc_open(&two, "/c", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    struct seen seen = {0};
    for (;;) {
        uint64_t words[8] = {(uint64_t)dir.handle, 4096};
        int status = fake_call(two.vos, two.pid, FS_GETDENTS, words, NULL, 0, -1, &answer);
        assert_true(status >= 0);
        if (!status)
            break;
        uint8_t *copy = malloc((size_t)status);
        memcpy(copy, answer.data, (size_t)status);
        for (int at = 0; at < status; at += *(uint16_t *)(void *)(copy + at + 16)) {
            const char *entry = (const char *)copy + at + 19;
            if (strncmp(entry, "file", 4) != 0)
                continue;
            see(&seen, entry, 0, 0);
            snprintf(name, sizeof(name), "/c/%s", entry);
            assert_int_equal(dc_path(&two, FS_UNLINK, name, 0, 0, 0), 0);
        }
        free(copy);
    }
    assert_int_equal(seen.count, 10000);
    dc_close(&two, &dir);
    teardown();
}

static uint64_t found_ino;
static void find_ino(void *context, const char *name, uint64_t ino, uint8_t type) {
    if (strcmp(name, context) == 0)
        found_ino = ino;
}

/* Programs that compare inode numbers (rm, find, tar) must not be misled when a directory is copied up. */
static void test_directory_keeps_its_inode(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    struct vos_stat before, after;
    struct dc_file file, dir;
    assert_int_equal(dc_stat(&g, "/a/b", true, &before), 0);
    assert_int_equal(dc_open(&g, "/a/b/new", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&g, &file);
    assert_int_equal(dc_stat(&g, "/a/b", true, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_dev, after.st_dev);
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    dc_list(&g, &dir, find_ino, (void *)"b");
    assert_int_equal(found_ino, after.st_ino);
    dc_close(&g, &dir);
    teardown();
}

/* ---- who may do what ---- */

static uint64_t listed_ino(struct guest *guest, const char *path, const char *name) {
    struct dc_file dir;
    found_ino = 0;
    assert_int_equal(dc_open(guest, path, O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    dc_list(guest, &dir, find_ino, (void *)name);
    dc_close(guest, &dir);
    return found_ino;
}

/* ... and a file that is copied up; but not what then comes to be at its name. */
static void test_file_keeps_its_inode(void **state) {
    setup(2);
    struct guest g[2] = {guest_on(1, 100), guest_on(2, 200)};
    for (unsigned n = 0; n < 2; n++) {
        const char *const path = n ? "/b/f" : "/a/f";
        struct vos_stat before, after;
        struct dc_file file;
        assert_int_equal(dc_stat(&g[n], path, false, &before), 0);
        assert_int_equal(dc_open(&g[n], path, O_WRONLY | O_APPEND, 0, &file), 0);
        dc_close(&g[n], &file);
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(dc_stat(&g[k], path, false, &after), 0);
            assert_int_equal(after.st_ino, before.st_ino);
            assert_int_equal(listed_ino(&g[k], n ? "/b" : "/a", "f"), before.st_ino);
        }
        assert_int_equal(dc_path(&g[n], FS_UNLINK, path, 0, 0, 0), 0);
        assert_int_equal(dc_open(&g[n], path, O_WRONLY | O_CREAT | O_EXCL, 0644, &file), 0);
        dc_close(&g[n], &file);
        assert_int_equal(dc_stat(&g[n], path, false, &after), 0);
        assert_true(after.st_ino != before.st_ino);
        assert_int_equal(listed_ino(&g[n], n ? "/b" : "/a", "f"), after.st_ino);
    }
    teardown();
}

static void test_permissions(void **state) {
    setup(2);
    struct guest root = guest_on(2, 200), user = {&vos[1], 201};
    struct dc_file file;
    struct vos_stat st;
    uint32_t groups[] = {5, 6, 7};
    uint64_t words[4] = {201, 1000, 1000, 022};
    assert_int_equal(fake_pm_call(&vos[1], FS_S_CREDS, words, groups, sizeof(groups), &answer), 0);
    assert_int_equal(dc_open(&user, "/a/f", O_RDONLY, 0, &file), 0);
    dc_close(&user, &file);
    assert_int_equal(dc_open(&user, "/a/f", O_WRONLY, 0, &file), -EACCES);
    assert_int_equal(dc_open(&user, "/a/g", O_RDONLY, 0, &file), -EACCES);
    assert_int_equal(dc_open(&user, "/a/new", O_WRONLY | O_CREAT, 0644, &file), -EACCES);
    assert_int_equal(dc_stat(&user, "/c/x/f", true, &st), -EACCES);
    assert_int_equal(dc_path(&user, FS_UNLINK, "/tmp/f", 0, 0, 0), -EPERM);  /* sticky, not ours */
    assert_int_equal(dc_path(&user, FS_UNLINK, "/tmp/g", 0, 0, 0), 0);
    assert_int_equal(dc_path(&user, FS_CHMOD, "/a/f", 0777, 0, 0), -EPERM);
    assert_int_equal(dc_path(&user, FS_CHOWN, "/b/f", 1000, 7, 0), 0); /* a group of the caller */
    assert_int_equal(dc_path(&user, FS_CHOWN, "/b/f", 1000, 8, 0), -EPERM);
    assert_int_equal(dc_path(&user, FS_CHOWN, "/b/f", 0, 7, 0), -EPERM);
    assert_int_equal(dc_stat(&root, "/b/f", true, &st), 0);
    assert_int_equal(st.st_gid, 7);
    /* what the caller makes is the caller's */
    assert_int_equal(dc_open(&user, "/c/mine", O_WRONLY | O_CREAT, 0640, &file), 0);
    dc_close(&user, &file);
    assert_int_equal(dc_stat(&root, "/c/mine", true, &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    /* a set-group-id directory hands its group on */
    assert_int_equal(dc_path(&root, FS_MKDIR, "/c/shared", 0777, 0, 0), 0);
    assert_int_equal(dc_path(&root, FS_CHOWN, "/c/shared", 0, 6, 0), 0);
    assert_int_equal(dc_path(&root, FS_CHMOD, "/c/shared", 02777, 0, 0), 0);
    assert_int_equal(dc_path(&user, FS_MKDIR, "/c/shared/dir", 0755, 0, 0), 0);
    assert_int_equal(dc_stat(&root, "/c/shared/dir", true, &st), 0);
    assert_int_equal(st.st_gid, 6);
    assert_int_equal(st.st_mode, S_IFDIR | 02755);
    /* the image is as it was */
    char path[300];
    struct stat host;
    snprintf(path, sizeof(path), "%s/b/f", image_path);
    assert_int_equal(stat(path, &host), 0);
    assert_int_equal(host.st_gid, 1000);
    teardown();
}

static void test_xattr(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    uint64_t set[8] = {(uint64_t)VOS_CWD, 1, 0, 5, 0}, get[8] = {(uint64_t)VOS_CWD, 0, 0, 100}, list[8] = {(uint64_t)VOS_CWD, 2, 0, 100};
    static const char data[] = "/a/f\0user.note\0value";
    assert_int_equal(fake_call(g.vos, g.pid, FS_XATTR, set, data, sizeof(data) - 1, -1, &answer), 0);
    assert_int_equal(fake_call(g.vos, g.pid, FS_XATTR, get, data, sizeof(data) - 1, -1, &answer), 5);
    assert_memory_equal(answer.data, "value", 5);
    assert_int_equal(fake_call(g.vos, g.pid, FS_XATTR, list, data, sizeof(data) - 1, -1, &answer), 10);
    assert_string_equal((char *)answer.data, "user.note");
    static const char trusted[] = "/a/f\0trusted.x\0value";
    assert_int_equal(fake_call(g.vos, g.pid, FS_XATTR, set, trusted, sizeof(trusted) - 1, -1, &answer), -EPERM);
    assert_int_equal(fake_call(g.vos, g.pid, FS_XATTR, get, trusted, sizeof(trusted) - 1, -1, &answer), -ENODATA);
    teardown();
}

/* Changes through a granted fd of an image file reach its copy. */
static void test_change_by_host_fd(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    struct dc_file file;
    struct vos_stat st;
    assert_int_equal(dc_open(&g, "/a/f", O_RDONLY, 0, &file), 0);
    uint64_t words[8] = {FS_CHMOD, 0711};
    assert_int_equal(fake_call(g.vos, g.pid, FS_HOSTFD_OP, words, NULL, 0, file.fd, &answer), 0);
    assert_int_equal(dc_stat(&g, "/a/f", true, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0711);
    close(file.fd);
    struct guest one = guest_on(1, 100);
    assert_int_equal(dc_open(&one, "/a/f", O_RDWR, 0, &file), 0);
    words[1] = 0722;
    assert_int_equal(fake_call(one.vos, one.pid, FS_HOSTFD_OP, words, NULL, 0, file.fd, &answer), 0);
    assert_int_equal(dc_stat(&g, "/a/f", true, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0722);
    assert_int_equal(fake_call(one.vos, one.pid, FS_HOSTFD_INFO, words, NULL, 0, file.fd, &answer), 0);
    assert_string_equal((char *)answer.data + sizeof(st), "/a/f");
    close(file.fd);
    teardown();
}

/* The same by a handle: "" and AT_EMPTY_PATH, also of a file that has lost its name. */
static void test_change_by_handle(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file file;
    struct vos_stat st;
    assert_int_equal(dc_open(&two, "/c/new", O_RDWR | O_CREAT, 0644, &file), 0);
    assert_true(file.handle >= 0);
    uint64_t mode[8] = {(uint64_t)file.handle, 0711, AT_EMPTY_PATH}, owner[8] = {(uint64_t)file.handle, 3, 4, AT_EMPTY_PATH};
    uint64_t times[8] = {(uint64_t)file.handle, 11, 0, 22, 0, AT_EMPTY_PATH}, readable[8] = {(uint64_t)file.handle, R_OK, AT_EMPTY_PATH};
    uint64_t set[8] = {(uint64_t)file.handle, 1, AT_EMPTY_PATH, 5}, get[8] = {(uint64_t)file.handle, 0, AT_EMPTY_PATH, 100};
    static const char attribute[] = "\0user.note\0value";
    assert_int_equal(fake_call(two.vos, two.pid, FS_CHOWN, owner, "", 1, -1, &answer), 0);
    assert_int_equal(fake_call(two.vos, two.pid, FS_CHMOD, mode, "", 1, -1, &answer), 0);
    assert_int_equal(fake_call(two.vos, two.pid, FS_UTIMENS, times, "", 1, -1, &answer), 0);
    assert_int_equal(fake_call(two.vos, two.pid, FS_ACCESS, readable, "", 1, -1, &answer), 0);
    assert_int_equal(fake_call(two.vos, two.pid, FS_XATTR, set, attribute, sizeof(attribute) - 1, -1, &answer), 0);
    assert_int_equal(fake_call(two.vos, two.pid, FS_XATTR, get, attribute, sizeof(attribute) - 1, -1, &answer), 5);
    assert_int_equal(dc_stat(&one, "/c/new", true, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0711);
    assert_int_equal(st.st_uid, 3);
    assert_int_equal(st.st_gid, 4);
    assert_int_equal(st.st_mtime_s, 22);
    assert_int_equal(dc_path(&one, FS_UNLINK, "/c/new", 0, 0, 0), 0);
    mode[1] = 0700;
    assert_int_equal(fake_call(two.vos, two.pid, FS_CHMOD, mode, "", 1, -1, &answer), 0);
    assert_int_equal(dc_fstat(&two, &file, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0700);
    dc_close(&two, &file);
    teardown();
}

static void test_fifo(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    static struct answer reader, writer;
    assert_int_equal(dc_path(&one, FS_MKNOD, "/c/fifo", S_IFIFO | 0666, 0, 0), 0);
    struct dc_file file;
    assert_int_equal(dc_open(&one, "/c/fifo", O_WRONLY | O_NONBLOCK, 0, &file), -ENXIO);
    uint64_t words[8] = {(uint64_t)VOS_CWD, O_RDONLY};
    fake_request(two.vos, two.pid, FS_OPEN, words, "/c/fifo", 8, -1, &reader);
    fake_run(0);
    assert_false(reader.done);
    words[1] = O_WRONLY;
    fake_request(one.vos, one.pid, FS_OPEN, words, "/c/fifo", 8, -1, &writer);
    fake_run(0);
    assert_true(writer.done && reader.done);
    assert_int_equal(writer.status, FS_GRANT_FD);
    assert_int_equal(reader.status, FS_GRANT_HANDLE);
    assert_int_equal(write(writer.fd, "through", 7), 7);
    struct dc_file in = {.fd = -1, .handle = (int64_t)reader.words[0]};
    char text[16];
    assert_int_equal(dc_read(&two, &in, text, sizeof(text)), 7);
    close(writer.fd);
    assert_int_equal(dc_read(&two, &in, text, sizeof(text)), 0);
    /* Who gives up waiting leaves nothing behind. */
    words[1] = O_WRONLY;
    dc_close(&two, &in);
    fake_run(0);
    struct dvk_request *req = fake_request(one.vos, one.pid, FS_OPEN, words, "/c/fifo", 8, -1, &writer);
    fake_run(0);
    assert_false(writer.done);
    fake_cancel(one.vos, req);
    assert_int_equal(writer.status, -EINTR);
    teardown();
}

/* ---- /proc, /dev, tools ---- */

static void pm_server(struct vos *v, struct dvk_request *req) {
    struct dvk_message reply = {0};
    struct pm_process_info info = {.pid = (uint32_t)req->msg.payload.words[0], .ppid = 1, .pgid = 7, .sid = 7, .euid = 0, .node = 2,
                                   .state = 'S', .threads = 1, .utime = 12, .comm = "worker", .cmdline_len = 10};
    if (req->msg.type == PM_S_INFO && info.pid == 300) {
        memcpy(req->reply_data, &info, sizeof(info));
        memcpy((char *)req->reply_data + sizeof(info), "worker\0-x", 10);
        reply.data_len = sizeof(info) + 10;
    } else if (req->msg.type == PM_S_LIST) {
        info.pid = req->msg.payload.words[1] ? 300 : 100;
        info.cmdline_len = 0;
        memcpy(req->reply_data, &info, sizeof(info));
        reply.data_len = sizeof(info);
        reply.payload.words[0] = 1;
        reply.payload.words[1] = req->msg.payload.words[1] ? 0 : 1;
    } else
        reply.status = -ESRCH;
    dvk_reply(v->dvk, req, &reply, NULL, 0);
}

static char listed[4096];
static void list_name(void *context, const char *name, uint64_t ino, uint8_t type) {
    strcat(listed, name);
    strcat(listed, " ");
}

static void test_proc(void **state) {
    setup(2);
    fake_server = pm_server;
    struct guest g = guest_on(1, 100), two = guest_on(2, 300);
    char text[8192];
    struct dc_file dir;
    assert_int_equal(dc_readlink(&g, "/proc/self", text, sizeof(text)), 3);
    assert_memory_equal(text, "100", 3);
    assert_true(dc_contents(&g, "/proc/300/stat", text, sizeof(text)) > 0);
    assert_memory_equal(text, "300 (worker) S 1 7 7 ", 21);
    unsigned fields = 1;
    for (const char *c = text; *c; c++)
        fields += *c == ' ';
    assert_int_equal(fields, 52);
    assert_int_equal(dc_contents(&g, "/proc/300/cmdline", text, sizeof(text)), 10);
    assert_memory_equal(text, "worker\0-x", 10);
    assert_true(dc_contents(&g, "/proc/300/status", text, sizeof(text)) > 0);
    assert_non_null(strstr(text, "\nPPid:\t1\n"));
    assert_int_equal(dc_contents(&g, "/proc/301/stat", text, sizeof(text)), -ENOENT);
    assert_true(dc_contents(&g, "/proc/uptime", text, sizeof(text)) > 0);
    assert_true(dc_contents(&g, "/proc/sys/kernel/pid_max", text, sizeof(text)) > 0);
    assert_string_equal(text, "4096\n");
    assert_true(dc_contents(&g, "/proc/mounts", text, sizeof(text)) > 0);
    assert_int_equal(dc_open(&g, "/proc", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    listed[0] = '\0';
    dc_list(&g, &dir, list_name, NULL);
    assert_non_null(strstr(listed, " 100 300 "));
    assert_non_null(strstr(listed, " self "));
    /* Where a process works, only its node knows. */
    assert_int_equal(dc_chdir(&two, "/a/b"), 0);
    int length = dc_readlink(&g, "/proc/300/cwd", text, sizeof(text));
    assert_int_equal(length, 4);
    assert_memory_equal(text, "/a/b", 4);
    assert_int_equal(dc_contents(&g, "/proc/300/cwd/f", text, sizeof(text)), 10);
    dc_close(&g, &dir);
    teardown();
}

static void test_devices_and_tools(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    char text[8192];
    struct dc_file file;
    struct vos_stat st;
    assert_int_equal(dc_open(&g, "/dev/zero", O_RDONLY, 0, &file), 0);
    assert_true(file.fd >= 0);
    assert_int_equal(read(file.fd, text, 4), 4);
    assert_int_equal(dc_fstat(&g, &file, &st), 0);
    assert_int_equal(st.st_rdev, makedev(1, 5));
    close(file.fd);
    assert_true(dc_contents(&g, "/.dvs/bin/onall", text, sizeof(text)) > 0);
    assert_memory_equal(text, "#!/bin/sh\n", 10);
    assert_int_equal(dc_contents(&g, "/.dvs/nodes", text, sizeof(text)), 12);
    assert_string_equal(text, "n1 up\nn2 up\n");
    assert_int_equal(dc_path(&g, FS_ACCESS, "/.dvs/bin/onnode", X_OK, 0, 0), 0);
    assert_int_equal(dc_path(&g, FS_ACCESS, "/.dvs/nodes", X_OK, 0, 0), -EACCES);
    assert_int_equal(dc_path(&g, FS_UNLINK, "/.dvs/nodes", 0, 0, 0), -EROFS);
    assert_int_equal(dc_path(&g, FS_UNLINK, "/dev", AT_REMOVEDIR, 0, 0), -EBUSY);
    teardown();
}

int main(void) {
    if (geteuid() != 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk_table),
        cmocka_unit_test(test_open_to_run),
        cmocka_unit_test(test_open_flags),
        cmocka_unit_test(test_open_for_path_only),
        cmocka_unit_test(test_up_from_closed_directory),
        cmocka_unit_test(test_big_directory),
        cmocka_unit_test(test_directory_keeps_its_inode),
        cmocka_unit_test(test_file_keeps_its_inode),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_xattr),
        cmocka_unit_test(test_change_by_host_fd),
        cmocka_unit_test(test_change_by_handle),
        cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_proc),
        cmocka_unit_test(test_devices_and_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
