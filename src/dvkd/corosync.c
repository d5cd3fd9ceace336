/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/corosync.h"

#include "common/list.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"

#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <corosync/votequorum.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUP "dvs-config"
#define CONNECT_MS 500u
#define RETRY_MS 5u
#define QUEUE_BYTES_MAX (64u << 20)

struct outgoing {
    struct list link;
    size_t len;
    char text[];
};

struct corosync {
    struct loop *loop;
    struct replica *replica;
    uint32_t node;
    bool connected, told_trouble, lost;
    cpg_handle_t cpg;
    votequorum_handle_t votequorum;
    struct loop_watch *cpg_watch;
    struct loop_timer *connect_timer, *retry_timer;
    struct corosync_counts counts;
    uint32_t ring[DVK_MAX_NODE]; /* counts.members nodes that corosync has in its ring */
    struct list queue; /* struct outgoing */
    size_t queue_bytes;
};

static void connect_soon(struct corosync *corosync);

/* ---- out ---- */

static void clear_queue(struct corosync *corosync) {
    struct outgoing *item;
    list_for_each(item, &corosync->queue, link) {
        list_remove(&item->link);
        free(item);
    }
    corosync->queue_bytes = 0;
}

static void retry_fn(void *context);

static void flush_queue(struct corosync *corosync) {
    struct outgoing *item;
    while (corosync->connected && (item = list_first(&corosync->queue, struct outgoing, link))) {
        struct iovec part = {item->text, item->len};
        cs_error_t result = cpg_mcast_joined(corosync->cpg, CPG_TYPE_AGREED, &part, 1);
        if (result == CS_ERR_TRY_AGAIN) { /* flow control, or corosync is forming a new membership */
            if (!corosync->retry_timer)
                loop_timer_add(corosync->loop, RETRY_MS, retry_fn, corosync, &corosync->retry_timer);
            return;
        }
        if (result != CS_OK) { /* a dead corosync is noticed by dispatch */
            log_warning("a message to the cluster is lost (corosync error %d)", (int)result);
            corosync->lost = true;
            connect_soon(corosync);
            return;
        }
        list_remove(&item->link);
        corosync->queue_bytes -= item->len;
        free(item);
    }
}

static void retry_fn(void *context) {
    struct corosync *corosync = context;
    corosync->retry_timer = NULL;
    flush_queue(corosync);
}

void corosync_send(struct corosync *corosync, const char *text, size_t len) {
    if (!corosync->connected)
        return;
    fault_at(FAULT_REPLICA_SEND);
    struct outgoing *item = corosync->queue_bytes + len <= QUEUE_BYTES_MAX ? malloc(sizeof *item + len) : NULL;
    if (!item) {
        log_error("too much is queued for the cluster: joining it anew");
        corosync_rejoin(corosync);
        return;
    }
    item->len = len;
    memcpy(item->text, text, len);
    list_append(&corosync->queue, &item->link);
    corosync->queue_bytes += len;
    flush_queue(corosync);
}

/* ---- in ---- */

static void update_quorum(struct corosync *corosync) {
    struct votequorum_info info;
    if (votequorum_getinfo(corosync->votequorum, corosync->node, &info) == CS_OK) {
        corosync->counts.expected = info.node_expected_votes;
        corosync->counts.quorum = info.quorum;
    }
}

static bool is_quorate(const struct corosync *corosync) {
    return corosync->counts.quorum > 0 && corosync->counts.members >= corosync->counts.quorum;
}

/*
 * The ring is told of after the group's members (corosync does so whenever it has formed one). By then a node that was
 * cut off or stood still may have left the others and met them again, both in the same ring, without ever having heard of
 * one of its own: to them it was lost. So nodes that the group lost with their corosync are out of the ring at once.
 */
static void ring_remove(struct corosync *corosync, uint32_t node) {
    for (uint32_t i = 0; i < corosync->counts.members; i++)
        if (corosync->ring[i] == node)
            corosync->ring[i--] = corosync->ring[--corosync->counts.members];
}

static void on_deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t node, uint32_t pid, void *text,
                       size_t len) {
    void *context = NULL;
    cpg_context_get(handle, &context);
    struct corosync *corosync = context;
    fault_at(FAULT_REPLICA_DELIVER);
    replica_deliver(corosync->replica, &(struct replica_member){node, pid}, text, len);
}

static void on_members(cpg_handle_t handle, const struct cpg_name *group, const struct cpg_address *list, size_t count,
                       const struct cpg_address *left, size_t left_count, const struct cpg_address *joined,
                       size_t joined_count) {
    void *context = NULL;
    cpg_context_get(handle, &context);
    struct corosync *corosync = context;
    struct replica_member *members = calloc(count ? count : 1, sizeof *members);
    if (!members) {
        log_error("out of memory");
        abort();
    }
    for (size_t i = 0; i < count; i++)
        members[i] = (struct replica_member){list[i].nodeid, list[i].pid};
    for (size_t i = 0; i < left_count; i++)
        if (left[i].reason == CPG_REASON_NODEDOWN)
            ring_remove(corosync, left[i].nodeid);
    replica_view(corosync->replica, members, count, is_quorate(corosync));
    free(members);
}

