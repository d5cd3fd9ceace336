/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy of node 2 between a libdvk played here and two peers that write anything: node 3, which connects, and node 1, to
 * which it connects (over socket pairs, by fuzz_accept4 and fuzz_connect). Every request is answered exactly once.
 */
#include "common/log.h"
#include "dvk/broker.h"
#include "input.h"
#include "proxy/proxy.h"

#include <dvk/privilege.h>
#include <arpa/inet.h>
#include <dvk/error.h>
#include <dvk/migrate.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SELF 2u
#define WATCHES 256
#define TIMERS 256
#define CALLS 64
#define ENDS 8

int fuzz_accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags);
int fuzz_connect(int fd, const struct sockaddr *address, socklen_t len);

struct dvk {
    int unused;
};
static struct dvk the_dvk;
static struct proxy proxy;

static struct watch {
    int fd;
    uint32_t events;
    void (*fn)(void *context, int fd, uint32_t events);
    void *context;
} watches[WATCHES];
static struct timer {
    uint64_t id;
    void (*fn)(void *context);
    void *context;
} timers[TIMERS];
static uint64_t next_id;

struct local {
    struct dvk_request req;
    bool used, is_send;
    uint32_t revision; /* of its destination, as its source knows it */
    uint8_t data[512], reply[256];
};
static struct local locals[CALLS];
static struct {
    uint64_t id;
    dvk_done *done;
    void *context;
} calls[CALLS];

static struct wait {
    uint64_t id;
    dvk_relay_told *fn; /* NULL: none */
    void *context;
} waits[CALLS];

/* A peer's end of a connection. */
static struct end {
    int fd; /* -1: none */
    uint32_t node;
    uint64_t session, sequence; /* the proxy's session as it said; the last number that we used */
    uint8_t bytes[8192];
    size_t len;
    uint64_t tag; /* of the proxy's last request */
} ends[ENDS];
static int to_accept = -1;

/* ---- libdvk ---- */

int dvk_watch_fd(struct dvk *dvk, int fd, uint32_t events, void (*fn)(void *context, int fd, uint32_t events), void *context) {
    struct watch *free_one = NULL;
    for (int i = 0; i < WATCHES; i++) {
        if (watches[i].fd == fd && watches[i].fn) {
            watches[i] = events ? (struct watch){fd, events, fn, context} : (struct watch){0};
            return 0;
        }
        if (!watches[i].fn)
            free_one = &watches[i];
    }
    if (!events)
        return -ENOENT;
    MUST(free_one);
    *free_one = (struct watch){fd, events, fn, context};
    return 0;
}

int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id) {
    for (int i = 0; i < TIMERS; i++)
        if (!timers[i].id) {
            timers[i] = (struct timer){++next_id, fn, context};
            if (id)
                *id = next_id;
            return 0;
        }
    MUST(!"too many timers");
    return -ENOMEM;
}

int dvk_relay_privileges(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, const void *new, dvk_relay_privileges_told *fn,
                         void *context) {
    static const struct dvk_privileges all = DVK_PRIVILEGES_ALL;
    if (new)
        input_touch(new, sizeof(struct dvk_privileges));
    if (endpoint % 4 == 0)
        return -DVK_ENODAEMON;
    fn(context, endpoint % 4 == 1 ? -DVK_ENOTBOUND : 0, &all);
    return 0;
}
void dvk_timer_cancel(struct dvk *dvk, uint64_t id) {
    for (int i = 0; i < TIMERS; i++)
        if (timers[i].id == id)
            timers[i].id = 0;
}

