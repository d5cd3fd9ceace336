/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/host/options.h"
#include "common/cleanup.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>

static int number_parse(const char *text, uint32_t low, uint32_t high, uint32_t *out) {
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return -EINVAL;
    errno = 0;
    unsigned long value = strtoul(text, NULL, 10);
    if (errno || value < low || value > high)
        return -EINVAL;
    *out = (uint32_t)value;
    return 0;
}

static int text_copy(char *to, size_t cap, const char *from) {
    if (!*from || strlen(from) >= cap)
        return -EINVAL;
    strcpy(to, from);
    return 0;
}

static int fd_parse(const char *text, int *out) {
    uint32_t value;
    if (number_parse(text, 3, INT_MAX, &value))
        return -EINVAL;
    *out = (int)value;
    return 0;
}

static int nodes_parse(struct vos *vos, const char *text) {
    cleanup_free char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    char *rest = copy;
    for (char *part; (part = strsep(&rest, ","));) {
        char *name = strchr(part, '=');
        if (!name || vos->node_count == VOS_MAX_NODES)
            return -EINVAL;
        *name++ = 0;
        struct vos_node *node = &vos->nodes[vos->node_count];
        if (number_parse(part, 1, DVK_MAX_NODE, &node->id) || text_copy(node->name, sizeof node->name, name))
            return -EINVAL;
        if (vos->node_count && vos->nodes[vos->node_count - 1].id >= node->id)
            return -EINVAL;
        vos->node_count++;
    }
    return 0;
}

static int mount_parse(struct vos *vos, const char *text) {
    if (vos->mount_count == ARRAY_LENGTH(vos->mounts))
        return -EINVAL;
    struct vos_mount *mount = &vos->mounts[vos->mount_count];
    cleanup_free char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    mount->dir_fd = -1;
    char *rest = copy;
    for (char *part; (part = strsep(&rest, ","));) {
        int error = 0;
        if (!strncmp(part, "node=", 5))
            error = number_parse(part + 5, 1, DVK_MAX_NODE, &mount->node);
        else if (!strncmp(part, "fd=", 3))
            error = !strcmp(part, "fd=-1") ? 0 : fd_parse(part + 3, &mount->dir_fd);
        else if (!strncmp(part, "dst=/", 5))
            error = text_copy(mount->path, sizeof mount->path, part + 4);
        else if (!strcmp(part, "ro"))
            mount->read_only = true;
        else
            error = -EINVAL;
        if (error)
            return error;
    }
    if (!mount->node || !mount->path[0])
        return -EINVAL;
    vos->mount_count++;
    return 0;
}

enum {
    O_DC = 256,
    O_NAME,
    O_NODE,
    O_NODES,
    O_PRIMARY,
    O_PLACE,
    O_STRICT,
    O_TRACE,
    O_BROKER,
    O_INIT,
    O_IMAGE,
    O_ATTR,
    O_UPPER,
    O_DEV,
    O_MOUNT
};

static const struct option long_options[] = {
    {"dc", required_argument, NULL, O_DC},
    {"name", required_argument, NULL, O_NAME},
    {"node", required_argument, NULL, O_NODE},
    {"nodes", required_argument, NULL, O_NODES},
    {"primary", required_argument, NULL, O_PRIMARY},
    {"place", required_argument, NULL, O_PLACE},
    {"strict", no_argument, NULL, O_STRICT},
    {"trace", no_argument, NULL, O_TRACE},
    {"broker-fd", required_argument, NULL, O_BROKER},
    {"init-fd", required_argument, NULL, O_INIT},
    {"image-fd", required_argument, NULL, O_IMAGE},
    {"attr-fd", required_argument, NULL, O_ATTR},
    {"upper-fd", required_argument, NULL, O_UPPER},
    {"dev-fd", required_argument, NULL, O_DEV},
    {"mount", required_argument, NULL, O_MOUNT},
    {0},
};

static int option_take(struct vos *vos, int *broker_fd, int id, const char *value) {
    switch (id) {
    case O_DC:
        return number_parse(value, 1, DVK_MAX_DC, &vos->dc);
    case O_NAME:
        return text_copy(vos->dc_name, sizeof vos->dc_name, value);
    case O_NODE:
        return number_parse(value, 1, DVK_MAX_NODE, &vos->node);
    case O_NODES:
        return nodes_parse(vos, value);
    case O_PRIMARY:
        return number_parse(value, 1, DVK_MAX_NODE, &vos->primary);
    case O_PLACE:
        return text_copy(vos->place, sizeof vos->place, value);
    case O_STRICT:
        vos->strict = true;
        return 0;
    case O_TRACE:
        vos->trace = true;
        return 0;
    case O_BROKER:
        return fd_parse(value, broker_fd);
    case O_INIT:
        return fd_parse(value, &vos->init_fd);
    case O_IMAGE:
        return fd_parse(value, &vos->image_fd);
    case O_ATTR:
        return fd_parse(value, &vos->attr_fd);
    case O_UPPER:
        return fd_parse(value, &vos->upper_fd);
    case O_DEV:
        return fd_parse(value, &vos->dev_fd);
    case O_MOUNT:
        return mount_parse(vos, value);
    default:
        return -EINVAL;
    }
}

int host_options_parse(int argc, char **argv, struct vos *vos, int *broker_fd, struct failure *failure) {
    *broker_fd = vos->init_fd = vos->image_fd = vos->attr_fd = vos->upper_fd = vos->dev_fd = vos->proc_fd =
        vos->pts_fd = -1;
    optind = 0;
    opterr = 0;
    int id, index = 0;
    while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1)
        if (option_take(vos, broker_fd, id, optarg))
            return failure_set(failure, -EINVAL, "bad-request", NULL, "bad option or value: %s %s",
                               id == '?' ? "?" : long_options[index].name, optarg ? optarg : "");
    bool has_primary = false;
    for (uint32_t i = 0; i < vos->node_count; i++) {
        has_primary |= vos->nodes[i].id == vos->primary;
        vos->nodes[i].up = vos->nodes[i].id == vos->node;
    }
    if (optind < argc || !vos->dc || !vos->dc_name[0] || !has_primary || !vos_node_by_id(vos, vos->node) ||
        !vos->place[0] || *broker_fd < 0 || vos->init_fd < 0 || vos->image_fd < 0 || vos->attr_fd < 0 ||
        vos->dev_fd < 0 || (vos->upper_fd >= 0) != (vos->node == vos->primary))
        return failure_set(failure, -EINVAL, "bad-request", "dvs-vos is started by dvs-cell",
                           "options are missing or contradict");
    return 0;
}
