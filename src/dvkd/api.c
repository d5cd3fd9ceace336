/* SPDX-License-Identifier: Apache-2.0 */
#include "dvkd/api.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <dvk/error.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct api {
    struct dvkd *dvkd;
    int fd;
    struct loop_watch *watch;
    struct list connections;
    unsigned count;
};

struct connection {
    struct list link;
    struct api *api;
    int fd;
    struct loop_watch *watch;
    int fds[3];
    unsigned fd_count;
    char *input;
    size_t input_len;
    char *output;
    size_t output_start, output_len, output_cap;
    bool requested;  /* the request was handed on */
    bool read_end;   /* the client sends no more */
    bool finishing;
    void (*gone)(void *context);
    void *gone_context;
    void (*drained)(void *context);
    void *drained_context;
    struct loop_timer *close_timer;
};

static const struct {
    const char *name;
    api_operation *fn;
} operations[] = {
    {"node.links", api_node_links}, {"cluster.token", api_cluster_token}, {"cluster.ls", api_cluster_ls}, {"cluster.leave", api_cluster_leave},
    {"version", api_version},   {"node.ls", api_node_ls},     {"dc.ls", api_dc_ls},
    {"dc.inspect", api_dc_inspect}, {"dc.create", api_dc_create}, {"dc.run", api_dc_run},   {"dc.exec", api_dc_exec},
    {"dc.resize", api_dc_resize}, {"dc.ps", api_dc_ps},       {"dc.kill", api_dc_kill},
    {"dc.rm", api_dc_rm},       {"dc.logs", api_dc_logs},     {"debug.channels", api_debug_channels},
    {"debug.endpoints", api_debug_endpoints}, {"debug.memory", api_debug_memory},
    {"debug.record", api_debug_record}, {"debug.slots", api_debug_slots},       {"debug.places", api_debug_places},
    {"metrics", api_metrics}, {"debug.snapshot", api_debug_snapshot},
};

api_operation *api_find(const char *name) {
    for (unsigned i = 0; i < ARRAY_LENGTH(operations); i++)
        if (strcmp(operations[i].name, name) == 0)
            return operations[i].fn;
    return NULL;
}

/* ---- connections ---- */

static void connection_free(struct connection *connection) {
    loop_timer_cancel(connection->close_timer);
    loop_watch_remove(connection->watch);
    for (unsigned i = 0; i < connection->fd_count; i++)
        if (connection->fds[i] >= 0)
            close(connection->fds[i]);
    list_remove(&connection->link);
    connection->api->count--;
    close(connection->fd);
    free(connection->input);
    free(connection->output);
    free(connection);
}

static void connection_lost(struct connection *connection) {
    void (*gone)(void *) = connection->gone;
    connection->gone = NULL;
    if (gone && !connection->finishing)
        gone(connection->gone_context);
    connection_free(connection);
}

static void close_fn(void *context) {
    struct connection *connection = context;
    connection->close_timer = NULL;
    connection_lost(connection);
}

/* The one that caused it is still using the connection. */
static void lose_soon(struct connection *connection) {
    connection->output_len = 0;
    if (!connection->close_timer)
        loop_timer_add(connection->api->dvkd->loop, 0, close_fn, connection, &connection->close_timer);
}

static void set_events(struct connection *connection) {
    uint32_t events = (connection->read_end ? 0 : EPOLLIN) | (connection->output_len ? EPOLLOUT : 0);
    loop_fd_set(connection->watch, events);
}

static void flush(struct connection *connection) {
    while (connection->output_len) {
        ssize_t n = send(connection->fd, connection->output + connection->output_start, connection->output_len,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            lose_soon(connection);
            return;
        }
        connection->output_start += (size_t)n;
        connection->output_len -= (size_t)n;
    }
    if (connection->output_len == 0) {
        connection->output_start = 0;
        if (connection->finishing)
            lose_soon(connection);
    }
    set_events(connection);
}

