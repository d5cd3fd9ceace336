/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our end (side 0) of the channel to our cell's servers. One a process, shared by its threads.
 *
 * A slot of our side is taken from a bitmap (host/slots.h) by compare-and-swap; the ring's append is under ring_lock,
 * since a ring has one writer. Descriptors that come over the socket for another thread's slot are set aside in `stash`.
 * Lock order: none of these is held while another is taken, except that nothing else is taken under ring_lock.
 */
#ifndef PERSONALITY_HOST_CHANNEL_H
#define PERSONALITY_HOST_CHANNEL_H

#include "dvk/ring.h"
#include "personality/host/slots.h"
#include "personality/personality.h"

struct fd_stash {
    uint32_t sequence;
    uint32_t count; /* 0: empty */
    int fds[DVK_MESSAGE_FDS];
};

struct channel {
    struct dvk_channel_view view;
    uint64_t mapped, mapped_len; /* where it is mapped; 0: not */
    uint32_t node;               /* node of our cell; 0 until PM_HELLO said so */
    int socket;
    uint32_t sequence;           /* of the last request */
    uint32_t spin;               /* how many polls a wait may make before it sleeps: grows when that helps */
    struct lock ring_lock, receive_lock;
    struct slot_set slots;
    struct fd_stash stash[DVK_GUEST_SLOTS];
};

/* The doorbell page of our servers; the same for all processes of a cell. */
extern struct dvk_doorbell *channel_doorbell;

/*
 * channel_open: map the channel and make it ready. memfd is closed, socket is owned by the channel from now on (both also when
 * it fails). 0 or negative errno.
 */
int channel_open(struct channel *channel, int memfd, int socket);
/* Unmap it and forget the socket's number; close_socket: also close that. */
void channel_close(struct channel *channel, bool close_socket);
/* -DVK_E* and other statuses of a reply as a Linux errno. */
long channel_errno(int32_t status);

struct channel *process_channel(struct process *process);

#endif
