/* SPDX-License-Identifier: Apache-2.0 */
/* libdvk between contexts of this process (an echo server in a thread) and of a forked one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#define DC 7u
#define SERVER dvk_service_endpoint(1, DVK_SERVICE_PM)

/* What the server does with a request: its type. */
enum { ECHO = 1, HOLD, NEVER, FD_SIZE, GIVE_FD, QUIT, COUNT_NOTES, ERROR_22, SILENT_EXIT };

static struct fake_dvkd *fake;

struct server {
    struct dvk *dvk;
    pthread_t thread;
    int fd;
    unsigned cancels;
    unsigned sends;
    uint64_t notes, note_count;
    struct dvk_request *held;
    uint64_t last_echo; /* requests of one source come in order; their replies need not */
    bool disordered;
};

static int64_t ms_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void server_cancelled(void *context, struct dvk_request *req) {
    struct server *server = context;
    server->cancels++;
    assert_true(req->cancelled);
    if (server->held == req)
        server->held = NULL;
    dvk_reply_status(server->dvk, req, -EINTR);
}

static bool server_one(struct server *server, struct dvk_request *req) {
    struct dvk *dvk = server->dvk;
    if (!req->wants_reply) {
        if (req->msg.notify) {
            server->notes |= req->msg.notify;
            server->note_count++;
        } else
            server->sends++;
        dvk_release(dvk, req);
        return true;
    }
    struct dvk_message reply = {.status = 0};
    memcpy(&reply.payload, &req->msg.payload, sizeof reply.payload);
    switch (req->msg.type) {
    case ECHO:
        if (req->msg.payload.words[0] < server->last_echo)
            __atomic_store_n(&server->disordered, true, __ATOMIC_RELAXED);
        server->last_echo = req->msg.payload.words[0];
        reply.data_len = req->msg.data_len;
        if (req->msg.data_len)
            memcpy(req->reply_data, req->data, req->msg.data_len);
        reply.status = (int32_t)req->msg.data_len;
        break;
    case HOLD: /* until cancelled */
        server->held = req;
        return true;
    case FD_SIZE: {
        char text[16] = {0};
        reply.status = req->fd_count ? (int32_t)pread(req->fds[0], text, sizeof text - 1, 0) : -EBADF;
        for (unsigned i = 0; i < req->fd_count; i++)
            close(req->fds[i]);
        break;
    }
    case GIVE_FD: {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], "gift", 4), 4);
        close(fds[1]);
        dvk_reply(dvk, req, &reply, fds, 1);
        close(fds[0]);
        return true;
    }
    case COUNT_NOTES:
        reply.payload.words[0] = server->notes;
        reply.payload.words[1] = server->note_count;
        reply.payload.words[2] = server->sends;
        reply.payload.words[3] = server->cancels;
        break;
    case ERROR_22:
        dvk_reply_status(dvk, req, -22);
        return true;
    case SILENT_EXIT:
        return false;
    case QUIT:
        dvk_reply_status(dvk, req, 0);
        return false;
    default:
        reply.status = -ENOSYS;
    }
    dvk_reply(dvk, req, &reply, NULL, 0);
    return true;
}

static void server_serve(struct server *server) {
    dvk_endpoint self;
    assert_int_equal(dvk_open_fd(server->fd, &server->dvk), 0);
    assert_int_equal(dvk_bind(server->dvk, DC, dvk_endpoint_slot(SERVER), &self), 0);
    dvk_on_cancel(server->dvk, server_cancelled, server);
}

static void server_loop(struct server *server) {
    struct dvk_request *req;
    for (;;) {
        int error = dvk_receive(server->dvk, &req, -1);
        if (error < 0)
            break;
        if (!server_one(server, req))
            break;
    }
    dvk_close(server->dvk);
}

static void *server_main(void *context) {
    server_loop(context);
    return NULL;
}

static struct server *server_start(void) {
    struct server *server = calloc(1, sizeof *server);
    server->fd = fake_client(fake, false, NULL);
    server_serve(server);
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
    return server;
}

static void server_stop(struct server *server) {
    dvk_wake(server->dvk);
    pthread_join(server->thread, NULL);
    free(server);
}

