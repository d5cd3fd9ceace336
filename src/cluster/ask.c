/* SPDX-License-Identifier: Apache-2.0 */
/* A request to a cluster that we are not in yet: one line of JSON over TLS, one line back. */
#include "cluster/cluster.h"

#include "common/cleanup.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define ALPN_JOIN "dvs-join/1"
#define ANSWER_MAX (256u << 10)

struct asking {
    const char *address;
    uint64_t deadline;
    int fd;
    SSL_CTX *context;
    SSL *ssl;
};

static void asking_end(struct asking *asking) {
    SSL_free(asking->ssl);
    SSL_CTX_free(asking->context);
    if (asking->fd >= 0)
        close(asking->fd);
}

static int fail(const struct asking *asking, int result, const char *why, struct failure *failure) {
    ERR_clear_error();
    return failure_set(failure, result, "unavailable", "is dvkd running there, and the token a fresh one?",
                       "cannot ask the cluster at %s: %s", asking->address, why);
}

static int wait_for(struct asking *asking, short events, struct failure *failure) {
    for (;;) {
        uint64_t now = loop_now_ms();
        struct pollfd poll_fd = {.fd = asking->fd, .events = events};
        int ready = poll(&poll_fd, 1, now < asking->deadline ? (int)(asking->deadline - now) : 0);
        if (ready > 0)
            return 0;
        if (ready == 0)
            return fail(asking, -ETIMEDOUT, "no answer in time", failure);
        if (errno != EINTR)
            return fail(asking, -errno, strerror(errno), failure);
    }
}

