/* SPDX-License-Identifier: Apache-2.0 */
/* dvs kv: keys with values, of the cluster or of a container. */
#include "common/base64.h"
#include "common/cleanup.h"
#include "dvs/output.h"
#include "dvs/service.h"

#include <dvk/error.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KV_MS 15000

enum { OPTION_STALE = OPTION_SERVICE_OWN, OPTION_RAW, OPTION_REVISION, OPTION_COUNT };

struct kv_command {
    struct command *command;
    struct service service;
    unsigned options; /* DVK_STALE */
    bool raw;
    uint64_t revision; /* --revision */
    long long count;   /* --count; 0: for ever */
    long long seen;
    json_t *list;
    struct table *table;
};

/* A key as JSON: its value as text if it is UTF-8, else as base64. */
static json_t *kv_json(const struct dvk_kv *kv, const char *key, const void *value) {
    json_t *json = json_pack("{s:s, s:I, s:I, s:I}", "key", key, "revision", (json_int_t)kv->revision, "created",
                             (json_int_t)kv->created, "changes", (json_int_t)kv->changes);
    if (!value)
        return json;
    json_t *text = memchr(value, 0, kv->len) ? NULL : json_stringn(value, kv->len);
    if (text) {
        json_object_set_new(json, "value", text);
    } else {
        cleanup_free char *coded = base64_text(value, kv->len);
        json_object_set_new(json, "value_base64", json_string(coded ? coded : ""));
    }
    return json;
}

static int kv_fail(struct kv_command *kv, int error, const char *key) {
    char what[300];
    snprintf(what, sizeof what, "key %s", key);
    return service_report(kv->command, error, what);
}

/* ---- the verbs: arguments are checked, the service is open ---- */

static int kv_get(struct kv_command *kv, char **argv) {
    static char value[DVK_KV_VALUE_MAX];
    struct dvk_kv info;
    int error = dvk_kv_get(kv->service.dvk, kv->service.from, argv[0], value, sizeof value, &info, kv->options,
                           kv->service.timeout_ms);
    if (error < 0)
        return kv_fail(kv, error, argv[0]);
    if (kv->command->json) {
        cleanup_json json_t *json = kv_json(&info, argv[0], value);
        return json_print(json) < 0;
    }
    fwrite(value, 1, info.len, stdout);
    if (!kv->raw)
        putchar('\n');
    return fflush(stdout) != 0;
}

/* The value: the argument, or standard input for "-". */
static int read_value(struct kv_command *kv, const char *text, char value[static DVK_KV_VALUE_MAX + 1], size_t *len) {
    if (strcmp(text, "-") == 0) {
        *len = fread(value, 1, DVK_KV_VALUE_MAX + 1, stdin);
        if (ferror(stdin))
            return usage_error(kv->command, "cannot read standard input");
    } else {
        *len = strlen(text);
        memcpy(value, text, *len < DVK_KV_VALUE_MAX + 1 ? *len : DVK_KV_VALUE_MAX + 1);
    }
    if (*len > DVK_KV_VALUE_MAX)
        return service_report(kv->command, -EMSGSIZE, "the value");
    return 0;
}

static int put(struct kv_command *kv, const char *key, uint64_t expected, const char *text) {
    static char value[DVK_KV_VALUE_MAX + 1];
    size_t len;
    uint64_t revision;
    int result = read_value(kv, text, value, &len);
    if (result != 0)
        return result;
    int error = expected == DVK_KV_ANY ? dvk_kv_put(kv->service.dvk, kv->service.from, key, value, len, &revision,
                                                    kv->service.timeout_ms)
                                       : dvk_kv_cas(kv->service.dvk, kv->service.from, key, expected, value, len,
                                                    &revision, kv->service.timeout_ms);
    if (error < 0)
        return kv_fail(kv, error, key);
    printf("%" PRIu64 "\n", revision);
    return fflush(stdout) != 0;
}

static int kv_put(struct kv_command *kv, char **argv) { return put(kv, argv[0], DVK_KV_ANY, argv[1]); }

static int kv_cas(struct kv_command *kv, char **argv) {
    long long revision;
    if (!parse_number(argv[1], 0, INT64_MAX, &revision))
        return usage_error(kv->command, "%s: not a revision (0: there must be no such key)", argv[1]);
    return put(kv, argv[0], (uint64_t)revision, argv[2]);
}

static int kv_del(struct kv_command *kv, char **argv) {
    int error =
        dvk_kv_delete(kv->service.dvk, kv->service.from, argv[0], kv->revision, kv->service.timeout_ms);
    return error < 0 ? kv_fail(kv, error, argv[0]) : 0;
}

static void list_one(void *context, const struct dvk_kv *entry) {
    struct kv_command *kv = context;
    if (kv->list) {
        json_array_append_new(kv->list, kv_json(entry, entry->key, entry->value));
        return;
    }
    table_cell(kv->table, "%s", entry->key);
    table_cell(kv->table, "%" PRIu64, entry->revision);
    table_cell(kv->table, "%u", entry->changes);
    table_cell(kv->table, "%zu", entry->len);
}

