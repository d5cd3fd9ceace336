/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of our own: address ranges between PERSONALITY_AREA and PERSONALITY_END, and small objects. Both belong to the
 * address space, not to a process: a vfork child uses its parent's. A fork holds both locks, so its child finds them whole.
 * A range is always followed by an unmapped page.
 */
#include "personality/host/host.h"
#include <asm/unistd.h>
#include <linux/mman.h>

#define AREA_EXTENTS 256

struct extent {
    uint64_t start, len;
};

static struct lock area_lock;
static uint64_t area_next = PERSONALITY_AREA; /* everything from here up is free */
static struct extent area_free_list[AREA_EXTENTS];
static unsigned area_free_count;

static uint64_t area_take(uint64_t len) {
    for (unsigned i = 0; i < area_free_count; i++) {
        struct extent *extent = &area_free_list[i];
        if (extent->len < len)
            continue;
        uint64_t start = extent->start;
        extent->start += len;
        extent->len -= len;
        if (extent->len == 0)
            *extent = area_free_list[--area_free_count];
        return start;
    }
    if (len > PERSONALITY_END - area_next)
        return 0;
    uint64_t start = area_next;
    area_next += len;
    return start;
}

static void area_give(uint64_t start, uint64_t len) {
    for (unsigned i = 0; i < area_free_count;) {
        struct extent *extent = &area_free_list[i];
        if (extent->start + extent->len != start && start + len != extent->start) {
            i++;
            continue;
        }
        if (extent->start < start)
            start = extent->start;
        len += extent->len;
        *extent = area_free_list[--area_free_count];
        i = 0;
    }
    if (start + len == area_next)
        area_next = start;
    else if (area_free_count < AREA_EXTENTS)
        area_free_list[area_free_count++] = (struct extent){start, len};
    /* else the range is lost: 440 GiB of them are not a worry */
}

uint64_t area_reserve(size_t len) {
    lock_acquire(&area_lock);
    uint64_t start = area_take(page_up(len) + PAGE);
    lock_release(&area_lock);
    return start;
}

void area_unreserve(uint64_t address, size_t len) {
    lock_acquire(&area_lock);
    area_give(address, page_up(len) + PAGE);
    lock_release(&area_lock);
}

void *area_alloc(size_t len) {
    uint64_t start = area_reserve(len);
    if (start == 0)
        return NULL;
    long at = CALL6(__NR_mmap, start, page_up(len), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (at < 0) {
        area_unreserve(start, len);
        return NULL;
    }
    return (void *)at;
}

void area_free(void *p, size_t len) {
    if (p == NULL)
        return;
    CALL2(__NR_munmap, p, page_up(len));
    area_unreserve((uint64_t)p, len);
}

/* ---- small objects: powers of two from 32 bytes to 32 KiB, cut from chunks; larger ones have an area of their own ---- */

#define HEAP_CHUNK 65536u
#define HEAP_CLASSES 11 /* 32 << 0 .. 32 << 10 */

struct heap_header {
    uint64_t size; /* of the whole block with this header */
    struct heap_header *next; /* while it is free */
};
#define HEAP_OVERHEAD 16u
_Static_assert(sizeof(struct heap_header) == HEAP_OVERHEAD, "blocks stay aligned to 16 bytes");

static struct lock heap_lock;
static struct heap_header *heap_free_list[HEAP_CLASSES];
static uint8_t *heap_chunk;
static uint32_t heap_chunk_left;

static unsigned heap_class(uint64_t size) {
    unsigned class = 0;
    while ((32ull << class) < size)
        class++;
    return class;
}

void *heap_alloc(struct process *process, size_t len) {
    (void)process;
    if (len > PERSONALITY_END - PERSONALITY_AREA)
        return NULL;
    uint64_t size = len + HEAP_OVERHEAD;
    unsigned class = heap_class(size);
    struct heap_header *block = NULL;
    if (class >= HEAP_CLASSES) {
        block = area_alloc(size);
        if (block == NULL)
            return NULL;
        block->size = size;
        return block + 1;
    }
    size = 32ull << class;
    lock_acquire(&heap_lock);
    if (heap_free_list[class] != NULL) {
        block = heap_free_list[class];
        heap_free_list[class] = block->next;
    } else {
        if (heap_chunk_left < size) { /* the rest of the old chunk is lost: at most half a chunk */
            heap_chunk = area_alloc(HEAP_CHUNK);
            heap_chunk_left = heap_chunk != NULL ? HEAP_CHUNK : 0;
        }
        if (heap_chunk != NULL) {
            block = (struct heap_header *)(void *)heap_chunk;
            heap_chunk += size;
            heap_chunk_left -= (uint32_t)size;
        }
    }
    lock_release(&heap_lock);
    if (block == NULL)
        return NULL;
    block->size = size;
    block->next = NULL;
    memset(block + 1, 0, size - HEAP_OVERHEAD);
    return block + 1;
}

void heap_free(struct process *process, void *p) {
    (void)process;
    if (p == NULL)
        return;
    struct heap_header *block = (struct heap_header *)p - 1;
    unsigned class = heap_class(block->size);
    if (class >= HEAP_CLASSES) {
        area_free(block, block->size);
        return;
    }
    lock_acquire(&heap_lock);
    block->next = heap_free_list[class];
    heap_free_list[class] = block;
    lock_release(&heap_lock);
}

void area_fork_begin(void) {
    lock_acquire(&heap_lock);
    lock_acquire(&area_lock);
}

void area_fork_end(void) {
    lock_release(&area_lock);
    lock_release(&heap_lock);
}
