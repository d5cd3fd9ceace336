/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a lab. Goes by names alone, so that it also works on one that is half made or whose records are broken. */
#include "common/cleanup.h"
#include "dvs/lab.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define STOP_MS 12000

/* A directory tree by rm(1), which copes with any depth and stays on one file system. */
static int tree_remove(const char *path, struct failure *failure) {
    pid_t child = fork();
    if (child < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot fork: %s", strerror(errno));
    if (child == 0) {
        execlp("rm", "rm", "-rf", "--one-file-system", "--", path, NULL);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (status != 0 || access(path, F_OK) == 0)
        return failure_set(failure, -EIO, "internal", NULL, "cannot remove all of %s", path);
    return 0;
}

int lab_remove(const char *name, struct failure *failure) {
    char run[PATH_MAX], state[PATH_MAX];
    struct failure later = {0};
    lab_run_path(name, run);
    lab_state_path(name, state);
    /* The first failure is the one to tell: what follows it is often its consequence. */
    int result = lab_nodes_end(name, STOP_MS, failure);
    int next = lab_network_down(name, result ? &later : failure);
    result = result ? result : next;
    lab_cgroups_remove(name, NULL);
    next = tree_remove(run, result ? &later : failure);
    result = result ? result : next;
    rmdir("/run/dvs/lab"); /* when this was the last lab */
    rmdir("/run/dvs");
    /* The claim on the name goes last, and only when all else is gone: down can then be tried again. */
    if (result == 0)
        result = tree_remove(state, failure);
    return result;
}
