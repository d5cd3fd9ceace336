/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_dvk.h"
#include "vos/fs/fs.h"

#include <assert.h>
#include <dvk/error.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

struct fake_call {
    struct fake_call *next;
    uint64_t id;
    struct vos *from, *to;
    struct dvk_message message;
    uint8_t *data;
    dvk_done *done;
    void *context;
    int fds[DVK_MESSAGE_FDS];
    unsigned fd_count;
    bool answering; /* in the queue as an answer */
    bool delivered;
    int status;
    struct dvk_message reply;
    uint8_t *reply_data;
    struct fake_req *req;
};

struct fake_req {
    struct dvk_request public; /* first */
    struct fake_call *call;
    struct answer *answer;
    uint8_t *reply_buffer, *data_buffer;
    struct vos *vos;
};

struct fake_watch {
    struct fake_watch *next;
    int fd;
    uint32_t events;
    void (*fn)(void *context, int fd, uint32_t events);
    void *context;
};

struct fake_timer {
    struct fake_timer *next;
    uint64_t id, at;
    void (*fn)(void *context);
    void *context;
};

void (*fake_server)(struct vos *vos, struct dvk_request *req);
static struct fake_call *queue, *outstanding;
static struct fake_watch *watches;
static struct fake_timer *timers;
static uint64_t next_id, now_ms;
static unsigned seed;
static struct vos *all;
static unsigned all_count;
static bool down[FAKE_NODES + 1];

void fake_seed(unsigned value) { seed = value; }

static unsigned draw(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}

static struct vos *vos_of(struct dvk *dvk) { return (struct vos *)dvk; }

static struct vos *node_by_id(uint32_t id) {
    for (unsigned i = 0; i < all_count; i++)
        if (all[i].node == id)
            return &all[i];
    return NULL;
}

static void enqueue(struct fake_call *call) {
    struct fake_call **p = &queue;
    while (*p)
        p = &(*p)->next;
    call->next = NULL;
    *p = call;
}

unsigned fake_queued(void) {
    unsigned count = 0;
    for (struct fake_call *c = queue; c; c = c->next)
        count++;
    return count;
}

int dvk_call(struct dvk *dvk, dvk_endpoint from, const struct dvk_message *message, const void *data, size_t len, const int *fds,
             unsigned fd_count, dvk_done *done, void *context, uint64_t *id) {
    struct fake_call *call = calloc(1, sizeof(*call));
    call->id = ++next_id;
    call->from = vos_of(dvk);
    call->message = *message;
    call->message.source = from;
    call->message.data_len = (uint32_t)len;
    assert(len <= FAKE_DATA);
    call->data = malloc(len + 1);
    memcpy(call->data, data ? data : "", len);
    call->done = done;
    call->context = context;
    if (fd_count)
        memcpy(call->fds, fds, fd_count * sizeof(int));
    call->fd_count = fd_count;
    uint32_t slot = dvk_endpoint_slot(message->destination);
    call->to = node_by_id(dvk_system_slot_node(slot));
    if (id)
        *id = call->id;
    enqueue(call);
    return 0;
}

int dvk_cancel(struct dvk *dvk, uint64_t id) {
    for (struct fake_call *c = queue; c; c = c->next)
        if (c->id == id && !c->answering) {
            /* Not taken yet: it is taken, marked. */
            c->message.reserved = 1;
            return 0;
        }
    for (struct fake_call *c = outstanding; c; c = c->next)
        if (c->id == id && c->req) {
            c->req->public.cancelled = true;
            if (dvk_system_slot_service(dvk_endpoint_slot(c->message.destination)) == DVK_SERVICE_FS)
                fs_module.cancelled(c->to, &c->req->public);
            return 0;
        }
    return -ESRCH;
}

static void take_outstanding(struct fake_call *call) {
    for (struct fake_call **p = &outstanding; *p; p = &(*p)->next)
        if (*p == call) {
            *p = call->next;
            return;
        }
}

static void req_free(struct fake_req *req) {
    for (unsigned i = 0; i < req->public.fd_count; i++)
        if (req->public.fds[i] >= 0)
            close(req->public.fds[i]);
    free(req->reply_buffer);
    free(req->data_buffer);
    free(req);
}

