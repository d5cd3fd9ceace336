/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to peers: the higher node id connects, the lower accepts. */
#include "common/cleanup.h"
#include "common/log.h"
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define CONNECT_MS 3000 /* for TCP and hello */
#define SILENCE_MS 5000 /* a joined peer says something each second */
#define STRANGERS_MAX 64
#define PARTS 64

int64_t clock_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t session_new(void) {
    uint64_t session = 0;
    while (session == 0)
        if (getrandom(&session, sizeof session, 0) != sizeof session)
            session = 0;
    return session;
}

int address_parse(const char *text, struct sockaddr_in *out) {
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        return -EINVAL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end || end == colon + 1 || port > 65535)
        return -EINVAL;
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &out->sin_addr) == 1 ? 0 : -EINVAL;
}

struct peer *peer_find(struct proxy *proxy, uint32_t node) {
    list_each(peer, &proxy->peers, struct peer, link) {
        if (peer->node == node)
            return peer;
    }
    return NULL;
}

static void on_peer(void *context, int fd, uint32_t events);
static void peer_connect(struct peer *peer);
static void peer_flush(struct peer *peer);

static void on_retry(void *context) {
    struct peer *peer = context;
    peer->retry_timer = 0;
    peer_connect(peer);
}

static void retry_later(struct peer *peer) {
    if (peer->node > peer->proxy->node || peer->retry_timer) /* it connects */
        return;
    if (dvk_timer(peer->proxy->dvk, peer->backoff_ms, on_retry, peer, &peer->retry_timer) < 0)
        peer->retry_timer = 0; /* the tick tries again */
    peer->backoff_ms = peer->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : peer->backoff_ms * 2;
}

void peer_disconnect(struct peer *peer, const char *why) {
    if (peer->fd >= 0) {
        (void)dvk_watch_fd(peer->proxy->dvk, peer->fd, 0, NULL, NULL);
        close(peer->fd);
        peer->fd = -1;
        if (peer->state == PEER_JOINED)
            log_info("node %u: connection lost (%s)", peer->node, why);
        else
            log_debug("node %u: no connection (%s)", peer->node, why);
    }
    peer->state = PEER_APART;
    peer->buffer_len = peer->control_len = peer->control_at = 0;
    peer->wants_out = false;
    list_remove(&peer->dirty);
    retry_later(peer);
}

static void socket_prepare(int fd) {
    int one = 1;
    unsigned timeout_ms = SILENCE_MS;
    /* only latency and the time to notice a dead path depend on these */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

static void watch(struct peer *peer, bool out) {
    if (peer->fd < 0)
        return;
    peer->wants_out = out;
    if (dvk_watch_fd(peer->proxy->dvk, peer->fd, EPOLLIN | (out ? EPOLLOUT : 0), on_peer, peer) < 0)
        peer_disconnect(peer, "cannot watch");
}

static void hello_queue(struct peer *peer, bool resume) {
    memset(&peer->hello, 0, sizeof peer->hello);
    link_hello(&peer->frames, &peer->hello);
    peer->hello.node = peer->proxy->node;
    memcpy(peer->hello.cluster, peer->proxy->cluster, sizeof peer->hello.cluster);
    peer->control = (struct wire_header){.command = WIRE_HELLO, .flags = resume ? WIRE_F_RESUME : 0};
    wire_seal(&peer->control, &peer->hello, sizeof peer->hello);
    peer->control_len = sizeof peer->control + sizeof peer->hello;
    peer->control_at = 0;
}

static void peer_connect(struct peer *peer) {
    struct proxy *proxy = peer->proxy;
    if (peer->fd >= 0 || peer->node > proxy->node)
        return;
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        retry_later(peer);
        return;
    }
    socket_prepare(fd);
    /* come from the address by which the others know us */
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = proxy->listen_address.sin_addr};
    if (from.sin_addr.s_addr != htonl(INADDR_ANY) && bind(fd, (struct sockaddr *)&from, sizeof from) < 0) {
        retry_later(peer);
        return;
    }
    if (connect(fd, (struct sockaddr *)&peer->address, sizeof peer->address) < 0 && errno != EINPROGRESS) {
        retry_later(peer);
        return;
    }
    peer->fd = steal_fd(&fd);
    peer->state = PEER_CONNECTING;
    peer->since_ms = clock_ms();
    watch(peer, true);
}

static void joined(struct peer *peer, bool resumed) {
    peer->state = PEER_JOINED;
    peer->backoff_ms = BACKOFF_MIN_MS;
    peer->heard_ms = peer->said_ms = clock_ms();
    log_info("node %u: connected%s", peer->node, resumed ? " again" : "");
    peer_mark_dirty(peer);
}

