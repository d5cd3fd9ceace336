/* SPDX-License-Identifier: Apache-2.0 */
/* dvs1/ADDRESS:PORT/EXPIRES/FINGERPRINT/SECRET, the last two in hexadecimal. */
#include "cluster/cluster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "dvs1/"

static char *hex_put(char *to, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        to += sprintf(to, "%02x", bytes[i]);
    return to;
}

static bool hex_get(const char *text, uint8_t *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 2 * len; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit)
            return false;
        uint8_t value = (uint8_t)(digit - digits);
        bytes[i / 2] = i % 2 ? (uint8_t)(bytes[i / 2] | value) : (uint8_t)(value << 4);
    }
    return true;
}

void cluster_token_encode(const struct cluster_token *token, char text[static CLUSTER_TOKEN_MAX]) {
    char *at = text + sprintf(text, PREFIX "%.63s/%" PRId64 "/", token->address, token->expires);
    at = hex_put(at, token->fingerprint, sizeof token->fingerprint);
    *at++ = '/';
    at = hex_put(at, token->secret, sizeof token->secret);
    *at = '\0';
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
    if (rest || !cluster_listen_valid(parts[0]) || *parts[1] < '0' || *parts[1] > '9' ||
        strlen(parts[2]) != 2 * PKI_FINGERPRINT || strlen(parts[3]) != 2 * CLUSTER_SECRET_BYTES)
        return false;
    errno = 0;
    out->expires = strtoll(parts[1], &end, 10);
    if (*end || errno)
        return false;
    strcpy(out->address, parts[0]);
    return hex_get(parts[2], out->fingerprint, sizeof out->fingerprint) &&
           hex_get(parts[3], out->secret, sizeof out->secret);
}
