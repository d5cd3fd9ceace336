/* SPDX-License-Identifier: Apache-2.0 */
/* Directories for the tests to work on. */
#ifndef TEST_TREE_H
#define TEST_TREE_H

#include <stddef.h>
#include <stdint.h>

struct names {
    unsigned count;
    struct {
        char name[64];
        uint8_t type;
    } entry[256];
};
void names_add(struct names *names, const char *name, uint8_t type);
/* Sorted, "name/type " each; for the root directory the names that only one side has are left out. */
void names_text(struct names *names, char *out, size_t cap);

void make_sample_tree(const char *root);
void make_file(const char *root, const char *path, const char *text, unsigned mode, unsigned uid);
void make_dir(const char *root, const char *path, unsigned mode, unsigned uid);
void make_link(const char *root, const char *path, const char *target);
void remove_tree(const char *path);

#endif
