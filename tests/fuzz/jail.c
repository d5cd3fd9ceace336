/* SPDX-License-Identifier: Apache-2.0 */
#include "jail.h"
#include "input.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

static void need(int result, const char *what) {
    if (result == 0)
        return;
    perror(what);
    _exit(2);
}

void jail_enter(void) {
    if (geteuid() != 0)
        return;
    char *writable = strdup(getenv("FUZZ_WRITABLE") ? getenv("FUZZ_WRITABLE") : "");
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY}, again = {.attr_clr = MOUNT_ATTR_RDONLY};
    need(unshare(CLONE_NEWNS), "unshare");
    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount private");
    for (char *at = writable, *end; *at; at = end) {
        end = at + strcspn(at, ":");
        if (*end)
            *end++ = 0;
        need(mount(at, at, NULL, MS_BIND, NULL), at);
    }
    need(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &read_only, sizeof read_only), "mount_setattr");
    need(mount("tmpfs", "/tmp", "tmpfs", 0, "size=256m"), "mount /tmp");
    free(writable);
    writable = strdup(getenv("FUZZ_WRITABLE") ? getenv("FUZZ_WRITABLE") : "");
    for (char *at = writable, *end; *at; at = end) {
        end = at + strcspn(at, ":");
        if (*end)
            *end++ = 0;
        need(mount_setattr(AT_FDCWD, at, 0, &again, sizeof again), at);
    }
    free(writable);
}
