/* SPDX-License-Identifier: Apache-2.0 */
/* What libdvk remembers to be quick: the way of the last message, the pair of the last that came, the doorbell's bits that stay
 * set while two talk. None of it may outlive what it speaks of, and no message may wait for ever because of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <dvk/post.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define DC 7u
#define SERVER dvk_service_endpoint(1, DVK_SERVICE_PM)

static struct fake_dvkd *fake;

static struct dvk *context_open(void) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    return dvk;
}

/* ---- one thread, two contexts: each step is seen ---- */

struct two {
    struct dvk *client, *server;
    dvk_endpoint self, service;
};

static void done_count(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    (void)reply, (void)data, (void)data_len, (void)fds, (void)fd_count;
    assert_int_equal(status, 0);
    ++*(unsigned *)context;
}

/* The client's route to the service is made, and a first message has come. */
static void two_open(struct two *two) {
    struct dvk_message message = {.destination = SERVER};
    struct dvk_request *req;
    unsigned done = 0;
    two->client = context_open();
    two->server = context_open();
    assert_int_equal(dvk_bind(two->client, DC, DVK_SLOT_ANY, &two->self), 0);
    assert_int_equal(dvk_bind(two->server, DC, dvk_endpoint_slot(SERVER), &two->service), 0);
    assert_int_equal(dvk_call(two->client, two->self, &message, NULL, 0, NULL, 0, done_count, &done, NULL), 0);
    for (unsigned tries = 0; tries < 5000; tries++) {
        if (done)
            return;
        if (dvk_receive(two->server, &req, 1) == 0)
            dvk_reply_status(two->server, req, 0);
        assert_int_equal(dvk_receive(two->client, &req, 1), -DVK_ETIMEDOUT);
    }
    fail_msg("the first message is not answered");
}

static void two_close(struct two *two) {
    dvk_close(two->client);
    dvk_close(two->server);
}

static int post(struct two *two, uint32_t type) {
    struct dvk_message message = {.destination = SERVER, .type = type};
    return dvk_post(two->client, two->self, &message, NULL, 0, 1000);
}

static void expect(struct dvk *dvk, uint32_t type, dvk_endpoint destination) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    assert_int_equal(req->msg.type, type);
    assert_true(req->msg.destination == destination);
    dvk_release(dvk, req);
}

/* A service's address leads to its next incarnation, from the next message on. */
static void test_bound_anew(void **state) {
    (void)state;
    struct two two;
    two_open(&two);
    for (uint32_t type = 1; type < 4; type++) {
        assert_int_equal(post(&two, type), 0);
        expect(two.server, type, two.service);
    }
    dvk_endpoint before = two.service;
    assert_int_equal(dvk_unbind(two.server, two.service), 0);
    assert_int_equal(dvk_bind(two.server, DC, dvk_endpoint_slot(SERVER), &two.service), 0);
    assert_true(two.service != before);
    assert_int_equal(post(&two, 4), 0);
    expect(two.server, 4, two.service);
    two_close(&two);
}

/* Who unbinds gets nothing more, though the last message from there was welcome. */
static void test_unbound(void **state) {
    (void)state;
    struct two two;
    struct dvk_request *req;
    two_open(&two);
    assert_int_equal(post(&two, 1), 0);
    expect(two.server, 1, two.service);
    assert_int_equal(dvk_unbind(two.server, two.service), 0);
    assert_int_equal(post(&two, 2), 0);
    assert_int_equal(dvk_receive(two.server, &req, 20), -DVK_ETIMEDOUT);
    int error = 0;
    for (unsigned i = 0; i < 100 && error == 0; i++) /* it learns of the refusal when it looks for slots that are free */
        error = post(&two, 3);
    assert_int_equal(error, -DVK_ENOTBOUND);
    two_close(&two);
}

/* A way ends when we bind its destination's address ourselves: it then leads to us. */
static void test_bound_here(void **state) {
    (void)state;
    struct two two;
    dvk_endpoint own;
    two_open(&two);
    assert_int_equal(post(&two, 1), 0);
    expect(two.server, 1, two.service);
    assert_int_equal(dvk_unbind(two.server, two.service), 0);
    assert_int_equal(dvk_bind(two.client, DC, dvk_endpoint_slot(SERVER), &own), 0);
    assert_int_equal(post(&two, 2), 0);
    expect(two.client, 2, own);
    two_close(&two);
}

/* ... and when the endpoint that it starts from is unbound. */
static void test_from_unbound(void **state) {
    (void)state;
    struct two two;
    two_open(&two);
    assert_int_equal(post(&two, 1), 0);
    expect(two.server, 1, two.service);
    assert_int_equal(dvk_unbind(two.client, two.self), 0);
    assert_int_equal(post(&two, 2), -DVK_ENOTBOUND);
    two_close(&two);
}

/* ---- threads: a server that is spoken to in all ways, now awake, now asleep ---- */

