/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/objects.h"

#include "common/base64.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIZE (OBJECTS_NAME_MAX + 32u)
#define COUNT_MAX (1u << 20) /* of a barrier */

static const char *const kinds[] = {"kv", "lock", "leader", "barrier", "group"};

static json_t *must(json_t *json) {
    if (!json) {
        log_error("out of memory");
        abort(); /* an object that is changed by half on one node only would be worse */
    }
    return json;
}

int objects_init(struct objects *objects) {
    *objects = (struct objects){.rows = json_object(), .events = json_array(), .dirty = json_object()};
    return objects->rows && objects->events && objects->dirty ? 0 : -ENOMEM;
}

void objects_clear(struct objects *objects) {
    json_decref(objects->rows);
    json_decref(objects->events);
    json_decref(objects->dirty);
    *objects = (struct objects){0};
}

json_t *objects_take_events(struct objects *objects) {
    json_t *events = objects->events;
    objects->events = must(json_array());
    return events;
}

bool objects_name_is_valid(const char *name, size_t len) {
    if (len == 0 || len > OBJECTS_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127)
            return false;
    cleanup_json json_t *text = json_stringn(name, len);
    return text != NULL; /* not: no UTF-8 */
}

/* ---- who ---- */

json_t *objects_who_json(const struct objects_who *who) {
    return json_pack("[I, I, I, I, I]", (json_int_t)who->node, (json_int_t)who->incarnation, (json_int_t)who->session,
                     (json_int_t)who->endpoint, (json_int_t)who->request);
}

bool objects_who_read(const json_t *json, struct objects_who *who) {
    json_int_t n[5];
    if (json_array_size(json) != 5)
        return false;
    for (size_t i = 0; i < 5; i++) {
        if (!json_is_integer(json_array_get(json, i)))
            return false;
        n[i] = json_integer_value(json_array_get(json, i));
    }
    if (n[0] < 1 || n[0] > DVK_MAX_NODE)
        return false;
    *who = (struct objects_who){(uint32_t)n[0], n[1], n[2], n[4], (dvk_endpoint)n[3]};
    return true;
}

/* ---- rows ---- */

static void key_make(char key[static KEY_SIZE], uint32_t dc, const char *kind, const char *name) {
    snprintf(key, KEY_SIZE, "%u/%s/%s", dc, kind, name);
}

/* kind and name point into `key`'s copy of the caller. */
static bool key_read(const char *key, uint32_t *dc, const char **kind, const char **name) {
    char *end;
    unsigned long number = strtoul(key, &end, 10);
    if (end == key || *end != '/' || number > DVK_MAX_DC || (key[0] == '0' && end != key + 1) || key[0] < '0')
        return false;
    const char *slash = strchr(end + 1, '/');
    for (unsigned i = 0; slash && i < ARRAY_LENGTH(kinds); i++)
        if ((size_t)(slash - end - 1) == strlen(kinds[i]) && strncmp(end + 1, kinds[i], strlen(kinds[i])) == 0) {
            *dc = (uint32_t)number;
            *kind = kinds[i];
            *name = slash + 1;
            return objects_name_is_valid(*name, strlen(*name));
        }
    return false;
}

static bool is_kv(const char *kind) { return kind == kinds[0] || strcmp(kind, "kv") == 0; }

static size_t row_bytes(const json_t *row) {
    size_t len;
    const char *value = field_string(row, "v");
    return value && base64_check(value, &len) ? len : 0;
}

json_t *objects_find(const struct objects *objects, uint32_t dc, const char *kind, const char *name) {
    char key[KEY_SIZE];
    key_make(key, dc, kind, name);
    return json_object_get(objects->rows, key);
}

