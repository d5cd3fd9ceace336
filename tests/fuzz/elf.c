/* SPDX-License-Identifier: Apache-2.0 */
/* What exec reads of a program's file: ELF headers and "#!" lines. */
#include "input.h"
#include "personality/personality.h"
#include "personality/task/elf.h"
#include "personality/task/image.h"

#define LINE 256

static void elf(const uint8_t *data, size_t size) {
    struct elf_program program;
    Elf64_Phdr headers[ELF_MAX_HEADERS];
    uint8_t *copy = input_heap(data, size);
    if (elf_check_header(copy, size, &program) == 0) {
        size_t bytes = program.header_count * sizeof(Elf64_Phdr);
        MUST(program.header_count <= ELF_MAX_HEADERS);
        if (program.headers_offset <= size && bytes <= size - program.headers_offset) {
            memcpy(headers, copy + program.headers_offset, bytes);
            /* the file is said to be longer than it is, as if more followed */
            if (elf_check_segments(headers, 1u << 20, PERSONALITY_BASE, PERSONALITY_END, &program) == 0) {
                MUST(program.low < program.high && program.high <= 1ull << 47);
                MUST(program.low % 4096 == 0 && program.high % 4096 == 0 && program.align % 4096 == 0);
                MUST((program.align & (program.align - 1)) == 0);
                MUST(program.interpreter_len <= 4096 && program.interpreter_offset + program.interpreter_len <= 1u << 20);
            }
        }
    }
    free(copy);
}

static void script(const uint8_t *data, size_t size) {
    char *line = malloc(LINE), *interpreter, *argument;
    size_t len = size < LINE ? size : LINE;
    MUST(line);
    if (len)
        memcpy(line, data, len);
    if (script_parse(line, len, LINE, &interpreter, &argument) == 0) {
        MUST(interpreter > line && interpreter + strlen(interpreter) < line + LINE && *interpreter);
        MUST(!argument || (argument > interpreter && argument + strlen(argument) < line + LINE));
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    elf(data, size);
    script(data, size);
    return 0;
}
