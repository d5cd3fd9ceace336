/* SPDX-License-Identifier: Apache-2.0 */
/* Packets to and from dvkd. */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

void close_fds(int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

void packet_clear(struct packet *packet) {
    free(packet->text);
    packet->text = NULL;
    close_fds(packet->fds, packet->fd_count);
    packet->fd_count = 0;
}

static void packet_free(struct packet *packet) {
    list_remove(&packet->link);
    packet_clear(packet);
    free(packet);
}

/* 0, -EAGAIN or another negative errno. */
static int packet_write(int fd, const struct dvk_broker_packet *head, const char *text, const int *fds,
                        unsigned fd_count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    } control;
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)head, .iov_len = sizeof *head},
        {.iov_base = (void *)(uintptr_t)text, .iov_len = head->text_len},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = head->text_len ? 2 : 1};
    if (fd_count) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

void broker_flush(struct dvk *dvk) {
    list_each(packet, &dvk->outgoing, struct packet, link) {
        int error = packet_write(dvk->broker_fd, &packet->head, packet->text, packet->fds, packet->fd_count);
        if (error == -EAGAIN)
            return;
        packet_free(packet);
        if (error < 0) {
            broker_fail(dvk);
            return;
        }
    }
    if (!dvk->broker_gone)
        (void)poller_watch_broker(dvk, false);
}