/* Put a row in its place (a reference is taken over), or take it away (NULL); the counts follow. */
static void row_set(struct objects *objects, const char *key, uint32_t dc, const char *kind, json_t *row) {
    struct objects_space *space = &objects->space[dc];
    const json_t *old = json_object_get(objects->rows, key);
    uint32_t *count = is_kv(kind) ? &space->keys : &space->others;
    size_t gone = is_kv(kind) ? row_bytes(old) : 0, come = is_kv(kind) && row ? row_bytes(row) : 0;
    *count += (row != NULL) - (uint32_t)(old != NULL);
    space->bytes += come - gone;
    objects->bytes += come - gone;
    if (row ? json_object_set_new(objects->rows, key, row) < 0 : old && json_object_del(objects->rows, key) < 0)
        must(NULL);
    if (json_object_set_new(objects->dirty, key, json_true()) < 0)
        must(NULL);
}

static bool entry_is_valid(const json_t *entry, bool queue) {
    struct objects_who who;
    const char *text = field_string(entry, "text");
    json_int_t token;
    return objects_who_read(json_object_get(entry, "who"), &who) &&
           (!queue || (text && strlen(text) <= OBJECTS_TEXT_MAX && field_integer(entry, "token", &token)));
}

static bool row_is_valid(const char *kind, const json_t *row) {
    size_t len, i;
    json_int_t n;
    if (is_kv(kind)) {
        const char *value = field_string(row, "v");
        return value && base64_check(value, &len) && len <= OBJECTS_VALUE_MAX && field_integer(row, "c", &n) &&
               field_integer(row, "m", &n) && field_integer(row, "n", &n);
    }
    const json_t *queue = json_object_get(row, "q"), *entry;
    bool ordered = strcmp(kind, "lock") == 0 || strcmp(kind, "leader") == 0;
    if (!json_is_array(queue) || json_array_size(queue) == 0 || json_array_size(queue) > OBJECTS_QUEUE_MAX)
        return false;
    json_array_foreach(queue, i, entry) if (!entry_is_valid(entry, ordered)) return false;
    if (strcmp(kind, "barrier") == 0)
        return field_integer_or(row, "count", 1, COUNT_MAX, 0) > (json_int_t)json_array_size(queue);
    return ordered || field_integer(row, "view", &n);
}

int objects_add_row(struct objects *objects, const char *key, const json_t *row) {
    uint32_t dc;
    const char *kind, *name;
    if (!key_read(key, &dc, &kind, &name) || !row_is_valid(kind, row) || json_object_get(objects->rows, key))
        return -EINVAL;
    json_t *copy = json_deep_copy(row);
    if (!copy)
        return -ENOMEM;
    row_set(objects, key, dc, kind, copy);
    json_object_del(objects->dirty, key);
    return 0;
}

static int compare_keys(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* All keys that begin so, sorted: what is done to many rows happens in the same order everywhere. The names are the
 * caller's, all in one piece: free(). */
static char **keys_of(const struct objects *objects, const char *prefix, size_t *count) {
    size_t n = 0, bytes = 0, prefix_len = strlen(prefix);
    const char *key;
    json_t *row;
    json_object_foreach(objects->rows, key, row) if (strncmp(key, prefix, prefix_len) == 0) {
        n++;
        bytes += strlen(key) + 1;
    }
    char **keys = malloc(n * sizeof *keys + bytes + 1), *text = (char *)(keys + n);
    if (!keys)
        must(NULL);
    *count = 0;
    json_object_foreach(objects->rows, key, row) if (strncmp(key, prefix, prefix_len) == 0) {
        keys[(*count)++] = text;
        text = stpcpy(text, key) + 1;
    }
    qsort(keys, n, sizeof *keys, compare_keys);
    return keys;
}

json_t *objects_list(const struct objects *objects, uint32_t dc, const char *kind, const char *prefix) {
    char start[KEY_SIZE];
    size_t count, name_at;
    key_make(start, dc, kind, "");
    name_at = strlen(start);
    if (name_at + strlen(prefix) >= sizeof start)
        return must(json_array());
    strcat(start, prefix);
    cleanup_free char **keys = keys_of(objects, start, &count);
    json_t *list = must(json_array());
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, must(json_pack("{s:s, s:O}", "name", keys[i] + name_at, "row",
                                                   json_object_get(objects->rows, keys[i]))));
    return list;
}

