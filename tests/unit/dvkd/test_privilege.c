/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Privileges on one node: the broker in a thread, processes of libdvk here: a server, a client that does not obey them, and a
 * manager that may set them.
 */
#include "played_node.h"

#include "common/cleanup.h"
#include "dvk/broker.h"
#include "dvk/channel_create.h"
#include "dvkd/broker_private.h"
#include "privilege_hand.h"

#include <dvk/post.h>
#include <dvk/primitives.h>
#include <dvk/privilege.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EVERYTHING ((uint32_t)DVK_MAY_ALL)
#define WAIT_MS 10000

static struct client *cell;

static struct dvk *server, *client, *manager;
static dvk_endpoint at_server, at_client, at_manager;

/* ---- the node ---- */

static void host_client_gone(void *context, struct client *gone) {
    if (gone == cell)
        cell = NULL;
}

static struct dvk *process(dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_PROGRAM, 0, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, self), 0);
    return dvk;
}

static int setup(void **state) {
    struct broker_host host = node_host();
    host.client_gone = host_client_gone;
    if (node_start(&host))
        return -1;
    server = process(&at_server);
    client = process(&at_client);
    manager = process(&at_manager);
    return 0;
}

static int teardown(void **state) {
    dvk_close(server);
    dvk_close(client);
    dvk_close(manager);
    node_stop();
    return 0;
}

/* ---- what happens ---- */

static struct dvk_privileges privileges(uint32_t calls) {
    struct dvk_privileges made = DVK_PRIVILEGES_ALL;
    made.calls = calls;
    return made;
}

static struct dvk_peers just(dvk_endpoint endpoint) {
    return (struct dvk_peers){.count = 1, .ranges = {{endpoint, endpoint}}};
}

/* The manager sets the client's. */
static void allow(const struct dvk_privileges *wanted) {
    assert_int_equal(dvk_set_privileges(manager, at_manager, at_client, wanted, WAIT_MS), 0);
}
static void allow_calls(uint32_t calls) {
    const struct dvk_privileges wanted = privileges(calls);
    allow(&wanted);
}

static struct dvk_privileges ask(dvk_endpoint whose) {
    struct dvk_privileges now;
    memset(&now, 0xff, sizeof now);
    assert_int_equal(dvk_get_privileges(manager, at_manager, whose, &now, WAIT_MS), 0);
    return now;
}

static int64_t refused_of(dvk_endpoint whose) {
    int64_t count = -1;
    pthread_mutex_lock(&lock);
    cleanup_json json_t *list = broker_list_endpoints(&broker);
    pthread_mutex_unlock(&lock);
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item) {
        if (json_integer_value(json_object_get(item, "slot")) == dvk_endpoint_slot(whose))
            count = json_integer_value(json_object_get(item, "refused"));
    }
    return count;
}

struct outcome {
    bool done;
    int status;
};
static void on_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                    const int *fds, unsigned fd_count) {
    *(struct outcome *)context = (struct outcome){true, status};
}

/* A call from one process to another, which answers it. Its status. */
static int round_trip(struct dvk *from_process, dvk_endpoint from, struct dvk *to_process, dvk_endpoint to) {
    struct outcome outcome = {0};
    struct dvk_message message = {.destination = to, .type = 7};
    struct dvk_request *req;
    int error = dvk_call(from_process, from, &message, NULL, 0, NULL, 0, on_done, &outcome, NULL);
    if (error < 0)
        return error;
    for (int i = 0; i < 20000 && !outcome.done; i++) {
        if (dvk_receive(to_process, &req, 0) == 0) {
            assert_true(req->msg.source == from && req->msg.type == 7);
            dvk_reply_status(to_process, req, 0);
        }
        error = dvk_receive(from_process, &req, 1);
        assert_int_equal(error, -DVK_ETIMEDOUT);
    }
    assert_true(outcome.done);
    return outcome.status;
}

/* ---- messages of who does not obey ---- */

static const struct {
    enum hand_kind kind;
    uint32_t right;
} messages[] = {{HAND_SEND, DVK_MAY_SEND}, {HAND_SENDREC, DVK_MAY_SENDREC}, {HAND_POST, DVK_MAY_SEND}, {HAND_NOTIFY, DVK_MAY_NOTIFY}};

