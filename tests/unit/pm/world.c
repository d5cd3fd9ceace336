/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"
#include "vos/pm/host.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define DC 7u
#define FAKE_FD 1000000000 /* close() of it does no harm */
#define PIDS 4096

struct dvk {
    int node;
};

enum queue_kind { QUEUE_CALLS, QUEUE_REPLIES, QUEUE_LOCAL, QUEUE_BINDS, QUEUE_INIT, QUEUE_NODES, QUEUE_ZYGOTE, QUEUE_GUESTS, QUEUE_KINDS };

struct event {
    struct list link;
    void (*run)(struct event *event);
    int node; /* where it takes place */
};

/* A dvk_call under way. */
struct call {
    struct list link; /* world.calls */
    int from, to;
    uint32_t service;
    dvk_done *done;
    void *context;
    struct dvk_message message;
    uint8_t *data;
    bool answered; /* its reply is queued */
    bool dead;     /* the caller is gone */
};

struct request {
    struct dvk_request req; /* first */
    struct list link;       /* world.requests */
    struct call *call;      /* of another pm; NULL: of a guest */
    int node;
    uint8_t data[DVK_DATA_MAX];
    uint8_t reply[DVK_DATA_MAX];
};

struct node {
    struct vos vos;
    struct dvk dvk;
    struct pm *pm;
    bool alive, knows_down[WORLD_NODES];
    struct list queues[QUEUE_KINDS][WORLD_NODES];
    dvk_endpoint bound[PIDS];
    bool host[PIDS]; /* host processes */
    bool files[PIDS]; /* fs knows it */
    int64_t zygote_result;
    uint16_t owner[PIDS / DVK_SLOT_SET]; /* as its dvkd has it */
    bool given[PIDS / DVK_SLOT_SET];
};

static struct world {
    struct node nodes[WORLD_NODES];
    struct world_hooks hooks;
    struct list calls, requests, timers;
    uint64_t random;
    uint32_t generation;
    int64_t now_ms;
    char control_answer[65536];
    uint16_t owner[PIDS / DVK_SLOT_SET]; /* node ids */
    uint64_t slots_version;
    int donates_to[WORLD_NODES], asking[WORLD_NODES];
    unsigned donations;
} world;

static bool set_is_ours(const struct node *node, uint32_t set);

static uint64_t timer_ids;

/* ---- random ---- */

uint32_t world_random(uint32_t below) {
    world.random ^= world.random << 13;
    world.random ^= world.random >> 7;
    world.random ^= world.random << 17;
    return (uint32_t)((world.random >> 16) % below);
}

uint32_t world_node_id(int node) { return (uint32_t)node * 2 + 3; }

static int node_of_id(uint32_t id) {
    for (int i = 0; i < WORLD_NODES; i++)
        if (world_node_id(i) == id)
            return i;
    fail_msg("no node %u", id);
    return -1;
}

struct pm *world_pm(int node) { return world.nodes[node].pm; }
bool world_alive(int node) { return world.nodes[node].alive; }

/* ---- events ---- */

static void *event_add(int node, enum queue_kind kind, int from, size_t size, void (*run)(struct event *)) {
    struct event *event = calloc(1, size);
    assert_non_null(event);
    event->run = run;
    event->node = node;
    list_init(&event->link);
    list_append(&world.nodes[node].queues[kind][from], &event->link);
    return event;
}

struct reply_event {
    struct event event;
    struct call *call;
    struct dvk_message reply;
    int status;
    size_t len;
    uint8_t data[];
};

static void call_free(struct call *call) {
    list_remove(&call->link);
    free(call->data);
    free(call);
}

static void reply_run(struct event *event) {
    struct reply_event *reply = (struct reply_event *)event;
    struct call *call = reply->call;
    dvk_done *done = call->done;
    void *context = call->context;
    call_free(call);
    done(context, reply->status, &reply->reply, reply->data, reply->len, NULL, 0);
}

