/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has to be so on this node, given the configuration and the view; called after any change of either, and of the
 * cells. Each rule looks at the state as it is, so that it does not matter in which order things happened.
 */
#include "dvkd/dvkd.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/run.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void api_removal_check(struct dvkd *dvkd, uint32_t dc); /* api_dc.c */

struct fail_context {
    struct dvkd *dvkd;
    uint32_t dc;
};

static void fail_done(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct fail_context *fail = context;
    fail->dvkd->proposed_end[fail->dc] = false;
    reconcile_soon(fail->dvkd);
    free(fail);
}

void dvkd_fail_dc(struct dvkd *dvkd, const struct config_dc *dc, const char *format, ...) {
    if (!config_dc_is_live(dc) || dvkd->proposed_end[dc->id] || !replica_is_quorate(dvkd->replica))
        return;
    char reason[256];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    struct fail_context *fail = malloc(sizeof *fail);
    if (!fail)
        return;
    *fail = (struct fail_context){dvkd, dc->id};
    dvkd->proposed_end[dc->id] = true;
    /* a reason may hold what a program said: JSON wants UTF-8 */
    for (char *c = reason; *c; c++)
        if ((unsigned char)*c >= 0x80 || (unsigned char)*c < ' ')
            *c = '?';
    cleanup_json json_t *change =
        json_pack("{s:s, s:I, s:I, s:s, s:s}", "op", "dc-state", "dc", (json_int_t)dc->id, "serial",
                  (json_int_t)dc->serial, "state", "failed", "reason", reason);
    log_warning("container %s failed: %s", dc->name, reason);
    replica_propose(dvkd->replica, change, fail_done, fail);
}

bool dvkd_cell_may_run(struct dvkd *dvkd, const struct config_dc *dc) {
    /* the other nodes may have declared the processes of a DC that spans nodes dead */
    bool together = dc->node_count == 1 || replica_is_quorate(dvkd->replica);
    return config_dc_is_live(dc) && !config_dc_is_bare(dc) && config_dc_has_node(dc, dvkd->options.id) && together &&
           replica_node_is_up(dvkd->replica, dc->primary) && !dvkd->stopping;
}

int dvkd_cell_get(struct dvkd *dvkd, const struct config_dc *dc, struct cell **out, struct failure *failure) {
    struct cell *cell = cells_find(&dvkd->cells, dc->id);
    if (cell && cell->serial == dc->serial && cell->state != CELL_STOPPING) {
        *out = cell;
        return 0;
    }
    if (!dvkd_cell_may_run(dvkd, dc) || cell)
        return failure_set(failure, -DVK_ENODC, "dc-not-running", NULL, "container %s cannot run on node %s now",
                           dc->name, dvkd->options.node);
    int result = cells_start(&dvkd->cells, dvkd_config(dvkd), dc, out);
    if (result < 0)
        return failure_set(failure, result, "internal", NULL, "the cell of %s cannot be started: %s", dc->name,
                           strerror(-result));
    return 0;
}

/* Changes that this node has to propose for a live DC. */
static void check_end(struct dvkd *dvkd, const struct config_dc *dc) {
    if (replica_state(dvkd->replica) != REPLICA_SYNCED || dvkd->stopping || config_dc_is_bare(dc))
        return;
    const struct run *run = dvkd->runs[dc->id];
    if (run && run->serial != dc->serial)
        run = NULL;
    if (dc->primary == dvkd->options.id) {
        /* its cell here is its heart; while a run gets it going or takes it away there may be none */
        if (!cells_find(&dvkd->cells, dc->id) && !(run && (run->aborted || run->removing)) &&
            !(dc->state == DC_CREATED && dvkd->launches))
            dvkd_fail_dc(dvkd, dc, run ? "its cell on node %s ended" : "node %s, which holds its files, was restarted",
                         dvkd->options.node);
    } else if (!replica_node_is_up(dvkd->replica, dc->primary) &&
               replica_lowest_up(dvkd->replica) == dvkd->options.id) {
        dvkd_fail_dc(dvkd, dc, "node %s, which holds its files, was lost", dvkd_node_name(dvkd, dc->primary));
    }
}

static void reconcile_dc(struct dvkd *dvkd, uint32_t id) {
    const struct config_dc *dc = dvkd_config(dvkd)->dcs[id];
    struct cell *cell = cells_find(&dvkd->cells, id);
    bool live = dc && config_dc_is_live(dc);
    if (dvkd->was_live[id] && (!live || dvkd->was_serial[id] != dc->serial))
        broker_dc_gone(&dvkd->broker, id);
    dvkd->was_live[id] = live;
    dvkd->was_serial[id] = dc ? dc->serial : 0;

    if (cell && (!dc || dc->serial != cell->serial || !dvkd_cell_may_run(dvkd, dc)))
        cell_stop(cell, !dc); /* a removed one need not put anything in order */
    if (live)
        check_end(dvkd, dc);
    if (!dc && dvkd->remove_files[id] && !cells_find(&dvkd->cells, id)) {
        files_remove(dvkd, id);
        records_forget_dc(&dvkd->records, id);
        dvkd->remove_files[id] = false;
    }
    struct run *run = dvkd->runs[id];
    if (run && !dvkd->remove_files[id])
        run_check(run, dc && dc->serial == run->serial ? dc : NULL);
    api_removal_check(dvkd, id);
}

static void reconcile(void *context) {
    struct dvkd *dvkd = context;
    dvkd->reconcile_timer = NULL;
    for (uint32_t id = 1; id <= DVK_MAX_DC; id++)
        if (dvkd_config(dvkd)->dcs[id] || dvkd->was_live[id] || dvkd->runs[id] || dvkd->remove_files[id] ||
            !list_empty(&dvkd->removal_waits))
            reconcile_dc(dvkd, id);
    struct cell *cell;
    list_for_each(cell, &dvkd->cells.list, link) if (!dvkd_config(dvkd)->dcs[cell->dc]) cell_stop(cell, true);
    dvkd_check_stopped(dvkd);
}

void reconcile_soon(struct dvkd *dvkd) {
    if (!dvkd->reconcile_timer && loop_timer_add(dvkd->loop, 0, reconcile, dvkd, &dvkd->reconcile_timer) < 0)
        log_error("out of memory");
}
