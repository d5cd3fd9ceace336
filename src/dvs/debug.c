/* SPDX-License-Identifier: Apache-2.0 */
/* dvs debug record: the last events of a node's daemons. dvs debug slots: who owns a container's slots.
 * dvs debug places: where its endpoints are that have backups or have moved. */
#include "common/cleanup.h"
#include "common/record_read.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <dvk/endpoint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_DAEMON = OPTION_OWN, OPTION_ENDED, OPTION_LAST, OPTION_FILE };

struct wanted {
    const char *daemon, *file;
    bool ended;
    long long last;
};

static json_t *record_of_file(struct command *command, const struct wanted *wanted) {
    cleanup_close int fd = open(wanted->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        failure_set(&command->failure, -errno, "internal", NULL, "cannot open %s: %s", wanted->file, strerror(errno));
        return NULL;
    }
    return record_read(fd, (size_t)wanted->last, &command->failure);
}

static json_t *record_of_node(struct command *command, const struct wanted *wanted) {
    json_t *answer = NULL;
    json_t *request = json_pack("{s:s, s:b, s:I, s:s*}", "op", "debug.record", "ended", wanted->ended, "last",
                                (json_int_t)wanted->last, "daemon", wanted->daemon);
    return client_ask(&command->target, request, CLIENT_LOOK_MS, &answer, &command->failure) < 0 ? NULL : answer;
}

static int record_show(struct command *command, const struct wanted *wanted) {
    cleanup_json json_t *record = wanted->file ? record_of_file(command, wanted) : record_of_node(command, wanted);
    if (!record)
        return failure_report(command);
    json_object_del(record, "ok");
    return (command->json ? json_print(record) : record_print(record, stdout)) < 0;
}

static int debug_record(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            {"daemon", required_argument, NULL, OPTION_DAEMON},
                                            {"ended", no_argument, NULL, OPTION_ENDED},
                                            {"last", required_argument, NULL, OPTION_LAST},
                                            {"file", required_argument, NULL, OPTION_FILE},
                                            {0}};
    struct wanted wanted = {.last = RECORDER_CAPACITY};
    int exit_code = EXIT_OK, option;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) != OPTIONS_END) {
        if (option == OPTION_DAEMON)
            wanted.daemon = optarg;
        else if (option == OPTION_ENDED)
            wanted.ended = true;
        else if (option == OPTION_FILE)
            wanted.file = optarg;
        else if (option != OPTION_LAST)
            return exit_code;
        else if (!parse_number(optarg, 1, RECORDER_CAPACITY, &wanted.last))
            return usage_error(command, "%s: --last wants a number from 1 to %u", optarg, RECORDER_CAPACITY);
    }
    if (argc - optind > 1)
        return usage_error(command, "%s: one node at a time", argv[optind + 1]);
    if (optind < argc)
        command->target.node = argv[optind];
    return record_show(command, &wanted);
}

static int slots_print(const json_t *answer) {
    static const char *const titles[] = {"NODE", "STATE", ">SETS", ">SLOTS", "WHICH", NULL};
    struct table *table = table_create(titles);
    const json_t *nodes = json_object_get(answer, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *name = field_string(node, "name"), *state = field_string(node, "state"), *which = field_string(node, "which");
        json_int_t sets = field_integer_or(node, "sets", 0, DVK_USER_SLOTS, 0);
        table_cell(table, "%s", name ? name : "?");
        table_cell(table, "%s", state ? state : "-");
        table_cell(table, "%lld", sets);
        table_cell(table, "%lld", sets * DVK_SLOT_SET);
        table_cell(table, "%s", which && *which ? which : "-");
    }
    return table_print(table);
}

static void place_row(struct table *table, const json_t *place) {
    const json_t *spares = json_object_get(place, "backups");
    const char *node = field_string(json_object_get(place, "primary"), "node"), *state = field_string(place, "state");
    const char *to = field_string(json_object_get(place, "to"), "node");
    char names[256] = "-";
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(spares) && used < sizeof names; i++) {
        const char *name = field_string(json_array_get(spares, i), "node"), *kind = field_string(json_array_get(spares, i), "kind");
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s%s", i ? " " : "", name ? name : "?",
                                 kind && strcmp(kind, "replica") == 0 ? "*" : "");
    }
    table_cell(table, "%lld", field_integer_or(place, "slot", 0, UINT32_MAX, 0));
    table_cell(table, "%lld", field_integer_or(place, "generation", 0, UINT32_MAX, 0));
    table_cell(table, "%s", node ? node : "?");
    table_cell(table, "%s%s%s", state ? state : "?", to ? " to " : "", to ? to : "");
    table_cell(table, "%lld", field_integer_or(place, "revision", 0, INT64_MAX, 0));
    table_cell(table, "%s", names);
}

static int places_print(const json_t *answer) {
    static const char *const titles[] = {">SLOT", ">GENERATION", "NODE", "STATE", ">REVISION", "BACKUPS", NULL};
    struct table *table = table_create(titles);
    const json_t *places = json_object_get(answer, "places");
    for (size_t i = 0; i < json_array_size(places); i++)
        place_row(table, json_array_get(places, i));
    return table_print(table);
}

/* An operation whose only field is a container. */
static int debug_dc(struct command *command, int argc, char **argv, const char *op, int (*print)(const json_t *answer)) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "say which container");
    cleanup_json json_t *answer = NULL;
    json_t *request = json_pack("{s:s, s:s}", "op", op, "dc", argv[optind]);
    if (client_ask(&command->target, request, CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    json_object_del(answer, "ok");
    return (command->json ? json_print(answer) : print(answer)) < 0;
}

static int debug_slots(struct command *command, int argc, char **argv) {
    return debug_dc(command, argc, argv, "debug.slots", slots_print);
}

static int debug_places(struct command *command, int argc, char **argv) {
    return debug_dc(command, argc, argv, "debug.places", places_print);
}

int verb_debug(struct command *command, int argc, char **argv) {
    const char *usage = command->usage;
    const struct verb verbs[] = {{"record", debug_record, "the last events of a daemon", usage},
                                 {"slots", debug_slots, "who owns a container's slots", usage},
                                 {"places", debug_places, "where endpoints are that have moved", usage},
                                 {"snapshot", verb_debug_snapshot, "endpoints at one place in the order", usage},
                                 {"stats", verb_debug_stats, "what endpoints have sent and received", usage},
                                 {"faults", verb_debug_faults, "where this build can inject faults", usage},
                                 {NULL, NULL, NULL, NULL}};
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind == argc)
        return usage_error(command, "say what to do: debug record, slots, places, snapshot, stats or faults");
    return verb_dispatch(command, verbs, "debug ", argc - optind, argv + optind);
}
