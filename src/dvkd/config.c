/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/config.h"

#include "common/cleanup.h"
#include "dvkd/config_nodes.h"
#include "dvkd/config_places.h"
#include "common/log.h"
#include "dvkd/config_slots.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"created", "running", "exited", "failed"};

const char *dc_state_name(enum dc_state state) { return state_names[state]; }

static int state_by_name(const char *name, enum dc_state *out) {
    for (unsigned i = 0; name && i < ARRAY_LENGTH(state_names); i++)
        if (strcmp(name, state_names[i]) == 0) {
            *out = (enum dc_state)i;
            return 0;
        }
    return -EINVAL;
}

bool config_name_is_valid(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > CONFIG_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool alphanumeric = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        if (!alphanumeric && (i == 0 || !strchr("_.-", name[i])))
            return false;
    }
    return true;
}

struct config *config_new(void) {
    struct config *config = calloc(1, sizeof *config);
    if (!config || objects_init(&config->objects) == 0)
        return config;
    config_free(config);
    return NULL;
}

static void dc_free(struct config_dc *dc) {
    if (!dc)
        return;
    json_decref(dc->spec);
    slot_table_free(&dc->slots);
    place_table_free(&dc->places);
    free(dc->nodes);
    free(dc);
}

void config_free(struct config *config) {
    if (!config)
        return;
    for (unsigned i = 0; i <= DVK_MAX_NODE; i++)
        free(config->nodes[i]);
    for (unsigned i = 0; i <= DVK_MAX_DC; i++)
        dc_free(config->dcs[i]);
    objects_clear(&config->objects);
    free(config);
}

struct config_dc *config_dc_by_name(const struct config *config, const char *name) {
    for (unsigned i = 1; i <= DVK_MAX_DC; i++)
        if (config->dcs[i] && strcmp(config->dcs[i]->name, name) == 0)
            return config->dcs[i];
    return NULL;
}

struct config_node *config_node_by_name(const struct config *config, const char *name) {
    for (unsigned i = 1; i <= DVK_MAX_NODE; i++)
        if (config->nodes[i] && strcmp(config->nodes[i]->name, name) == 0)
            return config->nodes[i];
    return NULL;
}

bool config_dc_has_node(const struct config_dc *dc, uint32_t node) {
    for (uint32_t i = 0; i < dc->node_count; i++)
        if (dc->nodes[i] == node)
            return true;
    return false;
}

bool config_dc_is_bare(const struct config_dc *dc) { return field_true(dc->spec, "bare"); }

bool config_dc_is_live(const struct config_dc *dc) { return dc->state == DC_CREATED || dc->state == DC_RUNNING; }

/* ---- rows ---- */

static bool copy_text(char *to, size_t cap, const char *from) {
    if (!from || strlen(from) >= cap)
        return false;
    strcpy(to, from);
    return true;
}

json_t *config_node_to_json(const struct config_node *node) {
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:I}", "id", (json_int_t)node->id, "name", node->name, "address",
                     node->address, "run", node->run, "version", node->version, "cpus", (json_int_t)node->cpus);
}

int config_add_node_json(struct config *config, const json_t *json) {
    struct config_node node = {.id = (uint32_t)field_integer_or(json, "id", 1, DVK_MAX_NODE, 0),
                               .cpus = (uint32_t)field_integer_or(json, "cpus", 0, 1 << 20, 0)};
    if (node.id == 0 || !copy_text(node.name, sizeof node.name, field_string(json, "name")) ||
        !config_name_is_valid(node.name) || !copy_text(node.address, sizeof node.address, field_string(json, "address")) ||
        !copy_text(node.run, sizeof node.run, field_string(json, "run")) ||
        !copy_text(node.version, sizeof node.version, field_string(json, "version")))
        return -EINVAL;
    struct config_node *copy = malloc(sizeof *copy);
    if (!copy)
        return -ENOMEM;
    *copy = node;
    free(config->nodes[node.id]);
    config->nodes[node.id] = copy;
    return 0;
}

