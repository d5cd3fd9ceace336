/* SPDX-License-Identifier: Apache-2.0 */
/* The personality's parts that need no host: patterns of call sites, stubs, slots, siginfo, frames, images, scripts, ELF. */
#include "personality/entry/pattern.h"
#include "personality/entry/signal.h"
#include "personality/host/slots.h"
#include "personality/task/elf.h"
#include "personality/task/image.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- patterns ---- */

static void test_pattern_mov(void **state) {
    (void)state;
    /* nop; mov $39, %eax; syscall; ret */
    const uint8_t code[] = {0x90, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90};
    unsigned len;
    assert_int_equal(pattern_match(code, 39, &len), PATTERN_MOV);
    assert_int_equal(pattern_match(code, 40, &len), PATTERN_NONE); /* another number at the trap: not that mov */
    uint8_t prefixed[sizeof code];
    memcpy(prefixed, code, sizeof code);
    prefixed[0] = 0x41; /* mov $39, %r8d */
    assert_int_equal(pattern_match(prefixed, 39, &len), PATTERN_NONE);
    prefixed[0] = 0x66;
    assert_int_equal(pattern_match(prefixed, 39, &len), PATTERN_NONE);
    prefixed[0] = 0x90;
    prefixed[6] = 0xcd; /* no syscall */
    assert_int_equal(pattern_match(prefixed, 39, &len), PATTERN_NONE);
}

static void test_pattern_compare(void **state) {
    (void)state;
    uint8_t code[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff};
    unsigned len;
    assert_int_equal(pattern_match(code, 1, &len), PATTERN_COMPARE);
    assert_int_equal(len, 6);
    code[10] = 0x00; /* as the compiler writes it */
    assert_int_equal(pattern_match(code, 1, &len), PATTERN_COMPARE);
    assert_int_equal(len, 6);
    code[11] = 0xf1;
    assert_int_equal(pattern_match(code, 1, &len), PATTERN_NONE);
    const uint8_t short_form[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x05, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x77};
    assert_int_equal(pattern_match(short_form, 1, &len), PATTERN_COMPARE);
    assert_int_equal(len, 5);
}

static int32_t get_i32(const uint8_t *at) {
    int32_t value;
    memcpy(&value, at, 4);
    return value;
}

static void test_stub(void **state) {
    (void)state;
    const uint64_t site = 0x7f0000001000, stub = 0x7f0001000600, entry = 0x6f0000000040;
    const uint8_t compare[6] = {0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff};
    uint8_t out[STUB_SIZE], jump[5];
    unsigned len = stub_write(out, PATTERN_COMPARE, stub, site, entry, 0, compare, 6);
    assert_true(len <= STUB_SIZE);
    /* lea: RCX = the copy of the compare; then jmp through the address that follows */
    assert_int_equal(stub + 7 + (uint64_t)get_i32(out + 3), stub + STUB_AFTER);
    assert_memory_equal(out + 13, &entry, 8);
    assert_memory_equal(out + STUB_AFTER, compare, 6);
    assert_int_equal(out[STUB_AFTER + 6], 0xe9);
    assert_int_equal(stub + STUB_AFTER + 11 + (uint64_t)get_i32(out + STUB_AFTER + 7), site + 8);
    len = stub_write(out, PATTERN_MOV, stub, site, entry, 39, NULL, 0);
    assert_true(len <= STUB_SIZE);
    assert_int_equal(out[0], 0xb8);
    assert_int_equal(get_i32(out + 1), 39);
    assert_int_equal(stub + 12 + (uint64_t)get_i32(out + 8), site + 2);
    jump_write(jump, site, stub);
    assert_int_equal(site + 5 + (uint64_t)get_i32(jump + 1), stub);
    assert_true(jump_reaches(site, stub));
    assert_true(jump_reaches(stub, site));
    assert_false(jump_reaches(site, site + (1ull << 32)));
    assert_false(jump_reaches(site, site - (1ull << 32)));
}

/* ---- slots ---- */

