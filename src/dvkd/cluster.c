/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/cluster.h"

#include "cluster/cluster.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/api.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define TOKENS_MAX 64u
#define TOKEN_TTL_S 3600
#define TOKEN_TTL_MAX_S (30 * 86400)
#define ANSWER_MS 5000u

struct token {
    struct list link;
    uint8_t secret[CLUSTER_SECRET_BYTES];
    int64_t expires;
};

/* A node that joins or leaves: one at a time. */
struct passage {
    struct cluster *cluster;
    bool joins;
    bool decided;                  /* all nodes have written it; corosync is told */
    uint64_t request;              /* the proxy's number of a request to join */
    struct connection *connection; /* of one to leave; NULL: gone */
    struct cluster_member member;
    char *certificate;
    uint8_t secret[CLUSTER_SECRET_BYTES]; /* of the token, which comes back when nothing came of it */
    int64_t expires;
};

struct cluster {
    struct dvkd *dvkd;
    struct cluster_node self;
    struct list tokens;
    unsigned token_count;
    struct passage *passage;
    bool reloading, reload_again;
    pid_t reload_pid;
};

int cluster_start(struct dvkd *dvkd, struct cluster **out, struct failure *failure) {
    struct cluster_node self;
    *out = NULL;
    int result = cluster_node_load(dvkd->options.state, &self, failure);
    if (result == -ENOENT)
        return 0;
    if (result < 0)
        return result;
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    *cluster = (struct cluster){.dvkd = dvkd, .self = self};
    list_init(&cluster->tokens);
    *out = cluster;
    return 0;
}

/* ---- tokens ---- */

static void token_remove(struct cluster *cluster, struct token *token) {
    list_remove(&token->link);
    cluster->token_count--;
    explicit_bzero(token, sizeof *token);
    free(token);
}

static void tokens_expire(struct cluster *cluster) {
    struct token *token;
    int64_t now = time(NULL);
    list_for_each(token, &cluster->tokens, link) if (token->expires <= now) token_remove(cluster, token);
}

static int token_add(struct cluster *cluster, const uint8_t secret[CLUSTER_SECRET_BYTES], int64_t expires) {
    struct token *token = calloc(1, sizeof *token);
    if (!token)
        return -ENOMEM;
    memcpy(token->secret, secret, sizeof token->secret);
    token->expires = expires;
    list_append(&cluster->tokens, &token->link);
    cluster->token_count++;
    return 0;
}

/* Takes the same time for all wrong ones. */
static struct token *token_find(struct cluster *cluster, const uint8_t secret[CLUSTER_SECRET_BYTES]) {
    struct token *token, *found = NULL;
    tokens_expire(cluster);
    list_for_each(token, &cluster->tokens, link) {
        uint8_t differs = 0;
        for (size_t i = 0; i < sizeof token->secret; i++)
            differs |= token->secret[i] ^ secret[i];
        if (!differs)
            found = token;
    }
    return found;
}

/* ---- corosync reads its configuration again ---- */

static void reload(struct cluster *cluster);
static void passage_end(struct cluster *cluster, const struct failure *failure);

static void reload_ended(void *context, pid_t pid, int status) {
    struct cluster *cluster = context;
    cluster->reloading = false;
    cluster->reload_pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        log_warning("corosync-cfgtool -R failed (%s %d): run it by hand, on one node",
                    WIFEXITED(status) ? "code" : "signal",
                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    if (cluster->reload_again)
        reload(cluster);
    else if (cluster->passage && cluster->passage->decided)
        passage_end(cluster, NULL);
}

/* In the child: only calls that are safe after fork. */
static void run_cfgtool(void) {
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
        syscall(SYS_close_range, 3u, ~0u, 0u) < 0)
        _exit(126);
    execlp("corosync-cfgtool", "corosync-cfgtool", "-R", (char *)NULL);
    _exit(127);
}

