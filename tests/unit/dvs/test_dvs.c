/* SPDX-License-Identifier: Apache-2.0 */
/* The command's pure parts: numbers, sizes, names, tables, options. What talks to a daemon is tested in tests/system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/lab.h"
#include "dvs/output.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

static void test_number(void **state) {
    static const char *const bad[] = {"", " 1", "1 ", "x", "1x", "-1", "11", "99999999999999999999", "0x5", "1.5"};
    long long value;
    assert_true(parse_number("0", 0, 10, &value) && value == 0);
    assert_true(parse_number("10", 0, 10, &value) && value == 10);
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        assert_false(parse_number(bad[i], 0, 10, &value));
}

static void test_size(void **state) {
    static const struct {
        const char *text;
        long long bytes;
    } good[] = {{"0", 0},           {"17", 17},          {"5b", 5},
                {"1k", 1024},       {"2M", 2 << 20},     {"3GiB", 3LL << 30},
                {"1tb", 1LL << 40}, {"7KB", 7 * 1024LL}, {"8388607t", 8388607LL << 40}};
    static const char *const bad[] = {"",    "k", "-1", "1x", "1kk", "1ki", "1.5g", "8388608t", "99999999999999999999",
                                      "1bb", " 1"};
    long long bytes;
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_true(parse_size(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        assert_false(parse_size(bad[i], &bytes));
}

static void test_signal(void **state) {
    assert_int_equal(parse_signal("9"), SIGKILL);
    assert_int_equal(parse_signal("TERM"), SIGTERM);
    assert_int_equal(parse_signal("sigusr1"), SIGUSR1);
    assert_int_equal(parse_signal("64"), 64);
    assert_int_equal(parse_signal("0"), 0);
    assert_int_equal(parse_signal("65"), 0);
    assert_int_equal(parse_signal("NOPE"), 0);
    assert_int_equal(parse_signal(""), 0);
}

static void test_exit_codes(void **state) {
    assert_int_equal(failure_exit_code("no-such-dc"), EXIT_NOT_FOUND);
    assert_int_equal(failure_exit_code("name-taken"), EXIT_CONFLICT);
    assert_int_equal(failure_exit_code("no-quorum"), EXIT_UNAVAILABLE);
    assert_int_equal(failure_exit_code("no-such-command"), EXIT_NO_COMMAND);
    assert_int_equal(failure_exit_code("something new"), EXIT_FAILED);
    assert_int_equal(failure_exit_code(""), EXIT_FAILED);
}

static void test_lab_names(void **state) {
    static const char *const good[] = {"a", "lab", "n1", "a_b", "abcdefghijklmnop"};
    static const char *const bad[] = {"",   "A",    "1a", "_a", "a-b", "a/b", "..", "a.b", "abcdefghijklmnopq",
                                      "sw", "host", "a b"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
        assert_true(lab_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        assert_false(lab_name_valid(bad[i]));
}

static void test_lab_places(void **state) {
    struct lab lab = {.name = "two", .subnet = 3, .node_count = 2, .nodes = {{1, "a"}, {2, "b"}}};
    char path[PATH_MAX], address[32];
    assert_ptr_equal(lab_node_by_name(&lab, "b"), &lab.nodes[1]);
    assert_null(lab_node_by_name(&lab, "c"));
    lab_node_run_path(&lab, &lab.nodes[1], path);
    assert_string_equal(path, "/run/dvs/lab/two/b");
    lab_netns_path("two", "sw", path);
    assert_string_equal(path, "/run/netns/dvs-two-sw");
    lab_node_address(&lab, &lab.nodes[1], address);
    assert_string_equal(address, "10.77.3.2");
}

/* What a function prints on standard output, up to 4 KiB. */
static char printed[4096];
static void stdout_capture(void (*print)(void)) {
    fflush(stdout);
    cleanup_close int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cleanup_close int saved = dup(STDOUT_FILENO);
    assert_true(file >= 0 && saved >= 0 && dup2(file, STDOUT_FILENO) >= 0);
    print();
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    ssize_t n = pread(file, printed, sizeof printed - 1, 0);
    assert_true(n >= 0);
    printed[n] = '\0';
}

static void print_table(void) {
    static const char *const titles[] = {"NAME", ">N", "REST", NULL};
    struct table *table = table_create(titles);
    table_cell(table, "a");
    table_cell(table, "%d", 5);
    table_cell(table, "x\ny\033[2Jz");
    table_cell(table, "gr\xc3\xbc\xc3\x9f"); /* four letters in six bytes */
    table_cell(table, "%d", 12345);
    table_cell(table, "last");
    assert_int_equal(table_print(table), 0);
}

static void test_table(void **state) {
    stdout_capture(print_table);
    assert_string_equal(printed, "NAME      N  REST\n"
                                 "a         5  x?y?[2Jz\n"
                                 "gr\xc3\xbc\xc3\x9f  12345  last\n");
}

static void print_empty_table(void) {
    static const char *const titles[] = {"ONE", "TWO", NULL};
    assert_int_equal(table_print(table_create(titles)), 0);
}

static void test_empty_table(void **state) {
    stdout_capture(print_empty_table);
    assert_string_equal(printed, "ONE  TWO\n");
}

static void test_times(void **state) {
    char buffer[32];
    assert_string_equal(format_cpu_time(buffer, 0), "0:00.0");
    assert_string_equal(format_cpu_time(buffer, 61550), "1:01.5");
    assert_string_equal(format_cpu_time(buffer, 3661000), "1:01:01");
    assert_string_equal(format_date(buffer, 0), "-");
}

static void test_options(void **state) {
    static const struct option options[] = {COMMON_OPTIONS, {"own", required_argument, NULL, OPTION_OWN}, {0}};
    char *argv[] = {"verb", "--node", "a", "--own", "v", "--format=json", "--", "-x", NULL};
    struct command command = {.verb = "verb"};
    int exit_code = EXIT_OK;
    optind = 0;
    assert_int_equal(option_next(&command, 8, argv, ":h", options, &exit_code), OPTION_OWN);
    assert_string_equal(optarg, "v");
    assert_int_equal(option_next(&command, 8, argv, ":h", options, &exit_code), OPTIONS_END);
    assert_string_equal(command.target.node, "a");
    assert_true(command.json);
    assert_string_equal(argv[optind], "-x");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number),     cmocka_unit_test(test_size),        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_exit_codes), cmocka_unit_test(test_lab_names),   cmocka_unit_test(test_lab_places),
        cmocka_unit_test(test_table),      cmocka_unit_test(test_empty_table), cmocka_unit_test(test_times),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests_name("dvs", tests, NULL, NULL);
}
