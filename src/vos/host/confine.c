/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/host/confine.h"
#include "cell/mount_api.h"
#include "cell/privileges.h"
#include "common/cleanup.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

/*
 * SETUID, SETGID: file operations with a caller's ids (setfsuid). DAC_OVERRIDE, DAC_READ_SEARCH, CHOWN, FOWNER, FSETID,
 * MKNOD: the same as virtual root, on files of the DC's ids (and FIFOs; device nodes need the host's CAP_MKNOD). KILL:
 * signals to guests. SYS_PTRACE: their /proc files. SYS_NICE: their priorities. All of them count in the cell's user
 * namespace only.
 */
static const cap_value_t capabilities[] = {
    CAP_SETUID, CAP_SETGID, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_CHOWN,    CAP_FOWNER,
    CAP_FSETID, CAP_MKNOD,  CAP_KILL,         CAP_SYS_PTRACE,      CAP_SYS_NICE,
};

static int slot_limit_read(struct vos *vos) {
    cleanup_close int fd = openat(vos->proc_fd, "sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (count <= 0)
        return -EIO;
    text[count] = 0;
    unsigned long limit = strtoul(text, NULL, 10);
    vos->slot_limit = limit < DVK_USER_SLOTS ? (uint32_t)limit : DVK_USER_SLOTS;
    return 0;
}

static void cpu_count_read(struct vos *vos) {
    cpu_set_t cpus;
    vos->cpu_count = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : (uint32_t)CPU_COUNT(&cpus);
}

int confine_enter(struct vos *vos, struct failure *failure) {
    const char *what = "become the cell's root";
    int error = privileges_become(0, 0);
    if (!error) {
        what = "mount /proc";
        vos->proc_fd =
            mount_create("proc", (const char *const[]){NULL}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        error = vos->proc_fd < 0 ? -errno : slot_limit_read(vos);
    }
    if (!error) {
        what = "mount a devpts";
        vos->pts_fd = mount_create("devpts", (const char *const[]){"ptmxmode", "0600", "mode", "0600", NULL},
                                   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        error = vos->pts_fd < 0 ? -errno : 0;
    }
    if (!error) {
        what = "make the empty root";
        error = mount_root_empty() ? -errno : 0;
    }
    if (!error) {
        what = "drop capabilities";
        error = privileges_limit(capabilities, ARRAY_LENGTH(capabilities), false);
    }
    if (error)
        return failure_set(failure, error, "unavailable", NULL, "cannot %s: %s", what, strerror(-error));
    cpu_count_read(vos);
    umask(0);
    return 0;
}
