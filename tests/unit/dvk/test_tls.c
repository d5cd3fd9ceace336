/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, and streams between nodes that have them, or others, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "proxy/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define DAY 86400ll

static char root[] = "/tmp/dvs-test-tls-XXXXXX";

static void path_of(char path[static 128], const char *who, const char *file) {
    snprintf(path, 128, "%s/%s%s%s", root, who, file ? "/" : "", file ? file : "");
}

static void authority_make(const char *who, const char *cluster) {
    char path[128];
    struct failure failure = {0};
    path_of(path, who, NULL);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(pki_ca_create(path, cluster, &failure), 0);
    assert_int_equal(pki_ca_create(path, cluster, &failure), -EEXIST);
}

/* A node's directory with a certificate of that authority. */
static void node_make(const char *who, const char *authority, const char *cluster, uint32_t node, int64_t from,
                      int64_t until) {
    char path[128], signer[128], from_path[128], to_path[128];
    cleanup_free char *request = NULL, *certificate = NULL, *text = NULL;
    struct failure failure = {0};
    struct pki_identity identity = {.node = node};
    strcpy(identity.cluster, cluster);
    strcpy(identity.name, who);
    path_of(path, who, NULL);
    path_of(signer, authority, NULL);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(pki_request_create(path, &request, &failure), 0);
    int64_t now = time(NULL);
    assert_int_equal(pki_sign(signer, request, &identity, now + from, now + until, &certificate, &failure), 0);
    path_of(to_path, who, "node.crt");
    assert_int_equal(pki_file_write(to_path, certificate, strlen(certificate), 0644), 0);
    path_of(from_path, authority, "ca.crt");
    path_of(to_path, who, "ca.crt");
    assert_int_equal(pki_file_read(from_path, PKI_PEM_MAX, &text), 0);
    assert_int_equal(pki_file_write(to_path, text, strlen(text), 0644), 0);
}

static int setup(void **state) {
    assert_non_null(mkdtemp(root));
    authority_make("ca", "c1");
    authority_make("ca2", "c1"); /* of the same name: names prove nothing */
    node_make("a", "ca", "c1", 1, -DAY, DAY);
    node_make("b", "ca", "c1", 2, -DAY, DAY);
    node_make("old", "ca", "c1", 2, -2 * DAY, -DAY);
    node_make("future", "ca", "c1", 2, DAY, 2 * DAY);
    node_make("stranger", "ca2", "c1", 2, -DAY, DAY);
    node_make("other", "ca", "c2", 2, -DAY, DAY);
    return 0;
}

static int teardown(void **state) {
    char command[160];
    snprintf(command, sizeof command, "rm -rf -- %s", root);
    return system(command);
}

static struct tls *tls_of(const char *who) {
    char path[128];
    struct tls *tls;
    struct pki_identity self;
    struct failure failure = {0};
    path_of(path, who, NULL);
    assert_int_equal(tls_create(path, &tls, &self, &failure), 0);
    assert_string_equal(self.name, who);
    return tls;
}

/* ---- certificates ---- */

static void test_identity(void **state) {
    char path[128];
    struct pki_identity identity;
    struct failure failure = {0};
    path_of(path, "b", "node.crt");
    assert_int_equal(pki_identity_load(path, &identity, &failure), 0);
    assert_string_equal(identity.cluster, "c1");
    assert_string_equal(identity.name, "b");
    assert_int_equal(identity.node, 2);
    path_of(path, "ca", "ca.crt");
    assert_int_equal(pki_identity_load(path, &identity, &failure), -EBADMSG); /* no node's */
    path_of(path, "ca", "ca.key");
    assert_int_equal(pki_identity_load(path, &identity, &failure), -EBADMSG);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    path_of(path, "b", "node.key");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    uint8_t one[PKI_FINGERPRINT], two[PKI_FINGERPRINT];
    path_of(path, "ca", "ca.crt");
    assert_int_equal(pki_fingerprint(path, one, &failure), 0);
    path_of(path, "a", "ca.crt");
    assert_int_equal(pki_fingerprint(path, two, &failure), 0);
    assert_memory_equal(one, two, sizeof one);
}

