/* SPDX-License-Identifier: Apache-2.0 */
/* A node's processes as seen from the host: starting node init, finding it, ending it. */
#include "common/cleanup.h"
#include "common/loop.h"
#include "dvs/lab.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define KILL_WAIT_MS 10000
#define POLL_MS 10
#define CGROUP_ROOT "/sys/fs/cgroup"

/* ---- start ---- */

/* In the child that is to become node init; does not return. error_fd is closed by a successful exec. */
static void init_exec(const struct lab *lab, const struct lab_node *node, int self, int error_fd) {
    for (int i = 1; i < SIGRTMIN; i++)
        signal(i, SIG_DFL);
    const char *const args[] = {"dvs", "lab-node", "--lab", lab->name, "--node", node->name, NULL};
    fexecve(self, (char *const *)args, environ);
    int error = errno;
    if (write(error_fd, &error, sizeof error) < 0)
        _exit(126);
    _exit(127);
}

/* In a child of dvs: step into the node's namespaces and leave node init behind. Does not return. */
static void node_enter(const struct lab *lab, const struct lab_node *node, int netns, int log, int self, int error_fd) {
    /* A namespace's first process loses what it has no handler for, but not what it blocks: SIGTERM waits until it listens. */
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_SETMASK, &term, NULL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int error = 0;
    if (null < 0 || setsid() < 0 || setns(netns, CLONE_NEWNET) < 0 ||
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID) < 0 || dup2(null, 0) < 0 ||
        dup2(log, 1) < 0 || dup2(log, 2) < 0)
        error = errno;
    pid_t init = error ? -1 : fork();
    if (init == 0)
        init_exec(lab, node, self, error_fd);
    if (init < 0) {
        error = error ? error : errno;
        if (write(error_fd, &error, sizeof error) < 0)
            _exit(126);
    }
    _exit(0);
}

