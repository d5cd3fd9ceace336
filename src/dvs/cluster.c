/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs cluster: make one, let nodes in, list them, take one out. init and join work on this node's files, before its
 * daemons run; the others ask the daemon.
 */
#include "cluster/cluster.h"

#include "common/cleanup.h"
#include "dvs/dvs.h"
#include "dvs/output.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TTL_MIN_S 1
#define TTL_MAX_S (30 * 86400)
#define CHANGE_MS 60000

enum { OPTION_CLUSTER_NAME = OPTION_OWN, OPTION_LISTEN, OPTION_STATE, OPTION_COROSYNC, OPTION_ID, OPTION_TOKEN, OPTION_TTL };

#define PLACE_OPTIONS                                                                                                  \
    {"listen", required_argument, NULL, OPTION_LISTEN}, {"state", required_argument, NULL, OPTION_STATE},              \
        {"corosync", required_argument, NULL, OPTION_COROSYNC}, {                                                      \
        "id", required_argument, NULL, OPTION_ID                                                                       \
    }

/* What init and join are told of this node. */
struct place {
    const char *state;
    struct cluster_node node;
};

static void name_default(char name[static PKI_NAME_MAX + 1]) {
    char host[256] = "";
    size_t n = 0;
    if (gethostname(host, sizeof host - 1) == 0)
        for (const char *c = host; *c && *c != '.' && n < PKI_NAME_MAX; c++)
            if (isalnum((unsigned char)*c) || (n && strchr("-_", *c)))
                name[n++] = (char)tolower((unsigned char)*c);
    name[n] = '\0';
}

/* 1: the option was one of these. 0: another. Negative: wrong, and said so. */
static int place_option(struct command *command, struct place *place, int option) {
    struct cluster_node *node = &place->node;
    long long number;
    switch (option) {
    case OPTION_LISTEN:
        if (!cluster_listen_valid(optarg)) {
            usage_error(command, "--listen %s: want this node's own ADDRESS:PORT (IPv4)", optarg);
            return -EINVAL;
        }
        snprintf(node->listen, sizeof node->listen, "%s", optarg);
        return 1;
    case OPTION_STATE:
        place->state = optarg;
        return 1;
    case OPTION_COROSYNC:
        if (optarg[0] != '/' || strlen(optarg) >= sizeof node->corosync) {
            usage_error(command, "--corosync %s: want an absolute path", optarg);
            return -EINVAL;
        }
        snprintf(node->corosync, sizeof node->corosync, "%s", optarg);
        return 1;
    case OPTION_ID:
        if (!parse_number(optarg, 1, CLUSTER_NODES_MAX, &number)) {
            usage_error(command, "--id %s: want 1 to %d", optarg, CLUSTER_NODES_MAX);
            return -EINVAL;
        }
        node->identity.node = (uint32_t)number;
        return 1;
    default:
        return 0;
    }
}

static int place_check(struct command *command, struct place *place) {
    struct cluster_node *node = &place->node;
    if (command->target.node)
        snprintf(node->identity.name, sizeof node->identity.name, "%s", command->target.node);
    if (!pki_name_valid(node->identity.name) || (command->target.node && strlen(command->target.node) > PKI_NAME_MAX))
        return usage_error(command, "%s is no name for a node: want a-z 0-9 _ . -, at most %d", node->identity.name,
                           PKI_NAME_MAX);
    if (!node->listen[0])
        return usage_error(command, "say --listen ADDRESS:PORT: where the other nodes reach this one");
    if (place->state[0] != '/' || strlen(place->state) > 500)
        return usage_error(command, "--state %s: want an absolute path", place->state);
    if (geteuid() == 0)
        return EXIT_OK;
    failure_set(&command->failure, -EPERM, "not-root", "try: sudo dvs cluster ...",
                "this writes to %s and %s: it needs root", place->state, node->corosync);
    return failure_report(command);
}

