/* SPDX-License-Identifier: Apache-2.0 */
/* dvs ls: the containers. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* "a,b,c" of an array of names. */
static void names_join(const json_t *names, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(names) && used < size; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        int n = snprintf(out + used, size - used, "%s%s", i ? "," : "", name ? name : "?");
        used += n > 0 ? (size_t)n : 0;
    }
}

/* The state, with how it ended. */
static void state_text(const json_t *container, char out[static 64]) {
    const char *state = field_string(container, "state");
    json_int_t status;
    if (!field_integer(container, "exit_status", &status))
        snprintf(out, 64, "%.60s", state ? state : "?");
    else if (WIFSIGNALED((int)status))
        snprintf(out, 64, "%.40s (SIG%s)", state ? state : "?",
                 sigabbrev_np(WTERMSIG((int)status)) ? sigabbrev_np(WTERMSIG((int)status)) : "?");
    else
        snprintf(out, 64, "%.40s (%d)", state ? state : "?", WEXITSTATUS((int)status));
}

static int containers_print(const json_t *containers) {
    static const char *const titles[] = {"NAME",    ">ID",    "IMAGE",   "STATE", "NODES",
                                         "PRIMARY", ">PROCS", "CREATED", NULL};
    struct table *table = table_create(titles);
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *c = json_array_get(containers, i);
        const char *name = field_string(c, "name"), *image = field_string(c, "image"),
                   *primary = field_string(c, "primary");
        char nodes[2048], state[64], date[32];
        names_join(json_object_get(c, "nodes"), nodes, sizeof nodes);
        state_text(c, state);
        table_cell(table, "%s", name ? name : "?");
        table_cell(table, "%lld", field_integer_or(c, "id", 0, INT64_MAX, 0));
        table_cell(table, "%s", image ? image : field_true(c, "bare") ? "-" : "?");
        table_cell(table, "%s", state);
        table_cell(table, "%s", nodes);
        table_cell(table, "%s", primary ? primary : "?");
        table_cell(table, "%lld", field_integer_or(c, "processes", 0, INT64_MAX, 0));
        table_cell(table, "%s", format_date(date, (long long)json_number_value(json_object_get(c, "created"))));
    }
    return table_print(table);
}

int verb_ls(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"quiet", no_argument, NULL, 'q'}, {0}};
    int exit_code = EXIT_OK, option;
    bool quiet = false;
    while ((option = option_next(command, argc, argv, ":hq", options, &exit_code)) >= 0)
        quiet = true;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "dc.ls"), CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    const json_t *containers = json_object_get(answer, "containers");
    if (command->json)
        return json_print(containers) < 0;
    if (!quiet)
        return containers_print(containers) < 0;
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const char *name = field_string(json_array_get(containers, i), "name");
        puts(name ? name : "?");
    }
    return EXIT_OK;
}
