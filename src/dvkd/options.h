/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DVKD_OPTIONS_H
#define DVKD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    char node[64];     /* this node's name */
    uint32_t id;       /* 1..DVK_MAX_NODE */
    char run[96];      /* run directory: sockets must fit sun_path */
    char state[512];   /* state directory */
    bool cluster;
    bool clear;        /* messages between nodes are not encrypted */
    uint32_t slot_sets, slot_share; /* of DCs that are made here (slot_table_init); 0: as by default */
    char listen[64];   /* where the proxy listens, "address:port"; empty without a cluster */
    char libexec[512]; /* where dvs-cell, dvs-proxy and dvs-copier are */
};

/*
 * Read the command line. 0: go on. 1: done (help or version was printed). Negative: wrong, one line was printed to
 * standard error. argv as in main().
 */
int options_parse(int argc, char **argv, struct options *out);

#endif