static void reply_queue(struct call *call, enum queue_kind kind, int status, const struct dvk_message *reply, const void *data) {
    size_t len = reply ? reply->data_len : 0;
    struct reply_event *event = event_add(call->from, kind, call->to, sizeof(*event) + len, reply_run);
    event->call = call;
    call->answered = true;
    event->status = status;
    if (reply)
        event->reply = *reply;
    event->reply.source = vos_service(world_node_id(call->to), call->service);
    event->len = len;
    if (len)
        memcpy(event->data, data, len);
}

/* ---- fake fs ---- */

static void fs_serve(struct call *call) {
    struct node *node = &world.nodes[call->from];
    struct dvk_message reply = {0};
    uint32_t pid = (uint32_t)call->message.payload.words[0];
    char text[32] = "";
    assert_in_range(pid, 1, PIDS - 1);
    switch (call->message.type) {
    case FS_S_START:
        node->files[pid] = true;
        break;
    case FS_S_FORK:
        assert_true(node->files[pid]);
        assert_false(node->files[call->message.payload.words[1]]);
        node->files[call->message.payload.words[1]] = true;
        break;
    case FS_S_EXIT:
        node->files[pid] = false;
        break;
    case FS_S_CREDS:
        assert_true(node->files[pid]);
        break;
    case FS_S_EXPORTS:
        assert_true(node->files[pid]);
        snprintf(text, sizeof(text), "files of %u", pid);
        reply.data_len = (uint32_t)strlen(text);
        break;
    case FS_S_IMPORTS:
        snprintf(text, sizeof(text), "files of %u", pid);
        assert_int_equal(call->message.data_len, strlen(text));
        assert_memory_equal(call->data, text, strlen(text));
        assert_false(node->files[pid]);
        node->files[pid] = true;
        break;
    case FS_S_ADOPT:
        reply.payload.words[0] = 5;
        break;
    default:
        reply.status = -ENOSYS;
    }
    reply_queue(call, QUEUE_LOCAL, 0, &reply, text);
}

/* ---- fake libdvk ---- */

static void zygote_again(int node);

struct call_event {
    struct event event;
    struct call *call;
};

static void call_run(struct event *event) {
    struct call *call = ((struct call_event *)event)->call;
    if (call->service == DVK_SERVICE_FS) {
        fs_serve(call);
        return;
    }
    if (call->service != DVK_SERVICE_PM) {
        struct dvk_message reply = {.status = -ENOSYS};
        reply_queue(call, QUEUE_LOCAL, 0, &reply, NULL);
        return;
    }
    struct request *request = calloc(1, sizeof(*request));
    assert_non_null(request);
    request->call = call;
    request->node = call->to;
    request->req = (struct dvk_request){.msg = call->message, .dc = DC, .data = request->data, .reply_data = request->reply,
                                        .reply_cap = DVK_DATA_MAX, .wants_reply = true, .source_node = world_node_id(call->from)};
    if (call->message.data_len)
        memcpy(request->data, call->data, call->message.data_len);
    list_init(&request->link);
    list_append(&world.requests, &request->link);
    pm_request(world.nodes[call->to].pm, &request->req);
}

int dvk_call(struct dvk *dvk, dvk_endpoint from, const struct dvk_message *message, const void *data, size_t data_len, const int *fds,
             unsigned fd_count, dvk_done *done, void *context, uint64_t *id) {
    uint32_t slot = dvk_endpoint_slot(message->destination);
    struct call *call = calloc(1, sizeof(*call));
    assert_non_null(call);
    assert_int_equal(message->data_len, data_len);
    *call = (struct call){.from = dvk->node, .to = node_of_id(dvk_system_slot_node(slot)), .service = dvk_system_slot_service(slot),
                          .done = done, .context = context, .message = *message};
    call->message.source = vos_service(world_node_id(dvk->node), DVK_SERVICE_PM);
    call->data = malloc(data_len + 1);
    assert_non_null(call->data);
    if (data_len)
        memcpy(call->data, data, data_len);
    list_init(&call->link);
    list_append(&world.calls, &call->link);
    if (world.nodes[dvk->node].knows_down[call->to]) {
        reply_queue(call, QUEUE_LOCAL, -DVK_ENODEUNREACH, NULL, NULL);
        return 0;
    }
    if (!world.nodes[call->to].alive)
        return 0; /* until the caller's node learns of the loss */
    bool local = call->from == call->to;
    struct call_event *event =
        event_add(call->to, local ? QUEUE_LOCAL : QUEUE_CALLS, call->from, sizeof(*event), call_run);
    event->call = call;
    return 0;
}

