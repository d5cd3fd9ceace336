/* SPDX-License-Identifier: Apache-2.0 */
/* A DC of fake nodes over the sample tree, for one test. */
#ifndef TEST_SETUP_H
#define TEST_SETUP_H

#include "dc.h"
#include "tree.h"

extern struct vos vos[FAKE_NODES];
extern char scratch[64], image_path[128], upper_path[128];

/* Volumes: /vol of node 2, and /a/b/vol, the same read-only. */
extern bool setup_volumes;
extern const char *setup_volume_path;

void setup(unsigned nodes);
void teardown(void);
/* Guest pid on node (1..), uid 0 unless made otherwise by fake_process. */
struct guest guest_on(unsigned node, uint32_t pid);

#endif
