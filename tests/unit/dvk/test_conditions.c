/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of libdvk's calls that need a condition: no memory (each allocation of a call fails in turn), a dvkd that
 * speaks another version or reads nothing, and peers that break the protocol, here or behind the proxy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "dvk/broker.h"
#include "dvk/channel.h"
#include "dvk/futex.h"
#include "dvk/ring.h"
#include "fake_dvkd.h"

#include <dvk/detector.h>
#include <dvk/group.h>
#include <dvk/loan.h>
#include <dvk/migrate.h>
#include <dvk/post.h>
#include <dvk/primitives.h>
#include <dvk/privilege.h>
#include <dvk/service.h>
#include <dvk/slots.h>
#include <dvk/vcopy.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DC 7u
#define WAIT_MS 10 /* of calls that nobody answers */

/* ---- allocations that fail: the linker leads libdvk's here (--wrap) ---- */

static _Thread_local unsigned until_failure; /* 0: none fails; 1: the next */
static _Thread_local bool failed;

static bool fails(void) {
    if (until_failure == 0 || --until_failure)
        return false;
    failed = true;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *old, size_t size) {
    return fails() ? NULL : __real_realloc(old, size);
}

/* ---- a party with a peer that takes nothing ---- */

static struct fake_dvkd *fake;
static struct dvk *dvk, *peer;
static dvk_endpoint self, other;
static unsigned completions;
static int completion;

static void done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                 const int *fds, unsigned fd_count) {
    (void)context, (void)reply, (void)data, (void)data_len, (void)fds, (void)fd_count;
    completions++;
    completion = status;
}

static int open_both(void **state) {
    (void)state;
    fake = fake_start(1);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &dvk), 0);
    assert_int_equal(dvk_bind(dvk, DC, DVK_SLOT_ANY, &self), 0);
    assert_int_equal(dvk_open_fd(fake_client(fake, false, NULL), &peer), 0);
    assert_int_equal(dvk_bind(peer, DC, DVK_SLOT_ANY, &other), 0);
    completions = 0;
    return 0;
}

static int close_both(void **state) {
    (void)state;
    dvk_close(dvk);
    dvk_close(peer);
    dvk = peer = NULL;
    fake_stop(fake);
    return 0;
}

/* ---- no memory ---- */

static void nothing(void *context) {
    (void)context;
}
static void on_fd(void *context, int fd, uint32_t events) {
    (void)context, (void)fd, (void)events;
}
static void on_gone(void *context, dvk_endpoint endpoint, int status) {
    (void)context, (void)endpoint, (void)status;
}
static void on_guest(void *context, int status, dvk_endpoint endpoint, int channel_fd, int socket_fd) {
    (void)context, (void)endpoint;
    completion = status;
    if (status == 0) {
        close(channel_fd);
        close(socket_fd);
    }
}
static void on_kv(void *context, const struct dvk_kv *kv) {
    (void)context, (void)kv;
}

/* What some calls make for others. */
static uint64_t group, watch;
static struct dvk_lock lock;
static void *arena;

static struct dvk_message to_other(void) {
    return (struct dvk_message){.destination = other, .type = 1};
}

