/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/slot_table.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Changes are rare: each is made on the table written out in full, which is small enough for the stack. */
struct owners {
    uint16_t of[SLOT_SETS_MAX];
};

static void expand(const struct slot_table *table, struct owners *owners) {
    memset(owners, 0, sizeof *owners);
    for (uint32_t i = 0; i < table->run_count; i++)
        for (uint32_t k = 0; k < table->runs[i].count; k++)
            owners->of[table->runs[i].first + k] = table->runs[i].owner;
}

static int compress(struct slot_table *table, const struct owners *owners) {
    uint32_t count = 0;
    for (uint32_t set = 1; set < table->sets; set++)
        count += owners->of[set] && owners->of[set] != owners->of[set - 1];
    struct slot_run *runs = malloc((count ? count : 1) * sizeof *runs);
    if (!runs)
        return -ENOMEM;
    count = 0;
    for (uint32_t set = 1; set < table->sets; set++) {
        if (!owners->of[set])
            continue;
        if (owners->of[set] == owners->of[set - 1])
            runs[count - 1].count++;
        else
            runs[count++] = (struct slot_run){(uint16_t)set, 1, owners->of[set]};
    }
    free(table->runs);
    table->runs = runs;
    table->run_count = count;
    return 0;
}

int slot_table_init(struct slot_table *table, const uint32_t *nodes, uint32_t node_count, uint32_t sets, uint32_t share) {
    *table = (struct slot_table){.sets = sets ? sets : SLOT_SETS_MAX};
    if (table->sets < 2 || table->sets > SLOT_SETS_MAX || node_count == 0)
        return -EINVAL;
    struct owners owners = {0};
    uint32_t there = table->sets - 1;
    if (share == 0)
        share = SLOT_SETS_FIRST / node_count ? SLOT_SETS_FIRST / node_count : 1;
    if (node_count == 1)
        share = there;
    if (share > there / node_count)
        share = there / node_count ? there / node_count : 1;
    for (uint32_t i = 0; i < node_count && i * share < there; i++)
        for (uint32_t k = 0; k < share; k++)
            owners.of[1 + i * share + k] = (uint16_t)nodes[i];
    return compress(table, &owners);
}

void slot_table_free(struct slot_table *table) {
    free(table->runs);
    *table = (struct slot_table){0};
}