void dvk_reply(struct dvk *dvk, struct dvk_request *public, const struct dvk_message *reply, const int *fds, unsigned fd_count) {
    struct fake_req *req = (struct fake_req *)public;
    assert(reply->data_len <= req->public.reply_cap);
    if (req->answer) {
        struct answer *answer = req->answer;
        assert(!answer->done);
        answer->done = true;
        answer->status = reply->status;
        memcpy(answer->words, reply->payload.words, sizeof(answer->words));
        answer->len = reply->data_len;
        memcpy(answer->data, req->reply_buffer, reply->data_len);
        answer->fd = fd_count ? fcntl(fds[0], F_DUPFD_CLOEXEC, 0) : -1;
    }
    if (req->call) {
        assert(fd_count == 0);
        struct fake_call *call = req->call;
        take_outstanding(call);
        call->req = NULL;
        call->answering = true;
        call->reply = *reply;
        call->reply_data = req->reply_buffer;
        req->reply_buffer = NULL;
        enqueue(call);
    }
    req_free(req);
}

void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status) {
    struct dvk_message reply = {.status = status};
    dvk_reply(dvk, req, &reply, NULL, 0);
}

void dvk_release(struct dvk *dvk, struct dvk_request *req) { req_free((struct fake_req *)req); }

int dvk_watch_fd(struct dvk *dvk, int fd, uint32_t events, void (*fn)(void *context, int fd, uint32_t events), void *context) {
    for (struct fake_watch **p = &watches; *p; p = &(*p)->next)
        if ((*p)->fd == fd) {
            struct fake_watch *watch = *p;
            if (events) {
                watch->events = events;
                watch->fn = fn;
                watch->context = context;
                return 0;
            }
            *p = watch->next;
            free(watch);
            return 0;
        }
    if (!events)
        return -ENOENT;
    struct fake_watch *watch = calloc(1, sizeof(*watch));
    *watch = (struct fake_watch){watches, fd, events, fn, context};
    watches = watch;
    return 0;
}

int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id) {
    struct fake_timer *timer = calloc(1, sizeof(*timer));
    *timer = (struct fake_timer){timers, ++next_id, now_ms + delay_ms, fn, context};
    timers = timer;
    *id = timer->id;
    return 0;
}

void dvk_timer_cancel(struct dvk *dvk, uint64_t id) {
    for (struct fake_timer **p = &timers; *p; p = &(*p)->next)
        if ((*p)->id == id) {
            struct fake_timer *timer = *p;
            *p = timer->next;
            free(timer);
            return;
        }
}

const struct vos_node *vos_node_by_id(const struct vos *vos, uint32_t id) {
    for (uint32_t i = 0; i < vos->node_count; i++)
        if (vos->nodes[i].id == id)
            return &vos->nodes[i];
    return NULL;
}

/* ---- delivery ---- */

static void complete(struct fake_call *call) {
    static const struct dvk_message none;
    call->done(call->context, call->status, call->status < 0 ? &none : &call->reply, call->reply_data, call->reply.data_len, NULL, 0);
    free(call->reply_data);
    free(call->data);
    free(call);
}

static struct fake_req *make_request(struct vos *vos, const struct dvk_message *message, const void *data, size_t len) {
    struct fake_req *req = calloc(1, sizeof(*req));
    req->vos = vos;
    req->public.msg = *message;
    req->public.msg.data_len = (uint32_t)len;
    req->data_buffer = malloc(len + 1);
    memcpy(req->data_buffer, data ? data : "", len);
    req->public.data = req->data_buffer;
    req->reply_buffer = malloc(FAKE_DATA);
    req->public.reply_data = req->reply_buffer;
    req->public.reply_cap = FAKE_DATA;
    req->public.wants_reply = true;
    for (unsigned i = 0; i < DVK_MESSAGE_FDS; i++)
        req->public.fds[i] = -1;
    return req;
}

static unsigned delivered;
unsigned fake_delivered(void) { return delivered; }

