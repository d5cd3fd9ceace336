/* SPDX-License-Identifier: Apache-2.0 */
/* dvs lab: its verbs; those that act on one node, ls and down are here. */
#include "common/cleanup.h"
#include "common/loop.h"
#include "dvs/lab_verbs.h"
#include "dvs/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define START_MS 30000
#define END_MS 12000 /* node init gives dvkd and corosync 11 s */
#define ANSWER_MS 2000
#define POLL_MS 50

#define LAB_HELP "  --lab NAME         which lab (else $DVS_LAB, else the only one)\n"

static int lab_ls(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    static const char *const titles[] = {"NAME", ">NODES", ">RUNNING", "NETWORK", NULL};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments", argv[optind]);
    char **names;
    long count = lab_list(&names);
    struct table *table = table_create(titles);
    cleanup_json json_t *out = json_array();
    for (long i = 0; i < count; i++) {
        cleanup_lab struct lab *lab = NULL;
        unsigned running = 0;
        char network[32] = "broken";
        if (lab_load(names[i], &lab, NULL) == 0)
            snprintf(network, sizeof network, "10.77.%u.0/24", lab->subnet);
        for (unsigned n = 0; lab && n < lab->node_count; n++)
            running += lab_node_find(names[i], lab->nodes[n].name) != 0;
        unsigned nodes = lab ? lab->node_count : 0;
        json_array_append_new(out, json_pack("{s:s, s:i, s:i, s:s}", "name", names[i], "nodes", (int)nodes, "running",
                                             (int)running, "network", network));
        table_cell(table, "%s", names[i]);
        table_cell(table, "%u", nodes);
        table_cell(table, "%u", running);
        table_cell(table, "%s", network);
        free(names[i]);
    }
    free(names);
    if (!command->json)
        return table_print(table) < 0;
    return json_print(out) < 0;
}

/* ---- one node ---- */

/* What a verb does to a node. 0 or a negative error with command->failure set. */
typedef int node_action(struct command *command, const struct lab *lab, const struct lab_node *node);

static int node_verb(struct command *command, int argc, char **argv, node_action *action) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    char name[LAB_NAME_MAX + 1];
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "name one node");
    cleanup_lab struct lab *lab = NULL;
    cleanup_close int lock = -1;
    struct failure *failure = &command->failure;
    if (lab_need_root(failure) < 0 || lab_choose(command->target.lab, name, failure) < 0 ||
        lab_load(name, &lab, failure) < 0)
        return failure_report(command);
    const struct lab_node *node = lab_node_by_name(lab, argv[optind]);
    if (!node) {
        failure_set(failure, 0, "no-such-node", "dvs lab status lists them", "no node named %s in lab %s", argv[optind],
                    name);
        return failure_report(command);
    }
    if (lab_lock(name, &lock, failure) < 0 || action(command, lab, node) < 0)
        return failure_report(command);
    return EXIT_OK;
}

static int node_kill(struct command *command, const struct lab *lab, const struct lab_node *node) {
    if (!lab_node_find(lab->name, node->name))
        return failure_set(&command->failure, -ESRCH, "node-down", "dvs lab start starts it", "node %s is down already",
                           node->name);
    return lab_node_kill(lab->name, node->name, &command->failure);
}

/* How many nodes have a node init and a link: what a node that starts can hope to see. */
static unsigned nodes_connected(const struct lab *lab) {
    unsigned count = 0;
    for (unsigned i = 0; i < lab->node_count; i++)
        count += lab_node_find(lab->name, lab->nodes[i].name) != 0 && lab_network_link_state(lab, &lab->nodes[i]) > 0;
    return count;
}

/* A node whose dvkd has ended is about to end as well: a daemon that answers tells it from one that runs. */
static int node_wait_down(struct command *command, const struct lab *lab, const struct lab_node *node) {
    uint64_t deadline = loop_now_ms() + END_MS;
    while (lab_node_find(lab->name, node->name)) {
        struct lab_view view = {0};
        lab_view_ask(lab, node, ANSWER_MS, &view);
        if (view.reachable || loop_now_ms() >= deadline)
            return failure_set(&command->failure, -EEXIST, "node-running", "dvs lab kill ends it", "node %s is running%s",
                               node->name, view.reachable ? "" : ", but does not answer");
        lab_node_wait_ended(lab, node, POLL_MS);
    }
    lab_node_wait_ended(lab, node, END_MS); /* what does not end now, dvkd names */
    return 0;
}

static int node_start(struct command *command, const struct lab *lab, const struct lab_node *node) {
    int result = node_wait_down(command, lab, node);
    if (result < 0)
        return result;
    result = lab_node_start(lab, node, &command->failure);
    if (result < 0)
        return result;
    unsigned connected = nodes_connected(lab);
    bool quorum = connected > lab->node_count / 2 && lab_network_link_state(lab, node) > 0;
    return lab_wait_ready(lab, node, quorum ? lab->node_count / 2 + 1 : 0, START_MS, NULL, &command->failure);
}

static int node_cut(struct command *command, const struct lab *lab, const struct lab_node *node) {
    return lab_network_link(lab, node, false, &command->failure);
}

