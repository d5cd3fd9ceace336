/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's side of a channel, driven by hand: well-behaved, and then as badly as can be. Another guest beside it must
 * be served all the while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "dvk/channel_create.h"
#include "dvk/futex.h"
#include "dvk/ring.h"
#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define DC 3u

struct hand {
    dvk_endpoint endpoint;
    int memfd, socket;
    struct dvk_channel_view view;
    uint32_t sequence;
    bool bound;
};

static struct fake_dvkd *fake;
static struct dvk *dvk;
static dvk_endpoint self;
static struct dvk_doorbell *bell;
static unsigned gone, cancels;
static dvk_endpoint gone_endpoint;
static struct hand good, bad;
static uint32_t next_slot = 100;

static void on_event(void *context, const struct dvk_event *event) {
    (void)context;
    if (event->type == DVK_EVENT_ENDPOINT_GONE) {
        gone++;
        gone_endpoint = event->endpoint;
    }
}

static void on_cancel(void *context, struct dvk_request *req) {
    (void)context;
    cancels++;
    dvk_reply_status(dvk, req, -EINTR);
}

static void on_bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    struct hand *hand = context;
    struct stat st;
    assert_int_equal(status, 0);
    hand->bound = true;
    hand->endpoint = endpoint;
    hand->memfd = channel_fd;
    hand->socket = socket_fd;
    assert_int_equal(fstat(channel_fd, &st), 0);
    void *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, channel_fd, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    assert_int_equal(dvk_channel_view_init(&hand->view, base, (uint64_t)st.st_size), 0);
}

static void hand_bind(struct hand *hand) {
    *hand = (struct hand){0};
    assert_int_equal(dvk_guest_bind(dvk, DC, next_slot++, false, on_bound, hand), 0);
    struct dvk_request *req;
    for (int i = 0; i < 500 && !hand->bound; i++)
        assert_int_equal(dvk_receive(dvk, &req, 5), -DVK_ETIMEDOUT);
    assert_true(hand->bound);
}

static void hand_drop(struct hand *hand) {
    munmap(hand->view.base, hand->view.size);
    close(hand->memfd);
    close(hand->socket);
}

static int setup(void **state) {
    (void)state;
    gone = cancels = 0;
    fake = fake_start(1);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, dvk_system_slot(1, DVK_SERVICE_PM), &self), 0);
    dvk_on_event(dvk, on_event, NULL);
    dvk_on_cancel(dvk, on_cancel, NULL);
    bell = mmap(NULL, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dvk_doorbell_fd(dvk), 0);
    assert_ptr_not_equal(bell, MAP_FAILED);
    hand_bind(&good);
    hand_bind(&bad);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    hand_drop(&good);
    hand_drop(&bad);
    munmap(bell, DVK_DOORBELL_SIZE);
    dvk_close(dvk);
    fake_stop(fake);
    return 0;
}

static void hand_ring(struct hand *hand) {
    if (dvk_doorbell_post(bell, hand->view.header->doorbell_bit[1]))
        dvk_futex_wake(&bell->word, 1);
}

static struct dvk_message *hand_message(struct hand *hand, uint32_t slot) {
    struct dvk_message *m = &hand->view.slot[0][slot].request;
    memset(m, 0, sizeof *m);
    m->source = hand->endpoint;
    m->destination = dvk_service_endpoint(1, DVK_SERVICE_PM);
    m->type = 42;
    return m;
}

static uint32_t hand_publish(struct hand *hand, uint32_t slot, uint32_t flags) {
    dvk_slot_publish(&hand->view, 0, slot, flags, ++hand->sequence);
    hand_ring(hand);
    return hand->sequence;
}

/* One request of the good guest is served. */
static void serve_good(void) {
    struct dvk_request *req;
    struct dvk_message *m = hand_message(&good, 3);
    m->payload.words[0] = 99;
    memcpy(dvk_channel_buffer(&good.view, 0, 0, 3), "abcde", 5);
    m->data_len = 5;
    uint32_t sequence = hand_publish(&good, 3, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 2000), 0);
    assert_true(req->msg.source == good.endpoint);
    assert_true(req->wants_reply && req->local);
    assert_int_equal(req->msg.payload.words[0], 99);
    assert_memory_equal(req->data, "abcde", 5);
    memcpy(req->reply_data, "fghij", 5);
    struct dvk_message reply = {.status = 17, .data_len = 5};
    dvk_reply(dvk, req, &reply, NULL, 0);
    assert_int_equal(dvk_slot_look(&good.view.slot[0][3], sequence), DVK_LOOK_DONE);
    assert_int_equal(good.view.slot[0][3].reply.status, 17);
    assert_memory_equal(dvk_channel_buffer(&good.view, 0, 1, 3), "fghij", 5);
}

