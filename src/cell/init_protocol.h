/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between dvs-vos and cell init: packets on a SOCK_SEQPACKET socket pair, one struct init_packet each, sent by blocking
 * writes of whole packets. Init is the parent of every guest; it tells dvs-vos what becomes of them. Freestanding.
 *
 * Reports (init -> dvs-vos), read by pm from vos->init_fd, in the order in which init reaped:
 *   INIT_STATE   a guest changed state: pid, code and status as waitid(2) gives in si_code (CLD_EXITED, CLD_KILLED,
 *                CLD_DUMPED, CLD_STOPPED, CLD_CONTINUED) and si_status, and its resource use. After CLD_EXITED, _KILLED
 * and _DUMPED the host process is gone entirely and its pid may be used again. Only thread groups are reported, never
 * single threads. Any pid may occur, since a hostile guest may clone what pm never heard of: a pid without a record is
 * to be ignored. The zygote and dvs-vos itself are never reported. End of file: init is gone (and dvs-vos with it, at
 * once).
 *
 * Requests (dvs-vos -> init):
 *   INIT_START_ZYGOTE  by the host, once: start the personality as the zygote, host pid INIT_ZYGOTE_PID; with the file
 *                descriptors [channel memfd, guest's end of the channel's socket, doorbell memfd] (cell/zygote.h). If
 * that fails or the zygote ends later, init ends the cell with status 1 and a line on standard error. INIT_STOP    kill
 * everything in the cell and end it; status: dvs-cell's exit code (0: orderly). A packet of unknown type or wrong size
 * is ignored by either side.
 */
#ifndef CELL_INIT_PROTOCOL_H
#define CELL_INIT_PROTOCOL_H

#include <stdint.h>

#define INIT_PROTOCOL_MAGIC 0x31494443u /* "CDI1" */
#define INIT_ZYGOTE_PID 63              /* host pid in the cell, and DVK slot, of the zygote */

enum init_packet_type {
    INIT_STATE = 1,
    INIT_START_ZYGOTE = 16,
    INIT_STOP = 17,
};

/* struct rusage of x86-64 Linux, field for field. */
struct init_rusage {
    int64_t utime_s, utime_us, stime_s, stime_us;
    int64_t maxrss, ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv, nsignals, nvcsw,
        nivcsw;
};
_Static_assert(sizeof(struct init_rusage) == 144, "layout of struct rusage");

struct init_packet {
    uint32_t magic;
    uint32_t type;  /* enum init_packet_type */
    int32_t pid;    /* INIT_STATE */
    int32_t code;   /* INIT_STATE: si_code */
    int32_t status; /* INIT_STATE: si_status; INIT_STOP: exit code */
    uint32_t pad;
    struct init_rusage rusage; /* INIT_STATE */
};
_Static_assert(sizeof(struct init_packet) == 168, "layout");

/* The wait status (as wait4(2) gives it) of an INIT_STATE. */
static inline int init_wait_status(int32_t code, int32_t status) {
    switch (code) {
    case 1: /* CLD_EXITED */
        return (status & 0xff) << 8;
    case 2: /* CLD_KILLED */
        return status & 0x7f;
    case 3: /* CLD_DUMPED */
        return (status & 0x7f) | 0x80;
    case 5: /* CLD_STOPPED */
        return (status & 0xff) << 8 | 0x7f;
    default: /* CLD_CONTINUED */
        return 0xffff;
    }
}

#endif
