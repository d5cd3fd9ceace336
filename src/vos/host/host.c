/* SPDX-License-Identifier: Apache-2.0 */
#include "vos/host/host.h"
#include "cell/init_protocol.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "common/log.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define STOP_DELAY_MS 50 /* for the answer to "stop" and the last console output to get out */

struct host {
    struct vos *vos;
    const struct vos_module *const *modules;
    bool stopping;
    int result; /* not 0: the loop ends with it */
    struct failure *failure;
};

const struct vos_node *vos_node_by_id(const struct vos *vos, uint32_t id) {
    uint32_t low = 0, high = vos->node_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (vos->nodes[middle].id == id)
            return &vos->nodes[middle];
        if (vos->nodes[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct vos_node *vos_node_by_name(const struct vos *vos, const char *name) {
    for (uint32_t i = 0; i < vos->node_count; i++)
        if (!strcmp(vos->nodes[i].name, name))
            return &vos->nodes[i];
    return NULL;
}

int host_init_send(const struct vos *vos, const struct init_packet *packet, const int *fds, unsigned fd_count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 4)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)packet, sizeof *packet};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 4)
        return -EINVAL;
    if (fd_count) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    while (sendmsg(vos->init_fd, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int host_fail(struct host *host, int error, const char *what) {
    if (!host->result)
        host->result = failure_set(host->failure, error, "internal", NULL, "%s: %s", what, dvk_strerror(error));
    return error;
}

/* ---- messages ---- */

static const struct vos_module *module_of(const struct host *host, dvk_endpoint endpoint) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    if (!dvk_slot_is_system(slot))
        return NULL;
    for (const struct vos_module *const *module = host->modules; *module; module++)
        if ((*module)->service == dvk_system_slot_service(slot))
            return *module;
    return NULL;
}

static void request_dispatch(struct host *host, struct dvk_request *req) {
    const struct vos_module *module = module_of(host, req->msg.destination);
    if (module) {
        module->request(host->vos, req);
        return;
    }
    for (unsigned i = 0; i < req->fd_count; i++)
        close(req->fds[i]);
    if (req->wants_reply)
        dvk_reply_status(host->vos->dvk, req, -ENOSYS);
    else
        dvk_release(host->vos->dvk, req);
}

static void request_cancelled(void *context, struct dvk_request *req) {
    struct host *host = context;
    const struct vos_module *module = module_of(host, req->msg.destination);
    if (module && module->cancelled)
        module->cancelled(host->vos, req);
}

/* ---- control ---- */

static void stop_now(void *context) {
    struct host *host = context;
    struct init_packet packet = {.magic = INIT_PROTOCOL_MAGIC, .type = INIT_STOP};
    int error = host_init_send(host->vos, &packet, NULL, 0);
    if (error)
        host_fail(host, error, "cannot tell cell init to stop");
}

static void stop_begin(struct host *host) {
    if (host->stopping)
        return;
    host->stopping = true;
    for (const struct vos_module *const *module = host->modules; *module; module++)
        if ((*module)->stop)
            (*module)->stop(host->vos);
    uint64_t timer;
    if (dvk_timer(host->vos->dvk, STOP_DELAY_MS, stop_now, host, &timer))
        stop_now(host);
}

static void event_fds_close(const struct dvk_event *event) {
    for (unsigned i = 0; i < event->fd_count; i++)
        close(event->fds[i]);
}

static void control_answer(struct host *host, const struct dvk_event *event, const char *text) {
    event_fds_close(event);
    int error = dvk_control_reply(host->vos->dvk, event->id, text);
    if (error)
        log_warning("control answer not sent: %s", dvk_strerror(error));
}

static void control_take(struct host *host, const struct dvk_event *event) {
    cleanup_json json_t *request = json_loads(event->text ? event->text : "", 0, NULL);
    const char *op = field_string(request, "op");
    if (!op) {
        control_answer(host, event, "{\"errno\": 22}");
        return;
    }
    if (!strcmp(op, "stop")) {
        stop_begin(host);
        control_answer(host, event, "{}");
        return;
    }
    for (const struct vos_module *const *module = host->modules; *module; module++)
        if ((*module)->control && (*module)->control(host->vos, op, event))
            return;
    control_answer(host, event, "{\"errno\": 38}");
}

/* ---- events ---- */

static void node_event(struct host *host, uint32_t id, bool up) {
    const struct vos_node *found = vos_node_by_id(host->vos, id);
    if (!found || id == host->vos->node || found->up == up)
        return;
    host->vos->nodes[found - host->vos->nodes].up = up;
    for (const struct vos_module *const *module = host->modules; *module; module++)
        if ((*module)->node_change)
            (*module)->node_change(host->vos, id, up);
}

static void event_take(void *context, const struct dvk_event *event) {
    struct host *host = context;
    switch (event->type) {
    case DVK_EVENT_ENDPOINT_GONE:
        for (const struct vos_module *const *module = host->modules; *module; module++)
            if ((*module)->endpoint_gone)
                (*module)->endpoint_gone(host->vos, event->endpoint);
        break;
    case DVK_EVENT_NODE_UP:
    case DVK_EVENT_NODE_DOWN:
        node_event(host, event->node, event->type == DVK_EVENT_NODE_UP);
        break;
    case DVK_EVENT_DC_GONE:
        stop_begin(host);
        break;
    case DVK_EVENT_CONTROL:
        control_take(host, event);
        return;
    case DVK_EVENT_LOST: /* of locks, which we use none of */
    case DVK_EVENT_PROMOTED: /* nor backups */
    case DVK_EVENT_BACKUP_GONE:
    case DVK_EVENT_MIGRATE_ENDED:
        break;
    }
    event_fds_close(event);
}

/* ---- start ---- */

static void zygote_bound(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    struct host *host = context;
    if (status) {
        host_fail(host, status, "cannot make the zygote's channel");
        return;
    }
    int fds[3] = {channel_fd, socket_fd, dvk_doorbell_fd(host->vos->dvk)};
    struct init_packet packet = {.magic = INIT_PROTOCOL_MAGIC, .type = INIT_START_ZYGOTE};
    int error = host_init_send(host->vos, &packet, fds, 3);
    close(channel_fd);
    close(socket_fd);
    if (!error)
        error = dvk_control_send(host->vos->dvk, "{\"event\": \"ready\"}");
    if (error)
        host_fail(host, error, "cannot start the zygote");
}

static int services_bind(struct host *host) {
    struct vos *vos = host->vos;
    for (const struct vos_module *const *module = host->modules; *module; module++) {
        uint32_t service = (*module)->service;
        if (service >= ARRAY_LENGTH(vos->self))
            return host_fail(host, -EINVAL, (*module)->name);
        int error = dvk_bind(vos->dvk, vos->dc, dvk_system_slot(vos->node, service), &vos->self[service]);
        if (error)
            return host_fail(host, error, "cannot bind the services' endpoints");
    }
    return 0;
}

static int modules_start(struct host *host) {
    for (const struct vos_module *const *module = host->modules; *module; module++) {
        int error = (*module)->start(host->vos);
        if (error) {
            char what[80];
            snprintf(what, sizeof what, "cannot start the server %s", (*module)->name);
            return host_fail(host, error, what);
        }
    }
    return 0;
}

static void failure_tell(struct host *host) {
    cleanup_json json_t *event = json_pack("{s:s, s:s}", "event", "failed", "reason", host->failure->message);
    cleanup_free char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    if (text)
        (void)dvk_control_send(host->vos->dvk, text); /* it may be dvkd that failed */
}

int host_run(struct vos *vos, const struct vos_module *const *modules, struct failure *failure) {
    struct failure own = {0};
    struct host host = {.vos = vos, .modules = modules, .failure = failure ? failure : &own};
    dvk_on_event(vos->dvk, event_take, &host);
    dvk_on_cancel(vos->dvk, request_cancelled, &host);
    int error = services_bind(&host);
    if (!error)
        error = modules_start(&host);
    if (!error) {
        error = dvk_guest_bind(vos->dvk, vos->dc, DVK_ZYGOTE_SLOT, false, zygote_bound, &host);
        if (error)
            host_fail(&host, error, "cannot make the zygote's channel");
    }
    while (!host.result) {
        struct dvk_request *req;
        error = dvk_receive(vos->dvk, &req, -1);
        if (!error)
            request_dispatch(&host, req);
        else if (error == -DVK_ENODAEMON)
            host_fail(&host, error, "dvkd went away");
        else if (error != -DVK_EINTERRUPTED && error != -DVK_ETIMEDOUT)
            log_warning("receive: %s", dvk_strerror(error));
    }
    failure_tell(&host);
    return host.result;
}
