/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel offers: futex, pipe, Unix socket, SysV and POSIX queue, TCP. */
#include "compare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void write_all(int fd, const void *data, size_t len) {
    for (const uint8_t *at = data; len;) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die_errno("write");
        at += n;
        len -= (size_t)n;
    }
}

void read_all(int fd, void *data, size_t len) {
    for (uint8_t *at = data; len;) {
        ssize_t n = read(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            die("read", n ? strerror(errno) : "the other end has gone");
        at += n;
        len -= (size_t)n;
    }
}

/* ---- futex: two words in shared memory, nothing copied: the least that a wait for another process costs ---- */

#define WORD_CLIENT 0
#define WORD_SERVER 32

static void futex_wake(uint32_t *word) {
    __atomic_fetch_add(word, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_wait(uint32_t *word, uint32_t old) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == old)
        (void)syscall(SYS_futex, word, FUTEX_WAIT, old, NULL, NULL, 0);
}

static void futex_prepare(struct line *line) {
    line->state = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (line->state == MAP_FAILED)
        die_errno("futex: mmap");
}
static void futex_serve(struct line *line, struct contact *contact) {
    line->fd[0] = 0; /* what we have seen of the client's word */
}
static void futex_connect(struct line *line, const struct contact *contact) {}
static void futex_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    uint32_t *words = line->state, seen = __atomic_load_n(&words[WORD_SERVER], __ATOMIC_ACQUIRE);
    futex_wake(&words[WORD_CLIENT]);
    futex_wait(&words[WORD_SERVER], seen);
}
static void futex_receive(struct line *line, uint8_t *data) {
    futex_wait((uint32_t *)line->state + WORD_CLIENT, (uint32_t)line->fd[0]++);
    data[0] = FLAG_REPLY;
}
static void futex_reply(struct line *line, const uint8_t *data) {
    futex_wake((uint32_t *)line->state + WORD_SERVER);
}
static void futex_finish(struct line *line) {
    munmap(line->state, 4096);
}

const struct transport transport_futex = {
    "futex", "futex ping-pong, no data", PLACE_LOCAL, SHAPE_ROUND_TRIP, BYTES_MAX, futex_prepare, futex_serve, futex_connect,
    NULL,    futex_call,                 futex_receive, futex_reply,    futex_finish,
};

/* ---- pairs of stream descriptors: fd 0, 1 the client's to read and write, 2, 3 the server's ---- */

static void stream_serve(struct line *line, struct contact *contact) {
    close(line->fd[0]);
    if (line->fd[1] != line->fd[0])
        close(line->fd[1]);
}
static void stream_connect(struct line *line, const struct contact *contact) {
    close(line->fd[2]);
    if (line->fd[3] != line->fd[2])
        close(line->fd[3]);
}
static void stream_post(struct line *line, const uint8_t *data) {
    write_all(line->fd[1], data, line->bytes);
}
static void stream_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    write_all(line->fd[1], data, line->bytes);
    read_all(line->fd[0], reply, line->bytes);
}
static void stream_receive(struct line *line, uint8_t *data) {
    read_all(line->fd[2], data, line->bytes);
}
static void stream_reply(struct line *line, const uint8_t *data) {
    write_all(line->fd[3], data, line->bytes);
}
static void stream_finish(struct line *line) {
    for (int i = 0; i < 4; i++)
        close(line->fd[i]); /* twice, where reading and writing is one */
}

static void pipe_prepare(struct line *line) {
    int to[2], from[2];
    if (pipe(to) < 0 || pipe(from) < 0)
        die_errno("pipe");
    line->fd[0] = from[0];
    line->fd[1] = to[1];
    line->fd[2] = to[0];
    line->fd[3] = from[1];
}

static void unix_prepare(struct line *line) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        die_errno("socketpair");
    line->fd[0] = line->fd[1] = ends[0];
    line->fd[2] = line->fd[3] = ends[1];
}

#define STREAM stream_serve, stream_connect, stream_post, stream_call, stream_receive, stream_reply, stream_finish
#define BOTH_SHAPES (SHAPE_ROUND_TRIP | SHAPE_ONE_WAY)
const struct transport transport_pipe = {
    "pipe", "two pipes", PLACE_LOCAL, BOTH_SHAPES, BYTES_MAX, pipe_prepare, STREAM,
};
const struct transport transport_unix = {
    "unix", "Unix stream socket pair", PLACE_LOCAL, BOTH_SHAPES, BYTES_MAX, unix_prepare, STREAM,
};

/* ---- SysV queues: one, with message types by direction; a kernel's default takes messages of up to 8 KiB ---- */

#define QUEUE_BYTES_MAX 8192
enum { TO_SERVER = 1, TO_CLIENT = 2 };
struct sysv_message {
    long type;
    uint8_t bytes[QUEUE_BYTES_MAX];
};

