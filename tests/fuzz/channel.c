/* SPDX-License-Identifier: Apache-2.0 */
/* A context of libdvk with a guest and a hosted peer that write anything into their channels, as to itself; a second guest
 * beside them is served all the same. */
#include "common/log.h"
#include "dvk/relay.h"
#include "hand.h"

#include <dvk/privilege.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEPT 8

static struct hand hand;
static struct hand_channel good;
static struct dvk_request *kept[KEPT];
static unsigned calls_open;
static bool good_served;
static dvk_endpoint silenced; /* a peer that may send nothing any more */

static void unkeep(struct dvk_request *req) {
    for (int i = 0; i < KEPT; i++)
        if (kept[i] == req)
            kept[i] = NULL;
}

static void finish(struct dvk_request *req) {
    uint8_t *data = req->reply_data;
    struct dvk_message reply = {.data_len = req->reply_cap < 16 ? req->reply_cap : 16};
    unkeep(req);
    if (!req->wants_reply) {
        dvk_release(hand.dvk, req);
        return;
    }
    if (reply.data_len)
        memset(data, 7, reply.data_len);
    dvk_reply(hand.dvk, req, &reply, NULL, 0);
}

static void on_cancel(void *context, struct dvk_request *req) { finish(req); }
static void on_event(void *context, const struct dvk_event *event) {}

static void on_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {
    input_touch(data, len);
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    MUST(calls_open-- > 0);
}

static void take(struct dvk_request *req) {
    MUST(req->fd_count <= DVK_MESSAGE_FDS && req->msg.data_len <= DVK_DATA_MAX);
    MUST(!silenced || req->msg.source != silenced);
    input_touch(req->data, req->msg.data_len);
    for (unsigned i = 0; i < req->fd_count; i++) {
        MUST(req->fds[i] >= 0);
        close(req->fds[i]);
        req->fds[i] = -1;
    }
    req->fd_count = 0;
    good_served |= req->msg.source == good.peer;
    int at = (int)(req->msg.type % KEPT);
    if (req->msg.source == good.peer || kept[at] || !req->wants_reply)
        finish(req);
    else
        kept[at] = req;
}

static void serve(void) {
    struct dvk_request *req;
    int error;
    for (int i = 0; i < 64 && (error = dvk_receive(hand.dvk, &req, 0)) == 0; i++)
        take(req);
}

/* dvkd tells what the hosted peer (or, channel NULL: we ourselves) may do. */
static void tell_privileges(struct input *in, const struct hand_channel *channel) {
    struct dvk_privileges told = {.calls = input_byte(in) % 8u, .to.flags = input_byte(in) % 4u, .from.flags = input_byte(in) % 4u};
    struct dvk_broker_packet packet = {.magic = DVK_BROKER_MAGIC,
                                       .version = DVK_BROKER_VERSION,
                                       .type = DVK_BROKER_PRIVILEGES,
                                       .dc = HAND_DC,
                                       .endpoint = channel ? channel->peer : hand.self,
                                       .channel = channel ? channel->number : 0,
                                       .text_len = told.from.flags == 3 ? 0 : sizeof told};
    struct iovec parts[] = {{&packet, sizeof packet}, {&told, packet.text_len}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = packet.text_len ? 2 : 1};
    struct dvk_request *req;
    int error = 0;
    for (int i = 0; i < 64 && error == 0; i++)
        if ((error = dvk_receive(hand.dvk, &req, 0)) == 0)
            take(req);
    MUST(sendmsg(hand.dvkd, &message, MSG_NOSIGNAL) > 0);
    dvk_relay_catch_up(hand.dvk);
    if (channel)
        silenced = packet.text_len && told.calls == 0 && error == -DVK_ETIMEDOUT ? channel->peer : DVK_NONE;
}

/* As at first. */
static void forget_privileges(void) {
    struct input nothing = {(const uint8_t *)"\7\1\3", 3};
    silenced = DVK_NONE;
    tell_privileges(&nothing, NULL);
}

static void serve_good(void) {
    struct dvk_message message = {.source = good.peer, .type = 1, .destination = dvk_service_endpoint(HAND_NODE, DVK_SERVICE_PM)};
    good_served = false;
    memcpy(&good.view.slot[0][3].request, &message, sizeof message);
    dvk_slot_publish(&good.view, 0, 3, DVK_SLOT_SENDREC, ++good.sequence);
    (void)dvk_doorbell_post(hand.bell, good.view.header->doorbell_bit[1]);
    for (int i = 0; i < 40 && !good_served; i++) { /* a peer may have cleared the hint: the scan finds it */
        struct dvk_request *req;
        if (dvk_receive(hand.dvk, &req, 50) == 0)
            take(req);
    }
    MUST(good_served);
    MUST(dvk_slot_look(&good.view.slot[0][3], good.sequence) == DVK_LOOK_DONE);
    dvk_slot_free(&good.view.slot[0][3]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    hand_open(&hand, false);
    dvk_on_cancel(hand.dvk, on_cancel, NULL);
    dvk_on_event(hand.dvk, on_event, NULL);
    hand_guest(&hand, &good, 100);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct hand_channel channels[2];
    struct hand_storm storm = {0};
    hand_guest(&hand, &channels[0], 200);
    hand_connect(&hand, &channels[1], dvk_endpoint_make(5, 300), false);
    for (unsigned steps = 0; in.left && steps < 100; steps++) {
        uint8_t op = input_byte(&in);
        struct dvk_message message = {.type = 9, .destination = channels[1].peer};
        if (op >= 0xc0 && op < 0xe8)
            silenced = DVK_NONE; /* we may connect to it, and hand_dvkd answers that it may do everything */
        if (op < 0xc0)
            hand_act(&hand, &channels[op & 1], &in);
        else if (op < 0xd0) {
            if (dvk_call(hand.dvk, hand.self, &message, NULL, 0, NULL, 0, on_done, NULL, NULL) == 0)
                calls_open++;
        } else if (op < 0xe0) {
            if (kept[op % KEPT])
                finish(kept[op % KEPT]);
        } else if (op < 0xe8)
            (void)dvk_notify(hand.dvk, hand.self, channels[op & 1].peer, op);
        else if (op < 0xec && !storm.count)
            hand_storm_start(&storm, &channels[op & 1], &in);
        else if (op < 0xf0)
            tell_privileges(&in, op & 1 ? &channels[1] : NULL);
        hand_dvkd(&hand, &channels[1]);
        if (!(op & 0x20))
            serve();
    }
    serve();
    hand_storm_end(&storm);
    serve_good();
    (void)dvk_guest_unbind(hand.dvk, channels[0].peer, false);
    for (int i = 0; i < 2; i++)
        hand_end(&hand, &channels[i]);
    for (int i = 0; i < KEPT; i++)
        if (kept[i])
            finish(kept[i]);
    hand_dvkd(&hand, NULL);
    serve();
    forget_privileges();
    MUST(calls_open == 0);
    return 0;
}
