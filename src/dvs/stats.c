/* SPDX-License-Identifier: Apache-2.0 */
/* dvs debug stats: what endpoints have sent and received and what is under way, summed up by container and node, or one by one. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WATCH_MAX_S 86400

enum { OPTION_ENDPOINTS = OPTION_OWN, OPTION_ENDPOINT, OPTION_WATCH };

struct wanted {
    const char *container; /* NULL: all of a node */
    bool endpoints;
    long long slot; /* -1: all of them */
};

static json_int_t number(const json_t *json, const char *name) { return field_integer_or(json, name, 0, INT64_MAX, 0); }

static json_int_t sum_of(const json_t *json, const char *const *names) {
    json_int_t sum = 0;
    for (; *names; names++)
        if (__builtin_add_overflow(sum, number(json, *names), &sum))
            return INT64_MAX;
    return sum;
}

static json_int_t errors_of(const json_t *json) {
    const char *name;
    json_t *value;
    json_int_t sum = 0;
    json_object_foreach(json_object_get(json, "errors"), name, value)
        if (__builtin_add_overflow(sum, json_integer_value(value), &sum))
            return INT64_MAX;
    return sum;
}

/* The columns that rows of all kinds have. */
#define COUNTED_TITLES ">SENT", ">RECEIVED", ">OUT", ">IN", ">PENDING", ">UNANSWERED", ">QUEUED", ">UNTAKEN", ">ERRORS"
static void counted_cells(struct table *table, const json_t *json) {
    static const char *const sent[] = {"sendrecs", "calls", "sends", "posts", "notifies", "casts", NULL};
    static const char *const received[] = {"requests_in", "sends_in", "notifies_in", "casts_in", NULL};
    table_cell(table, "%lld", sum_of(json, sent));
    table_cell(table, "%lld", sum_of(json, received));
    table_cell_bytes(table, number(json, "bytes_out"));
    table_cell_bytes(table, number(json, "bytes_in"));
    table_cell(table, "%lld", number(json, "pending"));
    table_cell(table, "%lld", number(json, "unanswered"));
    table_cell(table, "%lld", number(json, "queued"));
    table_cell(table, "%lld", number(json, "untaken"));
    table_cell(table, "%lld", errors_of(json));
}

static void sum_row(struct table *table, const char *name, const json_t *sum) {
    table_cell(table, "%s", name);
    table_cell(table, "%lld", number(sum, "endpoints"));
    table_cell(table, "%lld", number(sum, "channels"));
    table_cell_bytes(table, number(sum, "channel_bytes"));
    counted_cells(table, sum);
}

static struct table *sums_table(const char *first) {
    const char *const titles[] = {first, ">ENDPOINTS", ">CHANNELS", ">MEMORY", COUNTED_TITLES, NULL};
    return table_create(titles);
}

/* Add all numbers of `more`, those of objects in it too. */
static void add(json_t *sum, const json_t *more) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)more, name, value) {
        json_int_t total;
        if (json_is_object(value)) {
            if (!json_object_get(sum, name))
                json_object_set_new(sum, name, json_object());
            add(json_object_get(sum, name), value);
        } else if (json_is_integer(value)) {
            if (__builtin_add_overflow(json_integer_value(json_object_get(sum, name)), json_integer_value(value), &total))
                total = INT64_MAX;
            json_object_set_new(sum, name, json_integer(total));
        }
    }
}

/* ---- all containers of a node ---- */

static int node_show(struct command *command) {
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "metrics"), CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    const json_t *containers = json_object_get(answer, "containers"), *all = json_object_get(answer, "messages");
    const char *node = field_string(answer, "name");
    if (command->json) {
        cleanup_json json_t *shown = json_pack("{s:s, s:O, s:O}", "node", node ? node : "", "containers", containers, "total", all);
        return json_print(shown) < 0;
    }
    struct table *table = sums_table("CONTAINER");
    json_t *container;
    size_t i;
    json_array_foreach(containers, i, container) {
        const char *name = field_string(container, "name");
        if (number(container, "id") || number(container, "binds"))
            sum_row(table, name && *name ? name : "(none)", container);
    }
    char total[80];
    snprintf(total, sizeof total, "all of node %s", node ? node : "?");
    sum_row(table, total, all);
    return table_print(table) < 0;
}

/* ---- one container on all nodes ---- */

static int sums_show(struct command *command, const struct wanted *wanted, const json_t *nodes) {
    cleanup_json json_t *total = json_object(), *list = json_array();
    json_t *node;
    size_t i;
    json_array_foreach(nodes, i, node) {
        const char *name = field_string(node, "name");
        json_t *row = json_pack("{s:s}", "node", name ? name : "?");
        if (json_is_object(json_object_get(node, "sum")))
            json_object_update(row, json_object_get(node, "sum"));
        add(total, json_object_get(node, "sum"));
        json_array_append_new(list, row);
    }
    if (command->json) {
        cleanup_json json_t *shown = json_pack("{s:s, s:O, s:O}", "container", wanted->container, "nodes", list, "total", total);
        return json_print(shown) < 0;
    }
    struct table *table = sums_table("NODE");
    json_array_foreach(list, i, node) sum_row(table, field_string(node, "node"), node);
    sum_row(table, "all", total);
    return table_print(table) < 0;
}