/* ---- events ---- */

static void event_add(struct objects *objects, json_t *event) {
    if (json_array_append_new(objects->events, must(event)) < 0)
        must(NULL);
}

/* ---- keys and values ---- */

static int refuse(struct failure *failure, int result, const char *code, const char *text) {
    return failure_set(failure, result, code, NULL, "%s", text);
}

static int check_expect(const json_t *row, const json_t *change, const char *name, struct failure *failure) {
    json_int_t expect, now = 0;
    if (!json_object_get(change, "expect"))
        return 0;
    field_integer(row, "m", &now);
    if (field_integer(change, "expect", &expect) && expect == now)
        return 0;
    return failure_set(failure, -DVK_ECONFLICT, "conflict", "dvs kv get tells its revision",
                       "key %s is not as it was expected", name);
}

static int apply_put(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *change,
                     struct failure *failure) {
    const struct objects_space *space = &objects->space[dc];
    const json_t *old = objects_find(objects, dc, "kv", name);
    const char *value = field_string(change, "value");
    json_int_t created = (json_int_t)revision, changes = 0;
    size_t len, before = row_bytes(old);
    if (!value || !base64_check(value, &len))
        return refuse(failure, -EINVAL, "bad-request", "a value is missing");
    if (len > OBJECTS_VALUE_MAX)
        return failure_set(failure, -EMSGSIZE, "limit-out-of-range", "divide it over several keys",
                           "a value has at most %u bytes", OBJECTS_VALUE_MAX);
    int result = check_expect(old, change, name, failure);
    if (result < 0)
        return result;
    if ((!old && space->keys >= OBJECTS_KEYS_MAX) || space->bytes - before + len > OBJECTS_SPACE_MAX ||
        objects->bytes - before + len > OBJECTS_TOTAL_MAX)
        return failure_set(failure, -ENOSPC, "full", "dvs kv del removes keys",
                           "no room for key %s: %u keys and %u bytes of values are the most", name, OBJECTS_KEYS_MAX,
                           OBJECTS_SPACE_MAX);
    field_integer(old, "c", &created);
    field_integer(old, "n", &changes);
    char key[KEY_SIZE];
    key_make(key, dc, "kv", name);
    json_t *row = must(json_pack("{s:s, s:I, s:I, s:I}", "v", value, "c", created, "m", (json_int_t)revision, "n",
                                 changes + 1));
    row_set(objects, key, dc, "kv", row);
    event_add(objects, json_pack("{s:s, s:I, s:s, s:I, s:O}", "e", "kv", "dc", (json_int_t)dc, "name", name, "rev",
                                 (json_int_t)revision, "row", row));
    return 0;
}

static int apply_delete(struct objects *objects, uint64_t revision, uint32_t dc, const char *name,
                        const json_t *change, struct failure *failure) {
    const json_t *old = objects_find(objects, dc, "kv", name);
    if (!old)
        return failure_set(failure, -DVK_ENOKEY, "no-such-key", "dvs kv ls lists them", "there is no key %s", name);
    int result = check_expect(old, change, name, failure);
    if (result < 0)
        return result;
    char key[KEY_SIZE];
    key_make(key, dc, "kv", name);
    row_set(objects, key, dc, "kv", NULL);
    event_add(objects, json_pack("{s:s, s:I, s:s, s:I, s:n}", "e", "kv", "dc", (json_int_t)dc, "name", name, "rev",
                                 (json_int_t)revision, "row"));
    return 0;
}

/* ---- queues ---- */

static bool is_ordered(const char *kind) { return strcmp(kind, "lock") == 0 || strcmp(kind, "leader") == 0; }

