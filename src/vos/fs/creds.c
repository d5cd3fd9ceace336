/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials: whose rights an op has, checked in code for what the host kernel shows to us as a stranger, and taken on
 * towards the host kernel for the writable layer.
 */
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

struct creds *creds_new(uint32_t uid, uint32_t gid, const uint32_t *groups, uint32_t group_count) {
    struct creds *creds = malloc(sizeof(*creds) + group_count * sizeof(uint32_t));
    if (!creds)
        return NULL;
    *creds = (struct creds){.refs = 1, .uid = uid, .gid = gid, .group_count = group_count};
    if (group_count)
        memcpy(creds->groups, groups, group_count * sizeof(uint32_t));
    return creds;
}

struct creds *creds_hold(struct creds *creds) {
    creds->refs++;
    return creds;
}

void creds_drop(struct creds *creds) {
    if (creds && --creds->refs == 0)
        free(creds);
}

bool creds_in_group(const struct creds *creds, uint32_t gid) {
    if (creds->gid == gid)
        return true;
    for (uint32_t i = 0; i < creds->group_count; i++)
        if (creds->groups[i] == gid)
            return true;
    return false;
}

int creds_check(const struct creds *creds, uint32_t mode, uint32_t uid, uint32_t gid, int want) {
    if (creds->uid == 0) {
        if ((want & X_OK) && !S_ISDIR(mode) && !(mode & 0111))
            return -EACCES;
        return 0;
    }
    uint32_t bits = mode;
    if (creds->uid == uid)
        bits >>= 6;
    else if (creds_in_group(creds, gid))
        bits >>= 3;
    return ((uint32_t)want & ~bits & 7) ? -EACCES : 0;
}

/* What the thread's rights are now. Kept by value: the pointer alone could be a reused one. */
static _Thread_local struct {
    bool known;
    uint32_t uid, gid, group_count;
    uint32_t groups[32];
} applied;

static bool applied_equals(uint32_t uid, uint32_t gid, const uint32_t *groups, uint32_t group_count) {
    return applied.known && applied.uid == uid && applied.gid == gid && applied.group_count == group_count &&
           (!group_count || memcmp(applied.groups, groups, group_count * sizeof(uint32_t)) == 0);
}

int creds_apply(const struct creds *creds) {
    uint32_t uid = creds ? creds->uid : 0, gid = creds ? creds->gid : 0, count = creds ? creds->group_count : 0;
    const uint32_t *groups = creds ? creds->groups : NULL;
    if (applied_equals(uid, gid, groups, count))
        return 0;
    applied.known = false;
    /* libc's wrapper would change all threads. */
    if (syscall(SYS_setgroups, (size_t)count, groups) < 0)
        return -EPERM;
    /* These return the previous id and no error: asking again tells whether it worked. */
    setfsgid(gid);
    if ((uint32_t)setfsgid((gid_t)-1) != gid)
        return -EPERM;
    setfsuid(uid);
    if ((uint32_t)setfsuid((uid_t)-1) != uid)
        return -EPERM;
    if (count <= ARRAY_LENGTH(applied.groups)) {
        applied.uid = uid;
        applied.gid = gid;
        applied.group_count = count;
        if (count)
            memcpy(applied.groups, groups, count * sizeof(uint32_t));
        applied.known = true;
    }
    return 0;
}
