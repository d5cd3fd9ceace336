/* SPDX-License-Identifier: Apache-2.0 */
/* How packets travel between the broker and its clients. */
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct output_packet {
    struct list link;
    size_t len;
    unsigned fd_count;
    int fds[DVK_MESSAGE_FDS]; /* ours */
    char bytes[];
};

static void output_free(struct client *client, struct output_packet *output) {
    for (unsigned i = 0; i < output->fd_count; i++)
        close(output->fds[i]);
    list_remove(&output->link);
    client->output_count--;
    client->output_bytes -= output->len;
    free(output);
}

static void close_timer_fn(void *context) {
    struct client *client = context;
    client->close_timer = NULL;
    client_close(client);
}

/* Callers may be in the middle of work on this client: it is closed by the next round of the loop. */
static void close_soon(struct client *client) {
    if (client->closing)
        return;
    client->closing = true;
    if (loop_timer_add(client->broker->loop, 0, close_timer_fn, client, &client->close_timer) < 0)
        log_error("no memory to close a client");
}

void client_violation(struct client *client, const char *what) {
    record_text(RECORD_CLIENT_VIOLATION, client->context->dc, 1, (uint64_t)client->pid, 0, what);
    log_warning("client (pid %d) broke the protocol: %s; it is dropped", (int)client->pid, what);
    close_soon(client);
}

