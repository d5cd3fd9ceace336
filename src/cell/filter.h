/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guests' seccomp program: what an untrusted guest may ask of the host kernel. It is the wall that holds when a
 * guest ignores its personality, so every line has to be safe for the host and for other DCs whatever the arguments
 * are.
 */
#ifndef CELL_FILTER_H
#define CELL_FILTER_H

#include "common/failure.h"

/*
 * Compile the program and write it to *out, a sealed memfd of raw struct sock_filter[] (cell/zygote.h), owned by the
 * caller. 0, or a negative errno with *failure set.
 */
int filter_create(int *out, struct failure *failure);

#endif
