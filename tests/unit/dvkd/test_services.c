/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services over a simulated group of nodes, with clients that do what programs do: partitions, crashes and restarts, ends
 * of clients, in a random order that a seed repeats. The network keeps CPG's promises and no more (played_group.h).
 *
 * What is checked all the time: nobody is given a lock while another holds it unless that one was told or is dead or cut
 * off, and tokens only grow; a counter that clients raise by compare-and-swap counts each acknowledged step once; a
 * watch sees revisions in order and none is missing between gaps; the members of a group get the same messages and views
 * in the same order; every request is answered.
 */
#include "check.h"

#include "common/cleanup.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "dvk/service_protocol.h"
#include "dvkd/services.h"

#include <dvk/error.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 5
#define CLIENTS 3       /* a node */
#define HISTORY_MAX 65536

/* ---- the network ---- */

struct node;
struct client {
    struct node *node;
    struct service_client *service;
    unsigned index;
    uint64_t next_id;
    unsigned asked, answered; /* requests */
    /* lock */
    uint64_t lock_id, lock_number, token; /* asked; held */
    /* counter */
    uint64_t get_id, put_id;
    long step;                 /* that put_id writes */
    /* group */
    uint64_t join_id, cast_id, membership;
    uint64_t messages;         /* digest of what was received since the view at which it came in */
    unsigned message_count;
    uint64_t since;            /* number of that view */
    unsigned sent;
    /* watch */
    uint64_t watch_id, watch_number, watched; /* last revision seen */
    long watched_value;
    bool gap;
};

struct node {
    uint32_t id, pid;
    bool running;
    int group;
    struct replica *replica;
    struct services *services;
    struct config *disk;
    struct list inbox, outbox;
    struct client clients[CLIENTS];
};

static struct node nodes[NODES_MAX + 1];
static unsigned node_count;

#include "played_group.h"

static struct loop *loop;
static unsigned seed_now;

/* history */
static uint64_t last_token;
static struct client *holder;
static bool step_acknowledged[HISTORY_MAX], step_doubtful[HISTORY_MAX];
static long acknowledged_steps, doubtful_steps;
static unsigned grants, deliveries, watch_events, views;
/* per group view and message: what each position in the order was, the same for all */
static struct {
    uint64_t digest;
} order[HISTORY_MAX];
static uint64_t order_key[HISTORY_MAX]; /* (since << 20 | position) */

static void port_changed(void *context, const struct config_effect *effect) {
    services_changed(((struct node *)context)->services, effect);
}
static void port_node(void *context, uint32_t id, bool up) {}
static void port_quorum(void *context, bool quorate) { services_quorum(((struct node *)context)->services, quorate); }
static void port_excluded(void *context) { fail_msg("nobody is silent here"); }
static void port_broken(void *context) { fail_msg("the configuration is broken"); }
static void port_cast(void *context, uint32_t node, const json_t *payload) {
    services_cast(((struct node *)context)->services, node, payload);
}
static void port_confirmed(void *context, uint64_t epoch) {
    services_confirmed(((struct node *)context)->services, epoch);
}
static void port_installed(void *context, bool replaced) {
    services_installed(((struct node *)context)->services, replaced);
}

/* ---- clients ---- */

static uint64_t ask(struct client *client, uint32_t op, struct dvk_service_head head, const char *name,
                    const void *value) {
    head.op = op;
    head.name_len = name ? (uint32_t)strlen(name) : 0;
    size_t len = sizeof head + head.name_len + head.value_len;
    cleanup_free char *text = malloc(len);
    memcpy(text, &head, sizeof head);
    if (name)
        memcpy(text + sizeof head, name, head.name_len);
    if (value)
        memcpy(text + sizeof head + head.name_len, value, head.value_len);
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE,
                                       .id = ++client->next_id,
                                       .endpoint = dvk_endpoint_make(1, 100 + client->index),
                                       .text_len = (uint32_t)len};
    uint64_t id = client->next_id;
    client->asked++;
    assert_null(services_packet(client->service, &packet, text));
    return id;
}

static uint64_t mix(uint64_t hash, const void *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3ull;
    return hash;
}

