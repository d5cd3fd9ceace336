/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: another node may answer for a name, and all below it, from its own image while it holds a lease on it, which says
 * "nothing at or below it is in the writable layer".
 *
 * A lease is on (directory, name) where the directory has an upper part and the name has no entry there: the first step
 * of a path that leaves the upper layer. All directories above it can be searched and listed by everyone, so that the holder need not
 * know their attributes. Before an entry of that name is made, or such a directory becomes unsearchable, the primary
 * revokes the lease and waits until each holder has answered or is lost; the op that wanted the change is then run again.
 *
 * A grant travels in an answer, a revocation in a request: these may overtake each other. Both carry the primary's
 * sequence number; a grant older than any revocation seen is thrown away.
 */
#include "vos/fs/fs.h"

#include "vos/fs/remote.h"
#include <string.h>

static uint64_t lease_key(const struct tree_dir *dir, const char *name) {
    return hash_name((uint64_t)(uintptr_t)dir ^ 0x6c65617365ull, name);
}

static struct lease *lease_find(struct fs *fs, const struct tree_dir *dir, const char *name) {
    for (struct hash_link *l = hash_first(&fs->leases, lease_key(dir, name)); l; l = hash_next(l)) {
        struct lease *lease = hash_entry(l, struct lease, link);
        if (lease->dir == dir && strcmp(lease->name, name) == 0)
            return lease;
    }
    return NULL;
}

static struct lease *lease_make(struct fs *fs, struct tree_dir *dir, const char *name) {
    size_t size = strlen(name) + 1;
    struct lease *lease = calloc(1, sizeof(*lease) + size);
    if (!lease)
        return NULL;
    memcpy(lease->name, name, size);
    lease->dir = tree_hold(dir);
    if (hash_insert(&fs->leases, &lease->link, lease_key(dir, name)) < 0) {
        tree_drop(fs, dir);
        free(lease);
        return NULL;
    }
    lease->next = dir->lease_list;
    lease->prev = &dir->lease_list;
    if (lease->next)
        lease->next->prev = &lease->next;
    dir->lease_list = lease;
    return lease;
}

static void lease_free(struct fs *fs, struct lease *lease) {
    hash_remove(&fs->leases, &lease->link);
    *lease->prev = lease->next;
    if (lease->next)
        lease->next->prev = lease->prev;
    tree_drop(fs, lease->dir);
    free(lease);
}

/* ---- the holder's side ---- */

bool lease_covers(struct fs *fs, struct tree_dir *dir, const char *name) {
    if (!fs->leases.count)
        return false;
    for (; dir; name = dir->name, dir = dir->parent)
        if (name && dir->lease_list && lease_find(fs, dir, name))
            return true;
    return false;
}

bool lease_below(struct fs *fs, struct tree_dir *dir, const char *name) {
    struct tree_dir *child = tree_cached(fs, dir, name);
    return child && child->leases;
}

static void count_leases(struct tree_dir *dir, int change) {
    for (; dir; dir = dir->parent)
        dir->leases += (unsigned)change;
}

/* The directory of a canonical path and its last name. */
static struct tree_dir *split(struct fs *fs, const char *path, bool make, char copy[VOS_PATH_MAX], const char **name) {
    if (path[0] != '/' || strlen(path) >= VOS_PATH_MAX)
        return NULL;
    strcpy(copy, path);
    struct tree_dir *dir = fs->root;
    char *rest = copy + 1, *slash;
    while ((slash = strchr(rest, '/'))) {
        *slash = '\0';
        dir = make ? tree_add(fs, dir, rest) : tree_cached(fs, dir, rest);
        if (!dir)
            return NULL;
        rest = slash + 1;
    }
    *name = rest;
    return *rest ? dir : NULL;
}

