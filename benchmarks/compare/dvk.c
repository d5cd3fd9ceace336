/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk. Up to DVK_PAYLOAD_SIZE bytes travel in the message itself, more as its data. A loan is written in place by its
 * sender and read in place by its receiver: only its first byte is touched, as that is what the others' copies are saved
 * for. Without a dvkd the tests' stand-in makes the channels; it is on no message's path.
 */
#include "compare.h"
#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <dvk/loan.h>
#include <dvk/post.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE_FIRST 100u /* of the servers' endpoints */
#define SERVICES 128u
#define TIMEOUT_MS 10000

/* One end of a line. */
struct end {
    struct dvk *dvk;
    dvk_endpoint self, server;
    struct dvk_request *held; /* server: to be answered */
};

static void check(const char *what, int result) {
    if (result < 0)
        die(what, dvk_strerror(result));
}

int dvk_end(const struct settings *settings, int side) {
    static struct fake_dvkd *fake;
    if (settings->socket[side])
        return -1;
    if (!fake)
        fake = fake_start(1);
    return fake_client(fake, false, NULL);
}

struct dvk *dvk_end_open(const struct settings *settings, int side, int fd) {
    struct dvk *dvk = NULL;
    if (settings->socket[side])
        check("dvk: open", dvk_open(settings->socket[side], &dvk));
    else
        check("dvk: open", dvk_open_fd(fd, &dvk));
    return dvk;
}

static void dvk_prepare(struct line *line) {
    if (!line->settings->socket[0])
        line->more = fake_start(1);
    for (int side = 0; side < 2; side++)
        line->fd[side] = line->more ? fake_client(line->more, false, NULL) : -1;
}

static void dvk_finish(struct line *line) {
    if (!line->more)
        return;
    close(line->fd[0]);
    close(line->fd[1]);
    fake_stop(line->more);
}

static struct end *end_new(struct line *line, int side) {
    struct end *end = calloc(1, sizeof *end);
    if (!end)
        die_errno("dvk");
    if (line->fd[1 - side] >= 0)
        close(line->fd[1 - side]); /* the other process has it too */
    end->dvk = dvk_end_open(line->settings, side, line->fd[side]);
    line->state = end;
    return end;
}

static void dvk_serve(struct line *line, struct contact *contact) {
    struct end *end = end_new(line, 1);
    uint32_t service = SERVICE_FIRST + line->index % SERVICES;
    check("dvk: bind", dvk_bind(end->dvk, line->settings->dc, dvk_system_slot(dvk_node(end->dvk), service), &end->self));
    check("dvk: accept", dvk_accept(end->dvk, BYTES_MAX));
    contact->number = end->self;
}

static void dvk_connect(struct line *line, const struct contact *contact) {
    struct end *end = end_new(line, 0);
    check("dvk: bind", dvk_bind(end->dvk, line->settings->dc, DVK_SLOT_ANY, &end->self));
    end->server = contact->number;
}

/* ---- client ---- */

/* Put data, or its first byte, into a message. Returns how much is to go beside it. */
static size_t message_fill(const struct line *line, struct dvk_message *message, const uint8_t *data) {
    const struct end *end = line->state;
    size_t data_len = line->bytes <= DVK_PAYLOAD_SIZE ? 0 : line->bytes;
    *message = (struct dvk_message){.destination = end->server, .type = 1};
    memcpy(message->payload.bytes, data, data_len ? 1 : line->bytes);
    return data_len;
}

static void dvk_exchange(struct line *line, const uint8_t *data, uint8_t *reply) {
    struct end *end = line->state;
    struct dvk_message message;
    size_t got, len = message_fill(line, &message, data);
    check("dvk: sendrec",
          dvk_sendrec(end->dvk, end->self, &message, data, len, reply, line->bytes, &got, TIMEOUT_MS));
    if (len == 0)
        memcpy(reply, message.payload.bytes, line->bytes);
}

static void dvk_post_one(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    struct dvk_message message;
    size_t len = message_fill(line, &message, data);
    check("dvk: post", dvk_post(end->dvk, end->self, &message, data, len, TIMEOUT_MS));
}

