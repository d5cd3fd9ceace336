/* SPDX-License-Identifier: Apache-2.0 */
/* dvs inspect: all that is known of containers, a JSON array. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

int verb_inspect(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind == argc)
        return usage_error(command, "name a container");
    cleanup_json json_t *all = json_array();
    for (; optind < argc; optind++) {
        cleanup_json json_t *answer = NULL;
        if (client_ask(&command->target, json_pack("{s:s, s:s}", "op", "dc.inspect", "dc", argv[optind]),
                       CLIENT_LOOK_MS, &answer, &command->failure) < 0) {
            int failed = failure_report(command);
            if (exit_code == EXIT_OK)
                exit_code = failed;
            continue;
        }
        json_array_append(all, json_object_get(answer, "container"));
    }
    if (exit_code != EXIT_OK && json_array_size(all) == 0)
        return exit_code;
    return json_print(all) < 0 ? EXIT_FAILED : exit_code;
}
