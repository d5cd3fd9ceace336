/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/cells.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/record.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct cell_waiter {
    struct list link;
    cell_ready_fn *fn;
    void *context;
};

void cells_init(struct cells *cells, struct loop *loop, struct broker *broker, const struct options *options,
                const struct cells_host *host) {
    *cells = (struct cells){.loop = loop, .broker = broker, .options = options, .host = *host};
    list_init(&cells->list);
}

struct cell *cells_find(const struct cells *cells, uint32_t dc) {
    struct cell *cell;
    list_for_each(cell, &cells->list, link) if (cell->dc == dc) return cell;
    return NULL;
}

void cells_path(const struct options *options, uint32_t dc, const char *name, char *out, size_t cap) {
    snprintf(out, cap, "%s/dc/%u%s%s", options->state, dc, name ? "/" : "", name ? name : "");
}

void cells_cgroup_name(const struct options *options, uint32_t dc, char *out, size_t cap) {
    /* the run directory is what no two dvkds of a host share */
    int n = snprintf(out, cap, "%s-%u", options->run + 1, dc);
    for (int i = 0; i < n && out[i]; i++)
        if (out[i] == '/')
            out[i] = '-';
}

static void cell_free(struct cell *cell) {
    struct cell_waiter *waiter;
    list_for_each(waiter, &cell->waiters, link) {
        list_remove(&waiter->link);
        free(waiter);
    }
    loop_timer_cancel(cell->timer);
    spawn_log_close(&cell->log);
    list_remove(&cell->link);
    cell->cells->count--;
    free(cell);
}

void cells_destroy(struct cells *cells) {
    struct cell *cell;
    list_for_each(cell, &cells->list, link) {
        if (cell->pid > 0)
            kill(cell->pid, SIGKILL);
        struct client *client = cell->client;
        cell->client = NULL;
        client_close(client);
        cell_free(cell);
    }
}

/* ---- the command line ---- */

struct arguments {
    char *list[256];
    unsigned count;
    bool failed;
};

static void __attribute__((format(printf, 2, 3))) add_argument(struct arguments *arguments, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (arguments->count >= ARRAY_LENGTH(arguments->list) - 1 || vasprintf(&text, format, args) < 0)
        arguments->failed = true;
    else
        arguments->list[arguments->count++] = text;
    va_end(args);
}

static void free_arguments(struct arguments *arguments) {
    for (unsigned i = 0; i < arguments->count; i++)
        free(arguments->list[i]);
}

