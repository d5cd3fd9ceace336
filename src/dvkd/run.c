/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/run.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dvkd/slots.h"

#include <dvk/error.h>
#include <dvk/dvk.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define START_MS 60000u

/* ---- sessions ---- */

static void session_free(struct session *session) {
    for (int i = 0; i < 3; i++)
        if (session->guest_fds[i] >= 0)
            close(session->guest_fds[i]);
    console_destroy(session->console);
    if (session->run)
        session->run->session = NULL;
    json_decref(session->start);
    list_remove(&session->link);
    free(session);
}

static struct cell *session_cell(const struct session *session) {
    struct cell *cell = cells_find(&session->dvkd->cells, session->dc);
    return cell && cell->serial == session->serial && cell->state == CELL_READY && cell->client ? cell : NULL;
}

static void session_kill(struct session *session, int signal_number) {
    struct cell *cell = session_cell(session);
    if (!cell || !session->pid || session->ended)
        return;
    cleanup_json json_t *request = json_pack("{s:s, s:i, s:i}", "op", "kill", "pid", session->pid, "signal",
                                             signal_number);
    broker_control(cell->client, request, NULL, 0, 5000, NULL, NULL, NULL);
}

/* The client hung up, as a terminal line does. */
static void session_gone(void *context) {
    struct session *session = context;
    session->connection = NULL;
    if (session->console && !session->drained)
        console_detach(session->console);
    session_kill(session, SIGHUP);
}

static void run_drained(struct run *run);

static void session_drained(void *context) {
    struct session *session = context;
    session->drained = true;
    if (session->run) {
        run_drained(session->run);
        return;
    }
    if (session->connection) {
        connection_send(session->connection, json_pack("{s:i}", "exited", session->status));
        connection_finish(session->connection);
    }
    session_free(session);
}

static void run_abort(struct run *run, const struct failure *failure);

/* The program cannot be started. */
static void session_failed(struct session *session, const struct failure *failure) {
    session->ended = true;
    if (session->run) {
        run_abort(session->run, failure);
        return;
    }
    if (session->connection)
        connection_fail(session->connection, failure);
    session->connection = NULL;
    session_free(session);
}

static void start_failure(const struct session *session, const json_t *answer, struct failure *failure) {
    const char *command = json_string_value(json_array_get(json_object_get(session->start, "argv"), 0));
    int error = (int)field_integer_or(answer, "errno", 1, 4095, EIO);
    if (field_true(answer, "cwd")) {
        failure_set(failure, 0, "bad-directory", "-w wants a directory that the container has",
                    "the program cannot start in %s: %s", field_string(session->start, "cwd"), strerror(error));
        return;
    }
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        failure_set(failure, 0, "no-such-command", "is it in the image?", "there is no command %s", command);
        break;
    case EACCES:
    case ENOEXEC:
    case EISDIR:
    case EPERM:
    case ELIBBAD:
        failure_set(failure, 0, "not-executable", NULL, "%s cannot be executed: %s", command, strerror(error));
        break;
    default:
        failure_set(failure, 0, "internal", NULL, "%s could not be started: %s", command, strerror(error));
    }
}

static void session_answer(struct session *session, const char *name) {
    if (!session->connection)
        return;
    connection_send(session->connection, json_pack("{s:b, s:I, s:s, s:i}", "ok", 1, "id", (json_int_t)session->dc,
                                                   "name", name, "pid", session->pid));
    if (session->detached) {
        connection_finish(session->connection);
        session->connection = NULL;
    }
}

static void run_started(struct run *run);

