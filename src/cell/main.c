/* SPDX-License-Identifier: Apache-2.0 */
/* dvs-cell: prepares a cell as the host's root, clones its init, waits for its end and cleans up. See README.md. */
#include "cell/cell.h"
#include "cell/filter.h"
#include "cell/image.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STOP_TIMEOUT_MS 5000   /* for init to end after SIGTERM */
#define EMPTY_TIMEOUT_MS 10000 /* for the cgroup to empty afterwards */

/* A clean process: no terminal, no umask, no stray descriptors, much room for descriptors. */
static int process_prepare(struct cell *cell, struct failure *failure) {
    struct stat stat;
    if (fstat(CELL_BROKER_FD, &stat) || !S_ISSOCK(stat.st_mode))
        return failure_set(failure, -EBADF, "bad-request", "dvs-cell is started by dvkd",
                           "descriptor %d is not a socket", CELL_BROKER_FD);
    for (int fd = 0; fd < 3; fd++) /* an absent one would be taken by the next open */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return failure_set(failure, -EBADF, "internal", NULL, "cannot open /dev/null");
    if (close_range(CELL_BROKER_FD + 1, ~0u, 0) || fcntl(CELL_BROKER_FD, F_SETFD, FD_CLOEXEC))
        return failure_set(failure, -errno, "internal", NULL, "cannot arrange descriptors: %s", strerror(errno));
    cell->broker_fd = CELL_BROKER_FD;
    (void)setsid(); /* fails only if we lead a process group already, which does as well */
    umask(0);
    /* Both fail without CAP_SYS_RESOURCE; then the inherited values have to do. */
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){1u << 20, 1u << 20})) {
        struct rlimit files;
        if (!getrlimit(RLIMIT_NOFILE, &files)) {
            files.rlim_cur = files.rlim_max;
            (void)setrlimit(RLIMIT_NOFILE, &files);
        }
    }
    cleanup_close int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0)
        (void)!write(oom, "-900", 4);
    return 0;
}

static int program_open(const char *libexec, const char *name, int *out, struct failure *failure) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", libexec, name);
    *out = open(path, O_PATH | O_CLOEXEC);
    if (*out < 0)
        return failure_set(failure, -errno, "internal", "is DVS installed completely?", "cannot open %s: %s", path,
                           strerror(errno));
    return 0;
}

/* The image, twice for the host's own root: files are opened as a stranger to the host would, attributes shown as they
 * are. */
static int image_prepare(struct cell *cell, struct failure *failure) {
    bool host = !strcmp(cell->options.image, "host");
    const char *path = host ? "/" : cell->options.image;
    int error = tree_open(path, true, "image", &cell->image_fd, failure);
    if (error)
        return error;
    if (!host) {
        cell->attr_fd = cell->image_fd;
        return 0;
    }
    return tree_open(path, true, "image", &cell->attr_fd, failure);
}

static int files_prepare(struct cell *cell, struct failure *failure) {
    const struct cell_options *options = &cell->options;
    char path[PATH_MAX];
    int error = image_prepare(cell, failure);
    if (!error && options->upper)
        error = tree_open(options->upper, false, "writable layer", &cell->upper_fd, failure);
    for (unsigned i = 0; !error && i < options->mount_count; i++)
        if (options->mounts[i].node == options->node)
            error = tree_open(options->mounts[i].source, options->mounts[i].read_only, "volume", &cell->mount_fds[i],
                              failure);
    if (!error)
        error = devices_create(options->uid_base, &cell->dev_fd, failure);
    if (!error)
        error = program_open(options->libexec, "dvs-vos", &cell->vos_fd, failure);
    snprintf(path, sizeof path, "%s/dvs-personality", options->libexec);
    if (!error)
        error = memfd_copy(path, "dvs-personality", &cell->personality_fd, failure);
    if (!error)
        error = filter_create(&cell->seccomp_fd, failure);
    return error;
}

