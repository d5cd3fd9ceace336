/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/config_places.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct change {
    struct place_table *table;
    dvk_endpoint endpoint;
    struct place_instance primary, spare;
    enum place_kind kind;
    uint64_t moved, revision;
};

static int do_add(struct change *c) {
    return place_table_add(c->table, c->endpoint, &c->primary, c->moved, &c->spare, c->kind);
}
static int do_start(struct change *c) { return place_table_start(c->table, c->endpoint, &c->primary, &c->spare); }
static int do_commit(struct change *c) { return place_table_commit(c->table, c->endpoint, &c->primary, c->revision); }
static int do_rollback(struct change *c) { return place_table_rollback(c->table, c->endpoint, &c->primary); }
static int do_drop(struct change *c) { return place_table_drop(c->table, c->endpoint, &c->spare); }
static int do_gone(struct change *c) { return place_table_gone(c->table, c->endpoint, &c->primary, c->revision); }

static const struct {
    const char *name;
    bool primary, spare, view;
    int (*run)(struct change *);
} table[] = {
    {"add", true, true, true, do_add},         {"start", true, true, true, do_start},
    {"commit", true, false, true, do_commit},  {"rollback", true, false, true, do_rollback},
    {"drop", false, true, false, do_drop},     {"gone", true, false, false, do_gone},
};

static int refuse(struct failure *failure, int result, const struct config_dc *dc) {
    if (result == -ENOMEM) { /* the other nodes do it: to go on without would be another state than theirs */
        log_error("out of memory");
        abort();
    }
    return failure_set(failure, result, result == -ENOSPC ? "unavailable" : "bad-request", NULL,
                       "that is no possible change of where an endpoint of %s is", dc->name);
}

int config_place(struct config *config, const json_t *json, struct config_effect *effect, struct failure *failure) {
    uint32_t id = (uint32_t)field_integer_or(json, "dc", 1, DVK_MAX_DC, 0), at = 0;
    json_int_t serial = -1, view = -1, endpoint = 0;
    const char *what = field_string(json, "do");
    struct config_dc *dc = config->dcs[id];
    field_integer(json, "serial", &serial);
    field_integer(json, "view", &view);
    field_integer(json, "endpoint", &endpoint);
    if (!dc || dc->serial != (uint64_t)serial)
        return failure_set(failure, -ENOENT, "no-such-dc", "dvs ls lists them", "there is no container %u any more", id);
    while (at < sizeof table / sizeof *table && !(what && strcmp(what, table[at].name) == 0))
        at++;
    struct change change = {.table = &dc->places,
                            .endpoint = (dvk_endpoint)endpoint,
                            .kind = field_integer_or(json, "kind", PLACE_BACKUP, PLACE_REPLICA, PLACE_BACKUP),
                            .moved = (uint64_t)field_integer_or(json, "moved", 0, INT64_MAX, 0),
                            .revision = config->epoch + 1};
    if (at == sizeof table / sizeof *table || dvk_endpoint_generation(change.endpoint) == 0 ||
        (table[at].primary && !place_instance_read(json_object_get(json, "primary"), &change.primary)) ||
        (table[at].spare && !place_instance_read(json_object_get(json, "spare"), &change.spare)))
        return refuse(failure, -EINVAL, dc);
    if (table[at].view && (uint64_t)view != config->view)
        return failure_set(failure, -ESTALE, "unavailable", NULL, "the cluster's membership has changed meanwhile");
    int result = table[at].run(&change);
    if (result < 0)
        return refuse(failure, result, dc);
    effect->dc = dc->id;
    effect->places = true;
    return 0;
}

void config_places_survive(struct config *config, bool (*is_member)(void *context, uint32_t node, int64_t incarnation),
                           void *context) {
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++)
        if (config->dcs[id])
            place_table_survive(&config->dcs[id]->places, config->epoch, is_member, context);
}

const struct place *config_place_of(const struct config *config, uint32_t dc, dvk_endpoint endpoint) {
    return dc >= 1 && dc <= DVK_MAX_DC && config->dcs[dc] ? place_table_find(&config->dcs[dc]->places, endpoint) : NULL;
}