void connection_write(struct connection *connection, const void *data, size_t len) {
    if (connection->close_timer)
        return;
    size_t need = connection->output_start + connection->output_len + len;
    if (connection->output_len + len > API_OUTPUT_MAX) {
        lose_soon(connection);
        return;
    }
    if (need > connection->output_cap) {
        char *bigger = realloc(connection->output, need + 4096);
        if (!bigger) {
            lose_soon(connection);
            return;
        }
        connection->output = bigger;
        connection->output_cap = need + 4096;
    }
    memcpy(connection->output + connection->output_start + connection->output_len, data, len);
    connection->output_len += len;
    flush(connection);
}

size_t connection_pending(const struct connection *connection) { return connection->output_len; }

void connection_send(struct connection *connection, json_t *json) {
    cleanup_json json_t *owned = json;
    cleanup_free char *text = json_dumps(json, JSON_COMPACT);
    if (!text) {
        lose_soon(connection);
        return;
    }
    size_t len = strlen(text);
    text[len] = '\n'; /* in place of the NUL */
    connection_write(connection, text, len + 1);
}

void connection_finish(struct connection *connection) {
    connection->finishing = true;
    connection->gone = NULL;
    connection->drained = NULL;
    if (connection->output_len == 0)
        lose_soon(connection);
}

void connection_fail(struct connection *connection, const struct failure *failure) {
    json_t *error = json_pack("{s:s, s:s}", "code", failure->code[0] ? failure->code : "internal", "message",
                              failure->message[0] ? failure->message : "no reason is known");
    if (failure->hint[0])
        json_object_set_new(error, "hint", json_string(failure->hint));
    connection_send(connection, json_pack("{s:o}", "error", error));
    connection_finish(connection);
}

void connection_succeed(struct connection *connection, json_t *more) {
    json_t *answer = json_pack("{s:b}", "ok", 1);
    if (more) {
        json_object_update(answer, more);
        json_decref(more);
    }
    connection_send(connection, answer);
    connection_finish(connection);
}

void connection_redirect(struct connection *connection, uint32_t node) {
    const struct config_node *other = dvkd_config(connection->api->dvkd)->nodes[node];
    if (!other || !replica_node_is_up(connection->api->dvkd->replica, node)) {
        struct failure failure;
        failure_set(&failure, 0, "node-down", "dvs node ls", "node %s, which knows, is down",
                    dvkd_node_name(connection->api->dvkd, node));
        connection_fail(connection, &failure);
        return;
    }
    connection_send(connection,
                    json_pack("{s:{s:s, s:s}}", "redirect", "node", other->name, "run", other->run));
    connection_finish(connection);
}

struct dvkd *connection_dvkd(struct connection *connection) { return connection->api->dvkd; }

void connection_on_gone(struct connection *connection, void (*fn)(void *context), void *context) {
    connection->gone = fn;
    connection->gone_context = context;
}

void connection_on_drained(struct connection *connection, void (*fn)(void *context), void *context) {
    connection->drained = fn;
    connection->drained_context = context;
}

unsigned connection_take_fds(struct connection *connection, int fds[3]) {
    unsigned count = connection->fd_count;
    for (unsigned i = 0; i < 3; i++)
        fds[i] = i < count ? connection->fds[i] : -1;
    connection->fd_count = 0;
    return count;
}

/* ---- requests ---- */

static void handle_request(struct connection *connection) {
    struct failure failure;
    json_error_t error;
    cleanup_json json_t *request = json_loads(connection->input, JSON_REJECT_DUPLICATES, &error);
    const char *name = field_string(request, "op");
    api_operation *operation = name ? api_find(name) : NULL;
    connection->requested = true;
    if (operation) {
        operation(connection, request);
        return;
    }
    if (!json_is_object(request))
        failure_set(&failure, 0, "bad-request", NULL, "the request is no JSON object: %s", error.text);
    else
        failure_set(&failure, 0, "bad-request", "are dvs and dvkd of the same version?", "there is no operation %s",
                    name ? name : "(none was named)");
    connection_fail(connection, &failure);
}

