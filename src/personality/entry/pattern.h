/* SPDX-License-Identifier: Apache-2.0 */
/* What the code around a `syscall` instruction looks like, and the bytes that replace it. Pure: no memory but its arguments. */
#ifndef PERSONALITY_ENTRY_PATTERN_H
#define PERSONALITY_ENTRY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pattern_kind {
    PATTERN_NONE,
    PATTERN_MOV,    /* mov $number, %eax; syscall: the mov becomes a jump to the stub, `syscall` stays in place */
    PATTERN_COMPARE /* syscall; cmp $-4096 or $-4095, %rax (or %eax): both become a jump; the stub holds the compare */
};

#define PATTERN_BEFORE 6 /* bytes needed before the syscall instruction */
#define PATTERN_AFTER 8  /* bytes needed from it on */
#define STUB_SIZE 48
#define STUB_AFTER 21 /* offset, in a stub of PATTERN_COMPARE, of the copied compare */

/* Second byte of the jump's distance in a site of PATTERN_COMPARE: an opcode that is invalid in 64-bit mode. It lies where the
 * compare began, so that code which jumps straight to the compare faults there and can be sent to the copy. */
#define PATTERN_TRAP 0x06u

/* code: PATTERN_BEFORE + PATTERN_AFTER bytes, the syscall at code[PATTERN_BEFORE]; number: RAX at the trap.
 * *compare_len: length of the compare instruction. */
enum pattern_kind pattern_match(const uint8_t *code, uint64_t number, unsigned *compare_len);

/* A stub at address `stub` for a site (address of its syscall). Returns its length, <= STUB_SIZE. */
unsigned stub_write(uint8_t *out, enum pattern_kind kind, uint64_t stub, uint64_t site, uint64_t entry, uint32_t number,
                    const uint8_t *compare, unsigned compare_len);

/* The five bytes of a jump at address `from` to `to`; they must be within 2 GiB. */
void jump_write(uint8_t out[5], uint64_t from, uint64_t to);
bool jump_reaches(uint64_t from, uint64_t to);

#endif
