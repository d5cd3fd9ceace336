/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's ABI as file calls need it, from the kernel's own headers. For .c files of this folder only: these
 * headers do not mix with a libc's.
 */
#ifndef FD_ABI_H
#define FD_ABI_H

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/eventpoll.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <linux/uio.h>

/* linux/stat.h leaves these to the C library where there is one (hosted tests). */
#ifndef S_IFMT
#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define S_IFLNK 0120000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000
#endif

/* Kernel constants whose headers clash with those above. */
#define ABI_SIGPIPE 13
#define ABI_SIGTTIN 21
#define ABI_SIGTTOU 22
#define ABI_SIGSYS 31
#define ABI_SIGSET_SIZE 8
#define ABI_R_OK 4
#define ABI_W_OK 2
#define ABI_X_OK 1
#define ABI_LOCK_SH 1
#define ABI_LOCK_EX 2
#define ABI_LOCK_NB 4
#define ABI_LOCK_UN 8
#define ABI_UTIME_NOW ((1l << 30) - 1l)
#define ABI_UTIME_OMIT ((1l << 30) - 2l)
#define ABI_CLOCK_MONOTONIC 1

#endif
