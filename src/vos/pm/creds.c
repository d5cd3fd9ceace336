/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/creds.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define KEEP UINT32_MAX

/* The user and the group ids follow the same rules, each with three ids and one for the file system. */
struct ids {
    uint32_t *real, *effective, *saved, *fs;
    bool privileged;
};

static bool is_one_of(const struct ids *ids, uint32_t id, bool saved) {
    return id == *ids->real || id == *ids->effective || (saved && id == *ids->saved);
}

static int set_plain(const struct ids *ids, uint32_t id) {
    if (id == KEEP)
        return -EINVAL;
    if (ids->privileged)
        *ids->real = *ids->saved = id;
    else if (id != *ids->real && id != *ids->saved)
        return -EPERM;
    *ids->effective = *ids->fs = id;
    return 0;
}

static int set_two(const struct ids *ids, uint32_t real, uint32_t effective) {
    if (!ids->privileged) {
        if (real != KEEP && real != *ids->real && real != *ids->effective)
            return -EPERM;
        if (effective != KEEP && !is_one_of(ids, effective, true))
            return -EPERM;
    }
    uint32_t old_real = *ids->real;
    if (real != KEEP)
        *ids->real = real;
    if (effective != KEEP)
        *ids->effective = effective;
    if (real != KEEP || (effective != KEEP && effective != old_real))
        *ids->saved = *ids->effective;
    *ids->fs = *ids->effective;
    return 0;
}

static int set_three(const struct ids *ids, uint32_t real, uint32_t effective, uint32_t saved) {
    const uint32_t wanted[] = {real, effective, saved};
    for (int i = 0; i < 3 && !ids->privileged; i++)
        if (wanted[i] != KEEP && !is_one_of(ids, wanted[i], true))
            return -EPERM;
    if (real != KEEP)
        *ids->real = real;
    if (effective != KEEP)
        *ids->effective = effective;
    if (saved != KEEP)
        *ids->saved = saved;
    *ids->fs = *ids->effective;
    return 0;
}

static uint32_t set_fs(const struct ids *ids, uint32_t id) {
    uint32_t old = *ids->fs;
    if (id != KEEP && (ids->privileged || is_one_of(ids, id, true) || id == old))
        *ids->fs = id;
    return old;
}

int creds_change(struct creds *creds, enum pm_ids which, uint32_t a, uint32_t b, uint32_t c, uint32_t *previous) {
    struct ids user = {&creds->uid, &creds->euid, &creds->suid, &creds->fsuid, creds->euid == 0};
    struct ids group = {&creds->gid, &creds->egid, &creds->sgid, &creds->fsgid, creds->euid == 0};
    *previous = 0;
    switch (which) {
    case PM_IDS_SETUID:
        return set_plain(&user, a);
    case PM_IDS_SETGID:
        return set_plain(&group, a);
    case PM_IDS_SETREUID:
        return set_two(&user, a, b);
    case PM_IDS_SETREGID:
        return set_two(&group, a, b);
    case PM_IDS_SETRESUID:
        return set_three(&user, a, b, c);
    case PM_IDS_SETRESGID:
        return set_three(&group, a, b, c);
    case PM_IDS_SETFSUID:
        *previous = set_fs(&user, a);
        return 0;
    case PM_IDS_SETFSGID:
        *previous = set_fs(&group, a);
        return 0;
    case PM_IDS_GET:
        return 0;
    }
    return -EINVAL;
}

int creds_set_groups(struct creds *creds, const uint32_t *groups, uint32_t count) {
    if (creds->euid != 0)
        return -EPERM;
    if (count > PM_GROUPS_MAX)
        return -EINVAL;
    uint32_t *copy = NULL;
    if (count) {
        copy = malloc(count * sizeof(*copy));
        if (!copy)
            return -ENOMEM;
        memcpy(copy, groups, count * sizeof(*copy));
    }
    free(creds->groups);
    creds->groups = copy;
    creds->group_count = count;
    return 0;
}

int creds_copy(struct creds *to, const struct creds *from) {
    *to = *from;
    to->groups = NULL;
    if (!from->group_count)
        return 0;
    to->groups = malloc(from->group_count * sizeof(*to->groups));
    if (!to->groups) {
        to->group_count = 0;
        return -ENOMEM;
    }
    memcpy(to->groups, from->groups, from->group_count * sizeof(*to->groups));
    return 0;
}

void creds_destroy(struct creds *creds) {
    free(creds->groups);
    creds->groups = NULL;
    creds->group_count = 0;
}

bool creds_may_signal(uint32_t uid, uint32_t euid, const struct creds *target, int sig, bool same_session) {
    if (euid == 0 || euid == target->uid || euid == target->suid || uid == target->uid || uid == target->suid)
        return true;
    return sig == SIGCONT && same_session;
}
