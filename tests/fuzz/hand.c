/* SPDX-License-Identifier: Apache-2.0 */
#include "hand.h"
#include "dvk/channel_create.h"
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t next_channel;
static uint32_t next_generation;

static void packet_send(struct hand *hand, struct dvk_broker_packet packet, const int *fds, unsigned fd_count) {
    union {
        char space[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&packet, sizeof packet};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    packet.magic = DVK_BROKER_MAGIC;
    packet.version = DVK_BROKER_VERSION;
    if (fd_count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(fd_count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    MUST(sendmsg(hand->dvkd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof packet);
}

static bool packet_next(struct hand *hand, struct dvk_broker_packet *packet) {
    return recv(hand->dvkd, packet, sizeof *packet, MSG_DONTWAIT) >= (ssize_t)sizeof *packet;
}

void hand_open(struct hand *hand, bool relay) {
    int sockets[2];
    struct dvk_broker_packet asked;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    *hand = (struct hand){.dvkd = sockets[0]};
    /* the answers lie there before they are asked for: requests are numbered from 1 */
    packet_send(hand, (struct dvk_broker_packet){.type = DVK_BROKER_HELLO | DVK_BROKER_ANSWER, .id = 1, .node = HAND_NODE}, NULL, 0);
    MUST(dvk_open_fd(sockets[1], &hand->dvk) == 0);
    if (relay)
        dvk_relay_enable(hand->dvk);
    else {
        dvk_endpoint self = dvk_endpoint_make(9, dvk_system_slot(HAND_NODE, DVK_SERVICE_PM));
        packet_send(hand, (struct dvk_broker_packet){.type = DVK_BROKER_BIND | DVK_BROKER_ANSWER, .id = 2, .dc = HAND_DC, .endpoint = self}, NULL, 0);
        MUST(dvk_bind(hand->dvk, HAND_DC, dvk_system_slot(HAND_NODE, DVK_SERVICE_PM), &hand->self) == 0);
    }
    while (packet_next(hand, &asked))
        ;
    hand->bell = mmap(NULL, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dvk_doorbell_fd(hand->dvk), 0);
    MUST(hand->bell != MAP_FAILED && dvk_doorbell_create(&hand->peer_bell) == 0);
}

static void channel_make(struct hand_channel *channel, const uint32_t slots[2], int side, int *theirs) {
    int sockets[2];
    *channel = (struct hand_channel){.number = ++next_channel, .side = side};
    MUST(dvk_channel_create(slots, DVK_PAGE, &channel->memfd) == 0 && dvk_channel_sockets(sockets) == 0);
    uint64_t size = dvk_channel_size(slots, DVK_PAGE);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, channel->memfd, 0);
    MUST(base != MAP_FAILED && dvk_channel_view_init(&channel->view, base, size) == 0);
    channel->socket = sockets[side];
    *theirs = sockets[!side];
}

/* Packets that lie there are taken now, not when the poller's thread has noticed them: so a run can be repeated. */
static void pump(struct hand *hand) { poller_run(hand->dvk); }

void hand_connect(struct hand *hand, struct hand_channel *channel, dvk_endpoint peer, bool proxy) {
    const uint32_t slots[2] = {16, 16};
    int theirs;
    channel_make(channel, slots, 0, &theirs);
    channel->peer = peer;
    int fds[] = {channel->memfd, theirs, hand->peer_bell};
    packet_send(hand,
                (struct dvk_broker_packet){.type = DVK_BROKER_CHANNEL, .dc = HAND_DC, .endpoint = hand->self ? hand->self : 5, .peer = peer,
                                           .channel = channel->number, .side = 1, .flags = proxy ? DVK_BROKER_F_PROXY : 0},
                fds, 3);
    close(theirs);
    pump(hand);
}

static void on_bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    MUST(status == 0);
    *(dvk_endpoint *)context = endpoint;
    close(channel_fd);
    close(socket_fd);
}

void hand_guest(struct hand *hand, struct hand_channel *channel, uint32_t slot) {
    const uint32_t slots[2] = {16, 4};
    struct dvk_broker_packet asked;
    int theirs;
    channel_make(channel, slots, 0, &theirs);
    MUST(dvk_guest_bind(hand->dvk, HAND_DC, slot, false, on_bound, &channel->peer) == 0);
    MUST(packet_next(hand, &asked) && asked.type == DVK_BROKER_GUEST_BIND);
    int fds[] = {channel->memfd, theirs, channel->socket};
    packet_send(hand,
                (struct dvk_broker_packet){.type = DVK_BROKER_GUEST_BIND | DVK_BROKER_ANSWER, .id = asked.id, .dc = HAND_DC,
                                           .endpoint = dvk_endpoint_make(++next_generation, slot), .channel = channel->number},
                fds, 3);
    close(theirs);
    struct dvk_request *req;
    pump(hand);
    MUST(dvk_receive(hand->dvk, &req, 0) != 0 && channel->peer);
}

void hand_end(struct hand *hand, struct hand_channel *channel) {
    dvk_channel_mark_dead(channel->memfd);
    packet_send(hand, (struct dvk_broker_packet){.type = DVK_BROKER_CHANNEL_GONE, .channel = channel->number, .dc = HAND_DC, .peer = channel->peer}, NULL, 0);
    munmap(channel->view.base, channel->view.size);
    close(channel->memfd);
    close(channel->socket);
    hand_dvkd(hand, NULL);
}

void hand_dvkd(struct hand *hand, struct hand_channel *channel) {
    struct dvk_broker_packet asked;
    while (packet_next(hand, &asked)) {
        if (asked.type >= DVK_BROKER_CONTROL_REPLY)
            continue;
        struct dvk_broker_packet answer = {.type = asked.type | DVK_BROKER_ANSWER, .id = asked.id, .dc = asked.dc};
        if (asked.type == DVK_BROKER_CONNECT && channel && dvk_endpoint_slot(asked.peer) == dvk_endpoint_slot(channel->peer)) {
            answer.channel = channel->number;
            answer.side = (uint32_t)!channel->side;
            answer.peer = channel->peer;
        } else if (asked.type == DVK_BROKER_CONNECT)
            answer.status = -DVK_ENOTBOUND;
        packet_send(hand, answer, NULL, 0);
    }
    pump(hand);
}

/* ---- what a peer may do ---- */

static void ring(struct hand *hand, struct hand_channel *channel) {
    (void)dvk_doorbell_post(hand->bell, channel->view.header->doorbell_bit[!channel->side]);
}

/* The part of the channel that the input names: anywhere, but mostly where something is decided. */
static uint8_t *target(struct hand_channel *channel, struct input *in, size_t *room) {
    struct dvk_channel_view *view = &channel->view;
    uint8_t how = input_byte(in);
    int side = how & 8 ? !channel->side : channel->side;
    uint64_t offset;
    uint32_t slot = input_byte(in) % view->slots[side];
    switch (how % 8) {
    case 0:
        offset = input_u32(in) % view->size;
        break;
    case 1:
        offset = input_byte(in);
        break;
    case 2:
        offset = (uint64_t)((uint8_t *)&view->header->ring[side] - view->base) + (how & 16 ? 64 : 0);
        break;
    case 3:
        offset = (uint64_t)((uint8_t *)&view->header->ring[side].entry[slot] - view->base);
        break;
    case 4:
        offset = (uint64_t)((uint8_t *)&view->slot[side][slot].request - view->base) + (how >> 4) * 8u;
        break;
    case 5:
        offset = (uint64_t)((uint8_t *)&view->slot[side][slot].reply - view->base) + (how >> 4) * 8u;
        break;
    default:
        offset = (uint64_t)((uint8_t *)&view->slot[side][slot] - view->base) + (how >> 4) * 4u;
    }
    *room = view->size - offset;
    return view->base + offset;
}

static void scribble(struct hand_channel *channel, struct input *in) {
    size_t room, len = 1u + input_byte(in) % 64;
    uint8_t *at = target(channel, in, &room), bytes[64];
    len = len < room ? len : room;
    input_copy(in, bytes, len);
    for (size_t i = 0; i < len; i++)
        __atomic_store_n(at + i, bytes[i], __ATOMIC_RELAXED);
}

static void descriptors(struct hand_channel *channel, struct input *in, uint32_t slot) {
    uint8_t how = input_byte(in);
    struct dvk_fd_packet packet = {.magic = DVK_FD_MAGIC, .slot = (uint16_t)slot, .side = (uint8_t)channel->side,
                                   .sequence = (channel->sequence + 1) & DVK_SEQUENCE_MASK, .count = how % 5};
    if (how & 0x80)
        input_copy(in, &packet, sizeof packet);
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&packet, how & 0x40 ? how % 17 : sizeof packet};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    unsigned count = how & 0x20 ? how % 8 : packet.count % 8;
    if (count) {
        int fds[8] = {channel->memfd, channel->memfd, channel->memfd, channel->memfd, channel->memfd, channel->memfd, channel->memfd, 2};
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    (void)sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void publish(struct hand_channel *channel, struct input *in) {
    uint8_t how = input_byte(in);
    uint32_t slot = how % channel->view.slots[channel->side];
    struct dvk_message message = {.source = channel->peer, .type = 42, .destination = dvk_service_endpoint(HAND_NODE, DVK_SERVICE_PM)};
    uint8_t what = input_byte(in);
    message.data_len = what & 1 ? input_u32(in) : what & 2 ? input_u16(in) % (DVK_PAGE + 2) : 0;
    message.notify = what & 4 ? input_u64(in) : 0;
    if (what & 8)
        message.source = input_u64(in);
    if (what & 16)
        message.destination = input_u64(in);
    if (what & 32) {
        message.flags = DVK_MSG_FDS;
        message.fds = input_byte(in) % 8;
        descriptors(channel, in, slot);
    }
    memcpy(&channel->view.slot[channel->side][slot].request, &message, sizeof message);
    dvk_slot_publish(&channel->view, channel->side, slot, how & 0x80 ? input_byte(in) : how & 0x40 ? DVK_SLOT_SEND : DVK_SLOT_SENDREC,
                     ++channel->sequence);
}

/* Answer the context's request in a slot of its side. */
static void answer(struct hand_channel *channel, struct input *in) {
    int side = !channel->side;
    uint8_t how = input_byte(in);
    struct dvk_slot *slot = &channel->view.slot[side][how % channel->view.slots[side]];
    struct dvk_message reply = {.source = channel->peer, .data_len = how & 0x80 ? input_u32(in) : 0};
    if (how & 0x20) { /* it is to be made again: elsewhere, or here, or it has moved */
        reply.flags = DVK_MSG_ERROR;
        reply.status = -DVK_ERELAYED;
        reply.payload.words[0] = how & 0x10 ? channel->peer : input_u64(in);
        for (unsigned i = 1; i <= DVK_MOVED_MARK && how & 0x08; i++)
            reply.payload.words[i] = input_byte(in);
    } else if (how & 0x40) {
        reply.flags = input_u16(in);
        reply.fds = input_byte(in);
    }
    memcpy(&slot->reply, &reply, sizeof reply);
    (void)dvk_slot_finish(slot, __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED));
}

/* ---- a peer that writes while it is read ---- */

static void *storm_run(void *context) {
    struct hand_storm *storm = context;
    while (!__atomic_load_n(&storm->stop, __ATOMIC_RELAXED))
        for (unsigned i = 0; i < storm->count; i++)
            for (unsigned k = 0; k < 2; k++)
                __atomic_store_n(storm->at[i], storm->value[i][k], __ATOMIC_RELAXED);
    return NULL;
}

void hand_storm_start(struct hand_storm *storm, struct hand_channel *channel, struct input *in) {
    *storm = (struct hand_storm){.count = 1u + input_byte(in) % HAND_STORM_WORDS};
    for (unsigned i = 0; i < storm->count; i++) {
        size_t room;
        uintptr_t at = (uintptr_t)target(channel, in, &room) & ~(uintptr_t)3;
        storm->at[i] = (uint32_t *)at;
        storm->value[i][0] = __atomic_load_n(storm->at[i], __ATOMIC_RELAXED); /* what was right, and what is not */
        storm->value[i][1] = input_u32(in);
    }
    MUST(pthread_create(&storm->thread, NULL, storm_run, storm) == 0);
}

void hand_storm_end(struct hand_storm *storm) {
    if (!storm->count)
        return;
    __atomic_store_n(&storm->stop, true, __ATOMIC_RELAXED);
    MUST(pthread_join(storm->thread, NULL) == 0);
    storm->count = 0;
}

void hand_act(struct hand *hand, struct hand_channel *channel, struct input *in) {
    uint8_t op = input_byte(in);
    switch (op % 8) {
    case 0:
    case 1:
        scribble(channel, in);
        break;
    case 2:
        descriptors(channel, in, input_byte(in));
        break;
    case 3:
        (void)dvk_slot_cancel(&channel->view, channel->side, input_byte(in) % channel->view.slots[channel->side]);
        break;
    case 4:
        answer(channel, in);
        break;
    default:
        publish(channel, in);
    }
    if (!(op & 0x80))
        ring(hand, channel);
}
