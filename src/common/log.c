/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include "common/record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char log_name[64] = "dvs";
static enum log_level current_level = LOG_LEVEL_INFO;
static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_init(const char *name) {
    snprintf(log_name, sizeof log_name, "%s", name);
    const char *wanted = getenv("DVS_LOG");
    for (unsigned i = 0; wanted && i < 4; i++)
        if (strcmp(wanted, level_names[i]) == 0)
            current_level = (enum log_level)i;
}

enum log_level log_level(void) { return current_level; }

void log_write(enum log_level level, const char *format, ...) {
    if (level > current_level)
        return;
    int saved = errno;
    char line[2048];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t used = strftime(line, sizeof line, "%FT%T", &tm);
    int n = snprintf(line + used, sizeof line - used, ".%03ldZ %s %s ", now.tv_nsec / 1000000, log_name,
                     level_names[level]);
    if (n > 0)
        used += (size_t)n;
    const char *text = line + used;
    va_list args;
    va_start(args, format);
    errno = saved; /* for %m */
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    record_text(RECORD_LOG, 0, 0, 0, 0, text);
    if (n > 0)
        used += (size_t)n;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0) {
        /* nowhere to say it */
    }
    errno = saved;
}
