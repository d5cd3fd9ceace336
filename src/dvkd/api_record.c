/* SPDX-License-Identifier: Apache-2.0 */
/* debug.record: the flight recorders of this node. */
#include "common/cleanup.h"
#include "common/record_read.h"
#include "dvkd/api.h"

#include <string.h>

/* The record's name for "dvkd", "proxy" or "vos:DC". */
static int record_name(struct dvkd *dvkd, const char *daemon, char *name, size_t cap, struct failure *failure) {
    if (!daemon || strcmp(daemon, "dvkd") == 0 || strcmp(daemon, "proxy") == 0) {
        snprintf(name, cap, "%s", daemon ? daemon : "dvkd");
        return 0;
    }
    if (strncmp(daemon, "vos:", 4) != 0)
        return failure_set(failure, -1, "bad-request", "one of dvkd, proxy, vos:CONTAINER", "%.40s keeps no record", daemon);
    const struct config_dc *dc = config_dc_by_name(dvkd_config(dvkd), daemon + 4);
    if (!dc)
        return failure_set(failure, -1, "no-such-dc", "dvs ls lists them", "no container named %.63s", daemon + 4);
    snprintf(name, cap, "vos-%u", dc->id);
    return 0;
}

void api_debug_record(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    char name[32];
    json_t *record = NULL;
    if (record_name(dvkd, field_string(request, "daemon"), name, sizeof name, &failure) == 0)
        record = records_read(&dvkd->records, name, field_true(request, "ended"),
                              (size_t)field_integer_or(request, "last", 1, RECORDER_CAPACITY, RECORDER_CAPACITY), &failure);
    if (record)
        connection_succeed(connection, record);
    else
        connection_fail(connection, &failure);
}