/* Does it arrive? */
static bool arrives(enum hand_kind kind, dvk_endpoint way, dvk_endpoint to) {
    struct dvk_request *req;
    int slot = hand_publish(client, DC, at_client, way, to, kind);
    int error = dvk_receive(server, &req, 0);
    if (error == 0) {
        assert_true(req->msg.source == at_client && req->msg.destination == to);
        assert_int_equal(req->msg.notify, kind == HAND_NOTIFY ? 9 : 0);
        if (req->wants_reply)
            dvk_reply_status(server, req, 0);
        else
            dvk_release(server, req);
        hand_free(client, DC, at_client, way, slot);
        return true;
    }
    assert_int_equal(error, -DVK_ETIMEDOUT);
    assert_int_equal(hand_outcome(client, DC, at_client, way, slot), -DVK_ENOTALLOWED);
    hand_free(client, DC, at_client, way, slot);
    return false;
}

static void test_calls_of_who_does_not_obey(void **state) {
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        for (uint32_t bit = 0; 1u << bit < EVERYTHING; bit++) {
            bool meant = messages[i].right == 1u << bit;
            allow_calls(1u << bit);
            assert_int_equal(arrives(messages[i].kind, at_server, at_server), meant);
            allow_calls(EVERYTHING & ~(1u << bit));
            assert_int_equal(arrives(messages[i].kind, at_server, at_server), !meant);
        }
    allow_calls(EVERYTHING);
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        assert_true(arrives(messages[i].kind, at_server, at_server));
}

/* Over a channel that exists for another pair. */
static void test_sets_of_who_does_not_obey(void **state) {
    dvk_endpoint other;
    struct dvk_privileges wanted = privileges(EVERYTHING);
    assert_int_equal(dvk_bind(server, DC, DVK_SLOT_ANY, &other), 0);
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(arrives(messages[i].kind, at_server, other));
    wanted.to = just(at_server);
    allow(&wanted);
    for (size_t i = 0; i < 4; i++) {
        assert_false(arrives(messages[i].kind, at_server, other));
        assert_true(arrives(messages[i].kind, at_server, at_server));
    }
    assert_int_equal(round_trip(client, at_client, server, other), -DVK_ENOTALLOWED);
    allow_calls(EVERYTHING);
    assert_true(arrives(HAND_SEND, at_server, other));
    wanted = privileges(EVERYTHING);
    wanted.from = just(at_manager);
    assert_int_equal(dvk_set_privileges(manager, at_manager, other, &wanted, WAIT_MS), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_false(arrives(messages[i].kind, at_server, other));
        assert_true(arrives(messages[i].kind, at_server, at_server));
    }
    assert_int_equal(round_trip(client, at_client, server, other), -DVK_ENOTALLOWED);
    assert_int_equal(round_trip(manager, at_manager, server, other), 0);
}

/* What is refused is that endpoint's: another one of the same process is not concerned. */
static void test_each_endpoint_of_a_channel(void **state) {
    dvk_endpoint other;
    struct dvk_privileges none = privileges(0);
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &other), 0);
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    assert_int_equal(round_trip(client, other, server, at_server), 0);
    allow(&none);
    assert_int_equal(round_trip(client, at_client, server, at_server), -DVK_ENOTALLOWED);
    assert_int_equal(round_trip(client, other, server, at_server), 0);
    assert_int_equal(round_trip(server, at_server, client, at_client), 0); /* it may answer */
    assert_int_equal(dvk_set_privileges(manager, at_manager, other, &none, WAIT_MS), 0);
    allow_calls(EVERYTHING);
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    assert_int_equal(round_trip(client, other, server, at_server), -DVK_ENOTALLOWED);
}

/* Each change holds for the very next message, without that anybody runs in between. */
static void test_changes_hold_at_once(void **state) {
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    for (int i = 0; i < 300; i++) {
        allow_calls(i % 2 ? EVERYTHING : EVERYTHING & ~(uint32_t)DVK_MAY_SEND);
        assert_int_equal(arrives(i % 3 ? HAND_SEND : HAND_POST, at_server, at_server), i % 2);
    }
}

/* ---- who may ---- */

static int narrow_self(const struct dvk_privileges *wanted) {
    return dvk_set_privileges(client, at_client, at_client, wanted, WAIT_MS);
}