/* The server in a process of its own. */
static pid_t server_fork(void) {
    int fd = fake_client(fake, false, NULL);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct server server = {.fd = fd};
        close(ready[0]);
        /* only our own socket may keep a client alive */
        server_serve(&server);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        server_loop(&server);
        _exit(0);
    }
    close(fd);
    close(ready[1]);
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return pid;
}

static struct dvk *client_open(dvk_endpoint *self) {
    struct dvk *dvk;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, self), 0);
    return dvk;
}

static struct dvk_message request_of(uint32_t type, uint64_t word) {
    struct dvk_message m = {.destination = SERVER, .type = type};
    m.payload.words[0] = word;
    return m;
}

static uint64_t server_word(struct dvk *dvk, dvk_endpoint self, unsigned i) {
    struct dvk_message m = request_of(COUNT_NOTES, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    return m.payload.words[i];
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

static void test_round_trip(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    assert_int_equal(dvk_node(dvk), 1);
    for (uint64_t i = 0; i < 2000; i++) {
        struct dvk_message m = request_of(ECHO, i);
        assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
        assert_int_equal(m.status, 0);
        assert_int_equal(m.payload.words[0], i);
        assert_int_equal(dvk_endpoint_slot(m.source), dvk_endpoint_slot(SERVER));
        assert_true(dvk_endpoint_generation(m.source) != 0);
        assert_true(m.destination == self);
    }
    struct dvk_message m = request_of(ERROR_22, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    assert_int_equal(m.status, -22);
    assert_int_equal(fake_connect_count(fake), 1);
    dvk_close(dvk);
    server_stop(server);
}

static void test_data(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    static uint8_t out[DVK_DATA_MAX + 1], in[DVK_DATA_MAX];
    for (size_t len = 1; len <= DVK_DATA_MAX; len = len * 3 < DVK_DATA_MAX ? len * 3
                                                    : len == DVK_DATA_MAX  ? len + 1
                                                                           : DVK_DATA_MAX) {
        for (size_t i = 0; i < len; i++)
            out[i] = (uint8_t)(i * 31 + len);
        memset(in, 0, sizeof in);
        struct dvk_message m = request_of(ECHO, 0);
        size_t got = 0;
        assert_int_equal(dvk_sendrec(dvk, self, &m, out, len, in, sizeof in, &got, 2000), 0);
        assert_int_equal(got, len);
        assert_memory_equal(in, out, len);
    }
    struct dvk_message m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, out, DVK_DATA_MAX + 1, NULL, 0, NULL, 2000), -EMSGSIZE);
    /* a reply longer than the room for it: the length tells */
    size_t got = 0;
    in[10] = 77;
    m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, out, 100, in, 10, &got, 2000), 0);
    assert_int_equal(got, 100);
    assert_int_equal(in[10], 77);
    dvk_close(dvk);
    server_stop(server);
}

static void test_errors(void **state) {
    (void)state;
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct dvk_message m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENOTBOUND);
    assert_int_equal(dvk_sendrec(dvk, self + 1, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENOTBOUND);
    m.destination = dvk_service_endpoint(2, DVK_SERVICE_PM); /* no proxy here */
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENODEUNREACH);
    m.destination = self;
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_EDEADLOCK);
    m.destination = DVK_NONE;
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -EINVAL);
    dvk_endpoint other;
    assert_int_equal(dvk_bind(dvk, DC, dvk_endpoint_slot(self), &other), -DVK_ESLOTBUSY);
    struct dvk_request *req;
    assert_int_equal(dvk_receive(dvk, &req, 0), -DVK_ETIMEDOUT);
    assert_string_equal(dvk_strerror(-DVK_ENODEUNREACH), "node unreachable");
    assert_string_equal(dvk_strerror(-ENOENT), "No such file or directory");
    assert_non_null(dvk_strerror(-99999));
    assert_non_null(dvk_strerror(-2147483647 - 1));
    dvk_close(dvk);
    /* a later server is found */
    dvk = client_open(&self);
    m = request_of(ECHO, 3);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENOTBOUND);
    struct server *server = server_start();
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    dvk_close(dvk);
    server_stop(server);
}

