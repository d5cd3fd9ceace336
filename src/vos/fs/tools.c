/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /.dvs: the DC's own tools, read-only, the same on every node.
 *   /.dvs/nodes       one line for each node of the DC: name, "up" or "down"
 *   /.dvs/bin/onnode  run a command on a node; /.dvs/bin/onall: on all
 */
#include "vos/fs/fs.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const char onnode_text[] =
    "#!/bin/sh\n"
    "# onnode NODE COMMAND...: run a command on a node of this container.\n"
    "if [ $# -lt 2 ]; then\n"
    "    echo 'usage: onnode NODE COMMAND...' >&2\n"
    "    exit 125\n"
    "fi\n"
    "while read -r name state; do\n"
    "    if [ \"$name\" = \"$1\" ]; then\n"
    "        if [ \"$state\" != up ]; then\n"
    "            echo \"onnode: node $1 is down\" >&2\n"
    "            exit 125\n"
    "        fi\n"
    "        DVS_PLACE=\"node=$1\"\n"
    "        export DVS_PLACE\n"
    "        shift\n"
    "        exec \"$@\"\n"
    "    fi\n"
    "done < /.dvs/nodes\n"
    "echo \"onnode: this container has no node $1; its nodes are in /.dvs/nodes\" >&2\n"
    "exit 125\n";

static const char onall_text[] =
    "#!/bin/sh\n"
    "# onall COMMAND...: run a command on all nodes of this container that are up, at the same time.\n"
    "# The exit status is that of the last node, in their order, on which it failed.\n"
    "if [ $# -lt 1 ]; then\n"
    "    echo 'usage: onall COMMAND...' >&2\n"
    "    exit 125\n"
    "fi\n"
    "jobs=''\n"
    "while read -r name state; do\n"
    "    if [ \"$state\" = up ]; then\n"
    "        DVS_PLACE=\"node=$name\" \"$@\" < /dev/null &\n"
    "        jobs=\"$jobs $!\"\n"
    "    fi\n"
    "done < /.dvs/nodes\n"
    "status=0\n"
    "for job in $jobs; do\n"
    "    wait \"$job\" || status=$?\n"
    "done\n"
    "exit $status\n";

enum tool { TOOL_ROOT, TOOL_BIN, TOOL_NODES, TOOL_ONNODE, TOOL_ONALL };

static const struct {
    const char *name;
    enum tool parent;
    uint32_t mode;
    const char *text;
    size_t size;
} tools[] = {
    [TOOL_ROOT] = {"", TOOL_ROOT, S_IFDIR | 0555, NULL, 0},
    [TOOL_BIN] = {"bin", TOOL_ROOT, S_IFDIR | 0555, NULL, 0},
    [TOOL_NODES] = {"nodes", TOOL_ROOT, S_IFREG | 0444, NULL, 0},
    [TOOL_ONNODE] = {"onnode", TOOL_BIN, S_IFREG | 0555, onnode_text, sizeof(onnode_text) - 1},
    [TOOL_ONALL] = {"onall", TOOL_BIN, S_IFREG | 0555, onall_text, sizeof(onall_text) - 1},
};

int memory_file(const char *name, const void *data, size_t len) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0) {
            int error = -errno;
            close(fd);
            return error;
        }
        done += (size_t)n;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static void tool_place(struct place *out, enum tool tool) {
    out->layer = LAYER_TOOLS;
    out->where = WHERE_NONE;
    out->mode = tools[tool].mode & S_IFMT;
    out->key = tool;
    out->fd = -1;
    out->path = NULL;
    out->have_stat = false;
    out->name[0] = '\0';
}

int tools_lookup(struct op *op, const struct place *dir, const char *name, struct place *out) {
    for (unsigned i = 1; i < ARRAY_LENGTH(tools); i++)
        if (tools[i].parent == dir->key && strcmp(tools[i].name, name) == 0) {
            tool_place(out, (enum tool)i);
            return 0;
        }
    return -ENOENT;
}

int tools_stat(struct op *op, struct place *place, struct vos_stat *out) {
    *out = (struct vos_stat){.st_dev = FS_DEV_TOOLS, .st_ino = place->key + 1, .st_nlink = 1, .st_mode = tools[place->key].mode,
                             .st_size = (int64_t)tools[place->key].size, .st_blksize = 4096};
    return 0;
}

int tools_open(struct op *op, struct place *place, uint32_t flags) {
    char text[VOS_MAX_NODES * 72];
    struct vos_stat st;
    int length = 0;
    if ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC)
        return -EROFS;
    tools_stat(op, place, &st);
    if (place->key == TOOL_NODES)
        for (uint32_t i = 0; i < op->fs->vos->node_count; i++)
            length += snprintf(text + length, sizeof(text) - (size_t)length, "%s %s\n", op->fs->vos->nodes[i].name,
                               op->fs->vos->nodes[i].up ? "up" : "down");
    int fd = place->key == TOOL_NODES ? memory_file("nodes", text, (size_t)length)
                                      : memory_file(tools[place->key].name, tools[place->key].text, tools[place->key].size);
    return fd < 0 ? fd : open_grant_fd(op, fd, FS_KIND_FILE, FS_O_IMMUTABLE, O_RDONLY, &st);
}

int tools_list(struct op *op, const struct place *dir, union_emit *emit, void *context) {
    for (unsigned i = 1; i < ARRAY_LENGTH(tools); i++)
        if (tools[i].parent == dir->key) {
            int error = emit(context, tools[i].name, i + 1, (uint8_t)IFTODT(tools[i].mode));
            if (error < 0)
                return error;
        }
    return 0;
}

void tools_parent(const struct place *dir, struct place *out) {
    tool_place(out, tools[dir->key].parent);
    if (dir->key == TOOL_ROOT)
        out->layer = LAYER_TREE;
}

int tools_path(const struct place *place, char *out) {
    const char *parent = tools[place->key].parent == TOOL_BIN ? "/bin" : "";
    return snprintf(out, VOS_PATH_MAX, "/.dvs%s%s%s", parent, place->key == TOOL_ROOT ? "" : "/", tools[place->key].name);
}
