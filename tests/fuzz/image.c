/* SPDX-License-Identifier: Apache-2.0 */
/* The exec image: pm's check of its frame and the personality's reader; each byte of what the reader accepts is looked at. */
#include "input.h"
#include "personality/task/image.h"
#include "vos/pm/image.h"

static size_t walk(const struct image_view *view, const char *end) {
    size_t bytes = strlen(view->path);
    const char *at = view->arguments;
    for (uint32_t i = 0; i < view->header.argc; i++, at = image_next(at))
        MUST(at < end);
    MUST(view->header.argc == 0 || at == view->environment);
    for (uint32_t i = 0; i < view->header.envc; i++, at = image_next(at))
        MUST(at < end);
    MUST(at <= end);
    for (uint32_t i = 0; i < view->header.fd_count; i++) {
        struct vos_image_fd fd;
        memcpy(&fd, &view->fds[i], sizeof fd);
        bytes += fd.kind;
    }
    const char *value = image_environment(view, "DVS_PLACE=");
    return bytes + (value ? strlen(value) : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vos_image_header header;
    struct image_view view;
    char *copy = input_heap(data, size);
    int framed = image_check(copy, size, &header);
    int parsed = image_parse(copy, size, &view);
    if (parsed == 0)
        walk(&view, copy + sizeof header + view.header.string_bytes);
    if (framed == 0)
        MUST(image_fds_offset(header.string_bytes) + header.fd_count * sizeof(struct vos_image_fd) == size);
    free(copy);
    return 0;
}
