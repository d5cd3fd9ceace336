/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dvs-proxy --node N --listen ADDRESS:PORT --name NAME [--tls DIRECTORY] [--clear], with dvkd's socket as descriptor 3.
 * --tls: certificates, see cluster/pki.h; links are encrypted unless --clear is given, and the cluster can be joined here.
 */
#include "common/fault.h"
#include "common/log.h"
#include "dvk/record_share.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BROKER_FD 3
#define BATCH 64 /* requests that are taken before what they made is written */

static int usage(void) {
    fprintf(stderr,
            "usage: dvs-proxy --node N --listen ADDRESS:PORT --name NAME [--tls DIRECTORY] [--clear]  (started by "
            "dvkd)\n");
    return 2;
}

static int options_parse(struct proxy *proxy, int argc, char **argv, const char **directory) {
    static const struct option options[] = {
        {"node", required_argument, NULL, 'n'},
        {"listen", required_argument, NULL, 'l'},
        {"name", required_argument, NULL, 'm'},
        {"tls", required_argument, NULL, 't'},
        {"clear", no_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    bool listens = false;
    char name[80] = "proxy";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        char *end;
        unsigned long n;
        switch (c) {
        case 'n':
            n = strtoul(optarg, &end, 10);
            if (*end || n == 0 || n > DVK_MAX_NODE)
                return -EINVAL;
            proxy->node = (uint32_t)n;
            break;
        case 'l':
            if (address_parse(optarg, &proxy->listen_address) < 0)
                return -EINVAL;
            listens = true;
            break;
        case 'm':
            snprintf(name, sizeof name, "proxy[%.60s]", optarg);
            break;
        case 't':
            *directory = optarg;
            break;
        case 'c':
            proxy->clear = true;
            break;
        default:
            return -EINVAL;
        }
    }
    log_init(name);
    return proxy->node && listens && (*directory || proxy->clear) && optind == argc ? 0 : -EINVAL;
}

/* Take the node's certificate: it says what cluster this is. */
static int tls_load(struct proxy *proxy, const char *directory) {
    struct pki_identity self;
    struct failure failure = {0};
    int result = tls_create(directory, &proxy->tls, &self, &failure);
    if (result < 0) {
        log_error("%s", failure.message);
        return result;
    }
    if (self.node != proxy->node) {
        log_error("the certificate in %s is of node %u (%s), and this is node %u", directory, self.node, self.name,
                  proxy->node);
        return -EINVAL;
    }
    strcpy(proxy->cluster, self.cluster);
    return 0;
}

/* Until dvkd goes away. */
static int serve(struct proxy *proxy) {
    for (unsigned taken = 0;;) {
        struct dvk_request *req;
        proxy->blocking = list_is_empty(&proxy->dirty) && list_is_empty(&proxy->unread);
        int error = dvk_receive(proxy->dvk, &req, proxy->blocking ? -1 : 0);
        proxy->blocking = false;
        if (error == 0) {
            traffic_request(proxy, req);
            if (++taken < BATCH)
                continue;
        } else if (error != -DVK_EINTERRUPTED && error != -DVK_ETIMEDOUT)
            return error;
        taken = 0;
        peers_read(proxy);
        peers_flush(proxy);
    }
}

int main(int argc, char **argv) {
    static struct proxy proxy = {.listen_fd = -1};
    list_init(&proxy.peers);
    list_init(&proxy.strangers);
    list_init(&proxy.dirty);
    list_init(&proxy.unread);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&proxy.hints[i]);
    const char *directory = NULL;
    if (options_parse(&proxy, argc, argv, &directory) < 0)
        return usage();
    signal(SIGPIPE, SIG_IGN);
    if (fault_init("proxy", proxy.node) < 0)
        return 2;
    if (directory && tls_load(&proxy, directory) < 0)
        return 1;
    int error = dvk_record_share(BROKER_FD, "proxy", proxy.node);
    if (error < 0)
        log_warning("no events are recorded: %s", strerror(-error));
    error = dvk_open_fd(BROKER_FD, &proxy.dvk);
    if (error < 0) {
        log_error("cannot reach dvkd: %s", dvk_strerror(error));
        return 1;
    }
    dvk_relay_enable(proxy.dvk);
    dvk_on_event(proxy.dvk, traffic_event, &proxy);
    dvk_on_cancel(proxy.dvk, traffic_cancelled, &proxy);
    error = peers_listen(&proxy);
    if (error < 0) {
        log_error("cannot listen: %s", strerror(-error));
        return 1;
    }
    peers_tick(&proxy);
    error = serve(&proxy);
    log_debug("ends: %s", dvk_strerror(error));
    peers_close(&proxy);
    tls_destroy(proxy.tls);
    dvk_close(proxy.dvk);
    return 1;
}
