/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Privileges (dvk/privilege.h): what dvkd tells of our peers' and our own, and what follows for messages.
 *
 * dvkd tells a channel's peer with CHANNEL or CONNECT what it may do, and changes by PRIVILEGES. For each change it then counts
 * up a word in a page that all clients of the node can read (`dvk.epoch`), before who made the change gets its answer. Whoever
 * takes a message compares that word with the one it saw last, and reads what dvkd has told first if it differs: so a
 * message that was sent after the change is judged by it. What is judged at all, `channel.judged` says; for most it is
 * false, and two loads are all that privileges cost.
 *
 * Judged are a peer's messages, by what it may do and by what our endpoint takes (the latter is also its own node's proxy's
 * matter, which our process cannot evade); what a relay sends on behalf of others, by what its destination takes; and
 * whether a peer may hand a request on.
 */
#include "dvk/privilege_set.h"
#include "dvk/internal.h"
#include "dvk/kernel.h"
#include "dvk/relay.h"

#include <stdlib.h>
#include <sys/mman.h>

#define WAIT_MAX_MS 30000

static const uint32_t no_epoch;

/* ---- what dvkd tells ---- */

void privilege_open(struct dvk *dvk, int fd) {
    dvk->epoch = &no_epoch;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, DVK_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        dvk->epoch = page;
}

void privilege_close(struct dvk *dvk) {
    if (dvk->epoch && dvk->epoch != &no_epoch)
        munmap((void *)(uintptr_t)dvk->epoch, DVK_PAGE);
    dvk->epoch = &no_epoch;
}

void privilege_catch_up(struct dvk *dvk) {
    uint32_t epoch = __atomic_load_n(dvk->epoch, __ATOMIC_ACQUIRE);
    if (epoch == dvk->epoch_seen)
        return;
    dvk->epoch_seen = epoch; /* first: what is read may lead here again */
    broker_drain(dvk);
}

/* The privileges in a packet, as dvkd put them in order. 0 with *out (NULL: all), or an error. */
static int packet_privileges(const struct packet *packet, struct known_privileges **out) {
    *out = NULL;
    if (packet->head.text_len == 0)
        return 0;
    if (packet->head.text_len != sizeof (*out)->what || !packet->text)
        return -EPROTO;
    struct known_privileges *known = calloc(1, sizeof *known);
    if (!known)
        return -ENOMEM;
    memcpy(&known->what, packet->text, sizeof known->what);
    if (privileges_check(&known->what) < 0) {
        free(known);
        return -EPROTO;
    }
    *out = known;
    return 0;
}

static void replace(struct known_privileges **place, struct known_privileges *known) {
    if (*place && known) {
        known->refused = (*place)->refused;
        known->tell_at = (*place)->tell_at;
    }
    free(*place);
    *place = known;
}

int privilege_peer_told(struct channel *channel, dvk_endpoint peer, const struct packet *packet) {
    struct known_privileges *known;
    int error = packet_privileges(packet, &known);
    struct known_privileges **place = error == 0 ? channel_peer_privileges(channel, peer, known != NULL) : NULL;
    if (!place) {
        free(known);
        return error == 0 && known ? -ENOMEM : error;
    }
    replace(place, known);
    channel->judged |= known != NULL;
    return 0;
}

static int own_told(struct dvk *dvk, struct own_endpoint *own, const struct packet *packet) {
    struct known_privileges *known;
    int error = packet_privileges(packet, &known);
    if (error < 0)
        return error;
    replace(&own->privileges, known);
    if (!known)
        return 0;
    dvk->own_judged = true;
    list_each(channel, &dvk->channels, struct channel, link) {
        channel->judged |= !channel->guest;
    }
    return 0;
}

void privilege_told(struct dvk *dvk, const struct packet *packet) {
    const struct dvk_broker_packet *head = &packet->head;
    if (head->channel == 0) {
        struct own_endpoint *own = own_find(dvk, head->endpoint);
        if (own && own_told(dvk, own, packet) < 0)
            broker_fail(dvk); /* better no DVK than one that lets through what it should not */
        return;
    }
    struct channel *channel = channel_find(dvk, head->channel);
    if (channel && privilege_peer_told(channel, head->endpoint, packet) < 0)
        channel_close(dvk, channel, -ENOMEM, true, true);
}

/* ---- judging ---- */

/* Count it; dvkd is told of the first, the second, the fourth, the eighth... */
static void refused(struct dvk *dvk, const struct channel *channel, struct known_privileges *whose, dvk_endpoint endpoint,
                    dvk_endpoint other) {
    if (++whose->refused < whose->tell_at)
        return;
    whose->tell_at = whose->refused * 2;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_REFUSED,
                                       .dc = channel->dc,
                                       .channel = channel->number,
                                       .endpoint = endpoint,
                                       .peer = other,
                                       .id = whose->refused};
    (void)broker_send(dvk, &packet, NULL, NULL, 0);
}

static struct known_privileges *peer_privileges(const struct channel *channel, dvk_endpoint peer) {
    struct known_privileges **place = channel_peer_privileges((struct channel *)(uintptr_t)channel, peer, false);
    return place ? *place : NULL;
}

bool privilege_message_allowed(struct dvk *dvk, const struct channel *channel, uint32_t kind,
                               const struct dvk_message *message, dvk_endpoint to) {
    struct known_privileges *peer = channel->proxy ? NULL : peer_privileges(channel, message->source);
    if (peer && !privileges_allow(&peer->what, kind, message)) {
        refused(dvk, channel, peer, message->source, message->destination);
        return false;
    }
    const struct own_endpoint *own = dvk->relay ? NULL : own_find(dvk, to);
    if (own && own->privileges && !privileges_accept(&own->privileges->what, message->source)) {
        refused(dvk, channel, own->privileges, to, message->source);
        return false;
    }
    return true;
}

