/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tls.h"

#include "common/fault.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAULT_BYTES 100u /* of a read or write that is to be short */
#define READ_AHEAD (128u << 10) /* bytes that are read at once, once the link is up: several records */

struct tls {
    SSL_CTX *context;
    struct pki_identity self;
};

static const unsigned char alpn_link[] = "\x0a" TLS_ALPN_LINK;
static const unsigned char alpn_join[] = "\x0a" TLS_ALPN_JOIN;
_Static_assert(sizeof TLS_ALPN_LINK == 11 && sizeof TLS_ALPN_JOIN == 11, "their lengths are written above");

/* ---- certificates ---- */

/* Called when the chain was checked: the name must be a node's of this cluster. */
static int verify_name(int good, X509_STORE_CTX *store) {
    if (!good || X509_STORE_CTX_get_error_depth(store) != 0)
        return good;
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct pki_identity identity;
    if (pki_identity_read(X509_STORE_CTX_get_current_cert(store), &identity) &&
        strcmp(identity.cluster, tls->self.cluster) == 0)
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* The one who connects says what for. Who wants to join has no certificate yet. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *context) {
    static const unsigned char both[] = "\x0a" TLS_ALPN_LINK "\x0a" TLS_ALPN_JOIN;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, both, sizeof both - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    if (*out_len == sizeof alpn_join - 2 && memcmp(chosen, alpn_join + 1, *out_len) == 0)
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    return SSL_TLSEXT_ERR_OK;
}

static int context_failed(struct failure *failure, const char *directory, const char *what) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    failure_set(failure, -EBADMSG, "damaged", "dvs cluster init or dvs cluster join makes them", "%s/%s: %s", directory,
                what, reason ? reason : "not usable");
    ERR_clear_error();
    return -EBADMSG;
}

static int context_load(SSL_CTX *context, const char *directory, struct pki_identity *self, struct failure *failure) {
    char authority[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
    snprintf(authority, sizeof authority, "%s/ca.crt", directory);
    snprintf(certificate, sizeof certificate, "%s/node.crt", directory);
    snprintf(key, sizeof key, "%s/node.key", directory);
    int result = pki_identity_load(certificate, self, failure);
    if (result < 0)
        return result;
    if (SSL_CTX_load_verify_file(context, authority) != 1)
        return context_failed(failure, directory, "ca.crt");
    if (SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1)
        return context_failed(failure, directory, "node.crt");
    /* who joins knows the authority's fingerprint only: it is sent along */
    if (SSL_CTX_build_cert_chain(context, SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR | SSL_BUILD_CHAIN_FLAG_CLEAR_ERROR) < 1)
        return context_failed(failure, directory, "node.crt");
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1)
        return context_failed(failure, directory, "node.key");
    return 0;
}

int tls_create(const char *directory, struct tls **out, struct pki_identity *self, struct failure *failure) {
    struct tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (!tls || !context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1) {
        SSL_CTX_free(context);
        free(tls);
        return failure_set(failure, -ENOMEM, "internal", NULL, "cannot set TLS up");
    }
    tls->context = context;
    int result = context_load(context, directory, &tls->self, failure);
    if (result < 0) {
        tls_destroy(tls);
        return result;
    }
    SSL_CTX_set_app_data(context, tls);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify_name);
    SSL_CTX_set_alpn_select_cb(context, on_alpn, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* the end of the connection is as good as its announcement: frames know where they end */
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
    *self = tls->self;
    *out = tls;
    return 0;
}

void tls_destroy(struct tls *tls) {
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

/* ---- streams ---- */

int stream_begin(struct stream *stream, int fd, struct tls *tls, bool accepting) {
    *stream = (struct stream){.fd = fd};
    if (!tls)
        return 0;
    stream->ssl = SSL_new(tls->context);
    stream->staged = malloc(STREAM_RECORD);
    if (!stream->ssl || !stream->staged || SSL_set_fd(stream->ssl, fd) != 1 ||
        (!accepting && SSL_set_alpn_protos(stream->ssl, alpn_link, sizeof alpn_link - 1) != 0)) {
        stream->fd = -1; /* not ours yet */
        stream_end(stream);
        return -ENOMEM;
    }
    if (accepting)
        SSL_set_accept_state(stream->ssl);
    else
        SSL_set_connect_state(stream->ssl);
    return 0;
}

void stream_end(struct stream *stream) {
    SSL_free(stream->ssl);
    free(stream->staged);
    if (stream->fd >= 0)
        close(stream->fd);
    *stream = STREAM_NONE;
}

struct stream stream_steal(struct stream *from) {
    struct stream stream = *from;
    *from = STREAM_NONE;
    return stream;
}

const char *stream_cipher(const struct stream *stream) {
    const char *name = stream->ssl ? SSL_get_cipher_name(stream->ssl) : "clear";
    return name ? name : "-";
}

/* ---- what goes wrong ---- */

static const char *verify_text(long error) {
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "its certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "its certificate is not valid yet (are the clocks right?)";
    case X509_V_ERR_APPLICATION_VERIFICATION:
        return "its certificate names no node of this cluster";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "its certificate is not of this cluster's authority";
    default:
        return X509_verify_cert_error_string(error);
    }
}

static const char *reason_text(const SSL *ssl, unsigned long error) {
    switch (ERR_GET_REASON(error)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return verify_text(SSL_get_verify_result(ssl));
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "it has no certificate";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return "it refuses us: our certificate is not of its cluster's authority";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "it refuses us: our certificate has expired";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        return "it refuses us: our certificate is not valid";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "it refuses us: we have no certificate";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "it refuses us: our certificate names no node of its cluster";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
        return "it does not speak TLS (does it run with --clear?)";
    default: {
        const char *text = ERR_reason_error_string(error);
        return text ? text : "TLS failed";
    }
    }
}

