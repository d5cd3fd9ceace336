/* SPDX-License-Identifier: Apache-2.0 */
#include "privilege_hand.h"

#include "dvk/internal.h"

#include <stdlib.h>

static struct channel *channel_to(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way) {
    const struct route *route = route_find(dvk, dc, from, way);
    if (!route || !route->channel)
        abort();
    return route->channel;
}

int hand_publish(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, dvk_endpoint to, enum hand_kind kind) {
    static const uint32_t kinds[] = {DVK_SLOT_SEND, DVK_SLOT_SENDREC, DVK_SLOT_POST, DVK_SLOT_SEND};
    struct channel *channel = channel_to(dvk, dc, from, way);
    int slot = channel_slot_take(channel);
    if (slot < 0)
        abort();
    struct dvk_message *message = &channel->view.slot[channel->side][slot].request;
    *message = (struct dvk_message){.source = from, .destination = to, .type = 66, .notify = kind == HAND_NOTIFY ? 9 : 0};
    uint32_t sequence = ++channel->next_sequence & DVK_SEQUENCE_MASK;
    dvk_slot_publish(&channel->view, channel->side, (uint32_t)slot, kinds[kind], sequence);
    channel_ring(dvk, channel);
    return slot;
}

int hand_outcome(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, int slot) {
    const struct channel *channel = channel_to(dvk, dc, from, way);
    const struct dvk_slot *shared = &channel->view.slot[channel->side][slot];
    if (DVK_STATE_KIND(__atomic_load_n(&shared->state, __ATOMIC_ACQUIRE)) != DVK_SLOT_DONE)
        return 1;
    return shared->reply.flags & DVK_MSG_ERROR ? shared->reply.status : 0;
}

void hand_free(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, int slot) {
    channel_slot_free(dvk, channel_to(dvk, dc, from, way), (uint32_t)slot);
}
