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
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define CONF_MAX (256u << 10)

int cluster_key_make(uint8_t key[static CLUSTER_KEY_BYTES], struct failure *failure) {
    if (getrandom(key, CLUSTER_KEY_BYTES, 0) == CLUSTER_KEY_BYTES)
        return 0;
    return failure_set(failure, -EIO, "internal", NULL, "there are no random numbers: %s", strerror(errno));
}

static void nodelist_print(FILE *file, const struct cluster_member *members, unsigned count) {
    fputs("nodelist {\n", file);
    for (unsigned i = 0; i < count; i++)
        fprintf(file, "  node {\n    ring0_addr: %s\n    name: %s\n    nodeid: %u\n  }\n", members[i].address,
                members[i].name, members[i].id);
    fputs("}\n", file);
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
    nodelist_print(file, members, count);
    if (fclose(file) == 0)
        return text;
    free(text);
    return NULL;
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
        result = pki_file_write(path, key, CLUSTER_KEY_BYTES, 0400);
    }
    cleanup_free char *text = result == 0 ? conf_make(node, members, count) : NULL;
    snprintf(path, sizeof path, "%s/corosync.conf", node->corosync);
    if (result == 0)
        result = text ? pki_file_write(path, text, strlen(text), 0644) : -ENOMEM;
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write corosync's configuration in %s: %s",
                           node->corosync, strerror(-result));
    return 0;
}

/* ---- the nodelist of a file that others may have edited ---- */

/* The first word of a line; returns its length. */
static size_t word(const char *line, const char **begin) {
    while (*line == ' ' || *line == '\t')
        line++;
    *begin = line;
    return strcspn(line, " \t\r\n{:");
}

static bool line_has(const char *line, char c) {
    for (; *line && *line != '\n'; line++)
        if (*line == c)
            return true;
    return false;
}

/* Finds the top-level section nodelist: *begin its first character, *end the one after its last line. */
static bool nodelist_find(const char *text, const char **begin, const char **end) {
    int depth = 0;
    *begin = NULL;
    for (const char *line = text, *next; *line; line = next) {
        const char *first, *newline = strchr(line, '\n');
        next = newline ? newline + 1 : line + strlen(line);
        size_t len = word(line, &first);
        if (*first == '#')
            continue;
        bool opens = line_has(line, '{'), closes = line_has(line, '}');
        if (opens && depth == 0 && len == strlen("nodelist") && memcmp(first, "nodelist", len) == 0)
            *begin = line;
        depth += opens - closes;
        if (depth < 0)
            return false;
        if (closes && depth == 0 && *begin) {
            *end = next;
            return true;
        }
    }
    return false;
}

char *cluster_corosync_edit(const char *text, const struct cluster_member *members, unsigned count) {
    const char *begin, *end;
    char *edited = NULL;
    size_t size;
    if (!nodelist_find(text, &begin, &end))
        return NULL;
    FILE *file = open_memstream(&edited, &size);
    if (!file)
        return NULL;
    fwrite(text, 1, (size_t)(begin - text), file);
    nodelist_print(file, members, count);
    fputs(end, file);
    if (fclose(file) == 0)
        return edited;
    free(edited);
    return NULL;
}

int cluster_corosync_update(const char *directory, const struct cluster_member *members, unsigned count,
                            struct failure *failure) {
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    snprintf(path, sizeof path, "%s/corosync.conf", directory);
    int result = pki_file_read(path, CONF_MAX, &text);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot read %s: %s", path, strerror(-result));
    cleanup_free char *edited = cluster_corosync_edit(text, members, count);
    if (!edited)
        return failure_set(failure, -EBADMSG, "damaged", NULL, "%s has no section nodelist", path);
    if (strcmp(edited, text) == 0)
        return 0;
    result = pki_file_write(path, edited, strlen(edited), 0644);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write %s: %s", path, strerror(-result));
    return 1;
}
