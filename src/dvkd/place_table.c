/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/place_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void place_table_free(struct place_table *table) {
    free(table->places);
    *table = (struct place_table){0};
}

/* Where the slot's entry is, or belongs. */
static uint32_t position(const struct place_table *table, uint32_t slot) {
    uint32_t low = 0, high = table->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (dvk_endpoint_slot(table->places[middle].endpoint) < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct place *of_slot(const struct place_table *table, uint32_t slot) {
    uint32_t at = position(table, slot);
    return at < table->count && dvk_endpoint_slot(table->places[at].endpoint) == slot ? &table->places[at] : NULL;
}

static struct place *find(const struct place_table *table, dvk_endpoint endpoint) {
    struct place *place = of_slot(table, dvk_endpoint_slot(endpoint));
    uint32_t generation = dvk_endpoint_generation(endpoint);
    return place && (generation == 0 || place->endpoint == endpoint) ? place : NULL;
}

const struct place *place_table_find(const struct place_table *table, dvk_endpoint endpoint) { return find(table, endpoint); }

static uint32_t spare_index(const struct place *place, const struct place_instance *who) {
    uint32_t i = 0;
    while (i < place->spare_count && !place_is(&place->spares[i].who, who))
        i++;
    return i;
}

const struct place_spare *place_spare_find(const struct place *place, const struct place_instance *who) {
    uint32_t i = spare_index(place, who);
    return i < place->spare_count ? &place->spares[i] : NULL;
}

static uint32_t first_replica(const struct place *place) {
    uint32_t i = 0;
    while (i < place->spare_count && place->spares[i].kind != PLACE_REPLICA)
        i++;
    return i;
}

bool place_has_replica(const struct place *place) { return first_replica(place) < place->spare_count; }

static void settle(struct place *place) {
    place->moving = false;
    place->to = (struct place_instance){0};
}

static void spare_remove(struct place *place, uint32_t i) {
    if (place->moving && place_is(&place->to, &place->spares[i].who))
        settle(place);
    place->spare_count--;
    memmove(&place->spares[i], &place->spares[i + 1], (place->spare_count - i) * sizeof place->spares[0]);
    place->spares[place->spare_count] = (struct place_spare){0};
}

static void promote(struct place *place, uint32_t i, uint64_t revision) {
    place->primary = place->spares[i].who;
    settle(place);
    spare_remove(place, i);
    place->moved = revision;
}

static void place_remove(struct place_table *table, struct place *place) {
    uint32_t at = (uint32_t)(place - table->places);
    table->count--;
    memmove(place, place + 1, (table->count - at) * sizeof *place);
}

static void remove_if_plain(struct place_table *table, struct place *place) {
    if (place->spare_count == 0 && place->moved == 0)
        place_remove(table, place);
}

static int insert(struct place_table *table, const struct place *place) {
    if (table->count >= PLACES_MAX)
        return -ENOSPC;
    if (table->count == table->cap) {
        uint32_t cap = table->cap ? table->cap * 2 : 4;
        struct place *places = realloc(table->places, cap * sizeof *places);
        if (!places)
            return -ENOMEM;
        table->places = places;
        table->cap = cap;
    }
    uint32_t at = position(table, dvk_endpoint_slot(place->endpoint));
    memmove(&table->places[at + 1], &table->places[at], (table->count - at) * sizeof *place);
    table->places[at] = *place;
    table->count++;
    return 0;
}

int place_table_add(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t moved,
                    const struct place_instance *spare, enum place_kind kind) {
    struct place *place = of_slot(table, dvk_endpoint_slot(endpoint));
    if (place_is(primary, spare) || dvk_endpoint_generation(endpoint) == 0)
        return -EINVAL;
    if (!place) {
        struct place fresh = {.endpoint = endpoint, .primary = *primary, .moved = moved, .spare_count = 1};
        fresh.spares[0] = (struct place_spare){*spare, kind};
        return insert(table, &fresh);
    }
    if (place->endpoint != endpoint)
        return -EEXIST;
    if (!place_is(&place->primary, primary))
        return -ESTALE;
    uint32_t i = spare_index(place, spare);
    if (i == PLACE_SPARES_MAX)
        return -ENOSPC;
    if (i == place->spare_count)
        place->spare_count++;
    place->spares[i] = (struct place_spare){*spare, kind};
    return 0;
}

int place_table_drop(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *spare) {
    struct place *place = find(table, endpoint);
    uint32_t i = place ? spare_index(place, spare) : 0;
    if (!place || i == place->spare_count)
        return -ENOENT;
    spare_remove(place, i);
    remove_if_plain(table, place);
    return 0;
}

/* The entry, if that is its primary. */
static int owned(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, struct place **out) {
    *out = find(table, endpoint);
    return !*out ? -ENOENT : place_is(&(*out)->primary, primary) ? 0 : -ESTALE;
}

int place_table_start(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary,
                      const struct place_instance *to) {
    struct place *place;
    int result = owned(table, endpoint, primary, &place);
    if (result < 0)
        return result;
    if (place->moving)
        return -EBUSY;
    if (!place_spare_find(place, to))
        return -EINVAL;
    place->moving = true;
    place->to = *to;
    return 0;
}

int place_table_commit(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t revision) {
    struct place *place;
    int result = owned(table, endpoint, primary, &place);
    if (result < 0)
        return result;
    if (!place->moving)
        return -EBUSY;
    promote(place, spare_index(place, &place->to), revision);
    return 0;
}

int place_table_rollback(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary) {
    struct place *place;
    int result = owned(table, endpoint, primary, &place);
    if (result < 0)
        return result;
    if (!place->moving)
        return -EBUSY;
    settle(place);
    return 0;
}

static void primary_lost(struct place_table *table, struct place *place, uint64_t revision) {
    uint32_t replica = first_replica(place);
    if (replica < place->spare_count)
        promote(place, replica, revision);
    else
        place_remove(table, place);
}

int place_table_gone(struct place_table *table, dvk_endpoint endpoint, const struct place_instance *primary, uint64_t revision) {
    struct place *place;
    int result = owned(table, endpoint, primary, &place);
    if (result == 0)
        primary_lost(table, place, revision);
    return result;
}

bool place_table_survive(struct place_table *table, uint64_t revision,
                         bool (*is_member)(void *context, uint32_t node, int64_t incarnation), void *context) {
    bool changed = false;
    for (uint32_t at = table->count; at > 0; at--) {
        struct place *place = &table->places[at - 1];
        for (uint32_t i = place->spare_count; i > 0; i--)
            if (!is_member(context, (uint32_t)place->spares[i - 1].who.node, place->spares[i - 1].who.incarnation)) {
                spare_remove(place, i - 1);
                changed = true;
            }
        if (!is_member(context, (uint32_t)place->primary.node, place->primary.incarnation)) {
            primary_lost(table, place, revision);
            changed = true;
        } else
            remove_if_plain(table, place);
    }
    return changed;
}

/* ---- JSON ---- */

json_t *place_instance_to_json(const struct place_instance *who) {
    return json_pack("[I, I, I]", (json_int_t)who->node, (json_int_t)who->incarnation, (json_int_t)who->context);
}

bool place_instance_read(const json_t *json, struct place_instance *who) {
    const json_t *node = json_array_get(json, 0), *incarnation = json_array_get(json, 1), *context = json_array_get(json, 2);
    if (json_array_size(json) != 3 || !json_is_integer(node) || !json_is_integer(incarnation) || !json_is_integer(context) ||
        json_integer_value(node) < 1 || json_integer_value(node) > DVK_MAX_NODE || json_integer_value(context) < 1)
        return false;
    *who = (struct place_instance){.node = (uint64_t)json_integer_value(node),
                                   .incarnation = json_integer_value(incarnation),
                                   .context = (uint64_t)json_integer_value(context)};
    return true;
}

static json_t *place_to_json(const struct place *place) {
    json_t *spares = json_array();
    for (uint32_t i = 0; i < place->spare_count; i++)
        json_array_append_new(spares, json_pack("[I, o]", (json_int_t)place->spares[i].kind,
                                                place_instance_to_json(&place->spares[i].who)));
    json_t *json = json_pack("{s:I, s:o, s:I, s:o}", "endpoint", (json_int_t)place->endpoint, "primary",
                             place_instance_to_json(&place->primary), "moved", (json_int_t)place->moved, "spares", spares);
    if (json && place->moving)
        json_object_set_new(json, "to", place_instance_to_json(&place->to));
    return json;
}

json_t *place_table_to_json(const struct place_table *table) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < table->count; i++)
        json_array_append_new(list, place_to_json(&table->places[i]));
    return list;
}

