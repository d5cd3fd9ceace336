/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "dvkd/registry.h"

#include <dvk/error.h>
#include <fcntl.h>
#include <unistd.h>

static int some_fd(void) {
    int fd = open("/dev/null", O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static void a_slot_is_bound_once_and_its_generation_grows(void **state) {
    struct registry registry;
    registry_init(&registry, 100);
    struct context *one = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    struct context *two = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    struct endpoint *endpoint, *other;
    assert_int_equal(registry_bind(&registry, one, 3, 70, false, &endpoint), 0);
    dvk_endpoint old = endpoint_address(endpoint);
    assert_int_equal(dvk_endpoint_generation(old), 100);
    assert_int_equal(registry_bind(&registry, two, 3, 70, false, &other), -DVK_ESLOTBUSY);
    assert_int_equal(registry_bind(&registry, two, 4, 70, false, &other), 0); /* another DC */
    assert_ptr_equal(registry_find_endpoint(&registry, 3, old), endpoint);
    assert_ptr_equal(registry_find_endpoint(&registry, 3, dvk_endpoint_make(0, 70)), endpoint);
    registry_unbind(&registry, endpoint);
    assert_null(registry_find(&registry, 3, 70));
    assert_int_equal(registry_bind(&registry, two, 3, 70, false, &endpoint), 0);
    assert_null(registry_find_endpoint(&registry, 3, old));
    assert_int_equal(endpoint->generation, 101);
    registry_context_remove(&registry, two);
    assert_null(registry_find(&registry, 3, 70));
    assert_null(registry_find(&registry, 4, 70));
    registry_destroy(&registry);
}

static void a_forgotten_dc_does_not_give_old_generations(void **state) {
    struct registry registry;
    registry_init(&registry, 1);
    struct context *context = registry_context_add(&registry, CONTEXT_CELL, 3, NULL);
    struct endpoint *endpoint;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(registry_bind(&registry, context, 3, 64, true, &endpoint), 0);
        if (i < 4)
            registry_unbind(&registry, endpoint);
    }
    dvk_endpoint last = endpoint_address(endpoint);
    registry_forget_dc(&registry, 3); /* while it is bound */
    assert_ptr_equal(registry_find(&registry, 3, 64), endpoint);
    registry_unbind(&registry, endpoint);
    assert_int_equal(registry_bind(&registry, context, 3, 64, true, &endpoint), 0);
    assert_true(endpoint->generation > dvk_endpoint_generation(last));
    registry_destroy(&registry);
}

static void a_forgotten_dc_leaves_nothing(void **state) {
    struct registry registry;
    registry_init(&registry, 1);
    for (uint32_t dc = 1; dc <= DVK_MAX_DC; dc++) {
        struct context *cell = registry_context_add(&registry, CONTEXT_CELL, dc, NULL);
        struct endpoint *service, *guest, *early;
        assert_int_equal(registry_bind(&registry, cell, dc, 1, false, &service), 0);
        assert_int_equal(registry_bind(&registry, cell, dc, 65, true, &early), 0);
        assert_int_equal(registry_bind(&registry, cell, dc, 64, true, &guest), 0);
        assert_non_null(registry_channel_add(&registry, dc, NULL, cell, guest, some_fd()));
        registry_unbind(&registry, early);
        if (dc % 2)
            registry_forget_dc(&registry, dc); /* before its cell has gone */
        registry_context_remove(&registry, cell);
        if (dc % 2 == 0)
            registry_forget_dc(&registry, dc);
        registry_forget_dc(&registry, dc); /* once more does no harm */
    }
    assert_int_equal(registry.dcs.count, 0);
    assert_int_equal(registry.channels.count, 0);
    assert_true(list_empty(&registry.contexts));
    registry_destroy(&registry);
}

static bool every_third(const void *context, uint32_t set) { return set % 3 == 1; }
static bool is_seven(const void *context, uint32_t set) { return set == 7; }
static bool is_none(const void *context, uint32_t set) { return false; }

static void free_slots_are_those_of_the_nodes_share(void **state) {
    struct registry registry;
    registry_init(&registry, 1);
    struct context *context = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    uint32_t last = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t slot = registry_free_slot(&registry, 5, every_third, NULL);
        struct endpoint *endpoint;
        assert_true(dvk_slot_is_user(slot));
        assert_true(every_third(NULL, slot / DVK_SLOT_SET));
        assert_true(slot != last);
        last = slot;
        assert_int_equal(registry_bind(&registry, context, 5, slot, false, &endpoint), 0);
    }
    registry_destroy(&registry);
}

static void free_slots_go_round_and_run_out(void **state) {
    struct registry registry;
    registry_init(&registry, 1);
    struct context *context = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    struct endpoint *endpoint, *some = NULL;
    for (uint32_t i = DVK_SLOT_SET; i-- > 0;) {
        assert_int_equal(registry_free_slot(&registry, 5, is_seven, NULL), 7 * DVK_SLOT_SET + i);
        assert_int_equal(registry_bind(&registry, context, 5, 7 * DVK_SLOT_SET + i, false, &endpoint), 0);
        some = i == 20 ? endpoint : some;
    }
    assert_true(registry_set_is_bound(&registry, 5, 7));
    assert_false(registry_set_is_bound(&registry, 5, 8));
    assert_false(registry_set_is_bound(&registry, 6, 7));
    assert_int_equal(registry_free_slot(&registry, 5, is_seven, NULL), 0);
    assert_int_equal(registry_free_slot(&registry, 5, is_none, NULL), 0);
    registry_unbind(&registry, some);
    assert_int_equal(registry_free_slot(&registry, 5, is_seven, NULL), 7 * DVK_SLOT_SET + 20);
    registry_destroy(&registry);
}

