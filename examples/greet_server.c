/* SPDX-License-Identifier: Apache-2.0 */
/*
 * greet_server DC: the smallest server. It answers each request, one after another, until it is ended.
 *
 * Request: type GREET, payload: a name. Reply: status 0, payload: the greeting.
 */
#include "example.h"
#include "greet.h"

static void greet(struct dvk *dvk, struct dvk_request *request) {
    struct dvk_message reply = {0};
    char *text = (char *)reply.payload.bytes;
    const char *name = (const char *)request->msg.payload.bytes;
    /* the payload is the client's: it need not end where a string should */
    if (request->msg.type != GREET || strnlen(name, GREET_NAME_MAX + 1) > GREET_NAME_MAX) {
        dvk_reply_status(dvk, request, -EINVAL);
        return;
    }
    snprintf(text, DVK_PAYLOAD_SIZE, "Hello %s on node %u, this is node %u", name, request->source_node, dvk_node(dvk));
    dvk_reply(dvk, request, &reply, NULL, 0);
}

int main(int argc, char **argv) {
    uint32_t dc;
    if (argc != 2) {
        fprintf(stderr, "usage: greet_server DC\n");
        return 2;
    }
    struct dvk *dvk = open_dc(argv[1], &dc);
    bind_service(dvk, dc, SERVICE_GREET);
    say_ready(dvk);
    for (;;) {
        struct dvk_request *request;
        int error = dvk_receive(dvk, &request, -1);
        if (error < 0)
            die("receive", error);
        if (request->wants_reply)
            greet(dvk, request);
        else
            dvk_release(dvk, request); /* a send or a notification: not in our protocol */
    }
}
