/* SPDX-License-Identifier: Apache-2.0 */
/* dvs-vos: the servers of one cell, in one process. Started by cell init; see options.h. */
#include "common/log.h"
#include "dvk/record_share.h"
#include "vos/host/confine.h"
#include "vos/host/host.h"
#include "vos/host/options.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* fs before tty and pm: pm asks both from its first moment. */
static const struct vos_module *const modules[] = {&fs_module, &tty_module, &pm_module, NULL};

static int run(int argc, char **argv, struct vos *vos, struct failure *failure) {
    int broker_fd, flags;
    int error = host_options_parse(argc, argv, vos, &broker_fd, failure);
    if (error)
        return error;
    char name[160];
    snprintf(name, sizeof name, "vos[%s@%s]", vos->dc_name, vos_node_by_id(vos, vos->node)->name);
    log_init(name);
    error = confine_enter(vos, failure);
    if (error)
        return error;
    snprintf(name, sizeof name, "vos %.27s", vos->dc_name);
    error = dvk_record_share(broker_fd, name, vos->node);
    if (error)
        log_warning("no events are recorded: %s", strerror(-error));
    flags = fcntl(vos->init_fd, F_GETFL);
    if (flags < 0 || fcntl(vos->init_fd, F_SETFL, flags | O_NONBLOCK))
        return failure_set(failure, -errno, "internal", NULL, "cannot set up the socket to cell init");
    error = dvk_open_fd(broker_fd, &vos->dvk);
    if (error)
        return failure_set(failure, error, "internal", NULL, "cannot talk to dvkd: %s", dvk_strerror(error));
    return host_run(vos, modules, failure);
}

int main(int argc, char **argv) {
    struct failure failure = {0};
    struct vos *vos = calloc(1, sizeof *vos); /* large, and lives as long as we do */
    (void)signal(SIGPIPE, SIG_IGN);
    if (!vos)
        failure_set(&failure, -ENOMEM, "internal", NULL, "no memory");
    else
        run(argc, argv, vos, &failure);
    fprintf(stderr, "dvs-vos: %s\n", failure.message);
    return 1;
}
