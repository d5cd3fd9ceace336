/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a site is rewritten while other threads may run through it.
 *
 * Writing: first the two bytes EB FE (a jump to itself, one store inside a cache line) over the head, so that nobody enters the
 * rest; then the rest; then the head. Between the steps every core that runs us is made to drop what it fetched
 * (membarrier SYNC_CORE); where that is not to be had, only single-threaded processes are rewritten.
 *
 * PATTERN_MOV leaves `syscall` where it was, so a thread between mov and syscall is safe. PATTERN_COMPARE replaces what
 * follows the syscall. A thread that is there, or has its return address or a signal frame there, faults at the compare's
 * first byte (PATTERN_TRAP) and is sent to the copy in the stub.
 *
 * Short programs make few calls: nothing is prepared for a site before it is hot.
 *
 * The patch lock guards everything here. The SIGILL handler reads `sites` without it: entries are published by site_index,
 * and never move until patch_reset, which happens with one thread.
 */
#include "personality/entry/patch.h"
#include "personality/entry/pattern.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/membarrier.h>
#include <linux/mman.h>

#define SITE_COUNT 8192u
#define SITE_INDEX 16384u /* a power of two, for 14 bits of hash */
#define SITE_PROBES 16u
#define SITE_HOT 12u /* rewriting costs about as much as so many traps */
#define STUB_ARENAS 64u
#define STUB_ARENA_SIZE 65536u
#define STUB_UNIT 16u
#define TEXT_RANGES 512u

enum site_state { SITE_COUNTING, SITE_STUBBED /* has a stub, not rewritten */, SITE_REWRITTEN, SITE_HOPELESS };

struct site {
    uint64_t address; /* of the syscall instruction */
    uint64_t stub;
    uint32_t hits;
    uint16_t index; /* where site_index[] names it */
    uint8_t state, kind, compare_len;
};

struct stub_arena {
    uint64_t base;
    uint64_t used[STUB_ARENA_SIZE / STUB_UNIT / 64]; /* one bit a unit */
};

static struct lock patch_lock;
/* Dense, so that fork and exec touch few pages. An entry of site_index is in use only if the site that it names is one of the
 * first site_count and names it too: so exec forgets all sites without touching these pages. */
static struct site sites[SITE_COUNT];
static uint32_t site_count;
static uint16_t site_index[SITE_INDEX]; /* by hash of the address: number of the site + 1, or anything */
static struct stub_arena arenas[STUB_ARENAS];
static uint32_t arena_count;
static struct text_range { uint64_t start, end; } texts[TEXT_RANGES];
static uint32_t text_count;

extern const char entry[];

void patch_fork_begin(void) { lock_acquire(&patch_lock); }
void patch_fork_end(void) { lock_release(&patch_lock); }

void patch_reset(void) {
    lock_acquire(&patch_lock);
    site_count = 0;
    arena_count = 0;
    text_count = 0;
    lock_release(&patch_lock);
}

/* ---- known text ---- */

void patch_text_add(uint64_t start, uint64_t len) {
    lock_acquire(&patch_lock);
    if (text_count < TEXT_RANGES)
        texts[text_count++] = (struct text_range){start, start + len};
    lock_release(&patch_lock);
}

/* Returns whether the range held any. */
static bool text_cut(uint64_t start, uint64_t end) {
    bool found = false;
    for (uint32_t i = 0; i < text_count;) {
        struct text_range *text = &texts[i];
        if (end <= text->start || start >= text->end) {
            i++;
            continue;
        }
        found = true;
        struct text_range above = {end, text->end};
        if (start > text->start)
            text->end = start; /* what lies below stays */
        else if (above.start < above.end) {
            *text = above;
            continue;
        } else {
            *text = texts[--text_count];
            continue;
        }
        if (above.start < above.end && text_count < TEXT_RANGES)
            texts[text_count++] = above;
        i++;
    }
    return found;
}

void patch_text_forget(uint64_t start, uint64_t len) {
    lock_acquire(&patch_lock);
    (void)text_cut(start, start + len);
    lock_release(&patch_lock);
}

void patch_text_remove(uint64_t start, uint64_t len) {
    lock_acquire(&patch_lock);
    if (text_cut(start, start + len))
        /* code that comes there later is other code: forget what was known of it */
        for (uint32_t i = 0; i < site_count; i++)
            if (sites[i].address >= start && sites[i].address < start + len) {
                sites[i].state = SITE_COUNTING;
                sites[i].hits = 0;
                sites[i].stub = 0;
            }
    lock_release(&patch_lock);
}

static bool text_holds(uint64_t start, uint64_t end) {
    for (uint32_t i = 0; i < text_count; i++)
        if (start >= texts[i].start && end <= texts[i].end)
            return true;
    return false;
}

/* ---- stubs ---- */

