/* SPDX-License-Identifier: Apache-2.0 */
/* The broker, with clients played by the test over socket pairs. */
#include "check.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dvk/channel_create.h"
#include "dvkd/broker.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define NODE 2u
#define OTHER_NODE 3u
#define DC 7u

static struct loop *loop;
static struct broker broker;
static unsigned cells_started, clients_gone;
static int cell_result;
static bool dc_live, other_up;
static char last_event[128];
static const uint32_t dc_node_list[] = {NODE, OTHER_NODE};

static int host_dc_nodes(void *context, uint32_t dc, const uint32_t **nodes, uint32_t *count) {
    if (dc != DC || !dc_live)
        return -DVK_ENODC;
    *nodes = dc_node_list;
    *count = 2;
    return 0;
}
static bool host_node_is_up(void *context, uint32_t node) { return node == NODE || (node == OTHER_NODE && other_up); }
static int host_cell_start(void *context, uint32_t dc) {
    cells_started++;
    return cell_result;
}
static void host_cell_event(void *context, uint32_t dc, const json_t *event) {
    snprintf(last_event, sizeof last_event, "%u %s", dc, field_string(event, "event"));
}
static int host_dc_find(void *context, const char *name, uint32_t *dc) {
    *dc = DC;
    return dc_live && strcmp(name, "work") == 0 ? 0 : -DVK_ENODC;
}
static void host_client_gone(void *context, struct client *client) { clients_gone++; }

/* even sets are ours, odd ones the other node's; or none is ours */
static bool none_is_ours, more_may_come;
static unsigned takes, watches;
static uint32_t last_want;
static uint32_t offered[8], offered_count;

static uint32_t host_slot_owner(void *context, uint32_t dc, uint32_t slot) {
    return slot / DVK_SLOT_SET % 2 ? OTHER_NODE : NODE;
}
static bool host_slots_is_ours(void *context, uint32_t dc, uint32_t set) { return !none_is_ours && set % 2 == 0; }
static bool host_slots_take(void *context, uint32_t dc, uint32_t want, uint32_t below) {
    takes++;
    last_want = want;
    return more_may_come;
}
static void host_slots_offered(void *context, uint32_t dc, const uint16_t *sets, uint32_t count) {
    offered_count = count;
    for (uint32_t i = 0; i < count && i < 8; i++)
        offered[i] = sets[i];
}
static void host_slots_watched(void *context, uint32_t dc) { watches++; }

static int setup(void **state) {
    const struct broker_host host = {.dc_nodes = host_dc_nodes,
                                     .node_is_up = host_node_is_up,
                                     .cell_start = host_cell_start,
                                     .cell_event = host_cell_event,
                                     .client_gone = host_client_gone,
                                     .dc_find = host_dc_find,
                                     .slot_owner = host_slot_owner,
                                     .slots_is_ours = host_slots_is_ours,
                                     .slots_take = host_slots_take,
                                     .slots_offered = host_slots_offered,
                                     .slots_watched = host_slots_watched};
    none_is_ours = more_may_come = false;
    takes = watches = offered_count = 0;
    cells_started = clients_gone = 0;
    cell_result = 0;
    dc_live = other_up = true;
    last_event[0] = 0;
    if (loop_create(&loop) < 0)
        return -1;
    broker_init(&broker, loop, NODE, 1000, &host);
    return 0;
}
static int teardown(void **state) {
    broker_destroy(&broker);
    loop_destroy(loop);
    return 0;
}

static void run_loop(void) {
    for (int i = 0; i < 4; i++)
        assert_int_equal(loop_step(loop, 2), 0);
}

/* ---- a client ---- */

struct player {
    int fd;
    struct client *client;
};
struct reply {
    struct dvk_broker_packet packet;
    char text[4096];
    int fds[8];
    unsigned fd_count;
};

static struct player player_new(enum context_role role, uint32_t dc) {
    struct player player;
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    player.fd = sockets[0];
    assert_int_equal(broker_adopt(&broker, sockets[1], role, dc, &player.client), 0);
    return player;
}

static void send_raw(const struct player *player, const void *bytes, size_t len, const int *fds, unsigned fd_count) {
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)bytes, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(fd_count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    assert_int_equal(sendmsg(player->fd, &message, MSG_NOSIGNAL), (ssize_t)len);
}

static void send_packet(const struct player *player, struct dvk_broker_packet packet, const char *text) {
    char bytes[sizeof packet + 4096];
    if (!packet.magic)
        packet.magic = DVK_BROKER_MAGIC;
    if (!packet.version)
        packet.version = DVK_BROKER_VERSION;
    packet.text_len = text ? (uint32_t)strlen(text) : 0;
    memcpy(bytes, &packet, sizeof packet);
    if (text)
        memcpy(bytes + sizeof packet, text, packet.text_len);
    send_raw(player, bytes, sizeof packet + packet.text_len, NULL, 0);
}

/* The next packet; false when there is none, or the socket is closed. */
static bool next(const struct player *player, struct reply *reply) {
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec parts[2] = {{&reply->packet, sizeof reply->packet}, {reply->text, sizeof reply->text - 1}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.space, .msg_controllen = sizeof control.space};
    memset(reply, 0, sizeof *reply);
    run_loop();
    if (recvmsg(player->fd, &message, MSG_DONTWAIT) <= 0)
        return false;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header) {
        reply->fd_count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(reply->fds, CMSG_DATA(header), reply->fd_count * sizeof(int));
    }
    return true;
}

static void close_fds(struct reply *reply) {
    for (unsigned i = 0; i < reply->fd_count; i++)
        close(reply->fds[i]);
    reply->fd_count = 0;
}

