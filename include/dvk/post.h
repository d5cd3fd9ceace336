/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-way messages whose sender does not wait for the receiver. General rules (results, timeouts, threads) as in
 * dvk/dvk.h.
 *
 * dvk_send is a rendezvous: it returns when the receiver has taken the message, which costs two hand-overs of the CPU.
 * dvk_post hands the message to the channel and returns, so that many of them cost one hand-over. Use it for a stream of
 * messages whose receiver is expected to keep up, and a dvk_send or dvk_sendrec wherever the sender must know.
 */
#ifndef DVK_POST_H
#define DVK_POST_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * dvk_post: send without waiting until it is taken. The receiver sees a send (wants_reply false, dvk_release).
 * Arguments as of dvk_send; the message and its data are copied (a loan goes with it) and the caller's again on return.
 * Order: messages of `from` to one destination, posted or not, arrive in the order in which they were made.
 * Waits, up to timeout_ms, only while the channel is full, and the first time that `from` addresses the destination.
 * What may be lost: what the receiver had not received when it or the sender ended, or the channel broke; a dvk_send or
 * dvk_sendrec afterwards that succeeds says that all before it has been received.
 * Errors: -DVK_ENOTBOUND, -DVK_EDEADDST, -DVK_ENODEUNREACH, -DVK_ENODC, -DVK_ENOTALLOWED, -DVK_EMIGRATING, -EMSGSIZE, -EINVAL, -EAGAIN,
 * -DVK_ENODAEMON, -ENOMEM mean what they mean there; -DVK_ETIMEDOUT: the channel stayed full and nothing was sent; -DVK_EDEADLOCK: it is
 * full and the destination waits for our reply. What an earlier post of `from` ran into is returned once, by a later one, which
 * then sends nothing: by the first after dvk_receive, dvk_send or dvk_sendrec, when the channel is full at the latest.
 */
int dvk_post(struct dvk *dvk, dvk_endpoint from, struct dvk_message *message, const void *data, size_t data_len,
             int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
