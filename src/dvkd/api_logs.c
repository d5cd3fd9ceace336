/* SPDX-License-Identifier: Apache-2.0 */
/* dc.logs: the output of a DC's first program, from its log files; with "follow" as it comes. */
#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/api.h"
#include "dvkd/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reader {
    struct connection *connection;
    struct dvkd *dvkd;
    uint32_t dc;
    int fd;                        /* what is read now; -1: nothing */
    bool current;                  /* it is the current file, not the old one */
    uint32_t turn;                 /* log->turns when the current file was opened */
    struct dclog *log;             /* NULL: not followed (any more) */
    struct dclog_follower follower;
};

static void reader_end(struct reader *reader) {
    list_remove(&reader->follower.link);
    if (reader->fd >= 0)
        close(reader->fd);
    free(reader);
}

static void reader_gone(void *context) { reader_end(context); }

static int open_log(struct reader *reader, bool old) {
    char path[604];
    cells_path(&reader->dvkd->options, reader->dc, old ? "log.1" : "log", path, sizeof path);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Go on to the current file. */
static void next_file(struct reader *reader) {
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = open_log(reader, false);
    reader->current = true;
    reader->turn = reader->log ? reader->log->turns : 0;
}

/* Send on until the client takes no more, or there is no more. */
static void reader_work(void *context) {
    struct reader *reader = context;
    char buffer[65536];
    if (reader->log && list_empty(&reader->follower.link))
        reader->log = NULL; /* it was closed: there will not be more */
    while (connection_pending(reader->connection) == 0) {
        ssize_t n = reader->fd >= 0 ? read(reader->fd, buffer, sizeof buffer) : 0;
        if (n > 0) {
            connection_write(reader->connection, buffer, (size_t)n);
            continue;
        }
        if (!reader->current || (reader->log && reader->log->turns != reader->turn)) {
            next_file(reader);
            continue;
        }
        if (reader->log)
            return; /* at the end for now */
        connection_finish(reader->connection);
        reader_end(reader);
        return;
    }
}

void api_dc_logs(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    const struct config_dc *dc = api_find_vos(connection, request);
    if (!dc)
        return;
    if (dc->primary != dvkd->options.id) {
        connection_redirect(connection, dc->primary);
        return;
    }
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        log_error("out of memory");
        abort();
    }
    *reader = (struct reader){.connection = connection, .dvkd = dvkd, .dc = dc->id};
    reader->follower = (struct dclog_follower){.fn = reader_work, .context = reader};
    list_init(&reader->follower.link);
    struct run *run = dvkd->runs[dc->id];
    if (field_true(request, "follow") && run && run->log.fd >= 0 && config_dc_is_live(dc)) {
        reader->log = &run->log;
        list_append(&run->log.followers, &reader->follower.link);
    }
    connection_on_gone(connection, reader_gone, reader);
    connection_on_drained(connection, reader_work, reader);
    reader->fd = open_log(reader, true);
    connection_send(connection, json_pack("{s:b}", "ok", 1));
    reader_work(reader);
}
