/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people: the trace, and the last words of a broken personality. */
#include "personality/host/host.h"
#include "personality/task/task.h"
#include <asm/unistd.h>

void text_string(struct text *text, const char *s) {
    while (*s != '\0' && text->len < text->cap)
        text->at[text->len++] = *s++;
}

static void text_unsigned(struct text *text, uint64_t value, unsigned base) {
    char digits[24];
    unsigned n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    while (n > 0 && text->len < text->cap)
        text->at[text->len++] = digits[--n];
}

void text_number(struct text *text, int64_t value) {
    if (value < 0)
        text_string(text, "-");
    text_unsigned(text, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

void text_hex(struct text *text, uint64_t value) {
    text_string(text, "0x");
    text_unsigned(text, value, 16);
}

void print_line(const char *line, size_t len) {
    int fd = __atomic_load_n(&space.message_fd, __ATOMIC_RELAXED);
    if (fd >= 0)
        (void)CALL3(__NR_write, fd, line, len); /* nobody to tell when it fails */
}

_Noreturn void personality_panic(const char *what, uint64_t a, uint64_t b) {
    char line[256];
    struct text text = {line, 0, sizeof line - 1};
    text_string(&text, "dvs-personality: ");
    text_string(&text, what);
    text_string(&text, " ");
    text_hex(&text, a);
    text_string(&text, " ");
    text_hex(&text, b);
    line[text.len++] = '\n';
    print_line(line, text.len);
    for (;;)
        CALL1(__NR_exit_group, 255);
}