static void session_started(void *context, int status, const json_t *answer) {
    struct session *session = context;
    struct failure failure;
    json_int_t number;
    if (status < 0) {
        failure_set(&failure, 0, "unavailable", NULL, "the container's servers did not start the program: %s",
                    dvk_strerror(status));
        session_failed(session, &failure);
    } else if (field_integer(answer, "pid", &number) && number > 0) {
        session->pid = (int)number;
        const struct config_dc *dc = dvkd_config(session->dvkd)->dcs[session->dc];
        if (session->run)
            run_started(session->run);
        else if (session->connection || session->detached)
            session_answer(session, dc ? dc->name : "");
        else
            session_kill(session, SIGHUP);
    } else {
        start_failure(session, answer, &failure);
        session_failed(session, &failure);
    }
}

static void session_cell_ready(void *context, struct cell *cell, const char *reason) {
    struct session *session = context;
    struct failure failure;
    if (!cell || !cell->client) {
        failure_set(&failure, 0, "unavailable", NULL, "the container's cell on node %s did not start: %s",
                    session->dvkd->options.node, reason ? reason : "its servers are gone");
        session_failed(session, &failure);
        return;
    }
    int fds[3];
    memcpy(fds, session->guest_fds, sizeof fds);
    for (int i = 0; i < 3; i++)
        session->guest_fds[i] = -1;
    broker_control(cell->client, session->start, fds, session->tty ? 1 : 3, START_MS, session_started, session, NULL);
}

/* What an interactive or plain start needs of the request: its descriptors. 0 or negative with *failure. */
static int take_descriptors(struct connection *connection, const json_t *request, int fds[3], struct failure *failure) {
    unsigned wanted = field_true(request, "detach") ? 0 : field_true(request, "tty") ? 1 : 3;
    unsigned count = connection_take_fds(connection, fds);
    bool right = count == wanted;
    for (unsigned i = 0; i < count; i++) {
        struct stat status;
        right = right && fstat(fds[i], &status) == 0 && S_ISSOCK(status.st_mode);
    }
    if (right)
        return 0;
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return failure_set(failure, -EINVAL, "bad-request", "are dvs and dvkd of the same version?",
                       "the request came with the wrong descriptors");
}

static json_t *start_request(const json_t *spec, const json_t *more_env, const json_t *request) {
    cleanup_json json_t *env = json_array();
    if (json_is_array(json_object_get(spec, "env")))
        json_array_extend(env, json_object_get(spec, "env"));
    if (json_is_array(more_env))
        json_array_extend(env, (json_t *)more_env);
    json_t *start = json_pack("{s:s, s:O, s:O, s:I, s:I, s:I, s:I, s:b}", "op", "start", "argv",
                              json_object_get(request, "argv"), "env", env, "uid",
                              (json_int_t)field_integer_or(request, "uid", 0, 65535, 0), "gid",
                              (json_int_t)field_integer_or(request, "gid", 0, 65535, 0), "rows",
                              (json_int_t)field_integer_or(request, "rows", 0, 65535, 0), "cols",
                              (json_int_t)field_integer_or(request, "cols", 0, 65535, 0), "tty",
                              field_true(request, "tty"));
    const char *cwd = field_string(request, "cwd") ? field_string(request, "cwd") : field_string(spec, "cwd");
    json_object_set_new(start, "cwd", json_string(cwd ? cwd : "/"));
    return start;
}

/* start and fds are taken over, also on error. */
static int session_create(struct dvkd *dvkd, const struct config_dc *dc, json_t *start, bool detached,
                          const int fds[3], struct connection *connection, struct run *run, struct session **out,
                          struct failure *failure) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) {
        log_error("out of memory");
        abort();
    }
    *session = (struct session){.dvkd = dvkd,
                                .dc = dc->id,
                                .serial = dc->serial,
                                .start = start,
                                .tty = field_true(start, "tty"),
                                .detached = detached,
                                .guest_fds = {-1, -1, -1},
                                .connection = connection,
                                .run = run};
    list_append(&dvkd->sessions, &session->link);
    if (run)
        run->session = session;
    int result = console_create(dvkd->loop, session->tty, fds, run ? &run->log : NULL, dc_uid_base(dc->id),
                                &session->console, session->guest_fds);
    if (result < 0) {
        session_free(session);
        return failure_set(failure, result, "internal", NULL, "cannot make the program's standard descriptors: %s",
                           strerror(-result));
    }
    if (connection)
        connection_on_gone(connection, session_gone, session);
    *out = session;
    return 0;
}