static int try_open(void) {
    struct dvk *more = NULL;
    int error = dvk_open_fd(fake_client(fake, false, NULL), &more);
    if (error == 0)
        dvk_close(more);
    return error;
}
static int try_find(void) {
    uint32_t dc;
    return dvk_find_dc(dvk, "name", &dc);
}
static int try_nodes_of_dc(void) {
    return dvk_dc_nodes(dvk, DC, NULL, 0);
}
static int try_nodes(void) {
    return dvk_nodes(dvk, NULL, 0);
}
static int try_bind(void) {
    dvk_endpoint more;
    return dvk_bind(dvk, DC, DVK_SLOT_ANY, &more);
}
static int try_sendrec(void) {
    struct dvk_message message = to_other();
    return dvk_sendrec(dvk, self, &message, "data", 5, NULL, 0, NULL, WAIT_MS);
}
static int try_send(void) {
    struct dvk_message message = to_other();
    return dvk_send(dvk, self, &message, "data", 5, WAIT_MS);
}
static int try_post(void) {
    struct dvk_message message = to_other();
    return dvk_post(dvk, self, &message, "data", 5, WAIT_MS);
}
static int try_call(void) {
    struct dvk_message message = to_other();
    return dvk_call(dvk, self, &message, "data", 5, NULL, 0, done, NULL, NULL);
}
static int try_notify(void) {
    return dvk_notify(dvk, self, other, 1);
}
static int try_watch_fd(void) {
    return dvk_watch_fd(dvk, 0, EPOLLIN, on_fd, NULL);
}
static int try_timer(void) {
    return dvk_timer(dvk, 1000, nothing, NULL, NULL);
}
static int try_receive_from(void) {
    struct dvk_request *req;
    return dvk_receive_from(dvk, self, DVK_ANY, &req, 0);
}
static int try_receive_request(void) {
    struct dvk_request *req;
    return dvk_receive_request(dvk, self, DVK_ANY, &req, 0);
}
static int try_wait_bind(void) {
    return dvk_wait_bind(dvk, self, other, NULL, 0);
}
static int try_wait_unbind(void) {
    return dvk_wait_unbind(dvk, self, other, 0);
}
static int try_info(void) {
    struct dvk_endpoint_info info;
    return dvk_info_endpoint(dvk, self, other, &info);
}
static int try_watch(void) {
    uint64_t id;
    return dvk_watch_endpoint(dvk, self, other, on_gone, NULL, &id);
}
static int try_loan(void) {
    void *data;
    return dvk_loan_get(dvk, self, other, 100, 1000, &data);
}
static int try_grant(void) {
    uint64_t grant;
    return dvk_grant(dvk, self, other, &self, sizeof self, DVK_GRANT_READ, &grant);
}
static int try_revoke(void) {
    return dvk_revoke(dvk, 1);
}
static int try_vcopy(void) {
    uint8_t byte = 0;
    const struct dvk_area own = {self, DVK_GRANT_OWN, (uintptr_t)&byte}, grant = {other, 1ull << 48 | 1, 0};
    return dvk_vcopy(dvk, self, &own, &grant, 1, WAIT_MS, NULL);
}
static int try_arena(void) {
    return dvk_arena_create(dvk, 1, &arena);
}
static int try_get(void) {
    return dvk_kv_get(dvk, self, "key", NULL, 0, NULL, 0, WAIT_MS);
}
static int try_put(void) {
    return dvk_kv_put(dvk, self, "key", "x", 1, NULL, WAIT_MS);
}
static int try_cas(void) {
    return dvk_kv_cas(dvk, self, "key", 1, "x", 1, NULL, WAIT_MS);
}
static int try_delete(void) {
    return dvk_kv_delete(dvk, self, "key", DVK_KV_ANY, WAIT_MS);
}
static int try_list(void) {
    return dvk_kv_list(dvk, self, "", on_kv, NULL, 0, WAIT_MS);
}
static int try_kv_watch(void) {
    return dvk_kv_watch(dvk, self, "", on_kv, NULL, &watch, NULL, WAIT_MS);
}
static int try_lock(void) {
    return dvk_lock(dvk, self, "lock", 0, &lock, WAIT_MS);
}
static int try_campaign(void) {
    return dvk_leader_campaign(dvk, self, "office", "", 0, &lock, WAIT_MS);
}
static int try_leader(void) {
    struct dvk_leader leader;
    return dvk_leader_get(dvk, self, "office", &leader, 0, WAIT_MS);
}
static int try_barrier(void) {
    return dvk_barrier(dvk, self, "barrier", 1, WAIT_MS);
}
static int try_join(void) {
    return dvk_group_join(dvk, self, "group", &group, WAIT_MS);
}
static int try_leave(void) {
    return dvk_group_leave(dvk, group, WAIT_MS);
}
static int try_mcast(void) {
    const struct dvk_message message = {.type = 1};
    return dvk_group_mcast(dvk, group, &message, "data", 5, WAIT_MS);
}
/* What failed has changed nothing: it can be done once more. */
static int twice(int first, int second) {
    return first == -ENOMEM && second != 0 ? -EPROTO : first;
}
static int try_unwatch(void) {
    int error = dvk_kv_unwatch(dvk, watch, WAIT_MS);
    return twice(error, error == -ENOMEM ? dvk_kv_unwatch(dvk, watch, WAIT_MS) : 0);
}
static int try_unlock(void) {
    int error = dvk_unlock(dvk, &lock, WAIT_MS);
    return twice(error, error == -ENOMEM ? dvk_unlock(dvk, &lock, WAIT_MS) : 0);
}
static int try_destroy(void) {
    int error = dvk_arena_destroy(dvk, arena);
    return twice(error, error == -ENOMEM ? dvk_arena_destroy(dvk, arena) : 0);
}
static int try_backup(void) {
    return dvk_bind_backup(dvk, DC, other, WAIT_MS);
}
static int try_replica(void) {
    return dvk_bind_replica(dvk, DC, other, WAIT_MS);
}
static int try_move(void) {
    return dvk_migrate_start(dvk, self, 0, WAIT_MS);
}
static int try_rollback(void) {
    return dvk_migrate_rollback(dvk, self, WAIT_MS);
}
static int try_privileges(void) {
    struct dvk_privileges privileges;
    return dvk_get_privileges(dvk, self, other, &privileges, WAIT_MS);
}
static int try_set_privileges(void) {
    const struct dvk_privileges privileges = {0};
    return dvk_set_privileges(dvk, self, other, &privileges, WAIT_MS);
}
static int try_guest_bind(void) {
    return dvk_guest_bind(dvk, DC, 1000, false, on_guest, NULL);
}

