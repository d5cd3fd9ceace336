/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors of an exec image, as the personality of the new process takes them over: any records, any host fds. */
#include "../unit/personality_fd/fake_host.h"
#include "input.h"
#include "personality/fd/calls.h"
#include "vos/image.h"

#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) { return 0; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct vos_image_fd fds[16];
    int host[DVK_MESSAGE_FDS];
    uint8_t first = input_byte(&in), count = input_byte(&in) % 16, host_count = first % 5;
    unsigned before = fake_host_fds();
    struct task *task = fake_start();
    fake.no_regrant = first & 0x80;
    for (uint8_t i = 0; i < host_count; i++)
        host[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (uint8_t i = 0; i < count; i++) {
        uint8_t how = input_byte(&in);
        fds[i] = (struct vos_image_fd){.vfd = how & 1 ? (int32_t)input_u32(&in) : how >> 4, .kind = input_byte(&in) % 5,
                                       .object = input_byte(&in) % 10, .status_flags = input_u32(&in), .open_flags = input_byte(&in),
                                       .handle = how & 2 ? (int64_t)input_u64(&in) : input_byte(&in) % 4,
                                       .source = how & 4 ? input_u32(&in) : input_byte(&in) % 8};
    }
    (void)fd_restore(task, fds, count, host, host_count);
    fake_stop(task);
    MUST(fake_host_fds() == before);
    return 0;
}
