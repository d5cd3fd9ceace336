/* SPDX-License-Identifier: Apache-2.0 */
/* Our standard streams as a program's in a container: over three stream sockets, or one with a terminal. */
#ifndef DVS_ATTACH_H
#define DVS_ATTACH_H

#include "dvs/client.h"
#include "dvs/dvs.h"

struct attach {
    bool tty;         /* one stream, and our terminal in raw mode */
    bool interactive; /* pass standard input on; else the program sees its end at once */
    int ours[3];      /* our ends: input, output, error; with tty only [0]. -1: closed */
    int theirs[3];    /* what goes to the daemon */
};

/* Make the sockets. Errors: negative errno. */
int attach_create(struct attach *attach, bool tty, bool interactive, struct failure *failure);
/* How many of `theirs` there are. */
static inline unsigned attach_fd_count(const struct attach *attach) {
    return attach->tty ? 1 : 3;
}
/* Close what is open. */
void attach_close(struct attach *attach);

/*
 * attach_run: carry the streams until the program has ended and all its output is written; then the exit code that dvs
 * is to give (the program's own, 128 + signal, or EXIT_DVS_TROUBLE with a line on standard error). client: the
 * connection that the program was started over; dc, pid: of the program.
 * Signals: SIGINT, SIGTERM, SIGHUP and SIGQUIT go to the program; the third one gives up waiting. SIGWINCH resizes its
 * terminal. Our own terminal's mode is restored however this ends, SIGKILL excepted.
 */
int attach_run(struct command *command, struct attach *attach, struct client *client, const char *dc, long long pid);

#endif