static void reload(struct cluster *cluster) {
    cluster->reload_again = cluster->reloading;
    if (cluster->reloading)
        return;
    pid_t pid = fork();
    if (pid == 0)
        run_cfgtool();
    if (pid > 0 && loop_child_add(cluster->dvkd->loop, pid, reload_ended, cluster, NULL) == 0) {
        cluster->reloading = true;
        cluster->reload_pid = pid;
        return;
    }
    if (pid > 0)
        kill(pid, SIGKILL);
    log_warning("corosync cannot be told of a change: run corosync-cfgtool -R by hand, on one node");
    if (cluster->passage && cluster->passage->decided)
        passage_end(cluster, NULL);
}

/* ---- changes ---- */

/* corosync.conf says what the configuration says of that node. 1: it was changed. */
static int nodelist_update(struct cluster *cluster, uint32_t id) {
    const struct config_node *node = dvkd_config(cluster->dvkd)->nodes[id];
    struct cluster_member member = {.id = id};
    struct failure failure;
    if (node && !cluster_host(node->address, member.address))
        return 0; /* never announced where it is */
    if (node)
        snprintf(member.name, sizeof member.name, "%s", node->name);
    int result = cluster_corosync_update(cluster->self.corosync, &member, &failure);
    if (result < 0)
        log_error("%s", failure.message);
    if (result == 1)
        log_info("node %u %s corosync's configuration", id, node ? "is added to" : "is taken out of");
    return result;
}

void cluster_changed(struct cluster *cluster, const struct config_effect *effect) {
    if (!cluster || (effect && !effect->node))
        return;
    if (effect) {
        nodelist_update(cluster, effect->node);
        return; /* who proposed it reloads, when all have written it */
    }
    bool changed = false;
    for (uint32_t id = 1; id <= DVK_MAX_NODE; id++)
        if (dvkd_config(cluster->dvkd)->nodes[id] && nodelist_update(cluster, id) == 1)
            changed = true;
    if (changed)
        reload(cluster);
}

/* ---- who joins and who leaves ---- */

static void answered(void *context, int status, const json_t *answer) {
    if (status < 0)
        log_warning("the proxy did not pass on an answer to a node that joins: error %d", status);
}

static void join_answer(struct cluster *cluster, uint64_t request, json_t *answer) {
    struct client *proxy = cluster->dvkd->proxy.client;
    cleanup_json json_t *message = json_pack("{s:s, s:I, s:o}", "op", "join-answer", "id", (json_int_t)request, "answer",
                                             answer);
    if (proxy && message)
        broker_control(proxy, message, NULL, 0, ANSWER_MS, answered, NULL, NULL);
}

static json_t *failure_json(const struct failure *failure) {
    return json_pack("{s:{s:s, s:s, s:s}}", "error", "code", failure->code, "message", failure->message, "hint",
                     failure->hint);
}

/* What the new node gets. NULL with *failure. */
static json_t *welcome(struct cluster *cluster, const struct passage *passage, struct failure *failure) {
    char directory[560], path[600], hex[2 * CLUSTER_KEY_BYTES + 1];
    uint8_t key[CLUSTER_KEY_BYTES];
    cleanup_free char *authority = NULL;
    cleanup_free struct cluster_member *members = calloc(CLUSTER_NODES_MAX, sizeof *members);
    cluster_tls_path(cluster->dvkd->options.state, directory);
    snprintf(path, sizeof path, "%s/ca.crt", directory);
    int count = members ? cluster_corosync_load(cluster->self.corosync, members, CLUSTER_NODES_MAX, failure) : -ENOMEM;
    if (count < 0 || cluster_key_load(cluster->self.corosync, key, failure) < 0)
        return NULL;
    if (pki_file_read(path, PKI_PEM_MAX, &authority) < 0) {
        failure_set(failure, -EIO, "internal", NULL, "cannot read %s", path);
        return NULL;
    }
    json_t *list = json_array();
    for (int i = 0; i < count && i < CLUSTER_NODES_MAX; i++)
        json_array_append_new(list, json_pack("{s:I, s:s, s:s}", "id", (json_int_t)members[i].id, "name",
                                              members[i].name, "address", members[i].address));
    cluster_hex_encode(key, sizeof key, hex);
    json_t *answer = json_pack("{s:b, s:s, s:I, s:i, s:s, s:s, s:s, s:o}", "ok", 1, "cluster",
                               cluster->self.identity.cluster, "id", (json_int_t)passage->member.id, "token_ms",
                               (int)cluster->self.token_ms, "authority", authority, "certificate", passage->certificate,
                               "key", hex, "members", list);
    explicit_bzero(key, sizeof key);
    explicit_bzero(hex, sizeof hex);
    if (!answer)
        failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    return answer;
}

