/* SPDX-License-Identifier: Apache-2.0 */
/* nng: a pair0 socket at each end, over ipc: on one machine, over tcp: between two. */
#include "compare.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void nng_check(const char *what, int error) {
    if (error)
        die(what, nng_strerror(error));
}

static nng_socket *nng_new(struct line *line) {
    nng_socket *sock = malloc(sizeof *sock);
    if (!sock)
        die_errno("nng");
    nng_check("nng: open", nng_pair0_open(sock));
    nng_check("nng: size", nng_socket_set_size(*sock, NNG_OPT_RECVMAXSZ, 0));
    line->state = sock;
    return sock;
}

static void nng_serve(struct line *line, struct contact *contact) {
    nng_socket *sock = nng_new(line);
    if (line->remote) {
        nng_listener listener;
        nng_sockaddr address;
        snprintf(contact->text, sizeof contact->text, "tcp://%s:0", line->settings->address);
        nng_check("nng: listen", nng_listen(*sock, contact->text, &listener, 0));
        nng_check("nng: address", nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address));
        snprintf(contact->text, sizeof contact->text, "tcp://%s:%u", line->settings->address,
                 (unsigned)(uint16_t)(address.s_in.sa_port >> 8 | address.s_in.sa_port << 8));
    } else { /* an abstract address: nothing to remove */
        snprintf(contact->text, sizeof contact->text, "abstract://dvs-bench-%d-%u", (int)getpid(), line->index);
        nng_check("nng: listen", nng_listen(*sock, contact->text, NULL, 0));
    }
}

static void nng_reach(struct line *line, const struct contact *contact) {
    nng_socket *sock = nng_new(line);
    nng_check("nng: dial", nng_dial(*sock, contact->text, NULL, 0));
}

static void nng_put(struct line *line, const uint8_t *data) {
    nng_socket *sock = line->state;
    nng_check("nng: send", nng_send(*sock, (void *)(uintptr_t)data, line->bytes, 0));
}

static void nng_take(struct line *line, uint8_t *data) {
    nng_socket *sock = line->state;
    size_t len = line->bytes;
    nng_check("nng: receive", nng_recv(*sock, data, &len, 0));
    if (len != line->bytes)
        die("nng: receive", "wrong length");
}

static void nng_call(struct line *line, const uint8_t *data, uint8_t *reply) {
    nng_put(line, data);
    nng_take(line, reply);
}

const struct transport transport_nng = {
    "nng",     "nng pair, ipc or tcp", PLACE_LOCAL | PLACE_REMOTE, SHAPE_ROUND_TRIP | SHAPE_ONE_WAY, BYTES_MAX, NULL, nng_serve,
    nng_reach, nng_put,                nng_call,                   nng_take,                         nng_put,   NULL,
};
