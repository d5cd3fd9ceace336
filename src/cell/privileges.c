/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/privileges.h"
#include <errno.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

static void capability_release(cap_t *set) {
    if (*set)
        (void)cap_free(*set);
}
#define cleanup_cap __attribute__((cleanup(capability_release)))

int privileges_keep_over_exec(void) {
    cleanup_cap cap_t set = cap_get_proc();
    if (!set)
        return -errno;
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++) {
        cap_flag_value_t permitted;
        if (cap_get_flag(set, cap, CAP_PERMITTED, &permitted) || cap_set_flag(set, CAP_INHERITABLE, 1, &cap, permitted))
            return -errno;
    }
    if (cap_set_proc(set))
        return -errno;
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++) {
        cap_flag_value_t permitted;
        if (cap_get_flag(set, cap, CAP_PERMITTED, &permitted) || (permitted && cap_set_ambient(cap, CAP_SET)))
            return -errno;
    }
    return 0;
}

int privileges_become(uid_t uid, gid_t gid) {
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(gid, gid, gid) ||
        setresuid(uid, uid, uid))
        return -errno;
    /* setresuid cleared the effective set if the old user was root. */
    cleanup_cap cap_t set = cap_get_proc();
    if (!set)
        return -errno;
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++) {
        cap_flag_value_t permitted;
        if (cap_get_flag(set, cap, CAP_PERMITTED, &permitted) || cap_set_flag(set, CAP_EFFECTIVE, 1, &cap, permitted))
            return -errno;
    }
    return cap_set_proc(set) ? -errno : 0;
}

static bool capability_in(const cap_value_t *list, size_t count, cap_value_t cap) {
    for (size_t i = 0; i < count; i++)
        if (list[i] == cap)
            return true;
    return false;
}

int privileges_limit(const cap_value_t *keep, size_t count, bool ambient) {
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
        if (!capability_in(keep, count, cap) && cap_drop_bound(cap))
            return -errno;
    cleanup_cap cap_t set = cap_init();
    if (!set)
        return -errno;
    if (count && (cap_set_flag(set, CAP_PERMITTED, (int)count, keep, CAP_SET) ||
                  cap_set_flag(set, CAP_EFFECTIVE, (int)count, keep, CAP_SET) ||
                  (ambient && cap_set_flag(set, CAP_INHERITABLE, (int)count, keep, CAP_SET))))
        return -errno;
    if (cap_reset_ambient() || cap_set_proc(set))
        return -errno;
    for (size_t i = 0; ambient && i < count; i++)
        if (cap_set_ambient(keep[i], CAP_SET))
            return -errno;
    return 0;
}
