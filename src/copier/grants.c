/* SPDX-License-Identifier: Apache-2.0 */
#include "copier/grants.h"

#include <dvk/error.h>
#include <dvk/vcopy.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_MASK (DVK_GRANT_SHARED - 1)

void grants_init(struct grants *grants) {
    memset(grants, 0, sizeof *grants);
}

static void memory_free(struct grants *grants, struct memory *memory) {
    (void)table_remove(&grants->memories, memory->number);
    if (memory->base)
        munmap(memory->base, memory->size);
    close(memory->fd);
    free(memory);
}

static void grant_free(struct grants *grants, struct grant *grant) {
    struct memory *memory = grant->memory;
    (void)table_remove(&grants->grants, grant->number);
    free(grant);
    if (--memory->grants == 0)
        memory_free(grants, memory);
}

void grants_free(struct grants *grants) {
    for (;;) {
        size_t cursor = 0;
        struct grant *grant = table_next(&grants->grants, &cursor);
        if (!grant)
            break;
        grant_free(grants, grant);
    }
    table_free(&grants->grants);
    table_free(&grants->memories);
}

static void told_of(struct grants *grants, uint64_t number) {
    if ((number & COUNT_MASK) > grants->highest)
        grants->highest = number & COUNT_MASK;
}

/* An arena is mapped once; where that fails it is read and written like a process's memory. */
static struct memory *memory_new(struct grants *grants, uint64_t number, bool is_arena, int *fd) {
    struct stat st;
    struct memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return NULL;
    memory->number = number;
    memory->fd = *fd;
    memory->is_arena = is_arena;
    if (table_set(&grants->memories, number, memory) < 0) {
        free(memory);
        return NULL;
    }
    if (is_arena && fstat(*fd, &st) == 0 && st.st_size > 0) {
        void *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
        if (base != MAP_FAILED) {
            memory->base = base;
            memory->size = (size_t)st.st_size;
        }
    }
    *fd = -1;
    return memory;
}

static bool is_sound(const struct dvk_broker_packet *head, const struct dvk_broker_grant *what) {
    return head->channel && head->id && head->dc <= DVK_MAX_DC && what->length &&
           what->address < DVK_BROKER_GRANT_END && what->length <= DVK_BROKER_GRANT_END - what->address;
}

int grants_made(struct grants *grants, const struct dvk_broker_packet *head, const void *text, int *fd) {
    struct dvk_broker_grant what;
    if (head->text_len != sizeof what || !text)
        return -EPROTO;
    memcpy(&what, text, sizeof what);
    struct memory *memory = table_get(&grants->memories, head->id);
    if (!is_sound(head, &what) || table_get(&grants->grants, head->channel) || (!memory && *fd < 0) ||
        (memory && memory->is_arena != (what.arena != 0)))
        return -EPROTO;
    struct grant *grant = calloc(1, sizeof *grant);
    if (!grant)
        return -ENOMEM;
    if (!memory)
        memory = memory_new(grants, head->id, what.arena != 0, fd);
    if (!memory || table_set(&grants->grants, head->channel, grant) < 0) {
        if (memory && memory->grants == 0)
            memory_free(grants, memory);
        free(grant);
        return -ENOMEM;
    }
    if (memory->base && (what.address > memory->size || what.length > memory->size - what.address)) {
        (void)table_remove(&grants->grants, head->channel);
        if (memory->grants == 0)
            memory_free(grants, memory);
        free(grant);
        return -EPROTO;
    }
    *grant = (struct grant){.number = head->channel,
                            .memory = memory,
                            .dc = head->dc,
                            .owner = head->endpoint,
                            .grantee = head->peer,
                            .what = what};
    memory->grants++;
    told_of(grants, head->channel);
    return 0;
}

void grants_gone(struct grants *grants, const struct dvk_broker_packet *head) {
    told_of(grants, head->channel);
    struct grant *grant = table_get(&grants->grants, head->channel);
    if (!grant)
        return;
    grants->graves[grants->next_grave] =
        (struct grave){head->channel, head->status == -DVK_EDEADDST ? -DVK_EDEADDST : -DVK_EREVOKED};
    grants->next_grave = (grants->next_grave + 1) % GRAVES;
    grant_free(grants, grant);
}

/* Why there is no such grant. No grant has number 0; graves that are free do. */
static int missing(const struct grants *grants, uint64_t number) {
    for (unsigned i = 0; number && i < GRAVES; i++)
        if (grants->graves[i].number == number)
            return grants->graves[i].status;
    return (number & COUNT_MASK) && (number & COUNT_MASK) <= grants->highest ? -DVK_EREVOKED : -DVK_ENOTGRANTED;
}

int grants_check(const struct grants *grants, const struct claim *claim, const struct grant **out) {
    const struct grant *grant = table_get(&grants->grants, claim->grant);
    if (!grant)
        return missing(grants, claim->grant);
    if (grant->dc != claim->dc || grant->grantee != claim->requester || grant->owner != claim->owner ||
        (grant->what.access & claim->access) != claim->access)
        return -DVK_ENOTGRANTED;
    if (claim->offset > grant->what.length || claim->length > grant->what.length - claim->offset)
        return -DVK_EOUTOFGRANT;
    *out = grant;
    return 0;
}