/* All who are at this place in the order since that view must have seen the same. */
static void note_order(struct client *client, const void *data, size_t len) {
    client->messages = mix(client->messages, data, len);
    client->message_count++;
    uint64_t key = client->since << 20 | client->message_count;
    for (size_t at = key * 0x9e3779b97f4a7c15ull >> 48;; at = (at + 1) % HISTORY_MAX) {
        if (order_key[at] == 0) {
            order_key[at] = key;
            order[at].digest = client->messages;
            return;
        }
        if (order_key[at] != key)
            continue;
        if (order[at].digest != client->messages)
            fail_msg("seed %u: two members of the group saw another order", seed_now);
        return;
    }
}

static long value_of(const char *value, size_t len) {
    char text[24] = {0};
    memcpy(text, value, len < 23 ? len : 23);
    return atol(text);
}

static void raise_counter(struct client *client, long from, uint64_t revision) {
    char text[24];
    client->step = from + 1;
    struct dvk_service_head head = {.flags = DVK_SERVICE_F_EXPECT,
                                    .revision = revision,
                                    .value_len = (uint32_t)snprintf(text, sizeof text, "%ld", client->step)};
    client->put_id = ask(client, DVK_SERVICE_OP_KV_PUT, head, "counter", text);
}

static void lock_gone(struct client *client) {
    if (holder == client)
        holder = NULL;
    client->lock_id = client->lock_number = client->token = 0;
}

/* Has the group cut it off, without its having seen that yet? Then what it does is of the past. */
static bool is_behind(const struct node *node) {
    const struct event *event;
    list_for_each(event, &node->inbox, link) if (event->view && !event->quorate) return true;
    return false;
}

static void on_grant(struct client *client, const struct dvk_service_head *head) {
    if (is_behind(client->node)) {
        client->lock_number = head->number; /* an old token, which fences it off */
        client->token = head->revision;
        return;
    }
    if (holder)
        fail_msg("seed %u: two hold the lock", seed_now);
    if (head->revision <= last_token)
        fail_msg("seed %u: token %" PRIu64 " after %" PRIu64, seed_now, head->revision, last_token);
    last_token = head->revision;
    holder = client;
    client->lock_number = head->number;
    client->token = head->revision;
    grants++;
}

/* What a libdvk would return. covers: dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_group_mcast: -DVK_EUNKNOWN: here */
static void on_answer(struct client *client, uint64_t id, int status, const struct dvk_service_head *head,
                      const char *value) {
    client->answered++;
    if (id == client->lock_id) {
        if (status == 0)
            on_grant(client, head);
        else
            client->lock_id = 0;
    } else if (id == client->get_id) {
        client->get_id = 0;
        if (status == 0)
            raise_counter(client, value_of(value, head->value_len), head->revision);
        else if (status == -DVK_ENOKEY)
            raise_counter(client, 0, 0);
    } else if (id == client->put_id) {
        client->put_id = 0;
        if (status == 0) {
            if (step_acknowledged[client->step])
                fail_msg("seed %u: step %ld was made twice", seed_now, client->step);
            step_acknowledged[client->step] = true;
            acknowledged_steps++;
        } else if (status == -DVK_EUNKNOWN) {
            doubtful_steps++;
            step_doubtful[client->step] = true;
        } else {
            assert_true(status == -DVK_ECONFLICT || status == -DVK_ENOQUORUM);
        }
    } else if (id == client->join_id) {
        client->join_id = 0;
        if (status == 0)
            client->membership = head->number;
    } else if (id == client->cast_id) {
        client->cast_id = 0;
    } else if (id == client->watch_id) {
        client->watch_number = head->number;
        client->watched = head->revision;
    }
}

static void on_view(struct client *client, const struct dvk_service_head *head, const char *value) {
    views++;
    if (head->flags & DVK_SERVICE_F_OUT) {
        client->membership = 0;
        client->since = 0;
        return;
    }
    if (!client->since) {
        client->since = head->revision;
        client->messages = 0;
        client->message_count = 0;
        return; /* who joins sees nothing from before */
    }
    note_order(client, &head->revision, sizeof head->revision);
    note_order(client, value, head->value_len);
    client->since = head->revision; /* from here on alike for all members */
    client->messages = 0;
    client->message_count = 0;
}