static void on_totem(cpg_handle_t handle, struct cpg_ring_id ring, uint32_t count, const uint32_t *members) {
    void *context = NULL;
    cpg_context_get(handle, &context);
    struct corosync *corosync = context;
    corosync->counts.members = count < DVK_MAX_NODE ? count : DVK_MAX_NODE;
    memcpy(corosync->ring, members, corosync->counts.members * sizeof *members);
    update_quorum(corosync);
    replica_quorum(corosync->replica, is_quorate(corosync));
}

static void disconnect(struct corosync *corosync) {
    loop_watch_remove(corosync->cpg_watch);
    corosync->cpg_watch = NULL;
    if (corosync->connected) {
        cpg_finalize(corosync->cpg);
        votequorum_finalize(corosync->votequorum);
    }
    corosync->connected = false;
    corosync->lost = false;
    corosync->counts.members = 0;
    loop_timer_cancel(corosync->retry_timer);
    corosync->retry_timer = NULL;
    clear_queue(corosync);
}

static void on_cpg(void *context, int fd, uint32_t events) {
    struct corosync *corosync = context;
    cs_error_t result = cpg_dispatch(corosync->cpg, CS_DISPATCH_ALL);
    if (corosync->lost)
        return; /* connect_timer puts it right */
    if (result == CS_OK || result == CS_ERR_TRY_AGAIN) {
        if (!corosync->retry_timer)
            flush_queue(corosync);
        return;
    }
    record(RECORD_GROUP_LOST, 0, (uint64_t)result);
    log_warning("corosync is gone (error %d): this node has no quorum until it is back", (int)result);
    disconnect(corosync);
    replica_disconnected(corosync->replica);
    connect_soon(corosync);
}

/* ---- connecting ---- */

static cs_error_t open_cpg(struct corosync *corosync) {
    cpg_model_v1_data_t model = {.model = CPG_MODEL_V1,
                                 .cpg_deliver_fn = on_deliver,
                                 .cpg_confchg_fn = on_members,
                                 .cpg_totem_confchg_fn = on_totem,
                                 .flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF};
    cs_error_t result = cpg_model_initialize(&corosync->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, corosync);
    if (result != CS_OK)
        return result;
    unsigned node = 0;
    struct cpg_name group = {.length = sizeof GROUP - 1};
    memcpy(group.value, GROUP, sizeof GROUP - 1);
    int fd = -1;
    result = cpg_local_get(corosync->cpg, &node);
    if (result == CS_OK && node != corosync->node) {
        if (!corosync->told_trouble)
            log_error("corosync calls this node %u, dvkd was started with --id %u", node, corosync->node);
        corosync->told_trouble = true;
        result = CS_ERR_INVALID_PARAM;
    }
    if (result == CS_OK)
        result = cpg_join(corosync->cpg, &group);
    if (result == CS_OK)
        result = cpg_fd_get(corosync->cpg, &fd);
    if (result == CS_OK && loop_fd_add(corosync->loop, fd, EPOLLIN, on_cpg, corosync, &corosync->cpg_watch) < 0)
        result = CS_ERR_NO_MEMORY;
    if (result != CS_OK)
        cpg_finalize(corosync->cpg);
    return result;
}

static void connect_fn(void *context) {
    struct corosync *corosync = context;
    corosync->connect_timer = NULL;
    if (corosync->connected) { /* asked to join anew */
        disconnect(corosync);
        replica_disconnected(corosync->replica);
    }
    votequorum_callbacks_t callbacks = {0};
    cs_error_t result = votequorum_initialize(&corosync->votequorum, &callbacks);
    if (result == CS_OK) {
        update_quorum(corosync);
        result = open_cpg(corosync);
        if (result != CS_OK)
            votequorum_finalize(corosync->votequorum);
    }
    if (result == CS_OK) {
        record(RECORD_GROUP_JOIN, 0, 0);
        log_info("joined the cluster");
        corosync->connected = true;
        corosync->told_trouble = false;
        return;
    }
    if (!corosync->told_trouble)
        log_warning("cannot reach corosync (error %d); trying on", (int)result);
    corosync->told_trouble = true;
    connect_soon(corosync);
}

static void connect_soon(struct corosync *corosync) {
    if (!corosync->connect_timer)
        loop_timer_add(corosync->loop, CONNECT_MS, connect_fn, corosync, &corosync->connect_timer);
}

void corosync_rejoin(struct corosync *corosync) {
    corosync->lost = true;
    record(RECORD_GROUP_REJOIN, 0, 0);
    connect_soon(corosync);
}

int corosync_create(struct loop *loop, struct replica *replica, uint32_t node, struct corosync **out) {
    struct corosync *corosync = calloc(1, sizeof *corosync);
    if (!corosync)
        return -ENOMEM;
    *corosync = (struct corosync){.loop = loop, .replica = replica, .node = node};
    list_init(&corosync->queue);
    *out = corosync;
    return loop_timer_add(loop, 0, connect_fn, corosync, &corosync->connect_timer);
}

void corosync_destroy(struct corosync *corosync) {
    if (!corosync)
        return;
    disconnect(corosync);
    loop_timer_cancel(corosync->connect_timer);
    free(corosync);
}

struct corosync_counts corosync_counts(const struct corosync *corosync) { return corosync->counts; }
