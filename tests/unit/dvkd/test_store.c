/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration on disk. */
#include "check.h"

#include "common/cleanup.h"
#include "dvkd/store.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char directory[SCRATCH_PATH_MAX];
static char path[96];

static int setup(void **state) {
    scratch_directory(directory);
    snprintf(path, sizeof path, "%s/config.db", directory);
    return 0;
}

static int teardown(void **state) {
    char name[128];
    unlink(path);
    static const char *const others[] = {"-journal", "-wal", "-shm", ".new"};
    for (unsigned i = 0; i < ARRAY_LENGTH(others); i++) {
        snprintf(name, sizeof name, "%s%s", path, others[i]);
        unlink(name);
    }
    return rmdir(directory);
}

static void make_some(void) {
    struct store *store;
    struct config *config;
    struct config_effect effect;
    assert_int_equal(store_open(path, &store, &config, NULL), 0);
    cleanup_json json_t *change =
        json_pack("{s:s, s:s, s:[i], s:i, s:i, s:{s:s, s:s, s:[s]}}", "op", "dc-create", "name", "one", "nodes", 1,
                  "primary", 1, "created", 1000, "spec", "image", "host", "place", "local", "argv", "true");
    assert_int_equal(config_apply(config, change, &effect, NULL), 0);
    assert_int_equal(store_write_effect(store, config, &effect), 0);
    store_close(store);
    config_free(config);
}

static void what_is_written_is_read_again(void **state) {
    struct store *store;
    struct config *config;
    struct config_effect effect;
    make_some();
    assert_int_equal(store_open(path, &store, &config, NULL), 0);
    assert_int_equal(config->epoch, 1);
    assert_string_equal(config->dcs[1]->name, "one");
    cleanup_json json_t *change = json_pack("{s:s, s:i, s:I, s:b}", "op", "dc-remove", "dc", 1, "serial",
                                            (json_int_t)config->dcs[1]->serial, "force", 1);
    assert_int_equal(config_apply(config, change, &effect, NULL), 0);
    config->view = 9;
    assert_int_equal(store_write_effect(store, config, &effect), 0);
    store_close(store);
    uint64_t digest = config_digest(config);
    config_free(config);
    assert_int_equal(store_open(path, &store, &config, NULL), 0);
    assert_null(config->dcs[1]);
    assert_int_equal(config->view, 9);
    assert_true(config_digest(config) == digest);
    config->epoch = 70;
    assert_int_equal(store_write_all(store, config), 0);
    store_close(store);
    config_free(config);
    assert_int_equal(store_open(path, &store, &config, NULL), 0);
    assert_int_equal(config->epoch, 70);
    store_close(store);
    config_free(config);
}

static void expect_refusal(void) {
    struct store *store;
    struct config *config;
    struct failure failure = {0};
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(store_open(path, &store, &config, &failure), -EUCLEAN);
    assert_string_equal(failure.code, "damaged");
    assert_non_null(strstr(failure.message, path));
    assert_true(failure.hint[0] != 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_size, after.st_size); /* left as it was */
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

static void overwrite(off_t offset, const char *text, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, len, offset), len);
    close(fd);
}

static void a_damaged_file_is_refused_and_kept(void **state) {
    char garbage[4096];
    memset(garbage, 'x', sizeof garbage);
    make_some();
    assert_int_equal(truncate(path, 0), 0);
    expect_refusal();
    overwrite(0, garbage, sizeof garbage);
    expect_refusal();
    unlink(path);
    make_some();
    overwrite(4096, garbage, sizeof garbage); /* a table's page */
    expect_refusal();
    unlink(path);
    make_some();
    assert_int_equal(truncate(path, 5000), 0);
    expect_refusal();
}

static void run_sql(const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void contents_that_make_no_sense_are_refused(void **state) {
    static const char *const sql[] = {
        "UPDATE dc SET json = '{}'",          "UPDATE dc SET json = 'no json'",
        "UPDATE dc SET json = replace(json, '\"host\"', '7')", "UPDATE meta SET value = 2 WHERE key = 'format'",
        "UPDATE meta SET value = -1 WHERE key = 'epoch'",      "DROP TABLE node",
        "INSERT INTO node VALUES (1, '[]')",  "DELETE FROM meta",
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(sql); i++) {
        make_some();
        run_sql(sql[i]);
        expect_refusal();
        unlink(path);
    }
}

static void a_missing_directory_is_an_error_of_its_own(void **state) {
    struct store *store;
    struct config *config;
    struct failure failure = {0};
    assert_true(store_open("/nonexistent/config.db", &store, &config, &failure) < 0);
    assert_string_equal(failure.code, "unavailable");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_refused_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(contents_that_make_no_sense_are_refused, setup, teardown),
        cmocka_unit_test(a_missing_directory_is_an_error_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