static void on_key(struct client *client, const struct dvk_service_head *head, const char *value) {
    watch_events++;
    if (head->revision <= client->watched)
        fail_msg("seed %u: revision %" PRIu64 " after %" PRIu64, seed_now, head->revision, client->watched);
    client->watched = head->revision;
    long now = value_of(value, head->value_len);
    if (!client->gap && client->watched_value && now != client->watched_value + 1)
        fail_msg("seed %u: the watch saw %ld after %ld", seed_now, now, client->watched_value);
    client->watched_value = now;
    client->gap = false;
}

static void clients_send(void *context, void *user, const struct dvk_broker_packet *packet, const char *text) {
    struct client *client = user;
    struct dvk_service_head head;
    assert_true(packet->text_len >= sizeof head);
    memcpy(&head, text, sizeof head);
    assert_int_equal(packet->text_len, sizeof head + head.name_len + head.value_len);
    const char *value = text + sizeof head + head.name_len;
    if (packet->type == (DVK_BROKER_SERVICE | DVK_BROKER_ANSWER)) {
        on_answer(client, packet->id, packet->status, &head, value);
        return;
    }
    assert_int_equal(packet->type, DVK_BROKER_SERVICE_EVENT);
    switch (head.op) {
    case DVK_SERVICE_OP_LOST:
        assert_true(head.number == client->lock_number);
        lock_gone(client);
        break;
    case DVK_SERVICE_OP_VIEW:
        on_view(client, &head, value);
        break;
    case DVK_SERVICE_OP_MESSAGE: {
        deliveries++;
        note_order(client, value, head.value_len);
        struct dvk_broker_packet taken = {.type = DVK_BROKER_SERVICE_TAKEN, .channel = 1};
        assert_null(services_packet(client->service, &taken, NULL));
        break;
    }
    case DVK_SERVICE_OP_KV:
        on_key(client, &head, value);
        break;
    case DVK_SERVICE_OP_GAP:
        client->gap = true;
        break;
    default:
        fail_msg("an event of kind %u", head.op);
    }
}

static json_t *no_endpoints(void *context, uint32_t dc) { return json_array(); }

static void client_start(struct node *node, unsigned index) {
    struct client *client = &node->clients[index];
    *client = (struct client){.node = node, .index = index};
    client->service = services_client_add(node->services, client);
    client->watch_id = client->next_id + 1;
    ask(client, DVK_SERVICE_OP_KV_WATCH, (struct dvk_service_head){0}, "counter", NULL);
    assert_int_equal(client->answered, 1);
}

static void client_die(struct client *client) {
    lock_gone(client);
    services_client_gone(client->service);
}

/* One thing that a program might do next. */
static void client_act(struct client *client) {
    struct dvk_service_message message = {.type = 7};
    struct dvk_service_head head = {0};
    switch (random() % 6) {
    case 0:
        if (!client->lock_id) {
            client->lock_id = client->next_id + 1;
            ask(client, DVK_SERVICE_OP_LOCK, head, "lock", NULL);
        } else if (client->lock_number) {
            head.number = client->lock_number;
            lock_gone(client); /* from here on others may have it */
            ask(client, DVK_SERVICE_OP_UNLOCK, head, NULL, NULL);
        } else if (random() % 4 == 0) { /* give up */
            struct dvk_broker_packet cancel = {.type = DVK_BROKER_SERVICE_CANCEL, .id = client->lock_id};
            assert_null(services_packet(client->service, &cancel, NULL));
            assert_int_equal(client->lock_id, 0);
        }
        break;
    case 1:
    case 2:
        if (!client->get_id && !client->put_id) {
            client->get_id = client->next_id + 1;
            ask(client, DVK_SERVICE_OP_KV_GET, head, "counter", NULL);
        }
        break;
    case 3:
        if (!client->membership && !client->join_id) {
            client->join_id = client->next_id + 1;
            ask(client, DVK_SERVICE_OP_GROUP_JOIN, head, "group", NULL);
        } else if (client->membership && random() % 8 == 0) {
            head.number = client->membership;
            ask(client, DVK_SERVICE_OP_GROUP_LEAVE, head, NULL, NULL);
        }
        break;
    default:
        if (client->membership && !client->cast_id) {
            snprintf((char *)message.payload, sizeof message.payload, "%u.%u.%u", client->node->id, client->index,
                     client->sent++);
            head.number = client->membership;
            head.value_len = sizeof message;
            client->cast_id = client->next_id + 1;
            ask(client, DVK_SERVICE_OP_GROUP_CAST, head, NULL, &message);
        }
    }
}

