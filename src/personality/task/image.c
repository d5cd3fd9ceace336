/* SPDX-License-Identifier: Apache-2.0 */
#include "personality/task/image.h"
#include <asm/errno.h>

size_t image_fds_offset(uint32_t string_bytes) {
    return sizeof(struct vos_image_header) + (((size_t)string_bytes + 7) & ~(size_t)7);
}

const char *image_next(const char *string) {
    while (*string++ != '\0')
        ;
    return string;
}

static bool starts(const char *string, const char *prefix) {
    while (*prefix != '\0')
        if (*string++ != *prefix++)
            return false;
    return true;
}

const char *image_environment(const struct image_view *view, const char *prefix) {
    const char *string = view->environment;
    size_t len = 0;
    while (prefix[len] != '\0')
        len++;
    for (uint32_t i = 0; i < view->header.envc; i++, string = image_next(string))
        if (starts(string, prefix))
            return string + len;
    return NULL;
}

int image_parse(const void *image, size_t len, struct image_view *out) {
    struct vos_image_header *header = &out->header;
    if (len < sizeof *header || len > VOS_IMAGE_MAX)
        return -EINVAL;
    for (size_t i = 0; i < sizeof *header; i++)
        ((uint8_t *)header)[i] = ((const uint8_t *)image)[i];
    if (header->magic != VOS_IMAGE_MAGIC || header->version != 1 || header->fd_count > VOS_IMAGE_FDS ||
        header->host_fds > header->fd_count || header->string_bytes > len - sizeof *header)
        return -EINVAL;
    size_t fds = image_fds_offset(header->string_bytes);
    if (fds > len || header->fd_count * sizeof(struct vos_image_fd) > len - fds)
        return -EINVAL;
    /* the strings: exactly 1 + argc + envc of them, and the last ends inside */
    const char *at = (const char *)image + sizeof *header, *end = at + header->string_bytes;
    uint64_t wanted = 1ull + header->argc + header->envc, found = 0;
    out->path = at;
    out->arguments = out->environment = end;
    for (const char *p = at; p < end && found < wanted; p++) {
        if (*p != '\0')
            continue;
        found++;
        if (found == 1)
            out->arguments = p + 1;
        if (found == 1ull + header->argc)
            out->environment = p + 1;
    }
    if (found != wanted)
        return -EINVAL;
    out->fds = (const struct vos_image_fd *)(const void *)((const char *)image + fds);
    return 0;
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

int script_parse(char *line, size_t len, size_t cap, char **interpreter, char **argument) {
    *argument = NULL;
    if (len < 3 || line[0] != '#' || line[1] != '!')
        return -ENOEXEC;
    size_t end = 2;
    while (end < len && line[end] != '\n' && line[end] != '\0')
        end++;
    if (end == cap) { /* no end in sight: the interpreter's name at least must be whole */
        size_t i = 2;
        while (i < len && blank(line[i]))
            i++;
        while (i < len && !blank(line[i]))
            i++;
        if (i == len)
            return -ENOEXEC;
        end = cap - 1;
    }
    while (end > 2 && blank(line[end - 1]))
        end--;
    line[end] = '\0';
    char *p = line + 2;
    while (blank(*p))
        p++;
    if (*p == '\0')
        return -ENOEXEC;
    *interpreter = p;
    while (*p != '\0' && !blank(*p))
        p++;
    if (*p == '\0')
        return 0;
    *p++ = '\0';
    while (blank(*p))
        p++;
    if (*p != '\0')
        *argument = p;
    return 0;
}
