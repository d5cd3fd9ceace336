/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints at a channel's other end: an array in the order in which dvkd told of them, and once they are more than a
 * few a hash table over it, since each message's source is looked up here.
 */
#include "dvk/internal.h"

#include <stdlib.h>

#define FEW 8u
#define ARRAY_MIN 4u

static uint32_t place_of(const struct channel *channel, dvk_endpoint peer) {
    return (uint32_t)((peer * 0x9e3779b97f4a7c15ull) >> 32) & (channel->peer_places - 1);
}

/* Its place in the table, or the free one where it belongs. */
static uint32_t table_find(const struct channel *channel, dvk_endpoint peer) {
    uint32_t place = place_of(channel, peer);
    while (channel->peer_table[place] && channel->peers[channel->peer_table[place] - 1] != peer)
        place = (place + 1) & (channel->peer_places - 1);
    return place;
}

/* Make the table, twice as large as what it will hold until the next time. */
static int table_make(struct channel *channel) {
    uint32_t places = channel->peer_cap * 2;
    uint32_t *table = calloc(places, sizeof *table);
    if (!table)
        return -ENOMEM;
    free(channel->peer_table);
    channel->peer_table = table;
    channel->peer_places = places;
    for (uint32_t i = 0; i < channel->peer_count; i++)
        table[table_find(channel, channel->peers[i])] = i + 1;
    return 0;
}

bool channel_peer_known(const struct channel *channel, dvk_endpoint peer) {
    if (channel->peer_table)
        return channel->peer_table[table_find(channel, peer)] != 0;
    for (uint32_t i = 0; i < channel->peer_count; i++)
        if (channel->peers[i] == peer)
            return true;
    return false;
}

void channel_left_free(struct channel *channel) {
    struct left_peer *left;
    while ((left = list_first(&channel->left, struct left_peer, link))) {
        list_remove(&left->link);
        free(left);
    }
}

static void left_note(struct channel *channel, dvk_endpoint peer) {
    struct left_peer *left = malloc(sizeof *left);
    if (!left)
        return; /* what it had sent is refused */
    left->peer = peer;
    left->until = __atomic_load_n(&channel->view.header->ring[1 - channel->side].head, __ATOMIC_ACQUIRE);
    list_append(&channel->left, &left->link);
}

bool channel_peer_was(struct channel *channel, dvk_endpoint peer) {
    list_each(left, &channel->left, struct left_peer, link) {
        if ((int32_t)(left->until - channel->taken) <= 0) {
            list_remove(&left->link);
            free(left);
        } else if (left->peer == peer)
            return true;
    }
    return false;
}

void channel_peer_leave(struct channel *channel, dvk_endpoint peer) {
    for (uint32_t i = 0; i < channel->peer_count; i++) {
        if (channel->peers[i] != peer)
            continue;
        left_note(channel, peer);
        channel->peers[i] = channel->peers[--channel->peer_count];
        if (channel->peer_table) {
            memset(channel->peer_table, 0, channel->peer_places * sizeof *channel->peer_table);
            for (uint32_t k = 0; k < channel->peer_count; k++)
                channel->peer_table[table_find(channel, channel->peers[k])] = k + 1;
        }
        return;
    }
}

int channel_peer_add(struct channel *channel, dvk_endpoint peer) {
    if (channel_peer_known(channel, peer))
        return 0;
    if (channel->peer_count == channel->peer_cap) {
        uint32_t cap = channel->peer_cap ? channel->peer_cap * 2 : ARRAY_MIN;
        dvk_endpoint *peers = realloc(channel->peers, cap * sizeof *peers);
        if (!peers)
            return -ENOMEM;
        channel->peers = peers;
        channel->peer_cap = cap;
        if (cap > FEW && table_make(channel) < 0) {
            channel->peer_cap = channel->peer_count; /* the next one tries again */
            return -ENOMEM;
        }
    }
    channel->peers[channel->peer_count++] = peer;
    if (channel->peer_table)
        channel->peer_table[table_find(channel, peer)] = channel->peer_count;
    return 0;
}
