/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server is to the process that hosts it: a module with an endpoint and handlers that never block.
 * dvs-vos (src/vos/host) runs the modules of one cell in one event loop. Modules talk to each other and
 * to other cells by messages only (dvk_call); libdvk turns a message within the process into a function call.
 */
#ifndef VOS_MODULE_H
#define VOS_MODULE_H

#include <dvk/dvk.h>

#define VOS_MAX_NODES DVK_MAX_NODE

struct vos_node {
    uint32_t id;
    bool up; /* in the quorate view (this node always is) */
    char name[64];
};

/* A volume mounted from one node's host directory (dvs run -v). */
struct vos_mount {
    uint32_t node;
    int dir_fd; /* on that node: the directory; elsewhere -1 */
    bool read_only;
    char path[1024]; /* absolute, in the DC */
};

/* The cell, as its servers see it. Filled in from dvs-vos's command line before any module starts. */
struct vos {
    struct dvk *dvk;
    uint32_t dc;
    uint32_t node;                        /* this node */
    uint32_t primary;                     /* the node that holds the writable layer */
    uint32_t node_count;                  /* of the DC, fixed when the DC is created */
    struct vos_node nodes[VOS_MAX_NODES]; /* sorted by id */
    struct vos_mount mounts[32];
    unsigned mount_count;
    char dc_name[64];
    int image_fd; /* image root for opening: as a stranger to the host would, for --image host */
    int attr_fd;  /* image root for attributes: ids mapped into the DC's range where the file system can; else image_fd
                   */
    int upper_fd; /* writable layer's root; -1 unless this node is the primary */
    int dev_fd;   /* a directory with null zero full random urandom */
    int proc_fd;  /* /proc of the cell's pid namespace */
    int pts_fd;   /* root of the cell's own devpts instance */
    int init_fd;  /* socket to cell init (cell/init_protocol.h), non-blocking; pm reads it, host_init_send writes */
    uint32_t cpu_count;
    uint32_t slot_limit; /* user slots are below this (pid_max of the cells) */
    bool strict, trace;
    char place[96];        /* default placement policy: local, spread, node=NAME, balance */
    dvk_endpoint self[16]; /* endpoint of each service of this cell that runs here */
    void *state[16];       /* each module's own, by service */
};

/* Endpoint of a service on a node of the DC (generation 0: whichever incarnation). */
static inline dvk_endpoint vos_service(uint32_t node, uint32_t service) {
    return dvk_service_endpoint(node, service);
}
/* Node by id; NULL if it is none of the DC's. */
const struct vos_node *vos_node_by_id(const struct vos *vos, uint32_t id);
const struct vos_node *vos_node_by_name(const struct vos *vos, const char *name);

struct vos_module {
    const char *name;
    uint32_t service;
    int (*start)(struct vos *vos);                               /* 0 or negative error: the cell fails */
    void (*request)(struct vos *vos, struct dvk_request *req);   /* owns req */
    void (*cancelled)(struct vos *vos, struct dvk_request *req); /* a pending request of ours should end; may be NULL */
    void (*endpoint_gone)(struct vos *vos, dvk_endpoint endpoint); /* may be NULL */
    void (*node_change)(struct vos *vos, uint32_t node, bool up);  /* vos->nodes is updated already; may be NULL */
    /* A control request of dvkd (JSON object with "op"); true if it was for this module. may be NULL */
    bool (*control)(struct vos *vos, const char *op, const struct dvk_event *event);
    void (*stop)(struct vos *vos); /* may be NULL */
};

extern const struct vos_module pm_module, fs_module, tty_module;

#endif
