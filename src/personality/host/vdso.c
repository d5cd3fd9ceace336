/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's vDSO, kept for ourselves: guests get no AT_SYSINFO_EHDR, since they would make clock calls that we do not see
 * and could not be moved. It is moved into our area once, by the zygote, and inherited.
 *
 * The data pages lie directly below the code, in one or two mappings of unknown size; the code finds them relative to itself,
 * so all must keep their distance. A special mapping can only be moved whole: we try lengths until one fits.
 * A clock that the vDSO cannot read makes it call the kernel from its own text: the SIGSYS handler makes that call for it.
 */
#include "personality/host/host.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <elf.h>
#include <linux/mman.h>
#include <linux/time.h>

#define VDSO_MAX_PAGES 32u

static uint64_t vdso_start, vdso_end;
static long (*vdso_clock)(uint64_t clock, void *time);

bool vdso_contains(uint64_t address) { return address >= vdso_start && address < vdso_end; }

long vdso_clock_gettime(uint64_t clock, int64_t time[2]) {
    if (vdso_clock == NULL)
        return -ENOSYS;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
        return vdso_clock(clock, time);
    default:
        return -ENOSYS;
    }
}

/* Move the mapping that ends at `end`; returns its length, 0 if there is none. distance: new address - old address. */
static uint64_t mapping_move(uint64_t end, uint64_t distance) {
    for (uint64_t pages = 1; pages <= VDSO_MAX_PAGES; pages++) {
        uint64_t len = pages * PAGE;
        long at = CALL5(__NR_mremap, end - len, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, end - len + distance);
        if (at == (long)(end - len + distance))
            return len;
    }
    return 0;
}

static uint64_t symbol_find(uint64_t base, const char *name) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *phdr = (const Elf64_Phdr *)(base + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    uint64_t offset = base;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)(base + phdr[i].p_offset);
        else if (phdr[i].p_type == PT_LOAD)
            offset = base + phdr[i].p_offset - phdr[i].p_vaddr;
    }
    if (dynamic == NULL)
        return 0;
    const Elf64_Sym *symbols = NULL;
    const char *strings = NULL;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = (const Elf64_Sym *)(offset + dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRTAB)
            strings = (const char *)(offset + dynamic->d_un.d_ptr);
    }
    /* the string table follows the symbol table in every kernel's vDSO */
    if (symbols == NULL || strings == NULL || (uint64_t)strings <= (uint64_t)symbols)
        return 0;
    size_t count = ((uint64_t)strings - (uint64_t)symbols) / sizeof *symbols;
    for (size_t i = 0; i < count; i++)
        if (symbols[i].st_value != 0 && string_equal(strings + symbols[i].st_name, name))
            return offset + symbols[i].st_value;
    return 0;
}

void vdso_adopt(uint64_t address) {
    if (address == 0)
        return;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)address;
    const Elf64_Phdr *phdr = (const Elf64_Phdr *)(address + header->e_phoff);
    uint64_t len = 0;
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD)
            len = page_up(phdr[i].p_offset + phdr[i].p_memsz);
    uint64_t reserve = (2 * VDSO_MAX_PAGES + 2) * PAGE + len;
    uint64_t room = area_reserve(reserve);
    if (len == 0 || room == 0)
        return;
    uint64_t target = room + (2 * VDSO_MAX_PAGES + 1) * PAGE, distance = target - address;
    /* data first: code without its data would be useless, data without code does no harm */
    uint64_t data = mapping_move(address, distance);
    uint64_t more = data != 0 ? mapping_move(address - data, distance) : 0;
    if (data == 0 || CALL5(__NR_mremap, address, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, target) != (long)target)
        return; /* clocks are then read by system calls */
    vdso_start = target - data - more;
    vdso_end = target + len;
    vdso_clock = (long (*)(uint64_t, void *))symbol_find(target, "__vdso_clock_gettime");
}
