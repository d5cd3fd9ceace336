/* SPDX-License-Identifier: Apache-2.0 */
/* Between select's sets, poll's events and times: pure. */
#ifndef FD_POLL_CONVERT_H
#define FD_POLL_CONVERT_H

#include "personality/fd/fd.h"

/* Nanoseconds of seconds + fraction * unit; longer times than fit are the longest. -EINVAL for what is no time. */
static inline long time_to_ns(int64_t seconds, int64_t fraction, int64_t unit, int64_t *ns) {
    if (seconds < 0 || fraction < 0 || fraction >= 1000000000 / unit)
        return -22; /* -EINVAL */
    if (seconds > INT64_MAX / 2000000000)
        *ns = INT64_MAX / 2;
    else
        *ns = seconds * 1000000000 + fraction * unit;
    return 0;
}

/* What each of select's sets asks for, and what counts as true in it (select(2)). */
#define SELECT_IN 0x001u                                            /* POLLIN */
#define SELECT_OUT 0x004u                                           /* POLLOUT */
#define SELECT_EXCEPTIONAL 0x002u                                   /* POLLPRI */
#define SELECT_IN_TRUE (0x001u | 0x040u | 0x080u | 0x010u | 0x008u) /* IN RDNORM RDBAND HUP ERR */
#define SELECT_OUT_TRUE (0x004u | 0x100u | 0x200u | 0x008u)         /* OUT WRNORM WRBAND ERR */
#define SELECT_EXCEPTIONAL_TRUE 0x002u

static inline uint32_t select_events(uint64_t sets[3][FD_WORDS], unsigned vfd) {
    static const uint32_t asks[3] = {SELECT_IN, SELECT_OUT, SELECT_EXCEPTIONAL};
    uint32_t events = 0;
    for (int i = 0; i < 3; i++)
        if (sets[i][vfd / 64] >> (vfd % 64) & 1)
            events |= asks[i];
    return events;
}

/* Set the bits that are true; how many. A set that the descriptor was not in stays without it. */
static inline unsigned select_mark(uint64_t sets[3][FD_WORDS], unsigned vfd, uint32_t events, uint32_t revents) {
    static const uint32_t asks[3] = {SELECT_IN, SELECT_OUT, SELECT_EXCEPTIONAL};
    static const uint32_t counts[3] = {SELECT_IN_TRUE, SELECT_OUT_TRUE, SELECT_EXCEPTIONAL_TRUE};
    unsigned bits = 0;
    for (int i = 0; i < 3; i++)
        if (events & asks[i] && revents & counts[i]) {
            sets[i][vfd / 64] |= 1ull << (vfd % 64);
            bits++;
        }
    return bits;
}

#endif
