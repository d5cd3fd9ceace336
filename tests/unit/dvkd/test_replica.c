/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas over a simulated group (played_group.h): partitions, crashes and restarts in a random order that a seed repeats.
 */
#include "check.h"

#include "common/cleanup.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "dvkd/replica.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 5

struct node {
    uint32_t id, pid;
    bool running;
    int group;
    struct replica *replica;
    struct config *disk; /* what a stopped one has */
    struct list inbox;   /* ordered, not yet seen */
    struct list outbox;  /* sent, not yet ordered */
    bool told_up[NODES_MAX + 1], told_quorum;
    unsigned quorum_losses;
};

static struct node nodes[NODES_MAX + 1];
static unsigned node_count;

#include "played_group.h"
static struct loop *loop;
static unsigned proposed, answered;
static bool acknowledged[4096];

static bool proposes_in_new_view;
static void propose(struct node *node, const char *name);

static void port_changed(void *context, const struct config_effect *effect) {
    if (!effect && proposes_in_new_view)
        propose(context, "");
}
static void port_node(void *context, uint32_t id, bool up) {
    struct node *node = context;
    assert_int_not_equal(id, node->id);
    assert_int_not_equal(node->told_up[id], up); /* told of changes only */
    node->told_up[id] = up;
    assert_int_equal(replica_node_is_up(node->replica, id), up);
}
static void port_quorum(void *context, bool quorate) {
    struct node *node = context;
    assert_int_not_equal(node->told_quorum, quorate);
    node->told_quorum = quorate;
    node->quorum_losses += !quorate;
}
static void port_excluded(void *context) { fail_msg("nobody is silent here"); }
static void port_broken(void *context) { fail_msg("the configuration is broken"); }

static void node_start(struct node *node) {
    struct config_node self = {.id = node->id, .cpus = 1};
    snprintf(self.name, sizeof self.name, "n%u", node->id);
    struct replica_port port = {node, port_send, port_changed, port_node, port_quorum, port_excluded, port_broken};
    struct config *config = node->disk ? node->disk : config_new();
    node->disk = NULL;
    memset(node->told_up, 0, sizeof node->told_up);
    node->told_quorum = false;
    node->pid++;
    assert_int_equal(replica_create(loop, NULL, config, &self, &port, &node->replica), 0);
    node->running = true;
}

static void node_stop(struct node *node) {
    cleanup_json json_t *disk = config_to_json(replica_config(node->replica));
    assert_int_equal(config_from_json(disk, &node->disk), 0);
    node->disk->promised = replica_config(node->replica)->promised;
    replica_destroy(node->replica);
    node->replica = NULL;
    node->running = false;
    group_forget(node);
}

static void on_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    answered++;
    if (status == 0)
        acknowledged[(uintptr_t)context] = true;
}

static void propose(struct node *node, const char *name) {
    cleanup_json json_t *change = json_pack("{s:s, s:s, s:[i], s:i, s:i, s:{s:s, s:s, s:[s]}}", "op", "dc-create",
                                            "name", "", "nodes", 1, "primary", 1, "created", 1, "spec", "image",
                                            "host", "place", "local", "argv", "x");
    char chosen[16];
    snprintf(chosen, sizeof chosen, "p%u", proposed);
    json_object_set_new(change, "name", json_string(name ? name : chosen));
    replica_propose(node->replica, change, on_done, (void *)(uintptr_t)proposed);
    proposed++;
}

static void settle(void) {
    for (int quiet = 0; quiet < 3;) {
        bool busy = false;
        for (unsigned i = 1; i <= node_count; i++) {
            if (nodes[i].running) { /* what waits for one that stands still waits on */
                busy |= !list_empty(&nodes[i].inbox) || !list_empty(&nodes[i].outbox);
                order_one(&nodes[i]);
                deliver_one(&nodes[i]);
            }
        }
        assert_int_equal(loop_step(loop, 0), 0);
        quiet = busy ? 0 : quiet + 1;
    }
}

