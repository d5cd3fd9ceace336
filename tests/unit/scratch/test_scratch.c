/* SPDX-License-Identifier: Apache-2.0 */
/* However a test program ends, its files do not stay. */
#include "scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A child makes files and ends by the signal, or by exit if 0. */
static void ends_by(int number) {
    int pipe_ends[2];
    char path[SCRATCH_PATH_MAX] = "", below[SCRATCH_PATH_MAX + 16];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        scratch_file(path);
        scratch_directory(path);
        snprintf(below, sizeof below, "%s/below", path);
        if (mkdir(below, 0700) < 0 || symlink("/", strcat(below, "/link")) < 0 ||
            write(pipe_ends[1], path, sizeof path) != sizeof path)
            _exit(2);
        if (number)
            kill(getpid(), number);
        exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, number);
    assert_int_equal(read(pipe_ends[0], path, sizeof path), sizeof path);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    *strrchr(path, '/') = '\0';
    int left = 0;
    for (int i = 0; (left = access(path, F_OK) == 0) && number && i < 1000; i++)
        usleep(10000); /* the keeper takes its time; an orderly exit waits for it */
    assert_false(left);
}

static void test_exit(void **state) { ends_by(0); }
static void test_killed(void **state) { ends_by(SIGKILL); }
static void test_interrupted(void **state) { ends_by(SIGINT); }

static void test_apart(void **state) {
    char one[SCRATCH_PATH_MAX], two[SCRATCH_PATH_MAX];
    scratch_directory(one);
    scratch_directory(two);
    assert_string_not_equal(one, two);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exit), cmocka_unit_test(test_killed),
                                       cmocka_unit_test(test_interrupted), cmocka_unit_test(test_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