static int node_heal(struct command *command, const struct lab *lab, const struct lab_node *node) {
    return lab_network_link(lab, node, true, &command->failure);
}

static int lab_kill(struct command *command, int argc, char **argv) {
    return node_verb(command, argc, argv, node_kill);
}
static int lab_start(struct command *command, int argc, char **argv) {
    return node_verb(command, argc, argv, node_start);
}
static int lab_cut(struct command *command, int argc, char **argv) {
    return node_verb(command, argc, argv, node_cut);
}
static int lab_heal(struct command *command, int argc, char **argv) {
    return node_verb(command, argc, argv, node_heal);
}

/* ---- down ---- */

static int lab_down_one(struct command *command, const char *name) {
    cleanup_close int lock = -1;
    command->failure = (struct failure){0};
    /* No directory: there may still be leftovers of that name. */
    int result = lab_lock(name, &lock, &command->failure);
    if (result == 0 || result == -ENOENT)
        result = lab_remove(name, &command->failure);
    return result < 0 ? failure_report(command) : EXIT_OK;
}

static int lab_down_all(struct command *command) {
    char **names;
    long count = lab_list(&names);
    int exit_code = count < 0 ? EXIT_FAILED : EXIT_OK;
    for (long i = 0; i < count; i++) {
        int failed = lab_down_one(command, names[i]);
        exit_code = exit_code == EXIT_OK ? failed : exit_code;
        free(names[i]);
    }
    free(names);
    return exit_code;
}

int verb_lab_down(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {"all", no_argument, NULL, 'a'}, {0}};
    int exit_code = EXIT_OK, option;
    char name[LAB_NAME_MAX + 1];
    bool all = false;
    while ((option = option_next(command, argc, argv, ":ha", options, &exit_code)) >= 0)
        all = true;
    if (option == OPTIONS_STOP)
        return exit_code;
    if (optind < argc)
        return usage_error(command, "%s: takes no arguments; want --lab NAME", argv[optind]);
    if (lab_need_root(&command->failure) < 0)
        return failure_report(command);
    if (all)
        return lab_down_all(command);
    int result = lab_choose(command->target.lab, name, &command->failure);
    if (result == -ENOENT) { /* nothing to do, or leftovers without a directory */
        const char *wanted = command->target.lab ? command->target.lab : getenv("DVS_LAB");
        return lab_down_one(command, wanted && *wanted ? wanted : LAB_DEFAULT_NAME);
    }
    return result < 0 ? failure_report(command) : lab_down_one(command, name);
}

/* ---- the table ---- */

static const struct verb verbs[] = {
    {"up", verb_lab_up, "make a lab",
     "usage: dvs lab up N [options]\n"
     "  --nodes-named A,B  names of the nodes (default: a, b, c ...)\n"
     "  --lab NAME         name of the lab (default: $DVS_LAB, else lab)\n"
     "  --token MS         corosync's token timeout (default: 1000); a lost node is noticed after about 2.2 times "
     "that\n"
     "  --clear            do not encrypt messages between nodes\n"
     "  --slots SETS[:SHARE]  user slots of containers, as dvkd(8) has it: to see them change hands\n"},
    {"status", verb_lab_status, "show each node, and what it sees",
     "usage: dvs lab status [options]\n"
     "  --format FORMAT    table (default) or json\n" LAB_HELP},
    {"ls", lab_ls, "list labs", "usage: dvs lab ls [--format table|json]\n"},
    {"kill", lab_kill, "end a node at once, as by loss of power", "usage: dvs lab kill [options] NODE\n" LAB_HELP},
    {"start", lab_start, "start a node that is down", "usage: dvs lab start [options] NODE\n" LAB_HELP},
    {"add", verb_lab_add, "add a node to a running lab, as one joins any cluster",
     "usage: dvs lab add [options] NODE\n" LAB_HELP},
    {"cut", lab_cut, "cut a node off the network", "usage: dvs lab cut [options] NODE\n" LAB_HELP},
    {"heal", lab_heal, "connect it again", "usage: dvs lab heal [options] NODE\n" LAB_HELP},
    {"exec", verb_lab_exec, "run a program of this machine on a node",
     "usage: dvs lab exec [options] NODE PROGRAM [ARG...]\n"
     "Not in a container: for programs that use libdvk (DVS_SOCKET is set), and to look around.\n" LAB_HELP},
    {"down", verb_lab_down, "end a lab and remove all of it",
     "usage: dvs lab down [options]\n"
     "  -a, --all          all labs\n" LAB_HELP},
    {NULL, NULL, NULL, NULL},
};

int verb_lab(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    if (option_next(command, argc, argv, "+:h", options, &exit_code) == OPTIONS_STOP) {
        for (const struct verb *verb = verbs; verb->name && exit_code == EXIT_OK; verb++)
            printf("  %-8s %s\n", verb->name, verb->summary);
        return exit_code;
    }
    if (optind == argc)
        return usage_error(command, "say what to do: up, status, kill, start, add, cut, heal, exec, ls or down");
    return verb_dispatch(command, verbs, "lab ", argc - optind, argv + optind);
}