/* ---- nodes ---- */

static void node_start(struct node *node) {
    struct config_node self = {.id = node->id, .cpus = 1};
    snprintf(self.name, sizeof self.name, "n%u", node->id);
    struct replica_port port = {node,          port_send,   port_changed, port_node,     port_quorum,
                                port_excluded, port_broken, port_cast,    port_confirmed, port_installed};
    struct services_port services_port = {.send = clients_send, .endpoints = no_endpoints};
    struct config *config = node->disk ? node->disk : config_new();
    node->disk = NULL;
    node->pid = 10; /* the same each time, as in a pid namespace */
    assert_int_equal(replica_create(loop, NULL, config, &self, &port, &node->replica), 0);
    assert_int_equal(services_create(loop, node->id, &services_port, &node->services), 0);
    services_set_replica(node->services, node->replica);
    node->running = true;
    for (unsigned i = 0; i < CLIENTS; i++)
        client_start(node, i);
}

static void node_stop(struct node *node) {
    cleanup_json json_t *disk = config_to_json(replica_config(node->replica));
    assert_int_equal(config_from_json(disk, &node->disk), 0);
    node->disk->promised = replica_config(node->replica)->promised;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &node->clients[i];
        if (client->put_id) /* what became of it, nobody can say */
            step_doubtful[client->step] = true;
        lock_gone(client);
    }
    services_destroy(node->services);
    replica_destroy(node->replica);
    node->replica = NULL;
    node->running = false;
    group_forget(node);
}

static void settle(void) {
    for (int quiet = 0; quiet < 3;) {
        bool busy = false;
        for (unsigned i = 1; i <= node_count; i++) {
            busy |= !list_empty(&nodes[i].inbox) || !list_empty(&nodes[i].outbox);
            if (nodes[i].running) {
                order_one(&nodes[i]);
                deliver_one(&nodes[i]);
            }
        }
        assert_int_equal(loop_step(loop, 0), 0);
        quiet = busy ? 0 : quiet + 1;
    }
}

/* Cut off from the group's point of view a node is dead: what its clients hold does not count against the others. It is
 * told so when it sees its own view. */
static void cut_off_holders_do_not_count(const int group_of[NODES_MAX + 1]) {
    if (!holder)
        return;
    unsigned with = 0, id = holder->node->id;
    for (unsigned k = 1; k <= node_count; k++)
        with += nodes[k].running && group_of[k] == group_of[id];
    if (with * 2 <= node_count)
        holder = NULL;
}

static void begin(unsigned count) {
    node_count = count;
    holder = NULL;
    last_token = 0;
    acknowledged_steps = doubtful_steps = 0;
    memset(step_acknowledged, 0, sizeof step_acknowledged);
    memset(step_doubtful, 0, sizeof step_doubtful);
    memset(order_key, 0, sizeof order_key);
    assert_int_equal(loop_create(&loop), 0);
    for (unsigned i = 1; i <= count; i++) {
        nodes[i] = (struct node){.id = i, .pid = 10};
        list_init(&nodes[i].inbox);
        list_init(&nodes[i].outbox);
        node_start(&nodes[i]);
    }
}

static void finish(void) {
    for (unsigned i = 1; i <= node_count; i++) {
        if (nodes[i].running)
            node_stop(&nodes[i]);
        config_free(nodes[i].disk);
    }
    loop_destroy(loop);
}

/* What the counter says must be what was acknowledged, give or take what nobody knows. */
static void check_counter(void) {
    const json_t *row = objects_find(&replica_config(nodes[1].replica)->objects, 0, "kv", "counter");
    json_int_t changes = 0;
    field_integer(row, "n", &changes);
    for (long step = 1; step < HISTORY_MAX; step++) {
        if (step_acknowledged[step] && step > changes)
            fail_msg("seed %u: step %ld was acknowledged and is lost", seed_now, step);
        if (step <= changes && !step_acknowledged[step] && !step_doubtful[step])
            fail_msg("seed %u: step %ld was made by nobody", seed_now, step);
    }
}

