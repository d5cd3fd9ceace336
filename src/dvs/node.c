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

static int node_ls(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
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
