/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lab's network: one namespace with a bridge ("the switch") and one for each node, a veth pair between. The switch's
 * end of node i is v<i>, the node's is eth0. Links are made by ip(8) in batch mode, run inside the namespace.
 * Namespaces have names in /run/netns, so that `ip netns exec dvs-LAB-NODE` works (ip-netns(8)).
 */
#include "common/cleanup.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NETNS_ROOT "/run/netns"
#define SWITCH "sw"

/* ---- namespaces ---- */

/* Wait for a child; its exit code, or -EINTR if a signal ended it. */
static int child_wait(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* A new network namespace, held by a bind mount on path. In a child, since we stay where we are. */
static int netns_create(const char *path, struct failure *failure) {
    if (mkdir(NETNS_ROOT, 0755) < 0 && errno != EEXIST)
        return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", NETNS_ROOT, strerror(errno));
    int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (fd < 0)
        return failure_set(failure, -errno, "internal", "dvs lab down removes it", "cannot make %s: %s", path,
                           strerror(errno));
    close(fd);
    pid_t child = fork();
    if (child < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot fork: %s", strerror(errno));
    if (child == 0) {
        if (unshare(CLONE_NEWNET) < 0 || mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0)
            _exit(errno < 255 ? errno : 255);
        _exit(0);
    }
    int error = child_wait(child);
    if (error != 0)
        return failure_set(failure, -EIO, "internal", "are namespaces enabled in this kernel?",
                           "cannot make a network namespace: %s", strerror(error > 0 ? error : -error));
    return 0;
}

static int netns_enter(const char *path) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        return -errno;
    return 0;
}

/* Run ip(8) in a namespace with `batch` as its commands; output, if not NULL, gets what it prints (freed by the
 * caller). */
static int ip_run(const char *netns, const char *const *args, const char *batch, char **output,
                  struct failure *failure) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot make a pipe: %s", strerror(errno));
    cleanup_close int in_read = in[0], in_write = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot make a pipe: %s", strerror(errno));
    cleanup_close int out_read = out[0], out_write = out[1];
    pid_t child = fork();
    if (child < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot fork: %s", strerror(errno));
    if (child == 0) {
        if (netns_enter(netns) < 0 || dup2(in_read, 0) < 0 || dup2(out_write, 1) < 0 || dup2(out_write, 2) < 0)
            _exit(126);
        execvp("ip", (char *const *)args);
        _exit(127);
    }
    close(steal_fd(&in_read));
    close(steal_fd(&out_write));
    /* A batch of at most 64 nodes is below 16 KiB and fits the pipe: writing first cannot block on ip's output. */
    size_t len = batch ? strlen(batch) : 0;
    bool written = len == 0 || write(in_write, batch, len) == (ssize_t)len;
    close(steal_fd(&in_write));
    cleanup_free char *text = calloc(1, 65536);
    size_t used = 0;
    for (ssize_t n; text && used < 65535 && (n = read(out_read, text + used, 65535 - used)) != 0;) {
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    close(steal_fd(&out_read));
    int code = child_wait(child);
    if (code == 127)
        return failure_set(failure, -ENOENT, "internal", "install iproute2", "the program ip is missing");
    if (code != 0 || !written || !text) {
        if (text)
            text[strcspn(text, "\n")] = '\0';
        return failure_set(failure, -EIO, "internal", NULL, "ip failed in %s: %s", netns, text ? text : "no memory");
    }
    if (output)
        *output = steal_ptr(&text);
    return 0;
}

static int ip_batch(const char *netns, const char *batch, struct failure *failure) {
    static const char *const args[] = {"ip", "-batch", "-", NULL};
    return ip_run(netns, args, batch, NULL, failure);
}

/* ---- up ---- */

/* The switch's end of a node's link. */
static void port_print(FILE *text, const struct lab *lab, const struct lab_node *node) {
    char netns[PATH_MAX];
    lab_netns_path(lab->name, node->name, netns);
    fprintf(text, "link add v%u type veth peer name eth0 netns %s\nlink set v%u master br0 up\n", node->id, netns,
            node->id);
}

/* The node's end. */
static int node_connect(const struct lab *lab, const struct lab_node *node, struct failure *failure) {
    char path[PATH_MAX], address[32], batch[256];
    lab_netns_path(lab->name, node->name, path);
    lab_node_address(lab, node, address);
    snprintf(batch, sizeof batch, "link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up\n", address);
    return ip_batch(path, batch, failure);
}

static int switch_create(const struct lab *lab, const char *path, struct failure *failure) {
    cleanup_free char *batch = NULL;
    size_t size;
    FILE *text = open_memstream(&batch, &size);
    if (!text)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    fputs("link set lo up\nlink add br0 type bridge forward_delay 0 stp_state 0\nlink set br0 up\n", text);
    for (unsigned i = 0; i < lab->node_count; i++)
        port_print(text, lab, &lab->nodes[i]);
    if (fclose(text) != 0)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    return ip_batch(path, batch, failure);
}

int lab_network_up(const struct lab *lab, struct failure *failure) {
    char path[PATH_MAX];
    int result = 0;
    for (unsigned i = 0; i < lab->node_count && result == 0; i++) {
        lab_netns_path(lab->name, lab->nodes[i].name, path);
        result = netns_create(path, failure);
    }
    lab_netns_path(lab->name, SWITCH, path);
    if (result == 0)
        result = netns_create(path, failure);
    if (result == 0)
        result = switch_create(lab, path, failure);
    for (unsigned i = 0; i < lab->node_count && result == 0; i++)
        result = node_connect(lab, &lab->nodes[i], failure);
    return result;
}

int lab_network_add(const struct lab *lab, const struct lab_node *node, struct failure *failure) {
    char path[PATH_MAX], sw[PATH_MAX];
    cleanup_free char *batch = NULL;
    size_t size;
    lab_netns_path(lab->name, node->name, path);
    lab_netns_path(lab->name, SWITCH, sw);
    FILE *text = open_memstream(&batch, &size);
    if (!text)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    port_print(text, lab, node);
    if (fclose(text) != 0)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    int result = netns_create(path, failure);
    if (result == 0)
        result = ip_batch(sw, batch, failure);
    return result == 0 ? node_connect(lab, node, failure) : result;
}

/* ---- links ---- */

int lab_network_link(const struct lab *lab, const struct lab_node *node, bool up, struct failure *failure) {
    char path[PATH_MAX], batch[64];
    lab_netns_path(lab->name, SWITCH, path);
    snprintf(batch, sizeof batch, "link set v%u %s\n", node->id, up ? "up" : "down");
    return ip_batch(path, batch, failure);
}

int lab_network_link_state(const struct lab *lab, const struct lab_node *node) {
    char path[PATH_MAX], link[16];
    cleanup_free char *text = NULL;
    lab_netns_path(lab->name, SWITCH, path);
    snprintf(link, sizeof link, "v%u", node->id);
    const char *const args[] = {"ip", "-json", "link", "show", link, NULL};
    int result = ip_run(path, args, NULL, &text, NULL);
    if (result < 0)
        return result;
    cleanup_json json_t *json = json_loads(text, 0, NULL);
    const json_t *flags = json_object_get(json_array_get(json, 0), "flags");
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const char *flag = json_string_value(json_array_get(flags, i));
        if (flag && strcmp(flag, "UP") == 0)
            return 1;
    }
    return 0;
}

int lab_network_free(const char *lab, struct failure *failure) {
    cleanup_dir DIR *dir = opendir(NETNS_ROOT);
    char prefix[LAB_NAME_MAX + 8];
    snprintf(prefix, sizeof prefix, "dvs-%s-", lab);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            return failure_set(failure, -EEXIST, "name-taken",
                               "--lab NAME makes another; if it is what is left of a lab: dvs lab down",
                               "there is a network namespace %s already", entry->d_name);
    return 0;
}

/* ---- down ---- */

static int name_unmount(const char *path) {
    /* Not mounted: a half-made one. */
    while (umount2(path, MNT_DETACH) == 0)
        ;
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/*
 * Whoever uses `ip netns add` for the first time binds NETNS_ROOT on itself, and our mount, which is below that, cannot be reached
 * any more. In a mount namespace where nothing covers it it can; a name that is removed there is unmounted everywhere.
 */
static int name_remove_covered(const char *path) {
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            _exit(errno);
        while (umount2(NETNS_ROOT, MNT_DETACH) == 0)
            ;
        _exit(-name_unmount(path));
    }
    int code = child_wait(child);
    return code > 0 ? -code : code;
}

/* The link goes with the namespace. */
static int netns_remove(const char *path) {
    int error = name_unmount(path);
    return error == -EBUSY ? name_remove_covered(path) : error;
}

void lab_network_remove(const struct lab *lab, const struct lab_node *node) {
    char path[PATH_MAX];
    lab_netns_path(lab->name, node->name, path);
    netns_remove(path); /* dvs lab down finds what is left */
}

int lab_network_down(const char *lab, struct failure *failure) {
    cleanup_dir DIR *dir = opendir(NETNS_ROOT);
    if (!dir)
        return errno == ENOENT
                   ? 0
                   : failure_set(failure, -errno, "internal", NULL, "cannot read %s: %s", NETNS_ROOT, strerror(errno));
    char prefix[LAB_NAME_MAX + 8];
    snprintf(prefix, sizeof prefix, "dvs-%s-", lab);
    int result = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, NETNS_ROOT "/%s", entry->d_name);
        int error = netns_remove(path);
        if (error < 0)
            result = failure_set(failure, error, "internal", NULL, "cannot remove %s: %s", path, strerror(-error));
    }
    rmdir(NETNS_ROOT); /* only when nothing is left in it and nothing mounted on it */
    return result;
}
