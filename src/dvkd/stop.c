/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orderly end of dvkd: nothing new is started; the DCs whose files are here are declared failed, so that the
 * other nodes know the reason; cells get CELL_STOP_MS to end; then they are killed.
 */
#include "dvkd/dvkd.h"

#include "common/log.h"
#include "dvkd/run.h"

#define STOP_LIMIT_MS (CELL_STOP_MS + CELL_KILL_MS)

static void kill_all(void *context) {
    struct dvkd *dvkd = context;
    dvkd->stop_timer = NULL;
    struct cell *cell;
    list_for_each(cell, &dvkd->cells.list, link) cell_stop(cell, true);
    /* SIGKILL cannot be refused; but do not wait for ever for a process that the kernel holds */
    if (dvkd->stop_requests++ < 4)
        loop_timer_add(dvkd->loop, 250, kill_all, dvkd, &dvkd->stop_timer);
    else
        loop_quit(dvkd->loop, 0);
    dvkd_check_stopped(dvkd);
}

void dvkd_stop(struct dvkd *dvkd) {
    if (dvkd->stopping) {
        loop_timer_cancel(dvkd->stop_timer);
        kill_all(dvkd);
        return;
    }
    log_info("ending");
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++) {
        const struct config_dc *dc = dvkd_config(dvkd)->dcs[id];
        if (dc && dc->primary == dvkd->options.id)
            dvkd_fail_dc(dvkd, dc, "node %s, which holds its files, was shut down", dvkd->options.node);
    }
    dvkd->stopping = true;
    struct cell *cell;
    list_for_each(cell, &dvkd->cells.list, link) cell_stop(cell, false);
    loop_timer_add(dvkd->loop, STOP_LIMIT_MS, kill_all, dvkd, &dvkd->stop_timer);
    reconcile_soon(dvkd);
}

void dvkd_check_stopped(struct dvkd *dvkd) {
    if (!dvkd->stopping || dvkd->cells.count)
        return;
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++)
        if (dvkd->proposed_end[id])
            return; /* its proposal is on its way; stop_timer is the limit */
    loop_quit(dvkd->loop, 0);
}