/* covers: dvk_open dvk_open_fd dvk_find_dc dvk_dc_nodes dvk_nodes dvk_bind: -ENOMEM: here */
/* covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_notify dvk_watch_fd dvk_timer: -ENOMEM: here */
/* covers: dvk_receive_from dvk_receive_request dvk_wait_bind dvk_wait_unbind dvk_info_endpoint: -ENOMEM: here */
/* covers: dvk_watch_endpoint dvk_loan_get dvk_grant dvk_revoke dvk_vcopy dvk_arena_create: -ENOMEM: here */
/* covers: dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list dvk_kv_watch dvk_lock: -ENOMEM: here */
/* covers: dvk_leader_campaign dvk_leader_get dvk_barrier dvk_group_join dvk_guest_bind: -ENOMEM: here */
/* covers: dvk_bind_backup dvk_bind_replica dvk_migrate_start dvk_migrate_rollback: -ENOMEM: here */
/* covers: dvk_get_privileges dvk_set_privileges: -ENOMEM: here */
/* covers: dvk_group_leave dvk_group_mcast dvk_kv_unwatch dvk_unlock dvk_arena_destroy: -ENOMEM: here */
static const struct {
    const char *name;
    int (*make)(void);
    int (*before)(void);
} tries[] = {
    {"bind_backup", try_backup, NULL},   {"bind_replica", try_replica, NULL},
    {"migrate_start", try_move, NULL},   {"migrate_rollback", try_rollback, NULL},
    {"get_privileges", try_privileges, NULL}, {"set_privileges", try_set_privileges, NULL},
    {"group_leave", try_leave, try_join},      {"group_mcast", try_mcast, try_join},
    {"kv_unwatch", try_unwatch, try_kv_watch}, {"unlock", try_unlock, try_lock},
    {"arena_destroy", try_destroy, try_arena},
    {"open_fd", try_open},         {"find_dc", try_find},
    {"dc_nodes", try_nodes_of_dc}, {"nodes", try_nodes},
    {"bind", try_bind},
    {"sendrec", try_sendrec},      {"send", try_send},
    {"post", try_post},            {"call", try_call},
    {"notify", try_notify},        {"watch_fd", try_watch_fd},
    {"timer", try_timer},          {"receive_from", try_receive_from},
    {"receive_request", try_receive_request}, {"wait_bind", try_wait_bind},
    {"wait_unbind", try_wait_unbind}, {"info_endpoint", try_info},
    {"watch_endpoint", try_watch}, {"loan_get", try_loan},
    {"grant", try_grant},          {"revoke", try_revoke},
    {"vcopy", try_vcopy},          {"arena_create", try_arena},
    {"kv_get", try_get},           {"kv_put", try_put},
    {"kv_cas", try_cas},           {"kv_delete", try_delete},
    {"kv_list", try_list},         {"kv_watch", try_kv_watch},
    {"lock", try_lock},            {"leader_campaign", try_campaign},
    {"leader_get", try_leader},    {"barrier", try_barrier},
    {"group_join", try_join},      {"guest_bind", try_guest_bind},
};

