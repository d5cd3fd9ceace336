/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's state machine, and what it takes for a container. */
#include "check.h"

#include "common/cleanup.h"
#include "dvkd/config.h"

#include <stdlib.h>
#include <string.h>

static json_t *create_change(const char *name) {
    return json_pack("{s:s, s:s, s:[i,i], s:i, s:i, s:{s:s, s:s, s:[s]}}", "op", "dc-create", "name", name, "nodes", 1,
                     3, "primary", 1, "created", 1000, "spec", "image", "host", "place", "spread", "argv", "true");
}

static int apply(struct config *config, json_t *change, struct config_effect *effect, struct failure *failure) {
    cleanup_json json_t *owned = change;
    return config_apply(config, owned, effect, failure);
}

static json_t *state_change(const struct config_dc *dc, const char *state) {
    return json_pack("{s:s, s:i, s:I, s:s, s:i}", "op", "dc-state", "dc", dc->id, "serial", (json_int_t)dc->serial,
                     "state", state, "exit_status", 256);
}

static json_t *remove_change(uint32_t id, uint64_t serial, bool force) {
    return json_pack("{s:s, s:i, s:I, s:b}", "op", "dc-remove", "dc", id, "serial", (json_int_t)serial, "force", force);
}

static void a_container_lives_and_goes(void **state) {
    struct config *config = config_new();
    struct config_effect effect;
    struct failure failure;
    assert_int_equal(apply(config, create_change(""), &effect, &failure), 0);
    struct config_dc *dc = config->dcs[effect.dc];
    assert_string_equal(dc->name, "dc1");
    assert_int_equal(dc->state, DC_CREATED);
    assert_int_equal(dc->node_count, 2);
    assert_true(apply(config, create_change("dc1"), &effect, &failure) < 0);
    assert_string_equal(failure.code, "name-taken");
    assert_int_equal(config->epoch, 1);
    assert_int_equal(apply(config, state_change(dc, "running"), &effect, &failure), 0);
    assert_true(apply(config, remove_change(dc->id, dc->serial, false), &effect, &failure) < 0);
    assert_string_equal(failure.code, "dc-running");
    assert_int_equal(apply(config, state_change(dc, "exited"), &effect, &failure), 0);
    assert_int_equal(dc->exit_status, 256);
    assert_true(apply(config, state_change(dc, "failed"), &effect, &failure) < 0); /* final */
    assert_true(apply(config, state_change(dc, "running"), &effect, &failure) < 0);
    uint32_t id = dc->id;
    uint64_t serial = dc->serial;
    assert_true(apply(config, remove_change(id, serial + 1, true), &effect, &failure) < 0); /* another one's */
    assert_int_equal(apply(config, remove_change(id, serial, false), &effect, &failure), 0);
    assert_true(effect.removed);
    assert_null(config->dcs[id]);
    assert_int_equal(apply(config, create_change(""), &effect, &failure), 0);
    assert_int_not_equal(effect.dc, id); /* not reused at once */
    config_free(config);
}

static void an_automatic_name_avoids_those_taken(void **state) {
    struct config *config = config_new();
    struct config_effect effect;
    assert_int_equal(apply(config, create_change("dc2"), &effect, NULL), 0);
    assert_int_equal(apply(config, create_change(""), &effect, NULL), 0);
    assert_string_equal(config->dcs[effect.dc]->name, "dc3");
    config_free(config);
}

static void ids_run_out_and_come_back(void **state) {
    struct config *config = config_new();
    struct config_effect effect;
    struct failure failure;
    for (unsigned i = 0; i < DVK_MAX_DC; i++)
        assert_int_equal(apply(config, create_change(""), &effect, NULL), 0);
    assert_true(apply(config, create_change(""), &effect, &failure) < 0);
    assert_string_equal(failure.code, "unavailable");
    assert_int_equal(apply(config, remove_change(77, config->dcs[77]->serial, true), &effect, NULL), 0);
    assert_int_equal(apply(config, create_change("again"), &effect, NULL), 0);
    assert_int_equal(effect.dc, 77);
    config_free(config);
}

