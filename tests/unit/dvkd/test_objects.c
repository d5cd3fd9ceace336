/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as a state machine: what each change does, what it tells, what is refused. */
#include "check.h"

#include "common/base64.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/config.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct config *config;
static struct failure failure;

static int setup(void **state) {
    config = config_new();
    return config ? 0 : -1;
}
static int teardown(void **state) {
    config_free(config);
    return 0;
}

/* Apply a change given as JSON text; single quotes stand for double ones. */
static int apply(const char *format, ...) {
    char text[70000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    cleanup_json json_t *change = json_loads(text, 0, NULL);
    assert_non_null(change);
    json_object_set_new(change, "op", json_string("object"));
    struct config_effect effect;
    failure = (struct failure){0};
    uint64_t before = config->epoch;
    int result = config_apply(config, change, &effect, &failure);
    assert_int_equal(config->epoch, before + (result == 0));
    assert_true(result == 0 || failure.message[0]);
    return result;
}

static const json_t *row(const char *kind, const char *name) { return objects_find(&config->objects, 0, kind, name); }
static json_int_t number(const json_t *object, const char *key) {
    json_int_t n = -1;
    assert_true(field_integer(object, key, &n));
    return n;
}

/* The events since the last call, as "kind:name:who holds or how many" words. */
static const char *events(void) {
    static char text[1024];
    cleanup_json json_t *list = objects_take_events(&config->objects);
    json_t *event;
    size_t i, len = 0;
    text[0] = 0;
    json_array_foreach(list, i, event) {
        struct objects_who who = {0};
        objects_who_read(json_object_get(json_object_get(event, "head"), "who"), &who);
        const json_t *queue = json_object_get(json_object_get(event, "row"), "q");
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%s:%d", len ? " " : "", field_string(event, "e"),
                                field_string(event, "name"),
                                queue ? (int)json_array_size(queue) : (int)who.session);
    }
    return text;
}

static void keys_have_revisions(void **state) {
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'YQ=='}"), 0);
    json_int_t first = number(row("kv", "x"), "m");
    assert_int_equal(number(row("kv", "x"), "c"), first);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'Yg=='}"), 0);
    assert_true(number(row("kv", "x"), "m") > first);
    assert_int_equal(number(row("kv", "x"), "c"), first);
    assert_int_equal(number(row("kv", "x"), "n"), 2);
    assert_string_equal(events(), "kv:x:0 kv:x:0");
    assert_int_equal(apply("{'do': 'delete', 'dc': 0, 'name': 'x'}"), 0);
    assert_null(row("kv", "x"));
    assert_int_equal(apply("{'do': 'delete', 'dc': 0, 'name': 'x'}"), -DVK_ENOKEY);
    assert_string_equal(events(), "kv:x:0");
    assert_true(config->objects.bytes == 0 && config->objects.space[0].keys == 0);
}

static void compare_and_swap(void **state) {
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': '', 'expect': 7}"), -DVK_ECONFLICT);
    assert_string_equal(failure.code, "conflict");
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': '', 'expect': 0}"), 0);
    json_int_t revision = number(row("kv", "x"), "m");
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': '', 'expect': 0}"), -DVK_ECONFLICT);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'YQ==', 'expect': %lld}", revision), 0);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'Yg==', 'expect': %lld}", revision),
                     -DVK_ECONFLICT);
    assert_int_equal(apply("{'do': 'delete', 'dc': 0, 'name': 'x', 'expect': %lld}", revision), -DVK_ECONFLICT);
    assert_string_equal(field_string(row("kv", "x"), "v"), "YQ==");
}

static void limits_hold(void **state) {
    static char value[OBJECTS_VALUE_MAX + 1];
    cleanup_free char *most = base64_text(value, OBJECTS_VALUE_MAX), *more = base64_text(value, OBJECTS_VALUE_MAX + 1);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': '%s'}", more), -EMSGSIZE);
    unsigned fit = OBJECTS_SPACE_MAX / OBJECTS_VALUE_MAX;
    for (unsigned i = 0; i < fit; i++)
        assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'k%u', 'value': '%s'}", i, most), 0);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'YQ=='}"), -ENOSPC);
    assert_string_equal(failure.code, "full");
    /* what replaces something of its own size has room; what was deleted makes room */
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'k0', 'value': '%s'}", most), 0);
    assert_int_equal(apply("{'do': 'delete', 'dc': 0, 'name': 'k1'}"), 0);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'x', 'value': 'YQ=='}"), 0);
    for (unsigned i = 0; i < fit; i++)
        (void)apply("{'do': 'delete', 'dc': 0, 'name': 'k%u'}", i);
    for (unsigned i = 1; i < OBJECTS_KEYS_MAX; i++)
        assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'n%u', 'value': ''}", i), 0);
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': 'y', 'value': ''}"), -ENOSPC);
    assert_int_equal(apply("{'do': 'put', 'dc': 7, 'name': 'y', 'value': ''}"), -DVK_ENODC);
}

