/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics: where our endpoints count (stats_page.h), and asking dvkd for what endpoints, DCs and nodes have counted.
 * Another node is asked by a request to its service KERNEL, as in watch.c.
 *
 * own->stats, call->stats and request->stats point into the page, or to dvk.uncounted: counting needs no question. When an
 * endpoint goes, what is still under way points to dvk.uncounted from then on.
 */
#include "dvk/internal.h"
#include "dvk/kernel.h"
#include "dvk/relay.h"
#include "dvk/stats_page.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ANSWER_TIMEOUT_MS 30000
#define INFO_TIMEOUT_MS 5000
#define DC_NODES_CAP DVK_MAX_NODE

/* ---- counting ---- */

/* A place of the page, zeroed; 0: none is free. */
static uint32_t place_take(struct dvk *dvk) {
    uint32_t place = 0;
    if (dvk->stats_free_count)
        place = dvk->stats_free[--dvk->stats_free_count];
    else if (dvk->stats_used + 1 < DVK_STATS_PLACES)
        place = ++dvk->stats_used;
    if (place && dvk->stats_page)
        memset(&dvk->stats_page[place], 0, sizeof *dvk->stats_page);
    return place;
}

static void place_give(struct dvk *dvk, uint32_t place) {
    if (place == 0)
        return;
    if (dvk->stats_free_count == dvk->stats_free_cap) {
        uint32_t cap = dvk->stats_free_cap ? dvk->stats_free_cap * 2 : 16;
        uint32_t *grown = realloc(dvk->stats_free, cap * sizeof *grown);
        if (!grown)
            return; /* this place is not used again */
        dvk->stats_free = grown;
        dvk->stats_free_cap = cap;
    }
    dvk->stats_free[dvk->stats_free_count++] = place;
}

void stats_bind(struct dvk *dvk, struct own_endpoint *own, struct dvk_broker_packet *ask) {
    own->stats_place = ask->place = place_take(dvk);
    own->stats = &dvk->uncounted;
    if (!dvk->stats_page)
        ask->flags |= DVK_BROKER_F_STATS;
}

void stats_bound(struct dvk *dvk, struct own_endpoint *own, const struct packet *answer) {
    struct stat st;
    if (!dvk->stats_page && answer->fd_count == 1 && fstat(answer->fds[0], &st) == 0 &&
        st.st_size >= (off_t)DVK_STATS_PAGE_SIZE) {
        void *page = mmap(NULL, DVK_STATS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, answer->fds[0], 0);
        if (page != MAP_FAILED)
            dvk->stats_page = page;
    }
    if (own->stats_place && dvk->stats_page)
        own->stats = &dvk->stats_page[own->stats_place];
}

static void placed(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct own_endpoint *own = packet->head.status == 0 ? own_find(dvk, packet->head.endpoint) : NULL;
    (void)awaited;
    if (own)
        stats_bound(dvk, own, packet);
}

void stats_arrived(struct dvk *dvk, struct own_endpoint *own) {
    struct dvk_broker_packet packet = {.type = DVK_BROKER_STATS_PLACE, .dc = own->dc, .endpoint = own->endpoint};
    stats_bind(dvk, own, &packet);
    (void)broker_ask(dvk, &packet, placed, NULL, NULL); /* a failure only leaves it uncounted */
}

void stats_unbind(struct dvk *dvk, const struct own_endpoint *own) {
    if (own->stats == &dvk->uncounted) {
        place_give(dvk, own->stats_place);
        return;
    }
    for (uint32_t i = 0; i < dvk->call_cap; i++)
        if (dvk->calls[i] && dvk->calls[i]->stats == own->stats)
            dvk->calls[i]->stats = NULL;
    list_each(request, &dvk->requests, struct request, all) {
        if (request->stats == own->stats)
            request->stats = &dvk->uncounted;
    }
    place_give(dvk, own->stats_place);
}

void stats_close(struct dvk *dvk) {
    if (dvk->stats_page)
        munmap(dvk->stats_page, DVK_STATS_PAGE_SIZE);
    free(dvk->stats_free);
}

static enum dvk_stats_error error_class(int error) {
    switch (error) {
    case -DVK_ETIMEDOUT:
        return DVK_STATS_TIMED_OUT;
    case -DVK_EDEADDST:
    case -DVK_EDEADSRC:
        return DVK_STATS_DEAD;
    case -DVK_ENODEUNREACH:
        return DVK_STATS_UNREACHABLE;
    case -DVK_ENOTBOUND:
        return DVK_STATS_NOT_BOUND;
    case -DVK_ENOTALLOWED:
    case -DVK_EDEADLOCK:
    case -EMSGSIZE:
    case -EINVAL:
        return DVK_STATS_REFUSED;
    case -DVK_EINTERRUPTED:
        return DVK_STATS_INTERRUPTED;
    case -DVK_EBADPEER:
    case -DVK_ENODAEMON:
    case -DVK_EVERSION:
        return DVK_STATS_BROKEN;
    default:
        return DVK_STATS_OTHER;
    }
}

