/* SPDX-License-Identifier: Apache-2.0 */
#include "personality/entry/pattern.h"

static void put_u32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Errors are -4095..-1: compilers ask for "above -4096", assembler for "not below -4095". */
static bool is_error_limit(uint32_t value) { return value == 0xfffff000u || value == 0xfffff001u; }

enum pattern_kind pattern_match(const uint8_t *code, uint64_t number, unsigned *compare_len) {
    const uint8_t *site = code + PATTERN_BEFORE;
    *compare_len = 0;
    if (site[0] != 0x0f || site[1] != 0x05)
        return PATTERN_NONE;
    /* b8 imm32; not the tail of a longer instruction with a prefix (REX, operand size) */
    uint8_t prefix = site[-6];
    if (site[-5] == 0xb8 && number < 0x10000 && get_u32(site - 4) == number && (prefix & 0xf0) != 0x40 && prefix != 0x66)
        return PATTERN_MOV;
    /* 48 3d imm32: cmp $imm, %rax; 3d imm32: cmp $imm, %eax */
    if (site[2] == 0x48 && site[3] == 0x3d && is_error_limit(get_u32(site + 4)))
        *compare_len = 6;
    else if (site[2] == 0x3d && is_error_limit(get_u32(site + 3)))
        *compare_len = 5;
    return *compare_len != 0 ? PATTERN_COMPARE : PATTERN_NONE;
}

bool jump_reaches(uint64_t from, uint64_t to) {
    int64_t distance = (int64_t)(to - (from + 5));
    return distance == (int32_t)distance;
}

void jump_write(uint8_t out[5], uint64_t from, uint64_t to) {
    out[0] = 0xe9;
    put_u32(out + 1, (uint32_t)(to - (from + 5)));
}

unsigned stub_write(uint8_t *out, enum pattern_kind kind, uint64_t stub, uint64_t site, uint64_t entry, uint32_t number,
                    const uint8_t *compare, unsigned compare_len) {
    unsigned n = 0;
    uint64_t after = kind == PATTERN_MOV ? site + 2 : stub + STUB_AFTER;
    if (kind == PATTERN_MOV) { /* mov $number, %eax */
        out[n++] = 0xb8;
        put_u32(out + n, number);
        n += 4;
    }
    /* lea after(%rip), %rcx */
    out[n++] = 0x48;
    out[n++] = 0x8d;
    out[n++] = 0x0d;
    put_u32(out + n, (uint32_t)(after - (stub + n + 4)));
    n += 4;
    /* jmp *0(%rip), and the address of entry */
    out[n++] = 0xff;
    out[n++] = 0x25;
    put_u32(out + n, 0);
    n += 4;
    put_u32(out + n, (uint32_t)entry);
    put_u32(out + n + 4, (uint32_t)(entry >> 32));
    n += 8;
    if (kind == PATTERN_COMPARE) {
        for (unsigned i = 0; i < compare_len; i++)
            out[n++] = compare[i];
        jump_write(out + n, stub + n, site + 2 + compare_len);
        n += 5;
    }
    return n;
}