/* covers: dvk_lock dvk_leader_campaign dvk_barrier dvk_group_join: -ENOSPC: here */
static void places_are_limited(void **state) {
    for (int i = 0; i < (int)OBJECTS_QUEUE_MAX; i++)
        assert_int_equal(apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [1,9,%d,5,1]}", i + 1), 0);
    assert_int_equal(apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [2,9,1,5,1]}"), -ENOSPC);
    for (int i = 1; i < (int)OBJECTS_OTHERS_MAX; i++)
        assert_int_equal(apply("{'do': 'enter', 'kind': 'leader', 'dc': 0, 'name': 'o%d', 'text': '', 'who': [1,9,1,5,1]}", i), 0);
    assert_int_equal(apply("{'do': 'enter', 'kind': 'leader', 'dc': 0, 'name': 'o', 'who': [1,9,1,5,1]}"), -ENOSPC);
    assert_int_equal(apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'm', 'who': [1,9,1,5,1]}"), -ENOSPC);
    assert_int_equal(apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'who': [1,9,1,5,1], 'count': 2}"), -ENOSPC);
    assert_int_equal(apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [1,9,1,5,1]}"), -ENOSPC);
    assert_string_equal(failure.code, "full");
}

static void bad_changes_are_refused(void **state) {
    static const char *const texts[] = {
        "{}", "{'do': 'put'}", "{'do': 'put', 'dc': 0, 'name': ''}", "{'do': 'put', 'dc': 0, 'name': 'x'}",
        "{'do': 'put', 'dc': -1, 'name': 'x', 'value': ''}", "{'do': 'put', 'dc': 0, 'name': 'x', 'value': '?'}",
        "{'do': 'put', 'dc': 0, 'name': 'a\\n', 'value': ''}", "{'do': 'fly', 'dc': 0, 'name': 'x'}",
        "{'do': 'enter', 'dc': 0, 'name': 'x', 'kind': 'lock'}", "{'do': 'join', 'dc': 0, 'name': 'x', 'who': [1, 2]}",
        "{'do': 'enter', 'dc': 0, 'name': 'x', 'kind': 'kv', 'who': [1,1,1,1,1]}",
        "{'do': 'enter', 'dc': 0, 'name': 'x', 'kind': 'lock', 'who': [0,1,1,1,1]}", "{'do': 'end'}",
        "{'do': 'wait', 'dc': 0, 'name': 'x', 'who': [1,1,1,1,1], 'count': 0}",
        "{'do': 'leave', 'dc': 0, 'name': 'x', 'kind': 'kv', 'who': [1,1,1,1,1]}",
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(texts); i++)
        assert_true(apply("%s", texts[i]) < 0);
    char name[OBJECTS_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[OBJECTS_NAME_MAX + 1] = 0;
    assert_int_equal(apply("{'do': 'put', 'dc': 0, 'name': '%s', 'value': ''}", name), -EINVAL);
    assert_int_equal(json_object_size(config->objects.rows), 0);
    assert_string_equal(events(), "");
}

static void a_lock_passes_in_order(void **state) {
    for (int session = 1; session <= 3; session++)
        assert_int_equal(apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [%d,9,%d,5,1]}", session,
                               session),
                         0);
    assert_string_equal(events(), "head:l:1");
    json_int_t token = number(json_array_get(json_object_get(row("lock", "l"), "q"), 0), "token");
    assert_int_equal(apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [1,9,4,5,1], 'try': true}"),
                     -EBUSY);
    /* who does not hold it cannot release it, nor another request of the holder's */
    assert_int_equal(apply("{'do': 'leave', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [1,9,1,5,2]}"),
                     -DVK_ENOTMEMBER);
    assert_int_equal(apply("{'do': 'end', 'who': [2,9,2,0,0]}"), 0); /* one that waits dies */
    assert_string_equal(events(), "");
    assert_int_equal(apply("{'do': 'leave', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [1,9,1,5,1]}"), 0);
    assert_string_equal(events(), "head:l:3");
    assert_true(number(json_array_get(json_object_get(row("lock", "l"), "q"), 0), "token") > token);
    assert_int_equal(apply("{'do': 'end', 'who': [3,9,3,0,0]}"), 0);
    assert_string_equal(events(), "head:l:0");
    assert_null(row("lock", "l"));
}

static bool is_member(void *context, uint32_t node, int64_t incarnation) { return node != 2 && incarnation == 9; }

static void what_a_lost_node_had_goes(void **state) {
    apply("{'do': 'enter', 'kind': 'leader', 'dc': 0, 'name': 'l', 'who': [2,9,1,5,1], 'text': 'two'}");
    apply("{'do': 'enter', 'kind': 'leader', 'dc': 0, 'name': 'l', 'who': [1,8,2,5,1], 'text': 'old'}");
    apply("{'do': 'enter', 'kind': 'leader', 'dc': 0, 'name': 'l', 'who': [1,9,3,5,1], 'text': 'one'}");
    apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [1,9,3,5,2]}");
    apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [2,9,1,5,2]}");
    apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 3, 'who': [2,9,1,5,3]}");
    apply("{'do': 'put', 'dc': 0, 'name': 'k', 'value': ''}");
    assert_string_equal(events(), "head:l:1 view:g:1 view:g:2 kv:k:0");
    objects_prune(&config->objects, ++config->epoch, is_member, NULL);
    assert_string_equal(events(), "view:g:1 head:l:3");
    assert_null(row("barrier", "b"));
    assert_non_null(row("kv", "k"));
}

