/* SPDX-License-Identifier: Apache-2.0 */
/* A lab's names, places and lab.json. */
#include "common/cleanup.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define STATE_ROOT "/var/lib/dvs/lab"
#define RUN_ROOT "/run/dvs/lab"
#define NETNS_ROOT "/run/netns"
#define SUBNETS 256u

void lab_free(struct lab *lab) {
    free(lab);
}

bool lab_name_valid(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > LAB_NAME_MAX || name[0] < 'a' || name[0] > 'z')
        return false;
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
        return false;
    return strcmp(name, "sw") != 0 && strcmp(name, "host") != 0;
}

/* ---- paths ---- */

void lab_state_path(const char *lab, char path[static PATH_MAX]) {
    snprintf(path, PATH_MAX, STATE_ROOT "/%s", lab);
}

void lab_run_path(const char *lab, char path[static PATH_MAX]) {
    snprintf(path, PATH_MAX, RUN_ROOT "/%s", lab);
}

void lab_node_run_path(const struct lab *lab, const struct lab_node *node, char path[static PATH_MAX]) {
    snprintf(path, PATH_MAX, RUN_ROOT "/%s/%s", lab->name, node->name);
}

void lab_netns_path(const char *lab, const char *node, char path[static PATH_MAX]) {
    snprintf(path, PATH_MAX, NETNS_ROOT "/dvs-%s-%s", lab, node);
}

void lab_node_address(const struct lab *lab, const struct lab_node *node, char address[static 32]) {
    snprintf(address, 32, "10.77.%u.%u", lab->subnet, node->id);
}

const struct lab_node *lab_node_by_name(const struct lab *lab, const char *name) {
    for (unsigned i = 0; i < lab->node_count; i++)
        if (strcmp(lab->nodes[i].name, name) == 0)
            return &lab->nodes[i];
    return NULL;
}

/* ---- which lab ---- */

static int name_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

long lab_list(char ***out) {
    *out = NULL;
    cleanup_dir DIR *dir = opendir(STATE_ROOT);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!lab_name_valid(entry->d_name))
            continue;
        char **more = realloc(names, (count + 1) * sizeof *names);
        if (more)
            names = more;
        if (!more || !(names[count] = strdup(entry->d_name))) {
            while (count > 0)
                free(names[--count]);
            free(names);
            return -ENOMEM;
        }
        count++;
    }
    if (count > 1)
        qsort(names, count, sizeof *names, name_compare);
    *out = names;
    return (long)count;
}