static void test_timeout(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    for (int i = 0; i < 3; i++) {
        struct dvk_message m = request_of(HOLD, 0);
        int64_t start = ms_now();
        assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 30), -DVK_ETIMEDOUT);
        int64_t took = ms_now() - start;
        assert_true(took >= 29 && took < 1000);
    }
    /* the server was told to stop each */
    for (int i = 0; i < 100 && server_word(dvk, self, 3) < 3; i++)
        usleep(1000);
    assert_int_equal(server_word(dvk, self, 3), 3);
    /* receive's own */
    struct dvk_request *req;
    int64_t start = ms_now();
    assert_int_equal(dvk_receive(dvk, &req, 40), -DVK_ETIMEDOUT);
    assert_true(ms_now() - start >= 39);
    /* while connecting */
    dvk_close(dvk);
    dvk = client_open(&self);
    fake_connect_delay(fake, 200);
    struct dvk_message m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 20), -DVK_ETIMEDOUT);
    fake_connect_delay(fake, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    dvk_close(dvk);
    server_stop(server);
}

static void test_send_and_notify(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct dvk_message m = request_of(99, 0);
    assert_int_equal(dvk_send(dvk, self, &m, NULL, 0, 2000), 0);
    assert_int_equal(dvk_send(dvk, self, &m, "abc", 3, 2000), 0);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(dvk_notify(dvk, self, SERVER, 1ull << i), 0);
    /* the rest is sent when the first has been taken, which is found by receiving */
    struct dvk_request *req;
    for (int i = 0; i < 100 && server_word(dvk, self, 0) != ~0ull; i++)
        assert_int_equal(dvk_receive(dvk, &req, 5), -DVK_ETIMEDOUT);
    assert_true(server_word(dvk, self, 0) == ~0ull);
    assert_true(server_word(dvk, self, 1) <= 64);
    assert_int_equal(server_word(dvk, self, 2), 2);
    dvk_close(dvk);
    server_stop(server);
}

/* Bits given while nobody receives come as few messages, before requests that were sent earlier. */
static void test_notify_first(void **state) {
    (void)state;
    dvk_endpoint a_self, b_self;
    struct dvk *a = client_open(&a_self), *b = client_open(&b_self);
    struct dvk_request *req;
    struct dvk_message m = {.destination = b_self, .type = 5};
    uint64_t call;
    void (*nothing)(void *, int, const struct dvk_message *, const void *, size_t, const int *, unsigned);
    nothing = (dvk_done *)(void *)0;
    assert_int_equal(dvk_call(a, a_self, &m, NULL, 0, NULL, 0, nothing, NULL, &call), -EINVAL);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(dvk_notify(a, a_self, b_self, 1u << i), 0);
        assert_int_equal(dvk_receive(a, &req, 2), -DVK_ETIMEDOUT);
    }
    uint64_t bits = 0;
    unsigned count = 0;
    while (bits != 0x3ff && count < 10) {
        assert_int_equal(dvk_receive(a, &req, 0), -DVK_ETIMEDOUT);
        if (dvk_receive(b, &req, 20) == 0) {
            assert_true(req->msg.source == a_self);
            assert_false(req->wants_reply);
            bits |= req->msg.notify;
            count++;
            dvk_release(b, req);
        }
    }
    assert_int_equal(bits, 0x3ff);
    assert_true(count <= 3);
    dvk_close(a);
    dvk_close(b);
}

/* ---- dvk_call ---- */

struct result {
    unsigned count;
    int status;
    uint64_t words[4096];
    size_t data_len;
    uint8_t first;
    int fd;
    int32_t reply_status;
};
static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                 const int *fds, unsigned fd_count) {
    struct result *result = context;
    result->status = status;
    result->words[result->count++ % 4096] = reply->payload.words[0];
    result->data_len = data_len;
    result->first = data_len ? *(const uint8_t *)data : 0;
    result->reply_status = reply->status;
    if (fd_count) {
        result->fd = fds[0];
        for (unsigned i = 1; i < fd_count; i++)
            close(fds[i]);
    }
}
static void pump(struct dvk *dvk, struct result *result, unsigned count) {
    int64_t end = ms_now() + 3000;
    struct dvk_request *req;
    while (result->count < count && ms_now() < end)
        (void)dvk_receive(dvk, &req, 1);
    assert_int_equal(result->count, count);
}