static void simulate(unsigned seed, unsigned count, bool crashes) {
    int groups[NODES_MAX + 1] = {0}, members[NODES_MAX + 1] = {0};
    seed_now = seed;
    srandom(seed);
    begin(count);
    regroup(groups, members);
    settle();
    for (int step = 0; step < 6000; step++) {
        struct node *node = &nodes[random() % count + 1];
        struct client *client = &node->clients[random() % CLIENTS];
        long what = random() % 400;
        if (what < 180)
            deliver_one(node);
        else if (what < 300 && node->running)
            order_one(node);
        else if (what < 380 && node->running)
            client_act(client);
        else if (what < 392)
            assert_int_equal(loop_step(loop, 0), 0);
        else if (what < 394 && node->running) {
            if (client->put_id)
                step_doubtful[client->step] = true;
            client_die(client);
            client_start(node, client->index);
        } else if (what < 396) {
            for (unsigned i = 1; i <= count; i++)
                groups[i] = random() % 3 ? 0 : (int)(random() % 3);
            cut_off_holders_do_not_count(groups);
            regroup(groups, members);
        } else if (what < 397 && crashes) {
            if (node->running) {
                node_stop(node);
                cut_off_holders_do_not_count(groups);
                regroup(groups, members); /* the others see it leave before it can come back */
            } else {
                node_start(node);
                members[node->id] = 0;
                regroup(groups, members);
            }
        }
    }
    memset(groups, 0, sizeof groups);
    for (unsigned i = 1; i <= count; i++)
        if (!nodes[i].running) {
            node_start(&nodes[i]);
            members[i] = 0;
        }
    regroup(groups, members);
    settle();
    for (unsigned i = 1; i <= count; i++) {
        assert_int_equal(replica_state(nodes[i].replica), REPLICA_SYNCED);
        assert_true(config_digest(replica_config(nodes[i].replica)) == config_digest(replica_config(nodes[1].replica)));
        for (unsigned k = 0; k < CLIENTS; k++) {
            struct client *client = &nodes[i].clients[k];
            bool waits = client->lock_id && !client->lock_number;
            if (client->asked != client->answered + waits)
                fail_msg("seed %u: a client of node %u waits for ever", seed, i);
        }
    }
    check_counter();
    /* every lock passes on to the end: nobody is in the queue who does not live */
    for (unsigned turns = 0; turns < 100; turns++) {
        for (unsigned i = 1; i <= count; i++)
            for (unsigned k = 0; k < CLIENTS; k++) {
                struct client *client = &nodes[i].clients[k];
                if (!client->lock_number)
                    continue;
                struct dvk_service_head head = {.number = client->lock_number};
                lock_gone(client);
                ask(client, DVK_SERVICE_OP_UNLOCK, head, NULL, NULL);
            }
        settle();
    }
    assert_null(objects_find(&replica_config(nodes[1].replica)->objects, 0, "lock", "lock"));
    for (unsigned i = 1; i <= count; i++) {
        struct services_counts counts = services_counts(nodes[i].services);
        assert_int_equal(counts.queued, 0);
        assert_int_equal(counts.waits, 0);
        assert_int_equal(counts.holds, 0);
    }
    finish();
}

static void partitions(void **state) {
    grants = deliveries = watch_events = views = 0;
    for (unsigned seed = 1; seed <= 40; seed++)
        simulate(seed, seed % 2 ? 3 : 5, false);
    assert_true(grants > 100 && deliveries > 1000 && watch_events > 1000 && views > 200);
}
static void crashes(void **state) {
    for (unsigned seed = 100; seed <= 140; seed++)
        simulate(seed, seed % 2 ? 3 : 5, true);
}

static void a_group_of_one(void **state) {
    grants = deliveries = watch_events = 0;
    simulate(7, 1, false);
    assert_true(grants > 10 && deliveries > 100 && watch_events > 50);
}

/* ---- one thing at a time ---- */

static int answer_status;
static struct dvk_service_head answer_head;
static char answer_value[DVK_SERVICE_ENTRIES_MAX];

