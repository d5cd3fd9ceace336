/* SPDX-License-Identifier: Apache-2.0 */
/* Which numbers a node gives out, asks for and can spare (src/vos/pm/slots.h). */
#include "vos/pm/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NODE 7u
#define OTHER 9u
#define LIMIT (12u * DVK_SLOT_SET)

static struct slots slots;

static void own(uint32_t first, uint32_t count) {
    const struct dvk_slots_run run = {(uint16_t)first, (uint16_t)count, NODE, 0};
    slots_table(&slots, slots.version + 1, 12, &run, 1);
}

static int setup(void **state) {
    return slots_init(&slots, NODE, 2, LIMIT);
}
static int teardown(void **state) {
    slots_destroy(&slots);
    return 0;
}

/* The next number; every set that is swept on the way is found with `busy`. */
static uint32_t take(uint64_t busy) {
    slots_look_again(&slots);
    for (int i = 0; i < 30; i++) {
        uint32_t set, slot = slots_take(&slots);
        if (slot)
            return slot;
        if (slots_sweep_wanted(&slots, &set))
            slots_swept(&slots, set, busy);
        else if (slots_exhausted(&slots))
            return 0;
    }
    fail_msg("it does not end");
    return 0;
}

static void test_nothing_is_ours_at_first(void **state) {
    assert_int_equal(take(0), 0);
    assert_int_equal(slots_owner(&slots, 100), 0);
    own(0, 0);
    assert_int_equal(take(0), 0);
    assert_true(slots_wanted(&slots) > 0);
}

static void test_own_sets_in_a_circle(void **state) {
    own(2, 2);
    for (int round = 0; round < 3; round++)
        for (uint32_t slot = 2 * DVK_SLOT_SET; slot < 4 * DVK_SLOT_SET; slot++) {
            assert_int_equal(take(0), slot);
            slots_give(&slots, slot);
        }
    assert_int_equal(slots_owner(&slots, 130), NODE);
    assert_true(slots_is_own(&slots, 130));
    assert_false(slots_is_own(&slots, 64) || slots_is_own(&slots, LIMIT));
}

static void test_busy_numbers_are_left_out(void **state) {
    own(3, 1);
    assert_int_equal(take(~(uint64_t)0 ^ 1ull << 5), 3 * DVK_SLOT_SET + 5);
    assert_int_equal(take(~(uint64_t)0), 0);
    slots_give(&slots, 3 * DVK_SLOT_SET + 5);
    slots_mark(&slots, 3 * DVK_SLOT_SET + 6);
    assert_int_equal(take(~(uint64_t)0x7f << 0), 3 * DVK_SLOT_SET);
    for (uint32_t i = 1; i < 6; i++)
        assert_int_equal(take(0), 3 * DVK_SLOT_SET + i);
    assert_int_equal(take(~(uint64_t)0x7f), 0); /* 6 is known to be used elsewhere */
}

static void test_what_is_asked_for(void **state) {
    own(1, 3);
    assert_int_equal(slots_wanted(&slots), 0);
    for (uint32_t i = 0; i < 2 * DVK_SLOT_SET; i++)
        assert_true(take(0));
    assert_int_equal(slots_wanted(&slots), 0); /* one is idle */
    assert_true(take(0));
    assert_int_equal(slots_wanted(&slots), 16); /* none is */
    own(1, 5);
    assert_int_equal(slots_wanted(&slots), 0);
}

static void test_more_is_asked_for_when_the_circle_is_short(void **state) {
    own(1, 3); /* of 11; the fair share is 5 */
    for (uint32_t i = 0; i < 3 * DVK_SLOT_SET; i++) {
        slots_give(&slots, take(0));
        assert_int_equal(slots_wanted(&slots), 0);
    }
    slots_give(&slots, take(0));
    assert_int_equal(slots_wanted(&slots), 16);
    own(1, 5);
    for (uint32_t i = 0; i < 15 * DVK_SLOT_SET; i++)
        slots_give(&slots, take(0));
    assert_int_equal(slots_wanted(&slots), 0); /* it has its share */
}

static void test_what_is_spared(void **state) {
    uint16_t sets[SLOTS_GIVE_MAX];
    own(1, 8);
    uint32_t held = take(0);
    assert_int_equal(slots_spare(&slots, 9, 99, sets), 3); /* of 7 idle ones, above SLOTS_HIGH */
    assert_int_equal(sets[0], 6);
    assert_int_equal(sets[2], 8);
    assert_false(slots_is_own(&slots, 6 * DVK_SLOT_SET));
    assert_int_equal(slots_spare(&slots, 9, 99, sets), 1); /* then one at a time */
    assert_int_equal(sets[0], 5);
    assert_int_equal(slots_spare(&slots, 9, 3, sets), 1); /* below 3 */
    assert_int_equal(sets[0], 2);
    for (uint32_t i = 1; i < DVK_SLOT_SET; i++) /* nothing that was given is given out */
        assert_int_equal(take(0) / DVK_SLOT_SET, 1);
    assert_int_equal(take(0) / DVK_SLOT_SET, 3);
    slots_settled(&slots); /* nobody took them */
    assert_true(slots_is_own(&slots, 2 * DVK_SLOT_SET) && slots_is_own(&slots, 8 * DVK_SLOT_SET));
    assert_int_equal(held, DVK_SLOT_SET);
}

static void test_the_last_idle_set_goes_only_if_something_is_left(void **state) {
    uint16_t sets[SLOTS_GIVE_MAX];
    own(1, 2);
    assert_int_equal(slots_spare(&slots, 1, 99, sets), 1); /* of two idle ones */
    assert_int_equal(sets[0], 2);
    slots_settled(&slots);
    for (uint32_t i = 0; i < DVK_SLOT_SET - SLOTS_LOW + 1; i++)
        assert_true(take(0));
    assert_int_equal(slots_spare(&slots, 1, 99, sets), 0);
    own(3, 2); /* the table says that what we had is another's */
    assert_int_equal(take(0) / DVK_SLOT_SET, 3);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_nothing_is_ours_at_first),
                                       TEST(test_own_sets_in_a_circle),
                                       TEST(test_busy_numbers_are_left_out),
                                       TEST(test_what_is_asked_for),
                                       TEST(test_more_is_asked_for_when_the_circle_is_short),
                                       TEST(test_what_is_spared),
                                       TEST(test_the_last_idle_set_goes_only_if_something_is_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
