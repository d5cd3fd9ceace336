/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/pki.h"

#include "common/cleanup.h"

#include <dvk/endpoint.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define URI_SCHEME "dvs://"

#define CLEANUP_OPENSSL(type)                                                                                          \
    static inline void cleanup_##type(type **p) {                                                                      \
        type##_free(*p);                                                                                               \
    }
CLEANUP_OPENSSL(X509)
CLEANUP_OPENSSL(X509_REQ)
CLEANUP_OPENSSL(EVP_PKEY)
CLEANUP_OPENSSL(BIO)
#define OWNED(type) __attribute__((cleanup(cleanup_##type))) type

/* What OpenSSL says about its last failure. */
static int crypto_failed(struct failure *failure, const char *what) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    failure_set(failure, -EIO, "internal", NULL, "%s: %s", what, reason ? reason : "unknown error");
    ERR_clear_error();
    return -EIO;
}

bool pki_name_valid(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > PKI_NAME_MAX || !strchr("abcdefghijklmnopqrstuvwxyz0123456789", name[0]))
        return false;
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-")] == '\0';
}

/* ---- files ---- */

int pki_file_write(const char *path, const void *bytes, size_t len, unsigned mode) {
    char new_path[PATH_MAX];
    if (snprintf(new_path, sizeof new_path, "%s.new", path) >= (int)sizeof new_path)
        return -ENAMETOOLONG;
    if (unlink(new_path) < 0 && errno != ENOENT) /* left by one that was interrupted */
        return -errno;
    cleanup_close int fd = open(new_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)bytes + at, len - at);
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(new_path, path) < 0)
        return -errno;
    return 0;
}

int pki_file_read(const char *path, size_t max, char **text) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cleanup_free char *buffer = malloc(max + 1);
    if (!buffer)
        return -ENOMEM;
    size_t len = 0;
    for (ssize_t n; len <= max && (n = read(fd, buffer + len, max + 1 - len)) != 0;) {
        if (n < 0 && errno != EINTR)
            return -errno;
        len += n > 0 ? (size_t)n : 0;
    }
    if (len > max)
        return -EFBIG;
    buffer[len] = '\0';
    *text = steal_ptr(&buffer);
    return 0;
}

static void file_path(char path[static PATH_MAX], const char *directory, const char *name) {
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
}

/* The contents of a memory BIO, NUL-terminated; NULL without memory. */
static char *bio_text(BIO *bio) {
    char *bytes;
    long len = BIO_get_mem_data(bio, &bytes);
    return len < 0 ? NULL : strndup(bytes, (size_t)len);
}

static int file_failed(struct failure *failure, int result, const char *what, const char *path) {
    return failure_set(failure, result, "internal", NULL, "cannot %s %s: %s", what, path, strerror(-result));
}

static int key_save(EVP_PKEY *key, const char *directory, const char *name, struct failure *failure) {
    char path[PATH_MAX], *bytes;
    OWNED(BIO) *bio = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return crypto_failed(failure, "cannot encode a key");
    long len = BIO_get_mem_data(bio, &bytes);
    file_path(path, directory, name);
    int result = pki_file_write(path, bytes, (size_t)len, 0600);
    return result < 0 ? file_failed(failure, result, "write", path) : 0;
}

static int text_save(const char *text, const char *directory, const char *name, struct failure *failure) {
    char path[PATH_MAX];
    file_path(path, directory, name);
    int result = pki_file_write(path, text, strlen(text), 0644);
    return result < 0 ? file_failed(failure, result, "write", path) : 0;
}

static X509 *certificate_load(const char *path, struct failure *failure) {
    cleanup_free char *text = NULL;
    int result = pki_file_read(path, PKI_PEM_MAX, &text);
    if (result < 0) {
        file_failed(failure, result, "read", path);
        return NULL;
    }
    OWNED(BIO) *bio = BIO_new_mem_buf(text, -1);
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (!certificate) {
        ERR_clear_error();
        failure_set(failure, -EBADMSG, "damaged", NULL, "%s is no certificate", path);
    }
    return certificate;
}

static EVP_PKEY *key_load(const char *path, struct failure *failure) {
    cleanup_free char *text = NULL;
    int result = pki_file_read(path, PKI_PEM_MAX, &text);
    if (result < 0) {
        file_failed(failure, result, "read", path);
        return NULL;
    }
    OWNED(BIO) *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    explicit_bzero(text, strlen(text));
    if (!key) {
        ERR_clear_error();
        failure_set(failure, -EBADMSG, "damaged", NULL, "%s is no key", path);
    }
    return key;
}