static json_t *endpoints_of(const struct wanted *wanted, const json_t *nodes) {
    json_t *list = json_array(), *node, *endpoint;
    size_t i, k;
    json_array_foreach(nodes, i, node)
        json_array_foreach(json_object_get(node, "endpoints"), k, endpoint) {
            if (wanted->slot >= 0 && number(endpoint, "slot") != wanted->slot)
                continue;
            const char *name = field_string(node, "name");
            json_object_set_new(endpoint, "node", json_string(name ? name : "?"));
            json_array_append(list, endpoint);
        }
    return list;
}

static int endpoints_print(const json_t *list) {
    const char *const titles[] = {"NODE", ">SLOT", "ROLE", ">PID", ">WAITS FOR", COUNTED_TITLES, NULL};
    struct table *table = table_create(titles);
    json_t *endpoint;
    size_t i;
    json_array_foreach((json_t *)list, i, endpoint) {
        const char *role = field_string(endpoint, "role");
        table_cell(table, "%s", field_string(endpoint, "node"));
        table_cell(table, "%lld", number(endpoint, "slot"));
        table_cell(table, "%s", field_true(endpoint, "guest") ? "guest" : role ? role : "?");
        table_cell(table, "%lld", number(endpoint, "pid"));
        if (json_object_get(endpoint, "waits_for"))
            table_cell(table, "%lld", number(endpoint, "waits_for"));
        else
            table_cell(table, "-");
        counted_cells(table, endpoint);
    }
    return table_print(table);
}

/* One endpoint: every number that is not 0. */
static int endpoint_print(const json_t *list) {
    static const char *const titles[] = {"NAME", ">VALUE", NULL};
    struct table *table = table_create(titles);
    json_t *endpoint, *value, *error;
    const char *name, *class;
    size_t i;
    json_array_foreach((json_t *)list, i, endpoint) json_object_foreach(endpoint, name, value) {
        char date[32];
        json_object_foreach(json_is_object(value) ? value : NULL, class, error) {
            table_cell(table, "error: %s", class);
            table_cell(table, "%lld", json_integer_value(error));
        }
        if (json_is_object(value))
            continue;
        table_cell(table, "%s", name);
        if (strcmp(name, "since") == 0)
            table_cell(table, "%s", format_date(date, json_integer_value(value) / 1000));
        else if (json_is_string(value))
            table_cell(table, "%s", json_string_value(value));
        else
            table_cell(table, "%lld", json_is_boolean(value) ? json_is_true(value) : json_integer_value(value));
    }
    return table_print(table);
}

static int container_show(struct command *command, const struct wanted *wanted) {
    cleanup_json json_t *answer = NULL;
    json_t *request = json_pack("{s:s, s:s}", "op", "debug.snapshot", "dc", wanted->container);
    if (!request)
        return usage_error(command, "a container's name is not UTF-8");
    if (client_ask(&command->target, request, CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    const json_t *nodes = json_object_get(answer, "nodes");
    if (!wanted->endpoints)
        return sums_show(command, wanted, nodes);
    cleanup_json json_t *list = endpoints_of(wanted, nodes);
    if (wanted->slot >= 0 && json_array_size(list) == 0) {
        failure_set(&command->failure, 0, "no-such-process", "dvs debug stats --endpoints lists them",
                    "nothing is bound to slot %lld of %s", wanted->slot, wanted->container);
        return failure_report(command);
    }
    return (command->json ? json_print(list) : wanted->slot >= 0 ? endpoint_print(list) : endpoints_print(list)) < 0;
}

int verb_debug_stats(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            {"endpoints", no_argument, NULL, OPTION_ENDPOINTS},
                                            {"endpoint", required_argument, NULL, OPTION_ENDPOINT},
                                            {"watch", required_argument, NULL, OPTION_WATCH},
                                            {0}};
    struct wanted wanted = {.slot = -1};
    long long every = 0;
    int exit_code = EXIT_OK, option;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0) {
        if (option == OPTION_WATCH && !parse_number(optarg, 1, WATCH_MAX_S, &every))
            return usage_error(command, "--watch %s: seconds, 1 to %d", optarg, WATCH_MAX_S);
        if (option == OPTION_ENDPOINT && !parse_number(optarg, 1, UINT32_MAX, &wanted.slot))
            return usage_error(command, "--endpoint %s: no slot", optarg);
        wanted.endpoints |= option != OPTION_WATCH;
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    wanted.container = optind < argc ? argv[optind] : NULL;
    if (argc - optind > 1)
        return usage_error(command, "%s: one container at most", argv[optind + 1]);
    if (wanted.endpoints && !wanted.container)
        return usage_error(command, "say which container");
    for (;;) {
        exit_code = wanted.container ? container_show(command, &wanted) : node_show(command);
        if (exit_code != EXIT_OK || !every || fflush(stdout) != 0)
            return exit_code;
        sleep((unsigned)every);
        if (!command->json)
            putchar('\n');
    }
}