static void generations_of_slots_that_came_from_elsewhere_are_greater(void **state) {
    struct registry registry;
    registry_init(&registry, 100);
    struct context *context = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    struct endpoint *endpoint;
    assert_int_equal(registry_newest(&registry, 5), 0);
    assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 100);
    registry_note_time(&registry, 200);
    registry_note_time(&registry, 150); /* the clock was set back */
    assert_int_equal(registry_bind(&registry, context, 5, 101, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 200);
    registry_raise(&registry, 5, 5000);
    assert_int_equal(registry_bind(&registry, context, 5, 102, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 5001);
    assert_int_equal(registry_newest(&registry, 5), 5001);
    assert_int_equal(registry_bind(&registry, context, 6, 102, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 200);
    registry_destroy(&registry);
}

/* Also those that this node had before they went there. */
static void generations_of_slots_that_came_back_are_greater(void **state) {
    struct registry registry;
    registry_init(&registry, 100);
    struct context *context = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
    struct endpoint *kept, *endpoint;
    assert_int_equal(registry_bind(&registry, context, 5, 99, false, &kept), 0);
    assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
    registry_unbind(&registry, endpoint);
    registry_raise(&registry, 5, 150); /* it was given away, and came back */
    assert_int_equal(registry_newest(&registry, 5), 150); /* if it goes on to somebody else at once */
    assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 151);
    registry_unbind(&registry, endpoint);
    assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 152);
    registry_unbind(&registry, endpoint);
    registry_new_view(&registry, 300, 1);
    registry_new_view(&registry, 200, 1); /* the clock was set back */
    assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 300 + REGISTRY_VIEW_STEP + 1);
    assert_int_equal(registry_bind(&registry, context, 6, 100, false, &endpoint), 0);
    assert_int_equal(endpoint->generation, 300 + REGISTRY_VIEW_STEP + 1);
    assert_int_equal(kept->generation, 100);
    registry_destroy(&registry);
}

/* Slots go from node to node within a second, and whoever has them is lost: each takes them over who never heard of the others'. */
static void generations_of_slots_of_lost_nodes_are_greater(void **state) {
    enum { NODES = 8, HAND_OVERS = 5 };
    uint32_t last = 0;
    for (uint32_t view = 7; view < 7 + NODES; view++) {
        for (int i = 0; i < HAND_OVERS; i++) { /* the last who gets it in this view is the one that is lost */
            struct registry registry;
            registry_init(&registry, 1000);
            registry_new_view(&registry, 1000, view);
            registry_note_time(&registry, 1000);
            struct context *context = registry_context_add(&registry, CONTEXT_PROGRAM, 0, NULL);
            struct endpoint *endpoint;
            if (i > 0)
                registry_raise(&registry, 5, last);
            assert_int_equal(registry_bind(&registry, context, 5, 100, false, &endpoint), 0);
            assert_true(endpoint->generation > last);
            last = registry_newest(&registry, 5);
            registry_destroy(&registry);
        }
    }
}

static void channels_are_found_from_both_sides(void **state) {
    struct registry registry;
    registry_init(&registry, 1);
    struct context *a = registry_context_add(&registry, CONTEXT_CELL, 1, NULL);
    struct context *b = registry_context_add(&registry, CONTEXT_PROXY, 0, NULL);
    struct channel *channel = registry_channel_add(&registry, 1, a, b, NULL, some_fd());
    struct channel *second = registry_channel_add(&registry, 2, a, b, NULL, some_fd());
    uint32_t side;
    assert_ptr_equal(registry_channel_between(a, b, 1, &side), channel);
    assert_int_equal(side, 0);
    assert_ptr_equal(registry_channel_between(b, a, 1, &side), channel);
    assert_int_equal(side, 1);
    assert_ptr_equal(registry_channel_between(b, a, 2, &side), second);
    assert_null(registry_channel_between(a, b, 3, &side));
    assert_ptr_equal(registry_channel_find(&registry, channel->id), channel);
    uint64_t id = channel->id;
    registry_channel_remove(&registry, channel);
    assert_null(registry_channel_find(&registry, id));
    assert_null(registry_channel_between(a, b, 1, &side));
    registry_context_remove(&registry, a); /* takes the second with it */
    assert_null(registry_channel_between(b, b, 2, &side));
    registry_destroy(&registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_bound_once_and_its_generation_grows),
        cmocka_unit_test(a_forgotten_dc_does_not_give_old_generations),
        cmocka_unit_test(a_forgotten_dc_leaves_nothing),
        cmocka_unit_test(free_slots_go_round_and_run_out),
        cmocka_unit_test(generations_of_slots_that_came_from_elsewhere_are_greater),
        cmocka_unit_test(generations_of_slots_that_came_back_are_greater),
        cmocka_unit_test(generations_of_slots_of_lost_nodes_are_greater),
        cmocka_unit_test(free_slots_are_those_of_the_nodes_share),
        cmocka_unit_test(channels_are_found_from_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
