/* SPDX-License-Identifier: Apache-2.0 */
/* debug.places: where the endpoints of a DC are that have backups or have moved, as this node knows it. */
#include "dvkd/api.h"

static json_t *instance_json(struct dvkd *dvkd, const struct place_instance *who) {
    return json_pack("{s:s, s:I, s:I}", "node", dvkd_node_name(dvkd, (uint32_t)who->node), "id", (json_int_t)who->node, "context",
                     (json_int_t)who->context);
}

static json_t *place_json(struct dvkd *dvkd, const struct place *place) {
    json_t *spares = json_array();
    for (uint32_t i = 0; i < place->spare_count; i++) {
        json_t *spare = instance_json(dvkd, &place->spares[i].who);
        json_object_set_new(spare, "kind", json_string(place->spares[i].kind == PLACE_REPLICA ? "replica" : "backup"));
        json_array_append_new(spares, spare);
    }
    json_t *json = json_pack("{s:I, s:I, s:s, s:I, s:o, s:o}", "slot", (json_int_t)dvk_endpoint_slot(place->endpoint), "generation",
                             (json_int_t)dvk_endpoint_generation(place->endpoint), "state",
                             place->moving ? "moving" : "settled", "revision", (json_int_t)place->moved, "primary",
                             instance_json(dvkd, &place->primary), "backups", spares);
    if (place->moving)
        json_object_set_new(json, "to", instance_json(dvkd, &place->to));
    return json;
}

void api_debug_places(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config_dc *dc = api_find_dc(connection, request);
    if (!dc)
        return;
    json_t *places = json_array();
    for (uint32_t i = 0; i < dc->places.count; i++)
        json_array_append_new(places, place_json(dvkd, &dc->places.places[i]));
    connection_succeed(connection, json_pack("{s:b, s:o}", "quorate", replica_is_quorate(dvkd->replica), "places", places));
}