/* ---- writing ---- */

void peer_mark_dirty(struct peer *peer) {
    struct proxy *proxy = peer->proxy;
    if (peer->state != PEER_JOINED || peer->wants_out || list_has(&peer->dirty))
        return;
    list_append(&proxy->dirty, &peer->dirty);
    if (proxy->blocking)
        dvk_wake(proxy->dvk);
}

static void ack_queue(struct peer *peer) {
    peer->control = (struct wire_header){.command = WIRE_ACK, .acknowledged = peer->frames.received};
    wire_seal(&peer->control, NULL, 0);
    peer->control_len = sizeof peer->control;
    peer->control_at = 0;
    peer->frames.told = peer->frames.received;
}

/* 1: all written; 0: the socket is full; -1: disconnected. */
static int control_write(struct peer *peer) {
    while (peer->control_at < peer->control_len) {
        struct iovec parts[2];
        int count = 0;
        size_t at = peer->control_at, head = sizeof peer->control;
        if (at < head)
            parts[count++] = (struct iovec){(uint8_t *)&peer->control + at, head - at};
        size_t body = peer->control_len - head, body_at = at > head ? at - head : 0;
        if (body > body_at)
            parts[count++] = (struct iovec){(uint8_t *)&peer->hello + body_at, body - body_at};
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(peer->fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0) {
            peer_disconnect(peer, strerror(errno));
            return -1;
        }
        peer->control_at += (size_t)n;
    }
    peer->control_len = peer->control_at = 0;
    return 1;
}

static void peer_flush(struct peer *peer) {
    list_remove(&peer->dirty);
    if (peer->fd < 0 || peer->state == PEER_CONNECTING)
        return;
    int done = control_write(peer);
    while (done == 1 && peer->state == PEER_JOINED) {
        struct iovec parts[PARTS];
        int count = link_gather(&peer->frames, parts, PARTS);
        if (count == 0)
            break;
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(peer->fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            done = 0;
            break;
        }
        if (n < 0) {
            peer_disconnect(peer, strerror(errno));
            return;
        }
        link_written(&peer->frames, (size_t)n);
        peer->said_ms = clock_ms();
    }
    if (done < 0)
        return;
    /* nothing carried the acknowledgement: it goes alone, if much has come since */
    if (done == 1 && peer->state == PEER_JOINED && peer->frames.received - peer->frames.told >= 64 &&
        peer->frames.told < peer->frames.received) {
        ack_queue(peer);
        done = control_write(peer);
        if (done < 0)
            return;
    }
    if (peer->wants_out != (done == 0))
        watch(peer, done == 0);
}

void peers_flush(struct proxy *proxy) {
    struct peer *peer;
    while ((peer = list_first(&proxy->dirty, struct peer, dirty)))
        peer_flush(peer);
}

/* ---- reading ---- */

/* The answer to our hello. */
static bool hello_answered(struct peer *peer, const struct wire_frame *frame) {
    struct wire_hello hello;
    if (frame->header.command != WIRE_HELLO)
        return false;
    wire_hello(frame, &hello);
    if (hello.node != peer->node || hello.session == 0 || strcmp(hello.cluster, peer->proxy->cluster) != 0) {
        log_warning("node %u: its address belongs to node %u of cluster \"%s\"", peer->node, hello.node, hello.cluster);
        return false;
    }
    bool resumed = link_meet(&peer->frames, &hello, false, frame->header.flags & WIRE_F_RESUME, peer->frames.session);
    if (!resumed && frame->header.flags & WIRE_F_RESUME) {
        /* it goes on with a session that we do not know: begin again from nothing */
        peer->frames.session = session_new();
        return false;
    }
    joined(peer, resumed);
    return true;
}

static bool frame_take(struct peer *peer, const struct wire_frame *frame) {
    if (peer->state == PEER_GREETING)
        return hello_answered(peer, frame);
    if (peer->state != PEER_JOINED || frame->header.command == WIRE_HELLO)
        return false;
    int taken = link_take(&peer->frames, &frame->header);
    if (taken < 0)
        return false;
    if (taken == 0)
        return true;
    if (peer->frames.received - peer->frames.told >= 64)
        peer_mark_dirty(peer);
    return traffic_frame(peer, frame);
}

