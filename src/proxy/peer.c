/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to peers: the higher node id connects, the lower accepts (accept.c). */
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define CONNECT_MS 3000 /* for TCP and hello */
#define SILENCE_MS 5000 /* a joined peer says something each second */
#define PROVEN_MS 1000  /* a connection that lasted so long was good, whether it brought anything or not */
#define PARTS 128
#define READ_AT_ONCE (1u << 20)
#define PACE_BYTES (64u << 10)   /* how often the pace is measured */
#define PACE_BACKLOG (8u << 10)  /* written and not sent: the network is slower than we are */

int64_t clock_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t session_new(void) {
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

static uint64_t progress(const struct peer *peer) {
    return peer->frames.received + peer->frames.acknowledged;
}

/* How long to wait now; longer the next time, until a connection was good. */
static unsigned backoff(struct peer *peer) {
    unsigned now_ms = peer->backoff_ms;
    peer->backoff_ms = now_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : now_ms * 2;
    return now_ms;
}

static void retry_later(struct peer *peer) {
    if (peer->node > peer->proxy->node || peer->retry_timer) /* it connects */
        return;
    if (dvk_timer(peer->proxy->dvk, backoff(peer), on_retry, peer, &peer->retry_timer) < 0)
        peer->retry_timer = 0; /* the tick tries again */
}

void peer_disconnect(struct peer *peer, const char *why) {
    if (peer->stream.fd >= 0) {
        record_text(RECORD_LINK_DOWN, 0, 2, peer->node, peer->state, why);
        (void)dvk_watch_fd(peer->proxy->dvk, peer->stream.fd, 0, NULL, NULL);
        if (peer->state == PEER_JOINED)
            log_info("node %u: connection lost (%s)", peer->node, why);
        else
            log_debug("node %u: no connection (%s)", peer->node, why);
        if (peer->state == PEER_JOINED && (progress(peer) > peer->progress || clock_ms() - peer->since_ms >= PROVEN_MS))
            peer->backoff_ms = BACKOFF_MIN_MS;
        stream_end(&peer->stream); /* last: why may lie in it */
    }
    peer->state = PEER_APART;
    peer->buffer_len = peer->control_len = peer->control_at = 0;
    peer->wants_out = false;
    list_remove(&peer->dirty);
    list_remove(&peer->unread);
    retry_later(peer);
}

/* It broke the rules, or what it sent did not all come: the next connection may follow, but not for ever without a
 * pause. Who connects waits anyhow; if that is the other side, and it does not, it is not let in for half as long. */
static void peer_broke_rules(struct peer *peer, const char *why) {
    if (peer->state == PEER_JOINED)
        log_warning("node %u: %s", peer->node, why);
    peer_disconnect(peer, why);
    if (peer->node > peer->proxy->node)
        peer->closed_ms = clock_ms() + backoff(peer) / 2;
}

void socket_prepare(int fd) {
    int one = 1;
    unsigned timeout_ms = SILENCE_MS;
    /* only latency and the time to notice a dead path depend on these */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

void peer_refused(struct peer *peer, const char *who, const char *why) {
    char text[sizeof peer->refusal];
    snprintf(text, sizeof text, "%s%.*s", who, STREAM_WHY, why);
    if (strcmp(text, peer->refusal) == 0)
        return;
    strcpy(peer->refusal, text);
    log_warning("node %u: no connection: %s", peer->node, text);
}

static void watch(struct peer *peer, bool out) {
    if (peer->stream.fd < 0)
        return;
    peer->wants_out = out;
    if (dvk_watch_fd(peer->proxy->dvk, peer->stream.fd, EPOLLIN | (out ? EPOLLOUT : 0), on_peer, peer) < 0)
        peer_disconnect(peer, "cannot watch");
}

static void hello_queue(struct peer *peer, bool resume) {
    memset(&peer->hello, 0, sizeof peer->hello);
    link_hello(&peer->frames, &peer->hello);
    peer->hello.node = peer->proxy->node;
    memcpy(peer->hello.cluster, peer->proxy->cluster, sizeof peer->hello.cluster);
    peer->control = (struct wire_header){.command = WIRE_HELLO, .flags = resume ? WIRE_F_RESUME : 0};
    if (stream_is_encrypted(&peer->stream))
        peer->control.flags |= WIRE_F_TLS;
    wire_seal(&peer->control, &peer->hello, sizeof peer->hello);
    peer->control_len = sizeof peer->control + sizeof peer->hello;
    peer->control_at = 0;
}

static void peer_connect(struct peer *peer) {
    struct proxy *proxy = peer->proxy;
    if (peer->stream.fd >= 0 || peer->node > proxy->node)
        return;
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fault_at(FAULT_PROXY_CONNECT) & FAULT_FAIL) {
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
    if (stream_begin(&peer->stream, fd, proxy->clear ? NULL : proxy->tls, false) < 0) {
        retry_later(peer);
        return;
    }
    (void)steal_fd(&fd);
    record(RECORD_LINK_CONNECT, 0, peer->node);
    peer->state = PEER_CONNECTING;
    peer->since_ms = clock_ms();
    watch(peer, true);
}

static void joined(struct peer *peer, bool resumed) {
    peer->state = PEER_JOINED;
    if (resumed && progress(peer) > peer->progress) /* the last one was, as we now hear */
        peer->backoff_ms = BACKOFF_MIN_MS;
    peer->progress = progress(peer);
    peer->since_ms = peer->heard_ms = peer->said_ms = clock_ms();
    peer->connections++;
    peer->frames.packing = (struct link_packing){0};
    peer->frames.encrypted = stream_is_encrypted(&peer->stream);
    stream_read_ahead(&peer->stream);
    peer->refusal[0] = 0;
    record(RECORD_LINK_UP, 0, peer->node, resumed, peer->frames.session);
    log_info("node %u: connected%s (%s)", peer->node, resumed ? " again" : "", stream_cipher(&peer->stream));
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
    link_ack(&peer->frames, &peer->control);
    peer->control_len = sizeof peer->control;
    peer->control_at = 0;
}

/* Writing failed. If the other side has ended the connection, what it sent before is read first, until its end is found: it may
 * be frames, or, before we have joined, why. */
static void write_failed(struct peer *peer, int error) {
    if (error == -EPROTO || (peer->state == PEER_JOINED && error != -EPIPE && error != -ECONNRESET))
        peer_disconnect(peer, error == -EPROTO ? peer->stream.why : strerror(-error));
}

/* 1: all written; 0: the socket is full; -1: failed. */
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
        ssize_t n = stream_write(&peer->stream, parts, count);
        if (n == -EAGAIN)
            return 0;
        if (n < 0) {
            write_failed(peer, (int)n);
            return -1;
        }
        peer->control_at += (size_t)n;
    }
    peer->control_len = peer->control_at = 0;
    return 1;
}

