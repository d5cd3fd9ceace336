/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people and JSON for programs. */
#ifndef DVS_OUTPUT_H
#define DVS_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct table;

/* A table with the given column titles (NULL-terminated; borrowed). A title that begins with '>' is right-aligned. */
struct table *table_create(const char *const *titles);
/* Add a cell to the current row, or begin the next one; printf format. The text may come from anywhere: control
 * characters are shown as '?'. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A number of bytes as people read it: "1.5 MiB". */
void table_cell_bytes(struct table *table, long long bytes);
/* Print with two spaces between columns. On a terminal the last column is cut to its width. Frees the table. 0 or -EIO.
 */
int table_print(struct table *table);

/* Print indented JSON and a newline. 0 or -EIO. */
int json_print(const json_t *json);

/* "12:34", "1:02:03": the time of ps. buffer of 32 bytes. */
const char *format_cpu_time(char buffer[static 32], long long time_ms);
/* "2026-11-21 10:00:05" local time, of seconds since 1970; "-" for 0. */
const char *format_date(char buffer[static 32], long long seconds);

#endif
