/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: unix(7); descriptors are passed as in cmsg(3). */
#include "dvs/client.h"

#include "common/cleanup.h"
#include "common/loop.h"
#include "dvs/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DEFAULT_RUN "/run/dvs"
#define ANSWER_MAX ((size_t)64 << 20)
#define REDIRECTS_MAX 4
#define FDS_MAX 8u

/* ---- connection ---- */

static int socket_connect(const char *run, int *out) {
    /* The path may be longer than sun_path: connect through the directory's descriptor. */
    cleanup_close int directory = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -errno;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/dvs.sock", directory);
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    *out = steal_fd(&fd);
    return 0;
}

static int send_all(int fd, const char *text, size_t len, const int *fds, unsigned fd_count) {
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    for (size_t sent = 0; sent < len;) {
        struct iovec iov = {(char *)text + sent, len - sent};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (sent == 0 && fd_count > 0) {
            msg.msg_control = control.room;
            msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
            struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
            memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
        }
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        sent += (size_t)n;
    }
    return 0;
}

void client_close(struct client *client) {
    if (client->fd >= 0)
        close(client->fd);
    free(client->buffer);
    *client = (struct client)CLIENT_INIT;
}

/* ---- answers ---- */

/* Read some more into the buffer. Returns 0, -ENODATA, or negative errno. */
static int buffer_fill(struct client *client) {
    if (client->start > 0) {
        memmove(client->buffer, client->buffer + client->start, client->end - client->start);
        client->end -= client->start;
        client->start = 0;
    }
    if (client->end == client->capacity) {
        if (client->capacity >= ANSWER_MAX)
            return -EPROTO;
        size_t capacity = client->capacity ? client->capacity * 2 : 16384;
        char *buffer = realloc(client->buffer, capacity);
        if (!buffer)
            return -ENOMEM;
        client->buffer = buffer;
        client->capacity = capacity;
    }
    ssize_t n;
    do
        n = recv(client->fd, client->buffer + client->end, client->capacity - client->end, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -ENODATA : -errno;
    if (n == 0)
        return -ENODATA;
    client->end += (size_t)n;
    return 0;
}

int client_next(struct client *client, json_t **answer, int timeout_ms) {
    uint64_t deadline = loop_now_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    for (size_t looked = 0;;) {
        size_t have = client->end - client->start;
        char *line = client->buffer ? client->buffer + client->start : NULL;
        char *newline = have > looked ? memchr(line + looked, '\n', have - looked) : NULL;
        if (newline) {
            json_t *json = json_loadb(line, (size_t)(newline - line), 0, NULL);
            client->start += (size_t)(newline - line) + 1;
            if (!json_is_object(json)) {
                json_decref(json);
                return -EPROTO;
            }
            *answer = json;
            return 0;
        }
        looked = have;
        int wait = -1;
        if (timeout_ms >= 0) {
            uint64_t now = loop_now_ms();
            wait = now < deadline ? (int)(deadline - now) : 0;
        }
        struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
        int ready = poll(&poll_fd, 1, wait);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready == 0)
            return -EAGAIN;
        if (ready < 0)
            continue;
        int result = buffer_fill(client);
        if (result < 0)
            return result;
    }
}

