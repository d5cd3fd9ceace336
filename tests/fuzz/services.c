/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and services of one node, asked by a hostile program, among members of the cluster that cast anything. The input is
 * steps: a byte that says what, a byte of length, that many bytes.
 *   0..127    a SERVICE packet: operation and client, then its head's fields (16 bytes) and text from the input
 *   128..159  a CANCEL or TAKEN with a number from the input
 *   160..223  a cast of a member: JSON
 *   224..239  what we have sent comes back
 *   240..247  quorum comes or goes
 *   248..255  the client ends, and another begins
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvk/service_protocol.h"
#include "dvkd/services.h"
#include "input.h"

#define US 2u

static struct loop *loop;
static struct replica *replica;
static struct services *services;
static struct service_client *clients[2];
static char *sent[256];
static unsigned sent_count;

static void port_send(void *context, const char *text, size_t len) {
    if (sent_count < 256)
        sent[sent_count++] = strndup(text, len);
}
static void port_changed(void *context, const struct config_effect *effect) { services_changed(services, effect); }
static void port_node(void *context, uint32_t node, bool up) {}
static void port_quorum(void *context, bool quorate) { services_quorum(services, quorate); }
static void port_excluded(void *context) {}
static void port_broken(void *context) { MUST(false); }
static void port_cast(void *context, uint32_t node, const json_t *payload) { services_cast(services, node, payload); }
static void port_confirmed(void *context, uint64_t epoch) { services_confirmed(services, epoch); }
static void port_installed(void *context, bool replaced) { services_installed(services, replaced); }

/* What a client is sent is well formed, whatever was asked. */
static void client_send(void *context, void *user, const struct dvk_broker_packet *packet, const char *text) {
    struct dvk_service_head head;
    MUST(packet->text_len >= sizeof head && packet->text_len <= DVK_BROKER_TEXT_MAX);
    memcpy(&head, text, sizeof head);
    MUST(head.name_len <= DVK_SERVICE_NAME_MAX && sizeof head + head.name_len + head.value_len == packet->text_len);
}
static json_t *endpoints(void *context, uint32_t dc) { return json_array(); }

static void own(void) {
    struct replica_member us = {US, 1};
    for (unsigned i = 0; i < sent_count; i++) {
        replica_deliver(replica, &us, sent[i], strlen(sent[i]));
        free(sent[i]);
    }
    sent_count = 0;
    MUST(loop_step(loop, 0) == 0);
}

static void ask(struct service_client *client, uint8_t op, const uint8_t *data, size_t len) {
    struct dvk_service_head head = {0};
    size_t take = len < 16 ? len : 16;
    uint8_t bytes[16] = {0};
    memcpy(bytes, data, take);
    head.op = op % 16u;
    head.flags = bytes[0] | (uint32_t)(bytes[1] & 1) << 8;
    head.number = bytes[2];
    head.revision = bytes[3] & 64 ? UINT64_MAX - bytes[3] : bytes[3];
    head.count = bytes[4];
    size_t rest = len - take;
    head.name_len = bytes[5] & 128 ? bytes[6] : (uint32_t)(rest < 4 ? rest : 4u);
    head.value_len = bytes[5] & 64 ? bytes[7] : (uint32_t)(rest > head.name_len ? rest - head.name_len : 0);
    size_t text_len = sizeof head + rest;
    cleanup_free char *text = malloc(text_len);
    memcpy(text, &head, sizeof head);
    if (rest)
        memcpy(text + sizeof head, data + take, rest);
    struct dvk_broker_packet packet = {.type = DVK_BROKER_SERVICE,
                                       .id = bytes[8],
                                       .dc = 0,
                                       .endpoint = dvk_endpoint_make(1, 100u + (bytes[9] & 3)),
                                       .text_len = (uint32_t)(bytes[5] & 32 ? text_len / 2 : text_len)};
    (void)services_packet(client, &packet, text);
}

static void cast(const uint8_t *data, size_t len) {
    cleanup_json json_t *payload = json_loadb((const char *)data, len, 0, NULL);
    if (payload)
        services_cast(services, 1 + len % 3, payload);
}

static void step(uint8_t what, const uint8_t *data, size_t len) {
    if (sent_count > 200)
        own();
    struct service_client **client = &clients[what & 1];
    if (what < 128) {
        ask(*client, what >> 1, data, len);
    } else if (what < 160) {
        struct dvk_broker_packet packet = {.type = what & 2 ? DVK_BROKER_SERVICE_CANCEL : DVK_BROKER_SERVICE_TAKEN,
                                           .id = len ? data[0] : 0,
                                           .channel = len ? data[0] : 0};
        (void)services_packet(*client, &packet, "");
    } else if (what < 224) {
        cast(data, len);
    } else if (what < 240) {
        own();
    } else if (what < 248) {
        replica_quorum(replica, what & 2);
        own();
    } else {
        services_client_gone(*client);
        *client = services_client_add(services, NULL);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    MUST(loop_create(&loop) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config_node self = {.id = US, .name = "b", .cpus = 1};
    struct replica_member us = {US, 1};
    struct replica_port port = {NULL,          port_send,   port_changed, port_node,      port_quorum,
                                port_excluded, port_broken, port_cast,    port_confirmed, port_installed};
    struct services_port services_port = {.send = client_send, .endpoints = endpoints};
    MUST(replica_create(loop, NULL, config_new(), &self, &port, &replica) == 0);
    MUST(services_create(loop, US, &services_port, &services) == 0);
    services_set_replica(services, replica);
    for (int i = 0; i < 2; i++)
        clients[i] = services_client_add(services, NULL);
    replica_view(replica, &us, 1, true);
    own();
    while (size >= 2) {
        size_t len = data[0] < 224 ? data[1] : 0;
        if (len > size - 2)
            len = size - 2;
        step(data[0], data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    replica_quorum(replica, true);
    own();
    own();
    MUST(services_counts(services).queued == 0); /* nothing waits for ever */
    for (int i = 0; i < 2; i++)
        services_client_gone(clients[i]);
    for (unsigned i = 0; sent_count && i < 4; i++)
        own();
    json_t *row; /* and what clients entered has gone with them */
    const char *key;
    json_object_foreach(replica_config(replica)->objects.rows, key, row) MUST(strncmp(key, "0/kv/", 5) == 0);
    services_destroy(services);
    replica_destroy(replica);
    for (unsigned i = 0; i < sent_count; i++)
        free(sent[i]);
    sent_count = 0;
    return 0;
}
