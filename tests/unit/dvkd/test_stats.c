/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of one node: the broker in a thread, processes of libdvk here, and one that writes what it likes. */
#include "played_node.h"

#include "dvk/channel.h"
#include "dvk/stats_page.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <dvk/primitives.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the node ---- */

static bool dc_is_gone;

static int host_dc_lives(void *context, uint32_t dc, const uint32_t **list, uint32_t *count) {
    return dc == DC && dc_is_gone ? -DVK_ENODC : host_dc_nodes(context, dc, list, count);
}
static uint64_t host_changes(void *context) { return 77; }
static int host_dc_info(void *context, uint32_t dc, struct dvk_dc_info *info, struct dvk_dc_node *list) {
    if (dc != DC || dc_is_gone)
        return -DVK_ENODC;
    info->kind = DVK_DC_BARE;
    info->node_count = 3;
    info->sets = 100;
    strcpy(info->name, "five");
    for (uint32_t i = 0; i < 3; i++)
        list[i] = (struct dvk_dc_node){.node = i + 2, .up = i == 1, .sets = 10 * i};
    return 0;
}

static int setup(void **state) {
    struct broker_host host = node_host();
    host.dc_nodes = host_dc_lives;
    host.dc_info = host_dc_info;
    host.changes = host_changes;
    dc_is_gone = false;
    return node_start(&host);
}

static int teardown(void **state) {
    node_stop();
    return 0;
}

struct party {
    struct dvk *dvk;
    dvk_endpoint self;
};

static struct party party_open(uint32_t dc) {
    struct party party;
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_PROGRAM, 0, NULL), &party.dvk), 0);
    assert_int_equal(dvk_bind(party.dvk, dc, DVK_SLOT_ANY, &party.self), 0);
    return party;
}

static struct dvk_endpoint_stats of_endpoint(const struct party *party, dvk_endpoint endpoint) {
    struct dvk_endpoint_stats stats = {.size = sizeof stats};
    assert_int_equal(dvk_stats_endpoint(party->dvk, party->self, endpoint, &stats), 0);
    assert_int_equal(stats.size, sizeof stats);
    return stats;
}

static struct dvk_dc_stats of_dc(const struct party *party, uint32_t node) {
    struct dvk_dc_stats stats = {.size = sizeof stats};
    assert_int_equal(dvk_stats_dc(party->dvk, party->self, node, &stats), 0);
    assert_int_equal(stats.size, sizeof stats);
    return stats;
}

static struct dvk_node_stats of_node(const struct party *party, uint32_t node) {
    struct dvk_node_stats stats = {.size = sizeof stats};
    assert_int_equal(dvk_stats_node(party->dvk, party->self, node, &stats), 0);
    return stats;
}

/* Until dvkd has seen the end of who has closed. */
static void wait_for_endpoints(uint64_t count) {
    for (uint64_t found = UINT64_MAX; found > count; usleep(100)) {
        pthread_mutex_lock(&lock);
        found = broker_stats_sum(&broker, STATS_ALL_DCS).endpoints;
        pthread_mutex_unlock(&lock);
    }
}

static void on_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                    const int *fds, unsigned fd_count) {
    ++*(unsigned *)context;
}

static void call(const struct party *from, const struct party *to, size_t len, unsigned *done) {
    static const char bytes[1000];
    struct dvk_message message = {.destination = to->self, .type = 1};
    assert_int_equal(dvk_call(from->dvk, from->self, &message, bytes, len, NULL, 0, on_done, done, NULL), 0);
}

static struct dvk_request *receive(const struct party *party) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive(party->dvk, &req, 10000), 0);
    return req;
}

static void finish(const struct party *party, const unsigned *done, unsigned count) {
    struct dvk_request *req;
    while (*done < count)
        assert_int_equal(dvk_receive(party->dvk, &req, 10), -DVK_ETIMEDOUT);
}

/* `count` calls of `len` bytes, answered. */
static void talk(const struct party *from, const struct party *to, unsigned count, size_t len) {
    unsigned done = 0;
    struct dvk_request *req;
    for (unsigned i = 0; i < count; i++)
        call(from, to, len, &done);
    while (done < count) {
        assert_int_equal(dvk_receive(from->dvk, &req, 0), -DVK_ETIMEDOUT);
        if (dvk_receive(to->dvk, &req, 1) == 0)
            dvk_reply_status(to->dvk, req, 0);
    }
}

/* ---- tests ---- */

