/* SPDX-License-Identifier: Apache-2.0 */
/* dvs node ls: the nodes of the cluster. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdint.h>
#include <string.h>

static int nodes_print(const json_t *nodes) {
    static const char *const titles[] = {"NAME",    ">ID",    "STATE", "QUORATE", "ADDRESS", "LINK",
                                         "VERSION", ">CELLS", ">CPUS", ">LOAD",   NULL};
    struct table *table = table_create(titles);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *name = field_string(node, "name"), *state = field_string(node, "state");
        const char *address = field_string(node, "address"), *version = field_string(node, "version");
        const char *link = field_string(node, "link");
        const json_t *load = json_object_get(node, "load");
        bool up = state && strcmp(state, "up") == 0;
        table_cell(table, "%s%s", name ? name : "?", field_true(node, "this") ? "*" : "");
        table_cell(table, "%lld", field_integer_or(node, "id", 0, INT32_MAX, 0));
        table_cell(table, "%s", state ? state : "?");
        table_cell(table, "%s", field_true(node, "quorate") ? "yes" : "no");
        table_cell(table, "%s", address && *address ? address : "-");
        table_cell(table, "%s", link && *link ? link : "-");
        table_cell(table, "%s", version && *version ? version : "-");
        /* What a node that is down last said of itself is of no use. */
        if (up) {
            table_cell(table, "%lld", field_integer_or(node, "cells", 0, INT32_MAX, 0));
            table_cell(table, "%lld", field_integer_or(node, "cpus", 0, INT32_MAX, 0));
            table_cell(table, "%.2f", json_is_number(load) ? json_number_value(load) : 0.0);
        } else {
            for (int column = 0; column < 3; column++)
                table_cell(table, "-");
        }
    }
    return table_print(table);
}

static int links_print(const json_t *links) {
    static const char *const titles[] = {"TO",        "STATE",   "CIPHER",      ">RTT",   ">SENT", ">RECEIVED",
                                         ">MESSAGES", ">RESENT", ">DUPLICATES", ">RATIO", ">REQUESTS", ">STALLS", ">CONNECTIONS", NULL};
    struct table *table = table_create(titles);
    for (size_t i = 0; i < json_array_size(links); i++) {
        const json_t *link = json_array_get(links, i);
        const char *name = field_string(link, "name"), *state = field_string(link, "state");
        const char *cipher = field_string(link, "cipher");
        json_int_t from = field_integer_or(link, "compressed_from", 0, INT64_MAX, 0);
        json_int_t to = field_integer_or(link, "compressed_to", 0, INT64_MAX, 0);
        table_cell(table, "%s", name ? name : "?");
        table_cell(table, "%s", state ? state : "?");
        table_cell(table, "%s", cipher && *cipher ? cipher : "-");
        table_cell(table, "%lld us", field_integer_or(link, "rtt_us", 0, INT64_MAX, 0));
        table_cell_bytes(table, field_integer_or(link, "bytes_out", 0, INT64_MAX, 0));
        table_cell_bytes(table, field_integer_or(link, "bytes_in", 0, INT64_MAX, 0));
        table_cell(table, "%lld", field_integer_or(link, "frames_out", 0, INT64_MAX, 0) +
                                      field_integer_or(link, "frames_in", 0, INT64_MAX, 0));
        table_cell(table, "%lld", field_integer_or(link, "resent", 0, INT64_MAX, 0));
        table_cell(table, "%lld", field_integer_or(link, "duplicates", 0, INT64_MAX, 0));
        table_cell(table, from && to ? "%.1f" : "-", from && to ? (double)from / (double)to : 0.0);
        table_cell(table, "%lld", field_integer_or(link, "requests", 0, INT64_MAX, 0));
        table_cell(table, "%lld", field_integer_or(link, "stalls", 0, INT64_MAX, 0));
        table_cell(table, "%lld", field_integer_or(link, "connections", 0, INT64_MAX, 0));
    }
    return table_print(table);
}

static int links_ls(struct command *command) {
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "node.links"), CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    const json_t *links = json_object_get(answer, "links");
    return (command->json ? json_print(links) : links_print(links)) < 0;
}

static int node_ls(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"links", no_argument, NULL, OPTION_OWN}, {0}};
    int exit_code = EXIT_OK, option;
    bool links = false;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0)
        links = true;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    if (links)
        return links_ls(command);
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "node.ls"), CLIENT_LOOK_MS, &answer, &command->failure) <
        0)
        return failure_report(command);
    const json_t *nodes = json_object_get(answer, "nodes");
    return (command->json ? json_print(nodes) : nodes_print(nodes)) < 0;
}

int verb_node(struct command *command, int argc, char **argv) {
    const char *usage = command->usage;
    const struct verb verbs[] = {{"ls", node_ls, "list nodes", usage}, {NULL, NULL, NULL, NULL}};
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind == argc)
        return usage_error(command, "say what to do: node ls");
    return verb_dispatch(command, verbs, "node ", argc - optind, argv + optind);
}
