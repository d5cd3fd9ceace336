/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where endpoints are that have backups: the table alone, and an exhaustive exploration of it.
 *
 * The exploration plays three nodes with the real place_table.c over a group that orders messages, breadth first, each state once:
 * whatever a node may propose (add, drop, start, commit, rollback, gone), the next message ordered, a node that applies it
 * before or after the others, a process's death, a partition of one node, its return (as another incarnation) and the view that
 * follows. A state is hashed with what is under way. Checked in each: the quorate nodes that have applied as much have the same table;
 * no two living processes are the endpoint in the view (what a process believes follows its own node's table, as in places.c); one
 * that has a replica in the view is never dead in it; the slot has an entry while the endpoint is not where its slot says; and
 * from each state in which nothing more is proposed, delivering all ends every move of which a party was lost.
 *
 * PLACES_DEPTH=N (environment) explores deeper than the default, which takes some seconds.
 */
#include "check.h"

#include "dvkd/place_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define E dvk_endpoint_make(7, 100)

static struct place_instance at(uint64_t node, int64_t incarnation) { return (struct place_instance){1, incarnation, node}; }

/* ---- the table ---- */

static bool not_two(void *context, uint32_t node, int64_t incarnation) { return node != 2; }
static bool not_one(void *context, uint32_t node, int64_t incarnation) { return node != 1; }

static void test_steps(void **state) {
    struct place_table table = {0};
    const struct place_instance a = at(1, 1), b = at(2, 1), c = at(3, 1);
    assert_int_equal(place_table_start(&table, E, &a, &b), -ENOENT);
    assert_int_equal(place_table_add(&table, E, &a, 0, &a, PLACE_BACKUP), -EINVAL);
    assert_int_equal(place_table_add(&table, E, &a, 0, &b, PLACE_BACKUP), 0);
    assert_int_equal(place_table_add(&table, E, &b, 0, &c, PLACE_BACKUP), -ESTALE);
    assert_int_equal(place_table_add(&table, dvk_endpoint_make(8, 100), &c, 0, &b, PLACE_BACKUP), -EEXIST);
    assert_int_equal(place_table_commit(&table, E, &a, 9), -EBUSY);
    assert_int_equal(place_table_start(&table, E, &a, &c), -EINVAL);
    assert_int_equal(place_table_start(&table, E, &b, &b), -ESTALE);
    assert_int_equal(place_table_start(&table, E, &a, &b), 0);
    assert_int_equal(place_table_start(&table, E, &a, &b), -EBUSY);
    assert_int_equal(place_table_rollback(&table, E, &a), 0);
    assert_int_equal(place_table_rollback(&table, E, &a), -EBUSY);
    assert_int_equal(place_table_start(&table, E, &a, &b), 0);
    assert_int_equal(place_table_commit(&table, E, &a, 9), 0);
    const struct place *place = place_table_find(&table, dvk_endpoint_make(0, 100));
    assert_true(place && place_is(&place->primary, &b) && place->moved == 9 && place->spare_count == 0 && !place->moving);
    assert_int_equal(place_table_gone(&table, E, &a, 10), -ESTALE);
    assert_int_equal(place_table_gone(&table, E, &b, 10), 0);
    assert_int_equal(table.count, 0);
    place_table_free(&table);
}

static void test_losses(void **state) {
    struct place_table table = {0};
    const struct place_instance a = at(1, 1), b = at(2, 1), c = at(3, 1);
    assert_int_equal(place_table_add(&table, E, &a, 0, &b, PLACE_BACKUP), 0);
    assert_int_equal(place_table_add(&table, E, &a, 0, &c, PLACE_REPLICA), 0);
    assert_int_equal(place_table_start(&table, E, &a, &b), 0);
    assert_true(place_table_survive(&table, 5, not_two, NULL)); /* the destination: a rollback */
    assert_true(!table.places[0].moving && place_is(&table.places[0].primary, &a));
    assert_int_equal(place_table_add(&table, E, &a, 0, &b, PLACE_REPLICA), 0);
    assert_true(place_table_survive(&table, 6, not_one, NULL)); /* the primary: the oldest replica */
    assert_true(place_is(&table.places[0].primary, &c) && table.places[0].moved == 6);
    assert_false(place_table_survive(&table, 7, not_one, NULL));
    assert_int_equal(place_table_drop(&table, E, &b), 0);
    assert_int_equal(table.count, 1); /* it has moved */
    assert_int_equal(place_table_gone(&table, E, &c, 8), 0);
    assert_int_equal(table.count, 0);
    assert_int_equal(place_table_add(&table, E, &a, 0, &b, PLACE_BACKUP), 0);
    assert_int_equal(place_table_drop(&table, E, &b), 0);
    assert_int_equal(table.count, 0); /* as it was before */
    place_table_free(&table);
}

static void test_json(void **state) {
    struct place_table table = {0}, again;
    const struct place_instance a = at(1, -5), b = at(2, 1), c = at(3, 1);
    for (uint32_t slot = 300; slot > 100; slot -= 50)
        assert_int_equal(place_table_add(&table, dvk_endpoint_make(0xfffffff0, slot), &a, slot, &b, PLACE_BACKUP), 0);
    assert_int_equal(place_table_add(&table, dvk_endpoint_make(0xfffffff0, 200), &a, 0, &c, PLACE_REPLICA), 0);
    assert_int_equal(place_table_start(&table, dvk_endpoint_make(0xfffffff0, 200), &a, &c), 0);
    json_t *json = place_table_to_json(&table);
    assert_int_equal(place_table_from_json(&again, json), 0);
    assert_int_equal(again.count, table.count);
    assert_memory_equal(again.places, table.places, table.count * sizeof *table.places);
    place_table_free(&again);
    json_array_append(json, json_array_get(json, 0)); /* the same slot twice */
    assert_int_equal(place_table_from_json(&again, json), -EINVAL);
    json_decref(json);
    const char *const wrong[] = {"{}", "[1]", "[{\"endpoint\": 100, \"moved\": 1, \"primary\": [1,1,1], \"spares\": []}]",
                                 "[{\"endpoint\": 4294967396, \"moved\": 0, \"primary\": [1,1,1], \"spares\": []}]",
                                 "[{\"endpoint\": 4294967396, \"moved\": 1, \"primary\": [999,1,1], \"spares\": []}]",
                                 "[{\"endpoint\": 4294967396, \"moved\": 1, \"primary\": [1,1,1], \"spares\": [[3,[2,1,1]]]}]",
                                 "[{\"endpoint\": 4294967396, \"moved\": 1, \"primary\": [1,1,1], \"spares\": [[1,[1,1,1]]]}]",
                                 "[{\"endpoint\": 4294967396, \"moved\": 1, \"primary\": [1,1,1], \"spares\": [], \"to\": [2,1,1]}]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json = json_loads(wrong[i], 0, NULL);
        assert_non_null(json);
        assert_int_equal(place_table_from_json(&again, json), -EINVAL);
        json_decref(json);
    }
    place_table_free(&table);
}

/* ---- the exploration ---- */

#define NODES 3u
#define UNDER_WAY 3u

enum op { ADD, DROP, START, COMMIT, ROLLBACK, GONE };
struct message {
    uint8_t op, view, kind, node, inc; /* node, inc: the spare's (ADD, DROP, START) or the primary's */
    uint8_t by, by_inc;                /* the primary as its proposer knows it */
};

/* One node: what it has applied. */
struct seat {
    struct place place; /* of the endpoint; endpoint 0: none */
    uint8_t taken;      /* messages of the log of this view applied */
    uint8_t incarnation, up /* in the quorate view */, alive /* its process */;
};

struct world {
    struct seat seat[NODES];
    struct message log[UNDER_WAY]; /* ordered in this view; those that all have applied are dropped */
    uint8_t log_count, view, revision, begun, dead;
};

struct found {
    struct world world;
    uint32_t depth;
};
static struct found *worlds;
static uint32_t world_count, world_cap, *table_of, table_size;

static uint64_t hash_of(const struct world *world) {
    const uint8_t *bytes = (const uint8_t *)world;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < sizeof *world; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash ^ hash >> 29;
}

static void table_grow(void) {
    table_size = table_size ? table_size * 2 : 1u << 16;
    free(table_of);
    table_of = calloc(table_size, sizeof *table_of);
    assert_non_null(table_of);
    for (uint32_t i = 0; i < world_count; i++) {
        uint64_t at_ = hash_of(&worlds[i].world) % table_size;
        while (table_of[at_])
            at_ = (at_ + 1) % table_size;
        table_of[at_] = i + 1;
    }
}

static void visit(const struct world *world, uint32_t depth) {
    if ((world_count + 1) * 2 > table_size)
        table_grow();
    uint64_t at_ = hash_of(world) % table_size;
    for (; table_of[at_]; at_ = (at_ + 1) % table_size)
        if (memcmp(&worlds[table_of[at_] - 1].world, world, sizeof *world) == 0)
            return;
    if (world_count == world_cap) {
        world_cap = world_cap ? world_cap * 2 : 1u << 14;
        worlds = realloc(worlds, world_cap * sizeof *worlds);
        assert_non_null(worlds);
    }
    worlds[world_count] = (struct found){.world = *world, .depth = depth};
    table_of[at_] = ++world_count;
}

/* The seat's table as place_table.c wants it, and back. */
static struct place_table table_at(struct seat *seat) {
    struct place_table table = {0};
    if (seat->place.endpoint) {
        table.places = malloc(sizeof *table.places);
        assert_non_null(table.places);
        table.places[0] = seat->place;
        table.count = table.cap = 1;
    }
    return table;
}
static void table_back(struct seat *seat, struct place_table *table) {
    memset(&seat->place, 0, sizeof seat->place);
    if (table->count)
        seat->place = table->places[0];
    place_table_free(table);
}

static void apply(struct seat *seat, const struct message *message, uint64_t revision) {
    const struct place_instance by = at(message->by, message->by_inc), who = at(message->node, message->inc);
    struct place_table table = table_at(seat);
    switch (message->op) {
    case ADD:
        (void)place_table_add(&table, E, &by, 0, &who, message->kind);
        break;
    case DROP:
        (void)place_table_drop(&table, E, &who);
        break;
    case START:
        (void)place_table_start(&table, E, &by, &who);
        break;
    case COMMIT:
        (void)place_table_commit(&table, E, &by, revision);
        break;
    case ROLLBACK:
        (void)place_table_rollback(&table, E, &by);
        break;
    default:
        (void)place_table_gone(&table, E, &by, revision);
    }
    table_back(seat, &table);
}

static bool is_me(const struct world *world, uint32_t i, const struct place_instance *who) {
    const struct place_instance us = at(i + 1, world->seat[i].incarnation);
    return place_is(&us, who);
}

/* Whether node i's process takes itself for the endpoint. Before there is an entry it is at node 1, where its slot is. */
static bool believes(const struct world *world, uint32_t i) {
    const struct seat *seat = &world->seat[i];
    if (!seat->alive || !seat->up)
        return false;
    if (seat->place.endpoint)
        return is_me(world, i, &seat->place.primary);
    return i == 0 && seat->incarnation == 1 && !world->dead;
}

static void advance(struct world *world) {
    for (;;) { /* what all have applied is of the past */
        for (uint32_t i = 0; i < NODES; i++)
            if (world->seat[i].up && world->seat[i].taken == 0)
                return;
        memmove(&world->log[0], &world->log[1], sizeof world->log - sizeof world->log[0]);
        memset(&world->log[UNDER_WAY - 1], 0, sizeof world->log[0]);
        world->log_count--;
        for (uint32_t i = 0; i < NODES; i++)
            world->seat[i].taken -= world->seat[i].up;
    }
}

struct members {
    const struct world *world;
    uint32_t up;
};
static bool is_member(void *context, uint32_t node, int64_t incarnation) {
    const struct members *members = context;
    return members->up >> (node - 1) & 1 && members->world->seat[node - 1].incarnation == incarnation;
}

/* A view of the nodes in `up`: all take the state of one that has applied most, and survive. */
static void install(struct world *world, uint32_t up) {
    uint32_t best = NODES;
    for (uint32_t i = 0; i < NODES; i++)
        if (up >> i & 1 && world->seat[i].up && (best == NODES || world->seat[i].taken > world->seat[best].taken))
            best = i;
    assert_int_not_equal(best, NODES); /* two quorums share a node */
    struct seat newest = world->seat[best];
    struct members members = {world, up};
    bool had = newest.place.endpoint;
    struct place_table table = table_at(&newest);
    world->revision++;
    place_table_survive(&table, world->revision, is_member, &members);
    table_back(&newest, &table);
    if (had && !newest.place.endpoint && !(up & 1 && world->seat[0].incarnation == 1 && world->seat[0].alive))
        world->dead = 1;
    if (!had && !(up & 1)) /* it was where its slot is */
        world->dead = 1;
    world->view++;
    world->log_count = 0;
    memset(world->log, 0, sizeof world->log);
    for (uint32_t i = 0; i < NODES; i++) {
        world->seat[i].taken = 0;
        world->seat[i].up = up >> i & 1;
        if (world->seat[i].up)
            world->seat[i].place = newest.place;
    }
}

static void check(const struct world *world) {
    uint32_t primaries = 0, replicas = 0;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t k = 0; k < i; k++)
            if (world->seat[i].up && world->seat[k].up && world->seat[i].taken == world->seat[k].taken)
                assert_memory_equal(&world->seat[i].place, &world->seat[k].place, sizeof world->seat[i].place);
    /* A spare acts once all have applied its promotion, the old place gives up at once: so count where all agree, and else
     * whoever has been told: its own table says so, and for a promotion everybody's. */
    for (uint32_t i = 0; i < NODES; i++) {
        bool all = true;
        for (uint32_t k = 0; k < NODES && believes(world, i); k++)
            if (world->seat[k].up && world->seat[k].place.endpoint && !is_me(world, i, &world->seat[k].place.primary))
                all = false;
        bool was_before = true; /* it is the primary in the least advanced table, too: it has been it all the time */
        for (uint32_t k = 0; k < NODES; k++)
            if (world->seat[k].up && world->seat[k].taken == 0 && world->seat[k].place.endpoint &&
                !is_me(world, i, &world->seat[k].place.primary))
                was_before = false;
        primaries += believes(world, i) && (all || was_before);
    }
    assert_true(primaries <= 1);
    bool settled = world->log_count == 0;
    const struct place *place = NULL;
    for (uint32_t i = 0; i < NODES; i++)
        if (world->seat[i].up)
            place = &world->seat[i].place;
    if (!place || !settled)
        return;
    for (uint32_t i = 0; i < place->spare_count; i++)
        replicas += place->spares[i].kind == PLACE_REPLICA && world->seat[place->spares[i].who.node - 1].up;
    if (!place->endpoint)
        return;
    /* The primary and every spare are of the view; a move is to one of them. */
    assert_true(world->seat[place->primary.node - 1].up &&
                world->seat[place->primary.node - 1].incarnation == place->primary.incarnation);
    for (uint32_t i = 0; i < place->spare_count; i++)
        assert_true(world->seat[place->spares[i].who.node - 1].up);
    if (place->moving)
        assert_non_null(place_spare_find(place, &place->to));
    if (place->primary.node != 1)
        assert_true(place->moved > 0); /* who looks for a free slot finds the entry, and messages know the move */
    assert_true(replicas == 0 || place->endpoint);
}

