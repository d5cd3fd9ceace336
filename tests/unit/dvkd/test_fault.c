/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of faults: what is understood, what is refused, and that a seed repeats. */
#include "check.h"

#include "common/fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct fault_plan plan;
static char why[FAULT_WHY];

static void a_plan_is_understood(void **state) {
    assert_int_equal(fault_parse("seed=7;proxy.write=short:0.25;replica.deliver=delay:1:20;store.write=fail:0", &plan, why), 0);
    assert_int_equal(plan.seed, 7);
    assert_int_equal(plan.count, 3);
    assert_int_equal(plan.rules[0].point, FAULT_PROXY_WRITE);
    assert_int_equal(plan.rules[0].action, FAULT_SHORT);
    assert_true(plan.rules[0].probability == 0.25);
    assert_int_equal(plan.rules[1].delay_ms, 20);
    assert_int_equal(fault_parse("", &plan, why), 0);
    assert_int_equal(plan.count, 0);
}

static void what_makes_no_sense_is_refused(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {{"proxy.write", "no rule"},
                 {"proxy.write=short", "no probability"},
                 {"proxy.nowhere=short:1", "no such point"},
                 {"proxy.write=full:1", "cannot be done"},
                 {"proxy.write=burn:1", "cannot be done"},
                 {"proxy.write=drop:1", "cannot be done"},
                 {"proxy.write=short:2", "0 to 1"},
                 {"proxy.write=short:nan", "0 to 1"},
                 {"proxy.write=short:x", "0 to 1"},
                 {"proxy.write=delay:1:0", "1 to 1000"},
                 {"proxy.write=delay:1:1001", "1 to 1000"},
                 {"proxy.write=short:1:5", "follows"},
                 {"seed=x", "seed"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fault_parse(cases[i].text, &plan, why), -EINVAL);
        if (!strstr(why, cases[i].says))
            fail_msg("%s: %s", cases[i].text, why);
    }
    char many[2048] = "";
    for (unsigned i = 0; i <= FAULT_RULES_MAX; i++)
        strcat(many, "proxy.write=short:1;");
    assert_int_equal(fault_parse(many, &plan, why), -EINVAL);
    memset(many, 'x', sizeof many - 1);
    char longer[2100] = {0};
    memset(longer, ';', sizeof longer - 1);
    assert_int_equal(fault_parse(longer, &plan, why), -EINVAL);
}

static void a_seed_repeats_and_probabilities_hold(void **state) {
    enum { DRAWS = 20000 };
    static unsigned first[DRAWS];
    unsigned delay_ms = 0, shorts = 0, differ = 0;
    assert_int_equal(fault_parse("proxy.write=short:0.1;proxy.write=lose:0;proxy.read=lose:1;proxy.write=delay:1:3", &plan, why), 0);
    for (int round = 0; round < 3; round++) {
        uint64_t random = round < 2 ? 5 : 6;
        for (unsigned i = 0; i < DRAWS; i++) {
            unsigned actions = fault_draw(&plan, FAULT_PROXY_WRITE, &random, &delay_ms);
            assert_true(actions & FAULT_DELAY && !(actions & FAULT_LOSE));
            if (round == 0)
                first[i] = actions;
            shorts += round == 0 && actions & FAULT_SHORT;
            differ += actions != first[i];
            assert_true(round != 1 || differ == 0);
        }
    }
    assert_int_equal(delay_ms, 3);
    assert_in_range(shorts, DRAWS / 10 - 300, DRAWS / 10 + 300);
    assert_true(differ > 0);
    uint64_t random = 5;
    assert_int_equal(fault_draw(&plan, FAULT_STORE_WRITE, &random, &delay_ms), 0);
    assert_int_equal(random, 5); /* where nothing is planned nothing is drawn */
}

static void each_point_is_described(void **state) {
    for (unsigned i = 0; i < FAULT_POINT_END; i++) {
        assert_true(fault_points[i].name[0] && fault_points[i].where[0]);
        for (unsigned action = 1; action <= FAULT_FULL; action <<= 1) {
            char text[64];
            snprintf(text, sizeof text, "%s=%s:0.5", fault_points[i].name, fault_action_name(action));
            assert_int_equal(fault_parse(text, &plan, why), fault_points[i].actions & action ? 0 : -EINVAL);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_is_understood),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_seed_repeats_and_probabilities_hold),
        cmocka_unit_test(each_point_is_described),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