uint32_t slot_table_owner(const struct slot_table *table, uint32_t set) {
    uint32_t low = 0, high = table->run_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct slot_run *run = &table->runs[middle];
        if (set >= run->first && set < (uint32_t)run->first + run->count)
            return run->owner;
        if (set < run->first)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

uint32_t slot_table_count(const struct slot_table *table, uint32_t node, uint32_t below) {
    uint32_t owned = 0, count = 0;
    if (below > table->sets)
        below = table->sets;
    for (uint32_t i = 0; i < table->run_count; i++) {
        const struct slot_run *run = &table->runs[i];
        uint32_t end = (uint32_t)run->first + run->count;
        uint32_t inside = run->first >= below ? 0 : (end < below ? end : below) - run->first;
        owned += inside;
        count += run->owner == node ? inside : 0;
    }
    return node ? count : (below ? below - 1 : 0) - owned;
}

int slot_table_take(struct slot_table *table, uint32_t node, uint32_t node_count, uint32_t want, uint32_t below) {
    if (below > table->sets)
        below = table->sets;
    if (node == 0 || node > DVK_MAX_NODE || want == 0 || node_count == 0)
        return -EINVAL;
    uint32_t left = slot_table_count(table, 0, below), owned = slot_table_count(table, node, below);
    uint32_t fair = (below ? below - 1 : 0) / node_count;
    uint32_t within = owned < fair ? fair - owned : 0;
    if (left == 0)
        return -ENOSPC;
    uint32_t most = within > (left + 1) / 2 ? within : (left + 1) / 2;
    if (want > most)
        want = most;
    if (want > left)
        want = left;
    struct owners owners;
    expand(table, &owners);
    uint32_t given = 0;
    for (uint32_t set = 1; set < below && given < want; set++)
        if (!owners.of[set]) {
            owners.of[set] = (uint16_t)node;
            given++;
        }
    int result = compress(table, &owners);
    return result < 0 ? result : (int)given;
}

struct giving {
    struct owners owners;
    uint32_t sets, from, to;
    int result;
};

static void give_run(void *context, uint32_t first, uint32_t count) {
    struct giving *giving = context;
    for (uint32_t set = first; set < first + count; set++) {
        if (set >= giving->sets || giving->owners.of[set] != giving->from)
            giving->result = -EPERM;
        else
            giving->owners.of[set] = (uint16_t)giving->to;
    }
}

int slot_table_give(struct slot_table *table, uint32_t from, uint32_t to, const char *what) {
    struct giving giving = {.sets = table->sets, .from = from, .to = to};
    if (from == 0 || to == 0 || from > DVK_MAX_NODE || to > DVK_MAX_NODE || from == to || !what || !*what)
        return -EINVAL;
    expand(table, &giving.owners);
    int result = slot_runs_read(what, give_run, &giving);
    if (result == 0)
        result = giving.result;
    return result < 0 ? result : compress(table, &giving.owners);
}

/* Cut a lost node's run into parts for the live ones, the first parts one longer when it does not come out even. */
static void inherit(struct owners *owners, const struct slot_run *run, const uint32_t *live, uint32_t live_count) {
    uint32_t set = run->first;
    for (uint32_t i = 0; i < live_count; i++) {
        uint32_t part = run->count / live_count + (i < run->count % live_count);
        while (part--)
            owners->of[set++] = (uint16_t)live[i];
    }
}

bool slot_table_survive(struct slot_table *table, const uint32_t *nodes, uint32_t node_count,
                        bool (*is_up)(const void *context, uint32_t node), const void *context) {
    uint32_t live[DVK_MAX_NODE], live_count = 0;
    for (uint32_t i = 0; i < node_count && i < DVK_MAX_NODE; i++)
        if (is_up(context, nodes[i]))
            live[live_count++] = nodes[i];
    if (node_count <= 1 || live_count == 0)
        return false;
    struct owners owners;
    bool changed = false;
    for (uint32_t i = 0; i < table->run_count; i++) {
        if (is_up(context, table->runs[i].owner))
            continue;
        if (!changed)
            expand(table, &owners);
        inherit(&owners, &table->runs[i], live, live_count);
        changed = true;
    }
    if (changed && compress(table, &owners) < 0) { /* the other nodes do it: see config_slots.c */
        log_error("out of memory");
        abort();
    }
    return changed;
}

/* ---- text ---- */

/* A number of 1..most at *at, which is moved behind it. */
static bool read_number(const char **at, uint32_t most, uint32_t *out) {
    uint32_t value = 0;
    const char *c = *at;
    while (*c >= '0' && *c <= '9' && value <= most)
        value = value * 10 + (uint32_t)(*c++ - '0');
    if (c == *at || value == 0 || value > most)
        return false;
    *at = c;
    *out = value;
    return true;
}

static bool read_char(const char **at, char wanted) {
    if (**at != wanted)
        return false;
    (*at)++;
    return true;
}

static bool read_run(const char **at, uint32_t *first, uint32_t *count) {
    return read_number(at, SLOT_SETS_MAX - 1, first) && read_char(at, '+') &&
           read_number(at, SLOT_SETS_MAX - *first, count);
}

int slot_runs_read(const char *text, void (*fn)(void *context, uint32_t first, uint32_t count), void *context) {
    while (*text) {
        uint32_t first, count;
        if (!read_run(&text, &first, &count) || (*text && !(read_char(&text, ' ') && *text)))
            return -EINVAL;
        fn(context, first, count);
    }
    return 0;
}

char *slot_runs_write(const uint16_t *sets, uint32_t count) {
    size_t cap = (size_t)count * 16 + 1, used = 0;
    char *text = malloc(cap);
    if (!text)
        return NULL;
    text[0] = 0;
    for (uint32_t i = 0; i < count;) {
        uint32_t run = 1;
        while (i + run < count && sets[i + run] == sets[i] + run)
            run++;
        used += (size_t)snprintf(text + used, cap - used, "%s%u+%u", i ? " " : "", sets[i], run);
        i += run;
    }
    return text;
}

char *slot_table_to_text(const struct slot_table *table) {
    size_t cap = 16 + (size_t)table->run_count * 24, used;
    char *text = malloc(cap);
    if (!text)
        return NULL;
    used = (size_t)snprintf(text, cap, "%u", table->sets);
    for (uint32_t i = 0; i < table->run_count; i++)
        used += (size_t)snprintf(text + used, cap - used, " %u+%u=%u", table->runs[i].first, table->runs[i].count,
                                 table->runs[i].owner);
    return text;
}

int slot_table_from_text(struct slot_table *table, const char *text) {
    struct owners owners = {0};
    uint32_t sets, end = 1;
    *table = (struct slot_table){0};
    if (!text || !read_number(&text, SLOT_SETS_MAX, &sets) || sets < 2)
        return -EINVAL;
    while (*text) {
        uint32_t first, count, owner;
        if (!read_char(&text, ' ') || !read_run(&text, &first, &count) || !read_char(&text, '=') ||
            !read_number(&text, DVK_MAX_NODE, &owner) || first < end || first + count > sets)
            return -EINVAL;
        end = first + count;
        for (uint32_t set = first; set < end; set++)
            owners.of[set] = (uint16_t)owner;
    }
    table->sets = sets;
    return compress(table, &owners);
}
