/* SPDX-License-Identifier: Apache-2.0 */
/* dvs lab add: a node joins a running lab as one joins any cluster: with a token, over the lab's network. */
#include "cluster/cluster.h"
#include "common/cleanup.h"
#include "dvs/lab_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TOKEN_TTL_S 60
#define ASK_MS 5000
#define READY_MS 30000

/* A token of the node that has the authority: the first. */
static int token_get(const struct lab *lab, struct cluster_token *token, struct failure *failure) {
    char run[PATH_MAX];
    cleanup_json json_t *answer = NULL;
    lab_node_run_path(lab, &lab->nodes[0], run);
    int result = client_ask_run(run, json_pack("{s:s, s:i}", "op", "cluster.token", "ttl_s", TOKEN_TTL_S), ASK_MS, &answer,
                                failure);
    const char *text = field_string(answer, "token");
    if (result == 0 && (!text || !cluster_token_decode(text, token)))
        result = failure_set(failure, -EPROTO, "internal", NULL, "node %s gave no token", lab->nodes[0].name);
    return result;
}

/* In a child, in the new node's network. Tells the parent of a failure by the pipe. Does not return. */
static void join_there(const struct lab *lab, const struct lab_node *node, const struct cluster_token *token, int out) {
    char netns[PATH_MAX];
    struct cluster_node self;
    struct failure failure = {0};
    lab_netns_path(lab->name, node->name, netns);
    lab_node_describe(lab, node, &self);
    int fd = open(netns, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        failure_set(&failure, -errno, "internal", NULL, "cannot enter %s: %s", netns, strerror(errno));
    else if (cluster_join(self.corosync, token, NULL, &self, &failure) == 0)
        _exit(0);
    _exit(write(out, &failure, sizeof failure) == sizeof failure ? 1 : 2);
}

static int join_run(const struct lab *lab, const struct lab_node *node, const struct cluster_token *token,
                    struct failure *failure) {
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot make a pipe: %s", strerror(errno));
    cleanup_close int in = ends[0];
    pid_t child = fork();
    if (child == 0)
        join_there(lab, node, token, ends[1]);
    close(ends[1]);
    if (child < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot fork: %s", strerror(errno));
    ssize_t n;
    do
        n = read(in, failure, sizeof *failure);
    while (n < 0 && errno == EINTR);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (n == sizeof *failure)
        return -EREMOTEIO;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return failure_set(failure, -EIO, "internal", NULL, "joining ended without a word");
    return 0;
}

static int node_make(const struct lab *lab, const struct lab_node *node, struct failure *failure) {
    char path[PATH_MAX], state[PATH_MAX];
    lab_state_path(lab->name, state);
    for (int i = 0; i < 2; i++) {
        if (i == 0 && snprintf(path, sizeof path, "%s/%s", state, node->name) >= (int)sizeof path)
            return failure_set(failure, -ENAMETOOLONG, "internal", NULL, "the name is too long");
        if (i == 1)
            lab_node_run_path(lab, node, path);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", path, strerror(errno));
    }
    return lab_network_add(lab, node, failure);
}

static int node_add(struct lab *lab, const char *name, struct failure *failure) {
    struct cluster_token token;
    struct lab_node *node = &lab->nodes[lab->node_count];
    if (lab->node_count < 2)
        return failure_set(failure, -EINVAL, "usage", "dvs lab up 2, or more, makes one that can grow",
                           "a lab of one node is no cluster");
    if (lab->node_count == LAB_NODES_MAX)
        return failure_set(failure, -ERANGE, "limit-out-of-range", NULL, "at most %u nodes", LAB_NODES_MAX);
    *node = (struct lab_node){.id = lab->node_count + 1};
    snprintf(node->name, sizeof node->name, "%s", name);
    int result = token_get(lab, &token, failure);
    if (result == 0)
        result = node_make(lab, node, failure);
    if (result == 0)
        result = join_run(lab, node, &token, failure);
    if (result < 0) {
        lab_network_remove(lab, node);
        return result;
    }
    lab->node_count++;
    result = lab_save(lab, failure);
    if (result == 0)
        result = lab_node_start(lab, node, failure);
    return result == 0 ? lab_wait_ready(lab, NULL, lab->node_count, READY_MS, NULL, failure) : result;
}

int verb_lab_add(struct command *command, int argc, char **argv) {
    static const struct option options[] = {COMMON_OPTIONS, {0}};
    int exit_code = EXIT_OK;
    char name[LAB_NAME_MAX + 1];
    if (option_next(command, argc, argv, ":h", options, &exit_code) == OPTIONS_STOP)
        return exit_code;
    if (argc - optind != 1)
        return usage_error(command, "name the new node");
    const char *node = argv[optind];
    if (!lab_name_valid(node))
        return usage_error(command, "%s is no name for a node: want 1 to %d of a-z 0-9 _, beginning with a letter", node,
                           LAB_NAME_MAX);
    cleanup_lab struct lab *lab = NULL;
    cleanup_close int lock = -1;
    struct failure *failure = &command->failure;
    if (lab_need_root(failure) < 0 || lab_choose(command->target.lab, name, failure) < 0 ||
        lab_lock(name, &lock, failure) < 0 || lab_load(name, &lab, failure) < 0)
        return failure_report(command);
    if (lab_node_by_name(lab, node)) {
        failure_set(failure, -EEXIST, "name-taken", "dvs lab status lists them", "there is a node %s already", node);
        return failure_report(command);
    }
    return node_add(lab, node, failure) < 0 ? failure_report(command) : EXIT_OK;
}
