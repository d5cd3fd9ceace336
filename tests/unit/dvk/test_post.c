/* SPDX-License-Identifier: Apache-2.0 */
/* One-way messages: order, contents, a full channel, refusals, the end of either side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <dvk/loan.h>
#include <dvk/post.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#define DC 7u
#define SERVER dvk_service_endpoint(1, DVK_SERVICE_PM)
#define CAPACITY_MAX 2000 /* more posts than a channel and its receiver's library hold */

enum { NUMBER = 1, BYTES, HOW_MANY, STOP, REST, CALL_BACK };

static struct fake_dvkd *fake;

/* A receiver in a thread: it checks that numbers come without gaps. */
struct collector {
    struct dvk *dvk;
    dvk_endpoint self;
    pthread_t thread;
    int fd;
    sem_t ready, resting, go_on;
    uint64_t next;
    bool wrong;
    int called_back;
};

static uint8_t byte_of(uint64_t number, size_t at) {
    return (uint8_t)(number * 31 + at);
}

static void number_take(struct collector *collector, const struct dvk_request *req) {
    collector->wrong |= req->msg.payload.words[0] != collector->next++ || req->wants_reply;
    for (size_t i = 1; req->msg.type == NUMBER && i < DVK_PAYLOAD_SIZE / 8; i++)
        collector->wrong |= req->msg.payload.words[i] != req->msg.payload.words[0] + i;
    const uint8_t *data = req->data;
    for (size_t i = 0; i < req->msg.data_len; i++)
        collector->wrong |= data[i] != byte_of(req->msg.payload.words[0], i);
}

static bool collect_one(struct collector *collector, struct dvk_request *req) {
    struct dvk_message reply = {.status = 0}, request = {.destination = req->msg.source, .type = NUMBER};
    uint32_t type = req->msg.type;
    switch (type) {
    case NUMBER:
    case BYTES:
        number_take(collector, req);
        dvk_release(collector->dvk, req);
        break;
    case REST:
    case CALL_BACK:
        dvk_release(collector->dvk, req);
        sem_post(&collector->resting);
        sem_wait(&collector->go_on);
        if (type == CALL_BACK)
            collector->called_back =
                dvk_sendrec(collector->dvk, collector->self, &request, NULL, 0, NULL, 0, NULL, 10000);
        break;
    default:
        reply.payload.words[0] = collector->next;
        dvk_reply(collector->dvk, req, &reply, NULL, 0);
    }
    return type != STOP;
}

static void *collector_main(void *context) {
    struct collector *collector = context;
    struct dvk_request *req;
    assert_int_equal(dvk_open_fd(collector->fd, &collector->dvk), 0);
    assert_int_equal(dvk_bind(collector->dvk, DC, dvk_endpoint_slot(SERVER), &collector->self), 0);
    assert_int_equal(dvk_accept(collector->dvk, DVK_LOAN_MAX), 0);
    sem_post(&collector->ready);
    while (dvk_receive(collector->dvk, &req, -1) == 0)
        if (!collect_one(collector, req))
            break;
    dvk_close(collector->dvk);
    return NULL;
}

static void collector_start(struct collector *collector) {
    *collector = (struct collector){.fd = fake_client(fake, false, NULL)};
    sem_init(&collector->ready, 0, 0);
    sem_init(&collector->resting, 0, 0);
    sem_init(&collector->go_on, 0, 0);
    assert_int_equal(pthread_create(&collector->thread, NULL, collector_main, collector), 0);
    sem_wait(&collector->ready);
}

static struct dvk *open_client(dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, self), 0);
    return dvk;
}

static int number_post(struct dvk *dvk, dvk_endpoint self, uint64_t number, int timeout_ms) {
    struct dvk_message message = {.destination = SERVER, .type = NUMBER};
    for (size_t i = 0; i < DVK_PAYLOAD_SIZE / 8; i++)
        message.payload.words[i] = number + i;
    return dvk_post(dvk, self, &message, NULL, 0, timeout_ms);
}

static int type_send(struct dvk *dvk, dvk_endpoint self, uint32_t type) {
    struct dvk_message message = {.destination = SERVER, .type = type};
    return dvk_send(dvk, self, &message, NULL, 0, 10000);
}

/* How many numbers came. */
static uint64_t ask(struct dvk *dvk, dvk_endpoint self, uint32_t type) {
    struct dvk_message message = {.destination = SERVER, .type = type};
    assert_int_equal(dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, 10000), 0);
    return message.payload.words[0];
}

