/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: one cast asks; each node of the view answers, at the place of that cast in the order, what is bound there.
 * A node that leaves the view meanwhile is left out; without quorum there is no snapshot.
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/services_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PART_ENDPOINTS 400u

struct snapshot {
    struct list link; /* services->snapshots */
    struct services *services;
    int64_t number;
    uint32_t dc;
    bool begun;                       /* our cast came back */
    bool waits_for[DVK_MAX_NODE + 1];
    json_t *parts;
    services_snapshot_done *done;
    void *context;
};

static void finish(struct snapshot *snapshot, const struct failure *failure) {
    services_snapshot_done *done = snapshot->done;
    void *context = snapshot->context;
    cleanup_json json_t *parts = snapshot->parts;
    list_remove(&snapshot->link);
    free(snapshot);
    done(context, failure ? NULL : parts, failure);
}

static void check(struct snapshot *snapshot) {
    if (!snapshot->begun)
        return;
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++)
        if (snapshot->waits_for[node])
            return;
    finish(snapshot, NULL);
}

static struct snapshot *find(struct services *services, int64_t number) {
    struct snapshot *snapshot;
    list_for_each(snapshot, &services->snapshots, link) if (snapshot->number == number) return snapshot;
    return NULL;
}

/* Asked: tell what is here, in parts of a bounded size. */
static void answer(struct services *services, uint32_t asker, uint32_t dc, json_int_t number) {
    cleanup_json json_t *endpoints = services->port.endpoints(services->port.context, dc);
    size_t total = json_array_size(endpoints), next = 0;
    do {
        json_t *part = json_array();
        for (; next < total && json_array_size(part) < PART_ENDPOINTS; next++)
            json_array_append(part, json_array_get(endpoints, next));
        cleanup_json json_t *cast =
            json_pack("{s:s, s:I, s:I, s:I, s:o, s:b}", "do", "snapshot-part", "to", (json_int_t)asker, "number", number,
                      "revision", (json_int_t)replica_config(services->replica)->epoch, "endpoints", part, "last",
                      next == total);
        if (next == total && services->port.sum)
            json_object_set_new(cast, "sum", services->port.sum(services->port.context, dc));
        replica_cast(services->replica, cast, NULL, NULL);
    } while (next < total);
}

static void take_part(struct services *services, uint32_t node, const json_t *payload) {
    json_int_t number = 0, revision = 0;
    json_t *endpoint;
    size_t i;
    field_integer(payload, "number", &number);
    field_integer(payload, "revision", &revision);
    struct snapshot *snapshot = find(services, number);
    if (!snapshot || !snapshot->begun || !snapshot->waits_for[node])
        return;
    json_t *part = NULL, *known;
    json_array_foreach(snapshot->parts, i, known) if (json_integer_value(json_object_get(known, "node")) == node) part =
        known;
    if (!part) {
        part = json_pack("{s:I, s:I, s:[]}", "node", (json_int_t)node, "revision", revision, "endpoints");
        json_array_append_new(snapshot->parts, part);
    }
    json_array_foreach(json_object_get(payload, "endpoints"), i, endpoint)
        json_array_append(json_object_get(part, "endpoints"), endpoint);
    if (!field_true(payload, "last"))
        return;
    if (json_is_object(json_object_get(payload, "sum")))
        json_object_set(part, "sum", json_object_get(payload, "sum"));
    snapshot->waits_for[node] = false;
    check(snapshot);
}

void snapshot_cast(struct services *services, uint32_t node, const json_t *payload) {
    const char *what = field_string(payload, "do");
    if (node == 0 || node > DVK_MAX_NODE)
        return;
    json_int_t number = 0, dc = field_integer_or(payload, "dc", 0, DVK_MAX_DC, -1);
    if (strcmp(what, "snapshot-part") == 0 && field_integer_or(payload, "to", 1, DVK_MAX_NODE, 0) == services->node)
        take_part(services, node, payload);
    if (strcmp(what, "snapshot") != 0 || dc < 0 || !field_integer(payload, "number", &number))
        return;
    struct snapshot *snapshot = node == services->node ? find(services, number) : NULL;
    if (snapshot) {
        uint32_t nodes[DVK_MAX_NODE];
        size_t count = replica_view_nodes(services->replica, nodes, DVK_MAX_NODE);
        for (size_t i = 0; i < count; i++)
            snapshot->waits_for[nodes[i]] = true;
        snapshot->begun = true;
    }
    answer(services, node, (uint32_t)dc, number);
}

/* Nodes that have left will not answer. */
void snapshot_view(struct services *services) {
    uint32_t nodes[DVK_MAX_NODE];
    size_t count = replica_view_nodes(services->replica, nodes, DVK_MAX_NODE);
    struct snapshot *snapshot;
    list_for_each(snapshot, &services->snapshots, link) {
        for (uint32_t node = 1; node <= DVK_MAX_NODE; node++) {
            bool here = false;
            for (size_t i = 0; i < count; i++)
                here |= nodes[i] == node;
            snapshot->waits_for[node] &= here;
        }
        check(snapshot);
    }
}

void snapshots_end(struct services *services) {
    struct failure failure;
    failure_set(&failure, 0, "no-quorum", "dvs node ls shows which nodes are missing",
                "this node is not in a quorate partition of the cluster");
    struct snapshot *snapshot;
    list_for_each(snapshot, &services->snapshots, link) finish(snapshot, &failure);
}

void services_snapshot(struct services *services, uint32_t dc, services_snapshot_done *done, void *context) {
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot || !(snapshot->parts = json_array())) {
        log_error("out of memory");
        abort();
    }
    snapshot->services = services;
    snapshot->number = ++services->last_number;
    snapshot->dc = dc;
    snapshot->done = done;
    snapshot->context = context;
    list_append(&services->snapshots, &snapshot->link);
    if (!services->quorate) {
        snapshots_end(services);
        return;
    }
    cleanup_json json_t *cast = json_pack("{s:s, s:I, s:I}", "do", "snapshot", "dc", (json_int_t)dc, "number",
                                          (json_int_t)snapshot->number);
    replica_cast(services->replica, cast, NULL, NULL);
}