static void test_slots(void **state) {
    (void)state;
    static struct slot_set set;
    static struct dvk_ring ring;
    memset(&set, 0, sizeof set);
    memset(&ring, 0, sizeof ring);
    set.count = DVK_GUEST_SLOTS;
    assert_int_equal(slot_set_take(&set, &ring, 77), 77); /* the hint, if it is free */
    assert_int_not_equal(slot_set_take(&set, &ring, 77), 77);
    bool seen[DVK_GUEST_SLOTS] = {false};
    for (unsigned i = 2; i < DVK_GUEST_SLOTS; i++) {
        int slot = slot_set_take(&set, &ring, 0);
        assert_in_range(slot, 0, DVK_GUEST_SLOTS - 1);
        assert_false(seen[slot]);
        seen[slot] = true;
    }
    assert_int_equal(slot_set_take(&set, &ring, 0), -1);
    slot_set_give(&set, 5);
    assert_int_equal(slot_set_take(&set, &ring, 99), 5);
    /* a cancelled one comes back only when the peer has taken its cancellation */
    slot_set_give_later(&set, 9, 3);
    assert_int_equal(slot_set_take(&set, &ring, 9), -1);
    ring.tail = 2;
    assert_int_equal(slot_set_take(&set, &ring, 9), -1);
    ring.tail = 3;
    assert_int_equal(slot_set_take(&set, &ring, 9), 9);
    assert_int_equal(slot_set_take(&set, &ring, 9), -1);
    memset(&set, 0, sizeof set);
    set.count = 4; /* a smaller channel */
    for (int i = 0; i < 4; i++)
        assert_in_range(slot_set_take(&set, &ring, 100), 0, 3);
    assert_int_equal(slot_set_take(&set, &ring, 100), -1);
}

/* ---- signals ---- */

static void test_siginfo(void **state) {
    (void)state;
    struct signal_info in = {.signal = 17, .code = VOS_SI_CODE}, out;
    struct vos_siginfo_fields fields = {.code = 1, .pid = 70, .uid = 5, .status = 3, .utime = 11, .stime = UINT32_MAX};
    memcpy(&in.u, &fields, sizeof fields);
    signal_info_rebuild(&out, &in);
    assert_int_equal(out.code, 1);
    assert_int_equal(out.u.child.pid, 70);
    assert_int_equal(out.u.child.uid, 5);
    assert_int_equal(out.u.child.status, 3);
    assert_int_equal(out.u.child.utime, 11);
    assert_int_equal(out.u.child.stime, UINT32_MAX);
    in.signal = 34;
    fields = (struct vos_siginfo_fields){.code = -1, .pid = 8, .uid = 9, .value = 0x1122334455667788};
    memcpy(&in.u, &fields, sizeof fields);
    signal_info_rebuild(&out, &in);
    assert_int_equal(out.code, -1);
    assert_int_equal(out.u.queue.pid, 8);
    assert_true(out.u.queue.value == 0x1122334455667788);
    struct signal_info fault = {.signal = 11, .code = 2};
    fault.u.fault.address = 0x1234;
    signal_info_rebuild(&out, &fault);
    assert_memory_equal(&out, &fault, sizeof out);
    assert_int_equal(signal_default_of(17), DEFAULT_IGNORE);
    assert_int_equal(signal_default_of(20), DEFAULT_STOP);
    assert_int_equal(signal_default_of(11), DEFAULT_CORE);
    assert_int_equal(signal_default_of(40), DEFAULT_TERMINATE);
}

static void test_frame_place(void **state) {
    (void)state;
    struct guest_stack none = {.flags = STACK_DISABLE}, own = {.base = 0x10000, .size = 0x8000};
    for (uint64_t sp = 0x7ffff000; sp < 0x7ffff040; sp++) {
        struct frame_place place = frame_place(sp, &none, ACTION_ONSTACK, 2696);
        assert_int_equal(place.extended % 64, 0);
        assert_int_equal(place.frame % 16, 8);
        assert_true(place.extended + 2696 <= sp - 128);
        assert_true(place.frame + sizeof(struct signal_frame) <= place.extended);
    }
    struct frame_place place = frame_place(0x7ffff000, &own, ACTION_ONSTACK, 512);
    assert_true(place.frame > own.base && place.extended + 512 <= own.base + own.size);
    place = frame_place(0x7ffff000, &own, 0, 512); /* not asked for */
    assert_true(place.frame > 0x7fff0000);
    place = frame_place(0x14000, &own, ACTION_ONSTACK, 0); /* already on it: further down */
    assert_int_equal(place.extended, 0);
    assert_true(place.frame < 0x14000 - 128 && place.frame > 0x13000);
    assert_true(stack_contains(&own, 0x14000));
    assert_false(stack_contains(&own, 0x10000));
    own.flags = STACK_AUTODISARM;
    assert_false(stack_contains(&own, 0x14000));
}

