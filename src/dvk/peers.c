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

/* Its place in `peers` + 1; 0: it is not known. */
static uint32_t peer_find(const struct channel *channel, dvk_endpoint peer) {
    if (channel->peer_table)
        return channel->peer_table[table_find(channel, peer)];
    for (uint32_t i = 0; i < channel->peer_count; i++)
        if (channel->peers[i] == peer)
            return i + 1;
    return 0;
}

bool channel_peer_known(const struct channel *channel, dvk_endpoint peer) {
    return peer_find(channel, peer) != 0;
}

struct known_privileges **channel_peer_privileges(struct channel *channel, dvk_endpoint peer, bool make) {
    uint32_t found = peer_find(channel, peer);
    if (found && !channel->peer_privileges && make)
        channel->peer_privileges = calloc(channel->peer_cap, sizeof *channel->peer_privileges);
    if (found)
        return channel->peer_privileges ? &channel->peer_privileges[found - 1] : NULL;
    list_each(left, &channel->left, struct left_peer, link) {
        if (left->peer == peer)
            return &left->privileges;
    }
    return NULL;
}

/* Room for `cap` peers. */
static int peers_grow(struct channel *channel, uint32_t cap) {
    dvk_endpoint *peers = realloc(channel->peers, cap * sizeof *peers);
    if (!peers)
        return -ENOMEM;
    channel->peers = peers;
    if (!channel->peer_privileges)
        return 0;
    struct known_privileges **privileges = realloc(channel->peer_privileges, cap * sizeof *privileges);
    if (!privileges)
        return -ENOMEM;
    memset(privileges + channel->peer_count, 0, (cap - channel->peer_count) * sizeof *privileges);
    channel->peer_privileges = privileges;
    return 0;
}

static void left_free(struct left_peer *left) {
    list_remove(&left->link);
    free(left->privileges);
    free(left);
}

void channel_left_free(struct channel *channel) {
    struct left_peer *left;
    while ((left = list_first(&channel->left, struct left_peer, link))) {
        left_free(left);
    }
}

/* Takes over privileges. */
static void left_note(struct channel *channel, dvk_endpoint peer, struct known_privileges *privileges) {
    struct left_peer *left = malloc(sizeof *left);
    if (!left) { /* what it had sent is refused */
        free(privileges);
        return;
    }
    left->peer = peer;
    left->privileges = privileges;
    left->until = __atomic_load_n(&channel->view.header->ring[1 - channel->side].head, __ATOMIC_ACQUIRE);
    list_append(&channel->left, &left->link);
}

bool channel_peer_was(struct channel *channel, dvk_endpoint peer) {
    list_each(left, &channel->left, struct left_peer, link) {
        if ((int32_t)(left->until - channel->taken) <= 0) {
            left_free(left);
        } else if (left->peer == peer)
            return true;
    }
    return false;
}

void channel_peer_leave(struct channel *channel, dvk_endpoint peer) {
    for (uint32_t i = 0; i < channel->peer_count; i++) {
        if (channel->peers[i] != peer)
            continue;
        struct known_privileges **privileges = channel->peer_privileges;
        left_note(channel, peer, privileges ? privileges[i] : NULL);
        channel->peers[i] = channel->peers[--channel->peer_count];
        if (privileges) {
            privileges[i] = privileges[channel->peer_count];
            privileges[channel->peer_count] = NULL;
        }
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
        if (peers_grow(channel, cap) < 0)
            return -ENOMEM;
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