/* covers: dvk_stats_endpoint: -DVK_ENOTBOUND -EINVAL: here */
static void test_an_endpoint(void **state) {
    struct party a = party_open(DC), b = party_open(DC);
    talk(&a, &b, 10, 100);
    struct dvk_endpoint_stats stats = of_endpoint(&b, a.self);
    assert_int_equal(stats.endpoint, a.self);
    assert_int_equal(stats.dc, DC);
    assert_int_equal(stats.node, NODE);
    assert_int_equal(stats.flags, DVK_STATS_COUNTED);
    assert_int_equal(stats.pid, getpid());
    assert_true(stats.since_ms > 1600000000000);
    assert_int_equal(stats.total.calls, 10);
    assert_int_equal(stats.total.completed, 10);
    assert_int_equal(stats.total.bytes_out, 1000);
    assert_int_equal(stats.now.pending, 0);
    stats = of_endpoint(&b, dvk_endpoint_make(0, dvk_endpoint_slot(b.self)));
    assert_int_equal(stats.endpoint, b.self);
    assert_int_equal(stats.total.requests_in, 10);
    assert_int_equal(stats.total.replies, 10);
    assert_int_equal(stats.total.bytes_in, 1000);
    struct dvk_endpoint_stats out = {.size = sizeof out};
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, dvk_endpoint_make(0, 70), &out), -DVK_ENOTBOUND);
    assert_int_equal(dvk_stats_endpoint(a.dvk, b.self, b.self, &out), -DVK_ENOTBOUND);
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, DVK_NONE, &out), -EINVAL);
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, dvk_service_endpoint(300, 40), &out), -DVK_ENOTBOUND);
    assert_int_equal(dvk_unbind(a.dvk, a.self), 0);
    assert_int_equal(dvk_stats_endpoint(b.dvk, b.self, a.self, &out), -DVK_ENOTBOUND);
    dvk_close(a.dvk);
    dvk_close(b.dvk);
}

static void test_what_is_under_way(void **state) {
    struct party a = party_open(DC), b = party_open(DC);
    unsigned done = 0;
    talk(&a, &b, 1, 0);
    for (int i = 0; i < 5; i++)
        call(&a, &b, 0, &done);
    assert_int_equal(of_endpoint(&a, a.self).now.pending, 5);
    assert_int_equal(of_endpoint(&a, b.self).now.untaken, 5);
    assert_int_equal(of_endpoint(&a, b.self).now.queued, 0);
    struct dvk_request *first = receive(&b);
    struct dvk_stats_now now = of_endpoint(&a, b.self).now;
    assert_int_equal(now.untaken, 0);
    assert_int_equal(now.queued, 4);
    assert_int_equal(now.unanswered, 1);
    struct dvk_dc_stats sum = of_dc(&b, 0);
    assert_int_equal(sum.now.pending, 5);
    assert_int_equal(sum.now.queued, 4);
    assert_int_equal(sum.now.unanswered, 1);
    dvk_reply_status(b.dvk, first, 0);
    for (int i = 0; i < 4; i++)
        dvk_reply_status(b.dvk, receive(&b), 0);
    finish(&a, &done, 5);
    now = of_dc(&b, 0).now;
    assert_memory_equal(&now, &(struct dvk_stats_now){0}, sizeof now);
    dvk_close(a.dvk);
    dvk_close(b.dvk);
}

