/* SPDX-License-Identifier: Apache-2.0 */
#include "common/failure.h"

#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *failure, int result, const char *code, const char *hint, const char *format, ...) {
    if (!failure)
        return result;
    snprintf(failure->code, sizeof failure->code, "%s", code);
    snprintf(failure->hint, sizeof failure->hint, "%s", hint ? hint : "");
    va_list args;
    va_start(args, format);
    vsnprintf(failure->message, sizeof failure->message, format, args);
    va_end(args);
    return result;
}