static void deliver(struct fake_call *call) {
    delivered++;
    if (call->answering) {
        complete(call);
        return;
    }
    if (!call->to || down[call->to->node] || down[call->from->node]) {
        call->status = -DVK_ENODEUNREACH;
        complete(call);
        return;
    }
    struct fake_req *req = make_request(call->to, &call->message, call->data, call->message.data_len);
    req->call = call;
    call->req = req;
    memcpy(req->public.fds, call->fds, call->fd_count * sizeof(int));
    req->public.fd_count = call->fd_count;
    req->public.cancelled = call->message.reserved;
    call->next = outstanding;
    outstanding = call;
    uint32_t service = dvk_system_slot_service(dvk_endpoint_slot(call->message.destination));
    if (service == DVK_SERVICE_FS)
        fs_module.request(call->to, &req->public);
    else if (fake_server)
        fake_server(call->to, &req->public);
    else
        dvk_reply_status(call->to->dvk, &req->public, -ENOSYS);
}

/* Requests of the same pair of nodes are in order. */
static bool may_go(const struct fake_call *call) {
    if (call->answering)
        return true;
    for (const struct fake_call *c = queue; c != call; c = c->next)
        if (!c->answering && c->from == call->from && c->to == call->to)
            return false;
    return true;
}

static void deliver_one(void) {
    struct fake_call *call = queue;
    if (seed) {
        unsigned skip = draw(fake_queued());
        while (skip-- && call->next)
            call = call->next;
        if (!may_go(call))
            call = queue;
    }
    for (struct fake_call **p = &queue; *p; p = &(*p)->next)
        if (*p == call) {
            *p = call->next;
            break;
        }
    deliver(call);
}

static bool run_watches(void) {
    for (struct fake_watch *watch = watches; watch; watch = watch->next) {
        struct pollfd state = {.fd = watch->fd, .events = (short)watch->events};
        if (poll(&state, 1, 0) > 0) {
            watch->fn(watch->context, watch->fd, (uint32_t)state.revents);
            return true;
        }
    }
    return false;
}

static bool run_timer(void) {
    struct fake_timer **first = NULL;
    for (struct fake_timer **p = &timers; *p; p = &(*p)->next)
        if (!first || (*p)->at < (*first)->at)
            first = p;
    if (!first)
        return false;
    struct fake_timer *timer = *first;
    *first = timer->next;
    now_ms = timer->at;
    timer->fn(timer->context);
    free(timer);
    return true;
}

void fake_run(unsigned may_fire) {
    for (unsigned steps = 0; steps < 1000000; steps++) {
        if (queue)
            deliver_one();
        else if (!run_watches() && (!may_fire-- || !run_timer()))
            return;
    }
    assert(!"no end of messages");
}

void fake_run_one(void) {
    if (queue)
        deliver_one();
}

void fake_node_down(struct vos *vos, unsigned count, uint32_t node) {
    down[node] = true;
    for (struct fake_call *c = outstanding, *next; c; c = next) {
        next = c->next;
        if (c->to->node == node && c->from->node != node) {
            /* Its caller hears of it; the request there hangs in the air. */
            take_outstanding(c);
            if (c->req)
                c->req->call = NULL;
            c->req = NULL;
            c->status = -DVK_ENODEUNREACH;
            c->answering = true;
            enqueue(c);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < count; j++)
            if (vos[i].nodes[j].id == node)
                vos[i].nodes[j].up = false;
        if (vos[i].node != node)
            fs_module.node_change(&vos[i], node, false);
    }
}

/* ---- guests ---- */

struct dvk_request *fake_request(struct vos *vos, uint32_t pid, uint32_t type, const uint64_t words[8], const void *data, size_t len,
                                 int fd, struct answer *out) {
    struct dvk_message message = {.source = dvk_endpoint_make(1, pid), .type = type};
    if (words)
        memcpy(message.payload.words, words, 8 * sizeof(uint64_t));
    struct fake_req *req = make_request(vos, &message, data, len);
    if (fd >= 0) {
        req->public.fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        req->public.fd_count = 1;
    }
    req->answer = out;
    out->done = false;
    out->fd = -1;
    fs_module.request(vos, &req->public);
    return out->done ? NULL : &req->public;
}

