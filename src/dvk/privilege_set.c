/* SPDX-License-Identifier: Apache-2.0 */
#include "dvk/privilege_set.h"

#include "dvk/channel.h"
#include "dvk/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES (DVK_MAY_SEND | DVK_MAY_SENDREC | DVK_MAY_NOTIFY)

static uint32_t first_slot(const struct dvk_peers_range *range) {
    return dvk_endpoint_slot(range->first);
}
static uint32_t last_slot(const struct dvk_peers_range *range) {
    return dvk_endpoint_slot(range->last);
}
static bool is_exact(const struct dvk_peers_range *range) {
    return dvk_endpoint_generation(range->first) != 0;
}

/* ---- putting in order ---- */

static bool range_is_possible(const struct dvk_peers_range *range) {
    if (is_exact(range))
        return range->first == range->last && range->first != DVK_ANY && first_slot(range) != 0;
    return dvk_endpoint_generation(range->last) == 0 && first_slot(range) != 0 && range->first <= range->last;
}

/* By slot; ranges of slots before exact endpoints. */
static bool comes_before(const struct dvk_peers_range *a, const struct dvk_peers_range *b) {
    if (is_exact(a) != is_exact(b))
        return is_exact(b);
    return first_slot(a) != first_slot(b) ? first_slot(a) < first_slot(b) : a->first < b->first;
}

static void sort(struct dvk_peers_range *ranges, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        struct dvk_peers_range moved = ranges[i];
        uint32_t at = i;
        for (; at > 0 && comes_before(&moved, &ranges[at - 1]); at--)
            ranges[at] = ranges[at - 1];
        ranges[at] = moved;
    }
}

static bool slot_is_covered(const struct dvk_peers *peers, uint32_t slot) {
    if (peers->flags & DVK_PEERS_SERVERS && dvk_slot_is_system(slot))
        return true;
    for (uint32_t i = 0; i < peers->count; i++)
        if (!is_exact(&peers->ranges[i]) && first_slot(&peers->ranges[i]) <= slot && slot <= last_slot(&peers->ranges[i]))
            return true;
    return false;
}

/* Add a range to the sorted ones in *out, which it does not come before. */
static void range_append(struct dvk_peers *out, const struct dvk_peers_range *added) {
    struct dvk_peers_range range = *added;
    struct dvk_peers_range *last = out->count ? &out->ranges[out->count - 1] : NULL;
    if (is_exact(&range)) {
        if (slot_is_covered(out, first_slot(&range)) || (last && last->first == range.first))
            return;
    } else {
        if (out->flags & DVK_PEERS_SERVERS && dvk_slot_is_system(first_slot(&range)))
            return;
        if (out->flags & DVK_PEERS_SERVERS && dvk_slot_is_system(last_slot(&range)))
            range.last = DVK_SYSTEM_BASE - 1;
        if (last && first_slot(&range) <= (uint64_t)last_slot(last) + 1) {
            if (last->last < range.last)
                last->last = range.last;
            return;
        }
    }
    out->ranges[out->count++] = range;
}

static int peers_check(struct dvk_peers *peers) {
    if (peers->flags & ~(uint32_t)(DVK_PEERS_ALL | DVK_PEERS_SERVERS) || peers->count > DVK_PEERS_RANGES)
        return -EINVAL;
    for (uint32_t i = 0; i < peers->count; i++) {
        if (!range_is_possible(&peers->ranges[i]))
            return -EINVAL;
        if (peers->ranges[i].first <= DVK_SYSTEM_BASE && peers->ranges[i].last == UINT32_MAX)
            peers->flags |= DVK_PEERS_SERVERS;
    }
    struct dvk_peers out = {.flags = peers->flags & DVK_PEERS_ALL ? (uint32_t)DVK_PEERS_ALL : peers->flags};
    if (!(out.flags & DVK_PEERS_ALL)) {
        sort(peers->ranges, peers->count);
        for (uint32_t i = 0; i < peers->count; i++)
            range_append(&out, &peers->ranges[i]);
    }
    *peers = out;
    return 0;
}

int privileges_check(struct dvk_privileges *privileges) {
    if (privileges->calls & ~(uint32_t)DVK_MAY_ALL || privileges->reserved)
        return -EINVAL;
    int error = peers_check(&privileges->to);
    return error < 0 ? error : peers_check(&privileges->from);
}

/* ---- sets ---- */

bool peers_contain(const struct dvk_peers *peers, dvk_endpoint endpoint) {
    if (peers->flags & DVK_PEERS_ALL || slot_is_covered(peers, dvk_endpoint_slot(endpoint)))
        return true;
    for (uint32_t i = 0; i < peers->count; i++)
        if (peers->ranges[i].first == endpoint && is_exact(&peers->ranges[i]))
            return true;
    return false;
}

/* Slots that are all system slots, or all not. */
static bool slots_are_covered(const struct dvk_peers *peers, uint32_t first, uint32_t last) {
    if (peers->flags & DVK_PEERS_SERVERS && dvk_slot_is_system(first))
        return true;
    for (uint32_t i = 0; i < peers->count; i++)
        if (!is_exact(&peers->ranges[i]) && first_slot(&peers->ranges[i]) <= first && last <= last_slot(&peers->ranges[i]))
            return true;
    return false;
}