static void passage_free(struct passage *passage) {
    if (!passage)
        return;
    if (passage->connection)
        connection_on_gone(passage->connection, NULL, NULL);
    free(passage->certificate);
    explicit_bzero(passage->secret, sizeof passage->secret);
    free(passage);
}

/* failure NULL: it has worked. */
static void passage_end(struct cluster *cluster, const struct failure *failure) {
    struct passage *passage = cluster->passage;
    struct failure later = {0};
    cluster->passage = NULL;
    if (passage->joins) {
        json_t *answer = failure ? NULL : welcome(cluster, passage, &later);
        if (answer)
            log_info("node %s (%u) has joined the cluster", passage->member.name, passage->member.id);
        else
            log_warning("node %s cannot join: %s", passage->member.name, (failure ? failure : &later)->message);
        join_answer(cluster, passage->request, answer ? answer : failure_json(failure ? failure : &later));
    } else if (passage->connection) {
        struct connection *connection = passage->connection;
        connection_on_gone(connection, NULL, NULL);
        passage->connection = NULL;
        if (failure)
            connection_fail(connection, failure);
        else
            connection_succeed(connection, NULL);
    }
    passage_free(passage);
}

static void proposed(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct cluster *cluster = context;
    struct passage *passage = cluster->passage;
    if (status == 0) {
        passage->decided = true;
        reload(cluster); /* reload_ended goes on */
        return;
    }
    if (passage->joins && token_add(cluster, passage->secret, passage->expires) < 0)
        log_warning("out of memory: a token is lost");
    passage_end(cluster, failure);
}

/* May the set of nodes change now? but: a node that need not be up. */
static int check_passable(struct cluster *cluster, uint32_t but, struct failure *failure) {
    struct dvkd *dvkd = cluster->dvkd;
    if (cluster->passage || cluster->reloading)
        return failure_set(failure, -EBUSY, "unavailable", "try again when it is done", "another node joins or leaves");
    if (!replica_is_quorate(dvkd->replica))
        return failure_set(failure, -EAGAIN, "no-quorum", "start nodes until there is a majority",
                           "the cluster has no quorum");
    for (uint32_t id = 1; id <= DVK_MAX_NODE; id++)
        if (dvkd_config(dvkd)->nodes[id] && id != but && id != dvkd->options.id && !replica_node_is_up(dvkd->replica, id))
            return failure_set(failure, -EAGAIN, "node-down", "start it; if it is gone for good: dvs cluster leave",
                               "node %s is down, and would not learn of it", dvkd_node_name(dvkd, id));
    return 0;
}

/* An id that neither the configuration nor corosync knows; wanted 0: the lowest. 0: none. */
static uint32_t free_id(struct cluster *cluster, uint32_t wanted, struct failure *failure) {
    cleanup_free struct cluster_member *members = calloc(CLUSTER_NODES_MAX, sizeof *members);
    int count = members ? cluster_corosync_load(cluster->self.corosync, members, CLUSTER_NODES_MAX, failure) : 0;
    if (!members || count < 0)
        return 0;
    for (uint32_t id = wanted ? wanted : 1; id <= (wanted ? wanted : DVK_MAX_NODE); id++) {
        bool taken = dvkd_config(cluster->dvkd)->nodes[id] != NULL;
        for (int i = 0; i < count && i < CLUSTER_NODES_MAX; i++)
            taken |= members[i].id == id;
        if (!taken)
            return id;
    }
    failure_set(failure, -EEXIST, "name-taken", NULL, wanted ? "the id is taken" : "there are as many nodes as can be");
    return 0;
}