void stats_error(struct dvk_stats *stats, int error) {
    stats->errors[error_class(error)]++;
}

/* ---- asking ---- */

/* Copy what both know; out begins with its size, set by the caller. */
static int fill(void *out, const void *known, size_t known_size) {
    uint32_t size;
    memcpy(&size, out, sizeof size);
    if (size < 2 * sizeof size)
        return -EINVAL;
    size_t both = size < known_size ? size : known_size;
    memcpy(out, known, both);
    memset((char *)out + both, 0, size - both);
    size = (uint32_t)both;
    memcpy(out, &size, sizeof size);
    return 0;
}

static int check_size(const void *out) {
    uint32_t size;
    memcpy(&size, out, sizeof size);
    return size < 2 * sizeof size ? -EINVAL : 0;
}

static int ask_elsewhere(struct dvk *dvk, dvk_endpoint from, uint32_t node, dvk_endpoint endpoint,
                         enum dvk_stats_question question, void *out, size_t size, int64_t deadline) {
    struct dvk_message message = {.destination = dvk_service_endpoint(node, DVK_SERVICE_KERNEL),
                                  .type = DVK_KERNEL_STATS};
    message.payload.words[0] = endpoint;
    message.payload.words[1] = question;
    int64_t left = (deadline - now_ns()) / NS_PER_MS;
    size_t len = 0;
    int error = sendrec_own(dvk, from, &message, out, size, &len, left < 0 ? 0 : (int)left);
    if (error == 0)
        error = message.status;
    if (error == 0 && len < 2 * sizeof(uint32_t))
        error = -DVK_EVERSION;
    if (error == 0 && len < size)
        memset((char *)out + len, 0, size - len);
    return error;
}

/* node: not 0: ask there at once. *out, zeroed, gets the structure as far as the one who answers knows it. */
static int ask(struct dvk *dvk, dvk_endpoint from, uint32_t node, dvk_endpoint endpoint,
               enum dvk_stats_question question, void *out, size_t size, int64_t deadline) {
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (node && node != dvk->node)
        return ask_elsewhere(dvk, from, node, endpoint, question, out, size, deadline);
    struct dvk_broker_packet packet = {
        .type = DVK_BROKER_STATS, .dc = own->dc, .endpoint = from, .peer = endpoint, .side = question};
    struct packet answer;
    int error = broker_ask_wait(dvk, &packet, NULL, 0, &answer, deadline);
    uint32_t elsewhere = error == 0 && answer.head.flags & DVK_BROKER_F_ELSEWHERE ? answer.head.node : 0;
    if (error == 0 && !elsewhere && (!answer.text || answer.head.text_len < 2 * sizeof(uint32_t)))
        error = -DVK_EVERSION;
    if (error == 0 && !elsewhere)
        memcpy(out, answer.text, answer.head.text_len < size ? answer.head.text_len : size);
    packet_clear(&answer);
    if (error == -DVK_ENODAEMON && !dvk->broker_gone)
        error = -DVK_ETIMEDOUT;
    return elsewhere ? ask_elsewhere(dvk, from, elsewhere, endpoint, question, out, size, deadline) : error;
}

int dvk_stats_endpoint(struct dvk *dvk, dvk_endpoint from, dvk_endpoint endpoint, struct dvk_endpoint_stats *out) {
    struct dvk_endpoint_stats known = {0};
    if (!own_find(dvk, from))
        return -DVK_ENOTBOUND;
    if (check_size(out) < 0 || endpoint == DVK_NONE || endpoint == DVK_ANY)
        return -EINVAL;
    int error = ask(dvk, from, 0, endpoint, DVK_STATS_OF_ENDPOINT, &known, sizeof known, deadline_of(ANSWER_TIMEOUT_MS));
    return error < 0 ? error : fill(out, &known, sizeof known);
}

static void words_add(void *sum, const void *more, size_t size) {
    uint64_t *to = sum;
    const uint64_t *from = more;
    for (size_t i = 0; i < size / sizeof *to; i++)
        if (__builtin_add_overflow(to[i], from[i], &to[i]) || to[i] > INT64_MAX)
            to[i] = INT64_MAX;
}

/* All but the size, the DC and the counts of nodes, which are 32 bits each. */
static void dc_add(struct dvk_dc_stats *sum, const struct dvk_dc_stats *more) {
    size_t from = offsetof(struct dvk_dc_stats, endpoints);
    words_add((char *)sum + from, (const char *)more + from, sizeof *sum - from);
}

