/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/stats.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dvk/channel.h"
#include "dvk/stats_page.h"
#include "dvk/waits.h"
#include "dvkd/broker_private.h"

#include <dvk/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of one DC: what its endpoints that are gone have counted. */
struct dc_past {
    uint64_t key;
    uint32_t bound; /* endpoints now */
    bool gone;      /* the DC is removed; what is still bound goes soon, and a later DC with its id has no part in it */
    uint64_t binds, connects;
    struct dvk_stats past;
};

static struct dc_past *past_of(struct broker *broker, uint32_t dc) {
    uint64_t key = (uint64_t)dc + 1;
    struct dc_past *past = table_get(&broker->stats.dcs, key);
    if (past)
        return past;
    past = calloc(1, sizeof *past);
    if (!past || table_set(&broker->stats.dcs, key, past) < 0) {
        free(past);
        return NULL; /* its numbers are not kept */
    }
    past->key = key;
    return past;
}

static void past_drop(struct broker *broker, struct dc_past *past) {
    table_remove(&broker->stats.dcs, past->key);
    free(past);
}

void broker_stats_free(struct broker *broker) {
    for (;;) {
        size_t cursor = 0;
        struct dc_past *past = table_next(&broker->stats.dcs, &cursor);
        if (!past)
            break;
        past_drop(broker, past);
    }
    table_free(&broker->stats.dcs);
}

/* ---- reading ---- */

static void words_add(void *sum, const void *more, size_t size) {
    uint64_t *to = sum;
    const uint64_t *from = more;
    for (size_t i = 0; i < size / sizeof *to; i++)
        if (__builtin_add_overflow(to[i], from[i], &to[i]) || to[i] > INT64_MAX)
            to[i] = INT64_MAX;
}

struct dvk_stats broker_stats_endpoint(const struct endpoint *endpoint) {
    const struct client *client = endpoint->context->user;
    struct dvk_stats stats = {0};
    uint64_t words[DVK_STATS_WORDS];
    if (endpoint->stats_place == 0 || endpoint->stats_place >= DVK_STATS_PLACES || client->stats_fd < 0 ||
        pread(client->stats_fd, words, sizeof words, (off_t)(endpoint->stats_place * sizeof stats)) != sizeof words)
        return stats;
    for (size_t i = 0; i < DVK_STATS_WORDS; i++)
        if (words[i] > DVK_STATS_MAX)
            words[i] = DVK_STATS_MAX;
    memcpy(&stats, words, sizeof stats);
    memset(stats.reserved, 0, sizeof stats.reserved);
    return stats;
}

/* The words are not read at one moment, and are anybody's: never below 0. */
static uint64_t rest(uint64_t all, uint64_t gone) { return all > gone ? all - gone : 0; }

struct dvk_stats_now broker_stats_now(const struct dvk_stats *stats) {
    uint64_t failed = 0;
    for (size_t i = 0; i < DVK_STATS_ERRORS; i++)
        failed += stats->errors[i];
    failed = rest(failed, stats->posts_failed);
    return (struct dvk_stats_now){
        .pending = rest(stats->sendrecs + stats->calls + stats->sends, stats->completed + failed),
        .unanswered = rest(stats->requests_in, stats->replies + stats->relayed),
        .queued = rest(stats->arrived, stats->requests_in + stats->sends_in + stats->notifies_in + stats->casts_in +
                                           stats->withdrawn),
    };
}

/* What lies in a channel for its party `side`. */
static uint64_t channel_untaken(const struct channel *channel, int side) {
    struct {
        uint32_t head, pad[15], tail;
    } ring;
    off_t at = (off_t)(offsetof(struct dvk_channel_header, ring) + (size_t)(1 - side) * sizeof(struct dvk_ring));
    if (pread(channel->memfd, &ring, sizeof ring, at) != sizeof ring)
        return 0;
    uint32_t count = ring.head - ring.tail;
    return count <= 2 * DVK_CHANNEL_MAX_SLOTS ? count : 0; /* else it is spoilt, or moved between the two */
}

