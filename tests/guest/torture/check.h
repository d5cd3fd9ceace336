/* SPDX-License-Identifier: Apache-2.0 */
/* For programs that run natively and as guests, and must say the same: a failed check tells where and ends the program. */
#ifndef TORTURE_CHECK_H
#define TORTURE_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