static char *node_list(const struct config *config, const struct config_dc *dc) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (uint32_t i = 0; i < dc->node_count; i++) {
        const struct config_node *node = config->nodes[dc->nodes[i]];
        if (node)
            fprintf(out, "%s%u=%s", i ? "," : "", node->id, node->name);
        else
            fprintf(out, "%s%u=node%u", i ? "," : "", dc->nodes[i], dc->nodes[i]);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void add_mounts(struct arguments *arguments, const struct config *config, const struct config_dc *dc) {
    size_t i;
    const json_t *mount;
    json_array_foreach(json_object_get(dc->spec, "mounts"), i, mount) {
        const struct config_node *node = config_node_by_name(config, field_string(mount, "node"));
        add_argument(arguments, "--mount");
        add_argument(arguments, "node=%u,src=%s,dst=%s%s", node ? node->id : 0, field_string(mount, "host"),
                     field_string(mount, "path"), field_true(mount, "ro") ? ",ro" : "");
    }
}

static void make_arguments(struct cells *cells, const struct config *config, const struct config_dc *dc,
                           struct arguments *arguments) {
    const struct options *options = cells->options;
    cleanup_free char *nodes = node_list(config, dc);
    char cgroup[160], upper[600];
    cells_cgroup_name(options, dc->id, cgroup, sizeof cgroup);
    cells_path(options, dc->id, "upper", upper, sizeof upper);
    if (!nodes)
        arguments->failed = true;
    add_argument(arguments, "%s/dvs-cell", options->libexec);
    add_argument(arguments, "--dc");
    add_argument(arguments, "%u", dc->id);
    add_argument(arguments, "--name");
    add_argument(arguments, "%s", dc->name);
    add_argument(arguments, "--node");
    add_argument(arguments, "%u", options->id);
    add_argument(arguments, "--nodes");
    add_argument(arguments, "%s", nodes ? nodes : "");
    add_argument(arguments, "--primary");
    add_argument(arguments, "%u", dc->primary);
    add_argument(arguments, "--image");
    add_argument(arguments, "%s", field_string(dc->spec, "image"));
    if (dc->primary == options->id) {
        add_argument(arguments, "--upper");
        add_argument(arguments, "%s", upper);
    }
    add_argument(arguments, "--uid-base");
    add_argument(arguments, "%u", dc_uid_base(dc->id));
    add_argument(arguments, "--place");
    add_argument(arguments, "%s", field_string(dc->spec, "place"));
    add_argument(arguments, "--cgroup");
    add_argument(arguments, "%s", cgroup);
    add_argument(arguments, "--libexec");
    add_argument(arguments, "%s", options->libexec);
    json_int_t number;
    if (field_integer(dc->spec, "memory", &number)) {
        add_argument(arguments, "--memory");
        add_argument(arguments, "%lld", (long long)number);
    }
    if (field_integer(dc->spec, "pids", &number)) {
        add_argument(arguments, "--pids");
        add_argument(arguments, "%lld", (long long)number);
    }
    const json_t *cpus = json_object_get(dc->spec, "cpus");
    if (json_is_number(cpus)) {
        add_argument(arguments, "--cpus");
        add_argument(arguments, "%.3f", json_number_value(cpus));
    }
    if (field_true(dc->spec, "strict"))
        add_argument(arguments, "--strict");
    if (field_true(dc->spec, "trace"))
        add_argument(arguments, "--trace");
    add_mounts(arguments, config, dc);
}

/* ---- life ---- */

static void tell_waiters(struct cell *cell, const char *reason) {
    struct list waiters; /* moved out: a waiter may add another, or stop the cell */
    list_init(&waiters);
    struct cell_waiter *waiter;
    list_for_each(waiter, &cell->waiters, link) {
        list_remove(&waiter->link);
        list_append(&waiters, &waiter->link);
    }
    while ((waiter = list_first(&waiters, struct cell_waiter, link))) {
        struct cell_waiter copy = *waiter;
        list_remove(&waiter->link);
        free(waiter);
        copy.fn(copy.context, reason ? NULL : cell, reason);
    }
}

static const char *end_reason(const struct cell *cell, int status, char *out, size_t cap) {
    if (cell->reason[0])
        return cell->reason;
    if (cell->log.last[0])
        return cell->log.last;
    if (WIFSIGNALED(status))
        snprintf(out, cap, "dvs-cell was killed by signal %d", WTERMSIG(status));
    else
        snprintf(out, cap, "dvs-cell ended with code %d", WEXITSTATUS(status));
    return out;
}

static void on_process_end(void *context, pid_t pid, int status) {
    struct cell *cell = context;
    struct cells *cells = cell->cells;
    char text[96], reason[256];
    bool expected = cell->state == CELL_STOPPING;
    cell->pid = 0;
    record(RECORD_CELL_END, cell->dc, (uint64_t)status, expected);
    spawn_log_close(&cell->log);
    snprintf(reason, sizeof reason, "%s", end_reason(cell, status, text, sizeof text));
    if (!expected)
        log_warning("the cell of %s ended: %s", cell->dc_name, reason);
    cell->state = CELL_STOPPING;
    struct client *client = cell->client;
    cell->client = NULL;
    client_close(client);
    tell_waiters(cell, reason);
    cells->host.ended(cells->host.context, cell, expected, reason);
    cell_free(cell);
}

static void on_timer(void *context) {
    struct cell *cell = context;
    cell->timer = NULL;
    if (cell->state == CELL_STARTING && !cell->terminated) {
        snprintf(cell->reason, sizeof cell->reason, "its servers were not ready after %u s", CELL_START_MS / 1000);
        kill(cell->pid, SIGKILL);
        return;
    }
    if (cell->pid <= 0)
        return;
    if (!cell->terminated) {
        cell->terminated = true;
        kill(cell->pid, SIGTERM);
        loop_timer_add(cell->cells->loop, CELL_KILL_MS, on_timer, cell, &cell->timer);
    } else {
        log_warning("the cell of %s does not stop: killed", cell->dc_name);
        kill(cell->pid, SIGKILL);
    }
}

int cells_start(struct cells *cells, const struct config *config, const struct config_dc *dc, struct cell **out) {
    struct arguments arguments = {0};
    int sockets[2];
    make_arguments(cells, config, dc, &arguments);
    struct cell *cell = calloc(1, sizeof *cell);
    if (arguments.failed || !cell || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
        int result = arguments.failed || !cell ? -ENOMEM : -errno;
        free_arguments(&arguments);
        free(cell);
        return result;
    }
    cleanup_close int theirs = sockets[1];
    *cell = (struct cell){.cells = cells, .dc = dc->id, .serial = dc->serial, .log.fd = -1};
    strcpy(cell->dc_name, dc->name);
    snprintf(cell->log.name, sizeof cell->log.name, "cell %s", dc->name);
    list_init(&cell->waiters);
    int result = broker_adopt(cells->broker, sockets[0], CONTEXT_CELL, dc->id, &cell->client);
    if (result < 0) {
        free_arguments(&arguments);
        free(cell);
        return result;
    }
    cell->pid = spawn(cells->loop, arguments.list, theirs, &cell->log);
    free_arguments(&arguments);
    result = cell->pid < 0 ? (int)cell->pid : loop_child_add(cells->loop, cell->pid, on_process_end, cell, NULL);
    if (result < 0) {
        if (cell->pid > 0)
            kill(cell->pid, SIGKILL);
        client_close(cell->client);
        spawn_log_close(&cell->log);
        free(cell);
        return result;
    }
    list_append(&cells->list, &cell->link);
    cells->count++;
    loop_timer_add(cells->loop, CELL_START_MS, on_timer, cell, &cell->timer);
    record(RECORD_CELL_START, cell->dc, (uint64_t)cell->pid);
    log_info("cell of %s starts (pid %d)", cell->dc_name, (int)cell->pid);
    *out = cell;
    return 0;
}


void cell_when_ready(struct cell *cell, cell_ready_fn *fn, void *context) {
    struct cell_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) {
        log_error("out of memory");
        abort();
    }
    *waiter = (struct cell_waiter){.fn = fn, .context = context};
    list_append(&cell->waiters, &waiter->link);
    if (cell->state == CELL_READY)
        tell_waiters(cell, NULL);
}

