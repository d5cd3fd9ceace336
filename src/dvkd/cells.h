/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cells of this node: starting dvs-cell, waiting until its servers are ready, and ending it.
 *
 *   STARTING --ready--> READY --cell_stop--> STOPPING --process ends--> gone
 *      \___________________\______________________________________/
 *
 * A cell that ends without having been asked is told of as failed, with the last line that dvs-cell said.
 */
#ifndef DVKD_CELLS_H
#define DVKD_CELLS_H

#include "dvkd/broker.h"
#include "dvkd/config.h"
#include "dvkd/options.h"
#include "dvkd/spawn.h"

#define CELL_START_MS 60000u
#define CELL_STOP_MS 2000u /* for an orderly stop; then SIGTERM, then SIGKILL */
#define CELL_KILL_MS 1000u

enum cell_state { CELL_STARTING, CELL_READY, CELL_STOPPING };

struct cell {
    struct list link; /* in cells.list */
    struct cells *cells;
    uint32_t dc;
    uint64_t serial; /* of the DC */
    char dc_name[CONFIG_NAME_MAX + 1];
    enum cell_state state;
    pid_t pid;
    struct client *client; /* NULL when its socket has closed */
    struct spawn_log log;
    struct loop_timer *timer;
    struct list waiters; /* struct cell_waiter */
    bool terminated;     /* SIGTERM was sent */
    bool asked;          /* to end, by cell_stop or cell_cut */
    char reason[256];    /* the "failed" event's; empty: none */
};

struct cells_host {
    void *context;
    void (*ready)(void *context, struct cell *cell);
    /* The cell is gone. expected: it was asked to stop. reason: one line. `cell` is freed on return. */
    void (*ended)(void *context, struct cell *cell, bool expected, const char *reason);
    /* An event of its servers other than ready and failed. */
    void (*event)(void *context, struct cell *cell, const json_t *event);
};

struct cells {
    struct loop *loop;
    struct broker *broker;
    const struct options *options;
    struct cells_host host;
    struct list list;
    unsigned count;
};

void cells_init(struct cells *cells, struct loop *loop, struct broker *broker, const struct options *options,
                const struct cells_host *host);
/* Kill and forget all, without telling the host. */
void cells_destroy(struct cells *cells);

struct cell *cells_find(const struct cells *cells, uint32_t dc);
/* Start the DC's cell here; config gives the nodes' names. 0 (*out), or a negative errno. */
int cells_start(struct cells *cells, const struct config *config, const struct config_dc *dc, struct cell **out);
/* Have fn called, later, once the cell is ready, or with NULL and a reason when it never will be. */
typedef void cell_ready_fn(void *context, struct cell *cell, const char *reason);
void cell_when_ready(struct cell *cell, cell_ready_fn *fn, void *context);
/* That context is not interested any more. */
void cell_forget_waiter(struct cell *cell, void *context);
/* End it: orderly, or at once. Calling it again hurries. */
void cell_stop(struct cell *cell, bool at_once);
/* The other nodes take what runs in the cell for dead: nothing of it may be heard any more. It ends, "expected". */
void cell_cut(struct cell *cell);
/* For broker_host: */
void cells_on_event(struct cells *cells, uint32_t dc, const json_t *event);
void cells_on_client_gone(struct cells *cells, struct client *client);

/* uid and gid 0 of a DC on the host. */
static inline uint32_t dc_uid_base(uint32_t dc) { return 0x70000000u + dc % 4096u * 65536u; }
/* STATE/dc/ID[/name] */
void cells_path(const struct options *options, uint32_t dc, const char *name, char *out, size_t cap);
/* The name of the cell's cgroup: unique on this host. */
void cells_cgroup_name(const struct options *options, uint32_t dc, char *out, size_t cap);

#endif
