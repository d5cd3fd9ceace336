/* SPDX-License-Identifier: Apache-2.0 */
#include "common/record.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define OWN_CAPACITY 64u /* of the ring that nobody reads */

static struct recorder_header own_header;
static struct recorder_entry own_entries[OWN_CAPACITY];
struct recorder_ring recorder_ring = {&own_header, own_entries, OWN_CAPACITY - 1};

void record_text(enum record_event event, uint32_t dc, unsigned first, uint64_t one, uint64_t two, const char *text) {
    uint64_t words[RECORDER_WORDS] = {one, two};
    size_t room = (RECORDER_WORDS - first) * sizeof words[0];
    memset(words + first, 0, room);
    memcpy(words + first, text, strnlen(text, room));
    record_words(event, dc, words);
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Go on in this file, which is empty yet. */
static int ring_map(int fd, const char *name, uint32_t node) {
    /* all of it at once: a page that is missing later, as the disk is full, would be a SIGBUS */
    int error = posix_fallocate(fd, 0, RECORDER_SIZE);
    if (error)
        return -error;
    void *memory = mmap(NULL, RECORDER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    struct recorder_header *header = memory;
    *header = (struct recorder_header){.magic = RECORDER_MAGIC,
                                     .version = RECORDER_VERSION,
                                     .capacity = RECORDER_CAPACITY,
                                     .entry_size = sizeof(struct recorder_entry),
                                     .node = node,
                                     .pid = (uint32_t)getpid(),
                                     .wall_minus_mono_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC)};
    memcpy(header->name, name, strnlen(name, sizeof header->name - 1));
    recorder_ring = (struct recorder_ring){header, (void *)((char *)memory + RECORDER_HEADER_SIZE), RECORDER_CAPACITY - 1};
    record(RECORD_START, 0, header->pid);
    return 0;
}

int record_open(const char *path, const char *name, uint32_t node) {
    char old[PATH_MAX];
    if (snprintf(old, sizeof old, "%s.old", path) >= (int)sizeof old)
        return -ENAMETOOLONG;
    if (rename(path, old) < 0 && errno != ENOENT)
        return -errno;
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : ring_map(fd, name, node);
}

int record_share(const char *name, uint32_t node) {
    cleanup_close int fd = memfd_create("dvs-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int result = ring_map(fd, name, node);
    if (result == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        result = -errno;
    return result < 0 ? result : steal_fd(&fd);
}

/* ---- crashes ---- */

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
static struct sigaction crash_before[ARRAY_LENGTH(crash_signals)];

/* Only what is safe in a handler. */
static void on_crash(int number, siginfo_t *info, void *context) {
    const ucontext_t *machine = context;
    bool sent = info->si_code <= 0; /* by a process, abort(3) too: it does not come again by itself */
    record(RECORD_CRASH, 0, (uint64_t)number, sent ? 0 : (uint64_t)(uintptr_t)info->si_addr,
           (uint64_t)machine->uc_mcontext.gregs[REG_RIP]);
    for (size_t i = 0; i < ARRAY_LENGTH(crash_signals); i++)
        if (crash_signals[i] == number)
            sigaction(number, &crash_before[i], NULL);
    if (sent)
        raise(number); /* blocked here: it is taken on return */
}

void record_crashes(void) {
    static char stack[32768];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, now;
    if (sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE)) /* a sanitizer may have set one */
        sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < ARRAY_LENGTH(crash_signals); i++) {
        struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        sigaction(crash_signals[i], &action, &crash_before[i]);
    }
}