static bool arena_take(struct stub_arena *arena, uint64_t address) {
    uint64_t first = (address - arena->base) / STUB_UNIT;
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint64_t unit = first; unit < first + STUB_SIZE / STUB_UNIT; unit++) {
            uint64_t *word = &arena->used[unit / 64], mask = 1ull << (unit % 64);
            if (pass == 0 && (*word & mask))
                return false;
            if (pass == 1)
                *word |= mask;
        }
    return true;
}

/* Room for a stub in an arena: for a jump from `from`; with `trap`, so that the distance has PATTERN_TRAP where it must. */
static uint64_t arena_place(struct stub_arena *arena, uint64_t from, bool trap) {
    if (!jump_reaches(from, arena->base) || !jump_reaches(from, arena->base + STUB_ARENA_SIZE))
        return 0;
    for (uint64_t at = arena->base; at + STUB_SIZE <= arena->base + STUB_ARENA_SIZE; at += STUB_UNIT) {
        if (trap && (((at - (from + 5)) >> 8) & 0xff) != PATTERN_TRAP)
            continue;
        if (arena_take(arena, at))
            return at;
    }
    return 0;
}

/* A new arena within reach of `from`, outside our own range. */
static struct stub_arena *arena_create(uint64_t from) {
    if (arena_count == STUB_ARENAS)
        return NULL;
    for (uint64_t k = 1; k < 100; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            uint64_t hint = (from & ~(uint64_t)(STUB_ARENA_SIZE - 1)) + (uint64_t)((int64_t)sign * (int64_t)k * 0x1000000);
            if ((int64_t)hint < (int64_t)STUB_ARENA_SIZE || (hint + STUB_ARENA_SIZE > PERSONALITY_BASE && hint < PERSONALITY_END))
                continue;
            long at = CALL6(__NR_mmap, hint, STUB_ARENA_SIZE, PROT_READ | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (at == (long)hint) {
                struct stub_arena *arena = &arenas[arena_count++];
                *arena = (struct stub_arena){.base = hint};
                return arena;
            }
        }
    return NULL;
}

static uint64_t stub_place(uint64_t from, bool trap) {
    for (uint32_t i = 0; i < arena_count; i++) {
        uint64_t at = arena_place(&arenas[i], from, trap);
        if (at != 0)
            return at;
    }
    struct stub_arena *arena = arena_create(from);
    return arena != NULL ? arena_place(arena, from, trap) : 0;
}

static bool address_in_stubs(uint64_t address) {
    for (uint32_t i = 0; i < arena_count; i++)
        if (address >= arenas[i].base && address < arenas[i].base + STUB_ARENA_SIZE)
            return true;
    return false;
}

uint64_t patch_restart_address(uint64_t rip) {
    lock_acquire(&patch_lock);
    bool stub = address_in_stubs(rip);
    lock_release(&patch_lock);
    return stub ? rip - STUB_AFTER : rip - 2;
}

/* ---- writing ---- */

static bool pages_protect(uint64_t start, uint64_t end, int protection) {
    return CALL3(__NR_mprotect, page_down(start), page_up(end) - page_down(start), protection) == 0;
}

/* Every core that runs this address space forgets instructions that it has fetched. */
static bool cores_sync(void) {
    long result = CALL3(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    if (result == -EPERM) {
        if (CALL3(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) != 0)
            return false;
        result = CALL3(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    }
    return result == 0;
}

static void put_head(uint64_t address, uint8_t first, uint8_t second) {
    /* release: the bytes behind are in place before the head leads to them */
    __atomic_store_n((uint16_t *)address, (uint16_t)(first | second << 8), __ATOMIC_RELEASE);
}

/* Replace len bytes (>= 5) at address. alone: no other thread runs in this memory. */
static bool text_write(uint64_t address, const uint8_t *bytes, unsigned len, bool alone) {
    if ((address & 63) == 63)
        return false; /* the head would not be one store */
    if (!alone && !cores_sync())
        return false;
    if (!pages_protect(address, address + len, PROT_READ | PROT_WRITE | PROT_EXEC))
        return false;
    put_head(address, 0xeb, 0xfe);
    if (!alone)
        cores_sync();
    /* the byte that a jump to the compare would meet first, so that it faults from now on */
    *(volatile uint8_t *)(address + 2) = bytes[2];
    if (!alone)
        cores_sync();
    for (unsigned i = 3; i < len; i++)
        *(volatile uint8_t *)(address + i) = bytes[i];
    if (!alone)
        cores_sync();
    put_head(address, bytes[0], bytes[1]);
    if (!alone)
        cores_sync();
    pages_protect(address, address + len, PROT_READ | PROT_EXEC);
    return true;
}

/* A stub for the site, if it can have one. */
static bool site_stub(struct site *site, const uint8_t *code, uint64_t number) {
    uint64_t from = site->kind == PATTERN_MOV ? site->address - 5 : site->address;
    uint64_t stub = stub_place(from, site->kind == PATTERN_COMPARE);
    if (stub == 0)
        return false;
    uint8_t bytes[STUB_SIZE];
    unsigned len = stub_write(bytes, site->kind, stub, site->address, (uint64_t)entry, (uint32_t)number,
                              code + PATTERN_BEFORE + 2, site->compare_len);
    /* other threads may be running other stubs of these pages: they stay executable while we write */
    if (!pages_protect(stub, stub + len, PROT_READ | PROT_WRITE | PROT_EXEC))
        return false;
    memcpy((void *)stub, bytes, len);
    pages_protect(stub, stub + len, PROT_READ | PROT_EXEC);
    site->stub = stub;
    site->state = SITE_STUBBED;
    return true;
}

static bool site_rewrite(struct site *site, bool alone) {
    uint8_t bytes[PATTERN_AFTER];
    if (site->kind == PATTERN_MOV) {
        jump_write(bytes, site->address - 5, site->stub);
        return text_write(site->address - 5, bytes, 5, alone);
    }
    jump_write(bytes, site->address, site->stub);
    for (unsigned i = 5; i < 2u + site->compare_len; i++)
        bytes[i] = 0x90;
    return text_write(site->address, bytes, 2u + site->compare_len, alone);
}

/* ---- sites ---- */

static struct site *site_find(uint64_t address, bool create) {
    /* neighbours in the text are neighbours in the index, so that a program's few sites touch few pages of it */
    uint32_t hash = (uint32_t)(address >> 4) + (uint32_t)(address >> 18) * 0x1357u;
    for (uint32_t probe = 0; probe < SITE_PROBES; probe++) {
        uint32_t place = (hash + probe) % SITE_INDEX;
        uint32_t number = __atomic_load_n(&site_index[place], __ATOMIC_ACQUIRE);
        if (number != 0 && number <= __atomic_load_n(&site_count, __ATOMIC_RELAXED) && sites[number - 1].index == place) {
            if (sites[number - 1].address == address)
                return &sites[number - 1];
            continue;
        }
        if (!create || site_count == SITE_COUNT)
            return NULL;
        struct site *site = &sites[site_count];
        *site = (struct site){.address = address, .index = (uint16_t)place, .state = SITE_COUNTING};
        __atomic_store_n(&site_count, site_count + 1, __ATOMIC_RELEASE);
        /* release: pairs with the load above in the SIGILL handler of another thread */
        __atomic_store_n(&site_index[place], (uint16_t)site_count, __ATOMIC_RELEASE);
        return site;
    }
    return NULL;
}

static void site_trapped(struct thread *thread, struct site *site, struct regs *regs) {
    uint8_t code[PATTERN_BEFORE + PATTERN_AFTER];
    if (site->state == SITE_COUNTING) {
        unsigned compare_len;
        uint64_t start = site->address - PATTERN_BEFORE;
        if (!text_holds(start, site->address + PATTERN_AFTER))
            return; /* perhaps generated code */
        if (++site->hits < SITE_HOT)
            return;
        if (guest_read(code, start, sizeof code) != 0)
            return;
        site->kind = (uint8_t)pattern_match(code, regs->rax, &compare_len);
        site->compare_len = (uint8_t)compare_len;
        if (site->kind == PATTERN_NONE || !site_stub(site, code, regs->rax)) {
            site->state = SITE_HOPELESS;
            return;
        }
    }
    if (site->state == SITE_STUBBED && (site->kind == PATTERN_MOV || ++site->hits >= SITE_HOT)) {
        struct process *process = thread->task.process;
        bool alone = process->thread_count <= 1 && process->vfork_parent == NULL;
        if (!text_holds(site->address - PATTERN_BEFORE, site->address + PATTERN_AFTER) || !site_rewrite(site, alone))
            site->hits = 0; /* later, perhaps */
        else
            site->state = SITE_REWRITTEN;
    }
    if (site->stub != 0 && site->kind == PATTERN_COMPARE)
        regs->rip = site->stub + STUB_AFTER;
}

void patch_trapped(struct thread *thread, struct regs *regs) {
    if (space.no_patch)
        return;
    lock_acquire(&patch_lock);
    struct site *site = site_find(regs->rip - 2, true);
    if (site != NULL && site->state != SITE_HOPELESS)
        site_trapped(thread, site, regs);
    lock_release(&patch_lock);
}

bool patch_illegal(struct signal_context *context) {
    struct site *site = site_find(context->rip - 2, false);
    if (site == NULL || site->kind != PATTERN_COMPARE || site->stub == 0)
        return false;
    context->rip = site->stub + STUB_AFTER;
    return true;
}
