/* SPDX-License-Identifier: Apache-2.0 */
#include "dvs/dvs.h"
#include "dvs/lab.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_HELP                                                                                                    \
    "  --node NAME        ask this node\n"                                                                             \
    "  --lab NAME         ask a node of this lab (else $DVS_LAB, else the only one)\n"
#define SERVICE_HELP                                                                                                   \
    "  --dc CONTAINER     names of this container (default: the cluster's own)\n"                                      \
    "  --timeout SECONDS  how long to wait\n"
#define FORMAT_HELP "  --format FORMAT    table (default) or json\n"

static const struct verb verbs[] = {
    {"run", verb_run, "start a container and run a program in it",
     "usage: dvs run [options] --image host|DIR [--] COMMAND [ARG...]\n"
     "  --image IMAGE      root of the container: host (this machine's own, read-only) or a directory\n"
     "  --name NAME        name of the container (default: made up)\n"
     "  --nodes A,B,...    nodes it spans (default: all that are up)\n"
     "  --place POLICY     where programs run: local, spread, balance or node=NAME (default: spread)\n"
     "  -i, --interactive  pass standard input on\n"
     "  -t, --tty          give it a terminal\n"
     "  -d, --detach       do not wait; print its name\n"
     "  -e, --env K[=V]    set an environment variable (without =V: to our own value)\n"
     "  -v, --volume HOSTDIR[@NODE]:PATH[:ro]  show a node's directory in the container\n"
     "  -w, --workdir DIR  working directory of the program (default: /)\n"
     "  --memory SIZE      limit of memory on each node, e.g. 512m\n"
     "  --cpus N           limit of processors on each node, e.g. 1.5\n"
     "  --pids N           limit of processes on each node\n"
     "  --rm               remove the container when its program ends\n"
     "  --strict           debug: kill a program whose system call escapes the personality\n" TARGET_HELP},
    {"exec", verb_exec, "run a program in a running container",
     "usage: dvs exec [options] CONTAINER COMMAND [ARG...]\n"
     "  -i, --interactive  pass standard input on\n"
     "  -t, --tty          give it a terminal\n"
     "  -d, --detach       do not wait; print its pid\n"
     "  -e, --env K[=V]    set an environment variable (without =V: to our own value)\n"
     "  -w, --workdir DIR  working directory of the program (default: /)\n" TARGET_HELP},
    {"ls", verb_ls, "list containers",
     "usage: dvs ls [options]\n"
     "  -q, --quiet        names only\n" FORMAT_HELP TARGET_HELP},
    {"ps", verb_ps, "list processes of containers, on all their nodes",
     "usage: dvs ps [options] [CONTAINER]\n" FORMAT_HELP TARGET_HELP},
    {"logs", verb_logs, "print what a container's first program wrote",
     "usage: dvs logs [-f] CONTAINER\n"
     "  -f, --follow       go on until it ends\n" TARGET_HELP},
    {"kill", verb_kill, "send a signal to a container, or to one of its processes",
     "usage: dvs kill [-s SIGNAL] CONTAINER [PID]\n"
     "  -s, --signal S     the signal, by name or number (default: KILL)\n" TARGET_HELP},
    {"rm", verb_rm, "remove containers",
     "usage: dvs rm [-f] CONTAINER...\n"
     "  -f, --force        end it first if it is running; no error if there is none\n" TARGET_HELP},
    {"inspect", verb_inspect, "show all that is known of containers, as JSON",
     "usage: dvs inspect CONTAINER...\n" TARGET_HELP},
    {"dc", verb_dc, "make a container for programs that use libdvk: dc create", "usage: dvs dc create NAME   (dvs dc create --help)\n"},
    {"node", verb_node, "list the nodes of the cluster: node ls",
     "usage: dvs node ls [options]\n"
     "  --links            what went over the links of one node to the others\n" FORMAT_HELP TARGET_HELP},
    {"cluster", verb_cluster, "make a cluster, let nodes in: cluster init, token, join, ls, leave",
     "usage: dvs cluster init|token|join|ls|leave [options]   (dvs cluster VERB --help)\n"},
    {"lab", verb_lab, "a cluster on this machine: lab up, status, kill, start, add, cut, heal, ls, down",
     "usage: dvs lab up|status|kill|start|add|cut|heal|ls|down [options]   (dvs lab VERB --help)\n"},
    {"kv", verb_kv, "keys with values: kv get, put, cas, del, ls, watch",
     "usage: dvs kv get [--raw] [--stale] KEY\n"
     "       dvs kv put KEY VALUE|-\n"
     "       dvs kv cas KEY REVISION VALUE|-      (revision 0: there must be no such key)\n"
     "       dvs kv del [--revision N] KEY\n"
     "       dvs kv ls [--stale] [PREFIX]\n"
     "       dvs kv watch [--count N] [PREFIX]\n"
     "  --raw              print the value alone, without a newline\n"
     "  --stale            what this node knows, which may be old, also without quorum\n"
     "  --revision N       only if the key is in this revision\n"
     "  --count N          end after so many changes\n" SERVICE_HELP FORMAT_HELP TARGET_HELP},
    {"lock", verb_lock, "run a program while holding a lock",
     "usage: dvs lock [options] NAME COMMAND [ARG...]\n"
     "  --try              do not wait for it if it is held\n" SERVICE_HELP TARGET_HELP},
    {"leader", verb_leader, "run a program while leading, or tell who leads",
     "usage: dvs leader [options] NAME [COMMAND [ARG...]]\n"
     "  --text TEXT        what others are told of us\n"
     "  --try              do not wait if another leads\n"
     "  --stale            without COMMAND: what this node knows\n" SERVICE_HELP FORMAT_HELP TARGET_HELP},
    {"barrier", verb_barrier, "wait until a number of processes are there",
     "usage: dvs barrier [options] NAME COUNT\n" SERVICE_HELP TARGET_HELP},
    {"metrics", verb_metrics, "counters of a node, its containers and processes",
     "usage: dvs metrics [options]      (text for Prometheus, or --format json)\n" FORMAT_HELP TARGET_HELP},
    {"debug", verb_debug, "for people who look for what went wrong: debug record, slots, snapshot, stats, faults",
     "usage: dvs debug record [NODE] [options]\n"
     "       dvs debug snapshot [CONTAINER]      endpoints on all nodes, at one place in the order\n"
     "       dvs debug stats [CONTAINER]         what was sent and received, on a node, or by a container on all nodes\n"
     "       dvs debug faults                    where a build for tests can inject faults\n"
     "  --daemon DAEMON    whose events: dvkd (default), proxy or vos:CONTAINER\n"
     "  --ended            of the last one that ended, not of the one that runs\n"
     "  --last N           only the last N events\n"
     "  --file PATH        read this file instead of asking a node\n"
     "  --endpoints        of a container: each endpoint by itself\n"
     "  --endpoint SLOT    all numbers of one\n"
     "  --watch SECONDS    again and again\n"
     "usage: dvs debug slots CONTAINER [options]: which node owns which of its pids\n"
     "usage: dvs debug places CONTAINER [options]: where its endpoints are that have backups or have moved\n" FORMAT_HELP TARGET_HELP},
    {"version", verb_version, "versions of dvs and of the daemon",
     "usage: dvs version [options]\n" FORMAT_HELP TARGET_HELP},
    {NULL, NULL, NULL, NULL},
};