static void request_free(struct request *request) {
    list_remove(&request->link);
    free(request);
}

/* An answer on its way to a guest or the zygote. */
struct answer_event {
    struct event event;
    dvk_endpoint endpoint;
    struct dvk_message reply;
    unsigned fd_count;
    uint8_t data[];
};

static void zygote_clone(int index, const struct answer_event *answer) {
    struct node *node = &world.nodes[index];
    uint32_t pid = (uint32_t)answer->reply.payload.words[0];
    if (answer->reply.status < 0)
        return;
    assert_int_equal(answer->fd_count, 2);
    node->zygote_result = -EAGAIN; /* at times */
    if (node->host[pid])
        node->zygote_result = -EEXIST;
    else if (world_random(20)) {
        node->zygote_result = pid;
        node->host[pid] = true;
        world.hooks.cloned(pid, index, node->bound[pid]);
    }
    zygote_again(index);
}

static void answer_run(struct event *event) {
    struct answer_event *answer = (struct answer_event *)event;
    if (dvk_endpoint_slot(answer->endpoint) == INIT_ZYGOTE_PID)
        zygote_clone(event->node, answer);
    else
        world.hooks.answered(answer->endpoint, event->node, &answer->reply, answer->data);
}

void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *fds, unsigned fd_count) {
    struct request *request = (struct request *)req;
    struct dvk_message answer = *reply;
    assert_true(req->wants_reply);
    if (request->call) {
        struct call *call = request->call;
        if (call->dead)
            call_free(call);
        else if (!call->answered)
            reply_queue(call, QUEUE_REPLIES, 0, &answer, request->reply);
        request_free(request);
        return;
    }
    struct answer_event *event =
        event_add(request->node, QUEUE_GUESTS, (int)world_random(WORLD_NODES), sizeof(*event) + answer.data_len, answer_run);
    event->endpoint = req->msg.source;
    event->reply = answer;
    event->fd_count = fd_count;
    if (answer.data_len)
        memcpy(event->data, request->reply, answer.data_len);
    request_free(request);
}

void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status) {
    struct dvk_message reply = {.status = status};
    dvk_reply(dvk, req, &reply, NULL, 0);
}

void dvk_release(struct dvk *dvk, struct dvk_request *req) { request_free((struct request *)req); }

struct bind_event {
    struct event event;
    uint32_t slot;
    dvk_guest_done *done;
    void *context;
};

static void bind_run(struct event *event) {
    struct bind_event *bind = (struct bind_event *)event;
    struct node *node = &world.nodes[event->node];
    assert_true(node->bound[bind->slot] == DVK_NONE);
    node->bound[bind->slot] = dvk_endpoint_make(++world.generation, bind->slot);
    bind->done(bind->context, 0, node->bound[bind->slot], FAKE_FD, FAKE_FD + 1);
}

int dvk_guest_bind(struct dvk *dvk, uint32_t dc, uint32_t slot, bool adopted, dvk_guest_done *done, void *context) {
    assert_in_range(slot, DVK_FIRST_USER_SLOT, world.nodes[dvk->node].vos.slot_limit - 1);
    assert_int_equal(adopted, !set_is_ours(&world.nodes[dvk->node], slot / DVK_SLOT_SET));
    struct bind_event *event = event_add(dvk->node, QUEUE_BINDS, dvk->node, sizeof(*event), bind_run);
    event->slot = slot;
    event->done = done;
    event->context = context;
    return 0;
}

int dvk_guest_unbind(struct dvk *dvk, dvk_endpoint endpoint, bool moved) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    assert_true(world.nodes[dvk->node].bound[slot] == endpoint);
    world.nodes[dvk->node].bound[slot] = DVK_NONE;
    return 0;
}

/* ---- fake dvkd: who owns which slots ---- */

/*
 * One table, changed at one place; each node's copy, and what it tells its pm, lags behind by its own queue of node events, in
 * which the losses of nodes are, too: as with dvkd, a pm hears of a loss before it hears who inherits.
 */