static void test_sums_outlive_endpoints(void **state) {
    struct party a = party_open(DC), b = party_open(DC), c = party_open(DC + 1), d = party_open(DC + 1);
    struct party node = party_open(0);
    talk(&a, &b, 7, 10);
    talk(&c, &d, 3, 10);
    struct dvk_dc_stats before = of_dc(&b, NODE);
    assert_int_equal(before.nodes, 1);
    assert_int_equal(before.endpoints, 2);
    assert_int_equal(before.channels, 1);
    assert_int_equal(before.connects, 1);
    assert_int_equal(before.binds, 2);
    assert_true(before.channel_bytes > 0);
    assert_int_equal(before.total.calls, 7);
    assert_int_equal(before.total.requests_in, 7);
    struct dvk_node_stats all = of_node(&node, 0);
    assert_int_equal(all.node, NODE);
    assert_int_equal(all.endpoints, 5);
    assert_int_equal(all.processes, 5);
    assert_int_equal(all.binds, 5);
    assert_int_equal(all.changes, 77);
    assert_int_equal(all.total.calls, 10);
    assert_true(all.packets_in > 10 && all.packets_out > 10);
    assert_int_equal(dvk_unbind(a.dvk, a.self), 0);
    struct dvk_dc_stats after = of_dc(&b, 0);
    assert_int_equal(after.endpoints, 1);
    assert_memory_equal(&after.total, &before.total, sizeof after.total);
    dvk_close(a.dvk);
    dvk_close(d.dvk);
    dvk_close(c.dvk);
    wait_for_endpoints(2);
    struct dvk_node_stats later = of_node(&node, NODE);
    assert_int_equal(later.endpoints, 2);
    assert_memory_equal(&later.total, &all.total, sizeof later.total);
    /* a DC that is removed keeps its part in the node's sums only, also if one of it is unbound later */
    pthread_mutex_lock(&lock);
    broker_stats_dc_gone(&broker, DC);
    pthread_mutex_unlock(&lock);
    dvk_close(b.dvk);
    wait_for_endpoints(1);
    later = of_node(&node, NODE);
    assert_memory_equal(&later.total, &all.total, sizeof later.total);
    b = party_open(DC);
    after = of_dc(&b, 0);
    assert_int_equal(after.total.calls, 0);
    assert_int_equal(after.binds, 1);
    dvk_close(b.dvk);
    dvk_close(node.dvk);
}

/* covers: dvk_stats_dc dvk_stats_node: -EINVAL: here */
static void test_structures_may_grow(void **state) {
    struct party a = party_open(DC), b = party_open(DC);
    talk(&a, &b, 2, 0);
    struct {
        struct dvk_endpoint_stats stats;
        uint64_t more;
    } out;
    memset(&out, 0xaa, sizeof out);
    out.stats.size = sizeof out; /* we know more than libdvk */
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, a.self, &out.stats), 0);
    assert_int_equal(out.stats.size, sizeof out.stats);
    assert_int_equal(out.stats.total.calls, 2);
    assert_int_equal(out.more, 0);
    memset(&out, 0xaa, sizeof out);
    out.stats.size = offsetof(struct dvk_endpoint_stats, total.sends); /* or less */
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, a.self, &out.stats), 0);
    assert_int_equal(out.stats.size, offsetof(struct dvk_endpoint_stats, total.sends));
    assert_int_equal(out.stats.total.calls, 2);
    assert_int_equal(out.stats.total.sends, 0xaaaaaaaaaaaaaaaa);
    out.stats.size = 4;
    assert_int_equal(dvk_stats_endpoint(a.dvk, a.self, a.self, &out.stats), -EINVAL);
    struct dvk_dc_stats of_no_size = {.size = 0};
    struct dvk_node_stats too_small = {.size = 7};
    assert_int_equal(dvk_stats_dc(a.dvk, a.self, 0, &of_no_size), -EINVAL);
    assert_int_equal(dvk_stats_node(a.dvk, a.self, 0, &too_small), -EINVAL);
    dvk_close(a.dvk);
    dvk_close(b.dvk);
}

/* covers: dvk_info_dc: -DVK_ENODC -EINVAL: here */
static void test_info(void **state) {
    struct party a = party_open(DC), b = party_open(DC);
    struct dvk_dc_info info = {.size = sizeof info};
    struct dvk_dc_node list[2];
    assert_int_equal(dvk_info_dc(a.dvk, DC, &info, list, 2), 3);
    assert_int_equal(info.dc, DC);
    assert_int_equal(info.kind, DVK_DC_BARE);
    assert_int_equal(info.endpoints, 2);
    assert_string_equal(info.name, "five");
    assert_true(list[1].node == 3 && list[1].up == 1 && list[1].sets == 10 && list[0].up == 0);
    assert_int_equal(dvk_info_dc(a.dvk, DC, &info, NULL, 0), 3);
    assert_int_equal(dvk_info_dc(a.dvk, 99, &info, NULL, 0), -DVK_ENODC);
    assert_int_equal(dvk_info_dc(a.dvk, 0, &info, NULL, 0), -DVK_ENODC);
    info.size = 1;
    assert_int_equal(dvk_info_dc(a.dvk, DC, &info, NULL, 0), -EINVAL);
    dvk_close(a.dvk);
    dvk_close(b.dvk);
}

/*
 * covers: dvk_stats_node dvk_info_dc: -DVK_ENOTALLOWED: here
 * covers: dvk_stats_node dvk_stats_dc: -DVK_ENOTBOUND: here
 */
