/* SPDX-License-Identifier: Apache-2.0 */
/* Long messages and loans, between contexts of this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/loan.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DC 7u
#define SERVER dvk_service_endpoint(1, 100)
#define OTHER dvk_service_endpoint(1, 101)

/* What the server does: its type. */
enum { INVERT = 1, SUM, FILL, QUIT };

static struct fake_dvkd *fake;

struct server {
    struct dvk *dvk;
    pthread_t thread;
    size_t accepts;
    int number; /* of the client */
};

static uint64_t sum_of(const uint8_t *bytes, size_t len) {
    uint64_t sum = len;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

static void fill(uint8_t *bytes, size_t len, unsigned seed) {
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 12) + seed);
}

static void *server_main(void *context) {
    struct server *server = context;
    struct dvk_request *req;
    for (bool goes_on = true; goes_on && dvk_receive(server->dvk, &req, -1) == 0;) {
        struct dvk_message reply = {.status = 0};
        if (!req->wants_reply) {
            dvk_release(server->dvk, req);
            continue;
        }
        switch (req->msg.type) {
        case INVERT: /* read in place, answered in place */
            reply.data_len = req->msg.data_len;
            for (uint32_t i = 0; i < req->msg.data_len; i++)
                ((uint8_t *)req->reply_data)[i] = (uint8_t)(((const uint8_t *)req->data)[i] ^ 0xff);
            break;
        case SUM:
            reply.payload.words[0] = sum_of(req->data, req->msg.data_len);
            reply.payload.words[1] = req->reply_cap;
            break;
        case FILL: /* as much as there is room for */
            reply.data_len = req->reply_cap;
            fill(req->reply_data, req->reply_cap, 3);
            break;
        case QUIT:
            goes_on = false;
            break;
        default:
            reply.status = -ENOSYS;
        }
        dvk_reply(server->dvk, req, &reply, NULL, 0);
    }
    return NULL;
}

static struct server *server_start(dvk_endpoint at, size_t accepts) {
    struct server *server = calloc(1, sizeof *server);
    dvk_endpoint self;
    assert_non_null(server);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, &server->number), &server->dvk), 0);
    assert_int_equal(dvk_bind(server->dvk, DC, dvk_endpoint_slot(at), &self), 0);
    if (accepts)
        assert_int_equal(dvk_accept(server->dvk, accepts), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
    return server;
}

static void server_stop(struct server *server) {
    dvk_wake(server->dvk);
    pthread_join(server->thread, NULL);
    dvk_close(server->dvk);
    free(server);
}

static struct dvk *client_open(dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, self), 0);
    return dvk;
}

static struct dvk_message request_of(uint32_t type, dvk_endpoint to) {
    return (struct dvk_message){.destination = to, .type = type};
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

/* ---- */

static const size_t lengths[] = {1, 4096, DVK_DATA_MAX, DVK_DATA_MAX + 1, 300000, 1 << 20, DVK_LOAN_MAX};

static void test_copied(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    uint8_t *out = malloc(DVK_LOAN_MAX), *in = malloc(DVK_LOAN_MAX);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        size_t len = lengths[k], got = 0;
        fill(out, len, (unsigned)k);
        struct dvk_message m = request_of(INVERT, SERVER);
        assert_int_equal(dvk_sendrec(dvk, self, &m, out, len, in, DVK_LOAN_MAX, &got, 5000), 0);
        assert_int_equal(got, len);
        for (size_t i = 0; i < len; i++)
            if ((in[i] ^ out[i]) != 0xff)
                fail_msg("byte %zu of %zu", i, len);
    }
    struct dvk_message m = request_of(SUM, SERVER);
    assert_int_equal(dvk_sendrec(dvk, self, &m, out, DVK_LOAN_MAX + 1, NULL, 0, NULL, 1000), -EMSGSIZE);
    dvk_close(dvk);
    server_stop(server);
    free(out);
    free(in);
}

static void test_lent(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    void *first = NULL;
    for (unsigned round = 0; round < 3; round++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            size_t len = lengths[k];
            void *data;
            assert_int_equal(dvk_loan_get(dvk, self, SERVER, len, 1000, &data), 0);
            assert_int_equal((uintptr_t)data % 4096, 0);
            fill(data, len, round);
            uint64_t sum = sum_of(data, len);
            struct dvk_message m = request_of(SUM, SERVER);
            assert_int_equal(dvk_sendrec(dvk, self, &m, data, len, NULL, 0, NULL, 5000), 0);
            assert_true(m.payload.words[0] == sum);
            assert_true(m.payload.words[1] >= len); /* the reply may be as long */
            if (len == 1 << 20 && !first)
                first = data;
            else if (len == 1 << 20)
                assert_ptr_equal(data, first); /* it went back, and is taken again */
        }
    dvk_close(dvk);
    server_stop(server);
}

struct seen {
    unsigned count;
    int status;
    size_t len;
    uint64_t sum;
};
static void seen_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                      const int *fds, unsigned fd_count) {
    struct seen *seen = context;
    (void)reply, (void)fds, (void)fd_count;
    seen->count++;
    seen->status = status;
    seen->len = len;
    seen->sum = data ? sum_of(data, len) : 0;
}