static void simulate(unsigned seed, unsigned count, bool alone_deliveries, bool crashes) {
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    srandom(seed);
    node_count = count;
    self_delivery = alone_deliveries;
    proposed = answered = 0;
    memset(acknowledged, 0, sizeof acknowledged);
    assert_int_equal(loop_create(&loop), 0);
    for (unsigned i = 1; i <= count; i++) {
        nodes[i] = (struct node){.id = i, .pid = 10};
        list_init(&nodes[i].inbox);
        list_init(&nodes[i].outbox);
        node_start(&nodes[i]);
    }
    regroup(groups, members);
    for (int step = 0; step < 1200; step++) {
        struct node *node = &nodes[random() % count + 1];
        long what = random() % 100;
        if (what < 45)
            deliver_one(node);
        else if (what < 80 && node->running)
            order_one(node);
        else if (what < 90 && node->running && proposed < ARRAY_LENGTH(acknowledged))
            propose(node, NULL);
        else if (what < 94)
            assert_int_equal(loop_step(loop, 0), 0);
        else if (what < 97) {
            for (unsigned i = 1; i <= count; i++)
                groups[i] = random() % 3 ? 0 : (int)(random() % 3);
            regroup(groups, members);
        } else if (crashes && what < 98) {
            if (node->running) {
                node_stop(node);
                regroup(groups, members); /* the others see it leave before it can come back */
            } else {
                node_start(node);
                members[node->id] = 0;
                regroup(groups, members);
            }
        }
    }
    /* all well again: everyone must agree, and nothing that was acknowledged may be missing */
    memset(groups, 0, sizeof groups);
    for (unsigned i = 1; i <= count; i++)
        if (!nodes[i].running) {
            node_start(&nodes[i]);
            members[i] = 0;
        }
    regroup(groups, members);
    settle();
    uint64_t digest = config_digest(replica_config(nodes[1].replica));
    for (unsigned i = 1; i <= count; i++) {
        assert_int_equal(replica_state(nodes[i].replica), REPLICA_SYNCED);
        assert_true(config_digest(replica_config(nodes[i].replica)) == digest);
        for (unsigned k = 1; k <= count; k++)
            assert_true(replica_node_is_up(nodes[i].replica, k));
    }
    if (!crashes)
        assert_int_equal(answered, proposed);
    for (unsigned i = 0; i < proposed; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        if (acknowledged[i] && !config_dc_by_name(replica_config(nodes[1].replica), name))
            fail_msg("seed %u: change %u was acknowledged and is lost", seed, i);
    }
    for (unsigned i = 1; i <= count; i++) {
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

static void partitions_heal(void **state) {
    for (unsigned seed = 1; seed <= 60; seed++)
        simulate(seed, seed % 2 ? 3 : 5, false, false);
}
static void crashes_heal(void **state) {
    for (unsigned seed = 100; seed <= 160; seed++)
        simulate(seed, seed % 2 ? 3 : 5, false, true);
}
static void what_a_cut_off_node_saw_alone_does_not_split_the_others(void **state) {
    for (unsigned seed = 200; seed <= 260; seed++)
        simulate(seed, seed % 2 ? 3 : 5, true, true);
}

static void one_node_alone_needs_nobody(void **state) {
    simulate(1, 1, false, false);
    assert_true(answered > 10);
}

/* Three nodes that have not seen each other yet. */
static void three_start(void) {
    node_count = 3;
    self_delivery = false;
    proposed = answered = 0;
    memset(acknowledged, 0, sizeof acknowledged);
    assert_int_equal(loop_create(&loop), 0);
    for (unsigned i = 1; i <= 3; i++) {
        nodes[i] = (struct node){.id = i, .pid = 10};
        list_init(&nodes[i].inbox);
        list_init(&nodes[i].outbox);
        node_start(&nodes[i]);
    }
}

static void nothing_is_applied_without_quorum(void **state) {
    int groups[NODES_MAX + 1] = {0, 0, 0, 1}, members[NODES_MAX + 1] = {0};
    three_start();
    regroup(groups, members);
    settle();
    propose(&nodes[3], NULL);
    propose(&nodes[1], NULL);
    settle();
    assert_int_equal(answered, 2);
    assert_false(acknowledged[0]);
    assert_true(acknowledged[1]);
    assert_false(replica_is_quorate(nodes[3].replica));
    assert_false(replica_node_is_up(nodes[3].replica, 1));
    assert_true(replica_node_is_up(nodes[1].replica, 2));
    assert_false(replica_node_is_up(nodes[1].replica, 3));
    assert_int_equal(replica_config(nodes[3].replica)->epoch, 0);
    for (unsigned i = 1; i <= 3; i++) {
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

/* One that stood still while the others went on finds itself among them again at once: it hears of its own loss together with
 * their return, and of a quorum that it had. */
static void who_was_given_up_finds_out(void **state) {
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    three_start();
    regroup(groups, members);
    settle();
    assert_true(nodes[3].told_quorum);
    groups[3] = 1;
    regroup(groups, members);
    list_first(&nodes[3].inbox, struct event, link)->quorate = true;
    nodes[3].running = false;
    settle();
    assert_false(replica_node_is_up(nodes[1].replica, 3));
    nodes[3].running = true;
    groups[3] = 0;
    regroup(groups, members);
    settle();
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(nodes[i].told_quorum);
        assert_int_equal(nodes[i].quorum_losses, i == 3);
        assert_int_equal(replica_config(nodes[i].replica)->view, 3);
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

/* What is proposed by one who is told of a view goes out once, not once more with what waited for the view. */
static void what_is_proposed_on_a_new_view_is_applied_once(void **state) {
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    three_start();
    proposes_in_new_view = true;
    regroup(groups, members);
    settle();
    proposes_in_new_view = false;
    assert_int_equal(proposed, 3);
    assert_int_equal(answered, 3);
    assert_int_equal(replica_config(nodes[1].replica)->epoch, 1 + 3); /* the view and the changes */
    for (unsigned i = 1; i <= 3; i++) {
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

static void on_created(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    *(uint32_t *)context = status == 0 ? effect->dc : 0;
}

/* A container's life, as dvs run --rm proposes it on node 1. */
static void live_and_go(void) {
    uint32_t dc = 0;
    cleanup_json json_t *create = json_pack("{s:s, s:s, s:[i,i,i], s:i, s:i, s:{s:s, s:s, s:[s]}}", "op", "dc-create",
                                            "name", "", "nodes", 1, 2, 3, "primary", 1, "created", 1, "spec", "image",
                                            "host", "place", "local", "argv", "x");
    replica_propose(nodes[1].replica, create, on_created, &dc);
    settle();
    assert_int_not_equal(dc, 0);
    json_int_t serial = (json_int_t)replica_config(nodes[1].replica)->dcs[dc]->serial;
    static const char *const states[] = {"running", "exited"};
    for (int i = 0; i < 2; i++) {
        cleanup_json json_t *change = json_pack("{s:s, s:I, s:I, s:s}", "op", "dc-state", "dc", (json_int_t)dc, "serial",
                                                serial, "state", states[i]);
        replica_propose(nodes[1].replica, change, NULL, NULL);
    }
    cleanup_json json_t *gone =
        json_pack("{s:s, s:I, s:I, s:b}", "op", "dc-remove", "dc", (json_int_t)dc, "serial", serial, "force", 1);
    replica_propose(nodes[1].replica, gone, NULL, NULL);
    settle();
    for (unsigned i = 1; i <= node_count; i++)
        assert_null(replica_config(nodes[i].replica)->dcs[dc]);
}

static void a_removed_container_leaves_nothing_in_memory(void **state) {
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    three_start();
    regroup(groups, members);
    settle();
    for (int i = 0; i < 100; i++)
        live_and_go();
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 1000; i++)
        live_and_go();
    size_t after = mallinfo2().uordblks;
    /* what malloc keeps ready of freed pieces counts as used */
    if (after > before + 16384)
        fail_msg("1000 containers left %zu bytes on three nodes", after - before);
    for (unsigned i = 1; i <= 3; i++) {
        node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

static void garbage_is_dropped(void **state) {
    static const char *const texts[] = {
        "", "x", "[]", "{}", "{\"type\": 1}", "{\"version\": 1, \"type\": \"hello\"}",
        "{\"version\": 1, \"type\": \"start\", \"members\": [1, 11], \"round\": \"x\"}",
        "{\"version\": 1, \"type\": \"hello\", \"round\": \"x\"}",
        "{\"version\": 1, \"type\": \"snapshot\", \"members\": [1, 11], \"last\": true}",
        "{\"version\": 1, \"type\": \"change\", \"view\": 1, \"sequence\": 1, \"change\": []}",
        "{\"version\": 1, \"type\": \"change\", \"view\": 1, \"sequence\": 1, \"change\": {\"op\": \"dc-remove\"}}",
        "{\"version\": 1, \"type\": \"exclude\", \"members\": [1, 11], \"nodes\": [1]}",
        "{\"version\": 2, \"type\": \"status\"}", "{\"version\": 1, \"type\": \"status\", \"cells\": \"many\"}",
    };
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    node_count = 1;
    assert_int_equal(loop_create(&loop), 0);
    nodes[1] = (struct node){.id = 1, .pid = 10};
    list_init(&nodes[1].inbox);
    list_init(&nodes[1].outbox);
    node_start(&nodes[1]);
    regroup(groups, members);
    settle();
    uint64_t digest = config_digest(replica_config(nodes[1].replica));
    struct replica_member us = {1, 11}, stranger = {2, 11};
    for (unsigned i = 0; i < ARRAY_LENGTH(texts); i++) {
        replica_deliver(nodes[1].replica, &us, texts[i], strlen(texts[i]));
        replica_deliver(nodes[1].replica, &stranger, texts[i], strlen(texts[i]));
        assert_int_equal(replica_state(nodes[1].replica), REPLICA_SYNCED);
    }
    assert_true(config_digest(replica_config(nodes[1].replica)) == digest);
    node_stop(&nodes[1]);
    config_free(nodes[1].disk);
    loop_destroy(loop);
}

/* A number that cannot be counted on from is no view to agree on. */
static void views_stay_countable(void **state) {
    static const char *const texts[] = {
        "{\"version\": 1, \"type\": \"start\", \"members\": [1, 10, 2, 11], \"round\": \"x\", \"view\": 9223372036854775807}",
        "{\"version\": 1, \"type\": \"start\", \"members\": [1, 10, 2, 11], \"round\": \"y\", \"view\": 5}",
    };
    const struct replica_member members[] = {{1, 10}, {2, 11}};
    assert_int_equal(loop_create(&loop), 0);
    nodes[2] = (struct node){.id = 2, .pid = 10};
    list_init(&nodes[2].inbox);
    list_init(&nodes[2].outbox);
    node_start(&nodes[2]);
    replica_view(nodes[2].replica, members, 2, true);
    for (unsigned i = 0; i < ARRAY_LENGTH(texts); i++) {
        replica_deliver(nodes[2].replica, &members[0], texts[i], strlen(texts[i]));
        assert_int_equal(replica_config(nodes[2].replica)->promised, i ? 5 : 0);
        assert_int_equal(list_empty(&nodes[2].outbox), !i); /* greeted, or not */
    }
    node_stop(&nodes[2]);
    config_free(nodes[2].disk);
    loop_destroy(loop);
}

int main(void) {
    setenv("DVS_LOG", "error", 1);
    log_init("test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_alone_needs_nobody),
        cmocka_unit_test(nothing_is_applied_without_quorum),
        cmocka_unit_test(who_was_given_up_finds_out),
        cmocka_unit_test(what_is_proposed_on_a_new_view_is_applied_once),
        cmocka_unit_test(a_removed_container_leaves_nothing_in_memory),
        cmocka_unit_test(garbage_is_dropped),
        cmocka_unit_test(views_stay_countable),
        cmocka_unit_test(partitions_heal),
        cmocka_unit_test(crashes_heal),
        cmocka_unit_test(what_a_cut_off_node_saw_alone_does_not_split_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
