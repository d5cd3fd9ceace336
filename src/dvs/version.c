/* SPDX-License-Identifier: Apache-2.0 */
/* dvs version: ours, and the daemon's if one answers. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdint.h>
#include <stdio.h>

int verb_version(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    cleanup_json json_t *answer = NULL;
    int result =
        client_ask(&command->target, json_pack("{s:s}", "op", "version"), CLIENT_LOOK_MS, &answer, &command->failure);
    /* No daemon is an answer too, unless one was asked for by name. */
    if (result < 0 && command->target.node)
        return failure_report(command);
    const char *version = field_string(answer, "version"), *node = field_string(answer, "node");
    json_int_t id = field_integer_or(answer, "id", 0, INT32_MAX, 0);
    if (command->json) {
        cleanup_json json_t *out = json_pack("{s:s}", "dvs", DVS_VERSION);
        json_object_set_new(out, "dvkd",
                            result == 0 ? json_pack("{s:s?, s:s?, s:I}", "version", version, "node", node, "id", id)
                                        : json_null());
        return json_print(out) < 0;
    }
    printf("dvs   " DVS_VERSION "\n");
    if (result == 0)
        printf("dvkd  %s (node %s, id %lld)\n", version ? version : "?", node ? node : "?", (long long)id);
    else
        printf("dvkd  none answers\n");
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}
