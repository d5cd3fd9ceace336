/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of names, read. Nothing here trusts what it reads before the sequence number has been seen unchanged: until then
 * an offset may lead anywhere in the table, but not out of it, and every loop is bounded.
 */
#include "personality/fd/names.h"

#include "personality/fd/abi.h"
#include <stddef.h>

const struct names_header *names_table;

#define LINKS_MAX 40 /* more are fs's to refuse */

/* Acquire: pairs with fs's release stores; what a value leads to was written before it. */
static inline uint32_t get(const uint32_t *field) {
    return __atomic_load_n(field, __ATOMIC_ACQUIRE);
}

static inline uint32_t sequence_begin(const struct names_header *table) {
    return get(&table->sequence);
}

/* All that was read since sequence_begin gave this is good. */
static inline bool sequence_good(const struct names_header *table, uint32_t sequence) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return !(sequence & 1) && __atomic_load_n(&table->sequence, __ATOMIC_RELAXED) == sequence;
}

static inline const struct names_dir *directory(const struct names_header *table, uint32_t number) {
    const struct names_dir *dir = number && number < NAMES_DIRS ? &names_dirs(table)[number] : NULL;
    return dir && get(&dir->live) ? dir : NULL;
}

static bool same_name(const struct names_entry *entry, const char *name, size_t length) {
    for (size_t i = 0; i < length; i += 8)
        if (entry->name[i / 8] != names_word(name + i, length - i))
            return false;
    return true;
}

static const struct names_entry *find(const struct names_header *table, uint64_t size, uint32_t number, const char *name,
                                      size_t length) {
    uint32_t hash = names_hash(number, name, length);
    uint64_t whole = sizeof(struct names_entry) + names_words((uint32_t)length) * 8ull;
    uint32_t at = get(&names_buckets(table)[hash % NAMES_BUCKETS]);
    for (unsigned steps = 0; at && steps <= NAMES_CHAIN; steps++) {
        const struct names_entry *entry = names_at(table, size, at, whole);
        if (!entry)
            return NULL;
        if (entry->hash == hash && entry->dir == number && entry->name_length == length && same_name(entry, name, length))
            return get(&entry->live) ? entry : NULL;
        at = get(&entry->next);
    }
    return NULL;
}

static bool take_attributes(const struct names_header *table, uint64_t size, uint32_t offset, struct names_found *found) {
    const struct names_attributes *from = names_at(table, size, offset, sizeof(*from));
    found->mode = 0;
    if (!from)
        return false;
    found->mode = from->mode;
    struct vos_stat *to = found->stat;
    if (!to)
        return true;
    *to = (struct vos_stat){
        .st_dev = table->st_dev,
        .st_ino = from->ino,
        .st_nlink = from->nlink,
        .st_mode = from->mode,
        .st_uid = from->uid,
        .st_gid = from->gid,
        .st_size = (int64_t)from->size,
        .st_blksize = from->blksize,
        .st_blocks = (int64_t)from->blocks,
        .st_atime_s = from->atime_s,
        .st_atime_ns = from->atime_ns,
        .st_mtime_s = from->mtime_s,
        .st_mtime_ns = from->mtime_ns,
        .st_ctime_s = from->ctime_s,
        .st_ctime_ns = from->ctime_ns,
        .btime_s = from->btime_s,
        .btime_ns = from->btime_ns,
    };
    return true;
}

static bool take_directory(const struct names_header *table, uint64_t size, uint32_t number, struct names_found *found) {
    const struct names_dir *dir = directory(table, number);
    if (!dir)
        return false;
    found->kind = NAMES_DIR;
    found->number = number;
    (void)take_attributes(table, size, get(&dir->attributes), found);
    return true;
}

/* A link's target, which lies behind its attributes, into to (cap bytes; no NUL). Its length, 0 when there is none. */
static uint32_t take_target(const struct names_header *table, uint64_t size, const struct names_entry *entry, char *to,
                            size_t cap) {
    uint32_t length = entry->target_length;
    const char *from = names_at(table, size, entry->value, sizeof(struct names_attributes) + (uint64_t)length);
    if (!from || length > cap)
        return 0;
    __builtin_memcpy(to, from + sizeof(struct names_attributes), length);
    return length;
}

struct walk {
    const struct names_header *table;
    uint64_t size;
    uint32_t current; /* number */
    const char *rest;
    unsigned links;
    char buffer[VOS_PATH_MAX + 8]; /* where `rest` is after a link */
};

