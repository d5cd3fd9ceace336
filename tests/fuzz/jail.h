/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets that work on real files run as root in a mount namespace of their own, where all but a fresh /tmp and the
 * directories of FUZZ_WRITABLE (colon-separated) is read-only: whatever an input makes the code do, the host's files stay.
 */
#ifndef FUZZ_JAIL_H
#define FUZZ_JAIL_H

/* From LLVMFuzzerInitialize. Ends the program when there can be no such namespace. Not root: nothing is done. */
void jail_enter(void);

#endif
