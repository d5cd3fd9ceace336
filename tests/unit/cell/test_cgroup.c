/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cell/cgroup.h"
#include "common/cleanup.h"
#include "scratch.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

static void test_names(void **state) {
    static const char *const good[] = {"a", "b-7", "lab/x/dc_1", "A.b"};
    static const char *const bad[] = {"", "/", "a/", "/a", "a//b", ".", "..", "a/..", "a/.b", "a b", "a\n"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
        assert_true(cgroup_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        if (cgroup_name_valid(bad[i]))
            fail_msg("'%s' passed", bad[i]);
    char longest[400];
    memset(longest, 'a', sizeof longest);
    longest[399] = 0;
    assert_false(cgroup_name_valid(longest));
}

static void layout_of(const char *text, struct cgroup_layout *layout) {
    FILE *mounts = fmemopen((void *)text, strlen(text), "r");
    assert_non_null(mounts);
    cgroup_layout_read(mounts, layout);
    fclose(mounts);
}

static void test_layout_version1(void **state) {
    struct cgroup_layout layout;
    struct cgroup group = {.name = "x"};
    char path[PATH_MAX];
    layout_of("proc /proc proc rw 0 0\n"
              "cgroup /cg/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
              "cgroup /cg/cpuset cgroup rw,cpuset 0 0\n"
              "cgroup /cg/mem cgroup rw,memory 0 0\n"
              "cgroup2 /nonexistent/unified cgroup2 rw 0 0\n",
              &layout);
    assert_false(layout.version2);
    group.layout = layout;
    assert_true(cgroup_path(&group, CGROUP_MEMORY, path));
    assert_string_equal(path, "/cg/mem/dvs/x");
    assert_true(cgroup_path(&group, CGROUP_CPU, path));
    assert_string_equal(path, "/cg/cpu,cpuacct/dvs/x");
    assert_false(cgroup_path(&group, CGROUP_PIDS, path));
}

static void test_layout_version2(void **state) {
    char dir[SCRATCH_PATH_MAX], text[256], file[96];
    struct cgroup_layout layout;
    scratch_directory(dir);
    snprintf(file, sizeof file, "%s/cgroup.controllers", dir);
    FILE *controllers = fopen(file, "w");
    fputs("cpuset cpu io memory pids\n", controllers);
    fclose(controllers);
    snprintf(text, sizeof text, "cgroup2 %s cgroup2 rw 0 0\n", dir);
    layout_of(text, &layout);
    assert_true(layout.version2);
    assert_string_equal(layout.mount[CGROUP_CPU], dir);
    controllers = fopen(file, "w");
    fputs("cpuset memory pids\n", controllers); /* "cpu" is no word of it */
    fclose(controllers);
    layout_of(text, &layout);
    assert_false(layout.version2);
    unlink(file);
    rmdir(dir);
}

static void file_read(const struct cgroup *group, enum cgroup_controller controller, const char *name, char out[64]) {
    char path[PATH_MAX], full[PATH_MAX + 64];
    assert_true(cgroup_path(group, controller, path));
    snprintf(full, sizeof full, "%s/%s", path, name);
    FILE *file = fopen(full, "r");
    assert_non_null(file);
    assert_non_null(fgets(out, 64, file));
    out[strcspn(out, "\n")] = 0;
    fclose(file);
}

/* On the machine's own cgroups: limits are set, a process left inside is killed, nothing is left behind. */
static void test_real(void **state) {
    struct cgroup group;
    struct failure failure = {0};
    char name[64], path[PATH_MAX], value[64];
    snprintf(name, sizeof name, "unit-test/%d", getpid());
    int error = cgroup_create(
        &group, name, &(struct cgroup_limits){.pids = 10, .memory_bytes = 64u << 20, .cpu_milli = 500}, &failure);
    if (error == -ENOSYS || geteuid() != 0)
        skip(); /* no controllers here */
    if (error)
        fail_msg("%s", failure.message);
    file_read(&group, CGROUP_PIDS, "pids.max", value);
    assert_int_equal(atoi(value), 10 + CGROUP_OWN_TASKS);
    file_read(&group, CGROUP_MEMORY, group.layout.version2 ? "memory.max" : "memory.limit_in_bytes", value);
    assert_int_equal(atoi(value), 64 << 20);
    file_read(&group, CGROUP_CPU, group.layout.version2 ? "cpu.max" : "cpu.cfs_quota_us", value);
    assert_int_equal(atoi(value), 50000);
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    assert_int_equal(cgroup_add(&group, child), 0);
    (void)signal(SIGCHLD, SIG_IGN); /* it is reaped at once, else the group would not become empty */
    assert_int_equal(cgroup_remove(&group, 5000), 0);
    (void)signal(SIGCHLD, SIG_DFL);
    assert_true(cgroup_path(&group, CGROUP_PIDS, path));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(kill(child, 0), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_layout_version1),
                                       cmocka_unit_test(test_layout_version2), cmocka_unit_test(test_real)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
