/* SPDX-License-Identifier: Apache-2.0 */
/* What privileges say: order, sets, messages. A set in order is compared with a plain list of what it was made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dvk/channel.h"
#include "dvk/kernel.h"
#include "dvk/privilege_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVERS DVK_PEERS_SERVERS
#define EXACT(generation, slot) ((uint64_t)(generation) << 32 | (slot))

static struct dvk_privileges of(uint32_t flags, uint32_t count, const struct dvk_peers_range *ranges) {
    struct dvk_privileges made = DVK_PRIVILEGES_ALL;
    made.to = (struct dvk_peers){.flags = flags, .count = count};
    for (uint32_t i = 0; i < count; i++)
        made.to.ranges[i] = ranges[i];
    return made;
}

static void test_what_cannot_be(void **state) {
    static const struct dvk_peers_range wrong[] = {
        {0, 5},  {6, 5}, {5, EXACT(1, 6)}, {EXACT(1, 5), EXACT(1, 6)}, {EXACT(1, 5), 5}, {DVK_ANY, DVK_ANY}, {EXACT(1, 0), EXACT(1, 0)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct dvk_privileges p = of(0, 1, &wrong[i]);
        assert_int_equal(privileges_check(&p), -EINVAL);
        p.from = p.to;
        p.to = (struct dvk_peers){0};
        assert_int_equal(privileges_check(&p), -EINVAL);
    }
    struct dvk_privileges p = of(4, 0, NULL);
    assert_int_equal(privileges_check(&p), -EINVAL);
    p = of(0, 0, NULL);
    p.to.count = DVK_PEERS_RANGES + 1;
    assert_int_equal(privileges_check(&p), -EINVAL);
    p = of(0, 0, NULL);
    p.calls = DVK_MAY_ALL + 1;
    assert_int_equal(privileges_check(&p), -EINVAL);
    p = of(0, 0, NULL);
    p.reserved = 1;
    assert_int_equal(privileges_check(&p), -EINVAL);
}

static void test_order(void **state) {
    static const struct {
        uint32_t flags, count;
        struct dvk_peers_range in[5];
        const char *text;
    } table[] = {
        {0, 0, {{0, 0}}, "none"},
        {SERVERS, 0, {{0, 0}}, "servers"},
        {DVK_PEERS_ALL | SERVERS, 1, {{5, 6}}, "all"},
        {0, 3, {{100, 110}, {64, 70}, {71, 80}}, "64-80,100-110"},
        {0, 3, {{100, 110}, {105, 120}, {90, 99}}, "90-120"},
        {0, 2, {{90, 200}, {100, 110}}, "90-200"},
        {0, 1, {{7, 7}}, "7"},
        {0, 3, {{EXACT(3, 95), EXACT(3, 95)}, {90, 99}, {EXACT(2, 89), EXACT(2, 89)}}, "90-99,89@2"},
        {0, 3, {{EXACT(3, 5), EXACT(3, 5)}, {EXACT(2, 5), EXACT(2, 5)}, {EXACT(3, 5), EXACT(3, 5)}}, "5@2,5@3"},
        {SERVERS, 2, {{DVK_SYSTEM_BASE + 3, DVK_SYSTEM_BASE + 9}, {64, 65}}, "servers,64-65"},
        {SERVERS, 1, {{16777000, DVK_SYSTEM_BASE + 9}}, "servers,16777000-16777215"},
        {SERVERS, 1, {{EXACT(1, DVK_SYSTEM_BASE + 9), EXACT(1, DVK_SYSTEM_BASE + 9)}}, "servers"},
        {0, 1, {{DVK_SYSTEM_BASE, UINT32_MAX}}, "servers"},
        {0, 2, {{200, UINT32_MAX}, {100, 150}}, "servers,100-150,200-16777215"},
        {0, 2, {{UINT32_MAX - 1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}}, "4294967294-4294967295"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct dvk_privileges p = of(table[i].flags, table[i].count, table[i].in), again;
        char text[PRIVILEGE_TEXT_MAX], expected[PRIVILEGE_TEXT_MAX];
        p.calls = DVK_MAY_SEND;
        assert_int_equal(privileges_check(&p), 0);
        privileges_text(&p, text);
        snprintf(expected, sizeof expected, "send to %s from all", table[i].text);
        assert_string_equal(text, expected);
        again = p;
        assert_int_equal(privileges_check(&again), 0);
        assert_memory_equal(&again, &p, sizeof p);
    }
}

static void test_text(void **state) {
    char text[PRIVILEGE_TEXT_MAX];
    struct dvk_privileges p = DVK_PRIVILEGES_ALL;
    (void)state;
    privileges_text(&p, text);
    assert_string_equal(text, "all");
    p.from = (struct dvk_peers){0};
    privileges_text(&p, text);
    assert_string_equal(text, "all to all from none");
    p.calls = 0;
    privileges_text(&p, text);
    assert_string_equal(text, "none to all from none");
    for (uint32_t i = 0; i < DVK_PEERS_RANGES; i++)
        p.to.ranges[i] = p.from.ranges[i] = (struct dvk_peers_range){EXACT(UINT32_MAX, UINT32_MAX - 2 * i - 1), EXACT(UINT32_MAX, UINT32_MAX - 2 * i - 1)};
    p.to.flags = p.from.flags = SERVERS;
    p.to.count = p.from.count = DVK_PEERS_RANGES;
    p.calls = DVK_MAY_ALL & ~(uint32_t)DVK_MAY_SEND;
    privileges_text(&p, text);
    assert_non_null(strstr(text, "sendrec,notify,relay,grant,copy,group,service,migrate,bind,privilege to servers,"));
    assert_true(strlen(text) < PRIVILEGE_TEXT_MAX - 1); /* the longest fits */
}

