/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/store.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_FORMAT 1

struct store {
    sqlite3 *db;
};

static const char schema[] = "BEGIN;"
                             "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);"
                             "CREATE TABLE node (id INTEGER PRIMARY KEY, json TEXT NOT NULL);"
                             "CREATE TABLE dc (id INTEGER PRIMARY KEY, json TEXT NOT NULL);"
                             "CREATE TABLE object (key TEXT PRIMARY KEY, json TEXT NOT NULL);"
                             "INSERT INTO meta VALUES ('format', 1), ('view', 0), ('epoch', 0), ('promised', 0), ('last_dc', 0);"
                             "COMMIT";

static int damaged(struct failure *failure, const char *path, const char *why) {
    return failure_set(failure, -EUCLEAN, "damaged",
                       "restore it from a copy, or move it away and start again (a node of a cluster then gets the "
                       "configuration from the others)",
                       "the configuration database %s is damaged (%s)", path, why);
}

static int run(struct store *store, const char *sql) {
    char *error = NULL;
    int result = sqlite3_exec(store->db, sql, NULL, NULL, &error);
    if (result == SQLITE_OK)
        return 0;
    log_error("configuration database: %s: %s", sql, error ? error : sqlite3_errstr(result));
    sqlite3_free(error);
    return result == SQLITE_FULL ? -ENOSPC : -EIO;
}

