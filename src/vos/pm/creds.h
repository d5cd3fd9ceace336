/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of a process, and what the set*id calls do to them (credentials(7), setresuid(2)). Pure. */
#ifndef PM_CREDS_H
#define PM_CREDS_H

#include "vos/protocol.h"
#include <stdbool.h>
#include <stdint.h>

#define PM_GROUPS_MAX 1024u

struct creds {
    uint32_t uid, euid, suid, fsuid;
    uint32_t gid, egid, sgid, fsgid;
    uint32_t group_count;
    uint32_t *groups; /* owned */
};

/* One call of enum pm_ids with its ids ((uint32_t)-1: unchanged). Effective uid 0 may all. 0, -EPERM or -EINVAL.
 * *previous gets the old fsuid or fsgid for PM_IDS_SETFSUID, _SETFSGID (which never fail), else 0. */
int creds_change(struct creds *creds, enum pm_ids which, uint32_t a, uint32_t b, uint32_t c, uint32_t *previous);
/* Replace the supplementary groups. 0, -EPERM, -EINVAL (too many) or -ENOMEM. */
int creds_set_groups(struct creds *creds, const uint32_t *groups, uint32_t count);
/* *to is uninitialised before. 0 or -ENOMEM. */
int creds_copy(struct creds *to, const struct creds *from);
void creds_destroy(struct creds *creds);

/* May a process with uid/euid send `sig` to one with these ids? same_session matters for SIGCONT (kill(2)). */
bool creds_may_signal(uint32_t uid, uint32_t euid, const struct creds *target, int sig, bool same_session);

#endif