static bool range_is_within(const struct dvk_peers_range *range, const struct dvk_peers *outer) {
    uint32_t first = first_slot(range), last = last_slot(range);
    if (is_exact(range))
        return peers_contain(outer, range->first);
    if (!dvk_slot_is_system(first) && dvk_slot_is_system(last))
        return slots_are_covered(outer, first, DVK_SYSTEM_BASE - 1) && slots_are_covered(outer, DVK_SYSTEM_BASE, last);
    return slots_are_covered(outer, first, last);
}

bool peers_within(const struct dvk_peers *inner, const struct dvk_peers *outer) {
    if (outer->flags & DVK_PEERS_ALL)
        return true;
    if (inner->flags & ~outer->flags)
        return false;
    for (uint32_t i = 0; i < inner->count; i++)
        if (!range_is_within(&inner->ranges[i], outer))
            return false;
    return true;
}

bool privileges_within(const struct dvk_privileges *inner, const struct dvk_privileges *outer) {
    return !(inner->calls & ~outer->calls) && peers_within(&inner->to, &outer->to) && peers_within(&inner->from, &outer->from);
}

bool privileges_are_all(const struct dvk_privileges *privileges) {
    return privileges->calls == DVK_MAY_ALL && privileges->to.flags & DVK_PEERS_ALL &&
           privileges->from.flags & DVK_PEERS_ALL;
}

/* ---- messages ---- */

/* The DVK's own services are no destinations: what they do is a call of its own. */
static bool is_service(dvk_endpoint endpoint, uint32_t service) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    return dvk_slot_is_system(slot) && dvk_system_slot_service(slot) == service;
}

bool privileges_allow(const struct dvk_privileges *sender, uint32_t kind, const struct dvk_message *message) {
    if (is_service(message->destination, DVK_SERVICE_KERNEL))
        return message->type != DVK_KERNEL_SET_PRIVILEGES || sender->calls & DVK_MAY_PRIVILEGE;
    if (is_service(message->destination, DVK_SERVICE_COPY))
        return sender->calls & DVK_MAY_COPY;
    uint32_t call = kind == DVK_SLOT_SENDREC ? DVK_MAY_SENDREC : message->notify ? DVK_MAY_NOTIFY : DVK_MAY_SEND;
    return sender->calls & call && peers_contain(&sender->to, message->destination);
}

bool privileges_accept(const struct dvk_privileges *receiver, dvk_endpoint source) {
    return is_service(source, DVK_SERVICE_KERNEL) || is_service(source, DVK_SERVICE_COPY) ||
           peers_contain(&receiver->from, source);
}

bool privileges_lead(const struct dvk_privileges *sender, dvk_endpoint to) {
    if (is_service(to, DVK_SERVICE_KERNEL))
        return true;
    if (is_service(to, DVK_SERVICE_COPY))
        return sender->calls & DVK_MAY_COPY;
    return sender->calls & MESSAGES && peers_contain(&sender->to, to);
}

/* ---- text ---- */

static void append(char text[PRIVILEGE_TEXT_MAX], const char *word) {
    size_t len = strlen(text);
    snprintf(text + len, PRIVILEGE_TEXT_MAX - len, "%s", word);
}

static void peers_text(const struct dvk_peers *peers, char text[PRIVILEGE_TEXT_MAX]) {
    char word[64];
    const char *comma = "";
    if (peers->flags & DVK_PEERS_ALL) {
        append(text, "all");
        return;
    }
    if (peers->flags & DVK_PEERS_SERVERS) {
        append(text, "servers");
        comma = ",";
    }
    for (uint32_t i = 0; i < peers->count; i++, comma = ",") {
        const struct dvk_peers_range *range = &peers->ranges[i];
        if (is_exact(range))
            snprintf(word, sizeof word, "%s%" PRIu32 "@%" PRIu32, comma, first_slot(range),
                     dvk_endpoint_generation(range->first));
        else if (range->first == range->last)
            snprintf(word, sizeof word, "%s%" PRIu32, comma, first_slot(range));
        else
            snprintf(word, sizeof word, "%s%" PRIu32 "-%" PRIu32, comma, first_slot(range), last_slot(range));
        append(text, word);
    }
    if (!(peers->flags & DVK_PEERS_SERVERS) && peers->count == 0)
        append(text, "none");
}

void privileges_text(const struct dvk_privileges *privileges, char text[PRIVILEGE_TEXT_MAX]) {
    static const char *const names[] = {"send",  "sendrec", "notify",  "relay", "grant",    "copy",
                                        "group", "service", "migrate", "bind",  "privilege"};
    text[0] = 0;
    if (privileges_are_all(privileges)) {
        append(text, "all");
        return;
    }
    const char *comma = "";
    for (size_t i = 0; i < sizeof names / sizeof names[0] && privileges->calls != DVK_MAY_ALL; i++) {
        if (!(privileges->calls >> i & 1))
            continue;
        append(text, comma);
        append(text, names[i]);
        comma = ",";
    }
    append(text, privileges->calls == DVK_MAY_ALL ? "all to " : privileges->calls ? " to " : "none to ");
    peers_text(&privileges->to, text);
    append(text, " from ");
    peers_text(&privileges->from, text);
}