void dvk_wake(struct dvk *dvk) {}
int dvk_control_reply(struct dvk *dvk, uint64_t id, const char *text) { return 0; }
int dvk_control_send(struct dvk *dvk, const char *text) { return 0; }
/* dvkd refuses some, tells some at once, and leaves the others until it goes or they are taken back. */
int dvk_relay_watch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t flags, dvk_relay_told *fn, void *context,
                    uint64_t *id) {
    int free_one = 0;
    while (free_one < CALLS && waits[free_one].fn)
        free_one++;
    if (endpoint % 4 == 0 || free_one == CALLS)
        return -DVK_ENOTBOUND;
    *id = ++next_id;
    if (endpoint % 4 == 1)
        fn(context, flags & DVK_BROKER_F_BOUND ? 0 : -DVK_EDEADDST, endpoint);
    else
        waits[free_one] = (struct wait){*id, fn, context};
    return 0;
}
static void wait_tell(int i, int status) {
    struct wait wait = waits[i];
    waits[i] = (struct wait){0};
    if (wait.fn)
        wait.fn(wait.context, status, DVK_NONE);
}
void dvk_relay_unwatch(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint64_t id) {
    for (int i = 0; i < CALLS; i++)
        if (waits[i].fn && waits[i].id == id)
            wait_tell(i, -DVK_EINTERRUPTED);
}
int dvk_relay_stats(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t question, dvk_relay_counted *fn, void *context) {
    static const uint8_t text[256];
    if (question % 4 == 0)
        return -ENOMEM;
    fn(context, question % 4 == 1 ? -DVK_ENODC : 0, text, question % sizeof text);
    return 0;
}
void dvk_relay_catch_up(struct dvk *dvk) {}
bool dvk_relay_is_send(const struct dvk_request *req) { return ((const struct local *)req)->is_send; }

static void answered(struct dvk_request *req) {
    struct local *local = (struct local *)req;
    MUST(local->used);
    local->used = false;
}
uint32_t dvk_relay_revision(const struct dvk_request *req) { return ((const struct local *)req)->revision; }
bool dvk_migrate_resumed(const struct dvk_request *req, uint64_t *key) {
    *key = 77;
    return ((const struct local *)req)->revision & 1;
}
void dvk_relay_moved(struct dvk *dvk, struct dvk_request *req, uint32_t revision) { answered(req); }
void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *fds, unsigned fd_count) {
    MUST(reply->data_len <= req->reply_cap);
    answered(req);
}
void dvk_reply_error(struct dvk *dvk, struct dvk_request *req, int error) {
    MUST(error < 0);
    answered(req);
}

static int call_as(const struct dvk_message *message, const void *data, size_t data_len, dvk_done *done, void *context, uint64_t *call) {
    input_touch(data, data_len);
    MUST(message->data_len == data_len && message->source != DVK_NONE);
    for (int i = 0; i < CALLS; i++)
        if (!calls[i].id) {
            *call = calls[i].id = ++next_id;
            calls[i].done = done;
            calls[i].context = context;
            return 0;
        }
    return -ENOMEM;
}
int dvk_call_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call) {
    return call_as(message, data, data_len, done, context, call);
}
int dvk_send_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call) {
    return call_as(message, data, data_len, done, context, call);
}

static void call_end(int i, int status) {
    static const uint8_t data[64];
    struct dvk_message reply = {.data_len = status ? 0 : sizeof data};
    if (!calls[i].id)
        return;
    calls[i].id = 0;
    calls[i].done(calls[i].context, status, &reply, data, reply.data_len, NULL, 0);
}

int dvk_cancel(struct dvk *dvk, uint64_t call) {
    return 0; /* `done` comes when the input says so */
}

/* ---- the network ---- */

static struct end *end_new(uint32_t node, int *theirs) {
    int pair[2];
    for (int i = 0; i < ENDS; i++)
        if (ends[i].fd < 0) {
            MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
            ends[i] = (struct end){.fd = pair[0], .node = node};
            *theirs = pair[1];
            return &ends[i];
        }
    return NULL;
}

int fuzz_connect(int fd, const struct sockaddr *address, socklen_t len) {
    int theirs;
    if (!end_new(1, &theirs)) {
        errno = ECONNREFUSED;
        return -1;
    }
    MUST(dup3(theirs, fd, O_CLOEXEC) == fd);
    close(theirs);
    return 0;
}

int fuzz_accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(address, &from, sizeof from);
    int accepted = to_accept;
    to_accept = -1;
    if (accepted < 0)
        errno = EAGAIN;
    return accepted;
}

static void arrive(void) {
    if (to_accept < 0 && end_new(3, &to_accept))
        for (int i = 0; i < WATCHES; i++)
            if (watches[i].fn && watches[i].fd == proxy.listen_fd) {
                watches[i].fn(watches[i].context, proxy.listen_fd, EPOLLIN);
                return;
            }
}

static void end_close(struct end *end) {
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
}

