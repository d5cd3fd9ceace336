/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's configuration: which nodes and DCs there are. A replicated state machine: the same changes in the
 * same order give the same state on every node. Pure of I/O, time and chance; not thread safe.
 *
 * A change is a JSON object:
 *   {"op": "node-set", "id", "name", "address", "run", "version", "cpus"}
 *   {"op": "node-add", ...}, {"op": "node-remove", ...}: see config_nodes.h
 *   {"op": "dc-create", "name" ("": choose one), "nodes": [ids], "primary": id, "created": unix time, "spec": {...},
 *    "slots"?: {"sets"?, "share"?} (see slot_table_init)}
 *   {"op": "dc-state", "dc", "serial", "state", "reason"?, "exit_status"?}
 *   {"op": "dc-remove", "dc", "serial", "force"?}
 *   {"op": "slots-take", ...}, {"op": "slots-give", ...}: see config_slots.h
 *   {"op": "place", ...}: see config_places.h
 *   {"op": "object", ...}: see objects.h; its revision is the epoch that it makes
 * It is applied as a whole or refused as a whole; each one that is applied adds 1 to the epoch.
 *
 * (view, epoch) orders states: `view` counts the quorate views of the cluster, so that a state that went on in a
 * quorate partition is newer than any that did not.
 *
 * States of a DC:   created -> running -> exited          exited and failed are final; a DC can be removed in them,
 *                       \__________\____-> failed         and by force in any.
 */
#ifndef DVKD_CONFIG_H
#define DVKD_CONFIG_H

#include "common/failure.h"
#include "common/json.h"
#include "dvkd/objects.h"
#include "dvkd/place_table.h"
#include "dvkd/slot_table.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

#define CONFIG_NAME_MAX 63u
#define CONFIG_MOUNTS_MAX 32u

enum dc_state { DC_CREATED, DC_RUNNING, DC_EXITED, DC_FAILED };

struct config_node {
    uint32_t id;
    char name[CONFIG_NAME_MAX + 1];
    char address[64]; /* "address:port" of its proxy; may be empty */
    char run[108];    /* its run directory */
    char version[32];
    uint32_t cpus;
};

struct config_dc {
    uint32_t id;
    uint64_t serial; /* unique for ever: the epoch in which it was created */
    char name[CONFIG_NAME_MAX + 1];
    enum dc_state state;
    int exit_status; /* wait status of its first program, once exited */
    char reason[256]; /* why it failed */
    uint32_t primary; /* holds the writable layer, and is where the DC was run */
    uint32_t node_count;
    uint32_t *nodes;  /* sorted by id */
    int64_t created;  /* unix time, seconds */
    struct slot_table slots; /* which node owns which user slots */
    uint64_t slots_version;  /* not written: config_slots_version of its last change, or of the view since */
    struct place_table places; /* where endpoints are that have backups or have moved */
    json_t *spec;     /* bare: true and nothing else, or: image, place, mounts, memory, cpus, pids, argv, env, cwd, rm, tty, strict, trace */
};

struct config {
    uint64_t view, epoch;
    uint64_t promised; /* this node's own, not part of the state: it takes part in no view below (see replica.h) */
    uint32_t last_dc; /* the id given out last: ids are reused as late as possible */
    struct config_node *nodes[DVK_MAX_NODE + 1]; /* by id */
    struct config_dc *dcs[DVK_MAX_DC + 1];       /* by id */
    struct objects objects;
};

/* What an applied change touched; 0: nothing of that kind. */
struct config_effect {
    uint32_t node, dc;
    bool removed; /* the DC is no more */
    uint32_t slots_from, slots_to; /* nodes between which slots of the DC moved; from 0: they had no owner */
    uint32_t generation;           /* with slots_from: what that node has used up to */
    bool places;  /* of the DC: one that has backups or has moved */
    bool objects; /* those in objects.dirty, and there may be events */
    uint64_t epoch; /* that the change made */
};

struct config *config_new(void); /* empty; NULL when there is no memory */
void config_free(struct config *config);

/*
 * Apply a change. 0: done, *effect is filled in. Negative: refused, nothing was changed, *failure says why
 * (codes: bad-request, name-taken, no-such-dc, dc-running, unavailable).
 */
int config_apply(struct config *config, const json_t *change, struct config_effect *effect, struct failure *failure);

struct config_dc *config_dc_by_name(const struct config *config, const char *name);
struct config_node *config_node_by_name(const struct config *config, const char *name);
bool config_dc_has_node(const struct config_dc *dc, uint32_t node);
/* Made without a VOS, for programs that use libdvk: no cells, no files, no first program; running until removed. */
bool config_dc_is_bare(const struct config_dc *dc);
/* created or running */
bool config_dc_is_live(const struct config_dc *dc);

const char *dc_state_name(enum dc_state state);
/* [a-z0-9][a-z0-9_.-]{0,62} */
bool config_name_is_valid(const char *name);
/* Types and ranges of a spec, as far as they do not depend on the cluster. 0, or negative with *failure. */
int config_check_spec(const json_t *spec, struct failure *failure);

/* As JSON and back: how rows are stored and snapshots sent. New references; NULL when there is no memory. The
 * *_from_json functions check everything and give a negative errno for what is no such object. */
json_t *config_node_to_json(const struct config_node *node);
json_t *config_dc_to_json(const struct config_dc *dc);
int config_add_node_json(struct config *config, const json_t *json);
int config_add_dc_json(struct config *config, const json_t *json);
json_t *config_to_json(const struct config *config);
int config_from_json(const json_t *json, struct config **out);
/* A number that differs for states that differ (FNV-1a of the canonical text). */
uint64_t config_digest(const struct config *config);

#endif