static uint64_t untaken_of(const struct context *context, uint32_t dc) {
    const struct channel_end *end;
    uint64_t count = 0;
    list_for_each(end, &context->channels, link) {
        const struct channel *channel = end->channel;
        if (channel->dc == dc)
            count += channel_untaken(channel, channel->party[1] == context);
    }
    return count;
}

uint64_t broker_stats_untaken(const struct endpoint *endpoint) {
    if (endpoint->guest)
        return endpoint->channel ? channel_untaken(endpoint->channel, 0) : 0;
    return untaken_of(endpoint->context, endpoint->dc);
}

/* ---- sums ---- */

/* Where what belongs to `dc` is added: `wanted` is a DC, STATS_ALL_DCS, or EACH_DC of an array. NULL: nowhere. */
#define EACH_DC (STATS_ALL_DCS - 1)
static struct stats_sum *sum_of(struct stats_sum *sums, uint32_t wanted, uint32_t dc) {
    return wanted == EACH_DC ? &sums[dc] : wanted == STATS_ALL_DCS || wanted == dc ? sums : NULL;
}

static void add_endpoint(struct stats_sum *sum, const struct endpoint *endpoint) {
    sum->endpoints++;
    struct dvk_stats stats = broker_stats_endpoint(endpoint);
    struct dvk_stats_now now = broker_stats_now(&stats);
    words_add(&sum->total, &stats, sizeof stats);
    words_add(&sum->now, &now, sizeof now);
}

static void add_channel(struct stats_sum *sum, const struct channel *channel) {
    struct stat st;
    sum->channels++;
    if (fstat(channel->memfd, &st) == 0)
        sum->channel_bytes += (uint64_t)st.st_blocks * 512u;
    for (int side = 0; side < 2; side++)
        if (!channel->party[side] || channel->party[side]->role != CONTEXT_PROXY)
            sum->now.untaken += channel_untaken(channel, side);
}

static void add_past(struct stats_sum *sum, uint64_t binds, uint64_t connects, const struct dvk_stats *past) {
    words_add(&sum->total, past, sizeof sum->total);
    sum->binds += binds;
    sum->connects += connects;
}

static void add_all(const struct broker *broker, struct stats_sum *sums, uint32_t wanted) {
    const struct client *client;
    const struct endpoint *endpoint;
    const struct channel *channel;
    const struct dc_past *past;
    struct stats_sum *sum;
    if (wanted == STATS_ALL_DCS)
        add_past(sums, broker->stats.binds, broker->stats.connects, &broker->stats.past);
    for (size_t cursor = 0; wanted != STATS_ALL_DCS && (past = table_next(&broker->stats.dcs, &cursor));)
        if ((sum = sum_of(sums, wanted, (uint32_t)(past->key - 1))))
            add_past(sum, past->binds, past->connects, &past->past);
    list_for_each(client, &broker->clients, link)
        list_for_each(endpoint, &client->context->endpoints, context_link)
            if ((sum = sum_of(sums, wanted, endpoint->dc)))
                add_endpoint(sum, endpoint);
    for (size_t cursor = 0; (channel = table_next(&broker->registry.channels, &cursor));)
        if ((sum = sum_of(sums, wanted, channel->dc)))
            add_channel(sum, channel);
}

struct stats_sum broker_stats_sum(const struct broker *broker, uint32_t dc) {
    struct stats_sum sum = {0};
    add_all(broker, &sum, dc);
    return sum;
}

void broker_stats_each(const struct broker *broker, struct stats_sum *sums) {
    memset(sums, 0, (DVK_MAX_DC + 1) * sizeof *sums);
    add_all(broker, sums, EACH_DC);
}

/* ---- as JSON ---- */

