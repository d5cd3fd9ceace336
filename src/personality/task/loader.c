/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, checking and mapping of programs; the stack that a new program finds. */
#include "personality/entry/patch.h"
#include "personality/task/exec.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/auxvec.h>
#include <linux/mman.h>
#include <linux/resource.h>
#include <linux/stat.h>

#define STACK_TOP 0x7ffffffff000ull
#define STACK_DEFAULT (8ull << 20)
#define STACK_LARGEST (64ull << 20)
#define PROGRAM_BASE 0x555555554000ull
#define PERSONA_NO_RANDOM 0x0040000u
#define HEAD_BYTES SCRIPT_LINE

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* ---- opening ---- */

void loader_close(struct task *task, struct exec_plan *plan) {
    if (plan->program.file != NULL)
        file_close(task, plan->program.file);
    if (plan->interpreter.file != NULL)
        file_close(task, plan->interpreter.file);
    plan->program.file = plan->interpreter.file = NULL;
}

/* Check that the open file is a program of ours. head: its first bytes. */
static long elf_open(struct task *task, struct loaded_file *loaded, const char *head, size_t len, uint64_t size) {
    long result = elf_check_header(head, len, &loaded->elf);
    if (result != 0)
        return result;
    size_t bytes = loaded->elf.header_count * sizeof(Elf64_Phdr);
    result = file_pread(task, loaded->file, loaded->headers, bytes, loaded->elf.headers_offset);
    if (result != (long)bytes)
        return result < 0 ? result : -ENOEXEC;
    return elf_check_segments(loaded->headers, size, PERSONALITY_BASE, PERSONALITY_END, &loaded->elf);
}

static long interpreter_open(struct task *task, struct exec_plan *plan) {
    const struct elf_program *program = &plan->program.elf;
    struct loaded_file *loaded = &plan->interpreter;
    char path[512], head[HEAD_BYTES];
    if (program->interpreter_len == 0)
        return 0;
    if (program->interpreter_len > sizeof path)
        return -ENOEXEC;
    long result = file_pread(task, plan->program.file, path, program->interpreter_len, program->interpreter_offset);
    if (result != (long)program->interpreter_len || path[program->interpreter_len - 1] != '\0')
        return -ENOEXEC;
    result = file_open_exec(task, path, true, &loaded->file, &plan->opened);
    if (result < 0) {
        loaded->file = NULL;
        return result;
    }
    long len = file_pread(task, loaded->file, head, sizeof head, 0);
    if (len < 0)
        return len;
    result = elf_open(task, loaded, head, (size_t)len, (uint64_t)plan->opened.stat.st_size);
    return result == -ENOEXEC ? -ELIBBAD : result;
}

/* A script's line was read into `line`: put its words before the arguments. */
static long script_take(struct exec_plan *plan, char *line, size_t len, const char *script, const char **interpreter) {
    char *program, *argument;
    int result = script_parse(line, len, SCRIPT_LINE, &program, &argument);
    if (result != 0)
        return result;
    unsigned more = argument != NULL ? 2 : 1;
    if (plan->prefix_count == 0) { /* the innermost script's path takes the place of argv[0] */
        plan->prefix[0] = script;
        plan->prefix_count = 1;
    }
    /* an interpreter that is itself a script comes before what is there */
    for (unsigned i = plan->prefix_count; i > 0; i--)
        plan->prefix[i - 1 + more] = plan->prefix[i - 1];
    plan->prefix[0] = program;
    if (argument != NULL)
        plan->prefix[1] = argument;
    plan->prefix_count += more;
    *interpreter = program;
    return 0;
}

static long program_open(struct task *task, struct exec_plan *plan, const char *path) {
    struct loaded_file *loaded = &plan->program;
    const char *current = path;
    for (unsigned depth = 0;; depth++) {
        char head[HEAD_BYTES];
        long result = file_open_exec(task, current, true, &loaded->file, &plan->opened);
        if (result < 0) {
            loaded->file = NULL;
            return result == -EISDIR ? -EACCES : result;
        }
        if (!S_ISREG(plan->opened.stat.st_mode))
            return -EACCES;
        long len = file_pread(task, loaded->file, head, sizeof head, 0);
        if (len < 0)
            return len;
        if (len < 2 || head[0] != '#' || head[1] != '!') {
            result = elf_open(task, loaded, head, (size_t)len, (uint64_t)plan->opened.stat.st_size);
            if (result == 0 && plan->opened.path[0] == '/')
                string_copy(plan->exe, plan->opened.path, sizeof plan->exe);
            else if (result == 0 && file_path(task, loaded->file, plan->exe, sizeof plan->exe) < 0)
                string_copy(plan->exe, current, sizeof plan->exe);
            return result;
        }
        if (depth == SCRIPT_DEPTH)
            return -ELOOP;
        file_close(task, loaded->file);
        loaded->file = NULL;
        memcpy(plan->lines[depth], head, (size_t)len);
        result = script_take(plan, plan->lines[depth], (size_t)len, plan->name, &current);
        if (result != 0)
            return result;
    }
}

