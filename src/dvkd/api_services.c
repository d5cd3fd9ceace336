/* SPDX-License-Identifier: Apache-2.0 */
/* metrics and debug.snapshot: counters of this node, its containers and its processes; endpoints at one place in the order. */
#include "common/cleanup.h"
#include "dvkd/api.h"
#include "dvkd/broker_private.h"
#include "dvkd/services.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- metrics ---- */

static unsigned list_length(const struct list *list) {
    unsigned count = 0;
    for (const struct list *link = list->next; link != list; link = link->next)
        count++;
    return count;
}

/* CPU time and memory of a process, from /proc/PID/stat (proc(5)); zeroes for one that is gone. */
static void process_usage(pid_t pid, json_int_t *cpu_ms, json_int_t *bytes) {
    char path[40], text[1024];
    unsigned long long user = 0, kernel = 0;
    long pages = 0;
    *cpu_ms = *bytes = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_file FILE *file = fopen(path, "re");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[len] = 0;
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
                        &user, &kernel, &pages) != 3)
        return;
    *cpu_ms = (json_int_t)((user + kernel) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
    *bytes = (json_int_t)pages * sysconf(_SC_PAGESIZE);
}

static json_t *clients_json(struct dvkd *dvkd, json_int_t *endpoints) {
    static const char *const roles[] = {"program", "cell", "proxy", "copier"};
    json_t *list = json_array();
    const struct client *client;
    list_for_each(client, &dvkd->broker.clients, link) {
        json_int_t cpu_ms, bytes, count = 0;
        const struct endpoint *endpoint;
        list_for_each(endpoint, &client->context->endpoints, context_link) count++;
        process_usage(client->pid, &cpu_ms, &bytes);
        *endpoints += count;
        json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I}", "pid", (int)client->pid, "role",
                                              roles[client->context->role], "endpoints", count, "channels",
                                              (json_int_t)list_length(&client->context->channels), "queued",
                                              (json_int_t)client->output_count, "cpu_ms", cpu_ms, "memory", bytes));
    }
    return list;
}

static json_t *containers_json(struct dvkd *dvkd) {
    const struct config *config = dvkd_config(dvkd);
    static struct stats_sum sums[DVK_MAX_DC + 1];
    json_t *list = json_array();
    broker_stats_each(&dvkd->broker, sums);
    for (uint32_t id = 0; id <= DVK_MAX_DC; id++) {
        const struct config_dc *dc = config->dcs[id];
        const struct objects_space *space = &config->objects.space[id];
        if (id != 0 && !dc)
            continue;
        json_t *item = json_pack("{s:I, s:s, s:s, s:I, s:I, s:I}", "id", (json_int_t)id, "name", dc ? dc->name : "", "state",
                                 dc ? dc_state_name(dc->state) : "cluster", "keys", (json_int_t)space->keys,
                                 "key_bytes", (json_int_t)space->bytes, "objects", (json_int_t)space->others);
        json_t *counted = stats_sum_json(&sums[id]);
        json_object_update(item, counted);
        json_decref(counted);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *services_json(const struct services_counts *c) {
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"kv_reads", c->gets},         {"kv_puts", c->puts},           {"kv_deletes", c->deletes},
                {"kv_conflicts", c->conflicts}, {"casts", c->casts},            {"messages", c->messages},
                {"views", c->views},            {"grants", c->grants},          {"barriers", c->releases},
                {"events", c->events},          {"gaps", c->gaps},              {"lost", c->lost},
                {"clients", c->clients},        {"watches", c->watches},        {"memberships", c->memberships},
                {"waits", c->waits},            {"queued", c->queued},          {"holds", c->holds}};
    json_t *json = json_object();
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        json_object_set_new(json, rows[i].name, json_integer((json_int_t)rows[i].value));
    return json;
}

void api_metrics(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    json_int_t endpoints = 0, up = 0;
    json_t *clients = clients_json(dvkd, &endpoints);
    for (uint32_t node = 1; node <= DVK_MAX_NODE; node++)
        up += dvkd_config(dvkd)->nodes[node] && replica_node_is_up(dvkd->replica, node);
    struct services_counts counts = services_counts(dvkd->services);
    struct mallinfo2 memory = mallinfo2();
    struct stats_sum sum = broker_stats_sum(&dvkd->broker, STATS_ALL_DCS);
    json_t *node = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "quorate", replica_is_quorate(dvkd->replica),
                             "view", (json_int_t)dvkd_config(dvkd)->view, "epoch", (json_int_t)dvkd_config(dvkd)->epoch,
                             "nodes_up", up, "cells", (json_int_t)dvkd->cells.count, "endpoints", endpoints, "channels",
                             (json_int_t)dvkd->broker.registry.channels.count, "memory",
                             (json_int_t)(memory.uordblks + memory.hblkhd), "packets_in",
                             (json_int_t)dvkd->broker.stats.packets_in, "packets_out",
                             (json_int_t)dvkd->broker.stats.packets_out);
    connection_succeed(connection, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", dvkd->options.node, "node", node,
                                             "messages", stats_sum_json(&sum), "services", services_json(&counts), "containers",
                                             containers_json(dvkd), "clients", clients));
}

/* ---- debug.snapshot ---- */

struct snapshot_request {
    struct connection *connection; /* NULL: gone */
    struct dvkd *dvkd;
    uint32_t dc;
};

static void snapshot_gone(void *context) { ((struct snapshot_request *)context)->connection = NULL; }

static json_t *objects_json(struct dvkd *dvkd, uint32_t dc) {
    static const char *const kinds[] = {"lock", "leader", "barrier", "group"};
    json_t *json = json_object();
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
        json_object_set_new(json, kinds[i], objects_list(&dvkd_config(dvkd)->objects, dc, kinds[i], ""));
    return json;
}

static void snapshot_done(void *context, const json_t *parts, const struct failure *failure) {
    struct snapshot_request *request = context;
    json_t *part;
    size_t i;
    if (request->connection && parts) {
        cleanup_json json_t *list = json_deep_copy(parts);
        json_array_foreach(list, i, part)
            json_object_set_new(part, "name",
                                json_string(dvkd_node_name(request->dvkd, (uint32_t)field_integer_or(
                                                                              part, "node", 1, DVK_MAX_NODE, 0))));
        connection_succeed(request->connection, json_pack("{s:O, s:o}", "nodes", list, "objects",
                                                          objects_json(request->dvkd, request->dc)));
    } else if (request->connection) {
        connection_fail(request->connection, failure);
    }
    free(request);
}

void api_debug_snapshot(struct connection *connection, const json_t *request) {
    const struct config_dc *dc = NULL;
    if (json_object_get(request, "dc") && !(dc = api_find_dc(connection, request)))
        return;
    struct snapshot_request *wanted = calloc(1, sizeof *wanted);
    if (!wanted)
        abort();
    wanted->connection = connection;
    wanted->dvkd = connection_dvkd(connection);
    wanted->dc = dc ? dc->id : 0;
    connection_on_gone(connection, snapshot_gone, wanted);
    services_snapshot(wanted->dvkd->services, wanted->dc, snapshot_done, wanted);
}
