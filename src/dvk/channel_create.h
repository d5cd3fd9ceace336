/* SPDX-License-Identifier: Apache-2.0 */
/* Making channels and doorbells and declaring channels dead: what dvkd does (and tests that play dvkd). Hosted. */
#ifndef DVK_CHANNEL_CREATE_H
#define DVK_CHANNEL_CREATE_H

#include "dvk/channel.h"

/*
 * dvk_channel_create: a new channel's memfd, with its header written and sealed against shrinking, growing and
 * further seals. slots: of each side, powers of two up to DVK_CHANNEL_MAX_SLOTS. data_bytes: of each buffer, a
 * multiple of DVK_PAGE. *memfd: close-on-exec, the caller owns it.
 * Errors: -EINVAL, -EMFILE, -ENFILE, -ENOMEM. Thread safe. Source: memfd_create(2), fcntl(2) F_ADD_SEALS.
 */
int dvk_channel_create(const uint32_t slots[2], uint32_t data_bytes, int *memfd);

/* The socket pair that goes with a channel, sides 0 and 1: SOCK_SEQPACKET, close-on-exec, not blocking. */
int dvk_channel_sockets(int sockets[2]);

/*
 * dvk_channel_mark_dead: a party is gone. Sets header.dead, turns each WAITING slot to DEAD and wakes its waiter.
 * Whatever the parties have written into the channel is survived; a memfd that is no channel is left alone.
 */
void dvk_channel_mark_dead(int memfd);

/* A doorbell page's memfd, zeroed and sealed. Errors as dvk_channel_create. */
int dvk_doorbell_create(int *memfd);

#endif