/* Have the cell start it. On error the session is as it was. */
static int session_begin(struct session *session, const struct config_dc *dc, struct failure *failure) {
    struct cell *cell;
    int result = dvkd_cell_get(session->dvkd, dc, &cell, failure);
    if (result == 0)
        cell_when_ready(cell, session_cell_ready, session);
    return result;
}

static void run_tell_exit(struct run *run);

void session_exited(struct dvkd *dvkd, uint32_t dc, int pid, int status) {
    struct session *session;
    list_for_each(session, &dvkd->sessions, link) {
        if (session->dc != dc || session->pid != pid || session->ended)
            continue;
        session->ended = true;
        session->status = status;
        if (!session->run) {
            console_finish(session->console, session_drained, session);
            return;
        }
        run_tell_exit(session->run);
        return;
    }
}

void sessions_lost(struct dvkd *dvkd, uint32_t dc, const char *reason) {
    struct session *session;
    list_for_each(session, &dvkd->sessions, link) {
        /* one that is not started yet is told by its cell; a run's first by run_check */
        if (session->dc != dc || session->run || session->ended || !session->pid)
            continue;
        session->ended = true;
        if (session->connection) {
            connection_send(session->connection, json_pack("{s:s}", "lost", reason));
            connection_finish(session->connection);
        }
        session_free(session);
    }
}

void sessions_destroy(struct dvkd *dvkd) {
    struct session *session;
    list_for_each(session, &dvkd->sessions, link) {
        if (session->connection)
            connection_send(session->connection, json_pack("{s:s}", "lost", "dvkd ends"));
        console_destroy(session->console);
        session->console = NULL;
    }
}

/* ---- runs ---- */

void run_free(struct run *run) {
    run->dvkd->runs[run->dc] = NULL;
    if (run->session)
        session_free(run->session);
    dclog_close(&run->log);
    free(run);
}

/* A run that a proposal is about: it may be over before the proposal is answered. */
struct run_reference {
    struct dvkd *dvkd;
    uint32_t dc;
    uint64_t serial;
};

static struct run_reference *run_reference(const struct run *run) {
    struct run_reference *reference = malloc(sizeof *reference);
    if (!reference) {
        log_error("out of memory");
        abort();
    }
    *reference = (struct run_reference){run->dvkd, run->dc, run->serial};
    return reference;
}

/* The run, or NULL; frees the reference. */
static struct run *run_of(struct run_reference *reference) {
    struct run *run = reference->dvkd->runs[reference->dc];
    run = run && run->serial == reference->serial ? run : NULL;
    free(reference);
    return run;
}

/* Its first program ran and ended by itself: what it ended with is known. */
static bool run_has_status(const struct run *run) {
    return run->session && run->session->ended && run->session->pid && !run->aborted;
}

static void run_exit_told(void *context, int status, const struct config_effect *effect,
                          const struct failure *failure) {
    struct run *run = run_of(context);
    if (!run)
        return;
    run->telling_exit = false;
    reconcile_soon(run->dvkd); /* if it was refused, the DC is over already or is told again */
}

/* Without quorum, reconcile comes back to it. */
static void run_tell_exit(struct run *run) {
    if (!run_has_status(run) || run->telling_exit || !replica_is_quorate(run->dvkd->replica))
        return;
    run->telling_exit = true;
    cleanup_json json_t *change =
        json_pack("{s:s, s:I, s:I, s:s, s:i}", "op", "dc-state", "dc", (json_int_t)run->dc, "serial",
                  (json_int_t)run->serial, "state", "exited", "exit_status", run->session->status);
    replica_propose(run->dvkd->replica, change, run_exit_told, run_reference(run));
}

