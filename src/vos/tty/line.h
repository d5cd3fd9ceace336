/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tty server must know of the line discipline beside the kernel: which input characters raise signals, and
 * when a read is complete. Pure functions of the terminal's settings (the kernel's struct termios); after the kernel's
 * n_tty.c.
 */
#ifndef TTY_LINE_H
#define TTY_LINE_H

#include <asm/termbits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tty_line {
    bool literal; /* the last character was VLNEXT: the next is taken literally */
};

/*
 * Look through input for the first character that raises a signal. Returns how many bytes there are up to and with it
 * and sets *signal to SIGINT, SIGQUIT or SIGTSTP; or len and 0. The bytes are then given to the kernel's line
 * discipline, which echoes the character and flushes the queues as NOFLSH says.
 */
size_t tty_line_scan(struct tty_line *line, const struct termios *settings, const uint8_t *data, size_t len,
                     int *signal);

/* What a read does with the bytes it has so far. */
enum tty_read_step {
    TTY_READ_DONE,       /* answer with them (perhaps none: end of file, or VMIN 0) */
    TTY_READ_WAIT,       /* wait for more */
    TTY_READ_WAIT_TIMED, /* the same, for at most *wait_ms from now */
};

/*
 * have: bytes collected; wanted: bytes asked for (> 0); read_zero: the kernel just answered 0 (end of file); expired:
 * the wait given out before has passed. Not for reads that do not block.
 */
enum tty_read_step tty_read_decide(const struct termios *settings, size_t have, size_t wanted, bool read_zero,
                                   bool expired, unsigned *wait_ms);

#endif
