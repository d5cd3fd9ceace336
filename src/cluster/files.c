/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include "common/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX 65536u

void cluster_tls_path(const char *state, char path[static 560]) {
    snprintf(path, 560, "%s/tls", state);
}

static bool has(const char *state, const char *name) {
    char path[600];
    snprintf(path, sizeof path, "%s/tls/%s", state, name);
    return access(path, F_OK) == 0;
}

bool cluster_has_certificate(const char *state) {
    return has(state, "node.crt") && has(state, "node.key") && has(state, "ca.crt");
}

bool cluster_has_authority(const char *state) {
    return has(state, "ca.key") && has(state, "ca.crt");
}

int cluster_tls_make(const char *state, struct failure *failure) {
    char path[560];
    cluster_tls_path(state, path);
    if (mkdir(state, 0711) < 0 && errno != EEXIST)
        return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", state, strerror(errno));
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", path, strerror(errno));
    return 0;
}

bool cluster_host(const char *listen, char host[static 48]) {
    const char *colon = strrchr(listen, ':');
    size_t len = colon ? (size_t)(colon - listen) : 0;
    if (len == 0 || len >= 48)
        return false;
    memcpy(host, listen, len);
    host[len] = '\0';
    return true;
}

bool cluster_listen_valid(const char *listen) {
    char host[48], *end;
    struct in_addr address;
    if (strlen(listen) >= 64 || !cluster_host(listen, host) || inet_pton(AF_INET, host, &address) != 1 ||
        address.s_addr == htonl(INADDR_ANY))
        return false;
    const char *port = strrchr(listen, ':') + 1;
    unsigned long number = strtoul(port, &end, 10);
    return *port >= '1' && *port <= '9' && !*end && number <= 65535;
}

static bool copy(char *to, size_t cap, const char *from) {
    if (!from || strlen(from) >= cap)
        return false;
    strcpy(to, from);
    return true;
}

int cluster_node_load(const char *state, struct cluster_node *out, struct failure *failure) {
    char path[600];
    cleanup_free char *text = NULL;
    snprintf(path, sizeof path, "%s/cluster.json", state);
    int result = pki_file_read(path, FILE_MAX, &text);
    if (result == -ENOENT)
        return failure_set(failure, result, "unavailable", "dvs cluster init makes one, dvs cluster join enters one",
                           "this node is in no cluster (there is no %s)", path);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot read %s: %s", path, strerror(-result));
    cleanup_json json_t *json = json_loads(text, 0, NULL);
    *out = (struct cluster_node){
        .token_ms = (unsigned)field_integer_or(json, "token_ms", 1, 1000000, 0),
        .identity.node = (uint32_t)field_integer_or(json, "id", 1, CLUSTER_NODES_MAX, 0),
    };
    if (copy(out->identity.cluster, sizeof out->identity.cluster, field_string(json, "cluster")) &&
        copy(out->identity.name, sizeof out->identity.name, field_string(json, "node")) &&
        copy(out->listen, sizeof out->listen, field_string(json, "listen")) &&
        copy(out->corosync, sizeof out->corosync, field_string(json, "corosync")) &&
        pki_name_valid(out->identity.cluster) && pki_name_valid(out->identity.name) && out->identity.node &&
        out->token_ms && cluster_listen_valid(out->listen) && out->corosync[0] == '/')
        return 0;
    return failure_set(failure, -EBADMSG, "damaged", NULL, "%s makes no sense", path);
}

int cluster_node_save(const char *state, const struct cluster_node *node, struct failure *failure) {
    char path[600];
    snprintf(path, sizeof path, "%s/cluster.json", state);
    cleanup_json json_t *json =
        json_pack("{s:s, s:s, s:I, s:s, s:s, s:i}", "cluster", node->identity.cluster, "node", node->identity.name, "id",
                  (json_int_t)node->identity.node, "listen", node->listen, "corosync", node->corosync, "token_ms",
                  (int)node->token_ms);
    cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    int result = text ? pki_file_write(path, text, strlen(text), 0644) : -ENOMEM;
    return result < 0 ? failure_set(failure, result, "internal", NULL, "cannot write %s: %s", path, strerror(-result)) : 0;
}