static void run_answer(struct run *run);

static void run_removed(void *context, int status, const struct config_effect *effect, const struct failure *failure) {
    struct run *run = run_of(context);
    if (!run || status == 0)
        return;
    log_warning("container %s could not be removed: %s", run->name, failure->message);
    run->rm = false;
    run->removing = false;
    if (run->aborted) { /* it stays, without a run: reconcile ends it when that is possible */
        run_answer(run);
        run_free(run);
    }
}

static void run_remove(struct run *run) {
    run->removing = true;
    cleanup_json json_t *change = json_pack("{s:s, s:I, s:I, s:b}", "op", "dc-remove", "dc", (json_int_t)run->dc,
                                            "serial", (json_int_t)run->serial, "force", 1);
    replica_propose(run->dvkd->replica, change, run_removed, run_reference(run));
}

static void run_abort(struct run *run, const struct failure *failure) {
    if (run->aborted)
        return;
    run->aborted = true;
    run->failure = *failure;
    struct cell *cell = cells_find(&run->dvkd->cells, run->dc);
    if (cell)
        cell_stop(cell, true);
    run_remove(run);
}

/* dc.run's first answer, once. */
static void run_answer_started(struct run *run) {
    if (run->answered)
        return;
    run->answered = true;
    session_answer(run->session, run->name);
}

/* All nodes know it, or it could not be said. By now the program may have ended, and the DC with it: see run_check. */
static void run_is_running(void *context, int status, const struct config_effect *effect,
                           const struct failure *failure) {
    struct run *run = run_of(context);
    if (!run || run->aborted || !run->session)
        return;
    const struct config_dc *dc = dvkd_config(run->dvkd)->dcs[run->dc];
    if (status == 0)
        run_answer_started(run);
    else if (dc && dc->serial == run->serial && config_dc_is_live(dc) && !run_has_status(run))
        run_abort(run, failure);
    else
        reconcile_soon(run->dvkd);
}

static void run_started(struct run *run) {
    struct session *session = run->session;
    if (!session->connection && !session->detached) {
        struct failure failure;
        failure_set(&failure, 0, "unavailable", NULL, "who asked for it is gone");
        session->ended = true;
        run_abort(run, &failure);
        return;
    }
    cleanup_json json_t *change = json_pack("{s:s, s:I, s:I, s:s}", "op", "dc-state", "dc", (json_int_t)run->dc,
                                            "serial", (json_int_t)run->serial, "state", "running");
    replica_propose(run->dvkd->replica, change, run_is_running, run_reference(run));
}

static void run_drained(struct run *run) { reconcile_soon(run->dvkd); }

/* Tell the one who waits how it ended; the session is over. */
static void run_answer(struct run *run) {
    struct session *session = run->session;
    struct connection *connection = session ? session->connection : NULL;
    if (connection) {
        session->connection = NULL;
        if (run->aborted || !run->answered) {
            if (!run->aborted)
                failure_set(&run->failure, 0, "unavailable", NULL, "the container failed: %s",
                            run->lost[0] ? run->lost : "it was removed");
            connection_fail(connection, &run->failure);
        } else if (run_has_status(run) && !run->lost[0]) {
            connection_send(connection, json_pack("{s:i}", "exited", session->status));
            connection_finish(connection);
        } else {
            connection_send(connection,
                            json_pack("{s:s}", "lost", run->lost[0] ? run->lost : "the container was removed"));
            connection_finish(connection);
        }
    }
    if (session)
        session_free(session);
}

void run_let_go(struct run *run, const char *reason) {
    struct session *session = run->session;
    if (!session || !session->connection)
        return;
    connection_send(session->connection, json_pack("{s:s}", "lost", reason));
    connection_finish(session->connection);
    session->connection = NULL;
}