static void test_call_order(void **state) {
    (void)state;
    fake_slots(fake, 8); /* far fewer than calls */
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct result *result = calloc(1, sizeof *result);
    for (uint64_t i = 0; i < 1000; i++) {
        struct dvk_message m = request_of(ECHO, i);
        uint8_t byte = (uint8_t)i;
        assert_int_equal(dvk_call(dvk, self, &m, &byte, 1, NULL, 0, done, result, NULL), 0);
    }
    /* one that is waited for, although all slots are taken */
    struct dvk_message m = request_of(ECHO, 4711);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    pump(dvk, result, 1000);
    assert_int_equal(result->status, 0);
    assert_int_equal(result->data_len, 1);
    assert_false(__atomic_load_n(&server->disordered, __ATOMIC_RELAXED));
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 1000; i++)
        sum += result->words[i];
    assert_int_equal(sum, 999 * 1000 / 2);
    free(result);
    dvk_close(dvk);
    server_stop(server);
}

static unsigned open_fds(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_fds(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct result *result = calloc(1, sizeof *result);
    char name[] = "/tmp/dvk-test-XXXXXX";
    for (int i = 0; i < 50; i++) {
        strcpy(name, "/tmp/dvk-test-XXXXXX");
        int fd = mkstemp(name);
        assert_true(fd >= 0);
        unlink(name);
        assert_int_equal(write(fd, "hello", 5), 5);
        struct dvk_message m = request_of(FD_SIZE, (uint64_t)i);
        assert_int_equal(dvk_call(dvk, self, &m, NULL, 0, &fd, 1, done, result, NULL), 0);
    }
    pump(dvk, result, 50);
    assert_int_equal(result->reply_status, 5);
    struct dvk_message m = request_of(GIVE_FD, 0);
    result->fd = -1;
    assert_int_equal(dvk_call(dvk, self, &m, NULL, 0, NULL, 0, done, result, NULL), 0);
    pump(dvk, result, 51);
    char text[8] = {0};
    assert_true(result->fd >= 0);
    assert_int_equal(read(result->fd, text, 8), 4);
    assert_string_equal(text, "gift");
    close(result->fd);
    /* descriptors that nobody asked for are closed */
    m = request_of(GIVE_FD, 0);
    unsigned before = open_fds();
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    (void)server_word(dvk, self, 0); /* the server has closed its copy */
    assert_int_equal(open_fds(), before);
    free(result);
    dvk_close(dvk);
    server_stop(server);
}

static void test_cancel(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct result *result = calloc(1, sizeof *result);
    for (unsigned i = 0; i < 600; i++) {
        struct dvk_message m = request_of(HOLD, i);
        uint64_t call;
        assert_int_equal(dvk_call(dvk, self, &m, NULL, 0, NULL, 0, done, result, &call), 0);
        if (i % 2) /* let the server take it first */
            assert_int_equal(server_word(dvk, self, 2), 0);
        assert_int_equal(dvk_cancel(dvk, call), 0);
        assert_int_equal(dvk_cancel(dvk, call), 0);
        pump(dvk, result, i + 1);
        assert_true(result->status == -DVK_EINTERRUPTED || (result->status == 0 && result->reply_status == -EINTR));
        if (i % 2)
            assert_int_equal(result->status, 0);
        assert_int_equal(dvk_cancel(dvk, call), -ESRCH);
    }
    free(result);
    dvk_close(dvk);
    server_stop(server);
}

static unsigned gone_count;
static dvk_endpoint gone_endpoint;
static unsigned up_count, down_count;
static struct dvk *control_dvk;
static void on_event(void *context, const struct dvk_event *event) {
    (void)context;
    if (event->type == DVK_EVENT_ENDPOINT_GONE) {
        gone_count++;
        gone_endpoint = event->endpoint;
    } else if (event->type == DVK_EVENT_NODE_UP && event->node == 3)
        up_count++;
    else if (event->type == DVK_EVENT_NODE_DOWN && event->node == 3)
        down_count++;
    else if (event->type == DVK_EVENT_CONTROL) {
        assert_int_equal(event->id, 55);
        assert_string_equal(event->text, "{\"op\":\"ps\"}");
        assert_int_equal(dvk_control_reply(control_dvk, event->id, "{}"), 0);
    }
}

static void test_process_death(void **state) {
    (void)state;
    pid_t pid = server_fork();
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    gone_count = 0;
    dvk_on_event(dvk, on_event, NULL);
    struct result *result = calloc(1, sizeof *result);
    for (uint64_t i = 0; i < 200; i++) {
        struct dvk_message m = request_of(ECHO, i);
        assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
        assert_int_equal(m.payload.words[0], i);
    }
    for (int i = 0; i < 5; i++) {
        struct dvk_message m = request_of(HOLD, 0);
        assert_int_equal(dvk_call(dvk, self, &m, NULL, 0, NULL, 0, done, result, NULL), 0);
    }
    /* it ends without an answer, while we wait for ever */
    struct dvk_message m = request_of(SILENT_EXIT, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, -1), -DVK_EDEADDST);
    waitpid(pid, NULL, 0);
    pump(dvk, result, 5);
    assert_int_equal(result->status, -DVK_EDEADDST);
    assert_int_equal(gone_count, 1);
    assert_int_equal(dvk_endpoint_slot(gone_endpoint), dvk_endpoint_slot(SERVER));
    m = request_of(ECHO, 1);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENOTBOUND);
    /* killed, and its successor found by the same address */
    for (int round = 0; round < 3; round++) {
        pid = server_fork();
        m = request_of(ECHO, 2);
        assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
        result->count = 0;
        m = request_of(HOLD, 0);
        assert_int_equal(dvk_call(dvk, self, &m, NULL, 0, NULL, 0, done, result, NULL), 0);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        pump(dvk, result, 1);
        assert_int_equal(result->status, -DVK_EDEADDST);
    }
    free(result);
    dvk_close(dvk);
}