static int join_begin(struct cluster *cluster, struct passage *passage, const json_t *request, struct failure *failure) {
    const char *secret = field_string(request, "secret"), *name = field_string(request, "name");
    const char *listen = field_string(request, "listen"), *csr = field_string(request, "request");
    char directory[560];
    if (!secret || !name || !listen || !csr || !pki_name_valid(name) || !cluster_listen_valid(listen) ||
        !cluster_host(listen, passage->member.address) ||
        !cluster_hex_decode(secret, passage->secret, sizeof passage->secret))
        return failure_set(failure, -EINVAL, "bad-request", "are the versions the same?", "that is no request to join");
    strcpy(passage->member.name, name);
    struct token *token = token_find(cluster, passage->secret);
    if (!token)
        return failure_set(failure, -EACCES, "not-allowed", "dvs cluster token gives another, on the node that gave this",
                           "the token was used already, or has expired, or is not of this node");
    int result = check_passable(cluster, 0, failure);
    if (result < 0)
        return result;
    passage->member.id = free_id(cluster, (uint32_t)field_integer_or(request, "id", 0, DVK_MAX_NODE, 0), failure);
    if (!passage->member.id)
        return -EEXIST;
    struct pki_identity identity = {.node = passage->member.id};
    strcpy(identity.cluster, cluster->self.identity.cluster);
    strcpy(identity.name, name);
    cluster_tls_path(cluster->dvkd->options.state, directory);
    int64_t now = time(NULL);
    result = pki_sign(directory, csr, &identity, now - PKI_SKEW_S, now + PKI_VALID_DAYS * 86400ll, &passage->certificate,
                      failure);
    if (result < 0)
        return result;
    passage->expires = token->expires;
    token_remove(cluster, token);
    cleanup_json json_t *change =
        json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:i}", "op", "node-add", "id", (json_int_t)passage->member.id, "name",
                  name, "address", listen, "run", "", "version", "", "cpus", 0);
    cluster->passage = passage;
    replica_propose(cluster->dvkd->replica, change, proposed, cluster);
    return 0;
}

void cluster_proxy_event(struct cluster *cluster, const json_t *event) {
    const char *what = field_string(event, "event"), *from = field_string(event, "from");
    json_int_t id;
    struct failure failure = {0};
    if (!what || strcmp(what, "join") != 0 || !cluster || !field_integer(event, "id", &id))
        return;
    struct passage *passage = calloc(1, sizeof *passage);
    if (!passage)
        return; /* who asked gives up in time */
    *passage = (struct passage){.cluster = cluster, .joins = true, .request = (uint64_t)id};
    if (join_begin(cluster, passage, json_object_get(event, "request"), &failure) == 0)
        return;
    log_warning("refused a node that wants to join from %s: %s", from ? from : "?", failure.message);
    join_answer(cluster, passage->request, failure_json(&failure));
    passage_free(passage);
}

/* ---- what the command asks ---- */

static struct cluster *cluster_of(struct connection *connection) {
    struct cluster *cluster = connection_dvkd(connection)->members;
    struct failure failure;
    if (cluster)
        return cluster;
    failure_set(&failure, 0, "unavailable", "dvs cluster init makes one, dvs cluster join enters one",
                "node %s is in no cluster", connection_dvkd(connection)->options.node);
    connection_fail(connection, &failure);
    return NULL;
}

static int token_make(struct cluster *cluster, int64_t ttl_s, struct cluster_token *token, struct failure *failure) {
    char path[600];
    const char *state = cluster->dvkd->options.state;
    *token = (struct cluster_token){.expires = time(NULL) + ttl_s};
    if (!cluster_has_authority(state))
        return failure_set(failure, -ENOENT, "unavailable", "ask the node where dvs cluster init was run",
                           "the key of the cluster's certificate authority is not on node %s",
                           cluster->dvkd->options.node);
    tokens_expire(cluster);
    if (cluster->token_count >= TOKENS_MAX)
        return failure_set(failure, -ENOSPC, "unavailable", "wait until some expire", "%u tokens were given out",
                           TOKENS_MAX);
    snprintf(path, sizeof path, "%s/tls/ca.crt", state);
    strcpy(token->address, cluster->self.listen);
    int result = pki_fingerprint(path, token->fingerprint, failure);
    if (result < 0)
        return result;
    if (getrandom(token->secret, sizeof token->secret, 0) != sizeof token->secret ||
        token_add(cluster, token->secret, token->expires) < 0)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    return 0;
}

