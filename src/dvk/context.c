/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: opening, closing, and the endpoints that they are bound to. */
#include "common/cleanup.h"
#include "dvk/channel_create.h"
#include "dvk/copier.h"
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <dvk/loan.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define OPEN_TIMEOUT_MS 5000
#define BIND_TIMEOUT_MS 30000

struct own_endpoint *own_find(struct dvk *dvk, dvk_endpoint endpoint) {
    list_each(own, &dvk->own[bucket_of(dvk_endpoint_slot(endpoint), 0)], struct own_endpoint, bucket) {
        if (own->endpoint == endpoint)
            return own;
    }
    return NULL;
}

struct own_endpoint *own_at(struct dvk *dvk, uint32_t dc, dvk_endpoint to) {
    list_each(own, &dvk->own[bucket_of(dvk_endpoint_slot(to), 0)], struct own_endpoint, bucket) {
        if (own->dc == dc && (own->endpoint == to || (dvk_endpoint_generation(to) == 0 &&
                                                      dvk_endpoint_slot(own->endpoint) == dvk_endpoint_slot(to))))
            return own;
    }
    return NULL;
}

bool own_resolve(struct dvk *dvk, uint32_t dc, dvk_endpoint to, dvk_endpoint *full) {
    const struct own_endpoint *own = own_at(dvk, dc, to);
    if (own)
        *full = own->endpoint;
    return own;
}

int own_sender(struct dvk *dvk, dvk_endpoint from, struct own_endpoint **own) {
    *own = own_find(dvk, from);
    return !*own ? -DVK_ENOTBOUND : (*own)->frozen ? -DVK_EMIGRATING : 0;
}

static void context_free(struct dvk *dvk) {
    poller_stop(dvk);
    services_close(dvk);
    detector_close(dvk);
    pthread_mutex_destroy(&dvk->turn);
    if (dvk->doorbell)
        munmap(dvk->doorbell, DVK_DOORBELL_SIZE);
    if (dvk->doorbell_fd >= 0)
        close(dvk->doorbell_fd);
    if (dvk->broker_fd >= 0)
        close(dvk->broker_fd);
    struct request *request;
    while ((request = list_first(&dvk->free_requests, struct request, link))) {
        list_remove(&request->link);
        free(request);
    }
    calls_free(dvk);
    migrate_close(dvk);
    inboxes_free(dvk);
    waits_close(dvk);
    stats_close(dvk);
    privilege_close(dvk);
    free(dvk->by_bit);
    free(dvk->packet_buffer);
    free(dvk->calls);
    free(dvk->call_generation);
    free(dvk->call_free);
    free(dvk->timers);
    free(dvk);
}

static int doorbell_make(struct dvk *dvk) {
    int error = dvk_doorbell_create(&dvk->doorbell_fd);
    if (error < 0)
        return error;
    void *page = mmap(NULL, DVK_DOORBELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dvk->doorbell_fd, 0);
    if (page == MAP_FAILED)
        return -ENOMEM;
    dvk->doorbell = page;
    return 0;
}

