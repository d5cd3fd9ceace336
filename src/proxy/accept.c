/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that others make, until it is known who they are: a peer, who says hello; one who wants to join the cluster
 * (TLS only); or somebody to be refused. Who is refused is told why, and so is the log.
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define STRANGERS_MAX 64
#define GREETING_MS 3000 /* for TLS and hello */
#define JOIN_MS 30000    /* the answer to a request to join takes an agreement of all nodes */
#define LEAVE_MS 1000
#define REFUSAL_AGAIN_MS 60000
#define JOIN_TEXT_MAX (48u << 10)
#define TLS_FIRST_BYTE 0x16 /* a handshake record */

static void stranger_free(struct stranger *stranger) {
    if (stranger->stream.fd >= 0) {
        (void)dvk_watch_fd(stranger->proxy->dvk, stranger->stream.fd, 0, NULL, NULL);
        stream_end(&stranger->stream);
    }
    list_remove(&stranger->link);
    free(stranger->text);
    free(stranger);
}

/* ---- refusing ---- */

size_t refusal_make(uint8_t *bytes, bool encrypted, const char *why) {
    struct wire_header header = {.command = WIRE_REFUSE, .flags = encrypted ? WIRE_F_TLS : 0};
    size_t len = strnlen(why, WIRE_REFUSE_MAX);
    wire_seal(&header, why, len);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, why, len);
    return sizeof header + len;
}

static void refusal_log(struct proxy *proxy, struct in_addr from, const char *why) {
    char address[INET_ADDRSTRLEN] = "?";
    int64_t now = clock_ms();
    struct refusal *oldest = &proxy->refusals[0];
    inet_ntop(AF_INET, &from, address, sizeof address);
    for (size_t i = 0; i < ARRAY_LENGTH(proxy->refusals); i++) {
        struct refusal *refusal = &proxy->refusals[i];
        if (refusal->at_ms && refusal->from.s_addr == from.s_addr && strcmp(refusal->why, why) == 0 &&
            now - refusal->at_ms < REFUSAL_AGAIN_MS)
            return;
        if (refusal->at_ms < oldest->at_ms)
            oldest = refusal;
    }
    *oldest = (struct refusal){.from = from, .at_ms = now};
    snprintf(oldest->why, sizeof oldest->why, "%s", why);
    log_warning("refused a connection from %s: %s", address, why);
}

/* What was written is to arrive: closing at once with bytes unread would throw it away. */
static void stranger_leave(struct stranger *stranger) {
    stream_shut(&stranger->stream);
    stranger->state = STRANGER_LEAVING;
    stranger->until_ms = clock_ms() + LEAVE_MS;
}

/* why: for our log; told: for the other side, NULL when TLS has said it. */
static void stranger_refuse(struct stranger *stranger, const char *why, const char *told) {
    refusal_log(stranger->proxy, stranger->from, why);
    if (told) {
        uint8_t bytes[sizeof(struct wire_header) + WIRE_REFUSE_MAX];
        struct iovec part = {bytes, refusal_make(bytes, stream_is_encrypted(&stranger->stream), told)};
        (void)stream_write(&stranger->stream, &part, 1);
    }
    stranger_leave(stranger);
}

/* ---- hello ---- */

/* Is it who it says it is? false: it was refused. */
static bool hello_believed(struct stranger *stranger, const struct wire_hello *hello) {
    const struct proxy *proxy = stranger->proxy;
    struct pki_identity identity = {0};
    char why[STREAM_WHY], told[STREAM_WHY];
    if (strcmp(hello->cluster, proxy->cluster) != 0) {
        snprintf(why, sizeof why, "it is of cluster \"%s\"", hello->cluster);
        snprintf(told, sizeof told, "this is cluster \"%s\", not \"%s\"", proxy->cluster, hello->cluster);
    } else if (stream_is_encrypted(&stranger->stream) &&
               (!stream_identity(&stranger->stream, &identity) || identity.node != hello->node)) {
        snprintf(why, sizeof why, "its certificate is of node %u (%s), but it says that it is node %u", identity.node,
                 identity.name, hello->node);
        snprintf(told, sizeof told, "your certificate is of node %u (%s), not of node %u", identity.node, identity.name,
                 hello->node);
    } else {
        return true;
    }
    stranger_refuse(stranger, why, told);
    return false;
}