/* The bad guest has done something that must close its channel, and only that. */
static void assert_closed(void) {
    struct dvk_request *req;
    int64_t tries = 0;
    while (gone == 0 && tries++ < 500)
        assert_int_equal(dvk_receive(dvk, &req, 5), -DVK_ETIMEDOUT);
    assert_int_equal(gone, 1);
    assert_true(gone_endpoint == bad.endpoint);
    assert_true(dvk_channel_is_dead(&bad.view));
    assert_false(dvk_channel_is_dead(&good.view));
    serve_good();
    for (int i = 0; i < 200 && fake_closed_count(fake) == 0; i++)
        usleep(1000);
    assert_int_equal(fake_closed_count(fake), 1);
    assert_int_equal(dvk_guest_unbind(dvk, bad.endpoint, false), 0);
    serve_good();
}

static void test_guest(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++)
        serve_good();
    /* its notifications come without slots */
    struct dvk_request *req;
    __atomic_fetch_or(&good.view.header->notify[0], 6, __ATOMIC_SEQ_CST);
    hand_ring(&good);
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    assert_int_equal(req->msg.notify, 6);
    assert_true(req->msg.source == good.endpoint);
    dvk_release(dvk, req);
    /* it need not know its own endpoint: the channel tells */
    hand_message(&good, 4)->source = DVK_NONE;
    (void)hand_publish(&good, 4, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    assert_true(req->msg.source == good.endpoint);
    dvk_reply_status(dvk, req, 0);
    /* cancellation, and the stale one that follows a reply */
    uint32_t sequence;
    (void)hand_message(&good, 1);
    sequence = hand_publish(&good, 1, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    assert_false(req->cancelled);
    (void)dvk_slot_cancel(&good.view, 0, 1);
    hand_ring(&good);
    struct dvk_request *none;
    assert_int_equal(dvk_receive(dvk, &none, 20), -DVK_ETIMEDOUT);
    assert_int_equal(cancels, 1);
    assert_int_equal(dvk_slot_look(&good.view.slot[0][1], sequence), DVK_LOOK_DONE);
    (void)dvk_slot_cancel(&good.view, 0, 1);
    hand_ring(&good);
    assert_int_equal(dvk_receive(dvk, &none, 20), -DVK_ETIMEDOUT);
    assert_int_equal(cancels, 1);
    serve_good();
    /* nobody is bound to that endpoint */
    hand_message(&good, 2)->destination = dvk_service_endpoint(1, DVK_SERVICE_TTY);
    sequence = hand_publish(&good, 2, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &none, 20), -DVK_ETIMEDOUT);
    assert_int_equal(dvk_slot_look(&good.view.slot[0][2], sequence), DVK_LOOK_DONE);
    assert_int_equal(good.view.slot[0][2].reply.status, -DVK_ENOTBOUND);
    assert_int_equal(gone, 0);
}