static void ordered(const struct world *from, uint32_t depth, struct message message) {
    if (from->log_count == UNDER_WAY)
        return;
    struct world world = *from;
    message.view = world.view;
    world.log[world.log_count++] = message;
    world.begun++;
    visit(&world, depth);
}

static void proposals(const struct world *world, uint32_t depth) {
    for (uint32_t i = 0; i < NODES; i++) {
        const struct seat *seat = &world->seat[i];
        if (!seat->up)
            continue;
        struct message message = {.by = (uint8_t)(i + 1), .by_inc = seat->incarnation};
        bool primary = believes(world, i);
        for (uint32_t k = 0; primary && k < NODES; k++) {
            if (k == i || !world->seat[k].up)
                continue;
            message.node = (uint8_t)(k + 1);
            message.inc = world->seat[k].incarnation;
            for (message.kind = PLACE_BACKUP; world->seat[k].alive && message.kind <= PLACE_REPLICA; message.kind++) {
                message.op = ADD;
                ordered(world, depth, message);
            }
            message.kind = 0;
            message.op = START;
            ordered(world, depth, message);
        }
        message.node = message.inc = 0;
        for (message.op = COMMIT; primary && message.op <= ROLLBACK; message.op++)
            if (seat->place.moving)
                ordered(world, depth, message);
        message.op = GONE; /* its process has died */
        if (!seat->alive && seat->place.endpoint && is_me(world, i, &seat->place.primary))
            ordered(world, depth, message);
        message.op = DROP;
        message.node = (uint8_t)(i + 1);
        message.inc = seat->incarnation;
        const struct place_instance us = at(i + 1, seat->incarnation);
        if (!seat->alive && seat->place.endpoint && place_spare_find(&seat->place, &us))
            ordered(world, depth, message);
    }
}

