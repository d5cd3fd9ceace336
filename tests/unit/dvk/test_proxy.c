/* SPDX-License-Identifier: Apache-2.0 */
/* Two proxies, each with a dvkd that the test plays, over a TCP forwarder that can cut the connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/pki.h"
#include "common/cleanup.h"
#include "fake_dvkd.h"

#include <arpa/inet.h>
#include <dvk/loan.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define DC 5u
#define SERVER dvk_service_endpoint(1, DVK_SERVICE_FS)
#define CLIENT dvk_service_endpoint(2, DVK_SERVICE_FS)
enum { ECHO = 1, HOLD, STATE, LONG, SHORT_ONLY };
enum { IDS = 100000 };

static const char *proxy_path;
static char certificates[64]; /* directory; empty: links are clear */
static struct fake_dvkd *fakes[3];
static pid_t proxies[3];
static int proxy_numbers[3];
static uint16_t ports[3];

static int64_t ms_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint16_t port_free(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* ---- forwarder: node 2's proxy reaches node 1's through it ---- */

static struct {
    pthread_t thread;
    int listen_fd, a, b;
    uint16_t port;
    bool stop, refuse;
    unsigned cut_after; /* bytes, about; 0: never */
    unsigned cuts;
} forwarder;

static void pair_close(void) {
    if (forwarder.a >= 0)
        close(forwarder.a);
    if (forwarder.b >= 0)
        close(forwarder.b);
    forwarder.a = forwarder.b = -1;
}

/* Returns bytes moved, -1 at the end. */
static ssize_t forward(int from, int to, unsigned limit) {
    char bytes[65536];
    size_t want = limit && limit < sizeof bytes ? limit : sizeof bytes;
    ssize_t n = recv(from, bytes, want, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    for (ssize_t at = 0; at < n;) {
        ssize_t w = send(to, bytes + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (w <= 0)
            return -1;
        at += w;
    }
    return n;
}

static void *forwarder_main(void *context) {
    (void)context;
    unsigned left = 0;
    while (!__atomic_load_n(&forwarder.stop, __ATOMIC_RELAXED)) {
        struct pollfd fds[3] = {{forwarder.listen_fd, POLLIN, 0}, {forwarder.a, POLLIN, 0}, {forwarder.b, POLLIN, 0}};
        if (poll(fds, 3, 20) < 0)
            continue;
        bool refuse = __atomic_load_n(&forwarder.refuse, __ATOMIC_RELAXED);
        if (refuse)
            pair_close();
        if (fds[0].revents) {
            int fd = accept4(forwarder.listen_fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0 && refuse)
                close(fd);
            else if (fd >= 0) {
                pair_close();
                forwarder.a = fd;
                forwarder.b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                struct sockaddr_in to = {.sin_family = AF_INET,
                                         .sin_port = htons(__atomic_load_n(&ports[1], __ATOMIC_RELAXED)),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
                if (connect(forwarder.b, (struct sockaddr *)&to, sizeof to) < 0)
                    pair_close();
                unsigned after = __atomic_load_n(&forwarder.cut_after, __ATOMIC_RELAXED);
                left = after ? after / 2 + (unsigned)rand() % after : 0;
            }
            continue;
        }
        for (int i = 1; i < 3 && forwarder.a >= 0; i++) {
            if (!fds[i].revents)
                continue;
            ssize_t n = forward(fds[i].fd, fds[i].fd == forwarder.a ? forwarder.b : forwarder.a, left);
            bool limited = __atomic_load_n(&forwarder.cut_after, __ATOMIC_RELAXED) != 0;
            if (n > 0 && limited && left) {
                left = (unsigned)n >= left ? 0 : left - (unsigned)n;
                if (left == 0) {
                    n = -1;
                    __atomic_fetch_add(&forwarder.cuts, 1u, __ATOMIC_RELAXED);
                }
            }
            if (n < 0)
                pair_close();
        }
    }
    pair_close();
    close(forwarder.listen_fd);
    return NULL;
}

static void forwarder_start(void) {
    memset(&forwarder, 0, sizeof forwarder);
    forwarder.a = forwarder.b = -1;
    forwarder.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(forwarder.listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(forwarder.listen_fd, 8), 0);
    assert_int_equal(getsockname(forwarder.listen_fd, (struct sockaddr *)&a, &len), 0);
    forwarder.port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&forwarder.thread, NULL, forwarder_main, NULL), 0);
}

/* ---- proxies ---- */

static void proxy_start(uint32_t node) {
    int fd = fake_client(fakes[node], true, &proxy_numbers[node]);
    char number[16], listen_on[64];
    snprintf(number, sizeof number, "%u", node);
    snprintf(listen_on, sizeof listen_on, "127.0.0.1:%u", ports[node]);
    pid_t parent = getpid();
    proxies[node] = fork();
    if (proxies[node] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (fd != 3) {
            dup2(fd, 3);
            close(fd);
        }
        fcntl(3, F_SETFD, 0);
        setenv("DVS_LOG", "error", 0);
        char directory[96];
        snprintf(directory, sizeof directory, "%s/%s", certificates, number);
        if (*certificates)
            execl(proxy_path, "dvs-proxy", "--node", number, "--listen", listen_on, "--name", number, "--tls",
                  directory, (char *)NULL);
        execl(proxy_path, "dvs-proxy", "--node", number, "--listen", listen_on, "--name", number, "--clear",
              (char *)NULL);
        _exit(127);
    }
    close(fd);
}

static void proxy_kill(uint32_t node) {
    kill(proxies[node], SIGKILL);
    waitpid(proxies[node], NULL, 0);
}

static void nodes_up(uint32_t node) {
    char address[64];
    /* 2 connects to 1 through the forwarder; 1 only accepts */
    snprintf(address, sizeof address, "127.0.0.1:%u", node == 2 ? forwarder.port : ports[2]);
    fake_node(fakes[node], proxy_numbers[node], 3 - node, true, address);
}

/* ---- a server on node 1 ---- */

/* Atomic what the main thread reads: what comes before it is told by messages through other processes. */
static struct {
    pthread_t thread;
    struct dvk *dvk;
    struct dvk_request *held[64];
    unsigned held_count, cancels, sends;
    uint64_t notes;
    uint32_t last_source_node;
    bool last_local;
    uint8_t seen[IDS];
    uint64_t last;
    bool disordered;
} server;

static void server_cancelled(void *context, struct dvk_request *req) {
    (void)context;
    server.cancels++;
    dvk_reply_status(server.dvk, req, -EINTR);
}

static void *server_main(void *context) {
    (void)context;
    for (;;) {
        struct dvk_request *req;
        if (dvk_receive(server.dvk, &req, -1) < 0)
            break;
        __atomic_store_n(&server.last_source_node, req->source_node, __ATOMIC_RELAXED);
        __atomic_store_n(&server.last_local, req->local, __ATOMIC_RELAXED);
        if (!req->wants_reply) {
            server.notes |= req->msg.notify;
            server.sends += req->msg.notify == 0;
            dvk_release(server.dvk, req);
            continue;
        }
        struct dvk_message reply = {.status = 0, .payload = req->msg.payload};
        if (req->msg.type == ECHO) {
            uint64_t id = req->msg.payload.words[0];
            if (id < IDS)
                __atomic_fetch_add(&server.seen[id], 1, __ATOMIC_RELAXED);
            if (id >= 1000 && id < server.last)
                __atomic_store_n(&server.disordered, true, __ATOMIC_RELAXED);
            server.last = id;
            reply.data_len = req->msg.data_len;
            memcpy(req->reply_data, req->data, req->msg.data_len);
        } else if (req->msg.type == LONG) {
            reply.data_len = (uint32_t)req->msg.payload.words[0];
            memset(req->reply_data, 0x5a, reply.data_len <= req->reply_cap ? reply.data_len : 0);
        } else if (req->msg.type == SHORT_ONLY) {
            reply.status = dvk_accept(server.dvk, DVK_DATA_MAX);
        } else if (req->msg.type == HOLD) {
            continue;
        } else if (req->msg.type == STATE) {
            reply.payload.words[0] = server.cancels;
            reply.payload.words[1] = server.sends;
            reply.payload.words[2] = server.notes;
        }
        dvk_reply(server.dvk, req, &reply, NULL, 0);
    }
    return NULL;
}

static struct dvk *client;
static dvk_endpoint self;

static int setup(void **state) {
    (void)state;
    memset(&server, 0, sizeof server);
    forwarder_start();
    for (uint32_t node = 1; node <= 2; node++) {
        fakes[node] = fake_start(node);
        __atomic_store_n(&ports[node], port_free(), __ATOMIC_RELAXED);
        proxy_start(node);
    }
    nodes_up(1);
    nodes_up(2);
    dvk_endpoint endpoint;
    assert_int_equal(dvk_open_fd(fake_client(fakes[1], false, NULL), &server.dvk), 0);
    assert_int_equal(dvk_bind(server.dvk, DC, dvk_endpoint_slot(SERVER), &endpoint), 0);
    assert_int_equal(dvk_accept(server.dvk, DVK_LOAN_MAX), 0);
    dvk_on_cancel(server.dvk, server_cancelled, NULL);
    assert_int_equal(pthread_create(&server.thread, NULL, server_main, NULL), 0);
    assert_int_equal(dvk_open_fd(fake_client(fakes[2], false, NULL), &client), 0);
    assert_int_equal(dvk_bind(client, DC, dvk_endpoint_slot(CLIENT), &self), 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    dvk_close(client);
    dvk_wake(server.dvk);
    pthread_join(server.thread, NULL);
    dvk_close(server.dvk);
    for (uint32_t node = 1; node <= 2; node++) {
        proxy_kill(node);
        fake_stop(fakes[node]);
    }
    __atomic_store_n(&forwarder.stop, true, __ATOMIC_RELAXED);
    pthread_join(forwarder.thread, NULL);
    return 0;
}

static struct dvk_message request_of(uint32_t type, uint64_t word) {
    struct dvk_message m = {.destination = SERVER, .type = type};
    m.payload.words[0] = word;
    return m;
}

/* The proxies have heard of each other only some time after nodes_up. */
static void wait_for_peer(void) {
    int64_t end = ms_now() + 5000;
    int error = -1;
    while (error < 0 && ms_now() < end) {
        struct dvk_message m = request_of(STATE, 0);
        error = dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 1000);
        if (error < 0)
            usleep(1000);
    }
    assert_int_equal(error, 0);
}

struct result {
    unsigned count;
    int status;
    int32_t reply_status;
    unsigned failures;
};
static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                 const int *fds, unsigned fd_count) {
    (void)data, (void)data_len, (void)fds;
    struct result *result = context;
    assert_int_equal(fd_count, 0);
    result->count++;
    result->status = status;
    result->reply_status = reply->status;
    if (status < 0)
        result->failures++;
}
static void pump(struct result *result, unsigned count, int64_t limit_ms) {
    int64_t end = ms_now() + limit_ms;
    struct dvk_request *req;
    while (result->count < count && ms_now() < end)
        (void)dvk_receive(client, &req, 1);
    assert_int_equal(result->count, count);
}

static void test_round_trip(void **state) {
    (void)state;
    wait_for_peer();
    for (uint64_t i = 0; i < 500; i++) {
        struct dvk_message m = request_of(ECHO, i);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
        assert_int_equal(m.payload.words[0], i);
        assert_int_equal(dvk_endpoint_slot(m.source), dvk_endpoint_slot(SERVER));
    }
    assert_int_equal(__atomic_load_n(&server.last_source_node, __ATOMIC_RELAXED), 2);
    assert_false(__atomic_load_n(&server.last_local, __ATOMIC_RELAXED));
    static uint8_t out[DVK_DATA_MAX], in[DVK_DATA_MAX];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t len = 1; len < sizeof out * 3; len *= 3) {
        size_t n = len < sizeof out ? len : sizeof out, got = 0;
        struct dvk_message m = request_of(ECHO, 1);
        memset(in, 0, sizeof in);
        assert_int_equal(dvk_sendrec(client, self, &m, out, n, in, sizeof in, &got, 2000), 0);
        assert_int_equal(got, n);
        assert_memory_equal(in, out, n);
    }
    /* a destination that nobody is bound to there, and a node that is none */
    struct dvk_message m = {.destination = dvk_service_endpoint(1, DVK_SERVICE_TTY)};
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENOTBOUND);
    m.destination = dvk_service_endpoint(9, DVK_SERVICE_TTY);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENODEUNREACH);
    /* descriptors do not leave the node */
    struct result result = {0};
    int fd = dup(0);
    m = request_of(ECHO, 1);
    assert_int_equal(dvk_call(client, self, &m, NULL, 0, &fd, 1, done, &result, NULL), -DVK_ENOTALLOWED);
}

