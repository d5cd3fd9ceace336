/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica of the configuration among members that send anything. The input is lines:
 *   V<digits>   a view of the members with these ids; in lower case (v) without quorum
 *   P<json>     we propose a change
 *   T           our own messages come back, in order
 *   1..4<json>  a message of that member. @R in it becomes the last round that anyone opened, @D our digest, @M the
 *               list of members, @V our view
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/replica.h"
#include "input.h"

#include <inttypes.h>

#define US 2u

static struct loop *loop;
static struct replica *replica;
static char *sent[64];
static unsigned sent_count;
static char last_round[64], member_text[64];
static bool broken;

static void round_note(const char *text) {
    const char *at = strstr(text, "\"type\":\"start\"") ? strstr(text, "\"round\":\"") : NULL;
    if (at)
        sscanf(at + 9, "%63[^\"\n]", last_round);
}

static void port_send(void *context, const char *text, size_t len) {
    if (sent_count < 64)
        sent[sent_count++] = strndup(text, len);
}
static void port_changed(void *context, const struct config_effect *effect) {}
static void port_node(void *context, uint32_t node, bool up) { MUST(replica_node_is_up(replica, node) == up); }
static void port_quorum(void *context, bool quorate) { MUST(replica_is_quorate(replica) == quorate); }
static void port_excluded(void *context) {}
static void port_broken(void *context) { broken = true; }

static void done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    MUST(status == 0 || failure->message[0]);
}

static struct replica_member member(uint32_t node) { return (struct replica_member){node, 100 + node}; }

static void view(const char *text, bool quorate) {
    struct replica_member members[5];
    size_t count = 0, len = 0;
    bool us = false;
    for (; *text >= '1' && *text <= '4' && count < 4; text++) {
        us |= *text - '0' == US;
        members[count++] = member((uint32_t)(*text - '0'));
    }
    if (!us)
        members[count++] = member(US);
    member_text[0] = 0;
    for (uint32_t node = 1; node <= 4; node++)
        for (size_t i = 0; i < count; i++)
            if (members[i].node == node)
                len += (size_t)snprintf(member_text + len, sizeof member_text - len, "%s%u,%u", len ? "," : "", node, 100 + node);
    replica_view(replica, members, count, quorate);
}

static void own(void) {
    for (unsigned i = 0; i < sent_count && !broken; i++) {
        struct replica_member us = member(US);
        round_note(sent[i]);
        replica_deliver(replica, &us, sent[i], strlen(sent[i]));
    }
    for (unsigned i = 0; i < sent_count; i++)
        free(sent[i]);
    sent_count = 0;
}

static void deliver(uint32_t node, const char *text) {
    char out[8192];
    size_t at = 0;
    struct replica_member from = member(node);
    for (; *text && at < sizeof out - 128; text++) {
        if (*text != '@') {
            out[at++] = *text;
            continue;
        }
        switch (*++text) {
        case 'R':
            at += (size_t)sprintf(out + at, "%s", last_round);
            break;
        case 'D':
            at += (size_t)sprintf(out + at, "%016" PRIx64, config_digest(replica_config(replica)));
            break;
        case 'M':
            at += (size_t)sprintf(out + at, "%s", member_text);
            break;
        case 'V':
            at += (size_t)sprintf(out + at, "%" PRIu64, replica_config(replica)->view);
            break;
        default:
            text--;
        }
    }
    out[at] = 0;
    round_note(out);
    char *exact = input_heap((const uint8_t *)out, at);
    replica_deliver(replica, &from, exact, at);
    free(exact);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_init("fuzz");
    MUST(loop_create(&loop) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config_node self = {.id = US, .name = "b", .cpus = 1};
    struct replica_port port = {NULL, port_send, port_changed, port_node, port_quorum, port_excluded, port_broken};
    cleanup_free char *text = strndup((const char *)data, size);
    broken = false;
    last_round[0] = member_text[0] = 0;
    MUST(replica_create(loop, NULL, config_new(), &self, &port, &replica) == 0);
    for (char *line = text, *next; line && !broken; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        json_error_t error;
        if (*line == 'V' || *line == 'v')
            view(line + 1, *line == 'V');
        else if (*line == 'T')
            own();
        else if (*line >= '1' && *line <= '4')
            deliver((uint32_t)(*line - '0'), line + 1);
        else if (*line == 'P') {
            cleanup_json json_t *change = json_loads(line + 1, 0, &error);
            if (change)
                replica_propose(replica, change, done, NULL);
        }
        MUST(loop_step(loop, 0) == 0);
    }
    if (!broken) { /* what it holds can still be sent to others */
        cleanup_json json_t *json = config_to_json(replica_config(replica));
        struct config *copy = NULL;
        MUST(config_from_json(json, &copy) == 0);
        config_free(copy);
    }
    broken = true;
    own(); /* frees */
    replica_destroy(replica);
    return 0;
}
