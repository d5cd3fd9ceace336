/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of names: what fs tells all guests of its cell without being asked, in memory that they can only read. Layout
 * version 1; written by fs alone (vos/fs/names.c), read by the personality (personality/fd/names.c). Freestanding.
 *
 * It holds names of directories that everyone may search and list, whose path everyone may search and list too: what a name
 * leads to, what attributes it has, that there is no such name, and whole listings. All of it is true: fs takes out what it is
 * about to change before the change is answered, and on a node that does not hold the writable layer there is only what a
 * lease covers. What is not here must be asked for; that says nothing about it.
 *
 * Readers. An entry is written whole before a bucket leads to it, and never changed but for `live`, which goes to 0 once. The same
 * holds for attributes, listings and link targets. Space is used again only when all is emptied: `sequence` is odd
 * meanwhile and another even number afterwards. So: read sequence; look up, with every offset checked against the size and
 * every chain for at most NAMES_CHAIN steps; copy; read sequence again: if it has changed, or was odd, ask fs instead.
 * What was live when it was looked at was true then.
 *
 * Directories have numbers, which are never used for another directory; a number can go out of use for good (live 0: ask),
 * and its directory get a new one. The root's is always NAMES_ROOT, and may come back.
 */
#ifndef VOS_NAMES_H
#define VOS_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define NAMES_MAGIC 0x31656d616e737664ull /* "dvsname1" */
#define NAMES_DIRS (1u << 20)             /* numbers are below */
#define NAMES_BUCKETS (1u << 18)
#define NAMES_CHAIN 64u
#define NAMES_ROOT 1u /* number of / */
#define NAMES_NAME_MAX 255u

struct names_header {
    uint64_t magic;
    uint64_t size;       /* of it all, bytes */
    uint64_t st_dev;     /* of all that is in it */
    uint32_t sequence;   /* atomic; odd: being emptied */
    uint32_t reserved[9];
};

/* Every field atomic by itself; offsets from the beginning of the table, 0: none. */
struct names_dir {
    uint32_t live;       /* may be used: found in, listed, left by ".." */
    uint32_t parent;     /* number; of the root: itself */
    uint32_t attributes; /* struct names_attributes */
    uint32_t listing;    /* struct names_listing */
};

struct names_attributes {
    uint64_t ino, size, blocks;
    int64_t atime_s, mtime_s, ctime_s, btime_s;
    uint32_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint32_t mode, uid, gid, nlink, blksize, pad;
};

/* What getdents64 gives, as fs gives it. */
struct names_listing {
    uint32_t length, pad;
    char entries[];
};

enum names_kind { NAMES_ABSENT = 1, NAMES_FILE, NAMES_LINK, NAMES_DIR };

struct names_entry {
    uint32_t next; /* atomic: offset of the next entry of the bucket */
    uint32_t hash;
    uint32_t dir;  /* number of the directory that it is a name in */
    uint32_t live; /* atomic */
    uint8_t kind, name_length;
    uint16_t target_length;    /* NAMES_LINK: the target lies behind the attributes, without NUL */
    uint32_t value;            /* NAMES_DIR: its number; NAMES_FILE, NAMES_LINK: offset of its attributes */
    uint64_t name[];           /* bytes, filled up with zeros */
};

#define NAMES_DIRS_AT 4096u
#define NAMES_BUCKETS_AT (NAMES_DIRS_AT + NAMES_DIRS * (uint32_t)sizeof(struct names_dir))
#define NAMES_ARENA_AT (NAMES_BUCKETS_AT + NAMES_BUCKETS * 4u)

_Static_assert(sizeof(struct names_header) == 64 && sizeof(struct names_dir) == 16 && sizeof(struct names_entry) == 24 &&
                   sizeof(struct names_attributes) == 96,
               "layout");

/* Eight bytes of a name of which `left` count; may read up to 7 bytes past its end. */
static inline uint64_t names_word(const char *at, size_t left) {
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    return left >= 8 ? word : word & ((1ull << (left * 8)) - 1);
}

static inline uint32_t names_hash(uint32_t dir, const char *name, size_t length) {
    uint64_t hash = dir * 0x9e3779b97f4a7c15ull + length;
    for (size_t i = 0; i < length; i += 8) {
        hash = (hash ^ names_word(name + i, length - i)) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 32;
    }
    return (uint32_t)(hash ^ hash >> 29);
}

static inline uint32_t names_words(uint32_t length) { return (length + 7) / 8; }

static inline struct names_dir *names_dirs(const struct names_header *table) {
    return (struct names_dir *)((uintptr_t)table + NAMES_DIRS_AT);
}
static inline uint32_t *names_buckets(const struct names_header *table) {
    return (uint32_t *)((uintptr_t)table + NAMES_BUCKETS_AT);
}
/* `length` bytes at an offset, or NULL when they are not all in the table. */
static inline void *names_at(const struct names_header *table, uint64_t size, uint32_t offset, uint64_t length) {
    return offset < NAMES_ARENA_AT || offset % 8 || offset + length > size ? NULL : (void *)((uintptr_t)table + offset);
}

#endif