static void test_sign_refuses(void **state) {
    char path[128], *certificate = NULL;
    cleanup_free char *request = NULL;
    struct failure failure = {0};
    struct pki_identity good = {.cluster = "c1", .name = "x", .node = 3}, bad = good;
    path_of(path, "spare", NULL);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(pki_request_create(path, &request, &failure), 0);
    assert_int_equal(pki_sign(path, request, &good, 0, 1, &certificate, &failure), -ENOENT); /* no authority here */
    path_of(path, "ca", NULL);
    bad.node = 385;
    assert_int_equal(pki_sign(path, request, &bad, 0, 1, &certificate, &failure), -EINVAL);
    bad = good;
    strcpy(bad.name, "a/2");
    assert_int_equal(pki_sign(path, request, &bad, 0, 1, &certificate, &failure), -EINVAL);
    assert_int_equal(pki_sign(path, "nonsense", &good, 0, 1, &certificate, &failure), -EINVAL);
    /* one bit wrong: the signature of the one who has the key does not fit any more */
    char *middle = request + strlen(request) / 2;
    *middle = *middle == 'A' ? 'B' : 'A';
    assert_int_equal(pki_sign(path, request, &good, 0, 1, &certificate, &failure), -EINVAL);
    assert_null(certificate);
}

/* ---- streams ---- */

struct both {
    struct tls *tls[2];
    struct stream stream[2]; /* 0 connects, 1 accepts */
    int result[2];
};

static void both_begin(struct both *both, const char *connector, const char *acceptor) {
    int fds[2];
    memset(both, 0, sizeof *both);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    both->tls[0] = tls_of(connector);
    both->tls[1] = tls_of(acceptor);
    for (int i = 0; i < 2; i++)
        assert_int_equal(stream_begin(&both->stream[i], fds[i], both->tls[i], i == 1), 0);
}

/* Both shake hands; who has done so reads, since a refusal may come later. */
static void both_shake(struct both *both) {
    for (int turns = 0; turns < 20; turns++)
        for (int i = 0; i < 2; i++) {
            char byte;
            if (both->result[i] == 0)
                both->result[i] = stream_handshake(&both->stream[i]);
            else if (both->result[i] == 1 && stream_read(&both->stream[i], &byte, 1) == -EPROTO)
                both->result[i] = -EPROTO;
        }
}

static void both_end(struct both *both) {
    for (int i = 0; i < 2; i++) {
        stream_end(&both->stream[i]);
        stream_end(&both->stream[i]);
        tls_destroy(both->tls[i]);
    }
}

static void expect_refused(const char *connector, const char *acceptor, const char *why_connector,
                           const char *why_acceptor) {
    struct both both;
    both_begin(&both, connector, acceptor);
    both_shake(&both);
    assert_int_equal(both.result[0], -EPROTO);
    assert_int_equal(both.result[1], -EPROTO);
    assert_string_equal(both.stream[0].why, why_connector);
    assert_string_equal(both.stream[1].why, why_acceptor);
    both_end(&both);
}

#define NOT_OURS "its certificate is not of this cluster's authority"
#define NOT_THEIRS "it refuses us: our certificate is not of its cluster's authority"

static void test_refused(void **state) {
    /* whoever finds it tells the other why */
    expect_refused("old", "a", "it refuses us: our certificate has expired", "its certificate has expired");
    expect_refused("a", "old", "its certificate has expired", "it refuses us: our certificate has expired");
    expect_refused("stranger", "a", NOT_OURS, NOT_THEIRS);
    expect_refused("a", "stranger", NOT_OURS, NOT_THEIRS);
    expect_refused("other", "a", "its certificate names no node of this cluster",
                   "it refuses us: our certificate names no node of its cluster");
    expect_refused("a", "future", "its certificate is not valid yet (are the clocks right?)",
                   "it refuses us: our certificate is not valid");
}

/* One that shows no certificate at all. */
static void test_no_certificate(void **state) {
    int fds[2];
    struct stream stream;
    struct tls *tls = tls_of("a");
    static const unsigned char alpn[] = "\x0a" TLS_ALPN_LINK;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(stream_begin(&stream, fds[1], tls, true), 0);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fds[0]);
    SSL_set_alpn_protos(ssl, alpn, sizeof alpn - 1);
    int result = 0;
    for (int turns = 0; turns < 20 && result == 0; turns++) {
        (void)SSL_connect(ssl);
        result = stream_handshake(&stream);
    }
    assert_int_equal(result, -EPROTO);
    assert_string_equal(stream.why, "it has no certificate");
    stream_end(&stream);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fds[0]);
    tls_destroy(tls);
}