/* Long messages and loans go to other nodes as to this one. */
static void test_long(void **state) {
    (void)state;
    static uint8_t out[DVK_LOAN_MAX], in[DVK_LOAN_MAX];
    wait_for_peer();
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + i / 256 + i / 65536);
    const size_t lengths[] = {DVK_DATA_MAX + 1, 262144 - 256, 300000, 1 << 20, DVK_LOAN_MAX};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (int lend = 0; lend < 2; lend++) {
            size_t n = lengths[k], got = 0;
            void *data = out;
            if (lend) {
                assert_int_equal(dvk_loan_get(client, self, SERVER, n, 2000, &data), 0);
                memcpy(data, out, n);
            }
            struct dvk_message m = request_of(ECHO, 1);
            memset(in, 0, n);
            assert_int_equal(dvk_sendrec(client, self, &m, data, n, in, sizeof in, &got, 5000), 0);
            assert_int_equal(got, n);
            assert_memory_equal(in, out, n);
        }
    /* a short request with a loan behind it */
    void *data;
    size_t got;
    assert_int_equal(dvk_loan_get(client, self, SERVER, 1 << 20, 2000, &data), 0);
    struct dvk_message m = request_of(LONG, 1 << 20);
    assert_int_equal(dvk_sendrec(client, self, &m, data, 1, in, sizeof in, &got, 5000), 0);
    assert_int_equal(got, 1 << 20);
    assert_int_equal(in[(1 << 20) - 1], 0x5a);
    /* short ones go on */
    for (uint64_t i = 0; i < 100; i++) {
        m = request_of(ECHO, i);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    }
    /* whoever did not say that it accepts them is not troubled */
    m = request_of(SHORT_ONLY, 0);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    m = request_of(ECHO, 1);
    assert_int_equal(dvk_sendrec(client, self, &m, out, DVK_DATA_MAX + 1, NULL, 0, NULL, 2000), -EMSGSIZE);
}