static void a_barrier_opens_once(void **state) {
    assert_int_equal(apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 2, 'who': [1,9,1,5,1]}"), 0);
    assert_int_equal(apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 3, 'who': [1,9,2,5,1]}"), -EINVAL);
    assert_int_equal(apply("{'do': 'leave', 'kind': 'barrier', 'dc': 0, 'name': 'b', 'who': [1,9,1,5,1]}"), 0);
    assert_int_equal(apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 2, 'who': [1,9,2,5,1]}"), 0);
    assert_string_equal(events(), "");
    assert_int_equal(apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 2, 'who': [1,9,3,5,1]}"), 0);
    assert_string_equal(events(), "release:b:0");
    assert_null(row("barrier", "b"));
}

static void group_members_come_and_go(void **state) {
    apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [1,9,1,5,1]}");
    assert_int_equal(apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [1,9,1,5,2]}"), -EALREADY);
    apply("{'do': 'join', 'dc': 0, 'name': 'g', 'who': [1,9,1,6,3]}");
    assert_int_equal(apply("{'do': 'end', 'who': [1,9,1,5,0]}"), 0); /* one endpoint of the session */
    assert_string_equal(events(), "view:g:1 view:g:2 view:g:1");
    assert_int_equal(apply("{'do': 'end', 'who': [1,9,0,0,0]}"), 0); /* the whole incarnation */
    assert_null(row("group", "g"));
}

static void rows_survive_a_copy(void **state) {
    apply("{'do': 'put', 'dc': 0, 'name': 'k', 'value': 'YWJj'}");
    apply("{'do': 'enter', 'kind': 'lock', 'dc': 0, 'name': 'l', 'who': [1,9,1,-5,1]}");
    apply("{'do': 'wait', 'dc': 0, 'name': 'b', 'count': 2, 'who': [1,9,2,5,1]}");
    apply("{'do': 'join', 'dc': 0, 'name': 'g/with/slashes', 'who': [1,9,1,5,1]}");
    cleanup_json json_t *json = config_to_json(config);
    struct config *copy;
    assert_int_equal(config_from_json(json, &copy), 0);
    assert_true(config_digest(copy) == config_digest(config));
    assert_int_equal(copy->objects.bytes, 3);
    assert_int_equal(copy->objects.space[0].others, 3);
    config_free(copy);
    static const char *const keys[] = {"x", "0/kv/", "9999/kv/x", "0/nothing/x", "00/kv/x", "-1/kv/x", "0/kv"};
    const json_t *good = row("kv", "k");
    for (unsigned i = 0; i < ARRAY_LENGTH(keys); i++)
        assert_int_equal(objects_add_row(&config->objects, keys[i], good), -EINVAL);
    assert_int_equal(objects_add_row(&config->objects, "0/lock/x", good), -EINVAL);
    assert_int_equal(objects_add_row(&config->objects, "0/kv/k", good), -EINVAL); /* there already */
}

static void a_listing_is_sorted(void **state) {
    static const char *const names[] = {"b", "aa", "c", "a", "ab"};
    for (unsigned i = 0; i < ARRAY_LENGTH(names); i++)
        apply("{'do': 'put', 'dc': 0, 'name': '%s', 'value': ''}", names[i]);
    cleanup_json json_t *list = objects_list(&config->objects, 0, "kv", "a");
    assert_int_equal(json_array_size(list), 3);
    static const char *const wanted[] = {"a", "aa", "ab"};
    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(field_string(json_array_get(list, i), "name"), wanted[i]);
}

static void base64_is_exact(void **state) {
    char data[64];
    size_t len;
    for (unsigned n = 0; n < sizeof data; n++) {
        for (unsigned i = 0; i < n; i++)
            data[i] = (char)(i * 37 + n);
        cleanup_free char *text = base64_text(data, n);
        cleanup_free void *back = base64_decode(text, &len);
        assert_int_equal(strlen(text), base64_len(n));
        assert_int_equal(len, n);
        assert_memory_equal(back, data, n);
    }
    assert_false(base64_check("abc", &len) || base64_check("ab=c", &len) || base64_check("a===", &len));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    setenv("DVS_LOG", "error", 1);
    log_init("test");
    const struct CMUnitTest tests[] = {
        TEST(keys_have_revisions), TEST(compare_and_swap), TEST(limits_hold), TEST(places_are_limited), TEST(bad_changes_are_refused),
        TEST(a_lock_passes_in_order), TEST(what_a_lost_node_had_goes), TEST(a_barrier_opens_once),
        TEST(group_members_come_and_go), TEST(rows_survive_a_copy), TEST(a_listing_is_sorted), TEST(base64_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
