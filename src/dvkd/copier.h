/* SPDX-License-Identifier: Apache-2.0 */
/* The node's copier: dvs-copier is started when something first wants to copy, and again after it has ended. */
#ifndef DVKD_COPIER_H
#define DVKD_COPIER_H

#include "dvkd/broker.h"
#include "dvkd/options.h"
#include "dvkd/spawn.h"

struct copier {
    struct loop *loop; /* NULL: not initialised, or stopped */
    struct broker *broker;
    const struct options *options;
    pid_t pid; /* 0: not running */
    struct client *client;
    struct spawn_log log;
};

void copier_init(struct copier *copier, struct loop *loop, struct broker *broker, const struct options *options);
/* Start it if it is not running. 0 or a negative errno; when it is ready, or has ended before that, the broker's
 * waiting CONNECTs are tried again, or fail. */
int copier_start(struct copier *copier);
/* Kill it and let it be. Harmless on one that was never initialised (zeroed). */
void copier_stop(struct copier *copier);
/* For broker_host. */
void copier_on_client_gone(struct copier *copier, struct client *client);

#endif