/* The context can be used, or says that it is over. */
static void assert_still_sound(const char *name) {
    struct dvk_request *req;
    int error;
    while ((error = dvk_receive(dvk, &req, 0)) == 0)
        dvk_release(dvk, req);
    if (error == -DVK_ENODAEMON)
        return; /* there was no memory for what dvkd said: the context is over, and says so */
    assert_int_equal(error, -DVK_ETIMEDOUT);
    dvk_endpoint more;
    error = dvk_bind(dvk, DC, DVK_SLOT_ANY, &more);
    if (error < 0)
        fail_msg("%s: dvk_bind says %s afterwards", name, dvk_strerror(error));
    assert_int_equal(dvk_unbind(dvk, more), 0);
    assert_int_equal(dvk_unbind(dvk, self), 0);
}

static void each_allocation_fails(const char *name, int (*make)(void), int (*before)(void)) {
    void *state = NULL;
    open_both(&state);
    if (before)
        assert_int_equal(before(), 0);
    int expected = make();
    close_both(&state);
    assert_int_not_equal(expected, -ENOMEM);
    unsigned refused = 0;
    for (unsigned n = 1; n < 200; n++) {
        open_both(&state);
        if (before)
            assert_int_equal(before(), 0);
        until_failure = n;
        failed = false;
        int result = make();
        until_failure = 0;
        bool over = !failed;
        refused += result == -ENOMEM;
        if (result != expected && result != -ENOMEM && result != -DVK_ENODAEMON)
            fail_msg("%s: allocation %u failed: %s", name, n, dvk_strerror(result));
        assert_still_sound(name);
        close_both(&state);
        if (over)
            break;
        assert_int_not_equal(n, 199);
    }
    if (refused == 0)
        fail_msg("%s never said that there is no memory", name);
}

static void test_no_memory(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(tries); i++)
        each_allocation_fails(tries[i].name, tries[i].make, tries[i].before);
}

/* Giving back needs no memory: dvkd learns of it in any case. */
static void test_unbind_without_memory(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        dvk_endpoint more, again;
        assert_int_equal(dvk_bind(dvk, DC, 2000, &more), 0);
        until_failure = 1;
        assert_int_equal(dvk_unbind(dvk, more), 0);
        until_failure = 0;
        assert_int_equal(dvk_unbind(dvk, more), -DVK_ENOTBOUND);
        assert_int_equal(dvk_bind(dvk, DC, 2000, &again), 0);
        assert_int_equal(dvk_unbind(dvk, again), 0);
    }
}

/* ---- a dvkd of another kind ---- */

/* Our end of a dvkd that has answered the greeting and says no more. */
static int mute_dvkd(uint32_t version, struct dvk **out) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    const struct dvk_broker_packet answer = {.magic = DVK_BROKER_MAGIC,
                                             .version = version,
                                             .type = DVK_BROKER_HELLO | DVK_BROKER_ANSWER,
                                             .id = 1,
                                             .node = 1};
    assert_int_equal(write(pair[0], &answer, sizeof answer), sizeof answer);
    int error = dvk_open_fd(pair[1], out);
    if (error < 0)
        close(pair[0]);
    return error < 0 ? error : pair[0];
}