static bool spares_read(const json_t *list, struct place *place) {
    if (!json_is_array(list) || json_array_size(list) > PLACE_SPARES_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t kind = json_integer_value(json_array_get(item, 0));
        struct place_instance who;
        if (json_array_size(item) != 2 || (kind != PLACE_BACKUP && kind != PLACE_REPLICA) ||
            !place_instance_read(json_array_get(item, 1), &who) || place_is(&who, &place->primary) ||
            place_spare_find(place, &who))
            return false;
        place->spares[place->spare_count++] = (struct place_spare){who, (uint64_t)kind};
    }
    return true;
}

static bool place_read(const json_t *json, struct place *place) {
    json_int_t endpoint, moved;
    const json_t *to = json_object_get(json, "to");
    *place = (struct place){.moving = to};
    if (!field_integer(json, "endpoint", &endpoint) || !field_integer(json, "moved", &moved) || moved < 0 ||
        !place_instance_read(json_object_get(json, "primary"), &place->primary) ||
        !spares_read(json_object_get(json, "spares"), place))
        return false;
    place->endpoint = (dvk_endpoint)endpoint;
    place->moved = (uint64_t)moved;
    if (to && (!place_instance_read(to, &place->to) || !place_spare_find(place, &place->to)))
        return false;
    return dvk_endpoint_generation(place->endpoint) && dvk_endpoint_slot(place->endpoint) && (place->spare_count || place->moved);
}

int place_table_from_json(struct place_table *table, const json_t *json) {
    *table = (struct place_table){0};
    int result = json_is_array(json) ? 0 : -EINVAL;
    for (size_t i = 0; result == 0 && i < json_array_size(json); i++) {
        struct place place;
        if (!place_read(json_array_get(json, i), &place) || of_slot(table, dvk_endpoint_slot(place.endpoint)))
            result = -EINVAL;
        else
            result = insert(table, &place);
        if (result == -ENOSPC)
            result = -EINVAL;
    }
    if (result < 0)
        place_table_free(table);
    return result;
}
