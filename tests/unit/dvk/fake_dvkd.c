/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_dvkd.h"
#include "dvk/broker.h"
#include "dvk/channel_create.h"
#include "dvk/service_protocol.h"
#include "dvk/stats_page.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CLIENTS 16
#define ENDPOINTS 256
#define CHANNELS 256

struct client {
    int fd; /* -1: none */
    bool used, proxy;
    int doorbell;
    int page; /* of statistics, -1: none */
};
struct bound {
    uint32_t dc;
    dvk_endpoint endpoint;
    int client;
    int channel; /* of a guest, or -1 */
    uint32_t place; /* in its client's page of statistics */
};
struct made {
    bool used;
    int a, b; /* clients: sides 0 and 1; a -1: a guest */
    uint32_t dc;
    int memfd;
};
struct fake_dvkd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    int event;
    bool stop;
    uint32_t node;
    struct client clients[CLIENTS];
    struct bound bound[ENDPOINTS];
    struct made channels[CHANNELS];
    unsigned channel_count, closed_count, connect_count, delay_ms;
    uint32_t generation, slots;
    char *answer;
};

static void bytes_send(struct fake_dvkd *fake, int number, struct dvk_broker_packet *head, const void *text, size_t len,
                       const int *fds, unsigned fd_count) {
    char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    head->magic = DVK_BROKER_MAGIC;
    head->version = DVK_BROKER_VERSION;
    head->text_len = (uint32_t)len;
    struct iovec iov[2] = {{head, sizeof *head}, {(void *)(uintptr_t)text, head->text_len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    if (fd_count) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    if (fake->clients[number].fd >= 0 && sendmsg(fake->clients[number].fd, &msg, MSG_NOSIGNAL) < 0 && errno != EPIPE)
        perror("fake dvkd: sendmsg");
}

static void packet_send(struct fake_dvkd *fake, int number, struct dvk_broker_packet *head, const char *text,
                        const int *fds, unsigned fd_count) {
    bytes_send(fake, number, head, text, text ? strlen(text) : 0, fds, fd_count);
}

static struct bound *bound_find(struct fake_dvkd *fake, uint32_t dc, dvk_endpoint endpoint) {
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        struct bound *b = &fake->bound[i];
        if (b->endpoint && b->dc == dc && dvk_endpoint_slot(b->endpoint) == dvk_endpoint_slot(endpoint) &&
            (dvk_endpoint_generation(endpoint) == 0 || b->endpoint == endpoint))
            return b;
    }
    return NULL;
}

static int bind_slot(struct fake_dvkd *fake, int number, uint32_t dc, uint32_t slot, dvk_endpoint *out) {
    for (uint32_t s = DVK_FIRST_USER_SLOT; slot == 0; s++)
        if (!bound_find(fake, dc, s))
            slot = s;
    if (bound_find(fake, dc, slot))
        return -DVK_ESLOTBUSY;
    for (unsigned i = 0; i < ENDPOINTS; i++)
        if (!fake->bound[i].endpoint) {
            *out = dvk_endpoint_make(++fake->generation, slot);
            fake->bound[i] = (struct bound){dc, *out, number, -1, 0};
            return 0;
        }
    return -DVK_ENOSLOT;
}

static void channel_end(struct fake_dvkd *fake, unsigned i, int dead_client) {
    struct made *m = &fake->channels[i];
    dvk_channel_mark_dead(m->memfd);
    close(m->memfd);
    m->used = false;
    int other = m->a == dead_client ? m->b : m->a;
    if (other < 0 || other == dead_client)
        return;
    struct dvk_broker_packet gone = {.type = DVK_BROKER_CHANNEL_GONE, .channel = i + 1, .dc = m->dc};
    packet_send(fake, other, &gone, NULL, NULL, 0);
}

static void client_end(struct fake_dvkd *fake, int number) {
    struct client *client = &fake->clients[number];
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    if (client->doorbell >= 0)
        close(client->doorbell);
    client->doorbell = -1;
    if (client->page >= 0)
        close(client->page);
    client->page = -1;
    for (unsigned i = 0; i < ENDPOINTS; i++)
        if (fake->bound[i].endpoint && fake->bound[i].client == number)
            fake->bound[i].endpoint = 0;
    for (unsigned i = 0; i < fake->channel_count; i++)
        if (fake->channels[i].used && (fake->channels[i].a == number || fake->channels[i].b == number))
            channel_end(fake, i, number);
}

static void handle_connect(struct fake_dvkd *fake, int number, struct dvk_broker_packet *head,
                           struct dvk_broker_packet *answer) {
    fake->connect_count++;
    int target = -1;
    struct bound *to = bound_find(fake, head->dc, head->peer);
    uint32_t slot = dvk_endpoint_slot(head->peer);
    if (to) {
        target = to->client;
        answer->peer = to->endpoint;
    } else if (dvk_slot_is_system(slot) && dvk_system_slot_node(slot) != fake->node && !fake->clients[number].proxy) {
        for (int i = 0; i < CLIENTS; i++)
            if (fake->clients[i].proxy && fake->clients[i].doorbell >= 0)
                target = i;
        answer->peer = head->peer;
        answer->status = target < 0 ? -DVK_ENODEUNREACH : 0;
    }
    if (target < 0) {
        answer->status = answer->status ? answer->status : -DVK_ENOTBOUND;
        packet_send(fake, number, answer, NULL, NULL, 0);
        return;
    }
    if (fake->clients[target].proxy)
        answer->flags |= DVK_BROKER_F_PROXY;
    struct dvk_broker_packet told = {.type = DVK_BROKER_CHANNEL,
                                     .dc = head->dc,
                                     .endpoint = head->peer,
                                     .peer = head->endpoint,
                                     .side = 1,
                                     .flags = fake->clients[number].proxy ? DVK_BROKER_F_PROXY : 0};
    for (unsigned i = 0; i < fake->channel_count; i++) {
        struct made *m = &fake->channels[i];
        if (m->used && m->dc == head->dc &&
            ((m->a == number && m->b == target) || (m->a == target && m->b == number))) {
            told.channel = answer->channel = i + 1;
            told.side = m->b == target;
            answer->side = m->b == number;
            packet_send(fake, target, &told, NULL, NULL, 0);
            packet_send(fake, number, answer, NULL, NULL, 0);
            return;
        }
    }
    unsigned i = fake->channel_count++;
    struct made *m = &fake->channels[i];
    int sockets[2];
    uint32_t slots[2] = {fake->slots, fake->slots};
    if (i >= CHANNELS || dvk_channel_create(slots, DVK_DATA_MAX, &m->memfd) < 0 || dvk_channel_sockets(sockets) < 0)
        abort();
    *m = (struct made){true, number, target, head->dc, m->memfd};
    told.channel = answer->channel = i + 1;
    int to_fds[3] = {m->memfd, sockets[1], fake->clients[number].doorbell};
    int from_fds[3] = {m->memfd, sockets[0], fake->clients[target].doorbell};
    packet_send(fake, target, &told, NULL, to_fds, 3);
    packet_send(fake, number, answer, NULL, from_fds, 3);
    close(sockets[0]);
    close(sockets[1]);
}

static void handle_guest_bind(struct fake_dvkd *fake, int number, struct dvk_broker_packet *head,
                              struct dvk_broker_packet *answer) {
    answer->status = bind_slot(fake, number, head->dc, dvk_endpoint_slot(head->endpoint), &answer->endpoint);
    if (answer->status < 0) {
        packet_send(fake, number, answer, NULL, NULL, 0);
        return;
    }
    unsigned i = fake->channel_count++;
    struct made *m = &fake->channels[i];
    int sockets[2];
    uint32_t slots[2] = {DVK_GUEST_SLOTS, DVK_GUEST_BACK_SLOTS};
    if (i >= CHANNELS || dvk_channel_create(slots, DVK_DATA_MAX, &m->memfd) < 0 || dvk_channel_sockets(sockets) < 0)
        abort();
    *m = (struct made){true, -1, number, head->dc, m->memfd};
    bound_find(fake, head->dc, answer->endpoint)->channel = (int)i;
    answer->channel = i + 1;
    int fds[3] = {m->memfd, sockets[1], sockets[0]};
    packet_send(fake, number, answer, NULL, fds, 3);
    close(sockets[0]);
    close(sockets[1]);
}

static const int *page_of(struct fake_dvkd *fake, int number, const struct dvk_broker_packet *bind) {
    int *page = &fake->clients[number].page;
    if (bind->flags & DVK_BROKER_F_STATS && *page < 0) {
        *page = memfd_create("fake-stats", MFD_CLOEXEC);
        if (*page < 0 || ftruncate(*page, (off_t)DVK_STATS_PAGE_SIZE) < 0)
            abort();
    }
    return page;
}

static void handle(struct fake_dvkd *fake, int number, struct dvk_broker_packet *head, const char *text, int fd) {
    struct dvk_broker_packet answer = {.type = head->type | DVK_BROKER_ANSWER, .id = head->id, .dc = head->dc};
    struct bound *b;
    switch (head->type) {
    case DVK_BROKER_HELLO:
        fake->clients[number].doorbell = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        answer.node = fake->node;
        break;
    case DVK_BROKER_BIND:
        answer.status = bind_slot(fake, number, head->dc, dvk_endpoint_slot(head->endpoint), &answer.endpoint);
        if (answer.status < 0)
            break;
        bound_find(fake, head->dc, answer.endpoint)->place = head->place;
        packet_send(fake, number, &answer, NULL, page_of(fake, number, head), head->flags & DVK_BROKER_F_STATS ? 1 : 0);
        return;
    case DVK_BROKER_UNBIND:
        b = bound_find(fake, head->dc, head->endpoint);
        if (b)
            b->endpoint = 0;
        else
            answer.status = -DVK_ENOTBOUND;
        break;
    case DVK_BROKER_CONNECT:
        if (fake->delay_ms)
            usleep(fake->delay_ms * 1000);
        handle_connect(fake, number, head, &answer);
        return;
    case DVK_BROKER_GUEST_BIND:
        handle_guest_bind(fake, number, head, &answer);
        return;
    case DVK_BROKER_GUEST_UNBIND:
        b = bound_find(fake, head->dc, head->endpoint);
        if (b && b->channel >= 0) {
            channel_end(fake, (unsigned)b->channel, number);
            b->endpoint = 0;
        } else
            answer.status = -DVK_ENOTBOUND;
        break;
    case DVK_BROKER_ARENA:
    case DVK_BROKER_GRANT:
    case DVK_BROKER_REVOKE:
        answer.channel = head->id;
        break;
    case DVK_BROKER_SERVICE: { /* whatever it is, it is done */
        const struct dvk_service_head done = {.number = head->id};
        bytes_send(fake, number, &answer, &done, sizeof done, NULL, 0);
        return;
    }
    case DVK_BROKER_CONTROL_REPLY:
    case DVK_BROKER_CONTROL_SEND:
        free(fake->answer);
        fake->answer = strndup(text, head->text_len);
        pthread_cond_broadcast(&fake->changed);
        return;
    case DVK_BROKER_CHANNEL_CLOSED:
        fake->closed_count++;
        if (head->channel && head->channel <= fake->channel_count && fake->channels[head->channel - 1].used)
            channel_end(fake, (unsigned)head->channel - 1, number);
        return;
    default:
        answer.status = -EINVAL;
    }
    packet_send(fake, number, &answer, NULL, NULL, 0);
}

static void client_read(struct fake_dvkd *fake, int number) {
    struct dvk_broker_packet head;
    static char text[DVK_BROKER_TEXT_MAX + 1];
    char control[CMSG_SPACE(sizeof(int) * 8)];
    struct iovec iov[2] = {{&head, sizeof head}, {text, sizeof text - 1}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fake->clients[number].fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            client_end(fake, number);
        return;
    }
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    handle(fake, number, &head, text, fd);
    if (fd >= 0)
        close(fd);
}

static void *fake_main(void *context) {
    struct fake_dvkd *fake = context;
    for (;;) {
        struct pollfd fds[CLIENTS + 1];
        int numbers[CLIENTS + 1], n = 0;
        pthread_mutex_lock(&fake->lock);
        bool stop = fake->stop;
        for (int i = 0; i < CLIENTS; i++)
            if (fake->clients[i].fd >= 0) {
                numbers[n] = i;
                fds[n++] = (struct pollfd){.fd = fake->clients[i].fd, .events = POLLIN};
            }
        pthread_mutex_unlock(&fake->lock);
        if (stop)
            return NULL;
        fds[n] = (struct pollfd){.fd = fake->event, .events = POLLIN};
        if (poll(fds, (nfds_t)n + 1, -1) < 0)
            continue;
        pthread_mutex_lock(&fake->lock);
        uint64_t count;
        if (fds[n].revents && read(fake->event, &count, sizeof count) < 0)
            perror("fake dvkd: eventfd");
        for (int i = 0; i < n; i++)
            if (fds[i].revents && fake->clients[numbers[i]].fd == fds[i].fd)
                client_read(fake, numbers[i]);
        pthread_mutex_unlock(&fake->lock);
    }
}

static void kick(struct fake_dvkd *fake) {
    uint64_t one = 1;
    if (write(fake->event, &one, sizeof one) < 0)
        perror("fake dvkd: eventfd");
}

struct fake_dvkd *fake_start(uint32_t node) {
    struct fake_dvkd *fake = calloc(1, sizeof *fake);
    if (!fake)
        abort();
    fake->node = node;
    fake->slots = DVK_PEER_SLOTS;
    fake->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    for (int i = 0; i < CLIENTS; i++)
        fake->clients[i].fd = fake->clients[i].doorbell = fake->clients[i].page = -1;
    if (pthread_create(&fake->thread, NULL, fake_main, fake))
        abort();
    return fake;
}

void fake_stop(struct fake_dvkd *fake) {
    pthread_mutex_lock(&fake->lock);
    fake->stop = true;
    pthread_mutex_unlock(&fake->lock);
    kick(fake);
    pthread_join(fake->thread, NULL);
    for (int i = 0; i < CLIENTS; i++)
        if (fake->clients[i].used)
            client_end(fake, i);
    for (unsigned i = 0; i < fake->channel_count; i++)
        if (fake->channels[i].used)
            close(fake->channels[i].memfd);
    close(fake->event);
    pthread_mutex_destroy(&fake->lock);
    pthread_cond_destroy(&fake->changed);
    free(fake->answer);
    free(fake);
}

int fake_client(struct fake_dvkd *fake, bool proxy, int *number) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    pthread_mutex_lock(&fake->lock);
    int i = 0;
    while (i < CLIENTS && fake->clients[i].used)
        i++;
    if (i == CLIENTS)
        abort();
    fake->clients[i] = (struct client){pair[0], true, proxy, -1, -1};
    pthread_mutex_unlock(&fake->lock);
    kick(fake);
    if (number)
        *number = i;
    return pair[1];
}