/* The first of a queue has it from now on; head NULL: nobody. */
static void tell_head(struct objects *objects, uint64_t revision, uint32_t dc, const char *kind, const char *name,
                      json_t *head) {
    if (head)
        json_object_set_new(head, "token", must(json_integer((json_int_t)revision)));
    cleanup_json json_t *copy = head ? must(json_deep_copy(head)) : must(json_null());
    event_add(objects, json_pack("{s:s, s:s, s:I, s:s, s:I, s:O}", "e", "head", "kind", kind, "dc", (json_int_t)dc,
                                 "name", name, "rev", (json_int_t)revision, "head", copy));
}

static void tell_view(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *row) {
    cleanup_json json_t *copy = row ? must(json_deep_copy(row)) : must(json_null());
    event_add(objects, json_pack("{s:s, s:I, s:s, s:I, s:O}", "e", "view", "dc", (json_int_t)dc, "name", name, "rev",
                                 (json_int_t)revision, "row", copy));
}

/* A copy of the row to change, with room for one more; NULL with *failure: no room. */
static json_t *row_for_entry(const struct objects *objects, uint32_t dc, const char *kind, const char *name,
                             const json_t *change, struct objects_who *who, struct failure *failure, int *result) {
    const json_t *old = objects_find(objects, dc, kind, name);
    *result = -EINVAL;
    if (!objects_who_read(json_object_get(change, "who"), who)) {
        refuse(failure, -EINVAL, "bad-request", "nobody is named");
        return NULL;
    }
    *result = -ENOSPC;
    if (old ? json_array_size(json_object_get(old, "q")) >= OBJECTS_QUEUE_MAX
            : objects->space[dc].others >= OBJECTS_OTHERS_MAX) {
        failure_set(failure, -ENOSPC, "full", NULL, "no room for %s %s: %u objects and %u waiting for each are the most",
                    kind, name, OBJECTS_OTHERS_MAX, OBJECTS_QUEUE_MAX);
        return NULL;
    }
    *result = 0;
    return must(old ? json_deep_copy(old) : json_pack("{s:[]}", "q"));
}

static int apply_enter(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *change,
                       struct failure *failure) {
    const char *kind = field_string(change, "kind"), *text = field_string(change, "text");
    struct objects_who who;
    int result;
    if (!kind || !is_ordered(kind) || (text && strlen(text) > OBJECTS_TEXT_MAX))
        return refuse(failure, -EINVAL, "bad-request", "no such kind of object, or a text that is too long");
    if (field_true(change, "try") && objects_find(objects, dc, kind, name))
        return failure_set(failure, -EBUSY, "busy", NULL, "%s %s is held by somebody else", kind, name);
    cleanup_json json_t *row = row_for_entry(objects, dc, kind, name, change, &who, failure, &result);
    if (!row)
        return result;
    json_t *queue = json_object_get(row, "q");
    json_t *entry = must(json_pack("{s:o, s:s, s:i}", "who", objects_who_json(&who), "text", text ? text : "", "token", 0));
    json_array_append_new(queue, entry);
    if (json_array_size(queue) == 1)
        tell_head(objects, revision, dc, kind, name, entry);
    char key[KEY_SIZE];
    key_make(key, dc, kind, name);
    row_set(objects, key, dc, kind, json_incref(row));
    return 0;
}