static void test_send_notify_cancel(void **state) {
    (void)state;
    wait_for_peer();
    struct dvk_message m = request_of(9, 0);
    assert_int_equal(dvk_send(client, self, &m, "abc", 3, 2000), 0);
    assert_int_equal(dvk_notify(client, self, SERVER, 5), 0);
    struct result result = {0};
    uint64_t call;
    m = request_of(HOLD, 0);
    assert_int_equal(dvk_call(client, self, &m, NULL, 0, NULL, 0, done, &result, &call), 0);
    m = request_of(STATE, 0);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    assert_int_equal(m.payload.words[1], 1);
    assert_int_equal(m.payload.words[2], 5);
    assert_int_equal(dvk_cancel(client, call), 0);
    pump(&result, 1, 2000);
    assert_int_equal(result.status, 0);
    assert_int_equal(result.reply_status, -EINTR);
    /* a timeout cancels there, too */
    m = request_of(HOLD, 0);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 30), -DVK_ETIMEDOUT);
    int64_t end = ms_now() + 2000;
    do {
        m = request_of(STATE, 0);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    } while (m.payload.words[0] < 2 && ms_now() < end);
    assert_int_equal(m.payload.words[0], 2);
}

/* The connection is cut again and again: nothing is lost, nothing done twice, order is kept. */
static void test_flapping(void **state) {
    (void)state;
    enum { N = 3000 };
    wait_for_peer();
    __atomic_store_n(&forwarder.cut_after, 60000u, __ATOMIC_RELAXED);
    __atomic_store_n(&forwarder.refuse, true, __ATOMIC_RELAXED);
    usleep(50000);
    __atomic_store_n(&forwarder.refuse, false, __ATOMIC_RELAXED);
    struct result result = {0};
    static uint8_t data[1000];
    for (uint64_t i = 0; i < N; i++) {
        struct dvk_message m = request_of(ECHO, 1000 + i);
        assert_int_equal(dvk_call(client, self, &m, data, (size_t)(i % sizeof data), NULL, 0, done, &result, NULL), 0);
    }
    pump(&result, N, 30000);
    assert_int_equal(result.failures, 0);
    assert_false(__atomic_load_n(&server.disordered, __ATOMIC_RELAXED));
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(__atomic_load_n(&server.seen[1000 + i], __ATOMIC_RELAXED), 1);
    assert_true(__atomic_load_n(&forwarder.cuts, __ATOMIC_RELAXED) > 5);
}