void run_check(struct run *run, const struct config_dc *dc) {
    struct session *session = run->session;
    if (dc && config_dc_is_live(dc)) {
        run_tell_exit(run);
        return;
    }
    if (dc && dc->state == DC_FAILED) /* kept: with --rm the DC goes before the one who waits is told */
        snprintf(run->lost, sizeof run->lost, "%s", dc->reason[0] ? dc->reason : "no reason is known");
    if (cells_find(&run->dvkd->cells, run->dc))
        return;
    /* what it did may be here before all nodes have confirmed that it runs; its client may read only from then on */
    if (run_has_status(run) && !run->lost[0])
        run_answer_started(run);
    if (session && !session->drained) {
        if (!session->ended) { /* lost */
            session->ended = true;
            session->pid = 0;
        }
        if (session->console)
            console_finish(session->console, session_drained, session);
        else
            session->drained = true;
        if (!session->drained)
            return;
    }
    if (dc && run->rm) {
        if (!run->removing)
            run_remove(run);
        return;
    }
    dclog_close(&run->log); /* ends those who follow it */
    run_answer(run);
    if (!dc)
        run_free(run);
}

/* ---- dc.run ---- */

struct launch {
    struct dvkd *dvkd;
    struct connection *connection;
    json_t *request, *spec;
    int fds[3];
};

static void launch_free(struct launch *launch) {
    for (int i = 0; i < 3; i++)
        if (launch->fds[i] >= 0)
            close(launch->fds[i]);
    json_decref(launch->request);
    json_decref(launch->spec);
    free(launch);
}

static void launch_gone(void *context) { ((struct launch *)context)->connection = NULL; }

static void launch_created(void *context, int status, const struct config_effect *effect,
                           const struct failure *refusal) {
    struct launch *launch = context;
    struct dvkd *dvkd = launch->dvkd;
    const struct config_dc *dc = status < 0 ? NULL : dvkd_config(dvkd)->dcs[effect->dc];
    struct failure failure;
    dvkd->launches--;
    reconcile_soon(dvkd);
    if (status == 0 && !dc) {
        failure_set(&failure, 0, "no-such-dc", NULL, "the container was removed before it could run");
        refusal = &failure;
    }
    if (refusal) {
        if (launch->connection)
            connection_fail(launch->connection, refusal);
        launch_free(launch);
        return;
    }
    char path[600];
    struct run *run = calloc(1, sizeof *run);
    if (!run) {
        log_error("out of memory");
        abort();
    }
    *run = (struct run){.dvkd = dvkd, .dc = dc->id, .serial = dc->serial, .rm = field_true(launch->spec, "rm")};
    strcpy(run->name, dc->name);
    if (dvkd->runs[dc->id]) /* of a DC with that id that is over */
        run_free(dvkd->runs[dc->id]);
    dvkd->runs[dc->id] = run;
    int result = files_make(dvkd, dc, &failure);
    cells_path(&dvkd->options, dc->id, "log", path, sizeof path);
    dclog_open(&run->log, path);
    struct session *session = NULL;
    json_t *start = start_request(launch->spec, NULL, launch->request);
    int fds[3];
    memcpy(fds, launch->fds, sizeof fds);
    for (int i = 0; i < 3; i++)
        launch->fds[i] = -1;
    int created = session_create(dvkd, dc, start, field_true(launch->request, "detach"), fds, launch->connection, run,
                                 &session, &failure);
    if (result == 0)
        result = created;
    if (result == 0)
        result = session_begin(session, dc, &failure);
    if (result < 0) {
        if (created == 0)
            session->ended = true;
        else if (launch->connection) {
            connection_fail(launch->connection, &failure);
        }
        run_abort(run, &failure);
    }
    launch_free(launch);
}

