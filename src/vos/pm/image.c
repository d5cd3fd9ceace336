/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/pm/image.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int image_check(const void *bytes, size_t len, struct vos_image_header *header) {
    if (len < sizeof(*header) || len > VOS_IMAGE_MAX)
        return -EINVAL;
    memcpy(header, bytes, sizeof(*header));
    if (header->magic != VOS_IMAGE_MAGIC || header->version != 1)
        return -EINVAL;
    if (header->fd_count > VOS_IMAGE_FDS || header->host_fds > header->fd_count ||
        header->string_bytes > VOS_IMAGE_MAX)
        return -EINVAL;
    uint64_t strings = ((uint64_t)header->string_bytes + 7) & ~(uint64_t)7;
    if (sizeof(*header) + strings + (uint64_t)header->fd_count * sizeof(struct vos_image_fd) != len)
        return -EINVAL;
    return 0;
}

static char *string_append(char *to, const char *string) {
    size_t len = strlen(string) + 1;
    memcpy(to, string, len);
    return to + len;
}

int image_write(const char *path, char *const argv[], char *const env[], uint32_t umask, const struct vos_image_fd *fds,
                size_t fd_count, void **out, size_t *out_len) {
    if (!path[0] || !argv[0] || fd_count > VOS_IMAGE_FDS)
        return -EINVAL;
    struct vos_image_header header = {.magic = VOS_IMAGE_MAGIC, .version = 1, .umask = umask, .fd_count = (uint32_t)fd_count};
    size_t strings = strlen(path) + 1;
    for (; argv[header.argc]; header.argc++)
        strings += strlen(argv[header.argc]) + 1;
    for (; env[header.envc]; header.envc++)
        strings += strlen(env[header.envc]) + 1;
    strings = (strings + 7) & ~(size_t)7;
    size_t len = sizeof(header) + strings + fd_count * sizeof(*fds);
    if (len > VOS_IMAGE_MAX)
        return -E2BIG;
    header.string_bytes = (uint32_t)strings;
    header.flags = strchr(path, '/') ? 0 : VOS_IMAGE_SEARCH;
    for (size_t i = 0; i < fd_count; i++)
        header.host_fds += fds[i].kind == VOS_IMAGE_FD_HOST;

    char *image = calloc(1, len);
    if (!image)
        return -ENOMEM;
    memcpy(image, &header, sizeof(header));
    char *at = string_append(image + sizeof(header), path);
    for (uint32_t i = 0; i < header.argc; i++)
        at = string_append(at, argv[i]);
    for (uint32_t i = 0; i < header.envc; i++)
        at = string_append(at, env[i]);
    if (fd_count)
        memcpy(image + sizeof(header) + strings, fds, fd_count * sizeof(*fds));
    *out = image;
    *out_len = len;
    return 0;
}
