/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of names: what gets into it, what takes it out again, what happens when it is full, and that a reader gets along with
 * whatever it finds. That it never says anything that is not so is also watched by all other tests (dc.h).
 */
#include "personality/fd/names.h"
#include "setup.h"
#include "vos/fs/fs.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static struct vos_stat st;

static long look(struct guest *g, const char *path, struct names_found *found) {
    memset(found, 0, sizeof(*found));
    found->stat = &st;
    return dc_names(g, path, true, found);
}

static uint32_t number_of(struct guest *g, const char *path) {
    struct names_found found;
    struct vos_stat ignored;
    dc_stat(g, path, true, &ignored);
    assert_int_equal(look(g, path, &found), 0);
    assert_int_equal(found.kind, NAMES_DIR);
    return found.number;
}

static const struct names_header *map(struct guest *g) {
    int fd = names_fd(fs_of(g->vos));
    const struct names_header *table = mmap(NULL, (size_t)lseek(fd, 0, SEEK_END), PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(table, MAP_FAILED);
    close(fd);
    return table;
}

static void unmap(const struct names_header *table) { munmap((void *)(uintptr_t)table, table->size); }

static void test_found_after_first(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), 0);
    assert_int_equal(found.kind, NAMES_FILE);
    assert_int_equal(st.st_size, 10);
    assert_int_equal(look(&g, "/a/./b//f", &found), 0);
    assert_int_equal(look(&g, "/a/b/../b/f", &found), 0);
    assert_int_equal(look(&g, "/a/b/f/", &found), -ENOTDIR);
    assert_int_equal(look(&g, "/a/b/f/x", &found), -ENOTDIR);
    assert_int_equal(dc_stat(&g, "/a/b/nothing", true, &ignored), -ENOENT);
    assert_int_equal(look(&g, "/a/b/nothing", &found), -ENOENT);
    assert_int_equal(look(&g, "/a/b/nothing/more", &found), -ENOENT);
    /* links: followed, and themselves */
    assert_int_equal(dc_stat(&g, "/link/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/link/f", &found), 0);
    assert_int_equal(look(&g, "/link/", &found), 0);
    assert_int_equal(found.kind, NAMES_DIR);
    teardown();
}

static void test_not_for_everyone(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    assert_int_equal(dc_stat(&g, "/c/x/f", true, &ignored), 0); /* x is 0700 */
    assert_int_equal(look(&g, "/c/x/f", &found), NAMES_ASK);
    assert_int_equal(look(&g, "/c/x", &found), NAMES_ASK);
    /* Nor what is not to be listed, and what lies below that. */
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(dc_path(&g, FS_CHMOD, "/a", 0711, 0, 0), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    assert_int_equal(dc_path(&g, FS_CHMOD, "/a", 0755, 0, 0), 0);
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), 0);
    /* Where all may make names there is no saying that one is missing. */
    assert_int_equal(dc_stat(&g, "/tmp/nothing", true, &ignored), -ENOENT);
    assert_int_equal(look(&g, "/tmp/nothing", &found), NAMES_ASK);
    teardown();
}

static void test_mounts_and_other_layers(void **state) {
    char volume[SCRATCH_PATH_MAX];
    scratch_directory(volume);
    setup_volumes = true;
    setup_volume_path = volume;
    setup(2);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    static const char *const paths[] = {"/proc", "/dev", "/dev/null", "/.dvs", "/vol", "/a/b/vol", "/vol/..", "/dev/nothing"};
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        dc_stat(&g, paths[i], true, &ignored);
        assert_int_equal(look(&g, paths[i], &found), NAMES_ASK);
    }
    struct dc_file dir;
    assert_int_equal(dc_open(&g, "/a/b", O_RDONLY | O_DIRECTORY, 0, &dir), 0); /* in advance neither */
    assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/vol", &found), NAMES_ASK);
    teardown();
    setup_volumes = false;
    rmdir(volume);
}