/* Bytes that are no TLS; and an older version. */
static void test_no_tls(void **state) {
    for (int old = 0; old < 2; old++) {
        int fds[2];
        struct stream stream;
        struct tls *tls = tls_of("a");
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL *ssl = SSL_new(context);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_int_equal(stream_begin(&stream, fds[1], tls, true), 0);
        SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
        SSL_set_fd(ssl, fds[0]);
        if (old)
            (void)SSL_connect(ssl);
        else
            assert_int_equal(write(fds[0], "DVSP\1\0\1\0 and more", 17), 17);
        assert_int_equal(stream_handshake(&stream), -EPROTO);
        assert_true(strlen(stream.why) > 0);
        stream_end(&stream);
        SSL_free(ssl);
        SSL_CTX_free(context);
        close(fds[0]);
        tls_destroy(tls);
    }
}

/* Everything arrives, whatever the parts, through sockets that are full most of the time. */
/* In pieces of all lengths, through a socket that is full now and then. What was taken may change at once. */
static void bytes_go_through(bool ahead) {
    enum { TOTAL = 3 << 20 };
    struct both both;
    unsigned seed = 5;
    cleanup_free uint8_t *sent = malloc(TOTAL), *got = malloc(TOTAL), *shown = malloc(TOTAL);
    both_begin(&both, "a", "b");
    both_shake(&both);
    assert_int_equal(both.result[0], 1);
    assert_int_equal(both.result[1], 1);
    assert_false(stream_is_join(&both.stream[1]));
    struct pki_identity identity;
    assert_true(stream_identity(&both.stream[1], &identity));
    assert_int_equal(identity.node, 1);
    assert_true(strncmp(stream_cipher(&both.stream[0]), "TLS_", 4) == 0);
    for (size_t i = 0; i < TOTAL; i++)
        sent[i] = shown[i] = (uint8_t)rand_r(&seed);
    if (ahead)
        stream_read_ahead(&both.stream[1]);
    size_t out = 0, in = 0;
    unsigned full = 0, held = 0;
    while (in < TOTAL) {
        if (out < TOTAL) {
            struct iovec parts[4];
            size_t at = out;
            int count = 0;
            for (; count < 4 && at < TOTAL; count++) {
                size_t n = 1 + (size_t)rand_r(&seed) % 30000;
                n = n < TOTAL - at ? n : TOTAL - at;
                parts[count] = (struct iovec){shown + at, n};
                at += n;
            }
            ssize_t n = stream_write(&both.stream[0], parts, count);
            assert_true(n > 0 || n == -EAGAIN);
            memset(shown + out, 0xee, n > 0 ? (size_t)n : 0);
            out += n > 0 ? (size_t)n : 0;
            full += n == -EAGAIN;
            assert_true(n > 0 || stream_wants_out(&both.stream[0]));
        } else {
            int flushed = stream_flush(&both.stream[0]);
            assert_true(flushed == 0 || flushed == -EAGAIN);
        }
        if (rand_r(&seed) % 3 == 0 || out == TOTAL || stream_wants_out(&both.stream[0])) {
            size_t room = 1 + (size_t)rand_r(&seed) % 100000;
            ssize_t n = stream_read(&both.stream[1], got + in, room < TOTAL - in ? room : TOTAL - in);
            assert_true(n > 0 || n == -EAGAIN);
            in += n > 0 ? (size_t)n : 0;
            int left = -1;
            assert_int_equal(ioctl(both.stream[1].fd, FIONREAD, &left), 0);
            held += stream_has_more(&both.stream[1]) && left == 0;
        }
    }
    assert_true(full > 0);
    assert_true(held > 0 || !ahead); /* the socket does not tell of that */
    assert_false(stream_has_more(&both.stream[1]));
    assert_memory_equal(sent, got, TOTAL);
    uint8_t byte;
    stream_end(&both.stream[0]);
    assert_int_equal(stream_read(&both.stream[1], &byte, 1), 0);
    both_end(&both);
}

static void test_bytes(void **state) {
    bytes_go_through(false);
}

static void test_read_ahead(void **state) {
    bytes_go_through(true);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),       cmocka_unit_test(test_sign_refuses), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_certificate), cmocka_unit_test(test_no_tls),       cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_read_ahead),
    };
    return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
