/* SPDX-License-Identifier: Apache-2.0 */
/* Our own terminal (standard input): raw mode, and its certain end. */
#ifndef DVS_TERMINAL_H
#define DVS_TERMINAL_H

#include <stdbool.h>

/* Raw mode on, if standard input is a terminal and we are its foreground. It ends by terminal_restore, by exit(3), and
 * by any signal that would end us. Calling it again (after a stop) is allowed. Returns 0 or a negative errno. */
int terminal_raw(void);
void terminal_restore(void);
/* Rows and columns of the terminal on standard output or input; 24 by 80 if there is none. */
void terminal_size(int *rows, int *cols);

#endif
