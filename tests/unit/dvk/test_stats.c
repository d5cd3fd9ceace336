/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What endpoints count: random sequences of calls between two contexts of one thread and a server in another, and what the
 * test itself has counted from what the calls returned and handed out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <dvk/loan.h>
#include <dvk/post.h>
#include <dvk/primitives.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#define DC 7u
#define SERVER dvk_service_endpoint(1, 40)
#define NOBODY dvk_endpoint_make(1, 5000)
#define DATA_MAX_HERE 3000u
#define HELD_MAX 16
#define STEPS 4000

enum { ECHO = 1, STOP };

static struct fake_dvkd *fake;
static uint8_t bytes[DATA_MAX_HERE];

/* One endpoint that the test drives, and what it must have counted. */
struct side {
    struct dvk *dvk;
    dvk_endpoint self;
    unsigned incarnation; /* of the binding */
    struct dvk_stats expected;
    struct dvk_request *held[HELD_MAX];
    unsigned held_of[HELD_MAX]; /* incarnation */
    unsigned held_count, pending;
    uint64_t last_call;
};

static struct side sides[2];

/* The server thread counts for itself. */
struct server {
    pthread_t thread;
    int fd;
    sem_t ready, go_on;
    dvk_endpoint self;
    struct dvk_stats expected;
};

/* ---- what the test counts ---- */

static void count_error(struct dvk_stats *stats, int error) {
    int class = error == -DVK_ETIMEDOUT      ? DVK_STATS_TIMED_OUT
                : error == -DVK_ENOTBOUND    ? DVK_STATS_NOT_BOUND
                : error == -DVK_EINTERRUPTED ? DVK_STATS_INTERRUPTED
                : error == -DVK_EDEADDST     ? DVK_STATS_DEAD
                : error == -EINVAL || error == -EMSGSIZE || error == -DVK_EDEADLOCK ? DVK_STATS_REFUSED
                                                                                   : DVK_STATS_OTHER;
    stats->errors[class]++;
}

static void count_end(struct dvk_stats *stats, int error) {
    if (error == 0)
        stats->completed++;
    else
        count_error(stats, error);
}

static void count_received(struct dvk_stats *stats, const struct dvk_request *req) {
    if (req->wants_reply)
        stats->requests_in++;
    else if (req->msg.notify)
        stats->notifies_in++;
    else
        stats->sends_in++;
    stats->bytes_in += req->msg.data_len;
    stats->arrived++;
}

static void count_reply(struct dvk_stats *stats, size_t len) {
    stats->replies++;
    stats->bytes_out += len;
}

/* ---- the server ---- */

static void *server_main(void *context) {
    struct server *server = context;
    struct dvk *dvk;
    struct dvk_request *req;
    assert_int_equal(dvk_open_fd(server->fd, &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, dvk_endpoint_slot(SERVER), &server->self), 0);
    sem_post(&server->ready);
    for (bool stop = false; !stop && dvk_receive(dvk, &req, -1) == 0;) {
        count_received(&server->expected, req);
        stop = req->msg.type == STOP;
        if (!req->wants_reply) {
            dvk_release(dvk, req);
            continue;
        }
        struct dvk_message reply = {.data_len = req->msg.data_len};
        memset(req->reply_data, 1, reply.data_len);
        if (stop) { /* the test looks before the answer, and so before the end */
            sem_post(&server->ready);
            sem_wait(&server->go_on);
        } else {
            count_reply(&server->expected, reply.data_len);
        }
        dvk_reply(dvk, req, &reply, NULL, 0);
    }
    dvk_close(dvk);
    return NULL;
}

/* ---- steps ---- */

struct calling {
    struct side *side;
    unsigned incarnation;
};

static void on_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len,
                    const int *fds, unsigned fd_count) {
    struct calling *calling = context;
    (void)reply, (void)data, (void)fds;
    assert_int_equal(fd_count, 0);
    calling->side->pending--;
    if (calling->incarnation == calling->side->incarnation) {
        count_end(&calling->side->expected, status);
        calling->side->expected.bytes_in += len;
    }
    free(calling);
}