struct slots_event {
    struct event event;
    enum dvk_slots_event_type type;
    uint64_t version;
    uint16_t owner[PIDS / DVK_SLOT_SET];
    uint32_t want;
    int status;
};

static uint32_t set_count(void) { return world.nodes[0].vos.slot_limit / DVK_SLOT_SET; }

/* What dvkd there would let its pm bind in. */
static bool set_is_ours(const struct node *node, uint32_t set) {
    return node->owner[set] == world_node_id(node->dvk.node) && !node->given[set];
}

static void slots_event_run(struct event *event) {
    struct slots_event *slots = (struct slots_event *)event;
    struct node *node = &world.nodes[event->node];
    struct dvk_slots_run runs[PIDS / DVK_SLOT_SET];
    struct dvk_slots_event told = {.type = slots->type, .dc = DC, .sets = set_count(), .version = slots->version, .runs = runs,
                                   .want = slots->want, .below = set_count(), .status = slots->status};
    if (slots->type == DVK_SLOTS_TABLE) {
        memcpy(node->owner, slots->owner, sizeof(node->owner));
        for (uint32_t set = 1; set < set_count(); set++)
            if (node->owner[set])
                runs[told.run_count++] = (struct dvk_slots_run){(uint16_t)set, 1, node->owner[set], 0};
    } else if (slots->type == DVK_SLOTS_SETTLED) {
        memset(node->given, 0, sizeof(node->given));
    }
    share_event(node->pm, &told);
}

static struct slots_event *slots_tell(int node, enum dvk_slots_event_type type) {
    struct slots_event *event = event_add(node, QUEUE_NODES, node, sizeof(*event), slots_event_run);
    event->type = type;
    event->version = world.slots_version;
    memcpy(event->owner, world.owner, sizeof(world.owner));
    return event;
}

/* The table has changed. */
static void slots_tell_all(void) {
    world.slots_version++;
    for (int i = 0; i < WORLD_NODES; i++)
        if (world.nodes[i].alive)
            slots_tell(i, DVK_SLOTS_TABLE);
}

static void slots_end(int node, int status) {
    if (world.nodes[node].alive)
        slots_tell(node, DVK_SLOTS_ENDED)->status = status;
}

/* Somebody else may have some to spare: they are asked one after the other. */
static void slots_ask(int node, int asked) {
    int donor = (node + 1 + asked) % WORLD_NODES;
    world.asking[node] = asked;
    if (asked == WORLD_NODES - 1)
        slots_end(node, -DVK_ENOSLOT);
    else if (!world.nodes[donor].alive || world.donates_to[donor] >= 0)
        slots_ask(node, asked + 1);
    else {
        world.donates_to[donor] = node;
        slots_tell(donor, DVK_SLOTS_WANTED)->want = 1 + world_random(3);
    }
}

int dvk_slots_watch(struct dvk *dvk, uint32_t dc, dvk_slots_fn *fn, void *context) {
    assert_ptr_equal(fn, share_event);
    slots_tell(dvk->node, DVK_SLOTS_TABLE);
    return 0;
}

int dvk_slots_take(struct dvk *dvk, uint32_t dc, uint32_t want, uint32_t below) {
    uint32_t taken = 0;
    assert_in_range(want, 1, DVK_USER_SLOTS / DVK_SLOT_SET);
    for (uint32_t set = 1; set < below && taken < want && taken < 2; set++)
        if (!world.owner[set]) {
            world.owner[set] = (uint16_t)world_node_id(dvk->node);
            taken++;
        }
    if (taken) {
        slots_tell_all();
        slots_end(dvk->node, 0);
    } else {
        slots_ask(dvk->node, 0);
    }
    return 0;
}