static bool is_closed(const struct player *player) {
    char byte;
    run_loop();
    ssize_t n = recv(player->fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static int doorbell(void) {
    int fd;
    assert_int_equal(dvk_doorbell_create(&fd), 0);
    return fd;
}

static void hello_with(const struct player *player, uint32_t version, int fd) {
    struct dvk_broker_packet packet = {
        .magic = DVK_BROKER_MAGIC, .version = version, .type = DVK_BROKER_HELLO, .id = 1};
    send_raw(player, &packet, sizeof packet, &fd, fd >= 0);
}

static struct player greeted(enum context_role role, uint32_t dc) {
    struct player player = player_new(role, dc);
    struct reply reply;
    int fd = doorbell();
    hello_with(&player, DVK_BROKER_VERSION, fd);
    close(fd);
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_HELLO | DVK_BROKER_ANSWER);
    assert_int_equal(reply.packet.status, 0);
    assert_int_equal(reply.packet.node, NODE);
    return player;
}

/* A request and its answer; events met on the way are an error. */
static struct reply ask(const struct player *player, struct dvk_broker_packet packet) {
    struct reply reply;
    packet.id = 77;
    send_packet(player, packet, NULL);
    assert_true(next(player, &reply));
    assert_int_equal(reply.packet.type, packet.type | DVK_BROKER_ANSWER);
    assert_int_equal(reply.packet.id, 77);
    return reply;
}

static dvk_endpoint bind_slot(const struct player *player, uint32_t dc, uint32_t slot) {
    struct reply reply = ask(player, (struct dvk_broker_packet){.type = DVK_BROKER_BIND, .dc = dc, .endpoint = slot});
    assert_int_equal(reply.packet.status, 0);
    return reply.packet.endpoint;
}

static int bind_status(const struct player *player, uint32_t dc, uint32_t slot) {
    return ask(player, (struct dvk_broker_packet){.type = DVK_BROKER_BIND, .dc = dc, .endpoint = slot}).packet.status;
}

static struct dvk_broker_packet connect_packet(uint32_t dc, dvk_endpoint from, dvk_endpoint to) {
    return (struct dvk_broker_packet){.type = DVK_BROKER_CONNECT, .dc = dc, .endpoint = from, .peer = to};
}

static void leave(struct player *player) {
    close(player->fd);
    run_loop();
}

/* ---- tests ---- */

static void a_greeting_is_checked(void **state) {
    struct reply reply;
    struct player player = player_new(CONTEXT_PROGRAM, 0);
    hello_with(&player, DVK_BROKER_VERSION, -1); /* no doorbell */
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.status, -EINVAL);
    int plain = memfd_create("plain", MFD_CLOEXEC); /* could be made shorter under those who map it */
    assert_int_equal(ftruncate(plain, 65536), 0);
    hello_with(&player, DVK_BROKER_VERSION, plain);
    close(plain);
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.status, -EINVAL);
    int fd = doorbell();
    hello_with(&player, DVK_BROKER_VERSION + 1, fd);
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.status, -DVK_EVERSION);
    hello_with(&player, DVK_BROKER_VERSION, fd);
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.status, 0);
    hello_with(&player, DVK_BROKER_VERSION, fd); /* once only */
    assert_true(next(&player, &reply));
    assert_int_equal(reply.packet.status, -EINVAL);
    close(fd);
    leave(&player);
    assert_int_equal(clients_gone, 1);
}

static void a_client_that_breaks_the_protocol_is_dropped(void **state) {
    struct dvk_broker_packet packet = {
        .magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_BIND, .dc = DC};
    struct player player = player_new(CONTEXT_PROGRAM, 0);
    send_raw(&player, &packet, sizeof packet, NULL, 0); /* before the greeting */
    assert_true(is_closed(&player));
    close(player.fd);
    for (int which = 0; which < 5; which++) {
        player = greeted(CONTEXT_PROGRAM, 0);
        struct dvk_broker_packet wrong = packet;
        size_t len = sizeof wrong;
        if (which == 0)
            wrong.magic++;
        else if (which == 1)
            wrong.type = 999;
        else if (which == 2)
            len = 10;
        else if (which == 3)
            wrong.text_len = 5; /* and no text */
        else
            wrong.text_len = 0xffffffffu;
        send_raw(&player, &wrong, len, NULL, 0);
        assert_true(is_closed(&player));
        close(player.fd);
    }
    assert_int_equal(clients_gone, 6);
}

static void slots_are_given_by_the_rules(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0), cell = greeted(CONTEXT_CELL, DC);
    assert_int_equal(bind_status(&program, DC, 128), 0);
    assert_int_equal(bind_status(&program, DC, 128), -DVK_ESLOTBUSY);
    assert_int_equal(bind_status(&program, DC, 64), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&program, DC, 5), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&program, DC, DVK_USER_SLOTS), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&program, 99, 128), -DVK_ENODC);
    assert_int_equal(bind_status(&program, DVK_MAX_DC + 1, 128), -DVK_ENODC);
    assert_int_equal(bind_status(&program, 0, 128), 0);
    assert_int_equal(bind_status(&program, DC, dvk_system_slot(NODE, DVK_SERVICE_PM)), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&program, DC, dvk_system_slot(NODE, 50)), 0);
    assert_int_equal(bind_status(&program, DC, dvk_system_slot(OTHER_NODE, 50)), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&program, DC, dvk_system_slot(NODE, 0)), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&cell, DC, dvk_system_slot(NODE, DVK_SERVICE_PM)), 0);
    assert_int_equal(bind_status(&cell, DC, dvk_system_slot(NODE, 50)), -DVK_ENOTALLOWED);
    assert_int_equal(bind_status(&cell, 0, 128), -DVK_ENOTALLOWED); /* not its DC */
    dvk_endpoint any = bind_slot(&program, DC, DVK_SLOT_ANY);
    assert_true(dvk_slot_is_user(dvk_endpoint_slot(any)));
    struct dvk_broker_packet unbind = {.type = DVK_BROKER_UNBIND, .dc = DC, .endpoint = any};
    assert_int_equal(ask(&cell, unbind).packet.status, -DVK_ENOTBOUND); /* another's */
    assert_int_equal(ask(&program, unbind).packet.status, 0);
    assert_int_equal(ask(&program, unbind).packet.status, -DVK_ENOTBOUND);
    leave(&program);
    leave(&cell);
}