enum { ECHO = 1, COUNT, STOP };
#define TURNS 4000

struct server {
    struct dvk *dvk;
    pthread_t thread;
    uint64_t posts, bits;
    unsigned answers;
};

static void done_answer(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                        const int *fds, unsigned fd_count) {
    (void)reply, (void)data, (void)data_len, (void)fds, (void)fd_count;
    struct server *server = context;
    server->answers += status == 0;
}

static void *server_main(void *context) {
    struct server *server = context;
    struct dvk_request *req;
    while (dvk_receive(server->dvk, &req, -1) == 0) {
        struct dvk_message reply = {.payload.words = {server->posts, server->bits}};
        uint32_t type = req->msg.type;
        server->posts += type == COUNT;
        server->bits |= req->msg.notify;
        if (req->wants_reply)
            dvk_reply(server->dvk, req, &reply, NULL, 0);
        else
            dvk_release(server->dvk, req);
        if (type == STOP)
            break;
    }
    return NULL;
}

static void server_start(struct server *server) {
    dvk_endpoint service;
    *server = (struct server){.dvk = context_open()};
    assert_int_equal(dvk_bind(server->dvk, DC, dvk_endpoint_slot(SERVER), &service), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
}

static void ask(struct dvk *dvk, dvk_endpoint self, uint32_t type, struct dvk_message *message) {
    *message = (struct dvk_message){.destination = SERVER, .type = type};
    assert_int_equal(dvk_sendrec(dvk, self, message, NULL, 0, NULL, 0, NULL, 10000), 0);
}

static void pause_some(unsigned *seed) {
    for (volatile int i = rand_r(seed) % 64 ? 0 : rand_r(seed) % 200000; i > 0; i--)
        ;
}

/* Another client, whose bit is another one. */
static void *other_main(void *context) {
    struct dvk *dvk = context;
    unsigned seed = 2;
    dvk_endpoint self;
    struct dvk_message message;
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &self), 0);
    for (unsigned i = 0; i < TURNS / 8; i++) {
        ask(dvk, self, ECHO, &message);
        for (unsigned j = rand_r(&seed) % 16; j > 0; j--)
            pause_some(&seed);
    }
    return NULL;
}

static void test_awake_and_asleep(void **state) {
    (void)state;
    struct server server;
    server_start(&server);
    struct dvk *dvk = context_open(), *other = context_open();
    pthread_t thread;
    dvk_endpoint self;
    unsigned seed = 1;
    uint64_t posts = 0, bits = 0;
    struct dvk_message message;
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &self), 0);
    ask(dvk, self, ECHO, &message);
    assert_int_equal(pthread_create(&thread, NULL, other_main, other), 0);
    for (unsigned i = 0; i < TURNS; i++) {
        message = (struct dvk_message){.destination = SERVER, .type = COUNT};
        for (unsigned n = rand_r(&seed) % 8 ? 0 : rand_r(&seed) % 20; n > 0; n--, posts++)
            assert_int_equal(dvk_post(dvk, self, &message, NULL, 0, 10000), 0);
        if (i % 16 == 0) {
            assert_int_equal(dvk_notify(dvk, self, SERVER, 1ull << (i / 16 % 64)), 0);
            bits |= 1ull << (i / 16 % 64);
        }
        ask(dvk, self, ECHO, &message);
        assert_true(message.payload.words[0] == posts); /* what went before it has come before it */
        pause_some(&seed);
    }
    pthread_join(thread, NULL);
    ask(dvk, self, STOP, &message);
    pthread_join(server.thread, NULL);
    assert_true(server.posts == posts && server.bits == bits);
    dvk_close(server.dvk);
    dvk_close(other);
    dvk_close(dvk);
}

/* Two that call each other at the same time, each of which waits for messages and answers on the same doorbell. */
static void test_both_ways(void **state) {
    (void)state;
    struct server server;
    server_start(&server);
    struct dvk *dvk = context_open();
    dvk_endpoint self;
    struct dvk_message message = {.destination = SERVER, .type = ECHO};
    struct server mine = {.dvk = dvk};
    struct dvk_request *req;
    unsigned made = 0;
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &self), 0);
    while (mine.answers < TURNS) {
        while (made < TURNS && made - mine.answers < 3) {
            assert_int_equal(dvk_call(dvk, self, &message, NULL, 0, NULL, 0, done_answer, &mine, NULL), 0);
            made++;
        }
        assert_int_equal(dvk_receive(dvk, &req, mine.answers < TURNS ? 1 : 0), -DVK_ETIMEDOUT);
    }
    ask(dvk, self, STOP, &message);
    pthread_join(server.thread, NULL);
    dvk_close(server.dvk);
    dvk_close(dvk);
}

static int setup(void **state) {
    (void)state;
    fake = fake_start(1);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    fake_stop(fake);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bound_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unbound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound_here, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_unbound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_awake_and_asleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_both_ways, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
