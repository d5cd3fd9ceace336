/* SPDX-License-Identifier: Apache-2.0 */
/*
 * corosync's configuration (corosync.conf(5)). token_coefficient 0: detection does not slow down with more nodes. No
 * real-time scheduling and no move to the root cgroup: several nodes may share a machine. Where the directory is not
 * corosync's own, what corosync writes lies there too.
 */
#include "cluster/cluster.h"

#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define CONF_MAX (256u << 10)

int cluster_key_make(uint8_t key[static CLUSTER_KEY_BYTES], struct failure *failure) {
    if (getrandom(key, CLUSTER_KEY_BYTES, 0) == CLUSTER_KEY_BYTES)
        return 0;
    return failure_set(failure, -EIO, "internal", NULL, "there are no random numbers: %s", strerror(errno));
}

static void node_print(FILE *file, const struct cluster_member *member) {
    fprintf(file, "  node {\n    ring0_addr: %s\n    name: %s\n    nodeid: %u\n  }\n", member->address, member->name,
            member->id);
}

static char *conf_make(const struct cluster_node *node, const struct cluster_member *members, unsigned count) {
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    bool own = strcmp(node->corosync, CLUSTER_COROSYNC_DIR) != 0;
    if (!file)
        return NULL;
    fprintf(file,
            "totem {\n"
            "  version: 2\n"
            "  cluster_name: dvs_%s\n"
            "  transport: knet\n"
            "  crypto_model: openssl\n"
            "  crypto_cipher: aes256\n"
            "  crypto_hash: sha256\n"
            "  keyfile: %s/authkey\n"
            "  token: %u\n"
            "  token_coefficient: 0\n"
            "}\n"
            "system {\n",
            node->identity.cluster, node->corosync, node->token_ms);
    if (own)
        fprintf(file, "  state_dir: %s/corosync\n", node->corosync);
    fputs("  sched_rr: no\n"
          "  move_to_root_cgroup: no\n"
          "  allow_knet_handle_fallback: yes\n"
          "}\n"
          "quorum {\n"
          "  provider: corosync_votequorum\n"
          "}\n"
          "logging {\n"
          "  to_stderr: no\n",
          file);
    if (own)
        fprintf(file, "  to_syslog: no\n  to_logfile: yes\n  logfile: %s/corosync.log\n", node->corosync);
    else
        fputs("  to_syslog: yes\n", file);
    fputs("  timestamp: hires\n}\n", file);
    fputs("nodelist {\n", file);
    for (unsigned i = 0; i < count; i++)
        node_print(file, &members[i]);
    fputs("}\n", file);
    if (fclose(file) == 0)
        return text;
    free(text);
    return NULL;
}

/* What is there, a distribution's sample or another cluster's, is put aside. */
static int put_aside(const char *path) {
    char aside[PATH_MAX];
    if (snprintf(aside, sizeof aside, "%s" CLUSTER_ASIDE, path) >= (int)sizeof aside)
        return -ENAMETOOLONG;
    if (access(aside, F_OK) == 0)
        return 0; /* by an earlier attempt: the first is the one to keep */
    return rename(path, aside) < 0 && errno != ENOENT ? -errno : 0;
}

int cluster_corosync_write(const struct cluster_node *node, const struct cluster_member *members, unsigned count,
                           const uint8_t *key, struct failure *failure) {
    char path[PATH_MAX];
    int result = 0;
    if (mkdir(node->corosync, 0755) < 0 && errno != EEXIST)
        result = -errno;
    if (result == 0 && strcmp(node->corosync, CLUSTER_COROSYNC_DIR) != 0) {
        snprintf(path, sizeof path, "%s/corosync", node->corosync);
        result = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    }
    if (result == 0 && key) {
        snprintf(path, sizeof path, "%s/authkey", node->corosync);
        result = put_aside(path);
        if (result == 0)
            result = pki_file_write(path, key, CLUSTER_KEY_BYTES, 0400);
    }
    cleanup_free char *text = result == 0 ? conf_make(node, members, count) : NULL;
    snprintf(path, sizeof path, "%s/corosync.conf", node->corosync);
    if (result == 0)
        result = put_aside(path);
    if (result == 0)
        result = text ? pki_file_write(path, text, strlen(text), 0644) : -ENOMEM;
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write corosync's configuration in %s: %s",
                           node->corosync, strerror(-result));
    return 0;
}

/* ---- the nodelist of a file that others may have edited ---- */

#define BLOCKS_MAX 512

/* A "node { ... }" of the nodelist: its text, and what it says. */
struct block {
    const char *begin, *end;
    struct cluster_member member;
};
struct nodelist {
    const char *end; /* of the last line before its closing brace */
    unsigned count;
    struct block blocks[BLOCKS_MAX];
};

/* The first word of a line, and what follows the colon after it. */
struct line {
    const char *word, *value;
    size_t word_len, value_len;
    bool opens, closes;
};

