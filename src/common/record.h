/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorder: each daemon's last RECORDER_CAPACITY events in a ring, for people who look for what went wrong.
 *
 * The ring lies in memory that outlives the process: dvkd's in a file of its run directory, that of its children in a memfd
 * which dvkd holds too. So it can be read while they run (`dvs debug record`), after a crash, and after SIGKILL; nothing has to be
 * dumped. Until record_open or record_share is called, events go to a ring of the process's own that nobody reads.
 *
 * record() costs an atomic addition, the clock (no system call: vDSO) and one cache line. Thread safe; safe in signal handlers.
 *
 * Layout (version RECORDER_VERSION): struct recorder_header in the first page, then the entries. Event n is entry n % capacity,
 * and its sequence is n + 1. A writer sets the sequence to 0, fills in, and sets the sequence last (release): a reader that copies
 * the ring twice and finds the same sequence in both has the entry whole (record_read.h).
 */
#ifndef COMMON_RECORD_H
#define COMMON_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define RECORDER_MAGIC 0x44524344u /* "DCRD" */
#define RECORDER_VERSION 1u
#define RECORDER_CAPACITY 4096u
#define RECORDER_WORDS 5u
#define RECORDER_HEADER_SIZE 4096u
#define RECORDER_SIZE (RECORDER_HEADER_SIZE + RECORDER_CAPACITY * sizeof(struct recorder_entry))

/*
 * The events: name in C, name for people, and the words that go with it. A word's name may end with :d (signed), :x (hexadecimal),
 * :e (endpoint), :t (text: it and all words after it). Numbers are given by the order: add at the end, never remove.
 */
#define RECORD_EVENTS(X)                                                                                               \
    X(NONE, "none", "")                                                                                                \
    X(START, "start", "pid")                                                                                           \
    X(STOP, "stop", "code:d")                                                                                          \
    X(CRASH, "crash", "signal address:x instruction:x")                                                                \
    X(LOG, "log", "text:t")                                                                                            \
    X(FAULT, "fault", "point action value")                                                                            \
    /* dvkd: the view and the configuration */                                                                         \
    X(GROUP_JOIN, "group-join", "error")                                                                               \
    X(GROUP_LOST, "group-lost", "error")                                                                               \
    X(GROUP_REJOIN, "group-rejoin", "")                                                                                \
    X(VIEW_CHANGE, "view-change", "members quorate")                                                                   \
    X(VIEW_ROUND, "view-round", "node view promised")                                                                  \
    X(VIEW_HELLO, "view-hello", "node view epoch")                                                                     \
    X(VIEW_INSTALL, "view-install", "view epoch members")                                                              \
    X(VIEW_ALONE, "view-alone", "")                                                                                    \
    X(QUORUM, "quorum", "quorate")                                                                                     \
    X(NODE_UP, "node-up", "node")                                                                                      \
    X(NODE_DOWN, "node-down", "node")                                                                                  \
    X(NODE_EXCLUDED, "node-excluded", "node")                                                                          \
    X(PROPOSE, "propose", "sequence view")                                                                             \
    X(APPLY, "apply", "node sequence epoch result:d")                                                                  \
    X(CONFIRM, "confirm", "sequence epoch result:d")                                                                   \
    /* dvkd: clients, endpoints, channels */                                                                           \
    X(CLIENT_OPEN, "client-open", "context pid role")                                                                  \
    X(CLIENT_CLOSE, "client-close", "context pid role")                                                                \
    X(CLIENT_VIOLATION, "client-violation", "pid text:t")                                                              \
    X(BIND, "bind", "endpoint:e context guest")                                                                     \
    X(UNBIND, "unbind", "endpoint:e context")                                                                          \
    X(CONNECT, "connect", "from:e to:e channel node")                                                                  \
    X(CONNECT_FAIL, "connect-fail", "from:e to:e result:d")                                                            \
    X(CHANNEL_DEAD, "channel-dead", "channel status:d")                                                                \
    X(CELL_START, "cell-start", "pid")                                                                                 \
    X(CELL_READY, "cell-ready", "pid")                                                                                 \
    X(CELL_STOP, "cell-stop", "at-once")                                                                               \
    X(CELL_CUT, "cell-cut", "")                                                                                        \
    X(CELL_END, "cell-end", "status expected")                                                                         \
    X(PROXY_START, "proxy-start", "pid")                                                                               \
    X(PROXY_END, "proxy-end", "status")                                                                                \
    /* proxy */                                                                                                        \
    X(PEER_UP, "peer-up", "node")                                                                                      \
    X(PEER_DOWN, "peer-down", "node")                                                                                  \
    X(LINK_CONNECT, "link-connect", "node")                                                                            \
    X(LINK_UP, "link-up", "node resumed session:x")                                                                    \
    X(LINK_DOWN, "link-down", "node state why:t")                                                                      \
    X(LINK_RESET, "link-reset", "node lost")                                                                           \
    X(LINK_REFUSED, "link-refused", "node")                                                                            \
    X(REQUEST_LOST, "request-lost", "node tag:x")                                                                      \
    /* vos */                                                                                                          \
    X(PROCESS_START, "process-start", "pid")                                                                           \
    X(PROCESS_EXIT, "process-exit", "pid status")                                                                      \
    X(PROCESS_SIGNAL, "process-signal", "pid signal state")                                                  \
    X(MOVE_START, "move-start", "pid node")                                                                            \
    X(MOVE_DONE, "move-done", "pid node")                                                                              \
    X(MOVE_REFUSED, "move-refused", "pid node")                                                                        \
    X(MOVE_ARRIVE, "move-arrive", "pid node")                                                                          \
    /* dvkd: endpoints that move */                                                                                    \
    X(PLACE_STEP, "place-step", "endpoint:e step result:d")                                                            \
    X(PLACE_FROZEN, "place-frozen", "endpoint:e context frozen")                                                       \
    X(PLACE_LEFT, "place-left", "endpoint:e context revision")                                                         \
    X(PLACE_PROMOTE, "place-promote", "endpoint:e context revision")                                                   \
    X(PLACE_TAKEN, "place-taken", "endpoint:e context revision result:d")                                              \
    X(PLACE_END, "place-end", "endpoint:e context primary")                                                       \
    /* dvkd: privileges */                                                                                             \
    X(PRIVILEGES, "privileges", "endpoint:e by:e calls:x to from")                                                      \
    X(REFUSED, "refused", "endpoint:e other:e call:x total")