static size_t some_bytes(void) { return random() % 3 ? 0 : (size_t)random() % DATA_MAX_HERE; }

static dvk_endpoint some_peer(const struct side *side) {
    long n = random() % 8;
    return n == 0 ? NOBODY : n < 3 ? SERVER : sides[side == sides].self;
}

static void step_call(struct side *side) {
    struct dvk_message message = {.destination = some_peer(side), .type = ECHO};
    size_t len = some_bytes();
    struct calling *calling = malloc(sizeof *calling);
    *calling = (struct calling){side, side->incarnation};
    if (side->pending >= 100) {
        free(calling);
        return;
    }
    int error = dvk_call(side->dvk, side->self, &message, bytes, len, NULL, 0, on_done, calling, &side->last_call);
    assert_int_equal(error, 0);
    side->pending++;
    side->expected.calls++;
    side->expected.bytes_out += len;
}

static void step_cancel(struct side *side) {
    if (side->last_call)
        (void)dvk_cancel(side->dvk, side->last_call);
    side->last_call = 0;
}

/* Waits: only for the server, and for nobody. */
static void step_sendrec(struct side *side) {
    struct dvk_message message = {.destination = random() % 5 ? SERVER : NOBODY, .type = ECHO};
    size_t len = some_bytes(), got = 0;
    int error = dvk_sendrec(side->dvk, side->self, &message, bytes, len, NULL, 0, &got, 10000);
    side->expected.sendrecs++;
    side->expected.bytes_out += len;
    side->expected.bytes_in += got;
    count_end(&side->expected, error);
}

static void step_send(struct side *side) {
    struct dvk_message message = {.destination = random() % 5 ? SERVER : NOBODY, .type = ECHO};
    size_t len = some_bytes();
    int error = dvk_send(side->dvk, side->self, &message, bytes, len, 10000);
    side->expected.sends++;
    side->expected.bytes_out += len;
    count_end(&side->expected, error);
}

/* The other side, in the same thread, cannot answer; or what is asked cannot be. */
static void step_fail(struct side *side) {
    struct dvk_message message = {.destination = sides[side == sides].self, .type = ECHO};
    long how = random() % 4;
    size_t len = how == 1 ? 10 : how == 2 ? DVK_LOAN_MAX + 1ull : 0;
    if (how == 3)
        message.destination = side->self;
    int error = dvk_sendrec(side->dvk, side->self, &message, how == 1 ? NULL : bytes, len, NULL, 0, NULL, 0);
    assert_int_not_equal(error, 0);
    side->expected.sendrecs++;
    side->expected.bytes_out += len;
    count_end(&side->expected, error);
}

static void step_post(struct side *side) {
    struct dvk_message message = {.destination = some_peer(side), .type = ECHO};
    size_t len = some_bytes();
    if (message.destination == NOBODY || side->pending >= 100)
        return; /* that it failed is told by a later one: test_posts_that_fail */
    int error = dvk_post(side->dvk, side->self, &message, bytes, len, 0);
    if (error == -DVK_ENOTBOUND)
        return; /* an earlier one came too late for its destination; this one was not made */
    side->expected.posts++;
    side->expected.bytes_out += len;
    if (error < 0) {
        side->expected.posts_failed++;
        count_error(&side->expected, error);
    }
}

static void step_notify(struct side *side) {
    assert_int_equal(dvk_notify(side->dvk, side->self, some_peer(side), 1u << random() % 8), 0);
    side->expected.notifies++;
}

static void step_loan(struct side *side) {
    void *data;
    int error = dvk_loan_get(side->dvk, side->self, SERVER, 5000, 10000, &data);
    assert_int_equal(error, 0);
    side->expected.loans++;
    dvk_loan_drop(side->dvk, data);
}

