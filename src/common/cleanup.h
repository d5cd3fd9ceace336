/* SPDX-License-Identifier: Apache-2.0 */
/* Cleanup attributes, in place of goto ladders. Hosted code only. */
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p) { free(*(void **)p); }
static inline void cleanup_close_fn(int *fd) {
    if (*fd >= 0)
        close(*fd);
}
static inline void cleanup_file_fn(FILE **f) {
    if (*f)
        fclose(*f);
}
static inline void cleanup_dir_fn(DIR **d) {
    if (*d)
        closedir(*d);
}
#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_close __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_file __attribute__((cleanup(cleanup_file_fn)))
#define cleanup_dir __attribute__((cleanup(cleanup_dir_fn)))

/* Hand an fd or pointer out of a cleanup variable. */
static inline int steal_fd(int *fd) {
    int f = *fd;
    *fd = -1;
    return f;
}
static inline void *steal_ptr_fn(void **p) {
    void *v = *p;
    *p = NULL;
    return v;
}
#define steal_ptr(p) ((__typeof__(*(p)))steal_ptr_fn((void **)(p)))

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#endif
