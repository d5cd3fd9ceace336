/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of user slots: the table alone, and three nodes with the real slot_agent.c, replica.c and config*.c over a
 * simulated group (played_group.h) with partitions, merges, crashes and restarts in an order that a seed repeats.
 * Beside them stands a model of those who use slots: processes that are forked, move between nodes and end, and a user that
 * answers what it can spare late.
 *
 * Checked after every step: no two nodes of the same view own a set; none is owned by a node outside of the view; no number is bound twice within a view; nodes at
 * the same version have the same table; nothing changes at a node whose last view was no quorum. Checked at the end, with all nodes
 * back: every want ended, every donation was settled, all tables are the same, every set has an owner that is a node
 * of the DC or none, and a node can fork again: nothing is lost for ever.
 *
 * This is a random search, not a proof: it walks SLOTS_RUNS orders (more with the environment variable of that name).
 * Not in it: pm (tests/unit/pm) and time limits (slots.c).
 */
#include "check.h"

#include "common/cleanup.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "dvkd/slot_agent.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

static struct slot_table table_of(const char *text) {
    struct slot_table table;
    assert_int_equal(slot_table_from_text(&table, text), 0);
    return table;
}

static void check_text(struct slot_table *table, const char *text) {
    cleanup_free char *is = slot_table_to_text(table);
    assert_string_equal(is, text);
    slot_table_free(table);
}

static void test_init(void **state) {
    const uint32_t nodes[] = {2, 5, 9};
    struct slot_table table;
    assert_int_equal(slot_table_init(&table, nodes, 3, 0, 0), 0);
    check_text(&table, "16384 1+85=2 86+85=5 171+85=9");
    assert_int_equal(slot_table_init(&table, nodes, 1, 0, 0), 0);
    check_text(&table, "16384 1+16383=2");
    assert_int_equal(slot_table_init(&table, nodes, 3, 8, 1), 0);
    check_text(&table, "8 1+1=2 2+1=5 3+1=9");
    assert_int_equal(slot_table_init(&table, nodes, 3, 3, 0), 0); /* not enough for all */
    check_text(&table, "3 1+1=2 2+1=5");
    assert_int_equal(slot_table_init(&table, nodes, 3, 1, 0), -EINVAL);
    uint32_t many[DVK_MAX_NODE];
    for (uint32_t i = 0; i < DVK_MAX_NODE; i++)
        many[i] = i + 1;
    assert_int_equal(slot_table_init(&table, many, DVK_MAX_NODE, 0, 0), 0);
    for (uint32_t i = 1; i <= DVK_MAX_NODE; i++)
        assert_int_equal(slot_table_count(&table, i, SLOT_SETS_MAX), 1);
    slot_table_free(&table);
}

static void test_owner_and_count(void **state) {
    struct slot_table table = table_of("16 1+3=1 6+2=2 8+1=1");
    const uint32_t owners[16] = {0, 1, 1, 1, 0, 0, 2, 2, 1};
    for (uint32_t set = 0; set < 16; set++)
        assert_int_equal(slot_table_owner(&table, set), owners[set]);
    assert_int_equal(slot_table_count(&table, 1, 16), 4);
    assert_int_equal(slot_table_count(&table, 1, 3), 2);
    assert_int_equal(slot_table_count(&table, 2, 7), 1);
    assert_int_equal(slot_table_count(&table, 0, 16), 9);
    assert_int_equal(slot_table_count(&table, 0, 5), 1);
    assert_int_equal(slot_table_count(&table, 0, 99999), 9);
    slot_table_free(&table);
}

static void test_take(void **state) {
    struct slot_table table = table_of("13 1+1=1 2+1=2 3+1=3");
    assert_int_equal(slot_table_take(&table, 1, 3, 2, 13), 2);
    assert_int_equal(slot_table_take(&table, 1, 3, 9, 13), 4); /* beyond its share of 4: half of 7 */
    assert_int_equal(slot_table_take(&table, 2, 3, 9, 13), 3); /* the rest */
    assert_int_equal(slot_table_take(&table, 3, 3, 9, 13), -ENOSPC);
    check_text(&table, "13 1+1=1 2+1=2 3+1=3 4+6=1 10+3=2");
    table = table_of("13 1+1=1");
    assert_int_equal(slot_table_take(&table, 2, 3, 9, 3), 1); /* nothing at or above `below` */
    assert_int_equal(slot_table_take(&table, 2, 3, 9, 3), -ENOSPC);
    assert_int_equal(slot_table_take(&table, 0, 3, 1, 13), -EINVAL);
    check_text(&table, "13 1+1=1 2+1=2");
}

