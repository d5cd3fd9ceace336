/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of kv_server. Requests and replies carry a struct kv_pair as their payload. */
#ifndef KV_H
#define KV_H

#include <dvk/message.h>

#define KV_KEY_MAX 63   /* bytes, and a NUL */
#define KV_VALUE_MAX 127
#define KV_PAIRS_MAX 256 /* all of them fit into one message's data */

enum kv_type {
    KV_PUT = 1, /* reply: status 0 when primary and backup have it */
    KV_GET,     /* reply: the pair, or -ENOENT */
    KV_JOIN,    /* of a new backup. reply: data: all pairs */
    KV_WATCH,   /* of the backup: never answered: it ends when the primary does */
    KV_UPDATE,  /* primary to backup: a PUT */
};
#define KV_NOT_PRIMARY (-EAGAIN) /* status: ask another server */

struct kv_pair {
    char key[KV_KEY_MAX + 1];
    char value[KV_VALUE_MAX + 1];
};

#endif