enum record_event {
#define RECORD_ENUM(id, name, words) RECORD_##id,
    RECORD_EVENTS(RECORD_ENUM)
#undef RECORD_ENUM
    RECORD_EVENT_END
};

struct recorder_entry {
    uint64_t sequence; /* 0: none, or being written */
    uint64_t time_ns;  /* CLOCK_MONOTONIC */
    uint32_t event;    /* enum record_event */
    uint32_t dc;       /* 0: concerns none */
    uint64_t words[RECORDER_WORDS];
};
_Static_assert(sizeof(struct recorder_entry) == 64, "one cache line");

struct recorder_header {
    uint32_t magic, version;
    uint32_t capacity, entry_size;
    uint32_t node, pid;
    uint64_t next;             /* events so far */
    int64_t wall_minus_mono_ns; /* at the start: what to add to time_ns for CLOCK_REALTIME */
    char name[32];             /* of the daemon, NUL-terminated */
};

struct recorder_ring {
    struct recorder_header *header;
    struct recorder_entry *entries;
    uint32_t mask;
};
extern struct recorder_ring recorder_ring;

/* Keep one event. Words beyond those given are 0. */
static inline void record_words(enum record_event event, uint32_t dc, const uint64_t words[RECORDER_WORDS]) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t n = __atomic_fetch_add(&recorder_ring.header->next, 1, __ATOMIC_RELAXED);
    struct recorder_entry *entry = &recorder_ring.entries[n & recorder_ring.mask];
    __atomic_store_n(&entry->sequence, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* the fields come after: pairs with the reader's two copies */
    /* relaxed: another thread may have come round the ring, and write the same entry */
    __atomic_store_n(&entry->time_ns, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->event, event, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->dc, dc, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < RECORDER_WORDS; i++)
        __atomic_store_n(&entry->words[i], words[i], __ATOMIC_RELAXED);
    __atomic_store_n(&entry->sequence, n + 1, __ATOMIC_RELEASE);
}
/* record(RECORD_BIND, dc, endpoint, context, result): each word is taken as uint64_t. */
#define record(event, dc, ...) record_words(event, dc, (const uint64_t[RECORDER_WORDS]){__VA_ARGS__})

/* The same with text from word `first` on, cut to what fits; words before it from `one` and `two`. */
void record_text(enum record_event event, uint32_t dc, unsigned first, uint64_t one, uint64_t two, const char *text);

/*
 * Keep events from now on in the file `path` (made anew, mode 0600; what was there becomes path.old). name: of the daemon, for
 * people. 0 or a negative errno; then events go where they went before. Single-threaded part of the start only, as record_share.
 */
int record_open(const char *path, const char *name, uint32_t node);
/* The same in a sealed memfd, returned for somebody else to read; the caller closes it. A negative errno on failure. */
int record_share(const char *name, uint32_t node);

/*
 * Record SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT before they take their course (which is what it was before: the default or a
 * sanitizer's). Uses a stack of its own.
 */
void record_crashes(void);

#endif
