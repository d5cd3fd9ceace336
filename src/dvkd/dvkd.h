/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvkd as a whole: its parts, and what they do for each other.
 *
 *   api.c        the command's socket: requests in, answers out      run.c      dc.run and dc.exec, step by step
 *   api_*.c      one function an operation                           console.c  standard descriptors and the log
 *   broker.c...  libdvk's socket                                     cells.c, proxy.c   child processes
 *   slots.c... which node owns which user slots
 *   places.c   endpoints that have backups, and those that move
 *   services.c.. groups, keys, locks for libdvk's clients          objects.c  the state of them
 *   replica.c    the configuration and the view                      corosync.c the group behind it
 *   reconcile.c  what has to happen here when either has changed
 */
#ifndef DVKD_DVKD_H
#define DVKD_DVKD_H

#include "common/loop.h"
#include "dvkd/broker.h"
#include "dvkd/cells.h"
#include "dvkd/copier.h"
#include "dvkd/options.h"
#include "dvkd/proxy.h"
#include "dvkd/records.h"
#include "dvkd/replica.h"

struct cluster;
struct corosync;
struct run;
struct api;

struct dvkd {
    struct options options;
    struct loop *loop;
    struct broker broker;
    struct cells cells;
    struct proxy proxy;
    struct records records;
    struct copier copier;
    struct store *store;
    struct replica *replica;
    struct services *services;
    struct slots *slots;
    struct places *places;
    struct corosync *corosync; /* NULL: a group of one */
    struct api *api;
    struct cluster *members; /* cluster.h; NULL: in no cluster */
    struct run *runs[DVK_MAX_DC + 1];   /* DCs that were run here, by id, until they are removed or dvkd ends */
    struct list sessions;               /* struct session.link */
    bool was_live[DVK_MAX_DC + 1];      /* as of the last reconcile */
    uint64_t was_serial[DVK_MAX_DC + 1];
    bool remove_files[DVK_MAX_DC + 1];  /* removed: its directory goes when the cell has */
    bool proposed_end[DVK_MAX_DC + 1];  /* a proposal to end it is under way */
    struct loop_timer *reconcile_timer, *status_timer, *stop_timer;
    struct list loopback; /* group of one: messages to ourselves */
    struct loop_timer *loopback_timer;
    struct list removal_waits; /* struct removal_wait: dc.rm that wait for the files to go */
    bool stopping;
    bool quorate;
    unsigned stop_requests;
    unsigned launches; /* dc.run whose dc-create is on its way: their DCs have no run yet */
};

static inline struct config *dvkd_config(struct dvkd *dvkd) { return replica_config(dvkd->replica); }
/* "a", or "node 7" for one that was never announced. Valid until the next call. */
const char *dvkd_node_name(struct dvkd *dvkd, uint32_t node);

/* reconcile.c: look at the configuration and the view again, soon. */
void reconcile_soon(struct dvkd *dvkd);
/* Propose that a DC has failed. Nothing happens if it is over already. */
void dvkd_fail_dc(struct dvkd *dvkd, const struct config_dc *dc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* May the DC's cell be on this node now? */
bool dvkd_cell_may_run(struct dvkd *dvkd, const struct config_dc *dc);
/* The DC's cell here, started if need be. 0 or negative with *failure. */
int dvkd_cell_get(struct dvkd *dvkd, const struct config_dc *dc, struct cell **out, struct failure *failure);

/* glue.c: the hosts of broker, cells and replica. */
extern const struct broker_host dvkd_broker_host;
extern const struct cells_host dvkd_cells_host;
extern const struct replica_port dvkd_replica_port;
/* A group of one: its view. */
void dvkd_start_alone(struct dvkd *dvkd);
void dvkd_proxy_lost(void *context);

/* services_glue.c: the services, once there is a replica; and what hosts and ports tell them. */
int dvkd_services_start(struct dvkd *dvkd);
void dvkd_client_service(void *context, struct client *client, const struct dvk_broker_packet *packet,
                         const char *text);
void dvkd_client_service_gone(struct client *client);
void dvkd_endpoint_gone(void *context, struct client *client, uint32_t dc, dvk_endpoint endpoint);
void dvkd_cast(void *context, uint32_t node, const json_t *payload);
void dvkd_confirmed(void *context, uint64_t epoch);
void dvkd_installed(void *context, bool replaced);

/* stats_glue.c */
int dvkd_dc_info(void *context, uint32_t dc, struct dvk_dc_info *info, struct dvk_dc_node *nodes);
uint64_t dvkd_changes(void *context);

/* stop.c: begin an orderly end of dvkd; a second time: at once. */
void dvkd_stop(struct dvkd *dvkd);
void dvkd_check_stopped(struct dvkd *dvkd);

/* files.c: the directory of a DC on this node. 0 or negative with *failure. */
int files_make(struct dvkd *dvkd, const struct config_dc *dc, struct failure *failure);
/* Put it out of sight at once; a child process removes it. */
void files_remove(struct dvkd *dvkd, uint32_t dc);
/* Remove what was put out of sight before dvkd last ended, and cgroups that cells of a killed dvkd left. */
void files_clean(struct dvkd *dvkd);
/* Remove the cgroup that a killed cell may have left. */
void files_remove_cgroup(struct dvkd *dvkd, uint32_t dc);

#endif