static void next_steps(const struct place *place) {
    const struct cluster_node *node = &place->node;
    bool own = strcmp(node->corosync, CLUSTER_COROSYNC_DIR) != 0;
    printf("Start corosync%s%s%s, then dvkd%s%s.\n", own ? " -c " : "", own ? node->corosync : "",
           own ? "/corosync.conf" : "", strcmp(place->state, "/var/lib/dvs") != 0 ? " --state " : "",
           strcmp(place->state, "/var/lib/dvs") != 0 ? place->state : "");
}

static struct place place_default(void) {
    struct place place = {.state = "/var/lib/dvs", .node = {.corosync = CLUSTER_COROSYNC_DIR, .token_ms = CLUSTER_TOKEN_MS}};
    name_default(place.node.identity.name);
    return place;
}

/* ---- init ---- */

static int cluster_init_verb(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            PLACE_OPTIONS,
                                            {"name", required_argument, NULL, OPTION_CLUSTER_NAME},
                                            {"token", required_argument, NULL, OPTION_TOKEN},
                                            {0}};
    struct place place = place_default();
    int exit_code = EXIT_OK, option;
    const char *name = "dvs";
    long long token = CLUSTER_TOKEN_MS;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0) {
        if (option == OPTION_CLUSTER_NAME)
            name = optarg;
        else if (option == OPTION_TOKEN) {
            if (!parse_number(optarg, 200, 60000, &token))
                return usage_error(command, "--token %s: want 200 to 60000 ms", optarg);
        } else if (place_option(command, &place, option) < 0)
            return EXIT_USAGE;
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    if (!pki_name_valid(name))
        return usage_error(command, "%s is no name for a cluster: want a-z 0-9 _ . -, at most %d", name, PKI_NAME_MAX);
    exit_code = place_check(command, &place);
    if (exit_code != EXIT_OK)
        return exit_code;
    snprintf(place.node.identity.cluster, sizeof place.node.identity.cluster, "%s", name);
    if (!place.node.identity.node)
        place.node.identity.node = 1;
    place.node.token_ms = (unsigned)token;
    if (cluster_init(place.state, &place.node, &command->failure) < 0)
        return failure_report(command);
    printf("Made cluster %s with node %s (id %u). ", name, place.node.identity.name, place.node.identity.node);
    next_steps(&place);
    printf("Keep %s/tls/ca.key: new nodes can be let in only where it is.\n", place.state);
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

/* ---- join ---- */

/* The token, or with "-" the first line of standard input: arguments can be seen by others on this machine. */
static bool token_read(const char *argument, struct cluster_token *token) {
    char line[CLUSTER_TOKEN_MAX + 1];
    if (strcmp(argument, "-") != 0)
        return cluster_token_decode(argument, token);
    if (!fgets(line, sizeof line, stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    return cluster_token_decode(line, token);
}

static int cluster_join_verb(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, PLACE_OPTIONS, {0}};
    struct place place = place_default();
    struct cluster_token token;
    int exit_code = EXIT_OK, option;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0)
        if (place_option(command, &place, option) < 0)
            return EXIT_USAGE;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (argc - optind < 1 || argc - optind > 2)
        return usage_error(command, "say: dvs cluster join --listen ADDRESS:PORT [ADDRESS:PORT of a node] TOKEN");
    const char *address = argc - optind == 2 ? argv[optind] : NULL;
    if (address && !cluster_listen_valid(address))
        return usage_error(command, "%s: want ADDRESS:PORT of the node that gave the token", address);
    if (!token_read(argv[argc - 1], &token))
        return usage_error(command, "that is no token (dvs cluster token, on a node of the cluster, makes one)");
    exit_code = place_check(command, &place);
    if (exit_code != EXIT_OK)
        return exit_code;
    if (token.expires <= time(NULL)) {
        failure_set(&command->failure, -EACCES, "not-allowed", "dvs cluster token makes another", "the token has expired");
        return failure_report(command);
    }
    if (cluster_join(place.state, &token, address, &place.node, &command->failure) < 0)
        return failure_report(command);
    printf("Joined cluster %s as node %s (id %u). ", place.node.identity.cluster, place.node.identity.name,
           place.node.identity.node);
    next_steps(&place);
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

/* ---- token, ls, leave ---- */

static int cluster_token_verb(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"ttl", required_argument, NULL, OPTION_TTL}, {0}};
    int exit_code = EXIT_OK, option;
    long long ttl = 3600;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0)
        if (!parse_number(optarg, TTL_MIN_S, TTL_MAX_S, &ttl))
            return usage_error(command, "--ttl %s: want %d to %d seconds", optarg, TTL_MIN_S, TTL_MAX_S);
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s, s:I}", "op", "cluster.token", "ttl_s", (json_int_t)ttl),
                   CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    if (command->json)
        return json_print(answer) < 0;
    const char *token = field_string(answer, "token");
    puts(token ? token : "");
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

