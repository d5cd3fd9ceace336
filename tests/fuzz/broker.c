/* SPDX-License-Identifier: Apache-2.0 */
/* dvkd's broker with five clients (two programs, a cell's servers, the proxy, the copier) that send any packets. */
#include "common/log.h"
#include "dvk/channel_create.h"
#include "dvkd/broker.h"
#include "input.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NODE 2u
#define OTHER_NODE 3u
#define DC 7u
#define CLIENTS 5

struct player {
    int fd;
    struct client *client; /* NULL: gone */
};

static struct loop *loop;
static struct broker broker;
static struct player players[CLIENTS];
static uint64_t endpoints[8], channels[4], control_id; /* what answers have named */
static bool cell_comes;
static int doorbell, no_doorbell, pidfd;
static uint8_t granted[256];
static const uint32_t dc_node_list[] = {NODE, OTHER_NODE};

static int host_dc_nodes(void *context, uint32_t dc, const uint32_t **nodes, uint32_t *count) {
    MUST(dc != 0 && dc <= DVK_MAX_DC);
    if (dc != DC)
        return -DVK_ENODC;
    *nodes = dc_node_list;
    *count = 2;
    return 0;
}
static bool host_node_is_up(void *context, uint32_t node) { return node == NODE || node == OTHER_NODE; }
static int host_dc_find(void *context, const char *name, uint32_t *dc) {
    *dc = 1;
    return name[0] == 'x' ? 0 : -DVK_ENODC;
}
static uint32_t host_slot_owner(void *context, uint32_t dc, uint32_t slot) { return slot % 3 ? NODE : OTHER_NODE; }
static bool host_slots_is_ours(void *context, uint32_t dc, uint32_t set) { return set % 2; }
static bool host_slots_take(void *context, uint32_t dc, uint32_t want, uint32_t below) { return want % 2; }
static void host_slots_offered(void *context, uint32_t dc, const uint16_t *sets, uint32_t count) {}
static void host_slots_watched(void *context, uint32_t dc) {}
static int host_copier_start(void *context) { return cell_comes ? 0 : -DVK_ENOTBOUND; }
static int host_cell_start(void *context, uint32_t dc) { return cell_comes ? 0 : -DVK_ENOTBOUND; }
static void host_cell_event(void *context, uint32_t dc, const json_t *event) { MUST(field_string(event, "event")); }
static void host_client_gone(void *context, struct client *client) {
    for (int i = 0; i < CLIENTS; i++)
        if (players[i].client == client)
            players[i].client = NULL;
}
static void on_control(void *context, int status, const json_t *answer) { MUST(status < 0 || json_is_object(answer)); }

