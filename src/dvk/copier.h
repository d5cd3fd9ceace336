/* SPDX-License-Identifier: Apache-2.0 */
/* libdvk for a node's copier, which is a relay too (relay.h): what dvkd tells it of grants. Exported for dvs-copier
 * only. */
#ifndef DVK_COPIER_H
#define DVK_COPIER_H

#include "dvk/broker.h"
#include "dvk/relay.h"

/*
 * Called with each GRANT_MADE and GRANT_GONE (head, text of head->text_len bytes) as soon as it is read, from within
 * any call of libdvk (dvk_copier_open too, when *out is set already) or, while the main thread sleeps in dvk_receive,
 * in the poller's thread; never in both at once. It takes a descriptor over by setting it to -1; the others are closed.
 */
typedef void dvk_copier_told(void *context, const struct dvk_broker_packet *head, const void *text, int *fds,
                             unsigned fd_count);
/* dvk_open_fd and dvk_relay_enable for a copier. Errors as dvk_open_fd. */
int dvk_copier_open(int fd, dvk_copier_told *told, void *context, struct dvk **out);
/* Handle what dvkd has told and has not been read yet. Never blocks. */
void dvk_copier_drain(struct dvk *dvk);
/* Tell dvkd that the GRANT_GONE with that id is obeyed. */
void dvk_copier_done(struct dvk *dvk, uint64_t id);

#endif
