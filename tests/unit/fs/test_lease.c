/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: what other nodes may answer themselves, and that they stop in time. */
#include "setup.h"
#include "vos/fs/fs.h"
#include "vos/fs/remote.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* How many messages an operation of the guest cost: asked, since a lease only shows in that. */
static unsigned cost(struct guest *g, const char *path, int *status) {
    struct vos_stat st;
    unsigned before = fake_delivered();
    *status = dc_stat(g, path, true, &st);
    return fake_delivered() - before;
}

static void test_local_after_first(void **state) {
    setup(3);
    struct guest g = guest_on(2, 200);
    int status;
    assert_true(cost(&g, "/a/b/f", &status) > 0);
    assert_int_equal(status, 0);
    assert_int_equal(cost(&g, "/a/b/f", &status), 0);
    assert_int_equal(cost(&g, "/a/f", &status), 0);
    assert_int_equal(cost(&g, "/a/b/nothing", &status), 0);
    assert_int_equal(status, -ENOENT);
    /* A link of the image leads into leased land by another lease. */
    cost(&g, "/link/f", &status);
    assert_int_equal(cost(&g, "/link/f", &status), 0);
    teardown();
}

static void test_grant_of_image_file(void **state) {
    setup(2);
    struct guest g = guest_on(2, 200);
    struct dc_file file;
    assert_int_equal(dc_open(&g, "/a/f", O_RDONLY, 0, &file), 0);
    assert_true(file.fd >= 0);
    assert_true(file.flags & FS_O_IMMUTABLE);
    dc_close(&g, &file);
    teardown();
}

static void test_revoked_by_create(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200), three = guest_on(3, 300);
    int status;
    cost(&two, "/a/b/f", &status);
    cost(&three, "/a/b/new", &status);
    assert_int_equal(status, -ENOENT);
    assert_int_equal(cost(&three, "/a/b/new", &status), 0);
    struct dc_file file;
    assert_int_equal(dc_open(&one, "/a/b/new", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&one, &file);
    cost(&three, "/a/b/new", &status);
    assert_int_equal(status, 0);
    cost(&two, "/a/b/new", &status);
    assert_int_equal(status, 0);
    /* What lies beside the copied-up directories is leased anew, name by name. */
    cost(&two, "/a/b/f", &status);
    assert_int_equal(cost(&two, "/a/b/f", &status), 0);
    teardown();
}

static void test_create_waits_for_answer(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct answer out;
    struct vos_stat st;
    uint64_t words[8] = {(uint64_t)VOS_CWD, 0755};
    assert_int_equal(dc_stat(&two, "/a/b/f", true, &st), 0);
    assert_non_null(fake_request(one.vos, one.pid, FS_MKDIR, words, "/a/made", 8, -1, &out));
    assert_false(out.done); /* the revocation is on its way */
    fake_run(0);
    assert_true(out.done);
    assert_int_equal(out.status, 0);
    teardown();
}

static void test_lost_holder_does_not_hold_up(void **state) {
    setup(3);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct vos_stat st;
    assert_int_equal(dc_stat(&two, "/a/b/f", true, &st), 0);
    struct answer out;
    uint64_t words[8] = {(uint64_t)VOS_CWD, 0755};
    fake_request(one.vos, one.pid, FS_MKDIR, words, "/a/made", 8, -1, &out);
    fake_node_down(vos, 3, 2);
    fake_run(0);
    assert_true(out.done);
    assert_int_equal(out.status, 0);
    teardown();
}

static void test_grant_overtaken_by_revocation(void **state) {
    setup(2);
    struct guest two = guest_on(2, 200);
    struct fs *fs = fs_of(two.vos);
    lease_revoked(fs, "/c", 50);
    assert_int_equal(lease_install(fs, "/a", 50), -ESTALE);
    assert_int_equal(lease_install(fs, "/a", 51), 0);
    assert_true(lease_covers(fs, fs->root, "a"));
    lease_revoked(fs, "/a", 52);
    assert_false(lease_covers(fs, fs->root, "a"));
    teardown();
}

static void test_unsearchable_directory_ends_leases(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file file;
    struct vos_stat st;
    fake_process(two.vos, 201, 1000, 1000);
    struct guest user = {two.vos, 201};
    assert_int_equal(dc_open(&one, "/a/x", O_WRONLY | O_CREAT, 0644, &file), 0); /* /a has an upper part now */
    dc_close(&one, &file);
    assert_int_equal(dc_stat(&user, "/a/b/f", true, &st), 0);
    assert_int_equal(dc_path(&one, FS_CHMOD, "/a", 0700, 0, 0), 0);
    assert_int_equal(dc_stat(&user, "/a/b/f", true, &st), -EACCES);
    assert_int_equal(dc_stat(&two, "/a/b/f", true, &st), 0);
    teardown();
}

static void test_names_in_tmp_are_not_leased(void **state) {
    setup(2);
    struct guest two = guest_on(2, 200);
    struct dc_file file;
    int status;
    assert_int_equal(dc_open(&two, "/tmp/mine", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&two, &file);
    cost(&two, "/tmp/nothing", &status);
    assert_true(cost(&two, "/tmp/nothing", &status) > 0);
    assert_int_equal(status, -ENOENT);
    teardown();
}

static void test_working_directory(void **state) {
    setup(2);
    struct guest one = guest_on(1, 100), two = guest_on(2, 200);
    struct dc_file file;
    struct vos_stat st;
    char path[VOS_PATH_MAX];
    /* of the image: stays true when something is made in it */
    assert_int_equal(dc_chdir(&two, "/a/b"), 0);
    assert_int_equal(dc_open(&one, "/a/b/new", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&one, &file);
    assert_int_equal(dc_stat(&two, "new", true, &st), 0);
    assert_int_equal(dc_stat(&two, "f", true, &st), 0);
    assert_true(dc_getcwd(&two, path) > 0);
    assert_string_equal(path, "/a/b");
    /* of the writable layer: follows renames */
    assert_int_equal(dc_path(&two, FS_MKDIR, "/c/dir", 0755, 0, 0), 0);
    assert_int_equal(dc_chdir(&two, "/c/dir"), 0);
    assert_int_equal(dc_path2(&one, FS_RENAME, "/c/dir", "/d/moved", 0), 0);
    assert_true(dc_getcwd(&two, path) > 0);
    assert_string_equal(path, "/d/moved");
    assert_int_equal(dc_open(&two, "made", O_WRONLY | O_CREAT, 0644, &file), 0);
    dc_close(&two, &file);
    assert_int_equal(dc_stat(&one, "/d/moved/made", true, &st), 0);
    assert_int_equal(dc_path(&one, FS_UNLINK, "/d/moved/made", 0, 0, 0), 0);
    assert_int_equal(dc_path(&one, FS_UNLINK, "/d/moved", AT_REMOVEDIR, 0, 0), 0);
    assert_int_equal(dc_getcwd(&two, path), -ENOENT);
    teardown();
}

int main(void) {
    if (geteuid() != 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local_after_first),
        cmocka_unit_test(test_grant_of_image_file),
        cmocka_unit_test(test_revoked_by_create),
        cmocka_unit_test(test_create_waits_for_answer),
        cmocka_unit_test(test_lost_holder_does_not_hold_up),
        cmocka_unit_test(test_grant_overtaken_by_revocation),
        cmocka_unit_test(test_unsearchable_directory_ends_leases),
        cmocka_unit_test(test_names_in_tmp_are_not_leased),
        cmocka_unit_test(test_working_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