/* The requester dies: the server is told, its answer goes nowhere. */
static void test_requester_death(void **state) {
    (void)state;
    struct server *server = server_start();
    dvk_endpoint self;
    int fd = fake_client(fake, false, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct dvk *dvk;
        if (dvk_open_fd(fd, &dvk) < 0 || dvk_bind(dvk, DC, DVK_SLOT_ANY, &self) < 0)
            _exit(1);
        struct dvk_message m = request_of(HOLD, 0);
        (void)dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 50);
        m = request_of(HOLD, 0);
        struct result result = {0};
        (void)dvk_call(dvk, self, &m, NULL, 0, NULL, 0, done, &result, NULL);
        m = request_of(ECHO, 0);
        (void)dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 500);
        raise(SIGKILL);
    }
    close(fd);
    waitpid(pid, NULL, 0);
    struct dvk *dvk = client_open(&self);
    for (int i = 0; i < 300 && server_word(dvk, self, 3) < 2; i++)
        usleep(1000);
    assert_int_equal(server_word(dvk, self, 3), 2);
    dvk_close(dvk);
    server_stop(server);
}

static void test_daemon_death(void **state) {
    (void)state;
    int number;
    struct dvk *dvk;
    dvk_endpoint self;
    assert_int_equal(dvk_open_fd(fake_client(fake, false, &number), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &self), 0);
    control_dvk = dvk;
    up_count = down_count = 0;
    dvk_on_event(dvk, on_event, NULL);
    fake_node(fake, number, 3, true, NULL);
    fake_node(fake, number, 3, false, NULL);
    fake_control(fake, number, 55, "{\"op\":\"ps\"}");
    struct dvk_request *req;
    for (int i = 0; i < 50 && !down_count; i++)
        assert_int_equal(dvk_receive(dvk, &req, 10), -DVK_ETIMEDOUT);
    assert_int_equal(up_count, 1);
    assert_int_equal(down_count, 1);
    (void)dvk_receive(dvk, &req, 1);
    char *text = fake_control_answer(fake);
    assert_non_null(text);
    assert_string_equal(text, "{}");
    free(text);
    assert_int_equal(dvk_control_send(dvk, "{\"event\":\"ready\"}"), 0);
    text = fake_control_answer(fake);
    assert_non_null(text);
    assert_string_equal(text, "{\"event\":\"ready\"}");
    free(text);
    fake_drop(fake, number);
    assert_int_equal(dvk_receive(dvk, &req, 2000), -DVK_ENODAEMON);
    struct dvk_message m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENODAEMON);
    dvk_close(dvk);
    assert_int_equal(dvk_open("/nonexistent/dvkd.sock", &dvk), -DVK_ENODAEMON);
}