/* ---- images ---- */

static size_t image_build(uint8_t *image, const char *strings, size_t len, uint32_t argc, uint32_t envc, uint32_t fds) {
    struct vos_image_header header = {.magic = VOS_IMAGE_MAGIC, .version = 1, .argc = argc, .envc = envc,
                                      .string_bytes = (uint32_t)len, .fd_count = fds};
    memcpy(image, &header, sizeof header);
    memcpy(image + sizeof header, strings, len);
    return image_fds_offset((uint32_t)len) + fds * sizeof(struct vos_image_fd);
}

static void test_image(void **state) {
    (void)state;
    static _Alignas(8) uint8_t image[4096];
    static const char strings[] = "/bin/x\0x\0-l\0A=1\0DVS_PLACE=spread\0";
    struct image_view view;
    size_t len = image_build(image, strings, sizeof strings - 1, 2, 2, 1);
    assert_int_equal(image_parse(image, len, &view), 0);
    assert_string_equal(view.path, "/bin/x");
    assert_string_equal(view.arguments, "x");
    assert_string_equal(image_next(view.arguments), "-l");
    assert_string_equal(view.environment, "A=1");
    assert_string_equal(image_environment(&view, "DVS_PLACE="), "spread");
    assert_null(image_environment(&view, "PATH="));
    /* every truncation is noticed */
    for (size_t n = 0; n < len; n++)
        assert_int_equal(image_parse(image, n, &view), -EINVAL);
    assert_int_equal(image_parse(image, image_build(image, strings, sizeof strings - 1, 2, 3, 0), &view), -EINVAL);
    assert_int_equal(image_parse(image, image_build(image, strings, sizeof strings - 2, 2, 2, 0), &view), -EINVAL);
    assert_int_equal(image_parse(image, image_build(image, strings, sizeof strings - 1, 0xffffffff, 2, 0), &view), -EINVAL);
    len = image_build(image, strings, sizeof strings - 1, 2, 2, 0);
    image[0] ^= 1;
    assert_int_equal(image_parse(image, len, &view), -EINVAL);
    image_build(image, strings, sizeof strings - 1, 2, 2, 0);
    ((struct vos_image_header *)(void *)image)->fd_count = VOS_IMAGE_FDS + 1;
    assert_int_equal(image_parse(image, sizeof image, &view), -EINVAL);
    ((struct vos_image_header *)(void *)image)->fd_count = 0;
    ((struct vos_image_header *)(void *)image)->string_bytes = 0xfffffff0;
    assert_int_equal(image_parse(image, sizeof image, &view), -EINVAL);
}

static void script_is(const char *text, const char *interpreter, const char *argument) {
    char line[32], *found = NULL, *extra = NULL;
    size_t len = strlen(text);
    memcpy(line, text, len);
    int result = script_parse(line, len, sizeof line, &found, &extra);
    if (!interpreter) {
        assert_int_equal(result, -ENOEXEC);
        return;
    }
    assert_int_equal(result, 0);
    assert_string_equal(found, interpreter);
    if (argument)
        assert_string_equal(extra, argument);
    else
        assert_null(extra);
}

static void test_script(void **state) {
    (void)state;
    script_is("#!/bin/sh\necho", "/bin/sh", NULL);
    script_is("#! /bin/sh \necho", "/bin/sh", NULL);
    script_is("#!/usr/bin/env python3 -u\t\n", "/usr/bin/env", "python3 -u");
    script_is("#!/bin/sh -e", "/bin/sh", "-e");
    script_is("#!\n", NULL, NULL);
    script_is("#!   \n", NULL, NULL);
    script_is("#!/bin/sh", "/bin/sh", NULL); /* the file ends there */
    script_is("#!/a/name/that/fills/the/buffer!", NULL, NULL); /* and may go on beyond it */
    script_is("#!/bin/sh an argument cut off by", "/bin/sh", "an argument cut off b");
    script_is("##", NULL, NULL);
    script_is("", NULL, NULL);
}

/* ---- ELF ---- */