static void test_give(void **state) {
    struct slot_table table = table_of("13 1+6=1 7+1=2");
    assert_int_equal(slot_table_give(&table, 1, 2, "2+2 6+1"), 0);
    assert_int_equal(slot_table_give(&table, 1, 2, "1+2"), -EPERM); /* all or nothing */
    assert_int_equal(slot_table_give(&table, 2, 1, "12+1"), -EPERM);
    assert_int_equal(slot_table_give(&table, 2, 1, "12+9"), -EPERM);
    const char *const wrong[] = {"", "0+1", "1", "1+", "1+0", "a", "1+1 ", " 1+1", "1+1,2+1", "1+16384", "16384+1", "99999999999+1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(slot_table_give(&table, 1, 2, wrong[i]), -EINVAL);
    assert_int_equal(slot_table_give(&table, 1, 1, "1+1"), -EINVAL);
    check_text(&table, "13 1+1=1 2+2=2 4+2=1 6+2=2");
}

static bool is_not_two(const void *context, uint32_t node) { return node != 2; }
static bool is_none(const void *context, uint32_t node) { return false; }

static void test_survive(void **state) {
    const uint32_t nodes[] = {1, 2, 3};
    struct slot_table table = table_of("13 1+2=1 3+5=2 9+1=2");
    assert_true(slot_table_survive(&table, nodes, 3, is_not_two, NULL));
    assert_false(slot_table_survive(&table, nodes, 3, is_not_two, NULL));
    assert_false(slot_table_survive(&table, nodes, 3, is_none, NULL)); /* nobody is left to have them */
    check_text(&table, "13 1+5=1 6+2=3 9+1=1");
    table = table_of("13 1+12=2");
    assert_false(slot_table_survive(&table, nodes + 1, 1, is_not_two, NULL));
    check_text(&table, "13 1+12=2");
}

static void test_wrong_texts(void **state) {
    const char *const wrong[] = {"", "1", "16385", "x", "8 ", "8 1+1", "8 1+1=", "8 1+1=0", "8 1+1=385", "8 7+2=1", "8 0+1=1",
                                 "8 2+1=1 1+1=1", "8 1+2=1 2+1=2", "8 1+1=1  2+1=1", "8 1+1=1\n"};
    struct slot_table table;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(slot_table_from_text(&table, wrong[i]), -EINVAL);
    assert_int_equal(slot_table_from_text(&table, NULL), -EINVAL);
}

/* ---- the cluster ---- */

#define NODES 3
#define SETS 9         /* 1..8 */
#define SLOTS_A_SET 3u /* of the model's */
#define STEPS 3000

struct node {
    uint32_t id, pid;
    bool running, last_view_quorate;
    int group;
    struct replica *replica;
    struct slot_agent *agent;
    struct config *disk;
    struct list inbox, outbox;
    char *table; /* as of the last step */
    /* the user of slots */
    bool process[SETS][SLOTS_A_SET]; /* runs here */
    bool offered[SETS];
    bool choosing; /* has been asked, and not answered */
    uint32_t choose_want;
    bool wanted; /* a want of ours is under way */
    unsigned waiting; /* forks */
};

#define NODES_MAX NODES
static struct node nodes[NODES_MAX + 1];
static const unsigned node_count = NODES;

#include "played_group.h"

static struct loop *loop;
static uint32_t dc; /* 0: not yet */
static struct version {
    uint64_t number;
    char *text;
} versions[8192];
static unsigned version_count;
static unsigned bound, refused, gives, takes;

static const struct config_dc *dc_at(const struct node *node) {
    return dc ? replica_config(node->replica)->dcs[dc] : NULL;
}

static void port_changed(void *context, const struct config_effect *effect) {
    struct node *node = context;
    if (effect && effect->slots_from)
        gives++;
    else if (effect && effect->slots_to)
        takes++;
    slot_agent_changed(node->agent, effect);
}
static void port_node(void *context, uint32_t id, bool up) {}
static void port_quorum(void *context, bool quorate) {
    struct node *node = context;
    if (!quorate)
        memset(node->process, 0, sizeof node->process); /* its cells are cut */
    slot_agent_quorum(node->agent, quorate);
}
static void port_excluded(void *context) { fail_msg("nobody is silent here"); }
static void port_broken(void *context) { fail_msg("the configuration is broken"); }
static void port_cast(void *context, uint32_t from, const json_t *payload) {
    slot_agent_cast(((struct node *)context)->agent, from, payload);
}

/* ---- the user of slots on a node ---- */

static bool same_view(const struct node *a, const struct node *b) {
    return a->running && b->running && replica_state(a->replica) == REPLICA_SYNCED &&
           replica_state(b->replica) == REPLICA_SYNCED && replica_config(a->replica)->view == replica_config(b->replica)->view;
}

/* What a sweep finds: all nodes that are up must be able to say, and know of the change that made the set ours. */
static bool slot_is_free(const struct node *node, uint32_t set, uint32_t slot) {
    for (int i = 1; i <= NODES; i++) {
        const struct node *other = &nodes[i];
        if (other != node && !replica_node_is_up(node->replica, other->id))
            continue;
        if (other != node && (!same_view(node, other) || dc_at(other)->slots_version < dc_at(node)->slots_version))
            return false;
        if (other->process[set][slot])
            return false;
    }
    return true;
}

static bool try_bind(struct node *node) {
    if (!replica_is_quorate(node->replica) || !dc_at(node))
        return false;
    for (uint32_t set = 1; set < SETS; set++) {
        if (!slot_agent_is_ours(node->agent, dc, set) || node->offered[set])
            continue;
        for (uint32_t slot = 0; slot < SLOTS_A_SET; slot++) {
            if (!slot_is_free(node, set, slot))
                continue;
            for (int i = 1; i <= NODES; i++)
                assert_false(same_view(node, &nodes[i]) && nodes[i].process[set][slot]); /* bound twice */
            node->process[set][slot] = true;
            bound++;
            return true;
        }
    }
    return false;
}

static void serve_forks(struct node *node) {
    while (node->waiting && try_bind(node))
        node->waiting--;
    if (node->waiting && !node->wanted)
        node->wanted = slot_agent_want(node->agent, dc, 2, SETS);
    if (node->waiting && !node->wanted) { /* there is no such DC here */
        refused += node->waiting;
        node->waiting = 0;
    }
}

static void user_ended(void *context, uint32_t id, int status) {
    struct node *node = context;
    assert_true(node->wanted); /* told once only */
    node->wanted = false;
    if (status < 0) { /* pm would ask again until its time is over */
        refused += node->waiting;
        node->waiting = 0;
    }
}

static void user_choose(void *context, uint32_t id, uint32_t want, uint32_t below) {
    struct node *node = context;
    assert_false(node->choosing);
    node->choosing = true;
    node->choose_want = want;
}

static void user_answer(struct node *node) {
    uint16_t sets[SETS];
    uint32_t count = 0;
    if (!node->choosing)
        return;
    node->choosing = false;
    for (uint16_t set = 1; set < SETS && count < node->choose_want; set++) {
        bool busy = !slot_agent_is_ours(node->agent, dc, set);
        for (uint32_t slot = 0; slot < SLOTS_A_SET; slot++)
            busy |= node->process[set][slot]; /* what moved elsewhere keeps nobody from giving */
        if (busy || node->waiting)
            continue;
        node->offered[set] = true;
        sets[count++] = set;
    }
    slot_agent_offer(node->agent, dc, sets, count);
}

static void user_settled(void *context, uint32_t id) {
    struct node *node = context;
    memset(node->offered, 0, sizeof node->offered);
}

static uint32_t user_generation(void *context, uint32_t id) { return 7; }

/* ---- nodes and the group ---- */

static void node_start(struct node *node) {
    struct config_node self = {.id = node->id, .cpus = 1};
    snprintf(self.name, sizeof self.name, "n%u", node->id);
    struct replica_port port = {.context = node, .send = port_send, .changed = port_changed, .node = port_node, .quorum = port_quorum,
                                .excluded = port_excluded, .broken = port_broken, .cast = port_cast};
    struct slot_agent_port agent_port = {node, user_choose, user_settled, user_ended, user_generation};
    struct config *config = node->disk ? node->disk : config_new();
    node->disk = NULL;
    node->pid++;
    assert_int_equal(replica_create(loop, NULL, config, &self, &port, &node->replica), 0);
    assert_int_equal(slot_agent_create(node->replica, node->id, &agent_port, &node->agent), 0);
    node->running = true;
    node->last_view_quorate = false;
}

static void node_stop(struct node *node) {
    cleanup_json json_t *disk = config_to_json(replica_config(node->replica));
    assert_int_equal(config_from_json(disk, &node->disk), 0);
    node->disk->promised = replica_config(node->replica)->promised;
    replica_destroy(node->replica);
    slot_agent_destroy(node->agent);
    node->replica = NULL;
    node->agent = NULL;
    node->running = false;
    memset(node->process, 0, sizeof node->process);
    memset(node->offered, 0, sizeof node->offered);
    node->choosing = node->wanted = false;
    node->waiting = 0;
    group_forget(node);
}

/* deliver_one, and remember what the last view was. */
static void deliver(struct node *node) {
    const struct event *event = list_first(&node->inbox, struct event, link);
    if (event && node->running && event->view)
        node->last_view_quorate = event->quorate;
    deliver_one(node);
}

/* ---- what must hold ---- */

static void check_version(const struct config_dc *at, const char *text) {
    if (!at->slots_version)
        return; /* as it was read from the disk */
    for (unsigned i = 0; i < version_count; i++)
        if (versions[i].number == at->slots_version) {
            assert_string_equal(versions[i].text, text);
            return;
        }
    assert_in_range(version_count, 0, sizeof versions / sizeof *versions - 1);
    versions[version_count++] = (struct version){at->slots_version, strdup(text)};
}

static void check_node(struct node *node) {
    const struct config_dc *at = node->running ? dc_at(node) : NULL;
    if (!at)
        return;
    char *text = slot_table_to_text(&at->slots);
    check_version(at, text);
    if (node->table && strcmp(node->table, text) != 0)
        assert_true(node->last_view_quorate);
    free(node->table);
    node->table = text;
    for (uint32_t i = 0; replica_state(node->replica) == REPLICA_SYNCED && i < at->slots.run_count; i++)
        assert_true(replica_node_is_up(node->replica, at->slots.runs[i].owner)); /* nothing stays with, or goes to, a lost node */
    for (int i = 1; i <= NODES; i++)
        for (uint32_t set = 1; set < SETS && node < &nodes[i] && same_view(node, &nodes[i]); set++)
            assert_false(slot_agent_is_ours(node->agent, dc, set) && slot_agent_is_ours(nodes[i].agent, dc, set));
}

static void check_all(void) {
    for (int i = 1; i <= NODES; i++)
        check_node(&nodes[i]);
}

static void check_end(void) {
    uint64_t digest = config_digest(replica_config(nodes[1].replica));
    for (int i = 1; i <= NODES; i++) {
        struct node *node = &nodes[i];
        const struct config_dc *at = dc_at(node);
        assert_int_equal(replica_state(node->replica), REPLICA_SYNCED);
        assert_true(config_digest(replica_config(node->replica)) == digest);
        assert_false(node->wanted || node->waiting);
        for (uint32_t set = 1; set < SETS; set++) {
            assert_false(node->offered[set]);
            uint32_t owner = slot_table_owner(&at->slots, set);
            assert_in_range(owner, 0, NODES);
            if (owner == node->id)
                assert_true(slot_agent_is_ours(node->agent, dc, set)); /* on its way to nobody */
        }
    }
}

static void settle(void) {
    for (int quiet = 0; quiet < 3;) {
        bool busy = false;
        for (int i = 1; i <= NODES; i++) {
            struct node *node = &nodes[i];
            busy |= !list_empty(&node->inbox) || !list_empty(&node->outbox) || node->choosing;
            order_one(node);
            deliver(node);
            user_answer(node);
            serve_forks(node);
        }
        assert_int_equal(loop_step(loop, 0), 0);
        check_all();
        quiet = busy ? 0 : quiet + 1;
    }
}

static void create_dc(void) {
    cleanup_json json_t *change = json_pack(
        "{s:s, s:s, s:[i,i,i], s:i, s:i, s:{s:s, s:s, s:[s]}, s:{s:i, s:i}}", "op", "dc-create", "name", "x", "nodes", 1, 2, 3,
        "primary", 1, "created", 1, "spec", "image", "host", "place", "local", "argv", "x", "slots", "sets", SETS, "share", 2);
    replica_propose(nodes[1].replica, change, NULL, NULL);
    settle();
    struct config_dc *made = config_dc_by_name(replica_config(nodes[2].replica), "x");
    assert_non_null(made);
    dc = made->id;
}

static void process_turn(struct node *node) {
    uint32_t set = (uint32_t)random() % SETS, slot = (uint32_t)random() % SLOTS_A_SET;
    struct node *other = &nodes[random() % NODES + 1];
    if (!node->process[set][slot])
        return;
    if (random() % 3) {
        node->process[set][slot] = false; /* it ends */
    } else if (other != node && same_view(node, other) && replica_node_is_up(node->replica, other->id)) {
        assert_false(other->process[set][slot]);
        node->process[set][slot] = false; /* it moves, and keeps its number */
        other->process[set][slot] = true;
    }
}

static void random_step(int groups[NODES + 1], int members[NODES + 1]) {
    struct node *node = &nodes[random() % NODES + 1];
    long what = random() % 1000;
    if (what < 380) {
        deliver(node);
    } else if (what < 680) {
        if (node->running)
            order_one(node);
    } else if (what < 800) {
        if (node->running && node->waiting < 4 && (node->id != 2 || random() % 8 == 0)) { /* 2 has few of its own */
            node->waiting++;
            serve_forks(node);
        }
    } else if (what < 870) {
        process_turn(node);
    } else if (what < 930) {
        if (node->running) {
            user_answer(node);
            serve_forks(node);
        }
    } else if (what < 970) {
        assert_int_equal(loop_step(loop, 0), 0);
    } else if (what < 975) {
        for (int i = 1; i <= NODES; i++)
            groups[i] = random() % 3 ? 0 : (int)(random() % 3);
        regroup(groups, members);
    } else if (what < 978) {
        if (node->running) {
            node_stop(node);
        } else {
            node_start(node);
            members[node->id] = 0;
        }
        regroup(groups, members);
    }
}

/* With all nodes back, who has no slot left gets one when the others' processes have ended. */
static void check_recovery(void) {
    for (int i = 1; i <= NODES; i++)
        memset(nodes[i].process, 0, sizeof nodes[i].process);
    for (int i = 1; i <= NODES; i++) {
        unsigned before = bound;
        nodes[i].waiting = 1;
        serve_forks(&nodes[i]);
        settle();
        assert_int_equal(bound, before + 1);
    }
    check_end();
}

static void simulate(unsigned seed) {
    int groups[NODES + 1] = {0}, members[NODES + 1] = {0};
    srandom(seed);
    dc = 0;
    version_count = 0;
    assert_int_equal(loop_create(&loop), 0);
    for (uint32_t i = 1; i <= NODES; i++) {
        nodes[i] = (struct node){.id = i, .pid = 10};
        list_init(&nodes[i].inbox);
        list_init(&nodes[i].outbox);
        node_start(&nodes[i]);
    }
    regroup(groups, members);
    settle();
    create_dc();
    for (int step = 0; step < STEPS; step++) {
        random_step(groups, members);
        check_all();
    }
    memset(groups, 0, sizeof groups);
    for (int i = 1; i <= NODES; i++)
        if (!nodes[i].running) {
            node_start(&nodes[i]);
            members[i] = 0;
        }
    regroup(groups, members);
    settle();
    check_end();
    check_recovery();
    for (int i = 1; i <= NODES; i++) {
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
        free(nodes[i].table);
    }
    for (unsigned i = 0; i < version_count; i++)
        free(versions[i].text);
    loop_destroy(loop);
}

static void test_cluster(void **state) {
    const char *text = getenv("SLOTS_RUNS"), *first = getenv("SLOTS_SEED");
    unsigned runs = text ? (unsigned)atoi(text) : 60, seed = first ? (unsigned)atoi(first) : 1;
    setenv("DVS_LOG", "error", 0);
    log_init("test");
    bound = refused = gives = takes = 0;
    for (unsigned i = 0; i < runs; i++) {
        if (text)
            fprintf(stderr, "seed %u\n", seed + i);
        simulate(seed + i);
    }
    if (text)
        fprintf(stderr, "bound %u, refused %u, taken %u times, given %u times\n", bound, refused, takes, gives);
    /* the runs did something */
    assert_true(bound > 20 * runs);
    assert_true(runs < 10 || (gives > runs / 2 && takes > runs && refused > 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_init),    cmocka_unit_test(test_owner_and_count),
                                       cmocka_unit_test(test_take),    cmocka_unit_test(test_give),
                                       cmocka_unit_test(test_survive), cmocka_unit_test(test_wrong_texts),
                                       cmocka_unit_test(test_cluster)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
