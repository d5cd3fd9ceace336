/* SPDX-License-Identifier: Apache-2.0 */
/* An error for people: a code for programs, one finished sentence, and a hint. */
#ifndef COMMON_FAILURE_H
#define COMMON_FAILURE_H

struct failure {
    char code[32];      /* e.g. "no-such-dc"; empty: no failure */
    char message[480];  /* what and why, no trailing full stop */
    char hint[160];     /* what to do about it; may be empty */
};

/*
 * Fill in *failure (may be NULL) and return `result`, so that callers can `return failure_set(...)`.
 * code: at most 31 bytes. hint: NULL for none. Longer texts are cut.
 */
int failure_set(struct failure *failure, int result, const char *code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