/* Takes over fd. */
static int context_create(int fd, struct dvk **out) {
    struct dvk *dvk = calloc(1, sizeof *dvk);
    if (!dvk) {
        close(fd);
        return -ENOMEM;
    }
    pthread_mutex_init(&dvk->turn, NULL);
    dvk->broker_fd = fd;
    dvk->doorbell_fd = dvk->epoll_fd = dvk->stop_fd = -1;
    struct link *lists[] = {&dvk->awaited,   &dvk->outgoing,      &dvk->events,  &dvk->channels,
                            &dvk->more,      &dvk->ready,         &dvk->notices, &dvk->ready_notes,
                            &dvk->completed, &dvk->free_requests, &dvk->requests, &dvk->filed,
                            &dvk->filed_notes, &dvk->loans, &dvk->arenas, &dvk->wait_tables, &dvk->moving, &dvk->moved, &dvk->parked, &dvk->spares};
    for (size_t i = 0; i < ARRAY_LENGTH(lists); i++)
        list_init(lists[i]);
    list_init(&dvk->service_things);
    list_init(&dvk->endpoint_watches);
    privilege_open(dvk, -1);
    for (unsigned i = 0; i < BUCKETS; i++) {
        list_init(&dvk->own[i]);
        list_init(&dvk->guests[i]);
        list_init(&dvk->routes[i]);
        list_init(&dvk->numbers[i]);
    }
    for (unsigned i = 0; i < MAPPED_BUCKETS; i++)
        list_init(&dvk->mapped[i]);
    dvk->next_bit = 1;
    dvk->accepts = DVK_DATA_MAX;
    dvk->next_scan = INT64_MAX;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    dvk->cpu_count = cpus > 0 ? (unsigned)cpus : 1;
    dvk->by_bit = calloc(DVK_DOORBELL_BITS, sizeof *dvk->by_bit);
    dvk->packet_buffer = malloc(DVK_BROKER_TEXT_MAX);
    int error = dvk->by_bit && dvk->packet_buffer ? 0 : -ENOMEM;
    for (unsigned i = 0; error == 0 && i < DVK_DOORBELL_BITS; i++)
        list_init(&dvk->by_bit[i]);
    if (error == 0)
        error = doorbell_make(dvk);
    if (error == 0) {
        cpu_update(dvk);
        error = poller_start(dvk);
    }
    if (error < 0) {
        dvk_close(dvk);
        return error;
    }
    *out = dvk;
    return 0;
}

static int context_greet(struct dvk *dvk) {
    struct dvk_broker_packet hello = {.type = DVK_BROKER_HELLO};
    struct packet answer;
    int error = broker_ask_wait(dvk, &hello, &dvk->doorbell_fd, 1, &answer, deadline_of(OPEN_TIMEOUT_MS));
    if (error < 0 && dvk->broker_error)
        error = dvk->broker_error;
    if (error == 0)
        dvk->node = answer.head.node;
    if (error == 0 && answer.fd_count == 1)
        privilege_open(dvk, answer.fds[0]);
    packet_clear(&answer);
    return error;
}

int dvk_open_fd(int fd, struct dvk **out) {
    struct dvk *dvk;
    int error = context_create(fd, &dvk);
    if (error < 0)
        return error;
    error = context_greet(dvk);
    if (error < 0)
        dvk_close(dvk);
    else
        *out = dvk;
    return error;
}

int dvk_copier_open(int fd, dvk_copier_told *told, void *context, struct dvk **out) {
    *out = NULL;
    int error = context_create(fd, out);
    if (error < 0)
        return error;
    (*out)->on_grant = told;
    (*out)->on_grant_context = context;
    error = context_greet(*out);
    if (error < 0) {
        dvk_close(*out);
        *out = NULL;
        return error;
    }
    dvk_relay_enable(*out);
    return 0;
}

int dvk_open(const char *socket_path, struct dvk **out) {
    if (!socket_path)
        socket_path = getenv("DVS_SOCKET");
    if (!socket_path)
        socket_path = "/run/dvs/dvkd.sock";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path)
        return -DVK_ENODAEMON;
    strcpy(address.sun_path, socket_path);
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct timeval limit = {.tv_sec = OPEN_TIMEOUT_MS / 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -DVK_ENODAEMON;
    return dvk_open_fd(steal_fd(&fd), out);
}

void dvk_close(struct dvk *dvk) {
    if (!dvk)
        return;
    if (dvk->relay) { /* from now on we are alone */
        __atomic_store_n(&dvk->stopping, true, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&dvk->turn);
        poller_stop(dvk);
    }
    loans_end(dvk);
    vcopy_end(dvk);
    struct channel *channel;
    while ((channel = list_first(&dvk->channels, struct channel, link)))
        channel_close(dvk, channel, -DVK_EINTERRUPTED, false, false);
    broker_fail(dvk); /* ends what waits for dvkd, and with that the routes that are being made */
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct route *route;
        while ((route = list_first(&dvk->routes[i], struct route, bucket)))
            route_drop(dvk, route, -DVK_EINTERRUPTED);
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct own_endpoint *own;
        while ((own = list_first(&dvk->own[i], struct own_endpoint, bucket))) {
            list_remove(&own->bucket);
            free(own->privileges);
            free(own);
        }
        struct guest *guest;
        while ((guest = list_first(&dvk->guests[i], struct guest, bucket))) {
            list_remove(&guest->bucket);
            channel_release(guest->channel);
            free(guest);
        }
    }
    for (uint32_t i = 0; i < dvk->call_cap; i++)
        if (dvk->calls[i] && dvk->calls[i]->state == CALL_LOOPED) {
            dvk->calls[i]->looped->looped = NULL;
            dvk->calls[i]->looped = NULL;
            call_complete(dvk, dvk->calls[i], -DVK_EINTERRUPTED);
        }
    list_each(call, &dvk->completed, struct call, link) {
        if (call->status == -DVK_ENODAEMON)
            call->status = -DVK_EINTERRUPTED;
    }
    while (call_run_completed(dvk))
        ;
    struct request *request;
    while ((request = list_first(&dvk->requests, struct request, all)))
        request_free(dvk, request);
    struct link *packets[] = {&dvk->events, &dvk->outgoing};
    for (size_t i = 0; i < ARRAY_LENGTH(packets); i++) {
        struct packet *packet;
        while ((packet = list_first(packets[i], struct packet, link))) {
            list_remove(&packet->link);
            packet_clear(packet);
            free(packet);
        }
    }
    context_free(dvk);
}

