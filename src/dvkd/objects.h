/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects: what the programs of a DC share by name, a part of the replicated configuration (config.h). Keys with values,
 * locks, elections, barriers and the members of groups. Pure: a change is applied alike on every node, in the order of
 * the group, and the number of the change is its *revision*, which only grows. Each DC has a space of its own; that of
 * DC 0 is the cluster's.
 *
 * A row is a JSON object under the key "DC/KIND/NAME":
 *   kv        {"v": value as base64, "c": revision that made it, "m": revision of its last change, "n": changes so far}
 *   lock      {"q": [{"who", "text", "token"}...]} who came first holds it; its token is the revision in which it did
 *   leader    the same: the first is the leader, the others are candidates
 *   barrier   {"count": n, "q": [{"who"}...]}      less than n
 *   group     {"view": n, "q": [{"who"}...]}       the members, oldest first
 * A row without entries in its q is none.
 *
 * Who: [node, incarnation, session, endpoint, request]. The incarnation is a dvkd's own, until it dies or is cut off; the
 * session is a client of it. What an incarnation or session has entered goes with it.
 *
 * Changes ({"op": "object", "do": ..., "dc", "name"} and):
 *   put      "value", "expect"?: the "m" that it must have (0: no such key)
 *   delete   "expect"?
 *   enter    "kind" lock or leader, "who", "text"?, "try"?: only if nobody is there
 *   leave    "kind" lock or leader or barrier or group, "who"
 *   wait     "who", "count": at a barrier
 *   join     "who": a group; one endpoint once
 *   end      "who" without dc and name: all that this session (0: any of that incarnation), or one endpoint of it
 *            (0: all), has entered
 *
 * Events, for those who wait, in the order of the changes:
 *   {"e": "kv", "dc", "name", "rev", "row": the new row or null}
 *   {"e": "head", "kind", "dc", "name", "rev", "head": the first entry or null}
 *   {"e": "release", "dc", "name", "rev", "q": entries}     a barrier opens
 *   {"e": "view", "dc", "name", "rev", "row": the new row or null}
 */
#ifndef DVKD_OBJECTS_H
#define DVKD_OBJECTS_H

#include "common/failure.h"
#include "common/json.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

#define OBJECTS_NAME_MAX 255u          /* bytes of a name */
#define OBJECTS_VALUE_MAX 32768u       /* bytes of a value */
#define OBJECTS_KEYS_MAX 4096u         /* keys of a space */
#define OBJECTS_SPACE_MAX (4u << 20)   /* bytes of the values of a space */
#define OBJECTS_TOTAL_MAX (32u << 20)  /* bytes of all values */
#define OBJECTS_OTHERS_MAX 1024u       /* locks, elections, barriers and groups of a space */
#define OBJECTS_QUEUE_MAX 1024u        /* entries of one of them */
#define OBJECTS_TEXT_MAX 255u          /* bytes of the text of an entry */

struct objects_space {
    uint32_t keys, others;
    uint64_t bytes;
};

struct objects {
    json_t *rows;   /* key -> row */
    json_t *events; /* array: what happened since objects_take_events */
    json_t *dirty;  /* keys of rows to write to the store: key -> true */
    uint64_t bytes;
    struct objects_space space[DVK_MAX_DC + 1];
};

int objects_init(struct objects *objects); /* 0 or -ENOMEM */
void objects_clear(struct objects *objects);

/*
 * Apply a change in `revision`. 0, or negative and nothing was changed; *failure says why:
 * bad-request -EINVAL, conflict -DVK_ECONFLICT, no-such-key -DVK_ENOKEY, busy -EBUSY, full -ENOSPC,
 * not-member -DVK_ENOTMEMBER, -EALREADY.
 */
int objects_apply(struct objects *objects, uint64_t revision, const json_t *change, struct failure *failure);
/* Drop what incarnations have entered that are no members any more. */
void objects_prune(struct objects *objects, uint64_t revision,
                   bool (*is_member)(void *context, uint32_t node, int64_t incarnation), void *context);
/* The DC is no more. */
void objects_remove_dc(struct objects *objects, uint32_t dc);
/* A row that was stored or sent; it is checked and copied. 0, -EINVAL or -ENOMEM. */
int objects_add_row(struct objects *objects, const char *key, const json_t *row);

/* Borrowed, until the next change; NULL: none. kind: "kv", ... */
json_t *objects_find(const struct objects *objects, uint32_t dc, const char *kind, const char *name);
/* The keys of a space that begin with prefix, sorted: a new array of {"name", "row"}. */
json_t *objects_list(const struct objects *objects, uint32_t dc, const char *kind, const char *prefix);
/* The events so far; a new reference. */
json_t *objects_take_events(struct objects *objects);

/* 1 to OBJECTS_NAME_MAX bytes of UTF-8 without control characters. */
bool objects_name_is_valid(const char *name, size_t len);

struct objects_who {
    uint32_t node;
    int64_t incarnation, session, request;
    dvk_endpoint endpoint;
};
/* A new array; NULL when there is no memory. */
json_t *objects_who_json(const struct objects_who *who);
/* False if it is none. */
bool objects_who_read(const json_t *json, struct objects_who *who);

#endif
