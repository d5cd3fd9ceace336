/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tty server: what pm and fs ask of it. A tty is a host pty pair that the server holds (the kernel's line
 * discipline gives termios, echo and editing) joined to a stream socket of the person at the other end. Sessions,
 * foreground groups and job control are the DC's own.
 *
 * A tty is named everywhere in the DC by its number: node << 16 | index (never 0). A message about a tty goes to the
 * tty server of its node, tty_server_endpoint(); any fs or pm of the DC may send it, directly. Sources that are not
 * services of the DC are refused (EPERM): guests go through fs.
 *
 * "caller" words: the server asks pm for the caller's group and session itself, so fs need only give the pid (and its
 * own knowledge of effective uid 0). fs must cancel (dvk_cancel) the requests of a process that ends, lest a dead
 * reader takes input.
 *
 * Status: 0 or positive, or a negative errno. One is special: -TTY_RESTART (ERESTARTSYS) says that the caller's process
 * group was sent SIGTTIN or SIGTTOU and the call is to be made again when that signal is dealt with; fs passes the
 * number on unchanged, and the personality treats it as SYS_INTERRUPTED (the same number).
 */
#ifndef VOS_TTY_H
#define VOS_TTY_H

#include "vos/protocol.h"
#include <dvk/endpoint.h>

#define TTY_RESTART 512

/* The caller, in the words of every TTY_* request marked "+caller". */
#define TTY_WORD_PID 16   /* words[16]: pid of the calling process (thread group) */
#define TTY_WORD_FLAGS 17 /* words[17]: enum tty_caller_flags */
enum tty_caller_flags {
    TTY_CALLER_ROOT = 1u /* effective uid 0; told by fs. Beside it: enum vos_tty_caller, from the personality */
};

enum tty_type {
    /* --- from pm --- */
    TTY_S_CREATE = VOS_TYPE(DVK_SERVICE_TTY,
                            1), /* to the own cell's. fds: [stream socket]; w0 rows w1 columns w2 sid w3 pgid: session
                 and foreground group it becomes the controlling terminal of (0: none). reply: w0 tty number. Held until
                 its last reference (TTY_OPEN) is dropped; one that nobody ever opens is dropped by TTY_S_DROP */
    TTY_S_DROP = VOS_TYPE(DVK_SERVICE_TTY, 2), /* w0 tty: the program could not be started: end it unless it is open */
    TTY_S_SESSION_END =
        VOS_TYPE(DVK_SERVICE_TTY,
                 3), /* w0 sid: the session's leader has ended, told by its pm to the tty servers of the DC's nodes
 (or at least its own): the foreground group gets SIGHUP and SIGCONT, the tty is free for another session */
    TTY_S_RESIZE = VOS_TYPE(
        DVK_SERVICE_TTY, 4), /* w0 tty w1 rows w2 columns: TIOCSWINSZ from outside; SIGWINCH to the foreground group */
    TTY_S_FIND = VOS_TYPE(DVK_SERVICE_TTY,
                          5), /* w0 sid. reply: w0 number of the tty that controls this session, wherever in the DC (the
               server asks the others); -ENXIO: none. For /dev/tty and /proc/PID/stat. w1 1: look here only */

    /* --- from fs, for guests. w0 tty number in all --- */
    TTY_OPEN =
        VOS_TYPE(DVK_SERVICE_TTY,
                 16), /* w1 open flags +caller: one more reference. Without O_NOCTTY a session leader that has no
         terminal gets this one if it is free. reply: data: struct vos_stat. -ENXIO: no such tty, -EIO: hung up */
    TTY_CLOSE = VOS_TYPE(DVK_SERVICE_TTY, 17), /* one reference less (w1 how many, 0 counts as 1). With the last, output
                                                  is drained and the stream closed */
    TTY_READ = VOS_TYPE(
        DVK_SERVICE_TTY,
        18), /* w1 length w3 1: do not block +caller. reply: status count, data. Cancel: -EINTR. 0: end of file */
    TTY_WRITE =
        VOS_TYPE(DVK_SERVICE_TTY,
                 19), /* w2 1: do not block +caller; data. reply: status count (short when cancelled or not blocking) */
    TTY_IOCTL = VOS_TYPE(DVK_SERVICE_TTY,
                         20), /* w1 command w2 scalar argument +caller; data: in; reply data: out (what the kernel would
                 copy out to the argument: struct termios of the kernel's ABI, struct winsize, int) */
    TTY_POLL = VOS_TYPE(DVK_SERVICE_TTY,
                        21), /* w1 events w2 0: now, 1: reply when one is true or on cancel. reply: w0 revents */
    TTY_STAT = VOS_TYPE(
        DVK_SERVICE_TTY,
        22), /* reply data: struct vos_stat: character device 136:index, 0620 (st_dev and st_ino 0: fs fills them in) */
    TTY_LIST = VOS_TYPE(DVK_SERVICE_TTY,
                        23), /* no w0: the ttys of this node. reply: status count; data: u32 number[] (for /dev/pts) */
};

/* Numbers and endpoints. */
static inline uint32_t tty_number(uint32_t node, uint32_t index) {
    return node << 16 | index;
}
static inline uint32_t tty_number_node(uint32_t number) {
    return number >> 16;
}
static inline uint32_t tty_number_index(uint32_t number) {
    return number & 0xffffu;
}
static inline dvk_endpoint tty_server_endpoint(uint32_t number) {
    return dvk_service_endpoint(tty_number_node(number), DVK_SERVICE_TTY);
}
/* Its name is /dev/pts/NUMBER. */

#endif