void stats_put_json(json_t *json, const struct dvk_stats *total, const struct dvk_stats_now *now, bool all) {
    static const char *const errors[DVK_STATS_ERRORS] = {"timed_out", "dead",        "unreachable", "not_bound",
                                                         "refused",   "interrupted", "broken",      "other"};
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"sendrecs", total->sendrecs},       {"calls", total->calls},
                {"sends", total->sends},             {"posts", total->posts},
                {"notifies", total->notifies},       {"casts", total->casts},
                {"completed", total->completed},     {"posts_failed", total->posts_failed},
                {"bytes_out", total->bytes_out},     {"bytes_in", total->bytes_in},
                {"arrived", total->arrived},         {"requests_in", total->requests_in},
                {"sends_in", total->sends_in},       {"notifies_in", total->notifies_in},
                {"casts_in", total->casts_in},       {"replies", total->replies},
                {"relayed", total->relayed},         {"withdrawn", total->withdrawn},
                {"loans", total->loans},             {"pending", now->pending},
                {"unanswered", now->unanswered},     {"queued", now->queued},
                {"untaken", now->untaken}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (all || rows[i].value)
            json_object_set_new(json, rows[i].name, json_integer((json_int_t)rows[i].value));
    json_t *failed = json_object();
    for (size_t i = 0; i < DVK_STATS_ERRORS; i++)
        if (all || total->errors[i])
            json_object_set_new(failed, errors[i], json_integer((json_int_t)total->errors[i]));
    if (json_object_size(failed))
        json_object_set(json, "errors", failed);
    json_decref(failed);
}

json_t *stats_sum_json(const struct stats_sum *sum) {
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:I}", "endpoints", (json_int_t)sum->endpoints, "channels",
                             (json_int_t)sum->channels, "channel_bytes", (json_int_t)sum->channel_bytes, "binds",
                             (json_int_t)sum->binds, "connects", (json_int_t)sum->connects);
    stats_put_json(json, &sum->total, &sum->now, true);
    return json;
}

/* Whom the process waits for in dvk_send or dvk_sendrec, of this node: the slot of one of its endpoints in the DC. */
static void put_waits(const struct broker *broker, const struct endpoint *endpoint, const struct context *const *by_place,
                      json_t *json) {
    uint32_t place = broker_waits_of(broker, endpoint->dc, endpoint->context->place);
    const struct context *other = place ? by_place[place] : NULL;
    const struct endpoint *of_other;
    if (other)
        list_for_each(of_other, &other->endpoints, context_link) if (of_other->dc == endpoint->dc && !of_other->guest) {
            json_object_set_new(json, "waits_for", json_integer(of_other->slot));
            return;
        }
}

json_t *broker_stats_endpoints(const struct broker *broker, uint32_t dc) {
    static const struct context *by_place[DVK_WAITS_PLACES];
    json_t *list = json_array();
    const struct client *client;
    memset(by_place, 0, sizeof by_place);
    list_for_each(client, &broker->clients, link) by_place[client->context->place] = client->context;
    list_for_each(client, &broker->clients, link) {
        const struct endpoint *endpoint;
        uint64_t untaken = UINT64_MAX;
        list_for_each(endpoint, &client->context->endpoints, context_link) {
            if (endpoint->dc != dc)
                continue;
            json_t *item = broker_endpoint_json(broker, client, endpoint);
            struct dvk_stats stats = broker_stats_endpoint(endpoint);
            struct dvk_stats_now now = broker_stats_now(&stats);
            if (!endpoint->guest && untaken == UINT64_MAX) /* once: it is the process's */
                untaken = untaken_of(client->context, dc);
            now.untaken = endpoint->guest ? broker_stats_untaken(endpoint) : untaken;
            json_object_set_new(item, "since", json_integer(endpoint->since_ms));
            stats_put_json(item, &stats, &now, false);
            if (!endpoint->guest)
                put_waits(broker, endpoint, by_place, item);
            json_array_append_new(list, item);
        }
    }
    return list;
}

/* ---- what happens ---- */