static void collector_stop(struct collector *collector, struct dvk *dvk, dvk_endpoint self) {
    (void)ask(dvk, self, STOP);
    pthread_join(collector->thread, NULL);
}

/* Posts until the channel is full. Returns how many went in. */
static uint64_t fill(struct dvk *dvk, dvk_endpoint self, uint64_t number) {
    uint64_t first = number;
    int error;
    while ((error = number_post(dvk, self, number, 0)) == 0)
        assert_true(++number - first < CAPACITY_MAX);
    assert_int_equal(error, -DVK_ETIMEDOUT);
    return number - first;
}

static void test_order_and_contents(void **state) {
    struct collector collector;
    dvk_endpoint self;
    uint8_t *data = malloc(300000);
    collector_start(&collector);
    struct dvk *dvk = open_client(&self);
    for (uint64_t n = 0; n < 6000; n++) {
        size_t len = n % 7 == 3 ? n % 5000 : n % 500 == 100 ? 300000 : 0;
        struct dvk_message message = {.destination = SERVER, .type = BYTES, .payload.words[0] = n};
        for (size_t i = 0; i < len; i++)
            data[i] = byte_of(n, i);
        if (n % 5 == 4 && len == 0) /* the other ways to send keep the order, too */
            assert_int_equal(dvk_send(dvk, self, &message, NULL, 0, 10000), 0);
        else if (len == 0)
            assert_int_equal(number_post(dvk, self, n, 10000), 0);
        else
            assert_int_equal(dvk_post(dvk, self, &message, data, len, 10000), 0);
    }
    assert_int_equal(ask(dvk, self, HOW_MANY), 6000);
    collector_stop(&collector, dvk, self);
    assert_false(collector.wrong);
    dvk_close(dvk);
    free(data);
}

static void test_full(void **state) {
    struct collector collector;
    dvk_endpoint self;
    collector_start(&collector);
    struct dvk *dvk = open_client(&self);
    uint64_t count = 0;
    for (int round = 0; round < 20; round++) {
        assert_int_equal(type_send(dvk, self, REST), 0);
        sem_wait(&collector.resting);
        count += fill(dvk, self, count);
        sem_post(&collector.go_on);
        for (int i = 0; i < 1000; i++) /* these wait for room */
            assert_int_equal(number_post(dvk, self, count++, 10000), 0);
    }
    assert_int_equal(ask(dvk, self, HOW_MANY), count);
    collector_stop(&collector, dvk, self);
    assert_false(collector.wrong);
    dvk_close(dvk);
}

static void test_full_of_data(void **state) {
    static uint8_t data[50000];
    struct collector collector;
    dvk_endpoint self;
    struct dvk_message message = {.destination = SERVER, .type = BYTES};
    collector_start(&collector);
    struct dvk *dvk = open_client(&self);
    assert_int_equal(type_send(dvk, self, REST), 0);
    sem_wait(&collector.resting);
    uint64_t count = 0;
    int error;
    do {
        message.payload.words[0] = count;
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = byte_of(count, i);
        error = dvk_post(dvk, self, &message, data, sizeof data, 0);
        count += error == 0;
    } while (error == 0 && count < CAPACITY_MAX);
    assert_int_equal(error, -DVK_ETIMEDOUT);
    sem_post(&collector.go_on);
    assert_int_equal(dvk_post(dvk, self, &message, data, sizeof data, 10000), 0);
    assert_int_equal(ask(dvk, self, HOW_MANY), count + 1);
    collector_stop(&collector, dvk, self);
    assert_false(collector.wrong);
    dvk_close(dvk);
}

/* The destination is unbound while its process lives on: the next post is told, and the one after finds its successor. */
static void test_refused(void **state) {
    dvk_endpoint self, server;
    struct dvk *dvk = open_client(&self), *other;
    struct collector collector;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &other), 0);
    assert_int_equal(dvk_bind(other, DC, dvk_endpoint_slot(SERVER), &server), 0);
    struct dvk_request *req;
    /* makes the way */
    assert_int_equal(dvk_notify(dvk, self, SERVER, 1), 0);
    while (dvk_receive(other, &req, 0) == -DVK_ETIMEDOUT)
        (void)dvk_receive(dvk, &req, 0);
    dvk_release(other, req);
    assert_int_equal(number_post(dvk, self, 0, 0), 0);
    assert_int_equal(dvk_receive(other, &req, 1000), 0);
    dvk_release(other, req);
    assert_int_equal(dvk_unbind(other, server), 0);
    assert_int_equal(number_post(dvk, self, 0, 0), 0); /* nobody knows yet */
    assert_int_equal(dvk_receive(other, &req, 0), -DVK_ETIMEDOUT);
    collector_start(&collector);
    int error = 0;
    uint64_t lost = 0;
    for (; error == 0 && lost < CAPACITY_MAX; lost++) {
        assert_int_equal(dvk_receive(other, &req, 0), -DVK_ETIMEDOUT);
        error = number_post(dvk, self, 0, 0);
    }
    assert_int_equal(error, -DVK_ENOTBOUND);
    assert_int_equal(number_post(dvk, self, 0, 10000), 0);
    assert_int_equal(ask(dvk, self, HOW_MANY), 1);
    collector_stop(&collector, dvk, self);
    assert_false(collector.wrong);
    dvk_close(other);
    dvk_close(dvk);
}