static void dvk_send_one(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    struct dvk_message message;
    size_t len = message_fill(line, &message, data);
    check("dvk: send", dvk_send(end->dvk, end->self, &message, data, len, TIMEOUT_MS));
}

/* A loan with its first byte written. */
static uint8_t *loan_of(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    void *loan;
    int error;
    struct dvk_request *req;
    while ((error = dvk_loan_get(end->dvk, end->self, end->server, line->bytes, TIMEOUT_MS, &loan)) == -EAGAIN)
        if (dvk_receive(end->dvk, &req, 1) == 0) /* the channel is lent out: some come back */
            dvk_release(end->dvk, req);
    check("dvk: loan", error);
    *(uint8_t *)loan = data[0];
    return loan;
}

static void dvk_loan_exchange(struct line *line, const uint8_t *data, uint8_t *reply) {
    struct end *end = line->state;
    struct dvk_message message = {.destination = end->server, .type = 1, .payload.bytes[0] = data[0]};
    uint8_t *loan = loan_of(line, data);
    check("dvk: sendrec", dvk_sendrec(end->dvk, end->self, &message, loan, line->bytes, NULL, 0, NULL, TIMEOUT_MS));
}

static void dvk_loan_post(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    struct dvk_message message = {.destination = end->server, .type = 1, .payload.bytes[0] = data[0]};
    uint8_t *loan = loan_of(line, data);
    check("dvk: post", dvk_post(end->dvk, end->self, &message, loan, line->bytes, TIMEOUT_MS));
}

/* ---- server ---- */

/* copy: take all of the data, not its first byte only */
static void take(struct line *line, uint8_t *data, bool copy) {
    struct end *end = line->state;
    struct dvk_request *req;
    check("dvk: receive", dvk_receive(end->dvk, &req, -1));
    if (req->msg.data_len != (line->bytes <= DVK_PAYLOAD_SIZE && copy ? 0 : line->bytes))
        die("dvk", "a message of another length");
    if (req->msg.data_len == 0)
        memcpy(data, req->msg.payload.bytes, line->bytes);
    else
        memcpy(data, req->data, copy ? line->bytes : 1);
    if (req->wants_reply)
        end->held = req;
    else
        dvk_release(end->dvk, req);
}
static void dvk_take(struct line *line, uint8_t *data) {
    take(line, data, true);
}
static void dvk_loan_take(struct line *line, uint8_t *data) {
    take(line, data, false);
}

static void dvk_answer(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    struct dvk_message reply = {.status = 0, .data_len = end->held->msg.data_len};
    if (reply.data_len == 0)
        memcpy(reply.payload.bytes, data, line->bytes);
    else
        memcpy(end->held->reply_data, data, line->bytes);
    dvk_reply(end->dvk, end->held, &reply, NULL, 0);
}

static void dvk_loan_answer(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    struct dvk_message reply = {.status = 0, .data_len = (uint32_t)line->bytes};
    *(uint8_t *)end->held->reply_data = data[0];
    dvk_reply(end->dvk, end->held, &reply, NULL, 0);
}

#define EVERYWHERE (PLACE_LOCAL | PLACE_REMOTE)
const struct transport transport_dvk = {
    "dvk",       "libdvk: dvk_sendrec; dvk_post", EVERYWHERE,   SHAPE_ROUND_TRIP | SHAPE_ONE_WAY, BYTES_MAX, dvk_prepare, dvk_serve,
    dvk_connect, dvk_post_one,                    dvk_exchange, dvk_take,                         dvk_answer, dvk_finish,
};
const struct transport transport_dvk_send = {
    "dvk-send",  "libdvk: dvk_send (rendezvous)", EVERYWHERE,   SHAPE_ONE_WAY, BYTES_MAX,  dvk_prepare, dvk_serve,
    dvk_connect, dvk_send_one,                    dvk_exchange, dvk_take,      dvk_answer, dvk_finish,
};
const struct transport transport_dvk_loan = {
    "dvk-loan",  "libdvk: loans, in place", PLACE_LOCAL,       SHAPE_ROUND_TRIP | SHAPE_ONE_WAY, BYTES_MAX,       dvk_prepare, dvk_serve,
    dvk_connect, dvk_loan_post,             dvk_loan_exchange, dvk_loan_take,                    dvk_loan_answer, dvk_finish,
};