/* What the network can take now: it is not the bottleneck while it has sent all that was written. */
static void pace_measure(struct peer *peer) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    peer->written = 0;
    bool slow = getsockopt(peer->stream.fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
                info.tcpi_notsent_bytes >= PACE_BACKLOG && info.tcpi_delivery_rate > 0;
    peer->frames.packing.byte_ns = slow ? 1e9 / (double)info.tcpi_delivery_rate : 0;
}

/* 1: all written; 0: the socket is full; -1: disconnected. */
static int frames_write(struct peer *peer) {
    ssize_t n;
    for (;;) {
        struct iovec parts[PARTS];
        int count = link_gather(&peer->frames, parts, PARTS);
        if (count == 0) {
            n = 1;
            break;
        }
        n = stream_write(&peer->stream, parts, count);
        if (n < 0)
            break;
        link_written(&peer->frames, (size_t)n);
        peer->written += (size_t)n;
    }
    peer->said_ms = clock_ms();
    if (n > 0 || n == -EAGAIN)
        return n > 0;
    write_failed(peer, (int)n);
    return -1;
}

static void peer_flush(struct peer *peer) {
    list_remove(&peer->dirty);
    if (peer->state != PEER_GREETING && peer->state != PEER_JOINED)
        return;
    int done = stream_flush(&peer->stream);
    if (done < 0 && done != -EAGAIN) {
        write_failed(peer, done);
        return;
    }
    done = done == 0 ? control_write(peer) : 0;
    if (done == 1 && peer->state == PEER_JOINED)
        done = frames_write(peer);
    if (peer->written >= PACE_BYTES && peer->state == PEER_JOINED)
        pace_measure(peer);
    /* nothing carried the acknowledgement: it goes alone, if much has come since */
    if (done == 1 && peer->state == PEER_JOINED && peer->frames.received - peer->frames.told >= 64 &&
        peer->frames.told < peer->frames.received) {
        ack_queue(peer);
        done = control_write(peer);
    }
    if (done < 0)
        return;
    bool out = done == 0 || stream_wants_out(&peer->stream);
    if (peer->wants_out != out)
        watch(peer, out);
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
    char text[WIRE_REFUSE_MAX + 1];
    if (frame->header.command == WIRE_REFUSE) {
        wire_refusal(frame, text);
        peer_refused(peer, "it refuses us: ", text);
        return false;
    }
    if (frame->header.command != WIRE_HELLO)
        return false;
    wire_hello(frame, &hello);
    if (hello.node != peer->node || hello.session == 0 || strcmp(hello.cluster, peer->proxy->cluster) != 0) {
        snprintf(text, sizeof text, "its address belongs to node %u of cluster \"%s\"", hello.node, hello.cluster);
        peer_refused(peer, "", text);
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

static const char bad_frame[] = "bad frame";

/* NULL, or what is wrong. */
static const char *frame_take(struct peer *peer, struct wire_frame *frame) {
    if (!(frame->header.flags & WIRE_F_TLS) == stream_is_encrypted(&peer->stream))
        return bad_frame;
    if (peer->state == PEER_GREETING)
        return hello_answered(peer, frame) ? NULL : bad_frame;
    if (peer->state != PEER_JOINED || frame->header.command == WIRE_HELLO)
        return bad_frame;
    static uint8_t room[WIRE_BODY_MAX];
    int taken = link_take(&peer->frames, &frame->header);
    if (taken < 0)
        return taken == -EILSEQ ? "frames are missing" : bad_frame;
    if (taken == 0)
        return NULL;
    if (peer->frames.received - peer->frames.told >= 64)
        peer_mark_dirty(peer);
    if (wire_expand(frame, room) < 0)
        return bad_frame;
    return traffic_frame(peer, frame) ? NULL : bad_frame;
}

/* The frame that begins at `at` of the buffer and is *len long has come. With a fault: it has not, or twice, or after
 * the one behind it, which *len then includes. NULL, or what is wrong. */
static const char *frame_came(struct peer *peer, struct wire_frame *frame, size_t at, long *len) {
    unsigned faults = peer->state == PEER_JOINED ? fault_at(FAULT_PROXY_FRAME) : 0;
    struct wire_frame next;
    const char *wrong = NULL;
    if (faults & FAULT_DROP)
        return NULL;
    if (faults & FAULT_SWAP) {
        size_t end = at + (size_t)*len;
        long next_len = wire_parse(peer->buffer + end, peer->buffer_len - end, &next);
        if (next_len > 0) {
            *len += next_len;
            wrong = frame_take(peer, &next);
        }
    }
    if (!wrong)
        wrong = frame_take(peer, frame);
    if (!wrong && faults & FAULT_REPEAT)
        wrong = frame_take(peer, frame);
    return wrong;
}

/* All whole frames in the buffer. false: the connection they came from is no more. */
static bool frames_take(struct peer *peer) {
    int fd = peer->stream.fd;
    size_t at = 0;
    for (;;) {
        struct wire_frame frame;
        long len = wire_parse(peer->buffer + at, peer->buffer_len - at, &frame);
        if (len == 0)
            break;
        const char *wrong = len < 0 ? bad_frame : frame_came(peer, &frame, at, &len);
        if (wrong) {
            peer_broke_rules(peer, wrong);
            return false;
        }
        if (peer->stream.fd != fd)
            return false;
        at += (size_t)len;
    }
    if (at)
        memmove(peer->buffer, peer->buffer + at, peer->buffer_len - at);
    peer->buffer_len -= at;
    return true;
}

static void read_failed(struct peer *peer, ssize_t result) {
    if (result == -EPROTO && peer->state != PEER_JOINED)
        peer_refused(peer, "", peer->stream.why);
    peer_disconnect(peer, result == 0         ? "closed by the peer"
                          : result == -EPROTO ? peer->stream.why
                                              : strerror((int)-result));
}

static bool buffer_resize(struct peer *peer, size_t cap) {
    uint8_t *buffer = realloc(peer->buffer, cap);
    if (!buffer)
        return false;
    peer->buffer = buffer;
    peer->buffer_cap = cap;
    return true;
}

/* Room for more: a frame that is longer than the buffer has it grow. False: no memory. */
static bool buffer_fit(struct peer *peer) {
    struct wire_header header;
    if (peer->buffer_len < sizeof header)
        return true;
    memcpy(&header, peer->buffer, sizeof header); /* its beginning has been checked, or it would not have stayed */
    size_t cap = sizeof header + header.body_len;
    if (cap > READ_BUFFER)
        peer->long_frames = true;
    return cap <= peer->buffer_cap || buffer_resize(peer, cap);
}

/* Each second: it shrinks again when no long frame has come since the last time. */
static void buffer_tick(struct peer *peer) {
    if (!peer->long_frames && peer->buffer_cap > READ_BUFFER && peer->buffer_len <= READ_BUFFER)
        (void)buffer_resize(peer, READ_BUFFER); /* else it stays */
    peer->long_frames = false;
}

static void peer_read(struct peer *peer) {
    for (size_t bytes = 0; bytes < READ_AT_ONCE;) { /* then others have their turn */
        if (!buffer_fit(peer)) {
            peer_disconnect(peer, "no memory for a long frame"); /* which is sent again */
            return;
        }
        ssize_t n = stream_read(&peer->stream, peer->buffer + peer->buffer_len, peer->buffer_cap - peer->buffer_len);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            read_failed(peer, n);
            return;
        }
        bytes += (size_t)n;
        peer->buffer_len += (size_t)n;
        peer->heard_ms = clock_ms();
        if (!frames_take(peer))
            return;
        /* few: most likely all there was */
        if (n < 4096 && !stream_has_more(&peer->stream))
            return;
    }
    if (stream_has_more(&peer->stream) && !list_has(&peer->unread)) /* the socket may be empty: nobody would call us */
        list_append(&peer->proxy->unread, &peer->unread);
}

void peers_read(struct proxy *proxy) {
    struct link peers;
    list_init(&peers);
    list_splice(&peers, &proxy->unread);
    struct peer *peer;
    while ((peer = list_first(&peers, struct peer, unread))) {
        list_remove(&peer->unread);
        peer_read(peer);
    }
}

/* ---- getting there ---- */

/* Tell the other side and the log that this connection will not do. */
static void connection_refuse(struct peer *peer, const char *who, const char *why, const char *why_told) {
    uint8_t bytes[sizeof(struct wire_header) + WIRE_REFUSE_MAX];
    struct iovec part = {bytes, refusal_make(bytes, stream_is_encrypted(&peer->stream), why_told)};
    (void)stream_write(&peer->stream, &part, 1);
    peer_refused(peer, who, why);
    peer_disconnect(peer, why);
}

static void greet(struct peer *peer) {
    struct pki_identity identity = {0};
    char why[STREAM_WHY], told[STREAM_WHY];
    if (stream_is_encrypted(&peer->stream) &&
        (!stream_identity(&peer->stream, &identity) || identity.node != peer->node)) {
        snprintf(why, sizeof why, "the certificate at its address is of node %u (%s)", identity.node, identity.name);
        snprintf(told, sizeof told, "your certificate is of node %u (%s), at the address of node %u", identity.node,
                 identity.name, peer->node);
        connection_refuse(peer, "", why, told);
        return;
    }
    peer->state = PEER_GREETING;
    hello_queue(peer, false);
    peer_flush(peer);
}

static void secure(struct peer *peer) {
    int done = stream_handshake(&peer->stream);
    if (done == 1) {
        greet(peer);
    } else if (done == 0) {
        if (peer->wants_out != stream_wants_out(&peer->stream))
            watch(peer, stream_wants_out(&peer->stream));
    } else {
        peer_refused(peer, "", peer->stream.why);
        peer_disconnect(peer, peer->stream.why);
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
        peer->state = PEER_SECURING;
    }
    if (peer->state == PEER_SECURING) {
        secure(peer);
        return;
    }
    if (events & EPOLLOUT)
        peer_flush(peer);
    if (peer->stream.fd == fd && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
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
    if (blocking && !list_is_empty(&proxy->unread))
        dvk_wake(proxy->dvk);
}

/* ---- accepting ---- */

void peer_accepted(struct peer *peer, struct stream *stream, const struct wire_hello *hello) {
    if (peer->stream.fd >= 0)
        peer_disconnect(peer, "it connects anew");
    peer->stream = stream_steal(stream);
    bool resumed = link_meet(&peer->frames, hello, true, false, session_new());
    hello_queue(peer, resumed);
    watch(peer, false);
    if (peer->stream.fd < 0)
        return;
    joined(peer, resumed);
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
    peer->stream = STREAM_NONE;
    peer->buffer = buffer;
    peer->buffer_cap = READ_BUFFER;
    peer->backoff_ms = BACKOFF_MIN_MS;
    list_init(&peer->dirty);
    list_init(&peer->unread);
    traffic_init(peer);
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
    strangers_tick(proxy, now);
    list_each(peer, &proxy->peers, struct peer, link) {
        switch (peer->state) {
        case PEER_APART:
            retry_later(peer);
            break;
        case PEER_CONNECTING:
        case PEER_SECURING:
        case PEER_GREETING:
            if (now - peer->since_ms > CONNECT_MS)
                peer_disconnect(peer, "no answer");
            break;
        case PEER_JOINED:
            buffer_tick(peer);
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
    strangers_close(proxy);
    if (proxy->listen_fd >= 0) {
        (void)dvk_watch_fd(proxy->dvk, proxy->listen_fd, 0, NULL, NULL);
        close(proxy->listen_fd);
        proxy->listen_fd = -1;
    }
}