static void test_who_may_ask(void **state) {
    struct party a = party_open(DC), node = party_open(0);
    struct dvk_node_stats of_all = {.size = sizeof of_all};
    assert_int_equal(dvk_stats_node(a.dvk, a.self, 0, &of_all), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_stats_node(node.dvk, node.self, 9, &of_all), -DVK_ENODEUNREACH);
    struct dvk_dc_stats of_one = {.size = sizeof of_one};
    assert_int_equal(dvk_stats_dc(a.dvk, a.self, 9, &of_one), -DVK_ENOTBOUND);
    assert_int_equal(dvk_stats_dc(a.dvk, a.self + 1, 0, &of_one), -DVK_ENOTBOUND);
    assert_int_equal(dvk_stats_node(node.dvk, node.self + 1, 0, &of_all), -DVK_ENOTBOUND);
    /* a cell's servers: nothing of other DCs */
    struct party cell;
    struct dvk_dc_info info = {.size = sizeof info};
    assert_int_equal(dvk_open_fd(client_socket(CONTEXT_CELL, DC + 1, NULL), &cell.dvk), 0);
    assert_int_equal(dvk_bind(cell.dvk, DC + 1, dvk_system_slot(NODE, DVK_SERVICE_PM), &cell.self), 0);
    assert_int_equal(dvk_info_dc(cell.dvk, DC, &info, NULL, 0), -DVK_ENOTALLOWED);
    assert_int_equal(dvk_stats_dc(cell.dvk, cell.self, 0, &of_one), 0);
    assert_int_equal(of_one.endpoints, 1);
    dvk_close(cell.dvk);
    dvk_close(a.dvk);
    dvk_close(node.dvk);
}

/* What each call says when no question can be asked, or nobody answers it. */
static void all_say(const struct party *party, const struct party *root, int error) {
    struct dvk_endpoint_stats of_one = {.size = sizeof of_one};
    struct dvk_dc_stats sum = {.size = sizeof sum};
    struct dvk_node_stats all = {.size = sizeof all};
    struct dvk_dc_info info = {.size = sizeof info};
    assert_int_equal(dvk_stats_endpoint(party->dvk, party->self, party->self, &of_one), error);
    assert_int_equal(dvk_stats_dc(party->dvk, party->self, 0, &sum), error);
    assert_int_equal(dvk_info_dc(party->dvk, DC, &info, NULL, 0), error);
    if (error != -DVK_ENODC) /* DC 0 is always there */
        assert_int_equal(dvk_stats_node(root->dvk, root->self, 0, &all), error);
}

static bool no_memory;
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) { return no_memory ? NULL : __real_calloc(count, size); }

/*
 * covers: dvk_stats_endpoint dvk_stats_dc dvk_info_dc dvk_stats_node: -ENOMEM -DVK_ENODAEMON: here
 * covers: dvk_stats_endpoint dvk_stats_dc dvk_info_dc: -DVK_ENODC: here
 */
static void test_nobody_answers(void **state) {
    struct party a = party_open(DC), root = party_open(0);
    pthread_mutex_lock(&lock); /* the node's thread stands still */
    no_memory = true;
    all_say(&a, &root, -ENOMEM);
    no_memory = false;
    dc_is_gone = true;
    pthread_mutex_unlock(&lock);
    all_say(&a, &root, -DVK_ENODC);
    pthread_mutex_lock(&lock);
    struct client *client;
    while ((client = list_first(&broker.clients, struct client, link)))
        client_close(client);
    pthread_mutex_unlock(&lock);
    all_say(&a, &root, -DVK_ENODAEMON);
    dvk_close(a.dvk);
    dvk_close(root.dvk);
}

/* ---- a process that lies ---- */

struct liar {
    int fd, page;
    uint64_t next_id;
};

static struct dvk_broker_packet ask(struct liar *liar, struct dvk_broker_packet packet, const int *fds, unsigned fd_count) {
    union {
        char space[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&packet, sizeof packet};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    packet.magic = DVK_BROKER_MAGIC;
    packet.version = DVK_BROKER_VERSION;
    packet.id = ++liar->next_id;
    if (fd_count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), fds, sizeof(int));
    }
    assert_int_equal(sendmsg(liar->fd, &message, 0), sizeof packet);
    do {
        message = (struct msghdr){
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
        assert_true(recvmsg(liar->fd, &message, 0) >= (ssize_t)sizeof packet);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header && packet.type == (DVK_BROKER_BIND | DVK_BROKER_ANSWER))
            memcpy(&liar->page, CMSG_DATA(header), sizeof(int));
        else if (header)
            close(*(int *)CMSG_DATA(header));
    } while (!(packet.type & DVK_BROKER_ANSWER));
    return packet;
}