int broker_send_bytes(struct dvk *dvk, struct dvk_broker_packet *head, const void *bytes, size_t text_len, const int *fds,
                      unsigned fd_count) {
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    head->magic = DVK_BROKER_MAGIC;
    head->version = DVK_BROKER_VERSION;
    const char *text = bytes;
    if (text_len > DVK_BROKER_TEXT_MAX)
        return -EMSGSIZE;
    head->text_len = (uint32_t)text_len;
    if (list_is_empty(&dvk->outgoing)) {
        int error = packet_write(dvk->broker_fd, head, text, fds, fd_count);
        if (error == 0)
            return 0;
        if (error != -EAGAIN) {
            broker_fail(dvk);
            return -DVK_ENODAEMON;
        }
    }
    struct packet *packet = calloc(1, sizeof *packet);
    if (!packet)
        return -ENOMEM;
    list_init(&packet->link);
    packet->head = *head;
    packet->text = text_len ? malloc(text_len) : NULL;
    if (packet->text)
        memcpy(packet->text, text, text_len);
    for (; packet->fd_count < fd_count; packet->fd_count++) {
        int fd = fcntl(fds[packet->fd_count], F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            break;
        packet->fds[packet->fd_count] = fd;
    }
    if ((text_len && !packet->text) || packet->fd_count < fd_count) {
        packet_free(packet);
        return -ENOMEM;
    }
    list_append(&dvk->outgoing, &packet->link);
    return poller_watch_broker(dvk, true);
}

int broker_send(struct dvk *dvk, struct dvk_broker_packet *head, const char *text, const int *fds, unsigned fd_count) {
    return broker_send_bytes(dvk, head, text, text ? strlen(text) : 0, fds, fd_count);
}

int broker_ask_with(struct dvk *dvk, struct dvk_broker_packet *head, const void *bytes, size_t len,
                    void (*answered)(struct dvk *, struct awaited *, struct packet *), void *a, void *b) {
    struct awaited *awaited = calloc(1, sizeof *awaited);
    if (!awaited)
        return -ENOMEM;
    head->id = awaited->id = ++dvk->next_id;
    awaited->answered = answered;
    awaited->a = a;
    awaited->b = b;
    list_append(&dvk->awaited, &awaited->link);
    int error = broker_send_bytes(dvk, head, bytes, len, NULL, 0);
    if (error < 0) {
        /* broker_fail may have answered it already; only an entry that is still listed is ours to free */
        list_each(a2, &dvk->awaited, struct awaited, link) {
            if (a2 == awaited) {
                list_remove(&awaited->link);
                free(awaited);
                return error;
            }
        }
        return 0;
    }
    return 0;
}

int broker_ask(struct dvk *dvk, struct dvk_broker_packet *head,
               void (*answered)(struct dvk *, struct awaited *, struct packet *), void *a, void *b) {
    return broker_ask_with(dvk, head, NULL, 0, answered, a, b);
}

static void answered_discard(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    (void)dvk, (void)awaited, (void)packet;
}

static void answered_wait(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    (void)dvk;
    struct packet *answer = awaited->a;
    answer->head = packet->head;
    answer->text = packet->text;
    memcpy(answer->fds, packet->fds, sizeof answer->fds);
    answer->fd_count = packet->fd_count;
    packet->text = NULL;
    packet->fd_count = 0;
    *(bool *)awaited->b = true;
}

int broker_ask_bytes(struct dvk *dvk, struct dvk_broker_packet *head, const void *bytes, size_t len, const int *fds,
                    unsigned fd_count, struct packet *answer, int64_t deadline) {
    bool done = false;
    memset(answer, 0, sizeof *answer);
    struct awaited *awaited = calloc(1, sizeof *awaited);
    if (!awaited)
        return -ENOMEM;
    uint64_t id = ++dvk->next_id;
    head->id = awaited->id = id;
    awaited->answered = answered_wait;
    awaited->a = answer;
    awaited->b = &done;
    list_append(&dvk->awaited, &awaited->link);
    (void)broker_send_bytes(dvk, head, bytes, len, fds, fd_count); /* a failure shows as broker_gone or as a timeout */
    for (;;) {
        broker_drain(dvk);
        if (done)
            return answer->head.status < 0 ? answer->head.status : 0;
        if (dvk->broker_gone || now_ns() >= deadline)
            break;
        broker_wait(dvk, deadline);
    }
    list_each(a, &dvk->awaited, struct awaited, link) {
        if (a->id != id)
            continue;
        a->answered = answered_discard; /* comes late */
        if (dvk->broker_gone) {         /* or never: it was gone before we asked */
            list_remove(&a->link);
            free(a);
        }
    }
    return -DVK_ENODAEMON;
}

int broker_ask_text(struct dvk *dvk, struct dvk_broker_packet *head, const char *text, const int *fds, unsigned fd_count,
                    struct packet *answer, int64_t deadline) {
    return broker_ask_bytes(dvk, head, text, text ? strlen(text) : 0, fds, fd_count, answer, deadline);
}

int broker_ask_wait(struct dvk *dvk, struct dvk_broker_packet *head, const int *fds, unsigned fd_count,
                    struct packet *answer, int64_t deadline) {
    return broker_ask_bytes(dvk, head, NULL, 0, fds, fd_count, answer, deadline);
}

void broker_wait(struct dvk *dvk, int64_t deadline) {
    if (dvk->broker_gone)
        return;
    struct pollfd p = {.fd = dvk->broker_fd, .events = POLLIN};
    if (!list_is_empty(&dvk->outgoing))
        p.events |= POLLOUT;
    int timeout_ms = -1;
    if (deadline != INT64_MAX) {
        int64_t left = (deadline - now_ns() + NS_PER_MS - 1) / NS_PER_MS;
        timeout_ms = left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
    }
    if (poll(&p, 1, timeout_ms) > 0 && (p.revents & POLLOUT))
        broker_flush(dvk);
}

void broker_event(struct dvk *dvk, const struct dvk_broker_packet *head) {
    struct packet *packet = calloc(1, sizeof *packet);
    if (!packet)
        return; /* an event is lost when there is no memory for it */
    packet->head = *head;
    list_append(&dvk->events, &packet->link);
}

/* Somebody connected to us, or a peer that we know has one more endpoint. */
static void handle_channel(struct dvk *dvk, struct packet *packet) {
    struct channel *channel = channel_find(dvk, packet->head.channel);
    if (!channel && packet->fd_count == 3) {
        struct channel_fds fds = {packet->fds[0], packet->fds[1], packet->fds[2]};
        packet->fd_count = 0;
        if (channel_attach(dvk, packet->head.channel, packet->head.dc, (int)packet->head.side,
                           packet->head.flags & DVK_BROKER_F_PROXY, false, &fds, &channel) < 0) {
            struct dvk_broker_packet closed = {.type = DVK_BROKER_CHANNEL_CLOSED, .channel = packet->head.channel};
            (void)broker_send(dvk, &closed, NULL, NULL, 0);
            return;
        }
    }
    if (!channel)
        return;
    channel->place = packet->head.place;
    if (packet->head.peer != DVK_NONE && (channel_peer_add(channel, packet->head.peer) < 0 ||
                                          privilege_peer_told(channel, packet->head.peer, packet) < 0)) {
        channel_close(dvk, channel, -DVK_EDEADDST, true, false);
        return;
    }
    receive_mark_more(dvk, channel);
    if (packet->head.node) /* where the destination lives: for a relay, see broker_run_events */
        broker_event(dvk, &packet->head);
}

/* Returns true when the packet was kept (as an event). */
static bool packet_handle(struct dvk *dvk, struct packet *packet) {
    struct dvk_broker_packet *head = &packet->head;
    if (head->type & DVK_BROKER_ANSWER) {
        list_each(awaited, &dvk->awaited, struct awaited, link) {
            if (awaited->id != head->id)
                continue;
            list_remove(&awaited->link);
            awaited->answered(dvk, awaited, packet);
            free(awaited);
            break;
        }
        return false;
    }
    switch (head->type) {
    case DVK_BROKER_CHANNEL:
        handle_channel(dvk, packet);
        return false;
    case DVK_BROKER_CHANNEL_GONE: {
        struct channel *channel = channel_find(dvk, head->channel);
        if (channel) {
            channel->ended = true;
            channel_close(dvk, channel, head->status < 0 ? head->status : channel->gone_status, false, true);
        }
        return false;
    }
    case DVK_BROKER_DC_GONE:
        own_forget_dc(dvk, head->dc);
        list_append(&dvk->events, &packet->link);
        return true;
    case DVK_BROKER_PRIVILEGES:
        privilege_told(dvk, packet);
        return false;
    case DVK_BROKER_GRANT_MADE:
    case DVK_BROKER_GRANT_GONE:
        if (dvk->on_grant)
            dvk->on_grant(dvk->on_grant_context, head, packet->text, packet->fds, packet->fd_count);
        else if (head->type == DVK_BROKER_GRANT_GONE)
            vcopy_grant_gone(dvk, head);
        return false;
    case DVK_BROKER_FROZEN:
    case DVK_BROKER_MOVED:
    case DVK_BROKER_PROMOTED:
    case DVK_BROKER_SPARE_GONE:
        return migrate_packet(dvk, packet);
    case DVK_BROKER_NODE:
    case DVK_BROKER_CONTROL:
    case DVK_BROKER_SLOTS_TABLE:
    case DVK_BROKER_SLOTS_WANTED:
    case DVK_BROKER_SLOTS_SETTLED:
    case DVK_BROKER_SLOTS_ENDED:
        list_append(&dvk->events, &packet->link);
        return true;
    case DVK_BROKER_SERVICE_EVENT:
        return service_event(dvk, packet);
    default: /* of a later version */
        return false;
    }
}

void broker_fail(struct dvk *dvk) {
    if (dvk->broker_gone)
        return;
    dvk->broker_gone = true;
    if (dvk->epoll_fd >= 0)
        (void)epoll_ctl(dvk->epoll_fd, EPOLL_CTL_DEL, dvk->broker_fd, NULL);
    struct awaited *awaited;
    while ((awaited = list_first(&dvk->awaited, struct awaited, link))) {
        struct packet none = {.head = {.type = DVK_BROKER_ANSWER, .status = -DVK_ENODAEMON}};
        list_remove(&awaited->link);
        awaited->answered(dvk, awaited, &none);
        packet_clear(&none);
        free(awaited);
    }
    poller_bell(dvk);
}

/* Read one packet: 1, 0 when there is none, negative when dvkd is gone or speaks nonsense. */
static int packet_read(struct dvk *dvk, struct packet **out) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DVK_MESSAGE_FDS)];
    } control;
    struct dvk_broker_packet head;
    struct iovec iov[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = dvk->packet_buffer, .iov_len = DVK_BROKER_TEXT_MAX},
    };
    struct msghdr msg = {
        .msg_iov = iov, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(dvk->broker_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (n == 0)
        return -DVK_ENODAEMON;
    struct packet *packet = calloc(1, sizeof *packet);
    if (!packet)
        return -ENOMEM;
    list_init(&packet->link);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            unsigned count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            if (packet->fd_count + count > DVK_MESSAGE_FDS)
                count = DVK_MESSAGE_FDS - packet->fd_count;
            memcpy(packet->fds + packet->fd_count, CMSG_DATA(c), count * sizeof(int));
            packet->fd_count += count;
        }
    packet->head = head;
    if ((size_t)n < sizeof head || head.magic != DVK_BROKER_MAGIC || head.version != DVK_BROKER_VERSION ||
        head.text_len != (size_t)n - sizeof head || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        int error = (size_t)n >= sizeof head && head.magic == DVK_BROKER_MAGIC && head.version != DVK_BROKER_VERSION
                        ? -DVK_EVERSION
                        : -EPROTO;
        packet_clear(packet);
        free(packet);
        return error;
    }
    if (head.text_len) {
        packet->text = malloc(head.text_len + 1);
        if (!packet->text) {
            packet_clear(packet);
            free(packet);
            return -ENOMEM;
        }
        memcpy(packet->text, dvk->packet_buffer, head.text_len);
        packet->text[head.text_len] = 0;
    }
    *out = packet;
    return 1;
}

