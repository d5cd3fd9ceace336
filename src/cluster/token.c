/* SPDX-License-Identifier: Apache-2.0 */
/* dvs1/ADDRESS:PORT/EXPIRES/FINGERPRINT/SECRET, the last two in hexadecimal. */
#include "cluster/cluster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "dvs1/"

void cluster_hex_encode(const uint8_t *bytes, size_t len, char *text) {
    for (size_t i = 0; i < len; i++)
        sprintf(text + 2 * i, "%02x", bytes[i]);
}

bool cluster_hex_decode(const char *text, uint8_t *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    if (strlen(text) != 2 * len)
        return false;
    for (size_t i = 0; i < 2 * len; i++) {
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return false;
        uint8_t value = (uint8_t)(digit - digits);
        bytes[i / 2] = i % 2 ? (uint8_t)(bytes[i / 2] | value) : (uint8_t)(value << 4);
    }
    return true;
}

void cluster_token_encode(const struct cluster_token *token, char text[static CLUSTER_TOKEN_MAX]) {
    char fingerprint[2 * PKI_FINGERPRINT + 1], secret[2 * CLUSTER_SECRET_BYTES + 1];
    cluster_hex_encode(token->fingerprint, PKI_FINGERPRINT, fingerprint);
    cluster_hex_encode(token->secret, CLUSTER_SECRET_BYTES, secret);
    snprintf(text, CLUSTER_TOKEN_MAX, PREFIX "%s/%" PRId64 "/%s/%s", token->address, token->expires, fingerprint, secret);
}

bool cluster_token_decode(const char *text, struct cluster_token *out) {
    char copy[CLUSTER_TOKEN_MAX], *parts[4], *rest = copy, *end;
    *out = (struct cluster_token){0};
    if (strlen(text) >= sizeof copy || strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return false;
    strcpy(copy, text + strlen(PREFIX));
    for (int i = 0; i < 4; i++)
        if (!(parts[i] = strsep(&rest, "/")))
            return false;
    if (rest || !cluster_listen_valid(parts[0]) || *parts[1] < '0' || *parts[1] > '9')
        return false;
    errno = 0;
    out->expires = strtoll(parts[1], &end, 10);
    if (*end || errno)
        return false;
    strcpy(out->address, parts[0]);
    return cluster_hex_decode(parts[2], out->fingerprint, sizeof out->fingerprint) &&
           cluster_hex_decode(parts[3], out->secret, sizeof out->secret);
}