static void stranger_adopt(struct stranger *stranger, const struct wire_frame *frame) {
    struct proxy *proxy = stranger->proxy;
    struct wire_hello hello;
    wire_hello(frame, &hello);
    if (!hello_believed(stranger, &hello))
        return;
    struct peer *peer = peer_find(proxy, hello.node);
    if (!peer || hello.node <= proxy->node || hello.session == 0 ||
        stranger->from.s_addr != peer->address.sin_addr.s_addr || clock_ms() < peer->closed_ms) {
        /* also a node that joined just now and that dvkd has not told us of, or one whose last connection was of no
         * use: it tries again */
        record(RECORD_LINK_REFUSED, 0, hello.node);
        log_debug("refused a connection that says it is node %u", hello.node);
        stranger_free(stranger);
        return;
    }
    (void)dvk_watch_fd(proxy->dvk, stranger->stream.fd, 0, NULL, NULL);
    peer_accepted(peer, &stranger->stream, &hello);
    stranger_free(stranger);
}

static void stranger_greet(struct stranger *stranger) {
    ssize_t n = stream_read(&stranger->stream, stranger->buffer + stranger->len, sizeof stranger->buffer - stranger->len);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        if (n == -EPROTO)
            refusal_log(stranger->proxy, stranger->from, stranger->stream.why);
        stranger_free(stranger);
        return;
    }
    stranger->len += (size_t)n;
    struct wire_frame frame;
    char text[WIRE_REFUSE_MAX + 1], why[STREAM_WHY];
    long len = wire_parse(stranger->buffer, stranger->len, &frame);
    if (len > 0 && !(frame.header.flags & WIRE_F_TLS) == stream_is_encrypted(&stranger->stream))
        len = -EPROTO;
    if (len > 0 && frame.header.command == WIRE_HELLO)
        stranger_adopt(stranger, &frame);
    else if (len > 0 && frame.header.command == WIRE_REFUSE) {
        wire_refusal(&frame, text);
        snprintf(why, sizeof why, "it refuses us: %.180s", text);
        refusal_log(stranger->proxy, stranger->from, why);
        stranger_free(stranger);
    } else if (len != 0 || stranger->len == sizeof stranger->buffer)
        stranger_free(stranger);
}

/* ---- joining the cluster ---- */

static void watch_set(struct stranger *stranger, bool out);

/* One line comes, and dvkd answers it. */
static void stranger_ask(struct stranger *stranger) {
    if (stranger->id) { /* its answer is awaited, and nothing from it: it has gone, or says too much */
        stranger_free(stranger);
        return;
    }
    ssize_t n = stream_read(&stranger->stream, stranger->text + stranger->text_len, JOIN_TEXT_MAX - stranger->text_len);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        stranger_free(stranger);
        return;
    }
    char *end = memchr(stranger->text + stranger->text_len, '\n', (size_t)n);
    stranger->text_len += (size_t)n;
    if (!end && stranger->text_len < JOIN_TEXT_MAX)
        return;
    stranger->id = ++stranger->proxy->last_join;
    stranger->until_ms = clock_ms() + JOIN_MS;
    if (!end || !control_join(stranger->proxy, stranger->id, stranger->from, stranger->text, (size_t)(end - stranger->text)))
        stranger_free(stranger);
}

static void answer_write(struct stranger *stranger) {
    while (stranger->text_at < stranger->text_len) {
        struct iovec part = {stranger->text + stranger->text_at, stranger->text_len - stranger->text_at};
        ssize_t n = stream_write(&stranger->stream, &part, 1);
        if (n < 0 && n != -EAGAIN) {
            stranger_free(stranger);
            return;
        }
        if (n < 0)
            break;
        stranger->text_at += (size_t)n;
    }
    if (stranger->text_at < stranger->text_len || stream_flush(&stranger->stream) < 0) {
        watch_set(stranger, true);
        return;
    }
    watch_set(stranger, false);
    stranger_leave(stranger);
}

void stranger_answer(struct proxy *proxy, uint64_t id, const char *text) {
    list_each(stranger, &proxy->strangers, struct stranger, link) {
        if (stranger->id != id || stranger->state != STRANGER_ASKING)
            continue;
        size_t len = strlen(text);
        char *copy = malloc(len + 1);
        if (!copy) {
            stranger_free(stranger);
            return;
        }
        memcpy(copy, text, len);
        copy[len] = '\n';
        free(stranger->text);
        stranger->text = copy;
        stranger->text_len = len + 1;
        stranger->text_at = 0;
        answer_write(stranger);
        return;
    }
}

