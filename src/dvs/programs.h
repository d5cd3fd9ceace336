/* SPDX-License-Identifier: Apache-2.0 */
/* Where the other programs of DVS are. */
#ifndef DVS_PROGRAMS_H
#define DVS_PROGRAMS_H

#include "common/failure.h"

#include <limits.h>

/*
 * program_find: the path of one of our programs. Looked for in $DVS_LIBEXEC; beside this program; in the build tree
 * that this program lies in; in ../libexec/dvs; where it was configured to be installed. -ENOENT if it is nowhere.
 */
int program_find(const char *name, char path[static PATH_MAX], struct failure *failure);

/*
 * programs_link: make `directory` (which must not exist) and in it a symbolic link to each program that dvkd looks
 * for in its --libexec, and to dvkd itself.
 */
int programs_link(const char *directory, struct failure *failure);

#endif