static bool follow_link(struct walk *walk, const struct names_entry *entry) {
    size_t length = 0, rest = 0;
    while (walk->rest[rest])
        rest++;
    if (++walk->links > LINKS_MAX || rest + 1 >= VOS_PATH_MAX)
        return false;
    length = entry->target_length;
    if (!length || length > VOS_PATH_MAX - rest - 1)
        return false;
    __builtin_memmove(walk->buffer + length, walk->rest, rest + 1);
    if (take_target(walk->table, walk->size, entry, walk->buffer, length) != length)
        return false;
    walk->rest = walk->buffer;
    if (walk->buffer[0] == '/')
        walk->current = NAMES_ROOT;
    return true;
}

static long walk_path(struct walk *walk, bool follow, struct names_found *found) {
    for (;;) {
        while (*walk->rest == '/')
            walk->rest++;
        const struct names_dir *dir = directory(walk->table, walk->current);
        if (!dir)
            return NAMES_ASK;
        if (!*walk->rest)
            break;
        const char *name = walk->rest;
        size_t length = 0;
        while (name[length] && name[length] != '/')
            length++;
        if (length > NAMES_NAME_MAX)
            return NAMES_ASK;
        walk->rest = name + length;
        if (name[0] == '.' && length == 1)
            continue;
        if (name[0] == '.' && name[1] == '.' && length == 2) {
            walk->current = get(&dir->parent);
            continue;
        }
        const struct names_entry *entry = find(walk->table, walk->size, walk->current, name, length);
        if (!entry)
            return NAMES_ASK;
        bool slash = *walk->rest == '/';
        const char *after = walk->rest;
        while (*after == '/')
            after++;
        switch (entry->kind) {
        case NAMES_ABSENT:
            return -ENOENT;
        case NAMES_DIR:
            walk->current = entry->value;
            break;
        case NAMES_LINK:
            if (*after || follow || slash) {
                if (!follow_link(walk, entry))
                    return NAMES_ASK;
                break;
            }
            /* fall through */
        case NAMES_FILE:
            if (slash)
                return -ENOTDIR;
            found->kind = entry->kind;
            if (!take_attributes(walk->table, walk->size, entry->value, found))
                return NAMES_ASK;
            if (entry->kind == NAMES_LINK && found->target) {
                found->target_length = take_target(walk->table, walk->size, entry, found->target, VOS_PATH_MAX);
                if (!found->target_length)
                    return NAMES_ASK;
            }
            return 0;
        default:
            return NAMES_ASK;
        }
    }
    return take_directory(walk->table, walk->size, walk->current, found) ? 0 : NAMES_ASK;
}

long names_walk(const struct names_header *table, uint32_t start, const char *text, bool follow, struct names_found *found) {
    struct walk walk;
    uint32_t sequence = sequence_begin(table);
    walk.table = table;
    walk.size = table->size;
    walk.current = *text == '/' ? NAMES_ROOT : start;
    walk.rest = text;
    walk.links = 0;
    found->number = found->target_length = 0;
    long result = walk_path(&walk, follow, found);
    return sequence_good(table, sequence) ? result : NAMES_ASK;
}

long names_by_number(const struct names_header *table, uint32_t number, struct names_found *found) {
    uint32_t sequence = sequence_begin(table);
    found->target_length = 0;
    bool known = take_directory(table, table->size, number, found);
    return known && sequence_good(table, sequence) ? 0 : NAMES_ASK;
}

long names_list(const struct names_header *table, uint32_t number, void *to, size_t cap, uint32_t *length,
                long (*copy)(uint64_t to, const void *from, size_t len)) {
    uint32_t sequence = sequence_begin(table);
    uint64_t size = table->size;
    const struct names_dir *dir = directory(table, number);
    uint32_t offset = dir ? get(&dir->listing) : 0;
    const struct names_listing *listing = names_at(table, size, offset, sizeof(*listing));
    if (!listing)
        return NAMES_ASK;
    uint32_t whole = listing->length;
    if (!names_at(table, size, offset, sizeof(*listing) + (uint64_t)whole))
        return NAMES_ASK;
    *length = whole;
    if (whole <= cap) {
        long result = copy((uint64_t)to, listing->entries, whole);
        if (result < 0)
            return result;
    }
    return sequence_good(table, sequence) ? 0 : NAMES_ASK;
}