void broker_drain(struct dvk *dvk) {
    while (!dvk->broker_gone) {
        struct packet *packet = NULL;
        int n = packet_read(dvk, &packet);
        if (n == 0)
            return;
        if (n < 0) {
            if (n == -DVK_EVERSION)
                dvk->broker_error = n;
            broker_fail(dvk);
            return;
        }
        if (!packet_handle(dvk, packet)) {
            packet_clear(packet);
            free(packet);
        }
    }
}

static void guest_told(struct packet *packet) {
    dvk_guest_done *done = (dvk_guest_done *)packet->fn;
    int status = packet->head.status < 0 ? packet->head.status : 0;
    if (status == 0 && packet->fd_count == 2) {
        done(packet->context, 0, packet->head.endpoint, packet->fds[0], packet->fds[1]);
        packet->fd_count = 0; /* the callee's */
    } else
        done(packet->context, status ? status : -ENOMEM, packet->head.endpoint, -1, -1);
}

bool broker_run_events(struct dvk *dvk) {
    bool any = false;
    struct packet *packet;
    while ((packet = list_first(&dvk->events, struct packet, link))) {
        any = true;
        list_remove(&packet->link);
        struct dvk_broker_packet *head = &packet->head;
        struct dvk_event event = {.dc = head->dc, .node = head->node, .text = packet->text};
        for (unsigned i = 0; i < DVK_MESSAGE_FDS; i++)
            event.fds[i] = -1;
        switch (head->type) {
        case DVK_BROKER_ANSWER | DVK_BROKER_GUEST_BIND:
            guest_told(packet);
            break;
        case DVK_BROKER_CHANNEL_GONE:
            event.type = DVK_EVENT_ENDPOINT_GONE;
            event.endpoint = head->peer;
            break;
        case DVK_BROKER_CHANNEL:
            event.type = dvk->relay ? DVK_EVENT_ROUTE : (enum dvk_event_type)0;
            event.endpoint = head->endpoint;
            event.id = head->id;
            break;
        case DVK_BROKER_NODE:
            event.type = head->flags & DVK_BROKER_F_UP ? DVK_EVENT_NODE_UP : DVK_EVENT_NODE_DOWN;
            break;
        case DVK_BROKER_DC_GONE:
            event.type = DVK_EVENT_DC_GONE;
            break;
        case DVK_BROKER_FROZEN:
        case DVK_BROKER_PROMOTED:
        case DVK_BROKER_SPARE_GONE:
            event.type = head->type == DVK_BROKER_FROZEN     ? DVK_EVENT_MIGRATE_ENDED
                         : head->type == DVK_BROKER_PROMOTED ? DVK_EVENT_PROMOTED
                                                             : DVK_EVENT_BACKUP_GONE;
            event.endpoint = head->endpoint;
            event.id = head->id;
            break;
        case DVK_BROKER_SLOTS_TABLE:
        case DVK_BROKER_SLOTS_WANTED:
        case DVK_BROKER_SLOTS_SETTLED:
        case DVK_BROKER_SLOTS_ENDED:
            slots_event(dvk, packet);
            break;
        case DVK_BROKER_ANSWER | DVK_BROKER_WATCH:
            detector_run(dvk, head);
            break;
        case DVK_BROKER_SERVICE_EVENT:
            (void)service_run_event(dvk, packet, &event);
            break;
        case DVK_BROKER_CONTROL:
            event.type = DVK_EVENT_CONTROL;
            event.id = head->id;
            event.text = packet->text ? packet->text : "";
            event.fd_count = packet->fd_count;
            memcpy(event.fds, packet->fds, packet->fd_count * sizeof(int));
            break;
        default:
            break;
        }
        if (event.type && dvk->on_event) {
            if (event.fd_count)
                packet->fd_count = 0; /* the callee's */
            dvk->on_event(dvk->on_event_context, &event);
        }
        packet_clear(packet);
        free(packet);
    }
    return any;
}

int dvk_control_reply(struct dvk *dvk, uint64_t id, const char *text) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_CONTROL_REPLY, .id = id};
    return broker_send(dvk, &head, text, NULL, 0);
}

int dvk_control_send(struct dvk *dvk, const char *text) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_CONTROL_SEND};
    return broker_send(dvk, &head, text, NULL, 0);
}

void dvk_on_event(struct dvk *dvk, void (*fn)(void *context, const struct dvk_event *event), void *context) {
    dvk->on_event = fn;
    dvk->on_event_context = context;
}