/* One sendmsg. 0, -EAGAIN, or another negative errno. */
static int send_packet(int fd, const struct iovec *parts, int part_count, const int *fds, unsigned fd_count) {
    union {
        char space[CMSG_SPACE(DVK_MESSAGE_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)part_count};
    if (fd_count) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    /* ETOOMANYREFS: too many descriptors in flight (unix(7)); it passes as the receiver reads */
    return errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -errno;
}

static void queue_packet(struct client *client, const struct iovec *parts, int part_count, const int *fds,
                         unsigned fd_count) {
    size_t len = parts[0].iov_len + (part_count > 1 ? parts[1].iov_len : 0);
    /* what the copier gets is bounded by what the others may grant */
    bool bounded = client->context->role != CONTEXT_COPIER;
    if ((bounded && client->output_count >= CLIENT_QUEUE_MAX) || (bounded && client->output_bytes + len > CLIENT_QUEUE_BYTES_MAX)) {
        client_violation(client, "it does not read its packets");
        return;
    }
    struct output_packet *output = malloc(sizeof *output + len);
    if (!output) {
        close_soon(client);
        return;
    }
    *output = (struct output_packet){.len = len};
    memcpy(output->bytes, parts[0].iov_base, parts[0].iov_len);
    if (part_count > 1)
        memcpy(output->bytes + parts[0].iov_len, parts[1].iov_base, parts[1].iov_len);
    list_append(&client->output, &output->link);
    client->output_count++;
    client->output_bytes += len;
    for (unsigned i = 0; i < fd_count; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (copy < 0) {
            log_error("cannot keep a descriptor for a client (pid %d): %m", (int)client->pid);
            close_soon(client);
            return;
        }
        output->fds[output->fd_count++] = copy;
    }
    loop_fd_set(client->watch, EPOLLIN | EPOLLOUT);
}

void client_send(struct client *client, const struct dvk_broker_packet *packet, const char *text, const int *fds,
                 unsigned fd_count) {
    if (client->closing)
        return;
    client->broker->stats.packets_out++;
    struct dvk_broker_packet header = *packet;
    header.magic = DVK_BROKER_MAGIC;
    header.version = DVK_BROKER_VERSION;
    struct iovec parts[2] = {{&header, sizeof header}, {(char *)text, header.text_len}};
    int part_count = header.text_len ? 2 : 1;
    int result = list_empty(&client->output) && !(fault_at(FAULT_BROKER_SEND) & FAULT_FULL)
                     ? send_packet(client->fd, parts, part_count, fds, fd_count)
                     : -EAGAIN;
    if (result == -EAGAIN)
        queue_packet(client, parts, part_count, fds, fd_count);
    else if (result < 0)
        close_soon(client);
}

struct dvk_broker_packet client_answer(const struct dvk_broker_packet *request, int status) {
    return (struct dvk_broker_packet){
        .type = request->type | DVK_BROKER_ANSWER, .id = request->id, .dc = request->dc, .status = status};
}

static void flush_output(struct client *client) {
    struct output_packet *output;
    while ((output = list_first(&client->output, struct output_packet, link))) {
        struct iovec part = {output->bytes, output->len};
        int result = send_packet(client->fd, &part, 1, output->fds, output->fd_count);
        if (result == -EAGAIN)
            return;
        if (result < 0) {
            close_soon(client);
            return;
        }
        output_free(client, output);
    }
    loop_fd_set(client->watch, EPOLLIN);
    privileges_flushed(client);
}

/* Take one packet and hand it on. False when there is none. */
static bool receive_packet(struct client *client) {
    static char buffer[sizeof(struct dvk_broker_packet) + DVK_BROKER_TEXT_MAX + 1];
    union {
        char space[CMSG_SPACE(DVK_MESSAGE_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec part = {buffer, sizeof buffer - 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return errno == EINTR;
    if (n <= 0) {
        close_soon(client);
        return false;
    }
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count = 0;
    client->sender = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(header), sizeof sender);
            client->sender = sender.pid;
        }
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < count && fd_count < DVK_MESSAGE_FDS; i++)
            memcpy(&fds[fd_count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
    struct dvk_broker_packet packet;
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        client_violation(client, "a packet is too long");
    } else if ((size_t)n < sizeof packet) {
        client_violation(client, "a packet is too short");
    } else {
        memcpy(&packet, buffer, sizeof packet);
        buffer[n] = 0;
        if (packet.magic != DVK_BROKER_MAGIC || packet.text_len > DVK_BROKER_TEXT_MAX ||
            (size_t)n != sizeof packet + packet.text_len)
            client_violation(client, "a packet's header is wrong");
        else
            broker_packet(client, &packet, buffer + sizeof packet, fds, fd_count);
    }
    for (unsigned i = 0; i < fd_count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return !client->closing;
}

static void on_client(void *context, int fd, uint32_t events) {
    struct client *client = context;
    if (events & EPOLLOUT)
        flush_output(client);
    /* a bounded number a round, so that a busy client does not keep the others waiting */
    for (int i = 0; i < 64 && !client->closing; i++)
        if (!receive_packet(client))
            return;
}

int broker_adopt(struct broker *broker, int fd, enum context_role role, uint32_t dc, struct client **out) {
    cleanup_close int socket_fd = fd;
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    *client = (struct client){.broker = broker, .fd = socket_fd, .stats_fd = -1};
    list_init(&client->output);
    list_init(&client->controls);
    list_init(&client->watches);
    grants_client_init(client);
    list_init(&client->unflushed);
    int flags = fcntl(fd, F_GETFL), size = 1 << 20;
    struct ucred peer;
    socklen_t peer_len = sizeof peer;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int result = -errno;
        free(client);
        return result;
    }
    /* who sends each packet: grants need it, and are refused without */
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0)
        log_warning("SO_PASSCRED: %m");
    /* room for the longest text; more is a convenience, so a refusal does not matter */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        log_debug("SO_SNDBUFFORCE: %m");
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0)
        client->pid = peer.pid;
    client->context = registry_context_add(&broker->registry, role, dc, client);
    int result = client->context ? loop_fd_add(broker->loop, fd, EPOLLIN, on_client, client, &client->watch) : -ENOMEM;
    if (result < 0) {
        if (client->context)
            registry_context_remove(&broker->registry, client->context);
        free(client);
        return result;
    }
    steal_fd(&socket_fd);
    list_append(&broker->clients, &client->link);
    record(RECORD_CLIENT_OPEN, dc, client->context->id, (uint64_t)client->pid, role);
    if (out)
        *out = client;
    return 0;
}

void client_close(struct client *client) {
    if (!client)
        return;
    struct broker *broker = client->broker;
    struct context *context = client->context;
    client->closing = true;
    record(RECORD_CLIENT_CLOSE, context->dc, context->id, (uint64_t)client->pid, context->role);
    loop_timer_cancel(client->close_timer);
    loop_watch_remove(client->watch);
    list_remove(&client->link);
    if (broker->proxy == client)
        broker->proxy = NULL;
    if (broker->copier == client) {
        broker->copier = NULL;
        grants_copier_gone(broker);
    }
    grants_client_gone(client);
    privileges_client_gone(client);
    struct connect *connect;
    list_for_each(connect, &broker->waiting, link) if (connect->client == client) connect_drop(connect);
    broker_slots_client_gone(client);

    broker_watches_drop(client);

    /* the dead take their channels with them: whoever waits on one is woken with the error */
    struct endpoint *endpoint;
    list_for_each(endpoint, &context->endpoints, context_link) if (endpoint->channel)
        broker_channel_kill(broker, endpoint->channel, context, -DVK_EDEADDST);
    int status = context->role == CONTEXT_PROXY ? -DVK_ENODEUNREACH : -DVK_EDEADDST;
    while (!list_empty(&context->channels))
        broker_channel_kill(broker, list_entry(context->channels.next, struct channel_end, link)->channel, context,
                            status);
    while (!list_empty(&context->endpoints))
        registry_unbind(&broker->registry, list_entry(context->endpoints.next, struct endpoint, context_link));
    broker_controls_end(client);
    if (broker->host.client_gone)
        broker->host.client_gone(broker->host.context, client);

    struct output_packet *output;
    list_for_each(output, &client->output, link) output_free(client, output);
    registry_context_remove(&broker->registry, context);
    close(client->fd);
    if (client->stats_fd >= 0)
        close(client->stats_fd);
    free(client);
}

static void on_listen(void *context, int fd, uint32_t events) {
    struct broker *broker = context;
    int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client_fd < 0)
        return;
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(client_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != 0) {
        close(client_fd);
        return;
    }
    int result = broker_adopt(broker, client_fd, CONTEXT_PROGRAM, 0, NULL);
    if (result < 0)
        log_error("cannot serve a client: %s", strerror(-result));
}

int broker_listen(struct broker *broker, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 || listen(fd, 128) < 0)
        return -errno;
    int result = loop_fd_add(broker->loop, fd, EPOLLIN, on_listen, broker, &broker->listen_watch);
    if (result < 0)
        return result;
    broker->listen_fd = steal_fd(&fd);
    return 0;
}

struct context *client_context(const struct client *client) { return client->context; }
pid_t client_pid(const struct client *client) { return client->pid; }
bool client_ready(const struct client *client) { return client->greeted && !client->closing; }