int lease_install(struct fs *fs, const char *path, uint64_t sequence) {
    char copy[VOS_PATH_MAX];
    const char *name;
    if (sequence <= fs->lease_sequence)
        return -ESTALE;
    struct tree_dir *dir = split(fs, path, true, copy, &name);
    if (!dir)
        return -EINVAL;
    if (lease_find(fs, dir, name))
        return 0;
    if (!lease_make(fs, dir, name))
        return -ENOMEM;
    count_leases(dir, 1);
    return 0;
}

void lease_revoked(struct fs *fs, const char *path, uint64_t sequence) {
    char copy[VOS_PATH_MAX];
    const char *name;
    if (sequence > fs->lease_sequence)
        fs->lease_sequence = sequence;
    struct tree_dir *dir = split(fs, path, false, copy, &name);
    struct lease *lease = dir ? lease_find(fs, dir, name) : NULL;
    if (!lease)
        return;
    count_leases(dir, -1);
    lease_free(fs, lease);
    names_lease_lost(fs, dir, name);
}

void lease_drop_all(struct fs *fs) {
    if (!fs->primary && fs->names)
        names_forget_all(fs);
    for (size_t i = 0; i < fs->leases.size; i++)
        while (fs->leases.buckets[i]) {
            struct lease *lease = hash_entry(fs->leases.buckets[i], struct lease, link);
            if (!fs->primary)
                count_leases(lease->dir, -1);
            lease_free(fs, lease);
        }
}

/* ---- the primary's side ---- */

static bool above_open_to_all(const struct tree_dir *dir) {
    for (; dir; dir = dir->parent)
        if ((dir->mode & 0555) != 0555)
            return false;
    return true;
}

void lease_note(struct op *op, struct tree_dir *dir, const char *name) {
    if (op->lease_count == ARRAY_LENGTH(op->lease)) {
        op->lease_bad = true;
        return;
    }
    op->lease[op->lease_count].dir = dir;
    strcpy(op->lease[op->lease_count].name, name);
    op->lease_count++;
}

bool lease_offer(struct op *op) {
    if (op->lease_bad)
        return false;
    for (unsigned i = 0; i < op->lease_count; i++) {
        struct tree_dir *dir = op->lease[i].dir;
        struct lease *lease = lease_find(op->fs, dir, op->lease[i].name);
        if ((lease && lease->awaited) || !above_open_to_all(dir))
            return false;
        /* Names that do not exist in a directory where all may make some (/tmp): they soon will. */
        if ((dir->mode & 0002) && union_image_has(op, dir, op->lease[i].name) <= 0)
            return false;
    }
    return true;
}

int lease_grant(struct op *op, struct tree_dir *dir, const char *name) {
    struct lease *lease = lease_find(op->fs, dir, name);
    if (!lease)
        lease = lease_make(op->fs, dir, name);
    if (!lease)
        return -ENOMEM;
    lease->nodes[op->node / 64] |= 1ull << op->node % 64;
    op->fs->lease_sequence++;
    return 0;
}

static void revoke_end(struct fs *fs, struct lease *lease) {
    struct op *waiters = lease->waiters;
    lease_free(fs, lease);
    while (waiters) {
        struct op *op = waiters;
        waiters = op->wait_next;
        if (--op->revokes == 0)
            op_run(op);
    }
}

struct revocation {
    struct fs *fs;
    struct lease *lease;
    uint32_t node;
};

static void revoke_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                        const int *fds, unsigned fd_count) {
    /* An error means that the node or its server is gone, and what it held with it. */
    struct revocation *revocation = context;
    struct fs *fs = revocation->fs;
    struct lease *lease = revocation->lease;
    lease->nodes[revocation->node / 64] &= ~(1ull << revocation->node % 64);
    free(revocation);
    if (--lease->awaited == 0)
        revoke_end(fs, lease);
}

