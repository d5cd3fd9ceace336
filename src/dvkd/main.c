/* SPDX-License-Identifier: Apache-2.0 */
/* dvkd: starting up, and the end. Exit codes: 0 ended in order, 1 something failed while running or at the start,
 * 2 wrong usage, 3 the configuration database is damaged, 4 another dvkd uses the same directories. */
#include "cluster/cluster.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/record.h"
#include "dvkd/api.h"
#include "dvkd/cluster.h"
#include "dvkd/corosync.h"
#include "dvkd/run.h"
#include "dvkd/places.h"
#include "dvkd/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STATUS_MS 2000u

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DAMAGED = 3, EXIT_LOCKED = 4 };

static int complain(int code, const char *format, const char *what, const char *why) {
    fprintf(stderr, "dvkd: ");
    fprintf(stderr, format, what, why);
    fputc('\n', stderr);
    return code;
}

static int make_directories(const char *path, mode_t mode) {
    char copy[600];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *slash = copy + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int prepare_directories(const struct options *options) {
    const char *const subdirectories[] = {"dc", "trash"};
    int result = make_directories(options->run, 0755);
    if (result < 0)
        return complain(EXIT_FAILED, "cannot make %s: %s", options->run, strerror(-result));
    /* a cell's servers pass through it as the DC's unprivileged root */
    result = make_directories(options->state, 0711);
    for (unsigned i = 0; result == 0 && i < ARRAY_LENGTH(subdirectories); i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", options->state, subdirectories[i]);
        result = make_directories(path, i == 0 ? 0711 : 0700);
    }
    if (result < 0)
        return complain(EXIT_FAILED, "cannot make %s: %s", options->state, strerror(-result));
    return 0;
}

/* Held for dvkd's life; the file keeps our pid for people. */
static int lock_file(const char *directory, const char *name) {
    char path[640], text[24];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return complain(EXIT_FAILED, "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return complain(EXIT_LOCKED, "another dvkd uses %s (%s is locked)", directory, path);
    }
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, text, (size_t)n) != n)
        log_warning("cannot write %s: %m", path);
    return 0;
}

static void raise_limits(void) {
    /* each channel and console holds descriptors here; children get the usual limits back from dvs-cell */
    struct rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_warning("cannot raise the number of descriptors: %m");
    }
}

static void on_stop_signal(void *context, int signal_number) { dvkd_stop(context); }

static void status_fn(void *context) {
    struct dvkd *dvkd = context;
    struct replica_status status = {.cells = dvkd->cells.count};
    if (getloadavg(&status.load, 1) != 1)
        status.load = 0;
    replica_set_status(dvkd->replica, &status);
    loop_timer_add(dvkd->loop, STATUS_MS, status_fn, dvkd, &dvkd->status_timer);
}

static void describe_self(const struct options *options, struct config_node *node) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *node = (struct config_node){.id = options->id, .cpus = cpus > 0 ? (uint32_t)cpus : 1};
    snprintf(node->name, sizeof node->name, "%s", options->node);
    snprintf(node->address, sizeof node->address, "%s", options->listen);
    snprintf(node->run, sizeof node->run, "%s", options->run);
    snprintf(node->version, sizeof node->version, "%s", DVS_VERSION);
}

/* Links to other nodes are encrypted, unless it was said that they are not to be. */
static int check_encryption(const struct options *options) {
    if (!options->cluster || options->clear || cluster_has_certificate(options->state))
        return 0;
    return complain(EXIT_FAILED, "no certificate in %s/tls: dvs cluster init or join makes one, %s", options->state,
                    "--clear goes without encryption");
}