int dvk_slots_give(struct dvk *dvk, uint32_t dc, const uint16_t *sets, uint32_t count) {
    struct node *node = &world.nodes[dvk->node];
    int to = world.donates_to[dvk->node];
    world.donates_to[dvk->node] = -1;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(set_is_ours(node, sets[i]));
        assert_true(i == 0 || sets[i] > sets[i - 1]);
        for (uint32_t slot = 0; slot < DVK_SLOT_SET; slot++)
            assert_true(node->bound[sets[i] * DVK_SLOT_SET + slot] == DVK_NONE);
        node->given[sets[i]] = true;
    }
    /* void if a node was lost meanwhile, and at times for no reason */
    bool given = to >= 0 && world.nodes[to].alive && count && world_random(4);
    for (uint32_t i = 0; i < count && given; i++)
        world.owner[sets[i]] = (uint16_t)world_node_id(to);
    if (given)
        slots_tell_all();
    world.donations += given;
    if (count)
        slots_tell(dvk->node, DVK_SLOTS_SETTLED);
    if (given)
        slots_end(to, 0);
    else if (to >= 0 && world.nodes[to].alive)
        slots_ask(to, world.asking[to] + 1);
    return 0;
}

/* What the lost node had goes to the others in turn; donations under way are void. */
static void slots_inherit(int lost) {
    int heir = lost;
    for (uint32_t set = 1; set < set_count(); set++) {
        if (world.owner[set] != world_node_id(lost))
            continue;
        do
            heir = (heir + 1) % WORLD_NODES;
        while (!world.nodes[heir].alive);
        world.owner[set] = (uint16_t)world_node_id(heir);
    }
    slots_tell_all();
    for (int donor = 0; donor < WORLD_NODES; donor++) {
        int to = world.donates_to[donor];
        if (to < 0 || (donor != lost && to != lost))
            continue;
        world.donates_to[donor] = -1;
        if (to != lost)
            slots_end(to, -EAGAIN);
    }
}

unsigned world_donations(void) { return world.donations; }

struct timer {
    struct list link;
    int node;
    uint64_t id;
    int64_t due_ms;
    void (*fn)(void *context);
    void *context;
};

int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id) {
    struct timer *timer = malloc(sizeof(*timer));
    assert_non_null(timer);
    *timer = (struct timer){.node = dvk->node, .id = ++timer_ids, .due_ms = world.now_ms + (int64_t)delay_ms, .fn = fn, .context = context};
    *id = timer->id;
    list_init(&timer->link);
    list_append(&world.timers, &timer->link);
    return 0;
}

void dvk_timer_cancel(struct dvk *dvk, uint64_t id) {
    struct timer *timer;
    list_for_each(timer, &world.timers, link) {
        if (timer->id != id)
            continue;
        list_remove(&timer->link);
        free(timer);
    }
}

int dvk_control_reply(struct dvk *dvk, uint64_t id, const char *text) {
    snprintf(world.control_answer, sizeof(world.control_answer), "%s", text);
    return 0;
}

int dvk_control_send(struct dvk *dvk, const char *text) {
    if (world.hooks.told)
        world.hooks.told(dvk->node, text);
    return 0;
}

const char *world_control_answer(void) { return world.control_answer; }
const char *dvk_strerror(int error) { return strerror(-error); }

int host_watch_init(struct vos *vos, host_state_fn *fn, void *context) { return 0; }

/* ---- fake host ---- */

static struct node *node_of_vos(struct vos *vos) { return &world.nodes[node_of_id(vos->node)]; }

int host_signal(struct vos *vos, uint32_t pid, uint32_t tid, int sig, const struct vos_siginfo_fields *fields) {
    struct node *node = node_of_vos(vos);
    if (pid >= PIDS || !node->host[pid])
        return -ESRCH;
    if (sig)
        world.hooks.signalled(pid, node_of_id(vos->node), sig);
    return 0;
}

bool host_exists(struct vos *vos, uint32_t pid) { return pid < PIDS && node_of_vos(vos)->host[pid]; }

int host_read(struct vos *vos, uint32_t pid, struct host_process *out) {
    *out = (struct host_process){.state = 'S', .threads = 1};
    return host_exists(vos, pid) ? 0 : -ESRCH;
}

void host_nice(struct vos *vos, uint32_t pid, int nice) {}
int64_t host_time_ms(void) { return world.now_ms; }

struct state_event {
    struct event event;
    uint32_t pid;
    int wait_status;
};

