/* SPDX-License-Identifier: Apache-2.0 */
/* What was granted on this node, as dvkd tells it. No I/O but closing descriptors. Single threaded. */
#ifndef COPIER_GRANTS_H
#define COPIER_GRANTS_H

#include "common/table.h"
#include "dvk/broker.h"

#include <dvk/endpoint.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What grants lie in: a process's memory (/proc/PID/mem) or an arena. */
struct memory {
    uint64_t number;
    int fd;
    unsigned grants; /* it is forgotten with the last */
    bool is_arena;
    uint8_t *base; /* of an arena; NULL: not mapped */
    size_t size;
};

struct grant {
    uint64_t number;
    struct memory *memory;
    uint32_t dc;
    dvk_endpoint owner, grantee;
    struct dvk_broker_grant what;
};

#define GRAVES 4096u
struct grave {
    uint64_t number;
    int status;
};

struct grants {
    struct table grants, memories;
    uint64_t highest;            /* number that dvkd has given out, as far as we know, without its marks */
    struct grave graves[GRAVES]; /* of grants that ended lately; a ring */
    unsigned next_grave;
};

void grants_init(struct grants *grants);
void grants_free(struct grants *grants);

/*
 * A GRANT_MADE: head, its text_len bytes of text, the descriptor or -1. Returns 0 or -EPROTO (nonsense: nothing is
 * changed) or -ENOMEM. *fd: set to -1 if it is taken over.
 */
int grants_made(struct grants *grants, const struct dvk_broker_packet *head, const void *text, int *fd);
/* A GRANT_GONE. What is not known is ignored. */
void grants_gone(struct grants *grants, const struct dvk_broker_packet *head);

/* A part of a grant that somebody wants to use. */
struct claim {
    uint32_t dc;
    dvk_endpoint requester, owner;
    uint64_t grant, offset, length;
    uint32_t access; /* DVK_GRANT_READ or DVK_GRANT_WRITE */
};

/* 0 and *out, or -DVK_ENOTGRANTED, -DVK_EREVOKED, -DVK_EOUTOFGRANT, or -DVK_EDEADDST (the owner is gone). *out: valid
 * until the next call of grants_made or grants_gone. Any bytes in *claim are survived. */
int grants_check(const struct grants *grants, const struct claim *claim, const struct grant **out);

#endif
