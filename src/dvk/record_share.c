/* SPDX-License-Identifier: Apache-2.0 */
#include "dvk/record_share.h"

#include "common/cleanup.h"
#include "common/record.h"
#include "dvk/broker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int dvk_record_share(int broker_fd, const char *name, uint32_t node) {
    cleanup_close int fd = record_share(name, node);
    if (fd < 0)
        return fd;
    record_crashes();
    struct dvk_broker_packet packet = {
        .magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_RECORD};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&packet, sizeof packet};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(broker_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}