static void take_control(struct connection *connection, struct msghdr *message) {
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (connection->fd_count < 3 && !connection->requested)
                connection->fds[connection->fd_count++] = fd;
            else
                close(fd);
        }
    }
}

/* False when there is nothing more to read now. */
static bool receive(struct connection *connection) {
    static char buffer[65536];
    union {
        char space[CMSG_SPACE(16 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n = recvmsg(connection->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EINTR;
    take_control(connection, &message);
    if (n == 0) {
        connection->read_end = true;
        set_events(connection);
        return false;
    }
    if (connection->requested)
        return true; /* one request a connection: the rest is of no interest */
    struct failure failure;
    if (connection->input_len + (size_t)n > API_REQUEST_MAX) {
        connection->requested = true;
        failure_set(&failure, 0, "bad-request", "at most 120 KiB of command and environment",
                    "the request is longer than %u bytes", API_REQUEST_MAX);
        connection_fail(connection, &failure);
        return true;
    }
    char *bigger = realloc(connection->input, connection->input_len + (size_t)n + 1);
    if (!bigger) {
        lose_soon(connection);
        return false;
    }
    connection->input = bigger;
    memcpy(bigger + connection->input_len, buffer, (size_t)n);
    connection->input_len += (size_t)n;
    bigger[connection->input_len] = 0;
    char *end = memchr(bigger, '\n', connection->input_len);
    if (end) {
        *end = 0;
        handle_request(connection);
    }
    return true;
}

static void on_connection(void *context, int fd, uint32_t events) {
    struct connection *connection = context;
    if (events & EPOLLIN)
        for (int i = 0; i < 16 && !connection->close_timer; i++)
            if (!receive(connection))
                break;
    if ((events & EPOLLOUT) && !connection->close_timer) {
        flush(connection);
        if (connection->output_len == 0 && connection->drained && !connection->close_timer)
            connection->drained(connection->drained_context);
    }
    if (connection->close_timer)
        return;
    /* a client that only closed its sending half is still there; one that hung up is not */
    if ((events & (EPOLLHUP | EPOLLERR)) || (connection->read_end && !connection->requested))
        connection_lost(connection);
}

static void on_listen(void *context, int fd, uint32_t events) {
    struct api *api = context;
    cleanup_close int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (client_fd < 0 || getsockopt(client_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != 0)
        return;
    if (api->count >= API_CONNECTIONS_MAX) {
        log_warning("too many commands at once: one is refused");
        return;
    }
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return;
    *connection = (struct connection){.api = api, .fd = client_fd};
    if (loop_fd_add(api->dvkd->loop, client_fd, EPOLLIN, on_connection, connection, &connection->watch) < 0) {
        free(connection);
        return;
    }
    steal_fd(&client_fd);
    list_append(&api->connections, &connection->link);
    api->count++;
}

int api_start(struct dvkd *dvkd, struct api **out) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/dvs.sock", dvkd->options.run);
    struct api *api = calloc(1, sizeof *api);
    if (!api)
        return -ENOMEM;
    api->dvkd = dvkd;
    list_init(&api->connections);
    api->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = api->fd < 0 ? -errno : 0;
    if (result == 0 && unlink(address.sun_path) < 0 && errno != ENOENT)
        result = -errno;
    if (result == 0 && (bind(api->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
                        chmod(address.sun_path, 0600) < 0 || listen(api->fd, 128) < 0))
        result = -errno;
    if (result == 0)
        result = loop_fd_add(dvkd->loop, api->fd, EPOLLIN, on_listen, api, &api->watch);
    if (result < 0) {
        if (api->fd >= 0)
            close(api->fd);
        free(api);
        return result;
    }
    *out = api;
    return 0;
}

void api_stop(struct api *api) {
    if (!api)
        return;
    struct connection *connection;
    list_for_each(connection, &api->connections, link) {
        flush(connection);
        connection->gone = NULL;
        connection_free(connection);
    }
    loop_watch_remove(api->watch);
    close(api->fd);
    free(api);
}
