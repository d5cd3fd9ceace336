/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile: a program for use inside a DC that jumps past its personality and attacks the host, its DC and the DVK.
 *
 *   hostile [NAME [NUMBER]]     try one attack, or all that end; each in a child process
 *
 * prints "NAME: refused", "NAME: SUCCEEDED", "NAME: untried", or "NAME: died of signal N" or "ended with status N"
 * (also a refusal: it harmed only itself) for each attack. Exit status: 0 none succeeded and all were tried, 1 some
 * succeeded, 2 some could not be tried or bad usage. NUMBER: a pid of the host for kill-host and memory-host.
 */
#include "hostile.h"
#include "personality/personality.h"

static const struct attack {
    const char *name;
    attack_function *function;
    int single; /* only by name: it takes an argument, or leaves something behind */
} attacks[] = {
    {"open", attack_open, 0},
    {"socket", attack_socket, 0},
    {"ptrace", attack_ptrace, 0},
    {"mount", attack_mount, 0},
    {"kill", attack_kill, 0},
    {"memory", attack_memory, 0},
    {"exec", attack_exec, 0},
    {"namespace", attack_namespace, 0},
    {"privilege", attack_privilege, 0},
    {"signal-by-fd", attack_signal_by_fd, 0},
    {"timer", attack_timer, 0},
    {"undispatch", attack_undispatch, 0},
    {"x32", attack_x32, 0},
    {"int80", attack_int80, 0},
    {"forge", attack_forge, 0},
    {"forge-server", attack_forge_server, 0},
    {"garbage", attack_garbage, 0},
    {"bad-slot", attack_bad_slot, 0},
    {"dead-flag", attack_dead_flag, 0},
    {"unmap", attack_unmap, 0},
    {"doorbell", attack_doorbell, 0},
    {"kill-host", attack_kill_host, 1},
    {"memory-host", attack_memory_host, 1},
    {"stray", attack_stray, 1},
};
#define ATTACKS (sizeof attacks / sizeof attacks[0])

/* ---- calls ---- */

__asm__(".text\n"
        ".globl guest_call\nguest_call:\n"
        " mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n mov %r9, %r8\n mov "
        "8(%rsp), %r9\n"
        " syscall\n ret\n"
        ".globl gadget_call\ngadget_call:\n" /* the same, but the return address of the gadget's ret is our caller's */
        " mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n mov %r9, %r8\n mov "
        "8(%rsp), %r9\n"
        " jmp *gadget_address(%rip)\n"
        ".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call hostile_main\n hlt\n");
extern long gadget_call(long number, long a, long b, long c, long d, long e, long f);
uint64_t gadget_address;

/* "syscall; ret" in the personality's text, which begins at PERSONALITY_BASE. */
static void gadget_find(void) {
    for (const uint8_t *at = (const uint8_t *)PERSONALITY_BASE;; at++) /* there is one, in its host_call */
        if (at[0] == 0x0f && at[1] == 0x05 && at[2] == 0xc3) {
            gadget_address = (uint64_t)at;
            return;
        }
}

long bypass_call(long number, long a, long b, long c, long d, long e, long f) {
    return gadget_call(number, a, b, c, d, e, f);
}

_Noreturn void finish(enum outcome outcome) {
    for (;;)
        HOST(__NR_exit_group, outcome);
}

void sleep_ms(long ms) {
    long time[2] = {ms / 1000, ms % 1000 * 1000000};
    HOST(__NR_nanosleep, time, 0);
}

/* The compiler may call these for assignments. */
void *memcpy(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
void *memcpy(void *to, const void *from, size_t len) {
    for (size_t i = 0; i < len; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int value, size_t len) {
    for (size_t i = 0; i < len; i++)
        ((volatile char *)to)[i] = (char)value;
    return to;
}

/* ---- the channel ---- */

/* Read 8 bytes where there may be nothing. */
int peek(const int pipe[2], uint64_t address, uint64_t *out) {
    return HOST(__NR_write, pipe[1], address, 8) == 8 && HOST(__NR_read, pipe[0], out, 8) == 8;
}

int channel_find(struct dvk_channel_view *view) {
    int pipe[2];
    uint8_t resident;
    uint64_t word;
    if (HOST(__NR_pipe2, pipe, 0))
        return -1;
    for (uint64_t at = PERSONALITY_AREA; at < PERSONALITY_AREA + (4ull << 30); at += 4096)
        if (!HOST(__NR_mincore, at, 4096, &resident) && peek(pipe, at, &word) && word == DVK_CHANNEL_MAGIC &&
            !dvk_channel_view_init(view, (void *)at, 1ull << 30))
            return 0;
    return -1;
}

/* ---- running them ---- */

static size_t length(const char *text) {
    size_t len = 0;
    while (text[len])
        len++;
    return len;
}
static int equal(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}
static void print(const char *text) {
    GUEST(__NR_write, 1, text, length(text));
}
static void print_number(long number) {
    char text[24], *at = text + sizeof text - 1;
    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    print(at);
}

static enum outcome attack_run(const struct attack *attack, long argument) {
    int status = 0;
    enum outcome outcome = UNTRIED;
    long pid = GUEST(__NR_fork);
    if (!pid)
        finish(attack->function(argument));
    print(attack->name);
    if (pid < 0 || GUEST(__NR_wait4, pid, &status, 0, 0) != pid) {
        print(": untried (no child)\n");
        return UNTRIED;
    }
    if (status & 0x7f) {
        print(": died of signal ");
        print_number(status & 0x7f);
        print("\n");
        return REFUSED;
    }
    int code = status >> 8 & 0xff;
    if (code > UNTRIED) { /* its personality gave up */
        print(": ended with status ");
        print_number(code);
        print("\n");
        return REFUSED;
    }
    outcome = (enum outcome)code;
    print(outcome == REFUSED ? ": refused\n" : outcome == SUCCEEDED ? ": SUCCEEDED\n" : ": untried\n");
    return outcome;
}

__attribute__((used)) void hostile_main(long *stack);
void hostile_main(long *stack) {
    char **argv = (char **)(stack + 1);
    long argument = 0, worst = REFUSED;
    int found = 0;
    if (stack[0] > 2)
        for (const char *digit = argv[2]; *digit >= '0' && *digit <= '9'; digit++)
            argument = argument * 10 + *digit - '0';
    gadget_find();
    for (size_t i = 0; i < ATTACKS; i++) {
        if (stack[0] > 1 ? !equal(argv[1], attacks[i].name) : attacks[i].single)
            continue;
        found = 1;
        enum outcome outcome = attack_run(&attacks[i], argument);
        if (outcome == SUCCEEDED || (outcome == UNTRIED && worst == REFUSED))
            worst = outcome;
    }
    if (!found)
        print("hostile: no such attack\n");
    GUEST(__NR_exit_group, found ? worst : 2);
}
