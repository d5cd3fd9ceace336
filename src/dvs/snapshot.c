/* SPDX-License-Identifier: Apache-2.0 */
/* dvs debug snapshot: the endpoints of a container on all nodes, as they were at one place in the cluster's order. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdint.h>
#include <string.h>

static int snapshot_print(const json_t *nodes) {
    static const char *const titles[] = {"NODE", ">SLOT", ">GENERATION", "ROLE", ">PID", "GUEST", "PRIVILEGES", ">REFUSED", NULL};
    struct table *table = table_create(titles);
    json_t *node, *endpoint;
    size_t i, k;
    json_array_foreach(nodes, i, node) {
        json_array_foreach(json_object_get(node, "endpoints"), k, endpoint) {
            const char *name = field_string(node, "name"), *role = field_string(endpoint, "role");
            table_cell(table, "%s", name ? name : "?");
            table_cell(table, "%lld", field_integer_or(endpoint, "slot", 0, UINT32_MAX, 0));
            table_cell(table, "%lld", field_integer_or(endpoint, "generation", 0, UINT32_MAX, 0));
            table_cell(table, "%s", role ? role : "?");
            table_cell(table, "%lld", field_integer_or(endpoint, "pid", 0, INT32_MAX, 0));
            const char *privileges = field_string(endpoint, "privileges");
            table_cell(table, "%s", field_true(endpoint, "guest") ? "yes" : "no");
            table_cell(table, "%s", privileges ? privileges : field_true(endpoint, "guest") ? "guest" : "all");
            table_cell(table, "%lld", field_integer_or(endpoint, "refused", 0, INT64_MAX, 0));
        }
    }
    return table_print(table);
}

int verb_debug_snapshot(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind > 1)
        return usage_error(command, "%s: one container at most", argv[optind + 1]);
    json_t *request = json_pack("{s:s}", "op", "debug.snapshot");
    if (optind < argc && json_object_set_new(request, "dc", json_string(argv[optind])) < 0)
        return usage_error(command, "a container's name is not UTF-8");
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, request, CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    json_object_del(answer, "ok");
    return (command->json ? json_print(answer) : snapshot_print(json_object_get(answer, "nodes"))) < 0;
}
