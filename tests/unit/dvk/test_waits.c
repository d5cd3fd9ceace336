/* SPDX-License-Identifier: Apache-2.0 */
/* The table of waits: what is a circle, and what only looked like one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dvk/waits.h"

#include <pthread.h>
#include <stdlib.h>

static struct dvk_wait *table;

static int setup(void **state) {
    table = calloc(DVK_WAITS_PLACES, sizeof *table);
    return table ? 0 : -1;
}
static int teardown(void **state) {
    free(table);
    return 0;
}

static uint32_t ticket;

/* 1 -> 2 -> ... -> length -> 1 */
static void circle(uint32_t length) {
    ticket += 1000;
    for (uint32_t i = 1; i <= length; i++)
        dvk_wait_begin(table, i, i == length ? 1 : i + 1, ticket + i);
}

static void test_circles(void **state) {
    for (uint32_t length = 1; length <= DVK_WAITS_CHAIN_MAX; length++) {
        circle(length);
        for (uint32_t i = 1; i <= length; i++)
            assert_true(dvk_wait_is_circle(table, i));
    }
    circle(DVK_WAITS_CHAIN_MAX + 1);
    assert_false(dvk_wait_is_circle(table, 1));
}

static void test_ends(void **state) {
    for (uint32_t i = 1; i <= 5; i++) {
        circle(5);
        dvk_wait_answered(table, i, ticket + i); /* he will wake */
        assert_false(dvk_wait_is_circle(table, 1));
        dvk_wait_begin(table, i, i == 5 ? 1 : i + 1, ticket + 500); /* and waits again */
        assert_true(dvk_wait_is_circle(table, 1));
        dvk_wait_end(table, i);
        assert_false(dvk_wait_is_circle(table, 1));
    }
}

/* Somebody waits at a circle, without being in it. */
static void test_beside(void **state) {
    circle(3);
    dvk_wait_begin(table, 9, 1, 7);
    assert_false(dvk_wait_is_circle(table, 9));
    assert_true(dvk_wait_is_circle(table, 2));
}

static void test_nonsense(void **state) {
    dvk_wait_begin(table, 1, DVK_WAITS_PLACES, 1);
    assert_false(dvk_wait_is_circle(table, 1));
    dvk_wait_begin(table, 1, UINT32_MAX, 1);
    assert_false(dvk_wait_is_circle(table, 1));
    dvk_wait_begin(table, 1, 0, 1);
    assert_false(dvk_wait_is_circle(table, 1));
}

/* Of two that close a circle at the same moment at least one sees it. */
enum { ROUNDS = 20000 };
static pthread_barrier_t barrier;
static bool saw[2];

static void *closer(void *context) {
    uint32_t me = (uint32_t)(uintptr_t)context;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        dvk_wait_begin(table, me, 3 - me, round);
        saw[me - 1] = dvk_wait_is_circle(table, me);
        pthread_barrier_wait(&barrier);
        if (!saw[0] && !saw[1])
            return (void *)1;
        pthread_barrier_wait(&barrier);
        dvk_wait_end(table, me);
    }
    return NULL;
}

static void test_at_once(void **state) {
    pthread_t threads[2];
    pthread_barrier_init(&barrier, NULL, 2);
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, closer, (void *)(i + 1)), 0);
    for (int i = 0; i < 2; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    pthread_barrier_destroy(&barrier);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_circles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
    };
    return cmocka_run_group_tests_name("waits", tests, NULL, NULL);
}
