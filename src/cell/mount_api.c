/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/mount_api.h"
#include "common/cleanup.h"
#include <errno.h>
#include <sys/syscall.h>

int mount_create(const char *type, const char *const *options, unsigned attributes) {
    cleanup_close int context = fsopen(type, FSOPEN_CLOEXEC);
    if (context < 0)
        return -1;
    for (const char *const *option = options; *option; option += 2)
        if (fsconfig(context, FSCONFIG_SET_STRING, option[0], option[1], 0))
            return -1;
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
        return -1;
    return fsmount(context, FSMOUNT_CLOEXEC, attributes);
}

int mount_root_empty(void) {
    cleanup_close int root = mount_create("tmpfs", (const char *const[]){"size", "4k", "mode", "0555", NULL},
                                          MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (root < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) || fchdir(root) ||
        syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        return -1;
    return 0;
}
