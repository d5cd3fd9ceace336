/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services for the programs of a DC: keys with values, locks, elections, barriers. Their state is on every node, on disk,
 * and changes in one order for all; a change is acknowledged when every node of the view has written it.
 *
 * Every call names an endpoint of ours, and with it the DC whose names are meant: each DC has its own; those of DC 0 are the
 * cluster's. Names (keys) have 1 to 255 bytes of UTF-8 without control characters.
 *
 * Revisions: each change has a number that grows over the whole cluster. A key's revision is that of its last change.
 *
 * Without quorum nothing changes, and old values are read only when asked for (DVK_STALE). Locks, offices and barriers are
 * those of a process (its context) on a node: when the process ends, the endpoint is unbound, or its node is lost or loses
 * quorum, they pass on to the next. A holder that is cut off is told by DVK_EVENT_LOST, but others may have it by then: let
 * whatever the lock guards refuse a token lower than the greatest that it has seen.
 *
 * Threads: one thread at a time uses a context. timeout_ms: 0: do not wait, -1: for ever. -DVK_ENOQUORUM: there
 * is no quorum, or it was lost: nothing was changed. -DVK_EUNKNOWN: quorum was lost on the way: read what became of it. What is
 * under way when the DC ends gets -DVK_ENODC. Common errors: -DVK_ETIMEDOUT (a change may still take effect; a lock or barrier
 * is not waited for any more), -DVK_ENOTALLOWED (the endpoint is not ours, or not any more), -EINVAL, -DVK_ENODAEMON, -ENOMEM.
 */
#ifndef DVK_SERVICE_H
#define DVK_SERVICE_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- keys and values ---- */

#define DVK_KEY_MAX 255u          /* bytes of a name */
#define DVK_KV_VALUE_MAX 32768u   /* bytes of a value */
/* A DC has at most 4096 keys and 4 MiB of values, all together 32 MiB: what is more gives -ENOSPC. */

enum dvk_service_options {
    DVK_STALE = 1u << 0,  /* read what this node knows, which may be old, also without quorum */
    DVK_TRY = 1u << 1,    /* do not wait for a lock that is held: -EBUSY */
    DVK_VALUES = 1u << 2, /* dvk_kv_list: with their values */
};

#define DVK_KV_ANY UINT64_MAX /* as an expected revision: whatever it is */
#define DVK_KV_NONE 0u        /* there must be no such key */

struct dvk_kv {
    const char *key;      /* NUL-terminated */
    const void *value;    /* NULL when it was deleted or not asked for */
    size_t len;           /* bytes of the value */
    uint64_t revision;    /* of this change */
    uint64_t created;     /* revision that made the key */
    uint32_t changes;     /* of the key since then, that one included */
    bool deleted;         /* watches */
    bool gap;             /* watches: changes were missed while there was no quorum; read the keys anew. key is "" */
};

/*
 * dvk_kv_get: read a key: up to cap bytes of its value to `value`; *info (may be NULL) tells the rest, key and value
 * excepted. What it returns is at least as new as every change that was acknowledged before the call (but for DVK_STALE).
 * Errors: the common ones, -DVK_ENOQUORUM, -DVK_ENOKEY.
 */
int dvk_kv_get(struct dvk *dvk, dvk_endpoint from, const char *key, void *value, size_t cap, struct dvk_kv *info,
               unsigned options, int timeout_ms);
/* dvk_kv_put: set a key. *revision (may be NULL) gets that of the change. Errors: the common ones,
 * -DVK_ENOQUORUM, -DVK_EUNKNOWN, -EMSGSIZE, -ENOSPC. */
int dvk_kv_put(struct dvk *dvk, dvk_endpoint from, const char *key, const void *value, size_t len, uint64_t *revision,
               int timeout_ms);
/* dvk_kv_cas: the same, only if the key is in the expected revision (or DVK_KV_NONE). Errors: those of
 * dvk_kv_put, -DVK_ECONFLICT. */
int dvk_kv_cas(struct dvk *dvk, dvk_endpoint from, const char *key, uint64_t expected, const void *value, size_t len,
               uint64_t *revision, int timeout_ms);
