/* SPDX-License-Identifier: Apache-2.0 */
/* dvs lab status: what each node is and what it sees. Asks every node, so that disagreement shows. */
#include "common/cleanup.h"
#include "dvs/lab_verbs.h"
#include "dvs/output.h"

#include <string.h>

static json_t *node_status(const struct lab *lab, const struct lab_node *node) {
    struct lab_view view;
    char address[32];
    pid_t init = lab_node_find(lab->name, node->name);
    int link = lab_network_link_state(lab, node);
    lab_view_ask(lab, node, 3000, &view);
    lab_node_address(lab, node, address);
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:b, s:b, s:i, s:s, s:i}", "name", node->name, "id", (int)node->id,
                     "address", address, "state",
                     view.reachable ? "up"
                     : init         ? "not answering"
                                    : "down",
                     "link",
                     link > 0    ? "up"
                     : link == 0 ? "cut"
                                 : "missing",
                     "encrypted", !lab->clear, "quorate", view.quorate, "sees", (int)view.up, "version", view.version, "pid", (int)init);
}

static int status_print(const json_t *nodes) {
    static const char *const titles[] = {"NODE",    ">ID",   "ADDRESS", "STATE", "LINK", "ENCRYPTED",
                                         "QUORATE", ">SEES", "VERSION", ">PID",  NULL};
    struct table *table = table_create(titles);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        bool up = strcmp(field_string(node, "state"), "up") == 0;
        table_cell(table, "%s", field_string(node, "name"));
        table_cell(table, "%lld", field_integer_or(node, "id", 0, INT32_MAX, 0));
        table_cell(table, "%s", field_string(node, "address"));
        table_cell(table, "%s", field_string(node, "state"));
        table_cell(table, "%s", field_string(node, "link"));
        table_cell(table, "%s", field_true(node, "encrypted") ? "yes" : "no");
        table_cell(table, "%s", !up ? "-" : field_true(node, "quorate") ? "yes" : "no");
        if (up)
            table_cell(table, "%lld", field_integer_or(node, "sees", 0, INT32_MAX, 0));
        else
            table_cell(table, "-");
        table_cell(table, "%s", up ? field_string(node, "version") : "-");
        table_cell(table, "%lld", field_integer_or(node, "pid", 0, INT32_MAX, 0));
    }
    return table_print(table);
}

int verb_lab_status(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    char name[LAB_NAME_MAX + 1];
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    cleanup_lab struct lab *lab = NULL;
    if (lab_need_root(&command->failure) < 0 || lab_choose(command->target.lab, name, &command->failure) < 0 ||
        lab_load(name, &lab, &command->failure) < 0)
        return failure_report(command);
    cleanup_json json_t *nodes = json_array();
    for (unsigned i = 0; i < lab->node_count; i++)
        json_array_append_new(nodes, node_status(lab, &lab->nodes[i]));
    if (!command->json)
        return status_print(nodes) < 0;
    char state[PATH_MAX], network[32];
    lab_state_path(name, state);
    snprintf(network, sizeof network, "10.77.%u.0/24", lab->subnet);
    cleanup_json json_t *out = json_pack("{s:s, s:s, s:i, s:s, s:O}", "name", name, "network", network, "token_ms",
                                         (int)lab->token_ms, "state", state, "nodes", nodes);
    return json_print(out) < 0;
}
