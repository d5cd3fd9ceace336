/* SPDX-License-Identifier: Apache-2.0 */
/* The exec image (vos/image.h) as pm sees it: checked when it comes from a guest, written for a first program. Pure. */
#ifndef PM_IMAGE_H
#define PM_IMAGE_H

#include "vos/image.h"
#include <stddef.h>

/*
 * Check the frame of an image that somebody else wrote: magic, version, and that its parts fill exactly len bytes. What
 * lies inside is the reader's to check. *header gets a copy of the header. 0 or -EINVAL.
 */
int image_check(const void *bytes, size_t len, struct vos_image_header *header);

/*
 * Write an image. argv and env end with NULL; path is argv[0]'s file or a bare name to be searched for in PATH.
 * *out (to be freed) gets *out_len bytes. 0, -E2BIG (larger than VOS_IMAGE_MAX), -EINVAL (no argv[0]) or -ENOMEM.
 */
int image_write(const char *path, char *const argv[], char *const env[], uint32_t umask, const struct vos_image_fd *fds,
                size_t fd_count, void **out, size_t *out_len);

#endif