static void test_nobody_widens_itself(void **state) {
    struct dvk_privileges all = privileges(EVERYTHING), less = all, wanted;
    dvk_endpoint other;
    assert_true(ask(at_client).calls == EVERYTHING && ask(at_client).to.flags == DVK_PEERS_ALL);
    less.calls &= ~(uint32_t)(DVK_MAY_SEND | DVK_MAY_GROUP);
    less.to = just(at_server);
    less.from.flags = DVK_PEERS_SERVERS;
    assert_int_equal(narrow_self(&less), 0);
    struct dvk_privileges now = ask(at_client);
    assert_memory_equal(&now, &less, sizeof now);
    assert_int_equal(narrow_self(&less), 0);
    assert_int_equal(narrow_self(&all), -DVK_ENOTALLOWED); /* though it may set those of others */
    wanted = less;
    wanted.calls |= DVK_MAY_GROUP;
    assert_int_equal(narrow_self(&wanted), -DVK_ENOTALLOWED);
    wanted = less;
    wanted.to = just(at_manager);
    assert_int_equal(narrow_self(&wanted), -DVK_ENOTALLOWED);
    wanted = less;
    wanted.from.flags = DVK_PEERS_ALL;
    assert_int_equal(narrow_self(&wanted), -DVK_ENOTALLOWED);
    /* nor by another endpoint of its own, bound beside the first or instead of it */
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &other), 0);
    now = ask(other);
    assert_memory_equal(&now, &less, sizeof now);
    assert_int_equal(dvk_set_privileges(client, other, at_client, &all, WAIT_MS), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_set_privileges(client, at_client, other, &all, WAIT_MS), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_unbind(client, at_client), 0);
    assert_int_equal(dvk_unbind(client, other), 0);
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &at_client), 0);
    now = ask(at_client);
    assert_memory_equal(&now, &less, sizeof now);
    assert_int_equal(round_trip(client, at_client, manager, at_manager), -DVK_ENOTALLOWED);
    assert_int_equal(round_trip(server, at_server, client, at_client), -DVK_ENOTALLOWED); /* it takes nothing of it */
    /* a third party may */
    allow(&all);
    assert_int_equal(round_trip(client, at_client, manager, at_manager), 0);
    assert_int_equal(round_trip(server, at_server, client, at_client), 0);
    now = ask(at_client);
    assert_memory_equal(&now, &all, sizeof now);
}

static void test_who_may_not_bind(void **state) {
    dvk_endpoint other;
    const struct dvk_privileges all = privileges(EVERYTHING), stay = privileges(EVERYTHING & ~(uint32_t)DVK_MAY_BIND);
    assert_int_equal(narrow_self(&stay), 0);
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &other), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_bind(client, DC + 1, DVK_SLOT_ANY, &other), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_bind(client, 0, DVK_SLOT_ANY, &other), -DVK_ENOTALLOWED);
    allow(&all);
    assert_int_equal(dvk_bind(client, DC + 1, 99, &other), 0); /* not the same number as that of DC */
    assert_int_equal(narrow_self(&stay), 0);
    assert_int_equal(dvk_unbind(client, at_client), 0);
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &at_client), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_unbind(client, other), 0);
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &at_client), -DVK_ENOTALLOWED);
}

static void test_who_may_set(void **state) {
    const struct dvk_privileges all = privileges(EVERYTHING), less = privileges(DVK_MAY_SENDREC);
    struct dvk_privileges now, wrong = all;
    const struct dvk_privileges may_not = privileges(EVERYTHING & ~(uint32_t)DVK_MAY_PRIVILEGE);
    assert_int_equal(dvk_set_privileges(server, at_server, at_server, &may_not, WAIT_MS), 0);
    assert_int_equal(dvk_set_privileges(server, at_server, at_client, &less, WAIT_MS), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_get_privileges(server, at_server, at_client, &now, WAIT_MS), 0); /* to ask is free */
    assert_memory_equal(&now, &all, sizeof now);
    assert_int_equal(dvk_set_privileges(manager, at_manager, at_client, &less, WAIT_MS), 0);
    assert_int_equal(dvk_set_privileges(manager, at_server, at_client, &all, WAIT_MS), -DVK_ENOTBOUND);
    assert_int_equal(dvk_set_privileges(manager, at_manager, at_client + (1ull << 32), &all, WAIT_MS), -DVK_ENOTBOUND);
    assert_int_equal(dvk_set_privileges(manager, at_manager, DVK_NONE, &all, WAIT_MS), -EINVAL);
    assert_int_equal(dvk_set_privileges(manager, at_manager, DVK_ANY, &all, WAIT_MS), -EINVAL);
    wrong.calls = EVERYTHING + 1;
    assert_int_equal(dvk_set_privileges(manager, at_manager, at_client, &wrong, WAIT_MS), -EINVAL);
    assert_int_equal(dvk_get_privileges(manager, at_manager, dvk_endpoint_slot(at_client), &now, WAIT_MS), 0);
    assert_memory_equal(&now, &less, sizeof now);
    assert_int_equal(dvk_get_privileges(manager, at_manager, dvk_service_endpoint(NODE, 77), &now, WAIT_MS), -DVK_ENOTBOUND);
    /* another DC's are out of reach */
    struct dvk *stranger;
    dvk_endpoint at_stranger;
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_PROGRAM, 0, NULL), &stranger), 0);
    assert_int_equal(dvk_bind(stranger, DC + 1, 99, &at_stranger), 0);
    assert_int_equal(dvk_get_privileges(stranger, at_stranger, at_client, &now, WAIT_MS), -DVK_ENOTBOUND);
    assert_int_equal(dvk_set_privileges(stranger, at_stranger, at_client, &all, WAIT_MS), -DVK_ENOTBOUND);
    dvk_close(stranger);
}

