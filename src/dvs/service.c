/* SPDX-License-Identifier: Apache-2.0 */
#include "dvs/service.h"

#include "common/cleanup.h"
#include "common/loop.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>


static const struct {
    int error;
    const char *code, *hint;
} errors[] = {
    {-DVK_ENOQUORUM, "no-quorum", "dvs node ls shows which nodes are missing; --stale reads what this node knows"},
    {-DVK_EUNKNOWN, "unavailable", "look whether it took effect"},
    {-DVK_ECONFLICT, "conflict", "dvs kv get tells its revision"},
    {-DVK_ENOKEY, "no-such-key", "dvs kv ls lists them"},
    {-DVK_ELOST, "lost", "this node lost quorum, or the holder's process was taken for dead"},
    {-EBUSY, "busy", NULL},
    {-DVK_ENODC, "no-such-dc", "dvs ls lists them"},
    {-DVK_ENOTALLOWED, "no-such-node", "--node names one of the container's nodes"},
    {-DVK_ETIMEDOUT, "unavailable", "--timeout sets how long to wait"},
    {-EMSGSIZE, "limit-out-of-range", "a value has at most 32768 bytes"},
    {-ENOSPC, "full", "see the limits in dvs(1)"},
    {-EINVAL, "bad-request", "names have 1 to 255 bytes of UTF-8 without control characters"},
    {-DVK_ENODAEMON, "unavailable", "see its log, or: dvs lab status"},
};

int service_report(struct command *command, int error, const char *what) {
    const char *code = "internal", *hint = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(errors); i++)
        if (errors[i].error == error) {
            code = errors[i].code;
            hint = errors[i].hint;
        }
    failure_set(&command->failure, error, code, hint, "%s: %s", what, dvk_strerror(error));
    return failure_report(command);
}

/* The run directory of a node by its number; false: it is down or unknown. */
static bool node_run(struct command *command, uint32_t id, char run[static PATH_MAX]) {
    cleanup_json json_t *answer = NULL;
    json_t *node;
    size_t i;
    if (client_ask(&command->target, json_pack("{s:s}", "op", "node.ls"), CLIENT_LOOK_MS, &answer, &command->failure) < 0)
        return false;
    json_array_foreach(json_object_get(answer, "nodes"), i, node) {
        const char *path = field_string(node, "run"), *state = field_string(node, "state");
        if (field_integer_or(node, "id", 1, INT32_MAX, 0) == (json_int_t)id && path && state && strcmp(state, "up") == 0) {
            snprintf(run, PATH_MAX, "%s", path);
            return true;
        }
    }
    return false;
}

static int connect_to(struct command *command, const char *run, struct dvk **dvk) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/dvkd.sock", run);
    int error = dvk_open(path, dvk);
    if (error == -DVK_ENODAEMON)
        return failure_set(&command->failure, error, "unavailable", "start one by: dvs lab up 3", "no dvkd answers at %s",
                           run);
    return error < 0 ? failure_set(&command->failure, error, "unavailable", NULL, "cannot use dvkd at %s: %s", run,
                                   dvk_strerror(error))
                     : 0;
}

/* Only a node of the container can tell of its names: go to one. */
static int go_to_node(struct command *command, struct service *service, uint32_t dc) {
    uint32_t nodes[DVK_MAX_NODE], here = dvk_node(service->dvk);
    int count = dvk_dc_nodes(service->dvk, dc, nodes, DVK_MAX_NODE);
    for (int i = 0; i < count; i++)
        if (nodes[i] == here || command->target.node)
            return 0; /* --node was meant so */
    for (int i = 0; i < count && i < (int)DVK_MAX_NODE; i++) {
        char run[PATH_MAX];
        if (!node_run(command, nodes[i], run))
            continue;
        dvk_close(service->dvk);
        service->dvk = NULL;
        return connect_to(command, run, &service->dvk);
    }
    return 0; /* binding tells what is wrong */
}

int service_open(struct command *command, struct service *service) {
    char run[PATH_MAX];
    uint32_t dc = 0;
    int result = client_locate(&command->target, run, &command->failure);
    if (result == 0)
        result = connect_to(command, run, &service->dvk);
    if (result == 0 && service->dc) {
        result = dvk_find_dc(service->dvk, service->dc, &dc);
        if (result < 0)
            failure_set(&command->failure, result, "no-such-dc", "dvs ls lists them", "no container named %s",
                        service->dc);
        else
            result = go_to_node(command, service, dc);
    }
    if (result == 0) {
        result = dvk_bind(service->dvk, dc, DVK_SLOT_ANY, &service->from);
        if (result < 0)
            failure_set(&command->failure, result, result == -DVK_ENODC ? "no-such-dc" : "unavailable",
                        "dvs ls shows its state and its nodes", "cannot take part in %s: %s",
                        service->dc ? service->dc : "the cluster", dvk_strerror(result));
    }
    if (result < 0)
        service_close(service);
    return result;
}

void service_close(struct service *service) {
    dvk_close(service->dvk);
    service->dvk = NULL;
}

int service_option(struct command *command, struct service *service, int option) {
    char *end;
    double seconds;
    switch (option) {
    case OPTION_DC:
        service->dc = optarg;
        return 0;
    case OPTION_TIMEOUT:
        seconds = strtod(optarg, &end);
        if (end == optarg || *end || !(seconds >= 0 && seconds <= 1e6))
            return usage_error(command, "--timeout %s: give seconds, 0 to 1000000", optarg);
        service->timeout_ms = (int)(seconds * 1000);
        return 0;
    default:
        return EXIT_USAGE;
    }
}
