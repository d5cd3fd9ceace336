/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving with a filter: one receiver, and senders in contexts of their own, all in this thread but for those that
 * block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/primitives.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define DC 7u

static struct fake_dvkd *fake;

struct party {
    struct dvk *dvk;
    dvk_endpoint self;
    unsigned done;
    int status;
};

static void party_open(struct party *party) {
    memset(party, 0, sizeof *party);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &party->dvk), 0);
    assert_int_equal(dvk_bind(party->dvk, DC, DVK_SLOT_ANY, &party->self), 0);
}

static void pump(struct party *party, int timeout_ms) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive(party->dvk, &req, timeout_ms), -DVK_ETIMEDOUT);
}

static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                 const int *fds, unsigned fd_count) {
    struct party *party = context;
    party->done++;
    party->status = status;
}

/* A request; the way to `to` is there, so it lies in the receiver's ring when this returns. */
static uint64_t ask(struct party *from, const struct party *to, uint32_t type) {
    struct dvk_message message = {.destination = to->self, .type = type};
    uint64_t call;
    assert_int_equal(dvk_call(from->dvk, from->self, &message, NULL, 0, NULL, 0, done, from, &call), 0);
    return call;
}

static void answer(struct party *party, struct dvk_request *req) {
    if (req->wants_reply)
        dvk_reply_status(party->dvk, req, 0);
    else
        dvk_release(party->dvk, req);
}

/* Make the way from one to the other. */
static void introduce(struct party *from, struct party *to) {
    struct dvk_request *req;
    unsigned before = from->done;
    (void)ask(from, to, 1);
    while (dvk_receive(to->dvk, &req, 1) == -DVK_ETIMEDOUT)
        pump(from, 1);
    answer(to, req);
    while (from->done == before)
        pump(from, 1);
}

static struct party server, a, b, c;

static int setup(void **state) {
    fake = fake_start(1);
    party_open(&server);
    struct party *others[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++) {
        party_open(others[i]);
        introduce(others[i], &server);
    }
    return 0;
}

static int teardown(void **state) {
    struct party *all[] = {&server, &a, &b, &c};
    for (int i = 0; i < 4; i++)
        dvk_close(all[i]->dvk);
    fake_stop(fake);
    return 0;
}

static void expect_from(const struct party *source, uint32_t type) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive_from(server.dvk, server.self, source ? source->self : DVK_ANY, &req, 0), 0);
    if (source)
        assert_true(req->msg.source == source->self);
    assert_int_equal(req->msg.type, type);
    answer(&server, req);
}

static void expect(const struct party *source, uint32_t type) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive(server.dvk, &req, 0), 0);
    assert_true(req->msg.source == source->self);
    assert_int_equal(req->msg.type, type);
    answer(&server, req);
}

static void expect_nothing_from(dvk_endpoint source) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive_from(server.dvk, server.self, source, &req, 0), -DVK_ETIMEDOUT);
    assert_null(req);
}

static void test_order(void **state) {
    (void)ask(&a, &server, 10);
    (void)ask(&a, &server, 11);
    (void)ask(&b, &server, 12);
    (void)ask(&a, &server, 13);
    expect_nothing_from(c.self);
    expect_from(&b, 12);
    expect_nothing_from(b.self);
    expect_from(&a, 10);
    (void)ask(&b, &server, 14);
    assert_int_equal(dvk_notify(a.dvk, a.self, server.self, 4), 0);
    expect_from(&a, 0); /* the notification */
    expect(&a, 11);     /* then what has waited longest */
    expect_from(NULL, 13);
    expect_from(&b, 14);
    expect_nothing_from(DVK_ANY);
}

static void *send_main(void *context) {
    struct party *party = context;
    struct dvk_message message = {.destination = server.self, .type = 20};
    party->status = dvk_send(party->dvk, party->self, &message, NULL, 0, 5000);
    return NULL;
}

static void test_requests_only(void **state) {
    pthread_t thread;
    assert_int_equal(dvk_notify(a.dvk, a.self, server.self, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, send_main, &b), 0);
    struct dvk_request *req;
    assert_int_equal(dvk_receive_request(server.dvk, server.self, DVK_ANY, &req, 100), -DVK_ETIMEDOUT);
    (void)ask(&a, &server, 21);
    (void)ask(&c, &server, 22);
    assert_int_equal(dvk_receive_request(server.dvk, server.self, c.self, &req, 0), 0);
    assert_int_equal(req->msg.type, 22);
    answer(&server, req);
    assert_int_equal(dvk_receive_request(server.dvk, server.self, DVK_ANY, &req, 0), 0);
    assert_int_equal(req->msg.type, 21);
    answer(&server, req);
    assert_int_equal(dvk_receive_request(server.dvk, server.self, DVK_ANY, &req, 0), -DVK_ETIMEDOUT);
    expect_from(&a, 0);
    assert_int_equal(dvk_receive_from(server.dvk, server.self, b.self, &req, 5000), 0);
    assert_int_equal(req->msg.type, 20);
    answer(&server, req);
    pthread_join(thread, NULL);
    assert_int_equal(b.status, 0);
}

static void test_wrong_arguments(void **state) {
    struct dvk_request *req;
    assert_int_equal(dvk_receive_from(server.dvk, a.self, DVK_ANY, &req, 0), -DVK_ENOTBOUND);
    assert_int_equal(dvk_receive_from(server.dvk, server.self, DVK_NONE, &req, 0), -EINVAL);
    assert_int_equal(dvk_receive_from(server.dvk, server.self, dvk_endpoint_slot(a.self), &req, 0), -EINVAL);
}

/* What was filed and then taken back, or whose sender is gone, is not handed out. */
static void test_taken_back(void **state) {
    uint64_t call = ask(&a, &server, 30);
    (void)ask(&b, &server, 31);
    (void)ask(&a, &server, 32);
    expect_nothing_from(c.self);
    unsigned before = a.done;
    assert_int_equal(dvk_cancel(a.dvk, call), 0);
    expect_from(&a, 32);
    while (a.done < before + 2)
        pump(&a, 10);
    (void)ask(&b, &server, 33);
    expect_nothing_from(c.self);
    dvk_endpoint gone = b.self;
    dvk_close(b.dvk);
    expect_nothing_from(gone);
    expect_nothing_from(DVK_ANY);
    party_open(&b);
    introduce(&b, &server);
    (void)ask(&b, &server, 34);
    expect_from(&b, 34);
    expect_nothing_from(DVK_ANY);
}

static void test_own_notifications(void **state) {
    expect_nothing_from(a.self); /* from now on there is a filter */
    assert_int_equal(dvk_notify(server.dvk, server.self, server.self, 1), 0);
    expect_nothing_from(a.self);
    assert_int_equal(dvk_notify(server.dvk, server.self, server.self, 6), 0);
    struct dvk_request *req;
    assert_int_equal(dvk_receive_from(server.dvk, server.self, server.self, &req, 0), 0);
    assert_int_equal(req->msg.notify, 7);
    answer(&server, req);
    expect_nothing_from(DVK_ANY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_notifications, setup, teardown),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
