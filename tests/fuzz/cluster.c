/* SPDX-License-Identifier: Apache-2.0 */
/* What a node that wants to join sends or is given: a token, a request for a certificate; and corosync.conf as anybody edits it. */
#include "cluster/cluster.h"
#include "input.h"

#include <errno.h>

#define PEM_BEGIN "-----BEGIN CERTIFICATE REQUEST-----\n"
#define PEM_END "\n-----END CERTIFICATE REQUEST-----\n"

static void token(const char *text) {
    struct cluster_token token;
    char again[CLUSTER_TOKEN_MAX];
    if (!cluster_token_decode(text, &token))
        return;
    struct cluster_token back;
    cluster_token_encode(&token, again);
    MUST(cluster_token_decode(again, &back) && memcmp(&token, &back, sizeof token) == 0);
}

/* There is no key to sign with: a valid request ends with -ENOENT. */
static void request(const char *text) {
    struct pki_identity identity = {.cluster = "c", .name = "n", .node = 2};
    struct failure failure = {0};
    char *certificate = NULL;
    int result = pki_sign("/nonexistent", text, &identity, 0, 1, &certificate, &failure);
    MUST((result == -EINVAL || result == -ENOENT) && !certificate && failure.message[0]);
}

static void corosync(const char *text) {
    struct cluster_member members[4], change = {.id = 9, .name = "n", .address = "10.0.0.9"};
    int count = cluster_corosync_members(text, members, 4);
    char *more = cluster_corosync_edit(text, &change);
    MUST((count < 0) == (more == NULL));
    if (!more)
        return;
    int now = cluster_corosync_members(more, members, 4);
    MUST(now == count || now == count + 1); /* there was a node 9, or there is now */
    change.address[0] = '\0';
    char *less = cluster_corosync_edit(more, &change);
    MUST(less && (now == count || strcmp(less, text) == 0));
    free(more);
    free(less);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || memchr(data + 1, 0, size - 1))
        return 0;
    size_t len = size - 1;
    char *text = malloc(len + sizeof PEM_BEGIN + sizeof PEM_END);
    MUST(text);
    size_t at = data[0] % 4 == 3 ? sizeof PEM_BEGIN - 1 : 0;
    memcpy(text, PEM_BEGIN, at);
    memcpy(text + at, data + 1, len);
    strcpy(text + at + len, at ? PEM_END : "");
    switch (data[0] % 4) {
    case 0:
        token(text);
        break;
    case 1:
        corosync(text);
        break;
    default:
        request(text);
    }
    free(text);
    return 0;
}