static bool contains(const uint32_t *nodes, int count, uint32_t node) {
    for (int i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

/* A node that is down, or goes down meanwhile, is no failure of the whole. */
static bool is_of_the_node(int error) {
    return error == -DVK_ENODEUNREACH || error == -DVK_EDEADDST || error == -ENOSYS;
}

int dvk_stats_dc(struct dvk *dvk, dvk_endpoint from, uint32_t node, struct dvk_dc_stats *out) {
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (check_size(out) < 0)
        return -EINVAL;
    uint32_t nodes[DC_NODES_CAP] = {dvk->node}, dc = own->dc;
    int64_t deadline = deadline_of(ANSWER_TIMEOUT_MS);
    int count = dc == 0 ? 1 : dvk_dc_nodes(dvk, dc, nodes, DC_NODES_CAP), error = 0;
    if (count < 0)
        return count;
    if (count > (int)DC_NODES_CAP)
        return -DVK_EVERSION;
    if (dc != 0 && node && !contains(nodes, count, node))
        return -DVK_ENOTBOUND;
    struct dvk_dc_stats sum = {.dc = dc};
    if (node) {
        nodes[0] = node;
        count = 1;
    }
    for (int i = 0; i < count && error == 0; i++) {
        struct dvk_dc_stats one = {0};
        error = ask(dvk, from, nodes[i], DVK_NONE, DVK_STATS_OF_DC, &one, sizeof one, deadline);
        if (error == 0) {
            dc_add(&sum, &one);
            sum.nodes++;
        } else if (!node && is_of_the_node(error)) {
            sum.missing++;
            error = 0;
        }
    }
    return error < 0 ? error : fill(out, &sum, sizeof sum);
}

int dvk_stats_node(struct dvk *dvk, dvk_endpoint from, uint32_t node, struct dvk_node_stats *out) {
    struct dvk_node_stats known = {0};
    const struct own_endpoint *own = own_find(dvk, from);
    if (!own)
        return -DVK_ENOTBOUND;
    if (check_size(out) < 0 || node > DVK_MAX_NODE)
        return -EINVAL;
    if (own->dc != 0)
        return -DVK_ENOTALLOWED;
    int error = ask(dvk, from, node, DVK_NONE, DVK_STATS_OF_NODE, &known, sizeof known, deadline_of(ANSWER_TIMEOUT_MS));
    return error < 0 ? error : fill(out, &known, sizeof known);
}

int dvk_info_dc(struct dvk *dvk, uint32_t dc, struct dvk_dc_info *out, struct dvk_dc_node *nodes, size_t cap) {
    if (check_size(out) < 0)
        return -EINVAL;
    struct dvk_broker_packet packet = {.type = DVK_BROKER_STATS, .dc = dc, .side = DVK_STATS_OF_INFO};
    struct packet answer;
    struct dvk_dc_info info;
    int error = broker_ask_wait(dvk, &packet, NULL, 0, &answer, deadline_of(INFO_TIMEOUT_MS));
    size_t len = error == 0 && answer.text ? answer.head.text_len : 0, count = 0;
    if (error == 0 && len < sizeof info)
        error = -DVK_EVERSION;
    if (error == 0) {
        memcpy(&info, answer.text, sizeof info);
        count = (len - sizeof info) / sizeof *nodes;
        if (count && cap)
            memcpy(nodes, answer.text + sizeof info, (count < cap ? count : cap) * sizeof *nodes);
        error = fill(out, &info, sizeof info);
    }
    packet_clear(&answer);
    return error < 0 ? error : (int)count;
}

/* ---- for the proxy: see relay.h ---- */

struct relay_question {
    dvk_relay_counted *counted;
    void *context;
};

static void relay_answered(struct dvk *dvk, struct awaited *awaited, struct packet *packet) {
    struct relay_question *question = awaited->a;
    (void)dvk;
    question->counted(question->context, packet->head.status, packet->text, packet->text ? packet->head.text_len : 0);
    free(question);
}

int dvk_relay_stats(struct dvk *dvk, uint32_t dc, dvk_endpoint endpoint, uint32_t question, dvk_relay_counted *fn,
                    void *context) {
    struct relay_question *asked = calloc(1, sizeof *asked);
    if (!asked)
        return -ENOMEM;
    *asked = (struct relay_question){fn, context};
    struct dvk_broker_packet packet = {.type = DVK_BROKER_STATS, .dc = dc, .peer = endpoint, .side = question};
    int error = broker_ask(dvk, &packet, relay_answered, asked, NULL);
    if (error < 0)
        free(asked);
    return error;
}
