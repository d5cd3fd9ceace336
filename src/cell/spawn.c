/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/cell.h"
#include "cell/init_protocol.h"
#include "cell/privileges.h"
#include "cell/zygote.h"
#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static void signals_reset(void) {
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL); /* fails for those that have no disposition */
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static noreturn void spawn_fail(const char *what) {
    dprintf(STDERR_FILENO, "dvs-cell: cannot %s: %s\n", what, strerror(errno));
    _exit(127);
}

/* ---- dvs-vos ---- */

#define VOS_ARGUMENTS (48 + 2 * CELL_MOUNTS)
#define VOS_TEXTS (16 + CELL_MOUNTS)

struct vos_command {
    char *argv[VOS_ARGUMENTS];
    size_t argc;
};

/* The process execs or ends next: texts are never freed. */
static void argument_add(struct vos_command *command, const char *option, const char *value) {
    if (command->argc + 3 > VOS_ARGUMENTS)
        abort();
    command->argv[command->argc++] = (char *)option;
    if (value)
        command->argv[command->argc++] = (char *)value;
    command->argv[command->argc] = NULL;
}

static void number_add(struct vos_command *command, const char *option, uint32_t value) {
    char *text;
    if (asprintf(&text, "%u", value) < 0)
        spawn_fail("start dvs-vos");
    argument_add(command, option, text);
}

/* A descriptor that dvs-vos is to inherit. */
static void descriptor_add(struct vos_command *command, const char *option, int fd) {
    if (fd < 0)
        return;
    if (fcntl(fd, F_SETFD, 0))
        spawn_fail("start dvs-vos");
    number_add(command, option, (uint32_t)fd);
}

static void mounts_add(struct vos_command *command, const struct cell *cell) {
    for (unsigned i = 0; i < cell->options.mount_count; i++) {
        const struct cell_mount *mount = &cell->options.mounts[i];
        char *text;
        if ((cell->mount_fds[i] >= 0 && fcntl(cell->mount_fds[i], F_SETFD, 0)) ||
            asprintf(&text, "node=%u,fd=%d,dst=%s%s", mount->node, cell->mount_fds[i], mount->path,
                     mount->read_only ? ",ro" : "") < 0)
            spawn_fail("start dvs-vos");
        argument_add(command, "--mount", text);
    }
}

static noreturn void vos_exec(const struct cell *cell, int init_socket) {
    const struct cell_options *options = &cell->options;
    struct vos_command command = {0};
    signals_reset();
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC))
        spawn_fail("start dvs-vos");
    argument_add(&command, "dvs-vos", NULL);
    number_add(&command, "--dc", options->dc);
    argument_add(&command, "--name", options->name);
    number_add(&command, "--node", options->node);
    argument_add(&command, "--nodes", options->nodes);
    number_add(&command, "--primary", options->primary);
    argument_add(&command, "--place", options->place);
    if (options->strict)
        argument_add(&command, "--strict", NULL);
    if (options->trace)
        argument_add(&command, "--trace", NULL);
    descriptor_add(&command, "--broker-fd", cell->broker_fd);
    descriptor_add(&command, "--init-fd", init_socket);
    descriptor_add(&command, "--image-fd", cell->image_fd);
    descriptor_add(&command, "--attr-fd", cell->attr_fd);
    descriptor_add(&command, "--upper-fd", cell->upper_fd);
    descriptor_add(&command, "--dev-fd", cell->dev_fd);
    mounts_add(&command, cell);
    /* Still as the host's root by uid (without any right but to the files it owns): so the program's libraries are
     * found wherever DVS is installed. It becomes the cell's root at once. */
    int error = privileges_keep_over_exec();
    if (error) {
        errno = -error;
        spawn_fail("keep the servers' capabilities");
    }
    execveat(cell->vos_fd, "", command.argv, environ, AT_EMPTY_PATH);
    spawn_fail("run dvs-vos");
}