json_t *config_dc_to_json(const struct config_dc *dc) {
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < dc->node_count; i++)
        json_array_append_new(nodes, json_integer(dc->nodes[i]));
    cleanup_free char *slots = slot_table_to_text(&dc->slots);
    json_t *json = json_pack("{s:I, s:I, s:s, s:s, s:i, s:s, s:I, s:o, s:I, s:O, s:s}", "id", (json_int_t)dc->id, "serial",
                     (json_int_t)dc->serial, "name", dc->name, "state", dc_state_name(dc->state), "exit_status",
                     dc->exit_status, "reason", dc->reason, "primary", (json_int_t)dc->primary, "nodes", nodes,
                     "created", (json_int_t)dc->created, "spec", dc->spec, "slots", slots ? slots : "");
    if (json && dc->places.count)
        json_object_set_new(json, "places", place_table_to_json(&dc->places));
    return json;
}

/* Sorted, no doubles, 1..DVK_MAX_NODE, and the primary among them. */
static int read_nodes(const json_t *array, uint32_t primary, uint32_t **nodes, uint32_t *count) {
    size_t n = json_array_size(array);
    if (n == 0 || n > DVK_MAX_NODE)
        return -EINVAL;
    cleanup_free uint32_t *list = calloc(n, sizeof *list);
    if (!list)
        return -ENOMEM;
    bool has_primary = false;
    for (size_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_array_get(array, i));
        if (id < 1 || id > DVK_MAX_NODE || (i > 0 && (uint32_t)id <= list[i - 1]))
            return -EINVAL;
        list[i] = (uint32_t)id;
        has_primary |= list[i] == primary;
    }
    if (!has_primary)
        return -EINVAL;
    *nodes = steal_ptr(&list);
    *count = (uint32_t)n;
    return 0;
}

/* The table as it was written; a new one where there is none. */
static int read_slots(const json_t *json, struct config_dc *dc) {
    const json_t *text = json_object_get(json, "slots");
    return text ? slot_table_from_text(&dc->slots, json_string_value(text))
                : slot_table_init(&dc->slots, dc->nodes, dc->node_count, 0, 0);
}

static int read_places(const json_t *json, struct config_dc *dc) {
    const json_t *places = json_object_get(json, "places");
    return places ? place_table_from_json(&dc->places, places) : 0;
}

int config_add_dc_json(struct config *config, const json_t *json) {
    json_int_t serial, created, exit_status;
    uint32_t id = (uint32_t)field_integer_or(json, "id", 1, DVK_MAX_DC, 0);
    const json_t *spec = json_object_get(json, "spec");
    if (id == 0 || config->dcs[id] || !field_integer(json, "serial", &serial) ||
        !field_integer(json, "created", &created) || !field_integer(json, "exit_status", &exit_status) ||
        config_check_spec(spec, NULL) < 0)
        return -EINVAL;
    struct config_dc *dc = calloc(1, sizeof *dc);
    if (!dc)
        return -ENOMEM;
    *dc = (struct config_dc){.id = id,
                             .serial = (uint64_t)serial,
                             .created = created,
                             .exit_status = (int)exit_status,
                             .primary = (uint32_t)field_integer_or(json, "primary", 1, DVK_MAX_NODE, 0)};
    if (!copy_text(dc->name, sizeof dc->name, field_string(json, "name")) || !config_name_is_valid(dc->name) ||
        !copy_text(dc->reason, sizeof dc->reason, field_string(json, "reason")) ||
        state_by_name(field_string(json, "state"), &dc->state) < 0 || config_dc_by_name(config, dc->name) ||
        read_nodes(json_object_get(json, "nodes"), dc->primary, &dc->nodes, &dc->node_count) < 0 ||
        read_slots(json, dc) < 0 || read_places(json, dc) < 0) {
        dc_free(dc);
        return -EINVAL;
    }
    /* a copy: the caller's object may be part of a bigger one that changes */
    dc->spec = json_deep_copy(spec);
    if (!dc->spec) {
        dc_free(dc);
        return -ENOMEM;
    }
    config->dcs[id] = dc;
    return 0;
}

json_t *config_to_json(const struct config *config) {
    json_t *nodes = json_array(), *dcs = json_array();
    for (unsigned i = 1; i <= DVK_MAX_NODE; i++)
        if (config->nodes[i])
            json_array_append_new(nodes, config_node_to_json(config->nodes[i]));
    for (unsigned i = 1; i <= DVK_MAX_DC; i++)
        if (config->dcs[i])
            json_array_append_new(dcs, config_dc_to_json(config->dcs[i]));
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:O}", "view", (json_int_t)config->view, "epoch",
                     (json_int_t)config->epoch, "last_dc", (json_int_t)config->last_dc, "nodes", nodes, "dcs", dcs,
                     "objects", config->objects.rows);
}

