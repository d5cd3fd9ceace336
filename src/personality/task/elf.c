/* SPDX-License-Identifier: Apache-2.0 */
#include "personality/task/elf.h"
#include <asm/errno.h>

#define ELF_PAGE 4096ull
#define ELF_ALIGN_MAX (1ull << 30)
#define ELF_TOP 0x7ffffffff000ull
#define ELF_INTERPRETER_MAX 4096u

static const uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};

int elf_check_header(const void *bytes, size_t len, struct elf_program *out) {
    Elf64_Ehdr header;
    *out = (struct elf_program){0};
    if (len < sizeof header)
        return -ENOEXEC;
    const uint8_t *from = bytes;
    for (size_t i = 0; i < sizeof header; i++)
        ((uint8_t *)&header)[i] = from[i];
    for (int i = 0; i < 4; i++)
        if (header.e_ident[i] != magic[i])
            return -ENOEXEC;
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64 || (header.e_type != ET_EXEC && header.e_type != ET_DYN) ||
        header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > ELF_MAX_HEADERS)
        return -ENOEXEC;
    out->entry = header.e_entry;
    out->headers_offset = header.e_phoff;
    out->header_count = header.e_phnum;
    out->movable = header.e_type == ET_DYN;
    return 0;
}

static bool segment_is_sound(const Elf64_Phdr *segment, uint64_t file_size) {
    return segment->p_filesz <= segment->p_memsz && segment->p_vaddr < ELF_TOP && segment->p_memsz < ELF_TOP &&
           segment->p_vaddr + segment->p_memsz < ELF_TOP && segment->p_offset <= file_size &&
           segment->p_filesz <= file_size - segment->p_offset &&
           (segment->p_offset & (ELF_PAGE - 1)) == (segment->p_vaddr & (ELF_PAGE - 1));
}

int elf_check_segments(const Elf64_Phdr *headers, uint64_t file_size, uint64_t forbidden_start, uint64_t forbidden_end,
                       struct elf_program *out) {
    uint64_t last = 0;
    out->align = ELF_PAGE;
    out->low = ~0ull;
    out->high = 0;
    for (unsigned i = 0; i < out->header_count; i++) {
        const Elf64_Phdr *segment = &headers[i];
        if (segment->p_type == PT_INTERP) {
            if (segment->p_filesz < 2 || segment->p_filesz > ELF_INTERPRETER_MAX || segment->p_offset > file_size ||
                segment->p_filesz > file_size - segment->p_offset)
                return -ENOEXEC;
            out->interpreter_offset = segment->p_offset;
            out->interpreter_len = segment->p_filesz;
        }
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0)
            continue;
        uint64_t start = segment->p_vaddr & ~(ELF_PAGE - 1);
        if (!segment_is_sound(segment, file_size) || segment->p_vaddr < last)
            return -ENOEXEC;
        uint64_t end = (segment->p_vaddr + segment->p_memsz + ELF_PAGE - 1) & ~(ELF_PAGE - 1);
        if (!out->movable && start < forbidden_end && end > forbidden_start)
            return -ENOEXEC;
        if (out->low == ~0ull)
            out->low = start;
        last = segment->p_vaddr;
        uint64_t align = segment->p_align;
        if (align > out->align && align <= ELF_ALIGN_MAX && (align & (align - 1)) == 0)
            out->align = align;
        if (end > out->high)
            out->high = end;
        if (segment->p_offset <= out->headers_offset && out->headers_offset < segment->p_offset + segment->p_filesz)
            out->headers = segment->p_vaddr + (out->headers_offset - segment->p_offset);
    }
    return out->high == 0 || (out->movable && out->high - out->low > ELF_TOP / 2) ? -ENOEXEC : 0;
}
