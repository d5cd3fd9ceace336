/* SPDX-License-Identifier: Apache-2.0 */
/* A libdvk that does not care what it may: it writes into its channels what it likes. */
#ifndef PRIVILEGE_HAND_H
#define PRIVILEGE_HAND_H

#include <dvk/dvk.h>

enum hand_kind { HAND_SEND, HAND_SENDREC, HAND_POST, HAND_NOTIFY };

/* Send through the channel by which `from` reaches `way` already. Its slot. */
int hand_publish(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, dvk_endpoint to, enum hand_kind kind);
/* What became of it: 1: nothing yet; 0: answered; or the error with which it was refused. */
int hand_outcome(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, int slot);
/* It was taken or refused: free it. */
void hand_free(struct dvk *dvk, uint32_t dc, dvk_endpoint from, dvk_endpoint way, int slot);

#endif
