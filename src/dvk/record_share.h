/* SPDX-License-Identifier: Apache-2.0 */
/* How a daemon that dvkd has started lets dvkd read its flight recorder (common/record.h). */
#ifndef DVK_RECORD_SHARE_H
#define DVK_RECORD_SHARE_H

#include <stdint.h>

/* Keep the record in a memfd and give it to dvkd over its socket; before dvk_open_fd. Crashes are recorded too. 0, or a negative
 * errno: then there is no record, and all else goes on. Does not block. */
int dvk_record_share(int broker_fd, const char *name, uint32_t node);

#endif