static void test_node_down(void **state) {
    (void)state;
    wait_for_peer();
    struct result result = {0};
    for (int i = 0; i < 20; i++) {
        struct dvk_message m = request_of(HOLD, 0);
        assert_int_equal(dvk_call(client, self, &m, NULL, 0, NULL, 0, done, &result, NULL), 0);
    }
    struct dvk_message m = request_of(STATE, 0);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    fake_node(fakes[2], proxy_numbers[2], 1, false, NULL);
    fake_node(fakes[1], proxy_numbers[1], 2, false, NULL);
    pump(&result, 20, 3000);
    assert_int_equal(result.failures, 20);
    assert_int_equal(result.status, -DVK_ENODEUNREACH);
    m = request_of(STATE, 0);
    assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), -DVK_ENODEUNREACH);
    /* it comes back: the server has been told to stop the old ones */
    nodes_up(1);
    nodes_up(2);
    wait_for_peer();
    int64_t end = ms_now() + 2000;
    do {
        m = request_of(STATE, 0);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    } while (m.payload.words[0] < 20 && ms_now() < end);
    assert_int_equal(m.payload.words[0], 20);
}

/* A proxy dies and is started again: what it carried ends with an error on both sides, and it goes on. */
static void test_proxy_restart(void **state) {
    (void)state;
    wait_for_peer();
    for (uint32_t node = 1; node <= 2; node++) {
        struct result result = {0};
        for (int i = 0; i < 10; i++) {
            struct dvk_message m = request_of(HOLD, 0);
            assert_int_equal(dvk_call(client, self, &m, NULL, 0, NULL, 0, done, &result, NULL), 0);
        }
        struct dvk_message m = request_of(STATE, 0);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
        proxy_kill(node);
        proxy_start(node);
        nodes_up(node);
        pump(&result, 10, 5000);
        assert_int_equal(result.failures, 10);
        assert_int_equal(result.status, -DVK_ENODEUNREACH);
        wait_for_peer();
    }
}