void fake_drop(struct fake_dvkd *fake, int number) {
    pthread_mutex_lock(&fake->lock);
    client_end(fake, number);
    pthread_mutex_unlock(&fake->lock);
    kick(fake);
}

void fake_node(struct fake_dvkd *fake, int number, uint32_t node, bool up, const char *text) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_NODE, .node = node, .flags = up ? DVK_BROKER_F_UP : 0};
    pthread_mutex_lock(&fake->lock);
    packet_send(fake, number, &head, text, NULL, 0);
    pthread_mutex_unlock(&fake->lock);
}

void fake_control(struct fake_dvkd *fake, int number, uint64_t id, const char *text) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_CONTROL, .id = id};
    pthread_mutex_lock(&fake->lock);
    packet_send(fake, number, &head, text, NULL, 0);
    pthread_mutex_unlock(&fake->lock);
}

char *fake_control_answer(struct fake_dvkd *fake) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    pthread_mutex_lock(&fake->lock);
    while (!fake->answer && pthread_cond_timedwait(&fake->changed, &fake->lock, &until) == 0)
        ;
    char *answer = fake->answer;
    fake->answer = NULL;
    pthread_mutex_unlock(&fake->lock);
    return answer;
}

unsigned fake_closed_count(struct fake_dvkd *fake) {
    pthread_mutex_lock(&fake->lock);
    unsigned n = fake->closed_count;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

unsigned fake_connect_count(struct fake_dvkd *fake) {
    pthread_mutex_lock(&fake->lock);
    unsigned n = fake->connect_count;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

void fake_connect_delay(struct fake_dvkd *fake, unsigned delay_ms) {
    pthread_mutex_lock(&fake->lock);
    fake->delay_ms = delay_ms;
    pthread_mutex_unlock(&fake->lock);
}

void fake_slots(struct fake_dvkd *fake, uint32_t slots) {
    pthread_mutex_lock(&fake->lock);
    fake->slots = slots;
    pthread_mutex_unlock(&fake->lock);
}

int fake_last_channel(struct fake_dvkd *fake) {
    pthread_mutex_lock(&fake->lock);
    int fd = fake->channel_count ? fcntl(fake->channels[fake->channel_count - 1].memfd, F_DUPFD_CLOEXEC, 0) : -1;
    pthread_mutex_unlock(&fake->lock);
    return fd;
}

bool fake_stats(struct fake_dvkd *fake, uint32_t dc, dvk_endpoint endpoint, struct dvk_stats *out) {
    pthread_mutex_lock(&fake->lock);
    const struct bound *b = bound_find(fake, dc, endpoint);
    int page = b ? fake->clients[b->client].page : -1;
    bool known = page >= 0 && b->place &&
                 pread(page, out, sizeof *out, (off_t)(b->place * sizeof *out)) == (ssize_t)sizeof *out;
    pthread_mutex_unlock(&fake->lock);
    return known;
}