static void send_bind_any(const struct player *player) {
    send_packet(player, (struct dvk_broker_packet){.type = DVK_BROKER_BIND, .id = 77, .dc = DC}, NULL);
}

static void who_finds_no_slot_waits_for_one(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0), gone = greeted(CONTEXT_PROGRAM, 0);
    struct reply reply;
    none_is_ours = true;
    assert_int_equal(bind_status(&program, DC, DVK_SLOT_ANY), -DVK_ENOSLOT); /* no use to wait */
    assert_int_equal(takes, 1);
    more_may_come = true;
    send_bind_any(&program);
    send_bind_any(&gone);
    assert_false(next(&program, &reply));
    leave(&gone); /* whoever goes meanwhile is forgotten */
    broker_slots_ended(&broker, DC + 1, 0);
    assert_false(next(&program, &reply));
    broker_slots_ended(&broker, DC, -EAGAIN); /* asked again */
    assert_false(next(&program, &reply));
    none_is_ours = false;
    broker_slots_ended(&broker, DC, 0);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_BIND | DVK_BROKER_ANSWER);
    assert_int_equal(reply.packet.id, 77);
    assert_int_equal(reply.packet.status, 0);
    none_is_ours = true;
    send_bind_any(&program);
    assert_false(next(&program, &reply));
    broker_slots_ended(&broker, DC, -DVK_ENOSLOT);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -DVK_ENOSLOT);
    send_bind_any(&program);
    assert_false(next(&program, &reply));
    for (int i = 0; i < 100 && broker.bind_wait_count; i++)
        assert_int_equal(loop_step(loop, 50), 0); /* nobody ever says anything */
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -DVK_ENOSLOT);
    leave(&program);
    assert_int_equal(broker.bind_wait_count, 0);
}

static void who_binds_many_asks_for_more_at_a_time(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0);
    none_is_ours = true;
    assert_int_equal(bind_status(&program, DC, DVK_SLOT_ANY), -DVK_ENOSLOT);
    assert_int_equal(last_want, 1);
    none_is_ours = false;
    for (unsigned i = 0; i < 16 * DVK_SLOT_SET; i++)
        assert_int_equal(bind_status(&program, DC, DVK_SLOT_ANY), 0);
    none_is_ours = true;
    assert_int_equal(bind_status(&program, DC, DVK_SLOT_ANY), -DVK_ENOSLOT);
    assert_int_equal(last_want, 3); /* an eighth of 16 sets, and one */
    leave(&program);
}

static void send_slots(const struct player *player, uint32_t op, uint32_t dc, const char *text) {
    send_packet(player, (struct dvk_broker_packet){.type = DVK_BROKER_SLOTS, .side = op, .dc = dc, .node = 3, .flags = 99}, text);
    run_loop();
}

static void a_cell_is_told_of_slots(void **state) {
    struct player cell = greeted(CONTEXT_CELL, DC), program = greeted(CONTEXT_PROGRAM, 0);
    struct slot_table table;
    struct reply reply;
    assert_int_equal(slot_table_from_text(&table, "9 1+2=2 4+1=3"), 0);
    broker_slots_table(&broker, DC, &table, 5); /* nobody listens yet */
    assert_false(broker_slots_wanted(&broker, DC, 1, 9));
    send_slots(&cell, DVK_BROKER_SLOTS_WATCH, DC, NULL);
    assert_int_equal(watches, 1);
    assert_true(broker_slots_watched(&broker, DC));
    broker_slots_table(&broker, DC, &table, 5);
    broker_slots_table(&broker, DC, &table, 5); /* it knows that one */
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_SLOTS_TABLE);
    assert_int_equal(reply.packet.id, 5);
    assert_int_equal(reply.packet.node, 9);
    const uint16_t runs[] = {1, 2, 2, 0, 4, 1, 3, 0};
    assert_int_equal(reply.packet.text_len, sizeof runs);
    assert_memory_equal(reply.text, runs, sizeof runs);
    assert_false(next(&cell, &reply));
    assert_true(broker_slots_wanted(&broker, DC, 4, 9));
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_SLOTS_WANTED);
    assert_int_equal(reply.packet.node, 4);
    assert_int_equal(reply.packet.flags, 9);
    send_slots(&cell, DVK_BROKER_SLOTS_GIVE, DC, "2+2 7+1");
    assert_int_equal(offered_count, 3);
    assert_int_equal(offered[2], 7);
    broker_slots_settled(&broker, DC);
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_SLOTS_SETTLED);
    send_slots(&cell, DVK_BROKER_SLOTS_TAKE, DC, NULL); /* there is no use in it */
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_SLOTS_ENDED);
    assert_int_equal(reply.packet.status, -EAGAIN);
    leave(&cell);
    assert_false(broker_slots_watched(&broker, DC));
    slot_table_free(&table);
    leave(&program);
}

