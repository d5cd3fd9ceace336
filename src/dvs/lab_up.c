/* SPDX-License-Identifier: Apache-2.0 */
/* dvs lab up: make a lab, wait until it works; on failure and on Ctrl-C take down what was made. */
#include "common/cleanup.h"
#include "common/loop.h"
#include "dvs/lab_verbs.h"
#include "dvs/programs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define READY_MS 30000
#define POLL_MS 50
#define TOKEN_DEFAULT_MS 1000
#define TOKEN_MIN_MS 200
#define TOKEN_MAX_MS 60000

enum { OPTION_NODES_NAMED = OPTION_OWN, OPTION_TOKEN, OPTION_CLEAR, OPTION_SLOTS };

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
    interrupted = number;
}

int lab_need_root(struct failure *failure) {
    if (geteuid() == 0)
        return 0;
    return failure_set(failure, -EPERM, "not-root", "try: sudo dvs lab ...",
                       "a lab makes namespaces and mounts: this needs root");
}

/* ---- waiting ---- */

void lab_view_ask(const struct lab *lab, const struct lab_node *node, int timeout_ms, struct lab_view *view) {
    char run[PATH_MAX];
    cleanup_json json_t *answer = NULL;
    struct failure ignored = {0};
    *view = (struct lab_view){0};
    lab_node_run_path(lab, node, run);
    if (client_ask_run(run, json_pack("{s:s}", "op", "node.ls"), timeout_ms, &answer, &ignored) < 0)
        return;
    view->reachable = true;
    view->quorate = field_true(answer, "quorate");
    const json_t *nodes = json_object_get(answer, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *one = json_array_get(nodes, i);
        const char *state = field_string(one, "state"), *version = field_string(one, "version");
        view->up += state && strcmp(state, "up") == 0;
        if (field_true(one, "this") && version)
            snprintf(view->version, sizeof view->version, "%s", version);
    }
}

/* The last line of a node's log, without its end. Empty if there is none. */
static void log_last_line(const struct lab *lab, const struct lab_node *node, const char *log, char line[static 256]) {
    char state[PATH_MAX], path[PATH_MAX + 64], tail[1024];
    lab_state_path(lab->name, state);
    snprintf(path, sizeof path, "%s/%s/%s", state, node->name, log);
    line[0] = '\0';
    cleanup_file FILE *file = fopen(path, "re");
    if (!file || (fseek(file, -(long)sizeof tail + 1, SEEK_END) < 0 && fseek(file, 0, SEEK_SET) < 0))
        return;
    size_t len = fread(tail, 1, sizeof tail - 1, file);
    while (len > 0 && tail[len - 1] == '\n')
        len--;
    tail[len] = '\0';
    const char *newline = strrchr(tail, '\n');
    snprintf(line, 256, "%.255s", newline ? newline + 1 : tail);
}

static int node_failed(const struct lab *lab, const struct lab_node *node, int result, const char *what,
                       struct failure *failure) {
    char line[256];
    log_last_line(lab, node, "dvkd.log", line);
    if (!line[0])
        log_last_line(lab, node, "node.log", line);
    return failure_set(failure, result, "unavailable", NULL, "node %s %s%s%s", node->name, what,
                       line[0] ? "; its log ends: " : "", line);
}

static bool view_is_ready(const struct lab_view *view, unsigned want_up) {
    return view->reachable && (want_up == 0 || (view->quorate && view->up >= want_up));
}

int lab_wait_ready(const struct lab *lab, const struct lab_node *who, unsigned want_up, int timeout_ms,
                   const volatile sig_atomic_t *stop, struct failure *failure) {
    uint64_t deadline = loop_now_ms() + (uint64_t)timeout_ms;
    for (unsigned i = 0; i < lab->node_count; i++) {
        const struct lab_node *node = &lab->nodes[i];
        struct lab_view view = {0};
        if (who && who != node)
            continue;
        for (;;) {
            if (stop && *stop)
                return failure_set(failure, -EINTR, "interrupted", NULL, "interrupted");
            lab_view_ask(lab, node, 2000, &view);
            if (view_is_ready(&view, want_up))
                break;
            if (!lab_node_find(lab->name, node->name))
                return node_failed(lab, node, -ESRCH, "ended", failure);
            if (loop_now_ms() >= deadline)
                return node_failed(lab, node, -ETIMEDOUT,
                                   !view.reachable ? "does not answer in time"
                                   : !view.quorate ? "has no quorum in time"
                                                   : "does not see the others in time",
                                   failure);
            usleep(POLL_MS * 1000);
        }
    }
    return 0;
}

