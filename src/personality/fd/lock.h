/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FD_LOCK_H
#define FD_LOCK_H

#include "personality/fd/fd.h"

/* F_GETLK F_SETLK F_SETLKW and their F_OFD_ kin; argument: the guest's struct flock. */
long file_lock(struct task *task, struct file *file, int command, uint64_t argument);
/* O_APPEND, O_NONBLOCK and the like, as F_SETFL. */
long file_set_status_flags(struct task *task, struct file *file, uint32_t flags);

#endif