static void wrong_words_about_slots_end_a_client(void **state) {
    static const struct {
        enum context_role role;
        uint32_t op, dc;
        const char *text;
    } wrong[] = {{CONTEXT_PROGRAM, DVK_BROKER_SLOTS_WATCH, DC, NULL},   {CONTEXT_CELL, DVK_BROKER_SLOTS_WATCH, DC + 1, NULL},
                 {CONTEXT_CELL, 9, DC, NULL},                           {CONTEXT_CELL, DVK_BROKER_SLOTS_GIVE, DC, "x"},
                 {CONTEXT_CELL, DVK_BROKER_SLOTS_GIVE, DC, "2+1 1+1"},  {CONTEXT_CELL, DVK_BROKER_SLOTS_GIVE, DC, "1+257"},
                 {CONTEXT_CELL, DVK_BROKER_SLOTS_GIVE, DC, "1+1 1+1"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct player player = greeted(wrong[i].role, wrong[i].role == CONTEXT_CELL ? DC : 0);
        send_slots(&player, wrong[i].op, wrong[i].dc, wrong[i].text);
        assert_true(is_closed(&player));
        close(player.fd);
    }
    assert_int_equal(clients_gone, sizeof wrong / sizeof *wrong);
    assert_int_equal(watches + takes + offered_count, 0);
}

static bool memfd_is_dead(int memfd) {
    struct dvk_channel_header *header = mmap(NULL, sizeof *header, PROT_READ, MAP_SHARED, memfd, 0);
    assert_ptr_not_equal(header, MAP_FAILED);
    bool dead = header->magic == DVK_CHANNEL_MAGIC && header->dead;
    munmap(header, sizeof *header);
    return dead;
}

static void two_programs_get_a_channel_and_learn_of_its_end(void **state) {
    struct player a = greeted(CONTEXT_PROGRAM, 0), b = greeted(CONTEXT_PROGRAM, 0);
    dvk_endpoint from = bind_slot(&a, DC, 128), to = bind_slot(&b, DC, 129), second = bind_slot(&b, DC, 130);
    assert_int_equal(ask(&a, connect_packet(DC, to, from)).packet.status, -DVK_ENOTALLOWED); /* not its endpoint */
    assert_int_equal(ask(&a, connect_packet(DC, from, from)).packet.status, -DVK_ENOTALLOWED);
    assert_int_equal(ask(&a, connect_packet(DC, from, dvk_endpoint_make(3, 129))).packet.status, -DVK_ENOTBOUND);
    assert_int_equal(ask(&a, connect_packet(DC, from, dvk_endpoint_make(0, 140))).packet.status, -DVK_ENOTBOUND);

    struct reply event, answer = ask(&a, connect_packet(DC, from, dvk_endpoint_make(0, 129)));
    assert_int_equal(answer.packet.status, 0);
    assert_int_equal(answer.fd_count, 3);
    assert_int_equal(answer.packet.peer, to);
    assert_true(next(&b, &event));
    assert_int_equal(event.packet.type, DVK_BROKER_CHANNEL);
    assert_int_equal(event.packet.peer, from);
    assert_int_equal(event.packet.endpoint, to);
    assert_int_equal(event.packet.channel, answer.packet.channel);
    assert_int_equal(event.packet.side, 1 - answer.packet.side);
    assert_int_equal(event.fd_count, 3);
    assert_int_equal(write(answer.fds[1], "x", 1), 1); /* the two sockets are a pair */
    char byte;
    assert_int_equal(read(event.fds[1], &byte, 1), 1);

    /* a second address over the same channel: no descriptors again */
    struct reply again = ask(&a, connect_packet(DC, from, second));
    assert_int_equal(again.packet.channel, answer.packet.channel);
    assert_int_equal(again.fd_count, 0);
    struct reply told;
    assert_true(next(&b, &told));
    assert_int_equal(told.packet.endpoint, second);
    assert_int_equal(told.fd_count, 0);

    assert_false(memfd_is_dead(answer.fds[0]));
    leave(&b);
    assert_true(memfd_is_dead(answer.fds[0]));
    assert_true(next(&a, &event));
    assert_int_equal(event.packet.type, DVK_BROKER_CHANNEL_GONE);
    assert_int_equal(event.packet.channel, answer.packet.channel);
    assert_int_equal(ask(&a, connect_packet(DC, from, to)).packet.status, -DVK_ENOTBOUND);
    close_fds(&answer);
    leave(&a);
}

static void a_client_can_close_its_own_channels_only(void **state) {
    struct player a = greeted(CONTEXT_PROGRAM, 0), b = greeted(CONTEXT_PROGRAM, 0), c = greeted(CONTEXT_PROGRAM, 0);
    dvk_endpoint from = bind_slot(&a, DC, 128), to = bind_slot(&b, DC, 129);
    struct reply event, answer = ask(&a, connect_packet(DC, from, to));
    assert_true(next(&b, &event));
    close_fds(&event);
    struct dvk_broker_packet close_it = {.type = DVK_BROKER_CHANNEL_CLOSED, .channel = answer.packet.channel};
    send_packet(&c, close_it, NULL);
    run_loop();
    assert_false(memfd_is_dead(answer.fds[0]));
    send_packet(&b, close_it, NULL);
    run_loop();
    assert_true(memfd_is_dead(answer.fds[0]));
    assert_true(next(&a, &event));
    assert_int_equal(event.packet.type, DVK_BROKER_CHANNEL_GONE);
    close_fds(&answer);
    answer = ask(&a, connect_packet(DC, from, to)); /* a new one */
    assert_int_equal(answer.fd_count, 3);
    close_fds(&answer);
    leave(&a);
    leave(&b);
    leave(&c);
}

static void guests_are_bound_by_their_cell_alone(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0), cell = greeted(CONTEXT_CELL, DC);
    struct dvk_broker_packet bind = {.type = DVK_BROKER_GUEST_BIND, .dc = DC, .endpoint = 130};
    assert_int_equal(ask(&program, bind).packet.status, -DVK_ENOTALLOWED);
    struct reply guest = ask(&cell, bind);
    assert_int_equal(guest.packet.status, 0);
    assert_int_equal(guest.fd_count, 3);
    assert_int_equal(guest.packet.side, 1);
    assert_int_equal(dvk_endpoint_slot(guest.packet.endpoint), 130);
    assert_int_equal(ask(&cell, bind).packet.status, -DVK_ESLOTBUSY);
    bind.endpoint = 70; /* the other node's share */
    assert_int_equal(ask(&cell, bind).packet.status, -DVK_ENOTALLOWED);
    bind.flags = DVK_BROKER_F_ADOPTED;
    struct reply adopted = ask(&cell, bind);
    assert_int_equal(adopted.packet.status, 0);
    close_fds(&adopted);
    bind.flags = 0;
    bind.endpoint = 63; /* the zygote's */
    struct reply zygote = ask(&cell, bind);
    assert_int_equal(zygote.packet.status, 0);
    close_fds(&zygote);
    bind.endpoint = 62;
    assert_int_equal(ask(&cell, bind).packet.status, -DVK_ENOTALLOWED);
    /* nobody else speaks to a guest */
    dvk_endpoint from = bind_slot(&program, DC, 128);
    assert_int_equal(ask(&program, connect_packet(DC, from, guest.packet.endpoint)).packet.status, -DVK_ENOTALLOWED);
    /* nor does its cell speak as a guest */
    assert_int_equal(ask(&cell, connect_packet(DC, guest.packet.endpoint, from)).packet.status, -DVK_ENOTALLOWED);
    struct dvk_broker_packet unbind = {.type = DVK_BROKER_GUEST_UNBIND, .dc = DC, .endpoint = guest.packet.endpoint};
    assert_int_equal(ask(&program, unbind).packet.status, -DVK_ENOTBOUND);
    assert_int_equal(ask(&cell, unbind).packet.status, 0);
    assert_true(memfd_is_dead(guest.fds[0]));
    bind.endpoint = 130;
    struct reply next_guest = ask(&cell, bind);
    assert_true(next_guest.packet.endpoint > guest.packet.endpoint); /* a new generation */
    leave(&cell);
    assert_true(memfd_is_dead(next_guest.fds[0])); /* the guests of a dead cell are woken */
    close_fds(&guest);
    close_fds(&next_guest);
    leave(&program);
}