/* Unbound: its unanswered requests are told as cancelled, and answering them does nothing. */
static void test_unbind(void **state) {
    (void)state;
    struct dvk_request *req, *none;
    (void)hand_message(&bad, 0);
    uint32_t first = hand_publish(&bad, 0, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    memcpy(dvk_channel_buffer(&bad.view, 0, 0, 0), "x", 1);
    (void)hand_message(&bad, 1);
    uint32_t second = hand_publish(&bad, 1, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_guest_unbind(dvk, bad.endpoint, false), 0);
    assert_int_equal(dvk_guest_unbind(dvk, bad.endpoint, false), -DVK_ENOTBOUND);
    assert_int_equal(*(const char *)req->data, 'x'); /* still mapped */
    assert_int_equal(dvk_receive(dvk, &none, 20), -DVK_ETIMEDOUT);
    assert_int_equal(cancels, 1); /* which answered it */
    assert_int_equal(dvk_slot_look(&bad.view.slot[0][0], first), DVK_LOOK_DEAD);
    assert_int_equal(dvk_slot_look(&bad.view.slot[0][1], second), DVK_LOOK_DEAD);
    assert_int_equal(gone, 0); /* we did it ourselves */
    serve_good();
}

static void test_bad_index(void **state) {
    (void)state;
    dvk_ring_append(&bad.view.header->ring[0], bad.view.slots[0], 128);
    hand_ring(&bad);
    assert_closed();
}
static void test_bad_head(void **state) {
    (void)state;
    bad.view.header->ring[0].head = 100000;
    hand_ring(&bad);
    assert_closed();
}
static void test_not_waiting(void **state) {
    (void)state;
    dvk_ring_append(&bad.view.header->ring[0], bad.view.slots[0], 5);
    hand_ring(&bad);
    assert_closed();
}
static void test_twice(void **state) {
    (void)state;
    (void)hand_message(&bad, 5);
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    struct dvk_request *req;
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    dvk_ring_append(&bad.view.header->ring[0], bad.view.slots[0], 5);
    hand_ring(&bad);
    assert_closed();
    assert_int_equal(cancels, 1);
}
static void test_forged_source(void **state) {
    (void)state;
    hand_message(&bad, 5)->source = good.endpoint;
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    /* it is left alone for a while, since dvkd might tell of it yet */
    serve_good();
    assert_int_equal(gone, 0);
    assert_closed();
}
static void test_bad_length(void **state) {
    (void)state;
    hand_message(&bad, 5)->data_len = DVK_DATA_MAX + 1;
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    assert_closed();
}
/* A guest's messages are never longer than a buffer, whatever it says of a run of slots. */
static void test_bad_span(void **state) {
    (void)state;
    hand_message(&bad, 0)->data_len = 2 * DVK_DATA_MAX;
    (void)hand_publish(&bad, 0, DVK_SLOT_SENDREC | DVK_SLOT_SPAN_UNIT);
    assert_closed();
}

static void test_bad_kind(void **state) {
    (void)state;
    (void)hand_message(&bad, 5);
    (void)hand_publish(&bad, 5, 3);
    assert_closed();
}
static void test_missing_fds(void **state) {
    (void)state;
    struct dvk_message *m = hand_message(&bad, 5);
    m->flags = DVK_MSG_FDS;
    m->fds = 2;
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    assert_closed();
}
static void test_too_many_fds(void **state) {
    (void)state;
    struct dvk_message *m = hand_message(&bad, 5);
    m->flags = DVK_MSG_FDS;
    m->fds = 33;
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    assert_closed();
}
static void test_bad_fd_packet(void **state) {
    (void)state;
    struct dvk_message *m = hand_message(&bad, 5);
    m->flags = DVK_MSG_FDS;
    m->fds = 1;
    assert_int_equal(send(bad.socket, "garbage", 7, 0), 7);
    (void)hand_publish(&bad, 5, DVK_SLOT_SENDREC);
    assert_closed();
}
static void test_back_garbage(void **state) {
    (void)state;
    /* our own side's slots: nothing of ours is there, so nothing may happen */
    memset(bad.view.slot[1], 0xff, DVK_GUEST_BACK_SLOTS * sizeof(struct dvk_slot));
    memset(&bad.view.header->ring[1], 0xff, sizeof(struct dvk_ring));
    hand_ring(&bad);
    serve_good();
    /* geometry is private to us */
    bad.view.header->slots[0] = bad.view.header->slots[1] = 0xffffffff;
    bad.view.header->data_bytes = 0xffffffff;
    bad.view.header->doorbell_bit[1] = 0xffffffff;
    struct dvk_request *req;
    (void)hand_message(&bad, 127);
    uint32_t sequence = hand_publish(&bad, 127, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 2000), 0); /* found by the periodic scan: its bit was wrong */
    dvk_reply_status(dvk, req, 5);
    assert_int_equal(dvk_slot_look(&bad.view.slot[0][127], sequence), DVK_LOOK_DONE);
    /* also when dvkd declares such a channel dead */
    assert_int_equal(dvk_guest_unbind(dvk, bad.endpoint, false), 0);
    dvk_channel_mark_dead(bad.memfd);
    serve_good();
}

