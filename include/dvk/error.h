/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the DVK. Calls return 0 (or a count) or a negative number: a negated errno of the host
 * for plain conditions (-EINVAL, -ENOMEM), or one of these for the DVK's own. The numbers never
 * change. They lie above every Linux errno (max 4095 in the kernel's ABI, in use below 200).
 */
#ifndef DVK_ERROR_H
#define DVK_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define DVK_ERROR_BASE 2000
enum dvk_error {
    DVK_ENOTBOUND = 2001,    /* no process is bound to that endpoint */
    DVK_EDEADSRC = 2002,     /* the source died while we waited for it */
    DVK_EDEADDST = 2003,     /* the destination died before it answered */
    DVK_ENODC = 2004,        /* no such distributed container */
    DVK_ENODEUNREACH = 2005, /* the node of the endpoint is not a member, or left while we waited */
    DVK_ENOTALLOWED = 2006,  /* privileges forbid it */
    DVK_EDEADLOCK = 2007,    /* would deadlock: the destination waits for us, perhaps through others */
    DVK_ETIMEDOUT = 2008,    /* the timeout passed */
    DVK_EINTERRUPTED = 2009, /* a signal or a cancellation ended the wait */
    DVK_EMIGRATING = 2010,   /* the endpoint is moving; try again */
    DVK_ENOSLOT = 2011,      /* no free user slot on this node */
    DVK_ESLOTBUSY = 2012,    /* the slot asked for is bound */
    DVK_EBADPEER = 2013,     /* the peer broke the protocol; its channel is closed */
    DVK_ENOQUORUM = 2014,    /* this node is not in a quorate partition */
    DVK_ENODAEMON = 2015,    /* dvkd is not running or went away */
    DVK_EVERSION = 2016,     /* peer speaks another protocol version */
    DVK_ENOTGRANTED = 2020,  /* that memory was not granted to the requester, or not for that */
    DVK_EREVOKED = 2021,     /* the grant was revoked */
    DVK_EOUTOFGRANT = 2022,  /* the range is not wholly inside what was granted */
    DVK_ECONFLICT = 2031,    /* the key is not in the revision that was expected */
    DVK_ENOKEY = 2032,       /* there is no such key */
    DVK_EUNKNOWN = 2033,     /* the change was under way when quorum was lost: it may have taken effect, or may not */
    DVK_ELOST = 2034,        /* the lock or office is not ours any more */
    DVK_ENOTMEMBER = 2035,   /* not a member of the group, or not holding that lock */
    DVK_EGAP = 2036,         /* changes were missed: read the keys anew */
    DVK_ENOBACKUP = 2040,    /* the endpoint has no backup or replica there */
    DVK_ENOTMIGRATING = 2041, /* no move of it is under way (any more) */
    DVK_ENOTCARRIED = 2042,  /* something that was received cannot be handed on to the new place */
};

/*
 * dvk_strerror: a short text for a negative result of a DVK call, e.g. "node unreachable"; also knows errnos. 0 or more:
 * "success". Never NULL; the string is constant. Thread safe, never blocks.
 */
const char *dvk_strerror(int error);

#ifdef __cplusplus
}
#endif
#endif