pid_t spawn_vos(const struct cell *cell, int init_socket) {
    struct clone_args args = {.flags = CLONE_NEWNS, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (!pid)
        vos_exec(cell, init_socket);
    return pid < 0 ? -errno : (pid_t)pid;
}

/* ---- the zygote ---- */

enum { HIGH_FD = 32 }; /* descriptors are moved from here up before they take their places */

/* Have `fds` at 3, 4, ...; standard error and the program stay as close-on-exec descriptors, everything else goes. */
static int descriptors_arrange(const int *fds, int count, int *program, int *error_output) {
    int moved[8];
    for (int i = 0; i < count; i++)
        if ((moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
            return -errno;
    int wanted[2] = {*program, *error_output};
    for (int i = 0; i < 2; i++)
        if ((wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
            return -errno;
    for (int i = 0; i < count; i++)
        if (dup3(moved[i], 3 + i, 0) < 0)
            return -errno;
    if (dup3(wanted[0], 3 + count, O_CLOEXEC) < 0 || dup3(wanted[1], 4 + count, O_CLOEXEC) < 0)
        return -errno;
    *program = 3 + count;
    *error_output = 4 + count;
    if (close_range(0, 2, 0) || close_range((unsigned)(5 + count), ~0u, 0))
        return -errno;
    return 0;
}

static int limits_set(void) {
    struct rlimit files = {ZYGOTE_NOFILE, ZYGOTE_NOFILE}, now, stack, core = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &now) || getrlimit(RLIMIT_STACK, &stack))
        return -errno;
    if (now.rlim_max < files.rlim_max)
        files.rlim_cur = files.rlim_max = now.rlim_max;
    stack.rlim_cur = stack.rlim_max < (8u << 20) ? stack.rlim_max : (8u << 20);
    if (setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_STACK, &stack) || setrlimit(RLIMIT_CORE, &core))
        return -errno;
    return 0;
}

/* Guests are the first to go when memory runs out, whatever dvs-cell could do for the cell's own processes. */
static void oom_score_reset(int proc) {
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else the file belongs to the host's root; exec sets it anew */
    cleanup_close int fd = openat(proc, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "0", 1);
}

static noreturn void zygote_exec(const struct cell *cell, const int fds[3], int proc) {
    static const cap_value_t keep[] = {CAP_CHECKPOINT_RESTORE};
    int program = cell->personality_fd, error_output = STDERR_FILENO;
    const char *what;
    oom_score_reset(proc);
    signals_reset();
    umask(022);
    int error = setpgid(0, 0) ? -errno : 0;
    what = "make its process group";
    if (!error) {
        what = "arrange its descriptors";
        error =
            descriptors_arrange((const int[]){fds[0], fds[1], fds[2], cell->seccomp_fd}, 4, &program, &error_output);
    }
    if (!error) {
        what = "set its limits";
        error = limits_set();
    }
    if (!error) {
        what = "set its ids";
        error = privileges_become(ZYGOTE_UID, ZYGOTE_UID);
    }
    if (!error) {
        what = "limit its capabilities";
        error = privileges_limit(keep, ARRAY_LENGTH(keep), true);
    }
    if (!error) {
        what = "run it";
        char *argv[] = {"dvs-personality", cell->options.strict ? "strict" : NULL, NULL};
        char *environment[] = {NULL};
        if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            execveat(program, "", argv, environment, AT_EMPTY_PATH);
        error = -errno;
    }
    dprintf(error_output, "dvs-cell: cannot start the zygote: %s: %s\n", what, strerror(-error));
    _exit(127);
}

pid_t spawn_zygote(const struct cell *cell, const int fds[3], int proc) {
    pid_t tid = INIT_ZYGOTE_PID;
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&tid, .set_tid_size = 1};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (!pid)
        zygote_exec(cell, fds, proc);
    return pid < 0 ? -errno : (pid_t)pid;
}
