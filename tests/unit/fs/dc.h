/* SPDX-License-Identifier: Apache-2.0 */
/* System calls in a DC of fake nodes, as a guest's personality would make them: results as of the calls, -errno. */
#ifndef TEST_DC_H
#define TEST_DC_H

#include "fake_dvk.h"

struct dc_file {
    uint32_t number; /* directory: in the table of names, 0: it was not there */
    int fd;         /* granted, or -1 */
    int64_t handle; /* or -1 */
    uint32_t kind, flags;
    struct vos_stat stat;
};

struct guest {
    struct vos *vos;
    uint32_t pid;
};

/*
 * Every call that the table of names could have answered is made by message too, and the test fails if the table says anything
 * else than fs does. dc_names_answers counts the calls for which the table had the answer.
 */
extern unsigned dc_names_answers;
void dc_start(void); /* before guests of new servers */
struct names_found;
long dc_names(struct guest *g, const char *path, bool follow, struct names_found *found);

int dc_open(struct guest *g, const char *path, int flags, int mode, struct dc_file *out);
int dc_openat(struct guest *g, int64_t dir, const char *path, int flags, int mode, struct dc_file *out);
int dc_close(struct guest *g, struct dc_file *file);
int dc_read(struct guest *g, struct dc_file *file, void *out, size_t len);
int dc_write(struct guest *g, struct dc_file *file, const void *data, size_t len);
int dc_stat(struct guest *g, const char *path, bool follow, struct vos_stat *out);
int dc_fstat(struct guest *g, struct dc_file *file, struct vos_stat *out);
int dc_path(struct guest *g, uint32_t type, const char *path, uint64_t w1, uint64_t w2, uint64_t w3);
int dc_path2(struct guest *g, uint32_t type, const char *first, const char *second, uint64_t w2);
int dc_symlink(struct guest *g, const char *target, const char *path);
int dc_readlink(struct guest *g, const char *path, char *out, size_t cap);
int dc_chdir(struct guest *g, const char *path);
int dc_getcwd(struct guest *g, char *out);
/* All entries, by `each`; count or -errno. */
int dc_list(struct guest *g, struct dc_file *dir, void (*each)(void *context, const char *name, uint64_t ino, uint8_t type), void *context);
/* Whole contents of a file (NUL-terminated, at most cap - 1), length or -errno. */
int dc_contents(struct guest *g, const char *path, char *out, size_t cap);

#endif