void api_cluster_token(struct connection *connection, const json_t *request) {
    struct cluster *cluster = cluster_of(connection);
    struct cluster_token token;
    struct failure failure;
    char text[CLUSTER_TOKEN_MAX];
    if (!cluster)
        return;
    if (token_make(cluster, field_integer_or(request, "ttl_s", 1, TOKEN_TTL_MAX_S, TOKEN_TTL_S), &token, &failure) < 0) {
        connection_fail(connection, &failure);
        return;
    }
    cluster_token_encode(&token, text);
    connection_succeed(connection, json_pack("{s:s, s:I}", "token", text, "expires", (json_int_t)token.expires));
}

void api_cluster_ls(struct connection *connection, const json_t *request) {
    struct cluster *cluster = cluster_of(connection);
    if (!cluster)
        return;
    struct dvkd *dvkd = cluster->dvkd;
    json_t *nodes = json_array();
    for (uint32_t id = 1; id <= DVK_MAX_NODE; id++) {
        const struct config_node *node = dvkd_config(dvkd)->nodes[id];
        if (node)
            json_array_append_new(nodes, json_pack("{s:I, s:s, s:s, s:s}", "id", (json_int_t)id, "name", node->name,
                                                   "address", node->address, "state",
                                                   replica_node_is_up(dvkd->replica, id) ? "up" : "down"));
    }
    tokens_expire(cluster);
    connection_succeed(connection, json_pack("{s:s, s:b, s:I, s:o}", "cluster", cluster->self.identity.cluster,
                                             "authority", cluster_has_authority(dvkd->options.state), "tokens",
                                             (json_int_t)cluster->token_count, "nodes", nodes));
}

static void leave_gone(void *context) { ((struct passage *)context)->connection = NULL; }

void api_cluster_leave(struct connection *connection, const json_t *request) {
    struct cluster *cluster = cluster_of(connection);
    const char *name = field_string(request, "node");
    struct failure failure;
    if (!cluster)
        return;
    struct dvkd *dvkd = cluster->dvkd;
    const struct config_node *node = name ? config_node_by_name(dvkd_config(dvkd), name) : NULL;
    int result = 0;
    if (!node)
        result = failure_set(&failure, -ENOENT, "no-such-node", "dvs cluster ls lists them", "there is no node named %s",
                             name ? name : "(none)");
    else if (node->id == dvkd->options.id || replica_node_is_up(dvkd->replica, node->id))
        result = failure_set(&failure, -EBUSY, "node-running", "stop its dvkd and corosync first", "node %s is up", name);
    else
        result = check_passable(cluster, node->id, &failure);
    struct passage *passage = result == 0 ? calloc(1, sizeof *passage) : NULL;
    if (result == 0 && !passage)
        result = failure_set(&failure, -ENOMEM, "internal", NULL, "out of memory");
    if (result < 0) {
        connection_fail(connection, &failure);
        return;
    }
    *passage = (struct passage){.cluster = cluster, .connection = connection, .member.id = node->id};
    connection_on_gone(connection, leave_gone, passage);
    cleanup_json json_t *change = json_pack("{s:s, s:I}", "op", "node-remove", "node", (json_int_t)node->id);
    cluster->passage = passage;
    replica_propose(dvkd->replica, change, proposed, cluster);
}

void cluster_stop(struct cluster *cluster) {
    struct token *token;
    if (!cluster)
        return;
    if (cluster->reload_pid > 0)
        kill(cluster->reload_pid, SIGKILL);
    list_for_each(token, &cluster->tokens, link) token_remove(cluster, token);
    passage_free(cluster->passage);
    free(cluster);
}