long client_read_raw(struct client *client, void *to, size_t cap) {
    size_t have = client->end - client->start;
    if (have > 0) {
        size_t len = have < cap ? have : cap;
        memcpy(to, client->buffer + client->start, len);
        client->start += len;
        return (long)len;
    }
    ssize_t n;
    do
        n = recv(client->fd, to, cap, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Is it the daemon's error? Then it is moved into *failure and -EREMOTEIO returned. */
static int answer_check(const json_t *answer, struct failure *failure) {
    const json_t *error = json_object_get(answer, "error");
    if (error) {
        const char *code = field_string(error, "code"), *message = field_string(error, "message");
        return failure_set(failure, -EREMOTEIO, code ? code : "internal", field_string(error, "hint"), "%s",
                           message ? message : "the daemon refused without a reason");
    }
    if (!field_true(answer, "ok"))
        return failure_set(failure, -EPROTO, "unavailable", "are dvs and dvkd of the same version?",
                           "dvkd's answer makes no sense");
    return 0;
}

static int run_request(const char *run, const char *text, const int *fds, unsigned fd_count, int timeout_ms,
                       struct client *client, json_t **answer, struct failure *failure) {
    int result = socket_connect(run, &client->fd);
    if (result == -EACCES || result == -EPERM)
        return failure_set(failure, result, "unavailable", "run dvs as root", "may not talk to the daemon at %s", run);
    if (result < 0)
        return failure_set(failure, -ECONNREFUSED, "unavailable", "start one by: dvs lab up 3", "no dvkd answers at %s",
                           run);
    snprintf(client->run, sizeof client->run, "%s", run);
    result = send_all(client->fd, text, strlen(text), fds, fd_count);
    if (result == 0)
        result = client_next(client, answer, timeout_ms);
    if (result == -EAGAIN)
        return failure_set(failure, -ETIMEDOUT, "unavailable", "see its log, or: dvs lab status",
                           "dvkd at %s did not answer within %d s", run, timeout_ms / 1000);
    if (result < 0)
        return failure_set(failure, result == -EPROTO ? -EPROTO : -ECONNREFUSED, "unavailable",
                           "see its log, or: dvs lab status", "dvkd at %s went away before it answered", run);
    return 0;
}

/* ---- which daemon ---- */

bool client_reachable(const char *run) {
    cleanup_close int fd = -1;
    int result = socket_connect(run, &fd);
    return result == 0 || result == -EACCES || result == -EPERM; /* those are told by the request */
}

/* Does the daemon say that it is in a quorate partition? */
static bool run_is_quorate(const char *run) {
    cleanup_json json_t *answer = NULL;
    struct failure ignored = {0};
    return client_ask_run(run, json_pack("{s:s}", "op", "node.ls"), 1000, &answer, &ignored) == 0 &&
           field_true(answer, "quorate");
}

int client_locate(const struct client_target *target, char run[static PATH_MAX], struct failure *failure) {
    const char *env_run = getenv("DVS_RUN");
    if (env_run && *env_run && !target->node && !target->lab) {
        snprintf(run, PATH_MAX, "%s", env_run);
        return 0;
    }
    char lab_name[LAB_NAME_MAX + 1];
    int result = lab_choose(target->lab, lab_name, failure);
    if (result == -ENOENT && !target->lab && !getenv("DVS_LAB")) {
        /* No lab at all: the machine's own daemon. */
        cleanup_json json_t *answer = NULL;
        snprintf(run, PATH_MAX, "%s", DEFAULT_RUN);
        if (!target->node)
            return 0;
        result = client_ask_run(run, json_pack("{s:s}", "op", "version"), CLIENT_LOOK_MS, &answer, failure);
        if (result < 0)
            return result;
        const char *node = field_string(answer, "node");
        if (node && strcmp(node, target->node) == 0)
            return 0;
        return failure_set(failure, -ENOENT, "no-such-node", "without --node the local daemon is asked",
                           "this machine's daemon is node %s, not %s", node ? node : "?", target->node);
    }
    if (result < 0)
        return result;

    cleanup_lab struct lab *lab = NULL;
    result = lab_load(lab_name, &lab, failure);
    if (result < 0)
        return result;
    if (target->node) {
        const struct lab_node *node = lab_node_by_name(lab, target->node);
        if (!node)
            return failure_set(failure, -ENOENT, "no-such-node", "dvs node ls lists them", "no node named %s in lab %s",
                               target->node, lab_name);
        lab_node_run_path(lab, node, run);
        if (!client_reachable(run))
            return failure_set(failure, -ECONNREFUSED, "node-down", "dvs lab start starts it", "node %s is down",
                               target->node);
        return 0;
    }
    /* With one node reachable there is no choice to make; else look for one that may change things. */
    const struct lab_node *reachable = NULL;
    for (unsigned i = 0; i < lab->node_count; i++) {
        lab_node_run_path(lab, &lab->nodes[i], run);
        if (!client_reachable(run))
            continue;
        if (run_is_quorate(run))
            return 0;
        if (!reachable)
            reachable = &lab->nodes[i];
    }
    if (!reachable)
        return failure_set(failure, -ECONNREFUSED, "unavailable",
                           "dvs lab status shows them; dvs lab start NODE starts one", "no node of lab %s is up",
                           lab_name);
    lab_node_run_path(lab, reachable, run);
    return 0;
}

/* ---- requests ---- */

/* The run directory that a redirect names; a daemon that knows only the node's name means one of the same lab. */
static int redirect_resolve(const struct client *client, const json_t *redirect, char run[static PATH_MAX],
                            struct failure *failure) {
    const char *node = field_string(redirect, "node"), *path = field_string(redirect, "run");
    if (path && *path) {
        snprintf(run, PATH_MAX, "%s", path);
        return 0;
    }
    const char *slash = strrchr(client->run, '/');
    if (!node || !slash || strchr(node, '/') || strcmp(node, "..") == 0)
        return failure_set(failure, -EPROTO, "unavailable", NULL, "the daemon at %s sent us nowhere", client->run);
    snprintf(run, PATH_MAX, "%.*s/%s", (int)(slash - client->run), client->run, node);
    if (access(run, F_OK) < 0)
        return failure_set(failure, -EREMOTE, "unavailable", "run dvs on that node", "only node %s can do that", node);
    return 0;
}

int client_request(const struct client_target *target, json_t *request, const int *fds, unsigned fd_count,
                   int timeout_ms, struct client *client, json_t **answer, struct failure *failure) {
    cleanup_json json_t *owned = request;
    char run[PATH_MAX];
    *client = (struct client)CLIENT_INIT;
    *answer = NULL;
    if (!owned || fd_count > FDS_MAX)
        return failure_set(failure, -EINVAL, "bad-request", NULL, "an argument is not UTF-8 text");
    cleanup_free char *text = json_dumps(owned, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0;
    char *line = text ? realloc(text, len + 2) : NULL;
    if (!line)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    text = line;
    memcpy(text + len, "\n", 2);

    int result = client_locate(target, run, failure);
    for (int hop = 0; result == 0 && hop <= REDIRECTS_MAX; hop++) {
        result = run_request(run, text, fds, fd_count, timeout_ms, client, answer, failure);
        const json_t *redirect = result == 0 ? json_object_get(*answer, "redirect") : NULL;
        if (result == 0 && !redirect)
            result = answer_check(*answer, failure);
        if (result == 0 && !redirect)
            return 0;
        if (result == 0)
            result = redirect_resolve(client, redirect, run, failure);
        json_decref(*answer);
        *answer = NULL;
        client_close(client);
    }
    return result ? result : failure_set(failure, -ELOOP, "unavailable", NULL, "the nodes send us round in circles");
}

int client_ask(const struct client_target *target, json_t *request, int timeout_ms, json_t **answer,
               struct failure *failure) {
    struct client client;
    int result = client_request(target, request, NULL, 0, timeout_ms, &client, answer, failure);
    client_close(&client);
    return result;
}

int client_ask_run(const char *run, json_t *request, int timeout_ms, json_t **answer, struct failure *failure) {
    cleanup_json json_t *owned = request;
    cleanup_free char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
    *answer = NULL;
    if (!text)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    cleanup_free char *line = NULL;
    if (asprintf(&line, "%s\n", text) < 0)
        return failure_set(failure, -ENOMEM, "internal", NULL, "out of memory");
    struct client client = CLIENT_INIT;
    int result = run_request(run, line, NULL, 0, timeout_ms, &client, answer, failure);
    if (result == 0)
        result = answer_check(*answer, failure);
    client_close(&client);
    return result;
}