static int help_print(FILE *out) {
    fputs("usage: dvs [--node NAME] [--lab NAME] VERB [options]\n\n", out);
    for (const struct verb *verb = verbs; verb->name; verb++)
        fprintf(out, "  %-8s %s\n", verb->name, verb->summary);
    fputs("\ndvs VERB --help tells more; dvs(1) tells all. Begin with: dvs lab up 3\n", out);
    return fflush(out) == 0 ? EXIT_OK : EXIT_FAILED;
}

int verb_dispatch(struct command *command, const struct verb *table, const char *prefix, int argc, char **argv) {
    for (const struct verb *verb = table; verb->name; verb++) {
        if (strcmp(verb->name, argv[0]) != 0)
            continue;
        static char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, verb->name);
        command->verb = name;
        command->usage = verb->usage;
        optind = 0; /* a fresh scan, also of an argument vector scanned before */
        return verb->run(command, argc, argv);
    }
    fprintf(stderr, "dvs: %s%s: no such command (dvs help lists them)\n", prefix, argv[0]);
    return EXIT_USAGE;
}

static int verb_help(struct command *command, int argc, char **argv) {
    if (argc < 2)
        return help_print(stdout);
    char *args[] = {argv[1], (char *)"--help", NULL};
    return verb_dispatch(command, verbs, "", 2, args);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "lab-node") == 0)
        return lab_node_main(argc - 1, argv + 1);

    struct command command = {.verb = "dvs", .usage = ""};
    const struct option options[] = {COMMON_OPTIONS, {"version", no_argument, NULL, 'V'}, {0}};
    int exit_code = EXIT_OK, option;
    opterr = 0;
    while ((option = option_next(&command, argc, argv, "+:hV", options, &exit_code)) != OPTIONS_END) {
        if (option == 'V') {
            puts("dvs " DVS_VERSION);
            return EXIT_OK;
        }
        return exit_code == EXIT_OK ? help_print(stdout) : exit_code;
    }
    argc -= optind;
    argv += optind;
    if (argc == 0) {
        help_print(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "help") == 0)
        return verb_help(&command, argc, argv);
    return verb_dispatch(&command, verbs, "", argc, argv);
}
