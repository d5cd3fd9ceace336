/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of names (vos/names.h): what this cell's guests may know without asking. Written here and nowhere else; what is
 * to be written, and what is no longer true, the rest of fs says as it meets it.
 *
 * What may stand in it. On the primary: anything of the tree whose path everyone may search and list, but attributes of
 * objects of the image only (those of the writable layer change under the guests' own hands). Elsewhere: what a lease covers, and
 * the directories above it, which everyone may search and list (see lease.c). Mount points never.
 *
 * Entries are only added. What is no longer true is marked so and taken out of its bucket; its space is lost until all is
 * emptied, which happens when the table is full.
 */
#include "vos/names.h"
#include "vos/fs/fs.h"

#include <string.h>
#include <sys/mman.h>

#define TABLE_BYTES (64u << 20)
#define LISTING_MAX (256u << 10) /* longer ones are asked for */
#define FILL_MAX 4096u           /* names that one request looks at in advance */

struct names {
    struct names_header *table;
    int fd;
    uint32_t used;    /* of the table, bytes */
    uint32_t numbers; /* given so far */
    struct tree_dir *dir[NAMES_DIRS];
    uint32_t older[NAMES_DIRS]; /* that the same directory had before; 0: none */
};

/* Orders the writing of an entry before what leads to it; pairs with the readers' acquire loads. */
static void set(uint32_t *field, uint32_t value) { __atomic_store_n(field, value, __ATOMIC_RELEASE); }

static struct names_dir *record(struct names *names, uint32_t number) { return &names_dirs(names->table)[number]; }

/* ---- life ---- */

static void table_empty(struct names *names) {
    struct names_header *table = names->table;
    __atomic_store_n(&table->sequence, table->sequence + 1, __ATOMIC_SEQ_CST);
    for (uint32_t i = 1; i <= names->numbers; i++) {
        set(&record(names, i)->attributes, 0);
        set(&record(names, i)->listing, 0);
        if (names->dir[i])
            names->dir[i]->filled = false;
    }
    memset(names_buckets(table), 0, NAMES_BUCKETS * sizeof(uint32_t));
    names->used = NAMES_ARENA_AT;
    __atomic_store_n(&table->sequence, table->sequence + 1, __ATOMIC_SEQ_CST);
}

int names_start(struct fs *fs) {
    struct names *names = calloc(1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    fs->names = names;
    names->fd = memfd_create("dvs-names", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (names->fd < 0 || ftruncate(names->fd, TABLE_BYTES) < 0)
        return -errno;
    void *at = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, names->fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    names->table = at;
    /* Only this mapping can write it from now on. */
    if (fcntl(names->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    *names->table = (struct names_header){.magic = NAMES_MAGIC, .size = TABLE_BYTES, .st_dev = FS_DEV_TREE};
    names->used = NAMES_ARENA_AT;
    return 0;
}

void names_stop(struct fs *fs) {
    if (!fs->names)
        return;
    if (fs->names->table)
        munmap(fs->names->table, TABLE_BYTES);
    if (fs->names->fd >= 0)
        close(fs->names->fd);
    free(fs->names);
    fs->names = NULL;
}

int names_fd(struct fs *fs) {
    int fd = fcntl(fs->names->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* ---- directories ---- */

static bool open_to_all(uint32_t mode) { return (mode & 0555) == 0555; }

/* May everyone know what is in this directory, if they know the way to it, and does this node know it? */
static bool dir_public(struct fs *fs, struct tree_dir *dir) {
    if (dir->removed)
        return false;
    if (fs->primary)
        return open_to_all(dir->mode);
    if (lease_covers(fs, dir, NULL))
        return dir->image == IMAGE_PRESENT && open_to_all(dir->mode);
    return dir->leases > 0;
}

/* It has a number, and what the host does to it has been watched since. */
static bool is_ready(struct fs *fs, const struct tree_dir *dir) {
    return dir->number && record(fs->names, dir->number)->live && (dir->wd || dir->image != IMAGE_PRESENT);
}

/* The same, but what was just found out about it may be older than the watch: so only the next time. */
static uint32_t ready_number(struct fs *fs, struct tree_dir *dir) {
    bool ready = is_ready(fs, dir);
    uint32_t number = names_number(fs, dir);
    return ready ? number : 0;
}

uint32_t names_number(struct fs *fs, struct tree_dir *dir) {
    struct names *names = fs->names;
    if (is_ready(fs, dir))
        return dir->number;
    if (!dir_public(fs, dir) || (dir->image == IMAGE_PRESENT && !watch_dir(fs, dir)))
        return 0;
    if (dir->number) { /* it is watched only now; or the root, that was closed */
        set(&record(names, dir->number)->live, 1);
        return dir->number;
    }
    /* The root is the first one met: every path begins there. */
    uint32_t parent = dir->parent ? names_number(fs, dir->parent) : NAMES_ROOT;
    if (!parent || names->numbers + 1 >= NAMES_DIRS)
        return 0;
    uint32_t number = ++names->numbers;
    names->dir[number] = dir;
    names->older[number] = dir->numbers;
    dir->number = dir->numbers = number;
    set(&record(names, number)->parent, parent);
    set(&record(names, number)->live, 1);
    return number;
}

struct tree_dir *names_dir(struct fs *fs, uint64_t number) {
    return number < NAMES_DIRS ? fs->names->dir[number] : NULL;
}

/*
 * Its number is of no use any more, but to those who opened the directory by it. The root has the same one always: names in it
 * were taken out one by one when they were not known to be true any more, or lead to numbers that have ended.
 */
static void number_end(struct fs *fs, struct tree_dir *dir) {
    struct names *names = fs->names;
    if (!dir->number)
        return;
    struct names_dir *own = record(names, dir->number);
    set(&own->live, 0);
    set(&own->attributes, 0);
    set(&own->listing, 0);
    if (dir != fs->root)
        dir->number = 0;
}

/* The same for all at or below it. Rare: looks at all. */
static void numbers_end(struct fs *fs, struct tree_dir *above) {
    struct names *names = fs->names;
    for (uint32_t i = 1; i <= names->numbers; i++)
        if (names->dir[i] && names->dir[i]->number == i && tree_is_below(names->dir[i], above))
            number_end(fs, names->dir[i]);
}

void names_dir_changed(struct fs *fs, struct tree_dir *dir) {
    struct names *names = fs->names;
    if (!dir->number)
        return;
    set(&record(names, dir->number)->attributes, 0);
    uint32_t parent = dir->parent ? names_number(fs, dir->parent) : NAMES_ROOT;
    if (!parent || !dir_public(fs, dir))
        numbers_end(fs, dir);
    else
        set(&record(names, dir->number)->parent, parent); /* it may have moved */
}

void names_dir_gone(struct fs *fs, struct tree_dir *dir) {
    struct names *names = fs->names;
    watch_end(fs, dir);
    if (!dir->numbers)
        return;
    number_end(fs, dir);
    for (uint32_t i = dir->numbers; i; i = names->older[i])
        names->dir[i] = NULL;
    dir->numbers = 0;
}

/* ---- space ---- */

/* NULL: it was too much, and all is empty now. */
static void *take(struct names *names, uint32_t length, uint32_t *offset) {
    length = (length + 7) & ~7u;
    if (length > TABLE_BYTES - names->used) {
        table_empty(names);
        return NULL;
    }
    *offset = names->used;
    names->used += length;
    return (char *)names->table + *offset;
}

static void put_attributes(struct names_attributes *to, const struct vos_stat *st) {
    *to = (struct names_attributes){
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .blocks = (uint64_t)st->st_blocks,
        .atime_s = st->st_atime_s,
        .mtime_s = st->st_mtime_s,
        .ctime_s = st->st_ctime_s,
        .btime_s = st->btime_s,
        .atime_ns = (uint32_t)st->st_atime_ns,
        .mtime_ns = (uint32_t)st->st_mtime_ns,
        .ctime_ns = (uint32_t)st->st_ctime_ns,
        .btime_ns = (uint32_t)st->btime_ns,
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .nlink = (uint32_t)st->st_nlink,
        .blksize = (uint32_t)st->st_blksize,
    };
}

/* ---- names ---- */

/* A copy that may be read in words of eight bytes. */
struct padded {
    size_t length;
    char text[FS_NAME_MAX + 9];
};

static bool pad(struct padded *to, const char *name) {
    to->length = strlen(name);
    if (to->length > NAMES_NAME_MAX)
        return false;
    memset(to->text + (to->length & ~(size_t)7), 0, 8);
    memcpy(to->text, name, to->length);
    return true;
}

/* Where the offset of that name's entry stands; NULL: there is none. */
static uint32_t *find(struct names *names, uint32_t number, const struct padded *name, uint32_t hash) {
    uint32_t *at = &names_buckets(names->table)[hash % NAMES_BUCKETS];
    while (*at) {
        struct names_entry *entry = (struct names_entry *)((char *)names->table + *at);
        if (entry->hash == hash && entry->dir == number && entry->name_length == name->length &&
            memcmp(entry->name, name->text, name->length) == 0)
            return at;
        at = &entry->next;
    }
    return NULL;
}

static void remove_entry(struct names *names, uint32_t *at) {
    struct names_entry *entry = (struct names_entry *)((char *)names->table + *at);
    set(&entry->live, 0);
    set(at, entry->next); /* its own next stays, for readers that stand on it */
}

void names_changed(struct fs *fs, struct tree_dir *dir, const char *name) {
    struct names *names = fs->names;
    struct padded padded;
    if (!dir->number || !pad(&padded, name))
        return;
    struct names_dir *own = record(names, dir->number);
    set(&own->attributes, 0);
    set(&own->listing, 0);
    uint32_t *at = find(names, dir->number, &padded, names_hash(dir->number, padded.text, padded.length));
    if (at)
        remove_entry(names, at);
}

/* Is there room for one more in the bucket, as far as readers look? */
static bool bucket_open(struct names *names, uint32_t hash) {
    unsigned steps = 0;
    for (uint32_t at = names_buckets(names->table)[hash % NAMES_BUCKETS]; at; steps++)
        at = ((struct names_entry *)((char *)names->table + at))->next;
    return steps < NAMES_CHAIN;
}

static void add(struct names *names, uint32_t number, const struct padded *name, uint32_t hash, enum names_kind kind,
                uint32_t child, const struct vos_stat *st, const char *target, uint32_t target_length) {
    uint32_t words = names_words((uint32_t)name->length), offset, value = child;
    uint32_t head = (uint32_t)sizeof(struct names_entry) + words * 8;
    uint32_t behind = st ? (uint32_t)sizeof(struct names_attributes) + target_length : 0;
    if (!bucket_open(names, hash))
        return;
    struct names_entry *entry = take(names, head + behind, &offset);
    if (!entry)
        return;
    if (st) {
        struct names_attributes *attributes = (struct names_attributes *)((char *)entry + head);
        put_attributes(attributes, st);
        if (target_length)
            memcpy(attributes + 1, target, target_length);
        value = offset + head;
    }
    uint32_t *bucket = &names_buckets(names->table)[hash % NAMES_BUCKETS];
    *entry = (struct names_entry){.next = *bucket, .hash = hash, .dir = number, .live = 1, .kind = (uint8_t)kind,
                                  .name_length = (uint8_t)name->length, .target_length = (uint16_t)target_length, .value = value};
    memcpy(entry->name, name->text, words * 8);
    set(bucket, offset);
}

static int link_target(struct fs *fs, struct tree_dir *dir, const char *name, char target[VOS_PATH_MAX]) {
    int fd = tree_image_fd(fs, dir);
    ssize_t length = fd < 0 ? -1 : readlinkat(fd, name, target, VOS_PATH_MAX);
    return length <= 0 || length >= (ssize_t)VOS_PATH_MAX ? -EINVAL : (int)length;
}

void names_found(struct fs *fs, struct tree_dir *dir, const char *name, const struct place *found) {
    struct names *names = fs->names;
    struct padded padded;
    char target[VOS_PATH_MAX];
    uint32_t child = 0;
    int length = 0;
    enum names_kind kind = NAMES_ABSENT;
    /* Where everyone may make a name that is missing, someone soon will. */
    if (!found && dir->mode & 0002)
        return;
    if (found && S_ISDIR(found->mode)) {
        if (found->layer != LAYER_TREE)
            return;
        kind = NAMES_DIR;
    } else if (found) {
        if (found->where != WHERE_IMAGE || !found->have_stat || (!S_ISREG(found->mode) && !S_ISLNK(found->mode)))
            return;
        kind = S_ISREG(found->mode) ? NAMES_FILE : NAMES_LINK;
    }
    /* First: it may empty the table. */
    if (kind == NAMES_DIR && !(child = names_number(fs, found->dir)))
        return;
    uint32_t number = pad(&padded, name) ? ready_number(fs, dir) : 0;
    if (!number || (child && child != found->dir->number))
        return;
    uint32_t hash = names_hash(number, padded.text, padded.length);
    uint32_t *at = find(names, number, &padded, hash);
    if (at) {
        const struct names_entry *entry = (struct names_entry *)((char *)names->table + *at);
        if (kind != NAMES_DIR || (entry->kind == NAMES_DIR && entry->value == child))
            return; /* what is there is true */
        remove_entry(names, at); /* an old number */
    }
    if (kind == NAMES_LINK && (length = link_target(fs, dir, name, target)) < 0)
        return;
    add(names, number, &padded, hash, kind, child, kind == NAMES_FILE || kind == NAMES_LINK ? &found->stat : NULL, target,
        (uint32_t)length);
}

/* Is all that it shows the image's, for as long as we are not told otherwise? */
static bool dir_pure(struct fs *fs, struct tree_dir *dir) {
    return dir->image == IMAGE_PRESENT && !dir->upper && (fs->primary || lease_covers(fs, dir, NULL));
}

void names_attributes(struct fs *fs, struct tree_dir *dir, const struct vos_stat *st) {
    uint32_t offset, number = dir_pure(fs, dir) ? ready_number(fs, dir) : 0;
    if (!number || record(fs->names, number)->attributes)
        return;
    struct names_attributes *to = take(fs->names, sizeof(*to), &offset);
    if (!to)
        return;
    put_attributes(to, st);
    set(&record(fs->names, number)->attributes, offset);
}

bool names_lists(struct fs *fs, struct tree_dir *dir) { return is_ready(fs, dir) && dir_pure(fs, dir); }

bool names_has_listing(struct fs *fs, struct tree_dir *dir) {
    return is_ready(fs, dir) && record(fs->names, dir->number)->listing;
}

void names_listing(struct fs *fs, struct tree_dir *dir, const char *list, size_t length) {
    uint32_t offset, number = dir_pure(fs, dir) && length <= LISTING_MAX ? ready_number(fs, dir) : 0;
    if (!number || record(fs->names, number)->listing)
        return;
    struct names_listing *to = take(fs->names, (uint32_t)(sizeof(*to) + length), &offset);
    if (!to)
        return;
    to->length = (uint32_t)length;
    to->pad = 0;
    memcpy(to->entries, list, length);
    dir->filled = false;
    set(&record(fs->names, number)->listing, offset);
}

/* ---- in advance ---- */

struct list_entry { /* struct linux_dirent64 */
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

static void fill_one(struct op *op, struct tree_dir *dir, const char *name) {
    struct place found, mount;
    struct vos_stat st;
    found.fd = -1;
    found.path = NULL;
    found.name[0] = '\0';
    if (dir->mounts && walk_mount_at(op->fs, dir, name, &mount))
        return;
    if (union_lookup(op, dir, name, &found) != 0)
        return;
    names_found(op->fs, dir, name, &found);
    if (S_ISDIR(found.mode) && found.dir->number && !record(op->fs->names, found.dir->number)->attributes &&
        dir_pure(op->fs, found.dir) && place_stat(op, &found, &st) == 0)
        names_attributes(op->fs, found.dir, &st);
}

/*
 * Somebody listed this directory and now looks at one of its names: the others come next.
 */
void names_fill(struct op *op, struct tree_dir *dir) {
    struct names *names = op->fs->names;
    if (!dir->number || dir->filled || op->remote)
        return;
    uint32_t offset = record(names, dir->number)->listing;
    if (!offset || !dir_pure(op->fs, dir))
        return;
    dir->filled = true;
    uint32_t sequence = names->table->sequence;
    const struct names_listing *listing = (const struct names_listing *)((char *)names->table + offset);
    unsigned count = 0;
    for (uint32_t at = 0; at < listing->length && count < FILL_MAX; count++) {
        const struct list_entry *entry = (const struct list_entry *)(listing->entries + at);
        char name[FS_NAME_MAX + 1];
        at += entry->d_reclen;
        strcpy(name, entry->d_name);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            fill_one(op, dir, name);
        if (names->table->sequence != sequence)
            return; /* emptied: the listing is gone too */
    }
}

/* ---- leases ---- */

void names_lease_lost(struct fs *fs, struct tree_dir *dir, const char *name) {
    struct tree_dir *child = tree_cached(fs, dir, name);
    names_changed(fs, dir, name);
    if (child)
        numbers_end(fs, child);
    for (; dir; dir = dir->parent)
        if (!dir_public(fs, dir))
            numbers_end(fs, dir);
}

void names_below_gone(struct fs *fs, struct tree_dir *dir) { numbers_end(fs, dir); }

void names_forget_all(struct fs *fs) {
    numbers_end(fs, fs->root);
    table_empty(fs->names);
}
