/* SPDX-License-Identifier: Apache-2.0 */
/* The trace: "pid name(arguments) = result", one line a call, for people who debug. */
#include "personality/host/host.h"
#include "personality/sys/sys.h"
#include "personality/task/task.h"

#define TRACE_PATH 80

/* Arguments that are paths, by call: which argument, as a bit each. */
static unsigned path_arguments(uint64_t number) {
    switch (number) {
    case 2: case 4: case 6: case 21: case 59: case 76: case 80: case 83: case 84: case 85: case 87: case 89: case 90: case 137:
        return 1u;
    case 82: case 86: case 88:
        return 3u;
    case 257: case 258: case 262: case 263: case 267: case 268: case 269: case 322: case 332: case 437: case 439:
        return 2u;
    default:
        return 0;
    }
}

void trace_call(struct task *task, uint64_t number, const uint64_t args[6], long result) {
    char line[512], path[TRACE_PATH];
    struct text text = {line, 0, sizeof line - 1};
    const struct sys_row *row = number < SYS_COUNT ? &sys_table[number] : NULL;
    text_number(&text, task->tid);
    text_string(&text, " ");
    if (row != NULL && row->name != NULL) {
        text_string(&text, row->name);
    } else {
        text_string(&text, "syscall_");
        text_number(&text, (int64_t)number);
    }
    text_string(&text, "(");
    unsigned count = row != NULL && row->name != NULL ? row->arguments : 6, paths = path_arguments(number);
    for (unsigned i = 0; i < count && i < 6; i++) {
        if (i != 0)
            text_string(&text, ", ");
        long len = (paths & (1u << i)) ? guest_string(path, args[i], sizeof path - 1) : -1;
        if (len >= 0 || len == -36 /* ENAMETOOLONG: the beginning is there */) {
            path[len >= 0 ? (size_t)len : sizeof path - 1] = '\0';
            text_string(&text, "\"");
            text_string(&text, path);
            text_string(&text, "\"");
        } else if ((int64_t)args[i] > -4096 && (int64_t)args[i] < 65536) {
            text_number(&text, (int64_t)args[i]);
        } else {
            text_hex(&text, args[i]);
        }
    }
    text_string(&text, ") = ");
    if (result > 65536 || result < -4096)
        text_hex(&text, (uint64_t)result);
    else
        text_number(&text, result);
    line[text.len++] = '\n';
    print_line(line, text.len);
}