/* dvk_kv_delete: remove a key that is in the expected revision (or DVK_KV_ANY). Errors: the common ones,
 * -DVK_ENOQUORUM, -DVK_EUNKNOWN, -DVK_ENOKEY, -DVK_ECONFLICT. */
int dvk_kv_delete(struct dvk *dvk, dvk_endpoint from, const char *key, uint64_t expected, int timeout_ms);

/* What is told of a key; valid during the call. */
typedef void dvk_kv_fn(void *context, const struct dvk_kv *kv);
/*
 * dvk_kv_list: fn is called for each key that begins with prefix ("": all), sorted, before it returns. A long listing is read
 * in parts: changes between two parts may be seen. options: DVK_STALE, DVK_VALUES. Errors: the common ones, -DVK_ENOQUORUM.
 */
int dvk_kv_list(struct dvk *dvk, dvk_endpoint from, const char *prefix, dvk_kv_fn *fn, void *context, unsigned options,
                int timeout_ms);
/*
 * dvk_kv_watch: have fn called from within dvk_receive for each change of a key that begins with prefix, in order and none
 * left out, from revision *revision (may be NULL) + 1 on. *watch names it for dvk_kv_unwatch. It can begin without quorum.
 * Errors: the common ones.
 */
int dvk_kv_watch(struct dvk *dvk, dvk_endpoint from, const char *prefix, dvk_kv_fn *fn, void *context, uint64_t *watch,
                 uint64_t *revision, int timeout_ms);
/* dvk_kv_unwatch: fn will not be called any more. Errors: -DVK_ENOTMEMBER (no such watch),
 * -DVK_ENOTALLOWED, -DVK_ETIMEDOUT, -DVK_ENODAEMON, -ENOMEM. */
int dvk_kv_unwatch(struct dvk *dvk, uint64_t watch, int timeout_ms);

/* ---- locks, elections, barriers ---- */

struct dvk_lock {
    uint64_t handle; /* names it; also in dvk_event.id of DVK_EVENT_LOST */
    uint64_t token;  /* fencing token: grows each time that anyone gets the lock */
};

/* dvk_lock: wait for a named lock, in the order of arrival. options: DVK_TRY. Errors: the common ones, -DVK_ENOQUORUM,
 * -DVK_ENODC (the DC ended), -EBUSY, -ENOSPC (1024 wait, or the DC has 1024 locks, offices, barriers and groups). */
int dvk_lock(struct dvk *dvk, dvk_endpoint from, const char *name, unsigned options, struct dvk_lock *lock,
             int timeout_ms);
/* dvk_unlock: let go of a lock or office. Errors: -DVK_ELOST: it was ours no more, or was lost with the quorum; -DVK_ETIMEDOUT
 * (it may be let go of later), -DVK_ENOTALLOWED (its endpoint is unbound), -DVK_ENODAEMON, -ENOMEM. */
int dvk_unlock(struct dvk *dvk, const struct dvk_lock *lock, int timeout_ms);

/*
 * dvk_leader_campaign: stand for a named office; returns when we are the leader: the first candidate is, then the next.
 * text: what others are told of us, up to 255 bytes. dvk_unlock resigns. Errors: those of dvk_lock.
 */
int dvk_leader_campaign(struct dvk *dvk, dvk_endpoint from, const char *name, const char *text, unsigned options,
                        struct dvk_lock *lock, int timeout_ms);
struct dvk_leader {
    dvk_endpoint endpoint;
    uint32_t node;
    uint64_t token;
    char text[256];
};
/* dvk_leader_get: who leads. options: DVK_STALE. Errors: the common ones, -DVK_ENOQUORUM, -DVK_ENOKEY: nobody. */
int dvk_leader_get(struct dvk *dvk, dvk_endpoint from, const char *name, struct dvk_leader *leader, unsigned options,
                   int timeout_ms);

/* dvk_barrier: wait until `count` (1 to 1024) are there; all must name the same number (else -EINVAL). It can be used again.
 * Errors: the common ones, -DVK_ENOQUORUM, -DVK_ENODC (the DC ended), -ENOSPC. */
int dvk_barrier(struct dvk *dvk, dvk_endpoint from, const char *name, unsigned count, int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