static Elf64_Ehdr elf_good(void) {
    Elf64_Ehdr header = {.e_type = ET_DYN, .e_machine = EM_X86_64, .e_entry = 0x1000, .e_phoff = 64,
                         .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
    memcpy(header.e_ident, "\177ELF\2\1\1", 7);
    return header;
}

static void test_elf_header(void **state) {
    (void)state;
    struct elf_program program;
    Elf64_Ehdr header = elf_good();
    assert_int_equal(elf_check_header(&header, sizeof header, &program), 0);
    assert_true(program.movable && program.header_count == 2);
    assert_int_equal(elf_check_header(&header, sizeof header - 1, &program), -ENOEXEC);
    header.e_machine = EM_386;
    assert_int_equal(elf_check_header(&header, sizeof header, &program), -ENOEXEC);
    header = elf_good();
    header.e_ident[EI_CLASS] = ELFCLASS32;
    assert_int_equal(elf_check_header(&header, sizeof header, &program), -ENOEXEC);
    header = elf_good();
    header.e_type = ET_REL;
    assert_int_equal(elf_check_header(&header, sizeof header, &program), -ENOEXEC);
    header = elf_good();
    header.e_phnum = 0;
    assert_int_equal(elf_check_header(&header, sizeof header, &program), -ENOEXEC);
    header.e_phnum = ELF_MAX_HEADERS + 1;
    assert_int_equal(elf_check_header(&header, sizeof header, &program), -ENOEXEC);
}

#define FORBIDDEN 0x6f0000000000ull, 0x6f8000000000ull

static int segments(Elf64_Phdr first, Elf64_Phdr second, bool movable, struct elf_program *program) {
    const Elf64_Phdr headers[2] = {first, second};
    *program = (struct elf_program){.header_count = 2, .headers_offset = 64, .movable = movable};
    return elf_check_segments(headers, 0x10000, FORBIDDEN, program);
}

static void test_elf_segments(void **state) {
    (void)state;
    struct elf_program program;
    Elf64_Phdr text = {.p_type = PT_LOAD, .p_vaddr = 0x400000, .p_offset = 0, .p_filesz = 0x1000, .p_memsz = 0x1000};
    Elf64_Phdr data = {.p_type = PT_LOAD, .p_vaddr = 0x402010, .p_offset = 0x1010, .p_filesz = 0x10, .p_memsz = 0x2000, .p_align = 0x200000};
    assert_int_equal(segments(text, data, false, &program), 0);
    assert_true(program.low == 0x400000 && program.high == 0x405000 && program.headers == 0x400040 && program.align == 0x200000);
    Elf64_Phdr bad = data;
    bad.p_offset = 0x1018; /* not congruent */
    assert_int_equal(segments(text, bad, false, &program), -ENOEXEC);
    bad = data;
    bad.p_filesz = bad.p_memsz + 1;
    assert_int_equal(segments(text, bad, false, &program), -ENOEXEC);
    bad = data;
    bad.p_memsz = ~0ull - 0x402000;
    assert_int_equal(segments(text, bad, false, &program), -ENOEXEC);
    bad = data;
    bad.p_offset = 0x10010; /* beyond the file's end */
    assert_int_equal(segments(text, bad, false, &program), -ENOEXEC);
    assert_int_equal(segments(data, text, false, &program), -ENOEXEC); /* not ascending */
    bad = data;
    bad.p_vaddr = 0x6f0000000010;
    assert_int_equal(segments(text, bad, false, &program), -ENOEXEC);
    Elf64_Phdr interpreter = {.p_type = PT_INTERP, .p_offset = 0x200, .p_filesz = 28};
    assert_int_equal(segments(interpreter, text, true, &program), 0);
    assert_true(program.interpreter_offset == 0x200 && program.interpreter_len == 28);
    interpreter.p_offset = ~0ull - 3;
    assert_int_equal(segments(interpreter, text, true, &program), -ENOEXEC);
    Elf64_Phdr none = {.p_type = PT_NOTE};
    assert_int_equal(segments(none, none, true, &program), -ENOEXEC);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pattern_mov), cmocka_unit_test(test_pattern_compare), cmocka_unit_test(test_stub),
        cmocka_unit_test(test_slots),       cmocka_unit_test(test_siginfo),         cmocka_unit_test(test_frame_place),
        cmocka_unit_test(test_image),       cmocka_unit_test(test_script),          cmocka_unit_test(test_elf_header),
        cmocka_unit_test(test_elf_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
