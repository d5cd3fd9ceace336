/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk. Up to DVK_PAYLOAD_SIZE bytes travel in the message itself, up to DVK_DATA_MAX as its data, more as several
 * messages that are under way together. Without a dvkd the tests' stand-in makes the channels; it is on no message's
 * path.
 */
#include "compare.h"
#include "fake_dvkd.h"

#include <dvk/dvk.h>
#include <dvk/post.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE_FIRST 100u /* of the servers' endpoints */
#define SERVICES 128u
#define PIECES (BYTES_MAX / DVK_DATA_MAX)
#define TIMEOUT_MS 10000

/* One end of a line. */
struct end {
    struct dvk *dvk;
    dvk_endpoint self, server;
    struct dvk_request *held[PIECES]; /* server: to be answered */
    unsigned held_count;
    unsigned pending; /* client: calls under way */
    uint8_t *into;    /* and where their replies go */
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
    contact->number = end->self;
}

static void dvk_connect(struct line *line, const struct contact *contact) {
    struct end *end = end_new(line, 0);
    check("dvk: bind", dvk_bind(end->dvk, line->settings->dc, DVK_SLOT_ANY, &end->self));
    end->server = contact->number;
}

/* ---- client ---- */

static struct dvk_message message_of(const struct end *end, const uint8_t *data, size_t len, size_t *data_len) {
    struct dvk_message message = {.destination = end->server, .type = 1};
    *data_len = len <= DVK_PAYLOAD_SIZE ? 0 : len;
    if (*data_len == 0)
        memcpy(message.payload.bytes, data, len);
    else
        message.payload.bytes[0] = data[0];
    return message;
}

static void piece_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                       const int *fds, unsigned fd_count) {
    struct end *end = context;
    check("dvk: call", status);
    if (data_len)
        memcpy(end->into + reply->payload.words[1], data, data_len < DVK_DATA_MAX ? data_len : DVK_DATA_MAX);
    if (--end->pending == 0)
        dvk_wake(end->dvk);
}

static void dvk_call_in_pieces(struct line *line, const uint8_t *data, uint8_t *reply) {
    struct end *end = line->state;
    struct dvk_request *req;
    end->into = reply;
    for (size_t at = 0; at < line->bytes; at += DVK_DATA_MAX) {
        size_t len;
        struct dvk_message message = message_of(end, data + at, DVK_DATA_MAX, &len);
        message.payload.bytes[0] = data[0];
        message.payload.words[1] = at;
        check("dvk: call", dvk_call(end->dvk, end->self, &message, data + at, len, NULL, 0, piece_done, end, NULL));
        end->pending++;
    }
    while (end->pending) {
        int result = dvk_receive(end->dvk, &req, TIMEOUT_MS);
        if (result == 0)
            dvk_release(end->dvk, req);
        else if (result != -DVK_EINTERRUPTED)
            check("dvk: receive", result);
    }
}

static void dvk_exchange(struct line *line, const uint8_t *data, uint8_t *reply) {
    struct end *end = line->state;
    size_t len, got;
    if (line->bytes > DVK_DATA_MAX) {
        dvk_call_in_pieces(line, data, reply);
        return;
    }
    struct dvk_message message = message_of(end, data, line->bytes, &len);
    check("dvk: sendrec",
          dvk_sendrec(end->dvk, end->self, &message, data, len, reply, line->bytes, &got, TIMEOUT_MS));
    if (len == 0)
        memcpy(reply, message.payload.bytes, line->bytes);
}

static void dvk_post_pieces(struct line *line, const uint8_t *data, bool rendezvous) {
    struct end *end = line->state;
    for (size_t at = 0; at < line->bytes; at += DVK_DATA_MAX) {
        size_t len, piece = line->bytes - at < DVK_DATA_MAX ? line->bytes - at : DVK_DATA_MAX;
        struct dvk_message message = message_of(end, data + at, piece, &len);
        message.payload.bytes[0] = piece <= DVK_PAYLOAD_SIZE ? data[at] : data[0];
        if (len)
            message.payload.words[1] = at;
        if (rendezvous)
            check("dvk: send", dvk_send(end->dvk, end->self, &message, data + at, len, TIMEOUT_MS));
        else
            check("dvk: post", dvk_post(end->dvk, end->self, &message, data + at, len, TIMEOUT_MS));
    }
}
static void dvk_post_one(struct line *line, const uint8_t *data) {
    dvk_post_pieces(line, data, false);
}
static void dvk_send_one(struct line *line, const uint8_t *data) {
    dvk_post_pieces(line, data, true);
}

/* ---- server ---- */

static void dvk_take(struct line *line, uint8_t *data) {
    struct end *end = line->state;
    for (size_t got = 0; got < line->bytes;) {
        struct dvk_request *req;
        check("dvk: receive", dvk_receive(end->dvk, &req, -1));
        if (req->msg.data_len == 0) {
            memcpy(data, req->msg.payload.bytes, line->bytes);
            got = line->bytes;
        } else {
            uint64_t at = line->bytes > DVK_DATA_MAX ? req->msg.payload.words[1] : 0;
            if (at + req->msg.data_len > line->bytes)
                die("dvk", "a piece that does not fit");
            memcpy(data + at, req->data, req->msg.data_len);
            got += req->msg.data_len;
        }
        if (req->wants_reply)
            end->held[end->held_count++ % PIECES] = req;
        else
            dvk_release(end->dvk, req);
    }
}

static void dvk_answer(struct line *line, const uint8_t *data) {
    struct end *end = line->state;
    for (unsigned i = 0; i < end->held_count; i++) {
        struct dvk_request *req = end->held[i];
        struct dvk_message reply = {.status = 0, .data_len = req->msg.data_len};
        if (req->msg.data_len == 0) {
            memcpy(reply.payload.bytes, data, line->bytes);
        } else {
            uint64_t at = line->bytes > DVK_DATA_MAX ? req->msg.payload.words[1] : 0;
            reply.payload.words[1] = at;
            memcpy(req->reply_data, data + at, req->msg.data_len);
        }
        dvk_reply(end->dvk, req, &reply, NULL, 0);
    }
    end->held_count = 0;
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