int lab_choose(const char *name, char chosen[static LAB_NAME_MAX + 1], struct failure *failure) {
    if (!name)
        name = getenv("DVS_LAB");
    if (name && *name) {
        if (!lab_name_valid(name))
            return failure_set(failure, -EINVAL, "usage", "1 to 16 of a-z 0-9 _, beginning with a letter",
                               "%s is no name for a lab", name);
        char path[PATH_MAX];
        lab_state_path(name, path);
        if (access(path, F_OK) < 0)
            return failure_set(failure, -ENOENT, "no-such-lab", "dvs lab ls lists them; dvs lab up makes one",
                               "no lab named %s", name);
        snprintf(chosen, LAB_NAME_MAX + 1, "%s", name);
        return 0;
    }
    char **names;
    long count = lab_list(&names);
    int result = 0;
    if (count == 1)
        snprintf(chosen, LAB_NAME_MAX + 1, "%s", names[0]);
    else if (count == 0)
        result = failure_set(failure, -ENOENT, "no-such-lab", "dvs lab up 3 makes one", "there is no lab");
    else if (count > 1)
        result = failure_set(failure, -EINVAL, "usage", "say --lab NAME, or set DVS_LAB",
                             "there are %ld labs, among them %s and %s", count, names[0], names[1]);
    else
        result =
            failure_set(failure, (int)count, "internal", NULL, "cannot read %s: %s", STATE_ROOT, strerror((int)-count));
    for (long i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return result;
}

/* ---- lab.json ---- */

static struct lab *lab_parse(const char *name, const json_t *json) {
    cleanup_lab struct lab *lab = calloc(1, sizeof *lab);
    const json_t *nodes = json_object_get(json, "nodes");
    size_t count = json_array_size(nodes);
    if (!lab || count == 0 || count > LAB_NODES_MAX)
        return NULL;
    json_int_t subnet, token;
    if (!field_integer(json, "subnet", &subnet) || subnet < 0 || subnet >= SUBNETS ||
        !field_integer(json, "token_ms", &token) || token < 1 || token > 1000000)
        return NULL;
    snprintf(lab->name, sizeof lab->name, "%s", name);
    lab->subnet = (unsigned)subnet;
    lab->token_ms = (unsigned)token;
    lab->clear = field_true(json, "clear");
    const char *slots = field_string(json, "slots");
    snprintf(lab->slots, sizeof lab->slots, "%s", slots ? slots : "");
    for (size_t i = 0; i < count; i++) {
        const char *node = json_string_value(json_array_get(nodes, i));
        if (!node || !lab_name_valid(node))
            return NULL;
        lab->nodes[i].id = (uint32_t)i + 1;
        snprintf(lab->nodes[i].name, sizeof lab->nodes[i].name, "%s", node);
    }
    lab->node_count = (unsigned)count;
    return steal_ptr(&lab);
}

int lab_load(const char *name, struct lab **out, struct failure *failure) {
    char directory[PATH_MAX], path[PATH_MAX + 16];
    lab_state_path(name, directory);
    snprintf(path, sizeof path, "%s/lab.json", directory);
    json_error_t error;
    cleanup_json json_t *json = json_load_file(path, 0, &error);
    *out = json ? lab_parse(name, json) : NULL;
    if (*out)
        return 0;
    if (access(directory, F_OK) < 0)
        return failure_set(failure, -ENOENT, "no-such-lab", "dvs lab ls lists them", "no lab named %s", name);
    return failure_set(failure, -EBADMSG, "internal", "dvs lab down removes it", "lab %s is half made or broken: %s",
                       name, json ? "lab.json makes no sense" : error.text);
}

int lab_save(const struct lab *lab, struct failure *failure) {
    char directory[PATH_MAX], path[PATH_MAX + 16], new_path[PATH_MAX + 16];
    lab_state_path(lab->name, directory);
    snprintf(path, sizeof path, "%s/lab.json", directory);
    snprintf(new_path, sizeof new_path, "%s/lab.json.new", directory);
    cleanup_json json_t *json = json_pack("{s:s, s:i, s:i, s:b, s:s, s:[]}", "name", lab->name, "subnet", (int)lab->subnet,
                                          "token_ms", (int)lab->token_ms, "clear", lab->clear, "slots", lab->slots, "nodes");
    for (unsigned i = 0; i < lab->node_count; i++)
        json_array_append_new(json_object_get(json, "nodes"), json_string(lab->nodes[i].name));
    if (!json || json_dump_file(json, new_path, JSON_INDENT(2)) < 0 || rename(new_path, path) < 0)
        return failure_set(failure, -EIO, "internal", NULL, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

/* ---- claim and lock ---- */

static int directory_make(const char *path, mode_t mode) {
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}

/* The smallest subnet that no other lab has. The caller holds the root's lock. */
static unsigned subnet_choose(void) {
    bool taken[SUBNETS] = {0};
    char **names;
    long count = lab_list(&names);
    for (long i = 0; i < count; i++) {
        cleanup_lab struct lab *other = NULL;
        if (lab_load(names[i], &other, NULL) == 0)
            taken[other->subnet] = true;
        free(names[i]);
    }
    free(names);
    unsigned subnet = 0;
    while (subnet < SUBNETS - 1 && taken[subnet])
        subnet++;
    return subnet; /* networks of labs do not meet: sharing the last one is harmless */
}

int lab_claim(struct lab *lab, struct failure *failure) {
    char path[PATH_MAX];
    lab_state_path(lab->name, path);
    int result = directory_make("/var/lib/dvs", 0755);
    if (result == 0)
        result = directory_make(STATE_ROOT, 0755);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "cannot make %s: %s", STATE_ROOT, strerror(-result));
    cleanup_close int root = open(STATE_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || flock(root, LOCK_EX) < 0)
        return failure_set(failure, -errno, "internal", NULL, "cannot lock %s: %s", STATE_ROOT, strerror(errno));
    result = access(path, F_OK) == 0 ? 0 : lab_network_free(lab->name, failure);
    if (result < 0)
        return result;
    if (mkdir(path, 0755) < 0) {
        if (errno == EEXIST)
            return failure_set(failure, -EEXIST, "name-taken", "dvs lab down removes it; --lab NAME makes another",
                               "there is a lab named %s already", lab->name);
        return failure_set(failure, -errno, "internal", NULL, "cannot make %s: %s", path, strerror(errno));
    }
    lab->subnet = subnet_choose();
    return lab_save(lab, failure);
}

int lab_lock(const char *name, int *out, struct failure *failure) {
    char path[PATH_MAX];
    lab_state_path(name, path);
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failure_set(failure, -errno, errno == ENOENT ? "no-such-lab" : "internal", "dvs lab ls lists them",
                           errno == ENOENT ? "no lab named %s" : "cannot lock lab %s", name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return failure_set(failure, -EBUSY, "busy", "try again when it is done", "another dvs is changing lab %s",
                           name);
    *out = steal_fd(&fd);
    return 0;
}
