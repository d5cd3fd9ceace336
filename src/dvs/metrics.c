/* SPDX-License-Identifier: Apache-2.0 */
/* dvs metrics: counters of a node, its containers and their processes, for people's programs: Prometheus text or JSON. */
#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <stdio.h>
#include <string.h>

/* A label's value as the exposition format wants it. */
static void label(const char *name, const char *value, bool first) {
    printf("%s%s=\"", first ? "" : ",", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            putchar('\\');
        if (*value == '\n')
            fputs("\\n", stdout);
        else
            putchar(*value);
    }
    putchar('"');
}

/* What only grows is a counter, the rest gauges. */
static bool is_counter(const char *name) {
    static const char *const names[] = {"kv_reads", "kv_puts", "kv_deletes", "kv_conflicts", "casts", "messages", "views",
                                        "grants", "barriers", "events", "gaps", "lost", "cpu_ms", "time_ms",
                                        "sendrecs", "calls", "sends", "posts", "notifies", "completed", "posts_failed",
                                        "bytes_out", "bytes_in", "arrived", "requests_in", "sends_in", "notifies_in", "casts_in",
                                        "replies", "relayed", "withdrawn", "loans", "binds", "connects", "errors",
                                        "packets_in", "packets_out", "frames_out", "frames_in", "resent", "duplicates",
                                        "connections", "stalls"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static json_int_t number_of(const json_t *value) {
    return json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);
}

static const char *suffix(const char *key) { return is_counter(key) ? "_total" : ""; }

static void type_print(const char *kind, const char *key) {
    printf("# TYPE dvs_%s_%s%s %s\n", kind, key, suffix(key), is_counter(key) ? "counter" : "gauge");
}

/* The labels of one object: strings, or numbers such as a pid. */
static void labels_print(const char *node, const json_t *item, const char *const *labels) {
    if (node)
        label("node", node, true);
    for (const char *const *name = labels; *name; name++) {
        const json_t *value = json_object_get(item, *name);
        char text[32];
        snprintf(text, sizeof text, "%lld", json_integer_value(value));
        label(*name, json_is_string(value) ? json_string_value(value) : text, !node && name == labels);
    }
}

/* One sample; an object (errors) is one for each of its members, labelled with its name. */
static void sample_print(const char *kind, const char *key, const char *node, const json_t *item,
                         const char *const *labels) {
    const json_t *value = json_object_get(item, key);
    const char *class;
    json_t *part;
    json_object_foreach(json_is_object(value) ? (json_t *)value : NULL, class, part) {
        printf("dvs_%s_%s%s{", kind, key, suffix(key));
        labels_print(node, item, labels);
        label("class", class, false);
        printf("} %lld\n", number_of(part));
    }
    if (json_is_object(value))
        return;
    printf("dvs_%s_%s%s{", kind, key, suffix(key));
    labels_print(node, item, labels);
    printf("} %lld\n", number_of(value));
}

static void node_print(const char *kind, const char *node, const json_t *object) {
    static const char *const no_labels[] = {NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        type_print(kind, key);
        sample_print(kind, key, node, object, no_labels);
    }
}

/* One metric a key for all objects of a list: keys are numbers, labels strings (or the pid). */
static void list_print(const char *kind, const char *node, const json_t *list, const char *const *keys,
                       const char *const *labels) {
    json_t *item;
    size_t i;
    for (; *keys; keys++) {
        type_print(kind, *keys);
        json_array_foreach(list, i, item) sample_print(kind, *keys, node, item, labels);
    }
}

static void print_text(const json_t *answer) {
    static const char *const container_keys[] = {
        "endpoints", "keys",     "key_bytes",    "objects",   "channels", "channel_bytes", "binds",       "connects",
        "sendrecs",  "calls",    "sends",        "posts",     "notifies", "casts",         "completed",   "posts_failed",
        "bytes_out", "bytes_in", "arrived",      "replies",   "relayed",  "withdrawn",     "requests_in", "sends_in",
        "loans",     "casts_in", "notifies_in",  "pending",   "queued",   "unanswered",    "untaken",     "errors",
        NULL};
    static const char *const container_labels[] = {"name", "state", NULL};
    static const char *const client_keys[] = {"endpoints", "channels", "queued", "cpu_ms", "memory", NULL};
    static const char *const client_labels[] = {"pid", "role", NULL};
    static const char *const process_keys[] = {"time_ms", "threads", NULL};
    static const char *const process_labels[] = {"dc", "node", "pid", "comm", NULL};
    static const char *const link_keys[] = {"bytes_out", "bytes_in",  "frames_out", "frames_in", "resent",
                                            "duplicates", "under_way", "waiting",    "requests",  "parked",
                                            "answering",  "stalls",    "connections", "rtt_us",   NULL};
    static const char *const link_labels[] = {"name", NULL};
    const char *node = field_string(answer, "name");
    if (!node)
        node = "?";
    node_print("node", node, json_object_get(answer, "node"));
    node_print("messages", node, json_object_get(answer, "messages"));
    node_print("service", node, json_object_get(answer, "services"));
    list_print("container", node, json_object_get(answer, "containers"), container_keys, container_labels);
    list_print("client", node, json_object_get(answer, "clients"), client_keys, client_labels);
    list_print("link", node, json_object_get(answer, "links"), link_keys, link_labels);
    list_print("process", NULL, json_object_get(answer, "processes"), process_keys, process_labels);
}

int verb_metrics(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    cleanup_json json_t *answer = NULL, *processes = NULL, *links = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "metrics"), CLIENT_LOOK_MS, &answer, &command->failure) < 0 ||
        client_ask(&command->target, json_pack("{s:s}", "op", "dc.ps"), CLIENT_LOOK_MS, &processes, &command->failure) < 0)
        return failure_report(command);
    struct failure proxy_is_away; /* its links are left out then */
    if (client_ask(&command->target, json_pack("{s:s}", "op", "node.links"), CLIENT_LOOK_MS, &links, &proxy_is_away) == 0)
        json_object_set(answer, "links", json_object_get(links, "links"));
    json_object_del(answer, "ok");
    json_object_set(answer, "processes", json_object_get(processes, "processes"));
    if (command->json)
        return json_print(answer) < 0;
    print_text(answer);
    return fflush(stdout) != 0;
}
