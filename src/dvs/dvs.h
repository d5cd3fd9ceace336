/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs, the command: main.c has the table of verbs; each verb is one function in a file of its name. It parses its
 * options, asks a daemon (client.h) or works on a lab (lab.h), prints, and returns the exit code.
 */
#ifndef DVS_DVS_H
#define DVS_DVS_H

#include "common/failure.h"
#include "dvs/client.h"

#include <getopt.h>
#include <stdbool.h>

/* Exit codes, as dvs(1) documents them. A program that was run gives its own. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4,
    EXIT_UNAVAILABLE = 5,
    EXIT_DVS_TROUBLE = 125,
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NO_COMMAND = 127,
    EXIT_SIGNAL_BASE = 128,
};

/* One invocation. */
struct command {
    const char *verb; /* for messages, e.g. "lab up" */
    struct client_target target;
    bool json;         /* --format json */
    const char *usage; /* the verb's help text */
    struct failure failure;
};

typedef int verb_function(struct command *command, int argc, char **argv);
struct verb {
    const char *name;
    verb_function *run;
    const char *summary; /* for dvs help */
    const char *usage;   /* what `dvs VERB --help` prints */
};

/* Find argv[0] in a table that ends with a NULL name, and run it. prefix: "" or "lab " for messages. */
int verb_dispatch(struct command *command, const struct verb *verbs, const char *prefix, int argc, char **argv);

/* ---- options.c ---- */

/* Every verb takes these; they go into its long options, before the terminating zeroes. */
enum { OPTION_NODE = 1000, OPTION_LAB, OPTION_FORMAT, OPTION_OWN /* the verbs' own long-only options from here */ };
#define COMMON_OPTIONS                                                                                                 \
    {"node", required_argument, NULL, OPTION_NODE}, {"lab", required_argument, NULL, OPTION_LAB},                      \
        {"format", required_argument, NULL, OPTION_FORMAT}, {                                                          \
        "help", no_argument, NULL, 'h'                                                                                 \
    }

/*
 * option_next: getopt_long with the common options dealt with. short_options begins with "+:" if the verb's operands
 * may look like options (run, exec), else ":".
 * Returns the verb's own option (optarg set), OPTIONS_END, or OPTIONS_STOP: the verb returns *exit_code at once.
 */
enum { OPTIONS_END = -1, OPTIONS_STOP = -2 };
int option_next(struct command *command, int argc, char **argv, const char *short_options,
                const struct option *long_options, int *exit_code);

/* A usage error: one line on standard error; returns EXIT_USAGE. */
int usage_error(struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print command->failure as one line on standard error; returns the exit code that belongs to its code. */
int failure_report(struct command *command);
/* The exit code for a failure code. */
int failure_exit_code(const char *code);

/* Parse a number of min..max. false if it is none. */
bool parse_number(const char *text, long long min, long long max, long long *out);
/* Parse a size: digits, then nothing or one of b k m g t (also KiB, MB: all powers of 1024). In bytes. */
bool parse_size(const char *text, long long *bytes);
/* Parse a signal: 9, KILL or SIGKILL, in any case. 0: none. */
int parse_signal(const char *text);

/* ---- the verbs ---- */
verb_function verb_cluster, verb_run, verb_exec, verb_ls, verb_ps, verb_logs, verb_kill, verb_rm, verb_inspect, verb_dc, verb_node, verb_lab,
    verb_version, verb_debug;
verb_function verb_kv, verb_lock, verb_leader, verb_barrier, verb_metrics, verb_debug_snapshot, verb_debug_stats, verb_debug_faults;

#endif
