/* SPDX-License-Identifier: Apache-2.0 */
#include "dvk/channel_create.h"
#include "common/cleanup.h"
#include "dvk/futex.h"
#include "dvk/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int sealed_memfd(const char *name, uint64_t size, const void *start, size_t start_len, int *out) {
    cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    if (start_len) {
        ssize_t n = pwrite(fd, start, start_len, 0);
        if (n < 0)
            return -errno;
        if ((size_t)n != start_len)
            return -ENOMEM;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    *out = steal_fd(&fd);
    return 0;
}

int dvk_channel_create(const uint32_t slots[2], uint32_t data_bytes, int *memfd) {
    for (int side = 0; side < 2; side++)
        if (slots[side] == 0 || slots[side] > DVK_CHANNEL_MAX_SLOTS || (slots[side] & (slots[side] - 1)) != 0)
            return -EINVAL;
    if (data_bytes == 0 || data_bytes % DVK_PAGE != 0 || data_bytes > (1u << 26))
        return -EINVAL;
    /* only the fields before the rings are not 0, and the file is zeroed */
    struct dvk_channel_header header = {
        .magic = DVK_CHANNEL_MAGIC,
        .version = DVK_CHANNEL_VERSION,
        .slots = {slots[0], slots[1]},
        .data_bytes = data_bytes,
    };
    return sealed_memfd("dvk-channel", dvk_channel_size(slots, data_bytes), &header,
                        offsetof(struct dvk_channel_header, ring), memfd);
}

int dvk_channel_sockets(int sockets[2]) {
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0 ? -errno : 0;
}

static void wake_all(void *context, uint32_t *word) {
    (void)context;
    dvk_futex_wake(word, INT_MAX);
}

/* Somebody waits for the answer to a request. Read, not mapped: a page that nobody has touched stays one that does not exist. */
static bool waited_for(int memfd, off_t offset, uint32_t count) {
    struct dvk_slot slots[32];
    for (uint32_t i = 0; i < count; i += ARRAY_LENGTH(slots)) {
        size_t want = count - i < ARRAY_LENGTH(slots) ? (count - i) * sizeof *slots : sizeof slots;
        if (pread(memfd, slots, want, offset + (off_t)(i * sizeof *slots)) != (ssize_t)want)
            return true; /* as far as we know */
        for (size_t k = 0; k < want / sizeof *slots; k++)
            if (DVK_STATE_KIND(slots[k].state) == DVK_SLOT_WAITING)
                return true;
    }
    return false;
}

void dvk_channel_mark_dead(int memfd) {
    struct dvk_channel_header header;
    struct dvk_channel_view view;
    struct stat st;
    if (fstat(memfd, &st) < 0 || st.st_size < (off_t)sizeof header)
        return;
    size_t size = (size_t)st.st_size;
    const uint32_t dead = 1;
    /* The parties can write the header: the sizes are checked against the sealed length, so a lie reaches no further
     * than the file. */
    if (pread(memfd, &header, offsetof(struct dvk_channel_header, ring), 0) != offsetof(struct dvk_channel_header, ring) ||
        dvk_channel_view_init(&view, &header, size) != 0)
        return;
    /* P5: they publish a request before they look at `dead`, we the other way round */
    if (pwrite(memfd, &dead, sizeof dead, offsetof(struct dvk_channel_header, dead)) == sizeof dead &&
        !waited_for(memfd, (off_t)dvk_channel_slots_offset(view.slots, 0), view.slots[0]) &&
        !waited_for(memfd, (off_t)dvk_channel_slots_offset(view.slots, 1), view.slots[1]))
        return;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (base == MAP_FAILED)
        return;
    if (dvk_channel_view_init(&view, base, size) == 0)
        dvk_channel_kill(&view, wake_all, NULL);
    munmap(base, size);
}

int dvk_doorbell_create(int *memfd) {
    return sealed_memfd("dvk-doorbell", DVK_DOORBELL_SIZE, NULL, 0, memfd);
}
