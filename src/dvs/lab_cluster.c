/* SPDX-License-Identifier: Apache-2.0 */
/* A lab is a cluster: its authority, its nodes' certificates, corosync's configuration. */
#include "cluster/cluster.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void lab_node_describe(const struct lab *lab, const struct lab_node *node, struct cluster_node *out) {
    char state[PATH_MAX], address[32];
    lab_state_path(lab->name, state);
    lab_node_address(lab, node, address);
    *out = (struct cluster_node){.identity.node = node->id, .token_ms = lab->token_ms};
    snprintf(out->identity.cluster, sizeof out->identity.cluster, "%s", lab->name);
    snprintf(out->identity.name, sizeof out->identity.name, "%s", node->name);
    snprintf(out->listen, sizeof out->listen, "%s:%d", address, LAB_PORT);
    snprintf(out->corosync, sizeof out->corosync, "%.200s/%s", state, node->name);
}

static int node_configure(const struct lab *lab, const struct lab_node *node, const struct cluster_member *members,
                          const uint8_t *key, struct failure *failure) {
    struct cluster_node self, first;
    char directory[560], authority[560];
    lab_node_describe(lab, node, &self);
    lab_node_describe(lab, &lab->nodes[0], &first);
    cluster_tls_path(self.corosync, directory);
    cluster_tls_path(first.corosync, authority);
    int result = cluster_tls_make(self.corosync, failure);
    if (result == 0 && node == lab->nodes)
        result = pki_ca_create(directory, lab->name, failure);
    if (result == 0)
        result = pki_node_create(directory, authority, &self.identity, failure);
    if (result == 0)
        result = cluster_corosync_write(&self, members, lab->node_count, key, failure);
    return result == 0 ? cluster_node_save(self.corosync, &self, failure) : result;
}

int lab_cluster_configure(const struct lab *lab, struct failure *failure) {
    struct cluster_member members[LAB_NODES_MAX];
    uint8_t key[CLUSTER_KEY_BYTES];
    int result = cluster_key_make(key, failure);
    for (unsigned i = 0; i < lab->node_count; i++) {
        members[i] = (struct cluster_member){.id = lab->nodes[i].id};
        snprintf(members[i].name, sizeof members[i].name, "%s", lab->nodes[i].name);
        char address[32];
        lab_node_address(lab, &lab->nodes[i], address);
        snprintf(members[i].address, sizeof members[i].address, "%s", address);
    }
    for (unsigned i = 0; i < lab->node_count && result == 0; i++)
        result = node_configure(lab, &lab->nodes[i], members, key, failure);
    explicit_bzero(key, sizeof key);
    return result;
}
