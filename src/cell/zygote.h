/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How cell init starts the personality as the zygote: execveat(AT_EMPTY_PATH) of a sealed memfd that holds
 * dvs-personality (a static ELF without interpreter; nothing of its environment exists as a path). Freestanding.
 *
 *   argv         {"dvs-personality"}, or {"dvs-personality", "strict"} when the cell runs with --strict
 *   environment  empty
 *   fds          as below; nothing else is open (0, 1 and 2 neither)
 *   pid          INIT_ZYGOTE_PID (63), parent: init (1); host process group of its own, so that the host kernel does
 * not take the guests' group for an orphaned one and stop signals work on them ids          uid and gid ZYGOTE_UID in
 * the cell's user namespace, no groups; CAP_CHECKPOINT_RESTORE ambient (for set_tid), and no other capability in any
 * set; no_new_privs is set signals      all default, none blocked root, cwd    an empty read-only tmpfs limits
 * RLIMIT_NOFILE soft = hard = ZYGOTE_NOFILE (or the host's hard limit, where that is lower and cannot be raised),
 *                RLIMIT_STACK 8 MiB soft, RLIMIT_CORE 0
 *
 * The seccomp program lies in the memfd ZYGOTE_FD_SECCOMP as raw struct sock_filter[]; its count is the file's size
 * / 8. The personality installs it as its first act (seccomp(2), SECCOMP_SET_MODE_FILTER), so that execveat need not be
 * in it. In strict mode the personality first installs its own filter that kills on any system call from outside its
 * text, since this one does not allow seccomp(2). Both are inherited by every guest.
 *
 * What the filter allows is listed in cell/filter.c. Anything else gives ENOSYS (by number or by argument); another
 * architecture's calls (int 0x80, x32) kill the process. Of note: fork, vfork, kill, tgkill, tkill, execve, wait4,
 * open, socket, stat, ioctl but FIONREAD and FIONBIO are absent; clone3 with any flags is there, clone without
 * namespace flags.
 */
#ifndef CELL_ZYGOTE_H
#define CELL_ZYGOTE_H

#define ZYGOTE_FD_CHANNEL 3  /* memfd of its channel to dvs-vos; the zygote is side 0 */
#define ZYGOTE_FD_SOCKET 4   /* that channel's socket */
#define ZYGOTE_FD_DOORBELL 5 /* memfd of dvs-vos's doorbell page */
#define ZYGOTE_FD_SECCOMP 6  /* memfd with the seccomp program */

#define ZYGOTE_UID 1000
#define ZYGOTE_NOFILE 16384

#endif
