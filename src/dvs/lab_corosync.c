/* SPDX-License-Identifier: Apache-2.0 */
/*
 * corosync's configuration for a lab (corosync.conf(5)). token_coefficient 0: detection does not slow down with more
 * nodes. No real-time scheduling and no move to the root cgroup: several nodes share this machine. Each node has its
 * own file, since state_dir and log differ.
 */
#include "common/cleanup.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define KEY_BYTES 256

static int key_write(const char *path) {
    unsigned char key[KEY_BYTES];
    if (getrandom(key, sizeof key, 0) != sizeof key)
        return -EIO;
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, key, sizeof key);
    explicit_bzero(key, sizeof key);
    return n == sizeof key ? 0 : -EIO;
}

static int conf_write(const struct lab *lab, const char *state, const struct lab_node *node) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s/corosync.conf", state, node->name);
    cleanup_file FILE *file = fopen(path, "we");
    if (!file)
        return -errno;
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
            "system {\n"
            "  state_dir: %s/%s/corosync\n"
            "  sched_rr: no\n"
            "  move_to_root_cgroup: no\n"
            "  allow_knet_handle_fallback: yes\n"
            "}\n"
            "quorum {\n"
            "  provider: corosync_votequorum\n"
            "}\n"
            "logging {\n"
            "  to_stderr: no\n"
            "  to_syslog: no\n"
            "  to_logfile: yes\n"
            "  logfile: %s/%s/corosync.log\n"
            "  timestamp: hires\n"
            "}\n"
            "nodelist {\n",
            lab->name, state, lab->token_ms, state, node->name, state, node->name);
    for (unsigned i = 0; i < lab->node_count; i++) {
        char address[32];
        lab_node_address(lab, &lab->nodes[i], address);
        fprintf(file, "  node {\n    ring0_addr: %s\n    name: %s\n    nodeid: %u\n  }\n", address, lab->nodes[i].name,
                lab->nodes[i].id);
    }
    fputs("}\n", file);
    return fflush(file) == 0 ? 0 : -errno;
}

int lab_corosync_configure(const struct lab *lab, struct failure *failure) {
    char state[PATH_MAX], path[PATH_MAX + 64];
    lab_state_path(lab->name, state);
    snprintf(path, sizeof path, "%s/authkey", state);
    int result = key_write(path);
    for (unsigned i = 0; i < lab->node_count && result == 0; i++) {
        snprintf(path, sizeof path, "%s/%s/corosync", state, lab->nodes[i].name);
        result = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : conf_write(lab, state, &lab->nodes[i]);
    }
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot write corosync's configuration: %s",
                           strerror(-result));
    return 0;
}