static void on_guest(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    assert_int_equal(status, 0);
    *(dvk_endpoint *)context = endpoint;
    close(channel_fd);
    close(socket_fd);
}

/* A container's servers and guests are what they are. */
static void test_cells_are_out_of_reach(void **state) {
    struct dvk *vos;
    struct dvk_request *req;
    dvk_endpoint pm, guest = DVK_NONE;
    const struct dvk_privileges all = privileges(EVERYTHING), none = privileges(0);
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_CELL, DC, &cell), &vos), 0);
    assert_int_equal(dvk_bind(vos, DC, dvk_system_slot(NODE, DVK_SERVICE_PM), &pm), 0);
    assert_int_equal(dvk_guest_bind(vos, DC, 200, false, on_guest, &guest), 0);
    for (int i = 0; i < 5000 && guest == DVK_NONE; i++)
        assert_int_equal(dvk_receive(vos, &req, 1), -DVK_ETIMEDOUT);
    assert_true(guest != DVK_NONE);
    assert_int_equal(dvk_set_privileges(manager, at_manager, guest, &all, WAIT_MS), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_set_privileges(vos, pm, guest, &all, WAIT_MS), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_set_privileges(manager, at_manager, pm, &none, WAIT_MS), -DVK_ENOTALLOWED);
    struct dvk_privileges now = ask(guest);
    assert_int_equal(now.calls, DVK_MAY_SENDREC | DVK_MAY_NOTIFY);
    assert_int_equal(now.to.ranges[0].first, dvk_system_slot(NODE, 0));
    now = ask(pm);
    assert_memory_equal(&now, &all, sizeof now);
    dvk_close(vos);
}

/* ---- what is counted ---- */

static void test_refusals_are_counted(void **state) {
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    allow_calls(EVERYTHING & ~(uint32_t)DVK_MAY_SEND);
    for (int i = 0; i < 8; i++)
        assert_false(arrives(HAND_SEND, at_server, at_server));
    for (int i = 0; i < 5000 && refused_of(at_client) < 8; i++)
        usleep(1000);
    assert_int_equal(refused_of(at_client), 8);
    assert_int_equal(refused_of(at_server), 0);
    /* what dvkd itself refuses */
    struct dvk_privileges wanted = privileges(EVERYTHING & ~(uint32_t)DVK_MAY_GRANT);
    wanted.to = just(at_server);
    allow(&wanted);
    assert_int_equal(round_trip(client, at_client, manager, at_manager), -DVK_ENOTALLOWED);
    assert_int_equal(refused_of(at_client), 9);
}

/* Nobody but those concerned can have refusals counted. */
static void test_false_reports(void **state) {
    struct player {
        int fd;
    } player = {client_socket(CONTEXT_PROGRAM, 0, NULL)};
    cleanup_close int bell = -1;
    assert_int_equal(dvk_doorbell_create(&bell), 0);
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.align = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.align), &bell, sizeof bell);
    struct dvk_broker_packet packet = {.magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_HELLO, .id = 1};
    struct iovec part = {&packet, sizeof packet};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    assert_int_equal(sendmsg(player.fd, &message, 0), sizeof packet);
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    allow_calls(EVERYTHING & ~(uint32_t)DVK_MAY_SEND);
    for (uint64_t channel = 0; channel < 10; channel++) {
        packet = (struct dvk_broker_packet){.magic = DVK_BROKER_MAGIC,
                                            .version = DVK_BROKER_VERSION,
                                            .type = DVK_BROKER_REFUSED,
                                            .dc = DC,
                                            .channel = channel,
                                            .endpoint = at_client,
                                            .peer = at_server,
                                            .id = 100};
        assert_int_equal(send(player.fd, &packet, sizeof packet, 0), sizeof packet);
    }
    /* its answer comes behind them */
    packet = (struct dvk_broker_packet){.magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION, .type = DVK_BROKER_UNBIND, .id = 2};
    assert_int_equal(send(player.fd, &packet, sizeof packet, 0), sizeof packet);
    do
        assert_int_equal(recv(player.fd, &packet, sizeof packet, 0), sizeof packet);
    while (packet.id != 2);
    assert_int_equal(refused_of(at_client), 0);
    close(player.fd);
}