void cell_forget_waiter(struct cell *cell, void *context) {
    struct cell_waiter *waiter;
    list_for_each(waiter, &cell->waiters, link) if (waiter->context == context) {
        list_remove(&waiter->link);
        free(waiter);
    }
}

void cell_stop(struct cell *cell, bool at_once) {
    bool was_ready = cell->state == CELL_READY;
    if (cell->state == CELL_STOPPING && !at_once)
        return;
    record(RECORD_CELL_STOP, cell->dc, at_once);
    cell->asked = true;
    cell->state = CELL_STOPPING;
    loop_timer_cancel(cell->timer);
    cell->timer = NULL;
    if (at_once && cell->terminated && cell->pid > 0) {
        kill(cell->pid, SIGKILL);
        return;
    }
    if (was_ready && !at_once && cell->client) {
        cleanup_json json_t *request = json_pack("{s:s}", "op", "stop");
        broker_control(cell->client, request, NULL, 0, CELL_STOP_MS, NULL, NULL, NULL);
        loop_timer_add(cell->cells->loop, CELL_STOP_MS, on_timer, cell, &cell->timer);
        return;
    }
    on_timer(cell);
}

void cell_cut(struct cell *cell) {
    struct client *client = cell->client;
    record(RECORD_CELL_CUT, cell->dc, 0);
    cell->asked = true;
    cell->state = CELL_STOPPING;
    cell->client = NULL;
    client_close(client);
    if (cell->terminated)
        return;
    loop_timer_cancel(cell->timer);
    on_timer(cell);
}

void cells_on_event(struct cells *cells, uint32_t dc, const json_t *event) {
    struct cell *cell = cells_find(cells, dc);
    const char *name = field_string(event, "event");
    if (!cell || !name)
        return;
    if (strcmp(name, "ready") == 0) {
        if (cell->state != CELL_STARTING)
            return;
        cell->state = CELL_READY;
        record(RECORD_CELL_READY, cell->dc, (uint64_t)cell->pid);
        loop_timer_cancel(cell->timer);
        cell->timer = NULL;
        log_info("cell of %s is ready", cell->dc_name);
        cells->host.ready(cells->host.context, cell);
        tell_waiters(cell, NULL);
    } else if (strcmp(name, "failed") == 0) {
        const char *reason = field_string(event, "reason");
        snprintf(cell->reason, sizeof cell->reason, "%s", reason && *reason ? reason : "its servers failed");
        if (cell->pid > 0) /* dvs-cell cleans up and ends; it is not "expected" */
            kill(cell->pid, SIGTERM);
    } else {
        cells->host.event(cells->host.context, cell, event);
    }
}

void cells_on_client_gone(struct cells *cells, struct client *client) {
    struct cell *cell;
    list_for_each(cell, &cells->list, link) {
        if (cell->client != client)
            continue;
        cell->client = NULL;
        /* its servers are gone, so the rest is of no use; init ends by itself, this is for when it does not */
        if (cell->pid <= 0 || cell->state == CELL_STOPPING)
            continue;
        cell->terminated = true;
        kill(cell->pid, SIGTERM);
        loop_timer_cancel(cell->timer);
        cell->timer = NULL;
        loop_timer_add(cells->loop, CELL_KILL_MS, on_timer, cell, &cell->timer);
    }
}
