/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[SCRATCH_PATH_MAX - 16];
static pid_t owner, keeper;
static int owner_lives; /* the write end of a pipe that only the owner, and what it forks, has open */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    (void)remove(path);
    return 0;
}

/* Does not return. A session of its own: what is sent to the tests by a terminal or a harness must not end it. */
static void keep(int end_of_owner) {
    char byte;
    int null = open("/dev/null", O_RDWR);
    setsid();
    for (int i = 1; i < SIGRTMIN; i++)
        signal(i, SIG_IGN);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    end_of_owner = dup2(end_of_owner, 3);
    close_range(4, ~0U, 0);
    while (read(end_of_owner, &byte, 1) > 0)
        ;
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    _exit(0);
}

static void at_exit(void) {
    if (getpid() != owner)
        return;
    close(owner_lives);
    waitpid(keeper, NULL, 0);
}

static void need(int ok, const char *what) {
    if (ok)
        return;
    perror(what);
    abort();
}

static void root_make(void) {
    const char *base = getenv("TMPDIR");
    int ends[2];
    int length = snprintf(root, sizeof root, "%s/dvs-test-XXXXXX", base && *base ? base : "/tmp");
    need(length < (int)sizeof root && mkdtemp(root), "scratch directory");
    need(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    owner = getpid();
    owner_lives = ends[1];
    keeper = fork();
    need(keeper >= 0, "fork");
    if (keeper == 0) {
        close(ends[1]);
        keep(ends[0]);
    }
    close(ends[0]);
    atexit(at_exit);
}

static void name_make(char path[static SCRATCH_PATH_MAX]) {
    if (!owner)
        root_make();
    snprintf(path, SCRATCH_PATH_MAX, "%s/XXXXXX", root);
}

void scratch_directory(char path[static SCRATCH_PATH_MAX]) {
    name_make(path);
    need(mkdtemp(path) != NULL, path);
}

void scratch_file(char path[static SCRATCH_PATH_MAX]) {
    name_make(path);
    int fd = mkstemp(path);
    need(fd >= 0, path);
    close(fd);
}