static void revoke_send(struct fs *fs, struct lease *lease, uint32_t node, const char *path) {
    struct revocation *revocation = malloc(sizeof(*revocation));
    struct dvk_message message = {.destination = vos_service(node, DVK_SERVICE_FS), .type = FS_S_REVOKE};
    message.payload.words[0] = fs->lease_sequence;
    message.data_len = (uint32_t)strlen(path) + 1;
    int error = revocation ? 0 : -ENOMEM;
    if (revocation) {
        *revocation = (struct revocation){.fs = fs, .lease = lease, .node = node};
        error = dvk_call(fs->vos->dvk, fs->vos->self[DVK_SERVICE_FS], &message, path, message.data_len, NULL, 0, revoke_done,
                         revocation, NULL);
    }
    if (error < 0) {
        /* Not a member any more: what it held is gone. (Out of memory cannot be told apart from here: rather
         * stop than let a node go on with a stale answer.) */
        if (error == -ENOMEM) {
            log_error("fs: no memory to revoke a lease");
            abort();
        }
        free(revocation);
        lease->nodes[node / 64] &= ~(1ull << node % 64);
        lease->awaited--;
    }
}

static int lease_end(struct op *op, struct lease *lease) {
    struct fs *fs = op->fs;
    if (!lease->awaited) {
        char path[VOS_PATH_MAX + FS_NAME_MAX + 2];
        int length = tree_path(lease->dir, path);
        if (length < 0) {
            lease_free(fs, lease); /* its directory is gone */
            return 0;
        }
        path[length] = '/';
        strcpy(path + (length > 1 ? length + 1 : 1), lease->name);
        fs->lease_sequence++;
        lease->awaited = 1; /* ours, so that answers that come at once do not end it */
        for (uint32_t node = 1; node <= VOS_MAX_NODES; node++)
            if (lease->nodes[node / 64] & 1ull << node % 64) {
                lease->awaited++;
                revoke_send(fs, lease, node, path);
            }
        if (--lease->awaited == 0) {
            lease_free(fs, lease);
            return 0;
        }
    }
    op->wait_next = lease->waiters;
    lease->waiters = op;
    op->revokes++;
    return FS_PENDING;
}

int lease_revoke(struct op *op, struct tree_dir *dir, const char *name) {
    struct lease *lease = dir->lease_list ? lease_find(op->fs, dir, name) : NULL;
    return lease ? lease_end(op, lease) : 0;
}

int lease_revoke_below(struct op *op, struct tree_dir *dir) {
    /* One at a time: the op is run again after each. Rare: rmdir, chmod of a directory that takes rights away. */
    for (size_t i = 0; i < op->fs->leases.size; i++)
        for (struct hash_link *l = op->fs->leases.buckets[i]; l; l = l->next) {
            struct lease *lease = hash_entry(l, struct lease, link);
            if (tree_is_below(lease->dir, dir)) {
                int result = lease_end(op, lease);
                if (result != 0)
                    return result;
                return lease_revoke_below(op, dir);
            }
        }
    return 0;
}

void lease_node_lost(struct fs *fs, uint32_t node) {
    if (!fs->primary) {
        /* The primary's loss ends the DC; a new incarnation of its server knows of no leases. */
        if (node == fs->vos->primary) {
            lease_drop_all(fs);
            fs->lease_sequence = 0;
        }
        return;
    }
    /* Unanswered revocations end by themselves. */
    for (size_t i = 0; i < fs->leases.size; i++)
        for (struct hash_link *l = fs->leases.buckets[i]; l; l = l->next) {
            struct lease *lease = hash_entry(l, struct lease, link);
            if (!lease->awaited)
                lease->nodes[node / 64] &= ~(1ull << node % 64);
        }
}

void lease_forget_op(struct op *op) {
    if (!op->revokes)
        return;
    for (size_t i = 0; i < op->fs->leases.size; i++)
        for (struct hash_link *l = op->fs->leases.buckets[i]; l; l = l->next) {
            struct lease *lease = hash_entry(l, struct lease, link);
            for (struct op **p = &lease->waiters; *p;)
                if (*p == op)
                    *p = op->wait_next;
                else
                    p = &(*p)->wait_next;
        }
    op->revokes = 0;
}
