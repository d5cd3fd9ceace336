/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side of dvkd's command protocol (src/dvkd/README.md): finds the daemon, sends one request, reads the
 * answers. One connection carries one request. Single threaded; all calls block at most as long as said.
 */
#ifndef DVS_CLIENT_H
#define DVS_CLIENT_H

#include "common/failure.h"
#include "common/json.h"

#include <limits.h>
#include <stddef.h>

/* What the user said about whom to ask. Strings may be NULL and are borrowed. */
struct client_target {
    const char *node; /* --node */
    const char *lab;  /* --lab, else $DVS_LAB */
};

struct client {
    int fd;
    char run[PATH_MAX]; /* run directory of the daemon that answered */
    char *buffer;       /* bytes read and not yet taken: start..end */
    size_t start, end, capacity;
};
#define CLIENT_INIT                                                                                                    \
    { .fd = -1 }

/*
 * client_locate: the run directory of the daemon to ask: --node (in the lab), else $DVS_RUN, else the first node of
 * the lab that answers, one that is quorate if there is one, else /run/dvs. Without --lab and $DVS_LAB, the lab is
 * the only one there is.
 * Errors: -ENOENT (no such node or lab; code no-such-node), -EINVAL (several labs). Blocks at most 1 s a node.
 */
int client_locate(const struct client_target *target, char run[static PATH_MAX], struct failure *failure);

/*
 * client_request: connect to the daemon, send `request` (its reference is taken over) with fds (kept by the caller),
 * and read the first answer into *answer. Follows redirects. timeout_ms: for the answer; -1: for ever. On success
 * *client stays open for more answers and must be closed. Errors: -ECONNREFUSED (code unavailable), -ETIMEDOUT,
 * -EPROTO, -EREMOTEIO (the daemon's own error, in failure).
 */
int client_request(const struct client_target *target, json_t *request, const int *fds, unsigned fd_count,
                   int timeout_ms, struct client *client, json_t **answer, struct failure *failure);

/* The same with the connection closed afterwards: for requests with one answer. */
int client_ask(const struct client_target *target, json_t *request, int timeout_ms, json_t **answer,
               struct failure *failure);

/* client_ask of the daemon with this run directory; follows no redirects. */
int client_ask_run(const char *run, json_t *request, int timeout_ms, json_t **answer, struct failure *failure);

/*
 * client_next: the next answer. Returns 0, -EAGAIN (none within timeout_ms), -ENODATA (end of file), -EPROTO or
 * another negative errno.
 */
int client_next(struct client *client, json_t **answer, int timeout_ms);

/* Take up to `cap` raw bytes: what was read ahead, else from the socket. Count, 0 at the end, or negative errno. */
long client_read_raw(struct client *client, void *to, size_t cap);

/* Does a daemon accept connections there? */
bool client_reachable(const char *run);

void client_close(struct client *client);

/* How long dvkd may take for a request that only looks, and for one that starts or ends things. */
#define CLIENT_LOOK_MS 15000
#define CLIENT_CHANGE_MS 60000

#endif