static struct liar liar_open(void) {
    struct liar liar = {.fd = client_socket(CONTEXT_PROGRAM, 0, NULL), .page = -1};
    int doorbell = memfd_create("doorbell", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(doorbell, DVK_DOORBELL_SIZE), 0);
    assert_int_equal(fcntl(doorbell, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    struct dvk_broker_packet hello = {.type = DVK_BROKER_HELLO};
    assert_int_equal(ask(&liar, hello, &doorbell, 1).status, 0);
    close(doorbell);
    return liar;
}

static dvk_endpoint liar_bind(struct liar *liar, uint32_t place) {
    struct dvk_broker_packet bind = {
        .type = DVK_BROKER_BIND, .dc = DC, .flags = DVK_BROKER_F_STATS, .place = place};
    struct dvk_broker_packet answer = ask(liar, bind, NULL, 0);
    assert_int_equal(answer.status, 0);
    assert_true(liar->page >= 0);
    return answer.endpoint;
}

static void test_a_page_of_lies(void **state) {
    struct party a = party_open(DC), b = party_open(DC);
    struct liar liar = liar_open();
    talk(&a, &b, 4, 0);
    dvk_endpoint endpoint = liar_bind(&liar, 1), none = liar_bind(&liar, UINT32_MAX), last = liar_bind(&liar, DVK_STATS_PLACES - 1);
    uint64_t *page = mmap(NULL, DVK_STATS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, liar.page, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    /* it cannot be made shorter under dvkd */
    assert_int_equal(ftruncate(liar.page, 4096), -1);
    assert_int_equal(fcntl(liar.page, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(of_endpoint(&a, endpoint).total.calls, 0);
    memset(&page[DVK_STATS_WORDS], 0xff, sizeof(struct dvk_stats));
    memset(&page[DVK_STATS_WORDS * (DVK_STATS_PLACES - 1)], 0x55, sizeof(struct dvk_stats));
    struct dvk_endpoint_stats stats = of_endpoint(&a, endpoint);
    assert_int_equal(stats.total.calls, DVK_STATS_MAX);
    assert_int_equal(stats.total.reserved[0], 0);
    assert_int_equal(of_endpoint(&a, none).total.calls, 0);
    assert_int_equal(of_endpoint(&a, last).total.errors[7], DVK_STATS_MAX);
    struct dvk_dc_stats sum = of_dc(&a, 0);
    assert_int_equal(sum.total.calls, 2 * DVK_STATS_MAX + 4);
    assert_int_equal(of_endpoint(&a, a.self).total.calls, 4);
    /* more answered than asked: nothing is pending, rather than many */
    memset(&page[DVK_STATS_WORDS], 0, sizeof(struct dvk_stats));
    ((struct dvk_stats *)page)[1].replies = ((struct dvk_stats *)page)[1].completed = 5;
    stats = of_endpoint(&a, endpoint);
    assert_int_equal(stats.now.unanswered, 0);
    assert_int_equal(stats.now.pending, 0);
    /* a hole is zeros */
    memset(&page[DVK_STATS_WORDS], 0xff, sizeof(struct dvk_stats));
    assert_int_equal(fallocate(liar.page, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)DVK_STATS_PAGE_SIZE), 0);
    assert_int_equal(of_endpoint(&a, endpoint).total.calls, 0);
    /* so many lies that their sum does not fit: it stays where it is, above all that was seen before */
    memset(&page[DVK_STATS_WORDS], 0xff, sizeof(struct dvk_stats));
    for (int i = 0; i < 1100; i++)
        (void)liar_bind(&liar, 1);
    sum = of_dc(&a, 0);
    assert_int_equal(sum.total.calls, INT64_MAX);
    munmap(page, DVK_STATS_PAGE_SIZE);
    close(liar.page);
    close(liar.fd);
    wait_for_endpoints(2);
    sum = of_dc(&a, 0);
    assert_int_equal(sum.total.calls, INT64_MAX);
    assert_int_equal(of_endpoint(&b, a.self).total.calls, 4);
    dvk_close(a.dvk);
    dvk_close(b.dvk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_endpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sums_outlive_endpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_structures_may_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_info, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_may_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_page_of_lies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
