/* SPDX-License-Identifier: Apache-2.0 */
/* The exec image (vos/image.h): building and reading. Pure. */
#ifndef PERSONALITY_TASK_IMAGE_H
#define PERSONALITY_TASK_IMAGE_H

#include "vos/image.h"
#include <stdbool.h>
#include <stddef.h>

/* Where its parts lie, after the check. Pointers into the image. */
struct image_view {
    struct vos_image_header header; /* private copy */
    const char *path;
    const char *arguments;   /* header.argc strings, each with its NUL */
    const char *environment; /* header.envc strings */
    const struct vos_image_fd *fds;
};

/* Check all lengths of an image of len bytes. 0 or -EINVAL. */
int image_parse(const void *image, size_t len, struct image_view *out);
/* Offset of the descriptors: after header and strings, padded to 8. */
size_t image_fds_offset(uint32_t string_bytes);
/* The string after this one. */
const char *image_next(const char *string);
/* Value of an environment variable ("NAME="); NULL: not set. */
const char *image_environment(const struct image_view *view, const char *prefix);

/* "#!" line. line: the file's first bytes, len of them, in a buffer of cap bytes (len < cap: the whole file). *argument: NULL if there is none. Both point into `line`, which is
 * changed. 0, -ENOEXEC (not a script, or an empty or overlong line). */
int script_parse(char *line, size_t len, size_t cap, char **interpreter, char **argument);

#endif
