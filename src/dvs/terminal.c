/* SPDX-License-Identifier: Apache-2.0 */
/* termios(3); which functions a signal handler may call: signal-safety(7). */
#include "dvs/terminal.h"

#include "common/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static volatile sig_atomic_t is_raw; /* `saved` holds what to go back to */

void terminal_restore(void) {
    if (!is_raw)
        return;
    is_raw = 0;
    /* A background process that sets the mode is stopped by SIGTTOU unless that is blocked. */
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGTTOU);
    sigprocmask(SIG_BLOCK, &block, &old);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* Installed with SA_RESETHAND: raising the signal again ends us by it. */
static void fatal_signal(int number) {
    int error = errno;
    terminal_restore();
    raise(number);
    errno = error;
}

static void guards_install(void) {
    static const int fatal[] = {SIGSEGV, SIGBUS,    SIGFPE,  SIGILL,  SIGABRT, SIGSYS, SIGTRAP, SIGUSR1, SIGUSR2,
                                SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGXFSZ, SIGINT, SIGTERM, SIGHUP,  SIGQUIT};
    struct sigaction action = {.sa_handler = fatal_signal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < ARRAY_LENGTH(fatal); i++)
        sigaction(fatal[i], &action, NULL);
    atexit(terminal_restore);
}

int terminal_raw(void) {
    static bool guarded;
    if (!isatty(STDIN_FILENO))
        return -ENOTTY;
    if (!is_raw && tcgetattr(STDIN_FILENO, &saved) < 0)
        return -errno;
    if (!guarded)
        guards_install();
    guarded = true;
    struct termios raw = saved;
    cfmakeraw(&raw);
    is_raw = 1;
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0 ? -errno : 0;
}

void terminal_size(int *rows, int *cols) {
    struct winsize size;
    *rows = 24;
    *cols = 80;
    if ((ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) && size.ws_row &&
        size.ws_col) {
        *rows = size.ws_row;
        *cols = size.ws_col;
    }
}
