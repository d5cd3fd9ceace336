/* SPDX-License-Identifier: Apache-2.0 */
/* Locks, elections and barriers. */
#include "dvk/service_internal.h"

#include <stdlib.h>

static int enter(struct dvk *dvk, dvk_endpoint from, const char *name, const char *text, uint32_t flags,
                 struct dvk_lock *lock, int timeout_ms) {
    struct dvk_service_head head = {
        .op = DVK_SERVICE_OP_LOCK, .flags = flags, .value_len = text ? (uint32_t)strlen(text) : 0};
    if (!name || !*name || head.value_len > sizeof((struct dvk_leader *)0)->text - 1)
        return -EINVAL;
    struct service_thing *thing = service_thing_new(dvk, from, name);
    if (!thing)
        return strlen(name) > DVK_SERVICE_NAME_MAX ? -EINVAL : -ENOMEM;
    int error = service_do(dvk, from, &head, name, text, timeout_ms);
    if (error < 0) {
        service_thing_free(thing);
        return error;
    }
    thing->number = head.number;
    *lock = (struct dvk_lock){.handle = head.number, .token = head.revision};
    return 0;
}

int dvk_lock(struct dvk *dvk, dvk_endpoint from, const char *name, unsigned options, struct dvk_lock *lock,
             int timeout_ms) {
    if (options & ~(unsigned)DVK_TRY)
        return -EINVAL;
    return enter(dvk, from, name, NULL, options & DVK_TRY ? DVK_SERVICE_F_TRY : 0, lock, timeout_ms);
}

int dvk_leader_campaign(struct dvk *dvk, dvk_endpoint from, const char *name, const char *text, unsigned options,
                        struct dvk_lock *lock, int timeout_ms) {
    if (options & ~(unsigned)DVK_TRY)
        return -EINVAL;
    return enter(dvk, from, name, text, DVK_SERVICE_F_LEADER | (options & DVK_TRY ? DVK_SERVICE_F_TRY : 0u), lock,
                 timeout_ms);
}

int dvk_unlock(struct dvk *dvk, const struct dvk_lock *lock, int timeout_ms) {
    struct service_thing *thing = service_thing_find(dvk, lock->handle);
    if (!thing)
        return -DVK_ELOST;
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_UNLOCK, .number = lock->handle};
    int error = service_do(dvk, thing->from, &head, NULL, NULL, timeout_ms);
    if (error != -ENOMEM) /* nothing was asked: it is still ours */
        service_thing_free(thing);
    return error;
}

int dvk_leader_get(struct dvk *dvk, dvk_endpoint from, const char *name, struct dvk_leader *leader, unsigned options,
                   int timeout_ms) {
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_LEADER_GET,
                                    .flags = options & DVK_STALE ? DVK_SERVICE_F_STALE : 0};
    char *text;
    if (!name || !*name || options & ~(unsigned)DVK_STALE)
        return -EINVAL;
    int error = service_ask(dvk, from, &head, name, NULL, &text, timeout_ms);
    if (error < 0)
        return error;
    *leader = (struct dvk_leader){.endpoint = head.source, .node = head.node, .token = head.revision};
    size_t len = head.value_len < sizeof leader->text ? head.value_len : sizeof leader->text - 1;
    memcpy(leader->text, text + sizeof head + head.name_len, len);
    free(text);
    return 0;
}

int dvk_barrier(struct dvk *dvk, dvk_endpoint from, const char *name, unsigned count, int timeout_ms) {
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_BARRIER, .count = count};
    return name && *name ? service_do(dvk, from, &head, name, NULL, timeout_ms) : -EINVAL;
}
