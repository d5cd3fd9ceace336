/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of an ELF program's headers, read from an untrusted file. Pure. */
#ifndef PERSONALITY_TASK_ELF_H
#define PERSONALITY_TASK_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_HEADERS 64u

struct elf_program {
    uint64_t entry;       /* as linked */
    uint64_t low, high;   /* page-aligned span of the segments, as linked */
    uint64_t align;       /* largest alignment that a segment wants; a page at least */
    uint64_t headers;     /* address of the program headers, as linked; 0: not mapped */
    uint64_t headers_offset;
    uint16_t header_count;
    bool movable;         /* ET_DYN */
    uint64_t interpreter_offset, interpreter_len; /* with NUL; 0: none */
};

/* len bytes of the file's beginning. 0, -ENOEXEC (not for us), -ELIBBAD is the caller's choice for interpreters. */
int elf_check_header(const void *bytes, size_t len, struct elf_program *out);
/* The program headers; completes *out. 0 or -ENOEXEC. forbidden_*: no fixed segment may lie there. */
int elf_check_segments(const Elf64_Phdr *headers, uint64_t file_size, uint64_t forbidden_start, uint64_t forbidden_end,
                       struct elf_program *out);

#endif
