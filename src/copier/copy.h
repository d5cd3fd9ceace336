/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies under way.
 *
 *   asked --both ends here--> LOCAL: in the work list, a slice a turn -----------------\
 *         --source elsewhere-> REMOTE: pieces are asked for, WINDOW at a time; each is  +--> answered; freed when no
 * piece checked and written when it comes ----------------------/     is under way any more
 *
 * Any error, cancellation or the end of the time answers it at once, with the bytes that are known to be there; pieces
 * that come later are dropped.
 */
#ifndef COPIER_COPY_H
#define COPIER_COPY_H

#include "copier/grants.h"
#include "dvk/copier.h"
#include "dvk/list.h"

struct copier {
    struct dvk *dvk;
    struct grants grants;
    struct link work; /* struct copy.link: local ones with something left to do */
};

/* A request; it is taken over. */
void copy_request(struct copier *copier, struct dvk_request *req);
/* Its requester wants it to end, or is gone. */
void copy_cancelled(void *context, struct dvk_request *req);
/* One slice of the first copy in the work list. */
void copy_turn(struct copier *copier);

#endif
