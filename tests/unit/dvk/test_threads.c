/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dvk.h says of threads: each thread has a context of its own and all work at once; dvk_wake comes from other threads and
 * from signal handlers. Made for ThreadSanitizer (-Db_sanitize=thread); it is a test without it, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <pthread.h>
#include <signal.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DC 3u
#define THREADS 4u
#define ROUNDS 500u
#define SERVICE(i) dvk_service_endpoint(1, 32 + (i))
enum { ECHO = 1, END };

static struct fake_dvkd *fake;

static struct dvk *context_open(uint32_t slot, dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, slot, self), 0);
    return dvk;
}

/* cmocka's assertions belong to the main thread. */
#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __LINE__))
static void check_failed(const char *condition, int line) {
    fprintf(stderr, "test_threads.c:%d: not so: %s\n", line, condition);
    abort();
}

struct job {
    pthread_t thread;
    unsigned index;
    struct dvk *dvk; /* made by the main thread, which then leaves it alone */
    dvk_endpoint self;
    unsigned answered;
    atomic_bool taken;
};

static void *serve(void *context) {
    struct job *job = context;
    for (bool end = false; !end;) {
        struct dvk_request *request;
        CHECK(dvk_receive(job->dvk, &request, 30000) == 0);
        end = request->msg.type == END;
        struct dvk_message reply = {.data_len = request->msg.data_len};
        memcpy(reply.payload.bytes, request->msg.payload.bytes, sizeof reply.payload);
        if (reply.data_len)
            memcpy(request->reply_data, request->data, reply.data_len);
        dvk_reply(job->dvk, request, &reply, NULL, 0);
        job->answered++;
    }
    dvk_close(job->dvk);
    return NULL;
}

static void *ask(void *context) {
    struct job *job = context;
    uint8_t out[300], in[300];
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct dvk_message message = {.destination = SERVICE(i % THREADS), .type = ECHO};
        size_t len = 0;
        message.payload.words[0] = (uint64_t)job->index << 32 | i;
        memset(out, (int)(job->index + i), sizeof out);
        CHECK(dvk_sendrec(job->dvk, job->self, &message, out, sizeof out, in, sizeof in, &len, 30000) == 0);
        CHECK(message.status == 0 && message.payload.words[0] == ((uint64_t)job->index << 32 | i));
        CHECK(len == sizeof in && memcmp(in, out, sizeof in) == 0);
        job->answered++;
    }
    dvk_close(job->dvk);
    return NULL;
}

static void contexts_work_side_by_side(void **state) {
    struct job servers[THREADS], clients[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        servers[i] = (struct job){.index = i};
        servers[i].dvk = context_open(dvk_endpoint_slot(SERVICE(i)), &servers[i].self);
        clients[i] = (struct job){.index = i};
        clients[i].dvk = context_open(DVK_SLOT_ANY, &clients[i].self);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&servers[i].thread, NULL, serve, &servers[i]), 0);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask, &clients[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].answered, ROUNDS);
    }
    dvk_endpoint self;
    struct dvk *dvk = context_open(DVK_SLOT_ANY, &self);
    for (unsigned i = 0; i < THREADS; i++) {
        struct dvk_message end = {.destination = SERVICE(i), .type = END};
        assert_int_equal(dvk_sendrec(dvk, self, &end, NULL, 0, NULL, 0, NULL, 30000), 0);
        pthread_join(servers[i].thread, NULL);
        assert_int_equal(servers[i].answered, ROUNDS + 1);
    }
    dvk_close(dvk);
}

/* ---- an answer counts although its giver has gone ---- */

static void *answer_once(void *context) {
    struct job *job = context;
    struct dvk_request *request;
    CHECK(dvk_receive(job->dvk, &request, 30000) == 0);
    atomic_store(&job->taken, true);
    dvk_reply_status(job->dvk, request, 77);
    dvk_close(job->dvk);
    return NULL;
}

static void got(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                const int *fds, unsigned fd_count) {
    *(int *)context = status < 0 ? status : reply->status;
}