static void keep_answer(void *context, void *user, const struct dvk_broker_packet *packet, const char *text) {
    if (packet->type != (DVK_BROKER_SERVICE | DVK_BROKER_ANSWER))
        return;
    answer_status = packet->status;
    memcpy(&answer_head, text, sizeof answer_head);
    memcpy(answer_value, text + sizeof answer_head, answer_head.value_len);
}

static struct services *one;
static struct replica *one_replica;

static void one_send(void *context, const char *text, size_t len) {
    struct event *event = calloc(1, sizeof *event);
    event->text = strndup(text, len);
    list_append(&nodes[0].inbox, &event->link);
}
static void one_settle(void) {
    struct replica_member us = {1, 1};
    struct event *event;
    while ((event = list_first(&nodes[0].inbox, struct event, link))) {
        replica_deliver(one_replica, &us, event->text, strlen(event->text));
        event_free(event);
    }
    assert_int_equal(loop_step(loop, 0), 0);
}

static int one_ask(struct service_client *client, uint32_t op, struct dvk_service_head head, const char *name,
                   const char *value) {
    struct client fake = {.service = client, .next_id = 1};
    head.value_len = value ? (uint32_t)strlen(value) : 0;
    answer_status = 1;
    ask(&fake, op, head, name, value);
    one_settle();
    return answer_status;
}

static void one_start(void) {
    struct config_node self = {.id = 1, .cpus = 1, .name = "n1"};
    struct replica_port port = {&nodes[0], one_send, port_changed, port_node, port_quorum,
                                port_excluded, port_broken, port_cast, port_confirmed, port_installed};
    struct services_port services_port = {.send = keep_answer, .endpoints = no_endpoints};
    list_init(&nodes[0].inbox);
    assert_int_equal(loop_create(&loop), 0);
    assert_int_equal(replica_create(loop, NULL, config_new(), &self, &port, &one_replica), 0);
    assert_int_equal(services_create(loop, 1, &services_port, &one), 0);
    services_set_replica(one, one_replica);
    nodes[0].services = one;
}
static void one_end(void) {
    services_destroy(one);
    replica_destroy(one_replica);
    struct event *event;
    list_for_each(event, &nodes[0].inbox, link) event_free(event);
    loop_destroy(loop);
}

static void without_quorum_only_old_state_is_read(void **state) {
    struct replica_member us = {1, 1};
    one_start();
    struct service_client *client = services_client_add(one, NULL);
    replica_view(one_replica, &us, 1, true);
    one_settle();
    const struct dvk_service_head none = {0}, stale = {.flags = DVK_SERVICE_F_STALE};
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_PUT, none, "x", "old"), 0);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_GET, none, "x", NULL), 0);
    replica_quorum(one_replica, false);
    one_settle();
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_PUT, none, "x", "new"), -DVK_ENOQUORUM);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_DELETE, none, "x", NULL), -DVK_ENOQUORUM);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_GET, none, "x", NULL), -DVK_ENOQUORUM);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_LOCK, none, "x", NULL), -DVK_ENOQUORUM);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_GROUP_JOIN, none, "x", NULL), -DVK_ENOQUORUM);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_GET, stale, "x", NULL), 0);
    assert_memory_equal(answer_value, "old", 3);
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_LIST, stale, NULL, NULL), 0);
    replica_quorum(one_replica, true);
    one_settle();
    assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_GET, none, "x", NULL), 0);
    services_client_gone(client);
    one_end();
}

