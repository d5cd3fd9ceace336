/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 over TCP, by OpenSSL, blocking: what an encrypted link costs without a proxy. */
#include "compare.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>

static _Noreturn void tls_die(const char *what) {
    const char *reason = ERR_reason_error_string(ERR_get_error());
    die(what, reason ? reason : "failed");
}

/* A key and a certificate of its own: the client does not check it, which costs only at the handshake. */
static void tls_identity(SSL_CTX *context) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    if (!key || !cert || !X509_set_version(cert, 2) || !ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) ||
        !X509_gmtime_adj(X509_getm_notBefore(cert), 0) || !X509_gmtime_adj(X509_getm_notAfter(cert), 86400) ||
        !X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const uint8_t *)"bench", -1, -1, 0) ||
        !X509_set_issuer_name(cert, X509_get_subject_name(cert)) || !X509_set_pubkey(cert, key) ||
        !X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(context, cert) != 1 ||
        SSL_CTX_use_PrivateKey(context, key) != 1)
        tls_die("tls: certificate");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void tls_open(struct line *line, bool server) {
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
        tls_die("tls: context");
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY);
    if (server)
        tls_identity(context);
    line->state = SSL_new(context);
    if (!line->state)
        tls_die("tls: new");
}

static void tls_write(struct line *line, const uint8_t *data) {
    if (SSL_write(line->state, data, (int)line->bytes) != (int)line->bytes)
        tls_die("tls: write");
}

static void tls_read(struct line *line, uint8_t *data) {
    for (size_t got = 0; got < line->bytes;) {
        int n = SSL_read(line->state, data + got, (int)(line->bytes - got));
        if (n <= 0)
            tls_die("tls: read");
        got += (size_t)n;
    }
}

static void tls_serve(struct line *line, struct contact *contact) {
    uint16_t port;
    tls_open(line, true);
    line->fd[0] = tcp_listen(line->remote ? line->settings->address : NULL, &port);
    line->fd[2] = -1;
    contact->number = port;
}

static void tls_connect(struct line *line, const struct contact *contact) {
    tls_open(line, false);
    int fd = tcp_connect(line->remote ? line->settings->address : NULL, (uint16_t)contact->number);
    if (SSL_set_fd(line->state, fd) != 1 || SSL_connect(line->state) != 1)
        tls_die("tls: connect");
}

static void tls_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    tls_write(line, data);
    tls_read(line, reply);
}

static void tls_receive(struct line *line, uint8_t *data) {
    if (line->fd[2] < 0) {
        line->fd[2] = tcp_accept(line->fd[0]);
        if (SSL_set_fd(line->state, line->fd[2]) != 1 || SSL_accept(line->state) != 1)
            tls_die("tls: accept");
    }
    tls_read(line, data);
}

const struct transport transport_tls = {
    "tls",       "TLS 1.3 over TCP (OpenSSL)", PLACE_REMOTE, SHAPE_ROUND_TRIP | SHAPE_ONE_WAY, BYTES_MAX, NULL, tls_serve,
    tls_connect, tls_write,                    tls_call,     tls_receive,                      tls_write, NULL,
};