static void peer_read(struct peer *peer) {
    int fd = peer->fd;
    for (int turns = 0; turns < 8; turns++) { /* then others have their turn */
        ssize_t n = recv(fd, peer->buffer + peer->buffer_len, READ_BUFFER - peer->buffer_len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            peer_disconnect(peer, n == 0 ? "closed by the peer" : strerror(errno));
            return;
        }
        peer->buffer_len += (size_t)n;
        peer->heard_ms = clock_ms();
        size_t at = 0;
        for (;;) {
            struct wire_frame frame;
            long len = wire_parse(peer->buffer + at, peer->buffer_len - at, &frame);
            if (len == 0)
                break;
            if (len < 0 || !frame_take(peer, &frame)) {
                log_warning("node %u: bad frame", peer->node);
                peer_disconnect(peer, "bad frame");
                return;
            }
            if (peer->fd != fd)
                return; /* disconnected meanwhile */
            at += (size_t)len;
        }
        memmove(peer->buffer, peer->buffer + at, peer->buffer_len - at);
        peer->buffer_len -= at;
        if (n < 4096)
            return; /* most likely all there was */
    }
}

static void peer_ready(struct peer *peer, int fd, uint32_t events) {
    if (peer->state == PEER_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
            peer_disconnect(peer, strerror(error));
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        peer->state = PEER_GREETING;
        hello_queue(peer, false);
        peer_flush(peer);
        return;
    }
    if (events & EPOLLOUT)
        peer_flush(peer);
    if (peer->fd == fd && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        peer_read(peer);
}

/* What the frames that came have made is written at once. */
static void on_peer(void *context, int fd, uint32_t events) {
    struct peer *peer = context;
    struct proxy *proxy = peer->proxy;
    bool blocking = proxy->blocking;
    proxy->blocking = false; /* nobody need be woken to write */
    peer_ready(peer, fd, events);
    peers_flush(proxy);
    proxy->blocking = blocking;
}

/* ---- accepting ---- */

static void stranger_free(struct stranger *stranger) {
    if (stranger->fd >= 0) {
        (void)dvk_watch_fd(stranger->proxy->dvk, stranger->fd, 0, NULL, NULL);
        close(stranger->fd);
    }
    list_remove(&stranger->link);
    free(stranger);
}

static void stranger_adopt(struct stranger *stranger, const struct wire_frame *frame) {
    struct proxy *proxy = stranger->proxy;
    struct wire_hello hello;
    wire_hello(frame, &hello);
    struct peer *peer = peer_find(proxy, hello.node);
    if (!peer || hello.node <= proxy->node || hello.session == 0 || strcmp(hello.cluster, proxy->cluster) != 0 ||
        stranger->from.s_addr != peer->address.sin_addr.s_addr) {
        /* also a node that joined just now and that dvkd has not told us of: it tries again */
        log_debug("refused a connection that says it is node %u", hello.node);
        stranger_free(stranger);
        return;
    }
    if (peer->fd >= 0)
        peer_disconnect(peer, "it connects anew");
    peer->fd = steal_fd(&stranger->fd);
    (void)dvk_watch_fd(proxy->dvk, peer->fd, 0, NULL, NULL);
    stranger_free(stranger);
    bool resumed = link_meet(&peer->frames, &hello, true, false, session_new());
    hello_queue(peer, resumed);
    watch(peer, false);
    if (peer->fd < 0)
        return;
    joined(peer, resumed);
}

static void on_stranger(void *context, int fd, uint32_t events) {
    struct stranger *stranger = context;
    (void)events;
    ssize_t n = recv(fd, stranger->buffer + stranger->len, sizeof stranger->buffer - stranger->len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stranger_free(stranger);
        return;
    }
    stranger->len += (size_t)n;
    struct wire_frame frame;
    long len = wire_parse(stranger->buffer, stranger->len, &frame);
    if (len > 0 && frame.header.command == WIRE_HELLO)
        stranger_adopt(stranger, &frame);
    else if (len != 0 || stranger->len == sizeof stranger->buffer)
        stranger_free(stranger);
}

static void on_listen(void *context, int fd, uint32_t events) {
    struct proxy *proxy = context;
    (void)events;
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int peer_fd = accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer_fd < 0)
        return;
    unsigned count = 0;
    list_each(s, &proxy->strangers, struct stranger, link) {
        count++;
    }
    if (count >= STRANGERS_MAX) {
        struct stranger *oldest = list_first(&proxy->strangers, struct stranger, link);
        stranger_free(oldest);
    }
    struct stranger *stranger = calloc(1, sizeof *stranger);
    if (!stranger) {
        close(peer_fd);
        return;
    }
    socket_prepare(peer_fd);
    *stranger = (struct stranger){.proxy = proxy, .fd = peer_fd, .from = from.sin_addr, .since_ms = clock_ms()};
    list_append(&proxy->strangers, &stranger->link);
    if (dvk_watch_fd(proxy->dvk, peer_fd, EPOLLIN, on_stranger, stranger) < 0)
        stranger_free(stranger);
}