static void state_run(struct event *event) {
    struct state_event *state = (struct state_event *)event;
    const struct init_rusage usage = {.utime_us = 10000};
    exit_host_state(world.nodes[event->node].pm, state->pid, state->wait_status, &usage);
}

void world_host_state(int node, uint32_t pid, int wait_status) {
    assert_true(world.nodes[node].host[pid]);
    if ((wait_status & 0xff) != 0x7f && wait_status != 0xffff)
        world.nodes[node].host[pid] = false;
    struct state_event *event = event_add(node, QUEUE_INIT, node, sizeof(*event), state_run);
    event->pid = pid;
    event->wait_status = wait_status;
}

void world_host_add(int node, uint32_t pid) {
    assert_false(world.nodes[node].host[pid]);
    world.nodes[node].host[pid] = true;
}

bool world_host_exists(int node, uint32_t pid) { return world.nodes[node].host[pid]; }
dvk_endpoint world_bound(int node, uint32_t pid) { return world.nodes[node].bound[pid]; }

/* ---- guests and zygotes ---- */

void world_request(int node, dvk_endpoint endpoint, uint32_t type, const uint64_t *words, unsigned word_count, const void *data, size_t len) {
    struct request *request = calloc(1, sizeof(*request));
    assert_non_null(request);
    request->node = node;
    uint32_t slot = dvk_endpoint_slot(endpoint), from = dvk_slot_is_system(slot) ? dvk_system_slot_node(slot) : world_node_id(node);
    request->req = (struct dvk_request){.dc = DC, .data = request->data, .reply_data = request->reply, .reply_cap = DVK_DATA_MAX,
                                        .wants_reply = true, .local = from == world_node_id(node), .source_node = from};
    request->req.msg = (struct dvk_message){.source = endpoint, .type = type, .data_len = (uint32_t)len};
    for (unsigned i = 0; i < word_count; i++)
        request->req.msg.payload.words[i] = words[i];
    if (len)
        memcpy(request->data, data, len);
    list_init(&request->link);
    list_append(&world.requests, &request->link);
    pm_request(world.nodes[node].pm, &request->req);
}

void world_cancel(int node, dvk_endpoint endpoint) {
    struct request *request;
    list_for_each(request, &world.requests, link) {
        if (request->call || request->req.msg.source != endpoint || request->node != node)
            continue;
        request->req.cancelled = true;
        pm_cancelled(world.nodes[node].pm, &request->req);
        return;
    }
}

static void zygote_run(struct event *event) {
    uint64_t word = (uint64_t)world.nodes[event->node].zygote_result;
    world_request(event->node, dvk_endpoint_make(1, INIT_ZYGOTE_PID), PM_ZYGOTE_WAIT, &word, 1, NULL, 0);
}

static void zygote_again(int node) { event_add(node, QUEUE_ZYGOTE, node, sizeof(struct event), zygote_run); }

void world_control(int node, uint64_t id, const char *text, unsigned fd_count) {
    struct dvk_event event = {.type = DVK_EVENT_CONTROL, .id = id, .text = text, .fd_count = fd_count};
    for (unsigned i = 0; i < fd_count; i++)
        event.fds[i] = FAKE_FD + 2 + (int)i;
    const char *op = strstr(text, "\"op\":\"");
    char name[16] = "";
    assert_non_null(op);
    sscanf(op + 6, "%15[a-z]", name);
    world.control_answer[0] = 0;
    assert_true(control_handle(world.nodes[node].pm, name, &event));
}

/* ---- nodes ---- */

static void node_boot(int index) {
    struct node *node = &world.nodes[index];
    node->alive = true;
    node->dvk.node = index;
    for (uint32_t i = 0; i < WORLD_NODES; i++)
        node->vos.nodes[i].up = world.nodes[i].alive || (int)i == index;
    assert_int_equal(pm_create(&node->vos, &node->pm), 0);
    memset(node->owner, 0, sizeof(node->owner));
    memset(node->given, 0, sizeof(node->given));
    assert_int_equal(pm_start(node->pm), 0);
    node->zygote_result = 0;
    zygote_again(index);
}

