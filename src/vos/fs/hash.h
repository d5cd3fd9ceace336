/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing hash table with intrusive links. Owns only its bucket array. Keys need not be unique: a finder walks
 * from hash_first over hash_next and compares what it looks for itself.
 */
#ifndef FS_HASH_H
#define FS_HASH_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct hash_link {
    struct hash_link *next;
    uint64_t key;
};

struct hash {
    struct hash_link **buckets;
    size_t size, count; /* size: a power of two, or 0 */
};

#define hash_entry(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))

/* Mixes the bits of a key (the finalizer of splitmix64). */
static inline uint64_t hash_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* A key for a name below something (FNV-1a, seeded by `base`). */
static inline uint64_t hash_name(uint64_t base, const char *name) {
    uint64_t h = hash_mix(base + 0x9e3779b97f4a7c15ull);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
    return hash_mix(h);
}

static inline int hash_grow(struct hash *hash) {
    size_t size = hash->size ? hash->size * 2 : 64;
    struct hash_link **buckets = calloc(size, sizeof(*buckets));
    if (!buckets)
        return -ENOMEM;
    for (size_t i = 0; i < hash->size; i++)
        for (struct hash_link *l = hash->buckets[i], *next; l; l = next) {
            next = l->next;
            l->next = buckets[l->key & (size - 1)];
            buckets[l->key & (size - 1)] = l;
        }
    free(hash->buckets);
    hash->buckets = buckets;
    hash->size = size;
    return 0;
}

/* Adds a link. -ENOMEM only while the table has no buckets at all: later it merely gets slower. */
static inline int hash_insert(struct hash *hash, struct hash_link *link, uint64_t key) {
    if (hash->count >= hash->size && hash_grow(hash) < 0 && !hash->size)
        return -ENOMEM;
    link->key = key;
    link->next = hash->buckets[key & (hash->size - 1)];
    hash->buckets[key & (hash->size - 1)] = link;
    hash->count++;
    return 0;
}

static inline void hash_remove(struct hash *hash, struct hash_link *link) {
    for (struct hash_link **p = &hash->buckets[link->key & (hash->size - 1)]; *p; p = &(*p)->next)
        if (*p == link) {
            *p = link->next;
            hash->count--;
            return;
        }
}

static inline struct hash_link *hash_first(const struct hash *hash, uint64_t key) {
    struct hash_link *l = hash->size ? hash->buckets[key & (hash->size - 1)] : NULL;
    while (l && l->key != key)
        l = l->next;
    return l;
}

static inline struct hash_link *hash_next(const struct hash_link *link) {
    struct hash_link *l = link->next;
    while (l && l->key != link->key)
        l = l->next;
    return l;
}

#endif