/* Bytes that are no frames, on the port of node 1: ignored, and the peers go on. */
static void test_garbage(void **state) {
    (void)state;
    wait_for_peer();
    for (unsigned i = 0; i < 50; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in to = {
            .sin_family = AF_INET, .sin_port = htons(ports[1]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        uint8_t bytes[300];
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)rand();
        if (i % 2)
            memcpy(bytes, "DVSP\1\0\1\0", 8);
        (void)send(fd, bytes, i * 6, MSG_NOSIGNAL);
        close(fd);
        struct dvk_message m = request_of(ECHO, i);
        assert_int_equal(dvk_sendrec(client, self, &m, NULL, 0, NULL, 0, NULL, 2000), 0);
    }
}

/* The nodes of one cluster. */
static void certificates_make(void) {
    char directory[96];
    strcpy(certificates, "/tmp/dvs-test-proxy-XXXXXX");
    assert_non_null(mkdtemp(certificates));
    assert_int_equal(pki_ca_create(certificates, "test", NULL), 0);
    for (uint32_t node = 1; node <= 2; node++) {
        struct pki_identity identity = {.cluster = "test", .node = node};
        snprintf(identity.name, sizeof identity.name, "n%u", node);
        snprintf(directory, sizeof directory, "%s/%u", certificates, node);
        assert_int_equal(mkdir(directory, 0700), 0);
        assert_int_equal(pki_node_create(directory, certificates, &identity, NULL), 0);
    }
}

static void certificates_remove(void) {
    static const char *const files[] = {"ca.crt",     "ca.key", "1/ca.crt", "1/node.crt",
                                        "1/node.key", "1",      "2/ca.crt", "2/node.crt",
                                        "2/node.key", "2",      ""};
    char path[96];
    for (size_t i = 0; *certificates && i < ARRAY_LENGTH(files); i++) {
        snprintf(path, sizeof path, "%s/%s", certificates, files[i]);
        (void)remove(path);
    }
}

/* ---- one that takes nothing ---- */

#define STUCK dvk_service_endpoint(1, DVK_SERVICE_NET)
enum { FLOODERS = 6, FLOOD_CALLS = 250 };

static void count_end(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                      const int *fds, unsigned fd_count) {
    (void)status, (void)reply, (void)data, (void)data_len, (void)fds, (void)fd_count;
    ++*(unsigned *)context;
}

/* More than the proxies let be under way to a node waits for one destination that takes nothing; requests to another
 * one of the same node are answered, each; and when it goes on, it gets all that waits, once and in order. */
static void test_stuck_destination(void **state) {
    (void)state;
    wait_for_peer();
    struct dvk *stuck, *flooders[FLOODERS];
    dvk_endpoint endpoint, sources[FLOODERS];
    unsigned ended[FLOODERS] = {0};
    static uint8_t data[DVK_DATA_MAX];
    assert_int_equal(dvk_open_fd(fake_client(fakes[1], false, NULL), &stuck), 0);
    assert_int_equal(dvk_bind(stuck, DC, dvk_endpoint_slot(STUCK), &endpoint), 0);
    for (int f = 0; f < FLOODERS; f++) {
        assert_int_equal(dvk_open_fd(fake_client(fakes[2], false, NULL), &flooders[f]), 0);
        assert_int_equal(dvk_bind(flooders[f], DC, dvk_system_slot(2, 100 + (uint32_t)f), &sources[f]), 0);
        for (unsigned i = 0; i < FLOOD_CALLS; i++) {
            struct dvk_message m = {.destination = STUCK, .type = ECHO};
            m.payload.words[0] = i;
            m.payload.words[1] = (uint64_t)f;
            assert_int_equal(
                dvk_call(flooders[f], sources[f], &m, data, sizeof data, NULL, 0, count_end, &ended[f], NULL), 0);
        }
        struct dvk_request *req;
        for (int turns = 0; turns < 20; turns++) /* the route is made */
            (void)dvk_receive(flooders[f], &req, 1);
    }
    for (uint64_t i = 0; i < 500; i++) {
        struct dvk_message m = request_of(ECHO, i);
        uint8_t back[1000];
        size_t back_len;
        assert_int_equal(dvk_sendrec(client, self, &m, data, sizeof back, back, sizeof back, &back_len, 2000), 0);
        assert_int_equal(back_len, sizeof back);
    }
    unsigned got[FLOODERS] = {0}, total = 0;
    int64_t end = ms_now() + 30000;
    while (total < FLOODERS * FLOOD_CALLS && ms_now() < end) {
        struct dvk_request *req;
        if (dvk_receive(stuck, &req, 1) < 0)
            continue;
        uint64_t f = req->msg.payload.words[1];
        assert_true(f < FLOODERS && req->msg.data_len == sizeof data);
        assert_int_equal(req->msg.payload.words[0], got[f]++);
        total++;
        dvk_reply_status(stuck, req, 0);
        for (int i = 0; i < FLOODERS && total % 16 == 0; i++) {
            struct dvk_request *none;
            (void)dvk_receive(flooders[i], &none, 0);
        }
    }
    assert_int_equal(total, FLOODERS * FLOOD_CALLS);
    for (int f = 0; f < FLOODERS; f++) {
        struct dvk_request *req;
        while (ended[f] < FLOOD_CALLS && ms_now() < end)
            (void)dvk_receive(flooders[f], &req, 1);
        assert_int_equal(ended[f], FLOOD_CALLS);
        dvk_close(flooders[f]);
    }
    dvk_close(stuck);
}

int main(int argc, char **argv) {
    proxy_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send_notify_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flapping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_node_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_proxy_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stuck_destination, setup, teardown),
    };
    if (!proxy_path)
        return 77;
    if (argc > 2 && strcmp(argv[2], "tls") == 0)
        certificates_make();
    int failed = cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
    certificates_remove();
    return failed;
}