/* What the proxy writes is always well-formed. */
static void end_read(struct end *end) {
    ssize_t n;
    while (end->fd >= 0 && (n = recv(end->fd, end->bytes + end->len, sizeof end->bytes - end->len, 0)) > 0) {
        size_t at = 0;
        end->len += (size_t)n;
        for (;;) {
            struct wire_frame frame;
            long len = wire_parse(end->bytes + at, end->len - at, &frame);
            MUST(len >= 0);
            if (len == 0)
                break;
            if (frame.header.command == WIRE_HELLO) {
                struct wire_hello hello;
                wire_hello(&frame, &hello);
                end->session = hello.session;
                end->sequence = 0;
            } else if (frame.header.command == WIRE_REQUEST || frame.header.command == WIRE_SEND)
                end->tag = frame.header.tag;
            at += (size_t)len;
        }
        memmove(end->bytes, end->bytes + at, end->len - at);
        end->len -= at;
    }
}

static void run(void) {
    for (int turns = 0; turns < 4; turns++) {
        for (int i = 0; i < WATCHES; i++) {
            struct watch watch = watches[i];
            if (!watch.fn || watch.fd == proxy.listen_fd)
                continue;
            struct pollfd state = {.fd = watch.fd, .events = (short)watch.events};
            if (poll(&state, 1, 0) > 0)
                watch.fn(watch.context, watch.fd, (uint32_t)state.revents);
        }
        peers_read(&proxy);
        peers_flush(&proxy);
        for (int i = 0; i < ENDS; i++)
            end_read(&ends[i]);
    }
}

/* ---- what peers write ---- */

