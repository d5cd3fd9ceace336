/* SPDX-License-Identifier: Apache-2.0 */
#include "cell/options.h"
#include "cell/cgroup.h"
#include "common/cleanup.h"
#include <dvk/endpoint.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>
#include <sys/types.h>

static int refuse(struct failure *failure, const char *option, const char *value) {
    return failure_set(failure, -EINVAL, "bad-request", NULL, "option --%s: bad value '%s'", option, value);
}

static int number_parse(const char *text, uint64_t low, uint64_t high, uint64_t *out) {
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return -EINVAL;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno || value < low || value > high)
        return -EINVAL;
    *out = value;
    return 0;
}

static int u32_parse(const char *text, uint32_t low, uint32_t high, uint32_t *out) {
    uint64_t value;
    int error = number_parse(text, low, high, &value);
    if (!error)
        *out = (uint32_t)value;
    return error;
}

/* "2", "0.5", "1.25": thousandths; at least 0.01 of a CPU, which is the least that the kernel's 100 ms period takes. */
static int cpus_parse(const char *text, uint32_t *milli) {
    const char *dot = strchr(text, '.');
    size_t whole = dot ? (size_t)(dot - text) : strlen(text);
    if (!whole || whole > 4 || strspn(text, "0123456789") != whole)
        return -EINVAL;
    uint32_t value = (uint32_t)strtoul(text, NULL, 10) * 1000;
    if (dot) {
        size_t digits = strspn(dot + 1, "0123456789");
        if (!digits || digits > 3 || dot[1 + digits])
            return -EINVAL;
        uint32_t scale = 100;
        for (size_t i = 0; i < digits; i++, scale /= 10)
            value += (uint32_t)(dot[1 + i] - '0') * scale;
    }
    if (value < 10)
        return -EINVAL;
    *milli = value;
    return 0;
}

static bool name_valid(const char *name, size_t len) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return len > 0 && len < 64 && strspn(name, allowed) >= len && name[0] != '-';
}

int options_nodes_check(const char *text, uint32_t want, bool *found) {
    uint32_t last = 0;
    int count = 0;
    *found = false;
    for (const char *at = text;; at++) {
        char *end;
        if (*at < '1' || *at > '9')
            return -EINVAL;
        unsigned long id = strtoul(at, &end, 10);
        if (*end != '=' || id <= last || id > DVK_MAX_NODE)
            return -EINVAL;
        const char *name = end + 1;
        size_t len = strcspn(name, ",");
        if (!name_valid(name, len))
            return -EINVAL;
        *found |= id == want;
        last = (uint32_t)id;
        count++;
        at = name + len;
        if (!*at)
            return count;
    }
}

static bool path_valid(const char *path, size_t len) {
    return path[0] == '/' && len < 1024;
}

/* node=N,src=DIR,dst=PATH[,ro]: a directory name cannot hold a comma here. */
static int mount_parse(const char *text, struct cell_mount *mount) {
    cleanup_free char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    const char *source = NULL, *path = NULL;
    char *rest = copy;
    for (char *part; (part = strsep(&rest, ","));) {
        if (!strncmp(part, "node=", 5)) {
            if (u32_parse(part + 5, 1, DVK_MAX_NODE, &mount->node))
                return -EINVAL;
        } else if (!strncmp(part, "src=", 4)) {
            source = part + 4;
        } else if (!strncmp(part, "dst=", 4)) {
            path = part + 4;
        } else if (!strcmp(part, "ro")) {
            mount->read_only = true;
        } else {
            return -EINVAL;
        }
    }
    if (!mount->node || !source || !path || !path_valid(source, strlen(source)) || !path_valid(path, strlen(path)))
        return -EINVAL;
    mount->source = strdup(source);
    mount->path = strdup(path);
    if (!mount->source || !mount->path) {
        free(mount->source);
        free(mount->path);
        return -ENOMEM;
    }
    return 0;
}

void options_free(struct cell_options *options) {
    for (unsigned i = 0; i < options->mount_count; i++) {
        free(options->mounts[i].source);
        free(options->mounts[i].path);
    }
    options->mount_count = 0;
}

enum option_id {
    OPTION_DC = 256,
    OPTION_NAME,
    OPTION_NODE,
    OPTION_NODES,
    OPTION_PRIMARY,
    OPTION_IMAGE,
    OPTION_UPPER,
    OPTION_UID_BASE,
    OPTION_MOUNT,
    OPTION_MEMORY,
    OPTION_CPUS,
    OPTION_PIDS,
    OPTION_PLACE,
    OPTION_CGROUP,
    OPTION_STRICT,
    OPTION_TRACE,
    OPTION_LIBEXEC
};

static const struct option long_options[] = {
    {"dc", required_argument, NULL, OPTION_DC},           {"name", required_argument, NULL, OPTION_NAME},
    {"node", required_argument, NULL, OPTION_NODE},       {"nodes", required_argument, NULL, OPTION_NODES},
    {"primary", required_argument, NULL, OPTION_PRIMARY}, {"image", required_argument, NULL, OPTION_IMAGE},
    {"upper", required_argument, NULL, OPTION_UPPER},     {"uid-base", required_argument, NULL, OPTION_UID_BASE},
    {"mount", required_argument, NULL, OPTION_MOUNT},     {"memory", required_argument, NULL, OPTION_MEMORY},
    {"cpus", required_argument, NULL, OPTION_CPUS},       {"pids", required_argument, NULL, OPTION_PIDS},
    {"place", required_argument, NULL, OPTION_PLACE},     {"cgroup", required_argument, NULL, OPTION_CGROUP},
    {"strict", no_argument, NULL, OPTION_STRICT},         {"trace", no_argument, NULL, OPTION_TRACE},
    {"libexec", required_argument, NULL, OPTION_LIBEXEC}, {0},
};