long loader_open(struct task *task, struct exec_plan *plan, const char *path) {
    plan->prefix_count = 0;
    string_copy(plan->name, path, sizeof plan->name);
    string_copy(plan->comm, string_basename(path), sizeof plan->comm);
    long result = program_open(task, plan, plan->name);
    if (result == 0)
        result = interpreter_open(task, plan);
    if (result < 0)
        loader_close(task, plan);
    return result;
}

/* ---- mapping ---- */

static uint64_t random_pages(const struct process *process, uint64_t pages) {
    uint64_t value = 0;
    if (process->persona & PERSONA_NO_RANDOM)
        return 0;
    (void)CALL3(__NR_getrandom, &value, sizeof value, 0); /* 0 when there is none yet */
    return value % pages * PAGE;
}

static int segment_protection(uint32_t flags) {
    return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) | (flags & PF_X ? PROT_EXEC : 0);
}

static long zero_map(uint64_t start, uint64_t len, int protection) {
    long at = CALL6(__NR_mmap, start, len, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return at < 0 ? at : 0;
}

static long segment_map(struct task *task, struct loaded_file *loaded, const Elf64_Phdr *segment) {
    uint64_t start = loaded->base + segment->p_vaddr, page = page_down(start);
    uint64_t file_end = start + segment->p_filesz, end = page_up(start + segment->p_memsz);
    uint64_t mapped_end = segment->p_filesz != 0 ? page_up(file_end) : page;
    int protection = segment_protection(segment->p_flags);
    if (segment->p_filesz != 0) {
        long at = file_map(task, loaded->file, page, file_end - page, protection, true, segment->p_offset - (start - page));
        if (at < 0)
            return at;
        if ((protection & PROT_EXEC) && !(protection & PROT_WRITE))
            patch_text_add(page, mapped_end - page);
    }
    if (segment->p_memsz > segment->p_filesz) {
        if (segment->p_filesz != 0 && (protection & PROT_WRITE) && mapped_end > file_end)
            memset((void *)file_end, 0, mapped_end - file_end);
        if (end > mapped_end)
            return zero_map(mapped_end, end - mapped_end, protection);
    }
    return 0;
}

/* hint: where a movable program goes; 0: anywhere. */
static long program_map(struct task *task, struct loaded_file *loaded, uint64_t hint) {
    const struct elf_program *elf = &loaded->elf;
    uint64_t span = elf->high - elf->low;
    if (hint != 0)
        hint = (hint + elf->align - 1) & ~(elf->align - 1);
    long at = CALL6(__NR_mmap, elf->movable ? hint : elf->low, span, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (elf->movable ? 0 : MAP_FIXED_NOREPLACE), -1, 0);
    if (at < 0)
        return at;
    loaded->base = (uint64_t)at - elf->low;
    for (unsigned i = 0; i < elf->header_count; i++) {
        const Elf64_Phdr *segment = &loaded->headers[i];
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0)
            continue;
        long result = segment_map(task, loaded, segment);
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- the stack ---- */

static uint64_t stack_map(const struct process *process) {
    uint64_t limits[2] = {STACK_DEFAULT, 0};
    (void)CALL4(__NR_prlimit64, 0, RLIMIT_STACK, 0, limits);
    uint64_t size = page_up(limits[0]);
    if (size < STACK_DEFAULT / 8)
        size = STACK_DEFAULT / 8;
    if (size > STACK_LARGEST)
        size = STACK_LARGEST;
    uint64_t top = STACK_TOP - random_pages(process, 1u << 13);
    long at = CALL6(__NR_mmap, top - size, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK | MAP_FIXED_NOREPLACE, -1, 0);
    if (at < 0)
        at = CALL6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    return at < 0 ? 0 : (uint64_t)at + size;
}

/* Puts a string below *top; its address. */
static uint64_t stack_string(uint64_t *top, const char *string) {
    size_t len = string_length(string) + 1;
    *top -= len;
    memcpy((void *)*top, string, len);
    return *top;
}

struct vector_writer {
    uint64_t *at;
};

static void put(struct vector_writer *writer, uint64_t value) { *writer->at++ = value; }

static void put_pair(struct vector_writer *writer, uint64_t key, uint64_t value) {
    put(writer, key);
    put(writer, value);
}

static void auxiliary_write(struct vector_writer *writer, const struct process *process, const struct exec_plan *plan,
                            uint64_t name, uint64_t platform, uint64_t random) {
    const struct loaded_file *program = &plan->program;
    put_pair(writer, AT_HWCAP, space.hwcap);
    put_pair(writer, AT_PAGESZ, PAGE);
    put_pair(writer, AT_CLKTCK, space.clock_tick);
    put_pair(writer, AT_PHDR, program->elf.headers != 0 ? program->base + program->elf.headers : 0);
    put_pair(writer, AT_PHENT, sizeof(Elf64_Phdr));
    put_pair(writer, AT_PHNUM, program->elf.header_count);
    put_pair(writer, AT_BASE, plan->interpreter.file != NULL ? plan->interpreter.base + plan->interpreter.elf.low : 0);
    put_pair(writer, AT_FLAGS, 0);
    put_pair(writer, AT_ENTRY, program->base + program->elf.entry);
    put_pair(writer, AT_UID, process->uid);
    put_pair(writer, AT_EUID, process->euid);
    put_pair(writer, AT_GID, process->gid);
    put_pair(writer, AT_EGID, process->egid);
    put_pair(writer, AT_SECURE, process->uid != process->euid || process->gid != process->egid);
    put_pair(writer, AT_RANDOM, random);
    put_pair(writer, AT_HWCAP2, space.hwcap2);
    put_pair(writer, AT_EXECFN, name);
    put_pair(writer, AT_PLATFORM, platform);
    put_pair(writer, AT_MINSIGSTKSZ, space.minimum_stack);
    put_pair(writer, AT_NULL, 0);
}

#define AUXILIARY_WORDS 40u

static long stack_build(struct thread *thread, const struct exec_plan *plan) {
    struct process *process = thread->task.process;
    const struct image_view *view = &plan->view;
    uint64_t top = stack_map(process);
    if (top == 0)
        return -ENOMEM;
    top -= 8; /* a last word of zero, as the kernel leaves it */
    uint64_t name = stack_string(&top, plan->name);
    /* environment and arguments keep their order in memory: copy each block as it is */
    const char *end = view->environment;
    for (uint32_t i = 0; i < view->header.envc; i++)
        end = image_next(end);
    size_t environment_len = (size_t)(end - view->environment);
    top -= environment_len;
    uint64_t environment = top;
    memcpy((void *)environment, view->environment, environment_len);
    uint32_t skip = plan->prefix_count != 0 ? 1 : 0;
    const char *rest = skip ? image_next(view->arguments) : view->arguments;
    size_t argument_len = (size_t)(view->environment - rest);
    top -= argument_len;
    uint64_t arguments = top;
    memcpy((void *)arguments, rest, argument_len);
    uint64_t prefix[2 * SCRIPT_DEPTH + 1];
    for (unsigned i = plan->prefix_count; i > 0; i--)
        prefix[i - 1] = stack_string(&top, plan->prefix[i - 1]);
    uint64_t platform = stack_string(&top, "x86_64");
    top = (top - 16) & ~15ull;
    uint64_t random = top;
    (void)CALL3(__NR_getrandom, random, 16, 0);

    uint64_t argc = plan->prefix_count + (view->header.argc - skip);
    uint64_t words = 1 + argc + 1 + view->header.envc + 1 + AUXILIARY_WORDS;
    top = (top - words * 8) & ~15ull;
    struct vector_writer writer = {(uint64_t *)top};
    put(&writer, argc);
    for (unsigned i = 0; i < plan->prefix_count; i++)
        put(&writer, prefix[i]);
    for (uint32_t i = skip; i < view->header.argc; i++) {
        put(&writer, arguments);
        arguments += string_length((const char *)arguments) + 1;
    }
    put(&writer, 0);
    for (uint32_t i = 0; i < view->header.envc; i++) {
        put(&writer, environment);
        environment += string_length((const char *)environment) + 1;
    }
    put(&writer, 0);
    auxiliary_write(&writer, process, plan, name, platform, random);

    struct regs *regs = thread_regs(thread);
    memset(regs, 0, sizeof *regs);
    regs->rsp = top;
    regs->rip = plan->interpreter.file != NULL ? plan->interpreter.base + plan->interpreter.elf.entry
                                               : plan->program.base + plan->program.elf.entry;
    thread->task.regs = regs;
    return 0;
}

long loader_map(struct task *task, struct exec_plan *plan) {
    struct process *process = task->process;
    long result = program_map(task, &plan->program, PROGRAM_BASE + random_pages(process, 1u << 22));
    if (result < 0)
        return result;
    if (plan->interpreter.file != NULL) {
        result = program_map(task, &plan->interpreter, 0);
        if (result < 0)
            return result;
    }
    brk_set(plan->program.base + plan->program.elf.high + random_pages(process, 1u << 13));
    return stack_build(thread_of(task), plan);
}