static int apply_wait(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *change,
                      struct failure *failure) {
    json_int_t count = field_integer_or(change, "count", 1, COUNT_MAX, 0), before = count;
    struct objects_who who;
    int result;
    if (count == 0 || count > OBJECTS_QUEUE_MAX)
        return failure_set(failure, -EINVAL, "limit-out-of-range", NULL, "a barrier is for 1 to %u", OBJECTS_QUEUE_MAX);
    cleanup_json json_t *row = row_for_entry(objects, dc, "barrier", name, change, &who, failure, &result);
    if (!row)
        return result;
    field_integer(row, "count", &before);
    if (before != count)
        return failure_set(failure, -EINVAL, "conflict", "all must name the same number",
                           "the others at barrier %s wait for %lld", name, before);
    json_object_set_new(row, "count", must(json_integer(count)));
    json_t *queue = json_object_get(row, "q");
    json_array_append_new(queue, must(json_pack("{s:o}", "who", objects_who_json(&who))));
    bool open = json_array_size(queue) >= (size_t)count;
    char key[KEY_SIZE];
    key_make(key, dc, "barrier", name);
    row_set(objects, key, dc, "barrier", open ? NULL : json_incref(row));
    if (open)
        event_add(objects, json_pack("{s:s, s:I, s:s, s:I, s:O}", "e", "release", "dc", (json_int_t)dc, "name", name,
                                     "rev", (json_int_t)revision, "q", queue));
    return 0;
}

static int apply_join(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *change,
                      struct failure *failure) {
    struct objects_who who, other;
    int result;
    cleanup_json json_t *row = row_for_entry(objects, dc, "group", name, change, &who, failure, &result);
    if (!row)
        return result;
    json_t *queue = json_object_get(row, "q"), *entry;
    size_t i;
    json_array_foreach(queue, i, entry) if (objects_who_read(json_object_get(entry, "who"), &other) &&
                                            other.node == who.node && other.endpoint == who.endpoint &&
                                            other.incarnation == who.incarnation && other.session == who.session)
        return failure_set(failure, -EALREADY, "conflict", NULL, "that endpoint is a member of group %s already", name);
    json_array_append_new(queue, must(json_pack("{s:o}", "who", objects_who_json(&who))));
    json_object_set_new(row, "view", must(json_integer((json_int_t)revision)));
    char key[KEY_SIZE];
    key_make(key, dc, "group", name);
    row_set(objects, key, dc, "group", json_incref(row));
    tell_view(objects, revision, dc, name, row);
    return 0;
}

/* Take entries out of a row. True if any was. */
static bool row_thin(struct objects *objects, uint64_t revision, const char *key,
                     bool (*goes)(const void *context, const struct objects_who *who), const void *context) {
    uint32_t dc;
    const char *kind, *name;
    if (!key_read(key, &dc, &kind, &name) || is_kv(kind))
        return false;
    const json_t *old = json_object_get(objects->rows, key);
    struct objects_who who;
    json_t *queue = must(json_array()), *entry;
    size_t i;
    bool head_goes = false;
    json_array_foreach(json_object_get(old, "q"), i, entry) {
        bool out = objects_who_read(json_object_get(entry, "who"), &who) && goes(context, &who);
        head_goes |= out && i == 0;
        if (!out)
            json_array_append_new(queue, must(json_deep_copy(entry)));
    }
    if (json_array_size(queue) == json_array_size(json_object_get(old, "q"))) {
        json_decref(queue);
        return false;
    }
    json_t *row = must(json_copy((json_t *)old)); /* shallow: the rest of it is never changed in place */
    json_object_set_new(row, "q", queue);
    bool left = json_array_size(queue) > 0;
    if (head_goes && is_ordered(kind))
        tell_head(objects, revision, dc, kind, name, json_array_get(queue, 0));
    if (strcmp(kind, "group") == 0) {
        json_object_set_new(row, "view", must(json_integer((json_int_t)revision)));
        tell_view(objects, revision, dc, name, left ? row : NULL);
    }
    row_set(objects, key, dc, kind, left ? json_incref(row) : NULL);
    json_decref(row);
    return true;
}

static bool is_same(const void *context, const struct objects_who *who) {
    const struct objects_who *wanted = context;
    return who->node == wanted->node && who->incarnation == wanted->incarnation && who->session == wanted->session &&
           who->endpoint == wanted->endpoint && who->request == wanted->request;
}