static void answers_of_the_gone(void) {
    dvk_endpoint self;
    struct dvk *dvk = context_open(DVK_SLOT_ANY, &self);
    for (unsigned i = 0; i < 12; i++) {
        struct job server = {.index = 0};
        server.dvk = context_open(DVK_SLOT_ANY, &server.self);
        struct dvk_message message = {.destination = server.self, .type = ECHO};
        int result = 0;
        struct dvk_request *request;
        if (i % 2)
            assert_int_equal(dvk_call(dvk, self, &message, NULL, 0, NULL, 0, got, &result, NULL), 0);
        assert_int_equal(pthread_create(&server.thread, NULL, answer_once, &server), 0);
        if (i % 2) {
            while (!atomic_load(&server.taken)) /* until the channel is made, and the request sent */
                assert_int_equal(dvk_receive(dvk, &request, 1), -DVK_ETIMEDOUT);
            if (i % 4 == 1)
                pthread_join(server.thread, NULL); /* all is over when we look */
            while (!result)
                assert_int_equal(dvk_receive(dvk, &request, 10), -DVK_ETIMEDOUT);
            if (i % 4 == 3)
                pthread_join(server.thread, NULL);
        } else {
            assert_int_equal(dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, 30000), 0);
            result = message.status;
            pthread_join(server.thread, NULL);
        }
        assert_int_equal(result, 77);
    }
    dvk_close(dvk);
}

static void an_answer_outlives_its_giver(void **state) {
    for (unsigned round = 0; round < 20; round++) {
        fake = fake_start(1); /* it serves 16 contexts */
        answers_of_the_gone();
        fake_stop(fake);
    }
}

/* ---- dvk_wake ---- */

static struct dvk *woken;
static atomic_uint wakes, seen;

static void *wake(void *context) {
    (void)context;
    for (unsigned i = 1; i <= ROUNDS; i++) { /* each one ends a wait: the next only when it was seen */
        atomic_store(&wakes, i);
        dvk_wake(woken);
        while (atomic_load(&seen) < i)
            sched_yield();
    }
    return NULL;
}

static void another_thread_wakes(void **state) {
    dvk_endpoint self;
    pthread_t thread;
    struct dvk_request *request;
    woken = context_open(DVK_SLOT_ANY, &self);
    atomic_store(&wakes, 0);
    atomic_store(&seen, 0);
    pthread_create(&thread, NULL, wake, NULL);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        assert_int_equal(dvk_receive(woken, &request, 30000), -DVK_EINTERRUPTED);
        assert_int_equal(atomic_load(&wakes), i);
        atomic_store(&seen, i);
    }
    pthread_join(thread, NULL);
    assert_int_equal(dvk_receive(woken, &request, 0), -DVK_ETIMEDOUT); /* none is left over */
    dvk_close(woken);
}

static void on_signal(int number) {
    (void)number;
    dvk_wake(woken);
}

static void *interrupt(void *context) {
    pthread_kill(*(pthread_t *)context, SIGUSR1);
    return NULL;
}

static void a_signal_handler_wakes(void **state) {
    dvk_endpoint self;
    pthread_t thread, main_thread = pthread_self();
    struct dvk_request *request;
    woken = context_open(DVK_SLOT_ANY, &self);
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    for (unsigned i = 0; i < 20; i++) {
        pthread_create(&thread, NULL, interrupt, &main_thread);
        assert_int_equal(dvk_receive(woken, &request, 30000), -DVK_EINTERRUPTED);
        pthread_join(thread, NULL);
    }
    sigaction(SIGUSR1, &before, NULL);
    dvk_close(woken);
}

static int setup(void **state) {
    fake = fake_start(1);
    return fake ? 0 : -1;
}

static int teardown(void **state) {
    fake_stop(fake);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(contexts_work_side_by_side, setup, teardown),
        cmocka_unit_test(an_answer_outlives_its_giver),
        cmocka_unit_test_setup_teardown(another_thread_wakes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_handler_wakes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
