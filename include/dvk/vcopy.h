/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies between the address spaces of endpoints of one DC, wherever they run.
 *
 * The owner of a piece of memory *grants* it to one endpoint, for reading, writing or both. That endpoint, the
 * requester, may then have any part of it copied to or from its own memory or to or from other memory that was granted
 * to it: the requester may be a third party. Owners take no part in a copy; they need not be in a receive.
 *
 *     owner                                              requester (the owner has told it the number `grant`)
 *     dvk_grant(dvk, self, to, buffer, len,
 *               DVK_GRANT_READ, &grant)
 *                                                        struct dvk_area from = {owner, grant, offset};
 *                                                        struct dvk_area to = {self, DVK_GRANT_OWN, (uintptr_t)mine};
 *                                                        dvk_vcopy(dvk, self, &from, &to, n, 1000, &done)
 *     dvk_revoke(dvk, grant)
 *
 * Memory is named by the node where it was granted: a grant stays where it is and ends with its owner's process or
 * endpoint. A copy within a node is made by the node's copier (a process of dvkd's that can reach nothing but granted
 * memory); between nodes it travels in pieces, several at a time, through the proxies.
 *
 * An *arena* is memory that other processes can map. A copy out of or into an arena saves one copying on its node; and
 * who is on the same node and was granted a part with DVK_GRANT_SHARE copies with a single memcpy, without asking
 * anyone.
 *
 * General rules (results, timeouts, threads) as in dvk/dvk.h.
 */
#ifndef DVK_VCOPY_H
#define DVK_VCOPY_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dvk_grant_access {
    DVK_GRANT_READ = 1u << 0,
    DVK_GRANT_WRITE = 1u << 1,
    DVK_GRANT_SHARE =
        1u << 2, /* memory of an arena only: the grantee's process, if it is on this node, may be given the arena
                    itself. It could then reach all of that arena, in both ways, as long as it lives,
                    also after dvk_revoke: share an arena only with whom you would trust with all of it */
};

#define DVK_GRANT_OWN 0u /* in a dvk_area: the requester's own memory; offset is an address */

/* A piece of memory: endpoint is the owner. The length is dvk_vcopy's. */
struct dvk_area {
    dvk_endpoint endpoint;
    uint64_t grant;
    uint64_t offset; /* bytes, from the start of what was granted */
};

/*
 * dvk_grant: let `to` (any endpoint of our DC, with its generation) have memory of ours copied.
 * endpoint: ours. address, length: memory of the calling process; length is not 0. It need not exist yet; what does not
 * exist when it is copied is -EFAULT. access: DVK_GRANT_READ or DVK_GRANT_WRITE or both, and DVK_GRANT_SHARE. *grant
 * gets its number, never 0 and never used again. It ends with dvk_revoke, dvk_unbind of `endpoint`, dvk_close, or the
 * end of the process. With DVK_GRANT_WRITE the memory is written even where it is mapped for reading only. Errors:
 * -EINVAL (length, range, access, `to`; DVK_GRANT_SHARE outside of an arena), -DVK_ENOTBOUND (endpoint),
 * -DVK_ENOTALLOWED (dvkd could not make sure whose memory it is), -ENOSPC (65536 grants of this context), -ENOMEM,
 * -DVK_ENODAEMON. Waits for dvkd only.
 */
int dvk_grant(struct dvk *dvk, dvk_endpoint endpoint, dvk_endpoint to, const void *address, size_t length,
              uint32_t access, uint64_t *grant);

/*
 * dvk_revoke: end a grant of ours. When it returns 0 nobody touches that memory by it any more; copies that are under
 * way end with -DVK_EREVOKED, whose bytes done may have been written (but see DVK_GRANT_SHARE).
 * Errors: -DVK_ENOTGRANTED (no such grant of ours), -ENOMEM, -DVK_ENODAEMON. Waits for dvkd and the copier.
 */
int dvk_revoke(struct dvk *dvk, uint64_t grant);

/*
 * dvk_vcopy: copy length bytes from *source to *destination.
 * requester: our endpoint, to which both were granted: the source for reading, the destination for writing. A part
 * DVK_GRANT_OWN is our own memory (endpoint is then ignored). length: any; 0 is allowed. If the areas overlap the
 * result is undefined.
 * *done (may be NULL) gets the bytes that were copied, from the start; after an error it is how much is known to be:
 * bytes behind may have been written too, in the destination's range. timeout_ms ends a copy wherever it is. When the
 * call returns nothing is written any more, but if the destination's node could not be reached. Errors: -DVK_ENOTBOUND
 * (requester), -DVK_ENOTGRANTED (no such grant, of another owner or DC, to somebody else, or not for this),
 * -DVK_EREVOKED (it was revoked, before or meanwhile), -DVK_EOUTOFGRANT (range), -EFAULT (granted memory that does not
 * exist, or cannot be read or written), -DVK_EDEADSRC, -DVK_EDEADDST (the owner of the source, or of the destination,
 * died or was unbound), -DVK_ENODEUNREACH (a node is no member, or left meanwhile), -DVK_EINTERRUPTED (a node's copier
 * ended meanwhile; may be tried again), -DVK_ETIMEDOUT, -DVK_ENODAEMON, -ENOMEM.
 */
int dvk_vcopy(struct dvk *dvk, dvk_endpoint requester, const struct dvk_area *source,
              const struct dvk_area *destination, uint64_t length, int timeout_ms, uint64_t *done);

/*
 * dvk_arena_create: memory of `size` bytes (1..2^40, rounded up to pages), zeroed, that can be shared; takes up room as
 * it is used. *address gets where it is mapped. It lives until dvk_arena_destroy or dvk_close. Errors: -EINVAL,
 * -ENOMEM, -ENOSPC (1024 arenas of this context), -DVK_ENODAEMON. Waits for dvkd only.
 */
int dvk_arena_create(struct dvk *dvk, size_t size, void **address);

/* End an arena and all grants in it, and unmap it; waits as dvk_revoke. Errors: -EINVAL (not the start of an arena), -ENOMEM. */
int dvk_arena_destroy(struct dvk *dvk, void *address);

#ifdef __cplusplus
}
#endif
#endif