struct dvk_request *fake_peer_request(struct vos *vos, uint32_t node, uint32_t type, const uint64_t *words, unsigned word_count,
                                      const void *data, size_t len, struct answer *out) {
    struct dvk_message message = {.source = vos_service(node, DVK_SERVICE_FS), .type = type};
    memcpy(message.payload.words, words, word_count * sizeof(uint64_t));
    struct fake_req *req = make_request(vos, &message, data, len);
    req->public.source_node = node;
    req->answer = out;
    out->done = false;
    out->fd = -1;
    fs_module.request(vos, &req->public);
    return out->done ? NULL : &req->public;
}

void fake_cancel(struct vos *vos, struct dvk_request *req) {
    req->cancelled = true;
    fs_module.cancelled(vos, req);
}

int fake_call(struct vos *vos, uint32_t pid, uint32_t type, const uint64_t words[8], const void *data, size_t len, int fd,
              struct answer *out) {
    fake_request(vos, pid, type, words, data, len, fd, out);
    if (!out->done)
        fake_run(0);
    return out->done ? out->status : -999;
}

int fake_pm_call(struct vos *vos, uint32_t type, const uint64_t words[4], const void *data, size_t len, struct answer *out) {
    struct dvk_message message = {.source = vos_service(vos->node, DVK_SERVICE_PM), .type = type};
    memcpy(message.payload.words, words, 4 * sizeof(uint64_t));
    struct fake_req *req = make_request(vos, &message, data, len);
    req->answer = out;
    out->done = false;
    out->fd = -1;
    fs_module.request(vos, &req->public);
    if (!out->done)
        fake_run(0);
    return out->done ? out->status : -999;
}

void fake_process(struct vos *vos, uint32_t pid, uint32_t uid, uint32_t gid) {
    struct answer *out = malloc(sizeof(*out));
    uint64_t words[4] = {pid, uid, gid, 022};
    int status = fake_pm_call(vos, FS_S_CREDS, words, NULL, 0, out);
    assert(status == 0);
    (void)status;
    free(out);
}

/* ---- start ---- */

void fake_start(struct vos *vos, unsigned count, const char *image, const char *upper) {
    all = vos;
    all_count = count;
    memset(down, 0, sizeof(down));
    for (unsigned i = 0; i < count; i++) {
        struct vos *v = &vos[i];
        unsigned mount_count = v->mount_count;
        v->dvk = (struct dvk *)v;
        v->dc = 1;
        v->node = i + 1;
        v->primary = 1;
        v->node_count = count;
        for (unsigned j = 0; j < count; j++) {
            v->nodes[j] = (struct vos_node){.id = j + 1, .up = true};
            snprintf(v->nodes[j].name, sizeof(v->nodes[j].name), "n%u", j + 1);
        }
        v->mount_count = mount_count;
        v->image_fd = v->attr_fd = open(image, O_PATH | O_DIRECTORY | O_CLOEXEC);
        v->upper_fd = i == 0 ? open(upper, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        v->dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
        v->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        v->slot_limit = 4096;
        v->cpu_count = 2;
        strcpy(v->dc_name, "test");
        v->self[DVK_SERVICE_FS] = vos_service(v->node, DVK_SERVICE_FS);
        assert(v->image_fd >= 0);
        int error = fs_module.start(v);
        assert(error == 0);
        (void)error;
    }
}

void fake_stop(struct vos *vos, unsigned count) {
    fake_run(0);
    for (unsigned i = 0; i < count; i++)
        fs_module.stop(&vos[i]);
    while (queue) {
        struct fake_call *call = queue;
        queue = call->next;
        free(call->reply_data);
        free(call->data);
        free(call);
    }
    for (unsigned i = 0; i < count; i++) {
        close(vos[i].image_fd);
        if (vos[i].upper_fd >= 0)
            close(vos[i].upper_fd);
        close(vos[i].dev_fd);
        close(vos[i].proc_fd);
    }
}
