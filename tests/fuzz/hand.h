/* SPDX-License-Identifier: Apache-2.0 */
/* A libdvk context whose dvkd and peers are played by hand, without threads of our own but for a storm. */
#ifndef FUZZ_HAND_H
#define FUZZ_HAND_H

#include "dvk/broker.h"
#include "dvk/ring.h"
#include "input.h"

#include <dvk/dvk.h>
#include <pthread.h>

#define HAND_NODE 1u
#define HAND_DC 3u

struct hand {
    struct dvk *dvk;
    int dvkd; /* dvkd's end of the context's socket */
    dvk_endpoint self;
    struct dvk_doorbell *bell; /* the context's */
    int peer_bell;             /* a peer's doorbell page */
};

/* The peer's end of one channel. */
struct hand_channel {
    uint64_t number;
    struct dvk_channel_view view;
    int memfd, socket, side; /* side: the peer's */
    dvk_endpoint peer;
    uint32_t sequence;
};

/* Open a context that is bound as pm of its node; a relay is bound as nothing. */
void hand_open(struct hand *hand, bool relay);
/* A channel to a peer that has connected. proxy: the peer vouches for sources. */
void hand_connect(struct hand *hand, struct hand_channel *channel, dvk_endpoint peer, bool proxy);
/* A guest of the context. */
void hand_guest(struct hand *hand, struct hand_channel *channel, uint32_t slot);
/* The channel is dead: both sides are told, ours is dropped. */
void hand_end(struct hand *hand, struct hand_channel *channel);
/* Answer what the context asks of dvkd: CONNECTs lead to `channel` (NULL: not bound). */
void hand_dvkd(struct hand *hand, struct hand_channel *channel);
/* One thing that a peer does to its channel, as the input says. */
void hand_act(struct hand *hand, struct hand_channel *channel, struct input *in);


#define HAND_STORM_WORDS 4u

/* A thread that writes words of the channel, named by the input, all the time, so that what is read twice differs. */
struct hand_storm {
    pthread_t thread;
    unsigned count; /* 0: there is none */
    uint32_t *at[HAND_STORM_WORDS];
    uint32_t value[HAND_STORM_WORDS][2];
    bool stop;
};
void hand_storm_start(struct hand_storm *storm, struct hand_channel *channel, struct input *in);
void hand_storm_end(struct hand_storm *storm);

#endif
