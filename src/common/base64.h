/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as text for JSON: base64 of RFC 4648, with padding. Pure. */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the text of len bytes, without a NUL. */
static inline size_t base64_len(size_t len) { return (len + 2) / 3 * 4; }
/* `text` has room for base64_len(len) + 1 bytes. */
void base64_encode(const void *data, size_t len, char *text);
/* A new text; NULL when there is no memory. */
char *base64_text(const void *data, size_t len);
/* Is it base64? Then *len is how many bytes it stands for. */
bool base64_check(const char *text, size_t *len);
/* The bytes of a text, which are new; NULL when it is no base64 or there is no memory. Never NULL for an empty one. */
void *base64_decode(const char *text, size_t *len);

#endif
