/* SPDX-License-Identifier: Apache-2.0 */
/* dvs rm: remove containers. All are tried; the exit code is that of the first failure. */
#include "common/cleanup.h"
#include "dvs/dvs.h"

#include <string.h>

int verb_rm(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"force", no_argument, NULL, 'f'}, {0}};
    int exit_code = EXIT_OK, option;
    bool force = false;
    while ((option = option_next(command, argc, argv, ":hf", options, &exit_code)) >= 0)
        force = true;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind == argc)
        return usage_error(command, "name a container");
    for (; optind < argc; optind++) {
        cleanup_json json_t *answer = NULL;
        command->failure = (struct failure){0};
        if (client_ask(&command->target,
                       json_pack("{s:s, s:s, s:b}", "op", "dc.rm", "dc", argv[optind], "force", force),
                       CLIENT_CHANGE_MS, &answer, &command->failure) == 0)
            continue;
        if (force && strcmp(command->failure.code, "no-such-dc") == 0)
            continue;
        int failed = failure_report(command);
        if (exit_code == EXIT_OK)
            exit_code = failed;
    }
    return exit_code;
}
