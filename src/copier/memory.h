/* SPDX-License-Identifier: Apache-2.0 */
/* Moving bytes between the memories of this node. Every call blocks no longer than the copying takes. */
#ifndef COPIER_MEMORY_H
#define COPIER_MEMORY_H

#include "copier/grants.h"

/* Bytes that were moved, from the start, in *done; 0, or -EFAULT (they do not exist, or cannot be used so), or
 * -DVK_EDEADSRC, -DVK_EDEADDST: the process is gone. offset: within the grant, checked by grants_check with length. */
int memory_read(const struct grant *from, uint64_t offset, void *to, size_t length, size_t *done);
int memory_write(const struct grant *to, uint64_t offset, const void *from, size_t length, size_t *done);
int memory_copy(const struct grant *from, uint64_t from_offset, const struct grant *to, uint64_t to_offset,
                size_t length, size_t *done);

#endif