int config_from_json(const json_t *json, struct config **out) {
    json_int_t view, epoch, last_dc = field_integer_or(json, "last_dc", 0, DVK_MAX_DC, -1);
    const json_t *nodes = json_object_get(json, "nodes"), *dcs = json_object_get(json, "dcs"), *item;
    json_t *objects = json_object_get(json, "objects");
    const char *key;
    if (!field_integer(json, "view", &view) || !field_integer(json, "epoch", &epoch) || view < 0 || epoch < 0 ||
        last_dc < 0 || !json_is_array(nodes) || !json_is_array(dcs))
        return -EINVAL;
    struct config *config = config_new();
    if (!config)
        return -ENOMEM;
    config->view = (uint64_t)view;
    config->epoch = (uint64_t)epoch;
    config->last_dc = (uint32_t)last_dc;
    int result = 0;
    size_t i;
    json_object_foreach(objects, key, item) if (result == 0) result = objects_add_row(&config->objects, key, item);
    json_array_foreach(nodes, i, item) if (result == 0) result = config_add_node_json(config, item);
    json_array_foreach(dcs, i, item) if (result == 0) result = config_add_dc_json(config, item);
    if (result < 0) {
        config_free(config);
        return result;
    }
    *out = config;
    return 0;
}

uint64_t config_digest(const struct config *config) {
    cleanup_json json_t *json = config_to_json(config);
    cleanup_free char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    uint64_t hash = 0xcbf29ce484222325ull;
    for (const char *c = text ? text : ""; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
    return hash;
}

/* ---- changes ---- */

static int bad_change(struct failure *failure, const char *what) {
    return failure_set(failure, -EINVAL, "bad-request", NULL, "%s", what);
}

static int apply_node_set(struct config *config, const json_t *change, struct config_effect *effect,
                          struct failure *failure) {
    int result = config_add_node_json(config, change);
    if (result < 0)
        return failure_set(failure, result, "bad-request", NULL, "that is no valid description of a node");
    effect->node = (uint32_t)field_integer_or(change, "id", 1, DVK_MAX_NODE, 0);
    return 0;
}

static uint32_t free_dc_id(const struct config *config) {
    for (uint32_t i = 1; i <= DVK_MAX_DC; i++) {
        uint32_t id = (config->last_dc + i - 1) % DVK_MAX_DC + 1;
        if (!config->dcs[id])
            return id;
    }
    return 0;
}

/* As the change asks for: {"sets", "share"}, what is missing or out of range as by default. */
static void split_slots(const struct config *config, struct config_dc *dc, const json_t *wanted) {
    struct slot_table table;
    if (slot_table_init(&table, dc->nodes, dc->node_count,
                        (uint32_t)field_integer_or(wanted, "sets", 2, SLOT_SETS_MAX, 0),
                        (uint32_t)field_integer_or(wanted, "share", 1, SLOT_SETS_MAX, 0)) < 0) {
        log_error("out of memory"); /* the other nodes do it */
        abort();
    }
    slot_table_free(&dc->slots);
    dc->slots = table;
    dc->slots_version = config_slots_version(config->view, config->epoch + 1);
}

static int apply_dc_create(struct config *config, const json_t *change, struct config_effect *effect,
                           struct failure *failure) {
    const char *wanted = field_string(change, "name");
    char name[CONFIG_NAME_MAX + 1];
    uint32_t id = free_dc_id(config);
    if (!wanted || (*wanted && !config_name_is_valid(wanted)))
        return bad_change(failure, "the container's name is not valid");
    if (id == 0)
        return failure_set(failure, -ENOSPC, "unavailable", "remove some with: dvs rm", "there are %u containers already",
                           DVK_MAX_DC);
    if (*wanted) {
        strcpy(name, wanted);
        if (config_dc_by_name(config, name))
            return failure_set(failure, -EEXIST, "name-taken", "choose another name, or: dvs rm",
                               "a container named %s exists already", name);
    } else {
        uint32_t number = id;
        do
            snprintf(name, sizeof name, "dc%u", number++);
        while (config_dc_by_name(config, name));
    }
    const json_t *spec = json_object_get(change, "spec");
    cleanup_json json_t *row = json_pack(
        "{s:I, s:I, s:s, s:s, s:i, s:s, s:O?, s:O?, s:O?, s:O?}", "id", (json_int_t)id, "serial",
        (json_int_t)config->epoch + 1, "name", name, "state", field_true(spec, "bare") ? "running" : "created", "exit_status", 0, "reason", "", "primary",
        json_object_get(change, "primary"), "nodes", json_object_get(change, "nodes"), "created",
        json_object_get(change, "created"), "spec", json_object_get(change, "spec"));
    if (!row || config_add_dc_json(config, row) < 0)
        return bad_change(failure, "that is no valid description of a container");
    split_slots(config, config->dcs[id], json_object_get(change, "slots"));
    config->last_dc = id;
    effect->dc = id;
    return 0;
}

static struct config_dc *changed_dc(const struct config *config, const json_t *change, struct failure *failure) {
    uint32_t id = (uint32_t)field_integer_or(change, "dc", 1, DVK_MAX_DC, 0);
    json_int_t serial = -1;
    field_integer(change, "serial", &serial);
    struct config_dc *dc = config->dcs[id];
    if (dc && dc->serial == (uint64_t)serial)
        return dc;
    failure_set(failure, -ENOENT, "no-such-dc", "dvs ls lists them", "there is no container %u any more", id);
    return NULL;
}

static int apply_dc_state(struct config *config, const json_t *change, struct config_effect *effect,
                          struct failure *failure) {
    enum dc_state state;
    struct config_dc *dc = changed_dc(config, change, failure);
    if (!dc)
        return -ENOENT;
    if (state_by_name(field_string(change, "state"), &state) < 0)
        return bad_change(failure, "no such state");
    /* forward only: a late message never brings a DC back */
    if (state <= dc->state || !config_dc_is_live(dc))
        return failure_set(failure, -EALREADY, "dc-not-running", NULL, "container %s is %s already", dc->name,
                           dc_state_name(dc->state));
    const char *reason = field_string(change, "reason");
    dc->state = state;
    snprintf(dc->reason, sizeof dc->reason, "%s", reason ? reason : "");
    dc->exit_status = (int)field_integer_or(change, "exit_status", 0, 0xffff, 0);
    effect->dc = dc->id;
    return 0;
}

static int apply_dc_remove(struct config *config, const json_t *change, struct config_effect *effect,
                           struct failure *failure) {
    struct config_dc *dc = changed_dc(config, change, failure);
    if (!dc)
        return -ENOENT;
    if (config_dc_is_live(dc) && !field_true(change, "force"))
        return failure_set(failure, -EBUSY, "dc-running", "dvs kill ends it; dvs rm --force does both",
                           "container %s is running", dc->name);
    *effect = (struct config_effect){.dc = dc->id, .removed = true, .objects = true};
    objects_remove_dc(&config->objects, dc->id);
    config->dcs[dc->id] = NULL;
    dc_free(dc);
    return 0;
}

static int apply_object(struct config *config, const json_t *change, struct config_effect *effect,
                        struct failure *failure) {
    json_int_t dc = field_integer_or(change, "dc", 1, DVK_MAX_DC, 0);
    if (dc && !config->dcs[dc])
        return failure_set(failure, -DVK_ENODC, "no-such-dc", "dvs ls lists them", "there is no container %lld", dc);
    effect->objects = true;
    return objects_apply(&config->objects, config->epoch + 1, change, failure);
}

int config_apply(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure) {
    static const struct {
        const char *op;
        int (*apply)(struct config *, const json_t *, struct config_effect *, struct failure *);
    } table[] = {{"node-set", apply_node_set},
                 {"node-add", config_node_add},
                 {"node-remove", config_node_remove},
                 {"dc-create", apply_dc_create},
                 {"dc-state", apply_dc_state},
                 {"dc-remove", apply_dc_remove},
                 {"slots-take", config_slots_take},
                 {"slots-give", config_slots_give},
                 {"place", config_place},
                 {"object", apply_object}};
    const char *op = field_string(change, "op");
    *effect = (struct config_effect){0};
    for (unsigned i = 0; op && i < ARRAY_LENGTH(table); i++)
        if (strcmp(op, table[i].op) == 0) {
            int result = table[i].apply(config, change, effect, failure);
            if (result == 0)
                effect->epoch = ++config->epoch;
            return result;
        }
    return bad_change(failure, "unknown change");
}
