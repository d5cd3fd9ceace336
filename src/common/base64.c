/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *text) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (i + 2 < len ? bytes[i + 2] : 0);
        *text++ = digits[group >> 18];
        *text++ = digits[group >> 12 & 63];
        *text++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
        *text++ = i + 2 < len ? digits[group & 63] : '=';
    }
    *text = 0;
}

char *base64_text(const void *data, size_t len) {
    char *text = malloc(base64_len(len) + 1);
    if (text)
        base64_encode(data, len, text);
    return text;
}

/* 0..63, or -1. */
static int value_of(char c) {
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool base64_check(const char *text, size_t *len) {
    size_t text_len = strlen(text), padding = 0;
    if (text_len % 4)
        return false;
    while (padding < 2 && padding < text_len && text[text_len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text_len - padding; i++)
        if (value_of(text[i]) < 0)
            return false;
    *len = text_len / 4 * 3 - padding;
    return true;
}

void *base64_decode(const char *text, size_t *len) {
    if (!base64_check(text, len))
        return NULL;
    uint8_t *bytes = malloc(*len + 3);
    if (!bytes)
        return NULL;
    for (size_t out = 0; *text; text += 4) {
        uint32_t group = 0;
        for (int i = 0; i < 4; i++)
            group = group << 6 | (text[i] == '=' ? 0 : (uint32_t)value_of(text[i]));
        bytes[out++] = (uint8_t)(group >> 16);
        bytes[out++] = (uint8_t)(group >> 8);
        bytes[out++] = (uint8_t)group;
    }
    return bytes;
}
