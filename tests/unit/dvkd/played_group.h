/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated group for tests of what stands on a replica. It keeps CPG's promises and no more: within a group all get the
 * same messages and view changes in the same order; what a node has sent but the group has not ordered yet may be ordered
 * in a later view.
 *
 * A test includes this where it has defined NODES_MAX, nodes[NODES_MAX + 1] (ids from 1), node_count (those that are in use), and
 * struct node with at least id, pid, running, group, replica, and the lists inbox (ordered, not yet seen) and
 * outbox (sent, not yet ordered).
 */
struct event {
    struct list link;
    bool view, quorate;
    struct replica_member members[NODES_MAX];
    size_t count;
    struct replica_member from;
    char *text;
};

static bool self_delivery; /* a cut-off sender may see its last messages alone */

static void event_free(struct event *event) {
    list_remove(&event->link);
    free(event->text);
    free(event);
}

static struct event *event_copy(const struct event *event) {
    struct event *copy = malloc(sizeof *copy);
    assert_non_null(copy);
    *copy = *event;
    copy->text = event->text ? strdup(event->text) : NULL;
    list_init(&copy->link);
    return copy;
}

static void port_send(void *context, const char *text, size_t len) {
    struct node *node = context;
    struct event *event = calloc(1, sizeof *event);
    assert_non_null(event);
    event->text = strndup(text, len);
    event->from = (struct replica_member){node->id, node->pid};
    list_append(&node->outbox, &event->link);
}

/* Order the oldest message of a sender in its group. */
static void order_one(struct node *sender) {
    struct event *event = list_first(&sender->outbox, struct event, link);
    if (!event)
        return;
    for (unsigned i = 1; i <= node_count; i++)
        if (nodes[i].running && nodes[i].group == sender->group)
            list_append(&nodes[i].inbox, &event_copy(event)->link);
    event_free(event);
}

static void deliver_one(struct node *node) {
    struct event *event = list_first(&node->inbox, struct event, link);
    if (!event || !node->running)
        return;
    list_remove(&event->link);
    if (event->view)
        replica_view(node->replica, event->members, event->count, event->quorate);
    else
        replica_deliver(node->replica, &event->from, event->text, strlen(event->text));
    event_free(event);
}

/* Nodes go to groups as given; each running node of a group whose members changed gets the view. */
static void regroup(const int group_of[NODES_MAX + 1], int old_members[NODES_MAX + 1]) {
    for (unsigned i = 1; i <= node_count; i++) {
        struct node *node = &nodes[i];
        if (!self_delivery || !node->running || random() % 2)
            continue;
        while (!list_empty(&node->outbox)) { /* ordered on its side alone, in the view that ends */
            struct event *event = list_first(&node->outbox, struct event, link);
            for (unsigned k = 1; k <= node_count; k++)
                if (nodes[k].running && nodes[k].group == node->group && group_of[k] == group_of[i])
                    list_append(&nodes[k].inbox, &event_copy(event)->link);
            event_free(event);
        }
    }
    for (unsigned i = 1; i <= node_count; i++)
        nodes[i].group = group_of[i];
    for (unsigned i = 1; i <= node_count; i++) {
        if (!nodes[i].running)
            continue;
        struct event view = {.view = true};
        int members = 0;
        for (unsigned k = 1; k <= node_count; k++)
            if (nodes[k].running && nodes[k].group == nodes[i].group) {
                view.members[view.count++] = (struct replica_member){nodes[k].id, nodes[k].pid};
                members |= 1 << k | (int)(nodes[k].pid << 8); /* a restarted one is another */
            }
        view.quorate = view.count * 2 > node_count;
        if (members != old_members[i])
            list_append(&nodes[i].inbox, &event_copy(&view)->link);
        old_members[i] = members;
    }
}

/* What was under way to and from a node that stops is lost. */
static void group_forget(struct node *node) {
    struct event *event;
    list_for_each(event, &node->inbox, link) event_free(event);
    list_for_each(event, &node->outbox, link) event_free(event);
}
