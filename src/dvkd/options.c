/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/options.h"

#include "cluster/cluster.h"
#include "dvkd/config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: dvkd [--node NAME] [--id N] [--run DIR] [--state DIR] [--cluster --listen ADDRESS:PORT] [--clear] [--slots SETS[:SHARE]]\n"
    "            [--libexec DIR]\n"
    "\n"
    "  --node NAME            name of this node (the host's name)\n"
    "  --id N                 id of this node, 1 to 384; with --cluster, corosync's nodeid (1)\n"
    "  --run DIR              sockets and pid file (/run/dvs)\n"
    "  --state DIR            configuration and writable layers (/var/lib/dvs)\n"
    "  --cluster              take part in the cluster of the local corosync\n"
    "  --clear                do not encrypt messages between nodes (all nodes alike)\n"
    "  --listen ADDRESS:PORT  where this node's proxy listens for the other nodes\n"
    "  --libexec DIR          where dvs-cell, dvs-vos, dvs-proxy and dvs-copier are\n"
    "  --slots SETS[:SHARE]   user slots of containers made here: sets of 64 in all, 2 to 16384 (16384), and how many of\n"
    "                         these each node gets at first (256 split between the nodes)\n"
    "  --version, --help\n";

static int wrong(const char *format, const char *value) {
    fprintf(stderr, "dvkd: ");
    fprintf(stderr, format, value);
    fprintf(stderr, " (dvkd --help)\n");
    return -EINVAL;
}

static int set_text(char *to, size_t cap, const char *value, const char *what) {
    if (!*value || strlen(value) >= cap)
        return wrong("%s is empty or too long", what);
    strcpy(to, value);
    return 0;
}

/* The host's name, up to the first dot, as far as it makes a valid name. */
static void default_node(char name[64]) {
    char host[256] = "";
    size_t n = 0;
    if (gethostname(host, sizeof host - 1) == 0)
        for (const char *c = host; *c && *c != '.' && n < CONFIG_NAME_MAX; c++)
            if (isalnum((unsigned char)*c) || (n && (*c == '-' || *c == '_')))
                name[n++] = (char)tolower((unsigned char)*c);
    name[n] = 0;
    if (!config_name_is_valid(name))
        strcpy(name, "node");
}

/* Beside dvkd itself, if the other programs are there; else where they were to be installed. */
static void default_libexec(char dir[512]) {
    char self[400], probe[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = NULL;
    if (n > 0) {
        self[n] = 0;
        slash = strrchr(self, '/');
    }
    if (slash) {
        *slash = 0;
        snprintf(probe, sizeof probe, "%s/dvs-cell", self);
        if (access(probe, X_OK) == 0) {
            snprintf(dir, 512, "%s", self);
            return;
        }
    }
    snprintf(dir, 512, "%s", DVS_LIBEXEC);
}

/* A node of a cluster knows who it is; what the options say must agree. */
static int take_cluster(struct options *out, bool named, bool numbered) {
    struct cluster_node node;
    struct failure failure;
    int result = cluster_node_load(out->state, &node, &failure);
    if (result == -ENOENT)
        return 0;
    if (result < 0)
        return wrong("%s", failure.message);
    if ((named && strcmp(out->node, node.identity.name) != 0) || (numbered && out->id != node.identity.node))
        return wrong("--node and --id differ from %s/cluster.json", out->state);
    strcpy(out->node, node.identity.name);
    out->id = node.identity.node;
    out->cluster = true;
    if (!*out->listen)
        strcpy(out->listen, node.listen);
    return 0;
}

static bool parse_slots(const char *text, struct options *out) {
    char *end;
    unsigned long sets = strtoul(text, &end, 10), share = 0;
    if (!isdigit((unsigned char)*text) || (*end && (*end != ':' || !isdigit((unsigned char)end[1]))))
        return false;
    bool has_share = *end;
    if (has_share)
        share = strtoul(end + 1, &end, 10);
    if (*end || sets < 2 || sets > SLOT_SETS_MAX || share > sets || (has_share && share == 0))
        return false;
    out->slot_sets = (uint32_t)sets;
    out->slot_share = (uint32_t)share;
    return true;
}

int options_parse(int argc, char **argv, struct options *out) {
    enum { NODE = 1, ID, RUN, STATE, CLUSTER, CLEAR, LISTEN, LIBEXEC, SLOTS, VERSION, HELP };
    static const struct option table[] = {
        {"node", required_argument, NULL, NODE},       {"id", required_argument, NULL, ID},
        {"run", required_argument, NULL, RUN},         {"state", required_argument, NULL, STATE},
        {"cluster", no_argument, NULL, CLUSTER},       {"clear", no_argument, NULL, CLEAR},
        {"listen", required_argument, NULL, LISTEN},
        {"libexec", required_argument, NULL, LIBEXEC}, {"version", no_argument, NULL, VERSION},
        {"slots", required_argument, NULL, SLOTS},     {"help", no_argument, NULL, HELP},
        {0}};
    *out = (struct options){.id = 1, .run = "/run/dvs", .state = "/var/lib/dvs"};
    default_node(out->node);
    default_libexec(out->libexec);
    int result = 0;
    bool named = false, numbered = false;
    for (int option; result == 0 && (option = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        switch (option) {
        case NODE:
            if (!config_name_is_valid(optarg))
                return wrong("%s is no valid name for a node: a-z 0-9 _ . -, at most 63", optarg);
            strcpy(out->node, optarg);
            named = true;
            break;
        case ID: {
            char *end;
            unsigned long id = strtoul(optarg, &end, 10);
            if (*end || end == optarg || id < 1 || id > DVK_MAX_NODE)
                return wrong("%s is no valid id: 1 to 384", optarg);
            out->id = (uint32_t)id;
            numbered = true;
            break;
        }
        case RUN:
            result = set_text(out->run, sizeof out->run - 12, optarg, "--run");
            break;
        case STATE:
            result = set_text(out->state, sizeof out->state - 64, optarg, "--state");
            break;
        case CLUSTER:
            out->cluster = true;
            break;
        case CLEAR:
            out->clear = true;
            break;
        case LISTEN:
            if (!strchr(optarg, ':'))
                return wrong("%s is no ADDRESS:PORT", optarg);
            result = set_text(out->listen, sizeof out->listen, optarg, "--listen");
            break;
        case LIBEXEC:
            result = set_text(out->libexec, sizeof out->libexec - 32, optarg, "--libexec");
            break;
        case SLOTS:
            if (!parse_slots(optarg, out))
                return wrong("--slots %s: want SETS[:SHARE], with SETS 2 to 16384 and SHARE 1 to SETS", optarg);
            break;
        case VERSION:
            printf("dvkd %s\n", DVS_VERSION);
            return 1;
        case HELP:
            fputs(usage, stdout);
            return 1;
        default:
            return -EINVAL; /* getopt has said it */
        }
    }
    if (result == 0 && optind < argc)
        return wrong("unexpected argument %s", argv[optind]);
    if (result == 0)
        result = take_cluster(out, named, numbered);
    if (result == 0 && out->cluster && !*out->listen)
        return wrong("%s needs --listen ADDRESS:PORT", "--cluster");
    if (result == 0 && (out->run[0] != '/' || out->state[0] != '/'))
        return wrong("%s must be absolute paths", "--run and --state");
    return result;
}
