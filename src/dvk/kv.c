/* SPDX-License-Identifier: Apache-2.0 */
#include "dvk/service_internal.h"

#include <stdlib.h>

static uint32_t flags_of(unsigned options) {
    return (options & DVK_STALE ? DVK_SERVICE_F_STALE : 0u) | (options & DVK_VALUES ? DVK_SERVICE_F_VALUES : 0u) |
           (options & DVK_TRY ? DVK_SERVICE_F_TRY : 0u);
}

int dvk_kv_get(struct dvk *dvk, dvk_endpoint from, const char *key, void *value, size_t cap, struct dvk_kv *info,
               unsigned options, int timeout_ms) {
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_KV_GET, .flags = flags_of(options)};
    char *text;
    if (!key || !*key || options & ~(unsigned)DVK_STALE)
        return -EINVAL;
    int error = service_ask(dvk, from, &head, key, NULL, &text, timeout_ms);
    if (error < 0)
        return error;
    size_t len = head.value_len < cap ? head.value_len : cap;
    if (len && value)
        memcpy(value, text + sizeof head + head.name_len, len);
    if (info)
        *info = (struct dvk_kv){
            .len = head.value_len, .revision = head.revision, .created = head.created, .changes = head.count};
    free(text);
    return 0;
}

static int change(struct dvk *dvk, dvk_endpoint from, uint32_t op, const char *key, uint64_t expected,
                  const void *value, size_t len, uint64_t *revision, int timeout_ms) {
    if (!key || !*key || (len && !value))
        return -EINVAL;
    if (len > DVK_KV_VALUE_MAX)
        return -EMSGSIZE;
    struct dvk_service_head head = {.op = op,
                                    .flags = expected == DVK_KV_ANY ? 0 : DVK_SERVICE_F_EXPECT,
                                    .revision = expected,
                                    .value_len = (uint32_t)len};
    int error = service_do(dvk, from, &head, key, value, timeout_ms);
    if (error == 0 && revision)
        *revision = head.revision;
    return error;
}

int dvk_kv_put(struct dvk *dvk, dvk_endpoint from, const char *key, const void *value, size_t len, uint64_t *revision,
               int timeout_ms) {
    return change(dvk, from, DVK_SERVICE_OP_KV_PUT, key, DVK_KV_ANY, value, len, revision, timeout_ms);
}

int dvk_kv_cas(struct dvk *dvk, dvk_endpoint from, const char *key, uint64_t expected, const void *value, size_t len,
               uint64_t *revision, int timeout_ms) {
    return change(dvk, from, DVK_SERVICE_OP_KV_PUT, key, expected, value, len, revision, timeout_ms);
}

int dvk_kv_delete(struct dvk *dvk, dvk_endpoint from, const char *key, uint64_t expected, int timeout_ms) {
    return change(dvk, from, DVK_SERVICE_OP_KV_DELETE, key, expected, NULL, 0, NULL, timeout_ms);
}

/* Tell the entries of an answer to KV_LIST; last gets the last name. */
static int tell_entries(const char *entries, size_t len, char last[DVK_SERVICE_NAME_MAX + 1], unsigned options,
                        dvk_kv_fn *fn, void *context) {
    struct dvk_service_head head;
    for (size_t at = 0; at < len; at += sizeof head + head.name_len + head.value_len) {
        if (len - at < sizeof head)
            return -DVK_EVERSION;
        memcpy(&head, entries + at, sizeof head);
        if (head.name_len > DVK_SERVICE_NAME_MAX || head.value_len > DVK_SERVICE_VALUE_MAX ||
            len - at - sizeof head < head.name_len + head.value_len)
            return -DVK_EVERSION;
        memcpy(last, entries + at + sizeof head, head.name_len);
        last[head.name_len] = 0;
        const struct dvk_kv kv = {.key = last,
                                  .value = options & DVK_VALUES ? entries + at + sizeof head + head.name_len : NULL,
                                  .len = head.value_len,
                                  .revision = head.revision,
                                  .created = head.created,
                                  .changes = head.count};
        fn(context, &kv);
    }
    return 0;
}

int dvk_kv_list(struct dvk *dvk, dvk_endpoint from, const char *prefix, dvk_kv_fn *fn, void *context, unsigned options,
                int timeout_ms) {
    char last[DVK_SERVICE_NAME_MAX + 1] = "";
    if (!prefix || !fn || options & ~(unsigned)(DVK_STALE | DVK_VALUES))
        return -EINVAL;
    for (;;) {
        struct dvk_service_head head = {
            .op = DVK_SERVICE_OP_KV_LIST, .flags = flags_of(options), .value_len = (uint32_t)strlen(last)};
        char *text;
        int error = service_ask(dvk, from, &head, prefix, last, &text, timeout_ms);
        if (error == 0)
            error = tell_entries(text + sizeof head + head.name_len, head.value_len, last, options, fn, context);
        free(text);
        if (error < 0 || !(head.flags & DVK_SERVICE_F_MORE))
            return error;
    }
}

int dvk_kv_watch(struct dvk *dvk, dvk_endpoint from, const char *prefix, dvk_kv_fn *fn, void *context, uint64_t *watch,
                 uint64_t *revision, int timeout_ms) {
    if (!prefix || !fn)
        return -EINVAL;
    struct service_thing *thing = service_thing_new(dvk, from, prefix);
    if (!thing)
        return strlen(prefix) > DVK_SERVICE_NAME_MAX ? -EINVAL : -ENOMEM;
    thing->fn = fn;
    thing->context = context;
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_KV_WATCH};
    int error = service_do(dvk, from, &head, prefix, NULL, timeout_ms);
    if (error < 0) {
        service_thing_free(thing);
        return error;
    }
    *watch = thing->number = head.number;
    if (revision)
        *revision = head.revision;
    return 0;
}

int dvk_kv_unwatch(struct dvk *dvk, uint64_t watch, int timeout_ms) {
    struct service_thing *thing = service_thing_find(dvk, watch);
    if (!thing)
        return -DVK_ENOTMEMBER;
    struct dvk_service_head head = {.op = DVK_SERVICE_OP_KV_UNWATCH, .number = watch};
    int error = service_do(dvk, thing->from, &head, NULL, NULL, timeout_ms);
    if (error != -ENOMEM) /* nothing was asked: it goes on */
        service_thing_free(thing);
    return error;
}
