/* SPDX-License-Identifier: Apache-2.0 */
/* dvs ps: the processes of containers, wherever they run. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdint.h>

static int processes_print(const json_t *processes, bool with_dc) {
    static const char *const titles[] = {"CONTAINER", ">PID",  ">PPID",   "NODE", "USER",
                                         ">TIME",     "STATE", "COMMAND", NULL};
    struct table *table = table_create(titles + !with_dc);
    for (size_t i = 0; i < json_array_size(processes); i++) {
        const json_t *p = json_array_get(processes, i);
        const char *dc = field_string(p, "dc"), *node = field_string(p, "node"), *command = field_string(p, "command");
        const char *state = field_string(p, "state"), *comm = field_string(p, "comm");
        json_int_t uid = field_integer_or(p, "uid", 0, UINT32_MAX, -1);
        char time[32];
        if (with_dc)
            table_cell(table, "%s", dc ? dc : "?");
        table_cell(table, "%lld", field_integer_or(p, "pid", 0, INT32_MAX, 0));
        table_cell(table, "%lld", field_integer_or(p, "ppid", 0, INT32_MAX, 0));
        table_cell(table, "%s", node ? node : "?");
        if (uid == 0)
            table_cell(table, "root"); /* other names are the container's own matter */
        else
            table_cell(table, "%lld", uid);
        table_cell(table, "%s", format_cpu_time(time, field_integer_or(p, "time_ms", 0, INT64_MAX, 0)));
        table_cell(table, "%s", state ? state : "?");
        if (command && *command)
            table_cell(table, "%s", command);
        else
            table_cell(table, "[%s]", comm ? comm : "?");
    }
    return table_print(table);
}

int verb_ps(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind > 1)
        return usage_error(command, "%s: one container at most", argv[optind + 1]);
    json_t *request = json_pack("{s:s}", "op", "dc.ps");
    const char *dc = optind < argc ? argv[optind] : NULL;
    if (dc && json_object_set_new(request, "dc", json_string(dc)) < 0)
        return usage_error(command, "a container's name is not UTF-8");
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, request, CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    const json_t *processes = json_object_get(answer, "processes");
    return (command->json ? json_print(processes) : processes_print(processes, dc == NULL)) < 0;
}
