/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap munmap mprotect mremap madvise msync mincore mlock and the like, brk.
 *
 * Anonymous memory is the host's own. A guest may not touch BASE..END: that is where we live. Files are mapped by fd/.
 */
#include "personality/entry/patch.h"
#include "personality/task/calls.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/mman.h>

#define ADDRESS_TOP 0x7ffffffff000ull
#define BRK_LIMIT (64ull << 30)

/* Does the range touch what is ours? Ranges that wrap do. */
static bool touches_ours(uint64_t start, uint64_t len) {
    uint64_t end = start + page_up(len);
    return end < start || len > ADDRESS_TOP || (start < PERSONALITY_END && end > PERSONALITY_BASE);
}

long sys_mmap(struct task *task, const uint64_t args[6]) {
    uint64_t address = args[0], len = args[1], flags = args[3];
    bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
    if (len == 0 || (args[5] & (PAGE - 1)) != 0)
        return -EINVAL;
    if (touches_ours(address, len)) {
        if (fixed || len > ADDRESS_TOP)
            return -ENOMEM;
        address = 0; /* only a hint */
    }
    if (fixed && (flags & MAP_FIXED))
        patch_text_remove(address, page_up(len));
    long at = flags & MAP_ANONYMOUS
                  ? host_call(__NR_mmap, address, len, args[2], flags, (uint64_t)-1, 0)
                  : fd_mmap(task, address, len, (int)args[2], (int)flags, (int)args[4], args[5]);
    if (at < 0 && at > -4096)
        return at;
    if (touches_ours((uint64_t)at, len)) { /* the host has nothing left above us: it must not give what is next to us */
        CALL2(__NR_munmap, at, len);
        return -ENOMEM;
    }
    if (!(flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE && (args[2] & (PROT_READ | PROT_WRITE | PROT_EXEC)) == (PROT_READ | PROT_EXEC))
        patch_text_add((uint64_t)at, page_up(len));
    return at;
}

long sys_munmap(struct task *task, const uint64_t args[6]) {
    (void)task;
    if (touches_ours(args[0], args[1]))
        return -EINVAL;
    patch_text_remove(args[0], page_up(args[1]));
    return CALL2(__NR_munmap, args[0], args[1]);
}

long sys_mprotect(struct task *task, const uint64_t args[6]) {
    (void)task;
    if (touches_ours(args[0], args[1]))
        return -ENOMEM;
    if ((args[2] & (PROT_READ | PROT_WRITE | PROT_EXEC)) != (PROT_READ | PROT_EXEC))
        patch_text_forget(args[0], page_up(args[1]));
    return CALL3(__NR_mprotect, args[0], args[1], args[2]);
}

long sys_mremap(struct task *task, const uint64_t args[6]) {
    (void)task;
    uint64_t old = args[0], old_len = args[1], new_len = args[2], flags = args[3];
    if (touches_ours(old, old_len) || new_len > ADDRESS_TOP)
        return -EFAULT;
    if ((flags & MREMAP_FIXED) && touches_ours(args[4], new_len))
        return -EINVAL;
    /* growing in place must not run into us: the kernel would refuse only where something is mapped */
    if (old < PERSONALITY_BASE && old + page_up(new_len) > PERSONALITY_BASE && !(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    patch_text_remove(old, page_up(old_len));
    if (flags & MREMAP_FIXED)
        patch_text_remove(args[4], page_up(new_len));
    long at = CALL5(__NR_mremap, old, old_len, new_len, flags, args[4]);
    if ((at >= 0 || at < -4095) && touches_ours((uint64_t)at, new_len)) {
        CALL2(__NR_munmap, at, new_len); /* as in mmap; the contents are lost, as is nearly all address space */
        return -ENOMEM;
    }
    return at;
}

long sys_madvise(struct task *task, const uint64_t args[6]) {
    (void)task;
    if (touches_ours(args[0], args[1]))
        return -ENOMEM;
    return CALL3(__NR_madvise, args[0], args[1], args[2]);
}

/* Calls whose first two arguments are a range of guest memory. */
long sys_pass_range(struct task *task, const uint64_t args[6]) {
    if (touches_ours(args[0], args[1]))
        return -ENOMEM;
    return host_blocking(task, (long)thread_of(task)->number, args[0], args[1], args[2], args[3], 0, 0);
}

void memory_reset(void) {
    CALL2(__NR_munmap, 0, PERSONALITY_BASE);
    CALL2(__NR_munmap, PERSONALITY_END, ADDRESS_TOP - PERSONALITY_END);
}

/* ---- brk: an ordinary mapping behind the program, which can be moved like any other ---- */

void brk_set(uint64_t start) {
    space.brk_start = space.brk_now = space.brk_mapped = page_up(start);
}

long memory_brk(uint64_t wanted) {
    lock_acquire(&space.memory_lock);
    uint64_t now = space.brk_now, mapped = space.brk_mapped, end = page_up(wanted);
    bool valid = wanted >= space.brk_start && wanted - space.brk_start <= BRK_LIMIT && !touches_ours(space.brk_start, wanted - space.brk_start);
    if (valid && end > mapped)
        valid = CALL6(__NR_mmap, mapped, end - mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                      -1, 0) == (long)mapped;
    else if (valid && end < mapped)
        CALL2(__NR_munmap, end, mapped - end);
    if (valid) {
        space.brk_mapped = end;
        space.brk_now = now = wanted;
    }
    lock_release(&space.memory_lock);
    return (long)now;
}

long sys_brk(struct task *task, const uint64_t args[6]) {
    (void)task;
    return memory_brk(args[0]);
}
