/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dvkd asks of the proxy (src/dvkd/README.md, "dvkd and the proxy"), and what it is told:
 *
 *   dvkd -> proxy   {"op": "join-answer", "id", "answer": {...}}         {}
 *                   {"op": "links"}                                      {"links": [one a peer, see link_json]}
 *   proxy -> dvkd   {"event": "join", "id", "from": "1.2.3.4", "request": {...}}
 */
#include "common/cleanup.h"
#include "common/json.h"
#include "common/log.h"
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <string.h>

static json_t *join_answer(struct proxy *proxy, const json_t *request) {
    cleanup_free char *text = json_dumps(json_object_get(request, "answer"), JSON_COMPACT);
    json_int_t id;
    if (text && field_integer(request, "id", &id) && id > 0)
        stranger_answer(proxy, (uint64_t)id, text);
    return json_object();
}

static unsigned length_of(const struct link *list) {
    unsigned count = 0;
    for (const struct link *at = list->next; at != list; at = at->next)
        count++;
    return count;
}

/* Times in µs, the rest in bytes and numbers since the peer's node came. */
static json_t *link_json(const struct peer *peer) {
    static const char *const states[] = {"apart", "connecting", "securing", "greeting", "joined"};
    const struct link_counts *counts = &peer->frames.counts;
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    bool known = peer->state == PEER_JOINED &&
                 getsockopt(peer->stream.fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0;
    json_t *json = json_pack("{s:I, s:s, s:s, s:i, s:s}", "node", (json_int_t)peer->node, "state", states[peer->state],
                             "cipher", peer->state == PEER_JOINED ? stream_cipher(&peer->stream) : "", "connections",
                             (int)peer->connections, "refusal", peer->refusal);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"frames_out", counts->frames_out},
                   {"bytes_out", counts->bytes_out},
                   {"frames_in", counts->frames_in},
                   {"bytes_in", counts->bytes_in},
                   {"resent", counts->resent},
                   {"duplicates", counts->duplicates},
                   {"gaps", counts->gaps},
                   {"compressed", counts->packed},
                   {"compressed_from", counts->packed_from},
                   {"compressed_to", counts->packed_to},
                   {"rtt_us", known ? info.tcpi_rtt : 0},
                   {"under_way", peer->flight_bytes},
                   {"unacknowledged", peer->frames.queued_bytes},
                   {"waiting", length_of(&peer->waiting)},  {"requests", length_of(&peer->pendings)},
                   {"parked", length_of(&peer->parked)},    {"answering", length_of(&peer->incomings)},
                   {"stalls", peer->stalls}};
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++)
        json_object_set_new(json, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    return json;
}

static json_t *links(struct proxy *proxy, const json_t *request) {
    json_t *list = json_array();
    list_each(peer, &proxy->peers, struct peer, link) {
        json_array_append_new(list, link_json(peer));
    }
    return json_pack("{s:o}", "links", list);
}

void control_request(struct proxy *proxy, const struct dvk_event *event) {
    static const struct {
        const char *op;
        json_t *(*answer)(struct proxy *proxy, const json_t *request);
    } table[] = {{"join-answer", join_answer}, {"links", links}};
    cleanup_json json_t *request = json_loads(event->text, 0, NULL);
    const char *op = field_string(request, "op");
    cleanup_json json_t *answer = NULL;
    for (unsigned i = 0; i < event->fd_count; i++)
        close(event->fds[i]);
    for (size_t i = 0; op && i < ARRAY_LENGTH(table); i++)
        if (strcmp(op, table[i].op) == 0)
            answer = table[i].answer(proxy, request);
    cleanup_free char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    if (dvk_control_reply(proxy->dvk, event->id, text ? text : "{\"error\":\"not known\"}") < 0)
        log_warning("dvkd's request \"%s\" could not be answered", op ? op : "");
}

bool control_join(struct proxy *proxy, uint64_t id, struct in_addr from, const char *text, size_t len) {
    char address[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &from, address, sizeof address);
    json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(request)) {
        json_decref(request);
        return false;
    }
    cleanup_json json_t *event = json_pack("{s:s, s:I, s:s, s:o}", "event", "join", "id", (json_int_t)id, "from",
                                           address, "request", request);
    cleanup_free char *event_text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    return event_text && dvk_control_send(proxy->dvk, event_text) == 0;
}
