/* SPDX-License-Identifier: Apache-2.0 */
/* What the counter's server and clients say to each other, and what they write down. tests/system/chaos reads the files. */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdint.h>

#define COUNTER_SERVICE 100u /* the server's slot is this service's on its node; client i has COUNTER_CLIENT + i */
#define COUNTER_CLIENT 101u
#define COUNTER_CLIENTS_MAX 64u
#define COUNTER_TYPE 0x636e74u

/* The payload of a request, and of its reply. */
struct counter_call {
    uint64_t client;   /* number of the client process, unique in a run */
    uint64_t sequence; /* 1, 2, 3 ...: each is sent once, whatever comes of it */
    uint64_t server;   /* reply: number of the server process */
    uint64_t value;    /* reply: what the server has counted up to */
    uint64_t sum;      /* of the out-of-line data */
};

enum counter_kind {
    COUNTER_DONE = 1,  /* server: executed; client: the call ended with `status` */
    COUNTER_BOUND = 2, /* has its endpoint (again): `server`; status 1: stands by for one */
    COUNTER_WRONG = 3, /* something that must not be: status says what (enum counter_wrong) */
};

enum counter_wrong {
    COUNTER_REPEATED = 1, /* server: a call came twice, or before an earlier one of its client */
    COUNTER_DAMAGED,      /* its data or payload is not what was sent */
    COUNTER_NODE,         /* it does not come from the node that it says */
    COUNTER_UNKNOWN,      /* a message that nobody sends */
    COUNTER_STRANGE,      /* client: the reply is of another call */
};

struct counter_line {
    uint32_t kind;
    int32_t status;
    uint64_t client, sequence, server, value;
    int64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct counter_line) == 56, "read by tests/system/chaos");

#endif
