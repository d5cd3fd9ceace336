/* SPDX-License-Identifier: Apache-2.0 */
/* ZeroMQ: a PAIR socket at each end, over ipc: on one machine, over tcp: between two. */
#include "compare.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static void zmq_die(const char *what) {
    die(what, zmq_strerror(zmq_errno()));
}

static void zmq_open(struct line *line) {
    int linger = 0;
    line->more = zmq_ctx_new();
    line->state = line->more ? zmq_socket(line->more, ZMQ_PAIR) : NULL;
    if (!line->state || zmq_setsockopt(line->state, ZMQ_LINGER, &linger, sizeof linger) < 0)
        zmq_die("zmq: open");
}

static void zmq_serve(struct line *line, struct contact *contact) {
    char where[80];
    size_t len = sizeof contact->text;
    zmq_open(line);
    if (line->remote)
        snprintf(where, sizeof where, "tcp://%s:*", line->settings->address);
    else /* an abstract address: nothing to remove */
        snprintf(where, sizeof where, "ipc://@dvs-bench-%d-%u", (int)getpid(), line->index);
    if (zmq_bind(line->state, where) < 0 || zmq_getsockopt(line->state, ZMQ_LAST_ENDPOINT, contact->text, &len) < 0)
        zmq_die("zmq: bind");
}

static void zmq_reach(struct line *line, const struct contact *contact) {
    zmq_open(line);
    if (zmq_connect(line->state, contact->text) < 0)
        zmq_die("zmq: connect");
}

static void zmq_put(struct line *line, const uint8_t *data) {
    if (zmq_send(line->state, data, line->bytes, 0) != (int)line->bytes)
        zmq_die("zmq: send");
}

static void zmq_take(struct line *line, uint8_t *data) {
    if (zmq_recv(line->state, data, line->bytes, 0) != (int)line->bytes)
        zmq_die("zmq: receive");
}

static void zmq_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    zmq_put(line, data);
    zmq_take(line, reply);
}

const struct transport transport_zmq = {
    "zmq",     "ZeroMQ PAIR, ipc or tcp", PLACE_LOCAL | PLACE_REMOTE, SHAPE_ROUND_TRIP | SHAPE_ONE_WAY, BYTES_MAX, NULL, zmq_serve,
    zmq_reach, zmq_put,                   zmq_call,                   zmq_take,                         zmq_put,   NULL,
};