/* Two replicas fed alike, one of them copied through JSON now and then, stay the same; refused changes change nothing. */
static void random_changes_keep_replicas_alike(void **state) {
    struct config *a = config_new(), *b = config_new();
    srandom(11);
    for (int i = 0; i < 1000; i++) {
        json_t *change;
        uint32_t id = (uint32_t)random() % 12 + 1;
        const struct config_dc *dc = a->dcs[id];
        static const char *const states[] = {"created", "running", "exited", "failed", "odd"};
        char name[16];
        switch (random() % 5) {
        case 0:
            snprintf(name, sizeof name, "%s%ld", random() % 4 ? "" : "n", random() % 9);
            change = create_change(random() % 3 ? "" : name);
            break;
        case 1:
            change = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i}", "op", "node-set", "id", (int)(random() % 500),
                               "name", "x", "address", "1:2", "run", "/r", "version", "1", "cpus", 2);
            break;
        case 2:
            change = remove_change(id, dc ? dc->serial + (random() % 4 == 0) : 0, random() % 2);
            break;
        default:
            change = json_pack("{s:s, s:i, s:I, s:s}", "op", "dc-state", "dc", id, "serial",
                               (json_int_t)(dc ? dc->serial : 3), "state", states[random() % 5]);
        }
        uint64_t epoch = a->epoch, digest = config_digest(a);
        struct config_effect effect_a, effect_b;
        int result_a = config_apply(a, change, &effect_a, NULL), result_b = config_apply(b, change, &effect_b, NULL);
        json_decref(change);
        assert_int_equal(result_a, result_b);
        assert_int_equal(effect_a.dc, effect_b.dc);
        assert_int_equal(a->epoch, epoch + (result_a == 0));
        assert_true(config_digest(a) == config_digest(b));
        assert_true((config_digest(a) != digest) == (result_a == 0));
        for (uint32_t k = 1; k <= DVK_MAX_DC; k++)
            if (a->dcs[k])
                assert_ptr_equal(config_dc_by_name(a, a->dcs[k]->name), a->dcs[k]); /* names are unique */
        if (random() % 50 == 0) {
            cleanup_json json_t *json = config_to_json(b);
            cleanup_free char *text = json_dumps(json, 0);
            cleanup_json json_t *read = json_loads(text, 0, NULL);
            config_free(b);
            assert_int_equal(config_from_json(read, &b), 0);
        }
    }
    assert_true(a->epoch > 125);
    config_free(a);
    config_free(b);
}

static void nonsense_is_refused(void **state) {
    static const char *const changes[] = {
        "{}",
        "{\"op\": 3}",
        "{\"op\": \"dc-create\"}",
        "{\"op\": \"dc-create\", \"name\": \"UPPER\", \"nodes\": [1], \"primary\": 1, \"created\": 1, \"spec\": {}}",
        "{\"op\": \"dc-create\", \"name\": \"\", \"nodes\": [], \"primary\": 1, \"created\": 1, \"spec\": {}}",
        "{\"op\": \"dc-create\", \"name\": \"\", \"nodes\": [2, 1], \"primary\": 1, \"created\": 1, "
        "\"spec\": {\"image\": \"host\", \"place\": \"local\", \"argv\": [\"x\"]}}",
        "{\"op\": \"dc-create\", \"name\": \"\", \"nodes\": [2], \"primary\": 1, \"created\": 1, "
        "\"spec\": {\"image\": \"host\", \"place\": \"local\", \"argv\": [\"x\"]}}",
        "{\"op\": \"dc-create\", \"name\": \"\", \"nodes\": [1, 999], \"primary\": 1, \"created\": 1, "
        "\"spec\": {\"image\": \"host\", \"place\": \"local\", \"argv\": [\"x\"]}}",
        "{\"op\": \"dc-state\", \"dc\": 4097, \"serial\": 1, \"state\": \"failed\"}",
        "{\"op\": \"dc-state\", \"dc\": -1, \"serial\": 1, \"state\": \"failed\"}",
        "{\"op\": \"dc-remove\", \"dc\": 1}",
        "{\"op\": \"node-set\", \"id\": 0, \"name\": \"a\"}",
    };
    struct config *config = config_new();
    struct config_effect effect;
    struct failure failure;
    for (unsigned i = 0; i < ARRAY_LENGTH(changes); i++) {
        json_t *change = json_loads(changes[i], 0, NULL);
        assert_non_null(change);
        assert_true(apply(config, change, &effect, &failure) < 0);
        assert_true(failure.message[0] != 0);
    }
    assert_int_equal(config->epoch, 0);
    config_free(config);
}

