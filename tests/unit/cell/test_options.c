/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cell/options.h"
#include "common/cleanup.h"
#include <errno.h>
#include <string.h>

static int parse(struct cell_options *options, struct failure *failure, const char *extra) {
    char text[1024];
    snprintf(text, sizeof text,
             "dvs-cell --dc 7 --name web --node 2 --nodes 1=a,2=b,9=c.d --primary 1 --image host --uid-base 1879048192 "
             "--cgroup b-7 --libexec /usr/libexec/dvs %s",
             extra);
    static char copy[1024];
    memcpy(copy, text, sizeof copy);
    char *argv[64], *rest = copy;
    int argc = 0;
    for (char *part; (part = strsep(&rest, " "));)
        if (*part)
            argv[argc++] = part;
    argv[argc] = NULL;
    *failure = (struct failure){0};
    return options_parse(argc, argv, options, failure);
}

static void test_all(void **state) {
    struct cell_options o;
    struct failure f;
    assert_int_equal(parse(&o, &f,
                           "--mount node=2,src=/srv/x,dst=/data,ro --mount node=1,src=/y,dst=/y --memory 268435456 "
                           "--cpus 1.5 --pids 100 --place spread --strict --trace"),
                     0);
    assert_int_equal(o.dc, 7);
    assert_string_equal(o.name, "web");
    assert_int_equal(o.uid_base, 1879048192);
    assert_int_equal(o.mount_count, 2);
    assert_string_equal(o.mounts[0].source, "/srv/x");
    assert_string_equal(o.mounts[0].path, "/data");
    assert_true(o.mounts[0].read_only);
    assert_false(o.mounts[1].read_only);
    assert_int_equal(o.memory_bytes, 268435456);
    assert_int_equal(o.cpu_milli, 1500);
    assert_int_equal(o.pids, 100);
    assert_string_equal(o.place, "spread");
    assert_true(o.strict && o.trace);
    options_free(&o);
}

static void test_defaults(void **state) {
    struct cell_options o;
    struct failure f;
    assert_int_equal(parse(&o, &f, ""), 0);
    assert_string_equal(o.place, "local");
    assert_int_equal(o.cpu_milli, 0);
    assert_null(o.upper);
}

static void test_refused(void **state) {
    static const struct {
        const char *extra, *code;
    } cases[] = {
        {"--dc 0", "bad-request"},
        {"--dc 4097", "bad-request"},
        {"--dc -1", "bad-request"},
        {"--dc 1x", "bad-request"},
        {"--name a/b", "bad-request"},
        {"--node 3", "bad-request"},
        {"--nodes 2=b,1=a", "bad-request"},
        {"--nodes 1=a,,2=b", "bad-request"},
        {"--nodes 1=a,2=", "bad-request"},
        {"--image etc", "bad-request"},
        {"--upper /x", "bad-request"},  /* not the primary */
        {"--primary 2", "bad-request"}, /* the primary needs one */
        {"--uid-base 0", "bad-request"},
        {"--uid-base 4294901760", "bad-request"},
        {"--mount node=1,src=/y", "bad-request"},
        {"--mount node=1,src=y,dst=/y", "bad-request"},
        {"--mount node=1,src=/y,dst=/y,rw", "bad-request"},
        {"--memory 1000", "limit-out-of-range"},
        {"--memory 99999999999999999999", "limit-out-of-range"},
        {"--cpus 0", "limit-out-of-range"},
        {"--cpus 0.001", "limit-out-of-range"},
        {"--cpus 1.2345", "limit-out-of-range"},
        {"--cpus two", "limit-out-of-range"},
        {"--cpus .5", "limit-out-of-range"},
        {"--pids 0", "limit-out-of-range"},
        {"--cgroup ../x", "bad-request"},
        {"--libexec relative", "bad-request"},
        {"--unknown", "bad-request"},
        {"--dc", "bad-request"},
        {"stray", "bad-request"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct cell_options o;
        struct failure f;
        if (parse(&o, &f, cases[i].extra) != -EINVAL || strcmp(f.code, cases[i].code) != 0 || !f.message[0])
            fail_msg("%s: code '%s', message '%s'", cases[i].extra, f.code, f.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
