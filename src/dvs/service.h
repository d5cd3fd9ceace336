/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs kv, lock, leader and barrier share: a connection to libdvk's socket of a node, and an endpoint in the
 * container whose names are meant. */
#ifndef DVS_SERVICE_H
#define DVS_SERVICE_H

#include "dvs/dvs.h"

#include <dvk/service.h>

struct service {
    struct dvk *dvk;
    dvk_endpoint from;
    int timeout_ms;  /* --timeout; -1: for ever */
    const char *dc;  /* --dc; NULL: the cluster's own names */
};

/* Connect and bind, on a node of that container. 0, or negative with command->failure. */
int service_open(struct command *command, struct service *service);
void service_close(struct service *service);
/* A libdvk call's error as a failure: returns the exit code after telling it. what: "key x". */
int service_report(struct command *command, int error, const char *what);

/* Options that they share; seconds with a fraction, -1: for ever. */
enum { OPTION_DC = OPTION_OWN, OPTION_TIMEOUT, OPTION_SERVICE_OWN };
#define SERVICE_OPTIONS                                                                                                \
    COMMON_OPTIONS, {"dc", required_argument, NULL, OPTION_DC}, {                                                      \
        "timeout", required_argument, NULL, OPTION_TIMEOUT                                                             \
    }
/* Deal with one of them. 0, or a usage error's exit code. */
int service_option(struct command *command, struct service *service, int option);

/*
 * Run a program while we hold a lock or an office: it gets our signals, and ends when we lose it. Returns its exit code,
 * or EXIT_DVS_TROUBLE when the lock was lost. token goes into its environment as DVS_TOKEN.
 */
int service_guard(struct command *command, struct service *service, const struct dvk_lock *lock, char **argv);

#endif
