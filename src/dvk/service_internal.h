/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by service.c (packets and events), group.c, kv.c and lock.c. */
#ifndef DVK_SERVICE_INTERNAL_H
#define DVK_SERVICE_INTERNAL_H

#include "dvk/internal.h"
#include "dvk/service_protocol.h"

#include <dvk/service.h>

#define SERVICE_UNTAKEN_FULL 400u /* messages that wait for us, at which we send none: below what makes dvkd hold us up */
#define SERVICE_TAKEN_TELL 32u    /* dvkd is told each time that so many were taken */

/* A membership, a lock or a watch of ours, by dvkd's number. */
struct service_thing {
    struct link link;
    uint64_t number;
    dvk_endpoint from;
    dvk_kv_fn *fn; /* watches */
    void *context;
};

/* Ask and wait. *head becomes the answer's; *out its text (head, name, value), to be freed. */
int service_ask(struct dvk *dvk, dvk_endpoint from, struct dvk_service_head *head, const char *name, const void *value,
                char **out, int timeout_ms);
int service_do(struct dvk *dvk, dvk_endpoint from, struct dvk_service_head *head, const char *name, const void *value,
               int timeout_ms);
struct service_thing *service_thing_new(struct dvk *dvk, dvk_endpoint from, const char *name);
struct service_thing *service_thing_find(struct dvk *dvk, uint64_t number);
void service_thing_free(struct service_thing *thing); /* NULL is allowed */

#endif