static int apply_leave(struct objects *objects, uint64_t revision, uint32_t dc, const char *name, const json_t *change,
                       struct failure *failure) {
    const char *kind = field_string(change, "kind");
    struct objects_who who;
    bool known = false;
    for (unsigned i = 1; kind && i < ARRAY_LENGTH(kinds); i++)
        known |= strcmp(kind, kinds[i]) == 0;
    if (!known || !objects_who_read(json_object_get(change, "who"), &who))
        return refuse(failure, -EINVAL, "bad-request", "nobody is named, or no object that can be left");
    char key[KEY_SIZE];
    key_make(key, dc, kind, name);
    if (!row_thin(objects, revision, key, is_same, &who))
        return failure_set(failure, -DVK_ENOTMEMBER, "not-member", NULL, "not one of those at %s %s", kind, name);
    return 0;
}

static void thin_all(struct objects *objects, uint64_t revision,
                     bool (*goes)(const void *context, const struct objects_who *who), const void *context) {
    size_t count;
    cleanup_free char **keys = keys_of(objects, "", &count);
    for (size_t i = 0; i < count; i++)
        row_thin(objects, revision, keys[i], goes, context);
}

static bool is_of_session(const void *context, const struct objects_who *who) {
    const struct objects_who *session = context;
    return who->node == session->node && who->incarnation == session->incarnation &&
           (!session->session || who->session == session->session) && (!session->endpoint || session->endpoint == who->endpoint);
}

static int apply_end(struct objects *objects, uint64_t revision, const json_t *change, struct failure *failure) {
    struct objects_who who;
    if (!objects_who_read(json_object_get(change, "who"), &who))
        return refuse(failure, -EINVAL, "bad-request", "nobody is named");
    thin_all(objects, revision, is_of_session, &who);
    return 0;
}

struct prune {
    bool (*is_member)(void *context, uint32_t node, int64_t incarnation);
    void *context;
};
static bool is_gone(const void *context, const struct objects_who *who) {
    const struct prune *prune = context;
    return !prune->is_member(prune->context, who->node, who->incarnation);
}

void objects_prune(struct objects *objects, uint64_t revision,
                   bool (*is_member)(void *context, uint32_t node, int64_t incarnation), void *context) {
    const struct prune prune = {is_member, context};
    thin_all(objects, revision, is_gone, &prune);
}

void objects_remove_dc(struct objects *objects, uint32_t dc) {
    char prefix[16];
    uint32_t number;
    const char *kind, *name;
    size_t count;
    if (objects->space[dc].keys + objects->space[dc].others == 0)
        return;
    snprintf(prefix, sizeof prefix, "%u/", dc);
    cleanup_free char **keys = keys_of(objects, prefix, &count);
    for (size_t i = 0; i < count; i++)
        if (key_read(keys[i], &number, &kind, &name))
            row_set(objects, keys[i], dc, kind, NULL);
}

int objects_apply(struct objects *objects, uint64_t revision, const json_t *change, struct failure *failure) {
    static const struct {
        const char *what;
        int (*apply)(struct objects *, uint64_t, uint32_t, const char *, const json_t *, struct failure *);
    } table[] = {{"put", apply_put},   {"delete", apply_delete}, {"enter", apply_enter},
                 {"leave", apply_leave}, {"wait", apply_wait},   {"join", apply_join}};
    const char *what = field_string(change, "do"), *name = field_string(change, "name");
    if (what && strcmp(what, "end") == 0)
        return apply_end(objects, revision, change, failure);
    json_int_t dc = field_integer_or(change, "dc", 0, DVK_MAX_DC, -1);
    if (dc < 0 || !name || !objects_name_is_valid(name, strlen(name)))
        return failure_set(failure, -EINVAL, "bad-request", NULL,
                           "a name has 1 to %u bytes of UTF-8 without control characters", OBJECTS_NAME_MAX);
    for (unsigned i = 0; what && i < ARRAY_LENGTH(table); i++)
        if (strcmp(what, table[i].what) == 0)
            return table[i].apply(objects, revision, (uint32_t)dc, name, change, failure);
    return refuse(failure, -EINVAL, "bad-request", "unknown change of an object");
}
