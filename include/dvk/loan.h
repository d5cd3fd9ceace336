/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large messages and loans.
 *
 * A message carries up to DVK_DATA_MAX bytes of out-of-line data; to a context that has said so by dvk_accept up to
 * DVK_LOAN_MAX. Data is copied into the channel once. A *loan* saves that copy: a piece of the channel itself, written
 * in place by the sender and read in place by the receiver, so that a local message costs the same whatever its length.
 *
 *     void *data;
 *     int error = dvk_loan_get(dvk, self, server, 1 << 20, 1000, &data);
 *     fill(data, 1 << 20);
 *     error = dvk_sendrec(dvk, self, &message, data, 1 << 20, NULL, 0, NULL, 1000);     the loan goes with the message
 *
 * Dangers: what lies in a channel can be changed by the other side at any time. A receiver that must check the data
 * copies it out first; a sender that changes a loan after it was sent changes what the receiver sees.
 *
 * To a destination on another node the same calls work; the data then travels, and is copied on the way.
 */
#ifndef DVK_LOAN_H
#define DVK_LOAN_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DVK_LOAN_MAX 4194304u /* bytes of the longest message */

/*
 * dvk_loan_get: borrow `length` bytes (1..DVK_LOAN_MAX) of the channel from our endpoint `from` to `to`. *data gets
 * their address, aligned to a page; their contents are left over from something else (this channel's two parties',
 * never anyone else's). The loan ends with the one message to `to` (dvk_sendrec, dvk_send, dvk_call) whose data begins
 * at *data, when that is over, whatever became of it (an error included); or by dvk_loan_drop. A reply to that message
 * may be as long as the loan, even if the message's own data is shorter. A message to elsewhere may be sent with the
 * same data: it is copied. A loan may be kept as long as one likes; dvk_close ends it. timeout_ms: for dvkd's answer,
 * the first time that `from` addresses `to`; at other times nothing is waited for. Errors: -EINVAL (length 0, or `to`
 * is an endpoint of this context), -EMSGSIZE (longer than DVK_LOAN_MAX or than this channel has), -EAGAIN (too much of
 * the channel is in use: end a loan or a call; or too many calls wait for dvkd), -DVK_ENOTBOUND, -DVK_ENODEUNREACH,
 * -DVK_ENOTALLOWED, -DVK_ENODC, -DVK_ETIMEDOUT, -DVK_ENODAEMON, -ENOMEM. Whether anybody is there on another node shows when
 * the message is sent. Thread safety as dvk.h.
 */
int dvk_loan_get(struct dvk *dvk, dvk_endpoint from, dvk_endpoint to, size_t length, int timeout_ms, void **data);

/* Give a loan back unsent. What is no loan (any more) is ignored, NULL too. Never blocks. */
void dvk_loan_drop(struct dvk *dvk, void *data);

/*
 * dvk_accept: this context receives messages with up to `bytes` bytes of data (0..DVK_LOAN_MAX; at first DVK_DATA_MAX).
 * Longer ones are answered with -EMSGSIZE in its place and never handed out. Never blocks. Errors: -EINVAL.
 */
int dvk_accept(struct dvk *dvk, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
