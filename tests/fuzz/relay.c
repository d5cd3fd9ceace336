/* SPDX-License-Identifier: Apache-2.0 */
/* libdvk as the proxy has it: a guest-like peer that sends to any destination, and one that we call on behalf of others. */
#include "common/log.h"
#include "dvk/relay.h"

#include <dvk/loan.h>
#include "hand.h"

#include <dvk/error.h>
#include <unistd.h>

#define KEPT 8

static struct hand hand;
static struct dvk_request *kept[KEPT];
static unsigned calls_open;

static void finish(struct dvk_request *req, bool error) {
    struct dvk_message reply = {.status = 0};
    for (int i = 0; i < KEPT; i++)
        if (kept[i] == req)
            kept[i] = NULL;
    if (error)
        dvk_reply_error(hand.dvk, req, -DVK_ENODEUNREACH);
    else
        dvk_reply(hand.dvk, req, &reply, NULL, 0);
}

static void on_cancel(void *context, struct dvk_request *req) { finish(req, true); }
static void on_event(void *context, const struct dvk_event *event) {}
static void on_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t len, const int *fds,
                    unsigned fd_count) {
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    MUST(calls_open-- > 0);
}

static void serve(void) {
    struct dvk_request *req;
    for (int i = 0; i < 64 && dvk_receive(hand.dvk, &req, 0) == 0; i++) {
        MUST(req->msg.source != DVK_NONE && req->dc == HAND_DC && req->msg.data_len <= DVK_LOAN_MAX && req->msg.data_len <= req->reply_cap);
        input_touch(req->data, req->msg.data_len);
        for (unsigned k = 0; k < req->fd_count; k++)
            close(req->fds[k]);
        req->fd_count = 0;
        int at = (int)(req->msg.destination % KEPT);
        if (kept[at])
            finish(req, req->msg.type & 1);
        else
            kept[at] = req;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    hand_open(&hand, true);
    dvk_on_cancel(hand.dvk, on_cancel, NULL);
    dvk_on_event(hand.dvk, on_event, NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct hand_channel channel;
    struct hand_storm storm = {0};
    hand_connect(&hand, &channel, dvk_endpoint_make(5, 300), false);
    for (unsigned steps = 0; in.left && steps < 100; steps++) {
        uint8_t op = input_byte(&in);
        uint8_t body[64];
        struct dvk_message message = {.type = 9, .source = dvk_endpoint_make(2, 500), .destination = channel.peer, .reserved = 3};
        if (op < 0xc0)
            hand_act(&hand, &channel, &in);
        else if (op < 0xd8) {
            input_copy(&in, body, sizeof body);
            message.data_len = op & 1 ? sizeof body : 0;
            message.notify = op & 2 && op & 4 ? 1 : 0;
            int error = op & 4 ? dvk_send_as(hand.dvk, HAND_DC, &message, body, message.data_len, on_done, NULL, NULL)
                               : dvk_call_as(hand.dvk, HAND_DC, &message, body, message.data_len, on_done, NULL, NULL);
            calls_open += error == 0;
        } else if (op >= 0xfc && !storm.count)
            hand_storm_start(&storm, &channel, &in);
        else if (kept[op % KEPT])
            finish(kept[op % KEPT], op & 0x10);
        hand_dvkd(&hand, &channel);
        if (!(op & 0x20))
            serve();
    }
    serve();
    hand_storm_end(&storm);
    for (int i = 0; i < KEPT; i++)
        if (kept[i])
            finish(kept[i], true);
    hand_end(&hand, &channel);
    serve();
    for (int i = 0; i < KEPT; i++)
        if (kept[i])
            finish(kept[i], true);
    hand_dvkd(&hand, NULL);
    serve();
    MUST(calls_open == 0);
    return 0;
}