/* ---- the way there ---- */

static void stranger_secured(struct stranger *stranger) {
    struct proxy *proxy = stranger->proxy;
    if (stream_is_join(&stranger->stream)) {
        stranger->text = malloc(JOIN_TEXT_MAX);
        stranger->state = STRANGER_ASKING;
        if (!stranger->text)
            stranger_free(stranger);
    } else if (proxy->clear) {
        stranger_refuse(stranger, "it encrypts, and this node runs with --clear",
                        "this node runs with --clear: it does not encrypt");
    } else {
        stranger->state = STRANGER_GREETING;
    }
}

static void stranger_secure(struct stranger *stranger) {
    int done = stream_handshake(&stranger->stream);
    if (done == 1) {
        watch_set(stranger, false);
        stranger_secured(stranger);
    } else if (done == 0) {
        watch_set(stranger, stream_wants_out(&stranger->stream));
    } else {
        stranger_refuse(stranger, stranger->stream.why, NULL);
    }
}

/* The first byte tells TLS from a clear hello. */
static void stranger_listen(struct stranger *stranger) {
    struct proxy *proxy = stranger->proxy;
    uint8_t first;
    int fd = stranger->stream.fd;
    ssize_t n = recv(fd, &first, 1, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stranger_free(stranger);
        return;
    }
    if (first == TLS_FIRST_BYTE && proxy->tls) {
        if (stream_begin(&stranger->stream, fd, proxy->tls, true) < 0) {
            stranger->stream.fd = fd;
            stranger_free(stranger);
            return;
        }
        stranger->state = STRANGER_SECURING;
        stranger_secure(stranger);
    } else if (!proxy->clear) {
        stranger_refuse(stranger, "it does not speak TLS (does it run with --clear?)",
                        "this node's connections are encrypted, yours is not (--clear)");
    } else if (first == TLS_FIRST_BYTE) {
        stranger_refuse(stranger, "it encrypts, and this node runs with --clear",
                        "this node runs with --clear: it does not encrypt");
    } else {
        stranger->state = STRANGER_GREETING;
        stranger_greet(stranger);
    }
}

/* It reads what we said; until it ends, or its time. */
static void stranger_drain(struct stranger *stranger) {
    uint8_t bytes[4096];
    ssize_t n = recv(stranger->stream.fd, bytes, sizeof bytes, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        stranger_free(stranger);
}

static void on_stranger(void *context, int fd, uint32_t events) {
    struct stranger *stranger = context;
    (void)fd;
    switch (stranger->state) {
    case STRANGER_SILENT:
        stranger_listen(stranger);
        break;
    case STRANGER_SECURING:
        stranger_secure(stranger);
        break;
    case STRANGER_GREETING:
        stranger_greet(stranger);
        break;
    case STRANGER_ASKING:
        if (stranger->text_at < stranger->text_len && events & EPOLLOUT)
            answer_write(stranger);
        else
            stranger_ask(stranger);
        break;
    case STRANGER_LEAVING:
        stranger_drain(stranger);
        break;
    }
}

static void watch_set(struct stranger *stranger, bool out) {
    /* what cannot be watched is given up when its time has passed */
    (void)dvk_watch_fd(stranger->proxy->dvk, stranger->stream.fd, EPOLLIN | (out ? EPOLLOUT : 0), on_stranger, stranger);
}

void on_listen(void *context, int fd, uint32_t events) {
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
    *stranger = (struct stranger){.proxy = proxy,
                                  .stream = {.fd = peer_fd},
                                  .from = from.sin_addr,
                                  .until_ms = clock_ms() + GREETING_MS};
    list_append(&proxy->strangers, &stranger->link);
    if (dvk_watch_fd(proxy->dvk, peer_fd, EPOLLIN, on_stranger, stranger) < 0)
        stranger_free(stranger);
}

void strangers_tick(struct proxy *proxy, int64_t now_ms) {
    list_each(stranger, &proxy->strangers, struct stranger, link) {
        if (now_ms > stranger->until_ms)
            stranger_free(stranger);
    }
}

void strangers_close(struct proxy *proxy) {
    struct stranger *stranger;
    while ((stranger = list_first(&proxy->strangers, struct stranger, link)))
        stranger_free(stranger);
}