json_t *run_resolve_nodes(struct dvkd *dvkd, const json_t *names, bool *here, struct failure *failure) {
    bool wanted[DVK_MAX_NODE + 1] = {false};
    const struct config *config = dvkd_config(dvkd);
    size_t i;
    const json_t *name;
    if (names && !json_is_null(names) && (!json_is_strings(names) || json_array_size(names) == 0)) {
        failure_set(failure, -EINVAL, "bad-request", "--nodes a,b", "the list of nodes is not valid");
        return NULL;
    }
    json_array_foreach(names, i, name) {
        const struct config_node *node = config_node_by_name(config, json_string_value(name));
        if (!node) {
            failure_set(failure, -ENOENT, "no-such-node", "dvs node ls lists them", "there is no node %s",
                        json_string_value(name));
            return NULL;
        }
        if (!replica_node_is_up(dvkd->replica, node->id)) {
            failure_set(failure, -EHOSTDOWN, "node-down", "dvs node ls shows which are up", "node %s is down",
                        node->name);
            return NULL;
        }
        wanted[node->id] = true;
    }
    bool all = json_array_size(names) == 0;
    json_t *list = json_array();
    for (uint32_t id = 1; id <= DVK_MAX_NODE; id++)
        if (wanted[id] || (all && replica_node_is_up(dvkd->replica, id)))
            json_array_append_new(list, json_integer(id));
    *here = wanted[dvkd->options.id] || all;
    return list;
}

static bool list_has_node(const json_t *nodes, const struct config_node *node) {
    size_t i;
    const json_t *id;
    json_array_foreach(nodes, i, id) if (node && json_integer_value(id) == node->id) return true;
    return false;
}

/* What depends on the cluster and on this node's files. */
static int check_here(struct dvkd *dvkd, const json_t *spec, const json_t *nodes, struct failure *failure) {
    const struct config *config = dvkd_config(dvkd);
    const char *image = field_string(spec, "image"), *place = field_string(spec, "place");
    struct stat status;
    if (strcmp(image, "host") != 0 && (stat(image, &status) < 0 || !S_ISDIR(status.st_mode)))
        return failure_set(failure, -ENOENT, "no-such-image", "an image is host, or a directory that every node has",
                           "there is no image %s on node %s", image, dvkd->options.node);
    if (strncmp(place, "node=", 5) == 0 && !list_has_node(nodes, config_node_by_name(config, place + 5)))
        return failure_set(failure, -ENOENT, "no-such-node", "the node of --place must be one of the container's",
                           "the container has no node %s", place + 5);
    size_t i;
    const json_t *mount;
    json_array_foreach(json_object_get(spec, "mounts"), i, mount) {
        const char *name = field_string(mount, "node"), *host = field_string(mount, "host");
        const struct config_node *node = config_node_by_name(config, name);
        if (!list_has_node(nodes, node))
            return failure_set(failure, -ENOENT, "no-such-node", "a volume's node must be one of the container's",
                               "the container has no node %s", name);
        if (node->id == dvkd->options.id && (stat(host, &status) < 0 || !S_ISDIR(status.st_mode)))
            return failure_set(failure, -ENOENT, "bad-request", "make it first", "there is no directory %s on node %s",
                               host, name);
    }
    return 0;
}

static json_t *make_spec(const json_t *request) {
    static const char *const keys[] = {"image", "place", "mounts", "memory", "cpus", "pids", "argv",
                                       "env",   "cwd",   "rm",     "tty",    "strict", "trace"};
    json_t *spec = json_object();
    for (unsigned i = 0; i < ARRAY_LENGTH(keys); i++) {
        json_t *value = json_object_get(request, keys[i]);
        if (value && !json_is_null(value))
            json_object_set(spec, keys[i], value);
    }
    if (!json_object_get(spec, "place"))
        json_object_set_new(spec, "place", json_string("local"));
    return spec;
}