static int kv_ls(struct kv_command *kv, char **argv) {
    static const char *const titles[] = {"KEY", ">REVISION", ">CHANGES", ">BYTES", NULL};
    const char *prefix = argv[0] ? argv[0] : "";
    cleanup_json json_t *list = kv->command->json ? json_array() : NULL;
    kv->list = list;
    kv->table = list ? NULL : table_create(titles);
    int error = dvk_kv_list(kv->service.dvk, kv->service.from, prefix, list_one, kv, kv->options | DVK_VALUES,
                            kv->service.timeout_ms);
    if (error < 0)
        return service_report(kv->command, error, "the keys");
    return (list ? json_print(list) : table_print(kv->table)) < 0;
}

static void line_print(json_t *json) {
    cleanup_json json_t *owned = json;
    cleanup_free char *text = json_dumps(json, JSON_COMPACT);
    puts(text ? text : "{}");
}

static void watch_one(void *context, const struct dvk_kv *entry) {
    struct kv_command *kv = context;
    const char *what = entry->gap ? "gap" : entry->deleted ? "del" : "put";
    kv->seen += !entry->gap;
    if (kv->command->json) {
        json_t *json = entry->gap ? json_object() : kv_json(entry, entry->key, entry->value);
        json_object_set_new(json, "event", json_string(what));
        line_print(json);
    } else if (entry->gap) {
        puts("- gap: changes were missed");
    } else {
        printf("%" PRIu64 " %s %s", entry->revision, what, entry->key);
        if (entry->value) {
            putchar(' ');
            fwrite(entry->value, 1, entry->len, stdout);
        }
        putchar('\n');
    }
    fflush(stdout);
    if (ferror(stdout) || kv->seen == kv->count)
        dvk_wake(kv->service.dvk);
}

static int kv_watch(struct kv_command *kv, char **argv) {
    uint64_t watch, revision;
    struct dvk_request *request;
    int error = dvk_kv_watch(kv->service.dvk, kv->service.from, argv[0] ? argv[0] : "", watch_one, kv, &watch, &revision,
                             KV_MS);
    if (error < 0)
        return service_report(kv->command, error, "the watch");
    if (kv->command->json)
        line_print(json_pack("{s:s, s:I}", "event", "watching", "revision", (json_int_t)revision));
    else
        printf("%" PRIu64 " watching\n", revision);
    fflush(stdout);
    while (kv->count == 0 || kv->seen < kv->count) {
        if (ferror(stdout))
            return EXIT_FAILED;
        error = dvk_receive(kv->service.dvk, &request, -1);
        if (error == 0)
            dvk_release(kv->service.dvk, request);
        else if (error != -DVK_EINTERRUPTED)
            return service_report(kv->command, error, "the watch");
    }
    return EXIT_OK;
}

/* ---- which one ---- */

static const struct {
    const char *name;
    int (*run)(struct kv_command *kv, char **argv);
    int least, most; /* arguments */
    const char *arguments;
} verbs[] = {
    {"get", kv_get, 1, 1, "KEY"},           {"put", kv_put, 2, 2, "KEY VALUE"}, {"cas", kv_cas, 3, 3, "KEY REVISION VALUE"},
    {"del", kv_del, 1, 1, "KEY"},           {"ls", kv_ls, 0, 1, "[PREFIX]"},    {"watch", kv_watch, 0, 1, "[PREFIX]"},
};

static int take_option(struct kv_command *kv, int option) {
    long long number;
    switch (option) {
    case OPTION_STALE:
        kv->options |= DVK_STALE;
        return 0;
    case OPTION_RAW:
        kv->raw = true;
        return 0;
    case OPTION_REVISION:
        if (!parse_number(optarg, 1, INT64_MAX, &number))
            return usage_error(kv->command, "--revision %s: not a revision", optarg);
        kv->revision = (uint64_t)number;
        return 0;
    case OPTION_COUNT:
        if (!parse_number(optarg, 1, INT64_MAX, &kv->count))
            return usage_error(kv->command, "--count %s: give a number of changes", optarg);
        return 0;
    default:
        return service_option(kv->command, &kv->service, option);
    }
}

int verb_kv(struct command *command, int argc, char **argv) {
    static const struct option options[] = {SERVICE_OPTIONS,
                                            {"stale", no_argument, NULL, OPTION_STALE},
                                            {"raw", no_argument, NULL, OPTION_RAW},
                                            {"revision", required_argument, NULL, OPTION_REVISION},
                                            {"count", required_argument, NULL, OPTION_COUNT},
                                            {0}};
    struct kv_command kv = {
        .command = command, .service = {.timeout_ms = KV_MS}, .revision = DVK_KV_ANY};
    int exit_code = EXIT_OK, option;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0) {
        exit_code = take_option(&kv, option);
        if (exit_code != EXIT_OK)
            return exit_code;
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    argc -= optind;
    argv += optind;
    if (argc == 0)
        return usage_error(command, "say what to do: kv get, put, cas, del, ls or watch");
    for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++) {
        if (strcmp(verbs[i].name, argv[0]) != 0)
            continue;
        if (argc - 1 < verbs[i].least || argc - 1 > verbs[i].most)
            return usage_error(command, "usage: dvs kv %s %s", verbs[i].name, verbs[i].arguments);
        if (service_open(command, &kv.service) < 0)
            return failure_report(command);
        exit_code = verbs[i].run(&kv, argv + 1);
        service_close(&kv.service);
        return exit_code;
    }
    return usage_error(command, "kv %s: no such command", argv[0]);
}
