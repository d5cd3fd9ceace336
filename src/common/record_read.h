/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what record.h keeps. The bytes may be those of somebody hostile (a cell's servers): they are copied once and checked. */
#ifndef COMMON_RECORD_READ_H
#define COMMON_RECORD_READ_H

#include "common/failure.h"
#include "common/json.h"
#include "common/record.h"

#include <stdio.h>

/*
 * The events of a record as JSON: {"name", "node", "pid", "events" (so far, also those that are overwritten), "now" (the clock
 * of their times, ns), "record": [{"n", "time" (monotonic ns), "wall" (seconds since 1970), "event", "dc"?, word: value ...}]},
 * oldest first, at most the last `last`. bytes, again: the whole record, copied twice, one after the other; what has changed in
 * between is left out. The same pointer twice for one that nobody writes to any more.
 * NULL, with *failure, for what is no record.
 */
json_t *record_to_json(const void *bytes, const void *again, size_t len, size_t last, struct failure *failure);

/* The same of an open file or memfd. */
json_t *record_read(int fd, size_t last, struct failure *failure);

/* Print what record_to_json gave, a line an event. 0, or -1 when it cannot be written or makes no sense. */
int record_print(const json_t *record, FILE *out);

#endif