/* A short request with a loan behind it has a long reply, read in place; several at once. */
static void test_long_reply(void **state) {
    (void)state;
    enum { N = 4 };
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct seen seen[N] = {{0}};
    for (int i = 0; i < N; i++) {
        void *data;
        assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data), 0);
        struct dvk_message m = request_of(FILL, SERVER);
        assert_int_equal(dvk_call(dvk, self, &m, data, 1, NULL, 0, seen_done, &seen[i], NULL), 0);
    }
    uint8_t *expected = malloc(1 << 20);
    fill(expected, 1 << 20, 3);
    uint64_t sum = sum_of(expected, 1 << 20);
    struct dvk_request *req;
    while (seen[0].count + seen[1].count + seen[2].count + seen[3].count < N)
        assert_int_equal(dvk_receive(dvk, &req, 20), -DVK_ETIMEDOUT);
    for (int i = 0; i < N; i++) {
        assert_int_equal(seen[i].status, 0);
        assert_int_equal(seen[i].len, 1 << 20);
        assert_true(seen[i].sum == sum);
    }
    free(expected);
    dvk_close(dvk);
    server_stop(server);
}

static void test_not_accepted(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, 0), *other = server_start(OTHER, 100000);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    void *data;
    struct dvk_message m = request_of(SUM, SERVER);
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, DVK_DATA_MAX + 1, 1000, &data), 0);
    memset(data, 1, DVK_DATA_MAX + 1);
    assert_int_equal(dvk_sendrec(dvk, self, &m, data, DVK_DATA_MAX + 1, NULL, 0, NULL, 1000), -EMSGSIZE);
    m = request_of(SUM, SERVER); /* the channel is as good as before */
    assert_int_equal(dvk_sendrec(dvk, self, &m, "x", 1, NULL, 0, NULL, 1000), 0);
    assert_int_equal(fake_closed_count(fake), 0);
    uint8_t *copy = calloc(1, 100001);
    m = request_of(SUM, OTHER);
    assert_int_equal(dvk_sendrec(dvk, self, &m, copy, 100000, NULL, 0, NULL, 1000), 0);
    m = request_of(SUM, OTHER);
    assert_int_equal(dvk_sendrec(dvk, self, &m, copy, 100001, NULL, 0, NULL, 1000), -EMSGSIZE);
    assert_int_equal(dvk_send(dvk, self, &m, copy, 100001, 1000), -EMSGSIZE);
    assert_int_equal(dvk_accept(dvk, DVK_LOAN_MAX + 1), -EINVAL);
    free(copy);
    dvk_close(dvk);
    server_stop(server);
    server_stop(other);
}

static void test_limits(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    void *data, *held[64];
    unsigned count = 0;
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 0, 1000, &data), -EINVAL);
    assert_int_equal(dvk_loan_get(dvk, self, self, 1, 1000, &data), -EINVAL);
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, DVK_LOAN_MAX + 1, 1000, &data), -EMSGSIZE);
    assert_int_equal(dvk_loan_get(dvk, self + 1, SERVER, 1, 1000, &data), -DVK_ENOTBOUND);
    assert_int_equal(dvk_loan_get(dvk, self, OTHER, 1, 1000, &data), -DVK_ENOTBOUND);
    assert_null(data);
    int error;
    while ((error = dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data)) == 0)
        held[count++] = data;
    assert_int_equal(error, -EAGAIN);
    assert_int_equal(count, 16); /* 256 slots of 64 KiB */
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; k < i; k++)
            assert_true(labs((char *)held[i] - (char *)held[k]) >= 1 << 20);
    dvk_loan_drop(dvk, held[5]);
    dvk_loan_drop(dvk, held[5]); /* ignored */
    dvk_loan_drop(dvk, NULL);
    struct dvk_message m = request_of(SUM, SERVER);
    assert_int_equal(dvk_sendrec(dvk, self, &m, "x", 1, NULL, 0, NULL, 1000), 0); /* room for single slots again */
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data), 0);
    assert_ptr_equal(data, held[5]);
    dvk_close(dvk); /* with loans */
    server_stop(server);

    fake_slots(fake, 4);
    server = server_start(SERVER, DVK_LOAN_MAX);
    dvk = client_open(&self);
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 4 * DVK_DATA_MAX + 1, 1000, &data), -EMSGSIZE);
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 4 * DVK_DATA_MAX, 1000, &data), 0);
    dvk_close(dvk);
    server_stop(server);
}