int lab_node_start(const struct lab *lab, const struct lab_node *node, struct failure *failure) {
    char state[PATH_MAX], path[PATH_MAX + 64];
    lab_state_path(lab->name, state);
    snprintf(path, sizeof path, "%s/%s/node.log", state, node->name);
    cleanup_close int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot open %s: %s", path, strerror(errno));
    lab_netns_path(lab->name, node->name, path);
    cleanup_close int netns = open(path, O_RDONLY | O_CLOEXEC);
    if (netns < 0)
        return failure_set(failure, -errno, "internal", "dvs lab down, then up again", "cannot open %s: %s", path,
                           strerror(errno));
    cleanup_close int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int ends[2];
    if (self < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot start node %s: %s", node->name, strerror(errno));
    cleanup_close int error_read = ends[0];
    cleanup_close int error_write = ends[1];
    pid_t child = fork();
    if (child == 0)
        node_enter(lab, node, netns, log, self, error_write);
    if (child < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot fork: %s", strerror(errno));
    close(steal_fd(&error_write));
    int error = 0;
    ssize_t n;
    do
        n = read(error_read, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != 0)
        return failure_set(failure, -EIO, "internal", "are namespaces enabled in this kernel?",
                           "cannot start node %s: %s", node->name, strerror(n == sizeof error ? error : EIO));
    return 0;
}

/* ---- find ---- */

/* Is this process node init of the lab (and of the node, unless NULL)? */
static bool process_is_init(pid_t pid, const char *lab, const char *node) {
    char path[32], line[256];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (len <= 0)
        return false;
    line[len] = '\0';
    const char *const want[] = {NULL, "lab-node", "--lab", lab, "--node", node};
    const char *arg = line;
    for (size_t i = 0; i < ARRAY_LENGTH(want); i++) {
        if (arg >= line + len || (want[i] && strcmp(arg, want[i]) != 0))
            return false;
        arg += strlen(arg) + 1;
    }
    return true;
}

struct namespace_id {
    dev_t dev;
    ino_t ino;
};

/* Is the process in a pid namespace other than ours, as all of a node's processes are? */
static bool process_in_container(pid_t pid) {
    char path[32];
    struct stat st, ours;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    return stat(path, &st) == 0 && stat("/proc/self/ns/pid", &ours) == 0 &&
           (st.st_dev != ours.st_dev || st.st_ino != ours.st_ino);
}

/* Is the process in one of these network namespaces? */
static bool process_in_network(pid_t pid, const struct namespace_id *networks, size_t count) {
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    if (count == 0 || pid == getpid() || stat(path, &st) < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (networks[i].dev == st.st_dev && networks[i].ino == st.st_ino)
            return true;
    return false;
}

/* What to look for. */
struct search {
    const char *lab, *node; /* node inits; lab NULL: none, node NULL: all of the lab */
    const struct namespace_id *networks;
    size_t network_count;
    bool contained; /* of these networks' processes only those of the nodes, not a shell of `ip netns exec` */
};

static bool process_matches(pid_t pid, const struct search *search) {
    return (search->lab && process_is_init(pid, search->lab, search->node)) ||
           (process_in_network(pid, search->networks, search->network_count) &&
            (!search->contained || process_in_container(pid)));
}

/*
 * pidfds of all processes that match. The check is repeated with the pidfd held, so that a pid that was reused in
 * between is never signalled. Count (at most cap); *first gets a pid.
 */
static size_t processes_open(const struct search *search, int *pidfds, size_t cap, pid_t *first) {
    cleanup_dir DIR *dir = opendir("/proc");
    size_t count = 0;
    for (struct dirent *entry; dir && count < cap && (entry = readdir(dir));) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (!process_matches(pid, search))
            continue;
        int fd = pidfd_open(pid, 0);
        if (fd < 0)
            continue;
        if (!process_matches(pid, search)) {
            close(fd);
            continue;
        }
        if (count == 0 && first)
            *first = pid;
        pidfds[count++] = fd;
    }
    return count;
}

/* Wait until all have ended; how many have not after timeout_ms. Their entries are compacted to the front. */
static size_t processes_wait(int *pidfds, size_t count, int timeout_ms) {
    uint64_t deadline = loop_now_ms() + (uint64_t)timeout_ms;
    while (count > 0) {
        uint64_t now = loop_now_ms();
        struct pollfd poll_fd = {.fd = pidfds[0], .events = POLLIN};
        int ready = poll(&poll_fd, 1, now < deadline ? (int)(deadline - now) : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            break;
        close(pidfds[0]);
        pidfds[0] = pidfds[--count];
    }
    return count;
}

static void processes_signal(const int *pidfds, size_t count, int number) {
    for (size_t i = 0; i < count; i++)
        pidfd_send_signal(pidfds[i], number, NULL, 0);
}

static void processes_close(const int *pidfds, size_t count) {
    for (size_t i = 0; i < count; i++)
        close(pidfds[i]);
}

pid_t lab_node_find(const char *lab, const char *node) {
    struct search search = {.lab = lab, .node = node};
    int pidfd;
    pid_t pid = 0;
    processes_close(&pidfd, processes_open(&search, &pidfd, 1, &pid));
    return pid;
}

/* ---- end ---- */

#define PROCESSES_MAX 256

/* Wait until nobody holds a lock on the file, at most until the deadline. */
static bool file_wait_unlocked(const char *path, uint64_t deadline) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    while (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        if (loop_now_ms() >= deadline)
            return false;
        usleep(POLL_MS * 1000);
    }
    return true;
}

bool lab_node_wait_ended(const struct lab *lab, const struct lab_node *node, int timeout_ms) {
    uint64_t deadline = loop_now_ms() + (uint64_t)timeout_ms;
    char path[PATH_MAX + 64], directory[PATH_MAX];
    struct stat st;
    int pidfds[PROCESSES_MAX];
    lab_netns_path(lab->name, node->name, path);
    if (stat(path, &st) == 0) {
        struct namespace_id network = {st.st_dev, st.st_ino};
        struct search search = {
            .lab = lab->name, .node = node->name, .networks = &network, .network_count = 1, .contained = true};
        size_t left = processes_wait(pidfds, processes_open(&search, pidfds, PROCESSES_MAX, NULL), timeout_ms);
        processes_close(pidfds, left);
        if (left > 0)
            return false;
    }
    /* What a process has locked it lets go a little later than its namespaces, by which we find it. */
    lab_node_run_path(lab, node, directory);
    snprintf(path, sizeof path, "%s/dvkd.pid", directory);
    if (!file_wait_unlocked(path, deadline))
        return false;
    lab_state_path(lab->name, directory);
    snprintf(path, sizeof path, "%s/%s/lock", directory, node->name);
    return file_wait_unlocked(path, deadline);
}

/* SIGKILL all that match until none is left. */
static int processes_kill(const struct search *search, struct failure *failure) {
    uint64_t deadline = loop_now_ms() + KILL_WAIT_MS;
    for (;;) {
        int pidfds[PROCESSES_MAX];
        size_t count = processes_open(search, pidfds, PROCESSES_MAX, NULL);
        if (count == 0)
            return 0;
        processes_signal(pidfds, count, SIGKILL);
        uint64_t now = loop_now_ms();
        size_t left = processes_wait(pidfds, count, now < deadline ? (int)(deadline - now) : 0);
        processes_close(pidfds, left);
        if (left > 0)
            return failure_set(failure, -ETIMEDOUT, "internal", NULL, "%zu processes do not end, even when killed",
                               left);
    }
}

int lab_node_kill(const char *lab, const char *node, struct failure *failure) {
    struct search search = {.lab = lab, .node = node};
    int result = processes_kill(&search, failure);
    if (result == 0)
        lab_cgroups_remove(lab, node);
    return result;
}

/* The lab's network namespaces that have a name. */
static size_t networks_list(const char *lab, struct namespace_id *networks, size_t cap) {
    cleanup_dir DIR *dir = opendir("/run/netns");
    char prefix[LAB_NAME_MAX + 8];
    snprintf(prefix, sizeof prefix, "dvs-%s-", lab);
    size_t count = 0;
    for (struct dirent *entry; dir && count < cap && (entry = readdir(dir));) {
        struct stat st;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
            networks[count++] = (struct namespace_id){st.st_dev, st.st_ino};
    }
    return count;
}

int lab_nodes_end(const char *lab, int timeout_ms, struct failure *failure) {
    struct namespace_id networks[LAB_NODES_MAX + 1];
    struct search search = {.lab = lab};
    int pidfds[LAB_NODES_MAX];
    size_t count = processes_open(&search, pidfds, LAB_NODES_MAX, NULL);
    processes_signal(pidfds, count, SIGTERM);
    processes_close(pidfds, processes_wait(pidfds, count, timeout_ms));
    search.networks = networks;
    search.network_count = networks_list(lab, networks, ARRAY_LENGTH(networks));
    return processes_kill(&search, failure);
}

/* ---- cgroups ---- */

/* Remove a cgroup and those below it. */
static void cgroup_remove(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            cgroup_remove(fd, entry->d_name);
    closedir(dir);
    /* A cgroup is busy for a moment after its last process was reaped. */
    for (int attempt = 0; unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno == EBUSY && attempt < 100; attempt++)
        usleep(10000);
}

/* The cells' cgroups in one hierarchy: dvs/NAME with the prefix that dvkd makes of its run directory; and dvs if it is
 * empty then. */
static void cgroup_hierarchy_clean(int root, const char *prefix) {
    int fd = openat(root, "dvs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            cgroup_remove(fd, entry->d_name);
    closedir(dir);
    unlinkat(root, "dvs", AT_REMOVEDIR);
}

void lab_cgroups_remove(const char *lab, const char *node) {
    cleanup_dir DIR *dir = opendir(CGROUP_ROOT);
    if (!dir)
        return;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "run-dvs-lab-%s-%s%s", lab, node ? node : "", node ? "-" : "");
    cgroup_hierarchy_clean(dirfd(dir), prefix); /* version 2, mounted here */
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || entry->d_type != DT_DIR)
            continue; /* links are second names of a hierarchy */
        cleanup_close int hierarchy = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (hierarchy >= 0)
            cgroup_hierarchy_clean(hierarchy, prefix);
    }
}