static void a_member_that_takes_nothing_holds_up_the_senders(void **state) {
    struct replica_member us = {1, 1};
    one_start();
    struct service_client *slow = services_client_add(one, NULL), *sender = services_client_add(one, NULL);
    replica_view(one_replica, &us, 1, true);
    one_settle();
    assert_int_equal(one_ask(slow, DVK_SERVICE_OP_GROUP_JOIN, (struct dvk_service_head){0}, "g", NULL), 0);
    assert_int_equal(one_ask(sender, DVK_SERVICE_OP_GROUP_JOIN, (struct dvk_service_head){0}, "g", NULL), 0);
    struct client fake = {.service = sender, .next_id = 1};
    struct dvk_service_message message = {0};
    const struct dvk_service_head head = {.number = answer_head.number, .value_len = sizeof message};
    struct dvk_broker_packet taken = {.type = DVK_BROKER_SERVICE_TAKEN, .channel = 1};
    unsigned went = 0;
    for (answer_status = 0; answer_status == 0 && went < 10000; went++) {
        answer_status = 1;
        ask(&fake, DVK_SERVICE_OP_GROUP_CAST, head, NULL, &message);
        one_settle();
        assert_null(services_packet(sender, &taken, NULL));
    }
    assert_int_equal(answer_status, 1); /* the last one waits */
    assert_int_equal(went, SERVICES_UNTAKEN_HIGH + 1);
    assert_int_equal(services_counts(one).messages, 2 * SERVICES_UNTAKEN_HIGH); /* none was dropped */
    taken.channel = SERVICES_UNTAKEN_HIGH - SERVICES_UNTAKEN_LOW;
    assert_null(services_packet(slow, &taken, NULL));
    one_settle();
    assert_int_equal(answer_status, 0);
    services_client_gone(slow); /* and who goes holds up nobody */
    one_settle();
    assert_int_equal(one_ask(sender, DVK_SERVICE_OP_KV_PUT, (struct dvk_service_head){0}, "x", ""), 0);
    one_end();
}

static void a_listing_comes_in_parts(void **state) {
    struct replica_member us = {1, 1};
    static char big[OBJECTS_VALUE_MAX + 1];
    one_start();
    struct service_client *client = services_client_add(one, NULL);
    replica_view(one_replica, &us, 1, true);
    one_settle();
    memset(big, 'v', sizeof big - 1);
    for (int i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_PUT, (struct dvk_service_head){0}, name, big), 0);
    }
    char after[8] = "";
    unsigned seen = 0, parts = 0;
    do {
        assert_int_equal(one_ask(client, DVK_SERVICE_OP_KV_LIST,
                                 (struct dvk_service_head){.flags = DVK_SERVICE_F_VALUES}, "k", after),
                         0);
        for (size_t at = 0; at < answer_head.value_len; seen++) {
            struct dvk_service_head entry;
            memcpy(&entry, answer_value + at, sizeof entry);
            snprintf(after, sizeof after, "%.*s", (int)entry.name_len, answer_value + at + sizeof entry);
            assert_int_equal(entry.value_len, OBJECTS_VALUE_MAX);
            at += sizeof entry + entry.name_len + entry.value_len;
        }
        parts++;
    } while (answer_head.flags & DVK_SERVICE_F_MORE);
    assert_int_equal(seen, 5);
    assert_int_equal(parts, 5);
    services_client_gone(client);
    one_end();
}

static void wrong_packets_are_told_of(void **state) {
    one_start();
    struct service_client *client = services_client_add(one, NULL);
    char text[sizeof(struct dvk_service_head) + 8] = {0};
    struct dvk_service_head *head = (struct dvk_service_head *)text;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE, .text_len = 4};
    assert_non_null(services_packet(client, &packet, text));
    packet.text_len = sizeof *head;
    assert_non_null(services_packet(client, &packet, text)); /* op 0 */
    head->op = DVK_SERVICE_OP_END;
    assert_non_null(services_packet(client, &packet, text));
    head->op = DVK_SERVICE_OP_KV_GET;
    head->name_len = UINT32_MAX;
    assert_non_null(services_packet(client, &packet, text));
    head->name_len = 8;
    head->value_len = (uint32_t)-8;
    assert_non_null(services_packet(client, &packet, text));
    head->name_len = head->value_len = 0;
    assert_null(services_packet(client, &packet, text)); /* answered: a name is missing */
    assert_int_equal(answer_status, -EINVAL);
    services_client_gone(client);
    one_end();
}

int main(void) {
    self_delivery = true;
    setenv("DVS_LOG", "error", 1);
    log_init("test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_packets_are_told_of),
        cmocka_unit_test(a_listing_comes_in_parts),
        cmocka_unit_test(without_quorum_only_old_state_is_read),
        cmocka_unit_test(a_member_that_takes_nothing_holds_up_the_senders),
        cmocka_unit_test(a_group_of_one),
        cmocka_unit_test(partitions),
        cmocka_unit_test(crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