static void deliveries(const struct world *from, uint32_t depth) {
    for (uint32_t i = 0; i < NODES; i++) {
        if (!from->seat[i].up || from->seat[i].taken == from->log_count)
            continue;
        struct world world = *from;
        struct seat *seat = &world.seat[i];
        bool had = seat->place.endpoint;
        apply(seat, &world.log[seat->taken], (uint64_t)world.revision + 1 + seat->taken);
        if (had && !seat->place.endpoint && world.log[seat->taken].op == GONE)
            world.dead = 1;
        seat->taken++;
        uint8_t before = world.log_count;
        advance(&world);
        world.revision += before - world.log_count;
        visit(&world, depth);
    }
}

static void mishaps(const struct world *from, uint32_t depth) {
    for (uint32_t i = 0; i < NODES; i++) {
        struct world world = *from;
        uint32_t up = 0;
        for (uint32_t k = 0; k < NODES; k++)
            up |= (uint32_t)world.seat[k].up << k;
        if (world.seat[i].alive) { /* its process dies */
            world.seat[i].alive = 0;
            visit(&world, depth);
            world = *from;
        }
        if (up == 7) { /* it is cut off: the others go on, it changes nothing more, and is another when it comes back */
            struct place before = world.seat[i].place;
            world.seat[i].up = 0;
            world.seat[i].alive = 0;
            world.seat[i].taken = 0;
            install(&world, up & ~(1u << i));
            assert_memory_equal(&before, &world.seat[i].place, sizeof before); /* a minority changes nothing */
            visit(&world, depth);
        } else if (!(up >> i & 1) && world.seat[i].incarnation < 2) { /* and comes back */
            world.seat[i].incarnation++;
            world.seat[i].alive = 1;
            install(&world, 7);
            visit(&world, depth);
        }
    }
}

