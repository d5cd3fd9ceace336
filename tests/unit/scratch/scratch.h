/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for a test program's files. It is made when it is first wanted, in $TMPDIR or /tmp, and is gone when the
 * program has ended in whatever way: a child process waits for that. Processes forked later share it.
 */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#define SCRATCH_PATH_MAX 64

/* Make a directory of its own, mode 0700, or a file of its own, 0600. Aborts if it cannot. */
void scratch_directory(char path[static SCRATCH_PATH_MAX]);
void scratch_file(char path[static SCRATCH_PATH_MAX]);

#endif
