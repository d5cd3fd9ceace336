/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop and the table. */
#include "check.h"

#include "common/loop.h"
#include "common/table.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void table_agrees_with_an_array(void **state) {
    enum { KEYS = 700 };
    struct table table = {0};
    void *model[KEYS] = {0};
    size_t count = 0;
    srandom(7);
    for (int i = 0; i < 200000; i++) {
        unsigned key = (unsigned)random() % KEYS;
        uint64_t spread = (uint64_t)key << (key % 3 * 20); /* clusters and far ones */
        if (random() % 2) {
            assert_int_equal(table_set(&table, spread, &model[key]), 0);
            count += !model[key];
            model[key] = &model[key];
        } else {
            assert_ptr_equal(table_remove(&table, spread), model[key]);
            count -= model[key] != NULL;
            model[key] = NULL;
        }
        unsigned other = (unsigned)random() % KEYS;
        assert_ptr_equal(table_get(&table, (uint64_t)other << (other % 3 * 20)), model[other]);
        assert_int_equal(table.count, count);
    }
    size_t cursor = 0, walked = 0;
    while (table_next(&table, &cursor))
        walked++;
    assert_int_equal(walked, count);
    table_free(&table);
}

struct order {
    struct loop *loop;
    char text[8];
    int count;
    struct loop_watch *victim;
};
static void add_a(void *context) {
    struct order *order = context;
    order->text[order->count++] = 'a';
}
static void add_b(void *context) {
    struct order *order = context;
    order->text[order->count++] = 'b';
    loop_quit(order->loop, 5);
}

static void timers_fire_in_order(void **state) {
    struct order order = {0};
    assert_int_equal(loop_create(&order.loop), 0);
    struct loop_timer *cancelled;
    assert_int_equal(loop_timer_add(order.loop, 30, add_b, &order, NULL), 0);
    assert_int_equal(loop_timer_add(order.loop, 5, add_a, &order, NULL), 0);
    assert_int_equal(loop_timer_add(order.loop, 10, add_b, &order, &cancelled), 0);
    loop_timer_cancel(cancelled);
    uint64_t before = loop_now_ms();
    assert_int_equal(loop_run(order.loop), 5);
    assert_true(loop_now_ms() - before >= 29);
    assert_string_equal(order.text, "ab");
    loop_destroy(order.loop);
}

static void on_child(void *context, pid_t pid, int status) {
    struct order *order = context;
    assert_true(WIFEXITED(status));
    loop_quit(order->loop, WEXITSTATUS(status));
}
static void on_signal(void *context, int number) { loop_quit(((struct order *)context)->loop, number); }

static void children_and_signals_are_told(void **state) {
    struct order order = {0};
    assert_int_equal(loop_create(&order.loop), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(9);
    assert_int_equal(loop_child_add(order.loop, pid, on_child, &order, NULL), 0);
    assert_int_equal(loop_run(order.loop), 9);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
    loop_destroy(order.loop);
    assert_int_equal(loop_create(&order.loop), 0);
    assert_int_equal(loop_signal_add(order.loop, SIGUSR1, on_signal, &order), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(loop_run(order.loop), SIGUSR1);
    loop_destroy(order.loop);
}

static void never(void *context, int fd, uint32_t events) { fail_msg("a removed watch was called"); }
static void remove_other(void *context, int fd, uint32_t events) {
    struct order *order = context;
    loop_watch_remove(order->victim);
    loop_quit(order->loop, 1);
}

static void a_removed_watch_is_silent(void **state) {
    struct order order = {0};
    int first[2], second[2];
    struct loop_watch *remover;
    assert_int_equal(pipe(first), 0);
    assert_int_equal(pipe(second), 0);
    assert_int_equal(loop_create(&order.loop), 0);
    assert_int_equal(loop_fd_add(order.loop, first[0], EPOLLIN, remove_other, &order, &remover), 0);
    assert_int_equal(loop_fd_add(order.loop, second[0], EPOLLIN, never, &order, &order.victim), 0);
    assert_int_equal(write(first[1], "x", 1), 1); /* becomes ready first, so it is reported first */
    assert_int_equal(write(second[1], "x", 1), 1);
    assert_int_equal(loop_run(order.loop), 1);
    loop_destroy(order.loop);
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_agrees_with_an_array),
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(children_and_signals_are_told),
        cmocka_unit_test(a_removed_watch_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
