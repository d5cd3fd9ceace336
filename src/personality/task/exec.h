/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exec on its way: the image (strings and all), and the program that was found for it. Lives in an area of its own, since the
 * old program's memory goes.
 */
#ifndef PERSONALITY_TASK_EXEC_H
#define PERSONALITY_TASK_EXEC_H

#include "personality/task/elf.h"
#include "personality/task/image.h"
#include "personality/task/task.h"

#define SCRIPT_DEPTH 5
#define SCRIPT_LINE 256
#define STRINGS_MAX (2u << 20)     /* arguments and environment together; E2BIG above */
#define STRING_MAX (128u << 10)    /* one of them */

struct loaded_file {
    struct file_ref *file;
    struct elf_program elf;
    Elf64_Phdr headers[ELF_MAX_HEADERS];
    uint64_t base; /* what is added to addresses as linked; set when mapped */
};

struct exec_plan {
    struct image_view view;
    bool fresh;          /* of a new host process: descriptors are to be restored, pm is told PM_STARTED */
    /* of scripts: what comes before argv[1], in place of argv[0] */
    const char *prefix[2 * SCRIPT_DEPTH + 1];
    unsigned prefix_count;
    char lines[SCRIPT_DEPTH][SCRIPT_LINE];
    struct loaded_file program, interpreter; /* interpreter.file NULL: none */
    struct opened_info opened; /* of the file that was opened last */
    char name[VOS_PATH_MAX]; /* as exec was given it, or found along PATH */
    char exe[VOS_PATH_MAX];
    char comm[16];
    uint8_t image[VOS_IMAGE_MAX];
    size_t image_len;
};

/* Open and check what plan->view says: scripts, program, interpreter. path: of the program. 0 or negative errno; what was opened
 * is closed then. */
long loader_open(struct task *task, struct exec_plan *plan, const char *path);
void loader_close(struct task *task, struct exec_plan *plan);
/* Map it into the empty address space, build the stack, set the thread's registers. 0 or negative errno. */
long loader_map(struct task *task, struct exec_plan *plan);
struct exec_plan *plan_create(void);
void plan_destroy(struct task *task, struct exec_plan *plan);
/* "comm\0cmdline" for pm; returns its length. */
size_t plan_describe(const struct exec_plan *plan, char *out, size_t cap);
/* Tell pm: PM_STARTED or PM_EXECED. */
long plan_announce(struct task *task, const struct exec_plan *plan, uint32_t type, long error);

#endif