static void answer(struct side *side, unsigned i) {
    struct dvk_request *req = side->held[i];
    size_t len = some_bytes();
    struct dvk_message reply = {.data_len = (uint32_t)len};
    bool relay = random() % 4 == 0 && !req->cancelled, counts = side->held_of[i] == side->incarnation;
    side->held_count--;
    side->held[i] = side->held[side->held_count];
    side->held_of[i] = side->held_of[side->held_count];
    if (relay && dvk_relay(side->dvk, req, SERVER) == 0) {
        side->expected.relayed += counts;
        return;
    }
    dvk_reply(side->dvk, req, &reply, NULL, 0);
    if (counts)
        count_reply(&side->expected, len);
}

/* False: nothing was there. */
static bool step_receive(struct side *side) {
    struct dvk_request *req;
    int error = dvk_receive(side->dvk, &req, 0);
    if (error < 0)
        return false;
    count_received(&side->expected, req);
    if (!req->wants_reply) {
        dvk_release(side->dvk, req);
        return true;
    }
    side->held[side->held_count] = req;
    side->held_of[side->held_count++] = side->incarnation;
    if (side->held_count == HELD_MAX)
        answer(side, 0);
    return true;
}

static void step_answer(struct side *side) {
    if (side->held_count)
        answer(side, (unsigned)random() % side->held_count);
}

static void rebind(struct side *side) {
    struct dvk_stats stats;
    assert_int_equal(dvk_unbind(side->dvk, side->self), 0);
    assert_int_equal(dvk_bind(side->dvk, DC, DVK_SLOT_ANY, &side->self), 0);
    side->incarnation++;
    side->expected = (struct dvk_stats){0};
    assert_true(fake_stats(fake, DC, side->self, &stats));
    assert_memory_equal(&stats, &side->expected, sizeof stats); /* although what was under way is not over */
}

static void step(struct side *side) {
    static void (*const steps[])(struct side *) = {step_call,   step_call, step_sendrec, step_send, step_fail, step_post,
                                                   step_notify, step_loan, step_cancel,  step_answer};
    long n = random() % 220;
    if (n == 0)
        rebind(side);
    else if (n < 100)
        steps[n % 10](side);
    else
        (void)step_receive(side);
}

/* Until nothing is under way. */
static void drain(void) {
    for (int quiet = 0; quiet < 20;) {
        bool any = false;
        for (int i = 0; i < 2; i++) {
            any |= step_receive(&sides[i]) || sides[i].pending || sides[i].held_count;
            while (sides[i].held_count)
                answer(&sides[i], 0);
        }
        quiet = any ? 0 : quiet + 1;
    }
}

static void check(const char *who, dvk_endpoint endpoint, struct dvk_stats *expected) {
    struct dvk_stats got;
    assert_true(fake_stats(fake, DC, endpoint, &got));
    expected->arrived += got.withdrawn; /* how many were taken back in time is the scheduler's matter */
    expected->withdrawn = got.withdrawn;
    uint64_t late = got.posts_failed - expected->posts_failed; /* that found nobody any more */
    if (late > got.posts)
        fail_msg("%s: %lld posts failed late, of %llu; expected %llu", who, (long long)late, (unsigned long long)got.posts, (unsigned long long)expected->posts_failed);
    expected->posts_failed += late;
    expected->errors[DVK_STATS_NOT_BOUND] += late;
    const uint64_t *a = (const uint64_t *)&got, *b = (const uint64_t *)expected;
    for (size_t i = 0; i < sizeof got / sizeof *a; i++)
        if (a[i] != b[i])
            fail_msg("%s: word %zu is %llu, not %llu", who, i, (unsigned long long)a[i], (unsigned long long)b[i]);
}

static void side_open(struct side *side) {
    *side = (struct side){0};
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &side->dvk), 0);
    assert_int_equal(dvk_bind(side->dvk, DC, DVK_SLOT_ANY, &side->self), 0);
}

static void server_start(struct server *server) {
    *server = (struct server){.fd = fake_client(fake, false, NULL)};
    sem_init(&server->ready, 0, 0);
    sem_init(&server->go_on, 0, 0);
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
    sem_wait(&server->ready);
}

