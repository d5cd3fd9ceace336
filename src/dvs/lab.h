/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lab: a cluster of nodes on one machine. Each node is a network namespace on a private switch, and in it a pid
 * namespace whose first process ("node init") runs corosync and dvkd.
 *
 * What a lab is on the machine, all of which `dvs lab down` removes by name, whoever made it:
 *   /var/lib/dvs/lab/LAB/             lab.json, corosync's files, logs; LAB/NODE is dvkd's state directory
 *   /run/dvs/lab/LAB/NODE/            dvkd's run directory
 *   /run/netns/dvs-LAB-sw, -NODE      network namespaces: the switch and each node
 *   processes                         with the argument vector "... lab-node --lab LAB --node NODE", and their children
 *   cgroups                           dvs/run-dvs-lab-LAB-NODE-* in each hierarchy (dvkd names its cells so)
 * The existence of /var/lib/dvs/lab/LAB is the claim on the name; commands that change a lab hold flock(2) on it.
 */
#ifndef DVS_LAB_H
#define DVS_LAB_H

#include "common/failure.h"
#include "common/json.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LAB_NAME_MAX 16
#define LAB_NODES_MAX 64u
#define LAB_DEFAULT_NAME "lab"
#define LAB_PORT 7070 /* where each node's proxy listens; the network is the lab's own */

struct lab_node {
    uint32_t id; /* 1.. */
    char name[LAB_NAME_MAX + 1];
};

struct lab {
    char name[LAB_NAME_MAX + 1];
    unsigned subnet;   /* x of 10.77.x.0/24 */
    unsigned token_ms; /* corosync's token timeout */
    bool clear;        /* messages between nodes are not encrypted */
    char slots[16];    /* dvkd's --slots; empty: none */
    unsigned node_count;
    struct lab_node nodes[LAB_NODES_MAX];
};

void lab_free(struct lab *lab);
static inline void cleanup_lab_fn(struct lab **lab) {
    lab_free(*lab);
}
#define cleanup_lab __attribute__((cleanup(cleanup_lab_fn)))

/* ---- lab_config.c: names, paths, lab.json ---- */

/* 1..16 of a-z 0-9 _, beginning with a letter; and not "sw" or "host", which have a meaning. */
bool lab_name_valid(const char *name);

/*
 * lab_choose: the lab that is meant: `name` (may be NULL), else $DVS_LAB, else the only lab there is.
 * Errors: -ENOENT (no such lab, or none), -EINVAL (bad name, or several to choose from).
 */
int lab_choose(const char *name, char chosen[static LAB_NAME_MAX + 1], struct failure *failure);

/* Read lab.json. -ENOENT when there is no such lab, -EBADMSG when it is half made or broken. */
int lab_load(const char *name, struct lab **out, struct failure *failure);
int lab_save(const struct lab *lab, struct failure *failure);

/* Claim the name (mkdir), choose a free subnet and save lab.json. -EEXIST when there is such a lab. */
int lab_claim(struct lab *lab, struct failure *failure);

/* flock the lab's directory, so that one command at a time changes it. *out: fd to close. -EBUSY, -ENOENT. */
int lab_lock(const char *name, int *out, struct failure *failure);

/* Names of all labs, sorted, each to be freed, as the array itself. Count or negative errno. */
long lab_list(char ***out);

const struct lab_node *lab_node_by_name(const struct lab *lab, const char *name);
void lab_state_path(const char *lab, char path[static PATH_MAX]);
void lab_run_path(const char *lab, char path[static PATH_MAX]);
void lab_node_run_path(const struct lab *lab, const struct lab_node *node, char path[static PATH_MAX]);
void lab_node_address(const struct lab *lab, const struct lab_node *node, char address[static 32]);
/* /run/netns/dvs-LAB-NODE; node "sw" is the switch. */
void lab_netns_path(const char *lab, const char *node, char path[static PATH_MAX]);

/* ---- lab_network.c ---- */

/* Make all network namespaces and links of the lab. */
int lab_network_up(const struct lab *lab, struct failure *failure);
/* Make a new node's namespace and its link to the switch, of a lab that is up. */
int lab_network_add(const struct lab *lab, const struct lab_node *node, struct failure *failure);
/* Undo that. */
void lab_network_remove(const struct lab *lab, const struct lab_node *node);
/* Take a node's link at the switch down or up. */
int lab_network_link(const struct lab *lab, const struct lab_node *node, bool up, struct failure *failure);
/* Is a node's link at the switch up? 1, 0 or negative errno. */
int lab_network_link_state(const struct lab *lab, const struct lab_node *node);
/* 0 if no network namespace has a name of the lab's; else -EEXIST with *failure set. */
int lab_network_free(const char *lab, struct failure *failure);
/* Remove every network namespace of the lab, known or not. */
int lab_network_down(const char *lab, struct failure *failure);

/* ---- lab_node.c: a node's processes, seen from outside ---- */

/* Start node init. Returns when it exists; not when the node is ready. */
int lab_node_start(const struct lab *lab, const struct lab_node *node, struct failure *failure);
/* Node init's pid, 0 when there is none. */
pid_t lab_node_find(const char *lab, const char *node);
/* Wait until no process of the node is left and none holds its daemon's locks, at most timeout_ms. False: some still is. */
bool lab_node_wait_ended(const struct lab *lab, const struct lab_node *node, int timeout_ms);
/* SIGKILL node init and wait until all of the node is gone, at most 10 s; then remove its cgroups. */
int lab_node_kill(const char *lab, const char *node, struct failure *failure);
/* SIGTERM node inits of all of a lab's nodes, wait for them at most timeout_ms, then SIGKILL what is left, and any
 * other process in the lab's network namespaces. */
int lab_nodes_end(const char *lab, int timeout_ms, struct failure *failure);
/* Remove what cgroups of the lab, or of one node (not NULL), are left. */
void lab_cgroups_remove(const char *lab, const char *node);

/* ---- lab_init.c: the internal verb lab-node ---- */

/* Node init: does not return before the node ends. Arguments are those of `dvs lab-node`. */
int lab_node_main(int argc, char **argv);

/* ---- lab_cluster.c ---- */

struct cluster_node;
/* What a node's cluster.json says; its state directory is corosync's as well. */
void lab_node_describe(const struct lab *lab, const struct lab_node *node, struct cluster_node *out);
/* Give each node what `dvs cluster init` gives the first node of a cluster, and `dvs cluster join` the others: certificates,
 * corosync's configuration and key. The first node has the authority. */
int lab_cluster_configure(const struct lab *lab, struct failure *failure);

/* ---- lab_down.c ---- */

/* End and remove all that belongs to a lab, complete or not. Does what it can and reports the first failure. */
int lab_remove(const char *name, struct failure *failure);

#endif
