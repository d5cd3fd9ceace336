/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cleanup.h"
#include "dvs/dvs.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Codes of the daemon's errors (src/dvkd/README.md) and of our own. */
static const struct {
    const char *code;
    int exit_code;
} exit_codes[] = {
    {"bad-request", EXIT_USAGE},
    {"usage", EXIT_USAGE},
    {"limit-out-of-range", EXIT_USAGE},
    {"no-such-dc", EXIT_NOT_FOUND},
    {"no-such-node", EXIT_NOT_FOUND},
    {"no-such-image", EXIT_NOT_FOUND},
    {"no-such-process", EXIT_NOT_FOUND},
    {"no-such-lab", EXIT_NOT_FOUND},
    {"no-such-key", EXIT_NOT_FOUND},
    {"conflict", EXIT_CONFLICT},
    {"name-taken", EXIT_CONFLICT},
    {"dc-running", EXIT_CONFLICT},
    {"dc-not-running", EXIT_CONFLICT},
    {"node-running", EXIT_CONFLICT},
    {"busy", EXIT_CONFLICT},
    {"no-quorum", EXIT_UNAVAILABLE},
    {"node-down", EXIT_UNAVAILABLE},
    {"unavailable", EXIT_UNAVAILABLE},
    {"lost", EXIT_DVS_TROUBLE},
    {"not-executable", EXIT_NOT_EXECUTABLE},
    {"bad-directory", EXIT_NOT_EXECUTABLE},
    {"no-such-command", EXIT_NO_COMMAND},
};

int failure_exit_code(const char *code) {
    for (size_t i = 0; i < ARRAY_LENGTH(exit_codes); i++)
        if (strcmp(exit_codes[i].code, code) == 0)
            return exit_codes[i].exit_code;
    return EXIT_FAILED;
}

/* Text may come from a daemon: keep it on one line and harmless to a terminal. */
static void print_clean(FILE *out, const char *text) {
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 127 ? ' ' : *text, out);
}

int failure_report(struct command *command) {
    const struct failure *failure = &command->failure;
    fprintf(stderr, "dvs: %s: ", command->verb);
    print_clean(stderr, failure->message[0] ? failure->message : "failed");
    if (failure->hint[0]) {
        fputs(" (", stderr);
        print_clean(stderr, failure->hint);
        fputc(')', stderr);
    }
    fputc('\n', stderr);
    return failure_exit_code(failure->code);
}

int usage_error(struct command *command, const char *format, ...) {
    va_list args;
    fprintf(stderr, "dvs: %s: ", command->verb);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (see: dvs %s --help)\n", command->verb);
    return EXIT_USAGE;
}

int option_next(struct command *command, int argc, char **argv, const char *short_options,
                const struct option *long_options, int *exit_code) {
    for (;;) {
        int at = optind; /* for messages: the argument looked at */
        int option = getopt_long(argc, argv, short_options, long_options, NULL);
        switch (option) {
        case -1:
            return OPTIONS_END;
        case OPTION_NODE:
            command->target.node = optarg;
            break;
        case OPTION_LAB:
            command->target.lab = optarg;
            break;
        case OPTION_FORMAT:
            if (strcmp(optarg, "json") != 0 && strcmp(optarg, "table") != 0) {
                *exit_code = usage_error(command, "no format named %s; there are json and table", optarg);
                return OPTIONS_STOP;
            }
            command->json = strcmp(optarg, "json") == 0;
            break;
        case 'h':
            *exit_code = printf("%s", command->usage) < 0 ? EXIT_FAILED : EXIT_OK;
            return OPTIONS_STOP;
        case ':':
        case '?': {
            const char *why = option == ':' ? "wants a value" : "is not known";
            /* optopt is 0 for an unknown long option, and the option's value for a known one. */
            if (optopt > 0 && optopt < 256)
                *exit_code = usage_error(command, "option -%c %s", optopt, why);
            else
                *exit_code = usage_error(command, "option %s %s", argv[at < argc ? at : argc - 1], why);
            return OPTIONS_STOP;
        }
        default:
            return option;
        }
    }
}

bool parse_number(const char *text, long long min, long long max, long long *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool parse_size(const char *text, long long *bytes) {
    static const char suffixes[] = "bkmgt";
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*text))
        return false;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno)
        return false;
    unsigned shift = 0;
    if (*end) {
        const char *suffix = strchr(suffixes, tolower((unsigned char)*end));
        if (!suffix)
            return false;
        shift = (unsigned)(suffix - suffixes) * 10;
        end++;
        if (shift && strcasecmp(end, "ib") != 0 && strcasecmp(end, "b") != 0 && *end)
            return false;
        if (!shift && *end)
            return false;
    }
    if (value > (unsigned long long)INT64_MAX >> shift)
        return false;
    *bytes = (long long)(value << shift);
    return true;
}

int parse_signal(const char *text) {
    long long number;
    if (parse_number(text, 1, 64, &number))
        return (int)number;
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (int i = 1; i < SIGRTMIN; i++) {
        const char *name = sigabbrev_np(i);
        if (name && strcasecmp(name, text) == 0)
            return i;
    }
    return 0;
}