static void a_service_that_is_not_there_gets_its_cell_started(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0);
    struct reply reply;
    dvk_endpoint from = bind_slot(&program, DC, 128);
    send_packet(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, DVK_SERVICE_FS)), NULL);
    assert_false(next(&program, &reply)); /* waits */
    assert_int_equal(cells_started, 1);
    struct player cell = greeted(CONTEXT_CELL, DC);
    bind_slot(&cell, DC, dvk_system_slot(NODE, DVK_SERVICE_FS));
    broker_retry(&broker, DC, 0);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, 0);
    assert_int_equal(reply.fd_count, 3);
    assert_true(dvk_endpoint_generation(reply.packet.peer) >= 1000);
    close_fds(&reply);
    leave(&cell);
    assert_true(next(&program, &reply)); /* CHANNEL_GONE */
    /* one that fails, one of a DC that ends, one of a client that goes */
    send_packet(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, DVK_SERVICE_FS)), NULL);
    run_loop();
    broker_retry(&broker, DC, -DVK_EDEADDST);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -DVK_EDEADDST);
    send_packet(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, DVK_SERVICE_PM)), NULL);
    run_loop();
    broker_dc_gone(&broker, DC);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -DVK_ENODC);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_DC_GONE);
    send_packet(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, DVK_SERVICE_PM)), NULL);
    run_loop();
    leave(&program);
    broker_retry(&broker, DC, 0); /* nobody is left to answer */
    cell_result = -DVK_ENODC;
    program = greeted(CONTEXT_PROGRAM, 0);
    from = bind_slot(&program, DC, 128);
    assert_int_equal(
        ask(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, DVK_SERVICE_PM))).packet.status,
        -DVK_ENODC);
    assert_int_equal(ask(&program, connect_packet(DC, from, dvk_service_endpoint(NODE, 99))).packet.status,
                     -DVK_ENOTBOUND);
    leave(&program);
}

static void a_dc_is_found_by_its_name(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0), cell = greeted(CONTEXT_CELL, DC);
    struct reply reply;
    const struct dvk_broker_packet find = {.type = DVK_BROKER_DC_FIND};
    send_packet(&program, find, "work");
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, 0);
    assert_int_equal(reply.packet.dc, DC);
    send_packet(&program, find, "play");
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -DVK_ENODC);
    struct {
        struct dvk_broker_packet head;
        char text[4];
    } hidden = {{.magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_DC_FIND, .text_len = 4}, "wo\0k"};
    send_raw(&program, &hidden, sizeof hidden.head + 4, NULL, 0);
    assert_true(next(&program, &reply));
    assert_int_equal(reply.packet.status, -EINVAL);
    send_packet(&cell, find, "work");
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.status, -DVK_ENOTALLOWED);

    struct dvk_broker_packet nodes = {.type = DVK_BROKER_DC_NODES, .dc = DC};
    reply = ask(&program, nodes);
    assert_int_equal(reply.packet.status, 0);
    assert_int_equal(reply.packet.text_len, sizeof dc_node_list);
    nodes.dc = DVK_MAX_DC + 1;
    assert_int_equal(ask(&program, nodes).packet.status, -DVK_ENODC);
    nodes.dc = 0;
    assert_int_equal(ask(&program, nodes).packet.status, -DVK_ENODC);
    leave(&cell);
    leave(&program);
}

