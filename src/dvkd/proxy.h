/* SPDX-License-Identifier: Apache-2.0 */
/* The node's proxy: dvs-proxy is kept running, with its broker socket. */
#ifndef DVKD_PROXY_H
#define DVKD_PROXY_H

#include "dvkd/broker.h"
#include "dvkd/options.h"
#include "dvkd/spawn.h"

struct proxy {
    struct loop *loop;
    struct broker *broker;
    const struct options *options;
    pid_t pid;
    struct client *client;
    struct spawn_log log;
    struct loop_timer *timer;
    uint64_t started_ms;
    void (*lost)(void *context);
    void *context;
    unsigned failures; /* in a row: each doubles the wait before the next start */
};

/* Start it (and, from now on, start it again whenever it ends). lost: called when it has ended; with it went messages
 * that were under way, and nobody can say which. */
void proxy_start(struct proxy *proxy, struct loop *loop, struct broker *broker, const struct options *options,
                 void (*lost)(void *context), void *context);
/* Kill it and let it be. Harmless on a proxy that was never started (zeroed). */
void proxy_stop(struct proxy *proxy);
/* For broker_host. */
void proxy_on_client_gone(struct proxy *proxy, struct client *client);

#endif