/* What a call that returned `result` means: -EAGAIN, 0 (ended), -EPROTO or a negative errno. */
static int ssl_result(struct stream *stream, int result, bool writing) {
    int saved = errno;
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_WRITE:
        stream->blocked = true;
        return -EAGAIN;
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return writing ? -EPIPE : 0;
    case SSL_ERROR_SYSCALL:
        if (saved == 0)
            return writing ? -EPIPE : 0;
        return saved > 0 ? -saved : -EIO;
    default:
        snprintf(stream->why, sizeof stream->why, "%s", reason_text(stream->ssl, ERR_peek_error()));
        ERR_clear_error();
        return -EPROTO;
    }
}

/* ---- use ---- */

int stream_handshake(struct stream *stream) {
    if (!stream->ssl)
        return 1;
    ERR_clear_error();
    errno = 0;
    stream->blocked = false;
    int result = SSL_do_handshake(stream->ssl);
    if (result == 1)
        return 1;
    int error = ssl_result(stream, result, false);
    if (error == -EAGAIN)
        return 0;
    if (error != -EPROTO)
        snprintf(stream->why, sizeof stream->why, "%s",
                 error == 0 ? "it ended the connection before it was set up" : strerror(-error));
    return -EPROTO;
}

bool stream_is_join(const struct stream *stream) {
    const unsigned char *name = NULL;
    unsigned len = 0;
    if (stream->ssl)
        SSL_get0_alpn_selected(stream->ssl, &name, &len);
    return len == sizeof alpn_join - 2 && memcmp(name, alpn_join + 1, len) == 0;
}

bool stream_identity(const struct stream *stream, struct pki_identity *out) {
    X509 *certificate = stream->ssl ? SSL_get0_peer_certificate(stream->ssl) : NULL;
    return certificate && pki_identity_read(certificate, out);
}

void stream_shut(struct stream *stream) {
    if (stream->fd >= 0)
        (void)shutdown(stream->fd, SHUT_WR);
}

ssize_t stream_read(struct stream *stream, void *bytes, size_t len) {
    unsigned faults = fault_at(FAULT_PROXY_READ);
    if (faults & FAULT_LOSE)
        return -ECONNRESET;
    if (faults & FAULT_SHORT && !stream->ssl && len > FAULT_BYTES)
        len = FAULT_BYTES;
    for (;;) {
        ssize_t n;
        if (stream->ssl) {
            ERR_clear_error();
            errno = 0;
            int result = SSL_read(stream->ssl, bytes, len > INT_MAX ? INT_MAX : (int)len);
            n = result > 0 ? result : ssl_result(stream, result, false);
        } else {
            n = recv(stream->fd, bytes, len, 0);
            n = n < 0 ? -errno : n;
        }
        if (n != -EINTR)
            return n;
    }
}

int stream_flush(struct stream *stream) {
    stream->blocked = false;
    while (stream->staged_at < stream->staged_len) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_write(stream->ssl, stream->staged + stream->staged_at,
                               (int)(stream->staged_len - stream->staged_at));
        if (result <= 0) {
            int error = ssl_result(stream, result, true);
            if (error == -EINTR)
                continue;
            return error;
        }
        stream->staged_at += (size_t)result;
    }
    stream->staged_at = stream->staged_len = 0;
    return 0;
}

static ssize_t write_clear(struct stream *stream, const struct iovec *parts, int count, size_t most) {
    struct iovec first;
    if (most < STREAM_RECORD) { /* a fault */
        first = (struct iovec){parts[0].iov_base, parts[0].iov_len < most ? parts[0].iov_len : most};
        parts = &first;
        count = 1;
    }
    struct msghdr msg = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    ssize_t n;
    do
        n = sendmsg(stream->fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    stream->blocked = n < 0 && errno == EAGAIN;
    return n < 0 ? -errno : n;
}

/* A record of bytes where they are. What the socket has no room for is kept, as its bytes may change. */
static ssize_t record_write(struct stream *stream, const void *bytes, size_t len) {
    ERR_clear_error();
    errno = 0;
    int result = SSL_write(stream->ssl, bytes, (int)len);
    if (result > 0)
        return result;
    int error = ssl_result(stream, result, true);
    if (error != -EAGAIN && error != -EINTR)
        return error;
    memcpy(stream->staged, bytes, len);
    stream->staged_len = len;
    return (ssize_t)len;
}

void stream_read_ahead(struct stream *stream) {
    if (stream->ssl)
        SSL_set_read_ahead(stream->ssl, 1);
}

bool stream_has_more(const struct stream *stream) {
    return stream->ssl && SSL_has_pending(stream->ssl);
}

ssize_t stream_write(struct stream *stream, const struct iovec *parts, int count) {
    unsigned faults = fault_at(FAULT_PROXY_WRITE);
    size_t most = faults & FAULT_SHORT ? FAULT_BYTES : STREAM_RECORD;
    if (faults & FAULT_LOSE)
        return -ECONNRESET;
    if (!stream->ssl)
        return write_clear(stream, parts, count, most);
    int error = stream_flush(stream);
    if (error < 0)
        return error;
    if (parts[0].iov_len >= most)
        return record_write(stream, parts[0].iov_base, most);
    size_t taken = 0;
    for (int i = 0; i < count && taken < most; i++) {
        size_t room = most - taken, n = parts[i].iov_len < room ? parts[i].iov_len : room;
        memcpy(stream->staged + taken, parts[i].iov_base, n);
        taken += n;
    }
    stream->staged_len = taken;
    error = stream_flush(stream);
    return error < 0 && error != -EAGAIN ? error : (ssize_t)taken;
}