/* ---- who does not read ---- */

/* The page that tells of changes cannot be written by who has it. */
static void test_the_page(void **state) {
    int fd = broker.privileges.epoch_fd;
    assert_true(fd >= 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_WRITE), -1);
    uint32_t before = *(volatile uint32_t *)page;
    allow_calls(0);
    assert_int_not_equal(*(volatile uint32_t *)page, before);
    munmap(page, 4096);
}

/* A peer whose socket is full cannot have been told: the change is not called done before it is. */
static void test_a_peer_that_lags(void **state) {
    const struct dvk_privileges less = privileges(EVERYTHING & ~(uint32_t)DVK_MAY_SEND);
    struct dvk_request *req;
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    pthread_mutex_lock(&lock);
    struct client *lagging = registry_find_endpoint(&broker.registry, DC, at_server)->context->user;
    /* as if its socket were full: what it is told waits in the queue */
    const struct dvk_broker_packet filler = {.type = DVK_BROKER_NODE, .node = 9};
    unsigned fillers = 0;
    while (list_empty(&lagging->output) && fillers++ < 100000)
        client_send(lagging, &filler, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    assert_true(fillers < 100000);
    /* the server's poller has been woken, but reads packets only with somebody in dvk_receive */
    int error = dvk_set_privileges(manager, at_manager, at_client, &less, 300);
    assert_int_equal(error, -DVK_ETIMEDOUT);
    assert_int_equal(ask(at_client).calls, less.calls);
    while (dvk_receive(server, &req, 10) == 0)
        fail();
    for (int i = 0; i < 10000; i++) {
        pthread_mutex_lock(&lock);
        bool flushed = list_empty(&lagging->output);
        pthread_mutex_unlock(&lock);
        if (flushed)
            break;
        assert_int_equal(dvk_receive(server, &req, 1), -DVK_ETIMEDOUT);
    }
    assert_false(arrives(HAND_SEND, at_server, at_server));
    allow_calls(EVERYTHING);
    assert_true(arrives(HAND_SEND, at_server, at_server));
}

/* ---- within a process ---- */

static void test_the_same_within_a_process(void **state) {
    dvk_endpoint other;
    struct dvk_request *req;
    struct dvk_privileges wanted = privileges(EVERYTHING & ~(uint32_t)(DVK_MAY_SEND | DVK_MAY_NOTIFY));
    struct dvk_message message = {0};
    assert_int_equal(dvk_bind(client, DC, DVK_SLOT_ANY, &other), 0);
    message.destination = other;
    assert_int_equal(round_trip(client, at_client, server, at_server), 0);
    assert_int_equal(dvk_post(client, at_client, &message, NULL, 0, 0), 0);
    assert_int_equal(dvk_receive(client, &req, 0), 0);
    dvk_release(client, req);
    allow(&wanted);
    assert_int_equal(round_trip(client, at_client, server, at_server), 0); /* it reads what it was told */
    assert_int_equal(dvk_post(client, at_client, &message, NULL, 0, 0), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_notify(client, at_client, other, 1), 0);
    assert_int_equal(dvk_receive(client, &req, 0), -DVK_ETIMEDOUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_calls_of_who_does_not_obey), TEST(test_sets_of_who_does_not_obey),
        TEST(test_each_endpoint_of_a_channel), TEST(test_changes_hold_at_once),
        TEST(test_nobody_widens_itself),       TEST(test_who_may_not_bind),
        TEST(test_who_may_set),                TEST(test_cells_are_out_of_reach),
        TEST(test_refusals_are_counted),       TEST(test_false_reports),
        TEST(test_the_page),                   TEST(test_a_peer_that_lags),
        TEST(test_the_same_within_a_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