/* A peer clears the others' hints, and the sleeping flag, all the time: requests are only late. */
static bool spoil_stop;
static void *spoil(void *context) {
    (void)context;
    while (!__atomic_load_n(&spoil_stop, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < sizeof bell->pending / sizeof *bell->pending; i++)
            __atomic_store_n(&bell->pending[i], 0, __ATOMIC_RELAXED);
        for (size_t i = 0; i < sizeof bell->summary / sizeof *bell->summary; i++)
            __atomic_store_n(&bell->summary[i], 0, __ATOMIC_RELAXED);
        __atomic_store_n(&bell->sleeping, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&bell->word, 7, __ATOMIC_RELAXED);
        usleep(100);
    }
    return NULL;
}
static void test_cleared_hints(void **state) {
    (void)state;
    pthread_t thread;
    spoil_stop = false;
    assert_int_equal(pthread_create(&thread, NULL, spoil, NULL), 0);
    for (int i = 0; i < 10; i++)
        serve_good();
    __atomic_store_n(&spoil_stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    /* all bits set, with nothing behind them */
    memset(bell->pending, 0xff, sizeof bell->pending);
    memset(bell->summary, 0xff, sizeof bell->summary);
    serve_good();
}

/* A reply that would be read by a waiter goes to the right sequence only. */
static void test_scribbled_state(void **state) {
    (void)state;
    struct dvk_request *req;
    (void)hand_message(&bad, 7);
    (void)hand_publish(&bad, 7, DVK_SLOT_SENDREC);
    assert_int_equal(dvk_receive(dvk, &req, 1000), 0);
    bad.view.slot[0][7].state = DVK_STATE(DVK_SLOT_WAITING, 12345);
    dvk_reply_status(dvk, req, 1);
    assert_int_equal(bad.view.slot[0][7].state, DVK_STATE(DVK_SLOT_WAITING, 12345));
    serve_good();
}

/* Random bytes into everything a peer can write, many times: we survive, and the other guest is served. */
static void test_random(void **state) {
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 150; round++) {
        for (int n = 0; n < 40; n++) {
            uint32_t slot = (uint32_t)rand_r(&seed) % 128;
            struct dvk_message *m = hand_message(&bad, slot);
            m->data_len = (uint32_t)rand_r(&seed) % (DVK_DATA_MAX + (rand_r(&seed) % 50 == 0 ? 999 : 1));
            m->destination = rand_r(&seed) % 4 ? m->destination : (uint64_t)rand_r(&seed);
            m->notify = rand_r(&seed) % 8 ? 0 : 1;
            dvk_slot_publish(&bad.view, 0, slot, (uint32_t)rand_r(&seed) % 6, (uint32_t)rand_r(&seed));
            if (rand_r(&seed) % 5 == 0)
                bad.view.slot[0][slot].state = (uint32_t)rand_r(&seed);
            if (rand_r(&seed) % 3 == 0)
                (void)dvk_slot_cancel(&bad.view, 0, (uint32_t)rand_r(&seed) % 128);
            if (rand_r(&seed) % 200 == 0)
                bad.view.header->ring[0].head += (uint32_t)rand_r(&seed);
        }
        hand_ring(&bad);
        struct dvk_request *req;
        while (dvk_receive(dvk, &req, 0) == 0) {
            if (!req->wants_reply)
                dvk_release(dvk, req);
            else if (rand_r(&seed) % 2)
                dvk_reply_status(dvk, req, 0);
            /* else: for ever unanswered, until its guest goes */
        }
        if (gone) {
            gone = 0;
            assert_int_equal(dvk_guest_unbind(dvk, bad.endpoint, false), 0);
            hand_drop(&bad);
            hand_bind(&bad);
            serve_good();
        }
    }
    serve_good();
}

static void test_view_init(void **state) {
    (void)state;
    static uint8_t bytes[sizeof(struct dvk_channel_header) + 65536] __attribute__((aligned(4096)));
    struct dvk_channel_view view;
    struct dvk_channel_header *header = (struct dvk_channel_header *)bytes;
    unsigned seed = 5;
    for (int i = 0; i < 20000; i++) {
        header->magic = DVK_CHANNEL_MAGIC;
        header->version = DVK_CHANNEL_VERSION;
        header->slots[0] = 1u << (rand_r(&seed) % 12);
        header->slots[1] = 1u << (rand_r(&seed) % 12);
        header->data_bytes = DVK_PAGE * ((uint32_t)rand_r(&seed) % 5);
        ((uint32_t *)header)[rand_r(&seed) % 6] ^= (uint32_t)rand_r(&seed);
        if (dvk_channel_view_init(&view, bytes, sizeof bytes) == 0)
            assert_true(dvk_channel_size(view.slots, view.data_bytes) <= sizeof bytes);
    }
    assert_int_equal(dvk_channel_view_init(&view, bytes, 100), -1);
    const uint32_t odd[2] = {3, 4}, many[2] = {2048, 4}, right[2] = {4, 4};
    int fd = -1;
    assert_int_equal(dvk_channel_create(odd, 4096, &fd), -EINVAL);
    assert_int_equal(dvk_channel_create(many, 4096, &fd), -EINVAL);
    assert_int_equal(dvk_channel_create(right, 4097, &fd), -EINVAL);
    assert_int_equal(dvk_channel_create(right, 4096, &fd), 0);
    assert_true(ftruncate(fd, 100) < 0); /* sealed */
    assert_true(ftruncate(fd, 1 << 24) < 0);
    close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_guest),
        T(test_unbind),
        T(test_bad_index),
        T(test_bad_head),
        T(test_not_waiting),
        T(test_twice),
        T(test_forged_source),
        T(test_bad_length),
        T(test_bad_span),
        T(test_bad_kind),
        T(test_missing_fds),
        T(test_too_many_fds),
        T(test_bad_fd_packet),
        T(test_back_garbage),
        T(test_cleared_hints),
        T(test_scribbled_state),
        T(test_random),
        cmocka_unit_test(test_view_init),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