int run_check_name(struct dvkd *dvkd, const json_t *request, struct failure *failure) {
    const json_t *name = json_object_get(request, "name");
    if (dvkd->stopping)
        return failure_set(failure, -ESHUTDOWN, "unavailable", NULL, "dvkd on node %s is ending", dvkd->options.node);
    if (name && !json_is_null(name)) {
        if (!json_is_string(name) || !config_name_is_valid(json_string_value(name)))
            return failure_set(failure, -EINVAL, "bad-request", "a-z 0-9 _ . -, at most 63, a letter or digit first",
                               "that is no valid name for a container");
        if (config_dc_by_name(dvkd_config(dvkd), json_string_value(name)))
            return failure_set(failure, -EEXIST, "name-taken", "choose another name, or: dvs rm",
                               "a container named %s exists already", json_string_value(name));
    }
    return 0;
}

void api_dc_run(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    bool here = false;
    cleanup_json json_t *spec = make_spec(request);
    cleanup_json json_t *nodes = NULL;
    int fds[3];
    if (run_check_name(dvkd, request, &failure) < 0 || config_check_spec(spec, &failure) < 0 ||
        !(nodes = run_resolve_nodes(dvkd, json_object_get(request, "nodes"), &here, &failure))) {
        connection_fail(connection, &failure);
        return;
    }
    if (!replica_is_quorate(dvkd->replica)) {
        failure_set(&failure, 0, "no-quorum", "dvs node ls shows which nodes are missing",
                    "node %s is not in a quorate partition of the cluster", dvkd->options.node);
        connection_fail(connection, &failure);
        return;
    }
    if (!here) {
        connection_redirect(connection, (uint32_t)json_integer_value(json_array_get(nodes, 0)));
        return;
    }
    if (check_here(dvkd, spec, nodes, &failure) < 0 || take_descriptors(connection, request, fds, &failure) < 0) {
        connection_fail(connection, &failure);
        return;
    }
    struct launch *launch = calloc(1, sizeof *launch);
    if (!launch) {
        log_error("out of memory");
        abort();
    }
    *launch = (struct launch){.dvkd = dvkd,
                              .connection = connection,
                              .request = json_deep_copy(request),
                              .spec = json_incref(spec),
                              .fds = {fds[0], fds[1], fds[2]}};
    connection_on_gone(connection, launch_gone, launch);
    const char *name = field_string(request, "name");
    cleanup_json json_t *change =
        json_pack("{s:s, s:s, s:O, s:I, s:I, s:O}", "op", "dc-create", "name", name ? name : "", "nodes", nodes,
                  "primary", (json_int_t)dvkd->options.id, "created", (json_int_t)time(NULL), "spec", spec);
    slots_describe(dvkd, change);
    dvkd->launches++;
    replica_propose(dvkd->replica, change, launch_created, launch);
}

/* ---- dc.exec ---- */

void api_dc_exec(struct connection *connection, const json_t *request) {
    struct dvkd *dvkd = connection_dvkd(connection);
    struct failure failure;
    const struct config_dc *dc = api_find_vos(connection, request);
    if (!dc)
        return;
    if (dc->state != DC_RUNNING) {
        failure_set(&failure, 0, "dc-not-running", NULL, "container %s is not running", dc->name);
        connection_fail(connection, &failure);
        return;
    }
    if (!config_dc_has_node(dc, dvkd->options.id)) {
        connection_redirect(connection, api_other_node(dvkd, dc));
        return;
    }
    cleanup_json json_t *checked = make_spec(request);
    json_object_set_new(checked, "image", json_string("host"));
    json_object_set_new(checked, "place", json_string("local"));
    int fds[3];
    if (config_check_spec(checked, &failure) < 0 || take_descriptors(connection, request, fds, &failure) < 0) {
        connection_fail(connection, &failure);
        return;
    }
    struct session *session;
    json_t *start = start_request(dc->spec, json_object_get(request, "env"), request);
    if (session_create(dvkd, dc, start, field_true(request, "detach"), fds, connection, NULL, &session, &failure) < 0) {
        connection_fail(connection, &failure);
        return;
    }
    if (session_begin(session, dc, &failure) < 0)
        session_failed(session, &failure);
}