/* covers: dvk_open dvk_open_fd dvk_receive dvk_receive_from dvk_receive_request: -DVK_EVERSION: here */
static void test_other_version(void **state) {
    (void)state;
    struct dvk *context = NULL;
    assert_int_equal(mute_dvkd(DVK_BROKER_VERSION + 1, &context), -DVK_EVERSION);
    int fd = mute_dvkd(DVK_BROKER_VERSION, &context);
    const struct dvk_broker_packet later = {
        .magic = DVK_BROKER_MAGIC, .version = DVK_BROKER_VERSION + 1, .type = DVK_BROKER_NODE, .node = 2};
    struct dvk_request *req;
    assert_int_equal(dvk_receive(context, &req, 0), -DVK_ETIMEDOUT);
    assert_int_equal(write(fd, &later, sizeof later), sizeof later);
    assert_int_equal(dvk_receive(context, &req, -1), -DVK_EVERSION);
    dvk_close(context);
    close(fd);
}

static void mark(void *context, const struct dvk_slots_event *event) {
    (void)context, (void)event;
}

/* covers: dvk_control_reply dvk_control_send: -EMSGSIZE -DVK_ENODAEMON -ENOMEM: here */
/* covers: dvk_slots_watch dvk_slots_take dvk_slots_give: -DVK_ENODAEMON -ENOMEM: here */
/* covers: dvk_slots_give: -EINVAL: here */
/* covers: dvk_guest_bind: -DVK_ENODAEMON -EINVAL: here */
/* covers: dvk_guest_unbind: -DVK_ENOTBOUND: here */
static void test_dvkd_that_reads_nothing(void **state) {
    (void)state;
    struct dvk *context = NULL;
    int fd = mute_dvkd(DVK_BROKER_VERSION, &context);
    const uint16_t sets[2] = {2, 3};
    char *text = malloc(DVK_BROKER_TEXT_MAX + 2);
    assert_non_null(text);
    memset(text, 'x', DVK_BROKER_TEXT_MAX + 1);
    text[DVK_BROKER_TEXT_MAX + 1] = 0;
    assert_int_equal(dvk_control_send(context, text), -EMSGSIZE);
    assert_int_equal(dvk_control_reply(context, 1, text), -EMSGSIZE);
    free(text);
    assert_int_equal(dvk_slots_give(context, DC, sets, 257), -EINVAL);
    assert_int_equal(dvk_guest_bind(context, DC, 1000, false, NULL, NULL), -EINVAL);
    assert_int_equal(dvk_guest_unbind(context, 12345, false), -DVK_ENOTBOUND);
    /* until its socket is full: from then on packets wait in memory */
    struct pollfd out = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&out, 1, 0), 1); /* the greeting */
    for (int i = 0; i < 10000; i++)
        assert_int_equal(dvk_control_send(context, "{}"), 0);
    for (int i = 0; i < 5; i++) {
        until_failure = 1;
        failed = false;
        int error = i == 0   ? dvk_control_send(context, "{}")
                    : i == 1 ? dvk_control_reply(context, 1, "{}")
                    : i == 2 ? dvk_slots_watch(context, DC, mark, NULL)
                    : i == 3 ? dvk_slots_take(context, DC, 1, 100)
                             : dvk_slots_give(context, DC, sets, 2);
        assert_int_equal(error, -ENOMEM);
        assert_true(failed);
    }
    until_failure = 0;
    close(fd);
    struct dvk_request *req;
    assert_int_equal(dvk_receive(context, &req, -1), -DVK_ENODAEMON);
    assert_int_equal(dvk_control_send(context, "{}"), -DVK_ENODAEMON);
    assert_int_equal(dvk_control_reply(context, 1, "{}"), -DVK_ENODAEMON);
    assert_int_equal(dvk_slots_watch(context, DC, mark, NULL), -DVK_ENODAEMON);
    assert_int_equal(dvk_slots_take(context, DC, 1, 100), -DVK_ENODAEMON);
    assert_int_equal(dvk_slots_give(context, DC, sets, 2), -DVK_ENODAEMON);
    assert_int_equal(dvk_guest_bind(context, DC, 1000, false, on_guest, NULL), -DVK_ENODAEMON);
    dvk_close(context);
}

