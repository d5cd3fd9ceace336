/* SPDX-License-Identifier: Apache-2.0 */
/* Channels to guests: processes of the freestanding core, whose endpoints a cell's servers bind for them. */
#include "dvk/internal.h"

#include <stdlib.h>

/* Binding under way. */
struct binding {
    uint32_t dc;
    dvk_guest_done *done;
    void *context;
};

static struct guest *guest_find(struct dvk *dvk, dvk_endpoint endpoint) {
    list_each(guest, &dvk->guests[bucket_of(endpoint, 0)], struct guest, bucket) {
        if (guest->endpoint == endpoint)
            return guest;
    }
    return NULL;
}

static int guest_add(struct dvk *dvk, uint32_t dc, struct packet *packet) {
    if (packet->fd_count != 3)
        return -EPROTO;
    struct guest *guest = calloc(1, sizeof *guest);
    if (!guest)
        return -ENOMEM;
    /* the callee gets the memfd and the guest's socket; we map the memfd and keep our socket */
    struct channel_fds fds = {fcntl(packet->fds[0], F_DUPFD_CLOEXEC, 0), packet->fds[1], -1};
    packet->fds[1] = packet->fds[2];
    packet->fd_count = 2;
    int error = channel_attach(dvk, packet->head.channel, dc, 1, false, true, &fds, &guest->channel);
    if (error == 0 && (error = channel_peer_add(guest->channel, packet->head.endpoint)) < 0)
        channel_close(dvk, guest->channel, -DVK_EDEADDST, false, false);
    if (error < 0) {
        free(guest);
        return error;
    }
    guest->dc = dc;
    guest->endpoint = packet->head.endpoint;
    channel_hold(guest->channel);
    list_append(&dvk->guests[bucket_of(guest->endpoint, 0)], &guest->bucket);
    dvk->guest_count++;
    return 0;
}

static void bind_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct binding *binding = awaited->a;
    if (packet->head.status >= 0) {
        int error = guest_add(dvk, binding->dc, packet);
        if (error < 0) {
            struct dvk_broker_packet unbind = {
                .type = DVK_BROKER_GUEST_UNBIND, .dc = binding->dc, .endpoint = packet->head.endpoint};
            (void)broker_send(dvk, &unbind, NULL, NULL, 0);
            close_fds(packet->fds, packet->fd_count);
            packet->fd_count = 0;
            packet->head.status = error;
        }
    }
    /* `done` is called from within dvk_receive */
    struct packet *told = calloc(1, sizeof *told);
    if (told) {
        *told = *packet;
        packet->text = NULL;
        packet->fd_count = 0;
        told->head.type = DVK_BROKER_ANSWER | DVK_BROKER_GUEST_BIND;
        told->fn = (void *)binding->done;
        told->context = binding->context;
        list_append(&dvk->events, &told->link);
    }
    free(binding);
}

int dvk_guest_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, bool adopted, dvk_guest_done *done, void *context) {
    if (!done)
        return -EINVAL;
    if (dvk->broker_gone)
        return -DVK_ENODAEMON;
    struct binding *binding = calloc(1, sizeof *binding);
    if (!binding)
        return -ENOMEM;
    binding->dc = dc;
    binding->done = done;
    binding->context = context;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_GUEST_BIND,
                                    .dc = dc,
                                    .endpoint = dvk_endpoint_make(0, slot),
                                    .flags = adopted ? DVK_BROKER_F_ADOPTED : 0};
    int error = broker_ask(dvk, &ask, bind_answered, binding, NULL);
    if (error < 0)
        free(binding);
    return error;
}

static void unbind_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    (void)dvk, (void)awaited, (void)packet;
}

int dvk_guest_unbind(struct dvk *dvk, dvk_endpoint endpoint, bool moved) {
    struct guest *guest = guest_find(dvk, endpoint);
    if (!guest)
        return -DVK_ENOTBOUND;
    struct dvk_broker_packet ask = {.type = DVK_BROKER_GUEST_UNBIND,
                                    .dc = guest->dc,
                                    .endpoint = endpoint,
                                    .flags = moved ? DVK_BROKER_F_MOVED : 0};
    list_remove(&guest->bucket);
    dvk->guest_count--;
    channel_close(dvk, guest->channel, -DVK_EDEADDST, false, false);
    channel_release(guest->channel);
    free(guest);
    return broker_ask(dvk, &ask, unbind_answered, NULL, NULL);
}

int dvk_doorbell_fd(const struct dvk *dvk) {
    return dvk->doorbell_fd;
}
