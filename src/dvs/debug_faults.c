/* SPDX-License-Identifier: Apache-2.0 */
/* dvs debug faults: where faults can be injected ($DVS_FAULTS), in a build that can. */
#include "common/cleanup.h"
#include "common/fault.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdio.h>
#include <string.h>

/* "delay crash short" */
static void actions_text(unsigned actions, char text[static 64]) {
    text[0] = 0;
    for (unsigned action = 1; action <= FAULT_LAST; action <<= 1)
        if (actions & action) {
            if (text[0])
                strcat(text, " ");
            strcat(text, fault_action_name(action));
        }
}

static int points_print_json(void) {
    cleanup_json json_t *list = json_array();
    for (unsigned i = 0; i < FAULT_POINT_END; i++) {
        char actions[64];
        actions_text(fault_points[i].actions, actions);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "point", fault_points[i].name, "actions", actions, "where",
                                              fault_points[i].where));
    }
    cleanup_json json_t *all = json_pack("{s:b, s:O}", "built", fault_built(), "points", list);
    return json_print(all);
}

static int points_print(void) {
    static const char *const titles[] = {"POINT", "ACTIONS", "WHERE", NULL};
    struct table *table = table_create(titles);
    for (unsigned i = 0; i < FAULT_POINT_END; i++) {
        char actions[64];
        actions_text(fault_points[i].actions, actions);
        table_cell(table, "%s", fault_points[i].name);
        table_cell(table, "%s", actions);
        table_cell(table, "%s", fault_points[i].where);
    }
    int result = table_print(table);
    puts(fault_built() ? "This build injects them as the daemons' $DVS_FAULTS says."
                       : "This build injects none: meson setup -Dfaults=true makes one that does.");
    return fflush(stdout) == 0 ? result : -1;
}

int verb_debug_faults(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    return (command->json ? points_print_json() : points_print()) < 0;
}