static void send_packet(struct player *player, const struct dvk_broker_packet *packet, const void *text, size_t len,
                        const int *fds, unsigned fd_count) {
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec parts[] = {{(void *)packet, sizeof *packet}, {(void *)text, len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (fd_count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(fd_count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    (void)sendmsg(player->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Read what came, remember names, close descriptors. */
static void drain(struct player *player) {
    union {
        char space[CMSG_SPACE(DVK_MESSAGE_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct {
        struct dvk_broker_packet packet;
        char text[4096];
    } got;
    for (;;) {
        struct iovec part = {&got, sizeof got};
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
        ssize_t n = recvmsg(player->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0)
            return;
        MUST((size_t)n >= sizeof got.packet && got.packet.magic == DVK_BROKER_MAGIC);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        for (size_t i = 0; header && i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            close(fd);
        }
        if (got.packet.endpoint)
            endpoints[got.packet.endpoint % 8] = got.packet.endpoint;
        if (got.packet.channel)
            channels[got.packet.channel % 4] = got.packet.channel;
        if (got.packet.type == DVK_BROKER_CONTROL)
            control_id = got.packet.id;
    }
}

static uint64_t address(struct input *in) {
    uint8_t how = input_byte(in);
    switch (how & 7) {
    case 0:
        return input_u64(in);
    case 1:
        return dvk_service_endpoint(how & 8 ? NODE : OTHER_NODE, how >> 4);
    case 2:
        return dvk_endpoint_make(0, 64u + input_byte(in));
    default:
        return endpoints[how >> 5];
    }
}

static void step(void) {
    for (int i = 0; i < 3; i++)
        MUST(loop_step(loop, 0) == 0);
    for (int i = 0; i < CLIENTS; i++)
        drain(&players[i]);
}

static struct dvk_peers some_peers(struct input *in) {
    struct dvk_peers peers = {.flags = input_byte(in), .count = input_byte(in) % (DVK_PEERS_RANGES + 2)};
    for (uint32_t i = 0; i < peers.count && i < DVK_PEERS_RANGES; i++)
        peers.ranges[i] = (struct dvk_peers_range){address(in), address(in)};
    return peers;
}

/* Mostly such as can be. */
static struct dvk_privileges some_privileges(struct input *in) {
    struct dvk_privileges privileges = {.calls = input_byte(in) | (input_byte(in) & 15u) << 8};
    privileges.to = some_peers(in);
    privileges.from = some_peers(in);
    return privileges;
}

static void packet(struct input *in, struct player *player) {
    static const uint32_t types[] = {
        DVK_BROKER_HELLO,        DVK_BROKER_BIND,          DVK_BROKER_UNBIND,       DVK_BROKER_CONNECT,
        DVK_BROKER_GUEST_BIND,   DVK_BROKER_GUEST_UNBIND,  DVK_BROKER_CONTROL_REPLY, DVK_BROKER_CONTROL_SEND,
        DVK_BROKER_CHANNEL_CLOSED, DVK_BROKER_CONNECT,     DVK_BROKER_BIND,         DVK_BROKER_SLOTS,
        DVK_BROKER_GRANT,        DVK_BROKER_REVOKE,        DVK_BROKER_ARENA,        DVK_BROKER_GRANT_DONE,
        DVK_BROKER_STATS,        DVK_BROKER_WATCH,         DVK_BROKER_UNWATCH,      DVK_BROKER_WAITS,
        DVK_BROKER_DC_FIND,      DVK_BROKER_DC_NODES,      DVK_BROKER_NODES,        DVK_BROKER_SPARE,
        DVK_BROKER_SPARE_END,    DVK_BROKER_MIGRATE,       DVK_BROKER_RECORD,       DVK_BROKER_SERVICE};
    static const uint32_t more[] = {DVK_BROKER_GET_PRIVILEGES, DVK_BROKER_SET_PRIVILEGES, DVK_BROKER_SET_PRIVILEGES, DVK_BROKER_REFUSED};
    uint8_t how = input_byte(in), kind = input_byte(in);
    struct dvk_broker_packet head = {.magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION};
    head.type = kind < 0xc0 ? types[kind % (sizeof types / sizeof *types)] : kind < 0xf0 ? more[kind % 4] : input_u32(in);
    head.id = head.type == DVK_BROKER_CONTROL_REPLY ? control_id : input_byte(in);
    head.dc = how & 1 ? input_u32(in) : how & 2 ? 0 : DC;
    head.endpoint = address(in);
    head.peer = address(in);
    head.channel = how & 4 ? channels[input_byte(in) % 4] : input_u64(in);
    head.flags = input_byte(in);
    if (how == 0xff)
        head.version = head.magic = input_u32(in);
    int fds[8] = {head.type == DVK_BROKER_HELLO && !(how & 8) ? doorbell : no_doorbell, doorbell, doorbell, doorbell};
    unsigned fd_count = head.type == DVK_BROKER_HELLO && !(how & 16) ? 1 : (how >> 5) % 4;
    if (head.type == DVK_BROKER_GRANT && how & 8) {
        fds[0] = pidfd;
        fd_count = 1;
    }
    if (head.type == DVK_BROKER_BIND) {
        head.flags |= how & 64 ? DVK_BROKER_F_STATS : 0;
        head.place = input_byte(in);
    }
    if (head.type == DVK_BROKER_WATCH)
        head.flags |= (uint32_t)(how & 0x70) << 4; /* BOUND, ELSEWHERE, NOWAIT */
    if (head.type == DVK_BROKER_SLOTS || head.type == DVK_BROKER_STATS || head.type == DVK_BROKER_SPARE) {
        head.side = input_byte(in) % 5;
        head.node = input_byte(in);
    }
    size_t len;
    const uint8_t *text = input_bytes(in, input_byte(in), &len);
    struct dvk_privileges privileges;
    struct dvk_broker_grant grant = {.address = (uintptr_t)granted, .length = 1u + kind, .access = 3};
    if (head.type == DVK_BROKER_GRANT && !(how & 0x80)) { /* one that is sound */
        text = (const uint8_t *)&grant;
        len = sizeof grant;
    } else if (head.type == DVK_BROKER_SLOTS && head.side == DVK_BROKER_SLOTS_GIVE && how & 0x10) {
        text = (const uint8_t *)"3+1 5+2";
        len = 7;
    } else if (head.type == DVK_BROKER_SET_PRIVILEGES && how & 16) {
        privileges = some_privileges(in);
        text = (const uint8_t *)&privileges;
        len = sizeof privileges;
    }
    head.text_len = how == 0xfe ? input_u32(in) : (uint32_t)len;
    send_packet(player, &head, text, len, fds, fd_count);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    MUST(dvk_doorbell_create(&doorbell) == 0);
    pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    MUST(pidfd >= 0);
    no_doorbell = open("/dev/null", O_RDWR | O_CLOEXEC);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum context_role roles[CLIENTS] = {CONTEXT_PROGRAM, CONTEXT_CELL, CONTEXT_PROXY, CONTEXT_PROGRAM,
                                                       CONTEXT_COPIER};
    const struct broker_host host = {.dc_nodes = host_dc_nodes,
                                     .node_is_up = host_node_is_up,
                                     .slot_owner = host_slot_owner,
                                     .slots_is_ours = host_slots_is_ours,
                                     .slots_take = host_slots_take,
                                     .slots_offered = host_slots_offered,
                                     .slots_watched = host_slots_watched,
                                     .cell_start = host_cell_start,
                                     .cell_event = host_cell_event,
                                     .copier_start = host_copier_start,
                                     .client_gone = host_client_gone,
                                     .dc_find = host_dc_find};
    struct input in = {data, size};
    uint8_t first = input_byte(&in);
    cell_comes = first & 1;
    memset(endpoints, 0, sizeof endpoints);
    memset(channels, 0, sizeof channels);
    MUST(loop_create(&loop) == 0);
    broker_init(&broker, loop, NODE, 1000, &host);
    broker.expects_proxy = first & 2;
    for (int i = 0; i < CLIENTS; i++) {
        int sockets[2];
        MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        players[i].fd = sockets[0];
        MUST(broker_adopt(&broker, sockets[1], roles[i], i == 1 ? DC : 0, &players[i].client) == 0);
        struct dvk_broker_packet hello = {.magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_HELLO};
        if (first & (4u << i))
            send_packet(&players[i], &hello, NULL, 0, &doorbell, 1);
    }
    step();
    for (unsigned steps = 0; in.left && steps < 200; steps++) {
        uint8_t op = input_byte(&in);
        struct player *player = &players[op % CLIENTS];
        json_t *request;
        switch (op / CLIENTS % 8) {
        case 0:
            broker_retry(&broker, op & 0x40 ? DC : 0, op & 0x80 ? -DVK_EDEADDST : 0);
            break;
        case 1:
            broker_node_change(&broker, OTHER_NODE, op & 0x40, "10.0.0.3:1");
            break;
        case 2:
            if (op & 0x40)
                broker_dc_gone(&broker, DC);
            else
                client_close(player->client);
            break;
        case 3:
            request = json_pack("{s:s}", "op", "x");
            if (player->client && client_ready(player->client))
                broker_control(player->client, request, NULL, 0, 0, on_control, NULL, NULL);
            json_decref(request);
            break;
        default:
            packet(&in, player);
        }
        step();
    }
    json_decref(broker_list_endpoints(&broker));
    json_decref(broker_list_channels(&broker));
    broker_destroy(&broker);
    loop_destroy(loop);
    for (int i = 0; i < CLIENTS; i++)
        close(players[i].fd);
    return 0;
}