/* ---- against a plain list ---- */

#define SMALL 24u /* slots 1..SMALL-1, and as many from DVK_SYSTEM_BASE - SMALL / 2 on; generations 0..2 */

static uint32_t small_slot(unsigned i) {
    return i < SMALL ? i + 1 : DVK_SYSTEM_BASE - SMALL / 2 + (i - SMALL);
}

static bool plainly_has(const struct dvk_peers *peers, dvk_endpoint endpoint) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    bool has = peers->flags & DVK_PEERS_ALL || (peers->flags & SERVERS && slot >= DVK_SYSTEM_BASE);
    for (uint32_t i = 0; i < peers->count; i++) {
        const struct dvk_peers_range *range = &peers->ranges[i];
        has |= dvk_endpoint_generation(range->first) ? range->first == endpoint : range->first <= slot && slot <= range->last;
    }
    return has;
}

static struct dvk_peers random_peers(unsigned *seed) {
    struct dvk_peers peers = {.flags = rand_r(seed) % 4 == 0 ? SERVERS : rand_r(seed) % 16 == 0 ? DVK_PEERS_ALL : 0};
    peers.count = (uint32_t)rand_r(seed) % (DVK_PEERS_RANGES + 1);
    for (uint32_t i = 0; i < peers.count; i++) {
        uint32_t a = small_slot((unsigned)rand_r(seed) % (2 * SMALL)), b = small_slot((unsigned)rand_r(seed) % (2 * SMALL));
        struct dvk_peers_range range = {a < b ? a : b, a < b ? b : a};
        if (rand_r(seed) % 2)
            range.first = range.last = EXACT(1 + rand_r(seed) % 2, a);
        else if (rand_r(seed) % 8)
            range.last = range.first + (uint32_t)rand_r(seed) % 3;
        peers.ranges[i] = range;
    }
    return peers;
}

/* Every endpoint that a random set may treat in its own way. *i from 0; false: that was all. */
static bool next_endpoint(unsigned *i, dvk_endpoint *endpoint) {
    *endpoint = EXACT(*i % 4, small_slot(*i / 4));
    return ++*i <= 4 * 2 * SMALL;
}

static void test_sets_against_lists(void **state) {
    unsigned seed = 1;
    dvk_endpoint endpoint;
    unsigned inside = 0, outside = 0;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct dvk_privileges a = DVK_PRIVILEGES_ALL, b = DVK_PRIVILEGES_ALL;
        struct dvk_peers plain_a = a.to = random_peers(&seed), plain_b = b.to = random_peers(&seed);
        if (round % 2) { /* what is likely to be inside */
            b.to = plain_b = plain_a;
            b.to.count = plain_b.count = plain_a.count - (plain_a.count && rand_r(&seed) % 3 == 0);
            a.to.count = plain_a.count = plain_a.count - (plain_a.count && rand_r(&seed) % 3 == 0);
        }
        assert_int_equal(privileges_check(&a), 0);
        assert_int_equal(privileges_check(&b), 0);
        bool within = true;
        for (unsigned i = 0; next_endpoint(&i, &endpoint);) {
            assert_int_equal(peers_contain(&a.to, endpoint), plainly_has(&plain_a, endpoint));
            within &= !plainly_has(&plain_a, endpoint) || plainly_has(&plain_b, endpoint);
        }
        if (a.to.flags & ~b.to.flags) /* slots beyond those that are looked at */
            within &= (b.to.flags & DVK_PEERS_ALL) != 0;
        assert_int_equal(peers_within(&a.to, &b.to), within);
        assert_int_equal(privileges_within(&a, &b), within);
        inside += within;
        outside += !within;
    }
    assert_true(inside > 300 && outside > 300);
}

