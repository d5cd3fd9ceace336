/* SPDX-License-Identifier: Apache-2.0 */
/* dvs kill: a signal to a container, or to one process of it. */
#include "common/cleanup.h"
#include "dvs/dvs.h"

#include <signal.h>
#include <stdint.h>

int verb_kill(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"signal", required_argument, NULL, 's'}, {0}};
    int exit_code = EXIT_OK, option, signal_number = SIGKILL;
    while ((option = option_next(command, argc, argv, ":hs:", options, &exit_code)) >= 0) {
        signal_number = parse_signal(optarg);
        if (signal_number == 0)
            return usage_error(command, "no signal named %s", optarg);
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    if (argc - optind < 1 || argc - optind > 2)
        return usage_error(command, "name a container, and at most one PID");
    json_t *request = json_pack("{s:s, s:s, s:i}", "op", "dc.kill", "dc", argv[optind], "signal", signal_number);
    long long pid;
    if (argc - optind == 2) {
        if (!parse_number(argv[optind + 1], 1, INT32_MAX, &pid)) {
            json_decref(request);
            return usage_error(command, "%s is not a PID", argv[optind + 1]);
        }
        json_object_set_new(request, "pid", json_integer(pid));
    }
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, request, CLIENT_CHANGE_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    return EXIT_OK;
}