static void put(struct end *end, const void *bytes, size_t len) {
    if (end->fd >= 0)
        (void)send(end->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void frame_write(struct input *in, struct end *end) {
    struct {
        struct wire_header header;
        uint8_t body[sizeof(struct dvk_message) + 256];
    } frame = {0};
    uint8_t kind = input_byte(in), how = input_byte(in);
    struct wire_header *header = &frame.header;
    size_t len = 0;
    header->command = kind % 8 < 7 ? kind % 8 : WIRE_REFUSE;
    header->acknowledged = how & 1 ? input_u64(in) : input_byte(in);
    header->tag = how & 2 ? end->tag : input_byte(in);
    header->dc = how & 4 ? input_u16(in) : 1;
    header->status = how & 8 ? -(int32_t)input_byte(in) : 0;
    if (header->command == WIRE_HELLO) {
        struct wire_hello hello = {.node = kind & 0x80 ? input_byte(in) : end->node, .session = 1 + input_byte(in) % 3};
        hello.peer_session = how & 0x10 ? end->session : input_byte(in);
        hello.received = how & 0x20 ? input_u64(in) : input_byte(in);
        header->flags = how & 0x40 ? WIRE_F_RESUME : 0;
        strcpy(hello.cluster, "c");
        memcpy(frame.body, &hello, len = sizeof hello);
        end->sequence = how & 0x80 ? input_byte(in) : 0;
    } else if (header->command == WIRE_REFUSE) {
        memset(frame.body, input_byte(in), len = input_byte(in));
    } else if (header->command != WIRE_ACK && header->command != WIRE_CANCEL) {
        struct dvk_message message = {.type = 5};
        message.source = how & 0x10 ? input_u64(in) : dvk_endpoint_make(1, 100);
        message.destination = dvk_endpoint_make(2, 64u + input_byte(in));
        message.data_len = input_byte(in);
        message.notify = how & 0x20 ? input_byte(in) : 0;
        memcpy(frame.body, &message, sizeof message);
        len = sizeof message + message.data_len;
    }
    if (header->command != WIRE_HELLO && header->command != WIRE_ACK && header->command != WIRE_REFUSE)
        header->sequence = how & 0x40 ? input_u64(in) : ++end->sequence;
    uint8_t packed[sizeof frame.body];
    size_t packed_len = kind & 0x40 ? wire_pack(frame.body, len, packed, sizeof packed) : 0;
    if (packed_len) {
        memcpy(frame.body, packed, len = packed_len);
        header->flags |= WIRE_F_LZ4;
    }
    wire_seal(header, frame.body, len);
    put(end, &frame, sizeof *header + len);
}

/* ---- what happens on this node ---- */

static void local_request(struct input *in) {
    uint8_t how = input_byte(in);
    for (int i = 0; i < CALLS; i++) {
        struct local *local = &locals[i];
        if (local->used)
            continue;
        memset(local, 0, sizeof *local);
        local->used = true;
        local->is_send = how & 1;
        local->revision = how & 0x80 ? how >> 4 & 7u : 0;
        local->req = (struct dvk_request){.dc = 1, .data = local->data, .reply_data = local->reply, .reply_cap = sizeof local->reply,
                                          .wants_reply = true, .local = true, .source_node = SELF};
        local->req.msg.source = dvk_endpoint_make(1, 70);
        local->req.msg.destination = how & 2 ? dvk_endpoint_make(1, 64u + input_byte(in)) : dvk_service_endpoint(how & 4 ? 1 : 3, 1);
        local->req.msg.data_len = input_byte(in);
        traffic_request(&proxy, &local->req);
        return;
    }
}

static void event(uint32_t type, uint32_t node, dvk_endpoint endpoint) {
    struct dvk_event what = {.type = (enum dvk_event_type)type, .dc = 1, .node = node, .endpoint = endpoint, .text = "127.0.0.1:9"};
    traffic_event(&proxy, &what);
}

static void act(struct input *in) {
    uint8_t op = input_byte(in), which = input_byte(in), *raw;
    struct end *end = &ends[which % ENDS];
    struct local *local = &locals[which % CALLS];
    size_t len;
    switch (op % 16) {
    case 0:
        arrive();
        break;
    case 1:
        raw = (uint8_t *)(uintptr_t)input_bytes(in, which, &len);
        put(end, raw, len);
        break;
    case 2:
        end_close(end);
        break;
    case 3:
        if (local->used && !local->req.cancelled) {
            local->req.cancelled = true;
            traffic_cancelled(&proxy, &local->req);
        }
        break;
    case 4:
        call_end(which % CALLS, op & 0x80 ? -DVK_EDEADDST : 0);
        break;
    case 5:
        if (timers[which % 8].id) {
            struct timer timer = timers[which % 8];
            timers[which % 8].id = 0;
            timer.fn(timer.context);
        }
        break;
    case 6:
        event(op & 0x80 ? DVK_EVENT_NODE_UP : DVK_EVENT_NODE_DOWN, which % 4, 0);
        break;
    case 7:
        event(op & 0x80 ? DVK_EVENT_ROUTE : DVK_EVENT_DC_GONE, which % 4, dvk_endpoint_make(1, 64u + which / 4));
        break;
    case 11:
        wait_tell(which % CALLS, op & 0x80 ? -DVK_EDEADDST : 0);
        break;
    case 8:
    case 9:
    case 10:
        local_request(in);
        break;
    default:
        frame_write(in, end);
    }
    run();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    memset(watches, 0, sizeof watches);
    memset(timers, 0, sizeof timers);
    memset(locals, 0, sizeof locals);
    memset(calls, 0, sizeof calls);
    memset(waits, 0, sizeof waits);
    proxy = (struct proxy){.dvk = &the_dvk, .node = SELF, .cluster = "c", .clear = true, .listen_fd = -1};
    MUST(address_parse("127.0.0.1:0", &proxy.listen_address) == 0);
    list_init(&proxy.peers);
    list_init(&proxy.strangers);
    list_init(&proxy.dirty);
    list_init(&proxy.unread);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&proxy.hints[i]);
    for (int i = 0; i < ENDS; i++)
        ends[i].fd = -1;
    MUST(peers_listen(&proxy) == 0);
    peers_tick(&proxy);
    event(DVK_EVENT_NODE_UP, 1, 0);
    event(DVK_EVENT_NODE_UP, 3, 0);
    arrive();
    run();
    for (unsigned steps = 0; in.left && steps < 200; steps++)
        act(&in);
    peers_close(&proxy);
    for (int i = 0; i < CALLS; i++) {
        MUST(!locals[i].used); /* all were answered, at the latest when their peers were lost */
        call_end(i, -DVK_EDEADDST);
        wait_tell(i, -DVK_EDEADDST);
    }
    event(DVK_EVENT_DC_GONE, 0, 0);
    for (unsigned i = 0; i < BUCKETS; i++)
        MUST(list_is_empty(&proxy.hints[i]));
    for (int i = 0; i < ENDS; i++)
        end_close(&ends[i]);
    if (to_accept >= 0)
        close(to_accept);
    to_accept = -1;
    free(proxy.pendings);
    free(proxy.generations);
    free(proxy.free_list);
    return 0;
}
