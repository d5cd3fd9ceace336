/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A console: joins the standard descriptors of a started process to a client's sockets and to a log. Everything goes
 * through bounded buffers; whoever does not take what it gets stops the one that produces it, never dvkd.
 *
 * Three streams: guest pipes <-> three client sockets. A tty: one stream socket <-> one client socket.
 */
#ifndef DVKD_CONSOLE_H
#define DVKD_CONSOLE_H

#include "common/loop.h"
#include "dvkd/dclog.h"

#include <stdbool.h>
#include <stdint.h>

struct console;

/*
 * Make one. client_fds: three sockets, or one with tty; -1 where there is none (detached: input is at its end, output
 * goes to the log only). They are taken over, also on error. log may be NULL. owner: who is to own the guest's ends
 * of the pipes. *guest_fds gets the guest's ends (three, or one with tty): the caller passes them on and closes them.
 * 0 or a negative errno.
 */
int console_create(struct loop *loop, bool tty, const int client_fds[3], struct dclog *log, uint32_t owner,
                   struct console **out, int guest_fds[3]);
/* Close everything at once; what is under way is lost. NULL is allowed. */
void console_destroy(struct console *console);

/* The client is gone: output goes to the log only, input is at its end, a tty hangs up. */
void console_detach(struct console *console);
/*
 * The process has ended: pass on what it has written so far, to the last byte, then call done, once, from the loop.
 * Does not wait for others that hold its descriptors. A client that does not read is waited for as long as it is there.
 */
void console_finish(struct console *console, void (*done)(void *context), void *context);

#endif
