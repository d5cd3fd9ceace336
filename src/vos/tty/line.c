/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/tty/line.h"
#include <signal.h>

/* A control character of 0 is disabled. */
static bool is_control(const struct termios *settings, int which, uint8_t c) {
    return c && settings->c_cc[which] == c;
}

static int signal_of(const struct termios *settings, uint8_t c) {
    if (is_control(settings, VINTR, c))
        return SIGINT;
    if (is_control(settings, VQUIT, c))
        return SIGQUIT;
    return is_control(settings, VSUSP, c) ? SIGTSTP : 0;
}

size_t tty_line_scan(struct tty_line *line, const struct termios *settings, const uint8_t *data, size_t len,
                     int *signal) {
    bool canonical = settings->c_lflag & ICANON, extended = settings->c_lflag & IEXTEN;
    *signal = 0;
    if (settings->c_lflag & EXTPROC) {
        line->literal = false;
        return len;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t c = data[i];
        if (settings->c_iflag & ISTRIP)
            c &= 0x7f;
        if ((settings->c_iflag & IUCLC) && extended && c >= 'A' && c <= 'Z')
            c = (uint8_t)(c + 'a' - 'A');
        if (line->literal) {
            line->literal = false;
            continue;
        }
        if ((settings->c_iflag & IXON) && (is_control(settings, VSTART, c) || is_control(settings, VSTOP, c)))
            continue;
        if (settings->c_lflag & ISIG) {
            *signal = signal_of(settings, c);
            if (*signal)
                return i + 1;
        }
        line->literal = canonical && extended && is_control(settings, VLNEXT, c);
    }
    return len;
}

enum tty_read_step tty_read_decide(const struct termios *settings, size_t have, size_t wanted, bool read_zero,
                                   bool expired, unsigned *wait_ms) {
    unsigned min = settings->c_cc[VMIN], time_ms = settings->c_cc[VTIME] * 100u;
    *wait_ms = 0;
    if (have >= wanted || expired)
        return TTY_READ_DONE;
    if (settings->c_lflag & ICANON)
        return have || read_zero ? TTY_READ_DONE : TTY_READ_WAIT;
    if (!min) {
        if (have || !time_ms)
            return TTY_READ_DONE;
        *wait_ms = time_ms; /* for the first byte */
        return TTY_READ_WAIT_TIMED;
    }
    if (have >= min)
        return TTY_READ_DONE;
    if (!have || !time_ms)
        return TTY_READ_WAIT;
    *wait_ms = time_ms; /* between bytes */
    return TTY_READ_WAIT_TIMED;
}
