/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/record.h"
#include "vos/image.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t padded(uint64_t len) { return (len + 7) & ~(uint64_t)7; }

static uint8_t *append(uint8_t *to, const void *from, size_t len) {
    if (len)
        memcpy(to, from, len);
    return to + padded(len);
}

static void header_fill(struct record_header *header, const struct process *process) {
    const struct creds *creds = &process->creds;
    *header = (struct record_header){
        .magic = RECORD_MAGIC, .version = RECORD_VERSION, .group_count = creds->group_count, .cmdline_len = process->cmdline_len,
        .image_len = (uint32_t)process->image.len, .pid = process->pid, .ppid = process->ppid, .parent_node = process->parent_node,
        .pgid = process->pgid, .sid = process->sid, .uid = creds->uid, .euid = creds->euid, .suid = creds->suid,
        .fsuid = creds->fsuid, .gid = creds->gid, .egid = creds->egid, .sgid = creds->sgid, .fsgid = creds->fsgid,
        .umask = process->umask, .nice = process->nice, .chld_flags = process->chld_flags, .moves = process->moves + 1,
        .sequence = process->sequence, .announce_start = process->announce_start, .parent_moves = process->parent_moves, .birth = process->birth,
        .parent_birth = process->parent_birth, .start_ms = process->start_ms,
        .usage = process->usage, .children_usage = process->children_usage};
    memcpy(header->comm, process->comm, sizeof(header->comm));
    memcpy(header->limits, process->limits, sizeof(header->limits));
}

int record_pack(const struct process *process, const void *fs, size_t fs_len, void **out, size_t *out_len) {
    struct record_header header;
    header_fill(&header, process);
    header.fs_len = (uint32_t)fs_len;
    struct child *child;
    list_for_each(child, &process->children, link)
        header.child_count++;
    uint64_t len = sizeof(header) + (uint64_t)header.child_count * sizeof(struct record_child) +
                   padded(header.group_count * sizeof(uint32_t)) + padded(header.cmdline_len) + padded(fs_len) +
                   padded(process->image.len);
    if (len > RECORD_MAX)
        return -E2BIG;
    uint8_t *bytes = calloc(1, len), *at = bytes;
    if (!bytes)
        return -ENOMEM;
    at = append(at, &header, sizeof(header));
    list_for_each(child, &process->children, link) {
        struct record_child entry = {child->pid, child->node, child->moves, child->sequence, child->pgid, child->sid, child->uid,
                                     child->exit_signal, 0, child->status, child->stop_status, 0, child->usage};
        entry.flags = (child->zombie ? RECORD_CHILD_ZOMBIE : 0) | (child->stopped ? RECORD_CHILD_STOPPED : 0) |
                      (child->continued ? RECORD_CHILD_CONTINUED : 0);
        at = append(at, &entry, sizeof(entry));
    }
    at = append(at, process->creds.groups, header.group_count * sizeof(uint32_t));
    at = append(at, process->cmdline, header.cmdline_len);
    at = append(at, fs, fs_len);
    append(at, process->image.bytes, process->image.len);
    *out = bytes;
    *out_len = len;
    return 0;
}

int record_parse(const void *bytes, size_t len, struct record_parts *out) {
    struct record_header *header = &out->header;
    if (len < sizeof(*header) || len > RECORD_MAX)
        return -EPROTO;
    memcpy(header, bytes, sizeof(*header));
    if (header->magic != RECORD_MAGIC || header->version != RECORD_VERSION || header->group_count > PM_GROUPS_MAX ||
        header->image_len > VOS_IMAGE_MAX || !dvk_slot_is_user(header->pid))
        return -EPROTO;
    const uint64_t sizes[] = {(uint64_t)header->child_count * sizeof(struct record_child),
                              padded((uint64_t)header->group_count * sizeof(uint32_t)), padded(header->cmdline_len),
                              padded(header->fs_len), padded(header->image_len)};
    const uint8_t **parts[] = {&out->children, &out->groups, &out->cmdline, &out->fs, &out->image};
    uint64_t at = sizeof(*header);
    for (int i = 0; i < 5; i++) {
        if (sizes[i] > len - at)
            return -EPROTO;
        *parts[i] = (const uint8_t *)bytes + at;
        at += sizes[i];
    }
    header->comm[sizeof(header->comm) - 1] = 0;
    return at == len ? 0 : -EPROTO;
}

static int unpack_children(struct pm *pm, const struct record_parts *parts, struct process *process) {
    for (uint32_t i = 0; i < parts->header.child_count; i++) {
        struct record_child entry;
        memcpy(&entry, parts->children + i * sizeof(entry), sizeof(entry));
        struct child *child = child_add(pm, process, entry.pid);
        if (!child)
            return -ENOMEM;
        child->node = entry.node;
        child->moves = entry.moves;
        child->sequence = entry.sequence;
        child->pgid = entry.pgid;
        child->sid = entry.sid;
        child->uid = entry.uid;
        child->exit_signal = entry.exit_signal;
        child->zombie = entry.flags & RECORD_CHILD_ZOMBIE;
        child->stopped = entry.flags & RECORD_CHILD_STOPPED;
        child->continued = entry.flags & RECORD_CHILD_CONTINUED;
        child->status = entry.status;
        child->stop_status = entry.stop_status;
        child->usage = entry.usage;
    }
    return 0;
}

static void *copy_bytes(const void *from, size_t len) {
    void *to = malloc(len);
    if (to)
        memcpy(to, from, len);
    return to;
}

int record_unpack(struct pm *pm, const struct record_parts *parts, struct process *process) {
    const struct record_header *header = &parts->header;
    process->ppid = header->ppid;
    process->parent_node = header->parent_node;
    process->pgid = header->pgid;
    process->sid = header->sid;
    process->creds = (struct creds){header->uid, header->euid, header->suid, header->fsuid, header->gid,
                                    header->egid, header->sgid, header->fsgid, 0, NULL};
    process->umask = header->umask & 0777;
    process->nice = header->nice;
    process->chld_flags = header->chld_flags;
    process->moves = header->moves;
    process->sequence = header->sequence;
    process->announce_start = header->announce_start;
    process->parent_moves = header->parent_moves;
    process->birth = header->birth;
    process->parent_birth = header->parent_birth;
    process->start_ms = header->start_ms;
    process->usage = header->usage;
    process->children_usage = header->children_usage;
    process->execed = process->placed = true;
    memcpy(process->comm, header->comm, sizeof(process->comm));
    memcpy(process->limits, header->limits, sizeof(process->limits));
    if (header->group_count) {
        process->creds.groups = copy_bytes(parts->groups, header->group_count * sizeof(uint32_t));
        if (!process->creds.groups)
            return -ENOMEM;
        process->creds.group_count = header->group_count;
    }
    if (header->cmdline_len) {
        process->cmdline = copy_bytes(parts->cmdline, header->cmdline_len);
        if (!process->cmdline)
            return -ENOMEM;
        process->cmdline_len = header->cmdline_len;
    }
    if (header->image_len) {
        process->image.bytes = copy_bytes(parts->image, header->image_len);
        if (!process->image.bytes)
            return -ENOMEM;
        process->image.len = process->image.total = header->image_len;
    }
    return unpack_children(pm, parts, process);
}