static void drop_event(struct event *event) {
    list_remove(&event->link);
    free(event);
}

static void calls_fail(int from, int to) {
    struct call *call;
    list_for_each(call, &world.calls, link)
        if (call->from == from && call->to == to && !call->answered && !call->dead)
            reply_queue(call, QUEUE_LOCAL, -DVK_ENODEUNREACH, NULL, NULL);
}

static void down_run(struct event *event) {
    int lost = (int)((struct bind_event *)event)->slot, here = event->node;
    struct node *node = &world.nodes[here];
    node->knows_down[lost] = true;
    node->vos.nodes[lost].up = false;
    struct event *item;
    list_for_each(item, &node->queues[QUEUE_CALLS][lost], link) { /* dead calls */
        call_free(((struct call_event *)item)->call);
        drop_event(item);
    }
    list_for_each(item, &node->queues[QUEUE_REPLIES][lost], link) {
        ((struct reply_event *)item)->call->answered = false; /* it fails below */
        drop_event(item);
    }
    bool first = world_random(2);
    if (first)
        calls_fail(here, lost);
    peers_node_change(node->pm, world_node_id(lost), false);
    if (!first)
        calls_fail(here, lost);
}

void world_kill_node(int lost) {
    struct node *node = &world.nodes[lost];
    node->alive = false;
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        for (int from = 0; from < WORLD_NODES; from++) {
            struct event *item;
            list_for_each(item, &node->queues[kind][from], link)
                drop_event(item); /* calls in them still belong to their senders */
        }
    }
    struct timer *timer;
    list_for_each(timer, &world.timers, link) {
        if (timer->node != lost)
            continue;
        list_remove(&timer->link);
        free(timer);
    }
    struct request *request;
    list_for_each(request, &world.requests, link)
        if (request->node == lost)
            request_free(request); /* the lost pm is never run again */
    struct call *call;
    list_for_each(call, &world.calls, link)
        if (call->from == lost)
            call->dead = true;
    memset(node->bound, 0, sizeof(node->bound));
    memset(node->host, 0, sizeof(node->host));
    memset(node->files, 0, sizeof(node->files));
    for (int i = 0; i < WORLD_NODES; i++) {
        if (i == lost || !world.nodes[i].alive)
            continue;
        struct bind_event *down = event_add(i, QUEUE_NODES, i, sizeof(*down), down_run);
        down->slot = (uint32_t)lost;
    }
    slots_inherit(lost);
}

void world_revive_node(int index) {
    for (int i = 0; i < WORLD_NODES; i++) {
        if (i == index)
            continue;
        assert_true(!world.nodes[i].alive || world.nodes[i].knows_down[index]);
        world.nodes[i].knows_down[index] = false;
        world.nodes[i].vos.nodes[index].up = true;
        world.nodes[index].knows_down[i] = !world.nodes[i].alive;
    }
    node_boot(index);
}

/* ---- the scheduler ---- */

static bool timer_step(void) {
    struct timer *timer, *next = NULL;
    list_for_each(timer, &world.timers, link)
        if (!next || timer->due_ms < next->due_ms)
            next = timer;
    if (!next)
        return false;
    if (next->due_ms > world.now_ms)
        world.now_ms = next->due_ms;
    list_remove(&next->link);
    next->fn(next->context);
    free(next);
    return true;
}

bool world_step(void) {
    struct list *ready[WORLD_NODES * QUEUE_KINDS * WORLD_NODES];
    uint32_t count = 0;
    for (int node = 0; node < WORLD_NODES; node++)
        for (int kind = 0; kind < QUEUE_KINDS && world.nodes[node].alive; kind++)
            for (int from = 0; from < WORLD_NODES; from++)
                if (!list_empty(&world.nodes[node].queues[kind][from]))
                    ready[count++] = &world.nodes[node].queues[kind][from];
    if (!count)
        return timer_step();
    struct event *event = list_entry(ready[world_random(count)]->next, struct event, link);
    list_remove(&event->link);
    event->run(event);
    free(event);
    return true;
}

void world_settle(unsigned most) {
    for (unsigned i = 0; world_step(); i++)
        if (i >= most)
            fail_msg("it does not come to rest");
}