static void test_random_calls(void **state) {
    struct server server;
    for (unsigned seed = 1; seed <= 6; seed++) {
        fake = fake_start(1);
        srandom(seed);
        server_start(&server);
        for (int i = 0; i < 2; i++)
            side_open(&sides[i]);
        for (int i = 0; i < STEPS; i++)
            step(&sides[random() % 2]);
        drain();
        struct dvk_message stop = {.destination = SERVER, .type = STOP};
        struct calling *calling = malloc(sizeof *calling);
        *calling = (struct calling){&sides[0], sides[0].incarnation};
        assert_int_equal(dvk_call(sides[0].dvk, sides[0].self, &stop, NULL, 0, NULL, 0, on_done, calling, NULL), 0);
        sides[0].pending++;
        sides[0].expected.calls++;
        sem_wait(&server.ready);
        check("the server", server.self, &server.expected);
        sem_post(&server.go_on);
        drain();
        check("one", sides[0].self, &sides[0].expected);
        check("the other", sides[1].self, &sides[1].expected);
        for (int i = 0; i < 2; i++)
            dvk_close(sides[i].dvk);
        pthread_join(server.thread, NULL);
        sem_destroy(&server.ready);
        sem_destroy(&server.go_on);
        fake_stop(fake);
    }
}

static void test_posts_that_fail(void **state) {
    struct side *side = &sides[0];
    struct dvk_stats stats;
    fake = fake_start(1);
    side_open(side);
    side_open(&sides[1]);
    struct dvk_message message = {.destination = NOBODY, .type = ECHO};
    assert_int_equal(dvk_post(side->dvk, side->self, &message, NULL, 0, 1000), -DVK_ENOTBOUND);
    /* one that is refused once it is there: the next post says so, and is none itself */
    message.destination = sides[1].self;
    while (dvk_post(side->dvk, side->self, &message, NULL, 0, 0) != 0) /* the way is made by the first */
        (void)step_receive(&sides[1]);
    (void)step_receive(&sides[1]);
    assert_true(fake_stats(fake, DC, side->self, &stats));
    uint64_t before = stats.posts_failed;
    assert_int_equal(dvk_post(side->dvk, side->self, &message, NULL, 0, 1000), 0);
    assert_int_equal(dvk_unbind(sides[1].dvk, sides[1].self), 0);
    int error = 0;
    uint64_t posts = 0;
    for (int i = 0; i < 10000 && error == 0; i++) {
        struct dvk_request *none;
        posts += (error = dvk_post(side->dvk, side->self, &message, NULL, 0, 10000)) == 0;
        assert_int_equal(dvk_receive(sides[1].dvk, &none, 0), -DVK_ETIMEDOUT);
    }
    assert_int_equal(error, -DVK_ENOTBOUND);
    struct dvk_stats after;
    assert_true(fake_stats(fake, DC, side->self, &after));
    assert_int_equal(after.posts, stats.posts + 1 + posts);
    assert_true(after.posts_failed > before && after.posts_failed <= after.posts);
    assert_int_equal(after.errors[DVK_STATS_NOT_BOUND] - stats.errors[DVK_STATS_NOT_BOUND], after.posts_failed - before);
    for (int i = 0; i < 2; i++)
        dvk_close(sides[i].dvk);
    fake_stop(fake);
}

/* Places are used again, and more endpoints than a memory page has places. */
static void test_many_endpoints(void **state) {
    dvk_endpoint all[100];
    struct dvk *dvk;
    struct dvk_stats stats;
    fake = fake_start(1);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &all[i]), 0);
            assert_true(fake_stats(fake, DC, all[i], &stats));
            assert_int_equal(stats.notifies, 0);
            for (unsigned k = 0; k <= i; k++)
                assert_int_equal(dvk_notify(dvk, all[i], all[0], 1), 0);
        }
        for (unsigned i = 0; i < 100; i++) {
            assert_true(fake_stats(fake, DC, all[i], &stats));
            assert_int_equal(stats.notifies, i + 1);
        }
        for (unsigned i = 0; i < 100; i++)
            assert_int_equal(dvk_unbind(dvk, all[(i + round * 37) % 100]), 0);
    }
    dvk_close(dvk);
    fake_stop(fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_calls),
        cmocka_unit_test(test_posts_that_fail),
        cmocka_unit_test(test_many_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
