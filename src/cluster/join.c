/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a node gets into a cluster: as its first one, or by asking one that is in it. What travels:
 *
 *   {"op": "join", "secret", "name", "listen", "id"?, "request": PEM}
 *   {"ok": true, "cluster", "id", "token_ms", "authority": PEM, "certificate": PEM, "key": corosync's, hexadecimal,
 *    "members": [{"id", "name", "address"}]}     or {"error": {...}}
 */
#include "cluster/cluster.h"

#include "common/cleanup.h"

#include <errno.h>
#include <string.h>

#define JOIN_MS 40000

/* A node of a cluster, or one with a past of its own, cannot enter another. */
static int check_new(const char *state, bool alone_too, struct failure *failure) {
    static const char *const files[] = {"cluster.json", "tls/ca.crt", "config.db"};
    for (size_t i = 0; i < (alone_too ? 3 : 2); i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", state, files[i]);
        if (access(path, F_OK) == 0)
            return failure_set(failure, -EEXIST, "name-taken",
                               i < 2 ? "it is in a cluster already" : "its configuration would not fit the cluster's: move it away",
                               "there is a %s", path);
    }
    return 0;
}

int cluster_init(const char *state, const struct cluster_node *node, struct failure *failure) {
    char directory[560];
    uint8_t key[CLUSTER_KEY_BYTES];
    struct cluster_member self = {.id = node->identity.node};
    strcpy(self.name, node->identity.name);
    cluster_tls_path(state, directory);
    if (!cluster_host(node->listen, self.address))
        return failure_set(failure, -EINVAL, "usage", NULL, "%s is no ADDRESS:PORT", node->listen);
    int result = check_new(state, false, failure);
    if (result == 0)
        result = cluster_tls_make(state, failure);
    if (result == 0)
        result = cluster_key_make(key, failure);
    if (result == 0)
        result = pki_ca_create(directory, node->identity.cluster, failure);
    if (result == 0)
        result = pki_node_create(directory, directory, &node->identity, failure);
    if (result == 0)
        result = cluster_corosync_write(node, &self, 1, key, failure);
    explicit_bzero(key, sizeof key);
    return result < 0 ? result : cluster_node_save(state, node, failure);
}

/* ---- joining ---- */

static int nonsense(struct failure *failure, const char *what) {
    return failure_set(failure, -EPROTO, "internal", "are the versions the same?", "the cluster's answer makes no sense: %s",
                       what);
}

static int members_read(const json_t *array, struct cluster_member *members, unsigned max) {
    size_t count = json_array_size(array);
    if (count == 0 || count > max)
        return -EPROTO;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        const char *name = field_string(item, "name"), *address = field_string(item, "address");
        members[i] = (struct cluster_member){.id = (uint32_t)field_integer_or(item, "id", 1, CLUSTER_NODES_MAX, 0)};
        if (!members[i].id || !name || !pki_name_valid(name) || !address || strlen(address) >= sizeof members[i].address ||
            address[strspn(address, "0123456789abcdefghijklmnopqrstuvwxyz.:-")])
            return -EPROTO;
        strcpy(members[i].name, name);
        strcpy(members[i].address, address);
    }
    return (int)count;
}

static int pem_write(const char *state, const char *name, const char *text, struct failure *failure) {
    char path[600];
    snprintf(path, sizeof path, "%s/tls/%s", state, name);
    int result = text && strlen(text) <= PKI_PEM_MAX ? pki_file_write(path, text, strlen(text), 0644) : -EPROTO;
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write %s: %s", path, strerror(-result));
    return 0;
}

/* The authority is the one that the token names, and the certificate is ours. */
static int certificates_take(const char *state, const json_t *answer, const struct cluster_token *token,
                             struct cluster_node *node, struct failure *failure) {
    char path[600];
    uint8_t fingerprint[PKI_FINGERPRINT];
    struct pki_identity identity;
    int result = pem_write(state, "node.crt", field_string(answer, "certificate"), failure);
    if (result == 0)
        result = pem_write(state, "ca.crt", field_string(answer, "authority"), failure);
    snprintf(path, sizeof path, "%s/tls/ca.crt", state);
    if (result == 0)
        result = pki_fingerprint(path, fingerprint, failure);
    if (result == 0 && memcmp(fingerprint, token->fingerprint, sizeof fingerprint) != 0)
        result = nonsense(failure, "another authority's certificate");
    snprintf(path, sizeof path, "%s/tls/node.crt", state);
    if (result == 0)
        result = pki_identity_load(path, &identity, failure);
    if (result == 0 && (strcmp(identity.name, node->identity.name) != 0 ||
                        (node->identity.node && identity.node != node->identity.node)))
        result = nonsense(failure, "another node's certificate");
    if (result == 0)
        node->identity = identity;
    return result;
}

static int answer_take(const char *state, const json_t *answer, const struct cluster_token *token,
                       struct cluster_node *node, struct failure *failure) {
    uint8_t key[CLUSTER_KEY_BYTES];
    cleanup_free struct cluster_member *members = calloc(CLUSTER_NODES_MAX, sizeof *members);
    int count = members ? members_read(json_object_get(answer, "members"), members, CLUSTER_NODES_MAX) : -ENOMEM;
    const char *hex = field_string(answer, "key");
    node->token_ms = (unsigned)field_integer_or(answer, "token_ms", 1, 1000000, 0);
    if (count < 0 || !node->token_ms || !hex || !cluster_hex_decode(hex, key, sizeof key))
        return nonsense(failure, "members or key");
    int result = certificates_take(state, answer, token, node, failure);
    if (result == 0)
        result = cluster_corosync_write(node, members, (unsigned)count, key, failure);
    explicit_bzero(key, sizeof key);
    return result < 0 ? result : cluster_node_save(state, node, failure);
}

int cluster_join(const char *state, const struct cluster_token *token, const char *address, struct cluster_node *node,
                 struct failure *failure) {
    char directory[560], secret[2 * CLUSTER_SECRET_BYTES + 1];
    cleanup_free char *request = NULL;
    cleanup_json json_t *answer = NULL;
    int result = check_new(state, true, failure);
    if (result == 0)
        result = cluster_tls_make(state, failure);
    cluster_tls_path(state, directory);
    if (result == 0)
        result = pki_request_create(directory, &request, failure);
    if (result < 0)
        return result;
    cluster_hex_encode(token->secret, sizeof token->secret, secret);
    cleanup_json json_t *asked =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "op", "join", "secret", secret, "name", node->identity.name, "listen",
                  node->listen, "id", (json_int_t)node->identity.node, "request", request);
    result = cluster_ask(address ? address : token->address, token->fingerprint, asked, JOIN_MS, &answer, failure);
    if (result == 0)
        result = answer_take(state, answer, token, node, failure);
    if (result < 0) { /* nothing that would keep it from being tried again */
        static const char *const made[] = {"node.key", "node.crt", "ca.crt"};
        for (size_t i = 0; i < ARRAY_LENGTH(made); i++) {
            char path[600];
            snprintf(path, sizeof path, "%s/%s", directory, made[i]);
            unlink(path);
        }
    }
    return result;
}
