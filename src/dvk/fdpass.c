/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors beside a channel's messages: struct dvk_fd_packet over its socket. */
#include "dvk/internal.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Descriptors that may be set aside for one channel; a peer that sends more ahead of its messages is broken. */
#define ASIDE_FDS_MAX 512u

int fdpass_send(struct channel *channel, uint32_t slot, int side, bool reply, uint32_t sequence, const int *fds,
                unsigned count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    } control;
    struct dvk_fd_packet packet = {.magic = DVK_FD_MAGIC,
                                   .slot = (uint16_t)slot,
                                   .side = (uint8_t)side,
                                   .reply = reply,
                                   .sequence = sequence,
                                   .count = count};
    struct iovec iov = {.iov_base = &packet, .iov_len = sizeof packet};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    msg.msg_control = control.bytes;
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    ssize_t n;
    do
        n = sendmsg(channel->socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* One packet from the socket into *aside: 1, 0 none, -1 broken. */
static int packet_read(struct channel *channel, struct aside *aside) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    } control;
    struct iovec iov = {.iov_base = &aside->packet, .iov_len = sizeof aside->packet};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(channel->socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    aside->count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            unsigned count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            for (unsigned i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
                if (aside->count < DVK_MESSAGE_FDS)
                    aside->fds[aside->count++] = fd;
                else
                    close(fd);
            }
        }
    if (n != sizeof aside->packet || aside->packet.magic != DVK_FD_MAGIC || aside->packet.count != aside->count ||
        aside->count == 0 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        close_fds(aside->fds, aside->count);
        return -1;
    }
    return 1;
}

static bool packet_is(const struct dvk_fd_packet *packet, uint32_t slot, int side, bool reply, uint32_t sequence) {
    return packet->slot == slot && packet->side == side && !!packet->reply == reply && packet->sequence == sequence;
}

int fdpass_receive(struct channel *channel, uint32_t slot, int side, bool reply, uint32_t sequence, unsigned count,
                   int *fds) {
    list_each(aside, &channel->asides, struct aside, link) {
        if (!packet_is(&aside->packet, slot, side, reply, sequence))
            continue;
        int got = aside->count == count ? (int)count : -1;
        if (got >= 0)
            memcpy(fds, aside->fds, count * sizeof(int));
        else
            close_fds(aside->fds, aside->count);
        channel->aside_fds -= aside->count;
        list_remove(&aside->link);
        free(aside);
        return got;
    }
    for (;;) {
        struct aside found;
        int n = packet_read(channel, &found);
        if (n <= 0)
            return -1;
        if (packet_is(&found.packet, slot, side, reply, sequence)) {
            if (found.count != count) {
                close_fds(found.fds, found.count);
                return -1;
            }
            memcpy(fds, found.fds, count * sizeof(int));
            return (int)count;
        }
        struct aside *kept = channel->aside_fds + found.count > ASIDE_FDS_MAX ? NULL : malloc(sizeof *kept);
        if (!kept) {
            close_fds(found.fds, found.count);
            return -1;
        }
        *kept = found;
        channel->aside_fds += kept->count;
        list_append(&channel->asides, &kept->link);
    }
}

void fdpass_drop(struct channel *channel) {
    struct aside *aside;
    while ((aside = list_first(&channel->asides, struct aside, link))) {
        list_remove(&aside->link);
        close_fds(aside->fds, aside->count);
        free(aside);
    }
    channel->aside_fds = 0;
}
