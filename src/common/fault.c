/* SPDX-License-Identifier: Apache-2.0 */
#include "common/fault.h"

#include "common/cleanup.h"
#include "common/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DELAY_MS 10u
#define DELAY_MAX_MS 1000u

const struct fault_description fault_points[FAULT_POINT_END] = {
#define FAULT_ROW(id, name, actions, where) {name, (actions) | FAULT_ANYWHERE, where},
    FAULT_POINTS(FAULT_ROW)
#undef FAULT_ROW
};

static const struct {
    enum fault_action action;
    const char *name;
} action_names[] = {{FAULT_DELAY, "delay"}, {FAULT_CRASH, "crash"},   {FAULT_SHORT, "short"},
                    {FAULT_LOSE, "lose"},   {FAULT_FAIL, "fail"},     {FAULT_FULL, "full"},
                    {FAULT_DROP, "drop"},   {FAULT_REPEAT, "repeat"}, {FAULT_SWAP, "swap"}};

const char *fault_action_name(enum fault_action action) {
    for (unsigned i = 0; i < ARRAY_LENGTH(action_names); i++)
        if (action_names[i].action == action)
            return action_names[i].name;
    return "?";
}

bool fault_built(void) {
#ifdef DVS_FAULTS
    return true;
#else
    return false;
#endif
}

static int wrong(char why[static FAULT_WHY], const char *what, const char *text) {
    snprintf(why, FAULT_WHY, "DVS_FAULTS: %s: %.100s (dvs debug faults lists the points)", what, text);
    return -EINVAL;
}

/* NAME=ACTION:PROBABILITY[:MS] */
static int rule_parse(char *text, struct fault_rule *rule, char why[static FAULT_WHY]) {
    char whole[128];
    snprintf(whole, sizeof whole, "%s", text);
    char *action = strchr(text, '='), *end;
    if (!action)
        return wrong(why, "no rule", whole);
    *action++ = 0;
    char *probability = strchr(action, ':');
    if (!probability)
        return wrong(why, "no probability", whole);
    *probability++ = 0;
    unsigned point = 0, i = 0;
    while (point < FAULT_POINT_END && strcmp(fault_points[point].name, text) != 0)
        point++;
    while (i < ARRAY_LENGTH(action_names) && strcmp(action_names[i].name, action) != 0)
        i++;
    if (point == FAULT_POINT_END)
        return wrong(why, "no such point", whole);
    if (i == ARRAY_LENGTH(action_names) || !(fault_points[point].actions & action_names[i].action))
        return wrong(why, "that cannot be done there", whole);
    *rule = (struct fault_rule){.point = point, .action = action_names[i].action, .delay_ms = DELAY_MS};
    rule->probability = strtod(probability, &end);
    if (end == probability || !(rule->probability >= 0 && rule->probability <= 1))
        return wrong(why, "a probability is 0 to 1", whole);
    if (*end == ':' && rule->action == FAULT_DELAY) {
        char *number = end + 1;
        unsigned long ms = strtoul(number, &end, 10);
        if (end == number || ms < 1 || ms > DELAY_MAX_MS)
            return wrong(why, "a delay is 1 to 1000 ms", whole);
        rule->delay_ms = (unsigned)ms;
    }
    return *end ? wrong(why, "something follows the rule", whole) : 0;
}

int fault_parse(const char *text, struct fault_plan *plan, char why[static FAULT_WHY]) {
    char copy[2048], *save = NULL;
    *plan = (struct fault_plan){.seed = 1};
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return wrong(why, "longer than 2047 bytes", text);
    for (char *part = strtok_r(copy, ";", &save); part; part = strtok_r(NULL, ";", &save)) {
        char *end;
        if (strncmp(part, "seed=", 5) == 0) {
            plan->seed = strtoull(part + 5, &end, 10);
            if (end == part + 5 || *end)
                return wrong(why, "the seed is no number", part);
            continue;
        }
        if (plan->count == FAULT_RULES_MAX)
            return wrong(why, "more than 32 rules", part);
        int result = rule_parse(part, &plan->rules[plan->count], why);
        if (result < 0)
            return result;
        plan->count++;
    }
    return 0;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

unsigned fault_draw(const struct fault_plan *plan, enum fault_point point, uint64_t *state, unsigned *delay_ms) {
    unsigned actions = 0;
    for (unsigned i = 0; i < plan->count; i++) {
        const struct fault_rule *rule = &plan->rules[i];
        if (rule->point != point)
            continue;
        if ((double)(next_random(state) >> 11) >= rule->probability * (double)(1ull << 53))
            continue;
        actions |= rule->action;
        if (rule->action == FAULT_DELAY)
            *delay_ms = rule->delay_ms;
    }
    return actions;
}

#ifdef DVS_FAULTS

static struct fault_plan plan;
static uint64_t plan_state;

int fault_init(const char *daemon, uint32_t node) {
    const char *text = getenv("DVS_FAULTS");
    char why[FAULT_WHY];
    if (!text)
        return 0;
    int result = fault_parse(text, &plan, why);
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", daemon, why);
        return result;
    }
    plan_state = plan.seed ^ (uint64_t)node << 40;
    for (; *daemon; daemon++)
        plan_state = (plan_state ^ (uint8_t)*daemon) * 0x100000001b3ull;
    return 0;
}

unsigned fault_at(enum fault_point point) {
    if (plan.count == 0)
        return 0;
    unsigned delay_ms = 0;
    unsigned actions = fault_draw(&plan, point, &plan_state, &delay_ms);
    if (!actions)
        return 0;
    record(RECORD_FAULT, 0, point, actions, delay_ms);
    if (actions & FAULT_DELAY)
        nanosleep(&(struct timespec){delay_ms / 1000, delay_ms % 1000 * 1000000l}, NULL);
    if (actions & FAULT_CRASH)
        abort();
    return actions & ~(unsigned)FAULT_ANYWHERE;
}

#endif