static int cluster_ls_verb(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    static const char *const titles[] = {"NAME", ">ID", "STATE", "ADDRESS", NULL};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "cluster.ls"), CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return failure_report(command);
    json_object_del(answer, "ok");
    if (command->json)
        return json_print(answer) < 0;
    struct table *table = table_create(titles);
    const json_t *nodes = json_object_get(answer, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *name = field_string(node, "name"), *state = field_string(node, "state");
        const char *address = field_string(node, "address");
        table_cell(table, "%s", name ? name : "?");
        table_cell(table, "%lld", field_integer_or(node, "id", 0, INT32_MAX, 0));
        table_cell(table, "%s", state ? state : "?");
        table_cell(table, "%s", address && *address ? address : "-");
    }
    return table_print(table) < 0;
}

static int cluster_leave_verb(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "name the node that is gone for good");
    cleanup_json json_t *answer = NULL;
    if (client_ask(&command->target, json_pack("{s:s, s:s}", "op", "cluster.leave", "node", argv[optind]), CHANGE_MS,
                   &answer, &command->failure) < 0)
        return failure_report(command);
    return EXIT_OK;
}

/* ---- the table ---- */

#define PLACE_HELP                                                                                                     \
    "  --listen ADDR:PORT where the other nodes reach this one\n"                                                      \
    "  --node NAME        name of this node (default: the host's)\n"                                                   \
    "  --id N             its id, 1 to 384 (default: the lowest that is free)\n"                                       \
    "  --state DIR        dvkd's state directory (default: /var/lib/dvs)\n"                                            \
    "  --corosync DIR     directory of corosync's configuration (default: /etc/corosync)\n"

int verb_cluster(struct command *command, int argc, char **argv) {
    static const struct verb verbs[] = {
        {"init", cluster_init_verb, "make a cluster with this node as its first",
         "usage: dvs cluster init --listen ADDRESS:PORT [options]\n"
         "  --name NAME        name of the cluster (default: dvs)\n"
         "  --token MS         corosync's token timeout (default: 1000)\n" PLACE_HELP},
        {"token", cluster_token_verb, "print a token by which one node can join",
         "usage: dvs cluster token [options]\n"
         "  --ttl SECONDS      how long it is good (default: 3600)\n"},
        {"join", cluster_join_verb, "make this node one of a running cluster",
         "usage: dvs cluster join --listen ADDRESS:PORT [options] [ADDRESS:PORT] TOKEN\n"
         "  TOKEN -            take it from standard input\n" PLACE_HELP},
        {"ls", cluster_ls_verb, "list the cluster's nodes", "usage: dvs cluster ls [--format table|json]\n"},
        {"leave", cluster_leave_verb, "take out a node that is down for good", "usage: dvs cluster leave NODE\n"},
        {NULL, NULL, NULL, NULL},
    };
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP) {
        for (const struct verb *verb = verbs; verb->name && exit_code == EXIT_OK; verb++)
            printf("  %-8s %s\n", verb->name, verb->summary);
        return exit_code;
    }
    if (optind == argc)
        return usage_error(command, "say what to do: init, token, join, ls or leave");
    return verb_dispatch(command, verbs, "cluster ", argc - optind, argv + optind);
}