uint32_t dvk_node(const struct dvk *dvk) {
    return dvk->node;
}

void dvk_relay_enable(struct dvk *dvk) {
    dvk->accepts = DVK_LOAN_MAX; /* whoever it is for refuses what is too long for it */
    poller_relay(dvk);
    pthread_mutex_lock(&dvk->turn);
    __atomic_store_n(&dvk->relay, true, __ATOMIC_RELEASE);
}

int dvk_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, dvk_endpoint *out) {
    struct own_endpoint *own = calloc(1, sizeof *own);
    if (!own)
        return -ENOMEM;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_BIND, .dc = dc, .endpoint = dvk_endpoint_make(0, slot)};
    struct packet answer;
    stats_bind(dvk, own, &ask);
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline_of(BIND_TIMEOUT_MS));
    if (error == 0)
        stats_bound(dvk, own, &answer);
    packet_clear(&answer);
    if (error == 0 && (own_find(dvk, answer.head.endpoint) || spare_find(dvk, answer.head.endpoint))) {
        /* calls name their source by its endpoint alone: two DCs' endpoints must not look the same */
        struct dvk_broker_packet undo = {.type = DVK_BROKER_UNBIND, .dc = dc, .endpoint = answer.head.endpoint};
        (void)broker_ask_wait(dvk, &undo, NULL, 0, &answer, deadline_of(BIND_TIMEOUT_MS));
        packet_clear(&answer);
        error = -DVK_ENOTALLOWED;
    }
    if (error < 0) {
        stats_unbind(dvk, own);
        free(own);
        return error;
    }
    own->dc = dc;
    own->endpoint = answer.head.endpoint;
    list_init(&own->routes);
    list_append(&dvk->own[bucket_of(dvk_endpoint_slot(own->endpoint), 0)], &own->bucket);
    dvk->own_count++;
    dvk->own_changes++;
    dvk->way.route = NULL;
    waits_open(dvk, dc);
    *out = own->endpoint;
    return 0;
}

int dvk_unbind(struct dvk *dvk, dvk_endpoint endpoint) {
    struct own_endpoint *own = own_find(dvk, endpoint);
    if (!own)
        return -DVK_ENOTBOUND;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_UNBIND, .dc = own->dc, .endpoint = endpoint};
    inboxes_unwatch(dvk, own->dc, endpoint);
    migrate_unfreeze(dvk, own);
    list_remove(&own->bucket);
    dvk->own_count--;
    dvk->own_changes++;
    own_routes_drop(dvk, own, -DVK_EINTERRUPTED);
    stats_unbind(dvk, own);
    free(own->privileges);
    free(own);
    requests_refuse_to(dvk, endpoint, -DVK_ENOTBOUND);
    (void)receive_scan(dvk); /* what lies in the channels and was not looked at yet: refused, as is all that comes later */
    struct packet answer;
    int error = broker_ask_wait(dvk, &ask, NULL, 0, &answer, deadline_of(BIND_TIMEOUT_MS));
    packet_clear(&answer);
    if (error == -ENOMEM) /* to wait for the answer: dvkd has to know in any case */
        error = broker_send(dvk, &ask, NULL, NULL, 0);
    return error;
}