/* From the cgroup to a running init. On failure init, if there is one, ends by the closing of the socket pair. */
static int cell_start(struct cell *cell, struct failure *failure) {
    const struct cell_options *options = &cell->options;
    struct cgroup_limits limits = {options->memory_bytes, options->cpu_milli, options->pids};
    int error = cgroup_create(&cell->cgroup, options->cgroup, &limits, failure);
    if (error)
        return error;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, cell->go))
        return failure_set(failure, -errno, "internal", NULL, "cannot make a socket pair: %s", strerror(errno));
    error = namespaces_clone(cell, failure);
    if (error)
        return error;
    close(cell->go[1]);
    cell->go[1] = -1;
    error = namespaces_map(cell, failure);
    if (error)
        return error;
    error = cgroup_add(&cell->cgroup, cell->init);
    if (error)
        return failure_set(failure, error, "unavailable", NULL, "cannot put the cell into its cgroup: %s",
                           strerror(-error));
    if (send(cell->go[0], "", 1, MSG_NOSIGNAL) != 1)
        return failure_set(failure, -errno, "internal", NULL, "cell init ended early");
    return 0;
}

/* Wait until init has ended, passing a stop on. Returns its wait status. */
static int init_wait(struct cell *cell, int signals) {
    bool stopping = false;
    for (;;) {
        struct pollfd waits[2] = {{.fd = cell->init_pidfd, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        int ready = poll(waits, 2, stopping ? STOP_TIMEOUT_MS : -1);
        if (ready == 0)
            (void)kill(cell->init, SIGKILL);
        if (ready > 0 && waits[0].revents)
            break;
        struct signalfd_siginfo info;
        if (ready > 0 && read(signals, &info, sizeof info) == (ssize_t)sizeof info && !stopping) {
            stopping = true;
            (void)kill(cell->init, SIGTERM);
        }
    }
    int status = 0;
    while (waitpid(cell->init, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int init_status_code(int status) {
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fprintf(stderr, "dvs-cell: cell init was ended by signal %d\n", WTERMSIG(status));
    return 1;
}

static void failure_print(const struct failure *failure) {
    fprintf(stderr, "dvs-cell: %s%s%s%s\n", failure->message, failure->hint[0] ? " (" : "", failure->hint,
            failure->hint[0] ? ")" : "");
}

int main(int argc, char **argv) {
    struct failure failure = {0};
    struct cell cell = {.broker_fd = -1,
                        .image_fd = -1,
                        .attr_fd = -1,
                        .upper_fd = -1,
                        .dev_fd = -1,
                        .vos_fd = -1,
                        .personality_fd = -1,
                        .seccomp_fd = -1,
                        .go = {-1, -1},
                        .init_pidfd = -1};
    for (unsigned i = 0; i < CELL_MOUNTS; i++)
        cell.mount_fds[i] = -1;
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &stops, NULL);

    int error = options_parse(argc, argv, &cell.options, &failure);
    if (!error)
        error = process_prepare(&cell, &failure);
    int signals = error ? -1 : signalfd(-1, &stops, SFD_CLOEXEC);
    if (!error && signals < 0)
        error = failure_set(&failure, -errno, "internal", NULL, "cannot make a signalfd: %s", strerror(errno));
    if (!error)
        error = namespaces_prepare(&failure);
    if (!error)
        error = files_prepare(&cell, &failure);
    if (!error)
        error = cell_start(&cell, &failure);
    int code = 1;
    if (error) {
        failure_print(&failure);
        if (cell.init > 0) {
            (void)kill(cell.init, SIGKILL);
            (void)waitpid(cell.init, NULL, 0);
        }
    } else {
        code = init_status_code(init_wait(&cell, signals));
    }
    if (cgroup_remove(&cell.cgroup, EMPTY_TIMEOUT_MS))
        fprintf(stderr, "dvs-cell: the cgroup %s could not be removed\n", cell.options.cgroup);
    options_free(&cell.options);
    return code;
}
