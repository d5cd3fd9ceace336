/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table from 64-bit keys to pointers (open addressing, linear probing). Not thread safe. */
#ifndef COMMON_TABLE_H
#define COMMON_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_entry {
    uint64_t key;
    void *value; /* NULL: free */
};
/* A zeroed struct table is an empty one. */
struct table {
    struct table_entry *entries;
    size_t capacity; /* 0 or a power of two */
    size_t count;
};

void table_free(struct table *table);
/* The value, or NULL. */
void *table_get(const struct table *table, uint64_t key);
/* Add or replace. value is not NULL. 0 or -ENOMEM. */
int table_set(struct table *table, uint64_t key, void *value);
/* Remove; returns what was there, or NULL. */
void *table_remove(struct table *table, uint64_t key);
/* Walk: *cursor starts at 0; NULL at the end. The table must not change meanwhile. */
void *table_next(const struct table *table, size_t *cursor);

#endif