static int start(struct dvkd *dvkd) {
    char path[600];
    struct config_node self;
    struct config *config;
    struct failure failure = {0};
    snprintf(path, sizeof path, "%s/config.db", dvkd->options.state);
    int result = store_open(path, &dvkd->store, &config, &failure);
    if (result < 0) {
        fprintf(stderr, "dvkd: %s%s%s\n", failure.message, failure.hint[0] ? ": " : "", failure.hint);
        return result == -EUCLEAN ? EXIT_DAMAGED : EXIT_FAILED;
    }
    if ((result = loop_create(&dvkd->loop)) < 0)
        return complain(EXIT_FAILED, "cannot start%s: %s", "", strerror(-result));
    describe_self(&dvkd->options, &self);
    struct replica_port port = dvkd_replica_port;
    struct broker_host broker_host = dvkd_broker_host;
    struct cells_host cells_host = dvkd_cells_host;
    port.context = broker_host.context = cells_host.context = dvkd;
    list_init(&dvkd->loopback);
    list_init(&dvkd->sessions);
    list_init(&dvkd->removal_waits);
    broker_init(&dvkd->broker, dvkd->loop, dvkd->options.id, (uint32_t)time(NULL) + 1, &broker_host);
    copier_init(&dvkd->copier, dvkd->loop, &dvkd->broker, &dvkd->options);
    cells_init(&dvkd->cells, dvkd->loop, &dvkd->broker, &dvkd->options, &cells_host);
    result = replica_create(dvkd->loop, dvkd->store, config, &self, &port, &dvkd->replica);
    if (result == 0)
        result = slots_start(dvkd);
    if (result == 0)
        result = places_start(dvkd);
    if (result == 0)
        result = dvkd_services_start(dvkd);
    if (result == 0)
        result = loop_signal_add(dvkd->loop, SIGTERM, on_stop_signal, dvkd);
    if (result == 0)
        result = loop_signal_add(dvkd->loop, SIGINT, on_stop_signal, dvkd);
    if (result < 0)
        return complain(EXIT_FAILED, "cannot start%s: %s", "", strerror(-result));
    if ((result = cluster_start(dvkd, &dvkd->members, &failure)) < 0)
        return complain(EXIT_FAILED, "%s%s", failure.message, "");
    files_clean(dvkd);
    if (dvkd->options.cluster) {
        proxy_start(&dvkd->proxy, dvkd->loop, &dvkd->broker, &dvkd->options, dvkd_proxy_lost, dvkd);
        result = corosync_create(dvkd->loop, dvkd->replica, dvkd->options.id, &dvkd->corosync);
    } else {
        dvkd_start_alone(dvkd);
    }
    if (result == 0)
        result = loop_timer_add(dvkd->loop, 0, status_fn, dvkd, &dvkd->status_timer);
    snprintf(path, sizeof path, "%s/dvkd.sock", dvkd->options.run);
    if (result == 0)
        result = broker_listen(&dvkd->broker, path);
    if (result == 0)
        result = api_start(dvkd, &dvkd->api);
    if (result < 0)
        return complain(EXIT_FAILED, "cannot listen in %s: %s", dvkd->options.run, strerror(-result));
    return 0;
}

static void finish(struct dvkd *dvkd) {
    char path[600];
    sessions_destroy(dvkd);
    /* these may still answer a connection of the api */
    cluster_stop(dvkd->members);
    proxy_stop(&dvkd->proxy);
    api_stop(dvkd->api);
    cells_destroy(&dvkd->cells);
    copier_stop(&dvkd->copier);
    corosync_destroy(dvkd->corosync);
    const char *const names[] = {"dvkd.sock", "dvs.sock", "dvkd.pid"};
    for (unsigned i = 0; i < ARRAY_LENGTH(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dvkd->options.run, names[i]);
        unlink(path);
    }
    store_close(dvkd->store);
    records_stop(&dvkd->records);
}

int main(int argc, char **argv) {
    static struct dvkd dvkd; /* static: what is still in it at the end is not lost */
    char name[80];
    int result = options_parse(argc, argv, &dvkd.options);
    if (result != 0)
        return result < 0 ? EXIT_USAGE : 0;
    if (geteuid() != 0)
        return complain(EXIT_FAILED, "must be run as root%s%s", "", "");
    snprintf(name, sizeof name, "dvkd[%s]", dvkd.options.node);
    log_init(name);
    if (fault_init("dvkd", dvkd.options.id) < 0)
        return EXIT_USAGE;
    umask(022);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    result = prepare_directories(&dvkd.options);
    if (result == 0)
        result = lock_file(dvkd.options.run, "dvkd.pid");
    if (result == 0)
        result = lock_file(dvkd.options.state, "lock");
    if (result == 0)
        result = check_encryption(&dvkd.options);
    if (result == 0) {
        records_start(&dvkd.records, dvkd.options.run, dvkd.options.id);
        result = start(&dvkd);
    }
    if (result != 0)
        return result;
    log_info("dvkd %s, node %u%s", DVS_VERSION, dvkd.options.id, dvkd.options.cluster ? "" : ", alone");
    result = loop_run(dvkd.loop);
    record(RECORD_STOP, 0, (uint64_t)result);
    finish(&dvkd);
    log_info("ended");
    return result < 0 ? EXIT_FAILED : result;
}