/* ---- within one context ---- */

static void test_loopback(void **state) {
    (void)state;
    dvk_endpoint a, b;
    struct dvk *dvk = client_open(&a);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &b), 0);
    struct result *result = calloc(1, sizeof *result);
    struct dvk_message m = {.destination = b, .type = 9};
    m.payload.words[0] = 1;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(dvk_call(dvk, a, &m, "data", 4, &fds[0], 1, done, result, NULL), 0);
    m.payload.words[0] = 2;
    uint64_t call;
    assert_int_equal(dvk_call(dvk, a, &m, NULL, 0, NULL, 0, done, result, &call), 0);
    assert_int_equal(dvk_cancel(dvk, call), 0); /* before it is taken: never seen */
    assert_int_equal(dvk_notify(dvk, a, b, 1), 0);
    assert_int_equal(dvk_notify(dvk, a, b, 2), 0);
    struct dvk_request *req;
    assert_int_equal(dvk_receive(dvk, &req, 100), 0);
    assert_int_equal(req->msg.notify, 3); /* notifications first */
    dvk_release(dvk, req);
    assert_int_equal(result->count, 1);
    assert_int_equal(result->status, -DVK_EINTERRUPTED);
    assert_int_equal(dvk_receive(dvk, &req, 100), 0);
    assert_int_equal(req->msg.payload.words[0], 1);
    assert_true(req->msg.source == a && req->msg.destination == b);
    assert_int_equal(req->msg.data_len, 4);
    assert_memory_equal(req->data, "data", 4);
    assert_int_equal(req->fd_count, 1);
    assert_int_equal(req->fds[0], fds[0]);
    memcpy(req->reply_data, "reply", 5);
    struct dvk_message reply = {.status = 3, .data_len = 5};
    result->fd = -1;
    dvk_reply(dvk, req, &reply, &fds[1], 1);
    close(fds[0]);
    assert_int_equal(result->count, 1); /* not from within dvk_reply */
    assert_int_equal(dvk_receive(dvk, &req, 0), -DVK_ETIMEDOUT);
    assert_int_equal(result->count, 2);
    assert_int_equal(result->status, 0);
    assert_int_equal(result->reply_status, 3);
    assert_int_equal(result->data_len, 5);
    assert_int_equal(result->first, 'r');
    assert_true(result->fd >= 0 && result->fd != fds[1]);
    close(result->fd);
    close(fds[1]);
    assert_int_equal(dvk_receive(dvk, &req, 0), -DVK_ETIMEDOUT);
    /* what is unanswered when the context closes */
    assert_int_equal(dvk_call(dvk, a, &m, NULL, 0, NULL, 0, done, result, NULL), 0);
    assert_int_equal(dvk_call(dvk, a, &m, NULL, 0, NULL, 0, done, result, NULL), 0);
    assert_int_equal(dvk_receive(dvk, &req, 100), 0);
    dvk_close(dvk);
    assert_int_equal(result->count, 4);
    assert_int_equal(result->status, -DVK_EINTERRUPTED);
    free(result);
}

