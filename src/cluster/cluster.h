/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node of a cluster has on its disk, and how a new one gets it. Used by dvkd and the dvs command.
 *
 *   STATE/cluster.json        which node of which cluster this is (struct cluster_node)
 *   STATE/tls/                certificates and keys (pki.h)
 *   COROSYNC/corosync.conf    corosync's configuration; dvkd keeps its nodelist up to date, and nothing else in it
 *   COROSYNC/authkey          corosync's key, mode 0400
 *
 * Whoever uses it may be any thread; all calls read and write files only and block for that long, but for cluster_ask.
 */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include "cluster/pki.h"
#include "common/json.h"

#include <limits.h>
#include <stdbool.h>

#define CLUSTER_TOKEN_MS 1000 /* corosync's token timeout, unless said otherwise */
#define CLUSTER_KEY_BYTES 256
#define CLUSTER_COROSYNC_DIR "/etc/corosync"
#define CLUSTER_NODES_MAX 384
#define CLUSTER_ASIDE ".before-dvs"

/* This node, as cluster.json says. */
struct cluster_node {
    struct pki_identity identity;
    char listen[64];        /* "address:port" of its proxy */
    char corosync[256];     /* directory of corosync's configuration */
    unsigned token_ms;
};

/* A line of corosync's nodelist. */
struct cluster_member {
    uint32_t id;
    char name[PKI_NAME_MAX + 1];
    char address[48]; /* without a port */
};

/* ---- files.c ---- */

/* Where the certificates of a state directory are. */
void cluster_tls_path(const char *state, char path[static 560]);
bool cluster_has_certificate(const char *state);
/* Is the key of the cluster's authority here? */
bool cluster_has_authority(const char *state);
/* Make the state directory's tls, mode 0700. 0 or negative with *failure. */
int cluster_tls_make(const char *state, struct failure *failure);

/* -ENOENT: this is no node of a cluster (*failure says so); -EBADMSG: the file is damaged. */
int cluster_node_load(const char *state, struct cluster_node *out, struct failure *failure);
int cluster_node_save(const char *state, const struct cluster_node *node, struct failure *failure);

/* The part of "address:port" before the colon. false: too long, or none. */
bool cluster_host(const char *listen, char host[static 48]);
/* Is it an IPv4 "address:port" with a port of 1..65535 that others can connect to? */
bool cluster_listen_valid(const char *listen);

/* ---- corosync.c ---- */

/* A new key for corosync. */
int cluster_key_make(uint8_t key[static CLUSTER_KEY_BYTES], struct failure *failure);
/* Write corosync.conf for this node with these members, and what it needs beside. Files that are there already are put aside
 * under their name and CLUSTER_ASIDE. key: CLUSTER_KEY_BYTES bytes, written to
 * authkey too; NULL: it is there. */
int cluster_corosync_write(const struct cluster_node *node, const struct cluster_member *members, unsigned count,
                           const uint8_t *key, struct failure *failure);
/* The nodelist of a corosync.conf's text. How many there are (at most max are stored), or -EBADMSG. */
int cluster_corosync_members(const char *text, struct cluster_member *members, unsigned max);
/* The text with a node added, or (address empty) the one with its id taken out; all else as it was. To be freed. NULL: it has
 * no nodelist, or no memory. */
char *cluster_corosync_edit(const char *text, const struct cluster_member *change);
/* Do that to DIRECTORY/corosync.conf. 1: it has changed; 0: it was so already; negative with *failure. */
int cluster_corosync_update(const char *directory, const struct cluster_member *change, struct failure *failure);
/* The nodelist of DIRECTORY/corosync.conf; as cluster_corosync_members, with *failure. */
int cluster_corosync_load(const char *directory, struct cluster_member *members, unsigned max, struct failure *failure);
int cluster_key_load(const char *directory, uint8_t key[static CLUSTER_KEY_BYTES], struct failure *failure);

/* ---- token.c: what a new node is given to join by ---- */

#define CLUSTER_SECRET_BYTES 16
#define CLUSTER_TOKEN_MAX 256 /* characters, with the NUL */

/* A token says where to ask, by which certificate to know the cluster, until when it is good, and a secret that is good
 * once. */
struct cluster_token {
    char address[64]; /* "address:port" */
    uint8_t fingerprint[PKI_FINGERPRINT]; /* of the authority's certificate */
    uint8_t secret[CLUSTER_SECRET_BYTES];
    int64_t expires; /* unix time, s */
};
void cluster_token_encode(const struct cluster_token *token, char text[static CLUSTER_TOKEN_MAX]);
/* false: it is no token. */
bool cluster_token_decode(const char *text, struct cluster_token *out);

/* Bytes as hexadecimal digits and back; text has room for 2 * len + 1. false: not exactly len bytes. */
void cluster_hex_encode(const uint8_t *bytes, size_t len, char *text);
bool cluster_hex_decode(const char *text, uint8_t *bytes, size_t len);

/* ---- join.c ---- */

/* Make this the first node of a new cluster: authority, certificate, corosync's configuration and key, cluster.json.
 * -EEXIST when it is in one already. */
int cluster_init(const char *state, const struct cluster_node *node, struct failure *failure);

/*
 * Enter a running cluster. node: name, listen and corosync are given, and the id if it matters (else 0); what the cluster
 * decides is filled in. address: whom to ask, NULL: as the token says. The node's key is made here and stays here. Blocks
 * at most 40 s. Errors: -EEXIST (in a cluster already, or used alone before), those of cluster_ask.
 */
int cluster_join(const char *state, const struct cluster_token *token, const char *address, struct cluster_node *node,
                 struct failure *failure);

/* ---- ask.c ---- */

/*
 * Send a request (one JSON object; borrowed) over TLS to the proxy at address, and take its answer. The other side is
 * believed only if its certificate was signed by the authority with that fingerprint; nothing is sent before that is
 * known. Blocks at most timeout_ms. Errors: -ECONNREFUSED and the like (code unavailable), -EACCES (another cluster),
 * -EPROTO, -EREMOTEIO (the cluster's own error, in *failure).
 */
int cluster_ask(const char *address, const uint8_t fingerprint[static PKI_FINGERPRINT], const json_t *request,
                int timeout_ms, json_t **answer, struct failure *failure);

#endif
