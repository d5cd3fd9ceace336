/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the table of names (vos/names.h): paths that are resolved without a message. names_walk is pure; the rest says for a
 * struct place what the table knows of it.
 */
#ifndef FD_NAMES_H
#define FD_NAMES_H

#include "vos/names.h"
#include "vos/protocol.h"
#include <stdbool.h>

#define NAMES_ASK (-5001l) /* the table does not say: ask fs */

struct names_found {
    uint32_t kind;         /* enum names_kind, not NAMES_ABSENT */
    uint32_t number;       /* of a directory */
    uint32_t mode;         /* 0: its attributes are not known (a directory) */
    struct vos_stat *stat; /* in: where the attributes go, or NULL */
    char *target;          /* in: where a link's target goes, VOS_PATH_MAX bytes, or NULL */
    uint32_t target_length;
};

/*
 * Resolve text (which may be read up to 7 bytes past its end) from the directory `start`, or from the root if it begins with a
 * slash. follow: also a link at its end. 0, -ENOENT, -ENOTDIR (asm/errno.h), or NAMES_ASK.
 */
long names_walk(const struct names_header *table, uint32_t start, const char *text, bool follow, struct names_found *found);
/* A directory by its number. 0 or NAMES_ASK. */
long names_by_number(const struct names_header *table, uint32_t number, struct names_found *found);
/* Its listing: copies as much of it as has room, puts its whole length into *length. copy: returns 0 or negative errno. */
long names_list(const struct names_header *table, uint32_t number, void *to, size_t cap, uint32_t *length,
                long (*copy)(uint64_t to, const void *from, size_t len));

/* The table of this cell, or NULL; the same for all processes of an address space. */
extern const struct names_header *names_table;

#endif
