/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging for daemons: one line a call to standard error, "TIME NAME LEVEL text". Thread safe, never fails,
 * keeps errno.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* name: shown in each line, e.g. "dvkd[a]". The level comes from $DVS_LOG (error, warning, info, debug); info. */
void log_init(const char *name);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum log_level log_level(void);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                                 \
    do {                                                                                                               \
        if (log_level() >= LOG_LEVEL_DEBUG)                                                                            \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                                   \
    } while (0)

#endif