/* ---- making ---- */

static int name_add(struct lab *lab, const char *name, struct failure *failure) {
    if (lab->node_count == LAB_NODES_MAX)
        return failure_set(failure, -ERANGE, "limit-out-of-range", NULL, "at most %u nodes", LAB_NODES_MAX);
    if (!lab_name_valid(name))
        return failure_set(failure, -EINVAL, "usage", "1 to 16 of a-z 0-9 _, beginning with a letter, not sw or host",
                           "%s is no name for a node", *name ? name : "(nothing)");
    if (lab_node_by_name(lab, name))
        return failure_set(failure, -EINVAL, "usage", NULL, "two nodes named %s", name);
    struct lab_node *node = &lab->nodes[lab->node_count++];
    node->id = lab->node_count;
    snprintf(node->name, sizeof node->name, "%s", name);
    return 0;
}

/* Given names, else a, b, c ... z, or n1, n2 ... when there are more. */
static int nodes_name(struct lab *lab, unsigned count, const char *list, struct failure *failure) {
    int result = 0;
    if (!list) {
        for (unsigned i = 0; i < count && result == 0; i++) {
            char name[16];
            if (count <= 26)
                snprintf(name, sizeof name, "%c", 'a' + (int)i);
            else
                snprintf(name, sizeof name, "n%u", i + 1);
            result = name_add(lab, name, failure);
        }
        return result;
    }
    cleanup_free char *copy = strdup(list);
    char *rest = copy;
    for (char *name; result == 0 && copy && (name = strsep(&rest, ","));)
        result = name_add(lab, name, failure);
    if (result == 0 && lab->node_count != count)
        return failure_set(failure, -EINVAL, "usage", NULL, "%u nodes, but %u names", count, lab->node_count);
    return result;
}

static int directories_make(const struct lab *lab, struct failure *failure) {
    char state[PATH_MAX], path[PATH_MAX + 32];
    int error = 0;
    lab_state_path(lab->name, state);
    for (unsigned i = 0; i < lab->node_count && !error; i++) {
        snprintf(path, sizeof path, "%s/%s", state, lab->nodes[i].name);
        if (mkdir(path, 0755) < 0)
            error = errno;
    }
    const char *const above[] = {"/run/dvs", "/run/dvs/lab"};
    for (size_t i = 0; i < ARRAY_LENGTH(above) && !error; i++)
        if (mkdir(above[i], 0755) < 0 && errno != EEXIST)
            error = errno;
    lab_run_path(lab->name, path);
    if (!error && mkdir(path, 0755) < 0 && errno != EEXIST)
        error = errno;
    for (unsigned i = 0; i < lab->node_count && !error; i++) {
        lab_node_run_path(lab, &lab->nodes[i], path);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            error = errno;
    }
    if (error)
        return failure_set(failure, -error, "internal", NULL, "cannot make the lab's directories: %s", strerror(error));
    snprintf(path, sizeof path, "%s/libexec", state);
    return programs_link(path, failure);
}

/* All of it. The lab's name is claimed already. */
static int lab_make(const struct lab *lab, struct failure *failure) {
    int result = directories_make(lab, failure);
    if (result == 0 && lab->node_count > 1)
        result = lab_cluster_configure(lab, failure);
    if (result == 0)
        result = lab_network_up(lab, failure);
    for (unsigned i = 0; i < lab->node_count && result == 0; i++)
        result = interrupted ? failure_set(failure, -EINTR, "interrupted", NULL, "interrupted")
                             : lab_node_start(lab, &lab->nodes[i], failure);
    return result ? result : lab_wait_ready(lab, NULL, lab->node_count, READY_MS, &interrupted, failure);
}

