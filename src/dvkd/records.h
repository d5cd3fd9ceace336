/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorders of this node (common/record.h). dvkd's own is the file RUN/record/dvkd; the one before it, of a dvkd that has
 * ended in whatever way, RUN/record/dvkd.old. The proxy's and each cell's (dvs-vos) are memfds that they have handed to us; of one
 * that ended without having been asked, we keep a copy: RUN/record/proxy, RUN/record/vos-DC.
 */
#ifndef DVKD_RECORDS_H
#define DVKD_RECORDS_H

#include "common/failure.h"
#include "common/json.h"
#include "common/list.h"
#include "dvkd/broker.h"

struct records {
    char directory[560];
    struct list list; /* struct record_of: of the children that live */
};

/* Make the directory and open our own. A failure is logged: there is no record then. */
void records_start(struct records *records, const char *run, uint32_t node);
void records_stop(struct records *records);

/* A client gave us its record (`fd` is taken over, whatever it is). name: "proxy" or "vos-DC". */
void records_take(struct records *records, struct client *client, const char *name, int fd);
/* A client is gone: keep a copy of its record if it was not meant to go. */
void records_client_gone(struct records *records, const struct client *client, bool keep);
/* The DC is removed: so is the copy of its record. */
void records_forget_dc(struct records *records, uint32_t dc);

/* Read one: name as above or "dvkd"; ended: of the last that ended. NULL with *failure. */
json_t *records_read(const struct records *records, const char *name, bool ended, size_t last, struct failure *failure);

#endif