/* Nothing new is begun: the dead are taken out, all is delivered, and a move that goes on has both its parties. */
static void check_ends(struct world world) {
    for (int round = 0; round < 6; round++) {
        for (uint32_t i = 0; i < NODES; i++)
            while (world.seat[i].up && world.seat[i].taken < world.log_count) {
                struct seat *seat = &world.seat[i];
                apply(seat, &world.log[seat->taken], (uint64_t)world.revision + 1 + seat->taken);
                seat->taken++;
            }
        world.revision += world.log_count;
        world.log_count = 0;
        for (uint32_t i = 0; i < NODES; i++)
            world.seat[i].taken = 0;
        for (uint32_t i = 0; i < NODES && world.log_count < UNDER_WAY; i++) {
            struct seat *seat = &world.seat[i];
            const struct place_instance us = at(i + 1, seat->incarnation);
            struct message end = {.node = (uint8_t)(i + 1), .inc = seat->incarnation, .by = (uint8_t)(i + 1), .by_inc = seat->incarnation};
            if (!seat->up || seat->alive || !seat->place.endpoint)
                continue;
            end.op = is_me(&world, i, &seat->place.primary) ? GONE : DROP;
            if (end.op == GONE || place_spare_find(&seat->place, &us))
                world.log[world.log_count++] = end;
        }
    }
    for (uint32_t i = 0; i < NODES; i++) {
        const struct place *place = &world.seat[i].place;
        if (!world.seat[i].up || !place->endpoint)
            continue;
        assert_true(world.seat[place->primary.node - 1].alive);
        if (place->moving)
            assert_true(world.seat[place->to.node - 1].alive);
        for (uint32_t k = 0; k < place->spare_count; k++)
            assert_true(world.seat[place->spares[k].who.node - 1].alive);
    }
}

static void test_all_orders(void **state) {
    const char *wanted = getenv("PLACES_DEPTH");
    uint32_t depth = wanted ? (uint32_t)atoi(wanted) : 7;
    struct world start;
    memset(&start, 0, sizeof start);
    for (uint32_t i = 0; i < NODES; i++)
        start.seat[i].incarnation = start.seat[i].up = start.seat[i].alive = 1;
    visit(&start, 0);
    uint32_t moves = 0, promoted = 0, deaths = 0;
    for (uint32_t i = 0; i < world_count; i++) {
        const struct found found = worlds[i];
        check(&found.world);
        check_ends(found.world);
        moves += found.world.seat[0].place.moving;
        promoted += found.world.seat[0].place.moved != 0;
        deaths += found.world.dead;
        if (found.depth == depth)
            continue;
        proposals(&found.world, found.depth + 1);
        deliveries(&found.world, found.depth + 1);
        mishaps(&found.world, found.depth + 1);
    }
    print_message("%u states to depth %u: %u with a move under way, %u after one, %u in which the endpoint is dead\n", world_count,
                  depth, moves, promoted, deaths);
    assert_true(moves && promoted && deaths);
    free(worlds);
    free(table_of);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_losses), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_all_orders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