int peers_listen(struct proxy *proxy) {
    int one = 1;
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&proxy->listen_address, sizeof proxy->listen_address) < 0 || listen(fd, 64) < 0)
        return -errno;
    socklen_t len = sizeof proxy->listen_address;
    if (getsockname(fd, (struct sockaddr *)&proxy->listen_address, &len) < 0)
        return -errno;
    int error = dvk_watch_fd(proxy->dvk, fd, EPOLLIN, on_listen, proxy);
    if (error == 0)
        proxy->listen_fd = steal_fd(&fd);
    return error;
}

/* ---- membership ---- */

void peer_up(struct proxy *proxy, uint32_t node, const char *address) {
    struct sockaddr_in parsed;
    if (node == proxy->node || node == 0 || node > DVK_MAX_NODE)
        return;
    if (!address || address_parse(address, &parsed) < 0) {
        log_warning("node %u: no usable address (%s)", node, address ? address : "none");
        return;
    }
    struct peer *peer = peer_find(proxy, node);
    if (peer) {
        if (memcmp(&peer->address, &parsed, sizeof parsed) != 0) {
            peer->address = parsed;
            peer_disconnect(peer, "its address has changed");
        }
        return;
    }
    peer = calloc(1, sizeof *peer);
    uint8_t *buffer = malloc(READ_BUFFER);
    if (!peer || !buffer) {
        free(peer);
        free(buffer);
        log_error("node %u: no memory", node);
        return;
    }
    peer->proxy = proxy;
    peer->node = node;
    peer->address = parsed;
    peer->fd = -1;
    peer->buffer = buffer;
    peer->backoff_ms = BACKOFF_MIN_MS;
    list_init(&peer->dirty);
    list_init(&peer->pendings);
    list_init(&peer->parked);
    list_init(&peer->incomings);
    for (size_t i = 0; i < ARRAY_LENGTH(peer->by_tag); i++)
        list_init(&peer->by_tag[i]);
    link_init(&peer->frames, session_new(), peer, traffic_kept, traffic_reset);
    list_append(&proxy->peers, &peer->link);
    peer_connect(peer);
}

void peer_down(struct proxy *proxy, uint32_t node) {
    struct peer *peer = peer_find(proxy, node);
    if (!peer)
        return;
    list_remove(&peer->link);
    peer_disconnect(peer, "its node has left");
    if (peer->retry_timer)
        dvk_timer_cancel(proxy->dvk, peer->retry_timer);
    traffic_lost(peer);
    link_clear(&peer->frames);
    free(peer->buffer);
    free(peer);
}

void peers_tick(void *context) {
    struct proxy *proxy = context;
    int64_t now = clock_ms();
    list_each(stranger, &proxy->strangers, struct stranger, link) {
        if (now - stranger->since_ms > CONNECT_MS)
            stranger_free(stranger);
    }
    list_each(peer, &proxy->peers, struct peer, link) {
        switch (peer->state) {
        case PEER_APART:
            retry_later(peer);
            break;
        case PEER_CONNECTING:
        case PEER_GREETING:
            if (now - peer->since_ms > CONNECT_MS)
                peer_disconnect(peer, "no answer");
            break;
        case PEER_JOINED:
            if (now - peer->heard_ms > SILENCE_MS)
                peer_disconnect(peer, "silent");
            else if (peer->control_len == 0 && peer->frames.at_offset == 0 &&
                     (link_owes_ack(&peer->frames) || now - peer->said_ms >= 1000)) {
                ack_queue(peer);
                peer->said_ms = now;
                peer_flush(peer);
            }
            break;
        }
    }
    if (dvk_timer(proxy->dvk, 1000, peers_tick, proxy, NULL) < 0) {
        log_error("no memory for the timer");
        _exit(1); /* without it a dead path would not be noticed; dvkd starts us again */
    }
}

void peers_close(struct proxy *proxy) {
    struct peer *peer;
    while ((peer = list_first(&proxy->peers, struct peer, link)))
        peer_down(proxy, peer->node);
    struct stranger *stranger;
    while ((stranger = list_first(&proxy->strangers, struct stranger, link)))
        stranger_free(stranger);
    if (proxy->listen_fd >= 0) {
        (void)dvk_watch_fd(proxy->dvk, proxy->listen_fd, 0, NULL, NULL);
        close(proxy->listen_fd);
        proxy->listen_fd = -1;
    }
}
