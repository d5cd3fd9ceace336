/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdvk: endpoints that move from one process to another, and those that stand by for them. General rules (results, timeouts,
 * threads) as in dvk/dvk.h.
 *
 * An endpoint is at one process, its *primary*. Others may be its *backups*: processes of the same DC, on any of its nodes, to
 * which the primary can move it. The address stays the same, generation and all; who talks to it notices a pause.
 *
 *     primary                                           backup
 *                                                       dvk_bind_backup
 *     dvk_migrate_start: what comes from now on waits
 *     its state, by whatever means          ------->    takes the state
 *     dvk_migrate_carry for requests whose answer is due
 *     dvk_migrate_commit: not the endpoint any more     DVK_EVENT_PROMOTED: is the endpoint
 *     (or dvk_migrate_rollback: goes on)                dvk_receive
 *
 * What holds:
 * - Start, commit and rollback are decisions of the cluster: they hold where there is quorum, and at any time there is at most one
 *   process that is the endpoint. A node that loses quorum has none (DVK_EVENT_DC_GONE), nor backups (DVK_EVENT_BACKUP_GONE).
 * - Messages that wait are made again at the new place by their sources' libdvk, in the order in which they were made; none is lost
 *   or received twice. Requests that were received and not answered go along (dvk_migrate_carry).
 * - If the primary or its node is lost: without a replica the endpoint is dead. A *replica* is a backup that is promoted then, the
 *   oldest first; calls under way end with -DVK_EDEADDST or -DVK_ENODEUNREACH, as after every end, later ones reach the replica.
 * - If a backup is lost to which the endpoint is moving, the move is rolled back (DVK_EVENT_MIGRATE_ENDED).
 * - After a commit the old place goes on to call dvk_receive, or closes its context: what was sent to it meanwhile is handed on
 *   from there. If it dies, requests that it never took in are made again; for the others their sources get -DVK_EDEADDST.
 * - Not moved: memory that the endpoint has granted (its grants end, -DVK_EREVOKED), its groups, locks and offices, which end as by
 *   dvk_unbind. dvk_wait_unbind of others does not end by a move.
 * - Who may have backups: endpoints of programs on libdvk, at user slots or services 7 to 254, in DCs without a VOS.
 */
#ifndef DVK_MIGRATE_H
#define DVK_MIGRATE_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * dvk_bind_backup: stand by for an endpoint. dc: its DC; endpoint: with its generation; at most 8 for one endpoint, and one of it in
 * a context. timeout_ms: not 0.
 * On 0 the primary may move it here. DVK_EVENT_PROMOTED tells that it has; DVK_EVENT_BACKUP_GONE that the endpoint is no more. After
 * a commit the old place is no backup, unless it asks to be.
 * Errors: -DVK_ENOTBOUND (nobody is bound there), -DVK_ENOTALLOWED (see above; or our node is none of the DC's), -DVK_ENODC,
 * -DVK_ENODEUNREACH, -DVK_ENOQUORUM, -DVK_ETIMEDOUT (it took longer, or there are 8 already), -EINVAL (it is ours, or we have asked
 * already), -EAGAIN (this context backs too many), -DVK_ENODAEMON, -ENOMEM. Blocks at most 10 s. Callbacks do not run meanwhile.
 */
int dvk_bind_backup(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, int timeout_ms);
/* dvk_bind_replica: the same, and be promoted when the primary dies, unbinds the endpoint, or is lost with its node. Errors: those
 * of dvk_bind_backup. */
int dvk_bind_replica(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, int timeout_ms);
/* dvk_unbind_backup: stand by no longer. Errors: -DVK_ENOTBOUND (we do not), -DVK_ENODAEMON. Blocks as dvk_unbind. */
int dvk_unbind_backup(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint);

/*
 * dvk_migrate_start: begin to move an endpoint of ours. node: where the backup is (the oldest there); 0: the oldest of all.
 * On 0 nothing more that is for it is handed out, but posts that had been taken in already and what came before them: call
 * dvk_receive until nothing comes, then copy the state. What was received before can be answered. Calls that were made from it go
 * on, and their answers come here, also after a commit; new ones get -DVK_EMIGRATING. Messages with descriptors are refused with
 * -DVK_EMIGRATING. A sender of posts to it may have to wait with all that it sends to this context.
 * timeout_ms: not 0. After -DVK_ETIMEDOUT or -DVK_EUNKNOWN it may have begun: roll back.
 * Errors: -DVK_ENOTBOUND (not ours), -DVK_ENOBACKUP (none is there), -DVK_EMIGRATING (it is moving already), -DVK_ENOTMIGRATING (the
 * cluster has changed meanwhile: ask again), -DVK_ENOQUORUM, -DVK_EUNKNOWN, -DVK_ETIMEDOUT, -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_migrate_start(struct dvk *dvk, dvk_endpoint endpoint, uint32_t node, int timeout_ms);

/*
 * dvk_migrate_carry: before the commit: name a request that was received and is not answered, so that the new place knows it again
 * among the state that it got. key: any number; 0 for those that are not named. The last one counts. Never blocks.
 * Errors: -EINVAL: it wants no reply; -DVK_ENOTCARRIED: descriptors came with it, or it is from a guest or a group.
 */
int dvk_migrate_carry(struct dvk *dvk, struct dvk_request *req, uint64_t key);
/*
 * dvk_migrate_resumed: was a request that we received handed on by an earlier place of its destination, which had received it?
 * *key gets its key. It came back by way of its source: make sure that what is known under the key is of req->msg.source.
 */
bool dvk_migrate_resumed(const struct dvk_request *req, uint64_t *key);

/*
 * dvk_migrate_commit: the backup is the endpoint now. On 0 it is not ours any more, and all requests to it that were received and not
 * answered are freed: they go to the new place, marked as resumed. timeout_ms: not 0.
 * Errors: -DVK_ENOTBOUND (not ours), -DVK_ENOTMIGRATING (no move is under way: it was not begun, or was rolled
 * back as the backup was lost), -DVK_ENOTCARRIED (something cannot be handed on: a request with descriptors: answer it; a send whose
 * data has not been released; a post that was taken in and not received, or something from the endpoint that has not been sent:
 * call dvk_receive), -DVK_ENOQUORUM, -DVK_ENODAEMON, -ENOMEM: nothing is changed. -DVK_ETIMEDOUT, -DVK_EUNKNOWN: not known yet:
 * dvk_info_endpoint, or a rollback, which gets -DVK_ENOTBOUND after a commit, tells.
 */
int dvk_migrate_commit(struct dvk *dvk, dvk_endpoint endpoint, int timeout_ms);

/*
 * dvk_migrate_rollback: it stays here. What waited is handed out in order, as if nothing had been. timeout_ms: not 0.
 * Errors: -DVK_ENOTBOUND (not ours), -DVK_ENOTMIGRATING (no move is under way), -DVK_ENOQUORUM, -DVK_EUNKNOWN, -DVK_ETIMEDOUT,
 * -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_migrate_rollback(struct dvk *dvk, dvk_endpoint endpoint, int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