static void test_listed_directory_is_filled(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    struct dc_file dir;
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
    assert_int_equal(look(&g, "/a/f", &found), NAMES_ASK);
    assert_int_equal(dc_stat(&g, "/a/g", false, &ignored), 0);
    assert_int_equal(look(&g, "/a/f", &found), 0);
    assert_true(found.mode != 0);
    assert_int_equal(look(&g, "/a/b", &found), 0);
    assert_true(found.mode != 0); /* with its attributes */
    dc_close(&g, &dir);
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    assert_true(dir.number != 0);
    unsigned before = dc_names_answers;
    assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
    assert_int_equal(dc_names_answers, before + 1);
    dc_close(&g, &dir);
    /* A change of the directory ends its listing. */
    assert_int_equal(dc_path(&g, FS_MKDIR, "/a/made", 0755, 0, 0), 0);
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    before = dc_names_answers;
    assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
    assert_int_equal(dc_names_answers, before);
    teardown();
}

static void test_directory_attributes(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    assert_int_equal(dc_stat(&g, "/a/b", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b", &found), 0);
    assert_true(found.mode != 0);
    struct answer out;
    uint64_t words[8] = {(uint64_t)VOS_CWD, 1000000000, 0, 1000000000};
    assert_int_equal(fake_call(g.vos, g.pid, FS_UTIMENS, words, "/a/b", 5, -1, &out), 0);
    assert_int_equal(dc_stat(&g, "/a/b", true, &ignored), 0);
    assert_int_equal(ignored.st_mtime_s, 1000000000);
    assert_int_equal(look(&g, "/a/b", &found), 0);
    assert_int_equal(found.mode, 0); /* those of the writable layer are asked for */
    teardown();
}

/* By the number of a directory that one stands in. */
static void test_numbers(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100), other = guest_on(1, 101);
    struct names_found found;
    struct vos_stat ignored;
    assert_int_equal(dc_path(&g, FS_MKDIR, "/d/one", 0755, 0, 0), 0);
    assert_int_equal(dc_path(&g, FS_MKDIR, "/d/one/two", 0755, 0, 0), 0);
    uint32_t up = number_of(&g, "/b");
    assert_int_equal(dc_chdir(&g, "/d/one/two"), 0);
    dc_stat(&g, ".", true, &ignored);
    dc_stat(&g, "../..", true, &ignored);
    assert_int_equal(look(&g, "../..", &found), 0);
    assert_int_equal(found.number, number_of(&other, "/d"));
    /* It moves: ".." leads elsewhere. */
    assert_int_equal(dc_path2(&other, FS_RENAME, "/d/one", "/b/moved", 0), 0);
    dc_stat(&g, "../..", true, &ignored);
    assert_int_equal(look(&g, "../..", &found), 0);
    assert_int_equal(found.number, up);
    /* To where not all may look: not even those who stand in it. */
    assert_int_equal(dc_path(&other, FS_MKDIR, "/d/secret", 0700, 0, 0), 0);
    assert_int_equal(dc_path2(&other, FS_RENAME, "/b/moved", "/d/secret/moved", 0), 0);
    assert_int_equal(look(&g, "..", &found), NAMES_ASK);
    dc_stat(&g, "..", true, &ignored);
    assert_int_equal(look(&g, "..", &found), NAMES_ASK);
    assert_int_equal(dc_path2(&other, FS_RENAME, "/d/secret/moved", "/b/moved", 0), 0);
    dc_stat(&g, "..", true, &ignored);
    assert_int_equal(look(&g, "..", &found), 0);
    /* It is removed. */
    assert_int_equal(dc_path(&other, FS_UNLINK, "/b/moved/two", AT_REMOVEDIR, 0, 0), 0);
    assert_int_equal(look(&g, ".", &found), NAMES_ASK);
    dc_stat(&g, ".", true, &ignored);
    assert_int_equal(look(&g, ".", &found), NAMES_ASK);
    teardown();
}

static void test_open_by_number(void **state) {
    setup(2);
    for (unsigned node = 1; node <= 2; node++) {
        struct guest g = guest_on(node, node * 100);
        struct answer out;
        uint64_t words[8] = {number_of(&g, "/a/b")};
        assert_int_equal(fake_call(g.vos, g.pid, FS_OPENDIR, words, NULL, 0, -1, &out), FS_GRANT_HANDLE);
        assert_int_equal(out.words[1], FS_KIND_DIR);
        struct dc_file dir = {.fd = -1, .handle = (int64_t)out.words[0]};
        assert_true(dc_list(&g, &dir, NULL, NULL) > 2);
        dc_close(&g, &dir);
        assert_int_equal(fake_call(g.vos, g.pid, FS_LISTDIR, words, NULL, 0, -1, &out), 0);
        assert_int_equal(dc_open(&g, "/a/b", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
        unsigned before = dc_names_answers;
        assert_true(dc_list(&g, &dir, NULL, NULL) > 2);
        assert_int_equal(dc_names_answers, before + 1);
        dc_close(&g, &dir);
        words[0] = 99999;
        assert_int_equal(fake_call(g.vos, g.pid, FS_LISTDIR, words, NULL, 0, -1, &out), -EAGAIN);
        assert_int_equal(fake_call(g.vos, g.pid, FS_OPENDIR, words, NULL, 0, -1, &out), -ENOENT);
        words[0] = UINT64_MAX;
        assert_int_equal(fake_call(g.vos, g.pid, FS_OPENDIR, words, NULL, 0, -1, &out), -ENOENT);
    }
    /* A number is no right: the directory may have been closed to others since. */
    struct guest root = guest_on(1, 102), two = guest_on(2, 202);
    fake_process(two.vos, 203, 1000, 1000);
    struct answer out;
    uint64_t words[8] = {number_of(&two, "/a/b")};
    assert_int_equal(dc_path(&root, FS_CHMOD, "/a/b", 0700, 0, 0), 0);
    assert_int_equal(fake_call(two.vos, 203, FS_LISTDIR, words, NULL, 0, -1, &out), -EAGAIN);
    assert_int_equal(fake_call(two.vos, 203, FS_OPENDIR, words, NULL, 0, -1, &out), -EACCES);
    assert_int_equal(fake_call(two.vos, 202, FS_OPENDIR, words, NULL, 0, -1, &out), FS_GRANT_HANDLE);
    teardown();
}

/* A change is not done before the other nodes' tables have forgotten. */
static void test_other_nodes_forget_in_time(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200), three = guest_on(3, 300);
    struct names_found found;
    struct vos_stat ignored;
    struct answer out;
    dc_stat(&two, "/a/b/f", true, &ignored);
    dc_stat(&three, "/a/b/made", true, &ignored);
    assert_int_equal(look(&two, "/a/b/f", &found), 0);
    assert_int_equal(look(&three, "/a/b/made", &found), -ENOENT);
    uint64_t words[8] = {(uint64_t)VOS_CWD, 0755};
    fake_request(one.vos, one.pid, FS_MKDIR, words, "/a/b/made", 10, -1, &out);
    for (unsigned i = 0; !out.done && i < 100; i++) {
        assert_true(look(&three, "/a/b/made", &found) != 0);
        fake_run_one();
    }
    assert_true(out.done);
    assert_int_equal(out.status, 0);
    assert_int_equal(look(&three, "/a/b/made", &found), NAMES_ASK);
    assert_int_equal(look(&two, "/a/b/f", &found), NAMES_ASK);
    fake_run(0);
    /* It comes back by new leases. */
    dc_stat(&two, "/a/b/f", true, &ignored);
    assert_int_equal(look(&two, "/a/b/f", &found), 0);
    teardown();
}

/* The image under the container's feet: what the host's own root may do. */
static void test_changed_by_the_host(void **state) {
    setup(2);
    for (unsigned node = 1; node <= 2; node++) {
        struct guest g = guest_on(node, node * 100);
        struct names_found found;
        struct vos_stat ignored;
        struct dc_file dir;
        char name[64];
        dc_stat(&g, "/a/b/f", true, &ignored);
        snprintf(name, sizeof(name), "/a/b/new%u", node);
        assert_int_equal(dc_stat(&g, name, true, &ignored), -ENOENT);
        assert_int_equal(look(&g, "/a/b/f", &found), 0);
        assert_int_equal(look(&g, name, &found), -ENOENT);
        assert_int_equal(dc_open(&g, "/a/b", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
        assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
        dc_close(&g, &dir);
        make_file(image_path, "a/b/f", "longer than it was", 0644, 0);
        make_file(image_path, name, "made", 0644, 0);
        fake_run(0);
        assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
        assert_int_equal(look(&g, name, &found), NAMES_ASK);
        assert_int_equal(dc_stat(&g, name, true, &ignored), 0);
        assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
        assert_int_equal(ignored.st_size, 18);
        assert_int_equal(look(&g, "/a/b/f", &found), 0);
        /* A directory in which things happen all the time is let alone. */
        for (unsigned i = 0; i < 200; i++)
            make_file(image_path, "a/b/f", i % 2 ? "one" : "two", 0644, 0);
        fake_run(0);
        dc_stat(&g, "/a/b/f", true, &ignored);
        assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
        dc_stat(&g, "/a/f", true, &ignored);
        assert_int_equal(look(&g, "/a/f", &found), 0);
        make_file(image_path, "a/b/f", "file a/b/f", 0666, 0);
    }
    teardown();
}

static void test_out_of_watches(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct names_found found;
    struct vos_stat ignored;
    fs_of(g.vos)->watch_max = 3; /* the root and two more */
    dc_stat(&g, "/a/b/f", true, &ignored);
    assert_int_equal(look(&g, "/a/b/f", &found), 0);
    /* All go, so that those that are in use now come in. */
    dc_stat(&g, "/b/d/g", true, &ignored);
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    dc_stat(&g, "/b/d/g", true, &ignored);
    assert_int_equal(look(&g, "/b/d/g", &found), 0);
    /* But not again at once. */
    dc_stat(&g, "/a/b/f", true, &ignored);
    dc_stat(&g, "/a/b/f", true, &ignored);
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    assert_int_equal(look(&g, "/b/d/g", &found), 0);
    teardown();
}

static void test_guests_only_read(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct answer out;
    uint64_t words[8] = {0};
    assert_int_equal(fake_call(g.vos, g.pid, FS_NAMES, words, NULL, 0, -1, &out), 0);
    assert_true(out.fd >= 0);
    assert_true(write(out.fd, "x", 1) < 0);
    assert_true(ftruncate(out.fd, 0) < 0);
    assert_true(fallocate(out.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, out.fd, 0), MAP_FAILED);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, out.fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    assert_true(mprotect(at, 4096, PROT_READ | PROT_WRITE) < 0);
    munmap(at, 4096);
    close(out.fd);
    teardown();
}

static void test_full(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct fs *fs = fs_of(g.vos);
    struct names_found found;
    struct vos_stat ignored;
    struct dc_file dir;
    static char blob[24 * 8000];
    const struct names_header *table = map(&g);
    uint32_t before = table->sequence, number = number_of(&g, "/a/b");
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), 0);
    for (unsigned i = 0; table->sequence == before && i < 1000; i++) {
        names_changed(fs, names_dir(fs, number), "no such name");
        names_listing(fs, names_dir(fs, number), blob, sizeof(blob));
    }
    assert_int_equal(table->sequence, before + 2);
    /* All is forgotten but the numbers, and is learnt again. */
    assert_int_equal(look(&g, "/a/b/f", &found), NAMES_ASK);
    assert_int_equal(dc_stat(&g, "/a/b/f", true, &ignored), 0);
    assert_int_equal(look(&g, "/a/b/f", &found), 0);
    assert_int_equal(number_of(&g, "/a/b"), number);
    assert_int_equal(dc_open(&g, "/a/b", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    assert_true(dc_list(&g, &dir, NULL, NULL) > 0);
    unmap(table);
    teardown();
}

/* ---- readers ---- */

struct race {
    const struct names_header *table;
    atomic_bool over;
    unsigned long answers, asked;
    unsigned wrong;
};

static void *race_read(void *context) {
    struct race *race = context;
    char file[40] = "/a/b/f", missing[40] = "/a/b/none", link[40] = "/link/../b/f";
    while (!atomic_load(&race->over)) {
        struct vos_stat mine;
        struct names_found found = {.stat = &mine};
        long result = names_walk(race->table, 0, file, true, &found);
        race->wrong += result != NAMES_ASK && (result != 0 || found.kind != NAMES_FILE || mine.st_size != 10);
        race->answers += result == 0;
        result = names_walk(race->table, 0, missing, true, &found);
        race->wrong += result != NAMES_ASK && result != -ENOENT;
        race->asked += result == NAMES_ASK;
        result = names_walk(race->table, 0, link, true, &found);
        race->wrong += result != NAMES_ASK && (result != 0 || mine.st_size != 10);
    }
    return NULL;
}

/* Somebody reads while all is taken out, emptied and written again. */
static void test_reader_against_writer(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct fs *fs = fs_of(g.vos);
    struct race race = {.table = map(&g)};
    struct vos_stat ignored;
    static char blob[24 * 8000];
    for (size_t at = 0; at < sizeof(blob); at += 24) {
        uint16_t reclen = 24;
        memset(blob + at, 0xff, 16); /* no offset that leads anywhere good */
        memcpy(blob + at + 16, &reclen, 2);
        blob[at + 19] = '.';
    }
    uint32_t number = number_of(&g, "/a/b"), before = race.table->sequence;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, race_read, &race), 0);
    for (unsigned i = 0; i < 3000; i++) {
        struct tree_dir *dir = names_dir(fs, number);
        dc_stat(&g, "/a/b/f", true, &ignored);
        dc_stat(&g, "/a/b/none", true, &ignored);
        dc_stat(&g, "/link/../b/f", true, &ignored);
        names_changed(fs, dir, i % 2 ? "f" : "none");
        names_listing(fs, dir, blob, sizeof(blob));
    }
    atomic_store(&race.over, true);
    pthread_join(thread, NULL);
    assert_int_equal(race.wrong, 0);
    assert_true(race.answers > 0);
    assert_true(race.table->sequence > before + 4);
    unmap(race.table);
    teardown();
}

static long copy_out(uint64_t to, const void *from, size_t len) {
    memcpy((void *)(uintptr_t)to, from, len);
    return 0;
}

/* Whatever is in the table: a reader ends, and reads nothing outside of it. */
static void test_reader_of_nonsense(void **state) {
    setup(1);
    struct guest g = guest_on(1, 100);
    struct vos_stat ignored;
    struct dc_file dir;
    static const char *const paths[] = {"/a/b/f", "/link/f", "/a/link", "/a/up/a/up/a/up", "/b/d/g", "/a/b/none", "/link/../b/../../a/f"};
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        dc_stat(&g, paths[i], true, &ignored);
    assert_int_equal(dc_open(&g, "/a", O_RDONLY | O_DIRECTORY, 0, &dir), 0);
    dc_list(&g, &dir, NULL, NULL);
    const struct names_header *good = map(&g);
    /* A small copy of it, with its end at an unmapped page. */
    size_t size = NAMES_ARENA_AT + 8192;
    char *base = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    mprotect(base + size, 4096, PROT_NONE);
    struct names_header *bad = (struct names_header *)base;
    unsigned rng = 1;
    memcpy(base, good, size);
    for (unsigned round = 0; round < 3000; round++) {
        memcpy(base, good, NAMES_DIRS_AT + 1024);
        memcpy(base + NAMES_ARENA_AT, (const char *)good + NAMES_ARENA_AT, 8192);
        bad->size = size;
        for (unsigned i = 0; i < 1 + round % 64; i++) {
            rng = rng * 1664525u + 1013904223u;
            uint32_t at = NAMES_ARENA_AT + (rng >> 8) % 2048 / 4 * 4, value = rng % 3 ? rng * 7 : NAMES_ARENA_AT + rng % 9000 / 8 * 8;
            if (rng & 0x100)
                at = NAMES_DIRS_AT + (rng >> 9) % 512 / 4 * 4;
            memcpy(base + at, &value, 4);
        }
        for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
            char path[64], target[VOS_PATH_MAX], list[512];
            struct names_found found = {.stat = &st, .target = target};
            uint32_t length;
            snprintf(path, sizeof(path), "%s", paths[i]);
            (void)names_walk(bad, 0, path, round % 2, &found);
            (void)names_by_number(bad, round % 8, &found);
            (void)names_list(bad, round % 8, list, sizeof(list), &length, copy_out);
        }
    }
    munmap(base, size + 4096);
    unmap(good);
    teardown();
}

int main(void) {
    if (geteuid() != 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_after_first),
        cmocka_unit_test(test_not_for_everyone),
        cmocka_unit_test(test_mounts_and_other_layers),
        cmocka_unit_test(test_listed_directory_is_filled),
        cmocka_unit_test(test_directory_attributes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_open_by_number),
        cmocka_unit_test(test_other_nodes_forget_in_time),
        cmocka_unit_test(test_changed_by_the_host),
        cmocka_unit_test(test_out_of_watches),
        cmocka_unit_test(test_guests_only_read),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_reader_against_writer),
        cmocka_unit_test(test_reader_of_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