static const char *line_read(const char *text, struct line *line) {
    size_t len = strcspn(text, "\n");
    const char *end = text + len, *next = *end ? end + 1 : end;
    *line = (struct line){0};
    while (text < end && isspace((unsigned char)*text))
        text++;
    if (text < end && *text == '#')
        return next;
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    line->word = text;
    line->word_len = strcspn(text, " \t\r\n{}:");
    line->opens = memchr(text, '{', (size_t)(end - text)) != NULL;
    line->closes = memchr(text, '}', (size_t)(end - text)) != NULL;
    const char *colon = memchr(text, ':', (size_t)(end - text));
    if (colon) {
        for (colon++; colon < end && isspace((unsigned char)*colon);)
            colon++;
        line->value = colon;
        line->value_len = (size_t)(end - colon);
    }
    return next;
}

static bool word_is(const struct line *line, const char *word) {
    return line->word_len == strlen(word) && memcmp(line->word, word, line->word_len) == 0;
}

static void value_copy(const struct line *line, char *to, size_t cap) {
    snprintf(to, cap, "%.*s", (int)line->value_len, line->value);
}

static void member_take(struct cluster_member *member, const struct line *line) {
    if (!line->value)
        return;
    if (word_is(line, "nodeid"))
        member->id = (uint32_t)strtoul(line->value, NULL, 10);
    else if (word_is(line, "name"))
        value_copy(line, member->name, sizeof member->name);
    else if (word_is(line, "ring0_addr"))
        value_copy(line, member->address, sizeof member->address);
}

/* Find the top-level section nodelist and its nodes. false: there is none, or it is not as corosync.conf(5) says. */
static bool nodelist_read(const char *text, struct nodelist *list) {
    int depth = 0;
    bool inside = false;
    list->count = 0;
    for (const char *at = text, *next; *at; at = next) {
        struct line line;
        next = line_read(at, &line);
        if (line.opens && line.closes)
            return false; /* a section in one line: corosync refuses it too */
        if (depth == 0 && line.opens && word_is(&line, "nodelist"))
            inside = true;
        if (inside && depth == 1 && line.opens && word_is(&line, "node")) {
            if (list->count == BLOCKS_MAX)
                return false;
            list->blocks[list->count] = (struct block){.begin = at};
        }
        if (inside && depth == 2)
            member_take(&list->blocks[list->count].member, &line);
        depth += line.opens - line.closes;
        if (inside && depth == 1 && line.closes && list->blocks[list->count].begin)
            list->blocks[list->count++].end = next;
        if (inside && depth == 0) {
            list->end = at;
            return true;
        }
        if (depth < 0)
            return false;
    }
    return false;
}

int cluster_corosync_members(const char *text, struct cluster_member *members, unsigned max) {
    cleanup_free struct nodelist *list = calloc(1, sizeof *list);
    if (!list)
        return -ENOMEM;
    if (!nodelist_read(text, list))
        return -EBADMSG;
    for (unsigned i = 0; i < list->count && i < max; i++)
        members[i] = list->blocks[i].member;
    return (int)list->count;
}

char *cluster_corosync_edit(const char *text, const struct cluster_member *change) {
    cleanup_free struct nodelist *list = calloc(1, sizeof *list);
    char *edited = NULL;
    size_t size;
    if (!list || !nodelist_read(text, list))
        return NULL;
    const struct block *found = NULL;
    for (unsigned i = 0; i < list->count; i++)
        if (list->blocks[i].member.id == change->id)
            found = &list->blocks[i];
    bool adds = change->address[0] != '\0';
    if (adds == (found != NULL))
        return strdup(text);
    FILE *file = open_memstream(&edited, &size);
    if (!file)
        return NULL;
    const char *cut = adds ? list->end : found->begin;
    fwrite(text, 1, (size_t)(cut - text), file);
    if (adds)
        node_print(file, change);
    fputs(adds ? cut : found->end, file);
    if (fclose(file) == 0)
        return edited;
    free(edited);
    return NULL;
}

static int conf_load(const char *directory, char path[static PATH_MAX], char **text, struct failure *failure) {
    snprintf(path, PATH_MAX, "%s/corosync.conf", directory);
    int result = pki_file_read(path, CONF_MAX, text);
    return result < 0 ? failure_set(failure, result, "internal", NULL, "cannot read %s: %s", path, strerror(-result)) : 0;
}

int cluster_corosync_load(const char *directory, struct cluster_member *members, unsigned max, struct failure *failure) {
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    int result = conf_load(directory, path, &text, failure);
    if (result < 0)
        return result;
    result = cluster_corosync_members(text, members, max);
    return result < 0 ? failure_set(failure, result, "damaged", NULL, "%s has no section nodelist", path) : result;
}

int cluster_corosync_update(const char *directory, const struct cluster_member *change, struct failure *failure) {
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    int result = conf_load(directory, path, &text, failure);
    if (result < 0)
        return result;
    cleanup_free char *edited = cluster_corosync_edit(text, change);
    if (!edited)
        return failure_set(failure, -EBADMSG, "damaged", NULL, "%s has no section nodelist", path);
    if (strcmp(edited, text) == 0)
        return 0;
    result = pki_file_write(path, edited, strlen(edited), 0644);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write %s: %s", path, strerror(-result));
    return 1;
}

int cluster_key_load(const char *directory, uint8_t key[static CLUSTER_KEY_BYTES], struct failure *failure) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/authkey", directory);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, key, CLUSTER_KEY_BYTES) == CLUSTER_KEY_BYTES)
        return 0;
    return failure_set(failure, -EIO, "internal", NULL, "cannot read corosync's key %s", path);
}
