/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy and a peer that the test plays: frames that are missing or come twice, and one that never does it right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_dvkd.h"
#include "proxy/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SESSION 77u /* the test's */
#define WAIT_S 10   /* until something that must come is given up */

static const char *proxy_path;
static struct fake_dvkd *fake;
static pid_t proxy;
static uint16_t proxy_port;
static int listen_fd;
static uint64_t its_session;

static int64_t ms_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int socket_bound(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void patient(int fd) {
    struct timeval wait = {.tv_sec = WAIT_S};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
}

/* The proxy of `node`; the test is the other of 1 and 2. Node 2 connects. */
static void begin(uint32_t node) {
    uint16_t our_port;
    int number, spare = socket_bound(&proxy_port);
    close(spare);
    listen_fd = socket_bound(&our_port);
    patient(listen_fd);
    assert_int_equal(listen(listen_fd, 8), 0);
    fake = fake_start(node);
    int fd = fake_client(fake, true, &number);
    char id[16], listen_on[64], address[64];
    snprintf(id, sizeof id, "%u", node);
    snprintf(listen_on, sizeof listen_on, "127.0.0.1:%u", proxy_port);
    pid_t parent = getpid();
    proxy = fork();
    if (proxy == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || (fd != 3 && dup2(fd, 3) < 0))
            _exit(1);
        fcntl(3, F_SETFD, 0);
        setenv("DVS_LOG", "error", 0);
        execl(proxy_path, "dvs-proxy", "--node", id, "--listen", listen_on, "--name", id, "--clear", (char *)NULL);
        _exit(127);
    }
    close(fd);
    snprintf(address, sizeof address, "127.0.0.1:%u", our_port);
    fake_node(fake, number, 3 - node, true, address);
}

static void end(void) {
    kill(proxy, SIGKILL);
    waitpid(proxy, NULL, 0);
    fake_stop(fake);
    close(listen_fd);
}

/* false: the other side has ended. */
static bool frame_read(int fd, struct wire_header *header, uint8_t *body, size_t cap) {
    ssize_t n = recv(fd, header, sizeof *header, MSG_WAITALL);
    if (n <= 0) {
        assert_true(n == 0 || errno == ECONNRESET);
        return false;
    }
    assert_int_equal(n, sizeof *header);
    assert_true(header->body_len <= cap);
    return header->body_len == 0 || recv(fd, body, header->body_len, MSG_WAITALL) == (ssize_t)header->body_len;
}

static void frame_write(int fd, struct wire_header header, const void *body, size_t body_len) {
    uint8_t bytes[sizeof header + sizeof(struct wire_hello)];
    wire_seal(&header, body, body_len);
    memcpy(bytes, &header, sizeof header);
    if (body_len)
        memcpy(bytes + sizeof header, body, body_len);
    (void)send(fd, bytes, sizeof header + body_len, MSG_NOSIGNAL); /* it may have ended: that is read */
}

static void hello_write(int fd, uint32_t node, bool resume) {
    struct wire_hello hello = {.node = node, .session = SESSION, .peer_session = its_session};
    frame_write(fd, (struct wire_header){.command = WIRE_HELLO, .flags = resume ? WIRE_F_RESUME : 0}, &hello,
                sizeof hello);
}

/* Its hello; false: the connection was not taken. */
static bool hello_read(int fd, struct wire_hello *hello) {
    struct wire_header header;
    if (!frame_read(fd, &header, (uint8_t *)hello, sizeof *hello))
        return false;
    assert_int_equal(header.command, WIRE_HELLO);
    its_session = hello->session;
    return true;
}

/* It connects; we greet as one that remembers or not. */
static int greeted(struct wire_hello *hello) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    patient(fd);
    assert_true(hello_read(fd, hello));
    hello_write(fd, 1, hello->peer_session == SESSION);
    return fd;
}

static void cancel_write(int fd, uint64_t sequence) {
    frame_write(fd, (struct wire_header){.command = WIRE_CANCEL, .sequence = sequence, .tag = 1}, NULL, 0);
}

/* Until it ends the connection. */
static void wait_end(int fd) {
    struct wire_header header;
    while (frame_read(fd, &header, NULL, 0))
        assert_int_equal(header.command, WIRE_ACK);
    close(fd);
}

static void test_missing_and_repeated(void **state) {
    struct wire_hello hello;
    struct wire_header header = {0};
    (void)state;
    its_session = 0;
    begin(2);
    int fd = greeted(&hello);
    cancel_write(fd, 1);
    cancel_write(fd, 1);
    cancel_write(fd, 2);
    cancel_write(fd, 1);
    while (header.acknowledged != 2) { /* it has the two, and is content */
        assert_true(frame_read(fd, &header, NULL, 0));
        assert_int_equal(header.command, WIRE_ACK);
    }
    cancel_write(fd, 4);
    wait_end(fd);
    fd = greeted(&hello);
    assert_int_equal(hello.peer_session, SESSION);
    assert_int_equal(hello.received, 2); /* it knows what is missing */
    cancel_write(fd, 3);
    frame_write(fd, (struct wire_header){.command = WIRE_ACK, .tag = 4}, NULL,
                0); /* 4 is lost, and nothing comes behind it */
    wait_end(fd);
    fd = greeted(&hello);
    assert_int_equal(hello.received, 3);
    close(fd);
    end();
}

enum { TRIES = 7 };

/* It connects again and again, less and less often. */
static void test_gaps_for_ever_from_the_acceptor(void **state) {
    struct wire_hello hello;
    (void)state;
    its_session = 0;
    begin(2);
    int64_t since_ms = ms_now();
    for (int i = 0; i < TRIES; i++) {
        int fd = greeted(&hello);
        cancel_write(fd, 9);
        wait_end(fd);
    }
    assert_true(ms_now() - since_ms >= 20 + 40 + 80 + 160 + 320 + 640 - 10); /* its timers' grain */
    end();
}

/* A peer that connects again at once is let in less and less often. */
static void test_gaps_for_ever_from_the_connector(void **state) {
    struct wire_hello hello;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    unsigned refused = 0, taken = 0;
    (void)state;
    its_session = 0;
    begin(1);
    to.sin_port = htons(proxy_port);
    int64_t since_ms = 0, give_up_ms = ms_now() + WAIT_S * 1000;
    while (taken < TRIES && ms_now() < give_up_ms) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        patient(fd);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) {
            hello_write(fd, 2, false);
            if (hello_read(fd, &hello)) {
                since_ms = since_ms ? since_ms : ms_now();
                taken++;
                cancel_write(fd, 9);
                wait_end(fd);
                continue;
            }
            refused += taken > 0;
        }
        close(fd);
        usleep(2000);
    }
    assert_int_equal(taken, TRIES);
    assert_true(refused >= TRIES - 1);
    assert_true(ms_now() - since_ms >= 10 + 20 + 40 + 80 + 160 + 320 - 10);
    end();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_and_repeated),
        cmocka_unit_test(test_gaps_for_ever_from_the_acceptor),
        cmocka_unit_test(test_gaps_for_ever_from_the_connector),
    };
    if (argc < 2)
        return 77;
    proxy_path = argv[1];
    return cmocka_run_group_tests_name("gaps", tests, NULL, NULL);
}