static void test_within(void **state) {
    struct dvk_privileges all = DVK_PRIVILEGES_ALL, less = all;
    (void)state;
    assert_true(privileges_are_all(&all) && privileges_within(&all, &all));
    less.calls &= ~(uint32_t)DVK_MAY_BIND;
    assert_true(!privileges_are_all(&less) && privileges_within(&less, &all) && !privileges_within(&all, &less));
    less = all;
    less.from.flags = 0;
    assert_true(!privileges_are_all(&less) && privileges_within(&less, &all) && !privileges_within(&all, &less));
    less = all;
    less.to.flags = SERVERS;
    assert_true(!privileges_are_all(&less) && privileges_within(&less, &all) && !privileges_within(&all, &less));
}

/* ---- messages ---- */

static const uint32_t kinds[] = {DVK_SLOT_SEND, DVK_SLOT_SENDREC, DVK_SLOT_POST, DVK_SLOT_SEND};
static const uint64_t notify[] = {0, 0, 0, 5};
static const uint32_t rights[] = {DVK_MAY_SEND, DVK_MAY_SENDREC, DVK_MAY_SEND, DVK_MAY_NOTIFY};

static void test_calls(void **state) {
    (void)state;
    for (uint32_t bit = 0; 1u << bit < DVK_MAY_ALL; bit++)
        for (int k = 0; k < 4; k++) {
            struct dvk_message message = {.destination = EXACT(1, 70), .notify = notify[k]};
            struct dvk_privileges only = DVK_PRIVILEGES_ALL, without = only;
            only.calls = 1u << bit;
            without.calls &= ~(1u << bit);
            assert_int_equal(privileges_allow(&only, kinds[k], &message), rights[k] == 1u << bit);
            assert_int_equal(privileges_allow(&without, kinds[k], &message), rights[k] != 1u << bit);
            assert_int_equal(privileges_lead(&only, message.destination), (DVK_MAY_SEND | DVK_MAY_SENDREC | DVK_MAY_NOTIFY) >> bit & 1);
            only.to = without.to = (struct dvk_peers){.flags = SERVERS};
            assert_false(privileges_allow(&only, kinds[k], &message));
            assert_false(privileges_allow(&without, kinds[k], &message));
            assert_false(privileges_lead(&without, message.destination));
            message.destination = dvk_service_endpoint(3, 40);
            assert_int_equal(privileges_allow(&only, kinds[k], &message), rights[k] == 1u << bit);
            /* the DVK's own services: no set says anything of them */
            message.destination = dvk_service_endpoint(3, DVK_SERVICE_COPY);
            only.to = (struct dvk_peers){0};
            assert_int_equal(privileges_allow(&only, kinds[k], &message), 1u << bit == DVK_MAY_COPY);
            assert_int_equal(privileges_lead(&only, message.destination), 1u << bit == DVK_MAY_COPY);
            message.destination = dvk_service_endpoint(3, DVK_SERVICE_KERNEL);
            message.type = DVK_KERNEL_WATCH;
            assert_true(privileges_allow(&only, kinds[k], &message) && privileges_lead(&only, message.destination));
            message.type = DVK_KERNEL_SET_PRIVILEGES;
            assert_int_equal(privileges_allow(&only, kinds[k], &message), 1u << bit == DVK_MAY_PRIVILEGE);
        }
}

static void test_sources(void **state) {
    struct dvk_privileges p = DVK_PRIVILEGES_ALL;
    (void)state;
    p.from = (struct dvk_peers){.count = 1, .ranges = {{EXACT(4, 70), EXACT(4, 70)}}};
    assert_true(privileges_accept(&p, EXACT(4, 70)));
    assert_false(privileges_accept(&p, EXACT(5, 70)));
    assert_false(privileges_accept(&p, EXACT(4, 71)));
    assert_true(privileges_accept(&p, dvk_service_endpoint(1, DVK_SERVICE_COPY)));
    assert_true(privileges_accept(&p, dvk_service_endpoint(1, DVK_SERVICE_KERNEL)));
    assert_false(privileges_accept(&p, dvk_service_endpoint(1, DVK_SERVICE_PM)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_cannot_be), cmocka_unit_test(test_order),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_sets_against_lists), cmocka_unit_test(test_within), cmocka_unit_test(test_calls),
        cmocka_unit_test(test_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
