/* SPDX-License-Identifier: Apache-2.0 */
#include "dvs/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct table {
    size_t columns, cells, capacity;
    char **cell; /* cells in rows; the titles are the first row */
    bool *right;
    bool failed; /* memory ran out */
};

static void cell_add(struct table *table, char *text) {
    if (table->cells == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 64;
        char **cell = realloc(table->cell, capacity * sizeof *cell);
        if (!cell) {
            table->failed = true;
            free(text);
            return;
        }
        table->cell = cell;
        table->capacity = capacity;
    }
    table->cell[table->cells++] = text;
}

struct table *table_create(const char *const *titles) {
    struct table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    while (titles[table->columns])
        table->columns++;
    table->right = calloc(table->columns, sizeof *table->right);
    if (!table->right)
        table->failed = true;
    for (size_t i = 0; i < table->columns && !table->failed; i++) {
        table->right[i] = titles[i][0] == '>';
        table_cell(table, "%s", titles[i] + table->right[i]);
    }
    return table;
}

void table_cell(struct table *table, const char *format, ...) {
    if (!table || table->failed)
        return;
    char *text;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        table->failed = true;
        return;
    }
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    cell_add(table, text);
}

/* Columns that UTF-8 text takes, one a code point. */
static size_t text_width(const char *text) {
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* Bytes of the first `width` code points. */
static size_t text_prefix(const char *text, size_t width) {
    size_t i = 0;
    for (; text[i]; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80 && width-- == 0)
            break;
    return i;
}

static size_t terminal_width(void) {
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return 0;
    return size.ws_col;
}

static void row_print(const struct table *table, size_t row, const size_t *widths, size_t limit) {
    size_t used = 0;
    for (size_t i = 0; i < table->columns; i++) {
        const char *text = table->cell[row * table->columns + i];
        size_t width = text_width(text), pad = widths[i] > width ? widths[i] - width : 0;
        bool last = i + 1 == table->columns;
        size_t room = limit && last ? (limit > used ? limit - used : 0) : SIZE_MAX;
        if (table->right[i])
            printf("%*s", (int)pad, "");
        printf("%.*s", (int)text_prefix(text, room), text);
        if (!last)
            printf("%*s", (int)(table->right[i] ? 2 : pad + 2), "");
        used += widths[i] + 2;
    }
    putchar('\n');
}

static void table_free(struct table *table) {
    for (size_t i = 0; i < table->cells; i++)
        free(table->cell[i]);
    free(table->cell);
    free(table->right);
    free(table);
}

int table_print(struct table *table) {
    if (!table)
        return -ENOMEM;
    size_t *widths = calloc(table->columns, sizeof *widths);
    int result = table->failed || !widths ? -ENOMEM : 0;
    if (result == 0) {
        for (size_t i = 0; i < table->cells; i++) {
            size_t width = text_width(table->cell[i]);
            if (width > widths[i % table->columns])
                widths[i % table->columns] = width;
        }
        size_t limit = terminal_width();
        for (size_t row = 0; row < table->cells / table->columns; row++)
            row_print(table, row, widths, limit);
        if (fflush(stdout) != 0)
            result = -EIO;
    }
    free(widths);
    table_free(table);
    return result;
}

int json_print(const json_t *json) {
    if (!json || json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
        return -EIO;
    putchar('\n');
    return fflush(stdout) == 0 ? 0 : -EIO;
}

const char *format_cpu_time(char buffer[static 32], long long time_ms) {
    long long seconds = time_ms / 1000;
    if (seconds >= 3600)
        snprintf(buffer, 32, "%lld:%02lld:%02lld", seconds / 3600, seconds / 60 % 60, seconds % 60);
    else
        snprintf(buffer, 32, "%lld:%02lld.%lld", seconds / 60, seconds % 60, time_ms / 100 % 10);
    return buffer;
}

const char *format_date(char buffer[static 32], long long seconds) {
    time_t when = (time_t)seconds;
    struct tm tm;
    if (seconds == 0 || !localtime_r(&when, &tm) || strftime(buffer, 32, "%F %T", &tm) == 0)
        snprintf(buffer, 32, "-");
    return buffer;
}

void table_cell_bytes(struct table *table, long long bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    table_cell(table, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}