/* corosync is needed before anything is made, to fail early and clearly. */
static bool program_in_path(const char *name) {
    const char *path = getenv("PATH");
    cleanup_free char *copy = strdup(path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    char *rest = copy, candidate[PATH_MAX];
    for (char *place; copy && (place = strsep(&rest, ":"));) {
        snprintf(candidate, sizeof candidate, "%s/%s", place, name);
        if (access(candidate, X_OK) == 0)
            return true;
    }
    return false;
}

static int lab_check(const struct lab *lab, struct failure *failure) {
    int result = lab_need_root(failure);
    if (result < 0)
        return result;
    char path[PATH_MAX];
    result = program_find("dvkd", path, failure);
    if (result == 0 && !program_in_path("ip"))
        result = failure_set(failure, -ENOENT, "internal", "apt-get install iproute2", "the program ip is missing");
    if (result == 0 && lab->node_count > 1 && !program_in_path("corosync"))
        result =
            failure_set(failure, -ENOENT, "internal", "apt-get install corosync", "the program corosync is missing");
    return result;
}

static int lab_up(struct command *command, struct lab *lab) {
    uint64_t begin = loop_now_ms();
    int result = lab_check(lab, &command->failure);
    if (result < 0)
        return failure_report(command);
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    result = lab_claim(lab, &command->failure);
    if (result == -EEXIST)
        return failure_report(command);
    cleanup_close int lock = -1;
    if (result == 0)
        result = lab_lock(lab->name, &lock, &command->failure);
    if (result == 0)
        result = lab_make(lab, &command->failure);
    if (result < 0) {
        struct failure removal = {0};
        int exit_code = failure_report(command);
        if (lab_remove(lab->name, &removal) < 0)
            fprintf(stderr, "dvs: lab up: taking down what was made: %s (dvs lab down --lab %s tries again)\n",
                    removal.message, lab->name);
        return interrupted ? EXIT_SIGNAL_BASE + (int)interrupted : exit_code;
    }
    double seconds = (double)(loop_now_ms() - begin) / 1000;
    printf("lab %s: %u %s up in %.1f s:", lab->name, lab->node_count, lab->node_count == 1 ? "node" : "nodes", seconds);
    for (unsigned i = 0; i < lab->node_count; i++)
        printf(" %s", lab->nodes[i].name);
    putchar('\n');
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

int verb_lab_up(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS,
                                            {"nodes-named", required_argument, NULL, OPTION_NODES_NAMED},
                                            {"token", required_argument, NULL, OPTION_TOKEN},
                                            {"clear", no_argument, NULL, OPTION_CLEAR},
                                            {"slots", required_argument, NULL, OPTION_SLOTS},
                                            {0}};
    int exit_code = EXIT_OK, option;
    const char *names = NULL, *slots = "";
    bool clear = false;
    long long count, token = TOKEN_DEFAULT_MS;
    while ((option = option_next(command, argc, argv, ":h", options, &exit_code)) >= 0) {
        if (option == OPTION_NODES_NAMED)
            names = optarg;
        else if (option == OPTION_CLEAR)
            clear = true;
        else if (option == OPTION_SLOTS)
            slots = optarg;
        else if (!parse_number(optarg, TOKEN_MIN_MS, TOKEN_MAX_MS, &token))
            return usage_error(command, "--token %s: want %d to %d ms", optarg, TOKEN_MIN_MS, TOKEN_MAX_MS);
    }
    if (option == OPTIONS_STOP)
        return exit_code;
    if (argc - optind > 1 || (argc == optind && !names))
        return usage_error(command, "say how many nodes");
    if (argc == optind) {
        count = 1;
        for (const char *p = names; *p; p++)
            count += *p == ',';
    } else if (!parse_number(argv[optind], 1, LAB_NODES_MAX, &count)) {
        return usage_error(command, "%s: want 1 to %u nodes", argv[optind], LAB_NODES_MAX);
    }
    const char *name = command->target.lab ? command->target.lab : getenv("DVS_LAB");
    if (!name || !*name)
        name = LAB_DEFAULT_NAME;
    if (!lab_name_valid(name))
        return usage_error(command, "%s is no name for a lab: want 1 to %d of a-z 0-9 _, beginning with a letter", name,
                           LAB_NAME_MAX);
    cleanup_lab struct lab *lab = calloc(1, sizeof *lab);
    if (!lab)
        return EXIT_FAILED;
    snprintf(lab->name, sizeof lab->name, "%s", name);
    lab->token_ms = (unsigned)token;
    lab->clear = clear;
    if (strlen(slots) >= sizeof lab->slots)
        return usage_error(command, "--slots %s: want SETS[:SHARE]", slots);
    strcpy(lab->slots, slots);
    if (nodes_name(lab, (unsigned)count, names, &command->failure) < 0)
        return failure_report(command);
    return lab_up(command, lab);
}