/* Two that wait for each other are told so. */
static void *deadlock_main(void *context) {
    struct server *server = context;
    struct dvk_request *req;
    assert_int_equal(dvk_receive(server->dvk, &req, 2000), 0);
    struct dvk_message m = {.destination = req->msg.source, .type = ECHO};
    dvk_endpoint self = req->msg.destination;
    int error = dvk_sendrec(server->dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000);
    dvk_reply_status(server->dvk, req, error);
    return NULL;
}
static void test_deadlock(void **state) {
    (void)state;
    struct server server = {.fd = fake_client(fake, false, NULL)};
    server_serve(&server);
    assert_int_equal(pthread_create(&server.thread, NULL, deadlock_main, &server), 0);
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    struct dvk_message m = request_of(ECHO, 0);
    assert_int_equal(dvk_sendrec(dvk, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    assert_int_equal(m.status, -DVK_EDEADLOCK);
    pthread_join(server.thread, NULL);
    dvk_close(server.dvk);
    dvk_close(dvk);
}

/* ---- fds, timers, wake ---- */

static unsigned ticks;
static void tick(void *context) {
    (void)context;
    ticks++;
}
static void readable(void *context, int fd, uint32_t events) {
    char c;
    assert_true(events & EPOLLIN);
    assert_int_equal(read(fd, &c, 1), 1);
    ++*(unsigned *)context;
}
static void *wake_main(void *context) {
    usleep(20000);
    dvk_wake(context);
    return NULL;
}

static void test_watch_timer_wake(void **state) {
    (void)state;
    dvk_endpoint self;
    struct dvk *dvk = client_open(&self);
    int fds[2];
    unsigned reads = 0;
    struct dvk_request *req;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(dvk_watch_fd(dvk, fds[0], EPOLLIN, readable, &reads), 0);
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(write(fds[1], "x", 1), 1);
        for (int j = 0; j < 100 && reads < i; j++)
            assert_int_equal(dvk_receive(dvk, &req, 5), -DVK_ETIMEDOUT);
        assert_int_equal(reads, i);
    }
    assert_int_equal(dvk_watch_fd(dvk, fds[0], 0, NULL, NULL), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(dvk_receive(dvk, &req, 20), -DVK_ETIMEDOUT);
    assert_int_equal(reads, 20);
    close(fds[0]);
    close(fds[1]);

    uint64_t id[20];
    ticks = 0;
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(dvk_timer(dvk, 5 + (i * 7) % 20, tick, NULL, &id[i]), 0);
    for (unsigned i = 0; i < 20; i += 2)
        dvk_timer_cancel(dvk, id[i]);
    assert_int_equal(dvk_receive(dvk, &req, 40), -DVK_ETIMEDOUT);
    assert_int_equal(ticks, 10);

    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_main, dvk), 0);
    int64_t start = ms_now();
    assert_int_equal(dvk_receive(dvk, &req, 5000), -DVK_EINTERRUPTED);
    assert_true(ms_now() - start < 2000);
    pthread_join(thread, NULL);
    dvk_close(dvk);
}

/* Several clients in their own processes at once: nothing is lost or mixed up. */
static void test_many_processes(void **state) {
    (void)state;
    enum { N = 4, ROUNDS = 3000 };
    struct server *server = server_start();
    pid_t pids[N];
    for (int p = 0; p < N; p++) {
        int fd = fake_client(fake, false, NULL);
        pids[p] = fork();
        if (pids[p] == 0) {
            struct dvk *dvk;
            dvk_endpoint self;
            if (dvk_open_fd(fd, &dvk) < 0 || dvk_bind(dvk, DC, DVK_SLOT_ANY, &self) < 0)
                _exit(1);
            for (uint64_t i = 0; i < ROUNDS; i++) {
                struct dvk_message m = request_of(ECHO, (uint64_t)p << 32 | i);
                uint64_t out = i * 77 + (uint64_t)p, in = 0;
                if (dvk_sendrec(dvk, self, &m, &out, sizeof out, &in, sizeof in, NULL, 5000) < 0 ||
                    m.payload.words[0] != ((uint64_t)p << 32 | i) || in != out)
                    _exit(2);
                if (i % 16 == 0 && dvk_notify(dvk, self, SERVER, 1ull << p) < 0)
                    _exit(3);
            }
            _exit(0);
        }
        close(fd);
    }
    for (int p = 0; p < N; p++) {
        int status;
        waitpid(pids[p], &status, 0);
        assert_int_equal(status, 0);
    }
    server_stop(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send_and_notify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_notify_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_process_death, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requester_death, setup, teardown),
        cmocka_unit_test_setup_teardown(test_daemon_death, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loopback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadlock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_timer_wake, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_processes, setup, teardown),
    };
    return cmocka_run_group_tests_name("dvk", tests, NULL, NULL);
}