static int connect_to(struct asking *asking, struct failure *failure) {
    char host[48];
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (!cluster_listen_valid(asking->address) || !cluster_host(asking->address, host) ||
        inet_pton(AF_INET, host, &to.sin_addr) != 1)
        return fail(asking, -EINVAL, "that is no ADDRESS:PORT", failure);
    to.sin_port = htons((uint16_t)strtoul(strrchr(asking->address, ':') + 1, NULL, 10));
    asking->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (asking->fd < 0)
        return fail(asking, -errno, strerror(errno), failure);
    int error = 0;
    socklen_t len = sizeof error;
    if (connect(asking->fd, (struct sockaddr *)&to, sizeof to) < 0) {
        if (errno != EINPROGRESS)
            return fail(asking, -errno, strerror(errno), failure);
        int result = wait_for(asking, POLLOUT, failure);
        if (result < 0)
            return result;
        if (getsockopt(asking->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
            error = errno;
    }
    return error ? fail(asking, -error, strerror(error), failure) : 0;
}

/* What to do after an SSL call that returned `result`: 0: call again; 1: the other side has ended; negative: failed. */
static int again(struct asking *asking, int result, struct failure *failure) {
    switch (SSL_get_error(asking->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return wait_for(asking, POLLIN, failure);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(asking, POLLOUT, failure);
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    case SSL_ERROR_SYSCALL:
        return fail(asking, -EPROTO, "it ended the connection", failure);
    default: {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        return fail(asking, -EPROTO, reason ? reason : "TLS failed", failure);
    }
    }
}

/* Does the other side's certificate come from the authority with that fingerprint, which is in what it sent or is not? */
static bool believed(struct asking *asking, const uint8_t fingerprint[static PKI_FINGERPRINT]) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(asking->ssl);
    X509 *authority = NULL, *leaf = SSL_get0_peer_certificate(asking->ssl);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        if (X509_digest(sk_X509_value(chain, i), EVP_sha256(), digest, &len) == 1 && len == PKI_FINGERPRINT &&
            CRYPTO_memcmp(digest, fingerprint, PKI_FINGERPRINT) == 0)
            authority = sk_X509_value(chain, i);
    }
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    struct pki_identity identity;
    bool good = authority && leaf && authority != leaf && store && check && X509_STORE_add_cert(store, authority) == 1 &&
                X509_STORE_CTX_init(check, store, leaf, NULL) == 1 &&
                X509_STORE_CTX_set_purpose(check, X509_PURPOSE_SSL_SERVER) == 1 && X509_verify_cert(check) == 1 &&
                pki_identity_read(leaf, &identity);
    X509_STORE_CTX_free(check);
    X509_STORE_free(store);
    ERR_clear_error();
    return good;
}

static int secure(struct asking *asking, const uint8_t fingerprint[static PKI_FINGERPRINT], struct failure *failure) {
    static const unsigned char alpn[] = "\x0a" ALPN_JOIN;
    asking->context = SSL_CTX_new(TLS_client_method());
    if (!asking->context || SSL_CTX_set_min_proto_version(asking->context, TLS1_3_VERSION) != 1 ||
        !(asking->ssl = SSL_new(asking->context)) || SSL_set_fd(asking->ssl, asking->fd) != 1 ||
        SSL_set_alpn_protos(asking->ssl, alpn, sizeof alpn - 1) != 0)
        return fail(asking, -ENOMEM, "cannot set TLS up", failure);
    SSL_set_verify(asking->ssl, SSL_VERIFY_NONE, NULL); /* `believed` decides, once the handshake has shown the key */
    int done, result;
    while ((done = SSL_connect(asking->ssl)) != 1)
        if ((result = again(asking, done, failure)) != 0)
            return result > 0 ? fail(asking, -EPROTO, "it ended the connection", failure) : result;
    if (believed(asking, fingerprint))
        return 0;
    return failure_set(failure, -EACCES, "not-allowed", "take the token from the cluster that you mean",
                       "the cluster at %s is not the one that the token is from", asking->address);
}

static int say(struct asking *asking, const json_t *request, struct failure *failure) {
    cleanup_free char *text = json_dumps(request, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0;
    if (!text)
        return fail(asking, -ENOMEM, "out of memory", failure);
    text[len++] = '\n'; /* in place of the NUL */
    int n, result = 0;
    while (result == 0 && (n = SSL_write(asking->ssl, text, (int)len)) <= 0)
        result = again(asking, n, failure);
    return result > 0 ? fail(asking, -EPROTO, "it ended the connection", failure) : result;
}

static int hear(struct asking *asking, json_t **answer, struct failure *failure) {
    cleanup_free char *text = malloc(ANSWER_MAX);
    size_t len = 0;
    if (!text)
        return fail(asking, -ENOMEM, "out of memory", failure);
    for (;;) {
        int n = SSL_read(asking->ssl, text + len, (int)(ANSWER_MAX - len));
        if (n <= 0) {
            int result = again(asking, n, failure);
            if (result == 0)
                continue;
            return result > 0 ? fail(asking, -EPROTO, "it ended the connection", failure) : result;
        }
        char *end = memchr(text + len, '\n', (size_t)n);
        len += (size_t)n;
        if (end) {
            *answer = json_loadb(text, (size_t)(end - text), 0, NULL);
            explicit_bzero(text, len); /* there may be a key in it */
            return json_is_object(*answer) ? 0 : fail(asking, -EPROTO, "its answer makes no sense", failure);
        }
        if (len == ANSWER_MAX)
            return fail(asking, -EPROTO, "its answer is too long", failure);
    }
}

int cluster_ask(const char *address, const uint8_t fingerprint[static PKI_FINGERPRINT], const json_t *request,
                int timeout_ms, json_t **answer, struct failure *failure) {
    struct asking asking = {.address = address, .deadline = loop_now_ms() + (uint64_t)timeout_ms, .fd = -1};
    *answer = NULL;
    int result = connect_to(&asking, failure);
    if (result == 0)
        result = secure(&asking, fingerprint, failure);
    if (result == 0)
        result = say(&asking, request, failure);
    if (result == 0)
        result = hear(&asking, answer, failure);
    asking_end(&asking);
    const json_t *error = result == 0 ? json_object_get(*answer, "error") : NULL;
    if (error) {
        const char *code = field_string(error, "code"), *message = field_string(error, "message");
        result = failure_set(failure, -EREMOTEIO, code ? code : "internal", field_string(error, "hint"), "%s",
                             message ? message : "the cluster refused, and did not say why");
    }
    if (result < 0) {
        json_decref(*answer);
        *answer = NULL;
    }
    return result;
}