static void a_dc_that_is_cut_unbinds_its_programs(void **state) {
    struct player one = greeted(CONTEXT_PROGRAM, 0), other = greeted(CONTEXT_PROGRAM, 0);
    struct reply reply;
    dvk_endpoint from = bind_slot(&one, DC, 128), to = bind_slot(&other, DC, 129);
    assert_int_equal(ask(&one, connect_packet(DC, from, to)).packet.status, 0);
    assert_true(next(&other, &reply)); /* it is told of the channel */
    broker_dc_cut(&broker, DC);
    assert_true(next(&one, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_CHANNEL_GONE);
    assert_int_equal(reply.packet.status, -DVK_ENODC);
    assert_true(next(&one, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_DC_GONE);
    assert_int_equal(broker.registry.channels.count, 0);
    assert_int_equal(ask(&one, connect_packet(DC, from, to)).packet.status, -DVK_ENOTALLOWED);
    /* the addresses never come back */
    dvk_endpoint again = bind_slot(&one, DC, 128);
    assert_int_equal(dvk_endpoint_generation(again), dvk_endpoint_generation(from) + 1);
    leave(&one);
    leave(&other);
}

static void other_nodes_are_reached_through_the_proxy(void **state) {
    struct player program = greeted(CONTEXT_PROGRAM, 0);
    struct reply reply, event;
    dvk_endpoint from = bind_slot(&program, DC, 128), remote = dvk_service_endpoint(OTHER_NODE, DVK_SERVICE_PM);
    assert_int_equal(ask(&program, connect_packet(DC, from, remote)).packet.status, -DVK_ENODEUNREACH); /* no proxy */
    broker.expects_proxy = true;
    send_packet(&program, connect_packet(DC, from, remote), NULL);
    assert_false(next(&program, &reply));
    broker_retry(&broker, DC, 0); /* this node's cell of the DC is ready, offers nothing more, ends: nothing that it waits for */
    broker_retry(&broker, DC, -DVK_ENOTBOUND);
    broker_retry(&broker, DC, -DVK_EDEADDST);
    assert_false(next(&program, &reply));
    struct player proxy = player_new(CONTEXT_PROXY, 0);
    broker_node_change(&broker, OTHER_NODE, true, "10.0.0.3:7");
    assert_true(next(&program, &reply)); /* the node event */
    assert_int_equal(reply.packet.type, DVK_BROKER_NODE);
    assert_int_equal(reply.packet.flags, DVK_BROKER_F_UP);
    int fd = doorbell();
    hello_with(&proxy, DVK_BROKER_VERSION, fd);
    close(fd);
    assert_true(next(&proxy, &reply));
    assert_true(next(&proxy, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_NODE);
    assert_string_equal(reply.text, "10.0.0.3:7");
    assert_true(next(&program, &reply)); /* the waiting CONNECT */
    assert_int_equal(reply.packet.status, 0);
    assert_int_equal(reply.packet.flags, DVK_BROKER_F_PROXY);
    assert_int_equal(reply.fd_count, 3);
    assert_true(next(&proxy, &event));
    assert_int_equal(event.packet.type, DVK_BROKER_CHANNEL);
    assert_int_equal(event.packet.endpoint, remote);
    assert_int_equal(event.packet.node, OTHER_NODE);
    close_fds(&event);
    /* a user slot of the other node's share */
    struct reply user = ask(&program, connect_packet(DC, from, dvk_endpoint_make(5, 64)));
    assert_int_equal(user.packet.status, 0);
    assert_int_equal(user.packet.channel, reply.packet.channel);
    assert_true(next(&proxy, &event));
    assert_int_equal(event.packet.node, OTHER_NODE);
    assert_int_equal(ask(&program, connect_packet(DC, from, dvk_service_endpoint(9, DVK_SERVICE_PM))).packet.status,
                     -DVK_ENOTBOUND); /* none of the DC's nodes */
    other_up = false;
    assert_int_equal(ask(&program, connect_packet(DC, from, remote)).packet.status, -DVK_ENODEUNREACH);
    /* the other way round: the proxy connects for a remote source, and for nothing that is not here */
    struct reply inward = ask(&proxy, connect_packet(DC, DVK_NONE, from));
    assert_int_equal(inward.packet.status, 0);
    assert_int_equal(inward.packet.channel, reply.packet.channel);
    assert_true(next(&program, &event));
    assert_int_equal(event.packet.flags, DVK_BROKER_F_PROXY);
    assert_int_equal(ask(&proxy, connect_packet(DC, DVK_NONE, remote)).packet.status, -DVK_ENOTBOUND);
    assert_int_equal(ask(&proxy, connect_packet(DC, from, from)).packet.status, -DVK_ENOTALLOWED);
    leave(&proxy);
    assert_true(next(&program, &event));
    assert_int_equal(event.packet.type, DVK_BROKER_CHANNEL_GONE);
    assert_int_equal(event.packet.status, -DVK_ENODEUNREACH);
    close_fds(&reply);
    leave(&program);
}

static int control_status;
static char control_text[64];
static unsigned control_calls;
static void on_control(void *context, int status, const json_t *answer) {
    control_calls++;
    control_status = status;
    const char *text = field_string(answer, "a");
    snprintf(control_text, sizeof control_text, "%s", text ? text : "");
}

static void control_requests_are_answered_once(void **state) {
    struct player cell = greeted(CONTEXT_CELL, DC), program = greeted(CONTEXT_PROGRAM, 0);
    cleanup_json json_t *request = json_pack("{s:s}", "op", "x");
    struct reply reply;
    control_calls = 0;
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    broker_control(cell.client, request, pipes, 2, 0, on_control, NULL, NULL);
    assert_true(next(&cell, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_CONTROL);
    assert_string_equal(reply.text, "{\"op\":\"x\"}");
    assert_int_equal(reply.fd_count, 2);
    close_fds(&reply);
    assert_int_equal(fcntl(pipes[0], F_GETFD), -1); /* taken over */
    struct dvk_broker_packet answer = {.type = DVK_BROKER_CONTROL_REPLY, .id = reply.packet.id};
    send_packet(&program, answer, "{\"a\": \"forged\"}"); /* another client's answer does not count */
    run_loop();
    assert_int_equal(control_calls, 0);
    answer.flags = DVK_BROKER_F_MORE;
    send_packet(&cell, answer, "{\"a\": \"in p");
    answer.flags = 0;
    send_packet(&cell, answer, "arts\"}");
    run_loop();
    assert_int_equal(control_calls, 1);
    assert_int_equal(control_status, 0);
    assert_string_equal(control_text, "in parts");
    send_packet(&cell, answer, "{\"a\": \"again\"}");
    run_loop();
    assert_int_equal(control_calls, 1);

    broker_control(cell.client, request, NULL, 0, 5, on_control, NULL, NULL);
    for (int i = 0; i < 10 && control_calls < 2; i++)
        run_loop();
    assert_int_equal(control_status, -DVK_ETIMEDOUT);
    assert_true(next(&cell, &reply));
    broker_control(cell.client, request, NULL, 0, 0, on_control, NULL, NULL);
    assert_true(next(&cell, &reply));
    answer.id = reply.packet.id;
    send_packet(&cell, answer, "no json");
    run_loop();
    assert_int_equal(control_status, -DVK_EBADPEER);

    send_packet(&cell, (struct dvk_broker_packet){.type = DVK_BROKER_CONTROL_SEND}, "{\"event\": \"ready\"}");
    run_loop();
    assert_string_equal(last_event, "7 ready");
    last_event[0] = 0;
    send_packet(&program, (struct dvk_broker_packet){.type = DVK_BROKER_CONTROL_SEND}, "{\"event\": \"ready\"}");
    send_packet(&cell, (struct dvk_broker_packet){.type = DVK_BROKER_CONTROL_SEND}, "[1]");
    run_loop();
    assert_string_equal(last_event, "");

    broker_control(cell.client, request, NULL, 0, 0, on_control, NULL, NULL);
    leave(&cell);
    assert_int_equal(control_calls, 4);
    assert_int_equal(control_status, -DVK_EDEADDST);
    leave(&program);
}

static void one_that_does_not_read_does_not_stop_the_others(void **state) {
    struct player deaf = greeted(CONTEXT_PROGRAM, 0), other = greeted(CONTEXT_PROGRAM, 0);
    for (unsigned i = 0; i < 2 * CLIENT_QUEUE_MAX && clients_gone == 0; i++) {
        broker_node_change(&broker, OTHER_NODE, i % 2, "x");
        struct reply reply;
        while (recv(other.fd, &reply.packet, sizeof reply.packet, MSG_DONTWAIT) > 0)
            ;
        if (i % 64 == 0)
            assert_int_equal(loop_step(loop, 0), 0);
    }
    run_loop();
    assert_int_equal(clients_gone, 1);
    bind_slot(&other, DC, 128);
    leave(&other);
    close(deaf.fd);
}

static void random_packets_do_no_harm(void **state) {
    srandom(5);
    struct player players[3] = {greeted(CONTEXT_PROGRAM, 0), greeted(CONTEXT_CELL, DC), greeted(CONTEXT_PROXY, 0)};
    static const enum context_role roles[] = {CONTEXT_PROGRAM, CONTEXT_CELL, CONTEXT_PROXY};
    static const uint32_t types[] = {1, 2, 3, 4, 4, 5, 5, 6, 13, 16, 17, 18, 32, 36, 12345};
    for (int i = 0; i < 20000; i++) {
        int who = (int)(random() % 3);
        struct dvk_broker_packet packet = {.magic = DVK_BROKER_MAGIC,
                                           .version = random() % 200 ? DVK_BROKER_VERSION : 9,
                                           .type = types[(unsigned long)random() % (random() % 50 ? 12 : 15)],
                                           .id = (uint64_t)random() % 5,
                                           .endpoint = (uint64_t)(random() % 200) | (uint64_t)(random() % 3 * 1000) << 32,
                                           .peer = random() % 2 ? (uint64_t)random() % 200
                                                                : dvk_system_slot((uint32_t)random() % 5,
                                                                                  (uint32_t)random() % 8),
                                           .channel = (uint64_t)random() % 40,
                                           .dc = random() % 4 ? DC : (uint32_t)random(),
                                           .flags = (uint32_t)random() % 16};
        if (random() % 3 == 0)
            packet.endpoint = 0;
        send_raw(&players[who], &packet, sizeof packet, NULL, 0);
        if (random() % 8 == 0) {
            assert_int_equal(loop_step(loop, 0), 0);
            broker_retry(&broker, DC, random() % 2 ? 0 : -DVK_EDEADDST);
        }
        struct reply reply;
        for (int k = 0; k < 3; k++) {
            bool gone = false;
            for (;;) {
                union {
                    char space[CMSG_SPACE(8 * sizeof(int))];
                    struct cmsghdr align;
                } control;
                struct iovec part = {&reply.packet, sizeof reply.packet};
                struct msghdr message = {.msg_iov = &part,
                                         .msg_iovlen = 1,
                                         .msg_control = control.space,
                                         .msg_controllen = sizeof control.space};
                ssize_t n = recvmsg(players[k].fd, &message, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno == ECONNRESET))
                    gone = true;
                if (n <= 0)
                    break;
                struct cmsghdr *header = CMSG_FIRSTHDR(&message);
                for (size_t f = 0; header && f < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); f++) {
                    int fd;
                    memcpy(&fd, CMSG_DATA(header) + f * sizeof fd, sizeof fd);
                    close(fd);
                }
            }
            if (gone) {
                close(players[k].fd);
                run_loop();
                players[k] = greeted(roles[k], k == 1 ? DC : 0);
            }
        }
    }
    struct player sane = greeted(CONTEXT_PROGRAM, 0);
    bind_slot(&sane, DC, DVK_SLOT_ANY);
    for (int k = 0; k < 3; k++)
        leave(&players[k]);
    leave(&sane);
    assert_int_equal(broker.registry.channels.count, 0);
}

/* Ask to be told; answered: is there an answer at once? */
static int32_t watch(const struct player *player, uint64_t id, dvk_endpoint endpoint, uint32_t flags,
                     struct reply *reply) {
    send_packet(player, (struct dvk_broker_packet){.type = DVK_BROKER_WATCH, .id = id, .dc = DC, .peer = endpoint,
                                                   .flags = flags}, NULL);
    return next(player, reply) ? reply->packet.status : 1;
}

static void expect_told(const struct player *player, uint64_t id, int32_t status, dvk_endpoint endpoint) {
    struct reply reply;
    assert_true(next(player, &reply));
    assert_int_equal(reply.packet.type, DVK_BROKER_WATCH | DVK_BROKER_ANSWER);
    assert_int_equal(reply.packet.id, id);
    assert_int_equal(reply.packet.status, status);
    assert_true(reply.packet.endpoint == endpoint);
}

static void who_waits_for_an_endpoint_is_told(void **state) {
    struct player one = greeted(CONTEXT_PROGRAM, 0), two = greeted(CONTEXT_PROGRAM, 0);
    struct player cell = greeted(CONTEXT_CELL, DC + 1), proxy = greeted(CONTEXT_PROXY, 0);
    const uint32_t slot = dvk_system_slot(NODE, 100);
    const dvk_endpoint service = slot, there = dvk_service_endpoint(OTHER_NODE, 100);
    struct reply reply;
    while (next(&one, &reply) || next(&two, &reply) || next(&cell, &reply) || next(&proxy, &reply)) {
    }
    assert_int_equal(watch(&one, 1, service, 0, &reply), -DVK_ENOTBOUND);
    assert_int_equal(watch(&one, 2, service, DVK_BROKER_F_BOUND | DVK_BROKER_F_NOWAIT, &reply), -EINPROGRESS);
    assert_int_equal(watch(&one, 3, service, DVK_BROKER_F_BOUND, &reply), 1);
    assert_int_equal(watch(&cell, 4, service, DVK_BROKER_F_BOUND, &reply), -DVK_ENOTALLOWED);
    dvk_endpoint bound = bind_slot(&two, DC, slot);
    expect_told(&one, 3, 0, bound);
    assert_int_equal(watch(&one, 5, service, DVK_BROKER_F_BOUND, &reply), 0);
    assert_int_equal(watch(&one, 6, bound + (1ull << 32), DVK_BROKER_F_BOUND, &reply), -DVK_ENOTBOUND);
    assert_int_equal(watch(&one, 7, service, 0, &reply), 1);
    assert_int_equal(watch(&proxy, 8, bound, 0, &reply), 1);
    assert_int_equal(watch(&one, 9, bound, 0, &reply), 1);
    send_packet(&one, (struct dvk_broker_packet){.type = DVK_BROKER_UNWATCH, .dc = DC, .peer = bound, .channel = 9}, NULL);
    expect_told(&one, 9, -DVK_EINTERRUPTED, DVK_NONE);
    leave(&two);
    expect_told(&one, 7, 0, bound);
    expect_told(&proxy, 8, 0, bound);
    /* of another node: that one's dvkd is to be asked, if it is there */
    assert_int_equal(watch(&one, 10, there, 0, &reply), 0);
    assert_true(reply.packet.flags & DVK_BROKER_F_ELSEWHERE);
    assert_int_equal(reply.packet.node, OTHER_NODE);
    assert_int_equal(watch(&proxy, 11, there, 0, &reply), -DVK_ENOTBOUND);
    other_up = false;
    assert_int_equal(watch(&one, 12, there, 0, &reply), -DVK_ENODEUNREACH);
    /* the DC goes, and a client that waits */
    assert_int_equal(watch(&one, 13, service, DVK_BROKER_F_BOUND, &reply), 1);
    assert_int_equal(watch(&proxy, 14, service, DVK_BROKER_F_BOUND, &reply), 1);
    leave(&proxy);
    broker_dc_gone(&broker, DC);
    expect_told(&one, 13, -DVK_ENODC, DVK_NONE);
    assert_int_equal(broker.watched.count, 0);
    leave(&one);
    leave(&cell);
}

int main(void) {
    setenv("DVS_LOG", "error", 1);
    log_init("test");
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_greeting_is_checked),
        TEST(a_client_that_breaks_the_protocol_is_dropped),
        TEST(slots_are_given_by_the_rules),
        TEST(who_finds_no_slot_waits_for_one),
        TEST(who_binds_many_asks_for_more_at_a_time),
        TEST(a_cell_is_told_of_slots),
        TEST(wrong_words_about_slots_end_a_client),
        TEST(two_programs_get_a_channel_and_learn_of_its_end),
        TEST(a_client_can_close_its_own_channels_only),
        TEST(guests_are_bound_by_their_cell_alone),
        TEST(a_service_that_is_not_there_gets_its_cell_started),
        TEST(a_dc_is_found_by_its_name),
        TEST(a_dc_that_is_cut_unbinds_its_programs),
        TEST(other_nodes_are_reached_through_the_proxy),
        TEST(who_waits_for_an_endpoint_is_told),
        TEST(control_requests_are_answered_once),
        TEST(one_that_does_not_read_does_not_stop_the_others),
        TEST(random_packets_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