static int page_make(int *out) {
    cleanup_close int fd = memfd_create("dvk-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)DVK_STATS_PAGE_SIZE) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    *out = steal_fd(&fd);
    return 0;
}

int broker_stats_page(struct client *client, const struct dvk_broker_packet *bind) {
    if (!(bind->flags & DVK_BROKER_F_STATS))
        return -1;
    int result = client->stats_fd < 0 ? page_make(&client->stats_fd) : 0;
    if (result < 0)
        log_warning("no page of statistics for a client (pid %d): %s", (int)client->pid, strerror(-result));
    return client->stats_fd;
}

void broker_stats_place(struct client *client, const struct dvk_broker_packet *packet) {
    struct endpoint *endpoint = registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
    bool ours = endpoint && endpoint->context == client->context && !endpoint->guest && endpoint->stats_place == 0;
    struct dvk_broker_packet answer = client_answer(packet, ours ? 0 : -DVK_ENOTBOUND);
    answer.endpoint = packet->endpoint;
    if (ours)
        endpoint->stats_place = packet->place;
    broker_bind_tell(client, packet, &answer);
}

void broker_stats_changed(struct broker *broker, const struct endpoint *endpoint, bool bound) {
    struct dc_past *past = past_of(broker, endpoint->dc);
    if (bound) {
        broker->stats.binds++;
        if (!past)
            return;
        past->gone = false;
        past->bound++;
        past->binds++;
        return;
    }
    struct dvk_stats last = broker_stats_endpoint(endpoint);
    words_add(&broker->stats.past, &last, sizeof last);
    if (!past)
        return;
    if (past->bound)
        past->bound--;
    if (!past->gone)
        words_add(&past->past, &last, sizeof last);
    else if (past->bound == 0)
        past_drop(broker, past);
}

void broker_stats_connect(struct broker *broker, uint32_t dc) {
    struct dc_past *past = past_of(broker, dc);
    broker->stats.connects++;
    if (past)
        past->connects++;
}

void broker_stats_dc_gone(struct broker *broker, uint32_t dc) {
    struct dc_past *past = table_get(&broker->stats.dcs, (uint64_t)dc + 1);
    if (!past)
        return;
    if (past->bound == 0) {
        past_drop(broker, past);
        return;
    }
    *past = (struct dc_past){.key = past->key, .bound = past->bound, .gone = true};
}

/* ---- DVK_BROKER_STATS ---- */

/* May this client ask that? */
static int check(struct client *client, const struct dvk_broker_packet *packet) {
    const struct context *context = client->context;
    if (packet->dc > DVK_MAX_DC)
        return -DVK_ENODC;
    if (context->role == CONTEXT_COPIER || (context->role == CONTEXT_CELL && context->dc != packet->dc))
        return -DVK_ENOTALLOWED;
    if (packet->side == DVK_STATS_OF_NODE && packet->dc != 0)
        return -DVK_ENOTALLOWED;
    if (packet->side == DVK_STATS_OF_INFO)
        return context->role == CONTEXT_PROXY ? -DVK_ENOTALLOWED : 0;
    if (context->role == CONTEXT_PROXY) /* for an endpoint of that DC on another node */
        return 0;
    const struct endpoint *from = registry_find_endpoint(&client->broker->registry, packet->dc, packet->endpoint);
    return from && from->context == context && !from->guest ? 0 : -DVK_ENOTALLOWED;
}

static void tell(struct client *client, struct dvk_broker_packet answer, const void *text, size_t len) {
    answer.text_len = answer.status == 0 ? (uint32_t)len : 0;
    client_send(client, &answer, text, NULL, 0);
}

static void tell_endpoint(struct client *client, const struct dvk_broker_packet *packet) {
    struct broker *broker = client->broker;
    struct dvk_broker_packet answer = client_answer(packet, 0);
    uint32_t home = 0;
    answer.status = broker_home(broker, packet->dc, packet->peer, &home);
    if (answer.status == 0 && home != broker->node) {
        if (client->context->role == CONTEXT_PROXY)
            answer.status = -DVK_ENOTBOUND; /* it came from another node and does not belong here */
        else if (!broker->host.node_is_up(broker->host.context, home))
            answer.status = -DVK_ENODEUNREACH;
        answer.flags = DVK_BROKER_F_ELSEWHERE;
        answer.node = home;
        tell(client, answer, NULL, 0);
        return;
    }
    const struct endpoint *endpoint =
        answer.status == 0 ? registry_find_endpoint(&broker->registry, packet->dc, packet->peer) : NULL;
    struct dvk_endpoint_stats stats = {.size = sizeof stats, .dc = packet->dc, .node = broker->node};
    if (endpoint) {
        const struct client *owner = endpoint->context->user;
        stats.endpoint = endpoint_address(endpoint);
        stats.flags = (endpoint->guest ? DVK_STATS_GUEST : 0) | (endpoint->stats_place ? DVK_STATS_COUNTED : 0);
        stats.since_ms = endpoint->since_ms;
        stats.pid = (int32_t)owner->pid;
        stats.total = broker_stats_endpoint(endpoint);
        stats.now = broker_stats_now(&stats.total);
        stats.now.untaken = broker_stats_untaken(endpoint);
    } else if (answer.status == 0) {
        answer.status = -DVK_ENOTBOUND;
    }
    tell(client, answer, &stats, sizeof stats);
}

static void tell_dc(struct client *client, const struct dvk_broker_packet *packet) {
    struct stats_sum sum = broker_stats_sum(client->broker, packet->dc);
    struct dvk_dc_stats stats = {.size = sizeof stats,
                                 .dc = packet->dc,
                                 .nodes = 1,
                                 .endpoints = sum.endpoints,
                                 .channels = sum.channels,
                                 .channel_bytes = sum.channel_bytes,
                                 .binds = sum.binds,
                                 .connects = sum.connects,
                                 .now = sum.now,
                                 .total = sum.total};
    tell(client, client_answer(packet, 0), &stats, sizeof stats);
}

static void tell_node(struct client *client, const struct dvk_broker_packet *packet) {
    const struct broker *broker = client->broker;
    const struct broker_host *host = &broker->host;
    struct stats_sum sum = broker_stats_sum(broker, STATS_ALL_DCS);
    struct dvk_node_stats stats = {.size = sizeof stats,
                                   .node = broker->node,
                                   .since_ms = broker->since_ms,
                                   .endpoints = sum.endpoints,
                                   .channels = sum.channels,
                                   .channel_bytes = sum.channel_bytes,
                                   .binds = sum.binds,
                                   .connects = sum.connects,
                                   .packets_in = broker->stats.packets_in,
                                   .packets_out = broker->stats.packets_out,
                                   .changes = host->changes ? host->changes(host->context) : 0,
                                   .now = sum.now,
                                   .total = sum.total};
    for (const struct list *at = broker->clients.next; at != &broker->clients; at = at->next)
        stats.processes++;
    tell(client, client_answer(packet, 0), &stats, sizeof stats);
}

static void tell_info(struct client *client, const struct dvk_broker_packet *packet) {
    const struct broker_host *host = &client->broker->host;
    struct {
        struct dvk_dc_info info;
        struct dvk_dc_node nodes[DVK_MAX_NODE];
    } text = {.info = {.size = sizeof text.info, .dc = packet->dc}};
    int result = packet->dc && host->dc_info ? host->dc_info(host->context, packet->dc, &text.info, text.nodes) : -DVK_ENODC;
    const struct client *other;
    const struct endpoint *endpoint;
    list_for_each(other, &client->broker->clients, link)
        list_for_each(endpoint, &other->context->endpoints, context_link) text.info.endpoints += endpoint->dc == packet->dc;
    tell(client, client_answer(packet, result), &text,
         sizeof text.info + text.info.node_count * sizeof *text.nodes);
}

void broker_stats(struct client *client, const struct dvk_broker_packet *packet) {
    int result = check(client, packet);
    if (result < 0) {
        tell(client, client_answer(packet, result), NULL, 0);
        return;
    }
    switch (packet->side) {
    case DVK_STATS_OF_ENDPOINT:
        tell_endpoint(client, packet);
        break;
    case DVK_STATS_OF_DC:
        tell_dc(client, packet);
        break;
    case DVK_STATS_OF_NODE:
        tell_node(client, packet);
        break;
    case DVK_STATS_OF_INFO:
        tell_info(client, packet);
        break;
    default:
        tell(client, client_answer(packet, -EINVAL), NULL, 0);
    }
}