static void specs_are_checked(void **state) {
    static const struct {
        const char *spec, *code; /* NULL: good */
    } table[] = {
        {"{'image': 'host', 'place': 'local', 'argv': ['ls']}", NULL},
        {"{'image': '/img', 'place': 'node=b', 'argv': ['ls', ''], 'env': ['A=1', 'B='], 'memory': 16777216, "
         "'cpus': 0.5, 'pids': 100, 'cwd': '/x', 'mounts': [{'host': '/a', 'node': 'a', 'path': '/b', 'ro': true}]}",
         NULL},
        {"{'image': 'img', 'place': 'local', 'argv': ['ls']}", "bad-request"},
        {"{'image': '/a/../b', 'place': 'local', 'argv': ['ls']}", "bad-request"},
        {"{'image': 'host', 'place': 'anywhere', 'argv': ['ls']}", "bad-request"},
        {"{'image': 'host', 'place': 'node=', 'argv': ['ls']}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': []}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['']}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': 'ls'}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls', 3]}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'env': ['A']}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'env': ['=1']}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'memory': 1000}", "limit-out-of-range"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'memory': 'much'}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'cpus': 0}", "limit-out-of-range"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'pids': 3}", "limit-out-of-range"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'cwd': 'x'}", "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'mounts': [{'host': 'a', 'node': 'a', 'path': '/b'}]}",
         "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'mounts': [{'host': '/a,b', 'node': 'a', 'path': '/b'}]}",
         "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'mounts': [{'host': '/a', 'node': 'a', 'path': '/'}]}",
         "bad-request"},
        {"{'image': 'host', 'place': 'local', 'argv': ['ls'], 'mounts': [{'host': '/a', 'path': '/b'}]}",
         "bad-request"},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(table); i++) {
        char text[512];
        snprintf(text, sizeof text, "%s", table[i].spec);
        for (char *c = text; *c; c++)
            if (*c == '\'')
                *c = '"';
        cleanup_json json_t *spec = json_loads(text, 0, NULL);
        assert_non_null(spec);
        struct failure failure = {0};
        int result = config_check_spec(spec, &failure);
        if (!table[i].code) {
            assert_int_equal(result, 0);
        } else {
            assert_true(result < 0);
            assert_string_equal(failure.code, table[i].code);
        }
    }
}

static void names_are_checked(void **state) {
    static const char *const good[] = {"a", "0", "web-1", "a.b_c", "dc4096"};
    static const char *const bad[] = {"", "A", "-a", ".a", "_a", "a b", "a/b", "\xc3\xa4", "a\n"};
    for (unsigned i = 0; i < ARRAY_LENGTH(good); i++)
        assert_true(config_name_is_valid(good[i]));
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++)
        assert_false(config_name_is_valid(bad[i]));
    char longest[65];
    memset(longest, 'a', 64);
    longest[64] = 0;
    assert_false(config_name_is_valid(longest));
    longest[63] = 0;
    assert_true(config_name_is_valid(longest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_lives_and_goes),  cmocka_unit_test(an_automatic_name_avoids_those_taken),
        cmocka_unit_test(ids_run_out_and_come_back),   cmocka_unit_test(random_changes_keep_replicas_alike),
        cmocka_unit_test(nonsense_is_refused),         cmocka_unit_test(specs_are_checked),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
