/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table.h"

#include <errno.h>
#include <stdlib.h>

static size_t slot_of(const struct table *table, uint64_t key) {
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & (table->capacity - 1);
}

void table_free(struct table *table) {
    free(table->entries);
    *table = (struct table){0};
}

static struct table_entry *find(const struct table *table, uint64_t key) {
    size_t i = slot_of(table, key);
    while (table->entries[i].value && table->entries[i].key != key)
        i = (i + 1) & (table->capacity - 1);
    return &table->entries[i];
}

void *table_get(const struct table *table, uint64_t key) { return table->capacity ? find(table, key)->value : NULL; }

static int grow(struct table *table) {
    struct table bigger = {.capacity = table->capacity ? table->capacity * 2 : 16, .count = table->count};
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (!bigger.entries)
        return -ENOMEM;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].value)
            *find(&bigger, table->entries[i].key) = table->entries[i];
    free(table->entries);
    *table = bigger;
    return 0;
}

int table_set(struct table *table, uint64_t key, void *value) {
    /* at most three quarters full, so that find() always meets a free entry */
    if (table->count + 1 > table->capacity / 4 * 3) {
        int result = grow(table);
        if (result < 0)
            return result;
    }
    struct table_entry *entry = find(table, key);
    if (!entry->value)
        table->count++;
    *entry = (struct table_entry){key, value};
    return 0;
}

void *table_remove(struct table *table, uint64_t key) {
    if (!table->capacity)
        return NULL;
    struct table_entry *entry = find(table, key);
    void *value = entry->value;
    if (!value)
        return NULL;
    table->count--;
    /* close the gap: move back each follower whose own place does not lie between the gap and it */
    size_t mask = table->capacity - 1, gap = (size_t)(entry - table->entries), i = gap;
    for (;;) {
        i = (i + 1) & mask;
        if (!table->entries[i].value)
            break;
        size_t home = slot_of(table, table->entries[i].key);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            table->entries[gap] = table->entries[i];
            gap = i;
        }
    }
    table->entries[gap] = (struct table_entry){0};
    return value;
}

void *table_next(const struct table *table, size_t *cursor) {
    while (*cursor < table->capacity) {
        void *value = table->entries[(*cursor)++].value;
        if (value)
            return value;
    }
    return NULL;
}