/* ---- certificates ---- */

static bool extension_add(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool name_set(X509_NAME *name, const char *organization, const char *common) {
    return X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, (const unsigned char *)organization,
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)common, -1, -1, 0) ==
               1;
}

/* Version 3, a random serial number, the times. NULL: failed. */
static X509 *certificate_new(int64_t from, int64_t until) {
    X509 *certificate = X509_new();
    unsigned char serial[16];
    BIGNUM *number = NULL;
    bool done = certificate && RAND_bytes(serial, sizeof serial) == 1;
    serial[0] = done ? (serial[0] & 0x7f) | 0x40 : 0;
    done = done && (number = BN_bin2bn(serial, sizeof serial, NULL)) != NULL &&
           BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL &&
           X509_set_version(certificate, X509_VERSION_3) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)from) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)until) != NULL;
    BN_free(number);
    if (done)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static char *certificate_text(X509 *certificate) {
    OWNED(BIO) *bio = BIO_new(BIO_s_mem());
    return bio && PEM_write_bio_X509(bio, certificate) == 1 ? bio_text(bio) : NULL;
}

int pki_ca_create(const char *directory, const char *cluster, struct failure *failure) {
    char path[PATH_MAX];
    int64_t now = time(NULL);
    file_path(path, directory, "ca.crt");
    if (access(path, F_OK) == 0)
        return failure_set(failure, -EEXIST, "name-taken", "it belongs to a cluster already",
                           "there is a certificate authority in %s already", directory);
    OWNED(EVP_PKEY) *key = EVP_EC_gen("P-256");
    OWNED(X509) *certificate = certificate_new(now - PKI_SKEW_S, now + PKI_VALID_DAYS * 86400ll);
    if (!key || !certificate || !name_set(X509_get_subject_name(certificate), cluster, "dvs cluster authority") ||
        X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) != 1 ||
        X509_set_pubkey(certificate, key) != 1 ||
        !extension_add(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !extension_add(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !extension_add(certificate, certificate, NID_subject_key_identifier, "hash") ||
        X509_sign(certificate, key, EVP_sha256()) == 0)
        return crypto_failed(failure, "cannot make the cluster's certificate authority");
    cleanup_free char *text = certificate_text(certificate);
    if (!text)
        return crypto_failed(failure, "cannot make the cluster's certificate authority");
    int result = key_save(key, directory, "ca.key", failure);
    return result < 0 ? result : text_save(text, directory, "ca.crt", failure);
}

int pki_request_create(const char *directory, char **request, struct failure *failure) {
    OWNED(EVP_PKEY) *key = EVP_EC_gen("P-256");
    OWNED(X509_REQ) *csr = X509_REQ_new();
    OWNED(BIO) *bio = BIO_new(BIO_s_mem());
    if (!key || !csr || !bio || X509_REQ_set_version(csr, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(csr, key) != 1 || X509_REQ_sign(csr, key, EVP_sha256()) == 0 ||
        PEM_write_bio_X509_REQ(bio, csr) != 1 || !(*request = bio_text(bio)))
        return crypto_failed(failure, "cannot make a key");
    int result = key_save(key, directory, "node.key", failure);
    if (result < 0) {
        free(*request);
        *request = NULL;
    }
    return result;
}

static X509_REQ *request_read(const char *text) {
    OWNED(BIO) *bio = strlen(text) <= PKI_PEM_MAX ? BIO_new_mem_buf(text, -1) : NULL;
    X509_REQ *request = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = request ? X509_REQ_get0_pubkey(request) : NULL;
    /* one kind of key: what others could be offered is not for the one who asks to choose */
    char group[32] = "";
    bool good = key && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
                strcmp(group, "prime256v1") == 0 && X509_REQ_verify(request, key) == 1;
    ERR_clear_error();
    if (good)
        return request;
    X509_REQ_free(request);
    return NULL;
}

int pki_sign(const char *directory, const char *request, const struct pki_identity *identity, int64_t from,
             int64_t until, char **certificate, struct failure *failure) {
    char path[PATH_MAX], uri[2 * PKI_NAME_MAX + 40];
    if (!pki_name_valid(identity->cluster) || !pki_name_valid(identity->name) || identity->node < 1 ||
        identity->node > DVK_MAX_NODE)
        return failure_set(failure, -EINVAL, "bad-request", NULL, "that is no valid name of a node");
    OWNED(X509_REQ) *csr = request_read(request);
    if (!csr)
        return failure_set(failure, -EINVAL, "bad-request", NULL, "the request for a certificate is not valid");
    file_path(path, directory, "ca.key");
    if (access(path, F_OK) < 0)
        return failure_set(failure, -ENOENT, "unavailable", "ask the node where dvs cluster init was run",
                           "the key of the cluster's certificate authority is not on this node");
    OWNED(EVP_PKEY) *key = key_load(path, failure);
    file_path(path, directory, "ca.crt");
    OWNED(X509) *authority = key ? certificate_load(path, failure) : NULL;
    if (!key || !authority)
        return -EIO;
    snprintf(uri, sizeof uri, "URI:" URI_SCHEME "%s/%u/%s", identity->cluster, identity->node, identity->name);
    OWNED(X509) *made = certificate_new(from, until);
    if (!made || !name_set(X509_get_subject_name(made), identity->cluster, identity->name) ||
        X509_set_issuer_name(made, X509_get_subject_name(authority)) != 1 ||
        X509_set_pubkey(made, X509_REQ_get0_pubkey(csr)) != 1 ||
        !extension_add(made, authority, NID_basic_constraints, "critical,CA:FALSE") ||
        !extension_add(made, authority, NID_key_usage, "critical,digitalSignature") ||
        !extension_add(made, authority, NID_ext_key_usage, "serverAuth,clientAuth") ||
        !extension_add(made, authority, NID_subject_alt_name, uri) ||
        !extension_add(made, authority, NID_authority_key_identifier, "keyid") ||
        X509_sign(made, key, EVP_sha256()) == 0 || !(*certificate = certificate_text(made)))
        return crypto_failed(failure, "cannot sign a certificate");
    return 0;
}

int pki_node_create(const char *directory, const char *authority_directory, const struct pki_identity *identity,
                    struct failure *failure) {
    cleanup_free char *request = NULL, *certificate = NULL, *authority = NULL;
    char path[PATH_MAX];
    int64_t now = time(NULL);
    file_path(path, authority_directory, "ca.crt");
    int result = pki_file_read(path, PKI_PEM_MAX, &authority);
    if (result < 0)
        return file_failed(failure, result, "read", path);
    result = pki_request_create(directory, &request, failure);
    if (result == 0)
        result = pki_sign(authority_directory, request, identity, now - PKI_SKEW_S, now + PKI_VALID_DAYS * 86400ll,
                          &certificate, failure);
    if (result == 0)
        result = text_save(certificate, directory, "node.crt", failure);
    return result < 0 ? result : text_save(authority, directory, "ca.crt", failure);
}

int pki_fingerprint(const char *path, uint8_t out[static PKI_FINGERPRINT], struct failure *failure) {
    unsigned len = 0;
    OWNED(X509) *certificate = certificate_load(path, failure);
    if (!certificate)
        return -EBADMSG;
    if (X509_digest(certificate, EVP_sha256(), out, &len) != 1 || len != PKI_FINGERPRINT)
        return crypto_failed(failure, "cannot compute a fingerprint");
    return 0;
}

/* ---- identities ---- */

/* dvs://CLUSTER/ID/NAME, and nothing else. */
static bool uri_read(const char *text, size_t len, struct pki_identity *out) {
    char copy[2 * PKI_NAME_MAX + 40], *end;
    if (len >= sizeof copy || memchr(text, 0, len) || len < sizeof URI_SCHEME - 1 ||
        memcmp(text, URI_SCHEME, sizeof URI_SCHEME - 1) != 0)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *cluster = copy + sizeof URI_SCHEME - 1, *number = strchr(cluster, '/');
    char *name = number ? strchr(number + 1, '/') : NULL;
    if (!name)
        return false;
    *number++ = *name++ = '\0';
    if (*number < '1' || *number > '9' || !pki_name_valid(cluster) || !pki_name_valid(name))
        return false;
    unsigned long node = strtoul(number, &end, 10);
    if (*end || node > DVK_MAX_NODE)
        return false;
    *out = (struct pki_identity){.node = (uint32_t)node};
    strcpy(out->cluster, cluster);
    strcpy(out->name, name);
    return true;
}

bool pki_identity_read(X509 *certificate, struct pki_identity *out) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    if (sk_GENERAL_NAME_num(names) == 1) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
        if (name->type == GEN_URI)
            found = uri_read((const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                             (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier), out);
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return found;
}

int pki_identity_load(const char *path, struct pki_identity *out, struct failure *failure) {
    OWNED(X509) *certificate = certificate_load(path, failure);
    if (!certificate)
        return -EBADMSG;
    if (!pki_identity_read(certificate, out))
        return failure_set(failure, -EBADMSG, "damaged", NULL, "%s is no node's certificate", path);
    return 0;
}