static int limit_refuse(struct failure *failure, const char *option, const char *value, const char *range) {
    return failure_set(failure, -EINVAL, "limit-out-of-range", range, "option --%s: '%s' is out of range", option,
                       value);
}

static int option_take(struct cell_options *o, int id, const char *name, const char *value, struct failure *failure) {
    int error = 0;
    switch (id) {
    case OPTION_DC:
        error = u32_parse(value, 1, DVK_MAX_DC, &o->dc);
        break;
    case OPTION_NAME:
        o->name = value;
        error = name_valid(value, strlen(value)) ? 0 : -EINVAL;
        break;
    case OPTION_NODE:
        error = u32_parse(value, 1, DVK_MAX_NODE, &o->node);
        break;
    case OPTION_NODES:
        o->nodes = value;
        break;
    case OPTION_PRIMARY:
        error = u32_parse(value, 1, DVK_MAX_NODE, &o->primary);
        break;
    case OPTION_IMAGE:
        o->image = value;
        error = !strcmp(value, "host") || value[0] == '/' ? 0 : -EINVAL;
        break;
    case OPTION_UPPER:
        o->upper = value;
        error = value[0] == '/' ? 0 : -EINVAL;
        break;
    case OPTION_UID_BASE: /* never near the host's own ids */
        error = u32_parse(value, 65536, UINT32_MAX - 2 * 65536, &o->uid_base);
        break;
    case OPTION_MOUNT:
        if (o->mount_count == CELL_MOUNTS)
            return failure_set(failure, -EINVAL, "limit-out-of-range", NULL, "more than %u mounts", CELL_MOUNTS);
        o->mounts[o->mount_count] = (struct cell_mount){0};
        error = mount_parse(value, &o->mounts[o->mount_count]);
        o->mount_count += !error;
        break;
    case OPTION_MEMORY:
        if (number_parse(value, CELL_MEMORY_MIN, INT64_MAX, &o->memory_bytes))
            return limit_refuse(failure, name, value, "bytes, at least 16777216");
        break;
    case OPTION_CPUS:
        if (cpus_parse(value, &o->cpu_milli))
            return limit_refuse(failure, name, value, "a number of CPUs, from 0.01, with at most three decimals");
        break;
    case OPTION_PIDS:
        if (u32_parse(value, 1, DVK_USER_SLOTS, &o->pids))
            return limit_refuse(failure, name, value, "1 to 1048576");
        break;
    case OPTION_PLACE:
        o->place = value;
        error = strlen(value) < 96 && *value ? 0 : -EINVAL;
        break;
    case OPTION_CGROUP:
        o->cgroup = value;
        error = cgroup_name_valid(value) ? 0 : -EINVAL;
        break;
    case OPTION_STRICT:
        o->strict = true;
        break;
    case OPTION_TRACE:
        o->trace = true;
        break;
    case OPTION_LIBEXEC:
        o->libexec = value;
        error = value[0] == '/' && strlen(value) < PATH_MAX - 64 ? 0 : -EINVAL;
        break;
    default:
        return failure_set(failure, -EINVAL, "bad-request", NULL, "unknown option or missing value");
    }
    return error ? refuse(failure, name, value) : 0;
}

/* What does not show from one option alone. */
static int options_check(const struct cell_options *o, struct failure *failure) {
    const struct {
        const char *name;
        bool given;
    } needed[] = {{"dc", o->dc},           {"name", o->name},   {"node", o->node},         {"nodes", o->nodes},
                  {"primary", o->primary}, {"image", o->image}, {"uid-base", o->uid_base}, {"cgroup", o->cgroup},
                  {"libexec", o->libexec}};
    for (size_t i = 0; i < ARRAY_LENGTH(needed); i++)
        if (!needed[i].given)
            return failure_set(failure, -EINVAL, "bad-request", NULL, "option --%s is missing", needed[i].name);
    bool has_node, has_primary;
    if (options_nodes_check(o->nodes, o->node, &has_node) < 0 ||
        options_nodes_check(o->nodes, o->primary, &has_primary) < 0)
        return refuse(failure, "nodes", o->nodes);
    if (!has_node || !has_primary)
        return failure_set(failure, -EINVAL, "bad-request", NULL, "this node or the primary is not among --nodes %s",
                           o->nodes);
    if ((o->node == o->primary) != (o->upper != NULL))
        return failure_set(failure, -EINVAL, "bad-request", NULL,
                           "--upper belongs to the primary node, and only there");
    return 0;
}

int options_parse(int argc, char **argv, struct cell_options *options, struct failure *failure) {
    *options = (struct cell_options){.place = "local"};
    int error = 0, id, index = 0;
    optind = 0; /* glibc: start afresh, also after an earlier parse in this process */
    opterr = 0;
    while (!error && (id = getopt_long(argc, argv, "", long_options, &index)) != -1)
        error = option_take(options, id, id == '?' ? "?" : long_options[index].name, optarg, failure);
    if (!error && optind < argc)
        error = failure_set(failure, -EINVAL, "bad-request", NULL, "unexpected argument '%s'", argv[optind]);
    if (!error)
        error = options_check(options, failure);
    if (error)
        options_free(options);
    return error;
}
