/* SPDX-License-Identifier: Apache-2.0 */
/* dvs dc create: a container without a VOS, for programs that use libdvk. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OPTION_NODES = OPTION_OWN };

/* "a,b" to ["a", "b"]; empty parts are left to the daemon to refuse. */
static json_t *names_split(const char *text) {
    json_t *names = json_array();
    for (;;) {
        size_t len = strcspn(text, ",");
        json_array_append_new(names, json_stringn(text, len));
        if (!text[len])
            return names;
        text += len + 1;
    }
}

static int dc_create(struct command *command, int argc, char **argv) {
    static const struct option options[] = {
        COMMON_OPTIONS, {"nodes", required_argument, NULL, OPTION_NODES}, {0}};
    int exit_code = EXIT_OK, option;
    cleanup_json json_t *request = json_pack("{s:s}", "op", "dc.create");
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0)
        json_object_set_new(request, "nodes", names_split(optarg));
    if (option == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "give it one name");
    if (json_object_set_new(request, "name", json_string(argv[optind])) < 0)
        return usage_error(command, "%s: a name must be UTF-8", argv[optind]);
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_incref(request), CLIENT_CHANGE_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    if (command->json)
        return json_print(answer) < 0;
    puts(argv[optind]);
    return EXIT_OK;
}

static const struct verb verbs[] = {
    {"create", dc_create, "make a container without a VOS",
     "usage: dvs dc create [options] NAME\n"
     "A container for programs that use libdvk (docs/DVK.md): nothing runs in it but what binds to it by its name.\n"
     "It exists until dvs rm --force NAME.\n"
     "  --nodes A,B,...    nodes it spans (default: all that are up)\n"
     "  --format FORMAT    table (default) or json\n"
     "  --node NAME        ask this node\n"
     "  --lab NAME         ask a node of this lab (else $DVS_LAB, else the only one)\n"},
    {NULL, NULL, NULL, NULL},
};

int verb_dc(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP) {
        for (const struct verb *verb = verbs; verb->name && exit_code == EXIT_OK; verb++)
            printf("  %-8s %s\n", verb->name, verb->summary);
        return exit_code;
    }
    if (optind == argc)
        return usage_error(command, "say what to do: create");
    return verb_dispatch(command, verbs, "dc ", argc - optind, argv + optind);
}