struct blocked {
    struct dvk *dvk;
    dvk_endpoint self;
    uint64_t number;
    int error;
};
static void *blocked_main(void *context) {
    struct blocked *blocked = context;
    while (blocked->error == 0)
        blocked->error = number_post(blocked->dvk, blocked->self, blocked->number++, -1);
    return NULL;
}

/* Who waits for room learns that the receiver has ended. */
static void test_receiver_ends(void **state) {
    struct collector collector;
    struct blocked blocked = {0};
    pthread_t thread;
    collector_start(&collector);
    blocked.dvk = open_client(&blocked.self);
    assert_int_equal(type_send(blocked.dvk, blocked.self, REST), 0);
    sem_wait(&collector.resting);
    blocked.number = fill(blocked.dvk, blocked.self, 0);
    assert_int_equal(pthread_create(&thread, NULL, blocked_main, &blocked), 0);
    dvk_endpoint self;
    struct dvk *dvk = open_client(&self);
    struct dvk_message stop = {.destination = SERVER, .type = STOP};
    sem_post(&collector.go_on);
    assert_int_equal(dvk_sendrec(dvk, self, &stop, NULL, 0, NULL, 0, NULL, 10000), 0);
    pthread_join(collector.thread, NULL);
    pthread_join(thread, NULL);
    assert_true(blocked.error == -DVK_EDEADDST || blocked.error == -DVK_ENOTBOUND);
    assert_false(collector.wrong);
    dvk_close(dvk);
    dvk_close(blocked.dvk);
}

/* The receiver waits for our reply: waiting for room would be for ever. */
/* covers: dvk_post: -DVK_EDEADLOCK: local */
static void test_deadlock(void **state) {
    struct collector collector;
    dvk_endpoint self;
    struct dvk_request *req;
    collector_start(&collector);
    struct dvk *dvk = open_client(&self);
    assert_int_equal(type_send(dvk, self, CALL_BACK), 0);
    sem_wait(&collector.resting);
    uint64_t count = fill(dvk, self, 0);
    sem_post(&collector.go_on);
    int error;
    do
        error = number_post(dvk, self, count, 10000);
    while (error == 0 && count++ < CAPACITY_MAX);
    assert_int_equal(error, -DVK_EDEADLOCK);
    assert_int_equal(dvk_receive(dvk, &req, 10000), 0);
    dvk_reply_status(dvk, req, 0);
    assert_int_equal(ask(dvk, self, HOW_MANY), count);
    collector_stop(&collector, dvk, self);
    assert_int_equal(collector.called_back, 0);
    assert_false(collector.wrong);
    dvk_close(dvk);
}

static void test_mistakes(void **state) {
    dvk_endpoint self;
    struct dvk *dvk = open_client(&self);
    struct dvk_message message = {.destination = SERVER, .type = NUMBER};
    assert_int_equal(dvk_post(dvk, self + 1, &message, NULL, 0, 0), -DVK_ENOTBOUND);
    assert_int_equal(dvk_post(dvk, self, &message, NULL, 5, 0), -EINVAL);
    assert_int_equal(dvk_post(dvk, self, &message, NULL, 0, 1000), -DVK_ENOTBOUND); /* nobody is there */
    message.destination = self; /* to ourselves */
    assert_int_equal(dvk_post(dvk, self, &message, "abc", 3, 0), 0);
    struct dvk_request *req;
    assert_int_equal(dvk_receive(dvk, &req, 0), 0);
    assert_false(req->wants_reply);
    assert_memory_equal(req->data, "abc", 3);
    dvk_release(dvk, req);
    dvk_close(dvk);
}

static int setup(void **state) {
    fake = fake_start(1);
    return 0;
}
static int teardown(void **state) {
    fake_stop(fake);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order_and_contents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_of_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_receiver_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadlock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