static void sysv_prepare(struct line *line) {
    line->fd[0] = msgget(IPC_PRIVATE, 0600);
    if (line->fd[0] < 0)
        die_errno("msgget");
}
static void sysv_open(struct line *line) {
    line->state = malloc(sizeof(struct sysv_message));
    if (!line->state)
        die_errno("sysv");
}
static void sysv_serve(struct line *line, struct contact *contact) {
    sysv_open(line);
}
static void sysv_connect(struct line *line, const struct contact *contact) {
    sysv_open(line);
}
static void sysv_send(struct line *line, long type, const uint8_t *data) {
    struct sysv_message *message = line->state;
    message->type = type;
    memcpy(message->bytes, data, line->bytes);
    if (msgsnd(line->fd[0], message, line->bytes, 0) < 0)
        die_errno("msgsnd");
}
static void sysv_take(struct line *line, long type, uint8_t *data) {
    struct sysv_message *message = line->state;
    if (msgrcv(line->fd[0], message, QUEUE_BYTES_MAX, type, 0) != (ssize_t)line->bytes)
        die_errno("msgrcv");
    memcpy(data, message->bytes, line->bytes);
}
static void sysv_post(struct line *line, const uint8_t *data) {
    sysv_send(line, TO_SERVER, data);
}
static void sysv_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    sysv_send(line, TO_SERVER, data);
    sysv_take(line, TO_CLIENT, reply);
}
static void sysv_receive(struct line *line, uint8_t *data) {
    sysv_take(line, TO_SERVER, data);
}
static void sysv_reply(struct line *line, const uint8_t *data) {
    sysv_send(line, TO_CLIENT, data);
}
static void sysv_finish(struct line *line) {
    (void)msgctl(line->fd[0], IPC_RMID, NULL);
}
const struct transport transport_sysv = {
    "sysv",    "SysV message queue", PLACE_LOCAL, BOTH_SHAPES,  QUEUE_BYTES_MAX, sysv_prepare, sysv_serve,
    sysv_connect, sysv_post,         sysv_call,   sysv_receive, sysv_reply,      sysv_finish,
};

/* ---- POSIX queues: fd 0 to the server, 1 to the client ---- */

static void mq_prepare(struct line *line) {
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = (long)line->bytes};
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "/dvs-bench-%d-%u-%d", (int)getpid(), line->index, i);
        line->fd[i] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
        if (line->fd[i] < 0)
            die_errno("mq_open");
        (void)mq_unlink(name);
    }
}
static void mq_put(struct line *line, int queue, const uint8_t *data) {
    if (mq_send(line->fd[queue], (const char *)data, line->bytes, 0) < 0)
        die_errno("mq_send");
}
static void mq_take(struct line *line, int queue, uint8_t *data) {
    if (mq_receive(line->fd[queue], (char *)data, line->bytes, NULL) != (ssize_t)line->bytes)
        die_errno("mq_receive");
}
static void mq_serve(struct line *line, struct contact *contact) {}
static void mq_connect(struct line *line, const struct contact *contact) {}
static void mq_post(struct line *line, const uint8_t *data) {
    mq_put(line, 0, data);
}
static void mq_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    mq_put(line, 0, data);
    mq_take(line, 1, reply);
}
static void mq_get(struct line *line, uint8_t *data) {
    mq_take(line, 0, data);
}
static void mq_reply(struct line *line, const uint8_t *data) {
    mq_put(line, 1, data);
}
static void mq_finish(struct line *line) {
    mq_close(line->fd[0]);
    mq_close(line->fd[1]);
}
const struct transport transport_mq = {
    "mq",       "POSIX message queue", PLACE_LOCAL, BOTH_SHAPES, QUEUE_BYTES_MAX, mq_prepare, mq_serve,
    mq_connect, mq_post,               mq_call,     mq_get,      mq_reply,        mq_finish,
};

/* ---- TCP ---- */

static void no_delay(int fd) {
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
        die_errno("TCP_NODELAY");
}

static struct sockaddr_in tcp_address(const char *address, uint16_t port) {
    struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address ? address : "127.0.0.1", &out.sin_addr) != 1)
        die("no IPv4 address", address);
    return out;
}

int tcp_listen(const char *address, uint16_t *port) {
    struct sockaddr_in name = tcp_address(address, 0);
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        die_errno("tcp: listen");
    *port = ntohs(name.sin_port);
    return fd;
}

int tcp_accept(int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die_errno("tcp: accept");
    close(listener);
    no_delay(fd);
    return fd;
}

int tcp_connect(const char *address, uint16_t port) {
    struct sockaddr_in name = tcp_address(address, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) < 0)
        die_errno("tcp: connect");
    no_delay(fd);
    return fd;
}

static void tcp_serve(struct line *line, struct contact *contact) {
    uint16_t port;
    line->fd[0] = tcp_listen(line->remote ? line->settings->address : NULL, &port);
    line->fd[2] = -1;
    contact->number = port;
}
static void tcp_reach(struct line *line, const struct contact *contact) {
    line->fd[0] = line->fd[1] = tcp_connect(line->remote ? line->settings->address : NULL, (uint16_t)contact->number);
}
static void tcp_receive(struct line *line, uint8_t *data) {
    if (line->fd[2] < 0)
        line->fd[2] = line->fd[3] = tcp_accept(line->fd[0]);
    stream_receive(line, data);
}
const struct transport transport_tcp = {
    "tcp",       "TCP",       PLACE_LOCAL | PLACE_REMOTE, BOTH_SHAPES,  BYTES_MAX, NULL, tcp_serve, tcp_reach,
    stream_post, stream_call, tcp_receive,                stream_reply, NULL,
};