/* covers: dvk_guest_bind: -DVK_ESLOTBUSY: here */
static void test_guest_whose_slot_is_taken(void **state) {
    (void)state;
    struct dvk_request *req;
    completion = 1;
    assert_int_equal(dvk_guest_bind(dvk, DC, dvk_endpoint_slot(other), false, on_guest, NULL), 0);
    while (completion == 1)
        assert_int_equal(dvk_receive(dvk, &req, 1), -DVK_ETIMEDOUT);
    assert_int_equal(completion, -DVK_ESLOTBUSY);
}

/* ---- a peer that breaks the protocol ---- */

/* Writes nonsense over the states of all slots in which something waits, once there is one. */
static void *scribble(void *context) {
    int memfd;
    (void)context;
    while ((memfd = fake_last_channel(fake)) < 0)
        usleep(100);
    struct stat st;
    assert_int_equal(fstat(memfd, &st), 0);
    struct dvk_channel_view view;
    void *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    assert_true(base != MAP_FAILED && dvk_channel_view_init(&view, base, (uint64_t)st.st_size) == 0);
    for (bool found = false; !found; usleep(100))
        for (int side = 0; side < 2; side++)
            for (uint32_t i = 0; i < view.slots[side]; i++) {
                uint32_t *state = &view.slot[side][i].state;
                if (DVK_STATE_KIND(__atomic_load_n(state, __ATOMIC_SEQ_CST)) != DVK_SLOT_WAITING)
                    continue;
                usleep(1000); /* it may be asleep by then, or not yet */
                __atomic_store_n(state, DVK_STATE(DVK_SLOT_DONE, 0x123456u), __ATOMIC_SEQ_CST);
                dvk_futex_wake(state, INT_MAX);
                found = true;
            }
    munmap(base, (size_t)st.st_size);
    close(memfd);
    return NULL;
}

enum how { SENDREC, SEND, CALL };

static int broken(enum how how, dvk_endpoint to) {
    struct dvk_message message = {.destination = to, .type = 1};
    struct dvk_request *req;
    pthread_t thread;
    int error = 0;
    assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
    if (how == SENDREC)
        error = dvk_sendrec(dvk, self, &message, NULL, 0, NULL, 0, NULL, 10000);
    else if (how == SEND)
        error = dvk_send(dvk, self, &message, NULL, 0, 10000);
    else {
        assert_int_equal(dvk_call(dvk, self, &message, NULL, 0, NULL, 0, done, NULL, NULL), 0);
        while (completions == 0)
            assert_int_equal(dvk_receive(dvk, &req, 5), -DVK_ETIMEDOUT);
        error = completion;
    }
    pthread_join(thread, NULL);
    return error;
}

/* covers: dvk_sendrec dvk_send dvk_call: -DVK_EBADPEER: local remote */
static void test_peer_that_breaks_the_protocol(void **state) {
    for (int remote = 0; remote < 2; remote++)
        for (enum how how = SENDREC; how <= CALL; how++) {
            open_both(state);
            struct dvk *proxy = NULL; /* what all messages to other nodes go through */
            assert_int_equal(dvk_open_fd(fake_client(fake, true, NULL), &proxy), 0);
            assert_int_equal(broken(how, remote ? dvk_service_endpoint(2, 40) : other), -DVK_EBADPEER);
            dvk_close(proxy);
            close_both(state);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test_setup_teardown(test_unbind_without_memory, open_both, close_both),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_dvkd_that_reads_nothing),
        cmocka_unit_test_setup_teardown(test_guest_whose_slot_is_taken, open_both, close_both),
        cmocka_unit_test(test_peer_that_breaks_the_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
