/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dvkd for tests of libdvk: a thread that answers the broker protocol as the real one does, for one node and any
 * DC, over socket pairs. It makes real channels, and marks them dead when a client's socket closes.
 */
#ifndef FAKE_DVKD_H
#define FAKE_DVKD_H

#include <dvk/endpoint.h>
#include <dvk/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct fake_dvkd;

struct fake_dvkd *fake_start(uint32_t node);
void fake_stop(struct fake_dvkd *fake);

/* A new client's socket (for dvk_open_fd). proxy: channels for other nodes' endpoints lead to it. */
int fake_client(struct fake_dvkd *fake, bool proxy, int *number);
/* Our end of a client's socket is closed: that is how a dead dvkd looks. */
void fake_drop(struct fake_dvkd *fake, int number);
void fake_node(struct fake_dvkd *fake, int number, uint32_t node, bool up, const char *text);
void fake_control(struct fake_dvkd *fake, int number, uint64_t id, const char *text);
/* Text of the last CONTROL_REPLY or CONTROL_SEND; waits up to a second for one. The caller frees it. */
char *fake_control_answer(struct fake_dvkd *fake);
/* How many CHANNEL_CLOSED came. */
unsigned fake_closed_count(struct fake_dvkd *fake);
unsigned fake_connect_count(struct fake_dvkd *fake);
/* Delay each CONNECT's answer; ms. */
void fake_connect_delay(struct fake_dvkd *fake, unsigned delay_ms);
/* Slots of each side of the channels that are made from now on (default DVK_PEER_SLOTS). */
void fake_slots(struct fake_dvkd *fake, uint32_t slots);
/* What an endpoint has counted; false: it is not bound, or does not count. */
bool fake_stats(struct fake_dvkd *fake, uint32_t dc, dvk_endpoint endpoint, struct dvk_stats *out);
/* A duplicate of the memfd of the last channel that was made. */
int fake_last_channel(struct fake_dvkd *fake);

#endif