void world_start(uint32_t seed, uint32_t slot_limit, const char *place, const struct world_hooks *hooks) {
    memset(&world, 0, sizeof(world));
    world.random = 0x9e3779b97f4a7c15ull * (seed + 1);
    world.hooks = *hooks;
    world.now_ms = 1000;
    list_init(&world.calls);
    list_init(&world.requests);
    list_init(&world.timers);
    for (int i = 0; i < WORLD_NODES; i++) {
        struct node *node = &world.nodes[i];
        for (int kind = 0; kind < QUEUE_KINDS; kind++)
            for (int from = 0; from < WORLD_NODES; from++)
                list_init(&node->queues[kind][from]);
        node->vos = (struct vos){.dvk = &node->dvk, .dc = DC, .node = world_node_id(i), .primary = world_node_id(0),
                                 .node_count = WORLD_NODES, .cpu_count = 2, .slot_limit = slot_limit};
        snprintf(node->vos.place, sizeof(node->vos.place), "%s", place);
        snprintf(node->vos.dc_name, sizeof(node->vos.dc_name), "dc1");
        node->vos.self[DVK_SERVICE_PM] = vos_service(world_node_id(i), DVK_SERVICE_PM);
        for (int k = 0; k < WORLD_NODES; k++) {
            node->vos.nodes[k].id = world_node_id(k);
            node->vos.nodes[k].up = true;
            snprintf(node->vos.nodes[k].name, sizeof(node->vos.nodes[k].name), "n%d", k + 1);
        }
        node->alive = true;
    }
    /* a small part is split, and a part has no owner: so nodes come to take, and to ask each other */
    world.slots_version = 1;
    memset(world.donates_to, -1, sizeof(world.donates_to));
    for (uint32_t set = 1; set < set_count(); set++)
        world.owner[set] = set <= 2 * WORLD_NODES ? (uint16_t)world_node_id((int)(set - 1) / 2) : 0;
    for (int i = 0; i < WORLD_NODES; i++)
        node_boot(i);
}

/* What is queued and under way. */
static void world_free(void) {
    struct call *call;
    list_for_each(call, &world.calls, link)
        call_free(call);
    for (int i = 0; i < WORLD_NODES; i++)
        for (int kind = 0; kind < QUEUE_KINDS; kind++)
            for (int from = 0; from < WORLD_NODES; from++) {
                struct event *item;
                list_for_each(item, &world.nodes[i].queues[kind][from], link)
                    drop_event(item);
            }
}

void world_stop(void) {
    for (int i = 0; i < WORLD_NODES; i++) {
        struct node *node = &world.nodes[i];
        if (!node->alive)
            continue;
        assert_int_equal(node->pm->process_count, 0);
        assert_true(list_empty(&node->pm->init->children));
        assert_true(list_empty(&node->pm->transfers));
        for (uint32_t pid = 0; pid < PIDS; pid++) {
            assert_false(node->host[pid]);
            assert_false(node->files[pid]);
        }
        size_t cursor = 0;
        struct slot_entry *entry;
        while ((entry = table_next(&node->pm->entries, &cursor))) {
            assert_null(entry->process);
            assert_null(entry->child);
            assert_null(entry->husk);
        }
        unsigned bound = 0;
        for (uint32_t pid = 0; pid < PIDS; pid++)
            bound += node->bound[pid] != DVK_NONE;
        assert_int_equal(bound, node->pm->spare_count);
    }
    for (int i = 0; i < WORLD_NODES; i++)
        if (world.nodes[i].alive)
            pm_destroy(world.nodes[i].pm);
    struct request *request;
    list_for_each(request, &world.requests, link)
        assert_false(world.nodes[request->node].alive); /* all were answered */
    world_free();
}

void world_drop(void) {
    for (int i = 0; i < WORLD_NODES; i++)
        if (world.nodes[i].alive)
            pm_destroy(world.nodes[i].pm);
    struct request *request;
    list_for_each(request, &world.requests, link)
        request_free(request);
    struct timer *timer;
    list_for_each(timer, &world.timers, link) {
        list_remove(&timer->link);
        free(timer);
    }
    world_free();
}