/* More long calls than there is room for wait for their turn, in order and with all that they carry. */
static void test_queued(void **state) {
    (void)state;
    enum { N = 40 };
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct seen seen = {0};
    unsigned expected = N;
    uint8_t *out = malloc(1 << 20);
    for (int i = 0; i < N; i++) {
        struct dvk_message m = request_of(i % 5 ? INVERT : SUM, SERVER);
        fill(out, 1 << 20, (unsigned)i);
        assert_int_equal(dvk_call(dvk, self, &m, out, i % 3 ? 1 << 20 : 10, NULL, 0, seen_done, &seen, NULL), 0);
        void *data;
        if (dvk_loan_get(dvk, self, SERVER, 200000, 1000, &data) == 0) { /* a loan behind a queue keeps its turn too */
            fill(data, 200000, 0);
            m = request_of(SUM, SERVER);
            assert_int_equal(dvk_call(dvk, self, &m, data, 200000, NULL, 0, seen_done, &seen, NULL), 0);
            expected++;
        }
    }
    struct dvk_request *req;
    for (int rounds = 0; seen.count < expected && rounds < 500; rounds++)
        assert_int_equal(dvk_receive(dvk, &req, 10), -DVK_ETIMEDOUT);
    assert_int_equal(seen.count, expected);
    assert_int_equal(seen.status, 0);
    free(out);
    dvk_close(dvk);
    server_stop(server);
}

/* Data in a loan of one channel, sent through another. */
static void test_sent_elsewhere(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX), *other = server_start(OTHER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    for (int round = 0; round < 40; round++) { /* each gives its loan back */
        void *data;
        assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data), 0);
        fill(data, 1000, (unsigned)round);
        uint64_t sum = sum_of(data, 1000);
        struct dvk_message m = request_of(SUM, OTHER);
        assert_int_equal(dvk_sendrec(dvk, self, &m, data, 1000, NULL, 0, NULL, 1000), 0);
        assert_true(m.payload.words[0] == sum);
        assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data), 0);
        m = request_of(SUM, dvk_service_endpoint(1, 102)); /* nobody there */
        assert_int_equal(dvk_sendrec(dvk, self, &m, data, 1000, NULL, 0, NULL, 1000), -DVK_ENOTBOUND);
    }
    dvk_close(dvk);
    server_stop(server);
    server_stop(other);
}

/* Whoever holds a loan of a channel whose peer has gone can still write there; sending it ends with an error. */
static void test_peer_gone(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    void *data, *more;
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &data), 0);
    assert_int_equal(dvk_loan_get(dvk, self, SERVER, 1 << 20, 1000, &more), 0);
    server_stop(server);
    struct dvk_request *req;
    int error;
    struct dvk_message m = request_of(SUM, SERVER);
    fill(data, 1 << 20, 1);
    error = dvk_sendrec(dvk, self, &m, data, 1 << 20, NULL, 0, NULL, 1000);
    assert_true(error == -DVK_EDEADDST || error == -DVK_ENOTBOUND);
    assert_int_equal(dvk_receive(dvk, &req, 20), -DVK_ETIMEDOUT);
    fill(more, 1 << 20, 1);
    m = request_of(SUM, SERVER);
    assert_int_equal(dvk_sendrec(dvk, self, &m, more, 1 << 20, NULL, 0, NULL, 1000), -DVK_ENOTBOUND);
    dvk_close(dvk);
}

static size_t resident(int memfd) {
    struct stat st;
    assert_int_equal(fstat(memfd, &st), 0);
    return (size_t)st.st_blocks * 512;
}

/* What loans have used goes back to the system, but for those freed last. */
static void test_memory(void **state) {
    (void)state;
    struct server *server = server_start(SERVER, DVK_LOAN_MAX);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    void *held[4];
    int memfd = -1;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            assert_int_equal(dvk_loan_get(dvk, self, SERVER, i ? DVK_LOAN_MAX : DVK_LOAN_MAX / 2, 1000, &held[i]), 0);
            memset(held[i], 1, i ? DVK_LOAN_MAX : DVK_LOAN_MAX / 2);
        }
        memfd = memfd < 0 ? fake_last_channel(fake) : memfd;
        assert_true(resident(memfd) > 3 * DVK_LOAN_MAX);
        for (int i = 0; i < 4; i++) {
            struct dvk_message m = request_of(SUM, SERVER);
            assert_int_equal(dvk_sendrec(dvk, self, &m, held[i], 1, NULL, 0, NULL, 1000), 0);
        }
        assert_true(resident(memfd) < DVK_LOAN_MAX + (1 << 20));
    }
    /* single slots inside a run that was chilled, or is to be, keep what they carry */
    uint8_t in[100];
    for (unsigned i = 0; i < 300; i++) {
        uint8_t out[100];
        void *data;
        fill(out, sizeof out, i);
        struct dvk_message m = request_of(INVERT, SERVER);
        assert_int_equal(dvk_sendrec(dvk, self, &m, out, sizeof out, in, sizeof in, NULL, 1000), 0);
        assert_int_equal(in[i % 100] ^ out[i % 100], 0xff);
        assert_int_equal(dvk_loan_get(dvk, self, SERVER, (i % 60 + 1) * DVK_DATA_MAX, 1000, &data), 0);
        dvk_loan_drop(dvk, data);
    }
    close(memfd);
    dvk_close(dvk);
    server_stop(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_reply, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sent_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_peer_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("loan", tests, NULL, NULL);
}
