/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's own certificate authority and its nodes' certificates (X.509, EC P-256). A directory of them, "tls" in a
 * node's state directory, holds
 *
 *   ca.crt     the authority's certificate                     on every node
 *   ca.key     its key, mode 0600                              only where `dvs cluster init` was run
 *   node.crt   this node's certificate, signed by it           on every node
 *   node.key   its key, mode 0600; never leaves the node       on every node
 *
 * A node's certificate says which node of which cluster it is: its subjectAltName is the URI dvs://CLUSTER/ID/NAME.
 * All calls may be made from any thread; they read and write files, and block for that long only.
 */
#ifndef CLUSTER_PKI_H
#define CLUSTER_PKI_H

#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PKI_NAME_MAX 63
#define PKI_FINGERPRINT 32     /* SHA-256 of a certificate */
#define PKI_PEM_MAX 16384u     /* bytes of a certificate or request that is taken */
#define PKI_VALID_DAYS 3650    /* how long what is made here is valid */
#define PKI_SKEW_S 3600        /* a certificate is valid from so long ago: clocks differ */

struct pki_identity {
    char cluster[PKI_NAME_MAX + 1];
    char name[PKI_NAME_MAX + 1];
    uint32_t node; /* 1..DVK_MAX_NODE */
};

struct x509_st; /* OpenSSL's X509 */

/* [a-z0-9][a-z0-9_.-]{0,62}: what cluster and node may be called. */
bool pki_name_valid(const char *name);

/* Make ca.crt and ca.key in directory, which must exist. -EEXIST when there is a ca.crt already. */
int pki_ca_create(const char *directory, const char *cluster, struct failure *failure);

/* Make node.key in directory, replacing an older one, and a request (PEM, to be freed) for a certificate for it. */
int pki_request_create(const char *directory, char **request, struct failure *failure);

/*
 * Sign a request with the authority in directory. Of the request only the key is used: who it is for is `identity`.
 * from, until: unix times in seconds. *certificate (PEM) is to be freed.
 * Errors: -EINVAL (no such request; its signature is wrong), -ENOENT (no key of the authority here), -EIO.
 */
int pki_sign(const char *directory, const char *request, const struct pki_identity *identity, int64_t from,
             int64_t until, char **certificate, struct failure *failure);

/* pki_request_create, pki_sign for PKI_VALID_DAYS from now, node.crt and ca.crt written: all that a node needs, where the
 * authority (in authority_directory) is at hand. */
int pki_node_create(const char *directory, const char *authority_directory, const struct pki_identity *identity,
                    struct failure *failure);

/* SHA-256 of the certificate in a file. */
int pki_fingerprint(const char *path, uint8_t out[static PKI_FINGERPRINT], struct failure *failure);

/* Who a certificate (not NULL) is for. false: it is no node's certificate. Its signature is not looked at. */
bool pki_identity_read(struct x509_st *certificate, struct pki_identity *out);
/* The same for a file; -EBADMSG when it is none. */
int pki_identity_load(const char *path, struct pki_identity *out, struct failure *failure);

/* Write a file as a whole or not at all, with that mode. 0 or a negative errno. */
int pki_file_write(const char *path, const void *bytes, size_t len, unsigned mode);
/* Read a file of at most max bytes; *text is NUL-terminated, to be freed. 0 or a negative errno (-EFBIG). */
int pki_file_read(const char *path, size_t max, char **text);

#endif
