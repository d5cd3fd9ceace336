/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "vos/tty/line.h"
#include <signal.h>
#include <string.h>

static const struct termios usual = {
    .c_iflag = ICRNL | IXON,
    .c_lflag = ISIG | ICANON | ECHO | IEXTEN,
    .c_cc = {[VINTR] = 3,
             [VQUIT] = 28,
             [VERASE] = 127,
             [VEOF] = 4,
             [VMIN] = 1,
             [VSTART] = 17,
             [VSTOP] = 19,
             [VSUSP] = 26,
             [VLNEXT] = 22},
};

static size_t scan(const struct termios *settings, const char *text, int *signal) {
    struct tty_line line = {0};
    return tty_line_scan(&line, settings, (const uint8_t *)text, strlen(text), signal);
}

static void test_signals(void **state) {
    int signal;
    assert_int_equal(scan(&usual, "ls\n", &signal), 3);
    assert_int_equal(signal, 0);
    assert_int_equal(scan(&usual, "ab\003cd", &signal), 3);
    assert_int_equal(signal, SIGINT);
    assert_int_equal(scan(&usual, "\034", &signal), 1);
    assert_int_equal(signal, SIGQUIT);
    assert_int_equal(scan(&usual, "x\032\003", &signal), 2);
    assert_int_equal(signal, SIGTSTP);
}

static void test_modes(void **state) {
    int signal;
    struct termios raw = usual;
    raw.c_lflag &= ~(unsigned)ISIG;
    assert_int_equal(scan(&raw, "a\003b", &signal), 3);
    assert_int_equal(signal, 0);
    struct termios off = usual;
    off.c_cc[VINTR] = 0; /* disabled */
    assert_int_equal(scan(&off, "a\003", &signal), 2);
    assert_int_equal(signal, 0);
    struct termios external = usual;
    external.c_lflag |= EXTPROC;
    scan(&external, "\003", &signal);
    assert_int_equal(signal, 0);
    struct termios strip = usual;
    strip.c_iflag |= ISTRIP;
    scan(&strip, "\203", &signal);
    assert_int_equal(signal, SIGINT);
    struct termios same = usual;
    same.c_cc[VINTR] = 19; /* flow control goes first */
    scan(&same, "\023", &signal);
    assert_int_equal(signal, 0);
    same.c_iflag &= ~(unsigned)IXON;
    scan(&same, "\023", &signal);
    assert_int_equal(signal, SIGINT);
}

static void test_literal(void **state) {
    int signal;
    struct tty_line line = {0};
    assert_int_equal(scan(&usual, "\026\003x", &signal), 3);
    assert_int_equal(signal, 0);
    assert_int_equal(scan(&usual, "\026\026\003", &signal), 3);
    assert_int_equal(signal, SIGINT);
    /* Over two pieces of input. */
    tty_line_scan(&line, &usual, (const uint8_t *)"a\026", 2, &signal);
    assert_true(line.literal);
    tty_line_scan(&line, &usual, (const uint8_t *)"\003\003", 2, &signal);
    assert_int_equal(signal, SIGINT);
    assert_false(line.literal);
    struct termios raw = usual; /* no VLNEXT outside canonical mode */
    raw.c_lflag &= ~(unsigned)ICANON;
    scan(&raw, "\026\003", &signal);
    assert_int_equal(signal, SIGINT);
}

static void test_reads(void **state) {
    static const struct {
        bool canonical;
        unsigned min, time;
        size_t have, wanted;
        bool zero, expired;
        enum tty_read_step step;
        unsigned wait_ms;
    } cases[] = {
        {true, 1, 0, 0, 10, false, false, TTY_READ_WAIT, 0},
        {true, 1, 0, 3, 10, false, false, TTY_READ_DONE, 0},
        {true, 1, 0, 0, 10, true, false, TTY_READ_DONE, 0}, /* end of file */
        {false, 1, 0, 0, 10, false, false, TTY_READ_WAIT, 0},
        {false, 1, 0, 1, 10, false, false, TTY_READ_DONE, 0},
        {false, 5, 0, 4, 10, false, false, TTY_READ_WAIT, 0},
        {false, 5, 0, 3, 3, false, false, TTY_READ_DONE, 0}, /* no more was asked for */
        {false, 0, 0, 0, 10, true, false, TTY_READ_DONE, 0},
        {false, 0, 7, 0, 10, false, false, TTY_READ_WAIT_TIMED, 700},
        {false, 0, 7, 0, 10, false, true, TTY_READ_DONE, 0},
        {false, 0, 7, 1, 10, false, false, TTY_READ_DONE, 0},
        {false, 5, 2, 0, 10, false, false, TTY_READ_WAIT, 0}, /* the timer runs between bytes only */
        {false, 5, 2, 1, 10, false, false, TTY_READ_WAIT_TIMED, 200},
        {false, 5, 2, 1, 10, false, true, TTY_READ_DONE, 0},
        {false, 5, 2, 5, 10, false, false, TTY_READ_DONE, 0},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct termios settings = usual;
        unsigned wait_ms;
        if (!cases[i].canonical)
            settings.c_lflag &= ~(unsigned)ICANON;
        settings.c_cc[VMIN] = (uint8_t)cases[i].min;
        settings.c_cc[VTIME] = (uint8_t)cases[i].time;
        enum tty_read_step step =
            tty_read_decide(&settings, cases[i].have, cases[i].wanted, cases[i].zero, cases[i].expired, &wait_ms);
        if (step != cases[i].step || wait_ms != cases[i].wait_ms)
            fail_msg("case %zu: step %d, wait %u ms", i, step, wait_ms);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_signals), cmocka_unit_test(test_modes),
                                       cmocka_unit_test(test_literal), cmocka_unit_test(test_reads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
