/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the transports of the comparison share. A transport carries messages of a fixed number of bytes between two
 * processes, from a private buffer of the sender into a private buffer of the receiver. Its functions are called by the
 * one measuring loop in compare.c; those that cannot go on call die().
 *
 * The first byte of a message says whether the receiver answers it (FLAG_REPLY) with one of the same size.
 */
#ifndef COMPARE_H
#define COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTES_MAX (1u << 20)
#define FLAG_REPLY 1u

enum place { PLACE_LOCAL = 1, PLACE_REMOTE = 2 };
enum shape { SHAPE_ROUND_TRIP = 1, SHAPE_ONE_WAY = 2 };

struct settings {
    const char *socket[2];  /* dvkds of the client's and the server's node; NULL: a stand-in of one node */
    uint32_t dc;            /* in which the dvk transport binds its endpoints */
    const char *address;    /* IPv4 address that a remote server listens at */
    const char *key, *cert; /* of the TLS server, PEM files; NULL: made at start */
};

/* What the server tells the client when it can be reached. */
struct contact {
    uint64_t number;
    char text[120];
};

/* A transport between one client and one server. */
struct line {
    const struct settings *settings;
    unsigned index; /* among those at work at the same time */
    size_t bytes;   /* of each message */
    bool remote;
    int fd[4];      /* the transport's own, from here on */
    void *state;
    void *more;
};

struct transport {
    const char *name;
    const char *says; /* what it is */
    unsigned places, shapes;
    size_t bytes_max;
    void (*prepare)(struct line *line); /* before the fork; may be NULL */
    void (*serve)(struct line *line, struct contact *contact);
    void (*connect)(struct line *line, const struct contact *contact);
    void (*post)(struct line *line, const uint8_t *data);                 /* client: send, do not wait for the receiver */
    void (*call)(struct line *line, const uint8_t *data, uint8_t *reply); /* client: send, wait for the reply */
    void (*receive)(struct line *line, uint8_t *data);                    /* server: the next message */
    void (*reply)(struct line *line, const uint8_t *data);                /* server: answer the last one */
    void (*finish)(struct line *line);                                    /* parent, after both ended; may be NULL */
};

extern const struct transport transport_futex, transport_pipe, transport_unix, transport_sysv, transport_mq,
    transport_tcp, transport_tls, transport_zmq, transport_nng, transport_dvk, transport_dvk_send,
    transport_dvk_loan;

_Noreturn void die(const char *what, const char *why); /* prints both */
_Noreturn void die_errno(const char *what);
int64_t now_ns(void);
void pin(int cpu); /* -1: leave it to the scheduler */

/* Streams: all bytes, whatever the kernel takes at a time. */
void write_all(int fd, const void *data, size_t len);
void read_all(int fd, void *data, size_t len);
/* Connected TCP sockets without delay: listen at address (NULL: loopback) and any port; connect there. */
int tcp_listen(const char *address, uint16_t *port);
int tcp_accept(int listener);
int tcp_connect(const char *address, uint16_t port);

/* scale.c: many pairs, many clients, many endpoints; see there. Return the exit code. */
int scale_pairs(const struct settings *settings, const struct transport *transport, unsigned pairs, int milliseconds);
int scale_clients(const struct settings *settings, unsigned clients, int milliseconds);
int scale_endpoints(const struct settings *settings, unsigned endpoints, int milliseconds);

/* dvk.c: a socket of the stand-in, to be made before a fork; -1 where there is a dvkd. */
int dvk_end(const struct settings *settings, int side);
/* A context at the client's (0) or the server's (1) node; fd: of dvk_end. */
struct dvk;
struct dvk *dvk_end_open(const struct settings *settings, int side, int fd);

#endif