bool privilege_relayed_allowed(struct dvk *dvk, const struct channel *channel, dvk_endpoint source, dvk_endpoint to) {
    struct known_privileges *peer = peer_privileges(channel, to);
    if (!peer || privileges_accept(&peer->what, source))
        return true;
    refused(dvk, channel, peer, to, source);
    return false;
}

bool privilege_follow_allowed(struct dvk *dvk, const struct channel *channel, dvk_endpoint peer, dvk_endpoint source) {
    struct known_privileges *privileges = channel->proxy ? NULL : peer_privileges(channel, peer);
    if (!privileges || privileges->what.calls & DVK_MAY_RELAY)
        return true;
    refused(dvk, channel, privileges, peer, source);
    return false;
}

bool privilege_own_allowed(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, uint32_t kind,
                           const struct dvk_message *message) {
    const struct own_endpoint *source = own_find(dvk, from), *destination = own_find(dvk, to);
    return (!source || !source->privileges || privileges_allow(&source->privileges->what, kind, message)) &&
           (!destination || !destination->privileges || privileges_accept(&destination->privileges->what, from));
}

/* ---- the calls ---- */

static int wait_ms(int64_t deadline) {
    int64_t left = (deadline - now_ns() + NS_PER_MS - 1) / NS_PER_MS;
    return left < 0 ? 0 : (int)left;
}

/* new: NULL: get. *answer is the caller's. */
static int ask_elsewhere(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, uint32_t node,
                         const struct dvk_privileges *new, struct dvk_privileges *out, int64_t deadline) {
    struct dvk_message message = {.destination = dvk_service_endpoint(node, DVK_SERVICE_KERNEL),
                                  .type = new ? DVK_KERNEL_SET_PRIVILEGES : DVK_KERNEL_GET_PRIVILEGES};
    size_t len = 0;
    message.payload.words[0] = endpoint;
    int error = dvk_sendrec(dvk, from, &message, new, new ? sizeof *new : 0, out, sizeof *out, &len, wait_ms(deadline));
    if (error == 0)
        error = message.status;
    return error == 0 && len != sizeof *out ? -EPROTO : error;
}

static int ask(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, const struct dvk_privileges *new,
               struct dvk_privileges *out, int timeout_ms) {
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (endpoint == DVK_NONE || endpoint == DVK_ANY)
        return -EINVAL;
    int64_t deadline = deadline_of(timeout_ms > 0 && timeout_ms < WAIT_MAX_MS ? timeout_ms : WAIT_MAX_MS);
    struct dvk_broker_packet packet = {.type = new ? DVK_BROKER_SET_PRIVILEGES : DVK_BROKER_GET_PRIVILEGES,
                                       .dc = own->dc,
                                       .endpoint = from,
                                       .peer = endpoint};
    struct packet answer;
    int error = broker_ask_bytes(dvk, &packet, new, new ? sizeof *new : 0, NULL, 0, &answer, deadline);
    uint32_t node = answer.head.flags & DVK_BROKER_F_ELSEWHERE ? answer.head.node : 0;
    if (error == 0 && !node && (answer.head.text_len != sizeof *out || !answer.text))
        error = -EPROTO;
    if (error == 0 && !node)
        memcpy(out, answer.text, sizeof *out);
    packet_clear(&answer);
    if (error == -DVK_ENODAEMON && !dvk->broker_gone)
        return -DVK_ETIMEDOUT;
    return error == 0 && node ? ask_elsewhere(dvk, from, endpoint, node, new, out, deadline) : error;
}

int dvk_get_privileges(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_privileges *out,
                       int timeout_ms) {
    struct dvk_privileges now;
    int error = ask(dvk, from, endpoint, NULL, &now, timeout_ms);
    if (error == 0)
        *out = now;
    return error;
}

int dvk_set_privileges(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint,
                       const struct dvk_privileges *privileges, int timeout_ms) {
    struct dvk_privileges now, checked = *privileges;
    int error = privileges_check(&checked);
    return error < 0 ? error : ask(dvk, from, endpoint, &checked, &now, timeout_ms);
}

/* ---- for the proxy: see relay.h ---- */

struct relay_privileges {
    dvk_relay_privileges_told *told;
    void *context;
};

static void relay_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct relay_privileges *asked = awaited->a;
    (void)dvk;
    bool whole = packet->text && packet->head.text_len == sizeof(struct dvk_privileges);
    int status = packet->head.status < 0 ? packet->head.status : whole ? 0 : -EPROTO;
    asked->told(asked->context, status, whole ? packet->text : NULL);
    free(asked);
}

int dvk_relay_privileges(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, const void *new,
                         dvk_relay_privileges_told *fn, void *context) {
    struct relay_privileges *asked = calloc(1, sizeof *asked);
    if (!asked)
        return -ENOMEM;
    *asked = (struct relay_privileges){fn, context};
    struct dvk_broker_packet packet = {
        .type = new ? DVK_BROKER_SET_PRIVILEGES : DVK_BROKER_GET_PRIVILEGES, .dc = dc, .peer = endpoint};
    int error = broker_ask_with(dvk, &packet, new, new ? sizeof(struct dvk_privileges) : 0, relay_answered, asked, NULL);
    if (error < 0)
        free(asked);
    return error;
}