/* One row a call of `each`; it returns 0 or a negative errno, which ends the walk. SQLITE_* code or -errno. */
static int query(struct store *store, const char *sql, int (*each)(void *context, sqlite3_stmt *row), void *context) {
    sqlite3_stmt *statement;
    int result = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (result != SQLITE_OK)
        return result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        int refused = each(context, statement);
        if (refused < 0) {
            sqlite3_finalize(statement);
            return refused;
        }
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int read_check(void *context, sqlite3_stmt *row) {
    const char *text = (const char *)sqlite3_column_text(row, 0);
    return text && strcmp(text, "ok") == 0 ? 0 : -EUCLEAN;
}

struct meta {
    sqlite3_int64 format, view, epoch, promised, last_dc;
};

static int read_meta(void *context, sqlite3_stmt *row) {
    struct meta *meta = context;
    const char *key = (const char *)sqlite3_column_text(row, 0);
    sqlite3_int64 value = sqlite3_column_int64(row, 1);
    if (!key)
        return -EUCLEAN;
    if (strcmp(key, "format") == 0)
        meta->format = value;
    else if (strcmp(key, "view") == 0)
        meta->view = value;
    else if (strcmp(key, "epoch") == 0)
        meta->epoch = value;
    else if (strcmp(key, "promised") == 0)
        meta->promised = value;
    else if (strcmp(key, "last_dc") == 0)
        meta->last_dc = value;
    return 0;
}

static json_t *row_json(sqlite3_stmt *row) {
    const char *text = (const char *)sqlite3_column_text(row, 0);
    return text ? json_loads(text, 0, NULL) : NULL;
}

static int read_node(void *context, sqlite3_stmt *row) {
    cleanup_json json_t *json = row_json(row);
    return config_add_node_json(context, json) < 0 ? -EUCLEAN : 0;
}

static int read_dc(void *context, sqlite3_stmt *row) {
    cleanup_json json_t *json = row_json(row);
    return config_add_dc_json(context, json) < 0 ? -EUCLEAN : 0;
}

static int read_object(void *context, sqlite3_stmt *row) {
    struct config *config = context;
    const char *key = (const char *)sqlite3_column_text(row, 1);
    cleanup_json json_t *json = row_json(row);
    return key && objects_add_row(&config->objects, key, json) == 0 ? 0 : -EUCLEAN;
}

static const char *explain(int result) {
    return result == -EUCLEAN ? "its contents make no sense" : sqlite3_errstr(result);
}

static int load(struct store *store, struct config *config, const char *path, struct failure *failure) {
    struct meta meta = {.format = -1};
    int result = query(store, "PRAGMA quick_check(1)", read_check, NULL);
    if (result == SQLITE_OK)
        result = query(store, "SELECT key, value FROM meta", read_meta, &meta);
    if (result == SQLITE_OK)
        result = query(store, "SELECT json FROM node", read_node, config);
    if (result == SQLITE_OK)
        result = query(store, "SELECT json FROM dc", read_dc, config);
    if (result != SQLITE_OK)
        return damaged(failure, path, explain(result));
    if (meta.format != STORE_FORMAT)
        return failure_set(failure, -EUCLEAN, "damaged", "use the version of dvkd that wrote it",
                           "the configuration database %s has format %lld; this dvkd knows format %d", path,
                           meta.format, STORE_FORMAT);
    /* one that was made before there were objects has no table of them */
    if (run(store, "CREATE TABLE IF NOT EXISTS object (key TEXT PRIMARY KEY, json TEXT NOT NULL)") < 0)
        return failure_set(failure, -EIO, "unavailable", NULL, "cannot write the configuration database %s", path);
    result = query(store, "SELECT json, key FROM object", read_object, config);
    if (result != SQLITE_OK)
        return damaged(failure, path, explain(result));
    if (meta.view < 0 || meta.epoch < 0 || meta.promised < 0 || meta.last_dc < 0 || meta.last_dc > DVK_MAX_DC)
        return damaged(failure, path, "its contents make no sense");
    config->view = (uint64_t)meta.view;
    config->epoch = (uint64_t)meta.epoch;
    config->promised = (uint64_t)meta.promised;
    config->last_dc = (uint32_t)meta.last_dc;
    return 0;
}

/* Make an empty database under another name and put it into its place whole, so that a crash leaves no half of one. */
static int create(const char *path, struct failure *failure) {
    cleanup_free char *fresh = NULL;
    struct store store = {0};
    if (asprintf(&fresh, "%s.new", path) < 0)
        return -ENOMEM;
    int result = unlink(fresh) < 0 && errno != ENOENT ? -errno : 0;
    if (result == 0 &&
        sqlite3_open_v2(fresh, &store.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
        result = -EIO;
    if (result == 0)
        result = run(&store, schema);
    sqlite3_close(store.db);
    if (result == 0 && rename(fresh, path) < 0)
        result = -errno;
    if (result < 0)
        return failure_set(failure, result, "unavailable", "is the directory there, writable, and not full?",
                           "cannot create the configuration database %s: %s", path, strerror(-result));
    return 0;
}

int store_open(const char *path, struct store **out, struct config **config_out, struct failure *failure) {
    struct store *store = calloc(1, sizeof *store);
    struct config *config = config_new();
    int result = -ENOMEM;
    if (!store || !config)
        goto fail;
    struct stat status;
    int found = stat(path, &status) < 0 ? -errno : 0;
    if (found == -ENOENT) {
        result = create(path, failure);
        if (result < 0)
            goto fail;
    } else if (found < 0) {
        result = failure_set(failure, found, "unavailable", NULL, "cannot open the configuration database %s: %s", path,
                             strerror(-found));
        goto fail;
    } else if (status.st_size == 0) { /* SQLite would take it for a new one */
        result = damaged(failure, path, "it is empty");
        goto fail;
    }
    int opened = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE, NULL);
    if (opened != SQLITE_OK) {
        result = failure_set(failure, -EIO, "unavailable", NULL, "cannot open the configuration database %s: %s", path,
                             store->db ? sqlite3_errmsg(store->db) : "out of memory");
        goto fail;
    }
    sqlite3_busy_timeout(store->db, 2000);
    result = load(store, config, path, failure);
    if (result < 0)
        goto fail;
    result = run(store, "PRAGMA synchronous=FULL");
    if (result < 0) {
        failure_set(failure, result, "unavailable", NULL, "cannot use the configuration database %s", path);
        goto fail;
    }
    *out = store;
    *config_out = config;
    return 0;
fail:
    config_free(config);
    store_close(store);
    return result;
}

void store_close(struct store *store) {
    if (!store)
        return;
    sqlite3_close(store->db);
    free(store);
}

static int write_row(struct store *store, const char *sql, sqlite3_int64 id, json_t *json) {
    cleanup_json json_t *owned = json;
    cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    sqlite3_stmt *statement;
    if (json && !text)
        return -ENOMEM;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return -EIO;
    sqlite3_bind_int64(statement, 1, id);
    if (text)
        sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    sqlite3_finalize(statement);
    if (result == SQLITE_DONE)
        return 0;
    log_error("configuration database: %s", sqlite3_errmsg(store->db));
    return result == SQLITE_FULL ? -ENOSPC : -EIO;
}

static int write_meta(struct store *store, const struct config *config) {
    int result = write_row(store, "UPDATE meta SET value = ?1 WHERE key = 'view'", (sqlite3_int64)config->view, NULL);
    if (result == 0)
        result = write_row(store, "UPDATE meta SET value = ?1 WHERE key = 'epoch'", (sqlite3_int64)config->epoch, NULL);
    if (result == 0)
        result = write_row(store, "UPDATE meta SET value = ?1 WHERE key = 'promised'", (sqlite3_int64)config->promised,
                           NULL);
    if (result == 0)
        result =
            write_row(store, "UPDATE meta SET value = ?1 WHERE key = 'last_dc'", (sqlite3_int64)config->last_dc, NULL);
    return result;
}

static int write_node(struct store *store, const struct config_node *node) {
    return write_row(store, "INSERT OR REPLACE INTO node VALUES (?1, ?2)", node->id, config_node_to_json(node));
}

static int write_dc(struct store *store, const struct config_dc *dc) {
    return write_row(store, "INSERT OR REPLACE INTO dc VALUES (?1, ?2)", dc->id, config_dc_to_json(dc));
}

static int write_object(struct store *store, const char *key, const json_t *json) {
    cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    sqlite3_stmt *statement;
    if (json && !text)
        return -ENOMEM;
    const char *sql = json ? "INSERT OR REPLACE INTO object VALUES (?1, ?2)" : "DELETE FROM object WHERE key = ?1";
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return -EIO;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    if (text)
        sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    sqlite3_finalize(statement);
    if (result == SQLITE_DONE)
        return 0;
    log_error("configuration database: %s", sqlite3_errmsg(store->db));
    return result == SQLITE_FULL ? -ENOSPC : -EIO;
}

static int write_objects(struct store *store, const struct config *config, json_t *keys) {
    const char *key;
    json_t *value;
    int result = 0;
    json_object_foreach(keys, key, value) if (result == 0) result =
        write_object(store, key, json_object_get(config->objects.rows, key));
    return result;
}

/* End a transaction according to how its parts went. */
static int finish(struct store *store, int result) {
    fault_at(FAULT_STORE_COMMIT);
    if (result == 0)
        result = run(store, "COMMIT");
    if (result < 0)
        run(store, "ROLLBACK");
    return result;
}

int store_write_effect(struct store *store, const struct config *config, const struct config_effect *effect) {
    if (fault_at(FAULT_STORE_WRITE) & FAULT_FAIL)
        return -ENOSPC;
    int result = run(store, "BEGIN IMMEDIATE");
    if (result < 0)
        return result;
    if (effect->node)
        result = config->nodes[effect->node] ? write_node(store, config->nodes[effect->node])
                                             : write_row(store, "DELETE FROM node WHERE id = ?1", effect->node, NULL);
    if (result == 0 && effect->dc)
        result = effect->removed ? write_row(store, "DELETE FROM dc WHERE id = ?1", effect->dc, NULL)
                                 : write_dc(store, config->dcs[effect->dc]);
    if (result == 0)
        result = write_objects(store, config, config->objects.dirty);
    if (result == 0)
        result = write_meta(store, config);
    result = finish(store, result);
    if (result == 0)
        json_object_clear(config->objects.dirty);
    return result;
}

int store_write_promise(struct store *store, const struct config *config) {
    return write_row(store, "UPDATE meta SET value = ?1 WHERE key = 'promised'", (sqlite3_int64)config->promised, NULL);
}

int store_write_all(struct store *store, const struct config *config) {
    int result = run(store, "BEGIN IMMEDIATE");
    if (result < 0)
        return result;
    result = run(store, "DELETE FROM node; DELETE FROM dc; DELETE FROM object");
    for (unsigned i = 1; result == 0 && i <= DVK_MAX_NODE; i++)
        if (config->nodes[i])
            result = write_node(store, config->nodes[i]);
    for (unsigned i = 1; result == 0 && i <= DVK_MAX_DC; i++)
        if (config->dcs[i])
            result = write_dc(store, config->dcs[i]);
    if (result == 0)
        result = write_objects(store, config, config->objects.rows);
    if (result == 0)
        result = write_meta(store, config);
    result = finish(store, result);
    if (result == 0)
        json_object_clear(config->objects.dirty);
    return result;
}
